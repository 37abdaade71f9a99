#pragma once
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "pmd/backends/device_clock.hpp"
#include "pmd/backends/ethdev_api.hpp"
#include "pmd/backends/flow_steering.hpp"
#include "pmd/backends/lane_gate.hpp"
#include "pmd/backends/memif_socket.hpp"
#include "pmd/backends/memif_watch.hpp"
#include "pmd/queue_counters.hpp"
#include "pmd/udp_port_table.hpp"

namespace thalweg::pmd {

// How a device is made and what is known about its driver. One code path serves them all; see backends/devices.
struct DeviceSpec {
  std::string name;                  // of the vdev to make, or the PCI address
  std::string arguments;             // of the vdev
  bool is_vdev{true};
  bool is_real_wire{true};
  bool spreads_without_rss{};        // several rx queues make sense though the driver announces no RSS (af_packet fan-out, memif rings)
  bool takes_mac{};                  // the device's MAC may be changed; elsewhere the configured one is used above a promiscuous device
  bool has_own_mac{};                // without a configured MAC, the device's is used
  bool sets_mtu{};                   // the device wants rte_eth_dev_set_mtu besides the configuration
  bool drops_own_frames{};           // the device hands back what left through it (af_packet): dropped by source MAC
  bool drops_chains{};               // the device may chain what does not fit a buffer: dropped, because receivers want one piece
  bool starts_when_peer_is_there{};  // memif client: starting fails until the server is there, and again after it went
  bool unmaps_under_lanes{};         // memif: see MemifWatched
  std::string memif_server_socket;   // held by this port
  std::string memif_client_socket;   // a server of another process listens on it
  std::string queue_hint;            // what to do when a receive queue cannot be set up; "" = more packet buffers
  std::string interface;             // kernel interface whose carrier is the link; "" = ask the driver
};

// Any ethdev, virtual or PCI: configured, its queues set up, started, looked after, closed.
class EthdevPort final : public Port, private MemifWatched {
 public:
  // Makes the vdev (or finds the PCI device) and brings it up. Errors: kNotFound, kUnsupported (mtu), kNoSpace, kIo, kInUse.
  [[nodiscard]] static Result<std::unique_ptr<Port>> create(const PortOptions& options, const DeviceSpec& spec, rte_mempool* pool,
                                                            const EthdevApi& api = dpdk_ethdev_api());
  ~EthdevPort() override;

  std::uint16_t rx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override;
  std::uint16_t tx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override;
  const PortCapabilities& capabilities() const noexcept override { return capabilities_; }
  wire::MacAddress mac() const noexcept override { return mac_; }
  // Also tries to start a device that waits for its peer, and reads the device's clock: call it about once a second or more often.
  bool is_link_up() noexcept override;
  PortStatistics statistics() noexcept override;
  // With several receive queues the device is asked to put this address's frames on the one that is named.
  Result<wire::UdpEndpoint> bind(const BindOptions& options) override;
  void unbind(const wire::UdpEndpoint& local) override;
  // Puts the group's MAC into the device's filter, or opens the filter where that does not work.
  Result<void> join(const GroupOptions& options) override;
  void leave(const wire::UdpEndpoint& group, std::uint32_t interface_address) override;

 private:
  struct Queue {
    LaneGate rx_gate, tx_gate;
    Count filtered, filtered_bytes, errors;
  };
  EthdevPort(const PortOptions& options, const DeviceSpec& spec, const EthdevApi& api);
  [[nodiscard]] Result<void> open_device();
  [[nodiscard]] Result<void> configure(const PortOptions& options, rte_mempool* pool);
  [[nodiscard]] Result<void> set_up_queues(const PortOptions& options, const rte_eth_dev_info& info, rte_mempool* pool, int socket);
  [[nodiscard]] Result<void> settle_mac(const PortOptions& options);
  void choose_receive_filter();
  [[nodiscard]] bool filter_by_list();
  [[nodiscard]] int start_device();
  void set_started(bool is_started) noexcept;
  void start_when_peer_is_there() noexcept;
  void restart_when_peer_went() noexcept;
  template <typename Action>
  void where_the_driver_runs(Action&& action);
  void open_gates() noexcept;
  void close_gates() noexcept;
  void put_lanes_out() noexcept override { close_gates(); }
  void let_lanes_in_if_up() noexcept override;
  void keep_highest(const rte_eth_stats& now) noexcept;
  [[nodiscard]] Result<void> prepare_timestamps(const rte_eth_dev_info& info, rte_eth_conf& conf);
  [[nodiscard]] Result<void> start_clock();
  void read_clock() noexcept;
  [[nodiscard]] std::uint16_t filter(Queue& queue, rte_mbuf** frames, std::uint16_t count) const noexcept;

  const EthdevApi& api_;
  DeviceSpec spec_;
  std::uint16_t port_{};
  bool has_vdev_{};
  bool is_configured_{};
  bool is_started_{};
  std::mutex device_mutex_;  // is_started_ and the gates, between the steward and the interrupt thread of a memif device
  bool needs_promiscuous_{};
  bool has_ipv6_{};
  bool has_group_list_{};  // the device filters groups by MAC; else every group comes in
  std::map<std::uint32_t, std::uint32_t> groups_;  // joined, and how often
  bool was_up_{};  // since the last start
  std::int64_t started_ns_{};
  std::unique_ptr<MemifServerHold> server_hold_;
  std::deque<Queue> queues_;
  PortCapabilities capabilities_;
  wire::MacAddress mac_;
  PortStatistics device_statistics_;
  bool has_timestamps_{};           // the device notes its time in each frame
  DeviceTimestampField timestamp_field_;
  DeviceClock clock_;
  UdpPortTable addresses_;
  FlowSteering steering_;
};

}  // namespace thalweg::pmd
