#pragma once
#include <algorithm>
#include <bit>
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
  static constexpr std::uint32_t kFew = 8;            // so many are seen at once
  static constexpr std::uint32_t kTogether = 64;      // misses of looks in a row overlap: few long slices cost less than many short ones
  explicit Rotation(std::int64_t sweep_ns) noexcept : sweep_ns_{sweep_ns} {}
  // How many of `count` to look at in a turn that came `elapsed_ns` after the last one.
  [[nodiscard]] std::uint32_t share(std::uint32_t count, std::int64_t elapsed_ns) noexcept {
    if (count <= kFew || elapsed_ns >= sweep_ns_) return count;
    waited_ns_ += elapsed_ns;
    const int shift = std::bit_width((count - 1) / kTogether);   // a sweep has 2^shift slices
    const std::int64_t slice_ns = sweep_ns_ >> shift;
    if (waited_ns_ < slice_ns) return 0;   // the usual turn under load: no division
    const std::int64_t slices = waited_ns_ / slice_ns;
    waited_ns_ -= slices * slice_ns;
    return static_cast<std::uint32_t>(std::min<std::int64_t>(count, slices * ((count >> shift) + 1)));
  }
  struct Slice {
    std::uint32_t begin{}, end{};
  };
  // The next `wanted` of `count` indices, or the fewer that are left before it starts over. To be walked downwards: what a removal moves
  // in was already seen. Precondition: count != 0.
  [[nodiscard]] Slice advance(std::uint32_t count, std::uint32_t wanted) noexcept {
    if (cursor_ == 0 || cursor_ > count) cursor_ = count;
    const std::uint32_t end = cursor_;
    cursor_ -= std::min(wanted, end);
    return {cursor_, end};
  }

 private:
  std::uint32_t cursor_{};
  std::int64_t waited_ns_{};
  std::int64_t sweep_ns_;
};

// Idle entries. Those that a client can wake lie in one dense array with the word to watch; the next timer of each, which is never urgent
// to a fraction of a millisecond, in another one that is swept more slowly. So a stream that waits for nobody costs eight bytes a millisecond,
// and neither sweep touches the state of a stream.
template <typename Entry>
class IdleList {
 public:
  static constexpr std::int64_t kTimerSweep_ns = 1'000'000;
  // Each watched entry is seen once in `sweep_ns`.
  IdleList(std::uint32_t capacity, std::int64_t sweep_ns)
      : words_{new std::uint32_t*[capacity]},
        watches_{new Watch[capacity]},
        deadlines_{new std::int64_t[capacity]},
        sleepers_{new Sleeper[capacity]},
        watch_rotation_{sweep_ns} {}

  // Waits for its timer only, until watch() says more.
  void add(Entry& entry, std::int64_t deadline_ns) noexcept {
    THALWEG_DCHECK(entry.polled.activity == Activity::kNone);
    entry.polled = {Activity::kIdle, 0, count_};
    deadlines_[count_] = deadline_ns;
    sleepers_[count_++] = {&entry, kNoWatch};
  }
  // Wakes, too, when `word` (in shared memory) holds something else than `seen`; without a word it is asked for news. Precondition: just added.
  void watch(Entry& entry, std::uint32_t* word, std::uint32_t seen) noexcept {
    Sleeper& sleeper = sleepers_[entry.polled.at];
    THALWEG_DCHECK(sleeper.watch == kNoWatch);
    sleeper.watch = watched_;
    words_[watched_] = word != nullptr && seen == 0 ? word : &one_;
    watches_[watched_++] = {word, seen, entry.polled.at};
  }
  void remove(Entry& entry) noexcept {
    const std::uint32_t at = entry.polled.at;
    THALWEG_DCHECK(entry.polled.activity == Activity::kIdle && sleepers_[at].entry == &entry);
    if (const std::uint32_t watch = sleepers_[at].watch; watch != kNoWatch) {
      words_[watch] = words_[--watched_];
      watches_[watch] = watches_[watched_];
      sleepers_[watches_[watch].sleeper].watch = watch;   // of the removed one itself, if it was the last: nobody looks
    }
    entry.polled.activity = Activity::kNone;
    if (at == --count_) return;
    deadlines_[at] = deadlines_[count_];
    sleepers_[at] = sleepers_[count_];
    sleepers_[at].entry->polled.at = at;
    if (sleepers_[at].watch != kNoWatch) watches_[sleepers_[at].watch].sleeper = at;
  }
  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint32_t watched() const noexcept { return watched_; }

  // For each entry of this turn's share: `wake(entry)` when its word has changed, `remind(entry)` when its time has come; both remove it.
  // `has_news(entry)` answers for those without a word.
  template <typename HasNews, typename Wake, typename Remind>
  void sweep(std::int64_t now_ns, std::int64_t elapsed_ns, HasNews&& has_news, Wake&& wake, Remind&& remind) noexcept {
    for (std::uint32_t left = watch_rotation_.share(watched_, elapsed_ns); left > 0 && watched_ != 0;) {
      const auto [begin, end] = watch_rotation_.advance(watched_, left);
      left -= end - begin;
      for (std::uint32_t at = end; at-- > begin;) {
        if (value_of(words_[at]) == 0) [[likely]] continue;   // no frame yet
        const Watch& watch = watches_[at];
        Entry& entry = *sleepers_[watch.sleeper].entry;
        if (watch.word != nullptr ? value_of(watch.word) != watch.seen : has_news(entry)) wake(entry);
      }
    }
    for (std::uint32_t left = timer_rotation_.share(count_, elapsed_ns); left > 0 && count_ != 0;) {
      const auto [begin, end] = timer_rotation_.advance(count_, left);
      left -= end - begin;
      for (std::uint32_t at = end; at-- > begin;) {
        if (now_ns >= deadlines_[at]) [[unlikely]] remind(*sleepers_[at].entry);
      }
    }
  }

 private:
  static constexpr std::uint32_t kNoWatch = ~std::uint32_t{0};
  struct Watch {
    std::uint32_t* word{};             // shared memory; null: the entry has to be asked
    std::uint32_t seen{};              // what the word held when the entry went idle
    std::uint32_t sleeper{};
  };
  struct Sleeper {
    Entry* entry{};
    std::uint32_t watch{kNoWatch};
  };
  // Relaxed: who wakes up looks again with the right order.
  [[nodiscard]] static std::uint32_t value_of(std::uint32_t* word) noexcept { return std::atomic_ref{*word}.load(std::memory_order_relaxed); }

  // Nearly all wait for a word that is zero to change. These stand here by themselves, the others as one_: all that a sweep of sleepers reads.
  std::unique_ptr<std::uint32_t*[]> words_;
  std::unique_ptr<Watch[]> watches_;
  std::unique_ptr<std::int64_t[]> deadlines_;   // these two by Polled::at
  std::unique_ptr<Sleeper[]> sleepers_;
  std::uint32_t count_{};
  std::uint32_t watched_{};
  std::uint32_t one_{1};
  Rotation watch_rotation_;
  Rotation timer_rotation_{kTimerSweep_ns};
};

}  // namespace thalweg::core
