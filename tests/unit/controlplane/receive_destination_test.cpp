// Destinations of multi-destination subscriptions (wire-protocol 5.6; client-protocol 6.5).
#include <algorithm>

#include "tests/unit/controlplane/fixture.hpp"

namespace thalweg::conductor::testing {
namespace {

using shm::ClientError;
using shm::Response;

const std::string kManual = "aeron:udp?control-mode=manual";
const std::string kOne = "aeron:udp?endpoint=127.0.0.1:24325";
const std::string kTwo = "aeron:udp?endpoint=127.0.0.1:24326";

class ReceiveDestination : public ConductorTest {
 protected:
  void SetUp() override { start(); }
  std::int64_t change(shm::Command type, std::int64_t subscription, const std::string& channel) {
    shm::DestinationCommand command;
    command.client_id = kClient;
    command.correlation_id = next_id();
    command.registration_id = subscription;
    command.channel = channel;
    send(type, command);
    run();
    return command.correlation_id;
  }
  std::int64_t add(std::int64_t subscription, const std::string& channel) { return change(shm::Command::kAddReceiveDestination, subscription, channel); }
  std::int64_t remove(std::int64_t subscription, const std::string& channel) { return change(shm::Command::kRemoveReceiveDestination, subscription, channel); }
  void expect_success(std::int64_t id) { EXPECT_EQ(expect<shm::OnOperationSuccess>(Response::kOperationSuccess).correlation_id, id); }
  std::int64_t subscribe(const std::string& channel = kManual) {
    const std::int64_t id = add_subscription(channel);
    skip_all();
    return id;
  }
  [[nodiscard]] std::uint32_t parent() {
    for (const std::uint32_t index : world().endpoints.used()) {
      if (world().endpoints.slot(index).desired.mode == shm::EndpointMode::kManual) return index;
    }
    return shm::kNoSlot;
  }
  [[nodiscard]] std::vector<std::uint32_t> children() {
    std::vector<std::uint32_t> found;
    for (const std::uint32_t index : world().endpoints.used()) {
      if (world().endpoints.slot(index).desired.parent == parent()) found.push_back(index);
    }
    return found;
  }
  [[nodiscard]] std::size_t count(const std::string& start) {
    const auto all = labels();
    return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [&](const std::string& label) { return label.starts_with(start); }));
  }
};

// proves 5.6/1
TEST_F(ReceiveDestination, a_manual_subscription_is_ready_without_a_socket_or_an_address) {
  const std::int64_t id = add_subscription(kManual);
  expect<shm::OnCounter>(Response::kCounterReady);
  const auto ready = expect<shm::OnSubscriptionReady>(Response::kSubscriptionReady);
  EXPECT_EQ(ready.correlation_id, id);
  EXPECT_EQ(label(ready.channel_status_counter_id), "rcv-channel: " + kManual + " ");
  EXPECT_EQ(counters().counter(ready.channel_status_counter_id).get(), shm::channel_status::kActive);
  EXPECT_EQ(count("rcv-local-sockaddr"), 0U);
  expect_nothing();
}

// proves 5.6/1, 5.2/9
TEST_F(ReceiveDestination, each_udp_destination_has_a_socket_and_an_address_counter_of_its_own) {
  const std::int64_t id = subscribe();
  const std::int32_t status = world().endpoints.slot(parent()).desired.channel_status_id;
  expect_success(add(id, kOne));
  expect_success(add(id, kTwo));
  expect_nothing();
  ASSERT_EQ(children().size(), 2U);
  const auto all = labels();
  for (const char* address : {"127.0.0.1:24325", "127.0.0.1:24326"}) {
    EXPECT_NE(std::find(all.begin(), all.end(), "rcv-local-sockaddr: " + std::to_string(status) + " " + address), all.end()) << address;
  }
  for (const std::uint32_t child : children()) {
    const auto view = counters().find(world().endpoints.slot(child).desired.local_sockaddr_id);
    ASSERT_TRUE(view);
    EXPECT_EQ(view->registration_id, id);
    EXPECT_EQ(world().endpoints.slot(child).desired.channel_status_id, -1);
  }
}

TEST_F(ReceiveDestination, success_waits_for_the_socket_and_an_error_says_why_there_is_none) {
  const std::int64_t id = subscribe();
  data_plane->answers_endpoints = false;
  const std::int64_t command = add(id, kOne);
  expect_nothing();
  data_plane->answers_endpoints = true;
  registry().header.control_to_steward.ring({shm::SlotKind::kEndpoint, children().front()});
  run();
  expect_success(command);
  data_plane->endpoint_error = shm::SlotError{.code = static_cast<std::int32_t>(ClientError::kChannelEndpointError), .text = "127.0.0.1:24326 is in use"};
  const std::int64_t failed = add(id, kTwo);
  EXPECT_EQ(expect_error(failed, ClientError::kGeneric).text, "127.0.0.1:24326 is in use");
  run();
  EXPECT_EQ(children().size(), 1U);
  EXPECT_EQ(world().destinations.used().size(), 1U);
}

TEST_F(ReceiveDestination, what_is_no_manual_network_subscription_has_no_destinations) {
  expect_error(add(4711, kOne), ClientError::kUnknownSubscription);
  expect_error(remove(4711, kOne), ClientError::kUnknownSubscription);
  const std::int64_t ipc = subscribe("aeron:ipc");
  expect_error(add(ipc, kOne), ClientError::kUnknownSubscription);
  const std::int64_t plain = subscribe(kTwo);
  expect_error(add(plain, kOne), ClientError::kInvalidChannel);
  expect_error(remove(plain, kOne), ClientError::kInvalidChannel);
  EXPECT_TRUE(world().destinations.used().empty());
}

class ForbiddenReceiveDestination : public ReceiveDestination, public ::testing::WithParamInterface<const char*> {};

TEST_P(ForbiddenReceiveDestination, is_refused_and_leaves_nothing_behind) {
  const std::int64_t id = subscribe();
  const auto endpoints = world().endpoints.used().size();
  expect_error(add(id, GetParam()), ClientError::kInvalidChannel);
  EXPECT_TRUE(world().destinations.used().empty());
  EXPECT_EQ(world().endpoints.used().size(), endpoints);
  expect_error(remove(id, GetParam()), ClientError::kInvalidChannel);
}

INSTANTIATE_TEST_SUITE_P(Channels, ForbiddenReceiveDestination,
                         ::testing::Values("udp", "aeron:udp?control=127.0.0.1:1", "aeron:udp?endpoint=127.0.0.1:1|mtu=1408",
                                           "aeron:udp?endpoint=127.0.0.1:1|rcv-wnd=64k", "aeron:udp?endpoint=127.0.0.1:1|so-rcvbuf=64k",
                                           "aeron:udp?endpoint=127.0.0.1:1|so-sndbuf=64k", "aeron:udp?endpoint=127.0.0.1:1|response-correlation-id=7",
                                           "aeron:udp?endpoint=127.0.0.1:1|control-mode=manual", "aeron:udp?endpoint=127.0.0.1:1|control=127.0.0.1:0",
                                           "aeron:ipc?mtu=1408"));

// proves 5.6/2
TEST_F(ReceiveDestination, a_setup_that_comes_by_a_destination_makes_an_image_of_the_subscription) {
  const std::int64_t id = subscribe();
  expect_success(add(id, kOne));
  expect_success(add(id, kTwo));
  auto& setup = registry().lanes[0].setups[data_plane->request_image(parent(), 10, 7)];
  setup.destination = children().back();
  run();
  const auto image = expect<shm::OnAvailableImage>(Response::kAvailableImage);
  EXPECT_EQ(image.subscription_registration_id, id);
  EXPECT_EQ(image.session_id, 7);
  EXPECT_EQ(world().images.slot(only_image()).desired.endpoint, parent());
  EXPECT_EQ(world().images.slot(only_image()).desired.destination, children().back());
}

TEST_F(ReceiveDestination, a_setup_by_a_destination_that_is_gone_still_makes_the_image) {
  const std::int64_t id = subscribe();
  expect_success(add(id, kOne));
  auto& setup = registry().lanes[0].setups[data_plane->request_image(parent(), 10, 7)];
  setup.destination = 4000;
  run();
  expect<shm::OnAvailableImage>(Response::kAvailableImage);
  EXPECT_EQ(world().images.slot(only_image()).desired.destination, shm::kNoSlot);
}

// proves 5.6/5
TEST_F(ReceiveDestination, one_that_is_removed_lets_its_socket_go) {
  const std::int64_t id = subscribe();
  expect_success(add(id, kOne));
  expect_success(add(id, kTwo));
  expect_success(remove(id, kOne));
  run();
  ASSERT_EQ(children().size(), 1U);
  EXPECT_EQ(world().endpoints.record(children().front()).channel.uri, kTwo);
  EXPECT_EQ(count("rcv-local-sockaddr"), 1U);
  expect_success(remove(id, kOne));  // it is gone already
  expect_success(add(id, kOne));
  expect_nothing();
}

// proves 5.6/1, 5.6/7
TEST_F(ReceiveDestination, ipc_and_spy_destinations_link_at_once_and_later_publications_too) {
  const std::int64_t first = add_publication("aeron:ipc");
  add_publication(kOne);
  const std::int64_t id = subscribe();
  expect_success(add(id, "aeron:ipc"));
  const auto ipc = expect<shm::OnAvailableImage>(Response::kAvailableImage);
  EXPECT_EQ(ipc.subscription_registration_id, id);
  EXPECT_EQ(ipc.correlation_id, first);
  expect_success(add(id, "aeron-spy:" + kOne));
  const auto spy = expect<shm::OnAvailableImage>(Response::kAvailableImage);
  EXPECT_EQ(spy.subscription_registration_id, id);
  EXPECT_NE(spy.correlation_id, ipc.correlation_id);
  EXPECT_EQ(label(spy.subscriber_position_counter_id).find("sub-pos: " + std::to_string(id)), 0U);
  EXPECT_NE(label(spy.subscriber_position_counter_id).find("aeron-spy:" + kOne), std::string::npos);
  add_publication("aeron:ipc", 10, true);
  expect<shm::OnPublicationReady>(Response::kExclusivePublicationReady);
  EXPECT_EQ(expect<shm::OnAvailableImage>(Response::kAvailableImage).subscription_registration_id, id);
  add_publication("aeron:ipc", 11);
  expect<shm::OnPublicationReady>(Response::kPublicationReady);
  expect_nothing();
}

// proves 5.7/6
TEST_F(ReceiveDestination, a_spy_destination_may_be_a_tag) {
  add_publication(kOne + "|tags=7");
  const std::int64_t id = subscribe();
  expect_success(add(id, "aeron-spy:aeron:udp?tags=7"));
  EXPECT_EQ(expect<shm::OnAvailableImage>(Response::kAvailableImage).subscription_registration_id, id);
  expect_nothing();
}

TEST_F(ReceiveDestination, one_that_is_removed_takes_the_images_it_led_to_along_and_no_others) {
  const std::int64_t publication = add_publication("aeron:ipc");
  add_publication(kOne);
  const std::int64_t id = subscribe();
  add(id, "aeron:ipc");
  add(id, "aeron-spy:" + kOne);
  skip_all();
  expect_success(remove(id, "aeron:ipc"));
  const auto gone = expect<shm::OnUnavailableImage>(Response::kUnavailableImage);
  EXPECT_EQ(gone.correlation_id, publication);
  EXPECT_EQ(gone.subscription_registration_id, id);
  EXPECT_EQ(gone.channel, "aeron:ipc");
  expect_nothing();
  EXPECT_EQ(world().links.used().size(), 1U);
  add_publication("aeron:ipc", 10, true);
  expect<shm::OnPublicationReady>(Response::kExclusivePublicationReady);
  expect_nothing();
}

TEST_F(ReceiveDestination, a_subscription_that_ends_takes_its_destinations_along) {
  const std::int64_t id = subscribe();
  add(id, kOne);
  add(id, "aeron:ipc");
  remove_subscription(id);
  run();
  EXPECT_TRUE(world().destinations.used().empty());
  EXPECT_TRUE(world().endpoints.used().empty());
  EXPECT_EQ(count("rcv-"), 0U);
}

TEST_F(ReceiveDestination, a_plain_subscription_does_not_share_the_socket_of_a_destination) {
  const std::int64_t id = subscribe();
  expect_success(add(id, kOne));
  const auto endpoints = world().endpoints.used().size();
  add_subscription(kOne);
  EXPECT_EQ(world().endpoints.used().size(), endpoints + 1) << "the steward says that the port is in use";
}

TEST_F(ReceiveDestination, a_subscription_that_opens_no_socket_shares_nothing_with_one_that_does) {
  const std::int64_t plain = subscribe(kOne);
  const std::int64_t manual = subscribe(kOne + "|control-mode=manual");
  ASSERT_EQ(world().endpoints.used().size(), 2U);
  expect_success(add(manual, kTwo));
  expect_error(add(plain, kTwo), ClientError::kInvalidChannel);
  ASSERT_EQ(children().size(), 1U);
  EXPECT_EQ(world().endpoints.slot(children().front()).desired.parent, parent());
  subscribe(kOne + "|control-mode=manual");
  subscribe(kOne);
  EXPECT_EQ(world().endpoints.used().size(), 3U) << "both kinds share with their own";
}

TEST_F(ReceiveDestination, one_waits_for_the_socket_of_a_plain_subscription_that_goes_and_the_other_way_round) {
  const std::int64_t plain = subscribe(kOne);
  const std::int64_t manual = subscribe();
  data_plane->answers_endpoints = false;
  remove_subscription(plain);
  skip_all();
  const std::int64_t added = add(manual, kOne);
  expect_nothing();
  const auto answer_all = [this] {
    data_plane->answers_endpoints = true;
    for (const std::uint32_t index : world().interests.used()) world().bells.ring(shm::SlotKind::kInterest, index);
    run();
    for (const std::uint32_t index : world().endpoints.used()) world().bells.ring(shm::SlotKind::kEndpoint, index);
    run();
  };
  answer_all();
  expect_success(added);
  data_plane->answers_endpoints = false;
  expect_success(remove(manual, kOne));
  add_subscription(kOne);
  expect_nothing();
  answer_all();
  expect<shm::OnSubscriptionReady>(Response::kSubscriptionReady);
}

TEST_F(ReceiveDestination, one_is_removed_by_its_addresses_however_its_channel_is_written) {
  const std::int64_t id = subscribe();
  expect_success(add(id, kOne + "|control=127.0.0.1:24400|alias=first"));
  expect_success(remove(id, kOne));
  EXPECT_EQ(world().destinations.used().size(), 1U) << "without a control address it is another one";
  expect_success(remove(id, "aeron:udp?control=127.0.0.1:24400|endpoint=127.0.0.1:24325"));
  EXPECT_TRUE(world().destinations.used().empty());
}

// proves 5.6/8
TEST_F(ReceiveDestination, socket_buffers_come_from_the_subscription) {
  const std::int64_t id = subscribe(kManual + "|so-rcvbuf=256k|so-sndbuf=128k");
  expect_success(add(id, kOne));
  const auto& wanted = world().endpoints.slot(children().front()).desired;
  EXPECT_EQ(wanted.socket_rcvbuf, 256 << 10);
  EXPECT_EQ(wanted.socket_sndbuf, 128 << 10);
}

TEST_F(ReceiveDestination, all_are_known_to_a_control_plane_that_restarts) {
  const std::int64_t publication = add_publication("aeron:ipc");
  const std::int64_t id = subscribe();
  add(id, kOne);
  add(id, kTwo);
  add(id, "aeron:ipc");
  skip_all();
  crash_and_restart();
  ASSERT_EQ(children().size(), 2U);
  EXPECT_EQ(count("rcv-local-sockaddr"), 2U);
  expect_success(remove(id, "aeron:ipc"));
  EXPECT_EQ(expect<shm::OnUnavailableImage>(Response::kUnavailableImage).correlation_id, publication);
  expect_success(remove(id, kOne));
  run();
  EXPECT_EQ(children().size(), 1U);
  remove_subscription(id);
  run();
  EXPECT_TRUE(world().destinations.used().empty());
}

TEST_F(ReceiveDestination, a_command_that_waits_for_its_socket_goes_on_after_a_restart) {
  const std::int64_t id = subscribe();
  data_plane->answers_endpoints = false;
  const std::int64_t command = add(id, kOne);
  expect_nothing();
  crash_and_restart();  // what the data plane has not answered it is asked for again
  expect_success(command);
  EXPECT_EQ(children().size(), 1U);
  EXPECT_EQ(world().destinations.used().size(), 1U);
}

}  // namespace
}  // namespace thalweg::conductor::testing
