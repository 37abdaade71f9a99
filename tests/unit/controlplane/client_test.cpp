// Clients: their counters, their life and death, and what hostile ones write into the ring (client-protocol 3.5, 6.4, 6.5, 8.4).
#include "dataplane/base/random.hpp"
#include "tests/unit/controlplane/fixture.hpp"

namespace thalweg::conductor::testing {
namespace {

using shm::ClientError;
using shm::Command;
using shm::Response;

class Clients : public ConductorTest {
 protected:
  void SetUp() override { start(); }
  void client_command(Command type, std::int64_t client = kClient) {
    shm::ClientCommand command;
    command.client_id = client;
    command.correlation_id = -1;
    send(type, command);
    run();
  }
  std::int64_t remove_counter(std::int64_t registration_id, std::int64_t client = kClient) {
    shm::RemoveRegistration command;
    command.client_id = client;
    command.correlation_id = next_id();
    command.registration_id = registration_id;
    send(Command::kRemoveCounter, command);
    run();
    return command.correlation_id;
  }
  std::int64_t add_static(std::int64_t registration_id, std::int32_t type_id, const char* label) {
    shm::AddStaticCounter command;
    command.client_id = kClient;
    command.correlation_id = next_id();
    command.registration_id = registration_id;
    command.type_id = type_id;
    command.label = label;
    send(Command::kAddStaticCounter, command);
    run();
    return command.correlation_id;
  }
};

// ---- counters ----

TEST_F(Clients, a_counter_is_there_until_it_is_removed) {
  const std::int64_t id = add_counter(1101, "orders");
  expect<shm::OnCounter>(Response::kCounterReady);
  const auto ready = expect<shm::OnCounter>(Response::kCounterReady);
  EXPECT_EQ(ready.correlation_id, id);
  const auto view = counters().find(ready.counter_id);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->label, "orders");
  EXPECT_EQ(view->type_id, 1101);
  EXPECT_EQ(view->registration_id, id);
  EXPECT_EQ(view->owner_id, kClient);
  const std::int64_t removal = remove_counter(id);
  EXPECT_EQ(expect<shm::OnOperationSuccess>(Response::kOperationSuccess).correlation_id, removal);
  const auto gone = expect<shm::OnCounter>(Response::kUnavailableCounter);
  EXPECT_EQ(gone.correlation_id, id);
  EXPECT_EQ(gone.counter_id, ready.counter_id);
  EXPECT_FALSE(counters().find(ready.counter_id));
  expect_error(remove_counter(id), ClientError::kUnknownCounter);
}

TEST_F(Clients, a_counter_belongs_to_its_client) {
  const std::int64_t id = add_counter(1101, "orders");
  skip_all();
  expect_error(remove_counter(id, kOther), ClientError::kUnknownCounter);
}

TEST_F(Clients, a_replayed_add_is_answered_again_and_makes_nothing_twice) {
  shm::AddCounter command;
  command.client_id = kClient;
  command.correlation_id = next_id();
  command.type_id = 1101;
  command.label = "orders";
  send(Command::kAddCounter, command);
  send(Command::kAddCounter, command);
  run();
  expect<shm::OnCounter>(Response::kCounterReady);
  const auto one = expect<shm::OnCounter>(Response::kCounterReady);
  const auto two = expect<shm::OnCounter>(Response::kCounterReady);
  EXPECT_EQ(one.counter_id, two.counter_id);
  EXPECT_EQ(labels().size(), 2U);
}

TEST_F(Clients, static_counters_outlive_their_client_and_are_found_again) {
  const std::int64_t id = add_static(77, 1102, "state");
  expect<shm::OnCounter>(Response::kCounterReady);
  const auto made = expect<shm::OnCounter>(Response::kStaticCounter);
  EXPECT_EQ(made.correlation_id, id);
  client_command(Command::kClientClose);
  tick();
  skip_all();
  EXPECT_EQ(label(made.counter_id), "state");
  add_static(77, 1102, "other label");
  expect<shm::OnCounter>(Response::kCounterReady);
  EXPECT_EQ(expect<shm::OnCounter>(Response::kStaticCounter).counter_id, made.counter_id);
  EXPECT_EQ(label(made.counter_id), "state");
  const std::int64_t dynamic = add_counter(1103, "dynamic");
  skip_all();
  expect_error(add_static(dynamic, 1103, "clash"), ClientError::kGeneric);
}

TEST_F(Clients, when_all_counters_are_taken_the_answer_is_an_error_and_removal_makes_room) {
  const std::int32_t capacity = counters().capacity();
  std::int64_t last = 0;
  for (std::int32_t i = shm::kSystemCounterCount + 1; i < capacity; ++i) last = add_counter(1101, "filler");
  skip_all();
  EXPECT_NE(expect_error(add_counter(1101, "one too many"), ClientError::kGeneric).text.find("max counter id"), std::string::npos);
  expect_error(add_publication("aeron:ipc"), ClientError::kGeneric);
  EXPECT_TRUE(world().publications.used().empty());
  run();
  EXPECT_EQ(world().logs.used().size(), 0U);
  remove_counter(last);
  advance(1'100 * kMillisecond_ns);  // the reuse time-out
  skip_all();
  add_counter(1101, "fits again");
  EXPECT_EQ(expect<shm::OnCounter>(Response::kCounterReady).counter_id, capacity - 1);
}

// ---- life and death ----

TEST_F(Clients, a_silent_client_times_out_and_takes_everything_along_in_order) {
  const std::int64_t publication = add_publication("aeron:udp?endpoint=127.0.0.1:24325");
  add_subscription("aeron:ipc");
  add_subscription("aeron:udp?endpoint=127.0.0.1:24326");
  const std::int64_t counter = add_counter(1101, "orders");
  add_publication("aeron:ipc", 40, false, kOther);
  skip_all();
  for (int i = 0; i < 11; ++i) {
    client_command(Command::kClientKeepalive, kOther);
    advance(kSecond_ns + kMillisecond_ns);
  }
  EXPECT_EQ(expect<shm::OnClientTimeout>(Response::kClientTimeout).client_id, kClient);
  EXPECT_EQ(expect<shm::OnCounter>(Response::kUnavailableCounter).correlation_id, kClient);
  EXPECT_EQ(expect<shm::OnCounter>(Response::kUnavailableCounter).correlation_id, counter);
  expect_nothing();
  EXPECT_EQ(system(shm::SystemCounter::kClientTimeouts), 1);
  EXPECT_TRUE(world().subscriptions.used().empty());
  EXPECT_EQ(world().clients.used().size(), 1U);
  for (const std::uint32_t index : world().publications.used()) {
    const bool is_ours = registry().publications[index].desired.registration_id == publication;
    EXPECT_EQ(world().publications.desired(index), is_ours ? shm::Desired::kClosing : shm::Desired::kActive);
  }
}

TEST_F(Clients, keepalives_keep_a_client_and_never_make_one) {
  client_command(Command::kClientKeepalive, 31);
  EXPECT_TRUE(world().clients.used().empty());
  add_counter(1101, "orders");
  skip_all();
  const auto heartbeat = world().clients.slot(world().clients.used().front()).heartbeat_counter_id;
  for (int i = 0; i < 30; ++i) {
    client_command(Command::kClientKeepalive);
    EXPECT_EQ(counters().counter(heartbeat).get(), now.now_ms);
    advance(kSecond_ns + kMillisecond_ns);
  }
  expect_nothing();
}

TEST_F(Clients, a_client_may_also_store_its_heartbeat_itself) {
  add_counter(1101, "orders");
  skip_all();
  const auto heartbeat = world().clients.slot(world().clients.used().front()).heartbeat_counter_id;
  for (int i = 0; i < 15; ++i) {
    counters().counter(heartbeat).set(now.now_ms);
    advance(kSecond_ns + kMillisecond_ns);
  }
  expect_nothing();
}

TEST_F(Clients, a_client_that_closes_goes_with_the_next_tick_without_a_timeout) {
  const std::int64_t counter = add_counter(1101, "orders");
  add_subscription("aeron:ipc");
  skip_all();
  client_command(Command::kClientClose);
  tick();
  EXPECT_EQ(expect<shm::OnCounter>(Response::kUnavailableCounter).correlation_id, kClient);
  EXPECT_EQ(expect<shm::OnCounter>(Response::kUnavailableCounter).correlation_id, counter);
  expect_nothing();
  EXPECT_EQ(system(shm::SystemCounter::kClientTimeouts), 0);
  EXPECT_TRUE(labels().empty());
  // The same id may come again.
  add_counter(1101, "orders");
  EXPECT_EQ(expect<shm::OnCounter>(Response::kCounterReady).correlation_id, kClient);
}

TEST_F(Clients, a_client_that_dies_while_its_publication_is_made_leaves_nothing) {
  data_plane->answers_publications = false;
  add_publication("aeron:ipc");
  // No client yet: it comes with the answer. Its command is all there is of it.
  data_plane->answers_publications = true;
  data_plane->ring_all();
  for (const std::uint32_t index : world().publications.used()) registry().header.control_to_steward.ring({shm::SlotKind::kPublication, index});
  run();
  EXPECT_EQ(response_types(), (std::vector<std::int32_t>{0x0F08, 0x0F03}));
  for (int i = 0; i < 12; ++i) tick();
  for (const std::uint32_t index : std::vector<std::uint32_t>{world().publications.used()}) data_plane->finish_publication(index);
  run();
  EXPECT_TRUE(world().publications.used().empty());
  EXPECT_TRUE(labels().empty());
}

TEST_F(Clients, one_thousand_and_twenty_four_clients_fit_and_the_next_one_is_told) {
  for (std::int64_t i = 0; i < shm::kClientsMax; ++i) add_counter(1101, "orders", 10'000 + i);
  skip_all();
  EXPECT_NE(expect_error(add_counter(1101, "orders", 9'999), ClientError::kGeneric).text.find("clients"), std::string::npos);
}

// ---- hostile commands ----

class EveryCommand : public Clients, public ::testing::WithParamInterface<std::int32_t> {};
INSTANTIATE_TEST_SUITE_P(Types, EveryCommand, ::testing::Range(1, 0x15));

TEST_P(EveryCommand, truncated_at_any_length_is_answered_or_logged_but_never_believed) {
  shm::Buffer whole(96);
  Random random{static_cast<std::uint64_t>(GetParam()) + 1};
  for (std::size_t length = 0; length <= whole.size(); length += 4) {
    for (std::byte& byte : whole) byte = std::byte{0x7F};  // lengths inside the command far beyond its end
    store_le(whole.data(), kClient);
    store_le(whole.data() + 8, std::int64_t{900} + static_cast<std::int64_t>(length));
    send_raw(GetParam(), shm::Bytes{whole}.first(length));
    run();
  }
  EXPECT_TRUE(world().publications.used().empty());
  EXPECT_TRUE(world().subscriptions.used().empty());
}

TEST_P(EveryCommand, garbage_of_any_kind_changes_no_registration) {
  Random random{static_cast<std::uint64_t>(GetParam()) + 99};
  for (int round = 0; round < 200; ++round) {
    shm::Buffer bytes(random.next() % 300);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
    if (round % 2 == 0 && bytes.size() >= 32) {  // small lengths get further
      for (std::size_t i = 16; i < 32; i += 4) store_le(bytes.data() + i, static_cast<std::int32_t>(random.next() % 64));
    }
    send_raw(GetParam(), bytes);
    run();
    skip_all();
  }
  EXPECT_TRUE(world().publications.used().empty());
  EXPECT_TRUE(world().subscriptions.used().empty());
  // And it still serves.
  add_counter(1101, "alive");
  EXPECT_FALSE(response_types().empty());
}

TEST_F(Clients, an_unknown_command_is_answered_with_error_6_and_a_short_one_with_7) {
  shm::Buffer bytes(16);
  store_le(bytes.data(), kClient);
  store_le(bytes.data() + 8, std::int64_t{55});
  send_raw(0x7777, bytes);
  run();
  expect_error(55, ClientError::kUnknownCommandType);
  send_raw(static_cast<std::int32_t>(Command::kAddPublication), bytes);
  run();
  expect_error(55, ClientError::kMalformedCommand);
  send_raw(static_cast<std::int32_t>(Command::kAddPublication), shm::Bytes{bytes}.first(8));
  run();
  expect_nothing();
  EXPECT_EQ(system(shm::SystemCounter::kErrors), 3);
  EXPECT_NE(errors().find("malformed ADD_PUBLICATION"), std::string::npos);
}

TEST_F(Clients, equal_errors_are_one_entry_of_the_error_log) {
  for (int i = 0; i < 5; ++i) remove_subscription(4711);
  int entries = 0;
  std::int32_t observations = 0;
  shm::read_error_log(std::span<const std::byte>{files().cnc.error_log()}, [&](const shm::ErrorLogEntry& entry) {
    ++entries;
    observations = entry.observation_count;
  });
  EXPECT_EQ(entries, 1);
  EXPECT_EQ(observations, 5);
  EXPECT_EQ(system(shm::SystemCounter::kErrors), 5);
}

TEST_F(Clients, a_client_dead_inside_a_claim_blocks_the_ring_for_one_liveness_timeout_only) {
  // What a producer does before it writes: moves the tail and stores the negative length.
  const auto section = files().cnc.to_driver();
  const std::size_t capacity = section.size() - 768;
  auto tail = std::atomic_ref{*reinterpret_cast<std::int64_t*>(section.data() + capacity + 128)};
  const std::int64_t at = tail.fetch_add(64);
  store_le(section.data() + static_cast<std::size_t>(at) % capacity, std::int32_t{-64});
  shm::AddCounter behind;
  behind.client_id = kClient;
  behind.correlation_id = next_id();
  behind.type_id = 1101;
  behind.label = "waits behind it";
  send(Command::kAddCounter, behind);
  for (int i = 0; i < 9; ++i) tick();
  expect_nothing();
  for (int i = 0; i < 3; ++i) tick();
  EXPECT_EQ(response_types(), (std::vector<std::int32_t>{0x0F08, 0x0F08}));
  EXPECT_EQ(system(shm::SystemCounter::kUnblockedCommands), 1);
}

TEST_F(Clients, a_receiver_that_does_not_read_is_lapped_and_nobody_else_notices) {
  shm::BroadcastReceiver sleeper{files().cnc.to_clients()};
  for (int i = 0; i < 40'000; ++i) {
    remove_subscription(4711);
    skip_all();
  }
  std::int32_t type = 0;
  shm::Bytes body;
  while (sleeper.receive(type, body)) EXPECT_EQ(type, static_cast<std::int32_t>(Response::kError));
  EXPECT_GT(sleeper.lapped_count(), 0);
  const std::int64_t id = add_counter(1101, "alive");
  skip_all();
  bool has_seen = false;
  while (sleeper.receive(type, body)) {
    const auto ready = shm::decode<shm::OnCounter>(body);
    has_seen = has_seen || (ready && ready->correlation_id == id);
  }
  EXPECT_TRUE(has_seen);
}

TEST_F(Clients, terminate_is_refused_unless_it_is_allowed) {
  shm::TerminateDriver command;
  command.client_id = kClient;
  command.correlation_id = -1;
  send(Command::kTerminateDriver, command);
  run();
  expect_nothing();
  EXPECT_FALSE(conductor->is_termination_requested());
  EXPECT_NE(errors().find("termination request denied"), std::string::npos);
  conductor->world().settings.is_termination_allowed = true;
  send(Command::kTerminateDriver, command);
  run();
  EXPECT_TRUE(conductor->is_termination_requested());
}

// ---- system counters ----

TEST_F(Clients, stock_counters_are_the_sums_of_what_lanes_count) {
  registry().header.lane_count = 2;
  const auto of = [&](std::uint32_t lane, shm::LaneCounter counter) -> std::uint64_t& { return registry().lanes[lane].counters[static_cast<std::size_t>(counter)]; };
  of(0, shm::LaneCounter::kNaksSent) = 3;
  of(1, shm::LaneCounter::kNaksSent) = 4;
  advance(11 * kMillisecond_ns);
  EXPECT_EQ(system(shm::SystemCounter::kNaksSent), 7);
  of(1, shm::LaneCounter::kNaksSent) = 6;
  advance(11 * kMillisecond_ns);
  EXPECT_EQ(system(shm::SystemCounter::kNaksSent), 9);
  // A data plane that starts again counts from zero; the sum only grows.
  of(0, shm::LaneCounter::kNaksSent) = 0;
  of(1, shm::LaneCounter::kNaksSent) = 1;
  advance(11 * kMillisecond_ns);
  EXPECT_EQ(system(shm::SystemCounter::kNaksSent), 10);
}

}  // namespace
}  // namespace thalweg::conductor::testing
