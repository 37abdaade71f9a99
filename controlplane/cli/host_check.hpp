#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "config/schema/config.hpp"
#include "dataplane/core/cpu_plan.hpp"

// What a configuration needs of its machine, what is there, and the command that mends the difference.
namespace thalweg::cli {

enum class Verdict : std::uint8_t { kOk, kNote, kWarning, kProblem };  // note: fine for tests; warning: works, slower; problem: will not start

struct Finding {
  std::string item;    // "hugepages", "port a"
  Verdict verdict{Verdict::kOk};
  std::string need;
  std::string found;
  std::string fix;     // a command or a key of the configuration; "" = nothing to do
};

// The machine as files show it: `root` is put in front of /proc, /sys and /dev, so that tests describe other machines.
struct Host {
  std::string root;
  core::Machine machine;
  std::uint64_t memlock_bytes{};     // RLIMIT_MEMLOCK, UINT64_MAX = unlimited
  std::uint64_t file_count{};        // RLIMIT_NOFILE
  std::uint32_t user_id{};           // effective
  std::uint64_t shm_free_bytes{};    // free where the instance directory will be
};
[[nodiscard]] Host this_host(const std::string& instance_directory);

// Everything that can be told without disturbing the machine. Precondition: `config` is valid.
[[nodiscard]] std::vector<Finding> check_host(const config::Config& config, const Host& host);

// The longest time for which the kernel or the hardware took a CPU away from a thread that only reads the clock.
struct ClockGap {
  std::uint32_t cpu{};
  std::int64_t longest_ns{};
  std::uint64_t count{};       // gaps of more than kClockGap_ns
};
inline constexpr std::int64_t kClockGap_ns = 10'000;
// One thread on each of the CPUs, all at once, for `duration_ns`.
[[nodiscard]] std::vector<ClockGap> measure_clock_gaps(std::span<const std::uint32_t> cpus, std::int64_t duration_ns);
[[nodiscard]] Finding judge(const ClockGap& gap, bool is_isolated);

}  // namespace thalweg::cli
