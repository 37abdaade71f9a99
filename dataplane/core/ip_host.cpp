#include "dataplane/core/ip_host.hpp"

#include <algorithm>

#include "dataplane/base/assert.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::core {

namespace {

constexpr std::size_t kEchoMax = 1472;        // payload of an echo we answer: fits a standard MTU
constexpr std::size_t kUnreachableQuote = 8;  // bytes of the datagram quoted behind its IP header (RFC 792)
constexpr std::size_t kHeadersMax = wire::kEthernetHeaderLength + wire::kVlanTagLength + wire::kIpv4HeaderLength;
constexpr std::size_t kIcmpHeaderLength = 8;
constexpr std::size_t kIgmpMax = 1024;        // a report of as many records as igmp_host makes
constexpr std::uint8_t kTtl = 64;
constexpr std::uint8_t kCodePortUnreachable = 3;

Key key_of(std::uint32_t address) noexcept { return {0, address}; }

// Ports whose kernel speaks for them keep a list of IPv6 groups, too.
IgmpHost::Options mld_options(const IpHost::Options& options) noexcept {
  IgmpHost::Options mld = options.igmp;
  mld.is_ipv6 = true;
  mld.seed = ~mld.seed;
  return mld;
}

wire::Ipv6Address link_local_of(const wire::MacAddress& mac) noexcept {
  const auto& m = mac.bytes;
  return wire::Ipv6Address{{0xFE, 0x80, 0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(m[0] ^ 2U), m[1], m[2], 0xFF, 0xFE, m[3], m[4], m[5]}};
}

void finish_icmp(std::byte* icmp, std::size_t length) noexcept {
  store_be16(icmp + 2, 0);
  store_be16(icmp + 2, wire::checksum_fold(wire::checksum_add({icmp, length}, 0)));
}

}  // namespace

IpHost::IpHost(const Options& options, Output& output)
    : options_{options}, output_{output}, igmp_{options.igmp, *this}, mld_{mld_options(options), *this}, link_local_{link_local_of(options.mac)} {}

std::optional<wire::MacAddress> IpHost::resolve(std::uint32_t next_hop, std::int64_t now_ns) noexcept {
  if (wire::is_multicast_ipv4(next_hop)) return wire::multicast_mac(next_hop);
  if (wire::is_group_handle(next_hop)) return wire::multicast_mac(group_address(next_hop));
  if (next_hop == 0xFFFFFFFF) return wire::kBroadcastMac;
  Neighbour* neighbour = find(next_hop);
  if (neighbour == nullptr) {
    neighbour = add(next_hop, false);
    if (neighbour == nullptr) return std::nullopt;
    neighbour->next_request_ns = now_ns + kRequestInterval_ns;
    neighbour->requests = 1;
    request(*neighbour);
  }
  neighbour->asked_ns = now_ns;
  neighbour->is_stranger = false;
  if (!neighbour->is_known) return std::nullopt;
  return neighbour->mac;
}

bool IpHost::hold(std::uint32_t next_hop, rte_mbuf* frame) noexcept {
  Neighbour* const neighbour = find(next_hop);
  if (neighbour == nullptr || neighbour->waiting_count == kQueueMax) return false;
  neighbour->waiting[neighbour->waiting_count++] = frame;
  return true;
}

void IpHost::announce(std::int64_t now_ns) noexcept {
  if (options_.address != 0) {
    send_arp(wire::kBroadcastMac, {wire::ArpPacket::kRequest, options_.mac, options_.address, wire::MacAddress{}, options_.address});
  }
  igmp_.report_all(now_ns);
  if (options_.address6 != 0) announce6(now_ns);
}

bool IpHost::join(std::uint32_t group, std::int64_t now_ns) noexcept {
  begin_epoch();
  return membership_of(group).join(group, now_ns);
}

void IpHost::leave(std::uint32_t group, std::int64_t now_ns) noexcept {
  begin_epoch();
  membership_of(group).leave(group, now_ns);
}

bool IpHost::on_igmp(const wire::Ipv4View& ip, std::int64_t now_ns) noexcept {
  const auto message = ip.ttl == 1 ? wire::IgmpView::parse(ip.payload) : std::nullopt;
  return message && igmp_.on_message(*message, ip.destination, now_ns);
}

void IpHost::send_igmp(std::uint32_t destination, std::span<const std::byte> message) noexcept {
  constexpr std::size_t kRouterAlertLength = 4;
  std::array<std::byte, kHeadersMax + kRouterAlertLength + kIgmpMax> frame{};
  THALWEG_DCHECK(message.size() <= kIgmpMax);
  std::size_t at = put_ethernet(frame.data(), wire::multicast_mac(destination), wire::kEtherTypeIpv4);
  at += wire::build_ipv4(frame.data() + at, wire::kIpProtocolIgmp, 1, options_.address, destination, message.size(), true);
  std::memcpy(frame.data() + at, message.data(), message.size());
  output_.send_frame({frame.data(), std::max(at + message.size(), kFrameMin)});
}

bool IpHost::on_arp(std::span<const std::byte> payload, std::int64_t now_ns) noexcept {
  const auto arp = wire::ArpPacket::parse(payload);
  if (!arp || arp->sender_mac.is_multicast() || arp->sender_mac.is_zero() || arp->sender_mac == options_.mac) return false;
  if (arp->sender_ip == options_.address) return false;  // somebody else claims our address: never believed
  const bool is_for_us = arp->target_ip == options_.address;
  Neighbour* neighbour = nullptr;
  if (is_on_link(arp->sender_ip)) {
    neighbour = find(arp->sender_ip);
    if (neighbour == nullptr && is_for_us) neighbour = add(arp->sender_ip, true);  // whoever asks for us will soon be sent to
    if (neighbour != nullptr) learn(*neighbour, arp->sender_mac, now_ns);
  }
  if (arp->operation != wire::ArpPacket::kRequest || !is_for_us || !may_answer(neighbour, now_ns)) return false;
  send_arp(arp->sender_mac, {wire::ArpPacket::kReply, options_.mac, options_.address, arp->sender_mac, arp->sender_ip});
  ++statistics_.arp_replies;
  return true;
}

bool IpHost::on_icmp(const wire::EthernetView& ethernet, const wire::Ipv4View& ip, std::int64_t now_ns) noexcept {
  const auto icmp = wire::IcmpView::parse(ip.payload);
  if (!icmp || icmp->type != wire::kIcmpEchoRequest || ip.destination != options_.address) return false;
  if (ip.payload.size() > kEchoMax || !icmp_.take(now_ns)) return false;
  std::array<std::byte, kHeadersMax + kEchoMax> frame{};
  std::size_t at = put_ethernet(frame.data(), ethernet.source, wire::kEtherTypeIpv4);
  at += wire::build_ipv4(frame.data() + at, wire::kIpProtocolIcmp, kTtl, options_.address, ip.source, ip.payload.size(), false);
  std::byte* const reply = frame.data() + at;
  std::memcpy(reply, ip.payload.data(), ip.payload.size());
  store_le(reply, wire::kIcmpEchoReply);
  finish_icmp(reply, ip.payload.size());
  output_.send_frame({frame.data(), std::max(at + ip.payload.size(), kFrameMin)});
  ++statistics_.icmp_replies;
  return true;
}

bool IpHost::send_port_unreachable(const wire::EthernetView& ethernet, std::span<const std::byte> packet, std::int64_t now_ns) noexcept {
  if (!packet.empty() && std::to_integer<unsigned>(packet[0]) >> 4U == 6) return send_port_unreachable6(ethernet, packet, now_ns);
  const auto ip = wire::Ipv4View::parse(packet);
  if (ip.bad != wire::Ipv4View::Bad::kNone || ip.is_fragment) return false;
  if (ip.destination != options_.address || ethernet.destination.is_multicast()) return false;  // never answer a group or a broadcast
  if (ip.source == 0 || wire::is_multicast_ipv4(ip.source) || ip.source == 0xFFFFFFFF) return false;
  if (!icmp_.take(now_ns)) return false;
  const auto header_length = static_cast<std::size_t>(ip.payload.data() - packet.data());
  const std::size_t quoted = std::min(packet.size(), header_length + kUnreachableQuote);
  std::array<std::byte, kHeadersMax + kIcmpHeaderLength + 60 + kUnreachableQuote> frame{};
  std::size_t at = put_ethernet(frame.data(), ethernet.source, wire::kEtherTypeIpv4);
  at += wire::build_ipv4(frame.data() + at, wire::kIpProtocolIcmp, kTtl, options_.address, ip.source, kIcmpHeaderLength + quoted, false);
  std::byte* const icmp = frame.data() + at;
  store_le(icmp, wire::kIcmpUnreachable);
  store_le(icmp + 1, kCodePortUnreachable);
  std::memcpy(icmp + kIcmpHeaderLength, packet.data(), quoted);
  finish_icmp(icmp, kIcmpHeaderLength + quoted);
  output_.send_frame({frame.data(), std::max(at + kIcmpHeaderLength + quoted, kFrameMin)});
  ++statistics_.icmp_replies;
  return true;
}

void IpHost::tick(std::int64_t now_ns) noexcept {
  igmp_.tick(now_ns);
  mld_.tick(now_ns);
  for (std::uint32_t n = std::min(used_, kTickMax); n > 0; --n) {
    tick_at_ = tick_at_ + 1 < used_ ? tick_at_ + 1 : 0;
    if (neighbours_[tick_at_].is_used) tick_one(neighbours_[tick_at_], now_ns);
  }
}

void IpHost::tick_one(Neighbour& neighbour, std::int64_t now_ns) noexcept {
  // A handle lives as long as somebody looks its address up now and then.
  if (wire::is_handle(neighbour.address) && now_ns - neighbour.kept_ns >= kKeepInterval_ns) {
    neighbour.kept_ns = now_ns;
    static_cast<void>(options_.book->find(options_.book->address(neighbour.address), now_ns));
  }
  const bool is_fresh = neighbour.is_known && now_ns - neighbour.confirmed_ns < kReachable_ns;
  if (is_fresh) return;
  const bool is_wanted = neighbour.waiting_count > 0 || now_ns - neighbour.asked_ns < kUnused_ns;
  if (now_ns < neighbour.next_request_ns) return;
  if (!is_wanted || neighbour.requests >= kRequestsMax) {
    forget(neighbour);
    return;
  }
  // Whoever remembers the MAC asks again, which shows that it is still wanted.
  if (neighbour.is_known && neighbour.requests == 0) begin_epoch();
  ++neighbour.requests;
  neighbour.next_request_ns = now_ns + kRequestInterval_ns;
  request(neighbour);
}

void IpHost::discard_all() noexcept {
  for (std::uint32_t i = 0; i < used_; ++i) {
    Neighbour& neighbour = neighbours_[i];
    while (neighbour.waiting_count > 0) output_.discard(neighbour.waiting[--neighbour.waiting_count]);
  }
}

IpHost::Neighbour* IpHost::find(std::uint32_t address) noexcept {
  const std::uint32_t* const i = index_.find(key_of(address));
  return i == nullptr ? nullptr : &neighbours_[*i];
}

// In a storm this runs for each frame: no search. Strangers do not keep those out that we want.
IpHost::Neighbour* IpHost::add(std::uint32_t address, bool is_stranger) noexcept {
  const bool is_full = free_count_ == 0 && used_ == kNeighboursMax;
  if (is_full && (is_stranger || !forget_a_stranger())) return nullptr;
  const std::uint32_t i = free_count_ != 0 ? free_[--free_count_] : used_++;
  neighbours_[i] = Neighbour{};
  neighbours_[i].address = address;
  neighbours_[i].is_used = true;
  neighbours_[i].is_stranger = is_stranger;
  index_.insert(key_of(address), i);
  return &neighbours_[i];
}

// False: there is none among the next few.
bool IpHost::forget_a_stranger() noexcept {
  for (std::uint32_t n = std::min(used_, kTickMax); n > 0; --n) {
    stranger_at_ = stranger_at_ + 1 < used_ ? stranger_at_ + 1 : 0;
    if (!neighbours_[stranger_at_].is_used || !neighbours_[stranger_at_].is_stranger) continue;
    forget(neighbours_[stranger_at_]);
    return true;
  }
  return false;
}

void IpHost::forget(Neighbour& neighbour) noexcept {
  while (neighbour.waiting_count > 0) output_.discard(neighbour.waiting[--neighbour.waiting_count]);
  index_.erase(key_of(neighbour.address));
  if (neighbour.is_known) begin_epoch();
  neighbour.is_used = false;
  free_[free_count_++] = static_cast<std::uint16_t>(&neighbour - neighbours_.data());
}

void IpHost::learn(Neighbour& neighbour, const wire::MacAddress& mac, std::int64_t now_ns) noexcept {
  if (neighbour.is_known && neighbour.mac != mac) begin_epoch();
  if (!neighbour.is_known && neighbour.asked_ns == 0) neighbour.asked_ns = now_ns;
  neighbour.mac = mac;
  neighbour.is_known = true;
  neighbour.requests = 0;
  neighbour.confirmed_ns = now_ns;
  for (std::size_t i = 0; i < neighbour.waiting_count; ++i) output_.release(neighbour.waiting[i], mac);
  neighbour.waiting_count = 0;
}

void IpHost::request(const Neighbour& neighbour) noexcept {
  if (wire::is_handle(neighbour.address)) return solicit(neighbour);
  const wire::MacAddress to = neighbour.is_known ? neighbour.mac : wire::kBroadcastMac;  // a refresh disturbs nobody else
  send_arp(to, {wire::ArpPacket::kRequest, options_.mac, options_.address, wire::MacAddress{}, neighbour.address});
}

void IpHost::send_arp(const wire::MacAddress& to, const wire::ArpPacket& arp) noexcept {
  std::array<std::byte, kFrameMin + wire::kVlanTagLength> frame{};
  const std::size_t at = put_ethernet(frame.data(), to, wire::kEtherTypeArp);
  build(frame.data() + at, arp);
  output_.send_frame({frame.data(), kFrameMin});
  if (arp.operation == wire::ArpPacket::kRequest) ++statistics_.arp_requests;
}

std::size_t IpHost::put_ethernet(std::byte* p, const wire::MacAddress& to, std::uint16_t type) const noexcept {
  return wire::build_ethernet(p, to, options_.mac, type, options_.vlan);
}

bool IpHost::is_on_link(std::uint32_t address) const noexcept {
  if (options_.prefix_length == 0 || address == 0 || wire::is_multicast_ipv4(address)) return false;
  const std::uint32_t mask = ~std::uint32_t{0} << (32 - std::min<std::uint32_t>(options_.prefix_length, 32));
  return ((address ^ options_.address) & mask) == 0;
}

bool IpHost::Allowance::take(std::int64_t now_ns) noexcept {
  if (now_ns - second_ns_ >= kSecond_ns) {
    second_ns_ = now_ns;
    left_ = per_second_;
  }
  if (left_ == 0) return false;
  --left_;
  return true;
}

bool IpHost::may_answer(const Neighbour* neighbour, std::int64_t now_ns) noexcept {
  const bool is_known = neighbour != nullptr && !neighbour->is_stranger;
  if ((is_known ? replies_to_known_ : replies_to_others_).take(now_ns)) return true;
  ++statistics_.replies_limited;
  return false;
}

}  // namespace thalweg::core
