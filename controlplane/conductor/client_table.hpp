#pragma once
#include <unordered_map>

#include "controlplane/conductor/world.hpp"

namespace thalweg::conductor {

// Clients by id: their heartbeat counters, the counters they own and their liveness (client-protocol 1.6, 6.5, 8.4). Thread: the conductor.
class ClientTable {
 public:
  explicit ClientTable(World& world) noexcept : world_{&world} {}

  // First use of a client id: heartbeat counter, then ON_COUNTER_READY; called just before the response to the client's first ADD.
  [[nodiscard]] Outcome<std::uint32_t> ensure(std::int64_t client_id);
  [[nodiscard]] bool has(std::int64_t client_id) const { return by_id_.contains(client_id); }
  void keepalive(std::int64_t client_id) noexcept;
  // CLIENT_CLOSE: everything goes at the next tick.
  void close(std::int64_t client_id) noexcept;
  // Clients whose heartbeat is older than the liveness time-out.
  [[nodiscard]] std::vector<std::int64_t> expired() const;
  // Steps 1 and 2 of 8.4: counts and announces the time-out unless it was closed by command, then its heartbeat counter.
  void announce_end(std::int64_t client_id);
  // Step 4: announces and frees the counters it owns.
  void free_counters(std::int64_t client_id);
  // Step 6: its heartbeat counter, itself.
  void forget(std::int64_t client_id);

  void add_counter(std::int64_t client_id, OwnedCounter counter);
  // Takes a counter off its client; nullopt: no such counter of that client.
  [[nodiscard]] std::optional<std::int32_t> remove_counter(std::int64_t client_id, std::int64_t registration_id);
  // The counter that a replayed command made before the restart; nullopt: none.
  [[nodiscard]] std::optional<std::int32_t> find_counter(std::int64_t client_id, std::int64_t registration_id) const;
  // After a restart: index by id, and every client counter among the allocated ones.
  void recover();

 private:
  [[nodiscard]] shm::Counter heartbeat(std::uint32_t slot) const noexcept {
    return world_->counters.counter(world_->clients.slot(slot).heartbeat_counter_id);
  }
  World* world_;
  std::unordered_map<std::int64_t, std::uint32_t> by_id_;
};

}  // namespace thalweg::conductor
