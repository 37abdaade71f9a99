#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "dataplane/base/result.hpp"

namespace thalweg::host {

// An IPv4 literal or `localhost` (RFC 6761), answered without asking anybody; nullopt: needs resolve_host(). Host order. Any thread.
[[nodiscard]] std::optional<std::uint32_t> literal_host(const std::string& host) noexcept;
// First IPv4 address the system's resolver has for a name, host order. Blocks: worker thread only.
// Error: kUnknownHost "Unable to resolve host=(<host>): <reason>".
[[nodiscard]] Result<std::uint32_t> resolve_host(const std::string& host);

}  // namespace thalweg::host
