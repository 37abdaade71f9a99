#include "controlplane/log/reader.hpp"

#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

using Lines = std::vector<std::string>;

class ReaderTest : public ShardTest {
 protected:
  void SetUp() override {
    open();
    for (const char* text : {"a", "b", "c", "d", "e", "f"}) {
      append(text);
      if (append_count_++ % 2 == 1) {
        ASSERT_TRUE(shard->rotate());  // two entries a segment, and an empty one at the end
      }
    }
    ASSERT_TRUE(shard->sync());
  }
  int append_count_{0};
};

TEST_F(ReaderTest, starts_at_any_entry) {
  EXPECT_EQ(read_all({.from_entry = 0}), (Lines{"0:a", "1:b", "2:c", "3:d", "4:e", "5:f"}));
  EXPECT_EQ(read_all({.from_entry = 3}), (Lines{"3:d", "4:e", "5:f"}));
  EXPECT_EQ(read_all({.from_entry = 6}), Lines{});
}

TEST_F(ReaderTest, behind_the_end_waits_for_its_entry) {
  auto reader = Reader::open(files, kDirectory, {.from_entry = 6});
  EXPECT_EQ(reader->next()->status, ReadStatus::kEnd);
  append("g");
  EXPECT_EQ(reader->next()->status, ReadStatus::kEnd) << "not durable";
  ASSERT_TRUE(shard->sync());
  const auto read = reader->next();
  EXPECT_EQ(read->status, ReadStatus::kRecord);
  EXPECT_EQ(read->record.entry(), 6U);
}

TEST_F(ReaderTest, goes_to_another_entry) {
  auto reader = Reader::open(files, kDirectory);
  for (const std::uint64_t entry : {5U, 0U, 2U, 3U}) {
    ASSERT_TRUE(reader->seek(entry));
    EXPECT_EQ(reader->next()->record.entry(), entry);
  }
}

TEST_F(ReaderTest, follows_through_rotations) {
  auto reader = Reader::open(files, kDirectory, {.from_entry = 5, .is_uncommitted = true});
  EXPECT_EQ(text_of(reader->next()->record.payload), "f");
  for (std::uint64_t i = 6; i < 40; ++i) {
    append_bytes(30000);
    const auto read = reader->next();
    ASSERT_EQ(read->status, ReadStatus::kRecord) << i;
    EXPECT_EQ(read->record.entry(), i);
    EXPECT_EQ(reader->next()->status, ReadStatus::kEnd);
  }
}

// Defects of predecessors: a reader could not tell "retention moved me" from "no data"; later segments were lost behind a missing one.
TEST_F(ReaderTest, reports_a_missing_segment_and_goes_on_behind_it) {
  ASSERT_TRUE(files.remove(path_of(1)));
  EXPECT_EQ(read_all({}), (Lines{"0:a", "1:b", "gap 2-4", "4:e", "5:f"}));
  ASSERT_TRUE(files.remove(path_of(0)));
  EXPECT_EQ(read_all({}), (Lines{"gap 0-4", "4:e", "5:f"}));
  EXPECT_EQ(read_all({.from_entry = 5}), (Lines{"5:f"}));
}

TEST_F(ReaderTest, keeps_a_segment_that_is_removed_under_it) {
  auto reader = Reader::open(files, kDirectory, {.is_uncommitted = true});
  EXPECT_EQ(text_of(reader->next()->record.payload), "a");
  ASSERT_TRUE(files.remove(path_of(0)));
  append("g");
  ASSERT_TRUE(shard->rotate());
  EXPECT_EQ(text_of(reader->next()->record.payload), "b");
  EXPECT_EQ(text_of(reader->next()->record.payload), "c");
}

TEST_F(ReaderTest, of_a_directory_without_coordination_page_reads_what_is_valid) {
  append("g");
  shard.reset();
  ASSERT_TRUE(files.remove(std::string{kDirectory} + "/" + kCoordinationName));
  EXPECT_EQ(read_all({}), (Lines{"0:a", "1:b", "2:c", "3:d", "4:e", "5:f", "6:g"}));
}

TEST_F(ShardTest, shows_a_reader_that_came_first_what_is_durable_only) {
  auto reader = Reader::open(files, kDirectory);
  ASSERT_TRUE(reader);
  EXPECT_EQ(reader->next()->status, ReadStatus::kEnd);
  open();
  append("a");
  EXPECT_EQ(reader->next()->status, ReadStatus::kEnd) << "not durable";
  ASSERT_TRUE(shard->sync());
  EXPECT_EQ(reader->next()->status, ReadStatus::kRecord);
}

TEST_F(ReaderTest, changes_nothing) {
  shard.reset();
  const std::uint64_t steps = files.steps();
  EXPECT_EQ(read_all({}).size(), 6U);
  EXPECT_EQ(files.steps(), steps);
}

TEST_F(ReaderTest, of_no_directory_or_an_empty_one) {
  EXPECT_TRUE(Reader::open(files, "nowhere"));  // this file system has no directories: an empty one
  auto reader = Reader::open(files, "nowhere");
  EXPECT_EQ(reader->next()->status, ReadStatus::kEnd);
  EXPECT_EQ(reader->first_entry(), UINT64_MAX);
}

// 300 entries of one stream in several segments, three of the same time each.
class SeekTest : public ShardTest {
 protected:
  void SetUp() override {
    auto options = small_options();
    options.index_interval = 7;
    open(options);
    for (int i = 0; i < 300; ++i) {
      if (i % 3 == 0) clock.advance(10);
      append_bytes(700);
    }
    ASSERT_TRUE(shard->sync());
    ASSERT_GT(shard->segment_count(), 3U);
  }
  void expect_all_found() {
    auto reader = Reader::open(files, kDirectory);
    std::vector<std::uint64_t> positions;
    for (std::uint64_t i = 0; i < 300; ++i) positions.push_back(reader->next()->record.position);
    const std::int64_t first = clock.epoch - 990;
    for (std::uint64_t i = 0; i < 300; ++i) {
      ASSERT_TRUE(reader->seek(i));
      EXPECT_EQ(reader->next()->record.entry(), i);
      ASSERT_TRUE(reader->seek_position(positions[i]));
      EXPECT_EQ(reader->next()->record.entry(), i);
      EXPECT_EQ(reader->seek_position(positions[i] + 8).error().code, ErrorCode::kInvalidArgument);
      if (i > 297) continue;  // behind the last time
      ASSERT_TRUE(reader->seek_time(first + static_cast<std::int64_t>(i) * 10 / 3));
      EXPECT_EQ(reader->next()->record.entry(), (i + 2) / 3 * 3) << "the first one of its time";
    }
    ASSERT_TRUE(reader->seek_time(first - 1000));
    EXPECT_EQ(reader->next()->record.entry(), 0U);
    ASSERT_TRUE(reader->seek_time(first + 991));
    EXPECT_EQ(reader->next()->status, ReadStatus::kEnd);
  }
};

TEST_F(SeekTest, finds_entries_positions_and_times) { expect_all_found(); }

TEST_F(SeekTest, needs_no_index) {
  for (const std::string& path : files.paths()) {
    if (path.find("/index-") == std::string::npos) continue;
    ASSERT_TRUE(files.remove(path)) << path;
  }
  expect_all_found();
}

TEST_F(SeekTest, believes_no_index_that_is_damaged_or_wrong) {
  SparseIndex wrong;
  for (std::uint64_t i = 0; i < 5; ++i) wrong.add({.entry = 1000 * i}, 8000 * i);
  int count = 0;
  for (const std::string& path : files.paths()) {
    if (path.find("/index-") == std::string::npos) continue;
    if (++count % 2 == 0) files.set_content(path, bytes_of("TLINDX01 and nothing more"));
    else files.set_content(path, wrong.encode(*parse_index_name(path.substr(path.rfind('/') + 1))));
  }
  ASSERT_GT(count, 2);
  expect_all_found();
}

// One segment with five entries of 8 bytes, 48 bytes each; entry 1 to 3 are damaged in turn.
class DamagedTest : public ShardTest {
 protected:
  void SetUp() override {
    open();
    for (int i = 0; i < 5; ++i) append("entry--" + std::to_string(i));
    ASSERT_TRUE(shard->rotate());
    append("behind");
    ASSERT_TRUE(shard->sync());
  }
  void flip(std::uint64_t entry, std::uint64_t byte, unsigned bit = 0) {
    const std::uint64_t at = kDataOffset + entry * 48 + byte;
    const std::byte changed[]{files.content(path_of(0)).at(at) ^ static_cast<std::byte>(1U << bit)};
    damage(0, at, changed);
  }
};

TEST_F(DamagedTest, skips_to_the_next_valid_record_on_demand) {
  flip(2, 41);
  EXPECT_EQ(read_all({.on_corrupt = OnCorrupt::kSkip}), (Lines{"0:entry--0", "1:entry--1", "corrupt 2-3", "3:entry--3", "4:entry--4", "5:behind"}));
}

TEST_F(DamagedTest, leaves_the_segment_by_default_and_reads_later_ones) {
  flip(2, 41);
  EXPECT_EQ(read_all({}), (Lines{"0:entry--0", "1:entry--1", "corrupt 2-5", "5:behind"}));
}

TEST_F(DamagedTest, fails_on_demand_with_file_and_offset) {
  flip(2, 41);
  const Lines lines = read_all({.on_corrupt = OnCorrupt::kFail});
  EXPECT_EQ(lines.at(2), "corrupt 2-3");
  EXPECT_NE(lines.at(3).find("segment-0000000000.tlg: damaged at offset 8288"), std::string::npos) << lines.at(3);
}

// Defect of predecessors: a flipped length desynchronised everything behind it, or counted as a clean end of the segment.
TEST_F(DamagedTest, finds_its_way_behind_a_flipped_bit_in_every_field_of_the_header) {
  for (std::uint64_t byte = 0; byte < kRecordHeaderBytes; ++byte)
    for (const unsigned bit : {0U, 7U}) {
      flip(2, byte, bit);
      EXPECT_EQ(read_all({.on_corrupt = OnCorrupt::kSkip}), (Lines{"0:entry--0", "1:entry--1", "corrupt 2-3", "3:entry--3", "4:entry--4", "5:behind"})) << byte;
      flip(2, byte, bit);
    }
}

// Whether there is an index must not change what a search finds.
TEST_F(DamagedTest, a_search_goes_over_damage_before_what_it_looks_for) {
  flip(1, 41);
  auto reader = Reader::open(files, kDirectory, {.on_corrupt = OnCorrupt::kSkip});
  ASSERT_TRUE(reader->seek(4));
  EXPECT_EQ(reader->next()->record.entry(), 4U);
  ASSERT_TRUE(reader->seek_position(3 * 48));
  EXPECT_EQ(reader->next()->record.entry(), 3U);
}

TEST_F(DamagedTest, a_search_for_what_is_damaged_reports_the_damage) {
  flip(2, 41);
  auto reader = Reader::open(files, kDirectory, {.on_corrupt = OnCorrupt::kSkip});
  ASSERT_TRUE(reader->seek(2));
  const auto read = reader->next();
  EXPECT_EQ(read->status, ReadStatus::kCorrupt);
  EXPECT_EQ(read->lost.from_entry, 2U);
  EXPECT_EQ(reader->next()->record.entry(), 3U);
}

TEST_F(ShardTest, a_search_for_a_time_leaves_nothing_out_behind_damage) {
  open();
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(shard->append(Entry{.payload = bytes_of("entry--" + std::to_string(i)), .timestamp_ns = 100 * i}));
  }
  ASSERT_TRUE(shard->rotate());
  ASSERT_TRUE(shard->append(Entry{.payload = bytes_of("behind"), .timestamp_ns = 600}));
  ASSERT_TRUE(shard->sync());
  damage(0, kDataOffset + 48 + 41, bytes_of("?"));
  auto reader = Reader::open(files, kDirectory, {.on_corrupt = OnCorrupt::kSkip});
  ASSERT_TRUE(reader->seek_time(300));
  EXPECT_EQ(reader->next()->record.entry(), 3U);
  ASSERT_TRUE(reader->seek_time(200));  // nobody knows how old the damaged one was
  EXPECT_EQ(reader->next()->lost.from_entry, 1U);
  EXPECT_EQ(reader->next()->record.entry(), 2U);
  damage(0, kDataOffset + 48, std::vector<std::byte>(4 * 48, std::byte{0x11}));
  ASSERT_TRUE(reader->seek_time(300));
  EXPECT_EQ(reader->next()->status, ReadStatus::kCorrupt);
}

TEST_F(ReaderTest, told_to_go_into_a_segment_that_somebody_removed_reports_the_gap) {
  auto reader = Reader::open(files, kDirectory, {.from_entry = 4});
  ASSERT_TRUE(files.remove(path_of(0)));
  ASSERT_TRUE(files.remove(path_of(1)));
  ASSERT_TRUE(reader->seek(0));
  EXPECT_EQ(reader->next()->status, ReadStatus::kGap);
  EXPECT_EQ(reader->next()->record.entry(), 4U);
  ASSERT_TRUE(files.remove(path_of(2)));
  ASSERT_TRUE(reader->seek_time(0));
  EXPECT_EQ(reader->next()->status, ReadStatus::kEnd);
}

TEST_F(ShardTest, a_position_at_the_very_end_of_a_full_segment_is_that_of_the_next_entry) {
  auto options = small_options();
  options.payload_max_bytes = 1U << 20;
  open(options);
  append_bytes(30000);
  append_bytes(kSegmentBytesMin - record_span(30000) - kRecordHeaderBytes);
  ASSERT_EQ(shard->end_position(), kSegmentBytesMin);
  auto reader = Reader::open(files, kDirectory, {.is_uncommitted = true});
  ASSERT_TRUE(reader->seek_position(shard->end_position()));
  EXPECT_EQ(reader->next()->status, ReadStatus::kEnd);
  append("next");
  EXPECT_EQ(reader->next()->record.entry(), 2U);
}

TEST_F(DamagedTest, reports_zeros_where_durable_entries_were) {
  damage(0, kDataOffset + 48, std::vector<std::byte>(96));
  EXPECT_EQ(read_all({.on_corrupt = OnCorrupt::kSkip}), (Lines{"0:entry--0", "corrupt 1-3", "3:entry--3", "4:entry--4", "5:behind"}));
  damage(0, kDataOffset + 48, std::vector<std::byte>(5 * 48));
  EXPECT_EQ(read_all({.on_corrupt = OnCorrupt::kSkip}), (Lines{"0:entry--0", "corrupt 1-5", "5:behind"}));
}

TEST_F(DamagedTest, reports_durable_entries_missing_at_the_end_of_the_newest_segment) {
  damage(1, kDataOffset, std::vector<std::byte>(48));
  EXPECT_EQ(read_all({}), (Lines{"0:entry--0", "1:entry--1", "2:entry--2", "3:entry--3", "4:entry--4", "corrupt 5-5"}));
}

}  // namespace
}  // namespace thalweg::log
