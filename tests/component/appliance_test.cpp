// Both halves of the appliance together: real clients, the real conductor and the real data plane, in one thread with simulated time.
#include <gtest/gtest.h>

#include "dataplane/shm/loss_report.hpp"
#include "pmd/port.hpp"
#include "tests/support/appliance.hpp"
#include "tests/support/two_nodes.hpp"

namespace thalweg::test {
namespace {

constexpr std::int32_t kStream = 1001;

std::string text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// Of all lengths up to `longest`, so that some need several fragments.
std::vector<std::string> make_messages(std::size_t count, std::size_t longest) {
  std::vector<std::string> all;
  for (std::size_t i = 0; i < count; ++i) {
    std::string text = std::to_string(i) + " ";
    const std::size_t length = text.size() + i * 37 % longest;
    while (text.size() < length) text += static_cast<char>('a' + (i + text.size()) % 26);
    all.push_back(std::move(text));
  }
  return all;
}

enum class Way { kIpc, kLoopback, kCable };

class Streams : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    const std::string port = std::to_string(free_udp_port());
    channel = GetParam() == Way::kIpc        ? "aeron:ipc?linger=200ms"
              : GetParam() == Way::kLoopback ? "aeron:udp?endpoint=127.0.0.1:" + port
                                             : std::string{"aeron:udp?endpoint="} + TwoAppliances::kAddressB + ":" + port;
    publish = both.connect(both.a);
    subscribe = both.connect(receiving_side(), context());
    ASSERT_TRUE(publish && subscribe);
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "errors of a:\n%serrors of b:\n%s", both.a.errors().c_str(), both.b.errors().c_str());
  }
  Appliance& receiving_side() { return GetParam() == Way::kCable ? both.b : both.a; }
  client::Context context() {
    client::Context context;
    context.on_available_image = [this](const std::shared_ptr<client::Image>& image) { available.push_back(image->correlation_id()); };
    context.on_unavailable_image = [this](const std::shared_ptr<client::Image>& image) { unavailable.push_back(image->correlation_id()); };
    return context;
  }
  void connect() {
    auto subscribed = subscribe->add_subscription(channel, kStream);
    ASSERT_TRUE(subscribed) << subscribed.error().message;
    subscription = std::move(*subscribed);
    auto published = publish->add_publication(channel, kStream);
    ASSERT_TRUE(published) << published.error().message;
    publication = std::move(*published);
    ASSERT_TRUE(both.run_until([&] { return publication.is_connected() && subscription.is_connected(); }, kSecond_ns));
    EXPECT_EQ(available.size(), 1U);
  }
  void poll() {
    subscription.poll(assembler, 20);
  }
  bool transfer(const std::vector<std::string>& messages, std::int64_t limit_ns = 10 * kSecond_ns) {
    std::size_t offered = 0;
    received.clear();
    return both.run_until(
        [&] {
          while (offered < messages.size() && publication.offer(std::as_bytes(std::span{messages[offered]}))) ++offered;
          poll();
          return received.size() >= messages.size();
        },
        limit_ns);
  }
  // Everything that belongs to streams and clients is gone on both sides once the clients are.
  void expect_everything_to_end() {
    publication.close();
    subscription.close();
    publish->close();
    subscribe->close();
    both.run_until([&] { return (both.a.leftovers() + both.b.leftovers()).empty(); }, 30 * kSecond_ns, kMillisecond_ns);
    both.run_for(kSecond_ns);
    EXPECT_EQ(both.a.leftovers() + both.b.leftovers(), "");
    for (Appliance* one : {&both.a, &both.b}) {
      EXPECT_EQ(one->labels(), std::vector<std::string>{});
      EXPECT_EQ(one->log_files(), std::vector<std::string>{});
    }
    EXPECT_LE(both.mbufs_in_use(), 2U * pmd::kBurstMax) << "more than what the two socket queues keep ready";
  }

  TwoAppliances both;
  std::string channel;
  std::shared_ptr<client::Client> publish, subscribe;
  client::Publication publication;
  client::Subscription subscription;
  std::vector<std::int64_t> available, unavailable;
  std::vector<std::string> received;
  client::FragmentAssembler<std::function<void(std::span<const std::byte>, const client::Header&)>> assembler{
      [this](std::span<const std::byte> message, const client::Header&) { received.push_back(text_of(message)); }};
};

INSTANTIATE_TEST_SUITE_P(Ways, Streams, ::testing::Values(Way::kIpc, Way::kLoopback, Way::kCable), [](const auto& way) {
  return std::string{way.param == Way::kIpc ? "ipc" : way.param == Way::kLoopback ? "loopback" : "cable"};
});

TEST_P(Streams, messages_arrive_complete_and_in_order) {
  connect();
  const auto messages = make_messages(2000, 5000);  // many terms of 64 KiB
  ASSERT_TRUE(transfer(messages));
  EXPECT_EQ(received, messages);
  EXPECT_EQ(receiving_side().errors(), "");
  expect_everything_to_end();
}

// proves 3.11/6, 3.11/7, 5.8/3
TEST_P(Streams, the_end_of_a_publication_is_told_when_all_was_consumed) {
  connect();
  const auto messages = make_messages(50, 500);
  received.clear();
  for (const std::string& message : messages) ASSERT_TRUE(publication.offer(std::as_bytes(std::span{message})));
  publication.close();
  ASSERT_TRUE(both.run_until([&] { return poll(), received.size() == messages.size(); }, kSecond_ns));
  EXPECT_TRUE(unavailable.empty()) << "told before the subscriber had it all";
  ASSERT_TRUE(both.run_until([&] { return !unavailable.empty(); }, 5 * kSecond_ns, kMillisecond_ns));
  EXPECT_EQ(unavailable, available);
  EXPECT_FALSE(subscription.is_connected());
  EXPECT_EQ(received, messages);
  expect_everything_to_end();
}

TEST_P(Streams, a_closed_subscription_disconnects_its_publication) {
  connect();
  subscription.close();
  EXPECT_TRUE(both.run_until([&] { return !publication.is_connected(); }, 20 * kSecond_ns, kMillisecond_ns));
  EXPECT_TRUE(unavailable.empty() || unavailable == available);
  expect_everything_to_end();
}

TEST_P(Streams, a_client_that_dies_takes_its_publication_with_it) {
  connect();
  ASSERT_TRUE(transfer(make_messages(5, 100)));
  // No close, no keepalive any more: its turns just end.
  both.stop_turning(*publish);
  ASSERT_TRUE(both.run_until([&] { return !unavailable.empty(); }, 30 * kSecond_ns, kMillisecond_ns));
  EXPECT_EQ(both.a.system(shm::SystemCounter::kClientTimeouts), 1);
  expect_everything_to_end();
}

// proves 3.4/9
TEST_P(Streams, a_second_subscriber_joins_a_running_stream) {
  connect();
  ASSERT_TRUE(transfer(make_messages(300, 1000)));
  both.run_for(kMillisecond_ns);  // idle streams are looked at in slices: now the lane knows that all was consumed
  auto late = subscribe->add_subscription(channel, kStream);
  ASSERT_TRUE(late) << late.error().message;
  ASSERT_TRUE(both.run_until([&] { return late->is_connected(); }, kSecond_ns));
  const auto messages = make_messages(300, 1000);
  std::vector<std::string> also;
  client::FragmentAssembler<std::function<void(std::span<const std::byte>, const client::Header&)>> collect{
      [&also](std::span<const std::byte> message, const client::Header&) { also.push_back(text_of(message)); }};
  std::size_t offered = 0;
  received.clear();
  ASSERT_TRUE(both.run_until(
      [&] {
        while (offered < messages.size() && publication.offer(std::as_bytes(std::span{messages[offered]}))) ++offered;
        poll();
        late->poll(collect, 20);
        return received.size() == messages.size() && also.size() == messages.size();
      },
      10 * kSecond_ns));
  EXPECT_EQ(received, messages);
  EXPECT_EQ(also, messages);
  late->close();
  expect_everything_to_end();
}

TEST_P(Streams, a_revoked_publication_ends_at_once) {
  connect();
  ASSERT_TRUE(transfer(make_messages(5, 100)));
  publication.revoke();
  ASSERT_TRUE(both.run_until([&] { return !unavailable.empty(); }, 3 * kSecond_ns, kMillisecond_ns));
  EXPECT_EQ(both.a.system(shm::SystemCounter::kPublicationsRevoked), 1);
  expect_everything_to_end();
}

TEST_P(Streams, a_restarted_control_plane_disturbs_nothing) {
  connect();
  const auto before = make_messages(200, 1000);
  ASSERT_TRUE(transfer(before));
  const auto labels = both.a.labels();
  both.a.restart_control_plane();
  EXPECT_TRUE(both.a.files->is_attached);
  EXPECT_EQ(both.a.labels(), labels);
  const auto after = make_messages(400, 2000);
  ASSERT_TRUE(transfer(after));
  EXPECT_EQ(received, after);
  EXPECT_TRUE(unavailable.empty());
  // It knows what was registered, and goes on where its predecessor stopped.
  auto another = publish->add_publication(channel, kStream);
  ASSERT_TRUE(another) << another.error().message;
  EXPECT_EQ(another->original_registration_id(), publication.original_registration_id());
  another->close();
  expect_everything_to_end();
}

TEST_P(Streams, a_restarted_data_plane_goes_on_with_every_stream) {
  connect();
  const std::vector<std::string> addresses = publication.local_addresses();
  const auto messages = make_messages(600, 2000);
  std::size_t offered = 0;
  received.clear();
  const auto offer_and_poll = [&] {
    while (offered < messages.size() && publication.offer(std::as_bytes(std::span{messages[offered]}))) ++offered;
    poll();
    return received.size() == messages.size();
  };
  ASSERT_TRUE(both.run_until([&] { return offer_and_poll() || received.size() > 100; }, 10 * kSecond_ns));
  both.a.kill_data_plane();
  both.run_until(offer_and_poll, 50 * kMillisecond_ns);
  const std::size_t stopped_at = received.size();
  both.run_until(offer_and_poll, 50 * kMillisecond_ns);
  EXPECT_EQ(received.size(), stopped_at) << "nobody moves them now";
  both.a.start_data_plane();
  ASSERT_TRUE(both.run_until(offer_and_poll, 10 * kSecond_ns));
  EXPECT_EQ(received, messages);
  EXPECT_EQ(publication.local_addresses(), addresses);
  EXPECT_TRUE(unavailable.empty());
  expect_everything_to_end();
}

TEST(LostSocket, an_address_that_somebody_took_while_the_data_plane_was_away_is_an_error_that_all_see) {
  TwoAppliances both;
  const std::uint16_t port = free_udp_port();
  const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(port);
  const auto client = both.connect(both.a);
  auto subscribed = client->add_subscription(channel, kStream);
  ASSERT_TRUE(subscribed) << subscribed.error().message;
  both.a.kill_data_plane();
  const TakenUdpPort thief{port};
  both.a.start_data_plane();
  ASSERT_TRUE(both.run_until([&] { return subscribed->channel_status() == client::ChannelStatus::kErrored; }, kSecond_ns));
  EXPECT_NE(both.a.errors().find("cannot open its channel again, channel=" + channel), std::string::npos) << both.a.errors();
  const auto again = client->add_subscription(channel, kStream + 1);
  ASSERT_FALSE(again);
  EXPECT_NE(again.error().message.find("in use"), std::string::npos) << again.error().message;
  subscribed->close();
  EXPECT_TRUE(both.run_until([&] { return both.a.control->world().endpoints.used().empty(); }, kSecond_ns));
}

// proves 2.9/2, 5.10/6
TEST_P(Streams, shared_publications_end_with_the_last_of_them) {
  connect();
  auto second = publish->add_publication(channel, kStream);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->session_id(), publication.session_id());
  EXPECT_EQ(second->original_registration_id(), publication.registration_id());
  publication.close();
  both.run_for(3 * kSecond_ns);
  EXPECT_TRUE(unavailable.empty());
  EXPECT_TRUE(second->offer(std::as_bytes(std::span{"x", 1})));
  second->close();
  EXPECT_TRUE(both.run_until([&] { return poll(), !unavailable.empty(); }, 5 * kSecond_ns, kMillisecond_ns));
  expect_everything_to_end();
}

TEST_P(Streams, a_subscription_that_comes_after_its_publication_is_connected_too) {
  auto published = publish->add_publication(channel, kStream);
  ASSERT_TRUE(published) << published.error().message;
  publication = std::move(*published);
  both.run_for(300 * kMillisecond_ns);
  EXPECT_FALSE(publication.is_connected());
  EXPECT_EQ(publication.offer(std::as_bytes(std::span{"x", 1})).status(), client::OfferStatus::kNotConnected);
  auto subscribed = subscribe->add_subscription(channel, kStream);
  ASSERT_TRUE(subscribed);
  subscription = std::move(*subscribed);
  ASSERT_TRUE(both.run_until([&] { return publication.is_connected() && subscription.is_connected(); }, kSecond_ns));
  const auto messages = make_messages(20, 100);
  ASSERT_TRUE(transfer(messages));
  EXPECT_EQ(received, messages);
  expect_everything_to_end();
}

TEST_P(Streams, commands_wait_while_the_data_plane_is_away) {
  connect();
  both.a.kill_data_plane();
  both.a.registry().header.data_plane.state.store(shm::Observed::kNone);
  auto id = publish->async_add_publication(channel, kStream + 1);
  ASSERT_TRUE(id);
  both.run_for(100 * kMillisecond_ns);
  auto found = publish->find_publication(*id);
  ASSERT_TRUE(found);
  EXPECT_FALSE(found->has_value());
  both.a.start_data_plane();
  ASSERT_TRUE(both.run_until(
      [&] {
        found = publish->find_publication(*id);
        return found && found->has_value();
      },
      kSecond_ns));
  (*found)->close();
  found = std::optional<client::Publication>{};
  expect_everything_to_end();
}

TEST_P(Streams, a_control_plane_that_restarts_in_the_middle_of_a_command_finishes_it) {
  connect();
  // Stopped after each number of steps: before, while and after the command is recorded, waits and is answered.
  for (int steps = 0; steps < 8; ++steps) {
    auto id = publish->async_add_exclusive_publication(channel, kStream + 1 + steps);
    ASSERT_TRUE(id);
    for (int i = 0; i < steps; ++i) {
      if (i % 2 == 0) {
        both.a.control->poll({both.now_ns, 1'700'000'000'000 + both.now_ns / kMillisecond_ns});
      } else {
        both.a.worker->run_one();
        both.a.plane->step(both.now_ns);
      }
    }
    both.a.restart_control_plane();
    Result<std::optional<client::ExclusivePublication>> found{std::optional<client::ExclusivePublication>{}};
    ASSERT_TRUE(both.run_until(
        [&] {
          found = publish->find_exclusive_publication(*id);
          return !found || found->has_value();
        },
        kSecond_ns))
        << "after " << steps << " steps";
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_EQ(both.a.control->world().publications.used().size(), 2U) << "after " << steps << " steps";
    (*found)->close();
    found = std::optional<client::ExclusivePublication>{};
    ASSERT_TRUE(both.run_until([&] { return both.a.control->world().publications.used().size() == 1; }, 20 * kSecond_ns, kMillisecond_ns));
  }
  expect_everything_to_end();
}

// ---- what only a cable shows ----

class Cable : public ::testing::Test {
 protected:
  static std::string channel(std::uint16_t port, const char* more = "") { return "aeron:udp?endpoint=10.0.0.2:" + std::to_string(port) + more; }
};

TEST_F(Cable, loss_duplication_and_reordering_are_repaired) {
  TwoAppliances::Options options;
  options.impair_b.loss_ppm = 30'000;
  options.impair_b.duplicate_ppm = 20'000;
  options.impair_b.reorder_ppm = 20'000;
  options.impair_b.seed = 7;
  options.pool = {{64 << 10, 4}};
  TwoAppliances both{options};
  auto publish = both.connect(both.a);
  auto subscribe = both.connect(both.b);
  auto subscription = subscribe->add_subscription(channel(40100), kStream);
  auto publication = publish->add_publication(channel(40100), kStream);
  ASSERT_TRUE(subscription && publication);
  std::vector<std::string> received;
  client::FragmentAssembler<std::function<void(std::span<const std::byte>, const client::Header&)>> collect{
      [&received](std::span<const std::byte> message, const client::Header&) { received.push_back(text_of(message)); }};
  const auto messages = make_messages(1500, 4000);
  std::size_t offered = 0;
  ASSERT_TRUE(both.run_until(
      [&] {
        while (offered < messages.size() && publication->offer(std::as_bytes(std::span{messages[offered]}))) ++offered;
        subscription->poll(collect, 20);
        return received.size() == messages.size();
      },
      60 * kSecond_ns));
  EXPECT_EQ(received, messages);
  both.run_for(2 * kSecond_ns);
  EXPECT_GT(both.b.system(shm::SystemCounter::kNaksSent), 0);
  EXPECT_GT(both.a.system(shm::SystemCounter::kRetransmitsSent), 0);
  EXPECT_EQ(both.a.system(shm::SystemCounter::kNaksReceived), both.b.system(shm::SystemCounter::kNaksSent));
  shm::LossReportEntry loss;
  shm::read_loss_report({both.b.files->loss_report.data(), both.b.files->loss_report.length()},
                        [](void* context, const shm::LossReportEntry& entry) { *static_cast<shm::LossReportEntry*>(context) = entry; }, &loss);
  EXPECT_GT(loss.observation_count, 0);
  EXPECT_GT(loss.bytes_lost, 0);
  EXPECT_EQ(loss.stream_id, kStream);
  EXPECT_EQ(loss.session_id, publication->session_id());
  EXPECT_EQ(loss.channel, channel(40100));
}

TEST_F(Cable, an_mtu_larger_than_the_port_s_is_an_error_that_says_so) {
  TwoAppliances both;
  auto client = both.connect(both.a);
  auto publication = client->add_publication(channel(40100, "|mtu=8192"), kStream);
  ASSERT_FALSE(publication);
  for (const char* part : {"mtu=8192", "port cable-a", "1472 bytes", "mtu of 1500", "ip-fragments off"}) {
    EXPECT_NE(publication.error().message.find(part), std::string::npos) << publication.error().message;
  }
  client->close();
  both.run_for(3 * kSecond_ns);
  EXPECT_EQ(both.a.leftovers(), "");
  EXPECT_EQ(both.a.labels(), std::vector<std::string>{});
  EXPECT_EQ(both.a.log_files(), std::vector<std::string>{});
}

TEST_F(Cable, a_port_in_use_is_an_error_that_names_it) {
  TwoAppliances both;
  const std::string taken = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(free_udp_port());
  auto first = both.connect(both.a);
  auto second = both.connect(both.b);  // another instance on this machine
  auto subscription = first->add_subscription(taken, kStream);
  ASSERT_TRUE(subscription) << subscription.error().message;
  auto refused = second->add_subscription(taken, kStream);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find(taken.substr(taken.find("127"))), std::string::npos) << refused.error().message;
  both.run_for(kMillisecond_ns);
  EXPECT_EQ(both.b.control->world().endpoints.used().size() + both.b.control->world().clients.used().size(), 0U);
}

TEST_F(Cable, streams_on_several_lanes_reach_each_other) {
  TwoAppliances::Options options;
  options.lanes = 2;
  TwoAppliances both{options};
  auto publish = both.connect(both.a);
  auto subscribe = both.connect(both.b);
  std::vector<client::Subscription> subscriptions;
  std::vector<client::Publication> publications;
  for (std::uint16_t i = 0; i < 4; ++i) {
    auto subscription = subscribe->add_subscription(channel(static_cast<std::uint16_t>(40100 + i)), kStream);
    auto publication = publish->add_publication(channel(static_cast<std::uint16_t>(40100 + i)), kStream);
    ASSERT_TRUE(subscription && publication);
    subscriptions.push_back(std::move(*subscription));
    publications.push_back(std::move(*publication));
  }
  std::vector<int> received(4);
  std::vector<int> offered(4);
  ASSERT_TRUE(both.run_until(
      [&] {
        bool is_done = true;
        for (std::size_t i = 0; i < 4; ++i) {
          if (offered[i] < 500 && publications[i].offer(std::as_bytes(std::span{"message", 7}))) ++offered[i];
          subscriptions[i].poll([&](std::span<const std::byte>, const client::Header&) { ++received[i]; }, 10);
          is_done = is_done && received[i] == 500;
        }
        return is_done;
      },
      10 * kSecond_ns));
}

// proves 5.7/1, 5.7/4, 5.7/6
TEST_F(Cable, a_spy_sees_what_is_sent) {
  TwoAppliances both;
  auto publish = both.connect(both.a);
  auto subscribe = both.connect(both.b);
  auto spy = publish->add_subscription("aeron-spy:" + channel(40100), kStream);
  ASSERT_TRUE(spy) << spy.error().message;
  auto spy_by_tag = publish->add_subscription("aeron-spy:aeron:udp?tags=7", kStream);
  ASSERT_TRUE(spy_by_tag) << spy_by_tag.error().message;
  auto subscription = subscribe->add_subscription(channel(40100), kStream);
  auto publication = publish->add_publication(channel(40100, "|tags=7"), kStream);
  ASSERT_TRUE(subscription && publication);
  ASSERT_TRUE(both.run_until([&] { return publication->is_connected() && subscription->is_connected() && spy->is_connected() && spy_by_tag->is_connected(); }, kSecond_ns));
  int seen = 0;
  int seen_by_tag = 0;
  int received = 0;
  int offered = 0;
  ASSERT_TRUE(both.run_until(
      [&] {
        if (offered < 200 && publication->offer(std::as_bytes(std::span{"message", 7}))) ++offered;
        spy->poll([&](std::span<const std::byte>, const client::Header&) { ++seen; }, 10);
        spy_by_tag->poll([&](std::span<const std::byte>, const client::Header&) { ++seen_by_tag; }, 10);
        subscription->poll([&](std::span<const std::byte>, const client::Header&) { ++received; }, 10);
        return seen == 200 && seen_by_tag == 200 && received == 200;
      },
      10 * kSecond_ns));
  publication->close();
  EXPECT_TRUE(both.run_until([&] { return !spy->is_connected() && !spy_by_tag->is_connected() && !subscription->is_connected(); }, 10 * kSecond_ns, kMillisecond_ns));
}

}  // namespace
}  // namespace thalweg::test

int main(int argc, char** argv) { return thalweg::test::run_tests_with_eal(argc, argv); }
