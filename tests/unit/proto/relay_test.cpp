// Relays: publications that send from an image's log, which goes on without them.
#include "tests/unit/proto/proto_fixture.hpp"

namespace thalweg::proto::test {
namespace {

using shm::PublicationFlags;

constexpr std::int32_t kFrame = 1024;

class DroppingRelay : public ::testing::Test {
 protected:
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
  std::int64_t rebuilt{};
  PublicationBench p{{.flags = PublicationFlags::kSignalEos | PublicationFlags::kRelay | PublicationFlags::kDropsWhenSlow,
                      .adjust = [](shm::PublicationSlot::Wanted& d) {
                        d.source_session_id = kSession;
                        d.source_stream_id = kStream;
                        d.retransmit_limit_bytes = kTerm;
                        d.retransmit_limit_interval_ns = kSecond_ns;
                      }}};
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

}  // namespace
}  // namespace thalweg::proto::test
