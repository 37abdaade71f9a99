#include "controlplane/conductor/command_handlers.hpp"

#include <fmt/format.h>

namespace thalweg::conductor {
namespace {

using shm::Command;

// Decodes and runs a handler that answers at once; a malformed command is answered where it can be (6.4).
template <typename Message, typename Handler>
OperationPtr with(Services& services, shm::Bytes message, std::string_view name, Handler&& handler) {
  const auto command = shm::decode<Message>(message);
  if (command) return handler(*command);
  const auto header = shm::decode<shm::CommandHeader>(message);
  if (header) {
    answer_error(services.world, header->correlation_id, malformed(name));
  } else {
    services.world.report(malformed(name));
  }
  return nullptr;
}

OperationPtr run_destination_command(Services& services, Command type, shm::Bytes message) {
  switch (type) {
    case Command::kAddDestination:
      return with<shm::DestinationCommand>(services, message, "ADD_DESTINATION",
                                           [&](const shm::DestinationCommand& command) { return add_send_destination(services, command); });
    case Command::kRemoveDestination:
      return with<shm::DestinationCommand>(services, message, "REMOVE_DESTINATION",
                                           [&](const shm::DestinationCommand& command) { return remove_send_destination(services, command); });
    case Command::kRemoveDestinationById:
      return with<shm::RemoveDestinationById>(services, message, "REMOVE_DESTINATION_BY_ID", [&](const shm::RemoveDestinationById& command) -> OperationPtr {
        remove_send_destination(services, command);
        return nullptr;
      });
    case Command::kAddReceiveDestination:
      return with<shm::DestinationCommand>(services, message, "ADD_RCV_DESTINATION",
                                           [&](const shm::DestinationCommand& command) { return add_receive_destination(services, command); });
    default:
      return with<shm::DestinationCommand>(services, message, "REMOVE_RCV_DESTINATION", [&](const shm::DestinationCommand& command) -> OperationPtr {
        remove_receive_destination(services, command);
        return nullptr;
      });
  }
}

void terminate(Services& services, const shm::TerminateDriver&) {
  if (services.world.settings.is_termination_allowed) {
    services.world.registry->header.is_termination_accepted.store(services.world.files.run, std::memory_order_release);
  } else {
    services.world.report({shm::ClientError::kGeneric, "termination request denied by the validator"});
  }
}

OperationPtr run_client_command(Services& services, Command type, shm::Bytes message) {
  switch (type) {
    case Command::kClientKeepalive:
      return with<shm::ClientCommand>(services, message, "CLIENT_KEEPALIVE", [&](const shm::ClientCommand& command) -> OperationPtr {
        services.clients.keepalive(command.client_id);
        return nullptr;
      });
    case Command::kClientClose:
      return with<shm::ClientCommand>(services, message, "CLIENT_CLOSE", [&](const shm::ClientCommand& command) -> OperationPtr {
        services.clients.close(command.client_id);
        return nullptr;
      });
    case Command::kTerminateDriver:
      return with<shm::TerminateDriver>(services, message, "TERMINATE_DRIVER", [&](const shm::TerminateDriver& command) -> OperationPtr {
        terminate(services, command);
        return nullptr;
      });
    case Command::kRejectImage:
      return with<shm::RejectImage>(services, message, "REJECT_IMAGE", [&](const shm::RejectImage& command) -> OperationPtr {
        reject_image(services, command);
        return nullptr;
      });
    case Command::kGetNextAvailableSessionId:
      return with<shm::GetNextAvailableSessionId>(services, message, "GET_NEXT_AVAILABLE_SESSION_ID",
                                                  [&](const shm::GetNextAvailableSessionId& command) -> OperationPtr {
                                                    services.world.clients_out.next_session_id(
                                                        command.correlation_id, services.publications.take_session_id_for_stream(command.stream_id));
                                                    return nullptr;
                                                  });
    default: break;
  }
  const auto header = shm::decode<shm::CommandHeader>(message);
  const CommandError error{shm::ClientError::kUnknownCommandType, fmt::format("unknown command type id={}", static_cast<std::int32_t>(type))};
  if (header) {
    answer_error(services.world, header->correlation_id, error);
  } else {
    services.world.report(error);
  }
  return nullptr;
}

OperationPtr run_counter_command(Services& services, Command type, shm::Bytes message) {
  switch (type) {
    case Command::kAddCounter:
      return with<shm::AddCounter>(services, message, "ADD_COUNTER", [&](const shm::AddCounter& command) -> OperationPtr {
        add_counter(services, command);
        return nullptr;
      });
    case Command::kAddStaticCounter:
      return with<shm::AddStaticCounter>(services, message, "ADD_STATIC_COUNTER", [&](const shm::AddStaticCounter& command) -> OperationPtr {
        add_static_counter(services, command);
        return nullptr;
      });
    default:
      return with<shm::RemoveRegistration>(services, message, "REMOVE_COUNTER", [&](const shm::RemoveRegistration& command) -> OperationPtr {
        remove_counter(services, command);
        return nullptr;
      });
  }
}

}  // namespace

void answer_error(World& world, std::int64_t correlation_id, const CommandError& error) {
  world.report(error);
  world.clients_out.error(correlation_id, error);
}

CommandError malformed(std::string_view command) { return {shm::ClientError::kMalformedCommand, fmt::format("malformed {} command", command)}; }

OperationPtr run_command(Services& services, std::int32_t type_id, shm::Bytes message) {
  const auto type = static_cast<Command>(type_id);
  switch (type) {
    case Command::kAddPublication:
    case Command::kAddExclusivePublication:
      return with<shm::AddPublication>(services, message, "ADD_PUBLICATION", [&](const shm::AddPublication& command) {
        return add_publication(services, command, type == Command::kAddExclusivePublication);
      });
    case Command::kRemovePublication:
      return with<shm::RemovePublication>(services, message, "REMOVE_PUBLICATION", [&](const shm::RemovePublication& command) -> OperationPtr {
        remove_publication(services, command);
        return nullptr;
      });
    case Command::kAddSubscription:
      return with<shm::AddSubscription>(services, message, "ADD_SUBSCRIPTION",
                                        [&](const shm::AddSubscription& command) { return add_subscription(services, command); });
    case Command::kRemoveSubscription:
      return with<shm::RemoveRegistration>(services, message, "REMOVE_SUBSCRIPTION", [&](const shm::RemoveRegistration& command) -> OperationPtr {
        remove_subscription(services, command);
        return nullptr;
      });
    case Command::kAddDestination:
    case Command::kRemoveDestination:
    case Command::kRemoveDestinationById:
    case Command::kAddReceiveDestination:
    case Command::kRemoveReceiveDestination: return run_destination_command(services, type, message);
    case Command::kAddCounter:
    case Command::kAddStaticCounter:
    case Command::kRemoveCounter: return run_counter_command(services, type, message);
    default: return run_client_command(services, type, message);
  }
}

}  // namespace thalweg::conductor
