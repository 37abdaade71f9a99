#include "dataplane/proto/publication.hpp"

#include "dataplane/base/assert.hpp"
#include "dataplane/proto/flow_control.hpp"

namespace thalweg::proto {

using shm::LaneCounter;
using shm::Lifecycle;
using shm::PublicationFlags;
using shm::PublicationState;
using shm::ReceiverState;
using shm::RetransmitAction;

namespace {

constexpr std::int64_t kAlignMask = ~std::int64_t{wire::kFrameAlignment - 1};

}  // namespace

Publication::Publication(const Context& context) noexcept
    : c_{context},
      session_id_{context.desired->session_id},
      stream_id_{context.desired->stream_id},
      initial_term_id_{context.desired->initial_term_id},
      term_length_{context.desired->term_length},
      mtu_{context.desired->mtu},
      flags_{context.desired->flags},
      bits_{wire::position_bits(context.desired->term_length)} {
  THALWEG_ASSERT(c_.log.is_mapped() && c_.log.term_length() == term_length_);
  const std::int32_t configured = c_.desired->window_length;
  window_ = configured > 0 && configured < term_length_ / 2 ? configured : term_length_ / 2;
  longest_claim_ = wire::longest_claim(term_length_, mtu_);
  growth_threshold_ = c_.growth == nullptr ? shm::LogGrowth::kAll : 0;
  is_mute_ = is_response() && !is_ipc() && !planted(Bug::kResponseSpeaksFirst);
  is_rtt_measured_ = c_.desired->is_retransmit_linger_auto != 0 && !has_flag(PublicationFlags::kGroup);
  if (c_.desired->is_retransmit_linger_auto) {
    first_heartbeat_ns_ = heartbeat_interval_ns_ = kRetransmitLingerFloor_ns;
    least_interval_ns_ = kIdleHeartbeat_ns;
  }
}

void Publication::start_at(std::int64_t position, std::int64_t now_ns) noexcept {
  PublicationState& s = *c_.state;
  s = PublicationState{};
  s.start_position = s.sender_position = s.sender_limit = s.clean_position = s.publisher_limit = position;
  s.producer_position = s.consumer_position = s.trip_limit = s.blocked_position = position;
  s.last_setup_ns = now_ns - kSetupInterval_ns - 1;
  s.last_send_ns = now_ns - kHeartbeatInterval_ns - 1;
  s.lifecycle = Lifecycle::kActive;
  s.lifecycle_since_ns = s.last_tick_ns = s.blocked_since_ns = now_ns;
  s.is_limited = 1;  // a stall counts only after something was sent (2.5)
  resume(now_ns);
}

void Publication::resume(std::int64_t now_ns) noexcept {
  PublicationState& s = *c_.state;
  for (RetransmitAction& action : s.retransmits) action = RetransmitAction{};
  for (ReceiverState& r : s.receivers) r.last_sm_ns = now_ns;  // our silence must not count as theirs
  s.blocked_since_ns = now_ns;
  s.setup_hold_since_ns = 0;
  if (is_relay()) promise(now_ns);
  if (is_mute_ && s.receiver_count == 0) {   // where it sent is not known any more: as before its first receiver
    s.has_initial_connection = 0;
    s.sender_limit = std::min(s.sender_limit, s.sender_position);
  }
  retransmit_deadline_ns_ = kNever_ns;
  receiver_deadline_ns_ = now_ns;
  for (const auto& [counter, value] : {std::pair{c_.pub_pos, s.producer_position}, std::pair{c_.pub_lmt, s.publisher_limit},
                                       std::pair{c_.snd_pos, s.sender_position}, std::pair{c_.snd_lmt, s.sender_limit},
                                       std::pair{c_.fc_receivers, std::int64_t{s.flow_receiver_count}}}) {
    shm::Counter published = counter;
    if (published) published.set(value);
  }
}

bool Publication::is_revoked() const noexcept {
  return c_.state->is_revoked || c_.desired->is_revoked.load(std::memory_order_acquire) != 0;  // pairs with the control plane's store
}

std::int64_t Publication::next_deadline_ns() const noexcept {
  if (!is_on_wire()) return kNever_ns;
  const PublicationState& s = *c_.state;
  std::int64_t deadline = std::min(receiver_deadline_ns_, retransmit_deadline_ns_ == kNever_ns ? kNever_ns : retransmit_deadline_ns_ + 1);
  if (is_flow_check_due_) return 0;
  if (is_setup_wanted()) deadline = std::min(deadline, s.last_setup_ns + kSetupInterval_ns + 1);
  if (s.has_initial_connection) deadline = std::min(deadline, s.last_send_ns + heartbeat_interval_ns() + 1);
  return deadline;
}

void Publication::build_setup(std::byte* frame) const noexcept {
  const std::int64_t position = c_.state->sender_position;
  wire::Setup setup;
  setup.flags = static_cast<std::uint8_t>((has_flag(PublicationFlags::kGroup) ? wire::flag::kSetupGroup : 0) |
                                          (has_flag(PublicationFlags::kHasResponse) ? wire::flag::kSetupSendResponse : 0));
  setup.term_offset = wire::term_offset_of(position, bits_);
  setup.session_id = session_id_;
  setup.stream_id = stream_id_;
  setup.initial_term_id = initial_term_id_;
  setup.active_term_id = wire::term_id_of(position, initial_term_id_, bits_);
  setup.term_length = term_length_;
  setup.mtu = mtu_;
  setup.ttl = c_.desired->ttl;
  wire::build(frame, setup);
}

// 2.4: the elicited mark goes only with live receivers; without them SETUPs repeat.
void Publication::setup_sent(std::int64_t now_ns) noexcept {
  PublicationState& s = *c_.state;
  s.last_setup_ns = now_ns;
  c_.counters.add(LaneCounter::kSetupsSent);
  if (is_relay()) promise(now_ns);
  if (!s.is_setup_elicited) return;
  flow::on_setup_sent(*c_.desired, s, now_ns);
  if (s.receiver_count > 0) s.is_setup_elicited = 0;
}

// 2.6. The end of stream shows on the first heartbeat after everything was sent, without waiting for a tick.
void Publication::build_heartbeat(std::byte* frame) noexcept {
  PublicationState& s = *c_.state;
  const bool is_all_sent = s.sender_position >= s.producer_position || planted(Bug::kEndOfStreamTooEarly);
  if (s.lifecycle == Lifecycle::kDraining && is_all_sent) s.is_end_of_stream = 1;
  wire::DataHeader header;
  header.flags = wire::flag::kUnfragmented;
  if (is_revoked()) {
    header.flags |= wire::flag::kEndOfStream | wire::flag::kRevoked;
  } else if (s.is_end_of_stream && has_flag(PublicationFlags::kSignalEos)) {
    header.flags |= wire::flag::kEndOfStream;
  }
  header.session_id = session_id_;
  header.stream_id = stream_id_;
  header.term_id = wire::term_id_of(s.sender_position, initial_term_id_, bits_);
  header.term_offset = wire::term_offset_of(s.sender_position, bits_);
  wire::build(frame, header);
}

// 2.5: counted once per stall, that is, once between two successful sends.
void Publication::note_limited(bool is_data_waiting, SendOutcome& outcome) noexcept {
  outcome.is_blocked = outcome.is_blocked || is_data_waiting;
  if (c_.state->is_limited) return;
  c_.state->is_limited = 1;
  c_.counters.add(LaneCounter::kSenderLimited);
  if (c_.snd_bpe) c_.snd_bpe.add(1);
}

// The log holds a frame that is not this stream's. What was sent stands; nothing more may follow, and receivers are told as after a
// revoke, because a plain end of stream would pass for a complete one.
void Publication::end_corrupt() noexcept {
  PublicationState& s = *c_.state;
  if (s.is_corrupt) return;
  s.is_corrupt = s.is_revoked = s.is_end_of_stream = 1;
  c_.counters.add(LaneCounter::kCorruptLogFrames);
  set_connected(false);
}

// ---- receivers ----

ReceiverState* Publication::find_receiver(std::int64_t receiver_id) noexcept {
  for (ReceiverState& r : c_.state->receivers) {
    if ((r.is_live || r.is_flow_controlling) && r.receiver_id == receiver_id) return &r;
  }
  return nullptr;
}

// The table is bounded. When it is full, a receiver that flow control waits for takes the place of the one silent longest among those
// that it does not wait for: strangers must not keep a group's members out.
ReceiverState* Publication::add_receiver(std::int64_t receiver_id, bool is_wanted) noexcept {
  ReceiverState* place = nullptr;
  for (ReceiverState& r : c_.state->receivers) {
    if (!r.is_live && !r.is_flow_controlling) {
      r = ReceiverState{.receiver_id = receiver_id};
      return &r;
    }
    if (is_wanted && !r.is_flow_controlling && (place == nullptr || r.last_sm_ns < place->last_sm_ns)) place = &r;
  }
  ++c_.state->receivers_untracked;
  c_.counters.add(LaneCounter::kReceiversUntracked);
  if (place == nullptr) return nullptr;
  drop_receiver(*place);
  *place = ReceiverState{.receiver_id = receiver_id};
  return place;
}

void Publication::drop_receiver(ReceiverState& receiver) noexcept {
  if (!receiver.is_live) return;
  receiver.is_live = 0;
  --c_.state->receiver_count;
}

// 2.7 and 4.3, on cycles that sent nothing. Sets the time before which nothing can expire, so that idle cycles cost one compare.
void Publication::expire_receivers(std::int64_t now_ns) noexcept {
  PublicationState& s = *c_.state;
  is_flow_check_due_ = false;
  set_sender_limit(flow::on_idle(*c_.desired, s, now_ns));
  receiver_deadline_ns_ = kNever_ns;
  for (ReceiverState& r : s.receivers) {
    const std::int64_t expiry = r.last_sm_ns + c_.desired->connection_timeout_ns;
    if (r.is_live && expiry <= now_ns) drop_receiver(r);
    if (r.is_live) receiver_deadline_ns_ = std::min(receiver_deadline_ns_, expiry);
    if (r.is_flow_controlling) {
      receiver_deadline_ns_ = std::min(receiver_deadline_ns_, r.last_sm_ns + c_.desired->flow_control_receiver_timeout_ns + 1);
    }
  }
  if (s.setup_hold_since_ns != 0) {
    receiver_deadline_ns_ =
        std::min(receiver_deadline_ns_, s.setup_hold_since_ns + c_.desired->flow_control_receiver_timeout_ns + 1);
  }
  publish_flow_receivers();
  if (s.is_connected) refresh_connection(spy_count_);  // the last receiver, or one that a required group cannot do without, may have gone
}

void Publication::publish_flow_receivers() noexcept {
  const std::int64_t count = c_.state->flow_receiver_count;
  if (c_.fc_receivers && c_.fc_receivers.get_plain() != count) c_.fc_receivers.set(count);
}

void Publication::set_sender_limit(std::int64_t limit) noexcept {
  if (limit == c_.state->sender_limit) return;
  c_.state->sender_limit = limit;
  if (c_.snd_lmt) c_.snd_lmt.set(limit);
}

bool Publication::is_acceptable(const wire::StatusMessage& sm) const noexcept {
  if (!sm.valid_for(term_length_)) return false;
  if ((sm.flags & wire::flag::kSmSendSetup) != 0) return true;
  // Not half a term alone (2.11 step 2): a PAD may have carried us past the window of a receiver that says so now.
  const std::int64_t position = wire::position_of(sm.consumption_term_id, sm.consumption_term_offset, initial_term_id_, bits_);
  const bool is_end = (sm.flags & wire::flag::kSmEndOfStream) != 0;   // of somebody who waits for nothing any more
  const std::int64_t oldest = is_end ? oldest_retransmit() : std::min(oldest_retransmit(), oldest_promise());
  return position >= oldest && position <= c_.state->sender_position + term_length_ / 2;
}

void Publication::on_status_message(const wire::StatusMessage& sm, const wire::UdpEndpoint& source, std::int64_t now_ns) noexcept {
  PublicationState& s = *c_.state;
  if (!is_on_wire()) return;
  if (!sm.valid_for(term_length_)) return c_.counters.add(LaneCounter::kDropInvalidFrame);
  c_.counters.add(LaneCounter::kStatusMessagesReceived);
  if ((sm.flags & wire::flag::kSmSendSetup) != 0) {
    if (s.is_end_of_stream || planted(Bug::kElicitedSetupForgotten)) return;  // a closed stream cannot be joined (2.4)
    s.is_setup_elicited = 1;
    return flow::on_elicited(*c_.desired, s, sm);
  }
  // While it is mute nobody was sent a SETUP: a stranger.
  if (is_mute_ || !is_acceptable(sm)) return c_.counters.add(LaneCounter::kStatusMessagesRejected);
  const std::int64_t position = wire::position_of(sm.consumption_term_id, sm.consumption_term_offset, initial_term_id_, bits_);

  if (position < oldest_retransmit()) keep_promise(position);
  const bool is_end = (sm.flags & wire::flag::kSmEndOfStream) != 0;
  ReceiverState* receiver = find_receiver(sm.receiver_id);
  if (receiver == nullptr && !is_end) receiver = add_receiver(sm.receiver_id, flow::is_wanted(*c_.desired, sm));
  if (receiver != nullptr) {
    // A receiver that the group waits for is alive as long as it says that it is of the group.
    const bool is_heard = !receiver->is_flow_controlling || flow::is_wanted(*c_.desired, sm) || planted(Bug::kUntaggedStillHolds);
    if (is_heard) receiver->last_sm_ns = now_ns;
    receiver->last_position = std::max(receiver->last_position, position);
    receiver->address = source.address;
    receiver->port = source.port;
    if (is_end) {
      drop_receiver(*receiver);
    } else if (!receiver->is_live) {
      receiver->is_live = 1;
      ++s.receiver_count;
    }
  }
  if (!has_flag(PublicationFlags::kGroup)) {
    if (is_end) s.has_seen_unicast_eos = 1;
    // Not its highest: an image that it makes anew may begin below what the one before was told by the other side of an A/B stream.
    acknowledged_ = receiver != nullptr && receiver->is_live && s.receiver_count == 1 ? position : -1;
  }
  s.has_initial_connection = 1;
  receiver_deadline_ns_ = std::min(receiver_deadline_ns_, now_ns + c_.desired->connection_timeout_ns);
  set_sender_limit(flow::on_status_message(*c_.desired, s, receiver, sm, position, now_ns));
  is_flow_check_due_ = c_.desired->flow_control != shm::FlowControl::kMax;
  if (is_flow_check_due_) publish_flow_receivers();
  refresh_connection(spy_count_);
}

bool Publication::on_error(const wire::ErrorFrame& error, std::int64_t now_ns) noexcept {
  static_cast<void>(now_ns);
  if (!is_on_wire()) return false;
  c_.counters.add(LaneCounter::kErrorFramesReceived);
  ReceiverState* receiver = planted(Bug::kAnyErrorBelieved) ? &c_.state->receivers[0] : find_receiver(error.receiver_id);
  if (receiver == nullptr) return false;
  const bool was_live = receiver->is_live != 0;
  drop_receiver(*receiver);
  receiver->is_end_of_stream = 1;
  is_flow_check_due_ = receiver->is_flow_controlling != 0;
  refresh_connection(spy_count_);
  return was_live;
}

// ---- retransmits ----

RetransmitAction* Publication::plan_retransmit(const wire::Nak& nak, std::int64_t now_ns) noexcept {
  using State = RetransmitAction::State;
  PublicationState& s = *c_.state;
  if (!is_on_wire()) return nullptr;
  if (!nak.valid_for(term_length_)) {
    c_.counters.add(LaneCounter::kDropInvalidFrame);
    return nullptr;
  }
  c_.counters.add(LaneCounter::kNaksReceived);
  if (c_.snd_naks) c_.snd_naks.add(1);
  const std::int64_t begin = wire::position_of(nak.term_id, nak.term_offset, initial_term_id_, bits_);
  if (nak.length == 0 || begin < s.start_position || begin < oldest_retransmit() || begin >= s.sender_position) return nullptr;

  const bool is_group = has_flag(PublicationFlags::kGroup);
  const std::int64_t slots = is_group ? std::clamp<std::int64_t>(c_.desired->max_resend, 1, shm::kRetransmitsMax) : shm::kRetransmitsMax;
  RetransmitAction* slot = nullptr;
  for (std::int64_t i = 0; i < slots; ++i) {
    RetransmitAction& action = s.retransmits[i];
    // Unicast keeps to one slot as long as that one only lingers. One that still has to send is never displaced: a receiver that NAKs
    // several gaps in turn would else put off each of them for ever.
    const bool is_free = action.state == State::kInactive || (!is_group && action.state == State::kLingering);
    if (is_free && slot == nullptr) slot = &action;
    if (action.state == State::kInactive) continue;
    const bool covers = action.term_id == nak.term_id && nak.term_offset >= action.term_offset &&
                        nak.term_offset - action.term_offset < action.length;
    if (covers && !planted(Bug::kRepeatedNakServed)) return nullptr;
  }
  if (slot == nullptr) {
    c_.counters.add(LaneCounter::kRetransmitOverflows);
    return nullptr;
  }
  const std::int64_t multiple = std::max<std::int64_t>(c_.desired->retransmit_window_multiple, 1);
  const std::int64_t clamp = std::min<std::int64_t>(multiple * std::min(kInitialWindowDefault, term_length_ / 2), term_length_);
  const std::int32_t length = std::min({nak.length, static_cast<std::int32_t>(clamp), retransmit_allowance(now_ns)});
  if (length == 0) {
    c_.counters.add(LaneCounter::kRetransmitsLimited);
    return nullptr;
  }
  const bool is_delayed = c_.desired->retransmit_delay_ns > 0;
  *slot = RetransmitAction{.state = is_delayed ? State::kDelayed : State::kSending, .term_id = nak.term_id, .term_offset = nak.term_offset,
                           .length = length, .expiry_ns = is_delayed ? now_ns + c_.desired->retransmit_delay_ns : 0};
  return slot;
}

// Bytes that may still be sent again in the running interval: bounds what spoofed or broken NAKs can make us send.
std::int32_t Publication::retransmit_allowance(std::int64_t now_ns) noexcept {
  PublicationState& s = *c_.state;
  if (c_.desired->retransmit_limit_bytes <= 0 || planted(Bug::kRetransmitLimitIgnored)) return term_length_;
  if (now_ns - s.retransmit_interval_start_ns >= c_.desired->retransmit_limit_interval_ns) {
    s.retransmit_interval_start_ns = now_ns;
    s.retransmit_interval_bytes = 0;
  }
  const std::int64_t left = c_.desired->retransmit_limit_bytes - s.retransmit_interval_bytes;
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(left, 0, term_length_) & kAlignMask);
}

void Publication::on_rtt_reply(const wire::RttMeasurement& rtt, std::int64_t now_ns) noexcept {
  PublicationState& s = *c_.state;
  if (!is_rtt_measured_ || last_rtt_request_ns_ == 0 || rtt.echo_timestamp_ns != last_rtt_request_ns_) return;
  const std::int64_t elapsed_ns = now_ns - rtt.echo_timestamp_ns;
  if (elapsed_ns > kRttMax_ns || rtt.reception_delta_ns < 0 || rtt.reception_delta_ns >= elapsed_ns) return;
  const std::int64_t sample_ns = elapsed_ns - rtt.reception_delta_ns;
  const bool is_first = s.srtt_ns == 0;
  s.srtt_ns = is_first ? sample_ns : s.srtt_ns + (sample_ns - s.srtt_ns) / 8;  // RFC 6298 2.3
  if (!is_first) return;
  // What lingers by the configured guess was sent no earlier than the request, one round trip ago: one more makes the two.
  for (RetransmitAction& action : s.retransmits) {
    if (action.state == RetransmitAction::State::kLingering) action.expiry_ns = std::min(action.expiry_ns, now_ns + s.srtt_ns);
  }
  schedule_retransmits();
}

// The linger keeps us from serving the repeats of a NAK whose answer is still under way. `auto` makes it two round trips, as the RTTM sent
// with a retransmit measures them, and until the first answer the configured linger; never below 50 us.
void Publication::retransmit_finished(RetransmitAction& action, std::int64_t now_ns) noexcept {
  std::int64_t linger_ns = c_.desired->retransmit_linger_ns;
  if (c_.desired->is_retransmit_linger_auto) {
    linger_ns = std::max(kRetransmitLingerFloor_ns, c_.state->srtt_ns > 0 ? 2 * c_.state->srtt_ns : linger_ns);
  }
  action.state = RetransmitAction::State::kLingering;
  action.expiry_ns = now_ns + linger_ns;
}

void Publication::schedule_retransmits() noexcept {
  retransmit_deadline_ns_ = kNever_ns;
  for (const RetransmitAction& action : c_.state->retransmits) {
    if (action.state == RetransmitAction::State::kInactive) continue;
    const bool is_sending = action.state == RetransmitAction::State::kSending;
    retransmit_deadline_ns_ = std::min(retransmit_deadline_ns_, is_sending ? 0 : action.expiry_ns);
  }
}

}  // namespace thalweg::proto
