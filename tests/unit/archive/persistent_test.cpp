// Users of an archive in C++ and C: a subscription that falls back to the recording when its live image is lost, and every function of the C ABI. Spec: archive-log 16.3.
#include "dataplane/client/persistent_subscription.hpp"
#include "dataplane/client/thalweg.hpp"
#include "tests/unit/archive/archives_fixture.hpp"
#include "tests/unit/archive/c_archive_checks.h"

namespace thalweg::archive {
namespace {

constexpr std::int32_t kLiveStream = 4;

class UsersTest : public WithArchives {
 protected:
  void SetUp() override {
    WithArchives::SetUp();
    start_source({{.name = "live", .channel = "aeron:ipc", .stream_id = kLiveStream, .keep = {}}});
    while (!source_->is_ready()) std::this_thread::yield();
    connect(kSourceStream);
    ASSERT_TRUE(archive_client_);
    auto added = client_->add_exclusive_publication("aeron:ipc", kLiveStream);
    ASSERT_TRUE(added) << added.error().message;
    publication_.emplace(std::move(*added));
    publish(1);
    while (archive_client_->list_recordings().value_or(std::vector<client::RecordingInfo>{}).empty()) std::this_thread::yield();
  }
  void TearDown() override {
    publication_.reset();
    WithArchives::TearDown();
  }
  // Messages with ascending numbers.
  void publish(int count) {
    for (int i = 0; i < count;) {
      const std::int64_t number = sent_;
      std::byte bytes[200]{};
      store_le(bytes, number);
      if (!publication_->offer(std::span<const std::byte>{bytes})) {
        std::this_thread::yield();
        continue;
      }
      ++sent_;
      ++i;
    }
  }
  std::optional<client::ExclusivePublication> publication_;
  std::int64_t sent_{};
};

TEST_F(UsersTest, a_persistent_subscription_falls_back_when_its_live_image_is_lost_and_joins_again) {
  publish(99);
  client::PersistentSubscription::Options options;
  options.recording = 0;
  options.live_channel = "aeron:ipc";
  options.live_stream = kLiveStream;
  options.replay_stream = 77;
  options.retry_interval = std::chrono::milliseconds{1};
  int joined = 0, left = 0;
  options.on_live_joined = [&joined](std::int64_t) { ++joined; };
  options.on_live_left = [&left](std::int64_t) { ++left; };
  auto made = client::PersistentSubscription::create(*archive_client_, std::move(options));
  ASSERT_TRUE(made) << made.error().message;
  std::vector<std::int64_t> received;
  const auto poll = [&] {
    made->poll([&](std::span<const std::byte> message, const client::Header&) { received.push_back(load_le<std::int64_t>(message.data())); }, 10);
    ASSERT_FALSE(made->failure()) << made->failure()->message;
    std::this_thread::yield();
  };
  for (int round = 1; round <= 3; ++round) {
    while (received.size() < static_cast<std::size_t>(sent_) || !made->is_live()) poll();
    EXPECT_EQ(joined, round);
    EXPECT_EQ(left, round - 1);
    if (round == 3) break;
    with_driver([](test::IpcDriver& driver) {
      for (std::size_t i = 0; i < driver.stream_count(); ++i) {
        test::IpcDriver::Stream& stream = driver.stream(i);
        if (stream.stream_id != kLiveStream || stream.is_draining) continue;
        driver.drop_image(stream.id, stream.subscribers.back().subscription_id);  // the archive was there first
        return;
      }
    });
    while (left < round) poll();
    publish(50);
  }
  std::vector<std::int64_t> everything(static_cast<std::size_t>(sent_));
  for (std::size_t i = 0; i < everything.size(); ++i) everything[i] = static_cast<std::int64_t>(i);
  EXPECT_EQ(received, everything) << "a gap, or a message twice";
}

TEST_F(UsersTest, programs_in_c_find_record_replay_copy_and_follow_recordings) {
  publish(99);
  start_here();
  const char* const complaint = check_archive(directory_.path().c_str());
  if (complaint != nullptr) ADD_FAILURE() << complaint;
}

}  // namespace
}  // namespace thalweg::archive
