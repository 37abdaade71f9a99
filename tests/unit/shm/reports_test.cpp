// Distinct error log and loss report (client-protocol 5.9, 5.10).
#include <gtest/gtest.h>

#include <climits>
#include <vector>

#include "dataplane/shm/error_log.hpp"
#include "dataplane/shm/loss_report.hpp"
#include "tests/support/hex.hpp"
#include "tests/support/shared_memory.hpp"

namespace thalweg::shm {
namespace {

using test::SharedMemory;
using test::to_hex;

struct SeenError {
  std::string text;
  std::int32_t count;
  std::int64_t first_ms;
  std::int64_t last_ms;
  bool operator==(const SeenError&) const = default;
};
std::vector<SeenError> errors_of(std::span<const std::byte> section) {
  std::vector<SeenError> seen;
  read_error_log(section, [&](const ErrorLogEntry& e) { seen.push_back({std::string{e.text}, e.observation_count, e.first_ms, e.last_ms}); });
  return seen;
}

TEST(ErrorLog, record_is_laid_out_as_5_9_says) {
  SharedMemory memory{4096};
  DistinctErrorLog log{memory.bytes()};
  ASSERT_TRUE(log.record(1, "bad", 5));
  ASSERT_TRUE(log.record(1, "worse", 7));
  EXPECT_EQ(to_hex(memory.bytes().first(36)), "1b000000 01000000 05000000 00000000 05000000 00000000 62616400 00000000 1d000000");
}

TEST(ErrorLog, same_code_and_text_is_counted_and_not_repeated) {
  SharedMemory memory{4096};
  DistinctErrorLog log{memory.bytes()};
  for (const std::int64_t now : {10, 20, 30}) ASSERT_TRUE(log.record(1, "a", now));
  ASSERT_TRUE(log.record(2, "a", 40));
  ASSERT_TRUE(log.record(1, "", 50));
  EXPECT_EQ(errors_of(memory.bytes()), (std::vector<SeenError>{{"a", 3, 10, 30}, {"a", 1, 40, 40}, {"", 1, 50, 50}}));
}

TEST(ErrorLog, successor_continues_behind_the_entries_of_its_predecessor) {
  SharedMemory memory{4096};
  DistinctErrorLog{memory.bytes()}.record(1, "first", 10);
  DistinctErrorLog successor{memory.bytes()};
  ASSERT_TRUE(successor.record(1, "second", 20));
  ASSERT_TRUE(successor.record(1, "first", 30));
  EXPECT_EQ(errors_of(memory.bytes()), (std::vector<SeenError>{{"first", 2, 10, 30}, {"second", 1, 20, 20}}));
}

TEST(ErrorLog, that_is_full_says_so_and_keeps_counting_what_it_knows) {
  SharedMemory memory{4096};
  const auto section = memory.bytes().first(128);
  DistinctErrorLog log{section};
  ASSERT_TRUE(log.record(1, std::string(40, 'a'), 1));
  EXPECT_FALSE(log.record(1, std::string(41, 'b'), 2)) << "64 of 128 bytes are left, 65 are needed";
  ASSERT_TRUE(log.record(1, std::string(40, 'c'), 3));
  EXPECT_FALSE(log.record(1, "d", 4));
  EXPECT_TRUE(log.record(1, std::string(40, 'a'), 5));
  EXPECT_EQ(errors_of(section).size(), 2U);
  EXPECT_EQ(errors_of(section)[0].count, 2);
}

TEST(ErrorLog, hostile_lengths_stay_inside_the_section) {
  for (const std::int32_t length : {1, 23, 4096, 1 << 30, INT_MAX, INT_MIN, -1}) {
    SharedMemory memory{4096};
    DistinctErrorLog log{memory.bytes()};
    ASSERT_TRUE(log.record(1, "a", 1));
    store_le(memory.data(), length);
    for (const SeenError& e : errors_of(memory.bytes())) EXPECT_LE(e.text.size(), 4096U - 24U);
    DistinctErrorLog successor{memory.bytes()};
    static_cast<void>(successor.record(1, "b", 1));
  }
  EXPECT_TRUE(errors_of({}).empty());
}

struct SeenLoss {
  std::int64_t count;
  std::int64_t bytes;
  std::int64_t first_ms;
  std::int64_t last_ms;
  std::int32_t session_id;
  std::int32_t stream_id;
  std::string channel;
  std::string source;
  bool operator==(const SeenLoss&) const = default;
};
std::vector<SeenLoss> losses_of(std::span<const std::byte> section) {
  std::vector<SeenLoss> seen;
  read_loss_report(
      section,
      [](void* context, const LossReportEntry& e) {
        static_cast<std::vector<SeenLoss>*>(context)->push_back(
            {e.observation_count, e.bytes_lost, e.first_ms, e.last_ms, e.session_id, e.stream_id, std::string{e.channel}, std::string{e.source}});
      },
      &seen);
  return seen;
}

TEST(LossReport, entry_is_laid_out_as_5_10_says) {
  SharedMemory memory{4096};
  LossReport report{memory.bytes()};
  EXPECT_EQ(report.create_entry(1408, 5, 0x11223344, 1001, "aeron:udp", "1.2.3.4:5"), 0);
  EXPECT_EQ(report.create_entry(64, 6, 2, 3, "aeron:udp?endpoint=10.0.0.1:40123", "10.0.0.2:1"), 128);
  EXPECT_EQ(to_hex(memory.bytes().first(69)),
            "01000000 00000000 80050000 00000000 05000000 00000000 05000000 00000000 44332211 e9030000 09000000 6165726f 6e3a7564 "
            "70000000 09000000 312e322e 332e343a 35");
}

TEST(LossReport, repeats_add_up_and_a_successor_continues_behind) {
  SharedMemory memory{4096};
  LossReport report{memory.bytes()};
  const auto entry = report.create_entry(100, 1, 2, 3, "channel", "source");
  report.record(entry, 50, 9);
  report.record(-1, 50, 9);
  report.record(1 << 20, 50, 9);
  LossReport successor{memory.bytes()};
  successor.recover();
  EXPECT_GT(successor.create_entry(7, 10, 4, 5, "other", "there"), entry);
  const auto seen = losses_of(memory.bytes());
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0], (SeenLoss{2, 150, 1, 9, 2, 3, "channel", "source"}));
  EXPECT_EQ(seen[1], (SeenLoss{1, 7, 10, 10, 4, 5, "other", "there"}));
}

TEST(LossReport, entries_are_found_by_readers_that_forget_to_align_the_channel) {
  for (std::size_t channel = 0; channel < 130; ++channel) {
    for (std::size_t source = 0; source < 70; ++source) {
      SharedMemory memory{4096};
      LossReport report{memory.bytes()};
      ASSERT_EQ(report.create_entry(1, 1, 1, 1, std::string(channel, 'c'), std::string(source, 's')), 0);
      const auto next = report.create_entry(2, 2, 2, 2, "c", "s");
      const auto written = static_cast<std::size_t>(load_le<std::int32_t>(memory.data() + 44 + align_up<std::size_t>(channel, 4)));
      ASSERT_EQ(static_cast<std::int64_t>(align_up<std::size_t>(48 + channel + written, 64)), next);
      ASSERT_LE(written, source + 3);
      ASSERT_EQ(losses_of(memory.bytes()).size(), 2U);
    }
  }
}

TEST(LossReport, that_is_full_takes_no_more_images) {
  SharedMemory memory{4096};
  LossReport report{memory.bytes().first(256)};
  EXPECT_EQ(report.create_entry(1, 1, 1, 1, "c", "s"), 0);
  EXPECT_EQ(report.create_entry(1, 1, 1, 1, std::string(150, 'c'), "s"), -1);
  EXPECT_EQ(report.create_entry(1, 1, 1, 1, std::string(130, 'c'), "s"), 64);
  EXPECT_EQ(report.create_entry(1, 1, 1, 1, "c", "s"), -1);
  EXPECT_EQ(losses_of(memory.bytes().first(256)).size(), 2U);
}

TEST(LossReport, hostile_lengths_stay_inside_the_section) {
  for (const std::int32_t length : {-1, 4096, 1 << 30, INT_MAX, INT_MIN}) {
    for (const std::size_t at : {40U, 52U}) {
      SharedMemory memory{4096};
      LossReport report{memory.bytes()};
      ASSERT_EQ(report.create_entry(1, 1, 1, 1, "channel", "source"), 0);
      store_le(memory.data() + at, length);
      for (const SeenLoss& loss : losses_of(memory.bytes())) EXPECT_LE(loss.channel.size() + loss.source.size(), 4096U);
      LossReport successor{memory.bytes()};
      successor.recover();
      static_cast<void>(successor.create_entry(1, 1, 1, 1, "channel", "source"));
    }
  }
  EXPECT_TRUE(losses_of({}).empty());
}

}  // namespace
}  // namespace thalweg::shm
