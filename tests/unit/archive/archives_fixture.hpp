#pragma once
// Real archives, clients of a scripted driver that turns on a thread of its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <mutex>
#include <thread>

#include "controlplane/archive/archive_verbs.hpp"
#include "controlplane/archive/view.hpp"
#include "dataplane/client/archive_client.hpp"
#include "tests/support/ipc_driver.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/unit/log/frame_fixture.hpp"

namespace thalweg::archive {

using log::kStream;

inline constexpr std::int32_t kSourceStream = 10;
inline constexpr std::int32_t kHereStream = 11;
inline constexpr std::uint32_t kPayload = 1000;

// A driver on a thread and two archives that are its clients.
class WithArchives : public testing::Test {
 protected:
  void SetUp() override {
    test::IpcDriver::Options options;
    options.directory = directory_.path();
    options.mtu = static_cast<std::int32_t>(kStream.mtu_bytes);
    options.initial_term_id = kStream.initial_term_id;
    options.to_clients_length = (1 << 20) + 128;
    driver_.emplace(options);
    thread_ = std::thread{[this] {
      while (!stop_.load()) {
        if (!is_paused_.load()) driver_->do_work();
        if (const std::lock_guard guard{mutex_}; on_driver_) std::exchange(on_driver_, {})(*driver_);
        std::this_thread::yield();
      }
    }};
  }
  void TearDown() override {
    archive_client_.reset();
    client_.reset();
    here_.reset();
    source_.reset();
    stop_.store(true);
    thread_.join();
  }

  [[nodiscard]] std::string place(const char* name) const { return directory_.path() + "/" + name; }
  Settings settings(const char* name, std::int32_t control_stream) const {
    Settings made;
    made.directory = place(name);
    made.instance_directory = directory_.path();
    made.segment_bytes = log::kSegmentBytesMin;
    made.control_stream = control_stream;
    made.low_space_bytes = 1;
    return made;
  }
  static std::unique_ptr<Archive> start(const Settings& settings) {
    auto archive = Archive::start(settings, {});
    EXPECT_TRUE(archive) << archive.error().message;
    return archive ? std::move(*archive) : nullptr;
  }
  void start_source(std::vector<Wish> wishes = {}) {
    Settings wanted = settings("source", kSourceStream);
    wanted.wishes = std::move(wishes);
    source_ = start(wanted);
  }
  void start_here() { here_ = start(settings("here", kHereStream)); }

  // A recording that ended, made before its archive runs. `payload`: of its frames; others make other bytes.
  std::uint64_t make_recording(const char* name, std::uint64_t bytes, std::uint32_t payload = kPayload, log::FrameStream stream = kStream) {
    auto catalog = RecordingCatalog::open(*files_, clock_, place(name));
    EXPECT_TRUE(catalog) << catalog.error().message;
    Recording recording{.start_ns = 5, .stop_ns = 6, .start_position = 0, .stream = stream, .segment_bytes = log::kSegmentBytesMin, .name = {}, .channel = "aeron:ipc", .original_channel = "aeron:ipc?alias=x", .source_identity = "aeron:ipc"};
    recording.id = *catalog->add(recording);
    log::FrameLogOptions options{.log_id = recording.id, .stream = stream, .segment_bytes = log::kSegmentBytesMin};
    auto log = log::FrameLog::open(*files_, clock_, frames_path(place(name), recording.id), options);
    EXPECT_TRUE(log) << log.error().message;
    log::FrameSource frames{0, stream};
    while (frames.position() < bytes) EXPECT_TRUE((*log)->append(frames.next(payload)));
    recording.stop_position = (*log)->position();
    EXPECT_TRUE((*log)->close());
    EXPECT_TRUE(catalog->put(recording));
    return *recording.stop_position;
  }
  // All bytes of a recording.
  std::vector<std::byte> bytes_of(const char* name, std::int64_t id) {
    std::vector<std::byte> bytes;
    const auto view = view_recording(*files_, place(name), id);
    EXPECT_TRUE(view) << view.error().message;
    if (!view) return bytes;
    auto reader = read_recording(*files_, place(name), view->recording);
    EXPECT_TRUE(reader) << reader.error().message;
    if (!reader) return bytes;
    for (auto block = reader->next(1 << 16); block && *block; block = reader->next(1 << 16)) bytes.insert(bytes.end(), (*block)->frames.begin(), (*block)->frames.end());
    return bytes;
  }

  Result<api::Json> ask(const std::string& verb, const api::Json& args = api::Json::object()) const { return ArchiveVerbs{here_.get(), Error{}}.run({verb, args}); }
  static api::Json wanted(std::int64_t recording = 0) {
    return {{"recording", recording}, {"source_channel", "aeron:ipc"}, {"source_stream", kSourceStream}, {"response_channel", "aeron:ipc"}};
  }
  std::int64_t replicate(const api::Json& args) {
    const auto started = ask("archive-replicate", args);
    EXPECT_TRUE(started) << started.error().message;
    return started ? (*started)["replication"].get<std::int64_t>() : -1;
  }
  api::Json look(std::int64_t replication) {
    const auto answer = ask("archive-replications");
    EXPECT_TRUE(answer) << answer.error().message;
    if (!answer) return {};
    const api::Json all = (*answer)["replications"];
    for (const api::Json& one : all)
      if (one["replication"] == replication) return one;
    return {};
  }
  // Until it is in one of these states.
  api::Json wait_for(std::int64_t replication, const std::vector<std::string>& states) {
    for (;;) {
      api::Json now = look(replication);
      if (!now.is_object() || std::find(states.begin(), states.end(), now["state"].get<std::string>()) != states.end()) return now;
      std::this_thread::yield();
    }
  }
  api::Json wait_for_end(std::int64_t replication) { return wait_for(replication, {"done", "failed", "stopped"}); }
  // Until this much has arrived; then nothing moves any more.
  void pause_at(std::int64_t replication, std::uint64_t position) {
    while (look(replication).value("position", std::uint64_t{0}) < position) std::this_thread::yield();
    is_paused_.store(true);
  }
  // Runs it on the driver's thread, between two turns.
  void with_driver(std::function<void(test::IpcDriver&)> task) {
    const std::lock_guard guard{mutex_};
    on_driver_ = std::move(task);
  }
  void connect(std::int32_t control_stream) {
    archive_client_.reset();
    client::Context context;
    context.directory = directory_.path();
    auto connected = client::Client::connect(std::move(context));
    ASSERT_TRUE(connected) << connected.error().message;
    client_.emplace(std::move(*connected));
    client::ArchiveClient::Options options;
    options.control_stream = control_stream;
    options.timeout = std::chrono::seconds{60};
    auto archive = client::ArchiveClient::connect(*client_, options);
    ASSERT_TRUE(archive) << archive.error().message;
    archive_client_.emplace(std::move(*archive));
  }

  test::TemporaryDirectory directory_{"replication"};
  std::unique_ptr<log::FileSystem> files_{log::make_plain_file_system()};
  log::SystemClock clock_;
  std::optional<test::IpcDriver> driver_;
  std::atomic<bool> is_paused_{false};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::function<void(test::IpcDriver&)> on_driver_;
  std::thread thread_;
  std::optional<client::Client> client_;
  std::optional<client::ArchiveClient> archive_client_;
  std::unique_ptr<Archive> source_;
  std::unique_ptr<Archive> here_;
};

}  // namespace thalweg::archive
