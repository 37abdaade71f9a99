#pragma once
#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/shm/lane_counters.hpp"
#include "dataplane/wire/ip.hpp"

// From the bytes of a received frame to a UDP datagram for us: the part of the receive path that runs for every frame, so it works on
// fixed offsets and leaves everything unusual to the general parsers of wire/ip.hpp.
namespace thalweg::core {

// Filled once per port; read for every frame.
struct FrameRules {
  std::uint64_t mac{};               // our MAC as the first six bytes of a little-endian word
  std::uint32_t address{};           // host order
  std::uint32_t address6{};          // handle; 0: no IPv6
  std::uint16_t vlan{};              // 0: untagged
  std::uint8_t port{};               // index in the port table
  bool checks_mac{};                 // false on ports without MAC addresses of their own (loopback, kernel)
  bool verifies_udp_checksum{};
  bool is_kernel{};                  // kernel port: where a group's datagram came in is told by the frame (pmd::read_interface)
  bool hears_itself{};               // loopback port: what we send to a group comes back through the kernel
  bool takes_fragments{};            // puts datagrams together that came in pieces
  bool takes_handles{};              // of our own making: the headers of IPv6 datagrams of sockets are IPv4 with handles
  [[nodiscard]] bool is_own(std::uint32_t destination) const noexcept { return destination == (wire::is_handle(destination) ? address6 : address); }
};

struct Datagram {
  wire::UdpEndpoint source;
  wire::UdpEndpoint destination;
  std::span<const std::byte> payload;
  std::span<const std::byte> packet;   // from the IP header on
};

enum class Verdict : std::uint8_t {
  kDatagram,    // the datagram is filled in; UDP checksum verified where asked for
  kUnusual,     // VLAN, ARP, ICMP, IP options, ...: receive_unusual()
  kDropped,     // `reason` says why
};

// Two bytes in a register. The datagram goes by reference: returned with them it would be copied, in other widths than it was written,
// and each frame would wait for its own stores.
struct Checked {
  Verdict verdict{Verdict::kDropped};
  shm::LaneCounter reason{shm::LaneCounter::kDropBadIpHeader};
};

[[nodiscard]] inline std::uint64_t mac_word(const wire::MacAddress& mac) noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, mac.bytes.data(), 6);
  return word;
}

// One's complement sum of a 20-byte IPv4 header, checksum included; right when the header is intact (RFC 1071: the order of bytes does
// not matter for that).
[[nodiscard]] inline bool is_ipv4_checksum_right(const std::byte* ip) noexcept {
  std::uint64_t sum = std::uint64_t{load_le<std::uint32_t>(ip)} + load_le<std::uint32_t>(ip + 4) + load_le<std::uint32_t>(ip + 8) +
                      load_le<std::uint32_t>(ip + 12) + load_le<std::uint32_t>(ip + 16);
  sum = (sum & 0xFFFFFFFF) + (sum >> 32);
  sum = (sum & 0xFFFF) + ((sum >> 16) & 0xFFFF) + (sum >> 32);
  sum = (sum & 0xFFFF) + (sum >> 16);
  return sum == 0xFFFF;
}

[[nodiscard]] inline Checked dropped(shm::LaneCounter reason) noexcept { return {Verdict::kDropped, reason}; }

// UDP part, shared with the unusual path. `ip_payload` was cut to the IP total length.
[[nodiscard]] inline Checked check_udp(const FrameRules& rules, std::uint32_t source, std::uint32_t destination,
                                       std::span<const std::byte> packet, std::span<const std::byte> ip_payload,
                                       Datagram& datagram) noexcept {
  using enum shm::LaneCounter;
  if (ip_payload.size() < wire::kUdpHeaderLength) [[unlikely]] return dropped(kDropBadUdpHeader);
  const std::byte* const udp = ip_payload.data();
  const std::size_t length = load_be16(udp + 4);
  if (length < wire::kUdpHeaderLength || length > ip_payload.size()) [[unlikely]] return dropped(kDropBadUdpHeader);
  if ((source | destination) >= wire::kFirstHandle) [[unlikely]] {  // perhaps: nobody may pass for an IPv6 host
    if (!rules.takes_handles && (wire::is_reserved_ipv4(source) || wire::is_reserved_ipv4(destination))) return dropped(kDropBadIpHeader);
  }
  const std::uint16_t sent_checksum = load_be16(udp + 6);
  if (rules.verifies_udp_checksum && sent_checksum != 0) {
    // The sum over header, payload and the checksum itself is 0 when all is well, and udp_checksum() answers that as 0xFFFF.
    if (wire::udp_checksum(source, destination, ip_payload.first(length)) != 0xFFFF) [[unlikely]] return dropped(kDropBadUdpChecksum);
  }
  datagram.source = {source, load_be16(udp)};
  datagram.destination = {destination, load_be16(udp + 2)};
  datagram.payload = ip_payload.subspan(wire::kUdpHeaderLength, length - wire::kUdpHeaderLength);
  datagram.packet = packet;
  return Checked{.verdict = Verdict::kDatagram};
}

// Every frame. Reads no byte outside `frame`. Fills in `datagram` for kDatagram only.
[[nodiscard]] inline Checked check_frame(const FrameRules& rules, std::span<const std::byte> frame, Datagram& datagram) noexcept {
  using enum shm::LaneCounter;
  if (frame.size() < wire::kUdpFrameHeaderLength) [[unlikely]] {
    return frame.size() < wire::kEthernetHeaderLength ? dropped(kDropNotIp) : Checked{.verdict = Verdict::kUnusual};
  }
  const std::byte* const p = frame.data();
  if (rules.checks_mac) {
    constexpr std::uint64_t kMask = 0xFFFFFFFFFFFF;
    const std::uint64_t to = load_le<std::uint64_t>(p) & kMask;
    if (to != rules.mac && (to & 1U) == 0) [[unlikely]] return dropped(kDropNotOurs);
    if ((load_le<std::uint64_t>(p + 6) & kMask) == rules.mac) [[unlikely]] return dropped(kDropOwnFrame);
  }
  const std::byte* const ip = p + wire::kEthernetHeaderLength;
  const std::uint16_t ether_type = load_le<std::uint16_t>(p + 12);
  const bool is_plain = ether_type == byteswap16(wire::kEtherTypeIpv4) && static_cast<std::uint8_t>(ip[0]) == 0x45 && rules.vlan == 0 &&
                        static_cast<std::uint8_t>(ip[9]) == wire::kIpProtocolUdp && (load_be16(ip + 6) & 0x3FFFU) == 0;
  if (!is_plain) [[unlikely]] return Checked{.verdict = Verdict::kUnusual};
  const std::size_t total = load_be16(ip + 2);
  const std::size_t present = frame.size() - wire::kEthernetHeaderLength;
  if (total > present || total < wire::kIpv4HeaderLength || !is_ipv4_checksum_right(ip)) [[unlikely]] return dropped(kDropBadIpHeader);
  return check_udp(rules, load_be32(ip + 12), load_be32(ip + 16), {ip, total}, {ip + wire::kIpv4HeaderLength, total - wire::kIpv4HeaderLength},
                   datagram);
}

// What check_frame() called unusual, as far as it ends in a datagram or a drop. kUnusual: `ethernet` and `rest` are filled and hold an ARP
// packet or an ICMP or IGMP message for the IP host, a fragment of a UDP datagram, or an IPv6 packet.
struct Unusual {
  wire::EthernetView ethernet;
  std::span<const std::byte> rest;   // behind the Ethernet header
  bool is_fragment{};
};
[[nodiscard]] Checked check_unusual(const FrameRules& rules, std::span<const std::byte> frame, Unusual& unusual, Datagram& datagram) noexcept;

}  // namespace thalweg::core
