// thalweg.h: the archive.
#include "dataplane/client/c/handles.hpp"

using namespace thalweg;
using namespace thalweg::client;
using namespace thalweg::client::c;

struct thalweg_archive {
  ArchiveClient archive;
};
struct thalweg_persistent_subscription {
  PersistentSubscription subscription;
};

namespace {

// A C recording borrows the texts of ours.
thalweg_recording_t view_of(const RecordingInfo& info) noexcept {
  thalweg_recording_t view{};
  view.id = info.id;
  view.start_ns = info.start_ns;
  view.stop_ns = info.stop_ns;
  view.start_position = info.start_position;
  view.position = info.position;
  view.segment_length = info.segment_length;
  view.session_id = info.session_id;
  view.stream_id = info.stream_id;
  view.initial_term_id = info.initial_term_id;
  view.term_length = info.term_length;
  view.mtu_length = info.mtu_length;
  view.is_active = info.is_active;
  view.name = info.name.c_str();
  view.channel = info.channel.c_str();
  view.original_channel = info.original_channel.c_str();
  view.source_identity = info.source_identity.c_str();
  return view;
}

RecordingFilter filter_of(const thalweg_recording_filter_t* filter) {
  RecordingFilter ours;
  if (filter == nullptr) return ours;
  ours.min_id = filter->min_id;
  if (filter->stream_id != nullptr) ours.stream_id = *filter->stream_id;
  if (filter->session_id != nullptr) ours.session_id = *filter->session_id;
  ours.channel_fragment = text_or_empty(filter->channel_fragment);
  ours.is_active = filter->is_active;
  return ours;
}

}  // namespace

extern "C" {

void thalweg_archive_options_init(thalweg_archive_options_t* options) noexcept { *options = {"aeron:ipc", 10, "aeron:ipc", 20, 5'000'000'000}; }

thalweg_error_t thalweg_archive_connect(thalweg_client_t* client, const thalweg_archive_options_t* options, thalweg_archive_t** archive) noexcept {
  if (archive == nullptr) return invalid("there is no place for the handle");
  *archive = nullptr;
  ArchiveClient::Options ours;
  if (options != nullptr) {
    ours.control_channel = text_or_empty(options->control_channel);
    ours.control_stream = options->control_stream;
    ours.response_channel = text_or_empty(options->response_channel);
    ours.response_stream = options->response_stream;
    ours.timeout = std::chrono::nanoseconds{options->timeout_ns};
  }
  auto connected = ArchiveClient::connect(client->client, std::move(ours));
  if (!connected) return failed(connected.error());
  *archive = new thalweg_archive{std::move(*connected)};
  return THALWEG_OK;
}
void thalweg_archive_destroy(thalweg_archive_t* archive) noexcept { delete archive; }
bool thalweg_archive_is_closed(const thalweg_archive_t* archive) noexcept { return archive->archive.is_closed(); }

thalweg_error_t thalweg_archive_list(thalweg_archive_t* archive, const thalweg_recording_filter_t* filter, int64_t count_max, thalweg_recording_handler_t handler, void* clientd) noexcept {
  const auto found = archive->archive.list_recordings(filter_of(filter), count_max);
  if (!found) return failed(found.error());
  for (const RecordingInfo& info : *found) {
    const thalweg_recording_t view = view_of(info);
    handler(clientd, &view);
  }
  return THALWEG_OK;
}
thalweg_error_t thalweg_archive_find_last(thalweg_archive_t* archive, const thalweg_recording_filter_t* filter, thalweg_recording_handler_t handler, void* clientd) noexcept {
  const auto found = archive->archive.find_last_recording(filter_of(filter));
  if (!found) return failed(found.error());
  if (!*found) return failed(Error{ErrorCode::kNotFound, "there is no such recording", {}});
  const thalweg_recording_t view = view_of(**found);
  handler(clientd, &view);
  return THALWEG_OK;
}
thalweg_error_t thalweg_archive_recording(thalweg_archive_t* archive, int64_t id, thalweg_recording_handler_t handler, void* clientd) noexcept {
  const auto found = archive->archive.recording(id);
  if (!found) return failed(found.error());
  const thalweg_recording_t view = view_of(*found);
  handler(clientd, &view);
  return THALWEG_OK;
}
thalweg_error_t thalweg_archive_start_recording(thalweg_archive_t* archive, const char* channel, int32_t stream_id, bool is_local, bool drops_when_slow, int64_t* number) noexcept {
  const auto started = archive->archive.start_recording(text_or_empty(channel), stream_id, {is_local, drops_when_slow});
  if (!started) return failed(started.error());
  if (number != nullptr) *number = *started;
  return THALWEG_OK;
}
thalweg_error_t thalweg_archive_stop_stream(thalweg_archive_t* archive, int64_t number) noexcept { return status(archive->archive.stop_stream(number)); }
thalweg_error_t thalweg_archive_stop_recording(thalweg_archive_t* archive, int64_t id) noexcept { return status(archive->archive.stop_recording(id)); }
thalweg_error_t thalweg_archive_truncate(thalweg_archive_t* archive, int64_t id, int64_t position) noexcept { return status(archive->archive.truncate_recording(id, position)); }
thalweg_error_t thalweg_archive_purge(thalweg_archive_t* archive, int64_t id) noexcept { return status(archive->archive.purge_recording(id)); }

void thalweg_replay_params_init(thalweg_replay_params_t* params) noexcept { *params = {THALWEG_ABSENT, THALWEG_ABSENT, THALWEG_ABSENT, THALWEG_ABSENT, false}; }

thalweg_error_t thalweg_archive_start_replay(thalweg_archive_t* archive, int64_t recording, const thalweg_replay_params_t* params, const char* channel, int32_t stream_id,
                                             thalweg_replay_t* replay) noexcept {
  const auto given = [](int64_t value) { return value == THALWEG_ABSENT ? std::nullopt : std::optional{value}; };
  ReplayParams ours;
  if (params != nullptr) {
    ours.position = given(params->position);
    ours.time_ns = given(params->time_ns);
    ours.length = given(params->length);
    ours.follow = params->follow;
    if (params->limit_counter != THALWEG_ABSENT) ours.limit_counter = static_cast<std::int32_t>(params->limit_counter);
  }
  const auto started = archive->archive.start_replay(recording, ours, text_or_empty(channel), stream_id);
  if (!started) return failed(started.error());
  if (replay != nullptr) *replay = {started->id, started->start_position, started->stop_position.value_or(THALWEG_ABSENT), started->session_id};
  return THALWEG_OK;
}
thalweg_error_t thalweg_archive_stop_replay(thalweg_archive_t* archive, int64_t replay) noexcept { return status(archive->archive.stop_replay(replay)); }

void thalweg_replication_params_init(thalweg_replication_params_t* params) noexcept {
  *params = {};
  params->recording = params->into = params->stop_position = THALWEG_ABSENT;
  params->source_stream = ReplicationParams{}.source_stream;
}
thalweg_error_t thalweg_archive_start_replication(thalweg_archive_t* archive, const thalweg_replication_params_t* params, int64_t* replication) noexcept {
  if (params == nullptr) return invalid("parameters are needed");
  ReplicationParams ours;
  ours.recording = params->recording;
  ours.source_channel = text_or_empty(params->source_channel);
  ours.source_stream = params->source_stream;
  ours.response_channel = text_or_empty(params->response_channel);
  if (params->into != THALWEG_ABSENT) ours.into = params->into;
  if (params->stop_position != THALWEG_ABSENT) ours.stop_position = params->stop_position;
  ours.follow = params->follow;
  const auto started = archive->archive.start_replication(ours);
  if (!started) return failed(started.error());
  if (replication != nullptr) *replication = *started;
  return THALWEG_OK;
}
thalweg_error_t thalweg_archive_stop_replication(thalweg_archive_t* archive, int64_t replication) noexcept { return status(archive->archive.stop_replication(replication)); }
thalweg_error_t thalweg_archive_list_replications(thalweg_archive_t* archive, thalweg_replication_handler_t handler, void* clientd) noexcept {
  const auto found = archive->archive.list_replications();
  if (!found) return failed(found.error());
  for (const ReplicationInfo& info : *found) {
    thalweg_replication_t view{};
    view.id = info.id;
    view.source_recording = info.source_recording;
    view.recording = info.recording.value_or(THALWEG_ABSENT);
    view.position = info.position;
    view.verified_position = info.verified_position;
    view.source_position = info.source_position;
    view.stop_position = info.stop_position.value_or(THALWEG_ABSENT);
    view.source_channel = info.source_channel.c_str();
    view.error = info.error.c_str();
    view.state = static_cast<thalweg_replication_state_t>(info.state);
    handler(clientd, &view);
  }
  return THALWEG_OK;
}
thalweg_error_t thalweg_archive_checksum(thalweg_archive_t* archive, int64_t recording, int64_t from, int64_t to, int64_t* end, uint32_t* crc) noexcept {
  const auto sum = archive->archive.checksum(recording, from, to);
  if (!sum) return failed(sum.error());
  if (end != nullptr) *end = sum->end;
  if (crc != nullptr) *crc = sum->crc;
  return THALWEG_OK;
}

void thalweg_persistent_options_init(thalweg_persistent_options_t* options) noexcept {
  *options = {};
  options->position = THALWEG_ABSENT;
  options->replay_channel = "aeron:ipc";
  options->falls_back = true;
  options->join_window = PersistentSubscription::Options{}.join_window;
}
thalweg_error_t thalweg_persistent_subscription_create(thalweg_archive_t* archive, const thalweg_persistent_options_t* options, thalweg_persistent_subscription_t** subscription) noexcept {
  if (subscription == nullptr) return invalid("there is no place for the handle");
  *subscription = nullptr;
  if (options == nullptr) return invalid("options are needed");
  PersistentSubscription::Options ours;
  ours.recording = options->recording;
  if (options->position != THALWEG_ABSENT) ours.position = options->position;
  ours.live_channel = text_or_empty(options->live_channel);
  ours.live_stream = options->live_stream;
  ours.replay_channel = text_or_empty(options->replay_channel);
  ours.replay_stream = options->replay_stream;
  ours.falls_back = options->falls_back;
  ours.join_window = options->join_window;
  void* const clientd = options->clientd;
  if (auto* const joined = options->on_live_joined) ours.on_live_joined = [joined, clientd](std::int64_t position) { joined(clientd, position); };
  if (auto* const left = options->on_live_left) ours.on_live_left = [left, clientd](std::int64_t position) { left(clientd, position); };
  if (auto* const told = options->on_error) ours.on_error = [told, clientd](const Error& error) { told(clientd, static_cast<thalweg_error_t>(error.code), error.message.c_str()); };
  auto made = PersistentSubscription::create(archive->archive, std::move(ours));
  if (!made) return failed(made.error());
  *subscription = new thalweg_persistent_subscription{std::move(*made)};
  return THALWEG_OK;
}
void thalweg_persistent_subscription_destroy(thalweg_persistent_subscription_t* subscription) noexcept { delete subscription; }
int thalweg_persistent_subscription_poll(thalweg_persistent_subscription_t* subscription, thalweg_fragment_handler_t handler, void* clientd, int fragment_limit) noexcept {
  return subscription->subscription.poll(OnFragment{handler, clientd}, fragment_limit);
}
int64_t thalweg_persistent_subscription_position(const thalweg_persistent_subscription_t* subscription) noexcept { return subscription->subscription.position(); }
bool thalweg_persistent_subscription_is_live(const thalweg_persistent_subscription_t* subscription) noexcept { return subscription->subscription.is_live(); }
bool thalweg_persistent_subscription_is_over(const thalweg_persistent_subscription_t* subscription) noexcept { return subscription->subscription.is_over(); }
thalweg_error_t thalweg_persistent_subscription_failure(const thalweg_persistent_subscription_t* subscription) noexcept {
  const auto& failure = subscription->subscription.failure();
  return failure ? failed(*failure) : THALWEG_OK;
}

}  // extern "C"
