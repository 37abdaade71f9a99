#include "tests/sim/reader.hpp"

#include <algorithm>

#include "dataplane/wire/frames.hpp"
#include "dataplane/wire/positions.hpp"

namespace thalweg::sim {

void Reader::join(std::int64_t position) {
  position_ = join_position_ = position;
  next_record_ = ledger_.find(position);
  has_joined_ = true;
}

std::int64_t Reader::next_due_ns(std::int64_t now_ns) const noexcept {
  if (!has_joined_ || is_closed_) return INT64_MAX;
  const std::byte* frame = log_.at(position_);
  if (load_le<std::int32_t>(frame) <= 0) return plan_.die_at_ns > now_ns ? plan_.die_at_ns : INT64_MAX;  // nothing to read: somebody else acts first
  return next_poll_ns_;
}

bool Reader::poll(std::int64_t now_ns) {
  if (!has_joined_ || is_closed_ || now_ns < next_poll_ns_) return false;
  next_poll_ns_ = is_fast_ ? now_ns : now_ns + plan_.poll_interval_ns;
  if (!has_paused_ && now_ns >= plan_.pause_at_ns) {
    has_paused_ = true;
    verdict_.faults.add(Fault::kReaderPaused);
    next_poll_ns_ = now_ns + plan_.pause_ns;
    return true;
  }
  const int bits = log_.position_bits();
  const std::int64_t term_end = ((position_ >> bits) + 1) << bits;
  const std::int64_t limit = is_fast_ ? term_end : std::min(term_end, position_ + plan_.bytes_per_poll);
  const std::int64_t before = position_;
  while (position_ < limit && !verdict_.has_failed()) {
    std::byte* frame = log_.at(position_);
    const std::int32_t length = shm::frame_length_acquire(frame);
    if (length <= 0) break;
    if (position_ + wire::align_frame(length) > term_end) {
      verdict_.fail("stream {}: frame of {} bytes at {} crosses the end of its term", stream_.session_id, length, position_);
      break;
    }
    take(frame, length);
    position_ += wire::align_frame(length);
  }
  return position_ != before;
}

void Reader::take(std::byte* frame, std::int32_t length) {
  const wire::DataView view{frame};
  if (view.type() == wire::FrameType::kPad) return;
  const int bits = log_.position_bits();
  if (view.type() != wire::FrameType::kData || view.session_id() != stream_.session_id || view.stream_id() != stream_.stream_id ||
      view.term_id() != wire::term_id_of(position_, stream_.initial_term_id, bits) || view.term_offset() != wire::term_offset_of(position_, bits)) {
    return verdict_.fail("stream {}: foreign frame at {}: type {} session {} stream {} term {} offset {} length {}", stream_.session_id, position_,
                         static_cast<int>(view.type()), view.session_id(), view.stream_id(), view.term_id(), view.term_offset(), length);
  }
  const std::span<const std::byte> payload{frame + wire::kDataHeaderLength, static_cast<std::size_t>(length - wire::kDataHeaderLength)};
  if ((view.flags() & wire::flag::kBegin) != 0) {
    message_.assign(payload.begin(), payload.end());
    message_start_ = position_;
  } else if (expected_fragment_ == position_) {
    message_.insert(message_.end(), payload.begin(), payload.end());
  } else {
    expected_fragment_ = -1;
    return;  // the rest of a message whose beginning was not seen
  }
  expected_fragment_ = position_ + wire::align_frame(length);
  if ((view.flags() & wire::flag::kEnd) != 0) {
    expected_fragment_ = -1;
    deliver(message_start_);
  }
}

void Reader::deliver(std::int64_t start_position) {
  while (next_record_ < ledger_.size() && (ledger_.at(next_record_).is_dead || (may_skip() && ledger_.at(next_record_).position < start_position))) {
    ++next_record_;
  }
  if (next_record_ >= ledger_.size()) return verdict_.fail("stream {}: a message at {} that nobody sent", stream_.session_id, start_position);
  const Record& expected = ledger_.at(next_record_++);
  if (expected.position != start_position) {
    return verdict_.fail("stream {}: expected message {} at {}, got one at {}", stream_.session_id, expected.sequence, expected.position, start_position);
  }
  if (static_cast<std::size_t>(expected.length) != message_.size() || !ledger_.is_message(expected.sequence, message_)) {
    return verdict_.fail("stream {}: message {} at {} differs ({} bytes sent, {} received)", stream_.session_id, expected.sequence, start_position,
                         expected.length, message_.size());
  }
  ++messages_;
}

bool Reader::is_complete() const noexcept {
  for (std::size_t i = next_record_; i < ledger_.size(); ++i) {
    if (!ledger_.at(i).is_dead) return false;
  }
  return true;
}

}  // namespace thalweg::sim
