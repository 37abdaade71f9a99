// Which port carries an address (design, section 2).
#include "dataplane/core/route.hpp"

#include <gtest/gtest.h>

namespace thalweg::core {
namespace {

using shm::PortKind;
constexpr std::uint32_t ip(std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) { return a << 24 | b << 16 | c << 8 | d; }

RouteTable make_table() {
  return RouteTable{{{.index = 0, .name = "wide", .kind = PortKind::kPci, .address = ip(10, 0, 0, 1), .prefix_length = 8, .gateway = ip(10, 9, 9, 9)},
                     {.index = 1, .name = "narrow", .kind = PortKind::kAfXdp, .address = ip(10, 1, 2, 3), .prefix_length = 24, .gateway = 0},
                     {.index = 2, .name = "lo", .kind = PortKind::kLoopback, .address = ip(127, 0, 0, 1), .prefix_length = 8, .gateway = 0},
                     {.index = 3, .name = "kernel", .kind = PortKind::kKernel, .address = 0, .prefix_length = 0, .gateway = 0}}};
}

TEST(Route, the_longest_matching_subnet_carries_a_destination) {
  const auto near = make_table().send(ip(10, 1, 2, 77));
  ASSERT_TRUE(near);
  EXPECT_EQ(near->port, 1U);
  EXPECT_EQ(near->next_hop, ip(10, 1, 2, 77));
  EXPECT_EQ(near->source, ip(10, 1, 2, 3));
  EXPECT_NE(near->why.find("10.1.2.3/24"), std::string::npos) << near->why;
  EXPECT_EQ(make_table().send(ip(10, 1, 3, 77))->port, 0U);
}

// The same rules for IPv6, whose addresses are handles.
class Ipv6Route : public ::testing::Test {
 protected:
  std::uint32_t at(const char* text) { return book->enter(*shm::parse_scoped_ipv6(text), shm::AddressBook::By::kNamed, 0); }
  RouteTable table() {
    std::vector<RoutePort> ports{{.index = 0, .name = "wide", .kind = PortKind::kPci, .address = ip(10, 0, 0, 1), .prefix_length = 8},
                                 {.index = 1, .name = "narrow", .kind = PortKind::kPci},
                                 {.index = 2, .name = "lo", .kind = PortKind::kLoopback, .address = ip(127, 0, 0, 1), .prefix_length = 8},
                                 {.index = 3, .name = "kernel", .kind = PortKind::kKernel}};
    ports[0].address6 = at("2001:db8::1"), ports[0].prefix_length6 = 32, ports[0].gateway6 = at("2001:db8::ff");
    ports[1].address6 = at("2001:db8:1::1"), ports[1].prefix_length6 = 64;
    ports[1].routes = {{at("2001:db8:9::"), 48, at("2001:db8:1::9")}};
    ports[2].address6 = wire::kLoopbackIpv6, ports[2].prefix_length6 = 128;
    return RouteTable{ports, book.get()};
  }
  std::unique_ptr<shm::AddressBook> book = std::make_unique<shm::AddressBook>();
};

TEST_F(Ipv6Route, longest_prefix_then_gateway) {
  const RouteTable routes = table();
  EXPECT_EQ(routes.send(at("2001:db8:1::7"))->port, 1U);
  EXPECT_EQ(routes.send(at("2001:db8:1::7"))->next_hop, at("2001:db8:1::7"));
  EXPECT_EQ(routes.send(at("2001:db8:1::7"))->source, at("2001:db8:1::1"));
  EXPECT_EQ(routes.send(at("2001:db8:2::7"))->port, 0U);
  EXPECT_EQ(routes.send(at("2001:db8:9::7"))->next_hop, at("2001:db8:1::9"));
  EXPECT_EQ(routes.send(at("2001:db8:9::7"))->why, "longest matching route: 2001:db8:9::/48 via 2001:db8:1::9 of port narrow");
  EXPECT_EQ(routes.send(at("fd00::1"))->next_hop, at("2001:db8::ff"));
  EXPECT_EQ(routes.send(at("::1"))->port, 2U);
  EXPECT_EQ(routes.send(ip(10, 1, 1, 1))->port, 0U) << "IPv4 goes its own way";
}

TEST_F(Ipv6Route, receivers_listen_where_their_address_is) {
  const RouteTable routes = table();
  EXPECT_EQ(*routes.receive(at("2001:db8:1::1")), std::vector<std::uint32_t>{1});
  EXPECT_EQ(*routes.receive(wire::kLoopbackIpv6), std::vector<std::uint32_t>{2});
  EXPECT_EQ(*routes.receive(at("fd00::1")), std::vector<std::uint32_t>{3}) << "the kernel's";
  EXPECT_EQ(*routes.receive(wire::kAnyIpv6), (std::vector<std::uint32_t>{0, 1, 2, 3}));
}

TEST_F(Ipv6Route, groups_take_the_network_asked_for) {
  const RouteTable routes = table();
  EXPECT_EQ(routes.group(at("2001:db8:1::"), 64, {})->port, 1U);
  EXPECT_EQ(routes.group(wire::kAnyIpv6, 0, {})->port, 1U) << "the longest netmask";
  EXPECT_EQ(routes.group(wire::kLoopbackIpv6, 128, {})->interface_address, wire::kLoopbackIpv6);
  const auto nowhere = routes.group(at("fd00::"), 8, {});
  ASSERT_FALSE(nowhere);
  EXPECT_NE(nowhere.error().message.find("interface=fd00::/8"), std::string::npos) << nowhere.error().message;
}

TEST(Route, what_no_subnet_holds_goes_to_a_gateway) {
  const auto far = make_table().send(ip(192, 168, 1, 1));
  ASSERT_TRUE(far);
  EXPECT_EQ(far->port, 0U);
  EXPECT_EQ(far->next_hop, ip(10, 9, 9, 9));
}

RouteTable make_table_with_routes() {
  return RouteTable{{{.index = 0, .name = "a", .kind = PortKind::kPci, .address = ip(10, 0, 0, 1), .prefix_length = 24, .gateway = ip(10, 0, 0, 254),
                      .routes = {{ip(172, 16, 0, 0), 12, ip(10, 0, 0, 7)}, {ip(172, 16, 9, 0), 24, ip(10, 0, 0, 8)}, {ip(10, 0, 1, 128), 25, ip(10, 0, 0, 9)}}},
                     {.index = 1, .name = "b", .kind = PortKind::kPci, .address = ip(10, 0, 1, 1), .prefix_length = 24, .gateway = 0,
                      .routes = {{ip(172, 16, 0, 0), 16, ip(10, 0, 1, 7)}}}}};
}

TEST(Route, the_longest_prefix_of_all_ports_and_routes_carries_a_destination) {
  const RouteTable table = make_table_with_routes();
  const auto wide = table.send(ip(172, 17, 0, 1));
  ASSERT_TRUE(wide);
  EXPECT_EQ(wide->port, 0U);
  EXPECT_EQ(wide->next_hop, ip(10, 0, 0, 7));
  EXPECT_EQ(wide->source, ip(10, 0, 0, 1));
  EXPECT_EQ(wide->why, "longest matching route: 172.16.0.0/12 via 10.0.0.7 of port a");
  EXPECT_EQ(table.send(ip(172, 16, 1, 1))->port, 1U) << "/16 of b before /12 of a";
  EXPECT_EQ(table.send(ip(172, 16, 1, 1))->next_hop, ip(10, 0, 1, 7));
  EXPECT_EQ(table.send(ip(172, 16, 9, 1))->port, 0U) << "/24 of a before /16 of b";
  EXPECT_EQ(table.send(ip(172, 16, 9, 1))->next_hop, ip(10, 0, 0, 8));
  EXPECT_EQ(table.send(ip(8, 8, 8, 8))->next_hop, ip(10, 0, 0, 254));
}

TEST(Route, a_route_into_a_ports_own_network_counts_when_its_prefix_is_longer) {
  const RouteTable table = make_table_with_routes();
  EXPECT_EQ(table.send(ip(10, 0, 1, 127))->port, 1U);
  EXPECT_EQ(table.send(ip(10, 0, 1, 128))->port, 0U);
  EXPECT_EQ(table.send(ip(10, 0, 1, 128))->next_hop, ip(10, 0, 0, 9));
}

TEST(Route, an_interface_asked_for_takes_the_way_of_its_own_port) {
  const RouteTable table = make_table_with_routes();
  EXPECT_EQ(table.send(ip(172, 16, 9, 1), ip(10, 0, 1, 1))->next_hop, ip(10, 0, 1, 7));
  EXPECT_EQ(table.send(ip(172, 17, 9, 1), ip(10, 0, 1, 1))->next_hop, ip(172, 17, 9, 1)) << "no way but the wire itself";
}

TEST(Route, what_no_gateway_takes_goes_to_the_kernel_or_nowhere) {
  const RouteTable no_gateway{{{.index = 0, .name = "a", .kind = PortKind::kPatch, .address = ip(10, 0, 0, 1), .prefix_length = 24, .gateway = 0},
                               {.index = 1, .name = "k", .kind = PortKind::kKernel, .address = 0, .prefix_length = 0, .gateway = 0}}};
  EXPECT_EQ(no_gateway.send(ip(8, 8, 8, 8))->port, 1U);
  const RouteTable nothing{{{.index = 0, .name = "a", .kind = PortKind::kPatch, .address = ip(10, 0, 0, 1), .prefix_length = 24, .gateway = 0}}};
  ASSERT_FALSE(nothing.send(ip(8, 8, 8, 8)));
  EXPECT_EQ(nothing.send(ip(8, 8, 8, 8)).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(nothing.choose(ip(8, 8, 8, 8)).port, nullptr);
}

TEST(Route, loopback_addresses_belong_to_the_loopback_port) {
  EXPECT_EQ(make_table().send(ip(127, 0, 0, 9))->port, 2U);
  EXPECT_EQ(*make_table().receive(ip(127, 3, 2, 1)), std::vector<std::uint32_t>{2});
}

TEST(Route, a_receive_address_is_its_owners_and_0_is_every_ports) {
  EXPECT_EQ(*make_table().receive(ip(10, 1, 2, 3)), std::vector<std::uint32_t>{1});
  EXPECT_EQ(*make_table().receive(0), (std::vector<std::uint32_t>{0, 1, 2, 3}));
  EXPECT_EQ(*make_table().receive(ip(192, 0, 2, 1)), std::vector<std::uint32_t>{3}) << "the kernel may own it";
  const RouteTable alone{{{.index = 0, .name = "a", .kind = PortKind::kPatch, .address = ip(10, 0, 0, 1), .prefix_length = 24, .gateway = 0}}};
  EXPECT_FALSE(alone.receive(ip(10, 0, 0, 2)));
  EXPECT_FALSE(RouteTable{}.receive(0));
}

// proves 5.4/1
TEST(Route, an_interface_asked_for_decides) {
  const auto by_address = make_table().send(ip(10, 1, 2, 77), ip(10, 0, 0, 1));
  ASSERT_TRUE(by_address);
  EXPECT_EQ(by_address->port, 0U);
  EXPECT_NE(by_address->why.find("wide"), std::string::npos);
}

// proves 5.13/2
TEST(Route, an_interface_that_no_port_has_is_the_kernels_or_an_error) {
  EXPECT_EQ(make_table().send(ip(10, 1, 2, 77), ip(172, 16, 0, 1))->port, 3U);  // whose bind says no, if the host has it not
  const RouteTable alone{{{.index = 0, .name = "a", .kind = PortKind::kPatch, .address = ip(10, 0, 0, 1), .prefix_length = 24, .gateway = 0}}};
  EXPECT_FALSE(alone.send(ip(10, 0, 0, 2), ip(172, 16, 0, 1)));
}

std::vector<HostInterface> make_host() {
  return {{"lo", ip(127, 0, 0, 1), 8, false, true},
          {"eth0", ip(192, 168, 1, 5), 24, true, false},
          {"eth1", ip(172, 16, 0, 5), 16, true, false},
          {"tun0", ip(172, 16, 9, 5), 32, false, false}};
}

TEST(Route, a_group_without_an_interface_takes_our_network_with_the_longest_netmask) {
  const auto group = make_table().group(0, 0, make_host());
  ASSERT_TRUE(group);
  EXPECT_EQ(group->port, 1U);
  EXPECT_EQ(group->interface_address, ip(10, 1, 2, 3));
}

// proves 5.3/6
TEST(Route, the_interface_of_a_group_may_be_an_address_or_a_network) {
  EXPECT_EQ(make_table().group(ip(10, 0, 0, 1), 32, make_host())->port, 0U);
  EXPECT_EQ(make_table().group(ip(10, 1, 2, 0), 24, make_host())->port, 1U);
  const auto kernel = make_table().group(ip(192, 168, 0, 0), 16, make_host());
  ASSERT_TRUE(kernel);
  EXPECT_EQ(kernel->port, 3U);
  EXPECT_EQ(kernel->interface_address, ip(192, 168, 1, 5));
  EXPECT_NE(kernel->why.find("eth0"), std::string::npos);
  EXPECT_EQ(make_table().group(ip(172, 16, 0, 0), 12, make_host())->interface_address, ip(172, 16, 0, 5)) << "tun0 cannot do multicast";
  EXPECT_EQ(make_table().group(ip(127, 0, 0, 1), 32, make_host())->port, 2U);
}

TEST(Route, loopback_carries_groups_when_nothing_else_does) {
  const RouteTable local{{{.index = 0, .name = "lo", .kind = PortKind::kLoopback, .address = ip(127, 0, 0, 1), .prefix_length = 8, .gateway = 0},
                          {.index = 1, .name = "kernel", .kind = PortKind::kKernel, .address = 0, .prefix_length = 0, .gateway = 0}}};
  EXPECT_EQ(local.group(0, 0, make_host())->port, 1U);
  EXPECT_EQ(local.group(0, 0, {make_host()[0]})->port, 0U);
}

TEST(Route, an_interface_that_nobody_has_is_named) {
  const auto nobody = make_table().group(ip(10, 9, 9, 9), 32, make_host());
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().code, ErrorCode::kInvalidChannel);
  EXPECT_NE(nobody.error().message.find("interface=10.9.9.9/32"), std::string::npos) << nobody.error().message;
}

TEST(Route, two_ends_of_a_cable_in_one_data_plane_reach_each_other) {
  const RouteTable cable{{{.index = 0, .name = "left", .kind = PortKind::kPatch, .address = ip(10, 0, 0, 1), .prefix_length = 24, .gateway = 0},
                          {.index = 1, .name = "right", .kind = PortKind::kPatch, .address = ip(10, 0, 0, 2), .prefix_length = 24, .gateway = 0}}};
  EXPECT_EQ(cable.send(ip(10, 0, 0, 2))->port, 0U);
  EXPECT_EQ(cable.send(ip(10, 0, 0, 1))->port, 1U);
}

}  // namespace
}  // namespace thalweg::core
