#include "controlplane/conductor/relay_service.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace thalweg::conductor {
namespace {

using shm::ClientError;

constexpr std::int64_t kRetry_ns = kSecond_ns;

Outcome<void> check_channel(const UdpChannel& channel) {
  if (!channel.endpoint || channel.endpoint->port == 0) return refuse_channel("it needs an endpoint with a port: channel=" + channel.uri);
  if (channel.control_mode != ControlMode::kNone) return refuse(ClientError::kNotSupported, "no control-mode is supported here: channel=" + channel.uri);
  return {};
}

}  // namespace

RelayService::RelayService(World& world, EndpointTable& endpoints, PublicationTable& publications, SubscriptionTable& subscriptions)
    : world_{&world}, endpoints_{&endpoints}, publications_{&publications}, subscriptions_{&subscriptions} {
  for (const RelaySettings& settings : world.settings.relays) {
    Relay relay;
    relay.settings = &settings;
    relays_.push_back(std::move(relay));
  }
}

void RelayService::report(const Relay& relay, const CommandError& error) {
  world_->report_of_peer({error.code, fmt::format("relay {}: {}", relay.settings->name, error.text)});   // of a stream, perhaps
}

// ---- on the way to running ----

void RelayService::poll() {
  for (Relay& relay : relays_) {
    if (relay.phase != Phase::kRunning) {
      if (world_->now.now_ns < relay.retry_ns || !world_->is_data_plane_active()) continue;
      const auto is_running = advance(relay);
      if (!is_running) {
        report(relay, is_running.error());
        give_back(relay);
        relay.phase = Phase::kParse;
        relay.retry_ns = world_->now.now_ns + kRetry_ns;
      }
      if (!is_running || !*is_running) continue;
      relay.phase = Phase::kRunning;
    }
    end_streams(relay);
    add_streams(relay);
  }
}

Outcome<bool> RelayService::advance(Relay& relay) {
  if (relay.phase == Phase::kParse) {
    if (auto parsed = parse(relay); !parsed) return tl::unexpected{parsed.error()};
    relay.phase = Phase::kResolve;
  }
  if (relay.phase == Phase::kResolve) {
    for (auto [resolution, channel] : {std::pair{&relay.source_resolution, &relay.source.channel}, std::pair{&relay.channel_resolution, &relay.channel}}) {
      const auto resolved = resolution->poll(*world_, *channel);
      if (!resolved || !*resolved) return resolved;
    }
    if (auto taken = take_endpoints(relay); !taken) return tl::unexpected{taken.error()};
    relay.phase = Phase::kEndpoints;
  }
  if (relay.phase == Phase::kEndpoints) {
    const auto are_there = await_endpoints(relay);
    if (!are_there || !*are_there) return are_there;
    relay.phase = Phase::kInterest;
  }
  return relay.subscription != shm::kNoSlot ? Outcome<bool>{true} : await_interest(relay);
}

Outcome<void> RelayService::parse(Relay& relay) {
  const RelaySettings& settings = *relay.settings;
  const auto from = shm::ChannelUri::parse(settings.from);
  if (!from) return tl::unexpected{to_command_error(from.error())};
  const auto to = shm::ChannelUri::parse(settings.to);
  if (!to) return tl::unexpected{to_command_error(to.error())};
  const bool are_udp = from->media() == shm::ChannelUri::Media::kUdp && to->media() == shm::ChannelUri::Media::kUdp && !from->is_spy() && !to->is_spy();
  if (!are_udp) return refuse_channel(fmt::format("both ends are aeron:udp channels: from={} to={}", settings.from, settings.to));
  auto source = parse_udp_channel(*from);
  if (!source) return tl::unexpected{source.error()};
  auto channel = parse_udp_channel(*to);
  if (!channel) return tl::unexpected{channel.error()};
  for (const UdpChannel* each : {&*source, &*channel}) {
    if (auto check = check_channel(*each); !check) return check;
  }
  auto source_params = parse_subscription_params(*from, world_->settings.streams);
  if (!source_params) return tl::unexpected{source_params.error()};
  auto params = parse_publication_params(*to, world_->settings.streams, channel->is_multicast);
  if (!params) return tl::unexpected{params.error()};
  if (params->response_correlation_id != kNoCorrelation) return refuse_channel("a relay is neither asked nor answered: channel=" + settings.to);
  relay.source.client_id = kRelayClientId;
  relay.source.stream_id = settings.stream_id;
  relay.source.kind = SubscriptionKind::kRelay;
  relay.source.uri = settings.from;
  relay.source.channel = std::move(*source);
  relay.source.params = std::move(*source_params);
  relay.channel = std::move(*channel);
  relay.params = std::move(*params);
  return {};
}

Outcome<void> RelayService::take_endpoints(Relay& relay) {
  // Whether it is a group is known only now, and flow control depends on it.
  if (const auto to = shm::ChannelUri::parse(relay.settings->to)) {
    auto params = parse_publication_params(*to, world_->settings.streams, has_group_semantics(relay.channel));
    if (!params) return tl::unexpected{params.error()};
    relay.params = std::move(*params);
  }
  auto endpoint = endpoints_->acquire({.kind = shm::EndpointKind::kSend,
                                       .channel = &relay.channel,
                                       .registration_id = world_->ring.next_correlation_id(),
                                       .socket_sndbuf = relay.params.socket_sndbuf,
                                       .socket_rcvbuf = relay.params.socket_rcvbuf});
  if (!endpoint) return tl::unexpected{endpoint.error()};
  relay.endpoint = *endpoint;
  if (relay.subscription != shm::kNoSlot) return {};
  relay.source.registration_id = world_->ring.next_correlation_id();
  auto source = endpoints_->acquire({.kind = shm::EndpointKind::kReceive,
                                     .channel = &relay.source.channel,
                                     .registration_id = relay.source.registration_id,
                                     .socket_sndbuf = relay.source.params.socket_sndbuf,
                                     .socket_rcvbuf = relay.source.params.socket_rcvbuf});
  if (!source) return tl::unexpected{source.error()};
  relay.source.endpoint = relay.source_endpoint = *source;
  return subscriptions_->check_conflicts(relay.source);
}

Outcome<bool> RelayService::await_endpoints(Relay& relay) {
  for (const std::uint32_t endpoint : {relay.endpoint, relay.source_endpoint}) {
    if (endpoint == shm::kNoSlot) continue;
    if (endpoints_->status(endpoint) == Status::kFailed) return tl::unexpected{endpoints_->error(endpoint)};
    if (endpoints_->status(endpoint) != Status::kActive) return false;
  }
  return true;
}

Outcome<bool> RelayService::await_interest(Relay& relay) {
  if (relay.interest == shm::kNoSlot) {
    const auto interest = subscriptions_->acquire_interest(relay.source);
    if (!interest) return tl::unexpected{interest.error()};
    relay.interest = *interest;
    endpoints_->release(relay.source_endpoint);   // the interest holds it now
    relay.source_endpoint = shm::kNoSlot;
  }
  const Status status = subscriptions_->interest_status(relay.interest);
  if (status == Status::kFailed) return refuse(ClientError::kGeneric, "the data plane refused the subscription: channel=" + relay.source.uri);
  if (status != Status::kActive) return false;
  const auto subscription = subscriptions_->add(relay.source, relay.interest);
  if (!subscription) return tl::unexpected{subscription.error()};
  relay.interest = shm::kNoSlot;
  relay.subscription = *subscription;
  return true;
}

void RelayService::give_back(Relay& relay) {
  if (relay.interest != shm::kNoSlot) subscriptions_->release_interest(relay.interest);
  for (const std::uint32_t endpoint : {relay.endpoint, relay.source_endpoint}) {
    if (endpoint != shm::kNoSlot) endpoints_->release(endpoint);
  }
  relay.interest = relay.endpoint = relay.source_endpoint = shm::kNoSlot;
}

// ---- streams ----

bool RelayService::is_running(std::uint32_t image) const {
  return world_->images.is_used(image) && world_->images.desired(image) == shm::Desired::kActive && !world_->images.record(image).is_end_told;
}

// Ended with their images, or refused by the data plane.
void RelayService::end_streams(Relay& relay) {
  std::erase_if(relay.streams, [&](Stream& stream) {
    const bool is_same = world_->images.is_used(stream.image) && world_->images.slot(stream.image).desired.generation == stream.generation;
    const bool has_ended = !is_same || !is_running(stream.image);
    const std::uint32_t publication = stream.registration_id == 0 ? shm::kNoSlot : publications_->find(kRelayClientId, stream.registration_id);
    const bool has_failed = publication != shm::kNoSlot && publications_->status(publication) == Status::kFailed;
    if (has_failed) report(relay, publications_->error(publication));
    if ((has_ended || has_failed) && publication != shm::kNoSlot) {
      const bool is_revoked = is_same && world_->images.slot(stream.image).observed.state.is_revoked != 0;
      static_cast<void>(publications_->remove(kRelayClientId, stream.registration_id, is_revoked));   // it was found above
      stream.registration_id = 0;
    }
    return has_ended;
  });
}

void RelayService::add_streams(Relay& relay) {
  const std::vector<std::uint32_t> images = world_->images.used();
  for (const std::uint32_t image : images) {
    const auto& wanted = world_->images.slot(image).desired;
    const bool is_known = std::any_of(relay.streams.begin(), relay.streams.end(), [&](const Stream& stream) { return stream.image == image; });
    if (is_known || !is_running(image) || !subscriptions_->wants(relay.subscription, wanted.endpoint, wanted.stream_id, wanted.session_id)) continue;
    add_stream(relay, image);
  }
}

void RelayService::add_stream(Relay& relay, std::uint32_t image) {
  const auto& source = world_->images.slot(image).desired;
  PublicationTable::Request request;
  request.client_id = kRelayClientId;
  request.registration_id = world_->ring.next_correlation_id();
  request.stream_id = relay.settings->to_stream_id.value_or(source.stream_id);
  request.is_exclusive = true;
  request.uri = relay.settings->to;
  request.channel = relay.channel;
  request.params = relay.params;
  if (relay.settings->keeps_session) request.params.session_id = source.session_id;
  request.endpoint = relay.endpoint;
  request.source_image = image;
  request.drops_when_slow = relay.settings->drops_when_slow;
  endpoints_->add_reference(relay.endpoint);
  bool used_endpoint = false;
  const auto publication = publications_->add(request, used_endpoint);
  if (!used_endpoint) endpoints_->release(relay.endpoint);
  if (!publication) report(relay, publication.error());
  relay.streams.push_back({image, source.generation, publication ? request.registration_id : 0});
}

// ---- after a restart ----

void RelayService::recover() {
  const std::vector<std::uint32_t> subscriptions = world_->subscriptions.used();
  for (const std::uint32_t index : subscriptions) {
    const auto& slot = world_->subscriptions.slot(index);
    if (slot.client_id != kRelayClientId) continue;
    const std::string& uri = world_->subscriptions.record(index).uri;
    const auto found = std::find_if(relays_.begin(), relays_.end(), [&](const Relay& relay) {
      return relay.subscription == shm::kNoSlot && relay.settings->from == uri && relay.settings->stream_id == slot.stream_id;
    });
    if (found != relays_.end()) {
      found->subscription = index;
    } else {
      static_cast<void>(subscriptions_->remove(kRelayClientId, slot.registration_id));
    }
  }
  const std::vector<std::uint32_t> publications = world_->publications.used();
  for (const std::uint32_t index : publications) {
    const auto& wanted = world_->publications.slot(index).desired;
    if (wanted.owner_client_id == kRelayClientId && wanted.reference_count > 0) adopt(index);
  }
}

void RelayService::adopt(std::uint32_t publication) {
  const auto& wanted = world_->publications.slot(publication).desired;
  const std::string_view uri = world_->registry.text(wanted.text);
  const bool drops = (wanted.flags & shm::PublicationFlags::kDropsWhenSlow) != 0;
  for (Relay& relay : relays_) {
    const RelaySettings& settings = *relay.settings;
    const bool is_its = relay.subscription != shm::kNoSlot && settings.to == uri && settings.stream_id == wanted.source_stream_id &&
                        settings.drops_when_slow == drops && settings.keeps_session == (wanted.session_id == wanted.source_session_id) &&
                        settings.to_stream_id.value_or(settings.stream_id) == wanted.stream_id;
    if (!is_its) continue;
    relay.streams.push_back({wanted.source_image, wanted.source_generation, wanted.registration_id});
    return;
  }
  static_cast<void>(publications_->remove(kRelayClientId, wanted.registration_id, false));
}

}  // namespace thalweg::conductor
