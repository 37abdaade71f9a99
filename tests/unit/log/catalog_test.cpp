#include "controlplane/log/catalog.hpp"

#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

CatalogEntry closed(std::uint64_t ordinal, std::int64_t first_ns, std::int64_t last_ns, std::uint32_t stream = 1) {
  CatalogEntry entry{.ordinal = ordinal, .segment_bytes = kSegmentBytesMin, .base_entry = ordinal * 10, .state = SegmentState::kClosed};
  entry.summary = {.end_entry = ordinal * 10 + 10, .record_count = 10, .payload_bytes = 100, .first_timestamp_ns = first_ns, .last_timestamp_ns = last_ns};
  add_stream(entry.summary.streams, stream);
  return entry;
}

using Ordinals = std::vector<std::uint64_t>;

TEST(Catalog, adds_updates_gets_and_removes) {
  Catalog catalog;
  EXPECT_TRUE(catalog.add(closed(3, 0, 10)));
  EXPECT_TRUE(catalog.add(closed(5, 10, 20)));
  EXPECT_EQ(catalog.add(closed(5, 10, 20)).error().code, ErrorCode::kInUse);
  EXPECT_EQ(catalog.add(closed(4, 10, 20)).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(catalog.update(closed(4, 0, 0)).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(catalog.update(closed(5, 11, 21)));
  EXPECT_EQ(catalog.get(5)->summary.last_timestamp_ns, 21);
  EXPECT_EQ(catalog.get(4), nullptr);
  EXPECT_EQ(catalog.totals().records, 20U);
  EXPECT_EQ(catalog.totals().payload_bytes, 200U);
  EXPECT_EQ(catalog.totals().file_bytes, 2 * (kDataOffset + kSegmentBytesMin));
  EXPECT_TRUE(catalog.remove(3));
  EXPECT_EQ(catalog.remove(3).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(catalog.totals().segments, 1U);
}

// Defect of predecessors: a search that took the ranges for sorted and cut out one slice.
TEST(Catalog, finds_times_whatever_order_and_overlap_the_ranges_have) {
  Catalog catalog;
  ASSERT_TRUE(catalog.add(closed(0, 50, 90)));
  ASSERT_TRUE(catalog.add(closed(1, 10, 20)));
  ASSERT_TRUE(catalog.add(closed(2, 15, 60)));
  ASSERT_TRUE(catalog.add(closed(3, 90, 100)));
  CatalogEntry active{.ordinal = 4, .base_timestamp_ns = 100};
  ASSERT_TRUE(catalog.add(active));
  EXPECT_EQ(catalog.find_time(15, 20), (Ordinals{1, 2}));
  EXPECT_EQ(catalog.find_time(55, 55), (Ordinals{0, 2}));
  EXPECT_EQ(catalog.find_time(90, 90), (Ordinals{0, 3}));
  EXPECT_EQ(catalog.find_time(0, 5), Ordinals{});
  EXPECT_EQ(catalog.find_time(1000, 2000), Ordinals{4}) << "what is still written to may get it";
}

TEST(Catalog, finds_streams_and_takes_an_active_segment_for_one_that_may_have_any) {
  Catalog catalog;
  ASSERT_TRUE(catalog.add(closed(0, 0, 1, 7)));
  ASSERT_TRUE(catalog.add(closed(1, 0, 1, 8)));
  ASSERT_TRUE(catalog.add(CatalogEntry{.ordinal = 2}));
  EXPECT_EQ(catalog.find_stream(7), (Ordinals{0, 2}));
  EXPECT_EQ(catalog.find_stream(0), (Ordinals{2})) << "stream 0 is one like the others";
}

TEST(Catalog, is_read_back_and_refused_when_anything_is_wrong) {
  Catalog catalog;
  ASSERT_TRUE(catalog.add(closed(3, 0, 10)));
  ASSERT_TRUE(catalog.add(closed(5, 10, 20)));
  const std::vector<std::byte> bytes = catalog.encode(9);
  const auto back = Catalog::decode(bytes, "it");
  ASSERT_TRUE(back);
  ASSERT_EQ(back->entries().size(), 2U);
  EXPECT_EQ(back->entries()[1], catalog.entries()[1]);
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    auto damaged = bytes;
    damaged[at] ^= std::byte{0x40};
    EXPECT_FALSE(Catalog::decode(damaged, "it")) << at;
    EXPECT_FALSE(Catalog::decode(std::span{bytes}.first(at), "it")) << at;
  }
  auto huge = bytes;
  store_le<std::uint64_t>(huge.data() + 16, UINT64_MAX);
  EXPECT_NE(Catalog::decode(huge, "it").error().message.find("count at offset 16"), std::string::npos);
  auto newer = bytes;
  newer[8] = std::byte{2};
  EXPECT_EQ(Catalog::decode(newer, "it").error().code, ErrorCode::kVersion);
}

class CatalogOfShard : public ShardTest {
 protected:
  void SetUp() override {
    open();
    for (std::uint32_t i = 0; i < 6; ++i) {
      clock.advance(10);
      ASSERT_TRUE(shard->append(Entry{.payload = bytes_of(std::string(30000, 'x')), .stream = i}));
    }
    ASSERT_TRUE(shard->sync());
  }
  [[nodiscard]] Catalog read() {
    auto catalog = read_catalog(files, kDirectory);
    EXPECT_TRUE(catalog) << catalog.error().message;
    return catalog ? *catalog : Catalog{};
  }
  static constexpr const char* kPath = "log/shard-0000/catalog.tlg";
};

TEST_F(CatalogOfShard, is_kept_by_the_writer) {
  const Catalog catalog = read();
  ASSERT_EQ(catalog.entries().size(), 3U);
  EXPECT_EQ(catalog.get(1)->base_entry, 2U);
  EXPECT_EQ(catalog.get(1)->summary.end_entry, 4U);
  EXPECT_EQ(catalog.get(1)->state, SegmentState::kClosed);
  EXPECT_EQ(catalog.get(1)->summary.original_bytes, 60000U);
  EXPECT_EQ(catalog.get(1)->summary.codecs, 1U);
  EXPECT_EQ(catalog.get(2)->state, SegmentState::kActive);
  EXPECT_EQ(catalog.find_stream(3), (Ordinals{1, 2}));
  ASSERT_TRUE(shard->delete_oldest(1));
  EXPECT_EQ(read().entries().front().ordinal, 1U);
}

TEST_F(CatalogOfShard, that_is_missing_truncated_or_damaged_is_made_from_the_segments) {
  const Catalog before = read();
  const auto content = files.content(kPath);
  for (const std::size_t cut : {std::size_t{0}, std::size_t{31}, content.size() - 1, content.size()}) {
    if (cut == content.size()) ASSERT_TRUE(files.remove(kPath));
    else files.set_content(kPath, std::span{content}.first(cut));
    const Catalog again = read();
    ASSERT_EQ(again.entries().size(), 3U) << cut;
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(again.entries()[i], before.entries()[i]) << cut;
  }
}

TEST_F(CatalogOfShard, that_names_other_segments_than_are_there_is_not_believed) {
  ASSERT_TRUE(files.remove(path_of(0)));
  EXPECT_EQ(read().entries().front().ordinal, 1U);
}

TEST_F(CatalogOfShard, knows_a_segment_without_a_seal_by_reading_it) {
  const CatalogEntry before = *read().get(0);
  damage(0, kSealOffset, std::vector<std::byte>(kPageBytes));
  ASSERT_TRUE(files.remove(kPath));
  const CatalogEntry after = *read().get(0);
  EXPECT_EQ(after.summary, before.summary);
  EXPECT_EQ(after.state, SegmentState::kClosed);
}

TEST_F(CatalogOfShard, remembers_which_segment_was_found_damaged) {
  shard.reset();
  damage(1, kSealOffset, std::vector<std::byte>(kPageBytes));
  damage(1, kDataOffset + 50, bytes_of("?"));
  open();
  EXPECT_EQ(read().get(1)->state, SegmentState::kDamaged);
  reopen();
  EXPECT_EQ(shard->recovery().segments_scanned, 1U) << "the active one alone";
  EXPECT_EQ(read().get(1)->state, SegmentState::kDamaged);
}

TEST_F(CatalogOfShard, that_cannot_be_saved_stops_nothing) {
  const std::uint64_t before = shard->statistics()[Statistic::kCatalogErrors];
  const std::uint64_t steps = files.steps();
  ASSERT_TRUE(shard->rotate());
  const std::uint64_t of_rotation = files.steps() - steps;
  append("a");
  files.fail_at(files.steps() + of_rotation, ErrorCode::kNoSpace);  // the renaming of the catalog is the last step
  ASSERT_TRUE(shard->rotate());
  EXPECT_EQ(shard->statistics()[Statistic::kCatalogErrors], before + 1);
  EXPECT_EQ(read().entries().size(), shard->segment_count());
}

}  // namespace
}  // namespace thalweg::log
