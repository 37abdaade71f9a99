#pragma once
#include <functional>
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

  // Consumer, every timer tick: frees the ring from a producer that died inside a claim (3.5). True: unblocked, count it.
  bool unblock() noexcept;

  [[nodiscard]] std::int64_t next_correlation_id() noexcept;  // fetch-add 1 (3.6)
  void consumer_heartbeat(std::int64_t epoch_ms) noexcept;    // release
  [[nodiscard]] std::int64_t consumer_heartbeat() const noexcept;
  [[nodiscard]] std::int64_t producer_position() const noexcept;
  [[nodiscard]] std::int64_t consumer_position() const noexcept;

 private:
  struct Record { std::int32_t type_id; std::span<const std::byte> body; std::int64_t next; };
  std::byte* data_{};
  std::byte* trailer_{};
  std::size_t capacity_{};
};

}  // namespace thalweg::shm
