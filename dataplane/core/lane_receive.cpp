// Frames in: validate, find the endpoint, hand to the stream. Each frame ends in exactly one place.
#include <rte_prefetch.h>
#include <rte_ring.h>

#include "dataplane/core/crossing.hpp"
#include "dataplane/core/lane.hpp"
#include "pmd/arrival.hpp"
#include "pmd/frame.hpp"

namespace thalweg::core {

using enum shm::LaneCounter;

namespace {

std::span<const std::byte> bytes_of(const rte_mbuf* frame) noexcept {
  return {rte_pktmbuf_mtod(frame, const std::byte*), frame->data_len};
}

// Headers and the first bytes of the payload, a few frames before they are looked at.
constexpr std::uint16_t kWarmAhead = 6;
void warm(const rte_mbuf& frame) noexcept {
  const auto* const p = rte_pktmbuf_mtod(&frame, const std::byte*);
  for (std::size_t line = 0; line < 3; ++line) rte_prefetch0(p + line * kCacheLine);
}

}  // namespace

unsigned Lane::receive(LanePort& context, std::int64_t now_ns) noexcept {
  rte_mbuf* frames[pmd::kBurstMax];
  pmd::Port& port = context.received_from();
  port.turn(now_ns);
  const std::uint16_t count = port.rx_burst(context.next_queue(), frames, pmd::kBurstMax);
  if (count == 0) return 0;
  counters_.add(kFramesReceived, count);
  for (std::uint16_t i = 0; i < std::min(count, kWarmAhead); ++i) warm(*frames[i]);
  const FrameRules& rules = shared_.frame_rules[context.options().index];
  for (std::uint16_t i = 0; i < count; ++i) {
    if (i + kWarmAhead < count) warm(*frames[i + kWarmAhead]);
    if (const Datagram* const datagram = flow_.find(rules, *frames[i])) {
      hand_over(flow_.endpoint(), *datagram, now_ns);
    } else if (!take_frame(rules, &context, frames[i], now_ns)) [[unlikely]] {
      frames[i] = nullptr;
    }
  }
  rte_pktmbuf_free_bulk(frames, count);
  return count;
}

unsigned Lane::receive_crossed(std::int64_t now_ns) noexcept {
  unsigned total = 0;
  for (std::size_t from = 0; from < shared_.crossings.size(); ++from) {
    rte_ring* const ring = shared_.crossings[from][options_.index];
    if (ring == nullptr) continue;
    rte_mbuf* frames[pmd::kBurstMax];
    const unsigned count = rte_ring_sc_dequeue_burst(ring, reinterpret_cast<void**>(frames), pmd::kBurstMax, nullptr);
    for (unsigned i = 0; i < count; ++i) {
      rte_mbuf* const frame = frames[i];
      if (crossing_kind(frame) == CrossingKind::kToSend) {
        send_crossed(frame, now_ns);
        continue;
      }
      if (crossing_kind(frame) == CrossingKind::kReceivedFor) {
        take_for_member(frame, now_ns);
        continue;
      }
      LanePort* const context = is_home(frame->port) ? context_of(frame->port) : nullptr;
      if (take_frame(shared_.frame_rules[frame->port], context, frame, now_ns)) rte_pktmbuf_free(frame);
    }
    total += count;
  }
  return total;
}

// Copies of what we sent to groups with members here.
unsigned Lane::receive_looped(std::int64_t now_ns) noexcept {
  return looped_.drain([this, now_ns](rte_mbuf* frame) {
    if (take_frame(shared_.loop_rules[frame->port], nullptr, frame, now_ns)) rte_pktmbuf_free(frame);
  });
}

// Of a frame of our own making.
std::uint32_t Lane::destination_of(const LanePort& context, const rte_mbuf& frame, std::int64_t now_ns) noexcept {
  const std::size_t tag = context.options().vlan != 0 ? wire::kVlanTagLength : 0;
  const std::byte* const ip = rte_pktmbuf_mtod(&frame, const std::byte*) + wire::kEthernetHeaderLength + tag;
  if (load_be16(ip - 2) != wire::kEtherTypeIpv6) return load_be32(ip + 16);
  shm::ScopedIpv6 address;
  std::memcpy(address.address.bytes.data(), ip + 24, address.address.bytes.size());
  return registry_.addresses.find(address, now_ns);
}

// A frame that a stream of another lane sends by a port of ours; only its destination MAC is missing.
void Lane::send_crossed(rte_mbuf* frame, std::int64_t now_ns) noexcept {
  LanePort* const context = context_of(frame->port);
  if (context == nullptr) {
    counters_.add(kDropNoRoute);
    rte_pktmbuf_free(frame);
    return;
  }
  const std::uint32_t destination = destination_of(*context, *frame, now_ns);
  if (wire::is_group(destination)) context->loop_to_members(destination, frame);
  if (!context->needs_arp()) {
    context->push_or_drop(frame);
    return;
  }
  const std::uint32_t next_hop = context->next_hop(destination);
  if (const auto mac = context->host().resolve(next_hop, now_ns)) {
    context->release(frame, *mac);
  } else if (!context->host().hold(next_hop, frame)) {
    context->discard(frame);
  }
}

bool Lane::take_frame(const FrameRules& rules, LanePort* context, rte_mbuf* frame, std::int64_t now_ns) noexcept {
  if (frame->nb_segs != 1 && rte_pktmbuf_linearize(frame) != 0) [[unlikely]] {
    counters_.add(kDropNoBuffer);
    return true;
  }
  Datagram datagram;
  Checked checked = check_frame(rules, bytes_of(frame), datagram);
  if (checked.verdict != Verdict::kDatagram) [[unlikely]] {
    Unusual unusual;
    if (checked.verdict == Verdict::kUnusual) checked = check_unusual(rules, bytes_of(frame), unusual, datagram);
    if (checked.verdict == Verdict::kDropped) {
      counters_.add(checked.reason);
      return true;
    }
    if (checked.verdict == Verdict::kUnusual && unusual.ethernet.type == wire::kEtherTypeIpv6) return take_ipv6(rules, context, unusual, frame, now_ns);
    if (checked.verdict == Verdict::kUnusual) {
      if (!is_home(rules.port)) return !cross(shared_.lane_of_port[rules.port], rules.port, frame);
      unusual.is_fragment ? take_fragment(rules, unusual, bytes_of(frame), now_ns) : take_unusual(context, unusual, now_ns);
      return true;
    }
  }
  return deliver(rules, context, datagram, frame, now_ns);
}

// True: the frame ends here.
bool Lane::take_ipv6(const FrameRules& rules, LanePort* context, const Unusual& unusual, rte_mbuf* frame, std::int64_t now_ns) noexcept {
  const wire::Ipv6View ip = wire::Ipv6View::parse(unusual.rest);
  if (ip.bad == wire::Ipv6View::Bad::kNone && ip.next_header != wire::kIpProtocolUdp) {
    if (ip.next_header == wire::kIpProtocolIcmpv6 && !is_home(rules.port)) return !cross(shared_.lane_of_port[rules.port], rules.port, frame);
    const bool is_taken = context != nullptr && context->needs_arp() && context->host().on_icmpv6(unusual.ethernet, ip, now_ns);
    if (!is_taken) counters_.add(kDropOtherProtocol);
    return true;
  }
  Datagram datagram;
  const Checked checked = check_ipv6(rules, ip, datagram, now_ns);
  if (checked.verdict == Verdict::kDropped) {
    counters_.add(checked.reason);
    return true;
  }
  datagram.packet = unusual.rest;
  // Who sends to nobody is not worth an entry in the book.
  if (!wire::is_group(datagram.destination.address) && look_up(rules, datagram.destination) == nullptr) {
    refuse(rules, context, datagram, frame, now_ns);
    return true;
  }
  datagram.source.address = handle_of_peer(ip.source, now_ns);
  if (datagram.source.address == 0) {
    counters_.add(kDropAddressLimit);
    return true;
  }
  return deliver(rules, context, datagram, frame, now_ns);
}

// A datagram goes the way of all others once its addresses are handles. All but that of its source is filled in.
Checked Lane::check_ipv6(const FrameRules& rules, const wire::Ipv6View& ip, Datagram& datagram, std::int64_t now_ns) noexcept {
  using Bad = wire::Ipv6View::Bad;
  if (ip.bad != Bad::kNone) return dropped(ip.bad == Bad::kFragment ? kDropIpFragment : kDropBadIpHeader);
  const auto udp = wire::parse_udp(ip);
  if (!udp) return dropped(wire::UdpView::parse(ip.payload) ? kDropBadUdpChecksum : kDropBadUdpHeader);
  const std::uint32_t destination = registry_.addresses.find({ip.destination, 0}, now_ns);
  const bool is_ours = wire::is_group(destination) || (destination != 0 && destination == rules.address6);
  if (!is_ours) return dropped(ip.destination.is_multicast() ? kDropUnknownGroup : kDropNotOurs);
  if (ip.source.is_multicast() || ip.source.is_unspecified()) return dropped(kDropBadIpHeader);
  datagram.source.port = udp->source_port;
  datagram.destination = {destination, udp->destination_port};
  datagram.payload = udp->payload;
  return Checked{.verdict = Verdict::kDatagram};
}

// 0: a stranger, and too many of these came lately.
std::uint32_t Lane::handle_of_peer(const wire::Ipv6Address& address, std::int64_t now_ns) noexcept {
  shm::AddressBook& book = registry_.addresses;
  const std::uint32_t known = book.find({address, 0}, now_ns);
  return known == 0 && strangers_.take(now_ns) ? book.enter({address, 0}, shm::AddressBook::By::kLearned, now_ns) : known;
}

void Lane::take_unusual(LanePort* context, const Unusual& unusual, std::int64_t now_ns) noexcept {
  if (context == nullptr || !context->needs_arp()) {
    counters_.add(kDropOtherProtocol);
    return;
  }
  if (unusual.ethernet.type == wire::kEtherTypeArp) {
    context->host().on_arp(unusual.rest, now_ns);
    return;
  }
  const wire::Ipv4View ip = wire::Ipv4View::parse(unusual.rest);
  const bool is_answered = ip.protocol == wire::kIpProtocolIcmp ? context->host().on_icmp(unusual.ethernet, ip, now_ns)
                                                                : ip.protocol == wire::kIpProtocolIgmp && context->host().on_igmp(ip, now_ns);
  if (!is_answered) counters_.add(kDropOtherProtocol);
}

Endpoint* Lane::look_up(const FrameRules& rules, const wire::UdpEndpoint& destination) noexcept {
  if (Endpoint** found = endpoints_.find(address_key(destination))) return *found;
  const bool is_ours = !rules.checks_mac || rules.is_own(destination.address);
  if (!is_ours) return nullptr;
  Endpoint** const any = endpoints_.find(address_key({wire::is_handle(destination.address) ? wire::kAnyIpv6 : 0, destination.port}));
  return any == nullptr ? nullptr : *any;
}

bool Lane::deliver(const FrameRules& rules, LanePort* context, const Datagram& datagram, rte_mbuf* frame, std::int64_t now_ns) noexcept {
  // Which rules apply decides who owns 0.0.0.0, so the port's own address is part of the cached question.
  const std::uint64_t address =
      std::uint64_t{datagram.destination.address} << 16 | datagram.destination.port | std::uint64_t{rules.port} << 48;
  if (address != cached_address_) {
    if (wire::is_group(datagram.destination.address)) {
      if (!is_home(rules.port)) return !cross(shared_.lane_of_port[rules.port], rules.port, frame);
      return deliver_to_group(rules, datagram, frame, now_ns);
    }
    Endpoint* const found = look_up(rules, datagram.destination);
    if (found == nullptr) [[unlikely]] {
      refuse(rules, context, datagram, frame, now_ns);
      return true;
    }
    cached_address_ = address;
    cached_endpoint_ = found;
  }
  Endpoint& endpoint = *cached_endpoint_;
  if (endpoint.lane != options_.index) [[unlikely]] return !cross(endpoint.lane, rules.port, frame);
  keep_flow(rules, *frame, datagram, endpoint);
  hand_over(endpoint, datagram, *frame, now_ns);
  return true;
}

// Every member gets it: members of a group are on the lane that polls its port, but for destinations of a stream that another lane has.
// With one member the flow cache knows the way. False: the frame went to another lane.
bool Lane::deliver_to_group(const FrameRules& rules, const Datagram& datagram, rte_mbuf* frame, std::int64_t now_ns) noexcept {
  const std::uint32_t own = wire::is_handle(datagram.destination.address) ? rules.address6 : rules.address;
  const std::uint32_t interface = rules.is_kernel ? pmd::read_interface(rte_pktmbuf_mtod(frame, const std::byte*)) : own;
  Endpoint** const first = endpoints_.find(group_key(interface, datagram.destination));
  if (first == nullptr) {
    counters_.add(kDropUnknownGroup);
    return true;
  }
  if (rules.hears_itself) {
    Endpoint** const sender = endpoints_.find(address_key(datagram.source));
    if (sender != nullptr && (*sender)->kind == shm::EndpointKind::kSend) {
      counters_.add(kDropOwnFrame);
      return true;
    }
  }
  const bool is_only = (*first)->next_member == nullptr;
  if (is_only && (*first)->lane == options_.index) keep_flow(rules, *frame, datagram, **first);
  for (Endpoint* member = *first; member != nullptr; member = member->next_member) {
    if (member->lane != options_.index) {
      if (cross_to_member(*member, rules, frame, is_only)) return false;
      continue;
    }
    hand_over(*member, datagram, *frame, now_ns);
  }
  return true;
}

// Of what is stamped each frame is looked at: its datagram does not tell when it came.
void Lane::keep_flow(const FrameRules& rules, const rte_mbuf& frame, const Datagram& datagram, Endpoint& endpoint) noexcept {
  if (!endpoint.is_stamped) flow_.keep(rules, frame, datagram, endpoint);
}

void Lane::hand_over(Endpoint& endpoint, const Datagram& datagram, const rte_mbuf& frame, std::int64_t now_ns) noexcept {
  if (endpoint.is_stamped) arrived_ns_ = pmd::arrival_of(frame);
  hand_over(endpoint, datagram, now_ns);
}

void Lane::hand_over(Endpoint& endpoint, const Datagram& datagram, std::int64_t now_ns) noexcept {
  counters_.add(kBytesReceived, datagram.payload.size());
  if (endpoint.kind == shm::EndpointKind::kReceive) {
    to_receiver(endpoint, datagram, now_ns);
  } else {
    to_sender(endpoint, datagram, now_ns);
  }
}

void Lane::refuse(const FrameRules& rules, LanePort* context, const Datagram& datagram, rte_mbuf* frame, std::int64_t now_ns) noexcept {
  if (rules.checks_mac && !rules.is_own(datagram.destination.address)) {
    counters_.add(kDropNotOurs);
    return;
  }
  counters_.add(kDropNoEndpoint);
  if (context == nullptr || !context->options().answers_unreachable) return;
  if (const auto ethernet = wire::EthernetView::parse(bytes_of(frame))) {
    context->host().send_port_unreachable(*ethernet, datagram.packet, now_ns);
  }
}

// True: the other lane has the frame.
bool Lane::cross(std::uint32_t lane, std::uint8_t port, rte_mbuf* frame, CrossingKind kind, std::uint32_t slot) noexcept {
  rte_ring* const ring = shared_.crossings.empty() ? nullptr : shared_.crossings[options_.index][lane];
  mark_crossing(frame, kind, slot);
  frame->port = port;
  if (ring != nullptr && rte_ring_sp_enqueue(ring, frame) == 0) {
    counters_.add(kFramesCrossed);
    return true;
  }
  counters_.add(kDropLaneRingFull);
  return false;
}

void Lane::to_receiver(Endpoint& endpoint, const Datagram& datagram, std::int64_t now_ns) noexcept {
  if (!wire::FrameHeader::is_valid(datagram.payload)) [[unlikely]] {
    counters_.add(kDropInvalidFrame);
    return;
  }
  const auto header = wire::FrameHeader::of_valid(datagram.payload);
  switch (header.type()) {
    case wire::FrameType::kPad:
    case wire::FrameType::kData: on_data(endpoint, datagram, header.flags(), now_ns); return;
    case wire::FrameType::kSetup: on_setup(endpoint, datagram, now_ns); return;
    case wire::FrameType::kRttMeasurement: on_receiver_rtt(endpoint, datagram, now_ns); return;
    default: counters_.add(kDropIgnoredType); return;
  }
}

void Lane::on_data(Endpoint& endpoint, const Datagram& datagram, std::uint8_t flags, std::int64_t now_ns) noexcept {
  const wire::DataView data{datagram.payload.data()};
  const auto stream = load_le<std::uint64_t>(datagram.payload.data() + 12);  // session id and stream id side by side
  if (endpoint.cached_image == nullptr || endpoint.cached_stream != stream) {
    const bool is_end = (flags & wire::flag::kEndOfStream) != 0;
    const auto decision = endpoint.home().dispatcher->on_data(data.stream_id(), data.session_id(), is_end, now_ns);
    switch (decision.what) {
      case proto::Dispatch::kImage: break;
      case proto::Dispatch::kElicitSetup:
        // 3.3: to where the datagram came from, else to the control address.
        elicit_setup(endpoint, endpoint.remote.port != 0 ? endpoint.remote : datagram.source, data.stream_id(), data.session_id(), now_ns);
        return;
      case proto::Dispatch::kFull: counters_.add(kDropImageLimit); return;
      case proto::Dispatch::kLateSide: counters_.add(kDropLateSide); return;
      case proto::Dispatch::kIgnore:
      case proto::Dispatch::kSessionLimit:
      case proto::Dispatch::kCreateImage: counters_.add(kDropNoInterest); return;
    }
    ImageEntry& found = tables_.images[decision.image];
    endpoint.cached_connection = connection_of(found, endpoint, datagram.source, now_ns);
    // What is stamped comes this way each time: all others need not ask.
    if (endpoint.is_stamped) return on_stamped_data(endpoint, found, datagram, now_ns);
    endpoint.cached_image = &found;
    endpoint.cached_stream = stream;
  }
  ImageEntry& image = *endpoint.cached_image;
  turn_to(image);
  if (endpoint.parent != nullptr) [[unlikely]] {
    insert_from_destination(image, endpoint, datagram.payload, now_ns);
  } else if (image.stream.insert(datagram.payload, 0, now_ns) == proto::Insert::kHeartbeat) {
    return remind(image);
  }
  wake(image);
}

// 5.11. Into a copy: the datagram may belong to other members of the group, too.
void Lane::on_stamped_data(Endpoint& endpoint, ImageEntry& image, const Datagram& datagram, std::int64_t now_ns) noexcept {
  const std::span<std::byte> copy = std::span{stamped_}.first(std::min(datagram.payload.size(), stamped_.size()));
  std::memcpy(copy.data(), datagram.payload.data(), copy.size());
  const shm::EndpointSlot::Wanted& wanted = registry_.endpoints[endpoint.home().slot].desired;
  const std::int64_t taken_ns = epoch_of(now_ns);
  const std::int64_t arrived_ns = arrived_ns_ != 0 ? arrived_ns_ : taken_ns;   // not every port knows
  if (wanted.media_receive_timestamp != shm::kNoTimestamp) proto::stamp_received(copy, wanted.media_receive_timestamp, arrived_ns);
  if (wanted.channel_receive_timestamp != shm::kNoTimestamp) proto::stamp_received(copy, wanted.channel_receive_timestamp, taken_ns);
  turn_to(image);
  if (endpoint.parent == nullptr) {
    image.stream.insert(copy, 0, now_ns);
  } else {
    insert_from_destination(image, endpoint, copy, now_ns);
  }
  wake(image);
}

void Lane::on_setup(Endpoint& endpoint, const Datagram& datagram, std::int64_t now_ns) noexcept {
  const auto setup = wire::Setup::parse(datagram.payload);
  if (!setup) {
    counters_.add(kDropInvalidFrame);
    return;
  }
  counters_.add(kSetupsReceived);
  const auto decision = endpoint.home().dispatcher->on_setup(setup->stream_id, setup->session_id, setup->initial_term_id, now_ns);
  switch (decision.what) {
    case proto::Dispatch::kImage: {
      ImageEntry& image = tables_.images[decision.image];
      turn_to(image);
      image.stream.on_setup(connection_of(image, endpoint, datagram.source, now_ns), endpoint.remote.port != 0 ? endpoint.remote : datagram.source, now_ns);
      remind(image);
      return;
    }
    case proto::Dispatch::kCreateImage: request_image(endpoint, datagram, *setup); return;
    case proto::Dispatch::kFull: counters_.add(kDropImageLimit); return;
    case proto::Dispatch::kSessionLimit: counters_.add(kDropSessionLimit); return;
    case proto::Dispatch::kLateSide: counters_.add(kDropLateSide); return;
    case proto::Dispatch::kIgnore:
    case proto::Dispatch::kElicitSetup: counters_.add(kDropNoInterest); return;
  }
}

// Asks the control plane for an image (3.4). The lane's slots bound what a flood of SETUPs can ask for.
void Lane::request_image(Endpoint& endpoint, const Datagram& datagram, const wire::Setup& setup) noexcept {
  for (std::uint32_t n = 0; setups_open_ < shm::kSetupsPerLane && n < shm::kSetupsPerLane; ++n) {   // a flood finds none and does not look
    setup_cursor_ = (setup_cursor_ + 1) % shm::kSetupsPerLane;
    shm::SetupSlot& slot = slot_.setups[setup_cursor_];
    if (slot.state.load(std::memory_order_acquire) != shm::SetupState::kFree) continue;
    slot.endpoint = endpoint.home().slot;
    slot.endpoint_generation = endpoint.home().generation;
    slot.destination = endpoint.parent != nullptr ? endpoint.slot : shm::kNoSlot;
    slot.source_address = datagram.source.address;
    slot.source_port = datagram.source.port;
    slot.flags = setup.flags;
    slot.session_id = setup.session_id;
    slot.stream_id = setup.stream_id;
    slot.initial_term_id = setup.initial_term_id;
    slot.active_term_id = setup.active_term_id;
    slot.term_offset = setup.term_offset;
    slot.term_length = setup.term_length;
    slot.mtu = setup.mtu;
    slot.ttl = setup.ttl;
    const std::int32_t our_ttl = endpoint.ttl != 0 ? endpoint.ttl : kTtlMulticast;
    if (endpoint.group.port != 0 && setup.ttl > our_ttl) counters_.add(kTtlAsymmetries);   // it hears the sender, which may not hear it (1.5)
    slot.state.store(shm::SetupState::kRequested, std::memory_order_release);  // pairs with the conductor's acquire
    ++setups_open_;
    ring(shm::SlotKind::kSetup, options_.index * shm::kSetupsPerLane + setup_cursor_);
    return;
  }
  endpoint.home().dispatcher->image_refused(setup.stream_id, setup.session_id);
  counters_.add(kDropImageLimit);
}

void Lane::elicit_setup(Endpoint& endpoint, const wire::UdpEndpoint& sender, std::int32_t stream_id, std::int32_t session_id,
                        std::int64_t now_ns) noexcept {
  wire::StatusMessage sm;
  sm.flags = wire::flag::kSmSendSetup;
  sm.session_id = session_id;
  sm.stream_id = stream_id;
  sm.receiver_id = endpoint.receiver_id;
  if (endpoint.has_group_tag) sm.group_tag = endpoint.group_tag;
  std::byte bytes[wire::StatusMessage::kLengthWithTag];
  wire::build(bytes, sm);
  Destination to = make_destination(endpoint, sender);
  if (to.port == nullptr) {
    counters_.add(kDropNoRoute);
  } else if (to.port->send(to, {bytes, sm.length()}, now_ns)) {
    counters_.add(kStatusMessagesSent);
  }
}

// An explicit control address is asked for SETUPs all the time: that is how a dynamic multi-destination sender learns of us (3.3).
void Lane::register_at_control(Endpoint& endpoint, std::int64_t now_ns) noexcept {
  constexpr std::int64_t kRegisterInterval_ns = kSecond_ns;
  if (!endpoint.has_control() || now_ns < endpoint.next_register_ns || !endpoint.home().dispatcher->has_interest()) return;
  endpoint.next_register_ns = now_ns + kRegisterInterval_ns;
  elicit_setup(endpoint, endpoint.remote, 0, 0, now_ns);
}

// A new subscription asks at once, and one that wants a single session asks for that.
void Lane::register_at_control(Endpoint& endpoint, const shm::InterestSlot& slot, std::int64_t now_ns) noexcept {
  for (Endpoint* child = endpoint.first_child; child != nullptr; child = child->next_child) register_at_control(*child, slot, now_ns);
  if (!endpoint.has_control()) return;
  if (slot.desired.has_session != 0) elicit_setup(endpoint, endpoint.remote, slot.desired.stream_id, slot.desired.session_id, now_ns);
  register_at_control(endpoint, now_ns);
}

// RTTM at a receiver (3.2): a request is answered, a reply is a sample. Only those for us, or for all (receiver id 0).
void Lane::on_receiver_rtt(Endpoint& endpoint, const Datagram& datagram, std::int64_t now_ns) noexcept {
  const auto rtt = wire::RttMeasurement::parse(datagram.payload);
  if (!rtt) {
    counters_.add(kDropInvalidFrame);
    return;
  }
  if (rtt->receiver_id != endpoint.receiver_id && rtt->receiver_id != 0) {
    counters_.add(kDropIgnoredType);
    return;
  }
  const auto decision = endpoint.home().dispatcher->find(rtt->stream_id, rtt->session_id);
  if (decision.what != proto::Dispatch::kImage) {
    counters_.add(kDropNoInterest);
    return;
  }
  ImageEntry& image = tables_.images[decision.image];
  if (!rtt->is_request) {
    image.stream.on_rtt_reply(*rtt, now_ns);
    return;
  }
  const unsigned connection = connection_of(image, endpoint, datagram.source, now_ns);
  if (connection == shm::kConnectionsMax) return;
  DestinationSink sink{destination_of(image, connection), now_ns};
  image.stream.on_rtt_request(*rtt, sink);
}

PublicationEntry* Lane::find_publication(Endpoint& endpoint, std::uint64_t stream) noexcept {
  if (endpoint.cached_publication != shm::kNoSlot && endpoint.cached_stream == stream) return &tables_.publications[endpoint.cached_publication];
  const std::uint32_t* const found = publications_by_stream_.find({endpoint.slot, stream});
  if (found == nullptr) return nullptr;
  endpoint.cached_stream = stream;
  endpoint.cached_publication = *found;
  return &tables_.publications[*found];
}

// 5.9: the peer of a request names the session that answers it. The control plane is told; not of each in a flood.
bool Lane::on_response_setup(PublicationEntry& entry, const Datagram& datagram, std::int64_t now_ns) noexcept {
  constexpr std::int64_t kBellInterval_ns = 10 * kMillisecond_ns;
  const auto setup = wire::ResponseSetup::parse(datagram.payload);
  if (!setup) return false;
  counters_.add(kResponseSetupsReceived);
  if ((entry.slot->desired.flags & shm::PublicationFlags::kHasResponse) == 0) {
    counters_.add(kDropIgnoredType);
    return true;
  }
  if (now_ns - entry.response_rung_ns < kBellInterval_ns) return true;
  entry.response_rung_ns = now_ns;
  auto& seen = entry.slot->observed;
  seen.response_session_id = setup->response_session_id;
  std::atomic_ref{seen.response_setups}.store(seen.response_setups + 1, std::memory_order_release);  // pairs with ResponseService::service()
  ring(shm::SlotKind::kPublication, entry.index);
  return true;
}

// Whoever asked for a SETUP last is the only one that gets what a response publication sends.
void Lane::answer_to(PublicationEntry& entry, const wire::UdpEndpoint& peer) noexcept {
  if (entry.peer.port != nullptr && entry.peer.remote == peer) return;
  const Destination made = make_destination(*entry.endpoint, peer);
  const bool fits = made.port != nullptr && made.port->fits(static_cast<std::size_t>(entry.slot->desired.mtu), peer.address);
  if (!fits) return counters_.add(kDropNoRoute);
  entry.peer = made;
  entry.stream.speak();
}

// Clients are told of the first ERR frame of a receiver (2.13).
void Lane::tell_error(PublicationEntry& entry, const wire::ErrorFrame& error, const wire::UdpEndpoint& source) noexcept {
  auto& seen = entry.slot->observed;
  seen.error_source_address = source.address;
  seen.error_source_port = source.port;
  seen.error_receiver_id = error.receiver_id;
  seen.error_group_tag = error.group_tag.value_or(-1);
  seen.error.code = error.code;
  const std::size_t length = std::min(error.text.size(), sizeof seen.error.text - 1);
  std::memcpy(seen.error.text, error.text.data(), length);
  seen.error.text[length] = '\0';
  std::atomic_ref{seen.error_frames}.store(seen.error_frames + 1, std::memory_order_release);  // after what it announces
  ring(shm::SlotKind::kPublication, entry.index);
}

// 5.5: a status message that is not rejected tells of a destination, whatever stream it names.
void Lane::hear_destination(Endpoint& endpoint, const wire::StatusMessage& sm, bool is_of_stream, const wire::UdpEndpoint& source, std::int64_t now_ns) noexcept {
  const bool tells_position = is_of_stream && (sm.flags & wire::flag::kSmSendSetup) == 0;
  endpoint.fan_out->hear(sm.receiver_id, source, tells_position, now_ns, [&](const wire::UdpEndpoint& remote) noexcept { return make_destination(endpoint, remote); });
}

// 2.11. `entry`: null when the stream is unknown here; with many destinations it is not for nothing then.
void Lane::on_status_message(Endpoint& endpoint, PublicationEntry* entry, const Datagram& datagram, std::int64_t now_ns) noexcept {
  const auto sm = wire::StatusMessage::parse(datagram.payload);
  if (!sm || (entry == nullptr && !sm->valid_for(wire::kTermLengthMax))) return counters_.add(kDropInvalidFrame);
  if (endpoint.fan_out != nullptr && (entry == nullptr || entry->stream.is_acceptable(*sm))) hear_destination(endpoint, *sm, entry != nullptr, datagram.source, now_ns);
  if (entry != nullptr) {
    if (entry->stream.is_response() && (sm->flags & wire::flag::kSmSendSetup) != 0) answer_to(*entry, datagram.source);
    entry->stream.on_status_message(*sm, datagram.source, now_ns);
  } else {
    counters_.add(endpoint.fan_out != nullptr ? kStatusMessagesReceived : kDropUnknownStream);
  }
}

// Status messages and the like. A connected socket hears its destination only (5.2), that of a group the members of the control group.
void Lane::to_sender(Endpoint& endpoint, const Datagram& datagram, std::int64_t now_ns) noexcept {
  if (endpoint.is_connected && datagram.source != endpoint.remote) [[unlikely]] {
    const bool is_to_group = endpoint.group.port != 0 && datagram.destination == endpoint.group;
    if (!is_to_group) {
      counters_.add(kDropUnexpectedSource);
      return;
    }
  }
  if (!wire::FrameHeader::is_valid(datagram.payload)) [[unlikely]] {
    counters_.add(kDropInvalidFrame);
    return;
  }
  const auto header = wire::FrameHeader::of_valid(datagram.payload);
  const wire::FrameType type = header.type();
  const bool is_control = type == wire::FrameType::kStatusMessage || type == wire::FrameType::kNak || type == wire::FrameType::kError ||
                          type == wire::FrameType::kRttMeasurement || type == wire::FrameType::kResponseSetup;
  if (!is_control) {
    counters_.add(kDropIgnoredType);
    return;
  }
  PublicationEntry* const entry = find_publication(endpoint, load_le<std::uint64_t>(datagram.payload.data() + 8));
  if (type == wire::FrameType::kStatusMessage) {
    if (entry != nullptr) turn_to(*entry);
    on_status_message(endpoint, entry, datagram, now_ns);
  } else if (entry == nullptr) {
    counters_.add(kDropUnknownStream);
  } else {
    turn_to(*entry);
    on_feedback(*entry, type, datagram, now_ns);
  }
  if (entry == nullptr) return;
  tell(*entry);
  remind(*entry);
}

// 2.12. Of many destinations the one that asked is answered: all of them for each request would be a lever for whoever makes requests up. Of those
// that were told by command one may be a group, or have other addresses than it is told by: then all are, within a limit.
void Lane::on_sender_rtt(PublicationEntry& entry, const wire::RttMeasurement& rtt, const wire::UdpEndpoint& source, std::int64_t now_ns) noexcept {
  FanOut* const fan_out = entry.destination->fan_out;
  if (fan_out == nullptr || !rtt.is_request) {
    DestinationSink sink = sink_of(entry, now_ns);
    const bool is_group = (entry.slot->desired.flags & shm::PublicationFlags::kGroup) != 0;
    return entry.stream.on_rtt_measurement(rtt, now_ns, sink, is_group ? 1 : 0);
  }
  if (Destination* const asker = fan_out->find(rtt.receiver_id, source)) {
    DestinationSink sink{*asker, now_ns};
    return entry.stream.on_rtt_measurement(rtt, now_ns, sink);
  }
  if (fan_out->is_dynamic()) return counters_.add(kDropUnexpectedSource);
  DestinationSink sink{*entry.destination, now_ns};
  entry.stream.on_rtt_measurement(rtt, now_ns, sink, std::max<std::uint32_t>(1, static_cast<std::uint32_t>(fan_out->size())));
}

// What receivers tell of a stream besides how far they are.
void Lane::on_feedback(PublicationEntry& entry, wire::FrameType type, const Datagram& datagram, std::int64_t now_ns) noexcept {
  DestinationSink sink = sink_of(entry, now_ns);
  bool is_valid = true;
  if (type == wire::FrameType::kNak) {
    const auto nak = wire::Nak::parse(datagram.payload);
    if (nak) entry.stream.on_nak(*nak, now_ns, sink);
    is_valid = nak.has_value();
  } else if (type == wire::FrameType::kError) {
    const auto error = wire::ErrorFrame::parse(datagram.payload);
    if (error && entry.stream.on_error(*error, now_ns)) tell_error(entry, *error, datagram.source);
    is_valid = error.has_value();
  } else if (type == wire::FrameType::kResponseSetup) {
    is_valid = on_response_setup(entry, datagram, now_ns);
  } else {
    const auto rtt = wire::RttMeasurement::parse(datagram.payload);
    if (rtt) on_sender_rtt(entry, *rtt, datagram.source, now_ns);
    is_valid = rtt.has_value();
  }
  if (!is_valid) counters_.add(kDropInvalidFrame);
}

}  // namespace thalweg::core
