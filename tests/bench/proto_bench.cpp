// What a frame costs in proto/, against a bare loop that parses and copies the same bytes, measured in the same run:
//   proto_bench --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
// "items" are frames. The bare loops do the least a receiver or sender can do: read the header, find the place, copy.
#include <benchmark/benchmark.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <vector>

#include "dataplane/proto/dispatcher.hpp"
#include "dataplane/proto/image.hpp"
#include "dataplane/proto/publication.hpp"

namespace {

using namespace thalweg;

constexpr std::int32_t kTermLength = 1 << 20;
constexpr std::int32_t kFrame = 64;          // header and 32 bytes of payload
constexpr std::int32_t kSession = 77, kStream = 1001, kInitial = 7;
constexpr int kBits = wire::position_bits(kTermLength);
constexpr int kBurst = 32;                   // datagrams per turn, as a lane takes them
constexpr std::int64_t kRun = 448;           // frames per timed run: 14 bursts of single frames, or one burst of 14 frames each

// Times a run by itself: the preparation between two runs is long against it, and the library's pause costs more than the run.
template <typename Run>
void timed(benchmark::State& state, Run&& run) {
  const auto from = std::chrono::steady_clock::now();
  run();
  state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count());
}

class HeapLog {
 public:
  HeapLog() : length_{shm::log_file_length(kTermLength, 4096)}, memory_{static_cast<std::byte*>(std::aligned_alloc(4096, length_)), &std::free} {
    std::memset(memory_.get(), 0, length_);
    log = shm::LogBuffer{memory_.get(), length_, kTermLength};
  }
  shm::LogBuffer log;

 private:
  std::size_t length_;
  std::unique_ptr<std::byte, decltype(&std::free)> memory_;
};

// A run's datagrams of `frames` frames each, rewritten for each run's position as they would arrive.
struct Datagrams {
  explicit Datagrams(std::int64_t frames) : bytes(kRun * kFrame), datagram_bytes{static_cast<std::size_t>(frames * kFrame)} {
    for (std::int64_t f = 0; f < kRun; ++f) {
      wire::build(&bytes[static_cast<std::size_t>(f * kFrame)],
                  wire::DataHeader{.frame_length = kFrame, .session_id = kSession, .stream_id = kStream, .term_id = kInitial});
    }
  }
  void move_to(std::int64_t position) {
    for (std::size_t at = 0; at < bytes.size(); at += kFrame, position += kFrame) {
      store_le(&bytes[at + 8], wire::term_offset_of(position, kBits));
      store_le(&bytes[at + 20], wire::term_id_of(position, kInitial, kBits));
    }
  }
  [[nodiscard]] std::size_t size() const { return bytes.size() / datagram_bytes; }
  [[nodiscard]] std::span<const std::byte> at(std::size_t i) const { return {&bytes[i * datagram_bytes], datagram_bytes}; }
  std::vector<std::byte> bytes;
  std::size_t datagram_bytes;
};

struct ImageSetUp {
  ImageSetUp() {
    auto& d = slot->desired;
    d.session_id = kSession;
    d.stream_id = kStream;
    d.initial_term_id = kInitial;
    d.term_length = kTermLength;
    d.window_length = 128 << 10;
    d.flags = shm::ImageFlags::kReliable;
    d.liveness_timeout_ns = 10 * kSecond_ns;
    d.sm_timeout_ns = 200 * kMillisecond_ns;
    d.state = shm::Desired::kActive;
    proto::Image::Context c;
    c.desired = &slot->desired;
    c.state = &slot->observed.state;
    c.log = log.log;
    c.rcv_hwm = shm::Counter{&counters[0]};
    c.rcv_pos = shm::Counter{&counters[16]};
    c.rcv_naks = shm::Counter{&counters[32]};
    c.counters = proto::LaneCounters{lane.data()};
    image = proto::Image{c};
    image.start(1);
  }
  HeapLog log;
  std::unique_ptr<shm::ImageSlot> slot{std::make_unique<shm::ImageSlot>()};
  alignas(64) std::array<std::int64_t, 64> counters{};
  std::array<std::uint64_t, shm::kLaneCounterCount> lane{};
  proto::Image image;
};

struct NullSink {
  bool send_log(std::span<const std::byte> bytes) { return take(bytes); }
  bool send_control(std::span<const std::byte> bytes) { return take(bytes); }
  bool take(std::span<const std::byte> bytes) {
    benchmark::DoNotOptimize(bytes.data());
    return true;
  }
};
// Copies behind a frame header, as a lane does for small frames.
struct CopySink {
  bool send_log(std::span<const std::byte> bytes) { return take(bytes); }
  bool send_control(std::span<const std::byte> bytes) { return take(bytes); }
  bool take(std::span<const std::byte> bytes) {
    std::memcpy(ring.data() + at, bytes.data(), bytes.size());
    at = (at + 2048) & (ring.size() - 1);
    return true;
  }
  std::vector<std::byte> ring = std::vector<std::byte>(2 * 64 * 2048);
  std::size_t at{};
};

void bare_receive(benchmark::State& state) {
  HeapLog heap;
  Datagrams in{state.range(0)};
  std::int64_t position = 0;
  for (auto _ : state) {
    if (wire::term_offset_of(position, kBits) + kRun * kFrame > kTermLength) position = align_up<std::int64_t>(position, kTermLength);
    in.move_to(position);
    timed(state, [&] {
      for (std::size_t i = 0; i < in.size(); ++i) {
        const auto d = in.at(i);
        const wire::DataView v{d.data()};
        std::byte* to = heap.log.at(wire::position_of(v.term_id(), v.term_offset(), kInitial, kBits));
        std::memcpy(to + 8, d.data() + 8, d.size() - 8);
        proto::frame_word_release(to, load_le<std::uint64_t>(d.data()));
      }
    });
    position += kRun * kFrame;
  }
  state.SetItemsProcessed(state.iterations() * kRun);
}

// Pads the rest of the term where a run would not fit.
void fit_run(proto::Image& image, std::int64_t now) {
  const std::int64_t p = image.state().high_water;
  const std::int32_t room = kTermLength - wire::term_offset_of(p, kBits);
  if (room >= kRun * kFrame) return;
  std::array<std::byte, 32> pad{};
  wire::build(pad.data(), wire::DataHeader{.frame_length = room, .type = wire::FrameType::kPad, .term_offset = wire::term_offset_of(p, kBits),
                                           .session_id = kSession, .stream_id = kStream, .term_id = wire::term_id_of(p, kInitial, kBits)});
  image.insert(pad, 0, now);
}

void insert_and_duty(benchmark::State& state) {
  ImageSetUp s;
  Datagrams in{state.range(0)};
  NullSink sink;
  std::int64_t now = 1;
  std::uint64_t refused = 0;
  for (auto _ : state) {
    fit_run(s.image, now);
    in.move_to(s.image.state().high_water);
    timed(state, [&] {
      for (std::size_t i = 0; i < in.size();) {
        for (const std::size_t end = std::min<std::size_t>(in.size(), i + kBurst); i < end; ++i) {
          refused += s.image.insert(in.at(i), 0, now) != proto::Insert::kInserted;
        }
        const std::int64_t consumed = s.image.state().rebuild_position;
        s.image.duty({consumed, consumed, 1}, now, [&](std::size_t) -> NullSink& { return sink; });
        now += kMicrosecond_ns;
      }
    });
  }
  if (refused != 0 || s.image.has_gap()) state.SkipWithError("not all was inserted");
  state.SetItemsProcessed(state.iterations() * kRun);
}

void duty_idle(benchmark::State& state) {
  ImageSetUp s;
  NullSink sink;
  s.image.duty({0, 0, 1}, 2, [&](std::size_t) -> NullSink& { return sink; });
  for (auto _ : state) benchmark::DoNotOptimize(s.image.duty({0, 0, 1}, 3, [&](std::size_t) -> NullSink& { return sink; }));
}

struct PublicationSetUp {
  explicit PublicationSetUp(std::int32_t mtu) {
    auto& d = slot->desired;
    d.session_id = kSession;
    d.stream_id = kStream;
    d.initial_term_id = kInitial;
    d.term_length = kTermLength;
    d.mtu = mtu;
    d.connection_timeout_ns = 5 * kSecond_ns;
    d.state = shm::Desired::kActive;
    shm::init_log_metadata(log.log, {.initial_term_id = kInitial, .start_term_id = kInitial, .session_id = kSession, .stream_id = kStream,
                                     .mtu = mtu, .term_length = kTermLength});
    proto::Publication::Context c;
    c.desired = &slot->desired;
    c.state = &slot->observed.state;
    c.log = log.log;
    c.pub_pos = shm::Counter{&counters[0]};
    c.pub_lmt = shm::Counter{&counters[16]};
    c.snd_pos = shm::Counter{&counters[32]};
    c.snd_lmt = shm::Counter{&counters[48]};
    c.counters = proto::LaneCounters{lane.data()};
    publication = proto::Publication{c};
    publication.start(1);
    NullSink sink;
    publication.send(1, sink);
    acknowledge();
  }
  void acknowledge() {
    const std::int64_t p = publication.state().sender_position;
    publication.on_status_message({0, kSession, kStream, wire::term_id_of(p, kInitial, kBits), wire::term_offset_of(p, kBits), kTermLength / 2, 1, {}},
                                  {1, 1}, 1);
  }
  // Puts a run of frames at the sender position, padding the term where they do not fit.
  void publish(bool is_committed) {
    acknowledge();
    std::int64_t p = publication.state().sender_position;
    const std::int32_t room = kTermLength - wire::term_offset_of(p, kBits);
    if (room < kRun * kFrame) {
      write(p, room, wire::FrameType::kPad);
      NullSink sink;
      publication.send(1, sink);
      const std::int32_t count = wire::term_count_of(p, kBits);
      shm::rotate_log(log.log, count, kInitial + count);
      acknowledge();
      p += room;
    }
    for (std::int64_t i = 0; i < kRun; ++i) write(p + i * kFrame, is_committed ? kFrame : 0, wire::FrameType::kData);
    const auto partition = static_cast<std::size_t>(wire::partition_of(p, kBits));
    const auto tail = wire::term_offset_of(p, kBits) + static_cast<std::int32_t>(kRun * kFrame);
    log.log.store<std::int64_t>(8 * partition, shm::pack_tail(wire::term_id_of(p, kInitial, kBits), tail));
  }
  void write(std::int64_t p, std::int32_t length, wire::FrameType type) {
    wire::build(log.log.at(p), wire::DataHeader{.frame_length = length, .type = type, .term_offset = wire::term_offset_of(p, kBits),
                                                .session_id = kSession, .stream_id = kStream, .term_id = wire::term_id_of(p, kInitial, kBits)});
  }
  HeapLog log;
  std::unique_ptr<shm::PublicationSlot> slot{std::make_unique<shm::PublicationSlot>()};
  alignas(64) std::array<std::int64_t, 64> counters{};
  std::array<std::uint64_t, shm::kLaneCounterCount> lane{};
  proto::Publication publication;
};

// Range: MTU. 64: each frame in a datagram of its own; 896: 14 frames in one.
template <typename Sink>
void send_and_limit(benchmark::State& state) {
  PublicationSetUp s{static_cast<std::int32_t>(state.range(0))};
  Sink sink;
  std::int64_t bytes = 0;
  for (auto _ : state) {
    s.publish(true);
    timed(state, [&] {
      while (s.publication.has_data()) {
        bytes += s.publication.send(2, sink).bytes;
        s.publication.update_limit({}, 2);
      }
    });
  }
  if (bytes != static_cast<std::int64_t>(state.iterations()) * kRun * kFrame) state.SkipWithError("frames lost");
  state.SetItemsProcessed(bytes / kFrame);
}

// The publisher commits one frame per turn: what a paced stream costs.
void send_one_per_turn(benchmark::State& state) {
  PublicationSetUp s{1408};
  CopySink sink;
  std::int64_t bytes = 0;
  for (auto _ : state) {
    s.publish(false);
    timed(state, [&] {
      for (std::int64_t i = 0; i < kRun; ++i) {
        shm::frame_length_release(s.log.log.at(s.publication.state().sender_position), kFrame);
        bytes += s.publication.send(2, sink).bytes;
        s.publication.update_limit({}, 2);
      }
    });
  }
  if (bytes != static_cast<std::int64_t>(state.iterations()) * kRun * kFrame) state.SkipWithError("frames lost");
  state.SetItemsProcessed(bytes / kFrame);
}

void bare_send(benchmark::State& state) {
  PublicationSetUp s{static_cast<std::int32_t>(state.range(0))};
  CopySink sink;
  for (auto _ : state) {
    s.publish(true);
    std::int64_t p = s.publication.state().sender_position;
    const std::int64_t end = p + kRun * kFrame;
    timed(state, [&] {
      while (p < end) {  // find the frames of one datagram, copy them
        std::int64_t n = 0;
        std::byte* from = s.log.log.at(p);
        while (p + n < end && n + kFrame <= state.range(0)) n += wire::align_frame(shm::frame_length_acquire(from + n));
        sink.take({from, static_cast<std::size_t>(n)});
        p += n;
      }
    });
    NullSink null;
    while (s.publication.has_data()) s.publication.send(2, null);
    s.publication.update_limit({}, 2);
  }
  state.SetItemsProcessed(state.iterations() * kRun);
}

void send_idle(benchmark::State& state) {
  PublicationSetUp s{1408};
  NullSink sink;
  s.publication.send(2, sink);
  for (auto _ : state) benchmark::DoNotOptimize(s.publication.send(3, sink));
}

void has_data_idle(benchmark::State& state) {
  PublicationSetUp s{1408};
  for (auto _ : state) benchmark::DoNotOptimize(s.publication.has_data());
}

void dispatch_data(benchmark::State& state) {
  proto::Dispatcher d{1024};
  d.add_interest(kStream, false, 0);
  for (std::int32_t i = 0; i < state.range(0); ++i) d.image_live(kStream, i * 7919, static_cast<std::uint32_t>(i));
  std::int32_t i = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(d.on_data(kStream, i * 7919, false, 1));
    i = (i + 1) & static_cast<std::int32_t>(state.range(0) - 1);
  }
}

}  // namespace

BENCHMARK(bare_receive)->Arg(1)->Arg(14)->UseManualTime();
BENCHMARK(insert_and_duty)->Arg(1)->Arg(14)->UseManualTime();
BENCHMARK(duty_idle);
BENCHMARK(bare_send)->Arg(64)->Arg(896)->UseManualTime();
BENCHMARK_TEMPLATE(send_and_limit, CopySink)->Arg(64)->Arg(896)->UseManualTime();
BENCHMARK_TEMPLATE(send_and_limit, NullSink)->Arg(64)->Arg(896)->UseManualTime();
BENCHMARK(send_one_per_turn)->UseManualTime();
BENCHMARK(send_idle);
BENCHMARK(has_data_idle);
BENCHMARK(dispatch_data)->Arg(1)->Arg(512);
BENCHMARK_MAIN();
