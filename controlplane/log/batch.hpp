#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "controlplane/log/compression.hpp"
#include "controlplane/log/statistics.hpp"

namespace thalweg::log {

// One message to append. The spans are read during the call only.
struct Entry {
  std::span<const std::byte> payload;
  std::span<const std::byte> key{};          // at most 65,535 bytes, stored in front of the payload, never compressed
  std::uint32_t stream{0};                   // 0 = unspecified
  std::int32_t type{0};
  std::optional<std::int64_t> timestamp_ns;  // since 1970 UTC; none: the log's clock. Raised to that of the entry before when it is older
};

// A payload as it goes into the segment.
struct StoredPayload {
  std::span<const std::byte> bytes;
  Codec codec{Codec::kNone};
};

// Entries and, where compression made them smaller, their payloads. A view: without compression it costs nothing.
class StoredBatch {
 public:
  explicit StoredBatch(std::span<const Entry> entries, std::span<const StoredPayload> payloads = {}) noexcept : entries_{entries}, payloads_{payloads} {}
  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
  [[nodiscard]] bool is_compressed() const noexcept { return !payloads_.empty(); }  // some of it, at least
  [[nodiscard]] const Entry& entry(std::size_t i) const noexcept { return entries_[i]; }
  [[nodiscard]] StoredPayload payload(std::size_t i) const noexcept { return payloads_.empty() ? StoredPayload{entries_[i].payload} : payloads_[i]; }
  [[nodiscard]] std::uint32_t stored_bytes(std::size_t i) const noexcept { return static_cast<std::uint32_t>(entries_[i].key.size() + payload(i).bytes.size()); }
  // The header of a record, all but length and checksum, which put_record() computes.
  [[nodiscard]] RecordHeader header(std::size_t i, std::uint64_t entry, std::int64_t timestamp_ns, bool is_first, bool is_last) const noexcept {
    const Entry& from = entries_[i];
    const StoredPayload stored = payload(i);
    unsigned flags = from.key.empty() ? 0U : record_flag::kHasKey;
    if (is_first) flags |= record_flag::kBeginBatch;
    if (is_last) flags |= record_flag::kEndBatch;
    return {.length = static_cast<std::int32_t>(stored_bytes(i)), .entry = entry, .timestamp_ns = timestamp_ns, .stream = from.stream, .type = from.type,
            .original_length = static_cast<std::uint32_t>(from.key.size() + from.payload.size()), .codec = static_cast<std::uint8_t>(stored.codec),
            .flags = static_cast<std::uint8_t>(flags), .key_length = static_cast<std::uint16_t>(from.key.size())};
  }
  [[nodiscard]] StoredBatch part(std::size_t from, std::size_t count) const noexcept {
    return StoredBatch{entries_.subspan(from, count), payloads_.empty() ? payloads_ : payloads_.subspan(from, count)};
  }

 private:
  std::span<const Entry> entries_;
  std::span<const StoredPayload> payloads_;
};

inline constexpr std::size_t kKeyMax = 65'535;            // bytes: its length has 16 bits in a record
inline constexpr std::uint64_t kTooLarge = UINT64_MAX;

// Bytes that the entries take in a segment as they are; kTooLarge when one is larger than `entry_bytes_max` or has too long a key.
[[nodiscard]] inline std::uint64_t measure_or_too_large(std::span<const Entry> entries, std::uint32_t entry_bytes_max) noexcept {
  std::uint64_t sum = 0;
  bool is_any_too_large = false;
  for (const Entry& entry : entries) {
    const std::size_t bytes = entry.key.size() + entry.payload.size();
    is_any_too_large |= bytes > entry_bytes_max || entry.key.size() > kKeyMax;
    sum += record_span(bytes);
  }
  return is_any_too_large ? kTooLarge : sum;
}
// The same, and which one and why. Errors: kInvalidArgument.
[[nodiscard]] Result<std::uint64_t> measure(std::span<const Entry> entries, std::uint32_t entry_bytes_max);
// The same of what was compressed.
[[nodiscard]] std::uint64_t measure(const StoredBatch& batch) noexcept;

// Compresses what is worth it, into memory of the calling thread: the result is valid until the thread's next call. Counts into `statistics`.
[[nodiscard]] StoredBatch compress_batch(std::span<const Entry> entries, const CompressionOptions& options, Statistics& statistics);

}  // namespace thalweg::log
