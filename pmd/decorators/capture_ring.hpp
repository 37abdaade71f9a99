#pragma once
#include <rte_mbuf.h>

#include <atomic>
#include <cstring>
#include <memory>

#include "pmd/decorators/pcapng.hpp"
#include "pmd/queue_counters.hpp"

namespace thalweg::pmd {

// Frames on their way from a lane to the thread that writes them: one producer, one consumer, records of 8-byte granularity in a ring of bytes.
// What does not fit is counted, never waited for.
class CaptureRing {
 public:
  static constexpr std::size_t kBytes = 1U << 20;  // of each queue and direction: 10000 small frames, some milliseconds at full rate

  CaptureRing(Direction direction, std::uint32_t snap_length)
      : direction_{direction}, snap_length_{snap_length}, bytes_{new std::byte[kBytes]} {}

  // Lane. Copies one frame behind those already there; the consumer sees it once it is published. Answers where the ring then ends.
  std::uint64_t write(const rte_mbuf* frame, std::int64_t epoch_ns) noexcept {
    const std::uint32_t length = std::min(frame->pkt_len, snap_length_);
    const std::uint64_t needed = sizeof(Head) + ((length + 7) & ~7U);
    if (written_ + needed - known_read_ > kBytes) known_read_ = read_.load(std::memory_order_acquire);  // pairs with pop()
    if (written_ + needed - known_read_ > kBytes) {
      ++pending_drops_;
      dropped_.add(1);
      return written_;
    }
    const Head head{.epoch_ns = epoch_ns, .length = length, .original_length = frame->pkt_len, .dropped_before = pending_drops_, .unused = 0};
    pending_drops_ = 0;
    copy_in(written_, &head, sizeof head);
    std::uint64_t at = written_ + sizeof head;
    std::uint32_t left = length;
    for (const rte_mbuf* segment = frame; segment != nullptr && left != 0; segment = segment->next) {
      const std::uint32_t part = std::min<std::uint32_t>(left, segment->data_len);
      copy_in(at, rte_pktmbuf_mtod(segment, const void*), part);
      at += part;
      left -= part;
    }
    return written_ += needed;
  }
  // Lane. Shows the consumer everything up to `end`, an answer of write(); what was written behind it is forgotten.
  void publish(std::uint64_t end) noexcept {
    written_ = end;
    published_.store(end, std::memory_order_release);  // pairs with peek()
  }
  [[nodiscard]] std::uint64_t end() const noexcept { return written_; }

  // Writer. The oldest frame, its bytes copied to `scratch`; false when there is none.
  [[nodiscard]] bool peek(CapturedFrame& frame, std::vector<std::byte>& scratch) const {
    const std::uint64_t at = read_.load(std::memory_order_relaxed);
    if (published_.load(std::memory_order_acquire) == at) return false;  // pairs with publish()
    Head head;
    copy_out(at, &head, sizeof head);
    scratch.resize(head.length);
    copy_out(at + sizeof head, scratch.data(), head.length);
    frame = {.epoch_ns = head.epoch_ns,
             .bytes = scratch,
             .original_length = head.original_length,
             .dropped_before = head.dropped_before,
             .direction = direction_};
    return true;
  }
  // Writer. When the oldest frame was seen, INT64_MAX when there is none.
  [[nodiscard]] std::int64_t oldest_ns() const noexcept {
    const std::uint64_t at = read_.load(std::memory_order_relaxed);
    if (published_.load(std::memory_order_acquire) == at) return INT64_MAX;
    std::int64_t epoch_ns;
    copy_out(at, &epoch_ns, sizeof epoch_ns);
    return epoch_ns;
  }
  // Writer. Forgets the frame that peek() gave.
  void pop(std::uint32_t length) noexcept {
    read_.store(read_.load(std::memory_order_relaxed) + sizeof(Head) + ((length + 7) & ~7U), std::memory_order_release);  // pairs with write()
  }
  // Anywhere.
  [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_.get(); }

 private:
  struct Head {
    std::int64_t epoch_ns;  // first: oldest_ns() reads it alone
    std::uint32_t length;
    std::uint32_t original_length;
    std::uint32_t dropped_before;
    std::uint32_t unused;
  };
  static_assert(sizeof(Head) % 8 == 0);

  void copy_in(std::uint64_t at, const void* from, std::size_t count) noexcept {
    const std::size_t offset = at & (kBytes - 1), first = std::min(count, kBytes - offset);
    std::memcpy(bytes_.get() + offset, from, first);
    std::memcpy(bytes_.get(), static_cast<const std::byte*>(from) + first, count - first);
  }
  void copy_out(std::uint64_t at, void* to, std::size_t count) const noexcept {
    const std::size_t offset = at & (kBytes - 1), first = std::min(count, kBytes - offset);
    std::memcpy(to, bytes_.get() + offset, first);
    std::memcpy(static_cast<std::byte*>(to) + first, bytes_.get(), count - first);
  }

  const Direction direction_;
  const std::uint32_t snap_length_;
  const std::unique_ptr<std::byte[]> bytes_;
  alignas(kCacheLine) std::uint64_t written_{};  // lane
  std::uint64_t known_read_{};
  std::uint32_t pending_drops_{};
  Count dropped_;
  std::atomic<std::uint64_t> published_{};
  alignas(kCacheLine) std::atomic<std::uint64_t> read_{};  // writer
};

}  // namespace thalweg::pmd
