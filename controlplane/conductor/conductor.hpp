#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "controlplane/conductor/command_queue.hpp"
#include "controlplane/conductor/re_resolution.hpp"
#include "controlplane/conductor/services.hpp"

namespace thalweg::conductor {

// Ends the instance for good (1.7): log files go, clients are told by the driver heartbeat -1, the data plane by our state. Whoever is killed in the
// middle has a successor that does it again. Blocks for as long as files take.
void close_instance(host::InstanceFiles& files, const std::string& directory);

// The driver's conductor: client commands, notifications, counters, files (client-protocol sections 1, 5 to 8). It never blocks; slow
// work is its worker's. One thread calls poll(); only post() may be called from others.
class Conductor {
 public:
  // Fresh instances get their system counters here; of a predecessor everything is taken up from the registry.
  // `lookups`: the worker that asks the system's resolver; none: `worker` does.
  // Errors: kNoSpace when cnc.dat has no room for the system counters; those of NameService::create.
  [[nodiscard]] static Result<std::unique_ptr<Conductor>> create(Settings settings, host::InstanceFiles& files, host::LogStore::Options logs,
                                                                 host::Worker& worker, Time now, host::Worker* lookups = nullptr);
  ~Conductor();
  Conductor(const Conductor&) = delete;
  Conductor& operator=(const Conductor&) = delete;

  // One duty cycle; returns how much was done.
  int poll(Time now);
  // Longest time a caller may sleep before the next poll(), as long as nobody wakes it.
  [[nodiscard]] std::int64_t idle_ns() const noexcept;
  // Sleeps so after a poll() that found nothing to do. `seen`: the word of header.control_wake, read before that poll().
  void rest(std::uint32_t seen) noexcept;
  // Charges one duty cycle's duration to the stock cycle counters.
  void charge_cycle(std::int64_t duration_ns) noexcept;
  // A client asked to terminate the driver and the validator let it pass, here or in a predecessor that died over it; or an operator asked.
  [[nodiscard]] bool is_termination_requested() const noexcept {
    return world_.registry->header.is_termination_accepted.load(std::memory_order_acquire) != 0;
  }
  // The version was stored: clients may connect.
  [[nodiscard]] bool is_ready() const noexcept { return is_ready_; }
  // Clean stop (1.7): deletes log files, stores -1 into the driver heartbeat. `stop` only; a crash or restart must not come here.
  void close(Time now);

  // Runs a task on the conductor's thread in its next cycle, and wakes it. Any thread.
  void post(std::function<void(World&)> task);
  [[nodiscard]] World& world() noexcept { return world_; }
  // A warning for the operator that came up since the last call; nullopt: none.
  [[nodiscard]] std::optional<std::string> take_warning() { return world_.logs.take_warning(); }

 private:
  Conductor(Settings settings, host::InstanceFiles& files, host::LogStore::Options logs, host::Worker& worker, host::Worker& lookups, Time now);
  [[nodiscard]] Result<void> start_fresh();
  void recover();
  int read_commands();
  int run_posted();
  int take_bells();
  void service(std::uint32_t lane, shm::SlotRef ref);
  // Does `work` unless the control plane crashed at it too often; the registry says meanwhile that it is worked on.
  template <typename Work>
  void guarded(const CommandGuard::Id& id, Work&& work);
  template <typename Table, typename Work>
  void guard_slot(Table& table, shm::SlotKind kind, std::uint32_t index, Work&& work);
  void service_endpoint(std::uint32_t index);
  void service_destination(std::uint32_t index);
  void service_interest(std::uint32_t index);
  void service_image(std::uint32_t index);
  void service_link(std::uint32_t index);
  void service_log(std::uint32_t index);
  void service_setup(std::uint32_t lane, std::uint32_t index);
  void report_quarantined();
  void service_publication(std::uint32_t index);
  void service_everything();
  void service_setups(std::uint32_t lane);
  void service_starting();
  void become_ready();
  void tick();
  void expire_client(std::int64_t client_id);
  void unblock_ring();
  void sum_counters();
  void recover_destination_links();
  void release_unused_endpoints();
  void recover_sums();
  void free_stray_counters();
  [[nodiscard]] std::uint32_t lane_count() const noexcept;
  [[nodiscard]] bool is_watched() const noexcept;

  World world_;
  CommandGuard guard_;
  bool has_quarantined_{false};           // of what is no command
  Services services_;
  CommandQueue commands_;
  ReResolution re_resolution_;
  bool is_ready_{false};
  bool has_unused_endpoints_{false};      // a predecessor's, perhaps
  bool is_closed_{false};
  std::int64_t lively_ns_{};              // when the data plane last answered or a command last moved
  std::int64_t next_tick_ns_{};
  std::int64_t next_sum_ns_{};
  std::int64_t next_heartbeat_ns_{};
  std::int64_t ring_position_{};          // of the to-driver ring's head when it last moved
  std::int64_t ring_moved_ns_{};
  std::int64_t failed_deletions_counted_{};
  std::array<std::int64_t, shm::kSystemCounterCount> summed_{};

  std::mutex posted_mutex_;
  std::atomic<bool> has_posted_{false};   // pairs with the release in post()
  std::vector<std::function<void(World&)>> posted_;
};

}  // namespace thalweg::conductor
