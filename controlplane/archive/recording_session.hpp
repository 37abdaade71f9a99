#pragma once
#include <memory>
#include <optional>
#include <string>

#include "controlplane/archive/recording.hpp"
#include "controlplane/log/frame_log.hpp"
#include "dataplane/client/client.hpp"

namespace thalweg::archive {

// The field's counter of a recording's position: type 100; key: recording id, session id, length of the source identity, that.
inline constexpr std::int32_t kRecordingPositionType = 100;

// One image on its way into a recording. The archive's thread.
class RecordingSession {
 public:
  // Asks the driver for the position counter; without one it records all the same.
  RecordingSession(client::Client& client, Recording recording, std::shared_ptr<log::FrameLog> log, std::shared_ptr<client::Image> image);

  // Moves what is there, at most one block. Returns the bytes. An error ends the session: kNoSpace, kIo, kInvalidArgument (the log buffer has no frame
  // of this stream where one should be); what was recorded before it stays.
  [[nodiscard]] Result<std::int64_t> work(client::Client& client);
  // The publisher ended, or the image is gone, and everything that was there is recorded.
  [[nodiscard]] bool is_over() const noexcept { return image_->is_closed() || image_->is_end_of_stream() || image_->is_malformed(); }
  // Gives the counter back; the image is left alone from now on.
  void let_go() noexcept;

  [[nodiscard]] const Recording& recording() const noexcept { return recording_; }
  [[nodiscard]] Recording& recording() noexcept { return recording_; }
  [[nodiscard]] const std::shared_ptr<log::FrameLog>& log() const noexcept { return log_; }
  [[nodiscard]] const std::shared_ptr<client::Image>& image() const noexcept { return image_; }

 private:
  void look_for_counter(client::Client& client);

  Recording recording_;
  std::shared_ptr<log::FrameLog> log_;
  std::shared_ptr<client::Image> image_;
  std::optional<client::RegistrationId> counter_wanted_;
  client::ClientCounter counter_;
};

}  // namespace thalweg::archive
