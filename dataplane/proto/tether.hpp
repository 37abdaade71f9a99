#pragma once
#include "dataplane/base/planted.hpp"
#include "dataplane/shm/registry.hpp"

// Untethered subscriptions (wire-protocol 3.14): who does not keep up with a stream is let go after a while, so that nobody waits for them
// any more, and may come back later. Pure: positions and `now` in, the next state out; the lane acts on it.
namespace thalweg::proto {

// A subscriber at or below this position holds the stream up: less than a quarter of the window lies behind it. `head` is the fastest
// position: of an image's subscribers, of the sender for spies, of the consumer for IPC.
[[nodiscard]] constexpr std::int64_t tether_limit(std::int64_t head, std::int64_t window) noexcept { return head - window + window / 4; }

// Does a subscriber in this state count for flow control?
[[nodiscard]] inline bool is_counted(shm::Tether tether) noexcept {
  return tether == shm::Tether::kActive || tether == shm::Tether::kLinger || (planted(Bug::kRestingStillCounts) && tether == shm::Tether::kResting);
}

// Where a subscriber stands, and since when (monotonic): in ACTIVE, when it was last seen to keep up.
struct TetherState {
  shm::Tether tether{shm::Tether::kActive};
  std::int64_t since_ns{};
  friend constexpr bool operator==(const TetherState&, const TetherState&) = default;
};

// The next state of a subscriber at `position` of an ACTIVE stream whose tether limit is `limit`; at most one transition. RESTING to ACTIVE:
// the caller has to choose a join position first. `position` is what a client wrote: it is compared and nothing else.
[[nodiscard]] TetherState next_tether(const shm::LinkSlot::Wanted& link, TetherState now_at, std::int64_t position, std::int64_t limit,
                                      std::int64_t now_ns) noexcept;

}  // namespace thalweg::proto
