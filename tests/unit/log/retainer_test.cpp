#include "controlplane/log/retainer.hpp"

#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

// A shard with segments of two entries each, made a second apart.
class RetainerTest : public ShardTest {
 protected:
  void SetUp() override {
    open();
    for (int i = 0; i < 5; ++i) add_segment();
    ASSERT_TRUE(shard->sync());
  }
  void add_segment() {
    append_bytes(1000);
    append_bytes(1000);
    ASSERT_TRUE(shard->rotate());
    clock.advance(kSecond_ns);
  }
  std::unique_ptr<Retainer> make(const RetentionRules& rules, std::int64_t interval_ns = kSecond_ns, Retainer::Consumers consumers = {}) {
    auto made = Retainer::make(files, clock, kDirectory, {rules, interval_ns});
    EXPECT_TRUE(made) << made.error().message;
    (*made)->add(*shard, std::move(consumers));
    return std::move(*made);
  }
};

TEST_F(RetainerTest, deletes_what_the_rules_ask_for_when_its_time_has_come) {
  const auto retainer = make({.age_max_ns = 3 * kSecond_ns, .segments_min = 0});
  EXPECT_FALSE(retainer->maintain());
  clock.advance(kSecond_ns);
  const auto run = retainer->maintain();
  ASSERT_TRUE(run);
  EXPECT_EQ(run->segments, 3U);
  EXPECT_EQ(run->bytes, 3 * (kDataOffset + kSegmentBytesMin));
  EXPECT_EQ(shard->first_entry(), 6U);
  EXPECT_FALSE(retainer->maintain()) << "once each interval";
  const Statistics statistics = shard->statistics();
  EXPECT_EQ(statistics[Statistic::kRetentionRuns], 1U);
  EXPECT_EQ(statistics[Statistic::kRetentionSegments], 3U);
}

TEST_F(RetainerTest, runs_for_the_first_time_after_10_seconds_at_the_latest) {
  const auto retainer = make({.age_max_ns = kSecond_ns, .segments_min = 0}, 3600 * kSecond_ns);
  clock.advance(10 * kSecond_ns);
  EXPECT_TRUE(retainer->maintain());
  clock.advance(10 * kSecond_ns);
  EXPECT_FALSE(retainer->maintain());
}

TEST_F(RetainerTest, is_off_with_an_interval_of_0_even_on_demand) {
  const auto retainer = make({.age_max_ns = 1, .segments_min = 0}, 0);
  clock.advance(100 * kSecond_ns);
  EXPECT_FALSE(retainer->maintain());
  EXPECT_FALSE(retainer->force());
  EXPECT_EQ(shard->first_entry(), 0U);
}

// Defect of predecessors: protection was consulted in a place that nobody wrote to.
TEST_F(RetainerTest, keeps_what_a_consumer_has_not_had) {
  std::uint64_t committed = 3;
  const auto retainer = make({.age_max_ns = 1, .segments_min = 0}, kSecond_ns, [&] { return std::optional{committed}; });
  EXPECT_EQ(retainer->force()->segments, 1U);
  EXPECT_EQ(retainer->force()->held, 1U);
  committed = 8;
  EXPECT_EQ(retainer->force()->segments, 3U);
  EXPECT_EQ(shard->first_entry(), 8U);
}

TEST_F(RetainerTest, keeps_what_is_pinned_as_long_as_it_is) {
  const auto retainer = make({.age_max_ns = 1, .segments_min = 0, .force_after_ns = 2});
  {
    const Retainer::Pin pin = retainer->pin(*shard, {4, 5});
    EXPECT_EQ(retainer->force()->segments, 2U);
    EXPECT_EQ(retainer->force()->segments, 0U);
  }
  EXPECT_EQ(retainer->force()->segments, 3U);
}

TEST_F(RetainerTest, counts_what_could_not_be_removed_and_tries_again) {
  const auto retainer = make({.age_max_ns = 1, .segments_min = 0});
  files.fail_at(files.steps() + 1, ErrorCode::kPermission);
  const auto run = retainer->force();
  EXPECT_EQ(run->errors, 1U);
  EXPECT_EQ(run->first_error->code, ErrorCode::kPermission);
  EXPECT_EQ(shard->health().status, HealthStatus::kDegraded);
  EXPECT_TRUE(files.exists(path_of(0)));
  EXPECT_EQ(retainer->force()->errors, 0U);
  EXPECT_FALSE(files.exists(path_of(0)));
  EXPECT_EQ(shard->health().status, HealthStatus::kGood);
}

TEST_F(RetainerTest, takes_shards_together_for_the_total_size) {
  auto other = Shard::open(files, clock, "log/shard-0001", small_options());
  ASSERT_TRUE(other);
  ASSERT_TRUE((*other)->append(Entry{.payload = bytes_of("new")}));
  ASSERT_TRUE((*other)->rotate());
  const auto retainer = make({.total_bytes_max = 6 * (kDataOffset + kSegmentBytesMin), .segments_min = 0});  // of 8
  retainer->add(**other);
  EXPECT_EQ(retainer->force()->segments, 2U);
  EXPECT_EQ(shard->first_entry(), 4U) << "the oldest";
  EXPECT_EQ((*other)->first_entry(), 0U);
  retainer->remove(**other);
}

TEST_F(RetainerTest, refuses_rules_that_contradict) {
  EXPECT_FALSE(Retainer::make(files, clock, kDirectory, {{.age_max_ns = 10, .force_after_ns = 10}, kSecond_ns}));
  EXPECT_FALSE(Retainer::make(files, clock, kDirectory, {{}, -1}));
}

}  // namespace
}  // namespace thalweg::log
