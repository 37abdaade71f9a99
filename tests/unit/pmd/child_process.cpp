#include "tests/unit/pmd/child_process.hpp"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dataplane/base/time.hpp"

namespace thalweg::pmd::test {
namespace {

constexpr std::int64_t kPatience_ns = 20 * kSecond_ns;

int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }

}  // namespace

ChildProcess::ChildProcess(const std::string& program, const std::vector<std::string>& arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return;
  std::vector<std::string> copies{program};
  copies.insert(copies.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& copy : copies) argv.push_back(copy.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  if (::posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv.data(), environ) != 0) pid_ = -1;
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  output_ = ends[0];
}

std::string ChildProcess::read_line() {
  const std::int64_t deadline_ns = monotonic_ns() + kPatience_ns;
  while (true) {
    if (const std::size_t end = buffer_.find('\n'); end != std::string::npos) {
      const std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    const std::int64_t left_ms = (deadline_ns - monotonic_ns()) / kMillisecond_ns;
    pollfd readable{.fd = output_, .events = POLLIN, .revents = 0};
    if (left_ms <= 0 || ::poll(&readable, 1, static_cast<int>(left_ms)) <= 0) return {};
    char bytes[512];
    const ssize_t count = ::read(output_, bytes, sizeof bytes);
    if (count <= 0) return {};
    buffer_.append(bytes, static_cast<std::size_t>(count));
  }
}

void ChildProcess::kill() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  if (output_ >= 0) ::close(output_);
  output_ = -1;
}

void ChildProcess::freeze() const {
  ::kill(pid_, SIGSTOP);
  int status = 0;
  ::waitpid(pid_, &status, WUNTRACED);
}

void ChildProcess::thaw() const { ::kill(pid_, SIGCONT); }

int ChildProcess::stop() {
  if (pid_ <= 0) return -1;
  ::kill(pid_, SIGTERM);
  while (!read_line().empty()) {}
  // Its output has ended or it hangs: the former means that it is about to be gone.
  const std::int64_t deadline_ns = monotonic_ns() + kPatience_ns;
  int status = 0;
  while (monotonic_ns() < deadline_ns) {
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return exit_code(status);
    }
    ::poll(nullptr, 0, 1);
  }
  return -1;
}

}  // namespace thalweg::pmd::test
