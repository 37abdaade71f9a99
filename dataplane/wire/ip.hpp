#pragma once
#include <array>
#include <optional>
#include <span>

#include "dataplane/base/bytes.hpp"

// Ethernet, 802.1Q, ARP, IPv4, ICMP, UDP and IGMP headers as checked views and builders. Addresses are host order in our structs and
// network order on the wire. RFC 894, RFC 826, RFC 791, RFC 792, RFC 768, RFC 2236, RFC 3376, IEEE 802.1Q.
namespace thalweg::wire {

struct MacAddress {
  std::array<std::uint8_t, 6> bytes{};
  [[nodiscard]] bool is_multicast() const noexcept { return (bytes[0] & 1U) != 0; }
  [[nodiscard]] bool is_zero() const noexcept { return bytes == std::array<std::uint8_t, 6>{}; }
  friend bool operator==(const MacAddress&, const MacAddress&) = default;
};
inline constexpr MacAddress kBroadcastMac{{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}};

// RFC 1112 6.4: 01:00:5e and the low 23 bits of the group.
[[nodiscard]] constexpr MacAddress multicast_mac(std::uint32_t group) noexcept {
  return MacAddress{{0x01, 0x00, 0x5E, static_cast<std::uint8_t>(group >> 16 & 0x7F), static_cast<std::uint8_t>(group >> 8),
                     static_cast<std::uint8_t>(group)}};
}
[[nodiscard]] constexpr bool is_multicast_ipv4(std::uint32_t address) noexcept { return address >> 28 == 0xE; }
// The group that carries status messages and NAKs: the data group with its last byte one up (wire-protocol 5.3), and back.
[[nodiscard]] constexpr std::uint32_t control_group(std::uint32_t data) noexcept { return (data & 0xFFFFFF00) | ((data + 1) & 0xFF); }
[[nodiscard]] constexpr std::uint32_t data_group(std::uint32_t control) noexcept { return (control & 0xFFFFFF00) | ((control - 1) & 0xFF); }
[[nodiscard]] constexpr bool is_loopback_ipv4(std::uint32_t address) noexcept { return address >> 24 == 127; }

// An IPv6 address stands in 32 bits, too, as a handle: a number of the reserved block 240.0.0.0/4 whose 16 bytes are in the address book of the
// registry (shm::AddressBook). Handles of groups are apart from all others and end in 1, those of their control groups in 2, so that
// control_group() and data_group() hold for them. No frame on a wire carries one.
inline constexpr std::uint32_t kFirstHandle = 0xF0000000;        // :: any address of ours
inline constexpr std::uint32_t kAnyIpv6 = kFirstHandle;
inline constexpr std::uint32_t kLoopbackIpv6 = kFirstHandle + 1;
inline constexpr std::uint32_t kFirstGroupHandle = 0xF8000000;
[[nodiscard]] constexpr bool is_group_handle(std::uint32_t address) noexcept { return address >> 24 == kFirstGroupHandle >> 24; }
[[nodiscard]] constexpr bool is_handle(std::uint32_t address) noexcept { return address >> 24 == kFirstHandle >> 24 || is_group_handle(address); }
// Of the block that handles are taken from. 255.255.255.255 is no part of it.
[[nodiscard]] constexpr bool is_reserved_ipv4(std::uint32_t address) noexcept { return address >> 28 == 0xF && address != 0xFFFFFFFF; }
// A multicast group of either family.
[[nodiscard]] constexpr bool is_group(std::uint32_t address) noexcept { return is_multicast_ipv4(address) || is_group_handle(address); }
// 0.0.0.0 or ::
[[nodiscard]] constexpr bool is_any(std::uint32_t address) noexcept { return address == 0 || address == kAnyIpv6; }
[[nodiscard]] constexpr bool is_loopback(std::uint32_t address) noexcept { return is_loopback_ipv4(address) || address == kLoopbackIpv6; }

inline constexpr std::uint16_t kEtherTypeIpv4 = 0x0800;
inline constexpr std::uint16_t kEtherTypeArp = 0x0806;
inline constexpr std::uint16_t kEtherTypeVlan = 0x8100;
inline constexpr std::uint8_t kIpProtocolIcmp = 1;
inline constexpr std::uint8_t kIpProtocolIgmp = 2;
inline constexpr std::uint8_t kIpProtocolUdp = 17;
inline constexpr std::size_t kEthernetHeaderLength = 14;
inline constexpr std::size_t kVlanTagLength = 4;
inline constexpr std::size_t kIpv4HeaderLength = 20;
inline constexpr std::size_t kUdpHeaderLength = 8;
inline constexpr std::size_t kFragmentUnit = 8;   // RFC 791: pieces begin at multiples of it
inline constexpr std::size_t kUdpFrameHeaderLength = kEthernetHeaderLength + kIpv4HeaderLength + kUdpHeaderLength;  // 42, no VLAN

// Internet checksum (RFC 1071) over `bytes`, continuing from `sum` (host-order partial sum of 16-bit big-endian words).
[[nodiscard]] std::uint32_t checksum_add(std::span<const std::byte> bytes, std::uint32_t sum) noexcept;
[[nodiscard]] constexpr std::uint16_t checksum_fold(std::uint32_t sum) noexcept {
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}
// What stands in a UDP header for a sum: 0 would say that there is no checksum (RFC 768, RFC 8200 8.1).
[[nodiscard]] constexpr std::uint16_t sent_udp_checksum(std::uint32_t sum) noexcept {
  const std::uint16_t folded = checksum_fold(sum);
  return folded == 0 ? std::uint16_t{0xFFFF} : folded;
}
// UDP checksum with pseudo header over header and payload of one datagram; 0 is returned as 0xFFFF (RFC 768).
[[nodiscard]] std::uint16_t udp_checksum(std::uint32_t source, std::uint32_t destination, std::span<const std::byte> udp) noexcept;
// The same of a datagram whose header, of an even length, and payload lie apart.
[[nodiscard]] std::uint16_t udp_checksum(std::uint32_t source, std::uint32_t destination, std::span<const std::byte> header,
                                         std::span<const std::byte> payload) noexcept;

struct EthernetView {
  MacAddress destination;
  MacAddress source;
  std::uint16_t type{};               // EtherType behind any VLAN tag
  std::optional<std::uint16_t> vlan;  // VLAN id (12 bits) of the first tag
  std::size_t header_length{};
  [[nodiscard]] static std::optional<EthernetView> parse(std::span<const std::byte> frame) noexcept;
};

struct ArpPacket {
  static constexpr std::size_t kLength = 28;
  static constexpr std::uint16_t kRequest = 1;
  static constexpr std::uint16_t kReply = 2;
  std::uint16_t operation{};
  MacAddress sender_mac;
  std::uint32_t sender_ip{};
  MacAddress target_mac;
  std::uint32_t target_ip{};
  [[nodiscard]] static std::optional<ArpPacket> parse(std::span<const std::byte> payload) noexcept;
};
void build(std::byte* p, const ArpPacket& arp) noexcept;

// IPv4 header. parse() verifies version, lengths and the header checksum; `payload` is cut to the total length.
struct Ipv4View {
  std::uint8_t protocol{};
  std::uint8_t ttl{};
  std::uint32_t source{};
  std::uint32_t destination{};
  bool is_fragment{};                 // more fragments, or an offset
  bool has_more_fragments{};
  std::uint16_t identification{};     // of the datagram that fragments belong to
  std::size_t fragment_offset{};      // bytes of the datagram's IP payload in front of this one
  std::span<const std::byte> payload;
  enum class Bad : std::uint8_t { kNone, kTruncated, kVersion, kLength, kChecksum };
  Bad bad{Bad::kNone};                // anything but kNone: the rest is not filled
  [[nodiscard]] static Ipv4View parse(std::span<const std::byte> packet) noexcept;
};

struct UdpView {
  std::uint16_t source_port{};
  std::uint16_t destination_port{};
  std::uint16_t checksum{};           // 0: not sent
  std::span<const std::byte> payload;
  [[nodiscard]] static std::optional<UdpView> parse(std::span<const std::byte> ip_payload) noexcept;
};

// A piece of a datagram: `length` bytes of its IP payload from `offset` on, a multiple of kFragmentUnit.
struct Ipv4Fragment {
  std::uint16_t identification{};
  std::size_t offset{};
  std::size_t length{};
  bool has_more{};
};

struct UdpEndpoint {
  std::uint32_t address{};  // host order
  std::uint16_t port{};
  friend bool operator==(const UdpEndpoint&, const UdpEndpoint&) = default;
};

// Template of everything in front of the UDP payload; built once per destination and copied into each frame, then patched with the
// lengths and the IP checksum (42 bytes, 46 with a VLAN tag).
class UdpFrameTemplate {
 public:
  struct Options {
    MacAddress source_mac;
    MacAddress destination_mac;
    UdpEndpoint source;
    UdpEndpoint destination;
    std::uint8_t ttl{64};
    std::optional<std::uint16_t> vlan;
  };
  UdpFrameTemplate() noexcept = default;
  explicit UdpFrameTemplate(const Options& options) noexcept;
  [[nodiscard]] std::size_t length() const noexcept { return length_; }
  // Writes length() bytes in front of a UDP payload of `payload_length` bytes; the UDP checksum is 0.
  void write(std::byte* out, std::size_t payload_length) const noexcept {
    std::memcpy(out, bytes_.data(), bytes_.size());
    std::byte* const ip = out + length_ - kIpv4HeaderLength - kUdpHeaderLength;
    const auto udp_length = static_cast<std::uint16_t>(kUdpHeaderLength + payload_length);
    const auto total = static_cast<std::uint16_t>(udp_length + kIpv4HeaderLength);
    store_be16(ip + 2, total);
    store_be16(ip + 10, checksum_fold(ip_sum_ + total));
    store_be16(ip + kIpv4HeaderLength + 4, udp_length);
  }
  // After write() and the payload: fills in the UDP checksum over the contiguous datagram starting at out.
  void write_udp_checksum(std::byte* out, std::size_t payload_length) const noexcept;
  // Writes the headers of one fragment of the datagram with this payload: as write(), but only the first fragment has a UDP header, with its
  // checksum. Returns the bytes written, behind which the fragment's part of the payload belongs; the room must be 48 bytes nevertheless.
  std::size_t write_fragment(std::byte* out, std::span<const std::byte> payload, const Ipv4Fragment& fragment) const noexcept;
  void set_destination_mac(const MacAddress& mac) noexcept { std::memcpy(bytes_.data(), mac.bytes.data(), 6); }

 private:
  std::array<std::byte, 48> bytes_{};  // 46 used; 48 copies as three 16-byte moves, so frames need 48 bytes of room
  std::uint32_t length_{};
  std::uint32_t ip_sum_{};             // checksum of the IP header with total length and checksum taken as 0
  std::uint32_t source_{}, destination_{};
};

// ICMP echo reply in place and "destination unreachable" (RFC 792).
inline constexpr std::uint8_t kIcmpEchoReply = 0;
inline constexpr std::uint8_t kIcmpUnreachable = 3;
inline constexpr std::uint8_t kIcmpEchoRequest = 8;
struct IcmpView {
  std::uint8_t type{};
  std::uint8_t code{};
  std::span<const std::byte> rest;  // behind type, code, checksum
  [[nodiscard]] static std::optional<IcmpView> parse(std::span<const std::byte> ip_payload) noexcept;  // checksum verified
};

// IGMP (RFC 2236, RFC 3376).
struct IgmpView {
  static constexpr std::uint8_t kQuery = 0x11;
  static constexpr std::uint8_t kReportV1 = 0x12;
  static constexpr std::uint8_t kReportV2 = 0x16;
  static constexpr std::uint8_t kLeave = 0x17;
  static constexpr std::uint8_t kReportV3 = 0x22;
  std::uint8_t type{};
  std::uint8_t max_response{};   // code: 1/10 s, above 127 in a v3 query a floating-point number; 0: an IGMPv1 query
  std::uint8_t robustness{};     // v3 query: QRV, 0 = not told
  std::uint32_t group{};         // 0: general query
  bool is_v3_query{};
  // The checksum is verified; a query of a length that no version has is refused (RFC 3376 7.1).
  [[nodiscard]] static std::optional<IgmpView> parse(std::span<const std::byte> ip_payload) noexcept;
  // Of a query: how long hosts may wait with their answers (RFC 3376 4.1.1; 10 s for IGMPv1).
  [[nodiscard]] std::int64_t max_response_ns() const noexcept;
};
inline constexpr std::size_t kIgmpV2Length = 8;
inline constexpr std::size_t kIgmpV3ReportHeaderLength = 8;
inline constexpr std::size_t kIgmpV3RecordLength = 8;   // without sources
[[nodiscard]] constexpr std::size_t igmp_v3_report_length(std::size_t records) noexcept {
  return kIgmpV3ReportHeaderLength + records * kIgmpV3RecordLength;
}
// Group record types of RFC 3376 4.2.12 that a host without source filters needs.
enum class IgmpRecord : std::uint8_t { kIsExclude = 2, kToInclude = 3, kToExclude = 4 };
void build_igmp_v2(std::byte* p, std::uint8_t type, std::uint32_t group) noexcept;
// One record without sources for each group: igmp_v3_report_length(groups.size()) bytes.
void build_igmp_v3_report(std::byte* p, IgmpRecord record, std::span<const std::uint32_t> groups) noexcept;
// Writes an IPv4 header (20 bytes, or 24 with the router alert option that IGMP needs). `payload_length` excludes it.
std::size_t build_ipv4(std::byte* p, std::uint8_t protocol, std::uint8_t ttl, std::uint32_t source, std::uint32_t destination,
                       std::size_t payload_length, bool router_alert) noexcept;
// Writes an Ethernet header, with the tag of a VLAN where one is given. Returns the bytes written.
std::size_t build_ethernet(std::byte* p, const MacAddress& destination, const MacAddress& source, std::uint16_t type,
                           std::optional<std::uint16_t> vlan = std::nullopt) noexcept;

}  // namespace thalweg::wire
