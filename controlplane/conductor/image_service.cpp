#include "controlplane/conductor/image_service.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "dataplane/base/units.hpp"
#include "dataplane/wire/frames.hpp"

namespace thalweg::conductor {
namespace {

using shm::SetupState;

constexpr std::int32_t kTermLengthMin = 64 << 10;
constexpr std::int32_t kTermLengthMax = 1 << 30;

// wire-protocol 3.8: inferred from the address, or from a sender that has several destinations.
bool is_group(const SubscriptionParams& params, const UdpChannel& channel, std::uint32_t setup_flags) noexcept {
  return params.group.value_or(channel.is_multicast || (setup_flags & wire::flag::kSetupGroup) != 0);
}

}  // namespace

void ImageService::answer_setup(std::uint32_t lane, std::uint32_t index, SetupState state) noexcept {
  world_->registry->lanes[lane].setups[index].state.store(state, std::memory_order_release);  // pairs with the lane's acquire
  world_->bells.ring(shm::SlotKind::kSetup, lane * shm::kSetupsPerLane + index);
}

Outcome<void> ImageService::check_setup(const shm::SetupSlot& setup) const {
  const auto bad = [&](const std::string& text) { return refuse(shm::ClientError::kGeneric, fmt::format("image refused: {}: stream={}", text, setup.stream_id)); };
  const auto length = static_cast<std::uint32_t>(setup.term_length);
  if (setup.term_length < kTermLengthMin || setup.term_length > kTermLengthMax || !std::has_single_bit(length)) {
    return bad("impossible term length");
  }
  if (setup.mtu <= wire::kDataHeaderLength || setup.mtu > wire::kMtuMax || setup.mtu % 32 != 0) return bad("impossible mtu");
  if (setup.term_offset < 0 || setup.term_offset > setup.term_length || setup.term_offset % 32 != 0) return bad("impossible term offset");
  if (wire::wrapping_sub(setup.active_term_id, setup.initial_term_id) < 0) return bad("active term id before the initial one");
  return {};
}

std::vector<std::uint32_t> ImageService::matching_subscriptions(std::uint32_t endpoint, std::int32_t stream_id, std::int32_t session_id) const {
  std::vector<std::uint32_t> result;
  for (const std::uint32_t index : world_->subscriptions.used()) {
    if (subscriptions_->wants(index, endpoint, stream_id, session_id)) result.push_back(index);
  }
  std::sort(result.begin(), result.end(), [this](std::uint32_t a, std::uint32_t b) {
    return world_->subscriptions.slot(a).registration_id < world_->subscriptions.slot(b).registration_id;
  });
  return result;
}

void ImageService::service_setup(std::uint32_t lane, std::uint32_t index) {
  if (lane >= shm::kLanesMax || index >= shm::kSetupsPerLane) return;
  const shm::SetupSlot& setup = world_->registry->lanes[lane].setups[index];
  if (setup.state.load(std::memory_order_acquire) != SetupState::kRequested) return;
  if (being_served_[lane][index]) return;
  const bool is_endpoint_there = world_->endpoints.is_used(setup.endpoint) && world_->endpoints.record(setup.endpoint).status == Status::kActive &&
                                 world_->endpoints.slot(setup.endpoint).desired.generation == setup.endpoint_generation;
  const auto check = check_setup(setup);
  if (!check) world_->report_of_peer(check.error());
  if (!is_endpoint_there || !check) return answer_setup(lane, index, SetupState::kRefused);
  const auto subscriptions = matching_subscriptions(setup.endpoint, setup.stream_id, setup.session_id);
  if (subscriptions.empty() || has_quarantined(setup)) return answer_setup(lane, index, SetupState::kRefused);
  create(lane, index, subscriptions);
}

void ImageService::create(std::uint32_t lane, std::uint32_t index, const std::vector<std::uint32_t>& subscriptions) {
  const shm::SetupSlot& setup = world_->registry->lanes[lane].setups[index];
  const SubscriptionParams& params = world_->subscriptions.record(subscriptions.front()).params;
  const std::int32_t rcvbuf = params.socket_rcvbuf != 0 ? params.socket_rcvbuf : world_->settings.streams.socket_rcvbuf;
  const bool is_open = params.congestion_control == shm::CongestionControl::kAimd && !params.has_receiver_window;
  const bool fits = setup.mtu <= params.receiver_window && (rcvbuf == 0 || ((is_open || params.receiver_window <= rcvbuf) && setup.mtu <= rcvbuf));
  if (!fits) {
    world_->report_of_peer({shm::ClientError::kGeneric, fmt::format("image refused: mtu {}, receiver window {} and SO_RCVBUF {} do not fit together: stream={}", setup.mtu,
                                                            params.receiver_window, rcvbuf, setup.stream_id)});
    return answer_setup(lane, index, SetupState::kRefused);
  }
  if (!world_->logs.has_room_for_image(setup.term_length)) {
    world_->report_of_peer({shm::ClientError::kStorageSpace, fmt::format("image refused: the logs of all images may take {} bytes (memory.image-limit): term length {}, stream={}",
                                                                 world_->logs.image_limit_bytes(), setup.term_length, setup.stream_id)});
    return answer_setup(lane, index, SetupState::kRefused);
  }
  const auto image = world_->images.allocate();
  if (!image) {
    world_->report_of_peer({shm::ClientError::kGeneric, fmt::format("all {} images are in use", shm::kImagesMax)});
    return answer_setup(lane, index, SetupState::kRefused);
  }
  world_->images.slot(*image).observed.is_unavailable.store(0, std::memory_order_relaxed);
  ImageRecord& record = world_->images.record(*image);
  record.setup_lane = lane;
  record.setup_index = index;
  being_served_[lane][index] = true;
  record.source = world_->registry->addresses.format_endpoint(setup.source_address, setup.source_port);
  endpoints_->add_reference(setup.endpoint);
  fill_slot(*image, setup, subscriptions.front());
  if (!allocate_counters(*image, world_->subscriptions.slot(subscriptions.front()).client_id)) {
    return refuse_starting(*image, {shm::ClientError::kGeneric, "max counter id exceeded"});
  }
  if (!acquire_log(*image, subscriptions.front())) return refuse_starting(*image, {shm::ClientError::kGeneric, "all log buffers are in use"});
  start_when_log_is_ready(*image);
}

// The endpoint that a SETUP of a multi-destination subscription came by; it may have gone since.
std::uint32_t ImageService::destination_of(const shm::SetupSlot& setup) const noexcept {
  const bool is_its = world_->endpoints.is_used(setup.destination) && world_->endpoints.slot(setup.destination).desired.parent == setup.endpoint;
  return is_its ? setup.destination : shm::kNoSlot;
}

void ImageService::fill_slot(std::uint32_t image, const shm::SetupSlot& setup, std::uint32_t first_subscription) {
  auto& wanted = world_->images.slot(image).desired;
  const SubscriptionRecord& subscribed = world_->subscriptions.record(first_subscription);
  const SubscriptionParams& params = subscribed.params;
  const StreamDefaults& defaults = world_->settings.streams;
  wanted.correlation_id = world_->ring.next_correlation_id();
  wanted.session_id = setup.session_id;
  wanted.stream_id = setup.stream_id;
  wanted.initial_term_id = setup.initial_term_id;
  wanted.term_length = setup.term_length;
  wanted.mtu = setup.mtu;
  wanted.window_length = params.receiver_window;
  wanted.join_position = wire::position_of(setup.active_term_id, setup.term_offset, setup.initial_term_id, wire::position_bits(setup.term_length));
  wanted.destination = destination_of(setup);
  const UdpChannel& channel = wanted.destination != shm::kNoSlot ? world_->endpoints.record(wanted.destination).channel : subscribed.channel;
  wanted.flags = (params.is_reliable ? shm::ImageFlags::kReliable : 0) | (is_group(params, channel, setup.flags) ? shm::ImageFlags::kGroup : 0) |
                 (params.nak_all_gaps ? shm::ImageFlags::kNakAllGaps | shm::ImageFlags::kMeasureRtt : 0) | (params.is_rejoin ? shm::ImageFlags::kRejoin : 0) |
                 ((setup.flags & wire::flag::kSetupSendResponse) != 0 ? shm::ImageFlags::kHasResponse : 0);
  wanted.endpoint = setup.endpoint;
  wanted.lane = world_->endpoints.slot(setup.endpoint).observed.lane;
  wanted.source_address = setup.source_address;
  wanted.source_port = setup.source_port;
  wanted.liveness_timeout_ns = defaults.image_liveness_timeout_ns;
  wanted.sm_timeout_ns = defaults.status_message_timeout_ns;
  wanted.nak_delay_ns = params.nak_delay_ns;
  wanted.nak_retry_ns = params.nak_retry_ns;
  wanted.nak_max_backoff_ns = defaults.nak_multicast_max_backoff_ns;
  wanted.nak_group_size = defaults.nak_multicast_group_size;
  wanted.nak_backoff_ns = params.nak_backoff_ns;
  wanted.nak_max = params.nak_max;
  const UdpChannel& home = world_->endpoints.record(setup.endpoint).channel;
  for (const FeedSettings& feed : world_->settings.feeds) {
    if (!home.is_feed || home.uri != feed.channel) continue;
    wanted.nak_hold_ns = feed.nak_hold_ns;
    wanted.side_timeout_ns = feed.side_timeout_ns;
  }
  wanted.congestion_control = params.congestion_control;
  wanted.initial_rtt_ns = defaults.cubic_initial_rtt_ns;
  wanted.is_rtt_measured = defaults.cubic_measure_rtt ? 1 : 0;
  wanted.is_tcp_mode = defaults.cubic_tcp_mode ? 1 : 0;
}

bool ImageService::allocate_counters(std::uint32_t image, std::int64_t owner_id) {
  auto& wanted = world_->images.slot(image).desired;
  const std::string& uri = world_->endpoints.record(wanted.endpoint).channel.uri;
  const auto key = shm::stream_key(wanted.correlation_id, wanted.session_id, wanted.stream_id, uri);
  const auto allocate = [&](std::int32_t type_id, std::string_view name, std::int64_t value) {
    const std::string label = shm::stream_label(name, wanted.correlation_id, wanted.session_id, wanted.stream_id, uri);
    return world_->allocate_counter({.type_id = type_id,
                                     .key = key.span(),
                                     .label = label,
                                     .registration_id = wanted.correlation_id,
                                     .owner_id = owner_id,
                                     .initial_value = value});
  };
  wanted.rcv_hwm_id = allocate(shm::counter_type::kReceiverHwm, "rcv-hwm", wanted.join_position);
  wanted.rcv_pos_id = allocate(shm::counter_type::kReceiverPosition, "rcv-pos", wanted.join_position);
  wanted.rcv_naks_id = allocate(shm::counter_type::kReceiverNaksSent, "rcv-naks-sent", 0);
  return wanted.rcv_hwm_id >= 0 && wanted.rcv_pos_id >= 0 && wanted.rcv_naks_id >= 0;
}

bool ImageService::acquire_log(std::uint32_t image, std::uint32_t first_subscription) {
  auto& wanted = world_->images.slot(image).desired;
  const SubscriptionRecord& subscribed = world_->subscriptions.record(first_subscription);
  const SubscriptionParams& params = subscribed.params;
  host::LogRequest request{.use = shm::LogUse::kImage, .id = wanted.correlation_id, .first_position = wanted.join_position, .metadata = {}};
  shm::LogMetadata& metadata = request.metadata;
  metadata.type = shm::LogType::kImage;
  metadata.correlation_id = wanted.correlation_id;
  metadata.initial_term_id = wanted.initial_term_id;
  metadata.session_id = wanted.session_id;
  metadata.stream_id = wanted.stream_id;
  metadata.mtu = wanted.mtu;
  metadata.term_length = wanted.term_length;
  metadata.receiver_window = params.receiver_window;
  metadata.socket_sndbuf = params.socket_sndbuf;
  metadata.socket_rcvbuf = params.socket_rcvbuf;
  metadata.entity_tag = 0;
  metadata.response_correlation_id = 0;
  metadata.untethered_window_limit_timeout_ns = params.untethered.window_limit_ns;
  metadata.untethered_linger_timeout_ns = params.untethered.linger_ns;
  metadata.untethered_resting_timeout_ns = params.untethered.resting_ns;
  metadata.group = (wanted.flags & shm::ImageFlags::kGroup) != 0;
  metadata.rejoin = params.is_rejoin;
  metadata.reliable = params.is_reliable;
  metadata.sparse = params.is_sparse;
  metadata.tether = params.is_tethered;
  const auto log = world_->logs.acquire(request);
  if (log) wanted.log = *log;
  return log.has_value();
}

void ImageService::start_when_log_is_ready(std::uint32_t image) {
  ImageRecord& record = world_->images.record(image);
  const auto& wanted = world_->images.slot(image).desired;
  const host::LogStatus status = world_->logs.status(wanted.log);
  if (status == host::LogStatus::kFailed) {
    const Error& error = world_->logs.error(wanted.log);
    if (error.code != ErrorCode::kNoSpace) return refuse_starting(image, to_command_error(error));
    // Without the number of usable bytes, which is another one each time.
    return refuse_starting(image, {shm::ClientError::kStorageSpace, fmt::format("image refused: insufficient usable storage for a log with term length {}", wanted.term_length)});
  }
  if (status != host::LogStatus::kReady) return;
  const bool is_wanted = !matching_subscriptions(wanted.endpoint, wanted.stream_id, wanted.session_id).empty();
  if (!is_wanted) return refuse_starting(image, {shm::ClientError::kResourceTemporarilyUnavailable, {}});  // left meanwhile: no error
  world_->images.publish(image);
  world_->bells.ring(shm::SlotKind::kImage, image);
  link_subscriptions(image);
  finish_request(record, SetupState::kAccepted);
}

void ImageService::finish_request(ImageRecord& record, SetupState state) noexcept {
  being_served_[record.setup_lane][record.setup_index] = false;
  answer_setup(record.setup_lane, record.setup_index, state);
  record.setup_lane = shm::kNoSlot;
}

void ImageService::link_subscriptions(std::uint32_t image) {
  const auto& wanted = world_->images.slot(image).desired;
  for (const std::uint32_t subscription : matching_subscriptions(wanted.endpoint, wanted.stream_id, wanted.session_id)) {
    if (world_->subscriptions.record(subscription).kind == SubscriptionKind::kNetwork) links_->link(shm::LinkTarget::kImage, image, subscription);
  }
}

void ImageService::refuse_starting(std::uint32_t image, const CommandError& error) {
  world_->report_of_peer(error);
  finish_request(world_->images.record(image), SetupState::kRefused);
  destroy(image);
}

void ImageService::service(std::uint32_t image) {
  if (!world_->images.is_used(image)) return;
  ImageRecord& record = world_->images.record(image);
  const auto& slot = world_->images.slot(image);
  if (world_->images.desired(image) == shm::Desired::kFree) {
    if (record.status == Status::kStarting) start_when_log_is_ready(image);
    return;
  }
  const shm::Observed observed = host::observed_state(slot);
  if (record.status == Status::kStarting && observed == shm::Observed::kActive) record.status = Status::kActive;
  if (observed == shm::Observed::kFailed) {  // the lane holds nothing of it
    if (!record.is_end_told) {
      world_->report_of_peer(slot_error(slot.observed.error));
      announce_end(image);
    }
    if (!shm::is_quarantined(slot)) return destroy(image);
    if (std::find(quarantined_.begin(), quarantined_.end(), image) == quarantined_.end()) quarantined_.push_back(image);
    const std::vector<std::uint32_t> links = record.links;
    for (const std::uint32_t link : links) links_->close(link);
    return;  // it stays, so that the next SETUP does not bring back what crashes us; see release_quarantined()
  }
  if (slot.observed.state.is_given_up != 0 && observed == shm::Observed::kActive && !record.is_given_up_told) report_given_up(image);
  if (observed == shm::Observed::kActive && slot.observed.is_unavailable.load(std::memory_order_acquire) != 0 && !record.is_end_told) announce_end(image);
  if (observed == shm::Observed::kDone) {
    if (!record.is_end_told) announce_end(image);
    destroy(image);
  }
}

// The loss report has the bytes.
void ImageService::report_given_up(std::uint32_t image) {
  ImageRecord& record = world_->images.record(image);
  const auto& wanted = world_->images.slot(image).desired;
  record.is_given_up_told = true;
  world_->report_of_peer({shm::ClientError::kGeneric, fmt::format("image ended: a gap stayed open after {} NAKs (nak-max): session={} stream={} source={} channel={}", wanted.nak_max,
                                                          wanted.session_id, wanted.stream_id, record.source, world_->endpoints.record(wanted.endpoint).channel.uri)});
}

void ImageService::announce_end(std::uint32_t image) {
  ImageRecord& record = world_->images.record(image);
  record.is_end_told = true;
  report_loss(image);
  if (world_->images.slot(image).observed.state.is_revoked != 0) world_->system(shm::SystemCounter::kPublicationImagesRevoked).add(1);
  for (const std::uint32_t link : record.links) {
    const std::uint32_t subscription = world_->links.slot(link).desired.subscription;
    if (subscription != shm::kNoSlot) links_->announce_unavailable(link, world_->subscriptions.record(subscription).uri);
  }
}

void ImageService::destroy(std::uint32_t image) {
  std::erase(quarantined_, image);
  const std::vector<std::uint32_t> links = world_->images.record(image).links;
  for (const std::uint32_t link : links) links_->destroy(link);
  auto& wanted = world_->images.slot(image).desired;
  world_->free_counter(wanted.rcv_hwm_id);
  world_->free_counter(wanted.rcv_pos_id);
  world_->free_counter(wanted.rcv_naks_id);
  if (wanted.log != shm::kNoSlot) world_->logs.release(wanted.log);
  if (wanted.reject_text != shm::kNoSlot) world_->registry.free_text(wanted.reject_text);
  endpoints_->release(wanted.endpoint);
  world_->images.release(image);
}

void ImageService::link_to_images(std::uint32_t subscription) {
  for (const std::uint32_t image : world_->images.used()) {
    const ImageRecord& record = world_->images.record(image);
    const auto& wanted = world_->images.slot(image).desired;
    // DRAINING images still take subscribers as long as nobody was told of their end. One that its last subscriber left gets no frames any
    // more and is about to end: whoever comes now is served by the image that the next SETUP makes.
    const auto is_active = [this](std::uint32_t link) { return world_->links.desired(link) == shm::Desired::kActive; };
    const bool has_subscribers = std::any_of(record.links.begin(), record.links.end(), is_active) || is_relayed(image);
    const bool accepts = world_->images.desired(image) == shm::Desired::kActive && has_subscribers && !record.is_end_told && record.status != Status::kClosing;
    if (accepts && subscriptions_->wants(subscription, wanted.endpoint, wanted.stream_id, wanted.session_id)) {
      links_->link(shm::LinkTarget::kImage, image, subscription);
    }
  }
}

bool ImageService::is_relayed(std::uint32_t image) const {
  const auto& wanted = world_->images.slot(image).desired;
  return std::any_of(world_->subscriptions.used().begin(), world_->subscriptions.used().end(), [&](std::uint32_t index) {
    return world_->subscriptions.record(index).kind == SubscriptionKind::kRelay &&
           subscriptions_->wants(index, wanted.endpoint, wanted.stream_id, wanted.session_id);
  });
}

std::uint32_t ImageService::find(std::int64_t correlation_id) const {
  for (const std::uint32_t image : world_->images.used()) {
    if (world_->images.slot(image).desired.correlation_id == correlation_id && world_->images.desired(image) == shm::Desired::kActive) return image;
  }
  return shm::kNoSlot;
}

Outcome<void> ImageService::reject(std::uint32_t image, std::string_view reason) {
  auto& wanted = world_->images.slot(image).desired;
  if (wanted.is_rejected.load(std::memory_order_relaxed) != 0) return {};
  const auto text = world_->keep_text(reason);
  if (!text) return tl::unexpected{text.error()};
  wanted.reject_text = *text;
  wanted.is_rejected.store(1, std::memory_order_release);  // publishes reject_text to the lane
  world_->bells.ring(shm::SlotKind::kImage, image);
  return {};
}

bool ImageService::has_quarantined(const shm::SetupSlot& setup) const {
  return std::any_of(quarantined_.begin(), quarantined_.end(), [&](std::uint32_t image) {
    const auto& wanted = world_->images.slot(image).desired;
    return wanted.endpoint == setup.endpoint && wanted.stream_id == setup.stream_id && wanted.session_id == setup.session_id;
  });
}

void ImageService::release_quarantined() {
  const std::vector<std::uint32_t> images = quarantined_;
  for (const std::uint32_t image : images) {
    const auto& slot = world_->images.slot(image);
    if (!world_->images.record(image).links.empty()) continue;
    if (matching_subscriptions(slot.desired.endpoint, slot.desired.stream_id, slot.desired.session_id).empty()) destroy(image);
  }
}

void ImageService::report_losses() {
  for (const std::uint32_t image : world_->images.used()) {
    if (world_->images.record(image).status == Status::kActive) report_loss(image);
  }
}

void ImageService::report_loss(std::uint32_t image) {
  ImageRecord& record = world_->images.record(image);
  auto& slot = world_->images.slot(image);
  const std::int64_t gaps = slot.observed.state.gaps_seen;
  if (gaps <= record.gaps_reported) return;
  const std::int64_t bytes = std::max<std::int64_t>(slot.observed.state.bytes_lost - record.bytes_reported, 0);
  constexpr std::int64_t kObservationsMax = 1024;  // per call; the rest of a burst comes with the next
  const std::int64_t observations = std::min(gaps - record.gaps_reported, kObservationsMax);
  std::int64_t& entry = slot.desired.loss_report_entry;
  std::int64_t first = 0;
  if (entry < 0) {
    entry = world_->loss_report.create_entry(bytes, world_->now.now_ms, slot.desired.session_id, slot.desired.stream_id,
                                             world_->endpoints.record(slot.desired.endpoint).channel.uri, record.source);
    first = 1;
  }
  for (std::int64_t i = first; i < observations && entry >= 0; ++i) world_->loss_report.record(entry, i == 0 ? bytes : 0, world_->now.now_ms);
  record.gaps_reported += observations;
  record.bytes_reported += bytes;
}

void ImageService::recover() {
  for (const std::uint32_t image : world_->images.used()) {
    ImageRecord& record = world_->images.record(image);
    const auto& slot = world_->images.slot(image);
    endpoints_->add_reference(slot.desired.endpoint);
    record.source = world_->registry->addresses.format_endpoint(slot.desired.source_address, slot.desired.source_port);
    record.gaps_reported = slot.observed.state.gaps_seen;
    record.bytes_reported = slot.observed.state.bytes_lost;
    const bool is_closing = world_->images.desired(image) == shm::Desired::kClosing;
    record.status = is_closing ? Status::kClosing : host::observed_state(slot) == shm::Observed::kActive ? Status::kActive : Status::kStarting;
  }
}

void ImageService::finish_setups() {
  const std::vector<std::uint32_t> images = world_->images.used();
  for (const std::uint32_t image : images) {
    if (world_->images.desired(image) == shm::Desired::kActive) finish_setups_of(image);
  }
}

// A predecessor died between the image and its answer: the SETUP must not make another one.
void ImageService::finish_setups_of(std::uint32_t image) {
  const auto& slot = world_->images.slot(image);
  const auto& wanted = slot.desired;
  if (slot.observed.is_unavailable.load(std::memory_order_acquire) != 0) return;
  for (std::uint32_t lane = 0; lane < std::min(world_->registry->header.lane_count, shm::kLanesMax); ++lane) {
    for (std::uint32_t index = 0; index < shm::kSetupsPerLane; ++index) {
      const shm::SetupSlot& setup = world_->registry->lanes[lane].setups[index];
      if (setup.state.load(std::memory_order_acquire) != SetupState::kRequested) continue;
      const bool is_its = setup.endpoint == wanted.endpoint && setup.session_id == wanted.session_id && setup.stream_id == wanted.stream_id && setup.initial_term_id == wanted.initial_term_id;
      if (!is_its) continue;
      link_subscriptions(image);
      answer_setup(lane, index, SetupState::kAccepted);
    }
  }
}

}  // namespace thalweg::conductor
