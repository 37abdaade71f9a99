#include "controlplane/cli/host_init.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "config/schema/convert.hpp"
#include "pmd/packet_pool.hpp"

namespace thalweg::cli {
namespace {

constexpr std::uint64_t kHugepage = 2U << 20;
constexpr std::uint64_t kSparePages = 8;  // for logs, and for what the EAL takes beside the pools
constexpr const char* kStateFile = "/run/thalweg-host-init.json";  // where only root can put a file: it says what root is to write
constexpr const char* kPages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
constexpr const char* kFreePages = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

std::optional<std::string> read_line(const Host& host, const std::string& file) {
  std::ifstream in{host.root + file};
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  return line;
}
std::uint64_t read_number(const Host& host, const std::string& file) {
  const auto line = read_line(host, file);
  return line ? std::strtoull(line->c_str(), nullptr, 10) : 0;
}

// The chosen one of "always [madvise] never", or the whole line.
std::string value_in(const std::string& line) {
  const std::size_t begin = line.find('[');
  const std::size_t end = line.find(']');
  return begin == std::string::npos || end == std::string::npos || end < begin ? line : line.substr(begin + 1, end - begin - 1);
}

// sysfs answers a wrong value when the file is closed, so both are looked at.
Result<void> write_file(const Host& host, const FileWrite& write) {
  const auto failed = [&](int error) {
    return fail_errno(error == EACCES || error == EPERM ? ErrorCode::kPermission : ErrorCode::kIo, write.command(), error, error == EACCES ? "run it as root" : "");
  };
  std::FILE* const file = std::fopen((host.root + write.file).c_str(), "we");
  if (file == nullptr) return failed(errno);
  const bool is_written = std::fputs((write.value + "\n").c_str(), file) >= 0;
  const int error = errno;
  if (std::fclose(file) != 0 || !is_written) return failed(is_written ? errno : error);
  return {};
}

// The kernel may take less without a word, such as fewer hugepages than were asked for.
Result<void> check_taken(const Host& host, const FileWrite& write) {
  const auto now = read_line(host, write.file);
  if (!now || value_in(*now) == write.value) return {};
  return fail(ErrorCode::kNoSpace, fmt::format("{}: the kernel made it {}", write.command(), value_in(*now)), "soon after the boot there is more room");
}

HostStep change(std::string why, const std::string& file, const std::string& before, std::string after) {
  return {std::move(why), {{file, std::move(after)}}, {{file, before}}};
}

class Planner {
 public:
  Planner(const config::Config& config, const Host& host) : config_{config}, host_{host}, ports_{config::port_options(config)} {}

  Result<std::vector<HostStep>> run() {
    plan_hugepages();
    plan_transparent_hugepages();
    plan_governor();
    plan_socket_buffers();
    for (const pmd::PortOptions& port : ports_) {
      if (port.kind != shm::PortKind::kPci) continue;
      if (auto planned = plan_device(port); !planned) return tl::unexpected{planned.error()};
    }
    return std::move(steps_);
  }

 private:
  [[nodiscard]] std::vector<std::uint32_t> lane_cpus() const {
    std::vector<core::LaneOptions> lanes;
    for (const config::Lane& lane : config_.dataplane.lanes) lanes.push_back({lane.cpu, lane.ports});
    std::vector<std::uint32_t> cpus;
    const auto plan = core::plan_cpus(host_.machine, lanes, core::CpuMode::kShared, static_cast<std::uint32_t>(ports_.size()));
    if (!plan) return cpus;
    for (const core::LanePlan& lane : plan->lanes) {
      if (lane.cpu) cpus.push_back(*lane.cpu);
    }
    return cpus;
  }

  void plan_hugepages() {
    if (config_.dataplane.hugepages == config::Hugepages::kOff || !read_line(host_, kPages)) return;
    const auto lanes = static_cast<std::uint32_t>(std::max<std::size_t>({config_.dataplane.lanes.size(), lane_cpus().size(), 1}));
    const std::uint64_t bytes = pmd::packet_memory_bytes(ports_, pmd::plan_pools(ports_, lanes, config_.dataplane.packet_buffers));
    const std::uint64_t wanted = (bytes + kHugepage - 1) / kHugepage;
    const std::uint64_t free = read_number(host_, kFreePages);
    if (free >= wanted) return;
    const std::uint64_t before = read_number(host_, kPages);
    const std::uint64_t more = wanted - free + kSparePages;
    steps_.push_back(change(fmt::format("hugepages: {} more for {} MiB of packet buffers", more, bytes >> 20), kPages, std::to_string(before), std::to_string(before + more)));
  }

  void plan_transparent_hugepages() {
    const std::string file = "/sys/kernel/mm/transparent_hugepage/enabled";
    const auto line = read_line(host_, file);
    if (line && value_in(*line) == "always") steps_.push_back(change("transparent hugepages: they stop threads when they are put together", file, "always", "madvise"));
  }

  void plan_governor() {
    for (const std::uint32_t cpu : lane_cpus()) {
      const std::string file = fmt::format("/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor", cpu);
      const auto before = read_line(host_, file);
      if (before && *before != "performance") steps_.push_back(change(fmt::format("governor: CPU {} is a lane's", cpu), file, *before, "performance"));
    }
  }

  // The kernel cuts a larger SO_RCVBUF or SO_SNDBUF down without a word.
  void plan_socket_buffers() {
    const auto raise = [this](const std::string& file, std::uint64_t wanted, std::string_view key) {
      const std::uint64_t before = read_number(host_, file);
      if (before == 0 || before >= wanted) return;
      steps_.push_back(change(fmt::format("socket buffers: streams.{} wants {} bytes", key, wanted), file, std::to_string(before), std::to_string(wanted)));
    };
    raise("/proc/sys/net/core/rmem_max", config_.streams.socket_rcvbuf_bytes, "socket-rcvbuf");
    raise("/proc/sys/net/core/wmem_max", config_.streams.socket_sndbuf_bytes, "socket-sndbuf");
  }

  Result<void> plan_device(const pmd::PortOptions& port) {
    const std::string device = "/sys/bus/pci/devices/" + port.device;
    const std::string vfio = "/sys/bus/pci/drivers/vfio-pci";
    std::error_code error;
    if (!std::filesystem::exists(host_.root + device, error)) {
      return fail(ErrorCode::kNotFound, fmt::format("port {}: no PCI device {}", port.name, port.device), "lspci -D lists those that are there");
    }
    const auto link = std::filesystem::read_symlink(host_.root + device + "/driver", error);
    const std::string driver = error ? "" : link.filename().string();
    if (driver == "vfio-pci" || driver.starts_with("mlx")) return {};  // mlx: shares the device with its kernel driver
    if (!std::filesystem::exists(host_.root + vfio, error)) return fail(ErrorCode::kNotFound, "the vfio-pci driver is not loaded", "modprobe vfio-pci");
    HostStep step{fmt::format("port {}: {} to vfio-pci{}", port.name, port.device, driver.empty() ? "" : ", from " + driver), {}, {}};
    const FileWrite probe{"/sys/bus/pci/drivers_probe", port.device};
    step.writes.push_back({device + "/driver_override", "vfio-pci"});
    if (!driver.empty()) step.writes.push_back({"/sys/bus/pci/drivers/" + driver + "/unbind", port.device});
    step.writes.push_back(probe);
    step.undo = {{vfio + "/unbind", port.device}, {device + "/driver_override", ""}, probe};
    steps_.push_back(std::move(step));
    return {};
  }

  const config::Config& config_;
  const Host& host_;
  std::vector<pmd::PortOptions> ports_;
  std::vector<HostStep> steps_;
};

nlohmann::json json_of(const std::vector<FileWrite>& writes) {
  nlohmann::json array = nlohmann::json::array();
  for (const FileWrite& write : writes) array.push_back({{"file", write.file}, {"value", write.value}});
  return array;
}
std::vector<FileWrite> writes_of(const nlohmann::json& array) {
  std::vector<FileWrite> writes;
  for (const auto& write : array) writes.push_back({write.at("file").get<std::string>(), write.at("value").get<std::string>()});
  return writes;
}

}  // namespace

Result<std::vector<HostStep>> plan_host(const config::Config& config, const Host& host) { return Planner{config, host}.run(); }

Result<void> apply(const HostStep& step, const Host& host) {
  for (std::size_t i = 0; i < step.writes.size(); ++i) {
    const bool is_setting = step.writes.size() == 1;
    auto written = write_file(host, step.writes[i]);
    if (written && is_setting) written = check_taken(host, step.writes[i]);
    if (written) continue;
    // What may have happened is taken back, as far as it goes.
    for (const FileWrite& write : i == 0 && !is_setting ? std::vector<FileWrite>{} : step.undo) static_cast<void>(write_file(host, write));
    return written;
  }
  return {};
}

Result<std::vector<std::string>> undo(const HostStep& step, const Host& host) {
  std::vector<std::string> left;
  // A setting of one file is put back only where it still is as we left it; devices have no such value to compare.
  const bool is_setting = step.writes.size() == 1;
  for (const FileWrite& write : step.undo) {
    const auto now = read_line(host, write.file);
    if (is_setting && now && value_in(*now) != step.writes.front().value) {
      left.push_back(write.command());
    } else if (auto written = write_file(host, write); !written) {
      return tl::unexpected{written.error()};
    }
  }
  return left;
}

Result<void> save_steps(const std::vector<HostStep>& steps, const Host& host) {
  const std::filesystem::path path = host.root + kStateFile;
  nlohmann::json all = nlohmann::json::array();
  for (const HostStep& step : steps) all.push_back({{"why", step.why}, {"writes", json_of(step.writes)}, {"undo", json_of(step.undo)}});
  std::ofstream out{path};
  out << all.dump(1) << '\n';
  out.close();
  if (!out) return fail(ErrorCode::kIo, fmt::format("write {}", path.string()), "without it `thalweg host undo` knows nothing");
  return {};
}

Result<std::vector<HostStep>> load_steps(const Host& host) {
  std::ifstream in{host.root + kStateFile};
  std::vector<HostStep> steps;
  if (!in) return steps;
  try {
    const auto all = nlohmann::json::parse(in);
    for (const auto& step : all) steps.push_back({step.at("why").get<std::string>(), writes_of(step.at("writes")), writes_of(step.at("undo"))});
  } catch (const nlohmann::json::exception& wrong) {
    return fail(ErrorCode::kIo, fmt::format("{}{}: {}", host.root, kStateFile, wrong.what()), "the settings are gone with the next boot in any case");
  }
  return steps;
}

void forget_steps(const Host& host) {
  std::error_code error;
  std::filesystem::remove(host.root + kStateFile, error);
}

}  // namespace thalweg::cli
