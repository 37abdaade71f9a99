// Multi-destination subscriptions from end to end (wire-protocol 5.6): real clients, conductors and data planes on a switch. The same stream
// comes from two senders that offer the same messages under one session, as two feed handlers or two paths of one sender would bring it.
#include <gtest/gtest.h>

#include "tests/support/lab.hpp"
#include "tests/support/two_nodes.hpp"

namespace thalweg::test {
namespace {

using shm::LaneCounter;

constexpr std::int32_t kStream = 1001;
constexpr std::size_t kReceiver = 2;     // node; the senders are 0 and 1
const std::string kManual = "aeron:udp?control-mode=manual";
const std::string kSide[2] = {"aeron:udp?endpoint=10.0.0.3:40001", "aeron:udp?endpoint=10.0.0.3:40002"};
const std::string kSameStream = "|session-id=7|init-term-id=3|term-id=3|term-offset=0|term-length=64k";

std::vector<std::string> make_messages(std::size_t count, std::size_t first = 0) {
  std::vector<std::string> all;
  for (std::size_t i = first; i < first + count; ++i) {
    std::string text = std::to_string(i) + " ";
    text.resize(text.size() + i * 37 % 2000, static_cast<char>('a' + i % 26));
    all.push_back(std::move(text));
  }
  return all;
}

class Destinations : public ::testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure() && lab) std::fprintf(stderr, "%sreceived %zu messages\n", lab->errors().c_str(), received.size());
    subscription = {};
    for (auto& publication : sides) publication = {};
    local = {};
    reader.reset();
    for (auto& client : clients) client.reset();
  }
  void make(const pmd::ImpairmentOptions& impairment = {}) { lab = std::make_unique<Lab>(Lab::Options{.nodes = 3, .impairment = impairment, .adjust = {}}); }
  void subscribe(const std::string& channel = kManual) {
    client::Context context;
    context.on_unavailable_image = [this](const std::shared_ptr<client::Image>&) { ++lost_images; };
    reader = lab->connect(kReceiver, context);
    auto subscribed = reader->add_subscription(channel, kStream);
    ASSERT_TRUE(subscribed) << subscribed.error().message;
    subscription = std::move(*subscribed);
  }
  void add(const std::string& channel) {
    const auto added = reader->add_destination(subscription, channel);
    ASSERT_TRUE(added) << added.error().message;
  }
  void remove(const std::string& channel) { ASSERT_TRUE(reader->remove_destination(subscription, channel)); }
  void publish(std::size_t side, const std::string& channel) {
    clients[side] = lab->connect(side);
    auto published = clients[side]->add_exclusive_publication(channel, kStream);
    ASSERT_TRUE(published) << published.error().message;
    sides[side] = std::move(*published);
  }
  // Both sides, connected to a subscription with both destinations.
  void connect_both(const pmd::ImpairmentOptions& impairment = {}) {
    make(impairment);
    subscribe();
    for (std::size_t side = 0; side < 2; ++side) {
      add(kSide[side]);
      publish(side, kSide[side] + kSameStream);
    }
    ASSERT_TRUE(lab->run_until([this] { return sides[0].is_connected() && sides[1].is_connected() && subscription.is_connected() && transports() == 2; },
                               5 * kSecond_ns));
  }
  void poll() {
    subscription.poll(assembler, 20);
  }
  // Offers them on each side that is there until `wanted` have arrived in all.
  bool transfer(const std::vector<std::string>& messages, std::size_t wanted, std::int64_t limit_ns = 20 * kSecond_ns) {
    std::array<std::size_t, 2> offered{};
    return lab->run_until(
        [&] {
          for (std::size_t side = 0; side < 2; ++side) {
            while (sides[side] && offered[side] < messages.size() && sides[side].offer(std::as_bytes(std::span{messages[offered[side]]}))) ++offered[side];
          }
          poll();
          return received.size() >= wanted;
        },
        limit_ns);
  }
  [[nodiscard]] std::size_t image_count() const { return subscription.images().size(); }
  [[nodiscard]] std::int32_t transports() const { return image_count() == 0 ? 0 : subscription.images().front()->active_transport_count(); }
  [[nodiscard]] shm::ImageState& image() { return lab->node(kReceiver).registry().images[used_image()].observed.state; }
  [[nodiscard]] std::uint32_t used_image() {
    std::uint32_t index = 0;
    while (lab->node(kReceiver).registry().images[index].desired.state.load() == shm::Desired::kFree) ++index;
    return index;
  }

  std::unique_ptr<Lab> lab;
  std::array<std::shared_ptr<client::Client>, 3> clients;
  std::array<client::ExclusivePublication, 2> sides;
  client::Publication local;
  std::shared_ptr<client::Client> reader;
  client::Subscription subscription;
  std::vector<std::string> received;
  std::function<void(std::span<const std::byte>, const client::Header&)> keep = [this](std::span<const std::byte> bytes, const client::Header&) {
    received.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  client::FragmentAssembler<std::function<void(std::span<const std::byte>, const client::Header&)>> assembler{keep};
  int lost_images{};
};

// proves 5.2/9, 5.6/1
TEST_F(Destinations, each_one_is_an_address_that_the_subscription_listens_on) {
  make();
  subscribe();
  EXPECT_TRUE(subscription.local_addresses().empty());
  add(kSide[0]);
  add("aeron:udp?endpoint=10.0.0.3:0");
  ASSERT_TRUE(lab->run_until([this] { return subscription.local_addresses().size() == 2; }, kSecond_ns));
  const auto taken = reader->add_destination(subscription, kSide[0]);
  EXPECT_FALSE(taken) << "its port is in use";
  remove(kSide[0]);
  add(kSide[0]);
  EXPECT_TRUE(lab->run_until([this] { return subscription.local_addresses().size() == 2; }, 5 * kSecond_ns)) << "it is to be had again at once";
  remove(kSide[0]);
  EXPECT_TRUE(lab->run_until([this] { return subscription.local_addresses().size() == 1; }, 5 * kSecond_ns));
}

// proves 5.6/2, 5.6/3, 3.4/15
TEST_F(Destinations, the_same_stream_by_two_of_them_is_one_image_with_two_connections) {
  connect_both();
  EXPECT_EQ(image_count(), 1U);
  const auto messages = make_messages(400);
  ASSERT_TRUE(transfer(messages, messages.size()));
  lab->run_for(50 * kMillisecond_ns);
  poll();
  EXPECT_EQ(received, messages) << "each message once, whatever side was first";
  EXPECT_EQ(image().connections[0].is_used + image().connections[1].is_used, 2);
  EXPECT_NE(image().connections[0].control_address, image().connections[1].control_address) << "status messages go to both senders";
  EXPECT_EQ(lab->count(kReceiver, LaneCounter::kNaksSent), 0U);
  EXPECT_EQ(lab->count(kReceiver, LaneCounter::kUnderRuns), 0U) << "a copy is no under run";
  lab->run_for(6 * kSecond_ns);
  EXPECT_TRUE(sides[0].is_connected() && sides[1].is_connected());
}

// proves 3.4/15
TEST_F(Destinations, a_stream_that_comes_by_one_more_adds_a_connection) {
  make();
  subscribe();
  add(kSide[0]);
  publish(0, kSide[0] + kSameStream);
  ASSERT_TRUE(lab->run_until([this] { return subscription.is_connected() && transports() == 1; }, 5 * kSecond_ns));
  add(kSide[1]);
  publish(1, kSide[1] + kSameStream);
  ASSERT_TRUE(lab->run_until([this] { return sides[1].is_connected() && transports() == 2; }, 5 * kSecond_ns));
  EXPECT_EQ(image_count(), 1U);
}

// proves 5.6/5
TEST_F(Destinations, one_that_is_removed_ends_its_connection_and_the_stream_goes_on_by_the_other) {
  connect_both();
  const auto messages = make_messages(100);
  ASSERT_TRUE(transfer(messages, 100));
  remove(kSide[0]);
  ASSERT_TRUE(lab->run_until([this] { return transports() == 1; }, kSecond_ns));
  ASSERT_TRUE(lab->run_until([this] { return !sides[0].is_connected(); }, 20 * kSecond_ns, kMillisecond_ns)) << "no status message reaches it";
  EXPECT_TRUE(sides[1].is_connected());
  sides[0] = {};
  ASSERT_TRUE(transfer(make_messages(100, 100), 200));
  EXPECT_EQ(received, make_messages(200));
  EXPECT_EQ(lost_images, 0);
}

TEST_F(Destinations, what_two_sides_lose_is_asked_for_from_both_and_nothing_is_missing) {
  pmd::ImpairmentOptions impairment;
  impairment.loss_ppm = 50'000;
  impairment.seed = 11;
  connect_both(impairment);
  const auto messages = make_messages(500);
  ASSERT_TRUE(transfer(messages, messages.size(), 60 * kSecond_ns));
  EXPECT_EQ(received, messages);
}

// proves 3.10/2, 5.6/3
TEST_F(Destinations, the_stream_ends_when_both_have_ended) {
  connect_both();
  ASSERT_TRUE(transfer(make_messages(50), 50));
  sides[0] = {};
  lab->run_for(3 * kSecond_ns);
  EXPECT_EQ(lost_images, 0);
  EXPECT_FALSE(subscription.images().front()->is_end_of_stream());
  sides[1] = {};
  EXPECT_TRUE(lab->run_until([this] { return lost_images == 1; }, 8 * kSecond_ns, kMillisecond_ns)) << "before the liveness timeout";
}

// proves 5.6/6
TEST_F(Destinations, one_that_is_silent_for_the_liveness_timeout_is_no_active_transport) {
  connect_both();
  sides[0] = {};
  ASSERT_TRUE(lab->run_until([this] { return transports() == 1; }, 30 * kSecond_ns, kMillisecond_ns));
  EXPECT_EQ(lost_images, 0);
  EXPECT_EQ(image_count(), 1U);
}

// proves 5.6/7
TEST_F(Destinations, network_ipc_and_spy_sources_are_images_side_by_side) {
  make();
  subscribe();
  clients[2] = lab->connect(kReceiver);
  auto ipc = clients[2]->add_publication("aeron:ipc", kStream);
  ASSERT_TRUE(ipc) << ipc.error().message;
  local = std::move(*ipc);
  auto spied = clients[2]->add_exclusive_publication("aeron:udp?endpoint=10.0.0.1:45000", kStream);
  ASSERT_TRUE(spied) << spied.error().message;
  add("aeron:ipc");
  add("aeron-spy:aeron:udp?endpoint=10.0.0.1:45000");
  add(kSide[0]);
  publish(0, kSide[0]);
  ASSERT_TRUE(lab->run_until([this] { return image_count() == 3; }, 5 * kSecond_ns)) << image_count();
  ASSERT_TRUE(local.offer(std::as_bytes(std::span{std::string_view{"by ipc"}})));
  ASSERT_TRUE(lab->run_until([this] { return static_cast<bool>(sides[0].offer(std::as_bytes(std::span{std::string_view{"by udp"}}))); }, 5 * kSecond_ns));
  ASSERT_TRUE(lab->run_until([this] { poll(); return received.size() == 2; }, 5 * kSecond_ns));
  remove("aeron:ipc");
  EXPECT_TRUE(lab->run_until([this] { return image_count() == 2 && lost_images == 1; }, 5 * kSecond_ns));
  remove("aeron-spy:aeron:udp?endpoint=10.0.0.1:45000");
  EXPECT_TRUE(lab->run_until([this] { return image_count() == 1 && lost_images == 2; }, 5 * kSecond_ns));
}

TEST_F(Destinations, multicast_and_unicast_destinations_feed_one_image) {
  make();
  subscribe();
  const std::string group = "aeron:udp?endpoint=224.10.9.1:40456|interface=10.0.0.0/24";
  add(kSide[0]);
  add(group);
  publish(0, kSide[0] + kSameStream);
  publish(1, group + kSameStream);
  ASSERT_TRUE(lab->run_until([this] { return sides[0].is_connected() && sides[1].is_connected() && transports() == 2; }, 5 * kSecond_ns));
  const auto messages = make_messages(200);
  ASSERT_TRUE(transfer(messages, messages.size()));
  EXPECT_EQ(received, messages);
  remove(group);
  EXPECT_TRUE(lab->run_until([this] { return !lab->ethernet->is_member(0xE00A0901, kReceiver); }, 5 * kSecond_ns));
}

// proves 5.6/4
TEST_F(Destinations, one_with_a_control_address_registers_itself_there_every_second) {
  make();
  subscribe();
  publish(0, "aeron:udp?control=10.0.0.1:40010|control-mode=dynamic");
  lab->run_for(kSecond_ns);
  EXPECT_FALSE(sides[0].is_connected()) << "nobody is known to it yet";
  add("aeron:udp?endpoint=10.0.0.3:40001|control=10.0.0.1:40010");
  ASSERT_TRUE(lab->run_until([this] { return sides[0].is_connected() && subscription.is_connected(); }, 5 * kSecond_ns));
  const auto messages = make_messages(50);
  ASSERT_TRUE(transfer(messages, messages.size()));
  EXPECT_EQ(received, messages);
  // Longer than a destination is remembered without a word from it: the registration goes on beside the status messages.
  const std::uint64_t before = lab->count(kReceiver, LaneCounter::kStatusMessagesSent);
  lab->run_for(10 * kSecond_ns);
  EXPECT_GE(lab->count(kReceiver, LaneCounter::kStatusMessagesSent) - before, 59U) << "five a second of the image, one of the destination";
  EXPECT_TRUE(sides[0].is_connected());
}

TEST_F(Destinations, a_subscription_with_an_address_of_its_own_and_one_with_destinations_stay_apart) {
  make();
  const std::string plain = "aeron:udp?endpoint=10.0.0.3:40009";
  clients[2] = lab->connect(kReceiver);
  auto other = clients[2]->add_subscription(plain, kStream);
  ASSERT_TRUE(other) << other.error().message;
  subscribe(plain + "|control-mode=manual");
  add(kSide[0]);
  publish(0, kSide[0] + kSameStream);
  publish(1, plain + kSameStream);
  ASSERT_TRUE(lab->run_until([&] { return sides[0].is_connected() && sides[1].is_connected() && subscription.is_connected() && other->is_connected(); },
                             5 * kSecond_ns));
  EXPECT_EQ(transports(), 1);
  ASSERT_TRUE(transfer(make_messages(50), 50));
  EXPECT_EQ(received, make_messages(50));
}

TEST_F(Destinations, the_fifth_that_brings_a_stream_is_heard_once_another_leaves) {
  make();
  const std::string group = "aeron:udp?endpoint=224.10.9.1:40456|interface=10.0.0.0/24";
  clients[1] = lab->connect(1);
  auto witness = clients[1]->add_subscription(group, kStream);   // for its sake the sender goes on to the group
  ASSERT_TRUE(witness) << witness.error().message;
  subscribe();
  clients[0] = lab->connect(0);
  std::vector<client::ExclusivePublication> four;
  std::vector<std::string> channels;
  for (int i = 0; i < 4; ++i) {
    channels.push_back("aeron:udp?endpoint=10.0.0.3:4010" + std::to_string(i));
    add(channels.back());
    auto published = clients[0]->add_exclusive_publication(channels.back() + kSameStream, kStream);
    ASSERT_TRUE(published) << published.error().message;
    four.push_back(std::move(*published));
  }
  ASSERT_TRUE(lab->run_until([&] { return transports() == 4; }, 5 * kSecond_ns));
  add(group);
  auto published = clients[0]->add_exclusive_publication(group + kSameStream, kStream);
  ASSERT_TRUE(published) << published.error().message;
  sides[0] = std::move(*published);
  ASSERT_TRUE(lab->run_until([&] { return sides[0].is_connected() && witness->is_connected(); }, 5 * kSecond_ns));
  lab->run_for(kSecond_ns);   // its heartbeats come
  ASSERT_EQ(transports(), 4);
  remove(channels[0]);
  EXPECT_TRUE(lab->run_until([this] { return transports() == 3; }, kSecond_ns));
  EXPECT_TRUE(lab->run_until([this] { return transports() == 4; }, kSecond_ns)) << "there is room for the group now";
}

TEST_F(Destinations, all_of_them_are_there_again_after_restarts_of_either_process) {
  connect_both();
  clients[2] = lab->connect(kReceiver);
  auto ipc = clients[2]->add_publication("aeron:ipc", kStream);
  ASSERT_TRUE(ipc) << ipc.error().message;
  local = std::move(*ipc);
  add("aeron:ipc");
  ASSERT_TRUE(lab->run_until([this] { return image_count() == 2; }, 5 * kSecond_ns));
  std::size_t sent = 0;
  for (int round = 0; round < 4; ++round) {
    ASSERT_TRUE(transfer(make_messages(100, sent), sent + 100)) << round;
    sent += 100;
    if (round % 2 == 0) {
      lab->restart_data_plane(kReceiver);
    } else {
      lab->node(kReceiver).restart_control_plane();
    }
    ASSERT_TRUE(lab->run_until([this] { return image_count() == 2 && image().connections[0].is_used + image().connections[1].is_used == 2; }, kSecond_ns)) << round;
  }
  EXPECT_EQ(received, make_messages(sent));
  EXPECT_EQ(lost_images, 0);
  remove(kSide[0]);
  remove("aeron:ipc");
  ASSERT_TRUE(lab->run_until([this] { return image_count() == 1 && transports() == 1; }, 5 * kSecond_ns));
  subscription.close();
  EXPECT_TRUE(lab->run_until([this] { return lab->node(kReceiver).control->world().endpoints.used().empty(); }, 30 * kSecond_ns, kMillisecond_ns));
}

TEST_F(Destinations, who_takes_the_address_of_one_that_goes_need_not_try_twice) {
  make();
  subscribe();
  add(kSide[0]);
  remove(kSide[0]);
  auto plain = reader->add_subscription(kSide[0], kStream);
  ASSERT_TRUE(plain) << plain.error().message;
  plain->close();
  const auto again = reader->add_destination(subscription, kSide[0]);
  EXPECT_TRUE(again) << again.error().message;
}

}  // namespace
}  // namespace thalweg::test

int main(int argc, char** argv) { return thalweg::test::run_tests_with_eal(argc, argv); }
