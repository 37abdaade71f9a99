#include "controlplane/log/file_system.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "controlplane/log/reader.hpp"
#include "controlplane/log/shard.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

struct Implementation {
  const char* name;
  std::function<std::unique_ptr<FileSystem>()> make;
};
void PrintTo(const Implementation& implementation, std::ostream* out) { *out << implementation.name; }

// Both implementations mean the same. Where the kernel forbids io_uring its half is the plain one.
class Files : public testing::TestWithParam<Implementation> {
 protected:
  test::TemporaryDirectory directory_;
  std::unique_ptr<FileSystem> files_{GetParam().make()};
};

TEST_P(Files, are_read_back_as_they_were_written) {
  auto file = files_->open(directory_.file("a"), OpenMode::kCreateNew);
  ASSERT_TRUE(file) << file.error().message;
  std::vector<std::byte> content((3U << 20) + 17);
  Random random{1};
  for (auto& byte : content) byte = static_cast<std::byte>(random.next());
  ASSERT_TRUE((*file)->write_at(content, 5));
  ASSERT_TRUE((*file)->sync());
  EXPECT_EQ((*file)->size(), content.size() + 5);
  std::vector<std::byte> back(content.size() + 100);
  EXPECT_EQ((*file)->read_at(back, 5), content.size()) << "short at the end of the file";
  back.resize(content.size());
  EXPECT_EQ(back, content);
  EXPECT_EQ((*file)->read_at(back, 1U << 30), 0U);
}

TEST_P(Files, are_opened_by_mode) {
  const std::string path = directory_.file("a");
  EXPECT_EQ(files_->open(path, OpenMode::kRead).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(files_->open(path, OpenMode::kWrite).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(files_->open(path, OpenMode::kCreateNew));
  EXPECT_EQ(files_->open(path, OpenMode::kCreateNew).error().code, ErrorCode::kInUse);
  EXPECT_TRUE(files_->open(path, OpenMode::kCreate));
  auto reading = files_->open(path, OpenMode::kRead);
  EXPECT_FALSE((*reading)->write_at(bytes_of("x"), 0));
}

TEST_P(Files, are_seen_through_mappings_both_ways) {
  auto file = files_->open(directory_.file("a"), OpenMode::kCreateNew);
  ASSERT_TRUE((*file)->allocate(8192));
  auto mapping = (*file)->map(8192);
  ASSERT_TRUE(mapping);
  (*mapping)->populate(0, 8192);
  ASSERT_TRUE((*file)->write_at(bytes_of("hello"), 4096));
  EXPECT_EQ(std::memcmp((*mapping)->bytes().data() + 4096, "hello", 5), 0);
  (*mapping)->bytes()[0] = std::byte{'x'};
  std::byte first[1];
  ASSERT_EQ((*file)->read_at(first, 0), 1U);
  EXPECT_EQ(first[0], std::byte{'x'});
  EXPECT_FALSE((*file)->map(8193)) << "beyond the file is no memory";
  ASSERT_TRUE(files_->remove(directory_.file("a")));
  file->reset();
  EXPECT_EQ((*mapping)->bytes()[4096], std::byte{'h'}) << "a mapping outlives its file";
}

TEST_P(Files, tell_where_data_may_be) {
  auto file = files_->open(directory_.file("a"), OpenMode::kCreateNew);
  ASSERT_TRUE((*file)->allocate(1U << 20));
  ASSERT_TRUE((*file)->write_at(bytes_of("x"), 512 << 10));
  const auto data = (*file)->next_data(0);
  ASSERT_TRUE(data && *data);
  EXPECT_LE(**data, 512U << 10);
  EXPECT_EQ((*file)->next_data(1U << 20), std::nullopt);
}

TEST_P(Files, have_locks_that_end_with_them) {
  auto first = files_->open(directory_.file("a"), OpenMode::kCreate);
  auto second = files_->open(directory_.file("a"), OpenMode::kCreate);
  EXPECT_EQ((*first)->try_lock(3, 1), true);
  EXPECT_EQ((*second)->try_lock(0, 32), false);
  EXPECT_EQ((*second)->try_lock(4, 1), true);
  EXPECT_EQ((*second)->is_locked(3, 1), true);
  EXPECT_EQ((*second)->is_locked(0, 3), false);
  (*first)->unlock(3, 1);
  EXPECT_EQ((*second)->is_locked(3, 1), false);
  EXPECT_EQ((*first)->try_lock(3, 1), true);
  first->reset();
  EXPECT_EQ((*second)->try_lock(0, 32), true);
}

TEST_P(Files, have_names) {
  ASSERT_TRUE(files_->create_directory(directory_.file("x/y/z")));
  ASSERT_TRUE(files_->create_directory(directory_.file("x/y/z")));
  ASSERT_TRUE(files_->open(directory_.file("x/b"), OpenMode::kCreate));
  ASSERT_TRUE(files_->rename(directory_.file("x/b"), directory_.file("x/a")));
  EXPECT_EQ(files_->list(directory_.file("x")).value(), (std::vector<std::string>{"a", "y"}));
  EXPECT_TRUE(files_->sync_directory(directory_.file("x")));
  ASSERT_TRUE(files_->remove(directory_.file("x/a")));
  EXPECT_EQ(files_->remove(directory_.file("x/a")).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(files_->list(directory_.file("nowhere")).error().code, ErrorCode::kNotFound);
  EXPECT_GT(files_->space(directory_.path())->total_bytes, 0U);
}

TEST_P(Files, are_synced_together) {
  auto a = files_->open(directory_.file("a"), OpenMode::kCreate);
  auto b = files_->open(directory_.file("b"), OpenMode::kCreate);
  File* both[]{a->get(), b->get()};
  EXPECT_TRUE(files_->sync_all(both));
  EXPECT_TRUE(files_->sync_all({}));
}

TEST_P(Files, are_replaced_whole) {
  ASSERT_TRUE(write_file_atomically(*files_, directory_.file("a"), bytes_of("one")));
  ASSERT_TRUE(write_file_atomically(*files_, directory_.file("a"), bytes_of("two")));
  EXPECT_EQ(text_of(*read_file(*files_, directory_.file("a"), 100)), "two");
  EXPECT_FALSE(read_file(*files_, directory_.file("a"), 2));
  EXPECT_EQ(files_->list(directory_.path())->size(), 1U);
}

TEST_P(Files, carry_a_shard_that_another_reader_follows) {
  const SystemClock clock;
  auto shard = Shard::open(*files_, clock, directory_.file("shard"), small_options(SyncPolicy::kEveryEntries));
  ASSERT_TRUE(shard) << shard.error().message;
  auto reader = Reader::open(*files_, directory_.file("shard"), {.is_uncommitted = true});
  ASSERT_TRUE(reader);
  const std::string payload(1000, 'p');
  for (std::uint64_t i = 0; i < 500; ++i) {
    ASSERT_TRUE((*shard)->append(Entry{.payload = bytes_of(payload)}));
    const auto read = reader->next();
    ASSERT_TRUE(read && read->status == ReadStatus::kRecord) << i;
    EXPECT_EQ(read->record.entry(), i);
    if (i % 100 == 50) {
      ASSERT_TRUE((*shard)->maintain());
    }
  }
  EXPECT_EQ(reader->next()->status, ReadStatus::kEnd);
  shard->reset();
  shard = Shard::open(*files_, clock, directory_.file("shard"), small_options());
  ASSERT_TRUE(shard);
  EXPECT_EQ((*shard)->next_entry(), 500U);
  EXPECT_EQ((*shard)->recovery().bytes_scanned, 0U) << "closed cleanly: the checkpoint is the end";
}

TEST_P(Files, in_a_read_only_directory_are_an_error_with_the_path) {
  const SystemClock clock;
  const auto shard = Shard::open(*files_, clock, "/proc/thalweg/shard", small_options());
  ASSERT_FALSE(shard);
  EXPECT_NE(shard.error().message.find("/proc/thalweg"), std::string::npos) << shard.error().message;
}

INSTANTIATE_TEST_SUITE_P(Both, Files, testing::Values(Implementation{"plain", make_plain_file_system}, Implementation{"best", make_file_system}));

}  // namespace
}  // namespace thalweg::log
