// What a publication with many destinations puts on the cable, and whom it believes (wire-protocol 5.5). The receivers are frames made here.
#include <rte_mbuf.h>

#include <algorithm>
#include <set>

#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

using shm::EndpointMode;

class FanOutTest : public StreamTest {
 protected:
  static constexpr std::uint16_t kControlPort = 40'500;
  static constexpr std::int64_t kOneSetup_ns = 110 * kMillisecond_ns;   // time for one SETUP or heartbeat to be due
  struct Caught {
    wire::UdpEndpoint to;
    Frame payload;
    [[nodiscard]] wire::FrameType type() const { return wire::FrameHeader::of_valid(payload).type(); }
  };

  void publish(EndpointMode mode, const TwoNodes::Options& options = {}, std::uint32_t address = TwoNodes::kAddressA) {
    make_nodes(options);
    publication = nodes->a.control.add_publication({.mode = mode, .local = {address, kControlPort}});
    ASSERT_TRUE(run_until([this] { return nodes->a.control.publication_state(publication).lifecycle == shm::Lifecycle::kActive; }));
    *nodes->b.filter = [this](rte_mbuf* m) {
      const auto* p = rte_pktmbuf_mtod(m, const std::byte*);
      const auto ip = wire::Ipv4View::parse({p + wire::kEthernetHeaderLength, m->data_len - wire::kEthernetHeaderLength});
      if (ip.bad != wire::Ipv4View::Bad::kNone || ip.protocol != wire::kIpProtocolUdp) return false;   // ARP is b's to answer
      const auto udp = wire::UdpView::parse(ip.payload).value();
      caught.push_back({{ip.destination, udp.destination_port}, {udp.payload.begin(), udp.payload.end()}});
      return true;
    };
  }
  const shm::PublicationSlot::Wanted& wanted() { return nodes->a.control.registry().publications[publication].desired; }
  wire::StatusMessage of_stream(std::int64_t receiver_id) {
    return {.session_id = wanted().session_id, .stream_id = wanted().stream_id, .consumption_term_id = wanted().initial_term_id, .window_length = 16 << 10, .receiver_id = receiver_id};
  }
  static wire::StatusMessage of_no_stream(std::int64_t receiver_id) { return {.flags = wire::flag::kSmSendSetup, .receiver_id = receiver_id}; }
  template <typename What>
  void tell(const What& what, std::size_t length, std::uint16_t port, std::uint32_t address = TwoNodes::kAddressB) {
    wire::UdpFrameTemplate::Options o;
    o.source_mac = nodes->b.plane->port(0).mac();
    o.destination_mac = nodes->a.plane->port(0).mac();
    o.source = {address, port};
    o.destination = {TwoNodes::kAddressA, kControlPort};
    Frame payload(64);   // any of these frames fits
    wire::build(payload.data(), what);
    payload.resize(length);
    nodes->inject(nodes->a, udp(o, payload));
    run_for(30'000);
  }
  void tell(const wire::StatusMessage& sm, std::uint16_t port, std::uint32_t address = TwoNodes::kAddressB) { tell(sm, sm.length(), port, address); }
  // Destinations of a window each, so that data flows.
  void connect_to(std::initializer_list<std::uint16_t> ports) {
    std::int64_t receiver = 1;
    for (const std::uint16_t port : ports) tell(of_stream(receiver++), port);
    ASSERT_TRUE(run_until([this] { return sender().publisher_limit > 0; }));
    run_for(kOneSetup_ns);   // the first frames ask for the MAC
    caught.clear();
  }
  [[nodiscard]] std::int64_t count() { return nodes->a.control.counters().counter(endpoint().desired.destination_count_id).get(); }
  const shm::EndpointSlot& endpoint() { return nodes->a.control.registry().endpoints[wanted().endpoint]; }
  [[nodiscard]] std::vector<std::uint16_t> ports_of(wire::FrameType type) const {
    std::vector<std::uint16_t> ports;
    for (const Caught& c : caught) {
      if (c.type() == type) ports.push_back(c.to.port);
    }
    return ports;
  }
  [[nodiscard]] std::size_t count_to(std::uint16_t port) const {
    return static_cast<std::size_t>(std::count_if(caught.begin(), caught.end(), [port](const Caught& c) { return c.to.port == port; }));
  }
  void ask_round_trip(std::int64_t receiver_id, std::uint16_t port, std::uint32_t address = TwoNodes::kAddressB) {
    const wire::RttMeasurement request{true, wanted().session_id, wanted().stream_id, 12'345, 0, receiver_id};
    tell(request, wire::RttMeasurement::kLength, port, address);
  }
  // A manual destination on b that the lane has.
  std::uint32_t add(std::uint16_t port, std::uint32_t address = TwoNodes::kAddressB) {
    const std::uint32_t slot = nodes->a.control.add_destination(publication, {address, port});
    EXPECT_TRUE(run_until([&] { return destination(slot).observed.state.load() == shm::Observed::kActive; }));
    return slot;
  }
  shm::DestinationSlot& destination(std::uint32_t slot) { return nodes->a.control.registry().destinations[slot]; }

  std::vector<Caught> caught;
};

// proves 5.5/3
TEST_F(FanOutTest, without_destinations_sending_succeeds_and_only_a_status_message_moves_the_limit) {
  publish(EndpointMode::kDynamic);
  run_for(kSecond_ns);
  EXPECT_GE(count_a(LaneCounter::kSetupsSent), 9U);
  EXPECT_TRUE(caught.empty());
  EXPECT_EQ(sender().sender_limit, sender().start_position);
  EXPECT_EQ(count(), 0);
  tell(of_stream(1), 7'001);
  EXPECT_EQ(sender().sender_limit, sender().start_position + (16 << 10));
}

// proves 2.11/4, 5.2/12, 5.5/5
TEST_F(FanOutTest, a_dynamic_destination_is_the_source_of_a_status_message_known_by_receiver_and_port) {
  publish(EndpointMode::kDynamic);
  tell(of_no_stream(1), 7'001);
  EXPECT_EQ(count(), 1) << "of no stream at all";
  tell(of_no_stream(1), 7'001, TwoNodes::kAddressB + 50);
  EXPECT_EQ(count(), 1) << "the address is not compared";
  tell(of_no_stream(1), 7'002);
  tell(of_no_stream(2), 7'001);
  EXPECT_EQ(count(), 3);
  wire::StatusMessage invalid = of_stream(3);
  invalid.consumption_term_offset = 7;
  tell(invalid, 7'003);
  wire::StatusMessage far = of_stream(3);
  far.consumption_term_id += 4;
  tell(far, 7'003);
  EXPECT_EQ(count(), 3) << "rejected ones tell of nobody";
  tell(of_stream(3), 7'003);
  EXPECT_EQ(count(), 4);
  EXPECT_EQ(count_a(LaneCounter::kDropUnexpectedSource), 0U);
}

// proves 1.6/8
TEST_F(FanOutTest, of_an_unknown_stream_a_status_message_may_be_as_far_as_the_longest_term) {
  publish(EndpointMode::kDynamic);
  wire::StatusMessage sm{.session_id = 1, .stream_id = 1, .consumption_term_offset = (1 << 30) - 32, .window_length = 1 << 29, .receiver_id = 1};
  tell(sm, 7'001);
  EXPECT_EQ(count(), 1);
  sm.window_length += 32;
  tell(sm, 7'002);
  EXPECT_EQ(count(), 1);
  EXPECT_EQ(count_a(LaneCounter::kDropInvalidFrame), 1U);
}

// proves 5.5/6
TEST_F(FanOutTest, a_dynamic_destination_is_forgotten_after_five_seconds_and_any_status_message_keeps_it) {
  publish(EndpointMode::kDynamic);
  tell(of_no_stream(1), 7'001);
  tell(of_no_stream(2), 7'002);
  for (int i = 0; i < 4; ++i) {
    run_for(kSecond_ns);
    tell(of_no_stream(1), 7'001);
  }
  EXPECT_EQ(count(), 2);
  run_for(1'200 * kMillisecond_ns);
  EXPECT_EQ(count(), 1);
  caught.clear();
  run_for(kOneSetup_ns);
  EXPECT_GT(count_to(7'001), 0U);
  EXPECT_EQ(count_to(7'002), 0U);
}

TEST_F(FanOutTest, strangers_without_number_take_the_places_there_are_for_five_seconds_and_no_more) {
  publish(EndpointMode::kDynamic);
  for (std::uint16_t i = 0; i < 3 * core::FanOut::kDestinationsMax; ++i) tell(of_no_stream(1'000 + i), static_cast<std::uint16_t>(10'000 + i));
  EXPECT_EQ(count(), static_cast<std::int64_t>(core::FanOut::kDestinationsMax));
  EXPECT_EQ(count_a(LaneCounter::kDestinationsRefused), 2 * core::FanOut::kDestinationsMax);
  tell(of_stream(1), 7'001);
  EXPECT_EQ(count(), static_cast<std::int64_t>(core::FanOut::kDestinationsMax));
  caught.clear();
  run_for(kOneSetup_ns);
  EXPECT_GT(count_to(7'001), 0U) << "who knows the stream takes a stranger's place";
  run_for(5'200 * kMillisecond_ns);
  tell(of_stream(1), 7'001);
  EXPECT_EQ(count(), 1);
  caught.clear();
  run_for(kOneSetup_ns);
  EXPECT_GT(count_to(7'001), 0U);
  EXPECT_EQ(count_to(10'000), 0U);
}

TEST_F(FanOutTest, strangers_keep_nobody_out_who_receives_and_nobody_of_another_host) {
  publish(EndpointMode::kDynamic);
  connect_to({7'001, 7'002});
  const auto flood = [this](std::int64_t from, std::size_t messages) {
    for (std::size_t i = 0; i < messages; ++i) tell(of_no_stream(from + static_cast<std::int64_t>(i)), static_cast<std::uint16_t>(10'000 + i), TwoNodes::kAddressB + 50);
  };
  flood(1'000, 2 * core::FanOut::kDestinationsMax);
  caught.clear();
  ASSERT_TRUE(publisher().offer(bytes("message")));
  run_for(kMillisecond_ns);
  EXPECT_EQ(count_to(7'001), 1U);
  EXPECT_EQ(count_to(7'002), 1U);
  tell(of_no_stream(3), 7'003);   // it waits for a SETUP
  caught.clear();
  flood(2'000, core::FanOut::kDestinationsMax);
  run_for(kOneSetup_ns);
  EXPECT_GT(count_to(7'003), 0U);
  EXPECT_EQ(count(), static_cast<std::int64_t>(core::FanOut::kDestinationsMax));
}

TEST_F(FanOutTest, what_strangers_say_of_ranges_never_sent_or_of_unknown_streams_is_counted_and_sends_nothing) {
  publish(EndpointMode::kDynamic);
  connect_to({7'001});
  ASSERT_TRUE(publisher().offer(bytes("message")));
  run_for(kMillisecond_ns);
  caught.clear();
  const auto nak_of = [this](std::int32_t term_id, std::int32_t offset, std::int32_t length) {
    tell(wire::Nak{wanted().session_id, wanted().stream_id, term_id, offset, length}, wire::Nak::kLength, 9'999, TwoNodes::kAddressB + 50);
  };
  nak_of(wanted().initial_term_id, 4'096, 1'024);
  nak_of(wanted().initial_term_id + 1, 0, 1'024);
  nak_of(wanted().initial_term_id - 1, 0, 1'024);
  EXPECT_EQ(count_a(LaneCounter::kNaksReceived), 3U);
  nak_of(wanted().initial_term_id, 0, -64);
  nak_of(wanted().initial_term_id, 7, 64);
  EXPECT_EQ(count_a(LaneCounter::kDropInvalidFrame), 2U);
  tell(wire::Nak{wanted().session_id + 1, wanted().stream_id, wanted().initial_term_id, 0, 64}, wire::Nak::kLength, 9'999);
  wire::RttMeasurement rtt;
  rtt.session_id = wanted().session_id + 1;
  rtt.stream_id = wanted().stream_id;
  rtt.is_request = true;
  tell(rtt, wire::RttMeasurement::kLength, 9'999);
  wire::ErrorFrame error;
  error.session_id = wanted().session_id;
  error.stream_id = wanted().stream_id;
  error.receiver_id = 4'711;
  tell(error, error.length(), 9'999);
  EXPECT_EQ(count_a(LaneCounter::kDropUnknownStream), 2U);
  EXPECT_TRUE(ports_of(wire::FrameType::kData).empty());
  EXPECT_TRUE(ports_of(wire::FrameType::kRttMeasurement).empty());
  EXPECT_EQ(count(), 1) << "none of these makes a destination";
  EXPECT_EQ(sender().is_connected, 1);
}

// proves 5.5/7
TEST_F(FanOutTest, learning_sends_nothing_and_a_setup_that_one_asks_for_goes_to_all) {
  publish(EndpointMode::kDynamic);
  connect_to({7'001, 7'002});
  run_for(50 * kMillisecond_ns);
  caught.clear();
  tell(of_no_stream(3), 7'003);
  EXPECT_TRUE(caught.empty());
  wire::StatusMessage asks = of_stream(3);
  asks.flags = wire::flag::kSmSendSetup;
  asks.window_length = 0;
  tell(asks, 7'003);
  ASSERT_TRUE(run_until([this] { return caught.size() >= 3; }, kOneSetup_ns));
  std::vector<std::uint16_t> ports = ports_of(wire::FrameType::kSetup);
  std::sort(ports.begin(), ports.end());
  EXPECT_EQ(ports, (std::vector<std::uint16_t>{7'001, 7'002, 7'003}));
}

// proves 2.10/16, 5.5/2, 5.5/4
TEST_F(FanOutTest, every_frame_goes_to_all_beginning_with_another_one_each_time) {
  publish(EndpointMode::kDynamic);
  connect_to({7'001, 7'002, 7'003});
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(publisher().offer(bytes("message " + std::to_string(i))));
    run_for(30'000);
  }
  ASSERT_EQ(caught.size(), 9U);
  std::vector<std::uint16_t> first;
  for (std::size_t i = 0; i < 9; i += 3) {
    first.push_back(caught[i].to.port);
    EXPECT_EQ(caught[i].payload, caught[i + 1].payload);
    EXPECT_EQ(caught[i].payload, caught[i + 2].payload);
    EXPECT_EQ((std::set<std::uint16_t>{caught[i].to.port, caught[i + 1].to.port, caught[i + 2].to.port}).size(), 3U);
  }
  EXPECT_EQ((std::set<std::uint16_t>{first.begin(), first.end()}).size(), 3U) << "each was first once";

  caught.clear();
  tell(wire::Nak{wanted().session_id, wanted().stream_id, wanted().initial_term_id, 0, 64}, wire::Nak::kLength, 7'002);
  ASSERT_TRUE(run_until([this] { return caught.size() >= 3; }, kOneSetup_ns)) << "one asked again, and all get it";
  EXPECT_EQ(ports_of(wire::FrameType::kData).size(), 3U);
  caught.clear();
  ASSERT_TRUE(run_until([this] { return caught.size() >= 3; }, 2 * kOneSetup_ns)) << "heartbeats";
  EXPECT_EQ(ports_of(wire::FrameType::kData).size(), 3U);
}

TEST_F(FanOutTest, of_many_destinations_the_one_that_asks_for_a_round_trip_is_answered) {
  publish(EndpointMode::kDynamic);
  connect_to({7'001, 7'002, 7'003});
  ask_round_trip(2, 7'002);
  EXPECT_EQ(ports_of(wire::FrameType::kRttMeasurement), (std::vector<std::uint16_t>{7'002}));
  caught.clear();
  ask_round_trip(0, 7'003);
  EXPECT_EQ(ports_of(wire::FrameType::kRttMeasurement), (std::vector<std::uint16_t>{7'003})) << "known by its address";
  caught.clear();
  ask_round_trip(2, 9'999, TwoNodes::kAddressB + 50);
  EXPECT_TRUE(ports_of(wire::FrameType::kRttMeasurement).empty()) << "no destination";
  EXPECT_EQ(count_a(LaneCounter::kDropUnexpectedSource), 1U);
}

TEST_F(FanOutTest, who_asks_from_elsewhere_is_answered_to_all_manual_destinations_within_a_limit) {
  publish(EndpointMode::kManual);
  add(7'001);
  add(7'002);
  connect_to({7'001, 7'002});
  ask_round_trip(1, 7'001);
  EXPECT_EQ(ports_of(wire::FrameType::kRttMeasurement), (std::vector<std::uint16_t>{7'001}));
  caught.clear();
  ask_round_trip(9, 9'999, TwoNodes::kAddressB + 50);
  EXPECT_EQ(ports_of(wire::FrameType::kRttMeasurement).size(), 2U) << "of a group, perhaps, that one of them is";
  caught.clear();
  for (int i = 0; i < 200; ++i) ask_round_trip(9, 9'999, TwoNodes::kAddressB + 50);
  EXPECT_LT(ports_of(wire::FrameType::kRttMeasurement).size(), 160U);
  EXPECT_GT(count_a(LaneCounter::kRttRepliesLimited), 100U);
}

TEST_F(FanOutTest, setup_says_that_it_is_a_group) {
  publish(EndpointMode::kDynamic);
  tell(of_no_stream(1), 7'001);
  ASSERT_TRUE(run_until([this] { return !caught.empty(); }, kOneSetup_ns));
  const auto setup = wire::Setup::parse(caught[0].payload);
  ASSERT_TRUE(setup);
  EXPECT_NE(setup->flags & wire::flag::kSetupGroup, 0);
}

TEST_F(FanOutTest, one_that_cannot_be_reached_does_not_stop_the_others) {
  publish(EndpointMode::kDynamic);
  tell(of_stream(9), 7'009, TwoNodes::kAddressB + 50);   // nobody answers for that address
  connect_to({7'001});
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(publisher().offer(bytes("message " + std::to_string(i))));
  run_for(kMillisecond_ns);
  EXPECT_EQ(sender().sender_position, publisher().position());
  std::size_t data = 0;
  for (const Caught& c : caught) data += c.payload.size();
  EXPECT_EQ(data, static_cast<std::size_t>(publisher().position()));
}

// ---- manual ----

// proves 5.2/8
TEST_F(FanOutTest, manual_destinations_come_and_go_and_know_no_timeout) {
  publish(EndpointMode::kManual);
  const std::uint32_t first = add(7'001);
  add(7'002);
  EXPECT_EQ(count(), 2);
  wait_for(10 * kSecond_ns);
  caught.clear();
  run_for(kOneSetup_ns);
  EXPECT_GE(count_to(7'001), 1U);
  EXPECT_EQ(count_to(7'002), count_to(7'001));
  nodes->a.control.remove_destination(first);
  ASSERT_TRUE(run_until([&] { return destination(first).observed.state.load() == shm::Observed::kDone; }));
  EXPECT_EQ(count(), 1);
  caught.clear();
  run_for(kOneSetup_ns);
  EXPECT_EQ(count_to(7'001), 0U);
  EXPECT_GE(count_to(7'002), 1U);
  tell(of_stream(5), 7'005);
  EXPECT_EQ(count(), 1) << "none is learned";
}

// proves 5.5/10
TEST_F(FanOutTest, a_manual_destination_is_known_by_its_address_and_then_by_receiver_and_port) {
  publish(EndpointMode::kManual);
  const std::uint32_t slot = add(7'001);
  tell(of_stream(4), 7'004);
  EXPECT_EQ(sender().sender_limit, sender().start_position + (16 << 10)) << "flow control listens to everybody";
  EXPECT_EQ(destination(slot).observed.receiver_id, 0);
  tell(of_no_stream(1), 7'001);
  EXPECT_EQ(destination(slot).observed.receiver_id, 1);
  const std::int64_t heard_ns = destination(slot).observed.last_heard_ns;
  tell(of_no_stream(2), 7'001);
  EXPECT_EQ(destination(slot).observed.last_heard_ns, heard_ns) << "another receiver at its address";
  tell(of_no_stream(1), 7'001, TwoNodes::kAddressB + 50);
  EXPECT_GT(destination(slot).observed.last_heard_ns, heard_ns) << "from another address of its host";
}

TEST_F(FanOutTest, a_destination_without_an_address_waits_for_one_and_one_that_moves_is_followed) {
  publish(EndpointMode::kManual);
  const std::uint32_t slot = add(7'001, 0);
  run_for(kOneSetup_ns);
  EXPECT_TRUE(caught.empty());
  nodes->a.control.move_destination(slot, TwoNodes::kAddressB);
  ASSERT_TRUE(run_until([this] { return !caught.empty(); }, kOneSetup_ns));
  EXPECT_EQ(caught[0].to, (wire::UdpEndpoint{TwoNodes::kAddressB, 7'001}));
  tell(of_no_stream(1), 7'001);
  nodes->a.control.move_destination(slot, TwoNodes::kAddressB + 50);
  run_for(kMillisecond_ns);
  caught.clear();
  run_for(kOneSetup_ns);
  EXPECT_TRUE(caught.empty());
  tell(of_no_stream(2), 7'001, TwoNodes::kAddressB + 50);
  EXPECT_EQ(destination(slot).observed.receiver_id, 2) << "who is there now is somebody else";
}

TEST_F(FanOutTest, two_that_are_the_same_address_get_one_copy) {
  publish(EndpointMode::kManual);
  const std::uint32_t first = add(7'001);
  add(7'001);
  run_for(kOneSetup_ns);
  caught.clear();
  run_for(kOneSetup_ns);
  EXPECT_EQ(count_to(7'001), 1U);
  nodes->a.control.remove_destination(first);
  run_for(kMillisecond_ns);
  caught.clear();
  run_for(kOneSetup_ns);
  EXPECT_EQ(count_to(7'001), 1U) << "the other one is still wanted";
}

TEST_F(FanOutTest, a_full_table_is_an_error_that_says_so) {
  publish(EndpointMode::kManual);
  for (std::uint16_t i = 0; i < core::FanOut::kDestinationsMax; ++i) add(static_cast<std::uint16_t>(7'000 + i));
  const std::uint32_t slot = nodes->a.control.add_destination(publication, {TwoNodes::kAddressB, 9'000});
  ASSERT_TRUE(run_until([&] { return destination(slot).observed.state.load() == shm::Observed::kFailed; }));
  EXPECT_STREQ(destination(slot).observed.error.text, "all 128 destinations of the publication are in use");
  run_for(kOneSetup_ns);
  caught.clear();
  run_for(kOneSetup_ns);
  EXPECT_EQ(caught.size(), core::FanOut::kDestinationsMax) << "one datagram to all of them";
}

TEST_F(FanOutTest, one_that_no_port_reaches_is_an_error) {
  publish(EndpointMode::kManual, {.has_second_cable = true}, 0);
  const std::uint32_t slot = nodes->a.control.add_destination(publication, {0xC0A80909, 9'000});
  ASSERT_TRUE(run_until([&] { return destination(slot).observed.state.load() == shm::Observed::kFailed; }));
  EXPECT_STREQ(destination(slot).observed.error.text, "no port reaches the destination");
  nodes->a.control.remove_destination(slot);
  ASSERT_TRUE(run_until([&] { return destination(slot).observed.state.load() == shm::Observed::kDone; }));
  add(7'001);
  EXPECT_EQ(count(), 1);
}

TEST_F(FanOutTest, a_restarted_data_plane_has_its_manual_destinations_again) {
  publish(EndpointMode::kManual);
  add(7'001);
  add(7'002);
  nodes->restart(nodes->a);
  ASSERT_TRUE(run_until([this] { return count_to(7'001) > 0 && count_to(7'002) > 0; }, kSecond_ns));
  EXPECT_EQ(count(), 2);
}

}  // namespace
}  // namespace thalweg::test
