#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "controlplane/names/gossip.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/wire/ip.hpp"
#include "dataplane/wire/resolution_frame.hpp"
#include "tests/support/recorded.hpp"

// Two drivers' gossip as it was recorded: fed what one of them heard, ours says what that one said, when it said it.
namespace thalweg::names {
namespace {

using wire::ResolutionEntry;

// The work step is due after 10 ms (6.2) and the recorded drivers woke each 4 ms: all their intervals are multiples of 12 ms.
constexpr std::int64_t kGrid_ns = 12 * kMillisecond_ns;
constexpr std::int64_t kTolerance_ns = 3 * kMillisecond_ns;  // what the capture's clock adds to that
constexpr std::size_t kIpv4At = 14;

struct Datagram {
  std::int64_t time_ns{};
  Address source;
  std::vector<std::byte> payload;
};

std::vector<Datagram> recorded() {
  std::vector<Datagram> out;
  for (const test::RecordedFrame& frame : test::read_pcap(test::data_path("21-name-resolution-res-frames.pcap"))) {
    const auto* p = reinterpret_cast<const unsigned char*>(frame.bytes.data());
    if (frame.bytes.size() < kIpv4At + 28 + 8 || p[12] != 0x08 || p[13] != 0 || p[kIpv4At + 9] != 17) continue;
    const std::span<const std::byte> udp{reinterpret_cast<const std::byte*>(p) + kIpv4At + 20, frame.bytes.size() - kIpv4At - 20};
    const std::size_t length = static_cast<std::size_t>(p[kIpv4At + 24]) << 8 | p[kIpv4At + 25];
    const auto payload = udp.subspan(8, length - 8);
    if (!wire::FrameHeader::is_valid(payload) || wire::FrameHeader::of_valid(payload).type() != wire::FrameType::kResolution) continue;
    const std::uint32_t address = static_cast<std::uint32_t>(p[26]) << 24 | static_cast<std::uint32_t>(p[27]) << 16 | static_cast<std::uint32_t>(p[28]) << 8 | p[29];
    const auto port = static_cast<std::uint16_t>(p[34] << 8 | p[35]);
    out.push_back({frame.time_ns, Address::ipv4(address, port), {payload.begin(), payload.end()}});
  }
  return out;
}

ResolutionEntry only_entry(const std::vector<std::byte>& frame) {
  ResolutionEntry found;
  std::size_t count = 0;
  EXPECT_TRUE(wire::for_each_resolution(frame, [&](const ResolutionEntry& entry) { found = entry, ++count; }));
  EXPECT_EQ(count, 1U);
  return found;
}

std::vector<std::byte> without_age(std::vector<std::byte> frame) {
  std::memset(frame.data() + wire::FrameHeader::kLength + 4, 0, 4);
  return frame;
}

// Plays the driver at `ours`: everything it was sent goes in, everything it sent must come out.
void replay(const Address& ours, const std::string& name, const Address& peer) {
  const std::vector<Datagram> all = recorded();
  std::vector<Datagram> expected, heard;
  for (const Datagram& datagram : all) (datagram.source == ours ? expected : heard).push_back(datagram);
  ASSERT_GE(expected.size(), 14U);
  const std::int64_t first_ns = expected.front().time_ns;
  GossipOptions options{.name = name, .bound = ours, .bootstraps = {peer.to_string()}, .neighbor_timeout_ns = 5 * kSecond_ns,
                        .self_interval_ns = 500 * kMillisecond_ns, .neighbor_interval_ns = kSecond_ns};
  Gossip gossip{options, first_ns};
  gossip.set_bootstrap(0, peer);

  std::vector<Datagram> sent;
  std::size_t next = 0;
  for (std::int64_t now_ns = first_ns; now_ns <= expected.back().time_ns + kGrid_ns; now_ns += kGrid_ns) {
    for (; next < heard.size() && heard[next].time_ns <= now_ns; ++next) gossip.receive(heard[next].payload, heard[next].source, now_ns);
    gossip.turn(now_ns);
    while (const auto outgoing = gossip.next_outgoing()) {
      EXPECT_EQ(outgoing->to, peer);
      sent.push_back({now_ns, ours, {outgoing->frame.begin(), outgoing->frame.end()}});
    }
  }
  ASSERT_EQ(sent.size(), expected.size());
  for (std::size_t i = 0; i < sent.size(); ++i) {
    SCOPED_TRACE("frame " + std::to_string(i));
    EXPECT_EQ(without_age(sent[i].payload), without_age(expected[i].payload));
    EXPECT_LE(std::abs(only_entry(sent[i].payload).age_ms - only_entry(expected[i].payload).age_ms) * kMillisecond_ns, kGrid_ns + kTolerance_ns);
    if (i == 0) continue;
    const std::int64_t ours_ns = sent[i].time_ns - sent[i - 1].time_ns;
    const std::int64_t theirs_ns = expected[i].time_ns - expected[i - 1].time_ns;
    EXPECT_LE(std::abs(ours_ns - theirs_ns), kTolerance_ns);
  }
}

const Address kDriverA = Address::ipv4(0x0A4D0001, 24210);  // 10.77.0.1
const Address kDriverB = Address::ipv4(0x0A4D0002, 24211);

// proves 6.1/1, 6.1/2, 6.2/4, 6.2/7, 6.2/8
TEST(RecordedGossip, we_say_what_the_first_driver_said_when_it_said_it) { replay(kDriverA, "driverA", kDriverB); }
// proves 6.1/1, 6.1/2, 6.2/4, 6.2/7, 6.2/8
TEST(RecordedGossip, we_say_what_the_second_driver_said_when_it_said_it) { replay(kDriverB, "driverB", kDriverA); }

}  // namespace
}  // namespace thalweg::names
