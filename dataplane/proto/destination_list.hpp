#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "dataplane/base/planted.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/shm/registry.hpp"
#include "dataplane/wire/ip.hpp"

// Who the destinations of a publication are (wire-protocol 5.5). Dynamic ones are learned from status messages and forgotten when a receiver is
// silent; manual ones come and go by command and stand in the registry. Pure: times are monotonic ns. Thread: the endpoint's lane; no
// allocation after construction.
namespace thalweg::proto {

// `Target` is how one is reached; its member `remote` is the address. A default one reaches nobody.
template <typename Target>
class DestinationList {
 public:
  static constexpr std::int64_t kTimeout_ns = 5 * kSecond_ns;  // wire-protocol 5.5, a constant of the protocol

  struct Entry {
    Target target;
    std::int64_t receiver_id{};
    std::int64_t last_heard_ns{};
    shm::DestinationSlot* slot{};      // manual
    std::uint32_t generation{};        // of the slot
    bool is_receiver_known{};
    bool is_sent{};                    // the owner's: this entry gets a copy of each datagram
  };
  enum class Put : std::uint8_t { kUnchanged, kChanged, kFull };

  explicit DestinationList(std::size_t capacity) : capacity_{capacity} { entries_.reserve(capacity); }

  // A status message of `receiver_id` came from `source` and was not rejected. Matched are receiver id and port, and before anything is known
  // of a manual destination its address and port. False: of nobody known.
  bool hear(std::int64_t receiver_id, const wire::UdpEndpoint& source, std::int64_t now_ns) noexcept {
    for (Entry& entry : entries_) {
      if (!is_heard(entry, receiver_id, source)) continue;
      refresh(entry, receiver_id, now_ns);
      return true;
    }
    return false;
  }
  // Dynamic: a receiver not known yet. False: full.
  [[nodiscard]] bool learn(const Target& target, std::int64_t receiver_id, std::int64_t now_ns) noexcept {
    if (entries_.size() == capacity_) return false;
    entries_.emplace_back().target = target;
    refresh(entries_.back(), receiver_id, now_ns);
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
    return Put::kChanged;
  }
  // False: it was not there.
  bool remove(const shm::DestinationSlot& slot) noexcept {
    Entry* const entry = find(slot);
    if (entry == nullptr || entry->generation != slot.desired.generation) return false;
    entries_.erase(entries_.begin() + (entry - entries_.data()));
    return true;
  }
  // Dynamic ones whose receiver is silent. True: some went.
  bool expire(std::int64_t now_ns) noexcept {
    if (planted(Bug::kSilentDestinationKept)) return false;
    return std::erase_if(entries_, [now_ns](const Entry& entry) { return now_ns - entry.last_heard_ns > kTimeout_ns; }) != 0;
  }

  [[nodiscard]] std::vector<Entry>& entries() noexcept { return entries_; }
  [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }

 private:
  [[nodiscard]] Entry* find(const shm::DestinationSlot& slot) noexcept {
    const auto found = std::find_if(entries_.begin(), entries_.end(), [&slot](const Entry& entry) { return entry.slot == &slot; });
    return found == entries_.end() ? nullptr : &*found;
  }
  [[nodiscard]] static bool is_heard(const Entry& entry, std::int64_t receiver_id, const wire::UdpEndpoint& source) noexcept {
    if (planted(Bug::kDestinationsByPortAlone)) return entry.target.remote.port == source.port;
    if (entry.is_receiver_known) return entry.receiver_id == receiver_id && entry.target.remote.port == source.port;
    return entry.target.remote == source;
  }
  static void refresh(Entry& entry, std::int64_t receiver_id, std::int64_t now_ns) noexcept {
    entry.receiver_id = receiver_id;
    entry.is_receiver_known = true;
    entry.last_heard_ns = now_ns;
    if (entry.slot == nullptr) return;
    entry.slot->observed.receiver_id = receiver_id;
    std::atomic_ref{entry.slot->observed.last_heard_ns}.store(now_ns, std::memory_order_relaxed);  // for whoever resolves its name again
  }

  std::vector<Entry> entries_;
  std::size_t capacity_;
};

}  // namespace thalweg::proto
