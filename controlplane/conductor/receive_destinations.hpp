#pragma once
#include "controlplane/conductor/destination_table.hpp"
#include "controlplane/conductor/endpoint_table.hpp"
#include "controlplane/conductor/world.hpp"

namespace thalweg::conductor {

// Where a multi-destination subscription hears from (wire-protocol 5.6): UDP destinations are endpoints of their own, whose parent is the
// subscription's; IPC and spy destinations lead to local publications. The book is kept in the DestinationTable. Thread: the conductor.
// Spec: client-protocol 6.5, Destinations.
class ReceiveDestinations {
 public:
  ReceiveDestinations(World& world, EndpointTable& endpoints) noexcept : world_{&world}, endpoints_{&endpoints}, table_{world} {}

  struct Request {
    std::int64_t client_id{};
    std::int64_t registration_id{};     // correlation id of the command
    std::uint32_t subscription{shm::kNoSlot};
    shm::DestinationKind kind{};
    std::string uri;
    UdpChannel channel;                 // resolved; all kinds but IPC
    std::optional<std::int32_t> session_id;
  };
  // Reads a destination's channel: its kind, its addresses, and what may not stand there. Error: kInvalidChannel.
  [[nodiscard]] static Outcome<void> parse(Request& request);
  // Records the destination; one of kind kReceive asks for its endpoint. Errors: kGeneric (tables full).
  [[nodiscard]] Outcome<std::uint32_t> add(const Request& request);
  // Slot of a subscription's destination by the correlation id of its command; kNoSlot: none.
  [[nodiscard]] std::uint32_t find(std::int64_t registration_id) const;
  // Destinations of request.subscription that have the request's channel: as it is written, or with the same addresses.
  [[nodiscard]] std::vector<std::uint32_t> find_all(const Request& request) const;
  // Lets go of it with its endpoint. Links through it are the caller's.
  void remove(std::uint32_t destination);
  void remove_all_of(std::uint32_t subscription);
  // After a restart, when endpoints and subscriptions are there again.
  void recover();

 private:
  World* world_;
  EndpointTable* endpoints_;
  DestinationTable table_;
};

}  // namespace thalweg::conductor
