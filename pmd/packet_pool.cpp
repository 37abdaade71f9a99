#include "pmd/packet_pool.hpp"

#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "pmd/decorators/impaired.hpp"

namespace thalweg::pmd {
namespace {

// Behind the IP bytes: Ethernet header, one VLAN tag, and the 48-byte store of a frame template (wire::UdpFrameTemplate).
constexpr std::uint32_t kLinkBytes = 32;

std::uint32_t data_room(std::uint32_t mtu) noexcept {
  const std::uint32_t wanted = std::max<std::uint32_t>(mtu + kLinkBytes, RTE_MBUF_DEFAULT_DATAROOM);
  return RTE_PKTMBUF_HEADROOM + align_up<std::uint32_t>(wanted, kCacheLine);
}

// rte_pktmbuf_pool_create(), but packed: it would start each buffer on a fresh 4 KiB page when there are no hugepages, to keep a buffer in one
// piece for devices. With --iova-mode=va every buffer is in one piece anyway, and 8191 of them take 19 MiB instead of 34.
rte_mempool* make_pool(const PacketPoolOptions& options, std::uint32_t cache) noexcept {
  const std::uint32_t room = data_room(options.mtu);
  rte_mempool* const pool =
      rte_mempool_create_empty(options.name.c_str(), options.count, static_cast<unsigned>(sizeof(rte_mbuf)) + room, cache,
                               sizeof(rte_pktmbuf_pool_private), options.numa_node, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
  if (pool == nullptr) return nullptr;
  rte_pktmbuf_pool_private layout{};
  layout.mbuf_data_room_size = static_cast<std::uint16_t>(room);
  const int ops = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), nullptr);
  if (ops == 0) rte_pktmbuf_pool_init(pool, &layout);
  const int populated = ops == 0 ? rte_mempool_populate_default(pool) : ops;
  if (populated < 0) {
    rte_mempool_free(pool);
    rte_errno = -populated;
    return nullptr;
  }
  rte_mempool_obj_iter(pool, rte_pktmbuf_init, nullptr);
  return pool;
}

}  // namespace

Result<PacketPool> PacketPool::create(const PacketPoolOptions& options) {
  if (data_room(options.mtu) > UINT16_MAX)
    return fail(ErrorCode::kInvalidArgument, "mtu " + std::to_string(options.mtu) + " does not fit a packet buffer",
                "use an mtu of at most " + std::to_string(kMtuMax));
  // A cache may hold 1.5 times its size; all lanes together must not be able to hide more than half of the pool.
  const std::uint32_t cache = std::min<std::uint32_t>({kPoolCacheMax, RTE_MEMPOOL_CACHE_MAX_SIZE, options.count / (3 * (options.lanes + 1))});
  rte_mempool* const pool = make_pool(options, cache);
  if (pool != nullptr) return PacketPool{pool};
  const int code = rte_errno;
  const std::string what = "packet pool " + options.name + " of " + std::to_string(options.count) + " buffers: " + rte_strerror(code);
  if (code == EEXIST) return fail(ErrorCode::kInUse, what);
  return fail(ErrorCode::kNoSpace, what, "lower dataplane.packet-buffers, or reserve more hugepages");
}

PacketPool::PacketPool(PacketPool&& other) noexcept : pool_{std::exchange(other.pool_, nullptr)} {}

PacketPool& PacketPool::operator=(PacketPool&& other) noexcept {
  std::swap(pool_, other.pool_);
  return *this;
}

PacketPool::~PacketPool() {
  if (pool_ != nullptr) rte_mempool_free(pool_);
}

std::uint32_t PacketPool::in_use() const noexcept { return rte_mempool_in_use_count(pool_); }
std::uint32_t PacketPool::count() const noexcept { return pool_->size; }
std::uint64_t PacketPool::bytes() const noexcept {
  return std::uint64_t{pool_->size} * (pool_->header_size + pool_->elt_size + pool_->trailer_size);
}

std::uint32_t packet_bytes(std::uint32_t mtu) noexcept {
  constexpr std::uint32_t kObjectHeader = 64;
  return static_cast<std::uint32_t>(kObjectHeader + sizeof(rte_mbuf)) + data_room(mtu);
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
    for (const PortOptions& port : ports) {
      if (port.mtu <= below || port.mtu > largest) continue;
      pool.mtu = std::max(pool.mtu, port.mtu);
      pool.count += packets_needed(port);
    }
    below = largest;
    if (pool.mtu == 0) continue;
    pool.count = count != 0 ? count : std::bit_ceil(pool.count) - 1;
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
