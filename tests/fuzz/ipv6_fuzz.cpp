// IPv6, UDP, ICMPv6, neighbour and listener discovery from one received frame, and what we build from what we read.
#include "dataplane/wire/ipv6.hpp"

#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
using namespace wire;

bool lies_in(Bytes inner, Bytes outer) {
  return inner.empty() || (inner.data() >= outer.data() && inner.data() + inner.size() <= outer.data() + outer.size());
}

// What was believed is read back the same when we say it ourselves.
void say_again(const NeighbourMessage& message, const Ipv6View& ip) {
  std::array<std::byte, kIpv6HeaderLength + NeighbourMessage::kLengthWithMac> packet{};
  build_ipv6(packet.data(), kIpProtocolIcmpv6, kHopLimitOnLink, ip.source, ip.destination, message.length(), false);
  build(packet.data() + kIpv6HeaderLength, message, ip.source, ip.destination);
  const Ipv6View again = Ipv6View::parse(Bytes{packet}.first(kIpv6HeaderLength + message.length()));
  require(again.bad == Ipv6View::Bad::kNone, "our packet is good");
  const auto icmp = Icmpv6View::parse(again);
  require(icmp.has_value(), "our checksum is right");
  const auto read = NeighbourMessage::parse(again, *icmp);
  require(read && read->target == message.target && read->mac == message.mac && read->is_override == message.is_override, "what we say is what was said");
}

void parse_icmp(const Ipv6View& ip, const Icmpv6View& icmp, Bytes packet) {
  require(lies_in(icmp.rest, packet), "the ICMPv6 rest lies in the packet");
  if (const auto message = NeighbourMessage::parse(ip, icmp)) {
    require(ip.hop_limit == kHopLimitOnLink && !message->target.is_multicast(), "neighbours are on the link and one station each");
    say_again(*message, ip);
  }
  if (const auto query = ListenerQuery::parse(ip, icmp)) {
    require(ip.has_router_alert && query->max_response_ns >= 0, "queries come from routers of the link");
  }
}

void parse_packet(Bytes packet) {
  const Ipv6View ip = Ipv6View::parse(packet);
  if (ip.bad != Ipv6View::Bad::kNone) return;
  require(lies_in(ip.payload, packet), "the IPv6 payload lies in the packet");
  if (const auto udp = parse_udp(ip)) require(lies_in(udp->payload, packet) && udp->checksum != 0, "UDP lies in the packet and has a checksum");
  if (const auto icmp = Icmpv6View::parse(ip)) parse_icmp(ip, *icmp, packet);
}

// Mutations seldom hit a checksum: with a right one they reach what is behind it.
void parse_with_right_checksum(Bytes input) {
  const GuardedMemory copy{input};
  const Ipv6View ip = Ipv6View::parse(copy.bytes());
  if (ip.bad != Ipv6View::Bad::kNone || ip.next_header != kIpProtocolIcmpv6 || ip.payload.size() < kIcmpv6HeaderLength) return;
  std::byte* const icmp = copy.data() + (ip.payload.data() - copy.data());
  finish_icmpv6(icmp, ip.payload.size(), ip.source, ip.destination);
  require(Icmpv6View::parse(ip).has_value(), "a checksum that we made is right");
  parse_packet(copy.bytes());
}
}  // namespace

void run(Bytes input) {
  if (const auto ethernet = EthernetView::parse(input)) parse_packet(input.subspan(ethernet->header_length));
  parse_packet(input);
  parse_with_right_checksum(input);
  if (input.size() > kEthernetHeaderLength) parse_with_right_checksum(input.subspan(kEthernetHeaderLength));
}

}  // namespace thalweg::fuzz
