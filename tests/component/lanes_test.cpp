// Several lanes, streams that cross between them, and IPC streams.
#include <rte_mbuf.h>

#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

class LanesTest : public StreamTest {
 protected:
  void make_two_lanes() {
    TwoNodes::Options options;
    options.lanes = 2;
    options.has_second_cable = true;   // polled by lane 1
    make_nodes(options);
  }
  // One IPC stream of node a with its subscribers.
  void connect_ipc(std::uint32_t lane, std::size_t subscribers) {
    publication = nodes->a.control.add_publication({.term_length = 64 << 10, .is_ipc = true, .lane = lane});
    for (std::size_t i = 0; i < subscribers; ++i) links.push_back(nodes->a.control.add_ipc_subscriber(publication));
    ASSERT_TRUE(run_until([this] { return sender().is_connected != 0 && sender().publisher_limit > 0; }));
  }
  Subscriber& reader(std::size_t i) { return nodes->a.control.subscriber(links[i]); }
  std::vector<std::uint32_t> links;
};

TEST_F(LanesTest, an_ipc_stream_moves_through_its_lane) {
  make_nodes();
  connect_ipc(0, 2);
  const auto messages = make_messages(3'000, 0, 2'000);
  std::size_t offered = 0;
  ASSERT_TRUE(run_until(
      [&] {
        while (offered < messages.size() && publisher().offer(bytes(messages[offered]))) ++offered;
        reader(0).poll();
        reader(1).poll(4'096);
        return reader(0).messages().size() == messages.size() && reader(1).messages().size() == messages.size();
      },
      10 * kSecond_ns));
  EXPECT_EQ(reader(0).messages(), messages);
  EXPECT_EQ(reader(1).messages(), messages);
}

// proves 5.8/1
TEST_F(LanesTest, an_ipc_publisher_stops_at_its_limit_and_goes_on_after_a_poll) {
  make_nodes();
  connect_ipc(0, 1);
  int offered = 0;
  run_until([&] {
    while (publisher().offer(bytes(std::string(1'000, 'x')))) ++offered;
    return false;
  }, 100 * kMillisecond_ns);
  EXPECT_GT(offered, 10);
  EXPECT_LT(offered, 64);
  const int stalled_at = offered;
  reader(0).poll();
  const std::int64_t begin_ns = nodes->now_ns;
  ASSERT_TRUE(run_until([&] {
    while (publisher().offer(bytes(std::string(1'000, 'x')))) ++offered;
    return offered > stalled_at;
  }));
  EXPECT_LE(nodes->now_ns - begin_ns, 50'000) << "an idle IPC log is looked at every 50 us";
}

TEST_F(LanesTest, an_ipc_stream_ends_after_its_last_subscriber_read_everything) {
  make_nodes();
  connect_ipc(0, 1);
  ASSERT_TRUE(publisher().offer(bytes("last")));
  nodes->a.control.close_publication(publication);
  run_for(3 * kSecond_ns);
  EXPECT_EQ(sender().lifecycle, shm::Lifecycle::kDraining);
  EXPECT_EQ(reader(0).poll(), 1);
  EXPECT_TRUE(wait_until([this] { return sender().lifecycle == shm::Lifecycle::kDone; }, 5 * kSecond_ns));
  EXPECT_TRUE(reader(0).is_end_of_stream());
}

TEST_F(LanesTest, ipc_streams_live_on_the_lane_that_is_named) {
  make_two_lanes();
  connect_ipc(1, 1);
  EXPECT_EQ(nodes->a.plane->lane(0).publication_count(), 0U);
  EXPECT_EQ(nodes->a.plane->lane(1).publication_count(), 1U);
  ASSERT_TRUE(publisher().offer(bytes("hello")));
  EXPECT_EQ(reader(0).poll(), 1);
}

TEST_F(LanesTest, a_destination_behind_another_lane_gets_no_frame_beyond_the_mtu_of_its_cable) {
  make_two_lanes();
  const wire::UdpEndpoint remote{TwoNodes::kAddressB + TwoNodes::kSecondCable, kPort};
  nodes->b.control.add_subscription({.local = remote});
  publication = nodes->a.control.add_publication({.mtu = 1'920, .mode = shm::EndpointMode::kManual, .local = {0, 40'500}});   // which loopback has room for
  nodes->a.control.add_destination(publication, remote);
  std::size_t largest = 0;
  *nodes->b.filter = [&largest](rte_mbuf* m) {
    largest = std::max<std::size_t>(largest, m->pkt_len);
    return false;
  };
  ASSERT_TRUE(run_until([this] { return sender().is_connected != 0 && sender().publisher_limit > sender().sender_position; }, 5 * kSecond_ns));
  ASSERT_TRUE(publisher().offer(bytes(std::string(1'800, 'x'))));
  ASSERT_TRUE(run_until([this] { return count_a(LaneCounter::kDropNoRoute) > 0; }));
  run_for(kMillisecond_ns);
  EXPECT_GT(largest, 0U);
  EXPECT_LE(largest, 1'514U);
}

TEST_F(LanesTest, a_stream_belongs_to_the_lane_that_polls_its_port) {
  make_two_lanes();
  const wire::UdpEndpoint remote{TwoNodes::kAddressB + TwoNodes::kSecondCable, kPort};
  nodes->b.control.add_subscription({.local = remote});
  publication = nodes->a.control.add_publication({.remote = remote});
  ASSERT_TRUE(run_until([this] { return sender().is_connected != 0; }));
  run_for(kMillisecond_ns);
  expect_transfer(make_messages(500, 0, 3'000));
  EXPECT_EQ(nodes->a.plane->lane(1).publication_count(), 1U);
  EXPECT_EQ(nodes->b.plane->lane(1).image_count(), 1U);
  EXPECT_EQ(count_b(LaneCounter::kFramesCrossed, 0) + count_b(LaneCounter::kFramesCrossed, 1), 0U);
}

TEST_F(LanesTest, frames_that_arrive_on_another_lane_than_their_endpoints_cross_and_are_answered) {
  make_two_lanes();
  nodes->b.control.add_subscription({.local = {0, kPort}});   // all ports: belongs to the lane of the first
  publication = nodes->a.control.add_publication({.remote = {TwoNodes::kAddressB + TwoNodes::kSecondCable, kPort}});
  ASSERT_TRUE(run_until([this] { return sender().is_connected != 0 && sender().publisher_limit > 0; }));
  EXPECT_EQ(nodes->b.plane->lane(0).image_count(), 1U);
  expect_transfer(make_messages(1'000, 0, 3'000), 5 * kSecond_ns);
  EXPECT_GT(count_b(LaneCounter::kFramesCrossed, 1), 500U);
  EXPECT_GT(count_b(LaneCounter::kStatusMessagesSent, 0), 0U) << "from lane 0, by a port of lane 1";
  EXPECT_EQ(count_b(LaneCounter::kDropLaneRingFull, 1), 0U);
}

// ---- one port, several queues ----

class QueuesTest : public LanesTest {
 protected:
  static constexpr std::uint16_t kStreams = 6;
  void make_shared_port(std::uint32_t loss_ppm = 0) {
    TwoNodes::Options options;
    options.lanes = 2;
    options.queues = 2;
    options.impair_b.loss_ppm = loss_ppm;
    make_nodes(options);
  }
  // As many streams, each to an address of its own, with a message for each of their subscribers.
  void expect_streams_to_work() {
    FakeControl& a = nodes->a.control;
    FakeControl& b = nodes->b.control;
    std::vector<std::uint32_t> publications;
    for (std::uint16_t i = 0; i < kStreams; ++i) {
      const wire::UdpEndpoint remote{TwoNodes::kAddressB, static_cast<std::uint16_t>(kPort + i)};
      b.add_subscription({.local = remote});
      publications.push_back(a.add_publication({.remote = remote}));
    }
    const auto are_connected = [&] {
      return std::all_of(publications.begin(), publications.end(), [&](std::uint32_t p) { return a.publication_state(p).publisher_limit > 0; });
    };
    ASSERT_TRUE(run_until(are_connected, 5 * kSecond_ns));
    const auto messages = make_messages(300, 0, 3'000);
    std::vector<std::size_t> offered(kStreams);
    const auto are_through = [&] {
      std::size_t done = 0;
      for (std::uint16_t i = 0; i < kStreams; ++i) {
        while (offered[i] < messages.size() && a.publisher(publications[i]).offer(bytes(messages[offered[i]]))) ++offered[i];
        Subscriber& reader = b.subscriber(b.image_links()[i]);
        reader.poll();
        done += reader.messages().size() == messages.size() ? 1 : 0;
      }
      return done == kStreams;
    };
    ASSERT_TRUE(run_until(are_through, 20 * kSecond_ns));
    for (std::uint16_t i = 0; i < kStreams; ++i) EXPECT_EQ(b.subscriber(b.image_links()[i]).messages(), messages) << "stream " << i;
  }
};

TEST_F(QueuesTest, lanes_that_share_a_port_share_its_streams) {
  make_shared_port();
  expect_streams_to_work();
  EXPECT_EQ(nodes->b.plane->lane(0).image_count(), kStreams / 2);
  EXPECT_EQ(nodes->b.plane->lane(1).image_count(), kStreams / 2);
  EXPECT_GT(count_b(LaneCounter::kFramesReceived, 0), 100U);
  EXPECT_GT(count_b(LaneCounter::kFramesReceived, 1), 100U);
  EXPECT_GT(count_b(LaneCounter::kFramesCrossed, 0) + count_b(LaneCounter::kFramesCrossed, 1), 100U) << "the device spread them as it liked";
  EXPECT_EQ(nodes->a.plane->lane(0).publication_count(), kStreams) << "one lane sends by a port";
  EXPECT_EQ(count_b(LaneCounter::kDropNoEndpoint, 0) + count_b(LaneCounter::kDropNoEndpoint, 1), 0U);
}

TEST_F(QueuesTest, streams_of_a_shared_port_survive_loss) {
  make_shared_port(50'000);
  expect_streams_to_work();
}

TEST_F(QueuesTest, what_no_stream_wants_is_answered_by_the_lane_that_speaks_for_the_port) {
  make_shared_port();
  // ARP comes in on the last queue; without an answer nothing would be sent.
  connect();
  run_for(kMillisecond_ns);
  EXPECT_GT(count_b(LaneCounter::kFramesCrossed, 1), 0U);
  EXPECT_EQ(count_b(LaneCounter::kDropOtherProtocol, 0) + count_b(LaneCounter::kDropOtherProtocol, 1), 0U);
}

TEST_F(QueuesTest, more_lanes_than_queues_are_refused) {
  FakeControl control{"refused", 8'192};
  core::DataplaneOptions options;
  options.directory = control.directory();
  options.lanes.resize(2);
  options.lanes[0].ports = options.lanes[1].ports = {"lo"};
  pmd::PortOptions loopback;
  loopback.name = "lo";
  loopback.kind = shm::PortKind::kLoopback;
  loopback.address = 0x7F000001;
  loopback.prefix_length = 8;
  options.ports = {loopback};
  const auto plane = core::Dataplane::create(options, control.registry(), control.counters(), std::make_shared<pmd::PortContext>());
  ASSERT_FALSE(plane);
  EXPECT_NE(plane.error().message.find("2 lanes name port 'lo', which has 1 receive queue"), std::string::npos) << plane.error().message;
}

// The same stream from two publications of node a, by the cables of both of b's lanes.
class DestinationsOnLanes : public LanesTest {
 protected:
  static constexpr std::uint32_t kSecondB = TwoNodes::kAddressB + TwoNodes::kSecondCable;
  static constexpr std::uint32_t kSecondA = TwoNodes::kAddressA + TwoNodes::kSecondCable;

  void make(std::uint32_t loss_ppm) {
    TwoNodes::Options options;
    options.lanes = 2;
    options.has_second_cable = true;
    options.impair_b = {.loss_ppm = loss_ppm, .seed = 3};
    make_nodes(options);
  }
  std::uint32_t publish(const wire::UdpEndpoint& to) {
    const std::uint32_t slot = nodes->a.control.add_publication({.remote = to, .term_length = 1 << 20});
    if (wire::is_multicast_ipv4(to.address)) {
      shm::EndpointSlot::Wanted& endpoint = nodes->a.control.registry().endpoints[nodes->a.control.registry().publications[slot].desired.endpoint].desired;
      endpoint.is_multicast = 1;
      endpoint.interface_address = kSecondA;
      endpoint.prefix_length = 24;
    }
    return slot;
  }
  bool connect(const std::vector<wire::UdpEndpoint>& to) {
    nodes->b.control.add_subscription({.local = to.front(), .destinations = to, .group_interface = kSecondB});
    for (const wire::UdpEndpoint& each : to) publications.push_back(publish(each));
    return run_until(
        [this] {
          return std::all_of(publications.begin(), publications.end(), [this](std::uint32_t slot) {
            return nodes->a.control.publication_state(slot).is_connected != 0 && nodes->a.control.publication_state(slot).publisher_limit > 0;
          });
        },
        5 * kSecond_ns);
  }
  void expect_all(const std::vector<std::string>& messages) {
    std::vector<std::size_t> offered(publications.size());
    ASSERT_TRUE(run_until(
        [&] {
          for (std::size_t i = 0; i < publications.size(); ++i) {
            Publisher& from = nodes->a.control.publisher(publications[i]);
            while (offered[i] < messages.size() && from.offer(bytes(messages[offered[i]]))) ++offered[i];
          }
          subscriber().poll();
          return subscriber().messages().size() >= messages.size();
        },
        30 * kSecond_ns));
    EXPECT_EQ(subscriber().messages(), messages);
    EXPECT_EQ(nodes->b.control.images().size(), 1U);
  }
  std::vector<std::uint32_t> publications;
};

// proves 5.6/2, 5.6/3
TEST_F(DestinationsOnLanes, feed_one_image_and_what_another_lane_polls_crosses) {
  make(30'000);
  ASSERT_TRUE(connect({{TwoNodes::kAddressB, 40'001}, {kSecondB, 40'002}}));
  expect_all(make_messages(1'000, 10, 1'200));
  EXPECT_GT(count_b(LaneCounter::kFramesCrossed, 1), 500U) << "the log is lane 0's";
  EXPECT_EQ(count_b(LaneCounter::kFramesCrossed, 0), 0U) << "frames that are sent do not count as crossed";
  wait_for(6 * kSecond_ns);
  for (const std::uint32_t slot : publications) EXPECT_EQ(nodes->a.control.publication_state(slot).is_connected, 1);
}

TEST_F(DestinationsOnLanes, a_group_that_another_lane_polls_crosses_as_well) {
  constexpr std::uint32_t kGroup = 0xE00A0901;
  make(30'000);
  ASSERT_TRUE(connect({{TwoNodes::kAddressB, 40'001}, {kGroup, 40'456}}));
  expect_all(make_messages(1'000, 10, 1'200));
  EXPECT_GT(count_b(LaneCounter::kFramesCrossed, 1), 500U);
}

TEST_F(DestinationsOnLanes, a_group_with_a_member_on_each_lane_reaches_both) {
  constexpr std::uint32_t kGroup = 0xE00A0901;
  make(0);
  auto& registry = nodes->b.control.registry();
  nodes->b.control.add_subscription({.local = {kGroup, 40'456}, .stream_id = 1001});
  auto& plain = registry.endpoints[0].desired;   // joined as a plain member, on the lane that polls the port
  plain.is_multicast = 1;
  plain.interface_address = kSecondB;
  plain.prefix_length = 24;
  plain.remote_address = wire::control_group(kGroup);
  plain.remote_port = 40'456;
  ASSERT_TRUE(connect({{TwoNodes::kAddressB, 40'001}, {kGroup, 40'456}}));
  ASSERT_TRUE(run_until([this] { return nodes->b.control.images().size() == 2; }, 5 * kSecond_ns));
  const auto messages = make_messages(200, 10, 1'200);
  std::vector<std::size_t> offered(publications.size());
  auto& links_b = nodes->b.control.image_links();
  ASSERT_EQ(links_b.size(), 2U);
  EXPECT_TRUE(run_until(
      [&] {
        bool is_done = true;
        for (std::size_t i = 0; i < publications.size(); ++i) {
          Publisher& from = nodes->a.control.publisher(publications[i]);
          while (offered[i] < messages.size() && from.offer(bytes(messages[offered[i]]))) ++offered[i];
        }
        for (const std::uint32_t link : links_b) {
          nodes->b.control.subscriber(link).poll();
          is_done &= nodes->b.control.subscriber(link).messages().size() >= messages.size();
        }
        return is_done;
      },
      30 * kSecond_ns));
  for (const std::uint32_t link : links_b) EXPECT_EQ(nodes->b.control.subscriber(link).messages(), messages);
}

TEST_F(LanesTest, a_crossing_stream_survives_loss) {
  TwoNodes::Options options;
  options.lanes = 2;
  options.has_second_cable = true;
  options.impair_a = {.loss_ppm = 50'000, .seed = 1};
  options.impair_b = {.loss_ppm = 50'000, .seed = 2};
  make_nodes(options);
  nodes->b.control.add_subscription({.local = {0, kPort}});
  publication = nodes->a.control.add_publication({.remote = {TwoNodes::kAddressB + TwoNodes::kSecondCable, kPort}});
  ASSERT_TRUE(run_until([this] { return sender().is_connected != 0 && sender().publisher_limit > 0; }, 5 * kSecond_ns));
  expect_transfer(make_messages(1'000, 0, 3'000), 30 * kSecond_ns);
}

TEST_F(LanesTest, an_endpoint_on_all_ports_gives_each_of_them_back) {
  make_two_lanes();
  nodes->b.control.add_subscription({.local = {0, kPort}});
  ASSERT_TRUE(run_until([this] { return nodes->b.plane->steward().open_endpoint_count() == 1; }));
  const wire::UdpEndpoint first{TwoNodes::kAddressB, kPort};
  const wire::UdpEndpoint second{TwoNodes::kAddressB + TwoNodes::kSecondCable, kPort};
  EXPECT_FALSE(nodes->b.plane->port(0).bind({.local = first, .is_receive = true}));
  EXPECT_FALSE(nodes->b.plane->port(2).bind({.local = second, .is_receive = true}));
  nodes->b.control.close_interest(0);
  nodes->b.control.close_endpoint(0);
  ASSERT_TRUE(run_until([this] { return nodes->b.plane->steward().open_endpoint_count() == 0; }));
  EXPECT_TRUE(nodes->b.plane->port(0).bind({.local = first, .is_receive = true}));
  EXPECT_TRUE(nodes->b.plane->port(2).bind({.local = second, .is_receive = true}));
}

TEST_F(LanesTest, a_port_number_in_use_is_an_answer_and_holds_no_port) {
  make_two_lanes();
  const wire::UdpEndpoint second{TwoNodes::kAddressB + TwoNodes::kSecondCable, kPort};
  ASSERT_TRUE(nodes->b.plane->port(2).bind({.local = second, .is_receive = true}));
  nodes->b.control.add_subscription({.local = {0, kPort}});
  const auto& seen = nodes->b.control.registry().endpoints[0].observed;
  ASSERT_TRUE(run_until([&seen] { return seen.state.load() == shm::Observed::kFailed; }));
  EXPECT_NE(std::string{seen.error.text}.find("in use"), std::string::npos) << seen.error.text;
  EXPECT_TRUE(nodes->b.plane->port(0).bind({.local = {TwoNodes::kAddressB, kPort}, .is_receive = true})) << "the first port was kept";
}

}  // namespace
}  // namespace thalweg::test
