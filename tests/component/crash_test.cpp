// A stream that crashes the data plane: blamed by the process that dies of it, left alone after the third time (design, section 1).
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "dataplane/core/crash_guard.hpp"
#include "tests/component/stream_fixture.hpp"

namespace thalweg::test {
namespace {

class CrashTest : public StreamTest {
 protected:
  // A child process is the data plane of `node`: `sabotage` takes memory away from it, then it works until it dies. Answers the signal.
  int crash(Node& node, const std::function<void()>& sabotage) {
    const pid_t child = ::fork();
    if (child == 0) {
      const rlimit no_core{0, 0};
      ::setrlimit(RLIMIT_CORE, &no_core);
      node.plane->catch_crashes();
      core::work_of_this_thread(&node.control.registry().lanes[0].in_work);
      sabotage();
      for (int turn = 0; turn < 10'000; ++turn) {
        nodes->now_ns += 10 * kMicrosecond_ns;
        node.plane->step(nodes->now_ns);
      }
      ::_exit(0);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }
  // Every mapping of a file in this process; the next access is a SIGSEGV.
  static void take_away(const std::string& path) {
    std::ifstream maps{"/proc/self/maps"};
    for (std::string line; std::getline(maps, line);) {
      std::uintptr_t begin = 0, end = 0;
      if (line.find(path) == std::string::npos || std::sscanf(line.c_str(), "%zx-%zx", &begin, &end) != 2) continue;
      ::mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_NONE);
    }
  }
  static std::string log_path(Node& node, std::uint32_t log) {
    const auto& wanted = node.control.registry().logs[log].desired;
    return shm::log_path(node.control.directory(), wanted.use, wanted.id);
  }
  shm::PublicationSlot& publication_slot() { return nodes->a.control.registry().publications[publication]; }
  shm::ImageSlot& image_slot() { return nodes->b.control.registry().images[nodes->b.control.images().front()]; }
  static shm::Observed observed(const shm::ObservedHead& head) { return head.state.load(); }
};

TEST_F(CrashTest, a_log_that_crashes_its_lane_three_times_is_left_alone) {
  connect();
  expect_transfer(make_messages(10));
  auto& slot = publication_slot();
  const std::string log = log_path(nodes->a, slot.desired.log);
  for (std::uint32_t crashes = 1; crashes <= shm::kCrashesMax; ++crashes) {
    EXPECT_EQ(observed(slot.observed), shm::Observed::kActive) << "taken up again after " << crashes - 1 << " crashes";
    EXPECT_EQ(crash(nodes->a, [&log] { take_away(log); }), SIGSEGV);
    EXPECT_EQ(slot.observed.crashes.get(slot.desired.generation), crashes);
    nodes->restart(nodes->a);
    run_for(kMillisecond_ns);
  }
  EXPECT_EQ(image_slot().observed.crashes.get(image_slot().desired.generation), 0U) << "the other node has nothing to do with it";
  EXPECT_EQ(observed(slot.observed), shm::Observed::kFailed);
  EXPECT_NE(std::string{slot.observed.error.text}.find("quarantined"), std::string::npos) << slot.observed.error.text;
  EXPECT_EQ(nodes->a.plane->lane(0).publication_count(), 0U);
  nodes->restart(nodes->a);
  run_for(kMillisecond_ns);
  EXPECT_EQ(observed(slot.observed), shm::Observed::kFailed) << "for good";
}

// The memory that fails is no log: what the lane said it was at work on decides.
TEST_F(CrashTest, whoever_the_lane_was_at_work_on_is_blamed) {
  connect();
  const std::uint32_t innocent = nodes->b.control.add_publication({.remote = {TwoNodes::kAddressA, kPort}, .stream_id = 7});
  expect_transfer(make_messages(10));
  auto& image = image_slot();
  for (std::uint32_t crashes = 1; crashes <= shm::kCrashesMax; ++crashes) {
    ASSERT_TRUE(publisher().offer(bytes("wakes the image")));
    nodes->a.step(nodes->now_ns);
    EXPECT_EQ(crash(nodes->b, [] { take_away("/cnc.dat"); }), SIGSEGV) << "subscriber positions lie there";
    EXPECT_EQ(image.observed.crashes.get(image.desired.generation), crashes);
    nodes->restart(nodes->b);
    run_for(kMillisecond_ns);
  }
  EXPECT_EQ(observed(image.observed), shm::Observed::kFailed);
  const auto& other = nodes->b.control.registry().publications[innocent];
  EXPECT_EQ(observed(other.observed), shm::Observed::kActive);
  EXPECT_EQ(other.observed.crashes.get(other.desired.generation), 0U);
  nodes->restart(nodes->a);  // a child that died took one of its buffers along
}

TEST_F(CrashTest, a_process_killed_from_outside_blames_nobody) {
  connect();
  EXPECT_EQ(crash(nodes->a, [] { ::raise(SIGKILL); }), SIGKILL);
  EXPECT_EQ(publication_slot().observed.crashes.get(publication_slot().desired.generation), 0U);
  EXPECT_EQ(nodes->a.control.registry().lanes[0].in_work.load(), 0U) << "between turns it works on nothing";
}

TEST_F(CrashTest, an_assertion_between_turns_blames_nobody) {
  connect();
  EXPECT_EQ(crash(nodes->a, [] { std::abort(); }), SIGABRT);
  EXPECT_EQ(publication_slot().observed.crashes.get(publication_slot().desired.generation), 0U);
}

TEST(CrashCount, is_about_one_generation_of_a_slot) {
  shm::CrashCount count;
  count.add(5);
  count.add(5);
  EXPECT_EQ(count.get(5), 2U);
  EXPECT_EQ(count.get(6), 0U);
  count.add(6);
  EXPECT_EQ(count.get(6), 1U);
  EXPECT_EQ(count.get(5), 0U);
  for (int i = 0; i < 1000; ++i) count.add(6);
  EXPECT_GE(count.get(6), shm::kCrashesMax) << "it does not start again at zero";
}

}  // namespace
}  // namespace thalweg::test
