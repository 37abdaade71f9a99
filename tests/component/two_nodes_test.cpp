// Two nodes on a patch cable in one thread with simulated time: the data path from application to application.
#include <gtest/gtest.h>

#include "tests/support/two_nodes.hpp"

namespace thalweg::test {
namespace {

using shm::LaneCounter;

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span{text}); }

std::vector<std::string> make_messages(std::size_t count, std::size_t length = 64) {
  std::vector<std::string> all;
  for (std::size_t i = 0; i < count; ++i) {
    std::string text = "message " + std::to_string(i) + " ";
    while (text.size() < length) text += static_cast<char>('a' + (i + text.size()) % 26);
    all.push_back(text);
  }
  return all;
}

class TwoNodesTest : public ::testing::Test {
 protected:
  static constexpr std::uint16_t kPort = 40123;

  void connect(std::int32_t term_length = 64 << 10, bool is_reliable = true) {
    nodes->b.control.add_subscription({.local = {TwoNodes::kAddressB, kPort}, .is_reliable = is_reliable});
    publication = nodes->a.control.add_publication({.remote = {TwoNodes::kAddressB, kPort}, .term_length = term_length});
    ASSERT_TRUE(nodes->run_until([&] { return nodes->a.control.publication_state(publication).is_connected != 0; }, kSecond_ns));
    ASSERT_EQ(nodes->b.control.images().size(), 1U);
    // Limits follow in the next turns.
    nodes->run_for(kMillisecond_ns);
  }
  Subscriber& subscriber() { return nodes->b.control.subscriber(nodes->b.control.image_links().front()); }
  Publisher& publisher() { return nodes->a.control.publisher(publication); }
  // Offers everything as fast as back-pressure allows, polling on the other side.
  bool transfer(const std::vector<std::string>& messages, std::int64_t limit_ns) {
    std::size_t offered = 0;
    const std::size_t before = subscriber().messages().size();
    return nodes->run_until(
        [&] {
          while (offered < messages.size() && publisher().offer(bytes(messages[offered]))) ++offered;
          subscriber().poll();
          return subscriber().messages().size() - before == messages.size();
        },
        limit_ns);
  }

  std::unique_ptr<TwoNodes> nodes{std::make_unique<TwoNodes>()};
  std::uint32_t publication{};
};

TEST_F(TwoNodesTest, a_message_crosses_the_cable_after_setup_and_status_message) {
  connect();
  const auto messages = make_messages(10);
  ASSERT_TRUE(transfer(messages, 50 * kMillisecond_ns));
  EXPECT_EQ(subscriber().messages(), messages);
  EXPECT_EQ(nodes->b.control.lane_counter(LaneCounter::kNaksSent), 0U);
  EXPECT_GE(nodes->b.control.lane_counter(LaneCounter::kSetupsReceived), 1U);
  EXPECT_EQ(nodes->mbufs_in_use(), 0U) << "a path leaked an mbuf";
}

}  // namespace
}  // namespace thalweg::test

int main(int argc, char** argv) { return thalweg::test::run_tests_with_eal(argc, argv); }
