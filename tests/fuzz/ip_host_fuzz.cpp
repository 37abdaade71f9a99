// The receive path's frame check and the IP host behind it, fed a sequence of frames and ticks: bytes drive a stateful conversation.
#include "dataplane/core/ip_host.hpp"

#include <memory>
#include <vector>

#include "dataplane/core/frame_check.hpp"
#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
using namespace core;
constexpr wire::MacAddress kMac{{0x02, 0, 0, 0, 0, 1}};
constexpr std::uint32_t kAddress = 0x0A010001;
constexpr wire::Ipv6Address kAddress6{{0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};

// Frames that wait are handles that are never looked into; here they are numbers.
struct Output final : IpHost::Output {
  void send_frame(Bytes frame) noexcept override {
    require(frame.size() >= wire::kEthernetHeaderLength && frame.size() <= 1518, "an answer is a frame of sensible length");
    require(wire::EthernetView::parse(frame).has_value(), "an answer is a frame");
  }
  void release(rte_mbuf*, const wire::MacAddress&) noexcept override { --held; }
  void discard(rte_mbuf*) noexcept override { --held; }
  int held{};
};

struct World {
  World(bool has_vlan, bool verifies, bool has_ipv6)
      : book{has_ipv6 ? std::make_unique<shm::AddressBook>() : nullptr},
        host{IpHost::Options{.mac = kMac,
                             .address = kAddress,
                             .prefix_length = 24,
                             .vlan = has_vlan ? std::optional<std::uint16_t>{7} : std::nullopt,
                             .igmp = {},
                             .address6 = has_ipv6 ? enter(kAddress6) : 0,
                             .prefix_length6 = 64,
                             .book = book.get()},
             output} {
    rules.mac = mac_word(kMac);
    rules.address = kAddress;
    rules.address6 = host.options().address6;
    rules.vlan = has_vlan ? 7 : 0;
    rules.checks_mac = true;
    rules.verifies_udp_checksum = verifies;
  }

  std::uint32_t enter(const wire::Ipv6Address& address) { return book->enter({address, 0}, shm::AddressBook::By::kNamed, now_ns); }
  // One of a few neighbours, or groups.
  std::uint32_t neighbour6(std::uint8_t which) {
    wire::Ipv6Address address = kAddress6;
    address.bytes[15] = which;
    return enter(address);
  }
  std::uint32_t group6(std::uint8_t which) { return enter(wire::Ipv6Address{{0xFF, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, static_cast<std::uint8_t>(2 * (which & 7U) + 1)}}); }

  void receive(Bytes frame) {
    Datagram datagram;
    Checked checked = check_frame(rules, frame, datagram);
    Unusual unusual;
    if (checked.verdict == Verdict::kUnusual) checked = check_unusual(rules, frame, unusual, datagram);
    if (checked.verdict == Verdict::kDatagram) {
      const Bytes payload = datagram.payload;
      require(payload.empty() || (payload.data() >= frame.data() && payload.data() + payload.size() <= frame.data() + frame.size()),
              "the payload lies in the frame");
      if (const auto ethernet = wire::EthernetView::parse(frame)) host.send_port_unreachable(*ethernet, datagram.packet, now_ns);
      return;
    }
    if (checked.verdict != Verdict::kUnusual) return;
    if (unusual.ethernet.type == wire::kEtherTypeArp) host.on_arp(unusual.rest, now_ns);
    if (unusual.ethernet.type == wire::kEtherTypeIpv6) receive6(unusual);
    if (unusual.ethernet.type != wire::kEtherTypeIpv4) return;
    const wire::Ipv4View ip = wire::Ipv4View::parse(unusual.rest);
    if (ip.protocol == wire::kIpProtocolIcmp) host.on_icmp(unusual.ethernet, ip, now_ns);
    if (ip.protocol == wire::kIpProtocolIgmp) host.on_igmp(ip, now_ns);
  }

  // Mutations seldom hit a checksum: every ICMPv6 message comes with a right one, too.
  void receive6(const Unusual& unusual) {
    const GuardedMemory copy{unusual.rest};
    const wire::Ipv6View ip = wire::Ipv6View::parse(copy.bytes());
    if (ip.bad != wire::Ipv6View::Bad::kNone) return;
    host.send_port_unreachable(unusual.ethernet, copy.bytes(), now_ns);
    host.on_icmpv6(unusual.ethernet, ip, now_ns);
    if (ip.next_header != wire::kIpProtocolIcmpv6 || ip.payload.size() < wire::kIcmpv6HeaderLength) return;
    wire::finish_icmpv6(copy.data() + (ip.payload.data() - copy.data()), ip.payload.size(), ip.source, ip.destination);
    host.on_icmpv6(unusual.ethernet, ip, now_ns);
  }

  // An IGMP message with a right checksum, so that mutations reach the state machine behind it.
  void igmp(Input& in) {
    std::vector<std::byte> message(in.choice(2) == 0 ? 8 : 8 + in.byte() % 32);
    for (std::byte& b : message) b = std::byte{in.byte()};
    message[0] = std::byte{in.choice(4) == 0 ? wire::IgmpView::kReportV2 : wire::IgmpView::kQuery};
    store_be32(message.data() + 4, in.choice(2) == 0 ? 0U : 0xE0000100U | (in.byte() & 7U));
    store_be16(message.data() + 2, 0);
    store_be16(message.data() + 2, wire::checksum_fold(wire::checksum_add(message, 0)));
    wire::Ipv4View ip;
    ip.ttl = 1;
    ip.destination = in.choice(2) == 0 ? IgmpHost::kAllHosts : load_be32(message.data() + 4);
    ip.payload = message;
    host.on_igmp(ip, now_ns);
  }

  Output output;
  std::int64_t now_ns{1'000'000'000};
  std::unique_ptr<shm::AddressBook> book;
  IpHost host;
  FrameRules rules;
};
}  // namespace

void run(Bytes input) {
  Input in{input};
  const std::uint8_t options = in.byte();
  const bool has_ipv6 = (options & 4U) != 0;
  World world{(options & 1U) != 0, (options & 2U) != 0, has_ipv6};
  while (!in.is_empty()) {
    switch (in.choice(has_ipv6 ? 14 : 9)) {
      case 0:
      case 1: {
        const GuardedMemory frame{in.long_slice()};
        world.receive(frame.bytes());
        break;
      }
      case 2: static_cast<void>(world.host.resolve(0x0A010000U | in.byte(), world.now_ns)); break;
      case 3:
        if (world.host.hold(0x0A010000U | in.byte(), reinterpret_cast<rte_mbuf*>(std::uintptr_t{64}))) ++world.output.held;
        break;
      // A handful of groups, so that queries and reports that the corpus mutates into meet them.
      case 5: static_cast<void>(world.host.join(0xE0000100U | (in.byte() & 7U), world.now_ns)); break;
      case 6: world.host.leave(0xE0000100U | (in.byte() & 7U), world.now_ns); break;
      case 7: world.igmp(in); break;
      case 4: world.now_ns += std::int64_t{in.take<std::uint16_t>()} * 10'000'000; break;
      case 9: static_cast<void>(world.host.resolve(world.neighbour6(in.byte()), world.now_ns)); break;
      case 10:
        if (world.host.hold(world.neighbour6(in.byte()), reinterpret_cast<rte_mbuf*>(std::uintptr_t{64}))) ++world.output.held;
        break;
      case 11: static_cast<void>(world.host.join(world.group6(in.byte()), world.now_ns)); break;
      case 12: world.host.leave(world.group6(in.byte()), world.now_ns); break;
      case 13: world.host.announce(world.now_ns); break;
      default: world.host.tick(world.now_ns); break;
    }
  }
  world.host.discard_all();
  require(world.output.held == 0, "every frame that waited was given back");
}

}  // namespace thalweg::fuzz
