#include <algorithm>
#include <utility>

#include "controlplane/log/shard.hpp"

// How a shard gets its next segment, and what becomes of the full one. Whoever appends waits for no more than two short system calls: the next segment
// is made ahead, and the full one is synced, sealed and listed with nobody's lock held. Spec: archive-log 3.
namespace thalweg::log {

// Of the segment behind the active one, or of the first one. Where its entries begin is known when it is taken into use.
SegmentHeader Shard::next_header() const {
  const SegmentInfo* const last = segments_.empty() ? nullptr : &segments_.back().info;
  SegmentHeader header{.segment_bytes = options_.segment_bytes, .base_entry = kBaseNotKnown, .created_ns = clock_.epoch_ns(), .writer_id = writer_id_};
  header.kind = SegmentKind::kRecords;
  header.ordinal = last == nullptr ? 0 : last->ordinal() + 1;
  header.base_position = last == nullptr ? 0 : last->end_position();
  header.log_id = options_.shard;
  return header;
}

Result<void> Shard::rotate() {
  {
    std::unique_lock lock{mutex_};
    if (auto open = check_open(); !open) return open;
    if (tail_.offset == 0) return {};
    if (auto rotated = rotate_locked(lock); !rotated) return rotated;
    is_put_away_due_ = false;
  }
  return put_away();
}

// Gets a segment behind the one that is active now; lets go of the lock while the disk is at work. Another thread may be faster: no error.
Result<void> Shard::rotate_locked(std::unique_lock<std::mutex>& lock) {
  const std::uint64_t full = active_->header().ordinal;
  while (active_->header().ordinal == full) {
    if (auto open = check_open(); !open) return open;
    if (next_) return rotate_holding_locked();
    if (is_preparing_) {
      prepared_.wait(lock, [this] { return !is_preparing_; });
      continue;
    }
    is_put_away_due_ = true;  // maintain() is not on time: whoever comes here does its work
    auto prepared = prepare_next(lock, 0);
    if (prepared) continue;
    statistics_.add(Statistic::kRotationsFailed);
    publish_statistics_locked();
    return prepared;
  }
  return {};
}

// The same with the lock held all the time. Precondition: nobody is preparing one.
Result<void> Shard::rotate_holding_locked() {
  if (!next_) {
    auto room = check_segment_count();
    auto created = room ? Segment::create(files_, directory_, next_header()) : Result<std::shared_ptr<Segment>>{tl::unexpected{std::move(room.error())}};
    if (created) next_ = std::move(*created);
    else statistics_.add(Statistic::kRotationsFailed);
    is_put_away_due_ = true;
    if (!created) return tl::unexpected{std::move(created.error())};
  }
  auto begun = begin_next_locked();
  statistics_.add(begun ? Statistic::kRotations : Statistic::kRotationsFailed);
  publish_statistics_locked();
  return begun;
}

Result<void> Shard::check_segment_count() const {
  if (options_.segments_max == 0 || segments_.size() < options_.segments_max) return {};
  return fail(ErrorCode::kNoSpace, directory_ + ": " + std::to_string(segments_.size()) + " segments are there, no more are allowed", "raise segments_max, or let retention delete some");
}

// With its first `ready_bytes` in memory. Without the lock while the disk is at work.
Result<void> Shard::prepare_next(std::unique_lock<std::mutex>& lock, std::uint64_t ready_bytes) {
  if (auto room = check_segment_count(); !room) return room;
  const SegmentHeader header = next_header();
  is_preparing_ = true;
  lock.unlock();
  auto created = Segment::create(files_, directory_, header);
  if (created && ready_bytes != 0) (*created)->mapping().populate(kDataOffset, ready_bytes);
  lock.lock();
  is_preparing_ = false;
  prepared_.notify_all();
  if (!created) return tl::unexpected{std::move(created.error())};
  next_ = std::move(*created);
  next_prepared_to_ = ready_bytes;
  return {};
}

// Until the new segment has its name the old one stays active, whatever fails. Neither is synced: the next sync covers both, and their names.
Result<void> Shard::begin_next_locked() {
  const std::shared_ptr<Segment> next = std::exchange(next_, nullptr);
  SegmentHeader header = next->header();
  header.base_entry = tail_.entry;
  header.base_timestamp_ns = tail_.timestamp_ns;
  header.created_ns = clock_.epoch_ns();
  is_directory_unsynced_ = true;
  if (auto published = next->publish_unsynced(files_, header); !published) return published;
  close_active_locked();
  set_active(next);
  tail_.offset = 0;
  summary_ = SegmentSummary{.end_entry = tail_.entry};
  index_ = SparseIndex{options_.index_interval};
  counted_from_ = 0;
  prepared_to_ = std::exchange(next_prepared_to_, 0);
  segments_.push_back({.info = active_->info(), .summary = summary_});
  coordination_.set_active_ordinal(header.ordinal);
  coordination_.count_change();
  statistics_.add(Statistic::kSegmentsCreated);
  is_put_away_due_ |= full_.size() > 1;  // maintain() does not get on
  return {};
}

// A pad to the end of the data; the rest is put_away()'s.
void Shard::close_active_locked() {
  const std::uint64_t left = data_.size() - tail_.offset;
  if (left >= kRecordHeaderBytes) {
    std::byte* const at = data_.data() + tail_.offset;
    publish_record(at, put_pad(at, static_cast<std::uint32_t>(left), tail_.entry, 0, tail_.timestamp_ns));
  }
  KnownSegment& known = segments_.back();
  known.summary = summary_;
  known.is_closed = true;
  known.info.seal = SegmentSeal{};  // as it will be written
  known.info.seal->ordinal = known.info.ordinal();
  known.info.seal->closed_ns = clock_.epoch_ns();
  known.info.seal->summary = summary_;
  full_.push_back({active_, summary_, std::move(index_), counted_from_, known.info.seal->closed_ns});
  unsynced_.push_back(active_);
}

// What full segments still need: a sync, by the policies that want one; the seal, the index, a line in the catalog. Seals, indexes and the catalog
// are for those who do not want to read everything, so no reason to stop when they cannot be written.
Result<void> Shard::put_away() {
  std::uint64_t end = 0;
  {
    const std::lock_guard guard{mutex_};
    if (full_.empty()) return {};
    if (auto open = check_open(); !open) return open;
    end = full_.back().segment->info().end_position();
  }
  if (is_synced_on_rotation()) {
    const auto is_durable = [&] { return coordination_.durable().position >= end; };  // the pad, too
    if (auto durable = commit_.run(is_durable, [&] { return sync_once(); }); !durable) return durable;
  } else if (auto synced = sync_unsynced_beyond_limit(); !synced) {
    return synced;
  }
  const std::lock_guard upkeep{upkeep_mutex_};
  std::vector<FullSegment> full;
  {
    const std::lock_guard guard{mutex_};
    full = std::exchange(full_, {});
  }
  for (FullSegment& segment : full) finish(segment);
  save_catalog();
  return {};
}

void Shard::finish(FullSegment& full) {
  Segment& segment = *full.segment;
  const std::uint64_t ordinal = segment.header().ordinal;
  if (full.counted_from != 0) {  // recovery began in the middle: the rest is counted now
    const ScanPoint start{0, segment.header().base_entry, segment.header().base_timestamp_ns};
    const std::uint64_t end = full.summary.end_offset;
    full.summary = scan_segment(segment.data(), start, end).summary;
    full.index = SparseIndex::build(segment.data(), start, end, options_.index_interval);
  }
  const bool is_synced = segment.info().end_position() <= coordination_.durable().position;
  const bool is_sealed = segment.seal(full.summary, is_synced, full.closed_ns).has_value();
  const auto find = [&] { return std::find_if(segments_.begin(), segments_.end(), [&](const KnownSegment& known) { return known.info.ordinal() == ordinal; }); };
  {
    const std::lock_guard guard{mutex_};
    if (!is_sealed) statistics_.add(Statistic::kSealErrors);
    const auto known = find();
    if (known == segments_.end()) return;  // retention was faster
    known->summary = full.summary;
    known->info.seal->summary = full.summary;
  }
  const bool is_saved = save_index(files_, directory_, ordinal, full.index).has_value();  // without it readers read more
  const std::lock_guard guard{mutex_};
  statistics_.add(is_saved ? Statistic::kIndexSaves : Statistic::kIndexErrors);
}

// By policies that never sync closed segments stay open until somebody does: each has a file and its mapping.
Result<void> Shard::sync_unsynced_beyond_limit() {
  constexpr std::size_t kUnsyncedMax = 16;
  for (;;) {
    std::shared_ptr<Segment> oldest;
    {
      const std::lock_guard guard{mutex_};
      if (unsynced_.size() <= kUnsyncedMax) return {};
      oldest = unsynced_.front();
    }
    if (auto synced = sync_alone(*oldest); !synced) return synced;
    const std::lock_guard guard{mutex_};
    std::erase(unsynced_, oldest);
  }
}

// A segment on its own, without the durable point.
Result<void> Shard::sync_alone(Segment& segment) {
  auto synced = segment.file().sync();
  if (synced) return {};
  const std::lock_guard guard{mutex_};
  statistics_.add(Statistic::kSyncErrors);
  broken_ = Error{synced.error().code, synced.error().message, synced.error().hint};
  return synced;
}

// Two at once would write each other's file: upkeep_mutex_ is held, but for opening.
void Shard::save_catalog() noexcept {
  std::vector<KnownSegment> known;
  {
    const std::lock_guard guard{mutex_};
    known = segments_;
  }
  const bool is_saved = log::save_catalog(files_, directory_, options_.shard, known).has_value();
  const std::lock_guard guard{mutex_};
  statistics_.add(is_saved ? Statistic::kCatalogSaves : Statistic::kCatalogErrors);
}

}  // namespace thalweg::log
