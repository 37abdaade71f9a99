#include "controlplane/cli/instance.hpp"

#include <algorithm>
#include <atomic>

#include "dataplane/base/time.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::cli {
namespace {

constexpr std::int64_t kDriverTimeout_ms = 10'000;  // client-protocol 1.4

std::string_view state_name(shm::Observed observed, bool is_current, bool is_quarantined, shm::Lifecycle lifecycle) {
  if (!is_current) return "waiting";
  if (observed == shm::Observed::kFailed) return is_quarantined ? "quarantined" : "failed";
  switch (lifecycle) {
    case shm::Lifecycle::kNone: return "waiting";
    case shm::Lifecycle::kActive: return "active";
    case shm::Lifecycle::kDraining: return "draining";
    case shm::Lifecycle::kLinger: return "linger";
    case shm::Lifecycle::kDone: return "done";
  }
  return "unknown";
}

template <typename Slot>
bool is_used(const Slot& slot) {
  return slot.desired.state.load(std::memory_order_acquire) != shm::Desired::kFree;
}
template <typename Slot>
bool is_answered(const Slot& slot) {
  const shm::ObservedHead& head = slot.observed;  // publications and images have a `state` of their own behind it
  return head.state.load(std::memory_order_acquire) != shm::Observed::kNone && head.generation == slot.desired.generation;
}

// A stream's subscribers on this machine.
struct Consumers {
  std::uint32_t count{};
  std::optional<StreamView::Consumer> slowest;
  void add(StreamView::Consumer consumer) {
    ++count;
    if (!slowest || consumer.position < slowest->position) slowest = std::move(consumer);
  }
};

// Subscriber links by target, read once: a registry has up to 32,768 of them.
class Links {
 public:
  explicit Links(const Instance& instance) : instance_{instance} {
    const auto& links = instance.registry().links;
    for (std::uint32_t i = 0; i < links.size(); ++i) {
      if (is_used(links[i]) && is_answered(links[i])) used_.push_back({key(links[i].desired.target, links[i].desired.target_slot), i});
    }
    const auto& publications = instance.registry().publications;
    for (std::uint32_t i = 0; i < publications.size(); ++i) {
      const bool is_relay = is_used(publications[i]) && (publications[i].desired.flags & shm::PublicationFlags::kRelay) != 0;
      if (is_relay) used_.push_back({key(shm::LinkTarget::kImage, publications[i].desired.source_image), kRelay | i});
    }
    std::sort(used_.begin(), used_.end());
  }
  [[nodiscard]] Consumers of(shm::LinkTarget target, std::uint32_t slot) const {
    Consumers out;
    const auto& registry = instance_.registry();
    for (auto at = std::lower_bound(used_.begin(), used_.end(), std::pair{key(target, slot), 0U}); at != used_.end(); ++at) {
      if (at->first != key(target, slot)) break;
      if ((at->second & kRelay) != 0) {
        out.add(relay(registry.publications[at->second & ~kRelay]));
        continue;
      }
      const auto& link = registry.links[at->second].desired;
      const auto position = instance_.counter(link.counter_id);
      if (!position) continue;
      StreamView::Consumer subscriber{link.counter_id, 0, *position, "subscriber " + std::to_string(link.counter_id)};
      if (link.subscription < registry.subscriptions.size()) {
        subscriber.client_id = registry.subscriptions[link.subscription].client_id;
        subscriber.name += " of client " + std::to_string(subscriber.client_id);
      }
      out.add(std::move(subscriber));
    }
    return out;
  }

 private:
  static constexpr std::uint32_t kRelay = 1U << 31;
  // Nobody waits for one without receivers, or that drops.
  static StreamView::Consumer relay(const shm::PublicationSlot& slot) {
    const shm::PublicationState& state = slot.observed.state;
    const bool is_waited_for = state.is_connected != 0 && (slot.desired.flags & shm::PublicationFlags::kDropsWhenSlow) == 0;
    const std::int64_t id = slot.desired.registration_id;
    return {-1, id, is_waited_for ? state.sender_position : state.producer_position, "relay " + std::to_string(id)};
  }
  static std::uint64_t key(shm::LinkTarget target, std::uint32_t slot) { return static_cast<std::uint64_t>(target) << 32 | slot; }

  const Instance& instance_;
  std::vector<std::pair<std::uint64_t, std::uint32_t>> used_;  // target and link slot, or kRelay | publication slot; sorted
};

std::string name_of_limiting_receiver(const shm::AddressBook& book, const shm::PublicationSlot& slot) {
  const shm::ReceiverState* const receiver = limiting_receiver(slot);
  return receiver == nullptr ? "receiver" : "receiver " + book.format_endpoint(receiver->address, receiver->port);
}

StreamView publication_view(const Instance& instance, const Links& links, std::uint32_t index) {
  const shm::PublicationSlot& slot = instance.registry().publications[index];
  const auto& wanted = slot.desired;
  const shm::PublicationState& state = slot.observed.state;
  const bool is_ipc = (wanted.flags & shm::PublicationFlags::kIpc) != 0;
  Consumers spies = links.of(shm::LinkTarget::kPublication, index);
  StreamView view;
  const bool is_relay = (wanted.flags & shm::PublicationFlags::kRelay) != 0;
  view.kind = is_relay ? "relay" : is_ipc ? "ipc" : "publication";
  view.slot = index;
  view.generation = wanted.generation;
  view.id = wanted.registration_id;
  view.session_id = wanted.session_id;
  view.stream_id = wanted.stream_id;
  view.channel = instance.text(wanted.text);
  view.state = state_name(slot.observed.ObservedHead::state.load(std::memory_order_relaxed), is_answered(slot), shm::is_quarantined(slot), state.lifecycle);
  view.is_connected = state.is_connected != 0;
  view.position = std::max(instance.counter(wanted.pub_pos_id).value_or(state.producer_position), state.producer_position);
  view.limit = state.publisher_limit;
  view.slowest = std::move(spies.slowest);
  const std::int64_t consumed = is_ipc ? (view.slowest ? view.slowest->position : state.consumer_position) : state.sender_position;
  view.backlog_bytes = std::max<std::int64_t>(view.position - consumed, 0);
  view.window_left_bytes = std::max<std::int64_t>((is_ipc ? state.publisher_limit - view.position : state.sender_limit - state.sender_position), 0);
  view.consumers = is_ipc ? spies.count : state.receiver_count;
  if (!view.is_connected) view.held_by = is_ipc ? "no subscriber" : "no receiver";
  else if (is_ipc && view.position >= state.publisher_limit && view.slowest) view.held_by = view.slowest->name;
  else if (!is_ipc && is_window_shut(slot, view.backlog_bytes)) view.held_by = name_of_limiting_receiver(instance.registry().addresses, slot);
  else if (is_relay) return view;   // nobody publishes into its log, so nobody is limited
  else if (!is_ipc && view.position >= state.publisher_limit && view.slowest && view.slowest->position < state.sender_position) view.held_by = view.slowest->name + " (spy)";
  else if (!is_ipc && view.position >= state.publisher_limit) view.held_by = "sender";
  return view;
}

std::vector<StreamView::Side> sides_of(const Instance& instance, const shm::ImageSlot& slot) {
  std::vector<StreamView::Side> sides;
  const auto& endpoints = instance.registry().endpoints;
  std::int64_t latest_ns = 0;
  for (const shm::ConnectionState& c : slot.observed.state.connections) latest_ns = std::max(latest_ns, c.is_used != 0 ? c.last_frame_ns : 0);
  for (const shm::ConnectionState& c : slot.observed.state.connections) {
    const bool is_destination = c.is_used != 0 && c.endpoint < endpoints.size() && endpoints[c.endpoint].desired.parent == slot.desired.endpoint;
    if (!is_destination) continue;
    sides.push_back({.channel = instance.text(endpoints[c.endpoint].desired.text),
                     .silent_ns = std::max<std::int64_t>(latest_ns - c.last_frame_ns, 0),
                     .frames_won = c.frames_won,
                     .bytes_won = c.bytes_won,
                     .fills = c.fills,
                     .copies = c.copies,
                     .late_ns_mean = c.copies_timed > 0 ? c.late_ns_sum / c.copies_timed : 0,
                     .late_ns_max = c.late_ns_max});
  }
  return sides;
}

StreamView image_view(const Instance& instance, const Links& links, std::uint32_t index) {
  const shm::ImageSlot& slot = instance.registry().images[index];
  const auto& wanted = slot.desired;
  const shm::ImageState& state = slot.observed.state;
  Consumers subscribers = links.of(shm::LinkTarget::kImage, index);
  StreamView view;
  view.kind = "image";
  view.slot = index;
  view.generation = wanted.generation;
  view.id = wanted.correlation_id;
  view.session_id = wanted.session_id;
  view.stream_id = wanted.stream_id;
  const auto& endpoints = instance.registry().endpoints;
  const std::uint32_t text = wanted.text == shm::kNoSlot && wanted.endpoint < endpoints.size() ? endpoints[wanted.endpoint].desired.text : wanted.text;
  view.channel = instance.text(text);
  view.source = instance.registry().addresses.format_endpoint(wanted.source_address, wanted.source_port);
  view.state = state_name(slot.observed.ObservedHead::state.load(std::memory_order_relaxed), is_answered(slot), shm::is_quarantined(slot), state.lifecycle);
  view.is_connected = state.lifecycle == shm::Lifecycle::kActive;
  view.position = state.rebuild_position;
  view.limit = state.next_sm_position + state.next_sm_window;
  view.consumers = subscribers.count;
  view.slowest = std::move(subscribers.slowest);
  view.window_left_bytes = std::max<std::int64_t>(view.limit - state.high_water, 0);
  if (view.slowest) view.backlog_bytes = std::max<std::int64_t>(state.rebuild_position - view.slowest->position, 0);
  view.sides = sides_of(instance, slot);
  if (state.gap_count != 0) {
    view.held_by = "loss at " + std::to_string(state.rebuild_position);
  } else if (view.backlog_bytes > 0) {
    view.held_by = view.slowest->name;
  }
  return view;
}

}  // namespace

Result<Instance> Instance::open(Context& context) {
  Instance instance;
  instance.directory_ = context.instance_directory();
  auto cnc = shm::CncFile::open(instance.directory_, shm::MappedFile::Access::kReadOnly);
  if (!cnc) {
    if (cnc.error().code != ErrorCode::kNotFound) return tl::unexpected{std::move(cnc.error())};
    return fail(ErrorCode::kUnreachable, "no instance in " + instance.directory_, "start one with `thalweg up`, or name its directory with --directory");
  }
  instance.cnc_ = std::move(*cnc);
  const auto activity = shm::check_driver_active(instance.directory_, kDriverTimeout_ms, epoch_ms());
  instance.is_active_ = activity && *activity == shm::DriverActivity::kActive;
  if (!instance.is_active_) context.out.note("note: the instance in " + instance.directory_ + " does not run; these are its last figures");
  return instance;
}

Result<Instance> Instance::open_with_registry(Context& context) {
  auto instance = open(context);
  if (!instance) return instance;
  auto registry = shm::RegistryFile::open(instance->directory_, shm::MappedFile::Access::kReadOnly);
  if (!registry) {
    Error error = std::move(registry.error());
    if (error.code == ErrorCode::kPermission) error.hint = "run the command as the instance's user";
    if (error.code == ErrorCode::kNotFound) error.hint = "the directory belongs to another media driver, or the control plane has not made it yet";
    return tl::unexpected{std::move(error)};
  }
  instance->registry_ = std::move(*registry);
  return instance;
}

std::optional<std::int64_t> Instance::counter(std::int32_t id) const noexcept {
  const auto reader = counters();
  if (id < 0 || id >= reader.capacity() || reader.state(id) != shm::CounterState::kAllocated) return std::nullopt;
  return reader.counter(id).get();
}

std::vector<StreamView> streams_of(const Instance& instance) {
  std::vector<StreamView> out;
  const Links links{instance};
  const auto& registry = instance.registry();
  for (std::uint32_t i = 0; i < registry.publications.size(); ++i) {
    if (is_used(registry.publications[i])) out.push_back(publication_view(instance, links, i));
  }
  for (std::uint32_t i = 0; i < registry.images.size(); ++i) {
    if (is_used(registry.images[i])) out.push_back(image_view(instance, links, i));
  }
  return out;
}

bool is_window_shut(const shm::PublicationSlot& slot, std::int64_t backlog_bytes) noexcept {
  const shm::PublicationState& state = slot.observed.state;
  const std::int64_t wanted = std::min<std::int64_t>(backlog_bytes, std::max(slot.desired.mtu, 1));
  return backlog_bytes > 0 && state.sender_limit - state.sender_position < wanted;
}

const shm::ReceiverState* limiting_receiver(const shm::PublicationSlot& slot) noexcept {
  const auto& receivers = slot.observed.state.receivers;
  const bool is_max = slot.desired.flow_control == shm::FlowControl::kMax;
  const bool has_required = std::any_of(std::begin(receivers), std::end(receivers), [](const auto& r) { return r.is_live != 0 && r.is_flow_controlling != 0; });
  const shm::ReceiverState* limiting = nullptr;
  for (const shm::ReceiverState& receiver : receivers) {
    if (receiver.is_live == 0 || (!is_max && has_required && receiver.is_flow_controlling == 0)) continue;
    // Max keeps no limits: the receiver that is farthest let the sender go where it is.
    const bool is_it = limiting == nullptr || (is_max ? receiver.last_position > limiting->last_position : receiver.last_limit < limiting->last_limit);
    if (is_it) limiting = &receiver;
  }
  return limiting;
}

std::string_view name_of(shm::PortKind kind) noexcept {
  switch (kind) {
    case shm::PortKind::kNone: break;
    case shm::PortKind::kPatch: return "patch";
    case shm::PortKind::kLoopback: return "loopback";
    case shm::PortKind::kMemif: return "memif";
    case shm::PortKind::kAfPacket: return "af_packet";
    case shm::PortKind::kAfXdp: return "af_xdp";
    case shm::PortKind::kTap: return "tap";
    case shm::PortKind::kPcap: return "pcap";
    case shm::PortKind::kPci: return "pci";
    case shm::PortKind::kKernel: return "kernel";
  }
  return "none";
}

std::uint64_t lane_value(const shm::LaneSlot& lane, std::size_t counter) noexcept {
  // The lane stores with relaxed atomic_ref; a read-only mapping allows the load.
  return std::atomic_ref<std::uint64_t>{const_cast<std::uint64_t&>(lane.counters[counter])}.load(std::memory_order_relaxed);
}

std::uint64_t lane_total(const shm::Registry& registry, std::size_t counter) noexcept {
  std::uint64_t total = 0;
  for (const shm::LaneSlot& lane : registry.lanes) total += lane_value(lane, counter);
  return total;
}

std::uint32_t lane_count(const shm::Registry& registry) noexcept { return std::min(registry.header.lane_count, shm::kLanesMax); }
std::uint32_t port_count(const shm::Registry& registry) noexcept { return std::min(registry.header.port_count, shm::kPortsMax); }

}  // namespace thalweg::cli
