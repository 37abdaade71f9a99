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

wire::UdpEndpoint connected_to(const Port::BindOptions& options) noexcept {
  return options.is_receive ? wire::UdpEndpoint{} : options.remote;
}

bool set_int(int fd, int level, int option, int value) noexcept { return ::setsockopt(fd, level, option, &value, sizeof value) == 0; }

Result<Fd> open_socket(std::int32_t rcvbuf, std::int32_t sndbuf) {
  Fd fd{::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (fd.get() < 0) {
    const int code = errno;
    return fail_errno(code == EMFILE || code == ENFILE ? ErrorCode::kNoSpace : ErrorCode::kIo, "open a UDP socket", code,
                      "raise the limit of open files (LimitNOFILE=, ulimit -n)");
  }
  // Groups that somebody else on this host joined are no business of ours, whatever address the socket is bound to.
  if (!set_int(fd.get(), IPPROTO_IP, IP_MULTICAST_ALL, 0)) return fail_errno(ErrorCode::kIo, "set IP_MULTICAST_ALL", errno);
  // Sizes are wishes: the kernel clamps them to net.core.{r,w}mem_max, and `host check` says so.
  if (rcvbuf > 0) set_int(fd.get(), SOL_SOCKET, SO_RCVBUF, rcvbuf);
  if (sndbuf > 0) set_int(fd.get(), SOL_SOCKET, SO_SNDBUF, sndbuf);
  return fd;
}

// How a socket sends to groups: by which interface, how far, and to sockets of this host, too.
Result<void> set_multicast(int fd, std::uint32_t interface_address, std::uint8_t ttl) {
  in_addr interface{};
  interface.s_addr = htonl(interface_address);
  if (::setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &interface, sizeof interface) != 0)
    return fail_errno(ErrorCode::kInvalidArgument, "multicast by interface " + format_ipv4(interface_address), errno,
                      "no interface of this host has the address: ip address show");
  const bool is_set = set_int(fd, IPPROTO_IP, IP_MULTICAST_TTL, ttl == 0 ? 1 : ttl) && set_int(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 1);
  if (!is_set) return fail_errno(ErrorCode::kIo, "set up a multicast socket", errno);
  return {};
}

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
  auto opened = open_socket(options.socket_rcvbuf, options.socket_sndbuf);
  if (!opened) return tl::unexpected<Error>{std::move(opened.error())};
  BoundSocket bound{.fd = std::move(*opened), .local = options.local};
  const int fd = bound.fd.get();
  if (wire::is_multicast_ipv4(options.remote.address)) {
    if (auto set = set_multicast(fd, options.interface_address, options.ttl); !set) return tl::unexpected<Error>{std::move(set.error())};
  } else if (options.ttl != 0 && !set_int(fd, IPPROTO_IP, IP_MULTICAST_TTL, options.ttl)) {  // one of many destinations may be a group
    return fail_errno(ErrorCode::kIo, "set IP_MULTICAST_TTL", errno);
  }
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

Result<Fd> open_group_socket(const Port::GroupOptions& options) {
  auto opened = open_socket(options.socket_rcvbuf, options.socket_sndbuf);
  if (!opened) return opened;
  const int fd = opened->get();
  if (!set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1)) return fail_errno(ErrorCode::kIo, "set SO_REUSEADDR", errno);  // others on this host may listen, too
  if (auto set = set_multicast(fd, options.interface_address, options.ttl); !set) return tl::unexpected<Error>{std::move(set.error())};
  const sockaddr_in local = to_sockaddr(options.group);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0) return bind_failure(options.group, errno);
  ip_mreq membership{};
  membership.imr_multiaddr.s_addr = htonl(options.group.address);
  membership.imr_interface.s_addr = htonl(options.interface_address);
  if (::setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &membership, sizeof membership) != 0) {
    const int code = errno;
    const std::string what = "join " + format_ipv4(options.group.address) + " on interface " + format_ipv4(options.interface_address);
    if (code == ENOBUFS) return fail_errno(ErrorCode::kNoSpace, what, code, "raise net.ipv4.igmp_max_memberships");
    return fail_errno(code == ENODEV ? ErrorCode::kInvalidArgument : ErrorCode::kIo, what, code, "ip address show lists the interfaces");
  }
  return opened;
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

std::uint32_t SocketTable::publish(std::uint64_t word, const wire::UdpEndpoint& remote, std::uint16_t queue, int fd) {
  std::uint32_t slot = hash(word);
  while (entries_[slot].key.load(std::memory_order_relaxed) != kEmpty && entries_[slot].key.load(std::memory_order_relaxed) != kTombstone)
    slot = (slot + 1) & (kSlots - 1);
  Entry& entry = entries_[slot];
  entry.remote.store(remote.port != 0 ? key(remote) : 0, std::memory_order_relaxed);
  entry.queue.store(queue, std::memory_order_relaxed);
  entry.fd.store(fd, std::memory_order_relaxed);
  entry.has_arrivals.store(false, std::memory_order_relaxed);
  entry.users = 1;
  entry.key.store(word, std::memory_order_release);  // pairs with find_key()
  ++size_;
  return slot;
}

Result<void> SocketTable::add(std::uint64_t word, const wire::UdpEndpoint& remote, std::uint16_t queue, Fd socket) {
  // A parked number still has the dead file under it; dup3 replaces it in one step.
  int fd = -1;
  if (!parked_fds_.empty()) {
    fd = parked_fds_.back();
    if (::dup3(socket.get(), fd, O_CLOEXEC) < 0) return fail_errno(ErrorCode::kIo, "dup3", errno);
    parked_fds_.pop_back();
  } else {
    fd = socket.release();
  }
  const std::uint32_t slot = publish(word, remote, queue, fd);
  epoll_event event{.events = EPOLLIN, .data = {.u32 = slot}};
  if (::epoll_ctl(epoll_[queue].get(), EPOLL_CTL_ADD, fd, &event) == 0) return {};
  const int code = errno;
  remove(slot);
  return fail_errno(ErrorCode::kIo, "epoll_ctl", code);
}

// From the next datagram on; those that are there already have no time.
void SocketTable::note_arrivals(std::uint32_t slot) noexcept {
  if (set_int(fd(slot), SOL_SOCKET, SO_TIMESTAMPNS, 1)) entries_[slot].has_arrivals.store(true, std::memory_order_relaxed);
}

Result<wire::UdpEndpoint> SocketTable::bind(const Port::BindOptions& options) {
  if (options.queue >= epoll_.size()) return fail(ErrorCode::kInvalidArgument, "no queue " + std::to_string(options.queue));
  if (size_ == kEntriesMax) return fail(ErrorCode::kNoSpace, "all " + std::to_string(kEntriesMax) + " endpoints are in use");
  if (options.local.port != 0 && collides(options.local)) return bind_failure(options.local, EADDRINUSE);
  auto bound = open_udp_socket(options);
  if (!bound) return tl::unexpected<Error>{std::move(bound.error())};
  if (auto added = add(key(bound->local), connected_to(options), options.queue, std::move(bound->fd)); !added)
    return tl::unexpected<Error>{std::move(added.error())};
  if (options.wants_arrivals) note_arrivals(find(bound->local));
  return bound->local;
}

Result<wire::UdpEndpoint> SocketTable::reserve(const Port::BindOptions& options) {
  if (options.queue >= epoll_.size()) return fail(ErrorCode::kInvalidArgument, "no queue " + std::to_string(options.queue));
  if (size_ == kEntriesMax) return fail(ErrorCode::kNoSpace, "all " + std::to_string(kEntriesMax) + " endpoints are in use");
  if (collides(options.local)) return bind_failure(options.local, EADDRINUSE);
  static_cast<void>(publish(key(options.local), connected_to(options), options.queue, -1));
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
  if (const std::uint32_t slot = find(local); slot != kNone) remove(slot);
}

Result<void> SocketTable::join(const Port::GroupOptions& options) {
  if (options.queue >= epoll_.size()) return fail(ErrorCode::kInvalidArgument, "no queue " + std::to_string(options.queue));
  std::uint32_t number = interface_number(options.interface_address);
  for (std::uint32_t i = 0; number == 0 && i < kInterfacesMax; ++i) {
    if (interfaces_[i].load(std::memory_order_relaxed) != 0) continue;
    interfaces_[i].store(options.interface_address, std::memory_order_release);  // pairs with interface_number()
    number = i + 1;
  }
  if (number == 0) return fail(ErrorCode::kNoSpace, "groups on more than " + std::to_string(kInterfacesMax) + " interfaces");
  const std::uint64_t word = key(options.group, number);
  if (const std::uint32_t slot = find_key(word); slot != kNone) {
    ++entries_[slot].users;
    if (options.wants_arrivals) note_arrivals(slot);
    return {};
  }
  if (size_ == kEntriesMax) return fail(ErrorCode::kNoSpace, "all " + std::to_string(kEntriesMax) + " endpoints are in use");
  auto socket = open_group_socket(options);
  if (!socket) return tl::unexpected<Error>{std::move(socket.error())};
  if (auto added = add(word, {}, options.queue, std::move(*socket)); !added) return added;
  if (options.wants_arrivals) note_arrivals(find_key(word));
  return {};
}

void SocketTable::leave(const wire::UdpEndpoint& group, std::uint32_t interface_address) {
  const std::uint32_t slot = find_group(group, interface_address);
  if (slot != kNone && --entries_[slot].users == 0) remove(slot);
}

void SocketTable::remove(std::uint32_t slot) {
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
