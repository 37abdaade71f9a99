#include "dataplane/core/frame_check.hpp"

#include "dataplane/wire/ipv6.hpp"

namespace thalweg::core {

Checked check_unusual(const FrameRules& rules, std::span<const std::byte> frame, Unusual& unusual, Datagram& datagram) noexcept {
  using enum shm::LaneCounter;
  const auto ethernet = wire::EthernetView::parse(frame);
  if (!ethernet) return dropped(kDropNotIp);
  if (rules.checks_mac) {
    if (mac_word(ethernet->destination) != rules.mac && !ethernet->destination.is_multicast()) return dropped(kDropNotOurs);
    if (mac_word(ethernet->source) == rules.mac) return dropped(kDropOwnFrame);
  }
  if (ethernet->vlan.value_or(0) != rules.vlan) return dropped(kDropVlan);  // id 0 is a priority tag: no VLAN (IEEE 802.1Q)
  unusual.ethernet = *ethernet;
  unusual.rest = frame.subspan(ethernet->header_length);
  if (ethernet->type == wire::kEtherTypeArp || (ethernet->type == wire::kEtherTypeIpv6 && rules.address6 != 0)) return Checked{.verdict = Verdict::kUnusual};
  if (ethernet->type != wire::kEtherTypeIpv4) return dropped(kDropNotIp);
  const wire::Ipv4View ip = wire::Ipv4View::parse(unusual.rest);
  if (ip.bad != wire::Ipv4View::Bad::kNone) return dropped(kDropBadIpHeader);
  if (ip.is_fragment) {
    unusual.is_fragment = rules.takes_fragments && ip.protocol == wire::kIpProtocolUdp;
    return unusual.is_fragment ? Checked{.verdict = Verdict::kUnusual} : dropped(kDropIpFragment);
  }
  if (ip.protocol == wire::kIpProtocolUdp) {
    const auto packet_length = static_cast<std::size_t>(ip.payload.data() + ip.payload.size() - unusual.rest.data());
    return check_udp(rules, ip.source, ip.destination, unusual.rest.first(packet_length), ip.payload, datagram);
  }
  if (ip.protocol == wire::kIpProtocolIcmp || ip.protocol == wire::kIpProtocolIgmp) return Checked{.verdict = Verdict::kUnusual};
  return dropped(kDropOtherProtocol);
}

}  // namespace thalweg::core
