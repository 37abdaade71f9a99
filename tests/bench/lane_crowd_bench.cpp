// 64 busy streams through two lanes in one thread, alone and with both tables of streams full of others that are registered and silent.
#include "tests/bench/lane_bench.hpp"

namespace thalweg::bench {
namespace {

constexpr std::uint32_t kActive = 64;
constexpr std::int32_t kActiveTerm = 256 << 10;
constexpr int kMessagesEach = 4;      // of one round, on each stream
constexpr std::int32_t kPayload = 288;
constexpr std::uint16_t kEndpoints = 8;   // each takes 4,096 sessions at most

class Crowd {
 public:
  Crowd(std::uint32_t publications, std::uint32_t images) : nodes{TwoNodes::Options{.packet_buffers = 8191, .has_filters = false, .counters = 1 << 15}} {
    nodes.a.control.is_lean = nodes.b.control.is_lean = true;
    for (std::uint16_t i = 0; i < kEndpoints; ++i) {
      nodes.b.control.add_subscription({.local = {TwoNodes::kAddressB, static_cast<std::uint16_t>(kPort + i)}, .liveness_timeout_ns = 3'600 * kSecond_ns});
    }
    FakeControl::PublicationOptions p{.remote = {TwoNodes::kAddressB, kPort}, .term_length = kActiveTerm};
    for (std::uint32_t i = 0; i < kActive; ++i) {
      p.session_id = static_cast<std::int32_t>(1 + i);
      slots_.push_back(nodes.a.control.add_publication(p));
      p.endpoint = 0;   // all share the first's
    }
    nodes.run_until([&] { return nodes.b.control.images().size() == kActive && are_connected(); }, 5 * kSecond_ns);
    add_publications(p, publications - kActive);
    add_images(images - kActive);
    nodes.run_for(300 * kMillisecond_ns);
    for (std::uint32_t i = 0; i < kActive; ++i) enter(i);
    clock_.start();
    calibration_ = clock_.calibration();
    offset_ns_ = nodes.now_ns - calibration_.to_ns(core::TscClock::read_tsc());
  }
  [[nodiscard]] std::int64_t now() const noexcept { return calibration_.to_ns(core::TscClock::read_tsc()) + offset_ns_; }

  // Offers on every stream, moves everything, reads every byte. False: something did not arrive.
  bool round() {
    for (Busy& busy : streams_) {
      for (int i = 0; i < kMessagesEach; ++i) busy.offered = offer(busy.sent, busy.offered, busy.session_id, 100, payload_.data(), kPayload);
    }
    const std::int64_t now_ns = now();
    nodes.a.plane->lane(0).turn(now_ns);
    nodes.b.plane->lane(0).turn(now_ns);
    bool is_whole = true;
    for (Busy& busy : streams_) {
      busy.polled = poll(busy.received, busy.polled, busy.offered, sum_);
      busy.subscriber.set(busy.polled);
      is_whole &= busy.polled == busy.offered;
    }
    return is_whole;
  }
  // Lets what a full ring or window held back come through.
  bool settle() {
    for (int i = 0; i < 1'000; ++i) {
      nodes.a.plane->lane(0).turn(now());
      nodes.b.plane->lane(0).turn(now());
      bool is_whole = true;
      for (Busy& busy : streams_) {
        busy.polled = poll(busy.received, busy.polled, busy.offered, sum_);
        busy.subscriber.set(busy.polled);
        is_whole &= busy.polled == busy.offered;
      }
      if (is_whole) return true;
    }
    return false;
  }

  TwoNodes nodes;

 private:
  struct Busy {
    shm::LogBuffer sent, received;
    shm::Counter subscriber;
    std::int32_t session_id{};
    std::int64_t offered{}, polled{};
  };
  bool are_connected() {
    return std::all_of(slots_.begin(), slots_.end(), [this](std::uint32_t slot) { return nodes.a.control.publication_state(slot).is_connected != 0; });
  }
  void add_publications(FakeControl::PublicationOptions p, std::uint32_t count) {
    p.term_length = 64 << 10;
    p.stream_id = 2'000;   // nobody's
    for (std::uint32_t i = 1; i <= count; ++i) {
      p.session_id = static_cast<std::int32_t>(100'000 + i);
      nodes.a.control.add_publication(p);
      if (i % 64 == 0) nodes.run_for(2 * kMillisecond_ns);
    }
  }
  // SETUPs of senders that say nothing else.
  void add_images(std::uint32_t count) {
    wire::UdpFrameTemplate::Options header;
    header.source_mac = nodes.a.plane->port(0).mac();
    header.destination_mac = nodes.b.plane->port(0).mac();
    header.source = {TwoNodes::kAddressA, 9};
    header.destination = {TwoNodes::kAddressB, kPort};
    for (std::uint32_t i = 1; i <= count; ++i) {
      header.destination.port = static_cast<std::uint16_t>(kPort + i % kEndpoints);
      const wire::UdpFrameTemplate to_b{header};
      wire::Setup setup;
      setup.session_id = static_cast<std::int32_t>(1'000'000 + i);
      setup.stream_id = 1001;
      setup.initial_term_id = setup.active_term_id = 100;
      setup.term_offset = static_cast<std::int32_t>(i % 512) * kFrame;
      setup.term_length = 64 << 10;
      setup.mtu = 1408;
      std::byte frame[96];
      to_b.write(frame, wire::Setup::kLength);
      wire::build(frame + wire::kUdpFrameHeaderLength, setup);
      nodes.inject(nodes.b, {frame, wire::kUdpFrameHeaderLength + wire::Setup::kLength});
      if (i % 32 == 0) nodes.run_for(kMillisecond_ns);
    }
  }
  void enter(std::uint32_t i) {
    Busy busy;
    busy.session_id = nodes.a.control.registry().publications[slots_[i]].desired.session_id;
    busy.sent = nodes.a.control.publisher(slots_[i]).log();
    for (std::size_t k = 0; k < kActive; ++k) {
      const std::uint32_t image = nodes.b.control.images()[k];
      if (nodes.b.control.registry().images[image].desired.session_id != busy.session_id) continue;
      const std::uint32_t link = nodes.b.control.image_links()[k];
      busy.received = nodes.b.control.subscriber(link).log();
      busy.subscriber = nodes.b.control.counters().counter(nodes.b.control.registry().links[link].desired.counter_id);
    }
    streams_.push_back(busy);
  }

  std::vector<std::uint32_t> slots_;
  std::vector<Busy> streams_;
  std::vector<std::byte> payload_ = std::vector<std::byte>(kPayload, std::byte{7});
  std::uint64_t sum_{};
  core::TscClock clock_;
  core::TscClock::Calibration calibration_;
  std::int64_t offset_ns_{};
};

// Arguments: publications and images registered, the 64 busy ones included.
void lane_crowd(benchmark::State& state) {
  Crowd crowd{static_cast<std::uint32_t>(state.range(0)), static_cast<std::uint32_t>(state.range(1))};
  const bool is_full = crowd.nodes.a.plane->lane(0).publication_count() == state.range(0) && crowd.nodes.b.plane->lane(0).image_count() == state.range(1);
  if (!is_full) state.SkipWithError("not all streams are there");
  Runs runs{kActive * kMessagesEach};
  for (auto _ : state) {
    bool is_whole = false;
    runs.time(state, [&] { is_whole = crowd.round(); });
    if (!is_whole && !crowd.settle()) {
      state.SkipWithError("bytes were lost");
      break;
    }
  }
  runs.report(state);
}

}  // namespace

BENCHMARK(lane_crowd)->Args({kActive, kActive})->Args({4'096, 16'384})->UseManualTime();

}  // namespace thalweg::bench
