#include "dataplane/proto/tether.hpp"

namespace thalweg::proto {

using shm::Tether;

TetherState next_tether(const shm::LinkSlot::Wanted& link, TetherState now_at, std::int64_t position, std::int64_t limit,
                        std::int64_t now_ns) noexcept {
  if (link.is_tethered != 0) return now_at;
  const std::int64_t elapsed_ns = now_ns - now_at.since_ns;
  switch (now_at.tether) {
    case Tether::kActive:
      if (position > limit && !planted(Bug::kTetherTimerRunsOn)) return {Tether::kActive, now_ns};
      return elapsed_ns > link.window_limit_timeout_ns ? TetherState{Tether::kLinger, now_ns} : now_at;
    case Tether::kLinger:
      if (elapsed_ns <= link.linger_timeout_ns) return now_at;
      return {link.is_rejoin != 0 ? Tether::kResting : Tether::kClosed, now_ns};
    case Tether::kResting:
      return elapsed_ns > link.resting_timeout_ns ? TetherState{Tether::kActive, now_ns} : now_at;
    default:
      return now_at;
  }
}

}  // namespace thalweg::proto
