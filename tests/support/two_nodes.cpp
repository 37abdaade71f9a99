#include "tests/support/two_nodes.hpp"

#include <gtest/gtest.h>
#include <rte_mbuf.h>

#include "pmd/eal.hpp"

namespace thalweg::test {

namespace {

class FilteredPort final : public pmd::Port {
 public:
  FilteredPort(std::unique_ptr<pmd::Port> inner, std::shared_ptr<FrameFilter> filter) : inner_{std::move(inner)}, filter_{std::move(filter)} {}
  std::uint16_t rx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override {
    const std::uint16_t taken = inner_->rx_burst(queue, frames, count);
    if (!*filter_) return taken;
    std::uint16_t kept = 0;
    for (std::uint16_t i = 0; i < taken; ++i) {
      if ((*filter_)(frames[i])) {
        rte_pktmbuf_free(frames[i]);
      } else {
        frames[kept++] = frames[i];
      }
    }
    return kept;
  }
  std::uint16_t tx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override {
    return capabilities().tx_queue_count > 1 ? spread(frames, count) : inner_->tx_burst(queue, frames, count);
  }
  void turn(std::int64_t now_ns) noexcept override { inner_->turn(now_ns); }
  const pmd::PortCapabilities& capabilities() const noexcept override { return inner_->capabilities(); }
  wire::MacAddress mac() const noexcept override { return inner_->mac(); }
  bool is_link_up() noexcept override { return inner_->is_link_up(); }
  pmd::PortStatistics statistics() noexcept override { return inner_->statistics(); }
  pmd::ImpairmentStatistics impairments() const noexcept override { return inner_->impairments(); }
  Result<wire::UdpEndpoint> bind(const BindOptions& options) override { return inner_->bind(options); }
  void unbind(const wire::UdpEndpoint& local) override { inner_->unbind(local); }
  Result<void> join(const GroupOptions& options) override { return inner_->join(options); }
  void leave(const wire::UdpEndpoint& group, std::uint32_t interface_address) override { inner_->leave(group, interface_address); }

 private:
  // As RSS does: the frames of a flow on one queue, the same each time, whoever polls it. What has no UDP header is on the last one.
  std::uint16_t spread(rte_mbuf** frames, std::uint16_t count) noexcept {
    const std::uint16_t queues = capabilities().tx_queue_count;
    for (std::uint16_t i = 0; i < count; ++i) {
      const auto* const p = rte_pktmbuf_mtod(frames[i], const std::byte*);
      const bool is_udp = load_be16(p + 12) == 0x0800 && p[23] == std::byte{17};
      const unsigned flow = is_udp ? load_be16(p + 36) / 2U : queues - 1U;   // by destination port
      if (inner_->tx_burst(static_cast<std::uint16_t>(flow % queues), frames + i, 1) != 1) return i;
    }
    return count;
  }

  std::unique_ptr<pmd::Port> inner_;
  std::shared_ptr<FrameFilter> filter_;
};

}  // namespace

TwoNodes::TwoNodes(const Options& options) : a{"a", options.counters}, b{"b", options.counters}, options_{options} {
  make(a);
  make(b);
}

void TwoNodes::make(Node& node) {
  const bool is_a = &node == &a;
  core::DataplaneOptions o;
  o.directory = node.control.directory();
  o.lanes.resize(options_.lanes);
  o.packet_buffers = options_.packet_buffers;
  o.session_limit = options_.session_limit;
  pmd::PortOptions cable;
  cable.name = is_a ? "a" : "b";
  cable.peer = is_a ? "b" : "a";
  cable.kind = shm::PortKind::kPatch;
  cable.address = is_a ? kAddressA : kAddressB;
  cable.vlan = options_.vlan;
  cable.mtu = options_.mtu;
  cable.has_ip_fragments = options_.has_ip_fragments;
  cable.checksums = options_.checksums;
  cable.queues = options_.queues;
  cable.impairment = is_a ? options_.impair_a : options_.impair_b;
  pmd::PortOptions loopback;
  loopback.name = is_a ? "lo-a" : "lo-b";
  loopback.kind = shm::PortKind::kLoopback;
  loopback.address = 0x7F000001;
  loopback.prefix_length = 8;
  o.ports = {cable, loopback};
  if (options_.lanes > 1) o.lanes[1].ports = {loopback.name};
  if (options_.queues > 1) {
    o.lanes[0].ports = {cable.name};
    o.lanes[1].ports.push_back(cable.name);
  }
  if (options_.has_second_cable) {
    pmd::PortOptions second = cable;
    second.name += "2";
    second.peer += "2";
    second.address += kSecondCable;
    o.ports.push_back(second);
    if (options_.lanes > 1) o.lanes[1].ports.push_back(second.name);
  }
  if (options_.has_filters) o.wrap_port = [filter = node.filter](std::unique_ptr<pmd::Port> port, const pmd::PortOptions& p) -> std::unique_ptr<pmd::Port> {
    if (p.kind != shm::PortKind::kPatch) return port;
    return std::make_unique<FilteredPort>(std::move(port), filter);
  };
  auto plane = core::Dataplane::create(o, node.control.registry(), node.control.counters(), cables_);
  ASSERT_TRUE(plane) << plane.error().message;
  node.plane = std::move(*plane);
  node.plane->attach();
}

void TwoNodes::restart(Node& node) {
  Node& peer = peer_of(node);
  const FrameFilter before = *peer.filter;
  *peer.filter = [](rte_mbuf*) { return true; };
  constexpr std::int64_t kDrain_ns = 2 * kMillisecond_ns;  // longer than any link delay a test uses
  for (const std::int64_t end = now_ns + kDrain_ns; now_ns < end; now_ns += options_.step_ns) peer.step(now_ns);
  *peer.filter = before;
  node.plane.reset();
  make(node);
}

bool TwoNodes::try_inject(Node& to, std::span<const std::byte> frame, std::uint32_t port) {
  rte_mbuf* buffer = rte_pktmbuf_alloc(cables_->pool);
  if (buffer == nullptr) return false;
  std::memcpy(rte_pktmbuf_append(buffer, static_cast<std::uint16_t>(frame.size())), frame.data(), frame.size());
  if (peer_of(to).plane->port(port).tx_burst(0, &buffer, 1) == 1) return true;
  rte_pktmbuf_free(buffer);
  return false;
}

int run_tests_with_eal(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  pmd::EalOptions options;
  options.instance = "thalweg-test";
  options.memory = pmd::EalMemory::kOrdinaryPages;
  options.memory_bytes = 96U << 20;
  options.log_level = pmd::LogLevel::kError;
  auto eal = pmd::Eal::start(options);
  if (!eal) {
    std::fprintf(stderr, "%s\n", eal.error().message.c_str());
    return 1;
  }
  return RUN_ALL_TESTS();
}

}  // namespace thalweg::test
