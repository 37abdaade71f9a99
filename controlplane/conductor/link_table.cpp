#include "controlplane/conductor/link_table.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace thalweg::conductor {

using shm::LinkTarget;

std::vector<std::uint32_t>& LinkTable::links_of_target(const shm::LinkSlot::Wanted& wanted) noexcept {
  return wanted.target == LinkTarget::kImage ? world_->images.record(wanted.target_slot).links : world_->publications.record(wanted.target_slot).links;
}

std::int64_t LinkTable::image_id(const shm::LinkSlot::Wanted& wanted) const noexcept {
  return wanted.target == LinkTarget::kImage ? world_->images.slot(wanted.target_slot).desired.correlation_id
                                             : world_->publications.slot(wanted.target_slot).desired.registration_id;
}

// An image's are its subscription's, those of spies and IPC subscribers their publication's (wire-protocol 5.13).
void LinkTable::set_timeouts(shm::LinkSlot::Wanted& wanted, const SubscriptionParams& params) const noexcept {
  if (wanted.target == LinkTarget::kImage) {
    wanted.window_limit_timeout_ns = params.untethered.window_limit_ns;
    wanted.linger_timeout_ns = params.untethered.linger_ns;
    wanted.resting_timeout_ns = params.untethered.resting_ns;
    return;
  }
  const auto& publication = world_->publications.slot(wanted.target_slot).desired;
  wanted.window_limit_timeout_ns = publication.untethered_window_limit_timeout_ns;
  wanted.linger_timeout_ns = publication.untethered_linger_timeout_ns;
  wanted.resting_timeout_ns = publication.untethered_resting_timeout_ns;
}

const std::string& LinkTable::channel_of(std::uint32_t link) const noexcept {
  const LinkRecord& record = world_->links.record(link);
  return record.channel.empty() ? world_->subscriptions.record(world_->links.slot(link).desired.subscription).uri : record.channel;
}

void LinkTable::link(LinkTarget target, std::uint32_t target_slot, std::uint32_t subscription, std::string_view channel) {
  SubscriptionRecord& owner = world_->subscriptions.record(subscription);
  for (const std::uint32_t existing : owner.links) {
    const auto& wanted = world_->links.slot(existing).desired;
    if (wanted.target == target && wanted.target_slot == target_slot) return;
  }
  const auto index = world_->links.allocate();
  if (!index) return world_->report({shm::ClientError::kGeneric, fmt::format("all {} subscriber positions are in use", shm::kLinksMax)});
  auto& wanted = world_->links.slot(*index).desired;
  wanted.target = target;
  wanted.target_slot = target_slot;
  wanted.subscription = subscription;
  world_->links.record(*index).channel = channel;
  wanted.is_tethered = owner.params.is_tethered ? 1 : 0;
  wanted.is_rejoin = owner.params.is_rejoin ? 1 : 0;
  const bool is_image = target == LinkTarget::kImage;
  set_timeouts(wanted, owner.params);
  const std::int32_t session_id = is_image ? world_->images.slot(target_slot).desired.session_id : world_->publications.slot(target_slot).desired.session_id;
  const auto& subscribed = world_->subscriptions.slot(subscription);
  const std::string& uri = channel_of(*index);
  const auto key = shm::stream_key(subscribed.registration_id, session_id, subscribed.stream_id, uri);
  const std::string label = shm::stream_label("sub-pos", subscribed.registration_id, session_id, subscribed.stream_id, uri);
  wanted.counter_id = world_->allocate_counter({.type_id = shm::counter_type::kSubscriberPosition,
                                                .key = key.span(),
                                                .label = label,
                                                .registration_id = subscribed.registration_id,
                                                .owner_id = subscribed.client_id,
                                                .reference_id = image_id(wanted)});
  if (wanted.counter_id < 0) {
    world_->links.release(*index);
    return world_->report({shm::ClientError::kGeneric, "max counter id exceeded"});
  }
  owner.links.push_back(*index);
  links_of_target(wanted).push_back(*index);
  world_->links.publish(*index);
  world_->bells.ring(shm::SlotKind::kLink, *index);
}

void LinkTable::close(std::uint32_t link) {
  LinkRecord& record = world_->links.record(link);
  if (record.status == Status::kClosing) return;
  record.status = Status::kClosing;
  auto& wanted = world_->links.slot(link).desired;
  if (wanted.subscription != shm::kNoSlot) std::erase(world_->subscriptions.record(wanted.subscription).links, link);
  wanted.subscription = shm::kNoSlot;
  wanted.is_announced = 0;
  world_->links.close(link);
  world_->bells.ring(shm::SlotKind::kLink, link);
}

void LinkTable::destroy(std::uint32_t link) {
  const auto& wanted = world_->links.slot(link).desired;
  if (wanted.subscription != shm::kNoSlot) std::erase(world_->subscriptions.record(wanted.subscription).links, link);
  std::erase(links_of_target(wanted), link);
  world_->free_counter(wanted.counter_id);
  world_->links.release(link);
}

void LinkTable::service(std::uint32_t link) {
  if (!world_->links.is_used(link)) return;
  LinkRecord& record = world_->links.record(link);
  auto& slot = world_->links.slot(link);
  const shm::Observed observed = host::observed_state(slot);
  if (record.status == Status::kStarting && observed == shm::Observed::kActive) {
    record.status = Status::kActive;
    auto& wanted = slot.desired;
    wanted.tether_changes = slot.observed.tether_changes;
    const auto& subscribed = world_->subscriptions.slot(wanted.subscription);
    const bool is_image = wanted.target == LinkTarget::kImage;
    const std::int32_t session_id =
        is_image ? world_->images.slot(wanted.target_slot).desired.session_id : world_->publications.slot(wanted.target_slot).desired.session_id;
    const std::string label = shm::stream_label("sub-pos", subscribed.registration_id, session_id, subscribed.stream_id, channel_of(link));
    world_->counters.update_label(wanted.counter_id, fmt::format("{} @{}", label, slot.observed.join_position));
    if (slot.observed.tether.load(std::memory_order_acquire) == shm::Tether::kActive) announce_available(link);
  } else if (record.status == Status::kActive && slot.observed.tether_changes != slot.desired.tether_changes) {
    on_tether(link);
  } else if (record.status == Status::kClosing && observed == shm::Observed::kDone) {
    destroy(link);
  } else if (observed == shm::Observed::kFailed && record.status != Status::kClosing) {
    world_->report({shm::ClientError::kGeneric, "the data plane refused a subscriber position"});
    close(link);
  }
}

void LinkTable::on_tether(std::uint32_t link) {
  auto& slot = world_->links.slot(link);
  slot.desired.tether_changes = slot.observed.tether_changes;
  switch (slot.observed.tether.load(std::memory_order_acquire)) {
    case shm::Tether::kActive:
      announce_unavailable(link, "aeron:ipc");  // it left and came back between two looks: its position is another
      announce_available(link);
      break;
    case shm::Tether::kLinger:
    case shm::Tether::kResting: announce_unavailable(link, "aeron:ipc"); break;
    case shm::Tether::kClosed:
      announce_unavailable(link, "aeron:ipc");
      close(link);
      break;
  }
}

void LinkTable::announce_available(std::uint32_t link) {
  auto& wanted = world_->links.slot(link).desired;
  if (wanted.is_announced != 0 || wanted.subscription == shm::kNoSlot) return;
  const bool is_image = wanted.target == LinkTarget::kImage;
  shm::OnAvailableImage message;
  message.correlation_id = image_id(wanted);
  message.subscription_registration_id = world_->subscriptions.slot(wanted.subscription).registration_id;
  message.stream_id = world_->subscriptions.slot(wanted.subscription).stream_id;
  message.subscriber_position_counter_id = wanted.counter_id;
  if (is_image) {
    message.session_id = world_->images.slot(wanted.target_slot).desired.session_id;
    message.log_path = world_->logs.path(world_->images.slot(wanted.target_slot).desired.log);
    message.source_identity = world_->images.record(wanted.target_slot).source;
  } else {
    message.session_id = world_->publications.slot(wanted.target_slot).desired.session_id;
    message.log_path = world_->logs.path(world_->publications.slot(wanted.target_slot).desired.log);
    message.source_identity = "aeron:ipc";
  }
  world_->clients_out.available_image(message);
  wanted.is_announced = 1;  // last: a successor tells it again rather than never
}

void LinkTable::announce_unavailable(std::uint32_t link, std::string_view channel) {
  auto& wanted = world_->links.slot(link).desired;
  if (wanted.is_announced == 0 || wanted.subscription == shm::kNoSlot) return;
  const auto& subscribed = world_->subscriptions.slot(wanted.subscription);
  world_->clients_out.unavailable_image({image_id(wanted), subscribed.registration_id, subscribed.stream_id, channel});
  wanted.is_announced = 0;  // likewise
}

void LinkTable::recover(std::uint32_t link) {
  LinkRecord& record = world_->links.record(link);
  const auto& slot = world_->links.slot(link);
  const auto& wanted = slot.desired;
  const bool has_target = wanted.target == LinkTarget::kImage ? world_->images.is_used(wanted.target_slot) : world_->publications.is_used(wanted.target_slot);
  if (!has_target) {
    world_->free_counter(wanted.counter_id);
    world_->links.release(link);
    return;
  }
  links_of_target(wanted).push_back(link);
  if (world_->links.desired(link) == shm::Desired::kClosing) {
    record.status = Status::kClosing;
    return;
  }
  record.status = wanted.is_announced != 0 || wanted.tether_changes != 0 ? Status::kActive : Status::kStarting;
  if (!world_->subscriptions.is_used(wanted.subscription)) {
    world_->links.slot(link).desired.subscription = shm::kNoSlot;
    close(link);
    return;
  }
  world_->subscriptions.record(wanted.subscription).links.push_back(link);
}

}  // namespace thalweg::conductor
