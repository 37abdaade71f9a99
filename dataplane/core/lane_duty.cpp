// What streams owe: status messages, NAKs, data, heartbeats, limits. Streams with work are served every turn; the others are looked at in
// rotating slices, so that the cost of a turn does not grow with the number of idle streams.
#include "dataplane/core/lane.hpp"

namespace thalweg::core {

namespace {

std::uint32_t low_word(std::int64_t value) noexcept { return static_cast<std::uint32_t>(value); }

}  // namespace

// ---- images ----

unsigned Lane::serve_images(std::int64_t now_ns) noexcept {
  sweep_images(now_ns);
  unsigned work = 0;
  for (std::uint32_t i = active_images_.count(); i > 0; --i) work += serve(active_images_[i - 1], now_ns);
  return work;
}

unsigned Lane::serve(ImageEntry& entry, std::int64_t now_ns) noexcept {
  turn_to(entry);
  const proto::SubscriberPositions subscribers = tables_.positions(entry);
  const auto sink_for = [this, &entry, now_ns](std::size_t connection) noexcept {
    return DestinationSink{destination_of(entry, connection), now_ns};
  };
  const unsigned sent = entry.stream.duty(subscribers, now_ns, sink_for);
  const shm::ImageState& state = entry.stream.state();
  const bool has_moved = state.rebuild_position != entry.seen_rebuilt || subscribers.min != entry.seen_min;
  entry.seen_rebuilt = state.rebuild_position;
  entry.seen_min = subscribers.min;
  if (has_moved) {
    for (PublicationEntry* relay = entry.first_relay; relay != nullptr; relay = relay->next_relay) wake(*relay);
    entry.polled.quiet_turns = 0;
    return 1;
  }
  if (++entry.polled.quiet_turns >= kQuietTurnsMax && !entry.stream.has_gap()) rest(entry);
  return sent != 0 ? 1 : 0;
}

// The frame header for one connection's control address; made again when the address changed.
Destination& Lane::destination_of(ImageEntry& entry, std::size_t connection) noexcept {
  const shm::ConnectionState& state = entry.stream.state().connections[connection];
  Destination& destination = entry.destinations[connection];
  const wire::UdpEndpoint remote{state.control_address, state.control_port};
  if (destination.port == nullptr || destination.remote != remote) [[unlikely]] {
    if (entry.transports[connection] != nullptr) destination = make_destination(*entry.transports[connection], remote);
    if (destination.port == nullptr) counters_.add(shm::LaneCounter::kDropNoRoute);
  }
  return destination;
}

void Lane::sweep_images(std::int64_t now_ns) noexcept {
  idle_images_.sweep(
      now_ns, elapsed_ns_, [this](ImageEntry& entry) noexcept { return tables_.positions(entry).min != entry.seen_min; },
      [this](ImageEntry& entry) noexcept { wake(entry); }, [this](ImageEntry& entry) noexcept { remind(entry); });
}

// What wakes it: its subscribers, unless they have consumed all there is, and its next timer. Arrivals wake it by themselves.
void Lane::rest(ImageEntry& entry) noexcept {
  active_images_.remove(entry);
  idle_images_.add(entry, std::max(entry.stream.next_deadline_ns(), last_turn_ns_ + 1));
  if (entry.first_link == kNoLink || entry.seen_min == entry.stream.state().rebuild_position) return;
  const LinkEntry& only = tables_.links[entry.first_link];
  if (only.next == kNoLink && only.counts && entry.first_relay == nullptr) {
    idle_images_.watch(entry, reinterpret_cast<std::uint32_t*>(only.position.address()), low_word(entry.seen_min));
  } else {
    idle_images_.watch(entry, nullptr, 0);
  }
}

void Lane::wake(ImageEntry& entry) noexcept {
  entry.polled.quiet_turns = 0;
  if (entry.polled.activity == Activity::kActive) return;
  if (entry.polled.activity == Activity::kIdle) idle_images_.remove(entry);
  active_images_.add(entry);
}

void Lane::remind(ImageEntry& entry) noexcept {
  if (entry.polled.activity == Activity::kActive) return;
  wake(entry);
  entry.polled.quiet_turns = kQuietTurnsMax - 1;
}

// One that may be off the wire already.
void Lane::nudge(ImageEntry& entry) noexcept {
  if (entry.polled.activity == Activity::kIdle) wake(entry);
}

void Lane::unlist(ImageEntry& entry) noexcept {
  if (entry.polled.activity == Activity::kActive) active_images_.remove(entry);
  if (entry.polled.activity == Activity::kIdle) idle_images_.remove(entry);
}

// ---- publications ----

unsigned Lane::serve_publications(std::int64_t now_ns) noexcept {
  sweep_publications(now_ns);
  const std::uint32_t count = active_publications_.count();
  if (count == 0) return 0;
  if (++rotation_ >= count) rotation_ = 0;  // no publication is always last
  unsigned work = 0;
  // Downwards in both parts: an entry that goes to rest is replaced by one that was served already, or was not yet and waits one turn.
  for (std::uint32_t i = rotation_ + 1; i > 0; --i) work += serve(active_publications_[i - 1], now_ns);
  for (std::uint32_t i = active_publications_.count(); i > rotation_ + 1; --i) work += serve(active_publications_[i - 1], now_ns);
  return work;
}

DestinationSink Lane::sink_of(PublicationEntry& entry, std::int64_t now_ns) const noexcept {
  if (!entry.rewrites) [[likely]] return {*entry.destination, now_ns};
  entry.ids.epoch_ns = epoch_of(now_ns);
  return {*entry.destination, now_ns, &entry.ids};
}

unsigned Lane::serve(PublicationEntry& entry, std::int64_t now_ns) noexcept {
  turn_to(entry);
  bool has_moved = false;
  bool has_sent = false;
  bool is_refused = false;
  if (entry.endpoint != nullptr) {
    if (entry.source != nullptr) entry.stream.follow(entry.source->stream.state().rebuild_position);
    DestinationSink sink = sink_of(entry, now_ns);
    const proto::SendOutcome outcome = entry.stream.send(now_ns, sink);
    if (outcome.bytes != 0) {
      counters_.add(shm::LaneCounter::kBytesSent, outcome.bytes);
      has_sent = true;
      has_moved = outcome.has_data;
      if (entry.source != nullptr) nudge(*entry.source);   // it waits for its relays
    }
    is_refused = sink.has_refused();
    is_blocked_ |= outcome.is_blocked;
  }
  const proto::SubscriberPositions subscribers = tables_.positions(entry.first_link);
  has_moved |= entry.stream.update_limit(subscribers, now_ns);
  entry.seen_min = subscribers.min;
  tell(entry);
  if (!entry.is_used) return 1;
  if (has_moved) {
    entry.polled.quiet_turns = 0;
    return 1;
  }
  const bool is_quiet = ++entry.polled.quiet_turns >= kQuietTurnsMax && (is_refused || !entry.stream.has_data());
  if (is_quiet) rest(entry, is_refused);
  return has_sent ? 1 : 0;
}

void Lane::sweep_publications(std::int64_t now_ns) noexcept {
  idle_publications_.sweep(
      now_ns, elapsed_ns_, [this](PublicationEntry& entry) noexcept { return has_news(entry); },
      [this](PublicationEntry& entry) noexcept { wake(entry); }, [this](PublicationEntry& entry) noexcept { remind(entry); });
}

// The frame length word at its position: a frame committed since we looked is as good as a change; a claim that is not committed yet
// (negative) is waited for. Without a window there is nothing to look at.
std::uint32_t* Lane::word_of(const PublicationEntry& entry) const noexcept {
  const shm::PublicationState& state = entry.stream.state();
  const shm::LogBuffer& log = entry.stream.context().log;
  if (entry.stream.is_relay()) return nullptr;   // its image wakes it
  if (entry.endpoint == nullptr) return reinterpret_cast<std::uint32_t*>(log.at(state.producer_position));
  return state.sender_limit > state.sender_position ? reinterpret_cast<std::uint32_t*>(log.at(state.sender_position)) : nullptr;
}

// Of one with spies or IPC subscribers.
bool Lane::has_news(const PublicationEntry& entry) const noexcept {
  const std::uint32_t* const word = word_of(entry);
  const bool has_frame = word != nullptr && static_cast<std::int32_t>(std::atomic_ref{*const_cast<std::uint32_t*>(word)}.load(std::memory_order_relaxed)) > 0;
  return has_frame || tables_.positions(entry.first_link).min != entry.seen_min;
}

// What wakes it: a frame at its position, its subscribers, and its next timer. Refused by its port, it tries again with the next sweep.
void Lane::rest(PublicationEntry& entry, bool is_refused) noexcept {
  active_publications_.remove(entry);
  idle_publications_.add(entry, entry.stream.next_deadline_ns());
  if (is_refused) {
    idle_publications_.watch(entry, &never_changes_, never_changes_ + 1);
  } else if (entry.first_link != kNoLink) {
    idle_publications_.watch(entry, nullptr, 0);
  } else if (std::uint32_t* const word = word_of(entry)) {
    const std::uint32_t now = std::atomic_ref{*word}.load(std::memory_order_relaxed);
    idle_publications_.watch(entry, word, static_cast<std::int32_t>(now) > 0 ? 0 : now);
  }
}

void Lane::wake(PublicationEntry& entry) noexcept {
  entry.polled.quiet_turns = 0;
  if (entry.polled.activity == Activity::kActive) return;
  if (entry.polled.activity == Activity::kIdle) idle_publications_.remove(entry);
  active_publications_.add(entry);
}

void Lane::remind(PublicationEntry& entry) noexcept {
  if (entry.polled.activity == Activity::kActive) return;
  wake(entry);
  entry.polled.quiet_turns = kQuietTurnsMax - 1;
}

void Lane::unlist(PublicationEntry& entry) noexcept {
  if (entry.polled.activity == Activity::kActive) active_publications_.remove(entry);
  if (entry.polled.activity == Activity::kIdle) idle_publications_.remove(entry);
}

}  // namespace thalweg::core
