#pragma once
#include <algorithm>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace thalweg::client::detail {

// Handlers of one kind that come and go while others call them. Any thread. None is called with the lock held; once remove() has returned,
// its handler is not running and never will be, unless it is the handler itself that removed it.
template <typename... Args>
class HandlerList {
 public:
  using Handler = std::function<void(Args...)>;

  void add(std::int64_t id, Handler handler) {
    const std::lock_guard lock{mutex_};
    entries_.push_back(std::make_shared<Entry>(Entry{id, std::move(handler), false, {}}));
  }
  // False: no such handler.
  bool remove(std::int64_t id) {
    std::unique_lock lock{mutex_};
    const auto found = std::find_if(entries_.begin(), entries_.end(), [id](const auto& entry) { return entry->id == id; });
    if (found == entries_.end()) return false;
    const std::shared_ptr<Entry> entry = std::move(*found);
    entries_.erase(found);
    entry->is_removed = true;
    returned_.wait(lock, [&entry] {
      return std::all_of(entry->callers.begin(), entry->callers.end(), [](std::thread::id caller) { return caller == std::this_thread::get_id(); });
    });
    return true;
  }
  void call(Args... args) {
    std::unique_lock lock{mutex_};
    const std::vector<std::shared_ptr<Entry>> entries = entries_;
    for (const std::shared_ptr<Entry>& entry : entries) {
      if (entry->is_removed) continue;
      entry->callers.push_back(std::this_thread::get_id());
      lock.unlock();
      entry->handler(args...);
      lock.lock();
      entry->callers.erase(std::find(entry->callers.begin(), entry->callers.end(), std::this_thread::get_id()));
      returned_.notify_all();
    }
  }

 private:
  struct Entry {
    std::int64_t id;
    Handler handler;
    bool is_removed;
    std::vector<std::thread::id> callers;  // threads inside the handler
  };
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::shared_ptr<Entry>> entries_;
};

}  // namespace thalweg::client::detail
