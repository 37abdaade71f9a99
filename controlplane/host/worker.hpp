#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace thalweg::host {

// A queue of slow work (files, name resolution) for the conductor, which itself never blocks. `work` runs on the worker's thread, `done`
// afterwards on the conductor's thread inside poll(). Without start() nothing runs until run_one(): tests are their own worker.
class Worker {
 public:
  using Task = std::function<void()>;
  // `notify` is called on the worker's thread after each piece of work, to wake the conductor.
  explicit Worker(Task notify = {}) : notify_{std::move(notify)} {}
  ~Worker() { stop(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Starts the thread. Once. `name`: of the thread, at most 15 characters.
  void start(const char* name = "tw-worker");
  // Finishes the piece of work in progress, drops the rest and joins the thread. Completions already queued stay for poll().
  void stop();
  // Queues work. Conductor's thread.
  void submit(Task work, Task done);
  // Runs one queued piece of work on the calling thread; false: none. Tests, and the worker's own thread.
  bool run_one();
  // Runs the completions that are there; returns how many. Conductor's thread.
  int poll();

 private:
  struct Item {
    Task work;
    Task done;
  };
  void loop();

  Task notify_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Item> queued_;
  std::deque<Task> completed_;
  std::atomic<bool> has_completed_{false};  // spares poll() the mutex; pairs with the release in run_one()
  bool is_stopping_{false};
  std::thread thread_;
};

}  // namespace thalweg::host
