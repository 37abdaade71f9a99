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
  EXPECT_FALSE(list.hear(1, kHere, kStart_ns));
  ASSERT_TRUE(list.learn({kHere}, 1, kStart_ns));
  EXPECT_TRUE(list.hear(1, kHere, kStart_ns));
  EXPECT_TRUE(list.hear(1, kSamePortElsewhere, kStart_ns)) << "its address is not compared";
  EXPECT_FALSE(list.hear(2, kSamePortElsewhere, kStart_ns)) << "another receiver that listens on the same port";
  EXPECT_FALSE(list.hear(1, kOtherPort, kStart_ns));
}

// proves 5.5/6
TEST(DestinationList, forgets_who_was_silent_for_longer_than_five_seconds) {
  List list{4};
  ASSERT_TRUE(list.learn({kHere}, 1, kStart_ns));
  ASSERT_TRUE(list.learn({kOtherPort}, 2, kStart_ns));
  EXPECT_TRUE(list.hear(2, kOtherPort, kStart_ns + kSecond_ns));
  EXPECT_FALSE(list.expire(kStart_ns + kTimeout_ns));
  EXPECT_TRUE(list.expire(kStart_ns + kTimeout_ns + 1));
  ASSERT_EQ(list.entries().size(), 1U);
  EXPECT_EQ(list.entries()[0].target.remote, kOtherPort);
}

TEST(DestinationList, takes_no_more_than_it_has_room_for) {
  List list{1};
  shm::DestinationSlot slot;
  ASSERT_TRUE(list.learn({kHere}, 1, kStart_ns));
  EXPECT_FALSE(list.learn({kOtherPort}, 2, kStart_ns));
  EXPECT_EQ(list.put(slot, {kOtherPort}), List::Put::kFull);
}

// proves 5.5/10
TEST(DestinationList, a_manual_one_is_known_by_its_address_until_a_receiver_speaks_and_again_when_it_moves) {
  List list{4};
  shm::DestinationSlot slot;
  slot.desired.generation = 1;
  EXPECT_EQ(list.put(slot, {kHere}), List::Put::kChanged);
  EXPECT_EQ(list.put(slot, {kHere}), List::Put::kUnchanged);
  EXPECT_FALSE(list.hear(1, kSamePortElsewhere, kStart_ns));
  EXPECT_TRUE(list.hear(1, kHere, kStart_ns));
  EXPECT_EQ(slot.observed.receiver_id, 1);
  EXPECT_FALSE(list.hear(2, kHere, kStart_ns)) << "somebody else at its address";
  EXPECT_EQ(list.put(slot, {kOtherPort}), List::Put::kChanged);
  EXPECT_TRUE(list.hear(2, kOtherPort, kStart_ns)) << "who is there now";
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

}  // namespace
}  // namespace thalweg::proto
