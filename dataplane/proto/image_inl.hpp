#pragma once
#include "dataplane/proto/gap_list.hpp"

// Bodies of image.hpp that run per datagram or call a sink.
namespace thalweg::proto {

// One pass over the headers (3.5 step 2). Stricter than the rule in two points that no sender can meet: every frame of the datagram must
// belong to the first one's stream, and a length below a header is invalid; both would be delivered to clients as they stand.
inline Image::Extent Image::walk(std::span<const std::byte> datagram, std::int32_t term_offset) const noexcept {
  const std::byte* const p = datagram.data();
  const auto size = static_cast<std::int32_t>(datagram.size());
  const auto stream_and_term = load_le<std::uint64_t>(p + 16);
  const std::int32_t term_left = term_length_ - term_offset;
  std::int32_t at = 0;
  do {
    const auto word = load_le<std::uint64_t>(p + at);
    const std::int32_t length = length_of_word(word);
    const bool is_foreign = (word & kForeignBits) != 0 || length < wire::kDataHeaderLength || length > term_left - at ||
                            load_le<std::uint64_t>(p + at + 8) != word_pair(term_offset + at, session_id_) ||
                            load_le<std::uint64_t>(p + at + 16) != stream_and_term;
    if (is_foreign) [[unlikely]] return {};
    const std::int32_t next = at + wire::align_frame(length);
    if (next > size) {
      if (!is_pad_word(word)) return {};
      return {.length = next, .copied = static_cast<std::size_t>(at + wire::kDataHeaderLength), .is_valid = true};
    }
    const bool may_be_row = next < size && !is_pad_word(word);
    at = may_be_row ? end_of_row(p, at, std::min(size, term_left), [](const std::byte* first) { return load_le<std::uint64_t>(first); }) : next;
  } while (at < size);
  return {.length = at, .copied = static_cast<std::size_t>(at), .is_valid = true};
}

inline constexpr std::size_t kWarmAhead = 2048;   // bytes of an image's log

// The log's address of a position; remembers the term, because most datagrams fall into the term of the one before.
inline std::byte* Image::at(std::int64_t position) noexcept {
  const std::int64_t offset = position & (term_length_ - 1);
  if (position - offset != term_begin_) [[unlikely]] {
    term_begin_ = position - offset;
    term_ = c_.log.at(term_begin_);
  }
  return term_ + offset;
}

// Everything but the first word, then that word with release: the datagram appears at once (3.5, client-protocol 7.7). The range is
// recorded around the copy, so that a restart can zero what a crash left half done; the fences only keep the compiler from moving it.
// Whoever has read up to the end of what is there must find a zero length behind it, and the memory still holds what was there three terms
// ago: that word is zeroed before the datagram appears. Nothing else of an image's log is ever cleaned but gaps (learn_of()).
inline void Image::copy_in(std::span<const std::byte> datagram, std::int64_t position, std::int64_t end) noexcept {
  shm::ImageState& s = *c_.state;
  if (end > s.high_water) {
    const bool is_same_term = (end & (term_length_ - 1)) != 0;
    std::byte* const behind = is_same_term ? at(position) + (end - position) : c_.log.at(end);
    std::atomic_ref<std::uint64_t>{*reinterpret_cast<std::uint64_t*>(behind)}.store(0, std::memory_order_relaxed);
  }
  std::byte* to = at(position);
  const std::byte* from = datagram.data();
  // The next datagrams go where nobody has been for two terms.
  for (std::size_t i = 0; i < datagram.size(); i += kCacheLine) __builtin_prefetch(to + kWarmAhead + i, 1);
  s.insert_begin = position;
  s.insert_end = position + static_cast<std::int64_t>(datagram.size());
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(to + 8, from + 8, 24);
  constexpr std::size_t kInlineMax = 512;  // beyond, the library's copy is faster than this loop
  if (datagram.size() <= kInlineMax) {
    for (std::size_t i = 32; i < datagram.size(); i += 32) std::memcpy(to + i, from + i, 32);
  } else {
    std::memcpy(to + 32, from + 32, datagram.size() - 32);
  }
  frame_word_release(to, load_le<std::uint64_t>(from));  // pairs with the acquire load of readers (client-protocol 7.7)
  std::atomic_signal_fence(std::memory_order_seq_cst);
  s.insert_begin = s.insert_end;
}

inline void Image::refresh(unsigned connection, std::int64_t now_ns) noexcept {
  shm::ImageState& s = *c_.state;
  s.last_packet_ns = now_ns;
  if (connection >= shm::kConnectionsMax) return;
  shm::ConnectionState& c = s.connections[connection];
  c.last_activity_ns = now_ns;
  c.last_frame_ns = now_ns;
}

inline Insert Image::insert(std::span<const std::byte> datagram, unsigned connection, std::int64_t now_ns) noexcept {
  shm::ImageState& s = *c_.state;
  if (s.is_rejected || !is_on_wire()) [[unlikely]] return refuse(Insert::kRejected, shm::LaneCounter::kDropImageRejected);
  const wire::DataView first{datagram.data()};
  const std::int32_t term_count = wire::wrapping_sub(first.term_id(), initial_term_id_);
  const bool is_stale = planted(Bug::kStaleTermWithoutWrap) ? first.term_id() < initial_term_id_ : term_count < 0;
  if (is_stale) [[unlikely]] return refuse(Insert::kStaleTerm, shm::LaneCounter::kDropStaleTerm);
  const std::int32_t offset = first.term_offset();
  const std::int64_t position = (static_cast<std::int64_t>(term_count) << bits_) + offset;
  const bool is_in_term = static_cast<std::uint32_t>(offset) < static_cast<std::uint32_t>(term_length_) &&
                          (offset & (wire::kFrameAlignment - 1)) == 0;
  if (!is_in_term) [[unlikely]] return refuse(Insert::kInvalid, shm::LaneCounter::kDropInvalidFrame);
  if (first.frame_length() == 0 && datagram.size() == wire::kDataHeaderLength) {
    return insert_heartbeat(position, connection, first.flags(), now_ns);
  }
  const Extent extent = walk(datagram, offset);
  if (!extent.is_valid) [[unlikely]] return refuse(Insert::kInvalid, shm::LaneCounter::kDropInvalidFrame);
  const std::int64_t end = position + extent.length;
  // Of a PAD only its header counts against the window, as at the sender (1.15): nothing is written behind it. Refused, the frames before
  // it in the same datagram would be too, and a receiver that has consumed all it got has no reason to move its window.
  const std::int64_t written_end = position + static_cast<std::int64_t>(extent.copied);
  const bool is_beyond = written_end > s.overrun_threshold || end > s.overrun_threshold + longest_claim_;
  if (is_beyond && !planted(Bug::kOverrunAccepted)) [[unlikely]] {
    if (is_overrun(written_end, end)) return refuse(Insert::kOverrun, shm::LaneCounter::kOverRuns);
  }
  if (position < s.last_sm_position) [[unlikely]] {
    // A late duplicate says that the connection lives, a packet from far below says nothing.
    if (end >= s.last_sm_position - window_ && connection < shm::kConnectionsMax) s.connections[connection].last_activity_ns = now_ns;
    return refuse(Insert::kUnderrun, shm::LaneCounter::kUnderRuns);
  }
  refresh(connection, now_ns);
  if (position == s.high_water && s.rebuild_position == position) {  // in order, no gap: nothing to look up
    c_.counters.add(shm::LaneCounter::kDataFramesReceived);
    copy_in(datagram.first(extent.copied), position, end);
    s.high_water = s.tracked_until = s.rebuild_position = end;
    return Insert::kInserted;
  }
  if (planted(Bug::kDuplicateOverwrites)) copy_in(datagram.first(extent.copied), position, end);
  if (position >= s.rebuild_position && !learn_of(position)) [[unlikely]] {
    s.announced = std::max(s.announced, end);
    return refuse(Insert::kTooFar, shm::LaneCounter::kDropBehindGap);
  }
  c_.counters.add(shm::LaneCounter::kDataFramesReceived);
  if (position < s.rebuild_position) return Insert::kInserted;  // duplicate
  GapList gaps{s, c_.log};
  if (gaps.is_empty_at(position)) {
    copy_in(datagram.first(extent.copied), position, end);
    gaps.filled(position, end);
  }
  return Insert::kInserted;
}

template <typename SinkFor>
unsigned Image::duty(const SubscriberPositions& subscribers, std::int64_t now_ns, SinkFor&& sink_for) noexcept {
  shm::ImageState& s = *c_.state;
  if (!is_on_wire()) [[unlikely]] return 0;
  unsigned sent = 0;
  if (s.announced > s.high_water) [[unlikely]] learn_of(s.announced);
  if (subscribers.count > 0 && !s.is_revoked) {
    publish_positions();
    if (!is_controlled_) follow_subscribers(subscribers);
    if (has_gap() && !s.is_given_up) sent += repair(now_ns, sink_for);
    if (is_controlled_) follow_congestion(subscribers, now_ns);
  }
  if (is_sm_due(now_ns)) sent += send_sm(now_ns, sink_for);
  if (is_rtt_measured_ && now_ns > rtt_deadline_ns()) sent += request_rtt(now_ns, sink_for);
  return sent;
}

inline void Image::publish_positions() noexcept {
  shm::ImageState& s = *c_.state;
  if (c_.rcv_hwm && c_.rcv_hwm.get_plain() != s.high_water) c_.rcv_hwm.set(s.high_water);
  if (c_.rcv_pos && c_.rcv_pos.get_plain() != s.rebuild_position) c_.rcv_pos.set(s.rebuild_position);
}

// 3.6 step 5. A subscriber's word is believed only between what we last acknowledged and what we have. With our repair, bytes that arrived
// behind a gap do not count against the window, and a heartbeat is answered: a sender whose window closed because a status message was lost
// need not wait for our timer.
inline void Image::follow_subscribers(const SubscriberPositions& subscribers) noexcept {
  shm::ImageState& s = *c_.state;
  const std::int64_t consumed = std::clamp(subscribers.min, s.next_sm_position, s.rebuild_position) & ~std::int64_t{wire::kFrameAlignment - 1};
  const std::int64_t step = window_ / 4;
  const bool has_consumed = consumed > s.next_sm_position + step;
  if (!has_consumed && !is_heartbeat_open_ && !(is_fast_ && has_gap())) return;
  const std::int64_t promised = s.next_sm_position + s.next_sm_window;
  const std::int64_t held = is_fast_ && s.gap_count < shm::kGapsMax / 2 ? s.high_water - s.rebuild_position : 0;
  const std::int64_t limit = std::clamp(consumed + window_ + held, promised, std::max(promised, consumed + term_length_ / 2));
  if (!has_consumed && !is_heartbeat_open_ && limit <= promised + step) return;
  is_heartbeat_open_ = false;
  s.next_sm_position = consumed;
  s.next_sm_window = static_cast<std::int32_t>(limit - consumed);
  s.is_sm_scheduled = 1;
}

inline bool Image::is_sm_due(std::int64_t now_ns) const noexcept {
  const shm::ImageState& s = *c_.state;
  if (s.is_rejected) return now_ns > s.sm_deadline_ns;
  return s.is_sm_scheduled || (now_ns > s.sm_deadline_ns && !s.is_superseded && !planted(Bug::kStatusMessageNotRepeated));
}

template <typename SinkFor>
unsigned Image::send_all(std::span<const std::byte> frame, bool also_dead, std::int64_t now_ns, SinkFor&& sink_for) noexcept {
  unsigned sent = 0;
  for (std::size_t i = 0; i < shm::kConnectionsMax; ++i) {
    const bool is_wanted = also_dead ? c_.state->connections[i].is_used != 0 : is_connection_alive(i, now_ns);
    if (!is_wanted) continue;
    if (planted(Bug::kOneSideTold) && sent > 0) break;
    auto&& sink = sink_for(i);
    if (sink.send_control(frame)) ++sent;
  }
  return sent;
}

template <typename SinkFor>
unsigned Image::send_sm(std::int64_t now_ns, SinkFor&& sink_for) noexcept {
  std::byte frame[wire::ErrorFrame::kHeaderLength + wire::kErrorTextMax];
  const bool is_rejected = c_.state->is_rejected != 0;
  unsigned setups = 0;
  if (answers_ != nullptr && !is_rejected && now_ns > c_.state->sm_deadline_ns) [[unlikely]] setups = send_response_setup(now_ns, sink_for);
  const std::size_t length = is_rejected ? build_error(frame) : build_sm(frame);
  const unsigned sent = send_all({frame, length}, is_rejected, now_ns, sink_for);
  c_.counters.add(is_rejected ? shm::LaneCounter::kErrorFramesSent : shm::LaneCounter::kStatusMessagesSent, sent);
  sm_sent(now_ns, sent > 0);
  return setups + sent;
}

template <typename SinkFor>
unsigned Image::send_response_setup(std::int64_t now_ns, SinkFor&& sink_for) noexcept {
  if (!has_answer_to_tell()) {
    answers_ = nullptr;
    return 0;
  }
  std::byte frame[wire::ResponseSetup::kLength];
  wire::build(frame, wire::ResponseSetup{session_id_, stream_id_, answers_->desired.session_id});
  const unsigned sent = send_all(frame, false, now_ns, sink_for);
  c_.counters.add(shm::LaneCounter::kResponseSetupsSent, sent);
  return sent;
}

// 3.8. Stock rules look at the first gap only; with nak-all-gaps each known gap has its own timer.
template <typename SinkFor>
unsigned Image::repair(std::int64_t now_ns, SinkFor&& sink_for) noexcept {
  shm::ImageState& s = *c_.state;
  if (GapList gaps{s, c_.log}; gaps.has_more_to_learn()) gaps.advance();
  const std::size_t watched = has_flag(shm::ImageFlags::kNakAllGaps) ? s.gap_count : std::min<std::size_t>(s.gap_count, 1);
  unsigned sent = 0;
  for (std::size_t i = 0; i < watched; ++i) {
    shm::GapState& gap = s.gaps[i];
    if (!is_gap_due(gap, now_ns)) continue;
    report_gap(gap);
    if (c_.desired->nak_max > 0 && gap.naks >= static_cast<std::uint32_t>(c_.desired->nak_max)) {
      give_up(gap);
      break;
    }
    if (!has_flag(shm::ImageFlags::kReliable) || planted(Bug::kGapFilledWhenReliable)) {
      fill_gap(gap);
      break;  // the list has moved; the next one follows in the next turn
    }
    const std::int64_t length = wanted_of(gap);
    const unsigned taken = length > 0 ? send_nak(gap.position, length, now_ns, sink_for) : 0;
    c_.counters.add(shm::LaneCounter::kNaksSent, taken);
    if (c_.rcv_naks && taken > 0) c_.rcv_naks.add(1);
    if (taken > 0) ++gap.naks;
    gap.deadline_ns = planted(Bug::kNakNotRepeated) ? kNever_ns : now_ns + retry_nak_delay_ns(gap);
    sent += taken;
  }
  return sent;
}

template <typename SinkFor>
unsigned Image::send_nak(std::int64_t position, std::int64_t length, std::int64_t now_ns, SinkFor&& sink_for) noexcept {
  wire::Nak nak;
  nak.session_id = session_id_;
  nak.stream_id = stream_id_;
  nak.term_id = wire::term_id_of(position, initial_term_id_, bits_);
  nak.term_offset = wire::term_offset_of(position, bits_);
  nak.length = static_cast<std::int32_t>(length);
  std::byte frame[wire::Nak::kLength];
  wire::build(frame, nak);
  return send_all(frame, false, now_ns, sink_for);
}

template <typename SinkFor>
unsigned Image::request_rtt(std::int64_t now_ns, SinkFor&& sink_for) noexcept {
  wire::RttMeasurement request;
  request.is_request = true;
  request.session_id = session_id_;
  request.stream_id = stream_id_;
  request.echo_timestamp_ns = now_ns;
  request.receiver_id = c_.receiver_id;
  std::byte frame[wire::RttMeasurement::kLength];
  wire::build(frame, request);
  c_.state->last_rtt_request_ns = c_.state->rtt_timer_ns = now_ns;
  const unsigned sent = send_all(frame, false, now_ns, sink_for);
  c_.counters.add(shm::LaneCounter::kRttRequestsSent, sent);
  return sent;
}

template <DatagramSink Sink>
void Image::on_rtt_request(const wire::RttMeasurement& rtt, Sink& sink) noexcept {
  if (!rtt.is_request || !is_on_wire() || (rtt.receiver_id != 0 && rtt.receiver_id != c_.receiver_id)) return;
  wire::RttMeasurement reply = rtt;
  reply.is_request = false;
  reply.reception_delta_ns = 0;
  reply.receiver_id = c_.receiver_id;
  std::byte frame[wire::RttMeasurement::kLength];
  wire::build(frame, reply);
  if (sink.send_control(frame)) c_.counters.add(shm::LaneCounter::kRttRepliesSent);
}

}  // namespace thalweg::proto
