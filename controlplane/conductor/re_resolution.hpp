#pragma once
#include <cstdint>
#include <unordered_map>

#include "controlplane/conductor/endpoint_table.hpp"
#include "controlplane/conductor/lookup.hpp"

namespace thalweg::conductor {

// Names in the channels of running streams (wire-protocol 5.12): where nothing was heard for 5 s the name is resolved again, and when it means
// another address the endpoint gets it, with the streams on it. Senders listen for status messages of their endpoint's host, receivers for
// frames of their control address'. Thread: the conductor.
class ReResolution {
 public:
  ReResolution(World& world, EndpointTable& endpoints) : world_{&world}, endpoints_{&endpoints} {}
  // Once in each duty cycle; looks at the endpoints once in each interval of the settings.
  void poll();

 private:
  // One endpoint whose far side is called by a name.
  struct Watch {
    std::int64_t registration_id{};  // tells the slot's user from its next one
    std::int64_t heard_ns{};         // or when it was first seen
    std::optional<Lookup> lookup;
  };
  using Watches = std::unordered_map<std::uint32_t, Watch>;
  void check();
  void find_named_endpoints();
  void listen();
  void finish_lookups();
  void settle(std::uint32_t endpoint, const std::string& host, const Outcome<std::uint32_t>& address);

  World* world_;
  EndpointTable* endpoints_;
  Watches watches_;
  std::size_t lookups_{};            // outstanding
  std::int64_t next_check_ns_{};
};

}  // namespace thalweg::conductor
