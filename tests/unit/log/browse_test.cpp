#include "controlplane/log/browse.hpp"

#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

using Lines = std::vector<std::string>;

class BrowseTest : public ShardTest {
 protected:
  Lines backwards(const ReaderOptions& options = {}) {
    Lines lines;
    auto reader = BackwardReader::open(files, kDirectory, options);
    EXPECT_TRUE(reader) << reader.error().message;
    for (;;) {
      const auto read = reader->previous();
      EXPECT_TRUE(read) << read.error().message;
      if (!read || (*read)->status == ReadStatus::kEnd) return lines;
      const Browsed& seen = **read;
      if (seen.status == ReadStatus::kRecord) lines.push_back(std::to_string(seen.header.entry) + ":" + text_of(seen.payload));
      else lines.push_back((seen.status == ReadStatus::kGap ? "gap " : "corrupt ") + std::to_string(seen.lost.from_entry) + "-" + std::to_string(seen.lost.to_entry));
    }
  }
};

TEST_F(BrowseTest, goes_backwards_through_all_segments) {
  open();
  append_in_segments({"a", "b", "c"});
  append("d");
  ASSERT_TRUE(shard->sync());
  append("e");
  EXPECT_EQ(backwards(), (Lines{"3:d", "2:c", "1:b", "0:a"})) << "what is durable";
  EXPECT_EQ(backwards({.is_uncommitted = true}).front(), "4:e");
  EXPECT_EQ(backwards({.from_entry = 2}), (Lines{"1:b", "0:a"}));
}

TEST_F(BrowseTest, goes_backwards_through_more_than_one_block) {
  open();
  for (int i = 0; i < 1000; ++i) append(std::to_string(i));
  ASSERT_TRUE(shard->sync());
  const Lines lines = backwards();
  ASSERT_EQ(lines.size(), 1000U);
  for (std::size_t i = 0; i < 1000; ++i) EXPECT_EQ(lines[i], std::to_string(999 - i) + ":" + std::to_string(999 - i));
}

TEST_F(BrowseTest, tells_backwards_what_is_lost) {
  open();
  append_in_segments({"a", "b", "c"});
  append("d");
  append("e");
  ASSERT_TRUE(shard->sync());
  ASSERT_TRUE(files.remove(path_of(1)));
  damage(2, kDataOffset + 48 + 40, std::vector<std::byte>(1, std::byte{7}));
  EXPECT_EQ(backwards(), (Lines{"4:e", "corrupt 3-4", "2:c", "gap 1-2", "0:a"}));
}

TEST_F(BrowseTest, ends_where_retention_has_been) {
  open();
  append_in_segments({"a", "b", "c"});
  ASSERT_TRUE(shard->sync());
  ASSERT_TRUE(shard->delete_oldest(1));
  EXPECT_EQ(backwards(), (Lines{"2:c", "1:b"}));
}

TEST_F(BrowseTest, of_nothing_is_nothing) {
  EXPECT_EQ(backwards(), Lines{});
  open();
  EXPECT_EQ(backwards(), Lines{});
  EXPECT_TRUE(list_recent(files, kDirectory, 5)->empty());
}

TEST_F(BrowseTest, lists_the_last_entries) {
  open();
  append_in_segments({"a", "b", "c"});
  ASSERT_TRUE(shard->sync());
  const auto recent = list_recent(files, kDirectory, 2);
  ASSERT_EQ(recent->size(), 2U);
  EXPECT_EQ(text_of(recent->at(0).payload), "b");
  EXPECT_EQ(text_of(recent->at(1).payload), "c");
  EXPECT_EQ(list_recent(files, kDirectory, 9)->size(), 3U);
}

TEST_F(BrowseTest, scans_all_until_it_is_told_to_stop) {
  open();
  append_in_segments({"a", "b", "c"});
  ASSERT_TRUE(shard->sync());
  std::string seen;
  const auto each = [&](const Read& read) {
    seen += text_of(read.record.payload);
    return seen.size() < 2;
  };
  EXPECT_EQ(scan_all(files, kDirectory, each), 2U);
  EXPECT_EQ(seen, "ab");
  EXPECT_EQ(scan_all(files, kDirectory, [](const Read&) { return true; }, {.from_entry = 1}), 2U);
}

}  // namespace
}  // namespace thalweg::log
