// Datagrams beyond the MTU of a link: cut by one side, put together by the other, and what hostile fragments cannot do.
#include <rte_mbuf.h>

#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

class FragmentsTest : public StreamTest {
 protected:
  static constexpr std::int32_t kMtu = 8'192;   // of the stream; the cable's is 1500

  static TwoNodes::Options with_fragments() {
    TwoNodes::Options options;
    options.has_ip_fragments = true;
    return options;
  }
  void connect_beyond_the_mtu(const TwoNodes::Options& options) {
    make_nodes(options);
    connect({.mtu = kMtu});
    sizes.clear();
    *nodes->b.filter = [this](rte_mbuf* m) {
      sizes.push_back(m->pkt_len);
      return false;
    };
  }
  // A datagram of DATA as a stranger sends it, in pieces.
  [[nodiscard]] std::vector<Frame> pieces_of(std::size_t payload, std::uint16_t identification = 1) {
    const wire::UdpFrameTemplate header{{.source_mac = nodes->a.plane->port(0).mac(),
                                         .destination_mac = nodes->b.plane->port(0).mac(),
                                         .source = {TwoNodes::kAddressA, 5'555},
                                         .destination = {TwoNodes::kAddressB, kPort}}};
    Frame bytes(payload);
    wire::build(bytes.data(), wire::DataHeader{.frame_length = static_cast<std::int32_t>(payload), .session_id = 0x0BAD, .stream_id = 1001, .term_id = 5});
    std::vector<Frame> pieces;
    for (std::size_t offset = 0; offset < payload + 8; offset += 1'480) {
      const wire::Ipv4Fragment fragment{identification, offset, std::min<std::size_t>(1'480, payload + 8 - offset), offset + 1'480 < payload + 8};
      Frame frame(1'600);
      const std::size_t before = header.write_fragment(frame.data(), bytes, fragment);
      const std::size_t length = fragment.length - (offset == 0 ? 8 : 0);
      std::memcpy(frame.data() + before, bytes.data() + (offset == 0 ? 0 : offset - 8), length);
      frame.resize(before + length);
      pieces.push_back(std::move(frame));
    }
    return pieces;
  }
  void inject(const std::vector<Frame>& frames) {
    for (const Frame& frame : frames) nodes->inject(nodes->b, frame);
    run_for(50'000);
  }
  std::vector<std::size_t> sizes;   // of frames that arrived at b
};

// proves 9.3/5
TEST_F(FragmentsTest, a_stream_with_datagrams_beyond_the_mtu_crosses_in_pieces) {
  connect_beyond_the_mtu(with_fragments());
  expect_transfer(make_messages(300, 0, 7'500), 5 * kSecond_ns);
  expect_transfer(make_messages(100, 7'000, 8'000), 5 * kSecond_ns);
  EXPECT_LE(*std::max_element(sizes.begin(), sizes.end()), 1'514U);
  EXPECT_GT(count_a(LaneCounter::kFragmentsSent), 500U);
  EXPECT_EQ(count_b(LaneCounter::kFragmentsReceived), count_a(LaneCounter::kFragmentsSent));
  EXPECT_GT(count_b(LaneCounter::kDatagramsReassembled), 100U);
  EXPECT_EQ(count_b(LaneCounter::kReassembliesGivenUp), 0U);
  EXPECT_EQ(count_b(LaneCounter::kDropIpFragment) + count_b(LaneCounter::kDropBadFragment) + count_b(LaneCounter::kNaksSent), 0U);
}

// proves 9.3/5
TEST_F(FragmentsTest, the_largest_datagrams_cross_and_small_links_carry_them) {
  TwoNodes::Options options = with_fragments();
  options.mtu = 576;
  make_nodes(options);
  connect({.term_length = 1 << 20, .mtu = 65'280});
  expect_transfer(make_messages(40, 60'000, 130'000), 10 * kSecond_ns);
  EXPECT_GT(count_b(LaneCounter::kDatagramsReassembled), 40U);
}

TEST_F(FragmentsTest, a_publication_beyond_the_mtu_is_refused_where_they_are_off) {
  make_nodes();
  nodes->b.control.add_subscription({.local = {TwoNodes::kAddressB, kPort}});
  publication = nodes->a.control.add_publication({.remote = {TwoNodes::kAddressB, kPort}, .mtu = kMtu});
  const auto& slot = nodes->a.control.registry().publications[publication];
  ASSERT_TRUE(run_until([&] { return static_cast<const shm::ObservedHead&>(slot.observed).state.load() == shm::Observed::kFailed; }));
  EXPECT_STREQ(slot.observed.error.text, "mtu=8192 is more than port a carries: 1472 bytes of payload, with its mtu of 1500 and ip-fragments off");
}

TEST_F(FragmentsTest, a_tagged_port_cuts_and_puts_together_too) {
  TwoNodes::Options options = with_fragments();
  options.vlan = 7;
  connect_beyond_the_mtu(options);
  expect_transfer(make_messages(200, 0, 20'000), 5 * kSecond_ns);
  EXPECT_LE(*std::max_element(sizes.begin(), sizes.end()), 1'518U);
  EXPECT_GT(count_b(LaneCounter::kDatagramsReassembled), 100U);
}

TEST_F(FragmentsTest, lost_repeated_and_reordered_pieces_cost_repairs_and_nothing_else) {
  TwoNodes::Options options = with_fragments();
  options.impair_b = {.loss_ppm = 20'000, .duplicate_ppm = 20'000, .reorder_ppm = 50'000, .seed = 3};
  connect_beyond_the_mtu(options);
  expect_transfer(make_messages(400, 0, 20'000), 60 * kSecond_ns);
  EXPECT_GT(count_b(LaneCounter::kNaksSent), 0U);
  EXPECT_GT(count_b(LaneCounter::kDropRepeatedFragment), 0U);
  EXPECT_TRUE(run_until([this] { return count_b(LaneCounter::kReassembliesGivenUp) > 0; }));
}

TEST_F(FragmentsTest, damaged_pieces_are_found_by_the_checksum_that_every_cut_datagram_has) {
  TwoNodes::Options options = with_fragments();
  options.checksums = pmd::Checksums::kOff;
  connect_beyond_the_mtu(options);
  unsigned seen = 0;
  *nodes->b.filter = [&seen](rte_mbuf* m) {
    if (m->pkt_len > 1'000 && ++seen % 50 == 0) *rte_pktmbuf_mtod_offset(m, std::uint8_t*, 900) ^= 1;
    return false;
  };
  expect_transfer(make_messages(200, 7'000, 8'000), 10 * kSecond_ns);
  EXPECT_GT(count_b(LaneCounter::kDropBadUdpChecksum), 0U);
}

TEST_F(FragmentsTest, of_lanes_that_share_a_port_one_puts_together_what_all_of_them_get) {
  TwoNodes::Options options = with_fragments();
  options.lanes = 2;
  options.queues = 2;
  connect_beyond_the_mtu(options);
  expect_transfer(make_messages(300, 0, 20'000), 10 * kSecond_ns);
  EXPECT_GT(count_b(LaneCounter::kDatagramsReassembled), 100U);
  EXPECT_EQ(count_b(LaneCounter::kDatagramsReassembled, 1), 0U);
}

// What others send is put together whatever our own streams do.
TEST_F(FragmentsTest, a_strangers_datagram_is_answered_when_its_last_piece_is_there) {
  make_nodes(with_fragments());
  connect();
  std::vector<Frame> pieces = pieces_of(4'000);
  ASSERT_EQ(pieces.size(), 3U);
  const std::uint64_t before = count_b(LaneCounter::kStatusMessagesSent);
  inject({pieces[2], pieces[0]});
  EXPECT_EQ(count_b(LaneCounter::kDatagramsReassembled), 0U);
  inject({pieces[1]});
  EXPECT_EQ(count_b(LaneCounter::kDatagramsReassembled), 1U);
  EXPECT_EQ(count_b(LaneCounter::kStatusMessagesSent), before + 1) << "it asks for the SETUP of an unknown session";
}

TEST_F(FragmentsTest, pieces_that_contradict_each_other_or_are_not_for_us_end_in_one_counter_each) {
  make_nodes(with_fragments());
  connect();
  const auto counted = [&](const Frame& frame, LaneCounter counter) {
    const std::uint64_t before = count_b(counter);
    inject({frame});
    EXPECT_EQ(count_b(counter), before + 1);
  };
  const auto changed = [](Frame frame, auto&& change) {
    change(frame.data() + 14);
    store_be16(frame.data() + 24, 0);
    store_be16(frame.data() + 24, wire::checksum_fold(wire::checksum_add({frame.data() + 14, 20}, 0)));
    return frame;
  };
  const std::vector<Frame> pieces = pieces_of(4'000, 9);
  counted(pieces[0], LaneCounter::kFragmentsReceived);
  counted(pieces[0], LaneCounter::kDropRepeatedFragment);
  counted(changed(pieces[1], [](std::byte* ip) { store_be16(ip + 6, 0x2000 | 100); }), LaneCounter::kDropBadFragment);
  counted(changed(pieces[1], [](std::byte* ip) { store_be16(ip + 6, 0x1FFF); }), LaneCounter::kDropBadFragment);
  counted(changed(pieces[1], [](std::byte* ip) { store_be32(ip + 16, 0x0A000063); }), LaneCounter::kDropNotOurs);
  counted(changed(pieces[1], [](std::byte* ip) { store_be32(ip + 16, 0xE0000163); }), LaneCounter::kDropUnknownGroup);
  counted(changed(pieces[1], [](std::byte* ip) { ip[9] = std::byte{1}; }), LaneCounter::kDropIpFragment);
  EXPECT_TRUE(run_until([this] { return count_b(LaneCounter::kReassembliesGivenUp) == 1; }));
}

TEST_F(FragmentsTest, a_flood_of_first_pieces_does_not_stop_a_stream_that_is_cut) {
  connect_beyond_the_mtu(with_fragments());
  const Frame first = pieces_of(4'000)[0];
  std::uint16_t identification = 1'000;
  subscriber().discard();
  const std::vector<std::string> messages = make_messages(100, 7'000, 8'000);
  std::size_t offered = 0;
  ASSERT_TRUE(run_until(
      [&] {
        for (int i = 0; i < 4; ++i) {
          Frame frame = first;
          store_be16(frame.data() + 18, ++identification);
          store_be16(frame.data() + 24, 0);
          store_be16(frame.data() + 24, wire::checksum_fold(wire::checksum_add({frame.data() + 14, 20}, 0)));
          static_cast<void>(nodes->try_inject(nodes->b, frame));
        }
        while (offered < messages.size() && publisher().offer(bytes(messages[offered]))) ++offered;
        subscriber().poll();
        return subscriber().messages().size() == messages.size();
      },
      10 * kSecond_ns));
  EXPECT_EQ(subscriber().messages(), messages);
  EXPECT_GT(count_b(LaneCounter::kReassembliesGivenUp), 30U);
}

}  // namespace
}  // namespace thalweg::test
