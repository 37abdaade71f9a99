#include "controlplane/archive/replay_session.hpp"

#include <algorithm>

#include "dataplane/base/bytes.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::archive {
namespace {

// Read in one go, and offered in one go: small enough to stay in a core's cache between the two, and for the publication's window.
constexpr std::uint64_t kBlockBytesMax = 128U << 10;
constexpr int kTermEndsMax = 3;  // answers of "admin action" in a row

Error for_recording(Error error, const Recording& recording) { return std::move(error).with_context("recording " + std::to_string(recording.id)); }

// Bytes of position of the whole frames of `frames` that end at or before `room`.
std::uint64_t fitting(std::span<const std::byte> frames, std::uint64_t room) {
  std::uint64_t at = 0;
  while (at + log::kFrameHeaderBytes <= frames.size()) {
    const auto length = load_le<std::uint32_t>(frames.data() + at);
    const std::uint64_t span = align_up<std::uint64_t>(length, log::kFrameAlignment);
    if (length < log::kFrameHeaderBytes || at + span > std::min<std::uint64_t>(room, frames.size())) break;
    at += span;
  }
  return at;
}

Result<void> find_place(log::FrameReader& reader, const ReplayRequest& request) {
  if (request.position) return reader.seek(*request.position);
  if (request.time_ns) return reader.seek_time(*request.time_ns);
  return {};
}

}  // namespace

ReplaySession::ReplaySession(const log::Clock& clock, ReplayRequest request, log::FrameReader reader, std::int64_t connect_timeout_ns)
    : clock_{clock}, request_{std::move(request)}, reader_{std::move(reader)}, connect_timeout_ns_{connect_timeout_ns}, deadline_ns_{clock.monotonic_ns() + connect_timeout_ns} {}

Result<std::unique_ptr<ReplaySession>> ReplaySession::start(log::FileSystem& files, const log::Clock& clock, const std::string& archive_directory, client::Client& client,
                                                            std::int64_t id, ReplayRequest request, std::int64_t connect_timeout_ns) {
  const Recording recording = request.recording;
  auto reader = log::FrameReader::open(files, frames_path(archive_directory, recording.id), {.stream = recording.stream, .is_uncommitted = true});
  if (!reader) return tl::unexpected{for_recording(std::move(reader.error()), recording)};
  if (auto found = find_place(*reader, request); !found) return tl::unexpected{for_recording(std::move(found.error()), recording)};
  const std::uint64_t begin = reader->position();
  const std::uint64_t limit = reader->limit();
  const bool is_live = !request.live.expired();
  if (begin >= limit && !(request.is_followed && is_live))
    return fail(ErrorCode::kInvalidArgument, "recording " + std::to_string(recording.id) + ": there is nothing behind position " + std::to_string(begin) + " to be replayed",
                is_live ? "follow it, and what comes will be replayed" : "it has " + std::to_string(reader->first_position()) + " to " + std::to_string(limit));
  if (request.length_bytes && *request.length_bytes == 0) return fail(ErrorCode::kInvalidArgument, "a length of 0 replays nothing");
  const auto channel = replay_channel(request.channel, recording.stream, begin);
  if (!channel) return tl::unexpected{channel.error()};
  std::unique_ptr<ReplaySession> session{new ReplaySession{clock, std::move(request), std::move(*reader), connect_timeout_ns}};
  const ReplayRequest& asked = session->request_;
  ReplayView& view = session->view_;
  view = {.id = id, .recording = recording.id, .error = {}, .channel = asked.channel, .stream_id = asked.stream_id, .start_position = begin, .position = begin, .stop_position = {}, .start_ns = clock.epoch_ns()};
  if (asked.length_bytes) view.stop_position = begin + std::min<std::uint64_t>(*asked.length_bytes, INT64_MAX - begin);
  if (!asked.is_followed) view.stop_position = std::min(view.stop_position.value_or(limit), limit);
  auto wanted = client.async_add_exclusive_publication(*channel, asked.stream_id);
  if (!wanted) return tl::unexpected{for_recording(std::move(wanted.error()), recording)};
  session->wanted_ = *wanted;
  return session;
}

void ReplaySession::end(ReplayState state, std::string error) {
  if (view_.is_over()) return;
  view_.state = state;
  view_.error = std::move(error);
  publication_.close();  // subscribers get what was sent
  counter_.close();
}

void ReplaySession::look_for_publication(client::Client& client) {
  auto found = client.find_exclusive_publication(*wanted_);
  if (found && !*found) return;
  wanted_.reset();
  if (!found) return end(ReplayState::kFailed, found.error().message);
  publication_ = std::move(**found);
  view_.session_id = publication_.session_id();
  has_publication_ = true;
  if (publication_.term_length() != static_cast<std::int32_t>(request_.recording.stream.term_bytes) || publication_.position() != static_cast<std::int64_t>(view_.start_position))
    return end(ReplayState::kFailed, "the media driver made a publication at position " + std::to_string(publication_.position()) + " with terms of " +
                                         format_size(publication_.term_length()) + ", not what was asked for");
  std::vector<std::byte> key(24);
  store_le(key.data(), view_.id);
  store_le(key.data() + 8, view_.recording);
  store_le(key.data() + 16, view_.session_id);
  store_le(key.data() + 20, view_.stream_id);
  const std::string label = "replay-pos: " + std::to_string(view_.id) + " " + std::to_string(view_.recording) + " " + std::to_string(view_.session_id) + " " + std::to_string(view_.stream_id) + " " + view_.channel;
  counter_.ask(client, kReplayPositionType, key, label);
}

// Somebody is there, or may still come.
bool ReplaySession::has_subscribers() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (publication_.is_closed()) {
    end(ReplayState::kFailed, "the media driver closed the publication");
    return false;
  }
  if (publication_.is_connected()) {
    deadline_ns_ = now_ns + connect_timeout_ns_;
    view_.state = ReplayState::kReplaying;
    return true;
  }
  if (now_ns > deadline_ns_)
    end(ReplayState::kFailed, "nobody subscribes to " + view_.channel + " stream " + std::to_string(view_.stream_id) + " session " + std::to_string(view_.session_id));
  return false;
}

// No frame that ends behind this may be sent now.
std::uint64_t ReplaySession::bound(const client::Client& client) const {
  if (!request_.limit_counter) return INT64_MAX;
  const auto value = client.counters().value(*request_.limit_counter);
  return static_cast<std::uint64_t>(std::max<std::int64_t>(value, 0));
}

// Has a block with something left in it; false: there is nothing now.
bool ReplaySession::next_block() {
  if (used_ < block_.span) return true;
  const bool is_live = request_.is_followed && !request_.live.expired();  // asked first: what is read afterwards is all there will be
  const std::uint64_t stop = view_.stop_position.value_or(INT64_MAX);
  if (view_.position >= stop) {
    end(ReplayState::kDone, {});
    return false;
  }
  const std::uint64_t term_part = request_.recording.stream.term_bytes / 8;
  auto read = reader_.next(std::min({kBlockBytesMax, std::max<std::uint64_t>(term_part, request_.recording.stream.mtu_bytes), stop - view_.position}));
  if (!read) {
    end(ReplayState::kFailed, read.error().message);
    return false;
  }
  if (!*read) {
    if (!is_live) end(ReplayState::kDone, {});
    return false;
  }
  block_ = **read;
  used_ = 0;
  return true;
}

// Sends what may be sent of the block: whole frames up to `bound`. Returns the bytes.
std::uint64_t ReplaySession::send(std::uint64_t bound) {
  std::uint64_t span = block_.span - used_;
  std::span<const std::byte> frames = block_.frames.subspan(block_.is_padding ? 0 : used_);
  if (view_.position + span > bound) {
    span = block_.is_padding || bound <= view_.position ? 0 : fitting(frames, bound - view_.position);
    frames = frames.first(span);
  }
  if (span == 0) return 0;
  client::OfferResult result = client::OfferStatus::kAdminAction;
  for (int i = 0; i < kTermEndsMax && result.status() == client::OfferStatus::kAdminAction; ++i) result = publication_.offer_block(frames);
  if (!result) {
    if (!result.is_retryable()) end(ReplayState::kFailed, std::string{"position "} + std::to_string(view_.position) + ": " + to_string(result.status()));
    return 0;
  }
  used_ += span;
  view_.position += span;
  return span;
}

std::uint64_t ReplaySession::work(client::Client& client, std::uint64_t bytes_max) {
  if (view_.is_over()) return 0;
  if (wanted_) look_for_publication(client);
  if (counter_.has_come(client)) counter_.set(static_cast<std::int64_t>(view_.position));
  if (!has_publication_ || view_.is_over() || !has_subscribers()) return 0;
  const std::uint64_t limit = bound(client);
  std::uint64_t bytes = 0;
  while (bytes < bytes_max && next_block()) {
    const std::uint64_t sent = send(limit);
    if (sent == 0) break;
    bytes += sent;
  }
  if (bytes > 0) counter_.set(static_cast<std::int64_t>(view_.position));
  return bytes;
}

}  // namespace thalweg::archive
