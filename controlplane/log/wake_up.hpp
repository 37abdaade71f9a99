#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dataplane/base/result.hpp"

namespace thalweg::log {

// Somebody who waits for new entries, of this process or of others. Any thread.
class WakeUp {
 public:
  // Errors: kNoSpace, kIo.
  [[nodiscard]] static Result<std::shared_ptr<WakeUp>> make();
  ~WakeUp();
  WakeUp(const WakeUp&) = delete;
  WakeUp& operator=(const WakeUp&) = delete;
  // Notifies itself from now on whenever a process makes entries of this shard durable. Its directory must be there; twice is no error. Errors: kNotFound,
  // kPermission; kNoSpace when the system has no more watches (fs.inotify.*): whoever waits has to look from time to time then.
  [[nodiscard]] Result<void> watch(const std::string& directory);
  // Readable after notify(), and when something happened that it watches; for a poll set of the owner's.
  [[nodiscard]] int fd() const noexcept { return fd_; }
  void notify() noexcept;
  // Until it was notified since the last call, or the time is over. false: it is over.
  bool wait(std::int64_t timeout_ns) noexcept;

 private:
  WakeUp(int fd, int event) noexcept : fd_{fd}, event_{event} {}
  const int fd_;       // epoll, of the others
  const int event_;    // eventfd
  std::mutex mutex_;
  int watches_{-1};    // inotify; none before the first watch()
};

// Who wants to know of a shard's new durable entries. Any thread.
class WakeUps {
 public:
  // `directory`: of the shard.
  explicit WakeUps(std::string directory) : directory_{std::move(directory)} {}
  ~WakeUps();
  WakeUps(const WakeUps&) = delete;
  WakeUps& operator=(const WakeUps&) = delete;
  void add(const std::shared_ptr<WakeUp>& waiting);
  // Those that were added, and those that watch the directory, in any process. One system call where nobody was added.
  void notify() noexcept;

 private:
  const std::string directory_;
  std::mutex mutex_;
  std::vector<std::weak_ptr<WakeUp>> waiting_;
  int page_{-1};  // the coordination page's file; a write to it is what watchers are told of
  bool is_page_tried_{};
};

}  // namespace thalweg::log
