#include "tests/unit/proto/proto_fixture.hpp"

// wire-protocol 4.6, 4.7, and what is ours: cc=aimd, nak-backoff, nak-max.
namespace thalweg::proto::test {
namespace {

using shm::CongestionControl;
using shm::ImageFlags;
using shm::LaneCounter;

ImageBench::Options controlled(CongestionControl kind, std::int32_t window = 128 << 10, std::int32_t term_length = 16 << 20) {
  return {.term_length = term_length, .window = window, .adjust = [=](auto& d) {
    d.congestion_control = kind;
    d.initial_rtt_ns = 10 * kMs;
    d.is_rtt_measured = 1;
  }};
}
std::vector<std::int32_t> windows(const std::vector<Bytes>& sent) {
  std::vector<std::int32_t> out;
  for (const Bytes& d : sent) {
    if (type_of(d) == wire::FrameType::kStatusMessage) out.push_back(wire::StatusMessage::parse(d)->window_length);
  }
  return out;
}
wire::RttMeasurement reply_to(const std::vector<Bytes>& sent) {
  wire::RttMeasurement rtt;
  for (const Bytes& d : sent) {
    if (type_of(d) == wire::FrameType::kRttMeasurement) rtt = *wire::RttMeasurement::parse(d);
  }
  EXPECT_TRUE(rtt.is_request) << "no request was sent";
  rtt.is_request = false;
  return rtt;
}

// ---- cubic ----

// The worked example of 4.7: MTU 1408, 32768 bytes at the most, initial RTT 10 ms.
// proves 4.7/1, 4.7/3, 3.6/6
TEST(Cubic, grows_as_recorded) {
  ImageBench i{controlled(CongestionControl::kCubic, 128 << 10, kTerm)};
  std::vector<std::int32_t> seen;
  for (std::int64_t t = 0; t <= 4 * kSecond_ns; t += kMs) {
    i.insert(heartbeat(i.at(0)), t);
    for (const std::int32_t w : windows(i.send(t))) {
      if (seen.empty() || seen.back() != w) seen.push_back(w);
    }
  }
  EXPECT_EQ(seen, (std::vector<std::int32_t>{14080, 26752, 28160, 29568, 30976, 32384}));
}

// proves 4.7/6, 4.7/8
TEST(Cubic, asks_for_the_round_trip_with_the_first_status_message_and_every_four_initial_ones) {
  ImageBench i{controlled(CongestionControl::kCubic, 128 << 10, kTerm)};
  std::vector<std::int64_t> asked;
  for (std::int64_t t = 0; t <= 130 * kMs; t += kMs) {
    if (count_of(i.send(t), wire::FrameType::kRttMeasurement) > 0) asked.push_back(t / kMs);
  }
  EXPECT_EQ(asked, (std::vector<std::int64_t>{0, 41, 82, 123})) << "more than 40 ms";
}

// proves 4.7/7
TEST(Cubic, a_measured_round_trip_longer_than_the_initial_one_makes_requests_rarer) {
  ImageBench i{controlled(CongestionControl::kCubic, 128 << 10, kTerm)};
  i.image.on_rtt_reply(reply_to(i.send(0)), kStart_ns + 30 * kMs);
  EXPECT_EQ(i.state().rtt_ns, 30 * kMs);
  EXPECT_EQ(count_of(i.send(150 * kMs), wire::FrameType::kRttMeasurement), 0U);
  EXPECT_EQ(count_of(i.send(150 * kMs + 1), wire::FrameType::kRttMeasurement), 1U);
}

// proves 4.7/6
TEST(Cubic, measures_nothing_unless_told) {
  ImageBench::Options o = controlled(CongestionControl::kCubic);
  o.adjust = [](auto& d) {
    d.congestion_control = CongestionControl::kCubic;
    d.initial_rtt_ns = 100 * kUs;
  };
  ImageBench i{o};
  EXPECT_EQ(count_of(i.send(0), wire::FrameType::kRttMeasurement), 0U);
}

// proves 4.7/2
TEST(Cubic, a_loss_takes_a_fifth_and_is_told_at_once) {
  ImageBench i{controlled(CongestionControl::kCubic, 128 << 10, kTerm)};
  for (std::int64_t t = 0; t <= 4 * kSecond_ns; t += kMs) i.send(t);
  ASSERT_EQ(i.state().congestion.cubic_cwnd, 23);
  i.data(96, 96, 4001 * kMs);
  EXPECT_EQ(windows(i.send(4001 * kMs)), std::vector<std::int32_t>{18 * 1408}) << "23 * 0.8, cut off";
  EXPECT_EQ(i.state().congestion.cubic_w_max, 23);
  EXPECT_EQ(windows(i.send(4002 * kMs)), std::vector<std::int32_t>{19 * 1408}) << "one gap is one loss, and the last growth was long ago";
}

// proves 4.7/5
TEST(Cubic, with_a_window_of_one_segment_each_step_is_told) {
  ImageBench i{controlled(CongestionControl::kCubic, 1408)};
  EXPECT_EQ(windows(i.send(0)), std::vector<std::int32_t>{1408});
  i.data(0, 96, kMs);
  i.consume_all();
  EXPECT_EQ(windows(i.send(kMs)), std::vector<std::int32_t>{1408}) << "96 bytes are less than a quarter, and still";
}

TEST(Cubic, never_offers_more_than_half_a_term) {
  ImageBench::Options o = controlled(CongestionControl::kCubic, 128 << 10, kTerm);
  o.adjust = [](auto& d) {
    d.congestion_control = CongestionControl::kCubic;
    d.mtu = 65504;
  };
  EXPECT_EQ(windows(ImageBench{o}.send(0)), std::vector<std::int32_t>{32 << 10}) << "an MTU would be more";
}

// proves 4.7/4
TEST(Cubic, tcp_mode_is_never_slower_than_tcp) {
  const auto window_after = [](std::uint32_t is_tcp_mode) {
    ImageBench::Options o = controlled(CongestionControl::kCubic, 4 << 20);
    o.adjust = [=](auto& d) {
      d.congestion_control = CongestionControl::kCubic;
      d.initial_rtt_ns = kMs;
      d.is_tcp_mode = is_tcp_mode;
    };
    ImageBench i{o};
    for (std::int64_t t = 0; t <= 100 * kMs; t += kMs) i.send(t);
    i.data(96, 96, 100 * kMs);
    for (std::int64_t t = 100 * kMs; t <= 400 * kMs; t += kMs) i.send(t);
    return i.state().congestion.window;
  };
  EXPECT_GT(window_after(1), window_after(0));
}

// ---- aimd ----

// Data arrives in order and is read at once: `bytes` from the rebuild position on.
void deliver(ImageBench& i, std::int64_t bytes, std::int64_t t) {
  for (std::int64_t left = bytes; left > 0; left -= 1408) i.data(i.state().high_water, 1408, t);
  i.consume_all();
}

TEST(Aimd, starts_with_64_kib_and_doubles_with_each_window_until_its_most) {
  ImageBench i{controlled(CongestionControl::kAimd, 16 << 20, 64 << 20)};
  EXPECT_EQ(windows(i.send(0)), std::vector<std::int32_t>{64 << 10});
  std::int64_t t = 0;
  for (std::int64_t expected = 128 << 10; expected < 16 << 20; expected *= 2) {
    deliver(i, i.state().congestion.window, t += kMs);
    i.send(t);
    EXPECT_NEAR(static_cast<double>(i.state().congestion.window), static_cast<double>(expected), static_cast<double>(expected) / 20) << "slow start";
  }
  for (int n = 0; n < 4; ++n) {
    deliver(i, 8 << 20, t += kMs);
    i.send(t);
  }
  EXPECT_EQ(i.state().congestion.window, 16 << 20);
}

TEST(Aimd, is_bounded_by_half_a_term_and_by_the_channels_window) {
  EXPECT_EQ(windows(ImageBench{controlled(CongestionControl::kAimd, 16 << 20, kTerm)}.send(0)), std::vector<std::int32_t>{32 << 10});
  EXPECT_EQ(windows(ImageBench{controlled(CongestionControl::kAimd, 20'000)}.send(0)), std::vector<std::int32_t>{20'000});
  EXPECT_EQ(windows(ImageBench{controlled(CongestionControl::kAimd, 2'048)}.send(0)), std::vector<std::int32_t>{2'048}) << "even below its least";
}

TEST(Aimd, a_loss_halves_the_window_once_for_all_that_was_under_way_then_it_grows_by_one_mtu_a_window) {
  ImageBench i{controlled(CongestionControl::kAimd, 16 << 20)};
  i.start();
  for (const std::int64_t at : {1408, 4224, 7040}) i.data(at, 1408, kMs);  // three gaps
  EXPECT_EQ(windows(i.send(kMs)), std::vector<std::int32_t>{32 << 10});
  i.data(0, 1408, 2 * kMs);
  i.send(2 * kMs);
  i.data(2816, 1408, 2 * kMs);
  i.send(2 * kMs);
  EXPECT_EQ(i.state().congestion.window, 32 << 10) << "the later gaps belong to the same window";
  i.data(5632, 1408, 3 * kMs);
  i.consume_all();
  i.send(3 * kMs);
  ASSERT_EQ(i.state().rebuild_position, 8448);
  deliver(i, 34 << 10, 4 * kMs);
  i.send(4 * kMs);
  EXPECT_EQ(i.state().congestion.window, (32 << 10) + 1408);
  deliver(i, 10 << 10, 5 * kMs);
  i.send(5 * kMs);
  EXPECT_EQ(i.state().congestion.window, (32 << 10) + 1408) << "not before a whole window has arrived";
}

TEST(Aimd, a_gap_that_stays_open_for_the_rto_takes_it_to_its_least_and_the_rto_doubles) {
  ImageBench i{controlled(CongestionControl::kAimd, 16 << 20)};
  i.image.on_rtt_reply(reply_to(i.send(0)), kStart_ns + 2 * kMs);
  EXPECT_EQ(congestion::rto_ns(i.state()), 6 * kMs) << "SRTT + 4 RTTVAR, the first variance is half the sample";
  i.data(1408, 1408, 10 * kMs);
  i.send(10 * kMs);
  EXPECT_EQ(i.state().congestion.window, 32 << 10);
  i.send(16 * kMs);
  EXPECT_EQ(i.state().congestion.window, 32 << 10);
  EXPECT_LE(i.image.next_deadline_ns(), kStart_ns + 16 * kMs + 1);
  EXPECT_EQ(windows(i.send(16 * kMs + 1)), std::vector<std::int32_t>{4 << 10});
  EXPECT_EQ(congestion::rto_ns(i.state()), 12 * kMs);
  i.send(28 * kMs + 1);
  EXPECT_EQ(i.state().congestion.timeouts, 1U);
  i.send(28 * kMs + 2);
  EXPECT_EQ(i.state().congestion.timeouts, 2U);
  i.data(0, 1408, 29 * kMs);
  i.consume_all();
  i.send(29 * kMs);
  EXPECT_EQ(i.state().congestion.timeouts, 0U) << "progress ends the back-off";
}

TEST(Aimd, follows_rfc_6298_from_sample_to_sample) {
  shm::ImageState s;
  EXPECT_EQ(congestion::rto_ns(s), kSecond_ns) << "before the first sample";
  congestion::add_rtt_sample(s, 8 * kMs);
  EXPECT_EQ(s.srtt_ns, 8 * kMs);
  EXPECT_EQ(s.rttvar_ns, 4 * kMs);
  congestion::add_rtt_sample(s, 16 * kMs);
  EXPECT_EQ(s.rttvar_ns, 5 * kMs) << "3/4 * 4 + 1/4 * 8";
  EXPECT_EQ(s.srtt_ns, 9 * kMs) << "7/8 * 8 + 1/8 * 16";
  EXPECT_EQ(congestion::rto_ns(s), 29 * kMs);
  s.srtt_ns = 10 * kUs;
  s.rttvar_ns = kUs;
  EXPECT_EQ(congestion::rto_ns(s), congestion::kRtoMin_ns);
  s.congestion.timeouts = 4;
  EXPECT_EQ(congestion::rto_ns(s), 16 * kMs);
  s.congestion.timeouts = 40;
  EXPECT_EQ(congestion::rto_ns(s), congestion::kRtoMax_ns);
}

TEST(Aimd, measures_while_data_arrives_only) {
  ImageBench i{controlled(CongestionControl::kAimd, 16 << 20)};
  EXPECT_EQ(count_of(i.send(0), wire::FrameType::kRttMeasurement), 1U) << "with the first status message";
  EXPECT_EQ(count_of(i.send(kSecond_ns), wire::FrameType::kRttMeasurement), 0U) << "nothing came since";
  i.data(0, 1408, kSecond_ns + kMs);
  EXPECT_EQ(count_of(i.send(kSecond_ns + kMs), wire::FrameType::kRttMeasurement), 1U);
  i.data(1408, 1408, kSecond_ns + 2 * kMs);
  EXPECT_EQ(count_of(i.send(kSecond_ns + 2 * kMs), wire::FrameType::kRttMeasurement), 0U) << "10 ms apart at the least";
}

// ---- nak-backoff and nak-max ----

std::vector<std::int64_t> nak_times_us(ImageBench& i, std::int64_t until_ns) {
  std::vector<std::int64_t> times;
  for (std::int64_t t = 0; t <= until_ns; t += 10 * kUs) {
    if (count_of(i.send(t), wire::FrameType::kNak) > 0) times.push_back(t / kUs);
  }
  return times;
}

TEST(NakBackoff, doubles_the_time_between_repeats_up_to_its_most) {
  ImageBench i{{.adjust = [](auto& d) {
    d.nak_retry_ns = 100 * kUs;
    d.nak_backoff_ns = 500 * kUs;
  }}};
  i.start();
  i.data(96);
  EXPECT_EQ(nak_times_us(i, 2500 * kUs), (std::vector<std::int64_t>{10, 110, 310, 710, 1210, 1710, 2210}));
}

TEST(NakBackoff, is_off_by_default_and_starts_anew_when_part_of_the_gap_arrives) {
  ImageBench stock;
  stock.start();
  stock.data(96);
  EXPECT_EQ(nak_times_us(stock, 450 * kUs), (std::vector<std::int64_t>{10, 110, 210, 310, 410}));
  ImageBench i{{.adjust = [](auto& d) { d.nak_backoff_ns = 10 * kMs; }}};
  i.start();
  i.data(960);
  nak_times_us(i, 2 * kMs);
  EXPECT_GT(i.state().gaps[0].naks, 3U);
  i.data(0, 96, 2 * kMs);
  EXPECT_EQ(i.state().gaps[0].naks, 0U);
}

TEST(NakBackoff, widens_the_random_delay_of_groups_too) {
  ImageBench i{{.flags = ImageFlags::kReliable | ImageFlags::kGroup, .adjust = [](auto& d) {
    d.nak_max_backoff_ns = 10 * kMs;
    d.nak_backoff_ns = kSecond_ns;
  }}};
  i.start();
  i.data(96);
  const auto times = nak_times_us(i, 2 * kSecond_ns);
  EXPECT_LT(times.size(), 20U);
  EXPECT_GT(times.size(), 3U);
}

TEST(NakMax, ends_the_image_before_the_gap) {
  ImageBench i{{.adjust = [](auto& d) { d.nak_max = 3; }}};
  i.start();
  i.data(0);
  i.data(192);
  EXPECT_EQ(nak_times_us(i, 2 * kMs).size(), 3U);
  EXPECT_TRUE(i.state().is_given_up);
  EXPECT_EQ(i.state().given_up_position, 96);
  EXPECT_EQ(i.state().given_up_length, 96);
  EXPECT_EQ(i.count(LaneCounter::kGapsGivenUp), 1U);
  EXPECT_GT(i.image.next_deadline_ns(), kStart_ns + 100 * kMs) << "nothing more to ask for";
  EXPECT_TRUE(i.tick(3 * kMs));
  EXPECT_EQ(i.state().lifecycle, Lifecycle::kDraining);
  EXPECT_FALSE(i.tick(2 * kSecond_ns)) << "its reader has not read what is there";
  i.consume_all();
  EXPECT_TRUE(i.tick(2 * kSecond_ns + kMs));
  EXPECT_EQ(i.state().lifecycle, Lifecycle::kLinger);
  EXPECT_FALSE(i.state().is_end_of_stream) << "so that the session may be joined again, or cools down";
}

TEST(NakMax, counts_from_the_last_time_the_gap_became_smaller) {
  ImageBench i{{.adjust = [](auto& d) { d.nak_max = 3; }}};
  i.start();
  i.data(960);
  for (std::int64_t n = 0; n < 9; ++n) {
    const std::int64_t t = n * kMs;
    i.send(t);
    i.send(t + 10 * kUs);
    i.send(t + 200 * kUs);
    i.data(n * 96, 96, t + 300 * kUs);
  }
  EXPECT_FALSE(i.state().is_given_up);
}

TEST(NakMax, never_ends_an_unreliable_image) {
  ImageBench i{{.flags = 0, .adjust = [](auto& d) { d.nak_max = 1; }}};
  i.start();
  i.data(96);
  i.send(kMs);
  i.send(2 * kMs);
  EXPECT_FALSE(i.state().is_given_up);
  EXPECT_EQ(i.state().rebuild_position, 192);
}

}  // namespace
}  // namespace thalweg::proto::test
