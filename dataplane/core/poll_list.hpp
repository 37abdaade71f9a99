#pragma once
#include <memory>

#include "dataplane/base/assert.hpp"
#include "dataplane/core/streams.hpp"

namespace thalweg::core {

// Unordered list of entries that know their place in it: add and remove in constant time, dense to walk. One thread.
template <typename Entry>
class PollList {
 public:
  PollList(std::uint32_t capacity, Activity activity) : entries_{new Entry*[capacity]}, activity_{activity} {}
  void add(Entry& entry) noexcept {
    THALWEG_DCHECK(entry.polled.activity == Activity::kNone);
    entry.polled = {activity_, 0, count_};
    entries_[count_++] = &entry;
  }
  void remove(Entry& entry) noexcept {
    THALWEG_DCHECK(entry.polled.activity == activity_ && entries_[entry.polled.at] == &entry);
    Entry* const last = entries_[--count_];
    entries_[entry.polled.at] = last;
    last->polled.at = entry.polled.at;
    entry.polled.activity = Activity::kNone;
  }
  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }
  [[nodiscard]] Entry& operator[](std::uint32_t i) const noexcept { return *entries_[i]; }

 private:
  std::unique_ptr<Entry*[]> entries_;
  std::uint32_t count_{};
  Activity activity_;
};

// Idle entries: what has to be looked at to see whether one woke up lies densely beside the pointer, so that a sweep over thousands touches
// one array and the words the clients write, and no stream state.
template <typename Entry>
class IdleList {
 public:
  struct Watch {
    std::uint32_t* word{};             // shared memory
    std::uint32_t seen{};              // what the word held when the entry went idle
    bool follows_links{};              // subscriber positions wake it too: the entry has to be asked
    std::int64_t deadline_ns{};        // its next timer
    Entry* entry{};
    // Relaxed: who wakes up looks again with the right order.
    [[nodiscard]] bool has_changed() const noexcept { return std::atomic_ref{*word}.load(std::memory_order_relaxed) != seen; }
  };
  // Each entry is seen once in `sweep_ns`.
  IdleList(std::uint32_t capacity, std::int64_t sweep_ns) : watches_{new Watch[capacity]}, sweep_ns_{sweep_ns} {}
  void add(Entry& entry, std::uint32_t* word, std::uint32_t seen, bool follows_links, std::int64_t deadline_ns) noexcept {
    THALWEG_DCHECK(entry.polled.activity == Activity::kNone);
    entry.polled = {Activity::kIdle, 0, count_};
    watches_[count_++] = {word, seen, follows_links, deadline_ns, &entry};
  }
  void remove(Entry& entry) noexcept {
    THALWEG_DCHECK(entry.polled.activity == Activity::kIdle && watches_[entry.polled.at].entry == &entry);
    const Watch last = watches_[--count_];
    watches_[entry.polled.at] = last;
    last.entry->polled.at = entry.polled.at;
    entry.polled.activity = Activity::kNone;
  }
  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }
  [[nodiscard]] const Watch& operator[](std::uint32_t i) const noexcept { return watches_[i]; }

  // How many entries to look at in a turn that came `elapsed_ns` after the last one.
  static constexpr std::uint32_t kLeast = 8;          // a few idle streams are seen at once
  [[nodiscard]] std::uint32_t share(std::int64_t elapsed_ns) noexcept {
    if (count_ <= kLeast || elapsed_ns >= sweep_ns_) return count_;
    credit_ += static_cast<std::uint64_t>(elapsed_ns) * count_;
    std::uint32_t due = kLeast;
    const std::uint64_t least = std::uint64_t{kLeast} * static_cast<std::uint64_t>(sweep_ns_);
    if (credit_ < least) {   // the usual turn under load: no division
      credit_ = 0;
      return due;
    }
    due = static_cast<std::uint32_t>(std::min<std::uint64_t>(credit_ / static_cast<std::uint64_t>(sweep_ns_), count_));
    credit_ -= due * static_cast<std::uint64_t>(sweep_ns_);
    return due;
  }
  // Next one to look at; wraps.
  [[nodiscard]] std::uint32_t advance() noexcept {
    if (cursor_ == 0 || cursor_ > count_) cursor_ = count_;
    return --cursor_;     // downwards: remove() at the cursor moves in an entry that was already seen
  }

 private:
  std::unique_ptr<Watch[]> watches_;
  std::uint32_t count_{};
  std::uint32_t cursor_{};
  std::uint64_t credit_{};
  std::int64_t sweep_ns_;
};

}  // namespace thalweg::core
