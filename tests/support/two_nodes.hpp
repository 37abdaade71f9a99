#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "dataplane/core/dataplane.hpp"
#include "tests/support/fake_control.hpp"

// Two data planes in one thread, joined by a patch cable, with simulated time.
namespace thalweg::test {

// Looks at each frame a port received before the lane does and may drop it (true = drop).
using FrameFilter = std::function<bool(rte_mbuf*)>;

struct Node {
  FakeControl control;
  std::unique_ptr<core::Dataplane> plane;
  std::shared_ptr<FrameFilter> filter{std::make_shared<FrameFilter>()};

  Node(const std::string& name, std::int32_t counters) : control{name, counters} {}
  void step(std::int64_t now_ns) {
    control.step();
    plane->step(now_ns);
  }
};

class TwoNodes {
 public:
  struct Options {
    pmd::ImpairmentOptions impair_a, impair_b;   // of what a, b receive
    std::uint32_t packet_buffers{2047};
    std::uint16_t vlan{};
    std::uint32_t mtu{1'500};       // of the cable
    bool has_ip_fragments{};
    pmd::Checksums checksums{pmd::Checksums::kAuto};
    std::uint32_t lanes{1};
    bool has_filters{true};         // false: nothing between the lanes and the cable that a data plane would not have
    std::int32_t counters{8'192};   // of each node
    bool has_second_cable{};        // port 2: 10.0.1.1 and 10.0.1.2, polled by the last lane
    std::uint16_t queues{1};        // of the cable's ends; with two, both lanes poll it, and frames are spread over them as RSS would
    std::int64_t step_ns{10'000};
    std::uint32_t session_limit{proto::kNoSessionLimit};
  };
  TwoNodes() : TwoNodes(Options{}) {}
  explicit TwoNodes(const Options& options);

  static constexpr std::uint32_t kAddressA = 0x0A000001;   // 10.0.0.1
  static constexpr std::uint32_t kAddressB = 0x0A000002;
  static constexpr std::uint32_t kSecondCable = 0x100;       // added to an address: the same node's on the second cable
  static constexpr std::int64_t kLongStep_ns = 100'000;      // for waits of seconds: a turn of sanitized lanes takes 50 us of real time
  // Steps both nodes and the clock until `predicate` holds; false at the deadline. `step_ns` 0: that of the options.
  template <typename Predicate>
  bool run_until(Predicate&& predicate, std::int64_t limit_ns, std::int64_t step_ns = 0) {
    if (step_ns == 0) step_ns = options_.step_ns;
    for (const std::int64_t end = now_ns + limit_ns; now_ns < end; now_ns += step_ns) {
      if (predicate()) return true;
      a.step(now_ns);
      b.step(now_ns);
    }
    return predicate();
  }
  void run_for(std::int64_t duration_ns, std::int64_t step_ns = 0) {
    run_until([] { return false; }, duration_ns, step_ns);
  }
  [[nodiscard]] std::uint32_t mbufs_in_use() { return a.plane->mbufs_in_use() + b.plane->mbufs_in_use(); }
  // Destroys a node's data plane and makes a new one over the same registry and logs. Frames under way between the nodes are lost first:
  // they lie in buffers of a pool that is about to go.
  void restart(Node& node);
  // Puts a frame on the cable towards `to`, as if the other end had sent it.
  void inject(Node& to, std::span<const std::byte> frame, std::uint32_t port = 0) { ASSERT_TRUE(try_inject(to, frame, port)); }
  // False: the cable is full.
  [[nodiscard]] bool try_inject(Node& to, std::span<const std::byte> frame, std::uint32_t port = 0);
  [[nodiscard]] Node& peer_of(const Node& node) noexcept { return &node == &a ? b : a; }

  Node a;
  Node b;
  std::int64_t now_ns{1'000'000'000};

 private:
  void make(Node& node);
  Options options_;
  core::Dataplane::Cables cables_{std::make_shared<pmd::PortContext>()};
};

// Starts the EAL once for a test program; use it as its main().
int run_tests_with_eal(int argc, char** argv);

}  // namespace thalweg::test
