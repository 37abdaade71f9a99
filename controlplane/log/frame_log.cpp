#include "controlplane/log/frame_log.hpp"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "controlplane/log/crc32c.hpp"
#include "controlplane/log/frame_recovery.hpp"
#include "controlplane/log/shared_lock.hpp"
#include "dataplane/base/random.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::log {
namespace {

constexpr std::uint32_t kTermBytesMin = 64U << 10;
constexpr std::uint32_t kTermBytesMax = 1U << 30;
constexpr std::uint32_t kMtuBytesMax = 65'504;

Error copy_of(const Error& error) { return Error{error.code, error.message, error.hint}; }

}  // namespace

Result<void> validate(const FrameLogOptions& options) {
  const auto bad = [](const std::string& what) { return fail(ErrorCode::kInvalidArgument, what); };
  const auto size = [](std::uint64_t bytes) { return format_size(static_cast<std::int64_t>(bytes)); };
  const FrameStream& stream = options.stream;
  if (!std::has_single_bit(stream.term_bytes) || stream.term_bytes < kTermBytesMin || stream.term_bytes > kTermBytesMax)
    return bad("term length " + size(stream.term_bytes) + ": a power of two from 64KiB to 1GiB is needed");
  if (stream.mtu_bytes <= kFrameHeaderBytes || stream.mtu_bytes > kMtuBytesMax || stream.mtu_bytes % kFrameAlignment != 0)
    return bad("MTU " + std::to_string(stream.mtu_bytes) + ": a multiple of 32 from 64 to 65504 is needed");
  if (!std::has_single_bit(options.segment_bytes) || options.segment_bytes < stream.term_bytes || options.segment_bytes > kSegmentBytesMax)
    return bad("segment size " + size(options.segment_bytes) + ": a power of two from the term length, " + size(stream.term_bytes) + ", to " + size(kSegmentBytesMax) + " is needed");
  if (options.start_position % kFrameAlignment != 0 || options.start_position > INT64_MAX) return bad("start position " + std::to_string(options.start_position) + ": no frame begins there");
  if (options.sync == SyncPolicy::kEveryEntries) return bad("frames are synced by time, bytes, block or segment, not by entries");
  if (options.sync == SyncPolicy::kPeriodic && options.sync_interval_ns <= 0) return bad("sync interval must be above 0");
  if (options.sync == SyncPolicy::kEveryBytes && options.sync_every_bytes == 0) return bad("bytes per sync must be above 0");
  return {};
}

FrameData frame_data(const Segment& segment) noexcept {
  const std::uint64_t marks = segment.header().segment_bytes / kMarkedBytes;
  const std::span<std::byte> table = segment.table();
  return {segment.data(), {reinterpret_cast<FrameMark*>(table.data()), marks}, table.subspan(marks * sizeof(FrameMark)), segment.header().base_position, first_offset(segment.header())};
}

FrameLog::FrameLog(FileSystem& files, const Clock& clock, std::string directory, const FrameLogOptions& options, std::unique_ptr<File> lock, Coordination coordination)
    : files_{files}, clock_{clock}, directory_{std::move(directory)}, options_{options}, lock_{std::move(lock)}, coordination_{std::move(coordination)} {
  Random random{static_cast<std::uint64_t>(clock.epoch_ns()) ^ static_cast<std::uint64_t>(::getpid()) << 32U};
  writer_id_ = random.next();
}

Result<std::unique_ptr<FrameLog>> FrameLog::open(FileSystem& files, const Clock& clock, std::string directory, const FrameLogOptions& options) {
  if (auto valid = validate(options); !valid) return tl::unexpected{std::move(valid.error())};
  auto lock = claim_for_one_writer(files, directory, "recording");
  if (!lock) return tl::unexpected{std::move(lock.error())};
  auto coordination = Coordination::open_or_create(files, directory, static_cast<std::uint32_t>(options.log_id), clock.epoch_ns());
  if (!coordination) return tl::unexpected{std::move(coordination.error())};
  std::unique_ptr<FrameLog> log{new FrameLog{files, clock, std::move(directory), options, std::move(*lock), std::move(*coordination)}};
  if (auto started = log->start(); !started) {
    log->is_closed_ = true;
    return tl::unexpected{std::move(started.error())};
  }
  return log;
}

Result<void> FrameLog::start() {
  const std::uint64_t durable = coordination_.is_new() ? 0 : coordination_.durable_entry();
  auto recovered = recover_frames(files_, clock_, directory_, options_, durable);
  if (!recovered) return tl::unexpected{std::move(recovered.error())};
  report_ = std::move(recovered->report);
  report_.is_coordination_rebuilt = coordination_.was_moved_aside() || (coordination_.is_new() && report_.segments > 0);
  segments_ = std::move(recovered->segments);
  last_ns_ = recovered->last_ns;
  if (recovered->active) {
    set_active(std::move(recovered->active), recovered->tail);
    is_summary_partial_ = true;
  } else {
    auto created = Segment::create(files_, directory_, next_header());
    if (!created) return tl::unexpected{std::move(created.error())};
    if (auto published = (*created)->publish(files_); !published) return published;
    set_active(std::move(*created), options_.start_position % options_.segment_bytes);
    segments_.push_back({.info = active_->info(), .summary = summary_});
    if (auto synced = files_.sync_directory(parent_directory(directory_)); !synced) return synced;
  }
  synced_position_ = data_.base_position + tail_;
  if (durable > synced_position_) {
    report_.lost_entries += durable - synced_position_;
    report_.findings.push_back(directory_ + ": positions " + std::to_string(synced_position_) + " to " + std::to_string(durable) + " were durable and are gone");
  }
  last_sync_ns_ = clock_.monotonic_ns();
  coordination_.reset_durable({synced_position_, synced_position_}, last_ns_, clock_.epoch_ns());
  coordination_.set_active_ordinal(active_->header().ordinal);
  publish_tail_locked();
  coordination_.count_change();
  save_catalog_locked();
  return {};
}

FrameLog::~FrameLog() { static_cast<void>(close()); }  // a destructor has nobody to tell

Result<void> FrameLog::check_open() const {
  if (is_closed_) return fail(ErrorCode::kClosed, directory_ + ": the recording is closed");
  if (broken_) return tl::unexpected{copy_of(*broken_)};
  return {};
}

Result<void> FrameLog::check_appendable() const {
  if (auto open = check_open(); !open || !is_tail_damaged_) return open;
  const std::uint64_t page = tail_ / kMarkedBytes * kMarkedBytes;
  return fail(ErrorCode::kIo, active_->info().path + ": damage at offset " + std::to_string(kDataOffset + page) + ", in the page of the last frame: nothing can follow it",
              "begin a new recording, or cut this one at the last frame that ends before position " + std::to_string(data_.base_position + page));
}

void FrameLog::set_active(std::shared_ptr<Segment> segment, std::uint64_t tail) {
  active_ = std::move(segment);
  data_ = frame_data(*active_);
  tail_ = tail;
  prepared_to_ = tail;
  is_tail_damaged_ = tail % kMarkedBytes > page_begin(tail / kMarkedBytes, data_.first) && !data_.is_intact(tail / kMarkedBytes);
  is_summary_partial_ = false;
  summary_ = SegmentSummary{.end_entry = data_.base_position + tail};
  summary_.end_offset = tail;
  add_stream(summary_.streams, static_cast<std::uint32_t>(options_.stream.stream_id));
}

// Of the segment behind the active one, or of the first one.
SegmentHeader FrameLog::next_header() const {
  SegmentHeader header{.kind = SegmentKind::kFrames, .segment_bytes = options_.segment_bytes};
  header.base_entry = active_ ? active_->info().end_position() : options_.start_position;
  header.ordinal = header.base_entry / options_.segment_bytes;
  header.base_position = header.ordinal * options_.segment_bytes;
  header.created_ns = clock_.epoch_ns();
  header.base_timestamp_ns = active_ ? last_ns_ : std::max(last_ns_, header.created_ns);
  header.writer_id = writer_id_;
  header.log_id = options_.log_id;
  return header;
}

Result<void> FrameLog::make_room() {
  std::unique_lock lock{mutex_};
  if (auto open = check_appendable(); !open) return open;
  return tail_ == data_.data.size() ? start_next_segment(lock) : Result<void>{};
}

Result<std::uint64_t> FrameLog::append(std::span<const std::byte> frames) {
  std::uint64_t end = 0;
  bool is_sync_due = false;
  {
    std::unique_lock lock{mutex_};
    if (auto open = check_appendable(); !open) return tl::unexpected{std::move(open.error())};
    if (frames.empty()) return data_.base_position + tail_;
    if (tail_ == data_.data.size())
      if (auto started = start_next_segment(lock); !started) return tl::unexpected{std::move(started.error())};
    if (frames.size() > data_.data.size() - tail_)
      return fail(ErrorCode::kInvalidArgument, directory_ + ": " + std::to_string(frames.size()) + " bytes of frames reach beyond a border of terms");
    std::byte* const at = data_.data.data() + tail_;
    std::memcpy(at, frames.data(), frames.size());
    const auto span = check_frames(tail_, frames.size());
    if (!span) {
      std::memset(at, 0, frames.size());
      return span;
    }
    last_ns_ = std::max(last_ns_, clock_.epoch_ns());
    mark(tail_, tail_ + *span, last_ns_);
    tail_ += *span;
    publish_tail_locked();
    end = data_.base_position + tail_;
    is_sync_due = is_sync_due_locked();
  }
  if (is_sync_due && options_.sync != SyncPolicy::kPeriodic)
    if (auto durable = make_durable(end); !durable) return tl::unexpected{std::move(durable.error())};
  return end;
}

// Walks what was copied: whoever wrote it into the term may still change it there. Returns the bytes of position it stands for.
Result<std::uint64_t> FrameLog::check_frames(std::uint64_t offset, std::uint64_t given) {
  std::uint64_t at = offset;
  const std::uint64_t end = offset + given;
  std::uint64_t count = 0;
  std::uint64_t payload_bytes = 0;
  while (at < end) {
    const auto bad = [&](const char* what) {
      return fail(ErrorCode::kInvalidArgument, directory_ + ": " + what + " at position " + std::to_string(data_.base_position + at));
    };
    if (end - at < kFrameHeaderBytes) return bad("half a frame");
    const ParsedFrame frame = parse_frame(data_.data.subspan(at), data_.base_position + at, options_.stream);
    if (!frame.is_valid()) return bad(to_string(frame.fault));
    const bool is_header_alone = frame.is_padding && end - at == kFrameHeaderBytes;
    if (frame.span > end - at && !is_header_alone) return bad("half a frame");
    note_frame(at, frame.span);
    at += frame.span;
    if (frame.is_padding) continue;
    ++count;
    payload_bytes += frame.length - kFrameHeaderBytes;
  }
  summary_.record_count += count;
  summary_.payload_bytes += payload_bytes;
  summary_.original_bytes += payload_bytes;
  return at - offset;
}

// Where frames begin in the pages of [offset, offset + span). Nobody looks before the marks' words say that something is there.
void FrameLog::note_frame(std::uint64_t offset, std::uint64_t span) noexcept {
  const std::uint64_t page = offset / kMarkedBytes;
  FrameMark& mark = data_.marks[page];
  const std::uint32_t end = mark_end(mark.word);
  const auto in_page = static_cast<std::uint32_t>(offset % kMarkedBytes);
  const bool is_first = offset == page * kMarkedBytes + page_begin(page, data_.first) || (end > 0 ? mark.first_frame >= end && in_page < mark.first_frame : mark.first_frame == kNoFrame);
  if (is_first) store_field(mark.first_frame, in_page);
  for (std::uint64_t next = page + 1; next * kMarkedBytes < offset + span; ++next) store_field(data_.marks[next].first_frame, kNoFrame);
}

void FrameLog::mark(std::uint64_t from, std::uint64_t to, std::int64_t now_ns) noexcept {
  if (summary_.end_offset == data_.first) summary_.first_timestamp_ns = now_ns;
  for (std::uint64_t at = from; at < to;) {
    const std::uint64_t page = at / kMarkedBytes;
    const std::uint64_t stop = std::min((page + 1) * kMarkedBytes, to);
    FrameMark& mark = data_.marks[page];
    const std::uint32_t seen = mark_end(mark.word) == 0 ? 0 : mark_crc(mark.word);
    if (mark.word == 0) store_field(mark.first_ns, now_ns);
    store_field(mark.last_ns, now_ns);
    store_mark(mark, pack_mark(static_cast<std::uint32_t>(stop - page * kMarkedBytes), crc32c(data_.data.subspan(at, stop - at), seen)));
    at = stop;
  }
  summary_.end_offset = to;
  summary_.end_entry = data_.base_position + to;
  summary_.last_timestamp_ns = now_ns;
}

void FrameLog::publish_tail_locked() noexcept {
  CoordinationPage& page = coordination_.page();
  std::atomic_ref{page.tail_timestamp_ns}.store(last_ns_, std::memory_order_relaxed);
  std::atomic_ref{page.tail}.store(data_.base_position + tail_, std::memory_order_release);  // pairs with FrameReader::limit()
}

// Spec: archive-log 3. Until the new segment has its name the old one stays active, whatever fails. Data and names are synced by whoever syncs next, and
// the catalog is maintain()'s: here the stream would wait for the disk.
Result<void> FrameLog::start_next_segment(std::unique_lock<std::mutex>& lock) {
  prepared_.wait(lock, [this] { return !is_preparing_; });
  if (!next_) {
    auto created = Segment::create(files_, directory_, next_header());
    if (!created) return tl::unexpected{std::move(created.error())};
    next_ = std::move(*created);
  }
  is_directory_unsynced_ = true;
  if (auto published = next_->publish_unsynced(files_, next_->header()); !published) {
    next_.reset();
    return published;
  }
  auto closed = close_active_locked();
  unsynced_.push_back(active_);
  set_active(std::move(next_), 0);
  next_.reset();
  segments_.push_back({.info = active_->info(), .summary = summary_});
  coordination_.set_active_ordinal(active_->header().ordinal);
  coordination_.count_change();
  is_catalog_old_ = true;
  return closed;
}

Result<void> FrameLog::close_active_locked() {
  if (is_summary_partial_) summary_ = summarize_frames(data_, tail_, options_.stream);
  auto sealed = active_->seal(summary_, false, clock_.epoch_ns());
  segments_.back().summary = summary_;
  segments_.back().is_closed = true;
  segments_.back().info = active_->info();
  return sealed;
}

bool FrameLog::is_sync_due_locked() const noexcept {
  const std::uint64_t position = data_.base_position + tail_;
  switch (options_.sync) {
    case SyncPolicy::kNone:
    case SyncPolicy::kEveryEntries:
    case SyncPolicy::kExplicit: return false;
    case SyncPolicy::kEverySegment: return !unsynced_.empty();
    case SyncPolicy::kEveryBatch: return position != synced_position_;
    case SyncPolicy::kEveryBytes: return position - synced_position_ >= options_.sync_every_bytes;
    case SyncPolicy::kPeriodic: return position != synced_position_ && clock_.monotonic_ns() - last_sync_ns_ >= options_.sync_interval_ns;
  }
  return false;
}

Result<void> FrameLog::sync() {
  std::uint64_t end = 0;
  {
    const std::lock_guard guard{mutex_};
    if (auto open = check_open(); !open) return open;
    end = data_.base_position + tail_;
  }
  return make_durable(end);
}

// What was accepted when it began is durable when it ends. Those who wait for sync_mutex_ mostly find their work done.
Result<void> FrameLog::make_durable(std::uint64_t position) {
  const std::lock_guard sync_guard{sync_mutex_};
  if (coordination_.durable_entry() >= position) return {};
  std::vector<std::shared_ptr<Segment>> segments;
  std::uint64_t until = 0;
  std::int64_t last_ns = 0;
  bool is_directory_due = false;
  {
    const std::lock_guard guard{mutex_};
    if (broken_) return tl::unexpected{copy_of(*broken_)};
    segments = unsynced_;
    segments.push_back(active_);
    until = data_.base_position + tail_;
    last_ns = last_ns_;
    if (tail_ > data_.first) data_.put_sync_point(tail_);
    is_directory_due = std::exchange(is_directory_unsynced_, false);
    synced_position_ = until;
    last_sync_ns_ = clock_.monotonic_ns();
  }
  std::vector<File*> files;
  for (const auto& segment : segments) files.push_back(&segment->file());
  auto synced = files_.sync_all(files);
  if (synced && is_directory_due) synced = files_.sync_directory(directory_);
  const std::lock_guard guard{mutex_};
  if (!synced) {
    broken_ = copy_of(synced.error());
    return synced;
  }
  segments.pop_back();
  for (const auto& segment : segments) {
    std::erase(unsynced_, segment);
    if (segment->info().seal) static_cast<void>(segment->seal(segment->info().seal->summary, true, segment->info().seal->closed_ns));  // saves recovery the reading, no more
  }
  coordination_.advance_durable({until, until}, last_ns, clock_.epoch_ns());
  return {};
}

Result<void> FrameLog::maintain() {
  std::unique_lock lock{mutex_};
  if (auto open = check_open(); !open) return open;
  const bool is_sync_due = is_sync_due_locked();
  const std::uint64_t end = data_.base_position + tail_;
  if (auto prepared = prepare(lock); !prepared) return prepared;
  lock.unlock();
  save_old_catalog();
  return is_sync_due ? make_durable(end) : Result<void>{};
}

// The next segment once half of this one is used, and pages ahead of the tail. Without the lock while the disk is at work. A full disk is the
// appender's to report, when it needs the segment.
Result<void> FrameLog::prepare(std::unique_lock<std::mutex>& lock) {
  const std::uint64_t from = std::max(prepared_to_, tail_);
  const std::uint64_t to = std::min<std::uint64_t>(tail_ + options_.prepare_bytes, data_.data.size());
  const std::shared_ptr<Segment> active = active_;
  const SegmentHeader header = next_header();
  is_preparing_ = !next_ && tail_ > data_.data.size() / 2;
  prepared_to_ = std::max(prepared_to_, to);
  const bool is_maker = is_preparing_;
  lock.unlock();
  if (to > from) active->mapping().populate(kDataOffset + from, to - from);
  Result<std::shared_ptr<Segment>> created{std::shared_ptr<Segment>{}};
  if (is_maker) created = Segment::create(files_, directory_, header);
  lock.lock();
  if (!is_maker) return {};
  is_preparing_ = false;
  prepared_.notify_all();
  if (created) next_ = std::move(*created);
  if (!created && created.error().code != ErrorCode::kNoSpace) return tl::unexpected{std::move(created.error())};
  return {};
}

Result<void> FrameLog::close() {
  {
    const std::lock_guard guard{mutex_};
    if (is_closed_) return {};
  }
  Result<void> synced;
  if (is_synced_on_rotation()) synced = sync();
  save_old_catalog();
  std::unique_lock lock{mutex_};
  prepared_.wait(lock, [this] { return !is_preparing_; });
  if (next_) static_cast<void>(files_.remove(temporary_path(directory_, next_->header().ordinal)));  // as above
  next_.reset();
  is_closed_ = true;
  lock_.reset();
  return synced;
}

RetentionShard FrameLog::retention_state(std::span<const PositionRange> pinned) const {
  const std::lock_guard guard{mutex_};
  RetentionShard state{.closed = {}, .active_bytes = file_bytes(active_->header()), .lowest_committed = std::nullopt};
  for (std::size_t i = 0; i + 1 < segments_.size(); ++i) {
    const KnownSegment& segment = segments_[i];
    const SegmentHeader& header = segment.info.header;
    RetentionSegment closed{.end_entry = segment.info.end_position(), .bytes = file_bytes(header), .newest_ns = segment.summary.last_timestamp_ns};
    closed.closed_ns = segment.info.seal ? segment.info.seal->closed_ns : header.created_ns;
    for (const PositionRange& range : pinned) closed.is_pinned |= range.from < closed.end_entry && header.base_entry < range.to;
    state.closed.push_back(closed);
  }
  return state;
}

Result<std::uint64_t> FrameLog::delete_oldest(std::size_t count) {
  Removals::Taken taken;
  Result<void> removed;
  {
    const std::lock_guard upkeep{upkeep_mutex_};
    {
      const std::lock_guard guard{mutex_};
      if (auto open = check_open(); !open) return tl::unexpected{std::move(open.error())};
      taken = removals_.take_oldest(segments_, count);
      if (removals_.is_empty()) return 0;
      is_catalog_old_ = true;
    }
    removed = removals_.carry_out(files_, directory_, coordination_);
  }
  save_old_catalog();
  if (!removed) return tl::unexpected{std::move(removed.error())};
  return taken.bytes;
}

Result<void> FrameLog::truncate(std::uint64_t position) {
  const std::lock_guard upkeep{upkeep_mutex_};
  const std::lock_guard sync_guard{sync_mutex_};
  std::unique_lock lock{mutex_};
  if (auto open = check_open(); !open) return open;
  prepared_.wait(lock, [this] { return !is_preparing_; });
  const std::uint64_t end = data_.base_position + tail_;
  const std::uint64_t begin = segments_.front().info.header.base_entry;
  const auto invalid = [&](const char* what) { return fail(ErrorCode::kInvalidArgument, "position " + std::to_string(position) + " " + what); };
  if (position < begin || position > end) return invalid(("lies outside of the recording, which has " + std::to_string(begin) + " to " + std::to_string(end)).c_str());
  if (position == end) return {};
  auto done = cut(position);
  if (!done && done.error().code != ErrorCode::kInvalidArgument) broken_ = copy_of(done.error());
  return done;
}

// Segments go from the newest on, so that a crash in between leaves a whole, shorter log.
Result<void> FrameLog::cut(std::uint64_t position) {
  std::size_t keep = segments_.size() - 1;
  while (segments_[keep].info.header.base_entry > position) --keep;
  std::shared_ptr<Segment> segment = active_;
  if (keep + 1 != segments_.size()) {
    auto opened = Segment::open(files_, segments_[keep].info, OpenMode::kWrite);
    if (!opened) return tl::unexpected{std::move(opened.error())};
    segment = std::move(*opened);
  }
  const FrameData frames = frame_data(*segment);
  const std::uint64_t offset = position - frames.base_position;
  const auto near = frames.frame_near(offset);
  const bool is_boundary = near && offset % kFrameAlignment == 0 && [&] {
    const FrameWalk walk = walk_frames(frames, *near, offset, options_.stream);
    return !walk.damage && walk.end == offset;
  }();
  if (!is_boundary) return fail(ErrorCode::kInvalidArgument, "no frame begins at position " + std::to_string(position));
  if (coordination_.durable_entry() > position) coordination_.reset_durable({position, position}, last_ns_, clock_.epoch_ns());
  if (auto synced = coordination_.file().sync(); !synced) return synced;
  if (next_) static_cast<void>(files_.remove(temporary_path(directory_, next_->header().ordinal)));  // as in close()
  next_.reset();
  for (std::size_t i = segments_.size(); i > keep + 1; --i) {
    if (auto removed = files_.remove(segments_[i - 1].info.path); !removed) return removed;
    if (auto synced = files_.sync_directory(directory_); !synced) return synced;
    segments_.pop_back();
  }
  // Whatever vouches for what is cut goes first, durably, and something comes that vouches for what stays: a power failure may leave any part of
  // the rest.
  frames.drop_sync_points_behind(offset);
  if (offset > frames.first) frames.put_sync_point(offset);
  if (auto synced = segment->file().sync(); !synced) return synced;
  if (auto unsealed = segment->unseal(); !unsealed) return unsealed;
  if (auto zeroed = cut_frames(*segment, offset); !zeroed) return tl::unexpected{std::move(zeroed.error())};
  if (auto synced = segment->file().sync(); !synced) return synced;
  // Those that went, and this one as it was: it must not get its seal back when it is synced next.
  std::erase_if(unsynced_, [&](const auto& closed) { return closed->header().ordinal >= segment->header().ordinal; });
  set_active(segment, offset);
  is_summary_partial_ = true;
  segments_.back() = {.info = active_->info(), .summary = summary_};
  synced_position_ = position;
  coordination_.set_active_ordinal(active_->header().ordinal);
  publish_tail_locked();
  coordination_.count_change();
  save_catalog_locked();
  return {};
}

// A help only. Two at once would write each other's file: upkeep_mutex_ is held, but for opening.
void FrameLog::save_catalog_locked() noexcept {
  is_catalog_old_ = false;
  static_cast<void>(save_catalog(files_, directory_, static_cast<std::uint32_t>(options_.log_id), segments_));
}

// The same while others append.
void FrameLog::save_old_catalog() noexcept {
  const std::lock_guard upkeep{upkeep_mutex_};
  std::vector<KnownSegment> known;
  {
    const std::lock_guard guard{mutex_};
    if (!std::exchange(is_catalog_old_, false)) return;
    known = segments_;
  }
  static_cast<void>(save_catalog(files_, directory_, static_cast<std::uint32_t>(options_.log_id), known));
}

std::uint64_t FrameLog::first_position() const {
  const std::lock_guard guard{mutex_};
  return segments_.front().info.header.base_entry;
}

std::uint64_t FrameLog::position() const {
  const std::lock_guard guard{mutex_};
  return data_.base_position + tail_;
}

std::size_t FrameLog::segment_count() const {
  const std::lock_guard guard{mutex_};
  return segments_.size();
}

std::uint64_t FrameLog::file_bytes_used() const {
  const std::lock_guard guard{mutex_};
  std::uint64_t bytes = 0;
  for (const KnownSegment& segment : segments_) bytes += file_bytes(segment.info.header);
  return bytes;
}

}  // namespace thalweg::log
