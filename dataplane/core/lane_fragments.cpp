// Datagrams that came in IPv4 fragments, on ports that take them: off the path of every other frame.
#include <rte_mbuf.h>

#include "dataplane/core/lane.hpp"

namespace thalweg::core {

using enum shm::LaneCounter;

// The caller keeps `frame`. The piece that completes a datagram brings the whole of it, in a buffer of its own.
void Lane::take_fragment(const FrameRules& rules, const Unusual& unusual, std::span<const std::byte> frame, std::int64_t now_ns) noexcept {
  LanePort* const context = context_of(rules.port);
  Reassembly* const reassembly = context == nullptr ? nullptr : context->reassembly();
  if (reassembly == nullptr) return counters_.add(kDropIpFragment);
  const wire::Ipv4View ip = wire::Ipv4View::parse(unusual.rest);
  const bool is_group = wire::is_multicast_ipv4(ip.destination);
  if (is_group && !context->host().has_group(ip.destination)) return counters_.add(kDropUnknownGroup);
  if (!is_group && ip.destination != rules.address) return counters_.add(kDropNotOurs);
  const Reassembly::Answer answer = reassembly->add(frame, unusual.ethernet, ip, now_ns);
  switch (answer.fate) {
    case Reassembly::Fate::kKept: return counters_.add(kFragmentsReceived);
    case Reassembly::Fate::kRepeated: return counters_.add(kDropRepeatedFragment);
    case Reassembly::Fate::kBad: return counters_.add(kDropBadFragment);
    case Reassembly::Fate::kNoBuffer: return counters_.add(kDropNoBuffer);
    case Reassembly::Fate::kComplete: break;
  }
  counters_.add(kFragmentsReceived);
  counters_.add(kDatagramsReassembled);
  rte_mbuf* const whole = answer.frame;
  whole->data_len = static_cast<std::uint16_t>(answer.bytes.size());
  whole->pkt_len = static_cast<std::uint32_t>(answer.bytes.size());
  // Pieces of two datagrams of the same identification fit together, too: only the checksum tells (RFC 4963).
  FrameRules strict = rules;
  strict.verifies_udp_checksum = true;
  const std::span<const std::byte> packet = answer.bytes.subspan(answer.header_length);
  Datagram datagram;
  const Checked checked = check_udp(strict, ip.source, ip.destination, packet, packet.subspan(wire::kIpv4HeaderLength), datagram);
  if (checked.verdict == Verdict::kDropped) counters_.add(checked.reason);
  if (checked.verdict == Verdict::kDropped || deliver(rules, context, datagram, whole, now_ns)) rte_pktmbuf_free(whole);
}

}  // namespace thalweg::core
