#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "dataplane/base/result.hpp"

namespace thalweg::log {

// An eventfd that somebody waits on. Any thread.
class WakeUp {
 public:
  // Errors: kNoSpace, kIo.
  [[nodiscard]] static Result<std::shared_ptr<WakeUp>> make();
  ~WakeUp();
  WakeUp(const WakeUp&) = delete;
  WakeUp& operator=(const WakeUp&) = delete;
  // Readable after notify(); for a poll set of the owner's.
  [[nodiscard]] int fd() const noexcept { return fd_; }
  void notify() noexcept;
  // Until it was notified since the last call, or the time is over. false: it is over.
  bool wait(std::int64_t timeout_ns) noexcept;

 private:
  explicit WakeUp(int fd) noexcept : fd_{fd} {}
  const int fd_;
};

// Who wants to know of a shard's new durable entries. Any thread.
class WakeUps {
 public:
  void add(const std::shared_ptr<WakeUp>& waiting);
  void notify() noexcept;

 private:
  std::mutex mutex_;
  std::vector<std::weak_ptr<WakeUp>> waiting_;
};

}  // namespace thalweg::log
