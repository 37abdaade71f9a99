#include "controlplane/log/wake_up.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "controlplane/log/coordination.hpp"
#include "dataplane/base/errno.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::log {
namespace {

tl::unexpected<Error> failed(const std::string& what) { return fail_errno(file_error_code(errno), what, errno); }

Result<void> poll_too(int set, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  if (::epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) return failed("epoll_ctl");
  return {};
}

// Empties it. false: there was nothing in it.
bool drain(int fd) noexcept {
  alignas(inotify_event) char bytes[4096];
  bool is_any = false;
  while (fd >= 0 && ::read(fd, bytes, sizeof bytes) > 0) is_any = true;
  return is_any;
}

}  // namespace

Result<std::shared_ptr<WakeUp>> WakeUp::make() {
  const int set = ::epoll_create1(EPOLL_CLOEXEC);
  if (set < 0) return failed("epoll");
  const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event < 0) {
    auto error = failed("eventfd");
    ::close(set);
    return error;
  }
  std::shared_ptr<WakeUp> made{new WakeUp{set, event}};
  if (auto polled = poll_too(set, event); !polled) return tl::unexpected{std::move(polled.error())};
  return made;
}

WakeUp::~WakeUp() {
  if (watches_ >= 0) ::close(watches_);
  ::close(event_);
  ::close(fd_);
}

// Stores into a mapping tell nobody; WakeUps::notify() writes.
Result<void> WakeUp::watch(const std::string& directory) {
  const std::lock_guard guard{mutex_};
  if (watches_ < 0) {
    const int made = ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (made < 0) return failed("inotify");
    if (auto polled = poll_too(fd_, made); !polled) {
      ::close(made);
      return polled;
    }
    watches_ = made;
  }
  const std::string path = directory + "/" + kCoordinationName;
  if (::inotify_add_watch(watches_, path.c_str(), IN_MODIFY) < 0) return failed("watch " + path);
  return {};
}

void WakeUp::notify() noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(event_, &one, sizeof one));  // fails only when it has been notified 2^64 times and nobody came
}

bool WakeUp::wait(std::int64_t timeout_ns) noexcept {
  const timespec timeout{timeout_ns / kSecond_ns, timeout_ns % kSecond_ns};
  pollfd waiting{fd_, POLLIN, 0};
  if (::ppoll(&waiting, 1, &timeout, nullptr) != 1) return false;  // a signal ends the wait as well: the caller looks at what there is
  const bool is_notified = drain(event_);
  const std::lock_guard guard{mutex_};
  return drain(watches_) || is_notified;
}

WakeUps::~WakeUps() {
  if (page_ >= 0) ::close(page_);
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
  if (!is_page_tried_) {  // not there: a file system of the tests
    is_page_tried_ = true;
    page_ = ::open((directory_ + "/" + kCoordinationName).c_str(), O_WRONLY | O_CLOEXEC);
  }
  const std::uint64_t nothing = 0;
  if (page_ >= 0) static_cast<void>(!::pwrite(page_, &nothing, sizeof nothing, offsetof(CoordinationPage, told)));
}

}  // namespace thalweg::log
