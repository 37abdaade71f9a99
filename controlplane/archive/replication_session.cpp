#include "controlplane/archive/replication_session.hpp"

#include <algorithm>
#include <cstring>

#include "dataplane/base/bytes.hpp"
#include "dataplane/base/units.hpp"
#include "dataplane/client/channel_uri.hpp"

namespace thalweg::archive {

using client::archive_protocol::Kind;

namespace {

constexpr std::int64_t kNone = INT64_MIN;
constexpr std::int32_t kAnswerStream = 20;                 // both have session ids of their own
constexpr std::int32_t kFrameStream = 21;
constexpr std::int32_t kBlockBytes = 1 << 20;              // copied in one go; a longer one would keep recordings waiting
constexpr std::int64_t kPause_ns = kSecond_ns;             // before it is tried again
constexpr std::int64_t kImageTimeout_ns = 10 * kSecond_ns;  // from the answer to the replay's image
constexpr std::int64_t kAnswerTimeout_ns = 5 * kSecond_ns;
constexpr std::int64_t kLookInterval_ns = kSecond_ns;
constexpr std::int64_t kVerifyInterval_ns = 500 * kMillisecond_ns;
constexpr std::int64_t kNewsInterval_ns = 5 * kSecond_ns;  // each is a durable entry of the catalog
// A source that died ends its recording when it starts again, and may go on with it a moment later.
constexpr const char* kMayGoOn = "the source's recording ended when its archive started again; it may go on";
constexpr std::int64_t kMayGoOn_ns = 10 * kSecond_ns;
constexpr int kRefusalsMax = 3;                            // what was described may have changed when the replay is asked for

// Trying again does not help.
bool is_final(ErrorCode code) {
  return code == ErrorCode::kNotFound || code == ErrorCode::kInvalidArgument || code == ErrorCode::kUnsupported || code == ErrorCode::kInvalidChannel || code == ErrorCode::kVersion;
}

}  // namespace

ReplicationSession::ReplicationSession(Place place, ReplicationView view) : place_{place}, view_{std::move(view)} {}

ReplicationSession::~ReplicationSession() { let_go(); }

std::int64_t ReplicationSession::work(client::Client& client) {
  const std::int64_t now_ns = place_.clock.monotonic_ns();
  if (view_.is_over() || now_ns < not_before_ns_) return 0;
  if (step_ != Step::kCopying && step_ != Step::kFinishing) {
    step(client);
    return 0;
  }
  std::int64_t bytes = 0;
  if (step_ == Step::kCopying) {
    if (own_->counter.has_come(client)) own_->counter.set(static_cast<std::int64_t>(view_.position));
    bytes = copy();
  }
  if (!view_.is_over() && connection_) verify();
  if (step_ == Step::kCopying && !view_.is_over() && connection_) look_at_source();
  if (step_ == Step::kFinishing && connection_ && !view_.is_over() && view_.verified_position >= view_.position) finish(ReplicationState::kDone, {});
  return bytes;
}

void ReplicationSession::step(client::Client& client) {
  switch (step_) {
    case Step::kConnecting: return connect(client);
    case Step::kDescribing: return describe_source();
    case Step::kSession: return ask_session(client);
    case Step::kSubscribing: return subscribe(client);
    case Step::kResolving:
      if (auto resolved = subscription_.try_resolve_channel_endpoint_port()) {
        replay_channel_ = std::move(*resolved);
        step_ = Step::kStarting;
      }
      return;
    case Step::kStarting: return start_replay();
    case Step::kImage: return look_for_image(client);
    case Step::kCopying:
    case Step::kFinishing: return;
  }
}

// Closes what belongs to the way here, and our recording.
void ReplicationSession::let_go() {
  request_.reset();
  wanted_.reset();
  image_.reset();
  subscription_.close();
  subscription_ = client::Subscription{};
  replay_.reset();
  own_reader_.reset();
  if (own_) place_.active.end(*own_, nullptr);
  own_.reset();
}

void ReplicationSession::detach() {
  if (view_.is_over()) return;
  let_go();
  checksum_request_.reset();
  look_request_.reset();
  connection_.reset();
  step_ = Step::kConnecting;
  view_.state = ReplicationState::kWaiting;
  view_.error = "the media driver went away";
}

void ReplicationSession::retry(const Error& error) {
  if (is_final(error.code)) return finish(ReplicationState::kFailed, error.message + (error.hint.empty() ? "" : " (" + error.hint + ")"));
  let_go();
  checksum_request_.reset();
  look_request_.reset();
  connection_.reset();
  ++view_.breaks;
  view_.state = ReplicationState::kWaiting;
  view_.error = error.message;
  has_ended_early_ = false;
  step_ = Step::kConnecting;
  not_before_ns_ = place_.clock.monotonic_ns() + kPause_ns;
}

void ReplicationSession::finish(ReplicationState state, std::string error) {
  if (view_.is_over()) return;
  if (replay_ && connection_ && !connection_->is_closed())  // nobody would listen to it; it may be over already
    static_cast<void>(connection_->try_send({.kind = Kind::kStopReplay, .correlation_id = 0, .numbers = {*replay_}, .texts = {}}));
  let_go();
  connection_.reset();
  view_.state = state;
  view_.error = std::move(error);
  has_news_ = true;
}

void ReplicationSession::connect(client::Client& client) {
  if (!connection_) {
    client::ArchiveClient::Options options;
    options.control_channel = view_.request.source_channel;
    options.control_stream = view_.request.source_stream;
    options.response_channel = view_.request.response_channel;
    options.response_stream = kAnswerStream;
    connection_.emplace(client, std::move(options));
  }
  const auto is_there = connection_->work();
  if (!is_there) return retry(is_there.error());
  if (*is_there) step_ = Step::kDescribing;
}

Result<std::optional<ReplicationSession::Message>> ReplicationSession::ask(std::optional<Asked>& asked, Message request) {
  const std::int64_t now_ns = place_.clock.monotonic_ns();
  if (!asked) {
    auto sent = connection_->try_send(std::move(request));
    if (!sent) return tl::unexpected{std::move(sent.error())};
    if (!*sent) return std::nullopt;
    asked = Asked{**sent, now_ns + kAnswerTimeout_ns};
  }
  auto answer = connection_->look_for(asked->id);
  if (answer && !*answer && now_ns > asked->deadline_ns) answer = fail(ErrorCode::kTimeout, "the source does not answer");
  if (!answer) asked.reset();
  return answer;
}

// Now and then, while frames come in: the source may be gone without its stream having ended.
void ReplicationSession::look_at_source() {
  const std::int64_t now_ns = place_.clock.monotonic_ns();
  if (!look_request_ && now_ns < next_look_ns_) return;
  next_look_ns_ = now_ns + kLookInterval_ns;
  const auto answer = ask(look_request_, {.kind = Kind::kRecordingPosition, .correlation_id = 0, .numbers = {view_.request.source_recording}, .texts = {}});
  if (!answer) return retry(answer.error());
  if (!*answer) return;
  for (const Message& message : connection_->arrived(look_request_->id))
    if (message.kind == Kind::kRecording) view_.source_position = std::max(view_.position, static_cast<std::uint64_t>(message.number(5)));
  connection_->forget(look_request_->id);
  look_request_.reset();
}

void ReplicationSession::describe_source() {
  const auto answer = ask(request_, {.kind = Kind::kRecordingPosition, .correlation_id = 0, .numbers = {view_.request.source_recording}, .texts = {}});
  if (!answer) return retry(answer.error());
  if (!*answer) return;
  std::optional<Message> found;
  for (const Message& message : connection_->arrived(request_->id))
    if (message.kind == Kind::kRecording) found = message;
  connection_->forget(request_->id);
  request_.reset();
  if (!found) return retry({ErrorCode::kIo, "the source answered without its recording", {}});
  plan(*found);
}

// What the source's recording is called here.
Result<Recording> ReplicationSession::own_recording(const Message& source) const {
  Recording recording;
  recording.start_ns = source.number(2);
  recording.start_position = static_cast<std::uint64_t>(source.number(4));
  recording.stream = {static_cast<std::int32_t>(source.number(6)), static_cast<std::int32_t>(source.number(7)), static_cast<std::int32_t>(source.number(8)),
                      static_cast<std::uint32_t>(source.number(9)), static_cast<std::uint32_t>(source.number(10))};
  recording.segment_bytes = static_cast<std::uint64_t>(source.number(11));
  recording.channel = source.text(1);
  recording.original_channel = source.text(2);
  recording.source_identity = source.text(3);
  if (auto valid = log::validate(place_.active.log_options(recording)); !valid) return tl::unexpected{std::move(valid.error()).with_context("the source's recording")};
  return recording;
}

// What is to be done, now that it is known what the source has.
void ReplicationSession::plan(const Message& source) {
  const auto wanted = own_recording(source);
  if (!wanted) return retry(wanted.error());
  const std::uint64_t begin = wanted->start_position;
  const auto end = static_cast<std::uint64_t>(source.number(5));
  const bool is_written = source.number(1) != 0;
  source_ = source;
  view_.source_position = end;
  if (!view_.recording) view_.recording = view_.request.into;
  if (view_.recording) {
    const std::string name = "recording " + std::to_string(*view_.recording) + " here";
    const Recording* const known = place_.catalog.get(*view_.recording);
    if (known == nullptr) return finish(ReplicationState::kFailed, name + " is gone");
    if (known->stream != wanted->stream) return finish(ReplicationState::kFailed, name + " is of another stream, or of another session of it, than the source's: " + text_of(*known));
    if (place_.active.find(*view_.recording) != nullptr) return retry({ErrorCode::kInUse, name + " is being written", {}});
    if (!known->stop_position) return finish(ReplicationState::kFailed, name + " could not be recovered; thalweg archive verify tells more");
    view_.position = *known->stop_position;
    view_.verified_position = std::min(std::max(view_.verified_position, known->start_position), view_.position);
    if (view_.position > end) return finish(ReplicationState::kFailed, name + " goes to position " + std::to_string(view_.position) + ", the source's only to " + std::to_string(end));
    if (begin > view_.position)
      return finish(ReplicationState::kFailed, name + " ends at position " + std::to_string(view_.position) + ", and the source has nothing below " + std::to_string(begin) + " any more");
  } else {
    view_.position = begin;
  }
  view_.verified_position = std::max(view_.verified_position, begin);  // what the source does not have any more cannot be compared
  if (!view_.stop_position) {
    view_.stop_position = view_.request.stop_position;
    if (!view_.request.is_followed) view_.stop_position = std::min(view_.stop_position.value_or(end), end);
    has_news_ = has_news_ || view_.stop_position.has_value();
  }
  const bool has_all = (view_.stop_position && view_.position >= *view_.stop_position) || (view_.position == end && !is_written);
  const std::int64_t now_ns = place_.clock.monotonic_ns();
  const bool may_go_on = view_.request.is_followed && !view_.stop_position && view_.breaks > 0 && !has_ended_early_;
  if (has_all && may_go_on && view_.error != kMayGoOn) {
    view_.error = kMayGoOn;
    deadline_ns_ = now_ns + kMayGoOn_ns;
  }
  if (has_all && may_go_on && now_ns < deadline_ns_) not_before_ns_ = now_ns + kPause_ns;
  else if (has_all) step_ = Step::kFinishing;
  else if (has_ended_early_) retry({ErrorCode::kClosed, "the source's replay ended early, at position " + std::to_string(view_.position), {}});
  else step_ = Step::kSession;
}

void ReplicationSession::ask_session(client::Client& client) {
  if (!wanted_) {
    auto wanted = client.async_next_available_session_id(kFrameStream);
    if (!wanted) return retry(wanted.error());
    wanted_ = *wanted;
  }
  const auto found = client.find_next_available_session_id(*wanted_);
  if (!found) return retry(found.error());
  if (!*found) return;
  wanted_.reset();
  session_id_ = **found;
  step_ = Step::kSubscribing;
}

void ReplicationSession::subscribe(client::Client& client) {
  if (!wanted_) {
    const auto channel = client::with_session_id(view_.request.response_channel, session_id_);
    if (!channel) return retry(channel.error());
    auto wanted = client.async_add_subscription(*channel, kFrameStream);
    if (!wanted) return retry(wanted.error());
    wanted_ = *wanted;
  }
  auto found = client.find_subscription(*wanted_);
  if (!found) return retry(found.error());
  if (!*found) return;
  wanted_.reset();
  subscription_ = std::move(**found);
  step_ = Step::kResolving;
}

void ReplicationSession::start_replay() {
  const std::int64_t length = view_.stop_position ? static_cast<std::int64_t>(*view_.stop_position - view_.position) : kNone;
  const auto answer = ask(request_, {.kind = Kind::kStartReplay,
                                     .correlation_id = 0,
                                     .numbers = {view_.request.source_recording, kFrameStream, static_cast<std::int64_t>(view_.position), kNone, length, view_.request.is_followed ? 1 : 0, kNone},
                                     .texts = {replay_channel_}});
  if (!answer) {
    const bool may_have_changed = answer.error().code == ErrorCode::kInvalidArgument && ++refusals_ < kRefusalsMax;
    return retry({may_have_changed ? ErrorCode::kGeneric : answer.error().code, answer.error().message, answer.error().hint});
  }
  if (!*answer) return;
  connection_->forget(request_->id);
  request_.reset();
  refusals_ = 0;
  replay_ = (*answer)->number(0);
  deadline_ns_ = place_.clock.monotonic_ns() + kImageTimeout_ns;
  step_ = Step::kImage;
}

void ReplicationSession::look_for_image(client::Client& client) {
  image_ = subscription_.image_by_session(session_id_);
  if (image_ == nullptr) {
    if (place_.clock.monotonic_ns() > deadline_ns_) retry({ErrorCode::kTimeout, "no frame of the source's replay comes in on " + replay_channel_, {}});
    return;
  }
  if (image_->join_position() != static_cast<std::int64_t>(view_.position))
    return retry({ErrorCode::kIo, "the source's replay began at position " + std::to_string(image_->join_position()) + ", not at " + std::to_string(view_.position), {}});
  if (auto opened = open_own(client); !opened) return retry(opened.error());
  view_.state = ReplicationState::kReplicating;
  view_.error.clear();
  step_ = Step::kCopying;
}

Result<void> ReplicationSession::open_own(client::Client& client) {
  if (auto allowed = place_.active.check_limits(); !allowed) return allowed;
  Result<std::shared_ptr<ActiveRecording>> opened{std::shared_ptr<ActiveRecording>{}};
  if (view_.recording) {
    opened = place_.active.extend(*view_.recording);
  } else {
    auto recording = own_recording(*source_);
    if (!recording) return tl::unexpected{std::move(recording.error())};
    opened = place_.active.create(std::move(*recording));
  }
  if (!opened) return tl::unexpected{std::move(opened.error())};
  own_ = std::move(*opened);
  view_.recording = own_->recording.id;
  has_news_ = true;
  if (own_->log->position() != view_.position) return fail(ErrorCode::kIo, "the recording here ends at position " + std::to_string(own_->log->position()) + ", not at " + std::to_string(view_.position));
  ask_for_counter(*own_, client);
  return {};
}

// The frames with the ids that they have at the source; a replay gives them its own.
std::span<const std::byte> ReplicationSession::with_own_ids(std::span<const std::byte> frames) {
  constexpr std::size_t kSessionAt = 12, kStreamAt = 16;
  const log::FrameStream& stream = own_->recording.stream;
  block_.assign(frames.begin(), frames.end());
  for (std::size_t at = 0; at + log::kFrameHeaderBytes <= block_.size();) {
    store_le(block_.data() + at + kSessionAt, stream.session_id);
    store_le(block_.data() + at + kStreamAt, stream.stream_id);
    const auto length = load_le<std::uint32_t>(block_.data() + at);
    if (length < log::kFrameHeaderBytes || length > block_.size() - at) break;  // padding, or what the log refuses
    at += align_up<std::size_t>(length, log::kFrameAlignment);
  }
  return block_;
}

std::int64_t ReplicationSession::copy() {
  const bool was_over = image_->is_closed() || image_->is_end_of_stream() || image_->is_malformed();  // asked first: what comes behind it is nothing
  log::FrameLog& log = *own_->log;
  if (auto room = log.make_room(); !room) {
    retry(room.error());
    return 0;
  }
  Result<std::uint64_t> appended{view_.position};
  const std::int64_t bytes = image_->block_poll([&](std::span<const std::byte> frames, std::int32_t, std::int32_t) { appended = log.append(with_own_ids(frames)); },
                                                std::min(kBlockBytes, image_->term_length()));
  if (!appended) {
    retry(appended.error());
    return 0;
  }
  view_.position = *appended;
  view_.source_position = std::max(view_.source_position, view_.position);
  if (bytes > 0) own_->counter.set(static_cast<std::int64_t>(view_.position));
  if (was_over && bytes == 0) {  // all there is, or it broke off: the source knows
    let_go();
    has_ended_early_ = true;
    step_ = Step::kDescribing;
  }
  return bytes;
}

void ReplicationSession::verify() {
  const std::int64_t now_ns = place_.clock.monotonic_ns();
  if (!checksum_request_) {
    if (view_.verified_position >= view_.position) return;
    const bool is_due = step_ == Step::kFinishing || view_.position - view_.verified_position >= Checksums::kBytesMax || now_ns >= next_verify_ns_;
    if (!is_due) return;
    next_verify_ns_ = now_ns + kVerifyInterval_ns;
  }
  const auto answer = ask(checksum_request_, {.kind = Kind::kChecksum,
                                              .correlation_id = 0,
                                              .numbers = {view_.request.source_recording, static_cast<std::int64_t>(view_.verified_position), static_cast<std::int64_t>(view_.position)},
                                              .texts = {}});
  if (!answer) {
    // Retention there was faster than we: what is gone is found out by describing it again.
    const bool is_gone = answer.error().code == ErrorCode::kInvalidArgument || answer.error().code == ErrorCode::kNotFound;
    return retry({is_gone ? ErrorCode::kGeneric : answer.error().code, "checksum: " + answer.error().message, answer.error().hint});
  }
  if (!*answer) return;
  connection_->forget(checksum_request_->id);
  checksum_request_.reset();
  compare(**answer);
}

void ReplicationSession::compare(const Message& answer) {
  const auto end = static_cast<std::uint64_t>(answer.number(0));
  const auto there = static_cast<std::uint32_t>(answer.number(1));
  if (end <= view_.verified_position || end > view_.position)
    return retry({ErrorCode::kIo, "the source has no checksum of positions " + std::to_string(view_.verified_position) + " to " + std::to_string(view_.position), {}});
  if (!own_reader_) {
    const Recording* const recording = place_.catalog.get(*view_.recording);
    if (recording == nullptr) return finish(ReplicationState::kFailed, "recording " + std::to_string(*view_.recording) + " here is gone");
    auto opened = log::FrameReader::open(place_.files, frames_path(place_.settings.directory, recording->id), {.stream = recording->stream, .is_uncommitted = true});
    if (!opened) return retry(opened.error());
    own_reader_.emplace(std::move(*opened));
  }
  const auto here = checksum_frames(*own_reader_, view_.verified_position, end, UINT64_MAX);
  if (!here) return finish(ReplicationState::kFailed, here.error().message);
  if (here->end != end || here->crc != there)
    return finish(ReplicationState::kFailed, "positions " + std::to_string(view_.verified_position) + " to " + std::to_string(end) + " of recording " + std::to_string(*view_.recording) +
                                                 " here are not what the source has: checksum " + std::to_string(here->crc) + ", there " + std::to_string(there));
  view_.verified_position = end;
  if (const std::int64_t now_ns = place_.clock.monotonic_ns(); now_ns >= next_news_ns_) {
    next_news_ns_ = now_ns + kNewsInterval_ns;
    has_news_ = true;
  }
}

}  // namespace thalweg::archive
