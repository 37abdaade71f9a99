#pragma once
#include <type_traits>

namespace thalweg::pmd {

// Runs `job(argument)` on the EAL's interrupt thread and waits for it; on the caller's thread when that is the interrupt thread itself or no
// alarm can be set. Some drivers (memif) change a device on the interrupt thread with no lock against those who start, stop or close it: what
// runs here cannot meet them. Precondition: the caller holds no lock that the interrupt thread takes. Steward.
void run_on_interrupt_thread(void (*job)(void*), void* argument);

// The same for anything callable without arguments; what it refers to lives until this returns.
template <typename Job>
void run_on_interrupt_thread(Job&& job) {
  run_on_interrupt_thread([](void* argument) { (*static_cast<std::remove_reference_t<Job>*>(argument))(); }, &job);
}

// Whether the calling code is such a job.
[[nodiscard]] bool is_interrupt_thread_job() noexcept;

}  // namespace thalweg::pmd
