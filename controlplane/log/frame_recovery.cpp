#include "controlplane/log/frame_recovery.hpp"

#include <algorithm>
#include <cstring>

namespace thalweg::log {
namespace {

class FrameRecovery {
 public:
  FrameRecovery(FileSystem& files, const Clock& clock, const std::string& directory, const FrameLogOptions& options, std::uint64_t durable_position)
      : files_{files}, clock_{clock}, directory_{directory}, options_{options}, durable_position_{durable_position} {}

  Result<RecoveredFrames> run() {
    auto listing = list_segments(files_, directory_);
    if (!listing) return tl::unexpected{std::move(listing.error())};
    if (auto removed = remove_temporaries(files_, *listing, report()); !removed) return tl::unexpected{std::move(removed.error())};
    const auto rebuild = [&](const SegmentListing::Damaged& damaged) { return rebuild_header(*listing, damaged); };
    if (auto mended = mend_headers(*listing, report(), rebuild); !mended) return tl::unexpected{std::move(mended.error())};
    for (std::size_t i = 0; i < listing->segments.size(); ++i) {
      const bool is_newest = i + 1 == listing->segments.size();
      auto is_whole = examine(listing->segments[i], is_newest);
      if (!is_whole) return tl::unexpected{std::move(is_whole.error())};
      if (!*is_whole && !is_newest) {
        if (auto dropped = drop(*listing, i + 1); !dropped) return tl::unexpected{std::move(dropped.error())};
        break;
      }
    }
    report().segments = static_cast<std::uint32_t>(out_.segments.size());
    if (auto synced = files_.sync_directory(directory_); !synced) return tl::unexpected{std::move(synced.error())};
    return std::move(out_);
  }

 private:
  RecoveryReport& report() noexcept { return out_.report; }

  // Everything in a header follows from the name and the stream, but where a first segment begins: its first mark says that.
  Result<std::optional<SegmentInfo>> rebuild_header(const SegmentListing& listing, const SegmentListing::Damaged& damaged) {
    SegmentHeader header{.kind = SegmentKind::kFrames, .segment_bytes = options_.segment_bytes, .ordinal = damaged.ordinal};
    header.base_position = header.base_entry = damaged.ordinal * options_.segment_bytes;
    header.created_ns = clock_.epoch_ns();
    header.log_id = options_.log_id;
    auto file = files_.open(damaged.path, OpenMode::kWrite);
    if (!file) return tl::unexpected{std::move(file.error())};
    const auto size = (*file)->size();
    if (!size) return tl::unexpected{size.error()};
    if (*size < file_bytes(header) || header.base_position > INT64_MAX) return set_aside(damaged);
    auto segment = Segment::open(files_, {damaged.path, header, std::nullopt}, OpenMode::kWrite);
    if (!segment) return tl::unexpected{std::move(segment.error())};
    const FrameData frames = frame_data(**segment);
    std::uint64_t first = 0;
    while (first < frames.marks.size() && load_mark(frames.marks[first]) == 0) ++first;
    const bool is_newest = listing.segments.empty() || listing.segments.back().ordinal() < damaged.ordinal;
    if (first == frames.marks.size()) {
      if (!is_newest) return set_aside(damaged);
      if (auto removed = files_.remove(damaged.path); !removed) return tl::unexpected{std::move(removed.error())};
      return std::nullopt;
    }
    const std::uint64_t at = first * kMarkedBytes + frames.marks[first].first_frame;
    if (at >= frames.data.size() || at % kFrameAlignment != 0 || !parse_frame(frames.data.subspan(at), header.base_position + at, options_.stream).is_valid())
      return set_aside(damaged);
    header.base_entry += at;
    header.base_timestamp_ns = std::min(frames.marks[first].first_ns, header.created_ns);
    if (auto written = (*segment)->set_header(header); !written) return tl::unexpected{std::move(written.error())};
    auto info = read_segment_info(files_, directory_, damaged.ordinal);
    if (!info) return tl::unexpected{std::move(info.error())};
    return std::optional{std::move(*info)};
  }

  Result<std::optional<SegmentInfo>> set_aside(const SegmentListing::Damaged& damaged) { return log::set_aside(files_, clock_, damaged, report()); }

  Result<void> check_identity(const SegmentInfo& info) const {
    const SegmentHeader& header = info.header;
    const auto other = [&](const char* what) { return fail(ErrorCode::kInvalidArgument, info.path + ": " + what); };
    if (header.kind != SegmentKind::kFrames) return fail(ErrorCode::kUnsupported, info.path + ": holds records, not frames");
    if (header.log_id != options_.log_id) return other("is another recording's");
    if (header.segment_bytes != options_.segment_bytes) return other("has another size than the recording's segments");
    if (header.base_position != header.ordinal * header.segment_bytes || header.base_entry < header.base_position || header.base_entry - header.base_position >= header.segment_bytes)
      return fail(ErrorCode::kIo, info.path + ": segment header: impossible base at offset 32");
    return {};
  }

  // false: what follows the place where this segment's data ends was never acknowledged as durable, and is no part of the log.
  Result<bool> examine(const SegmentInfo& info, bool is_newest) {
    if (auto checked = check_identity(info); !checked) return tl::unexpected{std::move(checked.error())};
    if (!out_.segments.empty() && out_.segments.back().info.end_position() != info.header.base_entry) {
      const std::uint64_t from = out_.segments.back().info.end_position();
      report().lost_entries += info.header.base_entry > from ? info.header.base_entry - from : 0;
      report().findings.push_back(info.path + ": begins at position " + std::to_string(info.header.base_entry) + "; " + std::to_string(from) + " and what is behind it is nowhere");
    }
    out_.last_ns = std::max(out_.last_ns, info.header.base_timestamp_ns);
    KnownSegment known{.info = info, .summary = {}, .is_closed = info.seal.has_value()};
    const bool is_full = info.seal && info.seal->summary.end_offset == info.header.segment_bytes;
    if (is_full && info.seal->is_data_synced != 0 && !is_newest) {
      known.summary = info.seal->summary;
      out_.last_ns = std::max(out_.last_ns, known.summary.last_timestamp_ns);
      out_.segments.push_back(std::move(known));
      return true;
    }
    auto opened = Segment::open(files_, info, OpenMode::kWrite);
    if (!opened) return tl::unexpected{std::move(opened.error())};
    Segment& segment = **opened;
    const End end = find_end(segment);
    out_.last_ns = std::max(out_.last_ns, end.last_ns);
    const bool is_whole = end.offset == info.header.segment_bytes;
    if (info.seal && (is_newest || !is_whole)) {
      if (auto unsealed = segment.unseal(); !unsealed) return tl::unexpected{std::move(unsealed.error())};
      known.info = segment.info();
      known.is_closed = false;
    }
    const auto torn = cut_frames(segment, end.offset);
    if (!torn) return tl::unexpected{torn.error()};
    if (*torn > 0) {
      report().torn_bytes += *torn;
      report().findings.push_back(info.path + ": torn tail (" + end.why + "), last frame ends at offset " + std::to_string(kDataOffset + end.offset));
    }
    if (is_newest || !is_whole) {
      if (auto opened_again = make_active(*opened, known, end); !opened_again) return tl::unexpected{std::move(opened_again.error())};
    } else {
      if (auto closed = close(segment, known); !closed) return tl::unexpected{std::move(closed.error())};
    }
    out_.segments.push_back(std::move(known));
    return is_whole;
  }

  struct End {
    std::uint64_t offset{};   // behind the last whole frame
    std::int64_t last_ns{};
    const char* why{"not marked"};
  };

  // Below it nothing is read. The durable point is a hint in a file of its own: it counts where a mark or a sync point says as much.
  [[nodiscard]] std::uint64_t trusted_end(const FrameData& frames) const noexcept {
    const std::uint64_t synced = frames.surely_synced();
    if (durable_position_ <= frames.base_position + synced) return synced;
    const std::uint64_t durable = std::min<std::uint64_t>(durable_position_ - frames.base_position, frames.data.size());
    const std::uint64_t index = (durable - 1) / kMarkedBytes;
    std::uint64_t known = index * kMarkedBytes + mark_end(load_mark(frames.marks[index]));
    for (const SyncPoint& point : frames.sync_point_pair())
      if (point.sequence != 0) known = std::max(known, point.end);
    return durable % kFrameAlignment == 0 && known >= durable ? durable : synced;
  }

  // Reads on as far as marks and data agree.
  End find_end(const Segment& segment) {
    const FrameData frames = frame_data(segment);
    End end{.offset = trusted_end(frames)};
    ++report().segments_scanned;
    std::uint64_t marked = end.offset;
    for (std::uint64_t index = end.offset / kMarkedBytes; index < frames.marks.size(); ++index) {
      const FrameMark& mark = frames.marks[index];
      const std::uint64_t word = load_mark(mark);
      if (!frames.is_intact(index) || index * kMarkedBytes + mark_end(word) < end.offset) {  // a mark older or newer than its data
        if (word != 0) end.why = "wrong checksum";
        marked = std::max(marked, synced_end_in(frames, index));
        break;
      }
      if (word == 0) break;
      end.last_ns = std::max(end.last_ns, mark.last_ns);
      marked = index * kMarkedBytes + mark_end(word);
      if (mark_end(word) != kMarkedBytes) break;
    }
    report().bytes_scanned += marked - end.offset;
    // What is marked may end inside a frame: a writer was killed between two marks.
    while (end.offset < marked) {
      const ParsedFrame frame = parse_frame(frames.data.subspan(end.offset), frames.base_position + end.offset, options_.stream);
      if (!frame.is_valid()) end.why = to_string(frame.fault);
      if (!frame.is_valid() || frame.span > marked - end.offset) break;
      end.offset += frame.span;
    }
    return end;
  }

  // The furthest end in this page that a sync point vouches for; 0: none.
  [[nodiscard]] static std::uint64_t synced_end_in(const FrameData& frames, std::uint64_t index) noexcept {
    std::uint64_t end = 0;
    for (const SyncPoint& point : frames.sync_point_pair()) {
      if (point.sequence == 0 || (point.end - 1) / kMarkedBytes != index) continue;
      if (frames.page_crc(index, static_cast<std::uint32_t>(point.end - index * kMarkedBytes)) == point.page_crc) end = std::max(end, point.end);
    }
    return end;
  }

  Result<void> make_active(const std::shared_ptr<Segment>& segment, KnownSegment& known, const End& end) {
    // First what a killed predecessor may have begun to sync: of two sync points the lower one must never be in doubt.
    if (auto synced = segment->file().sync(); !synced) return synced;
    const FrameData frames = frame_data(*segment);
    if (end.offset > frames.first && frames.is_intact((end.offset - 1) / kMarkedBytes)) frames.put_sync_point(end.offset);
    if (auto synced = segment->file().sync(); !synced) return synced;
    out_.active = segment;
    out_.tail = end.offset;
    known.summary = SegmentSummary{.end_entry = segment->header().base_position + end.offset};
    known.summary.end_offset = end.offset;
    return {};
  }

  // The process died between the birth of the next segment and the seal of this one, or before it was synced.
  Result<void> close(Segment& segment, KnownSegment& known) {
    if (auto synced = segment.file().sync(); !synced) return synced;
    known.summary = summarize_frames(frame_data(segment), segment.header().segment_bytes, options_.stream);
    if (auto sealed = segment.seal(known.summary, true, clock_.epoch_ns()); !sealed) return sealed;
    known.info = segment.info();
    known.is_closed = true;
    return {};
  }

  Result<void> drop(const SegmentListing& listing, std::size_t from) {
    for (std::size_t i = listing.segments.size(); i > from; --i) {
      const SegmentInfo& info = listing.segments[i - 1];
      if (auto removed = files_.remove(info.path); !removed) return removed;
      report().torn_bytes += info.header.segment_bytes;
      report().findings.push_back(info.path + ": stands behind what was lost, and was not durable: removed");
    }
    return {};
  }

  FileSystem& files_;
  const Clock& clock_;
  const std::string& directory_;
  const FrameLogOptions& options_;
  const std::uint64_t durable_position_;
  RecoveredFrames out_;
};

}  // namespace

Result<RecoveredFrames> recover_frames(FileSystem& files, const Clock& clock, const std::string& directory, const FrameLogOptions& options,
                                       std::uint64_t durable_position) {
  return FrameRecovery{files, clock, directory, options, durable_position}.run();
}

Result<std::uint64_t> cut_frames(Segment& segment, std::uint64_t tail) {
  const FrameData frames = frame_data(segment);
  const auto in_page = static_cast<std::uint32_t>(tail % kMarkedBytes);
  const bool is_intact = in_page == 0 || frames.is_intact_up_to(tail / kMarkedBytes, in_page);
  const auto content_end = segment.content_end(tail);
  if (!content_end) return content_end;
  if (*content_end > tail) std::memset(frames.data.data() + tail, 0, *content_end - tail);
  frames.drop_sync_points_behind(tail);
  std::uint64_t index = tail / kMarkedBytes;
  if (in_page > page_begin(index, frames.first)) {
    FrameMark& mark = frames.marks[index];
    if (mark.first_frame >= in_page) mark.first_frame = kNoFrame;
    if (mark.first_ns == 0) mark.first_ns = mark.last_ns = index > frames.first / kMarkedBytes ? frames.marks[index - 1].last_ns : segment.header().base_timestamp_ns;
    const std::uint32_t crc = frames.page_crc(index, in_page);
    store_mark(mark, pack_mark(in_page, is_intact ? crc : ~crc));   // damage stays damage: nothing may vouch for it
    ++index;
  }
  constexpr FrameMark kNothing{};
  for (; index < frames.marks.size(); ++index)
    if (std::memcmp(&frames.marks[index], &kNothing, sizeof kNothing) != 0) frames.marks[index] = kNothing;
  return *content_end - tail;
}

}  // namespace thalweg::log
