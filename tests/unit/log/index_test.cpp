#include "controlplane/log/index.hpp"

#include <gtest/gtest.h>

namespace thalweg::log {
namespace {

// A node for each of the numbers; the time is a tenth of it, so that several have the same.
SparseIndex index_of(std::initializer_list<std::uint64_t> entries) {
  SparseIndex index{1};
  for (const std::uint64_t entry : entries) index.add({.entry = entry, .timestamp_ns = static_cast<std::int64_t>(entry / 10)}, entry * 48);
  return index;
}

TEST(SparseIndex, finds_the_greatest_node_that_is_not_above) {
  const SparseIndex index = index_of({10, 20, 30});
  EXPECT_EQ(index.find_entry(20)->entry, 20U);
  EXPECT_EQ(index.find_entry(29)->entry, 20U);
  EXPECT_EQ(index.find_entry(99)->entry, 30U);
  EXPECT_EQ(index.find_entry(5)->entry, 10U) << "all are greater: the first one, to start a search with";
  EXPECT_EQ(index.find_offset(20 * 48 + 1)->entry, 20U);
  EXPECT_FALSE(SparseIndex{}.find_entry(0));
}

TEST(SparseIndex, finds_the_last_node_before_a_time_that_many_share) {
  const SparseIndex index = index_of({8, 11, 12, 13, 25});
  EXPECT_EQ(index.find_time(1)->entry, 8U);
  EXPECT_EQ(index.find_time(2)->entry, 13U);
  EXPECT_EQ(index.find_time(0)->entry, 8U);
}

TEST(SparseIndex, has_a_node_every_so_many_records_and_takes_0_for_1) {
  SparseIndex tenth{10};
  SparseIndex zero{0};
  for (std::uint64_t i = 0; i < 95; ++i) {
    tenth.add({.entry = i}, i * 48);
    zero.add({.entry = i}, i * 48);
  }
  EXPECT_EQ(tenth.nodes().size(), 10U);
  EXPECT_EQ(tenth.nodes()[3].entry, 30U);
  EXPECT_EQ(zero.nodes().size(), 95U);
  EXPECT_EQ(tenth.record_count(), 95U);
}

// Defect of predecessors: what was thrown away was the newest part.
TEST(SparseIndex, is_bounded_and_thins_evenly) {
  SparseIndex index{1, 16};
  for (std::uint64_t i = 0; i < 1000; ++i) index.add({.entry = i}, i * 48);
  EXPECT_LE(index.nodes().size(), 16U);
  EXPECT_EQ(index.nodes().front().entry, 0U);
  EXPECT_GE(index.nodes().back().entry, 1000U - 2 * index.interval());
  for (std::size_t i = 1; i < index.nodes().size(); ++i) EXPECT_LE(index.nodes()[i].entry - index.nodes()[i - 1].entry, 2 * index.interval());
}

TEST(SparseIndex, is_read_back_and_refused_when_anything_is_wrong) {
  const SparseIndex index = index_of({10, 20, 30});
  const std::vector<std::byte> bytes = index.encode(7);
  const auto back = SparseIndex::decode(bytes, 7, 65536);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->nodes(), index.nodes());
  EXPECT_EQ(back->record_count(), 3U);
  EXPECT_FALSE(SparseIndex::decode(bytes, 8, 65536)) << "of another segment";
  EXPECT_FALSE(SparseIndex::decode(bytes, 7, 1024)) << "a node outside the data";
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    auto damaged = bytes;
    damaged[at] ^= std::byte{0x40};
    EXPECT_FALSE(SparseIndex::decode(damaged, 7, 65536)) << at;
    EXPECT_FALSE(SparseIndex::decode(std::span{bytes}.first(at), 7, 65536)) << at;
  }
}

TEST(IndexName, is_like_that_of_its_segment) {
  EXPECT_EQ(index_name(12), "index-0000000012.tlg");
  EXPECT_EQ(parse_index_name("index-0000000012.tlg"), 12U);
  EXPECT_FALSE(parse_index_name("index-12.tlg"));
  EXPECT_FALSE(parse_index_name("segment-0000000012.tlg"));
}

}  // namespace
}  // namespace thalweg::log
