#pragma once
#include <condition_variable>
#include <mutex>

#include "dataplane/base/result.hpp"

namespace thalweg::log {

// One caller flushes for all that wait: those who come while it is at work wait for the next flush, which covers them together. Any thread.
// Spec: archive-log 4.
class GroupCommit {
 public:
  // Returns when `is_done()`; calls `flush()`, one at a time, until then. Errors: that of the flush which the caller did itself.
  template <typename IsDone, typename Flush>
  [[nodiscard]] Result<void> run(IsDone is_done, Flush flush) {
    std::unique_lock lock{mutex_};
    while (!is_done()) {
      if (is_flushing_) {
        flushed_.wait(lock);
        continue;
      }
      is_flushing_ = true;
      lock.unlock();
      auto done = flush();
      lock.lock();
      is_flushing_ = false;
      flushed_.notify_all();
      if (!done) return done;
    }
    return {};
  }

 private:
  std::mutex mutex_;
  std::condition_variable flushed_;
  bool is_flushing_{};
};

}  // namespace thalweg::log
