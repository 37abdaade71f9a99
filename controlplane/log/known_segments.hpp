#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "controlplane/log/coordination.hpp"
#include "controlplane/log/recovery.hpp"

// What writers that have a log for themselves do with the list of its segments, the active one last. Internal to controlplane/log.
namespace thalweg::log {

// Oldest segments on their way out: no part of the log any more, some of their files still there.
class Removals {
 public:
  struct Taken {
    std::size_t count{};
    std::uint64_t bytes{};
  };
  // Takes the oldest `count` out of the list; the active one stays.
  Taken take_oldest(std::vector<KnownSegment>& segments, std::size_t count);
  [[nodiscard]] bool is_empty() const noexcept { return segments_.empty(); }
  // The file that goes next. Precondition: not empty.
  [[nodiscard]] const std::string& next_path() const noexcept { return segments_.front().path; }
  // Removes the files, from the oldest on, so that a crash in between leaves no hole. What stays after an error is tried again with the next call.
  // Errors: kIo, kPermission.
  [[nodiscard]] Result<void> carry_out(FileSystem& files, const std::string& directory, Coordination& coordination);

 private:
  [[nodiscard]] Result<void> remove_files(FileSystem& files, const std::string& directory);

  std::vector<SegmentInfo> segments_;
};

// Writes the catalog. Those who want one that could not be saved must read all headers: no reason for anybody to stop. Errors: kNoSpace, kIo.
[[nodiscard]] Result<void> save_catalog(FileSystem& files, const std::string& directory, std::uint32_t log_id, const std::vector<KnownSegment>& segments);

}  // namespace thalweg::log
