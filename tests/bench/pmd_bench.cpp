// Frames bounced between two ports with nothing in between: the ceilings under which everything else of the appliance is measured.
//
// A patch cable has both ends in this thread. Behind memif, af_packet and af_xdp is another process (port_echo). The last two need a veth
// pair, named by THALWEG_BENCH_VETH=ours,theirs, and where its other end is in another namespace that namespace's path in
// THALWEG_BENCH_NETNS; scripts/lib/namespaces.py makes both and runs a command with them. One item is one frame there and back.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <rte_mbuf.h>
#include <sched.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#include "dataplane/base/time.hpp"
#include "pmd/eal.hpp"
#include "pmd/frame.hpp"
#include "pmd/packet_pool.hpp"
#include "pmd/port_factory.hpp"

namespace {

using namespace thalweg;

constexpr wire::UdpEndpoint kOurs{0x0A4D0001, 40001};
constexpr wire::UdpEndpoint kTheirs{0x0A4D0002, 40002};
constexpr std::uint32_t kWindow = 256;               // frames under way in a throughput run; less than any ring
constexpr std::int64_t kResend_ns = 20 * kMillisecond_ns;  // kernel-backed ports may lose: what is late by this is given up

rte_mempool* pool = nullptr;

rte_mbuf* make_frame(std::uint32_t payload) {
  rte_mbuf* const made = rte_pktmbuf_alloc(pool);
  if (made == nullptr) return nullptr;
  auto* const p = rte_pktmbuf_mtod(made, std::byte*);
  pmd::write_udp_headers(p, kOurs, kTheirs, payload);
  std::memset(p, 0xFF, 6);  // broadcast: received whatever the other end's MAC is
  std::memset(p + wire::kUdpFrameHeaderLength, 'x', payload);
  p[6] = std::byte{2};
  made->data_len = static_cast<std::uint16_t>(wire::kUdpFrameHeaderLength + payload);
  made->pkt_len = made->data_len;
  return made;
}

// Keeps `window` frames under way through `port`; `other` turns the far end when it is in this thread.
template <typename OtherEnd>
void bounce(benchmark::State& state, pmd::Port& port, std::uint32_t window, OtherEnd&& other) {
  const auto payload = static_cast<std::uint32_t>(state.range(0));
  std::uint32_t under_way = 0;
  std::int64_t items = 0, lost = 0, last_ns = monotonic_ns();
  for (auto _ : state) {
    const std::int64_t goal = items + window;
    while (items < goal) {
      rte_mbuf* frames[pmd::kBurstMax];
      std::uint16_t count = 0;
      while (count < pmd::kBurstMax && under_way + count < window && (frames[count] = make_frame(payload)) != nullptr) ++count;
      const std::uint16_t sent = count == 0 ? std::uint16_t{0} : port.tx_burst(0, frames, count);
      for (std::uint16_t i = sent; i < count; ++i) rte_pktmbuf_free(frames[i]);
      under_way += sent;
      other();
      const std::uint16_t received = port.rx_burst(0, frames, pmd::kBurstMax);
      for (std::uint16_t i = 0; i < received; ++i) rte_pktmbuf_free(frames[i]);
      items += received;
      under_way -= std::min<std::uint32_t>(under_way, received);
      if (received != 0) {
        last_ns = monotonic_ns();
      } else if (under_way == window && monotonic_ns() - last_ns > kResend_ns) {
        lost += under_way;
        under_way = 0;
        last_ns = monotonic_ns();
      }
    }
  }
  // Nothing may be left for the next run.
  for (const std::int64_t end = monotonic_ns() + kResend_ns; under_way != 0 && monotonic_ns() < end;) {
    rte_mbuf* frames[pmd::kBurstMax];
    other();
    const std::uint16_t received = port.rx_burst(0, frames, pmd::kBurstMax);
    for (std::uint16_t i = 0; i < received; ++i) rte_pktmbuf_free(frames[i]);
    under_way -= std::min<std::uint32_t>(under_way, received);
  }
  state.SetItemsProcessed(items);
  state.counters["lost"] = static_cast<double>(lost);
}

pmd::PortContext& context() {
  static pmd::PortContext the_context;
  the_context.pool = pool;
  return the_context;
}

void patch(benchmark::State& state, std::uint32_t window) {
  pmd::PortOptions left, right;
  left.kind = right.kind = shm::PortKind::kPatch;
  left.name = right.peer = "left";
  right.name = left.peer = "right";
  const auto a = pmd::make_port(left, context());
  const auto b = pmd::make_port(right, context());
  if (!a || !b) return state.SkipWithError("no cable");
  bounce(state, **a, window, [&b] {
    rte_mbuf* frames[pmd::kBurstMax];
    const std::uint16_t received = (*b)->rx_burst(0, frames, pmd::kBurstMax);
    const std::uint16_t sent = received == 0 ? std::uint16_t{0} : (*b)->tx_burst(0, frames, received);
    for (std::uint16_t i = sent; i < received; ++i) rte_pktmbuf_free(frames[i]);
  });
}

// Runs port_echo for a scope.
class Echo {
 public:
  explicit Echo(const std::string& kind, const std::string& where) {
    int ready[2];
    if (::pipe(ready) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ready[1], STDOUT_FILENO);
      const char* const network = std::getenv("THALWEG_BENCH_NETNS");
      if (network != nullptr && ::setns(::open(network, O_RDONLY | O_CLOEXEC), CLONE_NEWNET) != 0) ::_exit(126);
      ::execl(THALWEG_PORT_ECHO, "port_echo", kind.c_str(), where.c_str(), "role=server", "address=10.77.0.2", nullptr);
      ::_exit(127);
    }
    ::close(ready[1]);
    char byte;
    is_ready_ = ::read(ready[0], &byte, 1) == 1;
    ::close(ready[0]);
  }
  ~Echo() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Echo(const Echo&) = delete;
  Echo& operator=(const Echo&) = delete;
  [[nodiscard]] bool is_ready() const noexcept { return is_ready_; }

 private:
  pid_t pid_{-1};
  bool is_ready_{};
};

// A port and the process behind it, kept over the runs of one kind: the kernel lets go of an af_xdp queue only some time after its socket.
struct Link {
  std::string kind;
  std::unique_ptr<Echo> echo;
  std::unique_ptr<pmd::Port> port;
};
Link& the_link() {
  static Link link;
  return link;
}

void with_echo(benchmark::State& state, const pmd::PortOptions& options, const std::string& kind, const std::string& where,
               std::uint32_t window) {
  Link& link = the_link();
  if (link.kind != kind) {
    link.port.reset();
    link.echo = std::make_unique<Echo>("kind=" + kind, where);
    link.kind = kind;
    auto port = link.echo->is_ready() ? pmd::make_port(options, context())
                                       : Result<std::unique_ptr<pmd::Port>>{fail(ErrorCode::kIo, "port_echo did not start")};
    if (!port) return state.SkipWithError(port.error().message.c_str());
    link.port = std::move(*port);
  }
  if (link.port == nullptr) return state.SkipWithError("no port");
  for (const std::int64_t end = monotonic_ns() + 10 * kSecond_ns; !link.port->is_link_up();)
    if (monotonic_ns() > end) return state.SkipWithError("the link stays down");
  bounce(state, *link.port, window, [] {});
}

void memif(benchmark::State& state, std::uint32_t window) {
  pmd::PortOptions options;
  options.name = "bench";
  options.kind = shm::PortKind::kMemif;
  options.memif_socket = "thalweg-bench-" + std::to_string(::getpid());
  with_echo(state, options, "memif", "socket=" + options.memif_socket, window);
}

void veth(benchmark::State& state, shm::PortKind kind, std::uint32_t window) {
  const char* const pair = std::getenv("THALWEG_BENCH_VETH");
  const std::string names = pair == nullptr ? "" : pair;
  const std::size_t comma = names.find(',');
  if (comma == std::string::npos) return state.SkipWithError("THALWEG_BENCH_VETH names no pair");
  pmd::PortOptions options;
  options.name = "bench";
  options.kind = kind;
  options.device = names.substr(0, comma);
  with_echo(state, options, kind == shm::PortKind::kAfXdp ? "af-xdp" : "af-packet", "device=" + names.substr(comma + 1), window);
}

#define THALWEG_BOUNCE(name, ...) BENCHMARK_CAPTURE(__VA_ARGS__)->Name(name)->Arg(64)->Arg(1408)->UseRealTime()->MinTime(1.0)
THALWEG_BOUNCE("patch/throughput", patch, throughput, kWindow);
THALWEG_BOUNCE("patch/round_trip", patch, round_trip, 1);
THALWEG_BOUNCE("memif/throughput", memif, throughput, kWindow);
THALWEG_BOUNCE("memif/round_trip", memif, round_trip, 1);
THALWEG_BOUNCE("af_packet/throughput", veth, packet_throughput, shm::PortKind::kAfPacket, kWindow);
THALWEG_BOUNCE("af_packet/round_trip", veth, packet_round_trip, shm::PortKind::kAfPacket, 1);
THALWEG_BOUNCE("af_xdp/throughput", veth, xdp_throughput, shm::PortKind::kAfXdp, kWindow);
THALWEG_BOUNCE("af_xdp/round_trip", veth, xdp_round_trip, shm::PortKind::kAfXdp, 1);

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  pmd::EalOptions options;
  options.instance = "pmd-bench";
  options.memory_bytes = 96U << 20;
  options.log_level = pmd::LogLevel::kError;
  const auto eal = pmd::Eal::start(options);
  if (!eal) return std::fprintf(stderr, "%s\n", eal.error().message.c_str()), 1;
  auto packets = pmd::PacketPool::create({.name = "bench", .count = 16383});
  if (!packets) return std::fprintf(stderr, "%s\n", packets.error().message.c_str()), 1;
  pool = packets->get();
  benchmark::RunSpecifiedBenchmarks();
  the_link() = {};
  return 0;
}
