// thalweg route get: which port carries a channel, and why.
#include "dataplane/core/route.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "config/schema/config.hpp"
#include "config/schema/convert.hpp"
#include "controlplane/api/control_client.hpp"
#include "controlplane/cli/instance.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/base/units.hpp"
#include "dataplane/shm/channel_uri.hpp"
#include "dataplane/wire/ip.hpp"

namespace thalweg::cli {
namespace {

struct RouteOptions {
  std::string channel;
  std::string config;
  bool is_offline{};  // --config was given
};

// The addresses of a channel that decide about ports (wire-protocol 5.2 to 5.4), host order, 0 = not given.
struct Addresses {
  std::optional<std::uint32_t> endpoint;
  std::optional<std::uint32_t> control;
  std::uint32_t interface{};
  std::uint32_t interface_prefix{};
};

Result<std::uint32_t> resolve(const std::string& host) {
  if (const auto literal = parse_ipv4(host)) return *literal;
  addrinfo hints{};
  hints.ai_family = AF_INET;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0) {
    return fail(ErrorCode::kUnknownHost, "cannot resolve '" + host + "': " + ::gai_strerror(error));
  }
  sockaddr_in address{};
  std::memcpy(&address, found->ai_addr, sizeof address);
  ::freeaddrinfo(found);
  return ntohl(address.sin_addr.s_addr);
}

using Resolve = std::function<Result<std::uint32_t>(const std::string& host)>;

// As the running instance does it, which knows drivers by name; without one, or for a configuration, the system is asked.
Resolve resolver_of(const Context& context, bool is_offline) {
  if (is_offline) return resolve;
  return [socket = api::default_socket_path(context.instance_directory())](const std::string& host) -> Result<std::uint32_t> {
    auto client = api::ControlClient::connect(socket);
    const auto answer = client ? client->call("resolve", {{"host", host}}) : Result<api::Json>{tl::unexpected{client.error()}};
    const auto address = answer ? parse_ipv4(answer->value("address", std::string{})) : std::nullopt;
    return address ? Result<std::uint32_t>{*address} : resolve(host);
  };
}

Result<std::optional<std::uint32_t>> address_of(const shm::ChannelUri& uri, std::string_view key, const Resolve& resolve_host) {
  const auto text = uri.get(key);
  if (!text) return std::optional<std::uint32_t>{};
  const auto parts = shm::parse_host_port(*text);
  if (!parts) return fail(ErrorCode::kInvalidChannel, std::string{key} + "=" + std::string{*text} + " is not host:port");
  if (parts->is_ipv6) return fail(ErrorCode::kUnsupported, std::string{key} + "=" + std::string{*text} + ": IPv6 is not supported");
  const auto address = resolve_host(parts->host);
  if (!address) return tl::unexpected{address.error()};
  return std::optional{*address};
}

// interface=10.0.0.1, 10.0.0.1:0, 10.0.0.0/24 or 10.0.0.0:0/24 (5.4)
Result<void> read_interface(std::string_view text, Addresses& addresses) {
  const std::string whole{text};
  if (const std::size_t slash = text.find('/'); slash != std::string_view::npos) {
    const std::string prefix{text.substr(slash + 1)};
    if (prefix.empty() || prefix.size() > 2 || prefix.find_first_not_of("0123456789") != std::string::npos || std::stoi(prefix) > 32) {
      return fail(ErrorCode::kInvalidChannel, "interface=" + whole + ": the prefix must be 0 to 32");
    }
    addresses.interface_prefix = static_cast<std::uint32_t>(std::stoi(prefix));
    text = text.substr(0, slash);
  }
  text = text.substr(0, text.find(':'));
  const auto address = text == "localhost" ? std::optional{std::uint32_t{0x7F000001}} : parse_ipv4(text);
  if (!address) return fail(ErrorCode::kInvalidChannel, "interface=" + whole + " is not an IPv4 address with an optional prefix");
  addresses.interface = *address;
  return {};
}

Result<Addresses> addresses_of(const shm::ChannelUri& uri, const Resolve& resolve_host) {
  Addresses out;
  auto endpoint = address_of(uri, "endpoint", resolve_host);
  if (!endpoint) return tl::unexpected{endpoint.error()};
  out.endpoint = *endpoint;
  auto control = address_of(uri, "control", resolve_host);
  if (!control) return tl::unexpected{control.error()};
  out.control = *control;
  if (const auto interface = uri.get("interface")) {
    if (auto read = read_interface(*interface, out); !read) return tl::unexpected{read.error()};
  }
  if (!out.endpoint && !out.control) return fail(ErrorCode::kInvalidChannel, "the channel has neither endpoint nor control", "destinations choose their own port");
  return out;
}

std::vector<core::RoutePort> ports_of(const Instance& instance) {
  std::vector<core::RoutePort> ports;
  for (std::uint32_t i = 0; i < port_count(instance.registry()); ++i) {
    const shm::PortSlot& port = instance.registry().ports[i];
    const std::size_t routes = std::min<std::size_t>(port.route_count, port.routes.size());
    ports.push_back({i, text_of(port.name), port.kind, port.address, port.prefix_length, port.gateway, {port.routes.begin(), port.routes.begin() + static_cast<std::ptrdiff_t>(routes)}});
  }
  return ports;
}

std::vector<core::RoutePort> ports_of(const config::Config& config) {
  std::vector<core::RoutePort> ports;
  for (const pmd::PortOptions& port : config::port_options(config)) {
    ports.push_back({static_cast<std::uint32_t>(ports.size()), port.name, port.kind, port.address, port.prefix_length, port.gateway, port.routes});
  }
  return ports;
}

Result<std::vector<core::RoutePort>> find_ports(Context& context, const RouteOptions& options) {
  if (options.is_offline) {
    const auto config = config::load_file(options.config);
    if (!config) return tl::unexpected{config.error()};
    return ports_of(*config);
  }
  auto instance = Instance::open_with_registry(context);
  if (!instance) {
    if (instance.error().code == ErrorCode::kUnreachable) instance.error().hint = "start one with `thalweg up`, or name a file with --config";
    return tl::unexpected{instance.error()};
  }
  return ports_of(*instance);
}

std::string why_receive(const core::RoutePort& port, std::uint32_t address) {
  if (address == 0) return "0.0.0.0 listens on every port";
  if (port.address == address) return "port " + port.name + " owns " + format_ipv4(address);
  if (port.kind == shm::PortKind::kLoopback) return "loopback address";
  return "no port of ours owns " + format_ipv4(address) + ": the kernel";
}

class Answer {
 public:
  explicit Answer(std::vector<core::RoutePort> ports) : ports_{ports}, routes_{std::move(ports)} {}

  void send(std::string_view role, std::uint32_t destination, const Addresses& given) {
    const std::uint32_t interface = given.interface != 0 ? given.interface : given.control.value_or(0);
    const auto route = routes_.send(destination, interface, given.interface_prefix);
    if (!route) return none(role, "send", destination, route.error());
    add(role, "send", destination, ports_[route->port], format_ipv4(route->next_hop), route->source == 0 ? Cell{} : Cell{format_ipv4(route->source)}, route->why);
  }
  void receive(std::string_view role, std::uint32_t address) {
    const auto found = routes_.receive(address);
    if (!found) return none(role, "receive", address, found.error());
    for (const std::uint32_t index : *found) {
      const core::RoutePort& port = ports_[index];
      add(role, "receive", address, port, {}, {}, why_receive(port, address));
    }
  }
  // Both sides join a group: senders the control group, receivers the data group.
  void group(std::uint32_t address, const Addresses& given) {
    const auto route = routes_.group(given.interface, given.interface_prefix, core::read_host_interfaces());
    for (const std::string_view role : {"publication", "subscription"}) {
      const bool is_sender = role == "publication";
      if (!route) {
        none(role, is_sender ? "send" : "receive", address, route.error());
      } else {
        const Cell via{format_ipv4(route->interface_address)};
        add(role, is_sender ? "send" : "receive", address, ports_[route->port], is_sender ? Cell{format_ipv4(address)} : Cell{}, via, route->why);
      }
    }
  }
  [[nodiscard]] const Table& table() const noexcept { return table_; }
  [[nodiscard]] bool has_hole() const noexcept { return has_hole_; }

 private:
  void add(std::string_view role, std::string_view direction, std::uint32_t address, const core::RoutePort& port, Cell next_hop, Cell source, std::string why) {
    table_.add({role, direction, format_ipv4(address), port.name, name_of(port.kind), std::move(next_hop), std::move(source), std::move(why)});
  }
  void none(std::string_view role, std::string_view direction, std::uint32_t address, const Error& error) {
    has_hole_ = true;
    table_.add({role, direction, format_ipv4(address), {}, {}, {}, {}, Cell{error.message + "; " + error.hint}.styled(Style::kBad)});
  }

  std::vector<core::RoutePort> ports_;
  core::RouteTable routes_;
  bool has_hole_{};
  Table table_{"routes",
               {{"role", "A"}, {"direction", "DOES"}, {"address", "ADDRESS"}, {"port", "PORT"}, {"type", "TYPE"}, {"next_hop", "NEXT HOP"},
                {"source", "SOURCE"}, {"why", "WHY"}}};
};

Exit get(Context& context, const RouteOptions& options) {
  const auto uri = shm::ChannelUri::parse(options.channel);
  if (!uri) return context.out.fail("route get", uri.error());
  context.out.value("channel", "channel", options.channel);
  if (uri->media() == shm::ChannelUri::Media::kIpc || uri->is_spy()) {
    context.out.line("shared memory: no port takes part");
    return Exit::kOk;
  }
  const auto addresses = addresses_of(*uri, resolver_of(context, options.is_offline));
  if (!addresses) return context.out.fail("route get", addresses.error());
  auto ports = find_ports(context, options);
  if (!ports) return context.out.fail("route get", ports.error());
  Answer answer{std::move(*ports)};
  if (addresses->endpoint && wire::is_multicast_ipv4(*addresses->endpoint)) {
    answer.group(*addresses->endpoint, *addresses);
  } else if (addresses->endpoint) {
    answer.send("publication", *addresses->endpoint, *addresses);
    answer.receive("subscription", *addresses->endpoint);
  } else {
    answer.receive("publication", *addresses->control);  // multi-destination: here it learns of its receivers
  }
  context.out.print(answer.table());
  return answer.has_hole() ? Exit::kProblems : Exit::kOk;
}

}  // namespace

void register_route(CLI::App& root, Context& context) {
  CLI::App* noun = root.add_subcommand("route", "Which port carries an address")->require_subcommand(1);
  CLI::App* verb = noun->add_subcommand("get", "Print the port a channel would use, and why; exit 4 when none reaches it");
  const auto options = std::make_shared<RouteOptions>();
  verb->add_option("channel", options->channel, "Channel URI")->required()->type_name("URI");
  CLI::Option* config = verb->add_option("-c,--config", options->config, "Answer for this configuration instead of the running instance")->type_name("FILE");
  set_example(*verb, "route get 'aeron:udp?endpoint=10.0.0.2:40123'");
  on_run(*verb, context, [&context, options, config] {
    options->is_offline = config->count() != 0;
    return get(context, *options);
  });
}

}  // namespace thalweg::cli
