#pragma once
#include <functional>
#include <string>
#include <vector>

#include "controlplane/archive/recording.hpp"
#include "controlplane/log/frame_reader.hpp"
#include "controlplane/log/frame_verify.hpp"

// What an archive's directory holds, for whoever may read it, in any process and with or without a running archive. Changes nothing.
namespace thalweg::archive {

// A recording and what its files say.
struct RecordingView {
  Recording recording;
  const char* state{""};              // "active"; "stopped"; "interrupted": its archive was killed and has not been started again
  std::uint64_t start_position{};     // lowest one that is there
  std::uint64_t position{};           // behind the last frame
  std::uint64_t durable_position{};
  std::uint64_t segments{};
  std::uint64_t file_bytes{};
  std::int64_t first_ns{};            // no frame is older
};

// All recordings, by id. `findings`: damage of the catalog. Errors: kNotFound (no archive there), kVersion, kIo.
struct ArchiveView {
  std::vector<RecordingView> recordings;
  std::vector<std::string> findings;
};
[[nodiscard]] Result<ArchiveView> view_archive(log::FileSystem& files, const std::string& archive_directory);
// One of them. Errors: kNotFound; as view_archive().
[[nodiscard]] Result<RecordingView> view_recording(log::FileSystem& files, const std::string& archive_directory, std::int64_t id);

// Reads all of a recording. Errors: as log::verify_frame_log().
[[nodiscard]] Result<log::FrameVerification> verify_recording(log::FileSystem& files, const std::string& archive_directory, const RecordingView& view,
                                                              const std::function<void(std::uint64_t, std::uint64_t)>& on_progress = {});
// Its frames, accepted ones too. Errors: as log::FrameReader::open().
[[nodiscard]] Result<log::FrameReader> read_recording(log::FileSystem& files, const std::string& archive_directory, const Recording& recording);

}  // namespace thalweg::archive
