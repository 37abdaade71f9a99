#include "pmd/backends/socket_table.hpp"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "dataplane/base/assert.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::pmd {
namespace {

sockaddr_in to_sockaddr(const wire::UdpEndpoint& endpoint) noexcept {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(endpoint.address);
  address.sin_port = htons(endpoint.port);
  return address;
}

tl::unexpected<Error> bind_failure(const wire::UdpEndpoint& local, int code) {
  const std::string what = "bind " + format_endpoint(local.address, local.port);
  switch (code) {
    case EADDRINUSE:
      return fail_errno(ErrorCode::kInUse, what, code,
                        "another socket holds it: ss -ulnp 'sport = :" + std::to_string(local.port) + "' names its process");
    case EACCES:
    case EPERM:
      return fail_errno(ErrorCode::kPermission, what, code, "ports below net.ipv4.ip_unprivileged_port_start need cap_net_bind_service");
    case EADDRNOTAVAIL:
      return fail_errno(ErrorCode::kInvalidArgument, what, code, "no interface of this host has the address: ip address show");
    default: return fail_errno(ErrorCode::kIo, what, code);
  }
}

// 0 when there is no socket, or a kernel that does not tell (before Linux 4.12).
std::uint64_t overflows_of(int fd) noexcept {
  std::array<std::uint32_t, SK_MEMINFO_VARS> memory{};
  socklen_t length = sizeof memory;
  if (fd < 0 || ::getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory.data(), &length) != 0) return 0;
  return memory[SK_MEMINFO_DROPS];
}

bool set_int(int fd, int level, int option, int value) noexcept { return ::setsockopt(fd, level, option, &value, sizeof value) == 0; }

}  // namespace

Fd& Fd::operator=(Fd&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}
int Fd::release() noexcept { return std::exchange(fd_, -1); }

Result<BoundSocket> open_udp_socket(const Port::BindOptions& options) {
  BoundSocket bound{.fd = Fd{::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)}, .local = options.local};
  const int fd = bound.fd.get();
  if (fd < 0) {
    const int code = errno;
    return fail_errno(code == EMFILE || code == ENFILE ? ErrorCode::kNoSpace : ErrorCode::kIo, "open a UDP socket", code,
                      "raise the limit of open files (LimitNOFILE=, ulimit -n)");
  }
  // Sizes are wishes: the kernel clamps them to net.core.{r,w}mem_max, and `host check` says so.
  if (options.socket_rcvbuf > 0) set_int(fd, SOL_SOCKET, SO_RCVBUF, options.socket_rcvbuf);
  if (options.socket_sndbuf > 0) set_int(fd, SOL_SOCKET, SO_SNDBUF, options.socket_sndbuf);
  if (options.ttl != 0 && !set_int(fd, IPPROTO_IP, IP_TTL, options.ttl)) return fail_errno(ErrorCode::kIo, "set the TTL", errno);
  // A wildcard socket must say which of our addresses a datagram was sent to.
  if (options.local.address == 0 && !set_int(fd, IPPROTO_IP, IP_PKTINFO, 1)) return fail_errno(ErrorCode::kIo, "set IP_PKTINFO", errno);

  const sockaddr_in local = to_sockaddr(options.local);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0) return bind_failure(options.local, errno);
  if (!options.is_receive && options.remote.port != 0) {
    const sockaddr_in remote = to_sockaddr(options.remote);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&remote), sizeof remote) != 0)
      return fail_errno(ErrorCode::kIo, "connect to " + format_endpoint(options.remote.address, options.remote.port), errno,
                        "check the route: ip route get " + format_ipv4(options.remote.address));
  }
  sockaddr_in actual{};
  socklen_t length = sizeof actual;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&actual), &length) != 0) return fail_errno(ErrorCode::kIo, "getsockname", errno);
  bound.local = {ntohl(actual.sin_addr.s_addr), ntohs(actual.sin_port)};
  return bound;
}

SocketTable::SocketTable()
    : storage_{std::make_unique<std::array<Entry, kSlots>>()}, entries_{storage_->data()}, dead_{::open("/dev/null", O_RDONLY | O_CLOEXEC)} {}

Result<void> SocketTable::open_queues(std::uint16_t count) {
  while (epoll_.size() < count) {
    Fd fd{::epoll_create1(EPOLL_CLOEXEC)};
    if (fd.get() < 0) return fail_errno(ErrorCode::kIo, "epoll_create1", errno, "raise the limit of open files (LimitNOFILE=, ulimit -n)");
    epoll_.push_back(std::move(fd));
  }
  return {};
}

SocketTable::~SocketTable() {
  for (std::uint32_t slot = 0; slot < kSlots; ++slot)
    if (const int fd = entries_[slot].fd.load(std::memory_order_relaxed); fd >= 0) ::close(fd);
  for (const int fd : parked_fds_) ::close(fd);
}

bool SocketTable::collides(const wire::UdpEndpoint& local) const noexcept {
  if (find(local) != kNone) return true;
  if (local.address != 0) return find({0, local.port}) != kNone;
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    const std::uint64_t word = entries_[slot].key.load(std::memory_order_relaxed);
    if (word != kEmpty && word != kTombstone && endpoint(word).port == local.port) return true;
  }
  return false;
}

std::uint32_t SocketTable::publish(const wire::UdpEndpoint& local, const Port::BindOptions& options, int fd) {
  const std::uint64_t word = key(local);
  std::uint32_t slot = hash(word);
  while (entries_[slot].key.load(std::memory_order_relaxed) != kEmpty && entries_[slot].key.load(std::memory_order_relaxed) != kTombstone)
    slot = (slot + 1) & (kSlots - 1);
  Entry& entry = entries_[slot];
  const bool is_connected = !options.is_receive && options.remote.port != 0;
  entry.remote.store(is_connected ? key(options.remote) : 0, std::memory_order_relaxed);
  entry.queue.store(options.queue, std::memory_order_relaxed);
  entry.fd.store(fd, std::memory_order_relaxed);
  entry.key.store(word, std::memory_order_release);  // pairs with find()
  ++size_;
  return slot;
}

Result<wire::UdpEndpoint> SocketTable::bind(const Port::BindOptions& options) {
  if (options.queue >= epoll_.size()) return fail(ErrorCode::kInvalidArgument, "no queue " + std::to_string(options.queue));
  if (size_ == kEntriesMax) return fail(ErrorCode::kNoSpace, "all " + std::to_string(kEntriesMax) + " endpoints are in use");
  if (options.local.port != 0 && collides(options.local)) return bind_failure(options.local, EADDRINUSE);
  auto bound = open_udp_socket(options);
  if (!bound) return tl::unexpected<Error>{std::move(bound.error())};

  // A parked number still has the dead file under it; dup3 replaces it in one step.
  int fd = -1;
  if (!parked_fds_.empty()) {
    fd = parked_fds_.back();
    if (::dup3(bound->fd.get(), fd, O_CLOEXEC) < 0) return fail_errno(ErrorCode::kIo, "dup3", errno);
    parked_fds_.pop_back();
  } else {
    fd = bound->fd.release();
  }
  const std::uint32_t slot = publish(bound->local, options, fd);
  epoll_event event{.events = EPOLLIN, .data = {.u32 = slot}};
  if (::epoll_ctl(epoll_[options.queue].get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    const int code = errno;
    unbind(bound->local);
    return fail_errno(ErrorCode::kIo, "epoll_ctl", code);
  }
  return bound->local;
}

Result<wire::UdpEndpoint> SocketTable::reserve(const Port::BindOptions& options) {
  if (options.queue >= epoll_.size()) return fail(ErrorCode::kInvalidArgument, "no queue " + std::to_string(options.queue));
  if (size_ == kEntriesMax) return fail(ErrorCode::kNoSpace, "all " + std::to_string(kEntriesMax) + " endpoints are in use");
  if (collides(options.local)) return bind_failure(options.local, EADDRINUSE);
  static_cast<void>(publish(options.local, options, -1));
  return options.local;
}

std::uint64_t SocketTable::overflows() const noexcept {
  std::uint64_t sum = closed_overflows_;
  for (std::uint32_t slot = 0, left = size_; slot < kSlots && left != 0; ++slot) {
    const std::uint64_t word = entries_[slot].key.load(std::memory_order_relaxed);
    if (word == kEmpty || word == kTombstone) continue;
    --left;
    sum += overflows_of(entries_[slot].fd.load(std::memory_order_relaxed));
  }
  return sum;
}

void SocketTable::unbind(const wire::UdpEndpoint& local) {
  std::uint32_t slot = find(local);
  if (slot == kNone) return;
  Entry& entry = entries_[slot];
  const int fd = entry.fd.exchange(-1, std::memory_order_relaxed);
  // A tombstone, because longer probe chains may run through this entry; behind an empty one no chain goes on, so tombstones in front of it
  // are cleared at once and lookups stay short for ever.
  entry.key.store(kTombstone, std::memory_order_release);
  if (entries_[(slot + 1) & (kSlots - 1)].key.load(std::memory_order_relaxed) == kEmpty) {
    for (; entries_[slot].key.load(std::memory_order_relaxed) == kTombstone; slot = (slot - 1) & (kSlots - 1))
      entries_[slot].key.store(kEmpty, std::memory_order_release);
  }
  --size_;
  if (fd < 0) return;
  closed_overflows_ += overflows_of(fd);
  ::epoll_ctl(epoll_[entry.queue.load(std::memory_order_relaxed)].get(), EPOLL_CTL_DEL, fd, nullptr);
  THALWEG_ASSERT(::dup3(dead_.get(), fd, O_CLOEXEC) == fd);  // closes the socket: the address is free when we return
  parked_fds_.push_back(fd);
}

}  // namespace thalweg::pmd
