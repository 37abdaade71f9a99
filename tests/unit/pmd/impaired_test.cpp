#include "pmd/decorators/impaired.hpp"

#include <algorithm>

#include "tests/unit/pmd/eal_environment.hpp"

namespace thalweg::pmd::test {
namespace {

constexpr wire::UdpEndpoint kLeft{0x0A000001, 40001};
constexpr wire::UdpEndpoint kRight{0x0A000002, 40002};

class Impaired : public PortTest {
 protected:
  void connect(const ImpairmentOptions& impairment) {
    left_.reset();
    right_.reset();
    PortOptions left{.name = "left", .kind = shm::PortKind::kPatch};
    left.peer = "right";
    PortOptions right{.name = "right", .kind = shm::PortKind::kPatch};
    right.peer = "left";
    right.impairment = impairment;
    left_ = make(left);
    right_ = make(right);
  }
  void TearDown() override {
    left_.reset();
    right_.reset();
    PortTest::TearDown();
  }
  // Sends numbered frames through the impaired port, eight a turn of one microsecond; what arrived, in order, after everything drained.
  std::vector<std::string> pass(int count) {
    std::vector<std::string> arrived;
    for (int i = 0; i < count; ++i) {
      EXPECT_TRUE(send(*left_, frame(kLeft, kRight, std::to_string(i))));
      if (i % 8 == 7) poll(arrived);
    }
    for (int turn = 0; turn < 2000; ++turn) poll(arrived);
    return arrived;
  }
  void poll(std::vector<std::string>& arrived) {
    right_->turn(now_ns_ += 1000);
    rte_mbuf* burst[kBurstMax];
    const std::uint16_t got = right_->rx_burst(0, burst, kBurstMax);
    for (std::uint16_t i = 0; i < got; ++i) {
      arrived.push_back(payload_of(burst[i]));
      rte_pktmbuf_free(burst[i]);
    }
  }
  static std::vector<std::string> numbers(int count) {
    std::vector<std::string> all;
    for (int i = 0; i < count; ++i) all.push_back(std::to_string(i));
    return all;
  }

  std::unique_ptr<Port> left_, right_;
  std::int64_t now_ns_{1'000'000};
};

TEST_F(Impaired, loss_is_as_frequent_as_asked_and_counted) {
  connect({.loss_ppm = 100'000});
  const auto arrived = pass(10'000);
  const std::uint64_t lost = right_->impairments().lost;
  EXPECT_EQ(arrived.size() + lost, 10'000U);
  EXPECT_NEAR(static_cast<double>(lost), 1000.0, 120.0) << "four standard deviations";
}

TEST_F(Impaired, the_same_seed_gives_the_same_outcome_and_another_seed_another) {
  const auto run = [this](std::uint64_t seed) {
    connect({.loss_ppm = 50'000, .duplicate_ppm = 50'000, .reorder_ppm = 50'000, .delay_ns = 5'000, .jitter_ns = 20'000, .seed = seed});
    now_ns_ = 1'000'000;
    return pass(2000);
  };
  const auto first = run(42);
  EXPECT_EQ(run(42), first);
  EXPECT_NE(run(43), first);
}

TEST_F(Impaired, changing_one_rate_does_not_move_the_losses) {
  const auto lost_of = [this](const ImpairmentOptions& options) {
    connect(options);
    auto arrived = pass(2000);
    std::sort(arrived.begin(), arrived.end());
    arrived.erase(std::unique(arrived.begin(), arrived.end()), arrived.end());
    return arrived;
  };
  EXPECT_EQ(lost_of({.loss_ppm = 50'000, .seed = 9}), lost_of({.loss_ppm = 50'000, .duplicate_ppm = 300'000, .reorder_ppm = 100'000, .seed = 9}));
}

// ---- loss by the type of frame ----

constexpr std::uint32_t kDataBit = 1U << 1, kNakBit = 1U << 2;

// A frame header of `type`, and a number behind it.
std::string payload(std::uint16_t type, int number) {
  std::string bytes(8, '\0');
  bytes[6] = static_cast<char>(type & 0xFF);
  bytes[7] = static_cast<char>(type >> 8);
  return bytes + std::to_string(number);
}

class FrameLoss : public Impaired {
 protected:
  // What of `count` frames of each of two types came through, in order.
  std::vector<std::string> pass_both(Port& from, int count) {
    std::vector<std::string> arrived;
    for (int i = 0; i < count; ++i) {
      EXPECT_TRUE(send(from, frame(kLeft, kRight, payload(1, i))));
      EXPECT_TRUE(send(from, frame(kLeft, kRight, payload(2, i))));
      if (i % 8 == 7) poll(arrived);
    }
    for (int turn = 0; turn < 200; ++turn) poll(arrived);
    return arrived;
  }
  static int count_of(std::uint16_t type, const std::vector<std::string>& arrived) {
    return static_cast<int>(std::count_if(arrived.begin(), arrived.end(), [type](const std::string& one) { return one[6] == static_cast<char>(type); }));
  }
};

TEST_F(FrameLoss, takes_received_frames_of_its_types_as_often_as_asked) {
  connect({.frame_losses = {{.is_sent = false, .types = kNakBit, .loss_ppm = 100'000, .seed = 3}}});
  const auto arrived = pass_both(*left_, 10'000);
  EXPECT_EQ(count_of(1, arrived), 10'000);
  EXPECT_NEAR(count_of(2, arrived), 9'000, 120) << "four standard deviations";
  EXPECT_EQ(right_->impairments().lost, 20'000U - arrived.size());
}

TEST_F(FrameLoss, takes_sent_frames_before_the_port_and_keeps_the_order) {
  connect({});
  right_.reset();
  left_.reset();
  PortOptions left{.name = "left", .kind = shm::PortKind::kPatch};
  left.peer = "right";
  left.impairment.frame_losses = {{.is_sent = true, .types = kDataBit, .loss_ppm = 500'000, .seed = 3}};
  PortOptions right{.name = "right", .kind = shm::PortKind::kPatch};
  right.peer = "left";
  left_ = make(left);
  right_ = make(right);
  const auto arrived = pass_both(*left_, 2'000);
  EXPECT_EQ(count_of(2, arrived), 2'000);
  EXPECT_NEAR(count_of(1, arrived), 1'000, 90);
  EXPECT_EQ(left_->impairments().lost, 4'000U - arrived.size());
  EXPECT_EQ(left_->statistics().tx_frames, arrived.size()) << "the port never got them";
}

TEST_F(FrameLoss, draws_for_its_own_types_only) {
  const auto lost_naks = [this](std::vector<FrameLossOptions> losses) {
    connect({.frame_losses = std::move(losses)});
    std::vector<std::string> naks;
    for (std::string& one : pass_both(*left_, 1'000)) {
      if (one[6] == 2) naks.push_back(std::move(one));
    }
    return naks;
  };
  const FrameLossOptions naks{.types = kNakBit, .loss_ppm = 200'000, .seed = 9};
  EXPECT_EQ(lost_naks({naks}), lost_naks({{.types = kDataBit, .loss_ppm = 300'000, .seed = 9}, naks}));
}

TEST_F(FrameLoss, spares_what_is_no_frame_of_the_protocol) {
  connect({.frame_losses = {{.types = ~0U, .loss_ppm = 1'000'000}}});
  std::vector<std::string> arrived;
  ASSERT_TRUE(send(*left_, frame(kLeft, kRight, "short")));
  ASSERT_TRUE(send(*left_, frame(kLeft, kRight, payload(0x4000, 0))));
  ASSERT_TRUE(send(*left_, frame(kLeft, kRight, payload(5, 0))));
  poll(arrived);
  EXPECT_EQ(arrived, (std::vector<std::string>{"short", payload(0x4000, 0)}));
}

TEST_F(FrameLoss, finds_the_type_behind_a_vlan_tag_ip_options_and_in_the_next_segment) {
  rte_mbuf* const plain = frame(kLeft, kRight, payload(3, 0));
  EXPECT_EQ(frame_type_of(plain), 3);
  rte_mbuf* const optioned = frame(kLeft, kRight, std::string(4, '\0') + payload(4, 0));
  rte_pktmbuf_mtod(optioned, std::byte*)[14] = std::byte{0x46};  // one word of options: the UDP header begins 4 bytes later
  EXPECT_EQ(frame_type_of(optioned), 4);
  store_be16(rte_pktmbuf_mtod(optioned, std::byte*) + 20, 0x0001);
  EXPECT_EQ(frame_type_of(optioned), std::nullopt) << "a later fragment";
  rte_mbuf* const tagged = frame(kLeft, kRight, payload(5, 0));
  auto* const room = reinterpret_cast<std::byte*>(rte_pktmbuf_prepend(tagged, 4));
  ASSERT_NE(room, nullptr);
  std::memmove(room, room + 4, 12);
  store_be16(room + 12, wire::kEtherTypeVlan);
  EXPECT_EQ(frame_type_of(tagged), 5);
  rte_mbuf* const head = frame(kLeft, kRight, "");
  rte_mbuf* const body = frame(kLeft, kRight, payload(6, 0));
  rte_pktmbuf_adj(body, static_cast<std::uint16_t>(wire::kUdpFrameHeaderLength));
  ASSERT_EQ(rte_pktmbuf_chain(head, body), 0);
  EXPECT_EQ(frame_type_of(head), 6);
  for (rte_mbuf* const one : {plain, optioned, tagged, head}) rte_pktmbuf_free(one);
}

TEST_F(Impaired, duplicates_arrive_twice) {
  connect({.duplicate_ppm = 1'000'000});
  EXPECT_EQ(pass(100).size(), 200U);
  EXPECT_EQ(right_->impairments().duplicated, 100U);
}

TEST_F(Impaired, a_reordered_frame_is_overtaken_and_the_last_one_does_not_stay) {
  connect({.reorder_ppm = 300'000, .seed = 5});
  const auto arrived = pass(1000);
  const auto sent = numbers(1000);
  EXPECT_TRUE(std::is_permutation(arrived.begin(), arrived.end(), sent.begin(), sent.end()));
  EXPECT_NE(arrived, sent);
  const double reordered = static_cast<double>(right_->impairments().reordered);
  EXPECT_NEAR(reordered, 1000 * 0.3 / 1.3, 60.0) << "the frame that overtakes is not held itself";
}

TEST_F(Impaired, a_lone_reordered_frame_comes_after_the_hold) {
  connect({.reorder_ppm = 1'000'000});
  ASSERT_TRUE(send(*left_, frame(kLeft, kRight, "alone")));
  std::vector<std::string> arrived;
  poll(arrived);
  EXPECT_TRUE(arrived.empty());
  now_ns_ += ImpairedPort::kReorderHold_ns;
  poll(arrived);
  EXPECT_EQ(arrived, std::vector<std::string>{"alone"});
}

TEST_F(Impaired, delay_holds_frames_until_the_lanes_clock_says_so) {
  connect({.delay_ns = 50'000});
  ASSERT_TRUE(send(*left_, frame(kLeft, kRight, "later")));
  std::vector<std::string> arrived;
  for (int turn = 0; turn < 50; ++turn) poll(arrived);
  EXPECT_TRUE(arrived.empty());
  poll(arrived);
  EXPECT_EQ(arrived, std::vector<std::string>{"later"});
  EXPECT_EQ(right_->impairments().delayed, 1U);
}

TEST_F(Impaired, jitter_alone_keeps_the_order) {
  connect({.jitter_ns = 100'000});
  EXPECT_EQ(pass(1000), numbers(1000));
}

TEST_F(Impaired, a_rate_limit_spaces_frames_by_their_length) {
  connect({.rate_bits_per_second = 80'000'000});  // 100 ns a byte
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(send(*left_, frame(kLeft, kRight, std::string(58, 'x'))));  // 100 bytes: 10 us each
  std::vector<std::string> arrived;
  poll(arrived);
  for (std::size_t k = 1; k <= 3; ++k) {
    for (int turn = 0; turn < 9; ++turn) poll(arrived);
    EXPECT_EQ(arrived.size(), k - 1);
    poll(arrived);
    EXPECT_EQ(arrived.size(), k);
  }
}

TEST_F(Impaired, a_queue_that_is_full_loses_frames_and_pushes_back_on_nobody) {
  connect({.delay_ns = 1'000'000'000});
  std::vector<std::string> arrived;
  for (std::uint32_t i = 0; i < ImpairedPort::kDelayedMax + 100; ++i) {
    ASSERT_TRUE(send(*left_, frame(kLeft, kRight, "x")));
    poll(arrived);
  }
  EXPECT_EQ(right_->impairments().lost, 100U);
}

TEST_F(Impaired, corruption_is_always_visible_to_the_checksums) {
  connect({.corrupt_ppm = 1'000'000});
  EXPECT_TRUE(right_->capabilities().is_real_wire) << "so that receivers verify";
  for (int i = 0; i < 3000; ++i) {
    ASSERT_TRUE(send(*left_, frame(kLeft, kRight, "payload that is damaged on its way")));
    right_->turn(now_ns_ += 1000);
    rte_mbuf* received = nullptr;
    ASSERT_EQ(right_->rx_burst(0, &received, 1), 1);
    const auto* const bytes = rte_pktmbuf_mtod_offset(received, const std::byte*, wire::kEthernetHeaderLength);
    const auto ip = wire::Ipv4View::parse({bytes, received->data_len - wire::kEthernetHeaderLength});
    if (ip.bad == wire::Ipv4View::Bad::kNone && ip.payload.size() >= wire::kUdpHeaderLength) {
      const bool is_intact = load_be16(ip.payload.data() + 6) == 0 || wire::udp_checksum(ip.source, ip.destination, ip.payload) == 0xFFFF;
      EXPECT_FALSE(is_intact && payload_of(received) != "payload that is damaged on its way") << i;
    }
    rte_pktmbuf_free(received);
  }
  EXPECT_EQ(right_->impairments().corrupted, 3000U);
}

TEST_F(Impaired, corruption_leaves_the_senders_bytes_alone) {
  connect({.corrupt_ppm = 1'000'000});
  rte_mbuf* const sent = frame(kLeft, kRight, "shared");
  rte_mbuf_refcnt_update(sent, 1);
  ASSERT_TRUE(send(*left_, sent));
  right_->turn(now_ns_ += 1000);
  rte_mbuf* received = nullptr;
  ASSERT_EQ(right_->rx_burst(0, &received, 1), 1);
  EXPECT_NE(received, sent);
  EXPECT_EQ(payload_of(sent), "shared");
  rte_pktmbuf_free(received);
  rte_pktmbuf_free(sent);
}

TEST_F(Impaired, nothing_is_between_when_nothing_is_impaired) {
  connect({});
  EXPECT_EQ(right_->impairments().lost, 0U);
  EXPECT_EQ(pass(100), numbers(100));
}

}  // namespace
}  // namespace thalweg::pmd::test
