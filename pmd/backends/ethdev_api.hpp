#pragma once
#include <rte_ethdev.h>
#include <rte_flow.h>

#include <cstdint>

namespace thalweg::pmd {

// The ethdev calls that bring a device up and look after it, as a table: tests put a recording fake in its place. Bursts are not in it,
// they are inline in DPDK's header. Return values are DPDK's own (0, or a negative errno).
struct EthdevApi {
  int (*vdev_init)(const char* name, const char* arguments);
  int (*vdev_uninit)(const char* name);
  int (*dev_probe)(const char* name);
  int (*port_by_name)(const char* name, std::uint16_t* port);
  int (*info_get)(std::uint16_t port, rte_eth_dev_info* info);
  int (*configure)(std::uint16_t port, std::uint16_t rx_queues, std::uint16_t tx_queues, const rte_eth_conf* conf);
  int (*adjust_descriptors)(std::uint16_t port, std::uint16_t* rx, std::uint16_t* tx);
  int (*rx_queue_setup)(std::uint16_t port, std::uint16_t queue, std::uint16_t descriptors, unsigned socket, const rte_eth_rxconf* conf,
                        rte_mempool* pool);
  int (*tx_queue_setup)(std::uint16_t port, std::uint16_t queue, std::uint16_t descriptors, unsigned socket, const rte_eth_txconf* conf);
  int (*set_mtu)(std::uint16_t port, std::uint16_t mtu);
  int (*start)(std::uint16_t port);
  int (*stop)(std::uint16_t port);
  int (*close)(std::uint16_t port);
  int (*set_mc_addr_list)(std::uint16_t port, rte_ether_addr* addresses, std::uint32_t count);
  int (*allmulticast_enable)(std::uint16_t port);
  int (*promiscuous_enable)(std::uint16_t port);
  int (*mac_addr_get)(std::uint16_t port, rte_ether_addr* address);
  int (*mac_addr_set)(std::uint16_t port, rte_ether_addr* address);
  rte_flow* (*flow_create)(std::uint16_t port, const rte_flow_attr* attributes, const rte_flow_item* pattern, const rte_flow_action* actions,
                           rte_flow_error* error);
  int (*flow_destroy)(std::uint16_t port, rte_flow* flow, rte_flow_error* error);
  int (*link_get)(std::uint16_t port, rte_eth_link* link);
  int (*stats_get)(std::uint16_t port, rte_eth_stats* stats);
  int (*rx_timestamp_register)(int* field_offset, std::uint64_t* flag);
  int (*read_clock)(std::uint16_t port, std::uint64_t* ticks);
};

// DPDK's own.
[[nodiscard]] const EthdevApi& dpdk_ethdev_api() noexcept;

}  // namespace thalweg::pmd
