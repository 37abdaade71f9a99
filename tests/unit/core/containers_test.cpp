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

TEST(IdleList, a_sweep_sees_every_entry_once_in_its_time) {
  constexpr std::int64_t kSweep_ns = 40'000;
  for (const std::uint32_t count : {1U, 7U, 9U, 100U, 4'096U}) {
    std::vector<Stream> streams(count);
    std::vector<std::uint32_t> seen(count);
    std::uint32_t word = 0;
    IdleList<Stream> list{count, kSweep_ns};
    for (Stream& each : streams) list.add(each, &word, 0, false, 0);
    std::int64_t elapsed_ns = 0;
    for (; elapsed_ns < 10 * kSweep_ns; elapsed_ns += 700) {
      for (std::uint32_t n = list.share(700); n > 0; --n) ++seen[static_cast<std::size_t>(list[list.advance()].entry - streams.data())];
    }
    for (const std::uint32_t times : seen) ASSERT_GE(times, 9U) << count;
    if (count >= 1'000) {
      for (const std::uint32_t times : seen) ASSERT_LE(times, 11U) << "no more than promised";
    }
  }
}

TEST(IdleList, a_long_turn_is_made_up_for_at_once) {
  std::vector<Stream> streams(1'000);
  std::uint32_t word = 0;
  IdleList<Stream> list{1'000, 40'000};
  for (Stream& each : streams) list.add(each, &word, 0, false, 0);
  EXPECT_EQ(list.share(50'000), 1'000U);
  EXPECT_EQ(list.share(0), IdleList<Stream>::kLeast);
}

TEST(IdleList, entries_may_leave_while_a_sweep_is_under_way) {
  std::vector<Stream> streams(64);
  std::uint32_t word = 0;
  IdleList<Stream> list{64, 40'000};
  for (Stream& each : streams) list.add(each, &word, 0, false, 0);
  std::vector<bool> seen(64);
  for (std::uint32_t n = 64; n > 0; --n) {
    const auto& watch = list[list.advance()];
    const auto at = static_cast<std::size_t>(watch.entry - streams.data());
    ASSERT_FALSE(seen[at]);
    seen[at] = true;
    if (at % 3 == 0) list.remove(*watch.entry);
  }
  EXPECT_EQ(list.count(), 42U);
}

TEST(IdleList, a_word_that_changed_shows) {
  Stream stream;
  std::uint32_t word = 5;
  IdleList<Stream> list{1, 40'000};
  list.add(stream, &word, 5, true, 77);
  EXPECT_FALSE(list[0].has_changed());
  EXPECT_TRUE(list[0].follows_links);
  EXPECT_EQ(list[0].deadline_ns, 77);
  word = 6;
  EXPECT_TRUE(list[0].has_changed());
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
