// Decoding, diagnostics and overrides of the configuration file.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "config/schema/config.hpp"
#include "config/schema/convert.hpp"

namespace thalweg::config {
namespace {

std::string errors_of(const Loaded& loaded) {
  std::string text;
  for (const Diagnostic& error : loaded.errors) text += error.to_string() + "\n";
  return text;
}

TEST(Load, an_empty_file_gives_the_built_in_defaults) {
  const Loaded loaded = load_text("", "f.yaml");
  EXPECT_EQ(errors_of(loaded), "");
  EXPECT_EQ(loaded.config.streams.mtu_bytes, 1408U);
  EXPECT_EQ(loaded.config.memory.pool.size(), 1U);
  EXPECT_TRUE(loaded.config.dataplane.lanes.empty());
  EXPECT_TRUE(loaded.origins.empty());
}

TEST(Load, the_defaults_of_streams_are_those_of_the_wire_protocol) {
  const Loaded loaded = load_text("", "f.yaml");
  const Streams& s = loaded.config.streams;
  EXPECT_EQ(s.mtu_bytes, 1408U);                                       // proves 5.13/9, 7/1
  EXPECT_EQ(s.ipc_mtu_bytes, 1408U);                                   // proves 5.8/5, 7/1
  EXPECT_EQ(s.term_length_bytes, 16U << 20);                           // proves 5.13/8, 7/2
  EXPECT_EQ(s.ipc_term_length_bytes, 64U << 20);                       // proves 5.8/5, 7/2
  EXPECT_EQ(s.publication_window_bytes, 0U) << "half a term";
  EXPECT_EQ(s.receiver_window_bytes, 128U << 10);                      // proves 7/3
  EXPECT_EQ(s.status_message_timeout_ns, 200'000'000);                 // proves 7/4
  EXPECT_EQ(s.linger_ns, 5'000'000'000);                               // proves 7/5
  EXPECT_EQ(s.connection_timeout_ns, 5'000'000'000);
  EXPECT_EQ(s.unblock_timeout_ns, 15'000'000'000);                     // proves 7/6
  EXPECT_EQ(s.image_liveness_timeout_ns, 10'000'000'000);              // proves 7/7
  EXPECT_EQ(s.untethered_window_limit_timeout_ns, 5'000'000'000);      // proves 7/8
  EXPECT_EQ(s.untethered_linger_timeout_ns, 5'000'000'000);
  EXPECT_EQ(s.untethered_resting_timeout_ns, 10'000'000'000);
  EXPECT_EQ(s.nak_delay_ns, 1'000);                                    // proves 7/9
  EXPECT_EQ(s.nak_retry_ratio, 100U);
  EXPECT_EQ(s.nak_multicast_max_backoff_ns, 10'000'000);
  EXPECT_EQ(s.nak_multicast_group_size, 10U);
  EXPECT_EQ(s.retransmit_delay_ns, 0);                                 // proves 7/10
  EXPECT_EQ(s.retransmit_linger_ns, 10'000'000);
  EXPECT_EQ(s.max_resend, 16U);
  EXPECT_EQ(s.session_limit, 0x7FFFFFFFU);
  EXPECT_TRUE(s.is_reliable && s.is_rejoin && s.is_tethered && s.is_sparse);  // proves 7/12
  EXPECT_FALSE(s.spies_simulate_connection);
  EXPECT_EQ(s.multicast_ttl, 0);                                        // proves 7/15
  EXPECT_EQ(s.socket_rcvbuf_bytes, 128U << 10);                        // proves 7/15
  EXPECT_EQ(s.socket_sndbuf_bytes, 0U);
  EXPECT_EQ(s.unicast_retransmit_window_multiple, 16U);                // proves 7/11
  EXPECT_EQ(s.multicast_retransmit_window_multiple, 4U);
  EXPECT_EQ(s.flow_control_receiver_timeout_ns, 5'000'000'000);        // proves 7/16
  EXPECT_EQ(s.flow_control_group_tag, -1);
  EXPECT_EQ(s.flow_control_group_min_size, 0U);
  EXPECT_EQ(s.multicast_flow_control, FlowControl::kMax);
  EXPECT_FALSE(s.receiver_group_tag.has_value());                      // proves 7/17
  EXPECT_EQ(s.receiver_group, GroupSemantics::kInfer);
  EXPECT_FALSE(s.cubic_measure_rtt || s.cubic_tcp_mode);               // proves 7/18
  EXPECT_EQ(s.cubic_initial_rtt_ns, 100'000);
  EXPECT_EQ(s.sender_wildcard_port_low + s.receiver_wildcard_port_low, 0) << "the system's choice";  // proves 7/20
  const Names& n = loaded.config.names;
  EXPECT_EQ(n.re_resolution_interval_ns, 1'000'000'000);               // proves 7/19
  EXPECT_EQ(n.neighbor_timeout_ns, 10'000'000'000);
  EXPECT_EQ(n.self_resolution_interval_ns, 1'000'000'000);
  EXPECT_EQ(n.neighbor_resolution_interval_ns, 2'000'000'000);
  EXPECT_EQ(n.bootstrap_resolution_interval_ns, 10'000'000'000);
  const ControlPlane& c = loaded.config.control_plane;
  EXPECT_EQ(c.reserved_session_id_low, -1);                            // proves 7/13
  EXPECT_EQ(c.reserved_session_id_high, 1000);
  EXPECT_EQ(c.client_liveness_timeout_ns, 10'000'000'000);             // proves 7/14
  EXPECT_EQ(c.driver_timeout_ns, 10'000'000'000);
  EXPECT_EQ(c.timer_interval_ns, 1'000'000'000);
  EXPECT_EQ(c.counters_free_to_reuse_timeout_ns, 1'000'000'000);
}

// proves 7/17
TEST(Load, what_receivers_of_a_group_are_is_decoded) {
  const Loaded loaded = load_text("streams: {receiver-group-tag: -7, receiver-group: never}", "f.yaml");
  ASSERT_EQ(errors_of(loaded), "");
  EXPECT_EQ(loaded.config.streams.receiver_group_tag, -7);
  EXPECT_EQ(loaded.config.streams.receiver_group, GroupSemantics::kNever);
}

// proves 7/20
TEST(Load, a_range_of_wildcard_ports_has_both_ends_in_order) {
  const Loaded loaded = load_text("streams: {sender-wildcard-port-low: 20000, sender-wildcard-port-high: 20099}", "f.yaml");
  ASSERT_EQ(errors_of(loaded), "");
  EXPECT_EQ(loaded.config.streams.sender_wildcard_port_low, 20'000);
  EXPECT_EQ(loaded.config.streams.sender_wildcard_port_high, 20'099);
  for (const char* const text : {"receiver-wildcard-port-low: 5", "receiver-wildcard-port-high: 5", "receiver-wildcard-port-low: 9, receiver-wildcard-port-high: 5"}) {
    EXPECT_NE(errors_of(load_text("streams: {" + std::string{text} + "}", "f.yaml")).find("is no range; 0 and 0 is none"), std::string::npos) << text;
  }
}

TEST(Load, every_kind_of_value_is_decoded) {
  const Loaded loaded = load_text(R"(
instance: {directory: /dev/shm/x, group: traders, delete-on-start: true}
dataplane:
  lanes: [{cpu: 2, ports: [a]}, {}]
  cpu-mode: shared
  idle: busy-spin
  idle-sleep: 50us
ports:
  - {name: a, type: memif, address: 10.9.0.1/24, gateway: 10.9.0.254, socket: link, id: 3, role: server, mtu: 1500, checksums: on,
     impair: {loss: 1%, duplicate: 0.1%, reorder: 0.001, delay: 20us, rate: 2.5Gbit, seed: 7}}
streams: {mtu: 1376, term-length: 4MiB, linger: 0, receiver-window: 64KiB, nak-delay: 1us}
control-plane: {reserved-session-id-low: -5}
memory: {pool: [{term-length: 64KiB, count: 3}]}
logging: {level: debug}
)", "f.yaml");
  ASSERT_EQ(errors_of(loaded), "");
  const Config& c = loaded.config;
  EXPECT_EQ(c.instance.directory, "/dev/shm/x");
  EXPECT_TRUE(c.instance.delete_on_start);
  ASSERT_EQ(c.dataplane.lanes.size(), 2U);
  EXPECT_EQ(c.dataplane.lanes[0].cpu, 2U);
  EXPECT_EQ(c.dataplane.lanes[0].ports, std::vector<std::string>{"a"});
  EXPECT_FALSE(c.dataplane.lanes[1].cpu.has_value());
  EXPECT_EQ(c.dataplane.idle, IdleStrategy::kBusySpin);
  EXPECT_EQ(c.dataplane.idle_sleep_ns, 50'000);
  ASSERT_EQ(c.ports.size(), 1U);
  EXPECT_EQ(c.ports[0].role, "server");
  EXPECT_EQ(c.ports[0].checksums, "on");
  EXPECT_DOUBLE_EQ(c.ports[0].impair.loss, 0.01);
  EXPECT_DOUBLE_EQ(c.ports[0].impair.duplicate, 0.001);
  EXPECT_DOUBLE_EQ(c.ports[0].impair.reorder, 0.001);
  EXPECT_EQ(c.ports[0].impair.rate_bits_per_second, 2'500'000'000U);
  EXPECT_EQ(c.streams.term_length_bytes, 4U << 20);
  EXPECT_EQ(c.streams.linger_ns, 0);
  EXPECT_EQ(c.control_plane.reserved_session_id_low, -5);
  ASSERT_EQ(c.memory.pool.size(), 1U);
  EXPECT_EQ(c.memory.pool[0].count, 3U);
  EXPECT_EQ(c.logging.level, "debug");
}

TEST(Load, routes_and_fragments_reach_their_port) {
  const Loaded loaded = load_text(R"(
streams: {mtu: 8192}
ports:
  - {name: a, type: tap, device: t0, address: 10.0.0.1/24, gateway: 10.0.0.254, ip-fragments: true,
     routes: [{to: 10.9.0.0/16, via: 10.0.0.2}, {to: 10.9.8.0/24, via: 10.0.0.3}]}
)", "f.yaml");
  ASSERT_EQ(errors_of(loaded), "");
  const pmd::PortOptions port = port_options(loaded.config)[0];
  EXPECT_TRUE(port.has_ip_fragments) << "and so streams.mtu is no mistake";
  EXPECT_EQ(port.gateway, 0x0A0000FEU);
  EXPECT_EQ(port.routes, (std::vector<shm::PortRoute>{{0x0A090000, 16, 0x0A000002}, {0x0A090800, 24, 0x0A000003}}));
  EXPECT_FALSE(Port{}.has_ip_fragments);
}

TEST(Load, the_ipv6_side_of_a_port_reaches_it) {
  const Loaded loaded = load_text(R"(
ports:
  - {name: a, type: tap, device: t0, address: 10.0.0.1/24, address6: "2001:db8::1/64", gateway6: "fe80::fe",
     routes6: [{to: "2001:db8:9::/48", via: "2001:db8::2"}]}
  - {name: b, type: tap, device: t1, address: 10.0.1.1/24}
)", "f.yaml");
  ASSERT_EQ(errors_of(loaded), "");
  const pmd::PortOptions port = port_options(loaded.config)[0];
  EXPECT_EQ(wire::format_ipv6(port.address6), "2001:db8::1");
  EXPECT_EQ(port.prefix_length6, 64U);
  EXPECT_EQ(wire::format_ipv6(port.gateway6), "fe80::fe");
  ASSERT_EQ(port.routes6.size(), 1U);
  EXPECT_EQ(wire::format_ipv6(port.routes6[0].network), "2001:db8:9::");
  EXPECT_EQ(port.routes6[0].prefix_length, 48U);
  EXPECT_EQ(wire::format_ipv6(port.routes6[0].gateway), "2001:db8::2");
  EXPECT_TRUE(port_options(loaded.config)[1].address6.is_unspecified()) << "no IPv6 unless asked for";
}

// proves 7/17
TEST(Load, what_members_of_groups_do_by_default_is_configured) {
  const Loaded loaded = load_text("streams: {multicast-ttl: 8, receiver-group-tag: -7, receiver-group: always}\n", "f.yaml");
  ASSERT_EQ(errors_of(loaded), "");
  EXPECT_EQ(loaded.config.streams.multicast_ttl, 8);
  EXPECT_EQ(loaded.config.streams.receiver_group_tag, -7);
  EXPECT_EQ(loaded.config.streams.receiver_group, GroupSemantics::kAlways);
}

struct BadFile {
  const char* name;
  std::string text;
  std::string errors;  // exact
};
std::ostream& operator<<(std::ostream& out, const BadFile& bad) { return out << bad.name; }
class BadFiles : public testing::TestWithParam<BadFile> {};

TEST_P(BadFiles, are_refused_with_exactly_these_diagnostics) { EXPECT_EQ(errors_of(load_text(GetParam().text, "f.yaml")), GetParam().errors); }

const std::string kPatchPair = R"(ports:
  - {name: a, type: patch, address: 10.0.0.1/24, peer: b}
  - {name: b, type: patch, address: 10.0.0.2/24, peer: a}
)";

INSTANTIATE_TEST_SUITE_P(
    Syntax, BadFiles,
    testing::Values(
        BadFile{"pci_device", "ports: [{name: a, type: pci, device: eth1, address: 10.0.0.1/24}]\n",
                "f.yaml:1:30: error: 'eth1' is no PCI address (0000:01:00.0); `lspci -D -d ::0200` lists those of network devices\n"},
        BadFile{"interface_with_arguments", "ports: [{name: a, type: af_packet, device: 'eth1,qpairs=8', address: 10.0.0.1/24}]\n",
                "f.yaml:1:36: error: 'eth1,qpairs=8' is no name of an interface; `ip -br link` lists those that are there\n"},
        BadFile{"unknown_section", "streems: {}\n", "f.yaml:1:1: error: unknown key 'streems'; did you mean 'streams'?\n"},
        BadFile{"unknown_key", "streams:\n  lingr: 5s\n", "f.yaml:2:3: error: unknown key 'lingr' in 'streams'; did you mean 'linger'?\n"},
        BadFile{"unknown_key_like_no_other", "streams:\n  zzzzzz: 5s\n", "f.yaml:2:3: error: unknown key 'zzzzzz' in 'streams'\n"},
        BadFile{"duplicate_key", "streams:\n  mtu: 1408\n  linger: 5s\n  mtu: 1408\n", "f.yaml:4:3: error: duplicate key 'mtu' in 'streams'\n"},
        BadFile{"duplicate_section", "streams:\n  mtu: 1408\nstreams:\n  mtu: 1408\n", "f.yaml:3:1: error: duplicate key 'streams'\n"},
        BadFile{"all_errors_at_once", "streams:\n  lingr: 5s\n  mtu: 1409\nlogging:\n  level: loud\n  level: info\n",
                "f.yaml:2:3: error: unknown key 'lingr' in 'streams'; did you mean 'linger'?\n"
                "f.yaml:3:8: error: 'mtu' needs a size from 64 to 65504, a multiple of 32; found '1409'\n"
                "f.yaml:5:10: error: 'level' needs one of error, warn, info, debug; found 'loud'\n"
                "f.yaml:6:3: error: duplicate key 'level' in 'logging'\n"},
        BadFile{"misspelt_word", "logging: {level: inof}\n",
                "f.yaml:1:18: error: 'level' needs one of error, warn, info, debug; found 'inof'; did you mean 'info'?\n"},
        BadFile{"no_value", "streams:\n  mtu:\n", "f.yaml:2:3: error: 'mtu' needs a size from 64 to 65504, a multiple of 32; found nothing\n"},
        BadFile{"relay_without_a_channel", "relays: [{name: r, from: 'aeron:ipc', to: 'aeron:udp?endpoint=10.0.0.1:1', stream: 1}]\n",
                "f.yaml:1:20: error: 'aeron:ipc' is no channel of the form aeron:udp?endpoint=...\n"},
        BadFile{"feed_with_one_side", "feeds: [{name: f, channel: 'aeron:udp?c', a: 'aeron:udp?a', b: 'aeron:udp?a'}]\n",
                "f.yaml:1:61: error: both sides are the same channel\n"},
        BadFile{"feed_twice",
                "feeds:\n  - {name: f, channel: 'aeron:udp?c', a: 'aeron:udp?a', b: 'aeron:udp?b'}\n  - {name: g, channel: 'aeron:udp?c', a: 'aeron:udp?d', b: 'aeron:udp?e'}\n",
                "f.yaml:3:15: error: this is the channel of feed 'f'\n"},
        BadFile{"relay_twice",
                "relays:\n  - {name: r, from: 'aeron:udp?a', to: 'aeron:udp?b', stream: 1}\n  - {name: s, from: 'aeron:udp?a', to: 'aeron:udp?b', stream: 1, to-stream: 1}\n",
                "f.yaml:3:5: error: this does what relay 'r' does\n"},
        BadFile{"list_for_a_map", "streams: [1]\n", "f.yaml:1:10: error: 'streams' needs a map of keys; found a list\n"},
        BadFile{"scalar_file", "hello\n", "f.yaml:1:1: error: 'the file' needs a map of keys; found a single value\n"},
        BadFile{"word_for_a_list", "dataplane: {lanes: none}\n", "f.yaml:1:20: error: 'lanes' needs a list or 'auto'; found 'none'\n"},
        BadFile{"not_yaml", "streams: {mtu: 1408\n", "f.yaml:2:1: error: not YAML: end of map flow not found\n"},
        BadFile{"alias", "logging: &l {level: info}\n", "f.yaml:1:10: error: anchors are not supported\n"},
        BadFile{"tag", "logging: !x {level: info}\n", "f.yaml:1:10: error: tags ('!x') are not supported\n"},
        BadFile{"two_documents", "logging: {}\n---\nlogging: {}\n", "f.yaml:2:1: error: a second document in the file\n"},
        BadFile{"control_characters_are_not_repeated", "logging: {level: \"a\\x1b[31m\"}\n",
                "f.yaml:1:18: error: 'level' needs one of error, warn, info, debug; found 'a?[31m'\n"},
        BadFile{"required_key", "ports:\n  - name: a\n", "f.yaml:2:5: error: 'ports[0]' needs the key 'type'\n"},
        BadFile{"bool", "streams: {reliable: yes}\n", "f.yaml:1:21: error: 'reliable' needs true or false; found 'yes'\n"},
        BadFile{"share", "ports: [{name: a, type: kernel, impair: {loss: 101%}}]\n",
                "f.yaml:1:48: error: 'loss' needs a share from 0% to 100%; found '101%'\n"},
        BadFile{"way", "ports: [{name: a, type: kernel, impair: {frames: [{way: up}]}}]\n", "f.yaml:1:57: error: 'way' needs one of receive, send; found 'up'\n"},
        BadFile{"frame_type", "ports: [{name: a, type: kernel, impair: {frames: [{types: [data, sms]}]}}]\n",
                "f.yaml:1:66: error: 'sms' is no type of frame; known are pad, data, nak, sm, err, setup, rttm, res, rsp-setup\n"},
        BadFile{"duration", "streams: {linger: 5}\n", "f.yaml:1:19: error: 'linger' needs a duration from 0 to 86400s; found '5'\n"},
        BadFile{"power_of_two", "streams: {term-length: 3MiB}\n",
                "f.yaml:1:24: error: 'term-length' needs a size from 64KiB to 1GiB, a power of two; found '3MiB'\n"},
        BadFile{"relative_directory", "instance: {directory: here}\n", "f.yaml:1:23: error: 'directory' needs an absolute path; found 'here'\n"}),
    [](const auto& test) { return std::string{test.param.name}; });

INSTANTIATE_TEST_SUITE_P(
    Rules, BadFiles,
    testing::Values(
        BadFile{"duplicate_port", "ports:\n  - {name: a, type: kernel}\n  - {name: a, type: loopback}\n", "f.yaml:3:6: error: two ports are called 'a'\n"},
        BadFile{"two_kernel_ports", "ports:\n  - {name: a, type: kernel}\n  - {name: b, type: kernel}\n",
                "f.yaml:3:15: error: there can be one kernel port only\n"},
        BadFile{"missing_peer", "ports:\n  - {name: left, type: patch, address: 10.0.0.1/24, peer: rihgt}\n  - {name: right, type: patch, address: 10.0.0.2/24, peer: left}\n",
                "f.yaml:2:53: error: no port is called 'rihgt'; did you mean 'right'?\n"
                "f.yaml:3:54: error: port 'left' must be of type patch and name 'right' as its peer\n"},
        BadFile{"own_peer", "ports: [{name: a, type: patch, address: 10.0.0.1/24, peer: a}]\n", "f.yaml:1:54: error: port 'a' cannot be its own peer\n"},
        BadFile{"memif_needs_its_keys", "ports: [{name: a, type: memif, address: 10.0.0.1/24}]\n",
                "f.yaml:1:9: error: port 'a' of type memif needs the key 'socket'\n"
                "f.yaml:1:9: error: port 'a' of type memif needs the key 'id'\n"
                "f.yaml:1:9: error: port 'a' of type memif needs the key 'role'\n"},
        BadFile{"key_of_another_type", "ports: [{name: a, type: kernel, peer: b}]\n", "f.yaml:1:33: error: 'peer' means nothing for a port of type kernel\n"},
        BadFile{"empty_peer", "ports: [{name: a, type: patch, address: 10.0.0.1/24, peer: \"\"}]\n",
                "f.yaml:1:54: error: no port is called ''\n"},
        BadFile{"same_address", "ports:\n  - {name: a, type: tap, device: t0, address: 10.0.0.1/24}\n  - {name: b, type: tap, device: t1, address: 10.0.0.1/16}\n",
                "f.yaml:3:38: error: ports 'a' and 'b' have the same address 10.0.0.1\n"},
        BadFile{"same_subnet", "ports:\n  - {name: a, type: tap, device: t0, address: 10.0.0.1/24}\n  - {name: b, type: tap, device: t1, address: 10.0.0.2/24}\n",
                "f.yaml:3:38: error: ports 'a' and 'b' overlap in the subnet 10.0.0.0/24: no rule could choose between them\n"},
        BadFile{"same_device", "ports:\n  - {name: a, type: tap, device: t0, address: 10.0.0.1/24}\n  - {name: b, type: tap, device: t0, address: 10.0.1.2/24}\n",
                "f.yaml:3:26: error: ports 'a' and 'b' use the same device 't0'\n"},
        BadFile{"both_memif_servers",
                "ports:\n  - {name: a, type: memif, address: 10.0.0.1/24, socket: s, id: 0, role: server}\n"
                "  - {name: b, type: memif, address: 10.0.1.1/24, socket: s, id: 0, role: server}\n",
                "f.yaml:3:61: error: ports 'a' and 'b' are both server of id 0 on socket 's'\n"},
        BadFile{"loopback_address_elsewhere", "ports: [{name: a, type: tap, device: t0, address: 127.0.0.1/8}]\n",
                "f.yaml:1:42: error: 127.0.0.0/8 belongs to the loopback port\n"},
        BadFile{"network_address", "ports: [{name: a, type: tap, device: t0, address: 10.0.0.0/24}]\n",
                "f.yaml:1:42: error: '10.0.0.0/24' is the address of the network, not of a host in it\n"},
        BadFile{"broadcast_address", "ports: [{name: a, type: tap, device: t0, address: 10.0.0.255/24}]\n",
                "f.yaml:1:42: error: '10.0.0.255/24' is the broadcast address of its network\n"},
        BadFile{"multicast_address", "ports: [{name: a, type: tap, device: t0, address: 239.0.0.1/24}]\n",
                "f.yaml:1:42: error: '239.0.0.1/24' is not the address of a host\n"},
        BadFile{"gateway_elsewhere", "ports: [{name: a, type: tap, device: t0, address: 10.0.0.1/24, gateway: 10.0.1.1}]\n",
                "f.yaml:1:64: error: gateway 10.0.1.1 must lie in the port's subnet 10.0.0.1/24\n"},
        BadFile{"route_elsewhere", "ports: [{name: a, type: tap, device: t0, address: 10.0.0.1/24, routes: [{to: 10.9.0.0/16, via: 10.0.1.1}]}]\n",
                "f.yaml:1:91: error: next hop 10.0.1.1 must lie in the port's subnet 10.0.0.1/24\n"},
        BadFile{"route_via_ourselves", "ports: [{name: a, type: tap, device: t0, address: 10.0.0.1/24, routes: [{to: 10.9.0.0/16, via: 10.0.0.1}]}]\n",
                "f.yaml:1:91: error: next hop 10.0.0.1 is the port's own address\n"},
        BadFile{"route_with_host_bits", "ports: [{name: a, type: tap, device: t0, address: 10.0.0.1/24, routes: [{to: 10.9.1.0/16, via: 10.0.0.2}]}]\n",
                "f.yaml:1:74: error: '10.9.1.0/16' has bits behind its prefix: the network is 10.9.0.0/16\n"},
        BadFile{"route_to_groups", "ports: [{name: a, type: tap, device: t0, address: 10.0.0.1/24, routes: [{to: 224.0.0.0/8, via: 10.0.0.2}]}]\n",
                "f.yaml:1:74: error: '224.0.0.0/8' is not a network of hosts\n"},
        BadFile{"route_twice", "ports:\n  - {name: a, type: tap, device: t0, address: 10.0.0.1/24, routes: [{to: 10.9.0.0/16, via: 10.0.0.2}]}\n"
                "  - {name: b, type: tap, device: t1, address: 10.0.1.1/24, routes: [{to: 10.9.0.0/16, via: 10.0.1.2}]}\n",
                "f.yaml:3:70: error: there is a route to 10.9.0.0/16 already, by port 'a'\n"},
        BadFile{"route_to_a_network_of_ours", "ports:\n  - {name: a, type: tap, device: t0, address: 10.0.0.1/24, routes: [{to: 10.0.1.0/24, via: 10.0.0.2}]}\n"
                "  - {name: b, type: tap, device: t1, address: 10.0.1.1/24}\n",
                "f.yaml:2:70: error: '10.0.1.0/24' is the network of port 'b'\n"},
        BadFile{"route_of_a_kernel_port", "ports: [{name: k, type: kernel, routes: [{to: 10.9.0.0/16, via: 10.0.0.2}]}]\n",
                "f.yaml:1:33: error: 'routes' means nothing for a port of type kernel\n"
                "f.yaml:1:60: error: next hop 10.0.0.2 must lie in the port's subnet\n"},
        BadFile{"multicast_mac", "ports: [{name: a, type: tap, device: t0, address: 10.0.0.1/24, mac: 01:00:5e:00:00:01}]\n",
                "f.yaml:1:64: error: '01:00:5e:00:00:01' is not the MAC address of one station\n"},
        BadFile{"mtu_too_large_for_a_port", kPatchPair + "streams: {mtu: 8192, receiver-window: 128KiB}\n",
                "f.yaml:4:11: error: streams.mtu 8192 and 28 bytes of headers do not fit the mtu 1500 of port 'a', whose ip-fragments are off\n"
                "f.yaml:4:11: error: streams.mtu 8192 and 28 bytes of headers do not fit the mtu 1500 of port 'b', whose ip-fragments are off\n"},
        BadFile{"fragments_at_af_packet", "ports: [{name: a, type: af_packet, device: e0, address: 10.0.0.1/24, ip-fragments: true}]\n",
                "f.yaml:1:70: error: the kernel puts fragments together before an af_packet port sees them, and cuts off what no frame has room for: use af_xdp or a kernel port\n"},
        BadFile{"lane_of_no_port", kPatchPair + "dataplane: {lanes: [{ports: [a, lopback]}]}\n",
                "f.yaml:4:22: error: no port is called 'lopback'; did you mean 'loopback'?\n"},
        BadFile{"cpu_twice", "dataplane: {lanes: [{cpu: 2}, {cpu: 2}]}\n", "f.yaml:1:32: error: CPU 2 is given to lane 0 already\n"},
        BadFile{"port_on_too_many_lanes", kPatchPair + "dataplane: {lanes: [{ports: [a]}, {ports: [a, b]}]}\n",
                "f.yaml:4:36: error: port 'a' has 1 queue(s), too few for every lane that names it\n"},
        BadFile{"exclusive_without_cpus", "dataplane: {cpu-mode: exclusive, lanes: [{}]}\n", "f.yaml:1:42: error: cpu-mode exclusive needs a 'cpu' for each lane\n"},
        BadFile{"window_over_half_a_term", "streams: {term-length: 64KiB, publication-window: 64KiB}\n",
                "f.yaml:1:31: error: streams.publication-window 64KiB must not exceed half of streams.term-length 64KiB\n"},
        BadFile{"window_below_mtu", "streams: {receiver-window: 512}\n", "f.yaml:1:11: error: streams.receiver-window must hold at least one datagram of streams.mtu 1408 bytes\n"},
        BadFile{"window_over_rcvbuf", "streams: {receiver-window: 256KiB}\n", "f.yaml:1:11: error: streams.receiver-window must not exceed streams.socket-rcvbuf 128KiB\n"},
        BadFile{"unblock_timeout", "streams: {unblock-timeout: 5s}\n",
                "f.yaml:1:11: error: streams.unblock-timeout 5s must be longer than control-plane.client-liveness-timeout 10s\n"},
        BadFile{"liveness_timeout", "control-plane: {client-liveness-timeout: 20s}\n",
                "f.yaml:1:17: error: streams.unblock-timeout 15s must be longer than control-plane.client-liveness-timeout 20s\n"},
        BadFile{"timer_interval", "control-plane: {timer-interval: 11s}\n",  // proves 3.14/11
                "f.yaml:1:17: error: control-plane.client-liveness-timeout 10s must be longer than control-plane.timer-interval 11s\n"
                "f.yaml:1:17: error: control-plane.driver-timeout 10s must be longer than control-plane.timer-interval 11s\n"
                "f.yaml:1:17: error: streams.untethered-window-limit-timeout 5s must be longer than control-plane.timer-interval 11s\n"
                "f.yaml:1:17: error: streams.untethered-linger-timeout 5s must be longer than control-plane.timer-interval 11s\n"
                "f.yaml:1:17: error: streams.untethered-resting-timeout 10s must be longer than control-plane.timer-interval 11s\n"},
        BadFile{"session_range", "control-plane: {reserved-session-id-low: 5, reserved-session-id-high: 4}\n",
                "f.yaml:1:17: error: control-plane.reserved-session-id-low must not exceed reserved-session-id-high\n"},
        BadFile{"session_range_of_all", "control-plane: {reserved-session-id-low: -2147483648, reserved-session-id-high: 2147483000}\n",
                "f.yaml:1:17: error: control-plane.reserved-session-id-low to reserved-session-id-high must leave at least 65536 ids\n"},
        BadFile{"pool_twice", "memory: {pool: [{term-length: 1MiB, count: 1}, {term-length: 1024KiB, count: 2}]}\n",
                "f.yaml:1:48: error: the term length 1MiB is listed twice\n"},
        BadFile{"rules_run_beside_mistakes_in_the_same_section",
                "ports:\n  - {name: a, type: patch, address: 10.0.0.1/24, peer: zz, mtu: 7}\n"
                "  - {name: b, type: kernel}\n  - {name: b, type: loopback}\n",
                "f.yaml:2:50: error: no port is called 'zz'\n"
                "f.yaml:2:65: error: 'mtu' needs a size from 576 to 9600; found '7'\n"
                "f.yaml:4:6: error: two ports are called 'b'\n"},
        BadFile{"a_rule_is_left_out_when_a_key_that_it_reads_did_not_decode",
                "ports:\n  - {name: \"\", type: patch, address: 10.0.0.1/24, peer: b}\n  - {name: b, typ: patch, address: 10.0.0.2/24, peer: a}\n"
                "dataplane: {lanes: [{ports: [a]}]}\nstreams: {term-length: 3MiB, publication-window: 12MiB}\n",
                "f.yaml:2:12: error: 'name' needs a name of at most 31 letters, digits, '-', '_' and '.'; found ''\n"
                "f.yaml:3:5: error: 'ports[1]' needs the key 'type'\n"
                "f.yaml:3:15: error: unknown key 'typ' in 'ports[1]'; did you mean 'type'?\n"
                "f.yaml:5:24: error: 'term-length' needs a size from 64KiB to 1GiB, a power of two; found '3MiB'\n"},
        BadFile{"a_misspelt_key_is_not_missed_as_well", "ports: [{name: a, type: patch, adress: 10.0.0.1/24, gatway: 10.0.0.2, peer: a}]\n",
                "f.yaml:1:32: error: unknown key 'adress' in 'ports[0]'; did you mean 'address'?\n"
                "f.yaml:1:53: error: unknown key 'gatway' in 'ports[0]'; did you mean 'gateway'?\n"
                "f.yaml:1:71: error: port 'a' cannot be its own peer\n"},
        BadFile{"rules_run_beside_mistakes_elsewhere", "logging: {level: loud}\nstreams: {unblock-timeout: 5s}\n",  // proves 7/6
                "f.yaml:1:18: error: 'level' needs one of error, warn, info, debug; found 'loud'\n"
                "f.yaml:2:11: error: streams.unblock-timeout 5s must be longer than control-plane.client-liveness-timeout 10s\n"}),
    [](const auto& test) { return std::string{test.param.name}; });

// The next key begins in column 60.
#define TAP "ports:\n  - {name: a, type: tap, device: t0, " "address: 10.0.0.1/24, "
INSTANTIATE_TEST_SUITE_P(
    Ipv6, BadFiles,
    testing::Values(
        BadFile{"ipv4", TAP "address6: 10.0.0.1/24}\n",
                "f.yaml:2:70: error: 'address6' needs an IPv6 address with prefix length (2001:db8::1/64); found '10.0.0.1/24'\n"},
        BadFile{"no_prefix", TAP "address6: \"2001:db8::1\"}\n",
                "f.yaml:2:70: error: 'address6' needs an IPv6 address with prefix length (2001:db8::1/64); found '2001:db8::1'\n"},
        BadFile{"prefix_too_long", TAP "address6: \"2001:db8::1/129\"}\n",
                "f.yaml:2:70: error: 'address6' needs an IPv6 address with prefix length (2001:db8::1/64); found '2001:db8::1/129'\n"},
        BadFile{"gateway_with_prefix", TAP "address6: \"2001:db8::1/64\", gateway6: \"fe80::1/64\"}\n",
                "f.yaml:2:98: error: 'gateway6' needs an IPv6 address (2001:db8::1); found 'fe80::1/64'\n"},
        BadFile{"loopback_elsewhere", TAP "address6: \"::1/128\"}\n", "f.yaml:2:60: error: '::1/128' is not the address of a host that others reach\n"},
        BadFile{"group", TAP "address6: \"ff05::1/64\"}\n", "f.yaml:2:60: error: 'ff05::1/64' is not the address of a host that others reach\n"},
        BadFile{"link_local", TAP "address6: \"fe80::1/64\"}\n", "f.yaml:2:60: error: 'fe80::1/64' is not the address of a host that others reach\n"},
        BadFile{"mapped", TAP "address6: \"::ffff:10.0.0.1/96\"}\n", "f.yaml:2:60: error: '::ffff:10.0.0.1/96' is not the address of a host that others reach\n"},
        BadFile{"all_routers", TAP "address6: \"2001:db8::/64\"}\n",
                "f.yaml:2:60: error: '2001:db8::/64' is the address of all routers of the network, not of a host in it\n"},
        BadFile{"mtu_too_small", TAP "address6: \"2001:db8::1/64\", mtu: 1279}\nstreams: {mtu: 1024}\n",
                "f.yaml:2:60: error: IPv6 needs a mtu of at least 1280, port 'a' has 1279\n"},
        BadFile{"streams_mtu", TAP "address6: \"2001:db8::1/64\"}\nstreams: {mtu: 1472}\n",
                "f.yaml:2:60: error: streams.mtu 1472 and 48 bytes of headers do not fit the mtu 1500 of port 'a', and IPv6 is not sent in fragments\n"},
        BadFile{"same_address", TAP "address6: \"2001:db8::1/64\"}\n  - {name: b, type: tap, device: t1, address: 10.0.1.1/24, address6: \"2001:db8:0::1/48\"}\n",
                "f.yaml:3:60: error: ports 'a' and 'b' have the same address 2001:db8::1\n"},
        BadFile{"same_network", TAP "address6: \"2001:db8::1/64\"}\n  - {name: b, type: tap, device: t1, address: 10.0.1.1/24, address6: \"2001:db8::2/64\"}\n",
                "f.yaml:3:60: error: ports 'a' and 'b' overlap in the network 2001:db8::/64: no rule could choose between them\n"},
        BadFile{"gateway_elsewhere", TAP "address6: \"2001:db8::1/64\", gateway6: \"2001:db9::1\"}\n",
                "f.yaml:2:88: error: gateway6 2001:db9::1 must be link-local or lie in the network of address6 2001:db8::1/64\n"},
        BadFile{"gateway_is_us", TAP "address6: \"2001:db8::1/64\", gateway6: \"2001:db8::1\"}\n", "f.yaml:2:88: error: gateway6 2001:db8::1 is the port's own address\n"},
        BadFile{"gateway_without_address", TAP "gateway6: \"2001:db8::1\"}\n", "f.yaml:2:60: error: gateway6 2001:db8::1 needs an address6 of the port\n"},
        BadFile{"route_with_host_bits", TAP "address6: \"2001:db8::1/64\",\n     routes6: [{to: \"2001:db8:9::1/48\", via: \"2001:db8::2\"}]}\n",
                "f.yaml:3:17: error: '2001:db8:9::1/48' has bits behind its prefix: the network is 2001:db8:9::/48\n"},
        BadFile{"route_to_groups", TAP "address6: \"2001:db8::1/64\",\n     routes6: [{to: \"ff00::/8\", via: \"2001:db8::2\"}]}\n",
                "f.yaml:3:17: error: 'ff00::/8' is not a network of hosts behind a router\n"},
        BadFile{"route_to_our_network", TAP "address6: \"2001:db8::1/64\",\n     routes6: [{to: \"2001:db8::/64\", via: \"2001:db8::2\"}]}\n",
                "f.yaml:3:17: error: '2001:db8::/64' is the network of port 'a'\n"},
        BadFile{"route_twice", TAP "address6: \"2001:db8::1/64\",\n     routes6: [{to: \"2001:db9::/64\", via: \"2001:db8::2\"}, {to: \"2001:db9:0::/64\", via: \"fe80::2\"}]}\n",
                "f.yaml:3:60: error: there is a route to 2001:db9:0::/64 already, by port 'a'\n"},
        BadFile{"next_hop_elsewhere", TAP "address6: \"2001:db8::1/64\",\n     routes6: [{to: \"2001:db9::/64\", via: \"2001:db9::2\"}]}\n",
                "f.yaml:3:38: error: next hop 2001:db9::2 must be link-local or lie in the network of address6 2001:db8::1/64\n"},
        BadFile{"of_a_kernel_port", "ports: [{name: k, type: kernel, address6: \"2001:db8::1/64\"}]\n", "f.yaml:1:33: error: 'address6' means nothing for a port of type kernel\n"}),
    [](const auto& test) { return std::string{test.param.name}; });
#undef TAP

TEST(Overrides, flags_win_over_the_environment_and_that_over_the_file) {
  const auto overrides = make_overrides({"THALWEG_STREAMS_MTU=1376", "THALWEG_CONTROL_PLANE_POLL_INTERVAL=50us", "THALWEG_LOGGING_LEVEL=warn", "HOME=/x"},
                                        {"logging.level=debug"});
  const Loaded loaded = load_text("streams:\n  mtu: 1408\n  linger: 2s\nlogging: {level: error}\n", "f.yaml", overrides);
  ASSERT_EQ(errors_of(loaded), "");
  EXPECT_EQ(loaded.config.streams.mtu_bytes, 1376U);
  EXPECT_EQ(loaded.config.control_plane.poll_interval_ns, 50'000);
  EXPECT_EQ(loaded.config.logging.level, "debug");
  EXPECT_EQ(loaded.origins.at("streams.mtu"), "environment THALWEG_STREAMS_MTU");
  EXPECT_EQ(loaded.origins.at("streams.linger"), "f.yaml:3");
  EXPECT_EQ(loaded.origins.at("logging.level"), "--set logging.level");
  EXPECT_EQ(loaded.origins.count("streams.reliable"), 0U);
}

TEST(Overrides, a_list_item_is_reached_by_its_name_or_number_and_a_list_is_replaced_by_flow_text) {
  const auto overrides = make_overrides({}, {"ports.b.impair.loss=5%", "ports.0.mtu=9000", "dataplane.lanes=[{ports: [a]}, {}]", "instance.group="});
  const Loaded loaded = load_text(kPatchPair + "instance: {group: g}\n", "f.yaml", overrides);
  ASSERT_EQ(errors_of(loaded), "");
  EXPECT_DOUBLE_EQ(loaded.config.ports[1].impair.loss, 0.05);
  EXPECT_EQ(loaded.config.ports[0].mtu_bytes, 9000U);
  EXPECT_EQ(loaded.config.dataplane.lanes.size(), 2U);
  EXPECT_EQ(loaded.config.instance.group, "");
}

TEST(Overrides, mistakes_name_the_flag_or_the_variable) {
  const auto overrides = make_overrides({"THALWEG_STREAMS_MUT=1376", "THALWEG_LOGGING_LEVEL=[", "THALWEG_SOMETHING_ELSE=1"},
                                        {"streams.mtu=1409", "nonsense", "ports.c.mtu=1500", "streams..mtu=1"});
  EXPECT_EQ(errors_of(load_text("", "f.yaml", overrides)),
            "environment THALWEG_LOGGING_LEVEL: error: not YAML: end of sequence flow not found\n"
            "--set nonsense: error: needs section.key=value\n"
            "--set streams..mtu: error: 'streams..mtu' is not a path such as streams.mtu\n"
            "--set ports.c.mtu: error: 'ports' needs a list; found a map\n"
            "--set streams.mtu: error: 'mtu' needs a size from 64 to 65504, a multiple of 32; found '1409'\n"
            "environment THALWEG_STREAMS_MUT: error: unknown key 'mut' in 'streams'; did you mean 'mtu'?\n");
}

TEST(Load, hostile_texts_cost_little_and_never_throw) {
  EXPECT_EQ(errors_of(load_text(std::string(2U << 20, ' '), "f.yaml")), "f.yaml:1:1: error: larger than 1MiB: not a configuration\n");
  EXPECT_EQ(errors_of(load_text(std::string(100'000, '['), "f.yaml")), "f.yaml:1:9: error: nested more than 16 deep\n");
  std::string bomb = "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a]\n";
  EXPECT_EQ(errors_of(load_text(bomb, "f.yaml")), "f.yaml:1:4: error: anchors are not supported\n");
  std::string many = "ports: [";
  for (int i = 0; i < 60'000; ++i) many += "x,";
  EXPECT_EQ(load_text(many + "]", "f.yaml").errors.size(), 1U);
  const std::string huge = "logging: {level: " + std::string(500'000, 'x') + "}";
  EXPECT_EQ(errors_of(load_text(huge, "f.yaml")),
            "f.yaml:1:18: error: 'level' needs one of error, warn, info, debug; found '" + std::string(40, 'x') + "...'\n");
  EXPECT_FALSE(load_text(std::string("\0\xFF\xFE%YAML 9.9\n--- {", 17), "f.yaml").errors.empty());
  EXPECT_FALSE(load_text("? {a: b}\n: c\n", "f.yaml").errors.empty());
}

TEST(Load, a_file_that_is_missing_or_wrong_is_an_error_with_its_name) {
  const auto missing = load_file("/nonexistent/thalweg.yaml");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(load_file("").has_value()) << "no file: the built-in defaults";
  const auto wrong = load_file("", {"streams.mtu=1", "logging.level=x"});
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().code, ErrorCode::kInvalidConfig);
  EXPECT_EQ(std::count(wrong.error().message.begin(), wrong.error().message.end(), '\n'), 1);
}

TEST(Convert, ports_get_a_loopback_and_a_kernel_port_unless_listed) {
  const auto loaded = load_text(kPatchPair + "  - {name: lo, type: loopback}\n", "f.yaml", make_overrides({}, {"ports.a.mac=02:00:00:00:00:0a", "ports.a.impair.loss=1%"}));
  ASSERT_EQ(errors_of(loaded), "");
  const auto ports = port_options(loaded.config);
  ASSERT_EQ(ports.size(), 4U);
  EXPECT_EQ(ports[0].kind, shm::PortKind::kPatch);
  EXPECT_EQ(ports[0].address, 0x0A000001U);
  EXPECT_EQ(ports[0].prefix_length, 24U);
  EXPECT_EQ(ports[0].peer, "b");
  EXPECT_EQ(ports[0].mac.bytes[5], 0x0A);
  EXPECT_EQ(ports[0].impairment.loss_ppm, 10'000U);
  EXPECT_EQ(ports[2].kind, shm::PortKind::kLoopback);
  EXPECT_EQ(ports[3].kind, shm::PortKind::kKernel);
  EXPECT_EQ(ports[3].name, "kernel");
}

TEST(Convert, frame_losses_become_masks_of_types) {
  const auto loaded = load_text("", "f.yaml", make_overrides({}, {"ports=[{name: k, type: kernel}]", "ports.k.impair.frames=[{types: [data, rsp-setup], loss: 5%, seed: 9}, {way: send, loss: 0.1}]"}));
  ASSERT_EQ(errors_of(loaded), "");
  const auto losses = port_options(loaded.config)[0].impairment.frame_losses;
  ASSERT_EQ(losses.size(), 2U);
  EXPECT_FALSE(losses[0].is_sent);
  EXPECT_EQ(losses[0].types, 1U << 1 | 1U << 0x0B);
  EXPECT_EQ(losses[0].loss_ppm, 50'000U);
  EXPECT_EQ(losses[0].seed, 9U);
  EXPECT_TRUE(losses[1].is_sent);
  EXPECT_EQ(losses[1].types, ~0U) << "none named: all";
  EXPECT_TRUE(port_options(loaded.config)[0].impairment.is_active());
}

TEST(Names, all_keys_are_decoded) {
  const Loaded loaded = load_text(R"(
names:
  name: gateway-1
  interface: 10.0.0.1:8050
  bootstrap-neighbors: [10.0.0.2:8050, "pricer.example:9050"]
  neighbor-timeout: 5s
  self-resolution-interval: 500ms
  neighbor-resolution-interval: 1s
  bootstrap-resolution-interval: 20s
  re-resolution-interval: 0
)", "f.yaml");
  ASSERT_EQ(errors_of(loaded), "");
  const Names& names = loaded.config.names;
  EXPECT_EQ(names.name, "gateway-1");
  EXPECT_EQ(names.interface, "10.0.0.1:8050");
  EXPECT_EQ(names.bootstrap_neighbors, (std::vector<std::string>{"10.0.0.2:8050", "pricer.example:9050"}));
  EXPECT_EQ(names.neighbor_timeout_ns, 5'000'000'000);
  EXPECT_EQ(names.self_resolution_interval_ns, 500'000'000);
  EXPECT_EQ(names.neighbor_resolution_interval_ns, 1'000'000'000);
  EXPECT_EQ(names.bootstrap_resolution_interval_ns, 20'000'000'000);
  EXPECT_EQ(names.re_resolution_interval_ns, 0);
}

// proves 6.2/11
TEST(Names, each_mistake_is_named_at_its_place) {
  const auto errors = [](const std::string& keys) { return errors_of(load_text("names: {" + keys + "}\n", "f.yaml")); };
  EXPECT_NE(errors("interface: '10.0.0.1:8050'").find("names.interface needs names.name"), std::string::npos);
  EXPECT_NE(errors("bootstrap-neighbors: ['a:1']").find("names.bootstrap-neighbors needs names.name"), std::string::npos);
  EXPECT_NE(errors("name: 'a|b'").find("letters, digits"), std::string::npos);
  EXPECT_NE(errors("name: 10.0.0.1").find("stands for an address already"), std::string::npos);
  EXPECT_NE(errors("name: localhost").find("stands for an address already"), std::string::npos);
  EXPECT_NE(errors("name: a, interface: '10.0.0.1'").find("an IPv4 address and a port"), std::string::npos);
  EXPECT_NE(errors("name: a, interface: 'eth0:8050'").find("an IPv4 address and a port"), std::string::npos);
  EXPECT_NE(errors("name: a, interface: '10.0.0.1:80500'").find("an IPv4 address and a port"), std::string::npos);
  EXPECT_NE(errors("name: a, bootstrap-neighbors: ['b']").find("host:port; found 'b'"), std::string::npos);
  EXPECT_NE(errors("name: a, bootstrap-neighbors: ['b:0']").find("host:port; found 'b:0'"), std::string::npos);
  EXPECT_NE(errors("name: a, neighbor-timeout: 1s").find("must be longer than names.self-resolution-interval"), std::string::npos);
  EXPECT_NE(errors("name: a, nieghbor-timeout: 1s").find("did you mean 'neighbor-timeout'?"), std::string::npos);
  std::string many = "name: a, bootstrap-neighbors: ['b:1'";
  for (int i = 0; i < 20; ++i) many += ", 'b:1'";
  EXPECT_NE(errors(many + "]").find("at most 20"), std::string::npos);
  EXPECT_NE(errors_of(load_text("names: {name: " + std::string(100, 'a') + "}\nstreams: {mtu: 64}\n", "f.yaml")).find("does not fit"), std::string::npos);
}

}  // namespace
}  // namespace thalweg::config
