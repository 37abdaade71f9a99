// One stream to many destinations: what each of them costs, against the bare cost of a frame (bare_send/1).
#include "tests/bench/lane_bench.hpp"

namespace thalweg::bench {
namespace {

constexpr std::uint16_t kFirstPort = 7'000;

// A publication with `count` destinations behind the cable, all of which node b plays with frames of its own making.
class ManyDestinations {
 public:
  explicit ManyDestinations(std::uint16_t count, std::int32_t mtu) : nodes{TwoNodes::Options{.packet_buffers = 8191, .has_filters = false}}, count_{count} {
    nodes.a.control.is_lean = true;
    publication_ = nodes.a.control.add_publication({.term_length = kTermLength, .mtu = mtu, .mode = shm::EndpointMode::kDynamic,
                                                    .local = {TwoNodes::kAddressA, kPort}});
    nodes.run_for(kMillisecond_ns);
    for (std::uint16_t i = 0; i < count; ++i) hear_all(1);
    nodes.run_until([this] { return sender().is_connected != 0 && sender().publisher_limit > 0; }, kSecond_ns);
    nodes.run_for(200 * kMillisecond_ns);   // MACs are known and SETUPs are over
    clock_.start();
    calibration_ = clock_.calibration();
    offset_ns_ = nodes.now_ns - calibration_.to_ns(core::TscClock::read_tsc());
  }
  [[nodiscard]] shm::PublicationState& sender() { return nodes.a.control.publication_state(publication_); }
  [[nodiscard]] const shm::PublicationSlot::Wanted& wanted() { return nodes.a.control.registry().publications[publication_].desired; }
  [[nodiscard]] shm::LogBuffer log() { return nodes.a.control.publisher(publication_).log(); }
  [[nodiscard]] std::int64_t now() const noexcept { return calibration_.to_ns(core::TscClock::read_tsc()) + offset_ns_; }
  // Status messages of the next `receivers` in turn, each of which opens the window.
  void hear_all(unsigned receivers) {
    for (unsigned n = 0; n < receivers; ++n) {
      next_ = static_cast<std::uint16_t>((next_ + 1) % count_);
      const std::int64_t at = sender().sender_position;
      wire::StatusMessage sm;
      sm.session_id = wanted().session_id;
      sm.stream_id = wanted().stream_id;
      sm.consumption_term_id = wire::term_id_of(at, wanted().initial_term_id, 20);
      sm.consumption_term_offset = wire::term_offset_of(at, 20);
      sm.window_length = 256 << 10;
      sm.receiver_id = next_ + 1;
      wire::UdpFrameTemplate::Options o;
      o.source_mac = nodes.b.plane->port(0).mac();
      o.destination_mac = nodes.a.plane->port(0).mac();
      o.source = {TwoNodes::kAddressB, static_cast<std::uint16_t>(kFirstPort + next_)};
      o.destination = {TwoNodes::kAddressA, kPort};
      std::byte frame[96];
      const wire::UdpFrameTemplate header{o};
      header.write(frame, wire::StatusMessage::kLength);
      wire::build(frame + header.length(), sm);
      nodes.inject(nodes.a, {frame, header.length() + wire::StatusMessage::kLength});
    }
  }
  // Frees what arrived at node b; how many frames it was.
  unsigned drain() {
    rte_mbuf* frames[kBurst];
    unsigned total = 0;
    while (const std::uint16_t count = nodes.b.plane->port(0).rx_burst(0, frames, kBurst)) {
      rte_pktmbuf_free_bulk(frames, count);
      total += count;
    }
    return total;
  }

  TwoNodes nodes;

 private:
  std::uint16_t count_;
  std::uint16_t next_{};
  std::uint32_t publication_{};
  core::TscClock clock_;
  core::TscClock::Calibration calibration_;
  std::int64_t offset_ns_{};
};

// One frame a datagram; item = a frame on the cable, so that all figures are per copy. First argument: destinations, second: payload.
void lane_fan_out(benchmark::State& state) {
  const auto count = static_cast<std::uint16_t>(state.range(0));
  const auto length = static_cast<std::int32_t>(state.range(1));
  const std::int32_t aligned = wire::align_frame(length + wire::kDataHeaderLength);
  ManyDestinations to{count, aligned};
  core::Lane& lane = to.nodes.a.plane->lane(0);
  const unsigned messages = std::max(1U, kRun / count);   // as many frames on the cable as in the other runs
  std::vector<std::byte> payload(static_cast<std::size_t>(length), std::byte{7});
  std::int64_t position = to.sender().sender_position;
  Runs runs{messages * count};
  bool is_complete = true;
  for (auto _ : state) {
    for (unsigned i = 0; i < messages; ++i) position = offer(to.log(), position, to.wanted().session_id, to.wanted().initial_term_id, payload.data(), length);
    to.hear_all(1);
    runs.time(state, [&] {
      while (to.sender().sender_position < position) lane.turn(to.now());
    });
    is_complete &= to.drain() >= messages * count;
  }
  if (!is_complete) state.SkipWithError("a destination missed a datagram");
  runs.report(state);
}
BENCHMARK(lane_fan_out)->ArgsProduct({{1, 8, 64}, {64}})->Args({8, 1024})->Args({64, 1024})->UseManualTime();

}  // namespace
}  // namespace thalweg::bench
