#pragma once
#include <rte_mbuf.h>

#include <algorithm>

#include "dataplane/wire/ip.hpp"

// Frames of ports that have no Ethernet: what a lane sends is taken apart, what a socket received is dressed up. No VLAN, no options.
namespace thalweg::pmd {

// Addresses and payload of an outgoing UDP frame of our own making. The headers are contiguous in the first segment.
struct UdpFrame {
  wire::UdpEndpoint source;
  wire::UdpEndpoint destination;
  std::uint32_t payload_length{};
  // False: not IPv4/UDP without options, or cut short (ARP, ICMP and the like have no business on such a port).
  [[nodiscard]] static bool parse(const rte_mbuf* frame, UdpFrame& out) noexcept {
    if (frame->data_len < wire::kUdpFrameHeaderLength) return false;
    const auto* const p = rte_pktmbuf_mtod(frame, const std::byte*);
    const std::byte* const ip = p + wire::kEthernetHeaderLength;
    if (load_be16(p + 12) != wire::kEtherTypeIpv4 || ip[0] != std::byte{0x45} || ip[9] != std::byte{wire::kIpProtocolUdp}) return false;
    const std::byte* const udp = ip + wire::kIpv4HeaderLength;
    const std::uint32_t udp_length = load_be16(udp + 4);
    if (udp_length < wire::kUdpHeaderLength) return false;
    out.source = {load_be32(ip + 12), load_be16(udp)};
    out.destination = {load_be32(ip + 16), load_be16(udp + 2)};
    out.payload_length = udp_length - static_cast<std::uint32_t>(wire::kUdpHeaderLength);
    return out.payload_length <= frame->pkt_len - wire::kUdpFrameHeaderLength;
  }
};

// Writes Ethernet (zero MACs), IPv4 and UDP (checksum 0) headers, kUdpFrameHeaderLength bytes, in front of a received payload.
inline void write_udp_headers(std::byte* p, const wire::UdpEndpoint& source, const wire::UdpEndpoint& destination,
                              std::uint32_t payload_length) noexcept {
  constexpr std::uint16_t kVersionAndLength = 0x4500;
  constexpr std::uint16_t kTtlAndProtocol = 0x4000 | wire::kIpProtocolUdp;
  const std::uint32_t udp_length = payload_length + static_cast<std::uint32_t>(wire::kUdpHeaderLength);
  const std::uint32_t total = udp_length + static_cast<std::uint32_t>(wire::kIpv4HeaderLength);
  const std::uint32_t sum = kVersionAndLength + total + kTtlAndProtocol + (source.address >> 16) + (source.address & 0xFFFF) +
                            (destination.address >> 16) + (destination.address & 0xFFFF);
  std::memset(p, 0, 12);
  store_be16(p + 12, wire::kEtherTypeIpv4);
  std::byte* const ip = p + wire::kEthernetHeaderLength;
  store_be16(ip, kVersionAndLength);
  store_be16(ip + 2, static_cast<std::uint16_t>(total));
  store_be32(ip + 4, 0);
  store_be16(ip + 8, kTtlAndProtocol);
  store_be16(ip + 10, wire::checksum_fold(sum));
  store_be32(ip + 12, source.address);
  store_be32(ip + 16, destination.address);
  std::byte* const udp = ip + wire::kIpv4HeaderLength;
  store_be16(udp, source.port);
  store_be16(udp + 2, destination.port);
  store_be16(udp + 4, static_cast<std::uint16_t>(udp_length));
  store_be16(udp + 6, 0);
}

// A group may be joined on several interfaces of a socket port: where a datagram came in, our address there, stands in the last bytes of the
// source MAC, which such a port has no other use for.
inline void write_interface(std::byte* frame, std::uint32_t address) noexcept { store_be32(frame + 8, address); }
[[nodiscard]] inline std::uint32_t read_interface(const std::byte* frame) noexcept { return load_be32(frame + 8); }

// Changes the source address of a parsed frame and its IP checksum with it (RFC 1624, equation 3). The UDP
// checksum is left out from then on: such a frame does not leave this process.
inline void rewrite_source(rte_mbuf* frame, std::uint32_t from, std::uint32_t to) noexcept {
  std::byte* const ip = rte_pktmbuf_mtod(frame, std::byte*) + wire::kEthernetHeaderLength;
  const std::uint32_t sum = static_cast<std::uint16_t>(~load_be16(ip + 10)) + (~(from >> 16) & 0xFFFF) + (~from & 0xFFFF) + (to >> 16) +
                            (to & 0xFFFF);
  store_be16(ip + 10, wire::checksum_fold(sum));
  store_be32(ip + 12, to);
  store_be16(ip + wire::kIpv4HeaderLength + 6, 0);
}

}  // namespace thalweg::pmd
