#include "dataplane/base/privileges.hpp"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <thread>

namespace thalweg {
namespace {

constexpr uid_t kNobody = 65534;

// Runs `body` in a child, which may give up what this process needs. True: it did what it should.
bool holds_in_child(const std::function<bool()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body() ? 0 : 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(BecomeUser, an_unknown_user_is_an_error_with_a_way_out) {
  const auto became = become_user("no-such-user-here");
  ASSERT_FALSE(became);
  EXPECT_EQ(became.error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(became.error().hint.empty());
}

TEST(BecomeUser, gives_up_root_in_all_threads_for_good) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_TRUE(holds_in_child([] {
    std::atomic<bool> has_become{false};
    uid_t seen = 0;
    std::thread other{[&] {
      while (!has_become.load()) std::this_thread::yield();
      seen = ::geteuid();
    }};
    const bool became = become_user("nobody").has_value();
    has_become.store(true);
    other.join();
    return became && seen == kNobody && ::getuid() == kNobody && ::getegid() != 0 && ::seteuid(0) != 0;
  }));
}

TEST(BecomeUser, keeps_the_signal_for_the_parent_s_death) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_TRUE(holds_in_child([] {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    int signal = 0;
    return become_user("nobody").has_value() && ::prctl(PR_GET_PDEATHSIG, &signal) == 0 && signal == SIGTERM;
  }));
}

TEST(BecomeUser, another_user_than_root_cannot_become_somebody_else) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to be somebody in the first place";
  EXPECT_TRUE(holds_in_child([] {
    if (!become_user("nobody")) return false;
    const auto back = become_user("root");
    return become_user("nobody").has_value() && !back && back.error().code == ErrorCode::kPermission;
  }));
}

}  // namespace
}  // namespace thalweg
