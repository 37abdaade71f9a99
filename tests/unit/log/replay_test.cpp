// A stretch of a shard handed over again: every place to begin and to end at, with every filter. Spec: archive-log 13, 19.
#include "controlplane/log/replay.hpp"

#include <limits>

#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

using Lines = std::vector<std::string>;
constexpr std::int64_t kBegin_ns = 1'000'000'000;

// Ten records of 100 bytes in three segments, a second apart: streams 1 2 1 2 ..., types 0 0 0 1 0 0 1 ..., times 1 s to 10 s.
class ReplayTest : public ShardTest {
 protected:
  void SetUp() override {
    open();
    for (std::uint32_t i = 0; i < 10; ++i) {
      if (i == 4 || i == 8) {
        ASSERT_TRUE(shard->rotate());
      }
      const std::string text(100, static_cast<char>('0' + i));
      const auto appended = shard->append(Entry{.payload = bytes_of(text), .stream = 1 + i % 2, .type = i % 3 == 0 && i > 0 ? 1 : 0, .timestamp_ns = kBegin_ns * (i + 1)});
      ASSERT_TRUE(appended);
      positions.push_back(appended->end_position - record_span(100));
    }
    ASSERT_TRUE(shard->sync());
  }
  // Digits of the records in their order; "g" and "c" for gaps and damage, "|" for the end of now.
  std::string all(const ReplayOptions& options) {
    auto running = RecordReplay::open(files, clock, kDirectory, options);
    if (!running) return running.error().message;
    std::string seen;
    for (;;) {
      const auto step = running->next();
      if (!step) return seen + " error " + step.error().message;
      if (step->status == ReplayStatus::kOver) return seen;
      if (step->status == ReplayStatus::kEnd) return seen + "|";
      if (step->status == ReplayStatus::kWait) clock.advance(step->wait_ns);
      if (step->status == ReplayStatus::kRecord) seen += text_of(step->record.payload).front();
      if (step->status == ReplayStatus::kGap) seen += "g";
      if (step->status == ReplayStatus::kCorrupt) seen += "c";
    }
  }
  std::vector<std::uint64_t> positions;
};

class Selectors : public ReplayTest, public testing::WithParamInterface<std::tuple<ReplayPlace, int, int, bool>> {};

// The same worked out by hand for each of: where it begins, what ends it, what is filtered, which way.
TEST_P(Selectors, meet_with_every_filter) {
  const auto [from, to, filter, is_backward] = GetParam();
  ReplayOptions options;
  options.from = from;
  options.is_backward = is_backward;
  options.from_entry = 5;
  options.from_ns = 6 * kBegin_ns;
  options.from_position = positions[5];
  int first = from == ReplayPlace::kEarliest ? 0 : from == ReplayPlace::kLatest ? 10 : 5;
  int last = 9;  // forwards; backwards 0
  if (is_backward) {
    first = from == ReplayPlace::kEarliest ? -1 : from == ReplayPlace::kLatest ? 9 : 5;
    last = 0;
  }
  const int border = is_backward ? 2 : 8;
  std::uint64_t count_max = UINT64_MAX;
  if (to == 1) options.to_entry = static_cast<std::uint64_t>(border);
  if (to == 2) options.to_position = positions[static_cast<std::size_t>(border)];
  if (to == 3) options.to_ns = (border + 1) * kBegin_ns;
  if (to == 4) options.count_max = count_max = 2;
  if (to == 1 || to == 2) last = is_backward ? border : border - 1;
  if (to == 3) last = border;
  if ((filter & 1) != 0) options.stream = 2;
  if ((filter & 2) != 0) options.type = 1;
  std::string expected;
  for (int i = first; is_backward ? i >= last : i <= last; i += is_backward ? -1 : 1) {
    if (i > 9 || i < 0 || expected.size() >= count_max) break;
    const bool is_wanted = ((filter & 1) == 0 || i % 2 == 1) && ((filter & 2) == 0 || (i % 3 == 0 && i > 0));
    if (is_wanted) expected += static_cast<char>('0' + i);
  }
  EXPECT_EQ(all(options), expected);
}
INSTANTIATE_TEST_SUITE_P(All, Selectors,
                         testing::Combine(testing::Values(ReplayPlace::kEarliest, ReplayPlace::kLatest, ReplayPlace::kEntry, ReplayPlace::kTime, ReplayPlace::kPosition), testing::Range(0, 5),
                                          testing::Range(0, 4), testing::Bool()));

TEST_F(ReplayTest, of_a_place_that_retention_took_tells_or_begins_with_the_lowest) {
  ASSERT_TRUE(shard->delete_oldest(1));
  EXPECT_EQ(all({}), "456789");
  ReplayOptions options;
  options.from = ReplayPlace::kEntry;
  options.from_entry = 2;
  EXPECT_EQ(all(options), "g456789");
  options.is_clamped = true;
  EXPECT_EQ(all(options), "456789");
  options.is_backward = true;
  EXPECT_EQ(all(options), "4");
}

TEST_F(ReplayTest, follows_what_is_appended_and_nothing_otherwise) {
  ReplayOptions options;
  options.from = ReplayPlace::kEntry;
  options.from_entry = 8;
  auto ended = RecordReplay::open(files, clock, kDirectory, options).value();
  options.is_followed = true;
  auto following = RecordReplay::open(files, clock, kDirectory, options).value();
  append("new");
  ASSERT_TRUE(shard->sync());
  for (int i = 0; i < 2; ++i) EXPECT_EQ(ended.next()->status, ReplayStatus::kRecord);
  EXPECT_EQ(ended.next()->status, ReplayStatus::kOver) << "where the shard ended when it began";
  for (int i = 0; i < 3; ++i) EXPECT_EQ(following.next()->status, ReplayStatus::kRecord);
  EXPECT_EQ(following.next()->status, ReplayStatus::kEnd);
  append("newer");
  EXPECT_EQ(following.next()->status, ReplayStatus::kEnd) << "not durable";
  ASSERT_TRUE(shard->rotate());
  ASSERT_TRUE(shard->sync());
  EXPECT_EQ(text_of(following.next()->record.payload), "newer");
  EXPECT_EQ(following.count(), 4U);
}

TEST_F(ReplayTest, keeps_the_pauses_divided_by_the_speed) {
  for (const double speed : {1.0, 2.0, 0.5}) {
    ReplayOptions options;
    options.speed = speed;
    options.to_entry = 4;
    const std::int64_t begin_ns = clock.monotonic;
    EXPECT_EQ(all(options), "0123");
    EXPECT_EQ(clock.monotonic - begin_ns, static_cast<std::int64_t>(3 * kBegin_ns / speed));
    options.is_backward = true;
    options.from = ReplayPlace::kEntry;
    options.from_entry = 6;
    EXPECT_EQ(all(options), "654");
    EXPECT_EQ(clock.monotonic - begin_ns, static_cast<std::int64_t>(5 * kBegin_ns / speed));
  }
}

TEST_F(ReplayTest, is_no_faster_than_its_rate) {
  ReplayOptions options;
  options.records_per_second = 100;
  const std::int64_t begin_ns = clock.monotonic;
  EXPECT_EQ(all(options), "0123456789");
  EXPECT_EQ(clock.monotonic - begin_ns, 9 * 10 * kMillisecond_ns);
}

TEST_F(ReplayTest, does_with_damage_what_it_was_told) {
  damage(1, kDataOffset + record_span(100) + 50, std::vector<std::byte>(1, std::byte{7}));  // entry 5
  ReplayOptions options;
  EXPECT_EQ(all(options), "01234c89");
  options.on_corrupt = OnCorrupt::kSkip;
  EXPECT_EQ(all(options), "01234c6789");
  options.is_backward = true;
  options.from = ReplayPlace::kLatest;
  EXPECT_EQ(all(options), "9876c43210");
  options = {};
  options.on_corrupt = OnCorrupt::kFail;
  EXPECT_EQ(all(options).substr(0, 13), "01234c error ");
}

TEST_F(ReplayTest, replays_large_records) {
  const std::string large(32U << 10, 'L');
  append(large);
  ASSERT_TRUE(shard->sync());
  EXPECT_EQ(all({}), "0123456789L");
}

TEST_F(ReplayTest, is_ended_by_its_handler) {
  std::string seen;
  const auto count = replay(files, clock, kDirectory, {}, [&](const ReplayStep& step) {
    seen += text_of(step.record.payload).front();
    return seen.size() < 3;
  });
  EXPECT_EQ(count, 3U);
  EXPECT_EQ(seen, "012");
  EXPECT_EQ(replay(files, clock, kDirectory, {}, [](const ReplayStep&) { return true; }), 10U);
}

TEST_F(ReplayTest, goes_on_during_appends_and_retention) {
  ReplayOptions options;
  options.is_followed = true;
  auto running = RecordReplay::open(files, clock, kDirectory, options).value();
  EXPECT_EQ(running.next()->status, ReplayStatus::kRecord);
  ASSERT_TRUE(shard->delete_oldest(2));
  std::string seen;
  for (int i = 0; i < 50; ++i) {
    append(std::string(30'000, static_cast<char>('a' + i % 26)));
    ASSERT_TRUE(shard->sync());
    if (i % 7 == 0) {
      ASSERT_TRUE(shard->delete_oldest(1));
    }
    for (auto step = running.next(); step && step->status != ReplayStatus::kEnd; step = running.next()) seen += step->status == ReplayStatus::kGap ? 'g' : text_of(step->record.payload).front();
  }
  EXPECT_EQ(seen.substr(0, 6), "123g89") << "the segment that is being read stays";
  EXPECT_EQ(seen.size(), 6U + 50U);
}

TEST_F(ReplayTest, refuses_what_makes_no_sense) {
  const auto error_of = [&](const ReplayOptions& options) { return RecordReplay::open(files, clock, kDirectory, options).error().code; };
  for (const auto& change : std::vector<void (*)(ReplayOptions&)>{
           [](ReplayOptions& o) { o.speed = -1; }, [](ReplayOptions& o) { o.speed = std::numeric_limits<double>::quiet_NaN(); },
           [](ReplayOptions& o) { o.is_backward = o.is_followed = true; }, [](ReplayOptions& o) { o.from = ReplayPlace::kEntry, o.from_entry = 11; },
           [](ReplayOptions& o) { o.from = ReplayPlace::kEntry, o.from_entry = 5, o.to_entry = 4; },
           [](ReplayOptions& o) { o.from = ReplayPlace::kTime, o.from_ns = 5, o.to_ns = 4; },
           [](ReplayOptions& o) { o.from = ReplayPlace::kPosition, o.from_position = 144, o.to_position = 0; },
           [](ReplayOptions& o) { o.from = ReplayPlace::kPosition, o.from_position = 8; }}) {
    ReplayOptions options;
    change(options);
    EXPECT_EQ(error_of(options), ErrorCode::kInvalidArgument);
  }
}

TEST_F(ShardTest, without_an_entry_is_replayed_at_once) {
  open();
  auto running = RecordReplay::open(files, clock, kDirectory, {}).value();
  EXPECT_EQ(running.next()->status, ReplayStatus::kOver);
  ReplayOptions options;
  options.is_backward = true;
  options.from = ReplayPlace::kLatest;
  EXPECT_EQ(RecordReplay::open(files, clock, kDirectory, options)->next()->status, ReplayStatus::kOver);
}

}  // namespace
}  // namespace thalweg::log
