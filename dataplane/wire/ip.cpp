#include "dataplane/wire/ip.hpp"

namespace thalweg::wire {
namespace {

constexpr std::uint16_t kHardwareEthernet = 1;       // RFC 826
constexpr std::uint16_t kDontFragment = 0x4000;
constexpr std::uint16_t kFragmentBits = 0x3FFF;      // more fragments, and the offset
constexpr std::uint16_t kMoreFragments = 0x2000;
constexpr std::uint16_t kFragmentOffset = 0x1FFF;    // in units of 8 bytes
constexpr std::uint16_t kVlanIdMask = 0x0FFF;
constexpr std::uint8_t kTosInternetControl = 0xC0;   // RFC 2236, RFC 3376 4: IGMP goes out with this precedence
constexpr std::uint32_t kRouterAlert = 0x94040000;   // RFC 2113
constexpr std::size_t kIcmpHeaderLength = 8;
constexpr std::size_t kIgmpV3QueryLength = 12;

MacAddress load_mac(const std::byte* p) noexcept {
  MacAddress mac;
  std::memcpy(mac.bytes.data(), p, mac.bytes.size());
  return mac;
}
void store_mac(std::byte* p, const MacAddress& mac) noexcept { std::memcpy(p, mac.bytes.data(), mac.bytes.size()); }

// Four 64-bit lanes: one load covers 32 bytes, each half of a lane is a 32-bit word and cannot overflow 64 bits of sum.
using Lanes = std::uint64_t __attribute__((vector_size(32)));

// Sum of the little-endian 32-bit words of `bytes` (a multiple of 32 in length).
std::uint64_t sum_blocks(const std::byte* p, std::size_t length) noexcept {
  Lanes even{};
  Lanes odd{};
  for (std::size_t i = 0; i < length; i += sizeof(Lanes)) {
    Lanes words;
    std::memcpy(&words, p + i, sizeof words);
    even += words & 0xFFFFFFFF;
    odd += words >> 32;
  }
  even += odd;
  return even[0] + even[1] + even[2] + even[3];
}

std::uint16_t fold(std::uint64_t sum) noexcept {
  sum = (sum & 0xFFFFFFFF) + (sum >> 32);
  sum = (sum & 0xFFFFFFFF) + (sum >> 32);
  sum = (sum & 0xFFFF) + (sum >> 16);
  sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(sum + (sum >> 16));
}

std::uint16_t checksum_of(std::span<const std::byte> bytes) noexcept { return checksum_fold(checksum_add(bytes, 0)); }

std::uint32_t pseudo_header_sum(std::uint32_t source, std::uint32_t destination, std::size_t udp_length) noexcept {
  return (source >> 16) + (source & 0xFFFF) + (destination >> 16) + (destination & 0xFFFF) + kIpProtocolUdp + static_cast<std::uint32_t>(udp_length);
}

// What every IP header builder starts from; the checksum is left 0.
void put_ipv4(std::byte* p, std::uint8_t words, std::uint8_t tos, std::size_t total_length, std::uint8_t ttl, std::uint8_t protocol,
              std::uint32_t source, std::uint32_t destination) noexcept {
  store_le<std::uint8_t>(p, static_cast<std::uint8_t>(0x40 | words));
  store_le<std::uint8_t>(p + 1, tos);
  store_be16(p + 2, static_cast<std::uint16_t>(total_length));
  store_be16(p + 4, 0);  // identification: never a fragment, so it carries nothing (RFC 6864)
  store_be16(p + 6, kDontFragment);
  store_le<std::uint8_t>(p + 8, ttl);
  store_le<std::uint8_t>(p + 9, protocol);
  store_be16(p + 10, 0);
  store_be32(p + 12, source);
  store_be32(p + 16, destination);
}

}  // namespace

// Adding 16-bit words modulo 2^16 - 1 does not depend on their byte order (RFC 1071 1B): the bytes are summed as they lie in memory,
// in the widest words, and swapped once at the end.
std::uint32_t checksum_add(std::span<const std::byte> bytes, std::uint32_t sum) noexcept {
  const std::byte* p = bytes.data();
  std::size_t left = bytes.size();
  const std::size_t blocks = left & ~(sizeof(Lanes) - 1);
  std::uint64_t wide = sum_blocks(p, blocks);
  p += blocks;
  left -= blocks;
  for (; left >= 4; p += 4, left -= 4) wide += load_le<std::uint32_t>(p);
  if (left >= 2) {
    wide += load_le<std::uint16_t>(p);
    p += 2;
    left -= 2;
  }
  if (left != 0) wide += static_cast<std::uint8_t>(*p);
  const std::uint32_t folded_sum = (sum & 0xFFFF) + (sum >> 16);
  return byteswap16(fold(wide)) + folded_sum;
}

std::uint16_t udp_checksum(std::uint32_t source, std::uint32_t destination, std::span<const std::byte> udp) noexcept {
  return sent_udp_checksum(checksum_add(udp, pseudo_header_sum(source, destination, udp.size())));
}

std::uint16_t udp_checksum(std::uint32_t source, std::uint32_t destination, std::span<const std::byte> header,
                           std::span<const std::byte> payload) noexcept {
  const std::uint32_t sum = pseudo_header_sum(source, destination, header.size() + payload.size());
  return sent_udp_checksum(checksum_add(payload, checksum_add(header, sum)));
}

std::optional<EthernetView> EthernetView::parse(std::span<const std::byte> frame) noexcept {
  if (frame.size() < kEthernetHeaderLength) return std::nullopt;
  EthernetView view;
  view.destination = load_mac(frame.data());
  view.source = load_mac(frame.data() + 6);
  view.type = load_be16(frame.data() + 12);
  view.header_length = kEthernetHeaderLength;
  if (view.type == kEtherTypeVlan) {
    if (frame.size() < kEthernetHeaderLength + kVlanTagLength) return std::nullopt;
    view.vlan = static_cast<std::uint16_t>(load_be16(frame.data() + 14) & kVlanIdMask);
    view.type = load_be16(frame.data() + 16);
    view.header_length += kVlanTagLength;
  }
  return view;
}

std::optional<ArpPacket> ArpPacket::parse(std::span<const std::byte> payload) noexcept {
  if (payload.size() < kLength) return std::nullopt;
  const std::byte* const p = payload.data();
  const bool is_ipv4_over_ethernet = load_be16(p) == kHardwareEthernet && load_be16(p + 2) == kEtherTypeIpv4 && load_be16(p + 4) == 0x0604;
  if (!is_ipv4_over_ethernet) return std::nullopt;
  ArpPacket arp;
  arp.operation = load_be16(p + 6);
  if (arp.operation != kRequest && arp.operation != kReply) return std::nullopt;
  arp.sender_mac = load_mac(p + 8);
  arp.sender_ip = load_be32(p + 14);
  arp.target_mac = load_mac(p + 18);
  arp.target_ip = load_be32(p + 24);
  return arp;
}

void build(std::byte* p, const ArpPacket& arp) noexcept {
  store_be16(p, kHardwareEthernet);
  store_be16(p + 2, kEtherTypeIpv4);
  store_be16(p + 4, 0x0604);  // address lengths
  store_be16(p + 6, arp.operation);
  store_mac(p + 8, arp.sender_mac);
  store_be32(p + 14, arp.sender_ip);
  store_mac(p + 18, arp.target_mac);
  store_be32(p + 24, arp.target_ip);
}

Ipv4View Ipv4View::parse(std::span<const std::byte> packet) noexcept {
  const auto bad = [](Bad reason) {
    Ipv4View view;
    view.bad = reason;
    return view;
  };
  if (packet.size() < kIpv4HeaderLength) return bad(Bad::kTruncated);
  const std::byte* const p = packet.data();
  const auto first = load_le<std::uint8_t>(p);
  if (first >> 4 != 4) return bad(Bad::kVersion);
  const std::size_t header_length = std::size_t{4} * (first & 0x0F);
  const std::size_t total_length = load_be16(p + 2);
  if (header_length < kIpv4HeaderLength || total_length < header_length) return bad(Bad::kLength);
  if (total_length > packet.size()) return bad(Bad::kTruncated);
  if (checksum_of(packet.first(header_length)) != 0) return bad(Bad::kChecksum);
  Ipv4View view;
  view.protocol = load_le<std::uint8_t>(p + 9);
  view.ttl = load_le<std::uint8_t>(p + 8);
  view.source = load_be32(p + 12);
  view.destination = load_be32(p + 16);
  const std::uint16_t fragment = load_be16(p + 6) & kFragmentBits;
  view.is_fragment = fragment != 0;
  view.has_more_fragments = (fragment & kMoreFragments) != 0;
  view.identification = load_be16(p + 4);
  view.fragment_offset = kFragmentUnit * static_cast<std::size_t>(fragment & kFragmentOffset);
  view.payload = packet.subspan(header_length, total_length - header_length);
  return view;
}

std::optional<UdpView> UdpView::parse(std::span<const std::byte> ip_payload) noexcept {
  if (ip_payload.size() < kUdpHeaderLength) return std::nullopt;
  const std::byte* const p = ip_payload.data();
  const std::size_t length = load_be16(p + 4);
  if (length < kUdpHeaderLength || length > ip_payload.size()) return std::nullopt;
  UdpView view;
  view.source_port = load_be16(p);
  view.destination_port = load_be16(p + 2);
  view.checksum = load_be16(p + 6);
  view.payload = ip_payload.subspan(kUdpHeaderLength, length - kUdpHeaderLength);
  return view;
}

UdpFrameTemplate::UdpFrameTemplate(const Options& options) noexcept
    : length_{static_cast<std::uint32_t>(kUdpFrameHeaderLength + (options.vlan ? kVlanTagLength : 0))},
      source_{options.source.address},
      destination_{options.destination.address} {
  std::byte* p = bytes_.data();
  p += build_ethernet(p, options.destination_mac, options.source_mac, kEtherTypeIpv4, options.vlan);
  put_ipv4(p, 5, 0, 0, options.ttl, kIpProtocolUdp, source_, destination_);
  ip_sum_ = checksum_add({p, kIpv4HeaderLength}, 0);
  store_be16(p + kIpv4HeaderLength, options.source.port);
  store_be16(p + kIpv4HeaderLength + 2, options.destination.port);
}

void UdpFrameTemplate::write_udp_checksum(std::byte* out, std::size_t payload_length) const noexcept {
  std::byte* const udp = out + length_ - kUdpHeaderLength;
  store_be16(udp + 6, 0);
  store_be16(udp + 6, udp_checksum(source_, destination_, {udp, kUdpHeaderLength + payload_length}));
}

std::size_t UdpFrameTemplate::write_fragment(std::byte* out, std::span<const std::byte> payload, const Ipv4Fragment& fragment) const noexcept {
  write(out, payload.size());
  std::byte* const udp = out + length_ - kUdpHeaderLength;
  std::byte* const ip = udp - kIpv4HeaderLength;
  if (fragment.offset == 0) store_be16(udp + 6, udp_checksum(source_, destination_, {udp, kUdpHeaderLength}, payload));
  const auto place = static_cast<std::uint16_t>(fragment.offset / kFragmentUnit);
  store_be16(ip + 2, static_cast<std::uint16_t>(kIpv4HeaderLength + fragment.length));
  store_be16(ip + 4, fragment.identification);
  store_be16(ip + 6, static_cast<std::uint16_t>(place | (fragment.has_more ? kMoreFragments : 0)));  // may be cut further: no DF
  store_be16(ip + 10, 0);
  store_be16(ip + 10, checksum_of({ip, kIpv4HeaderLength}));
  return fragment.offset == 0 ? length_ : length_ - kUdpHeaderLength;
}

std::optional<IcmpView> IcmpView::parse(std::span<const std::byte> ip_payload) noexcept {
  if (ip_payload.size() < kIcmpHeaderLength || checksum_of(ip_payload) != 0) return std::nullopt;
  return IcmpView{load_le<std::uint8_t>(ip_payload.data()), load_le<std::uint8_t>(ip_payload.data() + 1), ip_payload.subspan(4)};
}

std::optional<IgmpView> IgmpView::parse(std::span<const std::byte> ip_payload) noexcept {
  if (ip_payload.size() < kIgmpV2Length || checksum_of(ip_payload) != 0) return std::nullopt;
  const std::byte* const p = ip_payload.data();
  IgmpView view;
  view.type = load_le<std::uint8_t>(p);
  if (view.type == kReportV3) {  // the group of the first record
    const bool has_record = ip_payload.size() >= igmp_v3_report_length(1) && load_be16(p + 6) != 0;
    if (has_record) view.group = load_be32(p + 12);
    return view;
  }
  view.max_response = load_le<std::uint8_t>(p + 1);
  view.group = load_be32(p + 4);
  if (view.type != kQuery || ip_payload.size() == kIgmpV2Length) return view;
  if (ip_payload.size() < kIgmpV3QueryLength) return std::nullopt;
  const std::size_t sources = load_be16(p + 10);
  if (ip_payload.size() < kIgmpV3QueryLength + 4 * sources) return std::nullopt;
  view.robustness = load_le<std::uint8_t>(p + 8) & 0x07;
  view.is_v3_query = true;
  return view;
}

std::int64_t IgmpView::max_response_ns() const noexcept {
  constexpr std::int64_t kTenth_ns = 100'000'000;
  if (!is_v3_query) return (max_response == 0 ? 100 : max_response) * kTenth_ns;
  if (max_response < 128) return max_response * kTenth_ns;
  const std::int64_t mantissa = (max_response & 0x0F) | 0x10;
  return (mantissa << ((max_response >> 4 & 0x07) + 3)) * kTenth_ns;
}

void build_igmp_v2(std::byte* p, std::uint8_t type, std::uint32_t group) noexcept {
  std::memset(p, 0, kIgmpV2Length);
  store_le(p, type);
  store_be32(p + 4, group);
  store_be16(p + 2, checksum_of({p, kIgmpV2Length}));
}

void build_igmp_v3_report(std::byte* p, IgmpRecord record, std::span<const std::uint32_t> groups) noexcept {
  const std::size_t length = igmp_v3_report_length(groups.size());
  std::memset(p, 0, length);
  store_le(p, IgmpView::kReportV3);
  store_be16(p + 6, static_cast<std::uint16_t>(groups.size()));
  for (std::size_t i = 0; i < groups.size(); ++i) {
    std::byte* const at = p + kIgmpV3ReportHeaderLength + i * kIgmpV3RecordLength;
    store_le(at, static_cast<std::uint8_t>(record));
    store_be32(at + 4, groups[i]);
  }
  store_be16(p + 2, checksum_of({p, length}));
}

std::size_t build_ipv4(std::byte* p, std::uint8_t protocol, std::uint8_t ttl, std::uint32_t source, std::uint32_t destination,
                       std::size_t payload_length, bool router_alert) noexcept {
  const std::size_t header_length = kIpv4HeaderLength + (router_alert ? 4 : 0);
  put_ipv4(p, static_cast<std::uint8_t>(header_length / 4), router_alert ? kTosInternetControl : std::uint8_t{0},
           header_length + payload_length, ttl, protocol, source, destination);
  if (router_alert) store_be32(p + kIpv4HeaderLength, kRouterAlert);
  store_be16(p + 10, checksum_of({p, header_length}));
  return header_length;
}

std::size_t build_ethernet(std::byte* p, const MacAddress& destination, const MacAddress& source, std::uint16_t type,
                           std::optional<std::uint16_t> vlan) noexcept {
  store_mac(p, destination);
  store_mac(p + 6, source);
  store_be16(p + 12, vlan ? kEtherTypeVlan : type);
  if (!vlan) return kEthernetHeaderLength;
  store_be16(p + 14, *vlan & kVlanIdMask);
  store_be16(p + 16, type);
  return kEthernetHeaderLength + kVlanTagLength;
}

}  // namespace thalweg::wire
