#pragma once
#include <algorithm>
#include <atomic>
#include <span>

#include "dataplane/base/bytes.hpp"

// To-driver ring: many producers in many processes, one consumer (client-protocol section 3). A view over shared memory; byte-exact.
namespace thalweg::shm {

inline constexpr std::size_t kRingTrailerLength = 768;

class ManyToOneRing {
 public:
  ManyToOneRing() noexcept = default;
  // `section` = data (power of two) + 768-byte trailer.
  explicit ManyToOneRing(std::span<std::byte> section) noexcept;
  [[nodiscard]] static bool is_valid_length(std::size_t section_length) noexcept;

  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }                 // bytes of data
  [[nodiscard]] std::size_t max_message_length() const noexcept { return capacity_ / 8; }   // bytes

  // Producer. Copies one message. False: full or too long; nothing written. Any thread, any process.
  bool write(std::int32_t type_id, std::span<const std::byte> message) noexcept;

  // Consumer: up to `limit` messages to `handler(type_id, body)`; a handler that returns false leaves its message in the ring (retried
  // next time). Consumed bytes are zeroed, then the head moves. Returns messages consumed. One thread.
  template <typename Handler>
  int read(Handler&& handler, int limit) noexcept;

  // Consumer that takes over from one that died: messages that this one had read, and was taking out of the ring, are taken out. What they said
  // may be gone already, so nobody could read them again or tell how long they were.
  void finish_release() noexcept;
  // Consumer, every timer tick: frees the ring from a producer that died inside a claim (3.5). True: unblocked, count it.
  bool unblock() noexcept;

  [[nodiscard]] std::int64_t next_correlation_id() noexcept;  // fetch-add 1 (3.6)
  void consumer_heartbeat(std::int64_t epoch_ms) noexcept;    // release
  [[nodiscard]] std::int64_t consumer_heartbeat() const noexcept;
  [[nodiscard]] std::int64_t producer_position() const noexcept;
  [[nodiscard]] std::int64_t consumer_position() const noexcept;

 private:
  static constexpr std::size_t kHeaderLength = 8;
  static constexpr std::int32_t kPaddingTypeId = -1;

  // Offsets inside the trailer (3.1).
  static constexpr std::size_t kTail = 128;
  static constexpr std::size_t kHeadCache = 256;
  static constexpr std::size_t kHead = 384;
  static constexpr std::size_t kReleasing = 392;  // ours, in the padding behind it: where the head is about to be
  static constexpr std::size_t kCorrelationCounter = 512;
  static constexpr std::size_t kConsumerHeartbeat = 640;

  [[nodiscard]] std::atomic_ref<std::int64_t> trailer(std::size_t offset) const noexcept {
    return std::atomic_ref<std::int64_t>{*reinterpret_cast<std::int64_t*>(trailer_ + offset)};
  }
  [[nodiscard]] std::atomic_ref<std::int32_t> length_at(std::size_t index) const noexcept {
    return std::atomic_ref<std::int32_t>{*reinterpret_cast<std::int32_t*>(data_ + index)};
  }
  // Positions are shared memory too: an index is always 8-aligned and inside the data.
  [[nodiscard]] std::size_t index_of(std::int64_t position) const noexcept {
    return static_cast<std::size_t>(position) & (capacity_ - 1) & ~std::size_t{7};
  }
  // Bytes that may be read from `head` on: claimed by producers, up to the end of the data.
  [[nodiscard]] std::size_t readable(std::int64_t head) const noexcept;
  // Whether a record begins in these bytes of the data.
  [[nodiscard]] bool has_written(std::size_t begin, std::size_t end) const noexcept;
  [[nodiscard]] bool claim(std::size_t required, std::size_t& index) noexcept;
  void release(std::int64_t head, std::size_t bytes) noexcept;

  std::byte* data_{};
  std::byte* trailer_{};
  std::size_t capacity_{};
};

template <typename Handler>
int ManyToOneRing::read(Handler&& handler, int limit) noexcept {
  const std::int64_t head = trailer(kHead).load(std::memory_order_relaxed);
  const std::size_t begin = index_of(head);
  const std::size_t available = readable(head);
  std::size_t consumed = 0;
  int messages = 0;
  while (messages < limit && consumed < available) {
    const std::int32_t length = length_at(begin + consumed).load(std::memory_order_acquire);  // pairs with the commit in write()
    if (length <= 0) break;
    // A length that no producer of ours can have written is cut to what was claimed; what follows it is lost, the ring is not.
    const std::size_t room = available - consumed;
    const std::size_t record = std::clamp<std::size_t>(align_up(static_cast<std::size_t>(length), kHeaderLength), kHeaderLength, room);
    const std::byte* const p = data_ + begin + consumed;
    const auto type_id = load_le<std::int32_t>(p + 4);
    if (type_id != kPaddingTypeId) {
      const std::size_t body = std::clamp<std::size_t>(static_cast<std::size_t>(length), kHeaderLength, room) - kHeaderLength;
      if (!handler(type_id, std::span<const std::byte>{p + kHeaderLength, body})) break;
      ++messages;
    }
    consumed += record;
  }
  if (consumed != 0) release(head, consumed);
  return messages;
}

}  // namespace thalweg::shm
