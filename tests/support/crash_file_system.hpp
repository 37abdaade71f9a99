#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/log/file_system.hpp"
#include "dataplane/base/random.hpp"

namespace thalweg::test {

// A file system in memory that knows which bytes and names were synced, and can lose the rest. Mappings are the page cache: stores into them are
// seen by everybody at once and are durable when their file was synced. One thread.
class CrashFileSystem final : public log::FileSystem {
 public:
  struct Inode;
  struct NameChange {
    std::string name;                // path
    std::shared_ptr<Inode> inode;    // null: the name goes
  };

  explicit CrashFileSystem(std::uint64_t file_bytes_max = 1U << 20) : file_bytes_max_{file_bytes_max} {}

  // The machine stops at the step with this number (the first one is 1): that step does nothing or half of its work, every later call fails.
  void stop_at(std::uint64_t step) noexcept { stop_at_ = step; }
  // This step, and no other, fails with `code`.
  void fail_at(std::uint64_t step, ErrorCode code) noexcept { fail_at_ = step, fail_code_ = code; }
  [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }  // so far: calls that change something
  [[nodiscard]] bool has_stopped() const noexcept { return has_stopped_; }
  void set_space(std::uint64_t bytes) noexcept { space_bytes_ = bytes; }

  // Power returns. Of what was not synced each sector of 512 bytes is the old or the new one, and of the changes of names in each directory the
  // first few happened; all by chance. Everything opened before is dead.
  void lose_power(Random& random);
  // Every process dies; what they stored stays.
  void kill_all();

  // For planting damage and comparing.
  [[nodiscard]] bool exists(const std::string& path) const { return names_.contains(path); }
  [[nodiscard]] std::vector<std::byte> content(const std::string& path) const;
  void set_content(const std::string& path, std::span<const std::byte> bytes);
  [[nodiscard]] std::vector<std::string> paths() const;

  Result<std::unique_ptr<log::File>> open(const std::string& path, log::OpenMode mode) override;
  Result<void> create_directory(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  Result<void> rename(const std::string& from, const std::string& to) override;
  Result<void> remove(const std::string& path) override;
  Result<void> sync_directory(const std::string& path) override;
  Result<void> sync_all(std::span<log::File* const> files) override;
  Result<Space> space(const std::string& path) override;
  std::uint64_t boot_id() const noexcept override { return boots_; }

 private:
  friend class CrashFile;
  // Counts a step. An error: it must not be done, or only in part when `has_stopped_` has just become true.
  [[nodiscard]] Result<void> step(const std::string& what);
  [[nodiscard]] Result<void> check_alive(std::uint64_t generation) const;
  void change_name(const std::string& path, std::shared_ptr<Inode> inode);

  std::uint64_t file_bytes_max_;
  std::map<std::string, std::shared_ptr<Inode>> names_;
  std::map<std::string, std::shared_ptr<Inode>> durable_names_;
  std::map<std::string, std::vector<NameChange>> pending_;  // by directory, oldest first
  std::vector<std::weak_ptr<Inode>> inodes_;
  std::uint64_t steps_{0};
  std::uint64_t stop_at_{0};
  std::uint64_t fail_at_{0};
  ErrorCode fail_code_{ErrorCode::kIo};
  bool has_stopped_{false};
  std::uint64_t generation_{1};
  std::uint64_t boots_{1};
  std::uint64_t space_bytes_{UINT64_MAX};
};

}  // namespace thalweg::test
