#pragma once
#include <cstdint>
#include <string>
#include <unordered_map>

#include "pmd/port.hpp"

namespace thalweg::pmd {

// UDP addresses taken on a poll-mode port, which has no kernel behind it to ask. Steward only.
class UdpPortTable {
 public:
  static constexpr std::uint16_t kEphemeralFirst = 49152;  // RFC 6335 section 6: the dynamic ports
  static constexpr std::uint16_t kEphemeralLast = 65535;

  // `own_address` is the port's (0: it has none and takes any); `name` is for messages.
  UdpPortTable(std::string name, std::uint32_t own_address) : name_{std::move(name)}, own_address_{own_address} {}

  // Takes an address. A wildcard becomes the port's own address; port 0 picks an ephemeral port. Multicast groups may be shared.
  // IPv6 addresses are taken as they come: whoever binds knows the port's. Errors: kInUse; kInvalidArgument when the address is not the port's; kNoSpace when no ephemeral port is left.
  [[nodiscard]] Result<wire::UdpEndpoint> bind(wire::UdpEndpoint local);
  void unbind(wire::UdpEndpoint local);
  [[nodiscard]] std::size_t size() const noexcept { return taken_.size(); }

 private:
  [[nodiscard]] static std::uint64_t key(const wire::UdpEndpoint& e) noexcept { return std::uint64_t{e.address} << 16 | e.port; }
  std::string name_;
  std::uint32_t own_address_{};
  std::uint16_t next_ephemeral_{kEphemeralFirst};
  std::unordered_map<std::uint64_t, std::uint32_t> taken_;  // address -> holders (more than one only for groups)
};

}  // namespace thalweg::pmd
