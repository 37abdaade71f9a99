#include "controlplane/log/group_table.hpp"

#include <thread>

#include "controlplane/log/retainer.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

class GroupTest : public ShardTest {
 protected:
  GroupTable table() {
    auto opened = GroupTable::open(files, clock, kDirectory);
    EXPECT_TRUE(opened) << opened.error().message;
    return std::move(*opened);
  }
  [[nodiscard]] static std::string path() { return std::string{kDirectory} + "/" + kGroupsName; }
};

TEST_F(GroupTest, keeps_its_offset_for_all_members) {
  auto a = table();
  auto b = table();
  auto first = a.join("g", 5);
  auto second = b.join("g", 9);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(second->committed(), 5U) << "it was there already";
  EXPECT_TRUE(first->commit(7));
  EXPECT_TRUE(second->commit(6)) << "never back";
  EXPECT_EQ(second->committed(), 7U);
  const auto groups = read_groups(files, kDirectory);
  ASSERT_EQ(groups->size(), 1U);
  EXPECT_EQ(groups->front().name, "g");
  EXPECT_EQ(groups->front().committed, 7U);
  EXPECT_EQ(groups->front().created_ns, clock.epoch);
}

// Defect of a predecessor: a name that was cut off never matched itself and took every free slot.
TEST_F(GroupTest, has_a_name_of_1_to_47_bytes) {
  auto all = table();
  EXPECT_TRUE(all.join(std::string(47, 'x'), 0));
  EXPECT_TRUE(all.join(std::string(47, 'x'), 0));
  for (const std::string& bad : {std::string{}, std::string(48, 'x'), std::string("a\0b", 3)}) EXPECT_EQ(all.join(bad, 0).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(read_groups(files, kDirectory)->size(), 1U);
}

TEST_F(GroupTest, is_one_of_512_at_the_most) {
  auto all = table();
  for (std::size_t i = 0; i < kGroupsMax; ++i) ASSERT_TRUE(all.join("g" + std::to_string(i), i + 3));
  EXPECT_EQ(all.join("one more", 0).error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(all.join("g77", 0)->committed(), 80U);
  EXPECT_EQ(*lowest_committed(files, kDirectory), 3U);
  ASSERT_TRUE(all.remove("g77"));
  EXPECT_TRUE(all.join("one more", 0));
  EXPECT_EQ(all.remove("g77").error().code, ErrorCode::kNotFound);
}

TEST_F(GroupTest, tells_its_members_when_it_is_set_or_removed) {
  auto a = table();
  auto b = table();
  auto first = a.join("g", 5);
  auto second = b.join("g", 5);
  ASSERT_TRUE(second->set(2, 0));
  EXPECT_FALSE(first->commit(6)) << "what it had before does not count";
  EXPECT_EQ(first->committed(), 2U);
  EXPECT_EQ(first->refresh(), true);
  EXPECT_EQ(first->refresh(), false);
  EXPECT_TRUE(first->commit(6));
  ASSERT_TRUE(b.remove("g"));
  auto other = b.join("another", 0);  // in the same place
  EXPECT_FALSE(first->commit(9));
  EXPECT_EQ(first->refresh().error().code, ErrorCode::kNotFound);
  EXPECT_EQ(first->set(9, 0).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(other->committed(), 0U);
}

TEST_F(GroupTest, survives_a_power_failure_as_it_was_synced_or_newer) {
  for (std::uint64_t seed = 1; seed < 200; ++seed) {
    files = test::CrashFileSystem{256U << 10};
    Random random{seed};
    std::uint64_t synced = 0;
    std::uint64_t last = 0;
    files.stop_at(1 + random.below(14));
    {
      auto opened = GroupTable::open(files, clock, kDirectory);
      for (std::uint64_t to = 1; opened && to < 20 && !files.has_stopped(); ++to) {
        auto member = opened->join("g", 0);
        if (!member) break;
        ASSERT_TRUE(member->commit(to));
        last = to;
        if (random.below(2) == 0 && opened->sync()) synced = to;
      }
    }
    files.lose_power(random);
    auto opened = GroupTable::open(files, clock, kDirectory);
    ASSERT_TRUE(opened) << seed << ": " << opened.error().message;
    auto member = opened->join("g", 0);
    ASSERT_TRUE(member) << seed;
    EXPECT_GE(member->committed(), synced) << seed;
    EXPECT_LE(member->committed(), last) << seed;
  }
}

TEST_F(GroupTest, file_that_is_none_is_refused_and_left_alone) {
  const auto refused = [&](std::span<const std::byte> content, ErrorCode code) {
    files.set_content(path(), content);
    const auto opened = GroupTable::open(files, clock, kDirectory);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, code) << opened.error().message;
    EXPECT_NE(opened.error().message.find(path()), std::string::npos);
    EXPECT_EQ(read_groups(files, kDirectory).error().code, code);
    EXPECT_EQ(unconsumed_of(files, kDirectory)(), 0U) << "retention must not take what somebody may want";
    auto kept = files.content(path());
    kept.resize(content.size());
    EXPECT_TRUE(std::equal(kept.begin(), kept.end(), content.begin()));
  };
  static_cast<void>(table().join("g", 5));
  const auto good = files.content(path());
  auto content = good;
  content[0] = std::byte{'X'};
  refused(content, ErrorCode::kIo);
  content = good;
  content[8] = std::byte{9};
  refused(content, ErrorCode::kVersion);
  content = good;
  content[12] = std::byte{1};
  refused(content, ErrorCode::kIo);
  refused(std::span{good}.first(1000), ErrorCode::kIo);
  files.set_content(path(), good);
  EXPECT_EQ(table().join("g", 0)->committed(), 5U);
}

TEST_F(GroupTest, whose_name_is_damaged_does_not_count) {
  {
    auto all = table();
    static_cast<void>(all.join("a", 5));
    static_cast<void>(all.join("b", 9));
  }
  auto content = files.content(path());
  content[kPageBytes + 64] ^= std::byte{1};
  files.set_content(path(), content);
  EXPECT_EQ(*lowest_committed(files, kDirectory), 9U);
  EXPECT_EQ(table().join("c", 7)->committed(), 7U) << "its place is free";
}

TEST_F(GroupTest, keeps_what_it_has_not_consumed_from_retention) {
  open();
  for (int i = 0; i < 10; ++i) append_bytes(30000);
  auto retainer = Retainer::make(files, clock, "log", {.rules = {.shard_bytes_max = 1, .segments_min = 0}, .interval_ns = kSecond_ns});
  ASSERT_TRUE(retainer);
  (*retainer)->add(*shard, unconsumed_of(files, kDirectory));
  auto all = table();
  auto slow = all.join("slow", 3);
  auto fast = all.join("fast", 9);
  ASSERT_TRUE((*retainer)->force());
  EXPECT_EQ(shard->first_entry(), 2U);
  ASSERT_TRUE(all.remove("slow"));
  ASSERT_TRUE((*retainer)->force());
  EXPECT_EQ(shard->first_entry(), 8U);
}

// As many tables as processes would have, all claiming at once.
TEST(Groups, made_by_many_at_once_are_each_there_once) {
  const auto files = make_plain_file_system();
  const SystemClock clock;
  const test::TemporaryDirectory directory;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      auto all = GroupTable::open(*files, clock, directory.path());
      ASSERT_TRUE(all) << all.error().message;
      for (std::uint64_t n = 0; n < 100; ++n) {
        auto member = all->join("g" + std::to_string(n), 0);
        ASSERT_TRUE(member);
        for (std::uint64_t to = 1; to <= 50; ++to) ASSERT_TRUE(member->commit(to));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const auto groups = read_groups(*files, directory.path());
  ASSERT_EQ(groups->size(), 100U);
  for (const GroupInfo& group : *groups) EXPECT_EQ(group.committed, 50U) << group.name;
}

}  // namespace
}  // namespace thalweg::log
