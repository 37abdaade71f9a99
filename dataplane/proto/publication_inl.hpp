#pragma once
// Bodies of publication.hpp that run per frame or call a sink.
namespace thalweg::proto {

inline bool Publication::is_setup_wanted() const noexcept {
  const shm::PublicationState& s = *c_.state;
  // At the very last position there is no term left to join.
  return (!s.has_initial_connection || s.is_setup_elicited) && s.sender_position < wire::max_position(term_length_);
}

template <DatagramSink Sink>
SendOutcome Publication::send(std::int64_t now_ns, Sink& sink) noexcept {
  SendOutcome outcome;
  if (!is_on_wire()) return outcome;
  shm::PublicationState& s = *c_.state;
  if (is_setup_wanted() && now_ns - s.last_setup_ns > kSetupInterval_ns) send_setup(now_ns, sink, outcome);
  const std::int64_t skip_end = end_of_skip(s.sender_position);
  const bool has_sent = skip_end != 0 ? send_skipped(skip_end, now_ns, sink, outcome) : send_data(now_ns, sink, outcome);
  if (!has_sent) {
    if (now_ns - s.last_send_ns > heartbeat_interval_ns() && s.has_initial_connection && !planted(Bug::kHeartbeatForgotten)) {
      send_heartbeat(now_ns, sink, outcome);
    }
    if (now_ns >= receiver_deadline_ns_ || is_flow_check_due_) expire_receivers(now_ns);
  }
  if (now_ns > retransmit_deadline_ns_) send_retransmits(now_ns, sink, outcome);
  return outcome;
}

inline constexpr std::int32_t kFetchAhead = 2048;   // bytes of the log
// Fetches a line of each pair of the next kFetchAhead bytes: its neighbour comes along to the second-level cache.
inline void fetch_ahead(const std::byte* term, std::int32_t& offset) noexcept {
  constexpr std::int32_t kPair = 2 * static_cast<std::int32_t>(kCacheLine);
  const std::byte* const from = term + offset;
  for (std::int32_t i = 0; i < kFetchAhead; i += kPair) __builtin_prefetch(from + i);
  offset += kFetchAhead;
}

// Returns true when at least one datagram went out. A batch ends with its term (2.5). Unlike the reference driver we know how many
// datagrams of a batch the transport took, so the position moves by exactly those.
template <DatagramSink Sink>
bool Publication::send_data(std::int64_t now_ns, Sink& sink, SendOutcome& outcome) noexcept {
  shm::PublicationState& s = *c_.state;
  if (s.is_revoked) return false;
  std::int64_t window = s.sender_limit - s.sender_position;
  if (planted(Bug::kSendBeyondWindow)) window += wire::kFrameAlignment;
  const std::int64_t start = s.sender_position;
  const std::int32_t start_offset = wire::term_offset_of(start, bits_);
  std::byte* const term = c_.log.term(wire::partition_of(start, bits_));
  if (window <= 0) {
    note_limited(frame_word_acquire(term + start_offset) << 32 != 0, outcome);
    return false;
  }
  const std::int32_t term_id = wire::term_id_of(start, initial_term_id_, bits_);
  const FrameRules frame_rules = rules();
  std::int32_t offset = start_offset;
  std::uint32_t bytes = 0;
  const std::int32_t end = std::min(term_length_, start_offset + kDatagramsPerSend * mtu_);
  // What the publisher's core wrote comes from its caches, and line after line unless it is asked for beforehand. Not what is written now.
  const std::int32_t fetch_end = start_offset + static_cast<std::int32_t>(std::min<std::int64_t>(s.producer_position - start, end - start_offset));
  std::int32_t fetched = start_offset;
  while (offset < end) {
    if (fetched < std::min(fetch_end, offset + kFetchAhead)) fetch_ahead(term, fetched);
    const DatagramScan scan =
        scan_datagram(term, offset, term_id, static_cast<std::int32_t>(std::min<std::int64_t>(window, mtu_)), frame_rules);
    if (scan.bytes == 0) {
      if (scan.is_corrupt) [[unlikely]] end_corrupt();
      if (scan.is_too_large || window <= 0) note_limited(scan.is_too_large, outcome);
      break;
    }
    if (!sink.send_log({term + offset, static_cast<std::size_t>(scan.bytes)})) {
      outcome.is_blocked = true;
      break;
    }
    bytes += static_cast<std::uint32_t>(scan.bytes);
    offset += scan.bytes + scan.skipped;
    window -= scan.bytes + scan.skipped;
    if (window <= 0) break;  // the next cycle counts the stall, if there is one
  }
  if (bytes == 0) return false;
  s.sender_position = start + (offset - start_offset);
  s.last_send_ns = now_ns;
  s.is_limited = 0;
  heartbeat_interval_ns_ = first_heartbeat_ns_;
  if (c_.snd_pos) c_.snd_pos.set(s.sender_position);
  outcome.bytes += bytes;
  outcome.has_data = true;
  return true;
}

inline bool Publication::has_data() const noexcept {
  const shm::PublicationState& s = *c_.state;
  const std::int64_t window = s.sender_limit - s.sender_position;
  if (!is_on_wire() || s.is_revoked || window <= 0) return false;
  if (end_of_skip(s.sender_position) != 0) return true;
  const std::uint64_t word = frame_word_acquire(c_.log.at(s.sender_position));
  const std::int32_t length = length_of_word(word);
  // What is longer than the MTU is corrupt; send() finds out.
  return length > 0 && (is_pad_word(word) ? wire::kDataHeaderLength : std::min(length, mtu_)) <= window;
}

inline std::int64_t Publication::end_of_skip(std::int64_t position) const noexcept {
  if (!is_relay()) return 0;
  for (const shm::SkippedRange& range : c_.state->skipped) {
    if (position >= range.begin && position < range.end) return range.end;
  }
  // An image's log has its last two terms and more. What was sent just before a skip, and lost, may be asked for when others are in its place.
  const bool is_gone = position < c_.state->producer_position - 2 * std::int64_t{term_length_} && !planted(Bug::kOverwrittenSentAgain);
  return is_gone ? c_.state->producer_position : 0;
}

template <DatagramSink Sink>
bool Publication::send_padding(std::int64_t from, std::int64_t to, Sink& sink, SendOutcome& outcome) noexcept {
  wire::DataHeader header;
  header.frame_length = static_cast<std::int32_t>(to - from);
  header.flags = wire::flag::kUnfragmented;
  header.type = wire::FrameType::kPad;
  header.term_offset = wire::term_offset_of(from, bits_);
  header.session_id = session_id_;
  header.stream_id = stream_id_;
  header.term_id = wire::term_id_of(from, initial_term_id_, bits_);
  std::byte frame[wire::kDataHeaderLength];
  wire::build(frame, header);
  if (!sink.send_control(frame)) {
    outcome.is_blocked = true;
    return false;
  }
  outcome.bytes += sizeof frame;
  outcome.has_data = true;
  return true;
}

// A PAD for as much of the range as the window and the term hold: the receiver's subscribers pass over it at once, and the window opens again.
template <DatagramSink Sink>
bool Publication::send_skipped(std::int64_t end, std::int64_t now_ns, Sink& sink, SendOutcome& outcome) noexcept {
  shm::PublicationState& s = *c_.state;
  const std::int64_t from = s.sender_position;
  const std::int64_t term_end = planted(Bug::kSkipCrossesTerm) ? end : (from | (term_length_ - 1)) + 1;
  const std::int64_t to = std::min({end, s.sender_limit & ~std::int64_t{wire::kFrameAlignment - 1}, term_end});
  if (to <= from) {
    note_limited(true, outcome);
    return false;
  }
  if (!send_padding(from, to, sink, outcome)) return false;
  c_.counters.add(shm::LaneCounter::kRelaySkippedBytes, static_cast<std::uint64_t>(to - from));
  s.sender_position = to;
  s.last_send_ns = now_ns;
  s.is_limited = 0;
  heartbeat_interval_ns_ = first_heartbeat_ns_;
  if (c_.snd_pos) c_.snd_pos.set(to);
  return true;
}

template <DatagramSink Sink>
void Publication::send_setup(std::int64_t now_ns, Sink& sink, SendOutcome& outcome) noexcept {
  if (is_mute_) [[unlikely]] {
    c_.state->last_setup_ns = now_ns;  // the timer runs nevertheless (2.4)
    return;
  }
  std::byte frame[wire::Setup::kLength];
  build_setup(frame);
  if (!sink.send_control(frame)) {
    outcome.is_blocked = true;
    return;
  }
  outcome.bytes += sizeof frame;
  setup_sent(now_ns);
}

template <DatagramSink Sink>
void Publication::send_heartbeat(std::int64_t now_ns, Sink& sink, SendOutcome& outcome) noexcept {
  std::byte frame[wire::kDataHeaderLength];
  build_heartbeat(frame);
  if (!sink.send_control(frame)) {
    outcome.is_blocked = true;
    return;
  }
  outcome.bytes += sizeof frame;
  c_.state->last_send_ns = now_ns;
  heartbeat_interval_ns_ = std::min(2 * heartbeat_interval_ns(), kHeartbeatInterval_ns);
  c_.counters.add(shm::LaneCounter::kHeartbeatsSent);
}

template <DatagramSink Sink>
void Publication::on_nak(const wire::Nak& nak, std::int64_t now_ns, Sink& sink) noexcept {
  shm::RetransmitAction* action = plan_retransmit(nak, now_ns);
  if (action == nullptr) return;
  if (is_rtt_measured_ && now_ns - last_rtt_request_ns_ >= kRttRequestInterval_ns) request_rtt(now_ns, sink);
  if (action->state == shm::RetransmitAction::State::kSending) {
    SendOutcome outcome;
    if (resend(*action, now_ns, sink, outcome)) retransmit_finished(*action, now_ns);
  }
  schedule_retransmits();
}

template <DatagramSink Sink>
void Publication::send_retransmits(std::int64_t now_ns, Sink& sink, SendOutcome& outcome) noexcept {
  using State = shm::RetransmitAction::State;
  for (shm::RetransmitAction& action : c_.state->retransmits) {
    if (action.state == State::kInactive || now_ns <= action.expiry_ns) continue;
    if (action.state == State::kLingering) {
      action.state = State::kInactive;
      continue;
    }
    action.state = State::kSending;
    if (resend(action, now_ns, sink, outcome)) retransmit_finished(action, now_ns);
  }
  schedule_retransmits();
}

// A frame that fails its check here only ends the retransmit: a peer may NAK an offset between two frames, and that must not look like
// a corrupt log.
template <DatagramSink Sink>
bool Publication::resend(shm::RetransmitAction& action, std::int64_t now_ns, Sink& sink, SendOutcome& outcome) noexcept {
  shm::PublicationState& s = *c_.state;
  const std::int64_t begin = wire::position_of(action.term_id, action.term_offset, initial_term_id_, bits_);
  if (begin < s.start_position || begin < oldest_retransmit() || begin >= s.sender_position) return true;
  const auto length = static_cast<std::int32_t>(std::min<std::int64_t>(action.length, s.sender_position - begin));
  std::byte* const term = c_.log.term(wire::partition_of(begin, bits_));
  const FrameRules frame_rules = rules();
  for (int i = 0; i < kRetransmitDatagramsPerTurn; ++i) {
    const std::int32_t left = length - action.sent_bytes;
    if (left <= 0) return true;
    if (const std::int64_t from = begin + action.sent_bytes, skip_end = end_of_skip(from); skip_end != 0) {
      const std::int64_t to = std::min({skip_end, from + left, (from | (term_length_ - 1)) + 1});
      if (wire::kDataHeaderLength > retransmit_allowance(now_ns)) {
        c_.counters.add(shm::LaneCounter::kRetransmitsLimited);
        return true;
      }
      if (!send_padding(from, to, sink, outcome)) return false;
      s.retransmit_interval_bytes += wire::kDataHeaderLength;
      action.sent_bytes += static_cast<std::int32_t>(to - from);
      continue;
    }
    const std::int32_t offset = action.term_offset + action.sent_bytes + (planted(Bug::kRetransmitWrongRange) ? mtu_ : 0);
    const DatagramScan scan = scan_datagram(term, offset, action.term_id, std::min(left, mtu_), frame_rules);
    if (scan.bytes == 0) return true;
    if (scan.bytes > retransmit_allowance(now_ns)) {  // several actions share it: what one was promised another may have used
      c_.counters.add(shm::LaneCounter::kRetransmitsLimited);
      return true;
    }
    if (!sink.send_log({term + offset, static_cast<std::size_t>(scan.bytes)})) {
      outcome.is_blocked = true;
      return false;
    }
    if (action.sent_bytes == 0) c_.counters.add(shm::LaneCounter::kRetransmitsSent);
    action.sent_bytes += scan.bytes + scan.skipped;
    outcome.bytes += static_cast<std::uint32_t>(scan.bytes);
    outcome.has_data = true;
    s.retransmit_interval_bytes += scan.bytes;
    c_.counters.add(shm::LaneCounter::kRetransmittedBytes, static_cast<std::uint64_t>(scan.bytes));
  }
  return action.sent_bytes >= length;
}

// To any receiver (id 0): a unicast stream has one. Where there is loss there are NAKs, so nothing else asks.
template <DatagramSink Sink>
void Publication::request_rtt(std::int64_t now_ns, Sink& sink) noexcept {
  wire::RttMeasurement request;
  request.is_request = true;
  request.session_id = session_id_;
  request.stream_id = stream_id_;
  request.echo_timestamp_ns = now_ns;
  std::byte frame[wire::RttMeasurement::kLength];
  wire::build(frame, request);
  if (!sink.send_control(frame)) return;
  last_rtt_request_ns_ = now_ns;
  c_.counters.add(shm::LaneCounter::kRttRequestsSent);
}

template <DatagramSink Sink>
void Publication::on_rtt_measurement(const wire::RttMeasurement& rtt, std::int64_t now_ns, Sink& sink, std::uint32_t others) noexcept {
  if (!is_on_wire()) return;
  if (!rtt.is_request) return on_rtt_reply(rtt, now_ns);
  const bool is_limited = others != 0 && !planted(Bug::kEveryRoundTripAnswered);
  if (is_limited && !rtt_answers_.take(others, now_ns)) return c_.counters.add(shm::LaneCounter::kRttRepliesLimited);
  wire::RttMeasurement reply = rtt;
  reply.is_request = false;
  reply.reception_delta_ns = 0;
  std::byte frame[wire::RttMeasurement::kLength];
  wire::build(frame, reply);
  if (sink.send_control(frame)) c_.counters.add(shm::LaneCounter::kRttRepliesSent);
}

}  // namespace thalweg::proto
