#include "dataplane/core/route.hpp"

#include "dataplane/base/units.hpp"
#include "dataplane/wire/ip.hpp"

namespace thalweg::core {

namespace {

constexpr std::uint32_t mask_of(std::uint32_t prefix_length) noexcept {
  return prefix_length == 0 ? 0 : ~std::uint32_t{0} << (32 - (prefix_length > 32 ? 32 : prefix_length));
}
constexpr bool matches(std::uint32_t address, std::uint32_t network, std::uint32_t prefix_length) noexcept {
  return ((address ^ network) & mask_of(prefix_length)) == 0;
}

std::string describe(const RouteTable::Choice& choice) {
  const RoutePort& port = *choice.port;
  switch (choice.rule) {
    case RouteTable::Rule::kInterface: return "the interface asked for is port " + port.name;
    case RouteTable::Rule::kSubnet: return "longest matching subnet: " + format_ipv4(port.address) + "/" + std::to_string(port.prefix_length);
    case RouteTable::Rule::kGateway: return "gateway " + format_ipv4(port.gateway) + " of port " + port.name;
    case RouteTable::Rule::kMulticastDefault: return "first port with an address takes multicast";
    case RouteTable::Rule::kKernel: return "no port of ours reaches it: the kernel";
    case RouteTable::Rule::kNone: break;
  }
  return "no route";
}

}  // namespace

const RoutePort* RouteTable::owner(std::uint32_t address) const noexcept {
  for (const RoutePort& port : ports_) {
    if (port.address != 0 && port.address == address) return &port;
  }
  return wire::is_loopback_ipv4(address) ? of_kind(shm::PortKind::kLoopback) : nullptr;
}

const RoutePort* RouteTable::of_kind(shm::PortKind kind) const noexcept {
  for (const RoutePort& port : ports_) {
    if (port.kind == kind) return &port;
  }
  return nullptr;
}

const RoutePort* RouteTable::by_subnet(std::uint32_t destination) const noexcept {
  const RoutePort* best = nullptr;
  for (const RoutePort& port : ports_) {
    if (port.address == 0 || port.prefix_length == 0 || !matches(destination, port.address, port.prefix_length)) continue;
    // Two ends of a patch cable share a subnet: the end that does not own the destination leads there.
    const bool is_better = best == nullptr || port.prefix_length > best->prefix_length ||
                           (port.prefix_length == best->prefix_length && best->address == destination);
    if (is_better) best = &port;
  }
  if (best == nullptr && wire::is_loopback_ipv4(destination)) return of_kind(shm::PortKind::kLoopback);
  return best;
}

const RoutePort* RouteTable::by_interface(std::uint32_t address, std::uint32_t prefix_length) const noexcept {
  if (const RoutePort* exact = owner(address)) return exact;
  for (const RoutePort& port : ports_) {
    if (port.address != 0 && prefix_length != 0 && matches(port.address, address, prefix_length)) return &port;
  }
  return nullptr;
}

Result<std::vector<std::uint32_t>> RouteTable::receive(std::uint32_t address, std::uint32_t interface_address) const {
  std::vector<std::uint32_t> found;
  if (address == 0) {
    for (const RoutePort& port : ports_) found.push_back(port.index);
    if (found.empty()) return fail(ErrorCode::kNotFound, "there are no ports");
    return found;
  }
  const RoutePort* port = wire::is_multicast_ipv4(address) ? choose(address, interface_address).port : owner(address);
  if (port == nullptr) port = of_kind(shm::PortKind::kKernel);
  if (port == nullptr) {
    return fail(ErrorCode::kNotFound, "no port owns " + format_ipv4(address), "give a port this address, or add a port of type kernel");
  }
  return std::vector{port->index};
}

RouteTable::Choice RouteTable::choose(std::uint32_t destination, std::uint32_t interface_address,
                                      std::uint32_t interface_prefix) const noexcept {
  if (interface_address != 0) {
    if (const RoutePort* port = by_interface(interface_address, interface_prefix)) return {port, Rule::kInterface};
  } else if (!wire::is_multicast_ipv4(destination)) {
    if (const RoutePort* port = by_subnet(destination)) return {port, Rule::kSubnet};
    for (const RoutePort& port : ports_) {
      if (port.gateway != 0) return {&port, Rule::kGateway};
    }
  } else {
    for (const RoutePort& port : ports_) {
      const bool is_wire = port.kind != shm::PortKind::kLoopback && port.kind != shm::PortKind::kKernel;
      if (port.address != 0 && is_wire) return {&port, Rule::kMulticastDefault};
    }
  }
  if (const RoutePort* port = of_kind(shm::PortKind::kKernel)) return {port, Rule::kKernel};
  return {};
}

Result<Route> RouteTable::send(std::uint32_t destination, std::uint32_t interface_address, std::uint32_t interface_prefix) const {
  const Choice choice = choose(destination, interface_address, interface_prefix);
  if (choice.port == nullptr) {
    return fail(ErrorCode::kNotFound, "no port reaches " + format_ipv4(destination), "add a gateway to a port, or a port of type kernel");
  }
  const RoutePort& port = *choice.port;
  const bool is_direct =
      wire::is_multicast_ipv4(destination) || port.gateway == 0 || matches(destination, port.address, port.prefix_length);
  return Route{port.index, is_direct ? destination : port.gateway, port.address, describe(choice)};
}

}  // namespace thalweg::core
