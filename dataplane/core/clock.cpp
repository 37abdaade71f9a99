#include "dataplane/core/clock.hpp"

namespace thalweg::core {

namespace {

constexpr std::int64_t kFirstMeasure_ns = 10 * kMillisecond_ns;  // rate good to about 10 ppm; refresh() sharpens it

// A pair of readings taken as close together as a few tries allow: an interruption in between shows as a large distance.
void read_both(std::uint64_t& tsc, std::int64_t& ns) noexcept {
  std::uint64_t best = ~std::uint64_t{0};
  for (int i = 0; i < 8; ++i) {
    const std::uint64_t before = TscClock::read_tsc();
    const std::int64_t now = monotonic_ns();
    const std::uint64_t after = TscClock::read_tsc();
    if (after - before < best) {
      best = after - before;
      tsc = before + (after - before) / 2;
      ns = now;
    }
  }
}

std::uint64_t factor_of(std::uint64_t ticks, std::int64_t elapsed_ns) noexcept {
  return static_cast<std::uint64_t>((static_cast<Int128>(elapsed_ns) << 32) / static_cast<Int128>(ticks));
}

}  // namespace

void TscClock::start() noexcept {
  read_both(first_tsc_, first_ns_);
  while (monotonic_ns() - first_ns_ < kFirstMeasure_ns) __builtin_ia32_pause();
  refresh();
}

void TscClock::refresh() noexcept {
  Calibration c;
  read_both(c.tsc, c.ns);
  if (c.tsc == first_tsc_) return;
  c.epoch_offset_ns = epoch_ns() - monotonic_ns();
  c.factor = factor_of(c.tsc - first_tsc_, c.ns - first_ns_);
  store(c);
}

void TscClock::store(const Calibration& c) noexcept {
  const std::uint32_t s = sequence_.load(std::memory_order_relaxed);
  sequence_.store(s + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);  // pairs with the acquire fence in calibration()
  tsc_.store(c.tsc, std::memory_order_relaxed);
  ns_.store(c.ns, std::memory_order_relaxed);
  factor_.store(c.factor, std::memory_order_relaxed);
  epoch_offset_ns_.store(c.epoch_offset_ns, std::memory_order_relaxed);
  sequence_.store(s + 2, std::memory_order_release);
}

TscClock::Calibration TscClock::calibration() const noexcept {
  for (;;) {
    const std::uint32_t before = sequence_.load(std::memory_order_acquire);
    const Calibration c{tsc_.load(std::memory_order_relaxed), ns_.load(std::memory_order_relaxed), factor_.load(std::memory_order_relaxed),
                        epoch_offset_ns_.load(std::memory_order_relaxed)};
    std::atomic_thread_fence(std::memory_order_acquire);  // pairs with the release fence in store()
    if ((before & 1U) == 0 && sequence_.load(std::memory_order_relaxed) == before) return c;
  }
}

}  // namespace thalweg::core
