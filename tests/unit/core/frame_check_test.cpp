// Fast and general path of frame validation say the same, and read nothing outside a frame.
#include "dataplane/core/frame_check.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "dataplane/base/random.hpp"

namespace thalweg::core {
namespace {

using Frame = std::vector<std::byte>;
constexpr wire::MacAddress kOurMac{{2, 0, 0, 0, 0, 1}};
constexpr wire::MacAddress kPeerMac{{2, 0, 0, 0, 0, 2}};

FrameRules rules() {
  FrameRules r;
  r.mac = mac_word(kOurMac);
  r.address = 0x0A000001;
  r.checks_mac = true;
  return r;
}

Frame make_frame(std::size_t payload, std::optional<std::uint16_t> vlan = {}) {
  const wire::UdpFrameTemplate header{
      {.source_mac = kPeerMac, .destination_mac = kOurMac, .source = {0x0A000002, 7}, .destination = {0x0A000001, 9}, .ttl = 64, .vlan = vlan}};
  Frame frame(std::max<std::size_t>(header.length() + payload, sizeof(wire::UdpFrameTemplate)));  // write() copies its whole store
  header.write(frame.data(), payload);
  frame.resize(header.length() + payload);
  return frame;
}

// Both paths as a lane takes them, on a copy whose end is the end of an allocation: a read beyond it is found by ASan.
Checked check(const FrameRules& r, const Frame& frame) {
  const auto copy = std::make_unique<std::byte[]>(frame.size());
  std::copy(frame.begin(), frame.end(), copy.get());
  Datagram datagram;
  Unusual unusual;
  const Checked checked = check_frame(r, {copy.get(), frame.size()}, datagram);
  return checked.verdict == Verdict::kUnusual ? check_unusual(r, {copy.get(), frame.size()}, unusual, datagram) : checked;
}

TEST(FrameCheck, a_plain_datagram_is_found_with_its_addresses_and_payload) {
  const Frame frame = make_frame(100);
  Datagram datagram;
  ASSERT_EQ(check_frame(rules(), frame, datagram).verdict, Verdict::kDatagram);
  EXPECT_EQ(datagram.source, (wire::UdpEndpoint{0x0A000002, 7}));
  EXPECT_EQ(datagram.destination, (wire::UdpEndpoint{0x0A000001, 9}));
  EXPECT_EQ(datagram.payload.size(), 100U);
  EXPECT_EQ(datagram.payload.data(), frame.data() + 42);
  EXPECT_EQ(datagram.packet.size(), 128U);
}

TEST(FrameCheck, ethernet_padding_is_no_payload) {
  Frame frame = make_frame(4);
  frame.resize(60);
  Datagram datagram;
  ASSERT_EQ(check_frame(rules(), frame, datagram).verdict, Verdict::kDatagram);
  EXPECT_EQ(datagram.payload.size(), 4U);
}

TEST(FrameCheck, ip_options_take_the_general_path_to_the_same_datagram) {
  Frame frame = make_frame(32);
  Frame options(4, std::byte{1});   // NOPs
  frame.insert(frame.begin() + 34, options.begin(), options.end());
  frame[14] = std::byte{0x46};
  store_be16(frame.data() + 16, 20 + 4 + 8 + 32);
  store_be16(frame.data() + 24, 0);
  store_be16(frame.data() + 24, wire::checksum_fold(wire::checksum_add({frame.data() + 14, 24}, 0)));
  Datagram datagram;
  EXPECT_EQ(check_frame(rules(), frame, datagram).verdict, Verdict::kUnusual);
  Unusual unusual;
  ASSERT_EQ(check_unusual(rules(), frame, unusual, datagram).verdict, Verdict::kDatagram);
  EXPECT_EQ(datagram.payload.size(), 32U);
  EXPECT_EQ(datagram.payload.data(), frame.data() + 46);
}

// Handles of IPv6 addresses are numbers of 240.0.0.0/4: on a wire nobody may use them.
TEST(FrameCheck, nobody_passes_for_an_ipv6_host) {
  for (const std::size_t at : {std::size_t{26}, std::size_t{30}}) {   // source, destination
    Frame frame = make_frame(64);
    store_be32(frame.data() + at, wire::kLoopbackIpv6);
    store_be16(frame.data() + 24, 0);
    store_be16(frame.data() + 24, wire::checksum_fold(wire::checksum_add({frame.data() + 14, 20}, 0)));
    FrameRules sockets = rules();
    sockets.verifies_udp_checksum = false;
    EXPECT_EQ(check(sockets, frame).reason, shm::LaneCounter::kDropBadIpHeader);
    sockets.takes_handles = true;
    EXPECT_EQ(check(sockets, frame).verdict, Verdict::kDatagram) << "the port made it";
  }
}

TEST(FrameCheck, a_tag_must_be_the_ports) {
  FrameRules tagged = rules();
  tagged.vlan = 5;
  EXPECT_EQ(check(tagged, make_frame(64, 5)).verdict, Verdict::kDatagram);
  EXPECT_EQ(check(tagged, make_frame(64, 6)).reason, shm::LaneCounter::kDropVlan);
  EXPECT_EQ(check(tagged, make_frame(64)).reason, shm::LaneCounter::kDropVlan);
  EXPECT_EQ(check(rules(), make_frame(64, 5)).reason, shm::LaneCounter::kDropVlan);
  EXPECT_EQ(check(rules(), make_frame(64, 0)).verdict, Verdict::kDatagram) << "a priority tag is no VLAN";
}

TEST(FrameCheck, a_port_without_a_mac_takes_any) {
  FrameRules any = rules();
  any.checks_mac = false;
  Frame frame = make_frame(10);
  std::memset(frame.data(), 0, 12);
  EXPECT_EQ(check(any, frame).verdict, Verdict::kDatagram);
}

TEST(FrameCheck, an_ip_checksum_is_right_or_wrong_as_the_general_sum_says) {
  Random random{4};
  for (int i = 0; i < 100'000; ++i) {
    std::byte header[20];
    for (std::byte& each : header) each = static_cast<std::byte>(random.below(4) == 0 ? 0xFF * random.below(2) : random.next());
    if (i % 2 == 0) {
      store_be16(header + 10, 0);
      store_be16(header + 10, wire::checksum_fold(wire::checksum_add(header, 0)));
    }
    const bool is_right = wire::checksum_fold(wire::checksum_add(header, 0)) == 0;
    ASSERT_EQ(is_ipv4_checksum_right(header), is_right) << i;
  }
}

TEST(FrameCheck, every_cut_and_every_flipped_bit_of_the_headers_ends_in_a_verdict) {
  FrameRules strict = rules();
  strict.verifies_udp_checksum = true;
  Frame good = make_frame(64);
  const wire::UdpFrameTemplate header{
      {.source_mac = kPeerMac, .destination_mac = kOurMac, .source = {0x0A000002, 7}, .destination = {0x0A000001, 9}, .ttl = 64, .vlan = {}}};
  header.write_udp_checksum(good.data(), 64);
  ASSERT_EQ(check(strict, good).verdict, Verdict::kDatagram);
  for (std::size_t length = 0; length < good.size(); ++length) {
    EXPECT_EQ(check(strict, Frame(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length))).verdict, Verdict::kDropped) << length;
  }
  for (std::size_t bit = 14 * 8; bit < good.size() * 8; ++bit) {
    Frame bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    EXPECT_EQ(check(strict, bad).verdict, Verdict::kDropped) << "bit " << bit;
  }
}

TEST(FrameCheck, random_bytes_never_lead_outside_the_frame) {
  Random random{6};
  for (int i = 0; i < 50'000; ++i) {
    Frame frame = make_frame(random.below(80), random.below(3) == 0 ? std::optional<std::uint16_t>{5} : std::nullopt);
    for (std::uint64_t n = random.below(5); n > 0; --n) frame[random.below(frame.size())] = static_cast<std::byte>(random.next());
    frame.resize(random.below(frame.size() + 1));
    if (frame.empty()) continue;
    static_cast<void>(check(rules(), frame));
  }
}

}  // namespace
}  // namespace thalweg::core
