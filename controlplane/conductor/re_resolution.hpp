#pragma once
#include <cstdint>
#include <unordered_map>

#include "controlplane/conductor/destination_table.hpp"
#include "controlplane/conductor/endpoint_table.hpp"
#include "controlplane/conductor/lookup.hpp"

namespace thalweg::conductor {

// Names in the channels of running streams (wire-protocol 5.12): where nothing was heard for 5 s the name is resolved again, and when it means
// another address the endpoint gets it, with the streams on it. Senders listen for status messages of their endpoint's host, receivers for
// frames of their control address', manual publications for the receiver of each destination. Thread: the conductor.
class ReResolution {
 public:
  ReResolution(World& world, EndpointTable& endpoints, DestinationTable& destinations) : world_{&world}, endpoints_{&endpoints}, destinations_{&destinations} {}
  // Once in each duty cycle; looks at the names once in each interval of the settings.
  void poll();

 private:
  // One endpoint or destination whose far side is called by a name.
  struct Watch {
    std::int64_t registration_id{};  // tells the slot's user from its next one
    std::int64_t heard_ns{};         // or when it was first seen
    std::optional<Lookup> lookup;
  };
  using Watches = std::unordered_map<std::uint32_t, Watch>;   // by packed SlotRef
  void check();
  void find_names();
  // The far side's address, where a name stands in its channel; null: a literal address, a group, or nobody in particular.
  [[nodiscard]] const ChannelAddress* named_remote(shm::SlotRef ref) const;
  [[nodiscard]] std::int64_t registration_id(shm::SlotRef ref) const;
  void listen();
  void finish_lookups();
  void settle(shm::SlotRef ref, const std::string& host, const Outcome<std::uint32_t>& address);

  World* world_;
  EndpointTable* endpoints_;
  DestinationTable* destinations_;
  Watches watches_;
  std::size_t lookups_{};            // outstanding
  std::int64_t next_check_ns_{};
};

}  // namespace thalweg::conductor
