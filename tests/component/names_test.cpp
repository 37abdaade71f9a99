// Channels by name between two whole appliances: driver names told over real sockets on loopback, and streams that follow a name that moves.
#include <gtest/gtest.h>

#include "controlplane/conductor/name_service.hpp"
#include "tests/support/appliance.hpp"

namespace thalweg::test {
namespace {

constexpr std::int32_t kStream = 1001;
constexpr std::uint32_t kPlaceA = 0x7F000002, kPlaceB = 0x7F000003;  // loopback addresses: a box's own, as it were

conductor::NameSettings names_of(const std::string& name, std::uint32_t address, std::uint16_t port, const std::string& bootstrap) {
  conductor::NameSettings names;
  names.name = name;
  names.interface_address = address;
  names.interface_port = port;
  if (!bootstrap.empty()) names.bootstrap_neighbors = {bootstrap};
  return names;
}

class NamedAppliances : public ::testing::Test {
 protected:
  NamedAppliances() : both{options()} {}
  TwoAppliances::Options options() const {
    TwoAppliances::Options options;
    options.names_a = names_of("alpha", kPlaceA, port_a, "");
    options.names_b = names_of("bravo", kPlaceB, port_b, "127.0.0.2:" + std::to_string(port_a));
    return options;
  }
  [[nodiscard]] bool knows(Appliance& appliance, const std::string& name, std::uint32_t address) {
    return appliance.control->world().names->find(name) == address;
  }
  [[nodiscard]] bool carries(client::Publication& publication, client::Subscription& subscription, const std::string& text) {
    std::string received;
    bool is_offered = false;
    return both.run_until(
        [&] {
          if (!is_offered && publication.offer(std::as_bytes(std::span{text}))) is_offered = true;
          subscription.poll([&](std::span<const std::byte> bytes, const client::Header&) { received.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size()); }, 10);
          return received == text;
        },
        5 * kSecond_ns);
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "errors of a:\n%serrors of b:\n%s", both.a.errors().c_str(), both.b.errors().c_str());
  }

  std::uint16_t port_a{free_udp_port()}, port_b{free_udp_port()};
  TwoAppliances both;
};

TEST_F(NamedAppliances, find_each_other_and_a_stream_by_name_arrives) {
  ASSERT_TRUE(both.run_until([&] { return knows(both.a, "bravo", kPlaceB) && knows(both.b, "alpha", kPlaceA); }, 5 * kSecond_ns));
  const std::string channel = "aeron:udp?endpoint=bravo:" + std::to_string(free_udp_port());
  const auto at_a = both.connect(both.a), at_b = both.connect(both.b);
  auto subscription = at_b->add_subscription(channel, kStream);  // its own name: where to listen
  ASSERT_TRUE(subscription) << subscription.error().message;
  auto publication = at_a->add_publication(channel, kStream);
  ASSERT_TRUE(publication) << publication.error().message;
  ASSERT_TRUE(both.run_until([&] { return publication->is_connected() && subscription->is_connected(); }, 2 * kSecond_ns));
  EXPECT_TRUE(carries(*publication, *subscription, "to bravo"));
}

TEST_F(NamedAppliances, forget_one_that_is_gone_within_its_time_out) {
  ASSERT_TRUE(both.run_until([&] { return knows(both.a, "bravo", kPlaceB); }, 5 * kSecond_ns));
  both.b.control.reset();
  EXPECT_TRUE(both.run_until([&] { return !both.a.control->world().names->find("bravo"); }, 11 * kSecond_ns, kMillisecond_ns));
}

TEST_F(NamedAppliances, learn_everything_again_after_a_control_plane_restarted) {
  ASSERT_TRUE(both.run_until([&] { return knows(both.a, "bravo", kPlaceB); }, 5 * kSecond_ns));
  both.a.restart_control_plane();
  EXPECT_TRUE(both.run_until([&] { return knows(both.a, "bravo", kPlaceB); }, 5 * kSecond_ns));
}

// The system's word for a host changes while a stream to it runs: the publication's frames, its socket and whom it believes all follow.
// proves 5.12/2
TEST_F(NamedAppliances, a_stream_follows_a_host_that_moves) {
  std::uint32_t place = kPlaceB;
  both.a.control->world().resolve_host = [&place](const std::string&) -> Result<std::uint32_t> { return place; };
  const std::string port = std::to_string(free_udp_port());
  const auto at_a = both.connect(both.a), at_b = both.connect(both.b);
  auto first = at_b->add_subscription("aeron:udp?endpoint=127.0.0.3:" + port, kStream);
  ASSERT_TRUE(first) << first.error().message;
  auto publication = at_a->add_publication("aeron:udp?endpoint=wanderer:" + port, kStream);
  ASSERT_TRUE(publication) << publication.error().message;
  ASSERT_TRUE(both.run_until([&] { return publication->is_connected(); }, 2 * kSecond_ns));
  ASSERT_TRUE(carries(*publication, *first, "before"));

  first->close();
  place = 0x7F000004;
  auto second = at_b->add_subscription("aeron:udp?endpoint=127.0.0.4:" + port, kStream);
  ASSERT_TRUE(second) << second.error().message;
  ASSERT_TRUE(both.run_until([&] { return second->is_connected(); }, 30 * kSecond_ns, kMillisecond_ns)) << "nothing came to the new place";
  EXPECT_TRUE(carries(*publication, *second, "after"));
  EXPECT_EQ(both.a.system(shm::SystemCounter::kResolutionChanges), 1);
}

}  // namespace
}  // namespace thalweg::test
