#include "controlplane/host/resolver.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cstring>

#include "dataplane/base/time.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::host {

namespace {

// The first of a family; 0: there is none.
Result<std::uint32_t> first_of(const addrinfo* found, int family, shm::AddressBook& book) {
  while (found != nullptr && found->ai_family != family) found = found->ai_next;
  if (found == nullptr) return 0U;
  if (family == AF_INET) {
    sockaddr_in address{};
    std::memcpy(&address, found->ai_addr, sizeof address);
    const std::uint32_t ipv4 = ntohl(address.sin_addr.s_addr);
    return wire::is_reserved_ipv4(ipv4) ? 0U : ipv4;   // nobody's, and it would pass for a handle
  }
  sockaddr_in6 address{};
  std::memcpy(&address, found->ai_addr, sizeof address);
  shm::ScopedIpv6 ipv6;
  std::memcpy(ipv6.address.bytes.data(), &address.sin6_addr, ipv6.address.bytes.size());
  ipv6.scope = address.sin6_scope_id;
  const std::uint32_t handle = book.enter(ipv6, shm::AddressBook::By::kNamed, monotonic_ns());
  if (handle == 0) return fail(ErrorCode::kNoSpace, "the instance knows too many IPv6 addresses");
  return handle;
}

}  // namespace

std::optional<std::uint32_t> literal_host(const std::string& host) noexcept {
  if (host == "localhost") return 0x7F000001U;
  const auto address = parse_ipv4(host);
  return address && wire::is_reserved_ipv4(*address) ? std::nullopt : address;
}

Result<std::uint32_t> resolve_host(const std::string& host, shm::AddressBook& book) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int status = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (status != 0 || found == nullptr) {
    return fail(ErrorCode::kUnknownHost, fmt::format("Unable to resolve host=({}): {}", host, ::gai_strerror(status)));
  }
  auto address = first_of(found, AF_INET, book);
  if (address && *address == 0) address = first_of(found, AF_INET6, book);
  ::freeaddrinfo(found);
  if (address && *address == 0) {
    return fail(ErrorCode::kUnknownHost, fmt::format("Unable to resolve host=({}): it has no address that a host can have", host));
  }
  return address;
}

}  // namespace thalweg::host
