#pragma once
#include <atomic>

#include "dataplane/base/bytes.hpp"
#include "pmd/port.hpp"

namespace thalweg::pmd {

// A count with one writer (a lane) and readers anywhere: a plain add, no locked instruction.
class Count {
 public:
  void add(std::uint64_t n) noexcept { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{};
};

// Statistics of one queue of a port without an ethdev behind it, kept by the lane that polls it.
struct alignas(kCacheLine) QueueCounters {
  Count rx_frames, rx_bytes, tx_frames, tx_bytes, rx_missed, rx_errors, tx_errors, rx_no_buffer;
  void add_to(PortStatistics& sum) const noexcept {
    sum.rx_frames += rx_frames.get();
    sum.rx_bytes += rx_bytes.get();
    sum.tx_frames += tx_frames.get();
    sum.tx_bytes += tx_bytes.get();
    sum.rx_missed += rx_missed.get();
    sum.rx_errors += rx_errors.get();
    sum.tx_errors += tx_errors.get();
    sum.rx_no_buffer += rx_no_buffer.get();
  }
};

}  // namespace thalweg::pmd
