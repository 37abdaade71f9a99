#pragma once
#include <map>
#include <vector>

#include "dataplane/wire/ip.hpp"
#include "pmd/backends/ethdev_api.hpp"

namespace thalweg::pmd {

// Tells a device with several receive queues which of them a UDP address is polled on (rte_flow). Where the device cannot, or has no room
// for another rule, nothing is lost: its frames arrive on some queue, and cross to the lane that wants them. Thread: the steward.
class FlowSteering {
 public:
  FlowSteering(const EthdevApi& api, std::uint16_t vlan) noexcept : api_{api}, vlan_{vlan} {}
  FlowSteering(const FlowSteering&) = delete;
  FlowSteering& operator=(const FlowSteering&) = delete;

  // Frames for `local` (address 0: any) come in on `queue` of device `port` from now on, if the device can do that.
  void steer(std::uint16_t port, const wire::UdpEndpoint& local, std::uint16_t queue);
  // As if steer() had not been called.
  void forget(std::uint16_t port, const wire::UdpEndpoint& local);
  [[nodiscard]] std::size_t size() const noexcept { return flows_.size(); }

 private:
  [[nodiscard]] static std::uint64_t key(const wire::UdpEndpoint& e) noexcept { return std::uint64_t{e.address} << 16 | e.port; }

  const EthdevApi& api_;
  std::uint16_t vlan_;
  std::map<std::uint64_t, rte_flow*> flows_;
};

}  // namespace thalweg::pmd
