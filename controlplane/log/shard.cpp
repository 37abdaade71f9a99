#include "controlplane/log/shard.hpp"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "controlplane/log/record_put.hpp"
#include "controlplane/log/reservation.hpp"
#include "controlplane/log/shared_lock.hpp"
#include "dataplane/base/assert.hpp"
#include "dataplane/base/random.hpp"

namespace thalweg::log {
namespace {

Error copy_of(const Error& error) { return Error{error.code, error.message, error.hint}; }

}  // namespace

// What one flush covers, taken together under the mutex.
struct Shard::SyncWork {
  std::vector<std::shared_ptr<Segment>> segments;
  bool is_directory_due{};  // some of them have names that are not durable
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
  auto lock = claim_for_one_writer(files, directory, "shard");
  if (!lock) return tl::unexpected{std::move(lock.error())};
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
  const auto filled = fill_all_holes(files_, directory_, coordination_);  // writers that shared it may have been killed
  if (!filled) return tl::unexpected{filled.error()};
  statistics_.add(Statistic::kHolesFilled, *filled);
  auto recovered = recover_shard(files_, clock_, directory_, coordination_);
  if (!recovered) return tl::unexpected{std::move(recovered.error())};
  report_ = std::move(recovered->report);
  segments_ = std::move(recovered->segments);
  tail_ = recovered->tail;
  if (recovered->active) {
    set_active(std::move(recovered->active));
    summary_ = segments_.back().summary;
    counted_from_ = recovered->counted_from;
  } else {
    SegmentHeader header = next_header();
    header.base_entry = tail_.entry;
    header.base_timestamp_ns = tail_.timestamp_ns;
    auto created = Segment::create(files_, directory_, header);
    if (!created) return tl::unexpected{std::move(created.error())};
    if (auto published = (*created)->publish(files_); !published) return published;
    set_active(std::move(*created));
    tail_.offset = 0;
    summary_ = SegmentSummary{.end_entry = tail_.entry};
    segments_.push_back({.info = active_->info(), .summary = summary_});
    statistics_.add(Statistic::kSegmentsCreated);
    if (auto synced = files_.sync_directory(parent_directory(directory_)); !synced) return synced;
  }
  prepared_to_ = tail_.offset;
  synced_entry_ = tail_.entry;
  last_sync_ns_ = clock_.monotonic_ns();
  coordination_.set_active_ordinal(active_->header().ordinal);
  coordination_.reset_durable({tail_.entry, active_->header().base_position + tail_.offset}, tail_.timestamp_ns, clock_.epoch_ns());
  coordination_.count_change();
  auto page = StatisticsPage::open_or_create(files_, directory_);
  if (!page) return tl::unexpected{std::move(page.error())};
  statistics_page_ = std::move(*page);
  count_recovery();
  remember_damage();
  save_catalog();
  return {};
}

Shard::~Shard() { static_cast<void>(close()); }  // a destructor has nobody to tell

void Shard::set_active(std::shared_ptr<Segment> segment) {
  active_ = std::move(segment);
  data_ = active_->data();
  base_position_ = active_->header().base_position;
}

Result<void> Shard::check_open() const {
  if (is_closed_) return fail(ErrorCode::kClosed, directory_ + ": the log is closed");
  if (broken_) return tl::unexpected{copy_of(*broken_)};
  return {};
}

Result<Appended> Shard::append(const Entry& entry) { return append(std::span{&entry, 1}); }

Result<Appended> Shard::append(std::span<const Entry> batch) {
  const std::uint64_t bytes = measure_or_too_large(batch, entry_bytes_max_);
  if (bytes == kTooLarge) [[unlikely]] {
    const std::lock_guard guard{mutex_};
    statistics_.add(Statistic::kAppendsRefused);
    return tl::unexpected{measure(batch, entry_bytes_max_).error()};
  }
  if (options_.compression.codec == Codec::kNone) return append_stored(StoredBatch{batch}, bytes, nullptr);
  Statistics compression;
  const StoredBatch stored = compress_batch(batch, options_.compression, compression);
  return append_stored(stored, measure(stored), &compression);
}

Result<Appended> Shard::append_stored(const StoredBatch& batch, std::uint64_t bytes, const Statistics* compression) {
  Appended appended;
  bool is_sync_due = false;
  bool is_put_away_due = false;
  {
    std::unique_lock lock{mutex_};
    if (compression != nullptr) statistics_.add(*compression);
    if (auto put = append_locked(lock, batch, bytes, appended); !put) [[unlikely]] {
      statistics_.add(Statistic::kAppendsRefused);
      return tl::unexpected{std::move(put.error())};
    }
    is_sync_due = batch.size() != 0 && is_sync_due_locked();
    is_put_away_due = std::exchange(is_put_away_due_, false);
  }
  if (is_put_away_due) [[unlikely]]
    if (auto done = put_away(); !done) return tl::unexpected{std::move(done.error())};
  if (!is_sync_due) return appended;
  if (auto durable = make_durable(appended.first_entry + appended.count); !durable) return tl::unexpected{std::move(durable.error())};
  appended.is_durable = true;
  return appended;
}

Result<void> Shard::append_locked(std::unique_lock<std::mutex>& lock, const StoredBatch& batch, std::uint64_t bytes, Appended& appended) {
  constexpr std::uint64_t kSampleEvery = 256;  // two readings of the clock cost half an append
  const bool is_sample = statistics_[Statistic::kBatches] % kSampleEvery == 0;
  const std::int64_t begin_ns = is_sample ? clock_.monotonic_ns() : 0;
  const bool is_plain = bytes <= data_.size() - tail_.offset && batch.size() != 0 && is_open();
  if (auto put = is_plain ? put_run(batch, bytes, true, true) : append_at_border(lock, batch, bytes); !put) [[unlikely]] return put;
  appended = {.first_entry = tail_.entry - batch.size(), .count = batch.size(), .end_position = base_position_ + tail_.offset, .is_durable = false};
  if (batch.size() == 0) return {};
  statistics_.add(Statistic::kBatches);
  statistics_.add(Statistic::kEntries, batch.size());
  statistics_.raise(Statistic::kBatchEntriesMax, batch.size());
  if (is_sample) [[unlikely]] {
    const auto took_ns = static_cast<std::uint64_t>(clock_.monotonic_ns() - begin_ns);
    statistics_.add(Statistic::kAppendSamples);
    statistics_.add(Statistic::kAppendSampleNs, took_ns);
    statistics_.raise(Statistic::kAppendSampleNsMax, took_ns);
  }
  return {};
}

// All that is not an append to where there is room.
Result<void> Shard::append_at_border(std::unique_lock<std::mutex>& lock, const StoredBatch& batch, std::uint64_t bytes) {
  if (auto open = check_open(); !open || batch.size() == 0) return open;
  if (bytes > std::min<std::uint64_t>(data_.size(), options_.segment_bytes)) return put_in_runs(lock, batch);
  while (bytes > data_.size() - tail_.offset) {  // others may fill the next one before this thread has the lock again
    if (auto rotated = rotate_locked(lock); !rotated) return rotated;
    if (auto open = check_open(); !open) return open;
  }
  return put_run(batch, bytes, true, true);
}

// Fills a segment with each run. An error leaves the runs before it: they are there, with their numbers, without an end of the batch. Nobody may come
// in between, so the segments that are needed are made with the lock held.
Result<void> Shard::put_in_runs(std::unique_lock<std::mutex>& lock, const StoredBatch& batch) {
  prepared_.wait(lock, [this] { return !is_preparing_; });
  if (auto open = check_open(); !open) return open;
  for (std::size_t from = 0; from < batch.size();) {
    std::size_t to = from;
    std::uint64_t room = data_.size() - tail_.offset;
    for (; to < batch.size(); ++to) {
      const std::uint64_t span = record_span(batch.stored_bytes(to));
      if (span > room) break;
      room -= span;
    }
    if (to == from) {
      if (auto rotated = rotate_holding_locked(); !rotated) return rotated;
      continue;
    }
    const std::uint64_t bytes = data_.size() - tail_.offset - room;
    if (auto put = put_run(batch.part(from, to - from), bytes, from == 0, to == batch.size()); !put) return put;
    from = to;
  }
  return {};
}

// Writes records one behind the other, `bytes` with their headers, and shows them all at once: the first one's word is stored last. Precondition: there is room.
Result<void> Shard::put_run(const StoredBatch& batch, std::uint64_t bytes, bool begins, bool ends) {
  std::byte* const shown = data_.data() + tail_.offset;
  std::byte* first = shown;
  if (is_written_whole(bytes)) {
    staging_.assign(bytes, std::byte{});
    first = staging_.data();
  }
  // In locals, which no store into the segment can change.
  std::uint32_t indexed = 0;
  std::size_t next_node = index_.until_next_node();
  std::uint32_t stream = ~batch.entry(0).stream;
  const auto each = [&](std::size_t i, const Entry& entry, std::uint64_t number, std::int64_t timestamp_ns, std::uint64_t offset) {
    if (entry.stream != stream) add_stream(summary_.streams, stream = entry.stream);
    if (i != next_node) [[likely]] return;
    index_.add_without_node(static_cast<std::uint32_t>(i) - indexed);
    index_.add({.entry = number, .timestamp_ns = timestamp_ns, .stream = entry.stream}, tail_.offset + offset);
    indexed = static_cast<std::uint32_t>(i) + 1;
    next_node = i + 1 + index_.until_next_node();
  };
  const Run run = log::put_run(first, batch, {tail_.entry, tail_.timestamp_ns, begins, ends}, [this] { return clock_.epoch_ns(); }, each);
  if (first != shown) {
    if (auto written = active_->file().write_at(staging_, kDataOffset + tail_.offset); !written) {
      broken_ = copy_of(written.error());  // part of it may lie where only zeros may
      return written;
    }
  }
  publish_record(shown, run.first_word);
  index_.add_without_node(static_cast<std::uint32_t>(batch.size()) - indexed);
  tail_ = {tail_.offset + run.bytes, tail_.entry + batch.size(), run.last_timestamp_ns};
  appended_bytes_ += run.bytes;
  statistics_.add(Statistic::kPayloadBytes, run.original_bytes);
  statistics_.raise(Statistic::kLastAppendNs, static_cast<std::uint64_t>(run.last_timestamp_ns));
  if (summary_.record_count == 0) summary_.first_timestamp_ns = run.first_timestamp_ns;
  summary_.record_count += batch.size();
  summary_.payload_bytes += run.stored_bytes;
  summary_.original_bytes += run.original_bytes;
  summary_.codecs |= run.codecs;
  summary_.last_timestamp_ns = run.last_timestamp_ns;
  summary_.end_entry = tail_.entry;
  summary_.end_offset = tail_.offset;
  return {};
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

Result<void> Shard::make_durable(std::uint64_t entry) {
  return commit_.run([&] { return coordination_.durable_entry() >= entry; }, [&] { return sync_once(); });
}

Shard::SyncWork Shard::take_sync_work() {
  SyncWork work;
  work.segments = unsynced_;
  work.segments.push_back(active_);
  work.is_directory_due = std::exchange(is_directory_unsynced_, false);
  work.until = {tail_.entry, base_position_ + tail_.offset};
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
  const std::int64_t begin_ns = clock_.monotonic_ns();
  auto synced = files_.sync_all(files);
  if (synced && work.is_directory_due) synced = files_.sync_directory(directory_);
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
  std::erase_if(unsynced_, [&](const auto& segment) { return std::find(work.segments.begin(), work.segments.end(), segment) != work.segments.end(); });
  coordination_.advance_durable(work.until, work.timestamp_ns, clock_.epoch_ns());
  wake_ups_.notify();
  return {};
}

Result<void> Shard::close() {
  {
    const std::lock_guard guard{mutex_};
    if (is_closed_) return {};
  }
  Result<void> synced;
  if (is_synced_on_rotation()) synced = sync();
  auto done = put_away();
  if (!synced) done = std::move(synced);
  std::unique_lock lock{mutex_};
  prepared_.wait(lock, [this] { return !is_preparing_; });
  if (next_) static_cast<void>(files_.remove(temporary_path(directory_, next_->header().ordinal)));  // what stays goes at the next open
  next_.reset();
  publish_statistics_locked();
  is_closed_ = true;
  lock_.reset();
  return done;
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
