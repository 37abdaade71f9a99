#include "controlplane/log/shard.hpp"

#include <atomic>
#include <thread>

#include "tests/support/temporary_directory.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

using Lines = std::vector<std::string>;

TEST_F(ShardTest, gives_numbers_from_zero_without_a_gap) {
  open();
  EXPECT_EQ(append("a"), 0U);
  EXPECT_EQ(append("b"), 1U);
  EXPECT_EQ(read_all(), (Lines{"0:a", "1:b"}));
  EXPECT_EQ(shard->next_entry(), 2U);
  EXPECT_EQ(shard->first_entry(), 0U);
}

TEST_F(ShardTest, takes_payloads_of_every_size_up_to_the_limit) {
  open();
  std::vector<std::size_t> sizes;
  for (std::size_t size = 0; size < 70; ++size) sizes.push_back(size);
  for (const std::size_t size : {1000U, 4095U, 32767U, 32768U}) sizes.push_back(size);
  for (const std::size_t size : sizes) append_bytes(size);
  const Lines lines = read_all();
  ASSERT_EQ(lines.size(), sizes.size());
  for (std::size_t i = 0; i < sizes.size(); ++i) EXPECT_EQ(lines[i], std::to_string(i) + ":" + std::string(sizes[i], 'x'));
}

TEST_F(ShardTest, refuses_a_payload_beyond_the_limit_before_it_gives_a_number) {
  open();
  const std::string large(32769, 'x');
  EXPECT_EQ(shard->append(Entry{.payload = bytes_of(large)}).error().code, ErrorCode::kInvalidArgument);
  const Entry batch[]{{.payload = bytes_of("a")}, {.payload = bytes_of(large)}};
  EXPECT_FALSE(shard->append(batch));
  EXPECT_EQ(append("b"), 0U);
}

// Defect of predecessors: a record that fits no empty segment rotated for ever.
TEST_F(ShardTest, refuses_what_no_empty_segment_takes) {
  auto options = small_options();
  options.payload_max_bytes = 1U << 20;
  open(options);
  EXPECT_EQ(shard->entry_bytes_max(), kSegmentBytesMin - kRecordHeaderBytes);
  EXPECT_FALSE(shard->append(Entry{.payload = bytes_of(std::string(kSegmentBytesMin - 39, 'x'))}));
  append_bytes(kSegmentBytesMin - 40);
  append_bytes(kSegmentBytesMin - 40);
  EXPECT_EQ(shard->segment_count(), 2U);
  EXPECT_EQ(read_all().size(), 2U);
}

TEST_F(ShardTest, appends_a_batch_with_consecutive_numbers) {
  open();
  append("first");
  const Entry batch[]{{.payload = bytes_of("a"), .stream = 1}, {.payload = bytes_of("b"), .key = bytes_of("k"), .stream = 2}};
  const auto appended = shard->append(batch);
  ASSERT_TRUE(appended);
  EXPECT_EQ(appended->first_entry, 1U);
  EXPECT_EQ(appended->count, 2U);
  EXPECT_EQ(appended->end_position, shard->end_position());
  EXPECT_EQ(shard->append(std::span<const Entry>{})->count, 0U);
  EXPECT_EQ(read_all(), (Lines{"0:first", "1:a", "2:b"}));
}

TEST_F(ShardTest, keeps_a_batch_in_one_segment_when_it_fits_one) {
  open();
  append_bytes(20000);
  append_bytes(20000);
  const std::string half(15000, 'y');
  const Entry batch[]{{.payload = bytes_of(half)}, {.payload = bytes_of(half)}};
  ASSERT_TRUE(shard->append(batch));
  EXPECT_EQ(shard->segment_count(), 2U);
  EXPECT_EQ(read_all().size(), 4U);
}

TEST_F(ShardTest, splits_a_batch_that_no_segment_takes_without_a_gap) {
  open();
  const std::string part(30000, 'y');
  const std::vector<Entry> batch(9, Entry{.payload = bytes_of(part)});
  ASSERT_TRUE(shard->append(batch));
  EXPECT_EQ(shard->segment_count(), 5U);
  EXPECT_EQ(read_all().size(), 9U);
  EXPECT_EQ(shard->next_entry(), 9U);
}

TEST_F(ShardTest, rotates_when_a_segment_is_full_and_positions_go_on) {
  open();
  for (int i = 0; i < 10; ++i) append_bytes(30000);
  EXPECT_EQ(shard->segment_count(), 5U);
  auto reader = Reader::open(files, kDirectory, {.is_uncommitted = true});
  std::uint64_t last = 0;
  for (std::uint64_t i = 0; i < 10; ++i) {
    const auto read = reader->next();
    ASSERT_EQ(read->status, ReadStatus::kRecord);
    EXPECT_EQ(read->record.entry(), i);
    EXPECT_GE(read->record.position, last);
    EXPECT_EQ(read->record.position, i / 2 * kSegmentBytesMin + i % 2 * record_span(30000));
    last = read->record.position + record_span(30000);
  }
}

TEST_F(ShardTest, rotates_on_demand_but_not_an_empty_segment) {
  open();
  ASSERT_TRUE(shard->rotate());
  EXPECT_EQ(shard->segment_count(), 1U);
  append("a");
  ASSERT_TRUE(shard->rotate());
  ASSERT_TRUE(shard->rotate());
  append("b");
  EXPECT_EQ(shard->segment_count(), 2U);
  EXPECT_EQ(read_all(), (Lines{"0:a", "1:b"}));
}

TEST_F(ShardTest, closes_a_segment_that_is_too_old) {
  auto options = small_options();
  options.segment_age_max_ns = kSecond_ns;
  open(options);
  append("a");
  ASSERT_TRUE(shard->maintain());
  EXPECT_EQ(shard->segment_count(), 1U);
  clock.advance(kSecond_ns);
  ASSERT_TRUE(shard->maintain());
  EXPECT_EQ(shard->segment_count(), 2U);
}

TEST_F(ShardTest, at_its_limit_of_segments_stays_readable_and_takes_what_fits) {
  auto options = small_options();
  options.segments_max = 1;
  open(options);
  append_bytes(30000);
  append_bytes(30000);
  EXPECT_EQ(shard->append(Entry{.payload = bytes_of(std::string(30000, 'x'))}).error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(append("small"), 2U);
  EXPECT_EQ(read_all().size(), 3U);
}

TEST_F(ShardTest, on_a_full_disk_stays_usable_and_goes_on_when_there_is_space) {
  open();
  append_bytes(30000);
  append_bytes(30000);
  files.set_space(1000);
  EXPECT_EQ(shard->append(Entry{.payload = bytes_of(std::string(30000, 'x'))}).error().code, ErrorCode::kNoSpace);
  EXPECT_EQ(append("small"), 2U);
  files.set_space(UINT64_MAX);
  EXPECT_EQ(append_bytes(30000), 3U);
  EXPECT_EQ(read_all().size(), 4U);
  for (const std::string& path : files.paths()) EXPECT_FALSE(path.ends_with(".tmp")) << path;
}

TEST_F(ShardTest, clamps_timestamps_so_that_they_never_fall) {
  open();
  const auto at = [&](std::optional<std::int64_t> time) { ASSERT_TRUE(shard->append(Entry{.payload = bytes_of("t"), .timestamp_ns = time})); };
  at(100);
  at(50);
  at(200);
  at(std::nullopt);
  clock.epoch -= 3600 * kSecond_ns;  // somebody sets the clock back
  at(std::nullopt);
  auto reader = Reader::open(files, kDirectory, {.is_uncommitted = true});
  std::vector<std::int64_t> times;
  for (int i = 0; i < 5; ++i) times.push_back(reader->next()->record.header.timestamp_ns);
  EXPECT_EQ(times, (std::vector<std::int64_t>{100, 100, 200, 1'700'000'000 * kSecond_ns, 1'700'000'000 * kSecond_ns}));
  reopen();
  at(std::nullopt);
  EXPECT_EQ(reader->next()->record.header.timestamp_ns, 1'700'000'000 * kSecond_ns);
}

TEST_F(ShardTest, goes_on_in_the_same_segment_after_reopening) {
  open();
  append("a");
  reopen();
  EXPECT_EQ(append("b"), 1U);
  EXPECT_EQ(shard->segment_count(), 1U);
  EXPECT_EQ(read_all(), (Lines{"0:a", "1:b"}));
}

TEST_F(ShardTest, belongs_to_one_writer_at_a_time) {
  open();
  const auto second = Shard::open(files, clock, kDirectory, small_options());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kInUse);
}

TEST_F(ShardTest, takes_nothing_after_close) {
  open();
  append("a");
  ASSERT_TRUE(shard->close());
  EXPECT_EQ(shard->append(Entry{}).error().code, ErrorCode::kClosed);
  EXPECT_EQ(shard->sync().error().code, ErrorCode::kClosed);
  EXPECT_TRUE(shard->close());
}

TEST_F(ShardTest, refuses_options_out_of_range) {
  for (const auto& change : std::vector<void (*)(ShardOptions&)>{
           [](ShardOptions& o) { o.segment_bytes = 65537; }, [](ShardOptions& o) { o.segment_bytes = 32768; }, [](ShardOptions& o) { o.segment_bytes = 2ULL << 30; },
           [](ShardOptions& o) { o.payload_max_bytes = 0; }, [](ShardOptions& o) { o.payload_max_bytes = (128U << 20) + 1; },
           [](ShardOptions& o) { o.segment_age_max_ns = -1; }, [](ShardOptions& o) { o.sync = SyncPolicy::kPeriodic, o.sync_interval_ns = 0; },
           [](ShardOptions& o) { o.sync = SyncPolicy::kEveryEntries, o.sync_every_entries = 0; },
           [](ShardOptions& o) { o.sync = SyncPolicy::kEveryBytes, o.sync_every_bytes = 0; }}) {
    auto options = small_options();
    change(options);
    EXPECT_EQ(Shard::open(files, clock, kDirectory, options).error().code, ErrorCode::kInvalidArgument);
  }
}

// What is durable after three appends of 100 bytes by each policy, after maintain(), and after a second has passed and maintain().
struct PolicyCase {
  SyncPolicy policy;
  std::uint64_t after_appends;
  std::uint64_t after_time;
  std::uint64_t after_rotation;
};
class Policy : public ShardTest, public testing::WithParamInterface<PolicyCase> {};
TEST_P(Policy, says_when_entries_are_durable) {
  auto options = small_options(GetParam().policy);
  options.sync_every_entries = 2;
  options.sync_every_bytes = 250;
  open(options);
  for (int i = 0; i < 3; ++i) append_bytes(100);
  ASSERT_TRUE(shard->maintain());
  EXPECT_EQ(shard->durable_entry(), GetParam().after_appends);
  clock.advance(kSecond_ns);
  ASSERT_TRUE(shard->maintain());
  EXPECT_EQ(shard->durable_entry(), GetParam().after_time);
  ASSERT_TRUE(shard->rotate());
  EXPECT_EQ(shard->durable_entry(), GetParam().after_rotation);
  EXPECT_EQ(read_all({}).size(), GetParam().after_rotation) << "readers see durable entries only";
  ASSERT_TRUE(shard->sync());
  EXPECT_EQ(shard->durable_entry(), 3U);
  EXPECT_EQ(read_all({}).size(), 3U);
}
INSTANTIATE_TEST_SUITE_P(Spec, Policy,
                         testing::Values(PolicyCase{SyncPolicy::kNone, 0, 0, 0}, PolicyCase{SyncPolicy::kPeriodic, 0, 3, 3}, PolicyCase{SyncPolicy::kEverySegment, 0, 0, 3},
                                         PolicyCase{SyncPolicy::kEveryEntries, 2, 2, 3}, PolicyCase{SyncPolicy::kEveryBytes, 2, 2, 3},
                                         PolicyCase{SyncPolicy::kEveryBatch, 3, 3, 3}, PolicyCase{SyncPolicy::kExplicit, 0, 0, 0}));

TEST_F(ShardTest, says_whether_an_append_is_durable) {
  open(small_options(SyncPolicy::kEveryBatch));
  EXPECT_TRUE(shard->append(Entry{.payload = bytes_of("a")})->is_durable);
  reopen(small_options(SyncPolicy::kEverySegment));
  EXPECT_FALSE(shard->append(Entry{.payload = bytes_of("b")})->is_durable);
}

TEST_F(ShardTest, takes_nothing_after_a_failed_sync) {
  open();
  append("a");
  files.fail_at(files.steps() + 1, ErrorCode::kIo);
  EXPECT_EQ(shard->sync().error().code, ErrorCode::kIo);
  EXPECT_FALSE(shard->append(Entry{.payload = bytes_of("b")}));
  EXPECT_FALSE(shard->sync()) << "a second sync could lie: the kernel forgets failed pages";
  EXPECT_EQ(shard->durable_entry(), 0U);
}

TEST_F(ShardTest, of_a_large_synced_batch_whose_writing_failed_shows_nothing_and_takes_nothing_more) {
  open(small_options(SyncPolicy::kEveryBatch));
  append("a");
  const std::string large(20000, 'x');
  files.fail_at(files.steps() + 1, ErrorCode::kIo);
  const auto failed = shard->append(Entry{.payload = bytes_of(large)});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
  EXPECT_EQ(shard->next_entry(), 1U);
  EXPECT_FALSE(shard->append(Entry{.payload = bytes_of("b")})) << "half of a batch may lie where only zeros may";
  reopen(small_options(SyncPolicy::kEveryBatch));
  EXPECT_TRUE(shard->append(Entry{.payload = bytes_of(large)})->is_durable);
  EXPECT_EQ(read_all({}).size(), 2U);
}

TEST_F(ShardTest, deletes_its_oldest_closed_segments_and_never_the_active_one) {
  open();
  for (int i = 0; i < 6; ++i) append_bytes(30000);
  ASSERT_TRUE(shard->sync());
  EXPECT_EQ(shard->delete_oldest(0), 0U);
  EXPECT_EQ(shard->delete_oldest(1), kDataOffset + kSegmentBytesMin);
  EXPECT_EQ(shard->first_entry(), 2U);
  EXPECT_FALSE(files.exists(path_of(0)));
  EXPECT_FALSE(files.exists(std::string{kDirectory} + "/" + index_name(0)));
  auto options = ReaderOptions{};
  EXPECT_EQ(read_all(options).front(), "gap 0-2") << "nobody is moved without being told";
  ASSERT_TRUE(shard->delete_oldest(100));
  EXPECT_EQ(shard->segment_count(), 1U);
  reopen();
  EXPECT_EQ(shard->first_entry(), 4U);
  EXPECT_EQ(append("on"), 6U);
}

TEST_F(ShardTest, tries_again_to_remove_what_could_not_be_removed) {
  open();
  for (int i = 0; i < 4; ++i) append_bytes(30000);
  ASSERT_TRUE(shard->sync());
  files.fail_at(files.steps() + 1, ErrorCode::kIo);
  EXPECT_FALSE(shard->delete_oldest(1));
  EXPECT_EQ(shard->first_entry(), 2U);
  EXPECT_TRUE(files.exists(path_of(0)));
  EXPECT_TRUE(shard->delete_oldest(0));
  EXPECT_FALSE(files.exists(path_of(0)));
}

TEST_F(ShardTest, tells_retention_what_it_has) {
  open();
  append_bytes(30000);
  append_bytes(30000);
  clock.advance(kSecond_ns);
  append_bytes(30000);
  const Shard::EntryRange pinned[]{{1, 2}};
  const RetentionShard state = shard->retention_state(1, pinned).value();
  ASSERT_EQ(state.closed.size(), 1U);
  EXPECT_EQ(state.closed[0].end_entry, 2U);
  EXPECT_EQ(state.closed[0].newest_ns, clock.epoch - kSecond_ns);
  EXPECT_EQ(state.closed[0].closed_ns, clock.epoch);
  EXPECT_TRUE(state.closed[0].is_pinned);
  EXPECT_FALSE(shard->retention_state(1)->closed[0].is_pinned);
}

TEST_F(ShardTest, goes_on_when_a_seal_cannot_be_written) {
  open();
  append("a");
  files.fail_at(files.steps() + 7, ErrorCode::kIo);  // behind all steps that give the next segment its name
  ASSERT_TRUE(shard->rotate());
  EXPECT_EQ(shard->statistics()[Statistic::kSealErrors], 1U);
  EXPECT_EQ(append("b"), 1U);
  reopen();
  EXPECT_EQ(append("c"), 2U);
  EXPECT_EQ(read_all(), (Lines{"0:a", "1:b", "2:c"}));
}

TEST(Shard, that_is_never_synced_keeps_few_files_open) {
  const auto files = make_plain_file_system();
  const SystemClock clock;
  const test::TemporaryDirectory directory;
  auto shard = Shard::open(*files, clock, directory.file("shard"), small_options(SyncPolicy::kNone));
  ASSERT_TRUE(shard) << shard.error().message;
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE((*shard)->append(Entry{.payload = bytes_of("x")}));
    ASSERT_TRUE((*shard)->rotate());
  }
  const auto open_files = files->list("/proc/self/fd");
  ASSERT_TRUE(open_files);
  EXPECT_LT(open_files->size(), 30U);
  ASSERT_TRUE((*shard)->sync());
  EXPECT_EQ((*shard)->durable_entry(), 40U);
}

// Appenders on several threads that all want durability share flushes: fewer than appends.
TEST(GroupCommit, shares_one_flush_among_many_appenders) {
  const auto files = make_plain_file_system();
  class SlowSync final : public FileSystem {
   public:
    explicit SlowSync(FileSystem& to) : to_{to} {}
    Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override { return to_.open(path, mode); }
    Result<void> create_directory(const std::string& path) override { return to_.create_directory(path); }
    Result<std::vector<std::string>> list(const std::string& directory) override { return to_.list(directory); }
    Result<void> rename(const std::string& from, const std::string& to) override { return to_.rename(from, to); }
    Result<void> remove(const std::string& path) override { return to_.remove(path); }
    Result<void> sync_directory(const std::string& path) override { return to_.sync_directory(path); }
    Result<Space> space(const std::string& path) override { return to_.space(path); }
    Result<void> sync_all(std::span<File* const> group) override {
      ++flushes;
      while (!may_go.load()) std::this_thread::yield();
      return to_.sync_all(group);
    }
    int flushes{0};
    std::atomic<bool> may_go{true};

   private:
    FileSystem& to_;
  };
  SlowSync slow{*files};
  const SystemClock clock;
  const test::TemporaryDirectory directory;
  auto shard = Shard::open(slow, clock, directory.file("shard"), small_options(SyncPolicy::kEveryBatch));
  ASSERT_TRUE(shard) << shard.error().message;
  slow.may_go = false;  // the first flush lasts until all have appended
  slow.flushes = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back([&] { EXPECT_TRUE((*shard)->append(Entry{.payload = bytes_of("x")})->is_durable); });
  while ((*shard)->next_entry() < 8) std::this_thread::yield();
  slow.may_go = true;
  for (auto& thread : threads) thread.join();
  EXPECT_LE(slow.flushes, 2);
  EXPECT_EQ((*shard)->durable_entry(), 8U);
}

}  // namespace
}  // namespace thalweg::log
