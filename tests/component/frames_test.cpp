// Single frames on the cable: the IP host's answers, and every reason to drop a frame.
#include <rte_mbuf.h>

#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

class FramesTest : public StreamTest {
 protected:
  void SetUp() override {
    make_nodes();
    connect();
    expect_transfer(make_messages(3));
  }
  // Ethernet, IPv4 and UDP around a payload, as node a would send it to node b's subscription.
  [[nodiscard]] wire::UdpFrameTemplate::Options to_b() {
    wire::UdpFrameTemplate::Options o;
    o.source_mac = nodes->a.plane->port(0).mac();
    o.destination_mac = nodes->b.plane->port(0).mac();
    o.source = {TwoNodes::kAddressA, 5'555};
    o.destination = {TwoNodes::kAddressB, kPort};
    return o;
  }
  // The same in the other direction, to the publication's socket.
  [[nodiscard]] wire::UdpFrameTemplate::Options to_a() {
    wire::UdpFrameTemplate::Options o;
    o.source_mac = nodes->b.plane->port(0).mac();
    o.destination_mac = nodes->a.plane->port(0).mac();
    o.source = {TwoNodes::kAddressB, kPort};
    o.destination = {TwoNodes::kAddressA, nodes->a.control.registry().endpoints[0].observed.bound_port};
    return o;
  }
  // A DATA frame of the connected stream.
  [[nodiscard]] Frame data(std::int64_t position, std::int32_t length = 96) {
    const auto& d = nodes->b.control.registry().images[0].desired;
    const int bits = wire::position_bits(d.term_length);
    wire::DataHeader h;
    h.frame_length = length;
    h.flags = wire::flag::kUnfragmented;
    h.term_offset = wire::term_offset_of(position, bits);
    h.session_id = d.session_id;
    h.stream_id = d.stream_id;
    h.term_id = wire::term_id_of(position, d.initial_term_id, bits);
    Frame frame(static_cast<std::size_t>(wire::align_frame(length)));
    wire::build(frame.data(), h);
    return frame;
  }
  // Hands `frame` to b (or a) and expects exactly one more of `counter`.
  void expect_drop(Node& node, const Frame& frame, LaneCounter counter) {
    const std::uint64_t before = node.control.lane_counter(counter);
    nodes->inject(node, frame);
    nodes->run_for(30'000);
    EXPECT_EQ(node.control.lane_counter(counter), before + 1);
  }
  // Frames that arrive at node a, recorded before its lane sees them.
  std::vector<Frame>& record(Node& node) {
    *node.filter = [this](rte_mbuf* m) {
      const auto* p = rte_pktmbuf_mtod(m, const std::byte*);
      recorded.emplace_back(p, p + m->data_len);
      return false;
    };
    return recorded;
  }
  [[nodiscard]] Frame echo_request(std::size_t length) {
    Frame frame(14 + 20 + 8 + length);
    wire::build_ethernet(frame.data(), nodes->b.plane->port(0).mac(), nodes->a.plane->port(0).mac(), wire::kEtherTypeIpv4);
    wire::build_ipv4(frame.data() + 14, wire::kIpProtocolIcmp, 64, TwoNodes::kAddressA, TwoNodes::kAddressB, 8 + length, false);
    std::byte* const icmp = frame.data() + 34;
    icmp[0] = std::byte{wire::kIcmpEchoRequest};
    for (std::size_t i = 0; i < length; ++i) icmp[8 + i] = static_cast<std::byte>(i);
    store_be16(icmp + 2, wire::checksum_fold(wire::checksum_add({icmp, 8 + length}, 0)));
    return frame;
  }
  std::vector<Frame> recorded;
};

// ---- Ethernet, IP and UDP ----

TEST_F(FramesTest, frames_below_udp_are_dropped_for_their_own_reason) {
  const Frame good = udp(to_b(), data(0));
  const auto with = [&good](auto&& change) {
    Frame frame = good;
    change(frame);
    return frame;
  };
  const auto fix_ip_checksum = [](Frame& f) {
    store_be16(f.data() + 24, 0);
    store_be16(f.data() + 24, wire::checksum_fold(wire::checksum_add({f.data() + 14, 20}, 0)));
  };
  Node& b = nodes->b;
  expect_drop(b, Frame(good.begin(), good.begin() + 13), LaneCounter::kDropNotIp);
  expect_drop(b, with([](Frame& f) { store_be16(f.data() + 12, 0x86DD); }), LaneCounter::kDropNotIp);   // IPv6
  expect_drop(b, with([](Frame& f) { f[5] ^= std::byte{1}; }), LaneCounter::kDropNotOurs);              // another MAC
  expect_drop(b, with([&b](Frame& f) { std::memcpy(f.data() + 6, b.plane->port(0).mac().bytes.data(), 6); }), LaneCounter::kDropOwnFrame);
  expect_drop(b, with([](Frame& f) { f[14] = std::byte{0x65}; }), LaneCounter::kDropBadIpHeader);       // version 6
  expect_drop(b, with([](Frame& f) { f[14] = std::byte{0x44}; }), LaneCounter::kDropBadIpHeader);       // header of 16 bytes
  expect_drop(b, with([](Frame& f) { f[24] ^= std::byte{1}; }), LaneCounter::kDropBadIpHeader);         // checksum
  expect_drop(b, with([](Frame& f) { store_be16(f.data() + 16, 2'000); }), LaneCounter::kDropBadIpHeader);  // longer than the frame
  expect_drop(b, with([](Frame& f) { store_be16(f.data() + 16, 19); }), LaneCounter::kDropBadIpHeader);
  expect_drop(b, Frame(good.begin(), good.begin() + 30), LaneCounter::kDropBadIpHeader);
  expect_drop(b, with([&](Frame& f) { store_be16(f.data() + 20, 0x2000); fix_ip_checksum(f); }), LaneCounter::kDropIpFragment);
  expect_drop(b, with([&](Frame& f) { store_be16(f.data() + 20, 0x0010); fix_ip_checksum(f); }), LaneCounter::kDropIpFragment);
  expect_drop(b, with([&](Frame& f) { f[23] = std::byte{6}; fix_ip_checksum(f); }), LaneCounter::kDropOtherProtocol);  // TCP
  expect_drop(b, with([&](Frame& f) { f[23] = std::byte{2}; fix_ip_checksum(f); }), LaneCounter::kDropOtherProtocol);  // IGMP
  expect_drop(b, with([](Frame& f) { store_be16(f.data() + 38, 7); }), LaneCounter::kDropBadUdpHeader);
  expect_drop(b, with([](Frame& f) { store_be16(f.data() + 38, 1'000); }), LaneCounter::kDropBadUdpHeader);
  expect_drop(b, with([](Frame& f) { store_be16(f.data() + 12, wire::kEtherTypeVlan); store_be16(f.data() + 14, 9); store_be16(f.data() + 16, wire::kEtherTypeIpv4); }),
              LaneCounter::kDropVlan);
  auto elsewhere = to_b();
  elsewhere.destination.address = TwoNodes::kAddressB + 5;
  expect_drop(b, udp(elsewhere, data(0)), LaneCounter::kDropNotOurs);
  auto nobody = to_b();
  nobody.destination.port = 9;
  expect_drop(b, udp(nobody, data(0)), LaneCounter::kDropNoEndpoint);
  EXPECT_EQ(subscriber().poll(), 0);
}

// proves 9.3/2
TEST_F(FramesTest, a_wrong_udp_checksum_is_dropped_where_checksums_are_verified) {
  TwoNodes::Options options;
  options.checksums = pmd::Checksums::kOn;
  make_nodes(options);
  connect();
  const Frame payload = data(publisher().position());
  Frame frame = udp(to_b(), payload);
  wire::UdpFrameTemplate{to_b()}.write_udp_checksum(frame.data(), payload.size());
  const std::uint64_t before = count_b(LaneCounter::kDataFramesReceived);
  nodes->inject(nodes->b, frame);
  run_for(30'000);
  EXPECT_EQ(count_b(LaneCounter::kDataFramesReceived), before + 1);
  frame.back() ^= std::byte{1};
  expect_drop(nodes->b, frame, LaneCounter::kDropBadUdpChecksum);
}

// ---- frames of the protocol ----

// proves 1.3/7, 1.13/4, 3.2/1, 3.2/4, 3.2/5, 3.5/2, 3.5/7
TEST_F(FramesTest, frames_above_udp_are_dropped_for_their_own_reason_by_a_receiver) {
  Node& b = nodes->b;
  const std::int64_t here = receiver().high_water;
  const auto with = [](Frame frame, auto&& change) {
    change(frame);
    return frame;
  };
  expect_drop(b, udp(to_b(), {}), LaneCounter::kDropInvalidFrame);
  expect_drop(b, udp(to_b(), Frame(7)), LaneCounter::kDropInvalidFrame);
  expect_drop(b, udp(to_b(), with(data(here), [](Frame& f) { f[4] = std::byte{1}; })), LaneCounter::kDropInvalidFrame);   // version
  expect_drop(b, udp(to_b(), with(data(here), [](Frame& f) { f[6] = std::byte{8}; })), LaneCounter::kDropInvalidFrame);   // type
  expect_drop(b, udp(to_b(), with(data(here), [](Frame& f) { f.resize(95); })), LaneCounter::kDropInvalidFrame);
  expect_drop(b, udp(to_b(), with(data(here), [](Frame& f) { store_le<std::int32_t>(f.data(), 1 << 20); })), LaneCounter::kDropInvalidFrame);
  expect_drop(b, udp(to_b(), with(data(here), [](Frame& f) { store_le<std::int32_t>(f.data(), -96); })), LaneCounter::kDropInvalidFrame);
  expect_drop(b, udp(to_b(), with(data(here), [](Frame& f) { store_le<std::int32_t>(f.data() + 8, 17); })), LaneCounter::kDropInvalidFrame);
  expect_drop(b, udp(to_b(), with(data(here), [](Frame& f) { store_le<std::int32_t>(f.data() + 8, 1 << 20); })), LaneCounter::kDropInvalidFrame);
  expect_drop(b, udp(to_b(), with(data(here), [](Frame& f) { store_le<std::int32_t>(f.data() + 20, 1); })), LaneCounter::kDropStaleTerm);
  expect_drop(b, udp(to_b(), data(here + (64 << 10))), LaneCounter::kOverRuns);
  expect_drop(b, udp(to_b(), with(data(here), [](Frame& f) { store_le<std::int32_t>(f.data() + 16, 4'711); })), LaneCounter::kDropNoInterest);
  Frame bad_setup(wire::Setup::kLength);
  wire::put_header(bad_setup.data(), wire::Setup::kLength, 0, wire::FrameType::kSetup);
  expect_drop(b, udp(to_b(), bad_setup), LaneCounter::kDropInvalidFrame);
  Frame sm(wire::StatusMessage::kLength);
  wire::build(sm.data(), wire::StatusMessage{});
  expect_drop(b, udp(to_b(), sm), LaneCounter::kDropIgnoredType);   // a receiver takes no status messages
  Frame strange = data(here);
  store_le<std::int32_t>(strange.data() + 12, 0x0BAD);              // unknown session: elicits a SETUP once, then waits
  const std::uint64_t sms = count_b(LaneCounter::kStatusMessagesSent);
  nodes->inject(b, udp(to_b(), strange));
  nodes->inject(b, udp(to_b(), strange));
  run_for(30'000);
  EXPECT_EQ(count_b(LaneCounter::kStatusMessagesSent), sms + 1);
  // None of it did any harm.
  expect_transfer(make_messages(100, 0, 2'000));
}

// proves 1.3/6, 1.6/3, 2.11/1, 2.11/2, 5.2/10
TEST_F(FramesTest, frames_above_udp_are_dropped_for_their_own_reason_by_a_sender) {
  Node& a = nodes->a;
  const auto& d = a.control.registry().publications[publication].desired;
  wire::StatusMessage sm;
  sm.session_id = d.session_id;
  sm.stream_id = d.stream_id;
  sm.consumption_term_id = d.initial_term_id;
  sm.window_length = 4'096;
  const auto status = [](const wire::StatusMessage& what) {
    Frame frame(what.length());
    wire::build(frame.data(), what);
    return frame;
  };
  auto stranger = to_a();
  stranger.source.port = 1;
  expect_drop(a, udp(stranger, status(sm)), LaneCounter::kDropUnexpectedSource);
  expect_drop(a, udp(to_a(), {}), LaneCounter::kDropInvalidFrame);
  expect_drop(a, udp(to_a(), data(0)), LaneCounter::kDropIgnoredType);
  auto unknown = sm;
  unknown.stream_id = 5;
  expect_drop(a, udp(to_a(), status(unknown)), LaneCounter::kDropUnknownStream);
  auto far = sm;
  far.consumption_term_id += 1'000;
  expect_drop(a, udp(to_a(), status(far)), LaneCounter::kStatusMessagesRejected);
  auto negative = sm;
  negative.window_length = -1;
  expect_drop(a, udp(to_a(), status(negative)), LaneCounter::kDropInvalidFrame);
  Frame cut = status(sm);
  cut.resize(30);
  expect_drop(a, udp(to_a(), cut), LaneCounter::kDropInvalidFrame);
  wire::Nak nak;
  nak.session_id = d.session_id;
  nak.stream_id = d.stream_id;
  nak.term_id = d.initial_term_id;
  nak.term_offset = 0;
  nak.length = -1;
  Frame bad_nak(wire::Nak::kLength);
  wire::build(bad_nak.data(), nak);
  expect_drop(a, udp(to_a(), bad_nak), LaneCounter::kDropInvalidFrame);
  expect_transfer(make_messages(100, 0, 2'000));
}

TEST_F(FramesTest, naks_for_nonsense_make_a_sender_send_nothing_harmful) {
  const auto& d = nodes->a.control.registry().publications[publication].desired;
  Random random{5};
  for (int i = 0; i < 2'000; ++i) {
    wire::Nak nak;
    nak.session_id = d.session_id;
    nak.stream_id = d.stream_id;
    nak.term_id = d.initial_term_id + static_cast<std::int32_t>(random.below(3)) - 1;
    nak.term_offset = static_cast<std::int32_t>(random.below(80'000)) - 4'000;
    nak.length = static_cast<std::int32_t>(random.below(200'000)) - 1'000;
    Frame frame(wire::Nak::kLength);
    wire::build(frame.data(), nak);
    nodes->inject(nodes->a, udp(to_a(), frame));
    run_for(20'000);
  }
  EXPECT_EQ(count_a(LaneCounter::kCorruptLogFrames), 0U);
  expect_transfer(make_messages(100, 0, 2'000));
}

TEST_F(FramesTest, random_bytes_are_dropped_and_the_stream_goes_on) {
  Random random{77};
  for (int i = 0; i < 5'000; ++i) {
    Frame frame = udp(i % 2 == 0 ? to_b() : to_a(), data(receiver().high_water));
    const std::uint64_t changes = 1 + random.below(8);
    // The payload only, and the headers now and then: most damaged headers end in the checksum.
    for (std::uint64_t n = 0; n < changes; ++n) {
      const std::size_t at = random.below(10) == 0 ? random.below(42) : 42 + random.below(frame.size() - 42);
      frame[at] = static_cast<std::byte>(random.next());
    }
    frame.resize(random.below(4) == 0 ? 14 + random.below(frame.size() - 14) : frame.size());
    // A frame that is still this stream's would be believed: that is what a peer may do to its own stream.
    const bool is_believable = frame.size() >= 42 + 32 && load_le<std::uint64_t>(frame.data() + 42 + 12) ==
                               load_le<std::uint64_t>(data(0).data() + 12) && i % 2 == 0;
    if (is_believable) continue;
    nodes->inject(i % 2 == 0 ? nodes->b : nodes->a, frame);
    run_for(20'000);
  }
  expect_transfer(make_messages(100, 0, 2'000));
}

TEST_F(FramesTest, a_flood_of_setups_is_bounded_by_the_pending_slots) {
  nodes->b.control.refuses_images = true;
  const std::uint64_t before = nodes->b.control.images().size();
  for (std::int32_t session = 1; session <= 1'000; ++session) {
    wire::Setup setup;
    setup.session_id = session;
    setup.stream_id = 1'001;
    setup.term_length = 64 << 10;
    setup.mtu = 1'408;
    Frame frame(wire::Setup::kLength);
    wire::build(frame.data(), setup);
    nodes->inject(nodes->b, udp(to_b(), frame));
    if (session % 32 == 0) nodes->b.plane->step(nodes->now_ns);   // without the control plane
  }
  run_for(kMillisecond_ns);
  EXPECT_GT(count_b(LaneCounter::kDropImageLimit), 500U);
  EXPECT_EQ(nodes->b.control.images().size(), before);
  nodes->b.control.refuses_images = false;
  expect_transfer(make_messages(10));
}

// ---- ARP ----

TEST_F(FramesTest, a_neighbour_that_never_answers_costs_frames_and_a_few_requests) {
  const std::uint64_t before = count_a(LaneCounter::kArpRequestsSent);
  nodes->a.control.add_publication({.remote = {TwoNodes::kAddressA + 76, 1'234}, .session_id = 9});
  wait_for(5 * kSecond_ns);
  EXPECT_GT(count_a(LaneCounter::kDropUnresolved), 10U) << "SETUPs in vain";
  const std::uint64_t requests = count_a(LaneCounter::kArpRequestsSent) - before;
  EXPECT_GE(requests, 5U);
  EXPECT_LE(requests, 30U);
  expect_transfer(make_messages(10));
}

// proves 9.3/1
TEST_F(FramesTest, an_arp_request_is_answered) {
  Frame frame(60);
  wire::build_ethernet(frame.data(), wire::kBroadcastMac, nodes->a.plane->port(0).mac(), wire::kEtherTypeArp);
  wire::build(frame.data() + 14, wire::ArpPacket{wire::ArpPacket::kRequest, nodes->a.plane->port(0).mac(), TwoNodes::kAddressA, {}, TwoNodes::kAddressB});
  auto& frames = record(nodes->a);
  nodes->inject(nodes->b, frame);
  run_for(40'000);
  ASSERT_EQ(frames.size(), 1U);
  EXPECT_EQ(frames[0].size(), 60U);
  const auto reply = wire::ArpPacket::parse(std::span{frames[0]}.subspan(14));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->operation, wire::ArpPacket::kReply);
  EXPECT_EQ(reply->sender_ip, TwoNodes::kAddressB);
  EXPECT_EQ(reply->sender_mac, nodes->b.plane->port(0).mac());
}

TEST_F(FramesTest, neighbours_are_asked_again_after_a_minute_without_disturbing_the_stream) {
  TwoNodes::Options options;
  options.step_ns = 500'000;
  make_nodes(options);
  connect();
  run_for(kSecond_ns);
  const std::uint64_t before = count_a(LaneCounter::kArpRequestsSent);
  run_for(62 * kSecond_ns);
  EXPECT_EQ(count_a(LaneCounter::kArpRequestsSent), before + 1);
  EXPECT_EQ(count_a(LaneCounter::kDropUnresolved), 0U);
  expect_transfer(make_messages(10));
}

TEST_F(FramesTest, a_stream_that_runs_for_hours_keeps_its_neighbour) {
  TwoNodes::Options options;
  options.step_ns = 5 * kMillisecond_ns;
  make_nodes(options);
  connect();
  run_for(1'900 * kSecond_ns);
  EXPECT_EQ(count_a(LaneCounter::kDropUnresolved), 0U);
  EXPECT_EQ(sender().is_connected, 1);
  expect_transfer(make_messages(10), 10 * kSecond_ns);
}

TEST_F(FramesTest, frames_follow_a_neighbour_whose_mac_changes) {
  wire::MacAddress other = nodes->b.plane->port(0).mac();
  other.bytes[5] ^= 0x7F;
  Frame frame(60);
  wire::build_ethernet(frame.data(), wire::kBroadcastMac, other, wire::kEtherTypeArp);
  wire::build(frame.data() + 14, wire::ArpPacket{wire::ArpPacket::kRequest, other, TwoNodes::kAddressB, {}, TwoNodes::kAddressB});
  nodes->inject(nodes->a, frame);   // an announcement
  run_for(20'000);
  auto& frames = record(nodes->b);
  ASSERT_TRUE(publisher().offer(bytes("x")));
  run_for(40'000);
  ASSERT_EQ(frames.size(), 1U);
  EXPECT_EQ(std::memcmp(frames[0].data(), other.bytes.data(), 6), 0);
}

// ---- ICMP ----

TEST_F(FramesTest, an_echo_is_answered_with_the_same_bytes) {
  auto& frames = record(nodes->a);
  const Frame request = echo_request(56);
  nodes->inject(nodes->b, request);
  run_for(40'000);
  ASSERT_EQ(frames.size(), 1U);
  const auto ip = wire::Ipv4View::parse(std::span{frames[0]}.subspan(14));
  ASSERT_EQ(ip.bad, wire::Ipv4View::Bad::kNone);
  EXPECT_EQ(ip.source, TwoNodes::kAddressB);
  const auto icmp = wire::IcmpView::parse(ip.payload);
  ASSERT_TRUE(icmp) << "its checksum is wrong";
  EXPECT_EQ(icmp->type, wire::kIcmpEchoReply);
  EXPECT_EQ(std::memcmp(icmp->rest.data(), request.data() + 38, 60), 0);
}

TEST_F(FramesTest, echoes_beyond_the_allowance_are_dropped) {
  const std::uint64_t before = count_b(LaneCounter::kIcmpRepliesSent);
  for (int i = 0; i < 500; ++i) {
    nodes->inject(nodes->b, echo_request(8));
    if (i % 16 == 0) run_for(20'000);
  }
  run_for(kMillisecond_ns);
  EXPECT_LE(count_b(LaneCounter::kIcmpRepliesSent) - before, 100U);
  EXPECT_GE(count_b(LaneCounter::kDropOtherProtocol), 400U);
}

// proves 9.3/7
TEST_F(FramesTest, a_datagram_nobody_listens_for_is_answered_with_port_unreachable) {
  auto nobody = to_b();
  nobody.destination.port = 9;
  const Frame frame = udp(nobody, data(0));
  auto& frames = record(nodes->a);
  nodes->inject(nodes->b, frame);
  run_for(40'000);
  ASSERT_EQ(frames.size(), 1U);
  const auto ip = wire::Ipv4View::parse(std::span{frames[0]}.subspan(14));
  const auto icmp = wire::IcmpView::parse(ip.payload);
  ASSERT_TRUE(icmp);
  EXPECT_EQ(icmp->type, wire::kIcmpUnreachable);
  EXPECT_EQ(icmp->code, 3);
  EXPECT_EQ(std::memcmp(ip.payload.data() + 8, frame.data() + 14, 28), 0) << "IP header and eight bytes of what was sent";
}

// ---- VLAN ----

TEST_F(FramesTest, a_tagged_port_speaks_to_its_vlan_only) {
  TwoNodes::Options options;
  options.vlan = 7;
  make_nodes(options);
  connect();
  auto& frames = record(nodes->b);
  expect_transfer(make_messages(500, 0, 3'000), 5 * kSecond_ns);
  ASSERT_FALSE(frames.empty());
  for (const Frame& frame : frames) {
    const auto ethernet = wire::EthernetView::parse(frame);
    ASSERT_TRUE(ethernet && ethernet->vlan);
    ASSERT_EQ(*ethernet->vlan, 7);
  }
  *nodes->b.filter = nullptr;
  expect_drop(nodes->b, udp(to_b(), data(0)), LaneCounter::kDropVlan);   // untagged
  auto other = to_b();
  other.vlan = 8;
  expect_drop(nodes->b, udp(other, data(0)), LaneCounter::kDropVlan);
}

// ---- shortage ----

TEST_F(FramesTest, a_stream_survives_a_pool_without_buffers) {
  TwoNodes::Options options;
  options.packet_buffers = 255;
  options.impair_b = {.delay_ns = 300'000, .seed = 1};   // holds buffers
  make_nodes(options);
  connect({.term_length = 1 << 20}, {.window_length = 512 << 10});
  expect_transfer(make_messages(2'000, 1'000), 20 * kSecond_ns);
}

// ---- what applications can do to a log ----

TEST_F(FramesTest, a_foreign_frame_in_a_log_ends_that_publication_and_no_other) {
  const std::uint32_t endpoint = nodes->a.control.registry().publications[publication].desired.endpoint;
  nodes->b.control.add_subscription({.local = {TwoNodes::kAddressB, kPort}, .stream_id = 2});
  const std::uint32_t victim = nodes->a.control.add_publication({.stream_id = 2, .session_id = 99, .endpoint = endpoint});
  ASSERT_TRUE(run_until([&] { return nodes->a.control.publication_state(victim).is_connected != 0; }));
  run_for(kMillisecond_ns);
  Publisher& bad = nodes->a.control.publisher(victim);
  ASSERT_TRUE(bad.offer(bytes("good")));
  run_for(kMillisecond_ns);
  Subscriber& reader = nodes->b.control.subscriber(nodes->b.control.image_links().back());
  EXPECT_EQ(reader.poll(), 1);
  // Another stream's session in the next frame, and a length beyond the term in the one after.
  std::byte* const at = bad.log().at(bad.position());
  wire::build(at, {-96, wire::flag::kUnfragmented, wire::FrameType::kData, wire::term_offset_of(bad.position(), 16), 0x5E55, 2, 100, 0});
  shm::frame_length_release(at, 96);
  run_for(kMillisecond_ns);
  EXPECT_EQ(count_a(LaneCounter::kCorruptLogFrames), 1U);
  EXPECT_EQ(nodes->a.control.publication_state(victim).is_connected, 0);
  EXPECT_EQ(reader.poll(), 0) << "the foreign frame was sent";
  expect_transfer(make_messages(500, 0, 3'000), 5 * kSecond_ns);
  EXPECT_TRUE(wait_until([&] { return nodes->a.control.publication_state(victim).lifecycle == shm::Lifecycle::kDone; }, 20 * kSecond_ns));
  EXPECT_EQ(nodes->a.plane->lane(0).publication_count(), 1U);
}

struct Scribble {
  const char* name;
  void (*write)(std::byte* frame);
};
class ScribbleTest : public FramesTest, public ::testing::WithParamInterface<Scribble> {};
TEST_P(ScribbleTest, in_a_log_ends_the_publication) {
  std::byte* const at = publisher().log().at(publisher().position());
  const auto& d = nodes->a.control.registry().publications[publication].desired;
  const int bits = wire::position_bits(d.term_length);
  wire::build(at, {0, wire::flag::kUnfragmented, wire::FrameType::kData, wire::term_offset_of(publisher().position(), bits), d.session_id,
                   d.stream_id, wire::term_id_of(publisher().position(), d.initial_term_id, bits), 0});
  shm::frame_length_release(at, 96);
  GetParam().write(at);
  const std::int64_t before = sender().sender_position;
  run_for(kMillisecond_ns);
  EXPECT_EQ(count_a(LaneCounter::kCorruptLogFrames), 1U);
  EXPECT_EQ(sender().sender_position, before);
  EXPECT_EQ(sender().is_connected, 0);
}
INSTANTIATE_TEST_SUITE_P(
    a_scribble, ScribbleTest,
    ::testing::Values(Scribble{"session", [](std::byte* f) { store_le<std::int32_t>(f + 12, 1); }},
                      Scribble{"stream", [](std::byte* f) { store_le<std::int32_t>(f + 16, 1); }},
                      Scribble{"term", [](std::byte* f) { store_le<std::int32_t>(f + 20, 1); }},
                      Scribble{"offset", [](std::byte* f) { store_le<std::int32_t>(f + 8, 32); }},
                      Scribble{"type", [](std::byte* f) { f[6] = std::byte{5}; }},
                      Scribble{"version", [](std::byte* f) { f[4] = std::byte{1}; }},
                      Scribble{"short_length", [](std::byte* f) { store_le<std::int32_t>(f, 31); }},
                      Scribble{"longer_than_mtu", [](std::byte* f) { store_le<std::int32_t>(f, 4'096); }},
                      Scribble{"longer_than_term", [](std::byte* f) { store_le<std::int32_t>(f, 1 << 20); }},
                      Scribble{"largest_length", [](std::byte* f) { store_le<std::int32_t>(f, 0x7FFFFFFF); }}),
    [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace thalweg::test
