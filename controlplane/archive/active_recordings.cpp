#include "controlplane/archive/active_recordings.hpp"

#include <algorithm>
#include <cstring>

#include "dataplane/base/bytes.hpp"
#include "dataplane/base/units.hpp"
#include "dataplane/shm/counters.hpp"

namespace thalweg::archive {

std::string text_of(const Recording& recording) {
  return recording.channel + " stream " + std::to_string(recording.stream.stream_id) + " session " + std::to_string(recording.stream.session_id) + " from " + recording.source_identity;
}

void ask_for_counter(ActiveRecording& active, client::Client& client) {
  constexpr std::size_t kSourceOffset = 16;
  const Recording& recording = active.recording;
  const std::string source = recording.source_identity.substr(0, shm::kCounterKeyMax - kSourceOffset);
  std::vector<std::byte> key(kSourceOffset + source.size());
  store_le(key.data(), recording.id);
  store_le(key.data() + 8, recording.stream.session_id);
  store_le(key.data() + 12, static_cast<std::uint32_t>(source.size()));
  if (!source.empty()) std::memcpy(key.data() + kSourceOffset, source.data(), source.size());
  active.counter.ask(client, kRecordingPositionType, key,
                     "rec-pos: " + std::to_string(recording.id) + " " + std::to_string(recording.stream.session_id) + " " + std::to_string(recording.stream.stream_id) + " " + recording.channel);
}

ActiveRecordings::ActiveRecordings(log::FileSystem& files, const log::Clock& clock, RecordingCatalog& catalog, const Settings& settings, EventSink events)
    : files_{files}, clock_{clock}, catalog_{catalog}, settings_{settings}, events_{std::move(events)} {}

void ActiveRecordings::tell(Event::Level level, const char* name, std::int64_t recording, std::string text) const {
  if (events_) events_({level, name, recording, std::move(text)});
}

log::FrameLogOptions ActiveRecordings::log_options(const Recording& recording) const {
  log::FrameLogOptions options;
  options.log_id = recording.id;
  options.stream = recording.stream;
  options.segment_bytes = recording.segment_bytes;
  options.start_position = recording.start_position;
  options.sync = settings_.sync;
  options.sync_interval_ns = settings_.sync_interval_ns;
  return options;
}

Result<void> ActiveRecordings::check_limits() const {
  if (count() >= settings_.recordings_max)
    return fail(ErrorCode::kInUse, std::to_string(count()) + " recordings are active, no more are allowed", "raise archive.max-active-recordings");
  const auto space = files_.space(settings_.directory);
  if (!space) return tl::unexpected{space.error()};
  if (space->free_bytes >= low_space()) return {};
  return fail(ErrorCode::kNoSpace, settings_.directory + ": only " + format_size(static_cast<std::int64_t>(space->free_bytes)) + " are free, archive.low-space is " +
                                       format_size(static_cast<std::int64_t>(low_space())),
              "delete recordings (thalweg archive purge), or let retention do it");
}

Result<std::shared_ptr<ActiveRecording>> ActiveRecordings::create(Recording recording) {
  recording.stop_position.reset();
  recording.stop_ns.reset();
  auto id = catalog_.add(recording);
  if (!id) return tl::unexpected{std::move(id.error())};
  recording.id = *id;
  auto log = log::FrameLog::open(files_, clock_, frames_path(settings_.directory, recording.id), log_options(recording));
  if (log) return add(std::move(recording), std::move(*log), "recording_started");
  recording.state = RecordingState::kDeleted;     // nothing was recorded
  static_cast<void>(catalog_.put(recording));  // else it is found at the next start
  return tl::unexpected{std::move(log.error())};
}

// Not behind frames that the disk damaged: they would share a checksum.
Result<std::shared_ptr<ActiveRecording>> ActiveRecordings::extend(std::int64_t id) {
  const Recording* const known = catalog_.get(id);
  if (known == nullptr) return fail(ErrorCode::kNotFound, "there is no recording " + std::to_string(id), "thalweg archive list shows them");
  if (find(id) != nullptr) return fail(ErrorCode::kInUse, "recording " + std::to_string(id) + " is active", "stop it first: thalweg archive stop " + std::to_string(id));
  Recording recording = *known;
  auto log = log::FrameLog::open(files_, clock_, frames_path(settings_.directory, id), log_options(recording));
  if (!log) return tl::unexpected{std::move(log.error())};
  if (auto room = (*log)->make_room(); !room) return tl::unexpected{std::move(room.error())};
  recording.stop_position.reset();
  recording.stop_ns.reset();
  if (auto put = catalog_.put(recording); !put) return tl::unexpected{std::move(put.error())};
  return add(std::move(recording), std::move(*log), "recording_extended");
}

std::shared_ptr<ActiveRecording> ActiveRecordings::add(Recording recording, std::unique_ptr<log::FrameLog> log, const char* event) {
  auto active = std::make_shared<ActiveRecording>();
  active->recording = std::move(recording);
  active->log = std::move(log);
  {
    const std::lock_guard guard{logs_mutex_};
    logs_.push_back(active->log);
  }
  active_.push_back(active);
  tell(Event::Level::kInfo, event, active->recording.id, text_of(active->recording) + " at " + std::to_string(active->log->position()));
  return active;
}

void ActiveRecordings::end(ActiveRecording& active, const Error* error) {
  active.counter.close();
  const auto closed = active.log->close();
  Recording& recording = active.recording;
  recording.start_position = active.log->first_position();
  recording.stop_position = active.log->position();
  recording.stop_ns = clock_.epoch_ns();
  {
    const std::lock_guard guard{logs_mutex_};
    std::erase_if(logs_, [&](const auto& known) { return known == active.log; });
  }
  if (auto put = catalog_.put(recording); !put) tell(Event::Level::kError, "archive_catalog", recording.id, put.error().message);
  const std::string where = text_of(recording) + " at " + std::to_string(*recording.stop_position);
  if (error != nullptr) tell(Event::Level::kError, "recording_failed", recording.id, where + ": " + error->message);
  else if (!closed) tell(Event::Level::kError, "recording_failed", recording.id, where + ": " + closed.error().message);
  else tell(Event::Level::kInfo, "recording_stopped", recording.id, where);
  std::erase_if(active_, [&](const auto& known) { return known.get() == &active; });
}

const ActiveRecording* ActiveRecordings::find(std::int64_t id) const noexcept {
  for (const auto& active : active_)
    if (active->recording.id == id) return active.get();
  return nullptr;
}

std::vector<std::shared_ptr<log::FrameLog>> ActiveRecordings::logs() const {
  const std::lock_guard guard{logs_mutex_};
  return logs_;
}

}  // namespace thalweg::archive
