#include "controlplane/conductor/client_table.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace thalweg::conductor {
namespace {

constexpr std::uint32_t kFinished = 2;  // CommandGuard: the command was answered

bool is_add(std::int32_t type_id) noexcept {
  using enum shm::Command;
  switch (static_cast<shm::Command>(type_id)) {
    case kAddPublication:
    case kAddExclusivePublication:
    case kAddSubscription:
    case kAddCounter:
    case kAddStaticCounter: return true;
    default: return false;
  }
}

// Whether a slot is in use by the client for something it asked for before that command.
template <typename Slots>
bool has_older(const Slots& slots, const shm::CommandCrashes::Id& command) {
  return std::any_of(slots.begin(), slots.end(), [&command](const auto& slot) {
    return slot.head.state.load() != shm::Desired::kFree && slot.client_id == command.client_id && slot.registration_id < command.correlation_id;
  });
}

}  // namespace

Outcome<std::uint32_t> ClientTable::ensure(std::int64_t client_id) {
  if (const auto found = by_id_.find(client_id); found != by_id_.end()) return found->second;
  const auto slot = world_->clients.allocate();
  if (!slot) return refuse(shm::ClientError::kGeneric, fmt::format("all {} clients are in use", shm::kClientsMax));
  const auto key = shm::heartbeat_key(client_id);
  const std::string label = fmt::format("client-heartbeat: id={}", client_id);
  const std::int32_t counter = world_->allocate_counter({.type_id = shm::counter_type::kClientHeartbeat,
                                                         .key = key.span(),
                                                         .label = label,
                                                         .registration_id = client_id,
                                                         .owner_id = client_id,
                                                         .initial_value = world_->now.now_ms});
  if (counter < 0) {
    world_->clients.release(*slot);
    return refuse(shm::ClientError::kGeneric, "max counter id exceeded");
  }
  auto& entry = world_->clients.slot(*slot);
  entry.client_id = client_id;
  entry.heartbeat_counter_id = counter;
  world_->clients.publish(*slot);
  by_id_.emplace(client_id, *slot);
  world_->clients_out.counter_ready(client_id, counter);
  return *slot;
}

void ClientTable::keepalive(std::int64_t client_id) noexcept {
  if (const auto found = by_id_.find(client_id); found != by_id_.end()) heartbeat(found->second).set(world_->now.now_ms);
}

void ClientTable::close(std::int64_t client_id) noexcept {
  const auto found = by_id_.find(client_id);
  if (found == by_id_.end()) return;
  world_->clients.slot(found->second).is_closed_by_command = 1;
  heartbeat(found->second).set(0);
}

std::vector<std::int64_t> ClientTable::expired() const {
  std::vector<std::int64_t> result;
  const std::int64_t oldest_ms = world_->now.now_ms - world_->settings.client_liveness_timeout_ns / kMillisecond_ns;
  for (const auto& [client_id, slot] : by_id_) {
    // The client writes this counter: any value is possible, and none may overflow.
    if (world_->clients.slot(slot).is_closed_by_command != 0 || heartbeat(slot).get() < oldest_ms) result.push_back(client_id);
  }
  std::sort(result.begin(), result.end());
  return result;
}

void ClientTable::announce_end(std::int64_t client_id) {
  const auto& slot = world_->clients.slot(by_id_.at(client_id));
  if (slot.is_closed_by_command == 0) {
    world_->system(shm::SystemCounter::kClientTimeouts).add(1);
    world_->clients_out.client_timeout(client_id);
  }
  world_->clients_out.unavailable_counter(client_id, slot.heartbeat_counter_id);
}

void ClientTable::free_counters(std::int64_t client_id) {
  auto& counters = world_->clients.record(by_id_.at(client_id)).counters;
  for (const OwnedCounter& counter : counters) {
    world_->clients_out.unavailable_counter(counter.registration_id, counter.counter_id);
    world_->free_counter(counter.counter_id);
  }
  counters.clear();
}

void ClientTable::forget(std::int64_t client_id) {
  const auto found = by_id_.find(client_id);
  const std::uint32_t slot = found->second;
  world_->free_counter(world_->clients.slot(slot).heartbeat_counter_id);
  world_->clients.release(slot);
  by_id_.erase(found);
}

void ClientTable::add_counter(std::int64_t client_id, OwnedCounter counter) {
  world_->clients.record(by_id_.at(client_id)).counters.push_back(counter);
}

std::optional<std::int32_t> ClientTable::find_counter(std::int64_t client_id, std::int64_t registration_id) const {
  const auto found = by_id_.find(client_id);
  if (found == by_id_.end()) return std::nullopt;
  for (const OwnedCounter& counter : world_->clients.record(found->second).counters) {
    if (counter.registration_id == registration_id) return counter.counter_id;
  }
  return std::nullopt;
}

std::optional<std::int32_t> ClientTable::remove_counter(std::int64_t client_id, std::int64_t registration_id) {
  const auto counter_id = find_counter(client_id, registration_id);
  if (!counter_id) return std::nullopt;
  auto& counters = world_->clients.record(by_id_.at(client_id)).counters;
  std::erase_if(counters, [&](const OwnedCounter& counter) { return counter.registration_id == registration_id; });
  return counter_id;
}

void ClientTable::recover() {
  world_->clients.recover();
  for (const std::uint32_t slot : world_->clients.used()) by_id_.emplace(world_->clients.slot(slot).client_id, slot);
  world_->counters.for_each([this](const shm::CountersReader::View& view) {
    const auto owner = by_id_.find(view.owner_id);
    if (owner == by_id_.end() || is_driver_counter(view.type_id)) return;
    world_->clients.record(owner->second).counters.push_back({view.registration_id, view.id});
  });
  // A predecessor that died at a client's first command may have entered the client without a word. Who was told already hears it once more.
  const shm::Registry& registry = *world_->registry;
  const shm::CommandCrashes::Id& command = registry.command_crashes.at_work;
  const auto client = by_id_.find(command.client_id);
  if (client == by_id_.end() || !is_add(command.type_id) || registry.command_crashes.is_at_work.load(std::memory_order_acquire) == kFinished) return;
  const auto& counters = world_->clients.record(client->second).counters;
  const bool has_counter = std::any_of(counters.begin(), counters.end(), [&command](const OwnedCounter& c) { return c.registration_id < command.correlation_id; });
  if (has_counter || has_older(registry.publication_refs, command) || has_older(registry.subscriptions, command)) return;
  world_->clients_out.counter_ready(command.client_id, world_->clients.slot(client->second).heartbeat_counter_id);
}

}  // namespace thalweg::conductor
