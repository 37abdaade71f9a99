#include "controlplane/log/frame_reader.hpp"

#include <algorithm>
#include <limits>

#include "controlplane/log/frame_log.hpp"

namespace thalweg::log {

Result<FrameReader> FrameReader::open(FileSystem& files, std::string directory, const FrameReaderOptions& options) {
  FrameReader reader{files, std::move(directory), options};
  auto coordination = Coordination::open_for_reading(files, reader.directory_);
  if (coordination) reader.coordination_ = std::move(*coordination);
  else if (coordination.error().code == ErrorCode::kVersion) return tl::unexpected{std::move(coordination.error())};
  if (auto listed = reader.list(); !listed) return tl::unexpected{std::move(listed.error())};
  if (reader.segments_.empty()) return fail(ErrorCode::kNotFound, reader.directory_ + ": there is no segment");
  reader.position_ = reader.first_position();
  return reader;
}

Result<void> FrameReader::list() {
  if (coordination_) change_count_ = coordination_->change_count();
  auto listing = list_segments(*files_, directory_);
  if (!listing) return tl::unexpected{std::move(listing.error())};
  for (const SegmentInfo& info : listing->segments) {
    if (info.header.kind != SegmentKind::kFrames) return fail(ErrorCode::kInvalidArgument, info.path + ": holds records, not frames");
    if (info.header.segment_bytes < options_.stream.term_bytes) return fail(ErrorCode::kInvalidArgument, info.path + ": is smaller than a term of the stream");
  }
  segments_ = std::move(listing->segments);
  return {};
}

Result<void> FrameReader::list_if_changed() {
  if (coordination_ && coordination_->change_count() == change_count_) return {};
  return list();
}

// Without a coordination page nobody says where writing is: what the newest segment's marks cover counts.
std::uint64_t FrameReader::limit() const noexcept {
  if (!coordination_) return segment_ && segment_->info().ordinal() == segments_.back().ordinal() ? data_.base_position + data_.data.size() : segments_.back().end_position();
  if (!options_.is_uncommitted) return coordination_->durable_entry();
  return std::atomic_ref{coordination_->page().tail}.load(std::memory_order_acquire);  // pairs with FrameLog::append()
}

Result<void> FrameReader::enter(std::uint64_t position) {
  if (segment_ && position >= segment_->header().base_entry && position < segment_->info().end_position()) return {};
  const auto find = [&] {
    return std::find_if(segments_.begin(), segments_.end(), [position](const SegmentInfo& info) { return info.header.base_entry <= position && position < info.end_position(); });
  };
  auto found = find();
  if (const auto changed = coordination_ ? coordination_->change_count() : change_count_ + 1; found == segments_.end() || changed != change_count_) {
    if (auto listed = list(); !listed) return listed;
    found = find();
  }
  if (found == segments_.end()) {
    if (segments_.empty()) return fail(ErrorCode::kNotFound, directory_ + ": there is no segment");
    return fail(ErrorCode::kNotFound, directory_ + ": position " + std::to_string(position) + " is not there any more; the lowest is " + std::to_string(first_position()));
  }
  auto opened = Segment::open(*files_, *found, OpenMode::kRead);
  if (!opened) return tl::unexpected{std::move(opened.error())};
  segment_ = std::move(*opened);
  data_ = frame_data(*segment_);
  checked_to_ = (position - data_.base_position) / kMarkedBytes;
  return {};
}

tl::unexpected<Error> FrameReader::damaged(std::uint64_t offset, const char* what) const {
  return fail(ErrorCode::kIo, segment_->info().path + ": damage at offset " + std::to_string(kDataOffset + offset) + " (position " + std::to_string(data_.base_position + offset) + "): " + what);
}

Result<void> FrameReader::check_pages(std::uint64_t from, std::uint64_t to) {
  if (to <= checked_to_ * kMarkedBytes) return {};
  for (std::uint64_t index = std::max(from / kMarkedBytes, checked_to_); index * kMarkedBytes < to; ++index) {
    const std::uint32_t end = mark_end(load_mark(data_.marks[index]));
    if (index * kMarkedBytes + end < std::min(to, (index + 1) * kMarkedBytes)) return damaged(index * kMarkedBytes + end, "not marked as written");
    fetch_page(index + 1);
    if (!data_.is_intact(index)) return damaged(index * kMarkedBytes, "wrong checksum");
    if (end == kMarkedBytes) checked_to_ = index + 1;
  }
  return {};
}

// A page ahead: the processor's own prefetching ends at each page, and the checksum's three streams confuse it before.
void FrameReader::fetch_page(std::uint64_t index) const noexcept {
  if (index >= data_.marks.size()) return;
  const std::byte* const page = data_.data.data() + index * kMarkedBytes;
  for (std::size_t at = 0; at < kMarkedBytes; at += kCacheLine) __builtin_prefetch(page + at);
}

// Without a coordination page: where the newest segment's marks end, nothing is wrong.
bool FrameReader::is_unwritten(std::uint64_t offset) const noexcept { return !coordination_ && load_le<std::int32_t>(data_.data.data() + offset) == 0; }

Result<std::optional<FrameBlock>> FrameReader::next(std::uint64_t bytes_max) {
  const std::uint64_t end_position = limit();
  if (position_ >= end_position) return std::nullopt;
  if (auto entered = enter(position_); !entered) {
    if (!coordination_ && position_ >= segments_.back().end_position()) return std::nullopt;
    return tl::unexpected{std::move(entered.error())};
  }
  const std::uint64_t begin = position_ - data_.base_position;
  const std::uint64_t term_end = (begin & ~std::uint64_t{options_.stream.term_bytes - 1}) + options_.stream.term_bytes;
  const std::uint64_t end = std::min({end_position - data_.base_position, data_.data.size(), term_end});
  FrameBlock block{.position = position_, .span = 0, .frames = {}, .is_padding = false};
  // Each page is checked before a frame in it is looked at: that brings it into the cache in the order of its bytes. What is wrong behind the first frame
  // is the next call's to report.
  for (std::uint64_t at = begin; at < end;) {
    if (auto checked = check_pages(at, at + kFrameHeaderBytes); !checked) {
      if (at > begin) break;
      return is_unwritten(at) ? Result<std::optional<FrameBlock>>{std::nullopt} : tl::unexpected{std::move(checked.error())};
    }
    const ParsedFrame frame = parse_frame(data_.data.subspan(at), data_.base_position + at, options_.stream);
    if (!frame.is_valid() && at == begin) {
      if (!coordination_ && frame.fault == FrameFault::kUnwritten) return std::nullopt;
      return damaged(at, to_string(frame.fault));
    }
    if (!frame.is_valid() || (at > begin && (frame.is_padding || at + frame.span - begin > bytes_max))) break;
    if (at + frame.span > end) {
      if (at > begin) break;
      return damaged(at, "frame beyond what was written");
    }
    if (auto checked = frame.is_padding ? Result<void>{} : check_pages(at, at + frame.span); !checked) {
      if (at > begin) break;
      return tl::unexpected{std::move(checked.error())};
    }
    at += frame.span;
    block.span = at - begin;
    block.is_padding = frame.is_padding;
    if (frame.is_padding) break;
  }
  const std::uint64_t shown = block.is_padding ? kFrameHeaderBytes : block.span;
  block.frames = data_.data.subspan(begin, shown);
  block.time_ns = load_field(data_.marks[begin / kMarkedBytes].first_ns);
  position_ = block.end();
  return block;
}

Result<void> FrameReader::seek(std::uint64_t position) {
  if (auto listed = list_if_changed(); !listed) return listed;
  if (segments_.empty()) return fail(ErrorCode::kNotFound, directory_ + ": there is no segment");
  const std::uint64_t end = limit();
  if (position < first_position() || position > end)
    return fail(ErrorCode::kInvalidArgument, "position " + std::to_string(position) + " is not in the recording, which has " + std::to_string(first_position()) + " to " + std::to_string(end));
  if (position == end && coordination_) {
    position_ = position;
    return {};
  }
  segment_.reset();
  if (auto entered = enter(position); !entered) return entered;
  const std::uint64_t offset = position - data_.base_position;
  const auto near = data_.frame_near(offset);
  std::uint64_t at = near.value_or(offset + 1);
  std::uint64_t before = at;
  while (at < offset) {
    const ParsedFrame frame = parse_frame(data_.data.subspan(at), data_.base_position + at, options_.stream);
    if (!frame.is_valid()) return damaged(at, to_string(frame.fault));
    before = at;
    at += frame.span;
  }
  if (at != offset)
    return fail(ErrorCode::kInvalidArgument, "no frame begins at position " + std::to_string(position) + "; the one before begins at " + std::to_string(data_.base_position + before));
  position_ = position;
  return {};
}

Result<void> FrameReader::seek_time(std::int64_t timestamp_ns) {
  if (auto listed = list_if_changed(); !listed) return listed;
  if (segments_.empty()) return fail(ErrorCode::kNotFound, directory_ + ": there is no segment");
  const auto behind = std::partition_point(segments_.begin(), segments_.end(), [timestamp_ns](const SegmentInfo& info) { return info.header.base_timestamp_ns < timestamp_ns; });
  if (behind == segments_.begin()) {
    position_ = first_position();
    return {};
  }
  auto last = behind - 1;
  // A segment made ahead of its first frame has an older time than the last frames of the one before it.
  while (last != segments_.begin() && (last - 1)->seal && (last - 1)->seal->summary.last_timestamp_ns >= timestamp_ns) --last;
  const SegmentInfo info = *last;
  segment_.reset();
  if (auto entered = enter(info.header.base_entry); !entered) return entered;
  const auto is_older = [timestamp_ns](const FrameMark& mark) { return load_mark(mark) != 0 && load_field(mark.first_ns) < timestamp_ns; };
  const std::uint64_t from = data_.first / kMarkedBytes;
  const auto newer = std::partition_point(data_.marks.begin() + static_cast<std::ptrdiff_t>(from), data_.marks.end(), is_older);
  auto page = static_cast<std::uint64_t>(newer - data_.marks.begin());
  if (page > from && load_field(data_.marks[page - 1].last_ns) >= timestamp_ns) --page;  // it begins in the page that is older at its begin
  const std::uint64_t written = std::min(limit() - std::min(limit(), data_.base_position), static_cast<std::uint64_t>(data_.data.size()));
  for (; page * kMarkedBytes < written; ++page) {
    const FrameMark& mark = data_.marks[page];
    if (load_field(mark.first_frame) >= mark_end(load_mark(mark))) continue;  // in the middle of a frame that began earlier
    position_ = data_.base_position + page * kMarkedBytes + load_field(mark.first_frame);
    return {};
  }
  position_ = std::min(limit(), info.end_position());
  return {};
}

}  // namespace thalweg::log
