#include "tests/support/store_steps.hpp"

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>

namespace thalweg::test {
namespace {

// Memory is read-only while it is armed. A store faults: its page is opened, the processor is told to trap behind the next instruction, and then
// the page is closed again.
constexpr std::uintptr_t kPage = 4096;
constexpr greg_t kTrapFlag = 0x100;
constexpr std::size_t kRegionsMax = 8;
constexpr std::size_t kOpenMax = 4;  // pages that one instruction writes to

struct State {
  std::array<std::span<std::byte>, kRegionsMax> regions;
  std::size_t region_count{};
  std::array<std::uintptr_t, kOpenMax> open;
  std::size_t open_count{};
  std::uint64_t count{};
  std::uint64_t last_step{};
};
State state;

bool is_watched(std::uintptr_t address) {
  for (std::size_t i = 0; i < state.region_count; ++i) {
    const auto begin = reinterpret_cast<std::uintptr_t>(state.regions[i].data());
    if (address >= begin && address < begin + state.regions[i].size()) return true;
  }
  return false;
}

void protect(std::uintptr_t page, int protection) {
  if (::mprotect(reinterpret_cast<void*>(page), kPage, protection) != 0) ::_exit(2);
}

void on_fault(int, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  if (!is_watched(address) || state.open_count == kOpenMax) {
    ::signal(SIGSEGV, SIG_DFL);  // a crash of its own: happens again
    return;
  }
  if (state.open_count == 0 && state.count++ == state.last_step) ::_exit(StoreSteps::kDied);
  const std::uintptr_t page = address & ~(kPage - 1);
  protect(page, PROT_READ | PROT_WRITE);
  state.open[state.open_count++] = page;
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] |= kTrapFlag;
}

void on_trap(int, siginfo_t*, void* context) {
  while (state.open_count > 0) protect(state.open[--state.open_count], PROT_READ);
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~kTrapFlag;
}

void protect_all(int protection) {
  for (std::size_t i = 0; i < state.region_count; ++i) {
    if (::mprotect(state.regions[i].data(), state.regions[i].size(), protection) != 0) ::_exit(2);
  }
}

void handle(int number, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(number, &action, nullptr);
}

}  // namespace

StoreSteps::StoreSteps(std::span<const std::span<std::byte>> regions, std::uint64_t last_step) {
  if (regions.size() > kRegionsMax) std::abort();
  state = State{};
  for (const auto& region : regions) state.regions[state.region_count++] = region;
  state.last_step = last_step;
  handle(SIGSEGV, on_fault);
  handle(SIGTRAP, on_trap);
}

void StoreSteps::arm() { protect_all(PROT_READ); }
void StoreSteps::disarm() { protect_all(PROT_READ | PROT_WRITE); }
std::uint64_t StoreSteps::count() noexcept { return state.count; }

}  // namespace thalweg::test
