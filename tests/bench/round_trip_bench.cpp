// Round trips with one thread as both ends: client, lane, loopback port, lane, client and back. Real conductor, data plane and clients
// (tests/support/appliance.hpp); inside the measured loop only what a lane and two applications do, with real time.
#include <benchmark/benchmark.h>

#include <numeric>
#include <vector>

#include "dataplane/base/time.hpp"
#include "pmd/eal.hpp"
#include "tests/bench/percentiles.hpp"
#include "tests/support/appliance.hpp"

namespace thalweg::test {
namespace {

constexpr std::int32_t kThere = 1001, kBack = 1002;

class RoundTrip {
 public:
  explicit RoundTrip(bool is_ipc) {
    const std::string port = std::to_string(free_udp_port());
    const std::string channel = is_ipc ? "aeron:ipc" : "aeron:udp?endpoint=127.0.0.1:" + port;
    client_ = both_.connect(both_.a);
    question_in_ = std::move(*client_->add_subscription(channel, kThere));
    answer_in_ = std::move(*client_->add_subscription(channel, kBack));
    question_out_ = std::move(*client_->add_exclusive_publication(channel, kThere));
    answer_out_ = std::move(*client_->add_exclusive_publication(channel, kBack));
    const auto all_are_connected = [&] {
      return question_out_.is_connected() && answer_out_.is_connected() && question_in_.is_connected() && answer_in_.is_connected();
    };
    is_connected_ = both_.run_until(all_are_connected, 5 * kSecond_ns);
    now_ns_ = both_.now_ns;
    lane_ = &both_.a.plane->lane(0);
  }
  [[nodiscard]] bool is_connected() const { return is_connected_; }

  // One trip of `message`; every byte of it is read at both ends. Returns its time.
  std::int64_t run(std::span<std::byte> message) {
    const std::int64_t begin_ns = monotonic_ns();
    while (!question_out_.offer(message)) turn();
    bool is_back = false;
    const auto echo = [&](std::span<const std::byte> bytes, const client::Header&) {
      sum_ = std::accumulate(bytes.begin(), bytes.end(), sum_, [](unsigned sum, std::byte b) { return sum + static_cast<unsigned>(b); });
      while (!answer_out_.offer(bytes)) turn();
    };
    const auto arrive = [&](std::span<const std::byte> bytes, const client::Header&) {
      sum_ = std::accumulate(bytes.begin(), bytes.end(), sum_, [](unsigned sum, std::byte b) { return sum + static_cast<unsigned>(b); });
      is_back = true;
    };
    while (!is_back) {
      turn();
      question_in_.poll(echo, 1);
      answer_in_.poll(arrive, 1);
    }
    return monotonic_ns() - begin_ns;
  }
  // The conductor's and the clients' own duties, outside the measured time.
  void keep_alive() {
    both_.now_ns = now_ns_;
    both_.turn();
    now_ns_ = both_.now_ns;
  }
  [[nodiscard]] unsigned sum() const { return sum_; }

 private:
  void turn() {
    now_ns_ += 200;  // about what a turn takes; the lane's timers follow
    lane_->turn(now_ns_);
  }
  TwoAppliances both_;
  std::shared_ptr<client::Client> client_;
  client::Subscription question_in_, answer_in_;
  client::ExclusivePublication question_out_, answer_out_;
  core::Lane* lane_{};
  std::int64_t now_ns_{};
  unsigned sum_{};
  bool is_connected_{};
};

void round_trip(benchmark::State& state, bool is_ipc) {
  RoundTrip trips{is_ipc};
  if (!trips.is_connected()) return state.SkipWithError("not connected");
  std::vector<std::byte> message(static_cast<std::size_t>(state.range(0)), std::byte{0x5A});
  std::vector<std::int64_t> times;
  times.reserve(1 << 20);
  for (auto _ : state) {
    times.push_back(trips.run(message));
    if (times.size() % 1024 == 0) {
      state.PauseTiming();
      trips.keep_alive();
      state.ResumeTiming();
    }
  }
  report_percentiles(state, times);
  state.counters["read"] = trips.sum();
}

BENCHMARK_CAPTURE(round_trip, loopback, false)->Arg(32)->Arg(288)->Arg(1376)->MinTime(0.5);
BENCHMARK_CAPTURE(round_trip, ipc, true)->Arg(32)->MinTime(0.5);

}  // namespace
}  // namespace thalweg::test

int main(int argc, char** argv) {
  thalweg::pmd::EalOptions options;
  options.memory_bytes = 256U << 20;
  const auto eal = thalweg::pmd::Eal::start(options);
  if (!eal) return 1;
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
