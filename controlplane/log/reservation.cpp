#include "controlplane/log/reservation.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/log/record.hpp"
#include "controlplane/log/segment.hpp"

namespace thalweg::log {
namespace {

constexpr unsigned kOffsetBits = 28;   // of offset / 8: a segment of 1 GiB, its end included
constexpr unsigned kEntriesBits = 25;  // more records than fit into 1 GiB
constexpr unsigned kOrdinalShift = kOffsetBits + kEntriesBits;

template <typename T>
std::atomic_ref<T> ref(T& value) noexcept {
  return std::atomic_ref{value};
}

WidePair& tail_words(CoordinationPage& page) noexcept { return *reinterpret_cast<WidePair*>(&page.tail); }

bool is_unfinished(RecordWord word) noexcept { return word == 0 || (word >> 32U == 0 && static_cast<std::int32_t>(static_cast<std::uint32_t>(word)) < 0); }

// Whether something that follows directly begins at `offset` with number `entry`, finished or not.
bool begins_at(std::span<const std::byte> data, std::uint64_t offset, std::uint64_t entry) noexcept {
  const ParsedRecord parsed = parse_record(data, offset);
  const bool is_reserved = parsed.fault == RecordFault::kUnwritten && parsed.bytes != 0;
  return (parsed.is_valid() || is_reserved) && parsed.header.entry == entry;
}

void fill(std::span<std::byte> data, std::uint64_t offset, const Reservation& hole) noexcept {
  std::byte* const at = data.data() + offset;
  std::memset(at + kRecordHeaderBytes, 0, hole.bytes - kRecordHeaderBytes);
  publish_record(at, put_pad(at, hole.bytes, hole.entry, hole.entries, hole.timestamp_ns));
}

}  // namespace

WidePair pack(const TailPlace& place) noexcept {
  return {place.ordinal << kOrdinalShift | place.entries << kOffsetBits | place.offset / kRecordAlignment, static_cast<std::uint64_t>(place.timestamp_ns)};
}

TailPlace unpack(const WidePair& words) noexcept {
  return {words.first >> kOrdinalShift, words.first >> kOffsetBits & ((1ULL << kEntriesBits) - 1), (words.first & ((1ULL << kOffsetBits) - 1)) * kRecordAlignment,
          static_cast<std::int64_t>(words.second)};
}

// The place is one word; a time that does not belong to it makes advance_tail() fail, no more.
TailPlace Reservations::tail() const noexcept {
  WidePair& words = tail_words(*page_);
  const std::uint64_t time = ref(words.second).load(std::memory_order_acquire);
  return unpack({ref(words.first).load(std::memory_order_seq_cst), time});
}

void Reservations::set_tail(const TailPlace& place) noexcept {
  for (TailPlace seen = tail(); !advance_tail(seen, place);) {}
}

bool Reservations::advance_tail(TailPlace& seen, const TailPlace& to) noexcept {
  const WidePair expected = pack(seen);
  const WidePair before = wide_compare_and_swap(&tail_words(*page_), expected, pack(to));
  if (before == expected) return true;
  seen = unpack(before);
  return false;
}

void Reservations::announce(std::uint32_t slot, const Reservation& reservation) noexcept {
  WriterSlot& mine = page_->writers[slot];
  ref(mine.in_flight).store(0, std::memory_order_relaxed);  // the fields never belong to another place than in_flight says
  std::atomic_thread_fence(std::memory_order_release);
  ref(mine.entry).store(reservation.entry, std::memory_order_relaxed);
  ref(mine.timestamp_ns).store(reservation.timestamp_ns, std::memory_order_relaxed);
  ref(mine.bytes).store(reservation.bytes, std::memory_order_relaxed);
  ref(mine.entries).store(reservation.entries, std::memory_order_relaxed);
  // Pairs with filled_to(); the compare and swap of advance_tail() orders it before the reservation for everybody.
  ref(mine.in_flight).store(reservation.position + 1, std::memory_order_release);
}

// Release: whoever sees it cleared sees the records.
void Reservations::clear(std::uint32_t slot) noexcept { ref(page_->writers[slot].in_flight).store(0, std::memory_order_release); }

std::optional<Reservation> Reservations::announced(std::uint32_t slot) const noexcept {
  WriterSlot& shared = page_->writers[slot];
  const std::uint64_t in_flight = ref(shared.in_flight).load(std::memory_order_acquire);
  if (in_flight == 0) return std::nullopt;
  return Reservation{in_flight - 1, ref(shared.entry).load(std::memory_order_relaxed), ref(shared.timestamp_ns).load(std::memory_order_relaxed),
                     ref(shared.bytes).load(std::memory_order_relaxed), ref(shared.entries).load(std::memory_order_relaxed)};
}

std::uint64_t Reservations::filled_to(std::uint64_t tail_position) const noexcept {
  std::uint64_t filled = tail_position;
  for (WriterSlot& slot : page_->writers) {
    const std::uint64_t in_flight = ref(slot.in_flight).load(std::memory_order_acquire);
    if (in_flight != 0) filled = std::min(filled, in_flight - 1);
  }
  return filled;
}

void mark_reserved(std::byte* at, const Reservation& reservation) noexcept {
  const RecordHeader header{.entry = reservation.entry, .timestamp_ns = reservation.timestamp_ns, .original_length = reservation.entries};
  std::memcpy(at + sizeof(RecordWord), reinterpret_cast<const std::byte*>(&header) + sizeof(RecordWord), sizeof header - sizeof(RecordWord));
  publish_record(at, static_cast<std::uint32_t>(-static_cast<std::int32_t>(reservation.bytes)));
}

Hole fill_hole(std::span<std::byte> data, std::uint64_t offset, std::span<const Reservation> candidates, std::uint64_t tail_offset, std::uint64_t tail_entry) noexcept {
  if (offset % kRecordAlignment != 0 || tail_offset <= offset || tail_offset > data.size() || data.size() - offset < kRecordHeaderBytes) return Hole::kNone;
  if (!is_unfinished(load_le<RecordWord>(data.data() + offset))) return Hole::kNone;
  const std::uint64_t reserved_bytes = parse_record(data, offset).bytes;  // 0: its owner died before it stored the reservation's word
  // Of several that announced the place one owned it: the one behind whose bytes the next number begins. What others announced may fit by chance
  // only if it is larger.
  const Reservation* found = nullptr;
  for (const Reservation& candidate : candidates) {
    if (candidate.bytes < kRecordHeaderBytes || candidate.bytes % kRecordAlignment != 0 || candidate.bytes > tail_offset - offset) continue;
    if (reserved_bytes != 0 && reserved_bytes != candidate.bytes) continue;
    const std::uint64_t end = offset + candidate.bytes;
    const std::uint64_t next = candidate.entry + candidate.entries;
    const bool fits = end == tail_offset ? next == tail_entry : begins_at(data, end, next);
    if (fits && (found == nullptr || candidate.bytes < found->bytes)) found = &candidate;
  }
  if (found == nullptr) return Hole::kUnknown;
  fill(data, offset, *found);
  return Hole::kFilled;
}

namespace {

// What dead owners had announced. Their slots say the same for ever.
Result<std::vector<std::pair<std::uint32_t, Reservation>>> announced_by_dead(const Reservations& reservations, const IsDead& is_dead) {
  std::vector<std::pair<std::uint32_t, Reservation>> found;
  for (std::uint32_t slot = 0; slot < kWriterSlots; ++slot) {
    if (!reservations.announced(slot)) continue;
    const auto dead = is_dead(slot);
    if (!dead) return tl::unexpected{dead.error()};
    if (!*dead) continue;
    if (const auto left = reservations.announced(slot)) found.emplace_back(slot, *left);  // again: it may have finished before it died
  }
  return found;
}

}  // namespace

Result<std::uint64_t> fill_dead_holes(FileSystem& files, const std::string& directory, Coordination& coordination, const IsDead& is_dead) {
  Reservations reservations{coordination.page()};
  const auto dead = announced_by_dead(reservations, is_dead);
  if (!dead || dead->empty()) return dead ? Result<std::uint64_t>{0} : tl::unexpected{dead.error()};
  const TailPlace tail = reservations.tail();  // behind all that the dead did
  const std::uint64_t active = coordination.active_ordinal();
  auto info = read_segment_info(files, directory, tail.is_of(active) ? active : active - 1);
  if (!info) return tl::unexpected{std::move(info.error())};
  auto segment = Segment::open(files, std::move(*info), OpenMode::kWrite);
  if (!segment) return tl::unexpected{std::move(segment.error())};
  const SegmentHeader& header = (*segment)->header();
  std::vector<std::uint64_t> places;
  for (const auto& [slot, left] : *dead) places.push_back(left.position);
  std::sort(places.begin(), places.end(), std::greater<>{});
  places.erase(std::unique(places.begin(), places.end()), places.end());
  std::uint64_t filled = 0;
  for (const std::uint64_t place : places) {  // from the last one on: behind each stands something whose number is known then
    std::vector<Reservation> candidates;
    std::vector<std::uint32_t> slots;
    for (const auto& [slot, left] : *dead) {
      if (left.position != place) continue;
      candidates.push_back(left);
      slots.push_back(slot);
    }
    // Who reserved before the tail was read had announced it before: one that is alive, or died meanwhile, may own the place.
    for (std::uint32_t slot = 0; slot < kWriterSlots; ++slot) {
      const auto announced = reservations.announced(slot);
      if (announced && announced->position == place && std::find(slots.begin(), slots.end(), slot) == slots.end()) return filled;
    }
    const bool is_in_active = place >= header.base_position;  // older segments were complete before they were closed
    const Hole hole = is_in_active ? fill_hole((*segment)->data(), place - header.base_position, candidates, tail.offset, header.base_entry + tail.entries) : Hole::kNone;
    if (hole == Hole::kUnknown) return filled;
    if (hole == Hole::kFilled) ++filled;
    for (const std::uint32_t slot : slots) reservations.clear(slot);
  }
  return filled;
}

Result<std::uint64_t> fill_all_holes(FileSystem& files, const std::string& directory, Coordination& coordination) {
  Result<std::uint64_t> filled{0};
  if (!coordination.is_new() && coordination.page().boot_id == files.boot_id()) filled = fill_dead_holes(files, directory, coordination, [](std::uint32_t) { return Result<bool>{true}; });
  if (!filled && filled.error().code != ErrorCode::kNotFound && filled.error().code != ErrorCode::kIo) return filled;  // no such segment: recovery says what is wrong with it
  Reservations reservations{coordination.page()};
  for (std::uint32_t slot = 0; slot < kWriterSlots; ++slot) reservations.clear(slot);
  coordination.page().boot_id = files.boot_id();
  return filled.value_or(0);
}

}  // namespace thalweg::log
