#include "controlplane/host/resolver.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cstring>

#include "dataplane/base/units.hpp"

namespace thalweg::host {

std::optional<std::uint32_t> literal_host(const std::string& host) noexcept {
  if (host == "localhost") return 0x7F000001U;
  return parse_ipv4(host);
}

Result<std::uint32_t> resolve_host(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int status = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (status != 0 || found == nullptr) {
    return fail(ErrorCode::kUnknownHost, fmt::format("Unable to resolve host=({}): {}", host, ::gai_strerror(status)));
  }
  sockaddr_in address{};
  std::memcpy(&address, found->ai_addr, sizeof address);
  ::freeaddrinfo(found);
  return ntohl(address.sin_addr.s_addr);
}

}  // namespace thalweg::host
