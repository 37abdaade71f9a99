#include "controlplane/log/shard.hpp"

#include <unistd.h>

#include <algorithm>
#include <limits>

#include "dataplane/base/assert.hpp"
#include "dataplane/base/random.hpp"

namespace thalweg::log {
namespace {

constexpr const char* kLockName = "writers.lock";

Error copy_of(const Error& error) { return Error{error.code, error.message, error.hint}; }

}  // namespace

// What one flush covers, taken together under the mutex.
struct Shard::SyncWork {
  std::vector<std::shared_ptr<Segment>> segments;
  DurablePoint until;
  std::int64_t timestamp_ns{};
};

Shard::Shard(FileSystem& files, const Clock& clock, std::string directory, const ShardOptions& options, std::unique_ptr<File> lock, Coordination coordination)
    : files_{files}, clock_{clock}, directory_{std::move(directory)}, options_{options}, lock_{std::move(lock)}, coordination_{std::move(coordination)}, index_{options.index_interval} {
  entry_bytes_max_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(options.payload_max_bytes, options.segment_bytes - kRecordHeaderBytes));
  Random random{static_cast<std::uint64_t>(clock.epoch_ns()) ^ static_cast<std::uint64_t>(::getpid()) << 32U};
  writer_id_ = random.next();
}

Result<std::unique_ptr<Shard>> Shard::open(FileSystem& files, const Clock& clock, std::string directory, const ShardOptions& options) {
  if (auto valid = validate(options); !valid) return tl::unexpected{std::move(valid.error())};
  if (auto made = files.create_directory(directory); !made) return tl::unexpected{std::move(made.error())};
  auto lock = files.open(directory + "/" + kLockName, OpenMode::kCreate);
  if (!lock) return tl::unexpected{std::move(lock.error())};
  const auto locked = (*lock)->try_lock(0, kWriterSlots);
  if (!locked) return tl::unexpected{locked.error()};
  if (!*locked) return fail(ErrorCode::kInUse, directory + ": another writer has this shard open", "stop it first, or open the shard for reading");
  auto coordination = Coordination::open_or_create(files, directory, options.shard, clock.epoch_ns());
  if (!coordination) return tl::unexpected{std::move(coordination.error())};
  std::unique_ptr<Shard> shard{new Shard{files, clock, std::move(directory), options, std::move(*lock), std::move(*coordination)}};
  if (auto started = shard->start(); !started) {
    shard->is_closed_ = true;
    return tl::unexpected{std::move(started.error())};
  }
  return shard;
}

Result<void> Shard::start() {
  auto recovered = recover_shard(files_, clock_, directory_, coordination_);
  if (!recovered) return tl::unexpected{std::move(recovered.error())};
  report_ = std::move(recovered->report);
  segments_ = std::move(recovered->segments);
  active_ = std::move(recovered->active);
  tail_ = recovered->tail;
  if (active_) {
    summary_ = segments_.back().summary;
    counted_from_ = recovered->counted_from;
  } else {
    auto created = create_segment();
    if (!created) return tl::unexpected{std::move(created.error())};
    if (auto published = (*created)->publish(files_); !published) return published;
    active_ = std::move(*created);
    tail_.offset = 0;
    summary_ = SegmentSummary{.end_entry = tail_.entry};
    segments_.push_back({active_->info(), summary_, false});
    if (auto synced = files_.sync_directory(parent_directory(directory_)); !synced) return synced;
  }
  prepared_to_ = tail_.offset;
  synced_entry_ = tail_.entry;
  last_sync_ns_ = clock_.monotonic_ns();
  coordination_.page().active_ordinal = active_->header().ordinal;
  coordination_.reset_durable({tail_.entry, active_->header().base_position + tail_.offset}, tail_.timestamp_ns, clock_.epoch_ns());
  coordination_.count_change();
  return {};
}

Shard::~Shard() { static_cast<void>(close()); }  // a destructor has nobody to tell

Result<void> Shard::check(const Entry& entry) const {
  if (entry.key.size() > std::numeric_limits<std::uint16_t>::max())
    return fail(ErrorCode::kInvalidArgument, "key of " + std::to_string(entry.key.size()) + " bytes: at most 65535 are possible");
  if (entry.key.size() + entry.payload.size() > entry_bytes_max_)
    return fail(ErrorCode::kInvalidArgument, "entry of " + std::to_string(entry.key.size() + entry.payload.size()) + " bytes: at most " +
                                                 std::to_string(entry_bytes_max_) + " fit (payload_max_bytes, segment_bytes)");
  return {};
}

Result<void> Shard::check_open() const {
  if (is_closed_) return fail(ErrorCode::kClosed, directory_ + ": the log is closed");
  if (broken_) return tl::unexpected{copy_of(*broken_)};
  return {};
}

Result<Appended> Shard::append(const Entry& entry) { return append(std::span{&entry, 1}); }

Result<Appended> Shard::append(std::span<const Entry> batch) {
  for (const Entry& entry : batch)
    if (auto checked = check(entry); !checked) return tl::unexpected{std::move(checked.error())};
  bool is_sync_due = false;
  Result<Appended> appended;
  {
    const std::lock_guard guard{mutex_};
    appended = append_locked(batch);
    if (!appended) return appended;
    is_sync_due = is_sync_due_locked();
  }
  if (is_sync_due && !batch.empty()) {
    const std::uint64_t end = appended->first_entry + appended->count;
    if (auto durable = make_durable(end); !durable) return tl::unexpected{std::move(durable.error())};
    appended->is_durable = true;
  }
  return appended;
}

Result<Appended> Shard::append_locked(std::span<const Entry> batch) {
  if (auto open = check_open(); !open) return tl::unexpected{std::move(open.error())};
  Appended appended{.first_entry = tail_.entry, .count = batch.size(), .end_position = 0, .is_durable = false};
  std::uint64_t bytes = 0;
  for (const Entry& entry : batch) bytes += record_span(entry.key.size() + entry.payload.size());
  const std::uint64_t segment_bytes = active_->data().size();
  if (bytes <= std::min<std::uint64_t>(segment_bytes, options_.segment_bytes)) {
    if (auto room = make_room(bytes); !room) return tl::unexpected{std::move(room.error())};
    if (!batch.empty()) put_run(batch, true, true);
  } else {
    // In runs that fill a segment each. An error leaves the runs before it: they are there, with their numbers, without an end of the batch.
    for (std::size_t from = 0; from < batch.size();) {
      std::size_t to = from;
      std::uint64_t room = active_->data().size() - tail_.offset;
      for (; to < batch.size(); ++to) {
        const std::uint64_t span = record_span(batch[to].key.size() + batch[to].payload.size());
        if (span > room) break;
        room -= span;
      }
      if (to == from) {
        if (auto rotated = rotate_locked(); !rotated) return tl::unexpected{std::move(rotated.error())};
        continue;
      }
      put_run(batch.subspan(from, to - from), from == 0, to == batch.size());
      from = to;
    }
  }
  appended.end_position = active_->header().base_position + tail_.offset;
  return appended;
}

Result<void> Shard::make_room(std::uint64_t bytes) {
  if (bytes <= active_->data().size() - tail_.offset) [[likely]] return {};
  return rotate_locked();
}

void Shard::count(const RecordHeader& header, std::uint32_t stored) noexcept {
  if (summary_.record_count == 0) summary_.first_timestamp_ns = header.timestamp_ns;
  ++summary_.record_count;
  summary_.payload_bytes += stored;
  summary_.last_timestamp_ns = header.timestamp_ns;
  add_stream(summary_.streams, header.stream);
}

// Writes records one behind the other and shows them all at once: the first one's word is stored last. Precondition: there is room.
void Shard::put_run(std::span<const Entry> run, bool begins, bool ends) {
  std::byte* const first = active_->data().data() + tail_.offset;
  std::byte* at = first;
  RecordWord first_word = 0;
  std::int64_t timestamp_ns = tail_.timestamp_ns;
  std::optional<std::int64_t> clock_ns;
  for (std::size_t i = 0; i < run.size(); ++i) {
    const Entry& entry = run[i];
    if (!entry.timestamp_ns && !clock_ns) clock_ns = clock_.epoch_ns();
    timestamp_ns = std::max(timestamp_ns, entry.timestamp_ns ? *entry.timestamp_ns : *clock_ns);
    const auto stored = static_cast<std::uint32_t>(entry.key.size() + entry.payload.size());
    unsigned flags = entry.key.empty() ? 0U : record_flag::kHasKey;
    if (begins && i == 0) flags |= record_flag::kBeginBatch;
    if (ends && i + 1 == run.size()) flags |= record_flag::kEndBatch;
    const RecordHeader header{.entry = tail_.entry + i, .timestamp_ns = timestamp_ns, .stream = entry.stream, .type = entry.type, .original_length = stored,
                              .flags = static_cast<std::uint8_t>(flags), .key_length = static_cast<std::uint16_t>(entry.key.size())};
    const RecordWord word = put_record(at, header, entry.key, entry.payload);
    if (i == 0) first_word = word;
    else publish_record(at, word);
    count(header, stored);
    index_.add(header, static_cast<std::uint64_t>(at - first) + tail_.offset);
    at += record_span(stored);
  }
  publish_record(first, first_word);
  const auto bytes = static_cast<std::uint64_t>(at - first);
  tail_ = {tail_.offset + bytes, tail_.entry + run.size(), timestamp_ns};
  appended_bytes_ += bytes;
  summary_.end_entry = tail_.entry;
  summary_.end_offset = tail_.offset;
}

Result<std::shared_ptr<Segment>> Shard::create_segment() {
  const SegmentInfo* const last = segments_.empty() ? nullptr : &segments_.back().info;
  SegmentHeader header{.segment_bytes = options_.segment_bytes, .base_entry = tail_.entry, .created_ns = clock_.epoch_ns(), .writer_id = writer_id_};
  header.kind = SegmentKind::kRecords;
  header.ordinal = last == nullptr ? 0 : last->ordinal() + 1;
  header.base_position = last == nullptr ? 0 : last->end_position();
  header.base_timestamp_ns = tail_.timestamp_ns;
  header.log_id = options_.shard;
  return Segment::create(files_, directory_, header);
}

Result<void> Shard::rotate() {
  const std::lock_guard guard{mutex_};
  if (auto open = check_open(); !open) return open;
  if (tail_.offset == 0) return {};
  return rotate_locked();
}

// Spec: archive-log 3. Until the new segment has its name the old one stays active, whatever fails.
Result<void> Shard::rotate_locked() {
  if (options_.segments_max != 0 && segments_.size() >= options_.segments_max)
    return fail(ErrorCode::kNoSpace, directory_ + ": " + std::to_string(segments_.size()) + " segments are there, no more are allowed", "raise segments_max, or let retention delete some");
  auto created = create_segment();
  if (!created) return tl::unexpected{std::move(created.error())};
  const bool is_synced = options_.sync != SyncPolicy::kNone && options_.sync != SyncPolicy::kExplicit;
  if (is_synced) {
    if (auto synced = active_->file().sync(); !synced) {
      broken_ = copy_of(synced.error());
      return synced;
    }
  }
  if (auto published = (*created)->publish(files_); !published) return published;
  auto closed = close_active_locked();
  if (!is_synced) unsynced_.push_back(active_);
  active_ = std::move(*created);
  tail_.offset = 0;
  summary_ = SegmentSummary{.end_entry = tail_.entry};
  index_ = SparseIndex{options_.index_interval};
  counted_from_ = 0;
  prepared_to_ = 0;
  segments_.push_back({active_->info(), summary_, false});
  coordination_.page().active_ordinal = active_->header().ordinal;
  coordination_.count_change();
  if (is_synced) coordination_.advance_durable({tail_.entry, active_->header().base_position}, tail_.timestamp_ns, clock_.epoch_ns());
  return closed;
}

// A pad to the end of the data, and the seal. The segment was synced before if the policy wants it.
Result<void> Shard::close_active_locked() {
  const bool is_synced = options_.sync != SyncPolicy::kNone && options_.sync != SyncPolicy::kExplicit;
  const std::uint64_t left = active_->data().size() - tail_.offset;
  if (left >= kRecordHeaderBytes) {
    std::byte* const at = active_->data().data() + tail_.offset;
    publish_record(at, put_pad(at, static_cast<std::uint32_t>(left), tail_.entry, 0, tail_.timestamp_ns));
  }
  if (counted_from_ != 0) {  // recovery began in the middle: the rest is counted now
    const ScanPoint start{0, active_->header().base_entry, active_->header().base_timestamp_ns};
    const std::uint64_t end = tail_.offset;
    summary_ = scan_segment(active_->data(), start, end).summary;
    index_ = SparseIndex::build(active_->data(), start, end, options_.index_interval);
  }
  segments_.back().summary = summary_;
  segments_.back().is_closed = true;
  auto sealed = active_->seal(summary_, is_synced, clock_.epoch_ns());
  segments_.back().info = active_->info();
  static_cast<void>(save_index(files_, directory_, active_->header().ordinal, index_));  // a help only: without it readers read more
  return sealed;
}

bool Shard::is_sync_due_locked() const noexcept {
  switch (options_.sync) {
    case SyncPolicy::kNone:
    case SyncPolicy::kEverySegment:
    case SyncPolicy::kExplicit: return false;
    case SyncPolicy::kEveryBatch: return true;
    case SyncPolicy::kEveryEntries: return tail_.entry - synced_entry_ >= options_.sync_every_entries;
    case SyncPolicy::kEveryBytes: return appended_bytes_ >= options_.sync_every_bytes;
    case SyncPolicy::kPeriodic: return tail_.entry != synced_entry_ && clock_.monotonic_ns() - last_sync_ns_ >= options_.sync_interval_ns;
  }
  return false;
}

Result<void> Shard::sync() {
  std::uint64_t end = 0;
  {
    const std::lock_guard guard{mutex_};
    if (auto open = check_open(); !open) return open;
    end = tail_.entry;
  }
  return make_durable(end);
}

// One caller flushes for all that wait: those who come while it is at work wait for the next flush, which covers them together.
Result<void> Shard::make_durable(std::uint64_t entry) {
  std::unique_lock lock{sync_mutex_};
  while (coordination_.durable_entry() < entry) {
    if (is_syncing_) {
      sync_done_.wait(lock);
      continue;
    }
    is_syncing_ = true;
    lock.unlock();
    auto synced = sync_once();
    lock.lock();
    is_syncing_ = false;
    sync_done_.notify_all();
    if (!synced) return synced;
  }
  return {};
}

Shard::SyncWork Shard::take_sync_work() {
  SyncWork work;
  work.segments = unsynced_;
  work.segments.push_back(active_);
  work.until = {tail_.entry, active_->header().base_position + tail_.offset};
  work.timestamp_ns = tail_.timestamp_ns;
  appended_bytes_ = 0;
  synced_entry_ = tail_.entry;
  last_sync_ns_ = clock_.monotonic_ns();
  return work;
}

Result<void> Shard::sync_once() {
  SyncWork work;
  {
    const std::lock_guard guard{mutex_};
    if (broken_) return tl::unexpected{copy_of(*broken_)};
    work = take_sync_work();
  }
  std::vector<File*> files;
  for (const auto& segment : work.segments) files.push_back(&segment->file());
  auto synced = files_.sync_all(files);
  const std::lock_guard guard{mutex_};
  if (!synced) {
    broken_ = copy_of(synced.error());
    return synced;
  }
  std::erase_if(unsynced_, [&](const auto& segment) { return std::find(work.segments.begin(), work.segments.end(), segment) != work.segments.end(); });
  coordination_.advance_durable(work.until, work.timestamp_ns, clock_.epoch_ns());
  return {};
}

Result<void> Shard::maintain() {
  bool is_sync_due = false;
  std::uint64_t end = 0;
  std::shared_ptr<Segment> active;
  std::uint64_t prepare_from = 0;
  std::uint64_t prepare_bytes = 0;
  {
    const std::lock_guard guard{mutex_};
    if (auto open = check_open(); !open) return open;
    const bool is_old = options_.segment_age_max_ns != 0 && clock_.epoch_ns() - active_->header().created_ns >= options_.segment_age_max_ns;
    if (is_old && tail_.offset != 0)
      if (auto rotated = rotate_locked(); !rotated) return rotated;
    is_sync_due = options_.sync == SyncPolicy::kPeriodic && is_sync_due_locked();
    end = tail_.entry;
    active = active_;
    prepare_from = std::max(prepared_to_, tail_.offset);
    const std::uint64_t prepare_to = std::min<std::uint64_t>(tail_.offset + options_.prepare_bytes, active_->data().size());
    if (prepare_to > prepare_from) {
      prepare_bytes = prepare_to - prepare_from;
      prepared_to_ = prepare_to;
    }
  }
  if (prepare_bytes != 0) active->mapping().populate(kDataOffset + prepare_from, prepare_bytes);
  if (is_sync_due) return make_durable(end);
  return {};
}

RetentionShard Shard::retention_state(std::optional<std::uint64_t> lowest_committed, std::span<const EntryRange> pinned) const {
  const std::lock_guard guard{mutex_};
  RetentionShard state{.closed = {}, .active_bytes = kDataOffset + active_->header().segment_bytes, .lowest_committed = lowest_committed};
  for (std::size_t i = 0; i + 1 < segments_.size(); ++i) {
    const KnownSegment& segment = segments_[i];
    const SegmentHeader& header = segment.info.header;
    RetentionSegment closed{.end_entry = segment.summary.end_entry, .bytes = kDataOffset + header.segment_bytes, .newest_ns = header.created_ns};
    if (segment.summary.record_count > 0) closed.newest_ns = segment.summary.last_timestamp_ns;
    closed.closed_ns = segment.info.seal ? segment.info.seal->closed_ns : header.created_ns;
    for (const EntryRange& range : pinned) closed.is_pinned |= range.from < closed.end_entry && header.base_entry < range.to;
    state.closed.push_back(closed);
  }
  return state;
}

// Spec: archive-log 7, Order. The names go from the oldest on, so that a crash in between leaves no hole.
Result<std::uint64_t> Shard::delete_oldest(std::size_t count) {
  const std::lock_guard guard{mutex_};
  if (auto open = check_open(); !open) return tl::unexpected{std::move(open.error())};
  std::uint64_t bytes = 0;
  for (count = std::min(count, segments_.size() - 1); count > 0; --count) {
    bytes += kDataOffset + segments_.front().info.header.segment_bytes;
    to_remove_.push_back(segments_.front().info.path);
    segments_.erase(segments_.begin());
  }
  if (to_remove_.empty()) return bytes;
  coordination_.count_change();
  while (!to_remove_.empty()) {
    const std::string& path = to_remove_.front();
    if (auto removed = files_.remove(path); !removed && removed.error().code != ErrorCode::kNotFound) return tl::unexpected{std::move(removed.error())};
    const std::string index = directory_ + "/" + index_name(*parse_segment_name(path.substr(path.size() - segment_name(0).size())));
    if (auto removed = files_.remove(index); !removed && removed.error().code != ErrorCode::kNotFound) return tl::unexpected{std::move(removed.error())};
    to_remove_.erase(to_remove_.begin());
  }
  coordination_.count_change();  // who listed the directory in between looks again
  if (auto synced = files_.sync_directory(directory_); !synced) return tl::unexpected{std::move(synced.error())};
  return bytes;
}

Result<void> Shard::close() {
  {
    const std::lock_guard guard{mutex_};
    if (is_closed_) return {};
  }
  Result<void> synced;
  if (options_.sync != SyncPolicy::kNone && options_.sync != SyncPolicy::kExplicit) synced = sync();
  const std::lock_guard guard{mutex_};
  is_closed_ = true;
  lock_.reset();
  return synced;
}

std::uint64_t Shard::next_entry() const {
  const std::lock_guard guard{mutex_};
  return tail_.entry;
}

std::uint64_t Shard::first_entry() const {
  const std::lock_guard guard{mutex_};
  return segments_.front().info.header.base_entry;
}

std::uint64_t Shard::end_position() const {
  const std::lock_guard guard{mutex_};
  return active_->header().base_position + tail_.offset;
}

std::size_t Shard::segment_count() const {
  const std::lock_guard guard{mutex_};
  return segments_.size();
}

}  // namespace thalweg::log
