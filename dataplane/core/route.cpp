#include "dataplane/core/route.hpp"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <cstring>

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

std::string format_network(std::uint32_t address, std::uint32_t prefix_length) { return format_ipv4(address) + "/" + std::to_string(prefix_length); }

std::string describe(const RouteTable::Choice& choice) {
  const RoutePort& port = *choice.port;
  switch (choice.rule) {
    case RouteTable::Rule::kInterface: return "the interface asked for is port " + port.name;
    case RouteTable::Rule::kSubnet: return "longest matching subnet: " + format_network(port.address, port.prefix_length);
    case RouteTable::Rule::kRoute:
      return "longest matching route: " + format_network(choice.route->network, choice.route->prefix_length) + " via " + format_ipv4(choice.route->gateway) +
             " of port " + port.name;
    case RouteTable::Rule::kGateway: return "gateway " + format_ipv4(port.gateway) + " of port " + port.name;
    case RouteTable::Rule::kKernel: return "no port of ours reaches it: the kernel";
    case RouteTable::Rule::kNone: break;
  }
  return "no route";
}

const HostInterface* best_of(const std::vector<HostInterface>& host, std::uint32_t address, std::uint32_t prefix_length, bool is_loopback) noexcept {
  const HostInterface* best = nullptr;
  for (const HostInterface& interface : host) {
    const bool fits = interface.is_loopback == is_loopback && (interface.has_multicast || is_loopback) && matches(interface.address, address, prefix_length);
    if (fits && (best == nullptr || interface.prefix_length > best->prefix_length)) best = &interface;
  }
  return best;
}

std::uint32_t ipv4_of(const sockaddr* address) noexcept {
  sockaddr_in in{};
  std::memcpy(&in, address, sizeof in);
  return ntohl(in.sin_addr.s_addr);
}

}  // namespace

std::vector<HostInterface> read_host_interfaces() {
  std::vector<HostInterface> found;
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return found;
  for (const ifaddrs* i = first; i != nullptr; i = i->ifa_next) {
    const bool is_usable = i->ifa_addr != nullptr && i->ifa_addr->sa_family == AF_INET && i->ifa_netmask != nullptr && (i->ifa_flags & IFF_UP) != 0;
    if (!is_usable) continue;
    found.push_back({i->ifa_name, ipv4_of(i->ifa_addr), static_cast<std::uint32_t>(std::popcount(ipv4_of(i->ifa_netmask))),
                     (i->ifa_flags & IFF_MULTICAST) != 0, (i->ifa_flags & IFF_LOOPBACK) != 0});
  }
  ::freeifaddrs(first);
  return found;
}

const shm::PortRoute* RoutePort::route_to(std::uint32_t destination) const noexcept {
  const shm::PortRoute* best = nullptr;
  for (const shm::PortRoute& route : routes) {
    const bool is_better = best == nullptr || route.prefix_length > best->prefix_length;
    if (is_better && matches(destination, route.network, route.prefix_length)) best = &route;
  }
  return best;
}

std::uint32_t RoutePort::next_hop(std::uint32_t destination) const noexcept {
  const shm::PortRoute* const route = route_to(destination);
  const bool is_on_link = matches(destination, address, prefix_length);
  if (is_on_link && (route == nullptr || route->prefix_length <= prefix_length)) return destination;
  if (route != nullptr) return route->gateway;
  return gateway != 0 ? gateway : destination;
}

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

// The longest prefix of all; where two are equally long, the network itself rather than a way to it.
RouteTable::Choice RouteTable::by_prefix(std::uint32_t destination) const noexcept {
  const RoutePort* const near = by_subnet(destination);
  Choice best{near, near == nullptr ? Rule::kNone : Rule::kSubnet};
  std::uint32_t longest = near == nullptr ? 0 : near->prefix_length;
  for (const RoutePort& port : ports_) {
    const shm::PortRoute* const route = port.route_to(destination);
    if (route == nullptr || route->prefix_length <= longest) continue;
    best = {&port, Rule::kRoute, route};
    longest = route->prefix_length;
  }
  return best;
}

const RoutePort* RouteTable::by_interface(std::uint32_t address, std::uint32_t prefix_length) const noexcept {
  if (const RoutePort* exact = owner(address)) return exact;
  for (const RoutePort& port : ports_) {
    if (port.address != 0 && prefix_length != 0 && matches(port.address, address, prefix_length)) return &port;
  }
  return nullptr;
}

const RoutePort* RouteTable::by_network(std::uint32_t address, std::uint32_t prefix_length) const noexcept {
  const RoutePort* best = nullptr;
  for (const RoutePort& port : ports_) {
    const bool is_wire = port.kind != shm::PortKind::kLoopback && port.kind != shm::PortKind::kKernel && port.address != 0;
    if (!is_wire || !matches(port.address, address, prefix_length)) continue;
    if (best == nullptr || port.prefix_length > best->prefix_length) best = &port;
  }
  return best;
}

Result<GroupRoute> RouteTable::group(std::uint32_t interface_address, std::uint32_t prefix_length, const std::vector<HostInterface>& host) const {
  const std::uint32_t prefix = interface_address == 0 ? 0 : prefix_length == 0 ? 32 : prefix_length;
  const std::string asked = format_ipv4(interface_address) + "/" + std::to_string(prefix);
  const std::string match = prefix == 0 ? "longest netmask of all networks" : "the interface asked for, " + asked;
  const RoutePort* const kernel = of_kind(shm::PortKind::kKernel);
  const RoutePort* const loopback = of_kind(shm::PortKind::kLoopback);
  if (const RoutePort* port = by_network(interface_address, prefix)) return GroupRoute{port->index, port->address, match + ": port " + port->name};
  if (kernel != nullptr) {
    if (const HostInterface* interface = best_of(host, interface_address, prefix, false)) {
      return GroupRoute{kernel->index, interface->address, match + ": the kernel's " + interface->name};
    }
  }
  if (loopback != nullptr && matches(0x7F000001, interface_address, std::min<std::uint32_t>(prefix, 8))) {
    return GroupRoute{loopback->index, 0x7F000001, prefix == 0 ? "no other network does multicast: loopback" : match + ": loopback"};
  }
  if (kernel != nullptr) {
    if (const HostInterface* interface = best_of(host, interface_address, prefix, true)) {
      return GroupRoute{kernel->index, interface->address, match + ": the kernel's " + interface->name};
    }
  }
  return fail(ErrorCode::kInvalidChannel, "interface=" + asked + " matches no port" + (kernel != nullptr ? " and no interface of this host" : ""),
              "`thalweg stat` lists the ports with their addresses");
}

Result<std::vector<std::uint32_t>> RouteTable::receive(std::uint32_t address) const {
  std::vector<std::uint32_t> found;
  if (address == 0) {
    for (const RoutePort& port : ports_) found.push_back(port.index);
    if (found.empty()) return fail(ErrorCode::kNotFound, "there are no ports");
    return found;
  }
  const RoutePort* port = owner(address);
  if (port == nullptr) port = of_kind(shm::PortKind::kKernel);
  if (port == nullptr) {
    return fail(ErrorCode::kNotFound, "no port owns " + format_ipv4(address), "give a port this address, or add a port of type kernel");
  }
  return std::vector{port->index};
}

RouteTable::Choice RouteTable::choose(std::uint32_t destination, std::uint32_t interface_address,
                                      std::uint32_t interface_prefix) const noexcept {
  if (interface_address != 0) {
    if (const RoutePort* port = by_interface(interface_address, interface_prefix)) return {port, Rule::kInterface, nullptr};
  } else {
    if (const Choice choice = by_prefix(destination); choice.port != nullptr) return choice;
    for (const RoutePort& port : ports_) {
      if (port.gateway != 0) return {&port, Rule::kGateway, nullptr};
    }
  }
  if (const RoutePort* port = of_kind(shm::PortKind::kKernel)) return {port, Rule::kKernel, nullptr};
  return {};
}

Result<Route> RouteTable::send(std::uint32_t destination, std::uint32_t interface_address, std::uint32_t interface_prefix) const {
  const Choice choice = choose(destination, interface_address, interface_prefix);
  if (choice.port == nullptr) {
    return fail(ErrorCode::kNotFound, "no port reaches " + format_ipv4(destination), "add a gateway or a route to a port, or a port of type kernel");
  }
  const RoutePort& port = *choice.port;
  return Route{port.index, port.next_hop(destination), port.address, describe(choice)};
}

}  // namespace thalweg::core
