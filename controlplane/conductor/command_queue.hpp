#pragma once
#include <deque>
#include <unordered_map>
#include <vector>

#include "controlplane/conductor/command_guard.hpp"
#include "controlplane/conductor/command_handlers.hpp"

namespace thalweg::conductor {

// Commands in progress. A command that has to wait blocks later ones of its own client only; both are kept in the registry's command
// slots as they stood in the ring, so that a restarted control plane runs them again. Thread: the conductor. Spec: client-protocol 3.4.
class CommandQueue {
 public:
  explicit CommandQueue(Services& services)
      : services_{&services}, guard_{services.world.registry->command_crashes}, slots_{services.world.registry->commands} {}

  // A command from the ring. False: no room to remember it; it stays in the ring.
  [[nodiscard]] bool submit(std::int32_t type_id, shm::Bytes message);
  // Goes on with whatever waits; returns how many commands were finished.
  int poll();
  [[nodiscard]] bool is_idle() const noexcept { return queues_.empty(); }
  // First of all, before anything else is taken up: lets go of what a predecessor was through with.
  void settle();
  // Then runs the commands of a predecessor again, in the order of their correlation ids, but for those that it died at too often.
  void recover();

 private:
  struct Pending {
    std::int32_t type_id{};
    shm::Buffer message;
    std::uint32_t slot{shm::kNoSlot};
    OperationPtr operation;    // null: not started, an earlier command of the client is in progress
  };
  using Queue = std::deque<Pending>;
  struct NoRecord {};

  // run_command() and Operation::step(), with the registry saying meanwhile which command is worked on.
  [[nodiscard]] OperationPtr run(std::int32_t type_id, shm::Bytes message);
  [[nodiscard]] bool step(Pending& pending);
  void refuse_quarantined(const CommandGuard::Id& id);
  void resume(Pending old, std::int64_t client_id);
  void remember(Pending& pending, const shm::CommandHeader& header);
  void forget(const Pending& pending);
  int advance(Queue& queue);

  Services* services_;
  CommandGuard guard_;
  host::SlotTable<shm::CommandSlot, shm::kCommandsMax, NoRecord> slots_;
  std::unordered_map<std::int64_t, Queue> queues_;  // by client; no empty ones
  std::vector<CommandGuard::Id> resumed_;           // from slots: the last of them may be the ring's first, too
};

}  // namespace thalweg::conductor
