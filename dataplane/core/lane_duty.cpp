// What streams owe: status messages, NAKs, data, heartbeats, limits. Streams with work are served every turn; the others are looked at in
// rotating slices, so that the cost of a turn does not grow with the number of idle streams.
#include "dataplane/core/lane.hpp"

namespace thalweg::core {

namespace {

constexpr std::int64_t kRetryRefused_ns = 50'000;  // a stream whose port takes nothing: as patient as an idle one

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
  const proto::SubscriberPositions subscribers = tables_.positions(entry.first_link);
  const auto sink_for = [this, &entry, now_ns](std::size_t connection) noexcept {
    return DestinationSink{destination_of(entry, connection), now_ns};
  };
  const unsigned sent = entry.stream.duty(subscribers, now_ns, sink_for);
  const shm::ImageState& state = entry.stream.state();
  const bool has_moved = sent != 0 || state.rebuild_position != entry.seen_rebuilt || subscribers.min != entry.seen_min;
  entry.seen_rebuilt = state.rebuild_position;
  entry.seen_min = subscribers.min;
  if (has_moved) {
    entry.polled.quiet_turns = 0;
    return 1;
  }
  if (++entry.polled.quiet_turns >= kQuietTurnsMax && !entry.stream.has_gap()) rest(entry);
  return 0;
}

// The frame header for one connection's control address; made again when the address changed.
Destination& Lane::destination_of(ImageEntry& entry, std::size_t connection) noexcept {
  const shm::ConnectionState& state = entry.stream.state().connections[connection];
  Destination& destination = entry.destinations[connection];
  const wire::UdpEndpoint remote{state.control_address, state.control_port};
  if (destination.port == nullptr || destination.remote != remote) [[unlikely]] {
    destination = make_destination(*entry.endpoint, remote);
    if (destination.port == nullptr) counters_.add(shm::LaneCounter::kDropNoRoute);
  }
  return destination;
}

void Lane::sweep_images(std::int64_t now_ns) noexcept {
  for (std::uint32_t n = idle_images_.share(elapsed_ns_); n > 0 && idle_images_.count() != 0; --n) {
    const auto& watch = idle_images_[idle_images_.advance()];
    const bool has_moved =
        watch.has_changed() || (watch.follows_links && tables_.positions(watch.entry->first_link).min != watch.entry->seen_min);
    if (has_moved || now_ns >= watch.deadline_ns) [[unlikely]] wake(*watch.entry);
  }
}

void Lane::rest(ImageEntry& entry) noexcept {
  active_images_.remove(entry);
  const std::int64_t deadline_ns = std::max(entry.stream.next_deadline_ns(), last_turn_ns_ + 1);
  if (entry.first_link == kNoLink) {
    idle_images_.add(entry, &never_changes_, never_changes_, false, deadline_ns);
  } else if (const LinkEntry& only = tables_.links[entry.first_link]; only.next == kNoLink && only.counts) {
    idle_images_.add(entry, reinterpret_cast<std::uint32_t*>(only.position.address()), low_word(entry.seen_min), false, deadline_ns);
  } else {
    idle_images_.add(entry, &never_changes_, never_changes_, true, deadline_ns);
  }
}

void Lane::wake(ImageEntry& entry) noexcept {
  entry.polled.quiet_turns = 0;
  if (entry.polled.activity == Activity::kActive) return;
  if (entry.polled.activity == Activity::kIdle) idle_images_.remove(entry);
  active_images_.add(entry);
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

unsigned Lane::serve(PublicationEntry& entry, std::int64_t now_ns) noexcept {
  bool has_moved = false;
  bool is_refused = false;
  if (entry.endpoint != nullptr) {
    DestinationSink sink{entry.endpoint->destination, now_ns};
    const proto::SendOutcome outcome = entry.stream.send(now_ns, sink);
    if (outcome.bytes != 0) {
      counters_.add(shm::LaneCounter::kBytesSent, outcome.bytes);
      has_moved = true;
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
  if (++entry.polled.quiet_turns < kQuietTurnsMax || (entry.stream.has_data() && !is_refused)) return 0;
  rest(entry, is_refused);
  return 0;
}

void Lane::sweep_publications(std::int64_t now_ns) noexcept {
  for (std::uint32_t n = idle_publications_.share(elapsed_ns_); n > 0 && idle_publications_.count() != 0; --n) {
    const auto& watch = idle_publications_[idle_publications_.advance()];
    const bool has_moved =
        watch.has_changed() || (watch.follows_links && tables_.positions(watch.entry->first_link).min != watch.entry->seen_min);
    if (has_moved || now_ns >= watch.deadline_ns) [[unlikely]] wake(*watch.entry);
  }
}

// What wakes it: the frame length word at its position, unless there is no window for it, its subscribers, and its next timer.
void Lane::rest(PublicationEntry& entry, bool is_refused) noexcept {
  active_publications_.remove(entry);
  const shm::PublicationState& state = entry.stream.state();
  const shm::LogBuffer& log = entry.stream.context().log;
  std::int64_t deadline_ns = entry.stream.next_deadline_ns();
  if (is_refused) deadline_ns = std::min(deadline_ns, last_turn_ns_ + kRetryRefused_ns);
  std::uint32_t* word = &never_changes_;
  if (entry.endpoint == nullptr) {
    word = reinterpret_cast<std::uint32_t*>(log.at(state.producer_position));
  } else if (state.sender_limit > state.sender_position && !is_refused) {
    word = reinterpret_cast<std::uint32_t*>(log.at(state.sender_position));
  }
  // A frame committed since we looked is as good as a change; a claim that is not committed yet (negative) is waited for.
  const std::uint32_t now = std::atomic_ref{*word}.load(std::memory_order_relaxed);
  const bool follows_links = entry.first_link != kNoLink;   // IPC subscribers and spies move the limit
  idle_publications_.add(entry, word, static_cast<std::int32_t>(now) > 0 ? 0 : now, follows_links, deadline_ns);
}

void Lane::wake(PublicationEntry& entry) noexcept {
  entry.polled.quiet_turns = 0;
  if (entry.polled.activity == Activity::kActive) return;
  if (entry.polled.activity == Activity::kIdle) idle_publications_.remove(entry);
  active_publications_.add(entry);
}

void Lane::unlist(PublicationEntry& entry) noexcept {
  if (entry.polled.activity == Activity::kActive) active_publications_.remove(entry);
  if (entry.polled.activity == Activity::kIdle) idle_publications_.remove(entry);
}

}  // namespace thalweg::core
