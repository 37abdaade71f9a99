#pragma once
#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "dataplane/wire/ip.hpp"

// IPv6, ICMPv6, neighbour discovery and multicast listener discovery as checked views and builders. RFC 8200, RFC 4443, RFC 4861, RFC 2464,
// RFC 2710, RFC 3810, RFC 2711. Extension headers are refused, but for the router alert that listener discovery must carry.
namespace thalweg::wire {

struct Ipv6Address {
  std::array<std::uint8_t, 16> bytes{};   // as on the wire
  [[nodiscard]] constexpr bool is_unspecified() const noexcept { return bytes == std::array<std::uint8_t, 16>{}; }
  [[nodiscard]] constexpr bool is_multicast() const noexcept { return bytes[0] == 0xFF; }
  [[nodiscard]] constexpr bool is_link_local() const noexcept { return bytes[0] == 0xFE && (bytes[1] & 0xC0) == 0x80; }
  friend constexpr bool operator==(const Ipv6Address&, const Ipv6Address&) = default;
};
// "2001:db8::1", without brackets, scope or prefix; nullopt: no IPv6 address. Not of the hot path.
[[nodiscard]] std::optional<Ipv6Address> parse_ipv6(std::string_view text) noexcept;
[[nodiscard]] std::string format_ipv6(const Ipv6Address& address);   // RFC 5952
// The IPv4 address that ::ffff:10.0.0.1 stands for (RFC 4291 2.5.5.2), host order.
[[nodiscard]] std::optional<std::uint32_t> mapped_ipv4(const Ipv6Address& address) noexcept;
// Both addresses lie in one network of so many bits.
[[nodiscard]] bool is_same_network(const Ipv6Address& a, const Ipv6Address& b, std::uint32_t prefix_length) noexcept;

inline constexpr Ipv6Address kAllNodes{{0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
inline constexpr Ipv6Address kAllMldv2Routers{{0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16}};
inline constexpr Ipv6Address kAllRouters{{0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}};

// RFC 2464 7: 33:33 and the low 32 bits of the group.
[[nodiscard]] constexpr MacAddress multicast_mac(const Ipv6Address& group) noexcept {
  return MacAddress{{0x33, 0x33, group.bytes[12], group.bytes[13], group.bytes[14], group.bytes[15]}};
}
// RFC 4291 2.7.1: where whoever wants to know our MAC address asks.
[[nodiscard]] constexpr Ipv6Address solicited_node_group(const Ipv6Address& address) noexcept {
  return Ipv6Address{{0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF, address.bytes[13], address.bytes[14], address.bytes[15]}};
}
// The group that carries status messages and NAKs: the data group with its last byte one up (wire-protocol 5.3).
[[nodiscard]] constexpr Ipv6Address control_group(Ipv6Address data) noexcept {
  ++data.bytes[15];
  return data;
}

inline constexpr std::uint16_t kEtherTypeIpv6 = 0x86DD;
inline constexpr std::uint8_t kIpProtocolIcmpv6 = 58;
inline constexpr std::size_t kIpv6HeaderLength = 40;
inline constexpr std::size_t kRouterAlertLength6 = 8;       // hop-by-hop header with nothing else
inline constexpr std::uint8_t kHopLimitOnLink = 255;        // RFC 4861: whoever has it was not behind a router

// IPv6 header. `payload` is cut to the payload length, and behind the router alert.
struct Ipv6View {
  std::uint8_t next_header{};
  std::uint8_t hop_limit{};
  bool has_router_alert{};
  Ipv6Address source;
  Ipv6Address destination;
  std::span<const std::byte> payload;
  enum class Bad : std::uint8_t { kNone, kTruncated, kVersion, kExtension, kFragment };
  Bad bad{Bad::kNone};                // anything but kNone: the rest is not filled
  [[nodiscard]] static Ipv6View parse(std::span<const std::byte> packet) noexcept;
};
// Writes an IPv6 header, and a hop-by-hop header with the router alert behind it where asked for. Returns the bytes written; `payload_length`
// excludes them.
std::size_t build_ipv6(std::byte* p, std::uint8_t next_header, std::uint8_t hop_limit, const Ipv6Address& source, const Ipv6Address& destination,
                       std::size_t payload_length, bool router_alert) noexcept;

// Sum of the pseudo header (RFC 8200 8.1), to be continued with checksum_add() over the upper layer's bytes.
[[nodiscard]] std::uint32_t pseudo_header_sum(const Ipv6Address& source, const Ipv6Address& destination, std::uint8_t protocol, std::size_t length) noexcept;
// UDP over IPv6 has a checksum always: 0 is returned as 0xFFFF, and a received 0 is wrong.
[[nodiscard]] std::uint16_t udp_checksum(const Ipv6Address& source, const Ipv6Address& destination, std::span<const std::byte> udp) noexcept;
// UDP behind an IPv6 header, its checksum verified. Lengths as UdpView::parse().
[[nodiscard]] std::optional<UdpView> parse_udp(const Ipv6View& ip) noexcept;

struct Icmpv6View {
  static constexpr std::uint8_t kUnreachable = 1;
  static constexpr std::uint8_t kEchoRequest = 128;
  static constexpr std::uint8_t kEchoReply = 129;
  static constexpr std::uint8_t kListenerQuery = 130;
  static constexpr std::uint8_t kListenerReport = 131;   // MLDv1
  static constexpr std::uint8_t kListenerDone = 132;     // MLDv1
  static constexpr std::uint8_t kNeighbourSolicitation = 135;
  static constexpr std::uint8_t kNeighbourAdvertisement = 136;
  static constexpr std::uint8_t kListenerReportV2 = 143;
  std::uint8_t type{};
  std::uint8_t code{};
  std::span<const std::byte> rest;  // behind type, code, checksum
  [[nodiscard]] static std::optional<Icmpv6View> parse(const Ipv6View& ip) noexcept;  // checksum verified
};
inline constexpr std::size_t kIcmpv6HeaderLength = 4;
// Fills in the checksum of a message whose type, code and rest are there.
void finish_icmpv6(std::byte* p, std::size_t length, const Ipv6Address& source, const Ipv6Address& destination) noexcept;

// Neighbour solicitation and advertisement (RFC 4861 4.3, 4.4). parse() applies all checks of 7.1, hop limit 255 among them.
struct NeighbourMessage {
  static constexpr std::size_t kLength = 24;                       // without options
  static constexpr std::size_t kLengthWithMac = kLength + 8;
  bool is_advertisement{};
  bool is_router{}, is_solicited{}, is_override{};                 // advertisement
  Ipv6Address target;
  std::optional<MacAddress> mac;                                   // the sender's, or the target's
  [[nodiscard]] static std::optional<NeighbourMessage> parse(const Ipv6View& ip, const Icmpv6View& icmp) noexcept;
  [[nodiscard]] std::size_t length() const noexcept { return mac ? kLengthWithMac : kLength; }
};
// Writes length() bytes of ICMPv6, checksum included.
void build(std::byte* p, const NeighbourMessage& message, const Ipv6Address& source, const Ipv6Address& destination) noexcept;

// Multicast listener query (RFC 3810 5.1; RFC 2710). parse() believes link-local senders with hop limit 1 and a router alert only.
struct ListenerQuery {
  Ipv6Address group;                  // unspecified: a general query
  std::int64_t max_response_ns{};     // how long hosts may wait with their answers
  std::uint8_t robustness{};          // 0 = not told
  bool is_v2{};
  [[nodiscard]] static std::optional<ListenerQuery> parse(const Ipv6View& ip, const Icmpv6View& icmp) noexcept;
};
// The group that another host reported in version 1 (RFC 2710 3): what link-local senders, and those without an address yet (RFC 3590), say of the
// group that they send to.
[[nodiscard]] std::optional<Ipv6Address> parse_mld_v1_report(const Ipv6View& ip, const Icmpv6View& icmp) noexcept;
// Record types of RFC 3810 5.2.12, those that a host without source filters needs: the same as IGMPv3's.
[[nodiscard]] constexpr std::size_t listener_report_length(std::size_t records) noexcept { return 8 + records * 20; }
// One record without sources for each group, checksum included: listener_report_length(groups.size()) bytes.
void build_listener_report(std::byte* p, IgmpRecord record, std::span<const Ipv6Address> groups, const Ipv6Address& source) noexcept;
// MLDv1 report or done, checksum included: kMldV1Length bytes. A report goes to the group, a done to all routers.
inline constexpr std::size_t kMldV1Length = 24;
void build_mld_v1(std::byte* p, std::uint8_t type, const Ipv6Address& group, const Ipv6Address& source) noexcept;

}  // namespace thalweg::wire
