// Starting a segment holds nobody up: no append waits for an allocation or a flush of the disk that maintain() can do, and none of another writer's.
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "controlplane/log/frame_log.hpp"
#include "controlplane/log/plain_file_system.hpp"
#include "controlplane/log/shared_shard.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

// Real files. Notes who waits for the disk, and lets a test hold one kind of that up.
class WatchedFiles final : public PlainFileSystem {
 public:
  void note(const std::string& what) {
    std::unique_lock lock{mutex_};
    noted_.push_back(what);
    if (what != held_up_) return;
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return held_up_.empty(); });
    --waiting_;
  }
  std::vector<std::string> take() {
    const std::lock_guard guard{mutex_};
    return std::exchange(noted_, {});
  }
  void hold_up(const std::string& what) {
    const std::lock_guard guard{mutex_};
    held_up_ = what;
  }
  void wait_for_one() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return waiting_ > 0; });
  }
  void let_go() {
    hold_up({});
    changed_.notify_all();
  }
  Result<void> sync_directory(const std::string& path) override {
    note("sync directory");
    return PlainFileSystem::sync_directory(path);
  }

 private:
  class WatchedFile final : public PlainFile {
   public:
    WatchedFile(WatchedFiles& files, int fd, const std::string& path, bool is_writable) : PlainFile{fd, path, is_writable}, files_{files} {}
    Result<void> allocate(std::uint64_t bytes) override {
      files_.note("allocate");
      return PlainFile::allocate(bytes);
    }
    Result<void> sync() override {
      files_.note("sync");
      return PlainFile::sync();
    }

   private:
    WatchedFiles& files_;
  };
  std::unique_ptr<File> make_file(int fd, const std::string& path, bool is_writable) override { return std::make_unique<WatchedFile>(*this, fd, path, is_writable); }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> noted_;
  std::string held_up_;
  int waiting_{0};
};

class RotationTest : public testing::Test {
 protected:
  template <typename Log>
  std::unique_ptr<Log> open(SyncPolicy policy) {
    auto opened = Log::open(files, clock, directory.file("shard"), small_options(policy));
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? std::move(*opened) : nullptr;
  }
  template <typename Log>
  static std::uint64_t append(Log& log, std::size_t bytes) {
    const std::string text(bytes, 'x');
    const auto appended = log.append(Entry{.payload = bytes_of(text)});
    EXPECT_TRUE(appended) << appended.error().message;
    return appended ? appended->first_entry : UINT64_MAX;
  }
  // Numbers a reader of accepted entries finds, from the first one on and without a gap.
  std::uint64_t count() {
    auto reader = Reader::open(files, directory.file("shard"), {.is_uncommitted = true});
    std::uint64_t found = 0;
    for (auto read = reader->next(); read && read->status == ReadStatus::kRecord && read->record.entry() == found; read = reader->next()) ++found;
    return found;
  }

  test::TemporaryDirectory directory;
  WatchedFiles files;
  SystemClock clock;
};

template <typename Log>
class RotationOf : public RotationTest {};
using Logs = testing::Types<Shard, SharedShard>;
TYPED_TEST_SUITE(RotationOf, Logs);

TYPED_TEST(RotationOf, neither_allocates_nor_syncs_in_an_append_when_maintain_is_called) {
  for (const SyncPolicy policy : {SyncPolicy::kNone, SyncPolicy::kEverySegment, SyncPolicy::kPeriodic, SyncPolicy::kExplicit}) {
    const std::string name = "shard-" + std::to_string(static_cast<int>(policy));
    auto log = TypeParam::open(this->files, this->clock, this->directory.file(name), small_options(policy)).value();
    ASSERT_TRUE(log->maintain());
    for (int i = 0; i < 12; ++i) {
      this->files.take();
      this->append(*log, 20'000);
      EXPECT_EQ(this->files.take(), std::vector<std::string>{}) << "append " << i << ", policy " << static_cast<int>(policy);
      ASSERT_TRUE(log->maintain());
    }
    EXPECT_GE(log->statistics()[Statistic::kRotations], 3U);
    ASSERT_TRUE(log->close());
    EXPECT_EQ(read_catalog(this->files, this->directory.file(name))->entries().size(), log->statistics()[Statistic::kRotations] + 1);
  }
}

TYPED_TEST(RotationOf, is_done_by_who_appends_when_maintain_is_not_called) {
  auto log = this->template open<TypeParam>(SyncPolicy::kEverySegment);
  for (int i = 0; i < 4; ++i) this->append(*log, 20'000);
  EXPECT_GE(log->durable_entry(), 3U) << "the full segment";
  const auto info = read_segment_info(this->files, this->directory.file("shard"), 0);
  ASSERT_TRUE(info->seal);
  EXPECT_EQ(info->seal->is_data_synced, 1U);
  EXPECT_EQ(info->seal->summary.record_count, 3U);
}

TYPED_TEST(RotationOf, syncs_while_others_append) {
  auto log = this->template open<TypeParam>(SyncPolicy::kEverySegment);
  for (int i = 0; i < 3; ++i) this->append(*log, 20'000);
  this->files.hold_up("sync directory");
  std::thread one{[&] { this->append(*log, 20'000); }};
  this->files.wait_for_one();
  for (int i = 0; i < 3; ++i) this->append(*log, 1000);
  EXPECT_EQ(this->count(), 7U);
  EXPECT_EQ(log->durable_entry(), 0U) << "nothing that is still on its way";
  this->files.let_go();
  one.join();
  EXPECT_GE(log->durable_entry(), 3U);
}

TEST_F(RotationTest, allocates_while_others_append_what_still_fits) {
  const auto log = open<Shard>(SyncPolicy::kNone);
  for (int i = 0; i < 3; ++i) append(*log, 20'000);
  files.hold_up("allocate");
  std::thread one{[&] { append(*log, 20'000); }};
  files.wait_for_one();
  append(*log, 1000);
  EXPECT_EQ(count(), 4U);
  EXPECT_EQ(log->segment_count(), 1U);
  files.let_go();
  one.join();
  EXPECT_EQ(count(), 5U);
  EXPECT_EQ(log->segment_count(), 2U);
}

// The next segment is made by one of them, whoever asks for it, and close() leaves nothing half made.
TYPED_TEST(RotationOf, by_many_threads_at_once_loses_and_doubles_nothing) {
  constexpr int kThreads = 3;
  constexpr int kAppends = 300;
  std::set<std::uint64_t> numbers;
  {
    auto log = this->template open<TypeParam>(SyncPolicy::kPeriodic);
    std::mutex mutex;
    std::vector<std::thread> threads;
    std::atomic<int> at_work{kThreads};
    for (int t = 0; t < kThreads; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < kAppends; ++i) {
          const std::uint64_t number = this->append(*log, 900);
          const std::lock_guard guard{mutex};
          EXPECT_TRUE(numbers.insert(number).second) << number;
        }
        --at_work;
      });
    while (at_work > 0) {
      EXPECT_TRUE(log->maintain());
      std::this_thread::yield();
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_GT(log->statistics()[Statistic::kRotations], 10U);
  }
  EXPECT_EQ(numbers.size(), kThreads * kAppends);
  EXPECT_EQ(*numbers.rbegin(), kThreads * kAppends - 1U);
  EXPECT_EQ(this->count(), kThreads * kAppends);
}

TYPED_TEST(RotationOf, goes_on_when_what_was_made_ahead_is_not_there_any_more) {
  auto log = this->template open<TypeParam>(SyncPolicy::kNone);
  for (int i = 0; i < 3; ++i) this->append(*log, 20'000);
  ASSERT_TRUE(log->maintain());
  ASSERT_TRUE(this->files.remove(temporary_path(this->directory.file("shard"), 1)));
  const std::string text(20'000, 'x');
  static_cast<void>(log->append(Entry{.payload = bytes_of(text)}));  // may be refused, once
  this->append(*log, 20'000);
  EXPECT_EQ(this->count(), log->next_entry());
}

// Power went before anything of a segment was synced that had been taken into use: its file has the header that it was made with.
TEST_F(ShardTest, forgets_a_segment_of_which_nothing_was_ever_synced) {
  open(small_options(SyncPolicy::kEverySegment));
  append_bytes(30'000);
  append_bytes(30'000);
  ASSERT_TRUE(shard->maintain());
  auto made = files.content(temporary_path(kDirectory, 1));
  append_bytes(30'000);
  ASSERT_TRUE(shard->maintain());
  append("never synced");
  files.kill_all();
  shard.reset();
  const auto written = files.content(path_of(1));
  const std::string garbage = "what is left of a record that was written in part";
  std::copy_n(bytes_of(garbage).begin(), garbage.size(), made.begin() + kDataOffset + 60'000);
  files.set_content(path_of(1), made);
  // The page is as it was before as well.
  auto page = files.content(coordination_path());
  const std::uint64_t before[]{2, kSegmentBytesMin};
  std::memcpy(page.data() + offsetof(CoordinationPage, durable), before, sizeof before);
  files.set_content(coordination_path(), page);
  open();
  EXPECT_EQ(shard->recovery().set_aside, std::vector<std::string>{});
  EXPECT_EQ(shard->next_entry(), 2U);
  EXPECT_EQ(append("next"), 2U);

  // Its records were written, its header not: they count.
  shard.reset();
  made = files.content(path_of(0));
  std::copy(written.begin() + kDataOffset, written.end(), made.begin() + kDataOffset);
  SegmentHeader header = decode_header(std::span{written}.first(kPageBytes), "").value();
  header.base_entry = kBaseNotKnown;
  const Page ahead = encode(header);
  std::copy(ahead.begin(), ahead.end(), made.begin());
  std::fill_n(made.begin() + kSealOffset, kPageBytes, std::byte{0});
  files.set_content(path_of(1), made);
  open();
  EXPECT_EQ(shard->recovery().segments_mended, 1U);
  EXPECT_EQ(shard->next_entry(), 4U);
}

}  // namespace
}  // namespace thalweg::log
