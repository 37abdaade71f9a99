// Relays: what node b receives from a goes on from b's image log to another port of a, where an application reads it again.
#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

class Relay : public StreamTest {
 protected:
  static constexpr std::uint16_t kRelayPort = 40'200;

  // a -> b, relayed to a; `make_nodes()` before, if at all.
  void relay(FakeControl::RelayOptions r = {}, const FakeControl::PublicationOptions& p = {}) {
    connect(p);
    r.image = nodes->b.control.images().front();
    r.remote = {TwoNodes::kAddressA, kRelayPort};
    slot = nodes->b.control.add_relay(r);
    if (!is_read) return;
    nodes->a.control.add_subscription({.local = r.remote, .stream_id = r.stream_id != 0 ? r.stream_id : p.stream_id});
    ASSERT_TRUE(run_until([this] { return relayed().is_connected != 0; }, 5 * kSecond_ns));
  }
  shm::PublicationState& relayed() { return nodes->b.control.publication_state(slot); }
  Subscriber& reader() { return nodes->a.control.subscriber(nodes->a.control.image_links().front()); }
  // Offers all, polling b and, if wanted, the far end.
  bool send(const std::vector<std::string>& messages, bool polls_far_end, std::int64_t limit_ns = kSecond_ns) {
    return run_until(
        [&] {
          while (offered < messages.size() && publisher().offer(bytes(messages[offered]))) ++offered;
          subscriber().poll();
          if (polls_far_end) reader().poll();
          return subscriber().messages().size() >= messages.size() && (!polls_far_end || reader().messages().size() >= messages.size());
        },
        limit_ns);
  }

  std::uint32_t slot{};
  std::size_t offered{};
  bool is_read{true};
};

TEST_F(Relay, every_message_comes_out_at_the_far_end_over_many_terms) {
  relay();
  const auto messages = make_messages(3'000, 10, 3'000);
  ASSERT_TRUE(send(messages, true, 5 * kSecond_ns));
  EXPECT_EQ(reader().messages(), messages);
  EXPECT_EQ(subscriber().messages(), messages);
}

TEST_F(Relay, nobody_needs_to_read_the_image_beside_it) {
  relay();
  nodes->b.control.close_link(nodes->b.control.image_links().front());
  const auto messages = make_messages(2'000, 10, 1'000);
  ASSERT_TRUE(run_until(
      [&] {
        while (offered < messages.size() && publisher().offer(bytes(messages[offered]))) ++offered;
        reader().poll();
        return reader().messages().size() >= messages.size();
      },
      5 * kSecond_ns));
  EXPECT_EQ(reader().messages(), messages);
}

TEST_F(Relay, what_is_lost_behind_it_is_repaired_from_the_log_of_the_image) {
  make_nodes({.impair_a = {.loss_ppm = 50'000, .seed = 9}});
  relay();
  const auto messages = make_messages(3'000, 10, 1'000);
  ASSERT_TRUE(send(messages, true, 30 * kSecond_ns));
  EXPECT_EQ(reader().messages(), messages);
  EXPECT_GT(count_b(LaneCounter::kRetransmitsSent), 0U);
}

TEST_F(Relay, frames_carry_another_session_and_stream_where_that_is_wanted) {
  make_nodes({.impair_a = {.loss_ppm = 20'000, .seed = 4}});   // in retransmits, too
  relay({.session_id = 77, .stream_id = 2002});
  const auto messages = make_messages(1'000, 10, 1'000);
  ASSERT_TRUE(send(messages, true, 30 * kSecond_ns));
  EXPECT_EQ(reader().messages(), messages);
  const auto& image = nodes->a.control.registry().images[nodes->a.control.images().front()].desired;
  EXPECT_EQ(image.session_id, 77);
  EXPECT_EQ(image.stream_id, 2002);
}

TEST_F(Relay, a_slow_reader_holds_the_sender_up_and_loses_nothing) {
  relay();
  const auto messages = make_messages(1'000, 500);
  EXPECT_FALSE(send(messages, false, kSecond_ns)) << "nobody waited for the far end";
  EXPECT_LT(offered, messages.size());
  reader().poll();
  ASSERT_TRUE(send(messages, true, 5 * kSecond_ns));
  EXPECT_EQ(reader().messages(), messages);
}

TEST_F(Relay, one_that_drops_holds_nobody_up_and_its_reader_comes_back_to_the_live_end) {
  relay({.drops = true});
  const auto messages = make_messages(2'000, 500);
  ASSERT_TRUE(send(messages, false, 5 * kSecond_ns)) << "it was waited for";
  EXPECT_EQ(subscriber().messages(), messages);
  const std::int64_t end = publisher().position();
  ASSERT_TRUE(run_until([&] { reader().poll(); return reader().position() == end; }, 5 * kSecond_ns)) << reader().position();
  const std::vector<std::string>& got = reader().messages();
  EXPECT_GT(got.size(), 50U);
  EXPECT_LT(got.size(), messages.size());
  std::size_t at = 0;
  for (const std::string& message : got) {
    while (at < messages.size() && messages[at] != message) ++at;
    ASSERT_LT(at, messages.size()) << "torn, doubled or out of order: " << message.substr(0, 20);
    ++at;
  }
  EXPECT_GE(count_b(LaneCounter::kRelaySkips), 1U);
  EXPECT_GT(count_b(LaneCounter::kRelaySkippedBytes), static_cast<std::uint64_t>(64 << 10));
  // Nothing is skipped once it keeps up.
  const std::uint64_t skips = count_b(LaneCounter::kRelaySkips);
  reader().discard();
  subscriber().discard();
  offered = 0;
  ASSERT_TRUE(send(messages, true, 5 * kSecond_ns));
  EXPECT_EQ(reader().messages(), messages);
  EXPECT_EQ(count_b(LaneCounter::kRelaySkips), skips);
}

TEST_F(Relay, padding_that_was_lost_is_sent_again_as_padding) {
  relay({.drops = true});
  const auto messages = make_messages(2'000, 500);
  ASSERT_TRUE(send(messages, false, 5 * kSecond_ns));
  int lost = 0;
  *nodes->a.filter = [&](rte_mbuf* frame) {
    const auto* const p = rte_pktmbuf_mtod(frame, const std::byte*);
    const bool is_pad = load_be16(p + 36) == kRelayPort && load_le<std::uint16_t>(p + 42 + 6) == static_cast<std::uint16_t>(wire::FrameType::kPad);
    return is_pad && ++lost % 2 == 1;
  };
  const std::int64_t end = publisher().position();
  EXPECT_TRUE(run_until([&] { reader().poll(); return reader().position() == end; }, 10 * kSecond_ns)) << reader().position() << " of " << end;
  EXPECT_GT(lost, 0);
}

TEST_F(Relay, without_readers_it_follows_and_who_comes_later_joins_at_the_live_end) {
  is_read = false;
  relay();
  const auto messages = make_messages(1'000, 500);
  ASSERT_TRUE(send(messages, false, 5 * kSecond_ns)) << "it waited for nobody";
  nodes->a.control.add_subscription({.local = {TwoNodes::kAddressA, kRelayPort}});
  ASSERT_TRUE(run_until([this] { return relayed().is_connected != 0; }, 5 * kSecond_ns));
  subscriber().discard();
  offered = 0;
  ASSERT_TRUE(run_until([&] { reader().poll(); return reader().position() == publisher().position(); }, kSecond_ns));
  reader().discard();
  ASSERT_TRUE(send(messages, true, 5 * kSecond_ns));
  EXPECT_EQ(reader().messages(), messages);
}

TEST_F(Relay, the_rest_is_sent_when_the_image_has_ended_and_then_the_end_of_stream) {
  relay({.drops = true}, {.linger_ns = kMillisecond_ns});   // holds nothing up, so the image ends first
  const auto messages = make_messages(60, 300);             // less than half a term, more than the far end's window
  ASSERT_TRUE(send(messages, false));
  nodes->a.control.close_publication(publication);
  shm::ImageSlot& image = nodes->b.control.registry().images[nodes->b.control.images().front()];
  ASSERT_TRUE(wait_until([&] { subscriber().poll(); return image.observed.is_unavailable.load() != 0; }, 20 * kSecond_ns));
  nodes->b.control.close_publication(slot);                 // what the conductor does then
  ASSERT_TRUE(wait_until([&] { reader().poll(); return reader().is_end_of_stream(); }, 20 * kSecond_ns));
  EXPECT_EQ(reader().messages(), messages);
}

TEST_F(Relay, a_restarted_data_plane_goes_on) {
  relay();
  const auto messages = make_messages(2'000, 10, 1'000);
  for (int i = 0; i < 5; ++i) {
    ASSERT_FALSE(send(messages, true, 100 * kMicrosecond_ns)) << "over before the restart";
    nodes->restart(nodes->b);
  }
  ASSERT_TRUE(send(messages, true, 20 * kSecond_ns));
  EXPECT_EQ(reader().messages(), messages);
}

TEST_F(Relay, an_image_that_is_not_there_is_no_source) {
  connect();
  const std::uint32_t image = nodes->b.control.images().front();
  slot = nodes->b.control.add_relay({.image = image, .remote = {TwoNodes::kAddressA, kRelayPort}});
  nodes->b.control.registry().publications[slot].desired.source_generation += 1;
  auto& observed = nodes->b.control.registry().publications[slot].observed;
  const shm::ObservedHead& head = observed;
  ASSERT_TRUE(run_until([&] { return head.state.load() == shm::Observed::kFailed; }));
  EXPECT_NE(std::string{observed.error.text}.find("image to relay"), std::string::npos);
}

}  // namespace
}  // namespace thalweg::test
