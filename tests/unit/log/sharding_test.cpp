#include "controlplane/log/sharding.hpp"

#include <gtest/gtest.h>

#include <set>

#include "controlplane/log/entry_id.hpp"
#include "tests/support/crash_file_system.hpp"

namespace thalweg::log {
namespace {

// FNV-1a of "a" and "foobar" as its authors publish them.
TEST(Sharding, picks_by_the_published_hash) {
  EXPECT_EQ(pick_shard("a", 0xFFFFFFFFU), 0xE40C292CU);
  EXPECT_EQ(pick_shard("foobar", 0xFFFFFFFFU), 0xBF9CF968U);
  EXPECT_EQ(pick_shard("foobar", 16), 8U);
  EXPECT_EQ(pick_shard("foobar", 0), 8U) << "0 stands for 16";
}

TEST(Sharding, by_jump_hash_moves_keys_to_the_new_shard_only) {
  std::set<std::uint32_t> seen;
  std::uint32_t moved = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::string key = "key" + std::to_string(i);
    const std::uint32_t before = pick_shard_jump(key, 9);
    const std::uint32_t after = pick_shard_jump(key, 10);
    seen.insert(after);
    if (before == after) continue;
    ++moved;
    EXPECT_EQ(after, 9U) << key;
  }
  EXPECT_EQ(seen.size(), 10U);
  EXPECT_GT(moved, 800U);
  EXPECT_LT(moved, 1200U);
}

TEST(Sharding, names_streams_and_reads_their_numbers) {
  EXPECT_EQ(shard_stream_name("orders", "v1", 7), "orders:v1:shard:0007");
  EXPECT_EQ(pick_shard_stream("foobar", "orders", "v1", 16), "orders:v1:shard:0008");
  EXPECT_EQ(all_shard_streams("o", "v", 2), (std::vector<std::string>{"o:v:shard:0000", "o:v:shard:0001"}));
  EXPECT_EQ(all_shards(0).size(), 16U);
  EXPECT_EQ(shard_of_stream("orders:v1:shard:0007"), 7U);
  for (const char* bad : {"", "orders", "orders:v1:shard:", "orders:v1:shard:x", "orders:v1:shard:7x", "orders:v1:shard:-7", "orders:v1:shard:99999999999"})
    EXPECT_EQ(shard_of_stream(bad).error().code, ErrorCode::kInvalidArgument) << bad;
}

TEST(Sharding, names_directories_and_lists_them) {
  EXPECT_EQ(shard_directory_name(12), "shard-0012");
  EXPECT_EQ(parse_shard_directory_name("shard-12345"), 12345U);
  for (const char* bad : {"shard-", "shard-12", "shard-01234", "shard-00x2", "segment-0012"}) EXPECT_FALSE(parse_shard_directory_name(bad)) << bad;
  test::CrashFileSystem files;
  for (const char* path : {"log/shard-0010/x", "log/shard-0002/x", "log/other/x", "log/file"}) files.set_content(path, {});
  EXPECT_EQ(list_shards(files, "log"), (std::vector<std::uint32_t>{2, 10}));
}

TEST(Sharding, gives_each_member_shards_of_its_own) {
  for (const std::uint32_t member : {0U, 1U, 2U})
    for (int i = 0; i < 100; ++i) {
      const auto shard = pick_owned_shard("key" + std::to_string(i), 8, {member, 3});
      ASSERT_TRUE(shard);
      EXPECT_LT(*shard, 8U);
      EXPECT_EQ(*shard % 3, member);
    }
  EXPECT_EQ(pick_owned_shard("key", 2, {2, 3}).error().code, ErrorCode::kInvalidArgument) << "it has none";
  EXPECT_FALSE(validate(Assignment{3, 3}));
  EXPECT_FALSE(validate(Assignment{0, 0}));
}

TEST(ProcessNumber, is_the_lowest_that_nobody_has) {
  test::CrashFileSystem files;
  auto first = ProcessNumber::claim(files, "log", 2);
  auto second = ProcessNumber::claim(files, "log", 2);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->value(), 0U);
  EXPECT_EQ(second->value(), 1U);
  EXPECT_EQ(ProcessNumber::claim(files, "log", 2).error().code, ErrorCode::kInUse);
  { const ProcessNumber gone = std::move(*first); }
  EXPECT_EQ(ProcessNumber::claim(files, "log", 2)->value(), 0U);
}

TEST(EntryId, is_written_and_read) {
  EXPECT_EQ(to_string(EntryId{3, 1500}), "3-1500");
  EXPECT_EQ(parse_entry_id("3-1500"), (EntryId{3, 1500}));
  EXPECT_EQ(parse_entry_id("4294967295-18446744073709551615"), (EntryId{UINT32_MAX, UINT64_MAX}));
  for (const char* bad : {"", "-", "3-", "-5", "3-x", "3 -5", "4294967296-0", "3-18446744073709551616", "3--1"})
    EXPECT_EQ(parse_entry_id(bad).error().code, ErrorCode::kInvalidArgument) << bad;
}

}  // namespace
}  // namespace thalweg::log
