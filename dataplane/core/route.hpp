#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/base/result.hpp"
#include "dataplane/shm/registry.hpp"

// Which port carries an address (design, section 2, "Which port?"). Pure; used by the steward, and by `thalweg route get` for its answer.
// Addresses are IPv4 in host order, or handles of IPv6 addresses; the rules are the same for both.
namespace thalweg::core {

struct RoutePort {
  std::uint32_t index{};           // port table
  std::string name;
  shm::PortKind kind{};
  std::uint32_t address{};         // host order
  std::uint32_t prefix_length{};
  std::uint32_t gateway{};
  std::vector<shm::PortRoute> routes{};   // of both families
  std::uint32_t address6{};        // handles; 0: no IPv6
  std::uint32_t prefix_length6{};
  std::uint32_t gateway6{};
  const shm::AddressBook* book{};  // the table's

  // What it has of one family.
  struct Network {
    std::uint32_t address{};
    std::uint32_t prefix_length{};
    std::uint32_t gateway{};
  };
  [[nodiscard]] Network of_family(bool is_ipv6) const noexcept {
    return is_ipv6 ? Network{address6, prefix_length6, gateway6} : Network{address, prefix_length, gateway};
  }
  // Whose MAC address a frame to `destination` needs that leaves by this port: its own, that of the longest matching route, else the gateway's.
  [[nodiscard]] std::uint32_t next_hop(std::uint32_t destination) const noexcept;
  [[nodiscard]] bool is_link_local(std::uint32_t destination) const noexcept;
  // The longest matching route; none: nullptr.
  [[nodiscard]] const shm::PortRoute* route_to(std::uint32_t destination) const noexcept;
};

// An address of an interface of the kernel's that is up.
struct HostInterface {
  std::string name;
  std::uint32_t address{};
  std::uint32_t prefix_length{};
  bool has_multicast{};
  bool is_loopback{};
};
// Asks the kernel; IPv6 addresses are entered in `book`, and left out without one. Steward and command only.
[[nodiscard]] std::vector<HostInterface> read_host_interfaces(shm::AddressBook* book);

// Where a multicast group is joined and sent to.
struct GroupRoute {
  std::uint32_t port{};            // port table
  std::uint32_t interface_address{};  // ours on that network
  std::string why;
};

struct Route {
  std::uint32_t port{};            // port table
  std::uint32_t next_hop{};        // whose MAC address the frame needs
  std::uint32_t source{};          // our address there, 0 = the kernel's choice
  std::string why;                 // for the operator
};

class RouteTable {
 public:
  RouteTable() = default;
  // `book` has the addresses of handles; without one there must be none.
  explicit RouteTable(std::vector<RoutePort> ports, const shm::AddressBook* book = nullptr);

  // Ports on which a unicast receive endpoint listens: the owner of `address`; all for 0.0.0.0, and for :: all that have IPv6. kNotFound when no
  // port owns it and there is no kernel port.
  [[nodiscard]] Result<std::vector<std::uint32_t>> receive(std::uint32_t address) const;

  // The network of a multicast group: of those that match `interface_address`/`prefix_length` (0.0.0.0 or :: = any), a port of ours with the longest
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
  [[nodiscard]] std::string format(std::uint32_t address) const;
  [[nodiscard]] std::string format_network(std::uint32_t address, std::uint32_t prefix_length) const;
  [[nodiscard]] std::string describe(const Choice& choice, std::uint32_t destination) const;
  [[nodiscard]] const HostInterface* best_of(const std::vector<HostInterface>& host, std::uint32_t address, std::uint32_t prefix_length, bool is_loopback) const noexcept;
  [[nodiscard]] const RoutePort* owner(std::uint32_t address) const noexcept;
  [[nodiscard]] const RoutePort* of_kind(shm::PortKind kind) const noexcept;
  [[nodiscard]] const RoutePort* by_subnet(std::uint32_t destination) const noexcept;
  [[nodiscard]] Choice by_prefix(std::uint32_t destination) const noexcept;
  [[nodiscard]] const RoutePort* by_network(std::uint32_t address, std::uint32_t prefix_length) const noexcept;
  [[nodiscard]] const RoutePort* by_interface(std::uint32_t address, std::uint32_t prefix_length) const noexcept;

  std::vector<RoutePort> ports_;
  const shm::AddressBook* book_{};
};

}  // namespace thalweg::core
