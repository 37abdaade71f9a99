// Many destinations, and streams that come by several ways (wire-protocol 5.5, 5.6), as dataplane/core/fan_out.cpp and lane_destinations.cpp
// have them.
#include "dataplane/base/time.hpp"
#include "dataplane/wire/frames.hpp"
#include "tests/sim/node.hpp"

namespace thalweg::sim {

// ---- the sending side ----

void PublicationEntry::send_to(const wire::UdpEndpoint& destination) {
  if (stream->plan.destinations == Destinations::kOne) {
    destinations.push_back(destination);
    return;
  }
  shm::DestinationSlot& wanted = slots.emplace_back();
  wanted.desired.generation = 1;
  wanted.desired.remote_address = destination.address;
  wanted.desired.remote_port = destination.port;
}

// What it learned dies with the data plane, what it was told stands in the registry.
void Node::attach_destinations(PublicationEntry& p) {
  if (p.stream->plan.destinations == Destinations::kOne) return;
  p.list.emplace(PublicationEntry::kDestinationsMax);
  p.heard_ns.clear();
  p.told_ns.clear();
  for (shm::DestinationSlot& slot : p.slots) {
    const auto outcome = p.list->put(slot, {{slot.desired.remote_address, slot.desired.remote_port}});
    if (outcome == proto::DestinationList<Way>::Put::kFull) verdict_.fail("stream {}: no room for a destination", p.stream->plan.session_id);
  }
}

void Node::hear_destination(PublicationEntry& p, const wire::StatusMessage& sm, const wire::UdpEndpoint& source, std::int64_t now_ns) {
  const StreamPlan& plan = p.stream->plan;
  const bool is_ours = sm.session_id == plan.session_id && sm.stream_id == plan.stream_id;
  if (!(is_ours ? p.machine->is_acceptable(sm) : sm.valid_for(wire::kTermLengthMax))) return;
  if (plan.destinations == Destinations::kDynamic) p.heard_ns[{source.address, source.port}] = now_ns;
  const bool tells_position = is_ours && (sm.flags & wire::flag::kSmSendSetup) == 0;
  if (plan.destinations == Destinations::kDynamic && tells_position) p.told_ns[{source.address, source.port}] = now_ns;
  if (p.list->hear(sm.receiver_id, source, tells_position, now_ns) || plan.destinations != Destinations::kDynamic) return;
  const bool is_taken_in = p.list->has_room_for(source.address, tells_position, now_ns) && p.list->learn({source}, sm.receiver_id, tells_position, now_ns);
  verdict_.faults.add(is_taken_in ? Fault::kDestinationLearned : Fault::kDestinationRefused);
  if (!is_taken_in && (tells_position || scenario_.stranger_interval_ns == 0)) verdict_.fail("stream {}: no room for a receiver", plan.session_id);
}

// Whoever tells how far it is keeps its place, whatever strangers say.
void Node::expect_members(PublicationEntry& p) {
  for (const auto& [address, told_ns] : p.told_ns) {
    if (now_ns_ - told_ns > proto::DestinationList<Way>::kTimeout_ns) continue;
    const auto is_it = [at = wire::UdpEndpoint{address.first, address.second}](const auto& entry) { return entry.target.remote == at; };
    const auto& all = p.list->entries();
    if (std::any_of(all.begin(), all.end(), is_it)) continue;
    verdict_.fail("stream {}: {:x}:{} told how far it is {} ms ago, and is not sent to", p.stream->plan.session_id, address.first, address.second,
                  (now_ns_ - told_ns) / kMillisecond_ns);
  }
}

std::vector<wire::UdpEndpoint> Node::destinations_of(PublicationEntry& p) {
  if (!p.list) return p.destinations;
  if (p.stream->plan.destinations == Destinations::kDynamic && p.list->expire(now_ns_)) verdict_.faults.add(Fault::kDestinationForgotten);
  std::vector<wire::UdpEndpoint> all;
  for (const auto& entry : p.list->entries()) all.push_back(entry.target.remote);
  if (p.stream->plan.destinations != Destinations::kDynamic) return all;
  // Whoever was heard lately is sent to, and nobody else.
  constexpr std::int64_t kTimeout_ns = 5 * kSecond_ns;
  std::size_t live = 0;
  for (const auto& [address, heard_ns] : p.heard_ns) live += now_ns_ - heard_ns <= kTimeout_ns ? 1 : 0;
  for (const wire::UdpEndpoint& to : all) {
    const auto heard = p.heard_ns.find({to.address, to.port});
    if (heard == p.heard_ns.end() || now_ns_ - heard->second > kTimeout_ns) {
      verdict_.fail("stream {}: sends to {:x}:{}, which is silent", p.stream->plan.session_id, to.address, to.port);
    }
  }
  expect_members(p);
  if (all.size() > PublicationEntry::kDestinationsMax) verdict_.fail("stream {}: {} destinations", p.stream->plan.session_id, all.size());
  if (live != all.size() && scenario_.stranger_interval_ns == 0) verdict_.fail("stream {}: {} receivers were heard, {} are sent to", p.stream->plan.session_id, live, all.size());
  return all;
}

// ---- the receiving side ----

std::size_t Node::home_of(std::size_t endpoint) const noexcept {
  const std::size_t parent = endpoints_[endpoint].parent;
  return parent == ReceiveEndpoint::kNoParent ? endpoint : parent;
}

unsigned Node::connection_of(ImageEntry& image, std::size_t way, const wire::UdpEndpoint& source, std::int64_t now_ns) {
  if (endpoints_[way].parent == ReceiveEndpoint::kNoParent) return 0;
  const auto slot = static_cast<std::uint32_t>(way);
  const unsigned known = image.machine->find_connection(slot);
  return known < shm::kConnectionsMax ? known : image.machine->add_connection(slot, source, now_ns);
}

void Node::start_connections(ImageEntry& image, bool is_resumed, std::int64_t now_ns) {
  if (endpoints_[image.endpoint].arrivals == nullptr) return;
  if (!is_resumed) {
    const shm::ImageSlot::Wanted& wanted = image.slot->desired;
    image.machine->remove_connection(0, now_ns);
    if (!endpoints_[wanted.destination].is_removed) {
      static_cast<void>(connection_of(image, wanted.destination, {wanted.source_address, wanted.source_port}, now_ns));
    }
    return;
  }
  for (unsigned i = 0; i < shm::kConnectionsMax; ++i) {
    const shm::ConnectionState& connection = image.slot->observed.state.connections[i];
    if (connection.is_used != 0 && endpoints_[connection.endpoint].is_removed) image.machine->remove_connection(i, now_ns);
  }
}

void Node::put_in(ImageEntry& image, std::size_t way, const Datagram& datagram, std::int64_t now_ns) {
  const unsigned connection = connection_of(image, way, datagram.from, now_ns);
  if (!image.machine->has_sides()) {
    image.machine->insert(datagram.bytes, connection, now_ns);
    return;
  }
  const auto copies = [&image] {
    std::uint64_t sum = 0;
    for (const shm::ConnectionState& c : image.slot->observed.state.connections) sum += static_cast<std::uint64_t>(c.copies);
    return sum;
  };
  const std::uint64_t before = copies();
  const auto index = static_cast<std::uint32_t>(std::find_if(images_.begin(), images_.end(), [&](const ImageEntry& i) { return &i == &image; }) - images_.begin());
  image.machine->insert_side(datagram.bytes, connection, now_ns, *endpoints_[image.endpoint].arrivals, index);
  verdict_.faults.add(Fault::kCopy, copies() - before);
}

// 3.3: an explicit control address hears of us every second.
bool Node::register_at_control(std::int64_t now_ns) {
  bool has_worked = false;
  for (ReceiveEndpoint& e : endpoints_) {
    if (e.control.port == 0 || now_ns < e.next_register_ns || !e.dispatcher->has_interest()) continue;
    e.next_register_ns = now_ns + kSecond_ns;
    elicit_setup(e, 0, 0, e.control, now_ns);
    has_worked = true;
  }
  return has_worked;
}

// A new image is made of a stream that ended by one of its sides: not while the end is remembered, unless the data plane that did has died.
void Node::expect_no_echo(const SubscriberPlan& plan, std::int64_t now_ns) {
  for (const ImageEntry& image : images_) {
    const std::int64_t ended_ns = image.echo_until_ns - scenario_.image_liveness_ns;
    if (image.plan != &plan || now_ns >= image.echo_until_ns || ended_ns <= attached_ns_) continue;
    verdict_.fail("stream {}: heard again {} ms after its end", image.stream->plan.session_id, (now_ns - ended_ns) / kMillisecond_ns);
  }
}

// What a way brought goes on by the others.
bool Node::remove_ways(std::int64_t now_ns) {
  bool has_worked = false;
  for (std::size_t way = 0; way < endpoints_.size(); ++way) {
    ReceiveEndpoint& e = endpoints_[way];
    if (e.is_removed || now_ns < e.removed_ns) continue;
    e.is_removed = has_worked = true;
    verdict_.faults.add(Fault::kWayRemoved);
    for (ImageEntry& image : images_) {
      if (!image.machine || image.endpoint != e.parent) continue;
      const unsigned connection = image.machine->find_connection(static_cast<std::uint32_t>(way));
      if (connection < shm::kConnectionsMax) image.machine->remove_connection(connection, now_ns);
    }
  }
  return has_worked;
}

}  // namespace thalweg::sim
