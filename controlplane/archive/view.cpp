#include "controlplane/archive/view.hpp"

#include <atomic>

#include "controlplane/archive/recording_catalog.hpp"
#include "controlplane/log/shared_lock.hpp"

namespace thalweg::archive {
namespace {

bool has_writer(log::FileSystem& files, const std::string& directory) {
  const auto lock = files.open(directory + "/" + log::kWritersLockName, log::OpenMode::kRead);
  if (!lock) return false;
  const auto is_locked = (*lock)->is_locked(0, log::kWriterSlots);
  return is_locked && *is_locked;
}

RecordingView view_of(log::FileSystem& files, const std::string& archive_directory, const Recording& recording) {
  const std::string directory = frames_path(archive_directory, recording.id);
  RecordingView view{.recording = recording, .state = recording.is_active() ? (has_writer(files, directory) ? "active" : "interrupted") : "stopped", .start_position = recording.start_position};
  view.position = view.durable_position = recording.stop_position.value_or(recording.start_position);
  if (const auto listing = log::list_segments(files, directory)) {
    view.segments = listing->segments.size() + listing->damaged.size();
    for (const log::SegmentInfo& info : listing->segments) view.file_bytes += log::file_bytes(info.header);
    if (!listing->segments.empty()) {
      view.start_position = listing->segments.front().header.base_entry;
      view.first_ns = listing->segments.front().header.base_timestamp_ns;
    }
  }
  if (!recording.is_active()) return view;
  if (const auto coordination = log::Coordination::open_for_reading(files, directory)) {
    view.durable_position = coordination->durable_entry();
    view.position = std::atomic_ref{coordination->page().tail}.load(std::memory_order_acquire);  // pairs with FrameLog::append()
  }
  return view;
}

}  // namespace

Result<ArchiveView> view_archive(log::FileSystem& files, const std::string& archive_directory) {
  auto content = read_recording_catalog(files, archive_directory);
  if (!content) return tl::unexpected{std::move(content.error())};
  ArchiveView view{.recordings = {}, .findings = std::move(content->findings)};
  for (const auto& [id, recording] : content->recordings) view.recordings.push_back(view_of(files, archive_directory, recording));
  return view;
}

Result<RecordingView> view_recording(log::FileSystem& files, const std::string& archive_directory, std::int64_t id) {
  const auto content = read_recording_catalog(files, archive_directory);
  if (!content) return tl::unexpected{content.error()};
  const auto found = content->recordings.find(id);
  if (found == content->recordings.end()) return fail(ErrorCode::kNotFound, "there is no recording " + std::to_string(id), "thalweg archive list shows them");
  return view_of(files, archive_directory, found->second);
}

Result<log::FrameVerification> verify_recording(log::FileSystem& files, const std::string& archive_directory, const RecordingView& view,
                                                const std::function<void(std::uint64_t, std::uint64_t)>& on_progress) {
  const Recording& recording = view.recording;
  log::FrameExpectation expected{.log_id = recording.id, .stream = recording.stream, .segment_bytes = recording.segment_bytes, .start_position = {}, .stop_position = recording.stop_position};
  if (!recording.is_active()) expected.start_position = recording.start_position;
  return log::verify_frame_log(files, frames_path(archive_directory, recording.id), expected, on_progress);
}

Result<log::FrameReader> read_recording(log::FileSystem& files, const std::string& archive_directory, const Recording& recording) {
  return log::FrameReader::open(files, frames_path(archive_directory, recording.id), {.stream = recording.stream, .is_uncommitted = true});
}

}  // namespace thalweg::archive
