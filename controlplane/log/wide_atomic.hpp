#pragma once
#include <bit>
#include <cstdint>

// 16 bytes compared and swapped at once (cmpxchg16b; part of the CPU baseline, docs/adr/0002-cpu-baseline.md). std::atomic_ref of that size calls
// libatomic, which may take a lock: of no use in memory shared by processes.
namespace thalweg::log {

struct alignas(16) WidePair {
  std::uint64_t first{};
  std::uint64_t second{};
  [[nodiscard]] bool operator==(const WidePair&) const = default;
};
__extension__ using Wide = unsigned __int128;

// Sequentially consistent. `*at` is 16-byte aligned. Returns what was there: equal to `expected` when it was replaced.
inline WidePair wide_compare_and_swap(WidePair* at, WidePair expected, WidePair desired) noexcept {
  return std::bit_cast<WidePair>(
      __sync_val_compare_and_swap(reinterpret_cast<Wide*>(at), std::bit_cast<Wide>(expected), std::bit_cast<Wide>(desired)));
}

}  // namespace thalweg::log
