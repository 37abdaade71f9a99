#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "controlplane/conductor/publication_table.hpp"
#include "dataplane/wire/ipv6.hpp"

// The life of publications after their creation: what lanes report, links, rejects, the end, and recovery after a restart.
namespace thalweg::conductor {

using shm::Lifecycle;

void PublicationTable::start_when_log_is_ready(std::uint32_t publication) {
  const auto& wanted = world_->publications.slot(publication).desired;
  switch (world_->logs.status(wanted.log)) {
    case host::LogStatus::kReady:
      world_->publications.publish(publication);
      world_->bells.ring(shm::SlotKind::kPublication, publication);
      if (is_sure_to_run(publication)) world_->publications.record(publication).status = Status::kActive;
      break;
    case host::LogStatus::kFailed: fail(publication, to_command_error(world_->logs.error(wanted.log))); break;
    case host::LogStatus::kCreating:
    case host::LogStatus::kClosing: break;
  }
}

// Where its lane could only say yes, nobody waits for the answer: READY goes out three thread hops sooner, and until the lane has the stream
// its limit is where it starts. Whatever it might refuse waits: a log not mapped yet, an MTU, a port, a source.
bool PublicationTable::is_sure_to_run(std::uint32_t publication) const noexcept {
  const PublicationRecord& record = world_->publications.record(publication);
  const auto& wanted = world_->publications.slot(publication).desired;
  if (!world_->logs.is_mapped(wanted.log) || (wanted.flags & shm::PublicationFlags::kRelay) != 0) return false;
  if (record.is_ipc) return true;
  if (record.channel.control_mode != ControlMode::kNone) return false;  // ports of its own for each destination
  const auto& endpoint = world_->endpoints.slot(wanted.endpoint);
  if (host::observed_state(endpoint) != shm::Observed::kActive) return false;
  const std::size_t ip_header = wire::is_handle(endpoint.desired.remote_address) ? wire::kIpv6HeaderLength : wire::kIpv4HeaderLength;
  const auto headers = static_cast<std::int32_t>(ip_header + wire::kUdpHeaderLength);
  return wanted.mtu + headers <= static_cast<std::int32_t>(world_->registry->ports[endpoint.observed.port_index].mtu);
}

void PublicationTable::fail(std::uint32_t publication, CommandError error) {
  PublicationRecord& record = world_->publications.record(publication);
  record.status = Status::kFailed;
  record.error = std::move(error);
}

void PublicationTable::service(std::uint32_t publication) {
  if (!world_->publications.is_used(publication)) return;
  PublicationRecord& record = world_->publications.record(publication);
  const auto& slot = world_->publications.slot(publication);
  if (world_->publications.desired(publication) == shm::Desired::kFree) {
    if (record.status == Status::kStarting) start_when_log_is_ready(publication);
    return;
  }
  const shm::Observed observed = host::observed_state(slot);
  if (observed == shm::Observed::kActive && !record.is_running) {
    record.is_running = true;
    record.error_frames = slot.observed.error_frames;
    record.response_setups = slot.observed.response_setups;
  }
  if (record.status == Status::kStarting) {
    if (observed == shm::Observed::kActive) {
      record.status = Status::kActive;
    } else if (observed == shm::Observed::kFailed) {
      fail(publication, slot_error(slot.observed.error));
    } else if (world_->logs.status(slot.desired.log) == host::LogStatus::kFailed) {
      fail(publication, to_command_error(world_->logs.error(slot.desired.log)));
    }
    return;
  }
  if (observed == shm::Observed::kActive && slot.observed.error_frames != record.error_frames) announce_errors(publication);
  if (observed == shm::Observed::kFailed && record.status == Status::kActive) return announce_failure(publication);
  const Lifecycle lifecycle = slot.observed.state.lifecycle;
  const bool is_over = observed == shm::Observed::kDone || (observed == shm::Observed::kActive && (lifecycle == Lifecycle::kLinger || lifecycle == Lifecycle::kDone));
  if (is_over && !record.is_end_told) announce_end(publication);
  const bool has_let_go = observed == shm::Observed::kDone || observed == shm::Observed::kFailed;
  if (world_->publications.desired(publication) == shm::Desired::kClosing && has_let_go) destroy(publication);
}

void PublicationTable::announce_end(std::uint32_t publication) {
  PublicationRecord& record = world_->publications.record(publication);
  record.is_end_told = true;
  const bool is_revoked = world_->publications.slot(publication).desired.is_revoked.load(std::memory_order_relaxed) != 0;
  if (is_revoked) world_->system(shm::SystemCounter::kPublicationsRevoked).add(1);
  const auto& slot = world_->publications.slot(publication);
  if (slot.observed.state.is_corrupt != 0) {
    world_->report({shm::ClientError::kGeneric, fmt::format("publication ended: its log held a frame that does not belong there: stream={} channel={}",
                                                            slot.desired.stream_id, record.is_ipc ? "aeron:ipc" : record.channel.uri)});
  }
  const std::vector<std::uint32_t> links = record.links;
  for (const std::uint32_t link : links) {
    const std::uint32_t subscription = world_->links.slot(link).desired.subscription;
    if (subscription == shm::kNoSlot) continue;
    links_->announce_unavailable(link, record.is_ipc ? std::string_view{"aeron:ipc"} : std::string_view{world_->subscriptions.record(subscription).uri});
    links_->close(link);
  }
}

// The data plane does not take up again what it had: nobody moves the stream any more, so its publishers are told that nobody receives.
void PublicationTable::announce_failure(std::uint32_t publication) {
  auto& slot = world_->publications.slot(publication);
  const CommandError error = slot_error(slot.observed.error);
  world_->report(error);
  const std::uint32_t log = slot.desired.log;
  if (log != shm::kNoSlot && world_->logs.status(log) == host::LogStatus::kReady) {
    world_->logs.buffer(log).store<std::int32_t>(shm::meta::kIsConnected, 0);
  }
  shm::OnPublicationError message;
  message.registration_id = slot.desired.registration_id;
  message.session_id = slot.desired.session_id;
  message.stream_id = slot.desired.stream_id;
  message.receiver_id = -1;
  message.address_type = 1;
  store_be32(message.address, 0x7F000001U);
  message.code = static_cast<std::int32_t>(error.code);
  message.text = error.text;
  world_->clients_out.publication_error(message);
  announce_end(publication);
  fail(publication, error);
}

// Of a flood, which would run over clients that are slow to read, as many in a second as a publication has receivers; the latest follows at a
// tick.
void PublicationTable::announce_errors(std::uint32_t publication) {
  PublicationRecord& record = world_->publications.record(publication);
  const auto& slot = world_->publications.slot(publication);
  if (world_->now.now_ns - record.errors_since_ns >= kSecond_ns) {
    record.errors_since_ns = world_->now.now_ns;
    record.errors_told = 0;
  }
  if (record.errors_told == shm::kReceiversMax) return;
  ++record.errors_told;
  record.error_frames = slot.observed.error_frames;
  const CommandError error = slot_error(slot.observed.error);
  shm::OnPublicationError message;
  message.registration_id = slot.desired.registration_id;
  message.session_id = slot.desired.session_id;
  message.stream_id = slot.desired.stream_id;
  message.receiver_id = slot.observed.error_receiver_id;
  message.group_tag = slot.observed.error_group_tag;
  const std::uint32_t source = slot.observed.error_source_address;
  message.source_port = slot.observed.error_source_port;
  if (wire::is_handle(source)) {
    message.address_type = 2;
    std::memcpy(message.address, world_->registry->addresses.address(source).address.bytes.data(), sizeof message.address);
  } else {
    message.address_type = 1;
    store_be32(message.address, source);
  }
  message.code = static_cast<std::int32_t>(error.code);
  message.text = error.text;
  world_->clients_out.publication_error(message);
}

void PublicationTable::destroy(std::uint32_t publication) {
  PublicationRecord& record = world_->publications.record(publication);
  const std::vector<std::uint32_t> links = record.links;
  for (const std::uint32_t link : links) links_->destroy(link);
  auto& wanted = world_->publications.slot(publication).desired;
  if (wanted.fc_receivers_id_plus_1 != 0) world_->free_counter(static_cast<std::int32_t>(wanted.fc_receivers_id_plus_1) - 1);
  for (const std::int32_t id : {wanted.pub_pos_id, wanted.pub_lmt_id, wanted.snd_pos_id, wanted.snd_lmt_id, wanted.snd_bpe_id, wanted.snd_naks_id}) {
    world_->free_counter(id);
  }
  if (wanted.log != shm::kNoSlot) world_->logs.release(wanted.log);
  if (wanted.endpoint != shm::kNoSlot) endpoints_->release(wanted.endpoint);
  world_->registry.free_text(wanted.text);
  world_->publications.release(publication);
}

bool PublicationTable::accepts_subscriptions(std::uint32_t publication) const noexcept {
  const PublicationRecord& record = world_->publications.record(publication);
  const auto& slot = world_->publications.slot(publication);
  const bool is_running = record.status == Status::kActive || record.status == Status::kClosing;
  if (!is_running || record.is_end_told || slot.desired.reject_until_ms != 0) return false;
  const bool has_state = host::observed_state(slot) != shm::Observed::kNone;  // else it is that of the slot's last stream
  const Lifecycle lifecycle = has_state ? slot.observed.state.lifecycle : Lifecycle::kNone;
  return slot.desired.is_revoked.load(std::memory_order_relaxed) == 0 && (lifecycle == Lifecycle::kActive || lifecycle == Lifecycle::kNone || lifecycle == Lifecycle::kDraining);
}

bool PublicationTable::matches(std::uint32_t publication, std::uint32_t subscription) const {
  const SubscriptionRecord& subscribed = world_->subscriptions.record(subscription);
  const auto& slot = world_->subscriptions.slot(subscription);
  if (slot.has_session == 0 && is_response(subscribed.channel)) return false;
  const auto session = slot.has_session != 0 ? std::optional{slot.session_id} : std::nullopt;
  return matches(publication, Wish{subscribed.kind, slot.stream_id, session, &subscribed.channel});
}

bool PublicationTable::matches_destination(std::uint32_t publication, std::uint32_t destination) const {
  const auto& wanted = world_->destinations.slot(destination).desired;
  const bool is_ipc = wanted.kind == shm::DestinationKind::kIpc;
  if ((!is_ipc && wanted.kind != shm::DestinationKind::kSpy) || !world_->subscriptions.is_used(wanted.subscription)) return false;
  const DestinationRecord& record = world_->destinations.record(destination);
  const auto& subscribed = world_->subscriptions.slot(wanted.subscription);
  if (subscribed.has_session != 0 && subscribed.session_id != world_->publications.slot(publication).desired.session_id) return false;
  return matches(publication, Wish{is_ipc ? SubscriptionKind::kIpc : SubscriptionKind::kSpy, subscribed.stream_id, record.session_id, &record.channel});
}

bool PublicationTable::matches(std::uint32_t publication, const Wish& wish) const {
  const PublicationRecord& record = world_->publications.record(publication);
  const auto& wanted = world_->publications.slot(publication).desired;
  if (wanted.stream_id != wish.stream_id) return false;
  if ((wanted.flags & shm::PublicationFlags::kRelay) != 0) return false;  // its frames are read where they came from
  const bool is_session_wanted = !wish.session_id || *wish.session_id == wanted.session_id;
  if (wish.kind == SubscriptionKind::kIpc) return record.is_ipc && is_session_wanted;
  if (wish.kind != SubscriptionKind::kSpy || record.is_ipc) return false;
  const UdpChannel& channel = *wish.channel;
  if (channel.tag && *channel.tag >= 0 && channel.tag == record.channel.tag) return true;
  // One that came by a tag alone has the address of the endpoint that it found.
  const bool has_own = !record.channel.canonical.empty() || wanted.endpoint == shm::kNoSlot;
  const std::string& canonical = has_own ? record.channel.canonical : world_->endpoints.record(wanted.endpoint).channel.canonical;
  return is_session_wanted && !channel.canonical.empty() && channel.canonical == canonical;
}

void PublicationTable::link_subscriptions(std::uint32_t publication) {
  if (!accepts_subscriptions(publication)) return;
  for (const std::uint32_t subscription : world_->subscriptions.used()) {
    if (matches(publication, subscription)) links_->link(shm::LinkTarget::kPublication, publication, subscription);
  }
  for (const std::uint32_t destination : world_->destinations.used()) {
    if (matches_destination(publication, destination)) link_through(destination, publication);
  }
}

void PublicationTable::link_destination(std::uint32_t destination) {
  for (const std::uint32_t publication : world_->publications.used()) {
    if (accepts_subscriptions(publication) && matches_destination(publication, destination)) link_through(destination, publication);
  }
}

void PublicationTable::link_through(std::uint32_t destination, std::uint32_t publication) {
  links_->link(shm::LinkTarget::kPublication, publication, world_->destinations.slot(destination).desired.subscription, world_->destinations.record(destination).uri);
}

void PublicationTable::link_to_publications(std::uint32_t subscription) {
  for (const std::uint32_t publication : world_->publications.used()) {
    if (accepts_subscriptions(publication) && matches(publication, subscription)) links_->link(shm::LinkTarget::kPublication, publication, subscription);
  }
}

void PublicationTable::reject(std::uint32_t publication, std::string_view reason) {
  PublicationRecord& record = world_->publications.record(publication);
  auto& wanted = world_->publications.slot(publication).desired;
  const bool is_cooling_down = wanted.reject_until_ms != 0;
  wanted.reject_until_ms = world_->now.now_ms + world_->settings.streams.image_liveness_timeout_ns / kMillisecond_ns;
  if (is_cooling_down) return;
  shm::OnPublicationError message;
  message.registration_id = wanted.registration_id;
  message.session_id = wanted.session_id;
  message.stream_id = wanted.stream_id;
  message.receiver_id = -1;
  message.address_type = 1;
  store_be32(message.address, 0x7F000001U);
  message.code = static_cast<std::int32_t>(shm::ClientError::kImageRejected);
  message.text = reason;
  world_->clients_out.publication_error(message);
  const std::vector<std::uint32_t> links = record.links;
  for (const std::uint32_t link : links) {
    const std::uint32_t subscription = world_->links.slot(link).desired.subscription;
    if (subscription == shm::kNoSlot) continue;
    links_->announce_unavailable(link, world_->subscriptions.record(subscription).uri);
    links_->close(link);
  }
}

void PublicationTable::tick() {
  const std::vector<std::uint32_t> publications = world_->publications.used();
  for (const std::uint32_t index : publications) {
    auto& wanted = world_->publications.slot(index).desired;
    if (wanted.reject_until_ms == 0 || world_->now.now_ms <= wanted.reject_until_ms) continue;
    wanted.reject_until_ms = 0;
    link_subscriptions(index);
  }
}

void PublicationTable::recover() {
  for (const std::uint32_t ref : world_->refs.used()) refs_by_registration_.emplace(world_->refs.slot(ref).registration_id, ref);
  const std::vector<std::uint32_t> publications = world_->publications.used();
  for (const std::uint32_t index : publications) {
    PublicationRecord& record = world_->publications.record(index);
    auto& slot = world_->publications.slot(index);
    auto& wanted = slot.desired;
    record.is_ipc = (wanted.flags & shm::PublicationFlags::kIpc) != 0;
    record.is_exclusive = (wanted.flags & shm::PublicationFlags::kExclusive) != 0;
    record.error_frames = slot.observed.error_frames;
    record.response_setups = slot.observed.response_setups;
    if (wanted.endpoint != shm::kNoSlot) {
      endpoints_->add_reference(wanted.endpoint);
      record.channel = world_->endpoints.record(wanted.endpoint).channel;
    }
    if (const auto uri = shm::ChannelUri::parse(world_->registry.text(wanted.text))) {
      if (auto params = parse_publication_params(*uri, world_->settings.streams, has_group_semantics(record.channel))) record.params = std::move(*params);
    }
    wanted.reference_count = static_cast<std::uint32_t>(std::count_if(
        world_->refs.used().begin(), world_->refs.used().end(), [&](std::uint32_t ref) { return world_->refs.slot(ref).publication == index; }));
    const bool is_closing = world_->publications.desired(index) == shm::Desired::kClosing;
    const bool was_active = host::observed_state(slot) == shm::Observed::kActive || shm::is_quarantined(slot);
    record.is_running = was_active;
    const bool is_active = was_active || (world_->publications.desired(index) == shm::Desired::kActive && is_sure_to_run(index));
    record.status = is_closing ? Status::kClosing : is_active ? Status::kActive : Status::kStarting;
    if (!is_closing && wanted.reference_count == 0) {
      record.status = Status::kClosing;
      world_->publications.close(index);
      world_->bells.ring(shm::SlotKind::kPublication, index);
    }
  }
  const std::vector<std::uint32_t> refs = world_->refs.used();
  for (const std::uint32_t ref : refs) {
    const auto& slot = world_->refs.slot(ref);
    if (world_->publications.is_used(slot.publication)) continue;
    refs_by_registration_.erase(slot.registration_id);
    world_->refs.release(ref);
  }
}

}  // namespace thalweg::conductor
