#include "dataplane/core/cpu_plan.hpp"

#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>

namespace thalweg::core {

namespace {

constexpr std::size_t kSmallMachine = 4;       // below: one lane; the control plane and the applications need the rest
constexpr std::uint32_t kCpusPerAutoLane = 4;  // a lane, a steward's share, and two for applications

// CPUs for automatic lanes, best first: isolated ones, then the rest from the top, so that CPU 0 comes last.
std::vector<std::uint32_t> candidates(const Machine& machine) {
  std::vector<std::uint32_t> best;
  for (const std::uint32_t cpu : machine.allowed.cpus) {
    if (machine.isolated.contains(cpu)) best.push_back(cpu);
  }
  for (auto it = machine.allowed.cpus.rbegin(); it != machine.allowed.cpus.rend(); ++it) {
    if (!machine.isolated.contains(*it)) best.push_back(*it);
  }
  return best;
}

std::uint32_t auto_lane_count(const Machine& machine, std::uint32_t port_count) {
  const std::size_t cpus = machine.allowed.cpus.size();
  if (cpus <= kSmallMachine) return 1;
  std::size_t isolated = 0;
  for (const std::uint32_t cpu : machine.isolated.cpus) isolated += machine.allowed.contains(cpu) ? 1 : 0;
  const std::size_t wanted = isolated > 0 ? isolated : cpus / kCpusPerAutoLane;
  const std::size_t useful = std::max<std::size_t>(port_count, 1);  // a lane without a port would serve IPC alone
  return static_cast<std::uint32_t>(std::clamp<std::size_t>(wanted, 1, std::min<std::size_t>(useful, shm::kLanesMax)));
}

Result<void> check_cpu(const Machine& machine, std::uint32_t cpu, CpuMode mode) {
  const std::string name = "CPU " + std::to_string(cpu);
  if (!machine.allowed.contains(cpu)) {
    return fail(ErrorCode::kInvalidArgument, name + " is not in this process's CPU set", "choose one of those `taskset -p $$` shows");
  }
  if (mode != CpuMode::kExclusive) return {};
  if (machine.taken.contains(cpu)) {
    return fail(ErrorCode::kInUse, name + " is held by an exclusive lane of another instance", "give each instance its own CPUs");
  }
  if (!machine.isolated.contains(cpu)) {
    return fail(ErrorCode::kUnsupported, name + " is not isolated, and cpu-mode is exclusive",
                "boot with isolcpus=" + std::to_string(cpu) + ", or set cpu-mode: shared");
  }
  return {};
}

Result<CpuPlan> plan_auto(const Machine& machine, CpuMode mode, std::uint32_t port_count) {
  CpuPlan plan;
  const std::uint32_t count = auto_lane_count(machine, port_count);
  for (const std::uint32_t cpu : candidates(machine)) {
    if (plan.lanes.size() == count) break;
    if (mode == CpuMode::kExclusive && !check_cpu(machine, cpu, mode)) continue;
    plan.lanes.push_back({cpu});
  }
  if (plan.lanes.size() < count && mode == CpuMode::kExclusive && plan.lanes.empty()) {
    return fail(ErrorCode::kUnsupported, "cpu-mode is exclusive and no isolated CPU is free", "boot with isolcpus=..., or set cpu-mode: shared");
  }
  if (machine.allowed.cpus.size() == 1) plan.lanes = {LanePlan{}};  // nothing to pin apart
  return plan;
}

Result<CpuPlan> plan_named(const Machine& machine, std::span<const LaneOptions> lanes, CpuMode mode) {
  CpuPlan plan;
  std::vector<std::uint32_t> seen;
  for (const LaneOptions& lane : lanes) {
    plan.lanes.push_back({lane.cpu});
    if (!lane.cpu) {
      if (mode == CpuMode::kExclusive) {
        return fail(ErrorCode::kInvalidArgument, "an exclusive lane needs a CPU", "name one, or use `lanes: auto`");
      }
      continue;
    }
    if (auto ok = check_cpu(machine, *lane.cpu, mode); !ok) return tl::unexpected{ok.error()};
    if (std::find(seen.begin(), seen.end(), *lane.cpu) != seen.end()) {
      return fail(ErrorCode::kInvalidArgument, "CPU " + std::to_string(*lane.cpu) + " is named by two lanes", "give each lane its own CPU");
    }
    seen.push_back(*lane.cpu);
  }
  return plan;
}

}  // namespace

bool CpuSet::contains(std::uint32_t cpu) const noexcept { return std::binary_search(cpus.begin(), cpus.end(), cpu); }

Result<CpuPlan> plan_cpus(const Machine& machine, std::span<const LaneOptions> lanes, CpuMode mode, std::uint32_t port_count) {
  if (machine.allowed.cpus.empty()) return fail(ErrorCode::kInvalidArgument, "no CPU is allowed");
  if (lanes.size() > shm::kLanesMax) return fail(ErrorCode::kInvalidArgument, "more lanes than " + std::to_string(shm::kLanesMax));
  auto plan = lanes.empty() ? plan_auto(machine, mode, port_count) : plan_named(machine, lanes, mode);
  if (!plan) return plan;
  for (const std::uint32_t cpu : machine.allowed.cpus) {
    const bool is_lane = std::any_of(plan->lanes.begin(), plan->lanes.end(), [cpu](const LanePlan& lane) { return lane.cpu == cpu; });
    if (!is_lane && !machine.isolated.contains(cpu)) plan->steward.cpus.push_back(cpu);
  }
  if (plan->steward.cpus.empty()) plan->steward = machine.allowed;
  return plan;
}

std::optional<CpuSet> parse_cpu_list(std::string_view text) {
  CpuSet set;
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p != end) {
    std::uint32_t first = 0;
    auto [after, error] = std::from_chars(p, end, first);
    if (error != std::errc{}) return std::nullopt;
    std::uint32_t last = first;
    if (after != end && *after == '-') {
      const auto range = std::from_chars(after + 1, end, last);
      if (range.ec != std::errc{}) return std::nullopt;
      after = range.ptr;
    }
    if (last < first || last >= CPU_SETSIZE) return std::nullopt;
    for (std::uint32_t cpu = first; cpu <= last; ++cpu) set.cpus.push_back(cpu);
    if (after != end && *after != ',') return std::nullopt;
    p = after == end ? end : after + 1;
  }
  std::sort(set.cpus.begin(), set.cpus.end());
  set.cpus.erase(std::unique(set.cpus.begin(), set.cpus.end()), set.cpus.end());
  return set;
}

Machine read_machine() {
  Machine machine;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof mask, &mask) == 0) {
    for (std::uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &mask)) machine.allowed.cpus.push_back(cpu);
    }
  }
  if (std::FILE* file = std::fopen("/sys/devices/system/cpu/isolated", "re")) {
    char text[1024];
    const std::size_t n = std::fread(text, 1, sizeof text, file);
    std::fclose(file);
    if (auto set = parse_cpu_list({text, n})) machine.isolated = *set;
  }
  return machine;
}

Result<int> lock_cpu(std::uint32_t cpu) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_errno(ErrorCode::kIo, "lock CPU " + std::to_string(cpu), errno);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const int n = std::snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "thalweg-cpu-%u", cpu);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<std::size_t>(n));
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), length) != 0) {
    const int saved = errno;
    ::close(fd);
    return fail_errno(ErrorCode::kInUse, "CPU " + std::to_string(cpu) + " is held by another instance", saved);
  }
  return fd;
}

Result<void> pin_this_thread(const CpuSet& cpus) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (const std::uint32_t cpu : cpus.cpus) CPU_SET(cpu, &mask);
  if (::sched_setaffinity(0, sizeof mask, &mask) != 0) return fail_errno(ErrorCode::kInvalidArgument, "pin thread", errno);
  return {};
}

}  // namespace thalweg::core
