#include "dataplane/core/lane.hpp"

#include <rte_ring.h>
#include <sched.h>

#include "dataplane/core/crossing.hpp"
#include "dataplane/core/idle.hpp"

namespace thalweg::core {

Lane::Lane(const Options& options, LaneShared& shared)
    : options_{options},
      shared_{shared},
      registry_{*shared.registry},
      slot_{shared.registry->lanes[options.index]},
      tables_{*shared.tables},
      counters_{slot_.counters.data()},
      interest_generations_(shm::kInterestsMax),
      doorman_{shared.registry->header, slot_} {
  contexts_.resize(shm::kPortsMax);
  endpoint_of_slot_.resize(shm::kEndpointsMax);
  receive_endpoints_.reserve(shm::kEndpointsMax);
  owned_publications_.reserve(shm::kPublicationsMax);
  owned_images_.reserve(shm::kImagesMax);
  for (const shm::SetupSlot& setup : slot_.setups) setups_open_ += setup.state.load(std::memory_order_relaxed) != shm::SetupState::kFree ? 1 : 0;
}

Lane::~Lane() { drop_frames(); }

void Lane::add_port(const LanePort::Options& options, bool is_home, bool is_polled) {
  LanePort::Options own = options;
  own.received_from = options.port;
  if (!is_home) {
    rte_ring* const ring = shared_.crossings[options_.index][shared_.lane_of_port[options.index]];
    crossing_ports_.push_back(std::make_unique<CrossingPort>(*options.port, static_cast<std::uint16_t>(options.index), *ring));
    own.port = crossing_ports_.back().get();
  }
  // Kernel sockets hear each other's multicast, and the lane that owns a port loops what crosses to it.
  if (!is_home) own.datagram_pool = nullptr;   // fragments go to the lane that speaks for the port
  own.loop = is_home && !shared_.frame_rules[options.index].is_kernel ? &looped_ : nullptr;
  contexts_[options.index] = std::make_unique<LanePort>(own, frames_of(options.pool), counters_);
  staged_.push_back(contexts_[options.index].get());
  if (is_home || is_polled) polled_.push_back(contexts_[options.index].get());
}

FramePool& Lane::frames_of(rte_mempool* pool) {
  for (const auto& frames : frames_) {
    if (frames->pool() == pool) return *frames;
  }
  frames_.push_back(std::make_unique<FramePool>(pool));
  return *frames_.back();
}

unsigned Lane::turn(std::int64_t now_ns) noexcept {
  elapsed_ns_ = std::max<std::int64_t>(now_ns - last_turn_ns_, 0);
  last_turn_ns_ = now_ns;
  is_blocked_ = false;
  unsigned work = inbox_.is_empty() ? 0 : take_messages(now_ns);
  for (LanePort* context : polled_) work += receive(*context, now_ns);
  if (!shared_.crossings.empty()) work += receive_crossed(now_ns);
  if (!looped_.is_empty()) work += receive_looped(now_ns);
  work += serve_images(now_ns);
  work += serve_publications(now_ns);
  turn_away();
  work += flush();
  if (now_ns - last_housekeep_ns_ >= kHousekeepInterval_ns) housekeep(now_ns);
  return work;
}

unsigned Lane::flush() noexcept {
  unsigned sent = 0;
  for (LanePort* context : staged_) {
    if (context->stage().count() != 0) sent += context->stage().flush();
  }
  return sent;
}

void Lane::housekeep(std::int64_t now_ns) noexcept {
  const std::uint64_t begin = TscClock::read_tsc();
  for (LanePort* context : polled_) context->tick(now_ns);
  if (now_ns - last_dispatcher_tick_ns_ >= kSecond_ns / 10) {
    for (Endpoint* endpoint : receive_endpoints_) {
      if (endpoint->parent == nullptr) endpoint->dispatcher->tick(now_ns);
      register_at_control(*endpoint, now_ns);
    }
    last_dispatcher_tick_ns_ = now_ns;
  }
  tick_streams(now_ns);
  turn_away();
  last_housekeep_ns_ = now_ns;
  slot_.heartbeat_ns.store(now_ns, std::memory_order_release);
  duty_.housekeeping += TscClock::read_tsc() - begin;
}

// Every stream once per timer interval, spread over it.
void Lane::tick_streams(std::int64_t now_ns) noexcept {
  const auto streams = static_cast<std::uint32_t>(owned_publications_.size() + owned_images_.size());
  if (last_tick_ns_ == 0 || streams == 0) {
    last_tick_ns_ = now_ns;
    return;
  }
  const auto interval = static_cast<std::uint64_t>(options_.timer_interval_ns);
  tick_credit_ += static_cast<std::uint64_t>(now_ns - last_tick_ns_) * streams;
  last_tick_ns_ = now_ns;
  if (tick_credit_ < interval) return;
  const std::uint64_t due = tick_credit_ / interval;
  tick_credit_ -= due * interval;
  for (std::uint64_t n = std::min<std::uint64_t>(due, streams); n > 0; --n) {
    const std::size_t publications = owned_publications_.size();
    if (tick_cursor_ >= publications + owned_images_.size()) tick_cursor_ = 0;
    const std::uint32_t at = tick_cursor_++;
    if (at < publications) {
      tick(*owned_publications_[at], now_ns);
    } else if (at - publications < owned_images_.size()) {
      tick(*owned_images_[at - publications], now_ns);
    }
  }
}

void Lane::publish_duty(std::int64_t now_ns) noexcept {
  static_cast<void>(now_ns);
  slot_.ticks_idle.store(duty_.idle, std::memory_order_relaxed);
  slot_.ticks_busy.store(duty_.busy, std::memory_order_relaxed);
  slot_.ticks_blocked.store(duty_.blocked, std::memory_order_relaxed);
  slot_.ticks_housekeeping.store(duty_.housekeeping, std::memory_order_relaxed);
  slot_.turns.store(duty_.turns, std::memory_order_relaxed);
  slot_.turn_ns_max.store(duty_.turn_ns_max, std::memory_order_relaxed);
}

void Lane::run(const TscClock& clock, IdleStrategy idle, std::int64_t idle_sleep_ns, const std::atomic<bool>& stop) noexcept {
  Idler idler{idle, idle_sleep_ns};
  doorman_.watch(shared_.commands);
  TscClock::Calibration calibration = clock.calibration();
  std::uint32_t version = clock.version();
  epoch_offset_ns_ = calibration.epoch_offset_ns;
  std::uint64_t then = TscClock::read_tsc();
  std::int64_t now_ns = calibration.to_ns(then);
  std::int64_t published_ns = now_ns;
  while (!stop.load(std::memory_order_relaxed)) {  // written by the steward once
    const std::uint64_t housekeeping = duty_.housekeeping;
    const unsigned work = turn(now_ns);
    idler.idle(work != 0, [this, now_ns](std::int64_t park_ns) noexcept { give_way(park_ns, now_ns); });
    const std::uint64_t now = TscClock::read_tsc();  // one clock read per turn, passed down
    const std::uint64_t ticks = now - then - (duty_.housekeeping - housekeeping);
    (work != 0 ? duty_.busy : is_blocked_ ? duty_.blocked : duty_.idle) += ticks;
    ++duty_.turns;
    const std::int64_t next_ns = std::max(calibration.to_ns(now), now_ns);
    if (work != 0) duty_.turn_ns_max = std::max(duty_.turn_ns_max, static_cast<std::uint64_t>(next_ns - now_ns));
    then = now;
    now_ns = next_ns;
    if (now_ns - published_ns < kMillisecond_ns) continue;
    published_ns = now_ns;
    publish_duty(now_ns);
    if (clock.version() != version) {
      calibration = clock.calibration();
      epoch_offset_ns_ = calibration.epoch_offset_ns;
      version = clock.version();
    }
  }
  flush();
  drop_frames();
  publish_duty(now_ns);
}

// The one place outside the ports' bursts where a lane makes system calls, and only when the operator chose to share its core.
void Lane::give_way(std::int64_t park_ns, std::int64_t now_ns) noexcept {
  doorman_.look(now_ns);
  if (park_ns == 0) {
    ::sched_yield();
  } else {
    bell_.park(park_ns, [this] { return has_messages(); });
  }
}

void Lane::drop_frames() noexcept {
  for (const auto& context : contexts_) {
    if (!context) continue;
    context->host().discard_all();
    context->stage().discard();
    if (Reassembly* const reassembly = context->reassembly()) reassembly->discard_all();
  }
  looped_.discard();
  for (const auto& frames : frames_) frames->give_back();
  for (std::size_t from = 0; from < shared_.crossings.size(); ++from) {
    rte_ring* const ring = shared_.crossings[from][options_.index];
    void* frame = nullptr;
    while (ring != nullptr && rte_ring_sc_dequeue(ring, &frame) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(frame));
  }
}

}  // namespace thalweg::core
