#include "pmd/decorators/frame_loss.hpp"

#include <rte_mbuf.h>

#include <array>

#include "dataplane/wire/frames.hpp"
#include "dataplane/wire/ip.hpp"
#include "dataplane/wire/ipv6.hpp"

namespace thalweg::pmd {
namespace {

constexpr std::uint32_t kTypeOffset = 6;  // of the frame header
constexpr auto kIpv6HeaderBytes = static_cast<std::uint32_t>(wire::kIpv6HeaderLength);
constexpr std::uint16_t kFragmentOffsetMask = 0x1FFF;

// `length` bytes at `offset`, wherever in the chain they lie; nullptr: there are not so many.
const std::byte* bytes_of(const rte_mbuf* frame, std::uint32_t offset, std::uint32_t length, std::byte* room) noexcept {
  return static_cast<const std::byte*>(rte_pktmbuf_read(frame, offset, length, room));
}

// Where the UDP header begins.
std::optional<std::uint32_t> udp_offset_of(const rte_mbuf* frame) noexcept {
  std::array<std::byte, kIpv6HeaderBytes> room;
  std::uint32_t ip = wire::kEthernetHeaderLength;
  const std::byte* type = bytes_of(frame, ip - 2, 2, room.data());
  if (type != nullptr && load_be16(type) == wire::kEtherTypeVlan) {
    ip += wire::kVlanTagLength;
    type = bytes_of(frame, ip - 2, 2, room.data());
  }
  if (type == nullptr) return std::nullopt;
  const std::uint16_t ether_type = load_be16(type);
  if (ether_type == wire::kEtherTypeIpv4) {
    const std::byte* const header = bytes_of(frame, ip, wire::kIpv4HeaderLength, room.data());
    if (header == nullptr || header[9] != std::byte{wire::kIpProtocolUdp} || (load_be16(header + 6) & kFragmentOffsetMask) != 0) return std::nullopt;
    return ip + (static_cast<std::uint32_t>(header[0]) & 0xF) * 4;
  }
  if (ether_type != wire::kEtherTypeIpv6) return std::nullopt;
  const std::byte* const header = bytes_of(frame, ip, kIpv6HeaderBytes, room.data());
  if (header == nullptr || header[6] != std::byte{wire::kIpProtocolUdp}) return std::nullopt;
  return ip + kIpv6HeaderBytes;
}

// Far from the seeds that an impaired port derives for its other kinds.
constexpr std::uint64_t kSeedsPerQueue = 0x1'0000'0000U;

}  // namespace

std::optional<std::uint16_t> frame_type_of(const rte_mbuf* frame) noexcept {
  const auto udp = udp_offset_of(frame);
  if (!udp) return std::nullopt;
  std::array<std::byte, wire::FrameHeader::kLength> room;
  const std::byte* const header = bytes_of(frame, *udp + static_cast<std::uint32_t>(wire::kUdpHeaderLength), wire::FrameHeader::kLength, room.data());
  return header == nullptr ? std::nullopt : std::optional{load_le<std::uint16_t>(header + kTypeOffset)};
}

FrameLossRules::FrameLossRules(const std::vector<FrameLossOptions>& options, bool is_sent, std::uint64_t queue) {
  for (const FrameLossOptions& one : options) {
    if (one.is_sent == is_sent) rules_.push_back({one.types, one.loss_ppm, Random{one.seed + queue * kSeedsPerQueue}});
  }
}

bool FrameLossRules::takes(const rte_mbuf* frame) noexcept {
  if (rules_.empty()) return false;
  const auto type = frame_type_of(frame);
  constexpr std::uint16_t kBits = 32;
  if (!type || *type >= kBits) return false;
  bool is_taken = false;
  for (Rule& rule : rules_) {
    if ((rule.types >> *type & 1U) != 0) is_taken = rule.random.chance_ppm(rule.loss_ppm) || is_taken;
  }
  return is_taken;
}

}  // namespace thalweg::pmd
