#include "controlplane/cli/supervisor.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <sstream>
#include <utility>

#include "config/schema/process_start.hpp"
#include "dataplane/base/fd.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::cli {
namespace {

constexpr std::int64_t kPoll_ns = 10 * kMillisecond_ns;

struct Child {
  const ChildSpec* spec{};
  pid_t pid{-1};
  Fd pidfd;
  std::int64_t started_ns{};
  std::int64_t restart_at_ns{};   // when not running
  std::int64_t backoff_ns{};
  [[nodiscard]] bool is_running() const noexcept { return pid > 0; }
};

std::string describe_status(int status) {
  if (WIFSIGNALED(status)) return "was killed by signal " + std::to_string(WTERMSIG(status));
  return "ended with status " + std::to_string(WEXITSTATUS(status));
}

// SIGINT, SIGTERM and SIGHUP, and SIGUSR2 where that is `renewable`, are blocked and read from a descriptor for as long as this lives; children get
// the old mask back. They stay blocked while a successor takes over, so that none is lost; its old mask is that without them.
class Signals {
 public:
  Signals(bool is_renewable, bool is_successor) {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
    if (is_renewable) sigaddset(&set, SIGUSR2);
    ::sigprocmask(SIG_BLOCK, &set, &before_);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR2}) {
      if (is_successor) sigdelset(&before_, signal);
    }
    fd_ = Fd{::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)};
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  ~Signals() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] const sigset_t& before() const noexcept { return before_; }
  // Takes the next signal that came in; 0 when there is none.
  [[nodiscard]] int take() const noexcept {
    signalfd_siginfo info{};
    return ::read(fd_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info) ? static_cast<int>(info.ssi_signo) : 0;
  }

 private:
  sigset_t before_{};
  Fd fd_;
};

class Supervisor {
 public:
  explicit Supervisor(const SupervisorOptions& options) : options_{options}, signals_{options.make_way != nullptr, !options.predecessor.empty()} {
    for (const ChildSpec& spec : options.children) {
      Child& child = children_.emplace_back();
      child.spec = &spec;
      child.backoff_ns = options.backoff_first_ns;
    }
  }

  Result<void> run() {
    started_ns_ = monotonic_ns();
    if (!options_.predecessor.empty()) take_over();
    while (true) {
      const std::int64_t now = monotonic_ns();
      if (!is_stopping_) start_due(now);
      check_ready(now);
      if (is_stopping_ && now >= kill_at_ns_) kill_all(SIGKILL);
      if (is_stopping_ && !is_any_running()) break;
      wait_for_event(now);
      while (const int signal = signals_.take()) on_signal(signal);
      for (Child& child : children_) reap(child);
    }
    return result_;
  }

 private:
  // What a successor has to know of each child, as text.
  [[nodiscard]] std::string handed_over() const {
    std::string text;
    for (const Child& child : children_) {
      text += fmt::format("{}{} {} {} {} {}", text.empty() ? "" : "\n", child.spec->name, child.pid, child.started_ns, child.restart_at_ns, child.backoff_ns);
    }
    return text;
  }

  // The processes are ours still, whatever program we run. One that ended meanwhile waits to be collected.
  void take_over() {
    std::istringstream lines{options_.predecessor};
    std::string name;
    Child handed;
    while (lines >> name >> handed.pid >> handed.started_ns >> handed.restart_at_ns >> handed.backoff_ns) {
      const auto child = std::find_if(children_.begin(), children_.end(), [&name](const Child& one) { return one.spec->name == name; });
      siginfo_t info{};
      const bool is_ours = handed.pid > 0 && ::waitid(P_PID, static_cast<id_t>(handed.pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
      if (child == children_.end() || (handed.pid > 0 && !is_ours)) continue;
      child->pid = handed.pid;
      if (is_ours) child->pidfd = Fd{static_cast<int>(::syscall(SYS_pidfd_open, handed.pid, 0))};
      child->started_ns = handed.started_ns;
      child->restart_at_ns = handed.restart_at_ns;
      child->backoff_ns = handed.backoff_ns;
      is_ready_ = true;
      if (is_ours) log(name + " goes on as process " + std::to_string(handed.pid));
    }
  }

  void make_way() {
    if (!is_ready_ || is_stopping_) return log("no successor while the instance starts or stops");
    log("makes way for the program that is installed now");
    const auto stayed = options_.make_way(handed_over());
    if (!stayed) log("goes on: " + stayed.error().message);
  }

  void start_due(std::int64_t now) {
    for (Child& child : children_) {
      if (child.is_running() || now < child.restart_at_ns) continue;
      if (child.spec->may_start && !child.spec->may_start(pids())) continue;
      if (auto started = start(child, now); !started) {
        result_ = std::move(started);
        return stop();
      }
    }
  }

  Result<void> start(Child& child, std::int64_t now) {
    std::vector<char*> argv{const_cast<char*>(child.spec->path.c_str())};
    for (const std::string& argument : child.spec->arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(ErrorCode::kGeneric, "pipe", errno);
    Fd read_end{ends[0]};
    Fd write_end{ends[1]};
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return fail_errno(ErrorCode::kGeneric, "start " + child.spec->name, errno);
    if (pid == 0) {
      // Own group: Ctrl-C reaches the supervisor alone, which stops both in order. The kernel ends the child when the supervisor dies.
      ::setpgid(0, 0);
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      if (::getppid() != parent) ::_exit(1);
      ::sigprocmask(SIG_SETMASK, &signals_.before(), nullptr);
      ::execv(argv[0], argv.data());
      const int error = errno;
      static_cast<void>(!::write(ends[1], &error, sizeof error));
      ::_exit(127);
    }
    write_end = Fd{};
    int error = 0;
    const bool has_failed = ::read(read_end.get(), &error, sizeof error) == static_cast<ssize_t>(sizeof error);
    if (has_failed) {
      ::waitpid(pid, nullptr, 0);
      const ErrorCode code = error == ENOENT ? ErrorCode::kNotFound : error == EACCES ? ErrorCode::kPermission : ErrorCode::kGeneric;
      return fail_errno(code, "start " + child.spec->path, error);
    }
    child.pid = pid;
    child.pidfd = Fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};  // <sys/pidfd.h> of glibc 2.36 is not for C++
    child.started_ns = now;
    log(child.spec->name + " runs as process " + std::to_string(pid));
    return {};
  }

  void check_ready(std::int64_t now) {
    if (is_ready_ || is_stopping_) return;
    if (!options_.is_ready || options_.is_ready(pids())) {
      is_ready_ = true;
      if (options_.on_ready) options_.on_ready();
    } else if (now - started_ns_ > options_.ready_timeout_ns) {
      const std::string missing = options_.waits_for ? options_.waits_for(pids()) : "";
      result_ = fail(ErrorCode::kTimeout,
                     "the instance was not ready within " + format_duration_ns(options_.ready_timeout_ns) + (missing.empty() ? "" : ": it waits for " + missing),
                     "the log lines above say more");
      stop();
    } else if (options_.waits_for && now - started_ns_ > options_.silence_ns) {
      tell_what_is_missing();
    }
  }

  void tell_what_is_missing() {
    std::string missing = options_.waits_for(pids());
    if (missing == told_) return;
    told_ = std::move(missing);
    log("waiting for " + told_);
  }

  void wait_for_event(std::int64_t now) {
    std::int64_t until = now + 60 * kSecond_ns;
    if (!is_ready_) until = now + kPoll_ns;
    if (is_stopping_) until = std::min(until, kill_at_ns_);
    std::vector<pollfd> waits{{signals_.fd(), POLLIN, 0}};
    for (const Child& child : children_) {
      if (child.is_running()) waits.push_back({child.pidfd.get(), POLLIN, 0});
      else if (!is_stopping_) until = std::min(until, std::max(child.restart_at_ns, now + kPoll_ns));
    }
    const std::int64_t left = std::clamp<std::int64_t>(until - now, 0, 60 * kSecond_ns);
    const timespec timeout{left / kSecond_ns, left % kSecond_ns};
    ::ppoll(waits.data(), waits.size(), &timeout, nullptr);  // EINTR: the loop looks again
  }

  void on_signal(int signal) {  // all but SIGUSR2 mean the same; SIGHUP is a terminal that went away
    if (signal == SIGUSR2) return make_way();
    const std::int64_t now = monotonic_ns();
    if (!is_stopping_) {
      first_signal_ns_ = now;
      log("stopping");
      stop();
    } else if (now - first_signal_ns_ >= options_.patience_ns) {
      log("stopping at once");
      kill_all(SIGKILL);
    }
  }

  void stop() {
    if (is_stopping_) return;
    is_stopping_ = true;
    kill_at_ns_ = monotonic_ns() + options_.stop_timeout_ns;
    kill_all(SIGTERM);
  }

  void kill_all(int signal) {
    for (const Child& child : children_) {
      if (child.is_running()) ::kill(child.pid, signal);
    }
    if (signal == SIGKILL) kill_at_ns_ = monotonic_ns() + kSecond_ns;  // not a busy loop while the kernel collects them
  }

  void reap(Child& child) {
    int status = 0;
    const pid_t pid = child.pid;
    if (!child.is_running() || ::waitpid(pid, &status, WNOHANG) != pid) return;
    child.pid = -1;
    child.pidfd = Fd{};
    const std::int64_t now = monotonic_ns();
    const bool is_orderly = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (is_stopping_) {
      // One that had no time yet to set its handlers ends by our SIGTERM.
      if (!is_orderly && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) && result_) result_ = fail(ErrorCode::kGeneric, child.spec->name + " " + describe_status(status) + " while stopping");
      return;
    }
    if (is_orderly || is_over(child, pid)) {
      log(child.spec->name + " ended by itself; stopping");
      return stop();
    }
    const bool is_young = now - child.started_ns < options_.young_ns;
    if (WIFEXITED(status) && WEXITSTATUS(status) == config::kProcessRestart && is_ready_ && !is_young) {
      child.restart_at_ns = now;
      return log(child.spec->name + " makes way for a new one");
    }
    if (!is_ready_ && WIFEXITED(status)) {  // its own message says why; trying again would say the same
      result_ = fail(ErrorCode::kGeneric, child.spec->name + " " + describe_status(status) + " before the instance was ready",
                     "its message above says why");
      return stop();
    }
    if (now - child.started_ns > options_.calm_ns) child.backoff_ns = options_.backoff_first_ns;
    child.restart_at_ns = now + child.backoff_ns;
    log(child.spec->name + " " + describe_status(status) + "; starting it again in " + format_duration_ns(child.backoff_ns));
    child.backoff_ns = std::min(child.backoff_ns * 2, options_.backoff_max_ns);
  }

  [[nodiscard]] bool is_over(const Child& child, pid_t pid) const {
    return is_ready_ && options_.is_over && options_.is_over(static_cast<std::size_t>(&child - children_.data()), pid);
  }
  [[nodiscard]] std::vector<pid_t> pids() const {
    std::vector<pid_t> all;
    for (const Child& child : children_) all.push_back(child.pid);
    return all;
  }
  [[nodiscard]] bool is_any_running() const {
    return std::any_of(children_.begin(), children_.end(), [](const Child& child) { return child.is_running(); });
  }
  void log(const std::string& text) const {
    if (options_.log) options_.log(text);
  }

  const SupervisorOptions& options_;
  Signals signals_;
  std::vector<Child> children_;
  Result<void> result_;
  std::string told_;  // what we last said that we wait for
  std::int64_t started_ns_{};
  std::int64_t kill_at_ns_{};
  std::int64_t first_signal_ns_{};  // 0: none, the end has another reason, and any signal hurries it
  bool is_ready_{};
  bool is_stopping_{};
};

}  // namespace

Result<void> supervise(const SupervisorOptions& options) { return Supervisor{options}.run(); }

}  // namespace thalweg::cli
