#include <algorithm>

#include "controlplane/log/index.hpp"
#include "controlplane/log/shared_lock.hpp"
#include "controlplane/log/shared_shard.hpp"

// Retention and health of a shard that several processes write.
namespace thalweg::log {

// What is closed is known from the directory: other processes close segments and delete them, too.
Result<RetentionShard> SharedShard::retention_state(std::optional<std::uint64_t> lowest_committed, std::span<const EntryRange> pinned) {
  const std::lock_guard guard{mutex_};
  if (auto open = check_open(); !open) return tl::unexpected{std::move(open.error())};
  auto listing = list_segments(files_, directory_);
  if (!listing) return tl::unexpected{std::move(listing.error())};
  const std::uint64_t active = coordination_.active_ordinal();
  RetentionShard state{.closed = {}, .active_bytes = 0, .lowest_committed = lowest_committed};
  deletable_.clear();
  for (std::size_t i = 0; i < listing->segments.size(); ++i) {
    const SegmentInfo& info = listing->segments[i];
    const std::uint64_t bytes = kDataOffset + info.header.segment_bytes;
    if (info.ordinal() >= active || i + 1 == listing->segments.size()) {
      state.active_bytes += bytes;
      continue;
    }
    const SegmentHeader& next = listing->segments[i + 1].header;  // says what is needed, should there be no seal
    RetentionSegment closed{.end_entry = next.base_entry, .bytes = bytes, .newest_ns = next.base_timestamp_ns, .closed_ns = next.created_ns};
    if (info.seal) {
      closed.newest_ns = info.seal->summary.record_count > 0 ? info.seal->summary.last_timestamp_ns : info.header.created_ns;
      closed.closed_ns = info.seal->closed_ns;
    }
    closed.is_pinned = is_pinned(pinned, info.header.base_entry, closed.end_entry);
    state.closed.push_back(closed);
    deletable_.push_back(info);
  }
  return state;
}

// One process does it at a time; who comes second finds files gone, which is what it wanted. Spec: archive-log 7, Multi-process.
Result<std::uint64_t> SharedShard::delete_oldest(std::size_t count) {
  const std::lock_guard guard{mutex_};
  if (auto open = check_open(); !open) return tl::unexpected{std::move(open.error())};
  const auto locked = lock_->try_lock(kRetentionLock, 1);
  if (!locked) return tl::unexpected{locked.error()};
  if (!*locked) return 0;
  std::uint64_t bytes = 0;
  auto removed = remove_segments(std::span{deletable_}.first(std::min(count, deletable_.size())), bytes);
  lock_->unlock(kRetentionLock, 1);
  if (!removed) return tl::unexpected{std::move(removed.error())};
  return bytes;
}

// What will be the oldest segment says where the numbers go on, should the power fail: its header and its name have to be durable by then.
Result<void> SharedShard::keep_beginning(std::uint64_t ordinal) {
  const auto info = read_segment_info(files_, directory_, ordinal);
  if (!info) return tl::unexpected{info.error()};
  if (coordination_.durable().position > info->header.base_position) return {};
  auto file = files_.open(info->path, OpenMode::kWrite);
  if (!file) return tl::unexpected{std::move(file.error())};
  if (auto synced = (*file)->sync(); !synced) {
    coordination_.count_failed_sync();
    return synced;
  }
  return files_.sync_directory(directory_);
}

// From the oldest on, so that a crash in between leaves no hole.
Result<void> SharedShard::remove_segments(std::span<const SegmentInfo> segments, std::uint64_t& bytes) {
  if (segments.empty()) return {};
  Result<void> result = keep_beginning(segments.back().ordinal() + 1);
  if (!result) return result;
  coordination_.count_change();
  for (const SegmentInfo& info : segments) {
    if (result = files_.remove(info.path); !result && result.error().code == ErrorCode::kNotFound) continue;
    if (!result) break;
    bytes += kDataOffset + info.header.segment_bytes;
    statistics_.add(Statistic::kSegmentsDeleted);
    static_cast<void>(files_.remove(directory_ + "/" + index_name(info.ordinal())));  // a help only, and of nothing now
  }
  if (!result && result.error().code == ErrorCode::kNotFound) result = {};
  coordination_.count_change();  // who listed the directory in between looks again
  deletable_.clear();
  if (result) result = files_.sync_directory(directory_);
  return result;
}

void SharedShard::count_retention(const RetentionRun& run) {
  const std::lock_guard guard{mutex_};
  add_retention(statistics_, run, clock_.epoch_ns());
  publish_statistics_locked();
}

Health SharedShard::health() {
  const auto space = files_.space(directory_);
  const auto listing = list_segments(files_, directory_);
  const std::lock_guard guard{mutex_};
  Health health{.status = HealthStatus::kGood, .problems = {}, .segments = 0, .file_bytes = 0, .free_bytes = space ? space->free_bytes : 0, .first_entry = 0, .next_entry = 0,
                .durable_entry = coordination_.durable_entry()};
  health.next_entry = health.durable_entry;
  if (const auto now = snapshot_locked()) health.next_entry = now->entry;
  if (listing && !listing->segments.empty()) health.first_entry = listing->segments.front().header.base_entry;
  if (listing) {
    health.segments = listing->segments.size();
    for (const SegmentInfo& info : listing->segments) health.file_bytes += kDataOffset + info.header.segment_bytes;
  }
  const bool is_overdue = entries_since_sync_ > 0 && clock_.monotonic_ns() - last_sync_ns_ > kSyncOverdueIntervals * options_.sync_interval_ns;
  add_shard_problems(health, {directory_, options_, broken_, is_closed_, space.has_value(), is_overdue ? entries_since_sync_ : 0, report_.lost_entries});
  if (!broken_ && coordination_.has_failed_sync())
    health.add(HealthStatus::kFailed, directory_ + ": a sync of another writer failed: nothing gets durable any more", "stop all writers, look after the disk, then open the log again");
  return health;
}

}  // namespace thalweg::log
