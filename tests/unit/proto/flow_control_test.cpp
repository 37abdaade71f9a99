#include "tests/unit/proto/proto_fixture.hpp"

// wire-protocol 4.2 to 4.5: who may move the sender limit.
namespace thalweg::proto::test {
namespace {

using shm::FlowControl;
using shm::PublicationFlags;

PublicationBench::Options group(FlowControl kind, std::int32_t min_size = 0, std::int64_t tag = -1) {
  return {.flags = PublicationFlags::kGroup, .adjust = [=](auto& d) {
    d.flow_control = kind;
    d.flow_control_group_min_size = min_size;
    d.flow_control_group_tag = tag;
    d.flow_control_receiver_timeout_ns = 2 * kSecond_ns;
  }};
}
void sm(PublicationBench& p, std::int64_t receiver, std::int64_t position, std::int32_t window = 4096, std::int64_t t = 0, std::uint8_t flags = 0,
        std::optional<std::int64_t> tag = {}) {
  p.status(t, position, window, flags, receiver, tag);
}

// proves 2.11/6, 4.3/1
TEST(MinFlowControl, the_limit_is_that_of_the_slowest_receiver) {
  PublicationBench p{group(FlowControl::kMin)};
  sm(p, 1, 0);
  EXPECT_EQ(p.state().sender_limit, 4096);
  sm(p, 2, 0);
  sm(p, 1, 2048);
  EXPECT_EQ(p.state().sender_limit, 4096);
  sm(p, 2, 1024);
  EXPECT_EQ(p.state().sender_limit, 5120);
}

// proves 4.3/1
TEST(MinFlowControl, whoever_came_first_may_be_the_slowest) {
  PublicationBench p{group(FlowControl::kMin)};
  sm(p, 1, 0);
  sm(p, 2, 0);
  sm(p, 2, 2048);
  EXPECT_EQ(p.state().sender_limit, 4096);
  p.send(kMs);
  EXPECT_EQ(p.state().sender_limit, 4096) << "nor on an idle turn";
}

// proves 2.7/6, 4.3/4, 4.3/9
TEST(MinFlowControl, nothing_moves_and_nobody_is_connected_below_the_group_size) {
  PublicationBench p{group(FlowControl::kMin, 2)};
  sm(p, 1, 0);
  p.limit();
  EXPECT_EQ(p.state().sender_limit, 0);
  EXPECT_FALSE(p.is_log_connected());
  sm(p, 2, 0);
  EXPECT_EQ(p.state().sender_limit, 4096);
  EXPECT_TRUE(p.is_log_connected());
}

// proves 4.3/3
TEST(MinFlowControl, a_newcomer_too_far_behind_is_not_admitted) {
  PublicationBench p{group(FlowControl::kMin)};
  sm(p, 1, 16384);
  sm(p, 2, 8192);
  sm(p, 1, 20480);
  EXPECT_EQ(p.state().sender_limit, 24576) << "the straggler does not count";
  EXPECT_EQ(p.state().receiver_count, 2U) << "but it lives";
}

// proves 4.3/2, 4.3/6, 4.3/7
TEST(MinFlowControl, the_limit_may_fall_on_an_idle_turn) {
  PublicationBench p{group(FlowControl::kMin)};
  sm(p, 1, 0, 8192);
  EXPECT_EQ(p.state().sender_limit, 8192);
  sm(p, 1, 0, 2048);
  EXPECT_EQ(p.state().sender_limit, 8192) << "not on the SM itself";
  EXPECT_EQ(p.publication.next_deadline_ns(), 0);
  p.send(kMs);
  EXPECT_EQ(p.state().sender_limit, 2048);
}

// proves 4.3/7
TEST(MinFlowControl, silent_receivers_and_those_that_say_goodbye_stop_holding_the_others) {
  PublicationBench p{group(FlowControl::kMin)};
  for (std::int64_t id : {1, 2, 3}) sm(p, id, 0);
  p.send(kMs);
  sm(p, 2, 0, 4096, kMs, wire::flag::kSmEndOfStream);
  sm(p, 1, 2048, 4096, 2 * kSecond_ns);
  EXPECT_EQ(p.state().sender_limit, 4096);
  p.send(2 * kSecond_ns + 1);  // the third has been silent for longer than 2 s
  EXPECT_EQ(p.state().sender_limit, 6144);
}

// proves 4.3/8
TEST(MinFlowControl, an_error_frame_ends_a_receiver) {
  PublicationBench p{group(FlowControl::kMin)};
  sm(p, 1, 4096);
  sm(p, 2, 4096);
  sm(p, 1, 8192);
  EXPECT_TRUE(p.error(kMs, 2));
  p.send(kMs);
  EXPECT_EQ(p.state().sender_limit, 12288);
}

// proves 2.4/7, 4.4/1, 4.4/2
TEST(SetupHold, a_late_joiner_gets_its_chance_before_the_limit_moves_on) {
  PublicationBench p{group(FlowControl::kMin)};
  p.send(0);
  sm(p, 1, 0);
  p.elicit(kMs, 2);
  p.send(101 * kMs);
  sm(p, 1, 4096, 4096, 102 * kMs);
  EXPECT_EQ(p.state().sender_limit, 4096) << "held where the SETUP went out";
  sm(p, 2, 4096, 4096, 103 * kMs);
  p.send(103 * kMs);
  EXPECT_EQ(p.state().sender_limit, 8192) << "admitted, the hold is over";
}

// proves 4.4/3
TEST(SetupHold, ends_with_the_receiver_timeout) {
  PublicationBench p{group(FlowControl::kMin)};
  p.send(0);
  sm(p, 1, 0);
  p.elicit(kMs, 2);
  p.send(101 * kMs);
  sm(p, 1, 4096, 4096, 2101 * kMs + 1);
  EXPECT_EQ(p.state().sender_limit, 8192);
}

// proves 4.5/1, 4.5/2, 4.5/3
TEST(TaggedFlowControl, only_receivers_with_the_tag_count_once_there_is_one) {
  PublicationBench p{group(FlowControl::kTagged, 0, 101)};
  sm(p, 1, 0);
  EXPECT_EQ(p.state().sender_limit, 4096) << "without tagged receivers every SM counts";
  sm(p, 2, 0, 2048, 0, 0, 101);
  sm(p, 1, 8192);
  EXPECT_EQ(p.state().sender_limit, 4096) << "the limit on an SM does not fall";
  sm(p, 2, 4096, 2048, 0, 0, 101);
  EXPECT_EQ(p.state().sender_limit, 6144);
  sm(p, 3, 16384, 4096, 0, 0, 102);
  EXPECT_EQ(p.state().sender_limit, 6144) << "another tag";
}

// proves 4.3/4, 4.3/9, 4.5/1
TEST(TaggedFlowControl, the_group_size_asks_for_tagged_receivers) {
  PublicationBench p{group(FlowControl::kTagged, 1, 101)};
  sm(p, 1, 0);
  EXPECT_EQ(p.state().sender_limit, 0);
  EXPECT_FALSE(p.is_log_connected());
  sm(p, 2, 0, 4096, 0, 0, 101);
  EXPECT_EQ(p.state().sender_limit, 4096);
  EXPECT_TRUE(p.is_log_connected());
}

}  // namespace
}  // namespace thalweg::proto::test
