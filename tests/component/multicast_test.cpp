// Multicast from end to end: real clients, conductors and data planes on a switch that snoops IGMP, with simulated time.
#include <gtest/gtest.h>

#include "tests/support/lab.hpp"
#include "tests/support/two_nodes.hpp"

namespace thalweg::test {
namespace {

using shm::LaneCounter;

constexpr std::int32_t kStream = 1001;
constexpr std::uint32_t kGroup = 0xE00A0901;    // 224.10.9.1
constexpr std::uint32_t kControl = 0xE00A0902;
const std::string kChannel = "aeron:udp?endpoint=224.10.9.1:40456|interface=10.0.0.0/24";

std::string text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

std::vector<std::string> make_messages(std::size_t count, std::size_t first = 0) {
  std::vector<std::string> all;
  for (std::size_t i = first; i < first + count; ++i) {
    std::string text = std::to_string(i) + " ";
    text.resize(text.size() + i * 37 % 3000, static_cast<char>('a' + i % 26));
    all.push_back(std::move(text));
  }
  return all;
}

// A subscriber with all it received.
struct Receiver {
  std::shared_ptr<client::Client> client;
  client::Subscription subscription;
  std::vector<std::string> received;
  std::unique_ptr<client::FragmentAssembler<std::function<void(std::span<const std::byte>, const client::Header&)>>> assembler;
  int lost_images{};

  void poll() { subscription.poll(*assembler, 20); }
};

class Multicast : public ::testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure() && lab) {
      std::fprintf(stderr, "%sconnected: publication %d", lab->errors().c_str(), publication && publication.is_connected());
      for (const auto& r : receivers) std::fprintf(stderr, ", receiver %d with %zu messages", r->subscription && r->subscription.is_connected(), r->received.size());
      std::fprintf(stderr, "\n");
    }
    receivers.clear();
    publication = {};
    publish.reset();
  }
  void make(std::size_t nodes, const pmd::ImpairmentOptions& impairment = {}) { lab = std::make_unique<Lab>(Lab::Options{.nodes = nodes, .impairment = impairment, .adjust = {}}); }
  Receiver& receive(std::size_t node, const std::string& channel = kChannel) {
    auto& r = *receivers.emplace_back(std::make_unique<Receiver>());
    client::Context context;
    context.on_unavailable_image = [&r](const std::shared_ptr<client::Image>&) { ++r.lost_images; };
    r.client = lab->connect(node, context);
    auto subscribed = r.client->add_subscription(channel, kStream);
    EXPECT_TRUE(subscribed) << subscribed.error().message;
    if (subscribed) r.subscription = std::move(*subscribed);
    r.assembler = std::make_unique<client::FragmentAssembler<std::function<void(std::span<const std::byte>, const client::Header&)>>>(
        [&r](std::span<const std::byte> message, const client::Header&) { r.received.push_back(text_of(message)); });
    return r;
  }
  void publish_on(std::size_t node, const std::string& channel = kChannel) {
    publish = lab->connect(node);
    auto published = publish->add_publication(channel, kStream);
    ASSERT_TRUE(published) << published.error().message;
    publication = std::move(*published);
  }
  bool connect() {
    return lab->run_until(
        [&] {
          return publication.is_connected() && std::all_of(receivers.begin(), receivers.end(), [](const auto& r) { return r->subscription.is_connected(); });
        },
        5 * kSecond_ns);
  }
  bool transfer(const std::vector<std::string>& messages, std::int64_t limit_ns = 20 * kSecond_ns) {
    std::size_t offered = 0;
    std::vector<std::size_t> wanted;
    for (const auto& r : receivers) wanted.push_back(r->received.size() + messages.size());
    return lab->run_until(
        [&] {
          while (offered < messages.size() && publication.offer(std::as_bytes(std::span{messages[offered]}))) ++offered;
          bool is_done = true;
          for (std::size_t i = 0; i < receivers.size(); ++i) {
            receivers[i]->poll();
            is_done &= receivers[i]->received.size() >= wanted[i];
          }
          return is_done;
        },
        limit_ns);
  }

  std::unique_ptr<Lab> lab;
  std::shared_ptr<client::Client> publish;
  client::Publication publication;
  std::vector<std::unique_ptr<Receiver>> receivers;
};

// proves 3.3/3, 3.4/12, 5.2/5, 5.2/6, 5.3/2, 5.3/3
// proves 9.3/4
TEST_F(Multicast, three_receivers_get_every_message_in_order) {
  make(4);
  for (std::size_t i = 1; i < 4; ++i) receive(i);
  publish_on(0);
  ASSERT_TRUE(connect());
  const auto messages = make_messages(500);
  ASSERT_TRUE(transfer(messages));
  for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
  for (std::size_t i = 1; i < 4; ++i) {
    EXPECT_TRUE(lab->ethernet->is_member(kGroup, i));
    EXPECT_FALSE(lab->ethernet->is_member(kControl, i)) << "receivers speak to the control group, they do not listen to it";
    EXPECT_EQ(lab->ethernet->forwarded(kControl, i), 0U);
  }
  EXPECT_TRUE(lab->ethernet->is_member(kControl, 0));
  EXPECT_FALSE(lab->ethernet->is_member(kGroup, 0));
  EXPECT_GT(lab->ethernet->forwarded(kControl, 0), 0U);
}

TEST_F(Multicast, losses_of_each_receiver_are_repaired_for_all) {
  pmd::ImpairmentOptions impairment;
  impairment.loss_ppm = 50'000;
  impairment.seed = 7;
  make(4, impairment);
  for (std::size_t i = 1; i < 4; ++i) receive(i);
  publish_on(0, kChannel + "|fc=min,g:/3");  // nobody is left behind
  ASSERT_TRUE(connect());
  const auto messages = make_messages(300);
  ASSERT_TRUE(transfer(messages, 60 * kSecond_ns));
  for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
  EXPECT_GT(lab->count(0, LaneCounter::kRetransmitsSent), 0U);
}

TEST_F(Multicast, a_late_joiner_starts_where_the_stream_is_and_disturbs_nobody) {
  make(3);
  receive(1);
  publish_on(0);
  ASSERT_TRUE(connect());
  ASSERT_TRUE(transfer(make_messages(50)));
  Receiver& late = receive(2);
  ASSERT_TRUE(connect());
  const auto more = make_messages(50, 50);
  ASSERT_TRUE(transfer(more));
  EXPECT_EQ(late.received, more);
  EXPECT_EQ(receivers[0]->received, make_messages(100));
}

TEST_F(Multicast, who_leaves_gets_nothing_more_and_the_others_go_on) {
  make(3);
  receive(1);
  Receiver& leaver = receive(2);
  publish_on(0);
  ASSERT_TRUE(connect());
  ASSERT_TRUE(transfer(make_messages(50)));
  leaver.subscription.close();
  ASSERT_TRUE(lab->run_until([&] { return !lab->ethernet->is_member(kGroup, 2); }, 30 * kSecond_ns, kMillisecond_ns));
  receivers.pop_back();
  const std::size_t before = lab->ethernet->forwarded(kGroup, 2);
  ASSERT_TRUE(transfer(make_messages(50, 50)));
  EXPECT_EQ(receivers[0]->received, make_messages(100));
  EXPECT_EQ(lab->ethernet->forwarded(kGroup, 2), before);
}

// proves 5.3/4
TEST_F(Multicast, a_publisher_and_a_receiver_of_one_appliance_hear_each_other_and_the_others_hear_them) {
  make(2);
  receive(0);
  receive(1);
  publish_on(0);
  ASSERT_TRUE(connect());
  const auto messages = make_messages(200);
  ASSERT_TRUE(transfer(messages));
  for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
  EXPECT_GT(lab->count(0, LaneCounter::kFramesLooped), 200U);
  EXPECT_EQ(lab->count(0, LaneCounter::kNaksSent), 0U);
  EXPECT_LT(lab->count(0, LaneCounter::kUnderRuns), 10U) << "no frame arrives twice";
}

TEST_F(Multicast, every_sample_works_on_localhost) {
  const auto without_address = [](Appliance::Options& options, std::size_t) { options.ports[1].address = options.ports[1].prefix_length = 0; };
  lab = std::make_unique<Lab>(Lab::Options{.nodes = 1, .impairment = {}, .adjust = without_address});
  const std::string channel = "aeron:udp?endpoint=224.20.30.39:" + std::to_string(free_udp_port()) + "|interface=localhost";
  receive(0, channel);
  receive(0, channel);
  publish_on(0, channel);
  ASSERT_TRUE(connect());
  const auto messages = make_messages(200);
  ASSERT_TRUE(transfer(messages));
  for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
  EXPECT_LT(lab->count(0, LaneCounter::kUnderRuns), 10U);
  EXPECT_GT(lab->count(0, LaneCounter::kDropOwnFrame), 0U) << "what comes back through the kernel is recognised";
}

TEST_F(Multicast, a_switch_that_asks_is_told_again) {
  make(2);
  receive(1);
  publish_on(0);
  ASSERT_TRUE(connect());
  rte_mempool* const pool = lab->cables()->pool;
  lab->ethernet->query(pool, 10);
  EXPECT_FALSE(lab->ethernet->is_member(kGroup, 1));
  EXPECT_TRUE(lab->run_until([&] { return lab->ethernet->is_member(kGroup, 1) && lab->ethernet->is_member(kControl, 0); }, 1'100 * kMillisecond_ns));
  lab->ethernet->query(pool, 10, true);
  EXPECT_TRUE(lab->run_until([&] { return lab->ethernet->is_member(kGroup, 1) && lab->ethernet->is_member(kControl, 0); }, 1'100 * kMillisecond_ns));
  ASSERT_TRUE(transfer(make_messages(20)));
}

TEST_F(Multicast, subscriptions_on_different_interfaces_are_different_streams) {
  make(2);
  receive(0);
  Receiver& local = receive(0, "aeron:udp?endpoint=224.10.9.1:40456|interface=127.0.0.1");
  publish_on(1);
  ASSERT_TRUE(lab->run_until([&] { return publication.is_connected() && receivers[0]->subscription.is_connected(); }, 5 * kSecond_ns));
  for (const auto& message : make_messages(20)) ASSERT_TRUE(publication.offer(std::as_bytes(std::span{message})));
  ASSERT_TRUE(lab->run_until([&] { return receivers[0]->poll(), receivers[0]->received.size() == 20; }, kSecond_ns));
  local.poll();
  EXPECT_FALSE(local.subscription.is_connected());
}

TEST_F(Multicast, a_restarted_data_plane_joins_again) {
  make(2);
  receive(1);
  publish_on(0);
  ASSERT_TRUE(connect());
  ASSERT_TRUE(transfer(make_messages(20)));
  lab->node(1).kill_data_plane();
  lab->node(1).start_data_plane();
  lab->ethernet->query(lab->cables()->pool, 1);
  ASSERT_TRUE(transfer(make_messages(50, 20)));
  EXPECT_EQ(receivers[0]->received, make_messages(70));
}

// proves 9.3/9
TEST_F(Multicast, frames_live_for_one_hop_or_as_long_as_the_channel_says) {
  make(2);
  receive(1);
  publish_on(0);
  ASSERT_TRUE(connect());
  EXPECT_EQ(lab->ethernet->ttl(kGroup), 1);
  EXPECT_EQ(lab->ethernet->ttl(kControl), 1);
  publication = {};
  publish_on(0, "aeron:udp?endpoint=224.10.9.3:40456|interface=10.0.0.0/24|ttl=7");
  receive(1, "aeron:udp?endpoint=224.10.9.3:40456|interface=10.0.0.0/24|ttl=300");
  ASSERT_TRUE(lab->run_until([&] { return publication.is_connected(); }, 5 * kSecond_ns));
  EXPECT_EQ(lab->ethernet->ttl(0xE00A0903), 7);
  EXPECT_EQ(lab->ethernet->ttl(0xE00A0904), 255) << "what is larger counts as 255";
}

// proves 5.3/1
TEST_F(Multicast, bad_channels_are_refused_by_name_and_value) {
  make(1);
  const auto client = lab->connect(0);
  const auto refusal = [&](const std::string& channel) {
    const auto result = client->add_subscription(channel, kStream);
    return result ? std::string{"accepted"} : result.error().message;
  };
  EXPECT_NE(refusal("aeron:udp?endpoint=224.10.9.2:40456").find("endpoint=224.10.9.2:40456"), std::string::npos);
  EXPECT_NE(refusal("aeron:udp?endpoint=224.10.9.2:40456").find("odd"), std::string::npos);
  EXPECT_NE(refusal("aeron:udp?endpoint=224.10.9.1:0").find("port"), std::string::npos);
  const std::string nowhere = refusal("aeron:udp?endpoint=224.10.9.1:40456|interface=192.0.2.77");
  EXPECT_NE(nowhere.find("interface=192.0.2.77/32"), std::string::npos) << nowhere;
  EXPECT_NE(refusal("aeron:udp?endpoint=224.10.9.1:40456|ttl=many").find("ttl"), std::string::npos);
}

}  // namespace
}  // namespace thalweg::test

int main(int argc, char** argv) { return thalweg::test::run_tests_with_eal(argc, argv); }
