// Files of a recording that an earlier build wrote, tests/data/frames-golden: they stay readable and writable. With THALWEG_LOG_GOLDEN=DIRECTORY the test
// writes them anew, for `gzip -9n`; only a new version of the format is a reason to do that.
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "controlplane/log/catalog.hpp"
#include "controlplane/log/frame_verify.hpp"
#include "tests/support/recorded.hpp"
#include "tests/unit/log/frame_fixture.hpp"

namespace thalweg::log {
namespace {

constexpr std::uint64_t kStart = 4096 + 64;                        // joined in the middle of a term
constexpr std::uint32_t kPayload = 1000;
constexpr std::uint64_t kSpan = 1056;                              // of a frame
constexpr std::uint64_t kSynced = kSegmentBytesMin + 2 * kSpan;    // in the second segment
constexpr std::uint64_t kEnd = kSynced + 2 * kSpan;                // accepted, not synced

class FrameGoldenTest : public testing::Test {
 protected:
  void write(const std::string& directory) {
    auto log = FrameLog::open(files, clock, kDirectory, frame_options(SyncPolicy::kExplicit, kStart));
    ASSERT_TRUE(log);
    for (FrameSource source{kStart}; source.position() < kEnd; clock.advance(kMillisecond_ns)) {
      if (source.position() == kSynced) {
        ASSERT_TRUE((*log)->sync());
        ASSERT_TRUE((*log)->sync());
      }
      ASSERT_TRUE((*log)->append(source.next(kPayload)));
    }
    std::filesystem::create_directories(directory);
    for (const std::string& path : files.paths()) {
      const auto bytes = files.content(path);
      std::ofstream out{directory + "/" + std::filesystem::path{path}.filename().string(), std::ios::binary};
      out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    }
  }
  void load() {
    for (const auto& file : std::filesystem::directory_iterator{test::data_path("frames-golden")})
      files.set_content(std::string{kDirectory} + "/" + file.path().stem().string(), test::read_gzip(file.path()));
  }
  [[nodiscard]] std::vector<std::byte> read(bool is_uncommitted) {
    auto reader = FrameReader::open(files, kDirectory, {.stream = kStream, .is_uncommitted = is_uncommitted});
    std::vector<std::byte> bytes;
    while (reader) {
      const auto block = reader->next(5000);
      if (!block || !*block) break;
      bytes.insert(bytes.end(), (*block)->frames.begin(), (*block)->frames.end());
      bytes.resize(bytes.size() + (*block)->span - (*block)->frames.size());
    }
    return bytes;
  }

  test::CrashFileSystem files{256U << 10};
  ManualClock clock;
};

TEST_F(FrameGoldenTest, files_of_this_version_are_read) {
  if (const char* const directory = std::getenv("THALWEG_LOG_GOLDEN"); directory != nullptr) return write(std::string{directory} + "/frames-golden");
  load();
  EXPECT_EQ(read(false), FrameSource::expected(kStart, kSynced, kPayload));
  EXPECT_EQ(read(true), FrameSource::expected(kStart, kEnd, kPayload));
  const auto verified = verify_frame_log(files, kDirectory, {.log_id = 5, .stream = kStream, .segment_bytes = kSegmentBytesMin, .start_position = kStart, .stop_position = kEnd});
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_TRUE(verified->findings.empty()) << verified->findings.front().what;
  EXPECT_EQ(verified->padding_frames, 1U);
  auto reader = FrameReader::open(files, kDirectory, {.stream = kStream, .is_uncommitted = true});
  ASSERT_TRUE(reader && reader->seek_time(clock.epoch + 30 * kMillisecond_ns));
  constexpr std::uint64_t kOfThatTime = kStart + 30 * kSpan;
  EXPECT_LE(reader->position(), kOfThatTime);
  EXPECT_GT(reader->position() + kMarkedBytes + kSpan, kOfThatTime);
  const auto catalog = read_catalog(files, kDirectory);
  ASSERT_TRUE(catalog);
  EXPECT_EQ(catalog->entries().size(), 2U);
  EXPECT_EQ(catalog->totals().file_bytes, files.content(std::string{kDirectory} + "/" + segment_name(0)).size() + files.content(std::string{kDirectory} + "/" + segment_name(1)).size());
}

TEST_F(FrameGoldenTest, files_of_this_version_are_gone_on_with) {
  if (std::getenv("THALWEG_LOG_GOLDEN") != nullptr) GTEST_SKIP();
  load();
  auto log = FrameLog::open(files, clock, kDirectory, frame_options(SyncPolicy::kExplicit, kStart));
  ASSERT_TRUE(log) << log.error().message;
  EXPECT_EQ((*log)->position(), kEnd);
  EXPECT_TRUE((*log)->recovery().findings.empty());
  EXPECT_TRUE((*log)->append(FrameSource{kEnd}.next(kPayload)));
  EXPECT_EQ(read(true), FrameSource::expected(kStart, (*log)->position(), kPayload));
}

}  // namespace
}  // namespace thalweg::log
