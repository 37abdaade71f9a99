#include "controlplane/conductor/subscription_table.hpp"

#include <fmt/format.h>

#include "controlplane/conductor/receive_destinations.hpp"
#include "controlplane/conductor/resolution.hpp"

namespace thalweg::conductor {

Outcome<void> SubscriptionTable::check_conflicts(const Request& request) const {
  for (const std::uint32_t index : world_->subscriptions.used()) {
    const auto& slot = world_->subscriptions.slot(index);
    const SubscriptionRecord& record = world_->subscriptions.record(index);
    if (!is_on_wire(record.kind) || slot.endpoint != request.endpoint || slot.stream_id != request.stream_id) continue;
    if (record.params.session_id != request.params.session_id) continue;
    const auto conflict = [&](const char* option, bool existing) {
      return refuse_channel(fmt::format("option conflicts with existing subscription: {}={} existing={} channel={}", option, !existing, existing, request.uri));
    };
    if (record.params.is_reliable != request.params.is_reliable) return conflict("reliable", record.params.is_reliable);
    if (record.params.is_rejoin != request.params.is_rejoin) return conflict("rejoin", record.params.is_rejoin);
    if (is_response(record.channel) != is_response(request.channel)) return conflict("control-mode=response", is_response(record.channel));
  }
  return {};
}

Outcome<std::uint32_t> SubscriptionTable::acquire_interest(const Request& request) {
  const std::uint32_t has_session = request.params.session_id.has_value() ? 1 : 0;
  const std::int32_t session_id = request.params.session_id.value_or(0);
  for (const std::uint32_t index : world_->interests.used()) {
    auto& wanted = world_->interests.slot(index).desired;
    if (world_->interests.record(index).status == Status::kClosing || wanted.endpoint != request.endpoint || wanted.stream_id != request.stream_id) continue;
    if (wanted.has_session != has_session || wanted.session_id != session_id) continue;
    ++wanted.reference_count;
    return index;
  }
  const auto index = world_->interests.allocate();
  if (!index) return refuse(shm::ClientError::kGeneric, fmt::format("all {} stream interests are in use", shm::kInterestsMax));
  auto& wanted = world_->interests.slot(*index).desired;
  wanted.endpoint = request.endpoint;
  wanted.stream_id = request.stream_id;
  wanted.session_id = session_id;
  wanted.has_session = has_session;
  wanted.is_reliable = request.params.is_reliable ? 1 : 0;
  wanted.is_rejoin = request.params.is_rejoin ? 1 : 0;
  wanted.reference_count = 1;
  endpoints_->add_reference(request.endpoint);
  world_->interests.publish(*index);
  world_->bells.ring(shm::SlotKind::kInterest, *index);
  return *index;
}

void SubscriptionTable::release_interest(std::uint32_t interest) {
  auto& wanted = world_->interests.slot(interest).desired;
  if (--wanted.reference_count > 0) return;
  world_->interests.record(interest).status = Status::kClosing;
  world_->interests.close(interest);
  world_->bells.ring(shm::SlotKind::kInterest, interest);
}

void SubscriptionTable::service_interest(std::uint32_t interest) {
  if (!world_->interests.is_used(interest)) return;
  InterestRecord& record = world_->interests.record(interest);
  const shm::Observed observed = host::observed_state(world_->interests.slot(interest));
  const bool is_waited_for = record.status == Status::kStarting || record.status == Status::kFailed;   // its endpoint may be open again
  if (is_waited_for && observed == shm::Observed::kActive) record.status = Status::kActive;
  if (record.status == Status::kStarting && observed == shm::Observed::kFailed) record.status = Status::kFailed;
  if (record.status == Status::kClosing && observed == shm::Observed::kDone) {
    const std::uint32_t endpoint = world_->interests.slot(interest).desired.endpoint;
    world_->interests.release(interest);
    endpoints_->release(endpoint);
  }
}

Outcome<std::uint32_t> SubscriptionTable::add(const Request& request, std::uint32_t interest) {
  const auto text = world_->keep_text(request.uri);
  if (!text) return tl::unexpected{text.error()};
  const auto index = world_->subscriptions.allocate();
  if (!index) {
    world_->registry.free_text(*text);
    return refuse(shm::ClientError::kGeneric, fmt::format("all {} subscriptions are in use", shm::kSubscriptionsMax));
  }
  auto& slot = world_->subscriptions.slot(*index);
  slot.registration_id = request.registration_id;
  slot.client_id = request.client_id;
  slot.stream_id = request.stream_id;
  slot.session_id = request.params.session_id.value_or(0);
  slot.has_session = request.params.session_id.has_value() ? 1 : 0;
  slot.kind = static_cast<std::uint32_t>(request.kind);
  slot.endpoint = request.endpoint;
  slot.interest = interest;
  slot.text = *text;
  if (request.endpoint != shm::kNoSlot) slot.channel_status_counter_id = world_->endpoints.slot(request.endpoint).desired.channel_status_id;
  SubscriptionRecord& record = world_->subscriptions.record(*index);
  record.kind = request.kind;
  record.uri = request.uri;
  record.channel = request.channel;
  record.params = request.params;
  if (holds_endpoint(record)) endpoints_->add_reference(request.endpoint);
  world_->subscriptions.publish(*index);
  by_registration_.emplace(request.registration_id, *index);
  return *index;
}

std::uint32_t SubscriptionTable::find(std::int64_t registration_id) const {
  const auto found = by_registration_.find(registration_id);
  return found == by_registration_.end() ? shm::kNoSlot : found->second;
}

void SubscriptionTable::destroy(std::uint32_t subscription) {
  const std::vector<std::uint32_t> links = world_->subscriptions.record(subscription).links;
  for (const std::uint32_t link : links) links_->close(link);
  ReceiveDestinations{*world_, *endpoints_}.remove_all_of(subscription);
  const auto& slot = world_->subscriptions.slot(subscription);
  by_registration_.erase(slot.registration_id);
  if (slot.interest != shm::kNoSlot) release_interest(slot.interest);
  if (holds_endpoint(world_->subscriptions.record(subscription))) endpoints_->release(slot.endpoint);
  world_->registry.free_text(slot.text);
  world_->subscriptions.release(subscription);
}

Outcome<void> SubscriptionTable::remove(std::int64_t client_id, std::int64_t registration_id) {
  const std::uint32_t index = find(registration_id);
  if (index == shm::kNoSlot) {
    return refuse(shm::ClientError::kUnknownSubscription, fmt::format("unknown subscription client_id={} registration_id={}", client_id, registration_id));
  }
  destroy(index);
  return {};
}

void SubscriptionTable::remove_all_of(std::int64_t client_id) {
  const std::vector<std::uint32_t> subscriptions = world_->subscriptions.used();
  for (const std::uint32_t index : subscriptions) {
    if (world_->subscriptions.slot(index).client_id == client_id) destroy(index);
  }
}

bool SubscriptionTable::wants(std::uint32_t subscription, std::uint32_t endpoint, std::int32_t stream_id, std::int32_t session_id) const {
  const auto& slot = world_->subscriptions.slot(subscription);
  if (slot.has_session == 0 && is_response(world_->subscriptions.record(subscription).channel)) return false;
  return is_on_wire(static_cast<SubscriptionKind>(slot.kind)) && slot.endpoint == endpoint && slot.stream_id == stream_id &&
         (slot.has_session == 0 || slot.session_id == session_id);
}

// An endpoint lives by the interests on it. A response subscription has none before it is bound.
bool SubscriptionTable::holds_endpoint(const SubscriptionRecord& record) noexcept {
  return record.kind == SubscriptionKind::kNetwork && is_response(record.channel);
}

void SubscriptionTable::bind_session(std::uint32_t subscription, std::int32_t session_id) {
  auto& slot = world_->subscriptions.slot(subscription);
  if (static_cast<SubscriptionKind>(slot.kind) == SubscriptionKind::kIpc) {
    slot.session_id = session_id;
    slot.has_session = 1;
    return;
  }
  const SubscriptionRecord& record = world_->subscriptions.record(subscription);
  const bool is_bound = slot.interest != shm::kNoSlot && slot.has_session != 0 && slot.session_id == session_id;
  if (!is_bound) {
    Request request;
    request.stream_id = slot.stream_id;
    request.endpoint = slot.endpoint;
    request.params = record.params;
    request.params.session_id = session_id;
    const auto interest = acquire_interest(request);
    if (!interest) return world_->report(interest.error());
    if (slot.interest != shm::kNoSlot) release_interest(slot.interest);  // who answers began anew
    slot.interest = *interest;
    slot.session_id = session_id;
    slot.has_session = 1;
  }
  std::atomic_ref elicits{world_->interests.slot(slot.interest).desired.elicits};
  elicits.store(elicits.load(std::memory_order_relaxed) + 1, std::memory_order_release);  // pairs with the lane's acquire
  world_->bells.ring(shm::SlotKind::kInterest, slot.interest);
}

void SubscriptionTable::recover() {
  for (const std::uint32_t index : world_->interests.used()) {
    auto& slot = world_->interests.slot(index);
    slot.desired.reference_count = 0;
    endpoints_->add_reference(slot.desired.endpoint);
    const bool is_closing = world_->interests.desired(index) == shm::Desired::kClosing;
    world_->interests.record(index).status =
        is_closing ? Status::kClosing : host::observed_state(slot) == shm::Observed::kActive ? Status::kActive : Status::kStarting;
  }
  for (const std::uint32_t index : world_->subscriptions.used()) {
    const auto& slot = world_->subscriptions.slot(index);
    by_registration_.emplace(slot.registration_id, index);
    SubscriptionRecord& record = world_->subscriptions.record(index);
    record.kind = static_cast<SubscriptionKind>(slot.kind);
    record.uri = std::string{world_->registry.text(slot.text)};
    if (slot.interest != shm::kNoSlot) ++world_->interests.slot(slot.interest).desired.reference_count;
    const auto uri = shm::ChannelUri::parse(record.uri);
    if (!uri) continue;
    if (auto params = parse_subscription_params(*uri, world_->settings.streams)) record.params = std::move(*params);
    if (is_on_wire(record.kind)) {
      record.channel = world_->endpoints.record(slot.endpoint).channel;
      if (holds_endpoint(record)) endpoints_->add_reference(slot.endpoint);
    } else if (record.kind == SubscriptionKind::kIpc) {
      record.channel = parse_ipc_channel(*uri);
    } else if (record.kind == SubscriptionKind::kSpy) {
      if (auto channel = parse_udp_channel(*uri)) {
        resolve_literals(*world_, *channel);
        if (finish_channel(*channel)) record.channel = std::move(*channel);
      }
    }
  }
  const std::vector<std::uint32_t> interests = world_->interests.used();
  for (const std::uint32_t index : interests) {
    auto& wanted = world_->interests.slot(index).desired;
    if (wanted.reference_count > 0 || world_->interests.record(index).status == Status::kClosing) continue;
    wanted.reference_count = 1;  // of the command that died with the predecessor
    release_interest(index);
  }
}

}  // namespace thalweg::conductor
