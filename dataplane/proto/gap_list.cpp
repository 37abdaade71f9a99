#include "dataplane/proto/gap_list.hpp"

#include <algorithm>

#include "dataplane/base/assert.hpp"
#include "dataplane/base/planted.hpp"
#include "dataplane/wire/frames.hpp"

namespace thalweg::proto {

using shm::GapState;

namespace {
constexpr std::int64_t kLearnBytesPerTurn = 64 << 10;  // of log read at once: 2048 slots at the worst, a few microseconds
}  // namespace

bool GapList::is_empty_at(std::int64_t position) const noexcept {
  if (position >= s_.high_water) return true;
  if (position >= s_.tracked_until) return shm::frame_length_acquire(log_.at(position)) == 0;
  for (std::size_t i = 0; i < s_.gap_count; ++i) {
    const GapState& gap = s_.gaps[i];
    if (position < gap.position) return false;
    if (position < gap.position + gap.length) return true;
  }
  return false;
}

void GapList::filled(std::int64_t begin, std::int64_t end) noexcept {
  extend(begin);
  if (end > s_.tracked_until && begin <= s_.tracked_until) s_.tracked_until = end;
  s_.high_water = std::max(s_.high_water, end);
  for (std::size_t i = 0; i < s_.gap_count;) {
    if (s_.gaps[i].position >= end) break;
    const std::size_t count = s_.gap_count;
    subtract(i, begin, end);
    if (s_.gap_count >= count) ++i;  // an entry that vanished leaves its successor at the same index
  }
  advance();
}

void GapList::extend(std::int64_t position) noexcept {
  if (position <= s_.high_water) return;
  const std::int64_t from = s_.high_water;
  s_.high_water = position;
  if (s_.tracked_until == from) append(from, position);
  advance();
}

void GapList::rebuild() noexcept {
  s_.gap_count = 0;
  s_.tracked_until = s_.rebuild_position;
  advance();
}

// Adds [begin, end) behind the last gap, one entry per term. Sets tracked_until to the end of what found room.
void GapList::append(std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t mask = log_.term_length() - 1;
  while (begin < end) {
    const std::int64_t piece_end = std::min(end, (begin | mask) + 1);
    GapState* last = s_.gap_count > 0 ? &s_.gaps[s_.gap_count - 1] : nullptr;
    const bool continues = last != nullptr && last->position + last->length == begin && (begin & mask) != 0;
    if (continues) {
      last->length += piece_end - begin;
      last->deadline_ns = 0;
      last->is_reported = 0;
    } else {
      if (is_full()) return;
      s_.gaps[s_.gap_count++] = GapState{.position = begin, .length = piece_end - begin};
    }
    begin = piece_end;
    s_.tracked_until = begin;
  }
}

void GapList::remove(std::size_t index) noexcept {
  std::copy(s_.gaps + index + 1, s_.gaps + s_.gap_count, s_.gaps + index);
  --s_.gap_count;
}

// Takes [begin, end) out of one gap: it vanishes, shrinks, or splits in two. A changed gap is a new one to the NAK timer (3.8).
void GapList::subtract(std::size_t index, std::int64_t begin, std::int64_t end) noexcept {
  GapState& gap = s_.gaps[index];
  const std::int64_t gap_end = gap.position + gap.length;
  if (begin >= gap_end || end <= gap.position) return;
  if (begin <= gap.position && end >= gap_end) return remove(index);
  gap.deadline_ns = 0;
  gap.naks = 0;
  if (begin <= gap.position) {
    gap.position = end;
    gap.length = gap_end - end;
    return;
  }
  gap.length = begin - gap.position;
  if (end >= gap_end) return;
  if (is_full()) {  // no room for the second half: everything from here on is learned again later
    s_.gap_count = static_cast<std::uint16_t>(index + 1);
    s_.tracked_until = end;
    return;
  }
  const GapState tail{.position = end, .length = gap_end - end, .is_reported = gap.is_reported};
  std::copy_backward(s_.gaps + index + 1, s_.gaps + s_.gap_count, s_.gaps + s_.gap_count + 1);
  s_.gaps[index + 1] = tail;
  ++s_.gap_count;
}

// Reads the log from tracked_until on, where a frame starts or a gap. Frame lengths are client memory: never beyond the term.
// Precondition: everything below tracked_until is accounted for.
void GapList::learn() noexcept {
  const std::int64_t mask = log_.term_length() - 1;
  const std::int64_t until = std::min(s_.high_water, s_.tracked_until + kLearnBytesPerTurn);
  while (s_.tracked_until < until) {
    const std::int64_t position = s_.tracked_until;
    const std::int64_t limit = std::min(s_.high_water, (position | mask) + 1);
    const std::int32_t length = shm::frame_length_acquire(log_.at(position));
    if (length > 0) {
      s_.tracked_until = std::min<std::int64_t>(limit, position + align_up<std::int64_t>(length, wire::kFrameAlignment));
      continue;
    }
    std::int64_t end = position + wire::kFrameAlignment;
    while (end < limit && end < until && shm::frame_length_acquire(log_.at(end)) == 0) end += wire::kFrameAlignment;
    append(position, end);
    if (s_.tracked_until != end) return;  // full
  }
}

void GapList::advance() noexcept {
  if (has_more_to_learn()) learn();
  const bool has_gap = s_.gap_count > 0 && !planted(Bug::kRebuildSkipsGap);
  s_.rebuild_position = has_gap ? s_.gaps[0].position : s_.tracked_until;
}

}  // namespace thalweg::proto
