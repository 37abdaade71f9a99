#include "controlplane/host/worker.hpp"

#include <pthread.h>

#include <utility>

namespace thalweg::host {

void Worker::start(const char* name) {
  thread_ = std::thread{[this] { loop(); }};
  pthread_setname_np(thread_.native_handle(), name);
}

void Worker::stop() {
  {
    const std::lock_guard lock{mutex_};
    is_stopping_ = true;
    queued_.clear();
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Worker::submit(Task work, Task done) {
  {
    const std::lock_guard lock{mutex_};
    queued_.push_back({std::move(work), std::move(done)});
  }
  wake_.notify_one();
}

bool Worker::run_one() {
  Item item;
  {
    const std::lock_guard lock{mutex_};
    if (queued_.empty()) return false;
    item = std::move(queued_.front());
    queued_.pop_front();
  }
  item.work();
  {
    const std::lock_guard lock{mutex_};
    completed_.push_back(std::move(item.done));
    has_completed_.store(true, std::memory_order_release);
  }
  if (notify_) notify_();
  return true;
}

int Worker::poll() {
  if (!has_completed_.load(std::memory_order_acquire)) return 0;
  std::deque<Task> completed;
  {
    const std::lock_guard lock{mutex_};
    completed.swap(completed_);
    has_completed_.store(false, std::memory_order_relaxed);
  }
  for (const Task& done : completed) {
    if (done) done();
  }
  return static_cast<int>(completed.size());
}

void Worker::loop() {
  for (;;) {
    {
      std::unique_lock lock{mutex_};
      wake_.wait(lock, [this] { return is_stopping_ || !queued_.empty(); });
      if (is_stopping_) return;
    }
    run_one();
  }
}

}  // namespace thalweg::host
