// thalweg upgrade: the programs that are installed now take over the instance that runs, one process after the other; streams and clients stay.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <utility>

#include "controlplane/cli/instance.hpp"
#include "controlplane/cli/proc.hpp"
#include "controlplane/cli/run_instance.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/base/fd.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kPoll_ns = kMillisecond_ns;
constexpr const char* kSupervisor = "thalweg";  // the program of `up` and `media-driver`
constexpr std::size_t kToldMax = 16U << 10;  // of what a program says about itself

struct UpgradeOptions {
  std::string only;
  bool is_check{};
  std::int64_t timeout_ns{30 * kSecond_ns};
};

// A process of the instance as it was started, which is how its supervisor starts the next one.
struct Plane {
  std::string name;                    // "control plane", for messages
  std::string key;                     // "control", in options and JSON
  const shm::ProcessInfo* info{};      // null: the supervisor
  pid_t pid{};
  Fd process;                          // names it and no later one of its number
  std::string release;
  std::vector<std::string> arguments;  // the first is the program
  std::vector<std::string> environment;
  std::string working_directory;
};

// How the process was started, from what Linux keeps of that.
Result<void> look_up(Plane& plane) {
  const auto arguments = read_proc(plane.pid, "cmdline");
  if (!arguments) return tl::unexpected{arguments.error()};
  const auto environment = read_proc(plane.pid, "environ");
  if (!environment) return tl::unexpected{environment.error()};
  plane.arguments = split_at_zero(*arguments);
  plane.environment = split_at_zero(*environment);
  std::error_code error;
  plane.working_directory = fs::read_symlink(fmt::format("/proc/{}/cwd", plane.pid), error).string();
  return {};
}

Result<Plane> plane_of(const Instance& instance, bool is_control) {
  Plane plane;
  plane.name = is_control ? "control plane" : "data plane";
  plane.key = is_control ? "control" : "data";
  plane.info = is_control ? &instance.registry().header.control_plane : &instance.registry().header.data_plane;
  plane.pid = static_cast<pid_t>(plane.info->pid.load(std::memory_order_acquire));
  plane.release = shm::release_of(*plane.info);
  plane.process = Fd{plane.pid > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, plane.pid, 0)) : -1};
  const std::string program = is_control ? "thalweg-controlplane" : "thalweg-dataplane";
  if (plane.process.get() < 0) return fail(ErrorCode::kUnreachable, fmt::format("the {} of {} does not run", plane.name, instance.directory()), "thalweg up starts an instance");
  if (auto found = look_up(plane); !found) return tl::unexpected{found.error()};
  if (plane.arguments.empty() || fs::path{plane.arguments.front()}.filename() != program) {
    return fail(ErrorCode::kUnreachable, fmt::format("process {} is no {}", plane.pid, program), "has the instance been stopped?");
  }
  const std::string parent = program_name(parent_of(plane.pid));
  if (parent != kSupervisor && parent != "systemd") {
    return fail(ErrorCode::kUnsupported, fmt::format("nobody would start the {} again: process {} was started by '{}'", plane.name, plane.pid, parent),
                "instances of `thalweg up`, `thalweg media-driver` and systemd can be upgraded while they run");
  }
  return plane;
}

std::string read_all(int fd) {
  std::string text;
  char chunk[1024];
  for (ssize_t got = 0; (got = ::read(fd, chunk, sizeof chunk)) > 0 || (got < 0 && errno == EINTR);) {
    if (got > 0 && text.size() < kToldMax) text.append(chunk, static_cast<std::size_t>(got));
  }
  return text;
}

struct Answer {
  bool is_yes{};     // exit status 0
  std::string told;  // on both of its outputs, without the last end of line
};

// Runs a program to its end, with the surroundings of `plane`.
Result<Answer> ask(const std::string& program, std::vector<std::string> arguments, Plane& plane) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(ErrorCode::kGeneric, "pipe", errno);
  const Fd read_end{ends[0]};
  Fd write_end{ends[1]};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDERR_FILENO);
  if (!plane.working_directory.empty()) posix_spawn_file_actions_addchdir_np(&actions, plane.working_directory.c_str());
  pid_t child = -1;
  const int error = ::posix_spawn(&child, program.c_str(), &actions, nullptr, pointers(arguments).data(), pointers(plane.environment).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return fail_errno(ErrorCode::kNotFound, "start " + program, error, "it is the program that the running one was started from");
  write_end = Fd{};
  Answer answer{.is_yes = false, .told = read_all(read_end.get())};
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  answer.is_yes = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  while (!answer.told.empty() && answer.told.back() == '\n') answer.told.pop_back();
  return answer;
}

// Asks the program that would be started next whether it can take the instance over, with the arguments and the surroundings it would have.
Result<void> ask_successor(Plane& plane) {
  std::vector<std::string> arguments = plane.arguments;
  arguments.emplace_back("--check");
  const auto answer = ask(arguments.front(), arguments, plane);
  if (!answer) return tl::unexpected{answer.error()};
  if (answer->is_yes) return {};
  return fail(ErrorCode::kVersion, fmt::format("the new {} cannot take over, and the old one goes on:\n{}", plane.name, answer->told),
              "docs/operate/upgrade.md says between which releases an instance must be stopped");
}

// "thalweg 1.2.3" is the answer of the program that the supervisor runs, whatever became of its file.
std::string release_of_supervisor(Plane& plane) {
  const auto answer = ask(fmt::format("/proc/{}/exe", plane.pid), {kSupervisor, "--version"}, plane);
  return answer && answer->is_yes ? answer->told.substr(answer->told.rfind(' ') + 1) : std::string{};
}

// The process above both planes. It makes way by becoming another program: its number stays, and so do its children.
Result<Plane> supervisor_of(const Instance& instance) {
  Plane plane;
  plane.name = plane.key = "supervisor";
  plane.pid = parent_of(static_cast<pid_t>(instance.registry().header.control_plane.pid.load(std::memory_order_acquire)));
  plane.process = Fd{plane.pid > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, plane.pid, 0)) : -1};
  if (plane.process.get() < 0 || program_name(plane.pid) != kSupervisor) {
    return fail(ErrorCode::kNotFound, "no thalweg supervises this instance", "what starts its processes, such as systemd, is not ours to replace");
  }
  if (!reads_signal(plane.pid, SIGUSR2)) {
    return fail(ErrorCode::kUnsupported, fmt::format("the supervisor, process {}, is of a release that cannot make way", plane.pid),
                "it is of the new release after the next stop and start");
  }
  if (auto found = look_up(plane); !found) return tl::unexpected{found.error()};
  const std::string program = program_path(plane.pid);
  if (program.empty() || plane.arguments.empty()) return fail(ErrorCode::kPermission, fmt::format("/proc/{}/exe cannot be read", plane.pid), "run this as the instance's user or as root");
  plane.arguments.front() = program;
  plane.release = release_of_supervisor(plane);
  return plane;
}

bool has_ended(const Plane& plane) {
  pollfd wait{plane.process.get(), POLLIN, 0};
  return ::poll(&wait, 1, 0) > 0;
}

// What a supervisor was handed by its predecessor; no two of them were handed the same.
std::string handed_to(pid_t supervisor) {
  const auto environment = read_proc(supervisor, "environ");
  if (!environment) return {};
  for (const std::string& variable : split_at_zero(*environment)) {
    if (variable.starts_with(kChildrenVariable)) return variable;
  }
  return {};
}

// The old one makes way, and the one that its supervisor starts, or that it becomes, is waited for. How long nobody was there.
Result<std::int64_t> replace(const Plane& plane, std::int64_t timeout_ns) {
  const bool is_supervisor = plane.info == nullptr;
  const std::string handed = is_supervisor ? handed_to(plane.pid) : std::string{};
  const std::int64_t started_ns = monotonic_ns();
  if (::syscall(SYS_pidfd_send_signal, plane.process.get(), SIGUSR2, nullptr, 0) != 0) {
    const int saved = errno;
    return fail_errno(saved == EPERM ? ErrorCode::kPermission : ErrorCode::kUnreachable, fmt::format("end process {}", plane.pid), saved, "run this as the instance's user or as root");
  }
  const auto is_up = [&] {
    if (is_supervisor) return handed_to(plane.pid) != handed && reads_signal(plane.pid, SIGUSR2);
    const auto pid = static_cast<pid_t>(plane.info->pid.load(std::memory_order_acquire));
    return pid != 0 && pid != plane.pid && plane.info->state.load(std::memory_order_acquire) == shm::Observed::kActive;
  };
  while (!is_up()) {
    if (monotonic_ns() - started_ns > timeout_ns || (is_supervisor && has_ended(plane))) {
      return fail(ErrorCode::kTimeout, fmt::format("{} {} after {} s", has_ended(plane) ? "no new" : "the old", has_ended(plane) ? plane.name + " came" : plane.name + " runs still", timeout_ns / kSecond_ns),
                  "the instance's log says more");
    }
    if (is_interrupted()) return fail(ErrorCode::kGeneric, fmt::format("interrupted while the {} was replaced", plane.name), "its supervisor goes on with that");
    sleep_interruptible(kPoll_ns);
  }
  return monotonic_ns() - started_ns;
}

// Those that are to be replaced, in that order. A supervisor that stays as it is stands in nobody's way.
Result<std::vector<Plane>> wanted_planes(Context& context, const Instance& instance, const std::string& only) {
  std::vector<Plane> planes;
  for (const bool is_control : {true, false}) {
    if (!only.empty() && only != (is_control ? "control" : "data")) continue;
    auto plane = plane_of(instance, is_control);
    if (!plane) return tl::unexpected{plane.error()};
    planes.push_back(std::move(*plane));
  }
  if (!only.empty() && only != "supervisor") return planes;
  auto supervisor = supervisor_of(instance);
  if (supervisor) planes.push_back(std::move(*supervisor));
  else if (!only.empty()) return tl::unexpected{supervisor.error()};
  else context.out.note("thalweg upgrade: " + supervisor.error().message + "; " + supervisor.error().hint);
  return planes;
}

std::string shown(const std::string& release) { return release.empty() ? "unknown" : release; }

Exit upgrade(Context& context, const UpgradeOptions& options) {
  auto instance = Instance::open_with_registry(context);
  if (!instance) return context.out.fail("upgrade", instance.error());
  auto planes = wanted_planes(context, *instance, options.only);
  if (!planes) return context.out.fail("upgrade", planes.error());
  for (Plane& plane : *planes) {  // all of them before any: half an upgrade helps nobody
    if (auto asked = ask_successor(plane); !asked) return context.out.fail("upgrade", asked.error());
  }
  Table table{"planes", {{"plane", "PLANE"}, {"release_before", "FROM"}, {"release", "TO"}, {"pid_before", "OLD PID"}, {"pid", "PID"}, {"took_ns", "TOOK", Unit::kDuration}}};
  for (Plane& plane : *planes) {
    if (options.is_check) {
      table.add({plane.key, shown(plane.release), "can take over", std::int64_t{plane.pid}, {}, {}});
      continue;
    }
    const auto took = replace(plane, options.timeout_ns);
    if (!took) return context.out.fail("upgrade", took.error());
    const std::string release = plane.info == nullptr ? release_of_supervisor(plane) : shm::release_of(*plane.info);
    const auto pid = plane.info == nullptr ? std::int64_t{plane.pid} : static_cast<std::int64_t>(plane.info->pid.load(std::memory_order_relaxed));
    table.add({plane.key, shown(plane.release), shown(release), std::int64_t{plane.pid}, pid, *took});
  }
  context.out.print(table);
  return Exit::kOk;
}

}  // namespace

void register_upgrade(CLI::App& root, Context& context) {
  CLI::App* verb = root.add_subcommand("upgrade", "Let the programs that are installed now take over a running instance, without its clients or streams noticing");
  const auto options = std::make_shared<UpgradeOptions>();
  verb->add_option("--only", options->only, "Replace one process only")->type_name("PLANE")->check(CLI::IsMember({"control", "data", "supervisor"}));
  verb->add_flag("--check", options->is_check, "Only ask the installed programs whether they can take over");
  add_duration(*verb, "--timeout", options->timeout_ns, "Give up when a process has no successor by then (default 30s)");
  set_example(*verb, "upgrade --check");
  on_run(*verb, context, [&context, options] { return upgrade(context, *options); });
}

}  // namespace thalweg::cli
