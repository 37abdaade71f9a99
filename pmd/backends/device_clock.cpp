#include "pmd/backends/device_clock.hpp"

#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>

#include "pmd/arrival.hpp"

namespace thalweg::pmd {
namespace {

__extension__ typedef __int128 Int128;

}  // namespace

// Somebody set the time of day meanwhile: the device runs on as it did.
bool DeviceClock::is_plausible(std::uint64_t factor) const noexcept {
  constexpr std::uint64_t kPartsMax = 1'000;  // of a million; crystals differ by a tenth of that
  const std::uint64_t known = factor_.load(std::memory_order_relaxed);
  if (known == 0) return true;
  const std::uint64_t difference = factor > known ? factor - known : known - factor;
  return static_cast<Int128>(difference) * 1'000'000 <= static_cast<Int128>(known) * kPartsMax;
}

void DeviceClock::add(std::uint64_t ticks, std::int64_t epoch_ns) noexcept {
  const std::uint64_t elapsed_ticks = ticks - ticks_.load(std::memory_order_relaxed);
  const std::int64_t elapsed_ns = epoch_ns - epoch_ns_.load(std::memory_order_relaxed);
  std::uint64_t factor = factor_.load(std::memory_order_relaxed);
  if (has_reading_) {
    const bool is_backwards = elapsed_ns < 0 && factor != 0;
    if (elapsed_ns < kApart_ns && !is_backwards) return;
    const auto measured = elapsed_ticks == 0 ? Int128{0} : (static_cast<Int128>(elapsed_ns) << 32) / static_cast<Int128>(elapsed_ticks);
    const bool is_usable = measured > 0 && measured <= INT64_MAX && is_plausible(static_cast<std::uint64_t>(measured));
    if (is_usable) factor = static_cast<std::uint64_t>(measured);
  }
  has_reading_ = true;
  const std::uint32_t s = sequence_.load(std::memory_order_relaxed);
  sequence_.store(s + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);  // pairs with the acquire fence in to_epoch_ns()
  ticks_.store(ticks, std::memory_order_relaxed);
  epoch_ns_.store(epoch_ns, std::memory_order_relaxed);
  factor_.store(factor, std::memory_order_relaxed);
  sequence_.store(s + 2, std::memory_order_release);
}

std::int64_t DeviceClock::to_epoch_ns(std::uint64_t ticks) const noexcept {
  for (;;) {
    const std::uint32_t before = sequence_.load(std::memory_order_acquire);
    const std::uint64_t base = ticks_.load(std::memory_order_relaxed);
    const std::int64_t base_ns = epoch_ns_.load(std::memory_order_relaxed);
    const std::uint64_t factor = factor_.load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);  // pairs with the release fence in add()
    if ((before & 1U) != 0 || sequence_.load(std::memory_order_relaxed) != before) continue;
    if (factor == 0) return 0;
    const auto elapsed = static_cast<std::int64_t>(ticks - base);  // of a frame that came before the reading: negative
    return base_ns + static_cast<std::int64_t>((static_cast<Int128>(elapsed) * static_cast<std::int64_t>(factor)) >> 32);
  }
}

void DeviceClock::note_arrivals(const DeviceTimestampField& field, rte_mbuf** frames, std::uint16_t count) const noexcept {
  for (std::uint16_t i = 0; i < count; ++i) {
    if ((frames[i]->ol_flags & field.flag) == 0) continue;
    const std::int64_t arrival_ns = to_epoch_ns(*RTE_MBUF_DYNFIELD(frames[i], field.offset, const std::uint64_t*));
    if (arrival_ns > 0) set_arrival(*frames[i], arrival_ns);
  }
}

}  // namespace thalweg::pmd
