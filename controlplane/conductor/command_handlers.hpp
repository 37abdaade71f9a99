#pragma once
#include <memory>
#include <optional>

#include "controlplane/conductor/services.hpp"
#include "dataplane/shm/commands.hpp"

// What the conductor does with each command of client-protocol 6.2. Thread: the conductor.
namespace thalweg::conductor {

// A command that waits for the data plane or a worker. step() goes on as far as it can; true: it is answered.
class Operation {
 public:
  Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  virtual ~Operation() = default;
  [[nodiscard]] virtual bool step() = 0;
};
using OperationPtr = std::unique_ptr<Operation>;

// Runs one command of known minimum length. Null: it is answered; otherwise the operation is to be stepped until it is.
// A command that comes a second time after a restart creates nothing twice and is answered again.
[[nodiscard]] OperationPtr run_command(Services& services, std::int32_t type_id, shm::Bytes message);

// Answers with ON_ERROR and counts the error.
void answer_error(World& world, std::int64_t correlation_id, const CommandError& error);
[[nodiscard]] CommandError malformed(std::string_view command);

// The handlers by topic.
[[nodiscard]] OperationPtr add_publication(Services& services, const shm::AddPublication& command, bool is_exclusive);
void remove_publication(Services& services, const shm::RemovePublication& command);
[[nodiscard]] OperationPtr add_subscription(Services& services, const shm::AddSubscription& command);
void remove_subscription(Services& services, const shm::RemoveRegistration& command);
void add_counter(Services& services, const shm::AddCounter& command);
void add_static_counter(Services& services, const shm::AddStaticCounter& command);
void remove_counter(Services& services, const shm::RemoveRegistration& command);
[[nodiscard]] OperationPtr add_send_destination(Services& services, const shm::DestinationCommand& command);
[[nodiscard]] OperationPtr remove_send_destination(Services& services, const shm::DestinationCommand& command);
void remove_send_destination(Services& services, const shm::RemoveDestinationById& command);
[[nodiscard]] OperationPtr add_receive_destination(Services& services, const shm::DestinationCommand& command);
void remove_receive_destination(Services& services, const shm::DestinationCommand& command);
void reject_image(Services& services, const shm::RejectImage& command);

}  // namespace thalweg::conductor
