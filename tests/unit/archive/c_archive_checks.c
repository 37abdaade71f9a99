/* The archive's part of the C ABI as a C11 program uses it. */
#include "tests/unit/archive/c_archive_checks.h"

#include <stdio.h>
#include <string.h>

#include "dataplane/client/c/thalweg.h"

static char complaint[512];

#define STRING(x) STRING_OF(x)
#define STRING_OF(x) #x
#define CHECK(condition)                                                                                          \
  do {                                                                                                            \
    if (!(condition)) {                                                                                           \
      snprintf(complaint, sizeof complaint, "line " STRING(__LINE__) ": " #condition " (%s)", thalweg_error_text()); \
      return complaint;                                                                                           \
    }                                                                                                             \
  } while (0)

typedef struct seen {
  thalweg_recording_t recording;
  thalweg_replication_t replication;
  int recordings;
  int replications;
  int messages;
  int joined;
} seen_t;

static void on_recording(void *clientd, const thalweg_recording_t *recording) {
  seen_t *seen = clientd;
  seen->recording = *recording;
  ++seen->recordings;
}
static void on_replication(void *clientd, const thalweg_replication_t *replication) {
  seen_t *seen = clientd;
  seen->replication = *replication;
  ++seen->replications;
}
static void on_fragment(void *clientd, const uint8_t *data, size_t length, const thalweg_header_t *header) {
  (void)data;
  (void)header;
  if (length == 200) ++((seen_t *)clientd)->messages;
}
static void on_joined(void *clientd, int64_t position) {
  (void)position;
  ++((seen_t *)clientd)->joined;
}

static thalweg_archive_t *connect_to(thalweg_client_t *client, int32_t stream) {
  thalweg_archive_t *archive = NULL;
  thalweg_archive_options_t options;
  thalweg_archive_options_init(&options);
  options.control_stream = stream;
  options.timeout_ns = 60000000000;
  return thalweg_archive_connect(client, &options, &archive) == THALWEG_OK ? archive : NULL;
}

static const char *check_recordings(thalweg_archive_t *archive) {
  seen_t seen;
  int64_t number = -1, end = 0, again = 0;
  uint32_t crc = 0, same = 1;
  memset(&seen, 0, sizeof seen);
  CHECK(!thalweg_archive_is_closed(archive));
  CHECK(thalweg_archive_list(archive, NULL, 10, on_recording, &seen) == THALWEG_OK && seen.recordings == 1);
  CHECK(seen.recording.id == 0 && seen.recording.is_active && seen.recording.stream_id == 4 && seen.recording.start_position == 0);
  CHECK(thalweg_archive_find_last(archive, NULL, on_recording, &seen) == THALWEG_OK && seen.recordings == 2);
  CHECK(thalweg_archive_recording(archive, 0, on_recording, &seen) == THALWEG_OK && seen.recordings == 3);
  CHECK(thalweg_archive_recording(archive, 9, on_recording, &seen) == THALWEG_ERROR_NOT_FOUND && seen.recordings == 3);
  CHECK(thalweg_archive_start_recording(archive, "aeron:ipc", 5, false, false, &number) == THALWEG_OK && number >= 0);
  CHECK(thalweg_archive_start_recording(archive, "aeron:ipc", 5, false, false, NULL) == THALWEG_ERROR_IN_USE);
  CHECK(thalweg_archive_stop_stream(archive, number) == THALWEG_OK);
  CHECK(thalweg_archive_truncate(archive, 0, 0) == THALWEG_ERROR_IN_USE);
  CHECK(thalweg_archive_purge(archive, 7) == THALWEG_ERROR_NOT_FOUND);
  do CHECK(thalweg_archive_checksum(archive, 0, 0, INT64_MAX, &end, &crc) == THALWEG_OK);
  while (end < 100 * 256);
  CHECK(thalweg_archive_checksum(archive, 0, 0, end, &again, &same) == THALWEG_OK && again == end && same == crc);
  CHECK(thalweg_archive_checksum(archive, 0, 33, end, NULL, NULL) == THALWEG_ERROR_INVALID_ARGUMENT);
  return NULL;
}

static const char *check_replay(thalweg_client_t *client, thalweg_archive_t *archive) {
  seen_t seen;
  thalweg_replay_params_t params;
  thalweg_replay_t replay;
  thalweg_subscription_t *subscription = NULL;
  thalweg_persistent_options_t options;
  thalweg_persistent_subscription_t *persistent = NULL;
  memset(&seen, 0, sizeof seen);
  thalweg_replay_params_init(&params);
  params.length = 20 * 256;
  CHECK(thalweg_add_subscription(client, "aeron:ipc?session-id=4711", 60, NULL, NULL, NULL, NULL, &subscription) == THALWEG_OK);
  CHECK(thalweg_archive_start_replay(archive, 0, &params, "aeron:ipc?session-id=4711", 60, &replay) == THALWEG_OK);
  CHECK(replay.session_id == 4711 && replay.start_position == 0 && replay.stop_position == 20 * 256);
  while (seen.messages < 20) thalweg_subscription_poll(subscription, on_fragment, &seen, 10);
  while (thalweg_archive_stop_replay(archive, replay.id) == THALWEG_OK) { /* it ends by itself, a moment later */
  }
  CHECK(thalweg_error_code() == THALWEG_ERROR_NOT_FOUND);
  thalweg_subscription_destroy(subscription);

  seen.messages = 0;
  thalweg_persistent_options_init(&options);
  options.recording = 0;
  options.live_channel = "aeron:ipc";
  options.live_stream = 4;
  options.replay_stream = 61;
  options.on_live_joined = on_joined;
  options.clientd = &seen;
  CHECK(thalweg_persistent_subscription_create(archive, NULL, &persistent) == THALWEG_ERROR_INVALID_ARGUMENT && persistent == NULL);
  CHECK(thalweg_persistent_subscription_create(archive, &options, &persistent) == THALWEG_OK);
  while (seen.messages < 100 || !thalweg_persistent_subscription_is_live(persistent)) {
    CHECK(!thalweg_persistent_subscription_is_over(persistent));
    thalweg_persistent_subscription_poll(persistent, on_fragment, &seen, 10);
  }
  CHECK(seen.joined == 1 && seen.messages == 100);
  CHECK(thalweg_persistent_subscription_position(persistent) == 100 * 256);
  CHECK(thalweg_persistent_subscription_failure(persistent) == THALWEG_OK);
  thalweg_persistent_subscription_destroy(persistent);
  return NULL;
}

static const char *check_replication(thalweg_archive_t *here) {
  seen_t seen;
  thalweg_replication_params_t params;
  int64_t id = -1;
  memset(&seen, 0, sizeof seen);
  thalweg_replication_params_init(&params);
  CHECK(params.source_stream == 10 && params.into == THALWEG_ABSENT);
  CHECK(thalweg_archive_start_replication(here, NULL, &id) == THALWEG_ERROR_INVALID_ARGUMENT);
  params.recording = 0;
  params.source_channel = params.response_channel = "aeron:ipc";
  params.stop_position = 50 * 256;
  CHECK(thalweg_archive_start_replication(here, &params, &id) == THALWEG_OK);
  do CHECK(thalweg_archive_list_replications(here, on_replication, &seen) == THALWEG_OK && seen.replications > 0);
  while (seen.replication.state < THALWEG_REPLICATION_DONE);
  CHECK(seen.replication.state == THALWEG_REPLICATION_DONE && seen.replication.id == id);
  CHECK(seen.replication.verified_position == 50 * 256 && seen.replication.recording == 0);
  CHECK(thalweg_archive_stop_replication(here, id) == THALWEG_ERROR_NOT_FOUND);
  return NULL;
}

const char *check_archive(const char *directory) {
  thalweg_client_t *client = NULL;
  thalweg_archive_t *archive = NULL;
  thalweg_archive_t *here = NULL;
  const char *found = NULL;
  thalweg_context_t *context = thalweg_context_create();
  thalweg_context_set_directory(context, directory);
  CHECK(thalweg_connect(context, &client) == THALWEG_OK);
  thalweg_context_destroy(context);
  archive = connect_to(client, 10);
  here = connect_to(client, 11);
  CHECK(archive != NULL && here != NULL);
  found = check_recordings(archive);
  if (found == NULL) found = check_replay(client, archive);
  if (found == NULL) found = check_replication(here);
  thalweg_archive_destroy(here);
  thalweg_archive_destroy(archive);
  thalweg_client_destroy(client);
  return found;
}
