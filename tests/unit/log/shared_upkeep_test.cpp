// Retention, age of segments and health of a shard that several processes write.
#include "controlplane/log/retainer.hpp"
#include "controlplane/log/shared_shard.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

using Lines = std::vector<std::string>;

class SharedUpkeep : public ShardTest {
 protected:
  std::unique_ptr<SharedShard> join(const ShardOptions& options = small_options()) {
    auto opened = SharedShard::open(files, clock, kDirectory, options);
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? std::move(*opened) : nullptr;
  }
  static void append_to(SharedShard& shard, std::size_t bytes = 30000) {
    const std::string text(bytes, 'x');
    ASSERT_TRUE(shard.append(Entry{.payload = bytes_of(text)}));
  }
  std::unique_ptr<Retainer> retainer(const RetentionRules& rules) {
    auto made = Retainer::make(files, clock, "log", {rules, kSecond_ns});
    EXPECT_TRUE(made);
    return std::move(*made);
  }
};

TEST_F(SharedUpkeep, retention_deletes_what_any_process_closed) {
  const auto a = join();
  const auto b = join();
  for (int i = 0; i < 10; ++i) append_to(i % 2 == 0 ? *a : *b);
  auto all = retainer({.shard_bytes_max = 2 * (kDataOffset + kSegmentBytesMin), .segments_min = 0});
  all->add(*b);
  const auto run = all->force();
  ASSERT_TRUE(run);
  EXPECT_EQ(run->segments, 3U);
  EXPECT_EQ(run->errors, 0U);
  EXPECT_FALSE(files.exists(path_of(2)));
  EXPECT_TRUE(files.exists(path_of(3)));
  EXPECT_FALSE(files.exists(std::string{kDirectory} + "/" + index_name(0)));
  EXPECT_EQ(read_all().front(), "gap 0-6");
  append_to(*a);
  EXPECT_EQ(a->next_entry(), 11U);
  EXPECT_EQ(b->statistics()[Statistic::kRetentionSegments], 3U);
}

TEST_F(SharedUpkeep, retention_of_two_processes_takes_no_more_than_that_of_one) {
  const auto a = join();
  const auto b = join();
  for (int i = 0; i < 10; ++i) append_to(*a);
  EXPECT_EQ(a->retention_state(std::nullopt)->closed.size(), 4U);
  EXPECT_EQ(b->retention_state(std::nullopt)->closed.size(), 4U);
  EXPECT_EQ(a->delete_oldest(2), 2 * (kDataOffset + kSegmentBytesMin));
  EXPECT_EQ(b->delete_oldest(2), 0U) << "what it had seen is gone";
  EXPECT_EQ(b->delete_oldest(100), 0U) << "it has seen nothing since";
  EXPECT_EQ(b->retention_state(std::nullopt)->closed.size(), 2U);
}

TEST_F(SharedUpkeep, retention_knows_pins_and_segments_without_a_seal) {
  const auto a = join();
  for (int i = 0; i < 6; ++i) append_to(*a);
  damage(0, kSealOffset, std::vector<std::byte>(kPageBytes));
  const EntryRange pinned[]{{2, 3}};
  const auto state = a->retention_state(1, pinned);
  ASSERT_EQ(state->closed.size(), 2U);
  EXPECT_EQ(state->closed[0].end_entry, 2U);
  EXPECT_FALSE(state->closed[0].is_pinned);
  EXPECT_TRUE(state->closed[1].is_pinned);
  EXPECT_EQ(state->lowest_committed, 1U);
}

TEST_F(SharedUpkeep, what_cannot_be_removed_is_tried_again) {
  const auto a = join();
  for (int i = 0; i < 4; ++i) append_to(*a);
  auto all = retainer({.shard_bytes_max = 1, .segments_min = 0});
  all->add(*a);
  files.fail_at(files.steps() + 1, ErrorCode::kPermission);
  EXPECT_EQ(all->force()->errors, 1U);
  EXPECT_TRUE(files.exists(path_of(0)));
  EXPECT_EQ(all->force()->errors, 0U);
  EXPECT_FALSE(files.exists(path_of(0)));
}

TEST_F(SharedUpkeep, segments_that_are_too_old_are_closed) {
  auto options = small_options();
  options.segment_age_max_ns = kSecond_ns;
  const auto a = join(options);
  const auto b = join(options);
  clock.advance(kSecond_ns);
  ASSERT_TRUE(a->maintain());
  EXPECT_FALSE(files.exists(path_of(1))) << "an empty one stays";
  append_to(*a, 10);
  ASSERT_TRUE(b->maintain());
  EXPECT_TRUE(files.exists(path_of(1)));
  ASSERT_TRUE(a->maintain());
  EXPECT_FALSE(files.exists(path_of(2)));
}

TEST_F(SharedUpkeep, health_says_what_is_there_and_what_is_wrong) {
  auto options = small_options(SyncPolicy::kPeriodic);
  options.segments_max = 2;
  const auto a = join(options);
  const auto b = join(options);
  append_to(*a);
  Health health = a->health();
  EXPECT_EQ(health.status, HealthStatus::kGood);
  EXPECT_EQ(health.next_entry, 1U);
  EXPECT_EQ(health.segments, 1U);
  clock.advance(11 * kSecond_ns);
  EXPECT_NE(a->health().problems.at(0).what.find("overdue"), std::string::npos);
  ASSERT_TRUE(b->rotate());
  EXPECT_NE(b->health().problems.at(0).what.find("no more are allowed"), std::string::npos);
  append_to(*a, 10);  // and synced: it was time
  append_to(*a, 10);
  files.fail_at(files.steps() + 1, ErrorCode::kIo);
  EXPECT_FALSE(a->sync());
  EXPECT_EQ(a->health().status, HealthStatus::kFailed);
  EXPECT_EQ(b->health().status, HealthStatus::kFailed) << "its own syncs would lie";
}

}  // namespace
}  // namespace thalweg::log
