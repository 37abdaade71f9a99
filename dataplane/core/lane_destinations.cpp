// Multi-destination subscriptions (wire-protocol 5.6): an endpoint without a socket has the interests and the images, and each destination
// is an endpoint of its own that feeds them. All of them are on the parent's lane; frames of ports that another lane polls cross to it.
#include "dataplane/core/lane.hpp"

namespace thalweg::core {

using enum shm::LaneCounter;

void Lane::join_parent(Endpoint& child) noexcept {
  child.next_child = child.parent->first_child;
  child.parent->first_child = &child;
}

// What it brought goes on by the others; its connections end with it, and one that found no room has it now.
void Lane::leave_parent(Endpoint& child) noexcept {
  forget_images(*child.parent);
  Endpoint** at = &child.parent->first_child;
  while (*at != nullptr && *at != &child) at = &(*at)->next_child;
  if (*at != nullptr) *at = child.next_child;
  for (ImageEntry* const entry : owned_images_) {
    for (unsigned i = 0; i < shm::kConnectionsMax; ++i) {
      if (entry->transports[i] != &child) continue;
      entry->stream.remove_connection(i, last_turn_ns_);
      entry->transports[i] = nullptr;
      entry->destinations[i] = {};
      nudge(*entry);
    }
  }
}

void Lane::forget_images(Endpoint& home) noexcept {
  home.cached_image = nullptr;
  for (Endpoint* child = home.first_child; child != nullptr; child = child->next_child) child->cached_image = nullptr;
}

// The connection of an image that an endpoint's frames belong to; the first of them adds it (3.4). kConnectionsMax: there is no room for it.
unsigned Lane::connection_of(ImageEntry& entry, Endpoint& endpoint, const wire::UdpEndpoint& source, std::int64_t now_ns) noexcept {
  if (endpoint.parent == nullptr) return 0;
  const unsigned known = entry.stream.find_connection(endpoint.slot);
  if (known < shm::kConnectionsMax) return known;
  const unsigned added = entry.stream.add_connection(endpoint.slot, endpoint.remote.port != 0 ? endpoint.remote : source, now_ns);
  if (added < shm::kConnectionsMax) {
    entry.transports[added] = &endpoint;
    entry.destinations[added] = {};
  }
  return added;
}

void Lane::insert_from_destination(ImageEntry& entry, Endpoint& child, std::span<const std::byte> datagram, std::int64_t now_ns) noexcept {
  if (entry.stream.has_sides()) {
    entry.stream.insert_side(datagram, child.cached_connection, now_ns, *child.parent->arrivals, entry.index);
  } else {
    entry.stream.insert(datagram, child.cached_connection, now_ns);
  }
}

// After the image itself has started. A destination may have gone since: then its connection goes, too.
void Lane::start_connections(ImageEntry& entry, bool is_resumed, std::int64_t now_ns) noexcept {
  Endpoint& home = *entry.endpoint;
  if (!home.has_destinations()) {
    entry.transports[0] = &home;
    return;
  }
  const auto destination_at = [this, &home](std::uint32_t slot) noexcept -> Endpoint* {
    Endpoint* const endpoint = endpoint_at(slot);
    return endpoint != nullptr && endpoint->parent == &home ? endpoint : nullptr;
  };
  if (!is_resumed) {
    entry.stream.remove_connection(0, now_ns);
    const shm::ImageSlot::Wanted& wanted = entry.slot->desired;
    Endpoint* const first = destination_at(wanted.destination);
    if (first != nullptr) static_cast<void>(connection_of(entry, *first, {wanted.source_address, wanted.source_port}, now_ns));
    return;
  }
  for (unsigned i = 0; i < shm::kConnectionsMax; ++i) {
    const shm::ConnectionState& connection = entry.stream.state().connections[i];
    if (connection.is_used == 0) continue;
    entry.transports[i] = destination_at(connection.endpoint);
    if (entry.transports[i] == nullptr) entry.stream.remove_connection(i, now_ns);
  }
}

// ---- groups whose member is on another lane ----

// True: the frame is gone. Members that share a frame with others get copies of it.
bool Lane::cross_to_member(const Endpoint& member, const FrameRules& rules, rte_mbuf* frame, bool is_only) noexcept {
  if (is_only) return cross(member.lane, rules.port, frame, CrossingKind::kReceivedFor, member.slot);
  rte_mbuf* const copy = rte_pktmbuf_copy(frame, frame->pool, 0, frame->pkt_len);
  if (copy == nullptr) {
    counters_.add(kDropNoBuffer);
  } else if (!cross(member.lane, rules.port, copy, CrossingKind::kReceivedFor, member.slot)) {
    rte_pktmbuf_free(copy);
  }
  return false;
}

// The lane that polled it has found it good; the member may have gone meanwhile.
void Lane::take_for_member(rte_mbuf* frame, std::int64_t now_ns) noexcept {
  const FrameRules& rules = shared_.loop_rules[frame->port];   // nothing to check twice
  const std::span<const std::byte> bytes{rte_pktmbuf_mtod(frame, const std::byte*), frame->data_len};
  Endpoint* const member = endpoint_at(crossing_slot(frame));
  Datagram datagram;
  Checked checked = check_frame(rules, bytes, datagram);
  if (checked.verdict == Verdict::kUnusual) {
    Unusual unusual;
    checked = check_unusual(rules, bytes, unusual, datagram);
    if (checked.verdict == Verdict::kUnusual && unusual.ethernet.type == wire::kEtherTypeIpv6) {
      const wire::Ipv6View ip = wire::Ipv6View::parse(unusual.rest);
      checked = check_ipv6(rules, ip, datagram, now_ns);
      datagram.source.address = handle_of_peer(ip.source, now_ns);
    }
  }
  if (checked.verdict != Verdict::kDatagram || member == nullptr || member->group != datagram.destination) {
    counters_.add(kDropUnknownGroup);
  } else {
    hand_over(*member, datagram, *frame, now_ns);
  }
  rte_pktmbuf_free(frame);
}

}  // namespace thalweg::core
