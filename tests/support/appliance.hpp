#pragma once
#include <memory>
#include <string>
#include <vector>

#include "controlplane/conductor/conductor.hpp"
#include "dataplane/client/thalweg.hpp"
#include "dataplane/core/dataplane.hpp"
#include "tests/support/free_udp_port.hpp"
#include "tests/support/temporary_directory.hpp"

// A whole appliance without its processes: the real conductor, the real data plane and real clients in one thread, with simulated time.
namespace thalweg::test {

// The epoch clock of an appliance and its clients at a time of its monotonic clock.
[[nodiscard]] std::int64_t epoch_ms_at(std::int64_t now_ns);

// One instance: control plane and data plane, each of which can be killed and started again.
class Appliance {
 public:
  struct Options {
    std::vector<pmd::PortOptions> ports;
    std::uint32_t lanes{1};
    std::uint32_t packet_buffers{2047};
    core::WildcardPorts sender_ports, receiver_ports;
    std::function<std::unique_ptr<pmd::Port>(std::unique_ptr<pmd::Port>, const pmd::PortOptions&)> wrap_port;  // as core::DataplaneOptions
    conductor::Settings settings;              // directory is filled in
    host::LogStore::Options logs;              // directory is filled in
  };
  Appliance(Options options, core::Dataplane::Cables cables, std::int64_t start_ns);

  void step(std::int64_t now_ns);
  // Ends a half as a crash does, without a word, and starts its successor on what it left.
  void kill_control_plane();
  void start_control_plane();
  void restart_control_plane() { kill_control_plane(), start_control_plane(); }
  void kill_data_plane() { plane.reset(); }
  // For the next control plane.
  [[nodiscard]] conductor::Settings& settings() noexcept { return options_.settings; }
  void start_data_plane();

  [[nodiscard]] const std::string& path() const noexcept { return options_.settings.directory; }
  [[nodiscard]] shm::Registry& registry() noexcept { return *files->registry; }
  [[nodiscard]] shm::CountersReader counters() const noexcept { return {files->cnc.counter_metadata(), files->cnc.counter_values()}; }
  [[nodiscard]] std::int64_t system(shm::SystemCounter id) const { return counters().counter(static_cast<std::int32_t>(id)).get(); }
  // Labels of the counters that are no system counters: empty when every stream and client is gone.
  [[nodiscard]] std::vector<std::string> labels() const;
  // Log files of publications and images that are there.
  [[nodiscard]] std::vector<std::string> log_files() const;
  [[nodiscard]] std::string errors() const;
  // Empty when no slot of a stream, endpoint or client is in use; else what is.
  [[nodiscard]] std::string leftovers();

  TemporaryDirectory directory{"appliance"};
  std::unique_ptr<host::InstanceFiles> files;   // the control plane's
  std::unique_ptr<host::Worker> worker;
  std::unique_ptr<conductor::Conductor> control;

 private:
  Options options_;
  core::Dataplane::Cables cables_;
  std::int64_t now_ns_;
  shm::RegistryFile plane_registry_;            // the data plane's own mappings, as in its own process
  shm::CncFile plane_cnc_;

 public:
  std::unique_ptr<core::Dataplane> plane;
};

// Two appliances a and b joined by a patch cable (10.0.0.1 and 10.0.0.2), each with a loopback port of its own.
class TwoAppliances {
 public:
  struct Options {
    pmd::ImpairmentOptions impair_a, impair_b;   // of what a, b receive on the cable
    std::uint32_t lanes{1};
    std::vector<host::LogStore::PoolSize> pool;
    std::vector<conductor::RelaySettings> relays_b;
    conductor::NameSettings names_a, names_b;
  };
  TwoAppliances() : TwoAppliances(Options{}) {}
  explicit TwoAppliances(const Options& options);

  static constexpr std::int64_t kStep_ns = 10 * kMicrosecond_ns;
  static constexpr const char* kAddressA = "10.0.0.1";
  static constexpr const char* kAddressB = "10.0.0.2";

  // A client in invoker mode on the simulated clock. It is turned with everything else until the test lets go of it.
  [[nodiscard]] std::shared_ptr<client::Client> connect(Appliance& appliance, client::Context context = {});
  // As if its process had hung: no keepalives any more.
  void stop_turning(const client::Client& client);
  void turn(std::int64_t step_ns = kStep_ns);
  template <typename Predicate>
  bool run_until(Predicate&& predicate, std::int64_t limit_ns, std::int64_t step_ns = kStep_ns) {
    for (const std::int64_t end = now_ns + limit_ns; now_ns < end; turn(step_ns)) {
      if (predicate()) return true;
    }
    return predicate();
  }
  // For long waits: the clock moves in steps of a millisecond.
  void run_for(std::int64_t duration_ns) {
    run_until([] { return false; }, duration_ns, kMillisecond_ns);
  }
  [[nodiscard]] std::uint32_t mbufs_in_use() { return a.plane->mbufs_in_use() + b.plane->mbufs_in_use(); }

 private:
  static Appliance::Options options_of(const Options& options, bool is_a);
  void step_appliances(std::int64_t step_ns);
  core::Dataplane::Cables cables_{std::make_shared<pmd::PortContext>()};

 public:
  std::int64_t now_ns{1'000'000'000'000};
  Appliance a;
  Appliance b;

 private:
  std::vector<std::weak_ptr<client::Client>> clients_;
};

// Another process's socket, as it were, on a UDP port of 127.0.0.1.
class TakenUdpPort {
 public:
  explicit TakenUdpPort(std::uint16_t port);
  ~TakenUdpPort();
  TakenUdpPort(const TakenUdpPort&) = delete;
  TakenUdpPort& operator=(const TakenUdpPort&) = delete;

 private:
  int fd_;
};

}  // namespace thalweg::test
