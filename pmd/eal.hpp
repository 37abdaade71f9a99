#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/base/result.hpp"

// DPDK's environment: started once per process, from options and never from a command line. Lanes are our own threads and join it with
// LaneRegistration; only the main lcore (the caller of start()) is given to the EAL.
namespace thalweg::pmd {

enum class LogLevel : std::uint8_t { kError, kWarning, kInfo, kDebug };

// Receives one line of DPDK's log, without its newline. Called on whatever thread logs, a lane included: hand over, do not block.
using LogSink = void (*)(void* opaque, LogLevel level, const char* text, std::size_t length);

// Sees the type of every line of DPDK's log before it is filtered, on the thread that logs. At most one; steward.
using LogListener = void (*)(std::uint32_t log_type) noexcept;
void set_log_listener(LogListener listener) noexcept;

// From now on ~Eal leaves DPDK's memory to the end of the process, because its interrupt thread may look at it as long.
void keep_eal_memory_to_the_end() noexcept;

// Drops what the calling thread logs through DPDK, for a scope: a memif client that waits for its server would report an error every second.
class QuietLog {
 public:
  QuietLog() noexcept;
  ~QuietLog();
  QuietLog(const QuietLog&) = delete;
  QuietLog& operator=(const QuietLog&) = delete;
};

enum class EalMemory : std::uint8_t {
  kAuto,           // hugepages when enough of them are free, else ordinary pages
  kHugepages,      // an error when not enough are free
  kOrdinaryPages,  // works for every software port, without privileges
};

struct EalOptions {
  std::string instance{"thalweg"};          // in the file prefix, which also carries the process id
  EalMemory memory{EalMemory::kAuto};
  std::uint64_t memory_bytes{64U << 20};    // everything taken from the EAL: packet pools, rings, queues; see packet_memory_bytes()
  std::vector<std::string> pci_addresses;   // the devices this process may touch; empty = the PCI bus is not looked at
  LogLevel log_level{LogLevel::kInfo};
  LogSink log_sink{};                       // none: stderr
  void* log_opaque{};
};

// The running EAL. Destroying it cleans up and is final: a second start in one process is refused (DPDK allows one).
class Eal {
 public:
  // Starts the EAL on the calling thread and gives that thread its CPU affinity back. About 150 ms, most of it clock calibration.
  // Errors: kInUse (started before in this process), kNoSpace (hugepages or memory missing), kPermission, kGeneric.
  [[nodiscard]] static Result<std::unique_ptr<Eal>> start(const EalOptions& options);
  ~Eal();
  Eal(const Eal&) = delete;
  Eal& operator=(const Eal&) = delete;

  [[nodiscard]] bool uses_hugepages() const noexcept { return uses_hugepages_; }
  // What was given to the EAL, for the start-up log.
  [[nodiscard]] const std::vector<std::string>& arguments() const noexcept { return arguments_; }

  struct MemoryReport {
    std::uint64_t total_bytes{};
    std::uint64_t used_bytes{};
    std::uint64_t largest_free_bytes{};
  };
  // Memory of the EAL's heaps as of now. Steward.
  [[nodiscard]] MemoryReport memory() const;

 private:
  Eal() = default;
  std::vector<std::string> arguments_;
  std::string runtime_directory_;
  bool uses_hugepages_{};
};

// The arguments start() would pass: pure, so that they are tested without an EAL. `cpus` are those the main lcore may float on.
[[nodiscard]] std::vector<std::string> eal_arguments(const EalOptions& options, bool hugepages, const std::vector<unsigned>& cpus,
                                                     const std::string& file_prefix);

// Bytes free on 2 MiB and 1 GiB hugepages of this machine, 0 when there are none.
[[nodiscard]] std::uint64_t free_hugepage_bytes();

// Makes the calling thread a lane of the EAL for as long as the object lives: it gets an lcore id, and with it a packet pool cache of its own.
class LaneRegistration {
 public:
  // Errors: kNoSpace when all lcore ids are taken.
  [[nodiscard]] static Result<std::unique_ptr<LaneRegistration>> create();
  ~LaneRegistration();
  LaneRegistration(const LaneRegistration&) = delete;
  LaneRegistration& operator=(const LaneRegistration&) = delete;

 private:
  LaneRegistration() = default;
};

}  // namespace thalweg::pmd
