// Untethered subscriptions: the states of one subscriber position (wire-protocol 3.14).
#include "dataplane/proto/tether.hpp"

#include "tests/unit/proto/proto_fixture.hpp"

namespace thalweg::proto::test {
namespace {

using shm::Tether;

constexpr std::int64_t kLimit = 4'096;

shm::LinkSlot::Wanted& untethered(shm::LinkSlot::Wanted& link) {
  link.is_tethered = 0;
  link.window_limit_timeout_ns = 5 * kSecond_ns;
  link.linger_timeout_ns = 3 * kSecond_ns;
  link.resting_timeout_ns = 10 * kSecond_ns;
  return link;
}

struct Row {
  const char* what;
  TetherState from;                // since: relative to the look
  std::int64_t position;
  bool is_rejoin;
  TetherState to;
};

class TetherRules : public ::testing::TestWithParam<Row> {};

TEST_P(TetherRules, decide_where_a_subscriber_goes) {
  const Row& row = GetParam();
  shm::LinkSlot::Wanted link;
  untethered(link).is_rejoin = row.is_rejoin ? 1 : 0;
  const TetherState from{row.from.tether, kStart_ns + row.from.since_ns};
  const TetherState to = next_tether(link, from, row.position, kLimit, kStart_ns);
  EXPECT_EQ(to.tether, row.to.tether) << row.what;
  EXPECT_EQ(to.since_ns, kStart_ns + row.to.since_ns) << row.what;
}

constexpr std::int64_t kAbove = kLimit + 32;
INSTANTIATE_TEST_SUITE_P(
    Table, TetherRules,
    ::testing::Values(
        Row{"who keeps up starts its timer anew", {Tether::kActive, -60 * kSecond_ns}, kAbove, true, {Tether::kActive, 0}},
        Row{"at the limit it runs", {Tether::kActive, -5 * kSecond_ns}, kLimit, true, {Tether::kActive, -5 * kSecond_ns}},
        Row{"below it, too", {Tether::kActive, -kSecond_ns}, 0, true, {Tether::kActive, -kSecond_ns}},
        Row{"out of time at the limit", {Tether::kActive, -5 * kSecond_ns - 1}, kLimit, true, {Tether::kLinger, 0}},  // proves 3.14/4
        Row{"out of time below it", {Tether::kActive, -60 * kSecond_ns}, 0, true, {Tether::kLinger, 0}},
        Row{"reading on does not help once it lingers", {Tether::kLinger, -kSecond_ns}, kAbove, true, {Tether::kLinger, -kSecond_ns}},
        Row{"the linger timeout is waited for", {Tether::kLinger, -3 * kSecond_ns}, 0, true, {Tether::kLinger, -3 * kSecond_ns}},
        Row{"one that may rejoin rests", {Tether::kLinger, -3 * kSecond_ns - 1}, 0, true, {Tether::kResting, 0}},  // proves 3.14/6
        Row{"one that may not is closed", {Tether::kLinger, -3 * kSecond_ns - 1}, 0, false, {Tether::kClosed, 0}},
        Row{"the resting timeout is waited for", {Tether::kResting, -10 * kSecond_ns}, kAbove, true, {Tether::kResting, -10 * kSecond_ns}},
        Row{"rested", {Tether::kResting, -10 * kSecond_ns - 1}, 0, true, {Tether::kActive, 0}},
        Row{"closed is final", {Tether::kClosed, -3600 * kSecond_ns}, kAbove, true, {Tether::kClosed, -3600 * kSecond_ns}}));  // proves 3.14/9

// proves 3.14/10
TEST(Tether, a_tethered_subscriber_never_leaves_active) {
  shm::LinkSlot::Wanted link;
  untethered(link).is_tethered = 1;
  const TetherState from{Tether::kActive, kStart_ns - 3600 * kSecond_ns};
  EXPECT_EQ(next_tether(link, from, 0, kLimit, kStart_ns), from);
}

// proves 3.14/5
TEST(Tether, resting_and_closed_ones_do_not_count_for_flow_control) {
  EXPECT_TRUE(is_counted(Tether::kActive));
  EXPECT_TRUE(is_counted(Tether::kLinger));
  EXPECT_FALSE(is_counted(Tether::kResting));
  EXPECT_FALSE(is_counted(Tether::kClosed));
}

TEST(Tether, the_limit_leaves_a_quarter_of_the_window) {
  EXPECT_EQ(tether_limit(100'000, 32'768), 100'000 - 32'768 + 8'192);
  EXPECT_EQ(tether_limit(0, 32'768), -24'576) << "nobody is behind at the beginning";
}

// proves 3.14/1
TEST(Tether, an_image_measures_from_its_fastest_subscriber_and_the_window_it_offered_last) {
  ImageBench bench{{.window = 16 << 10}};
  bench.start();
  for (std::int64_t at = 0; at < 8 * 1'024; at += 1'024) ASSERT_EQ(bench.data(at, 1'024), Insert::kInserted);
  EXPECT_EQ(bench.image.tether_limit({0, 8 * 1'024, 2}), tether_limit(8 * 1'024, 16 << 10));
  EXPECT_EQ(bench.image.tether_limit({0, std::int64_t{1} << 40, 2}), tether_limit(8 * 1'024, 16 << 10)) << "a position nobody can have";
}

// proves 3.14/2
TEST(Tether, spies_are_measured_from_the_sender_position) {
  PublicationBench bench;
  bench.connect();
  for (int i = 0; i < 10; ++i) bench.publisher.publish(1'000);
  bench.send(kMs);
  ASSERT_GT(bench.state().sender_position, 10'000);
  EXPECT_EQ(bench.publication.tether_limit(), tether_limit(bench.state().sender_position, kTerm / 2));
}

// proves 3.14/3
TEST(Tether, ipc_subscribers_are_measured_from_what_was_ever_consumed) {
  PublicationBench bench{{.flags = shm::PublicationFlags::kIpc}};
  bench.limit(0, {0, 0, 2});
  for (int i = 0; i < 10; ++i) bench.publisher.publish(1'000);
  const std::int64_t end = bench.publisher.position();
  bench.limit(0, {0, end, 2});
  EXPECT_EQ(bench.publication.tether_limit(), tether_limit(end, kTerm / 2));
}

}  // namespace
}  // namespace thalweg::proto::test
