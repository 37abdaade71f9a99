#include "controlplane/conductor/world.hpp"

#include <algorithm>
#include <cstring>

#include "controlplane/conductor/name_service.hpp"
#include "controlplane/host/resolver.hpp"

namespace thalweg::conductor {

World::World(Settings settings_in, host::InstanceFiles& files_in, host::LogStore::Options log_options, host::Worker& worker_in, host::Worker& lookups_in,
             Time start)
    : settings{std::move(settings_in)},
      files{files_in},
      registry{files_in.registry},
      counters{files_in.cnc.counter_metadata(), files_in.cnc.counter_values(), settings.counters_free_to_reuse_ms},
      ring{files_in.cnc.to_driver()},
      clients_out{shm::BroadcastTransmitter{files_in.cnc.to_clients()}},
      error_log{files_in.cnc.error_log()},
      loss_report{std::span<std::byte>{files_in.loss_report.data(), files_in.loss_report.length()}},
      bells{registry->header},
      worker{worker_in},
      lookups{lookups_in},
      resolve_host{[&book = registry->addresses](const std::string& host) { return host::resolve_host(host, book); }},
      logs{std::move(log_options), registry, bells, worker_in},
      random{settings.random_seed},
      now{start},
      endpoints{registry->endpoints},
      publications{registry->publications},
      images{registry->images},
      interests{registry->interests},
      links{registry->links},
      clients{registry->clients},
      subscriptions{registry->subscriptions},
      refs{registry->publication_refs},
      destinations{registry->destinations} {}

World::~World() = default;

void World::report(const CommandError& error) {
  if (error.code == shm::ClientError::kResourceTemporarilyUnavailable) return;
  system(shm::SystemCounter::kErrors).add(1);
  static_cast<void>(error_log.record(static_cast<std::int32_t>(error.code), error.text, now.now_ms));  // a full log still counts its errors
}

namespace {

// What stands behind each of these is for peers to choose, or as new as their frames.
void leave_out_numbers(std::string& text) {
  for (const std::string_view key : {"session=", "sessionId=", "session ", "source=", "mtu=", "mtu ", "/images/"}) {
    for (std::size_t at = text.find(key); at != std::string::npos; at = text.find(key, at)) {
      at += key.size();
      const std::size_t end = std::min({text.find_first_of(" ,;)", at), text.find(".logbuffer", at), text.size()});
      text.replace(at, end - at, "...");
    }
  }
}

}  // namespace

void World::report_of_peer(CommandError error) {
  if (!peer_errors.contains(error.text)) {
    if (peer_errors.size() < kPeerErrorsMax) {
      peer_errors.insert(error.text);
    } else {
      leave_out_numbers(error.text);
    }
  }
  report(error);
}

std::int32_t World::allocate_counter(const shm::CountersManager::Spec& spec) {
  const auto id = counters.allocate(spec, now.now_ms);
  return id ? *id : shm::kNullCounterId;
}

Outcome<std::uint32_t> World::keep_text(std::string_view text) {
  auto slot = registry.put_text(text);
  if (!slot) return refuse(shm::ClientError::kGeneric, "channel cannot be recorded: " + slot.error().message);
  return *slot;
}

CommandError slot_error(const shm::SlotError& error) {
  CommandError result;
  result.code = error.code > 0 ? static_cast<shm::ClientError>(error.code) : shm::ClientError::kGeneric;
  // Clients take code 4 for the failure of a channel that is there already, and its correlation id for a counter id (6.4).
  if (result.code == shm::ClientError::kChannelEndpointError) result.code = shm::ClientError::kGeneric;
  result.text.assign(error.text, ::strnlen(error.text, sizeof error.text));
  return result;
}

}  // namespace thalweg::conductor
