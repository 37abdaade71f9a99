// A command that the control plane dies at: its successors run it again, but only so often (design section 1). What a death in the middle of
// one leaves in the registry is entered by hand here; tests/component/command_crash_test.cpp dies in earnest.
#include "controlplane/conductor/command_guard.hpp"
#include "tests/unit/controlplane/fixture.hpp"

namespace thalweg::conductor::testing {
namespace {

using shm::ClientError;
using shm::Command;
using shm::Response;

class CommandCrash : public ConductorTest {
 protected:
  void SetUp() override { start(); }
  // Puts a command into the ring and leaves it there.
  std::int64_t ask_for_counter(std::int64_t client = kClient) {
    shm::AddCounter command;
    command.client_id = client;
    command.correlation_id = next_id();
    command.type_id = 1101;
    command.label = "orders";
    send(Command::kAddCounter, command);
    return command.correlation_id;
  }
  static CommandGuard::Id counter_command(std::int64_t id, std::int64_t client = kClient) {
    return {client, id, static_cast<std::int32_t>(Command::kAddCounter)};
  }
  // So many control planes die at work on it, one after the other; the next one lives.
  void die_at(const CommandGuard::Id& id, int times) {
    CommandGuard guard{registry().command_crashes};
    for (int i = 0; i < times; ++i) {
      guard.recover();
      guard.begin(id);
    }
  }
  std::vector<shm::CommandCrashes::Suspect> quarantined() { return CommandGuard{registry().command_crashes}.quarantined(); }
};

TEST_F(CommandCrash, twice_is_bad_luck_and_the_command_is_run_again) {
  const std::int64_t id = ask_for_counter();
  die_at(counter_command(id), 2);
  crash_and_restart();
  expect<shm::OnCounter>(Response::kCounterReady);  // the client's heartbeat
  EXPECT_EQ(expect<shm::OnCounter>(Response::kCounterReady).correlation_id, id);
  EXPECT_EQ(registry().command_crashes.suspects[0].crashes, 0U) << "what was done in the end is no suspect";
}

TEST_F(CommandCrash, the_third_time_it_is_refused_and_everybody_else_served) {
  const std::int64_t before = ask_for_counter(kOther);
  const std::int64_t id = ask_for_counter();
  const std::int64_t behind = ask_for_counter();
  die_at(counter_command(id), 3);
  crash_and_restart();
  expect<shm::OnCounter>(Response::kCounterReady);  // the other client's heartbeat
  EXPECT_EQ(expect<shm::OnCounter>(Response::kCounterReady).correlation_id, before);
  const auto error = expect_error(id, ClientError::kGeneric);
  EXPECT_EQ(error.text, "quarantined: the control plane crashed 3 times at work on ADD_COUNTER of client 1000, correlation id " + std::to_string(id));
  expect<shm::OnCounter>(Response::kCounterReady);
  EXPECT_EQ(expect<shm::OnCounter>(Response::kCounterReady).correlation_id, behind);
  expect_nothing();
  EXPECT_NE(errors().find("quarantined"), std::string::npos) << errors();
  EXPECT_EQ(ring().consumer_position(), ring().producer_position()) << "the ring's head is behind it";
  EXPECT_EQ(quarantined().size(), 1U);
  crash_and_restart();
  expect_nothing();
}

TEST_F(CommandCrash, one_that_waited_for_the_data_plane_is_let_go_of_too) {
  data_plane->answers_publications = false;
  const std::int64_t id = add_publication("aeron:ipc");
  const std::int64_t behind = add_counter(1101, "behind it");
  skip_all();
  die_at({kClient, id, static_cast<std::int32_t>(Command::kAddPublication)}, 3);
  crash_and_restart();
  EXPECT_EQ(expect_error(id, ClientError::kGeneric).text.substr(0, 12), "quarantined:");
  expect<shm::OnCounter>(Response::kCounterReady);
  EXPECT_EQ(expect<shm::OnCounter>(Response::kCounterReady).correlation_id, behind);
  for (const auto& slot : registry().commands) EXPECT_EQ(slot.head.state.load(), shm::Desired::kFree);
}

TEST_F(CommandCrash, one_that_waited_is_run_again_after_a_death_that_it_caused) {
  data_plane->answers_publications = false;
  const std::int64_t id = add_publication("aeron:ipc");
  skip_all();
  die_at({kClient, id, static_cast<std::int32_t>(Command::kAddPublication)}, 2);
  crash_and_restart();
  for (const std::uint32_t index : world().publications.used()) registry().header.control_to_steward.ring({shm::SlotKind::kPublication, index});
  run();
  expect<shm::OnCounter>(Response::kCounterReady);
  EXPECT_EQ(expect<shm::OnPublicationReady>(Response::kPublicationReady).correlation_id, id);
  EXPECT_EQ(registry().command_crashes.suspects[0].crashes, 0U);
}

// Both are in the ring as long as one of them kills whoever reads it.
TEST_F(CommandCrash, two_that_kill_in_turn_are_both_refused) {
  const std::int64_t first = ask_for_counter();
  const std::int64_t second = ask_for_counter(kOther);
  die_at(counter_command(first), 3);
  die_at(counter_command(second, kOther), 3);
  crash_and_restart();
  expect_error(first, ClientError::kGeneric);
  expect_error(second, ClientError::kGeneric);
  expect_nothing();
  EXPECT_EQ(quarantined().size(), 2U);
}

TEST(CommandGuard, remembers_the_latest_of_more_suspects_than_there_is_room_for) {
  shm::CommandCrashes crashes;
  CommandGuard guard{crashes};
  const auto die = [&guard](std::int64_t id) {
    guard.begin({1, id, 9});
    guard.recover();
  };
  constexpr std::int64_t kMany = 2 * shm::kCrashedCommandsMax + 5;
  for (std::int64_t id = 0; id < kMany; ++id) {
    for (std::uint32_t i = 0; i < shm::kCrashesMax; ++i) die(id);
    EXPECT_TRUE(guard.is_quarantined({1, id, 9})) << id;
  }
  EXPECT_EQ(guard.quarantined().size(), shm::kCrashedCommandsMax);
  EXPECT_FALSE(guard.is_quarantined({1, 0, 9}));
}

TEST(CommandGuard, a_death_between_commands_blames_nobody) {
  shm::CommandCrashes crashes;
  CommandGuard guard{crashes};
  for (std::uint32_t i = 0; i < shm::kCrashesMax; ++i) {
    guard.begin({1, 2, 3});
    guard.end(false);
    guard.recover();
  }
  EXPECT_FALSE(guard.is_quarantined({1, 2, 3}));
}

// What a signal handler leaves of a fault.
void fault(shm::CommandCrashes& crashes, const CommandGuard::Id& id) {
  constexpr std::uint32_t kFaulted = 3;
  CommandGuard{crashes}.begin(id);
  crashes.is_at_work.store(kFaulted);
}

TEST(CommandGuard, timers_and_setups_are_blamed_for_faults_and_not_for_every_death_at_them) {
  shm::SetupSlot setup;
  setup.session_id = -5;
  setup.stream_id = 1001;
  for (const CommandGuard::Id& id : {CommandGuard::identify(setup), CommandGuard::identify(shm::SlotKind::kImage, 3, 7), CommandGuard::identify(CommandGuard::Timer::kRelays)}) {
    shm::CommandCrashes crashes;
    CommandGuard guard{crashes};
    for (std::uint32_t i = 0; i < 2 * shm::kCrashesMax; ++i) {
      guard.begin(id);
      guard.recover();
    }
    EXPECT_FALSE(guard.is_quarantined(id)) << "kill -9 is nobody's fault";
    for (std::uint32_t i = 0; i < shm::kCrashesMax; ++i) {
      EXPECT_FALSE(guard.is_quarantined(id));
      fault(crashes, id);
      guard.recover();
      guard.begin(id);
      guard.end(false);  // goes well now and then
    }
    EXPECT_TRUE(guard.is_quarantined(id)) << text_of(id);
  }
  EXPECT_EQ(text_of(CommandGuard::identify(setup)), "a SETUP of stream 1001");
  EXPECT_EQ(text_of(CommandGuard::identify(shm::SlotKind::kImage, 3, 7)), "image slot 3");
  EXPECT_EQ(text_of(CommandGuard::identify(CommandGuard::Timer::kExpireClient, 9)), "the end of a client, client 9");
}

TEST(CommandGuard, what_a_predecessor_was_through_with_is_told_once_it_is_asked_for) {
  shm::CommandCrashes crashes;
  CommandGuard guard{crashes};
  EXPECT_FALSE(guard.recover());
  guard.begin({1, 2, 3});
  guard.end(true);
  EXPECT_EQ(guard.recover(), (CommandGuard::Id{1, 2, 3}));
  guard.begin({1, 3, 3});
  guard.end(false);
  EXPECT_FALSE(guard.recover());
}

TEST_F(CommandCrash, the_end_of_a_client_that_crashes_us_is_left_alone_and_other_clients_end) {
  add_counter(1101, "stays");
  add_counter(1101, "goes", kOther);
  skip_all();
  for (std::uint32_t i = 0; i < shm::kCrashesMax; ++i) {
    fault(registry().command_crashes, CommandGuard::identify(CommandGuard::Timer::kExpireClient, kClient));
    crash_and_restart();
  }
  EXPECT_NE(errors().find("at work on the end of a client, client 1000"), std::string::npos) << errors();
  for (int i = 0; i < 12; ++i) tick();
  EXPECT_EQ(world().clients.used().size(), 1U);
  EXPECT_EQ(labels().size(), 2U) << "its heartbeat and its counter";
}

// A client that asked for something is told of it once, and the error log has nothing of it.
TEST_F(CommandCrash, a_command_that_was_answered_and_is_still_in_the_ring_is_not_run_again) {
  const std::int64_t counter = add_counter(1101, "orders");
  skip_all();
  shm::RemoveRegistration remove;
  remove.client_id = kClient;
  remove.correlation_id = next_id();
  remove.registration_id = counter;
  send(Command::kRemoveCounter, remove);
  shm::Buffer ring_before(files().cnc.to_driver().begin(), files().cnc.to_driver().end());
  run();
  expect<shm::OnOperationSuccess>(Response::kOperationSuccess);
  skip_all();
  std::copy(ring_before.begin(), ring_before.end(), files().cnc.to_driver().begin());
  CommandGuard guard{registry().command_crashes};
  guard.begin({kClient, remove.correlation_id, static_cast<std::int32_t>(Command::kRemoveCounter)});
  guard.end(true);
  crash_and_restart();
  expect_nothing();
  EXPECT_EQ(errors(), "");
  EXPECT_EQ(ring().consumer_position(), ring().producer_position());
}

TEST(CommandGuard, what_is_too_short_for_a_header_is_known_by_its_type) {
  const shm::Buffer short_one(7);
  EXPECT_EQ(CommandGuard::identify(9, short_one), (CommandGuard::Id{-1, -1, 9}));
}

}  // namespace
}  // namespace thalweg::conductor::testing
