#pragma once
#include <atomic>
#include <cstdint>

#include "dataplane/base/planted.hpp"
#include "dataplane/wire/frames.hpp"

// Walks frames of a term for sending: datagram formation (wire-protocol 1.15) and the distrust of shared memory (design, section 2)
// in one pass over the headers. Thread: owning lane.
namespace thalweg::proto {

// First eight bytes of a frame: length, version, flags, type. Acquire pairs with the committing release store of the publisher or of
// Image::insert(); the publisher's store covers the low half only, after everything else.
[[nodiscard]] inline std::uint64_t frame_word_acquire(std::byte* frame) noexcept {
  return std::atomic_ref<std::uint64_t>{*reinterpret_cast<std::uint64_t*>(frame)}.load(std::memory_order_acquire);
}
inline void frame_word_release(std::byte* frame, std::uint64_t word) noexcept {
  std::atomic_ref<std::uint64_t>{*reinterpret_cast<std::uint64_t*>(frame)}.store(word, std::memory_order_release);
}

inline constexpr std::uint64_t kForeignBits = 0xFFFE00FF'00000000;  // must be 0 in the first word: version 0, type PAD or DATA
[[nodiscard]] constexpr std::int32_t length_of_word(std::uint64_t word) noexcept { return static_cast<std::int32_t>(word); }
[[nodiscard]] constexpr bool is_pad_word(std::uint64_t word) noexcept { return word >> 48 == 0; }
[[nodiscard]] constexpr std::uint64_t word_pair(std::int32_t low, std::int32_t high) noexcept {
  return static_cast<std::uint32_t>(low) | static_cast<std::uint64_t>(static_cast<std::uint32_t>(high)) << 32;
}

// Of the frames behind an accepted DATA frame at `from`, those that differ from it in nothing but their offset, up to `end`: most datagrams
// of small messages are such a row. Knowing the length beforehand, the processor need not wait for one header to find the next. Returns the
// offset behind the row, seen from `base`. `load_word` reads a frame's first word: as a log wants it, or from a datagram, which lies anywhere.
template <typename Byte, typename LoadWord>
[[nodiscard]] inline std::int32_t end_of_row(Byte* base, std::int32_t from, std::int32_t end, LoadWord load_word) noexcept {
  const std::uint64_t word = load_word(base + from);
  const std::int32_t aligned = wire::align_frame(length_of_word(word));
  std::uint64_t offset_and_session = load_le<std::uint64_t>(base + from + 8);
  const auto stream_and_term = load_le<std::uint64_t>(base + from + 16);
  std::int32_t at = from + aligned;
  while (at <= end - aligned) {
    offset_and_session += static_cast<std::uint32_t>(aligned);
    Byte* const frame = base + at;
    const bool is_alike = load_word(frame) == word && load_le<std::uint64_t>(frame + 8) == offset_and_session &&
                          load_le<std::uint64_t>(frame + 16) == stream_and_term;
    if (!is_alike) break;
    at += aligned;
  }
  return at;
}

// What every frame of one stream must carry; from the registry, never from the log.
struct FrameRules {
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int32_t mtu{};
  std::int32_t term_length{};
};

struct DatagramScan {
  std::int32_t bytes{};        // to send
  std::int32_t skipped{};      // of a PAD behind its header: position advances, nothing is sent
  bool is_too_large{};         // the first frame is there but does not fit the limit
  bool is_corrupt{};           // a frame of somebody else, or none at all: nothing of this datagram may be sent
};

// Takes committed frames from `offset` on while they fit `limit` (window or MTU) and the term.
// Preconditions: offset a multiple of 32 inside the term; limit <= rules.mtu.
[[nodiscard]] inline DatagramScan scan_datagram(std::byte* term, std::int32_t offset, std::int32_t term_id, std::int32_t limit,
                                                const FrameRules& rules) noexcept {
  DatagramScan scan;
  const std::int32_t term_left = rules.term_length - offset;
  const std::int32_t end = limit < term_left ? limit : term_left;
  const std::uint64_t stream_and_term = word_pair(rules.stream_id, term_id);
  while (scan.bytes < end) {
    std::byte* frame = term + offset + scan.bytes;
    const std::uint64_t word = frame_word_acquire(frame);
    const std::int32_t length = length_of_word(word);
    if (length <= 0) return scan;  // not committed yet
    const bool is_foreign = (word & kForeignBits) != 0 || length < wire::kDataHeaderLength || length > term_left - scan.bytes ||
                            load_le<std::uint64_t>(frame + 8) != word_pair(offset + scan.bytes, rules.session_id) ||
                            load_le<std::uint64_t>(frame + 16) != stream_and_term;
    if (is_foreign) [[unlikely]] return DatagramScan{.is_corrupt = true};
    const std::int32_t aligned = wire::align_frame(length);
    const std::int32_t wanted = is_pad_word(word) ? wire::kDataHeaderLength : aligned;
    if (scan.bytes + wanted > end) {
      if (wanted > rules.mtu) return DatagramScan{.is_corrupt = true};
      scan.is_too_large = scan.bytes == 0;
      return scan;
    }
    if (!is_pad_word(word)) {
      scan.bytes = end_of_row(term + offset, scan.bytes, end, [](std::byte* at) { return frame_word_acquire(at); });
      continue;
    }
    scan.bytes += wanted;
    scan.skipped = planted(Bug::kPaddingNotSkipped) ? 0 : aligned - wanted;
    if (scan.skipped != 0) return scan;
  }
  return scan;
}

}  // namespace thalweg::proto
