#pragma once
#include <atomic>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

#include "dataplane/base/bytes.hpp"

namespace thalweg::pmd {

// Keeps a lane out of a device while the steward restarts it. The lane pays two plain stores and a load; the steward pays for the ordering
// with membarrier(2), which runs a full fence on every lane of the process.
class alignas(kCacheLine) LaneGate {
 public:
  // Lane. False: the gate is closed, stay out. Each true is followed by leave().
  [[nodiscard]] bool enter() noexcept {
    is_inside_.store(true, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);  // compiler only; close() supplies the fence of the CPU
    if (is_open_.load(std::memory_order_acquire)) return true;  // pairs with open()
    is_inside_.store(false, std::memory_order_relaxed);
    return false;
  }
  void leave() noexcept { is_inside_.store(false, std::memory_order_release); }  // pairs with close()

  // Steward. The device may be used from now on.
  void open() noexcept { is_open_.store(true, std::memory_order_release); }
  // Steward. No lane is inside when it returns; waits for at most one burst.
  void close() noexcept {
    is_open_.store(false, std::memory_order_relaxed);
    fence_all_lanes();
    while (is_inside_.load(std::memory_order_acquire)) std::this_thread::yield();
  }

 private:
  // After it, a lane has either seen the closed gate or shows that it is inside.
  static void fence_all_lanes() noexcept {
    static const bool is_registered = ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
    if (!is_registered || ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
      ::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);  // older kernels: slower, the same effect
  }
  std::atomic<bool> is_inside_{};  // one lane per gate
  std::atomic<bool> is_open_{};
};

}  // namespace thalweg::pmd
