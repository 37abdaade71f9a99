// How many packet buffers a configuration needs, and how large they are. Calls nothing of DPDK: `thalweg host check` asks it, too.
#include <rte_mbuf.h>

#include <algorithm>
#include <bit>

#include "pmd/decorators/impaired.hpp"
#include "pmd/packet_pool.hpp"

namespace thalweg::pmd {
namespace {

// Behind the IP bytes: Ethernet header, one VLAN tag, and the 48-byte store of a frame template (wire::UdpFrameTemplate).
constexpr std::uint32_t kLinkBytes = 32;

}  // namespace

std::uint32_t packet_data_room(std::uint32_t mtu) noexcept {
  const std::uint32_t wanted = std::max<std::uint32_t>(mtu + kLinkBytes, RTE_MBUF_DEFAULT_DATAROOM);
  return RTE_PKTMBUF_HEADROOM + align_up<std::uint32_t>(wanted, kCacheLine);
}

std::uint32_t packet_bytes(std::uint32_t mtu) noexcept {
  constexpr std::uint32_t kObjectHeader = 64;
  return static_cast<std::uint32_t>(kObjectHeader + sizeof(rte_mbuf)) + packet_data_room(mtu);
}

std::uint32_t packets_needed(const PortOptions& options) noexcept {
  const std::uint32_t queues = std::max<std::uint32_t>(options.queues, 1);
  const bool has_sockets = options.kind == shm::PortKind::kLoopback || options.kind == shm::PortKind::kKernel;
  // One ring each way and a burst in hand each way; sockets queue in the kernel.
  std::uint32_t per_queue = (has_sockets ? 2U * kBurstMax : 2U * options.ring_size) + 2U * kBurstMax;
  const ImpairmentOptions& impairment = options.impairment;
  if (impairment.is_active()) per_queue += ImpairedPort::kDelayedMax;
  return queues * per_queue;
}

std::vector<PoolPlan> plan_pools(const std::vector<PortOptions>& ports, std::uint32_t lanes, std::uint32_t count) {
  constexpr std::uint32_t kLargest[] = {1500, 9216, kMtuMax};  // a pool for the ports up to each of these
  // Per lane: its cache, a reserve, and the stages of its ports.
  const std::uint32_t for_lanes = std::max<std::uint32_t>(lanes, 1) * 2 * kPoolCacheMax;
  std::vector<PoolPlan> pools;
  std::uint32_t below = 0;
  for (const std::uint32_t largest : kLargest) {
    PoolPlan pool{0, for_lanes};
    std::uint32_t for_datagrams = 0;
    for (const PortOptions& port : ports) {
      if (port.has_ip_fragments && largest == kMtuMax) for_datagrams += kDatagramBuffers;
      if (port.mtu <= below || port.mtu > largest) continue;
      pool.mtu = std::max(pool.mtu, port.mtu);
      pool.count += packets_needed(port);
    }
    below = largest;
    if (pool.mtu == 0 && for_datagrams == 0) continue;
    pool.count = pool.mtu == 0 ? 0 : count != 0 ? count : std::bit_ceil(pool.count) - 1;
    if (for_datagrams != 0) pool = {kMtuMax, pool.count + for_datagrams};
    pools.push_back(pool);
  }
  return pools;
}

std::size_t pool_for(const std::vector<PoolPlan>& pools, const PortOptions& port) noexcept {
  std::size_t index = 0;
  while (index + 1 < pools.size() && pools[index].mtu < port.mtu) ++index;
  return index;
}

std::uint64_t packet_memory_bytes(const std::vector<PortOptions>& ports, const std::vector<PoolPlan>& pools) noexcept {
  constexpr std::uint64_t kFixed = 8U << 20;        // EAL's own tables, ethdev data, device state
  constexpr std::uint64_t kPerPort = 256U << 10;    // queues and driver state of one device
  std::uint64_t total = kFixed;
  for (const PoolPlan& pool : pools) total += std::uint64_t{pool.count} * (packet_bytes(pool.mtu) + sizeof(void*) * 2);
  for (const PortOptions& port : ports) {
    const std::uint64_t queues = std::max<std::uint64_t>(port.queues, 1);
    total += kPerPort + queues * queues * 2 * (port.ring_size * sizeof(void*) + 512);
  }
  return total + total / 8;  // allocator overhead and pages that do not fill up
}

}  // namespace thalweg::pmd
