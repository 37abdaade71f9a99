#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "dataplane/base/result.hpp"
#include "dataplane/shm/address_book.hpp"

namespace thalweg::host {

// An IPv4 literal or `localhost` (RFC 6761), answered without asking anybody; nullopt: needs resolve_host(). Host order. Any thread.
// Addresses of 240.0.0.0/4 are none: nobody has them, and we take the block for handles (wire/ip.hpp).
[[nodiscard]] std::optional<std::uint32_t> literal_host(const std::string& host) noexcept;
// The address that the system's resolver has for a name, the first IPv4 one or else the first IPv6 one, which is entered in `book`. Blocks:
// worker thread only. Errors: kUnknownHost "Unable to resolve host=(<host>): <reason>", kNoSpace.
[[nodiscard]] Result<std::uint32_t> resolve_host(const std::string& host, shm::AddressBook& book);

}  // namespace thalweg::host
