#include <cmath>
#include <thread>

#include "tests/unit/proto/proto_fixture.hpp"

// Rules of the wire protocol that the tests of one feature would not break: corners between two of them.
namespace thalweg::proto::test {
namespace {

using shm::FlowControl;
using shm::ImageFlags;
using shm::LaneCounter;
using shm::PublicationFlags;

// ---- the sending side ----

// proves 1.4/12, 2.11/3
TEST(SenderRules, setups_and_heartbeats_carry_the_position_far_into_a_stream_and_no_request_is_held_against_it) {
  PublicationBench p{{.initial_term_id = -3, .start_position = 5 * kTerm + 4096}};
  p.connect();
  const auto beat = p.send(101 * kMs);
  ASSERT_EQ(describe(beat), Lines{"heartbeat@4096"});
  EXPECT_EQ(wire::DataView{beat[0].data()}.term_id(), 2);
  p.elicit(150 * kMs, 2);  // all fields are 0: five terms from here
  EXPECT_EQ(p.turn(150 * kMs), Lines{"setup@4096"});
  EXPECT_EQ(p.count(LaneCounter::kStatusMessagesRejected), 0U);
}

// proves 1.4/7, 1.15/2
TEST(SenderRules, padding_of_32_bytes_does_not_end_a_datagram) {
  PublicationBench p;
  p.connect();
  p.publisher.publish(0);
  p.publisher.publish(64);
  store_le<std::uint16_t>(p.log.view().at(0) + 6, 0);  // the empty message was aborted
  EXPECT_EQ(p.turn(kMs), Lines{"pad@0+32"}) << "by its first frame; the second is in the same datagram";
  EXPECT_EQ(p.state().sender_position, 32 + 96);
}

// proves 2.7/5
TEST(SenderRules, the_end_of_one_image_disconnects_its_endpoint_until_another_ones_status_message) {
  PublicationBench p;
  p.connect();
  p.status(kMs, 0, 1024, wire::flag::kSmEndOfStream);  // the image of a subscriber that left
  EXPECT_EQ(p.state().receiver_count, 0U);
  EXPECT_FALSE(p.is_log_connected());
  p.status(2 * kMs, 0, 1024);                          // that of the one that joined meanwhile
  EXPECT_EQ(p.state().receiver_count, 1U);
  EXPECT_TRUE(p.is_log_connected());
}

// proves 2.9/6
TEST(SenderRules, a_stream_whose_rest_was_given_up_never_says_that_it_ended) {
  PublicationBench p;
  p.connect(64);
  p.publisher.publish(32);
  p.publisher.publish(32);  // beyond the window
  p.send(kMs);
  p.error(2 * kMs);
  p.slot->desired.state = shm::Desired::kClosing;
  p.tick(3 * kMs);
  p.tick(4 * kMs);
  ASSERT_EQ(p.state().lifecycle, Lifecycle::kLinger);
  const auto sent = p.send(200 * kMs);
  ASSERT_EQ(describe(sent), Lines{"heartbeat@64"});
  EXPECT_EQ(flags_of(sent[0]), 0xC0);
}

// proves 5.7/7
TEST(SenderRules, a_receiver_that_joins_after_spies_gets_what_follows_them) {
  PublicationBench p{{.flags = PublicationFlags::kSpiesSimulateConnection}};
  p.limit(0, {0, 0, 1});
  p.publisher.publish(992);
  p.limit(kMs, {1024, 1024, 1});
  EXPECT_EQ(p.turn(2 * kMs), Lines{"setup@1024"});
  p.status(3 * kMs, 1024);
  p.publisher.publish(992);
  EXPECT_EQ(p.turn(3 * kMs), Lines{"data@1024+1024"});
}

// proves 8/1
TEST(SenderRules, flags_of_status_messages_that_nobody_knows_are_ignored) {
  PublicationBench p;
  p.send(0);
  p.status(0, 0, 1024, 0x3F);
  EXPECT_EQ(p.state().sender_limit, 1024);
  EXPECT_EQ(p.state().receiver_count, 1U);
  EXPECT_FALSE(p.state().has_seen_unicast_eos);
}

// ---- flow control ----

PublicationBench::Options group(FlowControl kind, std::int64_t tag = -1) {
  return {.flags = PublicationFlags::kGroup, .adjust = [=](auto& d) {
    d.flow_control = kind;
    d.flow_control_group_tag = tag;
    d.flow_control_receiver_timeout_ns = 2 * kSecond_ns;
  }};
}

// proves 4.2/1, 4.2/2
TEST(FlowControlRules, max_is_moved_by_positions_alone_and_requires_nobody) {
  PublicationBench p{group(FlowControl::kMax)};
  p.send(0);
  p.status(0, 0, 4096, 0, 1);
  EXPECT_EQ(p.state().sender_limit, 4096);
  p.elicit(kMs, 2);
  p.send(101 * kMs);  // the SETUP for it
  EXPECT_EQ(p.state().sender_limit, 4096);
  p.error(102 * kMs, 1);
  p.send(4 * kSecond_ns);
  EXPECT_EQ(p.state().sender_limit, 4096);
  p.status(5 * kSecond_ns, 2048, 4096, 0, 2);
  EXPECT_EQ(p.state().sender_limit, 6144) << "nothing holds it";
  EXPECT_TRUE(p.is_log_connected());
}

// proves 4.3/5
TEST(FlowControlRules, min_without_receivers_follows_whoever_speaks) {
  PublicationBench p{group(FlowControl::kMin)};
  p.status(0, 0, 4096, wire::flag::kSmEndOfStream, 1);  // says goodbye, and is no member
  EXPECT_EQ(p.state().sender_limit, 4096);
  p.status(0, 0, 1024, wire::flag::kSmEndOfStream, 1);
  EXPECT_EQ(p.state().sender_limit, 4096);
}

// proves 4.5/4
TEST(FlowControlRules, receivers_without_the_tag_live_although_they_do_not_count) {
  PublicationBench p{group(FlowControl::kTagged, 101)};
  p.status(0, 0, 4096, 0, 1, 101);
  p.status(kMs, 0, 4096, 0, 2);
  EXPECT_EQ(p.state().receiver_count, 2U);
  EXPECT_TRUE(p.error(2 * kMs, 1));
  EXPECT_TRUE(p.is_log_connected()) << "the other is still there";
  EXPECT_TRUE(p.error(3 * kMs, 2));
  EXPECT_FALSE(p.is_log_connected());
}

// proves 4.5/6
TEST(FlowControlRules, an_error_frame_without_a_tag_ends_a_tagged_receiver) {
  PublicationBench p{group(FlowControl::kTagged, 101)};
  p.status(0, 0, 4096, 0, 1, 101);
  p.status(0, 0, 4096, 0, 2, 101);
  p.status(kMs, 4096, 4096, 0, 2, 101);
  EXPECT_EQ(p.state().sender_limit, 4096);
  EXPECT_TRUE(p.error(2 * kMs, 1));
  p.send(3 * kMs);
  EXPECT_EQ(p.state().sender_limit, 8192);
}

// ---- the receiving side ----

// proves 3.1/1
TEST(ReceiverRules, what_is_due_in_one_turn_is_sent_in_that_turn) {
  ImageBench i;
  i.start();
  for (int n = 0; n < 8; ++n) i.data(n * 1056, 1056);
  i.data(8448 + 96);
  i.turn(0);
  i.subscribers = {8448, 8448, 1};
  auto sent = i.turn(kUs);
  std::sort(sent.begin(), sent.end());
  EXPECT_EQ(sent, (Lines{"nak@8448+96", "sm@8448"}));
}

// A reader on another core: a length that it sees stands for bytes that are all there. Bounded by datagrams, not by time.
// proves 3.5/13
TEST(ReceiverRules, a_reader_that_sees_a_length_sees_the_whole_datagram) {
  constexpr std::int32_t kLength = 1408;
  constexpr int kDatagrams = 11'000;
  ImageBench i{{.term_length = 16 << 20}};
  static_assert(kDatagrams * kLength < 16 << 20);
  std::atomic<int> torn{0};
  std::thread reader{[&] {
    for (int n = 0; n < kDatagrams; ++n) {
      std::byte* const frame = i.log.view().at(std::int64_t{n} * kLength);
      while (shm::frame_length_acquire(frame) == 0) std::this_thread::yield();
      const auto last = load_le<std::uint64_t>(frame + kLength - 8);
      if (load_le<std::int32_t>(frame + 12) != kSession || last != 0x0101010101010101U * static_cast<std::uint64_t>(n % 255 + 1)) ++torn;
    }
  }};
  for (int n = 0; n < kDatagrams; ++n) {
    const std::int64_t position = std::int64_t{n} * kLength;
    i.slot->observed.state.overrun_threshold = position + kLength;  // its subscriber keeps up
    i.data(position, kLength, 0, static_cast<std::uint8_t>(n % 255 + 1));
  }
  reader.join();
  EXPECT_EQ(torn.load(), 0);
}

// proves 3.8/7
TEST(ReceiverRules, a_configured_nak_delay_is_the_first_and_its_retry_follows) {
  ImageBench i{{.adjust = [](auto& d) {
    d.nak_delay_ns = 50 * kUs;
    d.nak_retry_ns = 5 * kMs;
  }}};
  i.start();
  i.data(96);
  EXPECT_EQ(i.turn(0), Lines{});
  EXPECT_EQ(i.turn(50 * kUs - 1), Lines{});
  EXPECT_EQ(i.turn(50 * kUs), Lines{"nak@0+96"});
  EXPECT_EQ(i.turn(5 * kMs + 50 * kUs - 1), Lines{});
  EXPECT_EQ(i.turn(5 * kMs + 50 * kUs), Lines{"nak@0+96"});
}

// proves 3.8/6, 3.8/10
TEST(ReceiverRules, the_back_off_of_groups_has_the_distribution_of_optimal_feedback) {
  std::vector<double> delays;
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    ImageBench i{{.flags = ImageFlags::kReliable | ImageFlags::kGroup}};
    i.slot->observed.state.random_state = seed * 0x9E3779B97F4A7C15U;
    i.start();
    i.data(96);
    i.turn(0);
    delays.push_back(static_cast<double>(i.image.next_deadline_ns() - kStart_ns) / static_cast<double>(10 * kMs));
  }
  std::sort(delays.begin(), delays.end());
  const double lambda = std::log(10.0) + 1;
  for (const double u : {0.05, 0.25, 0.5, 0.75, 0.95}) {
    const double expected = std::log(1 + u * (std::exp(lambda) - 1)) / lambda;
    EXPECT_NEAR(delays[static_cast<std::size_t>(u * 2000)], expected, 0.04) << u;
  }
}

// proves 3.13/6
TEST(ReceiverRules, a_rejected_image_goes_on_asking_for_a_gap_it_knows) {
  ImageBench i;
  i.start();
  i.data(96);
  i.turn(0);
  i.image.reject({});
  EXPECT_EQ(i.turn(kUs), Lines{"nak@0+96"});
  EXPECT_EQ(i.turn(101 * kUs), Lines{"nak@0+96"});
}

// proves 8/1
TEST(ReceiverRules, flags_of_data_that_nobody_knows_are_ignored) {
  ImageBench i;
  EXPECT_EQ(i.insert(data_frame({7, 0}, 64, 0, 0xCF)), Insert::kInserted);
  EXPECT_EQ(i.beat(96, 0, 0xCF), Insert::kHeartbeat);
  EXPECT_FALSE(i.state().is_end_of_stream);
}

// proves 8/3, 8/4
TEST(ReceiverRules, an_image_that_drains_after_silence_says_so_and_still_takes_what_comes) {
  ImageBench i;
  i.start();
  i.data(0);
  EXPECT_TRUE(i.tick(10 * kSecond_ns + 1));
  ASSERT_EQ(i.state().lifecycle, Lifecycle::kDraining);
  EXPECT_EQ(i.data(96, 96, 10 * kSecond_ns + 2), Insert::kInserted);
  EXPECT_EQ(i.state().rebuild_position, 192);
  const auto sent = i.send(10 * kSecond_ns + 3);  // the connection is alive again
  ASSERT_EQ(count_of(sent, wire::FrameType::kStatusMessage), 1U);
  EXPECT_EQ(flags_of(sent[0]), wire::flag::kSmEndOfStream);
}

}  // namespace
}  // namespace thalweg::proto::test
