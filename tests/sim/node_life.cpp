// How a node breaks and heals, when it has something to do next, and what it still has.
#include <algorithm>

#include "tests/sim/node.hpp"

namespace thalweg::sim {

// ---- faults ----

void Node::pause(std::int64_t now_ns, std::int64_t until_ns) {
  if (now_ns < paused_until_ns_ || is_crashed_) return;
  verdict_.faults.add(Fault::kNodePaused);
  paused_until_ns_ = until_ns;
}

void Node::crash(std::int64_t now_ns, std::int64_t until_ns) {
  if (is_crashed_) return;
  verdict_.faults.add(Fault::kNodeCrashed);
  is_crashed_ = true;
  down_until_ns_ = until_ns;
  paused_until_ns_ = std::min(paused_until_ns_, now_ns);
  receive_queue_.clear();
  for (PublicationEntry& p : publications_) p.machine.reset();
  for (ImageEntry& i : images_) i.machine.reset();
  for (ReceiveEndpoint& e : endpoints_) e.dispatcher.reset();
}

void Node::stall_control_plane(std::int64_t until_ns) {
  verdict_.faults.add(Fault::kControlPlaneStall);
  stalled_until_ns_ = until_ns;
}

void Node::heal() noexcept {
  is_healed_ = true;
  crash_in_clean_ns_ = crash_in_insert_ns_ = 0;
}

std::int64_t Node::next_due_ns(std::int64_t now_ns) const noexcept {
  if (!is_up(now_ns)) return down_until_ns_;
  if (now_ns < paused_until_ns_) return paused_until_ns_;
  if (is_crashed_ || !receive_queue_.empty()) return now_ns;
  std::int64_t due = next_tick_ns_;
  for (const ReceiveEndpoint& e : endpoints_) {
    if (!e.is_removed) due = std::min(due, std::max(e.removed_ns, stalled_until_ns_));
    if (e.control.port != 0 && e.dispatcher && e.dispatcher->has_interest()) due = std::min(due, e.next_register_ns);
    for (const Subscription& s : e.subscriptions) {
      for (const ReaderPlan& r : s.plan->readers) {
        if (r.join_ns > now_ns) due = std::min(due, std::max(r.join_ns, stalled_until_ns_));
      }
    }
  }
  for (const PendingImage& p : pending_) due = std::min(due, std::max(p.due_ns, stalled_until_ns_));
  for (const PublicationEntry& p : publications_) {
    if (!p.machine) continue;
    due = std::min(due, p.machine->has_data() ? now_ns : p.machine->next_deadline_ns());
  }
  for (const ImageEntry& i : images_) {
    if (i.machine) due = std::min(due, i.machine->next_deadline_ns());
  }
  return due;
}

bool Node::is_idle_forever() const noexcept {
  return pending_.empty() && std::all_of(publications_.begin(), publications_.end(), [](const auto& p) { return p.is_done; }) &&
         std::all_of(images_.begin(), images_.end(), [](const auto& i) { return i.is_done; });
}

std::string Node::what_is_left() const {
  std::string out;
  for (const PublicationEntry& p : publications_) {
    if (p.is_done) continue;
    const auto& s = p.slot->observed.state;
    const std::int64_t sent = p.producer == nullptr ? 0 : p.producer->sent();
    out += fmt::format(" [node {} {} {} life {} snd-pos {} snd-lmt {} pub-pos {} pub-lmt {} sent {} of {} closed {} connected {}{}", index_,
                       p.producer == nullptr ? "relay" : "publication", p.stream->plan.session_id, static_cast<int>(s.lifecycle), s.sender_position, s.sender_limit,
                       shm::producer_position(log_of(p).view(), p.stream->plan.initial_term_id), p.counters[1], sent,
                       p.stream->plan.messages, p.closed_ns >= 0, s.is_connected, s.is_corrupt ? " CORRUPT" : "");
    for (const shm::SkippedRange& skipped : s.skipped) {
      if (skipped.end != skipped.begin) out += fmt::format(" skipped [{}, {})", skipped.begin, skipped.end);
    }
    if (p.source != PublicationEntry::kNoSource) out += fmt::format(" source at {}, producer {}", images_[p.source].slot->observed.state.rebuild_position, s.producer_position);
    for (const shm::ReceiverState& r : s.receivers) {
      if (r.is_live || r.is_flow_controlling) out += fmt::format(" receiver {} limit {}{}", r.last_position, r.last_limit, r.is_flow_controlling ? " waited for" : "");
    }
    out += "]";
  }
  for (const ImageEntry& i : images_) {
    if (i.is_done) continue;
    const auto& s = i.slot->observed.state;
    out += fmt::format(" [node {} image {} life {} join {} rcv-pos {} hwm {} sm {} + {} eos {} readers", index_, i.stream->plan.session_id,
                       static_cast<int>(s.lifecycle), s.join_position, s.rebuild_position, s.high_water, s.last_sm_position, s.next_sm_window, s.is_end_of_stream);
    for (const Reader* r : i.readers) out += fmt::format(" {}{}", r->position(), r->is_closed() ? "x" : "");
    out += "]";
  }
  return out;
}

}  // namespace thalweg::sim
