// A receiving stream: datagrams, heartbeats, SETUPs, RTT frames, time and subscribers in any order, over a log that clients scribble on.
#include "dataplane/proto/image.hpp"

#include "tests/fuzz/input.hpp"
#include "tests/unit/proto/proto_fixture.hpp"

namespace thalweg::fuzz {
namespace {
using namespace proto::test;

struct CheckingSink {
  bool send_log(Bytes bytes) { return take(bytes); }
  bool send_control(Bytes bytes) { return take(bytes); }
  bool take(Bytes bytes) {
    require(wire::FrameHeader::parse(bytes).has_value() && bytes.size() <= 1408, "what an image sends is a valid frame");
    return true;
  }
};

class World {
 public:
  World(Input& in, const ImageBench::Options& options) : in_{in}, bench_{options} {}

  void step() {
    switch (in_.choice(10)) {
      case 0: return datagram();
      case 1:
      case 2: return near_frame();
      case 3: return heartbeat();
      case 4: return subscribers();
      case 5: now_ns_ += std::int64_t{in_.take<std::uint16_t>()} << in_.choice(24); return;
      case 6: bench_.image.tick(bench_.subscribers, now_ns_); return;
      case 7: scribble(in_, {bench_.log.view().base(), 3 * static_cast<std::size_t>(kTerm) + shm::kLogMetadataLength}, 8); return;
      case 8: return rare();
      default: return duty();
    }
  }
  void check() {
    const shm::ImageState& s = bench_.state();
    require(s.rebuild_position <= s.high_water, "rebuilt no further than received");
    require(s.high_water % 32 == 0 && s.rebuild_position % 32 == 0, "positions are aligned");
    require(s.rebuild_position >= last_rebuild_ && s.high_water >= last_high_water_, "positions never go back");
    require(s.gap_count <= shm::kGapsMax, "the gap list is bounded");
    require(s.high_water - s.rebuild_position <= kTerm, "no more than a term is outstanding");
    last_rebuild_ = s.rebuild_position;
    last_high_water_ = s.high_water;
  }

 private:
  void insert(Bytes bytes) {
    const GuardedMemory guarded{bytes};
    const Bytes d = guarded.bytes();
    const auto header = wire::FrameHeader::parse(d);
    if (!header) return;
    switch (header->type()) {
      case wire::FrameType::kPad:
      case wire::FrameType::kData: bench_.image.insert(d, in_.choice(5), now_ns_); break;
      case wire::FrameType::kSetup: bench_.image.on_setup(in_.choice(5), {in_.take<std::uint32_t>(), in_.take<std::uint16_t>()}, now_ns_); break;
      case wire::FrameType::kRttMeasurement:
        if (const auto rtt = wire::RttMeasurement::parse(d); rtt && rtt->is_request) {
          bench_.image.on_rtt_request(*rtt, sink_);
        } else if (rtt) {
          bench_.image.on_rtt_reply(*rtt, now_ns_);
        }
        break;
      default: break;
    }
  }
  void datagram() { insert(in_.long_slice()); }
  // A frame of the stream close to where it stands, so that the window and the gaps are reached.
  [[nodiscard]] Position near() {
    const std::int64_t from = in_.flag() ? bench_.state().high_water : bench_.state().rebuild_position;
    const std::int64_t position = from + std::int64_t{in_.take<std::int16_t>()} * 32;
    return bench_.at(std::max<std::int64_t>(position, 0));
  }
  void near_frame() {
    const Position at = near();
    proto::test::Bytes d = data_frame(at, static_cast<std::int32_t>(in_.take<std::uint16_t>() % 1377), in_.byte(), in_.byte());
    if (in_.choice(4) == 0) {
      const proto::test::Bytes pad = pad_frame({at.term_id, at.term_offset + static_cast<std::int32_t>(d.size())}, in_.take<std::int32_t>() & 0x1FFFF);
      d.insert(d.end(), pad.begin(), pad.end());
    }
    if (in_.choice(4) == 0) scribble(in_, d, 1);
    insert(d);
  }
  void heartbeat() { insert(proto::test::heartbeat(near(), in_.byte())); }
  void subscribers() {
    const bool is_honest = in_.flag();
    const std::int64_t position = is_honest ? bench_.state().rebuild_position : in_.take<std::int64_t>();
    bench_.subscribers = {position, is_honest ? position : in_.take<std::int64_t>(), in_.byte()};
  }
  void rare() {
    switch (in_.choice(4)) {
      case 0: bench_.image.resume(now_ns_); break;
      case 1: bench_.image.supersede(); break;
      case 2: bench_.image.reject(std::as_bytes(std::span{kReason})); break;
      default: static_cast<void>(bench_.image.join_position(bench_.subscribers)); break;
    }
  }
  void duty() {
    bench_.image.duty(bench_.subscribers, now_ns_, [this](std::size_t) -> CheckingSink& { return sink_; });
    static_cast<void>(bench_.image.next_deadline_ns());
  }

  static constexpr char kReason[] = "fuzz";
  Input& in_;
  ImageBench bench_;
  CheckingSink sink_;
  std::int64_t now_ns_{kStart_ns};
  std::int64_t last_rebuild_{};
  std::int64_t last_high_water_{};
};

ImageBench::Options options_of(Input& in) {
  ImageBench::Options o;
  const std::uint8_t bits = in.byte();
  if ((bits & 1U) != 0) o.flags = 0;
  if ((bits & 2U) != 0) o.has_group_tag = true;
  if ((bits & 4U) != 0) o.window = 1024;
  if ((bits & 8U) != 0) o.join_position = (std::int64_t{1} << 40) + 64;
  if ((bits & 16U) != 0) o.initial_term_id = 0x7FFFFFFF;  // wraps at the first rotation
  o.flags |= (bits & 32U) != 0 ? in.byte() : 0U;
  o.adjust = [control = static_cast<shm::CongestionControl>(bits >> 6)](shm::ImageSlot::Wanted& d) {
    d.congestion_control = control;
    d.initial_rtt_ns = kMillisecond_ns;
    d.is_rtt_measured = d.is_tcp_mode = 1;
    d.nak_max = control == shm::CongestionControl::kAimd ? 2 : 0;
    d.nak_backoff_ns = kMillisecond_ns;
  };
  return o;
}
}  // namespace

void run(Bytes input) {
  Input in{input};
  World world{in, options_of(in)};
  while (!in.is_empty()) {
    world.step();
    world.check();
  }
}

}  // namespace thalweg::fuzz
