#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <vector>

#include "dataplane/base/planted.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/shm/registry.hpp"
#include "dataplane/wire/ip.hpp"

// Who the destinations of a publication are (wire-protocol 5.5). Dynamic ones are learned from status messages and forgotten when a receiver is
// silent; manual ones come and go by command and stand in the registry. Pure: times are monotonic ns. Thread: the endpoint's lane; no
// allocation after construction.
//
// Anybody may send a status message, from any address, so that dynamic ones are of two kinds. *Members* told how far they are in a stream of
// ours, which takes knowing it; nobody takes their places. *Strangers* only asked for a SETUP. When all places are taken a stranger makes room for
// whoever is a member, and for another stranger if it is silent, or if its host has more of the places than the other's. Whom there is no room
// for is refused at the cost of two look-ups, however many come.
namespace thalweg::proto {

// `Target` is how one is reached; its member `remote` is the address. A default one reaches nobody.
template <typename Target>
class DestinationList {
 public:
  static constexpr std::int64_t kTimeout_ns = 5 * kSecond_ns;         // wire-protocol 5.5, a constant of the protocol
  static constexpr std::int64_t kStrangerSilent_ns = 2 * kSecond_ns;  // ours: receivers that wait for a stream ask each second (wire-protocol 3.3)

  struct Entry {
    Target target;
    std::int64_t receiver_id{};
    std::int64_t last_heard_ns{};
    shm::DestinationSlot* slot{};      // manual
    std::uint32_t generation{};        // of the slot
    bool is_receiver_known{};
    bool is_member{};                  // dynamic
    bool is_repeated{};                // one before it has its address
    bool is_sent{};                    // the owner's: this entry gets a copy of each datagram
  };
  enum class Put : std::uint8_t { kUnchanged, kChanged, kFull };

  explicit DestinationList(std::size_t capacity)
      : capacity_{capacity}, by_receiver_(std::bit_ceil(2 * capacity)), by_address_(std::bit_ceil(2 * capacity)), unheard_(std::bit_ceil(2 * capacity)) {
    entries_.reserve(capacity);
  }

  // A status message of `receiver_id` came from `source` and was not rejected. Matched are receiver id and port, and before anything is known
  // of a manual destination its address and port. `tells_position`: of a stream of ours. False: of nobody known.
  bool hear(std::int64_t receiver_id, const wire::UdpEndpoint& source, bool tells_position, std::int64_t now_ns) noexcept {
    Entry* const entry = find(receiver_id, source);
    if (entry == nullptr) return false;
    const bool is_news = !entry->is_receiver_known || (tells_position && !entry->is_member);
    refresh(*entry, receiver_id, tells_position, now_ns);
    if (is_news) reindex();
    return true;
  }
  // Dynamic: whether a receiver that nobody knows yet, and that speaks from `address`, would find a place.
  [[nodiscard]] bool has_room_for(std::uint32_t address, bool tells_position, std::int64_t now_ns) noexcept {
    return entries_.size() < capacity_ || find_dispensable(address, tells_position, now_ns) != nullptr;
  }
  // Takes it in, in the place of another one if need be. False: there is no room.
  [[nodiscard]] bool learn(const Target& target, std::int64_t receiver_id, bool tells_position, std::int64_t now_ns) noexcept {
    Entry* place = nullptr;
    if (entries_.size() < capacity_) {
      place = &entries_.emplace_back();
    } else {
      place = find_dispensable(target.remote.address, tells_position, now_ns);
      if (place == nullptr) return false;
      *place = Entry{};
    }
    place->target = target;
    refresh(*place, receiver_id, tells_position, now_ns);
    reindex();
    return true;
  }
  // Manual: a new one, or one with another address (5.12).
  [[nodiscard]] Put put(shm::DestinationSlot& slot, const Target& target) noexcept {
    Entry* entry = find(slot);
    if (entry != nullptr && entry->generation == slot.desired.generation && entry->target.is_same(target)) return Put::kUnchanged;
    if (entry == nullptr) {
      if (entries_.size() == capacity_) return Put::kFull;
      entry = &entries_.emplace_back();
    }
    *entry = Entry{};  // who moved is somebody we have not heard yet
    entry->target = target;
    entry->slot = &slot;
    entry->generation = slot.desired.generation;
    reindex();
    return Put::kChanged;
  }
  // False: it was not there.
  bool remove(const shm::DestinationSlot& slot) noexcept {
    Entry* const entry = find(slot);
    if (entry == nullptr || entry->generation != slot.desired.generation) return false;
    entries_.erase(entries_.begin() + (entry - entries_.data()));
    reindex();
    return true;
  }
  // Dynamic ones whose receiver is silent. True: some went.
  bool expire(std::int64_t now_ns) noexcept {
    if (planted(Bug::kSilentDestinationKept)) return false;
    const bool has_changed = std::erase_if(entries_, [now_ns](const Entry& entry) { return now_ns - entry.last_heard_ns > kTimeout_ns; }) != 0;
    if (has_changed) reindex();
    return has_changed;
  }

  // Who speaks from `source`, or as `receiver_id` from its port. nullptr: nobody known.
  [[nodiscard]] Entry* find_speaker(std::int64_t receiver_id, const wire::UdpEndpoint& source) noexcept {
    const auto is_there = [&](const Entry& entry) { return entry.target.remote == source; };
    if (Entry* const entry = by_address_.find(hash_of(source), entries_, is_there)) return entry;
    return find(receiver_id, source);
  }

  [[nodiscard]] std::vector<Entry>& entries() noexcept { return entries_; }
  [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }

 private:
  // Places of entries by a hash, made anew with each change, of which there are few: open addressing at half load at the most.
  class Index {
   public:
    explicit Index(std::size_t size) : cells_(size) {}
    void clear() noexcept { std::fill(cells_.begin(), cells_.end(), std::uint16_t{0}); }
    void add(std::uint64_t hash, std::size_t at) noexcept {
      std::size_t cell = hash & (cells_.size() - 1);
      while (cells_[cell] != 0) cell = (cell + 1) & (cells_.size() - 1);
      cells_[cell] = static_cast<std::uint16_t>(at + 1);
    }
    // The first one added that is it; nullptr: none is.
    template <typename IsIt>
    [[nodiscard]] Entry* find(std::uint64_t hash, std::vector<Entry>& entries, IsIt&& is_it) const noexcept {
      for (std::size_t cell = hash & (cells_.size() - 1); cells_[cell] != 0; cell = (cell + 1) & (cells_.size() - 1)) {
        Entry& entry = entries[cells_[cell] - 1U];
        if (is_it(entry)) return &entry;
      }
      return nullptr;
    }

   private:
    std::vector<std::uint16_t> cells_;
  };

  static std::uint64_t hash_of(std::uint64_t a, std::uint64_t b) noexcept {
    std::uint64_t x = (a ^ (b << 32 | b >> 32)) * 0x9E3779B97F4A7C15U;
    x = (x ^ x >> 32) * 0xD6E8FEB86659FD93U;
    return x ^ x >> 32;
  }
  static std::uint64_t hash_of(const wire::UdpEndpoint& address) noexcept { return hash_of(address.address, address.port); }
  static std::uint64_t receiver_hash(std::int64_t receiver_id, std::uint16_t port) noexcept { return hash_of(static_cast<std::uint64_t>(receiver_id), port); }
  static std::size_t host_of(std::uint32_t address) noexcept { return hash_of(address, 0) % kHosts; }

  [[nodiscard]] Entry* find(const shm::DestinationSlot& slot) noexcept {
    const auto found = std::find_if(entries_.begin(), entries_.end(), [&slot](const Entry& entry) { return entry.slot == &slot; });
    return found == entries_.end() ? nullptr : &*found;
  }
  [[nodiscard]] Entry* find(std::int64_t receiver_id, const wire::UdpEndpoint& source) noexcept {
    if (planted(Bug::kDestinationsByPortAlone)) {
      const auto found = std::find_if(entries_.begin(), entries_.end(), [&source](const Entry& entry) { return entry.target.remote.port == source.port; });
      return found == entries_.end() ? nullptr : &*found;
    }
    if (Entry* const unheard = unheard_.find(hash_of(source), entries_, [&](const Entry& entry) { return entry.target.remote == source; })) return unheard;
    const auto is_its = [&](const Entry& entry) { return entry.receiver_id == receiver_id && entry.target.remote.port == source.port; };
    return by_receiver_.find(receiver_hash(receiver_id, source.port), entries_, is_its);
  }
  static void refresh(Entry& entry, std::int64_t receiver_id, bool tells_position, std::int64_t now_ns) noexcept {
    entry.receiver_id = receiver_id;
    entry.is_receiver_known = true;
    entry.is_member |= tells_position;
    entry.last_heard_ns = now_ns;
    if (entry.slot == nullptr) return;
    entry.slot->observed.receiver_id = receiver_id;
    std::atomic_ref{entry.slot->observed.last_heard_ns}.store(now_ns, std::memory_order_relaxed);  // for whoever resolves its name again
  }
  void reindex() noexcept {
    by_receiver_.clear();
    by_address_.clear();
    unheard_.clear();
    strangers_.fill(0);
    for (std::size_t at = 0; at < entries_.size(); ++at) {
      Entry& entry = entries_[at];
      const wire::UdpEndpoint& remote = entry.target.remote;
      const std::uint64_t hash = hash_of(remote);
      entry.is_repeated = by_address_.find(hash, entries_, [&](const Entry& other) { return other.target.remote == remote; }) != nullptr;
      if (!entry.is_repeated) by_address_.add(hash, at);
      entry.is_receiver_known ? by_receiver_.add(receiver_hash(entry.receiver_id, remote.port), at) : unheard_.add(hash, at);
      if (is_stranger(entry)) ++strangers_[host_of(remote.address)];
    }
    most_strangers_ = *std::max_element(strangers_.begin(), strangers_.end());
    silent_since_ns_ = least_recently_heard();
  }

  // ---- whose place may be taken ----

  [[nodiscard]] static bool is_stranger(const Entry& entry) noexcept { return entry.slot == nullptr && (!entry.is_member || planted(Bug::kMembersMakeRoom)); }
  [[nodiscard]] std::int64_t least_recently_heard() const noexcept {
    std::int64_t least_ns = INT64_MAX;
    for (const Entry& entry : entries_) least_ns = is_stranger(entry) ? std::min(least_ns, entry.last_heard_ns) : least_ns;
    return least_ns;
  }
  // Of a flood of strangers each gets here: most find neither somebody silent nor a host that has more of the places than theirs. (Places that
  // go from a host to one with fewer make it harder to find a third, so that this does not go on for ever.)
  [[nodiscard]] Entry* find_dispensable(std::uint32_t address, bool tells_position, std::int64_t now_ns) noexcept {
    if (most_strangers_ == 0) return nullptr;
    bool takes_silent = false;
    if (now_ns - kStrangerSilent_ns >= silent_since_ns_ && !planted(Bug::kSilentStrangersStay)) {
      silent_since_ns_ = least_recently_heard();   // perhaps it was heard meanwhile
      takes_silent = now_ns - kStrangerSilent_ns >= silent_since_ns_;
    }
    if (!takes_silent && !tells_position && strangers_[host_of(address)] + 1 >= most_strangers_) return nullptr;
    Entry* found = nullptr;
    for (Entry& entry : entries_) {
      const bool may_go = is_stranger(entry) && (takes_silent || strangers_[host_of(entry.target.remote.address)] == most_strangers_);
      if (may_go && (found == nullptr || entry.last_heard_ns < found->last_heard_ns)) found = &entry;
    }
    return found;
  }

  static constexpr std::size_t kHosts = 64;   // told apart by a hash of their address

  std::vector<Entry> entries_;
  std::size_t capacity_;
  Index by_receiver_;                      // those whose receiver is known
  Index by_address_;                       // the first of each address
  Index unheard_;                          // manual ones whose receiver is not known yet, by address
  std::array<std::uint16_t, kHosts> strangers_{};
  std::uint16_t most_strangers_{};         // of one host
  std::int64_t silent_since_ns_{INT64_MAX};   // no stranger was heard less recently
};

}  // namespace thalweg::proto
