#include "controlplane/cli/stream_why.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "dataplane/base/time.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::cli {
namespace {

constexpr std::int64_t kSilent_ns = kSecond_ns;  // ten heartbeats or SETUPs, five status messages (wire-protocol 7)

std::string age(std::int64_t now_ns, std::int64_t then_ns) { return human_duration(static_cast<double>(std::max<std::int64_t>(now_ns - then_ns, 0))); }
std::string bytes(std::int64_t count) { return human_bytes(static_cast<double>(count)); }

template <typename Slot>
bool is_active(const Slot& slot) {
  return slot.desired.state.load(std::memory_order_acquire) == shm::Desired::kActive;
}

// ---- processes ----
struct Process {
  pid_t pid{};
  std::string maps;  // what it has mapped, as the kernel tells it
};

std::vector<Process> processes() {
  std::vector<Process> all;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc", error}) {
    const std::string name = entry.path().filename().string();
    pid_t pid = 0;
    const auto read = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (read.ec != std::errc{} || read.ptr != name.data() + name.size()) continue;
    std::ifstream maps{entry.path() / "maps"};  // other users' cannot be read: they are left out
    all.push_back({pid, {std::istreambuf_iterator<char>{maps}, {}}});
  }
  return all;
}

// Where the log of a link's target lies; "" if the link has none.
std::string log_of(const Instance& instance, const shm::LinkSlot& link) {
  const auto& registry = instance.registry();
  const std::uint32_t slot = link.desired.target_slot;
  const bool is_image = link.desired.target == shm::LinkTarget::kImage;
  if (slot >= (is_image ? registry.images.size() : registry.publications.size())) return {};
  const std::string path = is_image ? shm::log_path(instance.directory(), shm::LogUse::kImage, registry.images[slot].desired.correlation_id)
                                    : shm::log_path(instance.directory(), shm::LogUse::kPublication, registry.publications[slot].desired.registration_id);
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);  // large ones lie on hugetlbfs
  return error ? std::string{} : real.string();
}

// Clients do not say who they are. But a client has every log mapped that it subscribes to: of other processes few or none have them all.
std::vector<pid_t> processes_of(const Instance& instance, std::int64_t client_id) {
  const auto& registry = instance.registry();
  std::vector<std::string> logs;
  for (const shm::LinkSlot& link : registry.links) {
    const std::uint32_t subscription = link.desired.subscription;
    if (!is_active(link) || subscription >= registry.subscriptions.size() || registry.subscriptions[subscription].client_id != client_id) continue;
    if (std::string log = log_of(instance, link); !log.empty()) logs.push_back(std::move(log));
  }
  std::vector<pid_t> found;
  if (logs.empty()) return found;
  const auto own = {static_cast<std::uint32_t>(::getpid()), registry.header.control_plane.pid.load(), registry.header.data_plane.pid.load()};
  for (const Process& process : processes()) {
    if (std::find(own.begin(), own.end(), static_cast<std::uint32_t>(process.pid)) != own.end()) continue;
    const bool has_all = std::all_of(logs.begin(), logs.end(), [&](const std::string& log) { return process.maps.find(log) != std::string::npos; });
    if (has_all) found.push_back(process.pid);
  }
  return found;
}

std::string words_of(const std::vector<pid_t>& pids) {
  if (pids.empty()) return "";
  std::string list;
  for (const pid_t pid : pids) list += (list.empty() ? "" : ", ") + std::to_string(pid);
  return fmt::format(", {} {}", pids.size() == 1 ? "process" : "one of the processes", list);
}

// ---- one cause each ----
Cause slow_subscriber(const Instance& instance, const StreamView::Consumer& consumer, std::int64_t behind, std::string_view kind) {
  if (consumer.counter_id < 0) {
    return {.kind = "relay", .whom = consumer.name, .text = fmt::format("{} has {} to send on: see `stream why {}`", consumer.name, bytes(behind), consumer.client_id)};
  }
  const auto pids = processes_of(instance, consumer.client_id);
  const std::string whom = fmt::format("subscriber {}", consumer.counter_id);
  return {.kind = kind, .whom = whom,
          .text = fmt::format("{} of client {}{} is {} behind, at position {}", whom, consumer.client_id, words_of(pids), bytes(behind), consumer.position),
          .client_id = consumer.client_id, .pids = pids};
}

// The slot of a stream, before anything about its traffic: whether somebody works on it at all.
template <typename Slot>
std::optional<Cause> cause_in_slot(const Instance& instance, const StreamView& stream, const Slot& slot, std::string_view ends) {
  const shm::ProcessInfo& data_plane = instance.registry().header.data_plane;
  if (data_plane.state.load(std::memory_order_acquire) != shm::Observed::kActive) {
    return Cause{.kind = "data_plane", .whom = "thalweg-dataplane", .text = "thalweg-dataplane does not run, or has not taken up the streams yet"};
  }
  if (stream.state == "waiting") return Cause{.kind = "starting", .whom = "thalweg-dataplane", .text = "its lane has not taken it up yet"};
  if (stream.state == "failed") return Cause{.kind = "failed", .whom = {}, .text = "it failed: " + text_of(slot.observed.error.text)};
  if (stream.state == "quarantined") return Cause{.kind = "quarantined", .whom = {}, .text = "the data plane crashed at it three times; its clients were told, and nobody works on it any more"};
  if (stream.state == "draining" || stream.state == "linger" || stream.state == "done") return Cause{.kind = "ending", .whom = {}, .text = std::string{ends}};
  return std::nullopt;
}

std::optional<Cause> cause_in_endpoint(const Instance& instance, std::uint32_t index) {
  const auto& registry = instance.registry();
  if (index >= registry.endpoints.size()) return std::nullopt;
  const shm::EndpointSlot& endpoint = registry.endpoints[index];
  const shm::ObservedHead& head = endpoint.observed;
  if (head.generation != endpoint.desired.generation || head.state.load(std::memory_order_acquire) == shm::Observed::kNone) {
    return Cause{.kind = "starting", .whom = "thalweg-dataplane", .text = "its socket address is not open yet"};
  }
  if (head.state.load(std::memory_order_acquire) == shm::Observed::kFailed) {
    return Cause{.kind = "endpoint", .whom = {}, .text = "its socket address cannot be opened: " + text_of(endpoint.observed.error.text)};
  }
  const std::uint32_t port = endpoint.observed.port_index;
  if (port >= port_count(registry) || registry.ports[port].is_link_up.load(std::memory_order_acquire) != 0) return std::nullopt;
  const std::string name = text_of(registry.ports[port].name);
  return Cause{.kind = "link_down", .whom = "port " + name, .text = fmt::format("the link of port {} ({}) is down", name, name_of(registry.ports[port].kind))};
}

// ---- publications that nobody receives ----
struct Destinations {
  std::uint32_t count{}, unresolved{}, heard{};
  std::string unresolved_channel;
};
Destinations destinations_of(const Instance& instance, std::uint32_t endpoint) {
  Destinations out;
  for (const shm::DestinationSlot& slot : instance.registry().destinations) {
    if (!is_active(slot) || slot.desired.kind != shm::DestinationKind::kSend || slot.desired.endpoint != endpoint) continue;
    ++out.count;
    out.heard += slot.observed.receiver_id != 0 ? 1 : 0;
    if (slot.desired.remote_address != 0 || out.unresolved++ != 0) continue;
    out.unresolved_channel = instance.text(slot.desired.text);
  }
  return out;
}

// The receiver that was heard last, live or not; nullptr: none ever was. A time without an address is the stream's own beginning.
const shm::ReceiverState* last_heard(const shm::PublicationState& state) {
  const shm::ReceiverState* last = nullptr;
  for (const shm::ReceiverState& receiver : state.receivers) {
    if (receiver.address != 0 && (last == nullptr || receiver.last_sm_ns > last->last_sm_ns)) last = &receiver;
  }
  return last;
}

Cause no_receiver(const Instance& instance, const shm::PublicationSlot& slot, std::int64_t now_ns) {
  const shm::PublicationState& state = slot.observed.state;
  const auto& endpoints = instance.registry().endpoints;
  const bool has_endpoint = slot.desired.endpoint < endpoints.size();
  const auto mode = has_endpoint ? endpoints[slot.desired.endpoint].desired.mode : shm::EndpointMode::kPlain;
  const auto required = static_cast<std::uint32_t>(std::max(slot.desired.flow_control_group_min_size, 0));
  if (state.receiver_count != 0 && slot.desired.flow_control != shm::FlowControl::kMax && state.flow_receiver_count < required) {
    return {.kind = "group_size", .whom = {},
            .text = fmt::format("its flow control wants {} receivers{}, and {} of {} count", required, slot.desired.flow_control == shm::FlowControl::kTagged ? " with its group tag" : "",
                                state.flow_receiver_count, state.receiver_count)};
  }
  if (const shm::ReceiverState* const last = last_heard(state)) {
    const std::string whom = "receiver " + instance.registry().addresses.format_endpoint(last->address, last->port);
    return {.kind = "receiver_silent", .whom = whom, .text = fmt::format("{} was the last to send a status message, {} ago", whom, age(now_ns, last->last_sm_ns))};
  }
  if (mode == shm::EndpointMode::kManual) {
    const Destinations destinations = destinations_of(instance, slot.desired.endpoint);
    if (destinations.count == 0) return {.kind = "no_destination", .whom = {}, .text = "no destination was added to it"};
    if (destinations.unresolved != 0 && destinations.heard == 0) {
      return {.kind = "name", .whom = destinations.unresolved_channel,
              .text = fmt::format("{} of its {} destinations have no address yet, the first is {}: `thalweg route get` says why", destinations.unresolved, destinations.count, destinations.unresolved_channel)};
    }
    return {.kind = "no_receiver", .whom = {}, .text = fmt::format("none of its {} destinations has answered: no subscriber is there, or their status messages do not come through", destinations.count)};
  }
  if (mode == shm::EndpointMode::kDynamic) return {.kind = "no_receiver", .whom = {}, .text = "no subscriber has registered at its control address"};
  if (mode == shm::EndpointMode::kResponse) return {.kind = "no_receiver", .whom = {}, .text = "the requester it answers has not connected yet"};
  const auto* const wanted = has_endpoint ? &endpoints[slot.desired.endpoint].desired : nullptr;
  const std::string where = wanted == nullptr || wanted->remote_address == 0 ? "its address" : instance.registry().addresses.format_endpoint(wanted->remote_address, wanted->remote_port);
  return {.kind = "no_receiver", .whom = {}, .text = fmt::format("nobody answers at {}: no subscriber is there, or its status messages do not come through", where)};
}

bool speaks_arp(shm::PortKind kind) { return kind != shm::PortKind::kNone && kind != shm::PortKind::kLoopback && kind != shm::PortKind::kKernel; }

// Frames that waited in vain for the MAC of their next hop. A lane counts them together, so this is for streams that nobody has answered yet.
std::optional<Cause> unanswered_arp(const Instance& instance, const shm::PublicationSlot& slot) {
  const auto& registry = instance.registry();
  if (slot.desired.endpoint >= registry.endpoints.size()) return std::nullopt;
  const shm::EndpointSlot& endpoint = registry.endpoints[slot.desired.endpoint];
  const std::uint32_t port = endpoint.observed.port_index;
  const std::uint32_t lane = endpoint.observed.lane;
  if (port >= port_count(registry) || lane >= lane_count(registry) || !speaks_arp(registry.ports[port].kind)) return std::nullopt;
  const std::uint64_t dropped = lane_value(registry.lanes[lane], static_cast<std::size_t>(shm::LaneCounter::kDropUnresolved));
  if (dropped == 0 || last_heard(slot.observed.state) != nullptr) return std::nullopt;
  const std::string name = text_of(registry.ports[port].name);
  const std::uint32_t remote = endpoint.desired.remote_address;
  const std::string where = remote == 0 ? "its destination" : registry.addresses.format(remote);
  return Cause{.kind = "arp", .whom = "port " + name,
               .text = fmt::format("lane {} has dropped {} frames because their next hop did not answer {} (drop_unresolved): is {}, or the gateway to it, on the link of port {}?", lane,
                                   dropped, wire::is_handle(remote) ? "neighbour solicitations" : "ARP", where, name)};
}

// The image of a publication's receiver, when that is an instance's own: loopback, patch cables.
const StreamView* image_of(const Instance& instance, const std::vector<StreamView>& streams, const StreamView& stream, std::int64_t receiver_id) {
  const auto& registry = instance.registry();
  for (const StreamView& other : streams) {
    if (other.kind != "image" || other.session_id != stream.session_id || other.stream_id != stream.stream_id) continue;
    const std::uint32_t endpoint = registry.images[other.slot].desired.endpoint;
    if (endpoint < registry.endpoints.size() && registry.endpoints[endpoint].observed.receiver_id == receiver_id) return &other;
  }
  return nullptr;
}

void add_window(const Instance& instance, const StreamView& stream, const shm::PublicationSlot& slot, std::int64_t now_ns, std::vector<Cause>& causes) {
  const shm::PublicationState& state = slot.observed.state;
  const shm::ReceiverState* const receiver = limiting_receiver(slot);
  if (receiver == nullptr) return;
  const std::string whom = "receiver " + instance.registry().addresses.format_endpoint(receiver->address, receiver->port);
  const std::vector<StreamView> streams = streams_of(instance);
  const StreamView* const image = image_of(instance, streams, stream, receiver->receiver_id);
  causes.push_back({.kind = "receiver_window", .whom = whom,
                    .text = fmt::format("{} has room up to position {}, and the sender is at {}: {} from {} on, told {} ago; {} wait to be sent", whom, state.sender_limit, state.sender_position,
                                        bytes(std::max<std::int64_t>(state.sender_limit - receiver->last_position, 0)), receiver->last_position, age(now_ns, receiver->last_sm_ns),
                                        bytes(stream.backlog_bytes))});
  if (image != nullptr && image->slowest && image->backlog_bytes > 0) causes.push_back(slow_subscriber(instance, *image->slowest, image->backlog_bytes, "subscriber"));
}

std::vector<Cause> publication_causes(const Instance& instance, const StreamView& stream, std::int64_t now_ns) {
  const shm::PublicationSlot& slot = instance.registry().publications[stream.slot];
  const shm::PublicationState& state = slot.observed.state;
  if (auto cause = cause_in_slot(instance, stream, slot, "it is closed, and stays a while to answer NAKs")) return {*cause};
  const bool is_ipc = (slot.desired.flags & shm::PublicationFlags::kIpc) != 0;
  std::vector<Cause> causes;
  if (!is_ipc) {
    if (auto cause = cause_in_endpoint(instance, slot.desired.endpoint)) causes.push_back(std::move(*cause));
  }
  if (!stream.is_connected) {
    if (auto cause = is_ipc ? std::nullopt : unanswered_arp(instance, slot)) causes.push_back(std::move(*cause));
    causes.push_back(is_ipc ? Cause{.kind = "no_subscriber", .whom = {}, .text = "nobody on this machine subscribes to it"} : no_receiver(instance, slot, now_ns));
    return causes;
  }
  const bool is_at_limit = stream.position >= state.publisher_limit;
  const bool is_shut = !is_ipc && is_window_shut(slot, stream.backlog_bytes);
  if (is_shut) add_window(instance, stream, slot, now_ns, causes);
  const bool is_held_here = stream.slowest && (is_ipc || stream.slowest->position < state.sender_position);
  if (is_at_limit && is_held_here && stream.kind != "relay") {
    causes.push_back(slow_subscriber(instance, *stream.slowest, stream.position - stream.slowest->position, is_ipc ? "subscriber" : "spy"));
  } else if (is_at_limit && !is_ipc && !is_shut && stream.kind != "relay") {
    causes.push_back({.kind = "sender", .whom = fmt::format("lane {}", slot.desired.lane),
                      .text = fmt::format("lane {} has {} still to send: it is busy, or its port takes no more", slot.desired.lane, bytes(stream.backlog_bytes))});
  }
  if (causes.empty()) {
    causes.push_back({.kind = "none", .whom = {}, .text = stream.kind == "relay" ? "nothing: it sends what its image brings" : fmt::format("nothing: its publisher may go on by {}", bytes(state.publisher_limit - stream.position))});
  }
  return causes;
}

std::vector<Cause> image_causes(const Instance& instance, const StreamView& stream, std::int64_t now_ns) {
  const shm::ImageSlot& slot = instance.registry().images[stream.slot];
  const shm::ImageState& state = slot.observed.state;
  if (auto cause = cause_in_slot(instance, stream, slot, "its source has ended it or gone; it stays until its subscribers have read the rest")) return {*cause};
  std::vector<Cause> causes;
  if (auto cause = cause_in_endpoint(instance, slot.desired.endpoint)) causes.push_back(std::move(*cause));
  if (now_ns - state.last_packet_ns > kSilent_ns) {
    causes.push_back({.kind = "source_silent", .whom = "source " + stream.source, .text = fmt::format("its source {} has sent nothing for {}, not even heartbeats", stream.source, age(now_ns, state.last_packet_ns))});
  }
  if (state.gap_count != 0) {
    const shm::GapState& gap = state.gaps[0];
    causes.push_back({.kind = "loss", .whom = "source " + stream.source,
                      .text = fmt::format("{} are missing at position {}, asked for {} {}; {} wait behind that", bytes(gap.length), gap.position, gap.naks, gap.naks == 1 ? "time" : "times",
                                          bytes(std::max<std::int64_t>(state.high_water - state.rebuild_position, 0)))});
  }
  if (stream.consumers == 0) causes.push_back({.kind = "no_subscriber", .whom = {}, .text = "nobody on this machine reads it any more"});
  if (stream.slowest && stream.backlog_bytes > 0) causes.push_back(slow_subscriber(instance, *stream.slowest, stream.backlog_bytes, "subscriber"));
  if (causes.empty()) causes.push_back({.kind = "none", .whom = {}, .text = "nothing: everything received has been read, and its source may send " + bytes(stream.window_left_bytes) + " more"});
  return causes;
}

}  // namespace

std::vector<Cause> causes_of(const Instance& instance, const StreamView& stream, std::int64_t now_ns) {
  return stream.kind == "image" ? image_causes(instance, stream, now_ns) : publication_causes(instance, stream, now_ns);
}

}  // namespace thalweg::cli
