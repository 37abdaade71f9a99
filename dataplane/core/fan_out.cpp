#include "dataplane/core/fan_out.hpp"

#include <algorithm>

namespace thalweg::core {

bool DestinationSink::send_to_all(std::span<const std::byte> bytes, const StreamIds* ids) noexcept {
  if (destination_->fan_out != nullptr && destination_->fan_out->send(bytes, ids, now_ns_)) return true;
  has_refused_ = true;
  return false;
}

FanOut::FanOut(bool is_dynamic) : is_dynamic_{is_dynamic} {
  entries_.reserve(kDestinationsMax);
  ports_.reserve(shm::kPortsMax);
}

// ---- who is there ----

bool FanOut::is_heard(const Entry& entry, std::int64_t receiver_id, const wire::UdpEndpoint& source) const noexcept {
  if (entry.is_receiver_known) return entry.receiver_id == receiver_id && entry.destination.remote.port == source.port;
  return entry.destination.remote == source;
}

void FanOut::refresh(Entry& entry, std::int64_t receiver_id, std::int64_t now_ns) noexcept {
  entry.receiver_id = receiver_id;
  entry.is_receiver_known = true;
  entry.last_heard_ns = now_ns;
  if (entry.slot == nullptr) return;
  entry.slot->observed.receiver_id = receiver_id;
  std::atomic_ref{entry.slot->observed.last_heard_ns}.store(now_ns, std::memory_order_relaxed);  // for whoever resolves its name again
}

void FanOut::learn(const Destination& destination, std::int64_t receiver_id, std::int64_t now_ns) noexcept {
  if (destination.port == nullptr) return counters_.add(shm::LaneCounter::kDropNoRoute);
  if (entries_.size() == kDestinationsMax) return counters_.add(shm::LaneCounter::kReceiversUntracked);
  Entry entry;
  entry.destination = destination;
  entries_.push_back(entry);
  refresh(entries_.back(), receiver_id, now_ns);
  settle();
}

FanOut::Entry* FanOut::find(const shm::DestinationSlot& slot) noexcept {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&slot](const Entry& entry) { return entry.slot == &slot; });
  return found == entries_.end() ? nullptr : &*found;
}

bool FanOut::put(shm::DestinationSlot& slot, const Destination& destination) noexcept {
  Entry* entry = find(slot);
  const bool is_same = entry != nullptr && entry->generation == slot.desired.generation;
  if (is_same && entry->destination.port == destination.port && entry->destination.remote == destination.remote) return true;
  if (entry == nullptr) {
    if (entries_.size() == kDestinationsMax) return false;
    entry = &entries_.emplace_back();
  }
  *entry = Entry{};   // who moved is somebody we have not heard yet
  entry->destination = destination;
  entry->slot = &slot;
  entry->generation = slot.desired.generation;
  settle();
  return true;
}

void FanOut::remove(const shm::DestinationSlot& slot) noexcept {
  Entry* const entry = find(slot);
  if (entry == nullptr || entry->generation != slot.desired.generation) return;
  entries_.erase(entries_.begin() + (entry - entries_.data()));
  settle();
}

void FanOut::expire(std::int64_t now_ns) noexcept {
  next_expiry_ns_ = now_ns + kTimeout_ns / 50;   // 100 ms late at most
  if (std::erase_if(entries_, [now_ns](const Entry& entry) { return now_ns - entry.last_heard_ns > kTimeout_ns; }) != 0) settle();
}

// Works out anew what each datagram needs, so that sending does not.
void FanOut::settle() noexcept {
  ports_.clear();
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    const auto has_its_address = [&entry](const Entry& other) { return other.is_sent && other.destination.remote == entry.destination.remote; };
    const auto here = entries_.begin() + static_cast<std::ptrdiff_t>(i);
    entry.is_sent = entry.destination.port != nullptr && std::none_of(entries_.begin(), here, has_its_address);
    if (!entry.is_sent) continue;
    const auto use = std::find_if(ports_.begin(), ports_.end(), [&entry](const PortUse& known) { return known.port == entry.destination.port; });
    if (use != ports_.end()) {
      ++use->copies;
    } else {
      ports_.push_back({entry.destination.port, 1});
    }
  }
  shares_payload_ = std::any_of(ports_.begin(), ports_.end(), [](const PortUse& use) { return use.copies > 1 && use.port->can_share_payload(); });
  publish_count();
}

void FanOut::publish_count() noexcept {
  if (count_) count_.set(static_cast<std::int64_t>(entries_.size()));
}

// ---- sending ----

bool FanOut::send(std::span<const std::byte> payload, const StreamIds* ids, std::int64_t now_ns) noexcept {
  if (is_dynamic_ && now_ns >= next_expiry_ns_) expire(now_ns);
  if (!has_room(now_ns)) return false;
  if (++first_ >= entries_.size()) first_ = 0;
  SharedPayload shared{payload, ids};
  SharedPayload* const share = shares_payload_ && payload.size() >= kShareBytes ? &shared : nullptr;
  for (std::size_t n = 0, at = first_; n < entries_.size(); ++n) {
    Entry& entry = entries_[at];
    if (++at == entries_.size()) at = 0;
    if (entry.is_sent) send_to(entry.destination, payload, ids, share, now_ns);
  }
  return true;
}

// What fails here is counted and does not stop the others: whoever missed it will ask for it.
inline void FanOut::send_to(Destination& destination, std::span<const std::byte> payload, const StreamIds* ids, SharedPayload* shared,
                            std::int64_t now_ns) noexcept {
  LanePort& port = *destination.port;
  if (!port.fits(payload.size())) [[unlikely]] return counters_.add(shm::LaneCounter::kDropNoRoute);
  if (!port.stage().has_room()) [[unlikely]] return counters_.add(shm::LaneCounter::kDropTxFull);
  if (shared != nullptr && port.can_share_payload()) {
    static_cast<void>(port.send_shared(destination, *shared, now_ns));
  } else if (ids == nullptr) {
    static_cast<void>(port.send(destination, payload, now_ns));
  } else {
    static_cast<void>(port.send_as(destination, payload, *ids, now_ns));
  }
}

// Half of the destinations served and the other half refused would mean sending twice to the first half.
bool FanOut::has_room(std::int64_t now_ns) noexcept {
  for (const PortUse& use : ports_) {
    if (use.port->stage().has_room_for(use.copies)) continue;
    if (blocked_since_ns_ == 0) blocked_since_ns_ = now_ns;
    return now_ns - blocked_since_ns_ > kPatience_ns;
  }
  blocked_since_ns_ = 0;
  return true;
}

}  // namespace thalweg::core
