#pragma once
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "pmd/backends/patch.hpp"
#include "tests/support/appliance.hpp"

// Several appliances on one Ethernet switch, in one thread, with simulated time.
namespace thalweg::test {

// A switch that snoops IGMP as real ones do: frames to a group go where it was asked for, everything it does not know goes everywhere.
class Switch {
 public:
  // Port i leads to the patch port "node<i>" whose peer is "switch<i>".
  Switch(std::size_t ports, pmd::PatchPanel& panel);

  // Moves what is there, one burst for each port.
  void step();
  // Frames that a port does not get; empty: it gets all.
  std::function<bool(std::size_t to, std::span<const std::byte> frame)> drops;
  // A frame of nobody's for port `to`.
  void send(std::size_t to, rte_mempool* pool, std::span<const std::byte> frame);
  // Asks all hosts which groups they want, as a querier does. `max_response`: tenths of a second.
  void query(rte_mempool* pool, std::uint8_t max_response, bool is_v2 = false);
  // Frames to `group` that left through a port.
  [[nodiscard]] std::size_t forwarded(std::uint32_t group, std::size_t port) const;
  // IPv4 frames to an address, whoever sent them.
  [[nodiscard]] std::size_t sent_to(std::uint32_t address) const;
  // TTL of the last frame to `group`; -1: there was none.
  [[nodiscard]] int ttl(std::uint32_t group) const;
  [[nodiscard]] bool is_member(std::uint32_t group, std::size_t port) const;

 private:
  void forward(std::size_t from, rte_mbuf* frame);
  void snoop(std::size_t from, const wire::Ipv4View& ip);
  [[nodiscard]] bool wants(std::size_t to, const rte_mbuf* frame) const;

  std::vector<std::unique_ptr<pmd::Port>> ports_;
  std::map<std::uint32_t, std::set<std::size_t>> members_;
  std::map<std::pair<std::uint32_t, std::size_t>, std::size_t> forwarded_;
  std::map<std::uint32_t, int> ttls_;
  std::map<std::uint32_t, std::size_t> sent_;
};

// Node i has the address 10.0.0.<i + 1>/24 on the switch and a loopback port.
class Lab {
 public:
  struct Options {
    std::size_t nodes{2};
    pmd::ImpairmentOptions impairment;   // of what each node receives, its seed plus the node's number
    std::uint32_t packet_buffers{1023};
    std::function<void(Appliance::Options&, std::size_t)> adjust;
    bool is_on_sockets{};                // no switch: each has a loopback and a kernel port of its own, as on different hosts
  };
  explicit Lab(const Options& options);
  ~Lab();

  static constexpr std::int64_t kStep_ns = 10 * kMicrosecond_ns;
  [[nodiscard]] Appliance& node(std::size_t i) { return *nodes_[i]; }
  [[nodiscard]] std::shared_ptr<client::Client> connect(std::size_t node, client::Context context = {});
  // Frames that do not arrive at a node any more; empty: all arrive again.
  void drop(std::size_t node, std::function<bool(std::span<const std::byte>)> which) {
    ethernet->drops = which ? [node, which](std::size_t to, std::span<const std::byte> frame) { return to == node && which(frame); } : decltype(ethernet->drops){};
  }
  void inject(std::size_t node, std::span<const std::byte> frame) { ethernet->send(node, cables_->pool, frame); }
  // Its successor begins on what it left. Frames under way are lost first: they lie in buffers of a pool that is about to go.
  void restart_data_plane(std::size_t node);
  void turn(std::int64_t step_ns = kStep_ns);
  template <typename Predicate>
  bool run_until(Predicate&& predicate, std::int64_t limit_ns, std::int64_t step_ns = kStep_ns) {
    for (const std::int64_t end = now_ns + limit_ns; now_ns < end; turn(step_ns)) {
      if (predicate()) return true;
    }
    return predicate();
  }
  // For long waits: the clock moves in steps of a millisecond.
  void run_for(std::int64_t duration_ns) {
    run_until([] { return false; }, duration_ns, kMillisecond_ns);
  }
  [[nodiscard]] std::uint64_t count(std::size_t node, shm::LaneCounter counter) {
    return nodes_[node]->registry().lanes[0].counters[static_cast<std::size_t>(counter)];
  }
  [[nodiscard]] std::string errors() const;
  [[nodiscard]] core::Dataplane::Cables cables() const { return cables_; }

 private:
  void step_all(std::int64_t step_ns);
  core::Dataplane::Cables cables_{std::make_shared<pmd::PortContext>()};

 public:
  std::int64_t now_ns{1'000'000'000'000};
  std::unique_ptr<Switch> ethernet;

 private:
  std::vector<std::unique_ptr<Appliance>> nodes_;
  std::vector<std::weak_ptr<client::Client>> clients_;
};

}  // namespace thalweg::test
