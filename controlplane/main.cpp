#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <random>

#include "config/schema/config.hpp"
#include "config/schema/print.hpp"
#include "config/schema/process_start.hpp"
#include "controlplane/api/control_client.hpp"
#include "controlplane/api/control_server.hpp"
#include "controlplane/archive/archive_verbs.hpp"
#include "controlplane/conductor/conductor.hpp"
#include "controlplane/conductor/control_verbs.hpp"
#include "dataplane/base/privileges.hpp"
#include "dataplane/base/process_log.hpp"
#include "controlplane/settings_from_config.hpp"
#include "dataplane/base/time.hpp"

// thalweg-controlplane: the conductor with its worker and the control socket. Arguments, signals, start and end of the process.
namespace thalweg {
namespace {

namespace log = process_log;

using config::kProcessFailed, config::kProcessOk;
enum class Stop : int { kNone = 0, kStop, kRestart };

// SIGTERM and SIGINT stop the instance: clients are told. SIGUSR2 ends the process alone, for a restart that clients do not notice.
std::atomic<Stop> stop_wanted{Stop::kNone};
static_assert(std::atomic<Stop>::is_always_lock_free, "touched by signal handlers");

void on_signal(int number) { stop_wanted.store(number == SIGUSR2 ? Stop::kRestart : Stop::kStop, std::memory_order_relaxed); }

void install_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  for (const int number : {SIGTERM, SIGINT, SIGUSR2}) ::sigaction(number, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

constexpr const char* kName = "thalweg-controlplane";

conductor::Time read_clocks() { return {monotonic_ns(), epoch_ms()}; }

// The conductor's loop, until somebody wants an end.
Stop run(conductor::Conductor& conductor) {
  std::atomic<std::uint32_t>& bell = conductor.world().registry->header.control_wake;
  bool has_announced = false;
  for (;;) {
    const std::uint32_t seen = bell.load(std::memory_order_acquire);
    const conductor::Time now = read_clocks();
    const int work = conductor.poll(now);
    conductor.charge_cycle(monotonic_ns() - now.now_ns);
    if (!has_announced && conductor.is_ready()) {
      has_announced = true;
      ::sd_notify(0, "READY=1\nSTATUS=serving clients");
      log::info("instance_ready", {{"directory", conductor.world().settings.directory}});
    }
    if (const auto warning = conductor.take_warning()) log::warn("storage", {{"text", *warning}});
    const Stop wanted = stop_wanted.load(std::memory_order_relaxed);
    if (wanted != Stop::kNone) return wanted;
    if (conductor.is_termination_requested()) return Stop::kStop;
    if (work == 0) conductor.rest(seen);
  }
}

std::string hugetlbfs_of(const config::Config& config) {
  if (config.dataplane.hugepages == config::Hugepages::kOff) return {};
  return config.memory.hugetlbfs.empty() ? host::find_hugetlbfs() : config.memory.hugetlbfs;
}

// Two instances share the mount, but never a folder on it: its name is that of the instance directory.
std::string folder_of(std::string directory) {
  while (!directory.empty() && directory.front() == '/') directory.erase(0, 1);
  std::replace(directory.begin(), directory.end(), '/', '-');
  return "thalweg-" + directory;
}

Result<std::string> prepare_hugetlbfs(const config::Config& config, const std::string& instance_directory) {
  const std::string mount = hugetlbfs_of(config);
  if (mount.empty()) return std::string{};
  const std::string directory = mount + "/" + folder_of(instance_directory);
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    const int saved = errno;
    if (config.memory.hugetlbfs.empty()) return std::string{};  // found, not asked for: do without
    return fail_errno(ErrorCode::kPermission, "create " + directory, saved, "make memory.hugetlbfs writable for this user");
  }
  return directory;
}

// Commands look into the instance directory: there they find the way to a socket that lies elsewhere. Without the link they need --socket.
void link_socket(const std::string& socket, const std::string& directory) {
  const std::string usual = api::default_socket_path(directory);
  if (socket == usual) return;
  ::unlink(usual.c_str());
  if (::symlink(socket.c_str(), usual.c_str()) != 0) log::warn("control_socket_not_linked", {{"link", usual}, {"socket", socket}});
}

void log_event(const archive::Event& event) {
  const std::string recording = event.recording < 0 ? "none" : std::to_string(event.recording);
  switch (event.level) {
    case archive::Event::Level::kInfo: return log::info(event.name, {{"recording", recording}, {"text", event.text}});
    case archive::Event::Level::kWarn: return log::warn(event.name, {{"recording", recording}, {"text", event.text}});
    case archive::Event::Level::kError: return log::error(event.name, {{"recording", recording}, {"text", event.text}});
  }
}

// Streams run without their archive: a disk that fails is no reason to refuse clients. `why_not`: what its verbs answer then.
std::unique_ptr<archive::Archive> start_archive(const config::Config& config, const std::string& directory, Error& why_not) {
  if (config.archive.directory.empty()) {
    why_not = {ErrorCode::kNotFound, "this instance has no archive", "archive.directory of the configuration gives it one"};
    return nullptr;
  }
  auto archive = archive::Archive::start(archive_settings(config, directory), log_event);
  if (archive) {
    log::info("archive_started", {{"directory", config.archive.directory}});
    return std::move(*archive);
  }
  why_not = std::move(archive.error()).with_context("the archive did not start");
  log::error("archive_not_started", {{"directory", config.archive.directory}, {"text", why_not.message}});
  return nullptr;
}

int report(const Error& error) { return config::report_failure(kName, error); }

int leave(Stop reason, const config::Config& config, const std::string& directory) {
  log::info("control_plane_stopped", {{"reason", reason == Stop::kStop ? "stop" : "restart"}});
  if (reason == Stop::kRestart) return config::kProcessRestart;
  return config.instance.delete_on_shutdown && !host::remove_instance_tree(directory, true) ? kProcessFailed : kProcessOk;
}

int serve(const config::Loaded& loaded, const std::string& directory, host::InstanceFiles& files) {
  const config::Config& config = loaded.config;
  if (files.is_attached && files.registry->header.is_termination_accepted.load(std::memory_order_acquire) != 0) {
    log::info("termination_resumed", {{"directory", directory}, {"text", "a control plane that died had accepted to end the instance"}});
    conductor::close_instance(files, directory);
    return leave(Stop::kStop, config, directory);
  }
  auto hugetlbfs = prepare_hugetlbfs(config, directory);
  if (!hugetlbfs) return report(hugetlbfs.error());
  // The instance's files exist and are ours: nothing below needs more than their owner may. Before threads are started, which inherit it.
  if (auto given_up = keep_capabilities({}); !given_up) log::warn("capabilities_kept", {{"text", given_up.error().message}});
  auto& header = files.registry->header;
  host::Worker worker{[&header] { shm::wake(header.control_wake); }};
  host::Worker lookups{[&header] { shm::wake(header.control_wake); }};
  conductor::Settings settings = conductor_settings(config, directory);
  std::random_device entropy;
  settings.random_seed = static_cast<std::uint64_t>(entropy()) << 32 | entropy();
  conductor::CommandGuard{files.registry->command_crashes}.catch_faults();
  auto conductor = conductor::Conductor::create(std::move(settings), files, log_options(config, directory, *hugetlbfs), worker, read_clocks(), &lookups);
  if (!conductor) return report(conductor.error());
  worker.start();
  lookups.start("tw-lookups");
  Error why_no_archive;
  std::unique_ptr<archive::Archive> archive = start_archive(config, directory, why_no_archive);
  const archive::ArchiveVerbs archive_verbs{archive.get(), std::move(why_no_archive)};
  conductor::ControlVerbs verbs{**conductor,
                                {.effective_config = config::to_yaml(loaded, true),
                                 .terminate = [&header, run = files.run] {
                                   header.is_termination_accepted.store(run, std::memory_order_release);
                                   shm::wake(header.control_wake);
                                 },
                                 .set_log_level = log::set_level,
                                 .archive = [&archive_verbs](const api::Request& request) { return archive_verbs.run(request); }}};
  const std::string socket = config.control_plane.socket.empty() ? api::default_socket_path(directory) : config.control_plane.socket;
  auto server = api::ControlServer::start({socket, config.instance.group}, [&verbs](const api::Request& request) { return verbs.run(request); });
  if (!server) return report(server.error());
  link_socket(socket, directory);
  log::info("control_plane_started", {{"directory", directory},
                                      {"attached", files.is_attached ? "true" : "false"},
                                      {"pid", std::to_string(::getpid())},
                                      {"cnc_bytes", std::to_string(files.cnc.length())},
                                      {"hugetlbfs", hugetlbfs->empty() ? "none" : *hugetlbfs}});
  const Stop reason = run(**conductor);
  ::sd_notify(0, "STOPPING=1");
  server->reset();
  archive.reset();
  worker.stop();
  lookups.stop();
  if (reason == Stop::kStop) (*conductor)->close(read_clocks());
  return leave(reason, config, directory);
}

int start(const config::ProcessStart& wanted) {
  const config::Config& config = wanted.loaded.config;
  const std::string directory = wanted.directory.empty() ? shm::default_directory() : wanted.directory;
  if (wanted.is_check) return config::report_check(kName, shm::check_takeover(directory));
  ::umask(config.instance.group.empty() ? 0077 : 0007);
  ::prctl(PR_SET_TIMERSLACK, 1UL);  // the conductor's short sleeps are to be as short as they say
  if (auto started = log::start(config.logging.level, config.logging.format); !started) return report(started.error());
  // At once: nothing here needs more, and the files are to be that user's.
  if (!config.instance.user.empty()) {
    if (auto became = become_user(config.instance.user); !became) return report(became.error());
  }
  host::InstanceOptions options = instance_options(config, directory);
  options.run = host::run_of_this_process();
  if (const std::string mount = hugetlbfs_of(config); !mount.empty()) {  // large logs of the pool lie there as far as there are pages
    options.pool_bytes -= std::min(options.pool_bytes, host::usable_bytes(mount).value_or(0));
  }
  auto files = host::InstanceFiles::open(options, epoch_ms(), monotonic_ns());
  if (!files) return report(files.error());
  if (!files->saved_error_log.empty()) log::warn("error_log_saved", {{"file", files->saved_error_log}});
  return serve(wanted.loaded, directory, *files);
}

}  // namespace
}  // namespace thalweg

int main(int argc, char** argv) {
  try {
    int exit_code = thalweg::config::kProcessOk;
    const auto wanted = thalweg::config::start_process(argc, argv, thalweg::kName,
        "Thalweg control plane: answers Aeron clients, allocates log buffers, keeps the instance's files.", exit_code);
    if (!wanted) return exit_code;
    thalweg::install_signals();
    exit_code = thalweg::start(*wanted);
    thalweg::process_log::stop();
    return exit_code;
  } catch (const std::exception& error) {  // bad_alloc, a file system that fails under us
    std::fprintf(stderr, "thalweg-controlplane: error: %s\n", error.what());
    return thalweg::config::kProcessFailed;
  }
}
