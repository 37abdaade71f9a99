#include <fmt/format.h>

#include "controlplane/conductor/command_handlers.hpp"

namespace thalweg::conductor {
namespace {

using shm::ClientError;

const CommandError kNoCounterLeft{ClientError::kGeneric, "max counter id exceeded"};

}  // namespace

void add_counter(Services& services, const shm::AddCounter& command) {
  World& world = services.world;
  if (const auto replayed = services.clients.find_counter(command.client_id, command.correlation_id)) {
    return world.clients_out.counter_ready(command.correlation_id, *replayed);
  }
  if (const auto client = services.clients.ensure(command.client_id); !client) return answer_error(world, command.correlation_id, client.error());
  const std::int32_t id = world.allocate_counter({.type_id = command.type_id,
                                                  .key = command.key,
                                                  .label = command.label,
                                                  .registration_id = command.correlation_id,
                                                  .owner_id = command.client_id});
  if (id < 0) return answer_error(world, command.correlation_id, kNoCounterLeft);
  services.clients.add_counter(command.client_id, {command.correlation_id, id});
  world.clients_out.counter_ready(command.correlation_id, id);
}

void add_static_counter(Services& services, const shm::AddStaticCounter& command) {
  World& world = services.world;
  std::optional<shm::CountersReader::View> existing;
  world.counters.for_each([&](const shm::CountersReader::View& view) {
    if (view.type_id == command.type_id && view.registration_id == command.registration_id) existing = view;
  });
  if (existing && existing->owner_id != -1) {
    return answer_error(world, command.correlation_id,
                        {ClientError::kGeneric, fmt::format("cannot add static counter, because a non-static counter exists (counterId={}) for typeId={} and registrationId={}",
                                                            existing->id, command.type_id, command.registration_id)});
  }
  if (const auto client = services.clients.ensure(command.client_id); !client) return answer_error(world, command.correlation_id, client.error());
  if (existing) return world.clients_out.static_counter(command.correlation_id, existing->id);
  const std::int32_t id = world.allocate_counter({.type_id = command.type_id,
                                                  .key = command.key,
                                                  .label = command.label,
                                                  .registration_id = command.registration_id,
                                                  .owner_id = -1});
  if (id < 0) return answer_error(world, command.correlation_id, kNoCounterLeft);
  world.clients_out.static_counter(command.correlation_id, id);
}

void remove_counter(Services& services, const shm::RemoveRegistration& command) {
  World& world = services.world;
  const auto id = services.clients.remove_counter(command.client_id, command.registration_id);
  if (!id && services.is_replayed) return world.clients_out.success(command.correlation_id);
  if (!id) {
    return answer_error(world, command.correlation_id,
                        {ClientError::kUnknownCounter, fmt::format("unknown counter client_id={} registration_id={}", command.client_id, command.registration_id)});
  }
  world.clients_out.success(command.correlation_id);
  world.clients_out.unavailable_counter(command.registration_id, *id);
  world.free_counter(*id);
}

}  // namespace thalweg::conductor
