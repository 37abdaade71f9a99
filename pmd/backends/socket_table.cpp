#include "pmd/backends/socket_table.hpp"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "dataplane/base/assert.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/base/units.hpp"
#include "pmd/backends/socket_address.hpp"

namespace thalweg::pmd {
namespace {

tl::unexpected<Error> bind_failure(const std::string& local, std::uint16_t port, int code) {
  const std::string what = "bind " + local;
  switch (code) {
    case EADDRINUSE:
      return fail_errno(ErrorCode::kInUse, what, code,
                        "another socket holds it: ss -ulnp 'sport = :" + std::to_string(port) + "' names its process");
    case EACCES:
    case EPERM:
      return fail_errno(ErrorCode::kPermission, what, code, "ports below net.ipv4.ip_unprivileged_port_start need cap_net_bind_service");
    case EADDRNOTAVAIL:
      return fail_errno(ErrorCode::kInvalidArgument, what, code, "no interface of this host has the address: ip address show");
    default: return fail_errno(ErrorCode::kIo, what, code);
  }
}

std::string format_endpoint(const shm::AddressBook* book, const wire::UdpEndpoint& endpoint) {
  return book == nullptr ? thalweg::format_endpoint(endpoint.address, endpoint.port) : book->format_endpoint(endpoint.address, endpoint.port);
}

std::string format_address(const shm::AddressBook* book, std::uint32_t address) { return book == nullptr ? format_ipv4(address) : book->format(address); }

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

// The kernel's number of the interface that has an IPv6 address; 0: none has.
unsigned interface_of(const shm::ScopedIpv6& wanted) noexcept {
  if (wanted.scope != 0) return wanted.scope;
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return 0;
  unsigned index = 0;
  for (const ifaddrs* i = first; i != nullptr && index == 0; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != AF_INET6) continue;
    sockaddr_in6 address{};
    std::memcpy(&address, i->ifa_addr, sizeof address);
    if (ipv6_of(address).address == wanted.address) index = ::if_nametoindex(i->ifa_name);
  }
  ::freeifaddrs(first);
  return index;
}

// Groups that somebody else on this host joined are no business of ours, whatever address the socket is bound to. Those of one family do not
// hear the other, so that both may have the same port.
Result<void> close_off(int fd, bool is_ipv6) {
  if (!is_ipv6) return set_int(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0) ? Result<void>{} : fail_errno(ErrorCode::kIo, "set IP_MULTICAST_ALL", errno);
  if (!set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) return fail_errno(ErrorCode::kIo, "set IPV6_V6ONLY", errno);
  if (!set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)) return fail_errno(ErrorCode::kIo, "set IPV6_MULTICAST_ALL", errno, "Linux 4.20 has it");
  return {};
}

Result<Fd> open_socket(bool is_ipv6, std::int32_t rcvbuf, std::int32_t sndbuf) {
  Fd fd{::socket(is_ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (fd.get() < 0) {
    const int code = errno;
    if (code == EAFNOSUPPORT) return fail_errno(ErrorCode::kUnsupported, "open a UDP socket", code, "this kernel has no IPv6");
    return fail_errno(code == EMFILE || code == ENFILE ? ErrorCode::kNoSpace : ErrorCode::kIo, "open a UDP socket", code,
                      "raise the limit of open files (LimitNOFILE=, ulimit -n)");
  }
  if (auto closed = close_off(fd.get(), is_ipv6); !closed) return tl::unexpected<Error>{std::move(closed.error())};
  // Sizes are wishes: the kernel clamps them to net.core.{r,w}mem_max, and `host check` says so.
  if (rcvbuf > 0) set_int(fd.get(), SOL_SOCKET, SO_RCVBUF, rcvbuf);
  if (sndbuf > 0) set_int(fd.get(), SOL_SOCKET, SO_SNDBUF, sndbuf);
  return fd;
}

tl::unexpected<Error> no_such_interface(const shm::AddressBook* book, std::uint32_t address, int code) {
  return fail_errno(ErrorCode::kInvalidArgument, "multicast by interface " + format_address(book, address), code,
                    "no interface of this host has the address: ip address show");
}

// How a socket sends to groups: by which interface, how far, and to sockets of this host, too.
Result<void> set_multicast(int fd, const shm::AddressBook* book, std::uint32_t interface_address, std::uint8_t ttl) {
  const int hops = ttl == 0 ? 1 : ttl;
  bool is_set = false;
  if (wire::is_handle(interface_address)) {
    const unsigned index = interface_of(book->address(interface_address));
    if (index == 0 || !set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, static_cast<int>(index))) return no_such_interface(book, interface_address, index == 0 ? ENODEV : errno);
    is_set = set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, hops) && set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1);
  } else {
    in_addr interface{};
    interface.s_addr = htonl(interface_address);
    if (::setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &interface, sizeof interface) != 0) return no_such_interface(book, interface_address, errno);
    is_set = set_int(fd, IPPROTO_IP, IP_MULTICAST_TTL, hops) && set_int(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 1);
  }
  if (!is_set) return fail_errno(ErrorCode::kIo, "set up a multicast socket", errno);
  return {};
}

// One of many destinations may be a group.
bool set_ttl(int fd, bool is_ipv6, std::uint8_t ttl) noexcept {
  return is_ipv6 ? set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, ttl) : set_int(fd, IPPROTO_IP, IP_MULTICAST_TTL, ttl);
}

bool join(int fd, const shm::AddressBook* book, const Port::GroupOptions& options) noexcept {
  if (!wire::is_handle(options.group.address)) {
    ip_mreq membership{};
    membership.imr_multiaddr.s_addr = htonl(options.group.address);
    membership.imr_interface.s_addr = htonl(options.interface_address);
    return ::setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &membership, sizeof membership) == 0;
  }
  ipv6_mreq membership{};
  std::memcpy(&membership.ipv6mr_multiaddr, book->address(options.group.address).address.bytes.data(), sizeof membership.ipv6mr_multiaddr);
  membership.ipv6mr_interface = interface_of(book->address(options.interface_address));
  return ::setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &membership, sizeof membership) == 0;
}

tl::unexpected<Error> no_ipv6(const wire::UdpEndpoint& endpoint) {
  return fail(ErrorCode::kUnsupported, "no IPv6 here: " + thalweg::format_endpoint(endpoint.address, endpoint.port));
}

Result<void> connect_to(int fd, const shm::AddressBook* book, const wire::UdpEndpoint& remote) {
  SocketAddress address;
  const socklen_t length = to_sockaddr(book, remote, address);
  if (::connect(fd, &address.any, length) == 0) return {};
  const int code = errno;
  const std::string what = "connect to " + format_endpoint(book, remote);
  if (wire::is_group_handle(remote.address))
    return fail_errno(ErrorCode::kIo, what, code, "Linux has no way to IPv6 groups on its loopback interface until it is given one: ip -6 route add local ff00::/8 dev lo table local");
  const std::string family = wire::is_handle(remote.address) ? "-6 " : "";
  return fail_errno(ErrorCode::kIo, what, code, "check the route: ip " + family + "route get " + format_address(book, remote.address));
}

}  // namespace

Result<BoundSocket> open_udp_socket(const Port::BindOptions& options, shm::AddressBook* book) {
  const bool is_ipv6 = wire::is_handle(options.local.address);
  SocketAddress local;
  const socklen_t length = to_sockaddr(book, options.local, local);
  if (length == 0) return no_ipv6(options.local);
  auto opened = open_socket(is_ipv6, options.socket_rcvbuf, options.socket_sndbuf);
  if (!opened) return tl::unexpected<Error>{std::move(opened.error())};
  BoundSocket bound{.fd = std::move(*opened), .local = options.local};
  const int fd = bound.fd.get();
  if (wire::is_group(options.remote.address)) {
    if (auto set = set_multicast(fd, book, options.interface_address, options.ttl); !set) return tl::unexpected<Error>{std::move(set.error())};
  } else if (options.ttl != 0 && !set_ttl(fd, is_ipv6, options.ttl)) {
    return fail_errno(ErrorCode::kIo, "set the TTL of groups", errno);
  }
  // A wildcard socket must say which of our addresses a datagram was sent to. (Those of IPv6 pass for sent to ::, which nobody can tell apart.)
  if (options.local.address == 0 && !set_int(fd, IPPROTO_IP, IP_PKTINFO, 1)) return fail_errno(ErrorCode::kIo, "set IP_PKTINFO", errno);
  if (::bind(fd, &local.any, length) != 0) return bind_failure(format_endpoint(book, options.local), options.local.port, errno);
  if (!options.is_receive && options.remote.port != 0) {
    if (auto connected = connect_to(fd, book, options.remote); !connected) return tl::unexpected<Error>{std::move(connected.error())};
  }
  SocketAddress actual{};
  socklen_t actual_length = sizeof actual;
  if (::getsockname(fd, &actual.any, &actual_length) != 0) return fail_errno(ErrorCode::kIo, "getsockname", errno);
  bound.local = is_ipv6 ? wire::UdpEndpoint{book->enter(ipv6_of(actual.v6), shm::AddressBook::By::kNamed, monotonic_ns()), ntohs(actual.v6.sin6_port)}
                        : wire::UdpEndpoint{ntohl(actual.v4.sin_addr.s_addr), ntohs(actual.v4.sin_port)};
  if (is_ipv6 && bound.local.address == 0) return fail(ErrorCode::kNoSpace, "the instance knows too many IPv6 addresses");
  return bound;
}

Result<Fd> open_group_socket(const Port::GroupOptions& options, const shm::AddressBook* book) {
  SocketAddress local;
  const socklen_t length = to_sockaddr(book, options.group, local);
  if (length == 0) return no_ipv6(options.group);
  const bool is_ipv6 = wire::is_handle(options.group.address);
  auto opened = open_socket(is_ipv6, options.socket_rcvbuf, options.socket_sndbuf);
  if (!opened) return opened;
  const int fd = opened->get();
  if (!set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1)) return fail_errno(ErrorCode::kIo, "set SO_REUSEADDR", errno);  // others on this host may listen, too
  if (auto set = set_multicast(fd, book, options.interface_address, options.ttl); !set) return tl::unexpected<Error>{std::move(set.error())};
  if (is_ipv6 && local.v6.sin6_scope_id == 0) local.v6.sin6_scope_id = interface_of(book->address(options.interface_address));
  if (::bind(fd, &local.any, length) != 0) return bind_failure(format_endpoint(book, options.group), options.group.port, errno);
  if (!join(fd, book, options)) {
    const int code = errno;
    const std::string what = "join " + format_address(book, options.group.address) + " on interface " + format_address(book, options.interface_address);
    if (code == ENOBUFS) return fail_errno(ErrorCode::kNoSpace, what, code, "raise net.ipv4.igmp_max_memberships");
    return fail_errno(code == ENODEV ? ErrorCode::kInvalidArgument : ErrorCode::kIo, what, code, "ip address show lists the interfaces");
  }
  return opened;
}

SocketTable::SocketTable()
    : storage_{std::make_unique<std::array<Entry, kSlots>>()}, entries_{storage_->data()}, dead_{::open("/dev/null", O_RDONLY | O_CLOEXEC)} {}

std::string SocketTable::format(std::uint32_t address) const { return format_address(book_, address); }

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
  if (!wire::is_any(local.address)) return find(wildcard_of(local)) != kNone;
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    const std::uint64_t word = entries_[slot].key.load(std::memory_order_relaxed);
    if (word != kEmpty && word != kTombstone && wildcard_of(endpoint(word)) == local) return true;
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
  if (options.local.port != 0 && collides(options.local)) return bind_failure(format_endpoint(book_, options.local), options.local.port, EADDRINUSE);
  auto bound = open_udp_socket(options, book_);
  if (!bound) return tl::unexpected<Error>{std::move(bound.error())};
  if (auto added = add(key(bound->local), connected_to(options), options.queue, std::move(bound->fd)); !added)
    return tl::unexpected<Error>{std::move(added.error())};
  if (options.wants_arrivals) note_arrivals(find(bound->local));
  return bound->local;
}

Result<wire::UdpEndpoint> SocketTable::reserve(const Port::BindOptions& options) {
  if (options.queue >= epoll_.size()) return fail(ErrorCode::kInvalidArgument, "no queue " + std::to_string(options.queue));
  if (size_ == kEntriesMax) return fail(ErrorCode::kNoSpace, "all " + std::to_string(kEntriesMax) + " endpoints are in use");
  if (collides(options.local)) return bind_failure(format_endpoint(book_, options.local), options.local.port, EADDRINUSE);
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
  auto socket = open_group_socket(options, book_);
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
