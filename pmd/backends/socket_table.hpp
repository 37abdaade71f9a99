#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "dataplane/base/fd.hpp"
#include "pmd/port.hpp"

// UDP sockets of a socket-backed port, by local address. The steward binds and unbinds while lanes look up, send and receive.
namespace thalweg::pmd {

// Opens, sets up, binds and (send sockets with a remote) connects a UDP socket; `local` is where it ended up.
// Errors: kInUse, kPermission, kInvalidArgument (not an address of this host), kNoSpace (file descriptors), kIo.
struct BoundSocket {
  Fd fd;
  wire::UdpEndpoint local;
};
// `book` has what handles stand for; null: there is no IPv6.
[[nodiscard]] Result<BoundSocket> open_udp_socket(const Port::BindOptions& options, shm::AddressBook* book = nullptr);
// A socket bound to a group's address and port and joined to it on one interface; it hears nothing else. Other sockets of this host may do
// the same. Errors: kInUse (a socket without address reuse holds the port), kInvalidArgument (no such interface), kNoSpace, kIo.
[[nodiscard]] Result<Fd> open_group_socket(const Port::GroupOptions& options, const shm::AddressBook* book = nullptr);

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

  // Where the addresses of IPv6 sockets are; null: there are none. Before anything else.
  void use(shm::AddressBook* book) noexcept { book_ = book; }
  [[nodiscard]] shm::AddressBook* book() const noexcept { return book_; }
  // Of an address or a handle, for messages.
  [[nodiscard]] std::string format(std::uint32_t address) const;
  // Makes an epoll set for each queue below `count`. Before lanes use the table. Errors: kIo, kNoSpace.
  [[nodiscard]] Result<void> open_queues(std::uint16_t count);
  // Binds a socket and puts it under the epoll set of its queue. Errors as open_udp_socket().
  [[nodiscard]] Result<wire::UdpEndpoint> bind(const Port::BindOptions& options);
  // Takes an address without a socket of its own. kInUse when this table holds it, or a wildcard against an address with the same port.
  [[nodiscard]] Result<wire::UdpEndpoint> reserve(const Port::BindOptions& options);
  void unbind(const wire::UdpEndpoint& local);
  // Opens a socket for a group on an interface, or counts one more user of it. Errors as open_group_socket().
  [[nodiscard]] Result<void> join(const Port::GroupOptions& options);
  void leave(const wire::UdpEndpoint& group, std::uint32_t interface_address);

  // The entry of exactly this address and port, or kNone.
  [[nodiscard]] std::uint32_t find(const wire::UdpEndpoint& local) const noexcept { return find_key(key(local)); }
  // The socket that frames of `source` to `destination` leave through: for the control frames of a group's receivers, which go to an even
  // address, the socket of the data group (wire-protocol 5.3); else the one of the source address, or the wildcard's.
  [[nodiscard]] std::uint32_t find_sender(const wire::UdpEndpoint& source, const wire::UdpEndpoint& destination) const noexcept {
    if (wire::is_group(destination.address) && (destination.address & 1U) == 0) {
      const std::uint32_t slot = find_group({wire::data_group(destination.address), destination.port}, source.address);
      if (slot != kNone) return slot;
    }
    return find_or_wildcard(source);
  }
  // The entry of a group joined on an interface, or kNone.
  [[nodiscard]] std::uint32_t find_group(const wire::UdpEndpoint& group, std::uint32_t interface_address) const noexcept {
    const std::uint32_t number = interface_number(interface_address);
    return number == 0 ? kNone : find_key(key(group, number));
  }
  // The entry of this address, or else the wildcard's with this port.
  [[nodiscard]] std::uint32_t find_or_wildcard(const wire::UdpEndpoint& local) const noexcept {
    const std::uint32_t slot = find(local);
    return slot != kNone ? slot : find(wildcard_of(local));
  }
  // 0.0.0.0 or :: with the same port.
  [[nodiscard]] static constexpr wire::UdpEndpoint wildcard_of(const wire::UdpEndpoint& local) noexcept {
    return {wire::is_handle(local.address) ? wire::kAnyIpv6 : 0, local.port};
  }
  [[nodiscard]] int fd(std::uint32_t slot) const noexcept { return entries_[slot].fd.load(std::memory_order_relaxed); }  // -1: reserved only
  // Datagrams of this socket come with the kernel's receive time.
  [[nodiscard]] bool has_arrivals(std::uint32_t slot) const noexcept { return entries_[slot].has_arrivals.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint16_t queue(std::uint32_t slot) const noexcept { return entries_[slot].queue.load(std::memory_order_relaxed); }
  // Where the socket is connected to; port 0: nowhere.
  [[nodiscard]] wire::UdpEndpoint remote(std::uint32_t slot) const noexcept {
    return endpoint(entries_[slot].remote.load(std::memory_order_relaxed));
  }
  [[nodiscard]] wire::UdpEndpoint local(std::uint32_t slot) const noexcept {
    return endpoint(entries_[slot].key.load(std::memory_order_acquire));
  }
  // Of a group's socket: our address on the network it was joined on; 0 for other sockets.
  [[nodiscard]] std::uint32_t interface_address(std::uint32_t slot) const noexcept {
    const auto number = static_cast<std::uint32_t>(entries_[slot].key.load(std::memory_order_acquire) >> 2 & kNumberMask);
    return number == 0 ? 0 : interfaces_[number - 1].load(std::memory_order_relaxed);
  }
  // Epoll set of a queue; its events carry entry numbers in data.u32.
  [[nodiscard]] int epoll_fd(std::uint16_t queue) const noexcept { return epoll_[queue].get(); }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  // Datagrams that the kernel had to throw away since the start because a socket's receive buffer was full (what SO_RXQ_OVFL reports with
  // each datagram), those of sockets closed since included. Steward: the lanes pay nothing for it.
  [[nodiscard]] std::uint64_t overflows() const noexcept;

 private:
  // Half full at most. A key is address, port, the number of the interface of a group, and a low bit that tells a wildcard with port 0 bits
  // from an empty entry.
  static constexpr std::uint32_t kSlots = 2 * kEntriesMax;
  static constexpr std::uint64_t kEmpty = 0;
  static constexpr std::uint64_t kTombstone = 2;
  static constexpr std::uint32_t kInterfacesMax = 64;   // on which groups are joined
  static constexpr std::uint64_t kNumberMask = 0x3FFF;
  struct Entry {
    std::atomic<std::uint64_t> key{kEmpty};
    std::atomic<std::uint64_t> remote{};
    std::atomic<int> fd{-1};
    std::atomic<std::uint16_t> queue{};
    std::atomic<bool> has_arrivals{};
    std::uint32_t users{1};        // of a group; the steward's
  };
  [[nodiscard]] static constexpr std::uint64_t key(const wire::UdpEndpoint& e, std::uint32_t interface_number = 0) noexcept {
    return std::uint64_t{e.address} << 32 | std::uint64_t{e.port} << 16 | std::uint64_t{interface_number} << 2 | 1;
  }
  [[nodiscard]] std::uint32_t find_key(std::uint64_t wanted) const noexcept {
    for (std::uint32_t slot = hash(wanted);; slot = (slot + 1) & (kSlots - 1)) {
      const std::uint64_t found = entries_[slot].key.load(std::memory_order_acquire);  // pairs with publish()
      if (found == wanted) return slot;
      if (found == kEmpty) return kNone;
    }
  }
  // From 1; 0: no group was joined there.
  [[nodiscard]] std::uint32_t interface_number(std::uint32_t address) const noexcept {
    for (std::uint32_t i = 0; i < kInterfacesMax; ++i) {
      const std::uint32_t known = interfaces_[i].load(std::memory_order_acquire);
      if (known == address) return i + 1;
      if (known == 0) return 0;
    }
    return 0;
  }
  [[nodiscard]] static constexpr wire::UdpEndpoint endpoint(std::uint64_t word) noexcept {
    return {static_cast<std::uint32_t>(word >> 32), static_cast<std::uint16_t>(word >> 16)};
  }
  [[nodiscard]] static constexpr std::uint32_t hash(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(word * 0x9E3779B97F4A7C15U >> 40) & (kSlots - 1);
  }
  [[nodiscard]] std::uint32_t publish(std::uint64_t word, const wire::UdpEndpoint& remote, std::uint16_t queue, int fd);
  // Puts a socket into the table under its queue's epoll set.
  [[nodiscard]] Result<void> add(std::uint64_t word, const wire::UdpEndpoint& remote, std::uint16_t queue, Fd socket);
  void note_arrivals(std::uint32_t slot) noexcept;
  void remove(std::uint32_t slot);
  [[nodiscard]] bool collides(const wire::UdpEndpoint& local) const noexcept;

  shm::AddressBook* book_{};
  std::unique_ptr<std::array<Entry, kSlots>> storage_;
  Entry* entries_{};
  std::uint32_t size_{};
  std::array<std::atomic<std::uint32_t>, kInterfacesMax> interfaces_{};   // grows only
  std::vector<Fd> epoll_;
  Fd dead_;                        // what lies under a parked number
  std::vector<int> parked_fds_;    // numbers to use again
  std::uint64_t closed_overflows_{};
};

}  // namespace thalweg::pmd
