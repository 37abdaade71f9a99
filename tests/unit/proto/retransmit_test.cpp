#include "tests/unit/proto/proto_fixture.hpp"

// wire-protocol 2.10.
namespace thalweg::proto::test {
namespace {

using shm::LaneCounter;
using shm::PublicationFlags;

// Sends `n` frames of `length` bytes, one datagram each when length > half the MTU. One receiver has them all, another one has said no more
// than that it is there and may ask for any.
void sent_frames(PublicationBench& p, int n, std::int32_t length) {
  p.connect();
  p.status(0, p.options.start_position, kTerm / 2, 0, 2);
  for (int i = 0; i < n; ++i) {
    p.limit();
    p.publisher.publish(static_cast<std::size_t>(length - 32), static_cast<std::uint8_t>(i));
    p.send(kMs);
    p.status(kMs, p.state().sender_position);
  }
}

// proves 2.10/8, 2.10/14
TEST(Retransmit, is_sent_at_once_and_is_byte_identical) {
  PublicationBench p;
  sent_frames(p, 5, 1024);
  p.publication.on_nak({kSession, kStream, 7, 2048, 1024}, kStart_ns + 2 * kMs, p.sink);
  const auto sent = p.sink.drain();
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(std::memcmp(sent[0].data(), p.log.view().at(2048), 1024), 0);
  EXPECT_EQ(p.count(LaneCounter::kNaksReceived), 1U);
  EXPECT_EQ(p.count(LaneCounter::kRetransmitsSent), 1U);
  EXPECT_EQ(p.count(LaneCounter::kRetransmittedBytes), 1024U);
  EXPECT_EQ(p.counters[5], 1);
}

// proves 2.10/12
TEST(Retransmit, of_a_long_gap_is_made_of_datagrams_up_to_the_mtu) {
  PublicationBench p;
  sent_frames(p, 10, 512);
  EXPECT_EQ(p.nak(2 * kMs, 512, 512 * 5), (Lines{"data@512+1024", "data@1536+1024", "data@2560+512"}));
}

// proves 2.10/5, 2.10/8, 2.10/10
TEST(Retransmit, repeats_of_the_same_nak_are_ignored_until_the_linger_is_over) {
  PublicationBench p;
  sent_frames(p, 5, 1024);
  EXPECT_EQ(p.nak(2 * kMs, 1024, 1024).size(), 1U);
  EXPECT_EQ(p.nak(3 * kMs, 1024, 1024).size(), 0U);
  EXPECT_EQ(p.nak(11 * kMs, 1536, 64).size(), 0U) << "inside the range that is being repaired";
  p.turn(12 * kMs);
  EXPECT_EQ(p.nak(12 * kMs, 1024, 1024).size(), 0U) << "10 ms are reached, not exceeded";
  p.turn(12 * kMs + 1);
  EXPECT_EQ(p.nak(12 * kMs + 1, 1024, 1024).size(), 1U);
}

// proves 2.10/6
TEST(Retransmit, a_unicast_publication_has_one_slot_and_another_range_takes_it_at_once) {
  PublicationBench p;
  sent_frames(p, 5, 1024);
  EXPECT_EQ(p.nak(2 * kMs, 1024, 1024), Lines{"data@1024+1024"});
  EXPECT_EQ(p.nak(2 * kMs, 3072, 1024), Lines{"data@3072+1024"});
  EXPECT_EQ(p.nak(2 * kMs, 1024, 1024), Lines{"data@1024+1024"}) << "the first range was forgotten";
}

// proves 2.10/7
TEST(Retransmit, a_group_has_max_resend_slots_and_counts_what_finds_none) {
  PublicationBench p{{.flags = PublicationFlags::kGroup, .adjust = [](auto& d) { d.max_resend = 2; }}};
  sent_frames(p, 5, 1024);
  EXPECT_EQ(p.nak(2 * kMs, 0, 1024).size(), 1U);
  EXPECT_EQ(p.nak(2 * kMs, 1024, 1024).size(), 1U);
  EXPECT_EQ(p.nak(2 * kMs, 2048, 1024).size(), 0U);
  EXPECT_EQ(p.count(LaneCounter::kRetransmitOverflows), 1U);
  EXPECT_EQ(p.nak(2 * kMs, 0, 1024).size(), 0U) << "known ranges are no overflow";
  EXPECT_EQ(p.count(LaneCounter::kRetransmitOverflows), 1U);
  p.turn(13 * kMs);
  EXPECT_EQ(p.nak(13 * kMs, 2048, 1024).size(), 1U);
}

// proves 2.3/3, 2.10/5, 2.10/9
TEST(Retransmit, waits_for_the_configured_delay) {
  PublicationBench p{{.adjust = [](auto& d) { d.retransmit_delay_ns = 5 * kMs; }}};
  sent_frames(p, 3, 1024);
  EXPECT_EQ(p.nak(2 * kMs, 1024, 1024), Lines{});
  EXPECT_EQ(p.nak(3 * kMs, 1024, 1024), Lines{});
  EXPECT_EQ(p.turn(7 * kMs), Lines{});
  EXPECT_EQ(p.publication.next_deadline_ns(), kStart_ns + 7 * kMs + 1);
  EXPECT_EQ(p.turn(7 * kMs + 1), Lines{"data@1024+1024"});
  EXPECT_EQ(p.nak(8 * kMs, 1024, 1024), Lines{});
}

TEST(Retransmit, that_still_waits_for_its_delay_is_not_displaced_by_another_gap) {
  PublicationBench p{{.adjust = [](auto& d) { d.retransmit_delay_ns = 5 * kMs; }}};
  sent_frames(p, 5, 1024);
  for (int i = 0; i < 4; ++i) {  // a receiver that misses two ranges asks for them in turn
    EXPECT_EQ(p.nak((2 + i) * kMs, i % 2 == 0 ? 1024 : 3072, 1024), Lines{});
  }
  EXPECT_EQ(p.turn(7 * kMs + 1), Lines{"data@1024+1024"});
  EXPECT_EQ(p.turn(8 * kMs + 1), Lines{"data@3072+1024"});
}

// proves 2.10/15
TEST(Retransmit, is_not_subject_to_the_sender_limit) {
  PublicationBench p;
  p.connect(1024);
  p.publisher.publish(992);
  p.send(kMs);
  ASSERT_EQ(p.state().sender_position, p.state().sender_limit);
  EXPECT_EQ(p.nak(2 * kMs, 0, 1024), Lines{"data@0+1024"});
}

// proves 2.10/11
TEST(Retransmit, never_goes_beyond_what_was_sent) {
  PublicationBench p;
  p.connect(2048);
  for (int i = 0; i < 4; ++i) p.publisher.publish(992);
  p.send(kMs);
  ASSERT_EQ(p.state().sender_position, 2048);
  EXPECT_EQ(p.nak(2 * kMs, 2048, 1024), Lines{}) << "at the sender position";
  EXPECT_EQ(p.nak(2 * kMs, 3072, 1024), Lines{}) << "beyond it";
  EXPECT_EQ(p.nak(2 * kMs, 1024, 4096), Lines{"data@1024+1024"}) << "across it";
}

// The sender limit stops a PAD's header, not the PAD (1.15): what was lost just before one lies that much further back.
// proves 2.10/11
TEST(Retransmit, reaches_back_half_a_term_and_the_longest_pad) {
  for (const auto& [mtu, longest] : {std::pair{1408, 8384}, {96, 12288}, {16384, 16384}}) {
    PublicationBench p{{.mtu = mtu}};
    sent_frames(p, 1900, 32);
    const std::int64_t oldest = 1900 * 32 - kTerm / 2 - longest;
    EXPECT_EQ(p.nak(2 * kMs, oldest - 32, 32).size(), 0U) << mtu;
    EXPECT_EQ(p.nak(2 * kMs, oldest, 32).size(), 1U) << mtu;
  }
}

// proves 2.10/3
TEST(Retransmit, is_clamped_to_the_multiple_of_the_fixed_base_window) {
  // One term of 256 KiB: base min(128 KiB, 128 KiB); with a multiple of 4 all of a term, so a small one shows the clamp.
  PublicationBench p{{.adjust = [](auto& d) { d.retransmit_window_multiple = 1; }}};
  sent_frames(p, 40, 1024);
  std::size_t bytes = 0;
  p.publication.on_nak({kSession, kStream, 7, 0, kTerm}, kStart_ns + 2 * kMs, p.sink);
  for (const Bytes& d : p.sink.drain()) bytes += d.size();
  EXPECT_EQ(bytes, static_cast<std::size_t>(kTerm / 2)) << "1 x min(128 KiB, half a term)";
}

// proves 2.10/13
TEST(Retransmit, does_not_cross_the_end_of_a_term_and_repeats_its_padding) {
  PublicationBench p;
  sent_frames(p, 63, 1024);
  p.publisher.publish(2000);
  p.send(kMs);
  EXPECT_EQ(p.nak(2 * kMs, 63 * 1024, 1024), Lines{"pad@64512+1024"});
}

TEST(Retransmit, a_long_one_is_spread_over_turns_and_finishes) {
  PublicationBench p{{.term_length = 1 << 20}};
  p.connect(512 << 10);
  for (int i = 0; i < 100; ++i) {
    p.limit();
    p.publisher.publish(992);
    p.send(kMs);
  }
  EXPECT_EQ(p.nak(2 * kMs, 0, 100 * 1024).size(), static_cast<std::size_t>(kRetransmitDatagramsPerTurn));
  EXPECT_EQ(p.publication.next_deadline_ns(), 1);
  EXPECT_EQ(p.turn(2 * kMs).size(), 36U);
  EXPECT_EQ(p.turn(2 * kMs).size(), 0U);
  EXPECT_EQ(p.count(LaneCounter::kRetransmitsSent), 1U);
  EXPECT_EQ(p.count(LaneCounter::kRetransmittedBytes), 100U * 1024U);
}

TEST(Retransmit, what_the_transport_refuses_is_tried_again) {
  PublicationBench p;
  sent_frames(p, 5, 1024);
  p.sink.accept = 1;
  EXPECT_EQ(p.nak(2 * kMs, 0, 3072), Lines{"data@0+1024"});
  p.sink.accept = 10;
  EXPECT_EQ(p.turn(2 * kMs), (Lines{"data@1024+1024", "data@2048+1024"}));
}

TEST(Retransmit, the_limit_per_interval_bounds_what_naks_can_make_us_send) {
  PublicationBench p{{.adjust = [](auto& d) {
    d.retransmit_limit_bytes = 4096;
    d.retransmit_limit_interval_ns = kSecond_ns;
  }}};
  sent_frames(p, 20, 1024);
  EXPECT_EQ(p.nak(2 * kMs, 0, 3072).size(), 3U);
  EXPECT_EQ(p.nak(2 * kMs, 4096, 3072).size(), 1U) << "what is left of the interval";
  EXPECT_EQ(p.nak(2 * kMs, 8192, 1024).size(), 0U);
  EXPECT_EQ(p.count(LaneCounter::kRetransmitsLimited), 1U);
  EXPECT_EQ(p.nak(1100 * kMs, 8192, 1024).size(), 1U);
}

TEST(Retransmit, a_nak_that_is_shorter_than_the_frame_there_costs_nothing) {
  PublicationBench p{{.adjust = [](auto& d) {
    d.retransmit_limit_bytes = 1024;
    d.retransmit_limit_interval_ns = kSecond_ns;
  }}};
  sent_frames(p, 5, 1024);
  EXPECT_EQ(p.nak(2 * kMs, 1024, 32), Lines{});
  EXPECT_EQ(p.state().retransmit_interval_bytes, 0);
  EXPECT_EQ(p.nak(2 * kMs, 0, 1024), Lines{"data@0+1024"});
}

// The receiver of an A/B stream may be ahead of this side, and begin anew where this side is.
TEST(Retransmit, what_a_receiver_acknowledged_before_it_began_anew_is_still_there) {
  PublicationBench p;
  p.connect();
  p.status(kMs, 16 << 10);
  p.status(2 * kMs, 0);
  for (int i = 0; i < 8; ++i) p.publisher.publish(1024 - 32);
  p.limit(3 * kMs);
  ASSERT_EQ(p.send(3 * kMs).size(), 8U);
  for (int i = 0; i < 4; ++i) p.limit((4 + i) * kMs);
  EXPECT_EQ(p.nak(10 * kMs, 0, 1024), Lines{"data@0+1024"});
}

// A group has many actions under way; what one was promised another may have used by the time it is sent.
TEST(Retransmit, the_limit_holds_for_all_delayed_actions_of_a_group_together) {
  PublicationBench p{{.flags = PublicationFlags::kGroup, .adjust = [](auto& d) {
    d.retransmit_delay_ns = kMs;
    d.retransmit_limit_bytes = 4096;
    d.retransmit_limit_interval_ns = kSecond_ns;
  }}};
  sent_frames(p, 20, 1024);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(p.nak(2 * kMs, i * 2048, 2048), Lines{});
  const auto sent = p.send(3 * kMs + 1);
  EXPECT_EQ(count_of(sent, wire::FrameType::kData), 4U);
  EXPECT_EQ(p.state().retransmit_interval_bytes, 4096);
  EXPECT_GE(p.count(LaneCounter::kRetransmitsLimited), 1U);
}

// proves 2.10/4
TEST(Retransmit, a_group_is_sent_as_many_windows_for_one_nak_as_its_channel_says) {
  for (const auto& [multiple, expected] : {std::pair{1, 32U << 10}, {2, 40U << 10}}) {
    PublicationBench p{{.flags = PublicationFlags::kGroup, .adjust = [m = multiple](auto& d) { d.retransmit_window_multiple = m; }}};
    sent_frames(p, 64, 1024);  // a whole term
    std::size_t bytes = 0;
    for (const auto& d : p.nak_sends(2 * kMs, 24 << 10, 40 << 10)) bytes += d.size();
    EXPECT_EQ(bytes, expected) << "windows of half a term here: " << multiple;
  }
}

TEST(Retransmit, any_window_multiple_is_safe) {
  PublicationBench p{{.adjust = [](auto& d) { d.retransmit_window_multiple = std::numeric_limits<std::int32_t>::max(); }}};
  sent_frames(p, 5, 1024);
  EXPECT_EQ(p.nak(2 * kMs, 0, 4096).size(), 4U);
}

TEST(Retransmit, linger_auto_follows_a_known_round_trip_and_else_the_configured_linger) {
  struct Case { std::int64_t srtt; std::int64_t configured; std::int64_t linger; };
  for (const Case& c : {Case{0, 10 * kMs, 10 * kMs}, {0, 0, 50 * kUs}, {10 * kUs, 10 * kMs, 50 * kUs}, {100 * kUs, 10 * kMs, 200 * kUs}}) {
    PublicationBench p{{.adjust = [&](auto& d) {
      d.is_retransmit_linger_auto = 1;
      d.retransmit_linger_ns = c.configured;
    }}};
    sent_frames(p, 3, 1024);
    p.slot->observed.state.srtt_ns = c.srtt;
    EXPECT_EQ(p.nak(2 * kMs, 0, 1024), (Lines{"rtt", "data@0+1024"}));
    p.turn(2 * kMs + c.linger);
    EXPECT_EQ(p.nak(2 * kMs + c.linger, 0, 1024).size(), 0U) << c.srtt;
    p.turn(2 * kMs + c.linger + 1);
    EXPECT_EQ(count_of(p.nak_sends(2 * kMs + c.linger + 1, 0, 1024), wire::FrameType::kData), 1U) << c.srtt;
  }
}

PublicationBench::Options linger_auto(std::uint32_t flags = 0) {
  return {.flags = flags, .adjust = [](auto& d) { d.is_retransmit_linger_auto = 1; }};
}
wire::RttMeasurement reply_to(const Bytes& request) {
  wire::RttMeasurement reply = *wire::RttMeasurement::parse(request);
  reply.is_request = false;
  reply.receiver_id = 1;
  return reply;
}

TEST(Retransmit, linger_auto_measures_the_round_trip_with_the_retransmits) {
  PublicationBench p{linger_auto()};
  sent_frames(p, 5, 1024);
  const auto first = p.nak_sends(2 * kMs, 0, 1024);
  ASSERT_EQ(describe(first), (Lines{"rtt", "data@0+1024"}));
  EXPECT_TRUE(wire::RttMeasurement::parse(first[0])->is_request);
  EXPECT_EQ(wire::RttMeasurement::parse(first[0])->receiver_id, 0) << "whoever receives this unicast stream";
  EXPECT_EQ(p.nak(2 * kMs + 100 * kUs, 2048, 1024), Lines{"data@2048+1024"}) << "one request in a millisecond";
  p.publication.on_rtt_measurement(reply_to(first[0]), kStart_ns + 2 * kMs + 300 * kUs, p.sink);
  EXPECT_EQ(p.state().srtt_ns, 300 * kUs);
  EXPECT_EQ(p.nak(2 * kMs + 600 * kUs, 2048, 1024), Lines{}) << "lingers for one more round trip";
  p.turn(2 * kMs + 600 * kUs + 1);
  EXPECT_EQ(p.nak(2 * kMs + 600 * kUs + 1, 2048, 1024), Lines{"data@2048+1024"});
}

TEST(Retransmit, replies_that_are_not_to_our_request_teach_nothing) {
  PublicationBench p{linger_auto()};
  p.publication.on_rtt_measurement({false, kSession, kStream, 0, 0, 1}, kStart_ns, p.sink);
  sent_frames(p, 5, 1024);
  const auto reply = reply_to(p.nak_sends(2 * kMs, 0, 1024).at(0));
  for (const auto& forge : std::initializer_list<std::function<void(wire::RttMeasurement&)>>{
           [](auto& r) { r.echo_timestamp_ns -= 5; }, [](auto& r) { r.reception_delta_ns = kSecond_ns; }, [](auto& r) { r.reception_delta_ns = -1; },
           [](auto& r) { r.reception_delta_ns = std::numeric_limits<std::int64_t>::min(); }}) {
    auto forged = reply;
    forge(forged);
    p.publication.on_rtt_measurement(forged, kStart_ns + 3 * kMs, p.sink);
  }
  p.publication.on_rtt_measurement(reply, kStart_ns + 13 * kSecond_ns, p.sink);
  EXPECT_EQ(p.state().srtt_ns, 0);
}

TEST(Retransmit, nothing_is_measured_by_stock_rules_or_for_a_group) {
  PublicationBench stock;
  sent_frames(stock, 2, 1024);
  EXPECT_EQ(stock.nak(2 * kMs, 0, 1024), Lines{"data@0+1024"});
  PublicationBench many{linger_auto(shm::PublicationFlags::kGroup)};
  sent_frames(many, 2, 1024);
  EXPECT_EQ(many.nak(2 * kMs, 0, 1024), Lines{"data@0+1024"});
}

TEST(Retransmit, a_nak_between_two_frames_does_no_harm) {
  PublicationBench p;
  sent_frames(p, 5, 1024);
  EXPECT_EQ(p.nak(2 * kMs, 1024 + 64, 1024), Lines{});
  EXPECT_FALSE(p.state().is_corrupt);
}

// proves 1.7/3, 1.7/4, 2.10/1, 2.10/2
TEST(Retransmit, naks_that_break_the_rules_are_counted_invalid_and_empty_ones_ignored) {
  PublicationBench p;
  sent_frames(p, 5, 1024);
  for (const wire::Nak& nak : {wire::Nak{kSession, kStream, 7, 16, 64}, wire::Nak{kSession, kStream, 7, kTerm, 64},
                               wire::Nak{kSession, kStream, 7, 0, -1}, wire::Nak{kSession, kStream, 7, 64, kTerm}}) {
    p.publication.on_nak(nak, kStart_ns, p.sink);
  }
  EXPECT_EQ(p.count(LaneCounter::kDropInvalidFrame), 4U);
  EXPECT_EQ(p.nak(2 * kMs, 0, 0), Lines{});
  p.publication.on_nak({kSession, kStream, 6, 0, 1024}, kStart_ns, p.sink);  // a term before the stream began
  EXPECT_EQ(p.sink.drain().size(), 0U);
}

}  // namespace
}  // namespace thalweg::proto::test
