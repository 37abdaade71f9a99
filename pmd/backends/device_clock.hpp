#pragma once
#include <atomic>
#include <cstdint>

#include "dataplane/base/bytes.hpp"

struct rte_mbuf;

namespace thalweg::pmd {

// Where a driver puts the ticks, and the flag of frames that have them (rte_mbuf_dyn_rx_timestamp_register).
struct DeviceTimestampField {
  int offset{-1};
  std::uint64_t flag{};
};

// The clock of a device, whose unit and start are its own, in nanoseconds since the epoch: the steward reads both clocks together from time
// to time, lanes convert what the device noted in frames.
class DeviceClock {
 public:
  // Two readings of one moment. Steward.
  void add(std::uint64_t ticks, std::int64_t epoch_ns) noexcept;
  // 0: how fast it runs is not known yet. Any thread (a sequence lock; the writer is rare and short).
  [[nodiscard]] std::int64_t to_epoch_ns(std::uint64_t ticks) const noexcept;
  // Gives each frame that the device put a time into its arrival (arrival.hpp). Lanes.
  void note_arrivals(const DeviceTimestampField& field, rte_mbuf** frames, std::uint16_t count) const noexcept;

 private:
  // Readings closer together than this say little about the rate.
  static constexpr std::int64_t kApart_ns = 10'000'000;
  [[nodiscard]] bool is_plausible(std::uint64_t factor) const noexcept;

  alignas(kCacheLine) std::atomic<std::uint32_t> sequence_{};
  std::atomic<std::uint64_t> ticks_{};
  std::atomic<std::int64_t> epoch_ns_{};
  std::atomic<std::uint64_t> factor_{};   // ns per tick, 32.32 fixed point; 0: not known
  bool has_reading_{};
};

}  // namespace thalweg::pmd
