#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "controlplane/log/coordination.hpp"
#include "controlplane/log/wide_atomic.hpp"

// How writers in several processes share the active segment of a shard. All that they share is in the coordination page:
//
//   reserve   a writer notes in its slot where it is going to write and how much, then moves the tail past it in one 16-byte step
//   fill      it stores the header's fields, the reservation's word (negative length, no checksum), the records, and the first record's word last
//   done      it clears its slot
//
// Whoever died in between left a hole that its slot describes; any process that needs what lies behind turns it into a pad. Reservations are never
// taken back. Spec: archive-log 8.1, 8.2.
namespace thalweg::log {

inline constexpr std::uint64_t kTailOrdinalMask = 0x7FF;

// Where the next reservation of a segment begins.
struct TailPlace {
  std::uint64_t ordinal{};       // the lowest 11 bits of the segment's
  std::uint64_t entries{};       // numbers given in it so far
  std::uint64_t offset{};        // in its data
  std::int64_t timestamp_ns{};   // of the last entry
  [[nodiscard]] bool is_of(std::uint64_t full_ordinal) const noexcept { return ordinal == (full_ordinal & kTailOrdinalMask); }
};
[[nodiscard]] WidePair pack(const TailPlace& place) noexcept;
[[nodiscard]] TailPlace unpack(const WidePair& words) noexcept;

// What a writer has in its slot while it reserves and fills.
struct Reservation {
  std::uint64_t position{};      // in the shard's log
  std::uint64_t entry{};         // number of its first entry
  std::int64_t timestamp_ns{};   // of the last entry before it
  std::uint32_t bytes{};
  std::uint32_t entries{};
};

// The writers' part of a coordination page. Any thread of any process; each slot is written by its owner alone, or, when that is dead, under the
// rotation lock.
class Reservations {
 public:
  explicit Reservations(CoordinationPage& page) noexcept : page_{&page} {}

  [[nodiscard]] TailPlace tail() const noexcept;
  // For opening and rotation: whoever calls them sees to it that nobody reserves.
  void set_tail(const TailPlace& place) noexcept;
  // Moves the tail from `seen` on. false: it was moved by somebody else, and `seen` is what it is now.
  [[nodiscard]] bool advance_tail(TailPlace& seen, const TailPlace& to) noexcept;

  // Before advance_tail(): what the slot's owner is about to reserve.
  void announce(std::uint32_t slot, const Reservation& reservation) noexcept;
  // Its records are readable, or it gave up.
  void clear(std::uint32_t slot) noexcept;
  // nullopt: the slot has nothing at work.
  [[nodiscard]] std::optional<Reservation> announced(std::uint32_t slot) const noexcept;
  // Everything below is filled, if nobody reserves below: min of the tail's position and what is announced. `tail_position` was read before.
  [[nodiscard]] std::uint64_t filled_to(std::uint64_t tail_position) const noexcept;

 private:
  CoordinationPage* page_;
};

// Writes the header of a hole and its reservation's word, before anything else of it. Precondition: reserved by the caller.
void mark_reserved(std::byte* at, const Reservation& reservation) noexcept;

// What a dead writer left at `offset` in the data of the active segment.
enum class Hole : std::uint8_t {
  kNone,      // there is none: never reserved, or the records are there
  kFilled,    // it was one, and is a pad now
  kUnknown,   // it cannot be told how large it is: to be read by recovery
};
// `candidates`: what dead slots announced for this place; one of them owned it, others only tried. `tail_offset`, `tail_entry`: where the
// tail is. Preconditions: under the rotation lock, no live writer announces the place, and holes of dead writers behind it are filled.
[[nodiscard]] Hole fill_hole(std::span<std::byte> data, std::uint64_t offset, std::span<const Reservation> candidates, std::uint64_t tail_offset, std::uint64_t tail_entry) noexcept;

// The same for all that dead writers announced: `is_dead` says whether a slot's owner is. What may be a live writer's, or lies before something that is
// not known yet, stays for a later call. Returns how many holes were filled. Precondition: under the rotation lock. Errors: those of `is_dead`, kIo.
using IsDead = std::function<Result<bool>(std::uint32_t slot)>;
[[nodiscard]] Result<std::uint64_t> fill_dead_holes(FileSystem& files, const std::string& directory, Coordination& coordination, const IsDead& is_dead);
// For a process that is alone, before recovery: fills what all writers left when they were killed, and clears the slots. Nothing of the page says
// where a hole is when the machine was restarted since: then only the slots are cleared. Errors: kIo.
[[nodiscard]] Result<std::uint64_t> fill_all_holes(FileSystem& files, const std::string& directory, Coordination& coordination);

}  // namespace thalweg::log
