#pragma once
#include <memory>

#include "controlplane/archive/active_recordings.hpp"
#include "dataplane/client/client.hpp"

namespace thalweg::archive {

// One image on its way into a recording. The archive's thread.
class RecordingSession {
 public:
  // Asks the driver for the position counter; without one it records all the same.
  RecordingSession(client::Client& client, std::shared_ptr<ActiveRecording> active, std::shared_ptr<client::Image> image);

  // Moves what is there, at most one block. Returns the bytes. An error ends the session: kNoSpace, kIo, kInvalidArgument (the log buffer has no frame
  // of this stream where one should be); what was recorded before it stays.
  [[nodiscard]] Result<std::int64_t> work(client::Client& client);
  // The publisher ended, or the image is gone, and everything that was there is recorded.
  [[nodiscard]] bool is_over() const noexcept { return image_->is_closed() || image_->is_end_of_stream() || image_->is_malformed(); }

  [[nodiscard]] ActiveRecording& active() const noexcept { return *active_; }
  [[nodiscard]] const std::shared_ptr<client::Image>& image() const noexcept { return image_; }

 private:
  std::shared_ptr<ActiveRecording> active_;
  std::shared_ptr<client::Image> image_;
};

}  // namespace thalweg::archive
