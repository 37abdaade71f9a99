#pragma once
#include <atomic>
#include <deque>

#include "pmd/backends/socket_queue.hpp"

// The kernel port: UDP sockets, for every address that no other port owns (management network, other hosts reached through the kernel).
namespace thalweg::pmd {

class KernelPort final : public Port {
 public:
  // `table` is the instance's: the loopback port looks its wildcard sockets up too. `pool` holds received datagrams. Without `addresses` there is
  // no IPv6.
  // Errors: kIo.
  [[nodiscard]] static Result<std::unique_ptr<Port>> create(const PortOptions& options, SocketTable& table, rte_mempool* pool,
                                                            const SocketInterval& interval = {}, shm::AddressBook* addresses = nullptr);

  std::uint16_t rx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override;
  // Each frame leaves through the socket bound to its source address and port, or to the wildcard with that port; what a group's receivers
  // send to the control group, through the socket of the group.
  std::uint16_t tx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override;
  void turn(std::int64_t now_ns) noexcept override { now_ns_.store(now_ns, std::memory_order_relaxed); }
  const PortCapabilities& capabilities() const noexcept override { return capabilities_; }
  wire::MacAddress mac() const noexcept override { return {}; }
  bool is_link_up() noexcept override { return true; }
  PortStatistics statistics() noexcept override;
  Result<wire::UdpEndpoint> bind(const BindOptions& options) override;
  void unbind(const wire::UdpEndpoint& local) override { table_.unbind(local); }
  // The kernel speaks IGMP for us, and hands what we send to our own members.
  Result<void> join(const GroupOptions& options) override { return table_.join(options); }
  void leave(const wire::UdpEndpoint& group, std::uint32_t interface_address) override { table_.leave(group, interface_address); }

 private:
  KernelPort(std::uint16_t queue_count, SocketTable& table, rte_mempool* pool, const SocketInterval& interval);
  SocketTable& table_;
  std::deque<SocketQueue> queues_;       // a deque: queues do not move
  std::atomic<std::int64_t> now_ns_{};   // several lanes may share the port; any of their clocks will do
  PortCapabilities capabilities_;
};

}  // namespace thalweg::pmd
