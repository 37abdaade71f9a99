#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/base/result.hpp"
#include "dataplane/shm/registry.hpp"

// Which port carries an address (design, section 2, "Which port?"). Pure; used by the steward, and by `thalweg route get` for its answer.
namespace thalweg::core {

struct RoutePort {
  std::uint32_t index{};           // port table
  std::string name;
  shm::PortKind kind{};
  std::uint32_t address{};         // host order
  std::uint32_t prefix_length{};
  std::uint32_t gateway{};
  std::vector<shm::PortRoute> routes{};

  // Whose MAC address a frame to `destination` needs that leaves by this port: its own, that of the longest matching route, else the gateway's.
  [[nodiscard]] std::uint32_t next_hop(std::uint32_t destination) const noexcept;
  // The longest matching route; none: nullptr.
  [[nodiscard]] const shm::PortRoute* route_to(std::uint32_t destination) const noexcept;
};

// An interface of the kernel's that is up and has an IPv4 address.
struct HostInterface {
  std::string name;
  std::uint32_t address{};         // host order
  std::uint32_t prefix_length{};
  bool has_multicast{};
  bool is_loopback{};
};
// Asks the kernel; steward and command only.
[[nodiscard]] std::vector<HostInterface> read_host_interfaces();

// Where a multicast group is joined and sent to.
struct GroupRoute {
  std::uint32_t port{};            // port table
  std::uint32_t interface_address{};  // host order: ours on that network
  std::string why;
};

struct Route {
  std::uint32_t port{};            // port table
  std::uint32_t next_hop{};        // host order: whose MAC address the frame needs
  std::uint32_t source{};          // host order: our address there, 0 = the kernel's choice
  std::string why;                 // for the operator
};

class RouteTable {
 public:
  RouteTable() = default;
  explicit RouteTable(std::vector<RoutePort> ports) : ports_{std::move(ports)} {}

  // Ports on which a unicast receive endpoint listens: the owner of `address`; all for 0.0.0.0. kNotFound when no port owns it and there is
  // no kernel port.
  [[nodiscard]] Result<std::vector<std::uint32_t>> receive(std::uint32_t address) const;

  // The network of a multicast group: of those that match `interface_address`/`prefix_length` (0 = any), a port of ours with the longest
  // netmask; else, behind a kernel port, an interface of `host` that can do multicast; else loopback (wire-protocol 5.3).
  // kInvalidChannel when nothing matches.
  [[nodiscard]] Result<GroupRoute> group(std::uint32_t interface_address, std::uint32_t prefix_length, const std::vector<HostInterface>& host) const;

  // Which rule chose a port for sending.
  enum class Rule : std::uint8_t { kNone, kInterface, kSubnet, kRoute, kGateway, kKernel };
  struct Choice {
    const RoutePort* port{};       // none: nothing reaches the destination
    Rule rule{Rule::kNone};
    const shm::PortRoute* route{};  // kRoute
  };
  // Unicast: the port of `interface_address` when given; else the longest prefix among subnets and routes of all ports, then a gateway, else
  // the kernel port. No allocation: lanes ask too.
  [[nodiscard]] Choice choose(std::uint32_t destination, std::uint32_t interface_address = 0, std::uint32_t interface_prefix = 0) const noexcept;
  // Precondition: `port` is one of the table's.
  [[nodiscard]] const RoutePort& port(std::uint32_t port) const noexcept { return ports_[port]; }
  // The same for the control path, with the next hop and the reason. kNotFound: nothing reaches it.
  [[nodiscard]] Result<Route> send(std::uint32_t destination, std::uint32_t interface_address = 0, std::uint32_t interface_prefix = 0) const;

 private:
  [[nodiscard]] const RoutePort* owner(std::uint32_t address) const noexcept;
  [[nodiscard]] const RoutePort* of_kind(shm::PortKind kind) const noexcept;
  [[nodiscard]] const RoutePort* by_subnet(std::uint32_t destination) const noexcept;
  [[nodiscard]] Choice by_prefix(std::uint32_t destination) const noexcept;
  [[nodiscard]] const RoutePort* by_network(std::uint32_t address, std::uint32_t prefix_length) const noexcept;
  [[nodiscard]] const RoutePort* by_interface(std::uint32_t address, std::uint32_t prefix_length) const noexcept;

  std::vector<RoutePort> ports_;
};

}  // namespace thalweg::core
