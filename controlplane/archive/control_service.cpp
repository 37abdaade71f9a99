#include "controlplane/archive/control_service.hpp"

#include <algorithm>

#include "dataplane/base/time.hpp"
#include "dataplane/client/thalweg.hpp"

namespace thalweg::archive {

using api::Json;
using client::archive_protocol::Kind;

namespace {

constexpr int kFragments = 16;                             // of each control channel in a turn
constexpr std::size_t kClientsMax = 256;
constexpr std::size_t kAnswersMax = 8192;                  // that wait for one client
constexpr std::int64_t kConnectTimeout_ns = 5 * kSecond_ns;
constexpr std::int64_t kNone = INT64_MIN;

ControlService::Message error_message(std::int64_t correlation_id, const Error& error) {
  return {.kind = Kind::kError, .correlation_id = correlation_id, .numbers = {static_cast<std::int64_t>(error.code)}, .texts = {error.message, error.hint}};
}

void put(Json& args, const char* key, std::int64_t value) {
  if (value != kNone) args[key] = value;
}

// The numbers of an answer.
std::vector<std::int64_t> numbers_of(Kind kind, const Json& result) {
  const auto number = [&](const char* key) { return result.contains(key) && result.at(key).is_number() ? result.at(key).get<std::int64_t>() : kNone; };
  if (kind == Kind::kStartRecording) return {number("number")};
  if (kind == Kind::kStartReplay) return {number("replay"), number("session_id"), number("start_position"), number("stop_position")};
  if (kind == Kind::kReplicate) return {number("replication")};
  if (kind == Kind::kChecksum) return {number("end"), number("crc32c")};
  return {};
}

}  // namespace

std::string verb_of(const ControlService::Message& request, Json& args) {
  args = Json::object();
  switch (request.kind) {
    case Kind::kStartRecording:
      args = {{"channel", request.text(0)}, {"stream_id", request.number(0)}, {"source", request.number(1) != 0 ? "local" : "remote"}, {"on_slow", request.number(2) != 0 ? "drop" : "block"}};
      return "archive-record";
    case Kind::kStopStream: args["number"] = request.number(0); return "archive-stop";
    case Kind::kStopRecording: args["recording"] = request.number(0); return "archive-stop";
    case Kind::kTruncate: args = {{"recording", request.number(0)}, {"position", request.number(1)}}; return "archive-truncate";
    case Kind::kPurge: args["recording"] = request.number(0); return "archive-purge";
    case Kind::kStopReplay: args["replay"] = request.number(0); return "archive-stop-replay";
    case Kind::kStartReplay:
      args = {{"recording", request.number(0)}, {"stream_id", request.number(1)}, {"channel", request.text(0)}, {"follow", request.number(5) != 0}};
      put(args, "position", request.number(2, kNone));
      put(args, "time_ns", request.number(3, kNone));
      put(args, "length", request.number(4, kNone));
      put(args, "limit_counter", request.number(6, kNone));
      return "archive-replay";
    case Kind::kReplicate:
      args = {{"recording", request.number(0)}, {"source_stream", request.number(1)}, {"source_channel", request.text(0)}, {"response_channel", request.text(1)}, {"follow", request.number(4) != 0}};
      put(args, "into", request.number(2, kNone));
      put(args, "stop_position", request.number(3, kNone));
      return "archive-replicate";
    case Kind::kStopReplication: args["replication"] = request.number(0); return "archive-stop-replication";
    case Kind::kChecksum: args = {{"recording", request.number(0)}, {"from", request.number(1)}, {"to", request.number(2)}}; return "archive-checksum";
    default: return {};
  }
}

void ControlService::attach(client::Client& client) {
  client_ = &client;
  for (const std::string& channel : {settings_.control_channel, settings_.remote_control_channel})
    if (!channel.empty()) listen(channel);
}

void ControlService::detach() {
  listeners_.clear();
  sessions_.clear();
  client_ = nullptr;
}

void ControlService::listen(const std::string& channel) {
  auto wanted = client_->async_add_subscription(channel, settings_.control_stream);
  if (!wanted) {
    if (events_) events_({Event::Level::kError, "archive_control", -1, channel + ": " + wanted.error().message});
    return;
  }
  listeners_.push_back(std::make_unique<Listener>());
  listeners_.back()->wanted = *wanted;
}

int ControlService::work(const Hands& hands) {
  if (client_ == nullptr) return 0;
  int worked = 0;
  for (const auto& listener : listeners_) {
    if (listener->wanted) {
      auto found = client_->find_subscription(*listener->wanted);
      if (found && !*found) continue;
      listener->wanted.reset();
      if (!found) {
        if (events_) events_({Event::Level::kError, "archive_control", -1, found.error().message});
        continue;
      }
      listener->subscription = std::move(**found);
    }
    if (!listener->subscription) continue;
    worked += listener->subscription.poll(
        [&](std::span<const std::byte> payload, const client::Header& header) {
          if (const auto whole = listener->builder.add(payload, header)) take(hands, *whole, header);
        },
        kFragments);
  }
  std::vector<std::pair<std::int64_t, Message>> late;
  {
    const std::lock_guard guard{outbox_->mutex};
    late.swap(outbox_->messages);
  }
  for (const auto& [image, message] : late) answer(image, message);
  return worked + static_cast<int>(late.size()) + send();
}

void ControlService::take(const Hands& hands, std::span<const std::byte> bytes, const client::Header& header) {
  const std::int64_t image = header.image().correlation_id();
  const auto request = client::archive_protocol::decode(bytes);
  if (!request) {
    if (events_) events_({Event::Level::kWarn, "archive_control", -1, header.image().source_identity() + ": " + request.error().message});
    return;
  }
  if (request->kind == Kind::kConnect) return connect(*request, image);
  handle(hands, *request, image);
}

void ControlService::connect(const Message& request, std::int64_t image) {
  const bool is_known = std::any_of(sessions_.begin(), sessions_.end(), [image](const auto& session) { return session->image == image; });
  if (is_known || sessions_.size() >= kClientsMax) return;
  auto wanted = client_->async_add_exclusive_publication(request.text(0), static_cast<std::int32_t>(request.number(0)));
  if (!wanted) return;  // it has said no channel that we could answer on
  auto session = std::make_unique<Session>();
  session->image = image;
  session->wanted = *wanted;
  session->deadline_ns = monotonic_ns() + kConnectTimeout_ns;
  sessions_.push_back(std::move(session));
  answer(image, {.kind = Kind::kOk, .correlation_id = request.correlation_id, .numbers = {}, .texts = {}});
}

void ControlService::handle(const Hands& hands, const Message& request, std::int64_t image) {
  const std::int64_t id = request.correlation_id;
  if (request.kind == Kind::kListRecordings || request.kind == Kind::kFindRecording || request.kind == Kind::kRecordingPosition || request.kind == Kind::kListReplications) {
    const auto recordings = hands.list(request);
    for (const Message& recording : recordings) answer(image, recording);
    if (request.kind == Kind::kRecordingPosition && recordings.empty())
      return answer(image, error_message(id, {ErrorCode::kNotFound, "there is no recording " + std::to_string(request.number(0)), "list_recordings() has them"}));
    return answer(image, {.kind = Kind::kOk, .correlation_id = id, .numbers = {static_cast<std::int64_t>(recordings.size())}, .texts = {}});
  }
  Json args;
  const std::string verb = verb_of(request, args);
  if (verb.empty()) return answer(image, error_message(id, {ErrorCode::kUnsupported, "request " + std::to_string(static_cast<std::uint32_t>(request.kind)) + " is not known here", {}}));
  hands.run(verb, args, [outbox = outbox_, image, id, kind = request.kind](const Result<Json>& result) {
    Message message = result ? Message{.kind = Kind::kOk, .correlation_id = id, .numbers = numbers_of(kind, *result), .texts = {}} : error_message(id, result.error());
    const std::lock_guard guard{outbox->mutex};
    outbox->messages.emplace_back(image, std::move(message));
  });
}

void ControlService::answer(std::int64_t image, const Message& message) {
  for (const auto& session : sessions_)
    if (session->image == image) session->answers.push_back(client::archive_protocol::encode(message));
}

int ControlService::send() {
  int worked = 0;
  for (const auto& session : sessions_) worked += static_cast<int>(serve(*session));
  std::erase_if(sessions_, [this](const auto& session) {
    const bool is_there = std::any_of(listeners_.begin(), listeners_.end(), [&](const auto& listener) {
      return listener->subscription && listener->subscription.image_by_correlation_id(session->image) != nullptr;
    });
    return !is_there || session->answers.size() > kAnswersMax || (session->deadline_ns != 0 && monotonic_ns() > session->deadline_ns);
  });
  return worked;
}

// Sends what waits for one client. Answers whether something was.
bool ControlService::serve(Session& session) {
  if (session.wanted) {
    auto found = client_->find_exclusive_publication(*session.wanted);
    if (found && !*found) return false;
    session.wanted.reset();
    if (!found) {
      if (events_) events_({Event::Level::kWarn, "archive_control", -1, "a client cannot be answered: " + found.error().message});
      session.deadline_ns = 1;  // over
      return false;
    }
    session.publication = std::move(**found);
  }
  if (!session.publication || session.answers.empty()) return false;
  if (session.publication.is_connected()) session.deadline_ns = 0;
  bool has_sent = false;
  while (!session.answers.empty()) {
    auto result = session.publication.offer(session.answers.front());
    if (result.status() == client::OfferStatus::kAdminAction) result = session.publication.offer(session.answers.front());
    if (!result) break;
    session.answers.pop_front();
    has_sent = true;
  }
  return has_sent;
}

}  // namespace thalweg::archive
