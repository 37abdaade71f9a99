// A frame that is like the last good one is the same to the lane as one that was checked; every other one is looked at properly.
#include "dataplane/core/flow_cache.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "dataplane/core/streams.hpp"

namespace thalweg::core {
namespace {

constexpr std::size_t kPayload = 96;

// A packet buffer whose frame ends where its memory ends.
struct Packet {
  explicit Packet(const std::vector<std::byte>& frame) : memory(frame) {
    mbuf.buf_addr = memory.data();
    mbuf.data_off = 0;
    mbuf.nb_segs = 1;
    mbuf.data_len = static_cast<std::uint16_t>(memory.size());
    mbuf.pkt_len = static_cast<std::uint32_t>(memory.size());
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return memory; }
  std::vector<std::byte> memory;
  std::unique_ptr<rte_mbuf> owned{new rte_mbuf{}};   // a member of its type would be a zero-size array to the compiler
  rte_mbuf& mbuf{*owned};
};

std::vector<std::byte> make_frame(std::size_t payload, std::optional<std::uint16_t> vlan = {}) {
  const wire::UdpFrameTemplate header{{.source_mac = {{2, 0, 0, 0, 0, 2}},
                                       .destination_mac = {{2, 0, 0, 0, 0, 1}},
                                       .source = {0x0A000002, 7},
                                       .destination = {0x0A000001, 9},
                                       .ttl = 64,
                                       .vlan = vlan}};
  std::vector<std::byte> frame(sizeof(wire::UdpFrameTemplate) + payload);
  header.write(frame.data(), payload);
  frame.resize(header.length() + payload);
  return frame;
}

class FlowCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    rules_.mac = mac_word({{2, 0, 0, 0, 0, 1}});
    rules_.address = 0x0A000001;
    rules_.checks_mac = true;
    Datagram datagram;
    ASSERT_EQ(check_frame(rules_, first_.bytes(), datagram).verdict, Verdict::kDatagram);
    cache_.keep(rules_, first_.mbuf, datagram, endpoint_);
  }
  [[nodiscard]] Endpoint* find(const Packet& packet) {
    const Datagram* const found = cache_.find(rules_, packet.mbuf);
    datagram_ = found == nullptr ? Datagram{} : *found;
    return found == nullptr ? nullptr : &cache_.endpoint();
  }
  FrameRules rules_;
  Packet first_{make_frame(kPayload)};
  Endpoint endpoint_;
  FlowCache cache_;
  Datagram datagram_;
};

TEST_F(FlowCacheTest, the_same_headers_give_the_same_datagram) {
  Packet packet{make_frame(kPayload)};
  packet.memory.back() = std::byte{7};   // the payload is the stream's to judge
  ASSERT_EQ(find(packet), &endpoint_);
  Datagram checked;
  ASSERT_EQ(check_frame(rules_, packet.bytes(), checked).verdict, Verdict::kDatagram);
  EXPECT_EQ(datagram_.source, checked.source);
  EXPECT_EQ(datagram_.destination, checked.destination);
  EXPECT_EQ(datagram_.payload.data(), checked.payload.data());
  EXPECT_EQ(datagram_.payload.size(), checked.payload.size());
  EXPECT_EQ(datagram_.packet.data(), checked.packet.data());
  EXPECT_EQ(datagram_.packet.size(), checked.packet.size());
}

TEST_F(FlowCacheTest, any_bit_of_the_headers_makes_it_another_flow) {
  for (std::size_t bit = 0; bit < 8 * 40; ++bit) {
    Packet packet{make_frame(kPayload)};
    packet.memory[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    ASSERT_EQ(find(packet), nullptr) << "bit " << bit;
  }
}

TEST_F(FlowCacheTest, a_frame_that_was_cut_is_not_known) {
  for (const std::size_t length : {0UL, 14UL, 41UL, 42UL, 42 + kPayload - 1}) {
    std::vector<std::byte> cut = make_frame(kPayload);
    cut.resize(length);
    ASSERT_EQ(find(Packet{cut}), nullptr) << length;
  }
}

TEST_F(FlowCacheTest, ethernet_padding_behind_the_datagram_is_no_payload) {
  std::vector<std::byte> padded = make_frame(kPayload);
  padded.resize(padded.size() + 6);
  const Packet packet{padded};
  ASSERT_EQ(find(packet), &endpoint_);
  EXPECT_EQ(datagram_.payload.size(), kPayload);
}

TEST_F(FlowCacheTest, a_chain_of_buffers_is_looked_at_properly) {
  Packet packet{make_frame(kPayload)};
  packet.mbuf.nb_segs = 2;
  EXPECT_EQ(find(packet), nullptr);
}

TEST_F(FlowCacheTest, a_checksum_that_is_to_be_verified_is_verified_elsewhere) {
  Packet packet{make_frame(kPayload)};
  packet.memory[40] = std::byte{0x12};
  EXPECT_EQ(find(packet), &endpoint_) << "this port does not verify";
  rules_.verifies_udp_checksum = true;
  EXPECT_EQ(find(packet), nullptr);
  EXPECT_EQ(find(first_), &endpoint_) << "none was sent";
}

TEST_F(FlowCacheTest, another_port_and_a_closed_endpoint_are_not_known) {
  const FrameRules other = rules_;
  EXPECT_EQ(cache_.find(other, first_.mbuf), nullptr);
  cache_.forget();
  EXPECT_EQ(find(first_), nullptr);
}

TEST_F(FlowCacheTest, one_stranger_does_not_take_the_place_of_a_stream_and_two_in_a_row_do) {
  const Packet stranger{make_frame(2 * kPayload)};
  Endpoint other;
  const auto meet_stranger = [&] {
    ASSERT_EQ(cache_.find(rules_, stranger.mbuf), nullptr);
    Datagram datagram;
    ASSERT_EQ(check_frame(rules_, stranger.bytes(), datagram).verdict, Verdict::kDatagram);
    cache_.keep(rules_, stranger.mbuf, datagram, other);
  };
  for (int i = 0; i < 3; ++i) {
    meet_stranger();
    ASSERT_EQ(find(first_), &endpoint_);
    ASSERT_EQ(datagram_.payload.size(), kPayload);
  }
  meet_stranger();
  meet_stranger();
  EXPECT_EQ(find(first_), nullptr);
  EXPECT_EQ(find(stranger), &other);
}

TEST_F(FlowCacheTest, frames_with_a_tag_are_not_kept) {
  const Packet tagged{make_frame(kPayload, 5)};
  FrameRules rules = rules_;
  rules.vlan = 5;
  Datagram datagram;
  Unusual unusual;
  ASSERT_EQ(check_unusual(rules, tagged.bytes(), unusual, datagram).verdict, Verdict::kDatagram);
  FlowCache cache;
  cache.keep(rules, tagged.mbuf, datagram, endpoint_);
  EXPECT_EQ(cache.find(rules, tagged.mbuf), nullptr);
}

}  // namespace
}  // namespace thalweg::core
