#include "tests/unit/proto/proto_fixture.hpp"

#include <deque>

namespace thalweg::proto::test {
namespace {

// Both halves of a stream, joined by a link of this test's making.
TEST(Stream, messages_of_all_sizes_arrive_as_they_were_published_across_many_terms) {
  PublicationBench p;
  ImageBench i;
  std::int64_t consumed = 0;
  std::uint32_t published = 0;
  for (std::int64_t t = 0; t < 4000; ++t) {
    const std::int64_t now = kStart_ns + t * 10 * kUs;
    p.limit();
    if (p.publisher.position() < p.counters[1]) p.publisher.offer((published * 397) % 5000, static_cast<std::uint8_t>(published)), ++published;
    p.publication.send(now, p.sink);
    for (const Bytes& d : p.sink.drain()) {
      if (type_of(d) != wire::FrameType::kSetup) i.image.insert(d, 0, now);
    }
    while (consumed < i.state().rebuild_position) {
      const std::int64_t rest = std::min<std::int64_t>(i.state().rebuild_position - consumed, kTerm - consumed % kTerm);
      const std::int32_t length = shm::frame_length_acquire(i.log.view().at(consumed));
      ASSERT_GT(length, 0) << "rebuild position beyond what is there";
      ASSERT_LE(length, rest);
      const bool is_pad = type_of(Bytes(i.log.view().at(consumed), i.log.view().at(consumed) + 32)) == wire::FrameType::kPad;
      const auto shown = is_pad ? std::size_t{32} : static_cast<std::size_t>(length);
      ASSERT_EQ(std::memcmp(i.log.view().at(consumed), p.log.view().at(consumed), shown), 0) << "at " << consumed;
      consumed += wire::align_frame(length);
    }
    i.consume_all();
    i.image.duty(i.subscribers, now, [&](std::size_t) -> RecordingSink& { return i.sink; });
    for (const Bytes& d : i.sink.drain()) {
      if (const auto sm = wire::StatusMessage::parse(d)) p.publication.on_status_message(*sm, {1, 1}, now);
    }
  }
  EXPECT_GT(consumed, 10 * kTerm);
  EXPECT_EQ(i.count(shm::LaneCounter::kNaksSent), 0U);
  EXPECT_EQ(p.count(shm::LaneCounter::kCorruptLogFrames), 0U);
}

// A link of 20 us each way that loses what `is_lost` says, both ends with our repair, a subscriber that reads at once.
class RepairedStream {
 public:
  using IsLost = std::function<bool(const Bytes&)>;
  explicit RepairedStream(IsLost is_lost) : is_lost_{std::move(is_lost)} {}
  // Publishes `bytes` in frames of 1408, turn by turn; the time until the last was consumed, or the limit.
  std::int64_t run(std::int64_t bytes, std::int64_t limit_ns) {
    for (std::int64_t now = kStart_ns; now < kStart_ns + limit_ns; now += kStep_ns) {
      p_.limit();
      while (p_.publisher.position() < std::min(p_.counters[1], bytes) && p_.publisher.offer(1376)) {}
      p_.publication.send(now, p_.sink);
      deliver(p_.sink, to_image_, now, [&](const Bytes& d) {
        if (type_of(d) == wire::FrameType::kRttMeasurement) return i_.image.on_rtt_request(*wire::RttMeasurement::parse(d), i_.sink);
        if (type_of(d) != wire::FrameType::kSetup) i_.image.insert(d, 0, now);
      });
      i_.consume_all();
      i_.image.duty(i_.subscribers, now, [&](std::size_t) -> RecordingSink& { return i_.sink; });
      deliver(i_.sink, to_publication_, now, [&](const Bytes& d) {
        if (const auto sm = wire::StatusMessage::parse(d); sm && type_of(d) == wire::FrameType::kStatusMessage) {
          p_.publication.on_status_message(*sm, {1, 1}, now);
        } else if (type_of(d) == wire::FrameType::kNak) {
          p_.publication.on_nak(*wire::Nak::parse(d), now, p_.sink);
        } else if (type_of(d) == wire::FrameType::kRttMeasurement) {
          p_.publication.on_rtt_measurement(*wire::RttMeasurement::parse(d), now, p_.sink);
        }
      });
      if (i_.state().rebuild_position >= bytes) return now - kStart_ns;
    }
    return limit_ns;
  }

 private:
  static constexpr std::int64_t kStep_ns = 2 * kUs, kDelay_ns = 20 * kUs;
  using Wire = std::deque<std::pair<std::int64_t, Bytes>>;
  template <typename Take>
  void deliver(RecordingSink& from, Wire& wire, std::int64_t now, Take&& take) {
    for (Bytes& d : from.drain()) {
      if (!is_lost_(d)) wire.emplace_back(now + kDelay_ns, std::move(d));
    }
    for (; !wire.empty() && wire.front().first <= now; wire.pop_front()) take(wire.front().second);
  }
  IsLost is_lost_;
  Wire to_image_, to_publication_;
  PublicationBench p_{{.term_length = 1 << 20, .adjust = [](auto& d) { d.is_retransmit_linger_auto = 1; }}};
  ImageBench i_{{.term_length = 1 << 20, .flags = shm::ImageFlags::kReliable | shm::ImageFlags::kNakAllGaps | shm::ImageFlags::kMeasureRtt}};
};

constexpr std::int64_t kMessages = 400 * 1408;   // four windows and a bit

TEST(OurRepair, a_lost_status_message_costs_no_timer_of_200_ms) {
  const std::int64_t clean_ns = RepairedStream{[](const Bytes&) { return false; }}.run(kMessages, kSecond_ns);
  int seen = 0;
  // All of those that open the second window.
  const std::int64_t lossy_ns = RepairedStream{[&](const Bytes& d) {
    return type_of(d) == wire::FrameType::kStatusMessage && ++seen > 1 && seen < 8;
  }}.run(kMessages, kSecond_ns);
  EXPECT_GE(seen, 8);
  EXPECT_LT(lossy_ns, clean_ns + 5 * kMs);
}

TEST(OurRepair, the_last_datagram_of_a_window_is_missed_without_waiting_100_ms) {
  const std::int64_t clean_ns = RepairedStream{[](const Bytes&) { return false; }}.run(kMessages, kSecond_ns);
  bool is_lost = false;
  const std::int64_t lossy_ns = RepairedStream{[&](const Bytes& d) {
    const bool is_last = is_data(d) && !is_lost && wire::DataView{d.data()}.term_offset() == kMessages - 1408;
    is_lost = is_lost || is_last;
    return is_last;
  }}.run(kMessages, kSecond_ns);
  EXPECT_TRUE(is_lost);
  EXPECT_LT(lossy_ns, clean_ns + 2 * kMs);
}

// Loss in percent, each way, and how much longer the stream may take for it. The benchmark `goodput` says the same of whole lanes.
class OurRepairUnderLoss : public ::testing::TestWithParam<std::pair<unsigned, double>> {};
TEST_P(OurRepairUnderLoss, keeps_up) {
  const auto [percent, factor] = GetParam();
  std::uint64_t random = 88172645463325252U;
  const std::int64_t bytes = 100 * kMessages;
  const std::int64_t clean_ns = RepairedStream{[](const Bytes&) { return false; }}.run(bytes, kSecond_ns);
  const std::int64_t lossy_ns = RepairedStream{[&, percent = percent](const Bytes&) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return random % 100 < percent;
  }}.run(bytes, kSecond_ns);
  EXPECT_LT(static_cast<double>(lossy_ns), factor * static_cast<double>(clean_ns)) << clean_ns;
}
INSTANTIATE_TEST_SUITE_P(Percent, OurRepairUnderLoss, ::testing::Values(std::pair{1U, 1 / 0.9}, std::pair{5U, 1 / 0.75}, std::pair{10U, 1 / 0.6}));

}  // namespace
}  // namespace thalweg::proto::test
