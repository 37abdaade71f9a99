#include "tests/support/network_namespace.hpp"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>

namespace thalweg::test {

NetworkNamespace::NetworkNamespace(const char* commands) : home_{::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)} {
  if (home_ < 0 || ::unshare(CLONE_NEWNET) != 0) return;
  is_there_ = std::system(commands) == 0;   // the shell is in the namespace of the thread that starts it
  if (!is_there_) static_cast<void>(::setns(home_, CLONE_NEWNET));
}

NetworkNamespace::~NetworkNamespace() {
  if (is_there_ && ::setns(home_, CLONE_NEWNET) != 0) std::abort();
  if (home_ >= 0) ::close(home_);
}

}  // namespace thalweg::test
