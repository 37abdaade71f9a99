#include "controlplane/archive/recording_session.hpp"

#include <algorithm>
#include <cstring>

#include "dataplane/base/bytes.hpp"
#include "dataplane/shm/counters.hpp"

namespace thalweg::archive {
namespace {

constexpr std::int32_t kBlockBytes = 1 << 20;  // copied in one go; a longer one would keep other recordings waiting

std::vector<std::byte> counter_key(const Recording& recording) {
  constexpr std::size_t kSourceOffset = 16;
  const std::string source = recording.source_identity.substr(0, shm::kCounterKeyMax - kSourceOffset);
  std::vector<std::byte> key(kSourceOffset + source.size());
  store_le(key.data(), recording.id);
  store_le(key.data() + 8, recording.stream.session_id);
  store_le(key.data() + 12, static_cast<std::uint32_t>(source.size()));
  if (!source.empty()) std::memcpy(key.data() + kSourceOffset, source.data(), source.size());
  return key;
}

std::string counter_label(const Recording& recording) {
  return ("rec-pos: " + std::to_string(recording.id) + " " + std::to_string(recording.stream.session_id) + " " + std::to_string(recording.stream.stream_id) + " " + recording.channel)
      .substr(0, shm::kCounterLabelMax);
}

}  // namespace

RecordingSession::RecordingSession(client::Client& client, Recording recording, std::shared_ptr<log::FrameLog> log, std::shared_ptr<client::Image> image)
    : recording_{std::move(recording)}, log_{std::move(log)}, image_{std::move(image)} {
  if (auto wanted = client.async_add_counter(kRecordingPositionType, counter_key(recording_), counter_label(recording_))) counter_wanted_ = *wanted;
}

void RecordingSession::look_for_counter(client::Client& client) {
  auto found = client.find_counter(*counter_wanted_);
  if (found && !*found) return;
  counter_wanted_.reset();
  if (!found) return;  // the counters file is full: the driver's error log says so
  counter_ = std::move(**found);
  counter_.set(static_cast<std::int64_t>(log_->position()));
}

Result<std::int64_t> RecordingSession::work(client::Client& client) {
  if (counter_wanted_) look_for_counter(client);
  // Before the image moves on: frames that find no room would be lost.
  if (auto room = log_->make_room(); !room) return tl::unexpected{std::move(room.error())};
  Result<std::uint64_t> appended{0};
  const std::int64_t bytes = image_->block_poll(
      [&](std::span<const std::byte> frames, std::int32_t, std::int32_t) { appended = log_->append(frames); }, std::min(kBlockBytes, image_->term_length()));
  if (!appended) return tl::unexpected{std::move(appended.error())};
  if (bytes > 0 && counter_) counter_.set(static_cast<std::int64_t>(*appended));
  return bytes;
}

void RecordingSession::let_go() noexcept { counter_.close(); }

}  // namespace thalweg::archive
