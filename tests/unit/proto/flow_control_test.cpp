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

// proves 2.11/6, 4.3/1, 4.3/5
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

// Found by the simulator: a receiver that came back with a small window, at the end of what was sent.
TEST(MinFlowControl, a_newcomer_that_is_as_far_as_a_member_is_admitted_with_any_window) {
  PublicationBench p{group(FlowControl::kMin, 2)};
  sm(p, 1, 8192, 16384);
  sm(p, 2, 4096, 1024);
  EXPECT_FALSE(p.is_log_connected()) << "behind, and 5120 is less than 24576 - 1024";
  sm(p, 2, 8192, 1024);
  EXPECT_TRUE(p.is_log_connected());
  EXPECT_EQ(p.state().sender_limit, 9216);
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

// proves 4.5/1, 4.5/2, 4.5/3, 4.5/4
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

TEST(TaggedFlowControl, a_setup_for_a_stranger_holds_nobody) {
  PublicationBench p{group(FlowControl::kTagged, 0, 101)};
  p.send(0);
  sm(p, 1, 0, 4096, 0, 0, 101);
  p.elicit(kMs, 2);  // without a tag
  p.send(101 * kMs);
  sm(p, 1, 4096, 4096, 102 * kMs, 0, 101);
  EXPECT_EQ(p.state().sender_limit, 8192);
}

// proves 4.3/9
TEST(RequiredGroup, a_publication_is_not_connected_without_it) {
  for (const auto kind : {FlowControl::kMin, FlowControl::kTagged}) {
    PublicationBench p{group(kind, 2, 101)};
    sm(p, 1, 0, 4096, 0, 0, 101);
    sm(p, 2, 0, 4096, kSecond_ns, 0, 101);
    EXPECT_TRUE(p.is_log_connected());
    EXPECT_EQ(p.counters[6], 2) << "fc-receivers";
    sm(p, 2, 0, 4096, 2 * kSecond_ns, 0, 101);
    p.send(2 * kSecond_ns + 1);  // the first has been silent for longer than the 2 s of this group
    EXPECT_FALSE(p.is_log_connected()) << "at once, not at the next status message";
    EXPECT_EQ(p.counters[6], 1);
    EXPECT_EQ(p.state().receiver_count, 2U) << "it may still live: 5 s are that one's time-out";
    sm(p, 2, 2048, 4096, 2 * kSecond_ns + 2, 0, 101);
    EXPECT_EQ(p.state().sender_limit, 4096) << "nothing moves below the group size";
    sm(p, 3, 2048, 4096, 2 * kSecond_ns + 3, 0, 101);
    EXPECT_TRUE(p.is_log_connected());
    EXPECT_EQ(p.state().sender_limit, 6144);
  }
}

// proves 4.3/7
TEST(RequiredGroup, a_dead_receiver_holds_the_sender_no_longer_than_its_time_out) {
  PublicationBench p{group(FlowControl::kMin)};
  sm(p, 1, 0);
  sm(p, 2, 0);
  for (std::int64_t t = 100 * kMs; t <= 2 * kSecond_ns; t += 100 * kMs) {
    sm(p, 1, 4096, 4096, t);
    p.send(t);
    EXPECT_EQ(p.state().sender_limit, 4096) << t;
  }
  EXPECT_LE(p.publication.next_deadline_ns(), kStart_ns + 2 * kSecond_ns + 1) << "the lane comes back in time";
  p.send(2 * kSecond_ns + 1);
  EXPECT_EQ(p.state().sender_limit, 8192);
  EXPECT_EQ(p.counters[6], 1);
}

TEST(RequiredGroup, a_member_that_speaks_without_its_tag_holds_the_sender_no_longer_than_its_time_out) {
  PublicationBench p{group(FlowControl::kTagged, 0, 101)};
  sm(p, 1, 0, 4096, 0, 0, 101);
  sm(p, 2, 0, 4096, 0, 0, 101);
  for (std::int64_t t = 100 * kMs; t <= 2 * kSecond_ns; t += 100 * kMs) {
    sm(p, 1, 4096, 4096, t, 0, 101);
    sm(p, 2, 0, 4096, t);
    p.send(t);
    EXPECT_EQ(p.state().sender_limit, 4096) << t;
  }
  p.send(2 * kSecond_ns + 1);
  EXPECT_EQ(p.state().sender_limit, 8192);
  EXPECT_EQ(p.counters[6], 1);
}

TEST(ReceiverTable, strangers_do_not_keep_the_members_of_a_group_out) {
  PublicationBench p{group(FlowControl::kTagged, 1, 101)};
  for (std::int64_t id = 0; id < 100; ++id) sm(p, 1000 + id, 0, 4096, id);
  EXPECT_EQ(p.state().receiver_count, shm::kReceiversMax);
  EXPECT_EQ(p.count(shm::LaneCounter::kReceiversUntracked), 100 - shm::kReceiversMax);
  EXPECT_EQ(p.state().sender_limit, 0);
  sm(p, 1, 0, 4096, 200, 0, 101);
  EXPECT_EQ(p.state().sender_limit, 4096);
  EXPECT_TRUE(p.is_log_connected());
  EXPECT_EQ(p.state().receiver_count, shm::kReceiversMax) << "it took the place of the one silent longest";
}

TEST(ReceiverTable, is_bounded_for_members_too) {
  PublicationBench p{group(FlowControl::kMin)};
  for (std::int64_t id = 0; id < 70; ++id) sm(p, id, 0);
  EXPECT_EQ(p.counters[6], shm::kReceiversMax);
  EXPECT_EQ(p.count(shm::LaneCounter::kReceiversUntracked), 70 - shm::kReceiversMax);
  sm(p, 69, 0, 1024);
  p.send(kMs);
  EXPECT_EQ(p.state().sender_limit, 4096) << "who is not tracked does not count";
}

// proves 4.2/1, 4.2/2, 4.2/3
TEST(MaxFlowControl, follows_the_fastest_of_a_group_and_never_falls) {
  PublicationBench p{group(FlowControl::kMax)};
  sm(p, 1, 0);
  sm(p, 2, 4096);
  EXPECT_EQ(p.state().sender_limit, 8192);
  sm(p, 1, 0, 1024);
  p.send(kMs);
  EXPECT_EQ(p.state().sender_limit, 8192);
  sm(p, 3, 8192, 4096, kMs, wire::flag::kSmEndOfStream);
  EXPECT_EQ(p.state().sender_limit, 12288) << "an EOS status message counts as well (4.2)";
}

TEST(Restart, keeps_the_group) {
  PublicationBench p{group(FlowControl::kMin, 2)};
  sm(p, 1, 0);
  sm(p, 2, 0);
  p.counters[6] = 0;
  p.publication = Publication{p.context()};
  p.publication.resume(kStart_ns + 10 * kSecond_ns);
  EXPECT_EQ(p.counters[6], 2);
  p.send(10 * kSecond_ns + kMs);
  EXPECT_TRUE(p.is_log_connected()) << "our own silence is not the receivers'";
}

}  // namespace
}  // namespace thalweg::proto::test
