#pragma once
#include <cstdint>
#include <string>

#include "dataplane/base/result.hpp"
#include "dataplane/wire/ip.hpp"

namespace thalweg::core {

// What port 0 of a channel becomes: one of a configured range, so that a firewall can be told, else the system's choice (wire-protocol 7).
// Steward only.
struct WildcardPorts {
  std::uint16_t low{};   // 0: there is no range
  std::uint16_t high{};
  std::uint16_t last{};  // given out; the next one is tried first, so that a port rests before it is somebody else's

  // `bind_to(number)` binds, 0 being the system's choice. Errors: its own; kNoSpace when all of the range are in use.
  template <typename BindTo>
  [[nodiscard]] Result<wire::UdpEndpoint> bind(BindTo&& bind_to) {
    if (low == 0) return bind_to(std::uint16_t{0});
    for (std::uint32_t left = high - low + 1U; left != 0; --left) {
      last = last < low || last >= high ? low : static_cast<std::uint16_t>(last + 1);
      auto bound = bind_to(last);
      if (bound || bound.error().code != ErrorCode::kInUse) return bound;
    }
    return fail(ErrorCode::kNoSpace, "all UDP ports from " + std::to_string(low) + " to " + std::to_string(high) + " are in use",
                "widen the range: streams.sender-wildcard-port-high, receiver-wildcard-port-high");
  }
};

}  // namespace thalweg::core
