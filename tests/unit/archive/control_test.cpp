// What clients of the archive say over streams, and what they are answered. Spec: archive-log 16.4; docs/reference/archive-control.md.
#include "controlplane/archive/control_service.hpp"

#include <atomic>
#include <thread>

#include "dataplane/client/archive_client.hpp"
#include "tests/unit/client/fixture.hpp"

namespace thalweg::archive {
namespace {

using client::ArchiveClient;
using client::archive_protocol::Kind;
using Message = ControlService::Message;

// The driver and the archive's side turn on a thread, the client asks on the test's.
class ControlTest : public testing::Test {
 protected:
  void SetUp() override {
    client::test::IpcDriver::Options options;
    options.directory = directory_.path();
    driver_.emplace(options);
    thread_ = std::thread{[this] { turn_until_stopped(); }};
    auto connected = client::Client::connect(context(client::ConductorMode::kOwnThread));
    ASSERT_TRUE(connected) << connected.error().message;
    client_.emplace(std::move(*connected));
  }
  void TearDown() override {
    archive_.reset();
    client_.reset();
    stop_.store(true);
    thread_.join();
  }
  client::Context context(client::ConductorMode mode) {
    client::Context made;
    made.directory = directory_.path();
    made.mode = mode;
    made.idle_sleep = std::chrono::milliseconds{1};
    made.idle = [this] { driver_->do_work(); };
    made.on_error = [](const Error&) {};
    return made;
  }
  void turn_until_stopped() {
    auto connected = client::Client::connect(context(client::ConductorMode::kInvoker));
    if (!connected) return;
    ControlService service{settings_, {}};
    service.attach(*connected);
    const ControlService::Hands hands{.run = [](const std::string& verb, const api::Json& args, const ControlService::Answer& answer) { run(verb, args, answer); },
                                      .list = [](const Message& request) { return list(request); }};
    while (!stop_.load()) {
      driver_->do_work();
      static_cast<void>(connected->do_work());
      static_cast<void>(service.work(hands));
      clients_.store(service.client_count());
      std::this_thread::yield();
    }
    service.detach();
  }
  // Says what it was asked; refuses recording 13.
  static void run(const std::string& verb, const api::Json& args, const ControlService::Answer& answer) {
    if (args.value("recording", std::int64_t{0}) == 13) return answer(fail(ErrorCode::kInUse, verb + " of 13", "take another"));
    if (verb == "archive-record" && args.dump() == R"({"channel":"aeron:ipc","on_slow":"drop","source":"local","stream_id":5})") return answer(api::Json{{"number", 4}});
    if (verb == "archive-replay" && args.dump() == R"({"channel":"aeron:ipc?x=y","follow":true,"length":640,"position":96,"recording":3,"stream_id":-7})")
      return answer(api::Json{{"replay", 8}, {"session_id", -9}, {"start_position", 96}, {"stop_position", nullptr}});
    if (verb == "archive-stop" || verb == "archive-truncate" || verb == "archive-purge" || verb == "archive-stop-replay") return answer(api::Json::object());
    answer(fail(ErrorCode::kGeneric, verb + " " + args.dump()));
  }
  static std::vector<Message> list(const Message& request) {
    std::vector<Message> found;
    for (std::int64_t id = request.number(0); id < (request.kind == Kind::kListRecordings ? request.number(1) : request.number(0) + 1) && id < 100; ++id) {
      if (id == 50 && request.kind != Kind::kListRecordings) break;
      found.push_back({.kind = Kind::kRecording, .correlation_id = request.correlation_id, .numbers = {id, 1, 11, 0, 64, 4096, -2, 7, -3, 65536, 1408, 1 << 20}, .texts = {"name", "aeron:ipc", "aeron:ipc?a=b", "aeron:ipc"}});
    }
    return found;
  }
  void connect() {
    auto connected = ArchiveClient::connect(*client_, {});
    ASSERT_TRUE(connected) << connected.error().message;
    archive_.emplace(std::move(*connected));
  }

  test::TemporaryDirectory directory_{"archive-control"};
  Settings settings_;
  std::optional<client::test::IpcDriver> driver_;
  std::atomic<bool> stop_{false};
  std::atomic<std::size_t> clients_{0};
  std::thread thread_;
  std::optional<client::Client> client_;
  std::optional<ArchiveClient> archive_;
};

TEST_F(ControlTest, recordings_are_listed_and_found_with_all_that_is_known_of_them) {
  connect();
  const auto all = archive_->list_recordings({}, 40);
  ASSERT_TRUE(all) << all.error().message;
  ASSERT_EQ(all->size(), 40U);
  EXPECT_EQ(all->back().id, 39);
  const auto one = archive_->recording(17);
  ASSERT_TRUE(one) << one.error().message;
  EXPECT_EQ(one->id, 17);
  EXPECT_TRUE(one->is_active);
  EXPECT_EQ(one->start_position, 64);
  EXPECT_EQ(one->position, 4096);
  EXPECT_EQ(one->session_id, -2);
  EXPECT_EQ(one->stream_id, 7);
  EXPECT_EQ(one->initial_term_id, -3);
  EXPECT_EQ(one->term_length, 65536);
  EXPECT_EQ(one->mtu_length, 1408);
  EXPECT_EQ(one->segment_length, 1 << 20);
  EXPECT_EQ(one->original_channel, "aeron:ipc?a=b");
  const auto missing = archive_->recording(50);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  const auto none = archive_->find_last_recording({.min_id = 50});
  ASSERT_TRUE(none) << none.error().message;
  EXPECT_FALSE(*none);
}

TEST_F(ControlTest, requests_arrive_with_their_arguments_and_errors_come_back_whole) {
  connect();
  const auto number = archive_->start_recording("aeron:ipc", 5, {.is_local = true, .drops_when_slow = true});
  ASSERT_TRUE(number) << number.error().message;
  EXPECT_EQ(*number, 4);
  client::ReplayParams params;
  params.position = 96;
  params.length = 640;
  params.follow = true;
  const auto replay = archive_->start_replay(3, params, "aeron:ipc?x=y", -7);
  ASSERT_TRUE(replay) << replay.error().message;
  EXPECT_EQ(replay->id, 8);
  EXPECT_EQ(replay->session_id, -9);
  EXPECT_EQ(replay->start_position, 96);
  EXPECT_FALSE(replay->stop_position);
  EXPECT_TRUE(archive_->stop_replay(8));
  EXPECT_TRUE(archive_->stop_stream(4));
  EXPECT_TRUE(archive_->stop_recording(3));
  EXPECT_TRUE(archive_->truncate_recording(3, 64));
  const auto refused = archive_->purge_recording(13);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInUse);
  EXPECT_EQ(refused.error().message, "archive-purge of 13");
  EXPECT_EQ(refused.error().hint, "take another");
}

TEST_F(ControlTest, a_client_that_goes_is_forgotten) {
  connect();
  while (clients_.load() != 1) std::this_thread::yield();
  archive_.reset();
  while (clients_.load() != 0) std::this_thread::yield();
}

TEST_F(ControlTest, where_no_archive_listens_it_says_so) {
  ArchiveClient::Options options;
  options.control_stream = 99;
  options.timeout = std::chrono::milliseconds{20};
  const auto connected = ArchiveClient::connect(*client_, options);
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, ErrorCode::kUnreachable);
  EXPECT_NE(connected.error().message.find("no archive listens on aeron:ipc stream 99"), std::string::npos);
}

}  // namespace
}  // namespace thalweg::archive
