#include "tests/unit/pmd/eal_environment.hpp"

#include <mutex>

#include "dataplane/base/time.hpp"

namespace thalweg::pmd::test {
namespace {

std::unique_ptr<Eal> running;
std::vector<std::string> lines;

// DPDK's interrupt thread logs too.
void keep_line(void*, LogLevel, const char* text, std::size_t length) {
  static std::mutex mutex;
  const std::lock_guard lock{mutex};
  lines.emplace_back(text, length);
}

}  // namespace

void EalEnvironment::SetUp() {
  EalOptions options;
  options.instance = "unit-pmd";
  options.memory = EalMemory::kOrdinaryPages;
  options.memory_bytes = 96U << 20;
  options.log_level = LogLevel::kDebug;
  options.log_sink = keep_line;
  auto started = Eal::start(options);
  ASSERT_TRUE(started) << started.error().message;
  running = std::move(*started);
}
void EalEnvironment::TearDown() { running.reset(); }
Eal& EalEnvironment::eal() { return *running; }
std::vector<std::string>& EalEnvironment::log_lines() { return lines; }

void PortTest::SetUp() {
  first_line_ = lines.size();
  auto pool = PacketPool::create({.name = "test_pool", .count = 16383});
  ASSERT_TRUE(pool) << pool.error().message;
  pool_ = std::make_unique<PacketPool>(std::move(*pool));
  context_ = std::make_unique<PortContext>();
  context_->pool = pool_->get();
}

void PortTest::TearDown() {
  if (HasFailure())
    for (std::size_t i = first_line_; i < lines.size(); ++i) std::fprintf(stderr, "dpdk: %s\n", lines[i].c_str());
  context_.reset();
  EXPECT_EQ(pool_->in_use(), 0U) << "an mbuf leaked";
  pool_.reset();
}

std::unique_ptr<Port> PortTest::make(const PortOptions& options) {
  auto port = make_port(options, *context_);
  if (!port) {
    ADD_FAILURE() << port.error().message << " / " << port.error().hint;
    std::abort();  // nothing a test could do without its port
  }
  return std::move(*port);
}

rte_mbuf* PortTest::frame(const wire::UdpEndpoint& from, const wire::UdpEndpoint& to, std::string_view payload) {
  rte_mbuf* const made = rte_pktmbuf_alloc(pool_->get());
  auto* const p = rte_pktmbuf_mtod(made, std::byte*);
  write_udp_headers(p, from, to, static_cast<std::uint32_t>(payload.size()));
  std::memcpy(p + wire::kUdpFrameHeaderLength, payload.data(), payload.size());
  made->data_len = static_cast<std::uint16_t>(wire::kUdpFrameHeaderLength + payload.size());
  made->pkt_len = made->data_len;
  return made;
}

bool PortTest::send(Port& port, rte_mbuf* frame, std::uint16_t queue) {
  if (port.tx_burst(queue, &frame, 1) == 1) return true;
  rte_pktmbuf_free(frame);
  return false;
}

std::vector<rte_mbuf*> PortTest::receive(Port& port, std::size_t count, std::uint16_t queue) {
  std::vector<rte_mbuf*> all;
  const std::int64_t deadline_ns = monotonic_ns() + 2 * kSecond_ns;
  while (all.size() < count && monotonic_ns() < deadline_ns) {
    port.turn(monotonic_ns());
    rte_mbuf* burst[kBurstMax];
    const std::uint16_t got = port.rx_burst(queue, burst, kBurstMax);
    all.insert(all.end(), burst, burst + got);
  }
  return all;
}

std::vector<std::string> PortTest::receive_payloads(Port& port, std::size_t count, std::uint16_t queue) {
  std::vector<std::string> payloads;
  for (rte_mbuf* const received : receive(port, count, queue)) {
    payloads.push_back(payload_of(received));
    rte_pktmbuf_free(received);
  }
  return payloads;
}

std::string payload_of(const rte_mbuf* frame) {
  UdpFrame view;
  if (!UdpFrame::parse(frame, view)) return "<not UDP>";
  return {rte_pktmbuf_mtod_offset(frame, const char*, wire::kUdpFrameHeaderLength), view.payload_length};
}

UdpFrame addresses_of(const rte_mbuf* frame) {
  UdpFrame view;
  EXPECT_TRUE(UdpFrame::parse(frame, view));
  return view;
}

}  // namespace thalweg::pmd::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::AddGlobalTestEnvironment(new thalweg::pmd::test::EalEnvironment);
  return RUN_ALL_TESTS();
}
