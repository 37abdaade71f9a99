// IPv6, neighbour and listener discovery against frames that Linux sent, and every check that RFC 4861 7.1, RFC 3810 and RFC 8200 ask for.
#include "dataplane/wire/ipv6.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/hex.hpp"

namespace thalweg::wire {
namespace {

using test::ByteVector;
using test::from_hex;

// Recorded between two hosts fd00::a (02:00:00:00:00:0a) and fd00::b (02:00:00:00:00:0b), Linux 6.
constexpr std::string_view kProbe =
    "3333ff00 000a0200 0000000a 86dd6000 00000020 3aff0000 00000000 00000000 00000000 0000ff02 00000000 00000000 0001ff00 000a8700 44af0000 0000fd00 "
    "00000000 00000000 00000000 000a0e01 440ea095 4637";
constexpr std::string_view kSolicitation =
    "3333ff00 000a0200 0000000b 86dd6000 00000020 3afffd00 00000000 00000000 00000000 000bff02 00000000 00000000 0001ff00 000a8700 7d730000 0000fd00 "
    "00000000 00000000 00000000 000a0101 02000000 000b";
constexpr std::string_view kAdvertisement =
    "02000000 000b0200 0000000a 86dd6000 00000020 3afffd00 00000000 00000000 00000000 000afd00 00000000 00000000 00000000 000b8800 1c786000 0000fd00 "
    "00000000 00000000 00000000 000a0201 02000000 000a";
constexpr std::string_view kEcho =
    "02000000 000a0200 0000000b 86dd600b 17b90040 3a40fd00 00000000 00000000 00000000 000bfd00 00000000 00000000 00000000 000a8000 57893d83 00017a71 "
    "026b0000 0000b3b1 01000000 00001011 12131415 16171819 1a1b1c1d 1e1f2021 22232425 26272829 2a2b2c2d 2e2f3031 32333435 3637";
constexpr std::string_view kJoin =   // ff15::109
    "33330000 00160200 0000000b 86dd6000 00000024 0001fe80 00000000 00000000 00fffe00 000bff02 00000000 00000000 00000000 00163a00 05020000 01008f00 "
    "6fe40000 00010400 0000ff15 00000000 00000000 00000000 0109";
constexpr std::string_view kLeave =
    "33330000 00160200 0000000b 86dd6000 00000024 0001fe80 00000000 00000000 00fffe00 000bff02 00000000 00000000 00000000 00163a00 05020000 01008f00 "
    "70e40000 00010300 0000ff15 00000000 00000000 00000000 0109";
constexpr std::string_view kUdp =    // its checksum as a device would have filled it in
    "02000000 000a0200 0000000b 86dd6006 7eb40010 1140fd00 00000000 00000000 00000000 000bfd00 00000000 00000000 00000000 000a9d5c 9cbb0010 17447468 "
    "616c7765 6721";

constexpr MacAddress kMacA{{2, 0, 0, 0, 0, 0x0A}};
constexpr MacAddress kMacB{{2, 0, 0, 0, 0, 0x0B}};
constexpr Ipv6Address host(std::uint8_t last) { return Ipv6Address{{0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last}}; }
constexpr Ipv6Address kA = host(0x0A);
constexpr Ipv6Address kB = host(0x0B);
constexpr Ipv6Address kGroup{{0xFF, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9}};
constexpr Ipv6Address kLinkLocalB{{0xFE, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFE, 0, 0, 0x0B}};

ByteVector packet_of(std::string_view frame) {
  const ByteVector bytes = from_hex(frame);
  return {bytes.begin() + 14, bytes.end()};
}
std::optional<NeighbourMessage> neighbour(const ByteVector& packet) {
  const auto ip = Ipv6View::parse(packet);
  const auto icmp = Icmpv6View::parse(ip);
  return ip.bad == Ipv6View::Bad::kNone && icmp ? NeighbourMessage::parse(ip, *icmp) : std::nullopt;
}
std::optional<ListenerQuery> query(const ByteVector& packet) {
  const auto ip = Ipv6View::parse(packet);
  const auto icmp = Icmpv6View::parse(ip);
  return ip.bad == Ipv6View::Bad::kNone && icmp ? ListenerQuery::parse(ip, *icmp) : std::nullopt;
}
// With the checksum made right again.
template <typename Change>
ByteVector changed(ByteVector packet, Change&& change) {
  change(packet);
  const auto ip = Ipv6View::parse(packet);
  if (ip.bad == Ipv6View::Bad::kNone && ip.payload.size() >= 4) {
    finish_icmpv6(packet.data() + (ip.payload.data() - packet.data()), ip.payload.size(), ip.source, ip.destination);
  }
  return packet;
}

// ---- addresses ----

TEST(Ipv6Addresses, lead_to_their_groups_and_macs) {
  EXPECT_EQ(solicited_node_group(kA), (Ipv6Address{{0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF, 0, 0, 0x0A}}));
  EXPECT_EQ(multicast_mac(solicited_node_group(kA)), (MacAddress{{0x33, 0x33, 0xFF, 0, 0, 0x0A}}));
  EXPECT_EQ(multicast_mac(kAllMldv2Routers), (MacAddress{{0x33, 0x33, 0, 0, 0, 0x16}}));
  EXPECT_EQ(control_group(kGroup).bytes[15], 10);
  EXPECT_TRUE(kGroup.is_multicast());
  EXPECT_TRUE(kLinkLocalB.is_link_local());
  EXPECT_FALSE(kA.is_link_local() || kA.is_multicast() || kA.is_unspecified());
  EXPECT_TRUE(Ipv6Address{}.is_unspecified());
}

// ---- the header ----

TEST(Ipv6, each_defect_of_a_header_has_its_name) {
  using Bad = Ipv6View::Bad;
  const ByteVector good = packet_of(kEcho);
  EXPECT_EQ(Ipv6View::parse(good).bad, Bad::kNone);
  for (std::size_t length = 0; length < good.size(); ++length) EXPECT_EQ(Ipv6View::parse(std::span{good}.first(length)).bad, Bad::kTruncated);
  EXPECT_EQ(Ipv6View::parse(changed(good, [](ByteVector& p) { p[0] = std::byte{0x45}; })).bad, Bad::kVersion);
  for (const unsigned extension : {43U, 50U, 51U, 59U, 60U, 135U}) {
    ByteVector packet = good;
    packet[6] = static_cast<std::byte>(extension);
    EXPECT_EQ(Ipv6View::parse(packet).bad, Bad::kExtension) << extension;
  }
  EXPECT_EQ(Ipv6View::parse(changed(good, [](ByteVector& p) { p[6] = std::byte{44}; })).bad, Bad::kFragment);
}

TEST(Ipv6, payload_is_cut_to_its_length) {
  ByteVector packet = packet_of(kUdp);
  packet.resize(packet.size() + 7);
  EXPECT_EQ(Ipv6View::parse(packet).payload.size(), 16U);
}

TEST(Ipv6, of_hop_by_hop_options_the_router_alert_alone_is_let_through) {
  const ByteVector join = packet_of(kJoin);
  const auto ip = Ipv6View::parse(join);
  ASSERT_EQ(ip.bad, Ipv6View::Bad::kNone);
  EXPECT_TRUE(ip.has_router_alert);
  EXPECT_EQ(ip.next_header, kIpProtocolIcmpv6);
  EXPECT_EQ(ip.payload.size(), 28U);
  const auto bad_with = [&join](std::size_t at, unsigned value) {
    ByteVector packet = join;
    packet[at] = static_cast<std::byte>(value);
    return Ipv6View::parse(packet).bad == Ipv6View::Bad::kExtension;
  };
  EXPECT_TRUE(bad_with(42, 0xC2)) << "a jumbogram";
  EXPECT_TRUE(bad_with(42, 1)) << "padding alone";
  EXPECT_TRUE(bad_with(43, 5)) << "an option that ends behind the header";
  EXPECT_TRUE(bad_with(41, 9)) << "a header that ends behind the packet";
  EXPECT_EQ(Ipv6View::parse(changed(join, [](ByteVector& p) { p[40] = std::byte{44}; })).bad, Ipv6View::Bad::kFragment) << "a fragment behind it";
  EXPECT_TRUE(bad_with(40, 0)) << "another one behind it";
}

TEST(Ipv6, is_built_as_linux_builds_it) {
  const ByteVector join = packet_of(kJoin);
  std::array<std::byte, kIpv6HeaderLength + kRouterAlertLength6> header{};
  EXPECT_EQ(build_ipv6(header.data(), kIpProtocolIcmpv6, 1, kLinkLocalB, kAllMldv2Routers, 28, true), header.size());
  EXPECT_TRUE(std::equal(header.begin(), header.end(), join.begin()));
  const ByteVector advertisement = packet_of(kAdvertisement);
  EXPECT_EQ(build_ipv6(header.data(), kIpProtocolIcmpv6, kHopLimitOnLink, kA, kB, 32, false), kIpv6HeaderLength);
  EXPECT_TRUE(std::equal(header.begin(), header.begin() + kIpv6HeaderLength, advertisement.begin()));
}

// ---- UDP ----

TEST(Udp6, has_a_right_checksum_or_is_refused) {
  const ByteVector good = packet_of(kUdp);
  const auto ip = Ipv6View::parse(good);
  const auto udp = parse_udp(ip);
  ASSERT_TRUE(udp);
  EXPECT_EQ(test::to_text(udp->payload), "thalweg!");
  EXPECT_EQ(udp->destination_port, 40123);
  for (const std::size_t at : {8U, 24U, 40U, 46U, 47U, 50U}) {
    ByteVector packet = good;
    packet[at] ^= std::byte{1};
    EXPECT_FALSE(parse_udp(Ipv6View::parse(packet))) << at;
  }
  ByteVector none = good;
  store_be16(none.data() + 46, 0);
  EXPECT_FALSE(parse_udp(Ipv6View::parse(none))) << "there is always one";
  store_be16(none.data() + 46, udp_checksum(ip.source, ip.destination, std::span{none}.subspan(40)));
  EXPECT_EQ(none, good);
}

TEST(Udp6, a_checksum_that_comes_out_as_zero_is_sent_as_all_ones) {
  ByteVector udp(16);
  store_be16(udp.data() + 4, 16);
  const std::uint16_t without = udp_checksum(kA, kB, udp);
  store_be16(udp.data() + 8, without);   // makes the sum all ones
  EXPECT_EQ(udp_checksum(kA, kB, udp), 0xFFFF);
}

// ---- ICMPv6 ----

TEST(Icmpv6, is_refused_with_a_wrong_checksum_or_another_pseudo_header) {
  const ByteVector good = packet_of(kEcho);
  const auto icmp = Icmpv6View::parse(Ipv6View::parse(good));
  ASSERT_TRUE(icmp);
  EXPECT_EQ(icmp->type, Icmpv6View::kEchoRequest);
  EXPECT_EQ(icmp->rest.size(), 60U);
  for (const std::size_t at : {8U, 39U, 42U, 43U, 60U}) {
    ByteVector packet = good;
    packet[at] ^= std::byte{1};
    EXPECT_FALSE(Icmpv6View::parse(Ipv6View::parse(packet))) << at;
  }
  ByteVector udp = good;
  udp[6] = std::byte{kIpProtocolUdp};
  EXPECT_FALSE(Icmpv6View::parse(Ipv6View::parse(udp)));
}

// ---- neighbour discovery ----

TEST(Neighbours, what_linux_says_is_understood) {
  const auto asked = neighbour(packet_of(kSolicitation));
  ASSERT_TRUE(asked);
  EXPECT_FALSE(asked->is_advertisement);
  EXPECT_EQ(asked->target, kA);
  EXPECT_EQ(asked->mac, kMacB);
  const auto answer = neighbour(packet_of(kAdvertisement));
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->is_advertisement && answer->is_solicited && answer->is_override);
  EXPECT_FALSE(answer->is_router);
  EXPECT_EQ(answer->target, kA);
  EXPECT_EQ(answer->mac, kMacA);
  const auto probe = neighbour(packet_of(kProbe));   // with a nonce, which nobody needs to understand
  ASSERT_TRUE(probe);
  EXPECT_EQ(probe->target, kA);
  EXPECT_FALSE(probe->mac);
}

TEST(Neighbours, what_we_say_is_what_linux_says) {
  std::array<std::byte, NeighbourMessage::kLengthWithMac> message{};
  build(message.data(), {.target = kA, .mac = kMacB}, kB, solicited_node_group(kA));
  const ByteVector solicitation = packet_of(kSolicitation);
  EXPECT_TRUE(std::equal(message.begin(), message.end(), solicitation.begin() + 40, solicitation.end()));
  build(message.data(), {.is_advertisement = true, .is_solicited = true, .is_override = true, .target = kA, .mac = kMacA}, kA, kB);
  const ByteVector advertisement = packet_of(kAdvertisement);
  EXPECT_TRUE(std::equal(message.begin(), message.end(), advertisement.begin() + 40, advertisement.end()));
}

TEST(Neighbours, nobody_behind_a_router_and_nothing_malformed_is_believed) {
  const ByteVector asked = packet_of(kSolicitation);
  const ByteVector answer = packet_of(kAdvertisement);
  const ByteVector probe = packet_of(kProbe);
  const auto refuses = [](const ByteVector& packet, auto&& change) { return !neighbour(changed(packet, change)); };
  EXPECT_FALSE(refuses(asked, [](ByteVector&) {}));
  EXPECT_TRUE(refuses(asked, [](ByteVector& p) { p[7] = std::byte{254}; })) << "hop limit";
  EXPECT_TRUE(refuses(asked, [](ByteVector& p) { p[41] = std::byte{1}; })) << "code";
  EXPECT_TRUE(refuses(asked, [](ByteVector& p) { p[48] = std::byte{0xFF}; })) << "a group as target";
  EXPECT_TRUE(refuses(asked, [](ByteVector& p) { std::fill_n(p.begin() + 48, 16, std::byte{0}); })) << "nobody as target";
  EXPECT_TRUE(refuses(asked, [](ByteVector& p) { p[65] = std::byte{0}; })) << "an option of no length";
  EXPECT_TRUE(refuses(asked, [](ByteVector& p) { p[65] = std::byte{2}; })) << "an option longer than the message";
  EXPECT_TRUE(refuses(asked, [](ByteVector& p) { p[66] = std::byte{3}; })) << "a group's MAC";
  EXPECT_TRUE(refuses(asked, [](ByteVector& p) { p.resize(60), store_be16(p.data() + 4, 20); })) << "too short";
  EXPECT_TRUE(refuses(answer, [](ByteVector& p) { p[24] = std::byte{0xFF}; })) << "a solicited answer to a group";
  EXPECT_TRUE(refuses(probe, [](ByteVector& p) { p[64] = std::byte{1}; })) << "a MAC of nobody";
  EXPECT_TRUE(refuses(probe, [](ByteVector& p) { p[39] = std::byte{9}; })) << "a probe to another group";
  EXPECT_FALSE(neighbour(packet_of(kEcho)));
}

// ---- listener discovery ----

TEST(Listeners, reports_are_those_of_linux) {
  std::array<std::byte, listener_report_length(1)> report{};
  for (const auto& [frame, record] : {std::pair{kJoin, IgmpRecord::kToExclude}, {kLeave, IgmpRecord::kToInclude}}) {
    build_listener_report(report.data(), record, std::span{&kGroup, 1}, kLinkLocalB);
    const ByteVector expected = packet_of(frame);
    EXPECT_TRUE(std::equal(report.begin(), report.end(), expected.begin() + 48, expected.end()));
  }
}

ByteVector make_query(std::uint16_t code, const Ipv6Address& group, bool is_v2, std::uint16_t sources = 0) {
  const std::size_t length = is_v2 ? 28 + 16U * sources : 24;
  ByteVector packet(kIpv6HeaderLength + kRouterAlertLength6 + length);
  build_ipv6(packet.data(), kIpProtocolIcmpv6, 1, kLinkLocalB, kAllNodes, length, true);
  std::byte* const p = packet.data() + 48;
  p[0] = std::byte{Icmpv6View::kListenerQuery};
  store_be16(p + 4, code);
  std::memcpy(p + 8, group.bytes.data(), 16);
  if (is_v2) p[24] = std::byte{0x02};
  if (is_v2) store_be16(p + 26, sources);
  finish_icmpv6(p, length, kLinkLocalB, kAllNodes);
  return packet;
}

TEST(Listeners, the_length_tells_the_version_of_a_query_and_the_code_how_long_hosts_may_wait) {
  const auto v1 = query(make_query(10'000, {}, false));
  ASSERT_TRUE(v1);
  EXPECT_FALSE(v1->is_v2);
  EXPECT_EQ(v1->max_response_ns, 10'000'000'000);
  EXPECT_TRUE(v1->group.is_unspecified());
  const auto v2 = query(make_query(1'000, kGroup, true, 3));
  ASSERT_TRUE(v2);
  EXPECT_TRUE(v2->is_v2);
  EXPECT_EQ(v2->robustness, 2);
  EXPECT_EQ(v2->group, kGroup);
  EXPECT_EQ(v2->max_response_ns, 1'000'000'000);
  EXPECT_EQ(query(make_query(0x8000, {}, true))->max_response_ns, 32'768'000'000) << "RFC 3810 5.1.3";
  EXPECT_EQ(query(make_query(0xFFFF, {}, true))->max_response_ns, 8'387'584'000'000);
}

TEST(Listeners, queries_are_believed_from_the_links_routers_only) {
  const ByteVector good = make_query(1'000, kGroup, true, 1);
  const auto refuses = [](const ByteVector& packet, auto&& change) { return !query(changed(packet, change)); };
  EXPECT_FALSE(refuses(good, [](ByteVector&) {}));
  EXPECT_TRUE(refuses(good, [](ByteVector& p) { p[7] = std::byte{2}; })) << "hop limit";
  EXPECT_TRUE(refuses(good, [](ByteVector& p) { p[8] = std::byte{0xFD}; })) << "not link-local";
  EXPECT_TRUE(refuses(good, [](ByteVector& p) { p[49] = std::byte{1}; })) << "code";
  EXPECT_TRUE(refuses(good, [](ByteVector& p) { store_be16(p.data() + 48 + 26, 2); })) << "more sources than there are";
  EXPECT_TRUE(refuses(good, [](ByteVector& p) { p[56] = std::byte{0xFD}; })) << "a host as group";
  EXPECT_TRUE(refuses(make_query(1, {}, true), [](ByteVector& p) { p.resize(p.size() - 2), store_be16(p.data() + 4, 34); })) << "a length of no version";
  ByteVector plain(kIpv6HeaderLength + 28);   // the same without a router alert
  build_ipv6(plain.data(), kIpProtocolIcmpv6, 1, kLinkLocalB, kAllNodes, 28, false);
  std::copy(good.begin() + 48, good.begin() + 76, plain.begin() + 40);
  EXPECT_TRUE(refuses(plain, [](ByteVector& p) { store_be16(p.data() + 66, 0); }));
}

TEST(Listeners, mld_v1_messages_are_built_for_v1_queriers) {
  ByteVector packet(kIpv6HeaderLength + kRouterAlertLength6 + kMldV1Length);
  for (const auto& [type, to] : {std::pair{Icmpv6View::kListenerReport, kGroup}, {Icmpv6View::kListenerDone, kAllRouters}}) {
    build_ipv6(packet.data(), kIpProtocolIcmpv6, 1, kLinkLocalB, to, kMldV1Length, true);
    build_mld_v1(packet.data() + 48, type, kGroup, kLinkLocalB);
    const auto icmp = Icmpv6View::parse(Ipv6View::parse(packet));
    ASSERT_TRUE(icmp);
    EXPECT_EQ(icmp->type, type);
    EXPECT_TRUE(std::equal(kGroup.bytes.begin(), kGroup.bytes.end(), reinterpret_cast<const std::uint8_t*>(icmp->rest.data() + 4)));
  }
}

TEST(Ipv6TextTest, reads_and_writes_addresses) {
  EXPECT_EQ(format_ipv6(*parse_ipv6("2001:DB8:0:0:0:0:0:1")), "2001:db8::1");
  EXPECT_TRUE(parse_ipv6("::")->is_unspecified());
  for (const char* wrong : {"", "1", "2001:db8::1::2", "[::1]", "::1%2", "10.0.0.1", "2001:db8:0:0:0:0:0:1:2", "fe80:0000:0000:0000:0000:0000:0000:00001"}) {
    EXPECT_FALSE(parse_ipv6(wrong)) << wrong;
  }
  EXPECT_EQ(mapped_ipv4(*parse_ipv6("::ffff:10.0.0.1")), 0x0A000001U);
  EXPECT_EQ(mapped_ipv4(*parse_ipv6("::10.0.0.1")), std::nullopt);
}

TEST(Ipv6TextTest, compares_networks_to_the_bit) {
  const Ipv6Address a = *parse_ipv6("2001:db8::8000"), b = *parse_ipv6("2001:db8::ffff"), c = *parse_ipv6("2001:db8:1::");
  EXPECT_TRUE(is_same_network(a, b, 113));
  EXPECT_FALSE(is_same_network(a, b, 114));
  EXPECT_FALSE(is_same_network(a, b, 128));
  EXPECT_TRUE(is_same_network(a, a, 128));
  EXPECT_TRUE(is_same_network(a, c, 32));
  EXPECT_FALSE(is_same_network(a, c, 48));
  EXPECT_TRUE(is_same_network(a, c, 0));
}

TEST(Ipv6TextTest, handles_are_apart_from_all_that_frames_may_carry) {
  EXPECT_TRUE(is_handle(kAnyIpv6) && is_handle(kFirstGroupHandle));
  for (const std::uint32_t address : {0U, 0x7F000001U, 0xE0000001U, 0xEFFFFFFFU, 0xFFFFFFFFU}) EXPECT_FALSE(is_handle(address));
  EXPECT_TRUE(is_reserved_ipv4(kFirstGroupHandle + 1));
  EXPECT_FALSE(is_reserved_ipv4(0xFFFFFFFF));
  EXPECT_TRUE(is_group(0xE0000001) && is_group(kFirstGroupHandle + 1));
  EXPECT_FALSE(is_group(kLoopbackIpv6));
}

}  // namespace
}  // namespace thalweg::wire
