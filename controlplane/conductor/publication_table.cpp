#include "controlplane/conductor/publication_table.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace thalweg::conductor {
namespace {

using shm::Lifecycle;
using shm::PublicationFlags;

std::uint32_t flags_of(const PublicationTable::Request& request) noexcept {
  std::uint32_t flags = 0;
  if (request.is_ipc) flags |= PublicationFlags::kIpc;
  if (request.is_exclusive) flags |= PublicationFlags::kExclusive;
  if (request.params.signal_eos) flags |= PublicationFlags::kSignalEos;
  if (request.params.spies_simulate_connection) flags |= PublicationFlags::kSpiesSimulateConnection;
  if (has_group_semantics(request.channel)) flags |= PublicationFlags::kGroup;
  if (request.channel.is_multicast) flags |= PublicationFlags::kMulticast;
  if (request.source_image != shm::kNoSlot) flags |= PublicationFlags::kRelay;
  if (request.drops_when_slow) flags |= PublicationFlags::kDropsWhenSlow;
  const bool is_response = request.channel.control_mode == ControlMode::kResponse;
  if (is_response) flags |= PublicationFlags::kIsResponse;
  if (!is_response && request.params.response_correlation_id >= 0) flags |= PublicationFlags::kHasResponse;
  return flags;
}

template <typename T>
tl::unexpected<CommandError> differs(const char* name, const T& existing, const T& requested, const std::string& uri) {
  return refuse_channel(fmt::format("existing publication has different '{}': existing={} requested={} channel={}", name, existing, requested, uri));
}

}  // namespace

PublicationTable::PublicationTable(World& world, EndpointTable& endpoints, LinkTable& links) noexcept
    : world_{&world}, endpoints_{&endpoints}, links_{&links}, next_session_id_{static_cast<std::int32_t>(world.random.next())} {}

Outcome<std::uint32_t> PublicationTable::add(Request& request, bool& used_endpoint) {
  used_endpoint = false;
  if (const std::uint32_t replayed = find(request.client_id, request.registration_id); replayed != shm::kNoSlot) return replayed;
  if (!request.is_exclusive) {
    const auto shared = find_shared(request);
    if (!shared) return shared;
    if (*shared != shm::kNoSlot) {
      if (auto added = add_reference(*shared, request.client_id, request.registration_id); !added) return tl::unexpected{added.error()};
      return *shared;
    }
  }
  if (auto clash = check_clash(request); !clash) return tl::unexpected{clash.error()};
  auto created = create(request);
  used_endpoint = created.has_value();
  return created;
}

Outcome<std::uint32_t> PublicationTable::find_shared(const Request& request) const {
  for (const std::uint32_t index : world_->publications.used()) {
    const PublicationRecord& record = world_->publications.record(index);
    const auto& wanted = world_->publications.slot(index).desired;
    if (record.is_exclusive || record.is_ipc != request.is_ipc || wanted.stream_id != request.stream_id || wanted.endpoint != request.endpoint) continue;
    if (wanted.response_correlation_id != request.params.response_correlation_id) continue;
    if (record.status != Status::kStarting && record.status != Status::kActive) continue;
    if (wanted.reference_count == 0 || wanted.is_revoked.load(std::memory_order_relaxed) != 0 || record.is_end_told) continue;
    const PublicationParams& params = request.params;
    if (params.session_id && *params.session_id != wanted.session_id) return differs("session-id", wanted.session_id, *params.session_id, request.uri);
    if (params.requested_mtu && *params.requested_mtu != wanted.mtu) return differs("mtu", wanted.mtu, *params.requested_mtu, request.uri);
    if (params.requested_term_length && *params.requested_term_length != wanted.term_length) {
      return differs("term-length", wanted.term_length, *params.requested_term_length, request.uri);
    }
    if (params.start) {
      if (params.start->initial_term_id != wanted.initial_term_id) {
        return differs("init-term-id", wanted.initial_term_id, params.start->initial_term_id, request.uri);
      }
      const std::int64_t position = wire::position_of(params.start->term_id, params.start->term_offset, wanted.initial_term_id, wire::position_bits(wanted.term_length));
      if (position != wanted.start_position) return differs("term-id and term-offset", wanted.start_position, position, request.uri);
    }
    const bool existing_ssc = (wanted.flags & PublicationFlags::kSpiesSimulateConnection) != 0;
    if (!request.is_ipc && params.requested_ssc && *params.requested_ssc != existing_ssc) return differs("ssc", existing_ssc, *params.requested_ssc, request.uri);
    return index;
  }
  return shm::kNoSlot;
}

bool PublicationTable::is_session_used(std::uint32_t endpoint, bool is_ipc, std::int32_t stream_id, std::int32_t session_id) const {
  return std::any_of(world_->publications.used().begin(), world_->publications.used().end(), [&](std::uint32_t index) {
    const PublicationRecord& record = world_->publications.record(index);
    const auto& wanted = world_->publications.slot(index).desired;
    if (record.status == Status::kFailed || wanted.stream_id != stream_id || wanted.session_id != session_id || record.is_ipc != is_ipc) return false;
    return is_ipc ? !record.is_end_told : wanted.endpoint == endpoint;
  });
}

Outcome<void> PublicationTable::check_clash(const Request& request) const {
  if (!request.params.session_id || !is_session_used(request.endpoint, request.is_ipc, request.stream_id, *request.params.session_id)) return {};
  return refuse_channel(fmt::format("existing publication has clashing sessionId={} for streamId={} channel={}", *request.params.session_id, request.stream_id, request.uri));
}

std::int32_t PublicationTable::take_session_id(std::uint32_t endpoint, bool is_ipc, std::int32_t stream_id) {
  const Settings& settings = world_->settings;
  const auto is_reserved = [&](std::int32_t id) { return id >= settings.reserved_session_id_low && id <= settings.reserved_session_id_high; };
  std::int32_t candidate = next_session_id_;
  while (is_reserved(candidate) || is_session_used(endpoint, is_ipc, stream_id, candidate)) {
    candidate = wire::wrapping_add(is_reserved(candidate) ? settings.reserved_session_id_high : candidate, 1);
  }
  next_session_id_ = wire::wrapping_add(candidate, 1);
  return candidate;
}

std::int32_t PublicationTable::take_session_id_for_stream(std::int32_t stream_id) {
  const auto is_taken = [&](std::int32_t session_id) {
    return std::any_of(world_->publications.used().begin(), world_->publications.used().end(), [&](std::uint32_t index) {
      const auto& wanted = world_->publications.slot(index).desired;
      return wanted.stream_id == stream_id && wanted.session_id == session_id;
    });
  };
  std::int32_t candidate = take_session_id(shm::kNoSlot, true, stream_id);
  while (is_taken(candidate)) candidate = take_session_id(shm::kNoSlot, true, stream_id);
  return candidate;
}

Outcome<void> PublicationTable::settle_session_tag(Request& request) const {
  if (!request.params.session_tag) return {};
  for (const std::uint32_t index : world_->publications.used()) {
    const PublicationRecord& record = world_->publications.record(index);
    if (record.status == Status::kFailed || record.params.entity_tag != *request.params.session_tag) continue;
    const auto& wanted = world_->publications.slot(index).desired;
    request.params.session_id = wanted.session_id;
    request.params.mtu = wanted.mtu;
    request.params.requested_mtu = wanted.mtu;
    request.params.term_length = wanted.term_length;
    request.params.requested_term_length = wanted.term_length;
    return {};
  }
  return refuse_channel(fmt::format("session-id=tag:{}: no publication has that tag: channel={}", *request.params.session_tag, request.uri));
}

Outcome<std::uint32_t> PublicationTable::create(Request& request) {
  const auto text = world_->keep_text(request.uri);
  if (!text) return tl::unexpected{text.error()};
  const auto index = world_->publications.allocate();
  if (!index) {
    world_->registry.free_text(*text);
    return refuse(shm::ClientError::kGeneric, fmt::format("all {} publications are in use", shm::kPublicationsMax));
  }
  // From here on destroy() undoes what was done so far.
  auto& wanted = world_->publications.slot(*index).desired;
  wanted.text = *text;
  fill_slot(*index, request);
  const auto undo = [&](CommandError error) {
    wanted.endpoint = shm::kNoSlot;  // the reference stays with the caller
    destroy(*index);
    return tl::unexpected{std::move(error)};
  };
  if (!allocate_counters(*index, request.uri)) return undo({shm::ClientError::kGeneric, "max counter id exceeded"});
  if (auto log = acquire_log(*index); !log) return undo(log.error());
  if (auto added = add_reference(*index, request.client_id, request.registration_id); !added) return undo(added.error());
  start_when_log_is_ready(*index);
  return *index;
}

void PublicationTable::fill_slot(std::uint32_t publication, const Request& request) {
  auto& wanted = world_->publications.slot(publication).desired;
  PublicationRecord& record = world_->publications.record(publication);
  const PublicationParams& params = request.params;
  const StreamDefaults& defaults = world_->settings.streams;
  record.is_ipc = request.is_ipc;
  record.is_exclusive = request.is_exclusive;
  record.channel = request.channel;
  record.params = params;
  wanted.registration_id = request.registration_id;
  wanted.owner_client_id = request.client_id;
  wanted.session_id = params.session_id ? *params.session_id : take_session_id(request.endpoint, request.is_ipc, request.stream_id);
  wanted.stream_id = request.stream_id;
  wanted.initial_term_id = params.start ? params.start->initial_term_id : static_cast<std::int32_t>(world_->random.next());
  wanted.term_length = params.term_length;
  wanted.mtu = params.mtu;
  wanted.window_length = params.window;
  if (params.start) {
    wanted.start_position = wire::position_of(params.start->term_id, params.start->term_offset, wanted.initial_term_id, wire::position_bits(params.term_length));
  }
  wanted.flags = flags_of(request);
  if (request.source_image != shm::kNoSlot) fill_source(publication, request.source_image);
  wanted.endpoint = request.endpoint;
  wanted.lane = request.is_ipc ? pick_lane() : world_->endpoints.slot(request.endpoint).observed.lane;
  wanted.max_resend = params.max_resend.value_or(defaults.max_resend);
  wanted.ttl = request.channel.ttl;
  wanted.linger_ns = params.linger_ns;
  wanted.connection_timeout_ns = defaults.connection_timeout_ns;
  wanted.unblock_timeout_ns = defaults.unblock_timeout_ns;
  wanted.retransmit_delay_ns = defaults.retransmit_delay_ns;
  wanted.retransmit_linger_ns = params.retransmit_linger_ns;
  wanted.is_retransmit_linger_auto = params.is_retransmit_linger_auto ? 1 : 0;
  wanted.untethered_window_limit_timeout_ns = params.untethered.window_limit_ns;
  wanted.untethered_linger_timeout_ns = params.untethered.linger_ns;
  wanted.untethered_resting_timeout_ns = params.untethered.resting_ns;
  wanted.flow_control = params.flow_control.strategy;
  wanted.flow_control_group_tag = params.flow_control.group_tag;
  wanted.flow_control_group_min_size = params.flow_control.group_min_size;
  wanted.retransmit_window_multiple = params.flow_control.retransmit_window_multiple;
  wanted.flow_control_receiver_timeout_ns = params.flow_control.receiver_timeout_ns;
  wanted.retransmit_limit_bytes = defaults.retransmit_limit_bytes;
  wanted.retransmit_limit_interval_ns = defaults.retransmit_limit_interval_ns;
  wanted.response_correlation_id = params.response_correlation_id;
}

// A relay's log is its image's, and all that shapes a log with it.
void PublicationTable::fill_source(std::uint32_t publication, std::uint32_t image) {
  auto& wanted = world_->publications.slot(publication).desired;
  const auto& source = world_->images.slot(image).desired;
  wanted.initial_term_id = source.initial_term_id;
  wanted.term_length = source.term_length;
  wanted.mtu = source.mtu;
  wanted.window_length = 0;
  wanted.start_position = source.join_position;
  wanted.source_image = image;
  wanted.source_generation = source.generation;
  wanted.source_session_id = source.session_id;
  wanted.source_stream_id = source.stream_id;
}

bool PublicationTable::allocate_counters(std::uint32_t publication, std::string_view uri) {
  auto& wanted = world_->publications.slot(publication).desired;
  const PublicationRecord& record = world_->publications.record(publication);
  const auto key = shm::stream_key(wanted.registration_id, wanted.session_id, wanted.stream_id, uri);
  bool has_all = true;
  const auto allocate = [&](std::int32_t type_id, std::string_view name, std::int64_t owner_id, std::int64_t value) {
    const std::string label = shm::stream_label(name, wanted.registration_id, wanted.session_id, wanted.stream_id, uri);
    const std::int32_t id = world_->allocate_counter({.type_id = type_id,
                                                      .key = key.span(),
                                                      .label = label,
                                                      .registration_id = wanted.registration_id,
                                                      .owner_id = owner_id,
                                                      .initial_value = value});
    has_all = has_all && id >= 0;
    return id;
  };
  namespace type = shm::counter_type;
  const std::int64_t owner = wanted.owner_client_id;
  const std::int64_t start = wanted.start_position;
  if (!record.is_ipc && wanted.flow_control != shm::FlowControl::kMax) {
    wanted.fc_receivers_id_plus_1 = static_cast<std::uint32_t>(allocate(type::kFlowControlReceivers, "fc-receivers", -1, 0) + 1);
  }
  const bool is_relay = (wanted.flags & PublicationFlags::kRelay) != 0;  // nobody publishes into its log
  if (!is_relay) wanted.pub_pos_id = allocate(type::kPublisherPosition, record.is_exclusive ? "pub-pos (exclusive)" : "pub-pos (concurrent)", owner, start);
  if (!is_relay) wanted.pub_lmt_id = allocate(type::kPublisherLimit, "pub-lmt", owner, start);
  if (record.is_ipc) return has_all;
  wanted.snd_pos_id = allocate(type::kSenderPosition, "snd-pos", owner, start);
  wanted.snd_lmt_id = allocate(type::kSenderLimit, "snd-lmt", owner, start);
  wanted.snd_bpe_id = allocate(type::kSenderBackPressure, "snd-bpe", owner, 0);
  wanted.snd_naks_id = allocate(type::kSenderNaksReceived, "snd-naks-received", owner, 0);
  return has_all;
}

Outcome<void> PublicationTable::acquire_log(std::uint32_t publication) {
  auto& wanted = world_->publications.slot(publication).desired;
  if (wanted.source_image != shm::kNoSlot) {
    wanted.log = world_->images.slot(wanted.source_image).desired.log;
    world_->logs.share(wanted.log);
    return {};
  }
  const PublicationRecord& record = world_->publications.record(publication);
  const PublicationParams& params = record.params;
  const int bits = wire::position_bits(wanted.term_length);
  host::LogRequest request{.use = shm::LogUse::kPublication, .id = wanted.registration_id, .first_position = wanted.start_position, .metadata = {}};
  shm::LogMetadata& metadata = request.metadata;
  metadata.type = record.is_exclusive ? shm::LogType::kExclusivePublication : shm::LogType::kConcurrentPublication;
  metadata.correlation_id = wanted.registration_id;
  metadata.initial_term_id = wanted.initial_term_id;
  metadata.start_term_id = wire::term_id_of(wanted.start_position, wanted.initial_term_id, bits);
  metadata.start_term_offset = wire::term_offset_of(wanted.start_position, bits);
  metadata.session_id = wanted.session_id;
  metadata.stream_id = wanted.stream_id;
  metadata.mtu = wanted.mtu;
  metadata.term_length = wanted.term_length;
  metadata.publication_window = wanted.window_length;
  metadata.socket_sndbuf = params.socket_sndbuf;
  metadata.socket_rcvbuf = params.socket_rcvbuf;
  metadata.max_resend = params.max_resend.value_or(0);
  metadata.entity_tag = params.entity_tag;
  metadata.response_correlation_id = wanted.response_correlation_id;
  metadata.is_response = (wanted.flags & PublicationFlags::kIsResponse) != 0;
  metadata.linger_ns = wanted.linger_ns;
  metadata.untethered_window_limit_timeout_ns = wanted.untethered_window_limit_timeout_ns;
  metadata.untethered_linger_timeout_ns = wanted.untethered_linger_timeout_ns;
  metadata.untethered_resting_timeout_ns = wanted.untethered_resting_timeout_ns;
  metadata.group = has_group_semantics(record.channel);
  metadata.sparse = params.is_sparse;
  metadata.signal_eos = params.signal_eos;
  metadata.spies_simulate_connection = params.spies_simulate_connection;
  const auto log = world_->logs.acquire(request);
  if (!log) return refuse(shm::ClientError::kGeneric, fmt::format("all {} log buffers are in use", shm::kLogsMax));
  wanted.log = *log;
  return {};
}

// IPC publications have no port that ties them to a lane: the lane with the fewest of them takes the next.
std::uint32_t PublicationTable::pick_lane() const noexcept {
  const std::uint32_t lane_count = std::clamp<std::uint32_t>(world_->registry->header.lane_count, 1, shm::kLanesMax);
  std::array<std::uint32_t, shm::kLanesMax> load{};
  for (const std::uint32_t index : world_->publications.used()) {
    const std::uint32_t lane = world_->publications.slot(index).desired.lane;
    if (lane < lane_count) ++load[lane];
  }
  return static_cast<std::uint32_t>(std::min_element(load.begin(), load.begin() + lane_count) - load.begin());
}

Outcome<void> PublicationTable::add_reference(std::uint32_t publication, std::int64_t client_id, std::int64_t registration_id) {
  const auto ref = world_->refs.allocate();
  if (!ref) return refuse(shm::ClientError::kGeneric, fmt::format("all {} publication references are in use", shm::kPublicationRefsMax));
  auto& slot = world_->refs.slot(*ref);
  slot.registration_id = registration_id;
  slot.client_id = client_id;
  slot.publication = publication;
  world_->refs.publish(*ref);
  refs_by_registration_.emplace(registration_id, *ref);
  ++world_->publications.slot(publication).desired.reference_count;
  return {};
}

void PublicationTable::drop_reference(std::uint32_t ref) {
  const auto slot_registration = world_->refs.slot(ref).registration_id;
  const std::uint32_t publication = world_->refs.slot(ref).publication;
  const auto [begin, end] = refs_by_registration_.equal_range(slot_registration);
  for (auto it = begin; it != end; ++it) {
    if (it->second != ref) continue;
    refs_by_registration_.erase(it);
    break;
  }
  world_->refs.release(ref);
  auto& wanted = world_->publications.slot(publication).desired;
  if (--wanted.reference_count > 0) return;
  if (world_->publications.desired(publication) == shm::Desired::kFree) {  // its lane never heard of it
    destroy(publication);
    return;
  }
  PublicationRecord& record = world_->publications.record(publication);
  if (host::observed_state(world_->publications.slot(publication)) == shm::Observed::kFailed) {  // its lane holds nothing of it
    destroy(publication);
    return;
  }
  if (record.status != Status::kFailed) record.status = Status::kClosing;
  world_->publications.close(publication);
  world_->bells.ring(shm::SlotKind::kPublication, publication);
}

std::uint32_t PublicationTable::find(std::optional<std::int64_t> client_id, std::int64_t registration_id) const {
  const auto [begin, end] = refs_by_registration_.equal_range(registration_id);
  for (auto it = begin; it != end; ++it) {
    const auto& slot = world_->refs.slot(it->second);
    if (!client_id || slot.client_id == *client_id) return slot.publication;
  }
  return shm::kNoSlot;
}

Outcome<void> PublicationTable::remove(std::int64_t client_id, std::int64_t registration_id, bool is_revoke) {
  const auto [begin, end] = refs_by_registration_.equal_range(registration_id);
  for (auto it = begin; it != end; ++it) {
    const std::uint32_t ref = it->second;
    if (world_->refs.slot(ref).client_id != client_id) continue;
    const std::uint32_t publication = world_->refs.slot(ref).publication;
    auto& wanted = world_->publications.slot(publication).desired;
    if (is_revoke) {
      wanted.is_revoked.store(1, std::memory_order_release);
      if (world_->logs.status(wanted.log) == host::LogStatus::kReady) {
        world_->logs.buffer(wanted.log).store<std::uint8_t>(shm::meta::kIsPublicationRevoked, 1);
      }
      world_->bells.ring(shm::SlotKind::kPublication, publication);
    }
    drop_reference(ref);
    return {};
  }
  return refuse(shm::ClientError::kUnknownPublication, fmt::format("unknown publication client_id={} registration_id={}", client_id, registration_id));
}

void PublicationTable::remove_all_of(std::int64_t client_id) {
  const std::vector<std::uint32_t> refs = world_->refs.used();
  for (const std::uint32_t ref : refs) {
    if (world_->refs.slot(ref).client_id == client_id) drop_reference(ref);
  }
}

void PublicationTable::announce_ready(std::uint32_t publication, std::int64_t registration_id, bool is_exclusive) {
  const auto& wanted = world_->publications.slot(publication).desired;
  shm::OnPublicationReady ready;
  ready.correlation_id = registration_id;
  ready.original_registration_id = wanted.registration_id;
  ready.session_id = wanted.session_id;
  ready.stream_id = wanted.stream_id;
  ready.publisher_limit_counter_id = wanted.pub_lmt_id;
  ready.channel_status_counter_id = wanted.endpoint == shm::kNoSlot ? shm::kNullCounterId : world_->endpoints.slot(wanted.endpoint).desired.channel_status_id;
  ready.log_path = world_->logs.path(wanted.log);
  world_->clients_out.publication_ready(ready, is_exclusive);
}

// What happens to a publication that is there: publication_life.cpp.

}  // namespace thalweg::conductor
