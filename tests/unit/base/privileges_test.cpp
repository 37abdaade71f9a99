#include "dataplane/base/privileges.hpp"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
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

// The set `name` (CapEff, CapPrm, ...) of the calling thread.
std::uint64_t capabilities(const char* name) {
  std::ifstream status{"/proc/thread-self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(std::string{name} + ":", 0) == 0) return std::stoull(line.substr(line.find('\t')), nullptr, 16);
  }
  return UINT64_MAX;
}

TEST(KeepCapabilities, gives_up_all_but_the_named_ones_also_for_threads_to_come) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_TRUE(holds_in_child([] {
    constexpr std::uint64_t kOnly = 1ULL << CAP_NET_BIND_SERVICE;
    if (!keep_capabilities({CAP_NET_BIND_SERVICE})) return false;
    std::uint64_t inherited = 0;
    std::thread{[&inherited] { inherited = capabilities("CapEff"); }}.join();
    return capabilities("CapEff") == kOnly && capabilities("CapPrm") == kOnly && inherited == kOnly;
  }));
}

TEST(KeepCapabilities, what_was_never_there_is_not_gained) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to have any in the first place";
  EXPECT_TRUE(holds_in_child([] {
    return keep_capabilities({}) && keep_capabilities({CAP_NET_ADMIN, CAP_BPF}) && capabilities("CapEff") == 0 && capabilities("CapPrm") == 0;
  }));
}

TEST(KeepCapabilities, no_program_run_later_gets_them_back) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_TRUE(holds_in_child([] {
    if (!keep_capabilities({})) return false;
    return std::system("grep -q '^CapEff:[[:space:]]*0*$' /proc/self/status") == 0;
  }));
}

}  // namespace
}  // namespace thalweg
