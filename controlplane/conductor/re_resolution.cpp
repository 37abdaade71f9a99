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

// The far side's address of an endpoint, where a name stands in its channel; null: a literal address, a group, or nobody in particular.
const ChannelAddress* named_remote(const EndpointRecord& record, shm::EndpointKind kind) {
  const UdpChannel& channel = record.channel;
  const bool is_plain = channel.control_mode == ControlMode::kNone && !channel.is_multicast;
  if (record.status != Status::kActive || !is_plain) return nullptr;
  const auto& remote = kind == shm::EndpointKind::kSend ? channel.endpoint : channel.control;
  return remote && !host::literal_host(remote->host) ? &*remote : nullptr;
}

std::int64_t last_status_message_ns(const shm::PublicationState& state) noexcept {
  std::int64_t last_ns = 0;
  for (const shm::ReceiverState& receiver : state.receivers) last_ns = std::max(last_ns, receiver.last_sm_ns);
  return last_ns;
}

}  // namespace

void ReResolution::poll() {
  if (lookups_ != 0) finish_lookups();
  const std::int64_t interval_ns = world_->settings.names.re_resolution_interval_ns;
  if (interval_ns == 0 || world_->now.now_ns < next_check_ns_) return;
  next_check_ns_ = world_->now.now_ns + interval_ns;
  check();
}

void ReResolution::check() {
  find_named_endpoints();
  if (watches_.empty()) return;
  listen();
  for (auto& [endpoint, watch] : watches_) {
    if (watch.lookup || lookups_ >= kLookupsMax || world_->now.now_ns - watch.heard_ns <= kSilence_ns) continue;
    const auto kind = world_->endpoints.slot(endpoint).desired.kind;
    watch.lookup.emplace(*world_, named_remote(world_->endpoints.record(endpoint), kind)->host);
    ++lookups_;
  }
  finish_lookups();
}

void ReResolution::find_named_endpoints() {
  const auto is_named = [this](std::uint32_t endpoint) {
    return world_->endpoints.is_used(endpoint) && named_remote(world_->endpoints.record(endpoint), world_->endpoints.slot(endpoint).desired.kind) != nullptr;
  };
  std::erase_if(watches_, [&](const auto& item) {
    const bool is_same = is_named(item.first) && item.second.registration_id == world_->endpoints.slot(item.first).desired.registration_id;
    if (!is_same && item.second.lookup) --lookups_;
    return !is_same;
  });
  for (const std::uint32_t endpoint : world_->endpoints.used()) {
    if (is_named(endpoint)) watches_.try_emplace(endpoint, Watch{world_->endpoints.slot(endpoint).desired.registration_id, world_->now.now_ns, std::nullopt});
  }
}

// Their lanes keep these times; what is read here may be a moment old.
void ReResolution::listen() {
  const auto hear = [this](std::uint32_t endpoint, std::int64_t heard_ns) {
    if (const auto watch = watches_.find(endpoint); watch != watches_.end()) watch->second.heard_ns = std::max(watch->second.heard_ns, heard_ns);
  };
  for (const std::uint32_t index : world_->publications.used()) {
    const auto& slot = world_->publications.slot(index);
    if (watches_.contains(slot.desired.endpoint)) hear(slot.desired.endpoint, last_status_message_ns(slot.observed.state));
  }
  for (const std::uint32_t index : world_->images.used()) {
    const auto& slot = world_->images.slot(index);
    hear(slot.desired.endpoint, slot.observed.state.last_packet_ns);
  }
}

void ReResolution::finish_lookups() {
  for (auto& [endpoint, watch] : watches_) {
    if (!watch.lookup) continue;
    const auto& address = watch.lookup->poll(*world_);
    if (!address) continue;
    settle(endpoint, watch.lookup->host(), *address);
    watch.lookup.reset();
    --lookups_;
  }
}

void ReResolution::settle(std::uint32_t endpoint, const std::string& host, const Outcome<std::uint32_t>& address) {
  if (!address) return world_->report(address.error());
  if (!world_->endpoints.is_used(endpoint)) return;
  if (wire::is_multicast_ipv4(*address)) {
    return world_->report({shm::ClientError::kInvalidChannel, fmt::format("{} has become the group {}: its streams stay where they are", host, format_ipv4(*address))});
  }
  if (endpoints_->change_remote(endpoint, *address)) world_->system(shm::SystemCounter::kResolutionChanges).add(1);
}

}  // namespace thalweg::conductor
