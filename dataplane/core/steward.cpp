#include "dataplane/core/steward.hpp"

#include <algorithm>
#include <cstring>
#include <set>

#include "dataplane/base/units.hpp"
#include "dataplane/core/slot_answer.hpp"

namespace thalweg::core {

namespace {

constexpr std::uint32_t kSessionsPerEndpoint = 4096;   // of one receive endpoint, live and pending: bounds what a peer can make us remember
// A log up to this length is populated and unmapped at once, which takes 25 ms at most; larger ones in steps between which others are served.
// Sparse logs are populated when they grow.
constexpr std::uint64_t kLogAtOnceBytes = 64U << 20;
constexpr std::uint64_t kFillBytes = 2U << 20;
constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint32_t kPartitions = 3;
constexpr std::uint64_t kSparseSlackBytes = 4U << 20;  // what metadata and a page behind a partition may take where memory comes in huge pages
constexpr std::int64_t kGrowthRetry_ns = kSecond_ns;
constexpr std::uint64_t kUnmapBytes = 64U << 20;
constexpr unsigned kRenameTries = 3;                   // more than a log is ever renamed

// Sums up what made a slot fail for the client that waits for it.
template <typename Slot>
void fail_with(Slot& slot, shm::ClientError code, const Error& error) noexcept {
  fail_slot(slot, code, (error.message + (error.hint.empty() ? "" : " (" + error.hint + ")")).c_str());
}

shm::ClientError client_error_of(ErrorCode code) noexcept {
  if (code == ErrorCode::kInvalidChannel) return shm::ClientError::kInvalidChannel;
  return code == ErrorCode::kNoSpace ? shm::ClientError::kStorageSpace : shm::ClientError::kChannelEndpointError;
}

// A sender to many, none of which its channel names (wire-protocol 5.5).
bool has_destinations(const shm::EndpointSlot::Wanted& wanted) noexcept {
  const bool is_fan_out = wanted.mode == shm::EndpointMode::kDynamic || wanted.mode == shm::EndpointMode::kManual;
  return wanted.kind == shm::EndpointKind::kSend && is_fan_out;
}

// 0.0.0.0 or ::, whichever family the address is of.
std::uint32_t any_of(std::uint32_t address) noexcept { return wire::is_handle(address) ? wire::kAnyIpv6 : 0; }

// Who it sends to is not its channel's to say, so that it hears everybody (5.2).
bool has_no_remote(const shm::EndpointSlot::Wanted& wanted) noexcept {
  return has_destinations(wanted) || (wanted.kind == shm::EndpointKind::kSend && wanted.mode == shm::EndpointMode::kResponse);
}

// A pool log may be renamed while we open it: its new name is read and tried again.
Result<shm::MappedFile> open_log(const std::string& directory, const shm::LogSlot::Wanted& wanted) {
  for (unsigned n = 1;; ++n) {
    auto file = shm::MappedFile::open(shm::log_path(directory, wanted.use, wanted.id), shm::MappedFile::Access::kReadWrite);
    if (file || file.error().code != ErrorCode::kNotFound || n == kRenameTries) return file;
  }
}

}  // namespace

Steward::Steward(const Options& options, LaneShared& shared, std::vector<StewardPort>& ports, std::vector<std::unique_ptr<Lane>>& lanes)
    : options_{options},
      shared_{shared},
      registry_{*shared.registry},
      ports_{ports},
      lanes_{lanes},
      outboxes_(lanes.size()),
      maps_(shm::kLogsMax),
      endpoints_(shm::kEndpointsMax),
      lane_of_publication_(shm::kPublicationsMax, kNoLane),
      lane_of_image_(shm::kImagesMax, kNoLane),
      captures_{registry_, ports} {}

Steward::~Steward() { close_endpoints(); }

void Steward::attach() {
  shm::SlotRef ignored;
  while (registry_.header.control_to_steward.take(ignored)) {
  }  // the scan sees all they could say
  static_cast<void>(registry_.header.control_to_steward.take_rescan());
  scan(true);
}

unsigned Steward::step(std::int64_t now_ns) {
  unsigned work = drain_outboxes();
  if (registry_.header.control_to_steward.take_rescan()) {
    scan(false);
    ++work;
  }
  shm::SlotRef ref;
  while (registry_.header.control_to_steward.take(ref)) {
    take(ref);
    ++work;
  }
  work += reap_endpoints();
  if (now_ns - last_watch_ns_ >= options_.watch_interval_ns) {
    last_watch_ns_ = now_ns;
    watch(now_ns);
  }
  if (!growing_.empty()) work += grow_logs(now_ns);
  if (work == 0) work = work_at_logs();
  if (has_rung_) {
    has_rung_ = false;
    shm::wake(registry_.header.control_wake);
  }
  return work;
}

bool Steward::has_pending() const noexcept {
  const auto is_waiting = [this](std::size_t i) { return !outboxes_[i].empty() || lanes_[i]->has_messages(); };
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    if (is_waiting(i)) return true;
  }
  return !closing_.empty();
}

// Slots in which the control plane's wish and our answer differ; on attaching all that are in use, because our own state is empty.
void Steward::scan(bool everything) {
  const auto wants = [everything](const auto& slot) {
    const shm::Desired wanted = slot.desired.state.load(std::memory_order_acquire);
    if (wanted == shm::Desired::kFree) return false;
    return everything || wanted == shm::Desired::kClosing || !is_answered(slot, shm::Observed::kActive);
  };
  for (std::uint32_t i = 0; i < shm::kLogsMax; ++i) if (wants(registry_.logs[i])) on_log(i);
  for (std::uint32_t i = 0; i < shm::kEndpointsMax; ++i) if (wants(registry_.endpoints[i])) on_endpoint(i);
  for (std::uint32_t i = 0; i < shm::kDestinationsMax; ++i) on_destination(i);   // the others too: they may have moved
  for (std::uint32_t i = 0; i < shm::kInterestsMax; ++i) if (wants(registry_.interests[i])) on_interest(i);
  for (std::uint32_t i = 0; i < shm::kPublicationsMax; ++i) if (wants(registry_.publications[i])) on_publication(i);
  for (std::uint32_t i = 0; i < shm::kImagesMax; ++i) if (wants(registry_.images[i])) on_image(i);
  for (std::uint32_t i = 0; i < shm::kLinksMax; ++i) if (wants(registry_.links[i])) on_link(i);
  for (std::uint32_t i = 0; i < shm::kCapturesMax; ++i) if (wants(registry_.captures[i])) on_capture(i);
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    for (std::uint32_t i = 0; i < shm::kSetupsPerLane; ++i) take({shm::SlotKind::kSetup, lane * shm::kSetupsPerLane + i});
  }
}

void Steward::take(shm::SlotRef ref) {
  switch (ref.kind) {
    case shm::SlotKind::kLog: return ref.index < shm::kLogsMax ? on_log(ref.index) : void();
    case shm::SlotKind::kEndpoint: return ref.index < shm::kEndpointsMax ? on_endpoint(ref.index) : void();
    case shm::SlotKind::kDestination: return ref.index < shm::kDestinationsMax ? on_destination(ref.index) : void();
    case shm::SlotKind::kInterest: return ref.index < shm::kInterestsMax ? on_interest(ref.index) : void();
    case shm::SlotKind::kPublication: return ref.index < shm::kPublicationsMax ? on_publication(ref.index) : void();
    case shm::SlotKind::kImage: return ref.index < shm::kImagesMax ? on_image(ref.index) : void();
    case shm::SlotKind::kLink: return ref.index < shm::kLinksMax ? on_link(ref.index) : void();
    case shm::SlotKind::kSetup:
      if (ref.index / shm::kSetupsPerLane < lanes_.size()) post(ref.index / shm::kSetupsPerLane, {ref, nullptr, false});
      return;
    case shm::SlotKind::kCapture: return ref.index < shm::kCapturesMax ? on_capture(ref.index) : void();
    case shm::SlotKind::kRescan: return scan(false);
    default: return;
  }
}

void Steward::ring(shm::SlotKind kind, std::uint32_t index) {
  registry_.header.steward_to_control.ring({kind, index});  // full: the ring asks for a rescan by itself
  has_rung_ = true;
}

// ---- messages to lanes ----

void Steward::post(std::uint32_t lane, const LaneMessage& message) {
  if (!outboxes_[lane].empty() || !lanes_[lane]->post(message)) outboxes_[lane].push_back(message);
}

unsigned Steward::drain_outboxes() {
  unsigned posted = 0;
  for (std::size_t i = 0; i < outboxes_.size(); ++i) {
    while (!outboxes_[i].empty() && lanes_[i]->post(outboxes_[i].front())) {
      outboxes_[i].pop_front();
      ++posted;
    }
  }
  return posted;
}

// ---- logs ----

void Steward::on_log(std::uint32_t index) {
  shm::LogSlot& slot = registry_.logs[index];
  const shm::Desired wanted = slot.desired.state.load(std::memory_order_acquire);
  if (wanted == shm::Desired::kActive) {
    if (maps_[index].data() != nullptr && is_answered(slot, shm::Observed::kActive)) return;
    const auto mapped = map_log(index);
    // The pool keeps logs that are ready to the last page; a stream that waits for its log waits for no page more than it needs.
    if (mapped && slot.desired.use == shm::LogUse::kPool && is_filling(index)) return;
    if (mapped) {
      answer(slot, shm::Observed::kActive);
    } else {
      fail_with(slot, shm::ClientError::kStorageSpace, mapped.error());
    }
    ring(shm::SlotKind::kLog, index);
  } else if (wanted == shm::Desired::kClosing && !is_answered(slot, shm::Observed::kDone)) {
    unmap_log(index);
  }
}

bool Steward::is_filling(std::uint32_t index) const noexcept {
  return std::any_of(fillings_.begin(), fillings_.end(), [index](const Filling& filling) { return filling.index == index; });
}

void Steward::unmap_log(std::uint32_t index) {
  if (std::find(unmappings_.begin(), unmappings_.end(), index) != unmappings_.end()) return;
  std::erase_if(fillings_, [index](const Filling& filling) { return filling.index == index; });
  shared_.tables->logs[index] = {};
  growing_.erase(index);
  shared_.tables->growths[index].end.store(shm::LogGrowth::kAll, std::memory_order_release);
  shared_.tables->growths[index].is_wanted.store(0, std::memory_order_relaxed);
  if (maps_[index].length() > kLogAtOnceBytes) {
    unmappings_.push_back(index);
  } else {
    unmapped(index);
  }
}

void Steward::unmapped(std::uint32_t index) {
  if (maps_[index].data() != nullptr) --mapped_logs_;
  maps_[index].reset();
  answer(registry_.logs[index], shm::Observed::kDone);
  ring(shm::SlotKind::kLog, index);
}

unsigned Steward::work_at_logs() {
  if (!fillings_.empty()) {
    Filling& filling = fillings_.front();
    maps_[filling.index].populate(filling.next, kFillBytes);
    filling.next += kFillBytes;
    if (filling.next < filling.end) return 1;
    const std::uint32_t index = filling.index;
    fillings_.pop_front();
    shm::LogSlot& slot = registry_.logs[index];
    if (!is_answered(slot, shm::Observed::kActive)) {
      answer(slot, shm::Observed::kActive);
      ring(shm::SlotKind::kLog, index);
    }
    return 1;
  }
  if (unmappings_.empty()) return 0;
  const std::uint32_t index = unmappings_.front();
  if (maps_[index].length() > kUnmapBytes) {
    static_cast<void>(maps_[index].shrink(kUnmapBytes));
    return 1;
  }
  unmappings_.pop_front();
  unmapped(index);
  return 1;
}

Result<void> Steward::map_log(std::uint32_t index) {
  const shm::LogSlot::Wanted& wanted = registry_.logs[index].desired;
  const auto term_length = static_cast<std::uint64_t>(wanted.term_length);
  if (wanted.term_length < wire::kTermLengthMin || (term_length & (term_length - 1)) != 0) {
    return fail(ErrorCode::kInvalidArgument, "term length " + std::to_string(wanted.term_length));
  }
  if (maps_[index].data() != nullptr) --mapped_logs_;
  maps_[index].reset();
  std::erase_if(fillings_, [index](const Filling& filling) { return filling.index == index; });
  auto file = open_log(options_.directory, wanted);
  if (!file) return tl::unexpected{std::move(file.error()).with_context("map log")};
  if (file->length() != wanted.file_length || file->length() < shm::log_file_length(wanted.term_length, 1)) {
    return fail(ErrorCode::kIo, file->path() + " has " + std::to_string(file->length()) + " bytes, not " + std::to_string(wanted.file_length));
  }
  shared_.tables->logs[index] = shm::LogBuffer{file->data(), file->length(), wanted.term_length};
  maps_[index] = std::move(*file);
  ++mapped_logs_;
  registry_.logs[index].observed.error.code = 0;
  if (wanted.is_sparse != 0) return {};
  const bool is_large = maps_[index].length() > kLogAtOnceBytes;
  maps_[index].populate(0, is_large ? kFillBytes : maps_[index].length());
  if (is_large) maps_[index].populate(maps_[index].length() - shm::kLogMetadataLength, shm::kLogMetadataLength);
  if (is_large) fillings_.push_back({index, kFillBytes, maps_[index].length()});
  return {};
}

Result<void> Steward::ready_log(std::uint32_t index, std::int32_t term_length, std::int64_t position) {
  if (index >= shm::kLogsMax) return fail(ErrorCode::kInvalidArgument, "no log");
  if (maps_[index].data() == nullptr) on_log(index);
  if (maps_[index].data() == nullptr) return fail(ErrorCode::kNoSpace, "its log is not mapped: " + std::string{registry_.logs[index].observed.error.text});
  if (shared_.tables->logs[index].term_length() != term_length) return fail(ErrorCode::kInvalidArgument, "its log has another term length");
  watch_growth(index, term_length, position);
  return {};
}

// The file system knows best what a log has: no record of ours could be more right after a crash. Less than there is does no harm: it is
// asked for once more.
void Steward::watch_growth(std::uint32_t index, std::int32_t term_length, std::int64_t position) {
  shm::LogGrowth& growth = shared_.tables->growths[index];
  if (registry_.logs[index].desired.is_sparse == 0 || growing_.contains(index) || position < 0) return;
  const auto bytes = static_cast<std::uint64_t>(term_length);
  const std::uint64_t allocated = maps_[index].allocated_bytes();
  const auto partitions = std::clamp<std::uint32_t>(static_cast<std::uint32_t>((allocated - std::min(allocated, kSparseSlackBytes)) / bytes), 1, kPartitions);
  const Growing growing{position / term_length, partitions, 0, false, 0};
  const std::uint64_t begin = static_cast<std::uint64_t>(growing.first_term) % kPartitions * bytes;
  maps_[index].populate(begin, std::min(kFillBytes, bytes));
  if (bytes > kFillBytes) fillings_.push_back({index, begin + kFillBytes, begin + bytes});
  growing_.emplace(index, growing);
  if (partitions < kPartitions) growth.end.store((growing.first_term + partitions) * term_length, std::memory_order_release);
}

bool Steward::is_watching_logs() const noexcept {
  return std::any_of(growing_.begin(), growing_.end(), [](const auto& entry) { return entry.second.partitions < kPartitions; });
}

unsigned Steward::grow_logs(std::int64_t now_ns) {
  unsigned work = 0;
  std::vector<std::uint32_t> due;
  for (auto& [index, growing] : growing_) {
    if (growing.partitions == kPartitions) continue;
    shm::LogGrowth& growth = shared_.tables->growths[index];
    if (growth.is_wanted.load(std::memory_order_relaxed) != 0 && growth.is_wanted.exchange(0, std::memory_order_relaxed) != 0) growing.is_wanted = true;
    if (growing.is_wanted && now_ns >= growing.not_before_ns) due.push_back(index);
  }
  for (const std::uint32_t index : due) {
    grow(index, now_ns);
    ++work;
  }
  return work;
}

// One step; with the last one the lane may use the partition. The page behind it comes first: whoever reads up to the end looks at its first word.
void Steward::grow(std::uint32_t index, std::int64_t now_ns) {
  Growing& growing = growing_.at(index);
  shm::LogSlot& slot = registry_.logs[index];
  const auto bytes = static_cast<std::uint64_t>(slot.desired.term_length);
  const std::uint64_t partition = static_cast<std::uint64_t>(growing.first_term + growing.partitions) % kPartitions;
  const std::uint64_t step = std::min(kFillBytes, bytes - growing.done);
  auto claimed = maps_[index].claim((partition + 1) % kPartitions * bytes, kPageBytes);
  if (claimed) claimed = maps_[index].claim(partition * bytes + growing.done, step);
  if (!claimed) {
    growing.not_before_ns = now_ns + kGrowthRetry_ns;
    const std::string text = "a stream waits for memory for its log: " + claimed.error().message + " (" + claimed.error().hint + ")";
    set_error(slot.observed.error, shm::ClientError::kStorageSpace, text.c_str());
    ring(shm::SlotKind::kLog, index);
    return;
  }
  growing.done += step;
  if (growing.done < bytes) return;
  if (slot.observed.error.code != 0) {
    slot.observed.error.code = 0;
    ring(shm::SlotKind::kLog, index);
  }
  growing.is_wanted = false;
  growing.done = 0;
  ++growing.partitions;
  const bool is_complete = growing.partitions == kPartitions;
  const std::int64_t end = (growing.first_term + growing.partitions) * slot.desired.term_length;
  shared_.tables->growths[index].end.store(is_complete ? shm::LogGrowth::kAll : end, std::memory_order_release);
}

// ---- endpoints ----

void Steward::on_endpoint(std::uint32_t index) {
  shm::EndpointSlot& slot = registry_.endpoints[index];
  const shm::Desired wanted = slot.desired.state.load(std::memory_order_acquire);
  std::unique_ptr<Endpoint>& mine = endpoints_[index];
  if (wanted == shm::Desired::kActive) {
    if (mine != nullptr && mine->generation == slot.desired.generation) return readdress(index);
    if (was_open(slot)) lost_.try_emplace(index, 0);   // until it is open again
    if (is_answered(slot, shm::Observed::kFailed)) return;
    auto opened = open_endpoint(index);
    if (opened) return enter_endpoint(index, std::move(*opened));
    fail_with(slot, client_error_of(opened.error().code), opened.error());
    ring(shm::SlotKind::kEndpoint, index);
  } else if (wanted == shm::Desired::kClosing && !is_answered(slot, shm::Observed::kDone)) {
    close_endpoint(index);
  }
}

Result<std::vector<std::uint32_t>> Steward::ports_for(const shm::EndpointSlot::Wanted& wanted) const {
  if (has_no_remote(wanted) || wanted.kind == shm::EndpointKind::kReceive) return shared_.routes->receive(wanted.local_address);
  const std::uint32_t interface = wanted.interface_address != 0 ? wanted.interface_address : wanted.local_address;
  auto route = shared_.routes->send(wanted.remote_address, interface, wanted.prefix_length);
  if (!route) return tl::unexpected{route.error()};
  return std::vector{route->port};
}

// Every port, or none. The kernel port goes first: it finds out whether a port number is free for all.
Result<wire::UdpEndpoint> Steward::bind_all(const Endpoint& endpoint, pmd::Port::BindOptions options) {
  std::vector<std::uint32_t> order = endpoint.ports;
  std::stable_partition(order.begin(), order.end(), [this](std::uint32_t i) { return ports_[i].options.kind == shm::PortKind::kKernel; });
  std::vector<std::uint32_t> bound_ports;
  wire::UdpEndpoint bound{};
  for (const std::uint32_t index : order) {
    options.queue = ports_[index].queue_of(endpoint.lane);
    auto one = ports_[index].port->bind(options);
    if (!one) {
      for (const std::uint32_t i : bound_ports) ports_[i].port->unbind(options.local);
      return tl::unexpected{std::move(one.error()).with_context("port " + ports_[index].options.name)};
    }
    if (bound_ports.empty()) bound = *one;
    options.local.port = bound.port;  // the same number everywhere
    bound_ports.push_back(index);
  }
  if (order.size() > 1) bound.address = options.local.address;
  return bound;
}

Result<std::unique_ptr<Endpoint>> Steward::open_endpoint(std::uint32_t index) {
  const shm::EndpointSlot& slot = registry_.endpoints[index];
  const shm::EndpointSlot::Wanted& wanted = slot.desired;
  const bool is_resumed = was_open(slot);  // by a data plane before us: same address, same receiver id
  auto endpoint = std::make_unique<Endpoint>();
  endpoint->kind = wanted.kind;
  endpoint->slot = index;
  endpoint->generation = wanted.generation;
  endpoint->remote = {wanted.remote_address, wanted.remote_port};
  endpoint->wanted_remote.store(wanted.remote_address, std::memory_order_relaxed);
  if (has_destinations(wanted)) endpoint->fan_out = std::make_unique<FanOut>(wanted.mode == shm::EndpointMode::kDynamic);
  endpoint->is_connected = wanted.kind == shm::EndpointKind::kSend && !has_no_remote(wanted);
  endpoint->ttl = wanted.ttl;
  const bool is_receive = wanted.kind == shm::EndpointKind::kReceive;
  if (is_receive && wanted.mode == shm::EndpointMode::kManual) return open_parent(std::move(endpoint), slot, is_resumed);
  if (is_receive && wanted.parent != shm::kNoSlot) {
    if (auto lane = ready_endpoint(wanted.parent, shm::EndpointKind::kReceive); !lane) return tl::unexpected{lane.error()};
    endpoint->parent = endpoints_[wanted.parent].get();
    if (!endpoint->parent->has_destinations()) return fail(ErrorCode::kInvalidArgument, "what it belongs to has no destinations");
  }
  if (wanted.is_multicast != 0) {
    if (auto joined = join_group(*endpoint, wanted); !joined) return tl::unexpected{joined.error()};
  } else {
    auto ports = ports_for(wanted);
    if (!ports) return tl::unexpected{ports.error()};
    endpoint->ports = *ports;
  }
  const StewardPort& first = ports_[endpoint->ports.front()];
  endpoint->group_lane = first.home();
  // What sends or hears a group is where the port is spoken for; receivers are dealt out, the same way after a restart, but for destinations,
  // whose streams are their parent's.
  const bool is_dealt = wanted.kind == shm::EndpointKind::kReceive && wanted.is_multicast == 0;
  endpoint->lane = endpoint->parent != nullptr ? endpoint->parent->lane : is_dealt ? first.lanes[index % first.lanes.size()] : first.home();
  if (auto bound = bind_endpoint(*endpoint, slot); !bound) {
    if (endpoint->group.port != 0) ports_[endpoint->ports.front()].port->leave(endpoint->group, endpoint->interface_address);
    return tl::unexpected{bound.error()};
  }
  if (endpoint->parent != nullptr) {
    endpoint->receiver_id = endpoint->parent->receiver_id;
    endpoint->has_group_tag = endpoint->parent->has_group_tag;
    endpoint->group_tag = endpoint->parent->group_tag;
    endpoint->is_stamped = endpoint->parent->is_stamped;
  } else if (is_receive) {
    make_receiver(*endpoint, slot, is_resumed);
  }
  return endpoint;
}

void Steward::make_receiver(Endpoint& endpoint, const shm::EndpointSlot& slot, bool is_resumed) {
  endpoint.receiver_id = is_resumed ? slot.observed.receiver_id
                                    : static_cast<std::int64_t>(registry_.header.next_receiver_id.fetch_add(1, std::memory_order_relaxed));
  endpoint.has_group_tag = slot.desired.has_group_tag != 0;
  endpoint.group_tag = slot.desired.group_tag;
  endpoint.is_stamped = slot.desired.media_receive_timestamp != shm::kNoTimestamp || slot.desired.channel_receive_timestamp != shm::kNoTimestamp;
  endpoint.dispatcher = std::make_unique<proto::Dispatcher>(kSessionsPerEndpoint, options_.session_limit);
}

// Of a multi-destination subscription: it opens no socket (wire-protocol 5.6). Its address, where it has one, is that of the destination
// whose lane is to be its own.
Result<std::unique_ptr<Endpoint>> Steward::open_parent(std::unique_ptr<Endpoint> endpoint, const shm::EndpointSlot& slot, bool is_resumed) {
  const shm::EndpointSlot::Wanted& wanted = slot.desired;
  if (wanted.is_multicast != 0) {
    const auto route = route_of_group(wanted);
    if (route) endpoint->lane = ports_[route->port].home();
  } else if (wanted.local_port != 0) {
    const auto ports = shared_.routes->receive(wanted.local_address);
    if (ports && !ports->empty()) endpoint->lane = ports_[ports->front()].home();
  }
  make_receiver(*endpoint, slot, is_resumed);
  endpoint->arrivals = std::make_unique<proto::Arrivals>();
  return endpoint;
}

Result<GroupRoute> Steward::route_of_group(const shm::EndpointSlot::Wanted& wanted) {
  const std::uint32_t group = wanted.kind == shm::EndpointKind::kSend ? wanted.remote_address : wanted.local_address;
  const std::uint32_t interface = wanted.interface_address != 0 ? wanted.interface_address : any_of(group);
  return shared_.routes->group(interface, wanted.prefix_length, read_host_interfaces(&registry_.addresses));
}

Result<void> Steward::join_group(Endpoint& endpoint, const shm::EndpointSlot::Wanted& wanted) {
  const bool is_send = wanted.kind == shm::EndpointKind::kSend;
  auto route = route_of_group(wanted);
  if (!route) return tl::unexpected{route.error()};
  endpoint.ports = {route->port};
  endpoint.interface_address = route->interface_address;
  endpoint.group = is_send ? wire::UdpEndpoint{wire::control_group(wanted.remote_address), wanted.remote_port}
                           : wire::UdpEndpoint{wanted.local_address, wanted.local_port};
  if (auto checked = check_room_for_group(endpoint); !checked) return checked;
  pmd::Port::GroupOptions group;
  group.group = endpoint.group;
  group.interface_address = endpoint.interface_address;
  group.socket_rcvbuf = wanted.socket_rcvbuf;
  group.socket_sndbuf = wanted.socket_sndbuf;
  group.ttl = wanted.ttl;
  group.wants_arrivals = wants_arrivals(endpoint, wanted);
  auto joined = ports_[route->port].port->join(group);
  if (!joined) return tl::unexpected{std::move(joined.error()).with_context("port " + ports_[route->port].options.name)};
  return {};
}

// A destination's frames are stamped as its subscription says.
bool Steward::wants_arrivals(const Endpoint& endpoint, const shm::EndpointSlot::Wanted& wanted) const noexcept {
  const auto& home = endpoint.parent != nullptr ? registry_.endpoints[endpoint.parent->slot].desired : wanted;
  return wanted.kind == shm::EndpointKind::kReceive && home.media_receive_timestamp != shm::kNoTimestamp;
}

// The lane cannot refuse a group, so it is done here.
Result<void> Steward::check_room_for_group(const Endpoint& endpoint) const {
  std::set<std::uint32_t> groups{endpoint.group.address};
  for (const std::unique_ptr<Endpoint>& other : endpoints_) {
    if (other != nullptr && other->group.port != 0 && other->ports == endpoint.ports) groups.insert(other->group.address);
  }
  if (groups.size() <= IgmpHost::kGroupsMax) return {};
  return fail(ErrorCode::kNoSpace, "all " + std::to_string(IgmpHost::kGroupsMax) + " groups of port " + ports_[endpoint.ports.front()].options.name + " are joined");
}

Result<void> Steward::bind_endpoint(Endpoint& endpoint, const shm::EndpointSlot& slot) {
  const shm::EndpointSlot::Wanted& wanted = slot.desired;
  const bool is_receive = wanted.kind == shm::EndpointKind::kReceive;
  if (is_receive && endpoint.group.port != 0) {
    endpoint.bound = endpoint.group;  // joined: its socket is bound already
    return {};
  }
  const StewardPort& port = ports_[endpoint.ports.front()];
  pmd::Port::BindOptions bind;
  bind.local = {wanted.local_address, wanted.local_port};
  if (!is_receive && !has_no_remote(wanted)) {
    bind.remote = endpoint.remote;
    bind.interface_address = endpoint.interface_address;
    if (wire::is_any(bind.local.address)) bind.local.address = any_of(endpoint.remote.address);
    if (wire::is_any(bind.local.address) && port.options.kind != shm::PortKind::kKernel) {
      const shm::PortSlot& own = registry_.ports[endpoint.ports.front()];
      bind.local.address = bind.local.address == 0 ? port.options.address : own.address6;
    }
    if (endpoint.group.port != 0) bind.local.address = endpoint.interface_address;
  }
  if (was_open(slot)) bind.local = {slot.observed.bound_address, slot.observed.bound_port};
  bind.is_receive = is_receive || has_no_remote(wanted);   // not connected
  bind.socket_rcvbuf = wanted.socket_rcvbuf;
  bind.socket_sndbuf = wanted.socket_sndbuf;
  bind.ttl = wanted.ttl;
  bind.wants_arrivals = wants_arrivals(endpoint, wanted);
  const auto bind_to = [&](std::uint16_t number) {
    bind.local.port = number;
    return bind_all(endpoint, bind);
  };
  auto bound = bind.local.port != 0 ? bind_all(endpoint, bind) : (is_receive ? options_.receiver_ports : options_.sender_ports).bind(bind_to);
  if (!bound) return tl::unexpected{bound.error()};
  endpoint.bound = *bound;
  return {};
}

void Steward::release_addresses(const Endpoint& endpoint) {
  const bool is_group_only = endpoint.group.port != 0 && endpoint.kind == shm::EndpointKind::kReceive;
  for (const std::uint32_t port : endpoint.ports) {
    if (!is_group_only) ports_[port].port->unbind(endpoint.bound);
    if (endpoint.group.port != 0) ports_[port].port->leave(endpoint.group, endpoint.interface_address);
  }
}

void Steward::close_endpoint(std::uint32_t index) {
  if (endpoints_[index] == nullptr) {
    answer(registry_.endpoints[index], shm::Observed::kDone);
    ring(shm::SlotKind::kEndpoint, index);
    return;
  }
  if (std::find(closing_.begin(), closing_.end(), index) != closing_.end()) return;
  endpoints_[index]->lanes_left.store(static_cast<std::uint32_t>(lanes_.size()), std::memory_order_relaxed);
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    post(lane, {{shm::SlotKind::kEndpoint, index}, endpoints_[index].get(), true});
  }
  closing_.push_back(index);
}

// The control plane closes destinations first; a parent that goes before them would leave them pointing nowhere.
bool Steward::has_child(const Endpoint* parent) const {
  return std::any_of(endpoints_.begin(), endpoints_.end(), [parent](const std::unique_ptr<Endpoint>& each) { return each != nullptr && each->parent == parent; });
}

unsigned Steward::reap_endpoints() {
  unsigned reaped = 0;
  for (std::size_t i = closing_.size(); i > 0; --i) {
    const std::uint32_t index = closing_[i - 1];
    if (endpoints_[index]->lanes_left.load(std::memory_order_acquire) != 0) continue;  // pairs with Lane::on_endpoint()
    if (endpoints_[index]->has_destinations() && has_child(endpoints_[index].get())) continue;
    release_addresses(*endpoints_[index]);
    endpoints_[index].reset();
    --open_endpoints_;
    closing_.erase(closing_.begin() + static_cast<std::ptrdiff_t>(i - 1));
    answer(registry_.endpoints[index], shm::Observed::kDone);
    ring(shm::SlotKind::kEndpoint, index);
    ++reaped;
  }
  return reaped;
}

void Steward::close_endpoints() {
  for (std::unique_ptr<Endpoint>& endpoint : endpoints_) {
    if (endpoint == nullptr) continue;
    release_addresses(*endpoint);
    endpoint.reset();
  }
  closing_.clear();
  open_endpoints_ = 0;
}

Result<std::uint32_t> Steward::ready_endpoint(std::uint32_t index, shm::EndpointKind kind) {
  if (index >= shm::kEndpointsMax) return fail(ErrorCode::kInvalidArgument, "no endpoint");
  if (endpoints_[index] == nullptr) on_endpoint(index);
  if (endpoints_[index] == nullptr) return fail(ErrorCode::kNotFound, "its endpoint is not open: " + std::string{registry_.endpoints[index].observed.error.text});
  if (endpoints_[index]->kind != kind) return fail(ErrorCode::kInvalidArgument, "its endpoint is of the other direction");
  return endpoints_[index]->lane;
}

// ---- what lanes do ----

void Steward::on_interest(std::uint32_t index) {
  shm::InterestSlot& slot = registry_.interests[index];
  const shm::Desired wanted = slot.desired.state.load(std::memory_order_acquire);
  if (wanted == shm::Desired::kFree) return;
  const auto lane = ready_endpoint(slot.desired.endpoint, shm::EndpointKind::kReceive);
  if (lane) {
    post(*lane, {{shm::SlotKind::kInterest, index}, nullptr, false});
    return;
  }
  answer(slot, wanted == shm::Desired::kActive ? shm::Observed::kFailed : shm::Observed::kDone);
  ring(shm::SlotKind::kInterest, index);
}

// Those of publications; what stands for a subscription's are endpoints and links.
void Steward::on_destination(std::uint32_t index) {
  shm::DestinationSlot& slot = registry_.destinations[index];
  const shm::Desired wanted = slot.desired.state.load(std::memory_order_acquire);
  if (wanted == shm::Desired::kFree || slot.desired.kind != shm::DestinationKind::kSend) return;
  if (is_answered(slot, shm::Observed::kDone)) return;
  const bool has_failed = is_answered(slot, shm::Observed::kFailed);
  if (has_failed && wanted == shm::Desired::kActive) return;
  const auto lane = ready_endpoint(slot.desired.endpoint, shm::EndpointKind::kSend);
  if (lane && !has_failed) {
    post(*lane, {{shm::SlotKind::kDestination, index}, nullptr, false});
    return;
  }
  if (wanted == shm::Desired::kActive) {
    fail_with(slot, client_error_of(lane.error().code), lane.error());
  } else {
    answer(slot, shm::Observed::kDone);
  }
  ring(shm::SlotKind::kDestination, index);
}

// A relay sends from its image's log, so their lane is the same.
Result<std::uint32_t> Steward::lane_of_relay(const shm::PublicationSlot& slot, std::uint32_t lane_of_endpoint) {
  const std::uint32_t image = slot.desired.source_image;
  if (image >= shm::kImagesMax) return fail(ErrorCode::kInvalidArgument, "a relay without a source");
  if (lane_of_image_[image] == kNoLane) on_image(image);
  const std::uint8_t lane = lane_of_image_[image];
  if (lane == kNoLane || lane == lane_of_endpoint) return lane_of_endpoint;
  return fail(ErrorCode::kInvalidArgument, "a relay's ports must be polled by one lane: it receives on lane " + std::to_string(lane) + " and would send on lane " +
                                               std::to_string(lane_of_endpoint));
}

template <typename Slot>
bool Steward::may_touch(Slot& slot, shm::SlotRef ref) {
  if (!shm::is_quarantined(slot)) return true;
  fail_slot(slot, shm::ClientError::kGeneric,
            "quarantined: the data plane crashed " + std::to_string(shm::kCrashesMax) + " times at work on this stream, session " +
                std::to_string(slot.desired.session_id) + " stream " + std::to_string(slot.desired.stream_id) + " (its log is broken, or we are)");
  ring(ref.kind, ref.index);
  return false;
}

// Says in the registry whom to blame for a crash, as long as it lives.
class Steward::InWork {
 public:
  InWork(shm::Registry& registry, shm::SlotRef ref) noexcept
      : word_{registry.header.steward_in_work}, before_{word_.exchange(ref.pack(), std::memory_order_relaxed)} {}
  InWork(const InWork&) = delete;
  InWork& operator=(const InWork&) = delete;
  ~InWork() { word_.store(before_, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint32_t>& word_;
  std::uint32_t before_;
};

void Steward::on_publication(std::uint32_t index) {
  shm::PublicationSlot& slot = registry_.publications[index];
  if (slot.desired.state.load(std::memory_order_acquire) == shm::Desired::kFree) return;
  if (is_answered(slot, shm::Observed::kDone) || is_answered(slot, shm::Observed::kFailed)) return;
  if (!may_touch(slot, {shm::SlotKind::kPublication, index})) return;
  const InWork in_work{registry_, {shm::SlotKind::kPublication, index}};
  const bool is_ipc = (slot.desired.flags & shm::PublicationFlags::kIpc) != 0;
  Result<std::uint32_t> lane = slot.desired.lane % static_cast<std::uint32_t>(lanes_.size());
  if (!is_ipc) lane = ready_endpoint(slot.desired.endpoint, shm::EndpointKind::kSend);
  if (lane && (slot.desired.flags & shm::PublicationFlags::kRelay) != 0) lane = lane_of_relay(slot, *lane);
  if (lane) {
    if (auto log = ready_log(slot.desired.log, slot.desired.term_length, slot.desired.start_position); !log) lane = tl::unexpected{log.error()};
  }
  if (!lane) {
    fail_with(slot, client_error_of(lane.error().code), lane.error());
    ring(shm::SlotKind::kPublication, index);
    return;
  }
  lane_of_publication_[index] = static_cast<std::uint8_t>(*lane);
  post(*lane, {{shm::SlotKind::kPublication, index}, nullptr, false});
}

void Steward::on_image(std::uint32_t index) {
  shm::ImageSlot& slot = registry_.images[index];
  if (slot.desired.state.load(std::memory_order_acquire) == shm::Desired::kFree) return;
  if (is_answered(slot, shm::Observed::kDone) || is_answered(slot, shm::Observed::kFailed)) return;
  if (!may_touch(slot, {shm::SlotKind::kImage, index})) return;
  const InWork in_work{registry_, {shm::SlotKind::kImage, index}};
  Result<std::uint32_t> lane = ready_endpoint(slot.desired.endpoint, shm::EndpointKind::kReceive);
  if (lane) {
    if (auto log = ready_log(slot.desired.log, slot.desired.term_length, slot.desired.join_position); !log) lane = tl::unexpected{log.error()};
  }
  if (!lane) {
    fail_with(slot, client_error_of(lane.error().code), lane.error());
    ring(shm::SlotKind::kImage, index);
    return;
  }
  lane_of_image_[index] = static_cast<std::uint8_t>(*lane);
  post(*lane, {{shm::SlotKind::kImage, index}, nullptr, false});
}

void Steward::on_link(std::uint32_t index) {
  shm::LinkSlot& slot = registry_.links[index];
  const shm::Desired wanted = slot.desired.state.load(std::memory_order_acquire);
  if (wanted == shm::Desired::kFree) return;
  const std::uint32_t target = slot.desired.target_slot;
  const bool is_image = slot.desired.target == shm::LinkTarget::kImage;
  std::uint8_t lane = kNoLane;
  if (target < (is_image ? shm::kImagesMax : shm::kPublicationsMax)) {
    std::uint8_t& known = is_image ? lane_of_image_[target] : lane_of_publication_[target];
    if (known == kNoLane) is_image ? on_image(target) : on_publication(target);
    lane = known;
  }
  if (lane != kNoLane) {
    post(lane, {{shm::SlotKind::kLink, index}, nullptr, false});
    return;
  }
  answer(slot, shm::Observed::kDone);  // its stream never came to be
  ring(shm::SlotKind::kLink, index);
}

void Steward::on_capture(std::uint32_t index) {
  if (captures_.look(index)) ring(shm::SlotKind::kCapture, index);
}

// ---- watching ----

void Steward::watch(std::int64_t now_ns) {
  registry_.header.data_plane.heartbeat_ns.store(now_ns, std::memory_order_release);
  for (std::uint32_t i = 0; i < ports_.size(); ++i) watch_port(i);
  reopen_endpoints(now_ns);
  if (registry_.addresses.is_half_full() && now_ns - last_recycle_ns_ >= kSecond_ns) forget_addresses(now_ns);
  for (std::uint32_t i = 0; i < shm::kCapturesMax; ++i) {
    if (captures_.watch(i)) ring(shm::SlotKind::kCapture, i);
  }
}

void Steward::watch_port(std::uint32_t index) {
  shm::PortSlot& slot = registry_.ports[index];
  pmd::Port& port = *ports_[index].port;
  const std::uint32_t is_up = port.is_link_up() ? 1 : 0;
  if (slot.is_link_up.exchange(is_up, std::memory_order_relaxed) != is_up) {
    post(ports_[index].home(), {{shm::SlotKind::kPort, index}, nullptr, is_up == 0});
    ring(shm::SlotKind::kPort, index);
  }
  const pmd::PortStatistics now = port.statistics();
  slot.rx_frames.store(now.rx_frames, std::memory_order_relaxed);
  slot.rx_bytes.store(now.rx_bytes, std::memory_order_relaxed);
  slot.tx_frames.store(now.tx_frames, std::memory_order_relaxed);
  slot.tx_bytes.store(now.tx_bytes, std::memory_order_relaxed);
  slot.rx_missed.store(now.rx_missed, std::memory_order_relaxed);
  slot.rx_errors.store(now.rx_errors, std::memory_order_relaxed);
  slot.tx_errors.store(now.tx_errors, std::memory_order_relaxed);
  slot.rx_no_buffer.store(now.rx_no_buffer, std::memory_order_relaxed);
  const pmd::ImpairmentStatistics impaired = port.impairments();
  slot.impaired_lost.store(impaired.lost, std::memory_order_relaxed);
  slot.impaired_duplicated.store(impaired.duplicated, std::memory_order_relaxed);
  slot.impaired_reordered.store(impaired.reordered, std::memory_order_relaxed);
  slot.impaired_corrupted.store(impaired.corrupted, std::memory_order_relaxed);
  slot.impaired_delayed.store(impaired.delayed, std::memory_order_relaxed);
}

}  // namespace thalweg::core
