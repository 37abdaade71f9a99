#include "tests/unit/proto/proto_fixture.hpp"

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

}  // namespace
}  // namespace thalweg::proto::test
