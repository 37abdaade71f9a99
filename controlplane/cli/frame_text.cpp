#include "controlplane/cli/frame_text.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "dataplane/base/units.hpp"
#include "dataplane/wire/frames.hpp"
#include "dataplane/wire/ipv6.hpp"

namespace thalweg::cli {
namespace {

using Bytes = std::span<const std::byte>;

std::string text_of(const wire::MacAddress& mac) {
  std::string text;
  for (const std::uint8_t byte : mac.bytes) text += fmt::format("{}{:02x}", text.empty() ? "" : ":", byte);
  return text;
}

FrameText other(std::string text) { return {.type = "OTHER", .text = std::move(text)}; }
std::string tag_text(const std::optional<std::int64_t>& tag) { return tag ? fmt::format(", group tag {}", *tag) : std::string{}; }

std::string flags_of_data(std::uint8_t flags) {
  std::string text;
  if ((flags & wire::flag::kUnfragmented) != wire::flag::kUnfragmented) {
    if ((flags & wire::flag::kBegin) != 0) text += ", begins a message";
    else if ((flags & wire::flag::kEnd) != 0) text += ", ends a message";
    else text += ", inside a message";
  }
  if ((flags & wire::flag::kEndOfStream) != 0) text += ", end of stream";
  if ((flags & wire::flag::kRevoked) != 0) text += ", revoked";
  return text;
}

// The frames of a datagram stand one behind the other, aligned (wire-protocol 1.4); a length of 0 is a heartbeat and the last, as is a frame that
// is longer than what is left of it.
void add_data(Bytes datagram, std::vector<FrameText>& frames) {
  for (std::size_t at = 0; at + wire::kDataHeaderLength <= datagram.size();) {
    const wire::DataView data{datagram.data() + at};
    const std::int32_t length = data.frame_length();
    const bool is_heartbeat = length == 0;
    const std::string_view type = data.type() == wire::FrameType::kPad ? "PAD" : is_heartbeat ? "HEARTBEAT" : "DATA";
    if (length < 0 || (!is_heartbeat && length < wire::kDataHeaderLength)) return frames.push_back(other(fmt::format("DATA with a length of {}", length)));
    frames.push_back({type, data.session_id(), data.stream_id(),
                      fmt::format("term {}, offset {}, {} bytes{}", data.term_id(), data.term_offset(), std::max(length - wire::kDataHeaderLength, 0), flags_of_data(data.flags()))});
    if (is_heartbeat || static_cast<std::size_t>(length) > datagram.size() - at) return;
    at += static_cast<std::size_t>(wire::align_frame(length));
  }
}

FrameText setup_text(const wire::Setup& s) {
  return {"SETUP", s.session_id, s.stream_id,
          fmt::format("terms of {}, initial term {}, active term {}, offset {}, mtu {}, ttl {}{}{}", format_size(s.term_length), s.initial_term_id, s.active_term_id, s.term_offset, s.mtu, s.ttl,
                      (s.flags & wire::flag::kSetupSendResponse) != 0 ? ", wants a response" : "", (s.flags & wire::flag::kSetupGroup) != 0 ? ", group" : "")};
}

FrameText status_text(const wire::StatusMessage& s) {
  return {"SM", s.session_id, s.stream_id,
          fmt::format("term {}, offset {}, window {}, receiver {}{}{}{}", s.consumption_term_id, s.consumption_term_offset, s.window_length, s.receiver_id, tag_text(s.group_tag),
                      (s.flags & wire::flag::kSmSendSetup) != 0 ? ", wants a SETUP" : "", (s.flags & wire::flag::kSmEndOfStream) != 0 ? ", end of stream" : "")};
}

FrameText nak_text(const wire::Nak& n) { return {"NAK", n.session_id, n.stream_id, fmt::format("term {}, offset {}, {} bytes", n.term_id, n.term_offset, n.length)}; }

// What peers write goes to a terminal: no control characters.
std::string printable(Bytes text) {
  std::string out;
  for (const std::byte byte : text) {
    const char c = std::to_integer<char>(byte);
    out += c >= ' ' && c <= '~' ? c : '?';
  }
  return out;
}

FrameText error_text(const wire::ErrorFrame& e) {
  return {"ERR", e.session_id, e.stream_id, fmt::format("code {}, receiver {}{}: {}", e.code, e.receiver_id, tag_text(e.group_tag), printable(e.text))};
}

FrameText rtt_text(const wire::RttMeasurement& r) {
  return {"RTTM", r.session_id, r.stream_id,
          fmt::format("{}, echo {}, delta {} ns, receiver {}", r.is_request ? "request" : "reply", r.echo_timestamp_ns, r.reception_delta_ns, r.receiver_id)};
}

FrameText response_text(const wire::ResponseSetup& r) { return {"RSP_SETUP", r.session_id, r.stream_id, fmt::format("response session {}", r.response_session_id)}; }

FrameText names_text(Bytes datagram) {
  std::string text;
  for (std::size_t at = wire::FrameHeader::kLength; at < datagram.size();) {
    const auto entry = wire::ResolutionEntry::parse(datagram.subspan(at));
    if (!entry) break;
    text += fmt::format("{}{}{} {} ms ago", text.empty() ? "" : "; ", printable(entry->name), entry->is_self ? " (itself)" : "", entry->age_ms);
    at += entry->length();
  }
  return {"RES", std::nullopt, std::nullopt, text};
}

template <typename Frame, typename Text>
FrameText parsed(Bytes datagram, Text text) {
  const auto frame = Frame::parse(datagram);
  return frame ? text(*frame) : other("a frame with impossible values");
}

void add_udp(Bytes datagram, std::vector<FrameText>& frames) {
  const auto header = wire::FrameHeader::parse(datagram);
  if (!header) return frames.push_back(other(fmt::format("UDP, {} bytes, no frame of the protocol", datagram.size())));
  switch (header->type()) {
    case wire::FrameType::kPad:
    case wire::FrameType::kData: return add_data(datagram, frames);
    case wire::FrameType::kNak: return frames.push_back(parsed<wire::Nak>(datagram, nak_text));
    case wire::FrameType::kStatusMessage: return frames.push_back(parsed<wire::StatusMessage>(datagram, status_text));
    case wire::FrameType::kError: return frames.push_back(parsed<wire::ErrorFrame>(datagram, error_text));
    case wire::FrameType::kSetup: return frames.push_back(parsed<wire::Setup>(datagram, setup_text));
    case wire::FrameType::kRttMeasurement: return frames.push_back(parsed<wire::RttMeasurement>(datagram, rtt_text));
    case wire::FrameType::kResolution: return frames.push_back(names_text(datagram));
    case wire::FrameType::kResponseSetup: return frames.push_back(parsed<wire::ResponseSetup>(datagram, response_text));
  }
  frames.push_back(other("a frame of unknown type"));
}

void add_ipv4(Bytes packet, DatagramText& out) {
  const wire::Ipv4View ip = wire::Ipv4View::parse(packet);
  if (ip.bad != wire::Ipv4View::Bad::kNone) return out.frames.push_back(other("IPv4, cut short or damaged"));
  out.source = format_ipv4(ip.source);
  out.destination = format_ipv4(ip.destination);
  if (ip.is_fragment) return out.frames.push_back(other(fmt::format("IP fragment {} of datagram {}, {} bytes", ip.fragment_offset, ip.identification, ip.payload.size())));
  if (ip.protocol == wire::kIpProtocolIcmp) return out.frames.push_back({.type = "ICMP", .text = fmt::format("{} bytes", ip.payload.size())});
  if (ip.protocol == wire::kIpProtocolIgmp) return out.frames.push_back({.type = "IGMP", .text = fmt::format("{} bytes", ip.payload.size())});
  const auto udp = ip.protocol == wire::kIpProtocolUdp ? wire::UdpView::parse(ip.payload) : std::nullopt;
  if (!udp) return out.frames.push_back(other(fmt::format("IP protocol {}, {} bytes", ip.protocol, ip.payload.size())));
  out.source = format_endpoint(ip.source, udp->source_port);
  out.destination = format_endpoint(ip.destination, udp->destination_port);
  add_udp(udp->payload, out.frames);
}

FrameText text_of_icmpv6(const wire::Ipv6View& ip) {
  const auto icmp = wire::Icmpv6View::parse(ip);
  if (!icmp) return other("ICMPv6, damaged");
  if (const auto neighbour = wire::NeighbourMessage::parse(ip, *icmp)) {
    const std::string target = wire::format_ipv6(neighbour->target);
    if (!neighbour->is_advertisement) return {.type = "ND", .text = fmt::format("who has {}? {} asks", target, wire::format_ipv6(ip.source))};
    return {.type = "ND", .text = neighbour->mac ? fmt::format("{} is at {}", target, text_of(*neighbour->mac)) : fmt::format("{} is there", target)};
  }
  if (wire::ListenerQuery::parse(ip, *icmp) || icmp->type == wire::Icmpv6View::kListenerReport || icmp->type == wire::Icmpv6View::kListenerReportV2 ||
      icmp->type == wire::Icmpv6View::kListenerDone) {
    return {.type = "MLD", .text = fmt::format("{} bytes", ip.payload.size())};
  }
  return {.type = "ICMPv6", .text = fmt::format("{} bytes", ip.payload.size())};
}

void add_ipv6(Bytes packet, DatagramText& out) {
  const wire::Ipv6View ip = wire::Ipv6View::parse(packet);
  if (ip.bad != wire::Ipv6View::Bad::kNone) return out.frames.push_back(other("IPv6, cut short, damaged or with other headers"));
  out.source = wire::format_ipv6(ip.source);
  out.destination = wire::format_ipv6(ip.destination);
  if (ip.next_header == wire::kIpProtocolIcmpv6) return out.frames.push_back(text_of_icmpv6(ip));
  const auto udp = ip.next_header == wire::kIpProtocolUdp ? wire::UdpView::parse(ip.payload) : std::nullopt;
  if (!udp) return out.frames.push_back(other(fmt::format("IP protocol {}, {} bytes", ip.next_header, ip.payload.size())));
  out.source = fmt::format("[{}]:{}", out.source, udp->source_port);
  out.destination = fmt::format("[{}]:{}", out.destination, udp->destination_port);
  add_udp(udp->payload, out.frames);
}

}  // namespace

DatagramText text_of_frame(Bytes frame) {
  DatagramText out;
  const auto ethernet = wire::EthernetView::parse(frame);
  if (!ethernet) {
    out.frames.push_back(other(fmt::format("{} bytes, no Ethernet frame", frame.size())));
    return out;
  }
  out.source = text_of(ethernet->source);
  out.destination = text_of(ethernet->destination);
  const Bytes payload = frame.subspan(ethernet->header_length);
  if (ethernet->type == wire::kEtherTypeIpv4) {
    add_ipv4(payload, out);
  } else if (ethernet->type == wire::kEtherTypeIpv6) {
    add_ipv6(payload, out);
  } else if (ethernet->type == wire::kEtherTypeArp) {
    const auto arp = wire::ArpPacket::parse(payload);
    out.frames.push_back(!arp ? other("ARP, damaged")
                              : FrameText{.type = "ARP", .text = arp->operation == wire::ArpPacket::kRequest
                                                                     ? fmt::format("who has {}? {} asks", format_ipv4(arp->target_ip), format_ipv4(arp->sender_ip))
                                                                     : fmt::format("{} is at {}", format_ipv4(arp->sender_ip), text_of(arp->sender_mac))});
  } else {
    out.frames.push_back(other(fmt::format("EtherType {:#06x}, {} bytes", ethernet->type, payload.size())));
  }
  if (out.frames.empty()) out.frames.push_back(other("an empty datagram"));
  return out;
}

}  // namespace thalweg::cli
