#include "pmd/backends/device_clock.hpp"

#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>

#include "dataplane/base/time.hpp"
#include "pmd/arrival.hpp"
#include "tests/unit/pmd/eal_environment.hpp"

namespace thalweg::pmd::test {
namespace {

constexpr std::int64_t kEpoch_ns = 1'700'000'000 * kSecond_ns;
constexpr std::uint64_t kTicksPerSecond = 156'250'000;   // 6.4 ns a tick
constexpr std::uint64_t kStart = 0xFFFF'FFFF'FF00'0000;   // wraps soon

TEST(DeviceClock, one_reading_does_not_tell_how_fast_it_runs) {
  DeviceClock clock;
  EXPECT_EQ(clock.to_epoch_ns(5), 0);
  clock.add(kStart, kEpoch_ns);
  EXPECT_EQ(clock.to_epoch_ns(kStart), 0);
  clock.add(kStart + 100, kEpoch_ns + 640);
  EXPECT_EQ(clock.to_epoch_ns(kStart), 0) << "too close together";
}

TEST(DeviceClock, two_readings_give_the_time_of_ticks_before_between_and_after_them) {
  DeviceClock clock;
  clock.add(kStart, kEpoch_ns);
  clock.add(kStart + kTicksPerSecond, kEpoch_ns + kSecond_ns);
  for (const std::int64_t seconds : {-3, 0, 1, 2, 60}) {
    const std::uint64_t ticks = kStart + static_cast<std::uint64_t>(seconds) * kTicksPerSecond;
    EXPECT_NEAR(static_cast<double>(clock.to_epoch_ns(ticks) - kEpoch_ns), static_cast<double>(seconds * kSecond_ns), 100.0) << seconds;
  }
}

TEST(DeviceClock, a_change_of_the_time_of_day_moves_it_and_leaves_its_rate_alone) {
  for (const std::int64_t step_ns : {3600 * kSecond_ns, -3600 * kSecond_ns}) {
    DeviceClock clock;
    clock.add(kStart, kEpoch_ns);
    clock.add(kStart + kTicksPerSecond, kEpoch_ns + kSecond_ns);
    clock.add(kStart + 2 * kTicksPerSecond, kEpoch_ns + 2 * kSecond_ns + step_ns);
    EXPECT_NEAR(static_cast<double>(clock.to_epoch_ns(kStart + 3 * kTicksPerSecond) - kEpoch_ns - step_ns), 3e9, 100.0);
  }
}

TEST(DeviceClock, one_that_stands_still_tells_nothing) {
  DeviceClock clock;
  for (int i = 0; i < 5; ++i) clock.add(kStart, kEpoch_ns + i * kSecond_ns);
  EXPECT_EQ(clock.to_epoch_ns(kStart), 0);
}

using Arrivals = PortTest;

TEST_F(Arrivals, ride_with_a_frame_and_its_copies_and_end_with_it) {
  rte_mbuf* const frame = rte_pktmbuf_alloc(pool().get());
  ASSERT_NE(frame, nullptr);
  ASSERT_NE(rte_pktmbuf_append(frame, 64), nullptr);
  EXPECT_EQ(arrival_of(*frame), 0);
  set_arrival(*frame, kEpoch_ns);
  EXPECT_EQ(arrival_of(*frame), kEpoch_ns);
  rte_mbuf* const copy = rte_pktmbuf_copy(frame, pool().get(), 0, UINT32_MAX);
  ASSERT_NE(copy, nullptr);
  EXPECT_EQ(arrival_of(*copy), kEpoch_ns);
  rte_pktmbuf_free(copy);
  rte_pktmbuf_reset(frame);
  EXPECT_EQ(arrival_of(*frame), 0);
  rte_pktmbuf_free(frame);
}

// proves 5.11/4
TEST_F(Arrivals, of_frames_that_a_device_put_its_ticks_into_are_times_of_day) {
  DeviceTimestampField field;
  ASSERT_EQ(rte_mbuf_dyn_rx_timestamp_register(&field.offset, &field.flag), 0);
  DeviceClock clock;
  clock.add(kStart, kEpoch_ns);
  rte_mbuf* frames[]{rte_pktmbuf_alloc(pool().get()), rte_pktmbuf_alloc(pool().get())};
  ASSERT_TRUE(frames[0] != nullptr && frames[1] != nullptr);
  *RTE_MBUF_DYNFIELD(frames[1], field.offset, std::uint64_t*) = kStart + 3 * kTicksPerSecond;
  frames[1]->ol_flags |= field.flag;
  clock.note_arrivals(field, frames, 2);
  EXPECT_EQ(arrival_of(*frames[1]), 0) << "the rate is not known yet";
  clock.add(kStart + kTicksPerSecond, kEpoch_ns + kSecond_ns);
  clock.note_arrivals(field, frames, 2);
  EXPECT_EQ(arrival_of(*frames[0]), 0) << "the device put nothing into it";
  EXPECT_NEAR(static_cast<double>(arrival_of(*frames[1]) - kEpoch_ns), 3e9, 100.0);
  for (rte_mbuf* const frame : frames) rte_pktmbuf_free(frame);
}

}  // namespace
}  // namespace thalweg::pmd::test
