#include "controlplane/conductor/endpoint_table.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "dataplane/base/units.hpp"
#include "dataplane/wire/ip.hpp"

namespace thalweg::conductor {
namespace {

using shm::EndpointKind;

bool has_only_tag(const UdpChannel& channel) noexcept { return !channel.endpoint && !channel.control && channel.control_mode == ControlMode::kNone; }

// May `asked` use an endpoint made for `existing`, the tags being equal? (5.10)
bool is_compatible(const UdpChannel& asked, const UdpChannel& existing) noexcept {
  if (asked.control_mode != ControlMode::kNone && asked.control_mode != existing.control_mode) return false;
  const auto matches = [](const std::optional<ChannelAddress>& a, const std::optional<ChannelAddress>& b) {
    return !a || (wire::is_any(a->address) && a->port == 0) || (b && a->address == b->address && a->port == b->port);
  };
  return matches(asked.endpoint, existing.endpoint) && matches(asked.control, existing.control);
}

// A subscription that hears its destinations opens no socket (5.6), whatever its channel has in common with one that does.
bool has_same_sockets(EndpointKind kind, const UdpChannel& a, const UdpChannel& b) noexcept {
  return kind == EndpointKind::kSend || (a.control_mode == ControlMode::kManual) == (b.control_mode == ControlMode::kManual);
}

// It closes, or will when the interests that alone still hold it have gone.
bool is_on_its_way_out(const World& world, std::uint32_t endpoint) {
  const EndpointRecord& record = world.endpoints.record(endpoint);
  if (record.status == Status::kClosing) return true;
  const auto& interests = world.interests.used();
  const auto going = std::count_if(interests.begin(), interests.end(), [&](std::uint32_t index) {
    return world.interests.slot(index).desired.endpoint == endpoint && world.interests.record(index).status == Status::kClosing;
  });
  return going != 0 && static_cast<std::uint32_t>(going) == record.references;
}

void fill(shm::EndpointSlot::Wanted& wanted, const EndpointTable::Request& request) noexcept {
  const UdpChannel& channel = *request.channel;
  wanted.kind = request.kind;
  wanted.ttl = channel.ttl;
  wanted.is_multicast = channel.is_multicast ? 1 : 0;
  wanted.interface_address = channel.interface_address;
  wanted.prefix_length = channel.prefix_length;
  wanted.has_group_tag = channel.group_tag.has_value() ? 1 : 0;
  wanted.group_tag = channel.group_tag.value_or(0);
  wanted.socket_sndbuf = request.socket_sndbuf;
  wanted.socket_rcvbuf = request.socket_rcvbuf;
  wanted.registration_id = request.registration_id;
  wanted.media_receive_timestamp = channel.timestamps.media_receive;
  wanted.channel_receive_timestamp = channel.timestamps.channel_receive;
  wanted.channel_send_timestamp = channel.timestamps.channel_send;
  wanted.parent = request.parent;
  const bool is_send = request.kind == EndpointKind::kSend;
  if (!is_send && channel.control_mode == ControlMode::kManual) {  // opens no socket (5.6)
    wanted.mode = shm::EndpointMode::kManual;
    if (request.first_side == nullptr || !request.first_side->endpoint) return;
    const UdpChannel& side = *request.first_side;   // its address says which port it is on, no more
    wanted.local_address = side.endpoint->address;
    wanted.local_port = side.endpoint->port;
    wanted.is_multicast = side.is_multicast ? 1 : 0;
    wanted.interface_address = side.interface_address;
    wanted.prefix_length = side.prefix_length;
    return;
  }
  if (channel.is_multicast) {  // the control group follows from the data group; `control` has no say (5.3)
    const ChannelAddress& group = *channel.endpoint;
    wanted.local_address = is_send ? 0 : group.address;
    wanted.local_port = is_send ? channel.interface_port : group.port;
    wanted.remote_address = is_send ? group.address : wire::control_group(group.address);
    wanted.remote_port = group.port;
    return;
  }
  const bool is_fan_out = is_send && has_group_semantics(channel);   // many destinations, none of its own (5.5)
  if (is_fan_out) wanted.mode = channel.control_mode == ControlMode::kDynamic ? shm::EndpointMode::kDynamic : shm::EndpointMode::kManual;
  const auto& local = is_send ? channel.control : channel.endpoint;
  const std::optional<ChannelAddress> remote = is_fan_out ? std::optional<ChannelAddress>{} : is_send ? channel.endpoint : channel.control;
  if (local) {
    wanted.local_address = local->address;
    wanted.local_port = local->port;
  } else if (is_send) {
    wanted.local_address = channel.interface_address;
    wanted.local_port = channel.interface_port;
  }
  const bool is_answering = is_send && is_response(channel);  // where to each of its publications learns by itself (5.9)
  if (is_answering) wanted.mode = shm::EndpointMode::kResponse;
  if (remote && !is_answering) {
    wanted.remote_address = remote->address;
    wanted.remote_port = remote->port;
  }
}

}  // namespace

Outcome<std::uint32_t> EndpointTable::find(const Request& request) const {
  const UdpChannel& asked = *request.channel;
  for (const std::uint32_t index : world_->endpoints.used()) {
    const EndpointRecord& record = world_->endpoints.record(index);
    const auto& existing = world_->endpoints.slot(index).desired;
    if (existing.kind != request.kind || existing.parent != shm::kNoSlot) continue;
    if (asked.tag) {
      if (asked.tag != record.channel.tag) continue;
      if (is_compatible(asked, record.channel)) return index;
      return refuse_channel(fmt::format("matching tag {} has mismatched endpoint or control: existing={} requested={}", *asked.tag, record.channel.uri, asked.uri));
    }
    if (!record.channel.tag && !asked.canonical.empty() && asked.canonical == record.channel.canonical && has_same_sockets(request.kind, asked, record.channel)) return index;
  }
  return shm::kNoSlot;
}

Outcome<std::uint32_t> EndpointTable::acquire(const Request& request) {
  if (request.parent != shm::kNoSlot) {
    auto destination = create(request);
    if (destination) add_reference(request.parent);
    return destination;
  }
  const auto found = find(request);
  if (!found) return found;
  if (*found == shm::kNoSlot) {
    if (has_only_tag(*request.channel)) {
      return refuse_channel("no existing endpoint has the tag of channel=" + request.channel->uri);
    }
    return create(request);
  }
  EndpointRecord& record = world_->endpoints.record(*found);
  if (record.status == Status::kClosing) {  // without references it is what a predecessor made for this command
    return refuse(shm::ClientError::kResourceTemporarilyUnavailable, "endpoint is closing, try again: channel=" + request.channel->uri);
  }
  // Receivers are the same in every mode; with a tag it was looked at.
  const bool is_mode_equal = request.kind == EndpointKind::kReceive || request.channel->tag || request.channel->control_mode == record.channel.control_mode;
  if (!is_mode_equal) return refuse_channel(fmt::format("existing endpoint has a different 'control-mode': existing={} requested={}", record.channel.uri, request.channel->uri));
  const auto& wanted = world_->endpoints.slot(*found).desired;
  const auto conflicts = [&](const char* option, std::int32_t existing, std::int32_t requested) {
    return refuse_channel(fmt::format("existing endpoint has different '{}': existing={} requested={} channel={}", option, existing, requested, request.channel->uri));
  };
  if (request.channel->timestamps != record.channel.timestamps) {
    return refuse_channel(fmt::format("existing endpoint has other timestamp offsets (media-rcv-ts-offset, channel-rcv-ts-offset, channel-snd-ts-offset): existing={} requested={}",
                                      record.channel.uri, request.channel->uri));
  }
  if (request.socket_sndbuf != 0 && request.socket_sndbuf != wanted.socket_sndbuf) return conflicts("so-sndbuf", wanted.socket_sndbuf, request.socket_sndbuf);
  if (request.socket_rcvbuf != 0 && request.socket_rcvbuf != wanted.socket_rcvbuf) return conflicts("so-rcvbuf", wanted.socket_rcvbuf, request.socket_rcvbuf);
  ++record.references;
  return *found;
}

Outcome<std::uint32_t> EndpointTable::create(const Request& request) {
  const auto text = world_->keep_text(request.channel->uri);
  if (!text) return tl::unexpected{text.error()};
  const auto index = world_->endpoints.allocate();
  if (!index) {
    world_->registry.free_text(*text);
    return refuse(shm::ClientError::kGeneric, fmt::format("all {} endpoints are in use", shm::kEndpointsMax));
  }
  EndpointRecord& record = world_->endpoints.record(*index);
  record.channel = *request.channel;
  record.references = 1;
  auto& wanted = world_->endpoints.slot(*index).desired;
  fill(wanted, request);
  if (const auto tag = world_->settings.streams.receiver_group_tag; tag && request.kind == EndpointKind::kReceive && !wanted.has_group_tag) {
    wanted.has_group_tag = 1;
    wanted.group_tag = *tag;
  }
  if (wanted.ttl == 0) wanted.ttl = world_->settings.streams.multicast_ttl;   // the SETUPs go on saying what the channel says (1.5)
  wanted.text = *text;
  world_->endpoints.publish(*index);
  world_->bells.ring(shm::SlotKind::kEndpoint, *index);
  return *index;
}

bool EndpointTable::is_letting_go(const UdpChannel& channel, bool is_destination) const {
  if (channel.canonical.empty()) return false;
  return std::any_of(world_->endpoints.used().begin(), world_->endpoints.used().end(), [&](std::uint32_t index) {
    const EndpointRecord& record = world_->endpoints.record(index);
    const auto& wanted = world_->endpoints.slot(index).desired;
    const bool is_in_the_way = wanted.kind == EndpointKind::kReceive && (is_destination || wanted.parent != shm::kNoSlot) &&
                               has_same_sockets(wanted.kind, channel, record.channel);
    return is_in_the_way && record.channel.canonical == channel.canonical && is_on_its_way_out(*world_, index);
  });
}

void EndpointTable::release(std::uint32_t endpoint) {
  EndpointRecord& record = world_->endpoints.record(endpoint);
  if (--record.references == 0) close(endpoint);
}

void EndpointTable::close(std::uint32_t endpoint) {
  destinations_->remove_all_of_endpoint(endpoint);
  world_->endpoints.record(endpoint).status = Status::kClosing;
  set_channel_status(endpoint, shm::channel_status::kClosing);
  world_->endpoints.close(endpoint);
  world_->bells.ring(shm::SlotKind::kEndpoint, endpoint);
}

bool EndpointTable::change_remote(std::uint32_t endpoint, std::uint32_t address) {
  EndpointRecord& record = world_->endpoints.record(endpoint);
  auto& wanted = world_->endpoints.slot(endpoint).desired;
  auto& remote = wanted.kind == EndpointKind::kSend ? record.channel.endpoint : record.channel.control;
  if (record.status != Status::kActive || !remote || remote->address == address) return false;
  remote->address = address;
  record.is_move_refused = false;
  std::atomic_ref{wanted.remote_address}.store(address, std::memory_order_relaxed);  // the bell releases it
  world_->bells.ring(shm::SlotKind::kEndpoint, endpoint);
  return true;
}

void EndpointTable::set_channel_status(std::uint32_t endpoint, std::int64_t status) noexcept {
  const auto& wanted = world_->endpoints.slot(endpoint).desired;
  for (const std::int32_t id : {wanted.channel_status_id, wanted.local_sockaddr_id}) {
    if (id >= 0) world_->counters.counter(id).set(status);
  }
}

// Those that a predecessor has not made already.
bool EndpointTable::allocate_counters(std::uint32_t endpoint) {
  const auto& slot = world_->endpoints.slot(endpoint);
  auto& wanted = world_->endpoints.slot(endpoint).desired;
  const bool is_send = wanted.kind == EndpointKind::kSend;
  const std::string& uri = world_->endpoints.record(endpoint).channel.uri;
  const bool has_socket = wanted.mode != shm::EndpointMode::kManual || is_send;
  const std::string bound = has_socket ? world_->registry->addresses.format_endpoint(slot.observed.bound_address, slot.observed.bound_port) : std::string{};
  if (wanted.parent != shm::kNoSlot) return allocate_address_counter(endpoint, world_->endpoints.slot(wanted.parent).desired.channel_status_id, bound);
  const auto key = shm::channel_key(uri);
  const std::string label = fmt::format("{}: {} {}", is_send ? "snd-channel" : "rcv-channel", uri, bound);
  if (wanted.channel_status_id < 0) {
    wanted.channel_status_id = world_->allocate_counter({.type_id = is_send ? shm::counter_type::kSendChannelStatus : shm::counter_type::kReceiveChannelStatus,
                                                         .key = key.span(),
                                                         .label = label,
                                                         .registration_id = wanted.registration_id,
                                                         .initial_value = shm::channel_status::kActive});
  }
  if (wanted.channel_status_id < 0) return false;
  const bool has_count = is_send && (wanted.mode == shm::EndpointMode::kDynamic || wanted.mode == shm::EndpointMode::kManual);
  if (has_count && wanted.destination_count_id < 0) {
    wanted.destination_count_id = world_->allocate_counter({.type_id = shm::counter_type::kMdcDestinations,
                                                            .key = key.span(),
                                                            .label = "mdc-num-dest: " + uri,
                                                            .registration_id = wanted.registration_id,
                                                            .initial_value = 0});
    if (wanted.destination_count_id < 0) return false;
  }
  return !has_socket || allocate_address_counter(endpoint, wanted.channel_status_id, bound);
}

bool EndpointTable::allocate_address_counter(std::uint32_t endpoint, std::int32_t channel_status_id, const std::string& bound) {
  auto& wanted = world_->endpoints.slot(endpoint).desired;
  if (wanted.local_sockaddr_id >= 0) return true;
  const auto address_key = shm::sockaddr_key(channel_status_id, bound);
  const std::string_view name = wanted.kind == EndpointKind::kSend ? "snd-local-sockaddr" : "rcv-local-sockaddr";
  const std::string address_label = fmt::format("{}: {} {}", name, channel_status_id, bound);
  wanted.local_sockaddr_id = world_->allocate_counter({.type_id = shm::counter_type::kLocalSockaddr,
                                                       .key = address_key.span(),
                                                       .label = address_label,
                                                       .registration_id = wanted.registration_id,
                                                       .initial_value = shm::channel_status::kActive});
  return wanted.local_sockaddr_id >= 0;
}

void EndpointTable::service(std::uint32_t endpoint) {
  if (!world_->endpoints.is_used(endpoint)) return;
  EndpointRecord& record = world_->endpoints.record(endpoint);
  const auto& slot = world_->endpoints.slot(endpoint);
  const shm::Observed observed = host::observed_state(slot);
  if (record.status == Status::kStarting && observed == shm::Observed::kActive) {
    if (allocate_counters(endpoint)) {
      record.status = Status::kActive;
    } else {
      record.status = Status::kFailed;
      record.error = {shm::ClientError::kGeneric, "max counter id exceeded"};
    }
  } else if (record.status == Status::kStarting && observed == shm::Observed::kFailed) {
    record.status = Status::kFailed;
    record.error = slot_error(slot.observed.error);
  } else if (record.status == Status::kActive && observed == shm::Observed::kFailed) {
    report_loss(endpoint);
  } else if (record.status == Status::kFailed && observed == shm::Observed::kActive && allocate_counters(endpoint)) {  // it is there again
    record.status = Status::kActive;
    record.error = {};
    set_channel_status(endpoint, shm::channel_status::kActive);
  } else if (record.status == Status::kActive) {
    report_refused_move(endpoint);
  } else if (record.status == Status::kClosing && observed == shm::Observed::kDone) {
    world_->free_counter(slot.desired.local_sockaddr_id);
    world_->free_counter(slot.desired.destination_count_id);
    world_->free_counter(slot.desired.channel_status_id);
    world_->registry.free_text(slot.desired.text);
    const std::uint32_t parent = slot.desired.parent;
    world_->endpoints.release(endpoint);
    if (parent != shm::kNoSlot) release(parent);
  }
}

// The steward could not follow change_remote(): the streams stay where they are, and the operator is told once.
void EndpointTable::report_refused_move(std::uint32_t endpoint) {
  EndpointRecord& record = world_->endpoints.record(endpoint);
  const shm::SlotError& error = world_->endpoints.slot(endpoint).observed.error;
  if (error.code == 0 || record.is_move_refused) return;
  record.is_move_refused = true;
  CommandError refusal = slot_error(error);
  refusal.text = fmt::format("its host's new address is not followed, channel={}: {}", record.channel.uri, refusal.text);
  world_->report(refusal);
}

// A data plane that restarted could not open it again: whoever has it sees its channel's status, and whoever wants it is told why not. The data
// plane goes on trying.
void EndpointTable::report_loss(std::uint32_t endpoint) {
  EndpointRecord& record = world_->endpoints.record(endpoint);
  record.status = Status::kFailed;
  record.error = slot_error(world_->endpoints.slot(endpoint).observed.error);
  set_channel_status(endpoint, shm::channel_status::kErrored);
  world_->report({record.error.code, fmt::format("the restarted data plane cannot open its channel again, channel={}: {}", record.channel.uri, record.error.text)});
}

void EndpointTable::release_if_unused(std::uint32_t endpoint) {
  const EndpointRecord& record = world_->endpoints.record(endpoint);
  if (record.references == 0 && record.status != Status::kClosing) close(endpoint);
}

void EndpointTable::recover(std::uint32_t endpoint) {
  EndpointRecord& record = world_->endpoints.record(endpoint);
  const auto& wanted = world_->endpoints.slot(endpoint).desired;
  record.status = world_->endpoints.desired(endpoint) == shm::Desired::kClosing ? Status::kClosing : Status::kStarting;
  if (wanted.parent != shm::kNoSlot) add_reference(wanted.parent);
  const std::string text{world_->registry.text(wanted.text)};
  const auto uri = shm::ChannelUri::parse(text);
  if (!uri) return;
  auto channel = parse_udp_channel(*uri);
  if (!channel) return;
  if (wanted.mode == shm::EndpointMode::kManual && wanted.kind == EndpointKind::kReceive && channel->control_mode != ControlMode::kManual) {
    enter_feed(record.channel, text);
    return;
  }
  const bool is_send = wanted.kind == EndpointKind::kSend;
  const auto settle = [](std::optional<ChannelAddress>& address, std::uint32_t known) {
    if (address && !address->is_resolved) {
      address->address = known;
      address->is_resolved = true;
    }
  };
  settle(channel->endpoint, is_send ? wanted.remote_address : wanted.local_address);
  settle(channel->control, is_send ? wanted.local_address : wanted.remote_address);
  if (!channel->interface_host.empty()) set_resolved(*channel, std::string{channel->interface_host}, wanted.interface_address);
  static_cast<void>(finish_channel(*channel));  // it passed when the endpoint was made
  record.channel = std::move(*channel);
}

}  // namespace thalweg::conductor
