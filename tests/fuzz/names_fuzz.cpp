// Driver names against peers that send anything: frames as they come, and entries made up to be almost right. What they can make us keep and
// send stays within its bounds, what we send is valid, and silence empties everything.
#include "controlplane/names/gossip.hpp"

#include "dataplane/base/time.hpp"
#include "dataplane/wire/resolution_frame.hpp"
#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
using namespace names;

constexpr int kStepsMax = 400;

class World {
 public:
  explicit World(Input& in) : in_{in}, gossip_{options_of(in), now_ns_} {}

  void step() {
    switch (in_.choice(6)) {
      case 0: return gossip_.receive(in_.short_slice(), some_address(), now_ns_);
      case 1:
      case 2: return hear_entries();
      case 3: return pass_time();
      case 4:
        if (const auto index = gossip_.next_lookup(now_ns_)) gossip_.set_bootstrap(*index, some_address());
        return;
      default: static_cast<void>(gossip_.find(text_of(in_.short_slice()), in_.byte())); return;
    }
  }
  void check() {
    require(gossip_.names().size() <= kNamesMax && gossip_.neighbors().size() <= kNeighborsMax, "tables have bounds");
    for (const auto& [key, name] : gossip_.names()) require(now_ns_ - name.last_activity_ns < 2 * gossip_.options().neighbor_timeout_ns, "nothing old stays");
  }
  void end() {
    now_ns_ += gossip_.options().neighbor_timeout_ns;
    gossip_.turn(now_ns_);
    require(gossip_.names().empty() && gossip_.neighbors().empty(), "silence empties everything");
  }

 private:
  static GossipOptions options_of(Input& in) {
    GossipOptions options{.name = "alpha", .bound = Address::ipv4(0x0A000001, 8050)};
    options.mtu = 64 + in.choice(200) * 7U;
    options.bootstraps.assign(in.choice(24), "host:1");
    return options;
  }
  Address some_address() { return Address::ipv4(in_.flag() ? 0x0A000000 + in_.byte() : in_.take<std::uint32_t>(), in_.flag() ? std::uint16_t{8050} : in_.take<std::uint16_t>()); }
  void hear_entries() {
    std::vector<std::byte> frame(wire::FrameHeader::kLength);
    for (unsigned n = in_.choice(8) + 1; n > 0; --n) {
      wire::ResolutionEntry entry;
      entry.address_type = in_.choice(8) == 0 ? wire::ResolutionEntry::kIpv6 : wire::ResolutionEntry::kIpv4;
      entry.is_self = in_.flag();
      entry.age_ms = in_.flag() ? in_.byte() * 50 : in_.take<std::int32_t>();
      const Address address = some_address();
      entry.port = address.port;
      std::copy(address.bytes.begin(), address.bytes.end(), entry.address);
      const Bytes name = in_.slice(1 + in_.choice(40));
      if (name.empty()) return;
      entry.name = name;
      const std::size_t at = frame.size();
      frame.resize(at + entry.length());
      wire::build(frame.data() + at, entry);
    }
    wire::put_header(frame.data(), static_cast<std::int32_t>(frame.size()), 0, wire::FrameType::kResolution);
    if (in_.choice(8) == 0) frame[in_.byte() % frame.size()] = std::byte{in_.byte()};
    const GuardedMemory guarded{frame};
    gossip_.receive(guarded.bytes(), some_address(), now_ns_);
  }
  void pass_time() {
    now_ns_ += in_.choice(4) == 0 ? in_.byte() * 100 * kMillisecond_ns : 10 * kMillisecond_ns;
    gossip_.turn(now_ns_);
    for (unsigned budget = in_.byte() * 16U; budget > 0; --budget) {
      const auto outgoing = gossip_.next_outgoing();
      if (!outgoing) return;
      require(outgoing->frame.size() <= gossip_.options().mtu, "a frame keeps to the MTU");
      require(outgoing->to.is_ipv4(), "a target is of our socket's family");
      const bool is_valid = wire::FrameHeader::is_valid(outgoing->frame) && wire::for_each_resolution(outgoing->frame, [](const wire::ResolutionEntry&) {});
      require(is_valid, "what we send is valid");
    }
  }

  Input& in_;
  std::int64_t now_ns_{1'000 * kSecond_ns};
  Gossip gossip_;
};

}  // namespace

void run(Bytes input) {
  Input in{input};
  World world{in};
  for (int i = 0; i < kStepsMax && !in.is_empty(); ++i) {
    world.step();
    world.check();
  }
  world.end();
}

}  // namespace thalweg::fuzz
