#pragma once
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>

namespace thalweg::names {

// Where a driver answers names, as an entry of a RES frame carries it (wire-protocol 6.1).
struct Address {
  std::uint8_t type{1};                // wire::ResolutionEntry::kIpv4 or kIpv6
  std::uint16_t port{};
  std::array<std::byte, 16> bytes{};   // network order; IPv4 in the first four, the others zero

  [[nodiscard]] static Address ipv4(std::uint32_t host_order, std::uint16_t port) noexcept;
  // Host order. Precondition: type is IPv4.
  [[nodiscard]] std::uint32_t to_ipv4() const noexcept;
  [[nodiscard]] bool is_ipv4() const noexcept;
  [[nodiscard]] bool is_wildcard() const noexcept;
  // Multicast, broadcast, or of 240.0.0.0/4, which would pass for a handle (wire/ip.hpp): nobody's own address.
  [[nodiscard]] bool is_nobodys() const noexcept;
  // "10.0.0.1:8050", "[fe80::1]:8050".
  [[nodiscard]] std::string to_string() const;
  auto operator<=>(const Address&) const = default;
};

}  // namespace thalweg::names
