#include "dataplane/shm/broadcast.hpp"

#include <algorithm>
#include <atomic>
#include <bit>

#include "dataplane/base/wrap.hpp"

namespace thalweg::shm {
namespace {

constexpr std::size_t kHeaderLength = 8;
constexpr std::size_t kWord = 8;  // records are multiples of it
constexpr std::int32_t kPaddingTypeId = -1;

// Offsets inside the trailer (4.1).
constexpr std::size_t kTailIntent = 0;
constexpr std::size_t kTail = 8;
constexpr std::size_t kLatest = 16;

std::atomic_ref<std::int64_t> position_at(std::byte* p) noexcept { return std::atomic_ref<std::int64_t>{*reinterpret_cast<std::int64_t*>(p)}; }

// A receiver may copy a record while it is overwritten, and finds out afterwards. So records move as 64-bit words: release keeps the
// tail intent in front of them, acquire keeps the second look at the tail intent behind them. On x86 these are plain moves.
std::uint64_t load_word(const std::byte* p) noexcept {
  return std::atomic_ref<std::uint64_t>{*reinterpret_cast<std::uint64_t*>(const_cast<std::byte*>(p))}.load(std::memory_order_acquire);
}
void store_word(std::byte* p, std::uint64_t word) noexcept {
  std::atomic_ref<std::uint64_t>{*reinterpret_cast<std::uint64_t*>(p)}.store(word, std::memory_order_release);
}

void put_header(std::byte* record, std::int32_t type_id, std::size_t length) noexcept {
  store_word(record, static_cast<std::uint64_t>(static_cast<std::uint32_t>(type_id)) << 32 | static_cast<std::uint32_t>(length));
}

void put_body(std::byte* body, std::span<const std::byte> message) noexcept {
  for (std::size_t at = 0; at < message.size(); at += kWord) {
    std::uint64_t word = 0;
    std::memcpy(&word, message.data() + at, std::min(kWord, message.size() - at));
    store_word(body + at, word);
  }
}

}  // namespace

BroadcastTransmitter::BroadcastTransmitter(std::span<std::byte> section) noexcept
    : data_{section.data()},
      trailer_{section.data() + section.size() - kBroadcastTrailerLength},
      capacity_{section.size() - kBroadcastTrailerLength} {}

bool BroadcastTransmitter::is_valid_length(std::size_t section_length) noexcept {
  return section_length > kBroadcastTrailerLength && std::has_single_bit(section_length - kBroadcastTrailerLength) &&
         section_length - kBroadcastTrailerLength >= 1024;
}

std::size_t BroadcastTransmitter::max_message_length() const noexcept { return capacity_ / 8; }

bool BroadcastTransmitter::transmit(std::int32_t type_id, std::span<const std::byte> message) noexcept {
  if (message.size() > max_message_length()) return false;
  // Clients can write the trailer: whatever stands there, the record stays aligned and inside the data.
  std::int64_t tail = position_at(trailer_ + kTail).load(std::memory_order_relaxed) & ~std::int64_t{kWord - 1};
  std::size_t offset = static_cast<std::size_t>(tail) & (capacity_ - 1);
  const std::size_t length = kHeaderLength + message.size();
  const std::size_t aligned = align_up(length, kWord);
  const std::size_t to_end = capacity_ - offset;
  const std::size_t padding = to_end < aligned ? to_end : 0;
  const auto advance = [](std::int64_t position, std::size_t bytes) {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(position) + bytes);
  };
  position_at(trailer_ + kTailIntent).store(advance(tail, padding + aligned), std::memory_order_release);
  if (padding != 0) {
    put_header(data_ + offset, kPaddingTypeId, padding);
    tail = advance(tail, padding);
    offset = 0;
  }
  put_header(data_ + offset, type_id, length);
  put_body(data_ + offset + kHeaderLength, message);
  position_at(trailer_ + kLatest).store(tail, std::memory_order_release);
  position_at(trailer_ + kTail).store(advance(tail, aligned), std::memory_order_release);
  return true;
}

BroadcastReceiver::BroadcastReceiver(std::span<std::byte> section)
    : data_{section.data()},
      trailer_{section.data() + section.size() - kBroadcastTrailerLength},
      capacity_{section.size() - kBroadcastTrailerLength},
      scratch_(capacity_ / 8 + kWord) {
  cursor_ = next_ = position_at(trailer_ + kLatest).load(std::memory_order_acquire);
}

bool BroadcastReceiver::receive(std::int32_t& type_id, std::span<const std::byte>& body) noexcept {
  const auto capacity = static_cast<std::int64_t>(capacity_);
  const auto is_lapped = [&](std::int64_t position) {
    return wrapping_sub(position_at(trailer_ + kTailIntent).load(std::memory_order_acquire), position) > capacity;
  };
  // Twice: a jump to the latest record, or over padding, leads to a record that is read at once. More is left to the next call.
  for (int attempt = 0; attempt < 2; ++attempt) {
    const std::int64_t tail = position_at(trailer_ + kTail).load(std::memory_order_acquire);
    if (wrapping_sub(tail, next_) <= 0) return false;
    if (is_lapped(next_)) {
      ++lapped_;
      next_ = position_at(trailer_ + kLatest).load(std::memory_order_acquire);
    }
    cursor_ = next_;
    std::size_t offset = static_cast<std::size_t>(cursor_) & (capacity_ - 1) & ~(kWord - 1);
    std::uint64_t header = load_word(data_ + offset);
    if (static_cast<std::int32_t>(header >> 32) == kPaddingTypeId) {
      cursor_ = wrapping_add(cursor_, static_cast<std::int64_t>(capacity_ - offset));
      offset = 0;
      header = load_word(data_);
    }
    const auto length = static_cast<std::int32_t>(header);
    const std::size_t body_length = std::clamp<std::size_t>(length < 8 ? 8 : static_cast<std::size_t>(length), kHeaderLength,
                                                            std::min(kHeaderLength + capacity_ / 8, capacity_ - offset)) - kHeaderLength;
    const std::byte* const p = data_ + offset + kHeaderLength;
    for (std::size_t at = 0; at < body_length; at += kWord) store_le(scratch_.data() + at, load_word(p + at));
    next_ = wrapping_add(cursor_, static_cast<std::int64_t>(align_up(kHeaderLength + body_length, kWord)));
    if (is_lapped(cursor_)) {
      ++lapped_;
      next_ = position_at(trailer_ + kLatest).load(std::memory_order_acquire);
      continue;
    }
    type_id = static_cast<std::int32_t>(header >> 32);
    body = {scratch_.data(), body_length};
    return true;
  }
  return false;
}

}  // namespace thalweg::shm
