#include "controlplane/log/scan.hpp"

#include <algorithm>
#include <cstring>

namespace thalweg::log {
namespace {

void count(SegmentSummary& summary, const RecordHeader& header, const ScanPoint& behind) noexcept {
  summary.end_entry = behind.entry;
  if (is_pad(header)) return;
  count_record(summary, header);
  summary.end_offset = behind.offset;
}

// Whether the writer died between writing a batch and showing it: the word of the first record is stored last, so it alone is missing, and all
// that follows belongs to the same batch. Damage of another kind has strangers behind it.
bool is_batch_not_shown(std::span<const std::byte> data, const ScanPoint& broken, ScanPoint next, std::uint64_t last) noexcept {
  if (load_le<RecordWord>(data.data() + broken.offset) != 0) return false;
  while (next.offset < last) {
    const ParsedRecord parsed = next_record(data, next);
    if (!parsed.is_valid()) return true;  // nor did it come to the end of the batch
    if ((parsed.header.flags & record_flag::kBeginBatch) != 0) return false;
  }
  return true;
}

}  // namespace

ParsedRecord next_record(std::span<const std::byte> data, ScanPoint& point) noexcept {
  ParsedRecord parsed = parse_record(data, point.offset);
  if (!parsed.is_valid()) return parsed;
  if (parsed.header.entry != point.entry) parsed.fault = RecordFault::kSequence;
  else if (parsed.header.timestamp_ns < point.timestamp_ns) parsed.fault = RecordFault::kTime;
  if (!parsed.is_valid()) {
    parsed.bytes = 0;
    return parsed;
  }
  point.offset += parsed.bytes;
  point.entry += is_pad(parsed.header) ? parsed.header.original_length : 1;
  point.timestamp_ns = parsed.header.timestamp_ns;
  return parsed;
}

Resync find_next_record(std::span<const std::byte> data, const ScanPoint& point, std::uint64_t& budget) noexcept {
  for (std::uint64_t at = point.offset; at + kRecordHeaderBytes <= data.size(); at += kRecordAlignment) {
    if (load_le<RecordWord>(data.data() + at) == 0) continue;
    const auto entry = load_le<std::uint64_t>(data.data() + at + offsetof(RecordHeader, entry));
    if (entry < point.entry || entry - point.entry > (at - point.offset) / kRecordHeaderBytes) continue;
    if (load_le<std::int64_t>(data.data() + at + offsetof(RecordHeader, timestamp_ns)) < point.timestamp_ns) continue;
    const auto length = load_le<std::int32_t>(data.data() + at);
    const std::uint64_t covered = length > 0 ? static_cast<std::uint32_t>(length) : 0;
    if (covered > data.size() - at - kRecordHeaderBytes) continue;
    if (covered > budget) return {std::nullopt, true};
    if (const ParsedRecord parsed = parse_record(data, at); parsed.is_valid())
      return {ScanPoint{at, entry, parsed.header.timestamp_ns}, false};
    budget -= covered;
  }
  return {std::nullopt, false};
}

Scan scan_segment(std::span<const std::byte> data, const ScanPoint& from, std::uint64_t content_end, std::uint64_t durable_entry) noexcept {
  Scan scan;
  scan.end = from;
  scan.summary.end_entry = from.entry;
  scan.summary.end_offset = from.offset;
  content_end = std::min<std::uint64_t>(align_up(content_end, std::uint64_t{kRecordAlignment}), data.size());
  const std::uint64_t last = end_of_content(data, from.offset, content_end);
  std::uint64_t budget = resync_budget(data.size());
  for (;;) {
    const ParsedRecord parsed = next_record(data, scan.end);
    if (parsed.is_valid()) {
      count(scan.summary, parsed.header, scan.end);
      continue;
    }
    if (last <= scan.end.offset) return scan;
    if (scan.fault == RecordFault::kNone) scan.fault = parsed.fault;
    const Resync resync = find_next_record(data.first(content_end), scan.end, budget);
    const bool is_hidden = resync.found && scan.end.entry >= durable_entry && is_batch_not_shown(data, scan.end, *resync.found, last);
    if (!resync.found || is_hidden) {
      if (resync.is_exhausted) {  // cannot be told apart in bounded time: kept, and nothing is appended behind it
        scan.tail = TailKind::kCorrupt;
        ++scan.corrupt_ranges;
        const std::uint64_t numbers = (data.size() - scan.end.offset) / kRecordHeaderBytes;  // no more can be in there; none is given twice
        scan.lost_entries += numbers;
        scan.end = {data.size(), scan.end.entry + numbers, scan.end.timestamp_ns};
        scan.summary.end_entry = scan.end.entry;
        return scan;
      }
      if (scan.tail == TailKind::kClean) scan.tail = TailKind::kTorn;
      scan.torn_bytes = last - scan.end.offset;
      return scan;
    }
    scan.tail = TailKind::kCorrupt;
    ++scan.corrupt_ranges;
    scan.lost_entries += resync.found->entry - scan.end.entry;
    scan.end = *resync.found;
  }
}

std::uint64_t end_of_content(std::span<const std::byte> data, std::uint64_t from, std::uint64_t end) noexcept {
  end = std::min<std::uint64_t>(end, data.size());
  while (end > from && end - from >= 64) {
    std::uint64_t words[8];
    std::memcpy(words, data.data() + end - 64, 64);
    if ((words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7]) != 0) break;
    end -= 64;
  }
  while (end > from && data[end - 1] == std::byte{0}) --end;
  return std::max(end, from);
}

}  // namespace thalweg::log
