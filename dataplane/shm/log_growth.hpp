#pragma once
#include <atomic>
#include <cstdint>
#include <limits>

namespace thalweg::shm {

// A sparse log gets its memory a partition at a time: first the one that its stream starts in, the next when the stream comes near its end
// (design, section 3). Nothing behind `end` is touched before it is there, but for the first word, which has its page: readers look at it.
struct LogGrowth {
  static constexpr std::int64_t kAll = std::numeric_limits<std::int64_t>::max();
  std::atomic<std::int64_t> end{kAll};         // position up to which there is memory; written by the steward, with release
  std::atomic<std::uint8_t> is_wanted{};       // set by the lane, taken by the steward: the next partition, please

  // The position beyond which a limit makes the lane ask, and look at `end` before it goes on: an eighth of a term before the limit gets to
  // `end`, as the window is half of one at most. In 64 bits, because three of the longest terms are more than 32 hold.
  [[nodiscard]] static constexpr std::int64_t threshold(std::int64_t end, std::int64_t term_length) noexcept {
    return end == kAll ? kAll : end - term_length * 3 / 8;
  }
};

}  // namespace thalweg::shm
