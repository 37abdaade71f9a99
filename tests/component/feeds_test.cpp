// A/B feeds from end to end: an unmodified application subscribes to one channel and gets a stream that two senders bring by two ways. Real
// clients, conductors and data planes on a switch, with simulated time.
#include <gtest/gtest.h>

#include "controlplane/conductor/feed_service.hpp"
#include "tests/support/lab.hpp"
#include "tests/support/two_nodes.hpp"

namespace thalweg::test {
namespace {

using conductor::FeedCounter;
using shm::LaneCounter;

constexpr std::int32_t kStream = 1001;
constexpr std::size_t kReceiver = 2;     // node; the senders are 0 and 1
const std::string kChannel = "aeron:udp?endpoint=10.0.0.3:40000";
const std::string kSide[2] = {"aeron:udp?endpoint=10.0.0.3:40001", "aeron:udp?endpoint=10.0.0.3:40002"};
const std::string kSameStream = "|session-id=7|init-term-id=3|term-id=3|term-offset=0|term-length=1m";
constexpr std::int64_t kHold_ns = 2 * kMillisecond_ns;
constexpr std::int64_t kSideTimeout_ns = kSecond_ns;

std::vector<std::string> make_messages(std::size_t count, std::size_t first = 0) {
  std::vector<std::string> all;
  for (std::size_t i = first; i < first + count; ++i) {
    std::string text = std::to_string(i) + " ";
    text.resize(text.size() + i * 37 % 1200, static_cast<char>('a' + i % 26));
    all.push_back(std::move(text));
  }
  return all;
}

class Feeds : public ::testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure() && lab) std::fprintf(stderr, "%sreceived %zu messages\n", lab->errors().c_str(), received.size());
    subscription = {};
    for (auto& publication : sides) publication = {};
    reader.reset();
    for (auto& client : clients) client.reset();
  }
  void make(const pmd::ImpairmentOptions& impairment = {}) {
    lab = std::make_unique<Lab>(Lab::Options{.nodes = 3, .impairment = impairment, .adjust = [](Appliance::Options& options, std::size_t node) {
      if (node == kReceiver) options.settings.feeds = {{"prices", kChannel, kSide[0], kSide[1], kHold_ns, kSideTimeout_ns}};
    }});
  }
  void subscribe() {
    client::Context context;
    context.on_unavailable_image = [this](const std::shared_ptr<client::Image>&) { ++lost_images; };
    reader = lab->connect(kReceiver, context);
    const std::int64_t limit_ns = lab->now_ns + 10 * kSecond_ns;   // one that is closing says so
    auto subscribed = reader->add_subscription(kChannel, kStream);
    while (!subscribed && subscribed.error().message.find("try again") != std::string::npos && lab->now_ns < limit_ns) {
      lab->run_for(10 * kMillisecond_ns);
      subscribed = reader->add_subscription(kChannel, kStream);
    }
    ASSERT_TRUE(subscribed) << subscribed.error().message;
    subscription = std::move(*subscribed);
  }
  void publish(std::size_t side) {
    clients[side] = lab->connect(side);
    auto published = clients[side]->add_exclusive_publication(kSide[side] + kSameStream, kStream);
    ASSERT_TRUE(published) << published.error().message;
    sides[side] = std::move(*published);
  }
  void connect_both(const pmd::ImpairmentOptions& impairment = {}) {
    make(impairment);
    subscribe();
    publish(0);
    publish(1);
    ASSERT_TRUE(lab->run_until([this] { return sides[0].is_connected() && sides[1].is_connected() && transports() == 2; }, 5 * kSecond_ns));
  }
  // Offers them on each side that is there, `lag_ns` later on the second, until `wanted` have arrived in all.
  bool transfer(const std::vector<std::string>& messages, std::size_t wanted, std::int64_t lag_ns = 0, std::int64_t limit_ns = 60 * kSecond_ns) {
    std::array<std::size_t, 2> offered{};
    std::vector<std::int64_t> sent_ns(messages.size());
    return lab->run_until(
        [&] {
          for (std::size_t side = 0; side < 2; ++side) {
            while (sides[side] && offered[side] < messages.size()) {
              const std::size_t next = offered[side];
              const bool is_early = side == 1 && sides[0] && (next >= offered[0] || lab->now_ns < sent_ns[next] + lag_ns);
              if (is_early || !sides[side].offer(std::as_bytes(std::span{messages[next]}))) break;
              if (side == 0) sent_ns[next] = lab->now_ns;
              ++offered[side];
            }
          }
          poll();
          const bool is_sent = (!sides[0] || offered[0] == messages.size()) && (!sides[1] || offered[1] == messages.size());
          return is_sent && received.size() >= wanted;
        },
        limit_ns);
  }
  void poll() { subscription.poll(assembler, 20); }
  [[nodiscard]] std::int32_t transports() const {
    return subscription.images().empty() ? 0 : subscription.images().front()->active_transport_count();
  }
  [[nodiscard]] std::int64_t figure(FeedCounter counter, std::size_t side) {
    std::int64_t value = -1;
    reader->counters().for_each([&](const shm::CountersReader::View& view) {
      const bool is_it = view.type_id == conductor::kFeedCounterType + static_cast<std::int32_t>(counter) && view.reference_id == static_cast<std::int64_t>(side);
      if (is_it) value = view.value;
    });
    return value;
  }
  [[nodiscard]] std::size_t error_count(std::string_view part) {
    std::size_t count = 0;
    reader->read_errors([&](const shm::ErrorLogEntry& entry) {
      if (entry.text.find(part) != std::string_view::npos) count += static_cast<std::size_t>(entry.observation_count);
    });
    return count;
  }

  std::unique_ptr<Lab> lab;
  std::array<std::shared_ptr<client::Client>, 2> clients;
  std::array<client::ExclusivePublication, 2> sides;
  std::shared_ptr<client::Client> reader;
  client::Subscription subscription;
  std::vector<std::string> received;
  std::function<void(std::span<const std::byte>, const client::Header&)> keep = [this](std::span<const std::byte> bytes, const client::Header&) {
    received.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  client::FragmentAssembler<std::function<void(std::span<const std::byte>, const client::Header&)>> assembler{keep};
  int lost_images{};
};

TEST_F(Feeds, a_plain_subscription_gets_each_message_once_and_the_figures_say_who_was_first) {
  connect_both();
  const auto messages = make_messages(300);
  constexpr std::int64_t kLag_ns = 300 * kMicrosecond_ns;
  ASSERT_TRUE(transfer(messages, messages.size(), kLag_ns));
  lab->run_for(150 * kMillisecond_ns);
  poll();
  EXPECT_EQ(received, messages);
  EXPECT_EQ(lab->count(kReceiver, LaneCounter::kNaksSent), 0U);
  EXPECT_EQ(lab->count(kReceiver, LaneCounter::kUnderRuns), 0U);
  EXPECT_GE(figure(FeedCounter::kFramesWon, 0), 100) << "a is ahead by 300 us";
  EXPECT_GE(figure(FeedCounter::kCopies, 1), 100);
  EXPECT_GE(figure(FeedCounter::kLateMean, 1), kLag_ns / 2);
  EXPECT_GE(figure(FeedCounter::kLateMax, 1), kLag_ns);
  EXPECT_LT(figure(FeedCounter::kFramesWon, 1), 20);
  EXPECT_GT(figure(FeedCounter::kBytesWon, 0), 0);
  EXPECT_EQ(figure(FeedCounter::kSilent, 0), 0);
  EXPECT_EQ(figure(FeedCounter::kSilent, 1), 0);
  EXPECT_EQ(error_count("feed prices"), 0U);
}

TEST_F(Feeds, what_one_side_loses_the_other_brings_and_nobody_is_asked) {
  connect_both();
  // Every seventh datagram of a and every seventh other one of b never arrive: no position is lost on both.
  std::array<int, 2> seen{};
  lab->drop(kReceiver, [&seen](std::span<const std::byte> frame) {
    constexpr std::size_t kUdp = 34, kPayload = 42;
    if (frame.size() < kPayload + 32 || frame[23] != std::byte{17}) return false;
    const std::uint16_t port = load_be16(frame.data() + kUdp + 2);
    const bool is_data = load_le<std::uint16_t>(frame.data() + kPayload + 6) == 1 && load_le<std::int32_t>(frame.data() + kPayload) > 32;
    if (!is_data || (port != 40'001 && port != 40'002)) return false;
    const std::int32_t offset = load_le<std::int32_t>(frame.data() + kPayload + 8);
    const std::uint32_t mix = static_cast<std::uint32_t>(offset / 32) * 2'654'435'761U >> 16;
    const std::size_t side = port - 40'001U;
    const bool is_lost = mix % 7 == side;
    seen[side] += is_lost ? 1 : 0;
    return is_lost;
  });
  const auto messages = make_messages(500);
  ASSERT_TRUE(transfer(messages, messages.size(), 200 * kMicrosecond_ns));
  EXPECT_EQ(received, messages);
  EXPECT_GT(seen[0], 20);
  EXPECT_GT(seen[1], 20);
  EXPECT_EQ(lab->count(kReceiver, LaneCounter::kNaksSent), 0U) << "the other side had it";
  lab->run_for(150 * kMillisecond_ns);
  EXPECT_GT(figure(FeedCounter::kFills, 1), 10);
}

TEST_F(Feeds, what_both_sides_lose_is_asked_for_and_nothing_is_missing) {
  pmd::ImpairmentOptions impairment;
  impairment.loss_ppm = 100'000;
  impairment.seed = 5;
  connect_both(impairment);
  const auto messages = make_messages(800);
  ASSERT_TRUE(transfer(messages, messages.size(), 100 * kMicrosecond_ns));
  EXPECT_EQ(received, messages);
  EXPECT_GT(lab->count(kReceiver, LaneCounter::kNaksSent), 0U);
  // One in a hundred is lost on both, ten in a hundred on each: without the hold each of those would be asked for, on both connections.
  EXPECT_LT(lab->count(kReceiver, LaneCounter::kNaksSent), 160U);
}

TEST_F(Feeds, a_side_that_dies_is_reported_costs_nothing_and_is_welcome_back) {
  connect_both();
  ASSERT_TRUE(transfer(make_messages(100), 100));
  lab->drop(kReceiver, [](std::span<const std::byte> frame) { return frame.size() > 42 && frame[23] == std::byte{17} && load_be16(frame.data() + 36) == 40'001; });
  std::size_t offered = 100;
  const auto go_on = [&](std::int64_t duration_ns) {
    const auto more = make_messages(100, offered);
    offered += 100;
    std::size_t at[2]{};
    const std::int64_t end = lab->now_ns + duration_ns;
    ASSERT_TRUE(lab->run_until(
        [&] {
          for (std::size_t side = 0; side < 2; ++side) {
            while (at[side] < more.size() && sides[side].offer(std::as_bytes(std::span{more[at[side]]}))) ++at[side];
          }
          poll();
          return lab->now_ns >= end && received.size() == offered;
        },
        duration_ns + 10 * kSecond_ns));
  };
  go_on(3 * kSecond_ns);
  EXPECT_EQ(error_count("feed prices: side a is silent while side b delivers"), 1U);
  EXPECT_EQ(figure(FeedCounter::kSilent, 0), 1);
  EXPECT_EQ(figure(FeedCounter::kSilent, 1), 0);
  EXPECT_EQ(lost_images, 0);
  lab->drop(kReceiver, {});
  go_on(3 * kSecond_ns);
  EXPECT_EQ(error_count("feed prices: side a is back"), 1U);
  EXPECT_EQ(error_count("feed prices: side a is silent"), 1U);
  EXPECT_EQ(figure(FeedCounter::kSilent, 0), 0);
  EXPECT_EQ(received, make_messages(300));
}

TEST_F(Feeds, the_end_of_a_stream_does_not_wait_for_a_dead_side) {
  connect_both();
  ASSERT_TRUE(transfer(make_messages(50), 50));
  lab->drop(kReceiver, [](std::span<const std::byte> frame) { return frame.size() > 42 && frame[23] == std::byte{17} && load_be16(frame.data() + 36) == 40'001; });
  lab->run_for(2 * kSecond_ns);
  sides[1] = {};
  EXPECT_TRUE(lab->run_until([this] { return lost_images == 1; }, 8 * kSecond_ns, kMillisecond_ns)) << "before the liveness timeout";
}

// What b brings is what a brought, when that has ended.
TEST_F(Feeds, a_side_that_is_late_brings_nothing_of_a_stream_that_has_ended) {
  make();
  subscribe();
  publish(0);
  ASSERT_TRUE(lab->run_until([this] { return sides[0].is_connected() && transports() == 1; }, 5 * kSecond_ns));
  const auto messages = make_messages(50);
  ASSERT_TRUE(transfer(messages, messages.size()));
  sides[0] = {};
  ASSERT_TRUE(lab->run_until([this] { return lost_images == 1; }, 8 * kSecond_ns));
  publish(1);
  EXPECT_FALSE(transfer(messages, 2 * messages.size(), 0, 2 * kSecond_ns)) << "the same messages again";
  EXPECT_EQ(received, messages);
  EXPECT_GT(lab->count(kReceiver, LaneCounter::kDropLateSide), 10U);
  // A begins anew under the same session: nobody has to wait for that.
  sides[1] = {};
  auto published = clients[0]->add_exclusive_publication(kSide[0] + "|session-id=7|init-term-id=4|term-id=4|term-offset=0|term-length=1m", kStream);
  ASSERT_TRUE(published) << published.error().message;
  sides[0] = std::move(*published);
  ASSERT_TRUE(lab->run_until([this] { return sides[0].is_connected(); }, 2 * kSecond_ns));
  EXPECT_TRUE(transfer(messages, 2 * messages.size()));
}

TEST_F(Feeds, without_counters_for_its_figures_a_stream_goes_on_and_that_is_told_once) {
  make();
  subscribe();
  conductor::World& world = lab->node(kReceiver).control->world();
  constexpr std::size_t kLeft = 12;   // for the image and its subscriber, not for the figures of two sides
  std::vector<std::int32_t> taken;
  for (std::int32_t id = 0; id >= 0;) {
    id = world.allocate_counter({.type_id = 2000});
    if (id >= 0) taken.push_back(id);
  }
  for (std::size_t i = 0; i < kLeft; ++i) {
    world.free_counter(taken.back());
    taken.pop_back();
  }
  lab->run_for(3 * kSecond_ns);   // until they may be used again
  publish(0);
  publish(1);
  ASSERT_TRUE(lab->run_until([this] { return sides[0].is_connected() && sides[1].is_connected(); }, 5 * kSecond_ns));
  ASSERT_TRUE(transfer(make_messages(100), 100));
  lab->run_for(5 * kSecond_ns);
  EXPECT_EQ(figure(FeedCounter::kFramesWon, 0), -1);
  EXPECT_EQ(error_count("feed prices: its figures are not published"), 1U);
  EXPECT_EQ(lost_images, 0);
  for (const std::int32_t id : taken) world.free_counter(id);
  EXPECT_TRUE(lab->run_until([this] { return figure(FeedCounter::kFramesWon, 0) > 0; }, 60 * kSecond_ns, kMillisecond_ns));
}

TEST_F(Feeds, its_sides_are_open_while_somebody_subscribes) {
  make();
  subscribe();
  ASSERT_TRUE(lab->run_until([this] { return subscription.local_addresses().size() == 2; }, 5 * kSecond_ns));
  const auto added = reader->add_destination(subscription, "aeron:udp?endpoint=10.0.0.3:40009");
  ASSERT_FALSE(added);
  EXPECT_NE(added.error().message.find("feed"), std::string::npos) << added.error().message;
  subscription.close();
  const auto open = [this] {
    std::size_t count = 0;
    reader->counters().for_each([&](const shm::CountersReader::View& view) { count += view.type_id == shm::counter_type::kLocalSockaddr ? 1 : 0; });
    return count;
  };
  EXPECT_TRUE(lab->run_until([&] { return open() == 0; }, 20 * kSecond_ns, kMillisecond_ns));
  subscribe();
  EXPECT_TRUE(lab->run_until([&] { return open() == 2; }, 5 * kSecond_ns));
}

TEST_F(Feeds, both_sides_are_heard_again_after_restarts_of_either_process) {
  connect_both();
  std::size_t sent = 0;
  for (int round = 0; round < 4; ++round) {
    ASSERT_TRUE(transfer(make_messages(100, sent), sent + 100)) << round;
    sent += 100;
    if (round % 2 == 0) {
      lab->restart_data_plane(kReceiver);
    } else {
      lab->node(kReceiver).restart_control_plane();
    }
  }
  EXPECT_EQ(received, make_messages(sent));
  EXPECT_EQ(lost_images, 0);
  lab->run_for(2 * kSideTimeout_ns);
  EXPECT_EQ(transports(), 2);
  EXPECT_EQ(error_count("silent"), 0U);
  sides[0] = {};
  sides[1] = {};
  subscription.close();
  EXPECT_TRUE(lab->run_until([this] { return lab->node(kReceiver).control->world().endpoints.used().empty(); }, 60 * kSecond_ns, kMillisecond_ns));
  EXPECT_EQ(figure(FeedCounter::kSilent, 0), -1) << "no counter of an image is left";
}

TEST_F(Feeds, its_figures_go_with_the_image) {
  connect_both();
  lab->run_for(150 * kMillisecond_ns);
  EXPECT_EQ(figure(FeedCounter::kSilent, 0), 0);
  sides[0] = {};
  sides[1] = {};
  ASSERT_TRUE(lab->run_until([this] { return lost_images == 1; }, 20 * kSecond_ns, kMillisecond_ns));
  EXPECT_TRUE(lab->run_until([this] { return figure(FeedCounter::kSilent, 0) == -1; }, 30 * kSecond_ns, kMillisecond_ns));
}

}  // namespace
}  // namespace thalweg::test

int main(int argc, char** argv) { return thalweg::test::run_tests_with_eal(argc, argv); }
