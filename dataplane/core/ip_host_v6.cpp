// The IPv6 side of a port's host: neighbours (RFC 4861), listeners (RFC 3810), echo (RFC 4443). What ARP keeps of its neighbours serves here, too:
// the table knows them by their handles.
#include "dataplane/core/ip_host.hpp"

#include <algorithm>

namespace thalweg::core {

namespace {

constexpr std::size_t kEcho6Max = 1452;        // payload of an echo we answer: fits a standard MTU
constexpr std::size_t kRecordsMax = 56;        // of one report: fits the smallest MTU that IPv6 allows, 1280
constexpr std::size_t kMessageMax = std::max(kEcho6Max, wire::listener_report_length(kRecordsMax));
constexpr std::size_t kUnreachableMax = 1232;  // of the datagram quoted: fits the smallest MTU, 1280 (RFC 4443 2.4 c)
constexpr std::size_t kUnreachableHeaderLength = 8;
constexpr std::uint8_t kHopLimit = 64;
constexpr std::uint8_t kCodePortUnreachable6 = 4;

// Handles of groups that are in no book: where neighbours ask for our own addresses. Those of the book end in 1 and 2.
constexpr std::uint32_t kAskedForAddress = wire::kFirstGroupHandle + 3;
constexpr std::uint32_t kAskedForLinkLocal = wire::kFirstGroupHandle + 4;

}  // namespace

bool IpHost::on_icmpv6(const wire::EthernetView& ethernet, const wire::Ipv6View& ip, std::int64_t now_ns) noexcept {
  const auto icmp = options_.address6 == 0 ? std::nullopt : wire::Icmpv6View::parse(ip);
  if (!icmp || ip.source.is_multicast() || is_ours6(ip.source)) return false;   // somebody else claims our address: never believed
  switch (icmp->type) {
    case wire::Icmpv6View::kNeighbourSolicitation:
    case wire::Icmpv6View::kNeighbourAdvertisement: {
      const auto message = wire::NeighbourMessage::parse(ip, *icmp);
      if (!message) return false;
      return message->is_advertisement ? on_advertisement(*message, now_ns) : on_solicitation(ethernet, ip, *message, now_ns);
    }
    case wire::Icmpv6View::kListenerQuery: return on_listener_query(ip, *icmp, now_ns);
    case wire::Icmpv6View::kListenerReport: on_listener_report(ip, *icmp, now_ns); return true;
    case wire::Icmpv6View::kListenerReportV2:
    case wire::Icmpv6View::kListenerDone: return true;   // for routers
    case wire::Icmpv6View::kEchoRequest: return on_echo6(ethernet, ip, now_ns);
    default: return false;
  }
}

// ---- neighbours ----

void IpHost::announce6(std::int64_t now_ns) noexcept {
  if (!has_joined_own_) {
    has_joined_own_ = true;
    mld_.join(kAskedForAddress, now_ns);
    mld_.join(kAskedForLinkLocal, now_ns);
  } else {
    mld_.report_all(now_ns);
  }
  for (const wire::Ipv6Address& own : {address6(), link_local_}) advertise(wire::multicast_mac(wire::kAllNodes), wire::kAllNodes, own, false);
}

bool IpHost::is_on_link6(const wire::Ipv6Address& address) const noexcept {
  if (address.is_unspecified() || address.is_multicast()) return false;
  return address.is_link_local() || wire::is_same_network(address, address6(), options_.prefix_length6);
}

void IpHost::solicit(const Neighbour& neighbour) noexcept {
  const wire::Ipv6Address target = options_.book->address(neighbour.address).address;
  const wire::Ipv6Address source = target.is_link_local() ? link_local_ : address6();
  // A refresh disturbs nobody else.
  const wire::Ipv6Address to = neighbour.is_known ? target : wire::solicited_node_group(target);
  wire::NeighbourMessage message;
  message.target = target;
  message.mac = options_.mac;
  std::array<std::byte, wire::NeighbourMessage::kLengthWithMac> bytes;
  build(bytes.data(), message, source, to);
  send_icmpv6(neighbour.is_known ? neighbour.mac : wire::multicast_mac(to), source, to, wire::kHopLimitOnLink, false, bytes);
  ++statistics_.solicitations;
}

void IpHost::advertise(const wire::MacAddress& to, const wire::Ipv6Address& destination, const wire::Ipv6Address& target, bool is_solicited) noexcept {
  wire::NeighbourMessage message;
  message.is_advertisement = true;
  message.is_solicited = is_solicited;
  message.is_override = true;
  message.target = target;
  message.mac = options_.mac;
  std::array<std::byte, wire::NeighbourMessage::kLengthWithMac> bytes;
  build(bytes.data(), message, target, destination);
  send_icmpv6(to, target, destination, wire::kHopLimitOnLink, false, bytes);
  ++statistics_.advertisements;
}

bool IpHost::on_solicitation(const wire::EthernetView& ethernet, const wire::Ipv6View& ip, const wire::NeighbourMessage& message, std::int64_t now_ns) noexcept {
  if (!is_ours6(message.target)) return false;
  const bool is_probe = ip.source.is_unspecified();   // somebody wants to know whether the address is free: all shall hear that it is not
  if (is_probe) {
    if (!may_answer(nullptr, now_ns)) return true;
    advertise(wire::multicast_mac(wire::kAllNodes), wire::kAllNodes, message.target, false);
    return true;
  }
  Neighbour* neighbour = nullptr;
  if (message.mac && is_on_link6(ip.source)) {
    std::uint32_t handle = options_.book->find({ip.source, 0}, now_ns);
    if (handle == 0 && strangers_.take(now_ns)) handle = options_.book->enter({ip.source, 0}, shm::AddressBook::By::kLearned, now_ns);
    if (handle != 0) neighbour = find(handle);
    if (neighbour == nullptr && handle != 0) neighbour = add(handle, true);   // whoever asks for us will soon be sent to
    if (neighbour != nullptr) learn(*neighbour, *message.mac, now_ns);
  }
  if (may_answer(neighbour, now_ns)) advertise(message.mac.value_or(ethernet.source), ip.source, message.target, true);
  return true;
}

// RFC 4861 7.2.5: of those we asked for, or know. Without override it confirms what we know, and changes nothing.
bool IpHost::on_advertisement(const wire::NeighbourMessage& message, std::int64_t now_ns) noexcept {
  const std::uint32_t handle = options_.book->find({message.target, 0}, now_ns);
  Neighbour* const neighbour = handle == 0 ? nullptr : find(handle);
  if (neighbour == nullptr) return true;
  if (!neighbour->is_known) {
    if (message.mac) learn(*neighbour, *message.mac, now_ns);
    return true;
  }
  const bool is_same = !message.mac || *message.mac == neighbour->mac;
  if (is_same ? message.is_solicited : message.is_override) learn(*neighbour, message.mac.value_or(neighbour->mac), now_ns);
  return true;
}

// ---- listeners ----

wire::Ipv6Address IpHost::group_address(std::uint32_t group) const noexcept {
  if (group == kAskedForAddress) return wire::solicited_node_group(address6());
  if (group == kAskedForLinkLocal) return wire::solicited_node_group(link_local_);
  return options_.book->address(group).address;
}

bool IpHost::on_listener_query(const wire::Ipv6View& ip, const wire::Icmpv6View& icmp, std::int64_t now_ns) noexcept {
  const auto query = wire::ListenerQuery::parse(ip, icmp);
  if (!query) return false;
  IgmpHost::Query asked{0, query->max_response_ns, query->robustness, !query->is_v2};
  if (!query->group.is_unspecified()) {
    for (const std::uint32_t own : {kAskedForAddress, kAskedForLinkLocal}) {
      if (group_address(own) == query->group) asked.group = own;
    }
    if (asked.group == 0) asked.group = options_.book->find({query->group, 0}, now_ns);
    if (asked.group == 0) return true;   // nobody here knows it
  }
  mld_.on_query(asked, now_ns);
  return true;
}

// Of another host: one is enough for a group.
void IpHost::on_listener_report(const wire::Ipv6View& ip, const wire::Icmpv6View& icmp, std::int64_t now_ns) noexcept {
  const auto reported = wire::parse_mld_v1_report(ip, icmp);
  const std::uint32_t group = reported ? options_.book->find({*reported, 0}, now_ns) : 0;
  if (group != 0) mld_.on_older_report(group, now_ns);
}

void IpHost::send_listener_report(wire::IgmpRecord record, std::span<const std::uint32_t> groups) noexcept {
  while (!groups.empty()) {
    std::array<wire::Ipv6Address, kRecordsMax> addresses;
    std::size_t count = 0;
    std::size_t taken = 0;
    for (; taken < groups.size() && count < kRecordsMax; ++taken) {
      const wire::Ipv6Address address = group_address(groups[taken]);
      if (address != wire::kAllNodes) addresses[count++] = address;   // every node is a member, and none says so
    }
    groups = groups.subspan(taken);
    if (count == 0) continue;
    std::array<std::byte, wire::listener_report_length(kRecordsMax)> bytes;
    wire::build_listener_report(bytes.data(), record, {addresses.data(), count}, link_local_);
    send_icmpv6(wire::multicast_mac(wire::kAllMldv2Routers), link_local_, wire::kAllMldv2Routers, 1, true, std::span{bytes}.first(wire::listener_report_length(count)));
  }
}

void IpHost::send_listener_v1(bool is_done, std::uint32_t group) noexcept {
  const wire::Ipv6Address address = group_address(group);
  if (address == wire::kAllNodes) return;
  const wire::Ipv6Address to = is_done ? wire::kAllRouters : address;
  std::array<std::byte, wire::kMldV1Length> bytes;
  wire::build_mld_v1(bytes.data(), is_done ? wire::Icmpv6View::kListenerDone : wire::Icmpv6View::kListenerReport, address, link_local_);
  send_icmpv6(wire::multicast_mac(to), link_local_, to, 1, true, bytes);
}

// ---- echo, and what all have in common ----

bool IpHost::on_echo6(const wire::EthernetView& ethernet, const wire::Ipv6View& ip, std::int64_t now_ns) noexcept {
  const bool is_for_us = is_ours6(ip.destination) && !ethernet.destination.is_multicast();   // no answer to groups
  if (!is_for_us || ip.source.is_unspecified() || ip.payload.size() > kEcho6Max || !icmp_.take(now_ns)) return false;
  std::array<std::byte, kEcho6Max> reply;
  std::memcpy(reply.data(), ip.payload.data(), ip.payload.size());
  store_le(reply.data(), wire::Icmpv6View::kEchoReply);
  wire::finish_icmpv6(reply.data(), ip.payload.size(), ip.destination, ip.source);
  send_icmpv6(ethernet.source, ip.destination, ip.source, kHopLimit, false, std::span{reply}.first(ip.payload.size()));
  ++statistics_.icmp_replies;
  return true;
}

bool IpHost::send_port_unreachable6(const wire::EthernetView& ethernet, std::span<const std::byte> packet, std::int64_t now_ns) noexcept {
  const auto ip = wire::Ipv6View::parse(packet);
  if (options_.address6 == 0 || ip.bad != wire::Ipv6View::Bad::kNone) return false;
  if (!is_ours6(ip.destination) || ethernet.destination.is_multicast() || ip.source.is_unspecified() || ip.source.is_multicast()) return false;
  if (!icmp_.take(now_ns)) return false;
  const auto length = static_cast<std::size_t>(ip.payload.data() + ip.payload.size() - packet.data());   // without the padding of the frame
  const std::size_t quoted = std::min(length, kUnreachableMax);
  std::array<std::byte, kUnreachableHeaderLength + kUnreachableMax> message{};
  store_le(message.data(), wire::Icmpv6View::kUnreachable);
  store_le(message.data() + 1, kCodePortUnreachable6);
  std::memcpy(message.data() + kUnreachableHeaderLength, packet.data(), quoted);
  const auto bytes = std::span{message}.first(kUnreachableHeaderLength + quoted);
  wire::finish_icmpv6(bytes.data(), bytes.size(), ip.destination, ip.source);
  send_icmpv6(ethernet.source, ip.destination, ip.source, kHopLimit, false, bytes);
  ++statistics_.icmp_replies;
  return true;
}

void IpHost::send_icmpv6(const wire::MacAddress& to, const wire::Ipv6Address& source, const wire::Ipv6Address& destination, std::uint8_t hop_limit,
                         bool router_alert, std::span<const std::byte> message) noexcept {
  std::array<std::byte, wire::kEthernetHeaderLength + wire::kVlanTagLength + wire::kIpv6HeaderLength + wire::kRouterAlertLength6 + kMessageMax> frame{};
  std::size_t at = put_ethernet(frame.data(), to, wire::kEtherTypeIpv6);
  at += wire::build_ipv6(frame.data() + at, wire::kIpProtocolIcmpv6, hop_limit, source, destination, message.size(), router_alert);
  std::memcpy(frame.data() + at, message.data(), message.size());
  output_.send_frame({frame.data(), std::max(at + message.size(), kFrameMin)});
}

}  // namespace thalweg::core
