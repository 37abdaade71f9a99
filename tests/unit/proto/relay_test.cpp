// Relays: publications that send from an image's log, which goes on without them.
#include "tests/unit/proto/proto_fixture.hpp"

namespace thalweg::proto::test {
namespace {

using shm::LaneCounter;
using shm::PublicationFlags;

constexpr std::int32_t kFrame = 1024;

class RelayBench : public ::testing::Test {
 protected:
  explicit RelayBench(std::uint32_t more_flags) : flags{PublicationFlags::kSignalEos | PublicationFlags::kRelay | more_flags} {}
  // What the image received up to there.
  void receive(std::int64_t to) {
    for (; rebuilt < to; rebuilt += kFrame) {
      wire::DataHeader header;
      header.frame_length = kFrame;
      header.session_id = kSession;
      header.stream_id = kStream;
      const Position position = p.at(rebuilt);
      header.term_id = position.term_id;
      header.term_offset = position.term_offset;
      wire::build(p.log.view().at(rebuilt), header);
      p.publication.follow(rebuilt + kFrame);
    }
  }
  std::uint32_t flags;
  std::int64_t rebuilt{};
  PublicationBench p{{.flags = flags,
                      .adjust = [](shm::PublicationSlot::Wanted& d) {
                        d.source_session_id = kSession;
                        d.source_stream_id = kStream;
                        d.retransmit_limit_bytes = kTerm;
                        d.retransmit_limit_interval_ns = kSecond_ns;
                      }}};
};
class DroppingRelay : public RelayBench {
 protected:
  DroppingRelay() : RelayBench{PublicationFlags::kDropsWhenSlow} {}
};
// One that waits for whoever is behind it.
class WaitingRelay : public RelayBench {
 protected:
  WaitingRelay() : RelayBench{0} {}
};

TEST_F(DroppingRelay, pads_what_was_sent_before_a_skip_and_is_gone_from_the_log) {
  p.status(0, 0, 4 * kFrame);
  receive(8 * kFrame);
  EXPECT_EQ(p.send(kMs).size(), 4U);
  receive(2 * kTerm);
  EXPECT_EQ(p.nak(2 * kMs, 0, kFrame), (Lines{"data@0+1024"})) << "it is still there";
  receive(4 * kTerm);
  const std::vector<Bytes> sent = p.nak_sends(20 * kMs, kFrame, 3 * kFrame);
  ASSERT_EQ(sent.size(), 1U);
  const wire::DataView pad{sent[0].data()};
  EXPECT_EQ(pad.type(), wire::FrameType::kPad);
  EXPECT_EQ(pad.term_offset(), kFrame);
  EXPECT_EQ(pad.frame_length(), 3 * kFrame);
  EXPECT_EQ(p.state().retransmit_interval_bytes, kFrame + wire::kDataHeaderLength) << "what is sent again counts against the limit";
}

TEST_F(DroppingRelay, pads_what_it_skips_term_by_term_as_the_window_allows) {
  p.status(0, 0, 4 * kFrame);
  receive(8 * kFrame);
  EXPECT_EQ(p.send(kMs).size(), 4U);
  receive(2 * kTerm);
  std::int64_t t = 2 * kMs;
  for (const std::int64_t end : {4 * kFrame + kTerm / 2, kTerm, kTerm + kTerm / 2, 2 * kTerm}) {
    const std::int64_t from = p.state().sender_position;
    p.status(t, from, kTerm / 2);
    const std::vector<Bytes> sent = p.send(t);
    ASSERT_EQ(sent.size(), 1U);
    EXPECT_EQ(wire::DataView{sent[0].data()}.type(), wire::FrameType::kPad);
    EXPECT_EQ(wire::DataView{sent[0].data()}.frame_length(), end - from);
    EXPECT_EQ(p.state().sender_position, end);
    t += kMs;
  }
}

// ---- who joins while it moves on ----

TEST_F(WaitingRelay, a_receiver_that_begins_where_a_setup_said_gets_padding_up_to_where_the_relay_is) {
  receive(2 * kFrame);
  ASSERT_EQ(describe(p.send(0)), (Lines{"setup@0"}));
  receive(3 * kTerm);
  ASSERT_GT(p.state().sender_position, 2 * kTerm) << "nobody is there to wait for";
  const std::int64_t moved_to = p.state().sender_position;
  p.status(50 * kMs, 0, kTerm / 2);
  EXPECT_TRUE(p.state().is_connected);
  std::int64_t t = 50 * kMs;
  for (std::int64_t from = 0; from < moved_to; t += kMs) {
    p.status(t, from, kTerm / 2);
    const std::vector<Bytes> sent = p.send(t);
    ASSERT_GE(sent.size(), 1U) << from;
    const wire::DataView pad{sent[0].data()};
    ASSERT_EQ(pad.type(), wire::FrameType::kPad);
    ASSERT_EQ(pad.term_offset(), wire::term_offset_of(from, 16));
    ASSERT_LE(pad.frame_length(), kTerm / 2);
    from += pad.frame_length();
  }
  p.status(t, moved_to, kTerm / 2);
  EXPECT_EQ(describe(p.send(t)).at(0), "data@" + std::to_string(wire::term_offset_of(moved_to, 16)) + "+1024");
}

TEST_F(WaitingRelay, what_such_a_receiver_missed_of_the_padding_is_sent_again) {
  receive(2 * kFrame);
  p.send(0);
  receive(3 * kTerm);
  p.status(50 * kMs, 0, kTerm / 2);
  ASSERT_EQ(p.send(51 * kMs).size(), 1U);
  EXPECT_EQ(p.nak(52 * kMs, 0, kTerm / 2), (Lines{"pad@0+32768"}));
}

TEST_F(WaitingRelay, keeps_the_promise_of_each_setup_of_the_last_second_and_of_no_older_one) {
  receive(2 * kFrame);
  p.send(0);
  std::int64_t t = 0;
  const std::int64_t oldest = p.state().sender_position;
  while (t < 3 * kSecond_ns) {
    t += 101 * kMs;
    receive(rebuilt + 2 * kTerm);
    p.send(t);
  }
  const std::int64_t latest = p.state().sender_position;
  p.status(t, oldest, kTerm / 2);
  EXPECT_FALSE(p.state().is_connected) << "three seconds old";
  EXPECT_EQ(p.state().sender_position, latest);
  p.status(t, latest - 8 * 2 * kTerm, kTerm / 2);
  EXPECT_TRUE(p.state().is_connected) << "eight tenths of a second old";
}

TEST_F(WaitingRelay, with_a_receiver_it_owes_others_nothing) {
  receive(2 * kFrame);
  p.send(0);
  receive(3 * kTerm);
  const std::int64_t position = p.state().sender_position;
  p.status(kMs, position, kTerm / 2, 0, 1);
  p.status(2 * kMs, 0, kTerm / 2, 0, 2);
  EXPECT_EQ(p.state().sender_position, position);
  EXPECT_EQ(p.count(LaneCounter::kStatusMessagesRejected), 1U);
}

TEST_F(WaitingRelay, who_leaves_is_owed_nothing_either) {
  receive(2 * kFrame);
  p.send(0);
  receive(3 * kTerm);
  const std::int64_t position = p.state().sender_position;
  p.status(kMs, 0, kTerm / 2, wire::flag::kSmEndOfStream);
  EXPECT_EQ(p.state().sender_position, position);
  EXPECT_FALSE(p.state().is_connected);
}

}  // namespace
}  // namespace thalweg::proto::test
