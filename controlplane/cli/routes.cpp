// thalweg route get: which port carries a channel, and why.
#include "dataplane/core/route.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>

#include "config/schema/config.hpp"
#include "config/schema/convert.hpp"
#include "controlplane/api/control_client.hpp"
#include "controlplane/cli/instance.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/base/time.hpp"
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

// The addresses of a channel that decide about ports (wire-protocol 5.2 to 5.4), 0 = not given.
struct Addresses {
  std::optional<std::uint32_t> endpoint;
  std::optional<std::uint32_t> control;
  std::uint32_t interface{};
  std::uint32_t interface_prefix{};
};

// The answer's own: the registry of a running instance is only looked at.
using Book = shm::AddressBook;

// An IPv6 address as a handle of `book`.
std::uint32_t enter(Book& book, const shm::ScopedIpv6& address) {
  if (const auto ipv4 = wire::mapped_ipv4(address.address)) return *ipv4;
  return book.enter(address, Book::By::kNamed, monotonic_ns());
}

std::optional<std::uint32_t> literal(Book& book, const std::string& host) {
  if (host == "localhost") return 0x7F000001U;
  if (const auto ipv4 = parse_ipv4(host)) return wire::is_reserved_ipv4(*ipv4) ? std::nullopt : ipv4;   // those pass for handles
  const auto ipv6 = shm::parse_scoped_ipv6(host);
  return ipv6 ? std::optional{enter(book, *ipv6)} : std::nullopt;
}

// The first IPv4 address, or else the first IPv6 one.
Result<std::uint32_t> resolve(const std::string& host, Book& book) {
  if (const auto known = literal(book, host)) return *known;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), nullptr, nullptr, &found); error != 0) {
    return fail(ErrorCode::kUnknownHost, "cannot resolve '" + host + "': " + ::gai_strerror(error));
  }
  std::uint32_t address = 0;
  for (const addrinfo* i = found; i != nullptr && (address == 0 || wire::is_handle(address)); i = i->ai_next) {
    if (i->ai_family == AF_INET) {
      sockaddr_in in{};
      std::memcpy(&in, i->ai_addr, sizeof in);
      if (!wire::is_reserved_ipv4(ntohl(in.sin_addr.s_addr))) address = ntohl(in.sin_addr.s_addr);
    } else if (i->ai_family == AF_INET6 && address == 0) {
      sockaddr_in6 in{};
      std::memcpy(&in, i->ai_addr, sizeof in);
      shm::ScopedIpv6 ipv6{{}, in.sin6_scope_id};
      std::memcpy(ipv6.address.bytes.data(), &in.sin6_addr, ipv6.address.bytes.size());
      address = enter(book, ipv6);
    }
  }
  ::freeaddrinfo(found);
  if (address == 0) return fail(ErrorCode::kUnknownHost, "'" + host + "' has no address");
  return address;
}

using Resolve = std::function<Result<std::uint32_t>(const std::string& host)>;

// As the running instance does it, which knows drivers by name; without one, or for a configuration, the system is asked.
Resolve resolver_of(const Context& context, bool is_offline, Book& book) {
  const auto ask_system = [&book](const std::string& host) { return resolve(host, book); };
  if (is_offline) return ask_system;
  return [socket = api::default_socket_path(context.instance_directory()), ask_system, &book](const std::string& host) -> Result<std::uint32_t> {
    auto client = api::ControlClient::connect(socket);
    const auto answer = client ? client->call("resolve", {{"host", host}}) : Result<api::Json>{tl::unexpected{client.error()}};
    const auto address = answer ? literal(book, answer->value("address", std::string{})) : std::nullopt;
    return address ? Result<std::uint32_t>{*address} : ask_system(host);
  };
}

Result<std::optional<std::uint32_t>> address_of(const shm::ChannelUri& uri, std::string_view key, const Resolve& resolve_host) {
  const auto text = uri.get(key);
  if (!text) return std::optional<std::uint32_t>{};
  const auto parts = shm::parse_host_port(*text);
  if (!parts) return fail(ErrorCode::kInvalidChannel, std::string{key} + "=" + std::string{*text} + " is not host:port");
  if (parts->is_ipv6 && !shm::parse_scoped_ipv6(parts->host)) return fail(ErrorCode::kInvalidChannel, std::string{key} + "=" + std::string{*text} + " holds no IPv6 address");
  const auto address = resolve_host(parts->host);
  if (!address) return tl::unexpected{address.error()};
  return std::optional{*address};
}

// interface=10.0.0.1, 10.0.0.1:0, 10.0.0.0/24, 10.0.0.0:0/24 or [2001:db8::]/64 (5.4)
Result<void> read_interface(std::string_view text, Book& book, Addresses& addresses) {
  const std::string whole{text};
  const bool is_ipv6 = text.starts_with('[');
  const std::string most = is_ipv6 ? "128" : "32";
  if (const std::size_t slash = text.find('/'); slash != std::string_view::npos) {
    const std::string prefix{text.substr(slash + 1)};
    if (prefix.empty() || prefix.size() > 3 || prefix.find_first_not_of("0123456789") != std::string::npos || std::stoi(prefix) > std::stoi(most)) {
      return fail(ErrorCode::kInvalidChannel, "interface=" + whole + ": the prefix must be 0 to " + most);
    }
    addresses.interface_prefix = static_cast<std::uint32_t>(std::stoi(prefix));
    text = text.substr(0, slash);
  }
  const std::string host{is_ipv6 ? text.substr(1, std::min(text.find(']'), text.size()) - 1) : text.substr(0, text.find(':'))};
  const auto address = is_ipv6 == (host.find(':') != std::string::npos) ? literal(book, host) : std::nullopt;
  if (!address) return fail(ErrorCode::kInvalidChannel, "interface=" + whole + " is not an IPv4 or [IPv6] address with an optional prefix");
  addresses.interface = *address;
  return {};
}

Result<Addresses> addresses_of(const shm::ChannelUri& uri, const Resolve& resolve_host, Book& book) {
  Addresses out;
  auto endpoint = address_of(uri, "endpoint", resolve_host);
  if (!endpoint) return tl::unexpected{endpoint.error()};
  out.endpoint = *endpoint;
  auto control = address_of(uri, "control", resolve_host);
  if (!control) return tl::unexpected{control.error()};
  out.control = *control;
  if (const auto interface = uri.get("interface")) {
    if (auto read = read_interface(*interface, book, out); !read) return tl::unexpected{read.error()};
  }
  if (!out.endpoint && !out.control) return fail(ErrorCode::kInvalidChannel, "the channel has neither endpoint nor control", "destinations choose their own port");
  return out;
}

std::vector<core::RoutePort> ports_of(const Instance& instance, Book& book) {
  const auto own = [&](std::uint32_t address) { return wire::is_handle(address) ? enter(book, instance.registry().addresses.address(address)) : address; };
  std::vector<core::RoutePort> ports;
  for (std::uint32_t i = 0; i < port_count(instance.registry()); ++i) {
    const shm::PortSlot& port = instance.registry().ports[i];
    const std::size_t routes = std::min<std::size_t>(port.route_count, port.routes.size());
    ports.push_back({i, text_of(port.name), port.kind, port.address, port.prefix_length, port.gateway, {port.routes.begin(), port.routes.begin() + static_cast<std::ptrdiff_t>(routes)},
                     own(port.address6), port.prefix_length6, own(port.gateway6)});
    for (shm::PortRoute& route : ports.back().routes) {
      route.network = own(route.network);
      route.gateway = own(route.gateway);
    }
  }
  return ports;
}

std::vector<core::RoutePort> ports_of(const config::Config& config, Book& book) {
  std::vector<core::RoutePort> ports;
  for (const pmd::PortOptions& port : config::port_options(config)) {
    ports.push_back({static_cast<std::uint32_t>(ports.size()), port.name, port.kind, port.address, port.prefix_length, port.gateway, port.routes});
    if (!port.address6.is_unspecified()) {
      ports.back().address6 = enter(book, {port.address6, 0});
      ports.back().prefix_length6 = port.prefix_length6;
      if (!port.gateway6.is_unspecified()) ports.back().gateway6 = enter(book, {port.gateway6, 0});
      for (const auto& route : port.routes6) ports.back().routes.push_back({enter(book, {route.network, 0}), route.prefix_length, enter(book, {route.gateway, 0})});
    }
    if (port.kind == shm::PortKind::kLoopback) ports.back().address6 = wire::kLoopbackIpv6, ports.back().prefix_length6 = 128;
  }
  return ports;
}

Result<std::vector<core::RoutePort>> find_ports(Context& context, const RouteOptions& options, Book& book) {
  if (options.is_offline) {
    const auto config = config::load_file(options.config);
    if (!config) return tl::unexpected{config.error()};
    return ports_of(*config, book);
  }
  auto instance = Instance::open_with_registry(context);
  if (!instance) {
    if (instance.error().code == ErrorCode::kUnreachable) instance.error().hint = "start one with `thalweg up`, or name a file with --config";
    return tl::unexpected{instance.error()};
  }
  return ports_of(*instance, book);
}

std::string why_receive(const core::RoutePort& port, std::uint32_t address, const Book& book) {
  if (address == 0) return "0.0.0.0 listens on every port";
  if (address == wire::kAnyIpv6) return ":: listens on every port that has IPv6";
  if (port.kind == shm::PortKind::kLoopback) return "loopback address";
  if (port.of_family(wire::is_handle(address)).address == address) return "port " + port.name + " owns " + book.format(address);
  return "no port of ours owns " + book.format(address) + ": the kernel";
}

class Answer {
 public:
  Answer(std::vector<core::RoutePort> ports, Book& book) : ports_{ports}, routes_{std::move(ports), &book}, book_{book} {}

  void send(std::string_view role, std::uint32_t destination, const Addresses& given) {
    const std::uint32_t interface = given.interface != 0 ? given.interface : given.control.value_or(0);
    const auto route = routes_.send(destination, interface, given.interface_prefix);
    if (!route) return none(role, "send", destination, route.error());
    add(role, "send", destination, ports_[route->port], book_.format(route->next_hop), route->source == 0 ? Cell{} : Cell{book_.format(route->source)}, route->why);
  }
  void receive(std::string_view role, std::uint32_t address) {
    const auto found = routes_.receive(address);
    if (!found) return none(role, "receive", address, found.error());
    for (const std::uint32_t index : *found) {
      const core::RoutePort& port = ports_[index];
      add(role, "receive", address, port, {}, {}, why_receive(port, address, book_));
    }
  }
  // Both sides join a group: senders the control group, receivers the data group.
  void group(std::uint32_t address, const Addresses& given) {
    const std::uint32_t any = wire::is_handle(address) ? wire::kAnyIpv6 : 0;
    const auto route = routes_.group(given.interface != 0 ? given.interface : any, given.interface_prefix, core::read_host_interfaces(&book_));
    for (const std::string_view role : {"publication", "subscription"}) {
      const bool is_sender = role == "publication";
      if (!route) {
        none(role, is_sender ? "send" : "receive", address, route.error());
      } else {
        const Cell via{book_.format(route->interface_address)};
        add(role, is_sender ? "send" : "receive", address, ports_[route->port], is_sender ? Cell{book_.format(address)} : Cell{}, via, route->why);
      }
    }
  }
  [[nodiscard]] const Table& table() const noexcept { return table_; }
  [[nodiscard]] bool has_hole() const noexcept { return has_hole_; }

 private:
  void add(std::string_view role, std::string_view direction, std::uint32_t address, const core::RoutePort& port, Cell next_hop, Cell source, std::string why) {
    table_.add({role, direction, book_.format(address), port.name, name_of(port.kind), std::move(next_hop), std::move(source), std::move(why)});
  }
  void none(std::string_view role, std::string_view direction, std::uint32_t address, const Error& error) {
    has_hole_ = true;
    table_.add({role, direction, book_.format(address), {}, {}, {}, {}, Cell{error.message + "; " + error.hint}.styled(Style::kBad)});
  }

  std::vector<core::RoutePort> ports_;
  core::RouteTable routes_;
  Book& book_;
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
  const auto book = std::make_unique<Book>();
  const auto addresses = addresses_of(*uri, resolver_of(context, options.is_offline, *book), *book);
  if (!addresses) return context.out.fail("route get", addresses.error());
  auto ports = find_ports(context, options, *book);
  if (!ports) return context.out.fail("route get", ports.error());
  Answer answer{std::move(*ports), *book};
  if (addresses->endpoint && wire::is_group(*addresses->endpoint)) {
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
