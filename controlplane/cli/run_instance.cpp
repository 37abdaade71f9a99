// thalweg up and thalweg media-driver: both processes of an instance, supervised.
#include "controlplane/cli/run_instance.hpp"

#include <fmt/format.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "controlplane/cli/instance.hpp"
#include "controlplane/cli/proc.hpp"
#include "controlplane/cli/supervisor.hpp"

namespace thalweg::cli {
namespace {

// Becomes the program that has our file's name by now. Comes back with an error only.
Result<void> become_successor(Context& context, const std::string& program, const std::string& children) {
  const auto line = read_proc(::getpid(), "cmdline");
  if (!line) return tl::unexpected{line.error()};
  std::vector<std::string> arguments = split_at_zero(*line);
  context.out.flush();
  ::setenv(kChildrenVariable, fmt::format("{}\n{}", monotonic_ns(), children).c_str(), 1);  // no two are the same
  ::execv(program.c_str(), pointers(arguments).data());
  const int saved = errno;
  ::unsetenv(kChildrenVariable);
  return fail_errno(ErrorCode::kNotFound, "start " + program, saved);
}

// Taken out of the environment: our children are nobody's supervisors.
std::string take_children() {
  const char* const children = std::getenv(kChildrenVariable);
  const std::string text = children == nullptr ? "" : children;
  ::unsetenv(kChildrenVariable);
  return text.substr(std::min(text.find('\n'), text.size()));
}

// An installed tree has the programs side by side; a build tree has them in the folders of their sources.
Result<std::string> find_program(const std::string& name) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return fail(ErrorCode::kNotFound, "/proc/self/exe: " + error.message());
  const auto here = self.parent_path();
  for (const auto& candidate : {here / name, here.parent_path() / name, here.parent_path().parent_path() / "dataplane" / name}) {
    if (::access(candidate.c_str(), X_OK) == 0) return candidate.string();
  }
  return fail(ErrorCode::kNotFound, name + " is not next to " + self.string(), "install both, or build everything: ninja -C build");
}

bool is_process(const shm::ProcessInfo& process, pid_t pid) {
  return process.pid.load(std::memory_order_acquire) == static_cast<std::uint32_t>(pid);
}

// The registry in the directory is that of the control plane we started, and not one that a dead instance left or another one owns: only
// then may a data plane attach to it.
bool has_own_registry(const std::string& directory, pid_t control_plane) {
  const auto registry = shm::RegistryFile::open(directory, shm::MappedFile::Access::kReadOnly);
  return registry && control_plane > 0 && is_process((*registry)->header.control_plane, control_plane);
}

// Both processes attached to the registry with the pids we started, and cnc.dat says that clients may come.
bool is_instance_ready(const std::string& directory, const std::vector<pid_t>& pids) {
  const auto cnc = shm::CncFile::open(directory, shm::MappedFile::Access::kReadOnly);
  if (!cnc) return false;
  const auto registry = shm::RegistryFile::open(directory, shm::MappedFile::Access::kReadOnly);
  if (!registry) return false;
  const shm::RegistryHeader& header = (*registry)->header;
  const auto is_up = [](const shm::ProcessInfo& process, pid_t pid) {
    return is_process(process, pid) && process.state.load(std::memory_order_acquire) == shm::Observed::kActive;
  };
  return is_up(header.control_plane, pids[0]) && is_up(header.data_plane, pids[1]);
}

// The first thing that is_instance_ready() misses.
std::string missing_part(const std::string& directory, const std::vector<pid_t>& pids) {
  const auto registry = shm::RegistryFile::open(directory, shm::MappedFile::Access::kReadOnly);
  if (!registry) {
    const bool is_other = registry.error().code == ErrorCode::kVersion;
    return is_other ? "thalweg-controlplane of this release: " + registry.error().message : "thalweg-controlplane to make " + directory + "/registry.dat";
  }
  const shm::RegistryHeader& header = (*registry)->header;
  if (!is_process(header.control_plane, pids[0])) return "thalweg-controlplane to take over " + directory;
  if (!is_process(header.data_plane, pids[1])) return "thalweg-dataplane to start: ports and memory";
  if (header.data_plane.state.load(std::memory_order_acquire) != shm::Observed::kActive) return "thalweg-dataplane to take up the streams";
  return "thalweg-controlplane to let clients in";
}

// A control plane that was killed behind the last step of ending the instance: no other is to take its place.
bool is_closed_by(const std::string& directory, pid_t control_plane) {
  const auto registry = shm::RegistryFile::open(directory, shm::MappedFile::Access::kReadOnly);
  if (!registry) return false;
  const shm::ProcessInfo& process = (*registry)->header.control_plane;
  return is_process(process, control_plane) && process.state.load(std::memory_order_acquire) == shm::Observed::kDone;
}

void announce(Context& context, const std::string& directory, std::int64_t started_ns) {
  const auto registry = shm::RegistryFile::open(directory, shm::MappedFile::Access::kReadOnly);
  const std::uint32_t lanes = registry ? lane_count(**registry) : 0;
  const std::uint32_t ports = registry ? port_count(**registry) : 0;
  const std::int64_t took_ns = monotonic_ns() - started_ns;
  if (context.out.is_json()) {
    context.out.document() = {{"event", "ready"}, {"directory", directory}, {"lanes", lanes}, {"ports", ports}, {"took_ns", took_ns}};
    context.out.flush();
  } else {
    context.out.line("ready in " + human_duration(static_cast<double>(took_ns)) + ": " + directory + ", " + std::to_string(lanes) +
                         (lanes == 1 ? " lane, " : " lanes, ") + std::to_string(ports) + (ports == 1 ? " port" : " ports"),
                     Style::kGood);
    context.out.flush();
  }
  ::sd_notify(0, "READY=1\nSTATUS=the instance is ready");  // does nothing outside systemd
}

config::Overrides overrides_of(const InstanceStart& start) {
  config::Overrides overrides = config::make_overrides({});
  overrides.flags = start.settings;
  return overrides;
}

}  // namespace

Result<config::Loaded> load_configuration(const InstanceStart& start) {
  auto loaded = config::load(start.config, overrides_of(start));
  if (!loaded || loaded->errors.empty()) return loaded;
  std::string text;
  for (const config::Diagnostic& error : loaded->errors) text += (text.empty() ? "" : "\n") + error.to_string();
  return fail(ErrorCode::kInvalidConfig, text, start.config.empty() ? "" : "thalweg config check prints the same for a file");
}

bool is_successor() { return std::getenv(kChildrenVariable) != nullptr; }

Exit run_instance(Context& context, const InstanceStart& start, const config::Config& config) {
  const std::string directory = config.instance.directory.empty() ? shm::default_directory() : config.instance.directory;
  std::vector<std::string> arguments;
  if (!start.config.empty()) arguments.insert(arguments.end(), {"--config", start.config});
  for (const auto& setting : start.settings) arguments.insert(arguments.end(), {"--set", setting.path + "=" + setting.value});
  SupervisorOptions supervisor;
  for (const char* name : {"thalweg-controlplane", "thalweg-dataplane"}) {
    auto path = find_program(name);
    if (!path) return context.out.fail(start.verb, path.error());
    supervisor.children.push_back({name, std::move(*path), arguments, {}});
  }
  if (start.is_check) {
    context.out.line("thalweg " THALWEG_VERSION " can take over");
    return Exit::kOk;
  }
  supervisor.children.back().may_start = [&directory](const std::vector<pid_t>& pids) { return has_own_registry(directory, pids.front()); };
  const std::int64_t started_ns = monotonic_ns();
  supervisor.ready_timeout_ns = start.ready_timeout_ns;
  supervisor.is_ready = [&](const std::vector<pid_t>& pids) { return is_instance_ready(directory, pids); };
  supervisor.waits_for = [&directory](const std::vector<pid_t>& pids) { return missing_part(directory, pids); };
  supervisor.is_over = [&directory](std::size_t child, pid_t pid) { return child == 0 && is_closed_by(directory, pid); };
  supervisor.on_ready = [&] { announce(context, directory, started_ns); };
  supervisor.predecessor = take_children();
  supervisor.make_way = [&, program = program_path(::getpid())](const std::string& children) { return become_successor(context, program, children); };
  supervisor.log = [&](const std::string& text) { context.out.note("thalweg " + std::string{start.verb} + ": " + text); };
  const auto ended = supervise(supervisor);
  ::sd_notify(0, "STOPPING=1");
  return ended ? Exit::kOk : context.out.fail(start.verb, ended.error());
}

}  // namespace thalweg::cli
