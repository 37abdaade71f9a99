#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "pmd/port.hpp"

// UDP sockets of a socket-backed port, by local address. The steward binds and unbinds while lanes look up, send and receive.
namespace thalweg::pmd {

// A file descriptor that closes itself.
class Fd {
 public:
  Fd() noexcept = default;
  explicit Fd(int fd) noexcept : fd_{fd} {}
  Fd(Fd&& other) noexcept : fd_{other.release()} {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd();
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] int release() noexcept;

 private:
  int fd_{-1};
};

// Opens, sets up, binds and (send sockets with a remote) connects a UDP socket; `local` is where it ended up.
// Errors: kInUse, kPermission, kInvalidArgument (not an address of this host), kNoSpace (file descriptors), kIo.
struct BoundSocket {
  Fd fd;
  wire::UdpEndpoint local;
};
[[nodiscard]] Result<BoundSocket> open_udp_socket(const Port::BindOptions& options);

// Lookups (find, fd, remote, queue) are lock-free and belong to any lane; bind and unbind to the steward. Unbinding swaps a dead file under
// the descriptor number before the number can be used again, so a lane in the middle of a system call meets an error, never a stranger's
// socket. Precondition of unbind: the lane that owns the endpoint has let go of it.
class SocketTable {
 public:
  static constexpr std::uint32_t kEntriesMax = shm::kEndpointsMax;
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  SocketTable();
  ~SocketTable();
  SocketTable(const SocketTable&) = delete;
  SocketTable& operator=(const SocketTable&) = delete;

  // Makes an epoll set for each queue below `count`. Before lanes use the table. Errors: kIo, kNoSpace.
  [[nodiscard]] Result<void> open_queues(std::uint16_t count);
  // Binds a socket and puts it under the epoll set of its queue. Errors as open_udp_socket().
  [[nodiscard]] Result<wire::UdpEndpoint> bind(const Port::BindOptions& options);
  // Takes an address without a socket of its own. kInUse when this table holds it, or a wildcard against an address with the same port.
  [[nodiscard]] Result<wire::UdpEndpoint> reserve(const Port::BindOptions& options);
  void unbind(const wire::UdpEndpoint& local);

  // The entry of exactly this address and port, or kNone.
  [[nodiscard]] std::uint32_t find(const wire::UdpEndpoint& local) const noexcept {
    const std::uint64_t wanted = key(local);
    for (std::uint32_t slot = hash(wanted);; slot = (slot + 1) & (kSlots - 1)) {
      const std::uint64_t found = entries_[slot].key.load(std::memory_order_acquire);  // pairs with publish()
      if (found == wanted) return slot;
      if (found == kEmpty) return kNone;
    }
  }
  // The entry of this address, or else the wildcard's with this port.
  [[nodiscard]] std::uint32_t find_or_wildcard(const wire::UdpEndpoint& local) const noexcept {
    const std::uint32_t slot = find(local);
    return slot != kNone ? slot : find({0, local.port});
  }
  [[nodiscard]] int fd(std::uint32_t slot) const noexcept { return entries_[slot].fd.load(std::memory_order_relaxed); }  // -1: reserved only
  [[nodiscard]] std::uint16_t queue(std::uint32_t slot) const noexcept { return entries_[slot].queue.load(std::memory_order_relaxed); }
  // Where the socket is connected to; port 0: nowhere.
  [[nodiscard]] wire::UdpEndpoint remote(std::uint32_t slot) const noexcept {
    return endpoint(entries_[slot].remote.load(std::memory_order_relaxed));
  }
  [[nodiscard]] wire::UdpEndpoint local(std::uint32_t slot) const noexcept {
    return endpoint(entries_[slot].key.load(std::memory_order_acquire));
  }
  // Epoll set of a queue; its events carry entry numbers in data.u32.
  [[nodiscard]] int epoll_fd(std::uint16_t queue) const noexcept { return epoll_[queue].get(); }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  // Datagrams that the kernel had to throw away since the start because a socket's receive buffer was full (what SO_RXQ_OVFL reports with
  // each datagram), those of sockets closed since included. Steward: the lanes pay nothing for it.
  [[nodiscard]] std::uint64_t overflows() const noexcept;

 private:
  // Half full at most. A key is address, port and a low bit that tells a wildcard with port 0 bits from an empty entry.
  static constexpr std::uint32_t kSlots = 2 * kEntriesMax;
  static constexpr std::uint64_t kEmpty = 0;
  static constexpr std::uint64_t kTombstone = 2;
  struct Entry {
    std::atomic<std::uint64_t> key{kEmpty};
    std::atomic<std::uint64_t> remote{};
    std::atomic<int> fd{-1};
    std::atomic<std::uint16_t> queue{};
  };
  [[nodiscard]] static constexpr std::uint64_t key(const wire::UdpEndpoint& e) noexcept {
    return std::uint64_t{e.address} << 32 | std::uint64_t{e.port} << 16 | 1;
  }
  [[nodiscard]] static constexpr wire::UdpEndpoint endpoint(std::uint64_t word) noexcept {
    return {static_cast<std::uint32_t>(word >> 32), static_cast<std::uint16_t>(word >> 16)};
  }
  [[nodiscard]] static constexpr std::uint32_t hash(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(word * 0x9E3779B97F4A7C15U >> 40) & (kSlots - 1);
  }
  [[nodiscard]] std::uint32_t publish(const wire::UdpEndpoint& local, const Port::BindOptions& options, int fd);
  [[nodiscard]] bool collides(const wire::UdpEndpoint& local) const noexcept;

  std::unique_ptr<std::array<Entry, kSlots>> storage_;
  Entry* entries_{};
  std::uint32_t size_{};
  std::vector<Fd> epoll_;
  Fd dead_;                        // what lies under a parked number
  std::vector<int> parked_fds_;    // numbers to use again
  std::uint64_t closed_overflows_{};
};

}  // namespace thalweg::pmd
