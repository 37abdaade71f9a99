#pragma once
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "controlplane/log/reader.hpp"
#include "controlplane/log/shard.hpp"
#include "tests/support/crash_file_system.hpp"

namespace thalweg::log {

// A clock that stands still until it is moved.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t epoch_ns() const noexcept override { return epoch; }
  [[nodiscard]] std::int64_t monotonic_ns() const noexcept override { return monotonic; }
  void advance(std::int64_t ns) noexcept { epoch += ns, monotonic += ns; }
  std::int64_t epoch{1'700'000'000 * kSecond_ns};
  std::int64_t monotonic{5 * kSecond_ns};
};

inline constexpr const char* kDirectory = "log/shard-0000";

// Small segments, nothing synced that the test does not ask for.
[[nodiscard]] inline ShardOptions small_options(SyncPolicy sync = SyncPolicy::kExplicit) {
  ShardOptions options;
  options.segment_bytes = kSegmentBytesMin;
  options.payload_max_bytes = 32U << 10;
  options.sync = sync;
  return options;
}

[[nodiscard]] inline std::span<const std::byte> bytes_of(std::string_view text) noexcept { return std::as_bytes(std::span{text}); }
[[nodiscard]] inline std::string text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// A shard on files that can be crashed.
class ShardTest : public testing::Test {
 protected:
  void open(const ShardOptions& options = small_options()) {
    auto opened = Shard::open(files, clock, kDirectory, options);
    ASSERT_TRUE(opened) << opened.error().message;
    shard = std::move(*opened);
  }
  void reopen(const ShardOptions& options = small_options()) {
    shard.reset();
    open(options);
  }
  // As if the process were killed, and started again.
  void kill_and_reopen(const ShardOptions& options = small_options()) {
    files.kill_all();
    shard.reset();
    open(options);
  }
  std::uint64_t append(std::string_view text, std::uint32_t stream = 1);
  std::uint64_t append_bytes(std::size_t bytes) { return append(std::string(bytes, 'x')); }
  void append_batch(const std::vector<std::string>& texts);
  // A segment for each; the last one is the active one.
  void append_in_segments(const std::vector<std::string>& texts);
  // Everything a new reader of accepted entries sees, events included, as text: "0:abc", "gap 1-3", "corrupt 1-3".
  [[nodiscard]] std::vector<std::string> read_all(ReaderOptions options = {.is_uncommitted = true});
  [[nodiscard]] static std::string path_of(std::uint64_t ordinal) { return std::string{kDirectory} + "/" + segment_name(ordinal); }
  [[nodiscard]] static std::string coordination_path() { return std::string{kDirectory} + "/" + kCoordinationName; }
  // Changes bytes of a segment as a failing disk would.
  void damage(std::uint64_t ordinal, std::uint64_t file_offset, std::span<const std::byte> bytes);

  test::CrashFileSystem files{256U << 10};
  ManualClock clock;
  std::unique_ptr<Shard> shard;
};

}  // namespace thalweg::log
