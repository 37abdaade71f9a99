#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/host/log_files.hpp"
#include "controlplane/host/slot_table.hpp"
#include "controlplane/host/worker.hpp"

namespace thalweg::host {

enum class LogStatus : std::uint8_t { kCreating, kReady, kFailed, kClosing };

struct LogRequest {
  shm::LogUse use{};
  std::int64_t id{};          // registration id of the publication or correlation id of the image
  std::int64_t first_position{};  // of the stream
  shm::LogMetadata metadata;  // term_length says which size
};

// All log buffers of an instance. Sizes of the pool are kept ready: created, zeroed, announced to the steward and mapped there; such a log
// is given out by a rename at once. Any other size is created on the worker thread. Thread: the conductor, which never waits in here.
// Spec: design section 3, client-protocol 6.5 and 7.1; life of a log slot: docs/develop/registry.md.
class LogStore {
 public:
  struct PoolSize {
    std::int32_t term_length{};
    std::uint32_t count{};
  };
  struct Options {
    std::string directory;
    std::string hugetlbfs;                     // directory on a hugetlbfs mount; "" = none
    std::vector<PoolSize> pool;
    std::uint64_t low_storage_warning_bytes{};
    std::uint64_t image_limit_bytes{UINT64_MAX};  // what the logs of all images may take: peers ask for them
  };
  LogStore(Options options, shm::RegistryFile& registry, Bells& bells, Worker& worker);

  // Whether the limit on images leaves room for one more with this term length.
  [[nodiscard]] bool has_room_for_image(std::int32_t term_length) const noexcept;
  [[nodiscard]] std::uint64_t image_limit_bytes() const noexcept { return options_.image_limit_bytes; }
  // Starts providing a log; the slot is returned at once and status() tells when it may be used. nullopt: the table is full.
  [[nodiscard]] std::optional<std::uint32_t> acquire(const LogRequest& request);
  [[nodiscard]] LogStatus status(std::uint32_t slot) const noexcept { return table_.record(slot).status; }
  [[nodiscard]] const Error& error(std::uint32_t slot) const noexcept { return table_.record(slot).error; }
  // The data plane has it too.
  [[nodiscard]] bool is_mapped(std::uint32_t slot) const noexcept { return observed_state(table_.slot(slot)) == shm::Observed::kActive; }
  // Path for clients. Precondition: kReady.
  [[nodiscard]] const std::string& path(std::uint32_t slot) const noexcept { return table_.record(slot).file.path; }
  // For the metadata page only. Precondition: kReady.
  [[nodiscard]] shm::LogBuffer buffer(std::uint32_t slot) const noexcept { return table_.record(slot).file.buffer(); }
  // One more stream uses it: release() is called once more.
  void share(std::uint32_t slot) noexcept { ++table_.record(slot).shares; }
  // The stream is over: unmapped by the steward, then deleted.
  void release(std::uint32_t slot);

  // The steward answered.
  void service(std::uint32_t slot);
  // Fills the pool up. Each duty cycle is not too often: it only looks at a few numbers. Not while somebody waits for an answer: making a log
  // takes the worker longer than all the rest of a command.
  void refill();
  // Takes over the logs in the registry after a restart; those that `wanted` does not name go. May block.
  void recover(const std::vector<std::uint32_t>& wanted);
  [[nodiscard]] const std::vector<std::uint32_t>& used() const noexcept { return table_.used(); }
  [[nodiscard]] std::uint64_t bytes_mapped() const noexcept { return bytes_mapped_; }
  [[nodiscard]] std::int64_t failed_deletions() const noexcept { return failed_deletions_; }
  // Latest low-storage warning not yet taken; nullopt: none.
  [[nodiscard]] std::optional<std::string> take_warning();

 private:
  struct Record {
    LogStatus status{LogStatus::kCreating};
    bool is_abandoned{};        // released while it was being created
    bool is_file_gone{};        // deleted already; what has its name now is another log's
    std::uint32_t shares{};     // users beside the first
    LogFile file;
    Error error;
    bool is_short_of_memory{};  // a sparse one cannot grow, and that was told
    std::uint64_t image_bytes{};  // counted against the limit on images
  };
  using Table = SlotTable<shm::LogSlot, shm::kLogsMax, Record>;

  struct Pool {
    PoolSize size;
    std::uint32_t have{};       // ready or being made
    std::uint32_t making{};
  };

  std::optional<std::uint32_t> take_from_pool(const LogRequest& request);
  void charge_image(std::uint32_t slot, std::int32_t term_length);
  void free_slot(std::uint32_t slot);
  [[nodiscard]] Pool* pool_of(std::int32_t term_length) noexcept;
  void count_pooled(std::int32_t term_length, int change) noexcept;
  void fail_pooled(std::uint32_t slot, const Error& error);
  struct Making;
  void create(std::uint32_t slot, LogFileSpec spec);
  void go_on_making(const std::shared_ptr<Making>& making);
  void on_created(std::uint32_t slot, shm::LogUse use, std::int64_t id, Result<LogFile> created);
  void destroy(std::uint32_t slot);
  void give_name_back(std::uint32_t slot);
  void delete_strays();
  void check_storage();

  Options options_;
  Bells* bells_;
  Worker* worker_;
  Table table_;
  std::vector<Pool> pools_;
  std::vector<std::uint32_t> ready_;  // pool logs that are mapped and wait for a stream
  std::int64_t next_pool_id_{1};
  std::uint64_t bytes_mapped_{0};
  std::uint64_t image_bytes_{0};
  std::int64_t failed_deletions_{0};
  bool is_pool_failing_{false};      // a pool log could not be made: not tried again before a log is released
  bool has_told_of_pool_{false};     // and told once, until one can be made again
  std::optional<std::string> warning_;
};

}  // namespace thalweg::host
