#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/shm/commands.hpp"
#include "dataplane/shm/registry.hpp"

namespace thalweg::conductor {

// Who is to blame when the control plane dies (design, section 1: what crashes a process three times is quarantined). Each command, SETUP and
// piece of timer work is entered in the registry while it is worked on. A successor counts the one that it finds there; as the ring's head had not moved, it runs it again,
// until it is quarantined. One that its predecessor was through with, and had not let go of, it does not run again. Thread: the conductor.
class CommandGuard {
 public:
  using Id = shm::CommandCrashes::Id;
  explicit CommandGuard(shm::CommandCrashes& crashes) noexcept : crashes_{&crashes} {}

  // By what a command is known again. One that is too short for a header is known by its type alone.
  [[nodiscard]] static Id identify(std::int32_t type_id, shm::Bytes message) noexcept;
  // The same for what is no command: a SETUP by its stream, a slot by its generation, other work of the timers by its kind and whom it is about.
  [[nodiscard]] static Id identify(const shm::SetupSlot& setup) noexcept;
  [[nodiscard]] static Id identify(shm::SlotKind kind, std::uint32_t index, std::uint32_t generation) noexcept;
  enum class Timer : std::int32_t { kExpireClient = 1, kPublications, kRelays, kFeeds, kLossReport, kQuarantinedImages };
  [[nodiscard]] static Id identify(Timer timer, std::int64_t client_id = 0) noexcept;
  [[nodiscard]] static bool is_command(const Id& id) noexcept { return id.type_id >= 0; }
  // Counts the crash of a predecessor that was at work. Once, before any command is run. Answers what it had finished and may not have let go of.
  std::optional<Id> recover() noexcept;
  // A predecessor died at it: some of it may be done.
  [[nodiscard]] bool is_begun(const Id& id) const noexcept { return find(id) != nullptr; }
  [[nodiscard]] bool is_quarantined(const Id& id) const noexcept;
  // From here on a fault of the calling thread, the conductor's, is known for one: work that is no command is blamed for faults only, not for every death at it, because
  // it goes on all the time. Once in a process.
  void catch_faults() noexcept;
  // Around each piece of work on a command. `is_finished`: it is answered, and what it was suspected of is forgotten.
  void begin(const Id& id) noexcept;
  void end(bool is_finished) noexcept;
  // Those that are not run any more.
  [[nodiscard]] std::vector<shm::CommandCrashes::Suspect> quarantined() const;

 private:
  enum Work : std::uint32_t { kNone = 0, kAtWork = 1, kFinished = 2, kFaulted = 3 };  // CommandCrashes::is_at_work
  static void on_fault(int number) noexcept;
  [[nodiscard]] shm::CommandCrashes::Suspect* find(const Id& id) const noexcept;
  [[nodiscard]] shm::CommandCrashes::Suspect& place() noexcept;

  shm::CommandCrashes* crashes_;
};

// What it was at work on, for texts: "ADD_COUNTER of client 7, correlation id 9", "the SETUP of a stream", "publication slot 3".
[[nodiscard]] std::string text_of(const CommandGuard::Id& id);
// The field's name of a command, for texts.
[[nodiscard]] std::string_view name_of(shm::Command command) noexcept;

}  // namespace thalweg::conductor
