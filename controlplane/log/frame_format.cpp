#include "controlplane/log/frame_format.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

#include "controlplane/log/crc32c.hpp"

namespace thalweg::log {
namespace {

// Layout of a frame in a term (client-protocol 7.4).
constexpr std::size_t kTypeOffset = 6;
constexpr std::size_t kTermOffsetOffset = 8;
constexpr std::size_t kSessionIdOffset = 12;
constexpr std::size_t kStreamIdOffset = 16;
constexpr std::size_t kTermIdOffset = 20;
constexpr std::uint16_t kTypePadding = 0;
constexpr std::uint16_t kTypeData = 1;

std::uint32_t checksum_of(const SyncPoint& point) noexcept { return crc32c(std::as_bytes(std::span{&point, 1}).first(offsetof(SyncPoint, crc))); }

}  // namespace

std::uint64_t load_mark(const FrameMark& mark) noexcept {
  return std::atomic_ref{const_cast<std::uint64_t&>(mark.word)}.load(std::memory_order_acquire);  // NOLINT: atomic_ref of const needs C++26
}

void store_mark(FrameMark& mark, std::uint64_t word) noexcept { std::atomic_ref{mark.word}.store(word, std::memory_order_release); }

const char* to_string(FrameFault fault) noexcept {
  switch (fault) {
    case FrameFault::kNone: return "wrong checksum";
    case FrameFault::kUnwritten: return "no frame";
    case FrameFault::kLength: return "impossible frame length";
    case FrameFault::kType: return "unknown frame type";
    case FrameFault::kStream: return "frame of another session or stream";
    case FrameFault::kPlace: return "frame of another position";
  }
  return "?";
}

ParsedFrame parse_frame(std::span<const std::byte> bytes, std::uint64_t position, const FrameStream& stream) noexcept {
  const std::byte* const at = bytes.data();
  const auto length = load_le<std::int32_t>(at);
  const auto bad = [](FrameFault fault) { return ParsedFrame{.fault = fault}; };
  if (length == 0) return bad(FrameFault::kUnwritten);
  const auto offset = static_cast<std::uint32_t>(position & (stream.term_bytes - 1));
  if (length < static_cast<std::int32_t>(kFrameHeaderBytes) || static_cast<std::uint32_t>(length) > stream.term_bytes - offset) return bad(FrameFault::kLength);
  const auto type = load_le<std::uint16_t>(at + kTypeOffset);
  if (type != kTypeData && type != kTypePadding) return bad(FrameFault::kType);
  if (type == kTypeData && static_cast<std::uint32_t>(length) > stream.mtu_bytes) return bad(FrameFault::kLength);
  if (load_le<std::int32_t>(at + kSessionIdOffset) != stream.session_id || load_le<std::int32_t>(at + kStreamIdOffset) != stream.stream_id) return bad(FrameFault::kStream);
  const auto term_count = static_cast<std::uint32_t>(position >> std::countr_zero(stream.term_bytes));
  const bool is_in_place = load_le<std::uint32_t>(at + kTermOffsetOffset) == offset &&
                           load_le<std::uint32_t>(at + kTermIdOffset) == static_cast<std::uint32_t>(stream.initial_term_id) + term_count;
  if (!is_in_place) return bad(FrameFault::kPlace);
  return {FrameFault::kNone, static_cast<std::uint32_t>(length), align_up(static_cast<std::uint32_t>(length), kFrameAlignment), type == kTypePadding};
}

bool FrameData::is_intact(std::uint64_t index) const noexcept {
  const std::uint64_t word = load_mark(marks[index]);
  const std::uint32_t end = mark_end(word);
  if (end == 0) return word == 0;
  const std::uint32_t begin = page_begin(index, first);
  if (end > kMarkedBytes || end <= begin) return false;
  return page_crc(index, end) == mark_crc(word);
}

bool FrameData::is_intact_up_to(std::uint64_t index, std::uint32_t end) const noexcept {
  if (end <= page_begin(index, first)) return true;
  if (mark_end(load_mark(marks[index])) >= end && is_intact(index)) return true;
  const auto points = sync_point_pair();
  return std::any_of(points.begin(), points.end(), [&](const SyncPoint& point) {
    if (point.sequence == 0 || (point.end - 1) / kMarkedBytes != index || point.end < index * kMarkedBytes + end) return false;
    return page_crc(index, static_cast<std::uint32_t>(point.end - index * kMarkedBytes)) == point.page_crc;
  });
}

std::uint32_t FrameData::page_crc(std::uint64_t index, std::uint32_t end) const noexcept {
  const std::uint32_t begin = page_begin(index, first);
  return crc32c(page(index).subspan(begin, end - begin));
}

std::array<SyncPoint, 2> FrameData::sync_point_pair() const noexcept {
  std::array<SyncPoint, 2> points;
  for (std::size_t i = 0; i < points.size(); ++i) {
    SyncPoint point;
    std::memcpy(&point, sync_points.data() + i * kSyncPointStride, sizeof point);
    const bool is_possible = point.end > first && point.end <= data.size() && point.end % kFrameAlignment == 0;
    if (is_possible && point.crc == checksum_of(point)) points[i] = point;
  }
  return points;
}

std::uint64_t FrameData::surely_synced() const noexcept {
  const auto points = sync_point_pair();
  if (points[0].sequence == 0 || points[1].sequence == 0) return first;
  return std::min(points[0].end, points[1].end);
}

void FrameData::put_sync_point(std::uint64_t end) const noexcept {
  const auto points = sync_point_pair();
  const std::size_t older = points[1].sequence < points[0].sequence ? 1 : 0;
  const std::uint64_t index = (end - 1) / kMarkedBytes;
  SyncPoint point{.sequence = std::max(points[0].sequence, points[1].sequence) + 1, .end = end};
  point.page_crc = page_crc(index, static_cast<std::uint32_t>(end - index * kMarkedBytes));
  point.crc = checksum_of(point);
  std::memcpy(sync_points.data() + older * kSyncPointStride, &point, sizeof point);
}

void FrameData::drop_sync_points_behind(std::uint64_t end) const noexcept {
  const auto points = sync_point_pair();
  for (std::size_t i = 0; i < points.size(); ++i)
    if (points[i].sequence == 0 || points[i].end > end) std::memset(sync_points.data() + i * kSyncPointStride, 0, sizeof(SyncPoint));
}

std::optional<std::uint64_t> FrameData::frame_near(std::uint64_t offset) const noexcept {
  if (offset < first) return std::nullopt;
  for (std::uint64_t index = std::min<std::uint64_t>(offset / kMarkedBytes, marks.size() - 1);; --index) {
    const std::uint32_t end = mark_end(load_mark(marks[index]));
    const std::uint32_t begin = load_field(marks[index].first_frame);
    const std::uint64_t at = index * kMarkedBytes + begin;
    if (begin < end && at <= offset && begin % kFrameAlignment == 0) return at;
    if (index * kMarkedBytes <= first) return std::nullopt;
  }
}

FrameWalk walk_frames(const FrameData& frames, std::uint64_t from, std::uint64_t end, const FrameStream& stream) noexcept {
  FrameWalk walk{.end = from};
  std::uint64_t checked_to = from / kMarkedBytes;  // pages below it are intact
  const auto check_pages = [&](std::uint64_t to) {
    for (; checked_to * kMarkedBytes < to; ++checked_to)
      if (!frames.is_intact(checked_to)) return false;
    return true;
  };
  while (walk.end < end) {
    if (!check_pages(walk.end + 1)) {
      walk.damage = FrameDamage{checked_to * kMarkedBytes, kMarkedBytes, FrameFault::kNone};
      return walk;
    }
    const ParsedFrame frame = parse_frame(frames.data.subspan(walk.end), frames.base_position + walk.end, stream);
    if (!frame.is_valid() || frame.span > end - walk.end) {
      walk.damage = FrameDamage{walk.end, end - walk.end, frame.is_valid() ? FrameFault::kLength : frame.fault};
      return walk;
    }
    if (!check_pages(walk.end + frame.span)) {
      walk.damage = FrameDamage{checked_to * kMarkedBytes, kMarkedBytes, FrameFault::kNone};
      return walk;
    }
    if (frame.is_padding) {
      ++walk.padding_frames;
    } else {
      ++walk.data_frames;
      walk.payload_bytes += frame.length - kFrameHeaderBytes;
    }
    walk.end += frame.span;
  }
  return walk;
}

SegmentSummary summarize_frames(const FrameData& frames, std::uint64_t end, const FrameStream& stream) noexcept {
  SegmentSummary summary;
  std::uint64_t at = frames.first;
  while (at < end) {
    const ParsedFrame frame = parse_frame(frames.data.subspan(at), frames.base_position + at, stream);
    if (!frame.is_valid()) {  // damage: on from the next frame that the marks know
      std::uint64_t page = at / kMarkedBytes + 1;
      while (page < frames.marks.size() && load_field(frames.marks[page].first_frame) >= mark_end(load_mark(frames.marks[page]))) ++page;
      if (page >= frames.marks.size()) break;
      at = page * kMarkedBytes + align_up(load_field(frames.marks[page].first_frame), kFrameAlignment);
      continue;
    }
    if (!frame.is_padding) {
      ++summary.record_count;
      summary.payload_bytes += frame.length - kFrameHeaderBytes;
    }
    at += frame.span;
  }
  summary.original_bytes = summary.payload_bytes;
  summary.end_offset = end;
  summary.end_entry = frames.base_position + end;
  if (end > frames.first) {
    summary.first_timestamp_ns = load_field(frames.marks[frames.first / kMarkedBytes].first_ns);
    summary.last_timestamp_ns = load_field(frames.marks[(end - 1) / kMarkedBytes].last_ns);
  }
  add_stream(summary.streams, static_cast<std::uint32_t>(stream.stream_id));
  return summary;
}

}  // namespace thalweg::log
