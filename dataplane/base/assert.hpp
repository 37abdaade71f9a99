#pragma once
#include <cstdio>
#include <cstdlib>

// THALWEG_ASSERT: always on, for our own mistakes only. Peers, operators and disks never trigger one.
// THALWEG_DCHECK: the same inside inner loops, compiled in for checked, debug and sanitizer builds.
namespace thalweg {
[[noreturn]] inline void assert_failed(const char* what, const char* file, int line) noexcept {
  std::fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, what);
  std::abort();
}
}  // namespace thalweg

#define THALWEG_ASSERT(condition) \
  (__builtin_expect(static_cast<bool>(condition), 1) ? static_cast<void>(0) : ::thalweg::assert_failed(#condition, __FILE__, __LINE__))

#if defined(THALWEG_CHECKED) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define THALWEG_DCHECK(condition) THALWEG_ASSERT(condition)
#else
#define THALWEG_DCHECK(condition) static_cast<void>(sizeof(static_cast<bool>(condition)))
#endif
