#include "pmd/packet_pool.hpp"

#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>

#include <algorithm>
#include <utility>

namespace thalweg::pmd {
namespace {

// rte_pktmbuf_pool_create(), but packed: it would start each buffer on a fresh 4 KiB page when there are no hugepages, to keep a buffer in one
// piece for devices. With --iova-mode=va every buffer is in one piece anyway, and 8191 of them take 19 MiB instead of 34.
rte_mempool* make_pool(const PacketPoolOptions& options, std::uint32_t cache) noexcept {
  const std::uint32_t room = packet_data_room(options.mtu);
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
  if (packet_data_room(options.mtu) > UINT16_MAX)
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

}  // namespace thalweg::pmd
