#pragma once
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "dataplane/core/cpu_plan.hpp"
#include "dataplane/core/steward.hpp"
#include "pmd/packet_pool.hpp"
#include "pmd/port_factory.hpp"

namespace thalweg::core {

// A data plane: ports, lanes and steward of one instance. Needs a running EAL (pmd::Eal). Two ways to run it:
//   start(), run_steward() until asked to stop, stop(): lanes are threads; the caller's thread is the steward;
//   step(now): everything in the caller's thread at a time it names; tests and the one-thread benchmark.
// Several may live in one process (tests join two by patch cables: give both the same Cables).
class Dataplane {
 public:
  using Cables = std::shared_ptr<pmd::PortContext>;   // what the ports of a process share: patch cables, sockets

  // Makes ports and lanes and fills the registry's port and lane tables. Takes up nothing yet.
  // Errors: those of the ports, of the CPU plan, kNoSpace for packet buffers.
  [[nodiscard]] static Result<std::unique_ptr<Dataplane>> create(const DataplaneOptions& options, shm::Registry& registry,
                                                                 const shm::CountersReader& counters, Cables cables = nullptr);
  ~Dataplane();
  Dataplane(const Dataplane&) = delete;
  Dataplane& operator=(const Dataplane&) = delete;

  // Lanes that rest wake the conductor for commands in this ring, so that it need not look at it all the time. Before start().
  void watch_commands(const shm::ManyToOneRing& commands) noexcept { shared_.commands = commands; }
  // Counts crashes of this process against the stream they are about, see core/crash_guard.hpp. Main thread, before start().
  void catch_crashes();
  // Takes up all that the registry holds and starts one thread per lane. Afterwards the data plane is active in the registry.
  [[nodiscard]] Result<void> start();
  // Steward's loop: returns within about 50 ms of `stop`.
  void run_steward(const std::atomic<bool>& stop);
  // Ends the lanes and lets go of every socket address; streams stay in the registry for a successor. Idempotent.
  void stop();

  // Single-thread mode instead of start(): attach() once, then step() as often as wanted with a time that never goes back.
  void attach();
  unsigned step(std::int64_t now_ns);
  // Steward only, or one lane only: benchmarks keep the steward out of the loop they measure.
  unsigned step_steward(std::int64_t now_ns) { return steward_->step(now_ns); }
  [[nodiscard]] Lane& lane(std::uint32_t index) noexcept { return *lanes_[index]; }
  [[nodiscard]] std::uint32_t lane_count() const noexcept { return static_cast<std::uint32_t>(lanes_.size()); }
  [[nodiscard]] Steward& steward() noexcept { return *steward_; }
  [[nodiscard]] pmd::Port& port(std::uint32_t index) noexcept { return *ports_[index].port; }
  [[nodiscard]] const RouteTable& routes() const noexcept { return routes_; }
  [[nodiscard]] const CpuPlan& cpu_plan() const noexcept { return plan_; }
  // Packet buffers that are not in their pool; lanes' own reserves are given back first. Only while no lane runs.
  [[nodiscard]] std::uint32_t mbufs_in_use();

 private:
  Dataplane(const DataplaneOptions& options, shm::Registry& registry, const shm::CountersReader& counters);
  [[nodiscard]] Result<void> make_pools();
  [[nodiscard]] Result<void> make_ports(Cables cables);
  [[nodiscard]] Result<void> make_lanes();
  [[nodiscard]] Result<void> make_crossings();
  [[nodiscard]] Result<std::vector<std::vector<std::uint32_t>>> assign_ports() const;
  void publish_port(std::uint32_t index);
  void enter_ipv6(const pmd::PortOptions& options, RoutePort& port);
  void run_lane(std::uint32_t index, std::atomic<std::int32_t>& ready);

  DataplaneOptions options_;
  shm::Registry& registry_;
  StreamTables tables_;
  RouteTable routes_;
  LaneShared shared_;
  CpuPlan plan_;
  std::vector<int> cpu_locks_;
  std::vector<pmd::PoolPlan> pool_plans_;
  std::vector<pmd::PacketPool> pools_;               // by plan
  Cables cables_;
  std::vector<StewardPort> ports_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::unique_ptr<Steward> steward_;
  std::vector<std::thread> threads_;
  TscClock clock_;
  std::atomic<bool> stop_lanes_{};
};

}  // namespace thalweg::core
