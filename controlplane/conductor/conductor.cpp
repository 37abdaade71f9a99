#include "controlplane/conductor/conductor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "controlplane/conductor/name_service.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::conductor {
namespace {

constexpr int kCommandsPerCycle = 16;            // bounds a cycle; the rest comes with the next
constexpr int kBellsPerCycle = 4096;             // likewise, per ring
constexpr int kSetupsPerCycle = 64;              // of these: each may be forged, and is looked for among all subscriptions
constexpr std::int64_t kSumInterval_ns = 10 * kMillisecond_ns;
constexpr std::int64_t kHeartbeatInterval_ns = 100 * kMillisecond_ns;
constexpr std::int64_t kLively_ns = 200 * kMicrosecond_ns;     // after something moved the worker is kept off the CPU that its next step needs
constexpr std::int64_t kBusyIdle_ns = 20 * kMicrosecond_ns;    // while commands wait for a lane that rings no futex
constexpr std::int64_t kWatchedIdle_ns = 2 * kMillisecond_ns;  // while a resting lane rings for everybody; bounds what it costs when it stops
constexpr std::int64_t kWatchFresh_ns = 5 * kMillisecond_ns;   // a lane that looked since then does; its clock may be off by 1 ms
constexpr std::int64_t kCycleThreshold_ns = 100 * kMillisecond_ns;
constexpr std::int64_t kControlProtocolVersion = 0x00010000;
constexpr std::int64_t kSoftwareVersion = 0x00000100;        // 0.1.0

}  // namespace

Result<std::unique_ptr<Conductor>> Conductor::create(Settings settings, host::InstanceFiles& files, host::LogStore::Options logs, host::Worker& worker,
                                                     Time now, host::Worker* lookups) {
  std::unique_ptr<Conductor> conductor{new Conductor{std::move(settings), files, std::move(logs), worker, lookups != nullptr ? *lookups : worker, now}};
  if (files.is_attached) {
    conductor->recover();
  } else if (auto started = conductor->start_fresh(); !started) {
    return tl::unexpected{std::move(started).error()};
  }
  if (!conductor->world_.settings.names.name.empty()) {
    auto names = NameService::create(conductor->world_);
    if (!names) return tl::unexpected{std::move(names).error()};
    conductor->world_.names = std::move(*names);
  }
  files.registry->header.control_plane.state.store(shm::Observed::kActive, std::memory_order_release);
  files.registry->header.control_plane.heartbeat_ns.store(now.now_ns, std::memory_order_release);
  return conductor;
}

Conductor::Conductor(Settings settings, host::InstanceFiles& files, host::LogStore::Options logs, host::Worker& worker, host::Worker& lookups, Time now)
    : world_{std::move(settings), files, std::move(logs), worker, lookups, now},
      guard_{world_.registry->command_crashes},
      services_{world_},
      commands_{services_},
      re_resolution_{world_, services_.endpoints, services_.destinations},
      next_tick_ns_{now.now_ns},
      ring_moved_ns_{now.now_ns} {}

Conductor::~Conductor() = default;

Result<void> Conductor::start_fresh() {
  auto allocated = shm::allocate_system_counters(world_.counters, "DEDICATED", world_.settings.names.name, world_.now.now_ms);
  if (!allocated) return allocated;
  world_.system(shm::SystemCounter::kVersion).set(kSoftwareVersion);
  world_.system(shm::SystemCounter::kControlProtocolVersion).set(kControlProtocolVersion);
  static_cast<void>(world_.ring.next_correlation_id());  // 0 is nobody's id (1.3 step 9)
  world_.logs.refill();
  return {};
}

std::uint32_t Conductor::lane_count() const noexcept { return std::min(world_.registry->header.lane_count, shm::kLanesMax); }

int Conductor::poll(Time now) {
  world_.now = now;
  int work = run_posted();
  if (const int completed = world_.worker.poll(); completed > 0) {
    work += completed;
    service_starting();
  }
  if (&world_.lookups != &world_.worker) work += world_.lookups.poll();
  if (world_.names) work += world_.names->poll();
  const int bells = take_bells();
  work += bells;
  if (!is_ready_ && world_.is_data_plane_active()) become_ready();
  if (is_ready_) work += read_commands();
  if (is_ready_ && has_unused_endpoints_) release_unused_endpoints();
  const int finished = commands_.poll();
  work += finished;
  if (work > 0) {
    guarded(CommandGuard::identify(CommandGuard::Timer::kRelays), [this] { services_.relays.poll(); });
    guarded(CommandGuard::identify(CommandGuard::Timer::kFeeds), [this] { services_.feeds.poll(); });
  }
  if (now.now_ns >= next_heartbeat_ns_) {
    world_.registry->header.control_plane.heartbeat_ns.store(now.now_ns, std::memory_order_release);
    next_heartbeat_ns_ = now.now_ns + kHeartbeatInterval_ns;
  }
  re_resolution_.poll();
  if (now.now_ns >= next_sum_ns_) {
    sum_counters();
    services_.feeds.publish();
    next_sum_ns_ = now.now_ns + kSumInterval_ns;
  }
  if (now.now_ns >= next_tick_ns_) {
    tick();
    next_tick_ns_ = now.now_ns + world_.settings.timer_interval_ns;
  }
  const bool has_rung = world_.bells.flush();
  if (has_rung || bells + finished > 0 || !commands_.is_idle()) lively_ns_ = now.now_ns;
  if (now.now_ns - lively_ns_ >= kLively_ns) world_.logs.refill();
  return work;
}

// A lane that rests looks at the to-driver ring and its own bells each time, and wakes us. Where none does, we have to look ourselves.
bool Conductor::is_watched() const noexcept {
  const std::int64_t since_ns = world_.now.now_ns - kWatchFresh_ns;
  for (std::uint32_t lane = 0; lane < lane_count(); ++lane) {
    if (world_.registry->lanes[lane].watched_ns.load(std::memory_order_relaxed) > since_ns) return true;
  }
  return false;
}

std::int64_t Conductor::idle_ns() const noexcept {
  const std::int64_t poll_interval_ns = world_.settings.poll_interval_ns;
  if (is_watched()) return commands_.is_idle() ? std::max(kWatchedIdle_ns, poll_interval_ns) : poll_interval_ns;
  return commands_.is_idle() ? poll_interval_ns : std::min(kBusyIdle_ns, poll_interval_ns);
}

void Conductor::rest(std::uint32_t seen) noexcept {
  auto& header = world_.registry->header;
  header.control_asleep.store(1, std::memory_order_release);  // pairs with Doorman::look(); one that missed it looks again
  shm::wait(header.control_wake, seen, idle_ns());
  header.control_asleep.store(0, std::memory_order_relaxed);
}

void Conductor::charge_cycle(std::int64_t duration_ns) noexcept {
  shm::Counter longest = world_.system(shm::SystemCounter::kConductorMaxCycleTime);
  if (duration_ns > longest.get_plain()) longest.set_relaxed(duration_ns);
  if (duration_ns > kCycleThreshold_ns) world_.system(shm::SystemCounter::kConductorCycleTimeThresholdExceeded).add(1);
}

void Conductor::become_ready() {
  world_.ring.consumer_heartbeat(world_.now.now_ms);
  world_.files.cnc.mark_ready();
  is_ready_ = true;
  services_.relays.poll();
}

// One at a time: what a control plane dies at is the ring's first then, and everything before it is out.
int Conductor::read_commands() {
  const auto submit = [this](std::int32_t type_id, shm::Bytes message) { return commands_.submit(type_id, message); };
  int count = 0;
  while (count < kCommandsPerCycle && world_.ring.read(submit, 1) == 1) ++count;
  return count;
}

void Conductor::post(std::function<void(World&)> task) {
  {
    const std::lock_guard lock{posted_mutex_};
    posted_.push_back(std::move(task));
    has_posted_.store(true, std::memory_order_release);
  }
  shm::wake(world_.registry->header.control_wake);
}

int Conductor::run_posted() {
  if (!has_posted_.load(std::memory_order_acquire)) return 0;
  std::vector<std::function<void(World&)>> tasks;
  {
    const std::lock_guard lock{posted_mutex_};
    tasks.swap(posted_);
    has_posted_.store(false, std::memory_order_relaxed);
  }
  for (const auto& task : tasks) task(world_);
  return static_cast<int>(tasks.size());
}

int Conductor::take_bells() {
  int taken = 0;
  bool needs_rescan = false;
  shm::SlotRef ref;
  auto& header = world_.registry->header;
  needs_rescan = header.steward_to_control.take_rescan() || needs_rescan;
  for (int i = 0; i < kBellsPerCycle && header.steward_to_control.take(ref); ++i, ++taken) service(0, ref);
  for (std::uint32_t lane = 0; lane < lane_count(); ++lane) {
    auto& bells = world_.registry->lanes[lane].to_control;
    needs_rescan = bells.take_rescan() || needs_rescan;
    int setups = 0;
    for (int i = 0; i < kBellsPerCycle && setups < kSetupsPerCycle && bells.take(ref); ++i, ++taken) {
      service(lane, ref);
      setups += ref.kind == shm::SlotKind::kSetup ? 1 : 0;
    }
  }
  if (needs_rescan) service_everything();
  return taken;
}

template <typename Work>
void Conductor::guarded(const CommandGuard::Id& id, Work&& work) {
  if (has_quarantined_ && guard_.is_quarantined(id)) return;
  guard_.begin(id);
  work();
  guard_.end(false);  // what crashed at it once stays known: it may go well for most of the time
}

template <typename Table, typename Work>
void Conductor::guard_slot(Table& table, shm::SlotKind kind, std::uint32_t index, Work&& work) {
  if (table.is_used(index)) guarded(CommandGuard::identify(kind, index, table.slot(index).desired.generation), std::forward<Work>(work));
}

void Conductor::service_endpoint(std::uint32_t index) {
  guard_slot(world_.endpoints, shm::SlotKind::kEndpoint, index, [&] { services_.endpoints.service(index); });
}
void Conductor::service_destination(std::uint32_t index) {
  guard_slot(world_.destinations, shm::SlotKind::kDestination, index, [&] { services_.destinations.service(index); });
}
void Conductor::service_publication(std::uint32_t index) {
  guard_slot(world_.publications, shm::SlotKind::kPublication, index, [&] {
    services_.publications.service(index);
    services_.responses.service(index);
  });
}
void Conductor::service_interest(std::uint32_t index) {
  guard_slot(world_.interests, shm::SlotKind::kInterest, index, [&] { services_.subscriptions.service_interest(index); });
}
void Conductor::service_link(std::uint32_t index) {
  guard_slot(world_.links, shm::SlotKind::kLink, index, [&] { services_.links.service(index); });
}
void Conductor::service_log(std::uint32_t index) {
  guarded(CommandGuard::identify(shm::SlotKind::kLog, index, 0), [&] { world_.logs.service(index); });
}

// As long as it is being made for a SETUP, a successor knows nothing of an image: it answers the SETUP again.
void Conductor::service_image(std::uint32_t index) {
  if (!world_.images.is_used(index)) return;
  const ImageRecord& record = world_.images.record(index);
  const auto serve = [&] { services_.images.service(index); };
  if (record.setup_lane == shm::kNoSlot) return guard_slot(world_.images, shm::SlotKind::kImage, index, serve);
  guarded(CommandGuard::identify(world_.registry->lanes[record.setup_lane].setups[record.setup_index]), serve);
}

void Conductor::service_setup(std::uint32_t lane, std::uint32_t index) {
  if (lane >= shm::kLanesMax || index >= shm::kSetupsPerLane) return;
  const shm::SetupSlot& setup = world_.registry->lanes[lane].setups[index];
  if (setup.state.load(std::memory_order_acquire) != shm::SetupState::kRequested) return;
  const CommandGuard::Id id = CommandGuard::identify(setup);
  if (has_quarantined_ && guard_.is_quarantined(id)) return services_.images.refuse_setup(lane, index);
  guarded(id, [&] { services_.images.service_setup(lane, index); });
}

void Conductor::service(std::uint32_t lane, shm::SlotRef ref) {
  switch (ref.kind) {
    case shm::SlotKind::kEndpoint: return service_endpoint(ref.index);
    case shm::SlotKind::kPublication: return service_publication(ref.index);
    case shm::SlotKind::kImage: return service_image(ref.index);
    case shm::SlotKind::kInterest: return service_interest(ref.index);
    case shm::SlotKind::kLink: return service_link(ref.index);
    case shm::SlotKind::kDestination: return service_destination(ref.index);
    case shm::SlotKind::kSetup: return service_setup(lane, ref.index % shm::kSetupsPerLane);
    case shm::SlotKind::kRescan: return service_everything();
    case shm::SlotKind::kLog:
      service_log(ref.index);
      return service_starting();
    case shm::SlotKind::kNone:
    case shm::SlotKind::kPort:
    case shm::SlotKind::kLane:
    case shm::SlotKind::kCapture: return;  // read where they lie by whoever wants to know
  }
}

// A log came or failed: publications and images that waited for one can go on.
void Conductor::service_starting() {
  const std::vector<std::uint32_t> publications = world_.publications.used();
  for (const std::uint32_t index : publications) {
    if (world_.publications.is_used(index) && world_.publications.record(index).status == Status::kStarting) service_publication(index);
  }
  const std::vector<std::uint32_t> images = world_.images.used();
  for (const std::uint32_t index : images) {
    if (world_.images.is_used(index) && world_.images.record(index).status == Status::kStarting) service_image(index);
  }
}

void Conductor::service_setups(std::uint32_t lane) {
  for (std::uint32_t index = 0; index < shm::kSetupsPerLane; ++index) service_setup(lane, index);
}

// What lost door bells cost: one look at everything in use. In the order of what depends on what.
void Conductor::service_everything() {
  const auto each = [](std::vector<std::uint32_t> indices, auto&& visit) {
    for (const std::uint32_t index : indices) visit(index);
  };
  each(world_.logs.used(), [this](std::uint32_t index) { service_log(index); });
  each(world_.endpoints.used(), [this](std::uint32_t index) { service_endpoint(index); });
  each(world_.destinations.used(), [this](std::uint32_t index) { service_destination(index); });
  each(world_.publications.used(), [this](std::uint32_t index) { service_publication(index); });
  each(world_.interests.used(), [this](std::uint32_t index) { service_interest(index); });
  each(world_.images.used(), [this](std::uint32_t index) { service_image(index); });
  each(world_.links.used(), [this](std::uint32_t index) { service_link(index); });
  for (std::uint32_t lane = 0; lane < lane_count(); ++lane) service_setups(lane);
}

void Conductor::tick() {
  using Timer = CommandGuard::Timer;
  if (is_ready_) world_.ring.consumer_heartbeat(world_.now.now_ms);
  for (const std::int64_t client_id : services_.clients.expired()) {
    guarded(CommandGuard::identify(Timer::kExpireClient, client_id), [&] { expire_client(client_id); });
  }
  service_everything();
  guarded(CommandGuard::identify(Timer::kPublications), [this] { services_.publications.tick(); });
  guarded(CommandGuard::identify(Timer::kRelays), [this] { services_.relays.poll(); });
  guarded(CommandGuard::identify(Timer::kFeeds), [this] { services_.feeds.poll(); });
  guarded(CommandGuard::identify(Timer::kLossReport), [this] { services_.images.report_losses(); });
  guarded(CommandGuard::identify(Timer::kQuarantinedImages), [this] { services_.images.release_quarantined(); });
  world_.logs.refill();
  const std::int64_t failed = world_.logs.failed_deletions();
  world_.system(shm::SystemCounter::kFreeFails).add(failed - failed_deletions_counted_);
  failed_deletions_counted_ = failed;
  unblock_ring();
}

// Once in the life of a control plane; a command is reported when it is refused.
void Conductor::report_quarantined() {
  for (const auto& suspect : guard_.quarantined()) {
    if (CommandGuard::is_command(suspect.id)) continue;
    has_quarantined_ = true;
    world_.report({shm::ClientError::kGeneric, fmt::format("quarantined: the control plane crashed {} times at work on {}", suspect.crashes, text_of(suspect.id))});
  }
}

// Order of 8.4.
void Conductor::expire_client(std::int64_t client_id) {
  services_.clients.announce_end(client_id);
  services_.publications.remove_all_of(client_id);
  services_.clients.free_counters(client_id);
  services_.subscriptions.remove_all_of(client_id);
  services_.clients.forget(client_id);
}

void Conductor::unblock_ring() {
  const std::int64_t position = world_.ring.consumer_position();
  if (position != ring_position_ || world_.ring.producer_position() <= position) {
    ring_position_ = position;
    ring_moved_ns_ = world_.now.now_ns;
    return;
  }
  if (world_.now.now_ns <= ring_moved_ns_ + world_.settings.client_liveness_timeout_ns) return;
  if (world_.ring.unblock()) world_.system(shm::SystemCounter::kUnblockedCommands).add(1);
}

// Lanes count in private blocks; the stock counters are their sums. A lane that starts again at zero must not make a counter fall.
void Conductor::sum_counters() {
  std::array<std::int64_t, shm::kSystemCounterCount> sums{};
  std::int64_t turn_ns_max = 0;
  for (std::uint32_t lane = 0; lane < lane_count(); ++lane) {
    auto& slot = world_.registry->lanes[lane];
    turn_ns_max = std::max(turn_ns_max, static_cast<std::int64_t>(slot.turn_ns_max.load(std::memory_order_relaxed)));
    for (std::size_t i = 0; i < shm::kLaneCounterCount; ++i) {
      const std::int32_t stock = shm::kLaneCounters[i].stock;
      if (stock >= 0) sums[static_cast<std::size_t>(stock)] += static_cast<std::int64_t>(std::atomic_ref{slot.counters[i]}.load(std::memory_order_relaxed));
    }
  }
  for (std::size_t id = 0; id < sums.size(); ++id) {
    if (sums[id] == summed_[id]) continue;
    const std::int64_t change = sums[id] > summed_[id] ? sums[id] - summed_[id] : sums[id];
    summed_[id] = sums[id];
    world_.counters.counter(static_cast<std::int32_t>(id)).add(change);
  }
  for (const auto id : {shm::SystemCounter::kSenderMaxCycleTime, shm::SystemCounter::kReceiverMaxCycleTime}) {
    if (world_.system(id).get_plain() < turn_ns_max) world_.system(id).set_relaxed(turn_ns_max);
  }
  const auto mapped = static_cast<std::int64_t>(world_.files.cnc.length() + world_.files.loss_report.length() + world_.logs.bytes_mapped());
  shm::Counter bytes = world_.system(shm::SystemCounter::kBytesCurrentlyMapped);
  if (bytes.get_plain() != mapped) bytes.set_relaxed(mapped);
}

void close_instance(host::InstanceFiles& files, const std::string& directory) {
  shm::RegistryHeader& header = files.registry->header;
  header.is_termination_accepted.store(files.run, std::memory_order_release);
  for (const char* name : {"/publications", "/images", "/pool"}) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator{directory + name, error}) {
      static_cast<void>(host::delete_log_file(entry.path().string()));  // the next start removes what stays
    }
  }
  shm::ManyToOneRing{files.cnc.to_driver()}.consumer_heartbeat(-1);
  header.control_plane.state.store(shm::Observed::kDone, std::memory_order_release);  // last: from here on nobody has to do it again
}

void Conductor::close(Time now) {
  if (is_closed_) return;
  is_closed_ = true;
  world_.now = now;
  close_instance(world_.files, world_.settings.directory);
}

}  // namespace thalweg::conductor
