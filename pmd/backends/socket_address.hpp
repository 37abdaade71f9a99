#pragma once
#include <netinet/in.h>

#include "dataplane/shm/address_book.hpp"

// Socket addresses of the kernel for our endpoints, whose addresses are IPv4 or handles of IPv6 addresses.
namespace thalweg::pmd {

union SocketAddress {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

// Writes `endpoint` as the kernel wants it; returns its length. 0: an IPv6 address, and there is no book.
inline socklen_t to_sockaddr(const shm::AddressBook* book, const wire::UdpEndpoint& endpoint, SocketAddress& out) noexcept {
  if (!wire::is_handle(endpoint.address)) [[likely]] {
    out.v4 = {};
    out.v4.sin_family = AF_INET;
    out.v4.sin_addr.s_addr = htonl(endpoint.address);
    out.v4.sin_port = htons(endpoint.port);
    return sizeof out.v4;
  }
  if (book == nullptr) return 0;
  const shm::ScopedIpv6 address = book->address(endpoint.address);
  out.v6 = {};
  out.v6.sin6_family = AF_INET6;
  out.v6.sin6_port = htons(endpoint.port);
  out.v6.sin6_scope_id = address.scope;
  std::memcpy(&out.v6.sin6_addr, address.address.bytes.data(), sizeof out.v6.sin6_addr);
  return sizeof out.v6;
}

[[nodiscard]] inline shm::ScopedIpv6 ipv6_of(const sockaddr_in6& address) noexcept {
  shm::ScopedIpv6 found;
  std::memcpy(found.address.bytes.data(), &address.sin6_addr, found.address.bytes.size());
  found.scope = address.sin6_scope_id;
  return found;
}

}  // namespace thalweg::pmd
