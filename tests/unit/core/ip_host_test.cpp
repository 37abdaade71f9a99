// The IP host's timers and tables: what a cable with two polite ends never shows.
#include "tests/unit/core/ip_host_fixture.hpp"

namespace thalweg::core {
namespace {

constexpr std::uint32_t kOurs = 0x0A000001;
constexpr std::uint32_t kPeer = 0x0A000002;

class IpHostTest : public IpHostFixture {
 protected:
  bool answer(std::uint32_t address, const wire::MacAddress& mac, std::uint16_t operation = wire::ArpPacket::kReply) {
    std::byte payload[wire::ArpPacket::kLength];
    wire::build(payload, wire::ArpPacket{operation, mac, address, kOurMac, kOurs});
    return host.on_arp(payload, now);
  }
  void run_for(std::int64_t ns) { run(host, now, ns); }
  IpHost host{{.mac = kOurMac, .address = kOurs, .prefix_length = 24, .vlan = {}, .igmp = {}}, out};
};

TEST_F(IpHostTest, groups_and_broadcast_need_no_answer) {
  EXPECT_EQ(host.resolve(0xE0000101, now), (wire::MacAddress{{0x01, 0x00, 0x5E, 0x00, 0x01, 0x01}}));
  EXPECT_EQ(host.resolve(0xFFFFFFFF, now), wire::kBroadcastMac);
  EXPECT_TRUE(out.sent.empty());
}

// proves 9.3/1
TEST_F(IpHostTest, an_unknown_neighbour_is_asked_for_by_broadcast_and_what_waited_goes_when_it_answers) {
  EXPECT_FALSE(host.resolve(kPeer, now));
  ASSERT_EQ(out.sent.size(), 1U);
  EXPECT_EQ(out.arp(0).operation, wire::ArpPacket::kRequest);
  EXPECT_EQ(out.arp(0).target_ip, kPeer);
  EXPECT_EQ(std::memcmp(out.sent[0].data(), wire::kBroadcastMac.bytes.data(), 6), 0);
  for (std::uintptr_t i = 1; i <= IpHost::kQueueMax; ++i) EXPECT_TRUE(host.hold(kPeer, handle(i)));
  EXPECT_FALSE(host.hold(kPeer, handle(9))) << "the queue is short";
  EXPECT_FALSE(host.hold(kPeer + 1, handle(9))) << "never asked for";
  answer(kPeer, kPeerMac);
  EXPECT_EQ(out.released.size(), IpHost::kQueueMax);
  EXPECT_EQ(out.released.front(), handle(1));
  EXPECT_EQ(out.last_mac, kPeerMac);
  EXPECT_EQ(host.resolve(kPeer, now), kPeerMac);
  EXPECT_EQ(out.sent.size(), 1U);
}

TEST_F(IpHostTest, an_unanswered_neighbour_is_asked_a_few_times_and_given_up) {
  EXPECT_FALSE(host.resolve(kPeer, now));
  EXPECT_TRUE(host.hold(kPeer, handle(1)));
  run_for(2 * kSecond);
  EXPECT_EQ(out.sent.size(), IpHost::kRequestsMax);
  EXPECT_EQ(out.discarded, std::vector{handle(1)});
}

TEST_F(IpHostTest, a_neighbour_in_use_is_refreshed_by_unicast_and_stays) {
  EXPECT_FALSE(host.resolve(kPeer, now));
  answer(kPeer, kPeerMac);
  std::uint32_t epoch = host.epoch();
  std::size_t answered = out.sent.size();
  for (int minute = 0; minute < 30; ++minute) {
    for (int step = 0; step < 6'000; ++step) {
      now += 10'000'000;
      host.tick(now);
      for (; answered < out.sent.size(); ++answered) {
        EXPECT_EQ(std::memcmp(out.sent[answered].data(), kPeerMac.bytes.data(), 6), 0) << "a refresh disturbs the others";
        answer(kPeer, kPeerMac);
      }
      if (host.epoch() != epoch) {   // as a sender that remembers the MAC does
        epoch = host.epoch();
        ASSERT_EQ(host.resolve(kPeer, now), kPeerMac) << "forgotten in minute " << minute;
      }
    }
  }
  EXPECT_GE(answered, 28U);
  EXPECT_LE(answered, 31U);
}

TEST_F(IpHostTest, a_neighbour_nobody_uses_is_forgotten) {
  EXPECT_FALSE(host.resolve(kPeer, now));
  answer(kPeer, kPeerMac);
  std::size_t answered = out.sent.size();
  for (std::int64_t end = now + IpHost::kUnused_ns + 2 * IpHost::kReachable_ns; now < end; now += 10'000'000) {
    host.tick(now);
    for (; answered < out.sent.size(); ++answered) answer(kPeer, kPeerMac);
  }
  EXPECT_FALSE(host.resolve(kPeer, now));
}

TEST_F(IpHostTest, a_neighbour_that_died_is_forgotten_and_the_epoch_tells) {
  EXPECT_FALSE(host.resolve(kPeer, now));
  answer(kPeer, kPeerMac);
  const std::uint32_t epoch = host.epoch();
  run_for(IpHost::kReachable_ns + 3 * kSecond);
  EXPECT_NE(host.epoch(), epoch);
  EXPECT_FALSE(host.resolve(kPeer, now));
}

TEST_F(IpHostTest, hostile_arp_is_not_believed) {
  EXPECT_FALSE(host.resolve(kPeer, now));
  answer(kPeer, kPeerMac);
  const std::uint32_t epoch = host.epoch();
  answer(kOurs, kPeerMac);                                    // claims our address
  answer(kPeer, wire::MacAddress{});                          // zero
  answer(kPeer, wire::MacAddress{{1, 0, 0, 0, 0, 9}});        // multicast
  answer(kPeer, kOurMac);                                     // ours
  EXPECT_EQ(host.epoch(), epoch);
  EXPECT_EQ(host.resolve(kPeer, now), kPeerMac);
  std::byte cut[wire::ArpPacket::kLength]{};
  EXPECT_FALSE(host.on_arp({cut, 27}, now));
  EXPECT_FALSE(host.on_arp(cut, now));
  EXPECT_FALSE(answer(0x0B000001, kPeerMac, wire::ArpPacket::kReply));
  EXPECT_TRUE(answer(0x0B000001, kPeerMac, wire::ArpPacket::kRequest)) << "answered, but not remembered: it is not on our link";
  EXPECT_FALSE(host.resolve(0x0B000001, now));
}

TEST_F(IpHostTest, a_full_table_refuses_and_recovers) {
  for (std::uint32_t i = 0; i < IpHost::kNeighboursMax; ++i) EXPECT_FALSE(host.resolve(0x0A010000 + i, now));
  EXPECT_EQ(out.sent.size(), IpHost::kNeighboursMax);
  EXPECT_FALSE(host.resolve(kPeer, now));
  EXPECT_EQ(out.sent.size(), IpHost::kNeighboursMax) << "no room, nothing asked";
  EXPECT_FALSE(host.hold(kPeer, handle(1)));
  for (int i = 0; i < 1'000; ++i, now += 10'000'000) host.tick(now);
  EXPECT_FALSE(host.resolve(kPeer, now));
  EXPECT_TRUE(host.hold(kPeer, handle(1)));
  host.discard_all();
  EXPECT_EQ(out.discarded, std::vector{handle(1)});
}

TEST_F(IpHostTest, a_storm_of_strangers_keeps_nobody_out_that_we_want) {
  IpHost wide{{.mac = kOurMac, .address = kOurs, .prefix_length = 8, .vlan = {}, .igmp = {}}, out};
  const auto ask = [&](std::uint32_t address) {
    std::byte payload[wire::ArpPacket::kLength];
    wire::build(payload, wire::ArpPacket{wire::ArpPacket::kRequest, kPeerMac, address, kOurMac, kOurs});
    return wide.on_arp(payload, now);
  };
  EXPECT_FALSE(wide.resolve(kPeer, now));
  std::uint32_t answered = 0;
  for (std::uint32_t i = 0; i < 3 * IpHost::kNeighboursMax; ++i) answered += ask(0x0A010000 + i) ? 1 : 0;
  EXPECT_EQ(answered, IpHost::kRepliesPerSecond);
  EXPECT_EQ(wide.statistics().replies_limited, 3 * IpHost::kNeighboursMax - answered);
  EXPECT_TRUE(ask(kPeer)) << "whom we send to is answered beside it";
  EXPECT_EQ(wide.resolve(kPeer, now), kPeerMac);
  for (std::uint32_t i = 0; i < 100; ++i) {
    EXPECT_FALSE(wide.resolve(0x0A020000 + i, now));
    EXPECT_TRUE(wide.hold(0x0A020000 + i, handle(1 + i))) << "it is asked for";
  }
  EXPECT_EQ(wide.resolve(kPeer, now), kPeerMac);
  now += kSecond;
  EXPECT_TRUE(ask(0x0A030000)) << "the next second";
  wide.discard_all();
}

TEST_F(IpHostTest, an_announcement_asks_for_our_own_address) {
  host.announce(now);
  ASSERT_EQ(out.sent.size(), 1U);
  EXPECT_EQ(out.arp(0).sender_ip, kOurs);
  EXPECT_EQ(out.arp(0).target_ip, kOurs);
  EXPECT_EQ(out.arp(0).sender_mac, kOurMac);
}

TEST_F(IpHostTest, a_tagged_host_tags_what_it_sends) {
  IpHost tagged{{.mac = kOurMac, .address = kOurs, .prefix_length = 24, .vlan = 12}, out};
  tagged.announce(now);
  const auto ethernet = wire::EthernetView::parse(out.sent.at(0));
  ASSERT_TRUE(ethernet);
  EXPECT_EQ(ethernet->vlan, 12);
  EXPECT_EQ(ethernet->type, wire::kEtherTypeArp);
}

TEST_F(IpHostTest, unreachable_is_not_sent_for_what_must_not_be_answered) {
  std::byte packet[28 + 8]{};
  const auto send = [&](std::uint32_t source, std::uint32_t destination, const wire::MacAddress& to) {
    wire::build_ipv4(packet, wire::kIpProtocolUdp, 64, source, destination, 16, false);
    wire::EthernetView ethernet;
    ethernet.destination = to;
    ethernet.source = kPeerMac;
    return host.send_port_unreachable(ethernet, packet, now);
  };
  EXPECT_TRUE(send(kPeer, kOurs, kOurMac));
  EXPECT_FALSE(send(kPeer, kOurs, wire::kBroadcastMac));
  EXPECT_FALSE(send(kPeer, 0xE0000001, kOurMac));
  EXPECT_FALSE(send(0, kOurs, kOurMac));
  EXPECT_FALSE(send(0xE0000001, kOurs, kOurMac));
  EXPECT_FALSE(send(0xFFFFFFFF, kOurs, kOurMac));
  int answered = 0;
  for (int i = 0; i < 1'000; ++i) answered += send(kPeer, kOurs, kOurMac) ? 1 : 0;
  EXPECT_LT(answered, static_cast<int>(IpHost::kIcmpPerSecond));
  now += kSecond;
  EXPECT_TRUE(send(kPeer, kOurs, kOurMac));
}

// RFC 3376 4: IGMP goes out with TTL 1, precedence "internetwork control" and the router alert option; what comes from afar is not believed.
TEST_F(IpHostTest, groups_are_reported_in_packets_that_routers_look_at) {
  EXPECT_TRUE(host.join(0xE00A0901, now));
  ASSERT_EQ(out.sent.size(), 1U);
  const std::span frame{out.sent[0]};
  EXPECT_EQ(wire::EthernetView::parse(frame)->destination, (wire::MacAddress{{0x01, 0x00, 0x5E, 0x00, 0x00, 0x16}}));
  EXPECT_EQ(frame[14], std::byte{0x46}) << "a header of 24 bytes";
  EXPECT_EQ(frame[15], std::byte{0xC0});
  EXPECT_EQ(load_be32(frame.data() + 34), 0x94040000U);
  const auto ip = wire::Ipv4View::parse(frame.subspan(14));
  ASSERT_EQ(ip.bad, wire::Ipv4View::Bad::kNone);
  EXPECT_EQ(ip.ttl, 1);
  EXPECT_EQ(ip.source, kOurs);
  EXPECT_TRUE(wire::IgmpView::parse(ip.payload));
}

TEST_F(IpHostTest, a_query_is_believed_only_from_the_link) {
  host.join(0xE00A0901, now);
  run_for(2 * kSecond);
  out.sent.clear();
  std::vector<std::byte> query(8);
  query[0] = std::byte{wire::IgmpView::kQuery};
  query[1] = std::byte{10};
  store_be16(query.data() + 2, wire::checksum_fold(wire::checksum_add(query, 0)));
  wire::Ipv4View ip;
  ip.destination = IgmpHost::kAllHosts;
  ip.payload = query;
  ip.ttl = 2;
  EXPECT_FALSE(host.on_igmp(ip, now));
  ip.ttl = 1;
  EXPECT_TRUE(host.on_igmp(ip, now));
  run_for(2 * kSecond);
  EXPECT_EQ(out.sent.size(), 1U);
}

}  // namespace
}  // namespace thalweg::core
