#include "dataplane/client/archive_client.hpp"

#include <thread>

#include "dataplane/base/time.hpp"
#include "dataplane/client/archive_connection.hpp"

namespace thalweg::client {

using archive_protocol::Kind;
using archive_protocol::Message;

namespace {

constexpr auto kPause = std::chrono::microseconds{200};
constexpr std::int64_t kNone = INT64_MIN;

RecordingInfo recording_of(const Message& m) {
  RecordingInfo info{.id = m.number(0), .is_active = m.number(1) != 0, .start_ns = m.number(2), .stop_ns = m.number(3), .start_position = m.number(4), .position = m.number(5)};
  info.session_id = static_cast<std::int32_t>(m.number(6));
  info.stream_id = static_cast<std::int32_t>(m.number(7));
  info.initial_term_id = static_cast<std::int32_t>(m.number(8));
  info.term_length = static_cast<std::int32_t>(m.number(9));
  info.mtu_length = static_cast<std::int32_t>(m.number(10));
  info.segment_length = m.number(11);
  info.name = m.text(0);
  info.channel = m.text(1);
  info.original_channel = m.text(2);
  info.source_identity = m.text(3);
  return info;
}

ReplicationInfo replication_of(const Message& m) {
  const auto given = [&m](std::size_t index) { return m.number(index, kNone) == kNone ? std::nullopt : std::optional{m.number(index)}; };
  ReplicationInfo info{.id = m.number(0), .state = static_cast<ReplicationState>(m.number(1)), .source_recording = m.number(2), .recording = given(3)};
  info.position = m.number(4);
  info.verified_position = m.number(5);
  info.source_position = m.number(6);
  info.stop_position = given(7);
  info.source_channel = m.text(0);
  info.error = m.text(1);
  return info;
}

Message filter_message(Kind kind, const RecordingFilter& filter, std::int64_t count_max) {
  return {.kind = kind,
          .correlation_id = 0,
          .numbers = {filter.min_id, count_max, filter.stream_id ? *filter.stream_id : kNone, filter.session_id ? *filter.session_id : kNone, filter.is_active ? 1 : 0},
          .texts = {filter.channel_fragment}};
}

}  // namespace

struct ArchiveClient::State {
  State(Client& client, Options options) : connection{client, std::move(options)} {}
  ArchiveConnection connection;
  [[nodiscard]] std::int64_t deadline_ns() const noexcept { return monotonic_ns() + connection.options().timeout.count(); }
  static void pause() { std::this_thread::sleep_for(kPause); }
};

const char* to_string(ReplicationState state) noexcept {
  switch (state) {
    case ReplicationState::kConnecting: return "connecting";
    case ReplicationState::kReplicating: return "replicating";
    case ReplicationState::kWaiting: return "waiting";
    case ReplicationState::kDone: return "done";
    case ReplicationState::kStopped: return "stopped";
    case ReplicationState::kFailed: return "failed";
  }
  return "unknown";
}

ArchiveClient::ArchiveClient(std::unique_ptr<State> state) noexcept : state_{std::move(state)} {}
ArchiveClient::ArchiveClient(ArchiveClient&&) noexcept = default;
ArchiveClient& ArchiveClient::operator=(ArchiveClient&&) noexcept = default;
ArchiveClient::~ArchiveClient() = default;

Result<ArchiveClient> ArchiveClient::connect(Client& client, Options options) {
  auto state = std::make_unique<State>(client, std::move(options));
  for (;;) {
    const auto is_there = state->connection.work();
    if (!is_there) return tl::unexpected{is_there.error()};
    if (*is_there) return ArchiveClient{std::move(state)};
    State::pause();
  }
}

bool ArchiveClient::is_closed() const noexcept { return state_->connection.is_closed(); }
Client& ArchiveClient::client() const noexcept { return state_->connection.client(); }

Result<std::int64_t> ArchiveClient::send(Message request) {
  const std::int64_t deadline_ns = state_->deadline_ns();
  for (;;) {
    const auto sent = state_->connection.try_send(request);
    if (!sent) return tl::unexpected{sent.error()};
    if (*sent) return **sent;
    if (monotonic_ns() > deadline_ns) return fail(ErrorCode::kTimeout, "the archive takes no requests");
    static_cast<void>(client().do_work());
    state_->connection.poll();
    State::pause();
  }
}

Result<std::optional<Message>> ArchiveClient::look_for(std::int64_t correlation_id) { return state_->connection.look_for(correlation_id); }

Result<std::optional<RecordingInfo>> ArchiveClient::look_for_recording(std::int64_t correlation_id) {
  auto answer = look_for(correlation_id);
  if (!answer) return tl::unexpected{std::move(answer.error())};
  if (!*answer) return std::nullopt;
  std::optional<RecordingInfo> found;
  for (const Message& message : state_->connection.arrived(correlation_id))
    if (message.kind == Kind::kRecording) found = recording_of(message);
  forget(correlation_id);
  if (!found) return fail(ErrorCode::kIo, "the archive answered without the recording");
  return found;
}

void ArchiveClient::forget(std::int64_t correlation_id) { state_->connection.forget(correlation_id); }

Result<Message> ArchiveClient::ask(Message request, std::vector<Message>* before) {
  const auto id = send(std::move(request));
  if (!id) return tl::unexpected{id.error()};
  const std::int64_t deadline_ns = state_->deadline_ns();
  for (;;) {
    auto answer = look_for(*id);
    if (!answer) return tl::unexpected{std::move(answer.error())};
    if (*answer) {
      if (before != nullptr) *before = state_->connection.arrived(*id);
      forget(*id);
      return std::move(**answer);
    }
    if (monotonic_ns() > deadline_ns) {
      forget(*id);
      return fail(ErrorCode::kTimeout, "the archive does not answer");
    }
    State::pause();
  }
}

Result<std::vector<RecordingInfo>> ArchiveClient::ask_for_recordings(Message request) {
  std::vector<Message> messages;
  if (auto answer = ask(std::move(request), &messages); !answer) return tl::unexpected{std::move(answer.error())};
  std::vector<RecordingInfo> recordings;
  for (const Message& message : messages)
    if (message.kind == Kind::kRecording) recordings.push_back(recording_of(message));
  return recordings;
}

Result<std::vector<RecordingInfo>> ArchiveClient::list_recordings(const RecordingFilter& filter, std::int64_t count_max) {
  return ask_for_recordings(filter_message(Kind::kListRecordings, filter, count_max));
}

Result<std::optional<RecordingInfo>> ArchiveClient::find_last_recording(const RecordingFilter& filter) {
  auto recordings = ask_for_recordings(filter_message(Kind::kFindRecording, filter, 1));
  if (!recordings) return tl::unexpected{std::move(recordings.error())};
  if (recordings->empty()) return std::nullopt;
  return std::optional{std::move(recordings->back())};
}

Result<RecordingInfo> ArchiveClient::recording(std::int64_t id) {
  auto recordings = ask_for_recordings({.kind = Kind::kRecordingPosition, .correlation_id = 0, .numbers = {id}, .texts = {}});
  if (!recordings) return tl::unexpected{std::move(recordings.error())};
  if (recordings->empty()) return fail(ErrorCode::kIo, "the archive answered without the recording");
  return std::move(recordings->back());
}

Result<std::int64_t> ArchiveClient::start_recording(std::string_view channel, std::int32_t stream_id, const RecordingOptions& options) {
  auto answer = ask({.kind = Kind::kStartRecording, .correlation_id = 0, .numbers = {stream_id, options.is_local ? 1 : 0, options.drops_when_slow ? 1 : 0}, .texts = {std::string{channel}}});
  if (!answer) return tl::unexpected{std::move(answer.error())};
  return answer->number(0);
}

Result<> ArchiveClient::stop_stream(std::int64_t number) {
  return ask({.kind = Kind::kStopStream, .correlation_id = 0, .numbers = {number}, .texts = {}}).map([](const Message&) {});
}
Result<> ArchiveClient::stop_recording(std::int64_t id) {
  return ask({.kind = Kind::kStopRecording, .correlation_id = 0, .numbers = {id}, .texts = {}}).map([](const Message&) {});
}
Result<> ArchiveClient::truncate_recording(std::int64_t id, std::int64_t position) {
  return ask({.kind = Kind::kTruncate, .correlation_id = 0, .numbers = {id, position}, .texts = {}}).map([](const Message&) {});
}
Result<> ArchiveClient::purge_recording(std::int64_t id) {
  return ask({.kind = Kind::kPurge, .correlation_id = 0, .numbers = {id}, .texts = {}}).map([](const Message&) {});
}
Result<> ArchiveClient::stop_replay(std::int64_t replay) {
  return ask({.kind = Kind::kStopReplay, .correlation_id = 0, .numbers = {replay}, .texts = {}}).map([](const Message&) {});
}

Result<ReplayInfo> ArchiveClient::start_replay(std::int64_t recording, const ReplayParams& params, std::string_view channel, std::int32_t stream_id) {
  Message request{.kind = Kind::kStartReplay, .correlation_id = 0, .numbers = {recording, stream_id}, .texts = {std::string{channel}}};
  for (const auto& value : {params.position, params.time_ns, params.length}) request.numbers.push_back(value.value_or(kNone));
  request.numbers.push_back(params.follow ? 1 : 0);
  request.numbers.push_back(params.limit_counter ? *params.limit_counter : kNone);
  auto answer = ask(std::move(request));
  if (!answer) return tl::unexpected{std::move(answer.error())};
  ReplayInfo info{.id = answer->number(0), .session_id = static_cast<std::int32_t>(answer->number(1)), .start_position = answer->number(2), .stop_position = {}};
  if (answer->number(3) != kNone) info.stop_position = answer->number(3);
  return info;
}

Result<std::int64_t> ArchiveClient::start_replication(const ReplicationParams& params) {
  auto answer = ask({.kind = Kind::kReplicate,
                     .correlation_id = 0,
                     .numbers = {params.recording, params.source_stream, params.into.value_or(kNone), params.stop_position.value_or(kNone), params.follow ? 1 : 0},
                     .texts = {params.source_channel, params.response_channel}});
  if (!answer) return tl::unexpected{std::move(answer.error())};
  return answer->number(0);
}
Result<> ArchiveClient::stop_replication(std::int64_t replication) {
  return ask({.kind = Kind::kStopReplication, .correlation_id = 0, .numbers = {replication}, .texts = {}}).map([](const Message&) {});
}
Result<std::vector<ReplicationInfo>> ArchiveClient::list_replications() {
  std::vector<Message> messages;
  if (auto answer = ask({.kind = Kind::kListReplications, .correlation_id = 0, .numbers = {}, .texts = {}}, &messages); !answer) return tl::unexpected{std::move(answer.error())};
  std::vector<ReplicationInfo> replications;
  for (const Message& message : messages)
    if (message.kind == Kind::kReplication) replications.push_back(replication_of(message));
  return replications;
}

Result<RecordingChecksum> ArchiveClient::checksum(std::int64_t recording, std::int64_t from, std::int64_t to) {
  auto answer = ask({.kind = Kind::kChecksum, .correlation_id = 0, .numbers = {recording, from, to}, .texts = {}});
  if (!answer) return tl::unexpected{std::move(answer.error())};
  return RecordingChecksum{answer->number(0), static_cast<std::uint32_t>(answer->number(1))};
}

}  // namespace thalweg::client
