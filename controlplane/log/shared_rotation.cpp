#include <algorithm>
#include <thread>
#include <utility>

#include "controlplane/log/shared_lock.hpp"
#include "controlplane/log/shared_shard.hpp"

// What writers of one shard do one at a time: starting a segment, and filling what the dead left behind. Every step may be the last one of its
// process: the next one that comes to the same point finds what was done and does the rest.
namespace thalweg::log {

bool SharedShard::is_at_active(const TailPlace& seen) const noexcept {
  return active_ && seen.is_of(active_->header().ordinal) && coordination_.active_ordinal() == active_->header().ordinal;
}

// Maps the segment that is written to now.
Result<void> SharedShard::follow_locked() {
  const std::uint64_t ordinal = coordination_.active_ordinal();
  if (!reservations_.tail().is_of(ordinal)) return rotate_locked(ordinal - 1);  // somebody died in between, or is just there
  if (active_ && active_->header().ordinal == ordinal) return {};
  auto info = read_segment_info(files_, directory_, ordinal);
  if (!info) return tl::unexpected{std::move(info.error())};
  auto segment = Segment::open(files_, std::move(*info), OpenMode::kWrite);
  if (!segment) return tl::unexpected{std::move(segment.error())};
  active_ = std::move(*segment);
  return {};
}

// Spec: archive-log 3. `full_ordinal`: the segment that the caller wants something behind.
Result<void> SharedShard::rotate_locked(std::uint64_t full_ordinal) {
  auto rotation = FileLock::take(*lock_, kRotationLock, clock_, &rotation_mutex_);
  if (!rotation) return tl::unexpected{std::move(rotation.error())};
  const std::uint64_t ordinal = coordination_.active_ordinal();
  const bool is_half_done = !reservations_.tail().is_of(ordinal);  // the segment is there, the tail has not been moved to it
  if (!is_half_done && ordinal != full_ordinal) return follow_locked();  // somebody else did it
  auto rotated = start_next_segment(is_half_done ? ordinal - 1 : ordinal, *rotation);
  statistics_.add(rotated ? Statistic::kRotations : Statistic::kRotationsFailed);
  if (!rotated) return rotated;
  is_put_away_due_ = true;
  publish_statistics_locked();
  return {};
}

// What full segments still need, with no lock held that anybody waits for who appends: a sync, by the policies that want one, the seal, the index,
// the catalog.
Result<void> SharedShard::put_away() {
  std::uint64_t end = 0;
  {
    const std::lock_guard guard{mutex_};
    if (!std::exchange(is_put_away_due_, false)) return {};
    if (auto open = check_open(); !open) return open;
    end = active_->header().base_position;
  }
  if (is_synced_on_rotation())
    if (auto durable = make_position_durable(end); !durable) return durable;
  seal_closed();
  return {};
}

Result<void> SharedShard::start_next_segment(std::uint64_t old_ordinal, const FileLock& rotation) {
  auto old_info = read_segment_info(files_, directory_, old_ordinal);
  if (!old_info) return tl::unexpected{std::move(old_info.error())};
  auto old = Segment::open(files_, std::move(*old_info), OpenMode::kWrite);
  if (!old) return tl::unexpected{std::move(old.error())};
  const SegmentHeader& before = (*old)->header();
  auto next = prepare_next(before);  // what may fail for want of space comes before the old one takes nothing more
  if (!next) return tl::unexpected{std::move(next.error())};
  const TailPlace end = close_tail(**old);
  if (auto filled = wait_until_filled(before.base_position + before.segment_bytes, &rotation); !filled) return filled;
  SegmentHeader header = (*next)->header();
  header.base_entry = before.base_entry + end.entries;
  header.base_timestamp_ns = end.timestamp_ns;
  if (!(*next)->is_published()) {
    if (auto published = (*next)->publish_unsynced(files_, header); !published) return published;
    statistics_.add(Statistic::kSegmentsCreated);
  }
  coordination_.set_active_ordinal(header.ordinal);
  reservations_.set_tail({header.ordinal & kTailOrdinalMask, 0, 0, end.timestamp_ns});
  coordination_.count_change();
  active_ = std::move(*next);
  return {};
}

// The next segment, allocated: what somebody's maintain() made ahead, or a rotation left behind that was not finished; otherwise a new one. It has its
// name only when its header is right.
Result<std::shared_ptr<Segment>> SharedShard::prepare_next(const SegmentHeader& before) {
  if (auto info = read_segment_info(files_, directory_, before.ordinal + 1)) return Segment::open(files_, std::move(*info), OpenMode::kWrite);
  const auto lock = FileLock::take(*lock_, kPrepareLock, clock_, &prepare_mutex_);
  if (!lock) return tl::unexpected{lock.error()};
  return make_temporary(before);
}

// Precondition: the prepare lock.
Result<std::shared_ptr<Segment>> SharedShard::make_temporary(const SegmentHeader& before) {
  const auto names = files_.list(directory_);
  if (!names) return tl::unexpected{names.error()};
  const auto count = std::count_if(names->begin(), names->end(), [](const std::string& name) { return parse_segment_name(name).has_value(); });
  if (options_.segments_max != 0 && static_cast<std::uint64_t>(count) >= options_.segments_max)
    return fail(ErrorCode::kNoSpace, directory_ + ": " + std::to_string(count) + " segments are there, no more are allowed", "raise segments_max, or let retention delete some");
  SegmentHeader header{.segment_bytes = options_.segment_bytes, .ordinal = before.ordinal + 1, .base_position = before.base_position + before.segment_bytes, .base_entry = kBaseNotKnown,
                       .created_ns = clock_.epoch_ns(), .writer_id = writer_id_};
  header.kind = SegmentKind::kRecords;
  header.log_id = options_.shard;
  if (auto there = Segment::open_temporary(files_, directory_, header)) return there;
  if (auto removed = files_.remove(temporary_path(directory_, header.ordinal)); !removed && removed.error().code != ErrorCode::kNotFound) return tl::unexpected{std::move(removed.error())};
  return Segment::create(files_, directory_, header);
}

// Makes it ahead, unless another one is at it. A full disk is the appender's to report, when it needs the segment.
Result<void> SharedShard::prepare_ahead() {
  std::shared_ptr<Segment> active;
  {
    const std::lock_guard guard{mutex_};
    const auto now = snapshot_locked();
    if (!now) return tl::unexpected{now.error()};
    if (prepared_behind_ == active_->header().ordinal || now->position - active_->header().base_position <= active_->header().segment_bytes / 2) return {};
    active = active_;
  }
  std::unique_lock thread{prepare_mutex_, std::try_to_lock};
  if (!thread.owns_lock()) return {};
  const auto locked = lock_->try_lock(kPrepareLock, 1);
  if (!locked) return tl::unexpected{locked.error()};
  if (!*locked) return {};
  const std::uint64_t ordinal = active->header().ordinal;
  // Looked at with the lock held: from here on nobody can take a next one into use that this one would be in the way of.
  const bool is_still_active = coordination_.active_ordinal() == ordinal && !read_segment_info(files_, directory_, ordinal + 1);
  auto made = is_still_active ? make_temporary(active->header()) : Result<std::shared_ptr<Segment>>{std::shared_ptr<Segment>{}};
  lock_->unlock(kPrepareLock, 1);
  thread.unlock();  // who rotates waits for it with mutex_ held
  const std::lock_guard guard{mutex_};
  if (made) prepared_behind_ = ordinal;
  return made || made.error().code == ErrorCode::kNoSpace ? Result<void>{} : tl::unexpected{std::move(made.error())};
}

// Takes all that is left of the segment, as a pad. From here on nobody reserves in it.
TailPlace SharedShard::close_tail(const Segment& old) {
  const SegmentHeader& header = old.header();
  TailPlace seen = reservations_.tail();
  while (seen.is_of(header.ordinal) && seen.offset < header.segment_bytes) {
    const std::uint64_t left = header.segment_bytes - seen.offset;
    const Reservation pad{.position = header.base_position + seen.offset, .entry = header.base_entry + seen.entries, .timestamp_ns = seen.timestamp_ns,
                          .bytes = static_cast<std::uint32_t>(left), .entries = 0};
    if (left >= kRecordHeaderBytes) reservations_.announce(slot_, pad);
    if (!reservations_.advance_tail(seen, {seen.ordinal, seen.entries, header.segment_bytes, seen.timestamp_ns})) continue;
    if (left >= kRecordHeaderBytes) {
      std::byte* const at = old.data().data() + seen.offset;
      publish_record(at, put_pad(at, pad.bytes, pad.entry, 0, pad.timestamp_ns));
    }
    seen.offset = header.segment_bytes;
  }
  reservations_.clear(slot_);
  return seen;
}

// Seals and the catalog are for those who do not want to read everything: no reason to stop when they cannot be written.
// One process does it at a time; what it leaves out is done with the next segment.
void SharedShard::seal_closed() {
  std::unique_lock thread{seal_mutex_, std::try_to_lock};
  if (!thread.owns_lock()) return;
  if (const auto locked = lock_->try_lock(kSealLock, 1); !locked || !*locked) return;
  Statistics counted;
  if (auto listing = list_segments(files_, directory_)) seal_and_list(*listing, counted);
  lock_->unlock(kSealLock, 1);
  thread.unlock();
  const std::lock_guard guard{mutex_};
  statistics_.add(counted);
}

void SharedShard::seal_and_list(SegmentListing& listing, Statistics& counted) {
  Catalog catalog;
  for (SegmentInfo& info : listing.segments) {
    const bool is_closed = info.ordinal() < coordination_.active_ordinal();
    if (is_closed && !info.seal) seal(info, counted);
    static_cast<void>(catalog.add(catalog_entry(info)));  // ordinals rise in a listing
  }
  const bool is_saved = save_catalog(files_, directory_, options_.shard, catalog).has_value();
  counted.add(is_saved ? Statistic::kCatalogSaves : Statistic::kCatalogErrors);
}

void SharedShard::seal(SegmentInfo& info, Statistics& counted) {
  auto segment = Segment::open(files_, info, OpenMode::kWrite);
  if (!segment) return;
  const ScanPoint start{0, info.header.base_entry, info.header.base_timestamp_ns};
  const auto data = (*segment)->data();
  const bool is_synced = info.end_position() <= coordination_.durable().position;
  if ((*segment)->seal(scan_segment(data, start, data.size()).summary, is_synced, clock_.epoch_ns())) info = (*segment)->info();
  else counted.add(Statistic::kSealErrors);
  const bool is_saved = save_index(files_, directory_, info.ordinal(), SparseIndex::build(data, start, data.size(), options_.index_interval)).has_value();
  counted.add(is_saved ? Statistic::kIndexSaves : Statistic::kIndexErrors);
}

Result<bool> SharedShard::is_dead(std::uint32_t slot) const {
  if (slot == slot_) return !is_joined_;  // what the last owner left
  const auto locked = lock_->is_locked(slot, 1);
  if (!locked) return locked;
  return !*locked;
}

// Everything reserved below `position` becomes readable, by the hands of its owners or, when they are dead, by ours.
Result<void> SharedShard::wait_until_filled(std::uint64_t position, const FileLock* rotation) {
  constexpr int kSpins = 100;  // an owner at work needs less than a microsecond for most batches
  const std::int64_t deadline_ns = clock_.monotonic_ns() + kLockPatience_ns;
  for (int turn = 0; reservations_.filled_to(position) < position; ++turn) {
    if (turn < kSpins) continue;
    if (auto filled = fill_holes(rotation); !filled) return filled;
    if (clock_.monotonic_ns() >= deadline_ns) return fail(ErrorCode::kTimeout, directory_ + ": a writer does not finish what it reserved", "look for a stopped writer of this log");
    std::this_thread::yield();
  }
  return {};
}

Result<void> SharedShard::fill_holes(const FileLock* rotation) {
  const auto is_dead_slot = [this](std::uint32_t slot) { return is_dead(slot); };
  bool is_any = false;
  for (std::uint32_t slot = 0; slot < kWriterSlots && !is_any; ++slot) {
    if (!reservations_.announced(slot)) continue;
    const auto dead = is_dead(slot);
    if (!dead) return tl::unexpected{dead.error()};
    is_any = *dead;
  }
  if (!is_any) return {};
  std::optional<FileLock> taken;
  if (rotation == nullptr) {
    auto lock = FileLock::take(*lock_, kRotationLock, clock_, &rotation_mutex_);
    if (!lock) return tl::unexpected{std::move(lock.error())};
    taken.emplace(std::move(*lock));
  }
  const auto filled = fill_dead_holes(files_, directory_, coordination_, is_dead_slot);
  if (!filled) return tl::unexpected{filled.error()};
  holes_filled_ += *filled;
  return {};
}

}  // namespace thalweg::log
