#include "controlplane/conductor/re_resolution.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "controlplane/host/resolver.hpp"
#include "dataplane/base/units.hpp"
#include "dataplane/wire/ip.hpp"

namespace thalweg::conductor {
namespace {

constexpr std::int64_t kSilence_ns = 5 * kSecond_ns;  // wire-protocol 1.12: not configurable
constexpr std::size_t kLookupsMax = 16;               // at once; the others come with the next checks

const ChannelAddress* if_named(const std::optional<ChannelAddress>& address) {
  return address && !host::literal_host(address->host) && !shm::parse_scoped_ipv6(address->host) ? &*address : nullptr;
}

std::int64_t last_status_message_ns(const shm::PublicationState& state) noexcept {
  std::int64_t last_ns = 0;
  for (const shm::ReceiverState& receiver : state.receivers) last_ns = std::max(last_ns, receiver.last_sm_ns);
  return last_ns;
}

}  // namespace

const ChannelAddress* ReResolution::named_remote(shm::SlotRef ref) const {
  if (ref.kind == shm::SlotKind::kDestination) {
    const bool is_sent_to = world_->destinations.is_used(ref.index) && world_->destinations.slot(ref.index).desired.kind == shm::DestinationKind::kSend &&
                            world_->destinations.record(ref.index).status == Status::kActive;
    return is_sent_to ? if_named(world_->destinations.record(ref.index).channel.endpoint) : nullptr;
  }
  if (!world_->endpoints.is_used(ref.index)) return nullptr;
  const EndpointRecord& record = world_->endpoints.record(ref.index);
  const UdpChannel& channel = record.channel;
  const bool is_plain = channel.control_mode == ControlMode::kNone && !channel.is_multicast;
  if (record.status != Status::kActive || !is_plain) return nullptr;
  const bool is_send = world_->endpoints.slot(ref.index).desired.kind == shm::EndpointKind::kSend;
  return if_named(is_send ? channel.endpoint : channel.control);
}

std::int64_t ReResolution::registration_id(shm::SlotRef ref) const {
  return ref.kind == shm::SlotKind::kDestination ? world_->destinations.slot(ref.index).desired.registration_id
                                                 : world_->endpoints.slot(ref.index).desired.registration_id;
}

void ReResolution::poll() {
  if (lookups_ != 0) finish_lookups();
  const std::int64_t interval_ns = world_->settings.names.re_resolution_interval_ns;
  if (interval_ns == 0 || world_->now.now_ns < next_check_ns_) return;
  next_check_ns_ = world_->now.now_ns + interval_ns;
  check();
}

void ReResolution::check() {
  find_names();
  if (watches_.empty()) return;
  listen();
  for (auto& [key, watch] : watches_) {
    if (watch.lookup || lookups_ >= kLookupsMax || world_->now.now_ns - watch.heard_ns <= kSilence_ns) continue;
    watch.lookup.emplace(*world_, named_remote(shm::SlotRef::unpack(key))->host);
    ++lookups_;
  }
  finish_lookups();
}

void ReResolution::find_names() {
  std::erase_if(watches_, [this](const auto& item) {
    const auto ref = shm::SlotRef::unpack(item.first);
    const bool is_same = named_remote(ref) != nullptr && item.second.registration_id == registration_id(ref);
    if (!is_same && item.second.lookup) --lookups_;
    return !is_same;
  });
  const auto watch = [this](shm::SlotRef ref) {
    if (named_remote(ref) != nullptr) watches_.try_emplace(ref.pack(), Watch{registration_id(ref), world_->now.now_ns, std::nullopt});
  };
  for (const std::uint32_t index : world_->endpoints.used()) watch({shm::SlotKind::kEndpoint, index});
  for (const std::uint32_t index : world_->destinations.used()) watch({shm::SlotKind::kDestination, index});
}

// Their lanes keep these times; what is read here may be a moment old.
void ReResolution::listen() {
  const auto hear = [this](shm::SlotRef ref, std::int64_t heard_ns) {
    if (const auto watch = watches_.find(ref.pack()); watch != watches_.end()) watch->second.heard_ns = std::max(watch->second.heard_ns, heard_ns);
  };
  for (const std::uint32_t index : world_->publications.used()) {
    const auto& slot = world_->publications.slot(index);
    const shm::SlotRef endpoint{shm::SlotKind::kEndpoint, slot.desired.endpoint};
    if (watches_.contains(endpoint.pack())) hear(endpoint, last_status_message_ns(slot.observed.state));
  }
  for (const std::uint32_t index : world_->images.used()) {
    const auto& slot = world_->images.slot(index);
    hear({shm::SlotKind::kEndpoint, slot.desired.endpoint}, slot.observed.state.last_packet_ns);
    for (const shm::ConnectionState& connection : slot.observed.state.connections) {
      if (connection.is_used != 0 && connection.endpoint != slot.desired.endpoint) hear({shm::SlotKind::kEndpoint, connection.endpoint}, connection.last_frame_ns);
    }
  }
  for (const std::uint32_t index : world_->destinations.used()) {
    const auto& slot = world_->destinations.slot(index);
    if (host::observed_state(slot) != shm::Observed::kActive) continue;
    const std::int64_t heard_ns = std::atomic_ref{world_->destinations.slot(index).observed.last_heard_ns}.load(std::memory_order_relaxed);
    hear({shm::SlotKind::kDestination, index}, heard_ns);
  }
}

void ReResolution::finish_lookups() {
  for (auto& [key, watch] : watches_) {
    if (!watch.lookup) continue;
    const auto& address = watch.lookup->poll(*world_);
    if (!address) continue;
    settle(shm::SlotRef::unpack(key), watch.lookup->host(), *address);
    watch.lookup.reset();
    --lookups_;
  }
}

void ReResolution::settle(shm::SlotRef ref, const std::string& host, const Outcome<std::uint32_t>& address) {
  if (!address) return world_->report(address.error());
  if (named_remote(ref) == nullptr) return;
  if (wire::is_group(*address)) {
    return world_->report({shm::ClientError::kInvalidChannel, fmt::format("{} has become the group {}: its streams stay where they are", host, world_->registry->addresses.format(*address))});
  }
  const bool is_moved = ref.kind == shm::SlotKind::kDestination ? destinations_->change_remote(ref.index, *address) : endpoints_->change_remote(ref.index, *address);
  if (is_moved) world_->system(shm::SystemCounter::kResolutionChanges).add(1);
}

}  // namespace thalweg::conductor
