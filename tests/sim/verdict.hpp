#pragma once
#include <fmt/format.h>

#include <string>
#include <utility>

#include "tests/sim/faults.hpp"

// The first broken rule of a run ends it; everything later would only be a consequence.
namespace thalweg::sim {

struct Verdict {
  std::string failure;  // empty: every rule held
  FaultCounts faults;
  std::int64_t now_ns{};

  [[nodiscard]] bool has_failed() const noexcept { return !failure.empty(); }
  template <typename... Args>
  void fail(fmt::format_string<Args...> format, Args&&... args) {
    if (!failure.empty()) return;
    failure = fmt::format("at {:.6f} s: ", static_cast<double>(now_ns) / 1e9) + fmt::format(format, std::forward<Args>(args)...);
  }
};

}  // namespace thalweg::sim
