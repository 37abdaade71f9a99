#pragma once
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "dataplane/shm/log_buffer.hpp"

// A log buffer in anonymous memory. It survives a crash of the data plane, as a mapped file would, and can be write-protected in parts,
// so that a crash in the middle of an insert is a real one: the store faults and the call never returns.
namespace thalweg::sim {

class LogMemory {
 public:
  LogMemory() noexcept = default;
  explicit LogMemory(std::int32_t term_length);
  ~LogMemory();
  LogMemory(LogMemory&& other) noexcept
      : base_{std::exchange(other.base_, nullptr)}, length_{other.length_}, term_length_{other.term_length_} {}
  LogMemory& operator=(LogMemory&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(length_, other.length_);
    std::swap(term_length_, other.term_length_);
    return *this;
  }
  [[nodiscard]] shm::LogBuffer view() const noexcept { return {base_, length_, term_length_}; }

  // The first position in [from, to) whose frame-length word is not 0, or -1.
  [[nodiscard]] std::int64_t first_dirty(std::int64_t from, std::int64_t to) const noexcept;
  // Write-protects (or opens again) the page that holds `position`.
  void protect(std::int64_t position, bool is_protected) const;

 private:
  std::byte* base_{};
  std::uint64_t length_{};
  std::int32_t term_length_{};
};

// Runs `call`; true when it was cut short by a store into a protected page. Not reentrant, one thread.
class CrashGuard {
 public:
  // `on_real_fault` (async-signal-safe) runs before a fault that nobody planned kills the process.
  static void install(void (*on_real_fault)());
  template <typename Call>
  [[nodiscard]] static bool is_cut_short(Call&& call) {
    if (sigsetjmp(resume_point(), 1) != 0) return true;
    arm(true);
    call();
    arm(false);
    return false;
  }

 private:
  static sigjmp_buf& resume_point() noexcept;
  static void arm(bool is_armed) noexcept;
};

}  // namespace thalweg::sim
