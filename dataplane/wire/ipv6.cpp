#include "dataplane/wire/ipv6.hpp"

#include <arpa/inet.h>

namespace thalweg::wire {
namespace {

constexpr std::uint8_t kHopByHop = 0;
constexpr std::uint8_t kFragment = 44;
constexpr std::uint8_t kNoNextHeader = 59;
constexpr std::uint8_t kOptionPad1 = 0;
constexpr std::uint8_t kOptionPadN = 1;
constexpr std::uint8_t kOptionRouterAlert = 5;       // RFC 2711
constexpr std::uint8_t kOptionSourceMac = 1;         // RFC 4861 4.6
constexpr std::uint8_t kOptionTargetMac = 2;
constexpr std::size_t kMldQueryV1Length = 20;        // behind type, code, checksum
constexpr std::size_t kMldQueryV2Length = 24;

Ipv6Address load_address(const std::byte* p) noexcept {
  Ipv6Address address;
  std::memcpy(address.bytes.data(), p, address.bytes.size());
  return address;
}
void store_address(std::byte* p, const Ipv6Address& address) noexcept { std::memcpy(p, address.bytes.data(), address.bytes.size()); }
std::span<const std::byte> bytes_of(const Ipv6Address& address) noexcept { return std::as_bytes(std::span{address.bytes}); }

// Headers that stand between IPv6 and what we understand (RFC 8200 4, RFC 4302, RFC 7045).
bool is_extension(std::uint8_t next_header) noexcept {
  switch (next_header) {
    case kHopByHop: case 43: case kFragment: case 50: case 51: case 60: case 135: case 139: case 140: case 253: case 254: return true;
    default: return next_header == kNoNextHeader;
  }
}

// A hop-by-hop header with a router alert and padding, nothing else. Its length; 0: not one.
std::size_t router_alert_length(std::span<const std::byte> payload) noexcept {
  if (payload.size() < kRouterAlertLength6) return 0;
  const std::size_t length = 8 * (std::size_t{1} + load_le<std::uint8_t>(payload.data() + 1));
  if (length > payload.size()) return 0;
  bool has_alert = false;
  for (std::size_t at = 2; at < length;) {
    const auto type = load_le<std::uint8_t>(payload.data() + at);
    if (type == kOptionPad1) {
      ++at;
      continue;
    }
    if (at + 2 > length) return 0;
    const std::size_t option_length = load_le<std::uint8_t>(payload.data() + at + 1);
    if (at + 2 + option_length > length) return 0;
    if (type == kOptionRouterAlert && option_length == 2) has_alert = true;
    else if (type != kOptionPadN) return 0;
    at += 2 + option_length;
  }
  return has_alert ? length : 0;
}

// The link-layer address among the options of a neighbour message. False: an option is malformed (RFC 4861 7.1: the message is refused).
bool read_mac(std::span<const std::byte> options, std::uint8_t wanted, std::optional<MacAddress>& mac) noexcept {
  while (!options.empty()) {
    if (options.size() < 2) return false;
    const std::size_t length = 8 * std::size_t{load_le<std::uint8_t>(options.data() + 1)};
    if (length == 0 || length > options.size()) return false;
    if (load_le<std::uint8_t>(options.data()) == wanted && length == 8) {
      mac.emplace();
      std::memcpy(mac->bytes.data(), options.data() + 2, mac->bytes.size());
    }
    options = options.subspan(length);
  }
  return true;
}

// RFC 3810 5.1.3: milliseconds, above 32767 a floating-point number.
std::int64_t max_response_of(std::uint16_t code, bool is_v2) noexcept {
  constexpr std::int64_t kMillisecond = 1'000'000;
  if (!is_v2 || code < 0x8000) return code * kMillisecond;
  const std::int64_t mantissa = (code & 0x0FFF) | 0x1000;
  return (mantissa << ((code >> 12 & 0x07) + 3)) * kMillisecond;
}

}  // namespace

std::optional<Ipv6Address> parse_ipv6(std::string_view text) noexcept {
  std::array<char, INET6_ADDRSTRLEN> terminated{};
  if (text.size() >= terminated.size()) return std::nullopt;
  std::memcpy(terminated.data(), text.data(), text.size());
  Ipv6Address address;
  if (::inet_pton(AF_INET6, terminated.data(), address.bytes.data()) != 1) return std::nullopt;
  return address;
}

std::string format_ipv6(const Ipv6Address& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET6, address.bytes.data(), text.data(), text.size());
  return text.data();
}

std::optional<std::uint32_t> mapped_ipv4(const Ipv6Address& address) noexcept {
  constexpr Ipv6Address kPrefix{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF}};
  if (!is_same_network(address, kPrefix, 96)) return std::nullopt;
  return load_be32(bytes_of(address).data() + 12);
}

bool is_same_network(const Ipv6Address& a, const Ipv6Address& b, std::uint32_t prefix_length) noexcept {
  const std::uint32_t whole = prefix_length / 8;
  if (std::memcmp(a.bytes.data(), b.bytes.data(), whole) != 0) return false;
  const unsigned differs = whole < a.bytes.size() ? static_cast<unsigned>(a.bytes[whole] ^ b.bytes[whole]) : 0U;
  return differs >> (8 - prefix_length % 8) == 0;
}

Ipv6View Ipv6View::parse(std::span<const std::byte> packet) noexcept {
  const auto bad = [](Bad reason) {
    Ipv6View view;
    view.bad = reason;
    return view;
  };
  if (packet.size() < kIpv6HeaderLength) return bad(Bad::kTruncated);
  const std::byte* const p = packet.data();
  if (load_le<std::uint8_t>(p) >> 4 != 6) return bad(Bad::kVersion);
  const std::size_t length = load_be16(p + 4);
  if (kIpv6HeaderLength + length > packet.size()) return bad(Bad::kTruncated);
  Ipv6View view;
  view.next_header = load_le<std::uint8_t>(p + 6);
  view.hop_limit = load_le<std::uint8_t>(p + 7);
  view.source = load_address(p + 8);
  view.destination = load_address(p + 24);
  view.payload = packet.subspan(kIpv6HeaderLength, length);
  if (view.next_header == kHopByHop) {
    const std::size_t header = router_alert_length(view.payload);
    if (header == 0) return bad(Bad::kExtension);
    view.next_header = load_le<std::uint8_t>(view.payload.data());
    view.payload = view.payload.subspan(header);
    view.has_router_alert = true;
  }
  if (view.next_header == kFragment) return bad(Bad::kFragment);
  return is_extension(view.next_header) ? bad(Bad::kExtension) : view;
}

std::size_t build_ipv6(std::byte* p, std::uint8_t next_header, std::uint8_t hop_limit, const Ipv6Address& source, const Ipv6Address& destination,
                       std::size_t payload_length, bool router_alert) noexcept {
  const std::size_t extension = router_alert ? kRouterAlertLength6 : 0;
  store_be32(p, 0x60000000);
  store_be16(p + 4, static_cast<std::uint16_t>(payload_length + extension));
  store_le(p + 6, router_alert ? kHopByHop : next_header);
  store_le(p + 7, hop_limit);
  store_address(p + 8, source);
  store_address(p + 24, destination);
  if (!router_alert) return kIpv6HeaderLength;
  std::byte* const alert = p + kIpv6HeaderLength;
  store_le(alert, next_header);
  store_le<std::uint8_t>(alert + 1, 0);
  store_be32(alert + 2, 0x05020000);   // router alert: listener discovery
  store_be16(alert + 6, 0x0100);       // two bytes of padding
  return kIpv6HeaderLength + kRouterAlertLength6;
}

std::uint32_t pseudo_header_sum(const Ipv6Address& source, const Ipv6Address& destination, std::uint8_t protocol, std::size_t length) noexcept {
  const std::uint32_t addresses = checksum_add(bytes_of(destination), checksum_add(bytes_of(source), 0));
  return addresses + protocol + static_cast<std::uint32_t>(length);
}

std::uint16_t udp_checksum(const Ipv6Address& source, const Ipv6Address& destination, std::span<const std::byte> udp) noexcept {
  return sent_udp_checksum(checksum_add(udp, pseudo_header_sum(source, destination, kIpProtocolUdp, udp.size())));
}

std::optional<UdpView> parse_udp(const Ipv6View& ip) noexcept {
  const auto udp = UdpView::parse(ip.payload);
  if (!udp || udp->checksum == 0) return std::nullopt;
  const std::size_t length = kUdpHeaderLength + udp->payload.size();
  // The sum over all of it, the checksum included, is 0 when all is well, and udp_checksum() answers that as 0xFFFF.
  if (udp_checksum(ip.source, ip.destination, ip.payload.first(length)) != 0xFFFF) return std::nullopt;
  return udp;
}

std::optional<Icmpv6View> Icmpv6View::parse(const Ipv6View& ip) noexcept {
  if (ip.next_header != kIpProtocolIcmpv6 || ip.payload.size() < kIcmpv6HeaderLength) return std::nullopt;
  const std::uint32_t sum = pseudo_header_sum(ip.source, ip.destination, kIpProtocolIcmpv6, ip.payload.size());
  if (checksum_fold(checksum_add(ip.payload, sum)) != 0) return std::nullopt;
  const std::byte* const p = ip.payload.data();
  return Icmpv6View{load_le<std::uint8_t>(p), load_le<std::uint8_t>(p + 1), ip.payload.subspan(kIcmpv6HeaderLength)};
}

void finish_icmpv6(std::byte* p, std::size_t length, const Ipv6Address& source, const Ipv6Address& destination) noexcept {
  store_be16(p + 2, 0);
  store_be16(p + 2, checksum_fold(checksum_add({p, length}, pseudo_header_sum(source, destination, kIpProtocolIcmpv6, length))));
}

std::optional<NeighbourMessage> NeighbourMessage::parse(const Ipv6View& ip, const Icmpv6View& icmp) noexcept {
  const bool is_advertisement = icmp.type == Icmpv6View::kNeighbourAdvertisement;
  if (!is_advertisement && icmp.type != Icmpv6View::kNeighbourSolicitation) return std::nullopt;
  constexpr std::size_t kRest = kLength - kIcmpv6HeaderLength;
  if (ip.hop_limit != kHopLimitOnLink || ip.has_router_alert || icmp.code != 0 || icmp.rest.size() < kRest) return std::nullopt;
  const std::byte* const p = icmp.rest.data();
  NeighbourMessage message;
  message.is_advertisement = is_advertisement;
  const auto flags = load_le<std::uint8_t>(p);
  message.is_router = is_advertisement && (flags & 0x80) != 0;
  message.is_solicited = is_advertisement && (flags & 0x40) != 0;
  message.is_override = is_advertisement && (flags & 0x20) != 0;
  message.target = load_address(p + 4);
  if (message.target.is_multicast() || message.target.is_unspecified()) return std::nullopt;
  if (!read_mac(icmp.rest.subspan(kRest), is_advertisement ? kOptionTargetMac : kOptionSourceMac, message.mac)) return std::nullopt;
  if (message.mac && (message.mac->is_multicast() || message.mac->is_zero())) return std::nullopt;
  if (is_advertisement) return message.is_solicited && ip.destination.is_multicast() ? std::nullopt : std::optional{message};
  // A duplicate address detection: to the group of the address alone, and from nobody.
  const bool is_probe = ip.source.is_unspecified();
  if (is_probe && (message.mac || ip.destination != solicited_node_group(message.target))) return std::nullopt;
  return message;
}

void build(std::byte* p, const NeighbourMessage& message, const Ipv6Address& source, const Ipv6Address& destination) noexcept {
  std::memset(p, 0, message.length());
  store_le(p, message.is_advertisement ? Icmpv6View::kNeighbourAdvertisement : Icmpv6View::kNeighbourSolicitation);
  const unsigned flags = (message.is_router ? 0x80U : 0U) | (message.is_solicited ? 0x40U : 0U) | (message.is_override ? 0x20U : 0U);
  if (message.is_advertisement) store_le(p + 4, static_cast<std::uint8_t>(flags));
  store_address(p + 8, message.target);
  if (message.mac) {
    store_le(p + NeighbourMessage::kLength, message.is_advertisement ? kOptionTargetMac : kOptionSourceMac);
    store_le<std::uint8_t>(p + NeighbourMessage::kLength + 1, 1);   // 8 bytes
    std::memcpy(p + NeighbourMessage::kLength + 2, message.mac->bytes.data(), message.mac->bytes.size());
  }
  finish_icmpv6(p, message.length(), source, destination);
}

std::optional<ListenerQuery> ListenerQuery::parse(const Ipv6View& ip, const Icmpv6View& icmp) noexcept {
  if (icmp.type != Icmpv6View::kListenerQuery || icmp.code != 0) return std::nullopt;
  if (!ip.has_router_alert || ip.hop_limit != 1 || !ip.source.is_link_local()) return std::nullopt;
  const std::size_t length = icmp.rest.size();
  if (length != kMldQueryV1Length && length < kMldQueryV2Length) return std::nullopt;
  const std::byte* const p = icmp.rest.data();
  ListenerQuery query;
  query.is_v2 = length >= kMldQueryV2Length;
  query.max_response_ns = max_response_of(load_be16(p), query.is_v2);
  query.group = load_address(p + 4);
  if (!query.group.is_unspecified() && !query.group.is_multicast()) return std::nullopt;
  if (!query.is_v2) return query;
  const std::size_t sources = load_be16(p + 22);
  if (length < kMldQueryV2Length + 16 * sources) return std::nullopt;
  query.robustness = load_le<std::uint8_t>(p + 20) & 0x07;
  return query;
}

std::optional<Ipv6Address> parse_mld_v1_report(const Ipv6View& ip, const Icmpv6View& icmp) noexcept {
  if (icmp.type != Icmpv6View::kListenerReport || icmp.code != 0 || icmp.rest.size() < kMldV1Length - kIcmpv6HeaderLength) return std::nullopt;
  if (!ip.has_router_alert || ip.hop_limit != 1 || !(ip.source.is_link_local() || ip.source.is_unspecified())) return std::nullopt;
  const Ipv6Address group = load_address(icmp.rest.data() + 4);
  return group.is_multicast() && group == ip.destination ? std::optional{group} : std::nullopt;
}

void build_listener_report(std::byte* p, IgmpRecord record, std::span<const Ipv6Address> groups, const Ipv6Address& source) noexcept {
  const std::size_t length = listener_report_length(groups.size());
  std::memset(p, 0, length);
  store_le(p, Icmpv6View::kListenerReportV2);
  store_be16(p + 6, static_cast<std::uint16_t>(groups.size()));
  for (std::size_t i = 0; i < groups.size(); ++i) {
    std::byte* const at = p + listener_report_length(i);
    store_le(at, static_cast<std::uint8_t>(record));
    store_address(at + 4, groups[i]);
  }
  finish_icmpv6(p, length, source, kAllMldv2Routers);
}

void build_mld_v1(std::byte* p, std::uint8_t type, const Ipv6Address& group, const Ipv6Address& source) noexcept {
  std::memset(p, 0, kMldV1Length);
  store_le(p, type);
  store_address(p + 8, group);
  finish_icmpv6(p, kMldV1Length, source, type == Icmpv6View::kListenerDone ? kAllRouters : group);
}

}  // namespace thalweg::wire
