#include "tests/unit/proto/proto_fixture.hpp"

// Streams that come by several destinations: wire-protocol 3.4, 3.10, 5.6, and A/B streams, which are ours.
namespace thalweg::proto::test {
namespace {

using shm::LaneCounter;

constexpr std::uint32_t kEndpointA = 40;
constexpr std::uint32_t kEndpointB = 41;
constexpr unsigned kA = 0;
constexpr unsigned kB = 1;

// An image with two connections, the first of kEndpointA.
struct Sides : ImageBench {
  explicit Sides(std::int64_t hold_ns = 0, std::int64_t side_timeout_ns = 0) {
    slot->desired.nak_hold_ns = hold_ns;
    slot->desired.side_timeout_ns = side_timeout_ns;
    image.remove_connection(0, kStart_ns);
    EXPECT_EQ(image.add_connection(kEndpointA, {1, 1}, kStart_ns), kA);
    EXPECT_EQ(image.add_connection(kEndpointB, {2, 2}, kStart_ns), kB);
  }
  Insert bring(unsigned side, std::int64_t position, std::int64_t after_ns = 0, std::int32_t payload = 64) {
    return image.insert_side(data_frame(at(position), payload), side, kStart_ns + after_ns, *arrivals, 3);
  }
  const shm::ConnectionState& side(unsigned i) { return state().connections[i]; }
  [[nodiscard]] std::int32_t transports() { return log.view().load<std::int32_t>(shm::meta::kActiveTransportCount); }
  std::unique_ptr<Arrivals> arrivals{std::make_unique<Arrivals>()};
};

// proves 3.4/15, 5.6/5, 5.6/6
TEST(Connections, come_and_go_with_their_destinations_and_are_counted) {
  Sides i;
  EXPECT_TRUE(i.image.has_sides());
  EXPECT_EQ(i.transports(), 2);
  EXPECT_EQ(i.image.find_connection(kEndpointB), kB);
  EXPECT_EQ(i.image.find_connection(99), shm::kConnectionsMax);
  i.image.remove_connection(kA, kStart_ns);
  EXPECT_FALSE(i.image.has_sides());
  EXPECT_EQ(i.transports(), 1);
  EXPECT_EQ(i.image.add_connection(99, {3, 3}, kStart_ns), kA);
  EXPECT_EQ(i.image.add_connection(100, {4, 4}, kStart_ns), 2U);
  EXPECT_EQ(i.image.add_connection(101, {5, 5}, kStart_ns), 3U);
  EXPECT_EQ(i.image.add_connection(102, {6, 6}, kStart_ns), shm::kConnectionsMax) << "no room, and no harm";
  EXPECT_EQ(i.transports(), 4);
}

TEST(Connections, one_that_is_removed_ends_the_stream_when_it_was_the_last_to_end) {
  Sides i;
  i.image.insert(heartbeat({7, 64}, 0xE0), kB, kStart_ns);
  EXPECT_FALSE(i.state().is_end_of_stream);
  i.image.remove_connection(kA, kStart_ns);
  EXPECT_TRUE(i.state().is_end_of_stream);
  EXPECT_EQ(i.state().end_of_stream_position, 64);
}

TEST(SidesOfAnImage, count_who_was_first_and_how_late_the_copy_came) {
  Sides i;
  EXPECT_EQ(i.bring(kA, 0), Insert::kInserted);
  EXPECT_EQ(i.bring(kB, 0, 30 * kUs), Insert::kInserted);
  EXPECT_EQ(i.bring(kB, 96, 40 * kUs), Insert::kInserted);
  EXPECT_EQ(i.bring(kA, 96, 50 * kUs), Insert::kInserted);
  EXPECT_EQ(i.state().rebuild_position, 192);
  EXPECT_EQ(i.side(kA).frames_won, 1);
  EXPECT_EQ(i.side(kA).bytes_won, 96);
  EXPECT_EQ(i.side(kA).copies, 1);
  EXPECT_EQ(i.side(kA).late_ns_max, 10 * kUs);
  EXPECT_EQ(i.side(kB).frames_won, 1);
  EXPECT_EQ(i.side(kB).copies, 1);
  EXPECT_EQ(i.side(kB).copies_timed, 1);
  EXPECT_EQ(i.side(kB).late_ns_sum, 30 * kUs);
  EXPECT_EQ(i.side(kA).fills + i.side(kB).fills, 0);
}

TEST(SidesOfAnImage, a_copy_of_what_was_consumed_is_no_under_run_and_keeps_its_connection_alive) {
  Sides i;
  for (std::int64_t p = 0; p < 96 * 400; p += 96) i.bring(kA, p);
  i.subscribers = {96 * 400, 96 * 400, 1};
  i.send(0);
  i.send(0);
  ASSERT_GT(i.state().last_sm_position, 0);
  EXPECT_EQ(i.bring(kB, 0, kMs), Insert::kInserted);
  EXPECT_EQ(i.count(LaneCounter::kUnderRuns), 0U);
  EXPECT_EQ(i.side(kB).last_frame_ns, kStart_ns + kMs);
  EXPECT_EQ(i.bring(kA, 0, kMs), Insert::kUnderrun) << "the same side again: as ever";
}

TEST(SidesOfAnImage, what_the_leader_passed_over_is_a_fill_of_the_other) {
  Sides i;
  i.bring(kA, 0);
  i.bring(kA, 192);
  EXPECT_EQ(i.state().gap_count, 1U);
  i.bring(kB, 96, 20 * kUs);
  EXPECT_EQ(i.state().rebuild_position, 288);
  EXPECT_EQ(i.side(kB).fills, 1);
  EXPECT_EQ(i.side(kA).fills, 0);
}

TEST(SidesOfAnImage, datagrams_cut_differently_bring_what_is_missing_in_them) {
  Sides i;
  i.bring(kA, 0);
  i.bring(kA, 288);
  const Bytes longer = join({data_frame(i.at(0), 64), data_frame(i.at(96), 64), data_frame(i.at(192), 64), data_frame(i.at(288), 64)});
  EXPECT_EQ(i.image.insert_side(longer, kB, kStart_ns, *i.arrivals, 3), Insert::kInserted);
  EXPECT_EQ(i.state().rebuild_position, 384);
}

TEST(SidesOfAnImage, nonsense_is_refused_as_by_any_image) {
  Sides i;
  i.bring(kA, 0);
  Bytes bad = data_frame(i.at(0), 64);
  store_le<std::int32_t>(bad.data() + 8, 48);   // not aligned
  EXPECT_EQ(i.image.insert_side(bad, kB, kStart_ns, *i.arrivals, 3), Insert::kInvalid);
  Bytes tail = join({data_frame(i.at(0), 64), data_frame(i.at(96), 64)});
  store_le<std::int32_t>(tail.data() + 96 + 8, 7 * 32);   // claims to be elsewhere
  EXPECT_NO_FATAL_FAILURE(static_cast<void>(i.image.insert_side(tail, kB, kStart_ns, *i.arrivals, 3)));
  EXPECT_EQ(i.state().rebuild_position, 96);
  EXPECT_EQ(i.side(kB).frames_won, i.state().high_water > 96 ? 1 : 0);
}

TEST(AbStream, the_first_nak_waits_for_the_other_side_while_it_lives) {
  constexpr std::int64_t kHold_ns = 2 * kMs;
  Sides i{kHold_ns, kSecond_ns};
  i.bring(kA, 0);
  i.bring(kA, 192);
  EXPECT_EQ(count_of(i.send(0), wire::FrameType::kNak), 0U);
  EXPECT_EQ(count_of(i.send(kHold_ns), wire::FrameType::kNak), 0U);
  EXPECT_EQ(count_of(i.send(kHold_ns + kMs), wire::FrameType::kNak), 2U) << "on both connections";
}

TEST(AbStream, nobody_waits_for_a_side_that_is_dead) {
  Sides i{2 * kMs, kSecond_ns};
  constexpr std::int64_t kLater_ns = 2 * kSecond_ns;
  i.bring(kA, 0, kLater_ns);
  i.bring(kA, 192, kLater_ns);
  i.send(kLater_ns);
  EXPECT_EQ(count_of(i.send(kLater_ns + 10 * kUs), wire::FrameType::kNak), 2U);
}

// proves 3.10/2
TEST(AbStream, ends_without_a_dead_side_and_with_a_living_one) {
  Sides i{0, kSecond_ns};
  i.bring(kA, 0);
  i.image.insert(heartbeat({7, 96}, 0xE0), kA, kStart_ns);
  EXPECT_FALSE(i.state().is_end_of_stream);
  i.image.insert(heartbeat({7, 96}, 0xE0), kA, kStart_ns + 2 * kSecond_ns);
  EXPECT_TRUE(i.state().is_end_of_stream);
}

}  // namespace
}  // namespace thalweg::proto::test
