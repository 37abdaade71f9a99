/* The C ABI as a C11 program uses it. Each check answers NULL, or the line that failed and what was expected there. */
#include "tests/unit/client/c_abi_checks.h"

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

typedef struct heard {
  int fragments;
  int images;
  int lost_images;
  int counters;
  int closed;
  int errors;
  char text[4096];
  size_t length;
  thalweg_header_values_t header;
  thalweg_image_t *kept;
  thalweg_action_t answer;
} heard_t;

static void on_available(void *clientd, thalweg_image_t *image) {
  heard_t *heard = clientd;
  ++heard->images;
  heard->kept = thalweg_image_retain(image);
}
static void on_unavailable(void *clientd, thalweg_image_t *image) {
  (void)image;
  ++((heard_t *)clientd)->lost_images;
}
static void on_counter(void *clientd, int64_t registration_id, int32_t counter_id) {
  (void)registration_id;
  (void)counter_id;
  ++((heard_t *)clientd)->counters;
}
static void on_close(void *clientd) { ++((heard_t *)clientd)->closed; }
static void on_error(void *clientd, thalweg_error_t code, const char *text) {
  (void)code;
  (void)text;
  ++((heard_t *)clientd)->errors;
}
static void on_fragment(void *clientd, const uint8_t *data, size_t length, const thalweg_header_t *header) {
  heard_t *heard = clientd;
  ++heard->fragments;
  if (length > sizeof heard->text) length = sizeof heard->text;
  memcpy(heard->text, data, length);
  heard->length = length;
  thalweg_header_read(header, &heard->header);
}
static thalweg_action_t on_controlled(void *clientd, const uint8_t *data, size_t length, const thalweg_header_t *header) {
  on_fragment(clientd, data, length, header);
  return ((heard_t *)clientd)->answer;
}
static void on_block(void *clientd, const uint8_t *frames, size_t length, int32_t session_id, int32_t term_id) {
  (void)frames;
  (void)session_id;
  (void)term_id;
  ((heard_t *)clientd)->length = length;
}
static void count_view(void *clientd, const thalweg_counter_view_t *view) {
  if (view->type_id == 1100) ++*(int *)clientd;
}
static bool says(const heard_t *heard, const char *text) { return heard->length == strlen(text) && memcmp(heard->text, text, heard->length) == 0; }

static thalweg_client_t *connect_with(const char *directory, turn_t turn, void *turned, heard_t *heard) {
  thalweg_client_t *client = NULL;
  thalweg_context_t *context = thalweg_context_create();
  thalweg_context_set_directory(context, directory);
  thalweg_context_set_client_name(context, "c");
  thalweg_context_set_invoker(context, true);
  thalweg_context_set_idle(context, turn, turned);
  thalweg_context_set_on_error(context, on_error, heard);
  thalweg_context_set_on_available_image(context, on_available, heard);
  thalweg_context_set_on_unavailable_image(context, on_unavailable, heard);
  thalweg_context_set_on_close(context, on_close, heard);
  if (thalweg_connect(context, &client) != THALWEG_OK) client = NULL;
  thalweg_context_destroy(context);
  return client;
}

static void settle(thalweg_client_t *client, turn_t turn, void *turned) {
  for (int i = 0; i < 4; ++i) {
    turn(turned);
    while (thalweg_client_do_work(client) > 0) {
    }
  }
}

const char *check_errors(const char *empty_directory) {
  thalweg_client_t *client = (thalweg_client_t *)&complaint;
  thalweg_cnc_t *cnc = NULL;
  bool is_active = true;
  thalweg_context_t *context = thalweg_context_create();
  thalweg_context_set_directory(context, empty_directory);
  thalweg_context_set_connect_timeout(context, 0);
  CHECK(thalweg_connect(context, &client) == THALWEG_ERROR_UNREACHABLE);
  CHECK(client == NULL);
  CHECK(thalweg_error_code() == THALWEG_ERROR_UNREACHABLE);
  CHECK(strstr(thalweg_error_text(), empty_directory) != NULL);
  CHECK(strlen(thalweg_error_hint()) > 0);
  thalweg_context_set_driver_timeout(context, -1);
  CHECK(thalweg_connect(context, &client) == THALWEG_ERROR_INVALID_ARGUMENT);
  CHECK(thalweg_connect(context, NULL) != THALWEG_OK);
  thalweg_context_destroy(context);
  CHECK(thalweg_cnc_open(empty_directory, &cnc) == THALWEG_ERROR_NOT_FOUND && cnc == NULL);
  CHECK(thalweg_is_driver_active(empty_directory, 100, &is_active) == THALWEG_OK && !is_active);
  CHECK(thalweg_request_driver_termination(empty_directory, NULL, 0) == THALWEG_ERROR_NOT_FOUND);
  CHECK(strcmp(thalweg_offer_text(THALWEG_BACK_PRESSURED), "back pressured") == 0);
  CHECK(strcmp(thalweg_offer_text(64), "accepted") == 0);
  CHECK(strcmp(thalweg_offer_text(THALWEG_INVALID_BLOCK), "invalid block") == 0);
  CHECK(strcmp(thalweg_offer_text(-77), "unknown") == 0);
  CHECK(strlen(thalweg_version()) > 0);
  return NULL;
}

const char *check_streams(const char *directory, turn_t turn, void *turned) {
  heard_t heard;
  thalweg_publication_t *publication = NULL;
  thalweg_subscription_t *subscription = NULL;
  thalweg_claim_t claim;
  thalweg_image_t *images[4];
  char large[3000];
  const thalweg_buffer_t parts[2] = {{"two ", 4}, {"parts", 5}};
  memset(&heard, 0, sizeof heard);
  memset(large, 'x', sizeof large);
  thalweg_client_t *client = connect_with(directory, turn, turned, &heard);
  CHECK(client != NULL);
  CHECK(strcmp(thalweg_client_directory(client), directory) == 0);
  CHECK(thalweg_add_subscription(client, "aeron:ipc", 5, NULL, NULL, NULL, NULL, &subscription) == THALWEG_OK);
  CHECK(thalweg_add_exclusive_publication(client, "aeron:ipc", 5, &publication) == THALWEG_OK);
  settle(client, turn, turned);
  CHECK(heard.images == 1 && heard.kept != NULL);
  CHECK(thalweg_publication_is_exclusive(publication) && thalweg_publication_is_original(publication) && thalweg_publication_is_connected(publication));
  CHECK(strcmp(thalweg_publication_channel(publication), "aeron:ipc") == 0);
  CHECK(thalweg_publication_available_window(publication) == thalweg_publication_position_limit(publication));

  CHECK(thalweg_publication_offer(publication, "hello", 5, 4711) == 64);
  CHECK(thalweg_subscription_poll(subscription, on_fragment, &heard, 10) == 1);
  CHECK(says(&heard, "hello") && heard.header.reserved_value == 4711 && heard.header.position == 64 && heard.header.stream_id == 5);
  CHECK(thalweg_publication_offer_parts(publication, parts, 2, 0) == 128);
  CHECK(thalweg_image_bounded_poll(heard.kept, on_fragment, &heard, 100, 10) == 0);
  CHECK(thalweg_image_poll(heard.kept, on_fragment, &heard, 10) == 1);
  CHECK(says(&heard, "two parts"));

  CHECK(thalweg_publication_try_claim(publication, 3, &claim) == 192 && claim.length == 3);
  memcpy(claim.data, "abc", 3);
  thalweg_claim_set_reserved_value(&claim, 7);
  thalweg_claim_commit(&claim);
  CHECK(claim.data == NULL);
  thalweg_claim_commit(&claim); /* once more does nothing */
  CHECK(thalweg_publication_try_claim(publication, 3, &claim) == 256);
  thalweg_claim_abort(&claim);
  CHECK(thalweg_publication_try_claim(publication, 1 << 20, &claim) == THALWEG_MESSAGE_TOO_LONG && claim.data == NULL);
  CHECK(thalweg_publication_offer_block(publication, "no frames", 9) == THALWEG_INVALID_BLOCK);
  heard.answer = THALWEG_CONTINUE;
  heard.fragments = 0;
  CHECK(thalweg_image_controlled_peek(heard.kept, 128, on_controlled, &heard, INT64_MAX) == 192);
  CHECK(heard.fragments == 1 && says(&heard, "abc") && heard.header.reserved_value == 7);
  heard.answer = THALWEG_ABORT;
  CHECK(thalweg_image_controlled_poll(heard.kept, on_controlled, &heard, 10) == 0);
  CHECK(thalweg_image_bounded_controlled_poll(heard.kept, on_controlled, &heard, INT64_MAX, 10) == 0);
  CHECK(thalweg_image_position(heard.kept) == 128);
  CHECK(thalweg_image_set_position(heard.kept, 130) == THALWEG_ERROR_INVALID_ARGUMENT);
  CHECK(thalweg_image_set_position(heard.kept, 256) == THALWEG_OK);

  thalweg_assembler_t *assembler = thalweg_assembler_create(on_fragment, &heard);
  CHECK(thalweg_publication_offer(publication, large, sizeof large, 0) > 0);
  heard.fragments = 0;
  CHECK(thalweg_subscription_poll(subscription, thalweg_assembler_on_fragment, assembler, 10) == 3);
  CHECK(heard.fragments == 1 && heard.length == sizeof large);
  thalweg_assembler_destroy(assembler);
  thalweg_controlled_assembler_t *controlled = thalweg_controlled_assembler_create(on_controlled, &heard);
  CHECK(thalweg_publication_offer(publication, large, sizeof large, 0) > 0);
  heard.answer = THALWEG_COMMIT;
  CHECK(thalweg_subscription_controlled_poll(subscription, thalweg_controlled_assembler_on_fragment, controlled, 10) == 3);
  CHECK(heard.fragments == 2);
  thalweg_controlled_assembler_destroy(controlled);
  CHECK(thalweg_publication_offer(publication, "block", 5, 0) > 0);
  CHECK(thalweg_subscription_block_poll(subscription, on_block, &heard, 4096) == 64 && heard.length == 64);

  CHECK(thalweg_subscription_images(subscription, images, 4) == 1);
  CHECK(thalweg_image_correlation_id(images[0]) == thalweg_publication_original_registration_id(publication));
  thalweg_image_release(images[0]);
  CHECK(thalweg_subscription_images(subscription, NULL, 0) == 1);
  images[0] = thalweg_subscription_image_by_session(subscription, thalweg_publication_session_id(publication));
  CHECK(images[0] != NULL && strcmp(thalweg_image_source_identity(images[0]), "aeron:ipc") == 0);
  thalweg_image_release(images[0]);
  CHECK(thalweg_subscription_image_by_session(subscription, thalweg_publication_session_id(publication) + 1) == NULL);
  CHECK(thalweg_subscription_image_by_correlation_id(subscription, -5) == NULL);
  CHECK(thalweg_image_reject(heard.kept, "enough") == THALWEG_OK);

  thalweg_publication_revoke(publication);
  CHECK(thalweg_publication_offer(publication, "x", 1, 0) == THALWEG_CLOSED);
  thalweg_publication_destroy(publication);
  settle(client, turn, turned);
  CHECK(heard.lost_images == 1 && thalweg_image_is_closed(heard.kept) && thalweg_image_is_revoked(heard.kept));
  CHECK(thalweg_image_reject(heard.kept, "too late") == THALWEG_ERROR_CLOSED);
  thalweg_client_close(client);
  CHECK(heard.closed == 1 && thalweg_client_close_reason(client) == THALWEG_CLOSE_APPLICATION);
  CHECK(thalweg_subscription_is_closed(subscription));
  thalweg_client_destroy(client);
  thalweg_subscription_destroy(subscription); /* handles may outlive the client */
  thalweg_image_release(heard.kept);
  CHECK(heard.errors == 0);
  return NULL;
}

const char *check_resources(const char *directory, turn_t turn, void *turned) {
  heard_t heard;
  int64_t id = 0, second = 0;
  int32_t session_id = 0;
  bool is_there = false;
  int count = 0;
  thalweg_publication_t *publication = NULL;
  thalweg_subscription_t *subscription = NULL;
  thalweg_counter_t *counter = NULL, *fixed = NULL;
  thalweg_counter_view_t view;
  char text[128];
  memset(&heard, 0, sizeof heard);
  thalweg_client_t *client = connect_with(directory, turn, turned, &heard);
  CHECK(client != NULL);

  CHECK(thalweg_async_add_publication(client, "aeron:ipc", 6, &id) == THALWEG_OK);
  CHECK(thalweg_find_publication(client, id, &publication) == THALWEG_OK && publication == NULL);
  settle(client, turn, turned);
  CHECK(thalweg_find_publication(client, id, &publication) == THALWEG_OK && publication != NULL);
  thalweg_publication_destroy(publication);
  CHECK(thalweg_find_publication(client, id, &publication) == THALWEG_ERROR_NOT_FOUND && publication == NULL);
  CHECK(thalweg_add_publication(client, "aeron:ipc", 7, &publication) == THALWEG_OK);
  CHECK(!thalweg_publication_is_exclusive(publication) && thalweg_publication_registration_id(publication) > 0);
  CHECK(thalweg_publication_offer(publication, "x", 1, 0) == THALWEG_NOT_CONNECTED);
  CHECK(thalweg_publication_local_address(publication, 0, text, sizeof text) == 0 && text[0] == '\0');
  CHECK(thalweg_async_add_subscription(client, "aeron:ipc?alias=s", 8, NULL, NULL, NULL, NULL, &id) == THALWEG_OK);
  settle(client, turn, turned);
  CHECK(thalweg_find_subscription(client, id, &subscription) == THALWEG_OK && subscription != NULL);
  CHECK(thalweg_subscription_try_resolve_channel_endpoint_port(subscription, text, 8) == strlen("aeron:ipc?alias=s"));
  CHECK(strcmp(text, "aeron:i") == 0);
  CHECK(thalweg_subscription_channel_status(subscription) == THALWEG_CHANNEL_NONE);

  CHECK(thalweg_publication_async_add_destination(client, publication, "aeron:udp?endpoint=a:1", &id) == THALWEG_OK);
  CHECK(thalweg_is_done(client, id, &is_there) == THALWEG_OK && !is_there);
  settle(client, turn, turned);
  CHECK(thalweg_is_done(client, id, &is_there) == THALWEG_OK && is_there);
  CHECK(thalweg_publication_remove_destination_by_id(client, publication, id) == THALWEG_OK);
  CHECK(thalweg_publication_remove_destination(client, publication, "aeron:udp?endpoint=a:1") == THALWEG_OK);
  CHECK(thalweg_subscription_add_destination(client, subscription, "aeron:udp?endpoint=a:1", &id) == THALWEG_OK);
  CHECK(thalweg_subscription_async_remove_destination_by_id(client, subscription, id, &second) == THALWEG_OK && second != id);
  CHECK(thalweg_subscription_remove_destination_by_id(client, subscription, id) == THALWEG_ERROR_NOT_FOUND);
  CHECK(thalweg_subscription_remove_destination(client, subscription, "aeron:udp?endpoint=a:1") == THALWEG_OK);

  const int64_t handler = thalweg_client_add_available_counter_handler(client, on_counter, &heard);
  CHECK(handler != 0);
  CHECK(thalweg_add_counter(client, 1100, "key", 3, "label", &counter) == THALWEG_OK);
  CHECK(heard.counters == 1);
  CHECK(thalweg_client_remove_handler(client, handler) && !thalweg_client_remove_handler(client, handler) && !thalweg_client_remove_handler(client, 0));
  thalweg_counter_set(counter, 40);
  thalweg_counter_add(counter, 2);
  const thalweg_counters_t *counters = thalweg_client_counters(client);
  CHECK(thalweg_counters_get(counters, thalweg_counter_id(counter), &view));
  CHECK(view.value == 42 && view.type_id == 1100 && view.key_length == 112 && memcmp(view.key, "key", 3) == 0);
  CHECK(view.label_length == 5 && memcmp(view.label, "label", 5) == 0);
  CHECK(thalweg_counters_find(counters, 1100, thalweg_counter_registration_id(counter), &view));
  CHECK(!thalweg_counters_get(counters, -1, &view));
  CHECK(thalweg_add_static_counter(client, 1100, 99, NULL, 0, "fixed", &fixed) == THALWEG_OK);
  CHECK(thalweg_counter_is_static(fixed) && !thalweg_counter_is_static(counter) && heard.counters == 1);
  thalweg_counters_for_each(counters, count_view, &count);
  CHECK(count == 2);
  thalweg_counter_destroy(counter);
  settle(client, turn, turned);
  CHECK(thalweg_counters_state(counters, view.id) == THALWEG_COUNTER_RECLAIMED);
  CHECK(thalweg_counters_state(counters, thalweg_counter_id(fixed)) == THALWEG_COUNTER_ALLOCATED);

  CHECK(thalweg_next_available_session_id(client, 5, &session_id) == THALWEG_OK);
  CHECK(thalweg_async_next_available_session_id(client, 5, &id) == THALWEG_OK);
  CHECK(thalweg_find_next_available_session_id(client, id, &is_there, &session_id) == THALWEG_OK && !is_there);
  const int32_t before = session_id;
  settle(client, turn, turned);
  CHECK(thalweg_find_next_available_session_id(client, id, &is_there, &session_id) == THALWEG_OK && is_there && session_id == before + 1);

  thalweg_cnc_t *cnc = NULL;
  CHECK(thalweg_cnc_open(directory, &cnc) == THALWEG_OK);
  CHECK(thalweg_cnc_version(cnc) == 0x200 && thalweg_cnc_is_driver_alive(cnc, 10000));
  CHECK(thalweg_cnc_client_liveness_timeout(cnc) == INT64_C(10000000000));
  CHECK(thalweg_counters_value(thalweg_cnc_counters(cnc), view.id) == 42);
  thalweg_cnc_close(cnc);

  thalweg_publication_destroy(publication);
  thalweg_subscription_destroy(subscription);
  thalweg_counter_destroy(fixed);
  thalweg_client_destroy(client);
  return NULL;
}

const char *check_channels(void) {
  char channel[4096];
  char value[8];
  thalweg_uri_t *uri = thalweg_uri_create_udp();
  thalweg_uri_set(uri, "endpoint", "10.0.0.2:40123");
  thalweg_uri_set_int(uri, "mtu", 8192);
  thalweg_uri_set_bool(uri, "reliable", false);
  thalweg_uri_set_duration(uri, "linger", 1500000000);
  thalweg_uri_set(uri, "alias", "x");
  thalweg_uri_clear(uri, "alias");
  CHECK(thalweg_uri_build(uri, channel, sizeof channel) == THALWEG_OK);
  CHECK(strcmp(channel, "aeron:udp?endpoint=10.0.0.2:40123|mtu=8192|reliable=false|linger=1500ms") == 0);
  CHECK(thalweg_uri_get(uri, "endpoint", value, sizeof value) == 14 && strcmp(value, "10.0.0.") == 0);
  CHECK(thalweg_uri_get(uri, "alias", value, sizeof value) == 0 && value[0] == '\0');
  CHECK(thalweg_uri_build(uri, channel, 10) == THALWEG_ERROR_INVALID_ARGUMENT);
  thalweg_uri_set_int(uri, "session-id", INT64_C(5000000000));
  CHECK(thalweg_uri_build(uri, channel, sizeof channel) == THALWEG_ERROR_INVALID_CHANNEL);
  CHECK(strstr(thalweg_error_text(), "session-id=5000000000 is not a 32-bit number") != NULL);
  thalweg_uri_destroy(uri);
  uri = thalweg_uri_create_ipc();
  thalweg_uri_set_initial_position(uri, 65536 + 64, 5, 65536);
  CHECK(thalweg_uri_build(uri, channel, sizeof channel) == THALWEG_OK);
  CHECK(strcmp(channel, "aeron:ipc?init-term-id=5|term-id=6|term-offset=64|term-length=65536") == 0);
  thalweg_uri_set_int(uri, "term-length", 65537);
  CHECK(thalweg_uri_build(uri, channel, sizeof channel) == THALWEG_ERROR_INVALID_CHANNEL);
  thalweg_uri_destroy(uri);
  CHECK(thalweg_uri_parse("aeron:tcp", &uri) == THALWEG_ERROR_INVALID_CHANNEL && uri == NULL);
  CHECK(thalweg_uri_parse("aeron:udp?tags=7", &uri) == THALWEG_OK);
  thalweg_uri_set(uri, "endpoint", "nowhere");
  CHECK(thalweg_uri_build(uri, channel, sizeof channel) == THALWEG_ERROR_INVALID_CHANNEL);
  thalweg_uri_destroy(uri);
  uri = thalweg_uri_create_spy();
  CHECK(thalweg_uri_build(uri, channel, sizeof channel) == THALWEG_ERROR_INVALID_CHANNEL);
  thalweg_uri_destroy(uri);
  return NULL;
}
