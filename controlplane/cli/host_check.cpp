#include "controlplane/cli/host_check.hpp"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "config/schema/convert.hpp"
#include "controlplane/cli/output.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/base/units.hpp"
#include "pmd/packet_pool.hpp"

namespace thalweg::cli {
namespace {

constexpr std::uint64_t kHugepage = 2U << 20;
constexpr std::uint64_t kFilesWanted = 4096;          // sockets of the kernel port, logs, clients of the control socket
constexpr std::uint64_t kHeadroom_bytes = 64U << 20;  // beside the pool: images and publications that need other terms

std::optional<std::string> read_line(const std::string& path) {
  std::ifstream file{path};
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

std::string mebibytes(std::uint64_t bytes) { return std::to_string((bytes + (1U << 20) - 1) >> 20) + " MiB"; }

std::string list_of(const std::vector<std::uint32_t>& numbers) {
  std::string text;
  for (const std::uint32_t number : numbers) text += (text.empty() ? "" : ",") + std::to_string(number);
  return text;
}

std::uint64_t limit_of(int resource) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource_t>(resource), &limit) != 0) return 0;
  return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}

class Checker {
 public:
  Checker(const config::Config& config, const Host& host) : config_{config}, host_{host}, ports_{config::port_options(config)} {}

  std::vector<Finding> run() {
    check_cpus();
    check_clock();
    check_governor();
    check_hugepages();
    check_transparent_hugepages();
    check_numa();
    check_shared_memory();
    check_user();
    check_limits();
    for (const pmd::PortOptions& port : ports_) check_port(port);
    return std::move(findings_);
  }

 private:
  [[nodiscard]] std::string path(const std::string& file) const { return host_.root + file; }
  [[nodiscard]] bool exists(const std::string& file) const {
    std::error_code error;
    return std::filesystem::exists(path(file), error);
  }
  void add(std::string item, Verdict verdict, std::string need, std::string found, std::string fix = {}) {
    findings_.push_back({std::move(item), verdict, std::move(need), std::move(found), std::move(fix)});
  }

  void check_cpus() {
    std::vector<core::LaneOptions> lanes;
    for (const config::Lane& lane : config_.dataplane.lanes) lanes.push_back({lane.cpu, lane.ports});
    const bool is_exclusive = config_.dataplane.cpu_mode == config::CpuMode::kExclusive;
    const auto mode = is_exclusive ? core::CpuMode::kExclusive : core::CpuMode::kShared;
    const auto plan = core::plan_cpus(host_.machine, lanes, mode, static_cast<std::uint32_t>(ports_.size()));
    const std::string need = lanes.empty() ? "CPUs for lanes: auto" : fmt::format("CPUs for {} {}", lanes.size(), lanes.size() == 1 ? "lane" : "lanes");
    if (!plan) return add("cpus", Verdict::kProblem, need, plan.error().message + "; allowed: " + list_of(host_.machine.allowed.cpus), plan.error().hint);
    for (const core::LanePlan& lane : plan->lanes) {
      if (lane.cpu) cpus_.push_back(*lane.cpu);
    }
    add("cpus", Verdict::kOk, need,
        cpus_.empty() ? fmt::format("{} floating, CPUs {}", plan->lanes.size(), list_of(host_.machine.allowed.cpus))
                      : fmt::format("lanes on {}, the rest on {}", list_of(cpus_), list_of(plan->steward.cpus)));
    std::vector<std::uint32_t> shared;
    for (const std::uint32_t cpu : cpus_) {
      if (!host_.machine.isolated.contains(cpu)) shared.push_back(cpu);
    }
    const std::string fix = cpus_.empty() ? "name CPUs in dataplane.lanes" : fmt::format("boot with isolcpus={0} nohz_full={0} rcu_nocbs={0}", list_of(cpus_));
    if (cpus_.empty()) add("isolation", Verdict::kNote, "each lane alone on its CPU", "lanes float", fix);
    else if (!shared.empty()) add("isolation", Verdict::kWarning, "each lane alone on its CPU", "not isolated: CPU " + list_of(shared), fix);
    else add("isolation", Verdict::kOk, "each lane alone on its CPU", "isolated");
  }

  void check_clock() {
    std::string flags;
    std::ifstream cpuinfo{path("/proc/cpuinfo")};
    for (std::string line; flags.empty() && std::getline(cpuinfo, line);) {
      if (line.starts_with("flags")) flags = line + " ";
    }
    const bool is_invariant = flags.find(" constant_tsc ") != std::string::npos && flags.find(" nonstop_tsc ") != std::string::npos;
    const std::string source = read_line(path("/sys/devices/system/clocksource/clocksource0/current_clocksource")).value_or("unknown");
    const bool is_good = is_invariant && (source == "tsc" || source == "kvm-clock" || source == "hyperv_clocksource_tsc_page");
    add("clock", is_good ? Verdict::kOk : Verdict::kWarning, "invariant TSC, clock source without system calls",
        std::string{is_invariant ? "invariant TSC" : "no invariant TSC"} + ", clock source " + source,
        is_good ? "" : "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource; boot with tsc=reliable");
  }

  void check_governor() {
    std::string slow;
    bool is_known = false;
    for (const std::uint32_t cpu : cpus_.empty() ? host_.machine.allowed.cpus : cpus_) {
      const auto governor = read_line(path(fmt::format("/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor", cpu)));
      is_known = is_known || governor.has_value();
      if (governor && *governor != "performance") slow += fmt::format("{}CPU {} {}", slow.empty() ? "" : ", ", cpu, *governor);
    }
    if (!is_known) return add("governor", Verdict::kOk, "performance", "this kernel does not change frequencies");
    add("governor", slow.empty() ? Verdict::kOk : Verdict::kWarning, "performance", slow.empty() ? "performance" : slow,
        slow.empty() ? "" : "cpupower frequency-set --governor performance");
  }

  // What the data plane asks for at start (pmd::packet_memory_bytes).
  [[nodiscard]] std::uint64_t packet_memory() const {
    const auto lanes = static_cast<std::uint32_t>(std::max<std::size_t>({config_.dataplane.lanes.size(), cpus_.size(), 1}));
    return pmd::packet_memory_bytes(ports_, pmd::plan_pools(ports_, lanes, config_.dataplane.packet_buffers));
  }

  void check_hugepages() {
    const std::uint64_t need = packet_memory();
    std::uint64_t free_bytes = 0;
    for (const std::uint64_t kib : {2048U, 1048576U}) {
      const auto pages = read_line(path(fmt::format("/sys/kernel/mm/hugepages/hugepages-{}kB/free_hugepages", kib)));
      if (pages) free_bytes = std::max<std::uint64_t>(free_bytes, std::strtoull(pages->c_str(), nullptr, 10) * kib * 1024);
    }
    const std::string wanted = mebibytes(need) + " of packet buffers on hugepages";
    const std::string fix = fmt::format("sysctl -w vm.nr_hugepages={}", (need + kHugepage - 1) / kHugepage + 8);
    const std::string found = mebibytes(free_bytes) + " free";
    if (config_.dataplane.hugepages == config::Hugepages::kOff) return add("hugepages", Verdict::kNote, "none: dataplane.hugepages is off", found);
    if (free_bytes >= need) return add("hugepages", Verdict::kOk, wanted, found);
    const bool is_must = config_.dataplane.hugepages == config::Hugepages::kOn;
    add("hugepages", is_must ? Verdict::kProblem : Verdict::kWarning, wanted, found + (is_must ? "" : "; ordinary pages will be used"), fix);
  }

  void check_transparent_hugepages() {
    const auto line = read_line(path("/sys/kernel/mm/transparent_hugepage/enabled"));
    if (!line) return add("transparent hugepages", Verdict::kOk, "madvise or never", "not in this kernel");
    const std::size_t begin = line->find('[') + 1;
    const std::string mode = line->substr(begin, line->find(']') - begin);
    const bool is_bad = mode == "always";
    add("transparent hugepages", is_bad ? Verdict::kWarning : Verdict::kOk, "madvise or never", mode,
        is_bad ? "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled" : "");
  }

  [[nodiscard]] int node_of_cpu(std::uint32_t cpu) const {
    for (int node = 0; exists(fmt::format("/sys/devices/system/node/node{}", node)); ++node) {
      if (exists(fmt::format("/sys/devices/system/node/node{}/cpu{}", node, cpu))) return node;
    }
    return 0;
  }

  void check_numa() {
    std::vector<std::uint32_t> nodes;
    for (const std::uint32_t cpu : cpus_) {
      const auto node = static_cast<std::uint32_t>(node_of_cpu(cpu));
      if (std::find(nodes.begin(), nodes.end(), node) == nodes.end()) nodes.push_back(node);
    }
    std::string remote;
    for (const pmd::PortOptions& port : ports_) {
      if (port.kind != shm::PortKind::kPci) continue;
      const auto node = read_line(path("/sys/bus/pci/devices/" + port.device + "/numa_node"));
      if (!node || node->starts_with("-")) continue;
      const auto number = static_cast<std::uint32_t>(std::strtoul(node->c_str(), nullptr, 10));
      if (!nodes.empty() && std::find(nodes.begin(), nodes.end(), number) == nodes.end()) remote += fmt::format("; port {} is on node {}", port.name, number);
    }
    const bool is_bad = nodes.size() > 1 || !remote.empty();
    add("numa", is_bad ? Verdict::kWarning : Verdict::kOk, "lanes and devices on one node",
        (nodes.empty() ? "lanes float" : "lanes on node " + list_of(nodes)) + remote, is_bad ? "name CPUs of the device's node in dataplane.lanes" : "");
  }

  void check_shared_memory() {
    std::uint64_t need = kHeadroom_bytes;
    for (const config::LogPool& pool : config_.memory.pool) need += pool.count * 3 * pool.term_length_bytes;
    const config::ControlPlane& control = config_.control_plane;
    need += control.to_driver_buffer_bytes + control.to_clients_buffer_bytes + control.error_log_bytes + std::uint64_t{control.counters} * (128 + 512);
    const bool is_enough = host_.shm_free_bytes >= need;
    add("shared memory", is_enough ? Verdict::kOk : Verdict::kProblem, mebibytes(need) + " where the instance directory is", mebibytes(host_.shm_free_bytes) + " free",
        is_enough ? "" : fmt::format("mount -o remount,size={}M /dev/shm, or smaller memory.pool", (2 * need) >> 20));
  }

  void check_user() {
    const std::string& user = config_.instance.user;
    if (user.empty()) return;
    const struct passwd* const entry = ::getpwnam(user.c_str());
    if (entry == nullptr) return add("user", Verdict::kProblem, "user " + user, "no such user", "useradd --system " + user);
    const bool is_able = host_.user_id == 0 || host_.user_id == entry->pw_uid;
    add("user", is_able ? Verdict::kOk : Verdict::kProblem, fmt::format("root, or {} ({})", user, entry->pw_uid), fmt::format("user {}", host_.user_id),
        is_able ? "" : "start as root, or leave instance.user empty");
  }

  void check_limits() {
    bool needs_lock = false;
    for (const pmd::PortOptions& port : ports_) needs_lock = needs_lock || port.kind == shm::PortKind::kPci || port.kind == shm::PortKind::kAfXdp;
    const std::string found = host_.memlock_bytes == UINT64_MAX ? "unlimited" : human_bytes(static_cast<double>(host_.memlock_bytes));
    const bool is_short = needs_lock && host_.memlock_bytes < packet_memory();
    add("memlock", is_short ? Verdict::kProblem : Verdict::kOk, needs_lock ? mebibytes(packet_memory()) + " for devices" : "nothing: no device needs locked memory", found,
        is_short ? "LimitMEMLOCK=infinity in the unit; ulimit -l unlimited" : "");
    const bool is_few = host_.file_count < kFilesWanted;
    add("open files", is_few ? Verdict::kWarning : Verdict::kOk, std::to_string(kFilesWanted), host_.file_count == UINT64_MAX ? "unlimited" : std::to_string(host_.file_count),
        is_few ? fmt::format("LimitNOFILE={0} in the unit; ulimit -n {0}", kFilesWanted) : "");
  }

  void check_port(const pmd::PortOptions& port) {
    const std::string item = "port " + port.name;
    switch (port.kind) {
      case shm::PortKind::kPci: return check_pci(item, port.device);
      case shm::PortKind::kAfPacket:
      case shm::PortKind::kAfXdp: {
        const bool is_there = exists("/sys/class/net/" + port.device);
        return add(item, is_there ? Verdict::kOk : Verdict::kProblem, "interface " + port.device + ", CAP_NET_RAW", is_there ? "there" : "no such interface",
                   is_there ? "" : "ip link show lists those that are there");
      }
      case shm::PortKind::kTap: {
        const bool is_there = exists("/dev/net/tun");
        return add(item, is_there ? Verdict::kOk : Verdict::kProblem, "/dev/net/tun, CAP_NET_ADMIN", is_there ? "there" : "no /dev/net/tun", is_there ? "" : "modprobe tun");
      }
      default: return;  // needs nothing of the machine
    }
  }

  void check_pci(const std::string& item, const std::string& device) {
    const std::string folder = "/sys/bus/pci/devices/" + device;
    if (!exists(folder)) return add(item, Verdict::kProblem, "PCI device " + device, "no such device", "lspci -D lists those that are there");
    std::error_code error;
    const auto link = std::filesystem::read_symlink(path(folder + "/driver"), error);
    const std::string driver = error ? "no driver" : link.filename().string();
    const std::string need = device + " on vfio-pci, in an IOMMU group";
    if (driver.starts_with("mlx")) return add(item, Verdict::kOk, device + " on its kernel driver", driver);  // bifurcated: shares the device with the kernel
    if (driver != "vfio-pci") {
      return add(item, Verdict::kProblem, need, "on " + driver, fmt::format("dpdk-devbind.py --bind=vfio-pci {}", device));
    }
    const auto group = std::filesystem::read_symlink(path(folder + "/iommu_group"), error);
    if (error) return add(item, Verdict::kProblem, need, "no IOMMU group", "boot with intel_iommu=on iommu=pt (or amd_iommu=on)");
    const std::string node = "/dev/vfio/" + group.filename().string();
    const bool is_ours = ::access(path(node).c_str(), R_OK | W_OK) == 0;
    add(item, is_ours ? Verdict::kOk : Verdict::kProblem, need, is_ours ? "vfio-pci, " + node : "no access to " + node, is_ours ? "" : fmt::format("chown <user> {}", node));
  }

  const config::Config& config_;
  const Host& host_;
  std::vector<pmd::PortOptions> ports_;
  std::vector<std::uint32_t> cpus_;  // of pinned lanes
  std::vector<Finding> findings_;
};

ClockGap watch_clock(std::uint32_t cpu, std::int64_t duration_ns) {
  ClockGap gap{.cpu = cpu};
  if (!core::pin_this_thread(core::CpuSet{{cpu}})) return gap;
  std::int64_t before = monotonic_ns();
  for (const std::int64_t end = before + duration_ns; before < end;) {
    const std::int64_t now = monotonic_ns();
    gap.longest_ns = std::max(gap.longest_ns, now - before);
    gap.count += now - before > kClockGap_ns ? 1 : 0;
    before = now;
  }
  return gap;
}

}  // namespace

Host this_host(const std::string& instance_directory) {
  Host host;
  host.machine = core::read_machine();
  host.memlock_bytes = limit_of(RLIMIT_MEMLOCK);
  host.file_count = limit_of(RLIMIT_NOFILE);
  host.user_id = ::geteuid();
  struct statvfs space {};
  std::filesystem::path directory = instance_directory;
  while (directory.has_relative_path() && ::statvfs(directory.c_str(), &space) != 0) directory = directory.parent_path();
  host.shm_free_bytes = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
  return host;
}

std::vector<Finding> check_host(const config::Config& config, const Host& host) { return Checker{config, host}.run(); }

std::vector<ClockGap> measure_clock_gaps(std::span<const std::uint32_t> cpus, std::int64_t duration_ns) {
  std::vector<ClockGap> gaps(cpus.size());
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < cpus.size(); ++i) threads.emplace_back([&, i] { gaps[i] = watch_clock(cpus[i], duration_ns); });
  threads.clear();  // joins
  return gaps;
}

Finding judge(const ClockGap& gap, bool is_isolated) {
  Finding finding{fmt::format("clock gaps, CPU {}", gap.cpu), Verdict::kOk, "none above " + human_duration(kClockGap_ns),
                  fmt::format("longest {}, {} above {}", human_duration(static_cast<double>(gap.longest_ns)), gap.count, human_duration(kClockGap_ns)), {}};
  if (gap.longest_ns <= kClockGap_ns) return finding;
  finding.verdict = Verdict::kWarning;
  finding.fix = is_isolated ? fmt::format("nohz_full={0} rcu_nocbs={0}; move interrupts away from CPU {0}", gap.cpu)
                            : fmt::format("boot with isolcpus={0} nohz_full={0} rcu_nocbs={0}", gap.cpu);
  return finding;
}

}  // namespace thalweg::cli
