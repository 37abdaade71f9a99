// Timestamps in frames (wire-protocol 5.11).
#include "dataplane/proto/timestamp.hpp"

#include "tests/unit/proto/proto_fixture.hpp"

namespace thalweg::proto::test {
namespace {

constexpr std::int64_t kTime_ns = 1'700'000'000'123'456'789;
constexpr auto kReserved = shm::kReservedValueTimestamp;

std::int64_t word_at(const Bytes& d, std::size_t at) { return load_le<std::int64_t>(d.data() + at); }

// proves 5.11/1
TEST(Timestamp, lies_at_its_offset_of_the_payload_or_in_the_reserved_value) {
  Bytes d = data_frame({7, 0}, 64);
  const Bytes before = d;
  stamp_sent(d, 16, kTime_ns);
  EXPECT_EQ(word_at(d, 48), kTime_ns);
  store_le(d.data() + 48, word_at(before, 48));
  EXPECT_EQ(d, before) << "nothing else was touched";
  stamp_sent(d, kReserved, kTime_ns);
  EXPECT_EQ(word_at(d, 24), kTime_ns);
}

// proves 5.11/1
TEST(Timestamp, is_left_out_where_the_payload_is_too_short) {
  Bytes d = data_frame({7, 0}, 23);
  const Bytes before = d;
  stamp_sent(d, 16, kTime_ns);
  EXPECT_EQ(d, before) << "7 bytes are left";
  Bytes fits = data_frame({7, 0}, 24);
  stamp_sent(fits, 16, kTime_ns);
  EXPECT_EQ(word_at(fits, 48), kTime_ns);
}

// proves 5.11/2
TEST(Timestamp, of_the_sender_goes_into_the_first_frame_of_a_datagram_and_not_into_padding_and_heartbeats) {
  const Bytes frame = data_frame({7, 0}, 32);
  Bytes two = join({frame, data_frame({7, 64}, 32)});
  stamp_sent(two, 0, kTime_ns);
  EXPECT_EQ(word_at(two, 32), kTime_ns);
  EXPECT_NE(word_at(two, 64 + 32), kTime_ns);
  Bytes fragment = data_frame({7, 0}, 32, 0xAB, 0);
  stamp_sent(fragment, 0, kTime_ns);
  EXPECT_EQ(word_at(fragment, 32), kTime_ns) << "a fragment in the middle, too";
  for (Bytes other : {pad_frame({7, 0}, 96), heartbeat({7, 0})}) {
    const Bytes before = other;
    stamp_sent(other, kReserved, kTime_ns);
    EXPECT_EQ(other, before);
  }
}

// proves 5.11/3
TEST(Timestamp, of_the_receiver_goes_into_each_frame_that_begins_a_message) {
  Bytes d = join({data_frame({7, 0}, 32), data_frame({7, 64}, 32, 0xAB, wire::flag::kEnd), data_frame({7, 128}, 32, 0xAB, wire::flag::kBegin), pad_frame({7, 192}, 64)});
  stamp_received(d, 8, kTime_ns);
  EXPECT_EQ(word_at(d, 40), kTime_ns);
  EXPECT_NE(word_at(d, 64 + 40), kTime_ns);
  EXPECT_EQ(word_at(d, 128 + 40), kTime_ns);
}

TEST(Timestamp, of_the_receiver_stops_at_what_is_not_there) {
  for (const std::int32_t length : {0, -1, 31, 65, 1 << 30}) {
    Bytes d = data_frame({7, 0}, 32);
    store_le(d.data(), length);
    const Bytes before = d;
    stamp_received(d, 0, kTime_ns);
    EXPECT_EQ(d, before) << length;
  }
  Bytes cut = data_frame({7, 0}, 32);
  cut.resize(20);
  stamp_received(cut, kReserved, kTime_ns);
}

}  // namespace
}  // namespace thalweg::proto::test
