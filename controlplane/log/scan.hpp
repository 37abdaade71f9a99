#pragma once
#include <cstdint>
#include <optional>
#include <span>

#include "controlplane/log/segment_format.hpp"

// Walking the data of a segment that may be damaged. Pure: bytes in, decisions out. Spec: archive-log 12.3, 12.4.
namespace thalweg::log {

// Where the next record of a segment should be and what it may be.
struct ScanPoint {
  std::uint64_t offset{};       // in the data, a multiple of 8
  std::uint64_t entry{};        // number it must have
  std::int64_t timestamp_ns{};  // it is not older
};

// Parses the record at `point` and checks its number and time. Valid: `point` is moved behind it. Otherwise `point` stays.
[[nodiscard]] ParsedRecord next_record(std::span<const std::byte> data, ScanPoint& point) noexcept;

// The first place behind a broken record where a valid one that belongs to this segment stands: its number is higher than or equal to point's
// by no more than fit in between. Looks at every 8th byte. `budget`: bytes it may still compute checksums over, reduced by what it used; when it
// does not suffice (is_exhausted) it gives up, so that hostile bytes cost no more than that.
struct Resync {
  std::optional<ScanPoint> found;
  bool is_exhausted{};
};
[[nodiscard]] Resync find_next_record(std::span<const std::byte> data, const ScanPoint& point, std::uint64_t& budget) noexcept;
// What a whole segment's damage may cost.
[[nodiscard]] constexpr std::uint64_t resync_budget(std::uint64_t segment_bytes) noexcept { return 4 * segment_bytes; }

// How the data of a segment ends.
enum class TailKind : std::uint8_t {
  kClean,    // full, or nothing but zeros behind the last record
  kTorn,     // something behind the last record that no valid record follows: never acknowledged as durable, or alone at the end
  kCorrupt,  // damage with valid records behind it: kept, and reported to readers
};

// Result of reading a segment to its end.
struct Scan {
  TailKind tail{TailKind::kClean};
  ScanPoint end;                    // behind the last valid record: where an append goes on
  SegmentSummary summary;           // of the records from the start of the scan on
  std::uint64_t torn_bytes{};       // from `end` to the last byte that is not zero
  std::uint32_t corrupt_ranges{};
  std::uint64_t lost_entries{};     // numbers inside corrupt ranges
  RecordFault fault{RecordFault::kNone};  // of the first broken record
};

// Reads from `from` to the end. `content_end`: everything behind it in `data` is known to be zeros. `durable_entry`: from this number on
// nothing was acknowledged as durable; a batch there whose first record never got its word was never shown to anybody and is a torn tail.
[[nodiscard]] Scan scan_segment(std::span<const std::byte> data, const ScanPoint& from, std::uint64_t content_end,
                                std::uint64_t durable_entry = UINT64_MAX) noexcept;

// The offset behind the last byte >= `from` of data[0, end) that is not zero; `from` when there is none.
[[nodiscard]] std::uint64_t end_of_content(std::span<const std::byte> data, std::uint64_t from, std::uint64_t end) noexcept;

}  // namespace thalweg::log
