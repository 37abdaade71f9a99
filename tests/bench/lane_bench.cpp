// What a frame costs on a lane, against bare loops over the same rings, buffers and bytes in the same run (tests/bench/README.md):
//   lane_bench --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
// "items" are frames of the stream (messages in the whole path). Times are a thread's own; nothing sleeps, nobody else runs.
#include "tests/bench/lane_bench.hpp"

#include "pmd/eal.hpp"

namespace thalweg::bench {
namespace {

// ---- frames for the receiving benchmarks ----

struct Datagrams {
  Datagrams(Stream& stream, std::int32_t frames_each) : frames{frames_each}, bytes(static_cast<std::size_t>(48 + frames_each * kFrame)) {
    const wire::UdpFrameTemplate header = stream.header(true);
    length = header.length() + static_cast<std::size_t>(frames * kFrame);
    header.write(bytes.data(), static_cast<std::size_t>(frames * kFrame));
    for (std::int32_t i = 0; i < frames; ++i) {
      wire::build(bytes.data() + header.length() + i * kFrame,
                  wire::DataHeader{kFrame, wire::flag::kUnfragmented, wire::FrameType::kData, 0, stream.wanted().session_id, 1001, 0, 0});
    }
  }
  // A frame with the datagram at `position`; moves the position on. `initial`: of the stream.
  void write(rte_mbuf* m, std::int64_t& position, std::int32_t initial, int bits) {
    auto* const p = rte_pktmbuf_mtod(m, std::byte*);
    std::memcpy(p, bytes.data(), length);
    for (std::int32_t i = 0; i < frames; ++i, position += kFrame) {
      std::byte* const frame = p + wire::kUdpFrameHeaderLength + i * kFrame;
      store_le(frame + 8, wire::term_offset_of(position, bits));
      store_le(frame + 20, wire::term_id_of(position, initial, bits));
    }
    m->data_len = static_cast<std::uint16_t>(length);
    m->pkt_len = static_cast<std::uint32_t>(length);
  }
  std::int32_t frames;
  std::vector<std::byte> bytes;
  std::size_t length{};
};

void bare_receive(benchmark::State& state) {
  Stream stream;
  Bare bare;
  Datagrams datagrams{stream, static_cast<std::int32_t>(state.range(0))};
  std::int64_t position = 0;
  std::int64_t copied = 0;
  const unsigned run = state.range(0) == 1 ? kRun : 2 * kBurst;
  Runs runs{run * state.range(0)};
  for (auto _ : state) {
    rte_mbuf* frames[kRun];
    rte_pktmbuf_alloc_bulk(bare.pool->get(), frames, run);
    for (unsigned i = 0; i < run; ++i) {
      if (wire::term_offset_of(position, 20) + datagrams.frames * kFrame > kTermLength) position = (position | (kTermLength - 1)) + 1;
      datagrams.write(frames[i], position, 100, 20);
    }
    rte_ring_sp_enqueue_bulk(bare.ring, reinterpret_cast<void**>(frames), run, nullptr);
    runs.time(state, [&] {
      while (bare_receive_burst(bare, stream_word(stream), copied) != 0) {}
    });
  }
  runs.report(state);
}

// Puts a run of datagrams on the cable to node b. `bare`: its pool, buffers of the other end.
void feed(Stream& stream, Bare& bare, Datagrams& datagrams, unsigned run, std::int64_t& position) {
  const std::int32_t initial = stream.wanted().initial_term_id;
  rte_mbuf* frames[kRun];
  rte_pktmbuf_alloc_bulk(bare.pool->get(), frames, run);
  for (unsigned i = 0; i < run; ++i) {
    const std::int64_t left = kTermLength - wire::term_offset_of(position, 20);
    datagrams.write(frames[i], position, initial, 20);
    if (left >= datagrams.frames * kFrame) continue;
    // The end of a term: padding in place of frames that do not fit.
    position -= datagrams.frames * kFrame;
    auto* const p = rte_pktmbuf_mtod(frames[i], std::byte*);
    stream.header(true).write(p, wire::kDataHeaderLength);
    wire::build(p + 42, wire::DataHeader{static_cast<std::int32_t>(left), wire::flag::kUnfragmented, wire::FrameType::kPad,
                                         wire::term_offset_of(position, 20), stream.wanted().session_id, 1001,
                                         wire::term_id_of(position, initial, 20), 0});
    frames[i]->data_len = 74;
    frames[i]->pkt_len = 74;
    position += left;
  }
  for (unsigned sent = 0; sent < run; sent += kBurst) benchmark::DoNotOptimize(stream.port_a().tx_burst(0, frames + sent, kBurst));
}

void drain(pmd::Port& port) {
  rte_mbuf* frames[kBurst];
  while (const std::uint16_t count = port.rx_burst(0, frames, kBurst)) rte_pktmbuf_free_bulk(frames, count);
}

void lane_receive(benchmark::State& state) {
  Stream stream;
  Bare bare;
  Datagrams datagrams{stream, static_cast<std::int32_t>(state.range(0))};
  core::Lane& lane = stream.lane_b();
  std::int64_t position = stream.receiver().high_water;
  // A window's worth at most: 14 frames a datagram need shorter runs.
  const unsigned run = state.range(0) == 1 ? kRun : 2 * kBurst;
  Runs runs{run * state.range(0)};
  for (auto _ : state) {
    feed(stream, bare, datagrams, run, position);
    runs.time(state, [&] {
      for (unsigned n = 0; n < run; n += kBurst) lane.turn(stream.now());
    });
    if (stream.receiver().rebuild_position != position) {
      state.SkipWithError("the lane did not take every frame");
      break;
    }
    stream.subscriber.set(position);   // the status message and the cleaning that follow belong to the next run
    drain(stream.port_a());
  }
  runs.report(state);
}

// What the receiver at `to` would have said about (from, position]: one status message each 32 KiB.
struct StatusMessages {
  wire::UdpFrameTemplate header;
  std::int32_t session_id{};
  std::int64_t receiver_id{};
  void inject(Stream& stream, Node& to, std::int64_t from, std::int64_t position) const {
    const std::int32_t initial = stream.wanted().initial_term_id;
    for (std::int64_t at = from; at <= position; at += 32 << 10) {
      wire::StatusMessage sm;
      sm.session_id = session_id;
      sm.stream_id = 1001;
      sm.consumption_term_id = wire::term_id_of(at, initial, 20);
      sm.consumption_term_offset = wire::term_offset_of(at, 20);
      sm.window_length = 256 << 10;
      sm.receiver_id = receiver_id;
      std::byte frame[96];
      header.write(frame, wire::StatusMessage::kLength);
      wire::build(frame + 42, sm);
      stream.nodes.inject(to, {frame, 42 + wire::StatusMessage::kLength});
    }
  }
};

// Received into an image's log and sent on from it, by one lane: its status messages go both ways. Second argument: 1 = under another session.
void lane_relay(benchmark::State& state) {
  const bool is_single = state.range(0) == 1;
  Stream stream{{.is_relayed = true, .has_other_ids = state.range(1) != 0, .mtu = is_single ? kFrame : 1408}};
  Bare bare;
  Datagrams datagrams{stream, static_cast<std::int32_t>(state.range(0))};
  std::int64_t position = stream.receiver().high_water;
  const unsigned run = is_single ? kRun : 2 * kBurst;
  auto& registry_a = stream.nodes.a.control.registry();
  const auto& relay = stream.nodes.b.control.registry().publications[0].desired;
  wire::UdpFrameTemplate::Options header;
  header.source_mac = stream.port_a().mac();
  header.destination_mac = stream.port_b().mac();
  header.source = {TwoNodes::kAddressA, kRelayPort};
  header.destination = {TwoNodes::kAddressB, stream.nodes.b.control.registry().endpoints[relay.endpoint].observed.bound_port};
  const std::uint32_t receives_at = registry_a.images[stream.nodes.a.control.images().front()].desired.endpoint;
  const StatusMessages answers{wire::UdpFrameTemplate{header}, relay.session_id, registry_a.endpoints[receives_at].observed.receiver_id};
  Runs runs{run * state.range(0)};
  for (auto _ : state) {
    const std::int64_t from = position;
    feed(stream, bare, datagrams, run, position);
    answers.inject(stream, stream.nodes.b, from, from);
    runs.time(state, [&] {
      for (unsigned n = 0; n < 3 * run && stream.relay().sender_position < position; n += kBurst) stream.lane_b().turn(stream.now());
    });
    if (stream.relay().sender_position != position) {
      state.SkipWithError("the relay did not send every frame");
      break;
    }
    stream.subscriber.set(position);
    drain(stream.port_a());
  }
  runs.report(state);
}

// ---- sending ----

void bare_send(benchmark::State& state) {
  Stream stream;
  Bare bare;
  const wire::UdpFrameTemplate header = stream.header(true);
  const auto length = static_cast<std::size_t>(state.range(0) * kFrame);
  std::int64_t position = 0;
  const unsigned run = state.range(0) == 1 ? kRun : 2 * kBurst;
  Runs runs{run * state.range(0)};
  for (auto _ : state) {
    // The application wrote these bytes just before.
    std::int64_t writing = position;
    std::byte payload[kFrame - 32]{};
    for (std::int64_t i = 0; i < run * state.range(0); ++i) writing = offer(bare.log, writing, 1, 100, payload, sizeof payload);
    runs.time(state, [&] { bare_send_run(bare, header, bare.log, position, length, run); });
    position = writing;
    rte_mbuf* frames[kBurst];
    while (const unsigned count = rte_ring_sc_dequeue_burst(bare.ring, reinterpret_cast<void**>(frames), kBurst, nullptr)) {
      rte_pktmbuf_free_bulk(frames, count);
    }
  }
  runs.report(state);
}

// One frame a datagram: with an MTU that has no room for a second.
void lane_send(benchmark::State& state) {
  Stream stream{{.mtu = state.range(0) == 1 ? kFrame : 1408}};
  core::Lane& lane = stream.lane_a();
  const bool is_single = state.range(0) == 1;
  const unsigned run = is_single ? kRun : 2 * kBurst;
  std::int64_t position = stream.sender().sender_position;
  const std::int32_t initial = stream.wanted().initial_term_id;
  std::byte payload[1344]{};
  const StatusMessages answers{stream.header(false), stream.wanted().session_id, stream.nodes.b.control.registry().endpoints[0].observed.receiver_id};
  Runs runs{run * state.range(0)};
  for (auto _ : state) {
    for (std::int64_t i = 0; i < run * state.range(0); ++i) {
      position = offer(stream.sent, position, stream.wanted().session_id, initial, payload, kFrame - 32);
    }
    answers.inject(stream, stream.nodes.a, stream.sender().sender_position, position);
    runs.time(state, [&] {
      while (stream.sender().sender_position < position) lane.turn(stream.now());
    });
    drain(stream.port_b());
  }
  runs.report(state);
}

// A turn that finds nothing to do, with a connected stream that has just been busy: what each burst shares.
void lane_turn(benchmark::State& state) {
  Stream stream;
  constexpr int kTurns = 8;   // fewer than make a stream idle
  std::int64_t position = stream.sender().sender_position;
  const std::int32_t initial = stream.wanted().initial_term_id;
  std::byte payload[64]{};
  std::uint64_t sum = 0;
  Runs runs{kTurns};
  for (auto _ : state) {
    const std::int64_t from = position;
    position = offer(stream.sent, position, stream.wanted().session_id, initial, payload, sizeof payload);
    stream.lane_a().turn(stream.now());
    stream.lane_b().turn(stream.now());
    stream.subscriber.set(poll(stream.received, from, position, sum));
    stream.lane_b().turn(stream.now());
    stream.lane_a().turn(stream.now());
    core::Lane& lane = state.range(0) == 0 ? stream.lane_a() : stream.lane_b();
    runs.time(state, [&] {
      for (int i = 0; i < kTurns; ++i) lane.turn(stream.now());
    });
  }
  benchmark::DoNotOptimize(sum);
  runs.report(state);
}

}  // namespace

BENCHMARK(lane_turn)->Arg(0)->Arg(1)->UseManualTime();
BENCHMARK(bare_receive)->Arg(1)->Arg(14)->UseManualTime();
BENCHMARK(lane_receive)->Arg(1)->Arg(14)->UseManualTime();
BENCHMARK(lane_relay)->ArgsProduct({{1, 14}, {0, 1}})->UseManualTime();
BENCHMARK(bare_send)->Arg(1)->Arg(14)->UseManualTime();
BENCHMARK(lane_send)->Arg(1)->Arg(14)->UseManualTime();

}  // namespace thalweg::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  using namespace thalweg;
  pmd::EalOptions options;
  options.instance = "thalweg-bench";
  options.memory = pmd::EalMemory::kAuto;
  options.memory_bytes = 160U << 20;
  options.log_level = pmd::LogLevel::kError;
  const auto eal = pmd::Eal::start(options);
  if (!eal) {
    std::fprintf(stderr, "%s\n", eal.error().message.c_str());
    return 1;
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
