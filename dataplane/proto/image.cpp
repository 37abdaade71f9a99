#include "dataplane/proto/image.hpp"

#include <cmath>

#include "dataplane/base/assert.hpp"
#include "dataplane/proto/tether.hpp"

namespace thalweg::proto {

using shm::ImageFlags;
using shm::ImageState;
using shm::LaneCounter;
using shm::Lifecycle;

Image::Image(const Context& context) noexcept
    : c_{context},
      session_id_{context.desired->session_id},
      stream_id_{context.desired->stream_id},
      initial_term_id_{context.desired->initial_term_id},
      term_length_{context.desired->term_length},
      flags_{context.desired->flags},
      bits_{wire::position_bits(context.desired->term_length)},
      window_{std::min(context.desired->window_length, context.desired->term_length / 2)},
      longest_claim_{wire::longest_claim(context.desired->term_length, context.desired->mtu)},
      is_fast_{(flags_ & (ImageFlags::kNakAllGaps | ImageFlags::kReliable | ImageFlags::kGroup)) == (ImageFlags::kNakAllGaps | ImageFlags::kReliable)} {
  THALWEG_ASSERT(c_.log.is_mapped() && c_.log.term_length() == term_length_);
  growth_threshold_ = c_.growth == nullptr ? shm::LogGrowth::kAll : 0;
  is_controlled_ = c_.desired->congestion_control != shm::CongestionControl::kStatic;
  is_rtt_measured_ = has_flag(ImageFlags::kMeasureRtt) || c_.desired->congestion_control == shm::CongestionControl::kAimd ||
                     (c_.desired->congestion_control == shm::CongestionControl::kCubic && c_.desired->is_rtt_measured);
}

void Image::start(std::int64_t now_ns) noexcept { start(now_ns, {c_.desired->source_address, c_.desired->source_port}); }

void Image::start(std::int64_t now_ns, const wire::UdpEndpoint& control) noexcept {
  ImageState& s = *c_.state;
  s = ImageState{};
  const std::int64_t position = c_.desired->join_position;
  s.join_position = s.high_water = s.rebuild_position = s.tracked_until = position;
  s.last_sm_position = s.next_sm_position = s.announced = position;
  set_overrun_threshold(position);
  congestion::start(*c_.desired, s, window_, now_ns);
  s.next_sm_window = static_cast<std::int32_t>(s.congestion.window);
  s.sm_deadline_ns = now_ns - 1;
  s.last_packet_ns = now_ns;
  s.lifecycle = Lifecycle::kActive;
  s.lifecycle_since_ns = now_ns;
  s.end_of_stream_position = std::numeric_limits<std::int64_t>::max();
  restart_rtt(now_ns);
  // Receivers of one group must not draw the same back-offs.
  s.random_state = (static_cast<std::uint64_t>(c_.receiver_id) * 0x9E3779B97F4A7C15U ^ static_cast<std::uint64_t>(now_ns)) | 1U;
  on_setup(0, control, now_ns);
  if (c_.rcv_hwm) c_.rcv_hwm.set(position);
  if (c_.rcv_pos) c_.rcv_pos.set(position);
}

void Image::resume(std::int64_t now_ns) noexcept {
  ImageState& s = *c_.state;
  const std::int64_t length = s.insert_end - s.insert_begin;
  const bool is_half_copied = length > 0 && length <= wire::kMtuMax && s.insert_begin >= 0 &&
                              wire::term_offset_of(s.insert_begin, bits_) + length <= term_length_;
  if (is_half_copied && !planted(Bug::kHalfCopyKept)) std::memset(c_.log.at(s.insert_begin), 0, static_cast<std::size_t>(length));
  s.insert_begin = s.insert_end = 0;
  GapList{s, c_.log}.rebuild();
  s.last_packet_ns = now_ns;
  s.sm_deadline_ns = now_ns - 1;
  restart_rtt(now_ns);
  s.congestion.last_update_ns = now_ns;
  for (shm::ConnectionState& c : s.connections) c.last_activity_ns = c.last_frame_ns = now_ns;
  count_transports(now_ns);
}

void Image::on_rtt_reply(const wire::RttMeasurement& rtt, std::int64_t now_ns) noexcept {
  ImageState& s = *c_.state;
  if (rtt.is_request || (rtt.receiver_id != 0 && rtt.receiver_id != c_.receiver_id) || !is_rtt_measured_) return;
  const bool is_asked_for = s.last_rtt_request_ns != 0 && rtt.echo_timestamp_ns == s.last_rtt_request_ns;
  if (!is_asked_for && !planted(Bug::kAnyRoundTripBelieved)) return;
  const std::int64_t sample = now_ns - rtt.echo_timestamp_ns;
  if (rtt.reception_delta_ns < 0 || rtt.reception_delta_ns >= sample || sample > kRttMax_ns) return;
  congestion::add_rtt_sample(s, sample - rtt.reception_delta_ns);
  if (is_controlled_) s.rtt_timer_ns = now_ns;
}

// The first request follows the first status message at once.
void Image::restart_rtt(std::int64_t now_ns) noexcept {
  c_.state->last_rtt_request_ns = 0;
  c_.state->rtt_timer_ns = now_ns - std::max({kRttInterval_ns, kRttMax_ns, congestion::rtt_interval_ns(*c_.desired, *c_.state)}) - 1;
}

// Our repair measures until it knows the round trip, then only while a gap is open; aimd while data arrives; cubic always.
std::int64_t Image::rtt_deadline_ns() const noexcept {
  const ImageState& s = *c_.state;
  std::int64_t deadline = kNever_ns;
  if (has_flag(ImageFlags::kMeasureRtt)) {
    deadline = has_gap() ? s.rtt_timer_ns + kRttGapInterval_ns : s.srtt_ns == 0 ? s.rtt_timer_ns + kRttInterval_ns : kNever_ns;
  }
  const bool is_due_anyway = c_.desired->congestion_control == shm::CongestionControl::kCubic && c_.desired->is_rtt_measured;
  const bool is_moving = c_.desired->congestion_control == shm::CongestionControl::kAimd && (s.last_packet_ns > s.rtt_timer_ns || has_gap());
  if (is_due_anyway || is_moving) deadline = std::min(deadline, s.rtt_timer_ns + congestion::rtt_interval_ns(*c_.desired, s));
  return deadline;
}

// 3.6 steps 4 and 5 where the window is not a constant. What was promised is taken back when the window shrinks, as the reference driver
// does: a sender with max flow control keeps its limit, one with min follows.
void Image::follow_congestion(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept {
  ImageState& s = *c_.state;
  const std::int64_t consumed = std::clamp(subscribers.min, s.next_sm_position, s.rebuild_position) & ~std::int64_t{wire::kFrameAlignment - 1};
  const congestion::Progress progress{.rebuild_position = s.rebuild_position, .high_water = std::max(s.high_water, s.announced), .consumed = consumed,
                                      .last_sm_position = s.last_sm_position, .loss_position = std::exchange(loss_position_, -1)};
  const bool is_forced = congestion::step(*c_.desired, s, window_, progress, now_ns);
  const std::int64_t window = s.congestion.window;
  const std::int64_t change = std::abs(window - s.next_sm_window);
  // aimd moves with each datagram: only what matters to the sender is told before its time.
  const bool is_new_window = c_.desired->congestion_control == shm::CongestionControl::kAimd ? change > s.next_sm_window / 4 : change != 0;
  if (!is_forced && !is_new_window && !is_heartbeat_open_ && consumed <= s.next_sm_position + window / 4) return;
  is_heartbeat_open_ = false;
  s.next_sm_position = consumed;
  s.next_sm_window = static_cast<std::int32_t>(window);
  s.is_sm_scheduled = 1;
}

void Image::reject(std::span<const std::byte> reason) noexcept {
  c_.state->is_rejected = 1;
  reject_reason_ = reason.first(std::min<std::size_t>(reason.size(), wire::kErrorTextMax));
}

void Image::answer_with(const shm::PublicationSlot* publication, std::int64_t now_ns) noexcept {
  answers_ = publication;
  if (publication != nullptr) c_.state->sm_deadline_ns = now_ns - 1;
}

// The slot may belong to another stream by now: what it says of itself decides. Its lane may be another one.
bool Image::has_answer_to_tell() const noexcept {
  const shm::PublicationSlot::Wanted& wanted = answers_->desired;
  const bool is_ours = wanted.state.load(std::memory_order_acquire) == shm::Desired::kActive &&
                       (wanted.flags & shm::PublicationFlags::kIsResponse) != 0 && wanted.response_correlation_id == c_.desired->correlation_id;
  const auto& heard = answers_->observed.state.has_initial_connection;
  const bool has_receiver = std::atomic_ref{const_cast<std::uint8_t&>(heard)}.load(std::memory_order_relaxed) != 0;
  return is_ours && (!has_receiver || planted(Bug::kResponseSetupNeverEnds));
}

void Image::supersede() noexcept {
  if (c_.state->lifecycle != Lifecycle::kActive) c_.state->is_superseded = 1;
}

Insert Image::refuse(Insert why, LaneCounter counter) noexcept {
  c_.counters.add(counter);
  return why;
}

void Image::set_overrun_threshold(std::int64_t position) noexcept {
  ImageState& s = *c_.state;
  s.overrun_threshold = position + term_length_ / 2;
  if (s.overrun_threshold <= growth_threshold_) return;
  const std::int64_t end = c_.growth->end.load(std::memory_order_acquire);  // pairs with Steward::grow()
  growth_threshold_ = shm::LogGrowth::threshold(end, term_length_);
  if (s.overrun_threshold > growth_threshold_) c_.growth->is_wanted.store(1, std::memory_order_relaxed);
  if (end != shm::LogGrowth::kAll) s.overrun_threshold = std::min(s.overrun_threshold, end - longest_claim_);  // gaps are zeroed as far as that behind it
}

// The log may have grown since the last status message.
bool Image::is_overrun(std::int64_t written_end, std::int64_t end) noexcept {
  const ImageState& s = *c_.state;
  if (growth_threshold_ != shm::LogGrowth::kAll) set_overrun_threshold(s.last_sm_position);
  return written_end > s.overrun_threshold || end > s.overrun_threshold + longest_claim_;
}

Insert Image::insert_heartbeat(std::int64_t position, unsigned connection, std::uint8_t frame_flags, std::int64_t now_ns) noexcept {
  ImageState& s = *c_.state;
  // A PAD may have carried the sender past its limit (1.15), by the longest claim at the most. Refused, this heartbeat would leave what was
  // lost just before the PAD unmissed, and the stream would stand still until it times out.
  if (position > s.overrun_threshold + longest_claim_) return refuse(Insert::kOverrun, LaneCounter::kOverRuns);
  if (position < std::max<std::int64_t>(0, s.last_sm_position - term_length_)) return refuse(Insert::kUnderrun, LaneCounter::kUnderRuns);
  refresh(connection, now_ns);
  if ((frame_flags & wire::flag::kEndOfStream) != 0) end_of_stream(connection, position, (frame_flags & wire::flag::kRevoked) != 0, now_ns);
  s.announced = std::max(s.announced, position);
  learn_of(position);
  is_heartbeat_open_ = is_fast_;
  c_.counters.add(LaneCounter::kHeartbeatsReceived);
  return Insert::kHeartbeat;
}

// A gap must read as zeros, for clients that come to its beginning and for a lane that learns the gaps from the log after a restart. Its
// memory is zeroed when it becomes known, in bounded steps: a forged position must not buy half a term of zeroing in one turn.
bool Image::learn_of(std::int64_t position) noexcept {
  ImageState& s = *c_.state;
  if (position <= s.high_water) return true;
  const std::int64_t to = std::min(position, s.high_water + kCleanBytesPerTurn);
  for (std::int64_t from = s.high_water; from < to;) {
    const std::int64_t end = std::min(to, (from | (term_length_ - 1)) + 1);
    shm::clean_log(c_.log, from, end);
    from = end;
  }
  std::atomic_ref<std::int64_t>{*reinterpret_cast<std::int64_t*>(c_.log.at(to))}.store(0, std::memory_order_relaxed);
  GapList{s, c_.log}.extend(to);
  return to == position;
}

bool Image::is_connection_alive(std::size_t index, std::int64_t now_ns) const noexcept {
  const shm::ConnectionState& c = c_.state->connections[index];
  return c.is_used && now_ns <= c.last_activity_ns + kConnectionTimeout_ns;
}

std::size_t Image::build_sm(std::byte* frame) const noexcept {
  const ImageState& s = *c_.state;
  wire::StatusMessage sm;
  sm.flags = s.is_sending_eos_sm ? wire::flag::kSmEndOfStream : std::uint8_t{0};
  sm.session_id = session_id_;
  sm.stream_id = stream_id_;
  sm.consumption_term_id = wire::term_id_of(s.next_sm_position, initial_term_id_, bits_);
  sm.consumption_term_offset = wire::term_offset_of(s.next_sm_position, bits_);
  sm.window_length = s.next_sm_window;
  sm.receiver_id = c_.receiver_id;
  if (c_.has_group_tag) sm.group_tag = c_.group_tag;
  wire::build(frame, sm);
  return sm.length();
}

std::size_t Image::build_error(std::byte* frame) const noexcept {
  wire::ErrorFrame error;
  error.session_id = session_id_;
  error.stream_id = stream_id_;
  error.receiver_id = c_.receiver_id;
  if (c_.has_group_tag) error.group_tag = c_.group_tag;
  error.code = kErrorImageRejected;
  error.text = reject_reason_;
  wire::build(frame, error);
  return error.length();
}

// The deadline moves even when nobody took the frame: with all connections dead there is nobody to try again for. A full transport keeps
// a scheduled SM scheduled.
void Image::sm_sent(std::int64_t now_ns, bool was_sent) noexcept {
  ImageState& s = *c_.state;
  s.sm_deadline_ns = now_ns + c_.desired->sm_timeout_ns;
  if (s.is_rejected) return;
  if (was_sent) s.is_sm_scheduled = 0;
  s.last_sm_position = s.next_sm_position;
  set_overrun_threshold(s.next_sm_position);
}

// ---- loss ----

bool Image::is_gap_due(shm::GapState& gap, std::int64_t now_ns) noexcept {
  if (gap.deadline_ns == 0) {
    gap.deadline_ns = now_ns + first_nak_delay_ns() + nak_hold_ns(now_ns);
    loss_position_ = std::max(loss_position_, gap.position);
  }
  return now_ns >= gap.deadline_ns;
}

void Image::report_gap(shm::GapState& gap) noexcept {
  if (gap.is_reported) return;
  gap.is_reported = 1;
  ++c_.state->gaps_seen;
  c_.state->bytes_lost += gap.length;
}

// reliable=false (3.8): one PAD over the gap. The application sees a jump.
void Image::fill_gap(const shm::GapState& gap) noexcept {
  const std::int64_t position = gap.position;
  const std::int64_t length = gap.length;
  wire::DataHeader pad;
  pad.frame_length = static_cast<std::int32_t>(length);
  pad.type = wire::FrameType::kPad;
  pad.term_offset = wire::term_offset_of(position, bits_);
  pad.session_id = session_id_;
  pad.stream_id = stream_id_;
  pad.term_id = wire::term_id_of(position, initial_term_id_, bits_);
  std::byte frame[wire::kDataHeaderLength];
  wire::build(frame, pad);
  copy_in(frame, position, position + length);
  GapList{*c_.state, c_.log}.filled(position, position + length);
  c_.counters.add(LaneCounter::kLossGapFills);
}

std::int64_t Image::first_nak_delay_ns() noexcept {
  if (!has_flag(ImageFlags::kReliable)) return 0;
  return has_flag(ImageFlags::kGroup) ? group_nak_delay_ns() : c_.desired->nak_delay_ns;
}

// With a measured round trip the next NAK waits for two of them: earlier the answer cannot be here, later only costs time. With nak-backoff
// (ours) each repeat waits twice as long as the one before, up to that.
std::int64_t Image::retry_nak_delay_ns(const shm::GapState& gap) noexcept {
  std::int64_t delay = c_.desired->nak_retry_ns;
  if (has_flag(ImageFlags::kGroup)) {
    delay = group_nak_delay_ns();
  } else if (has_flag(ImageFlags::kMeasureRtt) && c_.state->srtt_ns > 0) {
    delay = std::max(kNakRetryFloor_ns, 2 * c_.state->srtt_ns);
  }
  const std::int64_t most = c_.desired->nak_backoff_ns;
  if (delay >= most || gap.naks < 2 || planted(Bug::kNakBackoffForgotten)) return delay;
  constexpr std::uint32_t kDoublingsMax = 20;
  const std::uint32_t doublings = std::min(gap.naks - 1, kDoublingsMax);
  return delay > most >> doublings ? most : delay << doublings;
}

// A reliable stream does not skip what it could not get: the image ends before the gap, its subscribers read what is there, and the
// control plane reports it. A subscription that may rejoins the stream where it is then.
void Image::give_up(const shm::GapState& gap) noexcept {
  ImageState& s = *c_.state;
  if (planted(Bug::kGivenUpGapSkipped)) return fill_gap(gap);
  s.is_given_up = 1;
  s.given_up_position = gap.position;
  s.given_up_length = gap.length;
  c_.counters.add(LaneCounter::kGapsGivenUp);
}

// Optimal multicast feedback (3.8): D = (T / lambda) ln(1 + u (e^lambda - 1)), lambda = ln(N) + 1.
std::int64_t Image::group_nak_delay_ns() noexcept {
  if (planted(Bug::kGroupNakAtOnce)) return 0;
  std::uint64_t& x = c_.state->random_state;  // xorshift64*
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  const double u = static_cast<double>((x * 0x2545F4914F6CDD1DU) >> 11) * 0x1.0p-53;
  const double lambda = std::log(static_cast<double>(std::max(c_.desired->nak_group_size, 1))) + 1.0;
  const double delay = static_cast<double>(c_.desired->nak_max_backoff_ns) / lambda * std::log1p(u * std::expm1(lambda));
  return static_cast<std::int64_t>(delay);
}

std::int64_t Image::next_deadline_ns() const noexcept {
  if (!is_on_wire()) return kNever_ns;
  const ImageState& s = *c_.state;
  if (s.is_sm_scheduled && !s.is_rejected) return 0;
  if (s.announced > s.high_water) return 0;
  if (s.tracked_until < s.high_water && s.gap_count < shm::kGapsMax / 2) return 0;
  std::int64_t deadline = s.is_superseded && !s.is_rejected ? kNever_ns : s.sm_deadline_ns + 1;
  const std::size_t watched = s.is_given_up ? 0 : has_flag(ImageFlags::kNakAllGaps) ? s.gap_count : std::min<std::size_t>(s.gap_count, 1);
  for (std::size_t i = 0; i < watched; ++i) deadline = std::min(deadline, s.gaps[i].deadline_ns);
  if (is_rtt_measured_ && rtt_deadline_ns() != kNever_ns) deadline = std::min(deadline, rtt_deadline_ns() + 1);
  return is_controlled_ ? std::min(deadline, congestion::next_deadline_ns(*c_.desired, s)) : deadline;
}

// ---- life cycle ----

void Image::enter(Lifecycle lifecycle, std::int64_t now_ns) noexcept {
  c_.state->lifecycle = lifecycle;
  c_.state->lifecycle_since_ns = now_ns;
}

bool Image::tick(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept {
  ImageState& s = *c_.state;
  count_transports(now_ns);
  const bool is_released = c_.desired->state.load(std::memory_order_acquire) == shm::Desired::kClosing;
  switch (s.lifecycle) {
    case Lifecycle::kActive: {
      const bool is_silent = now_ns > s.last_packet_ns + c_.desired->liveness_timeout_ns;
      const bool is_complete = s.is_end_of_stream && s.rebuild_position >= std::max(s.high_water, s.announced);
      if (subscribers.count > 0 && !is_released && !is_silent && !is_complete && !s.is_revoked && !s.is_given_up) return false;
      s.is_sending_eos_sm = s.is_revoked ? 0 : 1;
      s.drain_sm_since_ns = now_ns;
      enter(Lifecycle::kDraining, now_ns);
      return true;
    }
    case Lifecycle::kDraining: {
      const bool is_drained = subscribers.count == 0 || subscribers.min >= s.rebuild_position;
      const bool has_told = now_ns > s.drain_sm_since_ns + kEosStatusMessages * c_.desired->sm_timeout_ns;
      if (!s.is_revoked && !(is_drained && has_told)) return false;
      enter(Lifecycle::kLinger, now_ns);
      return true;
    }
    case Lifecycle::kLinger:
      if (!is_released && subscribers.count > 0 && now_ns <= s.lifecycle_since_ns + c_.desired->liveness_timeout_ns) return false;
      enter(Lifecycle::kDone, now_ns);
      return true;
    default:
      return false;
  }
}

std::int64_t Image::join_position(const SubscriberPositions& subscribers) const noexcept {
  const ImageState& s = *c_.state;
  if (subscribers.count == 0) return s.rebuild_position;
  return std::clamp(subscribers.min, std::min(s.next_sm_position, s.rebuild_position), s.rebuild_position) &
         ~std::int64_t{wire::kFrameAlignment - 1};
}

std::int64_t Image::tether_limit(const SubscriberPositions& subscribers) const noexcept {
  return proto::tether_limit(std::min(subscribers.max, c_.state->rebuild_position), c_.state->next_sm_window);
}

}  // namespace thalweg::proto
