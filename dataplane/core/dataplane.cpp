#include "dataplane/core/dataplane.hpp"

#include <rte_ring.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "dataplane/core/crash_guard.hpp"
#include "dataplane/core/crossing.hpp"
#include "pmd/eal.hpp"

namespace thalweg::core {

namespace {

constexpr std::uint32_t kLocalhost = 0x7F000001;   // groups on a loopback port without an address of its own
constexpr std::int64_t kLogWatchSleep_ns = 5 * kMillisecond_ns;  // a stream at 1 GB/s has crossed a quarter of its first term by then
constexpr std::int64_t kStewardSleep_ns = 50 * kMillisecond_ns;   // half the heartbeat interval the contract asks for

std::uint32_t next_pool_id() noexcept {
  static std::atomic<std::uint32_t> next{0};
  return next.fetch_add(1, std::memory_order_relaxed);
}

bool is_socket_port(shm::PortKind kind) noexcept { return kind == shm::PortKind::kLoopback || kind == shm::PortKind::kKernel; }

bool uses_checksums(const pmd::PortOptions& options, const pmd::Port& port) noexcept {
  if (options.checksums != pmd::Checksums::kAuto) return options.checksums == pmd::Checksums::kOn;
  return port.capabilities().is_real_wire && !is_socket_port(options.kind);  // the kernel makes its own
}

}  // namespace

Dataplane::Dataplane(const DataplaneOptions& options, shm::Registry& registry, const shm::CountersReader& counters)
    : options_{options}, registry_{registry} {
  shared_.registry = &registry;
  shared_.counters = counters;
  shared_.tables = &tables_;
  shared_.routes = &routes_;
}

Dataplane::~Dataplane() {
  stop();
  steward_.reset();
  lanes_.clear();
  ports_.clear();
  for (const auto& row : shared_.crossings) {
    for (rte_ring* ring : row) rte_ring_free(ring);
  }
  for (const int fd : cpu_locks_) ::close(fd);
}

Result<std::unique_ptr<Dataplane>> Dataplane::create(const DataplaneOptions& options, shm::Registry& registry,
                                                     const shm::CountersReader& counters, Cables cables) {
  if (options.ports.empty()) return fail(ErrorCode::kInvalidConfig, "a data plane needs a port", "add one under `ports:`");
  if (options.ports.size() > shm::kPortsMax) return fail(ErrorCode::kInvalidConfig, "more than " + std::to_string(shm::kPortsMax) + " ports");
  std::unique_ptr<Dataplane> plane{new Dataplane{options, registry, counters}};
  auto plan = plan_cpus(read_machine(), options.lanes, options.cpu_mode, static_cast<std::uint32_t>(options.ports.size()));
  if (!plan) return tl::unexpected{plan.error()};
  plane->plan_ = *plan;
  if (auto made = plane->make_ports(std::move(cables)); !made) return tl::unexpected{made.error()};
  if (auto made = plane->make_lanes(); !made) return tl::unexpected{made.error()};
  Steward::Options steward;
  steward.directory = options.directory;
  steward.session_limit = options.session_limit;
  steward.sender_ports = options.sender_ports;
  steward.receiver_ports = options.receiver_ports;
  plane->steward_ = std::make_unique<Steward>(steward, plane->shared_, plane->ports_, plane->lanes_);
  return plane;
}

Result<void> Dataplane::make_pools() {
  const auto lanes = static_cast<std::uint32_t>(plan_.lanes.size());
  pool_plans_ = pmd::plan_pools(options_.ports, lanes, options_.packet_buffers);
  for (const pmd::PoolPlan& plan : pool_plans_) {
    pmd::PacketPoolOptions pool;
    pool.name = "thalweg_" + std::to_string(next_pool_id());
    pool.count = plan.count;
    pool.lanes = lanes;
    pool.mtu = plan.mtu;
    auto made = pmd::PacketPool::create(pool);
    if (!made) return tl::unexpected{made.error()};
    pools_.push_back(std::move(*made));
  }
  return {};
}

Result<void> Dataplane::make_ports(Cables cables) {
  if (auto made = make_pools(); !made) return made;
  cables_ = cables ? std::move(cables) : std::make_shared<pmd::PortContext>();
  for (const pmd::PortOptions& options : options_.ports) {
    cables_->addresses = &registry_.addresses;
    cables_->pool = pools_[pmd::pool_for(pool_plans_, options)].get();
    auto port = pmd::make_port(options, *cables_);
    if (!port) return tl::unexpected{port.error()};
    std::unique_ptr<pmd::Port> usable = std::move(*port);
    if (options_.wrap_port) usable = options_.wrap_port(std::move(usable), options);
    ports_.push_back({options, std::move(usable), {}});
  }
  const auto lanes = assign_ports();
  if (!lanes) return tl::unexpected{lanes.error()};
  std::vector<RoutePort> routes;
  for (std::uint32_t i = 0; i < ports_.size(); ++i) {
    const pmd::PortOptions& o = ports_[i].options;
    ports_[i].lanes = (*lanes)[i];
    shared_.lane_of_port.push_back(ports_[i].home());
    routes.push_back({i, o.name, o.kind, o.address, o.prefix_length, o.gateway, o.routes});
    enter_ipv6(o, routes.back());
    FrameRules rules;
    rules.mac = mac_word(ports_[i].port->mac());
    rules.address = o.kind == shm::PortKind::kLoopback && o.address == 0 ? kLocalhost : o.address;
    rules.vlan = o.vlan;
    rules.port = static_cast<std::uint8_t>(i);
    rules.checks_mac = ports_[i].port->capabilities().needs_arp;
    rules.verifies_udp_checksum = uses_checksums(o, *ports_[i].port);
    rules.is_kernel = o.kind == shm::PortKind::kKernel;
    rules.hears_itself = o.kind == shm::PortKind::kLoopback;
    rules.takes_handles = rules.is_kernel || rules.hears_itself;
    rules.address6 = routes.back().address6;
    rules.takes_fragments = o.has_ip_fragments;
    shared_.frame_rules.push_back(rules);
    rules.checks_mac = rules.verifies_udp_checksum = rules.hears_itself = false;
    shared_.loop_rules.push_back(rules);
  }
  routes_ = RouteTable{std::move(routes), &registry_.addresses};
  for (std::uint32_t i = 0; i < ports_.size(); ++i) publish_port(i);
  registry_.header.port_count = static_cast<std::uint32_t>(ports_.size());
  return {};
}

// The IPv6 side of a port's configuration, as handles.
void Dataplane::enter_ipv6(const pmd::PortOptions& options, RoutePort& port) {
  const auto enter = [this](const wire::Ipv6Address& address) { return registry_.addresses.enter({address, 0}, shm::AddressBook::By::kNamed, monotonic_ns()); };
  if (options.kind == shm::PortKind::kLoopback) {
    port.address6 = wire::kLoopbackIpv6;
    port.prefix_length6 = 128;
  }
  if (options.address6.is_unspecified()) return;
  port.address6 = enter(options.address6);
  port.prefix_length6 = options.prefix_length6;
  if (!options.gateway6.is_unspecified()) port.gateway6 = enter(options.gateway6);
  for (const pmd::PortOptions::Route6& route : options.routes6) port.routes.push_back({enter(route.network), route.prefix_length, enter(route.gateway)});
}

// Ports named by lanes go to these, which share their receive queues; the others are dealt out among the lanes that name none.
Result<std::vector<std::vector<std::uint32_t>>> Dataplane::assign_ports() const {
  std::vector<std::uint32_t> open_lanes;
  for (std::uint32_t i = 0; i < plan_.lanes.size(); ++i) {
    if (i >= options_.lanes.size() || options_.lanes[i].ports.empty()) open_lanes.push_back(i);
  }
  if (open_lanes.empty()) open_lanes.push_back(0);
  std::vector<std::vector<std::uint32_t>> lanes(ports_.size());
  for (const LaneOptions& lane : options_.lanes) {
    for (const std::string& name : lane.ports) {
      const bool is_known = std::any_of(ports_.begin(), ports_.end(), [&name](const StewardPort& p) { return p.options.name == name; });
      if (!is_known) return fail(ErrorCode::kInvalidConfig, "a lane names port '" + name + "', which does not exist");
    }
  }
  std::size_t dealt = 0;
  for (std::size_t p = 0; p < ports_.size(); ++p) {
    const std::string& name = ports_[p].options.name;
    for (std::uint32_t i = 0; i < options_.lanes.size(); ++i) {
      if (std::find(options_.lanes[i].ports.begin(), options_.lanes[i].ports.end(), name) != options_.lanes[i].ports.end()) lanes[p].push_back(i);
    }
    if (lanes[p].empty()) lanes[p].push_back(open_lanes[dealt++ % open_lanes.size()]);
    const std::uint16_t queues = ports_[p].port->capabilities().rx_queue_count;
    if (lanes[p].size() > queues) {
      return fail(ErrorCode::kInvalidConfig,
                  std::to_string(lanes[p].size()) + " lanes name port '" + name + "', which has " + std::to_string(queues) + " receive queue(s)",
                  "raise the port's queues if its device can spread frames, else name it in one lane");
    }
  }
  return lanes;
}

void Dataplane::publish_port(std::uint32_t index) {
  const StewardPort& port = ports_[index];
  const pmd::PortOptions& o = port.options;
  shm::PortSlot& slot = registry_.ports[index];
  slot.kind = o.kind;
  std::memset(slot.name, 0, sizeof slot.name);
  std::memcpy(slot.name, o.name.data(), std::min(o.name.size(), sizeof slot.name - 1));
  slot.address = o.address;
  slot.prefix_length = o.prefix_length;
  slot.gateway = o.gateway;
  slot.address6 = routes_.port(index).address6;
  slot.prefix_length6 = routes_.port(index).prefix_length6;
  slot.gateway6 = routes_.port(index).gateway6;
  const std::vector<shm::PortRoute>& routes = routes_.port(index).routes;
  slot.route_count = static_cast<std::uint32_t>(std::min<std::size_t>(routes.size(), shm::kRoutesMax));
  std::copy_n(routes.begin(), slot.route_count, slot.routes.begin());
  slot.mtu = o.mtu;
  slot.has_ip_fragments = o.has_ip_fragments ? 1 : 0;
  slot.vlan = o.vlan;
  slot.lane = port.home();
  std::memcpy(slot.mac, port.port->mac().bytes.data(), sizeof slot.mac);
  slot.is_link_up.store(0, std::memory_order_relaxed);  // the steward's first watch tells the lane, which announces itself
  slot.state.store(shm::Observed::kActive, std::memory_order_release);
}

Result<void> Dataplane::make_crossings() {
  const std::size_t count = plan_.lanes.size();
  if (count < 2) return {};
  const std::uint32_t id = next_pool_id();
  shared_.crossings.assign(count, std::vector<rte_ring*>(count));
  for (std::size_t from = 0; from < count; ++from) {
    for (std::size_t to = 0; to < count; ++to) {
      if (from == to) continue;
      const std::string name = "cross" + std::to_string(id) + "_" + std::to_string(from) + "_" + std::to_string(to);
      rte_ring* const ring = rte_ring_create(name.c_str(), kCrossingRingSize, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
      if (ring == nullptr) return fail(ErrorCode::kNoSpace, "no memory for the rings between lanes", "use fewer lanes or more memory");
      shared_.crossings[from][to] = ring;
    }
  }
  return {};
}

Result<void> Dataplane::make_lanes() {
  if (auto made = make_crossings(); !made) return made;
  for (std::uint32_t i = 0; i < plan_.lanes.size(); ++i) {
    if (options_.cpu_mode == CpuMode::kExclusive && plan_.lanes[i].cpu) {
      auto lock = lock_cpu(*plan_.lanes[i].cpu);
      if (!lock) return tl::unexpected{lock.error()};
      cpu_locks_.push_back(*lock);
    }
    registry_.lanes[i].cpu = plan_.lanes[i].cpu.value_or(0);
    lanes_.push_back(std::make_unique<Lane>(Lane::Options{i, options_.timer_interval_ns}, shared_));
    for (std::uint32_t p = 0; p < ports_.size(); ++p) {
      const pmd::PortOptions& o = ports_[p].options;
      LanePort::Options port;
      port.port = ports_[p].port.get();
      port.pool = pools_[pmd::pool_for(pool_plans_, o)].get();
      port.index = p;
      port.address = o.address;
      port.prefix_length = o.prefix_length;
      port.address6 = routes_.port(p).address6;
      port.prefix_length6 = routes_.port(p).prefix_length6;
      port.book = &registry_.addresses;
      port.route = &routes_.port(p);
      port.mtu = o.mtu;
      port.has_ip_fragments = o.has_ip_fragments;
      port.datagram_pool = pools_.back().get();
      port.vlan = o.vlan;
      port.writes_udp_checksum = uses_checksums(o, *ports_[p].port);
      port.answers_unreachable = ports_[p].port->capabilities().needs_arp;
      const std::vector<std::uint32_t>& lanes = ports_[p].lanes;
      port.first_queue = ports_[p].queue_of(i);
      port.queue_step = static_cast<std::uint16_t>(lanes.size());
      port.queue_count = ports_[p].port->capabilities().rx_queue_count;
      lanes_.back()->add_port(port, ports_[p].home() == i, std::find(lanes.begin(), lanes.end(), i) != lanes.end());
    }
  }
  registry_.header.lane_count = lane_count();
  return {};
}

void Dataplane::attach() {
  shm::ProcessInfo& me = registry_.header.data_plane;
  shm::set_release(me, THALWEG_VERSION);
  me.pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
  me.starts.fetch_add(1, std::memory_order_relaxed);
  me.state.store(shm::Observed::kNone, std::memory_order_release);  // that of one that was killed: it takes the streams up first
  steward_->attach();
}

void Dataplane::catch_crashes() {
  core::catch_crashes(registry_, tables_);
  work_of_this_thread(&registry_.header.steward_in_work);
}

Result<void> Dataplane::start() {
  clock_.start();
  attach();
  if (auto pinned = pin_this_thread(plan_.steward); !pinned) return pinned;
  std::atomic<std::int32_t> ready{0};
  stop_lanes_.store(false, std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < lane_count(); ++i) threads_.emplace_back([this, i, &ready] { run_lane(i, ready); });
  // Lanes first take up what the registry holds; only then are clients let in.
  const auto wanted = static_cast<std::int32_t>(lane_count());
  while (ready.load(std::memory_order_acquire) >= 0 && (ready.load(std::memory_order_acquire) < wanted || steward_->has_pending())) {
    steward_->step(monotonic_ns());
    ::usleep(100);
  }
  if (ready.load(std::memory_order_acquire) < 0) {
    stop();
    return fail(ErrorCode::kInvalidArgument, "a lane could not be pinned or registered", "name other CPUs, or fewer lanes");
  }
  registry_.header.data_plane.heartbeat_ns.store(monotonic_ns(), std::memory_order_release);
  registry_.header.data_plane.state.store(shm::Observed::kActive, std::memory_order_release);
  shm::wake(registry_.header.control_wake);
  return {};
}

void Dataplane::run_lane(std::uint32_t index, std::atomic<std::int32_t>& ready) {
  ::prctl(PR_SET_NAME, ("lane " + std::to_string(index)).c_str());
  work_of_this_thread(&registry_.lanes[index].in_work);
  ::prctl(PR_SET_TIMERSLACK, 1UL);  // a park of 1 us must not become the default 50 us
  const CpuSet cpus = plan_.lanes[index].cpu ? CpuSet{{*plan_.lanes[index].cpu}} : plan_.steward;
  const auto pinned = pin_this_thread(cpus);
  const auto registration = pmd::LaneRegistration::create();
  if (!pinned || !registration) {
    ready.store(-1'000, std::memory_order_release);
    return;
  }
  registry_.lanes[index].state.store(shm::Observed::kActive, std::memory_order_release);
  ready.fetch_add(1, std::memory_order_release);
  lanes_[index]->run(clock_, options_.idle, options_.idle_sleep_ns, stop_lanes_);
  registry_.lanes[index].state.store(shm::Observed::kDone, std::memory_order_release);
}

void Dataplane::run_steward(const std::atomic<bool>& stop) {
  std::int64_t refreshed_ns = monotonic_ns();
  while (!stop.load(std::memory_order_relaxed)) {
    const std::uint32_t seen = registry_.header.steward_wake.load(std::memory_order_acquire);
    const std::int64_t now_ns = monotonic_ns();
    const unsigned work = steward_->step(now_ns);
    if (now_ns - refreshed_ns >= kSecond_ns) {
      clock_.refresh();
      refreshed_ns = now_ns;
    }
    if (work != 0) continue;
    const std::int64_t patience_ns = steward_->has_pending()        ? kMillisecond_ns
                                     : steward_->is_watching_logs() ? kLogWatchSleep_ns
                                                                    : kStewardSleep_ns;
    shm::wait(registry_.header.steward_wake, seen, patience_ns);
  }
}

void Dataplane::stop() {
  stop_lanes_.store(true, std::memory_order_relaxed);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  for (const auto& lane : lanes_) lane->drop_frames();
  if (steward_) steward_->close_endpoints();
  registry_.header.data_plane.state.store(shm::Observed::kDone, std::memory_order_release);
}

unsigned Dataplane::step(std::int64_t now_ns) {
  unsigned work = steward_->step(now_ns);
  for (const auto& lane : lanes_) work += lane->turn(now_ns);
  return work;
}

std::uint32_t Dataplane::mbufs_in_use() {
  for (const auto& lane : lanes_) lane->drop_frames();
  std::uint32_t total = 0;
  for (const pmd::PacketPool& pool : pools_) total += pool.in_use();
  return total;
}

}  // namespace thalweg::core
