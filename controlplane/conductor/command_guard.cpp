#include "controlplane/conductor/command_guard.hpp"

#include <algorithm>

namespace thalweg::conductor {

using Suspect = shm::CommandCrashes::Suspect;

CommandGuard::Id CommandGuard::identify(std::int32_t type_id, shm::Bytes message) noexcept {
  const auto header = shm::decode<shm::CommandHeader>(message);
  return header ? Id{header->client_id, header->correlation_id, type_id} : Id{-1, -1, type_id};
}

Suspect* CommandGuard::find(const Id& id) const noexcept {
  const auto found = std::find_if(crashes_->suspects.begin(), crashes_->suspects.end(), [&id](const Suspect& s) { return s.crashes != 0 && s.id == id; });
  return found == crashes_->suspects.end() ? nullptr : &*found;
}

// When all entries are taken the oldest one goes.
Suspect& CommandGuard::place() noexcept {
  const auto is_free = [](const Suspect& s) { return s.crashes == 0; };
  const auto found = std::find_if(crashes_->suspects.begin(), crashes_->suspects.end(), is_free);
  return found != crashes_->suspects.end() ? *found : crashes_->suspects[crashes_->next++ % shm::kCrashedCommandsMax];
}

void CommandGuard::recover() noexcept {
  if (crashes_->is_at_work.load(std::memory_order_acquire) == 0) return;
  Suspect* suspect = find(crashes_->at_work);
  if (suspect == nullptr) {
    suspect = &place();
    *suspect = {crashes_->at_work, 0};
  }
  if (suspect->crashes < shm::kCrashesMax) ++suspect->crashes;
  crashes_->is_at_work.store(0, std::memory_order_release);
}

bool CommandGuard::is_quarantined(const Id& id) const noexcept {
  const Suspect* const suspect = find(id);
  return suspect != nullptr && suspect->crashes >= shm::kCrashesMax;
}

// The stores are for a successor in the same memory: release keeps the compiler from moving them into the work, or the work out of them.
void CommandGuard::begin(const Id& id) noexcept {
  crashes_->at_work = id;
  crashes_->is_at_work.store(1, std::memory_order_release);
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void CommandGuard::end(bool is_finished) noexcept {
  crashes_->is_at_work.store(0, std::memory_order_release);
  if (!is_finished) return;
  if (Suspect* const suspect = find(crashes_->at_work); suspect != nullptr) suspect->crashes = 0;
}

std::vector<Suspect> CommandGuard::quarantined() const {
  std::vector<Suspect> result;
  std::copy_if(crashes_->suspects.begin(), crashes_->suspects.end(), std::back_inserter(result),
               [](const Suspect& s) { return s.crashes >= shm::kCrashesMax; });
  return result;
}

std::string_view name_of(shm::Command command) noexcept {
  using enum shm::Command;
  switch (command) {
    case kAddPublication: return "ADD_PUBLICATION";
    case kRemovePublication: return "REMOVE_PUBLICATION";
    case kAddExclusivePublication: return "ADD_EXCLUSIVE_PUBLICATION";
    case kAddSubscription: return "ADD_SUBSCRIPTION";
    case kRemoveSubscription: return "REMOVE_SUBSCRIPTION";
    case kClientKeepalive: return "CLIENT_KEEPALIVE";
    case kAddDestination: return "ADD_DESTINATION";
    case kRemoveDestination: return "REMOVE_DESTINATION";
    case kAddCounter: return "ADD_COUNTER";
    case kRemoveCounter: return "REMOVE_COUNTER";
    case kClientClose: return "CLIENT_CLOSE";
    case kAddReceiveDestination: return "ADD_RCV_DESTINATION";
    case kRemoveReceiveDestination: return "REMOVE_RCV_DESTINATION";
    case kTerminateDriver: return "TERMINATE_DRIVER";
    case kAddStaticCounter: return "ADD_STATIC_COUNTER";
    case kRejectImage: return "REJECT_IMAGE";
    case kRemoveDestinationById: return "REMOVE_DESTINATION_BY_ID";
    case kGetNextAvailableSessionId: return "GET_NEXT_AVAILABLE_SESSION_ID";
  }
  return "unknown command";
}

}  // namespace thalweg::conductor
