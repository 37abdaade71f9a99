#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "controlplane/conductor/world.hpp"

namespace thalweg::conductor {

// One host name on its way to an address: IPv6 literals and drivers' names are known at once, all others are asked of the system's resolver on its worker.
// Thread: the conductor.
class Lookup {
 public:
  // Whether a driver of this name shall be found first; where drivers are is asked of the system alone.
  enum class Scope : std::uint8_t { kAll, kSystem };

  Lookup(World& world, std::string host, Scope scope = Scope::kAll);
  // The address, host order or a handle, or kUnknownHost; nullopt while the answer is outstanding. The time an answer took is charged to the stock counters
  // when it is seen first.
  [[nodiscard]] const std::optional<Outcome<std::uint32_t>>& poll(World& world);
  [[nodiscard]] const std::string& host() const noexcept { return host_; }

 private:
  struct Answer {
    Result<std::uint32_t> address{0U};
    std::int64_t duration_ns{};
    bool is_there{};
  };
  std::string host_;
  std::shared_ptr<Answer> answer_;  // shared with the worker, which may outlive the question
  std::optional<Outcome<std::uint32_t>> result_;
};

}  // namespace thalweg::conductor
