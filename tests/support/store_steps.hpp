#pragma once
#include <cstdint>
#include <functional>
#include <span>

// A process that dies between any two stores into memory that it shares with others: every store into the watched memory is one step.
namespace thalweg::test {

// Watches memory while it is armed. One in a process, which is best a child that is going to die. x86-64 only.
class StoreSteps {
 public:
  static constexpr int kDied = 77;   // exit code of a process that came to its last step

  // The process ends right before its store number `last_step` (from 0 on). `regions` begin and end at pages.
  StoreSteps(std::span<const std::span<std::byte>> regions, std::uint64_t last_step);
  StoreSteps(const StoreSteps&) = delete;
  StoreSteps& operator=(const StoreSteps&) = delete;

  void arm();      // from here on stores count
  void disarm();   // stores of somebody else follow
  [[nodiscard]] static std::uint64_t count() noexcept;
};

}  // namespace thalweg::test
