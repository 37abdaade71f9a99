#include "controlplane/log/statistics.hpp"

#include <atomic>
#include <cstring>

#include "controlplane/log/retention.hpp"
#include "dataplane/base/bytes.hpp"

namespace thalweg::log {
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kStatisticsMagic = 0x31305441'54534C54U;  // "TLSTAT01" as bytes
constexpr std::size_t kValuesOffset = 64;

using enum Statistic;
using enum StatisticKind;
constexpr StatisticInfo kInfos[]{
    {kEntries, "entries", kSum}, {kPayloadBytes, "payload_bytes", kSum}, {kBatches, "batches", kSum}, {kAppendsRefused, "appends_refused", kSum},
    {kLastAppendNs, "last_append_ns", kMax}, {kBatchEntriesMax, "batch_entries_max", kMax}, {kAppendSamples, "append_samples", kSum}, {kAppendSampleNs, "append_sample_ns", kSum},
    {kSyncs, "syncs", kSum}, {kSyncNs, "sync_ns", kSum}, {kSyncNsMax, "sync_ns_max", kMax}, {kSyncErrors, "sync_errors", kSum}, {kAppendSampleNsMax, "append_sample_ns_max", kMax}, {kSealErrors, "seal_errors", kSum},
    {kCompressedEntries, "compressed_entries", kSum}, {kCompressedFromBytes, "compressed_from_bytes", kSum}, {kCompressedToBytes, "compressed_to_bytes", kSum},
    {kCompressionSkipped, "compression_skipped", kSum}, {kCompressionNs, "compression_ns", kSum},
    {kSegmentsCreated, "segments_created", kSum}, {kSegmentsDeleted, "segments_deleted", kSum}, {kRotations, "rotations", kSum}, {kRotationsFailed, "rotations_failed", kSum},
    {kCatalogSaves, "catalog_saves", kSum}, {kCatalogErrors, "catalog_errors", kSum}, {kIndexSaves, "index_saves", kSum}, {kIndexErrors, "index_errors", kSum},
    {kRecoveries, "recoveries", kSum}, {kTornBytes, "torn_bytes", kSum}, {kCorruptRanges, "corrupt_ranges", kSum}, {kLostEntries, "lost_entries", kSum},
    {kHolesFilled, "holes_filled", kSum},
    {kRetentionRuns, "retention_runs", kSum}, {kRetentionNs, "retention_ns", kSum}, {kRetentionLastNs, "retention_last_ns", kMax}, {kRetentionSegments, "retention_segments", kSum},
    {kRetentionBytes, "retention_bytes", kSum}, {kRetentionForced, "retention_forced", kSum}, {kRetentionHeld, "retention_held", kSum}, {kRetentionErrors, "retention_errors", kSum}};

std::atomic_ref<std::uint64_t> slot(const Mapping& mapping, Statistic id) noexcept {
  return std::atomic_ref{reinterpret_cast<std::uint64_t*>(mapping.bytes().data() + kValuesOffset)[static_cast<std::size_t>(id)]};
}

}  // namespace

std::span<const StatisticInfo> statistic_infos() noexcept { return kInfos; }

void add_retention(Statistics& statistics, const RetentionRun& run, std::int64_t now_ns) noexcept {
  statistics.add(kRetentionRuns);
  statistics.add(kRetentionNs, static_cast<std::uint64_t>(run.duration_ns));
  statistics.raise(kRetentionLastNs, static_cast<std::uint64_t>(now_ns));
  statistics.add(kRetentionSegments, run.segments);
  statistics.add(kRetentionBytes, run.bytes);
  statistics.add(kRetentionForced, run.forced);
  if (run.is_held) statistics.add(kRetentionHeld);
  if (run.is_failed) statistics.add(kRetentionErrors);
}

Result<StatisticsPage> StatisticsPage::open_or_create(FileSystem& files, const std::string& directory) {
  auto file = files.open(directory + "/" + kStatisticsName, OpenMode::kCreate);
  if (!file) return tl::unexpected{std::move(file.error())};
  if (auto allocated = (*file)->allocate(kPageBytes); !allocated) return tl::unexpected{std::move(allocated.error())};
  auto mapping = (*file)->map(kPageBytes);
  if (!mapping) return tl::unexpected{std::move(mapping.error())};
  const std::span<std::byte> page = (*mapping)->bytes();
  if (load_le<std::uint64_t>(page.data()) != kStatisticsMagic) {
    std::memset(page.data(), 0, page.size());
    store_le(page.data(), kStatisticsMagic);
  }
  return StatisticsPage{std::move(*mapping)};
}

// Relaxed: each value stands for itself.
void StatisticsPage::publish(const Statistics& counted) noexcept {
  for (const StatisticInfo& info : kInfos) {
    const std::uint64_t now = counted[info.id];
    if (now == published_[info.id]) continue;
    const auto shared = slot(*mapping_, info.id);
    if (info.kind == kSum) {
      shared.fetch_add(now - published_[info.id], std::memory_order_relaxed);
    } else {
      std::uint64_t seen = shared.load(std::memory_order_relaxed);
      while (seen < now && !shared.compare_exchange_weak(seen, now, std::memory_order_relaxed)) {}
    }
  }
  published_ = counted;
}

Result<Statistics> read_statistics(FileSystem& files, const std::string& directory) {
  const std::string path = directory + "/" + kStatisticsName;
  const auto page = read_file(files, path, kPageBytes);
  if (!page) return tl::unexpected{page.error()};
  if (page->size() < kPageBytes || load_le<std::uint64_t>(page->data()) != kStatisticsMagic) return fail(ErrorCode::kIo, path + ": no page of statistics");
  Statistics read;
  for (const StatisticInfo& info : kInfos) read.add(info.id, load_le<std::uint64_t>(page->data() + kValuesOffset + 8 * static_cast<std::size_t>(info.id)));
  return read;
}

}  // namespace thalweg::log
