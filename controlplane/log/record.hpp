#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dataplane/base/bytes.hpp"

// Records: what an entry is in a segment. Little-endian, on 8-byte boundaries. Spec: archive-log 1.2; docs/reference/log-format.md.
namespace thalweg::log {

inline constexpr std::uint32_t kRecordAlignment = 8;
inline constexpr std::uint32_t kRecordHeaderBytes = 40;
inline constexpr std::uint32_t kPayloadMaxHard = 128U << 20;  // bytes, the most any configuration allows (archive-log 1.2)

enum class Codec : std::uint8_t { kNone = 0, kLz4 = 1, kZstd = 2 };

namespace record_flag {
inline constexpr std::uint8_t kBeginBatch = 1U << 0;
inline constexpr std::uint8_t kEndBatch = 1U << 1;
inline constexpr std::uint8_t kTombstone = 1U << 2;
inline constexpr std::uint8_t kHasKey = 1U << 3;
inline constexpr std::uint8_t kSalt = 1U << 7;  // means nothing: only there so that the crc is not 0
inline constexpr std::uint8_t kKnown = kBeginBatch | kEndBatch | kTombstone | kHasKey | kSalt;
}  // namespace record_flag

// The first bytes of every record. `length` >= 0: a record of that many stored bytes (key and payload). `length` < 0: a pad; the next record
// starts -length bytes after this header's first byte. `original_length` of a pad says how many entry numbers it stands for: 0 at the end of a
// segment, the numbers of a dead writer's reservation where it fills that hole.
// `length` and `crc` are one 64-bit word, stored last: 0 is "nothing here yet". A negative length with a crc of 0 is a reservation at work. No
// finished record has a crc of 0: a writer whose crc comes out as 0 sets kSalt.
struct RecordHeader {
  std::int32_t length{};
  std::uint32_t crc{};             // CRC-32C from `entry` to the last stored byte; of a pad over the header only
  std::uint64_t entry{};           // number in the shard, dense from 0
  std::int64_t timestamp_ns{};     // since 1970 UTC, never smaller than that of the record before
  std::uint32_t stream{};          // 0: unspecified
  std::int32_t type{};             // the user's
  std::uint32_t original_length{}; // stored bytes before compression, the key included
  std::uint8_t codec{};
  std::uint8_t flags{};
  std::uint16_t key_length{};      // bytes of the key, never compressed, in front of the payload
};
static_assert(sizeof(RecordHeader) == kRecordHeaderBytes && alignof(RecordHeader) == 8);

[[nodiscard]] constexpr bool is_pad(const RecordHeader& header) noexcept { return header.length < 0; }
// Bytes from the start of a record to the start of the next one.
[[nodiscard]] constexpr std::uint64_t record_span(std::uint64_t stored) noexcept {
  return align_up<std::uint64_t>(kRecordHeaderBytes + stored, kRecordAlignment);
}

// A record as a reader sees it. Valid as long as the memory it was found in.
struct RecordView {
  RecordHeader header;
  std::span<const std::byte> key;
  std::span<const std::byte> payload;  // as stored: compressed when header.codec says so; Reader undoes that
  std::uint64_t position{};            // of its header in the shard's log, bytes
  [[nodiscard]] std::uint64_t entry() const noexcept { return header.entry; }
};

// What is wrong with the bytes where a record should be.
enum class RecordFault : std::uint8_t {
  kNone,
  kUnwritten,   // nothing yet, or a reservation at work
  kBounds,      // reaches beyond the data of the segment
  kFields,      // a value that no writer stores
  kChecksum,
  kSequence,    // not the expected entry number: a stale block, or something is missing before it
  kTime,        // older than the record before
  kCodec,       // it checks, and cannot be decompressed
};
[[nodiscard]] const char* to_string(RecordFault fault) noexcept;

// Result of looking at one place.
struct ParsedRecord {
  RecordFault fault{RecordFault::kNone};
  RecordHeader header;
  std::uint64_t bytes{};  // to the next record; 0 with a fault, but for a reservation at work
  [[nodiscard]] bool is_valid() const noexcept { return fault == RecordFault::kNone; }
};

// Checks the record at data[offset..]: bounds, fields, checksum; not its number and time, which need the one before. Trusts nothing.
// Precondition: offset is a multiple of 8. Any thread; a writer may be at work behind it (the length is loaded with acquire).
[[nodiscard]] ParsedRecord parse_record(std::span<const std::byte> data, std::uint64_t offset) noexcept;
// The parts of a record that parse_record() accepted.
[[nodiscard]] RecordView view_of(std::span<const std::byte> data, std::uint64_t offset, const RecordHeader& header, std::uint64_t base_position) noexcept;

// The word that makes a written record visible.
using RecordWord = std::uint64_t;
// Writes all of a record at `at` but its first word. Preconditions: 8-byte aligned, zeroed, record_span() bytes long; header.key_length ==
// key.size(). header.length and header.crc are computed here. Returns the word for publish_record().
[[nodiscard]] RecordWord put_record(std::byte* at, const RecordHeader& header, std::span<const std::byte> key, std::span<const std::byte> payload) noexcept;
// The same for a pad of `bytes` bytes (>= kRecordHeaderBytes, a multiple of 8) that stands for `entries` numbers from `entry` on.
[[nodiscard]] RecordWord put_pad(std::byte* at, std::uint32_t bytes, std::uint64_t entry, std::uint32_t entries, std::int64_t timestamp_ns) noexcept;
// Stores the word with release semantics: pairs with the acquire in parse_record().
inline void publish_record(std::byte* at, RecordWord word) noexcept { std::atomic_ref{*reinterpret_cast<RecordWord*>(at)}.store(word, std::memory_order_release); }

}  // namespace thalweg::log
