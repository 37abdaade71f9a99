// Relays from the configuration to the far subscriber: what a publishes on the cable comes back from b on another channel.
#include <gtest/gtest.h>

#include "tests/support/appliance.hpp"

namespace thalweg::test {
namespace {

constexpr std::int32_t kStream = 1001;

class ConfiguredRelay : public ::testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "errors of a:\n%serrors of b:\n%s", both->a.errors().c_str(), both->b.errors().c_str());
  }
  conductor::RelaySettings settings() const {
    return {.name = "back", .from = from, .to = to, .stream_id = kStream, .to_stream_id = std::nullopt};
  }
  void start(const conductor::RelaySettings& relay) { both = std::make_unique<TwoAppliances>(TwoAppliances::Options{.relays_b = {relay}}); }
  void connect(std::int32_t far_stream = kStream) {
    reader = both->connect(both->a);
    writer = both->connect(both->a);
    ASSERT_TRUE(reader && writer);
    auto subscribed = reader->add_subscription(to, far_stream);
    ASSERT_TRUE(subscribed) << subscribed.error().message;
    subscription = std::move(*subscribed);
    auto published = writer->add_publication(from, kStream);
    ASSERT_TRUE(published) << published.error().message;
    publication = std::move(*published);
    ASSERT_TRUE(both->run_until([&] { return publication.is_connected() && subscription.is_connected(); }, 5 * kSecond_ns));
  }
  // Sends `count` messages; false when not all of them came out at the far end in order.
  bool transfer(int count) {
    int offered = 0;
    const int end = next_read + count;
    return both->run_until(
        [&] {
          while (offered < count) {
            const std::string text = std::to_string(next_sent) + std::string(static_cast<std::size_t>(next_sent * 37 % 3'000), 'x');
            if (!publication.offer(std::as_bytes(std::span{text}))) break;
            ++next_sent;
            ++offered;
          }
          subscription.poll(assembler, 10);
          return next_read == end;
        },
        20 * kSecond_ns);
  }
  std::vector<std::string> relayed_labels() {
    std::vector<std::string> result;
    for (const std::string& label : both->b.labels()) {
      if (label.starts_with("snd-pos")) result.push_back(label);
    }
    return result;
  }

  std::string from{std::string{"aeron:udp?endpoint="} + TwoAppliances::kAddressB + ":40111"};
  std::string to{std::string{"aeron:udp?endpoint="} + TwoAppliances::kAddressA + ":40222"};
  std::unique_ptr<TwoAppliances> both;
  std::shared_ptr<client::Client> reader, writer;
  client::Subscription subscription;
  client::Publication publication;
  int next_sent{}, next_read{};
  client::FragmentAssembler<std::function<void(std::span<const std::byte>, const client::Header&)>> assembler{[this](std::span<const std::byte> bytes, const client::Header&) {
    const std::string_view text{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    const std::string number = std::to_string(next_read);
    EXPECT_EQ(text.substr(0, number.size()), number);
    EXPECT_EQ(text.size(), number.size() + static_cast<std::size_t>(next_read * 37 % 3'000));
    ++next_read;
  }};
};

TEST_F(ConfiguredRelay, passes_a_stream_on_without_an_application_and_ends_with_it) {
  start(settings());
  connect();
  EXPECT_TRUE(transfer(2'000));
  EXPECT_EQ(subscription.images().front()->session_id(), publication.session_id());
  EXPECT_EQ(relayed_labels().size(), 1U);
  publication.close();
  EXPECT_TRUE(both->run_until([&] { return !subscription.is_connected(); }, 30 * kSecond_ns, kMillisecond_ns)) << "the far end was not told";
  EXPECT_TRUE(both->run_until([&] { return both->b.log_files().empty() && relayed_labels().empty(); }, 60 * kSecond_ns, kMillisecond_ns)) << "the log or a counter stayed";
}

TEST_F(ConfiguredRelay, sends_under_ids_of_its_own_where_that_is_wanted) {
  auto relay = settings();
  relay.keeps_session = false;
  relay.to_stream_id = 7;
  start(relay);
  connect(7);
  EXPECT_TRUE(transfer(500));
  EXPECT_NE(subscription.images().front()->session_id(), publication.session_id());
}

TEST_F(ConfiguredRelay, serves_subscribers_of_the_same_stream_beside) {
  start(settings());
  connect();
  const auto beside = both->connect(both->b);
  auto subscribed = beside->add_subscription(from, kStream);
  ASSERT_TRUE(subscribed) << subscribed.error().message;
  ASSERT_TRUE(both->run_until([&] { return subscribed->is_connected(); }, 5 * kSecond_ns));
  subscribed->close();
  EXPECT_TRUE(transfer(500)) << "the image ended with its subscriber";
}

TEST_F(ConfiguredRelay, goes_on_when_either_process_of_its_appliance_is_killed) {
  start(settings());
  connect();
  ASSERT_TRUE(transfer(200));
  for (int i = 0; i < 3; ++i) {
    both->b.restart_control_plane();
    ASSERT_TRUE(transfer(200)) << "after the control plane's restart " << i;
    both->b.kill_data_plane();
    both->run_for(20 * kMillisecond_ns);
    both->b.start_data_plane();
    ASSERT_TRUE(transfer(200)) << "after the data plane's restart " << i;
  }
  EXPECT_EQ(relayed_labels().size(), 1U) << "one relay, and always the same";
}

TEST_F(ConfiguredRelay, one_that_is_configured_no_more_ends_with_the_restart) {
  start(settings());
  connect();
  ASSERT_TRUE(transfer(200));
  both->b.settings().relays.clear();
  both->b.restart_control_plane();
  EXPECT_TRUE(both->run_until([&] { return !publication.is_connected() && !subscription.is_connected(); }, 60 * kSecond_ns, kMillisecond_ns));
  EXPECT_TRUE(both->run_until([&] { return both->b.leftovers().empty(); }, 60 * kSecond_ns, kMillisecond_ns)) << both->b.leftovers();
}

TEST_F(ConfiguredRelay, a_channel_that_cannot_be_opened_is_reported_by_name_and_tried_again) {
  auto relay = settings();
  relay.from = "aeron:udp?endpoint=10.9.9.9:40111";   // no address of b's
  start(relay);
  EXPECT_TRUE(both->run_until([&] { return both->b.errors().find("relay back: ") != std::string::npos; }, 10 * kSecond_ns, kMillisecond_ns));
  const std::int64_t errors = both->b.system(shm::SystemCounter::kErrors);
  EXPECT_TRUE(both->run_until([&] { return both->b.system(shm::SystemCounter::kErrors) > errors; }, 10 * kSecond_ns, kMillisecond_ns));
}

}  // namespace
}  // namespace thalweg::test
