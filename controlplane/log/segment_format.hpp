#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "controlplane/log/record.hpp"
#include "dataplane/base/result.hpp"

// The files of a shard's directory as bytes: segment header, seal, names. Spec: archive-log 2; docs/reference/log-format.md.
//
//   segment file:  | header, 4 KiB | seal, 4 KiB | data, segment_bytes (a power of two) | of frames: marks, segment_bytes / 128 | sync points, 4 KiB |
namespace thalweg::log {

inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr std::uint64_t kSealOffset = kPageBytes;       // in the file
inline constexpr std::uint64_t kDataOffset = 2 * kPageBytes;   // in the file
inline constexpr std::uint64_t kSegmentBytesMin = 64U << 10;
inline constexpr std::uint64_t kSegmentBytesMax = 1U << 30;

enum class SegmentKind : std::uint32_t { kRecords = 0, kFrames = 1 };

// First page of a segment, written before the file gets its name; never changed afterwards. All bytes that are no field are zero.
struct SegmentHeader {
  std::uint64_t magic{};           // kSegmentMagic
  std::uint32_t version{};
  SegmentKind kind{};
  std::uint64_t segment_bytes{};   // of data, a power of two
  std::uint64_t ordinal{};         // number of the segment in the shard, as in its name
  std::uint64_t base_position{};   // of its first data byte in the shard's log
  std::uint64_t base_entry{};      // number of its first entry
  std::int64_t base_timestamp_ns{};  // no entry in it is older
  std::int64_t created_ns{};
  std::uint64_t writer_id{};       // random number of the log instance that made it
  std::int64_t log_id{};           // shard number, or recording id
  std::array<std::byte, kPageBytes - 84> reserved{};
  std::uint32_t crc{};             // CRC-32C of all before it
};
static_assert(sizeof(SegmentHeader) == kPageBytes && offsetof(SegmentHeader, crc) == kPageBytes - 4);
inline constexpr std::uint64_t kSegmentMagic = 0x3130474553474C54U;  // "TLGSEG01" as bytes
// Length of the segment's file: header, seal, data and, of frames, the table of their marks and the page of sync points (frame_format.hpp).
inline constexpr std::uint64_t kBytesPerMarkByte = 128;
[[nodiscard]] constexpr std::uint64_t file_bytes(SegmentKind kind, std::uint64_t segment_bytes) noexcept {
  return kDataOffset + segment_bytes + (kind == SegmentKind::kFrames ? segment_bytes / kBytesPerMarkByte + kPageBytes : 0);
}
[[nodiscard]] constexpr std::uint64_t file_bytes(const SegmentHeader& header) noexcept { return file_bytes(header.kind, header.segment_bytes); }

// Streams of a segment as a Bloom filter: two of 4096 bits for each stream.
using StreamSet = std::array<std::uint64_t, 64>;
void add_stream(StreamSet& set, std::uint32_t stream) noexcept;
// false: the stream is certainly not in it.
[[nodiscard]] bool may_have_stream(const StreamSet& set, std::uint32_t stream) noexcept;

// What a segment holds, as it is known once it is closed.
struct SegmentSummary {
  std::uint64_t end_entry{};       // number behind its last entry
  std::uint64_t record_count{};    // records, pads left out
  std::uint64_t payload_bytes{};   // stored bytes of the records
  std::uint64_t end_offset{};      // in the data, behind the last record
  std::int64_t first_timestamp_ns{};
  std::int64_t last_timestamp_ns{};
  StreamSet streams{};
  std::uint64_t original_bytes{};  // of the records before compression
  std::uint32_t codecs{};          // bit n: there is a record of codec n
  std::uint32_t reserved{};
  [[nodiscard]] bool operator==(const SegmentSummary&) const = default;
};
// One record more; pads are none. `end_entry` and `end_offset` are the caller's.
void count_record(SegmentSummary& summary, const RecordHeader& header) noexcept;

// Second page: written when the segment is closed (the specification's trailer). Without one the segment was not closed cleanly.
struct SegmentSeal {
  std::uint64_t magic{};           // kSealMagic
  std::uint64_t ordinal{};
  std::uint32_t is_data_synced{};  // 1: all data was durable before this was written
  std::uint32_t reserved0{};
  std::int64_t closed_ns{};
  SegmentSummary summary;
  std::array<std::byte, kPageBytes - 32 - sizeof(SegmentSummary) - 4> reserved{};
  std::uint32_t crc{};             // CRC-32C of all before it
};
static_assert(sizeof(SegmentSeal) == kPageBytes && offsetof(SegmentSeal, crc) == kPageBytes - 4);
inline constexpr std::uint64_t kSealMagic = 0x31304C4145534C54U;  // "TLSEAL01" as bytes

using Page = std::array<std::byte, kPageBytes>;
// Bytes of a header, magic, version and checksum filled in.
[[nodiscard]] Page encode(SegmentHeader header) noexcept;
[[nodiscard]] Page encode(SegmentSeal seal) noexcept;
// Errors: kVersion when a newer version wrote it, kIo when it is damaged; the text says which field. `name` is for the text.
[[nodiscard]] Result<SegmentHeader> decode_header(std::span<const std::byte> page, std::string_view name);
// The base entry in the header of a segment that was made ahead: nothing is known of its entries yet. decode_header() refuses it.
inline constexpr std::uint64_t kBaseNotKnown = UINT64_MAX;
// Whether it is one, undamaged: its file was allocated, and nothing of it was ever synced after it was taken into use.
[[nodiscard]] bool is_made_ahead(std::span<const std::byte> page) noexcept;
// nullopt: there is none, or it is damaged; then the data is read.
[[nodiscard]] std::optional<SegmentSeal> decode_seal(std::span<const std::byte> page, std::uint64_t ordinal) noexcept;

// "segment-0000000012.tlg"; lexical order is log order.
[[nodiscard]] std::string segment_name(std::uint64_t ordinal);
// nullopt: no segment's name.
[[nodiscard]] std::optional<std::uint64_t> parse_segment_name(std::string_view name) noexcept;

}  // namespace thalweg::log
