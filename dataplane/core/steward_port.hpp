#pragma once
#include <memory>
#include <vector>

#include "pmd/port.hpp"

namespace thalweg::core {

// A port as the steward keeps it.
struct StewardPort {
  pmd::PortOptions options;
  std::unique_ptr<pmd::Port> port;
  std::uint32_t lane{};
};

}  // namespace thalweg::core
