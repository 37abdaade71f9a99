// Recordings replayed into publications: where they begin and end, what is refused, what a live one does. Spec: archive-log 13, 16.3.
#include "controlplane/archive/replay_session.hpp"
#include "tests/unit/client/fixture.hpp"
#include "tests/unit/log/frame_fixture.hpp"

namespace thalweg::archive {
namespace {

using log::kStream;

constexpr const char* kArchive = "archive";
constexpr const char* kChannel = "aeron:ipc";
constexpr std::int32_t kInto = 2002;
constexpr std::uint32_t kPayload = 1000;
constexpr std::int64_t kPatience_ns = 5 * kSecond_ns;

client::test::IpcDriver::Options driver_options() {
  client::test::IpcDriver::Options options;
  options.mtu = static_cast<std::int32_t>(kStream.mtu_bytes);
  options.initial_term_id = kStream.initial_term_id;
  return options;
}

class ReplayTest : public client::test::WithDriver {
 protected:
  ReplayTest() : WithDriver{driver_options()} {}
  void SetUp() override {
    WithDriver::start();
    recording_ = {.id = 3, .start_ns = clock_.epoch_ns(), .start_position = 0, .stream = kStream, .segment_bytes = log::kSegmentBytesMin, .name = {}};
    auto opened = log::FrameLog::open(files_, clock_, frames_path(kArchive, 3), log::frame_options());
    ASSERT_TRUE(opened) << opened.error().message;
    log_ = std::move(*opened);
  }
  // Until the recording ends at `position` or behind it; a microsecond passes with each frame.
  void record(std::uint64_t position) {
    while (source_.position() < position) {
      clock_.advance(kMicrosecond_ns);
      ASSERT_TRUE(log_->append(source_.next(kPayload)));
    }
  }
  ReplayRequest request(std::optional<std::uint64_t> position = {}) {
    ReplayRequest wanted{.recording = recording_, .live = log_, .channel = kChannel, .stream_id = kInto, .position = position, .time_ns = {}, .length_bytes = {}, .limit_counter = {}};
    return wanted;
  }
  Result<std::unique_ptr<ReplaySession>> try_start(ReplayRequest wanted) { return ReplaySession::start(files_, clock_, kArchive, *client_, 1, std::move(wanted), kPatience_ns); }
  // One with somebody who listens.
  std::unique_ptr<ReplaySession> start(const ReplayRequest& wanted) {
    auto started = try_start(wanted);
    if (!started) {
      ADD_FAILURE() << started.error().message;
      return nullptr;
    }
    listen(**started);
    return std::move(*started);
  }
  void listen(const ReplaySession& session) {
    subscriptions_.push_back(subscription(*replay_channel(kChannel, kStream, session.view().start_position), kInto));
  }
  // Bytes of position that were received, in order and as recorded.
  std::uint64_t turn(ReplaySession& session) {
    const std::uint64_t before = session.view().position;
    static_cast<void>(session.work(*client_, 1U << 20));
    settle();
    for (auto& one : subscriptions_) take(one);
    settle();
    return session.view().position - before;
  }
  void take(client::Subscription& from) {
    std::int64_t bytes = 0;
    do {
      bytes = from.block_poll([this](std::span<const std::byte> frames, std::int32_t, std::int32_t) { received_.insert(received_.end(), frames.begin(), frames.end()); }, 1 << 16);
    } while (bytes > 0);
  }
  void run(ReplaySession& session) {
    for (int i = 0; i < 2000 && !session.view().is_over(); ++i) turn(session);
    for (int i = 0; i < 4; ++i) turn(session);  // what is left in the log of one that is over
  }
  // Frames from `from` on, session and stream ids of the replay in them; padding is its header.
  [[nodiscard]] std::vector<std::byte> expected(std::uint64_t from, std::uint64_t to, const ReplaySession& session) const {
    log::FrameStream stream = kStream;
    stream.session_id = session.view().session_id;
    stream.stream_id = kInto;
    log::FrameSource source{from, stream};
    std::vector<std::byte> bytes;
    while (source.position() < to) {
      const auto frame = source.next(kPayload);
      bytes.insert(bytes.end(), frame.begin(), frame.end());
    }
    return bytes;
  }

  test::CrashFileSystem files_{2U << 20};
  log::ManualClock clock_;
  Recording recording_;
  std::shared_ptr<log::FrameLog> log_;
  log::FrameSource source_;
  std::vector<client::Subscription> subscriptions_;
  std::vector<std::byte> received_;
};

TEST(ReplayChannel, has_what_makes_positions_those_of_the_recording) {
  EXPECT_EQ(*replay_channel("aeron:ipc", kStream, 3 * 65536 + 96), "aeron:ipc?term-length=65536|mtu=1408|init-term-id=-3|term-id=0|term-offset=96");
  EXPECT_EQ(*replay_channel("aeron:udp?endpoint=h:1|session-id=7", kStream, 0), "aeron:udp?endpoint=h:1|session-id=7|term-length=65536|mtu=1408|init-term-id=-3|term-id=-3|term-offset=0");
  EXPECT_TRUE(replay_channel("aeron:ipc?term-length=64k|mtu=1408", kStream, 0));
  const auto other = replay_channel("aeron:ipc?term-length=128k", kStream, 0);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(other.error().message.find("must be 65536"), std::string::npos);
  EXPECT_FALSE(replay_channel("aeron-spy:aeron:udp?endpoint=h:1", kStream, 0));
  EXPECT_EQ(replay_channel("nonsense", kStream, 0).error().code, ErrorCode::kInvalidChannel);
}

TEST_F(ReplayTest, of_a_whole_recording_brings_every_frame_at_its_position_and_ends) {
  record(300'000);
  const auto session = start(request());
  ASSERT_NE(session, nullptr);
  run(*session);
  EXPECT_EQ(session->view().state, ReplayState::kDone) << session->view().error;
  EXPECT_EQ(session->view().position, log_->position());
  EXPECT_EQ(received_, expected(0, log_->position(), *session));
}

TEST_F(ReplayTest, from_a_position_in_the_middle_of_a_term_for_a_length_ends_with_a_whole_frame) {
  record(300'000);
  const std::uint64_t from = 65536 + 5 * 1056;
  ReplayRequest wanted = request(from);
  wanted.length_bytes = 2000;
  const auto session = start(wanted);
  ASSERT_NE(session, nullptr);
  run(*session);
  EXPECT_EQ(session->view().position, from + 2 * 1056);
  EXPECT_EQ(session->view().state, ReplayState::kDone);
  EXPECT_EQ(received_, expected(from, from + 2 * 1056, *session));
}

TEST_F(ReplayTest, from_a_time_begins_with_what_was_recorded_then) {
  record(100'000);
  clock_.advance(kSecond_ns);
  const std::uint64_t middle = source_.position();
  const std::int64_t then_ns = clock_.epoch_ns();
  record(200'000);
  ReplayRequest wanted = request();
  wanted.time_ns = then_ns;
  const auto session = start(wanted);
  ASSERT_NE(session, nullptr);
  EXPECT_LE(session->view().start_position, middle);
  EXPECT_GT(session->view().start_position + 4096 + 1056, middle) << "no more than a page and a frame too early";
  run(*session);
  EXPECT_EQ(received_, expected(session->view().start_position, log_->position(), *session));
}

TEST_F(ReplayTest, that_follows_goes_on_with_the_recording_and_ends_with_it) {
  record(5000);
  ReplayRequest wanted = request();
  wanted.is_followed = true;
  const auto session = start(wanted);
  ASSERT_NE(session, nullptr);
  for (std::uint64_t end = 20'000; end < 400'000; end += 10'000) {
    record(end);
    for (int i = 0; i < 6; ++i) turn(*session);
    EXPECT_EQ(session->view().position, log_->position());
    EXPECT_FALSE(session->view().is_over());
  }
  EXPECT_FALSE(session->view().stop_position);
  record(410'000);
  const std::uint64_t end = log_->position();
  log_.reset();
  run(*session);
  EXPECT_EQ(session->view().state, ReplayState::kDone) << session->view().error;
  EXPECT_EQ(received_, expected(0, end, *session));
}

TEST_F(ReplayTest, that_follows_an_empty_live_recording_waits_for_its_first_frame) {
  ReplayRequest wanted = request();
  wanted.is_followed = true;
  const auto session = start(wanted);
  ASSERT_NE(session, nullptr);
  for (int i = 0; i < 4; ++i) turn(*session);
  EXPECT_EQ(session->view().state, ReplayState::kReplaying);
  record(3000);
  for (int i = 0; i < 4; ++i) turn(*session);
  EXPECT_EQ(session->view().position, log_->position());
}

TEST_F(ReplayTest, that_does_not_follow_ends_where_the_recording_was_when_it_began) {
  record(50'000);
  const std::uint64_t end = log_->position();
  const auto session = start(request());
  ASSERT_NE(session, nullptr);
  record(100'000);
  run(*session);
  EXPECT_EQ(session->view().position, end);
}

TEST_F(ReplayTest, that_is_bounded_never_passes_its_counter) {
  record(200'000);
  auto counter = client_->add_counter(1001, {}, "commit position");
  ASSERT_TRUE(counter) << counter.error().message;
  ReplayRequest wanted = request();
  wanted.limit_counter = counter->id();
  const auto session = start(wanted);
  ASSERT_NE(session, nullptr);
  counter->set(0);
  for (int i = 0; i < 4; ++i) turn(*session);
  EXPECT_EQ(session->view().position, 0U);
  for (const std::int64_t bound : {1055, 1056, 5000, 65535, 65536, 70'000, 150'000}) {
    counter->set(bound);
    for (int i = 0; i < 20; ++i) turn(*session);
    EXPECT_LE(session->view().position, static_cast<std::uint64_t>(bound));
    EXPECT_GT(session->view().position + 1056 + 1056, static_cast<std::uint64_t>(bound));
  }
  counter->set(INT64_MAX);
  run(*session);
  EXPECT_EQ(session->view().state, ReplayState::kDone) << session->view().error;
  EXPECT_EQ(received_, expected(0, log_->position(), *session));
}

TEST_F(ReplayTest, twice_at_once_are_independent) {
  record(150'000);
  const auto first = start(request());
  auto second = try_start(request(65536));
  ASSERT_TRUE(first && second);
  run(*first);
  EXPECT_EQ(received_, expected(0, log_->position(), *first));
  received_.clear();
  subscriptions_.clear();
  listen(**second);
  run(**second);
  EXPECT_EQ(received_, expected(65536, log_->position(), **second));
}

TEST_F(ReplayTest, that_nobody_hears_ends_after_a_while_with_the_reason) {
  record(50'000);
  auto session = try_start(request());
  ASSERT_TRUE(session);
  for (int i = 0; i < 4; ++i) turn(**session);
  EXPECT_TRUE((*session)->has_publication());
  EXPECT_EQ((*session)->view().state, ReplayState::kConnecting);
  clock_.advance(kPatience_ns + 1);
  turn(**session);
  EXPECT_EQ((*session)->view().state, ReplayState::kFailed);
  EXPECT_NE((*session)->view().error.find("nobody subscribes to aeron:ipc stream 2002"), std::string::npos);
}

TEST_F(ReplayTest, that_is_stopped_sends_nothing_more) {
  record(200'000);
  const auto session = start(request());
  ASSERT_NE(session, nullptr);
  for (int i = 0; i < 3; ++i) turn(*session);
  session->stop();
  const std::uint64_t position = session->view().position;
  EXPECT_LT(position, log_->position());
  run(*session);
  EXPECT_EQ(session->view().position, position);
  EXPECT_EQ(session->view().state, ReplayState::kStopped);
  EXPECT_EQ(received_, expected(0, position, *session)) << "what was sent is delivered";
}

TEST_F(ReplayTest, that_cannot_be_is_refused_with_recording_position_and_what_would_be_right) {
  record(200'000);
  const auto refused = [&](ReplayRequest wanted, ErrorCode code, const std::string& text) {
    const auto started = try_start(std::move(wanted));
    ASSERT_FALSE(started) << text;
    EXPECT_EQ(started.error().code, code) << text;
    EXPECT_NE(started.error().message.find(text), std::string::npos) << started.error().message;
    EXPECT_TRUE(started.error().message.find("recording 3") != std::string::npos || started.error().message.find("aeron") != std::string::npos) << started.error().message;
  };
  const std::string end = std::to_string(log_->position());
  refused(request(1024), ErrorCode::kInvalidArgument, "no frame begins at position 1024; the one before begins at 0");
  refused(request(500'000), ErrorCode::kInvalidArgument, "position 500000 is not in the recording, which has 0 to " + end);
  refused(request(log_->position()), ErrorCode::kInvalidArgument, "nothing behind position " + end);
  ASSERT_TRUE(log_->delete_oldest(1));
  refused(request(0), ErrorCode::kInvalidArgument, "which has 65536 to " + end);
  ReplayRequest wanted = request();
  wanted.channel = "aeron-spy:aeron:ipc";
  EXPECT_FALSE(try_start(wanted));
  wanted = request();
  wanted.recording.id = 4;
  EXPECT_EQ(try_start(wanted).error().code, ErrorCode::kNotFound);
}

TEST_F(ReplayTest, over_damage_ends_with_file_and_position) {
  record(200'000);
  const auto listing = log::list_segments(files_, frames_path(kArchive, 3));
  ASSERT_TRUE(listing);
  auto file = files_.open(listing->segments.at(1).path, log::OpenMode::kWrite);
  ASSERT_TRUE(file);
  const std::byte flipped[]{std::byte{0x5A}};
  ASSERT_TRUE((*file)->write_at(flipped, log::kDataOffset + 20'000));
  const auto session = start(request());
  ASSERT_NE(session, nullptr);
  run(*session);
  EXPECT_EQ(session->view().state, ReplayState::kFailed);
  EXPECT_NE(session->view().error.find("damage at offset"), std::string::npos) << session->view().error;
  EXPECT_LE(session->view().position, 65536U + 20'000);
}

}  // namespace
}  // namespace thalweg::archive
