#include "dataplane/base/privileges.hpp"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
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

Result<void> keep_capabilities(const std::vector<int>& kept) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  if (::syscall(SYS_capget, &header, sets.data()) != 0) return fail_errno(ErrorCode::kPermission, "read this thread's capabilities", errno);
  std::array<std::uint32_t, _LINUX_CAPABILITY_U32S_3> wanted{};
  for (const int one : kept) wanted[CAP_TO_INDEX(static_cast<unsigned>(one))] |= CAP_TO_MASK(static_cast<unsigned>(one));
  for (std::size_t i = 0; i < sets.size(); ++i) {
    sets[i].permitted &= wanted[i];
    sets[i].effective &= wanted[i];
    sets[i].inheritable = 0;  // takes the ambient ones along
  }
  // Without it, root would have them all again after an exec.
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::syscall(SYS_capset, &header, sets.data()) != 0) {
    return fail_errno(ErrorCode::kPermission, "give up capabilities", errno);
  }
  return {};
}

}  // namespace thalweg
