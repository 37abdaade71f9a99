#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "controlplane/archive/late_counter.hpp"
#include "controlplane/archive/recording_catalog.hpp"
#include "controlplane/archive/settings.hpp"
#include "controlplane/log/frame_log.hpp"

namespace thalweg::archive {

// The field's counter of a recording's position: type 100; key: recording id, session id, length of the source identity, that.
inline constexpr std::int32_t kRecordingPositionType = 100;

// A recording that is written to now.
struct ActiveRecording {
  Recording recording;
  std::shared_ptr<log::FrameLog> log;
  LateCounter counter;
};

// All recordings that are written to, whoever writes them: their logs, what the catalog says of them, limits. The archive's thread, but for logs().
// Spec: archive-log 16.2 to 16.4.
class ActiveRecordings {
 public:
  ActiveRecordings(log::FileSystem& files, const log::Clock& clock, RecordingCatalog& catalog, const Settings& settings, EventSink events);
  ActiveRecordings(const ActiveRecordings&) = delete;
  ActiveRecordings& operator=(const ActiveRecordings&) = delete;

  // Whether another one may begin. Errors: kInUse (as many as may be are active), kNoSpace (low space).
  [[nodiscard]] Result<void> check_limits() const;
  // A new recording with the next id, at its start position. Errors: kNoSpace, kIo.
  [[nodiscard]] Result<std::shared_ptr<ActiveRecording>> create(Recording recording);
  // One that ended goes on at its stop position. Errors: kNotFound, kInUse (it is active), kIo (its last frames are damaged), kNoSpace.
  [[nodiscard]] Result<std::shared_ptr<ActiveRecording>> extend(std::int64_t id);
  // Closes its log and enters where it ended; `error`: why, if it was not meant to end.
  void end(ActiveRecording& active, const Error* error);

  // nullptr: it is not active.
  [[nodiscard]] const ActiveRecording* find(std::int64_t id) const noexcept;
  [[nodiscard]] std::size_t count() const noexcept { return active_.size(); }
  // The logs that are written now, for the thread that syncs them. Any thread.
  [[nodiscard]] std::vector<std::shared_ptr<log::FrameLog>> logs() const;

  // How a recording's log is opened.
  [[nodiscard]] log::FrameLogOptions log_options(const Recording& recording) const;
  [[nodiscard]] std::uint64_t low_space() const noexcept { return settings_.low_space_bytes != 0 ? settings_.low_space_bytes : settings_.segment_bytes; }

 private:
  [[nodiscard]] std::shared_ptr<ActiveRecording> add(Recording recording, std::unique_ptr<log::FrameLog> log, const char* event);
  void tell(Event::Level level, const char* name, std::int64_t recording, std::string text) const;

  log::FileSystem& files_;
  const log::Clock& clock_;
  RecordingCatalog& catalog_;
  const Settings& settings_;
  EventSink events_;
  std::vector<std::shared_ptr<ActiveRecording>> active_;

  mutable std::mutex logs_mutex_;
  std::vector<std::shared_ptr<log::FrameLog>> logs_;
};

// "aeron:ipc stream 7 session 5 from aeron:ipc".
[[nodiscard]] std::string text_of(const Recording& recording);
// Asks for its position counter.
void ask_for_counter(ActiveRecording& active, client::Client& client);

}  // namespace thalweg::archive
