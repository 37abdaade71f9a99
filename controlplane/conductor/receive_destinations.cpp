#include "controlplane/conductor/receive_destinations.hpp"

#include <fmt/format.h>

#include <array>

#include "controlplane/conductor/resolution.hpp"

namespace thalweg::conductor {

using shm::DestinationKind;

namespace {

bool is_receive_kind(DestinationKind kind) noexcept { return kind != DestinationKind::kSend; }

// What belongs to the subscription's channel, or to no destination at all.
Outcome<void> check_keys(const shm::ChannelUri& uri) {
  static constexpr std::array<std::string_view, 5> kForbidden{"mtu", "rcv-wnd", "so-rcvbuf", "so-sndbuf", "response-correlation-id"};
  for (const std::string_view key : kForbidden) {
    if (uri.has(key)) return refuse_channel(fmt::format("a destination must not have '{}', it belongs to the subscription's channel: channel={}", key, uri.to_string()));
  }
  return {};
}

Outcome<void> check_addresses(const UdpChannel& channel) {
  if (channel.control_mode == ControlMode::kManual) return refuse_channel("a destination cannot have control-mode=manual: channel=" + channel.uri);
  if (channel.control && channel.control->port == 0) return refuse_channel("control port 0 is not allowed on a destination: channel=" + channel.uri);
  return {};
}

}  // namespace

Outcome<void> ReceiveDestinations::parse(Request& request) {
  const auto uri = shm::ChannelUri::parse(request.uri);
  if (!uri) return tl::unexpected{to_command_error(uri.error())};
  const bool is_ipc = uri->media() == shm::ChannelUri::Media::kIpc;
  request.kind = is_ipc ? DestinationKind::kIpc : uri->is_spy() ? DestinationKind::kSpy : DestinationKind::kReceive;
  if (request.kind == DestinationKind::kReceive) {
    auto channel = check_destination_channel(*uri);
    if (!channel) return tl::unexpected{channel.error()};
    request.channel = std::move(*channel);
    return check_addresses(request.channel);
  }
  if (auto keys = check_keys(*uri); !keys) return keys;
  const auto session_id = uri->get_int32("session-id");
  if (!session_id) return tl::unexpected{to_command_error(session_id.error())};
  request.session_id = *session_id;
  if (is_ipc) return {};
  auto channel = parse_udp_channel(*uri);
  if (!channel) return tl::unexpected{channel.error()};
  request.channel = std::move(*channel);
  return {};
}

Outcome<std::uint32_t> ReceiveDestinations::add(const Request& request) {
  const auto& subscribed = world_->subscriptions.slot(request.subscription);
  std::uint32_t endpoint = shm::kNoSlot;
  if (request.kind == DestinationKind::kReceive) {
    const SubscriptionParams& params = world_->subscriptions.record(request.subscription).params;
    const auto acquired = endpoints_->acquire({.kind = shm::EndpointKind::kReceive,
                                               .channel = &request.channel,
                                               .registration_id = subscribed.registration_id,
                                               .socket_sndbuf = params.socket_sndbuf,
                                               .socket_rcvbuf = params.socket_rcvbuf,
                                               .parent = subscribed.endpoint});
    if (!acquired) return acquired;
    endpoint = *acquired;
  }
  const auto index = table_.add({.kind = request.kind,
                                 .endpoint = endpoint,
                                 .subscription = request.subscription,
                                 .registration_id = request.registration_id,
                                 .client_id = request.client_id,
                                 .uri = request.uri,
                                 .channel = request.kind == DestinationKind::kIpc ? nullptr : &request.channel});
  if (index) {
    world_->destinations.record(*index).session_id = request.session_id;
  } else if (endpoint != shm::kNoSlot) {
    endpoints_->release(endpoint);
  }
  return index;
}

std::uint32_t ReceiveDestinations::find(std::int64_t registration_id) const {
  const std::uint32_t index = table_.find(registration_id);
  return index != shm::kNoSlot && is_receive_kind(world_->destinations.slot(index).desired.kind) ? index : shm::kNoSlot;
}

std::vector<std::uint32_t> ReceiveDestinations::find_all(const Request& request) const {
  UdpChannel channel = request.channel;
  resolve_literals(*world_, channel);
  const bool has_addresses = request.kind == DestinationKind::kReceive && finish_channel(channel) && !channel.canonical.empty();
  std::vector<std::uint32_t> found;
  for (const std::uint32_t index : world_->destinations.used()) {
    const auto& wanted = world_->destinations.slot(index).desired;
    if (wanted.kind != request.kind || wanted.subscription != request.subscription) continue;
    const DestinationRecord& record = world_->destinations.record(index);
    if (record.uri == request.uri || (has_addresses && record.channel.canonical == channel.canonical)) found.push_back(index);
  }
  return found;
}

void ReceiveDestinations::remove(std::uint32_t destination) {
  const std::uint32_t endpoint = world_->destinations.slot(destination).desired.endpoint;
  table_.remove(destination);
  if (endpoint != shm::kNoSlot) endpoints_->release(endpoint);
}

void ReceiveDestinations::remove_all_of(std::uint32_t subscription) {
  const std::vector<std::uint32_t> destinations = world_->destinations.used();
  for (const std::uint32_t index : destinations) {
    const auto& wanted = world_->destinations.slot(index).desired;
    if (is_receive_kind(wanted.kind) && wanted.subscription == subscription) remove(index);
  }
}

void ReceiveDestinations::recover() {
  const std::vector<std::uint32_t> destinations = world_->destinations.used();
  for (const std::uint32_t index : destinations) {
    const auto& wanted = world_->destinations.slot(index).desired;
    if (!is_receive_kind(wanted.kind)) continue;
    if (wanted.endpoint != shm::kNoSlot) endpoints_->add_reference(wanted.endpoint);
    if (!world_->subscriptions.is_used(wanted.subscription)) {
      remove(index);
      continue;
    }
    DestinationRecord& record = world_->destinations.record(index);
    Request request;
    request.uri = record.uri;
    if (parse(request)) record.session_id = request.session_id;  // it passed when it was added
    if (wanted.endpoint != shm::kNoSlot) {
      record.channel = world_->endpoints.record(wanted.endpoint).channel;
    } else if (wanted.kind == DestinationKind::kSpy) {
      resolve_literals(*world_, record.channel);
      static_cast<void>(finish_channel(record.channel));  // likewise
    }
  }
}

}  // namespace thalweg::conductor
