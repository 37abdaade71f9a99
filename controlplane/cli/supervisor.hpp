#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "dataplane/base/result.hpp"
#include "dataplane/base/time.hpp"

// Starts the processes of an instance, watches them by pidfd, restarts a crashed one with back-off, and ends them together.
namespace thalweg::cli {

struct ChildSpec {
  std::string name;                     // for messages
  std::string path;                     // executable
  std::vector<std::string> arguments;   // without argv[0]
  // Asked before each start, every 10 ms until it says yes, with the pids of all children (-1: not running). Empty: at once.
  std::function<bool(const std::vector<pid_t>&)> may_start;
};

struct SupervisorOptions {
  std::vector<ChildSpec> children;
  std::int64_t backoff_first_ns{100 * kMillisecond_ns};  // doubled with every crash
  // With the start itself and a heartbeat a second old it must stay well below 10 s: applications give up a driver that shows none for so long.
  std::int64_t backoff_max_ns{4 * kSecond_ns};
  std::int64_t calm_ns{30 * kSecond_ns};                 // a child that lived this long starts again at backoff_first
  std::int64_t young_ns{kSecond_ns};                     // one that makes way sooner waits like one that crashed: it may do nothing else
  std::int64_t ready_timeout_ns{60 * kSecond_ns};
  std::int64_t stop_timeout_ns{15 * kSecond_ns};         // after SIGTERM; then SIGKILL
  // A signal within this time after the first is the same wish told twice, as timeout(1) and process managers do; a later one kills.
  std::int64_t patience_ns{kSecond_ns};
  std::function<bool(const std::vector<pid_t>&)> is_ready;  // asked every 10 ms with the children's pids until it says yes
  std::function<std::string(const std::vector<pid_t>&)> waits_for;  // what is_ready misses; told to `log` when it takes long, and when it changes
  std::int64_t silence_ns{2 * kSecond_ns};               // how long that is not worth a line
  // Asked of a child that did not end in order, with its pid: whether it had told everybody that the instance is over. Then the others end, too.
  std::function<bool(std::size_t child, pid_t pid)> is_over;
  // SIGUSR2: replaces this process by the program that is installed now, which finds its predecessor's children in `children`; comes back with an
  // error only, and then everything goes on as it is. Empty: that signal is none of ours.
  std::function<Result<void>(const std::string& children)> make_way;
  std::string predecessor;                               // what make_way handed over; children that are not ours any more are started
  std::function<void()> on_ready;                        // not for a successor: it was ready
  std::function<void(const std::string&)> log;           // one line about a child's life
};

// Runs until SIGINT, SIGTERM or SIGHUP (all are passed on as SIGTERM; a second one after a while kills), until a child ends by itself with status 0, or until a child
// fails before the instance was ever ready. SIGUSR2 makes way for a successor, which is this process with another program: children stay. A child that ends with config::kProcessRestart makes way for a successor, which is started at once. No child outlives the call; if this process is killed, the kernel sends them SIGTERM.
// Errors: kNotFound / kPermission (an executable), kTimeout (not ready in time), kGeneric (a child failed). Single-threaded processes only.
[[nodiscard]] Result<void> supervise(const SupervisorOptions& options);

}  // namespace thalweg::cli
