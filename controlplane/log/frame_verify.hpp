#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/log/frame_format.hpp"
#include "controlplane/log/segment.hpp"

namespace thalweg::log {

// One fault of a frame log.
struct FrameFinding {
  std::string path;
  std::uint64_t offset{};  // in the file
  std::string what;
};

struct FrameExpectation {
  std::int64_t log_id{};
  FrameStream stream;
  std::uint64_t segment_bytes{};
  std::optional<std::uint64_t> start_position;  // as somebody else remembers them; not looked at when absent
  std::optional<std::uint64_t> stop_position;
};

struct FrameVerification {
  std::vector<FrameFinding> findings;  // in the order of the log; empty: everything is as it should be
  std::uint64_t segments{};
  std::uint64_t bytes{};               // that were read
  std::uint64_t data_frames{};
  std::uint64_t padding_frames{};
  std::uint64_t payload_bytes{};
  std::uint64_t start_position{};
  std::uint64_t stop_position{};       // behind the last whole frame
};

// Reads all of a frame log: headers, seals, marks, checksums, frames, what stands behind the last one, and the way from segment to segment. Changes
// nothing; damage does not stop it. A log that is being written is read up to where it is. `on_progress`: bytes read so far, and in all; may be empty.
// Errors: kNotFound (no such directory), kVersion, kIo.
[[nodiscard]] Result<FrameVerification> verify_frame_log(FileSystem& files, const std::string& directory, const FrameExpectation& expected,
                                                         const std::function<void(std::uint64_t, std::uint64_t)>& on_progress = {});

}  // namespace thalweg::log
