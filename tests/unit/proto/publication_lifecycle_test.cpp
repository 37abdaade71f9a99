#include "tests/unit/proto/proto_fixture.hpp"

// wire-protocol 2.8, 2.9; client-protocol 7.6, 7.8, 8.2, 8.3.
namespace thalweg::proto::test {
namespace {

using shm::LaneCounter;
using shm::PublicationFlags;

std::int64_t end_of_stream_position(PublicationBench& p) { return p.log.view().load<std::int64_t>(shm::meta::kEndOfStreamPosition); }
bool is_log_revoked(PublicationBench& p) { return p.log.view().load<std::uint8_t>(shm::meta::kIsPublicationRevoked) == 1; }
void close(PublicationBench& p) { p.slot->desired.state = shm::Desired::kClosing; }

// ---- limits ----

// proves 2.2/5, 2.8/1, 2.8/3, 2.8/4
TEST(PublisherLimit, is_the_sender_position_until_connected_and_half_a_term_more_then) {
  PublicationBench p;
  p.limit();
  EXPECT_EQ(p.counters[1], 0);
  p.connect();
  EXPECT_EQ(p.counters[1], kTerm / 2);
  p.publisher.publish(992);
  p.limit();
  EXPECT_EQ(p.counters[0], 1024) << "pub-pos";
  EXPECT_EQ(p.counters[1], kTerm / 2) << "nothing sent yet";
  p.send(kMs);
  p.limit();
  EXPECT_EQ(p.counters[1], kTerm / 2 + 1024);
}

// proves 2.8/3
TEST(PublisherLimit, uses_a_smaller_configured_window) {
  PublicationBench p{{.adjust = [](auto& d) { d.window_length = 4096; }}};
  p.connect();
  EXPECT_EQ(p.counters[1], 4096);
}

// proves 2.7/9, 2.8/4
TEST(PublisherLimit, falls_back_to_the_sender_position_when_disconnected) {
  PublicationBench p;
  p.connect();
  p.error(kMs);
  p.limit();
  EXPECT_EQ(p.counters[1], 0);
}

// proves 2.8/1, 5.7/3
TEST(PublisherLimit, is_held_by_the_slowest_spy) {
  PublicationBench p;
  p.connect();
  for (int i = 0; i < 8; ++i) p.publisher.publish(992);
  p.send(kMs);
  p.limit(kMs, {2048, 8192, 2});
  EXPECT_EQ(p.counters[1], 2048 + kTerm / 2);
}

// proves 2.7/7, 2.7/8, 5.7/5
TEST(PublisherLimit, spies_simulate_a_connection_when_asked_to_and_move_the_sender_position) {
  PublicationBench p{{.flags = PublicationFlags::kSpiesSimulateConnection}};
  p.limit(0, {0, 0, 1});
  EXPECT_TRUE(p.is_log_connected());
  EXPECT_EQ(p.counters[1], kTerm / 2);
  p.publisher.publish(992);
  p.limit(kMs, {1024, 1024, 1});
  EXPECT_EQ(p.counters[2], 1024);
  EXPECT_EQ(p.counters[1], 1024 + kTerm / 2);
  p.limit(2 * kMs);
  EXPECT_FALSE(p.is_log_connected());
}

// proves 2.8/2
TEST(PublisherLimit, never_reaches_memory_that_is_not_clean) {
  PublicationBench p;
  p.connect();
  std::uint64_t steps = 0;
  while (p.publisher.position() < 20 * kTerm) {
    while (p.publisher.position() < p.counters[1]) p.publisher.offer(1376);
    // All the producers' memory from their position to the limit and the longest overshoot must be zero.
    EXPECT_TRUE(p.log.is_zero(p.publisher.position(), p.counters[1] + kTerm / 4)) << p.counters[1];
    p.send(kMs);
    p.status(kMs, p.state().sender_position);
    p.limit(kMs);
    ASSERT_LT(++steps, 100'000U);
  }
}

// proves 2.8/2
TEST(PublisherLimit, cleaning_is_bounded_per_turn_and_the_limit_waits_for_it) {
  constexpr std::int32_t term = 4 << 20;
  PublicationBench p{{.term_length = term, .mtu = 65504}};
  p.connect(term / 2);
  while (p.state().sender_position < 3 * std::int64_t{term} / 2) {  // not a single update: nothing is cleaned
    p.publisher.offer(65472);
    p.send(kMs);
    p.status(kMs, p.state().sender_position, term / 2);
  }
  std::int64_t clean = p.state().clean_position;
  int turns = 0;
  while (p.limit(kMs)) {
    EXPECT_LE(p.state().clean_position - clean, kCleanBytesPerTurn);
    clean = p.state().clean_position;
    EXPECT_LE(p.counters[1], clean + term + term / 2 + kCleanQuantum);
    ASSERT_LT(++turns, 1000);
  }
  EXPECT_GT(turns, 10);
  EXPECT_EQ(p.counters[1], p.state().sender_position + term / 2);
}

// Sends three quarters of a term; `receivers` of them have it all, and update the limit.
void send_most_of_a_term(PublicationBench& p, int receivers) {
  p.connect();
  while (p.state().sender_position < 3 * kTerm / 4) {
    p.publisher.publish(992);
    p.send(kMs);
    for (int i = 0; i < receivers; ++i) p.status(kMs, p.state().sender_position, kTerm / 2, 0, 1 + i);
    p.limit(kMs);
  }
}

TEST(PublisherLimit, what_the_only_receiver_of_a_unicast_stream_has_is_cleaned) {
  PublicationBench p;
  send_most_of_a_term(p, 1);
  EXPECT_GT(p.state().clean_position, 3 * kTerm / 4 - 2 * kCleanQuantum);
  EXPECT_TRUE(p.log.is_zero(0, p.state().clean_position));
  EXPECT_EQ(p.nak(2 * kMs, 24 << 10, 1024), Lines{}) << "it has that";
  EXPECT_FALSE(p.state().is_corrupt);
}

TEST(PublisherLimit, what_it_has_not_acknowledged_is_kept) {
  PublicationBench p;
  p.connect();
  for (int i = 0; i < 8; ++i) p.publisher.publish(992);
  p.send(kMs);
  p.status(kMs, 4 * 1024);
  p.limit(kMs);
  EXPECT_EQ(p.state().clean_position, 4 * 1024);
  EXPECT_EQ(p.nak(2 * kMs, 4 * 1024, 1024), Lines{"data@4096+1024"});
}

TEST(PublisherLimit, a_term_is_kept_for_groups_spies_and_second_receivers) {
  PublicationBench group{{.flags = shm::PublicationFlags::kGroup}};
  send_most_of_a_term(group, 1);
  EXPECT_EQ(group.state().clean_position, 0);
  PublicationBench two;
  send_most_of_a_term(two, 2);
  EXPECT_EQ(two.state().clean_position, 0);
  EXPECT_EQ(two.nak(2 * kMs, 24 << 10, 1024), Lines{"data@24576+1024"});
  PublicationBench spied;
  spied.connect();
  for (int i = 0; i < 16; ++i) spied.publisher.publish(992);
  spied.send(kMs);
  spied.status(kMs, spied.state().sender_position);
  spied.limit(kMs, {0, 0, 1});
  EXPECT_EQ(spied.state().clean_position, 0);
}

TEST(PublisherLimit, a_mad_raw_tail_is_clamped) {
  PublicationBench p;
  p.connect();
  p.log.view().store<std::int64_t>(shm::meta::kTails, shm::pack_tail(7 + 1'000'000, 64));
  p.limit(kMs);
  EXPECT_LE(p.counters[0], 2 * kTerm);
  p.log.view().store<std::int64_t>(shm::meta::kTails, shm::pack_tail(-9, 64));
  const std::int64_t before = p.counters[0];
  p.limit(kMs);
  EXPECT_EQ(p.counters[0], before) << "never goes back";
}

// ---- network life cycle ----

// proves 2.6/6, 2.9/2, 2.9/3, 2.9/5, 2.9/7, 2.9/8, 2.9/9
TEST(Closing, drains_lingers_and_is_done_when_the_linger_time_is_over) {
  PublicationBench p;
  p.connect();
  p.publisher.publish(96);
  close(p);
  EXPECT_TRUE(p.tick(kMs));
  EXPECT_EQ(p.state().lifecycle, Lifecycle::kDraining);
  EXPECT_EQ(end_of_stream_position(p), 128);
  EXPECT_EQ(p.counters[1], 128) << "limit = producer position";
  EXPECT_FALSE(p.state().is_end_of_stream);
  EXPECT_FALSE(p.tick(2 * kMs)) << "unsent data and a live receiver";
  EXPECT_EQ(p.turn(3 * kMs), Lines{"data@0+128"});
  EXPECT_TRUE(p.tick(4 * kMs));
  EXPECT_EQ(p.state().lifecycle, Lifecycle::kLinger);
  EXPECT_EQ(p.nak(5 * kMs, 0, 128).size(), 1U) << "NAKs are served in LINGER";
  EXPECT_EQ(flags_of(p.send(200 * kMs).at(0)), 0xE0);
  EXPECT_FALSE(p.tick(5 * kSecond_ns));
  EXPECT_TRUE(p.tick(6 * kSecond_ns));
  EXPECT_EQ(p.state().lifecycle, Lifecycle::kDone);
  EXPECT_EQ(p.turn(7 * kSecond_ns), Lines{});
}

// proves 2.6/8
TEST(Closing, the_end_shows_on_the_first_heartbeat_after_everything_was_sent) {
  PublicationBench p;
  p.connect();
  p.publisher.publish(96);
  close(p);
  p.tick(kMs);
  p.turn(2 * kMs);
  EXPECT_EQ(flags_of(p.send(103 * kMs).at(0)), 0xE0) << "no tick in between";
}

// proves 2.9/10
TEST(Closing, a_unicast_end_of_stream_status_message_cuts_the_linger_short_whenever_it_came) {
  PublicationBench p;
  p.connect();
  p.status(kMs, 0, 1024, wire::flag::kSmEndOfStream);  // a subscriber that left long before
  p.status(kMs, 0, 1024);
  close(p);
  p.tick(2 * kMs);
  p.tick(3 * kMs);
  ASSERT_EQ(p.state().lifecycle, Lifecycle::kLinger);
  EXPECT_FALSE(p.tick(500 * kMs)) << "EOS heartbeats need a moment to go out";
  EXPECT_TRUE(p.tick(1100 * kMs));
  EXPECT_EQ(p.state().lifecycle, Lifecycle::kDone);
}

// proves 2.9/10
TEST(Closing, a_groups_linger_is_not_cut_short) {
  PublicationBench p{{.flags = PublicationFlags::kGroup}};
  p.connect();
  p.status(kMs, 0, 1024, wire::flag::kSmEndOfStream);
  close(p);
  p.tick(2 * kMs);
  p.tick(3 * kMs);
  EXPECT_FALSE(p.tick(2 * kSecond_ns));
}

// proves 2.9/5, 2.9/6
TEST(Closing, without_receivers_unsent_data_is_given_up_and_no_end_is_signalled) {
  PublicationBench p;
  p.send(0);
  p.publisher.publish(96);
  close(p);
  p.tick(kMs);
  p.tick(2 * kMs);
  EXPECT_EQ(p.state().lifecycle, Lifecycle::kLinger);
  EXPECT_FALSE(p.state().is_end_of_stream);
}

// proves 2.9/5
TEST(Closing, waits_for_spies_to_finish) {
  PublicationBench p;
  p.connect();
  p.publisher.publish(96);
  p.send(kMs);
  close(p);
  p.tick(2 * kMs, {0, 0, 1});
  EXPECT_FALSE(p.tick(3 * kMs, {0, 0, 1}));
  EXPECT_TRUE(p.tick(4 * kMs, {128, 128, 1}));
}

// proves 1.4/10, 1.15/3, 2.9/4
TEST(Closing, unblocks_an_unfinished_claim_without_waiting) {
  PublicationBench p;
  p.connect();
  p.publisher.claim_only(96);
  p.publisher.publish(32);
  close(p);
  p.tick(kMs);
  p.tick(2 * kMs);
  EXPECT_EQ(p.count(LaneCounter::kUnblockedPublications), 1U);
  EXPECT_EQ(p.turn(3 * kMs), (Lines{"pad@0+128", "data@128+64"}));
}

// proves 1.4/10, 2.9/4
TEST(Closing, pads_a_claim_at_the_very_tail_that_nobody_is_left_to_commit) {
  PublicationBench p;
  p.connect();
  p.publisher.publish(32);
  p.log.view().store<std::int64_t>(shm::meta::kTails, p.log.view().raw_tail(0) + 128);  // died right after claiming
  p.send(kMs);
  close(p);
  p.tick(kMs);
  p.tick(2 * kMs);
  EXPECT_EQ(p.turn(3 * kMs), Lines{"pad@64+128"});
  p.tick(4 * kMs);
  EXPECT_EQ(p.state().lifecycle, Lifecycle::kLinger);
}

// proves 2.9/1, 2.9/11
TEST(Revoke, skips_draining_abandons_data_and_disconnects) {
  PublicationBench p;
  p.connect();
  p.publisher.publish(96);
  p.slot->desired.is_revoked = 1;
  EXPECT_TRUE(p.tick(kMs));
  EXPECT_EQ(p.state().lifecycle, Lifecycle::kLinger);
  EXPECT_TRUE(is_log_revoked(p));
  EXPECT_EQ(end_of_stream_position(p), 128);
  EXPECT_EQ(p.counters[1], 128);
  EXPECT_FALSE(p.is_log_connected());
  EXPECT_EQ(p.turn(2 * kMs), Lines{});
  const auto sent = p.send(200 * kMs);
  ASSERT_EQ(describe(sent), Lines{"heartbeat@0"});
  EXPECT_EQ(flags_of(sent[0]), 0xF0);
  EXPECT_FALSE(p.tick(20 * kSecond_ns)) << "a client still holds it";
  close(p);
  EXPECT_TRUE(p.tick(21 * kSecond_ns));
}

// proves 1.4/10, 2.9/12
TEST(Unblock, pads_a_dead_claim_after_the_timeout) {
  PublicationBench p;
  p.connect();
  p.publisher.claim_only(96);
  for (int s = 0; s <= 15; ++s) {
    p.status(s * kSecond_ns, 0);
    p.tick(s * kSecond_ns);
  }
  EXPECT_EQ(p.count(LaneCounter::kUnblockedPublications), 0U);
  p.tick(15 * kSecond_ns + 1);
  EXPECT_EQ(p.count(LaneCounter::kUnblockedPublications), 1U);
  EXPECT_EQ(count_of(p.send(15 * kSecond_ns + 2), wire::FrameType::kPad), 1U);
}

// proves 2.9/13
TEST(Unblock, leaves_exclusive_publications_alone) {
  PublicationBench p{{.flags = PublicationFlags::kExclusive}};
  p.connect();
  p.publisher.claim_only(96);
  for (int s = 0; s <= 40; ++s) p.tick(s * kSecond_ns);
  EXPECT_EQ(p.count(LaneCounter::kUnblockedPublications), 0U);
}

// proves 2.9/12
TEST(Unblock, progress_starts_the_clock_again) {
  PublicationBench p;
  p.connect();
  for (int s = 0; s <= 60; ++s) {
    if (s % 10 == 0) {
      p.publisher.publish(32);
      p.status(s * kSecond_ns, p.state().sender_position);
      p.send(s * kSecond_ns);
    }
    p.tick(s * kSecond_ns);
  }
  EXPECT_EQ(p.count(LaneCounter::kUnblockedPublications), 0U);
}

// ---- IPC ----

PublicationBench::Options ipc() { return {.flags = PublicationFlags::kIpc}; }

TEST(Ipc, nothing_is_ever_sent) {
  PublicationBench p{ipc()};
  p.publisher.publish(96);
  EXPECT_EQ(p.turn(0), Lines{});
  EXPECT_FALSE(p.publication.has_data());
  EXPECT_EQ(p.publication.next_deadline_ns(), kNever_ns);
}

// proves 5.8/1, 5.8/2
TEST(Ipc, the_limit_follows_the_slowest_subscriber_in_steps_of_an_eighth_of_the_window) {
  PublicationBench p{ipc()};
  p.limit();
  EXPECT_EQ(p.counters[1], 0);
  EXPECT_FALSE(p.is_log_connected());
  p.limit(0, {0, 0, 1});
  EXPECT_TRUE(p.is_log_connected());
  EXPECT_EQ(p.counters[1], kTerm / 2);
  for (int i = 0; i < 16; ++i) p.publisher.publish(992);
  p.limit(0, {4096, 8192, 2});
  EXPECT_EQ(p.counters[1], kTerm / 2) << "4096 is an eighth of the window: not beyond the trip limit";
  p.limit(0, {4096 + 32, 8192, 2});
  EXPECT_EQ(p.counters[1], kTerm / 2 + 4128);
}

// proves 5.8/2
TEST(Ipc, without_subscribers_the_limit_is_what_was_ever_consumed) {
  PublicationBench p{ipc()};
  p.limit(0, {0, 0, 1});
  for (int i = 0; i < 4; ++i) p.publisher.publish(992);
  p.limit(0, {1024, 3072, 2});
  p.limit(0);
  EXPECT_EQ(p.counters[1], 3072);
  EXPECT_FALSE(p.is_log_connected());
}

TEST(Ipc, memory_is_clean_before_the_limit_reaches_it) {
  PublicationBench p{ipc()};
  while (p.publisher.position() < 20 * kTerm) {
    const std::int64_t consumed = p.publisher.position();
    p.limit(0, {consumed, consumed, 1});
    ASSERT_GT(p.counters[1], consumed);
    EXPECT_TRUE(p.log.is_zero(consumed, p.counters[1] + kTerm / 4));
    while (p.publisher.position() < p.counters[1]) p.publisher.offer(1000);
  }
}

TEST(Ipc, mad_subscriber_positions_are_clamped) {
  PublicationBench p{ipc()};
  p.limit(0, {0, 0, 1});
  for (int i = 0; i < 4; ++i) p.publisher.publish(992);
  constexpr auto kHuge = std::numeric_limits<std::int64_t>::max();
  p.limit(0, {kHuge, kHuge, 1});
  EXPECT_LE(p.counters[1], 4096 + kTerm / 2);
  p.limit(0, {std::numeric_limits<std::int64_t>::min(), kHuge, 1});
  EXPECT_LE(p.state().consumer_position, 4096);
  EXPECT_FALSE(p.log.is_zero(0, 4096) && p.state().clean_position > 4096);
}

// proves 5.8/3
TEST(Ipc, closing_drains_and_is_done_a_tick_later) {
  PublicationBench p{ipc()};
  p.limit(0, {0, 0, 1});
  p.publisher.publish(96);
  close(p);
  p.tick(kMs, {0, 0, 1});
  EXPECT_EQ(p.state().lifecycle, Lifecycle::kDraining);
  EXPECT_EQ(end_of_stream_position(p), 128);
  EXPECT_EQ(p.counters[1], 128);
  EXPECT_FALSE(p.tick(2 * kMs, {0, 0, 1}));
  EXPECT_TRUE(p.tick(3 * kMs, {128, 128, 1}));
  EXPECT_EQ(p.state().lifecycle, Lifecycle::kLinger);
  EXPECT_TRUE(p.tick(4 * kMs));
  EXPECT_EQ(p.state().lifecycle, Lifecycle::kDone);
}

TEST(Ipc, revoking_lingers_at_once) {
  PublicationBench p{ipc()};
  p.limit(0, {0, 0, 1});
  p.publisher.publish(96);
  p.slot->desired.is_revoked = 1;
  p.tick(kMs, {0, 0, 1});
  EXPECT_EQ(p.state().lifecycle, Lifecycle::kLinger);
  EXPECT_TRUE(is_log_revoked(p));
  EXPECT_EQ(end_of_stream_position(p), 128);
  EXPECT_FALSE(p.tick(2 * kMs));
  close(p);
  EXPECT_TRUE(p.tick(3 * kMs));
}

TEST(Ipc, a_dead_claim_is_unblocked_at_the_consumer_position) {
  PublicationBench p{ipc()};
  p.limit(0, {0, 0, 1});
  p.publisher.publish(96);
  p.publisher.claim_only(96);
  for (int s = 0; s <= 20; ++s) {
    p.limit(s * kSecond_ns, {128, 128, 1});
    p.tick(s * kSecond_ns, {128, 128, 1});
  }
  EXPECT_EQ(p.count(LaneCounter::kUnblockedPublications), 1U);
  EXPECT_EQ(shm::frame_length_acquire(p.log.view().at(128)), 128);
}

}  // namespace
}  // namespace thalweg::proto::test
