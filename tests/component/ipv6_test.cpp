// IPv6 from end to end over the kernel's sockets: real clients, conductors and data planes that share nothing but the host, with simulated time.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/component/many_receivers.hpp"
#include "tests/support/network_namespace.hpp"
#include "tests/support/two_nodes.hpp"

namespace thalweg::test {
namespace {

using shm::LaneCounter;

// A host with IPv6 on loopback, a way to groups there, and a wire that leads nowhere.
constexpr const char* kHost =
    "sysctl -qw net.ipv6.conf.default.accept_dad=0 && ip link set lo up && ip -6 route add local ff00::/8 dev lo table local && "
    "ip link add d0 type veth peer name d1 && ip link set d0 up && ip link set d1 up && "
    "ip -6 addr add fd00:77::1/64 dev d0 nodad && ip -6 addr add fd00:77::2/64 dev d0 nodad";

class Ipv6 : public ManyReceivers {
 protected:
  void SetUp() override {
    if (!host.is_there()) GTEST_SKIP() << "no network namespace can be made here";
    lab = std::make_unique<Lab>(Lab::Options{.nodes = 2, .impairment = {}, .adjust = {}, .is_on_sockets = true});
  }
  void expect_to_arrive(std::size_t count = 300) {
    ASSERT_TRUE(connect());
    const auto messages = make_messages(count);
    ASSERT_TRUE(transfer(messages));
    for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
  }
  // The label of a counter that begins so.
  std::string label(std::size_t node, const std::string& begin) {
    for (const std::string& each : lab->node(node).labels()) {
      if (each.starts_with(begin)) return each;
    }
    return {};
  }

  NetworkNamespace host{kHost};
};

TEST_F(Ipv6, two_appliances_talk_over_loopback) {
  receive(1, "aeron:udp?endpoint=[::1]:40456");
  publish_on(0, "aeron:udp?endpoint=[::1]:40456");
  expect_to_arrive();
  EXPECT_EQ(label(1, "rcv-channel"), "rcv-channel: aeron:udp?endpoint=[::1]:40456 [::1]:40456");
  EXPECT_TRUE(label(0, "snd-channel").starts_with("snd-channel: aeron:udp?endpoint=[::1]:40456 [::1]:"));
  ASSERT_EQ(receivers[0]->subscription.image_count(), 1U);
  const auto image = receivers[0]->subscription.images().front();
  EXPECT_TRUE(image->source_identity().starts_with("[::1]:")) << image->source_identity();
}

TEST_F(Ipv6, one_appliance_talks_to_itself_without_the_kernel) {
  receive(0, "aeron:udp?endpoint=[::1]:40456");
  publish_on(0, "aeron:udp?endpoint=[::1]:40456");
  expect_to_arrive();
}

TEST_F(Ipv6, other_addresses_of_the_host_are_the_kernels) {
  receive(1, "aeron:udp?endpoint=[fd00:77::1]:40456");
  publish_on(0, "aeron:udp?endpoint=[fd00:77::1]:40456|interface=[fd00:77::2]");
  expect_to_arrive();
  EXPECT_TRUE(label(0, "snd-channel").find("[fd00:77::2]:") != std::string::npos) << label(0, "snd-channel");
}

TEST_F(Ipv6, a_wildcard_hears_all_ports_and_ipv4_may_have_the_same_port) {
  receive(1, "aeron:udp?endpoint=[::]:40456");
  receive(1, "aeron:udp?endpoint=0.0.0.0:40456");
  publish_on(0, "aeron:udp?endpoint=[fd00:77::1]:40456");
  ASSERT_TRUE(lab->run_until([&] { return publication.is_connected() && receivers[0]->subscription.is_connected(); }, 5 * kSecond_ns));
  EXPECT_FALSE(receivers[1]->subscription.is_connected());
  receivers.pop_back();
  expect_to_arrive();
}

TEST_F(Ipv6, a_link_local_address_has_the_interface_beside_it) {
  receive(1, "aeron:udp?endpoint=[::]:40456");
  std::string link_local;
  for (const core::HostInterface& interface : core::read_host_interfaces(&lab->node(0).registry().addresses)) {
    const std::string text = lab->node(0).registry().addresses.format(interface.address);
    if (text.starts_with("fe80:")) link_local = text.substr(0, text.find('%')) + "%d0";
  }
  ASSERT_FALSE(link_local.empty());
  publish_on(0, "aeron:udp?endpoint=[" + link_local + "]:40456");
  expect_to_arrive();
}

// proves 5.3/2
TEST_F(Ipv6, a_group_on_loopback_has_members_in_every_process) {
  const std::string channel = "aeron:udp?endpoint=[ff02::9:1]:40456|interface=[::1]";
  receive(0, channel);
  receive(1, channel);
  publish_on(0, channel + "|fc=min,g:/2");
  expect_to_arrive();
}

TEST_F(Ipv6, a_group_on_an_interface_of_the_kernels) {
  const std::string channel = "aeron:udp?endpoint=[ff05::9:1]:40456|interface=[fd00:77::]/64|ttl=3";
  receive(0, channel);
  receive(1, channel);
  publish_on(1, channel + "|fc=min,g:/2");
  expect_to_arrive();
}

TEST_F(Ipv6, destinations_of_a_publication_are_learned) {
  receive(0, "aeron:udp?endpoint=[::1]:40457|control=[::1]:40456");
  receive(1, "aeron:udp?endpoint=[fd00:77::1]:40458|control=[fd00:77::2]:40456");
  publish_on(0, "aeron:udp?control=[::]:40456|control-mode=dynamic|fc=min,g:/2");
  expect_to_arrive();
}

TEST_F(Ipv6, destinations_of_a_publication_are_named) {
  receive(0, "aeron:udp?endpoint=[::1]:40457");
  receive(1, "aeron:udp?endpoint=[fd00:77::1]:40458");
  publish_on(0, "aeron:udp?control=[::]:40456|control-mode=manual|fc=min,g:/2");
  ASSERT_TRUE(publish->add_destination(publication, "aeron:udp?endpoint=[::1]:40457"));
  ASSERT_TRUE(publish->add_destination(publication, "aeron:udp?endpoint=[fd00:77::1]:40458"));
  const auto other = publish->add_destination(publication, "aeron:udp?endpoint=127.0.0.1:40459");
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().message.find("no port reaches"), std::string::npos) << other.error().message;
  expect_to_arrive();
}

TEST_F(Ipv6, streams_go_on_when_a_data_plane_is_restarted) {
  receive(1, "aeron:udp?endpoint=[fd00:77::1]:40456");
  publish_on(0, "aeron:udp?endpoint=[fd00:77::1]:40456");
  expect_to_arrive();
  for (const std::size_t node : {0, 1}) lab->restart_data_plane(node);
  lab->node(1).restart_control_plane();
  const auto more = make_messages(100, 300);
  ASSERT_TRUE(transfer(more));
  EXPECT_EQ(receivers[0]->received.size(), 400U);
}

// What an attacker on the link can send: datagrams from addresses without end.
TEST_F(Ipv6, made_up_sources_fill_no_more_than_their_part_of_the_book) {
  receive(1, "aeron:udp?endpoint=[fd00:77::1]:40456");
  publish_on(0, "aeron:udp?endpoint=[fd00:77::1]:40456");
  expect_to_arrive(20);
  ASSERT_EQ(std::system("ip -6 route add local fd00:66::/64 dev lo"), 0);
  const int on = 1;
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(40456);
  ASSERT_EQ(::inet_pton(AF_INET6, "fd00:77::1", &to.sin6_addr), 1);
  for (std::uint32_t i = 1; i <= 3000; ++i) {
    const int one = ::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::setsockopt(one, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof on), 0);
    sockaddr_in6 from{};
    from.sin6_family = AF_INET6;
    ASSERT_EQ(::inet_pton(AF_INET6, ("fd00:66::" + std::to_string(i / 1000) + ":" + std::to_string(i % 1000)).c_str(), &from.sin6_addr), 1);
    ASSERT_EQ(::bind(one, reinterpret_cast<const sockaddr*>(&from), sizeof from), 0);
    ::sendto(one, "x", 1, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
    ::close(one);
    if (i % 16 == 0) lab->turn();
  }
  lab->run_for(10 * kMillisecond_ns);
  shm::AddressBook& book = lab->node(1).registry().addresses;
  EXPECT_GE(book.learned(), 500U);
  EXPECT_LE(book.learned(), shm::LearnBudget::kBurst + shm::LearnBudget::kPerSecond);
  const auto more = make_messages(50, 20);
  ASSERT_TRUE(transfer(more)) << "who is known is not disturbed";
}

TEST_F(Ipv6, what_cannot_be_is_refused_by_name) {
  publish = lab->connect(0);
  const auto error_of = [&](const std::string& channel) {
    const auto refused = publish->add_publication(channel, kStream);
    return refused ? "it was not refused" : refused.error().message;
  };
  for (const auto& [channel, named] : {std::pair{"aeron:udp?endpoint=[ff02::2]:40456|interface=[::1]", "must be odd"},
                                       {"aeron:udp?endpoint=[::1]:40456|control=127.0.0.1:0", "all IPv4 or all IPv6"},
                                       {"aeron:udp?endpoint=[::1%nosuch]:40456", "endpoint=[::1%nosuch]:40456 holds no IPv6 address"},
                                       {"aeron:udp?endpoint=[ff02::1]:40456|interface=[fd00:99::]/64", "matches no port"},
                                       {"aeron:udp?endpoint=[::1]:40456|interface=[::1]/129", "interface=[::1]/129"},
                                       {"aeron:udp?endpoint=240.0.0.1:40456", "240.0.0.0/4"}}) {
    EXPECT_NE(error_of(channel).find(named), std::string::npos) << channel << ": " << error_of(channel);
  }
}

// ---- on ports of ours, where there is no kernel ----

class Ipv6OnWire : public ManyReceivers {
 protected:
  struct Wires {
    std::size_t nodes{2};
    std::uint32_t lanes{1};
    std::uint16_t vlan{};
    bool is_last_port{};        // the wire's lane is not the first
    pmd::Checksums checksums{pmd::Checksums::kAuto};
    pmd::ImpairmentOptions impairment{};
  };
  void make(const Wires& wires) {
    const auto give_addresses = [wires](Appliance::Options& options, std::size_t i) {
      options.lanes = wires.lanes;
      options.ports[0].vlan = wires.vlan;
      options.ports[0].checksums = wires.checksums;
      options.ports[0].address6 = *wire::parse_ipv6("fd00:10::" + std::to_string(i + 1));
      options.ports[0].prefix_length6 = 64;
      if (wires.is_last_port) std::reverse(options.ports.begin(), options.ports.end());
    };
    lab = std::make_unique<Lab>(Lab::Options{.nodes = wires.nodes, .impairment = wires.impairment, .adjust = give_addresses});
  }
  void expect_to_arrive(std::size_t count = 300) {
    ASSERT_TRUE(connect());
    const auto messages = make_messages(count);
    ASSERT_TRUE(transfer(messages, 60 * kSecond_ns));
    for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
  }
};

// proves 9.3/8
TEST_F(Ipv6OnWire, neighbours_find_each_other_and_talk) {
  make({});
  receive(1, "aeron:udp?endpoint=[fd00:10::2]:40456");
  publish_on(0, "aeron:udp?endpoint=[fd00:10::2]:40456");
  expect_to_arrive();
  EXPECT_GT(lab->count(0, LaneCounter::kNdSolicitationsSent), 0U);
  EXPECT_GT(lab->count(1, LaneCounter::kNdAdvertisementsSent), 0U);
  EXPECT_EQ(lab->count(0, LaneCounter::kArpRequestsSent), 1U) << "the announcement";
  EXPECT_EQ(lab->count(1, LaneCounter::kDropBadUdpChecksum), 0U);
}

// proves 5.3/2, 9.3/8
TEST_F(Ipv6OnWire, a_group_has_members_on_several_hosts_and_at_home) {
  make({.nodes = 3});
  const std::string channel = "aeron:udp?endpoint=[ff05::9:1]:40456|interface=[fd00:10::]/64";
  for (const std::size_t node : {0, 1, 2}) receive(node, channel);
  publish_on(0, channel + "|fc=min,g:/3");
  expect_to_arrive();
  EXPECT_GT(lab->count(1, LaneCounter::kMldReportsSent), 0U);
  EXPECT_GT(lab->count(0, LaneCounter::kFramesLooped), 0U);
}

// proves 9.3/8
TEST_F(Ipv6OnWire, a_damaged_frame_is_dropped_whatever_checksums_the_port_has) {
  make({.checksums = pmd::Checksums::kOff, .impairment = {.corrupt_ppm = 100'000, .seed = 21}});
  receive(1, "aeron:udp?endpoint=[fd00:10::2]:40456");
  publish_on(0, "aeron:udp?endpoint=[fd00:10::2]:40456");
  expect_to_arrive();
  EXPECT_GT(lab->count(1, LaneCounter::kDropBadUdpChecksum), 0U);
}

TEST_F(Ipv6OnWire, a_wildcard_hears_what_comes_by_a_port_of_ours) {
  make({});
  receive(1, "aeron:udp?endpoint=[::]:40456");
  publish_on(0, "aeron:udp?endpoint=[fd00:10::2]:40456");
  expect_to_arrive();
}

TEST_F(Ipv6OnWire, frames_have_the_vlan_tag_of_their_port) {
  make({.vlan = 7});
  receive(1, "aeron:udp?endpoint=[fd00:10::2]:40456");
  publish_on(0, "aeron:udp?endpoint=[fd00:10::2]:40456");
  expect_to_arrive(50);
}

TEST_F(Ipv6OnWire, streams_of_another_lane_cross_to_the_port_and_back) {
  make({.lanes = 3});
  const std::string group = "aeron:udp?endpoint=[ff05::9:1]:40456|interface=[fd00:10::]/64";
  for (const std::size_t node : {0, 1}) receive(node, group);
  publish_on(0, group + "|fc=min,g:/2");
  expect_to_arrive(100);
  receivers.clear();
  receive(1, "aeron:udp?endpoint=[fd00:10::2]:40457");
  publish_on(0, "aeron:udp?endpoint=[fd00:10::2]:40457");
  expect_to_arrive(100);
}

// proves 5.6/2
TEST_F(Ipv6OnWire, a_group_crosses_to_the_subscription_of_another_lane_that_has_it_as_a_destination) {
  make({.lanes = 2, .is_last_port = true});
  const std::string group = "aeron:udp?endpoint=[ff05::9:1]:40456|interface=[fd00:10::]/64";
  Receiver& r = receive(1, "aeron:udp?control-mode=manual");
  const auto added = r.client->add_destination(r.subscription, group);
  ASSERT_TRUE(added) << added.error().message;
  publish_on(0, group);
  expect_to_arrive(100);
  EXPECT_EQ(lab->node(1).plane->lane(0).image_count(), 1U);
  EXPECT_GT(lab->node(1).registry().lanes[1].counters[static_cast<std::size_t>(LaneCounter::kFramesCrossed)], 0U);
}

// proves 9.3/7
TEST_F(Ipv6OnWire, a_datagram_nobody_listens_for_is_answered_with_port_unreachable) {
  make({});
  publish_on(0, "aeron:udp?endpoint=[fd00:10::2]:40456");   // its SETUPs go there
  // Whoever sent it counts the answer and goes on.
  ASSERT_TRUE(lab->run_until([&] { return lab->count(0, LaneCounter::kDropOtherProtocol) > 0; }, 5 * kSecond_ns));
  EXPECT_GT(lab->count(1, LaneCounter::kIcmpRepliesSent), 0U);
  EXPECT_GT(lab->count(1, LaneCounter::kDropNoEndpoint), 0U);
}

// What an attacker on the link can send to ports that nobody has.
TEST_F(Ipv6OnWire, who_sends_to_nobody_is_not_remembered_and_fragments_are_counted_by_name) {
  make({});
  receive(1, "aeron:udp?endpoint=[fd00:10::2]:40456");
  publish_on(0, "aeron:udp?endpoint=[fd00:10::2]:40456");
  expect_to_arrive(20);
  const std::uint32_t learned = lab->node(1).registry().addresses.learned();
  const wire::MacAddress to = lab->node(1).plane->port(0).mac();
  const auto send = [&](std::uint32_t i, std::uint16_t port, std::uint8_t next_header) {
    wire::Ipv6Address from = *wire::parse_ipv6("fd00:10::1:0:0");
    store_be16(reinterpret_cast<std::byte*>(from.bytes.data()) + 14, static_cast<std::uint16_t>(i));
    const wire::Ipv6Address remote = *wire::parse_ipv6("fd00:10::2");
    std::array<std::byte, wire::kEthernetHeaderLength + wire::kIpv6HeaderLength + 40> frame{};
    std::byte* at = frame.data() + wire::build_ethernet(frame.data(), to, {{2, 9, 9, 9, 9, 9}}, wire::kEtherTypeIpv6);
    at += wire::build_ipv6(at, next_header, 64, from, remote, 40, false);
    store_be16(at, 9'999);
    store_be16(at + 2, port);
    store_be16(at + 4, 40);
    store_be16(at + 6, wire::udp_checksum(from, remote, {at, 40}));
    lab->inject(1, frame);
    lab->turn();
  };
  for (std::uint32_t i = 0; i < 500; ++i) send(i, static_cast<std::uint16_t>(50'000 + i), wire::kIpProtocolUdp);
  EXPECT_EQ(lab->count(1, LaneCounter::kDropNoEndpoint), 500U);
  EXPECT_EQ(lab->node(1).registry().addresses.learned(), learned);
  send(1, 40'456, wire::kIpProtocolUdp);
  EXPECT_EQ(lab->node(1).registry().addresses.learned(), learned + 1);
  send(2, 40'456, 44);
  EXPECT_EQ(lab->count(1, LaneCounter::kDropIpFragment), 1U);
  const auto more = make_messages(50, 20);
  ASSERT_TRUE(transfer(more));
}

TEST_F(Ipv6OnWire, both_families_live_side_by_side) {
  make({});
  receive(1, "aeron:udp?endpoint=[fd00:10::2]:40456");
  receive(1, "aeron:udp?endpoint=10.0.0.2:40456");
  publish_on(0, "aeron:udp?endpoint=10.0.0.2:40456");
  ASSERT_TRUE(lab->run_until([&] { return publication.is_connected() && receivers[1]->subscription.is_connected(); }, 5 * kSecond_ns));
  EXPECT_FALSE(receivers[0]->subscription.is_connected());
}

TEST_F(Ipv6OnWire, datagrams_that_do_not_fit_are_refused_by_name) {
  make({});
  publish = lab->connect(0);
  const auto refused = publish->add_publication("aeron:udp?endpoint=[fd00:10::2]:40456|mtu=1472", kStream);   // with an IPv4 header it would fit
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("1452 bytes of payload"), std::string::npos) << refused.error().message;
  const auto fits = publish->add_publication("aeron:udp?endpoint=[fd00:10::2]:40457|mtu=1440", kStream);
  EXPECT_TRUE(fits) << fits.error().message;
  // With its endpoint open already nobody waits for the lane, if it can only say yes.
  const auto late = publish->add_publication("aeron:udp?endpoint=[fd00:10::2]:40457|mtu=1472", kStream + 1);
  ASSERT_FALSE(late);
  EXPECT_NE(late.error().message.find("1452 bytes of payload"), std::string::npos) << late.error().message;
}

}  // namespace
}  // namespace thalweg::test

int main(int argc, char** argv) { return thalweg::test::run_tests_with_eal(argc, argv); }
