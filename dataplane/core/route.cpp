#include "dataplane/core/route.hpp"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "dataplane/base/time.hpp"
#include "dataplane/base/units.hpp"
#include "dataplane/wire/ip.hpp"

namespace thalweg::core {

namespace {

constexpr std::uint32_t kLocalhost = 0x7F000001;

constexpr std::uint32_t mask_of(std::uint32_t prefix_length) noexcept {
  return prefix_length == 0 ? 0 : ~std::uint32_t{0} << (32 - (prefix_length > 32 ? 32 : prefix_length));
}

// Of one family, and equal in so many bits.
bool matches(const shm::AddressBook* book, std::uint32_t address, std::uint32_t network, std::uint32_t prefix_length) noexcept {
  const bool is_ipv6 = wire::is_handle(address);
  if (is_ipv6 != wire::is_handle(network)) return false;
  if (!is_ipv6) return ((address ^ network) & mask_of(prefix_length)) == 0;
  const shm::ScopedIpv6 a = book->address(address), b = book->address(network);
  return wire::is_same_network(a.address, b.address, std::min(prefix_length, 128U)) && (a.scope == b.scope || a.scope == 0 || b.scope == 0);
}

std::uint32_t ipv4_of(const sockaddr* address) noexcept {
  sockaddr_in in{};
  std::memcpy(&in, address, sizeof in);
  return ntohl(in.sin_addr.s_addr);
}

shm::ScopedIpv6 ipv6_of(const sockaddr* address) noexcept {
  sockaddr_in6 in{};
  std::memcpy(&in, address, sizeof in);
  shm::ScopedIpv6 found;
  std::memcpy(found.address.bytes.data(), &in.sin6_addr, found.address.bytes.size());
  found.scope = in.sin6_scope_id;
  return found;
}

std::uint32_t prefix_of(const shm::ScopedIpv6& mask) noexcept {
  unsigned bits = 0;
  for (const std::uint8_t byte : mask.address.bytes) bits += static_cast<unsigned>(std::popcount(byte));
  return bits;
}

}  // namespace

std::vector<HostInterface> read_host_interfaces(shm::AddressBook* book) {
  std::vector<HostInterface> found;
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return found;
  for (const ifaddrs* i = first; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || i->ifa_netmask == nullptr || (i->ifa_flags & IFF_UP) == 0) continue;
    HostInterface interface{i->ifa_name, 0, 0, (i->ifa_flags & IFF_MULTICAST) != 0, (i->ifa_flags & IFF_LOOPBACK) != 0};
    if (i->ifa_addr->sa_family == AF_INET) {
      interface.address = ipv4_of(i->ifa_addr);
      interface.prefix_length = static_cast<std::uint32_t>(std::popcount(ipv4_of(i->ifa_netmask)));
    } else if (i->ifa_addr->sa_family == AF_INET6 && book != nullptr) {
      interface.address = book->enter(ipv6_of(i->ifa_addr), shm::AddressBook::By::kNamed, monotonic_ns());
      interface.prefix_length = prefix_of(ipv6_of(i->ifa_netmask));
    }
    if (interface.address != 0) found.push_back(std::move(interface));
  }
  ::freeifaddrs(first);
  return found;
}

RouteTable::RouteTable(std::vector<RoutePort> ports, const shm::AddressBook* book) : ports_{std::move(ports)}, book_{book} {
  for (RoutePort& port : ports_) port.book = book;
}

std::string RouteTable::format(std::uint32_t address) const { return book_ == nullptr ? format_ipv4(address) : book_->format(address); }

std::string RouteTable::format_network(std::uint32_t address, std::uint32_t prefix_length) const {
  return format(address) + "/" + std::to_string(prefix_length);
}

std::string RouteTable::describe(const Choice& choice, std::uint32_t destination) const {
  const RoutePort& port = *choice.port;
  const RoutePort::Network own = port.of_family(wire::is_handle(destination));
  switch (choice.rule) {
    case Rule::kInterface: return "the interface asked for is port " + port.name;
    case Rule::kSubnet: return "longest matching subnet: " + format_network(own.address, own.prefix_length);
    case Rule::kRoute:
      return "longest matching route: " + format_network(choice.route->network, choice.route->prefix_length) + " via " + format(choice.route->gateway) + " of port " +
             port.name;
    case Rule::kGateway: return "gateway " + format(own.gateway) + " of port " + port.name;
    case Rule::kKernel: return "no port of ours reaches it: the kernel";
    case Rule::kNone: break;
  }
  return "no route";
}

const HostInterface* RouteTable::best_of(const std::vector<HostInterface>& host, std::uint32_t address, std::uint32_t prefix_length, bool is_loopback) const noexcept {
  const HostInterface* best = nullptr;
  for (const HostInterface& interface : host) {
    const bool fits = interface.is_loopback == is_loopback && (interface.has_multicast || is_loopback) && matches(book_, interface.address, address, prefix_length);
    if (fits && (best == nullptr || interface.prefix_length > best->prefix_length)) best = &interface;
  }
  return best;
}

const shm::PortRoute* RoutePort::route_to(std::uint32_t destination) const noexcept {
  const shm::PortRoute* best = nullptr;
  for (const shm::PortRoute& route : routes) {
    const bool is_better = best == nullptr || route.prefix_length > best->prefix_length;
    if (is_better && matches(book, destination, route.network, route.prefix_length)) best = &route;
  }
  return best;
}

std::uint32_t RoutePort::next_hop(std::uint32_t destination) const noexcept {
  const Network own = of_family(wire::is_handle(destination));
  const shm::PortRoute* const route = route_to(destination);
  const bool is_on_link = matches(book, destination, own.address, own.prefix_length) || is_link_local(destination);
  if (is_on_link && (route == nullptr || route->prefix_length <= own.prefix_length)) return destination;
  if (route != nullptr) return route->gateway;
  return own.gateway != 0 ? own.gateway : destination;
}

bool RoutePort::is_link_local(std::uint32_t destination) const noexcept {
  return wire::is_handle(destination) && book->address(destination).address.is_link_local();
}

const RoutePort* RouteTable::owner(std::uint32_t address) const noexcept {
  for (const RoutePort& port : ports_) {
    const std::uint32_t own = port.of_family(wire::is_handle(address)).address;
    if (own != 0 && own == address) return &port;
  }
  return wire::is_loopback(address) ? of_kind(shm::PortKind::kLoopback) : nullptr;
}

const RoutePort* RouteTable::of_kind(shm::PortKind kind) const noexcept {
  for (const RoutePort& port : ports_) {
    if (port.kind == kind) return &port;
  }
  return nullptr;
}

const RoutePort* RouteTable::by_subnet(std::uint32_t destination) const noexcept {
  const bool is_ipv6 = wire::is_handle(destination);
  const RoutePort* best = nullptr;
  RoutePort::Network nearest;
  for (const RoutePort& port : ports_) {
    const RoutePort::Network own = port.of_family(is_ipv6);
    if (own.address == 0 || own.prefix_length == 0 || !matches(book_, destination, own.address, own.prefix_length)) continue;
    // Two ends of a patch cable share a subnet: the end that does not own the destination leads there.
    const bool is_better = best == nullptr || own.prefix_length > nearest.prefix_length ||
                           (own.prefix_length == nearest.prefix_length && nearest.address == destination);
    if (!is_better) continue;
    best = &port;
    nearest = own;
  }
  if (best == nullptr && wire::is_loopback(destination)) return of_kind(shm::PortKind::kLoopback);
  return best;
}

// The longest prefix of all; where two are equally long, the network itself rather than a way to it.
RouteTable::Choice RouteTable::by_prefix(std::uint32_t destination) const noexcept {
  const RoutePort* const near = by_subnet(destination);
  Choice best{near, near == nullptr ? Rule::kNone : Rule::kSubnet};
  std::uint32_t longest = near == nullptr ? 0 : near->of_family(wire::is_handle(destination)).prefix_length;
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
    const std::uint32_t own = port.of_family(wire::is_handle(address)).address;
    if (own != 0 && prefix_length != 0 && matches(book_, own, address, prefix_length)) return &port;
  }
  return nullptr;
}

const RoutePort* RouteTable::by_network(std::uint32_t address, std::uint32_t prefix_length) const noexcept {
  const bool is_ipv6 = wire::is_handle(address);
  const RoutePort* best = nullptr;
  for (const RoutePort& port : ports_) {
    const RoutePort::Network own = port.of_family(is_ipv6);
    const bool is_wire = port.kind != shm::PortKind::kLoopback && port.kind != shm::PortKind::kKernel && own.address != 0;
    if (!is_wire || !matches(book_, own.address, address, prefix_length)) continue;
    if (best == nullptr || own.prefix_length > best->of_family(is_ipv6).prefix_length) best = &port;
  }
  return best;
}

Result<GroupRoute> RouteTable::group(std::uint32_t interface_address, std::uint32_t prefix_length, const std::vector<HostInterface>& host) const {
  const bool is_ipv6 = wire::is_handle(interface_address);
  const std::uint32_t whole = is_ipv6 ? 128 : 32;
  const std::uint32_t prefix = wire::is_any(interface_address) ? 0 : prefix_length == 0 ? whole : prefix_length;
  const std::string asked = format_network(interface_address, prefix);
  const std::string match = prefix == 0 ? "longest netmask of all networks" : "the interface asked for, " + asked;
  const RoutePort* const kernel = of_kind(shm::PortKind::kKernel);
  const RoutePort* const loopback = of_kind(shm::PortKind::kLoopback);
  const std::uint32_t localhost = is_ipv6 ? wire::kLoopbackIpv6 : kLocalhost;
  if (const RoutePort* port = by_network(interface_address, prefix)) return GroupRoute{port->index, port->of_family(is_ipv6).address, match + ": port " + port->name};
  if (kernel != nullptr) {
    if (const HostInterface* interface = best_of(host, interface_address, prefix, false)) {
      return GroupRoute{kernel->index, interface->address, match + ": the kernel's " + interface->name};
    }
  }
  if (loopback != nullptr && matches(book_, localhost, interface_address, is_ipv6 ? prefix : std::min<std::uint32_t>(prefix, 8))) {
    return GroupRoute{loopback->index, localhost, prefix == 0 ? "no other network does multicast: loopback" : match + ": loopback"};
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
  if (wire::is_any(address)) {
    for (const RoutePort& port : ports_) {
      if (address == 0 || port.address6 != 0 || port.kind == shm::PortKind::kKernel) found.push_back(port.index);
    }
    if (found.empty()) return fail(ErrorCode::kNotFound, ports_.empty() ? "there are no ports" : "no port has an IPv6 address");
    return found;
  }
  const RoutePort* port = owner(address);
  if (port == nullptr) port = of_kind(shm::PortKind::kKernel);
  if (port == nullptr) {
    return fail(ErrorCode::kNotFound, "no port owns " + format(address), "give a port this address, or add a port of type kernel");
  }
  return std::vector{port->index};
}

RouteTable::Choice RouteTable::choose(std::uint32_t destination, std::uint32_t interface_address,
                                      std::uint32_t interface_prefix) const noexcept {
  const bool is_ipv6 = wire::is_handle(destination);
  if (!wire::is_any(interface_address)) {
    if (const RoutePort* port = by_interface(interface_address, interface_prefix)) return {port, Rule::kInterface, nullptr};
  } else {
    if (const Choice choice = by_prefix(destination); choice.port != nullptr) return choice;
    for (const RoutePort& port : ports_) {
      if (port.of_family(is_ipv6).gateway != 0) return {&port, Rule::kGateway, nullptr};
    }
  }
  if (const RoutePort* port = of_kind(shm::PortKind::kKernel)) return {port, Rule::kKernel, nullptr};
  return {};
}

Result<Route> RouteTable::send(std::uint32_t destination, std::uint32_t interface_address, std::uint32_t interface_prefix) const {
  const Choice choice = choose(destination, interface_address, interface_prefix);
  if (choice.port == nullptr) {
    return fail(ErrorCode::kNotFound, "no port reaches " + format(destination), "add a gateway or a route to a port, or a port of type kernel");
  }
  const RoutePort& port = *choice.port;
  return Route{port.index, port.next_hop(destination), port.of_family(wire::is_handle(destination)).address, describe(choice, destination)};
}

}  // namespace thalweg::core
