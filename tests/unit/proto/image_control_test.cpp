#include "tests/unit/proto/proto_fixture.hpp"

// wire-protocol 3.6 to 3.9, 3.11 to 3.13: what an image sends and how it ends.
namespace thalweg::proto::test {
namespace {

using shm::ImageFlags;
using shm::LaneCounter;

wire::StatusMessage parse_sm(const Bytes& d) {
  const auto sm = wire::StatusMessage::parse(d);
  EXPECT_TRUE(sm);
  return sm.value_or(wire::StatusMessage{});
}

// ---- status messages ----

// proves 3.1/2, 3.4/6, 3.4/7, 3.7/1
TEST(StatusMessage, the_first_one_goes_out_at_once_with_the_join_position_and_the_window) {
  ImageBench i{{.join_position = 3 * kTerm + 64}};
  const auto sent = i.send(0);
  ASSERT_EQ(sent.size(), 1U);
  ASSERT_EQ(sent[0].size(), 36U);
  const auto sm = parse_sm(sent[0]);
  EXPECT_EQ(sm.flags, 0);
  EXPECT_EQ(sm.consumption_term_id, 10);
  EXPECT_EQ(sm.consumption_term_offset, 64);
  EXPECT_EQ(sm.window_length, kTerm / 2);
  EXPECT_EQ(sm.receiver_id, 4711);
  EXPECT_FALSE(sm.group_tag);
  EXPECT_EQ(i.count(LaneCounter::kStatusMessagesSent), 1U);
}

// proves 3.4/10, 4.6/1, 5.13/20
TEST(StatusMessage, the_window_is_the_configured_one_but_at_most_half_a_term) {
  EXPECT_EQ(parse_sm(ImageBench{{.window = 4096}}.send(0).at(0)).window_length, 4096);
  EXPECT_EQ(parse_sm(ImageBench{{.window = 1 << 20}}.send(0).at(0)).window_length, kTerm / 2);
  EXPECT_EQ(parse_sm(ImageBench{{.term_length = 1 << 20}}.send(0).at(0)).window_length, 128 << 10);
}

// proves 4.5/7
TEST(StatusMessage, carries_the_group_tag_when_configured) {
  ImageBench i{{.has_group_tag = true, .group_tag = 101}};
  const auto sent = i.send(0);
  ASSERT_EQ(sent[0].size(), 44U);
  EXPECT_EQ(parse_sm(sent[0]).group_tag, 101);
}

// proves 3.7/2, 3.7/3
TEST(StatusMessage, repeats_the_last_scheduled_position_every_200_ms) {
  ImageBench i;
  i.start();
  i.data(0, 4096);
  i.consume_all();
  EXPECT_EQ(i.turn(199 * kMs), Lines{});
  EXPECT_EQ(i.turn(200 * kMs), Lines{});
  EXPECT_EQ(i.image.next_deadline_ns(), kStart_ns + 200 * kMs + 1);
  EXPECT_EQ(i.turn(200 * kMs + 1), Lines{"sm@0"}) << "4096 is less than a quarter of the window";
  EXPECT_EQ(i.turn(400 * kMs + 1), Lines{});
  EXPECT_EQ(i.turn(400 * kMs + 2), Lines{"sm@0"});
}

// proves 3.6/4, 3.7/2, 3.7/5
TEST(StatusMessage, is_scheduled_when_consumption_passed_a_quarter_of_the_window) {
  ImageBench i;
  i.start();
  Lines sent;
  for (int n = 0; n < 32; ++n) {  // frames of 1056 as in the recorded traffic: 8448 is the first multiple above 8192
    i.data(n * 1056, 1056);
    i.consume_all();
    for (const auto& line : i.turn(kMs)) sent.push_back(line);
  }
  EXPECT_EQ(sent, (Lines{"sm@8448", "sm@16896", "sm@25344", "sm@33792"}));
  EXPECT_EQ(i.state().overrun_threshold, 33792 + kTerm / 2);
}

// proves 3.6/4, 3.6/5
TEST(StatusMessage, follows_the_slowest_subscriber_not_what_was_received) {
  ImageBench i;
  i.start();
  for (int n = 0; n < 20; ++n) i.data(n * 1056, 1056);
  i.subscribers = {8192, 20 * 1056, 2};
  EXPECT_EQ(i.turn(kMs), Lines{}) << "exactly a quarter is not enough";
  i.subscribers = {8224, 20 * 1056, 2};
  EXPECT_EQ(i.turn(kMs), Lines{"sm@8224"});
}

TEST(StatusMessage, believes_no_subscriber_that_consumed_more_than_there_is) {
  ImageBench i;
  i.start();
  i.data(0, 1024);
  i.subscribers = {std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::max(), 1};
  EXPECT_EQ(i.turn(kMs), Lines{});
  i.subscribers = {std::numeric_limits<std::int64_t>::min(), 0, 1};
  EXPECT_EQ(i.turn(kMs), Lines{});
  EXPECT_EQ(i.state().next_sm_position, 0);
}

TEST(StatusMessage, is_tried_again_when_the_transport_refuses) {
  ImageBench i;
  i.start();
  for (int n = 0; n < 8; ++n) i.data(n * 1056, 1056);
  i.consume_all();
  i.sink.accept = 0;
  EXPECT_EQ(i.turn(kMs), Lines{});
  i.sink.accept = 5;
  EXPECT_EQ(i.turn(kMs), Lines{"sm@8448"});
}

// proves 3.2/8, 3.4/11, 3.4/14, 3.7/4, 3.7/7, 3.9/3, 8/2
TEST(StatusMessage, goes_to_every_connection_that_was_alive_within_5_s) {
  ImageBench i;
  i.image.on_setup(1, {0x0A000001, 5000}, kStart_ns);
  EXPECT_EQ(i.turn(0), (Lines{"sm@0", "sm@0"}));
  i.beat(0, 4 * kSecond_ns);
  EXPECT_EQ(i.turn(5 * kSecond_ns), (Lines{"sm@0", "sm@0"}));
  EXPECT_EQ(i.turn(5 * kSecond_ns + 300 * kMs), Lines{"sm@0"}) << "the second has been silent";
  EXPECT_EQ(i.turn(9 * kSecond_ns + 1), Lines{}) << "and now the first";
  i.image.on_setup(0, {9, 9}, kStart_ns + 9 * kSecond_ns);
  EXPECT_EQ(i.turn(9 * kSecond_ns + 300 * kMs), Lines{"sm@0"}) << "a SETUP wakes it";
  EXPECT_EQ(i.state().connections[0].control_port, 40123) << "the control address stays the first one";
}

// proves 3.4/16, 3.7/6
TEST(StatusMessage, a_superseded_image_keeps_only_its_scheduled_ones) {
  ImageBench i;
  i.start();
  i.image.supersede();
  EXPECT_FALSE(i.state().is_superseded) << "an ACTIVE image keeps talking";
  i.subscribers.count = 0;
  i.tick(kMs);
  i.image.supersede();
  EXPECT_EQ(i.turn(kSecond_ns), Lines{});
  for (int n = 0; n < 8; ++n) i.data(n * 1056, 1056);
  i.subscribers = {8448, 8448, 1};
  EXPECT_EQ(i.turn(kSecond_ns), Lines{"sm@8448"});
}

// proves 3.6/7
TEST(StatusMessage, the_word_behind_the_last_frame_is_zero_while_a_long_stream_passes) {
  ImageBench i{{.is_dirty = true}};
  i.start();
  for (std::int64_t position = 0; position < 20 * kTerm; position += 1024) {
    ASSERT_EQ(i.data(position, 1024), Insert::kInserted);
    ASSERT_TRUE(i.ends_and_gaps_are_zero()) << position;
    i.consume_all();
    i.send(kMs);
  }
}

// ---- loss ----

// proves 3.6/3, 3.8/3, 3.8/8, 3.8/12
TEST(Nak, the_first_comes_a_microsecond_after_the_gap_and_repeats_every_100_us) {
  ImageBench i;
  i.start();
  i.data(0);
  i.data(192);
  EXPECT_EQ(i.turn(0), Lines{});
  EXPECT_EQ(i.image.next_deadline_ns(), kStart_ns + kUs);
  const auto sent = i.send(kUs);
  ASSERT_EQ(sent.size(), 1U);
  const auto nak = wire::Nak::parse(sent[0]);
  EXPECT_EQ(nak->session_id, kSession);
  EXPECT_EQ(nak->stream_id, kStream);
  EXPECT_EQ(nak->term_id, 7);
  EXPECT_EQ(nak->term_offset, 96);
  EXPECT_EQ(nak->length, 96);
  EXPECT_EQ(i.turn(100 * kUs), Lines{});
  EXPECT_EQ(i.turn(101 * kUs), Lines{"nak@96+96"});
  EXPECT_EQ(i.turn(201 * kUs), Lines{"nak@96+96"});
  i.data(96);
  EXPECT_EQ(i.turn(301 * kUs), Lines{});
  EXPECT_EQ(i.count(LaneCounter::kNaksSent), 3U);
  EXPECT_EQ(i.counters[2], 3);
  EXPECT_EQ(i.state().gaps_seen, 1);
  EXPECT_EQ(i.state().bytes_lost, 96);
}

// proves 3.8/2
TEST(Nak, stock_rules_ask_for_the_first_gap_only) {
  ImageBench i;
  i.start();
  i.data(96);
  i.data(288);
  i.turn(0);
  EXPECT_EQ(i.turn(kUs), Lines{"nak@0+96"});
  i.data(0);
  EXPECT_EQ(i.turn(2 * kUs), Lines{}) << "the next gap is new to the timer";
  EXPECT_EQ(i.turn(3 * kUs), Lines{"nak@192+96"});
}

// proves 3.8/4
TEST(Nak, a_gap_that_shrinks_is_asked_for_anew_with_its_new_length) {
  ImageBench i;
  i.start();
  i.data(384);
  i.turn(0);
  EXPECT_EQ(i.turn(kUs), Lines{"nak@0+384"});
  i.data(0, 96);
  EXPECT_EQ(i.turn(2 * kUs), Lines{});
  EXPECT_EQ(i.turn(3 * kUs), Lines{"nak@96+288"});
  i.data(288, 96);
  i.turn(4 * kUs);
  EXPECT_EQ(i.turn(5 * kUs), Lines{"nak@96+192"});
  EXPECT_EQ(i.state().gaps_seen, 1) << "one loss, however it was repaired";
}

// proves 3.8/4
TEST(Nak, a_gap_that_grows_at_the_tail_is_asked_for_anew) {
  ImageBench i;
  i.start();
  i.beat(96);
  i.turn(0);
  EXPECT_EQ(i.turn(kUs), Lines{"nak@0+96"});
  i.data(192);
  i.turn(2 * kUs);
  EXPECT_EQ(i.turn(3 * kUs), Lines{"nak@0+192"});
}

// proves 1.7/5, 3.8/2
TEST(Nak, never_spans_two_terms) {
  ImageBench i{{.join_position = kTerm - 1024}};
  i.start();
  i.data(kTerm + 1024);
  i.turn(0);
  EXPECT_EQ(i.turn(kUs), Lines{"nak@64512+1024"});
  i.insert(pad_frame({7, kTerm - 1024}, 1024));
  i.turn(2 * kUs);
  const auto sent = i.send(3 * kUs);
  ASSERT_EQ(describe(sent), Lines{"nak@0+1024"});
  EXPECT_EQ(wire::Nak::parse(sent[0])->term_id, 8);
}

// A heartbeat of a sender that others of a group, or a PAD, carried past the window tells of bytes that would be refused.
TEST(Nak, asks_for_nothing_that_would_be_refused) {
  ImageBench i{{.flags = ImageFlags::kReliable | ImageFlags::kNakAllGaps}};
  i.start();
  i.data(0, 1024);
  i.beat(kTerm / 2 + 4096);
  i.turn(0);
  EXPECT_EQ(i.turn(kUs), Lines{"nak@1024+31744"});
  i.data(1024, kTerm / 2 - 32 - 1024);
  i.turn(2 * kUs);
  EXPECT_EQ(i.turn(3 * kUs), Lines{"nak@32736+32"}) << "a whole frame, perhaps";
  i.data(kTerm / 2 - 32, 32);
  i.turn(4 * kUs);
  EXPECT_EQ(i.turn(5 * kUs), Lines{});
  EXPECT_EQ(i.turn(kMs), Lines{});
  i.consume_all();
  EXPECT_EQ(i.turn(2 * kMs), Lines{"sm@32768"});
  EXPECT_EQ(i.turn(3 * kMs), Lines{"nak@32768+4096"}) << "now it would be taken";
}

TEST(Nak, a_reordered_datagram_that_arrives_within_the_delay_costs_none) {
  ImageBench i{{.adjust = [](auto& d) { d.nak_delay_ns = 50 * kUs; }}};
  i.start();
  i.data(96);
  i.turn(0);
  i.data(0);
  EXPECT_EQ(i.turn(50 * kUs), Lines{});
  EXPECT_EQ(i.state().gaps_seen, 0);
}

// proves 3.8/12
TEST(Nak, goes_out_on_every_alive_connection) {
  ImageBench i;
  i.image.on_setup(1, {1, 1}, kStart_ns);
  i.start();
  i.data(96);
  i.turn(0);
  EXPECT_EQ(i.turn(kUs), (Lines{"nak@0+96", "nak@0+96"}));
  EXPECT_EQ(i.counters[2], 1) << "one loss event";
}

// proves 3.8/6, 3.8/10
TEST(Nak, groups_back_off_for_a_random_time_below_the_maximum) {
  std::int64_t least = kSecond_ns, most = 0;
  int below_median = 0;
  constexpr std::int64_t kMedian_ns = 8'009'000;  // of 3.8 for 10 ms and ten receivers: T / lambda * ln(1 + (e^lambda - 1) / 2)
  for (std::int64_t seed = 1; seed <= 300; ++seed) {
    ImageBench i{{.flags = ImageFlags::kReliable | ImageFlags::kGroup}};
    i.slot->observed.state.random_state = static_cast<std::uint64_t>(seed) * 0x9E3779B97F4A7C15U;
    i.start();
    i.data(96);
    i.turn(0);
    const std::int64_t delay = i.image.next_deadline_ns() - kStart_ns;
    ASSERT_GE(delay, 0);
    ASSERT_LT(delay, 10 * kMs);
    below_median += delay < kMedian_ns ? 1 : 0;
    least = std::min(least, delay);
    most = std::max(most, delay);
    EXPECT_EQ(count_of(i.send(delay), wire::FrameType::kNak), 1U);
  }
  EXPECT_LT(least, 2 * kMs);
  EXPECT_GT(most, 9 * kMs);
  EXPECT_NEAR(below_median, 150, 30) << "most wait long, so that the few who are early answer for all";
}

TEST(Nak, all_gaps_up_to_the_high_water_mark_when_asked_to_each_with_its_own_timer) {
  ImageBench i{{.flags = ImageFlags::kReliable | ImageFlags::kNakAllGaps}};
  i.start();
  i.data(96);
  i.data(288);
  i.turn(0);
  EXPECT_EQ(i.turn(kUs), (Lines{"nak@0+96", "nak@192+96"}));
  i.data(480, 96, 50 * kUs);
  i.turn(50 * kUs);
  EXPECT_EQ(i.turn(51 * kUs), Lines{"nak@384+96"});
  EXPECT_EQ(i.turn(101 * kUs), (Lines{"nak@0+96", "nak@192+96"}));
  i.data(192);
  EXPECT_EQ(i.turn(151 * kUs), Lines{"nak@384+96"});
  EXPECT_EQ(i.turn(201 * kUs), Lines{"nak@0+96"});
}

TEST(Nak, all_gaps_are_bounded_and_the_rest_follows_when_there_is_room) {
  ImageBench i{{.flags = ImageFlags::kReliable | ImageFlags::kNakAllGaps}};
  i.start();
  for (int n = 0; n < 100; ++n) i.data(64 + n * 128, 64);
  i.turn(0);
  EXPECT_EQ(i.turn(kUs).size(), shm::kGapsMax);
  for (int n = 0; n < 99; ++n) {
    i.data(n * 128, 64);
    i.send(2 * kUs);
  }
  EXPECT_EQ(i.state().rebuild_position, 99 * 128);
  EXPECT_EQ(i.state().gap_count, 1);
}

// ---- our repair: what status messages say ----

constexpr std::uint32_t kOurRepair = ImageFlags::kReliable | ImageFlags::kNakAllGaps;
// A window of 8 KiB in a term of 1 MiB, and a first datagram of 96 bytes that is lost.
ImageBench::Options small_window(std::uint32_t flags) { return {.term_length = 1 << 20, .window = 8192, .flags = flags}; }
void arrive_behind_a_gap(ImageBench& i, std::int64_t from, std::int64_t to) {
  for (std::int64_t p = from; p < to; p += 1024) i.data(p, 1024);
}
std::vector<wire::StatusMessage> status_messages(const std::vector<Bytes>& sent) {
  std::vector<wire::StatusMessage> all;
  for (const Bytes& d : sent) {
    if (const auto sm = wire::StatusMessage::parse(d)) all.push_back(*sm);
  }
  return all;
}

TEST(OurWindow, is_not_used_up_by_what_waits_behind_a_gap) {
  ImageBench i{small_window(kOurRepair)};
  i.start();
  arrive_behind_a_gap(i, 96, 96 + 1024);
  EXPECT_EQ(status_messages(i.send(0)).size(), 0U) << "less than a quarter of the window";
  arrive_behind_a_gap(i, 96 + 1024, 96 + 4096);
  const auto sent = status_messages(i.send(0));
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].consumption_term_offset, 0);
  EXPECT_EQ(sent[0].window_length, 8192 + 96 + 4096);
}

TEST(OurWindow, is_not_taken_back_when_the_gap_is_closed) {
  ImageBench i{small_window(kOurRepair)};
  i.start();
  arrive_behind_a_gap(i, 96, 96 + 8192);
  ASSERT_EQ(status_messages(i.send(0)).size(), 1U);
  i.data(0);
  i.subscribers.min = i.subscribers.max = 4096;   // half of what came
  const auto sent = status_messages(i.send(kUs));
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].consumption_term_offset, 4096);
  EXPECT_EQ(sent[0].window_length, 96 + 8192 + 8192 - 4096) << "the same limit as before";
  i.consume_all();
  EXPECT_EQ(status_messages(i.send(2 * kUs)).at(0).window_length, 8192);
}

TEST(OurWindow, never_passes_half_a_term_and_does_not_grow_while_many_gaps_are_open) {
  ImageBench i{small_window(kOurRepair)};
  i.start();
  for (std::int64_t p = 96; p < 700'000; p += 1024) {
    i.data(p, 1024);
    for (const auto& sm : status_messages(i.send(p))) EXPECT_LE(sm.window_length, 1 << 19);
  }
  EXPECT_GT(i.state().next_sm_window, (1 << 19) - 8192 / 4) << "it grows in quarters of the window";
  ImageBench holed{small_window(kOurRepair)};
  holed.start();
  for (std::int64_t n = 0; n < 200; ++n) {
    holed.data(2048 * n + 1024, 1024);
    holed.send(n);
  }
  EXPECT_LT(holed.state().next_sm_window, 8192 + 2048 * static_cast<std::int64_t>(shm::kGapsMax));
}

TEST(OurWindow, stock_rules_and_groups_count_from_the_consumer) {
  for (const std::uint32_t flags : {ImageFlags::kReliable, kOurRepair | ImageFlags::kGroup, ImageFlags::kNakAllGaps}) {
    ImageBench i{small_window(flags)};
    i.start();
    arrive_behind_a_gap(i, 96, 96 + 8192);
    EXPECT_EQ(status_messages(i.send(0)).size(), 0U) << flags;
    EXPECT_EQ(i.state().next_sm_window, 8192);
  }
}

TEST(OurStatusMessages, answer_each_heartbeat_with_the_position_of_now) {
  ImageBench i{small_window(kOurRepair)};
  i.start();
  i.data(0, 1024);
  i.consume_all();
  EXPECT_EQ(i.turn(kUs), Lines{}) << "too little for one";
  i.beat(1024);
  EXPECT_EQ(i.turn(2 * kUs), Lines{"sm@1024"});
  EXPECT_EQ(i.turn(3 * kUs), Lines{});
  i.beat(1024);
  EXPECT_EQ(i.turn(4 * kUs), Lines{"sm@1024"});
}

TEST(OurStatusMessages, are_not_sent_for_heartbeats_by_stock_rules) {
  ImageBench i;
  i.start();
  i.beat(0);
  EXPECT_EQ(i.turn(kUs), Lines{});
}

// proves 3.8/5, 3.8/13, 3.8/14
TEST(Unreliable, gaps_are_filled_with_padding_at_once_and_nothing_is_asked_for) {
  ImageBench i{{.flags = 0}};
  i.start();
  i.data(192);
  EXPECT_EQ(i.turn(0), Lines{});
  EXPECT_EQ(i.state().rebuild_position, 288);
  const wire::DataView pad{i.log.view().at(0)};
  EXPECT_EQ(pad.frame_length(), 192);
  EXPECT_EQ(pad.type(), wire::FrameType::kPad);
  EXPECT_EQ(pad.flags(), 0xC0);
  EXPECT_EQ(pad.term_id(), 7);
  EXPECT_EQ(pad.session_id(), kSession);
  EXPECT_EQ(i.count(LaneCounter::kLossGapFills), 1U);
  EXPECT_EQ(i.data(0), Insert::kInserted) << "what comes late is a duplicate";
  EXPECT_EQ(pad.type(), wire::FrameType::kPad);
  EXPECT_EQ(i.state().gaps_seen, 1);
}

// proves 3.6/1, 3.8/15
TEST(Loss, nothing_is_asked_for_once_the_stream_is_revoked_or_nobody_listens) {
  ImageBench revoked;
  revoked.start();
  revoked.data(96);
  revoked.beat(192, 0, 0xF0);
  revoked.turn(0);
  EXPECT_EQ(revoked.turn(kMs), Lines{});
  ImageBench deserted;
  deserted.start();
  deserted.subscribers.count = 0;
  deserted.data(96);
  deserted.turn(0);
  EXPECT_EQ(deserted.turn(kMs), Lines{});
}

// ---- round trips ----

TEST(RoundTrip, is_measured_when_asked_to_and_paces_the_repeats) {
  ImageBench i{{.flags = ImageFlags::kReliable | ImageFlags::kMeasureRtt}};
  const auto sent = i.send(0);
  ASSERT_EQ(describe(sent), (Lines{"sm@0", "rtt"}));
  auto rtt = *wire::RttMeasurement::parse(sent[1]);
  EXPECT_TRUE(rtt.is_request);
  EXPECT_EQ(rtt.receiver_id, 4711);
  rtt.is_request = false;
  i.image.on_rtt_reply(rtt, kStart_ns + 200 * kUs);
  EXPECT_EQ(i.state().srtt_ns, 200 * kUs);
  EXPECT_EQ(i.turn(101 * kMs - 1), Lines{}) << "known, and nothing is missing";
  i.data(96);
  EXPECT_EQ(i.turn(101 * kMs), Lines{"rtt"}) << "a gap asks again, once in a millisecond";
  i.turn(101 * kMs + kUs);
  EXPECT_EQ(i.turn(101 * kMs + 400 * kUs), Lines{});
  EXPECT_EQ(i.turn(101 * kMs + 401 * kUs), Lines{"nak@0+96"});
  EXPECT_EQ(count_of(i.send(102 * kMs + 1), wire::FrameType::kRttMeasurement), 1U);
}

TEST(RoundTrip, an_unanswered_request_is_repeated_every_100_ms) {
  ImageBench i{{.flags = ImageFlags::kReliable | ImageFlags::kMeasureRtt}};
  i.send(0);
  EXPECT_EQ(i.turn(100 * kMs), Lines{});
  EXPECT_EQ(i.turn(100 * kMs + 1), Lines{"rtt"});
}

TEST(RoundTrip, replies_that_are_not_ours_are_ignored) {
  ImageBench i{{.flags = ImageFlags::kReliable | ImageFlags::kMeasureRtt}};
  auto rtt = *wire::RttMeasurement::parse(i.send(0).at(1));
  rtt.is_request = false;
  for (const auto& forge : std::initializer_list<std::function<void(wire::RttMeasurement&)>>{
           [](auto& r) { r.receiver_id = 1; }, [](auto& r) { r.echo_timestamp_ns -= 5; }, [](auto& r) { r.reception_delta_ns = kSecond_ns; },
           [](auto& r) { r.reception_delta_ns = -1; }, [](auto& r) { r.is_request = true; }}) {
    auto forged = rtt;
    forge(forged);
    i.image.on_rtt_reply(forged, kStart_ns + kMs);
  }
  i.image.on_rtt_reply(rtt, kStart_ns + 11 * kSecond_ns);
  EXPECT_EQ(i.state().srtt_ns, 0);
}

// proves 3.1/2, 3.2/11, 3.2/12
TEST(RoundTrip, a_senders_request_is_answered_if_it_is_for_us) {
  ImageBench i;
  i.image.on_rtt_request({true, kSession, kStream, 55, 0, 0}, i.sink);
  i.image.on_rtt_request({true, kSession, kStream, 56, 0, 99}, i.sink);
  const auto sent = i.sink.drain();
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(wire::RttMeasurement::parse(sent[0])->receiver_id, 4711);
  EXPECT_EQ(wire::RttMeasurement::parse(sent[0])->echo_timestamp_ns, 55);
}

// ---- rejection ----

// proves 1.8/4, 1.8/5, 3.1/2, 3.4/14, 3.5/1, 3.13/2, 3.13/3, 3.13/4, 3.13/5
TEST(Rejected, error_frames_take_the_place_of_status_messages_and_data_is_dropped) {
  ImageBench i;
  i.start();
  const std::string_view reason = "rejected by subscriber";
  i.image.reject(std::as_bytes(std::span{reason}));
  EXPECT_EQ(i.data(0, 96, kMs), Insert::kRejected);
  EXPECT_EQ(i.count(LaneCounter::kDropImageRejected), 1U);
  EXPECT_EQ(i.turn(200 * kMs), Lines{}) << "the running deadline stands";
  const auto sent = i.send(200 * kMs + 1);
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].size(), 62U);
  const auto error = wire::ErrorFrame::parse(sent[0]);
  EXPECT_EQ(error->code, 13);
  EXPECT_EQ(error->receiver_id, 4711);
  EXPECT_FALSE(error->group_tag);
  EXPECT_EQ(load_le<std::int64_t>(sent[0].data() + 24), -1);
  EXPECT_EQ(i.turn(400 * kMs + 2), Lines{"error"});
  EXPECT_EQ(i.count(LaneCounter::kErrorFramesSent), 2U);
  EXPECT_TRUE(i.tick(10 * kSecond_ns + 1)) << "liveness expires";
  EXPECT_EQ(i.turn(11 * kSecond_ns), Lines{"error"}) << "instead of EOS status messages, to dead connections too";
}

TEST(Rejected, a_long_reason_is_cut) {
  ImageBench i;
  const std::string reason(3000, 'x');
  i.image.reject(std::as_bytes(std::span{reason}));
  EXPECT_EQ(i.send(kSecond_ns).at(0).size(), 40U + 1023U);
}

// ---- life cycle ----

// proves 1.6/5, 3.7/8, 3.11/3, 3.11/5, 3.11/6, 3.11/8, 3.11/9
TEST(ImageLife, ends_after_draining_five_status_message_times_and_lingering) {
  ImageBench i;
  i.start();
  i.data(0);
  i.beat(96, kMs, 0xE0);
  EXPECT_TRUE(i.tick(2 * kMs));
  EXPECT_EQ(i.state().lifecycle, Lifecycle::kDraining);
  EXPECT_EQ(parse_sm(i.send(201 * kMs).at(0)).flags, wire::flag::kSmEndOfStream);
  EXPECT_FALSE(i.tick(2 * kSecond_ns)) << "the subscriber has not consumed";
  i.consume_all();
  EXPECT_TRUE(i.tick(2 * kSecond_ns));
  EXPECT_EQ(i.state().lifecycle, Lifecycle::kLinger);
  EXPECT_EQ(i.turn(3 * kSecond_ns), Lines{});
  EXPECT_EQ(i.data(96, 96, 3 * kSecond_ns), Insert::kRejected) << "no more frames either way";
  EXPECT_FALSE(i.tick(12 * kSecond_ns));
  EXPECT_TRUE(i.tick(12 * kSecond_ns + 1));
  EXPECT_EQ(i.state().lifecycle, Lifecycle::kDone);
}

// proves 3.11/6
TEST(ImageLife, draining_lasts_five_status_message_times_even_when_all_is_consumed) {
  ImageBench i;
  i.start();
  i.beat(0, 0, 0xE0);
  i.tick(0);
  EXPECT_FALSE(i.tick(kSecond_ns));
  EXPECT_TRUE(i.tick(kSecond_ns + 1));
}

// proves 3.11/3
TEST(ImageLife, the_end_waits_until_everything_has_been_received) {
  ImageBench i;
  i.start();
  i.beat(96, 0, 0xE0);
  EXPECT_FALSE(i.tick(kMs));
  i.data(0);
  EXPECT_TRUE(i.tick(kMs));
}

// proves 3.11/4, 3.11/6
TEST(ImageLife, a_revoked_stream_ends_at_once_without_end_of_stream_status_messages) {
  ImageBench i;
  i.start();
  i.data(192);
  i.beat(288, 0, 0xF0);
  EXPECT_TRUE(i.tick(kMs));
  EXPECT_FALSE(i.state().is_sending_eos_sm);
  EXPECT_TRUE(i.tick(2 * kMs));
  EXPECT_EQ(i.state().lifecycle, Lifecycle::kLinger);
}

// proves 3.9/1, 3.9/3, 3.11/2
TEST(ImageLife, silence_beyond_the_liveness_timeout_ends_it) {
  ImageBench i;
  i.start();
  i.beat(0, kSecond_ns);
  EXPECT_FALSE(i.tick(11 * kSecond_ns));
  i.image.on_setup(0, {1, 1}, kStart_ns + 11 * kSecond_ns);
  EXPECT_TRUE(i.tick(11 * kSecond_ns + 1)) << "a SETUP is no sign of life for the image";
}

// proves 1.6/5, 3.7/8, 3.11/1, 3.11/5, 3.11/9
TEST(ImageLife, ends_when_the_last_subscriber_leaves) {
  ImageBench i;
  i.start();
  i.subscribers.count = 0;
  EXPECT_TRUE(i.tick(kMs));
  EXPECT_EQ(parse_sm(i.send(201 * kMs).at(0)).flags, wire::flag::kSmEndOfStream);
  EXPECT_TRUE(i.tick(kSecond_ns + 2 * kMs));
  EXPECT_TRUE(i.tick(kSecond_ns + 3 * kMs));
  EXPECT_EQ(i.state().lifecycle, Lifecycle::kDone);
}

TEST(ImageLife, rcv_counters_show_what_was_received) {
  ImageBench i;
  i.start();
  i.data(0);
  i.data(192);
  i.send(kMs);
  EXPECT_EQ(i.counters[0], 288);
  EXPECT_EQ(i.counters[1], 96);
}

}  // namespace
}  // namespace thalweg::proto::test
