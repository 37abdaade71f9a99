// A stream over a patch cable with simulated time: terms, fragments, windows, loss and repair.
#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

constexpr std::int32_t kTerm = 64 << 10;

// proves 2.4/9, 5.2/1, 5.2/2, 9.3/1
TEST_F(StreamTest, a_message_crosses_the_cable_after_setup_and_status_message) {
  connect();
  expect_transfer(make_messages(10));
  EXPECT_EQ(count_b(LaneCounter::kNaksSent), 0U);
  EXPECT_GE(count_b(LaneCounter::kSetupsReceived), 1U);
}

// proves 1.4/4, 1.4/5
TEST_F(StreamTest, terms_roll_over_with_padding_where_a_message_does_not_fit) {
  // A window of half the term would let the padding overrun it now and then (wire-protocol 3.5, step 4), which costs a NAK.
  connect({}, {.window_length = 16 << 10});
  // 1,000 bytes make frames of 1,056: 62 in a term and 64 bytes of padding.
  const auto messages = make_messages(2'000, 1'000);
  expect_transfer(messages);
  EXPECT_GT(subscriber().position(), 30 * kTerm);
  EXPECT_EQ(subscriber().position(), publisher().position());
  EXPECT_EQ(count_b(LaneCounter::kNaksSent), 0U);
  EXPECT_EQ(count_b(LaneCounter::kDropInvalidFrame), 0U);
}

// proves 1.13/6, 2.1/2
TEST_F(StreamTest, terms_roll_over_without_padding_where_messages_fill_them_exactly) {
  connect();
  const auto messages = make_messages(4 * kTerm / 1'024, 992);  // frames of 1,024 bytes
  expect_transfer(messages);
  EXPECT_EQ(subscriber().position(), 4 * kTerm);
}

// proves 1.13/1
TEST_F(StreamTest, term_ids_wrap_around) {
  connect({.initial_term_id = 0x7FFFFFFE});
  expect_transfer(make_messages(1'000, 1'000));
  EXPECT_GT(subscriber().position(), 10 * kTerm);
}

struct Fragments {
  std::size_t length;
  std::int32_t term_length;
};
class FragmentTest : public StreamTest, public ::testing::WithParamInterface<Fragments> {};
TEST_P(FragmentTest, long_messages_arrive_whole) {
  TwoNodes::Options options;
  options.packet_buffers = 4095;
  make_nodes(options);
  connect({.term_length = GetParam().term_length}, {.window_length = 4 << 20});
  expect_transfer(make_messages(40, GetParam().length), 5 * kSecond_ns);
  EXPECT_EQ(count_b(LaneCounter::kDropInvalidFrame), 0U);
}
INSTANTIATE_TEST_SUITE_P(lengths, FragmentTest,
                         ::testing::Values(Fragments{1'376, kTerm}, Fragments{1'377, kTerm}, Fragments{1'408, kTerm}, Fragments{2'752, kTerm},
                                           Fragments{kTerm / 8, kTerm}, Fragments{100'000, 1 << 20}, Fragments{2 << 20, 16 << 20}),
                         [](const auto& one) { return std::to_string(one.param.length); });

TEST_F(StreamTest, messages_of_all_lengths_cross_many_terms) {
  connect();
  expect_transfer(make_messages(3'000, 0, 8'000), 5 * kSecond_ns);
}

// proves 1.15/1
TEST_F(StreamTest, small_messages_travel_together_in_one_datagram) {
  connect();
  const std::uint64_t before = count_b(LaneCounter::kDataFramesReceived);
  expect_transfer(make_messages(140, 64));  // frames of 96 bytes, 14 in a datagram
  EXPECT_EQ(count_b(LaneCounter::kDataFramesReceived) - before, 10U);
}

// ---- loss ----

struct Loss {
  std::uint32_t percent;
  bool is_fast;     // our repair settings
};
class LossTest : public StreamTest, public ::testing::WithParamInterface<Loss> {};
TEST_P(LossTest, everything_arrives_in_order_over_a_link_that_loses_frames) {
  const Loss loss = GetParam();
  TwoNodes::Options options;
  options.impair_a = {.loss_ppm = loss.percent * 10'000, .seed = 11};
  options.impair_b = {.loss_ppm = loss.percent * 10'000, .seed = 12};
  make_nodes(options);
  FakeControl::PublicationOptions p;
  FakeControl::SubscriptionOptions s;
  if (loss.is_fast) {
    p.retransmit_linger_ns = 50'000;
    s.naks_all_gaps = true;
  }
  connect(p, s);
  expect_transfer(make_messages(2'000, 0, 2'000), 30 * kSecond_ns);
  EXPECT_GT(nodes->b.plane->port(0).impairments().lost, 0U);
  EXPECT_GT(count_b(LaneCounter::kNaksSent), 0U);
  EXPECT_GT(count_a(LaneCounter::kRetransmitsSent), 0U);
  // Loss on the way back holds up NAKs and status messages, nothing else.
  EXPECT_EQ(count_b(LaneCounter::kDropInvalidFrame), 0U);
}
INSTANTIATE_TEST_SUITE_P(rates, LossTest,
                         ::testing::Values(Loss{1, false}, Loss{5, false}, Loss{10, false}, Loss{20, false}, Loss{1, true}, Loss{5, true},
                                           Loss{10, true}, Loss{20, true}),
                         [](const auto& one) { return std::to_string(one.param.percent) + (one.param.is_fast ? "_fast" : "_stock"); });

TEST_F(StreamTest, our_repair_settings_are_faster_than_the_stock_rules) {
  const auto messages = make_messages(2'000, 1'000);
  std::int64_t took_ns[2]{};
  for (const bool is_fast : {false, true}) {
    TwoNodes::Options options;
    options.impair_b = {.loss_ppm = 50'000, .seed = 7};
    make_nodes(options);
    connect({.retransmit_linger_ns = is_fast ? 50'000 : 10 * kMillisecond_ns}, {.naks_all_gaps = is_fast});
    const std::int64_t begin_ns = nodes->now_ns;
    expect_transfer(messages, 30 * kSecond_ns);
    took_ns[is_fast ? 1 : 0] = nodes->now_ns - begin_ns;
  }
  EXPECT_LT(took_ns[1], took_ns[0] / 3) << "stock " << took_ns[0] << " ns, ours " << took_ns[1] << " ns";
}

// proves 3.8/13, 3.8/14
TEST_F(StreamTest, an_unreliable_stream_pads_gaps_and_asks_for_nothing) {
  TwoNodes::Options options;
  options.impair_b = {.loss_ppm = 50'000, .seed = 3};
  make_nodes(options);
  connect({}, {.is_reliable = false});
  const auto messages = make_messages(2'000, 1'000);
  std::size_t offered = 0;
  ASSERT_TRUE(run_until(
      [&] {
        while (offered < messages.size() && publisher().offer(bytes(messages[offered]))) ++offered;
        subscriber().poll();
        return offered == messages.size() && subscriber().position() == publisher().position();
      },
      5 * kSecond_ns));
  EXPECT_EQ(count_b(LaneCounter::kNaksSent), 0U);
  EXPECT_GT(count_b(LaneCounter::kLossGapFills), 0U);
  // What arrived is a subsequence.
  std::size_t at = 0;
  for (const std::string& got : subscriber().messages()) {
    while (at < messages.size() && messages[at] != got) ++at;
    ASSERT_LT(at, messages.size());
  }
  EXPECT_LT(subscriber().messages().size(), messages.size());
}

struct Disorder {
  const char* name;
  pmd::ImpairmentOptions link;
};
class DisorderTest : public StreamTest, public ::testing::WithParamInterface<Disorder> {};
// proves 3.5/12
TEST_P(DisorderTest, everything_arrives_once_and_in_order) {
  TwoNodes::Options options;
  options.impair_b = GetParam().link;
  options.impair_a = GetParam().link;
  options.impair_a.seed += 100;
  make_nodes(options);
  connect();
  expect_transfer(make_messages(2'000, 0, 3'000), 30 * kSecond_ns);
  const pmd::ImpairmentStatistics did = nodes->b.plane->port(0).impairments();
  EXPECT_GT(did.lost + did.duplicated + did.reordered + did.corrupted + did.delayed, 0U);
}
INSTANTIATE_TEST_SUITE_P(
    links, DisorderTest,
    ::testing::Values(Disorder{"reordered", {.reorder_ppm = 100'000, .seed = 5}}, Disorder{"duplicated", {.duplicate_ppm = 100'000, .seed = 6}},
                      Disorder{"corrupted", {.corrupt_ppm = 50'000, .seed = 7}},
                      Disorder{"delayed", {.delay_ns = 200'000, .jitter_ns = 100'000, .seed = 8}},
                      Disorder{"everything",
                               {.loss_ppm = 30'000, .duplicate_ppm = 30'000, .reorder_ppm = 30'000, .corrupt_ppm = 30'000, .delay_ns = 50'000,
                                .jitter_ns = 50'000, .seed = 9}}),
    [](const auto& one) { return one.param.name; });

// proves 9.3/2
TEST_F(StreamTest, a_damaged_frame_is_dropped_by_its_checksum_and_counted) {
  TwoNodes::Options options;
  options.impair_b = {.corrupt_ppm = 200'000, .seed = 21};
  options.checksums = pmd::Checksums::kOn;
  make_nodes(options);
  connect();
  expect_transfer(make_messages(1'000, 500), 30 * kSecond_ns);
  const std::uint64_t dropped = count_b(LaneCounter::kDropBadUdpChecksum) + count_b(LaneCounter::kDropBadIpHeader) +
                                count_b(LaneCounter::kDropBadUdpHeader) + count_b(LaneCounter::kDropOtherProtocol) +
                                count_b(LaneCounter::kDropIpFragment) + count_b(LaneCounter::kDropNotIp) + count_b(LaneCounter::kDropNotOurs);
  EXPECT_GT(count_b(LaneCounter::kDropBadUdpChecksum), 0U);
  // Every damaged frame is found: one byte differs, and all bytes but the padding of short frames are under some checksum.
  EXPECT_EQ(dropped, nodes->b.plane->port(0).impairments().corrupted);
}

// ---- windows ----

// proves 2.5/1, 2.5/5
TEST_F(StreamTest, a_subscriber_that_stops_stalls_the_publisher_and_nothing_is_lost_when_it_goes_on) {
  connect({}, {.window_length = 16 << 10});
  const auto messages = make_messages(1'000, 1'000);
  std::size_t offered = 0;
  const auto offer = [&] {
    while (offered < messages.size() && publisher().offer(bytes(messages[offered]))) ++offered;
    return false;
  };
  run_until(offer, 100 * kMillisecond_ns);
  const std::size_t stalled_at = offered;
  EXPECT_LT(stalled_at, messages.size());
  EXPECT_LE(sender().sender_position, 16 << 10) << "the sender went beyond the receiver's window";
  EXPECT_GT(count_a(LaneCounter::kSenderLimited), 0U);
  wait_until(offer, 5 * kSecond_ns);  // heartbeats and status messages keep both sides alive
  EXPECT_EQ(offered, stalled_at);
  EXPECT_EQ(sender().is_connected, 1);
  ASSERT_TRUE(run_until([&] {
    offer();
    subscriber().poll();
    return subscriber().messages().size() == messages.size();
  }));
  EXPECT_EQ(subscriber().messages(), messages);
  EXPECT_EQ(count_b(LaneCounter::kOverRuns), 0U);
}

TEST_F(StreamTest, a_slow_subscriber_sets_the_pace_without_loss) {
  connect();
  const auto messages = make_messages(1'000, 1'000);
  std::size_t offered = 0;
  ASSERT_TRUE(run_until(
      [&] {
        while (offered < messages.size() && publisher().offer(bytes(messages[offered]))) ++offered;
        subscriber().poll(1'056);   // one message a turn
        return subscriber().messages().size() == messages.size();
      },
      5 * kSecond_ns));
  EXPECT_EQ(subscriber().messages(), messages);
  EXPECT_EQ(count_b(LaneCounter::kOverRuns), 0U);
  EXPECT_EQ(count_b(LaneCounter::kNaksSent), 0U);
}

// proves 3.6/5
TEST_F(StreamTest, the_slowest_of_several_subscribers_holds_the_window) {
  connect({}, {.window_length = 16 << 10});
  Subscriber& slow = nodes->b.control.subscriber(nodes->b.control.add_image_subscriber(nodes->b.control.images().front()));
  run_for(kMillisecond_ns);
  const auto messages = make_messages(100, 1'000);
  std::size_t offered = 0;
  const auto go = [&] {
    while (offered < messages.size() && publisher().offer(bytes(messages[offered]))) ++offered;
    subscriber().poll();
    return subscriber().messages().size() == messages.size();
  };
  EXPECT_FALSE(run_until(go, 50 * kMillisecond_ns)) << "the slow subscriber did not count";
  EXPECT_LE(subscriber().position(), 16 << 10);
  ASSERT_TRUE(run_until([&] {
    slow.poll();
    return go() && slow.messages().size() == messages.size();
  }));
  EXPECT_EQ(slow.messages(), messages);
}

TEST_F(StreamTest, a_subscriber_that_leaves_no_longer_holds_the_window) {
  connect({}, {.window_length = 16 << 10});
  const std::uint32_t idle = nodes->b.control.add_image_subscriber(nodes->b.control.images().front());
  run_for(kMillisecond_ns);
  EXPECT_FALSE(transfer(make_messages(100, 1'000), 50 * kMillisecond_ns));
  nodes->b.control.close_link(idle);
  EXPECT_TRUE(run_until([&] {
    subscriber().poll();
    return subscriber().position() == publisher().position();
  }));
}

}  // namespace
}  // namespace thalweg::test

int main(int argc, char** argv) { return thalweg::test::run_tests_with_eal(argc, argv); }
