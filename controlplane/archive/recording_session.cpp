#include "controlplane/archive/recording_session.hpp"

#include <algorithm>

namespace thalweg::archive {
namespace {
constexpr std::int32_t kBlockBytes = 1 << 20;  // copied in one go; a longer one would keep other recordings waiting
}  // namespace

RecordingSession::RecordingSession(client::Client& client, std::shared_ptr<ActiveRecording> active, std::shared_ptr<client::Image> image)
    : active_{std::move(active)}, image_{std::move(image)} {
  ask_for_counter(*active_, client);
}

Result<std::int64_t> RecordingSession::work(client::Client& client) {
  log::FrameLog& log = *active_->log;
  if (active_->counter.has_come(client)) active_->counter.set(static_cast<std::int64_t>(log.position()));
  // Before the image moves on: frames that find no room would be lost.
  if (auto room = log.make_room(); !room) return tl::unexpected{std::move(room.error())};
  Result<std::uint64_t> appended{0};
  const std::int64_t bytes = image_->block_poll(
      [&](std::span<const std::byte> frames, std::int32_t, std::int32_t) { appended = log.append(frames); }, std::min(kBlockBytes, image_->term_length()));
  if (!appended) return tl::unexpected{std::move(appended.error())};
  if (bytes > 0) active_->counter.set(static_cast<std::int64_t>(*appended));
  return bytes;
}

}  // namespace thalweg::archive
