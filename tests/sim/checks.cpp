#include "tests/sim/checks.hpp"

#include <algorithm>

#include "dataplane/wire/frames.hpp"

namespace thalweg::sim {
namespace {

// The position of a frame. At the very last position of a stream the term count is 2^31, one more than the wire can tell from -2^31.
std::int64_t position_of(std::int32_t term_id, std::int32_t term_offset, const StreamPlan& plan) {
  const auto count = static_cast<std::uint32_t>(wire::wrapping_sub(term_id, plan.initial_term_id));
  return (std::int64_t{count} << wire::position_bits(plan.term_length)) + term_offset;
}

// A message may start just below the limit and reach this far beyond it (client-protocol 7.5).
std::int32_t overshoot(const StreamPlan& plan) { return wire::longest_claim(plan.term_length, plan.mtu); }

}  // namespace

void PublicationCheck::on_sent(const StreamPlan& plan, const shm::PublicationState& state, std::span<const std::byte> datagram, Verdict& verdict) {
  const auto header = wire::FrameHeader::parse(datagram);
  if (!header) return verdict.fail("stream {}: sent an invalid datagram of {} bytes", plan.session_id, datagram.size());
  if (static_cast<std::int32_t>(datagram.size()) > std::max(plan.mtu, 40)) {
    return verdict.fail("stream {}: datagram of {} bytes with MTU {}", plan.session_id, datagram.size(), plan.mtu);
  }
  if (header->type() != wire::FrameType::kData && header->type() != wire::FrameType::kPad) return;
  const wire::DataView first{datagram.data()};
  const int bits = wire::position_bits(plan.term_length);
  const std::int64_t begin = position_of(first.term_id(), first.term_offset(), plan);
  if (first.session_id() != plan.session_id || first.stream_id() != plan.stream_id || first.term_offset() < 0 ||
      first.term_offset() >= plan.term_length || begin > wire::max_position(plan.term_length)) {
    return verdict.fail("stream {}: sent a frame that is not its own: session {} stream {} term {} offset {}", plan.session_id,
                        first.session_id(), first.stream_id(), first.term_id(), first.term_offset());
  }
  if (first.frame_length() == 0) {
    if (begin != state.sender_position) verdict.fail("stream {}: heartbeat at {} but the sender is at {}", plan.session_id, begin, state.sender_position);
    return;
  }
  const auto end = begin + static_cast<std::int64_t>(datagram.size());
  if ((end - 1) >> bits != begin >> bits) return verdict.fail("stream {}: datagram [{}, {}) crosses a term", plan.session_id, begin, end);
  if (begin >= state.sender_position) {
    if (end > state.sender_limit) verdict.fail("stream {}: sent [{}, {}) beyond the sender limit {}", plan.session_id, begin, end, state.sender_limit);
    return;
  }
  const std::int64_t oldest = state.sender_position - plan.term_length / 2 - overshoot(plan);
  if (begin < oldest || end > state.sender_position) {
    verdict.fail("stream {}: retransmitted [{}, {}) outside [{}, {})", plan.session_id, begin, end, oldest, state.sender_position);
  }
}

void PublicationCheck::on_taken(const StreamPlan& plan, const shm::PublicationState& state, std::span<const std::byte> datagram, Verdict& verdict) {
  const wire::DataView first{datagram.data()};
  const bool is_data = first.type() <= wire::FrameType::kData && datagram.size() >= wire::kDataHeaderLength && first.frame_length() != 0;
  if (plan.retransmit_limit_bytes == 0 || !is_data || position_of(first.term_id(), first.term_offset(), plan) >= state.sender_position) return;
  if (state.retransmit_interval_start_ns != interval_start_ns_) {
    const bool is_early = interval_start_ns_ != INT64_MIN && state.retransmit_interval_start_ns - interval_start_ns_ < plan.retransmit_limit_interval_ns;
    if (is_early) verdict.fail("stream {}: a retransmit interval began before the last was over", plan.session_id);
    interval_start_ns_ = state.retransmit_interval_start_ns;
    interval_bytes_ = 0;
  }
  interval_bytes_ += static_cast<std::int64_t>(datagram.size());
  if (interval_bytes_ > plan.retransmit_limit_bytes) {
    verdict.fail("stream {}: sent {} bytes again within an interval that allows {}", plan.session_id, interval_bytes_, plan.retransmit_limit_bytes);
  }
}

void PublicationCheck::check_receivers(const StreamPlan& plan, const shm::PublicationState& state, Verdict& verdict) const {
  const bool has_sent = state.sender_position != sender_position_;
  if (!plan.is_group || plan.flow_control == shm::FlowControl::kMax || has_sent) return;
  std::uint32_t count = 0;
  for (const shm::ReceiverState& r : state.receivers) {
    if (!r.is_flow_controlling) continue;
    ++count;
    if (r.last_sm_ns + plan.receiver_timeout_ns < verdict.now_ns) {
      verdict.fail("stream {}: a receiver silent since {} ns still holds the sender", plan.session_id, r.last_sm_ns);
    }
  }
  if (count != state.flow_receiver_count) verdict.fail("stream {}: {} receivers counted as {}", plan.session_id, count, state.flow_receiver_count);
}

void PublicationCheck::expect_wanted(const StreamPlan& plan, const shm::PublicationState& state, const std::map<std::int64_t, std::int64_t>& wanted_ns,
                                     std::int64_t attached_ns, Verdict& verdict) const {
  if (!plan.is_group || plan.flow_control == shm::FlowControl::kMax || has_sent_) return;
  for (const shm::ReceiverState& r : state.receivers) {
    if (!r.is_flow_controlling) continue;
    const auto last = wanted_ns.find(r.receiver_id);
    const std::int64_t since_ns = std::max(attached_ns, last == wanted_ns.end() ? 0 : last->second);
    if (since_ns + plan.receiver_timeout_ns < verdict.now_ns) {
      verdict.fail("stream {}: a receiver that was one of its group {} ms ago still holds the sender", plan.session_id, (verdict.now_ns - since_ns) / 1'000'000);
    }
  }
}

void PublicationCheck::after_turn(const StreamPlan& plan, const shm::PublicationState& state, const LogMemory& log, std::int64_t publisher_limit,
                                  Verdict& verdict) {
  // A relay goes back to where a receiver begins; nobody was there till then.
  const bool has_gone_back = state.start_position < start_position_ && !was_connected_;
  start_position_ = state.start_position;
  was_connected_ = state.is_connected != 0;
  if (state.sender_position < sender_position_ && !has_gone_back) verdict.fail("stream {}: sender position fell from {} to {}", plan.session_id, sender_position_, state.sender_position);
  check_receivers(plan, state, verdict);
  has_sent_ = state.sender_position != sender_position_;
  const bool may_fall = plan.is_group && plan.flow_control != shm::FlowControl::kMax;
  if (!may_fall && !has_gone_back && state.sender_limit < sender_limit_) {
    verdict.fail("stream {}: sender limit fell from {} to {}", plan.session_id, sender_limit_, state.sender_limit);
  }
  sender_position_ = state.sender_position;
  sender_limit_ = state.sender_limit;
  if (publisher_limit <= publisher_limit_) {
    publisher_limit_ = publisher_limit;  // pulled back: nobody listens, or the stream is closing
    return;
  }
  // Cleaned once is clean until a producer writes: only what was not exposed before is new.
  const std::int64_t exposed = publisher_limit + overshoot(plan);
  const std::int64_t written = shm::producer_position(log.view(), plan.initial_term_id);
  const std::int64_t dirty = log.first_dirty(std::max({written, clean_until_}), exposed);
  if (dirty >= 0) {
    verdict.fail("stream {}: publisher limit {} exposes memory that is not clean at {} (producer at {})", plan.session_id, publisher_limit, dirty, written);
  }
  clean_until_ = std::max(clean_until_, exposed);
  publisher_limit_ = publisher_limit;
}

void ImageCheck::on_sent(const StreamPlan& plan, const shm::ImageState& state, const LogMemory& log, std::int64_t slowest_reader,
                         std::span<const std::byte> datagram, Verdict& verdict) {
  const auto header = wire::FrameHeader::parse(datagram);
  if (!header) return verdict.fail("image of stream {}: sent an invalid datagram of {} bytes", plan.session_id, datagram.size());
  if (const auto sm = wire::StatusMessage::parse(datagram); header->type() == wire::FrameType::kStatusMessage && sm) {
    const std::int64_t position = position_of(sm->consumption_term_id, sm->consumption_term_offset, plan);
    if (!sm->valid_for(plan.term_length)) verdict.fail("image of stream {}: status message with fields out of range", plan.session_id);
    // One that was sent before is repeated, whoever has come since: a relay begins up to a term back.
    if (position > slowest_reader && position > sm_position_) {
      verdict.fail("image of stream {}: status message at {} ahead of the slowest reader {}", plan.session_id, position, slowest_reader);
    }
    if (position < sm_position_) verdict.fail("image of stream {}: status message fell from {} to {}", plan.session_id, sm_position_, position);
    sm_position_ = position;
  } else if (const auto nak = wire::Nak::parse(datagram); header->type() == wire::FrameType::kNak && nak) {
    const std::int64_t begin = position_of(nak->term_id, nak->term_offset, plan);
    if (!nak->valid_for(plan.term_length) || nak->length <= 0) verdict.fail("image of stream {}: NAK with fields out of range", plan.session_id);
    if (begin < state.rebuild_position || begin + nak->length > state.high_water) {
      return verdict.fail("image of stream {}: NAK [{}, {}) outside [{}, {})", plan.session_id, begin, begin + nak->length, state.rebuild_position,
                          state.high_water);
    }
    if (load_le<std::int32_t>(log.view().at(begin)) != 0) {
      verdict.fail("image of stream {}: NAK for {} which has arrived", plan.session_id, begin);
    }
  }
}

void ImageCheck::after_turn(const StreamPlan& plan, const shm::ImageState& state, const LogMemory& log, Verdict& verdict) {
  if (state.high_water < high_water_) verdict.fail("image of stream {}: high-water mark fell from {} to {}", plan.session_id, high_water_, state.high_water);
  if (state.rebuild_position < rebuild_position_) {
    verdict.fail("image of stream {}: rebuild position fell from {} to {}", plan.session_id, rebuild_position_, state.rebuild_position);
  }
  if (state.rebuild_position > state.high_water) {
    verdict.fail("image of stream {}: rebuild position {} beyond the high-water mark {}", plan.session_id, state.rebuild_position, state.high_water);
  }
  if (state.high_water > state.last_sm_position + plan.term_length / 2 + overshoot(plan)) {
    verdict.fail("image of stream {}: high-water mark {} more than half a term and a PAD beyond the last status message {}", plan.session_id,
                 state.high_water, state.last_sm_position);
  }
  high_water_ = state.high_water;
  rebuild_position_ = state.rebuild_position;
  // What a reader finds at the end of what is there, and a restarted lane in the gaps.
  if (log.first_dirty(state.high_water, state.high_water + wire::kFrameAlignment) >= 0) {
    verdict.fail("image of stream {}: no zero word at the high-water mark {}", plan.session_id, state.high_water);
  }
  for (unsigned g = 0; g < state.gap_count; ++g) {
    const std::int64_t end = state.gaps[g].position + state.gaps[g].length;
    const std::int64_t dirty = log.first_dirty(state.gaps[g].position, end);
    if (dirty >= 0) verdict.fail("image of stream {}: the gap up to {} is not zero at {}", plan.session_id, end, dirty);
  }
}

}  // namespace thalweg::sim
