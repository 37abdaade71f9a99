// Publications with many destinations, from end to end (wire-protocol 5.5): real clients, conductors and data planes on a switch.
#include "tests/component/many_receivers.hpp"
#include "tests/support/two_nodes.hpp"

namespace thalweg::test {
namespace {

using shm::LaneCounter;

constexpr const char* kDynamic = "aeron:udp?control=10.0.0.1:40500|control-mode=dynamic";
constexpr std::int64_t kOnceRegistered_ns = 2'100 * kMillisecond_ns;   // asked for each second, answered with the next SETUP or heartbeat

std::uint32_t address_of(std::size_t node) { return 0x0A000001 + static_cast<std::uint32_t>(node); }

class ManyDestinations : public ManyReceivers {
 protected:
  // At the publication's control address.
  static std::string registering(std::size_t node) {
    return "aeron:udp?endpoint=10.0.0." + std::to_string(node + 1) + ":40456|control=10.0.0.1:40500|control-mode=dynamic";
  }
  [[nodiscard]] std::int64_t destination_count(std::size_t node = 0) {
    std::int64_t count = -1;
    const shm::CountersReader counters = lab->node(node).counters();
    counters.for_each([&](const shm::CountersReader::View& view) {
      if (view.type_id == shm::counter_type::kMdcDestinations) count = counters.counter(view.id).get();
    });
    return count;
  }
};

// proves 3.4/13, 5.2/4, 5.2/7
TEST_F(ManyDestinations, every_receiver_that_registers_gets_every_message) {
  make(4);
  publish_on(0, std::string{kDynamic} + "|fc=min,g:/3");   // with terms this short the fastest would leave the others behind
  for (std::size_t i = 1; i < 4; ++i) receive(i, registering(i));
  ASSERT_TRUE(connect());
  EXPECT_EQ(destination_count(), 3);
  const auto messages = make_messages(300);
  ASSERT_TRUE(transfer(messages));
  for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
  EXPECT_EQ(lab->count(0, LaneCounter::kDropUnexpectedSource), 0U);
}

TEST_F(ManyDestinations, losses_of_each_are_repaired_for_all) {
  pmd::ImpairmentOptions impairment;
  impairment.loss_ppm = 50'000;
  impairment.seed = 9;
  make(3, impairment);
  publish_on(0, std::string{kDynamic} + "|fc=min,g:/2");
  for (std::size_t i = 1; i < 3; ++i) receive(i, registering(i));
  ASSERT_TRUE(connect());
  const auto messages = make_messages(200);
  ASSERT_TRUE(transfer(messages, 60 * kSecond_ns));
  for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
  EXPECT_GT(lab->count(0, LaneCounter::kRetransmitsSent), 0U);
}

// proves 3.3/4, 5.5/6
TEST_F(ManyDestinations, a_newcomer_is_served_within_two_seconds_and_a_silent_one_gets_nothing_more) {
  make(3);
  publish_on(0, kDynamic);
  receive(1, registering(1));
  ASSERT_TRUE(connect());
  ASSERT_TRUE(transfer(make_messages(20)));
  Receiver& late = receive(2, registering(2));
  ASSERT_TRUE(lab->run_until([&] { return late.subscription.is_connected(); }, kOnceRegistered_ns));
  ASSERT_TRUE(transfer(make_messages(20, 20)));
  EXPECT_EQ(late.received, make_messages(20, 20));
  EXPECT_EQ(destination_count(), 2);
  late.subscription.close();
  lab->run_for(20 * kSecond_ns);   // its image speaks for a while
  receivers.pop_back();
  EXPECT_EQ(destination_count(), 1);
  const std::size_t before = lab->ethernet->sent_to(address_of(2));
  ASSERT_TRUE(transfer(make_messages(100, 40)));
  EXPECT_EQ(lab->ethernet->sent_to(address_of(2)), before);
  EXPECT_EQ(receivers[0]->received, make_messages(140));
}

// proves 3.3/5
TEST_F(ManyDestinations, a_subscription_to_one_session_asks_for_that) {
  make(2);
  publish_on(0, std::string{kDynamic} + "|session-id=77");
  lab->run_for(kSecond_ns);
  const std::uint64_t before = lab->count(1, LaneCounter::kStatusMessagesSent);
  Receiver& r = receive(1, registering(1) + "|session-id=77");
  ASSERT_TRUE(lab->run_until([&] { return lab->count(1, LaneCounter::kStatusMessagesSent) >= before + 2; }, kMillisecond_ns)) << "its own, and 0/0";
  ASSERT_TRUE(lab->run_until([&] { return r.subscription.is_connected(); }, 50 * kMillisecond_ns)) << "an elicited SETUP does not wait for the next interval";
}

TEST_F(ManyDestinations, a_publication_and_its_receivers_meet_on_loopback) {
  make(1);
  const std::string control = "127.0.0.1:" + std::to_string(free_udp_port());
  publish_on(0, "aeron:udp?control=" + control + "|control-mode=dynamic");
  for (int i = 0; i < 2; ++i) receive(0, "aeron:udp?endpoint=127.0.0.1:" + std::to_string(free_udp_port()) + "|control=" + control);
  ASSERT_TRUE(connect());
  const auto messages = make_messages(100);
  ASSERT_TRUE(transfer(messages));
  for (const auto& r : receivers) EXPECT_EQ(r->received, messages);
}

TEST_F(ManyDestinations, the_sender_goes_on_after_restarts_of_its_processes) {
  make(3);
  publish_on(0, std::string{kDynamic} + "|fc=min,g:/2");
  for (std::size_t i = 1; i < 3; ++i) receive(i, registering(i));
  ASSERT_TRUE(connect());
  std::size_t sent = 0;
  for (int round = 0; round < 4; ++round) {
    ASSERT_TRUE(transfer(make_messages(100, sent), 60 * kSecond_ns)) << round;
    sent += 100;
    if (round % 2 == 0) {
      lab->restart_data_plane(0);
    } else {
      lab->node(0).restart_control_plane();
    }
  }
  for (const auto& r : receivers) {
    EXPECT_EQ(r->received, make_messages(sent));
    EXPECT_EQ(r->lost_images, 0);
  }
  EXPECT_EQ(destination_count(), 2);
}

// ---- manual ----

constexpr const char* kManual = "aeron:udp?control=10.0.0.1:40500|control-mode=manual";

// proves 5.2/8, 5.5/8
TEST_F(ManyDestinations, an_application_says_where_its_publication_goes) {
  make(3);
  publish_on(0, std::string{kManual} + "|fc=min");
  for (std::size_t i = 1; i < 3; ++i) receive(i, "aeron:udp?endpoint=10.0.0." + std::to_string(i + 1) + ":40456");
  const auto first = publish->add_destination(publication, "aeron:udp?endpoint=10.0.0.2:40456");
  ASSERT_TRUE(first) << first.error().message;
  ASSERT_TRUE(publish->add_destination(publication, "aeron:udp?endpoint=10.0.0.3:40456"));
  ASSERT_TRUE(connect());
  EXPECT_EQ(destination_count(), 2);
  ASSERT_TRUE(transfer(make_messages(200)));
  for (const auto& r : receivers) EXPECT_EQ(r->received, make_messages(200));

  ASSERT_TRUE(publish->remove_destination(publication, "aeron:udp?endpoint=10.0.0.3:40456"));
  EXPECT_EQ(destination_count(), 1);
  receivers.pop_back();
  const std::size_t before = lab->ethernet->sent_to(address_of(2));
  lab->run_for(6 * kSecond_ns);   // flow control forgets it
  ASSERT_TRUE(transfer(make_messages(50, 200)));
  EXPECT_EQ(lab->ethernet->sent_to(address_of(2)), before);
  ASSERT_TRUE(publish->remove_destination(publication, *first));
  EXPECT_EQ(destination_count(), 0);
  const auto refused = publish->add_destination(publication, "aeron:udp?endpoint=10.0.0.3:0");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidChannel);
}

// proves 7/20
TEST_F(ManyDestinations, port_0_takes_one_of_the_configured_range_in_turn) {
  const auto with_ranges = [](Appliance::Options& options, std::size_t) {
    options.receiver_ports = {20'000, 20'001};
    options.sender_ports = {21'000, 21'000};
  };
  lab = std::make_unique<Lab>(Lab::Options{.nodes = 1, .impairment = {}, .adjust = with_ranges});
  const auto client = lab->connect(0);
  const auto subscribe = [&] {
    auto subscribed = client->add_subscription("aeron:udp?endpoint=10.0.0.1:0", kStream);
    EXPECT_TRUE(subscribed) << subscribed.error().message;
    return std::move(*subscribed);
  };
  const auto address_of = [&](const auto& stream) {
    EXPECT_TRUE(lab->run_until([&] { return !stream.local_addresses().empty(); }, kSecond_ns));
    return stream.local_addresses().empty() ? std::string{} : stream.local_addresses().front();
  };
  client::Subscription first = subscribe();
  client::Subscription second = subscribe();
  EXPECT_EQ(address_of(first), "10.0.0.1:20000");
  EXPECT_EQ(address_of(second), "10.0.0.1:20001");
  const auto full = client->add_subscription("aeron:udp?endpoint=10.0.0.1:0", kStream);
  ASSERT_FALSE(full);
  EXPECT_NE(full.error().message.find("all UDP ports from 20000 to 20001 are in use"), std::string::npos) << full.error().message;
  first.close();
  lab->run_for(kSecond_ns);
  EXPECT_EQ(address_of(subscribe()), "10.0.0.1:20000");
  const auto published = client->add_publication("aeron:udp?endpoint=10.0.0.9:40001", kStream);
  ASSERT_TRUE(published) << published.error().message;
  EXPECT_EQ(address_of(*published), "10.0.0.1:21000");
  EXPECT_TRUE(client->add_subscription("aeron:udp?endpoint=10.0.0.1:20002", kStream)) << "who names a port has it";
}

}  // namespace
}  // namespace thalweg::test
