#include "tests/sim/network.hpp"

#include <algorithm>

#include "dataplane/wire/frames.hpp"
#include "dataplane/wire/positions.hpp"

namespace thalweg::sim {

void Network::heal() {
  for (auto& [key, link] : links_) {
    link.blocked_until_ns = 0;
    link.impairment = Impairment{.delay_ns = link.impairment.delay_ns, .jitter_ns = 0};
  }
}

std::vector<std::byte> Network::buffer_with(std::span<const std::byte> bytes) {
  std::vector<std::byte> buffer;
  if (!spare_.empty()) {
    buffer = std::move(spare_.back());
    spare_.pop_back();
  }
  buffer.assign(bytes.begin(), bytes.end());
  return buffer;
}

void Network::enqueue(const wire::UdpEndpoint& from, const wire::UdpEndpoint& to, std::vector<std::byte> bytes, std::int64_t due_ns) {
  queue_.push(Datagram{due_ns, next_order_++, from, to, std::move(bytes)});
}

std::int64_t Network::transit_ns(const Impairment& impairment) {
  std::int64_t transit = impairment.delay_ns;
  if (impairment.jitter_ns > 0) transit += static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(impairment.jitter_ns)));
  if (random_.chance_ppm(impairment.reorder_ppm)) {
    verdict_.faults.add(Fault::kReordered);
    transit += static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(impairment.reorder_ns) + 1));
  }
  return transit;
}

void Network::trace(const wire::UdpEndpoint& from, const wire::UdpEndpoint& to, std::span<const std::byte> bytes, std::int64_t now_ns) noexcept {
  trace(static_cast<std::uint64_t>(now_ns));
  trace((std::uint64_t{from.address} << 32 | to.address) ^ (std::uint64_t{from.port} << 48 | std::uint64_t{to.port} << 16));
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) trace(load_le<std::uint64_t>(bytes.data() + at));
  for (; at < bytes.size(); ++at) trace(std::to_integer<std::uint64_t>(bytes[at]));
}

void Network::send(const wire::UdpEndpoint& from, const wire::UdpEndpoint& to, std::span<const std::byte> bytes, std::int64_t now_ns) {
  trace(from, to, bytes, now_ns);
  const Link& link = links_[{from.address, to.address}];
  const Impairment& impairment = link.impairment;
  if (now_ns < link.blocked_until_ns) return verdict_.faults.add(Fault::kPartitioned);
  if (random_.chance_ppm(impairment.header_fuzz_ppm)) {
    std::vector<std::byte> broken = buffer_with(bytes);
    fuzz_header(broken, random_);
    verdict_.faults.add(Fault::kHeaderFuzzed);
    enqueue(from, to, std::move(broken), now_ns + transit_ns(impairment));
  }
  if (random_.chance_ppm(impairment.loss_ppm)) return verdict_.faults.add(Fault::kLost);
  if (random_.chance_ppm(impairment.corrupt_ppm)) return verdict_.faults.add(Fault::kCorrupted);  // the receiver's checksum drops it
  if (random_.chance_ppm(impairment.duplicate_ppm)) {
    verdict_.faults.add(Fault::kDuplicated);
    enqueue(from, to, buffer_with(bytes), now_ns + transit_ns(impairment));
  }
  enqueue(from, to, buffer_with(bytes), now_ns + transit_ns(impairment));
}

bool Network::receive(Datagram& out, std::int64_t now_ns) {
  if (queue_.empty() || queue_.top().due_ns > now_ns) return false;
  if (out.bytes.capacity() != 0) spare_.push_back(std::move(out.bytes));
  out = std::move(const_cast<Datagram&>(queue_.top()));  // popped at once: the order of the heap does not depend on the bytes
  queue_.pop();
  return true;
}

namespace {

void fuzz_data(std::byte* p, std::vector<std::byte>& bytes, Random& random) {
  if (load_le<std::int32_t>(p) == 0) return store_le<std::int32_t>(p, -1);  // a heartbeat at another place would be believed
  switch (random.below(6)) {
    case 0: store_le<std::int32_t>(p, -load_le<std::int32_t>(p) - 1); break;                                   // negative length
    case 1:  // the walk runs past the end; a PAD may claim more than is there, so it gets a negative length
      store_le<std::int32_t>(p, load_le<std::uint16_t>(p + 6) == 0 ? -1 : load_le<std::int32_t>(p) + static_cast<std::int32_t>(bytes.size()));
      break;
    case 2: store_le<std::int32_t>(p + 8, load_le<std::int32_t>(p + 8) + 8); break;                            // unaligned offset
    case 3: store_le<std::int32_t>(p + 8, static_cast<std::int32_t>(random.next() | 0x4000'0000) & ~31); break;  // outside any term
    case 4: store_le<std::int32_t>(p + 20, wire::wrapping_sub(load_le<std::int32_t>(p + 20), 4 + static_cast<std::int32_t>(random.below(1 << 30)))); break;
    default: store_le<std::int32_t>(p + 20, wire::wrapping_add(load_le<std::int32_t>(p + 20), 4 + static_cast<std::int32_t>(random.below(1 << 30)))); break;
  }
}

void fuzz_setup(std::byte* p, Random& random) {
  switch (random.below(4)) {
    case 0: store_le<std::int32_t>(p + 28, load_le<std::int32_t>(p + 28) + 32); break;  // no power of two
    case 1: store_le<std::int32_t>(p + 28, static_cast<std::int32_t>(random.next()) | 1); break;
    case 2: store_le<std::int32_t>(p + 8, -32); break;
    default: store_le<std::int32_t>(p + 32, static_cast<std::int32_t>(random.next()) | 1); break;
  }
}

void fuzz_status_message(std::byte* p, Random& random) {
  switch (random.below(4)) {
    case 0: store_le<std::int32_t>(p + 24, -1 - static_cast<std::int32_t>(random.below(1 << 30))); break;       // negative window
    case 1: store_le<std::int32_t>(p + 24, (1 << 29) + static_cast<std::int32_t>(random.below(1 << 29))); break;  // window too large
    case 2: store_le<std::int32_t>(p + 20, load_le<std::int32_t>(p + 20) + 4); break;                           // unaligned
    default:                                                                                                    // far ahead
      store_le<std::int32_t>(p + 16, wire::wrapping_add(load_le<std::int32_t>(p + 16), 2 + static_cast<std::int32_t>(random.below(1 << 30))));
      store_le<std::uint8_t>(p + 5, 0);
      break;
  }
}

void fuzz_nak(std::byte* p, Random& random) {
  switch (random.below(5)) {
    case 0: store_le<std::int32_t>(p + 24, -1 - static_cast<std::int32_t>(random.below(1 << 30))); break;
    case 1: store_le<std::int32_t>(p + 24, (1 << 30) + static_cast<std::int32_t>(random.below(1 << 29))); break;
    case 2: store_le<std::int32_t>(p + 20, -32); break;
    case 3: store_le<std::int32_t>(p + 24, 1 << 15); break;  // asks for more than was ever sent: harmless
    default: store_le<std::int32_t>(p + 16, static_cast<std::int32_t>(random.next())); break;
  }
}

}  // namespace

void fuzz_header(std::vector<std::byte>& bytes, Random& random) {
  std::byte* p = bytes.data();
  const auto type = load_le<std::uint16_t>(p + 6);
  switch (random.below(8)) {
    case 0: store_le<std::uint8_t>(p + 4, static_cast<std::uint8_t>(1 + random.below(255))); return;             // version
    case 1: store_le<std::uint16_t>(p + 6, static_cast<std::uint16_t>(0x0C + random.below(0xFFF0))); return;     // type
    case 2: {                                                                                                    // cut short
      const std::size_t least = type <= 1 ? 31 : 19;
      bytes.resize(std::min<std::size_t>(bytes.size() - 1, random.below(least + 1)));
      return;
    }
    case 3:  // noise with nothing but a plausible type
      for (std::size_t i = 0; i < bytes.size(); ++i) p[i] = static_cast<std::byte>(random.next());
      if (bytes.size() >= 32) store_le<std::uint8_t>(p + 4, 1);
      return;
    default: break;
  }
  switch (static_cast<wire::FrameType>(type)) {
    case wire::FrameType::kPad:
    case wire::FrameType::kData: return fuzz_data(p, bytes, random);
    case wire::FrameType::kSetup: return fuzz_setup(p, random);
    case wire::FrameType::kStatusMessage: return fuzz_status_message(p, random);
    case wire::FrameType::kNak: return fuzz_nak(p, random);
    default: store_le<std::uint8_t>(p + 4, 0x7F); return;
  }
}

}  // namespace thalweg::sim
