#pragma once
#include <cstdint>

#include "dataplane/base/time.hpp"

namespace thalweg::log {

// Where a log has its time from; tests step theirs. Any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since 1970 UTC. May step back: the log clamps its timestamps (archive-log 8.3).
  [[nodiscard]] virtual std::int64_t epoch_ns() const noexcept = 0;
  // Never steps back; for intervals and time-outs.
  [[nodiscard]] virtual std::int64_t monotonic_ns() const noexcept = 0;
};

// The machine's clocks.
class SystemClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t epoch_ns() const noexcept override { return thalweg::epoch_ns(); }
  [[nodiscard]] std::int64_t monotonic_ns() const noexcept override { return thalweg::monotonic_ns(); }
};

}  // namespace thalweg::log
