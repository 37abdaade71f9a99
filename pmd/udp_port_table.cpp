#include "pmd/udp_port_table.hpp"

#include "dataplane/base/units.hpp"

namespace thalweg::pmd {

Result<wire::UdpEndpoint> UdpPortTable::bind(wire::UdpEndpoint local) {
  const bool is_group = wire::is_group(local.address);
  if (local.address == 0) local.address = own_address_;
  if (!is_group && !wire::is_handle(local.address) && own_address_ != 0 && local.address != own_address_)
    return fail(ErrorCode::kInvalidArgument, "port " + name_ + " does not own " + format_ipv4(local.address),
                "it owns " + format_ipv4(own_address_) + "; see `thalweg route get`");
  if (local.port == 0) {
    constexpr std::uint32_t kRange = kEphemeralLast - kEphemeralFirst + 1U;
    std::uint32_t tried = 0;
    do {
      if (tried++ == kRange) return fail(ErrorCode::kNoSpace, "no ephemeral UDP port is free on port " + name_);
      local.port = next_ephemeral_;
      next_ephemeral_ = next_ephemeral_ == kEphemeralLast ? kEphemeralFirst : static_cast<std::uint16_t>(next_ephemeral_ + 1);
    } while (taken_.contains(key(local)));
  }
  std::uint32_t& holders = taken_[key(local)];
  if (holders != 0 && !is_group)
    return fail(ErrorCode::kInUse, (wire::is_handle(local.address) ? "UDP port " + std::to_string(local.port) + " of its IPv6 address" : format_endpoint(local.address, local.port)) +
                                       " is in use on port " + name_,
                "`thalweg stream list` shows who holds it");
  ++holders;
  return local;
}

void UdpPortTable::unbind(wire::UdpEndpoint local) {
  if (local.address == 0) local.address = own_address_;  // bound by that name on all ports
  const auto found = taken_.find(key(local));
  if (found != taken_.end() && --found->second == 0) taken_.erase(found);
}

}  // namespace thalweg::pmd
