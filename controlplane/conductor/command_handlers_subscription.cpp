#include <fmt/format.h>

#include "controlplane/conductor/command_handlers.hpp"
#include "controlplane/conductor/resolution.hpp"

namespace thalweg::conductor {
namespace {

using shm::ClientError;

Outcome<void> check_addresses(const UdpChannel& channel) {
  if (channel.control_mode == ControlMode::kManual) return {};  // destinations come by command (wire-protocol 5.6)
  if (is_response(channel) && !channel.control) return refuse_channel("control-mode=response needs the control address of who answers: channel=" + channel.uri);
  if (channel.control && channel.control->port == 0) return refuse_channel("control port 0 is not allowed on a subscription: channel=" + channel.uri);
  if (!channel.endpoint && !channel.tag && !is_response(channel)) return refuse_channel("a subscription needs an endpoint: channel=" + channel.uri);
  return {};
}

// ADD_SUBSCRIPTION, from the URI to SUBSCRIPTION_READY and the images that are there.
class AddSubscriptionOperation final : public Operation {
 public:
  AddSubscriptionOperation(Services& services, const shm::AddSubscription& command) : services_{&services} {
    request_.client_id = command.client_id;
    request_.registration_id = command.correlation_id;
    request_.stream_id = command.stream_id;
    request_.uri = std::string{command.channel};
  }

  bool step() override {
    auto outcome = advance();
    if (outcome && !*outcome) return false;
    if (!outcome) {
      if (interest_ != shm::kNoSlot) services_->subscriptions.release_interest(interest_);
      answer_error(services_->world, request_.registration_id, outcome.error());
    }
    if (holds_endpoint_) services_->endpoints.release(request_.endpoint);
    return true;
  }

 private:
  enum class Phase : std::uint8_t { kParse, kResolve, kEndpoint, kInterest };

  Outcome<bool> advance() {
    World& world = services_->world;
    if (phase_ == Phase::kParse) {
      if (const std::uint32_t replayed = services_->subscriptions.find(request_.registration_id); replayed != shm::kNoSlot) return answer(replayed);
      if (auto parsed = parse(); !parsed) return tl::unexpected{parsed.error()};
      if (request_.kind == SubscriptionKind::kIpc) return finish();
      phase_ = Phase::kResolve;
    }
    if (phase_ == Phase::kResolve) {
      const auto resolved = resolution_.poll(world, request_.channel.is_feed ? side_ : request_.channel);
      if (!resolved || !*resolved) return resolved;
      if (request_.kind == SubscriptionKind::kSpy) return finish();
      if (services_->endpoints.is_letting_go(request_.channel, false)) return false;
      if (auto taken = take_endpoint(); !taken) return tl::unexpected{taken.error()};
      phase_ = Phase::kEndpoint;
    }
    if (phase_ == Phase::kEndpoint) {
      if (services_->endpoints.status(request_.endpoint) == Status::kFailed) return tl::unexpected{services_->endpoints.error(request_.endpoint)};
      if (services_->endpoints.status(request_.endpoint) != Status::kActive) return false;
      if (is_response(request_.channel)) return finish();  // it wants nothing before it is bound (5.9)
      auto interest = services_->subscriptions.acquire_interest(request_);
      if (!interest) return tl::unexpected{interest.error()};
      interest_ = *interest;
      phase_ = Phase::kInterest;
    }
    if (services_->subscriptions.interest_status(interest_) == Status::kFailed) {
      return refuse(ClientError::kGeneric, "the data plane refused the subscription: channel=" + request_.uri);
    }
    if (services_->subscriptions.interest_status(interest_) != Status::kActive) return false;
    return finish();
  }

  Outcome<void> parse() {
    auto uri = shm::ChannelUri::parse(request_.uri);
    if (!uri) return tl::unexpected{to_command_error(uri.error())};
    const bool is_ipc = uri->media() == shm::ChannelUri::Media::kIpc;
    request_.kind = is_ipc ? SubscriptionKind::kIpc : uri->is_spy() ? SubscriptionKind::kSpy : SubscriptionKind::kNetwork;
    auto params = parse_subscription_params(*uri, services_->world.settings.streams);
    if (!params) return tl::unexpected{params.error()};
    request_.params = std::move(*params);
    if (is_ipc) {
      request_.channel = parse_ipc_channel(*uri);
      return {};
    }
    auto channel = parse_udp_channel(*uri);
    if (!channel) return tl::unexpected{channel.error()};
    request_.channel = std::move(*channel);
    if (request_.kind != SubscriptionKind::kNetwork) return {};
    if (const FeedSettings* const feed = services_->feeds.find(request_.channel)) return enter(*feed);
    return check_addresses(request_.channel);
  }

  // The channel of an A/B feed: its sides are heard instead.
  Outcome<void> enter(const FeedSettings& feed) {
    const auto uri = shm::ChannelUri::parse(feed.a);
    if (!uri) return tl::unexpected{to_command_error(uri.error())};
    auto side = parse_udp_channel(*uri);
    if (!side) return tl::unexpected{side.error()};
    side_ = std::move(*side);
    enter_feed(request_.channel, feed.channel);
    return {};
  }

  Outcome<void> take_endpoint() {
    auto endpoint = services_->endpoints.acquire({.kind = shm::EndpointKind::kReceive,
                                                  .channel = &request_.channel,
                                                  .registration_id = request_.registration_id,
                                                  .socket_sndbuf = request_.params.socket_sndbuf,
                                                  .socket_rcvbuf = request_.params.socket_rcvbuf,
                                                  .first_side = request_.channel.is_feed ? &side_ : nullptr});
    if (!endpoint) return tl::unexpected{endpoint.error()};
    request_.endpoint = *endpoint;
    holds_endpoint_ = true;
    return services_->subscriptions.check_conflicts(request_);
  }

  Outcome<bool> finish() {
    if (request_.kind == SubscriptionKind::kNetwork) {
      // Another client may have come first while this one waited.
      if (auto conflicts = services_->subscriptions.check_conflicts(request_); !conflicts) return tl::unexpected{conflicts.error()};
    }
    if (auto client = services_->clients.ensure(request_.client_id); !client) return tl::unexpected{client.error()};
    const auto added = services_->subscriptions.add(request_, interest_);
    if (!added) return tl::unexpected{added.error()};
    interest_ = shm::kNoSlot;  // the subscription's now
    return answer(*added);
  }

  bool answer(std::uint32_t subscription) {
    const auto& slot = services_->world.subscriptions.slot(subscription);
    services_->world.clients_out.subscription_ready(request_.registration_id, slot.channel_status_counter_id);
    if (slot.kind == static_cast<std::uint32_t>(SubscriptionKind::kNetwork)) {
      services_->images.link_to_images(subscription);
    } else {
      services_->publications.link_to_publications(subscription);
    }
    return true;
  }

  Services* services_;
  SubscriptionTable::Request request_;
  UdpChannel side_;                      // the first one of a feed: where its lane is
  Resolution resolution_;
  Phase phase_{Phase::kParse};
  bool holds_endpoint_{false};
  std::uint32_t interest_{shm::kNoSlot};
};

}  // namespace

OperationPtr add_subscription(Services& services, const shm::AddSubscription& command) {
  auto operation = std::make_unique<AddSubscriptionOperation>(services, command);
  if (operation->step()) return nullptr;
  return operation;
}

void remove_subscription(Services& services, const shm::RemoveRegistration& command) {
  const auto removed = services.subscriptions.remove(command.client_id, command.registration_id);
  if (!removed && !services.is_replayed) return answer_error(services.world, command.correlation_id, removed.error());
  services.world.clients_out.success(command.correlation_id);
}

}  // namespace thalweg::conductor
