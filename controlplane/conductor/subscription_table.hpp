#pragma once
#include <unordered_map>

#include "controlplane/conductor/endpoint_table.hpp"
#include "controlplane/conductor/link_table.hpp"
#include "controlplane/conductor/world.hpp"

namespace thalweg::conductor {

// Subscriptions and the interests they put on receive endpoints. Thread: the conductor.
// Spec: client-protocol 6.5, 8.6; wire-protocol 3.2, 5.13.
class SubscriptionTable {
 public:
  SubscriptionTable(World& world, EndpointTable& endpoints, LinkTable& links) noexcept : world_{&world}, endpoints_{&endpoints}, links_{&links} {}

  struct Request {
    std::int64_t client_id{};
    std::int64_t registration_id{};
    std::int32_t stream_id{};
    SubscriptionKind kind{};
    std::string uri;
    UdpChannel channel;
    SubscriptionParams params;
    std::uint32_t endpoint{shm::kNoSlot};  // network: active; the caller keeps its reference
  };
  // Conflicts with what others on the endpoint asked for (`reliable`, `rejoin`). Error: kInvalidChannel.
  [[nodiscard]] Outcome<void> check_conflicts(const Request& request) const;
  // Takes an interest for a network subscription; the interest holds an endpoint reference of its own. Error: kGeneric.
  [[nodiscard]] Outcome<std::uint32_t> acquire_interest(const Request& request);
  void release_interest(std::uint32_t interest);
  [[nodiscard]] Status interest_status(std::uint32_t interest) const noexcept { return world_->interests.record(interest).status; }
  // Records the subscription; the interest (kNoSlot unless network) is passed on to it. Error: kGeneric.
  [[nodiscard]] Outcome<std::uint32_t> add(const Request& request, std::uint32_t interest);

  // Slot of a registration id; kNoSlot: none.
  [[nodiscard]] std::uint32_t find(std::int64_t registration_id) const;
  // Removes it with its links; nobody is told. Error: kUnknownSubscription.
  [[nodiscard]] Outcome<void> remove(std::int64_t client_id, std::int64_t registration_id);
  void remove_all_of(std::int64_t client_id);
  // Does an image of (endpoint, stream, session) belong to this subscription?
  [[nodiscard]] bool wants(std::uint32_t subscription, std::uint32_t endpoint, std::int32_t stream_id, std::int32_t session_id) const;

  // A response subscription is told the session that answers it (wire-protocol 5.9), for the first time or again: its lane asks the control
  // address for a SETUP; over IPC there is nobody to ask. A failure goes to the error log. Precondition: is_response() of its channel.
  void bind_session(std::uint32_t subscription, std::int32_t session_id);

  // The lane answered for an interest.
  void service_interest(std::uint32_t interest);
  // After a restart, when endpoints are there again.
  void recover();

 private:
  void destroy(std::uint32_t subscription);
  [[nodiscard]] static bool holds_endpoint(const SubscriptionRecord& record) noexcept;
  World* world_;
  EndpointTable* endpoints_;
  LinkTable* links_;
  std::unordered_map<std::int64_t, std::uint32_t> by_registration_;
};

}  // namespace thalweg::conductor
