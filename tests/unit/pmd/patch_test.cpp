#include "tests/unit/pmd/eal_environment.hpp"

namespace thalweg::pmd::test {
namespace {

constexpr wire::UdpEndpoint kLeft{0x0A000001, 40001};
constexpr wire::UdpEndpoint kRight{0x0A000002, 40002};

PortOptions end(const std::string& name, const std::string& peer) {
  PortOptions options;
  options.name = name;
  options.kind = shm::PortKind::kPatch;
  options.peer = peer;
  options.address = name == "left" ? kLeft.address : kRight.address;
  options.ring_size = 64;
  return options;
}

using Patch = PortTest;

TEST_F(Patch, frames_arrive_at_the_other_end_in_order_and_without_a_copy) {
  const auto left = make(end("left", "right"));
  const auto right = make(end("right", "left"));
  std::vector<rte_mbuf*> sent;
  for (int i = 0; i < 40; ++i) sent.push_back(frame(kLeft, kRight, std::to_string(i)));
  ASSERT_EQ(left->tx_burst(0, sent.data(), 32), 32);
  ASSERT_EQ(left->tx_burst(0, sent.data() + 32, 8), 8);
  const auto received = receive(*right, 40);
  EXPECT_EQ(received, sent);
  for (rte_mbuf* const one : received) rte_pktmbuf_free(one);
  EXPECT_EQ(left->statistics().tx_frames, 40U);
  EXPECT_EQ(right->statistics().rx_frames, 40U);
  EXPECT_EQ(right->statistics().rx_bytes, left->statistics().tx_bytes);
}

TEST_F(Patch, a_full_cable_pushes_back_and_takes_no_frame_it_cannot_hold) {
  const auto left = make(end("left", "right"));
  const auto right = make(end("right", "left"));
  std::vector<rte_mbuf*> frames;
  for (int i = 0; i < 96; ++i) frames.push_back(frame(kLeft, kRight, "x"));
  std::size_t taken = 0;
  for (std::size_t i = 0; i < 96; i += 32) taken += left->tx_burst(0, frames.data() + i, 32);
  EXPECT_EQ(taken, 64U);
  for (std::size_t i = taken; i < 96; ++i) rte_pktmbuf_free(frames[i]);
}

TEST_F(Patch, an_end_without_its_peer_is_a_link_that_is_down) {
  const auto left = make(end("left", "right"));
  EXPECT_FALSE(left->is_link_up());
  EXPECT_FALSE(send(*left, frame(kLeft, kRight, "nobody")));
  {
    const auto right = make(end("right", "left"));
    EXPECT_TRUE(left->is_link_up());
    EXPECT_TRUE(send(*left, frame(kLeft, kRight, "lost with the port")));
  }
  EXPECT_FALSE(left->is_link_up());
  const auto right = make(end("right", "left"));
  EXPECT_TRUE(send(*left, frame(kLeft, kRight, "again")));
  EXPECT_EQ(receive_payloads(*right, 1), std::vector<std::string>{"again"});
}

TEST_F(Patch, each_queue_is_a_cable_of_its_own) {
  PortOptions left_options = end("left", "right"), right_options = end("right", "left");
  left_options.queues = right_options.queues = 2;
  const auto left = make(left_options);
  const auto right = make(right_options);
  EXPECT_EQ(right->capabilities().rx_queue_count, 2);
  EXPECT_TRUE(send(*left, frame(kLeft, kRight, "one"), 1));
  rte_mbuf* none[1];
  EXPECT_EQ(right->rx_burst(0, none, 1), 0);
  EXPECT_EQ(receive_payloads(*right, 1, 1), std::vector<std::string>{"one"});
}

TEST_F(Patch, mistakes_are_named) {
  const auto left = make(end("left", "right"));
  EXPECT_EQ(make_port(end("left", "right"), context()).error().code, ErrorCode::kInUse);
  EXPECT_EQ(make_port(end("alone", "alone"), context()).error().code, ErrorCode::kInvalidConfig);
  PortOptions two_queues = end("right", "left");
  two_queues.queues = 2;
  EXPECT_EQ(make_port(two_queues, context()).error().code, ErrorCode::kInvalidConfig);
}

TEST_F(Patch, has_a_stable_local_unicast_mac_of_its_own) {
  const auto left = make(end("left", "right"));
  const auto right = make(end("right", "left"));
  EXPECT_NE(left->mac(), right->mac());
  EXPECT_FALSE(left->mac().is_multicast());
  EXPECT_EQ(left->mac().bytes[0] & 2, 2);
}

TEST_F(Patch, its_table_of_udp_ports_knows_what_is_in_use) {
  const auto left = make(end("left", "right"));
  const auto bound = left->bind({.local = {0, 40001}});
  ASSERT_TRUE(bound);
  EXPECT_EQ(*bound, kLeft) << "the wildcard is the port's own address";
  EXPECT_EQ(left->bind({.local = kLeft}).error().code, ErrorCode::kInUse);
  left->unbind(kLeft);
  EXPECT_TRUE(left->bind({.local = kLeft}));
  EXPECT_EQ(left->bind({.local = kRight}).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(Patch, ephemeral_ports_are_distinct_and_run_out) {
  UdpPortTable table{"t", kLeft.address};
  constexpr unsigned kRange = UdpPortTable::kEphemeralLast - UdpPortTable::kEphemeralFirst + 1U;
  for (unsigned i = 0; i < kRange; ++i) ASSERT_TRUE(table.bind({0, 0}));
  EXPECT_EQ(table.size(), kRange);
  EXPECT_EQ(table.bind({0, 0}).error().code, ErrorCode::kNoSpace);
  table.unbind({kLeft.address, 50000});
  const auto again = table.bind({0, 0});
  ASSERT_TRUE(again);
  EXPECT_EQ(again->port, 50000);
}

TEST_F(Patch, a_multicast_group_may_be_bound_by_several) {
  UdpPortTable table{"t", kLeft.address};
  const wire::UdpEndpoint group{0xE0000101, 40456};
  EXPECT_TRUE(table.bind(group));
  EXPECT_TRUE(table.bind(group));
  table.unbind(group);
  EXPECT_EQ(table.size(), 1U);
}

}  // namespace
}  // namespace thalweg::pmd::test
