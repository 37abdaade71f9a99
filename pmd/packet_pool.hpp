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
// mbufs a port may hold at its worst: queues, rings, reserves, delayed frames. Pools are sized from the sum.
[[nodiscard]] std::uint32_t packets_needed(const PortOptions& options) noexcept;
// EAL memory for pools of `count` buffers of `mtu` and the rings of these ports: what EalOptions::memory_bytes wants.
[[nodiscard]] std::uint64_t packet_memory_bytes(const std::vector<PortOptions>& ports, std::uint32_t count, std::uint32_t mtu) noexcept;

}  // namespace thalweg::pmd
