// Neighbours and listeners of IPv6, as the port's host keeps them.
#include <memory>

#include "tests/unit/core/ip_host_fixture.hpp"

namespace thalweg::core {
namespace {

wire::Ipv6Address at(const char* text) { return *wire::parse_ipv6(text); }

class Ipv6Host : public IpHostFixture {
 protected:
  struct Sent {
    wire::EthernetView ethernet;
    wire::Ipv6View ip;
    wire::Icmpv6View icmp;
  };
  std::uint32_t enter(const char* text) { return book->enter({at(text), 0}, shm::AddressBook::By::kNamed, now); }
  // Everything sent is whole and has a right checksum.
  Sent sent(std::size_t i) {
    const auto frame = std::span<const std::byte>{out.sent.at(i)};
    Sent found;
    found.ethernet = *wire::EthernetView::parse(frame);
    EXPECT_EQ(found.ethernet.type, wire::kEtherTypeIpv6);
    found.ip = wire::Ipv6View::parse(frame.subspan(found.ethernet.header_length));
    EXPECT_EQ(found.ip.bad, wire::Ipv6View::Bad::kNone);
    const auto icmp = wire::Icmpv6View::parse(found.ip);
    EXPECT_TRUE(icmp);
    if (icmp) found.icmp = *icmp;
    return found;
  }
  bool hear(std::span<const std::byte> message, const wire::Ipv6Address& source, const wire::Ipv6Address& destination, std::uint8_t hop_limit = 255,
            bool router_alert = false, const wire::MacAddress& to = kOurMac) {
    std::vector<std::byte> packet(wire::kIpv6HeaderLength + (router_alert ? wire::kRouterAlertLength6 : 0) + message.size());
    const std::size_t header = wire::build_ipv6(packet.data(), wire::kIpProtocolIcmpv6, hop_limit, source, destination, message.size(), router_alert);
    std::copy(message.begin(), message.end(), packet.begin() + static_cast<std::ptrdiff_t>(header));
    wire::EthernetView ethernet;
    ethernet.source = kPeerMac;
    ethernet.destination = to;
    ethernet.type = wire::kEtherTypeIpv6;
    return host->on_icmpv6(ethernet, wire::Ipv6View::parse(packet), now);
  }
  bool hear_neighbour(wire::NeighbourMessage message, const wire::Ipv6Address& source, const wire::Ipv6Address& destination) {
    std::vector<std::byte> bytes(message.length());
    build(bytes.data(), message, source, destination);
    return hear(bytes, source, destination);
  }
  bool advertise(const char* target, const wire::MacAddress& mac, bool is_override = true) {
    wire::NeighbourMessage message;
    message.is_advertisement = message.is_solicited = true;
    message.is_override = is_override;
    message.target = at(target);
    message.mac = mac;
    return hear_neighbour(message, at(target), kOurs);
  }
  bool solicit(const wire::Ipv6Address& source, const wire::Ipv6Address& target, bool has_mac = true) {
    wire::NeighbourMessage message;
    message.target = target;
    if (has_mac) message.mac = kPeerMac;
    return hear_neighbour(message, source, wire::solicited_node_group(target));
  }
  bool query(const wire::Ipv6Address& group, std::int64_t max_response_ms, bool is_v2 = true) {
    std::vector<std::byte> message(is_v2 ? 28 : 24);
    message[0] = std::byte{wire::Icmpv6View::kListenerQuery};
    store_be16(message.data() + 4, static_cast<std::uint16_t>(max_response_ms));
    std::memcpy(message.data() + 8, group.bytes.data(), group.bytes.size());
    const wire::Ipv6Address to = group.is_unspecified() ? wire::kAllNodes : group;
    wire::finish_icmpv6(message.data(), message.size(), at("fe80::99"), to);
    return hear(message, at("fe80::99"), to, 1, true);
  }
  void run_for(std::int64_t ns) { run(*host, now, ns); }
  // Groups in the records of the reports sent from frame `first` on.
  std::vector<wire::Ipv6Address> reported(std::size_t first) {
    std::vector<wire::Ipv6Address> groups;
    for (std::size_t i = first; i < out.sent.size(); ++i) {
      const Sent one = sent(i);
      if (one.icmp.type != wire::Icmpv6View::kListenerReportV2) continue;
      EXPECT_EQ(one.ip.destination, wire::kAllMldv2Routers);
      EXPECT_EQ(one.ip.hop_limit, 1);
      EXPECT_TRUE(one.ip.has_router_alert);
      EXPECT_EQ(one.ip.source, host->link_local());
      for (std::size_t record = 0; record < load_be16(one.icmp.rest.data() + 2); ++record) {
        wire::Ipv6Address group;
        std::memcpy(group.bytes.data(), one.icmp.rest.data() + 4 + 20 * record + 4, 16);
        groups.push_back(group);
      }
    }
    return groups;
  }

  const wire::Ipv6Address kOurs = at("2001:db8::1");
  std::unique_ptr<shm::AddressBook> book = std::make_unique<shm::AddressBook>();
  std::unique_ptr<IpHost> host = std::make_unique<IpHost>(IpHost::Options{.mac = kOurMac,
                                                                          .address = 0x0A000001,
                                                                          .prefix_length = 24,
                                                                          .vlan = {},
                                                                          .igmp = {},
                                                                          .address6 = enter("2001:db8::1"),
                                                                          .prefix_length6 = 64,
                                                                          .book = book.get()},
                                                          out);
};

TEST_F(Ipv6Host, the_link_local_address_comes_of_the_mac) { EXPECT_EQ(wire::format_ipv6(host->link_local()), "fe80::ff:fe00:1"); }

// proves 9.3/8
TEST_F(Ipv6Host, an_unknown_neighbour_is_asked_for_in_its_group_and_what_waited_goes_when_it_answers) {
  const std::uint32_t peer = enter("2001:db8::2");
  EXPECT_FALSE(host->resolve(peer, now));
  ASSERT_EQ(out.sent.size(), 1U);
  const Sent asked = sent(0);
  EXPECT_EQ(asked.icmp.type, wire::Icmpv6View::kNeighbourSolicitation);
  EXPECT_EQ(asked.ip.hop_limit, 255);
  EXPECT_EQ(asked.ip.source, kOurs);
  EXPECT_EQ(asked.ip.destination, at("ff02::1:ff00:2"));
  EXPECT_EQ(asked.ethernet.destination, (wire::MacAddress{{0x33, 0x33, 0xFF, 0, 0, 2}}));
  EXPECT_EQ(wire::NeighbourMessage::parse(asked.ip, asked.icmp)->mac, kOurMac);
  EXPECT_TRUE(host->hold(peer, handle(1)));
  EXPECT_TRUE(advertise("2001:db8::2", kPeerMac));
  EXPECT_EQ(out.released, std::vector{handle(1)});
  EXPECT_EQ(out.last_mac, kPeerMac);
  EXPECT_EQ(host->resolve(peer, now), kPeerMac);
  EXPECT_EQ(host->statistics().solicitations, 1U);
}

TEST_F(Ipv6Host, an_unanswered_neighbour_is_given_up_and_one_in_use_is_refreshed_by_unicast) {
  const std::uint32_t peer = enter("2001:db8::2"), silent = enter("2001:db8::3");
  EXPECT_FALSE(host->resolve(silent, now));
  EXPECT_TRUE(host->hold(silent, handle(7)));
  run_for(2 * kSecond);
  EXPECT_EQ(out.discarded, std::vector{handle(7)});
  EXPECT_FALSE(host->resolve(peer, now));
  advertise("2001:db8::2", kPeerMac);
  const std::size_t before = out.sent.size();
  run_for(IpHost::kReachable_ns - kSecond);
  EXPECT_EQ(out.sent.size(), before);
  run_for(2 * kSecond);
  ASSERT_GT(out.sent.size(), before);
  EXPECT_EQ(sent(before).ip.destination, at("2001:db8::2"));
  EXPECT_EQ(sent(before).ethernet.destination, kPeerMac);
}

TEST_F(Ipv6Host, an_answer_without_override_confirms_and_changes_nothing) {
  const std::uint32_t peer = enter("2001:db8::2");
  EXPECT_FALSE(host->resolve(peer, now));
  advertise("2001:db8::2", kPeerMac);
  advertise("2001:db8::2", kOtherMac, false);
  EXPECT_EQ(host->resolve(peer, now), kPeerMac);
  const std::uint32_t before = host->epoch();
  advertise("2001:db8::2", kOtherMac, true);
  EXPECT_EQ(host->resolve(peer, now), kOtherMac);
  EXPECT_NE(host->epoch(), before);
  advertise("2001:db8::77", kPeerMac);
  EXPECT_EQ(book->find({at("2001:db8::77"), 0}, now), 0U) << "nobody asked for it";
}

// proves 9.3/8
TEST_F(Ipv6Host, who_asks_for_us_is_answered_and_known_from_then_on) {
  EXPECT_TRUE(solicit(at("2001:db8::2"), kOurs));
  ASSERT_EQ(out.sent.size(), 1U);
  const Sent answer = sent(0);
  const auto message = wire::NeighbourMessage::parse(answer.ip, answer.icmp);
  ASSERT_TRUE(message && message->is_advertisement);
  EXPECT_TRUE(message->is_solicited && message->is_override && !message->is_router);
  EXPECT_EQ(message->target, kOurs);
  EXPECT_EQ(message->mac, kOurMac);
  EXPECT_EQ(answer.ip.destination, at("2001:db8::2"));
  EXPECT_EQ(answer.ethernet.destination, kPeerMac);
  EXPECT_EQ(host->resolve(enter("2001:db8::2"), now), kPeerMac);
  EXPECT_EQ(out.sent.size(), 1U);
  EXPECT_TRUE(solicit(at("fe80::2"), host->link_local()));
  EXPECT_FALSE(solicit(at("2001:db8::2"), at("2001:db8::5"))) << "somebody else is asked for";
}

TEST_F(Ipv6Host, who_probes_for_our_address_hears_that_it_is_taken) {
  EXPECT_TRUE(solicit({}, kOurs, false));
  EXPECT_EQ(sent(0).ip.destination, wire::kAllNodes);
  EXPECT_FALSE(solicit(kOurs, kOurs)) << "who claims our address is not believed";
}

TEST_F(Ipv6Host, a_storm_of_strangers_is_bounded) {
  for (std::uint32_t i = 0; i < 5000; ++i) {
    wire::Ipv6Address stranger = at("2001:db8::1:0:0");
    stranger.bytes[14] = static_cast<std::uint8_t>(i >> 8);
    stranger.bytes[15] = static_cast<std::uint8_t>(i);
    solicit(stranger, kOurs);
  }
  EXPECT_LE(book->learned(), shm::LearnBudget::kBurst);
  EXPECT_FALSE(host->resolve(enter("2001:db8::2"), now));
  EXPECT_TRUE(host->hold(enter("2001:db8::2"), handle(1))) << "whom we want has a place";
}

TEST_F(Ipv6Host, answers_to_a_storm_are_bounded_and_hosts_in_use_are_answered_beside_it) {
  const std::uint32_t peer = enter("2001:db8::2");
  EXPECT_FALSE(host->resolve(peer, now));
  advertise("2001:db8::2", kPeerMac);
  const std::size_t before = out.sent.size();
  for (std::uint32_t i = 0; i < 5000; ++i) solicit(i % 2 == 0 ? wire::Ipv6Address{} : at("2001:db8::77"), kOurs, i % 2 != 0);
  EXPECT_EQ(out.sent.size() - before, IpHost::kRepliesPerSecond);
  EXPECT_EQ(host->statistics().replies_limited, 5000 - IpHost::kRepliesPerSecond);
  EXPECT_TRUE(solicit(at("2001:db8::2"), kOurs));
  EXPECT_EQ(out.sent.size() - before, IpHost::kRepliesPerSecond + 1);
  now += kSecond;
  EXPECT_TRUE(solicit(at("2001:db8::77"), kOurs));
  EXPECT_EQ(out.sent.size() - before, IpHost::kRepliesPerSecond + 2) << "the next second";
}

TEST_F(Ipv6Host, unreachable_quotes_what_fits_and_is_not_sent_for_what_must_not_be_answered) {
  const auto send = [&](const char* source, const wire::Ipv6Address& destination, std::size_t payload, const wire::MacAddress& to = kOurMac) {
    std::vector<std::byte> packet(wire::kIpv6HeaderLength + payload + 6);   // and padding of the frame
    wire::build_ipv6(packet.data(), wire::kIpProtocolUdp, 64, at(source), destination, payload, false);
    wire::EthernetView ethernet;
    ethernet.source = kPeerMac;
    ethernet.destination = to;
    ethernet.type = wire::kEtherTypeIpv6;
    return host->send_port_unreachable(ethernet, packet, now);
  };
  EXPECT_TRUE(send("2001:db8::2", kOurs, 16));
  EXPECT_EQ(sent(0).icmp.type, wire::Icmpv6View::kUnreachable);
  EXPECT_EQ(sent(0).icmp.code, 4);
  EXPECT_EQ(sent(0).ip.destination, at("2001:db8::2"));
  EXPECT_EQ(sent(0).icmp.rest.size(), 4 + wire::kIpv6HeaderLength + 16);
  EXPECT_TRUE(send("fe80::2", host->link_local(), 1400));
  EXPECT_EQ(sent(1).ip.payload.size() + wire::kIpv6HeaderLength, 1280U) << "the smallest MTU of IPv6";
  EXPECT_FALSE(send("2001:db8::2", at("ff02::1"), 16));
  EXPECT_FALSE(send("2001:db8::2", at("2001:db8::5"), 16)) << "of somebody else";
  EXPECT_FALSE(send("2001:db8::2", kOurs, 16, wire::multicast_mac(wire::kAllNodes)));
  EXPECT_FALSE(send("::", kOurs, 16));
  EXPECT_FALSE(send("ff02::1", kOurs, 16));
  std::uint32_t answered = 0;
  for (int i = 0; i < 1000; ++i) answered += send("2001:db8::2", kOurs, 16) ? 1 : 0;
  EXPECT_LT(answered, IpHost::kIcmpPerSecond);
}

TEST_F(Ipv6Host, an_echo_is_answered) {
  std::vector<std::byte> echo(40, std::byte{7});
  echo[0] = std::byte{wire::Icmpv6View::kEchoRequest};
  echo[1] = std::byte{0};
  wire::finish_icmpv6(echo.data(), echo.size(), at("2001:db8::2"), kOurs);
  EXPECT_TRUE(hear(echo, at("2001:db8::2"), kOurs, 64));
  EXPECT_EQ(sent(0).icmp.type, wire::Icmpv6View::kEchoReply);
  EXPECT_EQ(sent(0).icmp.rest.size(), 36U);
  EXPECT_EQ(sent(0).ip.source, kOurs);
}

TEST_F(Ipv6Host, the_link_is_told_where_we_are_and_what_we_listen_to) {
  host->announce(now);
  std::size_t advertised = 0;
  for (std::size_t i = 1; i < out.sent.size(); ++i) advertised += sent(i).icmp.type == wire::Icmpv6View::kNeighbourAdvertisement ? 1 : 0;   // the first is ARP's
  EXPECT_EQ(advertised, 2U);
  EXPECT_EQ(reported(1), (std::vector{at("ff02::1:ff00:1"), at("ff02::1:ff00:1")})) << "where neighbours ask for our addresses";
}

// proves 9.3/8
TEST_F(Ipv6Host, groups_are_reported_when_they_are_joined_asked_for_and_left) {
  const std::uint32_t group = enter("ff05::9:1");
  EXPECT_TRUE(host->join(group, now));
  EXPECT_TRUE(host->has_group(group));
  EXPECT_EQ(host->resolve(group, now), (wire::MacAddress{{0x33, 0x33, 0, 9, 0, 1}}));
  EXPECT_EQ(reported(0), std::vector{at("ff05::9:1")});
  run_for(2 * kSecond);   // and once more
  EXPECT_EQ(reported(0).size(), 2U);
  std::size_t before = out.sent.size();
  EXPECT_TRUE(query({}, 1000));
  run_for(2 * kSecond);
  EXPECT_EQ(reported(before), std::vector{at("ff05::9:1")});
  before = out.sent.size();
  EXPECT_TRUE(query(at("ff05::9:1"), 1000));
  EXPECT_TRUE(query(at("ff05::9:5"), 1000));
  run_for(2 * kSecond);
  EXPECT_EQ(reported(before), std::vector{at("ff05::9:1")});
  before = out.sent.size();
  host->leave(group, now);
  run_for(2 * kSecond);
  EXPECT_EQ(reported(before).size(), 2U);
  EXPECT_FALSE(host->has_group(group));
  EXPECT_EQ(host->statistics().mld.leaves, 1U);
  EXPECT_EQ(host->statistics().igmp.reports, 0U);
}

TEST_F(Ipv6Host, an_older_querier_is_answered_in_its_version) {
  const std::uint32_t group = enter("ff05::9:1");
  host->join(group, now);
  EXPECT_TRUE(query({}, 1000, false));
  const std::size_t before = out.sent.size();
  run_for(2 * kSecond);
  ASSERT_GT(out.sent.size(), before);
  EXPECT_EQ(sent(out.sent.size() - 1).icmp.type, wire::Icmpv6View::kListenerReport);
  EXPECT_EQ(sent(out.sent.size() - 1).ip.destination, at("ff05::9:1"));
  host->leave(group, now);
  EXPECT_EQ(sent(out.sent.size() - 1).icmp.type, wire::Icmpv6View::kListenerDone);
  EXPECT_EQ(sent(out.sent.size() - 1).ip.destination, wire::kAllRouters);
}

// What another host says it listens to may silence our own answer: so only what such a host can say is believed.
TEST_F(Ipv6Host, a_forged_report_does_not_keep_us_from_answering) {
  const std::uint32_t group = enter("ff05::9:1");
  host->join(group, now);
  run_for(2 * kSecond);
  EXPECT_TRUE(query({}, 1000, false));
  const auto report = [&](const char* source, const char* named, std::uint8_t hop_limit, bool router_alert) {
    std::vector<std::byte> message(wire::kMldV1Length);
    wire::build_mld_v1(message.data(), wire::Icmpv6View::kListenerReport, at(named), at(source));
    wire::finish_icmpv6(message.data(), message.size(), at(source), at("ff05::9:1"));
    hear(message, at(source), at("ff05::9:1"), hop_limit, router_alert);
  };
  report("2001:db8::9", "ff05::9:1", 1, true);
  report("fe80::9", "ff05::9:3", 1, true);
  report("fe80::9", "ff05::9:1", 64, true);
  report("fe80::9", "ff05::9:1", 1, false);
  const auto answers = [&](std::size_t first) {
    std::size_t count = 0;
    for (std::size_t i = first; i < out.sent.size(); ++i) count += sent(i).icmp.type == wire::Icmpv6View::kListenerReport ? 1 : 0;
    return count;
  };
  std::size_t before = out.sent.size();
  run_for(2 * kSecond);
  EXPECT_EQ(answers(before), 1U);
  EXPECT_TRUE(query({}, 1000, false));
  report("fe80::9", "ff05::9:1", 1, true);
  before = out.sent.size();
  run_for(2 * kSecond);
  EXPECT_EQ(answers(before), 0U) << "that host answers for both of us";
}

TEST_F(Ipv6Host, a_storm_of_older_queries_does_not_put_off_the_answer_to_one_that_wants_it_soon) {
  const std::uint32_t group = enter("ff05::9:1");
  host->join(group, now);
  run_for(2 * kSecond);
  const std::size_t before = out.sent.size();
  for (int i = 0; i < 100; ++i) query({}, 60'000, false);
  query({}, 500, false);
  for (int i = 0; i < 100; ++i) query({}, 60'000, false);
  run_for(kSecond);
  ASSERT_EQ(out.sent.size(), before + 1);
  EXPECT_EQ(sent(before).icmp.type, wire::Icmpv6View::kListenerReport);
}

}  // namespace
}  // namespace thalweg::core
