#define ALLOW_EXPERIMENTAL_API  // rte_eth_read_clock, since DPDK 19.08
#include "pmd/backends/ethdev_api.hpp"

#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_mbuf_dyn.h>

namespace thalweg::pmd {

const EthdevApi& dpdk_ethdev_api() noexcept {
  static constexpr EthdevApi api{
      .vdev_init = rte_vdev_init,
      .vdev_uninit = rte_vdev_uninit,
      .dev_probe = rte_dev_probe,
      .port_by_name = rte_eth_dev_get_port_by_name,
      .info_get = rte_eth_dev_info_get,
      .configure = rte_eth_dev_configure,
      .adjust_descriptors = rte_eth_dev_adjust_nb_rx_tx_desc,
      .rx_queue_setup = rte_eth_rx_queue_setup,
      .tx_queue_setup = rte_eth_tx_queue_setup,
      .set_mtu = rte_eth_dev_set_mtu,
      .start = rte_eth_dev_start,
      .stop = rte_eth_dev_stop,
      .close = rte_eth_dev_close,
      .set_mc_addr_list = rte_eth_dev_set_mc_addr_list,
      .allmulticast_enable = rte_eth_allmulticast_enable,
      .promiscuous_enable = rte_eth_promiscuous_enable,
      .mac_addr_get = rte_eth_macaddr_get,
      .mac_addr_set = rte_eth_dev_default_mac_addr_set,
      .flow_create = rte_flow_create,
      .flow_destroy = rte_flow_destroy,
      .link_get = rte_eth_link_get_nowait,
      .stats_get = rte_eth_stats_get,
      .rx_timestamp_register = rte_mbuf_dyn_rx_timestamp_register,
      .read_clock = rte_eth_read_clock,
  };
  return api;
}

}  // namespace thalweg::pmd
