// Thousands of idle streams: what they cost in latency and in turns (design, section 2).
#include <rte_mbuf.h>

#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

constexpr std::int64_t kPromised_ns = 50'000;

class IdleTest : public StreamTest {
 protected:
  // `count` publications of node a on one endpoint, connected by status messages of a receiver that is not there.
  void connect_publications(std::uint32_t count) {
    TwoNodes::Options options;
    options.step_ns = kStep_ns;
    make_nodes(options);
    nodes->a.control.is_lean = true;
    FakeControl::PublicationOptions p{.remote = {TwoNodes::kAddressB, kPort}};
    for (std::uint32_t i = 0; i < count; ++i) {
      p.session_id = static_cast<std::int32_t>(i + 1);
      publications.push_back(nodes->a.control.add_publication(p));
      p.endpoint = nodes->a.control.registry().publications[publications[0]].desired.endpoint;
      if (i % 512 == 0) run_for(20 * kStep_ns);   // door bells are a ring
    }
    ASSERT_TRUE(run_until([&] { return nodes->a.plane->lane(0).publication_count() == count; }));
    run_for(kMillisecond_ns);
    for (const std::uint32_t each : publications) send_status(each);
    ASSERT_TRUE(run_until([&] { return nodes->a.plane->lane(0).active_count() == 0; })) << "they do not come to rest";
    for (const std::uint32_t each : publications) ASSERT_EQ(nodes->a.control.publication_state(each).is_connected, 1) << each;
  }
  void send_status(std::uint32_t slot) {
    const auto& d = nodes->a.control.registry().publications[slot].desired;
    wire::StatusMessage sm;
    sm.session_id = d.session_id;
    sm.stream_id = d.stream_id;
    sm.consumption_term_id = d.initial_term_id;
    sm.window_length = 32 << 10;
    sm.receiver_id = 1;
    std::byte payload[wire::StatusMessage::kLength];
    wire::build(payload, sm);
    wire::UdpFrameTemplate::Options o;
    o.source_mac = nodes->b.plane->port(0).mac();
    o.destination_mac = nodes->a.plane->port(0).mac();
    o.source = {TwoNodes::kAddressB, kPort};
    o.destination = {TwoNodes::kAddressA, nodes->a.control.registry().endpoints[0].observed.bound_port};
    const wire::UdpFrameTemplate header{o};
    std::vector<std::byte> frame(header.length() + sizeof payload + 2);
    header.write(frame.data(), sizeof payload);
    std::memcpy(frame.data() + header.length(), payload, sizeof payload);
    nodes->inject(nodes->a, frame);
    nodes->a.step(nodes->now_ns);
    nodes->now_ns += 100;
  }
  static constexpr std::int64_t kStep_ns = 2'000;
  std::vector<std::uint32_t> publications;
};

TEST_F(IdleTest, the_first_message_of_an_idle_stream_among_4096_leaves_within_50_us) {
  connect_publications(shm::kPublicationsMax);
  Random random{17};
  std::int64_t worst_ns = 0;
  for (int i = 0; i < 200; ++i) {
    const std::uint32_t slot = publications[random.below(publications.size())];
    run_for(static_cast<std::int64_t>(random.below(60)) * 1'000);
    shm::PublicationState& state = nodes->a.control.publication_state(slot);
    const std::int64_t before = state.sender_position;
    const std::int64_t begin_ns = nodes->now_ns;
    ASSERT_TRUE(nodes->a.control.publisher(slot).offer(bytes("first")));
    ASSERT_TRUE(run_until([&] { return state.sender_position > before; }, kMillisecond_ns));
    worst_ns = std::max(worst_ns, nodes->now_ns - begin_ns);
  }
  EXPECT_LE(worst_ns, kPromised_ns);
}

TEST_F(IdleTest, idle_publications_do_not_take_turns) {
  connect_publications(1'000);
  run_for(10 * kMillisecond_ns);
  EXPECT_LE(nodes->a.plane->lane(0).active_count(), 100U) << "timer ticks wake a few, no more";
}

// proves 2.1/4
TEST_F(IdleTest, a_publication_whose_window_opens_goes_on_within_50_us) {
  connect({.term_length = 64 << 10}, {.window_length = 8 << 10});
  while (publisher().offer(bytes(std::string(1'000, 'x')))) {}
  run_for(20 * kMillisecond_ns);
  const std::int64_t stalled_at = sender().sender_position;
  const std::int64_t begin_ns = nodes->now_ns;
  subscriber().poll();
  ASSERT_TRUE(run_until([&] { return sender().sender_position > stalled_at; }));
  EXPECT_LE(nodes->now_ns - begin_ns, 2 * 100'000) << "an image sees consumption within 100 us, a window opens the sender at once";
}

// proves 2.1/4, 5.7/3
TEST_F(IdleTest, a_spy_that_reads_on_moves_the_limit_of_a_resting_publication) {
  connect();
  Subscriber& spy = nodes->a.control.subscriber(nodes->a.control.add_ipc_subscriber(publication));  // on a network publication: a spy
  run_for(kMillisecond_ns);
  while (publisher().offer(bytes(std::string(1'000, 'x')))) {}
  run_until([this] {
    subscriber().poll();
    return false;
  }, 50 * kMillisecond_ns);
  ASSERT_EQ(subscriber().position(), publisher().position());
  ASSERT_FALSE(publisher().offer(bytes("x"))) << "the spy does not count";
  const std::int64_t begin_ns = nodes->now_ns;
  spy.poll();
  ASSERT_TRUE(run_until([this] { return publisher().offer(bytes("x")); }));
  EXPECT_LE(nodes->now_ns - begin_ns, 2 * kPromised_ns);
}

}  // namespace
}  // namespace thalweg::test
