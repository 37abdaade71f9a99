// Multicast from end to end: real clients, conductors and data planes on a switch that snoops IGMP, with simulated time.
#include <gtest/gtest.h>

#include "tests/component/many_receivers.hpp"
#include "tests/support/two_nodes.hpp"

namespace thalweg::test {
namespace {

using shm::LaneCounter;

constexpr std::uint32_t kGroup = 0xE00A0901;    // 224.10.9.1
constexpr std::uint32_t kControl = 0xE00A0902;
const std::string kChannel = "aeron:udp?endpoint=224.10.9.1:40456|interface=10.0.0.0/24";

class Multicast : public ManyReceivers {
 protected:
  Receiver& receive(std::size_t node, const std::string& channel = kChannel) { return ManyReceivers::receive(node, channel); }
  void publish_on(std::size_t node, const std::string& channel = kChannel) { ManyReceivers::publish_on(node, channel); }
};

// proves 3.3/3, 3.4/12, 5.2/5, 5.2/6, 5.3/2, 5.3/3
// proves 9.3/4
TEST_F(Multicast, three_receivers_get_every_message_in_order) {
  make(4);
  for (std::size_t i = 1; i < 4; ++i) receive(i);
  publish_on(0);
  ASSERT_TRUE(connect());
  const auto messages = make_messages(500);
  ASSERT_TRUE(transfer(messages));
  for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
  for (std::size_t i = 1; i < 4; ++i) {
    EXPECT_TRUE(lab->ethernet->is_member(kGroup, i));
    EXPECT_FALSE(lab->ethernet->is_member(kControl, i)) << "receivers speak to the control group, they do not listen to it";
    EXPECT_EQ(lab->ethernet->forwarded(kControl, i), 0U);
  }
  EXPECT_TRUE(lab->ethernet->is_member(kControl, 0));
  EXPECT_FALSE(lab->ethernet->is_member(kGroup, 0));
  EXPECT_GT(lab->ethernet->forwarded(kControl, 0), 0U);
}

// proves 2.10/16
TEST_F(Multicast, losses_of_each_receiver_are_repaired_for_all) {
  pmd::ImpairmentOptions impairment;
  impairment.loss_ppm = 50'000;
  impairment.seed = 7;
  make(4, impairment);
  for (std::size_t i = 1; i < 4; ++i) receive(i);
  publish_on(0, kChannel + "|fc=min,g:/3");  // nobody is left behind
  ASSERT_TRUE(connect());
  const auto messages = make_messages(300);
  ASSERT_TRUE(transfer(messages, 60 * kSecond_ns));
  for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
  EXPECT_GT(lab->count(0, LaneCounter::kRetransmitsSent), 0U);
  for (std::uint32_t i = 1; i < 4; ++i) EXPECT_EQ(lab->ethernet->sent_to(0x0A000001 + i), 0U) << "what one asked for went to the group";
}

TEST_F(Multicast, a_late_joiner_starts_where_the_stream_is_and_disturbs_nobody) {
  make(3);
  receive(1);
  publish_on(0);
  ASSERT_TRUE(connect());
  ASSERT_TRUE(transfer(make_messages(50)));
  Receiver& late = receive(2);
  ASSERT_TRUE(connect());
  const auto more = make_messages(50, 50);
  ASSERT_TRUE(transfer(more));
  EXPECT_EQ(late.received, more);
  EXPECT_EQ(receivers[0]->received, make_messages(100));
}

TEST_F(Multicast, who_leaves_gets_nothing_more_and_the_others_go_on) {
  make(3);
  receive(1);
  Receiver& leaver = receive(2);
  publish_on(0);
  ASSERT_TRUE(connect());
  ASSERT_TRUE(transfer(make_messages(50)));
  leaver.subscription.close();
  ASSERT_TRUE(lab->run_until([&] { return !lab->ethernet->is_member(kGroup, 2); }, 30 * kSecond_ns, kMillisecond_ns));
  receivers.pop_back();
  const std::size_t before = lab->ethernet->forwarded(kGroup, 2);
  ASSERT_TRUE(transfer(make_messages(50, 50)));
  EXPECT_EQ(receivers[0]->received, make_messages(100));
  EXPECT_EQ(lab->ethernet->forwarded(kGroup, 2), before);
}

// proves 5.3/4
TEST_F(Multicast, a_publisher_and_a_receiver_of_one_appliance_hear_each_other_and_the_others_hear_them) {
  make(2);
  receive(0);
  receive(1);
  publish_on(0);
  ASSERT_TRUE(connect());
  const auto messages = make_messages(200);
  ASSERT_TRUE(transfer(messages));
  for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
  EXPECT_GT(lab->count(0, LaneCounter::kFramesLooped), 200U);
  EXPECT_EQ(lab->count(0, LaneCounter::kNaksSent), 0U);
  EXPECT_LT(lab->count(0, LaneCounter::kUnderRuns), 10U) << "no frame arrives twice";
}

TEST_F(Multicast, every_sample_works_on_localhost) {
  const auto without_address = [](Appliance::Options& options, std::size_t) { options.ports[1].address = options.ports[1].prefix_length = 0; };
  lab = std::make_unique<Lab>(Lab::Options{.nodes = 1, .impairment = {}, .adjust = without_address});
  const std::string channel = "aeron:udp?endpoint=224.20.30.39:" + std::to_string(free_udp_port()) + "|interface=localhost";
  receive(0, channel);
  receive(0, channel);
  publish_on(0, channel);
  ASSERT_TRUE(connect());
  const auto messages = make_messages(200);
  ASSERT_TRUE(transfer(messages));
  for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
  EXPECT_LT(lab->count(0, LaneCounter::kUnderRuns), 10U);
  EXPECT_GT(lab->count(0, LaneCounter::kDropOwnFrame), 0U) << "what comes back through the kernel is recognised";
}

TEST_F(Multicast, a_switch_that_asks_is_told_again) {
  make(2);
  receive(1);
  publish_on(0);
  ASSERT_TRUE(connect());
  rte_mempool* const pool = lab->cables()->pool;
  lab->ethernet->query(pool, 10);
  EXPECT_FALSE(lab->ethernet->is_member(kGroup, 1));
  EXPECT_TRUE(lab->run_until([&] { return lab->ethernet->is_member(kGroup, 1) && lab->ethernet->is_member(kControl, 0); }, 1'100 * kMillisecond_ns));
  lab->ethernet->query(pool, 10, true);
  EXPECT_TRUE(lab->run_until([&] { return lab->ethernet->is_member(kGroup, 1) && lab->ethernet->is_member(kControl, 0); }, 1'100 * kMillisecond_ns));
  ASSERT_TRUE(transfer(make_messages(20)));
}

TEST_F(Multicast, subscriptions_on_different_interfaces_are_different_streams) {
  make(2);
  receive(0);
  Receiver& local = receive(0, "aeron:udp?endpoint=224.10.9.1:40456|interface=127.0.0.1");
  publish_on(1);
  ASSERT_TRUE(lab->run_until([&] { return publication.is_connected() && receivers[0]->subscription.is_connected(); }, 5 * kSecond_ns));
  for (const auto& message : make_messages(20)) ASSERT_TRUE(publication.offer(std::as_bytes(std::span{message})));
  ASSERT_TRUE(lab->run_until([&] { return receivers[0]->poll(), receivers[0]->received.size() == 20; }, kSecond_ns));
  local.poll();
  EXPECT_FALSE(local.subscription.is_connected());
}

TEST_F(Multicast, a_restarted_data_plane_joins_again) {
  make(2);
  receive(1);
  publish_on(0);
  ASSERT_TRUE(connect());
  ASSERT_TRUE(transfer(make_messages(20)));
  lab->node(1).kill_data_plane();
  lab->node(1).start_data_plane();
  lab->ethernet->query(lab->cables()->pool, 1);
  ASSERT_TRUE(transfer(make_messages(50, 20)));
  EXPECT_EQ(receivers[0]->received, make_messages(70));
}

// proves 5.3/7, 9.3/9
TEST_F(Multicast, frames_live_for_one_hop_or_as_long_as_the_channel_says) {
  make(2);
  receive(1);
  publish_on(0);
  ASSERT_TRUE(connect());
  EXPECT_EQ(lab->ethernet->ttl(kGroup), 1);
  EXPECT_EQ(lab->ethernet->ttl(kControl), 1);
  publication = {};
  publish_on(0, "aeron:udp?endpoint=224.10.9.3:40456|interface=10.0.0.0/24|ttl=7");
  receive(1, "aeron:udp?endpoint=224.10.9.3:40456|interface=10.0.0.0/24|ttl=300");
  ASSERT_TRUE(lab->run_until([&] { return publication.is_connected(); }, 5 * kSecond_ns));
  EXPECT_EQ(lab->ethernet->ttl(0xE00A0903), 7);
  EXPECT_EQ(lab->ethernet->ttl(0xE00A0904), 255) << "what is larger counts as 255";
}

// proves 1.5/9
TEST_F(Multicast, a_setup_that_may_come_from_farther_than_our_answers_get_is_counted) {
  make(4);
  const std::string group = "aeron:udp?endpoint=224.10.9.5:40456|interface=10.0.0.0/24";
  receive(1, group);
  receive(2, group + "|ttl=6");
  receive(3, group + "|ttl=7");
  publish_on(0, group + "|ttl=7");
  ASSERT_TRUE(connect());
  lab->run_for(kSecond_ns);
  EXPECT_EQ(lab->count(1, LaneCounter::kTtlAsymmetries), 1U) << "once, not with each SETUP";
  EXPECT_EQ(lab->count(2, LaneCounter::kTtlAsymmetries), 1U);
  EXPECT_EQ(lab->count(3, LaneCounter::kTtlAsymmetries), 0U);
  EXPECT_EQ(lab->node(1).system(shm::SystemCounter::kPossibleTtlAsymmetry), 1);
}

// proves 5.3/7
TEST_F(Multicast, frames_of_channels_without_a_ttl_live_as_long_as_the_configuration_says) {
  make(2);
  for (std::size_t i = 0; i < 2; ++i) lab->node(i).control->world().settings.streams.multicast_ttl = static_cast<std::uint8_t>(8 + i);
  receive(1);
  publish_on(0);
  ASSERT_TRUE(connect());
  EXPECT_EQ(lab->ethernet->ttl(kGroup), 8);
  EXPECT_EQ(lab->ethernet->ttl(kControl), 9);
  receive(1, "aeron:udp?endpoint=10.0.0.2:40457|ttl=3");
  publication = {};
  publish_on(0, "aeron:udp?endpoint=10.0.0.2:40457|ttl=3");
  ASSERT_TRUE(lab->run_until([&] { return publication.is_connected(); }, 5 * kSecond_ns));
  EXPECT_EQ(lab->ethernet->ttl(0x0A000002), 64) << "unicast is none of its business";
}

// proves 1.5/9
TEST_F(Multicast, receivers_count_senders_whose_frames_live_longer_than_theirs) {
  make(3);
  lab->node(2).control->world().settings.streams.multicast_ttl = 7;
  receive(1);
  receive(2);
  publish_on(0, kChannel + "|ttl=7");
  ASSERT_TRUE(connect());
  EXPECT_EQ(lab->count(1, LaneCounter::kTtlAsymmetries), 1U) << "1, because neither channel nor configuration say otherwise";
  EXPECT_EQ(lab->count(2, LaneCounter::kTtlAsymmetries), 0U);
  ASSERT_TRUE(lab->run_until([&] { return lab->node(1).system(shm::SystemCounter::kPossibleTtlAsymmetry) == 1; }, kSecond_ns));
}

// proves 9.3/5
TEST_F(Multicast, datagrams_beyond_the_mtu_reach_members_here_and_elsewhere_in_pieces) {
  const auto with_fragments = [](Appliance::Options& options, std::size_t) { options.ports[0].has_ip_fragments = true; };
  lab = std::make_unique<Lab>(Lab::Options{.nodes = 2, .impairment = {}, .adjust = with_fragments});
  receive(0);
  receive(1);
  publish_on(0, kChannel + "|mtu=8192");
  ASSERT_TRUE(connect());
  std::vector<std::string> messages;
  for (std::size_t i = 0; i < 100; ++i) messages.emplace_back(4'000 + i * 30, static_cast<char>('a' + i % 26));
  ASSERT_TRUE(transfer(messages));
  for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
  EXPECT_GT(lab->count(0, LaneCounter::kDatagramsReassembled), 90U);
  EXPECT_GT(lab->count(1, LaneCounter::kDatagramsReassembled), 90U);
  EXPECT_EQ(lab->count(0, LaneCounter::kNaksSent) + lab->count(1, LaneCounter::kNaksSent), 0U);
}

// proves 5.3/1
TEST_F(Multicast, bad_channels_are_refused_by_name_and_value) {
  make(1);
  const auto client = lab->connect(0);
  const auto refusal = [&](const std::string& channel) {
    const auto result = client->add_subscription(channel, kStream);
    return result ? std::string{"accepted"} : result.error().message;
  };
  EXPECT_NE(refusal("aeron:udp?endpoint=224.10.9.2:40456").find("endpoint=224.10.9.2:40456"), std::string::npos);
  EXPECT_NE(refusal("aeron:udp?endpoint=224.10.9.2:40456").find("odd"), std::string::npos);
  EXPECT_NE(refusal("aeron:udp?endpoint=224.10.9.1:0").find("port"), std::string::npos);
  const std::string nowhere = refusal("aeron:udp?endpoint=224.10.9.1:40456|interface=192.0.2.77");
  EXPECT_NE(nowhere.find("interface=192.0.2.77/32"), std::string::npos) << nowhere;
  EXPECT_NE(refusal("aeron:udp?endpoint=224.10.9.1:40456|ttl=many").find("ttl"), std::string::npos);
}

}  // namespace
}  // namespace thalweg::test

int main(int argc, char** argv) { return thalweg::test::run_tests_with_eal(argc, argv); }
