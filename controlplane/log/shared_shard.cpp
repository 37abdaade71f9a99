#include "controlplane/log/shared_shard.hpp"

#include <unistd.h>

#include <algorithm>
#include <limits>
#include <thread>
#include <utility>

#include "controlplane/log/record_put.hpp"
#include "controlplane/log/shared_lock.hpp"
#include "dataplane/base/random.hpp"

// Opening, appending, syncing. Rotation and repair: shared_rotation.cpp.
namespace thalweg::log {
namespace {

Error copy_of(const Error& error) { return Error{error.code, error.message, error.hint}; }

}  // namespace

SharedShard::SharedShard(FileSystem& files, const Clock& clock, std::string directory, const ShardOptions& options, std::unique_ptr<File> lock, Coordination coordination)
    : files_{files}, clock_{clock}, directory_{std::move(directory)}, options_{options}, lock_{std::move(lock)}, coordination_{std::move(coordination)}, reservations_{coordination_.page()} {
  entry_bytes_max_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(options.payload_max_bytes, options.segment_bytes - kRecordHeaderBytes));
  Random random{static_cast<std::uint64_t>(clock.epoch_ns()) ^ static_cast<std::uint64_t>(::getpid()) << 32U};
  writer_id_ = random.next();
  last_sync_ns_ = clock.monotonic_ns();
}

SharedShard::~SharedShard() { static_cast<void>(close()); }  // a destructor has nobody to tell

Result<std::unique_ptr<SharedShard>> SharedShard::open(FileSystem& files, const Clock& clock, std::string directory, const ShardOptions& options) {
  if (auto valid = validate(options); !valid) return tl::unexpected{std::move(valid.error())};
  auto file = open_writers_lock(files, directory);
  if (!file) return tl::unexpected{std::move(file.error())};
  auto opening = FileLock::take(**file, kOpeningLock, clock);  // one opens at a time: the first one recovers
  if (!opening) return tl::unexpected{std::move(opening.error())};
  auto coordination = Coordination::open_or_create(files, directory, options.shard, clock.epoch_ns());
  if (!coordination) return tl::unexpected{std::move(coordination.error())};
  std::unique_ptr<SharedShard> shard{new SharedShard{files, clock, std::move(directory), options, std::move(*file), std::move(*coordination)}};
  if (auto joined = shard->join(); !joined) {
    shard->is_closed_ = true;
    opening->release();
    return tl::unexpected{std::move(joined.error())};
  }
  opening->release();
  return shard;
}

Result<void> SharedShard::join() {
  {
    // With the rotation lock: what the slot's last owner left is filled before anybody takes the slot for one at work.
    auto rotation = FileLock::take(*lock_, kRotationLock, clock_, &rotation_mutex_);
    if (!rotation) return tl::unexpected{std::move(rotation.error())};
    if (auto claimed = claim_slot(); !claimed) return claimed;
    const auto alone = is_alone();
    if (!alone) return tl::unexpected{alone.error()};
    if (!*alone && coordination_.is_new())
      return fail(ErrorCode::kIo, directory_ + ": the coordination page was removed under writers at work", "stop all writers, then open the log again");
    if (auto ready = *alone ? recover() : fill_holes(&*rotation); !ready) return ready;
    reservations_.clear(slot_);
    WriterSlot& mine = coordination_.page().writers[slot_];
    mine.pid = static_cast<std::uint32_t>(::getpid());
    mine.writer_id = writer_id_;
    is_joined_ = true;
  }
  auto page = StatisticsPage::open_or_create(files_, directory_);
  if (!page) return tl::unexpected{std::move(page.error())};
  statistics_page_ = std::move(*page);
  const std::lock_guard guard{mutex_};
  return follow_locked();
}

Result<void> SharedShard::claim_slot() {
  for (std::uint32_t slot = 0; slot < kWriterSlots; ++slot) {
    const auto locked = lock_->try_lock(slot, 1);
    if (!locked) return tl::unexpected{locked.error()};
    if (!*locked) continue;
    slot_ = slot;
    return {};
  }
  return fail(ErrorCode::kInUse, directory_ + ": " + std::to_string(kWriterSlots) + " writers have this shard open, or one that has it for itself", "stop it first, or open the shard for reading");
}

Result<bool> SharedShard::is_alone() const {
  const auto below = slot_ == 0 ? Result<bool>{false} : lock_->is_locked(0, slot_);
  if (!below || *below) return below ? Result<bool>{false} : below;
  if (slot_ + 1 == kWriterSlots) return true;
  const auto above = lock_->is_locked(slot_ + 1, kWriterSlots - slot_ - 1);
  if (!above) return above;
  return !*above;
}

// Nobody else has it open, and nobody can open it now.
Result<void> SharedShard::recover() {
  const auto filled = fill_all_holes(files_, directory_, coordination_);
  if (!filled) return tl::unexpected{filled.error()};
  holes_filled_ += *filled;
  auto recovered = recover_shard(files_, clock_, directory_, coordination_);
  if (!recovered) return tl::unexpected{std::move(recovered.error())};
  report_ = std::move(recovered->report);
  active_ = std::move(recovered->active);
  ScanPoint tail = recovered->tail;
  if (!active_) {
    SegmentHeader header{.segment_bytes = options_.segment_bytes, .base_entry = tail.entry, .base_timestamp_ns = tail.timestamp_ns, .created_ns = clock_.epoch_ns(), .writer_id = writer_id_};
    header.log_id = options_.shard;
    if (!recovered->segments.empty()) {
      header.ordinal = recovered->segments.back().info.ordinal() + 1;
      header.base_position = recovered->segments.back().info.end_position();
    }
    auto created = Segment::create(files_, directory_, header);
    if (!created) return tl::unexpected{std::move(created.error())};
    if (auto published = (*created)->publish(files_); !published) return published;
    if (auto synced = files_.sync_directory(parent_directory(directory_)); !synced) return synced;
    active_ = std::move(*created);
    tail.offset = 0;
    statistics_.add(Statistic::kSegmentsCreated);
  }
  const SegmentHeader& header = active_->header();
  coordination_.set_active_ordinal(header.ordinal);
  reservations_.set_tail({header.ordinal & kTailOrdinalMask, tail.entry - header.base_entry, tail.offset, tail.timestamp_ns});
  coordination_.reset_durable({tail.entry, header.base_position + tail.offset}, tail.timestamp_ns, clock_.epoch_ns());
  coordination_.count_change();
  statistics_.add(Statistic::kRecoveries);
  statistics_.add(Statistic::kTornBytes, report_.torn_bytes);
  statistics_.add(Statistic::kCorruptRanges, report_.corrupt_ranges);
  statistics_.add(Statistic::kLostEntries, report_.lost_entries);
  return {};
}

// Bytes of a batch that a segment takes.
Result<std::uint64_t> SharedShard::check(std::span<const Entry> batch) const {
  auto bytes = measure(batch, entry_bytes_max_);
  if (bytes && *bytes > options_.segment_bytes)
    return fail(ErrorCode::kInvalidArgument, "batch of " + std::to_string(*bytes) + " bytes: at most " + std::to_string(options_.segment_bytes) + " fit a segment (segment_bytes)");
  return bytes;
}

Result<void> SharedShard::check_open() const {
  if (is_closed_) return fail(ErrorCode::kClosed, directory_ + ": the log is closed");
  if (broken_) return tl::unexpected{copy_of(*broken_)};
  return {};
}

Result<Appended> SharedShard::append(const Entry& entry) { return append(std::span{&entry, 1}); }

Result<Appended> SharedShard::append(std::span<const Entry> batch) {
  auto checked = check(batch);
  Statistics compression;
  const bool is_compressed = options_.compression.codec != Codec::kNone && checked;
  const StoredBatch stored = is_compressed ? compress_batch(batch, options_.compression, compression) : StoredBatch{batch};
  bool is_sync_due = false;
  bool is_put_away_due = false;
  Result<Appended> appended;
  {
    const std::lock_guard guard{mutex_};
    appended = checked ? append_locked(stored, is_compressed ? measure(stored) : *checked) : Result<Appended>{tl::unexpected{std::move(checked.error())}};
    if (is_compressed) statistics_.add(compression);
    if (!appended) {
      statistics_.add(Statistic::kAppendsRefused);
      return appended;
    }
    if (batch.empty()) return appended;
    is_sync_due = is_sync_due_locked(batch.size());
    is_put_away_due = is_put_away_due_ && !std::exchange(is_maintained_, false);  // otherwise maintain() does it
  }
  if (is_put_away_due)
    if (auto done = put_away(); !done) return tl::unexpected{std::move(done.error())};
  if (is_sync_due) {
    if (auto durable = make_durable(appended->first_entry + appended->count); !durable) return tl::unexpected{std::move(durable.error())};
    appended->is_durable = true;
  }
  return appended;
}

Result<Appended> SharedShard::append_locked(const StoredBatch& batch, std::uint64_t bytes) {
  if (auto open = check_open(); !open) return tl::unexpected{std::move(open.error())};
  if (batch.size() == 0) {
    const auto now = snapshot_locked();
    if (!now) return tl::unexpected{now.error()};
    return Appended{.first_entry = now->entry, .count = 0, .end_position = now->position, .is_durable = false};
  }
  const auto place = reserve_locked(batch, bytes);
  if (!place) {
    reservations_.clear(slot_);
    return tl::unexpected{place.error()};
  }
  fill(*place, batch);
  reservations_.clear(slot_);
  return Appended{.first_entry = place->entry, .count = batch.size(), .end_position = place->position + place->bytes, .is_durable = false};
}

// Takes bytes and numbers for a batch, alone among all processes. What it returns is announced in the slot.
Result<Reservation> SharedShard::reserve_locked(const StoredBatch& batch, std::uint64_t bytes) {
  std::int64_t newest_ns = std::numeric_limits<std::int64_t>::min();
  clock_ns_ = clock_.epoch_ns();
  for (std::size_t i = 0; i < batch.size(); ++i) newest_ns = std::max(newest_ns, batch.entry(i).timestamp_ns.value_or(clock_ns_));
  for (TailPlace seen = reservations_.tail();;) {
    if (!is_at_active(seen)) {
      if (auto followed = follow_locked(); !followed) return tl::unexpected{std::move(followed.error())};
      seen = reservations_.tail();
      continue;
    }
    const SegmentHeader& header = active_->header();
    if (bytes > header.segment_bytes) return fail(ErrorCode::kInvalidArgument, directory_ + ": batch of " + std::to_string(bytes) + " bytes does not fit the segments of the other writers");
    if (seen.offset + bytes > header.segment_bytes) {
      if (auto rotated = rotate_locked(header.ordinal); !rotated) return tl::unexpected{std::move(rotated.error())};
      seen = reservations_.tail();
      continue;
    }
    const Reservation mine{.position = header.base_position + seen.offset, .entry = header.base_entry + seen.entries, .timestamp_ns = seen.timestamp_ns,
                           .bytes = static_cast<std::uint32_t>(bytes), .entries = static_cast<std::uint32_t>(batch.size())};
    reservations_.announce(slot_, mine);
    if (reservations_.advance_tail(seen, {seen.ordinal, seen.entries + batch.size(), seen.offset + bytes, std::max(seen.timestamp_ns, newest_ns)})) return mine;
    reservations_.clear(slot_);  // somebody else has the place: who rotates must not wait for us while we wait for the rotation
  }
}

// All records of the reservation; they are shown at once, by the first one's word.
void SharedShard::fill(const Reservation& mine, const StoredBatch& batch) {
  std::byte* const first = active_->data().data() + (mine.position - active_->header().base_position);
  mark_reserved(first, mine);
  const Run run = put_run(first, batch, {.entry = mine.entry, .timestamp_ns = mine.timestamp_ns}, [this] { return clock_ns_; }, [](std::size_t, const Entry&, std::uint64_t, std::int64_t, std::uint64_t) {});
  publish_record(first, run.first_word);
  bytes_since_sync_ += mine.bytes;
  statistics_.add(Statistic::kBatches);
  statistics_.add(Statistic::kEntries, batch.size());
  statistics_.add(Statistic::kPayloadBytes, run.original_bytes);
  statistics_.raise(Statistic::kBatchEntriesMax, batch.size());
  statistics_.raise(Statistic::kLastAppendNs, static_cast<std::uint64_t>(run.last_timestamp_ns));
}

// Since this process synced last, by what it appended itself: every process keeps the promise for its own entries.
bool SharedShard::is_sync_due_locked(std::size_t entries) noexcept {
  entries_since_sync_ += entries;
  switch (options_.sync) {
    case SyncPolicy::kNone:
    case SyncPolicy::kEverySegment:
    case SyncPolicy::kExplicit: return false;
    case SyncPolicy::kEveryBatch: return true;
    case SyncPolicy::kEveryEntries: return entries_since_sync_ >= options_.sync_every_entries;
    case SyncPolicy::kEveryBytes: return bytes_since_sync_ >= options_.sync_every_bytes;
    case SyncPolicy::kPeriodic: return entries_since_sync_ != 0 && clock_.monotonic_ns() - last_sync_ns_ >= options_.sync_interval_ns;
  }
  return false;
}

Result<void> SharedShard::sync() {
  std::uint64_t end = 0;
  {
    const std::lock_guard guard{mutex_};
    const auto now = snapshot_locked();
    if (!now) return tl::unexpected{now.error()};
    end = now->entry;
  }
  return make_durable(end);
}

// What all processes have reserved by now. Errors: those of an append.
Result<DurablePoint> SharedShard::snapshot_locked() {
  if (auto open = check_open(); !open) return tl::unexpected{std::move(open.error())};
  for (;;) {
    const TailPlace seen = reservations_.tail();
    if (is_at_active(seen)) return DurablePoint{active_->header().base_entry + seen.entries, active_->header().base_position + seen.offset};
    if (auto followed = follow_locked(); !followed) return tl::unexpected{std::move(followed.error())};
  }
}

Result<void> SharedShard::make_durable(std::uint64_t entry) {
  return commit_.run([&] { return coordination_.durable_entry() >= entry; }, [&] { return sync_once(); });
}

Result<void> SharedShard::make_position_durable(std::uint64_t position) {
  return commit_.run([&] { return coordination_.durable().position >= position; }, [&] { return sync_once(); });
}

Result<void> SharedShard::sync_once() {
  DurablePoint until;
  std::int64_t timestamp_ns = 0;
  std::shared_ptr<Segment> active;
  {
    const std::lock_guard guard{mutex_};
    const auto now = snapshot_locked();
    if (!now) return tl::unexpected{now.error()};
    until = *now;
    timestamp_ns = reservations_.tail().timestamp_ns;
    active = active_;
    entries_since_sync_ = bytes_since_sync_ = 0;
    last_sync_ns_ = clock_.monotonic_ns();
  }
  if (auto filled = wait_until_filled(until.position, nullptr); !filled) return filled;
  const std::int64_t begin_ns = clock_.monotonic_ns();
  auto synced = sync_segments(active, until);
  if (!synced) coordination_.count_failed_sync();
  else if (coordination_.has_failed_sync())
    synced = fail(ErrorCode::kIo, directory_ + ": a sync of another writer failed: nobody knows what the disk has", "stop all writers, look after the disk, then open the log again");
  const std::lock_guard guard{mutex_};
  const auto took_ns = static_cast<std::uint64_t>(clock_.monotonic_ns() - begin_ns);
  statistics_.add(Statistic::kSyncs);
  statistics_.add(Statistic::kSyncNs, took_ns);
  statistics_.raise(Statistic::kSyncNsMax, took_ns);
  if (!synced) {
    statistics_.add(Statistic::kSyncErrors);
    broken_ = copy_of(synced.error());
    return synced;
  }
  coordination_.advance_durable(until, timestamp_ns, clock_.epoch_ns());
  wake_ups_.notify();
  return {};
}

// Those with something between the durable point and `until`; nearly always the active one alone.
Result<void> SharedShard::sync_segments(const std::shared_ptr<Segment>& active, const DurablePoint& until) {
  const DurablePoint durable = coordination_.durable();
  if (durable.position > active->header().base_position) return active->file().sync();  // something in it is durable: its name is, too
  auto listing = list_segments(files_, directory_);
  if (!listing) return tl::unexpected{std::move(listing.error())};
  for (const SegmentInfo& info : listing->segments) {
    if (info.end_position() <= durable.position || info.header.base_position >= until.position) continue;
    auto file = files_.open(info.path, OpenMode::kWrite);
    if (!file && file.error().code == ErrorCode::kNotFound) continue;  // retention was faster
    if (!file) return tl::unexpected{std::move(file.error())};
    if (auto synced = (*file)->sync(); !synced) return synced;
  }
  return files_.sync_directory(directory_);
}

Result<void> SharedShard::maintain() {
  bool is_sync_due = false;
  std::uint64_t end = 0;
  {
    const std::lock_guard guard{mutex_};
    const auto now = snapshot_locked();
    if (!now) return tl::unexpected{now.error()};
    end = now->entry;
    is_sync_due = options_.sync == SyncPolicy::kPeriodic && is_sync_due_locked(0);
    std::uint64_t offset = now->position - active_->header().base_position;
    const bool is_old = options_.segment_age_max_ns != 0 && clock_.epoch_ns() - active_->header().created_ns >= options_.segment_age_max_ns;
    if (is_old && offset != 0) {
      if (auto rotated = rotate_locked(active_->header().ordinal); !rotated) return rotated;
      offset = 0;
    }
    active_->mapping().populate(kDataOffset + offset, std::min(options_.prepare_bytes, active_->header().segment_bytes - offset));
    is_maintained_ = true;
    publish_statistics_locked();
  }
  if (auto prepared = prepare_ahead(); !prepared) return prepared;
  if (auto done = put_away(); !done) return done;
  if (auto filled = fill_holes(nullptr); !filled) return filled;
  return is_sync_due ? make_durable(end) : Result<void>{};
}

Result<void> SharedShard::rotate() {
  {
    const std::lock_guard guard{mutex_};
    const auto now = snapshot_locked();
    if (!now) return tl::unexpected{now.error()};
    if (now->position == active_->header().base_position) return {};
    if (auto rotated = rotate_locked(active_->header().ordinal); !rotated) return rotated;
  }
  return put_away();
}

Result<void> SharedShard::close() {
  {
    const std::lock_guard guard{mutex_};
    if (is_closed_) return {};
  }
  Result<void> synced;
  if (is_synced_on_rotation()) synced = sync();
  if (auto done = put_away(); !done && synced) synced = std::move(done);
  const std::lock_guard guard{mutex_};
  publish_statistics_locked();
  is_closed_ = true;
  lock_.reset();
  return synced;
}

void SharedShard::publish_statistics_locked() {
  if (!statistics_page_) return;
  Statistics counted = statistics_;
  counted.add(Statistic::kHolesFilled, holes_filled_);
  statistics_page_->publish(counted);
}

std::uint64_t SharedShard::next_entry() {
  const std::lock_guard guard{mutex_};
  const auto now = snapshot_locked();
  return now ? now->entry : coordination_.durable_entry();
}

Statistics SharedShard::statistics() const {
  const std::lock_guard guard{mutex_};
  Statistics counted = statistics_;
  counted.add(Statistic::kHolesFilled, holes_filled_);
  return counted;
}

}  // namespace thalweg::log
