// Limits, cleaning and the life cycle of a publication (wire-protocol 2.7 to 2.9; client-protocol 7.6, 7.8, 8.2, 8.3).
#include "dataplane/proto/flow_control.hpp"
#include "dataplane/proto/publication.hpp"
#include "dataplane/proto/tether.hpp"

namespace thalweg::proto {

using shm::LaneCounter;
using shm::Lifecycle;
using shm::PublicationFlags;
using shm::PublicationState;

namespace {

constexpr std::int64_t kAlignMask = ~std::int64_t{wire::kFrameAlignment - 1};

// A position that clients wrote, made harmless.
[[nodiscard]] std::int64_t clamp_position(std::int64_t position, std::int64_t lowest, std::int64_t highest) noexcept {
  return std::clamp(position, lowest, std::max(lowest, highest)) & kAlignMask;
}

}  // namespace

// What was rebuilt ends with a frame. Of an image's log the last two terms and more are there, so one may wait to be sent, and what was sent
// can be sent again. Who joins later joins at the sender position: without receivers it may move on by itself.
void Publication::follow(std::int64_t rebuilt) noexcept {
  PublicationState& s = *c_.state;
  if (rebuilt <= s.producer_position) return;
  s.producer_position = rebuilt;
  if (rebuilt - s.sender_position <= term_length_ || s.lifecycle != Lifecycle::kActive) return;
  if (!s.is_connected) {
    s.start_position = s.sender_position = rebuilt;
    set_sender_limit(std::max(s.sender_limit, rebuilt));
    if (c_.snd_pos) c_.snd_pos.set(rebuilt);
    return;
  }
  if (!has_flag(PublicationFlags::kDropsWhenSlow)) return;
  if (end_of_skip(s.sender_position) != 0) {  // not there yet, and what it would go on with may be gone meanwhile
    s.skipped[0].end = rebuilt;
    return;
  }
  std::copy_backward(s.skipped, s.skipped + shm::kSkippedMax - 1, s.skipped + shm::kSkippedMax);
  s.skipped[0] = {s.sender_position, rebuilt};
  c_.counters.add(LaneCounter::kRelaySkips);
}

void Publication::promise(std::int64_t now_ns) noexcept {
  const bool has_one = promised_ != kNoPromise;
  if (has_one && now_ns - promised_since_ns_ <= kRelayPromise_ns) return;
  promised_before_ = has_one ? promised_ : c_.state->sender_position;
  promised_ = c_.state->sender_position;
  promised_since_ns_ = now_ns;
}

// A receiver began where a SETUP said, and the relay had nobody and has gone on with its image since. Nothing else brings the two together
// before that image times out: the receiver gets padding up to where the relay is.
void Publication::keep_promise(std::int64_t position) noexcept {
  PublicationState& s = *c_.state;
  s.skipped[1] = {};
  s.skipped[0] = {position, s.sender_position};
  s.start_position = s.sender_position = position;
  set_sender_limit(position);
  if (c_.snd_pos) c_.snd_pos.set(position);
  c_.counters.add(LaneCounter::kRelaySkips);
}

// What producers claimed. The raw tails are client memory: the position never goes back and never runs further ahead of the consumer
// than producers can (window of half a term, and what concurrent claims may overshoot it by).
std::int64_t Publication::sample_producer_position() noexcept {
  PublicationState& s = *c_.state;
  if (is_relay()) return s.producer_position;
  const std::int64_t consumer = is_ipc() ? s.clean_position : s.sender_position;
  const std::int64_t sampled = shm::producer_position(c_.log, initial_term_id_);
  const std::int64_t position = clamp_position(sampled, std::max(s.producer_position, s.sender_position), consumer + 2 * std::int64_t{term_length_});
  if (position != s.producer_position) {
    s.producer_position = position;
    if (c_.pub_pos) c_.pub_pos.set(position);
  }
  return position;
}

void Publication::set_connected(bool is_connected) noexcept {
  PublicationState& s = *c_.state;
  if ((s.is_connected != 0) == is_connected) return;
  s.is_connected = is_connected ? 1 : 0;
  promised_ = promised_before_ = kNoPromise;   // who was to come is here, or has gone with the others
  if (!is_relay()) c_.log.store<std::int32_t>(shm::meta::kIsConnected, is_connected ? 1 : 0);
}

// 2.7, last items.
void Publication::refresh_connection(std::uint32_t spy_count) noexcept {
  const PublicationState& s = *c_.state;
  spy_count_ = spy_count;
  const bool has_receivers = s.receiver_count > 0 && flow::has_required_receivers(*c_.desired, s);
  const bool has_spies = has_flag(PublicationFlags::kSpiesSimulateConnection) && spy_count > 0;
  set_connected(!s.is_revoked && (has_receivers || has_spies));
}

void Publication::set_publisher_limit(std::int64_t limit) noexcept {
  if (limit == c_.state->publisher_limit) return;
  c_.state->publisher_limit = limit;
  if (c_.pub_lmt) c_.pub_lmt.set(limit);
}

// A limit at the end of a partition keeps producers within it: a claim that does not fit pads the term, and the next one finds no room.
std::int64_t Publication::limit_near_end(std::int64_t limit) noexcept {
  const std::int64_t end = c_.growth->end.load(std::memory_order_acquire);  // pairs with Steward::grow()
  growth_threshold_ = shm::LogGrowth::threshold(end, term_length_);
  if (end == shm::LogGrowth::kAll) return limit;
  if (limit > growth_threshold_) c_.growth->is_wanted.store(1, std::memory_order_relaxed);
  return std::min(limit, end);
}

// Zeroes [clean, target), at most kCleanBytesPerTurn and to the end of the partition. True: there is more.
bool Publication::clean_towards(std::int64_t target) noexcept {
  PublicationState& s = *c_.state;
  if (target - s.clean_position < kCleanQuantum) return false;
  const std::int64_t term_end = (s.clean_position | (term_length_ - 1)) + 1;
  const std::int64_t to = std::min({target, term_end, s.clean_position + kCleanBytesPerTurn});
  shm::clean_log(c_.log, s.clean_position, to);
  s.clean_position = to;
  return target - to >= kCleanQuantum;
}

bool Publication::update_limit(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept {
  static_cast<void>(now_ns);
  if (c_.state->lifecycle != Lifecycle::kActive || c_.state->is_revoked) return false;
  return is_ipc() ? update_limit_ipc(subscribers) : update_limit_network(subscribers);
}

// Below it nobody asks for anything again: neither a NAK nor a spy. A full term is kept for receivers that nobody knows of yet; a unicast
// stream has none, and where its one receiver is through the memory is cleaned while the caches still have it.
std::int64_t Publication::oldest_needed(std::int64_t consumer, std::uint32_t spies) const noexcept {
  const std::int64_t a_term_back = consumer - (planted(Bug::kCleanTooEarly) ? term_length_ / 8 : term_length_);
  if (spies != 0 || has_flag(PublicationFlags::kGroup)) return a_term_back;
  return std::max(a_term_back, std::min(acknowledged_, consumer));
}

// The memory of a position is free for the producer once the clean position has come within three terms of it. The limit stays within
// clean position + term + window (+ one quantum): half a term and more remains for the overshoot of concurrent claims (7.5).
bool Publication::update_limit_network(const SubscriberPositions& subscribers) noexcept {
  PublicationState& s = *c_.state;
  const std::int64_t producer_before = s.producer_position;
  const std::int64_t producer = sample_producer_position();
  if (spy_count_ != subscribers.count) refresh_connection(subscribers.count);
  if (is_relay()) return false;   // the log is its image's
  const bool is_led_by_spies = s.receiver_count == 0 && subscribers.count > 0 && has_flag(PublicationFlags::kSpiesSimulateConnection);
  if (is_led_by_spies) {  // 5.7: nobody listens on the wire, the fastest spy moves the stream
    const std::int64_t position = clamp_position(subscribers.max, s.sender_position, producer);
    if (position != s.sender_position) {
      s.sender_position = position;
      set_sender_limit(std::max(s.sender_limit, position));
      if (c_.snd_pos) c_.snd_pos.set(position);
    }
  }
  if (!s.is_connected) {
    if (s.publisher_limit > s.sender_position) set_publisher_limit(s.sender_position);
    return producer != producer_before;
  }
  std::int64_t consumer = s.sender_position;
  if (subscribers.count > 0) {  // a spy may run ahead of the sender, but then it does not hold anything up
    consumer = clamp_position(subscribers.min, std::max<std::int64_t>(0, s.sender_position - term_length_), s.sender_position);
  }
  const bool has_more = clean_towards(oldest_needed(consumer, subscribers.count));
  std::int64_t limit = std::min(consumer + window_, s.clean_position + term_length_ + window_ + kCleanQuantum);
  if (planted(Bug::kLimitBeforeCleaning)) limit = consumer + 2 * std::int64_t{term_length_};
  limit = limit_to_memory(limit);
  if (limit > s.publisher_limit) set_publisher_limit(limit);
  return has_more || producer != producer_before;
}

bool Publication::update_limit_ipc(const SubscriberPositions& subscribers) noexcept {
  PublicationState& s = *c_.state;
  const std::int64_t producer_before = s.producer_position;
  const std::int64_t producer = sample_producer_position();
  set_connected(subscribers.count > 0);
  bool has_more = false;
  if (subscribers.count > 0) {
    const std::int64_t least = clamp_position(subscribers.min, s.clean_position, producer);
    s.consumer_position = std::max(s.consumer_position, clamp_position(subscribers.max, least, producer));
    has_more = clean_towards(least);
    const std::int64_t limit = limit_to_memory(std::min(least + window_, s.clean_position + term_length_ + window_));
    if (limit > s.trip_limit) {
      set_publisher_limit(limit);
      s.trip_limit = limit + window_ / 8;
    }
  } else {
    has_more = clean_towards(s.consumer_position);
    if (s.publisher_limit > s.consumer_position) {
      set_publisher_limit(s.consumer_position);
      s.trip_limit = s.consumer_position;
    }
  }
  return has_more || producer != producer_before;
}

std::int64_t Publication::tether_limit() const noexcept {
  return proto::tether_limit(is_ipc() ? c_.state->consumer_position : c_.state->sender_position, window_);
}

// ---- life cycle ----

bool Publication::tick(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept {
  const Lifecycle before = c_.state->lifecycle;
  if (before == Lifecycle::kNone || before == Lifecycle::kDone) return false;
  if (is_ipc()) {
    tick_ipc(subscribers, now_ns);
  } else {
    tick_network(subscribers, now_ns);
  }
  c_.state->last_tick_ns = now_ns;
  return c_.state->lifecycle != before;
}

void Publication::enter(Lifecycle lifecycle, std::int64_t now_ns) noexcept {
  c_.state->lifecycle = lifecycle;
  c_.state->lifecycle_since_ns = now_ns;
}

void Publication::close_log_at(std::int64_t position) noexcept {
  if (is_relay()) return;
  set_publisher_limit(position);
  c_.log.store<std::int64_t>(shm::meta::kEndOfStreamPosition, position);
}

void Publication::revoke(std::int64_t now_ns) noexcept {
  PublicationState& s = *c_.state;
  s.is_revoked = s.is_end_of_stream = 1;
  if (!is_relay()) c_.log.store<std::uint8_t>(shm::meta::kIsPublicationRevoked, 1);
  close_log_at(sample_producer_position());
  set_connected(false);
  enter(Lifecycle::kLinger, now_ns);
}

void Publication::begin_draining(std::int64_t now_ns) noexcept {
  PublicationState& s = *c_.state;
  const std::int64_t producer = sample_producer_position();
  close_log_at(producer);
  if (!is_ipc() && s.sender_position >= producer) s.is_end_of_stream = 1;
  enter(Lifecycle::kDraining, now_ns);
}

void Publication::tick_network(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept {
  PublicationState& s = *c_.state;
  const bool is_released = c_.desired->state.load(std::memory_order_acquire) == shm::Desired::kClosing;
  switch (s.lifecycle) {
    case Lifecycle::kActive:
      if (is_revoked()) return revoke(now_ns);
      if (is_released) return begin_draining(now_ns);
      refresh_connection(subscribers.count);
      sample_producer_position();
      return check_blocked(s.sender_position, now_ns);
    case Lifecycle::kDraining:
      return is_revoked() ? revoke(now_ns) : tick_draining(subscribers, now_ns);
    case Lifecycle::kLinger: {
      // A corrupt log's owner may keep its reference for ever; the stream ends nevertheless.
      if (!is_released && !s.is_corrupt) return;
      const std::int64_t elapsed_ns = now_ns - s.lifecycle_since_ns;
      const bool is_cut_short = s.has_seen_unicast_eos && elapsed_ns >= kLingerMin_ns;
      if (is_cut_short || elapsed_ns > c_.desired->linger_ns) enter(Lifecycle::kDone, now_ns);
      return;
    }
    default:
      return;
  }
}

void Publication::tick_draining(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept {
  PublicationState& s = *c_.state;
  const std::int64_t producer = s.producer_position;  // fixed since the last reference went
  if (producer > s.sender_position) {
    if (!is_relay()) unblock(s.sender_position, false);
    if (s.receiver_count > 0) return;
  } else {
    s.is_end_of_stream = 1;
  }
  if (subscribers.count > 0 && subscribers.min < producer) return;
  set_connected(false);
  enter(Lifecycle::kLinger, now_ns);
}

void Publication::tick_ipc(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept {
  PublicationState& s = *c_.state;
  const bool is_released = c_.desired->state.load(std::memory_order_acquire) == shm::Desired::kClosing;
  switch (s.lifecycle) {
    case Lifecycle::kActive:
      if (is_revoked()) return revoke(now_ns);
      if (is_released) return begin_draining(now_ns);
      set_connected(subscribers.count > 0);
      sample_producer_position();
      return check_blocked(s.consumer_position, now_ns);
    case Lifecycle::kDraining: {
      if (is_revoked()) return revoke(now_ns);
      const std::int64_t least = subscribers.count > 0 ? subscribers.min : s.producer_position;
      if (least < s.producer_position) return unblock(clamp_position(least, s.clean_position, s.producer_position), false);
      set_connected(false);
      return enter(Lifecycle::kLinger, now_ns);
    }
    case Lifecycle::kLinger:
      if (is_released) enter(Lifecycle::kDone, now_ns);
      return;
    default:
      return;
  }
}

// 7.8. Possibly blocked: claimed space behind the consumer, or a rotation that nobody finished.
void Publication::check_blocked(std::int64_t consumer_position, std::int64_t now_ns) noexcept {
  PublicationState& s = *c_.state;
  if (has_flag(PublicationFlags::kExclusive) || is_relay()) return;
  if (consumer_position != s.blocked_position) {
    s.blocked_position = consumer_position;
    s.blocked_since_ns = now_ns;
    return;
  }
  const bool is_suspect = s.producer_position > consumer_position ||
                          c_.log.active_term_count() != wire::term_count_of(consumer_position, bits_);
  if (!is_suspect) {
    s.blocked_since_ns = now_ns;
  } else if (now_ns > s.blocked_since_ns + c_.desired->unblock_timeout_ns) {
    unblock(consumer_position, true);
    s.blocked_since_ns = now_ns;
  }
}

void Publication::unblock(std::int64_t position, bool has_producers) noexcept {
  if (shm::unblock_log(c_.log, position, initial_term_id_, has_producers)) c_.counters.add(LaneCounter::kUnblockedPublications);
}

}  // namespace thalweg::proto
