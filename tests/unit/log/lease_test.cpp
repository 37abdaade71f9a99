// Leases: a shard is one member's at a time, and another one's when that one stopped. Spec: archive-log 10.
#include "tests/unit/log/consumer_fixture.hpp"

namespace thalweg::log {
namespace {

using Lines = std::vector<std::string>;
using Shards = std::vector<std::uint32_t>;
constexpr ConsumerOptions leased(std::size_t leases_max = 0) {
  ConsumerOptions options;
  options.lease_ns = 3 * kSecond_ns;
  options.leases_max = leases_max;
  return options;
}

class LeaseTest : public ConsumerTest {
 protected:
  void SetUp() override {
    make_shard(0);
    append(0, {"a", "b", "c"});
  }
};

TEST_F(LeaseTest, makes_a_shard_one_members) {
  const auto one = join(leased());
  const auto two = join(leased());
  EXPECT_EQ(read(*one), (Lines{"0-0:a", "0-1:b", "0-2:c"}));
  EXPECT_EQ(read(*two), Lines{});
  EXPECT_EQ(one->held_shards(), Shards{0});
  EXPECT_EQ(two->held_shards(), Shards{});
  EXPECT_EQ(two->ack(EntryId{0, 0}).error().code, ErrorCode::kInUse);
  EXPECT_EQ(two->ack_range(0, 0, 0).error().code, ErrorCode::kInUse);
  EXPECT_EQ(two->reset_offset(0, 0).error().code, ErrorCode::kInUse);
  EXPECT_EQ(two->lag(0), 3U) << "how far the group is anybody may see";
}

TEST_F(LeaseTest, takes_over_from_one_that_stopped) {
  const auto one = join(leased());
  const auto two = join(leased());
  static_cast<void>(read(*one));
  ASSERT_TRUE(one->ack(EntryId{0, 0}));
  clock.advance(2 * kSecond_ns);
  EXPECT_EQ(read(*two), Lines{});
  clock.advance(kSecond_ns);
  EXPECT_EQ(read(*two), (Lines{"0-1:b", "0-2:c"})) << "what was not acknowledged comes again";
  EXPECT_EQ(two->counters().leases_taken, 1U);
}

TEST_F(LeaseTest, is_renewed_by_who_reads_or_maintains) {
  const auto one = join(leased());
  const auto two = join(leased());
  static_cast<void>(read(*one));
  for (int i = 0; i < 10; ++i) {
    clock.advance(kSecond_ns);
    ASSERT_TRUE(i % 2 == 0 ? one->maintain() : Result<void>{});
    static_cast<void>(i % 2 == 0 ? Lines{} : read(*one));
    EXPECT_EQ(read(*two), Lines{});
  }
  EXPECT_EQ(one->held_shards(), Shards{0});
}

// It was stopped, by a debugger, say, and goes on with what it had read.
TEST_F(LeaseTest, cannot_acknowledge_what_another_one_has) {
  const auto one = join(leased());
  const auto two = join(leased());
  static_cast<void>(read(*one));
  ASSERT_TRUE(one->ack(EntryId{0, 0}));
  clock.advance(3 * kSecond_ns);
  EXPECT_EQ(read(*two).size(), 2U);
  ASSERT_TRUE(one->ack(EntryId{0, 2})) << "too late: it does not count";
  EXPECT_EQ(one->counters().leases_lost, 1U);
  EXPECT_EQ(two->lag(0), 2U);
  EXPECT_EQ(one->ack(EntryId{0, 2}).error().code, ErrorCode::kInUse);
  EXPECT_EQ(read(*one), Lines{});
  ASSERT_TRUE(two->ack(EntryId{0, 1}));
  EXPECT_EQ(two->lag(0), 1U);
}

TEST_F(LeaseTest, is_given_back_by_close) {
  const auto one = join(leased());
  static_cast<void>(read(*one));
  ASSERT_TRUE(one->close());
  EXPECT_EQ(read(*join(leased())).size(), 3U);
}

TEST_F(LeaseTest, of_no_more_shards_than_a_member_wants) {
  make_shard(1);
  append(1, {"x"});
  const auto one = join(leased(1));
  const auto two = join(leased(1));
  const auto three = join(leased(1));
  EXPECT_EQ(read(*one).size(), 3U);
  EXPECT_EQ(read(*two), Lines{"1-0:x"});
  EXPECT_EQ(read(*three), Lines{});
  ASSERT_TRUE(one->close());
  clock.advance(kSecond_ns);
  EXPECT_EQ(read(*three).size(), 3U);
}

// The clock of leases begins anew when the machine does.
TEST_F(LeaseTest, of_an_earlier_run_of_the_machine_is_over) {
  clock.monotonic = 100 * 86'400 * kSecond_ns;
  const auto one = join(leased());
  static_cast<void>(read(*one));
  clock.monotonic = 5 * kSecond_ns;
  EXPECT_EQ(read(*join(leased())).size(), 3U);
}

TEST_F(LeaseTest, takes_note_of_an_offset_that_was_set) {
  const auto one = join(leased());
  static_cast<void>(read(*one));
  ASSERT_TRUE(one->ack(EntryId{0, 2}));
  ASSERT_TRUE(join()->seek_begin());
  clock.advance(kSecond_ns);
  ASSERT_TRUE(one->maintain());
  EXPECT_EQ(read(*one).size(), 3U);
}

TEST_F(LeaseTest, of_a_removed_group_is_an_error) {
  const auto one = join(leased());
  static_cast<void>(read(*one));
  ASSERT_TRUE(GroupTable::open(files, clock, "log/shard-0000")->remove("default"));
  clock.advance(kSecond_ns);
  EXPECT_EQ(one->maintain().error().code, ErrorCode::kNotFound);
}

TEST_F(LeaseTest, has_a_length_of_10_minutes_at_most) {
  ConsumerOptions options;
  options.lease_ns = kLeaseMax_ns + 1;
  EXPECT_EQ(Consumer::open(files, clock, kRoot, options).error().code, ErrorCode::kInvalidArgument);
  options.lease_ns = -1;
  EXPECT_EQ(Consumer::open(files, clock, kRoot, options).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace thalweg::log
