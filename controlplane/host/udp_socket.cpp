#include "controlplane/host/udp_socket.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "dataplane/base/units.hpp"

namespace thalweg::host {
namespace {

sockaddr_in to_sockaddr(const UdpSocket::Peer& peer) noexcept {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(peer.address);
  address.sin_port = htons(peer.port);
  return address;
}

UdpSocket::Peer from_sockaddr(const sockaddr_in& address) noexcept { return {ntohl(address.sin_addr.s_addr), ntohs(address.sin_port)}; }

}  // namespace

UdpSocket::UdpSocket(UdpSocket&& other) noexcept : fd_{std::exchange(other.fd_, -1)}, bound_{other.bound_} {}

UdpSocket& UdpSocket::operator=(UdpSocket&& other) noexcept {
  if (this == &other) return *this;
  if (fd_ >= 0) ::close(fd_);
  fd_ = std::exchange(other.fd_, -1);
  bound_ = other.bound_;
  return *this;
}

UdpSocket::~UdpSocket() {
  if (fd_ >= 0) ::close(fd_);
}

Result<UdpSocket> UdpSocket::open(const Peer& local) {
  const std::string what = "bind UDP " + format_endpoint(local.address, local.port);
  UdpSocket socket;
  socket.fd_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket.fd_ < 0) return fail_errno(ErrorCode::kIo, "UDP socket", errno);
  sockaddr_in address = to_sockaddr(local);
  if (::bind(socket.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EADDRINUSE) return fail_errno(ErrorCode::kInUse, what, EADDRINUSE, "another process has this port: ss -ulpn");
    if (errno == EACCES) return fail_errno(ErrorCode::kPermission, what, EACCES, "ports below 1024 need CAP_NET_BIND_SERVICE");
    return fail_errno(ErrorCode::kIo, what, errno, "an interface of this machine must have the address: ip address");
  }
  socklen_t length = sizeof address;
  if (::getsockname(socket.fd_, reinterpret_cast<sockaddr*>(&address), &length) != 0) return fail_errno(ErrorCode::kIo, what, errno);
  socket.bound_ = from_sockaddr(address);
  return socket;
}

std::optional<UdpSocket::Received> UdpSocket::receive(std::span<std::byte> buffer) noexcept {
  sockaddr_in from{};
  socklen_t length = sizeof from;
  const ssize_t n = ::recvfrom(fd_, buffer.data(), buffer.size(), MSG_TRUNC, reinterpret_cast<sockaddr*>(&from), &length);
  if (n < 0) return std::nullopt;
  return Received{static_cast<std::size_t>(n), from_sockaddr(from)};
}

bool UdpSocket::send(const Peer& to, std::span<const std::byte> datagram) noexcept {
  const sockaddr_in address = to_sockaddr(to);
  return ::sendto(fd_, datagram.data(), datagram.size(), 0, reinterpret_cast<const sockaddr*>(&address), sizeof address) >= 0;
}

}  // namespace thalweg::host
