// Idle strategies: what each does is a matter of system calls; what can be told apart without a clock is how long they park.
#include "dataplane/core/idle.hpp"

#include <gtest/gtest.h>

#include "dataplane/base/time.hpp"
#include "dataplane/core/clock.hpp"

namespace thalweg::core {
namespace {

std::int64_t time_of(Idler& idler, int rounds) {
  const std::int64_t begin_ns = monotonic_ns();
  for (int i = 0; i < rounds; ++i) idler.idle(false);
  return monotonic_ns() - begin_ns;
}

TEST(Idler, sleep_parks_every_time) {
  Idler idler{IdleStrategy::kSleep, 1 * kMillisecond_ns};
  EXPECT_GE(time_of(idler, 5), 5 * kMillisecond_ns);
}

TEST(Idler, backoff_spins_and_yields_before_it_parks_ever_longer) {
  Idler idler{IdleStrategy::kBackoff, 2 * kMillisecond_ns};
  static_cast<void>(time_of(idler, 30));     // spins and yields
  // 1, 2, 4, ..., 1024 us and then 2 ms each.
  EXPECT_GE(time_of(idler, 12), 4 * kMillisecond_ns);
  EXPECT_GE(time_of(idler, 2), 4 * kMillisecond_ns);
}

TEST(Idler, work_starts_backoff_anew) {
  Idler idler{IdleStrategy::kBackoff, 500 * kMillisecond_ns};
  for (int i = 0; i < 40; ++i) idler.idle(false);
  // A park that went on doubling would last minutes; the test's own time limit would notice.
  for (int round = 0; round < 50; ++round) {
    idler.idle(true);
    for (int i = 0; i < 32; ++i) idler.idle(false);
  }
}

TEST(Idler, work_never_parks) {
  for (const IdleStrategy each : {IdleStrategy::kNoop, IdleStrategy::kBusySpin, IdleStrategy::kYield, IdleStrategy::kSleep, IdleStrategy::kBackoff}) {
    Idler idler{each, 3600 * kSecond_ns};
    for (int i = 0; i < 1'000; ++i) idler.idle(true);
  }
}

TEST(Clock, follows_the_monotonic_clock) {
  TscClock clock;
  clock.start();
  const TscClock::Calibration calibration = clock.calibration();
  std::int64_t before_ns = calibration.to_ns(TscClock::read_tsc());
  for (int i = 0; i < 1'000; ++i) {
    const std::int64_t low_ns = monotonic_ns();
    const std::int64_t now_ns = calibration.to_ns(TscClock::read_tsc());
    const std::int64_t high_ns = monotonic_ns();
    EXPECT_GE(now_ns, before_ns);
    // 10 ms of calibration make 1,000 ppm a generous bound, and an interruption widens [low, high] itself.
    EXPECT_GE(now_ns, low_ns - kMillisecond_ns);
    EXPECT_LE(now_ns, high_ns + kMillisecond_ns);
    before_ns = now_ns;
  }
  const std::uint32_t version = clock.version();
  clock.refresh();
  EXPECT_NE(clock.version(), version);
}

}  // namespace
}  // namespace thalweg::core
