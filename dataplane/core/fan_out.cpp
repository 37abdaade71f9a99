#include "dataplane/core/fan_out.hpp"

#include <algorithm>

namespace thalweg::core {

bool DestinationSink::send_to_all(std::span<const std::byte> bytes, const StreamIds* ids) noexcept {
  if (destination_->fan_out != nullptr && destination_->fan_out->send(bytes, ids, now_ns_)) return true;
  has_refused_ = true;
  return false;
}

FanOut::FanOut(bool is_dynamic) : is_dynamic_{is_dynamic} { ports_.reserve(shm::kPortsMax); }

// ---- who is there ----

void FanOut::learn(const Destination& destination, std::int64_t receiver_id, bool tells_position, std::int64_t now_ns) noexcept {
  if (destination.port == nullptr) return counters_.add(shm::LaneCounter::kDropNoRoute);
  if (list_.learn(destination, receiver_id, tells_position, now_ns)) settle();
}

bool FanOut::put(shm::DestinationSlot& slot, const Destination& destination) noexcept {
  const List::Put outcome = list_.put(slot, destination);
  if (outcome == List::Put::kChanged) settle();
  return outcome != List::Put::kFull;
}

void FanOut::remove(const shm::DestinationSlot& slot) noexcept {
  if (list_.remove(slot)) settle();
}

Destination* FanOut::find(std::int64_t receiver_id, const wire::UdpEndpoint& source) noexcept {
  List::Entry* const entry = list_.find_speaker(receiver_id, source);
  return entry != nullptr && entry->target.port != nullptr ? &entry->target : nullptr;
}

void FanOut::expire(std::int64_t now_ns) noexcept {
  next_expiry_ns_ = now_ns + List::kTimeout_ns / 50;   // 100 ms late at most
  if (list_.expire(now_ns)) settle();
}

// Works out anew what each datagram needs, so that sending does not.
void FanOut::settle() noexcept {
  ports_.clear();
  for (List::Entry& entry : list_.entries()) {
    entry.is_sent = entry.target.port != nullptr && !entry.is_repeated;
    if (!entry.is_sent) continue;
    const auto use = std::find_if(ports_.begin(), ports_.end(), [&entry](const PortUse& known) { return known.port == entry.target.port; });
    if (use != ports_.end()) {
      ++use->copies;
    } else {
      ports_.push_back({entry.target.port, 1});
    }
  }
  shares_payload_ = std::any_of(ports_.begin(), ports_.end(), [](const PortUse& use) { return use.copies > 1 && use.port->can_share_payload(); });
  publish_count();
}

void FanOut::publish_count() noexcept {
  if (count_) count_.set(static_cast<std::int64_t>(size()));
}

// ---- sending ----

bool FanOut::send(std::span<const std::byte> payload, const StreamIds* ids, std::int64_t now_ns) noexcept {
  if (is_dynamic_ && now_ns >= next_expiry_ns_) expire(now_ns);
  if (!has_room(payload.size(), now_ns)) return false;
  std::vector<List::Entry>& entries = list_.entries();
  if (++first_ >= entries.size()) first_ = 0;
  SharedPayload shared{payload, ids};
  SharedPayload* const share = shares_payload_ && payload.size() >= kShareBytes ? &shared : nullptr;
  for (std::size_t n = 0, at = first_; n < entries.size(); ++n) {
    List::Entry& entry = entries[at];
    if (++at == entries.size()) at = 0;
    if (entry.is_sent) send_to(entry.target, payload, ids, share, now_ns);
  }
  return true;
}

// What fails here is counted and does not stop the others: whoever missed it will ask for it.
inline void FanOut::send_to(Destination& destination, std::span<const std::byte> payload, const StreamIds* ids, SharedPayload* shared,
                            std::int64_t now_ns) noexcept {
  LanePort& port = *destination.port;
  if (!port.fits(payload.size())) [[unlikely]] return counters_.add(shm::LaneCounter::kDropNoRoute);
  if (!port.has_room_for(payload.size())) [[unlikely]] return counters_.add(shm::LaneCounter::kDropTxFull);
  if (shared != nullptr && port.can_share_payload()) {
    static_cast<void>(port.send_shared(destination, *shared, now_ns));
  } else if (ids == nullptr) {
    static_cast<void>(port.send(destination, payload, now_ns));
  } else {
    static_cast<void>(port.send_as(destination, payload, *ids, now_ns));
  }
}

// Half of the destinations served and the other half refused would mean sending twice to the first half.
bool FanOut::has_room(std::size_t payload, std::int64_t now_ns) noexcept {
  for (const PortUse& use : ports_) {
    if (use.port->stage().has_room_for(std::min<std::size_t>(use.copies * use.port->frames_for(payload), TxStage::kCapacity))) continue;
    if (blocked_since_ns_ == 0) blocked_since_ns_ = now_ns;
    return now_ns - blocked_since_ns_ > kPatience_ns;
  }
  blocked_since_ns_ = 0;
  return true;
}

}  // namespace thalweg::core
