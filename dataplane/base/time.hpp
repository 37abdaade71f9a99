#pragma once
#include <cstdint>
#include <ctime>

namespace thalweg {

inline constexpr std::int64_t kMicrosecond_ns = 1'000;
inline constexpr std::int64_t kMillisecond_ns = 1'000'000;
inline constexpr std::int64_t kSecond_ns = 1'000'000'000;

// CLOCK_MONOTONIC in ns. About 20 ns: once per turn at the most, never per packet.
[[nodiscard]] inline std::int64_t monotonic_ns() noexcept {
  timespec ts;
  ::clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * kSecond_ns + ts.tv_nsec;
}

// Milliseconds since 1970 UTC, the time base of heartbeats and counters (client-protocol, Conventions).
[[nodiscard]] inline std::int64_t epoch_ms() noexcept {
  timespec ts;
  ::clock_gettime(CLOCK_REALTIME, &ts);
  return ts.tv_sec * 1000 + ts.tv_nsec / kMillisecond_ns;
}

// Nanoseconds since 1970 UTC, for timestamps in captures and logs.
[[nodiscard]] inline std::int64_t epoch_ns() noexcept {
  timespec ts;
  ::clock_gettime(CLOCK_REALTIME, &ts);
  return ts.tv_sec * kSecond_ns + ts.tv_nsec;
}

}  // namespace thalweg
