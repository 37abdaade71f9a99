// The catalog of recordings: descriptors, their changes, what a crash and damage leave of them, and what its readers see. Spec: archive-log 16.2.
#include "controlplane/archive/recording_catalog.hpp"
#include "controlplane/archive/settings.hpp"
#include "controlplane/archive/view.hpp"
#include "tests/unit/log/frame_fixture.hpp"

namespace thalweg::archive {
namespace {

constexpr const char* kArchive = "archive";

Recording recording(std::int32_t stream_id, const std::string& name = "") {
  Recording made{.start_ns = 1000, .start_position = 96, .stream = log::kStream, .segment_bytes = log::kSegmentBytesMin, .name = name};
  made.stream.stream_id = stream_id;
  made.channel = "aeron:udp?endpoint=10.0.0.1:40123";
  made.original_channel = made.channel + "|tether=false";
  made.source_identity = "10.0.0.2:50001";
  return made;
}

class CatalogTest : public testing::Test {
 protected:
  void open() {
    catalog.reset();
    auto opened = RecordingCatalog::open(files, clock, kArchive);
    ASSERT_TRUE(opened) << opened.error().message;
    catalog = std::move(*opened);
  }
  void kill_and_open() {
    files.kill_all();
    open();
  }
  test::CrashFileSystem files{2U << 20};
  log::ManualClock clock;
  std::optional<RecordingCatalog> catalog;
};

TEST(Descriptor, comes_back_as_it_was_and_every_shorter_one_is_refused) {
  Recording one = recording(3, "quotes");
  one.id = 17;
  one.stop_ns = 2000;
  one.stop_position = 4096;
  const auto bytes = encode(one);
  const auto back = decode_recording(bytes);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, one);
  for (std::size_t length = 0; length < bytes.size(); ++length) EXPECT_FALSE(decode_recording(std::span{bytes}.first(length))) << length;
  auto newer = bytes;
  newer[0] = std::byte{2};
  EXPECT_EQ(decode_recording(newer).error().code, ErrorCode::kVersion);
}

TEST(Channel, is_stripped_to_what_names_its_stream) {
  EXPECT_EQ(stripped_channel("aeron:udp?term-length=64k|endpoint=10.0.0.1:4|mtu=1408|interface=10.0.0.0/24"), "aeron:udp?endpoint=10.0.0.1:4|interface=10.0.0.0/24");
  EXPECT_EQ(stripped_channel("aeron:ipc?term-length=64k"), "aeron:ipc");
  EXPECT_EQ(stripped_channel("aeron-spy:aeron:udp?endpoint=h:1|tether=false"), "aeron-spy:aeron:udp?endpoint=h:1");
  EXPECT_EQ(stripped_channel("nonsense"), "nonsense");
}

TEST(Channel, of_a_wish_says_where_from_and_what_when_slow) {
  Wish wish{.name = {}, .channel = "aeron:udp?endpoint=h:1", .keep = {}};
  EXPECT_EQ(subscription_channel(wish), "aeron:udp?endpoint=h:1");
  wish.is_local = true;
  EXPECT_EQ(subscription_channel(wish), "aeron-spy:aeron:udp?endpoint=h:1");
  wish.drops_when_slow = true;
  EXPECT_EQ(subscription_channel(wish), "aeron-spy:aeron:udp?endpoint=h:1|tether=false");
  wish.channel = "aeron:ipc";
  EXPECT_EQ(subscription_channel(wish), "aeron:ipc?tether=false");
}

TEST_F(CatalogTest, ids_are_given_once_and_changes_survive_a_kill) {
  open();
  EXPECT_EQ(*catalog->add(recording(1)), 0);
  EXPECT_EQ(*catalog->add(recording(2)), 1);
  Recording ended = *catalog->get(1);
  ended.stop_position = 8192;
  ended.stop_ns = 5;
  ASSERT_TRUE(catalog->put(ended));
  kill_and_open();
  ASSERT_EQ(catalog->recordings().size(), 2U);
  EXPECT_EQ(*catalog->get(1), ended);
  ended.state = RecordingState::kDeleted;
  ASSERT_TRUE(catalog->put(ended));
  EXPECT_EQ(catalog->get(1), nullptr);
  EXPECT_EQ(catalog->put(ended).error().code, ErrorCode::kNotFound);
  kill_and_open();
  EXPECT_EQ(catalog->get(1), nullptr);
  EXPECT_EQ(*catalog->add(recording(3)), 2);
}

TEST_F(CatalogTest, a_second_archive_on_the_directory_is_refused) {
  open();
  const auto second = RecordingCatalog::open(files, clock, kArchive);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kInUse);
  EXPECT_NE(second.error().message.find("another archive"), std::string::npos);
}

TEST_F(CatalogTest, many_changes_do_not_make_it_grow_for_ever) {
  open();
  for (std::int32_t i = 0; i < 20; ++i) ASSERT_TRUE(catalog->add(recording(i)));
  ASSERT_TRUE(catalog->add(recording(99)));
  Recording gone = *catalog->get(20);
  gone.state = RecordingState::kDeleted;
  ASSERT_TRUE(catalog->put(gone));
  for (std::uint64_t i = 0; i < 5000; ++i) {
    Recording changed = *catalog->get(static_cast<std::int64_t>(i % 20));
    changed.start_position = i * 32;
    ASSERT_TRUE(catalog->put(changed));
  }
  std::uint64_t bytes = 0;
  for (const auto& path : files.paths()) bytes += files.content(path).size();
  EXPECT_LT(bytes, 4U << 20);
  kill_and_open();
  EXPECT_EQ(catalog->recordings().size(), 20U);
  for (std::uint64_t i = 0; i < 20; ++i) EXPECT_EQ(catalog->get(static_cast<std::int64_t>(i))->start_position, (4980 + i) * 32);
  EXPECT_EQ(*catalog->add(recording(5)), 21);
}

// At each step of a life of the catalog the machine loses power; what was answered is there afterwards.
TEST_F(CatalogTest, power_lost_at_any_step_loses_no_answered_change) {
  for (std::uint64_t step = 1; step < 60; ++step) {
    SCOPED_TRACE(step);
    Random random{step};
    test::CrashFileSystem disk{2U << 20};
    disk.stop_at(step);
    std::map<std::int64_t, std::int64_t> answered;  // the last change of each recording that succeeded
    {
      auto opened = RecordingCatalog::open(disk, clock, kArchive);
      for (std::int64_t i = 0; opened && i < 12; ++i) {
        if (i % 3 == 0) {
          const auto id = opened->add(recording(1));
          if (!id) break;
          answered[*id] = 0;
        }
        Recording changed = *opened->get(i / 3);
        changed.stop_ns = i + 1;
        if (!opened->put(changed)) break;
        answered[changed.id] = i + 1;
      }
    }
    disk.lose_power(random);
    auto again = RecordingCatalog::open(disk, clock, kArchive);
    ASSERT_TRUE(again) << again.error().message;
    for (const auto& [id, change] : answered) {
      ASSERT_NE(again->get(id), nullptr) << id;
      EXPECT_GE(again->get(id)->stop_ns.value_or(0), change);
    }
  }
}

TEST_F(CatalogTest, a_view_shows_active_stopped_and_interrupted_recordings_with_their_positions) {
  EXPECT_EQ(view_archive(files, kArchive).error().code, ErrorCode::kNotFound);
  open();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(catalog->add(recording(1001)));
  std::vector<std::unique_ptr<log::FrameLog>> logs;
  for (std::int64_t id = 0; id < 3; ++id) {
    auto options = log::frame_options(log::SyncPolicy::kExplicit, 96);
    options.log_id = id;
    auto opened = log::FrameLog::open(files, clock, frames_path(kArchive, id), options);
    ASSERT_TRUE(opened) << opened.error().message;
    logs.push_back(std::move(*opened));
    log::FrameSource source{96};
    while (source.position() < 5000) ASSERT_TRUE(logs.back()->append(source.next(64)));
  }
  const std::uint64_t end = logs[0]->position();
  Recording ended = *catalog->get(1);
  ended.stop_position = end;
  ASSERT_TRUE(catalog->put(ended));
  logs[1].reset();
  logs[2].reset();
  const auto view = view_archive(files, kArchive);
  ASSERT_TRUE(view) << view.error().message;
  ASSERT_EQ(view->recordings.size(), 3U);
  EXPECT_STREQ(view->recordings[0].state, "active");
  EXPECT_STREQ(view->recordings[1].state, "stopped");
  EXPECT_STREQ(view->recordings[2].state, "interrupted");
  for (const RecordingView& one : view->recordings) {
    EXPECT_EQ(one.start_position, 96U);
    EXPECT_EQ(one.position, end);
    EXPECT_EQ(one.segments, 1U);
    const auto verified = verify_recording(files, kArchive, one);
    ASSERT_TRUE(verified) << verified.error().message;
    EXPECT_TRUE(verified->findings.empty());
    EXPECT_EQ(verified->stop_position, end);
  }
  EXPECT_EQ(view_recording(files, kArchive, 9).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace thalweg::archive
