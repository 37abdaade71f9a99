#pragma once
#include "pmd/port.hpp"

namespace thalweg::pmd {

// The configured MAC, or one made up from the port's name and address: locally administered, unicast, the same after each restart, so
// that peers need not learn it again.
[[nodiscard]] inline wire::MacAddress port_mac(const PortOptions& options) noexcept {
  if (!options.mac.is_zero()) return options.mac;
  std::uint64_t hash = 0xCBF29CE484222325U;  // FNV-1a, 64 bits
  const auto mix = [&hash](std::uint8_t byte) { hash = (hash ^ byte) * 0x100000001B3U; };
  for (const char c : options.name) mix(static_cast<std::uint8_t>(c));
  for (unsigned shift = 0; shift < 32; shift += 8) mix(static_cast<std::uint8_t>(options.address >> shift));
  wire::MacAddress mac;
  for (std::size_t i = 1; i < mac.bytes.size(); ++i) mac.bytes[i] = static_cast<std::uint8_t>(hash >> (8 * i));
  mac.bytes[0] = 0x02;
  return mac;
}

}  // namespace thalweg::pmd
