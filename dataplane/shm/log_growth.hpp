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
};

}  // namespace thalweg::shm
