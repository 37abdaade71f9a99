#include "pmd/backends/flow_steering.hpp"

#include <rte_byteorder.h>

namespace thalweg::pmd {

void FlowSteering::steer(std::uint16_t port, const wire::UdpEndpoint& local, std::uint16_t queue) {
  forget(port, local);
  rte_flow_item_vlan vlan{}, vlan_mask{};
  vlan.hdr.vlan_tci = rte_cpu_to_be_16(vlan_);
  vlan_mask.hdr.vlan_tci = RTE_BE16(0x0FFF);
  rte_flow_item_ipv4 ip{}, ip_mask{};
  ip.hdr.dst_addr = rte_cpu_to_be_32(local.address);
  ip_mask.hdr.dst_addr = local.address == 0 ? 0 : RTE_BE32(0xFFFFFFFF);
  rte_flow_item_udp udp{}, udp_mask{};
  udp.hdr.dst_port = rte_cpu_to_be_16(local.port);
  udp_mask.hdr.dst_port = RTE_BE16(0xFFFF);

  std::vector<rte_flow_item> pattern;
  pattern.push_back({.type = RTE_FLOW_ITEM_TYPE_ETH, .spec = nullptr, .last = nullptr, .mask = nullptr});
  if (vlan_ != 0) pattern.push_back({.type = RTE_FLOW_ITEM_TYPE_VLAN, .spec = &vlan, .last = nullptr, .mask = &vlan_mask});
  pattern.push_back({.type = RTE_FLOW_ITEM_TYPE_IPV4, .spec = &ip, .last = nullptr, .mask = &ip_mask});
  pattern.push_back({.type = RTE_FLOW_ITEM_TYPE_UDP, .spec = &udp, .last = nullptr, .mask = &udp_mask});
  pattern.push_back({.type = RTE_FLOW_ITEM_TYPE_END, .spec = nullptr, .last = nullptr, .mask = nullptr});
  const rte_flow_action_queue to{.index = queue};
  const rte_flow_action actions[] = {{.type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &to}, {.type = RTE_FLOW_ACTION_TYPE_END, .conf = nullptr}};
  rte_flow_attr attributes{};
  attributes.ingress = 1;
  rte_flow_error error{};
  if (rte_flow* const flow = api_.flow_create(port, &attributes, pattern.data(), actions, &error); flow != nullptr) flows_[key(local)] = flow;
}

void FlowSteering::forget(std::uint16_t port, const wire::UdpEndpoint& local) {
  const auto found = flows_.find(key(local));
  if (found == flows_.end()) return;
  rte_flow_error error{};
  static_cast<void>(api_.flow_destroy(port, found->second, &error));
  flows_.erase(found);
}

}  // namespace thalweg::pmd
