#include "dataplane/base/privileges.hpp"

#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

namespace thalweg {

Result<void> become_user(const std::string& user) {
  std::array<char, 16384> buffer;
  struct passwd entry {};
  struct passwd* found = nullptr;
  ::getpwnam_r(user.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) return fail(ErrorCode::kNotFound, "no user is called '" + user + "'", "instance.user names it: useradd --system " + user);
  if (::geteuid() == found->pw_uid && ::getuid() == found->pw_uid) return {};
  int parent_death_signal = 0;
  ::prctl(PR_GET_PDEATHSIG, &parent_death_signal);
  const pid_t parent = ::getppid();
  // Groups first: without root's rights they could not be changed any more. glibc changes all threads.
  if (::initgroups(user.c_str(), found->pw_gid) != 0 || ::setresgid(found->pw_gid, found->pw_gid, found->pw_gid) != 0 ||
      ::setresuid(found->pw_uid, found->pw_uid, found->pw_uid) != 0) {
    return fail_errno(ErrorCode::kPermission, "become user " + user, errno, "start as root or as that user, or leave instance.user empty");
  }
  if (parent_death_signal != 0) {
    ::prctl(PR_SET_PDEATHSIG, parent_death_signal);
    if (::getppid() != parent) static_cast<void>(::raise(parent_death_signal));  // it died in between
  }
  return {};
}

}  // namespace thalweg
