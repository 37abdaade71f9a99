#pragma once
#include "controlplane/conductor/destination_table.hpp"

namespace thalweg::conductor {

// UDP endpoints in use: found by canonical channel or tag, or asked for from the steward; one reference for each publication, interest or
// image that needs it. Thread: the conductor. Spec: wire-protocol 5.10, client-protocol 5.7 and 8.3.
class EndpointTable {
 public:
  EndpointTable(World& world, DestinationTable& destinations) noexcept : world_{&world}, destinations_{&destinations} {}

  struct Request {
    shm::EndpointKind kind{};
    const UdpChannel* channel{};
    std::int64_t registration_id{};     // of the publication or subscription
    std::int32_t socket_sndbuf{};       // 0: not given
    std::int32_t socket_rcvbuf{};
    const UdpChannel* first_side{};     // of a feed: the side whose lane is to be its own
    std::uint32_t parent{shm::kNoSlot}; // a destination of this multi-destination endpoint, shared with nobody (wire-protocol 5.6)
  };
  // Takes one reference; status() tells when the endpoint may be used. Errors: kInvalidChannel (tag or option conflict),
  // kResourceTemporarilyUnavailable (closing), kGeneric (table full).
  [[nodiscard]] Outcome<std::uint32_t> acquire(const Request& request);
  void add_reference(std::uint32_t endpoint) noexcept { ++world_->endpoints.record(endpoint).references; }
  // A receiver with these addresses was let go of, and its socket may still be bound: wait before asking for another one. Who asks for no
  // destination waits for destinations only, because of all others acquire() says so.
  [[nodiscard]] bool is_letting_go(const UdpChannel& channel, bool is_destination) const;
  // Gives a reference back; the last one closes the endpoint.
  void release(std::uint32_t endpoint);
  [[nodiscard]] Status status(std::uint32_t endpoint) const noexcept { return world_->endpoints.record(endpoint).status; }
  [[nodiscard]] const CommandError& error(std::uint32_t endpoint) const noexcept { return world_->endpoints.record(endpoint).error; }
  // A name came to mean `address` (host order): the far side of the endpoint's streams from now on (wire-protocol 5.12). False: it is that
  // already, or the endpoint is on its way in or out.
  bool change_remote(std::uint32_t endpoint, std::uint32_t address);
  // The steward answered.
  void service(std::uint32_t endpoint);
  // After a restart: rebuilds the channel of a slot from its text. References are added by their holders.
  void recover(std::uint32_t endpoint);
  // After everything was recovered: closes an endpoint whose command died with the predecessor.
  void release_if_unused(std::uint32_t endpoint);

 private:
  [[nodiscard]] Outcome<std::uint32_t> find(const Request& request) const;  // kNoSlot: none
  [[nodiscard]] Outcome<std::uint32_t> create(const Request& request);
  [[nodiscard]] bool allocate_counters(std::uint32_t endpoint);
  [[nodiscard]] bool allocate_address_counter(std::uint32_t endpoint, std::int32_t channel_status_id, const std::string& bound);
  void set_channel_status(std::uint32_t endpoint, std::int64_t status) noexcept;
  void close(std::uint32_t endpoint);
  void report_refused_move(std::uint32_t endpoint);
  void report_loss(std::uint32_t endpoint);

  World* world_;
  DestinationTable* destinations_;
};

}  // namespace thalweg::conductor
