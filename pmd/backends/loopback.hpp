#pragma once
#include <atomic>
#include <deque>
#include <vector>

#include "pmd/backends/socket_queue.hpp"

struct rte_ring;

// The loopback port owns 127.0.0.0/8 and ::1. A frame to an address bound here goes through a ring in memory to the queue of its receiver; an
// endpoint nevertheless holds a really bound socket, so that a port in use is an error and another process on this host is reachable: frames
// to addresses that are not bound here leave through the socket of their source, datagrams that others send arrive on it.
namespace thalweg::pmd {

class LoopbackPort final : public Port {
 public:
  // `kernel_sockets` are the kernel port's: endpoints on the wildcard address have their socket there. Without `addresses` there is no IPv6.
  [[nodiscard]] static Result<std::unique_ptr<Port>> create(const PortOptions& options, const SocketTable& kernel_sockets, rte_mempool* pool,
                                                            const SocketInterval& interval = {}, shm::AddressBook* addresses = nullptr);
  ~LoopbackPort() override;

  std::uint16_t rx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override;
  std::uint16_t tx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override;
  void turn(std::int64_t now_ns) noexcept override { now_ns_.store(now_ns, std::memory_order_relaxed); }
  const PortCapabilities& capabilities() const noexcept override { return capabilities_; }
  wire::MacAddress mac() const noexcept override { return {}; }
  bool is_link_up() noexcept override { return true; }
  PortStatistics statistics() noexcept override;
  // An address of the port's binds a socket. The wildcard with a remote becomes 127.0.0.1 or ::1, as the kernel would choose; without one it is
  // taken in memory only, because the kernel port holds its socket (bind there first when the port number is 0).
  Result<wire::UdpEndpoint> bind(const BindOptions& options) override;
  void unbind(const wire::UdpEndpoint& local) override { table_.unbind(local); }
  // On the host's loopback interface: other processes hear what we send to a group, and we hear them. What we sent comes back, too; lanes
  // know it by its source, because members here had a copy before (core::LanePort).
  Result<void> join(const GroupOptions& options) override { return table_.join(options); }
  void leave(const wire::UdpEndpoint& group, std::uint32_t interface_address) override { table_.leave(group, interface_address); }

 private:
  // Where a frame goes; equal targets in a row are sent together.
  struct Target {
    enum class Kind : std::uint8_t { kDrop, kRing, kSocket };
    Kind kind{Kind::kDrop};
    std::uint16_t queue{};
    int fd{-1};
    wire::UdpEndpoint remote{};
    friend bool operator==(const Target&, const Target&) = default;
  };
  LoopbackPort(const PortOptions& options, const SocketTable& kernel_sockets, rte_mempool* pool, const SocketInterval& interval);
  [[nodiscard]] Target classify(rte_mbuf* frame) const noexcept;
  [[nodiscard]] std::uint16_t dispatch(const Target& target, std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept;
  [[nodiscard]] rte_ring* ring(std::uint16_t from, std::uint16_t to) const noexcept { return rings_[from * queues_.size() + to]; }

  SocketTable table_;
  const SocketTable& kernel_sockets_;
  std::vector<rte_ring*> rings_;         // [from queue][to queue], each with one producer and one consumer
  std::deque<SocketQueue> queues_;       // a deque: queues do not move
  std::atomic<std::int64_t> now_ns_{};   // several lanes may share the port; any of their clocks will do
  PortCapabilities capabilities_;
};

}  // namespace thalweg::pmd
