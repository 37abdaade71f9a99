#pragma once
#include <functional>
#include <string>

#include "dataplane/base/result.hpp"
#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/registry.hpp"

namespace thalweg::host {

// Exclusive ownership of an instance directory: flock on `<dir>/instance.lock`, held as long as this object lives.
class DirectoryLock {
 public:
  // Creates the directory (mode 0700, or 02750 with the group) and takes the lock. Errors: kInUse when another control plane owns it or when
  // it holds files that are no instance's, kPermission when it belongs to another user or is shared by all.
  [[nodiscard]] static Result<DirectoryLock> take(const std::string& directory, const std::string& group);
  DirectoryLock(DirectoryLock&& other) noexcept;
  DirectoryLock& operator=(DirectoryLock&& other) noexcept;
  ~DirectoryLock();

 private:
  explicit DirectoryLock(int fd) noexcept : fd_{fd} {}
  int fd_{-1};
};

// A run is what one supervisor (`thalweg up`, systemd, a shell) does with an instance; its processes have the same mark however often they are started
// again, those of a supervisor that is started later have another one.
inline constexpr std::uint32_t kAnyRun = 1;  // of programs that did not say: no other run than that of whoever asks
// The mark of the run that this process belongs to: made of its parent's process id and start. Neither 0 nor kAnyRun.
[[nodiscard]] std::uint32_t run_of_this_process();

struct InstanceOptions {
  std::string directory;
  std::uint32_t run{kAnyRun};         // an end that another run accepted and did not see through is its own: this one begins anew
  std::string group;                  // "" = nobody but the owner
  shm::CncLayout cnc;
  std::uint64_t loss_report_bytes{1U << 20};
  std::uint64_t pool_bytes{0};        // what the log pool will take beside these files
  std::int64_t driver_timeout_ms{10'000};
  bool delete_on_start{false};        // never attach; what still runs is refused all the same
};

// The files of an instance, created or taken over from a predecessor that died while its data plane (or its clients) live on.
// Spec: client-protocol 1.2 to 1.4, design section 1. Blocks; start-up only.
struct InstanceFiles {
  DirectoryLock lock;
  shm::CncFile cnc;
  shm::RegistryFile registry;
  shm::MappedFile loss_report;
  bool is_attached{};                 // true: taken over, nothing was recreated
  std::uint32_t run{kAnyRun};         // what is_termination_accepted becomes when this process accepts an end
  std::string saved_error_log;        // file the previous error log was saved to; "" = it was empty

  // Errors: kInUse (lock held, a live stock driver, a data plane of a stopped instance still running), kNoSpace, kPermission, kVersion.
  [[nodiscard]] static Result<InstanceFiles> open(const InstanceOptions& options, std::int64_t now_ms, std::int64_t now_ns);
};

// Removes the instance's files below `directory`, logs on huge pages included, and nobody else's; the lock file and the directory itself too when `is_whole`.
[[nodiscard]] Result<void> remove_instance_tree(const std::string& directory, bool is_whole);

}  // namespace thalweg::host
