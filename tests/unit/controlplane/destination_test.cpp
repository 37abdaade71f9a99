#include "controlplane/conductor/destination_table.hpp"
#include "tests/unit/controlplane/fixture.hpp"

namespace thalweg::conductor::testing {
namespace {

using shm::ClientError;

// ---- channels ----

Outcome<UdpChannel> check(const std::string& text) {
  const auto uri = shm::ChannelUri::parse(text);
  if (!uri) return tl::unexpected{to_command_error(uri.error())};
  return check_destination_channel(*uri);
}

TEST(DestinationChannel, has_an_endpoint_and_perhaps_a_control_address) {
  const auto channel = check("aeron:udp?endpoint=10.0.0.2:40123|control=10.0.0.9:40200");
  ASSERT_TRUE(channel) << channel.error().text;
  EXPECT_EQ(channel->endpoint->address, 0x0A000002U);
  EXPECT_EQ(channel->endpoint->port, 40'123);
  EXPECT_EQ(channel->control->port, 40'200);
}

TEST(DestinationChannel, may_be_a_name_nobody_knows_yet) {
  const auto channel = check("aeron:udp?endpoint=tomorrow.example:40123");
  ASSERT_TRUE(channel) << channel.error().text;
  EXPECT_FALSE(channel->endpoint->is_resolved);
}

class ForbiddenDestination : public ::testing::TestWithParam<std::string> {};

TEST_P(ForbiddenDestination, is_an_invalid_channel_and_the_error_names_it) {
  const auto channel = check(GetParam());
  ASSERT_FALSE(channel);
  EXPECT_EQ(channel.error().code, ClientError::kInvalidChannel);
  EXPECT_NE(channel.error().text.find("channel=" + GetParam()), std::string::npos) << channel.error().text;
}

INSTANTIATE_TEST_SUITE_P(Channels, ForbiddenDestination,
                         ::testing::Values("aeron:ipc", "aeron-spy:aeron:udp?endpoint=10.0.0.2:40123", "aeron:udp?control=10.0.0.2:40123|control-mode=dynamic",
                                           "aeron:udp?endpoint=10.0.0.2:40123|mtu=1408", "aeron:udp?endpoint=10.0.0.2:40123|rcv-wnd=128k",
                                           "aeron:udp?endpoint=10.0.0.2:40123|so-rcvbuf=128k", "aeron:udp?endpoint=10.0.0.2:40123|so-sndbuf=128k",
                                           "aeron:udp?endpoint=10.0.0.2:40123|response-correlation-id=1",
                                           "aeron:udp?endpoint=10.0.0.2:40123|control-mode=response", "aeron:udp?endpoint=10.0.0.2"));

// ---- the table ----

class Destinations : public ConductorTest {
 protected:
  std::uint32_t add(shm::DestinationKind kind, const std::string& uri, std::uint32_t owner = 0) {
    const auto channel = check(uri);
    EXPECT_TRUE(channel);
    const bool is_send = kind == shm::DestinationKind::kSend;
    const auto added = table().add({.kind = kind, .endpoint = is_send ? owner : shm::kNoSlot, .subscription = is_send ? shm::kNoSlot : owner,
                                    .registration_id = next_id(), .client_id = kClient, .uri = uri, .channel = &*channel});
    EXPECT_TRUE(added) << added.error().text;
    return added.value_or(shm::kNoSlot);
  }
  std::int64_t id_of(std::uint32_t destination) { return world().destinations.slot(destination).desired.registration_id; }
  DestinationTable table() { return DestinationTable{world()}; }
};

TEST_F(Destinations, of_a_publication_wait_for_their_lane) {
  start();
  const std::uint32_t destination = add(shm::DestinationKind::kSend, "aeron:udp?endpoint=10.0.0.2:40123", 3);
  EXPECT_EQ(table().status(destination), Status::kStarting);
  run();
  EXPECT_EQ(table().status(destination), Status::kActive);
  const auto& wanted = registry().destinations[destination].desired;
  EXPECT_EQ(wanted.endpoint, 3U);
  EXPECT_EQ(wanted.remote_address, 0x0A000002U);
  EXPECT_EQ(wanted.remote_port, 40'123);
  EXPECT_EQ(table().find(id_of(destination)), destination);
  data_plane->answers_destinations = false;
  const std::int64_t id = id_of(destination);
  table().remove(destination);
  EXPECT_EQ(table().find(id), shm::kNoSlot);
  run();
  EXPECT_EQ(world().destinations.used().size(), 1U) << "its lane still has it";
  data_plane->answers_destinations = true;
  world().bells.ring(shm::SlotKind::kDestination, destination);
  run();
  EXPECT_TRUE(world().destinations.used().empty());
}

TEST_F(Destinations, of_a_subscription_are_there_and_gone_at_once) {
  start();
  const std::uint32_t destination = add(shm::DestinationKind::kReceive, "aeron:udp?endpoint=10.0.0.2:40123", 5);
  EXPECT_EQ(table().status(destination), Status::kActive);
  EXPECT_EQ(registry().destinations[destination].desired.subscription, 5U);
  table().remove(destination);
  EXPECT_TRUE(world().destinations.used().empty());
}

TEST_F(Destinations, are_found_by_their_address_as_written_or_as_meant) {
  start();
  const std::uint32_t first = add(shm::DestinationKind::kSend, "aeron:udp?endpoint=localhost:40123", 3);
  const std::uint32_t second = add(shm::DestinationKind::kSend, "aeron:udp?endpoint=127.0.0.1:40123", 3);
  EXPECT_EQ(table().find_at(3, {.text = "localhost:40123", .host = "localhost", .port = 40'123}), first);
  EXPECT_EQ(table().find_at(4, {.text = "localhost:40123", .host = "localhost", .port = 40'123}), shm::kNoSlot) << "of another publication";
  const ChannelAddress meant{.text = "127.0.0.1:40123", .host = "127.0.0.1", .port = 40'123, .address = 0x7F000001, .is_resolved = true};
  table().remove(first);
  EXPECT_EQ(table().find_at(3, meant), second);
}

TEST_F(Destinations, survive_a_restart) {
  start();
  const std::uint32_t sent_to = add(shm::DestinationKind::kSend, "aeron:udp?endpoint=10.0.0.2:40123|alias=a", 3);
  run();
  const std::int64_t id = id_of(sent_to);
  crash_and_restart();
  run();
  ASSERT_EQ(table().find(id), sent_to);
  EXPECT_EQ(table().status(sent_to), Status::kActive);
  EXPECT_EQ(world().destinations.record(sent_to).channel.endpoint->port, 40'123);
  EXPECT_EQ(world().destinations.record(sent_to).uri, "aeron:udp?endpoint=10.0.0.2:40123|alias=a");
}

// ---- publications with many destinations ----

class ManyDestinations : public ConductorTest {
 protected:
  void SetUp() override { start(); }
  shm::OnError refused(const std::string& channel, ClientError code = ClientError::kInvalidChannel) { return expect_error(add_publication(channel), code); }
};
const std::string kDynamic = "aeron:udp?control=127.0.0.1:24500|control-mode=dynamic";

// proves 5.5/4
TEST_F(ManyDestinations, a_dynamic_publication_is_a_group_and_counts_its_destinations) {
  add_publication(kDynamic, 10, true);
  const std::vector<std::string> all = labels();
  ASSERT_GE(all.size(), 3U);
  EXPECT_EQ(all[0], "snd-channel: " + kDynamic + " 127.0.0.1:24500");
  EXPECT_EQ(all[1], "mdc-num-dest: " + kDynamic);
  EXPECT_TRUE(all[2].starts_with("snd-local-sockaddr: ")) << all[2];
  const auto& endpoint = registry().endpoints[world().endpoints.used().front()].desired;
  EXPECT_EQ(endpoint.mode, shm::EndpointMode::kDynamic);
  EXPECT_EQ(endpoint.local_port, 24'500);
  EXPECT_EQ(endpoint.remote_port, 0);
  const auto& publication = registry().publications[world().publications.used().front()].desired;
  EXPECT_NE(publication.flags & shm::PublicationFlags::kGroup, 0U);
  EXPECT_EQ(publication.flags & shm::PublicationFlags::kMulticast, 0U);
  EXPECT_EQ(publication.flow_control, shm::FlowControl::kMax);
  skip_all();
  crash_and_restart();
  EXPECT_EQ(labels(), all);
}

// proves 5.5/1
TEST_F(ManyDestinations, need_a_control_address_that_receivers_can_know) {
  EXPECT_NE(refused("aeron:udp?control-mode=dynamic|endpoint=127.0.0.1:24325").text.find("needs a control address"), std::string::npos);
  EXPECT_NE(refused("aeron:udp?control=127.0.0.1:24500").text.find("needs a control-mode"), std::string::npos);
}

TEST_F(ManyDestinations, an_endpoint_has_one_control_mode) {
  add_publication("aeron:udp?control=127.0.0.1:24500|endpoint=127.0.0.1:24325");
  skip_all();
  EXPECT_NE(refused("aeron:udp?control=127.0.0.1:24500|endpoint=127.0.0.1:24325|control-mode=dynamic").text.find("'control-mode'"), std::string::npos);
}

// ---- commands ----

class DestinationCommands : public ManyDestinations {
 protected:
  static inline const std::string kManual = "aeron:udp?control=127.0.0.1:24500|control-mode=manual";
  std::int64_t change(shm::Command type, std::int64_t publication, const std::string& channel) {
    shm::DestinationCommand command;
    command.client_id = kClient;
    command.correlation_id = next_id();
    command.registration_id = publication;
    command.channel = channel;
    send(type, command);
    run();
    return command.correlation_id;
  }
  std::int64_t add(std::int64_t publication, const std::string& channel) { return change(shm::Command::kAddDestination, publication, channel); }
  std::int64_t remove(std::int64_t publication, const std::string& channel) { return change(shm::Command::kRemoveDestination, publication, channel); }
  std::int64_t remove_by_id(std::int64_t publication, std::int64_t destination) {
    const shm::RemoveDestinationById command{{kClient, next_id()}, publication, destination};
    send(shm::Command::kRemoveDestinationById, command);
    run();
    return command.correlation_id;
  }
  void expect_success(std::int64_t correlation_id) { EXPECT_EQ(expect<shm::OnOperationSuccess>(shm::Response::kOperationSuccess).correlation_id, correlation_id); }
  std::int64_t publish(const std::string& channel = kManual, bool is_exclusive = false, std::int64_t client = kClient) {
    const std::int64_t id = add_publication(channel, 10, is_exclusive, client);
    skip_all();
    return id;
  }
  const shm::DestinationSlot& only() {
    EXPECT_EQ(world().destinations.used().size(), 1U);
    return registry().destinations[world().destinations.used().front()];
  }
  [[nodiscard]] std::size_t count() { return world().destinations.used().size(); }
};

// proves 5.5/8
TEST_F(DestinationCommands, add_and_remove_by_channel_or_registration_id) {
  const std::int64_t publication = publish();
  const std::int64_t first = add(publication, "aeron:udp?endpoint=127.0.0.1:24501");
  expect_success(first);
  EXPECT_EQ(only().desired.endpoint, world().publications.slot(world().publications.used().front()).desired.endpoint);
  EXPECT_EQ(only().desired.remote_port, 24'501);
  const std::int64_t second = add(publication, "aeron:udp?endpoint=localhost:24502");
  expect_success(second);
  expect_success(remove_by_id(publication, first));
  EXPECT_EQ(only().desired.registration_id, second);
  expect_success(remove(publication, "aeron:udp?endpoint=127.0.0.1:24502"));
  EXPECT_EQ(count(), 0U);
  expect_success(remove(publication, "aeron:udp?endpoint=127.0.0.1:24502"));   // was never there: so it shall be
  expect_success(remove_by_id(publication, 4711));
}

TEST_F(DestinationCommands, one_that_was_added_by_address_can_be_removed_by_name) {
  const std::int64_t publication = publish();
  expect_success(add(publication, "aeron:udp?endpoint=127.0.0.9:24501"));
  world().resolve_host = [](const std::string& host) -> Result<std::uint32_t> {
    if (host == "nine.example") return 0x7F000009U;
    return fail(ErrorCode::kUnknownHost, "nobody is called " + host);
  };
  expect_success(remove(publication, "aeron:udp?endpoint=nobody.example:24501"));
  EXPECT_EQ(count(), 1U);
  expect_success(remove(publication, "aeron:udp?endpoint=nine.example:24502"));
  EXPECT_EQ(count(), 1U);
  expect_success(remove(publication, "aeron:udp?endpoint=nine.example:24501"));
  EXPECT_EQ(count(), 0U);
}

TEST_F(DestinationCommands, an_unknown_publication_is_an_error_and_so_is_one_that_is_not_manual) {
  expect_error(add(4711, "aeron:udp?endpoint=127.0.0.1:24501"), ClientError::kUnknownPublication);
  expect_error(remove(4711, "aeron:udp?endpoint=127.0.0.1:24501"), ClientError::kUnknownPublication);
  expect_error(remove_by_id(4711, 1), ClientError::kUnknownPublication);
  const std::int64_t ipc = publish("aeron:ipc");
  expect_error(add(ipc, "aeron:udp?endpoint=127.0.0.1:24501"), ClientError::kUnknownPublication);
  const std::int64_t dynamic = publish(kDynamic);
  expect_error(add(dynamic, "aeron:udp?endpoint=127.0.0.1:24501"), ClientError::kGeneric);
  EXPECT_EQ(count(), 0U);
}

// proves 5.5/9
TEST_F(DestinationCommands, a_channel_that_cannot_be_a_destination_is_an_error) {
  const std::int64_t publication = publish();
  for (const char* channel : {"aeron:ipc", "aeron-spy:aeron:udp?endpoint=127.0.0.1:24501", "aeron:udp?endpoint=127.0.0.1:0", "aeron:udp?control=127.0.0.1:24501",
                              "aeron:udp?endpoint=127.0.0.1:24501|mtu=1408", "aeron:udp?endpoint=127.0.0.1:24501|response-correlation-id=1",
                              "aeron:udp?endpoint=224.10.9.1:24501", "nonsense"}) {
    expect_error(add(publication, channel), ClientError::kInvalidChannel);
  }
  EXPECT_EQ(count(), 0U);
}

TEST_F(DestinationCommands, are_taken_with_the_id_of_any_who_share_the_publication) {
  const std::int64_t original = publish();
  const std::int64_t shared = publish(kManual, false, kOther);
  expect_success(add(shared, "aeron:udp?endpoint=127.0.0.1:24501"));
  remove_publication(original);
  skip_all();
  expect_success(add(original, "aeron:udp?endpoint=127.0.0.1:24502"));   // stock clients know no other id
  EXPECT_EQ(count(), 2U);
}

TEST_F(DestinationCommands, what_its_lane_refuses_the_client_is_told) {
  const std::int64_t publication = publish();
  data_plane->destination_error = shm::SlotError{.code = static_cast<std::int32_t>(ClientError::kGeneric), .text = "all of them are in use"};
  const auto error = expect_error(add(publication, "aeron:udp?endpoint=127.0.0.1:24501"), ClientError::kGeneric);
  EXPECT_NE(error.text.find("all of them are in use"), std::string::npos);
  data_plane->destination_error.reset();
  run();
  EXPECT_EQ(count(), 0U);
}

TEST_F(DestinationCommands, go_with_the_publication) {
  const std::int64_t publication = publish();
  expect_success(add(publication, "aeron:udp?endpoint=127.0.0.1:24501"));
  remove_publication(publication);
  run();
  data_plane->end_publication(world().publications.used().front());
  data_plane->finish_publication(world().publications.used().front());
  run();
  tick();
  EXPECT_EQ(world().endpoints.used().size(), 0U);
  EXPECT_EQ(count(), 0U);
}

TEST_F(DestinationCommands, one_that_was_under_way_when_the_control_plane_died_is_answered_by_the_next_and_added_once) {
  const std::int64_t publication = publish();
  data_plane->answers_destinations = false;
  const std::int64_t id = add(publication, "aeron:udp?endpoint=127.0.0.1:24501");
  expect_nothing();
  crash_and_restart();
  data_plane->answers_destinations = true;
  run();
  world().bells.ring(shm::SlotKind::kDestination, world().destinations.used().front());
  run();
  expect_success(id);
  EXPECT_EQ(only().desired.registration_id, id);
}

// proves 5.5/11
TEST_F(DestinationCommands, a_name_that_means_nothing_yet_is_kept_and_asked_for_again) {
  const std::int64_t publication = publish();
  world().resolve_host = [](const std::string& host) -> Result<std::uint32_t> { return fail(ErrorCode::kUnknownHost, "nobody is called " + host); };
  expect_success(add(publication, "aeron:udp?endpoint=later.example:24501"));
  EXPECT_EQ(only().desired.remote_address, 0U);
  EXPECT_NE(errors().find("nobody is called later.example"), std::string::npos);
  world().resolve_host = [](const std::string&) -> Result<std::uint32_t> { return 0x7F000009U; };
  for (int i = 0; i < 4; ++i) advance(1'100'000'000);
  EXPECT_EQ(only().desired.remote_address, 0U) << "silence is 5 s long";
  for (int i = 0; i < 3; ++i) advance(1'100'000'000);
  EXPECT_EQ(only().desired.remote_address, 0x7F000009U);
  EXPECT_EQ(system(shm::SystemCounter::kResolutionChanges), 1);

  world().resolve_host = [](const std::string&) -> Result<std::uint32_t> { return 0x7F00000AU; };
  const std::uint32_t index = world().destinations.used().front();
  for (int i = 0; i < 8; ++i) {
    registry().destinations[index].observed.last_heard_ns = now.now_ns;
    advance(1'100'000'000);
  }
  EXPECT_EQ(only().desired.remote_address, 0x7F000009U) << "it is heard, so it is not asked for";
  for (int i = 0; i < 7; ++i) advance(1'100'000'000);
  EXPECT_EQ(only().desired.remote_address, 0x7F00000AU);
  crash_and_restart();
  run();
  EXPECT_EQ(only().desired.remote_address, 0x7F00000AU);
}

}  // namespace
}  // namespace thalweg::conductor::testing
