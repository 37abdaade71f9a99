#include "dataplane/client/persistent_subscription.hpp"

#include <utility>

#include "dataplane/base/time.hpp"
#include "dataplane/client/archive_protocol.hpp"
#include "dataplane/client/channel_uri.hpp"
#include "dataplane/shm/channel_uri.hpp"

namespace thalweg::client {

using archive_protocol::Kind;
using archive_protocol::Message;

namespace {

constexpr std::int64_t kImageTimeout_ns = 10 * kSecond_ns;  // from the answer to the replay's image
constexpr int kRefusalsMax = 50;  // of one step, before it is given up

}  // namespace

Result<PersistentSubscription> PersistentSubscription::create(ArchiveClient& archive, Options options) {
  for (const std::string& channel : {options.live_channel, options.replay_channel})
    if (auto uri = shm::ChannelUri::parse(channel); !uri) return tl::unexpected{std::move(uri.error())};
  if (options.live_channel == options.replay_channel && options.live_stream == options.replay_stream)
    return fail(ErrorCode::kInvalidArgument, "replays come in on the live channel and stream", "give replays a stream of their own");
  if (options.join_window <= 0) return fail(ErrorCode::kInvalidArgument, "a join window must be above 0");
  PersistentSubscription made{archive, std::move(options)};
  made.position_ = made.options_.position.value_or(-1);
  return made;
}

PersistentSubscription::~PersistentSubscription() {
  if (archive_ != nullptr && replay_id_ >= 0 && replay_) end_replay();
}

void PersistentSubscription::step() {
  static_cast<void>(archive_->client().do_work());
  if (live_wanted_ || live_) look_for_live();
  if (monotonic_ns() < not_before_ns_) return;
  switch (state_) {
    case State::kAskingSession: return ask_session();
    case State::kSubscribing: return subscribe();
    case State::kResolving: return resolve();
    case State::kAskingRecording: return ask_recording();
    case State::kStartingReplay: return start_replay();
    case State::kReplaying:
    case State::kWaiting: return follow();
    case State::kLive: return watch_live();
    case State::kEnded:
    case State::kFailed: return;
  }
}

void PersistentSubscription::fail_with(Error error) {
  failure_ = std::move(error);
  state_ = State::kFailed;
  image_.reset();
}

// The same step again, some time later.
void PersistentSubscription::retry(const Error& error) {
  wanted_.reset();
  request_.reset();
  if (options_.on_error) options_.on_error(error);
  const bool is_final = error.code == ErrorCode::kClosed || error.code == ErrorCode::kNotFound || error.code == ErrorCode::kInvalidChannel;
  if (is_final || ++refusals_ > kRefusalsMax) return fail_with({error.code, error.message, error.hint});
  not_before_ns_ = monotonic_ns() + options_.retry_interval.count();
}

void PersistentSubscription::ask_session() {
  Client& client = archive_->client();
  if (!wanted_) {
    auto wanted = client.async_next_available_session_id(options_.replay_stream);
    if (!wanted) return retry(wanted.error());
    wanted_ = *wanted;
  }
  const auto found = client.find_next_available_session_id(*wanted_);
  if (!found) return retry(found.error());
  if (!*found) return;
  wanted_.reset();
  replay_session_ = **found;
  state_ = State::kSubscribing;
}

void PersistentSubscription::subscribe() {
  Client& client = archive_->client();
  if (!wanted_) {
    const auto channel = with_session_id(options_.replay_channel, replay_session_);
    if (!channel) return fail_with({channel.error().code, channel.error().message, channel.error().hint});
    auto wanted = client.async_add_subscription(*channel, options_.replay_stream);
    if (!wanted) return retry(wanted.error());
    wanted_ = *wanted;
  }
  auto found = client.find_subscription(*wanted_);
  if (!found) return retry(found.error());
  if (!*found) return;
  wanted_.reset();
  replay_ = std::move(**found);
  state_ = State::kResolving;
}

void PersistentSubscription::resolve() {
  const auto resolved = replay_.try_resolve_channel_endpoint_port();
  if (!resolved) return;
  replay_channel_ = *resolved;
  state_ = State::kAskingRecording;
}

// True: recording_ is as the archive has just said.
bool PersistentSubscription::has_asked_recording() {
  if (!request_) {
    const auto sent = archive_->send({.kind = Kind::kRecordingPosition, .correlation_id = 0, .numbers = {options_.recording}, .texts = {}});
    if (!sent) return retry(sent.error()), false;
    request_ = *sent;
  }
  auto answer = archive_->look_for_recording(*request_);
  if (!answer) return retry(answer.error()), false;
  if (!*answer) return false;
  request_.reset();
  recording_ = std::move(**answer);
  return true;
}

void PersistentSubscription::ask_recording() {
  if (!has_asked_recording()) return;
  if (position_ < 0) position_ = recording_->start_position;
  if (position_ < recording_->start_position)
    return fail_with({ErrorCode::kNotFound, "position " + std::to_string(position_) + " of recording " + std::to_string(recording_->id) + " is not there any more; the lowest is " + std::to_string(recording_->start_position), {}});
  if (recording_->is_active || position_ < recording_->position) {
    state_ = State::kStartingReplay;
    return;
  }
  // There is nothing in the recording now: live may go on where it ended, or the recording itself.
  state_ = State::kWaiting;
  not_before_ns_ = monotonic_ns() + options_.retry_interval.count();
}

void PersistentSubscription::start_replay() {
  if (!request_) {
    const auto sent = archive_->send({.kind = Kind::kStartReplay,
                                      .correlation_id = 0,
                                      .numbers = {options_.recording, options_.replay_stream, position_, INT64_MIN, INT64_MIN, 1, INT64_MIN},
                                      .texts = {replay_channel_}});
    if (!sent) return retry(sent.error());
    request_ = *sent;
  }
  const auto answer = archive_->look_for(*request_);
  if (!answer) {
    state_ = State::kAskingRecording;  // it may have ended in between
    return retry(answer.error());
  }
  if (!*answer) return;
  archive_->forget(*request_);
  request_.reset();
  refusals_ = 0;
  replay_id_ = (*answer)->number(0);
  give_up_ns_ = monotonic_ns() + kImageTimeout_ns;
  state_ = State::kReplaying;
}

// Out of the recording, until live is near; or waiting for either.
void PersistentSubscription::follow() {
  if (image_ == nullptr && state_ == State::kReplaying) {
    image_ = replay_.image_by_session(replay_session_);
    if (image_ == nullptr && monotonic_ns() > give_up_ns_) return begin_again();
    is_whole_ = true;
  }
  const bool is_replay_over = state_ == State::kWaiting || (image_ != nullptr && (image_->is_closed() || image_->is_end_of_stream()));
  if (is_replay_over && live_image_ != nullptr && live_image_->join_position() <= position_) return join();
  if (is_replay_over) {
    if (image_ != nullptr && !image_->is_closed() && image_->position() < image_->end_of_stream_position()) return;
    if (!live_ && !live_wanted_ && recording_) subscribe_to_live();
    if (state_ == State::kFailed) return;
    if (state_ != State::kWaiting) return begin_again();
    state_ = State::kAskingRecording;  // no replay came of this session yet
    return;
  }
  // How far the recording is ahead, from time to time.
  if (live_ || live_wanted_) return;
  if (!has_asked_recording()) return;
  if (recording_->position - position_ > options_.join_window) {
    not_before_ns_ = monotonic_ns() + options_.retry_interval.count() / 10;
    return;
  }
  subscribe_to_live();
}

void PersistentSubscription::subscribe_to_live() {
  const auto channel = with_session_id(options_.live_channel, recording_->session_id);
  if (!channel) return fail_with({channel.error().code, channel.error().message, channel.error().hint});
  auto wanted = archive_->client().async_add_subscription(*channel, options_.live_stream);
  if (!wanted) return retry(wanted.error());
  live_wanted_ = *wanted;
}

void PersistentSubscription::look_for_live() {
  if (live_wanted_) {
    auto found = archive_->client().find_subscription(*live_wanted_);
    if (found && !*found) return;
    live_wanted_.reset();
    if (!found) return retry(found.error());
    live_ = std::move(**found);
  }
  if (state_ == State::kLive || !recording_) return;
  if (live_image_ != nullptr && live_image_->is_closed()) live_image_.reset();
  if (live_image_ == nullptr) live_image_ = live_.image_by_session(recording_->session_id);
}

void PersistentSubscription::join() {
  end_replay();
  image_ = live_image_;
  builder_ = MessageBuilder{};
  is_whole_ = true;
  state_ = State::kLive;
  refusals_ = 0;
  if (options_.on_live_joined) options_.on_live_joined(position_);
}

void PersistentSubscription::watch_live() {
  if (!image_->is_closed()) return;
  image_.reset();
  live_image_.reset();
  live_.close();
  live_ = Subscription{};
  if (options_.on_live_left) options_.on_live_left(position_);
  if (!options_.falls_back) {
    state_ = State::kEnded;
    return;
  }
  begin_again();
}

// A new replay from where we are.
void PersistentSubscription::begin_again() {
  end_replay();
  image_.reset();
  builder_ = MessageBuilder{};
  is_whole_ = true;
  state_ = State::kAskingSession;
  not_before_ns_ = monotonic_ns() + options_.retry_interval.count();
}

void PersistentSubscription::end_replay() {
  if (request_) archive_->forget(*std::exchange(request_, std::nullopt));
  if (replay_id_ >= 0)
    if (const auto sent = archive_->send({.kind = Kind::kStopReplay, .correlation_id = 0, .numbers = {replay_id_}, .texts = {}})) archive_->forget(*sent);  // it may be over already
  replay_id_ = -1;
  replay_.close();
  replay_ = Subscription{};
}

}  // namespace thalweg::client
