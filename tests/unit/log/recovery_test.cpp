#include "controlplane/log/recovery.hpp"

#include <cstring>

#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

using Lines = std::vector<std::string>;

TEST_F(ShardTest, killed_without_sync_loses_nothing_that_was_accepted) {
  open();
  append("a");
  append("b");
  kill_and_reopen();
  EXPECT_EQ(shard->durable_entry(), 2U);
  EXPECT_EQ(append("c"), 2U);
  EXPECT_EQ(read_all(), (Lines{"0:a", "1:b", "2:c"}));
}

TEST_F(ShardTest, with_its_last_record_torn_at_any_byte_goes_on_behind_the_one_before) {
  open();
  append("first");
  ASSERT_TRUE(shard->sync());
  const std::uint64_t from = kDataOffset + shard->end_position();
  append("the last record");
  const std::uint64_t to = kDataOffset + shard->end_position();
  const auto whole = files.content(path_of(0));
  const auto coordination = files.content(coordination_path());
  for (std::uint64_t at = from; at < to - 1; ++at) {  // the last byte is a zero of the alignment
    shard.reset();
    auto torn = whole;
    std::memset(torn.data() + at, 0, to - at);
    files.set_content(path_of(0), torn);
    files.set_content(coordination_path(), coordination);
    open();
    ASSERT_EQ(shard->next_entry(), 1U) << at;
    EXPECT_EQ(append("next"), 1U);
    EXPECT_EQ(read_all(), (Lines{"0:first", "1:next"})) << at;
    if (at > from + 8) {
      EXPECT_GT(shard->recovery().torn_bytes, 0U) << at;
    }
  }
}

TEST_F(ShardTest, keeps_valid_records_behind_damage_that_was_not_yet_synced) {
  open();
  for (int i = 0; i < 4; ++i) append("entry--" + std::to_string(i));
  shard.reset();
  damage(0, kDataOffset + 48, std::vector<std::byte>(96));
  open();
  EXPECT_EQ(shard->recovery().corrupt_ranges, 1U);
  EXPECT_EQ(shard->recovery().lost_entries, 2U);
  EXPECT_EQ(append("next"), 4U);
  EXPECT_EQ(read_all({.is_uncommitted = true, .on_corrupt = OnCorrupt::kSkip}), (Lines{"0:entry--0", "corrupt 1-3", "3:entry--3", "4:next"}));
}

// As memory is when a writer is killed between two stores: the word of a batch's first record is the last.
TEST_F(ShardTest, forgets_a_batch_that_its_writer_did_not_live_to_show) {
  open();
  append("first");
  ASSERT_TRUE(shard->sync());
  const std::uint64_t from = kDataOffset + shard->end_position();
  append_batch({"a", "b", "c"});
  files.kill_all();
  shard.reset();
  damage(0, from, std::vector<std::byte>(sizeof(RecordWord)));
  open();
  EXPECT_EQ(shard->recovery().corrupt_ranges, 0U);
  EXPECT_GT(shard->recovery().torn_bytes, 0U);
  EXPECT_EQ(append("next"), 1U);
  EXPECT_EQ(read_all(), (Lines{"0:first", "1:next"}));
}

TEST_F(ShardTest, keeps_what_is_left_of_a_durable_batch) {
  open();
  append_batch({"a", "b", "c"});
  ASSERT_TRUE(shard->sync());
  shard.reset();
  damage(0, kDataOffset, std::vector<std::byte>(sizeof(RecordWord)));
  files.set_content(coordination_path(), std::vector<std::byte>{});  // so that all is read again
  open();
  EXPECT_EQ(append("next"), 3U);
}

TEST_F(ShardTest, reads_no_more_than_what_came_after_the_checkpoint) {
  open();
  for (int i = 0; i < 100; ++i) append_bytes(1000);
  ASSERT_TRUE(shard->sync());
  append("a");
  append("b");
  kill_and_reopen();
  EXPECT_EQ(shard->next_entry(), 102U);
  EXPECT_LT(shard->recovery().bytes_scanned, 100U);
  EXPECT_EQ(read_all().size(), 102U);
}

TEST_F(ShardTest, seals_with_the_sums_of_the_whole_segment_after_recovery_in_its_middle) {
  open();
  append("abc", 7);
  ASSERT_TRUE(shard->sync());
  append("de", 8);
  kill_and_reopen();
  append("f", 9);
  ASSERT_TRUE(shard->rotate());
  const auto listing = list_segments(files, kDirectory);
  ASSERT_TRUE(listing->segments.at(0).seal);
  const SegmentSummary& summary = listing->segments[0].seal->summary;
  EXPECT_EQ(summary.record_count, 3U);
  EXPECT_EQ(summary.payload_bytes, 6U);
  EXPECT_EQ(summary.end_entry, 3U);
  for (const std::uint32_t stream : {7U, 8U, 9U}) EXPECT_TRUE(may_have_stream(summary.streams, stream)) << stream;
}

// What retention decides by must not depend on where recovery began to read: too old, and a segment goes too early.
TEST_F(ShardTest, knows_times_and_sums_of_a_segment_that_recovery_closed) {
  open();
  append("abc");
  clock.advance(kSecond_ns);
  append("de");
  ASSERT_TRUE(shard->sync());
  const std::int64_t newest = clock.epoch;
  clock.advance(kSecond_ns);
  ASSERT_TRUE(shard->rotate());
  files.kill_all();
  shard.reset();
  damage(0, kSealOffset, std::vector<std::byte>(kPageBytes));  // as if killed between the birth of the next segment and the seal
  clock.advance(kSecond_ns);
  open();
  const RetentionShard state = shard->retention_state(std::nullopt).value();
  ASSERT_EQ(state.closed.size(), 1U);
  EXPECT_EQ(state.closed[0].newest_ns, newest);
  EXPECT_EQ(state.closed[0].closed_ns, clock.epoch);
  EXPECT_EQ(state.closed[0].end_entry, 2U);
}

TEST_F(ShardTest, without_its_coordination_page_is_read_from_the_segments) {
  open(small_options(SyncPolicy::kEverySegment));
  for (int i = 0; i < 10; ++i) append_bytes(20000);
  shard.reset();
  ASSERT_TRUE(files.remove(coordination_path()));
  open();
  EXPECT_EQ(shard->next_entry(), 10U);
  EXPECT_TRUE(shard->recovery().is_coordination_rebuilt);
  EXPECT_EQ(shard->recovery().segments_scanned, 1U) << "the seals vouch for the others";
}

TEST_F(ShardTest, sets_an_impossible_coordination_page_aside) {
  open();
  append("a");
  shard.reset();
  files.set_content(coordination_path(), std::vector<std::byte>(4096, std::byte{0x5A}));
  open();
  EXPECT_EQ(append("b"), 1U);
  EXPECT_TRUE(files.exists(coordination_path() + ".corrupt." + std::to_string(clock.epoch)));
  shard.reset();
  files.set_content(coordination_path(), bytes_of("short"));
  open();
  EXPECT_EQ(shard->next_entry(), 2U);
}

TEST_F(ShardTest, refuses_files_of_a_newer_version_and_leaves_them_alone) {
  open();
  append("a");
  shard.reset();
  auto content = files.content(path_of(0));
  content[8] = std::byte{9};
  files.set_content(path_of(0), content);
  const auto opened = Shard::open(files, clock, kDirectory, small_options());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kVersion);
  EXPECT_NE(opened.error().message.find("segment-0000000000.tlg"), std::string::npos);
  EXPECT_EQ(files.content(path_of(0)), content);
  EXPECT_EQ(Reader::open(files, kDirectory).error().code, ErrorCode::kVersion);
}

TEST_F(ShardTest, makes_a_damaged_segment_header_anew) {
  open();
  append_in_segments({"a", "b", "c"});
  ASSERT_TRUE(shard->sync());
  shard.reset();
  for (const std::uint64_t ordinal : {0U, 1U, 2U}) damage(ordinal, 40, std::vector<std::byte>(8, std::byte{0xFF}));
  open();
  EXPECT_EQ(shard->recovery().segments_mended, 3U);
  EXPECT_EQ(append("d"), 3U);
  EXPECT_EQ(read_all(), (Lines{"0:a", "1:b", "2:c", "3:d"}));
}

TEST_F(ShardTest, sets_a_file_aside_that_is_only_named_like_a_segment) {
  open();
  append_in_segments({"a", "b", "c"});
  shard.reset();
  files.set_content(path_of(1), bytes_of("not a segment at all"));
  open();
  EXPECT_EQ(shard->recovery().set_aside.size(), 1U);
  EXPECT_EQ(shard->recovery().lost_entries, 1U);
  EXPECT_EQ(append("d"), 3U);
  EXPECT_EQ(read_all(), (Lines{"0:a", "gap 1-2", "2:c", "3:d"}));
}

// A copy of an old segment under a new name would have its numbers given again.
TEST_F(ShardTest, sets_a_copy_of_another_segment_aside) {
  open();
  append_in_segments({"a", "b", "c"});
  shard.reset();
  files.set_content(path_of(3), files.content(path_of(0)));
  ASSERT_TRUE(files.remove(coordination_path()));
  open();
  EXPECT_EQ(shard->recovery().set_aside.size(), 1U);
  EXPECT_EQ(append("d"), 3U);
  EXPECT_EQ(read_all(), (Lines{"0:a", "1:b", "2:c", "3:d"}));
}

TEST_F(ShardTest, reads_what_is_left_of_a_segment_that_was_cut_off) {
  open();
  append("a");
  append("b");
  ASSERT_TRUE(shard->rotate());
  append("c");
  shard.reset();
  auto content = files.content(path_of(0));
  content.resize(kDataOffset + 48);
  files.set_content(path_of(0), content);
  open();
  EXPECT_EQ(shard->recovery().segments_mended, 1U);
  EXPECT_EQ(shard->recovery().lost_entries, 1U);
  EXPECT_TRUE(shard->recovery().set_aside.empty());
  EXPECT_EQ(append("d"), 3U);
  EXPECT_EQ(read_all(), (Lines{"0:a", "corrupt 1-2", "2:c", "3:d"}));
}

TEST_F(ShardTest, refuses_a_directory_of_another_shard_and_leaves_it_alone) {
  open();
  append("a");
  shard.reset();
  auto options = small_options();
  options.shard = 7;
  const auto opened = Shard::open(files, clock, kDirectory, options);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(opened.error().message.find("this is shard 0, not 7"), std::string::npos) << opened.error().message;
  open();
  EXPECT_EQ(append("b"), 1U);
}

TEST_F(ShardTest, never_gives_a_number_again_that_was_durable) {
  open();
  append("a");
  append("b");
  ASSERT_TRUE(shard->sync());
  shard.reset();
  damage(0, kDataOffset + 48, std::vector<std::byte>(48));  // "b" is gone
  open();
  EXPECT_EQ(append("c"), 2U);
  EXPECT_EQ(read_all({.is_uncommitted = true, .on_corrupt = OnCorrupt::kSkip}).back(), "2:c");
}

TEST_F(ShardTest, recovers_to_the_same_state_when_recovery_itself_is_stopped) {
  for (std::uint64_t stop = 1; stop < 40; ++stop) {
    files = test::CrashFileSystem{256U << 10};
    Random random{stop};
    open();
    for (int i = 0; i < 5; ++i) append_bytes(20000);
    append("last");
    files.kill_all();
    shard.reset();
    damage(1, kDataOffset + 70000 - 65536 + 40, std::vector<std::byte>(1));
    files.stop_at(files.steps() + stop);
    static_cast<void>(Shard::open(files, clock, kDirectory, small_options()));
    const bool was_stopped = files.has_stopped();
    files.kill_all();
    open();
    EXPECT_EQ(append("next"), 6U) << stop;
    if (!was_stopped) break;
  }
}

}  // namespace
}  // namespace thalweg::log
