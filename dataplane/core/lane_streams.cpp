// What the registry wants of this lane: endpoints, interests, streams and links come and go. Everything here is told by the steward,
// tolerates being told twice, and answers in the observed half of the slot.
#include "dataplane/core/lane.hpp"

#include <array>
#include <cstdio>

#include "dataplane/core/slot_answer.hpp"
#include "dataplane/proto/tether.hpp"

namespace thalweg::core {

using enum shm::LaneCounter;

namespace {

std::uint64_t stream_key(std::int32_t session_id, std::int32_t stream_id) noexcept {
  return static_cast<std::uint32_t>(session_id) | static_cast<std::uint64_t>(static_cast<std::uint32_t>(stream_id)) << 32;
}

// Removes one entry of a dense list whose entries know their place.
template <typename Entry>
void disown(std::vector<Entry*>& owned, Entry& entry) noexcept {
  owned[entry.owned_at] = owned.back();
  owned[entry.owned_at]->owned_at = entry.owned_at;
  owned.pop_back();
}

}  // namespace

unsigned Lane::take_messages(std::int64_t now_ns) noexcept {
  LaneMessage message;
  unsigned taken = 0;
  while (taken < kMessagesPerTurn && inbox_.pop(message)) {
    take_message(message, now_ns);
    ++taken;
  }
  return taken;
}

void Lane::take_message(const LaneMessage& message, std::int64_t now_ns) noexcept {
  const std::uint32_t index = message.ref.index;
  switch (message.ref.kind) {
    case shm::SlotKind::kEndpoint: on_endpoint(*message.endpoint, message.is_closing); return;
    case shm::SlotKind::kInterest: on_interest(index, now_ns); return;
    case shm::SlotKind::kDestination: on_destination(index); return;
    case shm::SlotKind::kPublication: on_publication(index, now_ns); return;
    case shm::SlotKind::kImage: on_image(index, now_ns); return;
    case shm::SlotKind::kLink: on_link(index, now_ns); return;
    case shm::SlotKind::kSetup: on_setup_answer(index); return;
    case shm::SlotKind::kPort: on_link_change(index, !message.is_closing); return;
    default: return;
  }
}

void Lane::ring(shm::SlotKind kind, std::uint32_t index) noexcept {
  if (!slot_.to_control.ring({kind, index})) counters_.add(kBellOverflows);
}

shm::Counter Lane::counter(std::int32_t id) const noexcept {
  return id >= 0 && id < shared_.counters.capacity() ? shared_.counters.counter(id) : shm::Counter{};
}

// ---- endpoints ----

void Lane::on_endpoint(Endpoint& endpoint, bool is_closing) noexcept {
  if (!is_closing) {
    if (endpoint_of_slot_[endpoint.slot] == &endpoint) {
      readdress(endpoint);
    } else {
      open_endpoint(endpoint);
    }
    return;
  }
  Endpoint** const known = endpoints_.find(address_key(endpoint.bound));
  if (known != nullptr && *known == &endpoint) endpoints_.erase(address_key(endpoint.bound));
  if (cached_endpoint_ == &endpoint) cached_address_ = kNoAddress;
  flow_.forget();
  if (endpoint.group.port != 0 && endpoint.group_lane == options_.index) leave_group(endpoint);
  if (endpoint.parent != nullptr && endpoint.lane == options_.index) leave_parent(endpoint);
  std::erase(receive_endpoints_, &endpoint);
  endpoint_of_slot_[endpoint.slot] = nullptr;
  endpoint.lanes_left.fetch_sub(1, std::memory_order_release);  // pairs with the steward's acquire: it may delete the endpoint
}

void Lane::open_endpoint(Endpoint& endpoint) noexcept {
  const bool is_group_only = endpoint.group.port != 0 && endpoint.kind == shm::EndpointKind::kReceive;
  if (!is_group_only && !endpoint.has_destinations()) endpoints_.insert(address_key(endpoint.bound), &endpoint);
  cached_address_ = kNoAddress;  // a more exact address may have come
  flow_.forget();
  if (endpoint.group.port != 0 && endpoint.group_lane == options_.index) join_group(endpoint);
  if (endpoint.lane != options_.index) return;
  endpoint_of_slot_[endpoint.slot] = &endpoint;
  if (endpoint.parent != nullptr) join_parent(endpoint);
  if (endpoint.kind == shm::EndpointKind::kReceive) {
    receive_endpoints_.push_back(&endpoint);
  } else if (endpoint.fan_out != nullptr) {
    endpoint.fan_out->count_in(counters_);
    endpoint.destination = {};
    endpoint.destination.fan_out = endpoint.fan_out.get();
  } else {
    endpoint.destination = make_destination(endpoint, endpoint.remote);
  }
}

// Group members form a chain; the map leads to the first.
void Lane::join_group(Endpoint& endpoint) noexcept {
  const Key key = group_key(endpoint.interface_address, endpoint.group);
  Endpoint** const first = endpoints_.find(key);
  endpoint.next_member = first != nullptr ? *first : nullptr;
  endpoints_.insert(key, &endpoint);
  context_of(endpoint.ports.front())->host().join(endpoint.group.address, last_turn_ns_);  // the steward counted: there is room
}

void Lane::leave_group(Endpoint& endpoint) noexcept {
  const Key key = group_key(endpoint.interface_address, endpoint.group);
  Endpoint** at = endpoints_.find(key);
  while (at != nullptr && *at != nullptr && *at != &endpoint) at = &(*at)->next_member;
  if (at == nullptr || *at == nullptr) return;
  *at = endpoint.next_member;
  if (*endpoints_.find(key) == nullptr) endpoints_.erase(key);
  context_of(endpoint.ports.front())->host().leave(endpoint.group.address, last_turn_ns_);
}

// Its far side moved (wire-protocol 5.12): from the next frame on streams send to the new address, and believe that one only.
void Lane::readdress(Endpoint& endpoint) noexcept {
  const wire::UdpEndpoint before = endpoint.remote;
  endpoint.remote.address = endpoint.wanted_remote.load(std::memory_order_relaxed);
  flow_.forget();
  if (endpoint.kind == shm::EndpointKind::kSend) {
    endpoint.destination = make_destination(endpoint, endpoint.remote);
    return;
  }
  for (ImageEntry* const entry : owned_images_) {
    for (std::size_t i = 0; i < shm::kConnectionsMax; ++i) {
      shm::ConnectionState& connection = entry->slot->observed.state.connections[i];
      const bool is_its = entry->transports[i] == &endpoint && connection.control_address == before.address && connection.control_port == before.port;
      if (is_its) connection.control_address = endpoint.remote.address;
    }
  }
}

Destination Lane::make_destination(const Endpoint& endpoint, const wire::UdpEndpoint& remote) noexcept {
  LanePort* context = nullptr;
  if (endpoint.ports.size() == 1) {
    context = context_of(endpoint.ports.front());
  } else if (const RoutePort* port = shared_.routes->choose(remote.address).port) {
    context = context_of(port->index);
  }
  if (context == nullptr) return {};
  wire::UdpEndpoint source = endpoint.bound;
  if (endpoint.group.port != 0) {
    source.address = endpoint.interface_address;
  } else if (source.address == 0) {
    source.address = context->options().address;
  } else if (source.address == wire::kAnyIpv6 && context->options().address6 != 0) {
    source.address = context->options().address6;
  }
  if (wire::is_handle(source.address) != wire::is_handle(remote.address)) return {};   // of two families
  Destination made = context->make_destination(source, remote, endpoint.ttl);
  // The kernel hands status messages and NAKs on loopback to our senders, too: another process there may have the same address and port as
  // our receiver, so that they cannot be told from an echo.
  const bool is_receiver = endpoint.kind == shm::EndpointKind::kReceive;
  made.is_looped = !(is_receiver && shared_.frame_rules[context->options().index].hears_itself);
  return made;
}

void Lane::on_link_change(std::uint32_t port, bool is_up) noexcept {
  counters_.add(kLinkChanges);
  LanePort* const context = context_of(port);
  if (is_up && context != nullptr && context->needs_arp()) context->host().announce(last_turn_ns_);
}

// A destination of a manual publication comes, moves or goes (wire-protocol 5.5).
void Lane::on_destination(std::uint32_t index) noexcept {
  static_assert(FanOut::kDestinationsMax == 128, "the error says so");
  shm::DestinationSlot& slot = registry_.destinations[index];
  const shm::Desired wanted = slot.desired.state.load(std::memory_order_acquire);
  Endpoint* const endpoint = endpoint_at(slot.desired.endpoint);
  FanOut* const fan_out = endpoint == nullptr ? nullptr : endpoint->fan_out.get();
  if (wanted == shm::Desired::kActive) {
    const wire::UdpEndpoint remote{std::atomic_ref{slot.desired.remote_address}.load(std::memory_order_relaxed), slot.desired.remote_port};
    const bool is_known = fan_out != nullptr && remote.address != 0;
    const Destination made = is_known ? make_destination(*endpoint, remote) : Destination{};
    if (fan_out == nullptr) {
      fail_slot(slot, shm::ClientError::kChannelEndpointError, "its endpoint is closed, or has no destinations");
    } else if (is_known && made.port == nullptr && !is_answered(slot, shm::Observed::kActive)) {
      fail_slot(slot, shm::ClientError::kChannelEndpointError, "no port reaches the destination");
    } else if (!fan_out->put(slot, made)) {
      fail_slot(slot, shm::ClientError::kGeneric, "all 128 destinations of the publication are in use");
    } else {
      answer(slot, shm::Observed::kActive);
    }
  } else if (wanted == shm::Desired::kClosing && !is_answered(slot, shm::Observed::kDone)) {
    if (fan_out != nullptr) fan_out->remove(slot);
    answer(slot, shm::Observed::kDone);
  } else {
    return;
  }
  ring(shm::SlotKind::kDestination, index);
}

// ---- interests ----

void Lane::on_interest(std::uint32_t index, std::int64_t now_ns) noexcept {
  shm::InterestSlot& slot = registry_.interests[index];
  const shm::Desired wanted = slot.desired.state.load(std::memory_order_acquire);
  Endpoint* const endpoint = endpoint_at(slot.desired.endpoint);
  const bool is_held = interest_generations_[index] == slot.desired.generation;
  const std::uint32_t elicits = std::atomic_ref{slot.desired.elicits}.load(std::memory_order_acquire);  // pairs with SubscriptionTable::bind_session()
  if (wanted == shm::Desired::kActive && !is_held) {
    const bool is_usable = endpoint != nullptr && endpoint->dispatcher != nullptr;
    const bool is_added =
        is_usable && endpoint->dispatcher->add_interest(slot.desired.stream_id, slot.desired.has_session != 0, slot.desired.session_id);
    if (is_added) interest_generations_[index] = slot.desired.generation;
    if (is_added) register_at_control(*endpoint, slot, now_ns);
    slot.observed.elicited = elicits;
    answer(slot, is_added ? shm::Observed::kActive : shm::Observed::kFailed);
    ring(shm::SlotKind::kInterest, index);
  } else if (wanted == shm::Desired::kActive && elicits != slot.observed.elicited) {  // its peer named its session again (5.9)
    slot.observed.elicited = elicits;
    if (endpoint != nullptr && endpoint->has_control()) elicit_setup(*endpoint, endpoint->remote, slot.desired.stream_id, slot.desired.session_id, now_ns);
  } else if (wanted == shm::Desired::kClosing && !is_answered(slot, shm::Observed::kDone)) {
    if (is_held && endpoint != nullptr && endpoint->dispatcher != nullptr) {
      endpoint->dispatcher->remove_interest(slot.desired.stream_id, slot.desired.has_session != 0, slot.desired.session_id);
      forget_images(*endpoint);  // their sessions may be strangers now
    }
    interest_generations_[index] = 0;
    answer(slot, shm::Observed::kDone);
    ring(shm::SlotKind::kInterest, index);
  }
}

void Lane::on_setup_answer(std::uint32_t index) noexcept {
  shm::SetupSlot& slot = slot_.setups[index % shm::kSetupsPerLane];
  const shm::SetupState state = slot.state.load(std::memory_order_acquire);
  if (state != shm::SetupState::kAccepted && state != shm::SetupState::kRefused) return;
  Endpoint* const endpoint = endpoint_at(slot.endpoint);
  const bool is_same = endpoint != nullptr && endpoint->generation == slot.endpoint_generation && endpoint->dispatcher != nullptr;
  if (state == shm::SetupState::kRefused && is_same) endpoint->dispatcher->image_refused(slot.stream_id, slot.session_id);
  slot.state.store(shm::SetupState::kFree, std::memory_order_release);
  --setups_open_;
}

// ---- publications ----

void Lane::on_publication(std::uint32_t index, std::int64_t now_ns) noexcept {
  shm::PublicationSlot& slot = registry_.publications[index];
  PublicationEntry& entry = tables_.publications[index];
  turn_to({shm::SlotKind::kPublication, index});
  const shm::Desired wanted = slot.desired.state.load(std::memory_order_acquire);
  if (wanted == shm::Desired::kFree) return;
  const bool is_held = entry.is_used && entry.generation == slot.desired.generation;
  if (is_held) {
    tick(entry, now_ns);  // closed or revoked: not only at the next timer tick
    return;
  }
  if (is_answered(slot, shm::Observed::kDone) || is_answered(slot, shm::Observed::kFailed)) return;
  const bool was_seen = is_answered(slot, shm::Observed::kActive);
  if (wanted == shm::Desired::kActive || was_seen) {
    start_publication(entry, slot, now_ns);
  } else {
    answer(slot, shm::Observed::kDone);  // closed before we ever saw it
  }
  ring(shm::SlotKind::kPublication, index);
}

void Lane::start_publication(PublicationEntry& entry, shm::PublicationSlot& slot, std::int64_t now_ns) noexcept {
  const bool is_ipc = (slot.desired.flags & shm::PublicationFlags::kIpc) != 0;
  Endpoint* const endpoint = is_ipc ? nullptr : endpoint_at(slot.desired.endpoint);  // open: the steward saw to it
  if (!is_ipc) {
    const LanePort* const context = endpoint == nullptr ? nullptr : endpoint->destination.port;
    // Each destination has a port of its own, and so has whoever is answered.
    const bool is_response = (slot.desired.flags & shm::PublicationFlags::kIsResponse) != 0;
    const bool is_open = endpoint != nullptr && (endpoint->fan_out != nullptr || is_response);
    if (context == nullptr && !is_open) return fail_slot(slot, shm::ClientError::kChannelEndpointError, "no port reaches the destination");
    const std::uint32_t remote = endpoint->is_connected ? endpoint->remote.address : endpoint->bound.address;
    const auto fits = [this, &slot, remote](std::uint32_t port) { return context_of(port) != nullptr && context_of(port)->fits(static_cast<std::size_t>(slot.desired.mtu), remote); };
    const bool has_fitting_port = is_open ? std::any_of(endpoint->ports.begin(), endpoint->ports.end(), fits) : fits(context->options().index);
    if (!has_fitting_port) return refuse_mtu(slot, is_open ? endpoint->ports.front() : context->options().index, remote);
  }
  const bool is_resumed = is_answered(slot, shm::Observed::kActive);
  if ((slot.desired.flags & shm::PublicationFlags::kRelay) != 0 && !is_resumed && source_of(slot) == nullptr) {
    return fail_slot(slot, shm::ClientError::kResourceTemporarilyUnavailable, "the image to relay has ended, or another lane has it");
  }
  if (!is_resumed) slot.observed.state = {};
  entry = PublicationEntry{};
  entry.index = static_cast<std::uint32_t>(&entry - tables_.publications.get());
  entry.slot = &slot;
  entry.endpoint = endpoint;
  entry.destination = is_ipc ? nullptr : (slot.desired.flags & shm::PublicationFlags::kIsResponse) != 0 ? &entry.peer : &endpoint->destination;
  entry.generation = slot.desired.generation;
  entry.is_used = true;
  entry.stream = proto::Publication{proto::Publication::Context{
      .desired = &slot.desired, .state = &slot.observed.state, .log = tables_.logs[slot.desired.log],
      .pub_pos = counter(slot.desired.pub_pos_id), .pub_lmt = counter(slot.desired.pub_lmt_id), .snd_pos = counter(slot.desired.snd_pos_id),
      .snd_lmt = counter(slot.desired.snd_lmt_id), .snd_bpe = counter(slot.desired.snd_bpe_id), .snd_naks = counter(slot.desired.snd_naks_id),
      .fc_receivers = counter(static_cast<std::int32_t>(slot.desired.fc_receivers_id_plus_1) - 1), .counters = counters_,
      .growth = growth_of(slot.desired.log)}};
  if (entry.stream.is_relay()) {
    entry.ids.session_id = slot.desired.session_id;
    entry.ids.stream_id = slot.desired.stream_id;
    entry.ids.has_ids = slot.desired.session_id != slot.desired.source_session_id || slot.desired.stream_id != slot.desired.source_stream_id;
    join_source(entry, is_resumed);
  }
  if (is_resumed) {
    if (entry.stream.is_response()) recall_peer(entry);
    entry.stream.resume(now_ns);
  } else if (entry.source != nullptr) {
    entry.stream.start_at(relay_start(*entry.source), now_ns);
  } else {
    entry.stream.start(now_ns);
  }
  if (!is_ipc) entry.ids.timestamp_offset = registry_.endpoints[endpoint->slot].desired.channel_send_timestamp;
  entry.rewrites = entry.ids.has_ids || entry.ids.timestamp_offset != shm::kNoTimestamp;
  entry.told = entry.stream.state().lifecycle;
  entry.told_connected = entry.stream.state().is_connected;
  if (!is_ipc && endpoint->fan_out != nullptr) endpoint->fan_out->publish_count_in(counter(registry_.endpoints[endpoint->slot].desired.destination_count_id));
  if (!is_ipc) publications_by_stream_.insert({endpoint->slot, stream_key(slot.desired.session_id, slot.desired.stream_id)}, entry.index);
  entry.owned_at = static_cast<std::uint32_t>(owned_publications_.size());
  owned_publications_.push_back(&entry);
  active_publications_.add(entry);
  answer(slot, shm::Observed::kActive);
}

void Lane::refuse_mtu(shm::PublicationSlot& slot, std::uint32_t port, std::uint32_t remote) noexcept {
  const shm::PortSlot& link = registry_.ports[port];
  const std::size_t most = context_of(port)->payload_max(remote);
  std::array<char, sizeof slot.observed.error.text> text{};
  std::snprintf(text.data(), text.size(), "mtu=%d is more than port %.31s carries: %zu bytes of payload, with its mtu of %u and ip-fragments %s", slot.desired.mtu,
                link.name, most, link.mtu, link.has_ip_fragments != 0 ? "on" : "off");
  fail_slot(slot, shm::ClientError::kInvalidChannel, text.data());
}

// After a restart a response publication goes on answering whom it answered.
void Lane::recall_peer(PublicationEntry& entry) noexcept {
  for (const shm::ReceiverState& receiver : entry.slot->observed.state.receivers) {
    if (receiver.is_live) answer_to(entry, {receiver.address, receiver.port});
  }
}

// ---- relays ----

ImageEntry* Lane::source_of(const shm::PublicationSlot& slot) const noexcept {
  if (slot.desired.source_image >= shm::kImagesMax) return nullptr;
  ImageEntry& image = tables_.images[slot.desired.source_image];
  const bool is_mine = image.owned_at < owned_images_.size() && owned_images_[image.owned_at] == &image;
  return is_mine && image.is_used && image.generation == slot.desired.source_generation ? &image : nullptr;
}

void Lane::join_source(PublicationEntry& entry, bool is_resumed) noexcept {
  entry.source = source_of(*entry.slot);
  THALWEG_DCHECK(is_resumed || entry.source != nullptr);
  if (entry.source == nullptr) return;   // it ended before we were restarted: what it left is still to be sent
  entry.next_relay = entry.source->first_relay;
  entry.source->first_relay = &entry;
  nudge(*entry.source);
}

void Lane::leave_source(PublicationEntry& entry) noexcept {
  if (entry.source == nullptr) return;
  PublicationEntry** at = &entry.source->first_relay;
  while (*at != &entry) at = &(*at)->next_relay;
  *at = entry.next_relay;
  entry.stream.follow(entry.source->stream.state().rebuild_position);
  nudge(*entry.source);
  entry.source = nullptr;
}

// From the beginning, if all of it is still there: a relay comes a moment after its image.
std::int64_t Lane::relay_start(const ImageEntry& image) noexcept {
  const shm::ImageState& state = image.stream.state();
  return state.rebuild_position - state.join_position <= image.slot->desired.term_length ? state.join_position : state.rebuild_position;
}

// Rings for what the control plane has to know; ends what is over.
void Lane::tell(PublicationEntry& entry) noexcept {
  const shm::PublicationState& state = entry.stream.state();
  if (state.lifecycle == entry.told && state.is_connected == entry.told_connected) [[likely]] return;
  entry.told = state.lifecycle;
  entry.told_connected = state.is_connected;
  if (state.lifecycle == shm::Lifecycle::kDone) {
    finish(entry);
    return;
  }
  ring(shm::SlotKind::kPublication, entry.index);
}

void Lane::tick(PublicationEntry& entry, std::int64_t now_ns) noexcept {
  turn_to(entry);
  if (entry.first_link != kNoLink && entry.told == shm::Lifecycle::kActive) tick_tethers(entry.first_link, entry.stream.tether_limit(), now_ns);
  entry.stream.tick(tables_.positions(entry.first_link), now_ns);
  tell(entry);
  if (entry.is_used) wake(entry);
}

void Lane::finish(PublicationEntry& entry) noexcept {
  unlist(entry);
  detach_all_links(entry.first_link);
  leave_source(entry);
  if (entry.endpoint != nullptr) {
    const std::uint64_t stream = stream_key(entry.slot->desired.session_id, entry.slot->desired.stream_id);
    publications_by_stream_.erase({entry.endpoint->slot, stream});
    entry.endpoint->cached_publication = shm::kNoSlot;
  }
  disown(owned_publications_, entry);
  entry.is_used = false;
  answer(*entry.slot, shm::Observed::kDone);
  ring(shm::SlotKind::kPublication, entry.index);
}

// ---- images ----

void Lane::on_image(std::uint32_t index, std::int64_t now_ns) noexcept {
  shm::ImageSlot& slot = registry_.images[index];
  ImageEntry& entry = tables_.images[index];
  turn_to({shm::SlotKind::kImage, index});
  const shm::Desired wanted = slot.desired.state.load(std::memory_order_acquire);
  if (wanted == shm::Desired::kFree) return;
  if (entry.is_used && entry.generation == slot.desired.generation) {
    reject_if_wanted(entry);
    bind_response(entry, now_ns);
    tick(entry, now_ns);
    return;
  }
  if (is_answered(slot, shm::Observed::kDone) || is_answered(slot, shm::Observed::kFailed)) return;
  if (wanted == shm::Desired::kActive || is_answered(slot, shm::Observed::kActive)) {
    start_image(entry, slot, now_ns);
  } else {
    answer(slot, shm::Observed::kDone);
  }
  ring(shm::SlotKind::kImage, index);
}

void Lane::start_image(ImageEntry& entry, shm::ImageSlot& slot, std::int64_t now_ns) noexcept {
  Endpoint* const endpoint = endpoint_at(slot.desired.endpoint);  // open: the steward saw to it
  if (endpoint == nullptr) return fail_slot(slot, shm::ClientError::kChannelEndpointError, "its endpoint is closed");
  const shm::Desired wanted = slot.desired.state.load(std::memory_order_relaxed);
  const std::int32_t stream_id = slot.desired.stream_id;
  const std::int32_t session_id = slot.desired.session_id;
  const auto older = endpoint->dispatcher->find(stream_id, session_id);
  const bool is_resumed = is_answered(slot, shm::Observed::kActive);
  entry = ImageEntry{};
  entry.index = static_cast<std::uint32_t>(&entry - tables_.images.get());
  if (older.what == proto::Dispatch::kImage && older.image != entry.index) tables_.images[older.image].stream.supersede();
  if (!is_resumed) {
    slot.observed.state = {};
    slot.observed.is_unavailable.store(0, std::memory_order_relaxed);
  }
  entry.slot = &slot;
  entry.endpoint = endpoint;
  entry.generation = slot.desired.generation;
  entry.is_used = true;
  entry.stream = proto::Image{proto::Image::Context{
      .desired = &slot.desired, .state = &slot.observed.state, .log = tables_.logs[slot.desired.log],
      .rcv_hwm = counter(slot.desired.rcv_hwm_id), .rcv_pos = counter(slot.desired.rcv_pos_id),
      .rcv_naks = counter(slot.desired.rcv_naks_id), .counters = counters_, .receiver_id = endpoint->receiver_id,
      .has_group_tag = endpoint->has_group_tag, .group_tag = endpoint->group_tag, .growth = growth_of(slot.desired.log)}};
  if (is_resumed) {
    entry.stream.resume(now_ns);
  } else if (endpoint->remote.port != 0) {
    entry.stream.start(now_ns, endpoint->remote);
  } else {
    entry.stream.start(now_ns);
  }
  start_connections(entry, is_resumed, now_ns);
  reject_if_wanted(entry);
  bind_response(entry, now_ns);
  entry.told = entry.stream.state().lifecycle;
  const bool is_receiving = entry.told == shm::Lifecycle::kActive || entry.told == shm::Lifecycle::kDraining;
  if (is_receiving && wanted == shm::Desired::kActive) {
    entry.is_dispatched = endpoint->dispatcher->image_live(stream_id, session_id, entry.index);
    forget_images(*endpoint);
  }
  entry.owned_at = static_cast<std::uint32_t>(owned_images_.size());
  owned_images_.push_back(&entry);
  if (is_receiving) active_images_.add(entry);
  answer(slot, shm::Observed::kActive);
}

void Lane::reject_if_wanted(ImageEntry& entry) noexcept {
  const shm::ImageSlot& slot = *entry.slot;
  if (slot.desired.is_rejected.load(std::memory_order_acquire) == 0 || entry.is_rejected) return;
  std::span<const std::byte> reason;
  if (slot.desired.reject_text < shm::kTextsMax) {
    const shm::TextPage& page = registry_.texts[slot.desired.reject_text];
    reason = std::as_bytes(std::span{page.text, std::min<std::size_t>(page.length, sizeof page.text)});
  }
  entry.stream.reject(reason);
  entry.is_rejected = true;
}

// 5.9: the publication that answers its requests, if there is one.
void Lane::bind_response(ImageEntry& entry, std::int64_t now_ns) noexcept {
  const std::uint32_t index = entry.slot->desired.response_publication.load(std::memory_order_acquire);  // pairs with ResponseService
  if (index >= shm::kPublicationsMax) return;
  const shm::PublicationSlot& publication = registry_.publications[index];
  if (entry.response == index && entry.response_generation == publication.desired.generation) return;
  entry.response = index;
  entry.response_generation = publication.desired.generation;
  entry.stream.answer_with(&publication, now_ns);
}

void Lane::tell(ImageEntry& entry) noexcept {
  const shm::Lifecycle now = entry.stream.state().lifecycle;
  if (now == entry.told) [[likely]] return;
  const shm::Lifecycle before = entry.told;
  entry.told = now;
  if (now >= shm::Lifecycle::kLinger && before < shm::Lifecycle::kLinger) {
    leave_dispatcher(entry);
    unlist(entry);
    entry.slot->observed.is_unavailable.store(1, std::memory_order_release);
  }
  if (now == shm::Lifecycle::kDone) {
    finish(entry);
    return;
  }
  ring(shm::SlotKind::kImage, entry.index);
}

void Lane::leave_dispatcher(ImageEntry& entry) noexcept {
  forget_images(*entry.endpoint);
  if (!entry.is_dispatched) return;
  entry.is_dispatched = false;
  const shm::ImageSlot::Wanted& desired = entry.slot->desired;
  proto::Dispatcher& dispatcher = *entry.endpoint->dispatcher;
  const bool has_ended = entry.stream.state().is_end_of_stream != 0;
  const bool is_feed = desired.side_timeout_ns != 0;
  if (has_ended && is_feed) {
    return dispatcher.stream_ended(desired.stream_id, desired.session_id, entry.index, desired.initial_term_id, last_turn_ns_ + desired.liveness_timeout_ns);
  }
  dispatcher.image_removed(desired.stream_id, desired.session_id, entry.index, has_ended, (desired.flags & shm::ImageFlags::kRejoin) != 0);
}

void Lane::tick(ImageEntry& entry, std::int64_t now_ns) noexcept {
  turn_to(entry);
  if (entry.first_link != kNoLink && entry.told == shm::Lifecycle::kActive) {
    tick_tethers(entry.first_link, entry.stream.tether_limit(tables_.positions(entry)), now_ns);
  }
  entry.stream.tick(tables_.positions(entry), now_ns);
  tell(entry);
  if (entry.is_used && entry.told < shm::Lifecycle::kLinger) wake(entry);
}

void Lane::finish(ImageEntry& entry) noexcept {
  unlist(entry);
  detach_all_links(entry.first_link);
  while (entry.first_relay != nullptr) leave_source(*entry.first_relay);   // they send what they have, from the log
  disown(owned_images_, entry);
  entry.is_used = false;
  answer(*entry.slot, shm::Observed::kDone);
  ring(shm::SlotKind::kImage, entry.index);
}

// ---- links ----

std::uint32_t* Lane::first_link_of(const shm::LinkSlot& slot) noexcept {
  const std::uint32_t target = slot.desired.target_slot;
  if (slot.desired.target == shm::LinkTarget::kImage) {
    return target < shm::kImagesMax && tables_.images[target].is_used ? &tables_.images[target].first_link : nullptr;
  }
  return target < shm::kPublicationsMax && tables_.publications[target].is_used ? &tables_.publications[target].first_link : nullptr;
}

void Lane::on_link(std::uint32_t index, std::int64_t now_ns) noexcept {
  shm::LinkSlot& slot = registry_.links[index];
  LinkEntry& link = tables_.links[index];
  const shm::Desired wanted = slot.desired.state.load(std::memory_order_acquire);
  if (wanted == shm::Desired::kActive) {
    if (link.is_linked && link.generation == slot.desired.generation) return;
    if (is_answered(slot, shm::Observed::kDone)) return;  // its target ended first
    attach_link(index, now_ns);
    ring(shm::SlotKind::kLink, index);
  } else if (wanted == shm::Desired::kClosing && !is_answered(slot, shm::Observed::kDone)) {
    if (link.is_linked) detach_link(index);
    answer(slot, shm::Observed::kDone);
    ring(shm::SlotKind::kLink, index);
    if (first_link_of(slot) != nullptr) tick_target(slot, now_ns);
  }
}

void Lane::attach_link(std::uint32_t index, std::int64_t now_ns) noexcept {
  shm::LinkSlot& slot = registry_.links[index];
  LinkEntry& link = tables_.links[index];
  std::uint32_t* const first = first_link_of(slot);
  const shm::Counter position = counter(slot.desired.counter_id);
  if (first == nullptr || !position) {
    answer(slot, shm::Observed::kDone);  // the stream is over already
    return;
  }
  const bool is_resumed = is_answered(slot, shm::Observed::kActive);
  link = LinkEntry{};
  link.position = position;
  link.slot = index;
  link.generation = slot.desired.generation;
  if (!is_resumed) {
    slot.observed.join_position = join_position(slot);
    slot.observed.tether.store(shm::Tether::kActive, std::memory_order_relaxed);
    slot.observed.tether_changes = 0;
    slot.observed.tether_since_ns = now_ns;
    link.position.set(slot.observed.join_position);
  }
  const shm::Tether tether = slot.observed.tether.load(std::memory_order_relaxed);
  if (tether == shm::Tether::kActive) slot.observed.tether_since_ns = now_ns;  // our own absence is not held against it
  link.counts = proto::is_counted(tether);
  link.is_linked = true;
  link.next = *first;
  *first = index;
  answer(slot, shm::Observed::kActive);
  tick_target(slot, now_ns);  // connects an IPC publication, or one with spies, at once
}

// Untethered subscribers of an ACTIVE stream.
void Lane::tick_tethers(std::uint32_t first_link, std::int64_t limit, std::int64_t now_ns) noexcept {
  for (std::uint32_t i = first_link; i != kNoLink; i = tables_.links[i].next) {
    shm::LinkSlot& slot = registry_.links[i];
    if (slot.desired.is_tethered != 0) continue;
    LinkEntry& link = tables_.links[i];
    const proto::TetherState from{slot.observed.tether.load(std::memory_order_relaxed), slot.observed.tether_since_ns};
    const proto::TetherState to = proto::next_tether(slot.desired, from, link.position.get(), limit, now_ns);
    slot.observed.tether_since_ns = to.since_ns;
    if (to.tether == from.tether) continue;
    move_tether(slot, link, to.tether);
    ring(shm::SlotKind::kLink, i);
  }
}

// Whoever comes back joins as if it were new, before its client is told. Clients learn of every change (client-protocol 8.7).
void Lane::move_tether(shm::LinkSlot& slot, LinkEntry& link, shm::Tether to) noexcept {
  if (to == shm::Tether::kActive) {
    slot.observed.join_position = join_position(slot);
    link.position.set(slot.observed.join_position);
  }
  link.counts = proto::is_counted(to);
  ++slot.observed.tether_changes;
  slot.observed.tether.store(to, std::memory_order_release);  // pairs with the conductor's acquire
}

std::int64_t Lane::join_position(const shm::LinkSlot& slot) const noexcept {
  const std::uint32_t target = slot.desired.target_slot;
  if (slot.desired.target == shm::LinkTarget::kImage) {
    const ImageEntry& image = tables_.images[target];
    return image.stream.join_position(tables_.positions(image));
  }
  const PublicationEntry& publication = tables_.publications[target];
  const shm::PublicationState& state = publication.stream.state();
  if (!publication.stream.is_ipc()) return state.sender_position;  // a spy
  const proto::SubscriberPositions others = tables_.positions(publication.first_link);
  return others.count == 0 ? state.consumer_position : std::min(state.consumer_position, others.min);
}

void Lane::tick_target(const shm::LinkSlot& slot, std::int64_t now_ns) noexcept {
  const std::uint32_t target = slot.desired.target_slot;
  if (slot.desired.target == shm::LinkTarget::kImage) {
    if (tables_.images[target].told < shm::Lifecycle::kLinger) wake(tables_.images[target]);
  } else {
    tick(tables_.publications[target], now_ns);
  }
}

void Lane::detach_link(std::uint32_t index) noexcept {
  LinkEntry& link = tables_.links[index];
  link.is_linked = false;
  std::uint32_t* at = first_link_of(registry_.links[index]);
  if (at == nullptr) return;
  while (*at != kNoLink && *at != index) at = &tables_.links[*at].next;
  if (*at == index) *at = link.next;
}

// The stream ended before its subscribers let go.
void Lane::detach_all_links(std::uint32_t first) noexcept {
  for (std::uint32_t i = first; i != kNoLink; i = tables_.links[i].next) tables_.links[i].is_linked = false;
}

}  // namespace thalweg::core
