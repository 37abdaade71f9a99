#include "tests/support/fake_control.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "dataplane/base/assert.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::test {

namespace {

constexpr std::uint64_t kPage = 4096;

template <typename T>
T must(Result<T>&& result) {
  if (!result) {
    std::fprintf(stderr, "test set-up: %s\n", result.error().message.c_str());
    std::abort();
  }
  return std::move(*result);
}

}  // namespace

// ---- Publisher ----

void Publisher::append(std::int32_t offset, std::span<const std::byte> payload, std::uint8_t flags, wire::FrameType type,
                       std::int32_t length) {
  const int bits = log_.position_bits();
  const std::int32_t term_count = wire::term_count_of(position_, bits);
  const int partition = term_count % wire::kPartitionCount;
  const std::int32_t term_id = wire::wrapping_add(initial_term_id_, term_count);
  const std::int32_t aligned = wire::align_frame(length);
  log_.store<std::int64_t>(shm::meta::kTails + 8 * static_cast<std::size_t>(partition), shm::pack_tail(term_id, offset + aligned));
  std::byte* const frame = log_.term(partition) + offset;
  wire::build(frame, {-length, flags, type, offset, session_id_, stream_id_, term_id, 0});
  if (!payload.empty()) std::memcpy(frame + wire::kDataHeaderLength, payload.data(), payload.size());
  shm::frame_length_release(frame, length);
  position_ += aligned;
}

bool Publisher::offer(std::span<const std::byte> message) {
  const auto chunk = static_cast<std::size_t>(mtu_ - wire::kDataHeaderLength);
  const std::size_t frames = message.empty() ? 1 : (message.size() + chunk - 1) / chunk;
  std::int64_t needed = 0;
  for (std::size_t i = 0; i < frames; ++i) {
    needed += wire::align_frame(static_cast<std::int32_t>(std::min(chunk, message.size() - i * chunk)) + wire::kDataHeaderLength);
  }
  if (position_ >= limit_.get()) return false;
  const int bits = log_.position_bits();
  const std::int32_t offset = wire::term_offset_of(position_, bits);
  if (offset + needed > log_.term_length()) {
    const std::int32_t term_count = wire::term_count_of(position_, bits);
    append(offset, {}, wire::flag::kUnfragmented, wire::FrameType::kPad, log_.term_length() - offset);
    shm::rotate_log(log_, term_count, wire::wrapping_add(initial_term_id_, term_count));
    return offer(message);
  }
  for (std::size_t i = 0; i < frames; ++i) {
    const auto part = message.subspan(i * chunk, std::min(chunk, message.size() - i * chunk));
    const auto flags = static_cast<std::uint8_t>((i == 0 ? wire::flag::kBegin : 0) | (i + 1 == frames ? wire::flag::kEnd : 0));
    append(wire::term_offset_of(position_, bits), part, flags, wire::FrameType::kData,
           static_cast<std::int32_t>(part.size()) + wire::kDataHeaderLength);
  }
  if (wire::term_offset_of(position_, bits) == 0 && position_ != 0) {  // exactly full
    const std::int32_t term_count = wire::term_count_of(position_, bits) - 1;
    shm::rotate_log(log_, term_count, wire::wrapping_add(initial_term_id_, term_count));
  }
  return true;
}

// ---- Subscriber ----

int Subscriber::poll(std::int64_t limit_bytes) {
  int completed = 0;
  std::int64_t position = position_.get_plain();
  const std::int64_t stop = position + limit_bytes;
  while (position < stop) {
    std::byte* const frame = log_.at(position);
    const std::int32_t length = shm::frame_length_acquire(frame);
    if (length <= 0) break;
    const wire::DataView view{frame};
    if (view.type() == wire::FrameType::kData) {
      if ((view.flags() & wire::flag::kBegin) != 0) partial_.clear();
      partial_.append(reinterpret_cast<const char*>(frame) + wire::kDataHeaderLength, static_cast<std::size_t>(length - wire::kDataHeaderLength));
      if ((view.flags() & wire::flag::kEnd) != 0) {
        messages_.push_back(partial_);
        ++completed;
      }
    }
    position += wire::align_frame(length);
  }
  if (position != position_.get_plain()) position_.set(position);
  return completed;
}

// ---- FakeControl ----

FakeControl::FakeControl(const std::string& name, std::int32_t counters) {
  std::string pattern = "/dev/shm/thalweg-test-" + name + "-XXXXXX";
  THALWEG_ASSERT(::mkdtemp(pattern.data()) != nullptr);
  directory_ = pattern;
  for (const char* sub : {"pool", "publications", "images"}) std::filesystem::create_directory(directory_ + "/" + sub);
  shm::CncLayout layout;
  layout.counter_values_length = counters * shm::kCounterValueLength;
  cnc_ = must(shm::CncFile::create(directory_, layout, ::getpid(), epoch_ms()));
  manager_ = std::make_unique<shm::CountersManager>(cnc_.counter_metadata(), cnc_.counter_values(), 0);
  registry_ = must(shm::RegistryFile::create(directory_));
  cnc_.mark_ready();
}

FakeControl::~FakeControl() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void FakeControl::ring(shm::SlotKind kind, std::uint32_t index) { registry_->header.control_to_steward.ring({kind, index}); }

std::int32_t FakeControl::make_counter() {
  shm::CountersManager::Spec spec;
  spec.type_id = shm::counter_type::kSystem;
  spec.label = "test";
  return must(manager_->allocate(spec, 0));
}

std::uint32_t FakeControl::make_log(std::int32_t term_length, shm::LogUse use, const shm::LogMetadata& metadata, std::int64_t position) {
  const std::uint32_t index = next_log_++;
  shm::LogSlot& slot = registry_->logs[index];
  slot.desired.use = use;
  slot.desired.term_length = term_length;
  slot.desired.page_size = kPage;
  slot.desired.file_length = shm::log_file_length(term_length, kPage);
  slot.desired.id = next_id_++;
  const std::string path = shm::log_path(directory_, use, slot.desired.id);
  maps_.push_back(must(shm::MappedFile::create(path, {.length = slot.desired.file_length, .allocate = !is_lean && !is_sparse})));
  slot.desired.is_sparse = is_sparse ? 1 : 0;
  if (is_sparse) {
    const auto bytes = static_cast<std::uint64_t>(term_length);
    const auto partition = static_cast<std::uint64_t>(position / term_length) % 3;
    const auto allocate = [&path](std::uint64_t from, std::uint64_t length) { THALWEG_ASSERT(shm::MappedFile::allocate(path, from, length).has_value()); };
    allocate(partition * bytes, bytes);
    allocate((partition + 1) % 3 * bytes, kPage);
    allocate(3 * bytes, shm::kLogMetadataLength);
  }
  logs_[index] = shm::LogBuffer{maps_.back().data(), maps_.back().length(), term_length};
  shm::init_log_metadata(logs_[index], metadata);
  ++slot.desired.generation;
  slot.desired.state.store(shm::Desired::kActive, std::memory_order_release);
  ring(shm::SlotKind::kLog, index);
  return index;
}

std::uint32_t FakeControl::add_send_endpoint(const wire::UdpEndpoint& remote, shm::EndpointMode mode, const wire::UdpEndpoint& local) {
  const std::uint32_t endpoint = next_endpoint_++;
  shm::EndpointSlot::Wanted& d = registry_->endpoints[endpoint].desired;
  d.kind = shm::EndpointKind::kSend;
  d.mode = mode;
  d.local_address = local.address;
  d.local_port = local.port;
  if (mode != shm::EndpointMode::kPlain) d.destination_count_id = make_counter();
  d.remote_address = remote.address;
  d.remote_port = remote.port;
  ++d.generation;
  d.state.store(shm::Desired::kActive, std::memory_order_release);
  ring(shm::SlotKind::kEndpoint, endpoint);
  return endpoint;
}

void FakeControl::set_stock_rules(shm::PublicationSlot::Wanted& d) {
  d.max_resend = 16;
  d.connection_timeout_ns = 5 * kSecond_ns;
  d.unblock_timeout_ns = 15 * kSecond_ns;
  d.flow_control_receiver_timeout_ns = 5 * kSecond_ns;
}

std::uint32_t FakeControl::add_relay(const RelayOptions& o) {
  const shm::ImageSlot::Wanted& image = registry_->images[o.image].desired;
  const std::uint32_t index = next_publication_++;
  shm::PublicationSlot::Wanted& d = registry_->publications[index].desired;
  d.registration_id = next_id_++;
  d.session_id = o.session_id != 0 ? o.session_id : image.session_id;
  d.stream_id = o.stream_id != 0 ? o.stream_id : image.stream_id;
  d.initial_term_id = image.initial_term_id;
  d.term_length = image.term_length;
  d.mtu = image.mtu;
  d.flags = shm::PublicationFlags::kExclusive | shm::PublicationFlags::kSignalEos | shm::PublicationFlags::kRelay |
            (o.drops ? shm::PublicationFlags::kDropsWhenSlow : 0);
  d.endpoint = add_send_endpoint(o.remote);
  d.log = image.log;
  d.source_image = o.image;
  d.source_generation = image.generation;
  d.source_session_id = image.session_id;
  d.source_stream_id = image.stream_id;
  d.snd_pos_id = make_counter();
  d.snd_lmt_id = make_counter();
  set_stock_rules(d);
  d.linger_ns = o.linger_ns;
  d.retransmit_linger_ns = 10 * kMillisecond_ns;
  ++d.generation;
  d.state.store(shm::Desired::kActive, std::memory_order_release);
  ring(shm::SlotKind::kPublication, index);
  return index;
}

std::uint32_t FakeControl::add_publication(const PublicationOptions& o) {
  std::uint32_t endpoint = o.endpoint;
  if (!o.is_ipc && endpoint == shm::kNoSlot) endpoint = add_send_endpoint(o.remote, o.mode, o.local);
  const int bits = wire::position_bits(o.term_length);
  shm::LogMetadata metadata;
  metadata.type = shm::LogType::kExclusivePublication;
  metadata.initial_term_id = o.initial_term_id;
  metadata.start_term_id = wire::term_id_of(o.start_position, o.initial_term_id, bits);
  metadata.start_term_offset = wire::term_offset_of(o.start_position, bits);
  metadata.session_id = o.session_id;
  metadata.stream_id = o.stream_id;
  metadata.mtu = o.mtu;
  metadata.term_length = o.term_length;
  metadata.page_size = kPage;
  const std::uint32_t log = make_log(o.term_length, shm::LogUse::kPublication, metadata, o.start_position);
  const std::uint32_t index = next_publication_++;
  shm::PublicationSlot::Wanted& d = registry_->publications[index].desired;
  d.registration_id = next_id_++;
  d.session_id = o.session_id;
  d.stream_id = o.stream_id;
  d.initial_term_id = o.initial_term_id;
  d.term_length = o.term_length;
  d.mtu = o.mtu;
  d.window_length = o.term_length / 2;
  d.start_position = o.start_position;
  d.flags = shm::PublicationFlags::kExclusive | (o.signals_eos ? shm::PublicationFlags::kSignalEos : 0) |
            (o.is_ipc ? shm::PublicationFlags::kIpc : 0) | (o.mode != shm::EndpointMode::kPlain ? shm::PublicationFlags::kGroup : 0);
  d.lane = o.lane;
  d.endpoint = endpoint;
  d.log = log;
  if (!is_lean) d.pub_pos_id = make_counter();
  d.pub_lmt_id = make_counter();
  if (!o.is_ipc && !is_lean) {
    d.snd_pos_id = make_counter();
    d.snd_lmt_id = make_counter();
    d.snd_bpe_id = make_counter();
    d.snd_naks_id = make_counter();
  }
  set_stock_rules(d);
  d.linger_ns = o.linger_ns;
  d.retransmit_linger_ns = o.retransmit_linger_ns;
  d.is_retransmit_linger_auto = o.is_retransmit_linger_auto ? 1 : 0;
  d.untethered_window_limit_timeout_ns = d.untethered_linger_timeout_ns = 5 * kSecond_ns;
  d.untethered_resting_timeout_ns = 10 * kSecond_ns;
  ++d.generation;
  d.state.store(shm::Desired::kActive, std::memory_order_release);
  ring(shm::SlotKind::kPublication, index);
  publishers_[index] = Publisher{logs_[log], counters().counter(d.pub_lmt_id), o.session_id, o.stream_id, o.initial_term_id, o.mtu, o.start_position};
  return index;
}

std::uint32_t FakeControl::add_destination(std::uint32_t publication, const wire::UdpEndpoint& remote) {
  const std::uint32_t index = next_destination_++;
  shm::DestinationSlot::Wanted& d = registry_->destinations[index].desired;
  d.kind = shm::DestinationKind::kSend;
  d.endpoint = registry_->publications[publication].desired.endpoint;
  d.remote_address = remote.address;
  d.remote_port = remote.port;
  d.registration_id = next_id_++;
  ++d.generation;
  d.state.store(shm::Desired::kActive, std::memory_order_release);
  ring(shm::SlotKind::kDestination, index);
  return index;
}

void FakeControl::move_destination(std::uint32_t slot, std::uint32_t address) {
  std::atomic_ref{registry_->destinations[slot].desired.remote_address}.store(address, std::memory_order_relaxed);
  ring(shm::SlotKind::kDestination, slot);
}

void FakeControl::remove_destination(std::uint32_t slot) {
  registry_->destinations[slot].desired.state.store(shm::Desired::kClosing, std::memory_order_release);
  ring(shm::SlotKind::kDestination, slot);
}

std::uint32_t FakeControl::add_receive_endpoint(const SubscriptionOptions& o) {
  const auto add = [this](const wire::UdpEndpoint& local, auto&& adjust) {
    const std::uint32_t index = next_endpoint_++;
    shm::EndpointSlot::Wanted& d = registry_->endpoints[index].desired;
    d.kind = shm::EndpointKind::kReceive;
    d.local_address = local.address;
    d.local_port = local.port;
    adjust(d);
    ++d.generation;
    d.state.store(shm::Desired::kActive, std::memory_order_release);
    ring(shm::SlotKind::kEndpoint, index);
    return index;
  };
  if (o.destinations.empty()) return add(o.local, [](shm::EndpointSlot::Wanted&) {});
  const std::uint32_t parent = add(o.local, [](shm::EndpointSlot::Wanted& d) { d.mode = shm::EndpointMode::kManual; });
  for (const wire::UdpEndpoint& destination : o.destinations) {
    add(destination, [&](shm::EndpointSlot::Wanted& d) {
      d.parent = parent;
      if (!wire::is_multicast_ipv4(destination.address)) return;
      d.is_multicast = 1;
      d.interface_address = o.group_interface;
      d.prefix_length = 24;
      d.remote_address = wire::control_group(destination.address);
      d.remote_port = destination.port;
    });
  }
  return parent;
}

std::uint32_t FakeControl::add_subscription(const SubscriptionOptions& o) {
  std::uint32_t endpoint = shm::kNoSlot;
  for (const Receive& known : receives_) {
    if (known.options.local == o.local) endpoint = known.endpoint;
  }
  if (endpoint == shm::kNoSlot || !o.destinations.empty()) endpoint = add_receive_endpoint(o);
  receives_.push_back({endpoint, o});
  const std::uint32_t index = next_interest_++;
  shm::InterestSlot::Wanted& d = registry_->interests[index].desired;
  d.endpoint = endpoint;
  d.stream_id = o.stream_id;
  ++d.generation;
  d.state.store(shm::Desired::kActive, std::memory_order_release);
  ring(shm::SlotKind::kInterest, index);
  return index;
}

std::uint32_t FakeControl::add_link(shm::LinkTarget target, std::uint32_t slot, shm::LogBuffer log) {
  const std::uint32_t index = next_link_++;
  shm::LinkSlot::Wanted& d = registry_->links[index].desired;
  d.target = target;
  d.target_slot = slot;
  d.counter_id = make_counter();
  ++d.generation;
  d.state.store(shm::Desired::kActive, std::memory_order_release);
  ring(shm::SlotKind::kLink, index);
  subscribers_[index] = Subscriber{log, counters().counter(d.counter_id)};
  return index;
}

std::uint32_t FakeControl::add_ipc_subscriber(std::uint32_t publication) {
  return add_link(shm::LinkTarget::kPublication, publication, logs_.at(registry_->publications[publication].desired.log));
}

std::uint32_t FakeControl::add_image_subscriber(std::uint32_t image) {
  return add_link(shm::LinkTarget::kImage, image, logs_.at(registry_->images[image].desired.log));
}

void FakeControl::close_publication(std::uint32_t slot) {
  registry_->publications[slot].desired.state.store(shm::Desired::kClosing, std::memory_order_release);
  ring(shm::SlotKind::kPublication, slot);
}

void FakeControl::revoke_publication(std::uint32_t slot) {
  registry_->publications[slot].desired.is_revoked.store(1, std::memory_order_release);
  ring(shm::SlotKind::kPublication, slot);
}

void FakeControl::close_link(std::uint32_t slot) {
  registry_->links[slot].desired.state.store(shm::Desired::kClosing, std::memory_order_release);
  ring(shm::SlotKind::kLink, slot);
}

void FakeControl::close_image(std::uint32_t slot) {
  for (std::uint32_t link = 0; link < next_link_; ++link) {
    const shm::LinkSlot::Wanted& d = registry_->links[link].desired;
    if (d.target == shm::LinkTarget::kImage && d.target_slot == slot) close_link(link);
  }
  registry_->images[slot].desired.state.store(shm::Desired::kClosing, std::memory_order_release);
  ring(shm::SlotKind::kImage, slot);
}

void FakeControl::reject_image(std::uint32_t slot) {
  registry_->images[slot].desired.is_rejected.store(1, std::memory_order_release);
  ring(shm::SlotKind::kImage, slot);
}

void FakeControl::close_endpoint(std::uint32_t slot) {
  registry_->endpoints[slot].desired.state.store(shm::Desired::kClosing, std::memory_order_release);
  ring(shm::SlotKind::kEndpoint, slot);
}

void FakeControl::close_interest(std::uint32_t slot) {
  registry_->interests[slot].desired.state.store(shm::Desired::kClosing, std::memory_order_release);
  ring(shm::SlotKind::kInterest, slot);
}

void FakeControl::forget_bells() {
  shm::SlotRef ref;
  while (registry_->header.control_to_steward.take(ref)) {
  }
}

void FakeControl::ask_for_rescan() { ring(shm::SlotKind::kRescan, 0); }

void FakeControl::create_image(std::uint32_t lane, std::uint32_t setup_index) {
  shm::SetupSlot& setup = registry_->lanes[lane].setups[setup_index];
  if (setup.state.load(std::memory_order_acquire) != shm::SetupState::kRequested) return;
  const auto wants = [&setup](const Receive& r) { return r.endpoint == setup.endpoint && r.options.stream_id == setup.stream_id; };
  const auto receive = std::find_if(receives_.begin(), receives_.end(), wants);
  const bool is_refused = refuses_images || receive == receives_.end();
  if (!is_refused) {
    const int bits = wire::position_bits(setup.term_length);
    shm::LogMetadata metadata;
    metadata.type = shm::LogType::kImage;
    metadata.initial_term_id = setup.initial_term_id;
    metadata.start_term_id = setup.active_term_id;
    metadata.session_id = setup.session_id;
    metadata.stream_id = setup.stream_id;
    metadata.mtu = setup.mtu;
    metadata.term_length = setup.term_length;
    metadata.page_size = kPage;
    const std::int64_t join_position = wire::position_of(setup.active_term_id, setup.term_offset, setup.initial_term_id, bits);
    const std::uint32_t log = make_log(setup.term_length, shm::LogUse::kImage, metadata, join_position);
    const std::uint32_t index = next_image_++;
    shm::ImageSlot::Wanted& d = registry_->images[index].desired;
    d.correlation_id = next_id_++;
    d.session_id = setup.session_id;
    d.stream_id = setup.stream_id;
    d.initial_term_id = setup.initial_term_id;
    d.term_length = setup.term_length;
    d.mtu = setup.mtu;
    d.window_length = receive->options.window_length;
    d.join_position = join_position;
    d.flags = (receive->options.is_reliable ? shm::ImageFlags::kReliable : 0) | shm::ImageFlags::kRejoin |
              (receive->options.naks_all_gaps ? shm::ImageFlags::kNakAllGaps | shm::ImageFlags::kMeasureRtt : 0);
    d.endpoint = setup.endpoint;
    d.destination = setup.destination;
    d.log = log;
    if (!is_lean) {
      d.rcv_hwm_id = make_counter();
      d.rcv_pos_id = make_counter();
      d.rcv_naks_id = make_counter();
    }
    d.source_address = setup.source_address;
    d.source_port = setup.source_port;
    d.liveness_timeout_ns = receive->options.liveness_timeout_ns;
    d.sm_timeout_ns = 200 * kMillisecond_ns;
    d.nak_delay_ns = receive->options.nak_delay_ns;
    d.nak_retry_ns = receive->options.nak_retry_ns;
    ++d.generation;
    d.state.store(shm::Desired::kActive, std::memory_order_release);
    ring(shm::SlotKind::kImage, index);
    images_.push_back(index);
    image_links_.push_back(add_link(shm::LinkTarget::kImage, index, logs_[log]));
  }
  setup.state.store(is_refused ? shm::SetupState::kRefused : shm::SetupState::kAccepted, std::memory_order_release);
  ring(shm::SlotKind::kSetup, lane * shm::kSetupsPerLane + setup_index);
}

void FakeControl::step() {
  shm::SlotRef ref;
  while (registry_->header.steward_to_control.take(ref)) {
  }
  for (std::uint32_t lane = 0; lane < registry_->header.lane_count; ++lane) {
    while (registry_->lanes[lane].to_control.take(ref)) {
      if (ref.kind == shm::SlotKind::kSetup) create_image(ref.index / shm::kSetupsPerLane, ref.index % shm::kSetupsPerLane);
    }
  }
}

}  // namespace thalweg::test
