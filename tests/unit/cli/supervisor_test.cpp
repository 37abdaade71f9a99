// The supervisor of `thalweg up`, with small shell programs as its children.
#include "controlplane/cli/supervisor.hpp"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <utility>

#include "dataplane/client/context.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg::cli {
namespace {

// Lives until SIGTERM, and then ends like a daemon that closed down in order.
constexpr const char* kDaemon = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";
// Starts with this line where a test has to know that the traps are set.
std::string announced(const std::string& file, const std::string& script) {
  const std::size_t end_of_trap = script.find(';') + 1;
  return script.substr(0, end_of_trap) + " touch " + file + ";" + script.substr(end_of_trap);
}

class SupervisorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.backoff_first_ns = 20 * kMillisecond_ns;
    options_.log = [this](const std::string& text) {
      lines_.push_back(text);
      if (on_line_) on_line_(text);
    };
  }
  // Whatever a test does, no process is left behind.
  void TearDown() override {
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
  }

  void add_child(const std::string& name, const std::string& script) { options_.children.push_back({name, "/bin/sh", {"-c", script}, {}}); }
  [[nodiscard]] int lines_with(const std::string& text) const {
    int count = 0;
    for (const std::string& line : lines_) count += line.find(text) != std::string::npos;
    return count;
  }
  // Sent to ourselves: the supervisor reads it from its descriptor at its next turn.
  static void send(int signal) { ASSERT_EQ(::kill(::getpid(), signal), 0); }
  [[nodiscard]] std::string file(const std::string& name) const { return directory_.file(name); }
  [[nodiscard]] bool exists(const std::string& name) const { return std::filesystem::exists(file(name)); }

  test::TemporaryDirectory directory_{"supervisor"};
  SupervisorOptions options_;
  std::vector<std::string> lines_;
  std::function<void(const std::string&)> on_line_;
};

TEST_F(SupervisorTest, sigterm_ends_both_children_in_order) {
  add_child("one", announced(file("one"), kDaemon));
  add_child("two", announced(file("two"), kDaemon));
  options_.is_ready = [this](const std::vector<pid_t>&) { return exists("one") && exists("two"); };
  options_.on_ready = [] { send(SIGTERM); };
  const auto ended = supervise(options_);
  EXPECT_TRUE(ended) << ended.error().message;
  EXPECT_EQ(lines_with("runs as process"), 2);
  EXPECT_EQ(lines_with("stopping"), 1);
}

TEST_F(SupervisorTest, sigint_reaches_children_as_sigterm_and_only_once) {
  add_child("one", "trap 'echo INT >>" + file("signals") + "' INT; trap 'echo TERM >>" + file("signals") + "; exit 0' TERM; touch " + file("up") +
                       "; while :; do sleep 1 & wait $!; done");
  options_.is_ready = [this](const std::vector<pid_t>&) { return exists("up"); };
  options_.on_ready = [] { send(SIGINT); };
  EXPECT_TRUE(supervise(options_));
  std::ifstream signals{file("signals")};
  const std::string received{std::istreambuf_iterator<char>{signals}, {}};
  EXPECT_EQ(received, "TERM\n");
}

TEST_F(SupervisorTest, a_killed_child_is_started_again_and_the_other_one_left_alone) {
  add_child("one", announced(file("one"), kDaemon));
  add_child("two", announced(file("two"), kDaemon));
  std::vector<pid_t> first;
  options_.is_ready = [&](const std::vector<pid_t>& pids) {
    first = pids;
    return exists("one") && exists("two");
  };
  options_.on_ready = [&] {
    std::filesystem::remove(file("two"));
    ASSERT_EQ(::kill(first[1], SIGKILL), 0);
  };
  on_line_ = [this](const std::string& line) {
    if (line.starts_with("two runs") && lines_with("two runs") == 2) send(SIGTERM);
  };
  EXPECT_TRUE(supervise(options_));
  EXPECT_EQ(lines_with("one runs"), 1);
  EXPECT_EQ(lines_with("two runs"), 2);
  EXPECT_EQ(lines_with("two was killed by signal 9; starting it again in 20ms"), 1);
}

// An upgrade: no back-off, though it would be a long one.
TEST_F(SupervisorTest, a_child_that_makes_way_is_followed_at_once) {
  options_.backoff_first_ns = options_.backoff_max_ns = 3600 * kSecond_ns;
  options_.young_ns = 0;
  add_child("one", announced(file("one"), kDaemon));
  add_child("two", "trap 'exit 75' USR2; trap 'exit 0' TERM; touch " + file("two") + "; while :; do sleep 1 & wait $!; done");
  std::vector<pid_t> first;
  options_.is_ready = [&](const std::vector<pid_t>& pids) {
    first = pids;
    return exists("one") && exists("two");
  };
  options_.on_ready = [&] { ASSERT_EQ(::kill(first[1], SIGUSR2), 0); };
  on_line_ = [this](const std::string& line) {
    if (line.starts_with("two runs") && lines_with("two runs") == 2) send(SIGTERM);
  };
  EXPECT_TRUE(supervise(options_));
  EXPECT_EQ(lines_with("two makes way for a new one"), 1);
  EXPECT_EQ(lines_with("one runs"), 1);
}

TEST_F(SupervisorTest, a_child_that_does_nothing_but_make_way_waits_like_one_that_crashes) {
  add_child("one", "exit 75");
  on_line_ = [this](const std::string&) {
    if (lines_with("starting it again") == 2) send(SIGTERM);
  };
  EXPECT_TRUE(supervise(options_));
  EXPECT_EQ(lines_with("makes way"), 0);
  EXPECT_EQ(lines_with("again in 40ms"), 1);
}

TEST_F(SupervisorTest, a_child_killed_after_it_said_that_all_is_over_ends_the_other) {
  add_child("one", "kill -KILL $$");
  add_child("two", announced(file("two"), kDaemon));
  std::vector<std::size_t> asked;
  options_.is_over = [&asked](std::size_t child, pid_t pid) {
    asked.push_back(child);
    return pid > 0;
  };
  EXPECT_TRUE(supervise(options_));
  EXPECT_EQ(asked, std::vector<std::size_t>{0});
  EXPECT_EQ(lines_with("starting it again"), 0);
}

TEST_F(SupervisorTest, a_child_that_crashes_again_and_again_waits_longer_each_time) {
  options_.backoff_max_ns = 50 * kMillisecond_ns;
  add_child("one", "kill -SEGV $$");
  on_line_ = [this](const std::string& line) {
    if (line.find("starting it again") != std::string::npos && lines_with("starting it again") == 4) send(SIGTERM);
  };
  EXPECT_TRUE(supervise(options_));
  EXPECT_EQ(lines_with("again in 20ms"), 1);
  EXPECT_EQ(lines_with("again in 40ms"), 1);
  EXPECT_EQ(lines_with("again in 50ms"), 2);
}

// The control plane's heartbeat is up to a second old when it dies, and starting takes a while, too.
TEST_F(SupervisorTest, the_longest_back_off_is_well_within_what_applications_wait_for_a_driver) {
  EXPECT_LE(SupervisorOptions{}.backoff_max_ns, client::Context{}.driver_timeout.count() / 2);
}

TEST_F(SupervisorTest, a_child_that_lived_long_starts_again_at_the_first_back_off) {
  options_.calm_ns = 0;
  add_child("one", "kill -SEGV $$");
  on_line_ = [this](const std::string& line) {
    if (line.find("starting it again") != std::string::npos && lines_with("starting it again") == 3) send(SIGTERM);
  };
  EXPECT_TRUE(supervise(options_));
  EXPECT_EQ(lines_with("again in 20ms"), 3);
}

TEST_F(SupervisorTest, a_child_failing_before_the_instance_is_ready_ends_everything_with_an_error) {
  add_child("one", kDaemon);
  add_child("two", "exit 3");
  options_.is_ready = [](const std::vector<pid_t>&) { return false; };
  const auto ended = supervise(options_);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().message, "two ended with status 3 before the instance was ready");
  EXPECT_FALSE(ended.error().hint.empty());
  EXPECT_EQ(lines_with("starting it again"), 0);
}

TEST_F(SupervisorTest, a_child_failing_later_is_started_again) {
  add_child("one", "test -e " + file("again") + " && exit 0; touch " + file("again") + "; exit 3");
  EXPECT_TRUE(supervise(options_)) << "no is_ready: ready at once";
  EXPECT_EQ(lines_with("one ended with status 3; starting it again"), 1);
}

TEST_F(SupervisorTest, a_child_that_ends_by_itself_in_order_ends_the_other) {
  add_child("one", announced(file("one"), kDaemon));
  add_child("two", "while ! test -e " + file("one") + "; do :; done; exit 0");
  EXPECT_TRUE(supervise(options_));
  EXPECT_EQ(lines_with("two ended by itself; stopping"), 1);
}

TEST_F(SupervisorTest, an_instance_that_is_not_ready_in_time_is_ended) {
  options_.ready_timeout_ns = 30 * kMillisecond_ns;
  add_child("one", kDaemon);
  options_.is_ready = [](const std::vector<pid_t>&) { return false; };
  const auto ended = supervise(options_);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, ErrorCode::kTimeout);
  EXPECT_NE(ended.error().message.find("30ms"), std::string::npos);
}

TEST_F(SupervisorTest, what_a_start_waits_for_is_told_once_and_again_when_it_changes) {
  options_.ready_timeout_ns = kSecond_ns;
  options_.silence_ns = 0;
  add_child("one", kDaemon);
  int asked = 0;
  options_.is_ready = [&asked](const std::vector<pid_t>&) { return asked >= 6; };
  options_.waits_for = [&asked](const std::vector<pid_t>&) { return std::string{++asked < 4 ? "the moon" : "the sun"}; };
  on_line_ = [](const std::string&) {};
  options_.on_ready = [] { ::kill(::getpid(), SIGTERM); };
  EXPECT_TRUE(supervise(options_));
  EXPECT_EQ(lines_with("waiting for the moon"), 1);
  EXPECT_EQ(lines_with("waiting for the sun"), 1);
}

TEST_F(SupervisorTest, a_program_that_is_not_there_is_named_and_nothing_is_left_running) {
  add_child("one", kDaemon);
  options_.children.push_back({"two", "/nonexistent/program", {}, {}});
  const auto ended = supervise(options_);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, ErrorCode::kNotFound);
  EXPECT_NE(ended.error().message.find("/nonexistent/program"), std::string::npos);
}

TEST_F(SupervisorTest, a_child_that_ignores_sigterm_is_killed_after_the_time_out) {
  options_.stop_timeout_ns = 50 * kMillisecond_ns;
  add_child("deaf", "trap '' TERM; touch " + file("up") + "; while :; do sleep 0.05; done");
  options_.is_ready = [this](const std::vector<pid_t>&) { return exists("up"); };
  options_.on_ready = [] { send(SIGTERM); };
  const auto ended = supervise(options_);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().message, "deaf was killed by signal 9 while stopping");
}

TEST_F(SupervisorTest, the_same_signal_told_twice_is_one_orderly_end) {
  add_child("one", "trap 'sleep 0.05; touch " + file("closed") + "; exit 0' TERM; touch " + file("up") + "; while :; do sleep 1 & wait $!; done");
  options_.patience_ns = 60 * kSecond_ns;
  options_.is_ready = [this](const std::vector<pid_t>&) { return exists("up"); };
  options_.on_ready = [] { send(SIGTERM); };
  on_line_ = [](const std::string& line) {
    if (line == "stopping") send(SIGTERM);
  };
  EXPECT_TRUE(supervise(options_));
  EXPECT_TRUE(exists("closed"));
}

TEST_F(SupervisorTest, a_terminal_that_goes_away_ends_the_instance_in_order) {
  add_child("one", announced(file("one"), kDaemon));
  options_.is_ready = [this](const std::vector<pid_t>&) { return exists("one"); };
  options_.on_ready = [] { send(SIGHUP); };
  EXPECT_TRUE(supervise(options_));
  EXPECT_EQ(lines_with("stopping"), 1);
}

TEST_F(SupervisorTest, a_second_signal_after_a_while_kills_at_once) {
  options_.patience_ns = 0;
  options_.stop_timeout_ns = 60 * kSecond_ns;
  add_child("deaf", "trap '' TERM; touch " + file("up") + "; while :; do sleep 0.05; done");
  options_.is_ready = [this](const std::vector<pid_t>&) { return exists("up"); };
  options_.on_ready = [] { send(SIGTERM); };
  on_line_ = [](const std::string& line) {
    if (line == "stopping") send(SIGINT);
  };
  EXPECT_FALSE(supervise(options_));
}

TEST_F(SupervisorTest, a_child_waits_until_it_may_start) {
  add_child("one", announced(file("one"), kDaemon));
  add_child("two", kDaemon);
  std::vector<pid_t> seen;
  options_.children[1].may_start = [&](const std::vector<pid_t>& pids) {
    seen = pids;
    return exists("one");
  };
  on_line_ = [this](const std::string& line) {
    if (!line.starts_with("two runs")) return;
    EXPECT_TRUE(exists("one"));
    send(SIGTERM);
  };
  EXPECT_TRUE(supervise(options_)) << "that it may have had no time to set its trap is no error";
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_GT(seen[0], 0);
  EXPECT_EQ(seen[1], -1);
  EXPECT_EQ(lines_with("two runs"), 1);
}

// ---- another program takes over ----

TEST_F(SupervisorTest, a_successor_that_does_not_start_leaves_everything_as_it_is) {
  add_child("one", announced(file("one"), kDaemon));
  options_.is_ready = [this](const std::vector<pid_t>&) { return exists("one"); };
  options_.on_ready = [] { send(SIGUSR2); };
  options_.make_way = [](const std::string&) -> Result<void> {
    send(SIGTERM);
    return fail(ErrorCode::kNotFound, "no such program");
  };
  EXPECT_TRUE(supervise(options_));
  EXPECT_EQ(lines_with("one runs"), 1);
  EXPECT_EQ(lines_with("goes on: no such program"), 1);
}

TEST_F(SupervisorTest, nobody_makes_way_before_the_instance_is_ready) {
  add_child("one", announced(file("one"), kDaemon));
  bool has_asked = false;
  options_.is_ready = [&](const std::vector<pid_t>&) {
    if (!exists("one")) return false;
    if (!has_asked) send(SIGUSR2);
    return std::exchange(has_asked, true);
  };
  options_.on_ready = [] { send(SIGTERM); };
  options_.make_way = [](const std::string&) -> Result<void> {
    ADD_FAILURE() << "asked too early";
    return {};
  };
  EXPECT_TRUE(supervise(options_));
  EXPECT_EQ(lines_with("no successor while"), 1);
}

// The successor is the same process; what it runs instead of another program is a second supervisor in the call that does not come back.
TEST_F(SupervisorTest, a_successor_has_the_children_that_it_was_handed) {
  const pid_t supervisor = ::fork();
  ASSERT_GE(supervisor, 0);
  if (supervisor == 0) {
    add_child("one", announced(file("one"), kDaemon));
    add_child("two", announced(file("two"), kDaemon));
    std::vector<pid_t> first;
    options_.is_ready = [&](const std::vector<pid_t>& pids) {
      first = pids;
      return exists("one") && exists("two");
    };
    options_.on_ready = [] { ::kill(::getpid(), SIGUSR2); };
    options_.make_way = [&](const std::string& children) -> Result<void> {
      lines_.clear();
      SupervisorOptions next = options_;
      next.predecessor = children;
      next.is_ready = nullptr;
      next.on_ready = [] { ::_exit(2); };  // it was ready
      on_line_ = [&](const std::string& line) {
        if (line.starts_with("two goes on")) ::kill(first[1], SIGKILL);
        if (line.starts_with("two runs")) ::kill(::getpid(), SIGTERM);
      };
      const bool has_ended_well = supervise(next).has_value();
      const bool has_known_both = lines_with("one goes on as process " + std::to_string(first[0])) == 1 && lines_with("two goes on") == 1;
      const bool has_seen_its_end = lines_with("two was killed by signal 9; starting it again in 20ms") == 1 && lines_with("one runs") == 0;
      ::_exit(has_ended_well && has_known_both && has_seen_its_end && ::waitpid(-1, nullptr, WNOHANG) == -1 ? 0 : 1);
    };
    static_cast<void>(supervise(options_));
    ::_exit(3);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(supervisor, &status, 0), supervisor);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST_F(SupervisorTest, what_is_handed_over_and_is_not_ours_is_started) {
  options_.predecessor = "one 1 0 0 1\ntwo 0";
  add_child("one", announced(file("one"), kDaemon));
  options_.is_ready = [this](const std::vector<pid_t>&) { return exists("one"); };
  options_.on_ready = [] { send(SIGTERM); };
  EXPECT_TRUE(supervise(options_));
  EXPECT_EQ(lines_with("one runs"), 1);
}

TEST_F(SupervisorTest, children_end_when_the_supervisor_is_killed) {
  ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0);  // orphans become ours, so that we see how they end
  add_child("one", ": > " + file("up") + "; exec sleep 1000");  // no process but the one that is waited for
  const pid_t supervisor = ::fork();
  ASSERT_GE(supervisor, 0);
  if (supervisor == 0) {
    options_.is_ready = [this](const std::vector<pid_t>& pids) {
      if (!exists("up")) return false;
      std::ofstream{file("pid.new")} << pids[0];
      std::filesystem::rename(file("pid.new"), file("pid"));
      return true;
    };
    static_cast<void>(supervise(options_));
    ::_exit(0);
  }
  while (!exists("pid")) ::usleep(1000);  // the suite's time limit is the deadline
  pid_t child = -1;
  std::ifstream{file("pid")} >> child;
  ASSERT_EQ(::kill(supervisor, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(supervisor, &status, 0), supervisor);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
  ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

}  // namespace
}  // namespace thalweg::cli
