#pragma once
#include <array>

#include "dataplane/core/steward_port.hpp"
#include "dataplane/shm/registry.hpp"

namespace thalweg::core {

// The steward's captures: starts and stops what the registry's capture slots ask for and reports how they get on. A capture that ends by
// itself at its limit is kDone, one that cannot go on kFailed; both stay until the control plane lets them go. Thread: steward.
class CaptureDesk {
 public:
  CaptureDesk(shm::Registry& registry, std::vector<StewardPort>& ports) noexcept : registry_{registry}, ports_{ports} {}

  // Compares what a slot wants with what is, and acts. True when the slot has an answer the control plane should look at.
  [[nodiscard]] bool look(std::uint32_t index);
  // Brings the figures of running captures up to date. True when one of them ended by itself: that is an answer as well.
  [[nodiscard]] bool watch(std::uint32_t index);

 private:
  [[nodiscard]] Result<void> start(std::uint32_t index);
  void report(std::uint32_t index);

  shm::Registry& registry_;
  std::vector<StewardPort>& ports_;
  std::array<pmd::Port*, shm::kCapturesMax> running_{};  // by slot; null: not ours to stop
};

}  // namespace thalweg::core
