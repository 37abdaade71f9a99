#include "controlplane/log/health.hpp"

#include <algorithm>

#include "controlplane/log/segment_format.hpp"

namespace thalweg::log {

const char* to_string(HealthStatus status) noexcept {
  switch (status) {
    case HealthStatus::kGood: return "good";
    case HealthStatus::kDegraded: return "degraded";
    case HealthStatus::kFailed: return "failed";
  }
  return "?";
}

void Health::add(HealthStatus how_bad, std::string what, std::string advice) {
  status = std::max(status, how_bad);
  problems.push_back({std::move(what), std::move(advice)});
}

void add_shard_problems(Health& health, const ShardCondition& condition) {
  const ShardOptions& options = condition.options;
  if (condition.broken) health.add(HealthStatus::kFailed, condition.broken->message, "nothing more is taken: look after the disk, then open the log again");
  if (condition.is_closed) health.add(HealthStatus::kFailed, condition.directory + ": the log is closed", "open it again");
  const std::uint64_t low = options.low_space_bytes != 0 ? options.low_space_bytes : kDataOffset + options.segment_bytes;
  if (condition.is_space_known && health.free_bytes < low)
    health.add(HealthStatus::kDegraded, condition.directory + ": only " + std::to_string(health.free_bytes) + " bytes of the file system are free, less than " + std::to_string(low),
               "let retention delete more (shard_bytes_max, free_fraction_min), or give the file system space");
  if (options.segments_max != 0 && health.segments >= options.segments_max)
    health.add(HealthStatus::kDegraded, condition.directory + ": " + std::to_string(health.segments) + " segments are there, no more are allowed", "raise segments_max, or let retention delete some");
  if (options.sync == SyncPolicy::kPeriodic && condition.overdue_entries > 0)
    health.add(HealthStatus::kDegraded, condition.directory + ": " + std::to_string(condition.overdue_entries) + " entries wait for a sync that is overdue", "maintain() must be called, or the disk is too slow");
  if (condition.lost_entries > 0)
    health.add(HealthStatus::kDegraded, condition.directory + ": damage hides " + std::to_string(condition.lost_entries) + " entries", "the disk lost them; copy them from a replica if there is one");
}

}  // namespace thalweg::log
