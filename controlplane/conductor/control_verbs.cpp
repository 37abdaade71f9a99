#include "controlplane/conductor/control_verbs.hpp"

#include <algorithm>
#include <cstring>
#include <future>

#include "controlplane/conductor/command_guard.hpp"
#include "controlplane/conductor/name_service.hpp"
#include "controlplane/host/resolver.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::conductor {
namespace {

using api::Json;

constexpr auto kConductorPatience = std::chrono::seconds{3};

const char* name_of(shm::Observed state) noexcept {
  switch (state) {
    case shm::Observed::kNone: return "none";
    case shm::Observed::kActive: return "active";
    case shm::Observed::kDone: return "done";
    case shm::Observed::kFailed: return "failed";
  }
  return "unknown";
}

std::string text_of(const char* text, std::size_t size) { return {text, ::strnlen(text, size)}; }

Json describe(const shm::ProcessInfo& process, std::int64_t now_ns) {
  return {{"pid", process.pid.load(std::memory_order_relaxed)},
          {"release", shm::release_of(process)},
          {"starts", process.starts.load(std::memory_order_relaxed)},
          {"state", name_of(process.state.load(std::memory_order_acquire))},
          {"heartbeat_age_ns", now_ns - process.heartbeat_ns.load(std::memory_order_relaxed)}};
}

Json describe_lanes(const World& world) {
  Json lanes = Json::array();
  for (std::uint32_t i = 0; i < std::min(world.registry->header.lane_count, shm::kLanesMax); ++i) {
    const auto& lane = world.registry->lanes[i];
    lanes.push_back({{"lane", i},
                     {"cpu", lane.cpu},
                     {"state", name_of(lane.state.load(std::memory_order_acquire))},
                     {"turns", lane.turns.load(std::memory_order_relaxed)},
                     {"turn_ns_max", lane.turn_ns_max.load(std::memory_order_relaxed)},
                     {"ticks_idle", lane.ticks_idle.load(std::memory_order_relaxed)},
                     {"ticks_busy", lane.ticks_busy.load(std::memory_order_relaxed)},
                     {"ticks_blocked", lane.ticks_blocked.load(std::memory_order_relaxed)},
                     {"ticks_housekeeping", lane.ticks_housekeeping.load(std::memory_order_relaxed)}});
  }
  return lanes;
}

Json describe_ports(const World& world) {
  Json ports = Json::array();
  for (std::uint32_t i = 0; i < std::min(world.registry->header.port_count, shm::kPortsMax); ++i) {
    const auto& port = world.registry->ports[i];
    ports.push_back({{"port", i},
                     {"name", text_of(port.name, sizeof port.name)},
                     {"state", name_of(port.state.load(std::memory_order_acquire))},
                     {"address", port.address == 0 ? std::string{} : format_ipv4(port.address)},
                     {"prefix_length", port.prefix_length},
                     {"address6", port.address6 == 0 ? std::string{} : world.registry->addresses.format(port.address6)},
                     {"prefix_length6", port.prefix_length6},
                     {"lane", port.lane},
                     {"is_link_up", port.is_link_up.load(std::memory_order_relaxed) != 0}});
  }
  return ports;
}

template <typename Table>
void add_quarantined(Json& list, const Table& table, const char* kind) {
  for (const std::uint32_t index : table.used()) {
    const auto& slot = table.slot(index);
    if (!shm::is_quarantined(slot)) continue;
    list.push_back({{"kind", kind}, {"session_id", slot.desired.session_id}, {"stream_id", slot.desired.stream_id}, {"crashes", slot.observed.crashes.get(slot.desired.generation)}});
  }
}

// Commands and other work that the control plane leaves alone, because it crashed at them, and streams that the data plane does not touch.
Json describe_quarantined(const World& world) {
  Json list = Json::array();
  for (const auto& [id, crashes] : CommandGuard{world.registry->command_crashes}.quarantined()) {
    if (!CommandGuard::is_command(id)) {
      list.push_back({{"kind", "work"}, {"work", conductor::text_of(id)}, {"crashes", crashes}});
      continue;
    }
    list.push_back({{"kind", "command"},
                    {"command", conductor::name_of(static_cast<shm::Command>(id.type_id))},
                    {"client_id", id.client_id},
                    {"correlation_id", id.correlation_id},
                    {"crashes", crashes}});
  }
  add_quarantined(list, world.publications, "publication");
  add_quarantined(list, world.images, "image");
  return list;
}

Json describe_status(const World& world, bool is_ready) {
  const auto& header = world.registry->header;
  return {{"version", THALWEG_VERSION},
          {"directory", world.settings.directory},
          {"is_ready", is_ready},
          {"start_ms", world.files.cnc.start_ms()},
          {"control_plane", describe(header.control_plane, world.now.now_ns)},
          {"data_plane", describe(header.data_plane, world.now.now_ns)},
          {"lanes", describe_lanes(world)},
          {"ports", describe_ports(world)},
          {"clients", world.clients.used().size()},
          {"publications", world.publications.used().size()},
          {"subscriptions", world.subscriptions.used().size()},
          {"images", world.images.used().size()},
          {"endpoints", world.endpoints.used().size()},
          {"quarantined", describe_quarantined(world)},
          {"logs", world.logs.used().size()},
          {"log_bytes", world.logs.bytes_mapped()}};
}

Json describe_gossip(const names::Gossip& gossip, std::int64_t now_ns) {
  Json known = Json::array();
  for (const auto& [key, name] : gossip.names()) {
    known.push_back({{"name", key.first}, {"address", name.address.to_string()}, {"age_ns", now_ns - name.last_activity_ns}});
  }
  Json neighbors = Json::array();
  for (const auto& [address, last_activity_ns] : gossip.neighbors()) {
    neighbors.push_back({{"address", address.to_string()}, {"age_ns", now_ns - last_activity_ns}});
  }
  Json bootstraps = Json::array();
  for (const auto& bootstrap : gossip.bootstraps()) {
    bootstraps.push_back({{"host", bootstrap.text},
                          {"address", bootstrap.address ? bootstrap.address->to_string() : std::string{}},
                          {"is_heard", bootstrap.address && gossip.neighbors().contains(*bootstrap.address)}});
  }
  const names::GossipStatistics& s = gossip.statistics();
  return {{"name", gossip.options().name},
          {"bound", gossip.options().bound.to_string()},
          {"names", std::move(known)},
          {"neighbors", std::move(neighbors)},
          {"bootstraps", std::move(bootstraps)},
          {"statistics",
           {{"frames_received", s.frames_received},
            {"frames_sent", s.frames_sent},
            {"frames_invalid", s.frames_invalid},
            {"entries_unusable", s.entries_unusable},
            {"names_refused", s.names_refused},
            {"neighbors_refused", s.neighbors_refused},
            {"names_expired", s.names_expired},
            {"neighbors_expired", s.neighbors_expired},
            {"names_moved", s.names_moved},
            {"rounds_skipped", s.rounds_skipped}}}};
}

Json describe_names(const World& world) {
  if (!world.names) return {{"is_enabled", false}};
  Json answer = describe_gossip(world.names->gossip(), world.now.now_ns);
  answer["is_enabled"] = true;
  answer["statistics"]["send_failures"] = world.names->send_failures();
  return answer;
}

template <typename T>
std::optional<T> argument(const Json& args, const char* key) {
  const auto found = args.find(key);
  if (found == args.end()) return std::nullopt;
  if constexpr (std::is_same_v<T, std::string>) {
    if (!found->is_string()) return std::nullopt;
  } else {
    if (!found->is_number_unsigned()) return std::nullopt;
  }
  return found->get<T>();
}

}  // namespace

ControlVerbs::ControlVerbs(Conductor& conductor, Options options)
    : conductor_{&conductor}, options_{std::move(options)}, captures_{conductor.world().registry->captures} {
  captures_.recover();
}

Result<Json> ControlVerbs::on_conductor(std::function<Result<Json>(World&)> task) {
  // Shared, because the conductor may come to it after we gave up.
  auto promise = std::make_shared<std::promise<Result<Json>>>();
  std::future<Result<Json>> answer = promise->get_future();
  conductor_->post([promise, task = std::move(task)](World& world) { promise->set_value(task(world)); });
  if (answer.wait_for(kConductorPatience) != std::future_status::ready) return fail(ErrorCode::kTimeout, "the conductor does not answer");
  return answer.get();
}

// As a channel's host is resolved; the system's resolver is asked on the socket's own thread.
Result<Json> ControlVerbs::resolve(const Json& args) {
  const auto host = argument<std::string>(args, "host");
  if (!host || host->empty()) return fail(ErrorCode::kInvalidArgument, "resolve needs a host");
  shm::AddressBook& book = conductor_->world().registry->addresses;
  const auto answer = [&](std::uint32_t address, const char* source) {
    return Json::object({{"host", *host}, {"address", book.format(address)}, {"source", source}});
  };
  if (const auto literal = host::literal_host(*host)) return answer(*literal, "literal");
  const auto driver = on_conductor([name = *host](World& world) -> Result<Json> {
    const auto address = world.names ? world.names->find(name) : std::nullopt;
    return address ? Json(*address) : Json{};
  });
  if (!driver) return tl::unexpected{driver.error()};
  if (driver->is_number_unsigned()) return answer(driver->get<std::uint32_t>(), "driver");
  const auto found = host::resolve_host(*host, book);
  if (!found) return tl::unexpected{found.error()};
  return answer(*found, "system");
}

Result<Json> ControlVerbs::run(const api::Request& request) {
  const Json& args = request.args;
  if (request.verb == "status") {
    return on_conductor([this](World& world) -> Result<Json> { return describe_status(world, conductor_->is_ready()); });
  }
  if (request.verb == "names") return on_conductor([](World& world) -> Result<Json> { return describe_names(world); });
  if (request.verb == "resolve") return resolve(args);
  if (request.verb == "config") return Json::object({{"yaml", options_.effective_config}});
  if (request.verb == "capture-start") return on_conductor([this, args](World& world) { return start_capture(world, args); });
  if (request.verb == "capture-stop") return on_conductor([this, args](World& world) { return stop_capture(world, args); });
  if (request.verb == "capture-status") return on_conductor([this](World& world) -> Result<Json> { return list_captures(world); });
  if (request.verb == "terminate") {
    options_.terminate();
    return Json::object();
  }
  if (request.verb == "log-level") {
    const auto level = argument<std::string>(args, "level");
    if (!level) return fail(ErrorCode::kInvalidArgument, "log-level needs a level");
    if (auto set = options_.set_log_level(*level); !set) return tl::unexpected{std::move(set).error()};
    return Json::object({{"level", *level}});
  }
  if (request.verb.starts_with("archive-") && options_.archive) return options_.archive(request);
  return fail(ErrorCode::kInvalidArgument, "unknown verb '" + request.verb + "'",
              "known are status, names, resolve, config, capture-start, capture-stop, capture-status, terminate, log-level");
}

void ControlVerbs::free_finished_captures() noexcept {
  const std::vector<std::uint32_t> used = captures_.used();
  for (const std::uint32_t index : used) {
    if (captures_.desired(index) != shm::Desired::kClosing) continue;
    const shm::Observed observed = host::observed_state(captures_.slot(index));
    if (observed == shm::Observed::kDone) captures_.release(index);
  }
}

Result<Json> ControlVerbs::start_capture(World& world, const Json& args) {
  free_finished_captures();
  const auto port_name = argument<std::string>(args, "port");
  const auto path = argument<std::string>(args, "path");
  if (!port_name || !path) return fail(ErrorCode::kInvalidArgument, "capture-start needs port and path");
  if (path->empty() || path->front() != '/' || path->size() >= sizeof(shm::CaptureSlot::Wanted::path)) {
    return fail(ErrorCode::kInvalidArgument, "capture path must be absolute and shorter than 256 bytes: " + *path);
  }
  std::uint32_t port = 0;
  const std::uint32_t port_count = std::min(world.registry->header.port_count, shm::kPortsMax);
  while (port < port_count && text_of(world.registry->ports[port].name, sizeof world.registry->ports[port].name) != *port_name) ++port;
  if (port == port_count) return fail(ErrorCode::kNotFound, "no port has the name '" + *port_name + "'", "thalweg top shows the ports");
  const auto index = captures_.allocate();
  if (!index) return fail(ErrorCode::kInUse, "all captures are running", "stop one first: thalweg capture --list, thalweg capture --stop NUMBER");
  auto& wanted = captures_.slot(*index).desired;
  wanted.port = port;
  wanted.snap_length = argument<std::uint32_t>(args, "snap_length").value_or(0);
  wanted.frame_limit = argument<std::uint64_t>(args, "frame_limit").value_or(0);
  wanted.byte_limit = argument<std::uint64_t>(args, "byte_limit").value_or(0);
  std::memcpy(wanted.path, path->data(), path->size());
  captures_.publish(*index);
  world.bells.ring(shm::SlotKind::kCapture, *index);
  return Json::object({{"capture", *index}});
}

Result<Json> ControlVerbs::stop_capture(World& world, const Json& args) {
  const auto index = argument<std::uint32_t>(args, "capture");
  if (!index) return fail(ErrorCode::kInvalidArgument, "capture-stop needs the number of a capture");
  if (!captures_.is_used(*index)) return fail(ErrorCode::kNotFound, "no capture has the number " + std::to_string(*index));
  captures_.close(*index);
  world.bells.ring(shm::SlotKind::kCapture, *index);
  return Json::object({{"capture", *index}, {"frames", captures_.slot(*index).observed.frames.load(std::memory_order_relaxed)}});
}

// A capture that has ended is in one more list, with its last figures: whoever waits for it polls this.
Json ControlVerbs::list_captures(World& world) {
  Json list = Json::array();
  for (const std::uint32_t index : captures_.used()) {
    const auto& slot = captures_.slot(index);
    const auto& name = world.registry->ports[std::min(slot.desired.port, shm::kPortsMax - 1)].name;
    list.push_back({{"capture", index},
                    {"port", text_of(name, sizeof name)},
                    {"path", text_of(slot.desired.path, sizeof slot.desired.path)},
                    {"state", name_of(host::observed_state(slot))},
                    {"frames", slot.observed.frames.load(std::memory_order_relaxed)},
                    {"dropped", slot.observed.dropped.load(std::memory_order_relaxed)},
                    {"error", slot_error(slot.observed.error).text}});
  }
  free_finished_captures();
  return Json::object({{"captures", list}});
}

}  // namespace thalweg::conductor
