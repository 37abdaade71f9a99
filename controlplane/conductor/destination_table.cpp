#include "controlplane/conductor/destination_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace thalweg::conductor {

using shm::DestinationKind;

Outcome<UdpChannel> check_destination_channel(const shm::ChannelUri& uri) {
  constexpr std::array<std::string_view, 5> kNotOfADestination{"mtu", "rcv-wnd", "so-rcvbuf", "so-sndbuf", "response-correlation-id"};
  const auto refuse_it = [&uri](std::string_view why) { return refuse_channel(fmt::format("a destination {}: channel={}", why, uri.to_string())); };
  if (uri.is_spy()) return refuse_it("cannot be a spy");
  if (uri.media() != shm::ChannelUri::Media::kUdp) return refuse_it("must be aeron:udp");
  if (!uri.has("endpoint")) return refuse_it("needs an endpoint");
  for (const std::string_view key : kNotOfADestination) {
    if (uri.has(key)) return refuse_it(fmt::format("cannot have '{}', which belongs to the channel that it is added to", key));
  }
  auto channel = parse_udp_channel(uri);
  if (channel && channel->control_mode == ControlMode::kResponse) return refuse_it("cannot have control-mode=response");
  return channel;
}

Outcome<std::uint32_t> DestinationTable::add(const Request& request) {
  const auto text = world_->keep_text(request.uri);
  if (!text) return tl::unexpected{text.error()};
  const auto index = world_->destinations.allocate();
  if (!index) {
    world_->registry.free_text(*text);
    return refuse(shm::ClientError::kGeneric, fmt::format("all {} destinations are in use", shm::kDestinationsMax));
  }
  DestinationRecord& record = world_->destinations.record(*index);
  record.uri = std::string{request.uri};
  if (request.channel != nullptr) record.channel = *request.channel;
  const bool is_send = request.kind == DestinationKind::kSend;
  record.status = is_send ? Status::kStarting : Status::kActive;
  auto& wanted = world_->destinations.slot(*index).desired;
  wanted.kind = request.kind;
  wanted.endpoint = request.endpoint;
  wanted.subscription = request.subscription;
  wanted.registration_id = request.registration_id;
  wanted.client_id = request.client_id;
  wanted.text = *text;
  if (is_send && record.channel.endpoint) {
    wanted.remote_address = record.channel.endpoint->address;
    wanted.remote_port = record.channel.endpoint->port;
  }
  world_->destinations.publish(*index);
  if (is_send) world_->bells.ring(shm::SlotKind::kDestination, *index);
  return *index;
}

std::uint32_t DestinationTable::find(std::int64_t registration_id) const noexcept {
  for (const std::uint32_t index : world_->destinations.used()) {
    if (status(index) != Status::kClosing && world_->destinations.slot(index).desired.registration_id == registration_id) return index;
  }
  return shm::kNoSlot;
}

std::uint32_t DestinationTable::find_at(std::uint32_t endpoint, const ChannelAddress& address) const noexcept {
  std::uint32_t oldest = shm::kNoSlot;
  for (const std::uint32_t index : world_->destinations.used()) {
    const auto& wanted = world_->destinations.slot(index).desired;
    const DestinationRecord& record = world_->destinations.record(index);
    if (wanted.kind != DestinationKind::kSend || wanted.endpoint != endpoint || record.status == Status::kClosing || !record.channel.endpoint) continue;
    const ChannelAddress& known = *record.channel.endpoint;
    const bool is_same_address = known.is_resolved && address.is_resolved && known.address == address.address && known.port == address.port;
    if (known.text != address.text && !is_same_address) continue;
    const bool is_older = oldest == shm::kNoSlot || wanted.registration_id < world_->destinations.slot(oldest).desired.registration_id;
    if (is_older) oldest = index;
  }
  return oldest;
}

void DestinationTable::remove(std::uint32_t destination) {
  if (!world_->destinations.is_used(destination)) return;
  DestinationRecord& record = world_->destinations.record(destination);
  if (world_->destinations.slot(destination).desired.kind != DestinationKind::kSend) return free(destination);
  if (record.status == Status::kClosing) return;
  record.status = Status::kClosing;
  world_->destinations.close(destination);
  world_->bells.ring(shm::SlotKind::kDestination, destination);
}

void DestinationTable::remove_all_of_endpoint(std::uint32_t endpoint) {
  const std::vector<std::uint32_t> all = world_->destinations.used();
  for (const std::uint32_t index : all) {
    const auto& wanted = world_->destinations.slot(index).desired;
    if (wanted.kind == DestinationKind::kSend && wanted.endpoint == endpoint) remove(index);
  }
}

bool DestinationTable::change_remote(std::uint32_t destination, std::uint32_t address) {
  DestinationRecord& record = world_->destinations.record(destination);
  auto& remote = record.channel.endpoint;
  const bool is_there = record.status == Status::kStarting || record.status == Status::kActive;
  if (!is_there || !remote || (remote->is_resolved && remote->address == address)) return false;
  remote->address = address;
  remote->is_resolved = true;
  std::atomic_ref{world_->destinations.slot(destination).desired.remote_address}.store(address, std::memory_order_relaxed);  // the bell releases it
  world_->bells.ring(shm::SlotKind::kDestination, destination);
  return true;
}

void DestinationTable::service(std::uint32_t destination) {
  if (!world_->destinations.is_used(destination)) return;
  const auto& slot = world_->destinations.slot(destination);
  if (slot.desired.kind != DestinationKind::kSend) return;
  DestinationRecord& record = world_->destinations.record(destination);
  const shm::Observed observed = host::observed_state(slot);
  if (record.status == Status::kStarting && observed == shm::Observed::kActive) {
    record.status = Status::kActive;
  } else if (record.status == Status::kStarting && observed == shm::Observed::kFailed) {
    record.status = Status::kFailed;
    record.error = slot_error(slot.observed.error);
  } else if (record.status == Status::kClosing && (observed == shm::Observed::kDone || observed == shm::Observed::kFailed)) {
    free(destination);
  }
}

void DestinationTable::free(std::uint32_t destination) {
  world_->registry.free_text(world_->destinations.slot(destination).desired.text);
  world_->destinations.release(destination);
}

void DestinationTable::recover(std::uint32_t destination) {
  DestinationRecord& record = world_->destinations.record(destination);
  const auto& wanted = world_->destinations.slot(destination).desired;
  const bool is_send = wanted.kind == DestinationKind::kSend;
  const bool is_closing = world_->destinations.desired(destination) == shm::Desired::kClosing;
  record.status = is_closing ? Status::kClosing : is_send ? Status::kStarting : Status::kActive;
  record.uri = std::string{world_->registry.text(wanted.text)};
  const auto uri = shm::ChannelUri::parse(record.uri);
  if (!uri || uri->media() != shm::ChannelUri::Media::kUdp) return;
  auto channel = parse_udp_channel(*uri);
  if (!channel) return;  // it passed when it was added
  record.channel = std::move(*channel);
  if (is_send && record.channel.endpoint && wanted.remote_address != 0) set_resolved(record.channel, record.channel.endpoint->host, wanted.remote_address);
}

}  // namespace thalweg::conductor
