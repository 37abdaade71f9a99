#include "controlplane/log/statistics.hpp"

#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

using enum Statistic;

TEST_F(ShardTest, counts_what_it_does) {
  open();
  append("abc");
  const Entry batch[]{{.payload = bytes_of("d")}, {.payload = bytes_of("e"), .key = bytes_of("k")}};
  ASSERT_TRUE(shard->append(batch));
  EXPECT_FALSE(shard->append(Entry{.payload = bytes_of(std::string(40000, 'x'))}));
  ASSERT_TRUE(shard->sync());
  ASSERT_TRUE(shard->rotate());
  const Statistics counted = shard->statistics();
  EXPECT_EQ(counted[kEntries], 3U);
  EXPECT_EQ(counted[kPayloadBytes], 6U);
  EXPECT_EQ(counted[kBatches], 2U);
  EXPECT_EQ(counted[kBatchEntriesMax], 2U);
  EXPECT_EQ(counted[kAppendsRefused], 1U);
  EXPECT_EQ(counted[kAppendSamples], 1U);
  EXPECT_EQ(counted[kLastAppendNs], static_cast<std::uint64_t>(clock.epoch));
  EXPECT_EQ(counted[kSyncs], 1U);
  EXPECT_EQ(counted[kRotations], 1U);
  EXPECT_EQ(counted[kSegmentsCreated], 2U);
  EXPECT_EQ(counted[kIndexSaves], 1U);
  EXPECT_EQ(counted[kRecoveries], 1U);
}

TEST_F(ShardTest, shows_other_processes_the_sums_of_all_its_lives) {
  open();
  append("a");
  reopen();
  append("b");
  ASSERT_TRUE(shard->maintain());
  const auto read = read_statistics(files, kDirectory);
  ASSERT_TRUE(read);
  EXPECT_EQ((*read)[kEntries], 2U);
  EXPECT_EQ((*read)[kRecoveries], 2U);
  EXPECT_EQ((*read)[kBatchEntriesMax], 1U) << "the larger one, not the sum";
}

TEST_F(ShardTest, makes_a_page_of_statistics_anew_that_is_none) {
  files.set_content(std::string{kDirectory} + "/" + kStatisticsName, bytes_of("nonsense"));
  EXPECT_EQ(read_statistics(files, kDirectory).error().code, ErrorCode::kIo);
  open();
  append("a");
  ASSERT_TRUE(shard->maintain());
  EXPECT_EQ((*read_statistics(files, kDirectory))[kEntries], 1U);
}

TEST(Statistics, have_each_a_place_and_a_name_of_their_own) {
  std::vector<std::string_view> names;
  std::vector<Statistic> ids;
  for (const StatisticInfo& info : statistic_infos()) {
    EXPECT_LT(static_cast<std::size_t>(info.id), kStatisticSlots);
    for (const auto name : names) EXPECT_NE(name, info.name);
    for (const auto id : ids) EXPECT_NE(id, info.id) << info.name;
    names.push_back(info.name);
    ids.push_back(info.id);
  }
}

TEST_F(ShardTest, is_in_good_health_when_nothing_is_wrong) {
  open();
  append("a");
  const Health health = shard->health();
  EXPECT_EQ(health.status, HealthStatus::kGood);
  EXPECT_TRUE(health.problems.empty());
  EXPECT_EQ(health.next_entry, 1U);
  EXPECT_EQ(health.durable_entry, 0U);
  EXPECT_EQ(health.file_bytes, kDataOffset + kSegmentBytesMin);
}

TEST_F(ShardTest, says_what_is_wrong_and_what_helps) {
  auto options = small_options(SyncPolicy::kPeriodic);
  options.segments_max = 1;
  open(options);
  append("a");
  clock.advance(11 * kSecond_ns);
  files.set_space(kSegmentBytesMin);
  const Health health = shard->health();
  EXPECT_EQ(health.status, HealthStatus::kDegraded);
  ASSERT_EQ(health.problems.size(), 3U);
  EXPECT_NE(health.problems[0].what.find("65536 bytes of the file system are free"), std::string::npos);
  EXPECT_NE(health.problems[1].what.find("1 segments are there"), std::string::npos);
  EXPECT_NE(health.problems[2].what.find("1 entries wait for a sync"), std::string::npos);
  files.fail_at(files.steps() + 1, ErrorCode::kIo);
  EXPECT_FALSE(shard->sync());
  EXPECT_EQ(shard->health().status, HealthStatus::kFailed);
}

TEST_F(ShardTest, names_damage_that_recovery_found) {
  open();
  for (int i = 0; i < 4; ++i) append("entry--" + std::to_string(i));
  shard.reset();
  damage(0, kDataOffset + 48 + 41, bytes_of("?"));
  open();
  EXPECT_NE(shard->health().problems.at(0).what.find("hides 1 entries"), std::string::npos);
}

TEST(Presets, are_valid) {
  for (const ShardOptions& options : {ShardOptions{}, high_throughput_options(), shared_options(), sized_options(0, 0), sized_options(4, 1U << 30), sized_options(1, UINT64_MAX)})
    EXPECT_TRUE(validate(options));
  EXPECT_EQ(sized_options(4, 1U << 30).segment_bytes, 256U << 20);
  EXPECT_EQ(sized_options(0, 1U << 30).segment_bytes, 64U << 20);
  EXPECT_EQ(sized_options(1, UINT64_MAX).segment_bytes, kSegmentBytesMax);
}

}  // namespace
}  // namespace thalweg::log
