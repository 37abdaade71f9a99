// Destinations of subscriptions (wire-protocol 5.6; client-protocol 6.5).
#include <fmt/format.h>

#include "controlplane/conductor/command_handlers.hpp"
#include "controlplane/conductor/receive_destinations.hpp"
#include "controlplane/conductor/resolution.hpp"

namespace thalweg::conductor {
namespace {

using shm::ClientError;
using shm::DestinationKind;

// The multi-destination subscription that a command names. Errors: kUnknownSubscription, kInvalidChannel.
Outcome<std::uint32_t> find_subscription(const Services& services, std::int64_t client_id, std::int64_t registration_id) {
  const std::uint32_t index = services.subscriptions.find(registration_id);
  const bool is_network = index != shm::kNoSlot && services.world.subscriptions.record(index).kind == SubscriptionKind::kNetwork;
  if (!is_network) {
    return refuse(ClientError::kUnknownSubscription, fmt::format("unknown subscription client_id={} registration_id={}", client_id, registration_id));
  }
  const SubscriptionRecord& record = services.world.subscriptions.record(index);
  if (record.channel.is_feed) return refuse_channel("the destinations of a feed are those of the configuration: channel=" + record.uri);
  if (record.channel.control_mode != ControlMode::kManual) return refuse_channel("destinations need a subscription with control-mode=manual: channel=" + record.uri);
  return index;
}

// ADD_RCV_DESTINATION: UDP destinations are answered when their socket is bound; IPC and spy ones at once, and their images follow.
class AddReceiveDestinationOperation final : public Operation {
 public:
  AddReceiveDestinationOperation(Services& services, const shm::DestinationCommand& command)
      : services_{&services}, destinations_{services.world, services.endpoints}, subscription_id_{command.registration_id} {
    request_.client_id = command.client_id;
    request_.registration_id = command.correlation_id;
    request_.uri = std::string{command.channel};
  }

  bool step() override {
    auto outcome = advance();
    if (outcome && !*outcome) return false;
    if (!outcome) {
      if (destination_ != shm::kNoSlot) destinations_.remove(destination_);
      answer_error(services_->world, request_.registration_id, outcome.error());
    }
    return true;
  }

 private:
  Outcome<bool> advance() {
    if (!is_parsed_) {
      destination_ = destinations_.find(request_.registration_id);  // a predecessor of this control plane was here already
      if (auto parsed = ReceiveDestinations::parse(request_); !parsed) return tl::unexpected{parsed.error()};
      is_parsed_ = true;
    }
    // Others may remove the subscription, and the destination with it, while this one waits.
    if (is_added_ && destinations_.find(request_.registration_id) != destination_) destination_ = shm::kNoSlot;
    const auto subscription = find_subscription(*services_, request_.client_id, subscription_id_);
    if (!subscription) return tl::unexpected{subscription.error()};
    if (is_added_ && destination_ == shm::kNoSlot) return refuse(ClientError::kGeneric, "the destination was removed: channel=" + request_.uri);
    request_.subscription = *subscription;
    if (destination_ == shm::kNoSlot) {
      if (request_.kind != DestinationKind::kIpc) {
        const auto resolved = resolution_.poll(services_->world, request_.channel);
        if (!resolved || !*resolved) return resolved;
        if (services_->endpoints.is_letting_go(request_.channel, true)) return false;
      }
      const auto added = destinations_.add(request_);
      if (!added) return tl::unexpected{added.error()};
      destination_ = *added;
    }
    is_added_ = true;
    return finish();
  }

  Outcome<bool> finish() {
    const std::uint32_t endpoint = services_->world.destinations.slot(destination_).desired.endpoint;
    if (endpoint != shm::kNoSlot) {
      if (services_->endpoints.status(endpoint) == Status::kFailed) return tl::unexpected{services_->endpoints.error(endpoint)};
      if (services_->endpoints.status(endpoint) != Status::kActive) return false;
    }
    services_->world.clients_out.success(request_.registration_id);
    services_->publications.link_destination(destination_);
    return true;
  }

  Services* services_;
  ReceiveDestinations destinations_;
  ReceiveDestinations::Request request_;
  std::int64_t subscription_id_;
  Resolution resolution_;
  bool is_parsed_{false};
  bool is_added_{false};
  std::uint32_t destination_{shm::kNoSlot};
};

// Links that only a destination that is gone led to.
void unlink(Services& services, std::uint32_t subscription, const std::string& uri) {
  World& world = services.world;
  const std::vector<std::uint32_t> links = world.subscriptions.record(subscription).links;
  for (const std::uint32_t link : links) {
    if (world.links.record(link).channel != uri) continue;
    services.links.announce_unavailable(link, uri);
    services.links.close(link);
  }
}

}  // namespace

OperationPtr add_receive_destination(Services& services, const shm::DestinationCommand& command) {
  auto operation = std::make_unique<AddReceiveDestinationOperation>(services, command);
  if (operation->step()) return nullptr;
  return operation;
}

void remove_receive_destination(Services& services, const shm::DestinationCommand& command) {
  const auto refused = [&](const CommandError& error) { answer_error(services.world, command.correlation_id, error); };
  const auto subscription = find_subscription(services, command.client_id, command.registration_id);
  if (!subscription) return refused(subscription.error());
  ReceiveDestinations::Request request;
  request.uri = std::string{command.channel};
  if (const auto parsed = ReceiveDestinations::parse(request); !parsed) return refused(parsed.error());
  ReceiveDestinations destinations{services.world, services.endpoints};
  request.subscription = *subscription;
  for (const std::uint32_t destination : destinations.find_all(request)) destinations.remove(destination);
  services.world.clients_out.success(command.correlation_id);  // one that was never added is removed as well
  unlink(services, *subscription, request.uri);
  const std::vector<std::uint32_t> others = services.world.destinations.used();
  for (const std::uint32_t other : others) {  // one of them may lead to the same publication
    if (services.world.destinations.slot(other).desired.subscription == *subscription) services.publications.link_destination(other);
  }
}

}  // namespace thalweg::conductor
