#include "tests/sim/world.hpp"

#include <algorithm>

#include "dataplane/base/time.hpp"
#include "dataplane/wire/frames.hpp"

namespace thalweg::sim {
namespace {

constexpr std::int64_t kLongSilence_ns = 4 * kSecond_ns;  // an image may not outlive it
constexpr std::uint64_t kStepsMax = 3'000'000;           // a machine that always has work, and gets nowhere

}  // namespace

World::World(const Scenario& scenario)
    : scenario_{scenario}, network_{scenario.seed * 0x9E3779B97F4A7C15U + 1, verdict_}, storm_{scenario.seed ^ 0x5708U}, strangers_{scenario, network_, verdict_}, staged_{scenario.staged_faults} {
  for (std::uint32_t i = 0; i < scenario.nodes; ++i) nodes_.emplace_back(i, scenario, network_, verdict_);
  for (std::uint32_t from = 0; from < scenario.nodes; ++from) {
    for (std::uint32_t to = 0; to < scenario.nodes; ++to) {
      network_.set_impairment(Node::address_of(from), Node::address_of(to), scenario.links[from][to]);
      network_.set_impairment(Node::address_of(from), Node::address_of(to) + kSideAddress, scenario.links[from][to]);
      network_.set_impairment(Node::address_of(from) + kSideAddress, Node::address_of(to), scenario.links[from][to]);
      network_.set_impairment(Node::address_of(from), Node::address_of(to) + kSecondAddress, scenario.second_links[from][to]);
      network_.set_impairment(Node::address_of(from) + kSecondAddress, Node::address_of(to), scenario.second_links[from][to]);
    }
  }
  for (const StreamPlan& plan : scenario.streams) {
    Stream& stream = streams_.emplace_back(plan, scenario.seed + streams_.size());
    PublicationEntry& publication = nodes_[plan.node].add_publication(stream, 0);
    publication_of_.push_back(nodes_[plan.node].publications().size() - 1);
    next_storm_ns_.push_back(0);
    if (plan.is_ipc) continue;
    for (const SubscriberPlan& subscriber : plan.subscribers) {
      const std::vector<wire::UdpEndpoint> ways = nodes_[subscriber.node].add_subscription(stream, subscriber, publication.local);
      if (plan.has_twin) {
        publication.send_to(ways[0]);
        nodes_[plan.twin_node].add_publication(stream, 1).send_to(ways[1]);
      } else if (plan.destinations != Destinations::kDynamic) {
        for (const wire::UdpEndpoint& way : ways) publication.send_to(way);
      }
    }
    if (plan.is_relayed) stream.relay_to = nodes_[plan.relayed.node].add_subscription(stream, plan.relayed, {}).front();
  }
}

void World::apply_faults() {
  for (; next_fault_ < scenario_.faults.size() && scenario_.faults[next_fault_].at_ns <= now_ns_; ++next_fault_) {
    const FaultPlan& f = scenario_.faults[next_fault_];
    Node& node = nodes_[f.node];
    const std::int64_t until_ns = now_ns_ + f.duration_ns;
    switch (f.kind) {
      case NodeFault::kPause: node.pause(now_ns_, until_ns); break;
      case NodeFault::kCrash: node.crash(now_ns_, until_ns); break;
      case NodeFault::kCrashInInsert: node.crash_in_next_insert(f.duration_ns); break;
      case NodeFault::kCrashInClean: node.crash_in_next_clean(f.duration_ns); break;
      case NodeFault::kControlPlaneStall: node.stall_control_plane(until_ns); break;
      case NodeFault::kPartition:
        network_.partition(Node::address_of(f.node), Node::address_of(f.peer), until_ns);
        network_.partition(Node::address_of(f.peer), Node::address_of(f.node), until_ns);
        break;
      case NodeFault::kSideDead: {
        const std::uint32_t receiver = Node::address_of(f.peer) + (f.is_second_way ? kSecondAddress : kSideAddress);
        verdict_.faults.add(Fault::kSideDied);
        if (f.duration_ns >= kLongSilence_ns) excuse(f);
        network_.partition(Node::address_of(f.node), receiver, until_ns);
        network_.partition(receiver, Node::address_of(f.node), until_ns);
        break;
      }
    }
  }
}

// The data plane of a receiver dies when it is as far as the plan says.
void World::apply_staged_faults() {
  std::erase_if(staged_, [this](const FaultPlan& f) {
    Node& node = nodes_[f.node];
    if (now_ns_ < f.at_ns || !node.is_at(f.stage, streams_[f.stream])) return false;
    verdict_.faults.add(static_cast<Fault>(static_cast<int>(Fault::kDiedBeforeStatusMessage) + static_cast<int>(f.stage) - 1));
    node.crash(now_ns_, now_ns_ + f.duration_ns);
    return true;
  });
}

// The side that lives carries the stream if it has a receiver: one that is more than half a term behind has none (2.11).
void World::excuse(const FaultPlan& fault) {
  for (Stream& stream : streams_) {
    const StreamPlan& plan = stream.plan;
    if (!plan.has_twin) continue;
    const auto state_of = [&](std::uint32_t node) -> const shm::PublicationState& {
      auto& all = nodes_[node].publications();
      return std::find_if(all.begin(), all.end(), [&](const PublicationEntry& p) { return p.stream == &stream; })->slot->observed.state;
    };
    const shm::PublicationState& dead = state_of(fault.node);
    const shm::PublicationState& alive = state_of(fault.is_second_way ? plan.node : plan.twin_node);
    if (alive.is_connected == 0 || dead.sender_position > alive.sender_position + plan.term_length / 4) stream.is_excused = true;
  }
}

void World::heal() {
  is_healed_ = true;
  network_.heal();
  for (Node& node : nodes_) node.heal();
  for (Stream& stream : streams_) {
    for (auto& reader : stream.readers) reader->heal();
  }
}

// Well-formed NAKs from nowhere, for any part of what was sent and for what was not.
void World::make_up_naks() {
  if (is_healed_) return;
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    const StreamPlan& plan = streams_[i].plan;
    if (plan.nak_storm_interval_ns == 0 || now_ns_ < next_storm_ns_[i]) continue;
    next_storm_ns_[i] = now_ns_ + plan.nak_storm_interval_ns;
    const std::int64_t sender = nodes_[plan.node].publications()[publication_of_[i]].slot->observed.state.sender_position;
    const std::int64_t reach = plan.term_length / 2;
    const std::int64_t position = std::max<std::int64_t>(0, sender - reach + static_cast<std::int64_t>(storm_.below(static_cast<std::uint64_t>(reach + 4096)))) & ~31;
    const int bits = wire::position_bits(plan.term_length);
    wire::Nak nak{plan.session_id, plan.stream_id, wire::term_id_of(position, plan.initial_term_id, bits), wire::term_offset_of(position, bits), 0};
    nak.length = static_cast<std::int32_t>(storm_.below(static_cast<std::uint64_t>(plan.term_length - nak.term_offset)));
    std::byte frame[wire::Nak::kLength];
    wire::build(frame, nak);
    verdict_.faults.add(Fault::kNakMadeUp);
    network_.send({Node::address_of(plan.node), 9}, nodes_[plan.node].publications()[publication_of_[i]].local, frame, now_ns_);
  }
}

bool World::step() {
  apply_faults();
  apply_staged_faults();
  if (!is_healed_ && now_ns_ >= scenario_.heal_ns) heal();
  bool has_worked = false;
  while (network_.receive(datagram_, now_ns_)) {
    has_worked = true;
    if (Strangers::is_at(datagram_.to)) {
      strangers_.take(datagram_);
      continue;
    }
    nodes_[(datagram_.to.address - Node::address_of(0)) % kSecondAddress].receive(datagram_, now_ns_);
  }
  make_up_naks();
  strangers_.act(nodes_, now_ns_);
  for (Node& node : nodes_) has_worked |= node.turn(now_ns_);
  for (Node& node : nodes_) has_worked |= node.control_plane(now_ns_);
  for (Stream& stream : streams_) {
    for (auto& producer : stream.producers) has_worked |= producer->poll(now_ns_);
    for (auto& reader : stream.readers) has_worked |= reader->poll(now_ns_);
  }
  return has_worked;
}

// With work at hand the next turn follows; else time jumps to whatever happens next.
std::int64_t World::next_step_ns(bool has_worked) const {
  const std::int64_t next_turn_ns = now_ns_ + scenario_.turn_ns;
  if (has_worked) return next_turn_ns;
  std::int64_t due = network_.next_due_ns();
  for (const Node& node : nodes_) due = std::min(due, node.next_due_ns(now_ns_));
  for (const Stream& stream : streams_) {
    for (const auto& producer : stream.producers) due = std::min(due, producer->next_due_ns());
    for (const auto& reader : stream.readers) due = std::min(due, reader->next_due_ns(now_ns_));
  }
  if (next_fault_ < scenario_.faults.size()) due = std::min(due, scenario_.faults[next_fault_].at_ns);
  if (!is_healed_) due = std::min(due, scenario_.heal_ns);
  due = std::min(due, strangers_.next_due_ns());
  for (std::size_t i = 0; i < streams_.size() && !is_healed_; ++i) {
    if (streams_[i].plan.nak_storm_interval_ns != 0) due = std::min(due, next_storm_ns_[i]);
  }
  return std::max(due, next_turn_ns);
}

bool World::is_over() const {
  return is_healed_ && network_.next_due_ns() == INT64_MAX &&
         std::all_of(nodes_.begin(), nodes_.end(), [](const Node& n) { return n.is_idle_forever(); });
}

void World::judge() {
  for (const Stream& stream : streams_) {
    const StreamPlan& plan = stream.plan;
    if (!stream.is_lossless() || plan.ending == Ending::kRevoke) continue;
    const bool may_lose = plan.flow_control == shm::FlowControl::kMax && plan.is_group;
    if (stream.readers.empty() && !may_lose) verdict_.fail("stream {}: nobody ever received it", plan.session_id);
    for (const auto& reader : stream.readers) {
      if (reader->has_joined() && !reader->has_died(now_ns_) && !stream.may_lose(reader->plan()) && !reader->is_complete()) {
        verdict_.fail("stream {}: reader at {} did not get everything ({} messages of {} claims)", plan.session_id, reader->position(),
                      reader->messages(), stream.ledger.size());
      }
    }
  }
}

Outcome World::run() {
  Outcome outcome;
  for (Node& node : nodes_) node.start(now_ns_);
  while (!verdict_.has_failed() && !is_over()) {
    verdict_.now_ns = now_ns_;
    const bool has_worked = step();
    ++outcome.steps;
    now_ns_ = next_step_ns(has_worked);
    if (now_ns_ <= scenario_.deadline_ns && outcome.steps <= kStepsMax) continue;
    std::string left;
    for (const Node& node : nodes_) left += node.what_is_left();
    verdict_.fail("{} and not over:{}", outcome.steps > kStepsMax ? "too many steps" : "deadline passed", left);
  }
  if (!verdict_.has_failed()) judge();
  if (verdict_.has_failed() && verdict_.failure.find(" not over:") == std::string::npos) {
    for (const Node& node : nodes_) verdict_.failure += node.what_is_left();
  }
  outcome.failure = verdict_.failure;
  outcome.faults = verdict_.faults;
  outcome.trace = network_.trace();
  outcome.virtual_ns = now_ns_;
  for (const Stream& stream : streams_) {
    outcome.messages_sent += stream.ledger.size();
    for (const auto& reader : stream.readers) outcome.messages_read += reader->messages();
  }
  for (const Node& node : nodes_) {
    outcome.naks += node.lane_counter(shm::LaneCounter::kNaksSent);
    outcome.retransmits += node.lane_counter(shm::LaneCounter::kRetransmitsSent);
  }
  return outcome;
}

}  // namespace thalweg::sim
