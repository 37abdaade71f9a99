// Rules between the IPv6 keys of ports: address6, gateway6, routes6.
#include <charconv>
#include <optional>

#include "config/schema/rules.hpp"
#include "dataplane/wire/ipv6.hpp"

namespace thalweg::config {
namespace {

constexpr std::uint32_t kMtuMin = 1280;  // RFC 8200 5
constexpr std::uint32_t kUdpIpv6Headers = 48;

struct Subnet6 {
  wire::Ipv6Address address;
  std::uint32_t prefix{};
  [[nodiscard]] bool contains(const wire::Ipv6Address& other) const { return wire::is_same_network(address, other, prefix); }
  [[nodiscard]] bool is_same(const Subnet6& other) const { return prefix == other.prefix && contains(other.address); }
  [[nodiscard]] wire::Ipv6Address network() const {
    wire::Ipv6Address cut = address;
    for (std::uint32_t bit = prefix; bit < 128; ++bit) cut.bytes[bit / 8] &= static_cast<std::uint8_t>(~(0x80U >> (bit % 8)));
    return cut;
  }
};

std::string format(const Subnet6& subnet) { return wire::format_ipv6(subnet.network()) + "/" + std::to_string(subnet.prefix); }

std::optional<Subnet6> parse_subnet6(std::string_view text) {
  const std::size_t slash = text.find('/');
  const auto address = wire::parse_ipv6(text.substr(0, slash));
  if (!address || slash == std::string_view::npos) return std::nullopt;
  Subnet6 subnet{*address, 0};
  std::from_chars(text.data() + slash + 1, text.data() + text.size(), subnet.prefix);
  return subnet;
}

// One station's, and of more than one link.
bool is_host(const wire::Ipv6Address& address) {
  return address != wire::parse_ipv6("::1") && !address.is_unspecified() && !address.is_multicast() && !address.is_link_local() && !wire::mapped_ipv4(address);
}

// `port_path` names the port, `path` the key with the next hop.
void check_next_hop(const Port& port, const std::string& port_path, const std::string& what, const std::string& text, const std::string& path, Findings& findings) {
  const auto own = parse_subnet6(port.address6);
  const auto next_hop = wire::parse_ipv6(text);
  if (!own) {
    findings.error_at(path, what + " needs an address6 of the port", {port_path, port_path + ".address6"});
  } else if (!next_hop || next_hop->is_multicast() || !(next_hop->is_link_local() || own->contains(*next_hop))) {
    findings.error_at(path, what + " must be link-local or lie in the network of address6 " + port.address6);
  } else if (*next_hop == own->address) {
    findings.error_at(path, what + " is the port's own address");
  }
}

void check_mtu(const Config& config, const Port& port, const std::string& port_path, Findings& findings) {
  const std::string path = port_path + ".address6";
  const std::string mtu = std::to_string(port.mtu_bytes);
  if (port.mtu_bytes < kMtuMin) {
    findings.error_at(path, "IPv6 needs a mtu of at least " + std::to_string(kMtuMin) + ", port '" + port.name + "' has " + mtu, {port_path + ".mtu"});
  } else if (config.streams.mtu_bytes + kUdpIpv6Headers > port.mtu_bytes) {
    findings.error_at(path, "streams.mtu " + std::to_string(config.streams.mtu_bytes) + " and 48 bytes of headers do not fit the mtu " + mtu + " of port '" + port.name +
                                "', and IPv6 is not sent in fragments", {port_path + ".mtu", "streams.mtu"});
  }
}

void check_address(const Config& config, std::size_t index, const Subnet6& own, Findings& findings) {
  const Port& port = config.ports[index];
  const std::string path = path_of("ports", index, "address6");
  if (!is_host(own.address)) findings.error_at(path, "'" + port.address6 + "' is not the address of a host that others reach");
  if (own.prefix < 127 && own.network() == own.address) findings.error_at(path, "'" + port.address6 + "' is the address of all routers of the network, not of a host in it");
  check_mtu(config, port, path_of("ports", index), findings);
  for (std::size_t other = 0; other < index; ++other) {
    const auto its = parse_subnet6(config.ports[other].address6);
    const std::string ports = "ports '" + config.ports[other].name + "' and '" + port.name + "' ";
    if (its && its->address == own.address) {
      findings.error_at(path, ports + "have the same address " + wire::format_ipv6(own.address));
    } else if (its && its->is_same(own) && config.ports[other].vlan == port.vlan && !are_ends_of_one_link(config.ports[other], port)) {
      findings.error_at(path, ports + "overlap in the network " + format(own) + ": no rule could choose between them",
                        {path_of("ports", index, "vlan"), path_of("ports", other, "vlan"), path_of("ports", index, "peer"), path_of("ports", other, "peer")});
    }
  }
}

// No two ways to one network: no rule could choose between them.
void check_route_is_only(const Config& config, const Route6& route, const Subnet6& to, const std::string& path, Findings& findings) {
  for (const Port& port : config.ports) {
    const auto own = parse_subnet6(port.address6);
    if (own && own->is_same(to)) return findings.error_at(path, "'" + route.to + "' is the network of port '" + port.name + "'");
  }
  for (const Port& port : config.ports) {
    for (const Route6& other : port.routes6) {
      if (&other == &route) return;
      const auto its = parse_subnet6(other.to);
      if (its && its->is_same(to)) return findings.error_at(path, "there is a route to " + route.to + " already, by port '" + port.name + "'");
    }
  }
}

void check_route(const Config& config, const Route6& route, const std::string& path, Findings& findings) {
  const auto to = parse_subnet6(route.to);
  if (!to) return findings.error_at(path, "a route needs a network (2001:db8::/32)");
  if (to->network() != to->address) {
    findings.error_at(path, "'" + route.to + "' has bits behind its prefix: the network is " + format(*to));
  } else if (to->address.is_multicast() || to->address.is_link_local()) {
    findings.error_at(path, "'" + route.to + "' is not a network of hosts behind a router");
  }
  check_route_is_only(config, route, *to, path, findings);
}

}  // namespace

void check_ipv6(const Config& config, Findings& findings) {
  for (std::size_t i = 0; i < config.ports.size(); ++i) {
    const Port& port = config.ports[i];
    if (const auto own = parse_subnet6(port.address6)) check_address(config, i, *own, findings);
    if (!port.gateway6.empty()) check_next_hop(port, path_of("ports", i), "gateway6 " + port.gateway6, port.gateway6, path_of("ports", i, "gateway6"), findings);
    const std::string list = path_of("ports", i, "routes6");
    if (port.routes6.empty()) continue;
    if (port.routes.size() + port.routes6.size() > kRoutesMax) {
      findings.error_at(list, "more than " + std::to_string(kRoutesMax) + " routes and routes6");
      continue;
    }
    for (std::size_t r = 0; r < port.routes6.size(); ++r) {
      check_route(config, port.routes6[r], path_of(list, r) + ".to", findings);
      check_next_hop(port, path_of("ports", i), "next hop " + port.routes6[r].via, port.routes6[r].via, path_of(list, r) + ".via", findings);
    }
  }
}

}  // namespace thalweg::config
