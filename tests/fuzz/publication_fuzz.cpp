// A sending stream: status messages, NAKs, errors, RTT frames, time and subscribers in any order, while a client publishes into the log and
// another one scribbles over it. Nothing may leave that is not of this stream.
#include "dataplane/proto/publication.hpp"

#include "tests/fuzz/input.hpp"
#include "tests/unit/proto/proto_fixture.hpp"

namespace thalweg::fuzz {
namespace {
using namespace proto::test;
constexpr std::int32_t kMtu = 1408;

struct CheckingSink {
  bool send_log(Bytes bytes) { return take(bytes); }
  bool send_control(Bytes bytes) { return take(bytes); }
  bool take(Bytes bytes) {
    const auto header = wire::FrameHeader::parse(bytes);
    require(header && bytes.size() <= static_cast<std::size_t>(kMtu), "what a publication sends is a valid frame within its MTU");
    if (header->type() <= wire::FrameType::kData) {
      const wire::DataView view{bytes.data()};
      require(view.session_id() == kSession && view.stream_id() == kStream, "every datagram sent is of this stream");
    }
    return !refuses;
  }
  bool refuses{};
};

class World {
 public:
  World(Input& in, const PublicationBench::Options& options) : in_{in}, bench_{options} {
    if (!bench_.publication.is_ipc()) bench_.connect();
  }

  void step() {
    switch (in_.choice(10)) {
      case 0:  // the test's publisher trusts its log, so it stops where the scribbling begins
        if (!is_scribbled_) bench_.publisher.offer(in_.take<std::uint16_t>() % (kTerm / 8));
        return;
      case 1: return control_frame();
      case 2: return status();
      case 3: return nak();
      case 4: bench_.publication.update_limit(subscribers_, now_ns_); return;
      case 5: now_ns_ += std::int64_t{in_.take<std::uint16_t>()} << in_.choice(24); return;
      case 6: bench_.publication.tick(subscribers_, now_ns_); return;
      case 7:
        is_scribbled_ = true;
        scribble(in_, {bench_.log.view().base(), 3 * static_cast<std::size_t>(kTerm) + shm::kLogMetadataLength}, 8);
        return;
      case 8: return rare();
      default: return send();
    }
  }
  void check() {
    const shm::PublicationState& s = bench_.state();
    require(s.sender_position >= last_sent_, "the sender never goes back");
    require(s.sender_position % 32 == 0, "the sender position is aligned");
    require(s.receiver_count <= shm::kReceiversMax, "the receiver table is bounded");
    last_sent_ = s.sender_position;
  }

 private:
  [[nodiscard]] std::int64_t near() {
    return std::max<std::int64_t>(0, bench_.state().sender_position + std::int64_t{in_.take<std::int16_t>()} * 32);
  }
  void send() {
    sink_.refuses = in_.choice(8) == 0;
    bench_.publication.send(now_ns_, sink_);
    static_cast<void>(bench_.publication.has_data());
    static_cast<void>(bench_.publication.next_deadline_ns());
  }
  // As the lane does: a frame is checked against the term length before the publication hears of it.
  void on_status(const wire::StatusMessage& sm) {
    if (sm.valid_for(kTerm)) bench_.publication.on_status_message(sm, {in_.byte(), 4000}, now_ns_);
  }
  void on_nak(const wire::Nak& nak) {
    if (nak.valid_for(kTerm)) bench_.publication.on_nak(nak, now_ns_, sink_);
  }
  void control_frame() {
    const GuardedMemory guarded{in_.short_slice()};
    const Bytes d = guarded.bytes();
    const auto header = wire::FrameHeader::parse(d);
    if (!header) return;
    switch (header->type()) {
      case wire::FrameType::kStatusMessage: return on_status(*wire::StatusMessage::parse(d));
      case wire::FrameType::kNak: return on_nak(*wire::Nak::parse(d));
      case wire::FrameType::kError:
        if (const auto error = wire::ErrorFrame::parse(d)) bench_.publication.on_error(*error, now_ns_);
        return;
      case wire::FrameType::kRttMeasurement: return bench_.publication.on_rtt_measurement(*wire::RttMeasurement::parse(d), now_ns_, sink_);
      default: return;
    }
  }
  void status() {
    const Position at = bench_.at(near());
    wire::StatusMessage sm{in_.byte(), kSession, kStream, at.term_id, at.term_offset, in_.take<std::int32_t>() & 0xFFFF, in_.choice(80), {}};
    if (in_.flag()) sm.group_tag = in_.take<std::int8_t>();
    on_status(sm);
  }
  void nak() {
    const Position at = bench_.at(near());
    on_nak({kSession, kStream, at.term_id, at.term_offset, in_.take<std::int32_t>() & 0x1FFFF});
  }
  void rare() {
    switch (in_.choice(5)) {
      case 0: bench_.publication.resume(now_ns_); break;
      case 1: subscribers_ = {in_.take<std::int64_t>(), in_.take<std::int64_t>(), in_.byte()}; break;
      case 2: subscribers_ = {bench_.publisher.position(), bench_.publisher.position(), 1}; break;
      case 3: bench_.slot->desired.state = in_.flag() ? shm::Desired::kClosing : shm::Desired::kActive; break;
      default: bench_.slot->desired.is_revoked = in_.choice(8) == 0; break;
    }
  }

  Input& in_;
  PublicationBench bench_;
  bool is_scribbled_{};
  CheckingSink sink_;
  proto::SubscriberPositions subscribers_;
  std::int64_t now_ns_{kStart_ns};
  std::int64_t last_sent_{};
};

PublicationBench::Options options_of(Input& in) {
  PublicationBench::Options o;
  const std::uint8_t bits = in.byte();
  if ((bits & 1U) != 0) o.flags |= shm::PublicationFlags::kIpc;
  if ((bits & 2U) != 0) o.flags |= shm::PublicationFlags::kSpiesSimulateConnection;
  if ((bits & 4U) != 0) o.type = shm::LogType::kExclusivePublication;
  if ((bits & 8U) != 0) o.start_position = (std::int64_t{1} << 40) + 64;
  if ((bits & 16U) != 0) o.initial_term_id = 0x7FFFFFFF;
  const auto strategy = static_cast<shm::FlowControl>(bits >> 6);
  const bool is_required = (bits & 32U) != 0;
  o.adjust = [=](shm::PublicationSlot::Wanted& d) {
    d.flow_control = strategy;
    d.flow_control_group_min_size = is_required ? 2 : 0;
    d.retransmit_limit_bytes = is_required ? 4096 : 0;
    d.retransmit_limit_interval_ns = kSecond_ns;
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
