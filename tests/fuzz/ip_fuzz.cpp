// Ethernet, VLAN, ARP, IPv4, ICMP, UDP and IGMP from one received frame, layer by layer, and each parser alone on the same bytes.
#include "dataplane/wire/ip.hpp"

#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
using namespace wire;

bool lies_in(Bytes inner, Bytes outer) {
  return inner.empty() || (inner.data() >= outer.data() && inner.data() + inner.size() <= outer.data() + outer.size());
}

void parse_transport(Bytes payload) {
  if (const auto udp = UdpView::parse(payload)) require(lies_in(udp->payload, payload), "UDP payload lies in the packet");
  if (const auto icmp = IcmpView::parse(payload)) require(lies_in(icmp->rest, payload), "ICMP rest lies in the packet");
  static_cast<void>(IgmpView::parse(payload));
  if (payload.size() >= kUdpHeaderLength) require(udp_checksum(1, 2, payload) != 0, "a UDP checksum is never sent as 0");
}

void parse_ip(Bytes packet) {
  const Ipv4View ip = Ipv4View::parse(packet);
  if (ip.bad != Ipv4View::Bad::kNone) return;
  require(lies_in(ip.payload, packet), "IP payload lies in the packet");
  parse_transport(ip.payload);
}
}  // namespace

void run(Bytes input) {
  if (const auto ethernet = EthernetView::parse(input)) {
    require(ethernet->header_length <= input.size(), "the Ethernet header lies in the frame");
    const Bytes rest = input.subspan(ethernet->header_length);
    if (ethernet->type == kEtherTypeArp) static_cast<void>(ArpPacket::parse(rest));
    if (ethernet->type == kEtherTypeIpv4) parse_ip(rest);
  }
  static_cast<void>(ArpPacket::parse(input));
  parse_ip(input);
  parse_transport(input);
}

}  // namespace thalweg::fuzz
