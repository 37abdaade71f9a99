#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <exception>
#include <thread>

#include "config/schema/config.hpp"
#include "config/schema/process_start.hpp"
#include "dataplane/base/privileges.hpp"
#include "dataplane/base/process_log.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/base/units.hpp"
#include "dataplane/core/dataplane.hpp"
#include "dataplane/options_from_config.hpp"
#include "dataplane/shm/cnc.hpp"
#include "pmd/interrupt_thread.hpp"
#include "pmd/port_factory.hpp"

// thalweg-dataplane: EAL, ports, lanes and steward of one instance. Arguments, signals, start and end of the process.
namespace thalweg {
namespace {

namespace log = process_log;

using config::kProcessFailed, config::kProcessOk;

// How long a started data plane waits for a control plane that makes or takes over the directory.
constexpr std::int64_t kRegistryTimeout_ns = 30 * kSecond_ns;

std::atomic<bool> stop_wanted{false};
std::atomic<bool> is_restart{false};
static_assert(std::atomic<bool>::is_always_lock_free, "touched by signal handlers");

void on_signal(int number) {
  if (number == SIGUSR2) is_restart.store(true, std::memory_order_relaxed);
  stop_wanted.store(true, std::memory_order_relaxed);
}

// SIGTERM and SIGINT end the instance, SIGUSR2 this process alone, so that its exit status asks for a successor. Here both leave all streams in the
// registry.
void install_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  for (const int number : {SIGTERM, SIGINT, SIGUSR2}) ::sigaction(number, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

// Each endpoint on a loopback or kernel port is a socket: the usual soft limit of 1,024 would be the end of a large instance.
void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));  // it was allowed to be lower, it may stay so
}

constexpr const char* kName = "thalweg-dataplane";

int report(const Error& error) { return config::report_failure(kName, error); }

void on_dpdk_log(void*, pmd::LogLevel level, const char* text, std::size_t length) {
  const std::string line{text, length};
  switch (level) {
    case pmd::LogLevel::kError: return log::error("dpdk", {{"text", line}});
    case pmd::LogLevel::kWarning: return log::warn("dpdk", {{"text", line}});
    default: return log::debug("dpdk", {{"text", line}});
  }
}

// The files of an instance whose control plane is there.
struct Instance {
  shm::RegistryFile registry;
  shm::CncFile cnc;
  int lock{-1};   // flock on registry.dat: one data plane an instance
};

// A control plane that lives holds the directory's lock. Files without one are a predecessor's, and may be about to go.
bool is_owned(const std::string& directory) {
  const int fd = ::open((directory + "/instance.lock").c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  const bool is_free = ::flock(fd, LOCK_SH | LOCK_NB) == 0;
  ::close(fd);
  return !is_free;
}

// nullopt: nothing to attach to yet.
Result<std::optional<Instance>> try_attach(const std::string& directory) {
  if (!is_owned(directory)) return std::nullopt;
  auto registry = shm::RegistryFile::open(directory);
  if (!registry) {
    if (registry.error().code == ErrorCode::kVersion || registry.error().code == ErrorCode::kPermission) return tl::unexpected{registry.error()};
    return std::nullopt;
  }
  const auto owner = static_cast<pid_t>((*registry)->header.control_plane.pid.load(std::memory_order_acquire));
  if (owner == 0 || (::kill(owner, 0) != 0 && errno == ESRCH)) return std::nullopt;
  auto cnc = shm::CncFile::open(directory, shm::MappedFile::Access::kReadWrite, false);
  if (!cnc) return std::nullopt;
  Instance instance{std::move(*registry), std::move(*cnc), ::open((directory + "/registry.dat").c_str(), O_RDWR | O_CLOEXEC)};
  if (instance.lock < 0) return std::nullopt;
  if (::flock(instance.lock, LOCK_EX | LOCK_NB) != 0) {
    const std::uint32_t pid = instance.registry->header.data_plane.pid.load(std::memory_order_relaxed);
    ::close(instance.lock);
    return fail(ErrorCode::kInUse, directory + " has a data plane already (process " + std::to_string(pid) + ")",
                "stop that one, or choose another instance.directory");
  }
  return instance;
}

Result<Instance> wait_for_instance(const std::string& directory) {
  const std::int64_t deadline_ns = monotonic_ns() + kRegistryTimeout_ns;
  bool has_told = false;
  while (!stop_wanted.load(std::memory_order_relaxed)) {
    auto instance = try_attach(directory);
    if (!instance) return tl::unexpected{instance.error()};
    if (*instance) return std::move(**instance);
    if (monotonic_ns() > deadline_ns) {
      return fail(ErrorCode::kTimeout, "no control plane owns " + directory, "start both with `thalweg up`, or start thalweg-controlplane");
    }
    if (!has_told) log::info("waiting_for_control_plane", {{"directory", directory}});
    has_told = true;
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return fail(ErrorCode::kClosed, "asked to stop before a control plane was there");
}

std::string cpu_text(const core::CpuPlan& plan) {
  std::string text;
  for (const core::LanePlan& lane : plan.lanes) {
    if (!text.empty()) text += ',';
    text += lane.cpu ? std::to_string(*lane.cpu) : "floating";
  }
  return text;
}

void announce(const core::DataplaneOptions& options, const core::Dataplane& plane, const pmd::Eal& eal) {
  const auto memory = eal.memory();
  log::info("data_plane_started", {{"directory", options.directory},
                                   {"pid", std::to_string(::getpid())},
                                   {"uid", std::to_string(::geteuid())},
                                   {"lanes", std::to_string(plane.lane_count())},
                                   {"cpus", cpu_text(plane.cpu_plan())},
                                   {"ports", std::to_string(options.ports.size())},
                                   {"eal_bytes", std::to_string(memory.total_bytes)},
                                   {"eal_used_bytes", std::to_string(memory.used_bytes)},
                                   {"pages", eal.uses_hugepages() ? "huge" : "ordinary"}});
}

// Ports are made: from here on only what they still need, and what becoming another user takes. The lanes inherit it, the thread on which
// drivers run their own does the same, the log's gave up everything when it started.
Result<void> give_up_capabilities(const core::DataplaneOptions& options, bool becomes_user) {
  std::vector<int> kept;
  for (const pmd::PortOptions& port : options.ports) {
    const std::vector<int> needed = pmd::capabilities_after_start(port.kind);
    kept.insert(kept.end(), needed.begin(), needed.end());
  }
  if (becomes_user) kept.insert(kept.end(), {CAP_SETUID, CAP_SETGID});
  Result<void> driver_thread;
  pmd::run_on_interrupt_thread([&] { driver_thread = keep_capabilities(kept); });
  return driver_thread ? keep_capabilities(kept) : driver_thread;
}

int serve(const config::Config& config, const std::string& directory) {
  const core::DataplaneOptions options = dataplane_options(config, directory);
  pmd::EalOptions eal_wanted = eal_options(config, options);
  eal_wanted.log_sink = on_dpdk_log;
  // The EAL takes most of a start; the control plane makes its files meanwhile.
  auto eal = pmd::Eal::start(eal_wanted);
  if (!eal) return report(eal.error());
  auto instance = wait_for_instance(directory);
  if (!instance) return stop_wanted.load(std::memory_order_relaxed) ? kProcessOk : report(instance.error());
  const shm::CountersReader counters{instance->cnc.counter_metadata(), instance->cnc.counter_values()};
  auto plane = core::Dataplane::create(options, *instance->registry, counters);
  if (!plane) return report(plane.error());
  const bool becomes_user = !config.instance.user.empty();
  if (auto given_up = give_up_capabilities(options, becomes_user); !given_up) log::warn("capabilities_kept", {{"text", given_up.error().message}});
  (*plane)->catch_crashes();
  (*plane)->watch_commands(shm::ManyToOneRing{instance->cnc.to_driver()});
  if (auto started = (*plane)->start(); !started) return report(started.error());
  if (becomes_user) {
    if (auto became = become_user(config.instance.user); !became) return report(became.error());
  }
  announce(options, **plane, **eal);
  ::sd_notify(0, "READY=1\nSTATUS=moving streams");
  (*plane)->run_steward(stop_wanted);
  ::sd_notify(0, "STOPPING=1");
  (*plane)->stop();
  const bool is_followed = is_restart.load(std::memory_order_relaxed) && instance->registry->header.is_termination_accepted.load(std::memory_order_acquire) == 0;
  log::info("data_plane_stopped", {{"directory", directory}, {"reason", is_followed ? "restart" : "stop"}});
  return is_followed ? config::kProcessRestart : kProcessOk;
}

int start(const config::ProcessStart& wanted) {
  const config::Config& config = wanted.loaded.config;
  const std::string directory = wanted.directory.empty() ? shm::default_directory() : wanted.directory;
  if (wanted.is_check) return config::report_check(kName, shm::check_takeover(directory));
  if (auto started = log::start(config.logging.level, config.logging.format); !started) return report(started.error());
  return serve(config, directory);
}

}  // namespace
}  // namespace thalweg

int main(int argc, char** argv) {
  try {
    int exit_code = thalweg::config::kProcessOk;
    const auto wanted = thalweg::config::start_process(argc, argv, thalweg::kName, "Thalweg data plane: polls the ports and moves all streams.", exit_code);
    if (!wanted) return exit_code;
    thalweg::install_signals();
    thalweg::raise_file_limit();
    exit_code = thalweg::start(*wanted);
    thalweg::process_log::stop();
    return exit_code;
  } catch (const std::exception& error) {  // bad_alloc at start; lanes throw nothing
    std::fprintf(stderr, "thalweg-dataplane: error: %s\n", error.what());
    return thalweg::config::kProcessFailed;
  }
}
