#pragma once
#include <array>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "pmd/backends/socket_address.hpp"
#include "pmd/backends/socket_table.hpp"
#include "pmd/queue_counters.hpp"

// One queue of a socket-backed port: frames to datagrams and back. The only place on a lane that makes system calls.
namespace thalweg::pmd {

// How often a lane asks its epoll set when nothing was there the last time: after so many polls, or so much time, whichever comes first.
// Asking costs about 0.3 us; more often slows the lane's other ports, less often delays the first datagram of a burst.
struct SocketInterval {
  std::uint32_t polls{16};
  std::int64_t time_ns{20'000};
};

class SocketQueue {
 public:
  // `room` bytes of payload fit behind the headers of a buffer of `pool`.
  SocketQueue(SocketTable& table, std::uint16_t queue, rte_mempool* pool, const SocketInterval& interval) noexcept;
  ~SocketQueue();
  SocketQueue(const SocketQueue&) = delete;
  SocketQueue& operator=(const SocketQueue&) = delete;

  // Up to `count` frames from sockets that are ready. Owning lane.
  [[nodiscard]] std::uint16_t receive(std::int64_t now_ns, rte_mbuf** frames, std::uint16_t count) noexcept;
  // Sends frames that all leave through the socket `fd`, which is connected to `remote` (port 0: it is not). The first n returned are
  // gone: sent, or counted as errors; fewer than `count` means that the socket's buffer is full. Owning lane.
  [[nodiscard]] std::uint16_t send(int fd, const wire::UdpEndpoint& remote, rte_mbuf** frames, std::uint16_t count) noexcept;

  QueueCounters counters;

 private:
  static constexpr std::size_t kControlLength = 64;  // room for one in_pktinfo and one timespec
  [[nodiscard]] bool is_time_to_look(std::int64_t now_ns) noexcept;
  [[nodiscard]] bool refill_reserve() noexcept;
  [[nodiscard]] std::uint16_t read_socket(std::uint32_t slot, rte_mbuf** frames, std::uint16_t count, bool& is_drained) noexcept;
  [[nodiscard]] bool dress(std::size_t index, rte_mbuf& frame, const wire::UdpEndpoint& local, std::uint32_t interface) noexcept;
  [[nodiscard]] wire::UdpEndpoint source_of(const SocketAddress& from, socklen_t length) noexcept;

  SocketTable& table_;
  rte_mempool* pool_;
  std::uint16_t queue_;
  SocketInterval interval_;
  std::uint32_t room_{};              // payload bytes of one buffer
  std::uint32_t polls_{};
  std::int64_t looked_ns_{};
  bool was_ready_{};                  // the last look found something: look again at once
  std::uint32_t ready_count_{}, ready_next_{};
  std::array<epoll_event, kBurstMax> ready_{};
  std::uint32_t reserve_count_{};     // buffers waiting for datagrams: always full before a read
  std::array<rte_mbuf*, kBurstMax> reserve_{};
  std::array<mmsghdr, kBurstMax> messages_{};
  std::array<iovec, kBurstMax> vectors_{};
  std::array<SocketAddress, kBurstMax> addresses_{};
  // IPv6: who sent the last datagram, its handle, and when that was looked up.
  shm::ScopedIpv6 source_;
  std::uint32_t source_handle_{};
  std::int64_t source_seen_ns_{};
  shm::LearnBudget budget_;
  alignas(8) std::array<std::array<std::byte, kControlLength>, kBurstMax> controls_{};
};

}  // namespace thalweg::pmd
