#pragma once
#include <atomic>

#if defined(__SANITIZE_THREAD__)
#define THALWEG_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THALWEG_THREAD_SANITIZER 1
#endif
#endif

namespace thalweg::shm {

// Keeps the stores before it in front of the stores after it ("fence" of client-protocol 4.3 and 7.5). On x86 the processor does so by
// itself and only the compiler must be told; thread sanitizers do not model free-standing fences and get the compiler barrier alone.
inline void store_fence() noexcept {
#ifdef THALWEG_THREAD_SANITIZER
  std::atomic_signal_fence(std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_release);
#endif
}

}  // namespace thalweg::shm
