// Idle strategies: what a lane does with turns without work, whom it wakes before it rests, and who wakes it.
#include "dataplane/core/idle.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "dataplane/base/time.hpp"
#include "dataplane/core/clock.hpp"
#include "dataplane/core/doorman.hpp"

namespace thalweg::core {
namespace {

using Rests = std::vector<std::int64_t>;   // 0 is a yield, else a park

Rests rests_of(Idler& idler, int rounds) {
  Rests rests;
  for (int i = 0; i < rounds; ++i) idler.idle(false, [&](std::int64_t park_ns) { rests.push_back(park_ns); });
  return rests;
}

TEST(Idler, sleep_parks_every_time) {
  Idler idler{IdleStrategy::kSleep, 1 * kMillisecond_ns};
  EXPECT_EQ(rests_of(idler, 3), (Rests{kMillisecond_ns, kMillisecond_ns, kMillisecond_ns}));
}

TEST(Idler, yield_yields_and_the_spinning_ones_make_no_system_call) {
  Idler yielding{IdleStrategy::kYield, kMillisecond_ns};
  EXPECT_EQ(rests_of(yielding, 2), (Rests{0, 0}));
  for (const IdleStrategy each : {IdleStrategy::kNoop, IdleStrategy::kBusySpin}) {
    Idler idler{each, kMillisecond_ns};
    EXPECT_EQ(rests_of(idler, 100), Rests{});
  }
}

TEST(Idler, backoff_spins_and_yields_before_it_parks_ever_longer) {
  Idler idler{IdleStrategy::kBackoff, 5 * kMicrosecond_ns};
  EXPECT_EQ(rests_of(idler, 20), Rests{});
  EXPECT_EQ(rests_of(idler, 10), Rests(10, 0));
  EXPECT_EQ(rests_of(idler, 5), (Rests{1'000, 2'000, 4'000, 5'000, 5'000}));
}

TEST(Idler, work_starts_backoff_anew) {
  Idler idler{IdleStrategy::kBackoff, kMillisecond_ns};
  static_cast<void>(rests_of(idler, 40));
  idler.idle(true, [](std::int64_t) { FAIL(); });
  EXPECT_EQ(rests_of(idler, 20), Rests{});
  EXPECT_EQ(rests_of(idler, 11).back(), 1'000);
}

TEST(Idler, work_never_rests) {
  for (const IdleStrategy each : {IdleStrategy::kNoop, IdleStrategy::kBusySpin, IdleStrategy::kYield, IdleStrategy::kSleep, IdleStrategy::kBackoff}) {
    Idler idler{each, kSecond_ns};
    for (int i = 0; i < 100; ++i) idler.idle(true, [](std::int64_t) { FAIL(); });
  }
}

class DoormanTest : public ::testing::Test {
 protected:
  DoormanTest() { doorman_.watch(shm::ManyToOneRing{section_}); }
  std::uint32_t rung() const { return header_->control_wake.load(); }
  void command() { ASSERT_TRUE(shm::ManyToOneRing{section_}.write(1, std::as_bytes(std::span{"command"}))); }
  void take_commands() { shm::ManyToOneRing{section_}.read([](std::int32_t, std::span<const std::byte>) { return true; }, 100); }

  std::unique_ptr<shm::RegistryHeader> header_{std::make_unique<shm::RegistryHeader>()};
  std::unique_ptr<shm::LaneSlot> lane_{std::make_unique<shm::LaneSlot>()};
  struct alignas(kCacheLine) Line { std::byte bytes[kCacheLine]{}; };
  std::vector<Line> memory_{(4096 + shm::kRingTrailerLength) / kCacheLine};
  std::span<std::byte> section_{memory_.front().bytes, memory_.size() * kCacheLine};
  Doorman doorman_{*header_, *lane_};
};

TEST_F(DoormanTest, wakes_a_sleeping_conductor_once_for_a_command_it_has_not_taken) {
  header_->control_asleep = 1;
  doorman_.look(1);
  EXPECT_EQ(rung(), 0U) << "nothing is wanted";
  command();
  doorman_.look(2);
  EXPECT_EQ(rung(), 1U);
  doorman_.look(3);
  EXPECT_EQ(rung(), 1U) << "it knows";
  command();
  doorman_.look(4);
  EXPECT_EQ(rung(), 2U);
  command();
  take_commands();
  doorman_.look(5);
  EXPECT_EQ(rung(), 2U) << "taken before we looked";
}

TEST_F(DoormanTest, wakes_for_the_bells_of_its_lane) {
  header_->control_asleep = 1;
  lane_->to_control.ring({shm::SlotKind::kPublication, 1});
  doorman_.look(1);
  doorman_.look(2);
  EXPECT_EQ(rung(), 1U);
}

TEST_F(DoormanTest, leaves_a_conductor_alone_that_is_awake_and_looks_again) {
  command();
  doorman_.look(1);
  EXPECT_EQ(rung(), 0U);
  header_->control_asleep = 1;   // it had looked just before the command came
  doorman_.look(2);
  EXPECT_EQ(rung(), 1U);
}

TEST_F(DoormanTest, says_when_it_looked_if_it_has_a_ring_to_look_at) {
  doorman_.look(77);
  EXPECT_EQ(lane_->watched_ns.load(), 77);
  Doorman blind{*header_, *lane_};
  blind.look(78);
  EXPECT_EQ(lane_->watched_ns.load(), 77);
}

TEST(ParkBell, ends_a_park_and_one_that_rang_before_prevents_it) {
  ParkBell bell;
  std::atomic<bool> has_message{false};
  bell.park(3600 * kSecond_ns, [] { return true; });   // would last an hour
  std::thread lane{[&] {
    while (!has_message.load()) bell.park(3600 * kSecond_ns, [&] { return has_message.load(); });
  }};
  has_message = true;
  bell.ring();
  lane.join();
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
