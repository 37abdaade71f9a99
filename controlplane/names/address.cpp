#include "controlplane/names/address.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>

#include "dataplane/base/units.hpp"
#include "dataplane/wire/frames.hpp"
#include "dataplane/wire/ip.hpp"

namespace thalweg::names {

Address Address::ipv4(std::uint32_t host_order, std::uint16_t port) noexcept {
  Address address{.type = wire::ResolutionEntry::kIpv4, .port = port};
  for (unsigned i = 0; i < 4; ++i) address.bytes[i] = static_cast<std::byte>(host_order >> (24 - 8 * i));
  return address;
}

std::uint32_t Address::to_ipv4() const noexcept {
  std::uint32_t value = 0;
  for (unsigned i = 0; i < 4; ++i) value = value << 8 | std::to_integer<std::uint32_t>(bytes[i]);
  return value;
}

bool Address::is_ipv4() const noexcept { return type == wire::ResolutionEntry::kIpv4; }

bool Address::is_wildcard() const noexcept {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

bool Address::is_nobodys() const noexcept {
  if (!is_ipv4()) return bytes[0] == std::byte{0xFF};
  return wire::is_multicast_ipv4(to_ipv4()) || wire::is_reserved_ipv4(to_ipv4()) || to_ipv4() == 0xFFFFFFFFU;
}

std::string Address::to_string() const {
  if (is_ipv4()) return format_endpoint(to_ipv4(), port);
  char text[INET6_ADDRSTRLEN]{};
  ::inet_ntop(AF_INET6, bytes.data(), text, sizeof text);
  return fmt::format("[{}]:{}", text, port);
}

}  // namespace thalweg::names
