#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "controlplane/log/segment_format.hpp"

// Frame segments: what a segment of kind kFrames holds. Transport frames lie in the data as they were in the term, at their stream position: the
// segment with ordinal n holds positions n * segment_bytes to (n + 1) * segment_bytes, and no frame crosses a border of terms, so none crosses one
// of segments. Behind the data lies a table with one mark for each 4 KiB of it: checksum, extent and time; behind that two sync points. Spec:
// archive-log 16.1, 16.5; docs/reference/log-format.md.
namespace thalweg::log {

inline constexpr std::uint32_t kFrameAlignment = 32;
inline constexpr std::uint32_t kFrameHeaderBytes = 32;
inline constexpr std::uint64_t kMarkedBytes = 4096;    // of data under one mark; no more than what a disk writes at once
inline constexpr std::uint32_t kNoFrame = 0xFFFF;      // FrameMark::first_frame: none begins there

// What every frame of a stream has in common, and where it stands. Taken from the driver's answer or the catalog, never from a frame.
struct FrameStream {
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int32_t initial_term_id{};
  std::uint32_t term_bytes{};  // a power of two, 64 KiB to 1 GiB
  std::uint32_t mtu_bytes{};   // of the longest data frame, its header included
  [[nodiscard]] bool operator==(const FrameStream&) const = default;
};

// What is known of one page of the data. `word` is stored last, with release: a reader that sees an extent finds the bytes.
struct FrameMark {
  std::uint64_t word{};         // low half: CRC-32C of the page's frames; high half: offset in the page behind the last of them, 0 = nothing is there
  std::int64_t first_ns{};      // when the first byte of the page was recorded
  std::int64_t last_ns{};       // when the last one was
  std::uint32_t first_frame{};  // offset in the page of the first frame that begins in it, or kNoFrame
  std::uint32_t reserved{};
};
static_assert(sizeof(FrameMark) == 32);

[[nodiscard]] constexpr std::uint64_t pack_mark(std::uint32_t end, std::uint32_t crc) noexcept { return std::uint64_t{end} << 32U | crc; }
[[nodiscard]] constexpr std::uint32_t mark_end(std::uint64_t word) noexcept { return static_cast<std::uint32_t>(word >> 32U); }
[[nodiscard]] constexpr std::uint32_t mark_crc(std::uint64_t word) noexcept { return static_cast<std::uint32_t>(word); }
[[nodiscard]] std::uint64_t load_mark(const FrameMark& mark) noexcept;              // acquire
void store_mark(FrameMark& mark, std::uint64_t word) noexcept;                      // release
// The other fields, which readers may load while they change; the word that is stored behind them orders them.
template <typename T>
[[nodiscard]] T load_field(const T& field) noexcept {
  return std::atomic_ref{const_cast<T&>(field)}.load(std::memory_order_relaxed);  // NOLINT: an atomic_ref of const needs C++26
}
template <typename T>
void store_field(T& field, T value) noexcept {
  std::atomic_ref{field}.store(value, std::memory_order_relaxed);
}

// How far the data was when it was synced. Syncs write two of them in turn, in sectors of their own. After a power failure each is its old or its new
// self: the lower one's sync was certainly completed, the higher one's perhaps, and then its page is whole even if that page's mark is newer than
// its data.
struct SyncPoint {
  std::uint64_t sequence{};    // of the segment's syncs, from 1; 0: none
  std::uint64_t end{};         // offset in the data behind the last frame
  std::uint32_t page_crc{};    // CRC-32C of the frames of the page of the byte before `end`, up to it
  std::uint32_t crc{};         // CRC-32C of all before it
};
static_assert(sizeof(SyncPoint) == 24);
inline constexpr std::uint64_t kSyncPointStride = 512;  // bytes from the first to the second

// What is wrong with the bytes where a frame should be.
enum class FrameFault : std::uint8_t {
  kNone,
  kUnwritten,  // no length
  kLength,     // shorter than a header, longer than the MTU, or beyond its term
  kType,       // neither data nor padding
  kStream,     // another session's or stream's
  kPlace,      // its term id or term offset is that of another position
};
[[nodiscard]] const char* to_string(FrameFault fault) noexcept;

struct ParsedFrame {
  FrameFault fault{FrameFault::kNone};
  std::uint32_t length{};   // of the frame with its header
  std::uint32_t span{};     // to the next frame
  bool is_padding{};
  [[nodiscard]] bool is_valid() const noexcept { return fault == FrameFault::kNone; }
};
// Checks the frame header at the start of `bytes` (at least kFrameHeaderBytes) against the position it stands at. Trusts nothing.
[[nodiscard]] ParsedFrame parse_frame(std::span<const std::byte> bytes, std::uint64_t position, const FrameStream& stream) noexcept;

// Offset in the data of the first byte that may be used: not 0 in a first segment whose stream was joined in its middle.
[[nodiscard]] constexpr std::uint64_t first_offset(const SegmentHeader& header) noexcept { return header.base_entry - header.base_position; }
// Offset in the page of the first byte that is used.
[[nodiscard]] constexpr std::uint32_t page_begin(std::uint64_t page, std::uint64_t first) noexcept {
  const std::uint64_t begin = page * kMarkedBytes;
  return first <= begin ? 0 : first >= begin + kMarkedBytes ? static_cast<std::uint32_t>(kMarkedBytes) : static_cast<std::uint32_t>(first - begin);
}

// The data of a frame segment with its marks. A view.
struct FrameData {
  std::span<std::byte> data;
  std::span<FrameMark> marks;
  std::span<std::byte> sync_points;
  std::uint64_t base_position{};
  std::uint64_t first{};         // first_offset()

  [[nodiscard]] std::span<std::byte> page(std::uint64_t index) const noexcept { return data.subspan(index * kMarkedBytes, kMarkedBytes); }
  // Whether the page's bytes are those of its mark. Nothing is always right.
  [[nodiscard]] bool is_intact(std::uint64_t index) const noexcept;
  // Whether the page's bytes up to `end`, an offset in it, are those that were written: its mark says so, or a sync point does.
  [[nodiscard]] bool is_intact_up_to(std::uint64_t index, std::uint32_t end) const noexcept;
  // CRC-32C of the page's frames up to `end`, an offset in the page above page_begin().
  [[nodiscard]] std::uint32_t page_crc(std::uint64_t index, std::uint32_t end) const noexcept;
  // Both sync points, an absent or impossible one with a sequence of 0.
  [[nodiscard]] std::array<SyncPoint, 2> sync_point_pair() const noexcept;
  // Where data begins that may not have been synced: the lower one of two sync points, otherwise `first`.
  [[nodiscard]] std::uint64_t surely_synced() const noexcept;
  // Replaces the older sync point by one for `end`, which must be above `first`.
  void put_sync_point(std::uint64_t end) const noexcept;
  // Forgets those behind `end`.
  void drop_sync_points_behind(std::uint64_t end) const noexcept;
  // Offset of a frame that begins at or before `offset`, as near as the marks tell; nullopt: none does.
  [[nodiscard]] std::optional<std::uint64_t> frame_near(std::uint64_t offset) const noexcept;
};

// A place in a frame segment that does not hold what it should.
struct FrameDamage {
  std::uint64_t offset{};  // in the data
  std::uint64_t bytes{};   // to the next place that is known to be good, or to the end
  FrameFault fault{FrameFault::kNone};  // kNone: the checksum is wrong
};
// What walking the frames of data[from, end) found, up to the first damage.
struct FrameWalk {
  std::uint64_t end{};               // behind the last valid frame
  std::uint64_t data_frames{};
  std::uint64_t padding_frames{};
  std::uint64_t payload_bytes{};
  std::optional<FrameDamage> damage;
};
// Checks each frame and the checksums of all pages it touches. Precondition: `from` is a multiple of kFrameAlignment and `end` lies in the data.
[[nodiscard]] FrameWalk walk_frames(const FrameData& frames, std::uint64_t from, std::uint64_t end, const FrameStream& stream) noexcept;
// The sums of the frames of data[first, end), as far as headers are valid; `end_entry` is the position behind them. Checksums are not looked at.
[[nodiscard]] SegmentSummary summarize_frames(const FrameData& frames, std::uint64_t end, const FrameStream& stream) noexcept;

}  // namespace thalweg::log
