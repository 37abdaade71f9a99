// The whole way of a message in one thread, alone and beside idle streams, and goodput over a link that loses frames.
#include "dataplane/base/random.hpp"
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

// Simulated time from the moment a lost datagram would have been there until it is, in a stream of a message each 5 us over 20 us each way:
// the 99th percentile of 500 single losses. Deterministic. Argument: 1 = our repair settings.
void recovery(benchmark::State& state) {
  constexpr std::size_t kLosses = 500;
  constexpr std::int64_t kStep_ns = 1'000;
  std::vector<std::int64_t> taken_ns;
  for (auto _ : state) {
    TwoNodes::Options options;
    options.step_ns = kStep_ns;
    options.impair_a = options.impair_b = {.delay_ns = 20'000};
    TwoNodes nodes{options};
    FakeControl::SubscriptionOptions s{.local = {TwoNodes::kAddressB, kPort}};
    FakeControl::PublicationOptions p{.remote = s.local, .term_length = kTermLength};
    p.is_retransmit_linger_auto = s.naks_all_gaps = state.range(0) != 0;
    nodes.b.control.add_subscription(s);
    auto& sender = nodes.a.control.publication_state(nodes.a.control.add_publication(p));
    if (!nodes.run_until([&] { return sender.is_connected != 0 && sender.publisher_limit > 0; }, 5 * kSecond_ns)) {
      state.SkipWithError("the stream did not connect");
      break;
    }
    Publisher& publisher = nodes.a.control.publisher(0);
    Subscriber& subscriber = nodes.b.control.subscriber(nodes.b.control.image_links().front());
    shm::ImageState& image = nodes.b.control.image_state(nodes.b.control.images().front());
    std::int64_t lost_at = -1, lost_ns = 0, next_loss_ns = nodes.now_ns + kMillisecond_ns;
    *nodes.b.filter = [&](rte_mbuf* frame) {
      const auto* const datagram = rte_pktmbuf_mtod(frame, const std::byte*) + wire::kUdpFrameHeaderLength;
      const bool is_data = frame->data_len > wire::kUdpFrameHeaderLength + wire::kDataHeaderLength &&
                           load_le<std::uint16_t>(datagram + 6) == static_cast<std::uint16_t>(wire::FrameType::kData);
      if (!is_data || lost_at >= 0 || nodes.now_ns < next_loss_ns) return false;
      lost_at = wire::position_of(load_le<std::int32_t>(datagram + 20), load_le<std::int32_t>(datagram + 8), p.initial_term_id, wire::position_bits(kTermLength));
      lost_ns = nodes.now_ns;
      return true;
    };
    const std::string message(256, 'x');
    Random random{3};
    taken_ns.clear();
    std::int64_t offered_ns = 0;
    nodes.run_until([&] {
      if (nodes.now_ns - offered_ns >= 5'000 && publisher.offer(std::as_bytes(std::span{message}))) offered_ns = nodes.now_ns;
      subscriber.poll();
      subscriber.discard();
      if (lost_at >= 0 && image.rebuild_position > lost_at) {
        taken_ns.push_back(nodes.now_ns - lost_ns);
        lost_at = -1;
        next_loss_ns = nodes.now_ns + 200'000 + static_cast<std::int64_t>(random.below(100'000));
      }
      return taken_ns.size() == kLosses;
    }, 60 * kSecond_ns);
    if (taken_ns.size() < kLosses) {
      state.SkipWithError("a loss was not repaired");
      break;
    }
  }
  if (taken_ns.empty()) return;
  std::sort(taken_ns.begin(), taken_ns.end());
  state.counters["recovery_p50_ns"] = static_cast<double>(taken_ns[taken_ns.size() / 2]);
  state.counters["recovery_p99_ns"] = static_cast<double>(taken_ns[taken_ns.size() * 99 / 100]);
}

}  // namespace

BENCHMARK(bare_path)->Arg(32)->Arg(288)->Arg(1376)->UseManualTime();
BENCHMARK(lane_path)->Arg(32)->Arg(288)->Arg(1376)->UseManualTime();
BENCHMARK(lane_path_idle_connected)->Args({288, 0})->Args({288, 1'000})->UseManualTime();
BENCHMARK(lane_path_idle_untouched)->Args({288, 1'000})->UseManualTime();
BENCHMARK(lane_path_idle_unconnected)->Args({288, 0})->Args({288, 4'095})->UseManualTime();
BENCHMARK(recovery)->Arg(0)->Arg(1)->Iterations(1)->Unit(benchmark::kMillisecond);
BENCHMARK(goodput)->ArgsProduct({{0, 1, 5, 10}, {0, 1}, {128, 512}})->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace thalweg::bench
