// Times of departure and arrival in the frames of a stream (wire-protocol 5.11).
#include <rte_mbuf.h>

#include "pmd/arrival.hpp"
#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

class TimestampTest : public StreamTest {
 protected:
  struct Offsets {
    std::int32_t sent{shm::kNoTimestamp}, received{shm::kNoTimestamp}, media{shm::kNoTimestamp};
  };
  void connect_with(const Offsets& offsets) {
    make_nodes();
    nodes->b.control.add_subscription({.local = {TwoNodes::kAddressB, kPort}});
    auto& receive = nodes->b.control.registry().endpoints[0].desired;   // not seen yet
    receive.channel_receive_timestamp = offsets.received;
    receive.media_receive_timestamp = offsets.media;
    publication = nodes->a.control.add_publication({.remote = {TwoNodes::kAddressB, kPort}});
    nodes->a.control.registry().endpoints[0].desired.channel_send_timestamp = offsets.sent;
    ASSERT_TRUE(run_until([this] { return sender().is_connected != 0 && sender().publisher_limit > 0; }, 5 * kSecond_ns));
  }
  static std::int64_t word_of(const std::string& message, std::size_t at) {
    std::int64_t word = 0;
    std::memcpy(&word, message.data() + at, sizeof word);
    return word;
  }
  // Simulated time counts from an epoch of its own.
  [[nodiscard]] bool is_now(std::int64_t time_ns, std::int64_t since_ns) const { return time_ns >= since_ns && time_ns <= nodes->now_ns; }
};

// proves 5.11/1, 5.11/2, 5.11/3
TEST_F(TimestampTest, messages_tell_when_they_left_and_when_they_came) {
  connect_with({.sent = 8, .received = 16, .media = 24});
  const std::int64_t begin_ns = nodes->now_ns;
  const std::string text(40, 'x');
  ASSERT_TRUE(transfer({text}));
  const std::string& got = subscriber().messages().at(0);
  EXPECT_TRUE(is_now(word_of(got, 8), begin_ns));
  EXPECT_TRUE(is_now(word_of(got, 16), word_of(got, 8)));
  EXPECT_EQ(word_of(got, 24), word_of(got, 16));
  EXPECT_EQ(got.substr(0, 8) + got.substr(32), std::string(16, 'x')) << "nothing else was touched";
  EXPECT_EQ(std::memcmp(publisher().log().at(wire::kDataHeaderLength), text.data(), text.size()), 0) << "the publisher's log is its own";
}

// proves 5.11/4
TEST_F(TimestampTest, media_times_are_those_of_the_port_where_it_knows) {
  connect_with({.received = 0, .media = 8});
  constexpr std::int64_t kArrived_ns = 1'700'000'000'123'456'789;
  *nodes->b.filter = [](rte_mbuf* frame) {
    if (frame->pkt_len > 200) pmd::set_arrival(*frame, kArrived_ns);
    return false;
  };
  const std::int64_t begin_ns = nodes->now_ns;
  ASSERT_TRUE(transfer({std::string(256, 'm'), std::string(256, 'n'), std::string(64, 'o')}));
  const auto& messages = subscriber().messages();
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(word_of(messages.at(i), 8), kArrived_ns);
    EXPECT_TRUE(is_now(word_of(messages.at(i), 0), begin_ns)) << "the channel's time is the lane's";
  }
}

TEST_F(TimestampTest, a_port_that_knows_some_arrivals_leaves_the_others_to_the_lane) {
  connect_with({.media = 8});
  bool knows = false;
  *nodes->b.filter = [&](rte_mbuf* frame) {
    if (knows) pmd::set_arrival(*frame, 42);
    return false;
  };
  const std::int64_t begin_ns = nodes->now_ns;
  for (int i = 0; i < 4; ++i) {   // a datagram each
    knows = i % 2 == 0;
    ASSERT_TRUE(transfer({std::string(64, 'm')}));
    const std::int64_t time_ns = word_of(subscriber().messages().back(), 8);
    EXPECT_TRUE(knows ? time_ns == 42 : is_now(time_ns, begin_ns)) << time_ns;
  }
}

// proves 5.11/1
TEST_F(TimestampTest, the_reserved_value_takes_one_and_short_messages_none) {
  connect_with({.sent = shm::kReservedValueTimestamp, .received = 16});
  const std::int64_t begin_ns = nodes->now_ns;
  ASSERT_TRUE(transfer({std::string(20, 'y')}));
  EXPECT_EQ(subscriber().messages().at(0), std::string(20, 'y'));
  EXPECT_TRUE(is_now(load_le<std::int64_t>(subscriber().log().at(0) + 24), begin_ns));
}

// proves 5.11/2
TEST_F(TimestampTest, a_retransmit_tells_when_it_left_itself) {
  connect_with({.sent = 0, .received = 8});
  std::int64_t lost_ns = 0;
  *nodes->b.filter = [&](rte_mbuf* frame) {
    if (frame->pkt_len < 100 || lost_ns != 0) return false;
    lost_ns = nodes->now_ns;
    return true;
  };
  for (int i = 0; i < 2; ++i) {   // a datagram each
    ASSERT_TRUE(publisher().offer(bytes(std::string(64, 'z'))));
    run_for(100 * kMicrosecond_ns);
  }
  ASSERT_TRUE(run_until([this] { return subscriber().poll() >= 0 && subscriber().messages().size() == 2; }));
  ASSERT_NE(lost_ns, 0);
  EXPECT_GT(word_of(subscriber().messages().at(0), 0), word_of(subscriber().messages().at(1), 0)) << "the first one was sent again after the second";
}

TEST_F(TimestampTest, fragments_are_stamped_where_the_message_begins) {
  connect_with({.received = 0});
  const std::string text(4'000, 'f');
  ASSERT_TRUE(transfer({text}));
  const std::string& got = subscriber().messages().at(0);
  EXPECT_NE(got.substr(0, 8), text.substr(0, 8));
  EXPECT_EQ(got.substr(8), text.substr(8)) << "the others are as they were";
}

TEST_F(TimestampTest, many_messages_pass_stamped_and_in_order) {
  connect_with({.sent = 8, .received = 16});
  const auto messages = make_messages(500, 40, 3'000);
  ASSERT_TRUE(transfer(messages));
  std::int64_t last = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string& got = subscriber().messages()[i];
    ASSERT_EQ(got.size(), messages[i].size());
    ASSERT_EQ(got.substr(0, 8), messages[i].substr(0, 8));
    ASSERT_GE(word_of(got, 16), last);
    last = word_of(got, 16);
  }
}

}  // namespace
}  // namespace thalweg::test
