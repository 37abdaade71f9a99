#include "controlplane/log/shared_shard.hpp"

#include <atomic>
#include <thread>

#include "tests/support/temporary_directory.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

using Lines = std::vector<std::string>;

class SharedShardTest : public ShardTest {
 protected:
  std::unique_ptr<SharedShard> join(const ShardOptions& options = small_options()) {
    auto opened = SharedShard::open(files, clock, kDirectory, options);
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? std::move(*opened) : nullptr;
  }
  static std::uint64_t append_to(SharedShard& shard, std::string_view text) {
    const auto appended = shard.append(Entry{.payload = bytes_of(text), .stream = 1});
    EXPECT_TRUE(appended) << appended.error().message;
    return appended ? appended->first_entry : UINT64_MAX;
  }
};

TEST_F(SharedShardTest, several_writers_give_numbers_of_one_sequence) {
  const auto a = join();
  const auto b = join();
  EXPECT_NE(a->slot(), b->slot());
  EXPECT_EQ(append_to(*a, "a"), 0U);
  EXPECT_EQ(append_to(*b, "b"), 1U);
  const Entry batch[]{{.payload = bytes_of("c")}, {.payload = bytes_of("d")}};
  EXPECT_EQ(a->append(batch)->first_entry, 2U);
  EXPECT_EQ(append_to(*b, "e"), 4U);
  EXPECT_EQ(read_all(), (Lines{"0:a", "1:b", "2:c", "3:d", "4:e"}));
  EXPECT_EQ(b->next_entry(), 5U);
}

TEST_F(SharedShardTest, a_sync_of_one_makes_the_entries_of_all_durable) {
  const auto a = join();
  const auto b = join();
  append_to(*a, "a");
  EXPECT_EQ(read_all({}), Lines{});
  ASSERT_TRUE(b->sync());
  EXPECT_EQ(read_all({}), Lines{"0:a"});
  const auto c = join(small_options(SyncPolicy::kEveryBatch));
  EXPECT_TRUE(c->append(Entry{.payload = bytes_of("c")})->is_durable);
  EXPECT_EQ(a->durable_entry(), 2U);
}

TEST_F(SharedShardTest, the_others_follow_when_one_starts_a_segment) {
  const auto a = join();
  const auto b = join();
  const std::string half(30000, 'x');
  for (int i = 0; i < 3; ++i) append_to(*a, half);
  append_to(*b, "b");
  ASSERT_TRUE(b->rotate());
  append_to(*a, "a");
  EXPECT_EQ(read_all().size(), 5U);
  const auto catalog = read_catalog(files, kDirectory);
  ASSERT_EQ(catalog->entries().size(), 3U);
  EXPECT_EQ(catalog->get(0)->summary.record_count, 2U);
  EXPECT_EQ(catalog->get(1)->summary.end_entry, 4U);
  ASSERT_TRUE(a->sync());
  EXPECT_EQ(read_all({}).size(), 5U) << "older segments that nobody synced, too";
}

TEST_F(SharedShardTest, times_never_fall_whoever_appends) {
  const auto a = join();
  const auto b = join();
  ASSERT_TRUE(a->append(Entry{.payload = bytes_of("a"), .timestamp_ns = 100}));
  const Entry batch[]{{.payload = bytes_of("b"), .timestamp_ns = 50}, {.payload = bytes_of("c"), .timestamp_ns = 200}};
  ASSERT_TRUE(b->append(batch));
  ASSERT_TRUE(a->append(Entry{.payload = bytes_of("d"), .timestamp_ns = 150}));
  auto reader = Reader::open(files, kDirectory, {.is_uncommitted = true});
  std::vector<std::int64_t> times;
  for (int i = 0; i < 4; ++i) times.push_back(reader->next()->record.header.timestamp_ns);
  EXPECT_EQ(times, (std::vector<std::int64_t>{100, 100, 200, 200}));
}

TEST_F(SharedShardTest, belongs_to_one_who_wants_it_alone_or_to_those_who_share) {
  {
    const auto a = join();
    EXPECT_EQ(Shard::open(files, clock, kDirectory, small_options()).error().code, ErrorCode::kInUse);
  }
  open();
  append("alone");
  EXPECT_EQ(SharedShard::open(files, clock, kDirectory, small_options()).error().code, ErrorCode::kInUse);
  shard.reset();
  const auto b = join();
  EXPECT_EQ(append_to(*b, "b"), 1U);
  EXPECT_EQ(read_all(), (Lines{"0:alone", "1:b"}));
}

TEST_F(SharedShardTest, has_room_for_32_writers) {
  std::vector<std::unique_ptr<SharedShard>> writers;
  for (std::uint32_t i = 0; i < kWriterSlots; ++i) writers.push_back(join());
  EXPECT_EQ(SharedShard::open(files, clock, kDirectory, small_options()).error().code, ErrorCode::kInUse);
  writers[7].reset();
  EXPECT_EQ(join()->slot(), 7U);
}

TEST_F(SharedShardTest, refuses_a_batch_that_no_segment_takes) {
  const auto a = join();
  const std::string part(30000, 'y');
  EXPECT_EQ(a->append(std::vector<Entry>(3, Entry{.payload = bytes_of(part)})).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(append_to(*a, "a"), 0U);
}

TEST_F(SharedShardTest, stays_usable_when_a_segment_cannot_be_made) {
  const auto a = join();
  const auto b = join();
  const std::string half(30000, 'x');
  append_to(*a, half);
  append_to(*a, half);
  files.set_space(1000);
  EXPECT_EQ(b->append(Entry{.payload = bytes_of(half)}).error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(append_to(*b, "small"), 2U);
  files.set_space(UINT64_MAX);
  EXPECT_EQ(append_to(*a, half), 3U);
  EXPECT_EQ(read_all().size(), 4U);
}

// The kernel tells one of them only that pages were not written; afterwards it takes them for clean.
TEST_F(SharedShardTest, nothing_gets_durable_any_more_when_a_sync_of_anybody_failed) {
  auto a = join();
  auto b = join();
  append_to(*a, "a");
  files.fail_at(files.steps() + 1, ErrorCode::kIo);
  EXPECT_FALSE(a->sync());
  EXPECT_EQ(b->sync().error().code, ErrorCode::kIo);
  EXPECT_EQ(b->durable_entry(), 0U);
  EXPECT_FALSE(b->append(Entry{.payload = bytes_of("b")}));
  a.reset();
  b.reset();
  EXPECT_TRUE(join()->sync()) << "recovery has read what is there";
}

TEST_F(SharedShardTest, says_little_and_takes_nothing_after_close) {
  const auto a = join();
  const auto b = join();
  ASSERT_TRUE(a->close());
  append_to(*b, "b");
  ASSERT_TRUE(b->rotate());
  EXPECT_EQ(a->sync().error().code, ErrorCode::kClosed);
  EXPECT_EQ(a->rotate().error().code, ErrorCode::kClosed);
  EXPECT_EQ(a->maintain().error().code, ErrorCode::kClosed);
  EXPECT_EQ(a->append(Entry{}).error().code, ErrorCode::kClosed);
  EXPECT_EQ(a->next_entry(), b->durable_entry());
}

// Where a writer was when it was killed.
enum class Killed { kAnnounced, kReserved, kMarked, kHalfFilled, kFilled };
struct HoleCase {
  Killed when;
  bool is_kept;  // its records
};
class HoleTest : public SharedShardTest, public testing::WithParamInterface<HoleCase> {
 protected:
  // Does in slot `slot`, which nobody has locked, what a writer of `texts` does up to the point where it dies.
  void die(std::uint32_t slot, Killed when, const std::vector<std::string>& texts) {
    auto page = Coordination::open_or_create(files, kDirectory, 0, 0);
    ASSERT_TRUE(page);
    Reservations reservations{page->page()};
    auto segment = Segment::open(files, *read_segment_info(files, kDirectory, page->active_ordinal()), OpenMode::kWrite);
    const SegmentHeader& header = (*segment)->header();
    TailPlace seen = reservations.tail();
    std::uint64_t bytes = 0;
    for (const std::string& text : texts) bytes += record_span(text.size());
    const Reservation mine{header.base_position + seen.offset, header.base_entry + seen.entries, seen.timestamp_ns, static_cast<std::uint32_t>(bytes), static_cast<std::uint32_t>(texts.size())};
    reservations.announce(slot, mine);
    if (when == Killed::kAnnounced) return;
    ASSERT_TRUE(reservations.advance_tail(seen, {seen.ordinal, seen.entries + texts.size(), seen.offset + bytes, seen.timestamp_ns}));
    if (when == Killed::kReserved) return;
    std::byte* const first = (*segment)->data().data() + seen.offset;
    mark_reserved(first, mine);
    if (when == Killed::kMarked) return;
    std::byte* at = first;
    RecordWord first_word = 0;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const auto length = static_cast<std::uint32_t>(texts[i].size());
      const RecordWord word = put_record(at, {.entry = mine.entry + i, .timestamp_ns = mine.timestamp_ns, .original_length = length}, {}, bytes_of(texts[i]));
      if (i == 0) first_word = word;
      else publish_record(at, word);
      at += record_span(length);
    }
    if (when == Killed::kFilled) publish_record(first, first_word);
  }
  [[nodiscard]] Lines expected(std::initializer_list<std::string> before, std::initializer_list<std::string> its, std::string_view behind) const {
    Lines lines{before};
    if (GetParam().is_kept) lines.insert(lines.end(), its);
    const bool is_counted = GetParam().when != Killed::kAnnounced;
    lines.push_back(std::to_string(before.size() + (is_counted ? its.size() : 0)) + ":" + std::string{behind});
    return lines;
  }
};
INSTANTIATE_TEST_SUITE_P(When, HoleTest,
                         testing::Values(HoleCase{Killed::kAnnounced, false}, HoleCase{Killed::kReserved, false}, HoleCase{Killed::kMarked, false},
                                         HoleCase{Killed::kHalfFilled, false}, HoleCase{Killed::kFilled, true}));

TEST_P(HoleTest, of_a_dead_writer_is_filled_by_one_who_lives) {
  const auto a = join();
  append_to(*a, "a");
  die(9, GetParam().when, {"dead", "too"});
  append_to(*a, "b");
  ASSERT_TRUE(a->sync());
  EXPECT_EQ(read_all({}), expected({"0:a"}, {"1:dead", "2:too"}, "b"));
  const bool was_hole = GetParam().when != Killed::kAnnounced && !GetParam().is_kept;
  EXPECT_EQ(a->statistics()[Statistic::kHolesFilled], was_hole ? 1U : 0U);
}

TEST_P(HoleTest, of_a_dead_writer_does_not_hold_a_rotation_up) {
  const auto a = join();
  append_to(*a, "a");
  die(9, GetParam().when, {"dead", "too"});
  ASSERT_TRUE(a->rotate());
  append_to(*a, "b");
  EXPECT_EQ(read_all(), expected({"0:a"}, {"1:dead", "2:too"}, "b"));
}

TEST_P(HoleTest, is_filled_by_maintain_so_that_readers_get_on) {
  const auto a = join();
  die(9, GetParam().when, {"dead"});
  append_to(*a, "b");
  ASSERT_TRUE(a->maintain());
  EXPECT_EQ(read_all(), expected({}, {"0:dead"}, "b"));
}

TEST_P(HoleTest, is_filled_by_whoever_takes_the_slot) {
  const auto a = join();
  append_to(*a, "a");
  die(1, GetParam().when, {"dead"});
  const auto b = join();
  ASSERT_EQ(b->slot(), 1U);
  append_to(*b, "b");
  EXPECT_EQ(read_all(), expected({"0:a"}, {"1:dead"}, "b"));
}

TEST_P(HoleTest, is_no_damage_when_all_were_killed) {
  for (const bool is_alone : {false, true}) {
    files = test::CrashFileSystem{256U << 10};
    auto a = join();
    append_to(*a, "a");
    die(9, GetParam().when, {"dead", "too"});
    append_to(*a, "b");
    files.kill_all();
    a.reset();
    if (is_alone) open();
    else a = join();
    const RecoveryReport& report = is_alone ? shard->recovery() : a->recovery();
    EXPECT_EQ(report.corrupt_ranges, 0U);
    EXPECT_EQ(read_all(), expected({"0:a"}, {"1:dead", "2:too"}, "b"));
    shard.reset();
  }
}

TEST_F(HoleTest, several_one_behind_the_other_are_filled) {
  const auto a = join();
  for (std::uint32_t slot = 5; slot < 9; ++slot) die(slot, slot % 2 == 0 ? Killed::kReserved : Killed::kHalfFilled, {"dead", "too"});
  append_to(*a, "a");
  ASSERT_TRUE(a->sync());
  EXPECT_EQ(read_all({}), Lines{"8:a"});
  EXPECT_EQ(a->statistics()[Statistic::kHolesFilled], 4U);
}

// One owned the place, the others only tried: what fits by chance must not swallow a record behind it.
TEST_F(HoleTest, that_several_dead_writers_had_announced_is_the_size_of_its_owner) {
  const auto a = join();
  die(5, Killed::kAnnounced, {"12345678", "12345678"});
  die(6, Killed::kAnnounced, {"a longer one than the owner's, 48"});
  die(7, Killed::kReserved, {"12345678"});
  append_to(*a, "87654321");
  append_to(*a, "behind");
  ASSERT_TRUE(a->sync());
  EXPECT_EQ(read_all({}), (Lines{"1:87654321", "2:behind"}));
}

TEST_F(SharedShardTest, time_of_the_durable_point_never_falls) {
  auto page = Coordination::open_or_create(files, kDirectory, 0, 0);
  ASSERT_TRUE(page);
  std::vector<std::thread> threads;
  for (std::int64_t odd = 0; odd < 2; ++odd) {
    threads.emplace_back([&page, odd] {
      for (std::int64_t i = 1; i <= 200'000; ++i) page->advance_durable({static_cast<std::uint64_t>(i), 0}, 2 * i + odd, 0);
    });
  }
  std::int64_t newest = 0;
  bool has_fallen = false;
  for (int i = 0; i < 200'000; ++i) {
    const std::int64_t now = std::atomic_ref{page->page().durable_timestamp_ns}.load();
    has_fallen |= now < newest;
    newest = now;
  }
  for (auto& thread : threads) thread.join();
  EXPECT_FALSE(has_fallen);
  EXPECT_EQ(page->page().durable_timestamp_ns, 400'001);
}

TEST(TailPlaceTest, is_packed_into_16_bytes_without_loss) {
  for (const TailPlace& place : {TailPlace{}, TailPlace{2047, (1U << 25) - 1, 1U << 30, INT64_MAX}, TailPlace{3, 7, 8, -1}}) {
    const TailPlace back = unpack(pack(place));
    EXPECT_EQ(back.ordinal, place.ordinal);
    EXPECT_EQ(back.entries, place.entries);
    EXPECT_EQ(back.offset, place.offset);
    EXPECT_EQ(back.timestamp_ns, place.timestamp_ns);
  }
}

// As many objects as processes would have, each on a thread of its own, on real files.
TEST(SharedShard, of_many_writers_at_once_loses_and_doubles_nothing) {
  constexpr int kWriters = 4;
  constexpr int kAppends = 3000;
  const auto files = make_plain_file_system();
  const SystemClock clock;
  const test::TemporaryDirectory directory;
  std::vector<std::thread> threads;
  for (int writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      auto opened = SharedShard::open(*files, clock, directory.file("shard"), small_options());
      ASSERT_TRUE(opened) << opened.error().message;
      for (int i = 0; i < kAppends; ++i) {
        const std::string text = std::to_string(writer) + ":" + std::to_string(i);
        const auto appended = (*opened)->append(Entry{.payload = bytes_of(text)});
        ASSERT_TRUE(appended) << appended.error().message;
        if (i % 500 != 0) continue;
        ASSERT_TRUE((*opened)->sync());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  auto reader = Reader::open(*files, directory.file("shard"), {.is_uncommitted = true});
  ASSERT_TRUE(reader);
  std::vector<int> next(kWriters);
  std::uint64_t count = 0;
  for (auto read = reader->next(); read && read->status != ReadStatus::kEnd; read = reader->next()) {
    ASSERT_EQ(read->status, ReadStatus::kRecord) << read->lost.path << " " << read->lost.offset;
    EXPECT_EQ(read->record.entry(), count++);
    const std::string text = text_of(read->record.payload);
    const auto writer = static_cast<std::size_t>(text.at(0) - '0');
    ASSERT_EQ(text.substr(2), std::to_string(next.at(writer)++));
  }
  EXPECT_EQ(count, static_cast<std::uint64_t>(kWriters * kAppends));
}

}  // namespace
}  // namespace thalweg::log
