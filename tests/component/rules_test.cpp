// Rules of the wire protocol that show on the cable only: who answers whom, with what, from where.
#include <rte_mbuf.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

using shm::Lifecycle;

class RulesTest : public StreamTest {
 protected:
  void SetUp() override {
    make_nodes();
    connect();
    expect_transfer(make_messages(3));
  }
  // From a stranger's port on a to b's subscription.
  [[nodiscard]] wire::UdpFrameTemplate::Options to_b() {
    wire::UdpFrameTemplate::Options o;
    o.source_mac = nodes->a.plane->port(0).mac();
    o.destination_mac = nodes->b.plane->port(0).mac();
    o.source = {TwoNodes::kAddressA, 5'555};
    o.destination = {TwoNodes::kAddressB, kPort};
    return o;
  }
  // From b's subscription to the publication's socket.
  [[nodiscard]] wire::UdpFrameTemplate::Options to_a() {
    wire::UdpFrameTemplate::Options o;
    o.source_mac = nodes->b.plane->port(0).mac();
    o.destination_mac = nodes->a.plane->port(0).mac();
    o.source = {TwoNodes::kAddressB, kPort};
    o.destination = {TwoNodes::kAddressA, nodes->a.control.registry().endpoints[0].observed.bound_port};
    return o;
  }
  [[nodiscard]] Frame data_of(std::int32_t session_id) {
    Frame frame(96);
    wire::build(frame.data(), wire::DataHeader{.frame_length = 96, .session_id = session_id, .stream_id = 1001, .term_id = 5});
    return frame;
  }
  template <typename What>
  [[nodiscard]] static Frame built(const What& what, std::size_t length) {
    Frame frame(length);
    wire::build(frame.data(), what);
    return frame;
  }
  // What arrives at `node` from now on, and does not get any further.
  void catch_at(Node& node) {
    *node.filter = [this](rte_mbuf* m) {
      const auto* p = rte_pktmbuf_mtod(m, const std::byte*);
      caught.emplace_back(p, p + m->data_len);
      return true;
    };
  }
  void expect_counted(Node& node, const Frame& frame, LaneCounter counter) {
    const std::uint64_t before = node.control.lane_counter(counter);
    nodes->inject(node, frame);
    run_for(30'000);
    EXPECT_EQ(node.control.lane_counter(counter), before + 1);
  }
  struct Parsed {
    wire::Ipv4View ip;
    wire::UdpView udp;
  };
  [[nodiscard]] static Parsed parse(const Frame& frame) {
    const auto ip = wire::Ipv4View::parse(std::span{frame}.subspan(wire::kEthernetHeaderLength));
    EXPECT_EQ(ip.bad, wire::Ipv4View::Bad::kNone);
    return {ip, wire::UdpView::parse(ip.payload).value()};
  }
  std::vector<Frame> caught;
};

// proves 1.3/5
TEST_F(RulesTest, nobody_answers_an_invalid_datagram) {
  catch_at(nodes->a);
  const Frame good = data_of(77);
  for (const std::size_t cut : {0U, 7U, 31U, 95U}) expect_counted(nodes->b, udp(to_b(), Frame(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(cut))), LaneCounter::kDropInvalidFrame);
  for (const auto& [at, value] : {std::pair{4, 1}, {6, 8}, {3, 0x80}}) {  // version, type, negative length
    Frame bad = good;
    bad[static_cast<std::size_t>(at)] = static_cast<std::byte>(value);
    expect_counted(nodes->b, udp(to_b(), bad), LaneCounter::kDropInvalidFrame);
  }
  EXPECT_TRUE(caught.empty());
}

// proves 1.6/4, 3.1/2, 3.3/1, 3.3/2, 5.2/2, 5.2/11
TEST_F(RulesTest, data_of_an_unknown_session_is_answered_to_its_source_from_the_bound_port) {
  catch_at(nodes->a);
  nodes->inject(nodes->b, udp(to_b(), data_of(0x0BAD)));
  run_for(40'000);
  ASSERT_EQ(caught.size(), 1U);
  const Parsed p = parse(caught[0]);
  EXPECT_EQ(p.ip.source, TwoNodes::kAddressB);
  EXPECT_EQ(p.udp.source_port, kPort);
  EXPECT_EQ(p.ip.destination, TwoNodes::kAddressA);
  EXPECT_EQ(p.udp.destination_port, 5'555);
  const auto sm = wire::StatusMessage::parse(p.udp.payload);
  ASSERT_TRUE(sm);
  EXPECT_EQ(p.udp.payload.size(), 36U);
  EXPECT_EQ(sm->flags, 0x80);
  EXPECT_EQ(sm->session_id, 0x0BAD);
  EXPECT_EQ(sm->stream_id, 1001);
  EXPECT_EQ(sm->consumption_term_id, 0);
  EXPECT_EQ(sm->consumption_term_offset, 0);
  EXPECT_EQ(sm->window_length, 0);
  EXPECT_EQ(sm->receiver_id, nodes->b.control.registry().endpoints[0].observed.receiver_id);
}

// proves 1.3/7, 3.8/11
TEST_F(RulesTest, a_receiver_ignores_what_is_meant_for_senders) {
  const auto& d = nodes->b.control.registry().images[0].desired;
  for (const Frame& frame : {built(wire::StatusMessage{.session_id = d.session_id, .stream_id = d.stream_id}, 36),
                             built(wire::Nak{d.session_id, d.stream_id, d.initial_term_id, 0, 1024}, 28),
                             built(wire::ErrorFrame{.session_id = d.session_id, .stream_id = d.stream_id}, 40),
                             built(wire::ResponseSetup{d.session_id, d.stream_id, 1}, 20)}) {
    expect_counted(nodes->b, udp(to_b(), frame), LaneCounter::kDropIgnoredType);
  }
  expect_transfer(make_messages(10));
}

// proves 1.3/6
TEST_F(RulesTest, a_sender_ignores_what_is_meant_for_receivers) {
  const auto& d = nodes->a.control.registry().publications[publication].desired;
  for (const Frame& frame : {data_of(d.session_id), built(wire::Setup{.session_id = d.session_id, .stream_id = d.stream_id, .term_length = 65536, .mtu = 1408}, 40)}) {
    expect_counted(nodes->a, udp(to_a(), frame), LaneCounter::kDropIgnoredType);
  }
  expect_transfer(make_messages(10));
}

// proves 1.7/2
TEST_F(RulesTest, control_frames_of_unknown_streams_are_counted_and_nothing_else) {
  const auto& d = nodes->a.control.registry().publications[publication].desired;
  const std::uint64_t again = count_a(LaneCounter::kRetransmitsSent);
  for (const Frame& frame : {built(wire::Nak{d.session_id, d.stream_id + 1, d.initial_term_id, 0, 1024}, 28),
                             built(wire::Nak{d.session_id + 1, d.stream_id, d.initial_term_id, 0, 1024}, 28),
                             built(wire::RttMeasurement{true, d.session_id + 1, d.stream_id, 1, 0, 1}, 40),
                             built(wire::ErrorFrame{.session_id = d.session_id + 1, .stream_id = d.stream_id}, 40)}) {
    expect_counted(nodes->a, udp(to_a(), frame), LaneCounter::kDropUnknownStream);
  }
  EXPECT_EQ(count_a(LaneCounter::kRetransmitsSent), again);
}

// proves 9.3/3, 9.3/6
TEST_F(RulesTest, unicast_frames_have_a_ttl_of_64_are_never_fragmented_and_come_from_one_port) {
  catch_at(nodes->b);
  for (const std::string& message : make_messages(5, 3'000)) ASSERT_TRUE(publisher().offer(bytes(message)));
  run_for(150 * kMillisecond_ns);  // data, then a heartbeat
  ASSERT_GT(caught.size(), 5U);
  const std::uint16_t port = nodes->a.control.registry().endpoints[0].observed.bound_port;
  for (const Frame& frame : caught) {
    const Parsed p = parse(frame);
    EXPECT_EQ(p.ip.ttl, 64);
    EXPECT_EQ(load_be16(frame.data() + 20), 0x4000) << "DF, and no fragment";
    EXPECT_EQ(p.ip.source, TwoNodes::kAddressA);
    EXPECT_EQ(p.udp.source_port, port);
  }
}

// proves 3.1/3
TEST_F(RulesTest, each_receive_endpoint_has_its_own_receiver_id) {
  nodes->b.control.add_subscription({.local = {TwoNodes::kAddressB, kPort + 1}});
  run_for(kMillisecond_ns);
  const auto& endpoints = nodes->b.control.registry().endpoints;
  EXPECT_NE(endpoints[0].observed.receiver_id, endpoints[1].observed.receiver_id);
  EXPECT_NE(endpoints[1].observed.receiver_id, 0);
}

// proves 5.7/2
TEST_F(RulesTest, a_spy_joins_where_the_sender_is) {
  expect_transfer(make_messages(50, 1'000));
  const std::uint32_t link = nodes->a.control.add_ipc_subscriber(publication);  // on a network publication: a spy
  run_for(kMillisecond_ns);
  EXPECT_GT(sender().sender_position, 50'000);
  EXPECT_EQ(nodes->a.control.subscriber(link).position(), sender().sender_position);
}

// proves 2.1/1
TEST_F(RulesTest, publications_take_turns_at_being_first) {
  const std::uint32_t endpoint = nodes->a.control.registry().publications[publication].desired.endpoint;
  std::vector<std::uint32_t> all{publication};
  for (const std::int32_t session : {71, 72}) all.push_back(nodes->a.control.add_publication({.session_id = session, .endpoint = endpoint}));
  const auto are_connected = [&] {
    return std::all_of(all.begin(), all.end(), [this](std::uint32_t p) { return nodes->a.control.publication_state(p).publisher_limit > 0; });
  };
  ASSERT_TRUE(run_until(are_connected));
  std::set<std::int32_t> first;
  for (int turn = 0; turn < 4; ++turn) {
    for (const std::uint32_t p : all) ASSERT_TRUE(nodes->a.control.publisher(p).offer(bytes("x")));
    caught.clear();
    catch_at(nodes->b);
    run_for(20'000);
    ASSERT_EQ(caught.size(), 3U);
    // The first turn wakes those that rest, one by one.
    if (turn > 0) first.insert(wire::DataView{parse(caught[0]).udp.payload.data()}.session_id());
  }
  EXPECT_EQ(first.size(), 3U);
}

// proves 2.1/3
TEST_F(RulesTest, the_states_of_a_publication_follow_the_timer_interval) {
  catch_at(nodes->a);  // no answer cuts the linger short
  nodes->a.control.close_publication(publication);
  std::map<Lifecycle, std::int64_t> since;
  wait_until(
      [&] {
        since.try_emplace(sender().lifecycle, nodes->now_ns);
        return sender().lifecycle == Lifecycle::kDone;
      },
      30 * kSecond_ns);
  ASSERT_EQ(since.count(Lifecycle::kDone), 1U);
  for (const auto& [from, to] : {std::pair{Lifecycle::kDraining, Lifecycle::kLinger}, {Lifecycle::kLinger, Lifecycle::kDone}}) {
    const std::int64_t took_ns = since.at(to) - since.at(from);
    EXPECT_LT(std::min(took_ns % kSecond_ns, kSecond_ns - took_ns % kSecond_ns), 20 * kMillisecond_ns) << took_ns;
    EXPECT_GE(took_ns, 900 * kMillisecond_ns);
  }
}

// proves 3.11/11
TEST_F(RulesTest, the_states_of_an_image_follow_the_timer_interval) {
  catch_at(nodes->b);  // a silent sender
  std::map<Lifecycle, std::int64_t> since;
  wait_until(
      [&] {
        since.try_emplace(receiver().lifecycle, nodes->now_ns);
        return receiver().lifecycle == Lifecycle::kLinger;
      },
      30 * kSecond_ns);
  ASSERT_EQ(since.count(Lifecycle::kLinger), 1U);
  const std::int64_t took_ns = since.at(Lifecycle::kLinger) - since.at(Lifecycle::kDraining);
  EXPECT_GE(took_ns, kSecond_ns) << "five status message timeouts";
  EXPECT_LT(std::min(took_ns % kSecond_ns, kSecond_ns - took_ns % kSecond_ns), 20 * kMillisecond_ns) << took_ns;
}

// proves 2.7/8, 3.13/7, 3.13/8
TEST_F(RulesTest, after_a_rejection_the_sender_beats_on_and_a_new_image_follows_the_old_one) {
  nodes->b.control.reject_image(nodes->b.control.images().front());
  ASSERT_TRUE(run_until([this] { return sender().is_connected == 0; }));
  const std::uint64_t beats = count_a(LaneCounter::kHeartbeatsSent);
  auto& slot = nodes->b.control.registry().images[nodes->b.control.images().front()];
  ASSERT_TRUE(wait_until([&slot] { return slot.observed.is_unavailable.load() != 0; }, 15 * kSecond_ns));
  EXPECT_GT(count_a(LaneCounter::kHeartbeatsSent), beats + 90);
  nodes->b.control.close_image(nodes->b.control.images().front());
  ASSERT_TRUE(wait_until([this] { return nodes->b.control.images().size() == 2; }, 5 * kSecond_ns));
  EXPECT_TRUE(run_until([this] { return sender().is_connected == 1; }));
}

}  // namespace
}  // namespace thalweg::test
