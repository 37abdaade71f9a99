// How streams begin and end: end of stream, draining, linger, liveness, rejection, restart of an application.
#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

using shm::Lifecycle;

class LifeTest : public StreamTest {
 protected:
  [[nodiscard]] bool is_publication_done() {
    return nodes->a.control.registry().publications[publication].observed.state.lifecycle == Lifecycle::kDone;
  }
  [[nodiscard]] shm::ImageSlot& image_slot() { return nodes->b.control.registry().images[nodes->b.control.images().front()]; }
  void cut(Node& node) {
    *node.filter = [](rte_mbuf*) { return true; };
  }
  void heal(Node& node) { *node.filter = nullptr; }
};

// proves 2.9/14, 3.11/7
TEST_F(LifeTest, a_closed_publication_ends_the_stream_where_its_last_message_ends) {
  connect();
  const auto messages = make_messages(100, 1'000);
  expect_transfer(messages);
  nodes->a.control.close_publication(publication);
  EXPECT_TRUE(run_until([this] { return subscriber().is_end_of_stream(); }, 2 * kSecond_ns));
  EXPECT_EQ(subscriber().position(), publisher().position());
  EXPECT_TRUE(run_until([this] { return image_slot().observed.is_unavailable.load() != 0; }, 5 * kSecond_ns));
  EXPECT_TRUE(run_until([this] { return is_publication_done(); }, 10 * kSecond_ns));
  EXPECT_EQ(nodes->a.plane->lane(0).publication_count(), 0U);
  nodes->b.control.close_image(nodes->b.control.images().front());
  EXPECT_TRUE(wait_until([this] { return nodes->b.plane->lane(0).image_count() == 0; }, 15 * kSecond_ns));
}

// proves 2.9/10
TEST_F(LifeTest, the_end_is_announced_within_a_timer_interval_and_linger_is_cut_short_by_the_receivers_answer) {
  connect();
  expect_transfer(make_messages(1));
  nodes->a.control.close_publication(publication);
  const std::int64_t begin_ns = nodes->now_ns;
  ASSERT_TRUE(wait_until([this] { return is_publication_done(); }, 20 * kSecond_ns));
  EXPECT_LT(nodes->now_ns - begin_ns, 5 * kSecond_ns) << "the linger of 5 s was not cut short";
}

// proves 2.9/3
TEST_F(LifeTest, a_draining_publication_sends_what_was_offered_before_it_was_closed) {
  connect({}, {.window_length = 8 << 10});
  const auto messages = make_messages(20, 1'000);
  for (const std::string& message : messages) ASSERT_TRUE(publisher().offer(bytes(message)));
  nodes->a.control.close_publication(publication);
  wait_for(3 * kSecond_ns);
  EXPECT_EQ(sender().lifecycle, Lifecycle::kDraining) << "it waits for the window";
  EXPECT_TRUE(run_until(
      [this] {
        subscriber().poll();
        return subscriber().is_end_of_stream();
      },
      5 * kSecond_ns));
  EXPECT_EQ(subscriber().messages(), messages);
}

// proves 2.9/7
TEST_F(LifeTest, a_lingering_publication_still_repairs) {
  connect();
  expect_transfer(make_messages(10));
  std::uint64_t dropped = 0;
  *nodes->b.filter = [&dropped, this](rte_mbuf*) {
    // Everything but heartbeats is lost until the publication lingers.
    const bool is_lost = sender().lifecycle == Lifecycle::kActive;
    dropped += is_lost ? 1 : 0;
    return is_lost;
  };
  ASSERT_TRUE(publisher().offer(bytes("the last message, lost on the way")));
  run_for(kMillisecond_ns);
  ASSERT_GT(dropped, 0U);
  nodes->a.control.close_publication(publication);
  EXPECT_TRUE(run_until(
      [this] {
        subscriber().poll();
        return subscriber().is_end_of_stream();
      },
      5 * kSecond_ns));
  EXPECT_EQ(subscriber().messages().back(), "the last message, lost on the way");
  EXPECT_GT(count_b(LaneCounter::kNaksSent), 0U);
}

// proves 2.4/4
TEST_F(LifeTest, a_publication_without_receivers_repeats_its_setup_and_offers_nothing) {
  make_nodes();
  publication = nodes->a.control.add_publication({.remote = {TwoNodes::kAddressB, kPort}});
  run_for(1'050 * kMillisecond_ns);
  EXPECT_EQ(sender().is_connected, 0);
  EXPECT_FALSE(publisher().offer(bytes("x")));
  EXPECT_GE(count_a(LaneCounter::kSetupsSent), 10U);
  EXPECT_LE(count_a(LaneCounter::kSetupsSent), 11U);
  EXPECT_GE(count_b(LaneCounter::kDropNoEndpoint), 9U);
}

// proves 3.9/1, 3.11/2, 3.12/1
TEST_F(LifeTest, a_silent_sender_makes_the_image_unavailable_after_ten_seconds_and_a_new_one_follows) {
  connect();
  expect_transfer(make_messages(10));
  cut(nodes->b);
  wait_for(9 * kSecond_ns);
  EXPECT_EQ(receiver().lifecycle, Lifecycle::kActive);
  ASSERT_TRUE(wait_until([this] { return image_slot().observed.is_unavailable.load() != 0; }, 8 * kSecond_ns));
  nodes->b.control.close_image(nodes->b.control.images().front());
  heal(nodes->b);
  ASSERT_TRUE(wait_until([this] { return nodes->b.control.images().size() == 2; }, 5 * kSecond_ns)) << "no image after the link came back";
  run_for(200 * kMillisecond_ns);
  ASSERT_TRUE(publisher().offer(bytes("after the outage")));
  Subscriber& second = nodes->b.control.subscriber(nodes->b.control.image_links().back());
  EXPECT_TRUE(run_until([&second] { return second.poll() == 1; }));
  EXPECT_EQ(second.messages().back(), "after the outage");
}

// proves 2.7/1, 2.7/4, 2.7/6
TEST_F(LifeTest, silent_receivers_disconnect_a_publication_after_five_seconds) {
  connect();
  cut(nodes->a);
  wait_for(4'500 * kMillisecond_ns);
  EXPECT_EQ(sender().is_connected, 1);
  EXPECT_TRUE(run_until([this] { return sender().is_connected == 0; }, 2 * kSecond_ns));
  EXPECT_TRUE(run_until([this] { return !publisher().offer(bytes("x")); }, 10 * kMillisecond_ns));
  heal(nodes->a);
  EXPECT_TRUE(run_until([this] { return sender().is_connected == 1; }, 2 * kSecond_ns)) << "it did not connect again";
}

TEST_F(LifeTest, a_short_outage_is_repaired_without_a_new_image) {
  connect();
  cut(nodes->b);
  const auto messages = make_messages(20, 1'000);
  for (const std::string& message : messages) ASSERT_TRUE(publisher().offer(bytes(message)));
  wait_for(3 * kSecond_ns);
  heal(nodes->b);
  ASSERT_TRUE(run_until([&] {
    subscriber().poll();
    return subscriber().messages().size() == messages.size();
  }));
  EXPECT_EQ(subscriber().messages(), messages);
  EXPECT_EQ(nodes->b.control.images().size(), 1U);
}

TEST_F(LifeTest, a_publisher_that_restarts_with_another_session_gets_an_image_of_its_own) {
  connect();
  expect_transfer(make_messages(10));
  nodes->a.control.close_publication(publication);
  const std::uint32_t endpoint = nodes->a.control.registry().publications[publication].desired.endpoint;
  const std::uint32_t second =
      nodes->a.control.add_publication({.session_id = 77, .initial_term_id = -5, .endpoint = endpoint});
  ASSERT_TRUE(run_until([this] { return nodes->b.control.images().size() == 2; }));
  run_for(kMillisecond_ns);
  ASSERT_TRUE(run_until([&] { return nodes->a.control.publisher(second).offer(bytes("second life")); }));
  Subscriber& reader = nodes->b.control.subscriber(nodes->b.control.image_links().back());
  EXPECT_TRUE(run_until([&reader] { return reader.poll() == 1; }));
  EXPECT_EQ(reader.messages().back(), "second life");
}

TEST_F(LifeTest, the_same_session_may_come_back_with_another_first_term_after_its_first_image_is_gone) {
  connect();
  expect_transfer(make_messages(10));
  nodes->a.control.close_publication(publication);
  ASSERT_TRUE(wait_until([this] { return is_publication_done() && image_slot().observed.is_unavailable.load() != 0; }, 20 * kSecond_ns));
  nodes->b.control.close_image(nodes->b.control.images().front());
  run_for(kSecond_ns);
  const std::uint32_t endpoint = nodes->a.control.registry().publications[publication].desired.endpoint;
  const std::uint32_t second = nodes->a.control.add_publication({.initial_term_id = 900, .endpoint = endpoint});
  ASSERT_TRUE(wait_until([this] { return nodes->b.control.images().size() == 2; }, 5 * kSecond_ns));
  ASSERT_TRUE(run_until([&] { return nodes->a.control.publisher(second).offer(bytes("again")); }));
  Subscriber& reader = nodes->b.control.subscriber(nodes->b.control.image_links().back());
  EXPECT_TRUE(run_until([&reader] { return reader.poll() == 1; }));
}

// proves 2.9/1, 3.10/3, 3.11/4
TEST_F(LifeTest, a_revoked_publication_ends_at_once_on_both_sides) {
  connect();
  expect_transfer(make_messages(10));
  nodes->a.control.revoke_publication(publication);
  EXPECT_TRUE(run_until([this] { return image_slot().observed.is_unavailable.load() != 0; }, 3 * kSecond_ns));
  EXPECT_EQ(receiver().is_revoked, 1);
  EXPECT_EQ(sender().is_connected, 0);
}

// proves 2.13/2, 3.13/7
TEST_F(LifeTest, a_rejected_image_tells_its_publication) {
  connect();
  expect_transfer(make_messages(10));
  const std::uint32_t text = *nodes->b.control.put_text("no thanks");
  image_slot().desired.reject_text = text;
  nodes->b.control.reject_image(nodes->b.control.images().front());
  auto& seen = nodes->a.control.registry().publications[publication].observed;
  ASSERT_TRUE(run_until([&seen] { return seen.error_frames != 0; }));
  EXPECT_STREQ(seen.error.text, "no thanks");
  EXPECT_EQ(seen.error_source_address, TwoNodes::kAddressB);
  EXPECT_EQ(sender().is_connected, 0);
}

// proves 3.2/1
TEST_F(LifeTest, data_nobody_wants_any_longer_is_dropped_and_counted) {
  connect();
  nodes->b.control.close_interest(0);
  run_for(kMillisecond_ns);
  ASSERT_TRUE(publisher().offer(bytes("to nobody")));
  EXPECT_TRUE(run_until([this] { return count_b(LaneCounter::kDropNoInterest) > 0; }));
  EXPECT_FALSE(run_until([this] { return subscriber().poll() > 0; }, 10 * kMillisecond_ns));
}

TEST_F(LifeTest, an_endpoint_that_closes_gives_its_port_back) {
  connect();
  nodes->b.control.close_interest(0);
  nodes->b.control.close_image(nodes->b.control.images().front());
  wait_for(15 * kSecond_ns);
  EXPECT_EQ(nodes->b.plane->steward().open_endpoint_count(), 1U);
  nodes->b.control.close_endpoint(0);
  ASSERT_TRUE(run_until([this] { return nodes->b.plane->steward().open_endpoint_count() == 0; }));
  ASSERT_TRUE(nodes->b.plane->port(0).bind({.local = {TwoNodes::kAddressB, kPort}, .is_receive = true}));
  nodes->b.plane->port(0).unbind({TwoNodes::kAddressB, kPort});
}

TEST_F(LifeTest, lost_door_bells_cost_a_rescan_and_nothing_else) {
  make_nodes();
  nodes->b.control.add_subscription({.local = {TwoNodes::kAddressB, kPort}});
  publication = nodes->a.control.add_publication({.remote = {TwoNodes::kAddressB, kPort}});
  nodes->a.control.forget_bells();
  nodes->b.control.forget_bells();
  run_for(200 * kMillisecond_ns);
  EXPECT_EQ(nodes->a.plane->lane(0).publication_count(), 0U);
  nodes->a.control.ask_for_rescan();
  nodes->b.control.ask_for_rescan();
  EXPECT_TRUE(run_until([this] { return sender().is_connected != 0; }));
}

// proves 3.4/5
TEST_F(LifeTest, a_refused_image_is_asked_for_again_with_a_later_setup) {
  make_nodes();
  nodes->b.control.refuses_images = true;
  nodes->b.control.add_subscription({.local = {TwoNodes::kAddressB, kPort}});
  publication = nodes->a.control.add_publication({.remote = {TwoNodes::kAddressB, kPort}});
  run_for(500 * kMillisecond_ns);
  EXPECT_EQ(sender().is_connected, 0);
  nodes->b.control.refuses_images = false;
  EXPECT_TRUE(run_until([this] { return sender().is_connected != 0; }));
}

}  // namespace
}  // namespace thalweg::test
