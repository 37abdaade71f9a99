#include <fmt/format.h>

#include "controlplane/conductor/command_handlers.hpp"
#include "controlplane/conductor/lookup.hpp"
#include "dataplane/wire/ip.hpp"

// Destinations of manual publications (wire-protocol 5.5, client-protocol 6.5).
namespace thalweg::conductor {
namespace {

using shm::ClientError;

// By the registration id of any client's hold on it, or by its own, which lives on when its first owner is gone.
std::uint32_t find_publication(const Services& services, std::int64_t registration_id) {
  const std::uint32_t held = services.publications.find(std::nullopt, registration_id);
  if (held != shm::kNoSlot) return held;
  for (const std::uint32_t index : services.world.publications.used()) {
    if (services.world.publications.slot(index).desired.registration_id == registration_id) return index;
  }
  return shm::kNoSlot;
}

// The endpoint whose destinations a command may change.
Outcome<std::uint32_t> find_endpoint(const Services& services, std::int64_t client_id, std::int64_t publication_id) {
  World& world = services.world;
  const std::uint32_t publication = find_publication(services, publication_id);
  if (publication == shm::kNoSlot || world.publications.record(publication).is_ipc) {
    return refuse(ClientError::kUnknownPublication, fmt::format("unknown publication client_id={} registration_id={}", client_id, publication_id));
  }
  const std::uint32_t endpoint = world.publications.slot(publication).desired.endpoint;
  const std::string& uri = world.publications.record(publication).channel.uri;
  if (world.endpoints.slot(endpoint).desired.mode != shm::EndpointMode::kManual) {
    return refuse(ClientError::kGeneric, "only publications with control-mode=manual take destinations: channel=" + uri);
  }
  if (world.endpoints.record(endpoint).status == Status::kClosing) {
    return refuse(ClientError::kResourceTemporarilyUnavailable, "endpoint is closing, try again: channel=" + uri);
  }
  return endpoint;
}

Outcome<UdpChannel> parse_send_destination(std::string_view text) {
  const auto uri = shm::ChannelUri::parse(text);
  if (!uri) return tl::unexpected{to_command_error(uri.error())};
  auto channel = check_destination_channel(*uri);
  if (channel && channel->endpoint->port == 0) return refuse_channel(fmt::format("a destination cannot have port 0: channel={}", text));
  return channel;
}

// What adding and removing have in common: who asks for what, and the answer.
class DestinationOperation : public Operation {
 public:
  DestinationOperation(Services& services, const shm::DestinationCommand& command)
      : services_{&services},
        client_id_{command.client_id},
        registration_id_{command.correlation_id},
        publication_id_{command.registration_id},
        uri_{command.channel} {}

  bool step() final {
    const auto outcome = advance();
    if (!outcome) {
      answer_error(services_->world, registration_id_, outcome.error());
      return true;
    }
    if (*outcome) services_->world.clients_out.success(registration_id_);
    return *outcome;
  }

 protected:
  // Goes on as far as it can; true: done.
  virtual Outcome<bool> advance() = 0;

  Services* services_;
  std::int64_t client_id_;
  std::int64_t registration_id_;
  std::int64_t publication_id_;
  std::string uri_;
  UdpChannel channel_;
  std::optional<Lookup> lookup_;
};

// ADD_DESTINATION, from the channel to the answer of the lane that sends there.
class AddDestinationOperation final : public DestinationOperation {
 public:
  using DestinationOperation::DestinationOperation;

 private:
  enum class Phase : std::uint8_t { kParse, kResolve, kLane };

  Outcome<bool> advance() override {
    if (phase_ == Phase::kParse) {
      if (auto parsed = parse(); !parsed) return tl::unexpected{parsed.error()};
    }
    if (phase_ == Phase::kResolve) {
      const auto resolved = resolve();
      if (!resolved || !*resolved) return resolved;
      if (auto added = add(); !added) return tl::unexpected{added.error()};
    }
    return await_lane();
  }

  Outcome<void> parse() {
    if (services_->destinations.find(registration_id_) != shm::kNoSlot) {  // a predecessor had come so far
      phase_ = Phase::kLane;
      return {};
    }
    if (auto endpoint = find_endpoint(*services_, client_id_, publication_id_); !endpoint) return tl::unexpected{endpoint.error()};
    auto channel = parse_send_destination(uri_);
    if (!channel) return tl::unexpected{channel.error()};
    channel_ = std::move(*channel);
    phase_ = Phase::kResolve;
    return {};
  }

  // A name that means nothing yet is no error: it is asked for again (5.12).
  Outcome<bool> resolve() {
    World& world = services_->world;
    if (!channel_.endpoint->is_resolved) {
      if (!lookup_) lookup_.emplace(world, channel_.endpoint->host);
      const auto& address = lookup_->poll(world);
      if (!address) return false;
      if (*address) {
        set_resolved(channel_, lookup_->host(), **address);
      } else {
        world.report(address->error());
      }
    }
    if (wire::is_group(channel_.endpoint->address)) return refuse_channel("a group cannot be a destination, publish to it: channel=" + uri_);
    return true;
  }

  Outcome<void> add() {
    const auto endpoint = find_endpoint(*services_, client_id_, publication_id_);  // it may have ended meanwhile
    if (!endpoint) return tl::unexpected{endpoint.error()};
    const auto added = services_->destinations.add({.kind = shm::DestinationKind::kSend,
                                                    .endpoint = *endpoint,
                                                    .registration_id = registration_id_,
                                                    .client_id = client_id_,
                                                    .uri = uri_,
                                                    .channel = &channel_});
    if (!added) return tl::unexpected{added.error()};
    phase_ = Phase::kLane;
    return {};
  }

  Outcome<bool> await_lane() {
    DestinationTable& destinations = services_->destinations;
    const std::uint32_t destination = destinations.find(registration_id_);
    if (destination == shm::kNoSlot) {
      return refuse(ClientError::kUnknownPublication, fmt::format("publication registration_id={} ended while a destination was added", publication_id_));
    }
    if (destinations.status(destination) == Status::kStarting) return false;
    if (destinations.status(destination) == Status::kActive) return true;
    const CommandError error = destinations.error(destination);
    destinations.remove(destination);
    return tl::unexpected{error};
  }

  Phase phase_{Phase::kParse};
};

// REMOVE_DESTINATION. It is gone then, or was never there: both are what was asked for. A name that nobody added stands for an address.
class RemoveDestinationOperation final : public DestinationOperation {
 public:
  using DestinationOperation::DestinationOperation;

 private:
  Outcome<bool> advance() override {
    const auto endpoint = find_endpoint(*services_, client_id_, publication_id_);
    if (!endpoint) return tl::unexpected{endpoint.error()};
    if (!lookup_) {
      auto channel = parse_send_destination(uri_);
      if (!channel) return tl::unexpected{channel.error()};
      channel_ = std::move(*channel);
    }
    std::uint32_t destination = services_->destinations.find_at(*endpoint, *channel_.endpoint);
    if (destination == shm::kNoSlot && !channel_.endpoint->is_resolved) {
      if (!lookup_) lookup_.emplace(services_->world, channel_.endpoint->host);
      const auto& address = lookup_->poll(services_->world);
      if (!address) return false;
      if (!*address) return true;  // it means nothing, so nothing is sent there
      set_resolved(channel_, lookup_->host(), **address);
      destination = services_->destinations.find_at(*endpoint, *channel_.endpoint);
    }
    services_->destinations.remove(destination);
    return true;
  }
};

Outcome<void> remove_destination_by_id(Services& services, const shm::RemoveDestinationById& command) {
  const auto endpoint = find_endpoint(services, command.client_id, command.publication_registration_id);
  if (!endpoint) return tl::unexpected{endpoint.error()};
  const std::uint32_t destination = services.destinations.find(command.destination_registration_id);
  const bool is_its = destination != shm::kNoSlot && services.world.destinations.slot(destination).desired.endpoint == *endpoint;
  if (is_its) services.destinations.remove(destination);
  return {};
}

}  // namespace

OperationPtr add_send_destination(Services& services, const shm::DestinationCommand& command) {
  auto operation = std::make_unique<AddDestinationOperation>(services, command);
  if (operation->step()) return nullptr;
  return operation;
}

OperationPtr remove_send_destination(Services& services, const shm::DestinationCommand& command) {
  auto operation = std::make_unique<RemoveDestinationOperation>(services, command);
  if (operation->step()) return nullptr;
  return operation;
}

void remove_send_destination(Services& services, const shm::RemoveDestinationById& command) {
  const auto removed = remove_destination_by_id(services, command);
  if (!removed) return answer_error(services.world, command.correlation_id, removed.error());
  services.world.clients_out.success(command.correlation_id);
}

}  // namespace thalweg::conductor
