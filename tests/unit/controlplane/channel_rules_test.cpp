// What a channel asks for and what becomes of it: wire-protocol 2.2, 3.4, 5.1 to 5.4, 5.10, 5.13. fc and group have a file of their own.
#include <limits>

#include "controlplane/conductor/channel.hpp"
#include "controlplane/conductor/uri_params.hpp"
#include "dataplane/shm/log_buffer.hpp"
#include "tests/unit/controlplane/fixture.hpp"

namespace thalweg::conductor::testing {
namespace {

using shm::ClientError;
using shm::Response;

const std::string kUdp = "aeron:udp?endpoint=127.0.0.1:24325";

shm::ChannelUri uri_of(const std::string& params) { return *shm::ChannelUri::parse(kUdp + params); }
PublicationParams publication(const std::string& params) {
  const auto parsed = parse_publication_params(uri_of(params), {}, false);
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().text);
  return parsed.value_or(PublicationParams{});
}
SubscriptionParams subscription(const std::string& params) {
  const auto parsed = parse_subscription_params(uri_of(params), {});
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().text);
  return parsed.value_or(SubscriptionParams{});
}

// ---- parameters ----

TEST(PublicationChannel, gives_what_it_was_asked_for) {
  const PublicationParams p = publication("|session-id=-7|term-length=128k|mtu=4096|init-term-id=2147483647|term-id=-2147483648|term-offset=64"
                                          "|linger=3s|sparse=false|eos=false|ssc=true|pub-wnd=8k|max-resend=256|stream-id=99|so-sndbuf=64k|tags=1,2"
                                          "|untethered-window-limit-timeout=7s|untethered-linger-timeout=8s|untethered-resting-timeout=9s");
  EXPECT_EQ(p.session_id, -7);                                    // proves 5.13/6
  EXPECT_EQ(p.term_length, 128 << 10);                            // proves 5.13/8
  EXPECT_EQ(p.mtu, 4096);                                         // proves 5.13/9
  EXPECT_EQ(p.start, (StartPosition{INT32_MAX, INT32_MIN, 64}));  // proves 5.13/10
  EXPECT_EQ(p.linger_ns, 3'000'000'000);                          // proves 5.13/11
  EXPECT_FALSE(p.is_sparse);                                      // proves 5.13/12
  EXPECT_FALSE(p.signal_eos);                                     // proves 5.13/13
  EXPECT_TRUE(p.spies_simulate_connection);                       // proves 5.13/14
  EXPECT_EQ(p.window, 8192);                                      // proves 5.13/15
  EXPECT_EQ(p.max_resend, 256);                                   // proves 5.13/16
  EXPECT_EQ(p.socket_sndbuf, 64 << 10);
  EXPECT_EQ(p.entity_tag, 2);
  EXPECT_EQ(p.untethered.window_limit_ns, 7'000'000'000);         // proves 5.13/27
  EXPECT_EQ(p.untethered.linger_ns, 8'000'000'000);
  EXPECT_EQ(p.untethered.resting_ns, 9'000'000'000);
  EXPECT_EQ(publication("|session-id=tag:5").session_tag, 5);     // proves 5.13/6
  EXPECT_EQ(publication("|untethered-window-limit-timeout=7s").untethered.linger_ns, 7'000'000'000) << "as the window limit";
}

TEST(SubscriptionChannel, gives_what_it_was_asked_for) {
  const SubscriptionParams s = subscription("|session-id=0x10|reliable=false|rejoin=false|tether=false|rcv-wnd=64k|so-rcvbuf=256k|nak-delay=50us"
                                            "|group=true|cc=static|init-term-id=x|mtu=1|untethered-resting-timeout=2s");
  EXPECT_EQ(s.session_id, 16);                    // proves 5.13/6
  EXPECT_FALSE(s.is_reliable);                    // proves 5.13/21
  EXPECT_FALSE(s.is_rejoin);
  EXPECT_FALSE(s.is_tethered);                    // proves 5.13/22
  EXPECT_EQ(s.receiver_window, 64 << 10);         // proves 5.13/20
  EXPECT_EQ(s.socket_rcvbuf, 256 << 10);
  EXPECT_EQ(s.nak_delay_ns, 50'000);              // proves 3.8/7, 5.13/26
  EXPECT_EQ(s.nak_retry_ns, 5'000'000);           // proves 3.8/7
  EXPECT_EQ(s.group, true);                       // proves 5.13/23
  EXPECT_EQ(s.untethered.resting_ns, 2'000'000'000);
  EXPECT_EQ(subscription("|group=infer").group, std::nullopt);
  EXPECT_EQ(subscription("").nak_delay_ns, 1'000);  // proves 3.8/8
  EXPECT_EQ(subscription("").nak_retry_ns, 100'000);
}

struct Mistake {
  const char* params;
  const char* parameter;  // named in the text
  ClientError code{ClientError::kInvalidChannel};
};
void PrintTo(const Mistake& m, std::ostream* out) { *out << m.params; }

class PublicationMistake : public ::testing::TestWithParam<Mistake> {};
// proves 5.13/31
TEST_P(PublicationMistake, is_refused_by_the_name_of_its_parameter) {
  const auto parsed = parse_publication_params(uri_of(GetParam().params), {}, false);
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code, GetParam().code);
  EXPECT_NE(parsed.error().text.find(GetParam().parameter), std::string::npos) << parsed.error().text;
}
INSTANTIATE_TEST_SUITE_P(
    Parameters, PublicationMistake,
    ::testing::Values(Mistake{"|session-id=x", "session-id"},                                  // proves 5.13/6
                      Mistake{"|session-id=tag:x", "session-id"},                              // proves 5.13/6
                      Mistake{"|term-length=32k", "term-length"},                              // proves 1.12/3, 5.13/8
                      Mistake{"|term-length=96k", "term-length"},                              // proves 1.12/3, 5.13/8
                      Mistake{"|term-length=2g", "term-length"},                               // proves 1.12/3, 5.13/8
                      Mistake{"|mtu=32", "mtu"},                                               // proves 1.12/1, 5.13/9
                      Mistake{"|mtu=1400", "mtu"},                                             // proves 1.12/1, 5.13/9
                      Mistake{"|mtu=65536", "mtu"},                                            // proves 1.12/1, 5.13/9
                      Mistake{"|mtu=8k|so-sndbuf=4k", "so-sndbuf"},                            // proves 5.13/9
                      Mistake{"|init-term-id=1", "init-term-id"},                              // proves 5.13/10
                      Mistake{"|term-id=1|term-offset=0", "init-term-id"},                     // proves 5.13/10
                      Mistake{"|init-term-id=2|term-id=1|term-offset=0", "term-id"},           // proves 5.13/10
                      Mistake{"|init-term-id=1|term-id=1|term-offset=33", "term-offset"},      // proves 5.13/10
                      Mistake{"|init-term-id=1|term-id=1|term-offset=16777248", "term-offset"},  // proves 5.13/10
                      Mistake{"|linger=x", "linger"},                                          // proves 5.13/11
                      Mistake{"|sparse=maybe", "sparse"},                                      // proves 5.13/12
                      Mistake{"|untethered-window-limit-timeout=1s", "untethered-window-limit-timeout"},  // proves 3.14/11
                      Mistake{"|untethered-linger-timeout=20ms", "untethered-linger-timeout"},            // proves 3.14/11
                      Mistake{"|pub-wnd=1376", "pub-wnd"},                                     // proves 5.13/15
                      Mistake{"|pub-wnd=16m", "pub-wnd"},                                      // proves 5.13/15
                      Mistake{"|max-resend=0", "max-resend"},                                  // proves 5.13/16
                      Mistake{"|max-resend=257", "max-resend"},                                // proves 5.13/16
                      Mistake{"|ats=true", "ats", ClientError::kNotSupported}));               // proves 5.13/28

class SubscriptionMistake : public ::testing::TestWithParam<Mistake> {};
// proves 5.13/31
TEST_P(SubscriptionMistake, is_refused_by_the_name_of_its_parameter) {
  const auto parsed = parse_subscription_params(uri_of(GetParam().params), {});
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code, GetParam().code);
  EXPECT_NE(parsed.error().text.find(GetParam().parameter), std::string::npos) << parsed.error().text;
}
INSTANTIATE_TEST_SUITE_P(
    Parameters, SubscriptionMistake,
    ::testing::Values(Mistake{"|session-id=4294967296", "session-id"},                        // proves 5.13/6
                      Mistake{"|reliable=yes", "reliable"},                                   // proves 5.13/21
                      Mistake{"|rcv-wnd=256k", "rcv-wnd"},                                    // proves 3.4/3, 5.13/19
                      Mistake{"|rcv-wnd=64k|so-rcvbuf=32k", "so-rcvbuf"},                     // proves 3.4/3, 5.13/19
                      Mistake{"|nak-delay=soon", "nak-delay"},                                // proves 5.13/26
                      Mistake{"|untethered-resting-timeout=1s", "untethered-resting-timeout"},  // proves 3.14/11
                      Mistake{"|cc=vegas", "cc"},                                             // proves 4.7/9, 5.13/25
                      Mistake{"|ats=true", "ats", ClientError::kNotSupported}));              // proves 5.13/28

// proves 4.6/2, 5.13/25
TEST(SubscriptionChannel, has_static_congestion_control_with_and_without_a_word) {
  EXPECT_TRUE(parse_subscription_params(uri_of("|cc=static"), {}));
  EXPECT_TRUE(parse_subscription_params(uri_of(""), {}));
}

// proves 5.13/30
TEST(SubscriptionChannel, ignores_what_only_publications_have) {
  EXPECT_TRUE(parse_subscription_params(uri_of("|init-term-id=1|term-id=x|mtu=7|term-length=3|linger=x|max-resend=0"), {}));
}

// ---- addresses ----

Outcome<UdpChannel> channel(const std::string& text) {
  auto parsed = parse_udp_channel(*shm::ChannelUri::parse(text));
  if (parsed) {
    if (auto finished = finish_channel(*parsed); !finished) return tl::unexpected{finished.error()};
  }
  return parsed;
}

TEST(Addresses, are_taken_from_endpoint_control_and_interface) {
  const auto c = channel("aeron:udp?endpoint=10.0.0.1:5|control=10.0.0.2:6|interface=10.0.0.3:7/24|ttl=300|tags=8,9|gtag=-4|control-mode=whatever");
  ASSERT_TRUE(c);
  EXPECT_EQ(c->endpoint->address, 0x0A000001U);
  EXPECT_EQ(c->endpoint->port, 5);
  EXPECT_EQ(c->control->address, 0x0A000002U);
  EXPECT_EQ(c->interface_address, 0x0A000003U);        // proves 5.1/10
  EXPECT_EQ(c->interface_port, 7);
  EXPECT_EQ(c->prefix_length, 24);
  EXPECT_EQ(c->ttl, 255) << "clamped";                 // proves 5.13/29
  EXPECT_EQ(c->tag, 8);
  EXPECT_EQ(c->group_tag, -4);                         // proves 4.5/5, 5.13/24
  EXPECT_EQ(c->control_mode, ControlMode::kNone) << "an unknown one counts as none";
  EXPECT_FALSE(channel(kUdp)->group_tag);
  EXPECT_EQ(channel(kUdp)->ttl, 0);
}

struct BadAddress { const char* text; const char* named; };
void PrintTo(const BadAddress& b, std::ostream* out) { *out << b.text; }
class BadAddresses : public ::testing::TestWithParam<BadAddress> {};
// proves 5.13/31
TEST_P(BadAddresses, are_invalid_channels) {
  const auto c = channel(GetParam().text);
  ASSERT_FALSE(c);
  EXPECT_EQ(c.error().code, ClientError::kInvalidChannel);
  EXPECT_NE(c.error().text.find(GetParam().named), std::string::npos) << c.error().text;
}
INSTANTIATE_TEST_SUITE_P(
    Parameters, BadAddresses,
    ::testing::Values(BadAddress{"aeron:udp?mtu=1408", "endpoint"},                                  // proves 5.13/4
                      BadAddress{"aeron:udp?control-mode=other", "endpoint"},                        // proves 5.13/4
                      BadAddress{"aeron:udp?endpoint=10.0.0.1:5|control-mode=dynamic", "control"},   // proves 5.13/4
                      BadAddress{"aeron:udp?endpoint=10.0.0.1", "endpoint"},                         // proves 5.13/1
                      BadAddress{"aeron:udp?endpoint=10.0.0.1:5|tags=x", "tags"},                    // proves 5.13/5
                      BadAddress{"aeron:udp?endpoint=10.0.0.1:5|tags=1,y", "tags"},                  // proves 5.13/5
                      BadAddress{"aeron:udp?endpoint=10.0.0.1:5|gtag=x", "gtag"},                    // proves 5.13/24
                      BadAddress{"aeron:udp?endpoint=10.0.0.1:5|interface=10.0.0.1/33", "interface"},  // proves 5.1/10
                      BadAddress{"aeron:udp?endpoint=10.0.0.1:5|channel-snd-ts-offset=-1", "channel-snd-ts-offset=-1"},  // proves 5.11/6
                      BadAddress{"aeron:udp?endpoint=10.0.0.1:5|media-rcv-ts-offset=x", "media-rcv-ts-offset"},          // proves 5.11/6
                      BadAddress{"aeron:udp?endpoint=10.0.0.1:5|media-rcv-ts-offset=0|channel-rcv-ts-offset=7", "8 bytes apart"},  // proves 5.11/5
                      BadAddress{"aeron:udp?endpoint=10.0.0.1:5|channel-snd-ts-offset=reserved|channel-rcv-ts-offset=reserved", "8 bytes apart"},  // proves 5.11/5
                      BadAddress{"aeron:udp?endpoint=[::1:5", "endpoint=[::1:5"},                    // proves 5.13/1
                      BadAddress{"aeron:udp?endpoint=[10.0.0.1]:5", "holds no IPv6 address"},
                      BadAddress{"aeron:udp?control=[fe80::1%nosuchif]:5", "control=[fe80::1%nosuchif]:5 holds no IPv6 address"},
                      BadAddress{"aeron:udp?endpoint=240.0.0.1:5", "endpoint=240.0.0.1:5: no host has an address of 240.0.0.0/4"},
                      BadAddress{"aeron:udp?endpoint=[::ffff:241.0.0.1]:5", "240.0.0.0/4"},
                      BadAddress{"aeron:udp?endpoint=[::1]:5|interface=[::1]/129", "interface=[::1]/129 is not"},
                      BadAddress{"aeron:udp?endpoint=[::1]:5|interface=[::1]x", "interface=[::1]x is not"},
                      BadAddress{"aeron:udp?endpoint=[::1]:5|interface=[localhost]", "interface=[localhost] is not"},
                      BadAddress{"aeron:udp?endpoint=224.10.9.8:5", "odd"}));

// The address book gives them handles, as lookups of names do.
TEST(Addresses, of_ipv6_wait_for_their_handles) {
  auto c = parse_udp_channel(*shm::ChannelUri::parse("aeron:udp?endpoint=[ff02::9]:5|control=[ff02::a]:5|interface=[2001:db8::1]:7/64"));
  ASSERT_TRUE(c) << c.error().text;
  EXPECT_EQ(unresolved_hosts(*c), (std::vector<std::string>{"ff02::9", "ff02::a", "2001:db8::1"}));
  EXPECT_EQ(c->prefix_length, 64);
  EXPECT_EQ(c->interface_port, 7);
  shm::AddressBook book;
  for (const std::string& host : unresolved_hosts(*c)) set_resolved(*c, host, book.enter(*shm::parse_scoped_ipv6(host), shm::AddressBook::By::kNamed, 0));
  ASSERT_TRUE(finish_channel(*c));
  EXPECT_TRUE(c->is_multicast);
  EXPECT_TRUE(c->has_interface);
  EXPECT_EQ(c->control->address, wire::control_group(c->endpoint->address));
}

TEST(Addresses, of_ipv6_groups_are_odd) {
  auto c = parse_udp_channel(*shm::ChannelUri::parse("aeron:udp?endpoint=[ff02::a]:5"));
  ASSERT_TRUE(c);
  shm::AddressBook book;
  set_resolved(*c, "ff02::a", book.enter(*shm::parse_scoped_ipv6("ff02::a"), shm::AddressBook::By::kNamed, 0));
  const auto finished = finish_channel(*c);
  ASSERT_FALSE(finished);
  EXPECT_NE(finished.error().text.find("endpoint=[ff02::a]:5: the last byte of the data address must be odd"), std::string::npos) << finished.error().text;
}

TEST(Addresses, of_ipv4_in_ipv6_clothes_are_ipv4) { EXPECT_EQ(channel("aeron:udp?endpoint=[::ffff:10.0.0.1]:5")->endpoint->address, 0x0A000001U); }

TEST(Addresses, of_both_families_do_not_go_together) {
  auto c = parse_udp_channel(*shm::ChannelUri::parse("aeron:udp?endpoint=[::1]:5|interface=127.0.0.1"));
  ASSERT_TRUE(c);
  set_resolved(*c, "::1", wire::kLoopbackIpv6);
  EXPECT_NE(finish_channel(*c).error().text.find("all IPv4 or all IPv6"), std::string::npos);
}

// proves 5.11/6
TEST(Addresses, say_where_times_are_written) {
  EXPECT_EQ(channel(kUdp)->timestamps, TimestampOffsets{});
  const auto c = channel(kUdp + "|media-rcv-ts-offset=reserved|channel-rcv-ts-offset=8|channel-snd-ts-offset=0");
  ASSERT_TRUE(c);
  EXPECT_EQ(c->timestamps, (TimestampOffsets{shm::kReservedValueTimestamp, 8, 0}));
}

// ---- what the conductor makes of them ----

class ChannelRules : public ConductorTest {
 protected:
  void SetUp() override { start(); }
  const shm::EndpointSlot::Wanted& only_endpoint() {
    EXPECT_EQ(world().endpoints.used().size(), 1U);
    return world().endpoints.slot(world().endpoints.used().front()).desired;
  }
  std::int32_t session_of(const std::string& channel) {
    add_publication(channel, 10, true);
    for (const std::int32_t session : sessions()) {
      if (seen_.insert(session).second) return session;
    }
    ADD_FAILURE() << "no new publication";
    return 0;
  }
  std::vector<std::int32_t> sessions() {
    std::vector<std::int32_t> all;
    for (const std::uint32_t index : world().publications.used()) all.push_back(world().publications.slot(index).desired.session_id);
    return all;
  }
  std::set<std::int32_t> seen_;
};

// proves 5.11/5
TEST_F(ChannelRules, timestamp_offsets_belong_to_the_endpoint_and_must_agree) {
  add_subscription(kUdp + "|channel-rcv-ts-offset=8|media-rcv-ts-offset=reserved");
  EXPECT_EQ(only_endpoint().channel_receive_timestamp, 8);
  EXPECT_EQ(only_endpoint().media_receive_timestamp, shm::kReservedValueTimestamp);
  EXPECT_EQ(only_endpoint().channel_send_timestamp, shm::kNoTimestamp);
  add_subscription(kUdp + "|media-rcv-ts-offset=reserved|channel-rcv-ts-offset=8", 11);
  EXPECT_EQ(world().subscriptions.used().size(), 2U);
  skip_all();
  const std::int64_t id = add_subscription(kUdp + "|channel-rcv-ts-offset=16|media-rcv-ts-offset=reserved");
  EXPECT_NE(expect_error(id, ClientError::kInvalidChannel).text.find("timestamp offsets"), std::string::npos);
}

// proves 2.2/2
TEST_F(ChannelRules, session_ids_jump_over_the_reserved_range) {
  const std::int32_t first = session_of(kUdp);
  world().settings.reserved_session_id_low = wire::wrapping_add(first, 1);
  world().settings.reserved_session_id_high = wire::wrapping_add(first, 10);
  EXPECT_EQ(session_of(kUdp), wire::wrapping_add(first, 11));
}

// proves 2.2/3
TEST_F(ChannelRules, session_ids_in_use_on_the_stream_are_skipped) {
  const std::int32_t first = session_of(kUdp);
  session_of(kUdp + "|session-id=" + std::to_string(wire::wrapping_add(first, 1)));
  EXPECT_EQ(session_of(kUdp), wire::wrapping_add(first, 2));
}

// proves 2.2/2, 2.2/3
TEST_F(ChannelRules, what_is_in_use_just_below_the_reserved_range_leads_over_it) {
  const std::int32_t first = session_of(kUdp);
  world().settings.reserved_session_id_low = wire::wrapping_add(first, 2);
  world().settings.reserved_session_id_high = wire::wrapping_add(first, 10);
  session_of(kUdp + "|session-id=" + std::to_string(wire::wrapping_add(first, 1)));
  EXPECT_EQ(session_of(kUdp), wire::wrapping_add(first, 11));
}

// proves 1.13/5
TEST_F(ChannelRules, initial_term_ids_are_drawn_from_all_there_are) {
  for (int i = 0; i < 40; ++i) add_publication("aeron:ipc", i);
  std::set<std::int32_t> seen;
  int negative = 0;
  for (const std::uint32_t index : world().publications.used()) {
    const std::int32_t id = world().publications.slot(index).desired.initial_term_id;
    seen.insert(id);
    negative += id < 0 ? 1 : 0;
  }
  EXPECT_EQ(seen.size(), 40U);
  EXPECT_GT(negative, 5);
  EXPECT_LT(negative, 35);
}

// proves 1.5/8, 5.13/29
TEST_F(ChannelRules, the_ttl_of_a_channel_reaches_its_setups) {
  add_publication(kUdp + "|ttl=7");
  EXPECT_EQ(world().publications.slot(world().publications.used().front()).desired.ttl, 7);
  EXPECT_EQ(only_endpoint().ttl, 7);
}

// proves 1.5/8, 5.3/7
TEST_F(ChannelRules, the_drivers_multicast_ttl_is_for_channels_without_one_and_no_setup_says_so) {
  conductor->world().settings.streams.multicast_ttl = 5;
  add_publication("aeron:udp?endpoint=224.10.9.1:24325");
  EXPECT_EQ(world().publications.slot(world().publications.used().front()).desired.ttl, 0);
  EXPECT_EQ(only_endpoint().ttl, 5);
}

// proves 5.3/7
TEST_F(ChannelRules, the_ttl_of_a_channel_wins_over_the_drivers) {
  conductor->world().settings.streams.multicast_ttl = 5;
  add_publication("aeron:udp?endpoint=224.10.9.1:24325|ttl=3");
  EXPECT_EQ(only_endpoint().ttl, 3);
}

// proves 5.2/1, 5.4/1
TEST_F(ChannelRules, a_unicast_publication_binds_its_interface_and_sends_to_its_endpoint) {
  add_publication(kUdp + "|interface=127.0.0.9:40001/8");
  EXPECT_EQ(only_endpoint().local_address, 0x7F000009U);
  EXPECT_EQ(only_endpoint().local_port, 40001);
  EXPECT_EQ(only_endpoint().remote_address, 0x7F000001U);
  EXPECT_EQ(only_endpoint().remote_port, 24325);
}

// proves 5.2/1
TEST_F(ChannelRules, without_an_interface_the_port_is_the_systems_choice) {
  add_publication(kUdp);
  EXPECT_EQ(only_endpoint().local_address, 0U);
  EXPECT_EQ(only_endpoint().local_port, 0);
}

// proves 5.2/3
TEST_F(ChannelRules, a_publication_with_control_binds_it) {
  add_publication(kUdp + "|control=127.0.0.2:24326|interface=127.0.0.9");
  EXPECT_EQ(only_endpoint().local_address, 0x7F000002U);
  EXPECT_EQ(only_endpoint().local_port, 24326);
  EXPECT_EQ(only_endpoint().remote_port, 24325);
}

// proves 4.5/5, 5.2/2, 5.4/2
TEST_F(ChannelRules, a_subscription_binds_its_endpoint_whatever_the_interface) {
  add_subscription(kUdp + "|interface=127.0.0.9|gtag=101");
  EXPECT_EQ(only_endpoint().local_address, 0x7F000001U);
  EXPECT_EQ(only_endpoint().local_port, 24325);
  EXPECT_EQ(only_endpoint().has_group_tag, 1);
  EXPECT_EQ(only_endpoint().group_tag, 101);
}

TEST_F(ChannelRules, ports_0_are_refused_where_a_peer_has_to_know_them) {
  expect_error(add_publication("aeron:udp?endpoint=127.0.0.1:0"), ClientError::kInvalidChannel);                         // proves 5.13/1
  expect_error(add_subscription("aeron:udp?endpoint=127.0.0.1:0|control=127.0.0.1:0"), ClientError::kInvalidChannel);     // proves 5.13/3
  expect_error(add_publication("aeron:udp?control=127.0.0.1:24326"), ClientError::kInvalidChannel);
  expect_nothing();
}

// proves 5.13/7
TEST_F(ChannelRules, a_stream_id_in_the_channel_means_nothing) {
  add_publication(kUdp + "|stream-id=99", 10);
  EXPECT_EQ(world().publications.slot(world().publications.used().front()).desired.stream_id, 10);
}

// proves 5.10/2
TEST_F(ChannelRules, endpoints_with_port_0_are_never_shared) {
  add_subscription("aeron:udp?endpoint=127.0.0.1:0");
  add_subscription("aeron:udp?endpoint=127.0.0.1:0");
  EXPECT_EQ(world().endpoints.used().size(), 2U);
}

// proves 5.10/3
TEST_F(ChannelRules, a_tag_finds_its_endpoint_and_must_fit_it) {
  add_publication(kUdp + "|tags=5");
  add_publication("aeron:udp?tags=5", 11);
  add_publication(kUdp + "|tags=5", 12);
  EXPECT_EQ(world().endpoints.used().size(), 1U);
  skip_all();
  const auto error = expect_error(add_publication("aeron:udp?endpoint=127.0.0.1:9|tags=5", 13), ClientError::kInvalidChannel);
  EXPECT_NE(error.text.find("tag 5"), std::string_view::npos) << error.text;
}

// proves 5.10/4
TEST_F(ChannelRules, a_tag_that_nobody_has_is_an_error_for_a_publication_without_addresses) {
  expect_error(add_publication("aeron:udp?tags=5"), ClientError::kInvalidChannel);
}

// proves 2.13/4
TEST_F(ChannelRules, the_group_tag_of_an_error_frame_reaches_the_client) {
  for (const std::int64_t tag : {std::int64_t{101}, std::int64_t{-1}}) {
    add_publication(kUdp);
    skip_all();
    const std::uint32_t index = world().publications.used().front();
    auto& observed = registry().publications[index].observed;
    observed.error_group_tag = tag;
    ++observed.error_frames;
    registry().lanes[0].to_control.ring({shm::SlotKind::kPublication, index});
    run();
    EXPECT_EQ(expect<shm::OnPublicationError>(Response::kPublicationError).group_tag, tag);
  }
}

// proves 3.4/1
TEST_F(ChannelRules, a_setup_with_an_impossible_mtu_makes_no_image) {
  add_subscription(kUdp);
  skip_all();
  for (const std::int32_t mtu : {0, 16, 32, 1400, 65536, -32}) {   // 32: no publication has it, and no client takes it
    registry().lanes[0].setups[data_plane->request_image(world().endpoints.used().front(), 10, 7)].mtu = mtu;
    run();
    EXPECT_TRUE(world().images.used().empty()) << mtu;
  }
  registry().lanes[0].setups[data_plane->request_image(world().endpoints.used().front(), 10, 7)].mtu = 64;
  run();
  EXPECT_EQ(world().images.used().size(), 1U);
}

// proves 3.4/17
TEST_F(ChannelRules, the_first_of_several_subscriptions_says_what_its_image_is) {
  add_subscription(kUdp + "|group=true");
  add_subscription(kUdp + "|group=false");
  data_plane->request_image(world().endpoints.used().front(), 10, 7);
  run();
  const std::uint32_t flags = registry().images[only_image()].desired.flags;
  EXPECT_NE(flags & shm::ImageFlags::kGroup, 0U);
  EXPECT_NE(flags & shm::ImageFlags::kReliable, 0U);
}

}  // namespace
}  // namespace thalweg::conductor::testing
