#include "controlplane/log/retention.hpp"

#include <gtest/gtest.h>

namespace thalweg::log {
namespace {

constexpr std::int64_t kNow = 1'000'000;
constexpr FileSystem::Space kRoomy{1'000'000, 1'000'000};

// Five closed segments of 100 bytes with 10 entries each, whose newest entries are 500, 400, ... 100 old; the active one has 100 bytes.
RetentionShard five() {
  RetentionShard shard{.closed = {}, .active_bytes = 100, .lowest_committed = std::nullopt};
  for (std::uint64_t i = 0; i < 5; ++i) {
    const std::int64_t age = 500 - static_cast<std::int64_t>(i) * 100;
    shard.closed.push_back({.end_entry = (i + 1) * 10, .bytes = 100, .newest_ns = kNow - age, .closed_ns = kNow - age + 50});
  }
  return shard;
}

RetentionRules none() { return {.segments_min = 0}; }

RetentionPlan plan(const RetentionRules& rules, const RetentionShard& shard = five(), const FileSystem::Space& space = kRoomy, std::int64_t now = kNow) {
  EXPECT_TRUE(validate(rules));
  return plan_retention(std::span{&shard, 1}, rules, space, now).at(0);
}

struct Matrix {
  const char* what;
  void (*change)(RetentionRules& rules, RetentionShard& shard);
  std::size_t deleted;
  RetentionHold hold;
};
void PrintTo(const Matrix& row, std::ostream* out) { *out << row.what; }
class Retention : public testing::TestWithParam<Matrix> {};
TEST_P(Retention, deletes_the_oldest_that_the_rules_allow) {
  RetentionRules rules = none();
  RetentionShard shard = five();
  GetParam().change(rules, shard);
  const RetentionPlan result = plan(rules, shard);
  EXPECT_EQ(result.delete_count, GetParam().deleted);
  EXPECT_EQ(result.bytes, GetParam().deleted * 100);
  EXPECT_EQ(result.hold, GetParam().hold);
}
using Rules = RetentionRules;
using State = RetentionShard;
using enum RetentionHold;
INSTANTIATE_TEST_SUITE_P(
    Spec, Retention,
    testing::Values(
        Matrix{"no rule", [](Rules&, State&) {}, 0, kNone}, Matrix{"age", [](Rules& r, State&) { r.age_max_ns = 250; }, 3, kNone},
        Matrix{"age exactly", [](Rules& r, State&) { r.age_max_ns = 300; }, 2, kNone},
        Matrix{"size of the shard", [](Rules& r, State&) { r.shard_bytes_max = 350; }, 3, kNone},
        Matrix{"total size", [](Rules& r, State&) { r.total_bytes_max = 250; }, 4, kNone},
        Matrix{"never the active one", [](Rules& r, State&) { r.shard_bytes_max = 1; }, 5, kNone},
        Matrix{"age, minimum", [](Rules& r, State&) { r.age_max_ns = 1, r.segments_min = 2; }, 3, kSegmentsMin},
        Matrix{"size, minimum", [](Rules& r, State&) { r.shard_bytes_max = 1, r.segments_min = 4; }, 1, kSegmentsMin},
        Matrix{"total, minimum", [](Rules& r, State&) { r.total_bytes_max = 1, r.segments_min = 4; }, 1, kSegmentsMin},
        Matrix{"age, consumer", [](Rules& r, State& s) { r.age_max_ns = 1, s.lowest_committed = 25; }, 2, kUnconsumed},
        Matrix{"age, consumer at a border", [](Rules& r, State& s) { r.age_max_ns = 1, s.lowest_committed = 30; }, 3, kUnconsumed},
        Matrix{"size, consumer", [](Rules& r, State& s) { r.shard_bytes_max = 1, s.lowest_committed = 10; }, 1, kUnconsumed},
        Matrix{"total, consumer", [](Rules& r, State& s) { r.total_bytes_max = 1, s.lowest_committed = 0; }, 0, kUnconsumed},
        Matrix{"consumer without protection", [](Rules& r, State& s) { r.age_max_ns = 1, r.is_unconsumed_kept = false, s.lowest_committed = 0; }, 5, kNone},
        Matrix{"age, grace", [](Rules& r, State&) { r.age_max_ns = 1, r.grace_ns = 200; }, 3, kGrace},
        Matrix{"total, grace", [](Rules& r, State&) { r.total_bytes_max = 1, r.grace_ns = 400; }, 1, kGrace},
        // force goes over consumers, minimum and grace, and for its own segments only
        Matrix{"force", [](Rules& r, State&) { r.force_after_ns = 350; }, 2, kNone},
        Matrix{"force, consumer", [](Rules& r, State& s) { r.force_after_ns = 350, r.age_max_ns = 150, s.lowest_committed = 0; }, 2, kUnconsumed},
        Matrix{"force, minimum", [](Rules& r, State&) { r.force_after_ns = 150, r.segments_min = 4; }, 4, kNone},
        Matrix{"force, grace", [](Rules& r, State&) { r.force_after_ns = 150, r.grace_ns = 10'000; }, 4, kNone},
        // pinned goes over everything, and what lies behind it stays: no holes
        Matrix{"force, pinned", [](Rules& r, State& s) { r.force_after_ns = 1, s.closed[2].is_pinned = true; }, 2, kPinned},
        Matrix{"size, pinned", [](Rules& r, State& s) { r.shard_bytes_max = 1, s.closed[0].is_pinned = true; }, 0, kPinned},
        Matrix{"minimum before consumer", [](Rules& r, State& s) { r.age_max_ns = 1, r.segments_min = 5, s.lowest_committed = 0; }, 0, kSegmentsMin},
        Matrix{"consumer before grace", [](Rules& r, State& s) { r.age_max_ns = 1, r.grace_ns = 10'000, s.lowest_committed = 0; }, 0, kUnconsumed}));

TEST(Retention, keeps_a_part_of_the_file_system_free) {
  RetentionRules rules = none();
  rules.free_fraction_min = 0.1;
  EXPECT_EQ(plan(rules, five(), {750, 10'000}).delete_count, 3U);
  EXPECT_EQ(plan(rules, five(), {1000, 10'000}).delete_count, 0U);
  rules.segments_min = 4;
  EXPECT_EQ(plan(rules, five(), {0, 10'000}).delete_count, 1U);
}

TEST(Retention, deletes_no_more_when_the_clock_was_set_back) {
  RetentionRules rules = none();
  rules.age_max_ns = 1;
  rules.force_after_ns = 2;
  rules.grace_ns = 1;
  EXPECT_EQ(plan(rules, five(), kRoomy, kNow - 10'000).delete_count, 0U);
}

TEST(Retention, takes_any_times) {
  RetentionRules rules = none();
  rules.age_max_ns = 100;
  RetentionShard shard = five();
  shard.closed[0].newest_ns = INT64_MIN;
  shard.closed[1].newest_ns = INT64_MAX;
  EXPECT_EQ(plan(rules, shard).delete_count, 1U);
  EXPECT_EQ(plan(rules, shard, kRoomy, INT64_MIN).delete_count, 0U);
}

TEST(Retention, takes_the_oldest_of_all_shards_for_the_total_size) {
  RetentionShard shards[]{five(), five()};
  for (auto& segment : shards[1].closed) segment.newest_ns -= 250;  // ages 750, 650, 550, 450, 350
  RetentionRules rules = none();
  rules.total_bytes_max = 800;  // of 1200
  const auto plans = plan_retention(shards, rules, kRoomy, kNow);
  EXPECT_EQ(plans[0].delete_count, 1U);
  EXPECT_EQ(plans[1].delete_count, 3U);
  shards[1].lowest_committed = 5;
  const auto held = plan_retention(shards, rules, kRoomy, kNow);
  EXPECT_EQ(held[0].delete_count, 4U) << "a consumer of one shard does not keep those of another";
  EXPECT_EQ(held[1].delete_count, 0U);
}

TEST(Retention, refuses_rules_that_contradict) {
  for (const RetentionRules& rules : {RetentionRules{.age_max_ns = 10, .force_after_ns = 10}, RetentionRules{.age_max_ns = -1}, RetentionRules{.free_fraction_min = 1.0},
                                      RetentionRules{.free_fraction_min = -0.1}, RetentionRules{.grace_ns = -1}})
    EXPECT_EQ(validate(rules).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace thalweg::log
