// Frame segments: what goes in comes out, byte for byte, at its position; across segments, restarts, truncation, retention and damage. Spec: archive-log
// 2 to 4, 12, 13, 16.1.
#include <map>

#include "controlplane/log/frame_verify.hpp"
#include "controlplane/log/index.hpp"
#include "tests/unit/log/frame_fixture.hpp"

namespace thalweg::log {
namespace {

constexpr std::uint64_t kTerm = kStream.term_bytes;

class FrameLogTest : public testing::Test {
 protected:
  void open(const FrameLogOptions& options = frame_options()) {
    log.reset();
    auto opened = FrameLog::open(files, clock, kDirectory, options);
    ASSERT_TRUE(opened) << opened.error().message;
    log = std::move(*opened);
    source = FrameSource{log->position()};
  }
  void kill_and_reopen(const FrameLogOptions& options = frame_options()) {
    files.kill_all();
    log.reset();
    open(options);
  }
  // Frames of `payload` bytes, until the position is at or behind `end`.
  void fill_to(std::uint64_t end, std::uint32_t payload = 100) {
    while (source.position() < end) {
      const auto frame = source.next(payload);
      const auto appended = log->append(frame);
      ASSERT_TRUE(appended) << appended.error().message;
      ASSERT_EQ(*appended, source.position());
    }
  }
  [[nodiscard]] FrameReader reader(bool is_uncommitted = true) {
    auto opened = FrameReader::open(files, kDirectory, {.stream = kStream, .is_uncommitted = is_uncommitted});
    if (!opened) throw std::runtime_error{opened.error().message};
    return std::move(*opened);
  }
  // All from the reader's place on; padding as zeros behind its header.
  [[nodiscard]] static std::vector<std::byte> read_on(FrameReader& from, std::uint64_t block = 4000) {
    std::vector<std::byte> bytes;
    for (;;) {
      const auto read = from.next(block);
      if (!read) throw std::runtime_error{read.error().message};
      if (!*read) return bytes;
      bytes.insert(bytes.end(), (*read)->frames.begin(), (*read)->frames.end());
      bytes.resize(bytes.size() + (*read)->span - (*read)->frames.size());
    }
  }
  [[nodiscard]] FrameVerification verify() {
    auto verified = verify_frame_log(files, kDirectory, {.log_id = 5, .stream = kStream, .segment_bytes = kSegmentBytesMin, .start_position = {}, .stop_position = {}});
    if (!verified) throw std::runtime_error{verified.error().message};
    return *verified;
  }
  [[nodiscard]] static std::string path_of(std::uint64_t ordinal) { return std::string{kDirectory} + "/" + segment_name(ordinal); }
  void flip(std::uint64_t ordinal, std::uint64_t file_offset) {
    auto bytes = files.content(path_of(ordinal));
    bytes[file_offset] ^= std::byte{0x10};
    files.set_content(path_of(ordinal), bytes);
  }

  test::CrashFileSystem files{256U << 10};
  ManualClock clock;
  std::unique_ptr<FrameLog> log;
  FrameSource source;
};

TEST_F(FrameLogTest, frames_come_out_as_they_went_in_across_segments) {
  open();
  fill_to(3 * kTerm + 5000);
  EXPECT_EQ(log->segment_count(), 4U);
  auto all = reader();
  EXPECT_EQ(read_on(all), FrameSource::expected(0, log->position(), 100));
  EXPECT_TRUE(verify().findings.empty());
  EXPECT_EQ(verify().stop_position, log->position());
}

TEST_F(FrameLogTest, blocks_hold_whole_frames_of_one_term_and_padding_stands_alone) {
  open();
  fill_to(2 * kTerm, 1000);
  auto all = reader();
  std::uint64_t position = 0;
  bool has_padding = false;
  while (const auto block = *all.next(10'000)) {
    EXPECT_EQ(block->position, position);
    EXPECT_LE(block->is_padding ? 0 : block->span, 10'000U);
    EXPECT_EQ(block->position / kTerm, (block->end() - 1) / kTerm);
    EXPECT_EQ(block->frames.size(), block->is_padding ? kFrameHeaderBytes : block->span);
    has_padding |= block->is_padding;
    position = block->end();
  }
  EXPECT_TRUE(has_padding);
  EXPECT_EQ(position, log->position());
}

TEST_F(FrameLogTest, a_whole_term_is_one_append) {
  open();
  std::vector<std::byte> term;
  while (source.position() < kTerm) {
    const auto frame = source.next(1376);
    term.insert(term.end(), frame.begin(), frame.end());
  }
  const auto appended = log->append(term);
  ASSERT_TRUE(appended) << appended.error().message;
  EXPECT_EQ(*appended, kTerm);
  auto all = reader();
  EXPECT_EQ(read_on(all), FrameSource::expected(0, kTerm, 1376));
}

TEST_F(FrameLogTest, a_stream_that_is_joined_in_its_middle_keeps_its_positions) {
  const std::uint64_t start = 5 * kTerm + 4096 + 96;
  open(frame_options(SyncPolicy::kExplicit, start));
  EXPECT_EQ(log->position(), start);
  fill_to(7 * kTerm);
  EXPECT_EQ(log->first_position(), start);
  auto all = reader();
  EXPECT_EQ(all.position(), start);
  EXPECT_EQ(read_on(all), FrameSource::expected(start, log->position(), 100));
  kill_and_reopen(frame_options(SyncPolicy::kExplicit, start));
  EXPECT_EQ(log->first_position(), start);
  EXPECT_EQ(log->position(), 7 * kTerm);
  EXPECT_TRUE(verify().findings.empty());
}

TEST_F(FrameLogTest, what_is_no_frame_of_the_stream_is_refused_and_leaves_nothing) {
  open();
  fill_to(1000);
  const std::uint64_t before = log->position();
  const auto good = source.next(100);
  const std::map<std::string, std::pair<std::size_t, std::byte>> faults{{"length", {1, std::byte{0x7F}}}, {"negative length", {3, std::byte{0x80}}}, {"type", {6, std::byte{2}}},
                                                                         {"term offset", {8, std::byte{1}}}, {"session", {12, std::byte{9}}}, {"stream", {16, std::byte{9}}},
                                                                         {"term id", {20, std::byte{9}}}};
  for (const auto& [name, fault] : faults) {
    auto bad = good;
    bad[fault.first] = fault.second;
    const auto appended = log->append(bad);
    ASSERT_FALSE(appended) << name;
    EXPECT_EQ(appended.error().code, ErrorCode::kInvalidArgument) << name;
  }
  auto two = good;
  two.insert(two.end(), good.begin(), good.begin() + 64);  // half a frame behind a whole one
  EXPECT_FALSE(log->append(two));
  EXPECT_FALSE(log->append(std::span{good}.first(40)));
  EXPECT_EQ(log->position(), before);
  ASSERT_TRUE(log->append(good));
  EXPECT_TRUE(verify().findings.empty());
  kill_and_reopen();
  EXPECT_EQ(log->position(), source.position());
  EXPECT_EQ(log->recovery().torn_bytes, 0U);
}

TEST_F(FrameLogTest, durable_frames_are_shown_when_they_are_synced_and_accepted_ones_at_once) {
  open();
  auto durable = reader(false);
  auto accepted = reader(true);
  fill_to(5000);
  EXPECT_TRUE(read_on(durable).empty());
  EXPECT_EQ(read_on(accepted).size(), log->position());
  ASSERT_TRUE(log->sync());
  EXPECT_EQ(log->durable_position(), log->position());
  EXPECT_EQ(read_on(durable).size(), log->position());
}

TEST_F(FrameLogTest, sync_policies_do_what_they_say) {
  auto options = frame_options(SyncPolicy::kEveryBatch);
  open(options);
  fill_to(500);
  EXPECT_EQ(log->durable_position(), log->position());
  options.sync = SyncPolicy::kEveryBytes;
  options.sync_every_bytes = 1000;
  open(options);
  fill_to(log->position() + 900);
  EXPECT_LT(log->durable_position(), log->position());
  fill_to(log->position() + 200);
  EXPECT_GT(log->durable_position(), 1000U);
  options.sync = SyncPolicy::kPeriodic;
  open(options);
  fill_to(log->position() + 900);
  ASSERT_TRUE(log->maintain());
  EXPECT_LT(log->durable_position(), log->position());
  clock.advance(options.sync_interval_ns);
  ASSERT_TRUE(log->maintain());
  EXPECT_EQ(log->durable_position(), log->position());
  options.sync = SyncPolicy::kEverySegment;
  open(options);
  fill_to(kTerm + 200);
  ASSERT_TRUE(log->maintain());
  EXPECT_GE(log->durable_position(), kTerm);
}

TEST_F(FrameLogTest, options_that_cannot_be_are_refused) {
  const auto refused = [&](auto change) {
    auto options = frame_options();
    change(options);
    return !FrameLog::open(files, clock, "elsewhere", options).has_value();
  };
  EXPECT_TRUE(refused([](FrameLogOptions& o) { o.stream.term_bytes = 96U << 10; }));
  EXPECT_TRUE(refused([](FrameLogOptions& o) { o.stream.term_bytes = 128U << 10; }));  // above the segment's size
  EXPECT_TRUE(refused([](FrameLogOptions& o) { o.stream.mtu_bytes = 1400; }));
  EXPECT_TRUE(refused([](FrameLogOptions& o) { o.segment_bytes = 3U << 16; }));
  EXPECT_TRUE(refused([](FrameLogOptions& o) { o.start_position = 33; }));
  EXPECT_TRUE(refused([](FrameLogOptions& o) { o.sync = SyncPolicy::kEveryEntries; }));
}

TEST_F(FrameLogTest, a_second_writer_and_another_recordings_segments_are_refused) {
  open();
  const auto second = FrameLog::open(files, clock, kDirectory, frame_options());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kInUse);
  log.reset();
  auto other = frame_options();
  other.log_id = 6;
  EXPECT_FALSE(FrameLog::open(files, clock, kDirectory, other));
}

TEST_F(FrameLogTest, killed_at_any_moment_it_keeps_what_was_accepted) {
  for (int round = 0; round < 40; ++round) {
    kill_and_reopen();
    const std::uint64_t before = log->position();
    fill_to(before + 3000);
    const auto maintained = round % 3 == 0 ? log->maintain() : Result<void>{};
    const auto synced = round % 5 == 0 ? log->sync() : Result<void>{};
    ASSERT_TRUE(maintained && synced);
    const std::uint64_t accepted = log->position();
    kill_and_reopen();
    EXPECT_EQ(log->position(), accepted);
  }
  auto all = reader();
  EXPECT_EQ(read_on(all), FrameSource::expected(0, log->position(), 100));
  EXPECT_TRUE(verify().findings.empty());
}

TEST_F(FrameLogTest, a_writer_killed_between_two_marks_leaves_whole_frames) {
  open();
  fill_to(4096 - 128, 100);  // frames of 160 bytes: the next one lies across the border of two pages
  const std::uint64_t whole = log->position();
  ASSERT_LT(whole, 4096U);
  fill_to(4096 + 1000, 100);
  log.reset();
  files.kill_all();
  auto bytes = files.content(path_of(0));
  std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(kDataOffset + kSegmentBytesMin + sizeof(FrameMark)), 8, std::byte{0});  // the second page's word
  files.set_content(path_of(0), bytes);
  open();
  EXPECT_EQ(log->position(), whole);
  EXPECT_GT(log->recovery().torn_bytes, 0U);
  fill_to(20'000);
  auto all = reader();
  EXPECT_EQ(read_on(all), FrameSource::expected(0, log->position(), 100));
}

TEST_F(FrameLogTest, positions_are_found_and_those_inside_frames_are_refused) {
  open();
  fill_to(2 * kTerm, 300);
  auto found = reader();
  FrameSource walk;
  std::uint64_t last = 0;
  while (walk.position() < 2 * kTerm) {
    ASSERT_TRUE(found.seek(walk.position())) << walk.position();
    const auto block = found.next(1);
    ASSERT_TRUE(block && *block);
    EXPECT_EQ((*block)->position, walk.position());
    last = walk.position();
    static_cast<void>(walk.next(300));
    const auto inside = found.seek(last + 32);
    ASSERT_FALSE(inside);
    EXPECT_NE(inside.error().message.find("begins at " + std::to_string(last)), std::string::npos) << inside.error().message;
  }
  EXPECT_TRUE(found.seek(2 * kTerm));
  EXPECT_FALSE(*found.next(1000));
  EXPECT_FALSE(found.seek(2 * kTerm + 32));
}

class FrameLogTimes : public FrameLogTest, public testing::WithParamInterface<bool> {};

TEST_P(FrameLogTimes, lead_to_their_frames_or_at_most_a_page_before_them) {
  open();
  std::map<std::int64_t, std::uint64_t> recorded;  // time and position of each frame
  while (source.position() < 3 * kTerm) {
    clock.advance(kSecond_ns);
    recorded.emplace(clock.epoch, source.position());
    const auto frame = source.next(500);
    ASSERT_TRUE(log->append(frame));
    if (GetParam()) {  // makes segments long before their first frame
      ASSERT_TRUE(log->maintain());
    }
  }
  auto found = reader();
  for (const auto& [time, position] : recorded) {
    ASSERT_TRUE(found.seek_time(time));
    EXPECT_LE(found.position(), position);
    EXPECT_GT(found.position() + kMarkedBytes + 600, position) << "for the frame at " << position;
    ASSERT_TRUE(found.next(1));
  }
  ASSERT_TRUE(found.seek_time(0));
  EXPECT_EQ(found.position(), 0U);
  ASSERT_TRUE(found.seek_time(clock.epoch + 1));
  EXPECT_EQ(found.position(), log->position());
}

INSTANTIATE_TEST_SUITE_P(, FrameLogTimes, testing::Bool(), [](const auto& made) { return made.param ? "when_segments_are_made_ahead" : "when_they_are_not"; });

TEST_F(FrameLogTest, a_clock_that_steps_back_does_not_hide_frames) {
  open();
  fill_to(kTerm);
  const std::int64_t before = clock.epoch;
  clock.epoch -= 3600 * kSecond_ns;
  fill_to(kTerm + 20'000);
  auto found = reader();
  ASSERT_TRUE(found.seek_time(before + 1));
  EXPECT_EQ(found.position(), log->position());
  ASSERT_TRUE(found.seek_time(clock.epoch));
  EXPECT_EQ(found.position(), 0U);
}

TEST_F(FrameLogTest, truncated_at_any_frame_it_ends_there_and_goes_on) {
  const std::uint64_t end = 2 * kTerm + 9000;
  for (std::uint64_t cut = 0; cut < end; cut += 5 * 160) {
    if (cut % kTerm > kTerm - 160) continue;  // inside the padding
    SCOPED_TRACE(cut);
    files.kill_all();
    log.reset();
    for (const auto& path : files.paths()) ASSERT_TRUE(files.remove(path));
    open();
    fill_to(end, 128);
    ASSERT_TRUE(log->sync());
    const std::uint64_t position = cut / kTerm * kTerm + cut % kTerm / 160 * 160;
    EXPECT_FALSE(log->truncate(position + 32));
    ASSERT_TRUE(log->truncate(position));
    EXPECT_EQ(log->position(), position);
    EXPECT_LE(log->durable_position(), position);
    EXPECT_TRUE(verify().findings.empty());
    kill_and_reopen();
    ASSERT_EQ(log->position(), position);
    EXPECT_EQ(log->recovery().lost_entries, 0U);
    fill_to(position + 3000, 50);
    auto all = reader();
    auto expected = FrameSource::expected(0, position, 128);
    const auto more = FrameSource::expected(position, log->position(), 50);
    expected.insert(expected.end(), more.begin(), more.end());
    EXPECT_EQ(read_on(all), expected);
  }
}

TEST_F(FrameLogTest, old_segments_go_and_readers_of_them_are_told) {
  open();
  fill_to(4 * kTerm + 1000);
  auto old = reader();
  auto behind = reader();
  ASSERT_TRUE(behind.seek(3 * kTerm));
  ASSERT_TRUE(old.next(100));
  const auto state = log->retention_state(std::vector<FrameLog::PositionRange>{{kTerm, kTerm + 1}});
  ASSERT_EQ(state.closed.size(), 4U);
  EXPECT_FALSE(state.closed[0].is_pinned);
  EXPECT_TRUE(state.closed[1].is_pinned);
  EXPECT_EQ(state.closed[2].end_entry, 3 * kTerm);
  ASSERT_TRUE(log->delete_oldest(3));
  EXPECT_EQ(log->first_position(), 3 * kTerm);
  EXPECT_EQ(read_on(behind), FrameSource::expected(3 * kTerm, log->position(), 100));
  Result<std::optional<FrameBlock>> read = old.next(10'000);
  while (read && *read) read = old.next(10'000);
  ASSERT_FALSE(read);  // what was mapped is read to its end
  EXPECT_EQ(read.error().code, ErrorCode::kNotFound);
  EXPECT_NE(read.error().message.find(std::to_string(3 * kTerm)), std::string::npos) << read.error().message;
  ASSERT_TRUE(log->delete_oldest(100));
  EXPECT_EQ(log->segment_count(), 1U);
  kill_and_reopen();
  EXPECT_EQ(log->first_position(), 4 * kTerm);
  EXPECT_TRUE(verify().findings.empty());
}

TEST_F(FrameLogTest, a_full_disk_refuses_the_next_segment_and_nothing_else) {
  files.set_space(2 * (kDataOffset + kSegmentBytesMin + kSegmentBytesMin / 128 + kPageBytes) + 16'384 + 4096);
  open();
  fill_to(2 * kTerm);
  const auto room = log->make_room();
  ASSERT_FALSE(room);
  EXPECT_EQ(room.error().code, ErrorCode::kNoSpace);
  const auto frame = source.next(100);
  const auto appended = log->append(frame);
  ASSERT_FALSE(appended);
  EXPECT_EQ(appended.error().code, ErrorCode::kNoSpace);
  ASSERT_TRUE(log->sync());
  auto all = reader();
  EXPECT_EQ(read_on(all), FrameSource::expected(0, 2 * kTerm, 100));
  files.set_space(UINT64_MAX);
  ASSERT_TRUE(log->append(frame));
  EXPECT_EQ(log->position(), 2 * kTerm + 160);
}

TEST_F(FrameLogTest, a_flipped_bit_is_found_where_it_is_and_hides_nothing_else) {
  open();
  fill_to(2 * kTerm + 9000);
  log.reset();
  const auto clean = verify();
  for (const std::uint64_t offset : {kDataOffset + 10, kDataOffset + 5000, kDataOffset + kSegmentBytesMin - 40, kDataOffset + kSegmentBytesMin + 32}) {
    SCOPED_TRACE(offset);
    flip(0, offset);
    const auto found = verify();
    ASSERT_EQ(found.findings.size(), 1U);
    EXPECT_EQ(found.findings[0].path, path_of(0));
    const std::uint64_t page = offset < kDataOffset + kSegmentBytesMin ? (offset - kDataOffset) / kMarkedBytes * kMarkedBytes : kMarkedBytes;
    EXPECT_EQ(found.findings[0].offset, kDataOffset + page);
    EXPECT_LT(clean.data_frames - found.data_frames, 70U);
    EXPECT_EQ(found.stop_position, clean.stop_position);
    auto all = reader();
    EXPECT_THROW(static_cast<void>(read_on(all)), std::runtime_error);
    ASSERT_TRUE(all.seek(kTerm));
    EXPECT_NO_THROW(static_cast<void>(read_on(all)));
    flip(0, offset);
  }
  open();  // opening reads nothing that a sync point vouches for
}

// The page of the tail has the checksum of all its frames: made anew over those that were there it would vouch for what is damaged.
TEST_F(FrameLogTest, damage_in_the_page_of_the_tail_stays_damage_and_nothing_follows_it) {
  open();
  fill_to(10'000);
  ASSERT_TRUE(log->sync());
  ASSERT_TRUE(log->sync());
  const std::uint64_t end = log->position();
  files.kill_all();
  flip(0, kDataOffset + end - 20);
  for (int times = 0; times < 3; ++times) {
    open();
    EXPECT_EQ(log->position(), end);
    auto all = reader();
    EXPECT_THROW(static_cast<void>(read_on(all)), std::runtime_error);
    EXPECT_FALSE(verify().findings.empty());
    const auto appended = log->append(source.next(100));
    ASSERT_FALSE(appended);
    EXPECT_EQ(appended.error().code, ErrorCode::kIo);
    EXPECT_NE(appended.error().message.find("segment-0000000000.tlg: damage at offset " + std::to_string(kDataOffset + 8192)), std::string::npos) << appended.error().message;
    EXPECT_FALSE(log->make_room());
    if (times == 1) files.kill_all();
  }
  source = FrameSource{};
  while (source.position() + 132 < 8192) source.next(100);
  const auto cut = log->truncate(source.position());
  ASSERT_TRUE(cut) << cut.error().message;
  fill_to(20'000);
  auto all = reader();
  EXPECT_EQ(read_on(all), FrameSource::expected(0, log->position(), 100));
  EXPECT_TRUE(verify().findings.empty());
}

TEST_F(FrameLogTest, verification_names_every_planted_fault) {
  open();
  fill_to(4 * kTerm + 1000);
  log.reset();
  ASSERT_TRUE(files.remove(path_of(1)));
  auto found = verify();
  ASSERT_EQ(found.findings.size(), 1U);
  EXPECT_NE(found.findings[0].what.find("missing"), std::string::npos);
  flip(2, 100);  // the header page
  found = verify();
  ASSERT_EQ(found.findings.size(), 2U);
  EXPECT_NE(found.findings[0].what.find("header"), std::string::npos);
  flip(2, 100);
  auto bytes = files.content(path_of(4));
  bytes[kDataOffset + 30'000] = std::byte{1};
  files.set_content(path_of(4), bytes);
  found = verify();
  ASSERT_EQ(found.findings.size(), 2U);
  EXPECT_NE(found.findings[1].what.find("behind the last frame"), std::string::npos);
  auto expected = verify_frame_log(files, kDirectory, {.log_id = 5, .stream = kStream, .segment_bytes = kSegmentBytesMin, .start_position = 64, .stop_position = 128});
  ASSERT_TRUE(expected);
  EXPECT_EQ(expected->findings.size(), 4U);
}

TEST_F(FrameLogTest, a_header_that_cannot_be_read_is_made_anew) {
  const std::uint64_t start = kTerm + 320;
  open(frame_options(SyncPolicy::kExplicit, start));
  fill_to(3 * kTerm + 1000);
  log.reset();
  for (const std::uint64_t ordinal : {1U, 2U, 3U}) flip(ordinal, 44);
  open(frame_options(SyncPolicy::kExplicit, start));
  EXPECT_EQ(log->recovery().segments_mended, 3U);
  EXPECT_EQ(log->first_position(), start);
  auto all = reader();
  EXPECT_EQ(read_on(all), FrameSource::expected(start, log->position(), 100));
}

TEST_F(FrameLogTest, a_missing_coordination_page_costs_nothing_but_reading) {
  open();
  fill_to(kTerm + 5000);
  const std::uint64_t end = log->position();
  log.reset();
  ASSERT_TRUE(files.remove(std::string{kDirectory} + "/" + kCoordinationName));
  auto all = reader();
  EXPECT_EQ(read_on(all), FrameSource::expected(0, end, 100));
  open();
  EXPECT_EQ(log->position(), end);
  EXPECT_TRUE(log->recovery().is_coordination_rebuilt);
}

TEST_F(FrameLogTest, reading_a_closed_log_changes_nothing) {
  open();
  fill_to(kTerm + 5000);
  log.reset();
  std::map<std::string, std::vector<std::byte>> before;
  for (const auto& path : files.paths()) before[path] = files.content(path);
  auto all = reader();
  static_cast<void>(read_on(all));
  static_cast<void>(verify());
  for (const auto& path : files.paths()) EXPECT_EQ(before[path], files.content(path)) << path;
}

}  // namespace
}  // namespace thalweg::log
