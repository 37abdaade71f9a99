#include "controlplane/log/frame_verify.hpp"

#include <algorithm>

#include "controlplane/log/coordination.hpp"
#include "controlplane/log/frame_log.hpp"
#include "controlplane/log/shared_lock.hpp"

namespace thalweg::log {
namespace {

class FrameVerifier {
 public:
  FrameVerifier(FileSystem& files, const std::string& directory, const FrameExpectation& expected, const std::function<void(std::uint64_t, std::uint64_t)>& on_progress)
      : files_{files}, directory_{directory}, expected_{expected}, on_progress_{on_progress} {}

  Result<FrameVerification> run() {
    read_limit();
    auto listing = list_segments(files_, directory_);
    if (!listing) return tl::unexpected{std::move(listing.error())};
    for (const auto& damaged : listing->damaged) find(damaged.path, 0, damaged.error.message);
    for (const SegmentInfo& info : listing->segments) total_ += info.header.segment_bytes;
    for (std::size_t i = 0; i < listing->segments.size(); ++i) {
      const SegmentInfo& info = listing->segments[i];
      const bool is_newest = i + 1 == listing->segments.size();
      if (is_newest) read_limit();  // it may have grown since
      if (!has_identity(info)) continue;
      check_sequence(info);
      if (auto checked = check_segment(info, is_newest); !checked) {
        if (checked.error().code == ErrorCode::kNotFound) continue;  // deleted just now
        return tl::unexpected{std::move(checked.error())};
      }
      ++out_.segments;
    }
    check_ends(listing->segments);
    return std::move(out_);
  }

 private:
  void find(const std::string& path, std::uint64_t offset, std::string what) { out_.findings.push_back({path, offset, std::move(what)}); }

  // Where a living writer is. Of a dead one nothing but the files says where it was.
  void read_limit() {
    const auto lock = files_.open(directory_ + "/" + kWritersLockName, OpenMode::kRead);
    const auto is_locked = lock ? (*lock)->is_locked(0, kWriterSlots) : Result<bool>{false};
    const auto coordination = Coordination::open_for_reading(files_, directory_);
    limit_.reset();
    if (!coordination || !is_locked || !*is_locked) return;
    limit_ = std::atomic_ref{coordination->page().tail}.load(std::memory_order_acquire);  // pairs with FrameLog::append()
  }

  bool has_identity(const SegmentInfo& info) {
    const SegmentHeader& header = info.header;
    const auto wrong = [&](std::uint64_t at, const std::string& what) {
      find(info.path, at, "segment header: " + what);
      return false;
    };
    if (header.kind != SegmentKind::kFrames) return wrong(12, "holds records, not frames");
    if (header.segment_bytes != expected_.segment_bytes) return wrong(16, "segments of the recording have another size");
    if (header.base_position != header.ordinal * header.segment_bytes) return wrong(32, "base position is not that of its ordinal");
    if (header.base_entry < header.base_position || header.base_entry - header.base_position >= header.segment_bytes) return wrong(40, "begins outside of itself");
    if (header.log_id != expected_.log_id) return wrong(72, "is that of recording " + std::to_string(header.log_id));
    return true;
  }

  void check_sequence(const SegmentInfo& info) {
    if (next_ && info.header.base_entry != *next_)
      find(info.path, 40, "begins with position " + std::to_string(info.header.base_entry) + "; " + std::to_string(*next_) + " and what is behind it is missing");
    if (!next_) out_.start_position = out_.stop_position = info.header.base_entry;
    next_ = info.end_position();
  }

  Result<void> check_segment(const SegmentInfo& info, bool is_newest) {
    auto segment = Segment::open(files_, info, OpenMode::kRead);
    if (!segment) return tl::unexpected{std::move(segment.error())};
    const FrameData frames = frame_data(**segment);
    const std::uint64_t end = end_of(info, frames, is_newest);
    std::uint64_t at = frames.first;
    while (at < end) {
      at = walk_to_damage(info, frames, at, end);
      if (at < end) at = next_frame(frames, at, end);
    }
    if (!is_newest && end < frames.data.size())
      find(info.path, kDataOffset + end, "frames end before the end of a segment that another one follows");
    const bool is_written = is_newest && limit_;
    if (!is_written) {
      const auto content_end = (*segment)->content_end(end);
      if (!content_end) return tl::unexpected{content_end.error()};
      if (*content_end > end) find(info.path, kDataOffset + end, std::to_string(*content_end - end) + " bytes stand behind the last frame");
    }
    const auto seal = (*segment)->mapping().bytes().subspan(kSealOffset, kPageBytes);
    const bool is_blank = std::all_of(seal.begin(), seal.end(), [](std::byte b) { return b == std::byte{0}; });
    // Of the newest one a power failure may have left half a seal: it is written anew when the segment is full.
    if (!is_newest && !info.seal && !is_blank && !decode_seal(seal, info.ordinal())) find(info.path, kSealOffset, "the seal is damaged");  // it may have come since the listing
    if (info.seal && info.seal->summary.end_offset != end) find(info.path, kSealOffset + 56, "the seal says that frames end at offset " + std::to_string(kDataOffset + info.seal->summary.end_offset));
    if (info.seal && !has_damage_ && info.seal->summary.record_count != data_frames_)
      find(info.path, kSealOffset + 40, "the seal counts " + std::to_string(info.seal->summary.record_count) + " data frames, " + std::to_string(data_frames_) + " are there");
    has_damage_ = false;
    data_frames_ = 0;
    progress(frames.data.size());
    return {};
  }

  // Where frames of the segment should end: what is marked, with holes in the marks, or where its writer is.
  [[nodiscard]] std::uint64_t end_of(const SegmentInfo& info, const FrameData& frames, bool is_newest) const {
    if (is_newest && limit_) return std::clamp(*limit_, info.header.base_entry, info.end_position()) - frames.base_position;
    std::uint64_t page = frames.marks.size();
    while (page > 0 && mark_end(load_mark(frames.marks[page - 1])) == 0) --page;
    if (page == 0) return frames.first;
    const std::uint64_t marked = (page - 1) * kMarkedBytes + std::min<std::uint64_t>(mark_end(load_mark(frames.marks[page - 1])), kMarkedBytes);
    return std::max(frames.first, marked);
  }

  // Counts what is good from `from` on; returns where damage is, or `end`.
  std::uint64_t walk_to_damage(const SegmentInfo& info, const FrameData& frames, std::uint64_t from, std::uint64_t end) {
    const FrameWalk walk = walk_frames(frames, from, end, expected_.stream);
    out_.data_frames += walk.data_frames;
    out_.padding_frames += walk.padding_frames;
    out_.payload_bytes += walk.payload_bytes;
    data_frames_ += walk.data_frames;
    if (walk.end > from) out_.stop_position = frames.base_position + walk.end;
    if (!walk.damage) return walk.end;
    has_damage_ = true;
    find(info.path, kDataOffset + walk.damage->offset, std::string{to_string(walk.damage->fault)} + " at position " + std::to_string(frames.base_position + walk.damage->offset));
    return std::max(walk.damage->offset, walk.end);
  }

  // The first frame behind damage that the marks know of.
  [[nodiscard]] static std::uint64_t next_frame(const FrameData& frames, std::uint64_t damage, std::uint64_t end) {
    for (std::uint64_t page = damage / kMarkedBytes + 1; page * kMarkedBytes < end; ++page) {
      const FrameMark& mark = frames.marks[page];
      const std::uint32_t begin = load_field(mark.first_frame);
      if (begin < mark_end(load_mark(mark)) && begin % kFrameAlignment == 0) return page * kMarkedBytes + begin;
    }
    return end;
  }

  void check_ends(const std::vector<SegmentInfo>& segments) {
    const auto differs = [&](const char* which, std::uint64_t found, std::uint64_t expected) {
      find(segments.empty() ? directory_ : segments.back().path, 0, std::string{"the recording's "} + which + " position is " + std::to_string(found) + ", the catalog says " + std::to_string(expected));
    };
    if (segments.empty() && (expected_.start_position != expected_.stop_position || !expected_.start_position)) return find(directory_, 0, "there is no segment");
    if (segments.empty()) return;
    if (expected_.start_position && *expected_.start_position != out_.start_position) differs("start", out_.start_position, *expected_.start_position);
    if (expected_.stop_position && *expected_.stop_position != out_.stop_position) differs("stop", out_.stop_position, *expected_.stop_position);
  }

  void progress(std::uint64_t bytes) {
    out_.bytes += bytes;
    if (on_progress_) on_progress_(out_.bytes, total_);
  }

  FileSystem& files_;
  const std::string& directory_;
  const FrameExpectation& expected_;
  const std::function<void(std::uint64_t, std::uint64_t)>& on_progress_;
  std::optional<std::uint64_t> limit_;
  std::optional<std::uint64_t> next_;
  std::uint64_t total_{};
  std::uint64_t data_frames_{};  // of this segment
  bool has_damage_{};            // the same
  FrameVerification out_;
};

}  // namespace

Result<FrameVerification> verify_frame_log(FileSystem& files, const std::string& directory, const FrameExpectation& expected,
                                           const std::function<void(std::uint64_t, std::uint64_t)>& on_progress) {
  return FrameVerifier{files, directory, expected, on_progress}.run();
}

}  // namespace thalweg::log
