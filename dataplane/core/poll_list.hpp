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

// Which of so many things to look at next, each once in `sweep_ns`. One thread.
class Rotation {
 public:
  static constexpr std::uint32_t kLeast = 8;          // a few are seen at once
  explicit Rotation(std::int64_t sweep_ns) noexcept : sweep_ns_{sweep_ns} {}
  // How many of `count` to look at in a turn that came `elapsed_ns` after the last one.
  [[nodiscard]] std::uint32_t share(std::uint32_t count, std::int64_t elapsed_ns) noexcept {
    if (count <= kLeast || elapsed_ns >= sweep_ns_) return count;
    credit_ += static_cast<std::uint64_t>(elapsed_ns) * count;
    const std::uint64_t least = std::uint64_t{kLeast} * static_cast<std::uint64_t>(sweep_ns_);
    if (credit_ < least) return 0;   // the usual turn under load: no division
    const auto due = static_cast<std::uint32_t>(std::min<std::uint64_t>(credit_ / static_cast<std::uint64_t>(sweep_ns_), count));
    credit_ -= due * static_cast<std::uint64_t>(sweep_ns_);
    return due;
  }
  // Index of the next one; wraps. Precondition: count != 0.
  [[nodiscard]] std::uint32_t advance(std::uint32_t count) noexcept {
    if (cursor_ == 0 || cursor_ > count) cursor_ = count;
    return --cursor_;     // downwards: what a removal at the cursor moves in was already seen
  }

 private:
  std::uint32_t cursor_{};
  std::uint64_t credit_{};
  std::int64_t sweep_ns_;
};

// Idle entries. Those that a client can wake lie in one dense array with the word to watch; the next timer of each, which is never urgent
// to a fraction of a millisecond, in another one that is swept more slowly. So a stream that waits for nobody costs one look a millisecond,
// and neither sweep touches the state of a stream.
template <typename Entry>
class IdleList {
 public:
  static constexpr std::int64_t kTimerSweep_ns = 1'000'000;
  struct Watch {
    std::uint32_t* word{};             // shared memory; null: subscriber positions wake it, the entry has to be asked
    std::uint32_t seen{};              // what the word held when the entry went idle
    std::uint32_t timer{};             // index of its timer
    // Relaxed: who wakes up looks again with the right order.
    [[nodiscard]] bool has_changed() const noexcept { return std::atomic_ref{*word}.load(std::memory_order_relaxed) != seen; }
  };
  // Each watched entry is seen once in `sweep_ns`.
  IdleList(std::uint32_t capacity, std::int64_t sweep_ns)
      : watches_{new Watch[capacity]}, timers_{new Timer[capacity]}, watch_rotation_{sweep_ns} {}

  // Waits for its timer only, until watch() says more.
  void add(Entry& entry, std::int64_t deadline_ns) noexcept {
    THALWEG_DCHECK(entry.polled.activity == Activity::kNone);
    entry.polled = {Activity::kIdle, 0, count_};
    timers_[count_++] = {deadline_ns, &entry, kNoWatch};
  }
  // Precondition: just added.
  void watch(Entry& entry, std::uint32_t* word, std::uint32_t seen) noexcept {
    Timer& timer = timers_[entry.polled.at];
    THALWEG_DCHECK(timer.watch == kNoWatch);
    timer.watch = watched_;
    watches_[watched_++] = {word, seen, entry.polled.at};
  }
  void remove(Entry& entry) noexcept {
    const std::uint32_t at = entry.polled.at;
    THALWEG_DCHECK(entry.polled.activity == Activity::kIdle && timers_[at].entry == &entry);
    if (const std::uint32_t watch = timers_[at].watch; watch != kNoWatch) {
      watches_[watch] = watches_[--watched_];
      timers_[watches_[watch].timer].watch = watch;   // of the removed one itself, if it was the last: nobody looks
    }
    entry.polled.activity = Activity::kNone;
    if (at == --count_) return;
    timers_[at] = timers_[count_];
    timers_[at].entry->polled.at = at;
    if (timers_[at].watch != kNoWatch) watches_[timers_[at].watch].timer = at;
  }
  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint32_t watched() const noexcept { return watched_; }

  // Calls `wake(entry)`, which removes it, for each entry of this turn's share that is to be woken. `has_news(entry)` answers for those
  // without a word.
  template <typename HasNews, typename Wake>
  void sweep(std::int64_t now_ns, std::int64_t elapsed_ns, HasNews&& has_news, Wake&& wake) noexcept {
    for (std::uint32_t n = watch_rotation_.share(watched_, elapsed_ns); n > 0 && watched_ != 0; --n) {
      const std::uint32_t at = watch_rotation_.advance(watched_);
      const Watch& watch = watches_[at];
      if (at >= kAhead) __builtin_prefetch(watches_[at - kAhead].word);   // every word lies in a log of its own
      const bool is_awake = watch.word != nullptr ? watch.has_changed() : has_news(*timers_[watch.timer].entry);
      if (is_awake) [[unlikely]] wake(*timers_[watch.timer].entry);
    }
    for (std::uint32_t n = timer_rotation_.share(count_, elapsed_ns); n > 0 && count_ != 0; --n) {
      const Timer& timer = timers_[timer_rotation_.advance(count_)];
      if (now_ns >= timer.deadline_ns) [[unlikely]] wake(*timer.entry);
    }
  }

 private:
  static constexpr std::uint32_t kNoWatch = ~std::uint32_t{0};
  static constexpr std::uint32_t kAhead = 12;
  struct Timer {
    std::int64_t deadline_ns{};
    Entry* entry{};
    std::uint32_t watch{kNoWatch};
  };
  std::unique_ptr<Watch[]> watches_;
  std::unique_ptr<Timer[]> timers_;
  std::uint32_t count_{};
  std::uint32_t watched_{};
  Rotation watch_rotation_;
  Rotation timer_rotation_{kTimerSweep_ns};
};

}  // namespace thalweg::core
