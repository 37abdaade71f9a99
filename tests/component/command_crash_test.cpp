// A command that kills the control plane: streams go on meanwhile, and the fourth control plane refuses it and serves everybody else
// (design, section 1). The first three are processes of their own, which really die.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>

#include "controlplane/conductor/command_guard.hpp"
#include "tests/support/appliance.hpp"

namespace thalweg::test {
namespace {

constexpr const char* kChannel = "aeron:udp?endpoint=10.0.0.2:40100";
constexpr const char* kLethal = "aeron:udp?endpoint=nowhere:port";  // is refused, which goes into the error log
constexpr std::int32_t kStream = 1001;

class CommandCrash : public ::testing::Test {
 protected:
  void SetUp() override {
    publisher = both.connect(both.a);
    other = both.connect(both.a);
    subscriber = both.connect(both.b);
    auto subscribed = subscriber->add_subscription(kChannel, kStream);
    auto published = publisher->add_publication(kChannel, kStream);
    ASSERT_TRUE(subscribed && published);
    subscription = std::move(*subscribed);
    publication = std::move(*published);
    ASSERT_TRUE(both.run_until([this] { return publication.is_connected(); }, kSecond_ns));
  }
  // A child process is the control plane of `a`, without the memory of its error log, until it dies. Answers the signal.
  int live_and_die() {
    const pid_t child = ::fork();
    if (child == 0) {
      const rlimit no_core{0, 0};
      ::setrlimit(RLIMIT_CORE, &no_core);
      both.a.start_control_plane();
      take_away(both.a.files->cnc.error_log());
      for (int turn = 0; turn < 10'000; ++turn) {
        both.now_ns += TwoAppliances::kStep_ns;
        both.a.control->poll({both.now_ns, epoch_ms_at(both.now_ns)});
      }
      ::_exit(0);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_FALSE(WIFEXITED(status)) << "it lives, with status " << WEXITSTATUS(status);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }
  // The same for `b`, whose control plane is given `work` that kills it. Its faults are caught, as those of the real process.
  int live_and_die_at(const std::function<void()>& work) {
    const pid_t child = ::fork();
    if (child == 0) {
      const rlimit no_core{0, 0};
      ::setrlimit(RLIMIT_CORE, &no_core);
      both.b.start_control_plane();
      conductor::CommandGuard{both.b.registry().command_crashes}.catch_faults();
      work();
      for (int turn = 0; turn < 3'000; ++turn) {
        both.now_ns += kMillisecond_ns;
        both.b.control->poll({both.now_ns, epoch_ms_at(both.now_ns)});
      }
      ::_exit(0);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_FALSE(WIFEXITED(status)) << "it lives, with status " << WEXITSTATUS(status);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }
  // A SETUP with an impossible term length, as a lane would hand it over: it is refused, which goes into the error log.
  void forge_setup() {
    auto& setup = both.b.registry().lanes[0].setups.back();
    setup.endpoint = both.b.registry().images[image()].desired.endpoint;
    setup.endpoint_generation = both.b.registry().endpoints[setup.endpoint].desired.generation;
    setup.session_id = 4711;
    setup.stream_id = kStream;
    setup.term_length = 17;
    setup.state.store(shm::SetupState::kRequested);
  }
  std::uint32_t image() {
    for (std::uint32_t index = 0; index < shm::kImagesMax; ++index) {
      if (both.b.registry().images[index].desired.state.load() == shm::Desired::kActive) return index;
    }
    return 0;
  }
  // With the page that it begins in, where the last counters are, which nobody has.
  static void take_away(std::span<const std::byte> memory) {
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto begin = reinterpret_cast<std::uintptr_t>(memory.data()) & ~(page - 1);
    const auto end = reinterpret_cast<std::uintptr_t>(memory.data()) + memory.size();
    if (::mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_NONE) != 0) ::_exit(1);
  }
  bool transfer(int count) {
    int offered = 0, received = 0;
    return both.run_until(
        [&] {
          if (offered < count && publication.offer(std::as_bytes(std::span{"message", 7}))) ++offered;
          subscription.poll([&](std::span<const std::byte>, const client::Header&) { ++received; }, 10);
          return received == count;
        },
        kSecond_ns);
  }

  TwoAppliances both;
  std::shared_ptr<client::Client> publisher, other, subscriber;
  client::Publication publication;
  client::Subscription subscription;
};

TEST_F(CommandCrash, the_control_plane_dies_three_times_of_a_command_and_lives_on_without_it) {
  both.a.kill_control_plane();
  const auto lethal = publisher->async_add_publication(kLethal, kStream);
  const auto behind_it = other->async_add_publication("aeron:ipc", kStream);
  ASSERT_TRUE(lethal && behind_it);
  for (std::uint32_t crashes = 1; crashes <= shm::kCrashesMax; ++crashes) {
    EXPECT_EQ(live_and_die(), SIGSEGV) << "crash " << crashes;
    EXPECT_TRUE(transfer(100)) << "streams need no control plane";
  }
  both.a.start_control_plane();
  EXPECT_TRUE(both.a.files->is_attached);
  Result<std::optional<client::Publication>> refused{std::optional<client::Publication>{}};
  EXPECT_TRUE(both.run_until([&] { return !(refused = publisher->find_publication(*lethal)); }, kSecond_ns));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("quarantined: the control plane crashed 3 times at work on ADD_PUBLICATION"), std::string::npos)
      << refused.error().message;
  EXPECT_NE(both.a.errors().find("quarantined"), std::string::npos) << both.a.errors();
  Result<std::optional<client::Publication>> served{std::optional<client::Publication>{}};
  EXPECT_TRUE(both.run_until([&] { return (served = other->find_publication(*behind_it)) && *served; }, kSecond_ns));
  EXPECT_TRUE(publisher->add_publication("aeron:ipc", kStream + 1)) << "the same client, too";
  EXPECT_TRUE(transfer(100));
  EXPECT_EQ(both.a.system(shm::SystemCounter::kClientTimeouts), 0);
}

TEST_F(CommandCrash, a_setup_that_kills_the_control_plane_three_times_is_refused_from_then_on) {
  ASSERT_TRUE(transfer(10));
  both.b.kill_control_plane();
  for (std::uint32_t crashes = 1; crashes <= shm::kCrashesMax; ++crashes) {
    const int signal = live_and_die_at([this] {
      forge_setup();
      take_away(both.b.files->cnc.error_log());
    });
    EXPECT_EQ(signal, SIGSEGV) << "crash " << crashes;
  }
  both.b.start_control_plane();
  EXPECT_NE(both.b.errors().find("quarantined: the control plane crashed 3 times at work on a SETUP of stream 1001"), std::string::npos) << both.b.errors();
  forge_setup();
  const auto& state = both.b.registry().lanes[0].setups.back().state;
  EXPECT_TRUE(both.run_until([&] { return state.load() != shm::SetupState::kRequested; }, 3 * kSecond_ns, kMillisecond_ns));
  EXPECT_TRUE(transfer(100));
  EXPECT_TRUE(subscriber->add_subscription("aeron:ipc", kStream)) << "everybody else is served";
}

TEST_F(CommandCrash, a_timer_that_kills_the_control_plane_three_times_is_left_alone) {
  ASSERT_TRUE(transfer(10));
  both.b.kill_control_plane();
  const auto lose_something = [this] {
    auto& state = both.b.registry().images[image()].observed.state;
    ++state.gaps_seen;
    state.bytes_lost += 100;
  };
  for (std::uint32_t crashes = 1; crashes <= shm::kCrashesMax; ++crashes) {
    const int signal = live_and_die_at([&] {
      lose_something();
      take_away({both.b.files->loss_report.data(), both.b.files->loss_report.length()});
    });
    EXPECT_EQ(signal, SIGSEGV) << "crash " << crashes;
  }
  both.b.start_control_plane();
  EXPECT_NE(both.b.errors().find("quarantined: the control plane crashed 3 times at work on the loss report"), std::string::npos) << both.b.errors();
  lose_something();
  both.run_for(3 * kSecond_ns);
  EXPECT_TRUE(transfer(100));
  EXPECT_TRUE(subscriber->add_subscription("aeron:ipc", kStream));
}

}  // namespace
}  // namespace thalweg::test
