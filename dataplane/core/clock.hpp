#pragma once
#include <atomic>
#include <cstdint>

#include "dataplane/base/bytes.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::core {

__extension__ typedef __int128 Int128;

// Monotonic nanoseconds from the time-stamp counter. The steward measures the rate against CLOCK_MONOTONIC and refreshes it about once a
// second (the rate DPDK reports is rounded to 10 MHz); lanes read it without a system call, once per turn.
class TscClock {
 public:
  // One line: base points, ticks-to-ns factor in 32.32 fixed point, and what makes it the time of day.
  struct Calibration {
    std::uint64_t tsc{};
    std::int64_t ns{};
    std::uint64_t factor{};
    std::int64_t epoch_offset_ns{};   // the realtime clock less this one
    [[nodiscard]] std::int64_t to_ns(std::uint64_t now_tsc) const noexcept {
      const auto ticks = static_cast<std::int64_t>(now_tsc - tsc);
      return ns + static_cast<std::int64_t>((static_cast<Int128>(ticks) * static_cast<std::int64_t>(factor)) >> 32);
    }
  };
  [[nodiscard]] static std::uint64_t read_tsc() noexcept { return __builtin_ia32_rdtsc(); }

  // Steward. start() measures for about 10 ms; refresh() uses the time since start().
  void start() noexcept;
  void refresh() noexcept;
  // Any thread: a consistent copy (a sequence lock; the writer is rare and short).
  [[nodiscard]] Calibration calibration() const noexcept;
  [[nodiscard]] std::uint32_t version() const noexcept { return sequence_.load(std::memory_order_acquire); }

 private:
  void store(const Calibration& calibration) noexcept;
  alignas(kCacheLine) std::atomic<std::uint32_t> sequence_{};
  std::atomic<std::uint64_t> tsc_{};
  std::atomic<std::int64_t> ns_{};
  std::atomic<std::uint64_t> factor_{};
  std::atomic<std::int64_t> epoch_offset_ns_{};
  std::uint64_t first_tsc_{};
  std::int64_t first_ns_{};
};

}  // namespace thalweg::core
