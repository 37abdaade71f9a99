#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/base/result.hpp"
#include "dataplane/core/options.hpp"

// Which CPU each lane runs on, and which ones are left for the steward (design, section 2: `lanes: auto` works unedited on 1, 2 and 64
// CPUs and odd cpusets). Pure but for the functions named read_*().
namespace thalweg::core {

struct CpuSet {
  std::vector<std::uint32_t> cpus;     // ascending
  [[nodiscard]] bool contains(std::uint32_t cpu) const noexcept;
};

struct Machine {
  CpuSet allowed;                      // affinity mask of this process
  CpuSet isolated;                     // kernel's isolcpus
  CpuSet taken;                        // held by another exclusive lane of this machine
};

struct LanePlan {
  std::optional<std::uint32_t> cpu;    // none: floats with the steward
};
struct CpuPlan {
  std::vector<LanePlan> lanes;
  CpuSet steward;                      // never empty; shared with the lanes on a small machine
};

// `lanes` empty: auto. One lane on machines of up to 4 CPUs, else one for each isolated CPU (at most `port_count`), else one for every 4
// CPUs (at most `port_count`, at least one); CPU 0 is left to the kernel and the steward where there is a choice.
// Errors: kInvalidArgument (CPU not allowed, named twice), kInUse (exclusive and taken), kUnsupported (exclusive and not isolated).
[[nodiscard]] Result<CpuPlan> plan_cpus(const Machine& machine, std::span<const LaneOptions> lanes, CpuMode mode, std::uint32_t port_count);

// "0-3,8,10-11" as the kernel writes it; nullopt when malformed.
[[nodiscard]] std::optional<CpuSet> parse_cpu_list(std::string_view text);

// What this process may use now: sched_getaffinity and /sys/devices/system/cpu/isolated.
[[nodiscard]] Machine read_machine();

// Exclusive lanes hold a lock per CPU (abstract UNIX socket), so that two instances never share an exclusive core. Returns the descriptor
// that holds it; kInUse when another process does.
[[nodiscard]] Result<int> lock_cpu(std::uint32_t cpu);

// Pins the calling thread. kInvalidArgument when the kernel refuses.
[[nodiscard]] Result<void> pin_this_thread(const CpuSet& cpus);

}  // namespace thalweg::core
