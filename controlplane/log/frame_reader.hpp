#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/log/coordination.hpp"
#include "controlplane/log/frame_format.hpp"
#include "controlplane/log/segment.hpp"

namespace thalweg::log {

struct FrameReaderOptions {
  FrameStream stream;
  bool is_uncommitted{false};  // frames that are accepted and not durable, too
};

// Frames in one piece, in the mapped segment. Valid until the reader's next call.
struct FrameBlock {
  std::uint64_t position{};
  std::uint64_t span{};                  // bytes of position
  std::span<const std::byte> frames;     // span bytes; of a padding frame, which is always alone, its header
  bool is_padding{};
  std::int64_t time_ns{};                // epoch, when the first of them was recorded, or what is before it in its page (4 KiB)
  [[nodiscard]] std::uint64_t end() const noexcept { return position + span; }
};

// Reads a frame log and follows it as it grows, in any process, without copies. Checks each page before it hands out frames of it. Changes nothing in
// the directory. One thread. Spec: archive-log 9, 13.
class FrameReader {
 public:
  // Stands at the lowest position. Errors: kNotFound (no such directory, or no segment in it), kInvalidArgument (records, another term length),
  // kVersion, kIo.
  [[nodiscard]] static Result<FrameReader> open(FileSystem& files, std::string directory, const FrameReaderOptions& options);

  // The next frames, at most `bytes_max` of them but one in any case, none beyond the end of their term; nullopt: there is no more for now. Errors: kNotFound
  // when retention deleted what comes next, naming the lowest position there is; kIo for damage, naming file and offset. Both stay until seek().
  [[nodiscard]] Result<std::optional<FrameBlock>> next(std::uint64_t bytes_max);
  // Goes to a position at which a frame begins, or to the end. Errors: kInvalidArgument, with what would be right; kIo.
  [[nodiscard]] Result<void> seek(std::uint64_t position);
  // Goes to the first frame recorded at this time or later, or before it by at most a page (4 KiB) and a frame; to the end when there is none. Errors: kIo.
  [[nodiscard]] Result<void> seek_time(std::int64_t timestamp_ns);
  [[nodiscard]] std::uint64_t position() const noexcept { return position_; }
  // Frames end here now.
  [[nodiscard]] std::uint64_t limit() const noexcept;
  [[nodiscard]] std::uint64_t first_position() const noexcept { return segments_.front().header.base_entry; }  // as far as it is known here

 private:
  FrameReader(FileSystem& files, std::string directory, const FrameReaderOptions& options) : files_{&files}, directory_{std::move(directory)}, options_{options} {}
  [[nodiscard]] Result<void> list();
  [[nodiscard]] Result<void> list_if_changed();
  [[nodiscard]] Result<void> enter(std::uint64_t position);
  [[nodiscard]] Result<void> check_pages(std::uint64_t from, std::uint64_t to);
  void fetch_page(std::uint64_t index) const noexcept;
  [[nodiscard]] bool is_unwritten(std::uint64_t offset) const noexcept;
  [[nodiscard]] tl::unexpected<Error> damaged(std::uint64_t offset, const char* what) const;

  FileSystem* files_;
  std::string directory_;
  FrameReaderOptions options_;
  std::optional<Coordination> coordination_;
  std::uint64_t change_count_{};
  std::vector<SegmentInfo> segments_;
  std::shared_ptr<Segment> segment_;  // where position_ lies; null: none yet
  FrameData data_;                    // of it
  std::uint64_t checked_to_{};        // pages below this one, from the place of entry on, were intact and full
  std::uint64_t position_{};
};

}  // namespace thalweg::log
