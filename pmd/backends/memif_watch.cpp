#include "pmd/backends/memif_watch.hpp"

#include <rte_alarm.h>
#include <rte_interrupts.h>
#include <rte_log.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "pmd/interrupt_thread.hpp"
#include "pmd/eal.hpp"

namespace thalweg::pmd {
namespace {

// All memif devices of the process: the log line does not say whose socket spoke. A control message is rare, and costs the others some
// microseconds.
struct Watch {
  std::mutex mutex;
  std::vector<MemifWatched*> devices;
  std::atomic<std::uint32_t> log_type{UINT32_MAX};
  bool is_alarm_set{};
};
Watch& watch() {
  static Watch the_watch;
  return the_watch;
}

void on_driver_done(void* /*argument*/) {
  const std::lock_guard lock{watch().mutex};
  watch().is_alarm_set = false;
  for (MemifWatched* const device : watch().devices) device->let_lanes_in_if_up();
}

void on_log_line(std::uint32_t log_type) noexcept {
  if (log_type != watch().log_type.load(std::memory_order_relaxed) || rte_thread_is_intr() == 0) return;
  if (is_interrupt_thread_job()) return;  // ours, and the port that asked for it has put its own lanes out
  const std::lock_guard lock{watch().mutex};
  for (MemifWatched* const device : watch().devices) device->put_lanes_out();
  if (!watch().is_alarm_set) watch().is_alarm_set = rte_eal_alarm_set(1, on_driver_done, nullptr) == 0;
}

}  // namespace

void watch_memif(MemifWatched& device) {
  // The lines that matter are of level debug; what the operator did not ask for is dropped behind the listener.
  const int type = rte_log_register("pmd.net.memif");
  if (type >= 0) {
    rte_log_set_global_level(RTE_LOG_DEBUG);
    rte_log_set_level(static_cast<std::uint32_t>(type), RTE_LOG_DEBUG);
    watch().log_type.store(static_cast<std::uint32_t>(type), std::memory_order_relaxed);
  }
  set_log_listener(on_log_line);
  const std::lock_guard lock{watch().mutex};
  watch().devices.push_back(&device);
}

void unwatch_memif(MemifWatched& device) {
  const std::lock_guard lock{watch().mutex};
  std::erase(watch().devices, &device);
}

}  // namespace thalweg::pmd
