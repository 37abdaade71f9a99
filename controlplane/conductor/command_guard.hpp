#pragma once
#include <vector>

#include "dataplane/shm/commands.hpp"
#include "dataplane/shm/registry.hpp"

namespace thalweg::conductor {

// Who is to blame when the control plane dies (design, section 1: what crashes a process three times is quarantined). Each command is entered
// in the registry while it is worked on. A successor counts the one that it finds there; as the ring's head had not moved, it runs it again,
// until it is quarantined. Thread: the conductor.
class CommandGuard {
 public:
  using Id = shm::CommandCrashes::Id;
  explicit CommandGuard(shm::CommandCrashes& crashes) noexcept : crashes_{&crashes} {}

  // By what a command is known again. One that is too short for a header is known by its type alone.
  [[nodiscard]] static Id identify(std::int32_t type_id, shm::Bytes message) noexcept;
  // Counts the crash of a predecessor that was at work. Once, before any command is run.
  void recover() noexcept;
  [[nodiscard]] bool is_quarantined(const Id& id) const noexcept;
  // Around each piece of work on a command. `is_finished`: it is answered, and what it was suspected of is forgotten.
  void begin(const Id& id) noexcept;
  void end(bool is_finished) noexcept;
  // Those that are not run any more.
  [[nodiscard]] std::vector<shm::CommandCrashes::Suspect> quarantined() const;

 private:
  [[nodiscard]] shm::CommandCrashes::Suspect* find(const Id& id) const noexcept;
  [[nodiscard]] shm::CommandCrashes::Suspect& place() noexcept;

  shm::CommandCrashes* crashes_;
};

// The field's name of a command, for texts.
[[nodiscard]] std::string_view name_of(shm::Command command) noexcept;

}  // namespace thalweg::conductor
