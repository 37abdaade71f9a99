#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "controlplane/log/file_system.hpp"

// What a shard's writers have done since its directory was made, in a page that any process may map: `statistics.tlg`, 4096 bytes, 8 values to a
// cache line, grouped by concern. Nobody depends on it; it is not synced. Spec: archive-log 14; docs/reference/log-format.md.
namespace thalweg::log {

inline constexpr const char* kStatisticsName = "statistics.tlg";

// The value's place in the page: 64 + 8 · n.
enum class Statistic : std::uint8_t {
  // appends
  kEntries = 0,
  kPayloadBytes,          // keys and payloads as they were given
  kBatches,
  kAppendsRefused,
  kLastAppendNs,          // epoch
  kBatchEntriesMax,
  kAppendSamples,         // appends whose duration was taken: one in 256
  kAppendSampleNs,
  // durability
  kSyncs = 8,
  kSyncNs,
  kSyncNsMax,
  kSyncErrors,
  kAppendSampleNsMax,
  kSealErrors,            // segments that were closed without a seal: read when the log is opened
  // compression
  kCompressedEntries = 16,
  kCompressedFromBytes,
  kCompressedToBytes,
  kCompressionSkipped,    // tried, and not smaller
  kCompressionNs,
  // files
  kSegmentsCreated = 24,
  kSegmentsDeleted,
  kRotations,
  kRotationsFailed,
  kCatalogSaves,
  kCatalogErrors,
  kIndexSaves,
  kIndexErrors,
  // recovery
  kRecoveries = 32,
  kTornBytes,
  kCorruptRanges,
  kLostEntries,
  kHolesFilled,           // reservations of dead writers in a shared shard
  // retention
  kRetentionRuns = 40,
  kRetentionNs,
  kRetentionLastNs,       // epoch
  kRetentionSegments,
  kRetentionBytes,
  kRetentionForced,
  kRetentionHeld,         // runs that left a segment because of a consumer, a pin, the grace or the minimum
  kRetentionErrors,
};
inline constexpr std::size_t kStatisticSlots = 48;

// A newer value replaces an older one, the larger one stays, or both are added up.
enum class StatisticKind : std::uint8_t { kSum, kMax };
struct StatisticInfo {
  Statistic id;
  std::string_view name;  // stable, for JSON and metrics
  StatisticKind kind;
};
[[nodiscard]] std::span<const StatisticInfo> statistic_infos() noexcept;

// Values at a moment. One thread.
class Statistics {
 public:
  [[nodiscard]] std::uint64_t operator[](Statistic id) const noexcept { return values_[static_cast<std::size_t>(id)]; }
  void add(Statistic id, std::uint64_t amount = 1) noexcept { values_[static_cast<std::size_t>(id)] += amount; }
  // Adds what another one counted of sums.
  void add(const Statistics& other) noexcept {
    for (std::size_t i = 0; i < kStatisticSlots; ++i) values_[i] += other.values_[i];
  }
  void raise(Statistic id, std::uint64_t value) noexcept {
    if (auto& slot = values_[static_cast<std::size_t>(id)]; slot < value) slot = value;
  }

 private:
  std::array<std::uint64_t, kStatisticSlots> values_{};
};

struct RetentionRun;
void add_retention(Statistics& statistics, const RetentionRun& run, std::int64_t now_ns) noexcept;

// The page of a shard, mapped by one writer. It collects what the writer counted and adds it to the page now and then, so that counting costs an
// append nothing but plain additions and several writers do not share a cache line. One thread.
class StatisticsPage {
 public:
  // Maps it; makes it, or makes it anew when it is no such page. Errors: kNoSpace, kIo.
  [[nodiscard]] static Result<StatisticsPage> open_or_create(FileSystem& files, const std::string& directory);
  // Adds what changed in `counted` since the last call.
  void publish(const Statistics& counted) noexcept;

 private:
  explicit StatisticsPage(std::unique_ptr<Mapping> mapping) : mapping_{std::move(mapping)} {}
  std::unique_ptr<Mapping> mapping_;
  Statistics published_;
};

// What the page says now, in any process. Errors: kNotFound, kIo.
[[nodiscard]] Result<Statistics> read_statistics(FileSystem& files, const std::string& directory);

}  // namespace thalweg::log
