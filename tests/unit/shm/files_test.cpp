// Files of an instance directory: mapped_file.hpp, cnc.hpp.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/ring_buffer.hpp"
#include "tests/support/hex.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg::shm {
namespace {

using Access = MappedFile::Access;
using test::TemporaryDirectory;

std::uint64_t allocated_bytes(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? static_cast<std::uint64_t>(status.st_blocks) * 512 : 0;
}

TEST(MappedFile, is_created_zero_filled_and_really_allocated) {
  const TemporaryDirectory directory;
  auto file = MappedFile::create(directory.file("a"), {.length = 1 << 20, .populate = true});
  ASSERT_TRUE(file);
  EXPECT_EQ(file->length(), 1U << 20);
  EXPECT_TRUE(std::all_of(file->data(), file->data() + file->length(), [](std::byte b) { return b == std::byte{}; }));
  EXPECT_GE(allocated_bytes(file->path()), 1U << 20);
  auto sparse = MappedFile::create(directory.file("b"), {.length = 1 << 20, .allocate = false});
  EXPECT_EQ(allocated_bytes(sparse->path()), 0U);
  auto half = MappedFile::create(directory.file("c"), {.length = 1 << 20, .allocate_bytes = 1 << 19});
  EXPECT_EQ(allocated_bytes(half->path()), 1U << 19);
}

TEST(MappedFile, is_allocated_populated_and_unmapped_in_steps) {
  const TemporaryDirectory directory;
  constexpr std::uint64_t kLength = 8U << 20;
  auto file = MappedFile::create(directory.file("a"), {.length = kLength, .allocate_bytes = kLength / 2});
  ASSERT_TRUE(file);
  EXPECT_EQ(allocated_bytes(file->path()), kLength / 2);
  ASSERT_TRUE(MappedFile::allocate(file->path(), kLength / 2, kLength / 2));
  EXPECT_EQ(allocated_bytes(file->path()), kLength);
  file->populate(0, kLength / 2);
  file->populate(kLength / 2, kLength);       // ends with the file
  file->populate(2 * kLength, kLength);       // nothing is there
  file->data()[0] = std::byte{1};
  EXPECT_FALSE(file->shrink(kLength / 2));
  EXPECT_EQ(file->length(), kLength / 2);
  EXPECT_EQ(file->data()[0], std::byte{1}) << "the rest is as it was";
  EXPECT_TRUE(file->shrink(kLength));
  EXPECT_EQ(file->data(), nullptr);
  EXPECT_EQ(MappedFile::allocate(directory.file("none"), 0, 1).error().code, ErrorCode::kNotFound);
}

TEST(MappedFile, writes_are_seen_by_every_mapping_and_survive_them) {
  const TemporaryDirectory directory;
  {
    auto file = MappedFile::create(directory.file("a"), {.length = 4096});
    auto other = MappedFile::open(directory.file("a"), Access::kReadOnly);
    ASSERT_TRUE(file && other);
    file->data()[17] = std::byte{5};
    EXPECT_EQ(other->data()[17], std::byte{5});
    EXPECT_FALSE(MappedFile::create(directory.file("a"), {.length = 4096}));
  }
  EXPECT_EQ(MappedFile::open(directory.file("a"), Access::kReadWrite)->data()[17], std::byte{5});
}

TEST(MappedFile, failures_have_their_code_and_leave_nothing_behind) {
  const TemporaryDirectory directory;
  EXPECT_EQ(MappedFile::open(directory.file("none"), Access::kReadOnly).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(MappedFile::open(directory.path(), Access::kReadOnly).error().code, ErrorCode::kIo) << "a directory";
  ASSERT_TRUE(MappedFile::create(directory.file("a"), {.length = 1}));
  EXPECT_EQ(MappedFile::create(directory.file("a"), {.length = 1}).error().code, ErrorCode::kInUse);
  const auto too_big = MappedFile::create(directory.file("big"), {.length = 1ULL << 50});
  ASSERT_FALSE(too_big);
  EXPECT_EQ(too_big.error().code, ErrorCode::kNoSpace);
  EXPECT_NE(too_big.error().hint.find("needs 1048576GiB"), std::string::npos) << too_big.error().hint;
  EXPECT_FALSE(std::filesystem::exists(directory.file("big")));
  EXPECT_TRUE(MappedFile::create(directory.file("empty"), {.length = 0}));
  EXPECT_EQ(MappedFile::open(directory.file("empty"), Access::kReadOnly)->length(), 0U);
}

TEST(MappedFile, moving_and_releasing_hand_the_mapping_on) {
  const TemporaryDirectory directory;
  auto file = MappedFile::create(directory.file("a"), {.length = 4096});
  MappedFile moved = std::move(*file);
  EXPECT_EQ(file->data(), nullptr);
  MappedFile assigned;
  assigned = std::move(moved);
  std::byte* const data = assigned.release();
  assigned.reset();
  data[0] = std::byte{1};
  ::munmap(data, 4096);
  EXPECT_EQ(MappedFile::open(directory.file("a"), Access::kReadOnly)->data()[0], std::byte{1});
}

CncLayout small_layout() { return {.to_driver_length = 4096 + 768, .to_clients_length = 4096 + 128, .counter_values_length = 8192, .error_log_length = 4096}; }

TEST(Cnc, header_of_a_default_driver_is_the_reference_of_10_3) {
  const TemporaryDirectory directory;
  auto cnc = CncFile::create(directory.path(), {}, 29967, 0x1a1fd8e0580);
  ASSERT_TRUE(cnc);
  EXPECT_EQ(cnc->length(), 48238592U);
  EXPECT_EQ(cnc->version(), 0);
  cnc->mark_ready();
  auto file = MappedFile::open(directory.file("cnc.dat"), Access::kReadOnly);
  EXPECT_EQ(test::to_hex({file->data(), 52}),
            "00020000 00031000 80001000 00000002 00008000 00004000 00e40b54 02000000 80058efd a1010000 0f750000 00000000 00100000");
}

TEST(Cnc, sections_follow_one_another_without_gaps) {
  const TemporaryDirectory directory;
  auto cnc = CncFile::create(directory.path(), small_layout(), 1, 2);
  ASSERT_TRUE(cnc);
  const std::byte* next = cnc->to_driver().data();
  for (const auto section : {cnc->to_driver(), cnc->to_clients(), cnc->counter_metadata(), cnc->counter_values(), cnc->error_log()}) {
    EXPECT_EQ(section.data(), next);
    next += section.size();
  }
  EXPECT_EQ(cnc->counter_metadata().size(), 4 * cnc->counter_values().size());
  EXPECT_LE(next, cnc->to_driver().data() - kCncHeaderLength + cnc->length());
  EXPECT_EQ(cnc->length() % 4096, 0U);
  cnc->set_pid(99);
  cnc->mark_ready();
  auto reader = CncFile::open(directory.path(), Access::kReadOnly);
  ASSERT_TRUE(reader);
  EXPECT_EQ(reader->pid(), 99);
  EXPECT_EQ(reader->start_ms(), 2);
  EXPECT_EQ(reader->layout().to_driver_length, 4096 + 768);
  EXPECT_EQ(reader->layout().client_liveness_timeout_ns, 10'000'000'000);
}

TEST(Cnc, unusable_lengths_are_refused_before_a_file_appears) {
  const TemporaryDirectory directory;
  const auto refuses = [&](auto&& change) {
    CncLayout layout = small_layout();
    change(layout);
    const auto cnc = CncFile::create(directory.path(), layout, 1, 2);
    return !cnc && cnc.error().code == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refuses([](CncLayout& l) { l.to_driver_length = 4096; }));
  EXPECT_TRUE(refuses([](CncLayout& l) { l.to_driver_length = -1; }));
  EXPECT_TRUE(refuses([](CncLayout& l) { l.to_clients_length = 4097 + 128; }));
  EXPECT_TRUE(refuses([](CncLayout& l) { l.counter_values_length = 100; }));
  EXPECT_TRUE(refuses([](CncLayout& l) { l.counter_values_length = 500 << 20; })) << "five times that is more than 2 GiB";
  EXPECT_TRUE(refuses([](CncLayout& l) { l.error_log_length = -8; }));
  EXPECT_TRUE(refuses([](CncLayout& l) { l.page_size = 4097; }));
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST(Cnc, file_that_is_not_ready_damaged_or_foreign_is_refused_by_name) {
  const TemporaryDirectory directory;
  const auto code = [&] { return CncFile::open(directory.path(), Access::kReadOnly).error().code; };
  EXPECT_EQ(code(), ErrorCode::kNotFound);
  std::ofstream{directory.file("cnc.dat")} << "short";
  EXPECT_EQ(code(), ErrorCode::kUnreachable);
  std::filesystem::remove(directory.file("cnc.dat"));
  auto cnc = CncFile::create(directory.path(), small_layout(), 1, 2);
  ASSERT_TRUE(cnc);
  EXPECT_EQ(code(), ErrorCode::kUnreachable);
  cnc->mark_ready();
  EXPECT_TRUE(CncFile::open(directory.path(), Access::kReadOnly));
  auto file = MappedFile::open(directory.file("cnc.dat"), Access::kReadWrite);
  store_le<std::int32_t>(file->data(), 0x00010000);
  EXPECT_EQ(code(), ErrorCode::kVersion);
  store_le<std::int32_t>(file->data(), 0x00000300);
  EXPECT_TRUE(CncFile::open(directory.path(), Access::kReadOnly)) << "minor versions are compatible";
  for (const std::size_t field : {4U, 8U, 12U, 16U, 20U, 48U}) {
    const auto good = load_le<std::int32_t>(file->data() + field);
    for (const std::int32_t bad : {-1, INT32_MIN, INT32_MAX, 1 << 30}) {
      store_le(file->data() + field, bad);
      if (field == 48 && bad == 1 << 30) continue;  // a page size like any other
      EXPECT_FALSE(CncFile::open(directory.path(), Access::kReadOnly)) << field << " " << bad;
    }
    store_le(file->data() + field, good);
  }
  store_le<std::int32_t>(file->data() + 48, 0);
  EXPECT_EQ(CncFile::open(directory.path(), Access::kReadOnly)->layout().page_size, 4096);
}

TEST(ActiveDriver, is_one_whose_heartbeat_is_young) {
  const TemporaryDirectory directory;
  EXPECT_EQ(check_driver_active(directory.path(), 10'000, 1'000'000).value(), DriverActivity::kInactive) << "no file";
  auto cnc = CncFile::create(directory.path(), small_layout(), 1, 2);
  ASSERT_TRUE(cnc);
  EXPECT_EQ(check_driver_active(directory.path(), 5, 1'000'000).error().code, ErrorCode::kTimeout) << "never became ready";
  cnc->mark_ready();
  ManyToOneRing ring{cnc->to_driver()};
  const auto activity = [&](std::int64_t heartbeat_ms) {
    ring.consumer_heartbeat(heartbeat_ms);
    return check_driver_active(directory.path(), 10'000, 1'000'000).value();
  };
  EXPECT_EQ(activity(1'000'000 - 10'000), DriverActivity::kActive);
  EXPECT_EQ(activity(1'000'000 - 10'001), DriverActivity::kInactive);
  EXPECT_EQ(activity(-1), DriverActivity::kInactive) << "cleanly closed";
  EXPECT_EQ(activity(INT64_MIN), DriverActivity::kInactive);
  EXPECT_EQ(activity(INT64_MAX), DriverActivity::kActive);
}

TEST(ActiveDriver, that_is_still_starting_is_waited_for) {
  const TemporaryDirectory directory;
  auto cnc = CncFile::create(directory.path(), small_layout(), 1, 2);
  ASSERT_TRUE(cnc);
  std::thread driver{[&] {
    ManyToOneRing{cnc->to_driver()}.consumer_heartbeat(1'000'000);
    cnc->mark_ready();
  }};
  EXPECT_EQ(check_driver_active(directory.path(), 30'000, 1'000'000).value(), DriverActivity::kActive);
  driver.join();
}

// Sets an environment variable (nullptr: removes it) and puts the old value back.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_{name} {
    if (const char* const old = std::getenv(name)) old_ = old;
    value != nullptr ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() { old_ ? ::setenv(name_, old_->c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

TEST(DefaultDirectory, is_that_of_the_environment_or_of_the_user) {
  const Environment no_directory{"AERON_DIR", nullptr};
  {
    const Environment user{"USER", "someone"};
    EXPECT_EQ(default_directory(), "/dev/shm/aeron-someone");
    const Environment directory{"AERON_DIR", "/elsewhere"};
    EXPECT_EQ(default_directory(), "/elsewhere");
  }
  const Environment no_user{"USER", nullptr};
  EXPECT_TRUE(default_directory().starts_with("/dev/shm/aeron-"));
  EXPECT_GT(default_directory().size(), std::string{"/dev/shm/aeron-"}.size());
}

}  // namespace
}  // namespace thalweg::shm
