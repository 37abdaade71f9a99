#include "dataplane/client/image.hpp"

#include "dataplane/client/detail/conductor.hpp"

namespace thalweg::client {

Image::Image(detail::ImageSpec spec) noexcept
    : log_{spec.mapping->log},
      position_counter_{spec.position_counter},
      next_{spec.join_position},
      position_{spec.join_position},
      correlation_id_{spec.correlation_id},
      subscription_registration_id_{spec.subscription_registration_id},
      join_position_{spec.join_position},
      session_id_{spec.session_id},
      stream_id_{spec.stream_id},
      position_counter_id_{spec.position_counter_id},
      source_identity_{std::move(spec.source_identity)},
      mapping_{std::move(spec.mapping)},
      cnc_{std::move(spec.cnc)},
      conductor_{std::move(spec.conductor)} {}

Result<> Image::reject(std::string_view reason) const {
  const auto conductor = conductor_.lock();
  if (conductor == nullptr || is_closed()) return fail(ErrorCode::kClosed, "the image is closed");
  return conductor->reject_image(correlation_id_, position(), reason);
}

Result<> Image::set_position(std::int64_t position) {
  if (is_closed()) return fail(ErrorCode::kClosed, "the image is closed");
  const std::int64_t term_end = (next_ >> log_.position_bits() << log_.position_bits()) + log_.term_length();
  if (position < next_ || position > term_end || position % frame::kAlignment != 0) {
    return fail(ErrorCode::kInvalidArgument, "position " + std::to_string(position) + " is not a multiple of 32 from " + std::to_string(next_) + " to " +
                                                 std::to_string(term_end));
  }
  publish_position(position);
  return {};
}

void Image::close() noexcept {
  if (is_closed()) return;
  final_end_of_stream_.store(log_.load<std::int64_t>(shm::meta::kEndOfStreamPosition), std::memory_order_release);
  final_position_.store(position_.load(std::memory_order_acquire), std::memory_order_release);
  is_closed_.store(true, std::memory_order_release);
}

Image::Block Image::scan_block(std::int32_t length_limit) noexcept {
  if (is_closed() || is_malformed()) return {};
  const std::int32_t begin = wire::term_offset_of(next_, log_.position_bits());
  const std::int32_t room = log_.term_length() - begin;
  const std::int32_t end = length_limit < room ? begin + (length_limit > 0 ? length_limit : 0) : log_.term_length();
  std::byte* term = log_.at(next_ - begin);
  const auto block = [&](std::int32_t length, std::int32_t visible) {
    return Block{term + begin, length, visible, wire::term_id_of(next_, mapping_->initial_term_id, log_.position_bits())};
  };
  std::int32_t offset = begin;
  while (offset < end) {
    const std::int32_t length = shm::frame_length_acquire(term + offset);  // pairs with the publisher's commit and the lane's insert
    if (length <= 0) break;
    if (length < frame::kHeaderLength || length > log_.term_length() - offset) {
      is_malformed_.store(true, std::memory_order_relaxed);
      break;
    }
    const std::int32_t aligned = frame::aligned(length);
    if (load_le<std::uint16_t>(term + offset + frame::kTypeOffset) == frame::kTypePad) {
      if (offset == begin) return block(aligned, frame::kHeaderLength);
      break;
    }
    if (aligned > end - offset) break;
    offset += aligned;
  }
  return block(offset - begin, offset - begin);
}

}  // namespace thalweg::client
