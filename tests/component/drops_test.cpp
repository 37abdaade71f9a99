// Reasons to drop that need more than one odd frame: no route back, a port or a lane that takes no more, an image its reader rejected.
// Every stream must go on afterwards, and every frame must be in exactly one place (the fixture looks for lost buffers).
#include "dataplane/core/crossing.hpp"
#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

class DropsTest : public StreamTest {
 protected:
  // A DATA frame of the connected stream, or of another session, from `source` to b's subscription on a cable.
  [[nodiscard]] Frame data(wire::UdpEndpoint source, std::int32_t session_id, std::uint32_t cable = 0) {
    wire::DataHeader h;
    h.frame_length = 96;
    h.flags = wire::flag::kUnfragmented;
    h.session_id = session_id;
    h.stream_id = 1'001;
    h.term_id = 100;
    Frame payload(96);
    wire::build(payload.data(), h);
    wire::UdpFrameTemplate::Options o;
    const std::uint32_t port = cable == 0 ? 0 : 2;
    o.source_mac = nodes->a.plane->port(port).mac();
    o.destination_mac = nodes->b.plane->port(port).mac();
    o.source = source;
    o.destination = {TwoNodes::kAddressB + cable, kPort};
    return udp(o, payload);
  }
  [[nodiscard]] Frame arp_request_to_a() {
    Frame frame(60);
    const wire::MacAddress mac = nodes->b.plane->port(0).mac();
    wire::build_ethernet(frame.data(), wire::kBroadcastMac, mac, wire::kEtherTypeArp);
    wire::build(frame.data() + wire::kEthernetHeaderLength,
                wire::ArpPacket{wire::ArpPacket::kRequest, mac, TwoNodes::kAddressB, wire::MacAddress{}, TwoNodes::kAddressA});
    return frame;
  }
  // b on two lanes with a cable each, its subscription on every port, so owned by lane 0.
  void connect_over_two_lanes() {
    TwoNodes::Options options;
    options.lanes = 2;
    options.has_second_cable = true;
    make_nodes(options);
    nodes->b.control.add_subscription({.local = {0, kPort}});
    publication = nodes->a.control.add_publication({.remote = {TwoNodes::kAddressB + TwoNodes::kSecondCable, kPort}});
    ASSERT_TRUE(run_until([this] { return sender().is_connected != 0 && sender().publisher_limit > 0; }));
  }
};

// proves 3.2/7
TEST_F(DropsTest, sessions_beyond_the_limit_of_their_stream_are_counted_and_come_when_there_is_room) {
  TwoNodes::Options options;
  options.session_limit = 1;
  make_nodes(options);
  connect();
  const std::uint32_t other = nodes->a.control.add_publication({.remote = {TwoNodes::kAddressB, kPort}, .session_id = 0x77});
  run_for(kSecond_ns);
  EXPECT_GE(count_b(LaneCounter::kDropSessionLimit), 8U) << "every SETUP of the second session";
  EXPECT_EQ(nodes->b.control.images().size(), 1U);
  EXPECT_EQ(nodes->a.control.publication_state(other).is_connected, 0);
  expect_transfer(make_messages(100));
  nodes->a.control.close_publication(publication);
  EXPECT_TRUE(run_until([&] { return nodes->a.control.publication_state(other).is_connected == 1; }, 20 * kSecond_ns));
  EXPECT_EQ(nodes->b.control.images().size(), 2U);
}

TEST_F(DropsTest, an_answer_without_a_route_is_counted_and_not_sent) {
  connect_over_two_lanes();
  const std::uint64_t sent = count_b(LaneCounter::kStatusMessagesSent);
  nodes->inject(nodes->b, data({0xC0A80909, 5'555}, 77));  // 192.168.9.9, to which no port leads, and a session that wants eliciting
  EXPECT_TRUE(run_until([this] { return count_b(LaneCounter::kDropNoRoute) == 1; }, kMillisecond_ns));
  EXPECT_EQ(count_b(LaneCounter::kStatusMessagesSent), sent);
  expect_transfer(make_messages(100));
}

TEST_F(DropsTest, what_a_full_port_does_not_take_is_kept_first_and_then_counted) {
  make_nodes();
  connect();
  const Frame request = arp_request_to_a();
  while (nodes->try_inject(nodes->b, request)) {
  }  // nobody empties the cable towards b
  constexpr int kKept = core::TxStage::kCapacity;
  constexpr int kTooMany = 10;
  for (int i = 0; i < kKept + kTooMany; ++i) {
    nodes->inject(nodes->a, request);
    nodes->a.plane->step(nodes->now_ns);
  }
  EXPECT_EQ(count_a(LaneCounter::kDropTxFull), kTooMany + 0U);
  EXPECT_GT(count_a(LaneCounter::kShortSends), 0U);
  expect_transfer(make_messages(100));
  EXPECT_EQ(count_a(LaneCounter::kDropTxFull), kTooMany + 0U) << "the kept ones went out";
}

TEST_F(DropsTest, a_lane_that_is_held_up_costs_what_its_ring_does_not_hold) {
  connect_over_two_lanes();
  run_for(kMillisecond_ns);
  const std::uint64_t crossed = count_b(LaneCounter::kFramesCrossed, 1);
  const Frame stray = data({TwoNodes::kAddressA + TwoNodes::kSecondCable, 5'555}, 77, TwoNodes::kSecondCable);
  constexpr std::uint32_t kHeld = core::kCrossingRingSize - 1;
  constexpr std::uint32_t kTooMany = 10;
  for (std::uint32_t i = 0; i < kHeld + kTooMany; ++i) {
    nodes->inject(nodes->b, stray, 2);
    nodes->b.plane->lane(1).turn(nodes->now_ns);  // lane 0 takes none
  }
  EXPECT_EQ(count_b(LaneCounter::kFramesCrossed, 1) - crossed, kHeld + 0U);
  EXPECT_EQ(count_b(LaneCounter::kDropLaneRingFull, 1), kTooMany + 0U);
  expect_transfer(make_messages(100));
  EXPECT_EQ(count_b(LaneCounter::kDropLaneRingFull, 1), kTooMany + 0U);
}

// proves 3.13/2
TEST_F(DropsTest, data_of_a_rejected_image_is_counted_and_does_not_reach_its_log) {
  make_nodes();
  connect();
  expect_transfer(make_messages(10));
  const std::int64_t high_water = receiver().high_water;
  nodes->b.control.reject_image(nodes->b.control.images().front());
  run_for(100'000);
  const std::int32_t session_id = nodes->b.control.registry().images[0].desired.session_id;
  nodes->inject(nodes->b, data({TwoNodes::kAddressA, 5'555}, session_id));
  EXPECT_TRUE(run_until([this] { return count_b(LaneCounter::kDropImageRejected) == 1; }, kMillisecond_ns));
  EXPECT_EQ(receiver().high_water, high_water);
}

}  // namespace
}  // namespace thalweg::test
