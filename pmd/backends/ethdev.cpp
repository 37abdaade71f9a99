#include "pmd/backends/ethdev.hpp"

#include <rte_errno.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <cstring>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "dataplane/base/assert.hpp"
#include "dataplane/base/time.hpp"
#include "pmd/interrupt_thread.hpp"
#include "pmd/backends/socket_table.hpp"
#include "pmd/eal.hpp"
#include "pmd/port_mac.hpp"

namespace thalweg::pmd {
namespace {

constexpr std::int64_t kClockMeasure_ns = 20 * kMillisecond_ns;      // between the first two readings of a device's clock
constexpr std::int64_t kConnectPatience_ns = 500 * kMillisecond_ns;  // for a handshake of a dozen messages, on a loaded machine

ErrorCode kind_of(int code) noexcept {
  switch (code) {
    case ENOMEM: return ErrorCode::kNoSpace;
    case EPERM:
    case EACCES: return ErrorCode::kPermission;
    case EBUSY:
    case EADDRINUSE:
    case EEXIST: return ErrorCode::kInUse;
    case ENODEV:
    case ENOENT: return ErrorCode::kNotFound;
    case ENOTSUP: return ErrorCode::kUnsupported;
    default: return ErrorCode::kIo;
  }
}

tl::unexpected<Error> device_failure(const std::string& what, int result, std::string hint = {}) {
  const int code = result < 0 ? -result : EIO;
  if (hint.empty()) hint = "the driver's own account is in the log just above";
  return fail(kind_of(code), what + ": " + rte_strerror(code), std::move(hint));
}

tl::unexpected<Error> no_timestamps(std::string what) {
  return fail(ErrorCode::kUnsupported, std::move(what), "leave receive-timestamps out: media timestamps are then those of the lane");
}

wire::MacAddress to_mac(const rte_ether_addr& address) noexcept {
  wire::MacAddress mac;
  std::memcpy(mac.bytes.data(), address.addr_bytes, mac.bytes.size());
  return mac;
}

rte_ether_addr to_ether(const wire::MacAddress& mac) noexcept {
  rte_ether_addr address;
  std::memcpy(address.addr_bytes, mac.bytes.data(), mac.bytes.size());
  return address;
}

// Whether the kernel says that an interface is up and has a carrier.
bool has_carrier(const std::string& interface) noexcept {
  const Fd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq request{};
  std::memcpy(request.ifr_name, interface.data(), std::min(interface.size(), sizeof request.ifr_name - 1));
  if (::ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0) return false;
  return (request.ifr_flags & IFF_UP) != 0 && (request.ifr_flags & IFF_RUNNING) != 0;
}

}  // namespace

Result<std::unique_ptr<Port>> EthdevPort::create(const PortOptions& options, const DeviceSpec& spec, rte_mempool* pool,
                                                 const EthdevApi& api) {
  std::unique_ptr<EthdevPort> port{new EthdevPort{options, spec, api}};
  if (auto opened = port->open_device(); !opened) return tl::unexpected<Error>{std::move(opened.error())};
  if (auto configured = port->configure(options, pool); !configured) return tl::unexpected<Error>{std::move(configured.error())};
  if (spec.unmaps_under_lanes) watch_memif(*port);
  int result = 0;
  port->where_the_driver_runs([&] {
    if (spec.starts_when_peer_is_there) return port->start_when_peer_is_there();
    result = port->start_device();
  });
  if (result != 0) return device_failure("start " + spec.name, result);
  if (port->has_timestamps_) {
    if (auto started = port->start_clock(); !started) return tl::unexpected<Error>{std::move(started.error())};
  }
  return port;
}

EthdevPort::EthdevPort(const PortOptions& options, const DeviceSpec& spec, const EthdevApi& api)
    : api_{api}, spec_{spec}, addresses_{options.name, options.address}, steering_{api, options.vlan} {}

EthdevPort::~EthdevPort() {
  if (spec_.unmaps_under_lanes) unwatch_memif(*this);
  where_the_driver_runs([this] {
    server_hold_.reset();
    if (is_started_) api_.stop(port_);
    if (is_configured_) api_.close(port_);
    if (has_vdev_) api_.vdev_uninit(spec_.name.c_str());
  });
}

// A memif driver connects and disconnects on the interrupt thread, without a lock: so that is where such a device is started and stopped.
template <typename Action>
void EthdevPort::where_the_driver_runs(Action&& action) {
  if (spec_.unmaps_under_lanes) return run_on_interrupt_thread(action);
  action();
}

Result<void> EthdevPort::open_device() {
  if (spec_.is_vdev) {
    if (const int result = api_.vdev_init(spec_.name.c_str(), spec_.arguments.c_str()); result != 0)
      return device_failure("make device " + spec_.name + " (" + spec_.arguments + ")", result);
    has_vdev_ = true;
    server_hold_ = std::make_unique<MemifServerHold>(spec_.memif_server_socket);
  } else if (api_.port_by_name(spec_.name.c_str(), &port_) != 0) {
    if (const int result = api_.dev_probe(spec_.name.c_str()); result != 0) return device_failure("probe " + spec_.name, result);
  }
  if (const int result = api_.port_by_name(spec_.name.c_str(), &port_); result != 0)
    return device_failure("device " + spec_.name + " has no driver", result);
  return {};
}

Result<void> EthdevPort::configure(const PortOptions& options, rte_mempool* pool) {
  rte_eth_dev_info info{};
  if (const int result = api_.info_get(port_, &info); result != 0) return device_failure("ask " + spec_.name + " what it can", result);
  if (options.mtu > info.max_mtu || (info.min_mtu != 0 && options.mtu < info.min_mtu))
    return fail(ErrorCode::kUnsupported,
                "mtu " + std::to_string(options.mtu) + " wanted, " + spec_.name + " can do " + std::to_string(info.min_mtu) + " to " +
                    std::to_string(info.max_mtu),
                "set the port's mtu to at most " + std::to_string(info.max_mtu));

  // A driver accepts an RSS request it ignores, so queues are only asked for where something spreads frames over them.
  const auto wanted = std::max<std::uint16_t>(options.queues, 1);
  const std::uint64_t rss = info.flow_type_rss_offloads & (RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_UDP);
  const bool spreads = rss != 0 || spec_.spreads_without_rss;
  const std::uint16_t rx_queues = spreads ? std::min(wanted, info.max_rx_queues) : std::uint16_t{1};
  const std::uint16_t tx_queues = std::min(wanted, info.max_tx_queues);

  rte_eth_conf conf{};
  conf.rxmode.mtu = options.mtu;
  if (rx_queues > 1 && rss != 0) {
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_hf = rss;
  }
  conf.txmode.offloads =
      info.tx_offload_capa & (RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM);
  if (options.has_receive_timestamps) {
    if (auto prepared = prepare_timestamps(info, conf); !prepared) return prepared;
  }
  if (const int result = api_.configure(port_, rx_queues, tx_queues, &conf); result != 0)
    return device_failure("configure " + spec_.name + " with " + std::to_string(rx_queues) + " queues", result);
  is_configured_ = true;

  capabilities_ = {.has_multi_segment_tx = (conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0,
                   .has_ip_checksum_tx = (conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) != 0,
                   .has_udp_checksum_tx = (conf.txmode.offloads & RTE_ETH_TX_OFFLOAD_UDP_CKSUM) != 0,
                   .needs_arp = true,
                   .is_real_wire = spec_.is_real_wire,
                   .rx_queue_count = rx_queues,
                   .tx_queue_count = tx_queues};
  for (std::uint16_t i = 0; i < std::max(rx_queues, tx_queues); ++i) queues_.emplace_back();
  const int socket = info.device != nullptr ? rte_eth_dev_socket_id(port_) : SOCKET_ID_ANY;
  if (auto set_up = set_up_queues(options, info, pool, socket); !set_up) return set_up;
  if (spec_.sets_mtu)
    if (const int result = api_.set_mtu(port_, static_cast<std::uint16_t>(options.mtu)); result != 0)
      return device_failure("set the mtu of " + spec_.name, result);
  return settle_mac(options);
}

Result<void> EthdevPort::set_up_queues(const PortOptions& options, const rte_eth_dev_info& info, rte_mempool* pool, int socket) {
  std::uint16_t rx_descriptors = options.ring_size, tx_descriptors = options.ring_size;
  if (const int result = api_.adjust_descriptors(port_, &rx_descriptors, &tx_descriptors); result != 0)
    return device_failure("ring size " + std::to_string(options.ring_size) + " of " + spec_.name, result, "change the port's ring-size");
  rte_eth_txconf tx_conf = info.default_txconf;
  tx_conf.offloads = 0;  // those of the port apply
  for (std::uint16_t queue = 0; queue < capabilities_.rx_queue_count; ++queue)
    if (const int result = api_.rx_queue_setup(port_, queue, rx_descriptors, static_cast<unsigned>(socket), nullptr, pool); result != 0)
      return device_failure("rx queue " + std::to_string(queue) + " of " + spec_.name, result,
                            spec_.queue_hint.empty() ? "it needs " + std::to_string(rx_descriptors) + " packet buffers: raise dataplane.packet-buffers"
                                                     : spec_.queue_hint);
  for (std::uint16_t queue = 0; queue < capabilities_.tx_queue_count; ++queue)
    if (const int result = api_.tx_queue_setup(port_, queue, tx_descriptors, static_cast<unsigned>(socket), &tx_conf); result != 0)
      return device_failure("tx queue " + std::to_string(queue) + " of " + spec_.name, result);
  return {};
}

Result<void> EthdevPort::prepare_timestamps(const rte_eth_dev_info& info, rte_eth_conf& conf) {
  if ((info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_TIMESTAMP) == 0) return no_timestamps(spec_.name + " does not note when frames arrive");
  if (api_.rx_timestamp_register(&timestamp_field_.offset, &timestamp_field_.flag) != 0) return fail(ErrorCode::kNoSpace, "no room in packet buffers for timestamps of " + spec_.name);
  conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_TIMESTAMP;
  has_timestamps_ = true;
  return {};
}

// Two readings, so that the first frame's time can be told.
Result<void> EthdevPort::start_clock() {
  std::uint64_t ticks = 0;
  if (api_.read_clock(port_, &ticks) != 0) return no_timestamps(spec_.name + " does not let its clock be read, so that its timestamps mean nothing");
  read_clock();
  for (const std::int64_t start_ns = monotonic_ns(); monotonic_ns() - start_ns < kClockMeasure_ns;) ::usleep(1000);
  read_clock();
  return {};
}

// Both clocks as close together as a few tries allow: an interruption in between shows as a large distance.
void EthdevPort::read_clock() noexcept {
  std::int64_t nearest_ns = INT64_MAX, at_ns = 0;
  std::uint64_t at_ticks = 0;
  for (int i = 0; i < 8; ++i) {
    std::uint64_t ticks = 0;
    const std::int64_t before_ns = epoch_ns();
    if (api_.read_clock(port_, &ticks) != 0) return;
    const std::int64_t distance_ns = epoch_ns() - before_ns;
    if (distance_ns < 0 || distance_ns >= nearest_ns) continue;
    nearest_ns = distance_ns;
    at_ns = before_ns + distance_ns / 2;
    at_ticks = ticks;
  }
  if (nearest_ns != INT64_MAX) clock_.add(at_ticks, at_ns);
}

Result<void> EthdevPort::settle_mac(const PortOptions& options) {
  rte_ether_addr device{};
  if (const int result = api_.mac_addr_get(port_, &device); result != 0) return device_failure("MAC of " + spec_.name, result);
  has_ipv6_ = !options.address6.is_unspecified();
  mac_ = spec_.has_own_mac && options.mac.is_zero() ? to_mac(device) : port_mac(options);
  if (mac_ == to_mac(device)) return {};
  rte_ether_addr own = to_ether(mac_);
  if (!spec_.takes_mac || api_.mac_addr_set(port_, &own) != 0) needs_promiscuous_ = true;
  return {};
}

// Groups must come in: by address filter, by accepting every group, by accepting everything, whichever the device can do first. Software
// looks at the IP destination in any case, because 32 groups share a MAC. A device that refuses all three has no filter at all.
void EthdevPort::choose_receive_filter() {
  has_group_list_ = false;
  if (needs_promiscuous_ && api_.promiscuous_enable(port_) == 0) return;
  has_group_list_ = filter_by_list();
  if (has_group_list_) return;
  if (api_.allmulticast_enable(port_) == 0) return;
  static_cast<void>(api_.promiscuous_enable(port_));
}

// Groups that share a MAC need one entry; all hosts are always on the list, for the queries of IGMP.
bool EthdevPort::filter_by_list() {
  constexpr std::uint32_t kAllHosts = 0xE0000001;
  if (has_ipv6_) return false;   // neighbours ask in groups that nobody joined; groups are many only where IPv4 has them
  std::vector<rte_ether_addr> macs{to_ether(wire::multicast_mac(kAllHosts))};
  for (const auto& [group, holders] : groups_) {
    const rte_ether_addr mac = to_ether(wire::multicast_mac(group));
    const auto is_same = [&mac](const rte_ether_addr& other) { return std::memcmp(&mac, &other, sizeof mac) == 0; };
    if (std::none_of(macs.begin(), macs.end(), is_same)) macs.push_back(mac);
  }
  return api_.set_mc_addr_list(port_, macs.data(), static_cast<std::uint32_t>(macs.size())) == 0;
}

Result<wire::UdpEndpoint> EthdevPort::bind(const BindOptions& options) {
  auto bound = addresses_.bind(options.local);
  if (bound && capabilities_.rx_queue_count > 1 && !wire::is_handle(bound->address)) steering_.steer(port_, *bound, options.queue);
  return bound;
}

void EthdevPort::unbind(const wire::UdpEndpoint& local) {
  steering_.forget(port_, local);
  addresses_.unbind(local);
}

Result<void> EthdevPort::join(const GroupOptions& options) {
  if (++groups_[options.group.address] > 1 || !has_group_list_ || !is_started_) return {};
  if (!filter_by_list()) choose_receive_filter();  // more groups than the device's list holds
  return {};
}

void EthdevPort::leave(const wire::UdpEndpoint& group, std::uint32_t /*interface_address*/) {
  const auto found = groups_.find(group.address);
  if (found == groups_.end() || --found->second != 0) return;
  groups_.erase(found);
  if (has_group_list_ && is_started_) static_cast<void>(filter_by_list());
}

int EthdevPort::start_device() {
  was_up_ = false;
  started_ns_ = monotonic_ns();
  set_started(true);  // before it is: a memif device may have its peer when start() returns
  if (const int result = api_.start(port_); result != 0) {
    set_started(false);
    return result;
  }
  choose_receive_filter();
  if (!spec_.unmaps_under_lanes) open_gates();  // else the thread that connects the device does
  return 0;
}

void EthdevPort::set_started(bool is_started) noexcept {
  const std::lock_guard lock{device_mutex_};
  is_started_ = is_started;
  if (!is_started) close_gates();
}

void EthdevPort::start_when_peer_is_there() noexcept {
  // The driver's connect() waits for a place in the server's queue, and the thread it does so on serves every memif port.
  if (!spec_.memif_client_socket.empty() && !does_memif_server_accept(spec_.memif_client_socket)) return;
  const QuietLog quiet;
  static_cast<void>(start_device());
}

// The server of a memif client went: the driver has let go of the connection and will not look for another by itself. A connection that is
// being made gets its time.
void EthdevPort::restart_when_peer_went() noexcept {
  if (is_started_ && !was_up_ && monotonic_ns() - started_ns_ < kConnectPatience_ns) return;
  where_the_driver_runs([this] {
    if (is_started_) {
      rte_eth_link link{};
      if (api_.link_get(port_, &link) == 0 && link.link_status == RTE_ETH_LINK_UP) return;  // since the steward looked
      set_started(false);
      api_.stop(port_);
    }
    start_when_peer_is_there();
  });
}

void EthdevPort::open_gates() noexcept {
  for (Queue& queue : queues_) {
    queue.rx_gate.open();
    queue.tx_gate.open();
  }
}

void EthdevPort::close_gates() noexcept {
  for (Queue& queue : queues_) {
    queue.rx_gate.close();
    queue.tx_gate.close();
  }
}

void EthdevPort::let_lanes_in_if_up() noexcept {
  const std::lock_guard lock{device_mutex_};
  rte_eth_link link{};
  if (is_started_ && api_.link_get(port_, &link) == 0 && link.link_status == RTE_ETH_LINK_UP) open_gates();
}

bool EthdevPort::is_link_up() noexcept {
  if (has_timestamps_) read_clock();
  rte_eth_link link{};
  const bool is_up = is_started_ && api_.link_get(port_, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
  if (is_up) {
    was_up_ = true;
    return spec_.interface.empty() || has_carrier(spec_.interface);
  }
  if (spec_.starts_when_peer_is_there) restart_when_peer_went();
  return false;
}

std::uint16_t EthdevPort::rx_burst(std::uint16_t queue_index, rte_mbuf** frames, std::uint16_t count) noexcept {
  Queue& queue = queues_[queue_index];
  if (!queue.rx_gate.enter()) return 0;
  const std::uint16_t received = rte_eth_rx_burst(port_, queue_index, frames, count);
  queue.rx_gate.leave();
  if (has_timestamps_) clock_.note_arrivals(timestamp_field_, frames, received);
  if (received == 0 || (!spec_.drops_own_frames && !spec_.drops_chains)) return received;
  return filter(queue, frames, received);
}

std::uint16_t EthdevPort::filter(Queue& queue, rte_mbuf** frames, std::uint16_t count) const noexcept {
  std::uint16_t kept = 0;
  for (std::uint16_t i = 0; i < count; ++i) {
    rte_mbuf* const frame = frames[i];
    const bool is_chain = spec_.drops_chains && frame->nb_segs != 1;
    const bool is_own = spec_.drops_own_frames && frame->data_len >= wire::kEthernetHeaderLength &&
                        std::memcmp(rte_pktmbuf_mtod_offset(frame, const char*, 6), mac_.bytes.data(), mac_.bytes.size()) == 0;
    if (!is_chain && !is_own) {
      frames[kept++] = frame;
      continue;
    }
    // What we sent ourselves was never received; what is too long was, and is an error.
    (is_own ? queue.filtered : queue.errors).add(1);
    if (is_own) queue.filtered_bytes.add(frame->pkt_len);
    rte_pktmbuf_free(frame);
  }
  return kept;
}

std::uint16_t EthdevPort::tx_burst(std::uint16_t queue_index, rte_mbuf** frames, std::uint16_t count) noexcept {
  Queue& queue = queues_[queue_index];
  if (!queue.tx_gate.enter()) return 0;
  // af_xdp would read past the end of a chain's first segment without a word (dpdk-notes, section 1).
  for (std::uint16_t i = 0; i < count; ++i) THALWEG_DCHECK(capabilities_.has_multi_segment_tx || frames[i]->nb_segs == 1);
  const std::uint16_t sent = rte_eth_tx_burst(port_, queue_index, frames, count);
  queue.tx_gate.leave();
  return sent;
}

// A device that has lost its peer answers zero until the peer is back (memif), and ours never go backwards.
void EthdevPort::keep_highest(const rte_eth_stats& now) noexcept {
  const auto raise = [](std::uint64_t& kept, std::uint64_t value) { kept = std::max(kept, value); };
  raise(device_statistics_.rx_frames, now.ipackets);
  raise(device_statistics_.rx_bytes, now.ibytes);
  raise(device_statistics_.tx_frames, now.opackets);
  raise(device_statistics_.tx_bytes, now.obytes);
  raise(device_statistics_.rx_missed, now.imissed);
  raise(device_statistics_.rx_errors, now.ierrors);
  raise(device_statistics_.tx_errors, now.oerrors);
  raise(device_statistics_.rx_no_buffer, now.rx_nombuf);
}

PortStatistics EthdevPort::statistics() noexcept {
  rte_eth_stats stats{};
  if (is_started_ && api_.stats_get(port_, &stats) == 0) keep_highest(stats);
  PortStatistics sum = device_statistics_;
  for (const Queue& queue : queues_) {
    sum.rx_frames -= std::min(sum.rx_frames, queue.filtered.get());
    sum.rx_bytes -= std::min(sum.rx_bytes, queue.filtered_bytes.get());
    sum.rx_errors += queue.errors.get();
  }
  return sum;
}

}  // namespace thalweg::pmd
