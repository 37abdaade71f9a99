#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "controlplane/log/frame_format.hpp"
#include "dataplane/base/result.hpp"

namespace thalweg::archive {

// A recording's frames are in the directory of its number: frames/0000000012.
inline constexpr const char* kFramesDirectory = "frames";
inline constexpr const char* kCatalogDirectory = "catalog";

enum class RecordingState : std::uint8_t { kValid = 0, kInvalid = 1, kDeleted = 2 };

// What is known of one recording without its frames. Spec: archive-log 16.2; docs/reference/log-format.md.
struct Recording {
  std::int64_t id{};
  RecordingState state{RecordingState::kValid};
  std::int64_t start_ns{};                      // epoch
  std::optional<std::int64_t> stop_ns;          // absent while it is written
  std::uint64_t start_position{};               // as it began; retention moves the first position that is there
  std::optional<std::uint64_t> stop_position;   // absent while it is written, and after a crash until it is opened again
  log::FrameStream stream;
  std::uint64_t segment_bytes{};
  std::string name;                             // of the declaration in the configuration; "" = none
  std::string channel;                          // stripped to what names the stream
  std::string original_channel;
  std::string source_identity;                  // as the image has it: "10.0.0.1:40123", or "aeron:ipc"
  [[nodiscard]] bool is_active() const noexcept { return !stop_position.has_value(); }
  [[nodiscard]] bool operator==(const Recording&) const = default;
};

// "frames/0000000012".
[[nodiscard]] std::string frames_path(const std::string& archive_directory, std::int64_t id);

// The bytes of a descriptor in the catalog.
[[nodiscard]] std::vector<std::byte> encode(const Recording& recording);
// Errors: kVersion, kIo naming what is wrong.
[[nodiscard]] Result<Recording> decode_recording(std::span<const std::byte> bytes);

// The channel without what is of no importance for its stream: of UDP endpoint, control, control-mode and interface stay, of IPC nothing; the spy
// prefix stays. As it is when it cannot be parsed.
[[nodiscard]] std::string stripped_channel(const std::string& channel);

}  // namespace thalweg::archive
