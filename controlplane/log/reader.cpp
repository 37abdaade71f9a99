#include "controlplane/log/reader.hpp"

#include <algorithm>
#include <limits>

namespace thalweg::log {

Result<Reader> Reader::open(FileSystem& files, std::string directory, const ReaderOptions& options) {
  Reader reader{files, std::move(directory), options};
  if (auto found = reader.find_coordination(); !found) return tl::unexpected{std::move(found.error())};
  if (auto listed = reader.list_again(); !listed) return tl::unexpected{std::move(listed.error())};
  if (auto found = reader.seek(options.from_entry); !found) return tl::unexpected{std::move(found.error())};
  return reader;
}

bool Reader::is_durable(std::uint64_t entry) const noexcept { return coordination_ && entry < coordination_->durable_entry(); }

std::uint64_t Reader::first_entry() const noexcept {
  return segments_.empty() ? std::numeric_limits<std::uint64_t>::max() : segments_.front().header.base_entry;
}

// A writer makes the page before the first segment: whoever lists segments first and looks for the page then takes nothing of a new shard for
// durable that is not. Without a page there is no limit.
Result<void> Reader::find_coordination() {
  if (coordination_) return {};
  auto coordination = Coordination::open_for_reading(*files_, directory_);
  if (!coordination && coordination.error().code == ErrorCode::kVersion) return tl::unexpected{std::move(coordination.error())};
  if (!coordination) return {};
  coordination_ = std::move(*coordination);
  change_count_ = coordination_->change_count() - 1;  // what was listed before may be old
  return {};
}

Result<void> Reader::list_again() {
  if (coordination_) change_count_ = coordination_->change_count();
  auto listing = list_segments(*files_, directory_);
  if (!listing) return tl::unexpected{std::move(listing.error())};
  if (auto found = find_coordination(); !found) return found;
  const std::optional<std::uint64_t> current = segment_ ? std::optional{segments_[index_].ordinal()} : std::nullopt;
  segments_ = std::move(listing->segments);
  if (!current) return {};
  // A removed segment that is being read stays mapped: it is kept in the list in its place.
  const auto place = std::lower_bound(segments_.begin(), segments_.end(), *current, [](const SegmentInfo& info, std::uint64_t ordinal) { return info.ordinal() < ordinal; });
  index_ = static_cast<std::size_t>(place - segments_.begin());
  if (place == segments_.end() || place->ordinal() != *current) segments_.insert(place, segment_->info());
  return {};
}

// Whether there may be a segment now that was not there before.
Result<bool> Reader::list_if_changed() {
  if (coordination_ && coordination_->change_count() == change_count_) return false;
  const std::size_t before = segments_.size();
  const std::uint64_t newest = segments_.empty() ? 0 : segments_.back().ordinal();
  if (auto listed = list_again(); !listed) return tl::unexpected{std::move(listed.error())};
  return segments_.size() != before || (!segments_.empty() && segments_.back().ordinal() != newest);
}

Result<void> Reader::enter(std::size_t index) {
  auto opened = Segment::open(*files_, segments_[index], OpenMode::kRead);
  if (!opened) return tl::unexpected{std::move(opened.error())};
  segment_ = std::move(*opened);
  index_ = index;
  is_segment_over_ = false;
  point_ = {0, segment_->header().base_entry, segment_->header().base_timestamp_ns};
  return {};
}

// A segment may go between the listing and its opening: then the search starts anew.
template <typename Seek>
Result<void> Reader::on_current_list(Seek seek) {
  if (auto listed = list_if_changed(); !listed) return tl::unexpected{std::move(listed.error())};
  for (;;) {
    auto done = seek();
    if (done || done.error().code != ErrorCode::kNotFound) return done;
    segment_.reset();
    if (auto listed = list_again(); !listed) return listed;
  }
}

Result<void> Reader::return_to(const Bookmark& mark) {
  if (!segment_ || mark.ordinal != segment_->header().ordinal) return seek(mark.point.entry);
  broken_.reset();
  is_segment_over_ = false;
  point_ = mark.point;
  return {};
}

Result<void> Reader::seek(std::uint64_t entry) {
  broken_.reset();
  return on_current_list([&] { return seek_in_list(entry); });
}

Result<void> Reader::seek_in_list(std::uint64_t entry) {
  if (segments_.empty()) {
    point_ = {0, entry, std::numeric_limits<std::int64_t>::min()};
    return {};
  }
  const auto behind = std::upper_bound(segments_.begin(), segments_.end(), entry, [](std::uint64_t e, const SegmentInfo& info) { return e < info.header.base_entry; });
  const std::size_t index = behind == segments_.begin() ? 0 : static_cast<std::size_t>(behind - segments_.begin()) - 1;
  if (auto entered = enter(index); !entered) return entered;
  if (entry < point_.entry) {  // the gap is reported by next()
    segment_.reset();
    point_ = {0, entry, std::numeric_limits<std::int64_t>::min()};
    return {};
  }
  const auto node = index_of_current().find_entry(entry);
  if (node && node->entry <= entry) start_at(*node);
  scan_while([entry](const ParsedRecord&, const ScanPoint& to) { return to.entry <= entry; }, [entry](const ScanPoint& to) { return to.entry <= entry; });
  return {};
}

// Only what is closed has an index; the active segment is read from its start.
SparseIndex Reader::index_of_current() {
  const SegmentHeader& header = segment_->header();
  auto index = load_index(*files_, directory_, header.ordinal, header.segment_bytes);
  return index ? std::move(*index) : SparseIndex{};
}

// An index may say anything: a node counts when the record it names stands there.
void Reader::start_at(const SparseIndex::Node& node) {
  if (node.entry < point_.entry) return;
  ScanPoint probe{node.offset, node.entry, point_.timestamp_ns};
  const ScanPoint at = probe;
  if (next_record(segment_->data(), probe).is_valid()) point_ = at;
}

// Whether an unreadable place is where the data ends, and not damage.
bool Reader::is_end_of_data(const ParsedRecord& parsed) const noexcept {
  if (segment_->data().size() - point_.offset < kRecordHeaderBytes) return true;
  if (parsed.fault != RecordFault::kUnwritten) return false;
  return has_next_segment() ? segments_[index_ + 1].header.base_entry <= point_.entry : !is_durable(point_.entry);
}

// Moves over records for which `is_before(record, point behind it)` holds, and over damage behind which `may_go_to(next valid record)` holds. false:
// the data is over. true: at a record, or at damage that next() reports.
template <typename IsBefore, typename MayGoTo>
bool Reader::scan_while(IsBefore is_before, MayGoTo may_go_to) {
  const std::span<const std::byte> data = segment_->data();
  std::uint64_t budget = resync_budget(data.size());
  for (;;) {
    ScanPoint probe = point_;
    const ParsedRecord parsed = next_record(data, probe);
    if (parsed.is_valid()) {
      if (!is_before(parsed, probe)) return true;
      point_ = probe;
      continue;
    }
    if (is_end_of_data(parsed)) return false;
    const Resync resync = find_next_record(data, point_, budget);
    if (!resync.found || !may_go_to(*resync.found)) return true;
    point_ = *resync.found;
  }
}

Result<void> Reader::seek_time(std::int64_t timestamp_ns) {
  broken_.reset();
  return on_current_list([&] { return seek_time_in_list(timestamp_ns); });
}

Result<void> Reader::seek_time_in_list(std::int64_t timestamp_ns) {
  if (segments_.empty()) return seek_in_list(0);
  // No record of a segment is newer than what the next one starts with.
  std::size_t index = 0;
  while (index + 1 < segments_.size() && segments_[index + 1].header.base_timestamp_ns < timestamp_ns) ++index;
  for (;; ++index) {
    if (auto entered = enter(index); !entered) return entered;
    const auto node = index_of_current().find_time(timestamp_ns);
    if (node && node->timestamp_ns < timestamp_ns) start_at(*node);
    const bool is_found = scan_while([&](const ParsedRecord& parsed, const ScanPoint&) { return is_pad(parsed.header) || parsed.header.timestamp_ns < timestamp_ns; },
                                     [&](const ScanPoint& to) { return to.timestamp_ns < timestamp_ns; });
    if (is_found || index + 1 >= segments_.size()) return {};
  }
}

Result<void> Reader::seek_position(std::uint64_t position) {
  broken_.reset();
  return on_current_list([&] { return seek_position_in_list(position); });
}

Result<void> Reader::seek_position_in_list(std::uint64_t position) {
  const auto invalid = [&] { return fail(ErrorCode::kInvalidArgument, directory_ + ": no record starts at position " + std::to_string(position)); };
  const auto behind = std::upper_bound(segments_.begin(), segments_.end(), position, [](std::uint64_t p, const SegmentInfo& info) { return p < info.header.base_position; });
  if (behind == segments_.begin()) return invalid();
  const auto index = static_cast<std::size_t>(behind - segments_.begin()) - 1;
  const std::uint64_t offset = position - segments_[index].header.base_position;
  if (offset > segments_[index].header.segment_bytes) return invalid();
  if (auto entered = enter(index); !entered) return entered;
  const auto node = index_of_current().find_offset(offset);
  if (node && node->offset <= offset) start_at(*node);
  const bool is_at_record = scan_while([offset](const ParsedRecord&, const ScanPoint& to) { return to.offset <= offset; }, [offset](const ScanPoint& to) { return to.offset <= offset; });
  const bool is_behind_last = !is_at_record && offset == segment_->data().size() && offset - point_.offset < kRecordHeaderBytes;  // too little is left for one
  if (point_.offset != offset && !is_behind_last) return invalid();
  return {};
}

Result<Read> Reader::next() {
  for (;;) {
    if (broken_) return tl::unexpected{Error{broken_->code, broken_->message, broken_->hint}};
    auto stepped = step();
    if (!stepped) return tl::unexpected{std::move(stepped.error())};
    if (*stepped) return std::move(**stepped);
  }
}

// One record looked at. nullopt: a pad, or on to the next segment.
Result<std::optional<Read>> Reader::step() {
  if (!segment_) return next_segment(RecordFault::kNone);
  if (point_.entry >= limit()) return Read{};
  if (is_segment_over_) return next_segment(RecordFault::kNone);
  const std::span<const std::byte> data = segment_->data();
  const std::uint64_t at = point_.offset;
  const ParsedRecord parsed = next_record(data, point_);
  if (!parsed.is_valid()) return on_fault(parsed);
  if (is_pad(parsed.header)) return std::nullopt;
  return deliver(at, parsed.header);
}

Result<std::optional<Read>> Reader::deliver(std::uint64_t at, const RecordHeader& header) {
  Read read{.status = ReadStatus::kRecord, .record = view_of(segment_->data(), at, header, segment_->header().base_position), .lost = {}};
  if (header.codec == 0 || !options_.is_decompressed) return read;
  const auto done = decompress(static_cast<Codec>(header.codec), read.record.payload, header.original_length - header.key_length, options_.payload_max_bytes, decompressed_);
  if (done) {
    read.record.payload = decompressed_;
    return read;
  }
  // Its length is right, whatever is in it: those behind it are not concerned.
  read = {.status = ReadStatus::kCorrupt, .record = {}, .lost = {.from_entry = header.entry, .to_entry = header.entry + 1, .path = segment_->info().path, .offset = kDataOffset + at,
                                                                .bytes = point_.offset - at, .fault = RecordFault::kCodec}};
  if (options_.on_corrupt == OnCorrupt::kFail) broken_ = Error{ErrorCode::kIo, read.lost.path + ": entry " + std::to_string(header.entry) + ": " + done.error().message, {}};
  return read;
}

Result<std::optional<Read>> Reader::on_fault(const ParsedRecord& parsed) {
  const bool is_data_over = segment_->data().size() - point_.offset < kRecordHeaderBytes;
  if (!is_data_over && parsed.fault != RecordFault::kUnwritten) return damaged(parsed.fault);
  if (!has_next_segment()) {
    const auto changed = list_if_changed();
    if (!changed) return tl::unexpected{changed.error()};
    if (!has_next_segment()) {
      if (is_data_over || !is_durable(point_.entry)) return Read{};
      if (is_written_now()) return std::nullopt;  // and synced, since it was looked at
      return damaged(parsed.fault);               // there must be a record
    }
    if (!is_data_over && is_written_now()) return std::nullopt;
  }
  if (!is_data_over && segments_[index_ + 1].header.base_entry > point_.entry) return damaged(parsed.fault);
  return next_segment(parsed.fault);
}

bool Reader::is_written_now() const noexcept { return parse_record(segment_->data(), point_.offset).fault != RecordFault::kUnwritten; }

// Leaves the current segment, or takes the first one. Reports numbers that are nowhere.
Result<std::optional<Read>> Reader::next_segment(RecordFault fault) {
  if (segment_ && !has_next_segment()) {
    const auto changed = list_if_changed();
    if (!changed) return tl::unexpected{changed.error()};
    if (!has_next_segment()) return Read{};
  }
  if (!segment_) {
    if (auto listed = list_again(); !listed) return tl::unexpected{std::move(listed.error())};
    if (segments_.empty()) return Read{};
  }
  const std::uint64_t wanted = point_.entry;
  if (auto entered = enter(segment_ ? index_ + 1 : 0); !entered) {
    if (entered.error().code != ErrorCode::kNotFound) return tl::unexpected{std::move(entered.error())};
    if (auto listed = list_again(); !listed) return tl::unexpected{std::move(listed.error())};  // removed just now: the next one then
    return std::nullopt;
  }
  if (point_.entry < wanted) {  // starts below where the reader already is: a copy of something old
    const std::uint64_t base = point_.entry;
    while (point_.entry < wanted && next_record(segment_->data(), point_).is_valid()) {}
    if (point_.entry < wanted) return fail(ErrorCode::kIo, segment_->info().path + ": begins with entry " + std::to_string(base) + ", which is not behind its predecessor");
  }
  if (point_.entry == wanted) return std::nullopt;
  return Read{.status = ReadStatus::kGap, .record = {}, .lost = {.from_entry = wanted, .to_entry = point_.entry, .path = {}, .fault = fault}};
}

Result<std::optional<Read>> Reader::damaged(RecordFault fault) {
  const std::span<const std::byte> data = segment_->data();
  std::uint64_t budget = resync_budget(data.size());
  const Resync resync = find_next_record(data, point_, budget);
  const bool is_newest = !has_next_segment();
  if (!resync.found && is_newest && !is_durable(point_.entry)) return Read{};  // a torn tail that no writer has repaired yet
  Lost lost{.from_entry = point_.entry, .to_entry = point_.entry, .path = segment_->info().path, .offset = kDataOffset + point_.offset, .bytes = data.size() - point_.offset, .fault = fault};
  if (resync.found) {
    lost.to_entry = resync.found->entry;
    lost.bytes = resync.found->offset - point_.offset;
  } else if (!is_newest) {
    lost.to_entry = std::max(point_.entry, segments_[index_ + 1].header.base_entry);
  }
  if (options_.on_corrupt == OnCorrupt::kFail) {
    broken_ = Error{ErrorCode::kIo, lost.path + ": damaged at offset " + std::to_string(lost.offset) + " (" + to_string(fault) + "), entry " + std::to_string(lost.from_entry), {}};
  } else if (options_.on_corrupt == OnCorrupt::kSkip && resync.found) {
    point_ = *resync.found;
  } else {
    is_segment_over_ = true;
    if (!is_newest) {
      lost.to_entry = std::max(point_.entry, segments_[index_ + 1].header.base_entry);
      lost.bytes = data.size() - point_.offset;
      point_.entry = lost.to_entry;
    }
  }
  return Read{.status = ReadStatus::kCorrupt, .record = {}, .lost = std::move(lost)};
}

}  // namespace thalweg::log
