#include "controlplane/log/shard.hpp"

#include <algorithm>

// What a shard does beside appending: what time drives, retention's work, and what it says about itself.
namespace thalweg::log {
Result<void> Shard::maintain() {
  bool is_sync_due = false;
  std::uint64_t end = 0;
  std::shared_ptr<Segment> active;
  std::uint64_t prepare_from = 0;
  std::uint64_t prepare_bytes = 0;
  {
    std::unique_lock lock{mutex_};
    if (auto open = check_open(); !open) return open;
    const bool is_old = options_.segment_age_max_ns != 0 && clock_.epoch_ns() - active_->header().created_ns >= options_.segment_age_max_ns;
    if (is_old && tail_.offset != 0)
      if (auto rotated = rotate_locked(lock); !rotated) return rotated;
    const bool is_next_due = !next_ && !is_preparing_ && tail_.offset > data_.size() / 2 && check_segment_count();
    if (is_next_due)  // a full disk is the appender's to report, when it needs the segment
      if (auto prepared = prepare_next(lock, is_prepared() ? std::min(options_.prepare_bytes, options_.segment_bytes) : 0); !prepared && prepared.error().code != ErrorCode::kNoSpace) return prepared;
    is_put_away_due_ = false;
    is_sync_due = options_.sync == SyncPolicy::kPeriodic && is_sync_due_locked();
    end = tail_.entry;
    active = active_;
    publish_statistics_locked();
    prepare_from = std::max(prepared_to_, tail_.offset);
    const std::uint64_t prepare_to = std::min<std::uint64_t>(tail_.offset + options_.prepare_bytes, data_.size());
    if (prepare_to > prepare_from && is_prepared()) {
      prepare_bytes = prepare_to - prepare_from;
      prepared_to_ = prepare_to;
    }
  }
  if (prepare_bytes != 0) active->mapping().populate(kDataOffset + prepare_from, prepare_bytes);
  if (auto done = put_away(); !done) return done;
  if (is_sync_due) return make_durable(end);
  return {};
}

Result<RetentionShard> Shard::retention_state(std::optional<std::uint64_t> lowest_committed, std::span<const EntryRange> pinned) {
  const std::lock_guard guard{mutex_};
  RetentionShard state{.closed = {}, .active_bytes = kDataOffset + active_->header().segment_bytes, .lowest_committed = lowest_committed};
  for (std::size_t i = 0; i + 1 < segments_.size(); ++i) {
    const KnownSegment& segment = segments_[i];
    const SegmentHeader& header = segment.info.header;
    RetentionSegment closed{.end_entry = segment.summary.end_entry, .bytes = kDataOffset + header.segment_bytes, .newest_ns = header.created_ns};
    if (segment.summary.record_count > 0) closed.newest_ns = segment.summary.last_timestamp_ns;
    closed.closed_ns = segment.info.seal ? segment.info.seal->closed_ns : header.created_ns;
    closed.is_pinned = is_pinned(pinned, header.base_entry, closed.end_entry);
    state.closed.push_back(closed);
  }
  return state;
}

// Spec: archive-log 7, Order. Nobody who appends waits for the files.
Result<std::uint64_t> Shard::delete_oldest(std::size_t count) {
  const std::lock_guard upkeep{upkeep_mutex_};
  if (auto kept = keep_beginning(count); !kept) return tl::unexpected{std::move(kept.error())};
  Removals::Taken taken;
  {
    const std::lock_guard guard{mutex_};
    if (auto open = check_open(); !open) return tl::unexpected{std::move(open.error())};
    taken = removals_.take_oldest(segments_, count);
    statistics_.add(Statistic::kSegmentsDeleted, taken.count);
  }
  if (removals_.is_empty()) return 0;
  auto removed = removals_.carry_out(files_, directory_, coordination_);
  save_catalog();
  if (!removed) return tl::unexpected{std::move(removed.error())};
  return taken.bytes;
}

// What will be the oldest segment says where the numbers go on, should the power fail: its header and its name have to be durable by then.
Result<void> Shard::keep_beginning(std::size_t deleted) {
  std::shared_ptr<Segment> oldest;
  {
    const std::lock_guard guard{mutex_};
    if (deleted == 0 || !is_directory_unsynced_) return {};
    const std::uint64_t ordinal = segments_[std::min(deleted, segments_.size() - 1)].info.ordinal();
    const auto is_it = [ordinal](const std::shared_ptr<Segment>& segment) { return segment->header().ordinal == ordinal; };
    const auto found = std::find_if(unsynced_.begin(), unsynced_.end(), is_it);
    if (is_it(active_)) oldest = active_;
    else if (found != unsynced_.end()) oldest = *found;
  }
  if (oldest)
    if (auto synced = sync_alone(*oldest); !synced) return synced;
  return files_.sync_directory(directory_);
}

void Shard::count_retention(const RetentionRun& run) {
  const std::lock_guard guard{mutex_};
  add_retention(statistics_, run, clock_.epoch_ns());
  publish_statistics_locked();
}

// Recovery reads no closed segment again: what an earlier one found in it is known from the catalog alone.
void Shard::remember_damage() {
  const auto bytes = read_file(files_, directory_ + "/" + kCatalogName, kCatalogBytesMax);
  if (!bytes) return;
  const auto catalog = Catalog::decode(*bytes, kCatalogName);
  if (!catalog) return;
  for (KnownSegment& known : segments_) {
    const CatalogEntry* const entry = catalog->get(known.info.ordinal());
    if (entry != nullptr && entry->base_entry == known.info.header.base_entry) known.is_damaged |= entry->state == SegmentState::kDamaged;
  }
}

void Shard::count_recovery() noexcept {
  statistics_.add(Statistic::kRecoveries);
  statistics_.add(Statistic::kTornBytes, report_.torn_bytes);
  statistics_.add(Statistic::kCorruptRanges, report_.corrupt_ranges);
  statistics_.add(Statistic::kLostEntries, report_.lost_entries);
  publish_statistics_locked();
}

void Shard::publish_statistics_locked() noexcept {
  if (statistics_page_) statistics_page_->publish(statistics_);
}

Statistics Shard::statistics() const {
  const std::lock_guard guard{mutex_};
  return statistics_;
}

Health Shard::health() const {
  const auto space = files_.space(directory_);
  const std::lock_guard upkeep{upkeep_mutex_};
  const std::lock_guard guard{mutex_};
  Health health{.status = HealthStatus::kGood, .problems = {}, .segments = segments_.size(), .file_bytes = 0, .free_bytes = space ? space->free_bytes : 0,
                .first_entry = segments_.front().info.header.base_entry, .next_entry = tail_.entry, .durable_entry = coordination_.durable_entry()};
  for (const KnownSegment& known : segments_) health.file_bytes += kDataOffset + known.info.header.segment_bytes;
  const std::uint64_t waiting = tail_.entry - synced_entry_;
  const bool is_overdue = waiting > 0 && clock_.monotonic_ns() - last_sync_ns_ > kSyncOverdueIntervals * options_.sync_interval_ns;
  add_shard_problems(health, {directory_, options_, broken_, is_closed_, space.has_value(), is_overdue ? waiting : 0, report_.lost_entries});
  if (!removals_.is_empty())
    health.add(HealthStatus::kDegraded, removals_.next_path() + ": could not be removed", "look at the permissions of the directory; it is tried again with each run of retention");
  return health;
}

}  // namespace thalweg::log
