// Rules between keys: each message says what must hold and where it comes from when that is not obvious.
#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <regex>

#include "config/schema/convert.hpp"
#include "config/schema/rules.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::config {
namespace {

constexpr std::uint32_t kUdpIpHeaders = 28;
constexpr std::size_t kPortsMax = 64;  // registry tables
constexpr std::size_t kLanesMax = 64;
constexpr std::int64_t kFreeSessionIdsMin = 65'536;  // far more than there can be publications

struct Subnet {
  std::uint32_t address{};
  std::uint32_t prefix{};
  [[nodiscard]] std::uint32_t mask() const { return prefix == 0 ? 0 : ~std::uint32_t{0} << (32 - prefix); }
  [[nodiscard]] std::uint32_t network() const { return address & mask(); }
  [[nodiscard]] bool contains(std::uint32_t other) const { return (other & mask()) == network(); }
};
std::optional<Subnet> parse_subnet(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto address = parse_ipv4(text.substr(0, slash));
  std::uint32_t prefix = 0;
  std::from_chars(text.data() + slash + 1, text.data() + text.size(), prefix);
  return address ? std::optional{Subnet{*address, prefix}} : std::nullopt;
}

bool is_socket_port(const Port& port) { return port.type == "loopback" || port.type == "kernel"; }

// ---- ports ----
struct TypedKey {
  std::string_view key;
  std::vector<std::string_view> types;           // that use the key
  std::vector<std::string_view> required_types;  // that cannot do without
  bool (*is_default)(const Port&);               // a default is no mistake anywhere: `config show --effective` prints it
};
const std::vector<TypedKey>& typed_keys() {
  static const std::vector<std::string_view> kFrames{"patch", "memif", "af_packet", "af_xdp", "tap", "pcap", "pci"};
  static const std::vector<std::string_view> kAddressed{"patch", "loopback", "memif", "af_packet", "af_xdp", "tap", "pcap", "pci"};
  static const std::vector<TypedKey> kKeys{
      {"peer", {"patch"}, {"patch"}, [](const Port& p) { return p.peer.empty(); }},
      {"device", {"af_packet", "af_xdp", "tap", "pci", "pcap"}, {"af_packet", "af_xdp", "tap", "pci"}, [](const Port& p) { return p.device.empty(); }},
      {"device-tx", {"pcap"}, {}, [](const Port& p) { return p.device_tx.empty(); }},
      {"socket", {"memif"}, {"memif"}, [](const Port& p) { return p.socket == Port{}.socket; }},
      {"id", {"memif"}, {"memif"}, [](const Port& p) { return p.id == Port{}.id; }},
      {"role", {"memif"}, {"memif"}, [](const Port& p) { return p.role == Port{}.role; }},
      {"address", kAddressed, kFrames, [](const Port& p) { return p.address.empty(); }},
      {"gateway", kFrames, {}, [](const Port& p) { return p.gateway.empty(); }},
      {"routes", kFrames, {}, [](const Port& p) { return p.routes.empty(); }},
      {"address6", kFrames, {}, [](const Port& p) { return p.address6.empty(); }},
      {"gateway6", kFrames, {}, [](const Port& p) { return p.gateway6.empty(); }},
      {"routes6", kFrames, {}, [](const Port& p) { return p.routes6.empty(); }},
      {"ip-fragments", kFrames, {}, [](const Port& p) { return !p.has_ip_fragments; }},
      {"mac", kFrames, {}, [](const Port& p) { return p.mac.empty(); }},
      {"vlan", kFrames, {}, [](const Port& p) { return p.vlan == 0; }},
      {"receive-timestamps", {"pci"}, {}, [](const Port& p) { return !p.has_receive_timestamps; }},
  };
  return kKeys;
}

void check_typed_keys(const Port& port, std::size_t index, Findings& findings) {
  if (!findings.is_sound(path_of("ports", index, "type"))) return;
  const auto holds = [&](const std::vector<std::string_view>& types) { return std::find(types.begin(), types.end(), port.type) != types.end(); };
  for (const TypedKey& key : typed_keys()) {
    const std::string path = path_of("ports", index, key.key);
    if (findings.has(path) && !holds(key.types) && !key.is_default(port)) {
      findings.error_at(path, "'" + std::string{key.key} + "' means nothing for a port of type " + port.type);
    } else if (!findings.has(path) && holds(key.required_types)) {
      findings.error_at(path_of("ports", index), "port '" + port.name + "' of type " + port.type + " needs the key '" + std::string{key.key} + "'");
    }
  }
  if (port.type == "pcap" && port.device.empty() && port.device_tx.empty()) {
    findings.error_at(path_of("ports", index), "port '" + port.name + "' of type pcap needs 'device' (file to read), 'device-tx' (file to write), or both",
                      {path_of("ports", index, "device"), path_of("ports", index, "device-tx")});
  }
  if (port.type == "af_packet" && port.has_ip_fragments) {
    findings.error_at(path_of("ports", index, "ip-fragments"), "the kernel puts fragments together before an af_packet port sees them, and cuts off "
                      "what no frame has room for: use af_xdp or a kernel port");
  }
  if (port.type == "memif" && port.socket.empty()) findings.error_at(path_of("ports", index, "socket"), "a memif socket needs a name or a path");
}

bool is_pci_address(const std::string& text) {
  static const std::regex kAddress{"([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\\.[0-7]"};
  return std::regex_match(text, kAddress);
}
bool is_interface_name(const std::string& text) {
  constexpr std::size_t kNameMax = 15;  // IFNAMSIZ
  return text.size() <= kNameMax && text != "." && text != ".." && text.find_first_of("/:, \t=") == std::string::npos;
}

// Device names go into DPDK's argument strings, where a comma begins another argument.
void check_device(const Port& port, std::size_t index, Findings& findings) {
  const std::string path = path_of("ports", index, "device");
  if (port.device.empty()) return;
  if (port.type == "pci" && !is_pci_address(port.device)) {
    findings.error_at(path, "'" + port.device + "' is no PCI address (0000:01:00.0); `lspci -D -d ::0200` lists those of network devices");
  } else if ((port.type == "af_packet" || port.type == "af_xdp" || port.type == "tap") && !is_interface_name(port.device)) {
    findings.error_at(path, "'" + port.device + "' is no name of an interface; `ip -br link` lists those that are there");
  } else if (port.type == "pcap" && (port.device + port.device_tx).find(',') != std::string::npos) {
    findings.error_at(path, "the name of a pcap file cannot have a comma");
  }
}

// `port_path` names the port, `path` the key with the next hop.
void check_next_hop(const Port& port, const std::string& port_path, const std::string& what, const std::string& address, const std::string& path, Findings& findings) {
  const auto subnet = parse_subnet(port.address);
  const auto next_hop = parse_ipv4(address);
  if (!subnet || !next_hop || !subnet->contains(*next_hop)) {
    findings.error_at(path, what + " must lie in the port's subnet" + (port.address.empty() ? "" : " " + port.address), {port_path, port_path + ".address"});
  } else if (*next_hop == subnet->address) {
    findings.error_at(path, what + " is the port's own address");
  }
}

std::string format_network(const Subnet& subnet) { return format_ipv4(subnet.network()) + "/" + std::to_string(subnet.prefix); }

void check_route(const Route& route, const std::string& path, Findings& findings) {
  const auto to = parse_subnet(route.to);
  if (!to) return findings.error_at(path + ".to", "a route needs a network (a.b.c.d/prefix)");
  if (to->network() != to->address) {
    findings.error_at(path + ".to", "'" + route.to + "' has bits behind its prefix: the network is " + format_network(*to));
  } else if (to->address >> 28 >= 0xE || to->address >> 24 == 0 || to->address >> 24 == 127) {
    findings.error_at(path + ".to", "'" + route.to + "' is not a network of hosts");
  }
}

// No two ways to one network: no rule could choose between them.
void check_route_is_only(const Config& config, const Route& route, const std::string& path, Findings& findings) {
  const auto to = parse_subnet(route.to);
  if (!to) return;
  const auto is_same = [&to](const std::string& text) {
    const auto other = parse_subnet(text);
    return other && other->prefix == to->prefix && other->network() == to->network();
  };
  for (const Port& port : config.ports) {
    if (is_same(port.address)) return findings.error_at(path + ".to", "'" + route.to + "' is the network of port '" + port.name + "'");
  }
  for (const Port& port : config.ports) {
    for (const Route& other : port.routes) {
      if (&other == &route) return;
      if (is_same(other.to)) return findings.error_at(path + ".to", "there is a route to " + route.to + " already, by port '" + port.name + "'");
    }
  }
}

void check_routes(const Config& config, const Port& port, std::size_t index, Findings& findings) {
  const std::string list = path_of("ports", index, "routes");
  if (port.routes.size() > kRoutesMax) return findings.error_at(list, "more than " + std::to_string(kRoutesMax) + " routes");
  for (std::size_t i = 0; i < port.routes.size(); ++i) {
    const std::string path = path_of(list, i);
    check_route(port.routes[i], path, findings);
    check_next_hop(port, path_of("ports", index), "next hop " + port.routes[i].via, port.routes[i].via, path + ".via", findings);
    check_route_is_only(config, port.routes[i], path, findings);
  }
}

void check_address(const Port& port, std::size_t index, Findings& findings) {
  const auto subnet = parse_subnet(port.address);
  const std::string path = path_of("ports", index, "address");
  if (subnet) {
    const bool is_loopback = subnet->address >> 24 == 127;
    if (subnet->address >> 28 >= 0xE || subnet->address >> 24 == 0) {
      findings.error_at(path, "'" + port.address + "' is not the address of a host");
    } else if (is_loopback != (port.type == "loopback")) {
      findings.error_at(path, is_loopback ? "127.0.0.0/8 belongs to the loopback port" : "a loopback port needs an address in 127.0.0.0/8",
                        {path_of("ports", index, "type")});
    } else if (subnet->prefix <= 30 && (subnet->address & ~subnet->mask()) == 0) {
      findings.error_at(path, "'" + port.address + "' is the address of the network, not of a host in it");
    } else if (subnet->prefix <= 30 && (subnet->address | subnet->mask()) == ~std::uint32_t{0}) {
      findings.error_at(path, "'" + port.address + "' is the broadcast address of its network");
    }
  }
  if (!port.gateway.empty()) check_next_hop(port, path_of("ports", index), "gateway " + port.gateway, port.gateway, path_of("ports", index, "gateway"), findings);
  if (port.mac == "00:00:00:00:00:00" || (port.mac.size() > 1 && std::string_view{"13579bBdDfF"}.find(port.mac[1]) != std::string_view::npos)) {
    findings.error_at(path_of("ports", index, "mac"), "'" + port.mac + "' is not the MAC address of one station");
  }
}

void check_mtu(const Config& config, const Port& port, std::size_t index, Findings& findings) {
  if (is_socket_port(port) || port.has_ip_fragments || config.streams.mtu_bytes + kUdpIpHeaders <= port.mtu_bytes) return;
  findings.error_at(findings.has(path_of("ports", index, "mtu")) ? path_of("ports", index, "mtu") : "streams.mtu",
                    "streams.mtu " + std::to_string(config.streams.mtu_bytes) + " and 28 bytes of headers do not fit the mtu " +
                        std::to_string(port.mtu_bytes) + " of port '" + port.name + "', whose ip-fragments are off",
                    {"streams.mtu", path_of("ports", index, "mtu"), path_of("ports", index, "ip-fragments"), path_of("ports", index, "type")});
}

// Whether each port's name is what its owner meant: otherwise nobody can say that a name is no port's.
bool are_names_sound(const Config& config, const Findings& findings) {
  bool sound = findings.is_sound("ports");
  for (std::size_t i = 0; i < config.ports.size(); ++i) sound = sound && findings.is_sound(path_of("ports", i, "name"));
  return sound;
}

void check_peer(const Config& config, const Port& port, std::size_t index, Findings& findings) {
  const std::string path = path_of("ports", index, "peer");
  if (port.type != "patch" || !findings.has(path)) return;
  const auto peer = std::find_if(config.ports.begin(), config.ports.end(), [&](const Port& other) { return other.name == port.peer; });
  if (peer == config.ports.end()) {
    if (!are_names_sound(config, findings)) return;
    std::vector<std::string> names;
    for (const Port& other : config.ports) {
      if (other.name != port.name) names.push_back(other.name);
    }
    const std::string near = nearest_word(port.peer, names);
    findings.error_at(path, "no port is called '" + port.peer + "'" + (near.empty() ? "" : "; did you mean '" + near + "'?"));
  } else if (peer->name == port.name) {
    findings.error_at(path, "port '" + port.name + "' cannot be its own peer");
  } else if (peer->type != "patch" || peer->peer != port.name) {
    const auto its = static_cast<std::size_t>(peer - config.ports.begin());
    findings.error_at(path, "port '" + port.peer + "' must be of type patch and name '" + port.name + "' as its peer",
                      {path_of("ports", index, "name"), path_of("ports", its), path_of("ports", its, "type"), path_of("ports", its, "peer")});
  }
}

void check_pair(const Config& config, std::size_t first, std::size_t second, Findings& findings) {
  const Port& a = config.ports[first];
  const Port& b = config.ports[second];
  const std::string of_first = path_of("ports", first);
  const std::string of_second = path_of("ports", second);
  if (a.name == b.name) findings.error_at(path_of("ports", second, "name"), "two ports are called '" + a.name + "'", {of_first + ".name"});
  if (is_socket_port(a) && a.type == b.type) findings.error_at(path_of("ports", second, "type"), "there can be one " + a.type + " port only");
  if (a.type == "memif" && b.type == "memif" && a.socket == b.socket && a.id == b.id && a.role == b.role) {
    findings.error_at(path_of("ports", second, "id"),
                      "ports '" + a.name + "' and '" + b.name + "' are both " + a.role + " of id " + std::to_string(a.id) + " on socket '" + a.socket + "'",
                      {of_first, of_first + ".id", of_first + ".socket", of_first + ".role", of_second, of_second + ".socket", of_second + ".role"});
  }
  if (a.type == b.type && !a.device.empty() && a.device == b.device) {
    findings.error_at(path_of("ports", second, "device"), "ports '" + a.name + "' and '" + b.name + "' use the same device '" + a.device + "'");
  }
  const auto left = parse_subnet(a.address);
  const auto right = parse_subnet(b.address);
  if (!left || !right) return;
  if (left->address == right->address) {
    findings.error_at(path_of("ports", second, "address"), "ports '" + a.name + "' and '" + b.name + "' have the same address " + format_ipv4(left->address));
  } else if (left->prefix == right->prefix && left->network() == right->network() && a.vlan == b.vlan && !are_ends_of_one_link(a, b)) {
    findings.error_at(path_of("ports", second, "address"), "ports '" + a.name + "' and '" + b.name + "' overlap in the subnet " +
                                                               format_ipv4(left->network()) + "/" + std::to_string(left->prefix) +
                                                               ": no rule could choose between them",
                      {of_first + ".vlan", of_second + ".vlan", of_first, of_second, of_first + ".peer", of_second + ".peer"});
  }
}

void check_frame_losses(const Port& port, std::size_t index, Findings& findings) {
  for (std::size_t i = 0; i < port.impair.frames.size(); ++i) {
    const std::vector<std::string>& types = port.impair.frames[i].types;
    for (std::size_t j = 0; j < types.size(); ++j) {
      if (frame_type_bit(types[j])) continue;
      std::string words;
      for (const FrameTypeWord& one : frame_type_words()) words += (words.empty() ? "" : ", ") + std::string{one.word};
      const std::string path = path_of(path_of(path_of("ports", index, "impair.frames"), i, "types"), j);
      findings.error_at(path, "'" + types[j] + "' is no type of frame; known are " + words);
    }
  }
}

void check_ports(const Config& config, Findings& findings) {
  if (config.ports.size() > kPortsMax) return findings.error_at("ports", "more than " + std::to_string(kPortsMax) + " ports");
  for (std::size_t i = 0; i < config.ports.size(); ++i) {
    check_typed_keys(config.ports[i], i, findings);
    check_device(config.ports[i], i, findings);
    check_address(config.ports[i], i, findings);
    check_routes(config, config.ports[i], i, findings);
    check_mtu(config, config.ports[i], i, findings);
    check_peer(config, config.ports[i], i, findings);
    check_frame_losses(config.ports[i], i, findings);
    for (std::size_t j = 0; j < i; ++j) check_pair(config, j, i, findings);
  }
}

// ---- lanes ----
bool are_queues_sound(const Config& config, std::string_view name, const Findings& findings) {
  for (std::size_t i = 0; i < config.ports.size(); ++i) {
    if (config.ports[i].name == name) return findings.is_sound(path_of("ports", i, "queues")) && findings.is_sound(path_of("ports", i));
  }
  return true;
}

void check_lanes(const Config& config, Findings& findings) {
  const auto& lanes = config.dataplane.lanes;
  if (lanes.size() > kLanesMax) return findings.error_at("dataplane.lanes", "more than " + std::to_string(kLanesMax) + " lanes");
  std::vector<std::string> names{"loopback", "kernel"};  // added when absent
  std::map<std::string, std::uint16_t> queues{{"loopback", std::uint16_t{1}}, {"kernel", std::uint16_t{1}}};
  for (const Port& port : config.ports) {
    names.push_back(port.name);
    queues[port.name] = port.queues;
  }
  std::map<std::uint32_t, std::size_t> cpus;
  std::map<std::string, std::uint16_t> servings;
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    const std::string path = path_of("dataplane.lanes", i);
    if (lanes[i].cpu && !cpus.emplace(*lanes[i].cpu, i).second) {
      findings.error_at(path + ".cpu", "CPU " + std::to_string(*lanes[i].cpu) + " is given to lane " + std::to_string(cpus[*lanes[i].cpu]) + " already");
    }
    if (!lanes[i].cpu && config.dataplane.cpu_mode == CpuMode::kExclusive) {
      findings.error_at(path, "cpu-mode exclusive needs a 'cpu' for each lane", {path + ".cpu"});
    }
    for (const std::string& name : lanes[i].ports) {
      if (queues.count(name) == 0) {
        if (!are_names_sound(config, findings)) continue;
        const std::string near = nearest_word(name, names);
        findings.error_at(path + ".ports", "no port is called '" + name + "'" + (near.empty() ? "" : "; did you mean '" + near + "'?"));
      } else if (++servings[name] > queues[name] && are_queues_sound(config, name, findings)) {
        findings.error_at(path + ".ports", "port '" + name + "' has " + std::to_string(queues[name]) + " queue(s), too few for every lane that names it");
      }
    }
  }
}

// ---- streams and timeouts ----
void check_windows(const Streams& streams, Findings& findings) {
  const auto window = [&](std::string_view key, std::uint64_t bytes, std::string_view mtu_key, std::uint64_t mtu, std::string_view term_key, std::uint64_t term) {
    if (bytes == 0) return;
    const std::string path = "streams." + std::string{key};
    if (bytes > term / 2) {
      findings.error_at(path, path + " " + format_size(static_cast<std::int64_t>(bytes)) + " must not exceed half of streams." + std::string{term_key} +
                                  " " + format_size(static_cast<std::int64_t>(term)), {"streams." + std::string{term_key}});
    }
    if (bytes < mtu) findings.error_at(path, path + " must hold at least one datagram of " + std::to_string(mtu) + " bytes", {"streams." + std::string{mtu_key}});
  };
  window("publication-window", streams.publication_window_bytes, "mtu", streams.mtu_bytes, "term-length", streams.term_length_bytes);
  window("ipc-publication-window", streams.ipc_publication_window_bytes, "ipc-mtu", streams.ipc_mtu_bytes, "ipc-term-length", streams.ipc_term_length_bytes);
  if (streams.receiver_window_bytes < streams.mtu_bytes) {
    findings.error_at("streams.receiver-window", "streams.receiver-window must hold at least one datagram of streams.mtu " + std::to_string(streams.mtu_bytes) + " bytes", {"streams.mtu"});
  }
  if (streams.socket_rcvbuf_bytes != 0 && streams.receiver_window_bytes > streams.socket_rcvbuf_bytes) {
    findings.error_at("streams.receiver-window", "streams.receiver-window must not exceed streams.socket-rcvbuf " + format_size(static_cast<std::int64_t>(streams.socket_rcvbuf_bytes)),
                      {"streams", "streams.socket-rcvbuf"});
  }
  if (streams.socket_sndbuf_bytes != 0 && streams.mtu_bytes > streams.socket_sndbuf_bytes) {
    findings.error_at("streams.mtu", "streams.mtu must not exceed streams.socket-sndbuf " + format_size(static_cast<std::int64_t>(streams.socket_sndbuf_bytes)),
                      {"streams.socket-sndbuf"});
  }
}

void check_timeouts(const Config& config, Findings& findings) {
  const auto exceeds = [&](std::string_view key, std::int64_t value, std::string_view other_key, std::int64_t other) {
    if (value > other) return;
    findings.error_at(findings.has(std::string{key}) ? key : other_key,
                      std::string{key} + " " + format_duration_ns(value) + " must be longer than " + std::string{other_key} + " " + format_duration_ns(other), {key, other_key});
  };
  const Streams& s = config.streams;
  const ControlPlane& c = config.control_plane;
  const std::string_view timer = "control-plane.timer-interval";
  exceeds("control-plane.client-liveness-timeout", c.client_liveness_timeout_ns, timer, c.timer_interval_ns);
  exceeds("streams.unblock-timeout", s.unblock_timeout_ns, "control-plane.client-liveness-timeout", c.client_liveness_timeout_ns);
  exceeds("control-plane.driver-timeout", c.driver_timeout_ns, timer, c.timer_interval_ns);
  exceeds("streams.untethered-window-limit-timeout", s.untethered_window_limit_timeout_ns, timer, c.timer_interval_ns);
  exceeds("streams.untethered-linger-timeout", s.untethered_linger_timeout_ns, timer, c.timer_interval_ns);
  exceeds("streams.untethered-resting-timeout", s.untethered_resting_timeout_ns, timer, c.timer_interval_ns);
  exceeds("streams.image-liveness-timeout", s.image_liveness_timeout_ns, "streams.status-message-timeout", s.status_message_timeout_ns);
  exceeds("streams.connection-timeout", s.connection_timeout_ns, "streams.status-message-timeout", s.status_message_timeout_ns);
  if (c.reserved_session_id_low > c.reserved_session_id_high) {
    findings.error_at("control-plane.reserved-session-id-low", "control-plane.reserved-session-id-low must not exceed reserved-session-id-high",
                      {"control-plane.reserved-session-id-high"});
  } else if (std::int64_t{c.reserved_session_id_high} - c.reserved_session_id_low >= (std::int64_t{1} << 32) - kFreeSessionIdsMin) {
    findings.error_at("control-plane.reserved-session-id-low",
                      "control-plane.reserved-session-id-low to reserved-session-id-high must leave at least " + std::to_string(kFreeSessionIdsMin) + " ids", {"control-plane.reserved-session-id-high"});
  }
}

void check_wildcard_ports(const Streams& s, Findings& findings) {
  const auto check = [&](const std::string& side, std::uint16_t low, std::uint16_t high) {
    if ((low == 0) == (high == 0) && low <= high) return;
    findings.error_at("streams." + side + "-wildcard-port-low", "streams." + side + "-wildcard-port-low to " + side + "-wildcard-port-high, " +
                                                                    std::to_string(low) + " to " + std::to_string(high) + ", is no range; 0 and 0 is none",
                      {"streams", "streams." + side + "-wildcard-port-high"});
  };
  check("sender", s.sender_wildcard_port_low, s.sender_wildcard_port_high);
  check("receiver", s.receiver_wildcard_port_low, s.receiver_wildcard_port_high);
}

void check_relays(const std::vector<Relay>& relays, Findings& findings) {
  for (std::size_t i = 0; i < relays.size(); ++i) {
    const Relay& relay = relays[i];
    for (const auto& [key, channel] : {std::pair{"from", &relay.from}, std::pair{"to", &relay.to}}) {
      if (!channel->starts_with("aeron:udp?")) findings.error_at(path_of("relays", i, key), "'" + *channel + "' is no channel of the form aeron:udp?endpoint=...");
    }
    for (std::size_t j = 0; j < i; ++j) {
      const Relay& other = relays[j];
      if (relay.name == other.name) findings.error_at(path_of("relays", i, "name"), "the name '" + relay.name + "' is used twice", {path_of("relays", j, "name")});
      const bool is_same = relay.from == other.from && relay.stream == other.stream && relay.to == other.to &&
                           relay.to_stream.value_or(relay.stream) == other.to_stream.value_or(other.stream);
      if (is_same) findings.error_at(path_of("relays", i), "this does what relay '" + other.name + "' does",
                                    {path_of("relays", i, "to-stream"), path_of("relays", j), path_of("relays", j, "to-stream")});
    }
  }
}

void check_feeds(const std::vector<Feed>& feeds, Findings& findings) {
  for (std::size_t i = 0; i < feeds.size(); ++i) {
    const Feed& feed = feeds[i];
    for (const auto& [key, channel] : {std::pair{"channel", &feed.channel}, std::pair{"a", &feed.a}, std::pair{"b", &feed.b}}) {
      if (!channel->starts_with("aeron:udp?")) findings.error_at(path_of("feeds", i, key), "'" + *channel + "' is no channel of the form aeron:udp?endpoint=...");
    }
    if (feed.a == feed.b) findings.error_at(path_of("feeds", i, "b"), "both sides are the same channel", {path_of("feeds", i, "a")});
    for (std::size_t j = 0; j < i; ++j) {
      if (feed.name == feeds[j].name) findings.error_at(path_of("feeds", i, "name"), "the name '" + feed.name + "' is used twice");
      if (feed.channel == feeds[j].channel) findings.error_at(path_of("feeds", i, "channel"), "this is the channel of feed '" + feeds[j].name + "'");
    }
  }
}

void check_memory(const Memory& memory, Findings& findings) {
  for (std::size_t i = 0; i < memory.pool.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (memory.pool[i].term_length_bytes != memory.pool[j].term_length_bytes) continue;
      findings.error_at(path_of("memory.pool", i), "the term length " + format_size(static_cast<std::int64_t>(memory.pool[i].term_length_bytes)) + " is listed twice");
    }
  }
}

// ---- names ----
std::optional<std::uint16_t> port_of(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  std::uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto read = std::from_chars(text.data() + colon + 1, end, port);
  return read.ec == std::errc{} && read.ptr == end ? std::optional{port} : std::nullopt;
}

bool is_host_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

bool is_host(std::string_view text) { return !text.empty() && std::all_of(text.begin(), text.end(), is_host_character); }

void check_own_name(const Config& config, Findings& findings) {
  constexpr std::size_t kNameMax = 255;
  constexpr std::size_t kFrameOverhead = 8 + 14;  // RES header, IPv4 entry (wire-protocol 6.1)
  const std::string& name = config.names.name;
  if (name.empty()) return;
  if (name.size() > kNameMax || !is_host(name)) {
    findings.error_at("names.name", "names.name must be 1 to 255 letters, digits, '-', '_' or '.'; found '" + name + "'");
  } else if (parse_ipv4(name) || name == "localhost") {
    findings.error_at("names.name", "names.name '" + name + "' stands for an address already: nobody would be asked for it");
  } else if ((kFrameOverhead + name.size() + 7) / 8 * 8 > config.streams.mtu_bytes) {
    findings.error_at("names.name", "names.name does not fit into a frame of streams.mtu " + std::to_string(config.streams.mtu_bytes), {"streams.mtu"});
  }
}

void check_names(const Config& config, Findings& findings) {
  constexpr std::size_t kBootstrapsMax = 20;  // wire-protocol 6.2
  const Names& names = config.names;
  check_own_name(config, findings);
  if (names.name.empty() && !names.interface.empty()) findings.error_at("names.interface", "names.interface needs names.name", {"names", "names.name"});
  if (names.name.empty() && !names.bootstrap_neighbors.empty()) findings.error_at("names.bootstrap-neighbors", "names.bootstrap-neighbors needs names.name", {"names", "names.name"});
  if (!names.interface.empty()) {
    const std::string host = names.interface.substr(0, names.interface.rfind(':'));
    if (!port_of(names.interface) || (!parse_ipv4(host) && host != "localhost")) {
      findings.error_at("names.interface", "names.interface must be an IPv4 address and a port, such as 10.0.0.1:8050; found '" + names.interface + "'");
    }
  }
  if (names.bootstrap_neighbors.size() > kBootstrapsMax) {
    findings.error_at("names.bootstrap-neighbors", "at most " + std::to_string(kBootstrapsMax) + " bootstrap neighbours count; found " + std::to_string(names.bootstrap_neighbors.size()));
  }
  for (const std::string& neighbor : names.bootstrap_neighbors) {
    if (port_of(neighbor).value_or(0) == 0 || !is_host(neighbor.substr(0, neighbor.rfind(':')))) {
      findings.error_at("names.bootstrap-neighbors", "a bootstrap neighbour must be host:port; found '" + neighbor + "'");
    }
  }
  if (names.neighbor_timeout_ns <= names.self_resolution_interval_ns) {
    const std::string_view key = findings.has("names.neighbor-timeout") ? "names.neighbor-timeout" : "names.self-resolution-interval";
    findings.error_at(key, "names.neighbor-timeout " + format_duration_ns(names.neighbor_timeout_ns) + " must be longer than names.self-resolution-interval " +
                               format_duration_ns(names.self_resolution_interval_ns),
                      {"names.neighbor-timeout", "names.self-resolution-interval"});
  }
}

void check_archive(const Archive& archive, Findings& findings) {
  if (archive.directory.empty() && !archive.recordings.empty())
    findings.error_at("archive.recordings", "recordings need archive.directory, where they are kept", {"archive.directory"});
  for (std::size_t i = 0; i < archive.recordings.size(); ++i) {
    const RecordedStream& stream = archive.recordings[i];
    if (!stream.channel.starts_with("aeron:udp?") && stream.channel != "aeron:ipc" && !stream.channel.starts_with("aeron:ipc?"))
      findings.error_at(path_of("archive.recordings", i, "channel"), "'" + stream.channel + "' is no channel of the form aeron:udp?endpoint=... or aeron:ipc");
    for (std::size_t j = 0; j < i; ++j) {
      const RecordedStream& other = archive.recordings[j];
      if (stream.name == other.name) findings.error_at(path_of("archive.recordings", i, "name"), "the name '" + stream.name + "' is used twice", {path_of("archive.recordings", j, "name")});
      if (stream.channel == other.channel && stream.stream == other.stream && stream.source == other.source)
        findings.error_at(path_of("archive.recordings", i), "this records what '" + other.name + "' does", {path_of("archive.recordings", i, "source"), path_of("archive.recordings", j)});
    }
  }
}

}  // namespace

bool are_ends_of_one_link(const Port& a, const Port& b) {
  if (a.type == "patch" && b.type == "patch") return a.peer == b.name || b.peer == a.name;
  return a.type == "memif" && b.type == "memif" && a.socket == b.socket && a.id == b.id && a.role != b.role;
}

void check_rules(const Config& config, Findings& findings) {
  check_ports(config, findings);
  check_ipv6(config, findings);
  check_lanes(config, findings);
  check_windows(config.streams, findings);
  check_wildcard_ports(config.streams, findings);
  check_timeouts(config, findings);
  check_relays(config.relays, findings);
  check_feeds(config.feeds, findings);
  check_memory(config.memory, findings);
  check_names(config, findings);
  check_archive(config.archive, findings);
}

}  // namespace thalweg::config
