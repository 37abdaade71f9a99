// The whole way of a message in one thread, alone and beside idle streams, and goodput over a link that loses frames.
#include "tests/bench/lane_bench.hpp"

namespace thalweg::bench {
namespace {

// Messages of one round: three quarters of what a lane sends in one turn, because a turn ends with its term.
constexpr int kDatagramsPerRound = 3 * proto::kDatagramsPerSend / 4;
unsigned messages_per_round(std::int64_t payload) {
  const std::int64_t aligned = wire::align_frame(static_cast<std::int32_t>(payload) + wire::kDataHeaderLength);
  return static_cast<unsigned>(kDatagramsPerRound * (1408 / aligned));
}

// Offer, allocate-header-copy-send, ring, receive-parse-copy, poll every byte: nothing else.
void bare_path(benchmark::State& state) {
  Stream stream;   // for the frame header only
  Bare bare;
  Bare source;     // its log: the publisher's
  const auto length = static_cast<std::int32_t>(state.range(0));
  const std::int32_t aligned = wire::align_frame(length + wire::kDataHeaderLength);
  const unsigned messages = messages_per_round(length);
  const auto datagram = static_cast<std::size_t>(1408 / aligned * aligned);
  const wire::UdpFrameTemplate header = stream.header(true);
  const std::uint64_t word = stream_word(stream);
  std::vector<std::byte> payload(static_cast<std::size_t>(length), std::byte{7});
  std::int64_t offered = 0, sent = 0, received = 0, polled = 0;
  std::uint64_t sum = 0;
  // Rounds end with their term, so that no padding is needed here.
  const std::int64_t rounds_per_term = kTermLength / static_cast<std::int64_t>(kDatagramsPerRound * datagram);
  std::int64_t round = 0;
  Runs runs{messages};
  for (auto _ : state) {
    if (round++ == rounds_per_term) {
      // On to the next of the three terms: as much memory as a stream touches, and as cold.
      round = 1;
      for (std::int64_t* at : {&offered, &sent, &received, &polled}) *at = (*at | (kTermLength - 1)) + 1;
    }
    runs.time(state, [&] {
      for (unsigned i = 0; i < messages; ++i) offered = offer(source.log, offered, stream.wanted().session_id, 100, payload.data(), length);
      bare_send_run(bare, header, source.log, sent, datagram, kDatagramsPerRound);
      while (bare_receive_burst(bare, word, received) != 0) {}
      polled = poll(bare.log, polled, received, sum);
    });
  }
  benchmark::DoNotOptimize(sum);
  if (polled != offered) state.SkipWithError("bytes were lost");
  runs.report(state);
}

void run_path(benchmark::State& state, Stream& stream) {
  const auto length = static_cast<std::int32_t>(state.range(0));
  const unsigned messages = messages_per_round(length);
  const std::int32_t session = stream.wanted().session_id;
  const std::int32_t initial = stream.wanted().initial_term_id;
  std::vector<std::byte> payload(static_cast<std::size_t>(length), std::byte{7});
  std::int64_t offered = stream.sender().sender_position;
  std::int64_t polled = stream.subscriber.get();
  std::uint64_t sum = 0;
  Runs runs{messages};
  bool is_stalled = false;
  for (auto _ : state) {
    runs.time(state, [&] {
      for (unsigned i = 0; i < messages; ++i) offered = offer(stream.sent, offered, session, initial, payload.data(), length);
      const std::int64_t now_ns = stream.now();
      stream.lane_a().turn(now_ns);
      stream.lane_b().turn(now_ns);
      polled = poll(stream.received, polled, offered, sum);
      stream.subscriber.set(polled);
    });
    is_stalled |= offered >= stream.limit.get();
  }
  if (is_stalled) state.SkipWithError("back-pressure: the rounds are not alike");
  benchmark::DoNotOptimize(sum);
  for (int i = 0; i < 100 && polled < offered; ++i) {   // what a full window held back
    stream.lane_a().turn(stream.now());
    stream.lane_b().turn(stream.now());
    polled = poll(stream.received, polled, offered, sum);
    stream.subscriber.set(polled);
  }
  if (polled != offered) state.SkipWithError("bytes were lost");
  runs.report(state);
}

void lane_path(benchmark::State& state) {
  Stream stream;
  run_path(state, stream);
}

// Both lanes carry the idle streams: half of what is added to a turn is the sender's, half the receiver's. Each stands somewhere else in
// its log, as streams do that have carried something.
void lane_path_idle_connected(benchmark::State& state) {
  Stream stream{{.idle_connected = static_cast<std::uint32_t>(state.range(1))}};
  if (stream.lane_b().image_count() != 1 + state.range(1)) state.SkipWithError("not all streams are connected");
  run_path(state, stream);
}

void lane_path_idle_untouched(benchmark::State& state) {
  Stream stream{{.idle_connected = static_cast<std::uint32_t>(state.range(1)), .is_idle_untouched = true}};
  run_path(state, stream);
}

void lane_path_idle_unconnected(benchmark::State& state) {
  Stream stream{{.idle_unconnected = static_cast<std::uint32_t>(state.range(1))}};
  if (stream.lane_a().publication_count() != 1 + state.range(1)) state.SkipWithError("not all publications are there");
  run_path(state, stream);
}

// Bytes per simulated second through a link of 10 Gbit/s and 20 us each way. Deterministic: the same code gives the same figure.
// Arguments: loss in percent, 1 = our repair settings, window in KiB.
void goodput(benchmark::State& state) {
  constexpr std::int64_t kDuration_ns = 20 * kMillisecond_ns;
  double bytes_per_second = 0;
  for (auto _ : state) {
    TwoNodes::Options options;
    options.packet_buffers = 16'383;
    options.step_ns = 2'000;
    options.impair_b = {.loss_ppm = static_cast<std::uint32_t>(state.range(0)) * 10'000, .delay_ns = 20'000, .rate_bits_per_second = 10'000'000'000, .seed = 5};
    options.impair_a = options.impair_b;
    options.impair_a.seed = 6;
    TwoNodes nodes{options};
    FakeControl::SubscriptionOptions s{.local = {TwoNodes::kAddressB, kPort}, .window_length = static_cast<std::int32_t>(state.range(2)) << 10};
    FakeControl::PublicationOptions p{.remote = s.local, .term_length = 16 << 20};
    if (state.range(1) != 0) {
      p.is_retransmit_linger_auto = true;
      s.naks_all_gaps = true;
    }
    nodes.b.control.add_subscription(s);
    const std::uint32_t publication = nodes.a.control.add_publication(p);
    auto& sender = nodes.a.control.publication_state(publication);
    if (!nodes.run_until([&] { return sender.is_connected != 0 && sender.publisher_limit > 0; }, 5 * kSecond_ns)) {
      state.SkipWithError("the stream did not connect");
      break;
    }
    Publisher& publisher = nodes.a.control.publisher(publication);
    Subscriber& subscriber = nodes.b.control.subscriber(nodes.b.control.image_links().front());
    const std::string message(1'376, 'x');
    const auto bytes = std::as_bytes(std::span{message});
    const std::int64_t begin_ns = nodes.now_ns;
    const std::int64_t begin = subscriber.position();
    nodes.run_until([&] {
      while (publisher.offer(bytes)) {}
      subscriber.poll();
      subscriber.discard();
      return false;
    }, kDuration_ns);
    bytes_per_second = static_cast<double>(subscriber.position() - begin) * 1e9 / static_cast<double>(nodes.now_ns - begin_ns);
  }
  state.counters["goodput_MB_per_s"] = bytes_per_second / 1e6;
}

}  // namespace

BENCHMARK(bare_path)->Arg(32)->Arg(288)->Arg(1376)->UseManualTime();
BENCHMARK(lane_path)->Arg(32)->Arg(288)->Arg(1376)->UseManualTime();
BENCHMARK(lane_path_idle_connected)->Args({288, 0})->Args({288, 1'000})->UseManualTime();
BENCHMARK(lane_path_idle_untouched)->Args({288, 1'000})->UseManualTime();
BENCHMARK(lane_path_idle_unconnected)->Args({288, 0})->Args({288, 4'095})->UseManualTime();
BENCHMARK(goodput)->ArgsProduct({{0, 1, 5, 10}, {0, 1}, {128, 512}})->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace thalweg::bench
