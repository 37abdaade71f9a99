#pragma once
#include "controlplane/log/frame_log.hpp"

// What opening a frame log for writing does first. Internal to controlplane/log. Spec: archive-log 12.
namespace thalweg::log {

struct RecoveredFrames {
  std::vector<KnownSegment> segments;  // in the order of the log; empty: a new one
  std::shared_ptr<Segment> active;     // the newest, open for writing; null without segments
  std::uint64_t tail{};                // offset in it behind the last whole frame
  std::int64_t last_ns{};              // no frame is newer
  RecoveryReport report;
};

// Brings the directory into a state that can be appended to, and makes everything in it durable. Only for a process that is alone on it. Idempotent.
// Reads the data behind each segment's sync point, and nothing of segments whose seal says that they were synced. Lost entries of the report are
// bytes. Errors: kInvalidArgument when it is another stream's, kVersion, kIo, kNoSpace, kPermission.
[[nodiscard]] Result<RecoveredFrames> recover_frames(FileSystem& files, const Clock& clock, const std::string& directory, const FrameLogOptions& options,
                                                     std::uint64_t durable_position);

// Zeroes data, marks and sync points of a segment from `tail` on, and makes the mark of the last page that of what stays: a wrong one, if that was
// damaged before. Returns how many bytes of content there were from `tail` on. The file is not synced. Errors: kIo.
[[nodiscard]] Result<std::uint64_t> cut_frames(Segment& segment, std::uint64_t tail);

}  // namespace thalweg::log
