#pragma once
#include <cstring>
#include <string_view>

#include "dataplane/shm/commands.hpp"
#include "dataplane/shm/registry.hpp"

// Answers in the observed half of a registry slot (docs/develop/registry.md). Thread: the slot's owner, a lane or the steward.
namespace thalweg::core {

template <typename Slot>
void answer(Slot& slot, shm::Observed state) noexcept {
  shm::ObservedHead& head = slot.observed;  // some observed halves have a stream's state beside it, of the same name
  head.generation = slot.desired.generation;
  head.state.store(state, std::memory_order_release);  // pairs with the conductor's acquire
}

// True when the owner's last word on what is desired now was `state`.
template <typename Slot>
[[nodiscard]] bool is_answered(const Slot& slot, shm::Observed state) noexcept {
  const shm::ObservedHead& head = slot.observed;
  return head.generation == slot.desired.generation && head.state.load(std::memory_order_relaxed) == state;
}

inline void set_error(shm::SlotError& error, shm::ClientError code, std::string_view text) noexcept {
  error.code = static_cast<std::int32_t>(code);
  const std::size_t length = text.size() < sizeof error.text ? text.size() : sizeof error.text - 1;
  std::memcpy(error.text, text.data(), length);
  error.text[length] = '\0';
}

template <typename Slot>
void fail_slot(Slot& slot, shm::ClientError code, std::string_view text) noexcept {
  set_error(slot.observed.error, code, text);
  answer(slot, shm::Observed::kFailed);
}

}  // namespace thalweg::core
