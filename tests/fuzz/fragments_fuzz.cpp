// Reassembly of IPv4 fragments against a model that keeps the bytes each datagram's pieces brought: a program of fragments, ticks and shortage.
#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <vector>

#include "dataplane/core/reassembly.hpp"
#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
using core::Reassembly;

constexpr std::size_t kBuffersMax = 40;

// Buffers that end at unreadable pages.
struct Heap final : Reassembly::Buffers {
  Reassembly::Buffer take() noexcept override {
    if (is_short || used.size() == kBuffersMax) return {};
    auto memory = std::make_unique<GuardedMemory>(Reassembly::kFrameMax);
    std::byte* const bytes = memory->data();
    auto* const frame = reinterpret_cast<rte_mbuf*>(bytes);
    used.emplace(frame, std::move(memory));
    return {frame, bytes};
  }
  void give_back(rte_mbuf* frame) noexcept override { require(used.erase(frame) == 1, "a buffer is given back once"); }
  std::map<rte_mbuf*, std::unique_ptr<GuardedMemory>> used;
  bool is_short{};
};

struct World {
  // What is at `at` of the datagram number `number`, whoever sends it.
  static std::byte content(unsigned number, std::size_t at) noexcept { return static_cast<std::byte>(number * 37 + at * 5 + at / 256); }

  void fragment(Input& in) {
    const unsigned number = in.choice(48);   // more than are kept at once
    const std::size_t offset = std::size_t{8} * (in.flag() ? in.take<std::uint16_t>() & 0x1FFF : std::size_t{32} * in.choice(64));
    const std::size_t length = in.flag() ? in.take<std::uint16_t>() % 2'048 : std::size_t{256} * (1 + in.choice(4));
    const bool has_more = in.choice(4) != 0;
    const bool has_tag = in.choice(8) == 0;
    std::vector<std::byte> bytes(wire::kEthernetHeaderLength + (has_tag ? wire::kVlanTagLength : 0) + wire::kIpv4HeaderLength + length);
    wire::build_ethernet(bytes.data(), {}, {}, has_tag ? wire::kEtherTypeVlan : wire::kEtherTypeIpv4);
    if (has_tag) store_be16(bytes.data() + 16, wire::kEtherTypeIpv4);
    std::byte* const ip = bytes.data() + bytes.size() - length - wire::kIpv4HeaderLength;
    wire::build_ipv4(ip, wire::kIpProtocolUdp, 64, 0x0A000000 + number % 3, 0x0A000001, length, false);
    store_be16(ip + 4, static_cast<std::uint16_t>(number / 3));
    store_be16(ip + 6, static_cast<std::uint16_t>(offset / 8 | (has_more ? 0x2000U : 0U)));
    store_be16(ip + 10, 0);
    store_be16(ip + 10, wire::checksum_fold(wire::checksum_add({ip, wire::kIpv4HeaderLength}, 0)));
    for (std::size_t i = 0; i < length; ++i) ip[wire::kIpv4HeaderLength + i] = content(number, offset + i);
    const GuardedMemory frame{Bytes{bytes}};
    receive(number, frame.bytes());
  }
  void receive(unsigned number, Bytes frame) {
    const auto ethernet = wire::EthernetView::parse(frame);
    if (!ethernet || ethernet->type != wire::kEtherTypeIpv4) return;
    const wire::Ipv4View ip = wire::Ipv4View::parse(frame.subspan(ethernet->header_length));
    if (ip.bad != wire::Ipv4View::Bad::kNone || !ip.is_fragment) return;
    const Reassembly::Answer answer = reassembly.add(frame, *ethernet, ip, now_ns);
    if (answer.fate != Reassembly::Fate::kComplete) {
      require(answer.frame == nullptr, "only what is complete is handed out");
      return;
    }
    const wire::Ipv4View whole = wire::Ipv4View::parse(answer.bytes.subspan(answer.header_length));
    require(whole.bad == wire::Ipv4View::Bad::kNone && !whole.is_fragment, "the whole is a good packet");
    for (std::size_t i = 0; i < whole.payload.size(); ++i) require(whole.payload[i] == content(number, i), "every byte is that of its own datagram and place");
    heap.give_back(answer.frame);
  }

  Heap heap;
  Reassembly reassembly{heap};
  std::int64_t now_ns{1'000'000'000};
};
}  // namespace

void run(Bytes input) {
  World world;
  Input in{input};
  while (!in.is_empty()) {
    switch (in.choice(8)) {
      case 0: world.now_ns += std::int64_t{in.byte()} * 2'000'000; break;
      case 1: world.reassembly.tick(world.now_ns); break;
      case 2: world.heap.is_short = in.choice(4) == 0; break;
      default: world.fragment(in); break;
    }
    require(world.heap.used.size() <= Reassembly::kDatagramsMax, "the memory is bounded");
  }
  world.reassembly.discard_all();
  require(world.heap.used.empty(), "every buffer was given back");
}

}  // namespace thalweg::fuzz
