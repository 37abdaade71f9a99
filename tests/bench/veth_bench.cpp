// Round trips over a veth pair between two processes, in two network namespaces: this one asks, a child answers. Each is a whole appliance
// (tests/support/appliance.hpp) whose lane and application share one thread. The ceiling is measured through the very same ports in turn: a
// frame of the same size, sent and received by rte_eth bursts, its addresses exchanged by the other process, and nothing else. Two threads
// poll without a pause in either case.
//
// Usage: veth_bench af_packet|af_xdp [benchmark flags]; THALWEG_BENCH_VETH=ours,theirs and THALWEG_BENCH_NETNS (path of the namespace of the
// other end) say where. scripts/lib/namespaces.py makes both and runs a command with them.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <rte_mbuf.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <numeric>
#include <optional>
#include <string_view>

#include "dataplane/base/time.hpp"
#include "dataplane/core/clock.hpp"
#include "pmd/eal.hpp"
#include "pmd/frame.hpp"
#include "tests/bench/percentiles.hpp"
#include "tests/support/appliance.hpp"

namespace thalweg::test {
namespace {

constexpr std::uint32_t kAddress[] = {0x0A4D0101, 0x0A4D0102};  // asking, answering: 10.77.1.1 and .2
constexpr const char* kChannel[] = {"aeron:udp?endpoint=10.77.1.1:40201", "aeron:udp?endpoint=10.77.1.2:40201"};  // received by each
constexpr std::uint16_t kBarePort = 40301;
constexpr std::int32_t kStream = 1001;
constexpr std::int64_t kPatience_ns = 20 * kSecond_ns;
constexpr std::int64_t kRestInterval_ns = 50 * kMillisecond_ns;  // conductor, steward and client conductor of the answering process
constexpr std::int64_t kLost_ns = 20 * kMillisecond_ns;          // a bare frame that is not back by then is sent again

enum class Mode : std::uint32_t { kNone, kStreams, kBare, kEnd };

// What the two processes tell each other, in memory they share.
struct Agreement {
  alignas(kCacheLine) std::atomic<Mode> wanted{Mode::kNone};
  alignas(kCacheLine) std::atomic<Mode> answered{Mode::kNone};
  std::atomic<std::uint64_t> answering_mac{};
};

// One process's half: appliance, client, a stream out and one in, all turned by one thread.
class Half {
 public:
  Half(shm::PortKind kind, const std::string& device, bool asks) : appliance_{options(kind, device, asks), nullptr, monotonic_ns()} {
    clock_.start();
    calibration_ = clock_.calibration();
    client::Context context;
    context.directory = appliance_.path();
    context.mode = client::ConductorMode::kInvoker;
    context.clock = {[] { return monotonic_ns(); }, [] { return epoch_ms_at(monotonic_ns()); }};
    context.idle = [this] { appliance_.step(monotonic_ns()); };
    auto client = client::Client::connect(std::move(context));
    if (!client) return;
    client_.emplace(std::move(*client));
    auto in = client_->add_subscription(kChannel[asks ? 0 : 1], kStream);
    auto out = client_->add_exclusive_publication(kChannel[asks ? 1 : 0], kStream);
    if (!in || !out) return;
    in_ = std::move(*in);
    out_ = std::move(*out);
    is_open_ = true;
    lane_ = &appliance_.plane->lane(0);
  }
  [[nodiscard]] bool is_open() const noexcept { return is_open_; }
  [[nodiscard]] bool is_connected() { return in_.is_connected() && out_.is_connected(); }
  [[nodiscard]] pmd::Port& port() { return appliance_.plane->port(0); }

  void turn() { lane_->turn(calibration_.to_ns(core::TscClock::read_tsc())); }
  // Everybody else's duties, which in life run on other threads.
  void rest() {
    appliance_.step(monotonic_ns());
    client_->do_work();
  }
  template <typename Handler>
  int poll(Handler&& handler) {
    return in_.poll(handler, 1);
  }
  void send(std::span<const std::byte> message) {
    while (!out_.offer(message)) turn();
  }

 private:
  static Appliance::Options options(shm::PortKind kind, const std::string& device, bool asks) {
    Appliance::Options o;
    o.packet_buffers = 8191;  // an af_xdp device holds some thousands
    o.settings.random_seed = asks ? 1 : 2;
    pmd::PortOptions wire, loopback, kernel;
    wire.name = "wire";
    wire.kind = kind;
    wire.device = device;
    wire.address = kAddress[asks ? 0 : 1];
    wire.prefix_length = 24;
    loopback.name = "loopback";
    loopback.kind = shm::PortKind::kLoopback;
    loopback.address = 0x7F000001;
    loopback.prefix_length = 8;
    kernel.name = "kernel";
    kernel.kind = shm::PortKind::kKernel;
    o.ports = {wire, loopback, kernel};
    return o;
  }

  Appliance appliance_;
  core::TscClock clock_;
  core::TscClock::Calibration calibration_;
  std::optional<client::Client> client_;
  client::Subscription in_;
  client::ExclusivePublication out_;
  core::Lane* lane_{};
  bool is_open_{};
};

std::uint64_t to_number(const wire::MacAddress& mac) {
  return std::accumulate(mac.bytes.begin(), mac.bytes.end(), std::uint64_t{0}, [](std::uint64_t sum, std::uint8_t b) { return sum << 8 | b; });
}

bool is_bare(const rte_mbuf* frame) {
  pmd::UdpFrame view;
  return pmd::UdpFrame::parse(frame, view) && view.destination.port == kBarePort;
}

// ---- the answering process ------------------------------------------------------------------------------------------------------------

// Sends bare frames back: the MACs change places, nobody looks at the rest.
void bounce(pmd::Port& port) {
  rte_mbuf* frames[pmd::kBurstMax];
  const std::uint16_t received = port.rx_burst(0, frames, pmd::kBurstMax);
  std::uint16_t kept = 0;
  for (std::uint16_t i = 0; i < received; ++i) {
    if (!is_bare(frames[i])) {
      rte_pktmbuf_free(frames[i]);
      continue;
    }
    auto* const p = rte_pktmbuf_mtod(frames[i], std::byte*);
    std::swap_ranges(p, p + 6, p + 6);
    frames[kept++] = frames[i];
  }
  const std::uint16_t sent = kept == 0 ? std::uint16_t{0} : port.tx_burst(0, frames, kept);
  for (std::uint16_t i = sent; i < kept; ++i) rte_pktmbuf_free(frames[i]);
}

void answer(Half& half, Agreement& agreement) {
  agreement.answering_mac.store(to_number(half.port().mac()));
  std::int64_t next_rest_ns = 0;
  unsigned sum = 0;
  const auto echo = [&](std::span<const std::byte> bytes, const client::Header&) {
    sum = std::accumulate(bytes.begin(), bytes.end(), sum, [](unsigned s, std::byte b) { return s + static_cast<unsigned>(b); });
    half.send(bytes);
  };
  Mode mode = Mode::kNone;
  while (true) {
    const Mode wanted = agreement.wanted.load(std::memory_order_acquire);  // pairs with ask_for()
    if (wanted != mode) {
      mode = wanted;
      half.rest();
      agreement.answered.store(mode, std::memory_order_release);
    }
    if (mode == Mode::kEnd) return benchmark::DoNotOptimize(sum);
    if (mode == Mode::kBare) {
      bounce(half.port());
      continue;
    }
    half.turn();
    half.poll(echo);
    if (const std::int64_t now_ns = monotonic_ns(); now_ns >= next_rest_ns) {
      half.rest();
      next_rest_ns = now_ns + kRestInterval_ns;
    }
  }
}

// ---- the asking process ---------------------------------------------------------------------------------------------------------------

struct Run {
  Agreement* agreement{};
  Half* half{};
} run;

// Puts both processes into a mode. False: the other one does not answer.
bool ask_for(Mode mode) {
  run.half->rest();
  run.agreement->wanted.store(mode, std::memory_order_release);  // pairs with answer()
  const std::int64_t end_ns = monotonic_ns() + kPatience_ns;
  while (run.agreement->answered.load(std::memory_order_acquire) != mode || (mode == Mode::kStreams && !run.half->is_connected())) {
    if (mode == Mode::kStreams) run.half->rest();
    if (monotonic_ns() > end_ns) return false;
  }
  return true;
}

void round_trip(benchmark::State& state) {
  if (!ask_for(Mode::kStreams)) return state.SkipWithError("the other process does not answer");
  std::vector<std::byte> message(static_cast<std::size_t>(state.range(0)), std::byte{0x5A});
  std::vector<std::int64_t> times;
  times.reserve(1 << 20);
  unsigned sum = 0;
  bool is_back = false;
  const auto arrive = [&](std::span<const std::byte> bytes, const client::Header&) {
    sum = std::accumulate(bytes.begin(), bytes.end(), sum, [](unsigned s, std::byte b) { return s + static_cast<unsigned>(b); });
    is_back = true;
  };
  for (auto _ : state) {
    const std::int64_t begin_ns = monotonic_ns();
    is_back = false;
    run.half->send(message);
    while (!is_back) {
      run.half->turn();
      run.half->poll(arrive);
    }
    times.push_back(monotonic_ns() - begin_ns);
    if (times.size() % 1024 == 0) run.half->rest();
  }
  report_percentiles(state, times);
  benchmark::DoNotOptimize(sum);
}

rte_mbuf* make_frame(rte_mempool* pool, std::uint32_t payload) {
  rte_mbuf* const frame = rte_pktmbuf_alloc(pool);
  if (frame == nullptr) return nullptr;
  auto* const p = rte_pktmbuf_mtod(frame, std::byte*);
  pmd::write_udp_headers(p, {kAddress[0], kBarePort}, {kAddress[1], kBarePort}, payload);
  const std::uint64_t theirs = run.agreement->answering_mac.load();
  for (int i = 0; i < 6; ++i) p[i] = static_cast<std::byte>(theirs >> (40 - 8 * i));
  std::memcpy(p + 6, run.half->port().mac().bytes.data(), 6);
  std::memset(p + wire::kUdpFrameHeaderLength, 0x5A, payload);
  frame->pkt_len = frame->data_len = static_cast<std::uint16_t>(wire::kUdpFrameHeaderLength + payload);
  return frame;
}

// One frame there and back. False: lost.
bool bare_trip(pmd::Port& port, rte_mempool* pool, std::uint32_t payload) {
  rte_mbuf* frame = make_frame(pool, payload);
  if (frame == nullptr || port.tx_burst(0, &frame, 1) != 1) return rte_pktmbuf_free(frame), false;
  const std::int64_t end_ns = monotonic_ns() + kLost_ns;
  while (true) {
    rte_mbuf* frames[pmd::kBurstMax];
    const std::uint16_t received = port.rx_burst(0, frames, pmd::kBurstMax);
    bool is_back = false;
    for (std::uint16_t i = 0; i < received; ++i) {
      is_back = is_back || is_bare(frames[i]);
      rte_pktmbuf_free(frames[i]);
    }
    if (is_back) return true;
    if (monotonic_ns() > end_ns) return false;
  }
}

void bare_round_trip(benchmark::State& state, rte_mempool* pool) {
  if (!ask_for(Mode::kBare)) return state.SkipWithError("the other process does not answer");
  const auto payload = static_cast<std::uint32_t>(state.range(0)) + 32;  // with the data frame's header: as long as the other's datagrams
  std::vector<std::int64_t> times;
  times.reserve(1 << 20);
  std::int64_t lost = 0;
  for (auto _ : state) {
    const std::int64_t begin_ns = monotonic_ns();
    while (!bare_trip(run.half->port(), pool, payload)) ++lost;
    times.push_back(monotonic_ns() - begin_ns);
  }
  report_percentiles(state, times);
  state.counters["lost"] = static_cast<double>(lost);
}

// ---- both -----------------------------------------------------------------------------------------------------------------------------

bool start_eal(std::unique_ptr<pmd::Eal>& eal) {
  pmd::EalOptions options;
  options.instance = "veth-bench";
  options.memory = pmd::EalMemory::kOrdinaryPages;
  options.memory_bytes = 128U << 20;
  options.log_level = pmd::LogLevel::kError;
  auto started = pmd::Eal::start(options);
  if (started) eal = std::move(*started);
  else std::fprintf(stderr, "veth_bench: %s\n", started.error().message.c_str());
  return eal != nullptr;
}

// The two pollers on CPUs of their own, where there are two.
void pin(unsigned number) {
  cpu_set_t allowed, one;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  CPU_ZERO(&one);
  for (unsigned cpu = 0, seen = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &allowed) && seen++ == number) CPU_SET(cpu, &one);
  if (CPU_COUNT(&one) == 1) ::sched_setaffinity(0, sizeof one, &one);
}

int be_the_answering_process(shm::PortKind kind, const std::string& device, const char* network, Agreement& agreement) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (network != nullptr) {
    const int fd = ::open(network, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || ::setns(fd, CLONE_NEWNET) != 0) return std::perror(network), 1;
  }
  std::unique_ptr<pmd::Eal> eal;
  if (!start_eal(eal)) return 1;
  pin(1);
  Half half{kind, device, false};
  if (!half.is_open()) return std::fprintf(stderr, "veth_bench: the answering appliance has no streams\n"), 1;
  answer(half, agreement);
  return 0;
}

int measure(shm::PortKind kind, const std::string& name, const std::string& device, Agreement& agreement, int argc, char** argv) {
  std::unique_ptr<pmd::Eal> eal;
  if (!start_eal(eal)) return 1;
  pin(0);
  Half half{kind, device, true};
  if (!half.is_open()) return std::fprintf(stderr, "veth_bench: the asking appliance has no streams\n"), 1;
  auto pool = pmd::PacketPool::create({.name = "bare", .count = 1023});
  if (!pool) return std::fprintf(stderr, "veth_bench: %s\n", pool.error().message.c_str()), 1;
  run = {&agreement, &half};
  for (const std::int64_t size : {32, 1376}) {
    benchmark::RegisterBenchmark(("round_trip/" + name).c_str(), round_trip)->Arg(size)->UseRealTime()->MinTime(0.5);
    benchmark::RegisterBenchmark(("bare_round_trip/" + name).c_str(), bare_round_trip, pool->get())->Arg(size)->UseRealTime()->MinTime(0.5);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  const bool has_ended = ask_for(Mode::kEnd);
  return has_ended ? 0 : 1;
}

int run_both(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "";
  const char* const pair = std::getenv("THALWEG_BENCH_VETH");
  const std::string names = pair == nullptr ? "" : pair;
  const std::size_t comma = names.find(',');
  if ((name != "af_packet" && name != "af_xdp") || comma == std::string::npos)
    return std::fprintf(stderr, "usage: THALWEG_BENCH_VETH=ours,theirs veth_bench af_packet|af_xdp [flags]\n"), 2;
  const shm::PortKind kind = name == "af_xdp" ? shm::PortKind::kAfXdp : shm::PortKind::kAfPacket;
  void* const memory = ::mmap(nullptr, sizeof(Agreement), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  auto& agreement = *new (memory) Agreement;
  const pid_t child = ::fork();
  if (child == 0) return be_the_answering_process(kind, names.substr(comma + 1), std::getenv("THALWEG_BENCH_NETNS"), agreement);
  argv[1] = argv[0];
  const int result = measure(kind, name, names.substr(0, comma), agreement, argc - 1, argv + 1);
  if (result != 0) ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return result;
}

}  // namespace
}  // namespace thalweg::test

int main(int argc, char** argv) { return thalweg::test::run_both(argc, argv); }
