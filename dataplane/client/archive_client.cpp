#include "dataplane/client/archive_client.hpp"

#include <map>
#include <thread>

#include "dataplane/base/time.hpp"
#include "dataplane/client/archive_protocol.hpp"
#include "dataplane/client/channel_uri.hpp"
#include "dataplane/client/fragment_assembler.hpp"

namespace thalweg::client {

using archive_protocol::Kind;
using archive_protocol::Message;

namespace {

constexpr auto kPause = std::chrono::microseconds{200};
constexpr int kFragments = 64;
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

Message filter_message(Kind kind, const RecordingFilter& filter, std::int64_t count_max) {
  return {.kind = kind,
          .correlation_id = 0,
          .numbers = {filter.min_id, count_max, filter.stream_id ? *filter.stream_id : kNone, filter.session_id ? *filter.session_id : kNone, filter.is_active ? 1 : 0},
          .texts = {filter.channel_fragment}};
}

}  // namespace

struct ArchiveClient::State {
  Client* client{};
  Options options;
  ExclusivePublication requests;
  Subscription answers;
  MessageBuilder builder;
  std::int64_t next_id{1};
  std::map<std::int64_t, std::vector<Message>> arrived;  // by request

  void poll() {
    client->do_work();
    answers.poll(
        [this](std::span<const std::byte> payload, const Header& header) {
          const auto whole = builder.add(payload, header);
          if (!whole) return;
          auto message = archive_protocol::decode(*whole);
          if (!message) return;  // nothing that we could answer
          const auto waiting = arrived.find(message->correlation_id);
          if (waiting != arrived.end()) waiting->second.push_back(std::move(*message));
        },
        kFragments);
  }
  void pause() const { std::this_thread::sleep_for(kPause); }
};

ArchiveClient::ArchiveClient(std::unique_ptr<State> state) noexcept : state_{std::move(state)} {}
ArchiveClient::ArchiveClient(ArchiveClient&&) noexcept = default;
ArchiveClient& ArchiveClient::operator=(ArchiveClient&&) noexcept = default;
ArchiveClient::~ArchiveClient() = default;

Result<ArchiveClient> ArchiveClient::connect(Client& client, Options options) {
  auto state = std::make_unique<State>();
  state->client = &client;
  state->options = std::move(options);
  const Options& asked = state->options;
  const std::int64_t deadline_ns = monotonic_ns() + asked.timeout.count();
  const auto session = client.next_available_session_id(asked.response_stream);
  if (!session) return tl::unexpected{session.error()};
  const auto listen = with_session_id(asked.response_channel, *session);
  if (!listen) return tl::unexpected{listen.error()};
  auto answers = client.add_subscription(*listen, asked.response_stream);
  if (!answers) return tl::unexpected{std::move(answers.error())};
  state->answers = std::move(*answers);
  std::optional<std::string> resolved = state->answers.try_resolve_channel_endpoint_port();
  for (; !resolved && monotonic_ns() < deadline_ns; resolved = state->answers.try_resolve_channel_endpoint_port()) {
    state->poll();
    state->pause();
  }
  if (!resolved) return fail(ErrorCode::kTimeout, asked.response_channel + ": its port is not known");
  auto requests = client.add_exclusive_publication(asked.control_channel, asked.control_stream);
  if (!requests) return tl::unexpected{std::move(requests.error())};
  state->requests = std::move(*requests);
  while (!state->requests.is_connected() && monotonic_ns() < deadline_ns) {
    state->poll();
    state->pause();
  }
  if (!state->requests.is_connected())
    return fail(ErrorCode::kUnreachable, "no archive listens on " + asked.control_channel + " stream " + std::to_string(asked.control_stream),
                "the appliance needs archive.directory, and archive.remote-control-channel for clients of another driver");
  ArchiveClient archive{std::move(state)};
  Message hello{.kind = Kind::kConnect, .correlation_id = 0, .numbers = {archive.state_->options.response_stream}, .texts = {*resolved}};
  if (auto answer = archive.ask(std::move(hello)); !answer) return tl::unexpected{std::move(answer.error())};
  return archive;
}

bool ArchiveClient::is_closed() const noexcept { return state_->requests.is_closed() || !state_->requests.is_connected(); }
Client& ArchiveClient::client() const noexcept { return *state_->client; }

Result<std::int64_t> ArchiveClient::send(Message request) {
  request.correlation_id = state_->next_id++;
  const auto bytes = archive_protocol::encode(request);
  if (bytes.size() > archive_protocol::kMessageBytesMax) return fail(ErrorCode::kInvalidArgument, "a request of " + std::to_string(bytes.size()) + " bytes is too long");
  const std::int64_t deadline_ns = monotonic_ns() + state_->options.timeout.count();
  OfferResult result = state_->requests.offer(bytes);
  while (result.is_retryable() && result.status() != OfferStatus::kNotConnected && monotonic_ns() < deadline_ns) {
    state_->poll();
    state_->pause();
    result = state_->requests.offer(bytes);
  }
  if (!result) return fail(result.is_retryable() && result.status() != OfferStatus::kNotConnected ? ErrorCode::kTimeout : ErrorCode::kClosed, std::string{"the archive takes no requests: "} + to_string(result.status()));
  state_->arrived[request.correlation_id];
  return request.correlation_id;
}

Result<std::optional<Message>> ArchiveClient::look_for(std::int64_t correlation_id) {
  state_->poll();
  const auto found = state_->arrived.find(correlation_id);
  if (found == state_->arrived.end()) return fail(ErrorCode::kNotFound, "no such request");
  if (!found->second.empty() && found->second.back().kind != Kind::kRecording) {
    Message answer = std::move(found->second.back());
    if (answer.kind == Kind::kOk) return std::optional<Message>{std::move(answer)};
    state_->arrived.erase(found);
    return fail(static_cast<ErrorCode>(answer.number(0, static_cast<std::int64_t>(ErrorCode::kGeneric))), answer.text(0), answer.text(1));
  }
  if (is_closed()) {
    state_->arrived.erase(found);
    return fail(ErrorCode::kClosed, "the archive is gone");
  }
  return std::nullopt;
}

Result<std::optional<RecordingInfo>> ArchiveClient::look_for_recording(std::int64_t correlation_id) {
  auto answer = look_for(correlation_id);
  if (!answer) return tl::unexpected{std::move(answer.error())};
  if (!*answer) return std::nullopt;
  std::optional<RecordingInfo> found;
  for (const Message& message : state_->arrived[correlation_id])
    if (message.kind == Kind::kRecording) found = recording_of(message);
  forget(correlation_id);
  if (!found) return fail(ErrorCode::kIo, "the archive answered without the recording");
  return found;
}

void ArchiveClient::forget(std::int64_t correlation_id) { state_->arrived.erase(correlation_id); }

Result<Message> ArchiveClient::ask(Message request, std::vector<RecordingInfo>* recordings) {
  const auto id = send(std::move(request));
  if (!id) return tl::unexpected{id.error()};
  const std::int64_t deadline_ns = monotonic_ns() + state_->options.timeout.count();
  for (;;) {
    auto answer = look_for(*id);
    if (!answer) return tl::unexpected{std::move(answer.error())};
    if (*answer) {
      if (recordings != nullptr)
        for (const Message& message : state_->arrived[*id])
          if (message.kind == Kind::kRecording) recordings->push_back(recording_of(message));
      forget(*id);
      return std::move(**answer);
    }
    if (monotonic_ns() > deadline_ns) {
      forget(*id);
      return fail(ErrorCode::kTimeout, "the archive does not answer");
    }
    state_->pause();
  }
}

Result<std::vector<RecordingInfo>> ArchiveClient::list_recordings(const RecordingFilter& filter, std::int64_t count_max) {
  std::vector<RecordingInfo> recordings;
  if (auto answer = ask(filter_message(Kind::kListRecordings, filter, count_max), &recordings); !answer) return tl::unexpected{std::move(answer.error())};
  return recordings;
}

Result<std::optional<RecordingInfo>> ArchiveClient::find_last_recording(const RecordingFilter& filter) {
  std::vector<RecordingInfo> recordings;
  if (auto answer = ask(filter_message(Kind::kFindRecording, filter, 1), &recordings); !answer) return tl::unexpected{std::move(answer.error())};
  return recordings.empty() ? std::nullopt : std::optional{std::move(recordings.back())};
}

Result<RecordingInfo> ArchiveClient::recording(std::int64_t id) {
  std::vector<RecordingInfo> recordings;
  if (auto answer = ask({.kind = Kind::kRecordingPosition, .correlation_id = 0, .numbers = {id}, .texts = {}}, &recordings); !answer) return tl::unexpected{std::move(answer.error())};
  if (recordings.empty()) return fail(ErrorCode::kIo, "the archive answered without the recording");
  return std::move(recordings.back());
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

}  // namespace thalweg::client
