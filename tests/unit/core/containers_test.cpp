// Hash table, lists of streams and the ring between steward and lane.
#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "dataplane/base/random.hpp"
#include "dataplane/core/flat_map.hpp"
#include "dataplane/core/poll_list.hpp"
#include "dataplane/core/spsc_ring.hpp"

namespace thalweg::core {
namespace {

// ---- FlatMap ----

TEST(FlatMap, finds_what_was_inserted_until_it_is_erased) {
  FlatMap<int> map{100};
  EXPECT_EQ(map.find({0, 0}), nullptr);
  EXPECT_TRUE(map.insert({0, 0}, 1));
  EXPECT_TRUE(map.insert({1, 0}, 2));
  EXPECT_TRUE(map.insert({0, 1}, 3));
  EXPECT_EQ(*map.find({0, 0}), 1);
  EXPECT_EQ(*map.find({1, 0}), 2);
  EXPECT_EQ(*map.find({0, 1}), 3);
  EXPECT_TRUE(map.insert({1, 0}, 9));
  EXPECT_EQ(*map.find({1, 0}), 9);
  EXPECT_EQ(map.count(), 3U);
  EXPECT_TRUE(map.erase({0, 0}));
  EXPECT_FALSE(map.erase({0, 0}));
  EXPECT_EQ(map.find({0, 0}), nullptr);
}

TEST(FlatMap, refuses_more_than_its_capacity_and_still_replaces) {
  FlatMap<int> map{10};
  for (std::uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(map.insert({0, i}, 0));
  EXPECT_FALSE(map.insert({0, 99}, 0));
  EXPECT_TRUE(map.insert({0, 3}, 7));
  EXPECT_TRUE(map.erase({0, 4}));
  EXPECT_TRUE(map.insert({0, 99}, 1));
}

TEST(FlatMap, agrees_with_an_ordinary_map_whatever_is_inserted_and_erased) {
  Random random{3};
  FlatMap<std::uint64_t> map{64};
  std::map<std::uint64_t, std::uint64_t> reference;
  for (int i = 0; i < 200'000; ++i) {
    const std::uint64_t key = random.below(100);
    if (random.below(2) == 0) {
      const bool is_known = reference.contains(key);
      const bool fits = is_known || reference.size() < 64;
      ASSERT_EQ(map.insert({key % 3, key}, static_cast<std::uint64_t>(i)), fits);
      if (fits) reference[key] = static_cast<std::uint64_t>(i);
    } else {
      ASSERT_EQ(map.erase({key % 3, key}), reference.erase(key) == 1);
    }
    ASSERT_EQ(map.count(), reference.size());
    const std::uint64_t probe = random.below(100);
    const auto* const found = map.find({probe % 3, probe});
    const auto expected = reference.find(probe);
    ASSERT_EQ(found != nullptr, expected != reference.end());
    if (found != nullptr) {
      ASSERT_EQ(*found, expected->second);
    }
  }
}

// ---- PollList, IdleList ----

struct Stream {
  Polled polled;
};

TEST(PollList, entries_know_their_place_whatever_is_removed) {
  std::vector<Stream> streams(100);
  PollList<Stream> list{100, Activity::kActive};
  for (Stream& each : streams) list.add(each);
  Random random{8};
  for (int i = 0; i < 10'000; ++i) {
    Stream& one = streams[random.below(streams.size())];
    if (one.polled.activity == Activity::kActive) {
      list.remove(one);
    } else {
      list.add(one);
    }
    std::uint32_t active = 0;
    for (const Stream& each : streams) active += each.polled.activity == Activity::kActive ? 1 : 0;
    ASSERT_EQ(list.count(), active);
    for (std::uint32_t at = 0; at < list.count(); ++at) ASSERT_EQ(list[at].polled.at, at);
  }
}

TEST(Rotation, sees_every_entry_once_in_its_time) {
  constexpr std::int64_t kSweep_ns = 40'000;
  for (const std::uint32_t count : {1U, 7U, 9U, 100U, 4'096U}) {
    std::vector<std::uint32_t> seen(count);
    Rotation rotation{kSweep_ns};
    std::int64_t elapsed_ns = 0;
    for (; elapsed_ns < 10 * kSweep_ns; elapsed_ns += 700) {
      for (std::uint32_t left = rotation.share(count, 700); left > 0;) {
        const auto [begin, end] = rotation.advance(count, left);
        ASSERT_LT(begin, end);
        ASSERT_LE(end, count);
        for (std::uint32_t at = begin; at < end; ++at) ++seen[at];
        left -= end - begin;
      }
    }
    for (const std::uint32_t times : seen) ASSERT_GE(times, 9U) << count;
    if (count <= Rotation::kFew) continue;
    for (const std::uint32_t times : seen) ASSERT_LE(times, 11U) << "no more than promised";
  }
}

TEST(Rotation, a_long_turn_is_made_up_for_at_once) {
  Rotation rotation{40'000};
  EXPECT_EQ(rotation.share(1'000, 50'000), 1'000U);
  EXPECT_EQ(rotation.share(1'000, 0), 0U);
}

// Sweeps of any length, entries added and removed between them and by them: every entry is watched and timed as it was added.
TEST(IdleList, entries_keep_their_watch_and_their_timer_whatever_is_removed) {
  constexpr std::uint32_t kCount = 64;
  struct Idle : Stream {
    std::uint32_t word{};
    std::uint32_t seen{};
    bool is_watched{}, asks{}, has_news{};
    std::int64_t deadline_ns{};
  };
  std::vector<Idle> streams(kCount);
  IdleList<Idle> list{kCount, 40'000};
  Random random{11};
  std::int64_t now_ns = 0;
  for (int i = 0; i < 20'000; ++i, now_ns += 1'000) {
    Idle& one = streams[random.below(kCount)];
    if (one.polled.activity == Activity::kIdle) {
      const auto what = random.below(3);
      if (what == 0) list.remove(one);
      if (what == 1) one.word = one.word == 7 ? 0 : one.word + 1;
      if (what == 2) one.has_news = true;
    } else {
      one.is_watched = random.below(2) == 0;
      one.asks = one.is_watched && random.below(2) == 0;
      one.has_news = false;
      one.deadline_ns = now_ns + static_cast<std::int64_t>(random.below(2'000'000));
      list.add(one, one.deadline_ns);
      one.word = one.seen = random.below(2) == 0 ? 0 : 7;
      if (one.is_watched) list.watch(one, one.asks ? nullptr : &one.word, one.seen);
    }
    list.sweep(
        now_ns, static_cast<std::int64_t>(random.below(3'000)), [](Idle& each) { return each.has_news; },
        [&](Idle& each) {
          ASSERT_TRUE(each.is_watched && (each.asks ? each.has_news : each.word != each.seen));
          list.remove(each);
        },
        [&](Idle& each) {
          ASSERT_GE(now_ns, each.deadline_ns);
          list.remove(each);
        });
  }
  const auto leave = [&](Idle& each) { list.remove(each); };
  list.sweep(now_ns + 4'000'000, 2'000'000, [](Idle&) { return false; }, leave, leave);
  EXPECT_EQ(list.count(), 0U);
  EXPECT_EQ(list.watched(), 0U);
}

TEST(IdleList, a_changed_word_is_seen_within_a_sweep_and_a_timer_within_a_millisecond) {
  std::vector<Stream> streams(100);
  std::vector<std::uint32_t> words(100);
  IdleList<Stream> list{100, 40'000};
  for (std::size_t i = 0; i < 100; ++i) {
    list.add(streams[i], i == 3 ? 0 : 1'000'000'000);
    if (i % 2 == 0) list.watch(streams[i], &words[i], 0);
  }
  words[42] = 1;
  std::vector<std::int64_t> seen(100);
  for (std::int64_t now_ns = 0; now_ns <= 1'001'000; now_ns += 1'000) {
    const auto note = [&](Stream& each) {
      seen[static_cast<std::size_t>(&each - streams.data())] = now_ns;
      list.remove(each);
    };
    list.sweep(now_ns, 1'000, [](Stream&) { return false; }, note, note);
  }
  EXPECT_EQ(list.count(), 98U);
  EXPECT_GT(seen[42], 0);
  EXPECT_LE(seen[42], 41'000);
  EXPECT_GT(seen[3], 0);
  EXPECT_LE(seen[3], 1'001'000);
}

// ---- SpscRing ----

TEST(SpscRing, keeps_order_and_refuses_when_full) {
  SpscRing<int, 8> ring;
  int value = 0;
  EXPECT_FALSE(ring.pop(value));
  for (int round = 0; round < 100; ++round) {
    EXPECT_TRUE(ring.is_empty());
    for (int i = 0; i < 8; ++i) ASSERT_TRUE(ring.push(i));
    ASSERT_FALSE(ring.push(99));
    for (int i = 0; i < 8; ++i) {
      ASSERT_TRUE(ring.pop(value));
      ASSERT_EQ(value, i);
    }
  }
}

TEST(SpscRing, carries_everything_from_one_thread_to_another) {
  constexpr std::uint64_t kCount = 200'000;
  SpscRing<std::uint64_t, 64> ring;
  std::thread producer{[&ring] {
    for (std::uint64_t i = 0; i < kCount;) {
      if (ring.push(i)) {
        ++i;
      } else {
        std::this_thread::yield();
      }
    }
  }};
  for (std::uint64_t expected = 0; expected < kCount;) {
    std::uint64_t value = 0;
    if (!ring.pop(value)) {
      std::this_thread::yield();
      continue;
    }
    ASSERT_EQ(value, expected);
    ++expected;
  }
  producer.join();
  EXPECT_TRUE(ring.is_empty());
}

}  // namespace
}  // namespace thalweg::core
