// What libthalweg offers beyond streams, asked of the real conductor and data plane.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/appliance.hpp"
#include "tests/support/two_nodes.hpp"

namespace thalweg::test {
namespace {

using client::ChannelUriBuilder;

constexpr std::int32_t kStream = 1001;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span{text.data(), text.size()}); }
std::string text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

class ClientOfAnAppliance : public ::testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "errors of a:\n%serrors of b:\n%s", both.a.errors().c_str(), both.b.errors().c_str());
  }
  [[nodiscard]] client::Context context() {
    client::Context context;
    context.on_error = [this](const Error& error) { errors.push_back(error.message); };
    context.on_publication_error = [this](const client::PublicationError& error) { rejections.push_back(error); };
    context.on_unavailable_image = [this](const std::shared_ptr<client::Image>&) { ++lost_images; };
    return context;
  }
  template <typename Predicate>
  bool eventually(Predicate&& predicate, std::int64_t limit_ns = 5 * kSecond_ns) {
    return both.run_until(std::forward<Predicate>(predicate), limit_ns);
  }
  static std::string endpoint_of(const char* address) { return std::string{address} + ":" + std::to_string(free_udp_port()); }

  TwoAppliances both;
  std::vector<std::string> errors;
  std::vector<client::PublicationError> rejections;
  int lost_images{};
};

// ---- counters ----

TEST_F(ClientOfAnAppliance, sees_the_counters_of_other_clients_come_and_go) {
  const auto watcher = both.connect(both.a);
  const auto owner = both.connect(both.a);
  std::vector<std::string> heard;
  static_cast<void>(watcher->add_available_counter_handler([&](std::int64_t registration, std::int32_t id) { heard.push_back("+" + std::to_string(registration) + "/" + std::to_string(id)); }));
  static_cast<void>(watcher->add_unavailable_counter_handler([&](std::int64_t registration, std::int32_t id) { heard.push_back("-" + std::to_string(registration) + "/" + std::to_string(id)); }));
  auto counter = owner->add_counter(1100, bytes_of("key"), "orders");
  ASSERT_TRUE(counter) << counter.error().message;
  const std::string name = std::to_string(counter->registration_id()) + "/" + std::to_string(counter->id());
  ASSERT_TRUE(eventually([&] { return !heard.empty() && heard.back() == "+" + name; }));
  const auto view = watcher->counters().find(1100, counter->registration_id());
  ASSERT_TRUE(view);
  EXPECT_EQ(view->owner_id, owner->client_id());
  EXPECT_EQ(view->label, "orders");
  counter->close();
  ASSERT_TRUE(eventually([&] { return heard.back() == "-" + name; }));
  EXPECT_EQ(watcher->counters().state(view->id), shm::CounterState::kReclaimed);
}

TEST_F(ClientOfAnAppliance, shares_static_counters_that_outlive_it) {
  auto first = both.connect(both.a);
  const auto second = both.connect(both.a);
  auto made = first->add_static_counter(1200, 42, bytes_of("key"), "kept");
  ASSERT_TRUE(made) << made.error().message;
  made->set(7);
  auto found = second->add_static_counter(1200, 42, {}, "ignored");
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->id(), made->id());
  EXPECT_EQ(found->label(), "kept");
  const std::int32_t id = made->id();
  made->close();
  first->close();
  both.run_for(3 * kSecond_ns);
  EXPECT_EQ(second->counters().state(id), shm::CounterState::kAllocated);
  EXPECT_EQ(second->counters().owner_id(id), -1);
  found->add(1);
  EXPECT_EQ(second->counters().value(id), 8);
  // A registration id that an own counter of the type has cannot be had.
  const auto own = second->add_counter(1201, {}, "own");
  ASSERT_TRUE(own);
  const auto refused = second->add_static_counter(1201, own->registration_id(), {}, "x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kGeneric);
  EXPECT_NE(refused.error().message.find("non-static"), std::string::npos) << refused.error().message;
}

// ---- session ids ----

TEST_F(ClientOfAnAppliance, is_given_session_ids_that_nobody_has) {
  const auto client = both.connect(both.a);
  const auto session = client->next_available_session_id(kStream);
  ASSERT_TRUE(session) << session.error().message;
  const auto next = client->next_available_session_id(kStream);
  ASSERT_TRUE(next);
  EXPECT_NE(*next, *session);
  const auto publication = client->add_publication(*client::with_session_id("aeron:ipc", *session), kStream);
  ASSERT_TRUE(publication) << publication.error().message;
  EXPECT_EQ(publication->session_id(), *session);
  const auto clash = client->add_exclusive_publication(*client::with_session_id("aeron:ipc", *session), kStream);
  ASSERT_FALSE(clash);
  EXPECT_EQ(clash.error().code, ErrorCode::kInvalidChannel);
}

// ---- channels ----

TEST_F(ClientOfAnAppliance, finds_the_port_that_it_left_open) {
  const auto subscriber = both.connect(both.b);
  const auto publisher = both.connect(both.a);
  const auto open = ChannelUriBuilder::udp().endpoint(std::string{TwoAppliances::kAddressB} + ":0").alias("wild").build();
  ASSERT_TRUE(open);
  auto subscription = subscriber->add_subscription(*open, kStream);
  ASSERT_TRUE(subscription) << subscription.error().message;
  ASSERT_TRUE(eventually([&] { return subscription->try_resolve_channel_endpoint_port().has_value(); }));
  const std::string channel = *subscription->try_resolve_channel_endpoint_port();
  EXPECT_EQ(channel, "aeron:udp?endpoint=" + *subscription->resolved_endpoint() + "|alias=wild");
  EXPECT_NE(*subscription->resolved_endpoint(), std::string{TwoAppliances::kAddressB} + ":0");
  EXPECT_EQ(subscription->channel_status(), client::ChannelStatus::kActive);
  auto publication = publisher->add_publication(channel, kStream);
  ASSERT_TRUE(publication) << publication.error().message;
  EXPECT_TRUE(eventually([&] { return publication->is_connected() && subscription->is_connected(); }));
  EXPECT_EQ(publication->local_addresses().size(), 1U);
  EXPECT_EQ(publication->channel_status(), client::ChannelStatus::kActive);
  const auto ipc = subscriber->add_subscription("aeron:ipc", kStream);
  ASSERT_TRUE(ipc);
  EXPECT_EQ(ipc->channel_status(), client::ChannelStatus::kNone);
  EXPECT_EQ(ipc->try_resolve_channel_endpoint_port(), "aeron:ipc");
  EXPECT_FALSE(ipc->resolved_endpoint());
}

// Every parameter that the builder knows is one that the conductor takes.
TEST_F(ClientOfAnAppliance, builds_channels_that_the_driver_takes) {
  using namespace std::chrono_literals;
  const auto client = both.connect(both.a);
  const auto sent = ChannelUriBuilder::udp()
                        .endpoint(std::string{TwoAppliances::kAddressB} + ":40199")
                        .initial_position(5 * 65536 + 320, -3, 65536)
                        .mtu(1408)
                        .session_id(4711)
                        .linger(100ms)
                        .sparse(false)
                        .end_of_stream(true)
                        .spies_simulate_connection(false)
                        .publication_window(32768)
                        .max_resend(8)
                        .tagged_flow_control(101, 0, 5s)
                        .tags(70, 71)
                        .alias("all")
                        .stream_id(kStream)
                        .ttl(1)
                        .untethered_window_limit_timeout(5s)
                        .untethered_linger_timeout(5s)
                        .untethered_resting_timeout(10s)
                        .build();
  ASSERT_TRUE(sent) << sent.error().message;
  const auto publication = client->add_exclusive_publication(*sent, kStream);
  ASSERT_TRUE(publication) << publication.error().message;
  EXPECT_EQ(publication->position(), 5 * 65536 + 320);
  EXPECT_EQ(publication->initial_term_id(), -3);
  EXPECT_EQ(publication->session_id(), 4711);
  const auto heard = ChannelUriBuilder::udp()
                         .endpoint(std::string{TwoAppliances::kAddressA} + ":40198")
                         .reliable(true)
                         .rejoin(true)
                         .tether(false)
                         .group(client::GroupReceiver::kSingle)
                         .group_tag(101)
                         .congestion_control("cubic")
                         .nak_delay(100us)
                         .receiver_window(65536)
                         .media_receive_timestamp_offset(0)
                         .channel_receive_timestamp_offset(8)
                         .build();
  ASSERT_TRUE(heard) << heard.error().message;
  const auto subscription = client->add_subscription(*heard, kStream);
  EXPECT_TRUE(subscription) << subscription.error().message;
}

// ---- destinations ----

TEST_F(ClientOfAnAppliance, moves_destinations_without_waiting) {
  const auto subscriber = both.connect(both.b, context());
  const auto publisher = both.connect(both.a);
  auto subscription = subscriber->add_subscription(*ChannelUriBuilder::udp().control_mode(client::ControlMode::kManual).build(), kStream);
  auto publication = publisher->add_publication(*ChannelUriBuilder::udp().control_mode(client::ControlMode::kManual).build(), kStream);
  ASSERT_TRUE(subscription && publication);
  const std::string channel = *ChannelUriBuilder::udp().endpoint(endpoint_of(TwoAppliances::kAddressB)).build();
  const auto heard = subscriber->async_add_destination(*subscription, channel);
  const auto sent = publisher->async_add_destination(*publication, channel);
  ASSERT_TRUE(heard && sent);
  EXPECT_FALSE(*subscriber->is_done(*heard));
  bool is_heard = false, is_sent = false;
  ASSERT_TRUE(eventually([&] {
    if (!is_heard) is_heard = *subscriber->is_done(*heard);
    if (!is_sent) is_sent = *publisher->is_done(*sent);
    return is_heard && is_sent;
  }));
  ASSERT_TRUE(eventually([&] { return publication->is_connected() && subscription->is_connected(); }));
  EXPECT_EQ(subscription->local_addresses(), std::vector<std::string>{channel.substr(channel.find('=') + 1)});
  EXPECT_TRUE(publisher->remove_destination(*publication, *sent)) << "by id";
  EXPECT_TRUE(subscriber->remove_destination(*subscription, *heard)) << "by id";
  EXPECT_TRUE(eventually([&] { return !publication->is_connected(); }, 20 * kSecond_ns));
  EXPECT_TRUE(eventually([&] { return subscription->local_addresses().empty(); }));
  const auto wrong = publisher->async_add_destination(*publication, "aeron:udp?endpoint=10.0.0.2:0");
  ASSERT_TRUE(wrong);
  Result<bool> outcome{false};
  ASSERT_TRUE(eventually([&] { return !(outcome = publisher->is_done(*wrong)) || *outcome; }));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kInvalidChannel);
}

// ---- images ----

TEST_F(ClientOfAnAppliance, rejects_an_image_and_the_publisher_far_away_hears_why) {
  const auto subscriber = both.connect(both.b, context());
  const auto publisher = both.connect(both.a, context());
  const std::string channel = *ChannelUriBuilder::udp().endpoint(endpoint_of(TwoAppliances::kAddressB)).build();
  auto subscription = subscriber->add_subscription(channel, kStream);
  auto publication = publisher->add_publication(channel, kStream);
  ASSERT_TRUE(subscription && publication);
  ASSERT_TRUE(eventually([&] { return publication->is_connected() && subscription->is_connected(); }));
  const auto image = subscription->image_by_session(publication->session_id());
  ASSERT_TRUE(image);
  EXPECT_EQ(subscription->image_by_correlation_id(image->correlation_id()), image);
  ASSERT_TRUE(image->reject("out of order"));
  ASSERT_TRUE(eventually([&] { return !rejections.empty(); }));
  EXPECT_EQ(rejections[0].code, client::client_error::kImageRejected);
  EXPECT_EQ(rejections[0].text, "out of order");
  EXPECT_EQ(rejections[0].registration_id, publication->original_registration_id());
  EXPECT_EQ(rejections[0].session_id, publication->session_id());
  EXPECT_TRUE(rejections[0].source_address.starts_with(TwoAppliances::kAddressB)) << rejections[0].source_address;
  EXPECT_TRUE(eventually([&] { return lost_images == 1; }, 30 * kSecond_ns));
  EXPECT_TRUE(errors.empty()) << errors.front();
}

TEST_F(ClientOfAnAppliance, hears_of_an_image_that_cannot_be_rejected_any_more) {
  const auto client = both.connect(both.a, context());
  auto subscription = client->add_subscription("aeron:ipc", kStream);
  auto publication = client->add_publication("aeron:ipc", kStream);
  ASSERT_TRUE(subscription && publication);
  ASSERT_TRUE(eventually([&] { return subscription->is_connected(); }));
  const auto image = subscription->images().at(0);
  ASSERT_TRUE(image->reject("first"));
  ASSERT_TRUE(eventually([&] { return lost_images == 1; }));
  EXPECT_EQ(rejections.size(), 1U);
  EXPECT_EQ(rejections.at(0).receiver_id, -1);
  EXPECT_TRUE(rejections.at(0).source_address.starts_with("127.0.0.1")) << rejections.at(0).source_address;
  EXPECT_EQ(image->reject("second").error().code, ErrorCode::kClosed);
}

TEST_F(ClientOfAnAppliance, peeks_ahead_and_skips_without_reading) {
  const auto client = both.connect(both.a);
  auto subscription = client->add_subscription("aeron:ipc", kStream);
  auto publication = client->add_exclusive_publication("aeron:ipc", kStream);
  ASSERT_TRUE(subscription && publication);
  ASSERT_TRUE(eventually([&] { return publication->is_connected() && subscription->is_connected(); }));
  ASSERT_TRUE(eventually([&] { return publication->available_window() > 0; }));
  for (const char* text : {"one", "two", "three"}) ASSERT_TRUE(publication->offer(bytes_of(text)));
  const auto image = subscription->images().at(0);
  std::vector<std::string> seen;
  const auto see = [&](std::span<const std::byte> payload, const client::Header&) {
    seen.push_back(text_of(payload));
    return client::PollAction::kContinue;
  };
  EXPECT_EQ(image->controlled_peek(0, see, publication->position()), publication->position());
  EXPECT_EQ(seen, (std::vector<std::string>{"one", "two", "three"}));
  EXPECT_EQ(image->position(), 0);
  EXPECT_TRUE(image->set_position(128));
  seen.clear();
  EXPECT_EQ(image->bounded_controlled_poll(see, publication->position(), 10), 1);
  EXPECT_EQ(seen, std::vector<std::string>{"three"});
  EXPECT_EQ(client->counters().value(image->subscriber_position_id()), 192);
}

TEST_F(ClientOfAnAppliance, revokes_a_stream_that_nobody_shall_drain) {
  const auto client = both.connect(both.a, context());
  auto subscription = client->add_subscription("aeron:ipc", kStream);
  auto publication = client->add_exclusive_publication("aeron:ipc", kStream);
  ASSERT_TRUE(subscription && publication);
  ASSERT_TRUE(eventually([&] { return publication->is_connected() && subscription->is_connected(); }));
  ASSERT_TRUE(publication->offer(bytes_of("unread")));
  const auto image = subscription->images().at(0);
  publication->revoke();
  ASSERT_TRUE(eventually([&] { return lost_images == 1; }));
  EXPECT_TRUE(image->is_revoked());
}

// ---- the driver from outside ----

TEST_F(ClientOfAnAppliance, is_seen_from_outside) {
  const auto client = both.connect(both.a);
  const auto counter = client->add_counter(1100, {}, "seen");
  ASSERT_TRUE(counter);
  const auto cnc = client::Cnc::open(both.a.path());
  ASSERT_TRUE(cnc) << cnc.error().message;
  EXPECT_EQ(cnc->version(), shm::kCncVersion);
  EXPECT_TRUE(cnc->is_driver_alive(std::chrono::seconds{10}, epoch_ms_at(both.now_ns)));
  EXPECT_EQ(cnc->command_backlog(), 0);
  EXPECT_EQ(cnc->counters().value(static_cast<std::int32_t>(shm::SystemCounter::kControlProtocolVersion)), 1 << 16);
  ASSERT_FALSE(client->add_publication("aeron:udp?endpoint=nowhere:port", kStream));
  std::vector<std::string> texts;
  cnc->for_each_error([&](const shm::ErrorLogEntry& entry) { texts.emplace_back(entry.text); });
  ASSERT_EQ(texts.size(), 1U);
  EXPECT_NE(texts[0].find("endpoint=nowhere:port"), std::string::npos) << texts[0];
  cnc->for_each_loss([](const shm::LossReportEntry&) { ADD_FAILURE() << "nothing was lost"; });
}

TEST_F(ClientOfAnAppliance, knows_why_it_was_closed) {
  const auto client = both.connect(both.a, context());
  ASSERT_TRUE(client->add_counter(1100, {}, "x"));
  int closed = 0;
  static_cast<void>(client->add_close_handler([&] { ++closed; }));
  both.stop_turning(*client);
  both.run_for(12 * kSecond_ns);
  static_cast<void>(client->do_work());
  EXPECT_TRUE(client->is_closed());
  EXPECT_EQ(client->close_reason(), client::CloseReason::kServiceTimeout);
  EXPECT_EQ(closed, 1);
  const auto refused = client->add_counter(1100, {}, "y");
  EXPECT_EQ(refused.error().code, ErrorCode::kClosed);
}

}  // namespace
}  // namespace thalweg::test

int main(int argc, char** argv) { return thalweg::test::run_tests_with_eal(argc, argv); }
