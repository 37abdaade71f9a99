#include "pmd/backends/ethdev.hpp"

#include <algorithm>
#include <filesystem>
#include <linux/capability.h>

#include "pmd/backends/devices.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/unit/pmd/eal_environment.hpp"

namespace thalweg::pmd::test {
namespace {

// A device that exists only as a record of what it was asked, and answers as a test wishes.
struct FakeDevice {
  std::vector<std::string> calls;
  rte_eth_dev_info info{};
  rte_eth_conf conf{};
  rte_ether_addr mac{{0x02, 0, 0, 0, 0, 9}};
  int vdev_result{}, configure_result{}, rx_queue_result{}, start_result{}, multicast_list_result{-ENOTSUP}, all_multicast_result{-ENOTSUP};
  int mac_set_result{-ENOTSUP};
  std::vector<rte_ether_addr> multicast_list;
  std::uint32_t multicast_list_max{1000};
  std::uint16_t link_status{RTE_ETH_LINK_UP};
  bool is_probed{};
  int read_clock_result{};
  std::uint64_t ticks{};
  char* flow{};   // what makes one answers; null: the device has no rules
};
FakeDevice* fake = nullptr;

void note(std::string call) { fake->calls.push_back(std::move(call)); }

const EthdevApi kFakeApi{
    .vdev_init = [](const char* name, const char* arguments) { return note(std::string{"vdev_init "} + name + " " + arguments), fake->vdev_result; },
    .vdev_uninit = [](const char*) { return note("vdev_uninit"), 0; },
    .dev_probe = [](const char* name) { return note(std::string{"dev_probe "} + name), fake->is_probed = true, 0; },
    .port_by_name = [](const char* name, std::uint16_t* port) {
      *port = 5;
      return std::strchr(name, ':') != nullptr && !fake->is_probed ? -ENODEV : 0;
    },
    .info_get = [](std::uint16_t, rte_eth_dev_info* info) { return *info = fake->info, 0; },
    .configure = [](std::uint16_t port, std::uint16_t rx, std::uint16_t tx, const rte_eth_conf* conf) {
      note("configure " + std::to_string(port) + " rx " + std::to_string(rx) + " tx " + std::to_string(tx));
      fake->conf = *conf;
      return fake->configure_result;
    },
    .adjust_descriptors = [](std::uint16_t, std::uint16_t* rx, std::uint16_t* tx) {
      *rx = std::min(*rx, fake->info.rx_desc_lim.nb_max);
      *tx = std::min(*tx, fake->info.tx_desc_lim.nb_max);
      return 0;
    },
    .rx_queue_setup = [](std::uint16_t, std::uint16_t queue, std::uint16_t count, unsigned, const rte_eth_rxconf*, rte_mempool*) {
      return note("rx_queue " + std::to_string(queue) + " of " + std::to_string(count)), fake->rx_queue_result;
    },
    .tx_queue_setup = [](std::uint16_t, std::uint16_t queue, std::uint16_t count, unsigned, const rte_eth_txconf*) {
      return note("tx_queue " + std::to_string(queue) + " of " + std::to_string(count)), 0;
    },
    .set_mtu = [](std::uint16_t, std::uint16_t mtu) { return note("set_mtu " + std::to_string(mtu)), 0; },
    .start = [](std::uint16_t) { return note("start"), fake->start_result; },
    .stop = [](std::uint16_t) { return note("stop"), 0; },
    .close = [](std::uint16_t) { return note("close"), 0; },
    .set_mc_addr_list = [](std::uint16_t, rte_ether_addr* macs, std::uint32_t count) {
      fake->multicast_list.assign(macs, macs + count);
      return note("set_mc_addr_list"), count > fake->multicast_list_max ? -ENOSPC : fake->multicast_list_result;
    },
    .allmulticast_enable = [](std::uint16_t) { return note("allmulticast"), fake->all_multicast_result; },
    .promiscuous_enable = [](std::uint16_t) { return note("promiscuous"), 0; },
    .mac_addr_get = [](std::uint16_t, rte_ether_addr* mac) { return *mac = fake->mac, 0; },
    .mac_addr_set = [](std::uint16_t, rte_ether_addr*) { return note("mac_addr_set"), fake->mac_set_result; },
    .flow_create = [](std::uint16_t, const rte_flow_attr*, const rte_flow_item* pattern, const rte_flow_action* actions, rte_flow_error*) -> rte_flow* {
      std::string call = "flow";
      for (; pattern->type != RTE_FLOW_ITEM_TYPE_END; ++pattern) {
        if (pattern->type == RTE_FLOW_ITEM_TYPE_VLAN) call += " vlan " + std::to_string(rte_be_to_cpu_16(static_cast<const rte_flow_item_vlan*>(pattern->spec)->hdr.vlan_tci));
        if (pattern->type == RTE_FLOW_ITEM_TYPE_IPV4) {
          const auto* const mask = static_cast<const rte_flow_item_ipv4*>(pattern->mask);
          call += mask->hdr.dst_addr == 0 ? std::string{" any"} : " " + std::to_string(rte_be_to_cpu_32(static_cast<const rte_flow_item_ipv4*>(pattern->spec)->hdr.dst_addr));
        }
        if (pattern->type == RTE_FLOW_ITEM_TYPE_UDP) call += " port " + std::to_string(rte_be_to_cpu_16(static_cast<const rte_flow_item_udp*>(pattern->spec)->hdr.dst_port));
      }
      note(call + " to queue " + std::to_string(static_cast<const rte_flow_action_queue*>(actions->conf)->index));
      return reinterpret_cast<rte_flow*>(fake->flow);
    },
    .flow_destroy = [](std::uint16_t, rte_flow*, rte_flow_error*) { return note("flow_destroy"), 0; },
    .link_get = [](std::uint16_t, rte_eth_link* link) { return link->link_status = fake->link_status & 1U, 0; },
    .stats_get = [](std::uint16_t, rte_eth_stats* stats) { return stats->ipackets = 12, 0; },
    .rx_timestamp_register = [](int* offset, std::uint64_t* flag) { return *offset = 64, *flag = 1, note("timestamp_register"), 0; },
    .read_clock = [](std::uint16_t, std::uint64_t* ticks) { return note("read_clock"), *ticks = fake->ticks += 1000, fake->read_clock_result; },
};

class Ethdev : public testing::Test {
 protected:
  void SetUp() override {
    fake = &device_;
    device_.info.max_rx_queues = 4;
    device_.info.max_tx_queues = 8;
    device_.info.max_mtu = 9000;
    device_.info.rx_desc_lim.nb_max = 4096;
    device_.info.tx_desc_lim.nb_max = 512;
    options_.name = "p";
    spec_.name = "net_fake_0";
    spec_.arguments = "a=b";
    spec_.has_own_mac = true;
  }
  void TearDown() override { fake = nullptr; }
  Result<std::unique_ptr<Port>> create() { return EthdevPort::create(options_, spec_, nullptr, kFakeApi); }
  [[nodiscard]] bool was_called(const std::string& call) const {
    return std::find(device_.calls.begin(), device_.calls.end(), call) != device_.calls.end();
  }

  FakeDevice device_;
  PortOptions options_;
  DeviceSpec spec_;
};

TEST_F(Ethdev, a_device_is_made_configured_started_and_undone_in_order) {
  {
    const auto port = create();
    ASSERT_TRUE(port) << port.error().message;
    EXPECT_TRUE((*port)->is_link_up());
    EXPECT_EQ((*port)->statistics().rx_frames, 12U);
  }
  const std::vector<std::string> expected{"vdev_init net_fake_0 a=b", "configure 5 rx 1 tx 1", "rx_queue 0 of 1024", "tx_queue 0 of 512",
                                          "start", "set_mc_addr_list", "allmulticast", "promiscuous", "stop", "close", "vdev_uninit"};
  EXPECT_EQ(device_.calls, expected);
}

TEST_F(Ethdev, several_receive_queues_are_taken_only_where_something_spreads_frames) {
  options_.queues = 3;
  EXPECT_EQ((*create())->capabilities().rx_queue_count, 1);
  device_.info.flow_type_rss_offloads = RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_TCP;
  const auto port = create();
  EXPECT_EQ((*port)->capabilities().rx_queue_count, 3);
  EXPECT_EQ((*port)->capabilities().tx_queue_count, 3);
  EXPECT_EQ(device_.conf.rxmode.mq_mode, RTE_ETH_MQ_RX_RSS);
  EXPECT_EQ(device_.conf.rx_adv_conf.rss_conf.rss_hf, RTE_ETH_RSS_NONFRAG_IPV4_UDP);
  options_.queues = 16;
  EXPECT_EQ((*create())->capabilities().rx_queue_count, 4) << "no more than the device has";
}

TEST_F(Ethdev, the_device_notes_arrival_times_only_where_the_configuration_says_so) {
  device_.info.rx_offload_capa = RTE_ETH_RX_OFFLOAD_TIMESTAMP;
  ASSERT_TRUE(create());
  EXPECT_EQ(device_.conf.rxmode.offloads, 0U);
  EXPECT_FALSE(was_called("read_clock"));
  options_.has_receive_timestamps = true;
  const auto port = create();
  ASSERT_TRUE(port) << port.error().message;
  EXPECT_EQ(device_.conf.rxmode.offloads, RTE_ETH_RX_OFFLOAD_TIMESTAMP);
  EXPECT_TRUE(was_called("timestamp_register"));
  const std::uint64_t before = device_.ticks;
  EXPECT_TRUE((*port)->is_link_up());
  EXPECT_GT(device_.ticks, before) << "the steward's round reads the clock again";
}

TEST_F(Ethdev, a_device_that_cannot_tell_arrival_times_is_an_error_where_they_are_asked_for) {
  options_.has_receive_timestamps = true;
  auto refused = create();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(refused.error().hint.find("receive-timestamps"), std::string::npos);
  device_.info.rx_offload_capa = RTE_ETH_RX_OFFLOAD_TIMESTAMP;
  device_.read_clock_result = -ENOTSUP;
  refused = create();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(refused.error().message.find("clock"), std::string::npos) << refused.error().message;
}

TEST_F(Ethdev, an_address_is_steered_to_its_queue_until_it_is_given_back) {
  char flow{};
  device_.flow = &flow;
  device_.info.flow_type_rss_offloads = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
  options_.queues = 4;
  options_.address = 0x0A000001;
  options_.vlan = 7;
  const auto port = create();
  ASSERT_TRUE(port);
  ASSERT_TRUE((*port)->bind({.local = {0x0A000001, 40123}, .is_receive = true, .queue = 2}));
  EXPECT_TRUE(was_called("flow vlan 7 167772161 port 40123 to queue 2"));
  (*port)->unbind({0x0A000001, 40123});
  EXPECT_TRUE(was_called("flow_destroy"));
}

TEST_F(Ethdev, a_device_without_rules_or_with_one_queue_is_not_steered) {
  options_.queues = 4;
  options_.address = 0x0A000001;
  ASSERT_TRUE((*create())->bind({.local = {0x0A000001, 40123}, .is_receive = true, .queue = 0}));
  EXPECT_FALSE(was_called("flow 167772161 port 40123 to queue 0")) << "without anything that spreads frames there is one queue";
  device_.info.flow_type_rss_offloads = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
  const auto port = create();
  ASSERT_TRUE((*port)->bind({.local = {0x0A000001, 40123}, .is_receive = true, .queue = 1}));
  EXPECT_TRUE(was_called("flow 167772161 port 40123 to queue 1"));
  (*port)->unbind({0x0A000001, 40123});
  EXPECT_FALSE(was_called("flow_destroy")) << "the device refused";
}

TEST_F(Ethdev, offloads_are_used_where_announced_and_nowhere_else) {
  EXPECT_FALSE((*create())->capabilities().has_multi_segment_tx) << "af_xdp corrupts chains without a word";
  device_.info.tx_offload_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_TSO;
  const auto port = create();
  EXPECT_TRUE((*port)->capabilities().has_multi_segment_tx);
  EXPECT_TRUE((*port)->capabilities().has_ip_checksum_tx);
  EXPECT_FALSE((*port)->capabilities().has_udp_checksum_tx);
  EXPECT_EQ(device_.conf.txmode.offloads, RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
}

TEST_F(Ethdev, an_mtu_the_device_cannot_do_names_the_one_it_can) {
  options_.mtu = 9001;
  const auto port = create();
  ASSERT_FALSE(port);
  EXPECT_EQ(port.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(port.error().hint.find("9000"), std::string::npos);
  EXPECT_TRUE(was_called("vdev_uninit")) << "what was made is undone";
  EXPECT_FALSE(was_called("close")) << "what was not opened is not closed";
}

TEST_F(Ethdev, a_failure_on_the_way_up_undoes_what_was_done) {
  device_.rx_queue_result = -ENOMEM;
  const auto port = create();
  ASSERT_FALSE(port);
  EXPECT_EQ(port.error().code, ErrorCode::kNoSpace);
  EXPECT_NE(port.error().hint.find("packet-buffers"), std::string::npos);
  EXPECT_TRUE(was_called("close"));
  EXPECT_TRUE(was_called("vdev_uninit"));
  EXPECT_FALSE(was_called("stop"));
}

TEST_F(Ethdev, a_device_that_knows_better_why_a_queue_fails_says_so) {
  device_.rx_queue_result = -EINVAL;
  spec_.queue_hint = "wait a moment";
  EXPECT_EQ(create().error().hint, "wait a moment");
}

TEST_F(Ethdev, codes_of_the_driver_become_ours) {
  for (const auto& [code, expected] : {std::pair{-EPERM, ErrorCode::kPermission}, std::pair{-EBUSY, ErrorCode::kInUse},
                                       std::pair{-ENODEV, ErrorCode::kNotFound}, std::pair{-1000, ErrorCode::kIo}}) {
    device_.vdev_result = code;
    EXPECT_EQ(create().error().code, expected) << code;
  }
}

TEST_F(Ethdev, groups_are_let_in_by_the_narrowest_filter_there_is) {
  device_.multicast_list_result = 0;
  static_cast<void>(create());
  EXPECT_FALSE(was_called("allmulticast"));
  device_.multicast_list_result = -ENOTSUP;
  device_.all_multicast_result = 0;
  static_cast<void>(create());
  EXPECT_TRUE(was_called("allmulticast"));
  EXPECT_FALSE(was_called("promiscuous"));
}

TEST_F(Ethdev, groups_that_are_joined_are_on_the_list_once_for_each_mac_until_the_last_one_leaves) {
  device_.multicast_list_result = 0;
  const auto port = create();
  const auto join = [&](std::uint32_t group) { EXPECT_TRUE((*port)->join({.group = {group, 40456}})); };
  join(0xE00A0901);
  join(0xE00A0901);
  join(0xE08A0901);  // 224.138.9.1: the same MAC
  join(0xE00A0903);
  ASSERT_EQ(device_.multicast_list.size(), 3U) << "all hosts, and two MACs";
  const rte_ether_addr expected{{0x01, 0x00, 0x5E, 0x0A, 0x09, 0x01}};
  EXPECT_EQ(std::memcmp(&device_.multicast_list[1], &expected, sizeof expected), 0);
  (*port)->leave({0xE00A0901, 40456}, 0);
  (*port)->leave({0xE00A0903, 40456}, 0);
  EXPECT_EQ(device_.multicast_list.size(), 2U);
  (*port)->leave({0xE00A0901, 40456}, 0);
  (*port)->leave({0xE08A0901, 40456}, 0);
  EXPECT_EQ(device_.multicast_list.size(), 1U);
}

TEST_F(Ethdev, a_list_that_is_too_short_gives_way_to_all_groups) {
  device_.multicast_list_result = 0;
  device_.multicast_list_max = 2;
  device_.all_multicast_result = 0;
  const auto port = create();
  EXPECT_TRUE((*port)->join({.group = {0xE00A0901, 1}}));
  EXPECT_FALSE(was_called("allmulticast"));
  EXPECT_TRUE((*port)->join({.group = {0xE00A0903, 1}}));
  EXPECT_TRUE(was_called("allmulticast"));
}

TEST_F(Ethdev, a_configured_mac_is_given_to_the_device_or_looked_for_in_everything) {
  options_.mac = {{0x02, 1, 2, 3, 4, 5}};
  spec_.takes_mac = true;
  device_.mac_set_result = 0;
  EXPECT_EQ((*create())->mac().bytes[5], 5);
  EXPECT_TRUE(was_called("mac_addr_set"));
  EXPECT_TRUE(was_called("set_mc_addr_list"));
  device_.calls.clear();
  device_.mac_set_result = -ENOTSUP;
  EXPECT_EQ((*create())->mac().bytes[5], 5);
  EXPECT_TRUE(was_called("promiscuous"));
  EXPECT_FALSE(was_called("set_mc_addr_list"));
}

TEST_F(Ethdev, without_a_configured_mac_the_devices_own_is_used) { EXPECT_EQ((*create())->mac().bytes[5], 9); }

TEST_F(Ethdev, a_pci_device_is_probed_and_never_removed) {
  spec_ = {};
  spec_.name = "0000:3b:00.0";
  spec_.is_vdev = false;
  { ASSERT_TRUE(create()); }
  EXPECT_TRUE(was_called("dev_probe 0000:3b:00.0"));
  EXPECT_TRUE(was_called("close"));
  EXPECT_FALSE(was_called("vdev_uninit"));
}

TEST_F(Ethdev, a_device_that_waits_for_its_peer_is_a_link_that_is_down) {
  spec_.starts_when_peer_is_there = true;
  device_.start_result = -ECONNREFUSED;
  const auto port = create();
  ASSERT_TRUE(port);
  EXPECT_FALSE((*port)->is_link_up());
  device_.start_result = 0;
  EXPECT_FALSE((*port)->is_link_up()) << "this look starts it";
  EXPECT_TRUE((*port)->is_link_up());
  device_.link_status = RTE_ETH_LINK_DOWN;
  device_.calls.clear();
  EXPECT_FALSE((*port)->is_link_up()) << "this look restarts it";
  EXPECT_EQ(device_.calls.front(), "stop");
  EXPECT_TRUE(was_called("start"));
}

class Devices : public testing::Test {
 protected:
  Error error_of(const PortOptions& options) {
    const auto spec = device_spec(options, notes_);
    EXPECT_FALSE(spec);
    return spec ? Error{} : spec.error();
  }
  static PortOptions of_kind(shm::PortKind kind, const std::string& device = {}) {
    PortOptions options;
    options.name = "p";
    options.kind = kind;
    options.device = device;
    return options;
  }
  std::vector<std::string> notes_;
  thalweg::test::TemporaryDirectory directory_;
};

TEST_F(Devices, a_missing_interface_is_named_with_the_command_that_lists_them) {
  for (const shm::PortKind kind : {shm::PortKind::kAfPacket, shm::PortKind::kAfXdp}) {
    const Error error = error_of(of_kind(kind, "nosuchif0"));
    EXPECT_EQ(error.code, ErrorCode::kNotFound);
    EXPECT_NE(error.message.find("nosuchif0"), std::string::npos);
    EXPECT_NE(error.hint.find("ip -br link"), std::string::npos);
  }
}

TEST_F(Devices, an_interface_with_too_small_an_mtu_names_the_command_that_fixes_it) {
  PortOptions options = of_kind(shm::PortKind::kAfPacket, "lo");
  options.mtu = 65537;
  const Error error = error_of(options);
  EXPECT_EQ(error.code, ErrorCode::kInvalidConfig);
  EXPECT_EQ(error.hint, "ip link set dev lo mtu 65537");
}

TEST_F(Devices, arguments_that_a_driver_would_take_apart_are_refused) {
  EXPECT_EQ(error_of(of_kind(shm::PortKind::kTap, "t0,mac=fixed")).code, ErrorCode::kInvalidConfig);
  EXPECT_EQ(error_of(of_kind(shm::PortKind::kTap, "a-name-far-too-long")).code, ErrorCode::kInvalidConfig);
  EXPECT_EQ(error_of(of_kind(shm::PortKind::kPcap)).code, ErrorCode::kInvalidConfig);
  EXPECT_EQ(error_of(of_kind(shm::PortKind::kPcap, "/no/such/file.pcap")).code, ErrorCode::kNotFound);
}

TEST_F(Devices, af_packet_frames_hold_the_mtu_and_the_kernels_header) {
  EXPECT_EQ(af_packet_frame_size(1500), 2048U);
  EXPECT_EQ(af_packet_frame_size(1934), 2048U);
  EXPECT_EQ(af_packet_frame_size(1935), 4096U);
  EXPECT_EQ(af_packet_frame_size(9000), 16384U);
}

TEST_F(Devices, a_capability_this_thread_has_not_is_missing) {
  std::string missing = missing_capabilities({});
  EXPECT_TRUE(missing.empty());
  missing = missing_capabilities({CAP_BPF, CAP_NET_RAW});
  EXPECT_TRUE(missing.empty() || missing.find("cap_") == 0) << missing;
}

// What sysfs says about a PCI device, and the advice that follows.
TEST_F(Devices, a_pci_device_with_the_wrong_driver_names_the_command_that_binds_the_right_one) {
  const std::string address = "0000:3b:00.0";
  EXPECT_EQ(explain_pci(address, directory_.path()).code, ErrorCode::kNotFound);
  const std::string device = directory_.path() + "/bus/pci/devices/" + address;
  std::filesystem::create_directories(device);
  EXPECT_NE(explain_pci(address, directory_.path()).message.find("no driver"), std::string::npos);
  std::filesystem::create_symlink("../../../bus/pci/drivers/ixgbe", device + "/driver");
  const Error kernel = explain_pci(address, directory_.path());
  EXPECT_NE(kernel.message.find("ixgbe"), std::string::npos);
  EXPECT_EQ(kernel.hint, "dpdk-devbind.py --bind=vfio-pci " + address);
  std::filesystem::remove(device + "/driver");
  std::filesystem::create_symlink("../../../bus/pci/drivers/vfio-pci", device + "/driver");
  EXPECT_EQ(explain_pci(address, directory_.path()).code, ErrorCode::kUnsupported);
}

using PcapFile = PortTest;

TEST_F(PcapFile, frames_of_a_file_are_received_and_those_sent_are_written) {
  const thalweg::test::TemporaryDirectory directory;
  PortOptions options;
  options.name = "replay";
  options.kind = shm::PortKind::kPcap;
  options.address = 0x0A000001;
  options.device_tx = directory.file("out.pcap");
  {
    const auto port = make(options);
    for (int i = 0; i < 3; ++i)
      ASSERT_TRUE(send(*port, frame({0x0A000001, 1}, {0x0A000002, 2}, "replayed " + std::to_string(i))));
  }
  options.device = options.device_tx;
  options.device_tx = directory.file("second.pcap");
  const auto port = make(options);
  EXPECT_EQ(receive_payloads(*port, 3), (std::vector<std::string>{"replayed 0", "replayed 1", "replayed 2"}));
}

}  // namespace
}  // namespace thalweg::pmd::test
