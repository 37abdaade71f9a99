#include "controlplane/log/recovery.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "controlplane/log/index.hpp"

namespace thalweg::log {
namespace {

class Recovery {
 public:
  Recovery(FileSystem& files, const Clock& clock, const std::string& directory, Coordination& coordination)
      : files_{files}, clock_{clock}, directory_{directory}, coordination_{coordination} {}

  Result<Recovered> run() {
    auto listing = list_segments(files_, directory_);
    if (!listing) return tl::unexpected{std::move(listing.error())};
    if (auto removed = remove_temporaries(files_, *listing, report()); !removed) return tl::unexpected{std::move(removed.error())};
    const auto rebuild = [&](const SegmentListing::Damaged& damaged) { return rebuild_header(*listing, damaged); };
    if (auto mended = mend_headers(*listing, report(), rebuild); !mended) return tl::unexpected{std::move(mended.error())};
    report().is_coordination_rebuilt = (coordination_.is_new() && !listing->segments.empty()) || coordination_.was_moved_aside();
    checkpoint_ = coordination_.is_new() ? DurablePoint{} : coordination_.durable();
    for (std::size_t i = 0; i < listing->segments.size(); ++i)
      if (auto known = examine(listing->segments[i], i + 1 == listing->segments.size()); !known) return tl::unexpected{std::move(known.error())};
    report().segments = static_cast<std::uint32_t>(out_.segments.size());
    if (auto finished = finish(); !finished) return tl::unexpected{std::move(finished.error())};
    return std::move(out_);
  }

 private:
  RecoveryReport& report() noexcept { return out_.report; }

  // A header that cannot be read is made anew; a newest segment with nothing in it was never used and goes.
  Result<std::optional<SegmentInfo>> rebuild_header(const SegmentListing& listing, const SegmentListing::Damaged& damaged) {
    auto content = read_file(files_, damaged.path, kDataOffset + kSegmentBytesMax);
    if (!content) return tl::unexpected{std::move(content.error())};
    const bool is_newest = listing.segments.empty() || listing.segments.back().ordinal() < damaged.ordinal;
    if (is_newest && end_of_content(*content, std::min<std::uint64_t>(kDataOffset, content->size()), content->size()) <= kDataOffset) return forget(damaged);
    if (const auto header = decode_header(std::span{*content}.first(std::min<std::size_t>(content->size(), kPageBytes)), damaged.path)) {
      if (header->ordinal != damaged.ordinal) return set_aside(damaged);  // a copy of another segment
      return lengthen(damaged, *header);
    }
    const std::uint64_t segment_bytes = content->size() < kDataOffset ? 0 : content->size() - kDataOffset;
    if (!std::has_single_bit(segment_bytes) || segment_bytes < kSegmentBytesMin) return set_aside(damaged);
    const SegmentInfo* before = nullptr;
    const SegmentInfo* after = nullptr;
    for (const SegmentInfo& info : listing.segments) {
      if (info.ordinal() < damaged.ordinal) before = &info;
      else if (after == nullptr) after = &info;
    }
    SegmentHeader header{.segment_bytes = segment_bytes, .ordinal = damaged.ordinal, .created_ns = clock_.epoch_ns()};
    if (before != nullptr) header.base_position = before->end_position();
    else if (after != nullptr) header.base_position = after->header.base_position >= segment_bytes ? after->header.base_position - segment_bytes : 0;
    const ParsedRecord first = parse_record(std::span{*content}.subspan(kDataOffset), 0);
    if (!first.is_valid()) return is_unused(header, *content) ? forget(damaged) : set_aside(damaged);
    header.base_entry = first.header.entry;
    if (before != nullptr && header.base_entry < before->header.base_entry) return set_aside(damaged);
    header.base_timestamp_ns = std::min(first.header.timestamp_ns, header.created_ns);
    header.log_id = coordination_.page().shard;
    return write_header(damaged.path, header, *content);
  }

  // Whether the power went before anything of a segment was synced that had just been taken into use: what is left of its records was never durable.
  [[nodiscard]] bool is_unused(const SegmentHeader& header, std::span<const std::byte> content) const noexcept {
    return is_made_ahead(content.first(kPageBytes)) && !coordination_.is_new() && header.base_position >= coordination_.durable().position;
  }

  Result<std::optional<SegmentInfo>> forget(const SegmentListing::Damaged& damaged) {
    if (auto removed = files_.remove(damaged.path); !removed) return tl::unexpected{std::move(removed.error())};
    return std::nullopt;
  }

  // A file that was cut off: what is left of it is read, what is missing counts as damage.
  Result<std::optional<SegmentInfo>> lengthen(const SegmentListing::Damaged& damaged, const SegmentHeader& header) {
    auto file = files_.open(damaged.path, OpenMode::kWrite);
    if (!file) return tl::unexpected{std::move(file.error())};
    if (auto allocated = (*file)->allocate(kDataOffset + header.segment_bytes); !allocated) return tl::unexpected{std::move(allocated.error())};
    if (auto written = (*file)->write_at(Page{}, kSealOffset); !written) return tl::unexpected{std::move(written.error())};  // it tells of what is gone
    if (auto synced = (*file)->sync(); !synced) return tl::unexpected{std::move(synced.error())};
    return SegmentInfo{damaged.path, header, std::nullopt};
  }

  Result<std::optional<SegmentInfo>> write_header(const std::string& path, const SegmentHeader& header, std::span<const std::byte> content) {
    auto file = files_.open(path, OpenMode::kWrite);
    if (!file) return tl::unexpected{std::move(file.error())};
    const Page page = encode(header);
    if (auto written = (*file)->write_at(page, 0); !written) return tl::unexpected{std::move(written.error())};
    if (auto synced = (*file)->sync(); !synced) return tl::unexpected{std::move(synced.error())};
    auto decoded = decode_header(page, path);
    if (!decoded) return tl::unexpected{std::move(decoded.error())};
    return SegmentInfo{path, *decoded, decode_seal(content.subspan(kSealOffset), header.ordinal)};
  }

  Result<std::optional<SegmentInfo>> set_aside(const SegmentListing::Damaged& damaged) { return log::set_aside(files_, clock_, damaged, report()); }

  // A segment that is closed, was synced before it was sealed or lies before the checkpoint needs no reading.
  bool is_vouched_for(const SegmentInfo& info) const noexcept {
    return info.seal && (info.seal->is_data_synced != 0 || info.end_position() <= checkpoint_.position);
  }

  Result<void> examine(const SegmentInfo& info, bool is_newest) {
    if (info.header.kind != SegmentKind::kRecords) return fail(ErrorCode::kUnsupported, info.path + ": holds frames, not records");
    if (!out_.segments.empty() && next_.entry < info.header.base_entry) {
      report().lost_entries += info.header.base_entry - next_.entry;
      report().findings.push_back(info.path + ": begins with entry " + std::to_string(info.header.base_entry) + "; " + std::to_string(next_.entry) + " and those behind it are nowhere");
    }
    KnownSegment known{.info = info, .summary = {}, .is_closed = info.seal.has_value()};
    if (is_vouched_for(info)) {
      known.summary = info.seal->summary;
      next_ = ScanPoint{0, known.summary.end_entry, std::max(known.summary.last_timestamp_ns, info.header.base_timestamp_ns)};
      out_.segments.push_back(std::move(known));
      return {};
    }
    auto opened = Segment::open(files_, info, OpenMode::kWrite);
    if (!opened) return tl::unexpected{std::move(opened.error())};
    const auto content_end = (*opened)->content_end(0);
    if (!content_end) return tl::unexpected{content_end.error()};
    const bool is_active = is_newest && !info.seal;
    const Scan scan = is_active ? scan_from_checkpoint(**opened, *content_end) : scan_whole(**opened, *content_end);
    note(info, scan);
    known.summary = scan.summary;
    known.is_damaged = scan.corrupt_ranges > 0;
    next_ = ScanPoint{0, scan.end.entry, scan.end.timestamp_ns};
    if (is_active) {
      out_.active = *opened;
      out_.tail = scan.end;
      if (auto zeroed = zero_behind(**opened, scan.end.offset, *content_end); !zeroed) return zeroed;
    } else if (!info.seal) {
      if (auto closed = close(**opened, scan.summary, *content_end); !closed) return closed;
      known.info = (*opened)->info();
      known.is_closed = true;
    } else if (auto synced = (*opened)->file().sync(); !synced) {  // sealed by a process that did not sync; everything is durable afterwards
      return synced;
    }
    out_.segments.push_back(std::move(known));
    return {};
  }

  // Nothing from here on was acknowledged as durable. A page made anew does not know.
  [[nodiscard]] std::uint64_t durable_entry() const noexcept { return coordination_.is_new() ? UINT64_MAX : checkpoint_.entry; }

  // From the checkpoint when it lies in this segment and the record there bears its number, otherwise from the start.
  Scan scan_from_checkpoint(Segment& segment, std::uint64_t content_end) {
    const SegmentHeader& header = segment.header();
    if (checkpoint_.position > header.base_position && checkpoint_.position < header.base_position + header.segment_bytes && checkpoint_.entry >= header.base_entry) {
      ScanPoint point{checkpoint_.position - header.base_position, checkpoint_.entry, header.base_timestamp_ns};
      ScanPoint probe = point;
      const bool is_at_record = point.offset % kRecordAlignment == 0 && (next_record(segment.data(), probe).is_valid() || content_end <= point.offset);
      if (is_at_record) {
        const std::int64_t newest = coordination_.page().durable_timestamp_ns;
        Scan scan = scan_segment(segment.data(), point, content_end, durable_entry());
        if (scan.summary.record_count == 0) scan.end.timestamp_ns = std::max(scan.end.timestamp_ns, newest);
        out_.counted_from = point.offset;
        ++report().segments_scanned;
        report().bytes_scanned += content_end > point.offset ? content_end - point.offset : 0;
        return scan;
      }
      report().findings.push_back(segment.info().path + ": checkpoint at offset " + std::to_string(kDataOffset + point.offset) + " is not at its record; read from the start");
    }
    return scan_whole(segment, content_end);
  }

  Scan scan_whole(Segment& segment, std::uint64_t content_end) {
    ++report().segments_scanned;
    report().bytes_scanned += content_end;
    return scan_segment(segment.data(), {0, segment.header().base_entry, segment.header().base_timestamp_ns}, content_end, durable_entry());
  }

  void note(const SegmentInfo& info, const Scan& scan) {
    report().corrupt_ranges += scan.corrupt_ranges;
    report().lost_entries += scan.lost_entries;
    report().torn_bytes += scan.torn_bytes;
    if (scan.tail == TailKind::kClean) return;
    report().findings.push_back(info.path + ": " + (scan.tail == TailKind::kTorn ? "torn tail" : "damage") + " (" + to_string(scan.fault) + "), last record ends at offset " +
                                std::to_string(kDataOffset + scan.end.offset));
  }

  // What is left of a torn record must not stand behind shorter records written over it later.
  Result<void> zero_behind(Segment& segment, std::uint64_t offset, std::uint64_t content_end) {
    if (content_end <= offset) return {};
    std::memset(segment.data().data() + offset, 0, content_end - offset);
    return segment.file().sync();
  }

  // The process died between the birth of the next segment and the seal of this one.
  Result<void> close(Segment& segment, const SegmentSummary& summary, std::uint64_t content_end) {
    if (auto synced = segment.file().sync(); !synced) return synced;
    const ScanPoint start{0, segment.header().base_entry, segment.header().base_timestamp_ns};
    if (auto sealed = segment.seal(summary, true, clock_.epoch_ns()); !sealed) return sealed;
    static_cast<void>(save_index(files_, directory_, segment.header().ordinal, SparseIndex::build(segment.data(), start, content_end)));  // a help only
    return {};
  }

  Result<void> finish() {
    if (out_.active) {
      if (auto synced = out_.active->file().sync(); !synced) return synced;
      out_.tail.timestamp_ns = std::max(out_.tail.timestamp_ns, next_.timestamp_ns);
    } else {
      out_.tail = next_;
    }
    if (out_.tail.entry < checkpoint_.entry) {  // the disk lost what it had acknowledged: these numbers are not given again, readers see the gap
      report().findings.push_back(directory_ + ": entries " + std::to_string(out_.tail.entry) + " to " + std::to_string(checkpoint_.entry - 1) +
                                  " were durable and are gone");
      report().lost_entries += checkpoint_.entry - out_.tail.entry;
      if (auto closed = give_up_active(); !closed) return closed;
      out_.tail = {0, checkpoint_.entry, out_.tail.timestamp_ns};
    }
    return files_.sync_directory(directory_);
  }

  Result<void> give_up_active() {
    if (!out_.active) return {};
    KnownSegment& known = out_.segments.back();
    if (out_.counted_from != 0) known.summary = scan_whole(*out_.active, out_.tail.offset).summary;
    if (auto closed = close(*out_.active, known.summary, out_.tail.offset); !closed) return closed;
    known.is_closed = true;
    known.info = out_.active->info();
    out_.counted_from = 0;
    out_.active.reset();
    return {};
  }

  FileSystem& files_;
  const Clock& clock_;
  const std::string& directory_;
  Coordination& coordination_;
  DurablePoint checkpoint_;
  ScanPoint next_;  // what the segment behind the last one examined starts with
  Recovered out_;
};

}  // namespace

Result<void> remove_temporaries(FileSystem& files, const SegmentListing& listing, RecoveryReport& report) {
  for (const std::string& path : listing.temporaries) {
    if (auto removed = files.remove(path); !removed) return removed;
    ++report.temporaries_removed;
  }
  return {};
}

Result<std::optional<SegmentInfo>> set_aside(FileSystem& files, const Clock& clock, const SegmentListing::Damaged& damaged, RecoveryReport& report) {
  const std::string aside = damaged.path + ".corrupt." + std::to_string(clock.epoch_ns());
  if (auto renamed = files.rename(damaged.path, aside); !renamed) return tl::unexpected{std::move(renamed.error())};
  report.set_aside.push_back(aside);
  report.findings.push_back(damaged.error.message + ": set aside as " + aside);
  return std::nullopt;
}

Result<Recovered> recover_shard(FileSystem& files, const Clock& clock, const std::string& directory, Coordination& coordination) {
  return Recovery{files, clock, directory, coordination}.run();
}

}  // namespace thalweg::log
