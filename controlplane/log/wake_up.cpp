#include "controlplane/log/wake_up.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "dataplane/base/errno.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::log {

Result<std::shared_ptr<WakeUp>> WakeUp::make() {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return fail_errno(file_error_code(errno), "eventfd", errno);
  return std::shared_ptr<WakeUp>{new WakeUp{fd}};
}

WakeUp::~WakeUp() { ::close(fd_); }

void WakeUp::notify() noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(fd_, &one, sizeof one));  // fails only when it has been notified 2^64 times and nobody came
}

bool WakeUp::wait(std::int64_t timeout_ns) noexcept {
  const timespec timeout{timeout_ns / kSecond_ns, timeout_ns % kSecond_ns};
  pollfd waiting{fd_, POLLIN, 0};
  if (::ppoll(&waiting, 1, &timeout, nullptr) != 1) return false;  // a signal ends the wait as well: the caller looks at what there is
  std::uint64_t count = 0;
  return ::read(fd_, &count, sizeof count) == sizeof count;
}

void WakeUps::add(const std::shared_ptr<WakeUp>& waiting) {
  const std::lock_guard guard{mutex_};
  std::erase_if(waiting_, [](const auto& known) { return known.expired(); });
  waiting_.push_back(waiting);
}

void WakeUps::notify() noexcept {
  const std::lock_guard guard{mutex_};
  for (const auto& known : waiting_)
    if (const auto waiting = known.lock()) waiting->notify();
}

}  // namespace thalweg::log
