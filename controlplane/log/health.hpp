#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace thalweg::log {

enum class HealthStatus : std::uint8_t { kGood, kDegraded, kFailed };
[[nodiscard]] const char* to_string(HealthStatus status) noexcept;

// A shard as one who is asked to look after it needs it. Spec: archive-log 14.
struct Health {
  struct Problem {
    std::string what;
    std::string advice;
  };
  HealthStatus status{HealthStatus::kGood};
  std::vector<Problem> problems;      // the worst first; empty when all is good
  std::uint64_t segments{};
  std::uint64_t file_bytes{};
  std::uint64_t free_bytes{};         // of the file system
  std::uint64_t first_entry{};
  std::uint64_t next_entry{};
  std::uint64_t durable_entry{};
};

}  // namespace thalweg::log
