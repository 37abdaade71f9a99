#pragma once
#include <algorithm>
#include <cstdint>

#include "dataplane/core/options.hpp"

namespace thalweg::core {

// What a lane does with a turn that found no work. The system calls of yield, sleep and backoff are the operator's choice to share a core;
// noop and busy-spin make none. Thread: the lane.
class Idler {
 public:
  Idler(IdleStrategy strategy, std::int64_t sleep_ns) noexcept : strategy_{strategy}, park_ns_max_{sleep_ns} {}

  // Spins by itself. Where a system call is due it calls `rest(park_ns)`: 0 = yield, else park for that long.
  template <typename Rest>
  void idle(bool has_worked, Rest&& rest) noexcept {
    if (has_worked) {
      rounds_ = 0;
      park_ns_ = kParkFirst_ns;
      return;
    }
    switch (strategy_) {
      case IdleStrategy::kNoop: return;
      case IdleStrategy::kBusySpin: __builtin_ia32_pause(); return;
      case IdleStrategy::kYield: rest(0); return;
      case IdleStrategy::kSleep: rest(park_ns_max_); return;
      case IdleStrategy::kBackoff: back_off(rest); return;
    }
  }

 private:
  static constexpr unsigned kSpins = 20;          // about 1 us: as long as a peer's answer may take on a patch cable
  static constexpr unsigned kYields = 10;
  static constexpr std::int64_t kParkFirst_ns = 1'000;

  template <typename Rest>
  void back_off(Rest&& rest) noexcept {
    ++rounds_;
    if (rounds_ <= kSpins) {
      __builtin_ia32_pause();
    } else if (rounds_ <= kSpins + kYields) {
      rest(0);
    } else {
      rest(park_ns_);
      park_ns_ = std::min(2 * park_ns_, park_ns_max_);
    }
  }

  IdleStrategy strategy_;
  unsigned rounds_{};
  std::int64_t park_ns_{kParkFirst_ns};
  std::int64_t park_ns_max_;
};

}  // namespace thalweg::core
