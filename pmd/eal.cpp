#include "pmd/eal.hpp"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "pmd/arrival.hpp"

namespace thalweg::pmd {
namespace {

constexpr std::uint64_t kMebibyte = 1U << 20;

std::atomic_flag eal_was_started = ATOMIC_FLAG_INIT;

// DPDK keeps the stream pointer for good, so the hook outlives every Eal object.
struct LogHook {
  LogSink sink{};
  void* opaque{};
  LogLevel level{};
};
LogHook log_hook;
std::atomic<LogListener> log_listener{};
std::atomic<bool> is_memory_needed_to_the_end{};
thread_local bool is_log_quiet = false;

LogLevel from_rte_level(int level) noexcept {
  if (level <= static_cast<int>(RTE_LOG_ERR)) return LogLevel::kError;
  if (level == static_cast<int>(RTE_LOG_WARNING)) return LogLevel::kWarning;
  return level <= static_cast<int>(RTE_LOG_INFO) ? LogLevel::kInfo : LogLevel::kDebug;
}

const char* rte_level_name(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::kError: return "error";
    case LogLevel::kWarning: return "warning";
    case LogLevel::kInfo: return "notice";  // DPDK's "info" is our debug: it lists every probe
    case LogLevel::kDebug: break;
  }
  return "debug";
}

void write_to_stderr(void* /*opaque*/, LogLevel /*level*/, const char* text, std::size_t length) {
  std::fprintf(stderr, "%.*s\n", static_cast<int>(length), text);
}

ssize_t write_log(void* /*cookie*/, const char* text, std::size_t length) {
  if (const LogListener listener = log_listener.load(std::memory_order_acquire); listener != nullptr)
    listener(static_cast<std::uint32_t>(rte_log_cur_msg_logtype()));
  const LogLevel level = from_rte_level(rte_log_cur_msg_loglevel());
  std::size_t kept = length;
  while (kept != 0 && (text[kept - 1] == '\n' || text[kept - 1] == '\r')) --kept;
  if (kept != 0 && level <= log_hook.level && !is_log_quiet) log_hook.sink(log_hook.opaque, level, text, kept);
  return static_cast<ssize_t>(length);
}

// Must run before rte_eal_init, or its first lines go to stderr.
bool redirect_log(const EalOptions& options) {
  log_hook = {.sink = options.log_sink != nullptr ? options.log_sink : write_to_stderr,
              .opaque = options.log_opaque,
              .level = options.log_level};
  cookie_io_functions_t functions{};
  functions.write = write_log;
  std::FILE* const stream = fopencookie(&log_hook, "w", functions);
  if (stream == nullptr) return false;
  std::setvbuf(stream, nullptr, _IOLBF, 1024);
  return rte_openlog_stream(stream) == 0;
}

std::vector<unsigned> allowed_cpus(const cpu_set_t& set) {
  std::vector<unsigned> cpus;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

// DPDK's own rule for the directory it makes, which it empties but never removes.
std::string runtime_directory(const std::string& file_prefix) {
  std::string base = "/tmp";
  if (::getuid() == 0) {
    base = "/var/run";
  } else if (const char* const user_directory = std::getenv("XDG_RUNTIME_DIR"); user_directory != nullptr) {
    base = user_directory;
  }
  return base + "/dpdk/" + file_prefix;
}

void remove_directory(const std::string& path) {
  if (DIR* const directory = ::opendir(path.c_str()); directory != nullptr) {
    while (const dirent* const entry = ::readdir(directory)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") ::unlink((path + "/" + name).c_str());
    }
    ::closedir(directory);
  }
  ::rmdir(path.c_str());
}

tl::unexpected<Error> init_failure(const EalOptions& options, bool hugepages) {
  const int code = rte_errno;
  std::string hint = "the lines of DPDK above say more; with logging.level: debug, all of them";
  ErrorCode kind = ErrorCode::kGeneric;
  if (code == EACCES || code == EPERM) {
    kind = ErrorCode::kPermission;
    hint = "hugepages and PCI devices need root, or access to /dev/hugepages and /dev/vfio";
  } else if (code == ENOMEM || code == ENOEXEC) {
    kind = ErrorCode::kNoSpace;
    hint = hugepages ? "reserve hugepages (sysctl vm.nr_hugepages=N) or set dataplane.hugepages: off" : "lower dataplane.packet-buffers";
  }
  return fail(kind,
              "DPDK did not start with " + std::to_string(options.memory_bytes / kMebibyte) + " MiB of " +
                  (hugepages ? "hugepages: " : "ordinary pages: ") + rte_strerror(code),
              hint);
}

Result<bool> choose_hugepages(const EalOptions& options) {
  if (options.memory == EalMemory::kOrdinaryPages) return false;
  const std::uint64_t available = free_hugepage_bytes();
  if (available >= options.memory_bytes) return true;
  if (options.memory == EalMemory::kAuto) return false;
  return fail(ErrorCode::kNoSpace,
              "hugepages: " + std::to_string(options.memory_bytes / kMebibyte) + " MiB needed, " + std::to_string(available / kMebibyte) +
                  " MiB free",
              "sysctl vm.nr_hugepages=" + std::to_string(options.memory_bytes / (2 * kMebibyte) + 8) + " or set dataplane.hugepages: auto");
}

}  // namespace

void set_log_listener(LogListener listener) noexcept { log_listener.store(listener, std::memory_order_release); }

void keep_eal_memory_to_the_end() noexcept { is_memory_needed_to_the_end.store(true); }

QuietLog::QuietLog() noexcept { is_log_quiet = true; }
QuietLog::~QuietLog() { is_log_quiet = false; }

std::uint64_t free_hugepage_bytes() {
  std::uint64_t best = 0;
  for (const std::uint64_t page_kib : {std::uint64_t{2048}, std::uint64_t{1048576}}) {
    const std::string path = "/sys/kernel/mm/hugepages/hugepages-" + std::to_string(page_kib) + "kB/free_hugepages";
    std::FILE* const file = std::fopen(path.c_str(), "re");
    if (file == nullptr) continue;
    unsigned long long pages = 0;
    if (std::fscanf(file, "%llu", &pages) == 1) best = std::max<std::uint64_t>(best, pages * page_kib * 1024);
    std::fclose(file);
  }
  return best;
}

std::vector<std::string> eal_arguments(const EalOptions& options, bool hugepages, const std::vector<unsigned>& cpus,
                                       const std::string& file_prefix) {
  std::vector<std::string> arguments{"thalweg", "--iova-mode=va", "--no-telemetry", "--file-prefix", file_prefix};
  // --no-huge and --in-memory exclude each other; both leave nothing behind and let instances run side by side.
  if (hugepages) {
    arguments.emplace_back("--in-memory");
  } else {
    arguments.emplace_back("--no-huge");
    arguments.emplace_back("--no-shconf");
  }
  arguments.emplace_back("-m");
  arguments.push_back(std::to_string((options.memory_bytes + kMebibyte - 1) / kMebibyte));
  if (options.pci_addresses.empty()) arguments.emplace_back("--no-pci");
  for (const std::string& address : options.pci_addresses) {
    arguments.emplace_back("-a");
    arguments.push_back(address);
  }
  std::string lcore = "0@(";
  for (const unsigned cpu : cpus) {
    if (lcore.back() != '(') lcore += ',';
    lcore += std::to_string(cpu);
  }
  arguments.emplace_back("--lcores");
  arguments.push_back(lcore + ")");
  arguments.emplace_back("--main-lcore");
  arguments.emplace_back("0");
  arguments.push_back(std::string{"--log-level="} + rte_level_name(options.log_level));
  return arguments;
}

Result<std::unique_ptr<Eal>> Eal::start(const EalOptions& options) {
  const Result<bool> hugepages = choose_hugepages(options);
  if (!hugepages) return tl::unexpected<Error>{hugepages.error()};
  cpu_set_t affinity;
  CPU_ZERO(&affinity);
  if (::pthread_getaffinity_np(::pthread_self(), sizeof affinity, &affinity) != 0)
    return fail(ErrorCode::kGeneric, "cannot read the calling thread's CPU affinity");
  if (eal_was_started.test_and_set())
    return fail(ErrorCode::kInUse, "DPDK was started before in this process", "DPDK starts once per process: start a new process");
  if (!redirect_log(options)) return fail(ErrorCode::kGeneric, "cannot redirect DPDK's log");

  std::unique_ptr<Eal> eal{new Eal};
  const std::string file_prefix = options.instance + "-" + std::to_string(::getpid());
  eal->uses_hugepages_ = *hugepages;
  eal->arguments_ = eal_arguments(options, *hugepages, allowed_cpus(affinity), file_prefix);
  eal->runtime_directory_ = runtime_directory(file_prefix);

  std::vector<std::string> copies = eal->arguments_;  // DPDK permutes argv and may write into it
  std::vector<char*> argv;
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const int parsed = rte_eal_init(static_cast<int>(argv.size() - 1), argv.data());
  ::pthread_setaffinity_np(::pthread_self(), sizeof affinity, &affinity);  // cannot fail: it is what we had
  if (parsed < 0) return init_failure(options, *hugepages);
  if (auto registered = register_arrivals(); !registered) return tl::unexpected<Error>{std::move(registered.error())};
  return eal;
}

Eal::~Eal() {
  if (!is_memory_needed_to_the_end.load()) rte_eal_cleanup();
  remove_directory(runtime_directory_);
}

Eal::MemoryReport Eal::memory() const {
  MemoryReport report;
  for (int socket = 0; socket < RTE_MAX_NUMA_NODES; ++socket) {
    rte_malloc_socket_stats stats{};
    if (rte_malloc_get_socket_stats(socket, &stats) != 0) continue;
    report.total_bytes += stats.heap_totalsz_bytes;
    report.used_bytes += stats.heap_allocsz_bytes;
    report.largest_free_bytes = std::max<std::uint64_t>(report.largest_free_bytes, stats.greatest_free_size);
  }
  return report;
}

Result<std::unique_ptr<LaneRegistration>> LaneRegistration::create() {
  if (rte_thread_register() != 0)
    return fail(ErrorCode::kNoSpace, std::string{"cannot register a lane with DPDK: "} + rte_strerror(rte_errno),
                "configure at most " + std::to_string(RTE_MAX_LCORE - 1) + " lanes");
  return std::unique_ptr<LaneRegistration>{new LaneRegistration};
}

LaneRegistration::~LaneRegistration() { rte_thread_unregister(); }

}  // namespace thalweg::pmd
