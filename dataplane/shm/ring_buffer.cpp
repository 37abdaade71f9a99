#include "dataplane/shm/ring_buffer.hpp"

#include <bit>
#include <limits>

#include "dataplane/base/wrap.hpp"
#include "dataplane/shm/fence.hpp"

namespace thalweg::shm {

ManyToOneRing::ManyToOneRing(std::span<std::byte> section) noexcept
    : data_{section.data()}, trailer_{section.data() + section.size() - kRingTrailerLength}, capacity_{section.size() - kRingTrailerLength} {}

bool ManyToOneRing::is_valid_length(std::size_t section_length) noexcept {
  return section_length > kRingTrailerLength && std::has_single_bit(section_length - kRingTrailerLength) &&
         section_length - kRingTrailerLength >= 1024;
}

// Client-protocol 3.3, steps 1 to 5.
bool ManyToOneRing::claim(std::size_t required, std::size_t& index) noexcept {
  const auto capacity = static_cast<std::int64_t>(capacity_);
  const auto needed = static_cast<std::int64_t>(required);
  std::int64_t head = trailer(kHeadCache).load(std::memory_order_acquire);
  std::int64_t tail = trailer(kTail).load(std::memory_order_acquire);
  const auto is_short = [&] { return needed > wrapping_sub(capacity, wrapping_sub(tail, head)); };
  for (;;) {
    if (is_short()) {
      head = trailer(kHead).load(std::memory_order_acquire);  // pairs with release()
      if (is_short()) return false;
      trailer(kHeadCache).store(head, std::memory_order_release);
    }
    index = index_of(tail);
    const std::size_t to_end = capacity_ - index;
    const std::size_t padding = required > to_end ? to_end : 0;
    if (padding != 0 && required > index_of(head)) {
      head = trailer(kHead).load(std::memory_order_acquire);
      if (required > index_of(head)) return false;
      trailer(kHeadCache).store(head, std::memory_order_release);
    }
    const std::int64_t next = wrapping_add(tail, needed + static_cast<std::int64_t>(padding));
    if (!trailer(kTail).compare_exchange_weak(tail, next, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    if (padding != 0) {
      length_at(index).store(-static_cast<std::int32_t>(padding), std::memory_order_release);
      store_fence();
      store_le(data_ + index + 4, kPaddingTypeId);
      length_at(index).store(static_cast<std::int32_t>(padding), std::memory_order_release);
      index = 0;
    }
    return true;
  }
}

bool ManyToOneRing::write(std::int32_t type_id, std::span<const std::byte> message) noexcept {
  if (type_id < 1 || message.size() > max_message_length()) return false;
  const auto length = static_cast<std::int32_t>(kHeaderLength + message.size());
  std::size_t index = 0;
  if (!claim(align_up(static_cast<std::size_t>(length), kHeaderLength), index)) return false;
  length_at(index).store(-length, std::memory_order_release);
  store_fence();  // unblock() relies on a claim showing its length before any of its body
  store_le(data_ + index + 4, type_id);
  if (!message.empty()) std::memcpy(data_ + index + kHeaderLength, message.data(), message.size());
  length_at(index).store(length, std::memory_order_release);  // pairs with the acquire in read()
  return true;
}

std::size_t ManyToOneRing::readable(std::int64_t head) const noexcept {
  const std::uint64_t claimed = static_cast<std::uint64_t>(producer_position()) - static_cast<std::uint64_t>(head);
  if (claimed > capacity_) return 0;  // positions that cannot be: somebody scribbled over the trailer
  return std::min(static_cast<std::size_t>(claimed), capacity_ - index_of(head)) & ~std::size_t{7};
}

void ManyToOneRing::release(std::int64_t head, std::size_t bytes) noexcept {
  trailer(kReleasing).store(wrapping_add(head, static_cast<std::int64_t>(bytes)), std::memory_order_relaxed);
  store_fence();  // known before the first byte is gone
  std::memset(data_ + index_of(head), 0, bytes);
  trailer(kHead).store(wrapping_add(head, static_cast<std::int64_t>(bytes)), std::memory_order_release);  // pairs with the acquire in claim()
}

void ManyToOneRing::finish_release() noexcept {
  const std::int64_t head = consumer_position();
  const std::int64_t bytes = wrapping_sub(trailer(kReleasing).load(std::memory_order_relaxed), head);
  if (bytes > 0 && bytes % static_cast<std::int64_t>(kHeaderLength) == 0 && static_cast<std::size_t>(bytes) <= readable(head)) release(head, static_cast<std::size_t>(bytes));
}

bool ManyToOneRing::has_written(std::size_t begin, std::size_t end) const noexcept {
  for (std::size_t i = begin; i < end; i += kHeaderLength) {
    if (length_at(i).load(std::memory_order_acquire) != 0) return true;
  }
  return false;
}

bool ManyToOneRing::unblock() noexcept {
  const std::int64_t head = consumer_position();
  const std::size_t begin = index_of(head);
  const std::size_t end = begin + readable(head);
  if (end == begin) return false;
  const auto pad = [this, begin](std::size_t length) {
    store_le(data_ + begin + 4, kPaddingTypeId);
    length_at(begin).store(static_cast<std::int32_t>(length), std::memory_order_release);
    return true;
  };
  const std::int32_t length = length_at(begin).load(std::memory_order_acquire);
  if (length > 0) return false;
  if (length < 0) {
    const std::int64_t claimed = -static_cast<std::int64_t>(length);
    return pad(static_cast<std::size_t>(std::clamp<std::int64_t>(claimed, kHeaderLength, static_cast<std::int64_t>(end - begin))));
  }
  std::size_t next = begin + kHeaderLength;
  while (next < end && length_at(next).load(std::memory_order_acquire) == 0) next += kHeaderLength;
  // Nothing as far as the buffer goes: a producer that died before it padded that end would block the ring for good. What others wrote at the
  // start of the buffer since shows that its claim goes no further than here. The specification has no way out of this one.
  if (next >= end && (end != capacity_ || !has_written(0, begin))) return false;
  for (std::size_t i = next; i > begin; i -= kHeaderLength) {  // a producer that woke up meanwhile shows here
    if (length_at(i - kHeaderLength).load(std::memory_order_acquire) != 0) return false;
  }
  return pad(next - begin);
}

std::int64_t ManyToOneRing::next_correlation_id() noexcept { return trailer(kCorrelationCounter).fetch_add(1); }
void ManyToOneRing::consumer_heartbeat(std::int64_t epoch_ms) noexcept {
  trailer(kConsumerHeartbeat).store(epoch_ms, std::memory_order_release);
}
std::int64_t ManyToOneRing::consumer_heartbeat() const noexcept { return trailer(kConsumerHeartbeat).load(std::memory_order_acquire); }
std::int64_t ManyToOneRing::producer_position() const noexcept { return trailer(kTail).load(std::memory_order_acquire); }
std::int64_t ManyToOneRing::consumer_position() const noexcept { return trailer(kHead).load(std::memory_order_acquire); }

}  // namespace thalweg::shm
