// Files that an earlier build wrote, tests/data/log-golden: they stay readable and writable. With THALWEG_LOG_GOLDEN=DIRECTORY the test writes them
// anew, with the zeros at the ends of segments cut off; only a new version of the format is a reason to do that.
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "controlplane/log/shared_shard.hpp"
#include "tests/support/recorded.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

// What is in them, as read_all() says it.
const std::vector<std::string> kExpected{"0:plain", "1:", "2:with a key", "3:" + std::string(600, 'l'), "4:" + std::string(600, 'z'), "6:shared", "8:behind a hole", "9:last"};

class GoldenTest : public ShardTest {
 protected:
  void load() {
    for (const auto& file : std::filesystem::directory_iterator{test::data_path("log-golden")}) {
      std::ifstream in{file.path(), std::ios::binary};
      const std::string content{std::istreambuf_iterator<char>{in}, {}};
      const std::string name = file.path().filename();
      std::vector<std::byte> bytes{bytes_of(content).begin(), bytes_of(content).end()};
      if (parse_segment_name(name)) bytes.resize(kDataOffset + kSegmentBytesMin);
      files.set_content(std::string{kDirectory} + "/" + name, bytes);
    }
  }
  void put(std::string_view text, Codec codec = Codec::kNone, std::string_view key = {}) {
    auto options = small_options();
    options.compression = {.codec = codec, .min_bytes = 100};
    reopen(options);
    ASSERT_TRUE(shard->append(Entry{.payload = bytes_of(text), .key = bytes_of(key), .stream = 7, .type = -3}));
  }
  // One segment of a writer that is alone, a second one of some that share, and an empty third.
  void write() {
    put("plain");
    put("");
    put("with a key", Codec::kNone, "key");
    put(kExpected[3].substr(2), Codec::kLz4);
    put(kExpected[4].substr(2), Codec::kZstd);
    ASSERT_TRUE(shard->append(Entry{.payload = bytes_of("will be damaged")}));
    ASSERT_TRUE(shard->rotate());
    ASSERT_TRUE(shard->sync());
    shard.reset();
    auto shared = SharedShard::open(files, clock, kDirectory, small_options());
    ASSERT_TRUE(shared);
    ASSERT_TRUE((*shared)->append(Entry{.payload = bytes_of("shared")}));
    leave_a_hole();
    ASSERT_TRUE((*shared)->append(Entry{.payload = bytes_of("behind a hole")}));
    ASSERT_TRUE((*shared)->rotate());
    ASSERT_TRUE((*shared)->append(Entry{.payload = bytes_of("last")}));
    ASSERT_TRUE((*shared)->sync());
    ASSERT_TRUE((*shared)->close());
    damage_entry_5();
  }
  void leave_a_hole() {
    auto page = Coordination::open_or_create(files, kDirectory, 0, 0);
    Reservations reservations{page->page()};
    const auto info = read_segment_info(files, kDirectory, page->active_ordinal());
    TailPlace seen = reservations.tail();
    reservations.announce(20, {info->header.base_position + seen.offset, info->header.base_entry + seen.entries, seen.timestamp_ns, 48, 1});
    ASSERT_TRUE(reservations.advance_tail(seen, {seen.ordinal, seen.entries + 1, seen.offset + 48, seen.timestamp_ns}));
  }
  void damage_entry_5() {
    const auto content = files.content(path_of(0));
    const std::string_view all{reinterpret_cast<const char*>(content.data()), content.size()};
    damage(0, all.find("will be damaged"), bytes_of("W"));
  }
  void save(const std::string& directory) {
    std::filesystem::create_directories(directory);
    for (const std::string& path : files.paths()) {
      auto bytes = files.content(path);
      const std::string name = std::filesystem::path{path}.filename();
      if (parse_segment_name(name)) bytes.resize(end_of_content(bytes, 0, bytes.size()));
      std::ofstream out{directory + "/" + name, std::ios::binary};
      out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    }
  }
  [[nodiscard]] static std::vector<std::string> expected() {
    auto lines = kExpected;
    lines.insert(lines.begin() + 5, "corrupt 5-6");
    return lines;
  }
};

TEST_F(GoldenTest, files_of_this_version_are_read) {
  if (const char* const directory = std::getenv("THALWEG_LOG_GOLDEN"); directory != nullptr) {
    write();
    save(directory);
    return;
  }
  load();
  EXPECT_EQ(read_all({.on_corrupt = OnCorrupt::kSkip}), expected());
  auto reader = Reader::open(files, kDirectory, {.from_entry = 2});
  const auto read = reader->next();
  EXPECT_EQ(text_of(read->record.key), "key");
  EXPECT_EQ(read->record.header.stream, 7U);
  EXPECT_EQ(read->record.header.type, -3);
  EXPECT_EQ(read->record.header.timestamp_ns, clock.epoch);
  const auto catalog = read_catalog(files, kDirectory);
  ASSERT_TRUE(catalog);
  ASSERT_EQ(catalog->entries().size(), 3U);
  EXPECT_EQ(catalog->get(0)->summary.codecs, 7U);
  EXPECT_TRUE(load_index(files, kDirectory, 0, kSegmentBytesMin));
  EXPECT_EQ((*read_statistics(files, kDirectory))[Statistic::kHolesFilled], 1U);
}

TEST_F(GoldenTest, files_of_this_version_are_gone_on_with) {
  if (std::getenv("THALWEG_LOG_GOLDEN") != nullptr) GTEST_SKIP();
  load();
  open();
  EXPECT_EQ(append("new"), 10U);
  auto lines = expected();
  lines.push_back("10:new");
  EXPECT_EQ(read_all({.is_uncommitted = true, .on_corrupt = OnCorrupt::kSkip}), lines);
  shard.reset();
  load();
  auto shared = SharedShard::open(files, clock, kDirectory, small_options());
  ASSERT_TRUE(shared) << shared.error().message;
  EXPECT_EQ((*shared)->append(Entry{})->first_entry, 10U);
}

}  // namespace
}  // namespace thalweg::log
