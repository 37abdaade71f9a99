#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "pmd/port.hpp"

namespace thalweg::core {

// A port as the steward keeps it.
struct StewardPort {
  pmd::PortOptions options;
  std::unique_ptr<pmd::Port> port;
  std::vector<std::uint32_t> lanes{};   // that poll it, each some of its queues; the first speaks for it: sends, answers ARP, is in its groups

  [[nodiscard]] std::uint32_t home() const noexcept { return lanes.front(); }
  // The receive queue by which frames reach `lane` without crossing; a lane that does not poll the port gets them from its home.
  [[nodiscard]] std::uint16_t queue_of(std::uint32_t lane) const noexcept {
    const auto at = std::find(lanes.begin(), lanes.end(), lane);
    return at == lanes.end() ? std::uint16_t{0} : static_cast<std::uint16_t>(at - lanes.begin());
  }
};

}  // namespace thalweg::core
