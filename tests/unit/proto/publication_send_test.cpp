#include "tests/unit/proto/proto_fixture.hpp"

// wire-protocol 2.2 to 2.7, 2.11 to 2.13, 1.14, 1.15.
namespace thalweg::proto::test {
namespace {

using shm::LaneCounter;
using shm::PublicationFlags;

// proves 2.2/6, 2.3/1, 2.4/1, 2.4/4
TEST(Setup, goes_out_on_the_first_turn_and_every_100_ms_until_the_first_status_message) {
  PublicationBench p;
  EXPECT_EQ(p.turn(0), Lines{"setup@0"});
  EXPECT_EQ(p.turn(1), Lines{});
  EXPECT_EQ(p.turn(100 * kMs), Lines{}) << "the interval is exceeded, not reached";
  EXPECT_EQ(p.turn(100 * kMs + 1), Lines{"setup@0"});
  EXPECT_EQ(p.turn(200 * kMs + 2), Lines{"setup@0"});
  p.status(201 * kMs, 0);
  EXPECT_EQ(p.turn(1000 * kMs), Lines{"heartbeat@0"});
  EXPECT_EQ(p.count(LaneCounter::kSetupsSent), 3U);
}

// proves 1.5/2, 1.5/6, 1.5/7
TEST(Setup, says_what_the_registry_says_and_carries_the_sender_position) {
  PublicationBench p{{.initial_term_id = -3, .start_position = 5 * kTerm + 4096, .flags = PublicationFlags::kGroup | PublicationFlags::kHasResponse,
                      .adjust = [](auto& d) { d.ttl = 4; }}};
  const auto sent = p.send(0);
  ASSERT_EQ(sent.size(), 1U);
  ASSERT_EQ(sent[0].size(), 40U);
  const auto s = wire::Setup::parse(sent[0]);
  ASSERT_TRUE(s);
  EXPECT_EQ(s->flags, 0xC0);
  EXPECT_EQ(s->initial_term_id, -3);
  EXPECT_EQ(s->active_term_id, 2);
  EXPECT_EQ(s->term_offset, 4096);
  EXPECT_EQ(s->term_length, kTerm);
  EXPECT_EQ(s->mtu, 1408);
  EXPECT_EQ(s->ttl, 4);
  EXPECT_EQ(s->session_id, kSession);
  EXPECT_EQ(s->stream_id, kStream);
}

// proves 2.3/1, 2.4/1, 2.4/2
TEST(Setup, elicited_with_live_receivers_is_sent_exactly_once) {
  PublicationBench p;
  p.connect();
  p.turn(150 * kMs);  // a heartbeat
  p.elicit(160 * kMs, 2);
  EXPECT_EQ(p.turn(160 * kMs), Lines{"setup@0"}) << "at once: the last one is more than 100 ms old";
  EXPECT_EQ(p.turn(270 * kMs), Lines{"heartbeat@0"});
  EXPECT_EQ(p.turn(272 * kMs), Lines{});
}

// proves 2.4/1, 2.4/2
TEST(Setup, elicited_within_100_ms_of_the_last_one_waits_for_the_100_ms_point) {
  PublicationBench p;
  p.connect();
  p.elicit(10 * kMs);
  EXPECT_EQ(p.turn(20 * kMs), Lines{});
  EXPECT_EQ(p.publication.next_deadline_ns(), kStart_ns + 100 * kMs + 1);
  EXPECT_EQ(p.turn(100 * kMs + 1), (Lines{"setup@0", "heartbeat@0"}));
}

// proves 2.4/3
TEST(Setup, elicited_without_live_receivers_repeats_and_one_more_follows_the_status_message) {
  PublicationBench p;
  p.connect();
  ASSERT_TRUE(p.error(10 * kMs));
  p.elicit(110 * kMs);
  EXPECT_EQ(count_of(p.send(120 * kMs), wire::FrameType::kSetup), 1U);
  EXPECT_EQ(count_of(p.send(221 * kMs), wire::FrameType::kSetup), 1U);
  p.status(230 * kMs, 0);
  EXPECT_EQ(count_of(p.send(240 * kMs), wire::FrameType::kSetup), 0U);
  EXPECT_EQ(count_of(p.send(322 * kMs), wire::FrameType::kSetup), 1U);
  EXPECT_EQ(count_of(p.send(500 * kMs), wire::FrameType::kSetup), 0U);
}

// proves 2.4/6
TEST(Setup, is_not_elicited_any_more_once_the_stream_has_ended) {
  PublicationBench p;
  p.connect();
  p.slot->desired.state = shm::Desired::kClosing;
  p.tick(kMs);
  ASSERT_TRUE(p.state().is_end_of_stream);
  p.elicit(2 * kMs);
  EXPECT_EQ(count_of(p.send(300 * kMs), wire::FrameType::kSetup), 0U);
}

TEST(Setup, is_tried_again_when_the_transport_refuses) {
  PublicationBench p;
  p.sink.accept = 0;
  EXPECT_EQ(p.turn(0), Lines{});
  p.sink.accept = 10;
  EXPECT_EQ(p.turn(1), Lines{"setup@0"});
}

// proves 2.3/2, 2.5/4, 2.6/1, 2.6/7
TEST(Heartbeat, follows_the_first_status_message_at_once_and_then_every_100_ms_of_silence) {
  PublicationBench p;
  p.turn(0);
  p.status(kMs, 0);
  EXPECT_EQ(p.turn(kMs), Lines{"heartbeat@0"});
  EXPECT_EQ(p.turn(101 * kMs), Lines{});
  EXPECT_EQ(p.publication.next_deadline_ns(), kStart_ns + 101 * kMs + 1);
  EXPECT_EQ(p.turn(101 * kMs + 1), Lines{"heartbeat@0"});
  p.publisher.publish(32);
  EXPECT_EQ(p.turn(150 * kMs), Lines{"data@0+64"});
  EXPECT_EQ(p.turn(250 * kMs), Lines{}) << "data counts as activity";
  EXPECT_EQ(p.turn(250 * kMs + 1), Lines{"heartbeat@64"});
  EXPECT_EQ(p.count(LaneCounter::kHeartbeatsSent), 3U);
}

// Ours, for a peer of ours: what was lost last is missed, and a lost status message asked for, long before 100 ms.
TEST(Heartbeat, follows_data_after_a_millisecond_with_our_repair_and_then_ever_more_rarely) {
  PublicationBench p{{.adjust = [](auto& d) { d.is_retransmit_linger_auto = 1; }}};
  p.connect();
  p.publisher.publish(32);
  std::int64_t t = kMs;
  ASSERT_EQ(p.turn(t), Lines{"data@0+64"});
  for (const std::int64_t silence : {1 * kMs, 2 * kMs, 4 * kMs, 8 * kMs}) {
    EXPECT_EQ(p.publication.next_deadline_ns(), kStart_ns + t + silence + 1);
    EXPECT_EQ(p.turn(t += silence), Lines{});
    EXPECT_EQ(p.turn(t += 1), Lines{"heartbeat@64"});
  }
  p.publisher.publish(32);
  EXPECT_EQ(p.turn(t), Lines{"data@64+64"});
  EXPECT_EQ(p.turn(t += kMs + 1), Lines{"heartbeat@128"}) << "data starts it anew";
  for (int n = 0; n < 20; ++n) p.turn(t += kSecond_ns);
  EXPECT_EQ(p.turn(t + 100 * kMs), Lines{}) << "not more rarely than the protocol says";
  EXPECT_EQ(p.turn(t + 100 * kMs + 1), Lines{"heartbeat@128"});
}

TEST(Heartbeat, is_sent_after_50_us_by_a_sender_whose_window_is_used_up) {
  PublicationBench p{{.adjust = [](auto& d) { d.is_retransmit_linger_auto = 1; }}};
  p.connect(64);
  p.publisher.publish(32);
  p.publisher.publish(32);
  EXPECT_EQ(p.turn(kMs), Lines{"data@0+64"});
  EXPECT_EQ(p.turn(kMs + 1), Lines{}) << "finds no window";
  EXPECT_EQ(p.publication.next_deadline_ns(), kStart_ns + kMs + 50 * kUs + 1);
  EXPECT_EQ(p.turn(kMs + 50 * kUs + 1), Lines{"heartbeat@64"});
  EXPECT_EQ(p.turn(kMs + 150 * kUs + 1), Lines{});
  EXPECT_EQ(p.turn(kMs + 150 * kUs + 2), Lines{"heartbeat@64"});
}

// proves 2.6/3, 2.6/6, 2.9/3
TEST(Heartbeat, does_not_say_end_of_stream_while_the_window_holds_data_back) {
  PublicationBench p;
  p.connect(64);
  p.publisher.publish(32);
  p.publisher.publish(32);
  ASSERT_EQ(p.turn(kMs), Lines{"data@0+64"});
  p.slot->desired.state = shm::Desired::kClosing;
  p.tick(2 * kMs);
  ASSERT_EQ(p.state().lifecycle, Lifecycle::kDraining);
  const auto waiting = p.send(102 * kMs);
  ASSERT_EQ(describe(waiting), Lines{"heartbeat@64"});
  EXPECT_EQ(flags_of(waiting[0]), 0xC0);
  p.status(103 * kMs, 64);
  EXPECT_EQ(p.turn(103 * kMs), Lines{"data@64+64"});
  const auto done = p.send(204 * kMs);
  ASSERT_EQ(describe(done), Lines{"heartbeat@128"});
  EXPECT_EQ(flags_of(done[0]), 0xE0);
}

// proves 2.6/1
TEST(Heartbeat, is_never_sent_before_a_status_message) {
  PublicationBench p;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(count_of(p.send(i * 100 * kMs + i), wire::FrameType::kData), 0U);
}

// proves 2.4/5
TEST(Heartbeat, is_no_reason_to_hold_back_a_setup_nor_a_setup_activity_for_heartbeats) {
  PublicationBench p;
  p.connect();
  p.elicit(90 * kMs);
  p.turn(100 * kMs + 1);
  EXPECT_EQ(p.turn(200 * kMs + 2), Lines{"heartbeat@0"});
}

// proves 1.4/11, 1.4/13, 2.6/2, 2.6/3, 2.6/4, 2.6/8, 5.13/13
TEST(Heartbeat, has_the_flags_of_the_streams_state) {
  struct Case { const char* what; bool eos; bool closed; bool revoked; std::uint8_t flags; };
  for (const Case& c : {Case{"running", true, false, false, 0xC0}, {"ended", true, true, false, 0xE0}, {"ended, eos=false", false, true, false, 0xC0},
                        {"revoked", true, false, true, 0xF0}, {"revoked, eos=false", false, false, true, 0xF0}}) {
    PublicationBench p{{.flags = c.eos ? PublicationFlags::kSignalEos : 0U}};
    p.connect();
    if (c.closed) p.slot->desired.state = shm::Desired::kClosing;
    if (c.closed) p.tick(kMs);
    if (c.revoked) p.slot->desired.is_revoked = 1;  // no tick: seen at once
    const auto sent = p.send(200 * kMs);
    ASSERT_EQ(sent.size(), 1U) << c.what;
    EXPECT_EQ(flags_of(sent[0]), c.flags) << c.what;
    EXPECT_EQ(sent[0].size(), 32U);
    EXPECT_EQ(wire::DataView{sent[0].data()}.reserved_value(), 0);
  }
}

TEST(Setup, is_not_sent_at_the_last_position_of_a_stream_where_no_term_is_left_to_join) {
  const std::int64_t last = wire::max_position(kTerm);
  PublicationBench p{{.start_position = last - 64}};
  p.connect();
  p.publisher.publish(32);
  EXPECT_EQ(p.turn(kMs), Lines{"data@65472+64"});
  ASSERT_EQ(p.state().sender_position, last);
  p.elicit(200 * kMs);
  EXPECT_EQ(count_of(p.send(200 * kMs), wire::FrameType::kSetup), 0U);
}

// proves 2.2/7, 2.11/5
TEST(Data, is_not_sent_before_the_first_status_message) {
  PublicationBench p;
  p.publisher.publish(100);
  EXPECT_EQ(p.turn(0), Lines{"setup@0"});
  p.elicit(0);
  EXPECT_EQ(p.turn(1), Lines{}) << "an eliciting SM opens nothing";
  EXPECT_FALSE(p.publication.has_data());
  p.status(1, 0);
  EXPECT_TRUE(p.publication.has_data());
  EXPECT_EQ(p.turn(1), Lines{"data@0+160"});
  EXPECT_FALSE(p.publication.has_data());
}

// proves 1.15/4
TEST(Data, waits_unseen_until_the_window_holds_its_first_frame) {
  PublicationBench p;
  p.connect(96);
  p.publisher.publish(96);
  EXPECT_FALSE(p.publication.has_data()) << "a lane that asks must not spin on it";
  p.status(kMs, 0, 128);
  EXPECT_TRUE(p.publication.has_data());
}

// proves 1.12/5, 1.15/1, 1.15/5
TEST(Data, fills_datagrams_with_whole_frames_up_to_the_mtu) {
  PublicationBench p;
  p.connect();
  for (int i = 0; i < 20; ++i) p.publisher.publish(40);  // 72, aligned 96: 14 in 1408
  EXPECT_EQ(p.turn(kMs), (Lines{"data@0+1344", "data@1344+576"}));
  EXPECT_EQ(p.state().sender_position, 20 * 96);
  EXPECT_EQ(p.counters[2], 20 * 96);
}

// proves 2.5/1, 2.5/5
TEST(Data, is_never_sent_beyond_the_window) {
  PublicationBench p;
  p.connect(1024);
  for (int i = 0; i < 4; ++i) p.publisher.publish(480);  // frames of 512
  EXPECT_EQ(p.turn(kMs), Lines{"data@0+1024"});
  p.now = kStart_ns + 2 * kMs;
  const SendOutcome outcome = p.publication.send(p.now, p.sink);
  EXPECT_EQ(outcome.bytes, 0U);
  EXPECT_TRUE(outcome.is_blocked);
  p.status(2 * kMs, 512, 1024);
  EXPECT_EQ(p.turn(2 * kMs), Lines{"data@1024+512"});
  EXPECT_EQ(p.state().sender_position, 1536);
}

// proves 1.15/4
TEST(Data, a_frame_that_does_not_fit_the_window_waits_whole) {
  PublicationBench p;
  p.connect(512);
  p.publisher.publish(600);
  EXPECT_EQ(p.turn(kMs), Lines{});
  p.status(kMs, 0, 640);
  EXPECT_EQ(p.turn(2 * kMs), Lines{"data@0+640"});
}

// proves 2.5/1
TEST(Data, back_pressure_is_counted_once_per_stall) {
  PublicationBench p;
  p.connect(512);
  p.publisher.publish(480);
  p.publisher.publish(480);
  for (int i = 1; i < 5; ++i) p.turn(i * kMs);
  EXPECT_EQ(p.count(LaneCounter::kSenderLimited), 1U);
  p.status(5 * kMs, 512, 512);
  for (int i = 5; i < 9; ++i) p.turn(i * kMs);
  EXPECT_EQ(p.count(LaneCounter::kSenderLimited), 2U);
  EXPECT_EQ(p.counters[4], 2);
}

// proves 1.15/1
TEST(Data, stops_at_a_claim_that_is_not_committed) {
  PublicationBench p;
  p.connect();
  p.publisher.publish(32);
  p.publisher.claim_only(32);
  p.publisher.publish(32);
  EXPECT_EQ(p.turn(kMs), Lines{"data@0+64"});
  EXPECT_EQ(p.turn(2 * kMs), Lines{});
}

// proves 1.4/4, 1.13/6, 1.15/2
TEST(Data, a_padding_frame_costs_32_bytes_on_the_wire_and_its_length_in_position) {
  PublicationBench p;
  p.connect();
  while (p.publisher.offer(1000)) {
    p.limit();
    const std::int64_t s = p.state().sender_position;
    p.turn(kMs);
    p.status(kMs, s + 1056);
  }
  EXPECT_EQ(p.turn(2 * kMs), Lines{"pad@65472+64"});
  EXPECT_EQ(p.state().sender_position, kTerm);
  p.status(2 * kMs, kTerm);
  p.publisher.publish(1000);
  EXPECT_EQ(p.turn(3 * kMs), Lines{"data@0+1056"});
}

// proves 1.15/2
TEST(Data, padding_rides_behind_data_in_the_same_datagram) {
  PublicationBench p{{.start_position = kTerm - 256}};
  p.connect();
  p.publisher.publish(64);                 // 96 bytes, then 160 of padding
  p.publisher.publish(400);
  EXPECT_EQ(p.turn(kMs), Lines{"data@65280+128"});
  EXPECT_EQ(p.state().sender_position, kTerm);
  EXPECT_EQ(p.turn(2 * kMs), Lines{"data@0+448"});
}

// proves 1.13/1, 1.13/2
TEST(Data, goes_on_over_the_wrap_of_term_ids) {
  PublicationBench p{{.initial_term_id = std::numeric_limits<std::int32_t>::max(), .start_position = kTerm - 64}};
  p.connect();
  p.publisher.publish(32);
  p.publisher.publish(32);
  p.turn(kMs);
  const auto sent = p.send(2 * kMs);
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(wire::DataView{sent[0].data()}.term_id(), std::numeric_limits<std::int32_t>::min());
  p.status(3 * kMs, kTerm + 64);
  EXPECT_EQ(p.count(LaneCounter::kStatusMessagesRejected), 0U);
}

TEST(Data, runs_up_to_the_last_position_of_a_stream) {
  const std::int64_t last = wire::max_position(kTerm) - kTerm / 2;
  PublicationBench p{{.start_position = last}};
  p.connect();
  p.publisher.publish(1000);
  EXPECT_EQ(p.turn(kMs), Lines{"data@32768+1056"});
  p.status(2 * kMs, last + 1056);
  EXPECT_EQ(p.count(LaneCounter::kStatusMessagesRejected), 0U);
  EXPECT_EQ(p.state().sender_limit, last + 1056 + kTerm / 2);
}

// proves 2.5/3
TEST(Data, moves_the_position_by_exactly_what_the_transport_took) {
  PublicationBench p;
  p.connect();
  for (int i = 0; i < 5; ++i) p.publisher.publish(1376);
  p.sink.accept = 2;
  EXPECT_EQ(p.turn(kMs), (Lines{"data@0+1408", "data@1408+1408"}));
  EXPECT_EQ(p.state().sender_position, 2816);
  p.sink.accept = 10;
  EXPECT_EQ(p.turn(kMs), (Lines{"data@2816+1408", "data@4224+1408", "data@5632+1408"}));
}

// proves 2.5/2
TEST(Data, at_most_32_full_datagrams_go_out_in_one_turn) {
  PublicationBench p{{.term_length = 1 << 20}};
  p.connect(128 << 10);
  for (int i = 0; i < 40; ++i) p.publisher.publish(1376);
  EXPECT_EQ(p.turn(kMs).size(), 32U);
  EXPECT_EQ(p.turn(kMs).size(), 8U);
}

// proves 2.5/2
TEST(Data, shorter_datagrams_go_out_up_to_the_bytes_of_32_full_ones) {
  PublicationBench p{{.term_length = 1 << 20}};
  p.connect(128 << 10);
  for (int i = 0; i < 80; ++i) p.publisher.publish(736 - wire::kDataHeaderLength);   // two do not fit
  EXPECT_EQ(p.turn(kMs).size(), 62U);
  EXPECT_EQ(p.turn(kMs).size(), 18U);
}

struct Fragments { std::size_t payload; std::vector<std::uint32_t> lengths; };
class Fragmentation : public ::testing::TestWithParam<Fragments> {};
// proves 1.1/2
TEST_P(Fragmentation, splits_a_message_as_the_table_of_1_14_says) {
  PublicationBench p;
  p.connect();
  p.publisher.publish(GetParam().payload);
  std::vector<std::uint32_t> lengths;
  std::vector<std::uint8_t> flags;
  for (const Bytes& d : p.send(kMs)) {
    lengths.push_back(static_cast<std::uint32_t>(wire::DataView{d.data()}.frame_length()));
    flags.push_back(flags_of(d));
  }
  EXPECT_EQ(lengths, GetParam().lengths);
  for (std::size_t i = 0; i < flags.size(); ++i) {
    EXPECT_EQ(flags[i], (i == 0 ? 0x80 : 0) | (i + 1 == flags.size() ? 0x40 : 0));
  }
}
INSTANTIATE_TEST_SUITE_P(Sizes, Fragmentation,
                         ::testing::Values(Fragments{0, {32}}, Fragments{1, {33}}, Fragments{1376, {1408}}, Fragments{1377, {1408, 33}},
                                           Fragments{2752, {1408, 1408}}, Fragments{4000, {1408, 1408, 1280}},
                                           Fragments{8192, {1408, 1408, 1408, 1408, 1408, 1344}}));

// proves 1.14/5
TEST(Data, an_empty_message_is_not_a_heartbeat) {
  PublicationBench p;
  p.connect();
  p.publisher.publish(0);
  const auto sent = p.send(kMs);
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(wire::DataView{sent[0].data()}.frame_length(), 32);
}

constexpr std::int32_t kLongestClaim = wire::longest_claim(kTerm, 1408);
struct Acceptance { std::int64_t distance; std::int32_t window; bool accepted; LaneCounter refusal; };
class StatusMessages : public ::testing::TestWithParam<Acceptance> {};
// proves 1.6/7, 2.11/1, 2.11/2, 2.11/6
TEST_P(StatusMessages, are_accepted_within_half_a_term_of_the_sender_position_and_a_pad_behind_it_only) {
  const std::int64_t start = 4 * kTerm;
  PublicationBench p{{.start_position = start}};
  p.status(kMs, start + GetParam().distance, GetParam().window);
  EXPECT_EQ(p.state().has_initial_connection != 0, GetParam().accepted);
  EXPECT_EQ(p.state().receiver_count, GetParam().accepted ? 1U : 0U);
  if (!GetParam().accepted) {
    EXPECT_EQ(p.count(GetParam().refusal), 1U);
  }
}
INSTANTIATE_TEST_SUITE_P(Range, StatusMessages,
                         ::testing::Values(Acceptance{0, 0, true, {}}, Acceptance{-kTerm / 2, 32768, true, {}}, Acceptance{kTerm / 2, 32768, true, {}},
                                           Acceptance{-kTerm / 2 - kLongestClaim, 1024, true, {}},
                                           Acceptance{-kTerm / 2 - kLongestClaim - 32, 1024, false, LaneCounter::kStatusMessagesRejected},
                                           Acceptance{kTerm / 2 + 32, 1024, false, LaneCounter::kStatusMessagesRejected},
                                           Acceptance{0, kTerm / 2 + 1, false, LaneCounter::kDropInvalidFrame},
                                           Acceptance{0, -1, false, LaneCounter::kDropInvalidFrame},
                                           Acceptance{16, 1024, false, LaneCounter::kDropInvalidFrame}));

// proves 4.2/1
TEST(UnicastMax, the_sender_limit_never_falls) {
  PublicationBench p;
  p.connect(2048);
  EXPECT_EQ(p.state().sender_limit, 2048);
  p.status(kMs, 0, 1024);
  EXPECT_EQ(p.state().sender_limit, 2048);
  p.status(kMs, 32, 4096);
  EXPECT_EQ(p.state().sender_limit, 4128);
  EXPECT_EQ(p.counters[3], 4128);
}

// proves 1.6/5, 2.7/2, 2.7/8, 2.11/7
TEST(Receivers, an_end_of_stream_status_message_removes_one_and_still_moves_the_limit) {
  PublicationBench p;
  p.connect(1024);
  EXPECT_EQ(p.state().receiver_count, 1U);
  EXPECT_TRUE(p.is_log_connected());
  p.status(kMs, 64, 1024, wire::flag::kSmEndOfStream);
  EXPECT_EQ(p.state().receiver_count, 0U);
  EXPECT_FALSE(p.is_log_connected());
  EXPECT_EQ(p.state().sender_limit, 1088);
  EXPECT_TRUE(p.state().has_seen_unicast_eos);
}

// proves 2.6/5, 2.7/4
TEST(Receivers, silent_ones_go_after_the_connection_timeout_on_idle_turns) {
  PublicationBench p;
  p.connect();
  p.turn(5 * kSecond_ns - 1);
  EXPECT_EQ(p.state().receiver_count, 1U);
  EXPECT_LE(p.publication.next_deadline_ns(), kStart_ns + 5 * kSecond_ns);
  p.turn(5 * kSecond_ns);
  EXPECT_EQ(p.state().receiver_count, 0U);
  p.tick(5 * kSecond_ns);
  EXPECT_FALSE(p.is_log_connected());
  EXPECT_EQ(p.turn(6 * kSecond_ns), Lines{"heartbeat@0"}) << "heartbeats go on when all receivers have gone";
}

// proves 2.7/4
TEST(Receivers, the_timeout_is_not_looked_at_while_data_flows) {
  PublicationBench p;
  p.connect();
  p.publisher.publish(32);
  EXPECT_EQ(p.turn(6 * kSecond_ns), Lines{"data@0+64"});
  EXPECT_EQ(p.state().receiver_count, 1U);
}

TEST(Receivers, more_than_the_table_holds_are_counted_and_the_stream_goes_on) {
  PublicationBench p;
  p.send(0);
  for (std::int64_t id = 0; id < 70; ++id) p.status(0, 0, 1024, 0, id);
  EXPECT_EQ(p.state().receiver_count, shm::kReceiversMax);
  EXPECT_EQ(p.state().receivers_untracked, 70 - shm::kReceiversMax);
  EXPECT_EQ(p.state().sender_limit, 1024);
}

// proves 2.7/3, 2.13/1, 2.13/3
TEST(ErrorFrames, disconnect_a_known_receiver_once) {
  PublicationBench p;
  p.connect();
  EXPECT_FALSE(p.error(kMs, 99)) << "a stranger's";
  EXPECT_TRUE(p.error(kMs, 1));
  EXPECT_FALSE(p.is_log_connected());
  EXPECT_FALSE(p.error(2 * kMs, 1)) << "no second notification";
  EXPECT_EQ(p.count(LaneCounter::kErrorFramesReceived), 3U);
}

// proves 1.9/2, 1.9/3, 2.12/1, 2.12/2
TEST(RttMeasurement, a_request_is_answered_to_the_data_destination_and_an_answer_is_ignored) {
  PublicationBench p;
  p.connect();
  p.publication.on_rtt_measurement({true, kSession, kStream, 123456789, 5, 42}, kStart_ns, p.sink);
  p.publication.on_rtt_measurement({false, kSession, kStream, 123456789, 0, 42}, kStart_ns, p.sink);
  const auto sent = p.sink.drain();
  ASSERT_EQ(sent.size(), 1U);
  const auto reply = wire::RttMeasurement::parse(sent[0]);
  EXPECT_FALSE(reply->is_request);
  EXPECT_EQ(reply->echo_timestamp_ns, 123456789);
  EXPECT_EQ(reply->reception_delta_ns, 0);
  EXPECT_EQ(reply->receiver_id, 42);
}

TEST(RttMeasurement, answers_that_others_get_too_are_limited_and_those_to_whoever_asked_are_not) {
  PublicationBench p{{.flags = shm::PublicationFlags::kSignalEos | shm::PublicationFlags::kGroup}};
  p.connect();
  const wire::RttMeasurement request{true, kSession, kStream, 1, 0, 42};
  const auto ask = [&](int times, std::int64_t t, std::uint32_t others) {
    for (int i = 0; i < times; ++i) p.publication.on_rtt_measurement(request, kStart_ns + t, p.sink, others);
    return p.sink.drain().size();
  };
  EXPECT_EQ(ask(1'000, 0, 1), 64U);
  EXPECT_EQ(p.count(LaneCounter::kRttRepliesLimited), 936U);
  EXPECT_EQ(ask(1'000, kMs, 1), 10U) << "one in 100 us";
  EXPECT_EQ(ask(1'000, kMs, 0), 1'000U);
  EXPECT_EQ(ask(10, kSecond_ns, 128), 1U) << "each of 128 counts";
  EXPECT_EQ(ask(10, kSecond_ns + 6 * kMs, 128), 0U);
  EXPECT_EQ(ask(10, kSecond_ns + 7 * kMs, 128), 1U);
}

// ---- trust nothing in shared memory (design, section 2) ----

struct Damage { const char* what; std::size_t at; std::int32_t value; };
class CorruptLog : public ::testing::TestWithParam<Damage> {};
TEST_P(CorruptLog, a_foreign_frame_ends_the_publication_and_puts_nothing_on_the_wire) {
  PublicationBench p;
  p.connect();
  p.publisher.publish(96);
  store_le(p.log.view().at(0) + GetParam().at, GetParam().value);
  EXPECT_EQ(p.turn(kMs), Lines{});
  EXPECT_TRUE(p.state().is_corrupt);
  EXPECT_EQ(p.count(LaneCounter::kCorruptLogFrames), 1U);
  EXPECT_FALSE(p.is_log_connected());
  EXPECT_EQ(p.turn(2 * kMs), Lines{});
  EXPECT_EQ(p.count(LaneCounter::kCorruptLogFrames), 1U);
  EXPECT_TRUE(p.tick(10 * kMs));
  EXPECT_EQ(p.state().lifecycle, Lifecycle::kLinger);
  const auto sent = p.send(200 * kMs);
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(flags_of(sent[0]), 0xF0) << "receivers are told that this is no complete stream";
  EXPECT_TRUE(p.tick(11 * kSecond_ns)) << "although its client never lets go";
  EXPECT_EQ(p.state().lifecycle, Lifecycle::kDone);
}
INSTANTIATE_TEST_SUITE_P(Fields, CorruptLog,
                         ::testing::Values(Damage{"session", 12, kSession + 1}, Damage{"stream", 16, kStream + 1}, Damage{"term id", 20, 8},
                                           Damage{"offset", 8, 32}, Damage{"type", 4, 0x0003C000}, Damage{"length below a header", 0, 16},
                                           Damage{"length beyond the term", 0, kTerm + 32}, Damage{"length beyond the MTU", 0, 1440},
                                           Damage{"largest length", 0, std::numeric_limits<std::int32_t>::max()}, Damage{"version", 4, 0x0001C001}),
                         [](const auto& param) {
                           std::string name = param.param.what;
                           std::replace(name.begin(), name.end(), ' ', '_');
                           return name;
                         });

TEST(CorruptLogs, what_lies_before_the_foreign_frame_is_sent) {
  PublicationBench p;
  p.connect();
  for (int i = 0; i < 30; ++i) p.publisher.publish(96);
  store_le<std::int32_t>(p.log.view().at(11 * 128) + 12, 5);  // first frame of the second datagram
  EXPECT_EQ(p.turn(kMs), Lines{"data@0+1408"});
  EXPECT_TRUE(p.state().is_corrupt);
}

TEST(Restart, positions_stand_and_a_heartbeat_tells_them) {
  PublicationBench p;
  p.connect();
  for (int i = 0; i < 3; ++i) p.publisher.publish(96);
  p.turn(kMs);
  p.publisher.publish(96);
  p.counters = {};  // clients may have scribbled over them
  Publication again{p.context()};
  again.resume(kStart_ns + 20 * kSecond_ns);
  EXPECT_EQ(p.counters[2], 3 * 128);
  EXPECT_EQ(p.counters[3], kTerm / 2);
  again.send(kStart_ns + 20 * kSecond_ns, p.sink);
  EXPECT_EQ(describe(p.sink.drain()), Lines{"data@384+128"});
  EXPECT_EQ(p.state().receiver_count, 1U) << "our own silence is not the receivers'";
}

}  // namespace
}  // namespace thalweg::proto::test
