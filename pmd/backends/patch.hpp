#pragma once
#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "pmd/queue_counters.hpp"
#include "pmd/udp_port_table.hpp"

struct rte_ring;

// A patch cable: two ports of this process crossed over single-producer single-consumer rings, one pair per queue. The mbuf itself moves.
// DPDK's net_ring does the same with an ethdev around it; going to the rings directly saves that layer and needs no driver.
namespace thalweg::pmd {

// The rings between two ends. Made by whichever end comes first, kept by both.
class PatchCable {
 public:
  [[nodiscard]] static Result<std::shared_ptr<PatchCable>> create(const std::string& name, std::uint16_t queues, std::uint16_t ring_size);
  ~PatchCable();
  PatchCable(const PatchCable&) = delete;
  PatchCable& operator=(const PatchCable&) = delete;

  [[nodiscard]] rte_ring* ring_from(unsigned end, std::uint16_t queue) const noexcept { return rings_[end][queue]; }
  [[nodiscard]] std::uint16_t queue_count() const noexcept { return static_cast<std::uint16_t>(rings_[0].size()); }
  // Ends present; a lane reads it to know whether anybody listens.
  std::array<std::atomic<bool>, 2> is_attached{};

 private:
  PatchCable() = default;
  std::array<std::vector<rte_ring*>, 2> rings_;
};

// The cables of one data plane, by the names of their ends. Steward only; outlives no port (ports keep their cable).
class PatchPanel {
 public:
  // The cable between `name` and `peer` and which end `name` is. Errors: kInUse (that end is taken), kInvalidConfig, kNoSpace.
  struct End {
    std::shared_ptr<PatchCable> cable;
    unsigned index{};
  };
  [[nodiscard]] Result<End> attach(const std::string& name, const std::string& peer, std::uint16_t queues, std::uint16_t ring_size);

 private:
  std::map<std::string, std::weak_ptr<PatchCable>> cables_;
};

class PatchPort final : public Port {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Port>> create(const PortOptions& options, PatchPanel& panel);
  ~PatchPort() override;  // no lane polls either end

  std::uint16_t rx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override;
  std::uint16_t tx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override;
  const PortCapabilities& capabilities() const noexcept override { return capabilities_; }
  wire::MacAddress mac() const noexcept override { return mac_; }
  bool is_link_up() noexcept override;
  PortStatistics statistics() noexcept override;
  Result<wire::UdpEndpoint> bind(const BindOptions& options) override { return addresses_.bind(options.local); }
  void unbind(const wire::UdpEndpoint& local) override { addresses_.unbind(local); }

 private:
  PatchPort(const PortOptions& options, PatchPanel::End end);
  PatchPanel::End end_;
  std::vector<rte_ring*> rx_rings_;
  std::vector<rte_ring*> tx_rings_;
  std::vector<QueueCounters> counters_;
  PortCapabilities capabilities_;
  wire::MacAddress mac_;
  UdpPortTable addresses_;
};

}  // namespace thalweg::pmd
