// What libthalweg costs: offer, try_claim and poll alone, throughput between two threads, and the round trip, each beside its ceiling.
// The driver's part (limits, cleaning) is played by the test driver of tests/support, in the subscriber's thread and between the timed runs
// of one-thread figures: two cores are enough. THALWEG_BENCH_DIRECTORY=<dir> runs against a real instance there instead.
#include <benchmark/benchmark.h>
#include <immintrin.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <thread>
#include <vector>

#include "dataplane/client/thalweg.hpp"
#include "tests/support/ipc_driver.hpp"
#include "tests/support/temporary_directory.hpp"

namespace {
using namespace thalweg;
using Bytes = std::span<const std::byte>;
using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kMessage = 32;          // bytes of payload: with the header one cache line
constexpr std::int32_t kTermLength = 1 << 20;  // the log stays in the second-level cache
constexpr int kFragmentLimit = 256;
constexpr std::size_t kApart = 128;            // two cache lines: the hardware fetches pairs

// Something one thread writes and another reads, away from everything else.
template <typename T>
struct alignas(kApart) Apart {
  std::atomic<T> value{};
};

// Keeps the calling thread on the nth CPU it may use: a pair of threads on one CPU would only take turns. Does nothing where there are fewer.
class OnCpu {
 public:
  explicit OnCpu(int index) {
    if (::sched_getaffinity(0, sizeof before_, &before_) != 0) return;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &before_) || index-- > 0) continue;
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      is_moved_ = ::sched_setaffinity(0, sizeof one, &one) == 0;
      return;
    }
  }
  OnCpu(const OnCpu&) = delete;
  OnCpu& operator=(const OnCpu&) = delete;
  ~OnCpu() {
    if (is_moved_) static_cast<void>(::sched_setaffinity(0, sizeof before_, &before_));
  }

 private:
  cpu_set_t before_{};
  bool is_moved_{};
};

// Times of the runs of one benchmark. The mean that the library prints is spoilt by every preempted run; the median of short runs is not.
class Runs {
 public:
  Runs(benchmark::State& state, double per_run) : state_{state}, per_run_{per_run} { seconds_.reserve(1 << 16); }
  Runs(const Runs&) = delete;
  Runs& operator=(const Runs&) = delete;
  ~Runs() {
    if (seconds_.empty()) return;
    std::sort(seconds_.begin(), seconds_.end());
    const double median_s = seconds_[seconds_.size() / 2];
    state_.counters["median_ns"] = median_s * 1e9 / per_run_;
    state_.counters["median_per_second"] = per_run_ / median_s;
    state_.counters["best_ns"] = seconds_.front() * 1e9 / per_run_;
  }
  template <typename Work>
  void time(Work&& work) {
    const auto start = SteadyClock::now();
    work();
    const double seconds = std::chrono::duration<double>{SteadyClock::now() - start}.count();
    seconds_.push_back(seconds);
    state_.SetIterationTime(seconds);
  }

 private:
  benchmark::State& state_;
  double per_run_;
  std::vector<double> seconds_;
};

// A driver, real or played, and one client of it.
class Bench {
 public:
  Bench() : real_directory_{std::getenv("THALWEG_BENCH_DIRECTORY")} {
    if (real_directory_ == nullptr) {
      test::IpcDriver::Options options;
      options.directory = directory_.path();
      options.term_length = kTermLength;
      driver_.emplace(std::move(options));
      driver_->beat();
      run_driver_thread();
    }
    client::Context context;
    context.directory = real_directory_ != nullptr ? real_directory_ : directory_.path();
    context.pre_touch_mapped_memory = true;
    auto connected = client::Client::connect(context);
    if (!connected) die(connected.error());
    client_.emplace(std::move(*connected));
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  ~Bench() {
    if (driver_ && !driver_thread_.joinable()) run_driver_thread();  // somebody must take the closing commands
    client_.reset();
    stop_driver_thread();
  }

  struct Stream {  // each end on lines of its own, because each belongs to another thread
    alignas(kApart) client::ExclusivePublication publication;
    alignas(kApart) client::Subscription subscription;
  };
  [[nodiscard]] Stream stream(std::int32_t stream_id) {
    const std::string channel = "aeron:ipc?term-length=" + std::to_string(kTermLength);
    auto subscription = client_->add_subscription(real_directory_ != nullptr ? "aeron:ipc" : channel, stream_id);
    if (!subscription) die(subscription.error());
    auto publication = client_->add_exclusive_publication(channel, stream_id);
    if (!publication) die(publication.error());
    while (!publication->is_connected() || !subscription->is_connected()) std::this_thread::yield();
    return {std::move(*publication), std::move(*subscription)};
  }
  [[nodiscard]] client::Publication shared_publication(const Stream& with) {
    auto publication = client_->add_publication(with.publication.channel(), with.publication.stream_id());
    if (!publication) die(publication.error());
    while (!publication->is_connected()) std::this_thread::yield();
    return std::move(*publication);
  }
  // Call once everything is set up; from then on turn() does the driver's stream work.
  void take_over() {
    if (!driver_) return;
    stop_driver_thread();
    driver_->set_heartbeat(epoch_ms() + 3'600'000);  // nobody beats from now on, and a loaded machine may need its time
  }
  void turn() {
    if (driver_) driver_->update_publications();
  }

 private:
  [[noreturn]] static void die(const Error& error) {
    std::fprintf(stderr, "ipc_bench: %s\n", error.message.c_str());
    std::exit(1);
  }
  void run_driver_thread() {
    is_stopping_ = false;
    driver_thread_ = std::thread{[this] {
      while (!is_stopping_.load(std::memory_order_relaxed)) {
        driver_->do_work();
        driver_->beat();
        std::this_thread::sleep_for(std::chrono::microseconds{20});
      }
    }};
  }
  void stop_driver_thread() {
    is_stopping_ = true;
    if (driver_thread_.joinable()) driver_thread_.join();
  }

  const char* real_directory_;
  test::TemporaryDirectory directory_{"bench"};
  std::optional<test::IpcDriver> driver_;
  std::atomic<bool> is_stopping_{};
  std::thread driver_thread_;
  std::optional<client::Client> client_;
};

// Reads every byte of a payload.
class Reader {
 public:
  void operator()(Bytes payload, const client::Header&) noexcept {
    std::uint64_t sum = 0;
    for (std::size_t at = 0; at + 8 <= payload.size(); at += 8) sum += load_le<std::uint64_t>(payload.data() + at);
    sum_ += sum;
    bytes_ += payload.size();
  }
  [[nodiscard]] std::uint64_t sum() const noexcept { return sum_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  std::uint64_t sum_{};
  std::uint64_t bytes_{};
};

// ---- one thread ------------------------------------------------------------------------------------------------------------------------
// Messages of a timed run: they fit a quarter of the window.
int run_of(std::size_t message) { return kTermLength / 8 / client::frame::aligned(static_cast<std::int32_t>(message) + client::frame::kHeaderLength); }

enum class Path : std::uint8_t { kOffer, kClaim, kSharedOffer, kSharedClaim };

template <typename Publication>
void offer_run(Publication& publication, Bytes message, int run, bool is_claim) {
  for (int sent = 0; sent < run;) {
    if (!is_claim) {
      sent += publication.offer(message) ? 1 : 0;
      continue;
    }
    client::BufferClaim claim;
    if (!publication.try_claim(message.size(), claim)) continue;
    std::memcpy(claim.data().data(), message.data(), message.size());
    claim.commit();
    ++sent;
  }
}

template <Path kPath>
void publish(benchmark::State& state) {
  Bench bench;
  Bench::Stream stream = bench.stream(1001);
  client::Publication shared;
  if constexpr (kPath >= Path::kSharedOffer) {
    shared = bench.shared_publication(stream);
    stream.publication.close();
  }
  bench.take_over();
  const std::vector<std::byte> message(static_cast<std::size_t>(state.range(0)), std::byte{0x5A});
  const int run = run_of(message.size());
  Reader reader;
  Runs runs{state, static_cast<double>(run)};
  for (auto _ : state) {
    runs.time([&] {
      if constexpr (kPath >= Path::kSharedOffer) {
        offer_run(shared, message, run, kPath == Path::kSharedClaim);
      } else {
        offer_run(stream.publication, message, run, kPath == Path::kClaim);
      }
    });
    for (int left = run; left > 0;) left -= stream.subscription.poll(reader, kFragmentLimit);
    bench.turn();
  }
  benchmark::DoNotOptimize(reader.sum());
}

void poll(benchmark::State& state) {
  Bench bench;
  Bench::Stream stream = bench.stream(1001);
  bench.take_over();
  const std::vector<std::byte> message(static_cast<std::size_t>(state.range(0)), std::byte{0x5A});
  const int run = run_of(message.size());
  Reader reader;
  Runs runs{state, static_cast<double>(run)};
  for (auto _ : state) {
    offer_run(stream.publication, message, run, false);
    runs.time([&] {
      for (int left = run; left > 0;) left -= stream.subscription.poll(reader, kFragmentLimit);
    });
    bench.turn();
  }
  benchmark::DoNotOptimize(reader.sum());
}

void poll_nothing(benchmark::State& state) {
  Bench bench;
  Bench::Stream stream = bench.stream(1001);
  bench.take_over();
  Reader reader;
  for (auto _ : state) benchmark::DoNotOptimize(stream.subscription.poll(reader, kFragmentLimit));
}

// ---- two threads -----------------------------------------------------------------------------------------------------------------------

// One publisher thread, this thread the subscriber that reads every byte.
void throughput(benchmark::State& state) {
  constexpr std::int64_t kMessages = 100'000;  // a run of about two milliseconds
  Bench bench;
  Bench::Stream stream = bench.stream(1001);
  bench.take_over();
  Apart<std::int64_t> wanted;  // messages the publisher may have sent in all; -1: stop
  std::thread publisher{[&] {
    const OnCpu other{1};
    const std::vector<std::byte> message(kMessage, std::byte{0x5A});
    for (std::int64_t sent = 0;;) {
      const std::int64_t until = wanted.value.load(std::memory_order_acquire);
      if (until < 0) return;
      for (; sent < until; ++sent) {
        while (!stream.publication.offer(message)) _mm_pause();
      }
      _mm_pause();
    }
  }};
  const OnCpu here{0};
  Reader reader;
  std::int64_t received = 0;
  Runs runs{state, kMessages};
  for (auto _ : state) {
    runs.time([&] {
      wanted.value.store(received + kMessages, std::memory_order_release);
      for (std::int64_t left = kMessages; left > 0;) {
        left -= stream.subscription.poll(reader, kFragmentLimit);
        bench.turn();
      }
    });
    received += kMessages;
  }
  wanted.value.store(-1, std::memory_order_release);
  publisher.join();
  if (reader.bytes() != static_cast<std::uint64_t>(received) * kMessage) state.SkipWithError("bytes were lost");
  benchmark::DoNotOptimize(reader.sum());
}

constexpr int kRoundTrips = 500;  // well inside both streams' windows, so that the driver's turn stays outside of the timed part

// The ceiling: one cache line each way between two threads.
void cache_line_round_trip(benchmark::State& state) {
  Apart<std::int64_t> ping, pong;
  std::thread echo{[&] {
    const OnCpu other{1};
    for (std::int64_t seen = 0;;) {
      const std::int64_t value = ping.value.load(std::memory_order_acquire);
      if (value < 0) return;
      if (value != seen) pong.value.store(seen = value, std::memory_order_release);
    }
  }};
  const OnCpu here{0};
  std::int64_t value = 0;
  Runs runs{state, kRoundTrips};
  for (auto _ : state) {
    runs.time([&] {
      for (int i = 0; i < kRoundTrips; ++i) {
        ping.value.store(++value, std::memory_order_release);
        while (pong.value.load(std::memory_order_acquire) != value) {
        }
      }
    });
  }
  ping.value.store(-1, std::memory_order_release);
  echo.join();
}

// A 32-byte message there and back, through two IPC streams.
void ipc_round_trip(benchmark::State& state) {
  Bench bench;
  Bench::Stream there = bench.stream(1001);
  Bench::Stream back = bench.stream(1002);
  bench.take_over();
  Apart<bool> is_over;
  std::thread echo{[&] {
    const OnCpu other{1};
    const auto reply = [&](Bytes payload, const client::Header&) {
      while (!back.publication.offer(payload) && !is_over.value.load(std::memory_order_relaxed)) {
      }
    };
    while (!is_over.value.load(std::memory_order_relaxed)) there.subscription.poll(reply, 1);
  }};
  const OnCpu here{0};
  std::vector<std::byte> message(kMessage, std::byte{0x5A});
  std::int64_t value = 0;
  std::int64_t seen = 0;
  const auto take = [&](Bytes payload, const client::Header&) { seen = load_le<std::int64_t>(payload.data()); };
  Runs runs{state, kRoundTrips};
  for (auto _ : state) {
    runs.time([&] {
      for (int i = 0; i < kRoundTrips; ++i) {
        store_le(message.data(), ++value);
        while (!there.publication.offer(message)) {
        }
        while (seen != value) back.subscription.poll(take, 1);
      }
    });
    bench.turn();
  }
  is_over.value = true;
  echo.join();
}

}  // namespace

BENCHMARK_TEMPLATE(publish, Path::kOffer)->Arg(32)->Arg(1024)->UseManualTime();
BENCHMARK_TEMPLATE(publish, Path::kClaim)->Arg(32)->UseManualTime();
BENCHMARK_TEMPLATE(publish, Path::kSharedOffer)->Arg(32)->UseManualTime();
BENCHMARK_TEMPLATE(publish, Path::kSharedClaim)->Arg(32)->UseManualTime();
BENCHMARK(poll)->Arg(32)->Arg(1024)->UseManualTime();
BENCHMARK(poll_nothing);
BENCHMARK(throughput)->UseManualTime()->Unit(benchmark::kMillisecond)->Iterations(200);
BENCHMARK(cache_line_round_trip)->UseManualTime()->Iterations(500);
BENCHMARK(ipc_round_trip)->UseManualTime()->Iterations(500);
BENCHMARK_MAIN();
