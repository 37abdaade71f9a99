#include "dataplane/core/transmit.hpp"

#include <algorithm>

namespace thalweg::core {

namespace {

constexpr std::uint16_t kTxQueue = 0;   // of the port's home lane, the only one that sends there

constexpr std::uint8_t kTtlUnicast = 64;
constexpr std::size_t kPayloadMax = 65'507; // IPv4
static_assert(Reassembly::kPacketMax == pmd::kMtuMax);

IpHost::Options host_options(const LanePort::Options& options) {
  IpHost::Options host;
  host.mac = options.port->mac();
  host.address = options.address;
  host.prefix_length = options.prefix_length;
  host.address6 = options.port->capabilities().needs_arp ? options.address6 : 0;
  host.prefix_length6 = options.prefix_length6;
  host.book = options.book;
  if (options.vlan != 0) host.vlan = options.vlan;
  // Hosts must not answer a query at the same moment (RFC 3376 5.2): the MAC tells them apart.
  std::memcpy(&host.igmp.seed, host.mac.bytes.data(), host.mac.bytes.size());
  host.igmp.is_silent = !options.port->capabilities().needs_arp;
  return host;
}

// What fits behind the IP header of one frame: in its buffer, and in the MTU where a wire has one.
std::size_t piece_max(const LanePort::Options& options, const FramePool& frames) noexcept {
  const std::size_t room = std::min(frames.frame_bytes() - sizeof(wire::UdpFrameTemplate), kPayloadMax) + wire::kUdpHeaderLength;
  const bool has_mtu = options.received_from->capabilities().needs_arp;   // the kernel cuts datagrams of its sockets itself
  return has_mtu ? std::min<std::size_t>(room, options.mtu - wire::kIpv4HeaderLength) : room;
}

}  // namespace

bool FramePool::refill() noexcept {
  if (rte_pktmbuf_alloc_bulk(pool_, cache_.data(), kBulk) != 0) return false;
  count_ = kBulk;
  for (std::uint32_t i = kBulk - kAhead; i < kBulk; ++i) warm(*cache_[i]);
  return true;
}

unsigned TxStage::flush() noexcept {
  has_refused_ = false;
  std::uint16_t sent = 0;
  while (sent < count_) {
    const auto offered = static_cast<std::uint16_t>(std::min<int>(count_ - sent, pmd::kBurstMax));
    const std::uint16_t taken = port_->tx_burst(queue_, frames_.data() + sent, offered);
    sent = static_cast<std::uint16_t>(sent + taken);
    if (taken < offered) {
      counters_.add(shm::LaneCounter::kShortSends);
      break;
    }
  }
  if (sent == 0) return 0;
  counters_.add(shm::LaneCounter::kFramesSent, sent);
  count_ = static_cast<std::uint16_t>(count_ - sent);
  std::memmove(frames_.data(), frames_.data() + sent, count_ * sizeof(rte_mbuf*));
  return sent;
}

LanePort::LanePort(const Options& options, FramePool& frames, proto::LaneCounters counters)
    : options_{options},
      queue_{options.first_queue},
      frames_{frames},
      counters_{counters},
      stage_{*options.port, kTxQueue, counters},
      needs_arp_{options.port->capabilities().needs_arp},
      piece_max_{piece_max(options, frames)},
      payload_max_{options.has_ip_fragments ? Reassembly::kPayloadMax - wire::kUdpHeaderLength : piece_max_ - wire::kUdpHeaderLength},
      host_{host_options(options), *this} {
  if (!options.has_ip_fragments || options.datagram_pool == nullptr) return;
  Reassembly::Buffers& buffers = *this;
  reassembly_ = std::make_unique<Reassembly>(buffers);
}

Destination LanePort::make_destination(const wire::UdpEndpoint& source, const wire::UdpEndpoint& remote, std::uint8_t ttl) noexcept {
  const bool is_group = wire::is_group(remote.address);
  wire::UdpFrameTemplate::Options header;
  header.source_mac = options_.port->mac();
  header.source = source;
  header.destination = remote;
  header.ttl = !is_group ? kTtlUnicast : ttl != 0 ? ttl : kTtlMulticast;
  if (options_.vlan != 0) header.vlan = options_.vlan;
  Destination d;
  d.header = wire::UdpFrameTemplate{header};
  d.port = this;
  d.source = source;
  d.remote = remote;
  d.next_hop = next_hop(remote.address);
  d.ttl = header.ttl;
  return d;
}

bool LanePort::send_unresolved(Destination& destination, std::span<const std::byte> payload, std::int64_t now_ns) noexcept {
  if (is_ipv6_frame(destination.remote.address)) return send_ipv6(destination, payload, now_ns);
  std::optional<wire::MacAddress> mac = wire::MacAddress{};  // ports without ARP do not look at it
  if (needs_arp_) mac = host_.resolve(destination.next_hop, now_ns);
  const bool is_whole = frames_for(payload.size()) == 1;
  if (mac) {
    destination.header.set_destination_mac(*mac);
    // A group with members here comes this way with every frame, and so does all that may have to be cut; others until something changes.
    const bool has_members = options_.loop != nullptr && destination.is_looped && host_.has_group(destination.remote.address);
    if (!is_whole) return send_fragments(destination, payload, has_members);
    if (has_members || options_.has_ip_fragments) return send_remembering_nothing(destination, payload, has_members);
    destination.epoch = host_.epoch();
    return send(destination, payload, now_ns);
  }
  if (!is_whole) {  // the few frames that wait for a neighbour are not for pieces of a datagram
    counters_.add(shm::LaneCounter::kDropUnresolved);
    return true;
  }
  rte_mbuf* const frame = build(destination, payload, [](std::byte*) {});
  if (frame == nullptr) return false;
  if (!host_.hold(destination.next_hop, frame)) discard(frame);
  return true;  // to the stream it is a datagram that may be lost
}

bool LanePort::send_as(Destination& destination, std::span<const std::byte> payload, const StreamIds& ids, std::int64_t now_ns) noexcept {
  if (destination.epoch != host_.epoch()) [[unlikely]] {
    std::array<std::byte, kPayloadMax> copy;   // rare, and the thread's stack has room
    std::memcpy(copy.data(), payload.data(), payload.size());
    rewrite(copy.data(), payload.size(), ids);
    return send_unresolved(destination, std::span{copy}.first(payload.size()), now_ns);
  }
  if (!stage_.has_room()) [[unlikely]] return false;
  rte_mbuf* const frame = build(destination, payload, [&](std::byte* datagram) { rewrite(datagram, payload.size(), ids); });
  if (frame == nullptr) [[unlikely]] return false;
  stage_.push(frame);
  return true;
}

rte_mbuf* SharedPayload::fill(FramePool& frames) noexcept {
  rte_mbuf* const body = frames.take();
  if (body == nullptr) return nullptr;
  auto* const out = rte_pktmbuf_mtod(body, std::byte*);
  std::memcpy(out, payload_.data(), payload_.size());
  if (ids_ != nullptr) rewrite(out, payload_.size(), *ids_);
  body->data_len = static_cast<std::uint16_t>(payload_.size());
  body->pkt_len = static_cast<std::uint32_t>(payload_.size());
  return body_ = body;
}

bool LanePort::send_shared(Destination& destination, SharedPayload& shared, std::int64_t now_ns) noexcept {
  if (destination.epoch != host_.epoch()) [[unlikely]] {
    if (shared.ids() != nullptr) return send_as(destination, shared.payload(), *shared.ids(), now_ns);
    return send_unresolved(destination, shared.payload(), now_ns);
  }
  if (!stage_.has_room()) [[unlikely]] return false;
  rte_mbuf* const body = shared.body(frames_);
  rte_mbuf* const head = body == nullptr ? nullptr : frames_.take();
  if (head == nullptr) [[unlikely]] {
    counters_.add(shm::LaneCounter::kDropNoBuffer);
    return false;
  }
  destination.header.write(rte_pktmbuf_mtod(head, std::byte*), shared.size());
  head->data_len = static_cast<std::uint16_t>(destination.header.length());
  head->pkt_len = static_cast<std::uint32_t>(destination.header.length() + shared.size());
  head->nb_segs = 2;
  head->next = body;
  rte_mbuf_refcnt_update(body, 1);
  stage_.push(head);
  return true;
}

bool LanePort::send_remembering_nothing(Destination& destination, std::span<const std::byte> payload, bool has_members) noexcept {
  destination.epoch = 0;
  if (!stage_.has_room()) return false;
  rte_mbuf* const frame = build(destination, payload, [](std::byte*) {});
  if (frame == nullptr) return false;
  if (has_members) loop_to_members(destination.remote.address, frame);
  stage_.push(frame);
  return true;
}

// Headers are made for each frame: there is no template. UDP over IPv6 has a checksum whatever the port does otherwise (RFC 8200 8.1).
bool LanePort::send_ipv6(const Destination& destination, std::span<const std::byte> payload, std::int64_t now_ns) noexcept {
  if (!fits(payload.size(), destination.remote.address)) {
    counters_.add(shm::LaneCounter::kDropNoRoute);
    return true;
  }
  if (!stage_.has_room()) return false;
  const auto mac = needs_arp_ ? host_.resolve(destination.next_hop, now_ns) : std::optional{wire::MacAddress{}};   // who lets it cross finds out
  rte_mbuf* const frame = frames_.take();
  if (frame == nullptr) {
    counters_.add(shm::LaneCounter::kDropNoBuffer);
    return false;
  }
  auto* const out = rte_pktmbuf_mtod(frame, std::byte*);
  const wire::Ipv6Address source = options_.book->address(destination.source.address).address;
  const wire::Ipv6Address remote = options_.book->address(destination.remote.address).address;
  const std::size_t length = wire::kUdpHeaderLength + payload.size();
  const auto vlan = options_.vlan != 0 ? std::optional{options_.vlan} : std::nullopt;
  std::byte* at = out + wire::build_ethernet(out, mac.value_or(wire::MacAddress{}), options_.port->mac(), wire::kEtherTypeIpv6, vlan);
  at += wire::build_ipv6(at, wire::kIpProtocolUdp, destination.ttl, source, remote, length, false);
  store_be16(at, destination.source.port);
  store_be16(at + 2, destination.remote.port);
  store_be16(at + 4, static_cast<std::uint16_t>(length));
  store_be16(at + 6, 0);
  std::memcpy(at + wire::kUdpHeaderLength, payload.data(), payload.size());
  store_be16(at + 6, wire::udp_checksum(source, remote, {at, length}));
  frame->data_len = static_cast<std::uint16_t>(at + length - out);
  frame->pkt_len = frame->data_len;
  if (!mac) {
    if (!host_.hold(destination.next_hop, frame)) discard(frame);
    return true;   // to the stream it is a datagram that may be lost
  }
  if (options_.loop != nullptr && destination.is_looped && host_.has_group(destination.remote.address)) loop_to_members(destination.remote.address, frame);
  stage_.push(frame);
  return true;
}

// All pieces or none. The identification is 16 bits and comes around quickly (RFC 4963): pieces of two datagrams may be taken for one, so
// there is a UDP checksum whatever the port does otherwise.
bool LanePort::send_fragments(const Destination& destination, std::span<const std::byte> payload, bool has_members) noexcept {
  std::array<rte_mbuf*, TxStage::kCapacity> pieces;
  const std::size_t count = frames_for(payload.size());
  if (count > pieces.size() || !stage_.has_room_for(count)) return false;
  for (std::size_t i = 0; i < count; ++i) {
    pieces[i] = frames_.take();
    if (pieces[i] != nullptr) continue;
    rte_pktmbuf_free_bulk(pieces.data(), static_cast<unsigned>(i));
    counters_.add(shm::LaneCounter::kDropNoBuffer);
    return false;
  }
  const std::size_t total = wire::kUdpHeaderLength + payload.size();
  wire::Ipv4Fragment fragment{.identification = next_identification_++};
  for (std::size_t i = 0; i < count; ++i, fragment.offset += fragment.length) {
    fragment.length = std::min(piece_bytes(), total - fragment.offset);
    fragment.has_more = fragment.offset + fragment.length < total;
    auto* const out = rte_pktmbuf_mtod(pieces[i], std::byte*);
    const std::size_t header = destination.header.write_fragment(out, payload, fragment);
    const std::size_t from = fragment.offset == 0 ? 0 : fragment.offset - wire::kUdpHeaderLength;
    const std::size_t length = fragment.length - (fragment.offset == 0 ? wire::kUdpHeaderLength : 0);
    std::memcpy(out + header, payload.data() + from, length);
    pieces[i]->data_len = static_cast<std::uint16_t>(header + length);
    pieces[i]->pkt_len = static_cast<std::uint32_t>(header + length);
    if (has_members) loop_to_members(destination.remote.address, pieces[i]);
    stage_.push(pieces[i]);
  }
  counters_.add(shm::LaneCounter::kFragmentsSent, count);
  return true;
}

Reassembly::Buffer LanePort::take() noexcept {
  rte_mbuf* const frame = rte_pktmbuf_alloc(options_.datagram_pool);
  return {frame, frame == nullptr ? nullptr : rte_pktmbuf_mtod(frame, std::byte*)};
}

void LanePort::give_back(rte_mbuf* frame) noexcept { rte_pktmbuf_free(frame); }

void LanePort::loop_to_members(std::uint32_t group, rte_mbuf* frame) noexcept {
  if (options_.loop == nullptr || !host_.has_group(group)) return;
  rte_mbuf* const copy = options_.loop->has_room() ? rte_pktmbuf_copy(frame, frames_.pool(), 0, UINT32_MAX) : nullptr;
  if (copy == nullptr) {
    counters_.add(shm::LaneCounter::kDropNoBuffer);
    return;
  }
  copy->port = static_cast<std::uint16_t>(options_.index);
  options_.loop->push(copy);
  counters_.add(shm::LaneCounter::kFramesLooped);
}

void LanePort::send_frame(std::span<const std::byte> bytes) noexcept {
  rte_mbuf* const frame = frames_.take();
  if (frame == nullptr) {
    counters_.add(shm::LaneCounter::kDropNoBuffer);
    return;
  }
  std::memcpy(rte_pktmbuf_mtod(frame, std::byte*), bytes.data(), bytes.size());
  frame->data_len = static_cast<std::uint16_t>(bytes.size());
  frame->pkt_len = static_cast<std::uint32_t>(bytes.size());
  push_or_drop(frame);
}

void LanePort::release(rte_mbuf* frame, const wire::MacAddress& mac) noexcept {
  std::memcpy(rte_pktmbuf_mtod(frame, std::byte*), mac.bytes.data(), mac.bytes.size());
  push_or_drop(frame);
}

void LanePort::discard(rte_mbuf* frame) noexcept {
  counters_.add(shm::LaneCounter::kDropUnresolved);
  rte_pktmbuf_free(frame);
}

void LanePort::push_or_drop(rte_mbuf* frame) noexcept {
  if (stage_.has_room()) {
    stage_.push(frame);
    return;
  }
  counters_.add(shm::LaneCounter::kDropTxFull);
  rte_pktmbuf_free(frame);
}

void LanePort::tick(std::int64_t now_ns) noexcept {
  if (!needs_arp_) return;
  if (reassembly_) {
    reassembly_->tick(now_ns);
    counters_.add(shm::LaneCounter::kReassembliesGivenUp, reassembly_->given_up() - counted_given_up_);
    counted_given_up_ = reassembly_->given_up();
  }
  host_.tick(now_ns);
  const IpHost::Statistics now = host_.statistics();
  counters_.add(shm::LaneCounter::kArpRequestsSent, now.arp_requests - counted_.arp_requests);
  counters_.add(shm::LaneCounter::kArpRepliesSent, now.arp_replies - counted_.arp_replies);
  counters_.add(shm::LaneCounter::kNeighbourRepliesLimited, now.replies_limited - counted_.replies_limited);
  counters_.add(shm::LaneCounter::kIcmpRepliesSent, now.icmp_replies - counted_.icmp_replies);
  counters_.add(shm::LaneCounter::kIgmpReportsSent, now.igmp.reports - counted_.igmp.reports);
  counters_.add(shm::LaneCounter::kIgmpGroupsLeft, now.igmp.leaves - counted_.igmp.leaves);
  counters_.add(shm::LaneCounter::kIgmpQueriesReceived, now.igmp.queries - counted_.igmp.queries);
  counters_.add(shm::LaneCounter::kNdSolicitationsSent, now.solicitations - counted_.solicitations);
  counters_.add(shm::LaneCounter::kNdAdvertisementsSent, now.advertisements - counted_.advertisements);
  counters_.add(shm::LaneCounter::kMldReportsSent, now.mld.reports - counted_.mld.reports);
  counters_.add(shm::LaneCounter::kMldGroupsLeft, now.mld.leaves - counted_.mld.leaves);
  counters_.add(shm::LaneCounter::kMldQueriesReceived, now.mld.queries - counted_.mld.queries);
  counted_ = now;
}

}  // namespace thalweg::core
