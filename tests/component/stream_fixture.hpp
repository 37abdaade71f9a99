#pragma once
#include <gtest/gtest.h>

#include <map>

#include "dataplane/base/random.hpp"
#include "tests/support/two_nodes.hpp"

// One stream from node a to node b, from application to application.
namespace thalweg::test {

using shm::LaneCounter;

inline std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span{text}); }

// `count` messages of `least` to `most` bytes, all different, the same for the same seed.
std::vector<std::string> make_messages(std::size_t count, std::size_t least, std::size_t most, std::uint64_t seed = 1);
inline std::vector<std::string> make_messages(std::size_t count, std::size_t length = 64) { return make_messages(count, length, length); }

using Frame = std::vector<std::byte>;
// Ethernet, IPv4 and UDP around a payload, at least as long as Ethernet wants it.
[[nodiscard]] Frame udp(const wire::UdpFrameTemplate::Options& options, const Frame& payload);

class StreamTest : public ::testing::Test {
 protected:
  static constexpr std::uint16_t kPort = 40123;

  ~StreamTest() override;
  void make_nodes(const TwoNodes::Options& options = {}) { nodes = std::make_unique<TwoNodes>(options); }
  // Adds a subscription on b and a publication on a and waits until they are connected and the limit has opened. The addresses are ours.
  void connect(FakeControl::PublicationOptions p = {}, FakeControl::SubscriptionOptions s = {});

  Publisher& publisher() { return nodes->a.control.publisher(publication); }
  Subscriber& subscriber() { return nodes->b.control.subscriber(nodes->b.control.image_links().front()); }
  shm::PublicationState& sender() { return nodes->a.control.publication_state(publication); }
  shm::ImageState& receiver() { return nodes->b.control.image_state(nodes->b.control.images().front()); }
  [[nodiscard]] std::uint64_t count_a(LaneCounter counter, std::uint32_t lane = 0) { return nodes->a.control.lane_counter(counter, lane); }
  [[nodiscard]] std::uint64_t count_b(LaneCounter counter, std::uint32_t lane = 0) { return nodes->b.control.lane_counter(counter, lane); }

  // Offers as fast as back-pressure allows, polling on the other side; true when all of `messages` arrived within `limit_ns`. What
  // arrived is left in subscriber().messages().
  bool transfer(const std::vector<std::string>& messages, std::int64_t limit_ns = kSecond_ns);
  // The same, and it must arrive equal and in order.
  void expect_transfer(const std::vector<std::string>& messages, std::int64_t limit_ns = kSecond_ns);
  template <typename Predicate>
  bool run_until(Predicate&& predicate, std::int64_t limit_ns = kSecond_ns) {
    return nodes->run_until(std::forward<Predicate>(predicate), limit_ns);
  }
  void run_for(std::int64_t duration_ns) { nodes->run_for(duration_ns); }
  // The same for time-outs of seconds, in longer steps.
  template <typename Predicate>
  bool wait_until(Predicate&& predicate, std::int64_t limit_ns) {
    return nodes->run_until(std::forward<Predicate>(predicate), limit_ns, TwoNodes::kLongStep_ns);
  }
  void wait_for(std::int64_t duration_ns) { nodes->run_for(duration_ns, TwoNodes::kLongStep_ns); }

  std::unique_ptr<TwoNodes> nodes;
  std::uint32_t publication{};
};

}  // namespace thalweg::test
