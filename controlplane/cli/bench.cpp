// thalweg bench: throughput and round trips through a running instance, repeated, with medians. Both ends are threads of this process.
#include <fmt/format.h>

#include <atomic>
#include <thread>

#include "controlplane/cli/traffic.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::cli {
namespace {

constexpr std::int32_t kEchoStreamOffset = 1;  // the answers of `bench rtt` use the next stream id
constexpr std::int64_t kConnectWait_ns = 10 * kSecond_ns;

// What different threads use lies this far apart: the hardware fetches cache lines in pairs.
constexpr std::size_t kApart = 2 * kCacheLine;

struct BenchOptions {
  StreamOptions stream;
  std::int64_t size_bytes{32};
  std::int64_t duration_ns{2 * kSecond_ns};
  int repetitions{5};
};

// Spins, yielding now and then: a machine with few CPUs must let the instance run.
class Spin {
 public:
  void wait() noexcept {
    if (++turns_ % 64 == 0) std::this_thread::yield();
  }

 private:
  unsigned turns_{};
};

// A thread that is told to stop and joined at the end of the scope.
class Worker {
 public:
  template <typename Body>
  explicit Worker(Body body) : thread_{[this, body = std::move(body)]() mutable { body(stop_); }} {}
  ~Worker() {
    stop_.store(true, std::memory_order_relaxed);
    thread_.join();
  }

 private:
  alignas(kApart) std::atomic<bool> stop_{false};
  std::thread thread_;
};

template <typename Condition>
bool wait_for(Condition&& condition) {
  const std::int64_t deadline_ns = monotonic_ns() + kConnectWait_ns;
  Backoff backoff;
  while (!condition()) {
    if (is_interrupted() || monotonic_ns() >= deadline_ns) return false;
    backoff.wait();
  }
  return true;
}

// One-way time of a cache line between two threads, the median of many short runs: what no IPC round trip can beat twice over. On a machine
// whose threads wait for a CPU a round takes milliseconds, so it ends early there.
double core_to_core_ns() {
  constexpr int kRuns = 100;
  constexpr int kRunRounds = 2'000;
  constexpr int kRoundsBetweenLooks = 16;
  constexpr std::int64_t kPatience_ns = 500 * kMillisecond_ns;
  constexpr int kStop = -1;
  struct alignas(kCacheLine) Line {
    std::atomic<int> turn{0};
  } line;
  const auto wait_for_turn = [&line](int turn) {
    int seen = 0;
    for (Spin spin; (seen = line.turn.load(std::memory_order_acquire)) != turn && seen != kStop;) spin.wait();
    return seen == turn;
  };
  std::thread other{[&] {
    for (int i = 0; wait_for_turn(2 * i + 1); ++i) line.turn.store(2 * i + 2, std::memory_order_release);
  }};
  const std::int64_t deadline_ns = monotonic_ns() + kPatience_ns;
  std::vector<double> runs;
  for (int i = 0; static_cast<int>(runs.size()) < kRuns && monotonic_ns() < deadline_ns;) {
    const std::int64_t begin_ns = monotonic_ns();
    const int begin = i;
    do {
      for (const int look = i + kRoundsBetweenLooks; i < look; ++i) {
        line.turn.store(2 * i + 1, std::memory_order_release);
        wait_for_turn(2 * i + 2);
      }
    } while (i - begin < kRunRounds && monotonic_ns() < deadline_ns);
    runs.push_back(static_cast<double>(monotonic_ns() - begin_ns) / (2.0 * (i - begin)));
  }
  line.turn.store(kStop, std::memory_order_release);
  other.join();
  return median(runs);
}

void print_setup(Output& out, const char* what, const BenchOptions& options) {
  out.value("verb", "verb", fmt::format("bench {}", what));
  out.value("channel", "channel", options.stream.channel);
  out.value("size_bytes", "message size", options.size_bytes, Unit::kBytes);
  out.value("repetitions", "repetitions", options.repetitions);
}

Exit check_size(Context& context, const BenchOptions& options, std::int64_t limit) {
  if (options.size_bytes >= static_cast<std::int64_t>(kTestMessageMin) && options.size_bytes <= limit) return Exit::kOk;
  return context.out.fail("bench", {ErrorCode::kInvalidArgument, fmt::format("--size must be from {} to {} here", kTestMessageMin, limit), {}});
}

// ---- throughput ------------------------------------------------------------------------------------------------------------------------

struct Received {
  alignas(kApart) std::atomic<std::int64_t> messages{0};
  std::atomic<std::int64_t> corrupt{0};
};

// Counts what `session_id` sent: the stream of an earlier run may still be draining on the same channel.
void receive(client::Subscription& in, std::int32_t session_id, Received& received, const std::atomic<bool>& stop) {
  std::int64_t corrupt = 0;
  std::int64_t messages = 0;
  client::FragmentAssembler take{[&](std::span<const std::byte> message, const client::Header& header) {
    if (header.session_id() != session_id) return;
    ++messages;
    if (!read_message(message)) ++corrupt;
  }};
  for (Spin spin; !stop.load(std::memory_order_relaxed);) {
    constexpr int kFragments = 128;
    if (in.poll(take, kFragments) == 0) spin.wait();
    received.messages.store(messages, std::memory_order_relaxed);
    received.corrupt.store(corrupt, std::memory_order_relaxed);
  }
}

// Offers for `duration_ns`; every message carries its number and checksum.
void flood(client::ExclusivePublication& out, std::span<std::byte> buffer, std::int64_t duration_ns) {
  const std::int64_t end_ns = monotonic_ns() + duration_ns;
  std::uint64_t sequence = 0;
  for (Spin spin; !is_interrupted();) {
    constexpr int kBetweenClockReads = 256;
    for (int i = 0; i < kBetweenClockReads; ++i) {
      write_message(buffer, {sequence, 0});
      if (out.offer(buffer)) {
        ++sequence;
      } else {
        spin.wait();
      }
    }
    if (monotonic_ns() >= end_ns) return;
  }
}

Exit nothing_measured(Context& context) {
  return context.out.fail("bench", {ErrorCode::kGeneric, "interrupted before the first run was through", {}});
}

Exit run_throughput(Context& context, const BenchOptions& options) {
  auto client = connect(context, "bench");
  if (!client) return context.out.fail("bench", client.error());
  auto in = client->add_subscription(options.stream.channel, options.stream.stream_id);
  if (!in) return context.out.fail("bench", in.error());
  auto out = client->add_exclusive_publication(options.stream.channel, options.stream.stream_id);
  if (!out) return context.out.fail("bench", out.error());
  if (const Exit exit = check_size(context, options, out->max_message_length()); exit != Exit::kOk) return exit;
  if (!wait_for([&] { return out->is_connected() && in->image_by_session(out->session_id()) != nullptr; })) {
    return context.out.fail("bench", {ErrorCode::kTimeout, "the stream did not connect", {}});
  }
  Table table{"runs", {{"messages_per_second", "MESSAGES", Unit::kPerSecond}, {"bytes_per_second", "BYTES", Unit::kBytesPerSecond}}};
  std::vector<double> rates;
  Received received;
  {
    Worker worker{[&](const std::atomic<bool>& stop) { receive(*in, out->session_id(), received, stop); }};
    std::vector<std::byte> buffer(static_cast<std::size_t>(options.size_bytes));
    flood(*out, buffer, options.duration_ns / 5);  // warm-up
    for (int i = 0; i < options.repetitions && !is_interrupted(); ++i) {
      const std::int64_t before = received.messages.load(std::memory_order_relaxed);
      const std::int64_t begin_ns = monotonic_ns();
      flood(*out, buffer, options.duration_ns);
      if (is_interrupted()) break;  // half a run is no figure
      const std::int64_t messages = received.messages.load(std::memory_order_relaxed) - before;
      rates.push_back(per_second(messages, monotonic_ns() - begin_ns));
      table.add({rates.back(), rates.back() * static_cast<double>(options.size_bytes)});
    }
  }
  if (rates.empty()) return nothing_measured(context);
  const std::int64_t corrupt = received.corrupt.load(std::memory_order_relaxed);
  print_setup(context.out, "throughput", options);
  context.out.value("messages_per_second", "median", median(rates), Unit::kPerSecond);
  context.out.value("bytes_per_second", "median", median(rates) * static_cast<double>(options.size_bytes), Unit::kBytesPerSecond);
  context.out.value("corrupt", "corrupt", corrupt);
  context.out.print(table);
  return corrupt == 0 ? Exit::kOk : Exit::kProblems;
}

// ---- round trips -----------------------------------------------------------------------------------------------------------------------

struct alignas(kApart) Echo {
  client::ExclusivePublication out;
  client::Subscription in;
  std::int32_t peer_session_id{};  // others may still be draining on the same channel
};

void answer(Echo& echo, const std::atomic<bool>& stop) {
  client::FragmentAssembler reply{[&](std::span<const std::byte> message, const client::Header& header) {
    if (header.session_id() != echo.peer_session_id) return;
    client::OfferResult result = echo.out.offer(message);
    for (Spin spin; result.is_retryable() && !stop.load(std::memory_order_relaxed); result = echo.out.offer(message)) spin.wait();
  }};
  for (Spin spin; !stop.load(std::memory_order_relaxed);) {
    if (echo.in.poll(reply, 1) == 0) spin.wait();
  }
}

// One question at a time for `duration_ns`. False: an answer did not come or was wrong.
bool ask(Echo& side, std::span<std::byte> buffer, std::int64_t duration_ns, Histogram& histogram) {
  std::uint64_t sequence = 0;
  std::uint64_t answered = 0;
  bool is_right = true;
  client::FragmentAssembler take{[&](std::span<const std::byte> message, const client::Header& header) {
    if (header.session_id() != side.peer_session_id) return;
    const auto read = read_message(message);
    is_right &= read.has_value() && read->sequence == answered;
    if (read) histogram.record(monotonic_ns() - read->time_ns);
    ++answered;
  }};
  const std::int64_t end_ns = monotonic_ns() + duration_ns;
  std::int64_t now_ns = 0;
  while ((now_ns = monotonic_ns()) < end_ns && !is_interrupted()) {
    write_message(buffer, {sequence, now_ns});
    Spin spin;
    while (!side.out.offer(buffer)) {
      if (side.out.is_closed() || is_interrupted()) return false;
      spin.wait();
    }
    ++sequence;
    while (answered < sequence) {
      if (side.in.poll(take, 1) == 0) spin.wait();
      if (side.in.is_closed() || is_interrupted()) return false;
    }
  }
  return is_right;
}

Result<Echo> open_side(client::Client& client, const BenchOptions& options, std::int32_t out_stream, std::int32_t in_stream) {
  auto in = client.add_subscription(options.stream.channel, in_stream);
  if (!in) return tl::unexpected<Error>{std::move(in.error())};
  auto out = client.add_exclusive_publication(options.stream.channel, out_stream);
  if (!out) return tl::unexpected<Error>{std::move(out.error())};
  return Echo{std::move(*out), std::move(*in), 0};
}

Exit run_rtt(Context& context, const BenchOptions& options) {
  auto client = connect(context, "bench");
  if (!client) return context.out.fail("bench", client.error());
  const std::int32_t question = options.stream.stream_id;
  const std::int32_t reply = question + kEchoStreamOffset;
  auto asker = open_side(*client, options, question, reply);
  if (!asker) return context.out.fail("bench", asker.error());
  auto answerer = open_side(*client, options, reply, question);
  if (!answerer) return context.out.fail("bench", answerer.error());
  asker->peer_session_id = answerer->out.session_id();
  answerer->peer_session_id = asker->out.session_id();
  if (const Exit exit = check_size(context, options, asker->out.max_message_length()); exit != Exit::kOk) return exit;
  if (!wait_for([&] {
        return asker->out.is_connected() && answerer->out.is_connected() && asker->in.image_by_session(asker->peer_session_id) != nullptr &&
               answerer->in.image_by_session(answerer->peer_session_id) != nullptr;
      })) {
    return context.out.fail("bench", {ErrorCode::kTimeout, "the streams did not connect", {}});
  }
  const double core_ns = core_to_core_ns();
  Table table{"runs", {{"round_trips", "ROUND TRIPS", Unit::kCount}, {"p50_ns", "P50", Unit::kDuration}, {"p99_ns", "P99", Unit::kDuration},
                       {"p999_ns", "P99.9", Unit::kDuration}, {"max_ns", "MAX", Unit::kDuration}}};
  std::vector<double> p50, p99;
  Histogram all;
  bool is_right = true;
  {
    Worker worker{[&](const std::atomic<bool>& stop) { answer(*answerer, stop); }};
    std::vector<std::byte> buffer(static_cast<std::size_t>(options.size_bytes));
    Histogram warm_up;
    is_right &= ask(*asker, buffer, options.duration_ns / 5, warm_up);
    for (int i = 0; i < options.repetitions && !is_interrupted(); ++i) {
      Histogram run;
      is_right &= ask(*asker, buffer, options.duration_ns, run);
      if (is_interrupted()) break;  // half a run is no figure
      p50.push_back(static_cast<double>(run.percentile(50)));
      p99.push_back(static_cast<double>(run.percentile(99)));
      table.add({run.count(), run.percentile(50), run.percentile(99), run.percentile(99.9), run.max()});
      all.add(run);
    }
  }
  if (p50.empty()) return nothing_measured(context);
  print_setup(context.out, "rtt", options);
  context.out.value("core_to_core_ns", "core to core", core_ns, Unit::kDuration);
  context.out.value("p50_ns", "median p50", median(p50), Unit::kDuration);
  context.out.value("p99_ns", "median p99", median(p99), Unit::kDuration);
  print_histogram(context.out, all);
  context.out.print(table);
  if (is_right || is_interrupted()) return Exit::kOk;
  return context.out.fail("bench", {ErrorCode::kIo, "an answer was missing or wrong", {}});
}

void add_bench(CLI::App& noun, Context& context, const char* name, const char* help, const char* example,
               Exit (*run_bench)(Context&, const BenchOptions&)) {
  CLI::App* verb = noun.add_subcommand(name, help);
  const auto options = std::make_shared<BenchOptions>();
  add_stream_options(*verb, options->stream);
  add_size(*verb, "--size", options->size_bytes, "Bytes per message")->default_str("32");
  add_duration(*verb, "--duration", options->duration_ns, "Length of one run")->default_str("2s");
  verb->add_option("--repeat", options->repetitions, "Runs; the median is reported")->check(CLI::Range(1, 100))->capture_default_str();
  set_example(*verb, example);
  on_run(*verb, context, [&context, options, run_bench] { return run_bench(context, *options); });
}

}  // namespace

void register_bench(CLI::App& root, Context& context) {
  CLI::App* noun = root.add_subcommand("bench", "Measure a running instance, both ends in this process")->require_subcommand(1);
  add_bench(*noun, context, "throughput", "Messages per second from one thread to another", "bench throughput --channel aeron:ipc --size 32",
            run_throughput);
  add_bench(*noun, context, "rtt", "Round trips between two threads, next to a cache line's own trip",
            "bench rtt --channel aeron:ipc --size 32 --repeat 5", run_rtt);
}

}  // namespace thalweg::cli
