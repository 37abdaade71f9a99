// Datagrams from fragments: any order, and what hostile ones cannot do.
#include "dataplane/core/reassembly.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "dataplane/base/random.hpp"

namespace thalweg::core {
namespace {

using Bytes = std::vector<std::byte>;
using Fate = Reassembly::Fate;

constexpr wire::MacAddress kMac{{2, 0, 0, 0, 0, 1}};
constexpr std::uint32_t kSource = 0x0A000002;
constexpr std::uint32_t kDestination = 0x0A000001;

// Buffers that are counted; a handle is the address of the memory.
class Heap final : public Reassembly::Buffers {
 public:
  Reassembly::Buffer take() noexcept override {
    if (used.size() == limit) return {};
    auto memory = std::make_unique<std::byte[]>(Reassembly::kFrameMax);
    std::byte* const bytes = memory.get();
    auto* const frame = reinterpret_cast<rte_mbuf*>(bytes);
    used.emplace(frame, std::move(memory));
    return {frame, bytes};
  }
  void give_back(rte_mbuf* frame) noexcept override { EXPECT_EQ(used.erase(frame), 1U) << "given back twice"; }
  std::map<rte_mbuf*, std::unique_ptr<std::byte[]>> used;
  std::size_t limit{1'000};
};

struct Piece {
  std::size_t offset{};
  std::size_t length{};
  bool has_more{};
};

class Fragments : public ::testing::Test {
 protected:
  static Bytes make_payload(std::size_t length, std::uint64_t seed = 1) {
    Random random{seed};
    Bytes payload(length);
    for (std::byte& b : payload) b = static_cast<std::byte>(random.next());
    return payload;
  }
  // A frame with some of the bytes of `payload`.
  static Bytes frame_of(const Bytes& payload, const Piece& piece, std::uint16_t identification = 7, std::uint32_t source = kSource) {
    Bytes frame(wire::kEthernetHeaderLength + wire::kIpv4HeaderLength + piece.length);
    wire::build_ethernet(frame.data(), kMac, kMac, wire::kEtherTypeIpv4);
    std::byte* const ip = frame.data() + wire::kEthernetHeaderLength;
    wire::build_ipv4(ip, wire::kIpProtocolUdp, 64, source, kDestination, piece.length, false);
    store_be16(ip + 4, identification);
    store_be16(ip + 6, static_cast<std::uint16_t>(piece.offset / 8 | (piece.has_more ? 0x2000 : 0)));
    store_be16(ip + 10, 0);
    store_be16(ip + 10, wire::checksum_fold(wire::checksum_add({ip, wire::kIpv4HeaderLength}, 0)));
    std::copy_n(payload.data() + std::min(piece.offset, payload.size() - piece.length), piece.length, ip + wire::kIpv4HeaderLength);
    return frame;
  }
  Reassembly::Answer add(const Bytes& frame) {
    const auto ethernet = wire::EthernetView::parse(frame);
    const auto ip = wire::Ipv4View::parse(std::span{frame}.subspan(ethernet->header_length));
    EXPECT_EQ(ip.bad, wire::Ipv4View::Bad::kNone);
    return reassembly.add(frame, *ethernet, ip, now_ns);
  }
  Fate fate(const Piece& piece, std::uint16_t identification = 7, std::uint32_t source = kSource) {
    return add(frame_of(payload, piece, identification, source)).fate;
  }
  static std::vector<Piece> cut(std::size_t length, std::size_t piece) {
    std::vector<Piece> pieces;
    for (std::size_t at = 0; at < length; at += piece) pieces.push_back({at, std::min(piece, length - at), at + piece < length});
    return pieces;
  }
  void expect_whole(const Reassembly::Answer& answer, const Bytes& expected) {
    ASSERT_EQ(answer.fate, Fate::kComplete);
    const auto ip = wire::Ipv4View::parse(answer.bytes.subspan(answer.header_length));
    ASSERT_EQ(ip.bad, wire::Ipv4View::Bad::kNone);
    EXPECT_FALSE(ip.is_fragment);
    EXPECT_EQ(ip.source, kSource);
    EXPECT_EQ(ip.destination, kDestination);
    EXPECT_TRUE(std::equal(ip.payload.begin(), ip.payload.end(), expected.begin(), expected.end()));
    heap.give_back(answer.frame);
  }

  Bytes payload{make_payload(8'000)};
  Heap heap;
  Reassembly reassembly{heap};
  std::int64_t now_ns{1'000'000'000};
};

TEST_F(Fragments, make_their_datagram_in_every_order) {
  std::mt19937 shuffler{1};
  for (const std::size_t length : {264U, 1'481U, 3'000U, 8'000U, 65'292U}) {
    const Bytes whole = make_payload(length, length);
    for (int round = 0; round < 5; ++round) {
      std::vector<Piece> pieces = cut(length, length < 1'000 ? 256 : 1'480);
      if (round > 0) std::shuffle(pieces.begin(), pieces.end(), shuffler);
      for (std::size_t i = 0; i + 1 < pieces.size(); ++i) ASSERT_EQ(add(frame_of(whole, pieces[i])).fate, Fate::kKept) << length;
      expect_whole(add(frame_of(whole, pieces.back())), whole);
    }
  }
  EXPECT_TRUE(heap.used.empty());
  EXPECT_EQ(reassembly.given_up(), 0U);
}

TEST_F(Fragments, of_several_datagrams_are_kept_apart_by_sender_and_identification) {
  const Bytes other = make_payload(2'000, 2);
  EXPECT_EQ(add(frame_of(payload, {0, 1'480, true}, 7)).fate, Fate::kKept);
  EXPECT_EQ(add(frame_of(other, {0, 1'480, true}, 8)).fate, Fate::kKept);
  EXPECT_EQ(add(frame_of(other, {0, 1'480, true}, 7, kSource + 1)).fate, Fate::kKept);
  expect_whole(add(frame_of(other, {1'480, 520, false}, 8)), other);
  EXPECT_EQ(heap.used.size(), 2U);
}

TEST_F(Fragments, that_come_twice_are_told_and_change_nothing) {
  EXPECT_EQ(fate({0, 4'000, true}), Fate::kKept);
  Bytes forged = frame_of(payload, {0, 4'000, true});
  forged.back() ^= std::byte{1};
  EXPECT_EQ(add(forged).fate, Fate::kRepeated);
  EXPECT_EQ(fate({256, 512, true}), Fate::kRepeated);
  expect_whole(add(frame_of(payload, {4'000, 4'000, false})), payload);
}

struct Contradiction {
  const char* name;
  std::vector<Piece> before;
  Piece then;
};
class Contradictions : public Fragments, public ::testing::WithParamInterface<Contradiction> {};
TEST_P(Contradictions, end_their_datagram) {
  for (const Piece& piece : GetParam().before) ASSERT_EQ(fate(piece), Fate::kKept);
  EXPECT_EQ(fate(GetParam().then), Fate::kBad);
  EXPECT_TRUE(heap.used.empty());
  EXPECT_EQ(reassembly.given_up(), 1U);
}
INSTANTIATE_TEST_SUITE_P(All, Contradictions,
                         ::testing::Values(Contradiction{"overlap_behind", {{0, 1'024, true}}, {1'016, 1'024, true}},
                                           Contradiction{"overlap_in_front", {{1'024, 1'024, true}}, {512, 1'024, true}},
                                           Contradiction{"cover", {{512, 256, true}}, {0, 2'048, true}},
                                           Contradiction{"two_ends", {{1'024, 100, false}}, {2'048, 100, false}},
                                           Contradiction{"an_end_in_front_of_what_is_there", {{4'096, 256, true}}, {1'024, 100, false}},
                                           Contradiction{"more_behind_the_end", {{1'024, 100, false}}, {1'128, 256, true}},
                                           Contradiction{"more_up_to_the_end", {{1'024, 256, false}}, {768, 512, true}}),
                         [](const auto& tested) { return std::string{tested.param.name}; });

TEST_F(Fragments, of_impossible_lengths_take_no_memory) {
  EXPECT_EQ(fate({0, 257, true}), Fate::kBad) << "no multiple of 8";
  EXPECT_EQ(fate({0, 248, true}), Fate::kBad) << "tiny";
  EXPECT_EQ(fate({8, 0, false}), Fate::kBad) << "empty";
  EXPECT_EQ(fate({65'528, 1'000, false}), Fate::kBad) << "the ping of death";
  EXPECT_EQ(fate({65'280, 13, false}), Fate::kBad) << "one byte more than a buffer holds";
  EXPECT_TRUE(heap.used.empty());
  EXPECT_EQ(fate({65'280, 12, false}), Fate::kKept);
}

TEST_F(Fragments, that_wait_too_long_are_given_up) {
  EXPECT_EQ(fate({0, 4'000, true}), Fate::kKept);
  now_ns += Reassembly::kPatience_ns;
  reassembly.tick(now_ns);
  EXPECT_EQ(heap.used.size(), 1U);
  reassembly.tick(now_ns + 1);
  EXPECT_TRUE(heap.used.empty());
  EXPECT_EQ(reassembly.given_up(), 1U);
}

TEST_F(Fragments, of_a_reused_identification_do_not_meet_old_ones) {
  EXPECT_EQ(fate({0, 4'000, true}), Fate::kKept);
  now_ns += Reassembly::kPatience_ns + 1;
  EXPECT_EQ(fate({4'000, 4'000, false}), Fate::kKept) << "the first half is another datagram's";
  expect_whole(add(frame_of(payload, {0, 4'000, true})), payload);
  EXPECT_EQ(reassembly.given_up(), 1U);
}

TEST_F(Fragments, of_more_datagrams_than_there_is_room_for_push_out_the_oldest) {
  for (std::uint16_t i = 0; i < 3 * Reassembly::kDatagramsMax; ++i, ++now_ns) {
    EXPECT_EQ(fate({0, 4'000, true}, i), Fate::kKept);
    EXPECT_LE(heap.used.size(), Reassembly::kDatagramsMax);
  }
  EXPECT_EQ(reassembly.given_up(), 2 * Reassembly::kDatagramsMax);
  expect_whole(add(frame_of(payload, {4'000, 4'000, false}, 3 * Reassembly::kDatagramsMax - 1)), payload);
  EXPECT_EQ(fate({4'000, 4'000, false}, 0), Fate::kKept) << "its first half is gone";
}

TEST_F(Fragments, without_a_buffer_are_refused_and_the_next_ones_are_not) {
  heap.limit = 0;
  EXPECT_EQ(fate({0, 4'000, true}), Fate::kNoBuffer);
  heap.limit = 1;
  EXPECT_EQ(fate({0, 4'000, true}), Fate::kKept);
  expect_whole(add(frame_of(payload, {4'000, 4'000, false})), payload);
}

TEST_F(Fragments, leave_no_buffer_behind) {
  EXPECT_EQ(fate({0, 4'000, true}, 1), Fate::kKept);
  EXPECT_EQ(fate({0, 4'000, true}, 2), Fate::kKept);
  reassembly.discard_all();
  EXPECT_TRUE(heap.used.empty());
}

}  // namespace
}  // namespace thalweg::core
