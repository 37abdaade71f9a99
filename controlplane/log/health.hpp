#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/log/options.hpp"

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
  std::vector<Problem> problems;      // empty when all is good
  std::uint64_t segments{};
  std::uint64_t file_bytes{};
  std::uint64_t free_bytes{};         // of the file system
  std::uint64_t first_entry{};
  std::uint64_t next_entry{};
  std::uint64_t durable_entry{};
  void add(HealthStatus how_bad, std::string what, std::string advice);
};

inline constexpr std::int64_t kSyncOverdueIntervals = 10;  // of sync_interval_ns; a slow disk may well need a few

// What both kinds of shard look at, beside what is in `health` already.
struct ShardCondition {
  const std::string& directory;
  const ShardOptions& options;
  const std::optional<Error>& broken;
  bool is_closed{};
  bool is_space_known{};
  std::uint64_t overdue_entries{};    // that wait for a sync for too long
  std::uint64_t lost_entries{};       // by recovery
};
void add_shard_problems(Health& health, const ShardCondition& condition);

}  // namespace thalweg::log
