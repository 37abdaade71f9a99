#include "dataplane/wire/ip.hpp"

#include <gtest/gtest.h>

#include "dataplane/base/random.hpp"
#include "tests/support/hex.hpp"

namespace thalweg::wire {
namespace {

using test::ByteVector;
using test::from_hex;
using test::to_hex;

constexpr MacAddress kLeft{{2, 0, 0, 0, 0, 1}};
constexpr MacAddress kRight{{2, 0, 0, 0, 0, 2}};

// RFC 1071 as it is written: one big-endian 16-bit word after the other.
std::uint16_t plain_checksum(std::span<const std::byte> bytes, std::uint64_t sum) {
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) sum += load_be16(bytes.data() + i);
  if (bytes.size() % 2 != 0) sum += std::to_integer<std::uint64_t>(bytes.back()) << 8;
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

ByteVector random_bytes(Random& random, std::size_t length) {
  ByteVector bytes(length);
  for (auto& b : bytes) b = static_cast<std::byte>(random.next());
  return bytes;
}

TEST(Checksum, of_the_example_of_rfc_1071) {
  EXPECT_EQ(checksum_fold(checksum_add(from_hex("0001f203f4f5f6f7"), 0)), static_cast<std::uint16_t>(~0xDDF2));
}

TEST(Checksum, equals_the_plain_algorithm_for_every_length_and_alignment) {
  Random random{1};
  const ByteVector bytes = random_bytes(random, 2100);
  for (std::size_t length = 0; length < 2080; ++length) {
    const auto part = std::span{bytes}.subspan(random.below(16), length);
    const auto start = static_cast<std::uint32_t>(random.next());
    ASSERT_EQ(checksum_fold(checksum_add(part, start)), plain_checksum(part, start)) << length;
  }
}

TEST(Checksum, survives_the_largest_datagram_of_all_ones_and_of_zeros) {
  const ByteVector ones(65535, std::byte{0xFF});
  const ByteVector zeros(65535);
  EXPECT_EQ(checksum_fold(checksum_add(ones, 0xFFFFFFFF)), plain_checksum(ones, 0xFFFFFFFF));
  EXPECT_EQ(checksum_fold(checksum_add(zeros, 0)), 0xFFFF);
  EXPECT_EQ(checksum_add({}, 0x12345), 0x2346U);
}

TEST(UdpChecksum, that_comes_out_as_zero_is_sent_as_all_ones) {
  ByteVector udp(8);
  store_be16(udp.data() + 4, 8);
  const std::uint16_t sum = udp_checksum(0, 0, udp);  // then a port that makes the sum all ones
  store_be16(udp.data(), sum);
  EXPECT_EQ(udp_checksum(0, 0, udp), 0xFFFF);
}

class UdpFrame : public testing::TestWithParam<std::optional<std::uint16_t>> {};

TEST_P(UdpFrame, written_by_the_template_is_read_back) {
  UdpFrameTemplate frame_template{{.source_mac = kLeft, .destination_mac = kBroadcastMac, .source = {0x0A000001, 40123},
                                   .destination = {0xE0000105, 24500}, .ttl = 9, .vlan = GetParam()}};
  frame_template.set_destination_mac(kRight);
  Random random{2};
  for (const std::size_t length : {0U, 1U, 31U, 32U, 1408U, 8972U, 65507U}) {
    const ByteVector payload = random_bytes(random, length);
    ByteVector frame(frame_template.length() + length + 6);  // the template moves 48 bytes
    frame_template.write(frame.data(), length);
    std::copy(payload.begin(), payload.end(), frame.begin() + static_cast<std::ptrdiff_t>(frame_template.length()));
    frame_template.write_udp_checksum(frame.data(), length);
    frame.resize(frame_template.length() + length);

    const auto ethernet = EthernetView::parse(frame);
    ASSERT_TRUE(ethernet);
    EXPECT_EQ(ethernet->source, kLeft);
    EXPECT_EQ(ethernet->destination, kRight);
    EXPECT_EQ(ethernet->type, kEtherTypeIpv4);
    EXPECT_EQ(ethernet->vlan, GetParam());
    const Ipv4View ip = Ipv4View::parse(std::span{frame}.subspan(ethernet->header_length));
    ASSERT_EQ(ip.bad, Ipv4View::Bad::kNone);
    EXPECT_EQ(ip.source, 0x0A000001U);
    EXPECT_EQ(ip.destination, 0xE0000105U);
    EXPECT_EQ(ip.ttl, 9);
    EXPECT_EQ(ip.protocol, kIpProtocolUdp);
    EXPECT_FALSE(ip.is_fragment);
    const auto udp = UdpView::parse(ip.payload);
    ASSERT_TRUE(udp);
    EXPECT_EQ(udp->source_port, 40123);
    EXPECT_EQ(udp->destination_port, 24500);
    EXPECT_TRUE(std::equal(payload.begin(), payload.end(), udp->payload.begin(), udp->payload.end()));
    EXPECT_EQ(checksum_fold(checksum_add(ip.payload, (ip.source >> 16) + (ip.source & 0xFFFF) + (ip.destination >> 16) + (ip.destination & 0xFFFF) +
                                                         kIpProtocolUdp + static_cast<std::uint32_t>(ip.payload.size()))), 0);
  }
}
TEST_P(UdpFrame, written_in_fragments_is_the_same_datagram_with_a_checksum) {
  const UdpFrameTemplate frame_template{{.source_mac = kLeft, .destination_mac = kRight, .source = {0x0A000001, 40123},
                                         .destination = {0x0A000002, 24500}, .ttl = 64, .vlan = GetParam()}};
  Random random{3};
  const ByteVector payload = random_bytes(random, 4'001);
  ByteVector together;
  for (std::size_t offset = 0; offset < payload.size() + 8; offset += 1'480) {
    const Ipv4Fragment fragment{.identification = 77, .offset = offset, .length = std::min<std::size_t>(1'480, payload.size() + 8 - offset),
                                .has_more = offset + 1'480 < payload.size() + 8};
    ByteVector frame(2'000);
    const std::size_t header = frame_template.write_fragment(frame.data(), payload, fragment);
    EXPECT_EQ(header, frame_template.length() - (offset == 0 ? 0 : 8));
    const std::size_t from = offset == 0 ? 0 : offset - 8;
    const std::size_t length = fragment.length - (offset == 0 ? 8 : 0);
    std::copy_n(payload.begin() + static_cast<std::ptrdiff_t>(from), length, frame.begin() + static_cast<std::ptrdiff_t>(header));
    frame.resize(header + length);
    const auto ethernet = EthernetView::parse(frame);
    ASSERT_TRUE(ethernet);
    EXPECT_EQ(ethernet->vlan, GetParam());
    const Ipv4View ip = Ipv4View::parse(std::span{frame}.subspan(ethernet->header_length));
    ASSERT_EQ(ip.bad, Ipv4View::Bad::kNone);
    EXPECT_TRUE(ip.is_fragment);
    EXPECT_EQ(ip.has_more_fragments, fragment.has_more);
    EXPECT_EQ(ip.identification, 77);
    EXPECT_EQ(ip.fragment_offset, offset);
    together.insert(together.end(), ip.payload.begin(), ip.payload.end());
  }
  const auto udp = UdpView::parse(together);
  ASSERT_TRUE(udp);
  EXPECT_TRUE(std::equal(payload.begin(), payload.end(), udp->payload.begin(), udp->payload.end()));
  EXPECT_EQ(udp_checksum(0x0A000001, 0x0A000002, together), 0xFFFF) << "it is there and right";
  EXPECT_NE(udp->checksum, 0);
}
INSTANTIATE_TEST_SUITE_P(Tags, UdpFrame, testing::Values(std::nullopt, std::optional<std::uint16_t>{4094}));

ByteVector good_packet(std::size_t payload = 16) {
  ByteVector packet(20 + payload);
  build_ipv4(packet.data(), kIpProtocolUdp, 64, 1, 2, payload, false);
  return packet;
}
void fix_checksum(ByteVector& packet) {
  store_be16(packet.data() + 10, 0);
  const std::size_t length = std::min<std::size_t>(packet.size(), 4 * (std::to_integer<std::size_t>(packet[0]) & 15));
  store_be16(packet.data() + 10, checksum_fold(checksum_add(std::span{packet}.first(length), 0)));
}

TEST(Ipv4, each_defect_of_a_header_has_its_name) {
  using Bad = Ipv4View::Bad;
  const ByteVector good = good_packet();
  EXPECT_EQ(Ipv4View::parse(good).bad, Bad::kNone);
  for (std::size_t length = 0; length < good.size(); ++length) EXPECT_EQ(Ipv4View::parse(std::span{good}.first(length)).bad, Bad::kTruncated);
  ByteVector packet = good;
  packet[0] = std::byte{0x65};
  EXPECT_EQ(Ipv4View::parse(packet).bad, Bad::kVersion);
  packet = good;
  packet[0] = std::byte{0x44};
  EXPECT_EQ(Ipv4View::parse(packet).bad, Bad::kLength);
  packet = good;
  packet[0] = std::byte{0x4F};
  EXPECT_EQ(Ipv4View::parse(packet).bad, Bad::kLength) << "60 bytes of header in 36";
  packet = good;
  store_be16(packet.data() + 2, 19);
  EXPECT_EQ(Ipv4View::parse(packet).bad, Bad::kLength);
  packet = good;
  packet[8] = std::byte{63};
  EXPECT_EQ(Ipv4View::parse(packet).bad, Bad::kChecksum);
}

TEST(Ipv4, payload_is_cut_to_the_total_length_and_fragments_are_named) {
  ByteVector packet = good_packet(16);
  packet.resize(64);  // Ethernet padding
  EXPECT_EQ(Ipv4View::parse(packet).payload.size(), 16U);
  EXPECT_FALSE(Ipv4View::parse(packet).is_fragment);
  for (const std::uint16_t bits : {std::uint16_t{0x2000}, std::uint16_t{0x0001}, std::uint16_t{0x1FFF}}) {
    store_be16(packet.data() + 6, bits);
    fix_checksum(packet);
    EXPECT_TRUE(Ipv4View::parse(packet).is_fragment) << bits;
  }
  ByteVector with_options(24 + 8);
  EXPECT_EQ(build_ipv4(with_options.data(), kIpProtocolIgmp, 1, 1, 2, 8, true), 24U);
  EXPECT_EQ(Ipv4View::parse(with_options).payload.size(), 8U);
  EXPECT_EQ(Ipv4View::parse(with_options).protocol, kIpProtocolIgmp);
}

TEST(Udp, length_must_cover_its_header_and_fit_the_packet) {
  ByteVector bytes(16);
  for (const std::uint16_t length : {std::uint16_t{0}, std::uint16_t{7}, std::uint16_t{17}, std::uint16_t{65535}}) {
    store_be16(bytes.data() + 4, length);
    EXPECT_FALSE(UdpView::parse(bytes)) << length;
  }
  store_be16(bytes.data() + 4, 8);
  ASSERT_TRUE(UdpView::parse(bytes));
  EXPECT_TRUE(UdpView::parse(bytes)->payload.empty());
  EXPECT_FALSE(UdpView::parse(std::span{bytes}.first(7)));
}

TEST(Ethernet, short_frames_and_cut_tags_are_refused) {
  ByteVector frame(18);
  build_ethernet(frame.data(), kLeft, kRight, kEtherTypeVlan);
  store_be16(frame.data() + 14, 0xE123);
  store_be16(frame.data() + 16, kEtherTypeArp);
  EXPECT_EQ(EthernetView::parse(frame)->vlan, 0x123);
  EXPECT_EQ(EthernetView::parse(frame)->type, kEtherTypeArp);
  EXPECT_FALSE(EthernetView::parse(std::span{frame}.first(17)));
  EXPECT_FALSE(EthernetView::parse(std::span{frame}.first(13)));
  const MacAddress group = multicast_mac(0xE1812345);
  EXPECT_EQ(to_hex(std::as_bytes(std::span{group.bytes})), "01005e01 2345") << "the low 23 bits of the group";
  EXPECT_TRUE(group.is_multicast());
}

TEST(Arp, is_built_byte_by_byte_as_rfc_826_says) {
  ByteVector bytes(ArpPacket::kLength);
  build(bytes.data(), ArpPacket{ArpPacket::kRequest, kLeft, 0x0A000001, {}, 0x0A000002});
  EXPECT_EQ(to_hex(bytes), "00010800 06040001 02000000 00010a00 00010000 00000000 0a000002");
  const auto arp = ArpPacket::parse(bytes);
  ASSERT_TRUE(arp);
  EXPECT_EQ(arp->sender_mac, kLeft);
  EXPECT_EQ(arp->target_ip, 0x0A000002U);
  EXPECT_FALSE(ArpPacket::parse(std::span{bytes}.first(27)));
  for (const std::size_t at : {1U, 2U, 4U, 5U, 7U}) {
    ByteVector wrong = bytes;
    wrong[at] = std::byte{9};
    EXPECT_FALSE(ArpPacket::parse(wrong)) << at;
  }
}

TEST(Icmp, is_refused_with_a_wrong_checksum) {
  ByteVector echo = from_hex("08000000 12340001 61626364 65");
  EXPECT_FALSE(IcmpView::parse(echo));
  store_be16(echo.data() + 2, checksum_fold(checksum_add(echo, 0)));
  const auto view = IcmpView::parse(echo);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->type, kIcmpEchoRequest);
  EXPECT_EQ(view->rest.size(), 9U);
  EXPECT_FALSE(IcmpView::parse(std::span{echo}.first(7)));
}

TEST(Igmp, reports_and_queries_are_read_back) {
  ByteVector bytes(16);
  build_igmp_v2(bytes.data(), IgmpView::kReportV2, 0xE0000105);
  const auto v2 = IgmpView::parse(std::span{bytes}.first(8));
  ASSERT_TRUE(v2);
  EXPECT_EQ(v2->type, IgmpView::kReportV2);
  EXPECT_EQ(v2->group, 0xE0000105U);
  const std::array<std::uint32_t, 1> groups{0xE0000106};
  build_igmp_v3_report(bytes.data(), IgmpRecord::kToExclude, groups);
  const auto v3 = IgmpView::parse(bytes);
  ASSERT_TRUE(v3);
  EXPECT_EQ(v3->group, 0xE0000106U);
  bytes[15] ^= std::byte{1};
  EXPECT_FALSE(IgmpView::parse(bytes));
  ByteVector query = from_hex("11640000 00000000 00000000");
  store_be16(query.data() + 2, checksum_fold(checksum_add(query, 0)));
  EXPECT_TRUE(IgmpView::parse(query)->is_v3_query);
  EXPECT_EQ(IgmpView::parse(query)->max_response, 100);
  EXPECT_FALSE(IgmpView::parse(std::span{query}.first(8))->is_v3_query);
  EXPECT_FALSE(IgmpView::parse(std::span{query}.first(4)));
}

// RFC 3376 4.1.1 and 7.1.
TEST(Igmp, the_length_tells_the_version_of_a_query_and_the_code_how_long_hosts_may_wait) {
  const auto query = [](std::size_t length, std::uint8_t code, std::uint16_t sources = 0) {
    ByteVector bytes(length);
    bytes[0] = std::byte{IgmpView::kQuery};
    bytes[1] = std::byte{code};
    if (length >= 12) store_be16(bytes.data() + 10, sources);
    store_be16(bytes.data() + 2, checksum_fold(checksum_add(bytes, 0)));
    return IgmpView::parse(bytes);
  };
  EXPECT_EQ(query(8, 0)->max_response_ns(), 10'000'000'000) << "version 1";
  EXPECT_EQ(query(8, 100)->max_response_ns(), 10'000'000'000);
  EXPECT_EQ(query(8, 200)->max_response_ns(), 20'000'000'000) << "version 2 has no floating point";
  EXPECT_EQ(query(12, 0)->max_response_ns(), 0);
  EXPECT_EQ(query(12, 127)->max_response_ns(), 12'700'000'000);
  EXPECT_EQ(query(12, 0x80)->max_response_ns(), 12'800'000'000);
  EXPECT_EQ(query(12, 0xFF)->max_response_ns(), 3'174'400'000'000);
  EXPECT_FALSE(query(9, 100));
  EXPECT_FALSE(query(11, 100));
  EXPECT_FALSE(query(12, 100, 1)) << "a source that is not there";
  EXPECT_TRUE(query(16, 100, 1));
}

}  // namespace
}  // namespace thalweg::wire
