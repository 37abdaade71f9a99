// Relays: what an image receives goes on to somebody else from the image's log, as dataplane/core/lane_streams.cpp and RelayService have it. And how far
// receivers are.
#include <algorithm>

#include "dataplane/base/time.hpp"
#include "dataplane/wire/positions.hpp"
#include "tests/sim/node.hpp"

namespace thalweg::sim {

// ---- relays ----

const LogMemory& Node::log_of(const PublicationEntry& p) const noexcept { return p.source == PublicationEntry::kNoSource ? p.log : images_[p.source].log; }

// They are subscribers, too; nobody waits for one without receivers, or that drops when it is slow (StreamTables::positions()).
bool PublicationEntry::is_waited_for() const noexcept {
  const shm::PublicationState& sender = slot->observed.state;
  const bool drops = (slot->desired.flags & shm::PublicationFlags::kDropsWhenSlow) != 0;
  return source != kNoSource && !drops && sender.is_connected != 0 && sender.lifecycle == shm::Lifecycle::kActive;
}

proto::SubscriberPositions ImageEntry::with_relays(proto::SubscriberPositions all, bool only_settled) const noexcept {
  const std::int64_t rebuilt = slot->observed.state.rebuild_position;
  for (const PublicationEntry* relay : relays) {
    const bool counts = relay->is_waited_for() && (relay->was_waited_for || !only_settled);
    const std::int64_t position = counts ? std::min(relay->slot->observed.state.sender_position, rebuilt) : rebuilt;
    all.min = all.count == 0 ? position : std::min(all.min, position);
    all.max = all.count == 0 ? position : std::max(all.max, position);
    ++all.count;
  }
  return all;
}

bool Node::begin_relays(std::int64_t now_ns) {
  if (is_crashed_ || !is_up(now_ns)) return false;
  bool has_worked = false;
  for (std::size_t i = 0; i < images_.size(); ++i) {
    const ImageEntry& image = images_[i];
    const StreamPlan& plan = image.stream->plan;
    if (!plan.is_relayed || image.plan != &plan.subscribers.front() || image.has_relay || image.is_unavailable || !image.machine) continue;
    // A session that is still there, of an image before, clashes.
    const bool has_clash = std::any_of(publications_.begin(), publications_.end(), [&](const PublicationEntry& p) {
      return p.source != PublicationEntry::kNoSource && p.stream == image.stream && !p.is_done;
    });
    if (has_clash) continue;
    begin_relay(i, now_ns);
    has_worked = true;
  }
  return has_worked;
}

void Node::begin_relay(std::size_t index, std::int64_t now_ns) {
  ImageEntry& image = images_[index];
  const StreamPlan& plan = image.stream->plan;
  verdict_.faults.add(Fault::kRelayed);
  image.has_relay = true;
  PublicationEntry& p = publications_.emplace_back();
  p.stream = image.stream;
  p.source = index;
  p.local = {address(), static_cast<std::uint16_t>(20000 + publications_.size())};
  p.destinations.push_back(image.stream->relay_to);
  p.slot = std::make_unique<shm::PublicationSlot>();
  auto& d = p.slot->desired;
  const auto& source = image.slot->desired;
  d.registration_id = 1 + static_cast<std::int64_t>(publications_.size());
  d.session_id = d.source_session_id = source.session_id;
  d.stream_id = d.source_stream_id = source.stream_id;
  d.initial_term_id = source.initial_term_id;
  d.term_length = source.term_length;
  d.mtu = source.mtu;
  d.window_length = plan.publication_window;
  using F = shm::PublicationFlags;
  d.flags = F::kSignalEos | F::kExclusive | F::kRelay | (plan.relay_drops ? F::kDropsWhenSlow : 0);
  d.max_resend = 16;
  d.linger_ns = plan.linger_ns;
  d.connection_timeout_ns = scenario_.connection_timeout_ns;
  d.unblock_timeout_ns = plan.unblock_timeout_ns;
  d.retransmit_delay_ns = plan.retransmit_delay_ns;
  d.retransmit_linger_ns = plan.retransmit_linger_ns;
  d.is_retransmit_linger_auto = plan.is_retransmit_linger_auto;
  d.retransmit_limit_bytes = plan.retransmit_limit_bytes;
  d.retransmit_limit_interval_ns = plan.retransmit_limit_interval_ns;
  d.retransmit_window_multiple = 16;
  d.state.store(shm::Desired::kActive);
  attach(p, now_ns);
  // From the beginning, if all of it is still there.
  const shm::ImageState& state = image.slot->observed.state;
  p.relayed_from = state.rebuild_position - state.join_position <= source.term_length ? state.join_position : state.rebuild_position;
  p.machine->start_at(p.relayed_from, now_ns);
  image.relays.push_back(&p);
}

// The image's lane tells it how far the log is complete, for the last time when the image is over.
void Node::follow_source(PublicationEntry& p) {
  const std::uint64_t skips = lane().get(shm::LaneCounter::kRelaySkips);
  p.machine->follow(images_[p.source].slot->observed.state.rebuild_position);
  if (p.slot->observed.state.start_position != p.relayed_from) p.stream->has_relay_moved = true;
  verdict_.faults.add(Fault::kRelaySkipped, lane().get(shm::LaneCounter::kRelaySkips) - skips);
}

// With their images; what those left is sent first.
bool Node::end_relays(std::int64_t now_ns) {
  bool has_worked = false;
  for (PublicationEntry& p : publications_) {
    if (p.source == PublicationEntry::kNoSource || p.closed_ns >= 0 || p.is_done || !images_[p.source].is_unavailable) continue;
    p.closed_ns = now_ns;
    if (images_[p.source].slot->observed.state.is_revoked != 0) p.slot->desired.is_revoked.store(1);
    p.slot->desired.state.store(shm::Desired::kClosing);
    has_worked = true;
  }
  return has_worked;
}

// ---- how far receivers are ----

bool Node::is_at(Stage stage, const Stream& stream) const noexcept {
  if (is_crashed_) return false;
  const auto is_asked_for = [&](const PendingImage& p) { return p.setup.session_id == stream.plan.session_id && p.setup.stream_id == stream.plan.stream_id; };
  if (stage == Stage::kBeforeStatusMessage && std::any_of(pending_.begin(), pending_.end(), is_asked_for)) return true;
  return std::any_of(images_.begin(), images_.end(), [&](const ImageEntry& image) {
    if (image.stream != &stream || !image.machine) return false;
    const shm::ImageState& state = image.slot->observed.state;
    switch (stage) {
      case Stage::kInRepair: return state.gap_count > 0;
      case Stage::kAtEnd: return state.is_end_of_stream != 0 && state.lifecycle == shm::Lifecycle::kActive;
      case Stage::kDraining: return state.lifecycle == shm::Lifecycle::kDraining;
      case Stage::kInLinger: return state.lifecycle == shm::Lifecycle::kLinger;
      default: return false;
    }
  });
}

bool Node::is_receiving(const Stream& stream, const wire::UdpEndpoint& at) const noexcept {
  return std::any_of(images_.begin(), images_.end(), [&](const ImageEntry& image) {
    const ReceiveEndpoint& e = endpoints_[image.endpoint];
    return image.stream == &stream && image.machine && !image.is_unavailable && e.arrivals == nullptr && e.local == at;
  });
}

}  // namespace thalweg::sim
