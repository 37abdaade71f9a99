#pragma once
#include <array>
#include <atomic>

#include "dataplane/base/bytes.hpp"

namespace thalweg::core {

// Bounded queue from one thread to one other of this process. Neither side waits.
template <typename T, std::uint32_t kCapacity>
class SpscRing {
  static_assert((kCapacity & (kCapacity - 1)) == 0);

 public:
  // Producer. False: full, nothing stored.
  bool push(const T& value) noexcept {
    const std::uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ == kCapacity) {
      head_seen_ = head_.load(std::memory_order_acquire);  // pairs with the release in pop()
      if (tail - head_seen_ == kCapacity) return false;
    }
    values_[tail % kCapacity] = value;
    tail_.store(tail + 1, std::memory_order_release);  // pairs with the acquire in pop()
    return true;
  }
  // Consumer. False: empty.
  bool pop(T& value) noexcept {
    const std::uint32_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);  // pairs with the release in push()
      if (head == tail_seen_) return false;
    }
    value = values_[head % kCapacity];
    head_.store(head + 1, std::memory_order_release);  // pairs with the acquire in push()
    return true;
  }
  // Either side; a hint for the other.
  [[nodiscard]] bool is_empty() const noexcept {
    return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_acquire);
  }

 private:
  alignas(kCacheLine) std::atomic<std::uint32_t> tail_{};
  std::uint32_t head_seen_{};   // producer's copy
  alignas(kCacheLine) std::atomic<std::uint32_t> head_{};
  std::uint32_t tail_seen_{};   // consumer's copy
  alignas(kCacheLine) std::array<T, kCapacity> values_{};
};

}  // namespace thalweg::core
