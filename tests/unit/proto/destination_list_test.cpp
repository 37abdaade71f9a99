#include <gtest/gtest.h>

#include "dataplane/proto/destination_list.hpp"

namespace thalweg::proto {
namespace {

struct Target {
  wire::UdpEndpoint remote;
  [[nodiscard]] bool is_same(const Target& other) const noexcept { return remote == other.remote; }
};
using List = DestinationList<Target>;

constexpr std::int64_t kTimeout_ns = 5 * kSecond_ns;
constexpr std::int64_t kStart_ns = 100 * kSecond_ns;
constexpr wire::UdpEndpoint kHere{0x0A000001, 7'001}, kSamePortElsewhere{0x0A000002, 7'001}, kOtherPort{0x0A000001, 7'002};

// proves 5.5/5
TEST(DestinationList, a_receiver_is_known_by_its_id_and_port_wherever_it_speaks_from) {
  List list{4};
  EXPECT_FALSE(list.hear(1, kHere, false, kStart_ns));
  ASSERT_TRUE(list.learn({kHere}, 1, false, kStart_ns));
  EXPECT_TRUE(list.hear(1, kHere, false, kStart_ns));
  EXPECT_TRUE(list.hear(1, kSamePortElsewhere, false, kStart_ns)) << "its address is not compared";
  EXPECT_FALSE(list.hear(2, kSamePortElsewhere, false, kStart_ns)) << "another receiver that listens on the same port";
  EXPECT_FALSE(list.hear(1, kOtherPort, false, kStart_ns));
}

// proves 5.5/6
TEST(DestinationList, forgets_who_was_silent_for_longer_than_five_seconds) {
  List list{4};
  ASSERT_TRUE(list.learn({kHere}, 1, false, kStart_ns));
  ASSERT_TRUE(list.learn({kOtherPort}, 2, false, kStart_ns));
  EXPECT_TRUE(list.hear(2, kOtherPort, false, kStart_ns + kSecond_ns));
  EXPECT_FALSE(list.expire(kStart_ns + kTimeout_ns));
  EXPECT_TRUE(list.expire(kStart_ns + kTimeout_ns + 1));
  ASSERT_EQ(list.entries().size(), 1U);
  EXPECT_EQ(list.entries()[0].target.remote, kOtherPort);
}

TEST(DestinationList, takes_no_more_than_it_has_room_for) {
  List list{1};
  shm::DestinationSlot slot;
  ASSERT_TRUE(list.learn({kHere}, 1, false, kStart_ns));
  EXPECT_FALSE(list.learn({kOtherPort}, 2, false, kStart_ns));
  EXPECT_EQ(list.put(slot, {kOtherPort}), List::Put::kFull);
}

// proves 5.5/10
TEST(DestinationList, a_manual_one_is_known_by_its_address_until_a_receiver_speaks_and_again_when_it_moves) {
  List list{4};
  shm::DestinationSlot slot;
  slot.desired.generation = 1;
  EXPECT_EQ(list.put(slot, {kHere}), List::Put::kChanged);
  EXPECT_EQ(list.put(slot, {kHere}), List::Put::kUnchanged);
  EXPECT_FALSE(list.hear(1, kSamePortElsewhere, false, kStart_ns));
  EXPECT_TRUE(list.hear(1, kHere, false, kStart_ns));
  EXPECT_EQ(slot.observed.receiver_id, 1);
  EXPECT_FALSE(list.hear(2, kHere, false, kStart_ns)) << "somebody else at its address";
  EXPECT_EQ(list.put(slot, {kOtherPort}), List::Put::kChanged);
  EXPECT_TRUE(list.hear(2, kOtherPort, false, kStart_ns)) << "who is there now";
}

TEST(DestinationList, a_slot_that_was_given_to_another_one_removes_nothing) {
  List list{4};
  shm::DestinationSlot slot;
  slot.desired.generation = 1;
  ASSERT_EQ(list.put(slot, {kHere}), List::Put::kChanged);
  slot.desired.generation = 2;
  EXPECT_FALSE(list.remove(slot));
  EXPECT_EQ(list.put(slot, {kHere}), List::Put::kChanged) << "the new one, at the same address";
  ASSERT_EQ(list.entries().size(), 1U);
  EXPECT_TRUE(list.remove(slot));
  EXPECT_TRUE(list.entries().empty());
}

TEST(DestinationList, an_address_that_two_receivers_have_is_sent_to_once) {
  List list{4};
  ASSERT_TRUE(list.learn({kHere}, 1, false, kStart_ns));
  ASSERT_TRUE(list.learn({kOtherPort}, 1, false, kStart_ns));
  ASSERT_TRUE(list.learn({kHere}, 2, false, kStart_ns + kSecond_ns));
  EXPECT_FALSE(list.entries()[0].is_repeated);
  EXPECT_FALSE(list.entries()[1].is_repeated);
  EXPECT_TRUE(list.entries()[2].is_repeated);
  ASSERT_TRUE(list.expire(kStart_ns + kTimeout_ns + 1));
  ASSERT_EQ(list.entries().size(), 1U);
  EXPECT_FALSE(list.entries()[0].is_repeated);
}

// ---- when all places are taken ----

constexpr std::uint32_t kHost = 0x0A000001, kOtherHost = 0x0A000002;

class FullList : public ::testing::Test {
 protected:
  static constexpr std::int64_t kPlaces = 8;
  static wire::UdpEndpoint at(std::uint32_t host, std::int64_t receiver) { return {host, static_cast<std::uint16_t>(7'000 + receiver)}; }
  bool learn(std::uint32_t host, std::int64_t receiver, bool tells_position = false, std::int64_t t = 0) {
    const bool has_room = list.has_room_for(host, tells_position, kStart_ns + t);
    const bool is_learned = list.learn({at(host, receiver)}, receiver, tells_position, kStart_ns + t);
    EXPECT_EQ(has_room, is_learned);
    return is_learned;
  }
  bool hear(std::uint32_t host, std::int64_t receiver, bool tells_position = false, std::int64_t t = 0) {
    return list.hear(receiver, at(host, receiver), tells_position, kStart_ns + t);
  }
  [[nodiscard]] bool has(std::int64_t receiver) const {
    return std::any_of(list.entries().begin(), list.entries().end(), [receiver](const List::Entry& entry) { return entry.receiver_id == receiver; });
  }
  List list{kPlaces};
};

TEST_F(FullList, who_receives_a_stream_takes_the_place_of_a_stranger_and_keeps_it) {
  for (std::int64_t i = 0; i < kPlaces; ++i) ASSERT_TRUE(learn(kHost, i, false, i));
  for (std::int64_t i = 0; i < kPlaces; ++i) {
    ASSERT_TRUE(learn(kOtherHost, 100 + i, true, 100));
    EXPECT_FALSE(has(i)) << "the one that was silent longest";
    EXPECT_TRUE(i + 1 == kPlaces || has(i + 1));
  }
  EXPECT_FALSE(learn(kOtherHost, 200, true, 4 * kSecond_ns)) << "members make room for nobody";
  EXPECT_FALSE(learn(kHost, 201, false, 4 * kSecond_ns));
  EXPECT_EQ(list.entries().size(), static_cast<std::size_t>(kPlaces));
}

TEST_F(FullList, a_stranger_that_begins_to_receive_is_none_any_more) {
  for (std::int64_t i = 0; i < kPlaces; ++i) ASSERT_TRUE(learn(kHost, i));
  ASSERT_TRUE(hear(kHost, 0, true, 1));
  for (std::int64_t i = 0; i + 1 < kPlaces; ++i) ASSERT_TRUE(learn(kOtherHost, 100 + i, true, 2));
  EXPECT_TRUE(has(0));
  ASSERT_TRUE(hear(kHost, 0, false, 3)) << "that it asks for a SETUP later changes nothing";
  EXPECT_FALSE(learn(kOtherHost, 200, true, 4));
}

TEST_F(FullList, a_silent_stranger_gives_way_to_another_one_but_one_that_asks_each_second_does_not) {
  for (std::int64_t i = 0; i < kPlaces; ++i) ASSERT_TRUE(learn(kHost, i));
  EXPECT_FALSE(learn(kHost, 100, false, List::kStrangerSilent_ns - 1));
  for (std::int64_t i = 1; i < kPlaces; ++i) ASSERT_TRUE(hear(kHost, i, false, kSecond_ns));
  EXPECT_TRUE(learn(kHost, 100, false, List::kStrangerSilent_ns));
  EXPECT_FALSE(has(0));
  EXPECT_FALSE(learn(kHost, 101, false, List::kStrangerSilent_ns)) << "all others were heard a second ago";
  EXPECT_TRUE(learn(kHost, 101, false, kSecond_ns + List::kStrangerSilent_ns));
}

TEST_F(FullList, no_host_keeps_all_places_for_its_strangers) {
  for (std::int64_t i = 0; i < kPlaces; ++i) ASSERT_TRUE(learn(kHost, i, false, i));
  std::int64_t taken = 0;
  while (learn(kOtherHost, 100 + taken, false, 10)) ++taken;
  EXPECT_GE(taken, kPlaces / 2 - 1);
  EXPECT_LE(taken, kPlaces / 2);
  EXPECT_FALSE(learn(kHost, 50, false, 11)) << "nor does it get them back";
  EXPECT_TRUE(has(kPlaces - 1));
}

// Whatever comes, it finds what a search through all of them finds.
TEST_F(FullList, agrees_with_a_search_under_random_use) {
  std::uint64_t x = 7;
  const auto random = [&x](std::uint64_t limit) {
    x = x * 6364136223846793005U + 1442695040888963407U;
    return (x >> 33) % limit;
  };
  std::int64_t t = 0;
  for (int step = 0; step < 50'000; ++step) {
    t += static_cast<std::int64_t>(random(200 * kMillisecond_ns));
    if (random(20) == 0) list.expire(kStart_ns + t);
    const auto host = static_cast<std::uint32_t>(1 + random(3));
    const auto receiver = static_cast<std::int64_t>(random(24));
    const bool tells_position = random(3) == 0;
    const bool was_there = has(receiver);
    ASSERT_EQ(hear(host, receiver, tells_position, t), was_there) << step;
    const bool is_learned = was_there || learn(host, receiver, tells_position, t);
    ASSERT_EQ(is_learned, has(receiver)) << step;
    ASSERT_LE(list.entries().size(), static_cast<std::size_t>(kPlaces));
    for (std::size_t i = 0; i < list.entries().size(); ++i) {
      const auto& entry = list.entries()[i];
      const auto here = list.entries().begin() + static_cast<std::ptrdiff_t>(i);
      const bool is_repeated = std::any_of(list.entries().begin(), here, [&](const List::Entry& other) { return other.target.remote == entry.target.remote; });
      ASSERT_EQ(entry.is_repeated, is_repeated) << step;
    }
  }
}

}  // namespace
}  // namespace thalweg::proto
