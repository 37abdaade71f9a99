#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dataplane/base/result.hpp"

// Messages between an archive and its clients, over streams. What each holds: docs/reference/archive-control.md. Internal to libthalweg and the archive.
namespace thalweg::client::archive_protocol {

inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::size_t kMessageBytesMax = 64U << 10;

enum class Kind : std::uint32_t {
  kConnect = 1,
  kListRecordings = 2,
  kFindRecording = 3,
  kRecordingPosition = 4,
  kStartRecording = 5,
  kStopStream = 6,
  kStopRecording = 7,
  kTruncate = 8,
  kPurge = 9,
  kStartReplay = 10,
  kStopReplay = 11,
  kReplicate = 12,
  kStopReplication = 13,
  kListReplications = 14,
  kChecksum = 15,
  kOk = 100,
  kError = 101,
  kRecording = 102,
  kReplication = 103,
  kEvent = 104,
};

// Any of them: numbers and texts in an order that belongs to the kind. Later versions add at the ends.
struct Message {
  Kind kind{};
  std::int64_t correlation_id{};
  std::vector<std::int64_t> numbers;
  std::vector<std::string> texts;
  [[nodiscard]] std::int64_t number(std::size_t index, std::int64_t otherwise = 0) const noexcept { return index < numbers.size() ? numbers[index] : otherwise; }
  [[nodiscard]] std::string text(std::size_t index) const { return index < texts.size() ? texts[index] : std::string{}; }
};

[[nodiscard]] std::vector<std::byte> encode(const Message& message);
// Errors: kIo (cut off, longer than kMessageBytesMax, impossible counts), kVersion.
[[nodiscard]] Result<Message> decode(std::span<const std::byte> bytes);

}  // namespace thalweg::client::archive_protocol
