#include "dataplane/wire/ip.hpp"

namespace thalweg::wire {

std::uint32_t checksum_add(std::span<const std::byte> bytes, std::uint32_t sum) noexcept {
  std::uint64_t wide = sum;
  std::size_t i = 0;
  for (; i + 4 <= bytes.size(); i += 4) wide += load_be32(bytes.data() + i);
  if (i + 2 <= bytes.size()) {
    wide += load_be16(bytes.data() + i);
    i += 2;
  }
  if (i < bytes.size()) wide += static_cast<std::uint32_t>(bytes[i]) << 8;
  while (wide >> 32 != 0) wide = (wide & 0xFFFFFFFF) + (wide >> 32);
  return static_cast<std::uint32_t>((wide & 0xFFFF) + (wide >> 16));
}

std::uint16_t udp_checksum(std::uint32_t source, std::uint32_t destination, std::span<const std::byte> udp) noexcept {
  std::uint32_t sum = (source >> 16) + (source & 0xFFFF) + (destination >> 16) + (destination & 0xFFFF) + kIpProtocolUdp +
                      static_cast<std::uint32_t>(udp.size());
  const std::uint16_t folded = checksum_fold(checksum_add(udp, sum));
  return folded == 0 ? std::uint16_t{0xFFFF} : folded;
}

}  // namespace thalweg::wire
