#include <filesystem>

#include "dataplane/shm/log_buffer.hpp"
#include "tests/unit/controlplane/fixture.hpp"

namespace thalweg::conductor::testing {
namespace {

using shm::ClientError;
using shm::Response;

const std::string kUdp = "aeron:udp?endpoint=127.0.0.1:24325";

class PublicationCommands : public ConductorTest {
 protected:
  void SetUp() override { start(); }
};

TEST_F(PublicationCommands, first_add_announces_the_heartbeat_counter_before_ready) {
  const std::int64_t id = add_publication(kUdp);
  const auto heartbeat = expect<shm::OnCounter>(Response::kCounterReady);
  EXPECT_EQ(heartbeat.correlation_id, kClient);
  EXPECT_EQ(label(heartbeat.counter_id), "client-heartbeat: id=1000");
  const auto ready = expect<shm::OnPublicationReady>(Response::kPublicationReady);
  EXPECT_EQ(ready.correlation_id, id);
  EXPECT_EQ(ready.original_registration_id, id);
  EXPECT_EQ(ready.stream_id, 10);
  EXPECT_EQ(ready.log_path, settings.directory + "/publications/" + std::to_string(id) + ".logbuffer");
  expect_nothing();
}

// proves 5.13/11
TEST_F(PublicationCommands, ready_names_a_log_that_exists_with_its_metadata) {
  const std::int64_t id = add_publication(kUdp + "|mtu=4096|linger=3s|tags=5,6");
  skip_all();
  const std::string path = settings.directory + "/publications/" + std::to_string(id) + ".logbuffer";
  auto file = shm::MappedFile::open(path, shm::MappedFile::Access::kReadOnly);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->length(), 200'704U);
  const std::byte* metadata = file->data() + file->length() - shm::kLogMetadataLength;
  EXPECT_EQ(load_le<std::int64_t>(metadata + shm::meta::kCorrelationId), id);
  EXPECT_EQ(load_le<std::int32_t>(metadata + shm::meta::kMtuLength), 4096);
  EXPECT_EQ(load_le<std::int32_t>(metadata + shm::meta::kTermLength), 64 << 10);
  EXPECT_EQ(load_le<std::int32_t>(metadata + shm::meta::kPageSize), 4096);
  EXPECT_EQ(load_le<std::int32_t>(metadata + shm::meta::kPublicationWindowLength), 32 << 10);
  EXPECT_EQ(load_le<std::int64_t>(metadata + shm::meta::kLinger_ns), 3'000'000'000);
  EXPECT_EQ(load_le<std::int64_t>(metadata + shm::meta::kEntityTag), 6);
  EXPECT_EQ(load_le<std::int64_t>(metadata + shm::meta::kEndOfStreamPosition), INT64_MAX);
}

TEST_F(PublicationCommands, network_publication_has_the_stock_counters_with_their_labels) {
  const std::int64_t id = add_publication(kUdp + "|session-id=77");
  const std::string tail = ": " + std::to_string(id) + " 77 10 " + kUdp + "|session-id=77";
  const std::vector<std::string> expected{"snd-channel: " + kUdp + "|session-id=77 127.0.0.1:40000",
                                          "snd-local-sockaddr: 46 127.0.0.1:40000",
                                          "pub-pos (concurrent)" + tail,
                                          "pub-lmt" + tail,
                                          "snd-pos" + tail,
                                          "snd-lmt" + tail,
                                          "snd-bpe" + tail,
                                          "snd-naks-received" + tail,
                                          "client-heartbeat: id=1000"};
  EXPECT_EQ(labels(), expected);
}

TEST_F(PublicationCommands, counters_carry_registration_owner_and_key) {
  const std::int64_t id = add_publication(kUdp + "|session-id=77");
  const auto channel = counters().find(46);
  ASSERT_TRUE(channel);
  EXPECT_EQ(channel->type_id, shm::counter_type::kSendChannelStatus);
  EXPECT_EQ(channel->value, shm::channel_status::kActive);
  EXPECT_EQ(channel->registration_id, id);
  EXPECT_EQ(channel->owner_id, 0);
  const auto limit = counters().find(49);
  ASSERT_TRUE(limit);
  EXPECT_EQ(limit->type_id, shm::counter_type::kPublisherLimit);
  EXPECT_EQ(limit->owner_id, kClient);
  EXPECT_EQ(limit->registration_id, id);
  EXPECT_EQ(load_le<std::int64_t>(limit->key.data()), id);
  EXPECT_EQ(load_le<std::int32_t>(limit->key.data() + 8), 77);
  EXPECT_EQ(load_le<std::int32_t>(limit->key.data() + 12), 10);
  const auto address = counters().find(47);
  ASSERT_TRUE(address);
  EXPECT_EQ(load_le<std::int32_t>(address->key.data()), 46);
}

// proves 5.10/1, 5.10/6
TEST_F(PublicationCommands, second_add_of_the_same_channel_shares_the_first) {
  const std::int64_t first = add_publication(kUdp);
  expect<shm::OnCounter>(Response::kCounterReady);
  const auto one = expect<shm::OnPublicationReady>(Response::kPublicationReady);
  const std::int64_t second = add_publication(kUdp);
  const auto two = expect<shm::OnPublicationReady>(Response::kPublicationReady);
  EXPECT_EQ(two.correlation_id, second);
  EXPECT_EQ(two.original_registration_id, first);
  EXPECT_EQ(two.session_id, one.session_id);
  EXPECT_EQ(two.publisher_limit_counter_id, one.publisher_limit_counter_id);
  EXPECT_EQ(two.channel_status_counter_id, one.channel_status_counter_id);
  EXPECT_EQ(two.log_path, one.log_path);
  EXPECT_EQ(world().publications.used().size(), 1U);
  EXPECT_EQ(world().endpoints.used().size(), 1U);
}

// proves 5.10/1, 5.10/6
TEST_F(PublicationCommands, exclusive_add_is_never_shared_but_uses_the_same_endpoint) {
  add_publication(kUdp);
  expect<shm::OnCounter>(Response::kCounterReady);
  const auto shared = expect<shm::OnPublicationReady>(Response::kPublicationReady);
  const std::int64_t id = add_publication(kUdp + "|session-id=77", 10, true);
  const auto exclusive = expect<shm::OnPublicationReady>(Response::kExclusivePublicationReady);
  EXPECT_EQ(exclusive.correlation_id, id);
  EXPECT_EQ(exclusive.original_registration_id, id);
  EXPECT_EQ(exclusive.session_id, 77);
  EXPECT_EQ(exclusive.channel_status_counter_id, shared.channel_status_counter_id);
  EXPECT_NE(exclusive.log_path, shared.log_path);
}

TEST_F(PublicationCommands, ipc_publication_has_no_channel_status_and_two_counters) {
  const std::int64_t id = add_publication("aeron:ipc?session-id=5", 40);
  expect<shm::OnCounter>(Response::kCounterReady);
  const auto ready = expect<shm::OnPublicationReady>(Response::kPublicationReady);
  EXPECT_EQ(ready.channel_status_counter_id, -1);
  EXPECT_EQ(ready.session_id, 5);
  const std::string tail = ": " + std::to_string(id) + " 5 40 aeron:ipc?session-id=5";
  EXPECT_EQ(labels(), (std::vector<std::string>{"pub-pos (concurrent)" + tail, "pub-lmt" + tail, "client-heartbeat: id=1000"}));
}

// proves 2.2/1
TEST_F(PublicationCommands, session_ids_count_up_and_skip_the_reserved_range) {
  add_publication("aeron:ipc", 1, true);
  expect<shm::OnCounter>(Response::kCounterReady);
  const auto first = expect<shm::OnPublicationReady>(Response::kExclusivePublicationReady);
  add_publication("aeron:ipc", 1, true);
  const auto second = expect<shm::OnPublicationReady>(Response::kExclusivePublicationReady);
  EXPECT_EQ(second.session_id, wire::wrapping_add(first.session_id, 1));
  EXPECT_FALSE(first.session_id >= -1 && first.session_id <= 1000);
}

TEST_F(PublicationCommands, next_available_session_id_follows_the_last_one) {
  add_publication("aeron:ipc", 1, true);
  expect<shm::OnCounter>(Response::kCounterReady);
  const auto ready = expect<shm::OnPublicationReady>(Response::kExclusivePublicationReady);
  shm::GetNextAvailableSessionId command;
  command.client_id = kClient;
  command.correlation_id = next_id();
  command.stream_id = 1;
  send(shm::Command::kGetNextAvailableSessionId, command);
  run();
  const auto next = expect<shm::OnNextAvailableSessionId>(Response::kNextAvailableSessionId);
  EXPECT_EQ(next.correlation_id, command.correlation_id);
  EXPECT_EQ(next.session_id, wire::wrapping_add(ready.session_id, 1));
}

// proves 2.2/4, 2.2/5, 5.13/10
TEST_F(PublicationCommands, explicit_start_position_initialises_tails_and_counters) {
  const std::int64_t id = add_publication("aeron:ipc?init-term-id=5|term-id=7|term-offset=64|term-length=65536");
  expect<shm::OnCounter>(Response::kCounterReady);
  const auto ready = expect<shm::OnPublicationReady>(Response::kPublicationReady);
  EXPECT_EQ(counters().counter(ready.publisher_limit_counter_id).get(), 2 * 65536 + 64);
  auto file = shm::MappedFile::open(settings.directory + "/publications/" + std::to_string(id) + ".logbuffer", shm::MappedFile::Access::kReadOnly);
  ASSERT_TRUE(file);
  const std::byte* metadata = file->data() + file->length() - shm::kLogMetadataLength;
  EXPECT_EQ(load_le<std::int64_t>(metadata), 0x5'00000000);
  EXPECT_EQ(load_le<std::int64_t>(metadata + 8), 0x6'00000000);
  EXPECT_EQ(load_le<std::int64_t>(metadata + 16), 0x7'00000040);
  EXPECT_EQ(load_le<std::int32_t>(metadata + shm::meta::kActiveTermCount), 2);
}

// proves 5.10/8, 5.13/6
TEST_F(PublicationCommands, fixed_session_id_that_is_in_use_clashes) {
  add_publication(kUdp + "|session-id=77", 10, true);
  skip_all();
  const std::int64_t id = add_publication(kUdp + "|session-id=77", 10, true);
  const auto error = expect_error(id, ClientError::kInvalidChannel);
  EXPECT_NE(error.text.find("existing publication has clashing sessionId=77 for streamId=10"), std::string_view::npos);
  EXPECT_EQ(world().endpoints.record(world().endpoints.used().front()).references, 1U) << "the failed command kept the endpoint";
}

class SharedMismatch : public PublicationCommands, public ::testing::WithParamInterface<std::pair<const char*, const char*>> {};

// proves 5.10/7, 5.13/14
TEST_P(SharedMismatch, a_parameter_that_differs_from_the_existing_publication_is_refused) {
  add_publication("aeron:udp?endpoint=127.0.0.1:24325|session-id=7|mtu=1408|term-length=65536|init-term-id=5|term-id=5|term-offset=0|ssc=false");
  skip_all();
  const std::int64_t id = add_publication(kUdp + "|" + GetParam().first);
  const auto error = expect_error(id, ClientError::kInvalidChannel);
  EXPECT_NE(error.text.find(std::string{"existing publication has different '"} + GetParam().second), std::string_view::npos) << error.text;
}
INSTANTIATE_TEST_SUITE_P(Parameters, SharedMismatch,
                         ::testing::Values(std::pair{"session-id=8", "session-id"}, std::pair{"mtu=4096", "mtu"}, std::pair{"term-length=131072", "term-length"},
                                           std::pair{"init-term-id=6|term-id=6|term-offset=0", "init-term-id"},
                                           std::pair{"init-term-id=5|term-id=5|term-offset=32", "term-id and term-offset"}, std::pair{"ssc=true", "ssc"}));

// proves 5.10/5
TEST_F(PublicationCommands, session_tag_copies_session_mtu_and_term_length) {
  add_publication(kUdp + "|tags=1,99|session-id=1234|mtu=4096|term-length=131072");
  skip_all();
  add_publication("aeron:udp?endpoint=127.0.0.1:24326|session-id=tag:99");
  const auto ready = expect<shm::OnPublicationReady>(Response::kPublicationReady);
  EXPECT_EQ(ready.session_id, 1234);
  for (const std::uint32_t index : world().publications.used()) EXPECT_EQ(world().publications.slot(index).desired.mtu, 4096);
}

TEST_F(PublicationCommands, removing_an_unknown_publication_is_error_3_and_creates_no_client) {
  const std::int64_t id = remove_publication(4711);
  const auto error = expect_error(id, ClientError::kUnknownPublication);
  EXPECT_NE(error.text.find("unknown publication client_id=1000 registration_id=4711"), std::string_view::npos);
  expect_nothing();
  EXPECT_TRUE(world().clients.used().empty());
}

TEST_F(PublicationCommands, a_publication_belongs_to_the_client_that_added_it) {
  const std::int64_t id = add_publication(kUdp);
  skip_all();
  const std::int64_t removal = remove_publication(id, false, kOther);
  expect_error(removal, ClientError::kUnknownPublication);
}

// proves 2.9/14
TEST_F(PublicationCommands, last_removal_closes_and_the_end_frees_everything) {
  const std::int64_t id = add_publication(kUdp);
  skip_all();
  const std::uint32_t index = world().publications.used().front();
  const std::int64_t removal = remove_publication(id);
  EXPECT_EQ(expect<shm::OnOperationSuccess>(Response::kOperationSuccess).correlation_id, removal);
  EXPECT_EQ(world().publications.desired(index), shm::Desired::kClosing);
  data_plane->end_publication(index);
  data_plane->finish_publication(index);
  run();
  EXPECT_TRUE(world().publications.used().empty());
  EXPECT_TRUE(world().endpoints.used().empty());
  EXPECT_TRUE(world().logs.used().empty());
  EXPECT_FALSE(std::filesystem::exists(settings.directory + "/publications/" + std::to_string(id) + ".logbuffer"));
  EXPECT_EQ(labels(), (std::vector<std::string>{"client-heartbeat: id=1000"}));
  expect_nothing();
}

TEST_F(PublicationCommands, an_add_while_draining_makes_a_new_publication) {
  const std::int64_t first = add_publication("aeron:ipc");
  remove_publication(first);
  skip_all();
  const std::int64_t second = add_publication("aeron:ipc");
  const auto ready = expect<shm::OnPublicationReady>(Response::kPublicationReady);
  EXPECT_EQ(ready.original_registration_id, second);
}

TEST_F(PublicationCommands, an_add_on_a_closing_endpoint_is_refused_for_now_and_not_logged) {
  const std::int64_t first = add_publication(kUdp);
  const std::uint32_t index = world().publications.used().front();
  remove_publication(first);
  skip_all();
  data_plane->answers_endpoints = false;
  data_plane->end_publication(index);
  data_plane->finish_publication(index);
  run();
  const std::int64_t errors_before = system(shm::SystemCounter::kErrors);
  const std::int64_t id = add_publication(kUdp);
  expect_error(id, ClientError::kResourceTemporarilyUnavailable);
  EXPECT_EQ(system(shm::SystemCounter::kErrors), errors_before);
}

TEST_F(PublicationCommands, revoke_marks_the_log_at_once_and_ends_the_images_when_the_lane_says_so) {
  const std::int64_t publication = add_publication("aeron:ipc");
  const std::int64_t subscription = add_subscription("aeron:ipc");
  skip_all();
  const std::uint32_t index = world().publications.used().front();
  remove_publication(publication, true);
  expect<shm::OnOperationSuccess>(Response::kOperationSuccess);
  EXPECT_EQ(world().logs.buffer(world().publications.slot(index).desired.log).load<std::uint8_t>(shm::meta::kIsPublicationRevoked), 1);
  data_plane->end_publication(index);
  run();
  const auto gone = expect<shm::OnUnavailableImage>(Response::kUnavailableImage);
  EXPECT_EQ(gone.correlation_id, publication);
  EXPECT_EQ(gone.subscription_registration_id, subscription);
  EXPECT_EQ(gone.channel, "aeron:ipc");
  EXPECT_EQ(system(shm::SystemCounter::kPublicationsRevoked), 1);
}

TEST_F(PublicationCommands, a_removal_of_24_bytes_revokes_nothing) {
  const std::int64_t id = add_publication("aeron:ipc");
  skip_all();
  shm::Buffer buffer;
  shm::RemovePublication command;
  command.client_id = kClient;
  command.correlation_id = next_id();
  command.registration_id = id;
  command.revoke = true;
  shm::encode(buffer, command);
  buffer.resize(24);
  send_raw(static_cast<std::int32_t>(shm::Command::kRemovePublication), buffer);
  run();
  expect<shm::OnOperationSuccess>(Response::kOperationSuccess);
  EXPECT_EQ(world().publications.slot(world().publications.used().front()).desired.is_revoked.load(), 0U);
}

TEST_F(PublicationCommands, the_steward_s_refusal_of_an_endpoint_reaches_the_client) {
  shm::SlotError refusal;
  refusal.code = static_cast<std::int32_t>(ClientError::kGeneric);
  std::snprintf(refusal.text, sizeof refusal.text, "bind 127.0.0.1:24325: address already in use");
  data_plane->endpoint_error = refusal;
  const std::int64_t id = add_publication(kUdp);
  EXPECT_EQ(expect_error(id, ClientError::kGeneric).text, "bind 127.0.0.1:24325: address already in use");
  expect_nothing();
  EXPECT_TRUE(world().clients.used().empty()) << "a failed first add creates no client";
  EXPECT_TRUE(world().endpoints.used().empty());
}

TEST_F(PublicationCommands, a_lane_s_refusal_frees_what_was_made) {
  shm::SlotError refusal;
  refusal.code = static_cast<std::int32_t>(ClientError::kGeneric);
  std::snprintf(refusal.text, sizeof refusal.text, "lane is full");
  data_plane->publication_error = refusal;
  const std::int64_t id = add_publication(kUdp);
  EXPECT_EQ(expect_error(id, ClientError::kGeneric).text, "lane is full");
  EXPECT_TRUE(world().publications.used().empty());
  EXPECT_TRUE(world().logs.used().empty());
  EXPECT_TRUE(labels().empty());
}

// proves 5.12/1
TEST_F(PublicationCommands, unresolvable_hosts_are_error_9) {
  const std::int64_t id = add_publication("aeron:udp?endpoint=no-such-host.invalid:24325");
  const auto error = expect_error(id, ClientError::kUnknownHost);
  EXPECT_NE(error.text.find("Unable to resolve host"), std::string_view::npos);
  EXPECT_GT(system(shm::SystemCounter::kNameResolverMaxTime), 0);
}

TEST_F(PublicationCommands, a_slow_command_blocks_its_own_client_only) {
  data_plane->answers_endpoints = false;
  add_publication(kUdp);
  expect_nothing();
  const std::int64_t own = add_publication("aeron:ipc");
  expect_nothing();
  const std::int64_t other = add_publication("aeron:ipc", 11, false, kOther);
  expect<shm::OnCounter>(Response::kCounterReady);
  EXPECT_EQ(expect<shm::OnPublicationReady>(Response::kPublicationReady).correlation_id, other);
  EXPECT_EQ(conductor->idle_ns(), 20'000) << "somebody waits for a lane";
  data_plane->answers_endpoints = true;
  const std::uint32_t endpoint = world().endpoints.used().front();
  registry().header.control_to_steward.ring({shm::SlotKind::kEndpoint, endpoint});
  run();
  expect<shm::OnCounter>(Response::kCounterReady);
  EXPECT_EQ(expect<shm::OnPublicationReady>(Response::kPublicationReady).stream_id, 10);
  EXPECT_EQ(expect<shm::OnPublicationReady>(Response::kPublicationReady).correlation_id, own);
  EXPECT_EQ(conductor->idle_ns(), settings.poll_interval_ns);
}

TEST_F(PublicationCommands, an_idle_conductor_naps_longer_while_a_resting_lane_watches_for_it) {
  advance(kMillisecond_ns);
  EXPECT_EQ(conductor->idle_ns(), settings.poll_interval_ns);
  registry().lanes[0].watched_ns = world().now.now_ns;
  EXPECT_EQ(conductor->idle_ns(), 2 * kMillisecond_ns);
  advance(4 * kMillisecond_ns);
  EXPECT_EQ(conductor->idle_ns(), 2 * kMillisecond_ns);
  advance(kMillisecond_ns);
  EXPECT_EQ(conductor->idle_ns(), settings.poll_interval_ns) << "the lane has something else to do";
}

// proves 2.13/2
TEST_F(PublicationCommands, error_frames_of_receivers_reach_clients_once) {
  const std::int64_t id = add_publication(kUdp + "|session-id=5");
  skip_all();
  const std::uint32_t index = world().publications.used().front();
  auto& observed = registry().publications[index].observed;
  observed.error_receiver_id = 0x3188'4B81'AD1E'0FAD;
  observed.error_source_address = 0x7F000001;
  observed.error_source_port = 24888;
  observed.error.code = 13;
  std::snprintf(observed.error.text, sizeof observed.error.text, "reason");
  ++observed.error_frames;
  registry().lanes[0].to_control.ring({shm::SlotKind::kPublication, index});
  run();
  const auto error = expect<shm::OnPublicationError>(Response::kPublicationError);
  EXPECT_EQ(error.registration_id, id);
  EXPECT_EQ(error.destination_registration_id, -1);
  EXPECT_EQ(error.receiver_id, 0x3188'4B81'AD1E'0FAD);
  EXPECT_EQ(error.source_port, 24888);
  EXPECT_EQ(error.address_type, 1);
  EXPECT_EQ(load_be32(error.address), 0x7F000001U);
  EXPECT_EQ(error.text, "reason");
  tick();
  expect_nothing();
}

TEST_F(PublicationCommands, error_frames_may_come_from_ipv6_addresses) {
  add_publication(kUdp);
  skip_all();
  const std::uint32_t index = world().publications.used().front();
  auto& observed = registry().publications[index].observed;
  const wire::Ipv6Address source = *wire::parse_ipv6("2001:db8::7");
  observed.error_source_address = registry().addresses.enter({source, 0}, shm::AddressBook::By::kLearned, now.now_ns);
  ++observed.error_frames;
  registry().lanes[0].to_control.ring({shm::SlotKind::kPublication, index});
  run();
  const auto error = expect<shm::OnPublicationError>(Response::kPublicationError);
  EXPECT_EQ(error.address_type, 2);
  EXPECT_EQ(std::memcmp(error.address, source.bytes.data(), source.bytes.size()), 0);
}

TEST_F(PublicationCommands, a_flood_of_error_frames_is_told_in_part_and_then_its_latest) {
  add_publication(kUdp);
  skip_all();
  const std::uint32_t index = world().publications.used().front();
  auto& observed = registry().publications[index].observed;
  std::size_t told = 0;
  for (std::int64_t receiver = 1; receiver <= 1'000; ++receiver) {
    observed.error_receiver_id = receiver;
    ++observed.error_frames;
    registry().lanes[0].to_control.ring({shm::SlotKind::kPublication, index});
    run();
    told += response_types().size();
  }
  EXPECT_EQ(told, shm::kReceiversMax);
  tick();
  EXPECT_EQ(expect<shm::OnPublicationError>(Response::kPublicationError).receiver_id, 1'000);
  expect_nothing();
}

TEST_F(PublicationCommands, one_that_its_corrupt_log_ended_is_an_error_to_be_seen) {
  add_publication("aeron:udp?endpoint=127.0.0.1:24325", 77);
  run();
  const std::uint32_t index = world().publications.used().front();
  registry().publications[index].observed.state.is_corrupt = 1;
  data_plane->end_publication(index);
  run();
  EXPECT_NE(errors().find("its log held a frame that does not belong there: stream=77"), std::string::npos) << errors();
}

// As a data plane does that crashed on the stream too often.
void quarantine(auto& slot) {
  for (std::uint32_t i = 0; i < shm::kCrashesMax; ++i) slot.observed.crashes.add(slot.desired.generation);
  std::strcpy(slot.observed.error.text, "quarantined: it crashed us");
  static_cast<shm::ObservedHead&>(slot.observed).state.store(shm::Observed::kFailed);
}

TEST_F(PublicationCommands, one_that_is_quarantined_is_told_to_everybody_and_served_by_nobody) {
  const std::int64_t id = add_publication(kUdp, 77);
  run();
  skip_all();
  const std::uint32_t index = world().publications.used().front();
  quarantine(registry().publications[index]);
  data_plane->ring_all();
  run();
  const auto told = expect<shm::OnPublicationError>(shm::Response::kPublicationError);
  EXPECT_EQ(told.registration_id, id);
  EXPECT_EQ(told.text, "quarantined: it crashed us");
  EXPECT_NE(errors().find("quarantined"), std::string::npos) << errors();
  add_publication(kUdp, 77);
  run();
  EXPECT_EQ(world().publications.used().size(), 2U) << "who comes now gets another one";
  remove_publication(id);
  run();
  EXPECT_EQ(world().publications.used().size(), 1U);
}

class StartUp : public ConductorTest {};

TEST_F(StartUp, the_version_is_stored_only_when_the_data_plane_is_active) {
  start(false);
  EXPECT_EQ(files().cnc.version(), 0);
  EXPECT_FALSE(conductor->is_ready());
  data_plane->become_active(now.now_ns);
  run();
  EXPECT_EQ(files().cnc.version(), shm::kCncVersion);
  EXPECT_EQ(ring().consumer_heartbeat(), now.now_ms);
  EXPECT_EQ(system(shm::SystemCounter::kControlProtocolVersion), 65536);
  EXPECT_EQ(ring().next_correlation_id(), 1);
}

TEST_F(StartUp, the_heartbeat_follows_the_timer_and_ends_with_minus_one) {
  start();
  const std::int64_t before = ring().consumer_heartbeat();
  tick();
  EXPECT_EQ(ring().consumer_heartbeat(), now.now_ms);
  EXPECT_GT(ring().consumer_heartbeat(), before);
  add_publication(kUdp);
  conductor->close(now);
  EXPECT_EQ(ring().consumer_heartbeat(), -1);
  EXPECT_TRUE(std::filesystem::is_empty(settings.directory + "/publications"));
}

}  // namespace
}  // namespace thalweg::conductor::testing
