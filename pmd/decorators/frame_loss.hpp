#pragma once
#include <optional>
#include <vector>

#include "dataplane/base/random.hpp"
#include "pmd/port.hpp"

struct rte_mbuf;

namespace thalweg::pmd {

// The type of the first frame of a UDP datagram (wire-protocol 1.1), whatever is in front of it: VLAN tag, IPv4 with options, IPv6 without extension
// headers. nullopt: something else, a later IP fragment, or less than a frame header. Segments of a chain are looked into.
[[nodiscard]] std::optional<std::uint16_t> frame_type_of(const rte_mbuf* frame) noexcept;

// Decides which datagrams of one way of one queue are lost because of what they carry. Each rule draws from a random sequence of its own, once for
// each datagram of its types, so that other traffic does not move its losses. Thread: the queue's lane.
class FrameLossRules {
 public:
  // Of `options` those of this way. `queue`: other queues draw other sequences.
  FrameLossRules(const std::vector<FrameLossOptions>& options, bool is_sent, std::uint64_t queue);
  [[nodiscard]] bool is_empty() const noexcept { return rules_.empty(); }
  [[nodiscard]] bool takes(const rte_mbuf* frame) noexcept;

 private:
  struct Rule {
    std::uint32_t types{};
    std::uint32_t loss_ppm{};
    Random random;
  };
  std::vector<Rule> rules_;
};

}  // namespace thalweg::pmd
