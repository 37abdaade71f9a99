#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "controlplane/log/file_system.hpp"

// Which segments may go. Pure: numbers in, decision out; Shard::delete_oldest() carries it out. Spec: archive-log 7.
namespace thalweg::log {

// 0 switches a rule off. What is deleted of a shard is always its oldest segments: nothing goes before all older ones are gone.
struct RetentionRules {
  std::int64_t age_max_ns{0};           // goes when its newest entry is older
  std::uint64_t shard_bytes_max{0};     // the oldest go until the shard takes no more
  std::uint64_t total_bytes_max{0};     // the same over all shards, the oldest of all first
  double free_fraction_min{0};          // and until this part of the file system is free
  std::uint32_t segments_min{2};        // closed segments that stay; the active one is not counted
  bool is_unconsumed_kept{true};        // a segment with an entry that a consumer has not committed stays
  std::int64_t force_after_ns{0};       // older than this it goes, consumers, segments_min and grace or not
  std::int64_t grace_ns{0};             // stays this long after it was closed
};
// Errors: kInvalidArgument, e.g. force_after_ns that is not above age_max_ns.
[[nodiscard]] Result<void> validate(const RetentionRules& rules);

struct RetentionSegment {
  std::uint64_t end_entry{};            // number behind its last entry
  std::uint64_t bytes{};                // of storage
  std::int64_t newest_ns{};             // time of its last entry; when it was made if it has none
  std::int64_t closed_ns{};
  bool is_pinned{};                     // somebody replays or copies it
};

struct RetentionShard {
  std::vector<RetentionSegment> closed; // oldest first
  std::uint64_t active_bytes{};
  std::optional<std::uint64_t> lowest_committed;  // of all consumers: the lowest entry that one of them has yet to get; nullopt: there is no consumer
};

// Why the oldest segment that stays was kept although a rule asked for its space.
enum class RetentionHold : std::uint8_t { kNone, kPinned, kSegmentsMin, kUnconsumed, kGrace };

struct RetentionPlan {
  std::size_t delete_count{};           // of the oldest closed segments
  std::uint64_t bytes{};                // that they take
  std::size_t forced_count{};           // of them, older than force_after_ns
  RetentionHold hold{RetentionHold::kNone};
};

// What a run did to one shard, for its statistics.
struct RetentionRun {
  std::uint64_t segments{};
  std::uint64_t bytes{};
  std::uint64_t forced{};
  std::int64_t duration_ns{};
  bool is_held{};
  bool is_failed{};
};

// One plan for each shard. Precedence: pinned, force_after_ns, segments_min, is_unconsumed_kept, grace_ns, and then age and sizes. Every rule counts
// for every reason to delete. `now_ns`: epoch; a clock that was set back deletes less, never more.
[[nodiscard]] std::vector<RetentionPlan> plan_retention(std::span<const RetentionShard> shards, const RetentionRules& rules, const FileSystem::Space& space,
                                                        std::int64_t now_ns);

}  // namespace thalweg::log
