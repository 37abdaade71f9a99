#include "dataplane/core/crash_guard.hpp"

#include <array>
#include <csignal>

namespace thalweg::core {
namespace {

constexpr std::array kCrashSignals{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

struct Guard {
  shm::Registry* registry{};
  const StreamTables* tables{};
  std::array<struct sigaction, kCrashSignals.size()> before{};  // the default, or a sanitizer's own handler
};
Guard guard;
thread_local const std::atomic<std::uint32_t>* my_work = nullptr;

// The log whose mapping contains `address`, or kNoSlot.
std::uint32_t log_at(const StreamTables& tables, const void* address) noexcept {
  const auto* const at = static_cast<const std::byte*>(address);
  for (std::uint32_t i = 0; i < shm::kLogsMax; ++i) {
    const shm::LogBuffer& log = tables.logs[i];
    if (log.is_mapped() && at >= log.base() && at < log.metadata() + shm::kLogMetadataLength) return i;
  }
  return shm::kNoSlot;
}

template <typename Slot>
bool is_on(const Slot& slot, std::uint32_t log) noexcept {
  return slot.desired.log == log && slot.desired.state.load(std::memory_order_relaxed) != shm::Desired::kFree;
}

template <typename Slot>
void count(Slot& slot) noexcept {
  slot.observed.crashes.add(slot.desired.generation);
}

template <typename Slots>
bool count_for_log(Slots& slots, std::uint32_t log) noexcept {
  for (auto& slot : slots) {
    if (!is_on(slot, log)) continue;
    count(slot);
    return true;
  }
  return false;
}

// The stream at work, unless the crash is about the log of another one. True: counted.
template <typename Slots>
bool count_for_work(Slots& slots, std::uint32_t index, std::uint32_t log) noexcept {
  if (index >= slots.size() || (log != shm::kNoSlot && !is_on(slots[index], log))) return false;
  count(slots[index]);
  return true;
}

void on_crash(int signal, siginfo_t* info, void* /*context*/) {
  const bool has_address = (signal == SIGSEGV || signal == SIGBUS) && info->si_code > 0;  // sent by the kernel, not by kill(2)
  count_crash(*guard.registry, *guard.tables, has_address ? info->si_addr : nullptr, my_work == nullptr ? 0 : my_work->load(std::memory_order_relaxed));
  for (std::size_t i = 0; i < kCrashSignals.size(); ++i) {
    if (kCrashSignals[i] == signal) ::sigaction(signal, &guard.before[i], nullptr);
  }
  static_cast<void>(::raise(signal));  // blocked until we return; abort() and a fault would raise it again, but a signal that was sent would not
}

}  // namespace

void catch_crashes(shm::Registry& registry, const StreamTables& tables) {
  guard.registry = &registry;
  guard.tables = &tables;
  struct sigaction action{};
  action.sa_sigaction = on_crash;
  action.sa_flags = SA_SIGINFO;
  for (std::size_t i = 0; i < kCrashSignals.size(); ++i) ::sigaction(kCrashSignals[i], &action, &guard.before[i]);
}

void work_of_this_thread(const std::atomic<std::uint32_t>* in_work) noexcept { my_work = in_work; }

void count_crash(shm::Registry& registry, const StreamTables& tables, const void* address, std::uint32_t in_work) noexcept {
  const std::uint32_t log = address == nullptr ? shm::kNoSlot : log_at(tables, address);
  const shm::SlotRef ref = shm::SlotRef::unpack(in_work);  // a relay and its image have one log: who was at work on it decides
  if (ref.kind == shm::SlotKind::kPublication && count_for_work(registry.publications, ref.index, log)) return;
  if (ref.kind == shm::SlotKind::kImage && count_for_work(registry.images, ref.index, log)) return;
  if (log == shm::kNoSlot) return;
  if (!count_for_log(registry.images, log)) static_cast<void>(count_for_log(registry.publications, log));
}

}  // namespace thalweg::core
