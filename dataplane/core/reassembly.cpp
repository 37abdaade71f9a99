#include "dataplane/core/reassembly.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "dataplane/base/assert.hpp"

namespace thalweg::core {

namespace {

// Calls `visit(word, mask)` for the words of a bit set that hold bits [first, first + count).
template <typename Visit>
void for_words(std::size_t first, std::size_t count, Visit&& visit) noexcept {
  constexpr std::size_t kBits = 64;
  for (std::size_t at = first; at < first + count;) {
    const std::size_t bit = at % kBits;
    const std::size_t bits = std::min(kBits - bit, first + count - at);
    visit(at / kBits, (bits == kBits ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1) << bit);
    at += bits;
  }
}

bool is_possible(const wire::Ipv4View& ip) noexcept {
  const std::size_t length = ip.payload.size();
  if (length == 0 || ip.fragment_offset + length > Reassembly::kPayloadMax) return false;
  return !ip.has_more_fragments || (length >= Reassembly::kPieceMin && length % wire::kFragmentUnit == 0);
}

}  // namespace

std::size_t Reassembly::Datagram::count(std::size_t first, std::size_t units_wanted) const noexcept {
  std::size_t there = 0;
  for_words(first, units_wanted, [&](std::size_t word, std::uint64_t mask) noexcept { there += static_cast<std::size_t>(std::popcount(units[word] & mask)); });
  return there;
}

void Reassembly::Datagram::mark(std::size_t first, std::size_t units_got) noexcept {
  for_words(first, units_got, [&](std::size_t word, std::uint64_t mask) noexcept { units[word] |= mask; });
}

Reassembly::Answer Reassembly::add(std::span<const std::byte> frame, const wire::EthernetView& ethernet, const wire::Ipv4View& ip, std::int64_t now_ns) noexcept {
  THALWEG_DCHECK(ethernet.header_length <= wire::kEthernetHeaderLength + wire::kVlanTagLength);
  if (!is_possible(ip)) return {.fate = Fate::kBad};
  Datagram* datagram = find(ip);
  if (datagram != nullptr && now_ns - datagram->since_ns > kPatience_ns) {  // another datagram of the same identification
    give_up(*datagram);
    datagram = nullptr;
  }
  if (datagram == nullptr) datagram = start(frame, ethernet, ip, now_ns);
  if (datagram == nullptr) return {.fate = Fate::kNoBuffer};
  const Fate fate = put(*datagram, ip);
  if (fate == Fate::kBad) give_up(*datagram);
  return fate == Fate::kComplete ? finish(*datagram, ip) : Answer{.fate = fate};
}

Reassembly::Datagram* Reassembly::find(const wire::Ipv4View& ip) noexcept {
  for (Datagram& datagram : datagrams_) {
    const bool is_it = datagram.buffer.frame != nullptr && datagram.identification == ip.identification && datagram.source == ip.source &&
                       datagram.destination == ip.destination;
    if (is_it) return &datagram;
  }
  return nullptr;
}

// In a free place, else in that of the oldest: whoever sends first pieces only pushes out his own kind, because what is sent in earnest is
// complete a few microseconds later.
Reassembly::Datagram* Reassembly::start(std::span<const std::byte> frame, const wire::EthernetView& ethernet, const wire::Ipv4View& ip,
                                        std::int64_t now_ns) noexcept {
  Datagram* place = datagrams_.data();
  for (Datagram& datagram : datagrams_) {
    if (datagram.buffer.frame == nullptr) {
      place = &datagram;
      break;
    }
    if (datagram.since_ns < place->since_ns) place = &datagram;
  }
  if (place->buffer.frame != nullptr) give_up(*place);
  const Buffer buffer = buffers_.take();
  if (buffer.frame == nullptr) return nullptr;
  *place = Datagram{};
  place->buffer = buffer;
  place->source = ip.source;
  place->destination = ip.destination;
  place->identification = ip.identification;
  place->header_length = ethernet.header_length;
  place->since_ns = now_ns;
  std::copy_n(frame.data(), ethernet.header_length, buffer.bytes);
  return place;
}

Reassembly::Fate Reassembly::put(Datagram& datagram, const wire::Ipv4View& ip) noexcept {
  const std::size_t end = ip.fragment_offset + ip.payload.size();
  const std::size_t first = ip.fragment_offset / wire::kFragmentUnit;
  const std::size_t units = (ip.payload.size() + wire::kFragmentUnit - 1) / wire::kFragmentUnit;
  const bool agrees = ip.has_more_fragments ? datagram.end == 0 || end < datagram.end : (datagram.end == 0 || datagram.end == end) && datagram.reach <= end;
  if (!agrees) return Fate::kBad;
  const std::size_t there = datagram.count(first, units);
  if (there == units) return Fate::kRepeated;
  if (there != 0) return Fate::kBad;   // pieces never overlap, unless somebody wants to get past a filter (RFC 1858, RFC 5722)
  datagram.mark(first, units);
  std::copy_n(ip.payload.data(), ip.payload.size(), datagram.buffer.bytes + datagram.header_length + wire::kIpv4HeaderLength + ip.fragment_offset);
  datagram.received += ip.payload.size();
  datagram.reach = std::max(datagram.reach, end);
  if (!ip.has_more_fragments) datagram.end = end;
  return datagram.received == datagram.end ? Fate::kComplete : Fate::kKept;
}

Reassembly::Answer Reassembly::finish(Datagram& datagram, const wire::Ipv4View& ip) noexcept {
  const Buffer buffer = std::exchange(datagram.buffer, {});
  wire::build_ipv4(buffer.bytes + datagram.header_length, ip.protocol, ip.ttl, ip.source, ip.destination, datagram.end, false);
  return {Fate::kComplete, buffer.frame, {buffer.bytes, datagram.header_length + wire::kIpv4HeaderLength + datagram.end}, datagram.header_length};
}

void Reassembly::tick(std::int64_t now_ns) noexcept {
  for (Datagram& datagram : datagrams_) {
    if (datagram.buffer.frame != nullptr && now_ns - datagram.since_ns > kPatience_ns) give_up(datagram);
  }
}

void Reassembly::give_up(Datagram& datagram) noexcept {
  ++given_up_;
  buffers_.give_back(std::exchange(datagram.buffer, {}).frame);
}

void Reassembly::discard_all() noexcept {
  for (Datagram& datagram : datagrams_) {
    if (datagram.buffer.frame != nullptr) give_up(datagram);
  }
}

}  // namespace thalweg::core
