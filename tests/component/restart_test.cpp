// The data plane dies and comes back: streams go on where they stood (design, section 1).
#include <rte_mbuf.h>

#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

class RestartTest : public StreamTest {
 protected:
  // Transfers and restarts one or both nodes every so often; everything must arrive.
  void transfer_with_restarts(const std::vector<std::string>& messages, bool of_sender, bool of_receiver) {
    std::size_t offered = 0;
    std::size_t next_restart = messages.size() / 10;
    unsigned restarts = 0;
    for (const std::int64_t end = nodes->now_ns + 60 * kSecond_ns; nodes->now_ns < end;) {
      const bool is_done = nodes->run_until(
          [&] {
            while (offered < messages.size() && offered < next_restart + 20 && publisher().offer(bytes(messages[offered]))) ++offered;
            subscriber().poll();
            return subscriber().messages().size() >= std::min(next_restart, messages.size());
          },
          20 * kSecond_ns);
      ASSERT_TRUE(is_done) << subscriber().messages().size() << " arrived, " << restarts << " restarts";
      if (subscriber().messages().size() == messages.size()) break;
      next_restart += messages.size() / 10;
      if (of_receiver) nodes->restart(nodes->b);
      if (of_sender) nodes->restart(nodes->a);
      ++restarts;
    }
    EXPECT_EQ(subscriber().messages(), messages);
    EXPECT_GE(restarts, 8U);
    EXPECT_EQ(nodes->b.control.images().size(), 1U) << "the image did not survive";
  }
};

TEST_F(RestartTest, a_restarted_receiver_resumes_its_image_and_asks_for_what_it_missed) {
  connect();
  const auto& endpoint = nodes->b.control.registry().endpoints[0].observed;
  const std::int64_t receiver_id = endpoint.receiver_id;
  transfer_with_restarts(make_messages(1'000, 0, 3'000), false, true);
  EXPECT_EQ(endpoint.receiver_id, receiver_id);
}

// proves 9.3/3
TEST_F(RestartTest, a_restarted_sender_resumes_with_the_same_port) {
  connect();
  const auto& endpoint = nodes->a.control.registry().endpoints[0].observed;
  const std::uint16_t port = endpoint.bound_port;
  ASSERT_NE(port, 0);
  transfer_with_restarts(make_messages(1'000, 0, 3'000), true, false);
  EXPECT_EQ(endpoint.bound_port, port);
}

TEST_F(RestartTest, both_sides_restart_over_a_link_that_loses_frames) {
  TwoNodes::Options options;
  options.impair_a = {.loss_ppm = 20'000, .seed = 31};
  options.impair_b = {.loss_ppm = 50'000, .seed = 32};
  make_nodes(options);
  connect();
  transfer_with_restarts(make_messages(1'000, 0, 3'000), true, true);
}

TEST_F(RestartTest, a_half_copied_datagram_is_zeroed_and_repaired) {
  connect();
  expect_transfer(make_messages(10));
  // What a lane leaves that dies between the bytes of a datagram and the end of its copy: a frame that looks complete and is not.
  shm::ImageState& state = receiver();
  const shm::LogBuffer log = subscriber().log();
  state.insert_begin = state.high_water;
  state.insert_end = state.high_water + 96;
  std::byte* const at = log.at(state.insert_begin);
  std::memset(at, 0xEE, 96);
  shm::frame_length_release(at, 96);
  nodes->restart(nodes->b);
  run_for(kMillisecond_ns);
  for (int i = 0; i < 96; ++i) ASSERT_EQ(at[i], std::byte{0}) << i;
  EXPECT_EQ(state.insert_begin, state.insert_end);
  expect_transfer(make_messages(100, 0, 500, 9));
}

TEST_F(RestartTest, a_gap_that_was_open_is_found_again) {
  connect();
  expect_transfer(make_messages(10));
  unsigned seen = 0;
  *nodes->b.filter = [&seen](rte_mbuf* frame) { return frame->data_len > 1'000 && ++seen == 1; };
  *nodes->a.filter = [](rte_mbuf*) { return true; };  // no NAK gets through before the restart
  const auto messages = make_messages(5, 1'200, 1'300, 4);
  subscriber().discard();
  for (const std::string& message : messages) ASSERT_TRUE(publisher().offer(bytes(message)));
  run_for(kMillisecond_ns);
  ASSERT_EQ(subscriber().poll(), 0);
  ASSERT_GT(receiver().high_water, receiver().rebuild_position);
  *nodes->a.filter = nullptr;
  nodes->restart(nodes->b);
  *nodes->b.filter = nullptr;
  ASSERT_TRUE(run_until([&] {
    subscriber().poll();
    return subscriber().messages().size() == messages.size();
  }));
  EXPECT_EQ(subscriber().messages(), messages);
}

TEST_F(RestartTest, an_ipc_stream_goes_on) {
  make_nodes();
  publication = nodes->a.control.add_publication({.is_ipc = true});
  Subscriber& reader = nodes->a.control.subscriber(nodes->a.control.add_ipc_subscriber(publication));
  ASSERT_TRUE(run_until([this] { return sender().publisher_limit > 0; }));
  const auto messages = make_messages(500, 1'000);
  std::size_t offered = 0;
  for (unsigned round = 0; round < 5; ++round) {
    ASSERT_TRUE(run_until([&] {
      while (offered < messages.size() && publisher().offer(bytes(messages[offered]))) ++offered;
      reader.poll();
      return reader.messages().size() >= 100 * (round + 1);
    }));
    nodes->restart(nodes->a);
  }
  EXPECT_EQ(reader.messages(), messages);
}

TEST_F(RestartTest, a_draining_publication_ends_after_a_restart) {
  connect();
  expect_transfer(make_messages(10));
  nodes->a.control.close_publication(publication);
  run_for(kMillisecond_ns);
  nodes->restart(nodes->a);
  EXPECT_TRUE(wait_until([this] { return sender().lifecycle == shm::Lifecycle::kDone; }, 20 * kSecond_ns));
  EXPECT_TRUE(subscriber().is_end_of_stream());
}

}  // namespace
}  // namespace thalweg::test
