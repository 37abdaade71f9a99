// thalweg-names-sim: driver names among five to ten drivers in virtual time. One seed decides who starts when and knows whom, what the network
// loses, delays and repeats, who restarts, moves or dies, and how the network parts.
//
// What must hold: a driver that died is forgotten everywhere within its time-out; after healing every driver knows every other by its name, at
// the address where it is.
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <memory>

#include "controlplane/names/gossip.hpp"
#include "dataplane/base/random.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::sim {
namespace {

using names::Address;
using names::Gossip;

constexpr std::int64_t kStep_ns = 10 * kMillisecond_ns;
constexpr std::int64_t kStart_ns = 1'000 * kSecond_ns;
constexpr std::int64_t kTrouble_ns = 90 * kSecond_ns;
constexpr std::int64_t kHealing_ns = 45 * kSecond_ns;   // bootstrap hosts are looked up again after 10 s; then a few rounds, some of them lost
// What goes from driver to driver grows younger by the way of its datagram, once at each of at most nine others; and a step to notice.
constexpr std::int64_t kForgetSlack_ns = 9 * 60 * kMillisecond_ns;
constexpr std::uint16_t kPort = 8050;

struct Node {
  std::string name;
  Address address;
  std::unique_ptr<Gossip> gossip;         // none: it does not run
  std::vector<std::string> bootstraps;    // names of nodes, which the simulated name server knows
  std::int64_t start_ns{};
  std::int64_t died_ns{};                 // 0: it lives
  unsigned side{};                        // of the partition
};

struct Flying {
  Address from, to;
  std::vector<std::byte> frame;
};

class World {
 public:
  explicit World(std::uint64_t seed, bool is_verbose) : random_{seed}, is_verbose_{is_verbose} {
    loss_ppm_ = random_.below(300'000);
    delay_ns_ = static_cast<std::int64_t>(random_.below(50)) * kMillisecond_ns;
    nodes_.resize(5 + random_.below(6));
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      Node& node = nodes_[i];
      node.name = fmt::format("node-{}", i);
      node.address = new_address();
      node.start_ns = kStart_ns + static_cast<std::int64_t>(random_.below(15'000)) * kMillisecond_ns;
      if (i > 0) node.bootstraps.push_back(fmt::format("node-{}:{}", random_.below(static_cast<std::uint32_t>(i)), kPort));
      if (random_.below(3) == 0) node.bootstraps.push_back(fmt::format("node-{}:{}", random_.below(static_cast<std::uint32_t>(nodes_.size())), kPort));
    }
  }

  // Empty: everything held.
  std::string run() {
    for (now_ns_ = kStart_ns; now_ns_ < kStart_ns + kTrouble_ns; now_ns_ += kStep_ns) {
      make_trouble();
      step();
      if (std::string wrong = find_ghost(); !wrong.empty()) return wrong;
    }
    heal();
    for (const std::int64_t end_ns = now_ns_ + kHealing_ns; now_ns_ < end_ns; now_ns_ += kStep_ns) {
      step();
      if (std::string wrong = find_ghost(); !wrong.empty()) return wrong;
    }
    return find_gap();
  }

 private:
  Address new_address() { return Address::ipv4(0x0A000000 + ++addresses_, kPort); }
  void note(const std::string& text) const {
    if (is_verbose_) fmt::print("{:9.3f} s  {}\n", static_cast<double>(now_ns_ - kStart_ns) / 1e9, text);
  }
  Node& any() { return nodes_[random_.below(static_cast<std::uint32_t>(nodes_.size()))]; }

  void start(Node& node) {
    names::GossipOptions options{.name = node.name, .bound = node.address, .bootstraps = node.bootstraps};
    node.gossip = std::make_unique<Gossip>(options, now_ns_);
    note(node.name + " starts at " + node.address.to_string());
  }

  void make_trouble() {
    for (Node& node : nodes_) {
      if (!node.gossip && node.died_ns == 0 && now_ns_ >= node.start_ns) start(node);
    }
    if (random_.below(400) != 0) return;  // every 4 s
    Node& node = any();
    switch (random_.below(6)) {
      case 0:
      case 1: return restart(node, false);
      case 2: return restart(node, true);
      case 3:
      case 4: return part();
      default: return die(node);
    }
  }
  void restart(Node& node, bool moves) {
    if (node.died_ns != 0) return;
    node.gossip.reset();
    if (moves) node.address = new_address();
    node.start_ns = now_ns_ + static_cast<std::int64_t>(random_.below(12'000)) * kMillisecond_ns;
    note(node.name + (moves ? " goes down and moves" : " goes down"));
  }
  void part() {
    for (Node& node : nodes_) node.side = random_.below(2);
    note("the network parts anew");
  }
  // Bootstrap neighbours of others live on: without them nobody could find the rest again.
  void die(Node& node) {
    if (node.died_ns != 0 || is_bootstrap(node.name)) return;
    node.gossip.reset();
    node.died_ns = now_ns_;
    note(node.name + " dies");
  }
  [[nodiscard]] bool is_bootstrap(const std::string& name) const {
    for (const Node& node : nodes_) {
      for (const std::string& host : node.bootstraps) {
        if (host == fmt::format("{}:{}", name, kPort)) return true;
      }
    }
    return false;
  }
  void heal() {
    note("heals");
    loss_ppm_ = std::min<std::uint32_t>(loss_ppm_, 100'000);
    for (Node& node : nodes_) {
      node.side = 0;
      if (!node.gossip && node.died_ns == 0) start(node);
    }
  }

  void step() {
    while (!flying_.empty() && flying_.begin()->first <= now_ns_) {
      deliver(flying_.begin()->second);
      flying_.erase(flying_.begin());
    }
    for (Node& node : nodes_) {
      if (!node.gossip) continue;
      while (const auto index = node.gossip->next_lookup(now_ns_)) look_up(node, *index);
      node.gossip->turn(now_ns_);
      while (const auto outgoing = node.gossip->next_outgoing()) send(node, *outgoing);
    }
  }
  void look_up(Node& node, std::size_t index) {
    for (const Node& other : nodes_) {
      if (node.gossip->bootstraps()[index].text == fmt::format("{}:{}", other.name, kPort)) node.gossip->set_bootstrap(index, other.address);
    }
  }
  void send(const Node& node, const Gossip::Outgoing& outgoing) {
    for (unsigned copies = random_.below(50) == 0 ? 2 : 1; copies > 0; --copies) {
      if (random_.below(1'000'000) < loss_ppm_) continue;
      const std::int64_t arrival_ns = now_ns_ + (delay_ns_ == 0 ? 0 : static_cast<std::int64_t>(random_.below(static_cast<std::uint32_t>(delay_ns_))));
      flying_.emplace(arrival_ns, Flying{node.address, outgoing.to, {outgoing.frame.begin(), outgoing.frame.end()}});
    }
  }
  void deliver(const Flying& flying) {
    const Node* const from = at(flying.from);
    for (Node& node : nodes_) {
      if (!node.gossip || node.address != flying.to) continue;
      if (from != nullptr && from->side != node.side) return;
      node.gossip->receive(flying.frame, flying.from, now_ns_);
    }
  }
  [[nodiscard]] const Node* at(const Address& address) const {
    for (const Node& node : nodes_) if (node.address == address) return &node;
    return nullptr;
  }

  [[nodiscard]] std::string find_ghost() const {
    for (const Node& dead : nodes_) {
      if (dead.died_ns == 0) continue;
      for (const Node& node : nodes_) {
        const bool is_known = node.gossip && node.gossip->names().contains({dead.name, std::uint8_t{1}});
        if (is_known && now_ns_ > dead.died_ns + node.gossip->options().neighbor_timeout_ns + kForgetSlack_ns) {
          return fmt::format("{} still knows {}, which died {} ms ago", node.name, dead.name, (now_ns_ - dead.died_ns) / kMillisecond_ns);
        }
      }
    }
    return {};
  }
  [[nodiscard]] std::string find_gap() const {
    for (const Node& node : nodes_) {
      if (!node.gossip) continue;
      for (const Node& other : nodes_) {
        if (!other.gossip) continue;
        const auto found = node.gossip->find(other.name, 1);
        if (!found) return fmt::format("{} does not know {}", node.name, other.name);
        if (*found != other.address) return fmt::format("{} takes {} to be at {}, not at {}", node.name, other.name, found->to_string(), other.address.to_string());
      }
    }
    return {};
  }

  Random random_;
  bool is_verbose_;
  std::int64_t now_ns_{kStart_ns};
  std::vector<Node> nodes_;
  std::multimap<std::int64_t, Flying> flying_;
  std::uint32_t loss_ppm_{};
  std::int64_t delay_ns_{};
  std::uint32_t addresses_{};
};

int run_seeds(std::uint64_t first, std::uint64_t count, bool is_verbose) {
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const std::string wrong = World{seed, is_verbose}.run();
    if (wrong.empty()) continue;
    fmt::print("seed {}: {}\n  thalweg-names-sim --seeds {}:1 --verbose\n", seed, wrong, seed);
    return 1;
  }
  fmt::print("{} seeds held\n", count);
  return 0;
}

}  // namespace
}  // namespace thalweg::sim

int main(int argc, char** argv) {
  CLI::App app{"Driver names under loss, restarts, moves, partitions and deaths, in virtual time"};
  std::string seeds = "0:100";
  bool is_verbose = false;
  app.add_option("--seeds", seeds, "FIRST:COUNT")->type_name("RANGE");
  app.add_flag("--verbose", is_verbose, "Tell what happens");
  CLI11_PARSE(app, argc, argv);
  unsigned long long first = 0, count = 0;
  if (std::sscanf(seeds.c_str(), "%llu:%llu", &first, &count) != 2) {
    std::fprintf(stderr, "--seeds needs FIRST:COUNT\n");
    return 2;
  }
  return thalweg::sim::run_seeds(first, count, is_verbose);
}
