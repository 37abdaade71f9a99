#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/base/result.hpp"
#include "pmd/port.hpp"

namespace thalweg::pmd {

inline constexpr std::uint32_t kPoolCacheMax = 256;  // mbufs kept per lane; more only hides a pool that is too small

struct PacketPoolOptions {
  std::string name;           // unique in the process, at most 20 characters
  std::uint32_t count{8191};  // mbufs; 2^n - 1 uses memory best
  std::uint32_t mtu{1500};    // IP bytes a frame must hold, contiguous
  std::uint32_t lanes{1};     // threads with a cache of their own: bounds how much the caches may hide
  int numa_node{-1};          // -1: any
};

// A pool of packet buffers. Everything taken from it must be back before it is destroyed.
class PacketPool {
 public:
  // Errors: kNoSpace (EAL memory), kInUse (name), kInvalidArgument. Steward, after Eal::start().
  [[nodiscard]] static Result<PacketPool> create(const PacketPoolOptions& options);
  PacketPool(PacketPool&& other) noexcept;
  PacketPool& operator=(PacketPool&& other) noexcept;
  ~PacketPool();

  [[nodiscard]] rte_mempool* get() const noexcept { return pool_; }
  // Buffers out at this moment, those in flight inside ports included; those in lane caches are not. Slow; steward and tests.
  [[nodiscard]] std::uint32_t in_use() const noexcept;
  [[nodiscard]] std::uint32_t count() const noexcept;
  [[nodiscard]] std::uint64_t bytes() const noexcept;

 private:
  explicit PacketPool(rte_mempool* pool) noexcept : pool_{pool} {}
  rte_mempool* pool_{};
};

// Bytes of one mbuf with room for `mtu` bytes of IP, as a pool lays it out.
[[nodiscard]] std::uint32_t packet_bytes(std::uint32_t mtu) noexcept;
// The part of it behind the rte_mbuf: headroom and frame.
[[nodiscard]] std::uint32_t packet_data_room(std::uint32_t mtu) noexcept;
// mbufs a port may hold at its worst: queues, rings, reserves, delayed frames. Pools are sized from the sum.
[[nodiscard]] std::uint32_t packets_needed(const PortOptions& options) noexcept;
// One pool of a data plane. Socket ports carry datagrams of 64 KiB, wires frames of 1500 or 9000 bytes: one pool for all would waste most
// of its memory.
struct PoolPlan {
  std::uint32_t mtu{};
  std::uint32_t count{};
};
// Whole datagrams of a port with ip-fragments: those under way, and those that other lanes still read.
inline constexpr std::uint32_t kDatagramBuffers = 64;
// A pool for each size that these ports need, smallest first; with ip-fragments the last one has the largest buffers. `count` 0: computed from what the ports and `lanes` may hold; else the
// buffers of every pool.
[[nodiscard]] std::vector<PoolPlan> plan_pools(const std::vector<PortOptions>& ports, std::uint32_t lanes, std::uint32_t count);
// Index of the pool for a port's frames.
[[nodiscard]] std::size_t pool_for(const std::vector<PoolPlan>& pools, const PortOptions& port) noexcept;
// EAL memory for these pools and the rings of these ports: what EalOptions::memory_bytes wants.
[[nodiscard]] std::uint64_t packet_memory_bytes(const std::vector<PortOptions>& ports, const std::vector<PoolPlan>& pools) noexcept;

}  // namespace thalweg::pmd
