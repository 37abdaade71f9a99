#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/archive/recording_session.hpp"
#include "controlplane/archive/replayer.hpp"
#include "controlplane/archive/settings.hpp"
#include "dataplane/client/client.hpp"

namespace thalweg::archive {

// Subscribes to what is wished for and keeps a session for each image; cuts, deletes and retains what has ended. The archive's thread. Spec: archive-log 16.1 to 16.4.
class Recorder {
 public:
  // `replayer`: what it reads is neither cut nor deleted; null: nobody replays.
  Recorder(log::FileSystem& files, const log::Clock& clock, RecordingCatalog& catalog, ActiveRecordings& active, const Settings& settings, EventSink events,
           const Replayer* replayer = nullptr);
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // Ends what a crash left open: its catalog entry gets the position where its frames end. What cannot be opened is reported and left.
  void recover();
  // From now on it records through this client, until detach(); wishes are subscribed to again.
  void attach(client::Client& client);
  // The client is gone: ends all sessions.
  void detach();
  // One turn; returns the bytes recorded.
  [[nodiscard]] std::int64_t work();

  // The driver has answered for every wish.
  [[nodiscard]] bool has_subscribed() const noexcept;

  // Adds a wish. Errors: kInvalidArgument (a channel that is none), kInUse when one of the same channel, stream and source is there.
  [[nodiscard]] Result<std::uint32_t> add_wish(Wish wish);
  // Ends its subscription and sessions. Errors: kNotFound.
  [[nodiscard]] Result<void> remove_wish(std::uint32_t number);
  // Ends a session; its image is not recorded again, nor does it hold anybody back. Errors: kNotFound.
  [[nodiscard]] Result<void> stop(std::int64_t recording);
  // Cuts an ended recording. Errors: kNotFound, kInUse while it is recorded or replayed, kInvalidArgument, kIo.
  [[nodiscard]] Result<void> truncate(std::int64_t recording, std::uint64_t position);
  // Deletes an ended recording with its files. Errors: as truncate().
  [[nodiscard]] Result<void> purge(std::int64_t recording);

  struct WishView {
    std::uint32_t number{};
    Wish wish;
    const char* state{""};      // "waiting", "subscribed", "failed", "no space"
    std::string error;
    std::size_t sessions{};
  };
  [[nodiscard]] std::vector<WishView> wishes() const;

 private:
  // A subscription and the images that it led to.
  struct Interest {
    std::uint32_t number{};
    Wish wish;
    std::optional<client::RegistrationId> wanted;
    client::Subscription subscription;
    std::string error;
    bool has_no_space{};
    std::vector<std::unique_ptr<RecordingSession>> sessions;
    std::vector<std::shared_ptr<client::Image>> discarded;  // still there and not recorded: read all the same, or they would hold their publishers back
  };
  void subscribe(Interest& interest);
  void look_at_subscription(Interest& interest);
  void look_at_images(Interest& interest);
  void begin(Interest& interest, const std::shared_ptr<client::Image>& image);
  void suspend(Interest& interest);
  [[nodiscard]] Result<std::unique_ptr<RecordingSession>> begin_session(const Interest& interest, const std::shared_ptr<client::Image>& image);
  [[nodiscard]] Recording describe(const Interest& interest, const client::Image& image) const;
  [[nodiscard]] std::shared_ptr<ActiveRecording> extend(const Recording& recording);
  [[nodiscard]] std::int64_t record(Interest& interest);
  void end(Interest& interest, RecordingSession& session, const Error* error);
  void end_all(Interest& interest);
  [[nodiscard]] Result<Recording> ended_recording(std::int64_t id) const;
  [[nodiscard]] bool is_replayed(std::int64_t id) const { return replayer_ != nullptr && replayer_->active_count(id) > 0; }
  void retain();
  void retain(const Interest& interest);
  [[nodiscard]] std::uint64_t file_bytes_of(std::int64_t recording);
  void retry_without_space();
  void tell(Event::Level level, const char* name, std::int64_t recording, std::string text) const;

  log::FileSystem& files_;
  const log::Clock& clock_;
  RecordingCatalog& catalog_;
  ActiveRecordings& active_;
  const Settings& settings_;
  EventSink events_;
  const Replayer* replayer_;
  client::Client* client_{};
  std::vector<std::unique_ptr<Interest>> interests_;
  std::uint32_t next_number_{0};
  std::shared_ptr<std::atomic<bool>> have_images_changed_{std::make_shared<std::atomic<bool>>(true)};  // set by the client's thread
  std::int64_t next_retention_ns_{};
  std::int64_t next_space_check_ns_{};
  std::map<std::int64_t, std::uint64_t> ended_bytes_;  // of files, as far as they were looked at
};

}  // namespace thalweg::archive
