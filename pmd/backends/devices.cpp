#include "pmd/backends/devices.hpp"

#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ifaddrs.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pmd/backends/memif_socket.hpp"
#include "pmd/backends/socket_table.hpp"
#include "pmd/port_mac.hpp"

namespace thalweg::pmd {
namespace {

// Device names must be unique in the process and begin with the driver's name.
std::string device_name(const char* driver, const PortOptions& options) {
  static std::atomic<unsigned> next_id{};
  std::string name = driver + std::string{"_"};
  constexpr std::size_t kNameMax = 40;  // of RTE_ETH_NAME_MAX_LEN's 64, less driver and number
  for (const char c : options.name.substr(0, kNameMax)) name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name + "_" + std::to_string(next_id.fetch_add(1));
}

// The part after a comma would be another argument of the driver.
Result<void> check_argument(const char* key, const std::string& value) {
  if (value.empty()) return fail(ErrorCode::kInvalidConfig, std::string{key} + " is missing", std::string{"set the port's "} + key);
  if (value.find_first_of(",=[]\"") != std::string::npos)
    return fail(ErrorCode::kInvalidConfig, std::string{key} + " '" + value + "' contains one of , = [ ] \"", "use a plain name");
  return {};
}

Result<void> need_capabilities(const PortOptions& options, const std::vector<int>& wanted) {
  const std::string missing = missing_capabilities(wanted);
  if (missing.empty()) return {};
  return fail(ErrorCode::kPermission, "missing capabilities: " + missing,
              "run as root, or: setcap " + missing + "+ep $(command -v thalweg-dataplane); port " + options.name + " cannot do without");
}

Result<std::uint32_t> interface_mtu(const std::string& interface) {
  const Fd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq request{};
  std::memcpy(request.ifr_name, interface.data(), std::min(interface.size(), sizeof request.ifr_name - 1));
  if (::ioctl(socket.get(), SIOCGIFMTU, &request) != 0) return fail_errno(ErrorCode::kIo, "mtu of interface " + interface, errno);
  return static_cast<std::uint32_t>(request.ifr_mtu);
}

bool has_ip_address(const std::string& interface) {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return false;
  bool found = false;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next)
    found = found || (interface == one->ifa_name && one->ifa_addr != nullptr &&
                      (one->ifa_addr->sa_family == AF_INET || one->ifa_addr->sa_family == AF_INET6));
  ::freeifaddrs(all);
  return found;
}

// What af_packet and af_xdp want of an interface that the kernel has as well.
Result<void> check_interface(const PortOptions& options, std::vector<std::string>& notes) {
  const std::string& interface = options.device;
  if (auto checked = check_argument("device", interface); !checked) return checked;
  if (interface.size() >= IFNAMSIZ || ::if_nametoindex(interface.c_str()) == 0)
    return fail(ErrorCode::kNotFound, "interface " + interface + " does not exist", "`ip -br link` lists those that do");
  const auto mtu = interface_mtu(interface);
  if (!mtu) return tl::unexpected<Error>{mtu.error()};
  if (*mtu < options.mtu)
    return fail(ErrorCode::kInvalidConfig,
                "interface " + interface + " has mtu " + std::to_string(*mtu) + ", the port wants " + std::to_string(options.mtu),
                "ip link set dev " + interface + " mtu " + std::to_string(options.mtu));
  // The kernel would answer our peers' ARP itself, and our datagrams with ICMP port unreachable.
  if (has_ip_address(interface))
    notes.push_back("port " + options.name + ": interface " + interface +
                    " has an IP address of its own, so the kernel answers beside us; ip addr flush dev " + interface +
                    " && sysctl net.ipv6.conf." + interface + ".disable_ipv6=1");
  return {};
}

Result<DeviceSpec> memif_spec(const PortOptions& options) {
  if (auto checked = check_argument("socket", options.memif_socket); !checked) return tl::unexpected<Error>{std::move(checked.error())};
  if (auto checked = check_memif_socket(options.memif_socket); !checked) return tl::unexpected<Error>{std::move(checked.error())};
  if (options.is_memif_server)
    if (auto prepared = prepare_memif_server(options.memif_socket); !prepared) return tl::unexpected<Error>{std::move(prepared.error())};
  const bool is_path = options.memif_socket.front() == '/';
  DeviceSpec spec;
  spec.name = device_name("net_memif", options);
  // Buffers hold a frame in one piece; rings are given as a power of two, at most 2^14.
  const std::uint32_t buffer = std::max<std::uint32_t>(2048, std::bit_ceil(options.mtu + 64));
  const int ring_log2 = std::min(14, static_cast<int>(std::bit_width(std::max<std::uint32_t>(options.ring_size, 2) - 1U)));
  char mac[18];
  const auto& m = port_mac(options).bytes;
  std::snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
  spec.arguments = std::string{"role="} + (options.is_memif_server ? "server" : "client") + ",id=" + std::to_string(options.memif_id) +
                   ",socket=" + options.memif_socket + ",socket-abstract=" + (is_path ? "no" : "yes") + ",bsize=" + std::to_string(buffer) +
                   ",rsize=" + std::to_string(ring_log2) + ",mac=" + mac;
  spec.is_real_wire = false;
  spec.spreads_without_rss = true;
  spec.drops_chains = true;
  spec.starts_when_peer_is_there = !options.is_memif_server;
  spec.unmaps_under_lanes = true;
  (options.is_memif_server ? spec.memif_server_socket : spec.memif_client_socket) = options.memif_socket;
  return spec;
}

Result<DeviceSpec> af_packet_spec(const PortOptions& options, std::vector<std::string>& notes) {
  if (auto checked = check_interface(options, notes); !checked) return tl::unexpected<Error>{std::move(checked.error())};
  if (auto allowed = need_capabilities(options, {CAP_NET_RAW, CAP_NET_ADMIN}); !allowed)
    return tl::unexpected<Error>{std::move(allowed.error())};
  const std::uint32_t frame_size = af_packet_frame_size(options.mtu);
  const std::uint32_t block_size = std::max<std::uint32_t>(4096, frame_size);
  const std::uint32_t frames = std::bit_ceil(std::max<std::uint32_t>(options.ring_size, 512));
  DeviceSpec spec;
  spec.name = device_name("net_af_packet", options);
  // qdisc_bypass: our frames need no queueing discipline, and are not handed to our own receiving socket.
  spec.arguments = "iface=" + options.device + ",qpairs=" + std::to_string(std::max<std::uint16_t>(options.queues, 1)) +
                   ",framesz=" + std::to_string(frame_size) + ",framecnt=" + std::to_string(frames) +
                   ",blocksz=" + std::to_string(block_size) + ",qdisc_bypass=1";
  spec.spreads_without_rss = true;  // PACKET_FANOUT_HASH
  spec.has_own_mac = true;
  spec.drops_own_frames = true;
  spec.interface = options.device;
  return spec;
}

Result<DeviceSpec> af_xdp_spec(const PortOptions& options, std::vector<std::string>& notes) {
  if (auto checked = check_interface(options, notes); !checked) return tl::unexpected<Error>{std::move(checked.error())};
  if (auto allowed = need_capabilities(options, {CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF, CAP_SYS_ADMIN, CAP_IPC_LOCK}); !allowed)
    return tl::unexpected<Error>{std::move(allowed.error())};
  const rlimit unlimited{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  static_cast<void>(::setrlimit(RLIMIT_MEMLOCK, &unlimited));  // only matters without CAP_IPC_LOCK, where it may not be allowed
  DeviceSpec spec;
  spec.name = device_name("net_af_xdp", options);
  spec.arguments = "iface=" + options.device;  // start_queue and queue_count stay alone: veth refuses anything but one queue
  spec.has_own_mac = true;
  // No second try in this process: the driver keeps the buffers of a failed one.
  spec.queue_hint = "is another process on " + options.device +
                    "? After one was killed the kernel needs a moment to let go of the queue; `thalweg up` tries again by itself";
  spec.interface = options.device;
  notes.push_back("port " + options.name + ": af_xdp takes every frame of interface " + options.device +
                  ": the kernel sees none, its ARP included");
  return spec;
}

Result<DeviceSpec> tap_spec(const PortOptions& options) {
  if (auto checked = check_argument("device", options.device); !checked) return tl::unexpected<Error>{std::move(checked.error())};
  if (options.device.size() >= IFNAMSIZ)
    return fail(ErrorCode::kInvalidConfig, "interface name '" + options.device + "' is longer than 15 characters");
  if (auto allowed = need_capabilities(options, {CAP_NET_RAW, CAP_NET_ADMIN}); !allowed)
    return tl::unexpected<Error>{std::move(allowed.error())};
  if (::access("/dev/net/tun", R_OK | W_OK) != 0)
    return fail_errno(errno == EACCES ? ErrorCode::kPermission : ErrorCode::kNotFound, "/dev/net/tun", errno, "modprobe tun");
  DeviceSpec spec;
  spec.name = device_name("net_tap", options);
  spec.arguments = "iface=" + options.device;
  // The device's MAC is the kernel's end; ours is another station behind it, so the made-up one is used and everything accepted.
  spec.sets_mtu = true;
  spec.drops_chains = true;
  spec.interface = options.device;
  return spec;
}

Result<DeviceSpec> pcap_spec(const PortOptions& options) {
  if (options.device.empty() && options.device_tx.empty())
    return fail(ErrorCode::kInvalidConfig, "neither a file to read nor one to write is given", "set device: or device_tx:");
  DeviceSpec spec;
  spec.name = device_name("net_pcap", options);
  if (!options.device.empty()) {
    if (auto checked = check_argument("device", options.device); !checked) return tl::unexpected<Error>{std::move(checked.error())};
    if (::access(options.device.c_str(), R_OK) != 0)
      return fail_errno(errno == EACCES ? ErrorCode::kPermission : ErrorCode::kNotFound, "capture file " + options.device, errno);
    spec.arguments = "rx_pcap=" + options.device;
  }
  if (!options.device_tx.empty()) {
    if (auto checked = check_argument("device_tx", options.device_tx); !checked) return tl::unexpected<Error>{std::move(checked.error())};
    spec.arguments += (spec.arguments.empty() ? "tx_pcap=" : ",tx_pcap=") + options.device_tx;
  }
  spec.is_real_wire = false;
  spec.drops_chains = true;
  return spec;
}

Result<DeviceSpec> pci_spec(const PortOptions& options) {
  if (auto checked = check_argument("device", options.device); !checked) return tl::unexpected<Error>{std::move(checked.error())};
  if (::access(("/sys/bus/pci/devices/" + options.device).c_str(), F_OK) != 0)
    return tl::unexpected<Error>{explain_pci(options.device, "/sys")};
  DeviceSpec spec;
  spec.name = options.device;
  spec.is_vdev = false;
  spec.has_own_mac = true;
  spec.takes_mac = true;
  return spec;
}

}  // namespace

std::uint32_t af_packet_frame_size(std::uint32_t mtu) noexcept {
  constexpr std::uint32_t kHeaders = 14 + 4 + 96;  // Ethernet, VLAN, and the kernel's tpacket2 header with its alignment
  return std::max<std::uint32_t>(2048, std::bit_ceil(mtu + kHeaders));
}

Error explain_pci(const std::string& address, const std::string& sysfs) {
  const std::string device = sysfs + "/bus/pci/devices/" + address;
  if (::access(device.c_str(), F_OK) != 0)
    return {ErrorCode::kNotFound, "no PCI device " + address, "`lspci -D -d ::0200` lists network devices with their addresses"};
  char target[256];
  const ssize_t length = ::readlink((device + "/driver").c_str(), target, sizeof target - 1);
  std::string driver{target, length > 0 ? static_cast<std::size_t>(length) : 0};
  driver = driver.substr(driver.rfind('/') + 1);
  if (driver == "vfio-pci" || driver == "mlx5_core" || driver == "igb_uio" || driver == "uio_pci_generic")
    return {ErrorCode::kUnsupported, "PCI device " + address + " is bound to " + driver + ", but no DPDK driver takes it",
            "was it named to the EAL at start-up? Is its PMD installed (librte-net-*)?"};
  return {ErrorCode::kInvalidConfig,
          "PCI device " + address + (driver.empty() ? " is bound to no driver" : " is bound to the kernel's driver " + driver) +
              ", vfio-pci is needed",
          "dpdk-devbind.py --bind=vfio-pci " + address};
}

std::string missing_capabilities(const std::vector<int>& wanted) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2]{};
  if (::syscall(SYS_capget, &header, data) != 0) return {};
  const auto name = [](int capability) -> const char* {
    switch (capability) {
      case CAP_NET_RAW: return "cap_net_raw";
      case CAP_NET_ADMIN: return "cap_net_admin";
      case CAP_BPF: return "cap_bpf";
      case CAP_SYS_ADMIN: return "cap_sys_admin";
      case CAP_IPC_LOCK: return "cap_ipc_lock";
      default: return "cap_unknown";
    }
  };
  std::string missing;
  for (const int capability : wanted) {
    if ((data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability)) != 0) continue;
    missing += (missing.empty() ? "" : ",") + std::string{name(capability)};
  }
  return missing;
}

Result<DeviceSpec> device_spec(const PortOptions& options, std::vector<std::string>& notes) {
  switch (options.kind) {
    case shm::PortKind::kMemif: return memif_spec(options);
    case shm::PortKind::kAfPacket: return af_packet_spec(options, notes);
    case shm::PortKind::kAfXdp: return af_xdp_spec(options, notes);
    case shm::PortKind::kTap: return tap_spec(options);
    case shm::PortKind::kPcap: return pcap_spec(options);
    case shm::PortKind::kPci: return pci_spec(options);
    case shm::PortKind::kNone:
    case shm::PortKind::kPatch:
    case shm::PortKind::kLoopback:
    case shm::PortKind::kKernel: break;
  }
  return fail(ErrorCode::kUnsupported, "this type of port has no device");
}

}  // namespace thalweg::pmd
