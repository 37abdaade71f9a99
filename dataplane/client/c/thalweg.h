/* libthalweg for C11: the client of Thalweg and of stock Aeron media drivers. Installed as <thalweg/thalweg.h>; link with -lthalweg.
 *
 * Handles are opaque. Who gets one from a function named ..._create, ..._add_..., ..._find_..., ..._open or ..._retain gives it back with the function that
 * its comment names. Functions that can fail answer a thalweg_error_t, THALWEG_OK being 0; what went wrong is told in words by thalweg_error_text(), in
 * the thread that failed. No exception leaves the library, and none may enter it from a handler; out of memory ends the process. Strings are UTF-8 and end with a NUL where no length stands
 * beside them; times are nanoseconds unless the name says ms; positions and lengths are bytes. Handlers get back the `clientd` they were given with, run on
 * the thread that turns the client's conductor, and must not call functions that wait. "Any thread" unless a comment says otherwise.
 */
#ifndef THALWEG_H
#define THALWEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define THALWEG_API __attribute__((visibility("default")))
#else
#define THALWEG_API
#endif

#ifdef __cplusplus
#define THALWEG_NOEXCEPT noexcept
extern "C" {
#else
#define THALWEG_NOEXCEPT
#endif

/* ---- errors ---------------------------------------------------------------------------------------------------------------------------- */

/* Values never change meaning. From 102 to 119: 100 + the code that the driver sent. */
typedef enum thalweg_error {
  THALWEG_OK = 0,
  THALWEG_ERROR_GENERIC = 1,
  THALWEG_ERROR_INVALID_ARGUMENT = 2,
  THALWEG_ERROR_NOT_FOUND = 3,
  THALWEG_ERROR_UNREACHABLE = 4, /* no driver, or it does not answer */
  THALWEG_ERROR_TIMEOUT = 5,
  THALWEG_ERROR_IN_USE = 6, /* being closed: try again */
  THALWEG_ERROR_NO_SPACE = 7,
  THALWEG_ERROR_PERMISSION = 8,
  THALWEG_ERROR_UNSUPPORTED = 9,
  THALWEG_ERROR_INVALID_CHANNEL = 11,
  THALWEG_ERROR_UNKNOWN_HOST = 12,
  THALWEG_ERROR_IO = 13,
  THALWEG_ERROR_VERSION = 14,
  THALWEG_ERROR_CLOSED = 15,
  THALWEG_ERROR_UNKNOWN_SUBSCRIPTION = 102,
  THALWEG_ERROR_UNKNOWN_PUBLICATION = 103,
  THALWEG_ERROR_CHANNEL_ENDPOINT = 104,
  THALWEG_ERROR_UNKNOWN_COUNTER = 105,
  THALWEG_ERROR_MALFORMED_COMMAND = 107,
  THALWEG_ERROR_IMAGE_REJECTED = 113,
  THALWEG_ERROR_PUBLICATION_REVOKED = 114,
  THALWEG_ERROR_CLIENT_TIMEOUT = 120, /* the driver gave this client up */
  THALWEG_ERROR_SERVICE_TIMEOUT = 121 /* thalweg_client_do_work() was not called for too long */
} thalweg_error_t;

/* Of the calling thread's last function that failed; valid until its next one that does. Never null. */
THALWEG_API thalweg_error_t thalweg_error_code(void) THALWEG_NOEXCEPT;
THALWEG_API const char *thalweg_error_text(void) THALWEG_NOEXCEPT;
THALWEG_API const char *thalweg_error_hint(void) THALWEG_NOEXCEPT; /* what to do about it; may be empty */
/* "0.1.0": of the library that runs, not of this header. */
THALWEG_API const char *thalweg_version(void) THALWEG_NOEXCEPT;

/* ---- types ----------------------------------------------------------------------------------------------------------------------------- */

typedef struct thalweg_context thalweg_context_t;
typedef struct thalweg_client thalweg_client_t;
typedef struct thalweg_publication thalweg_publication_t;
typedef struct thalweg_subscription thalweg_subscription_t;
typedef struct thalweg_image thalweg_image_t;
typedef struct thalweg_counter thalweg_counter_t;
typedef struct thalweg_counters thalweg_counters_t;
typedef struct thalweg_header thalweg_header_t;
typedef struct thalweg_assembler thalweg_assembler_t;
typedef struct thalweg_controlled_assembler thalweg_controlled_assembler_t;
typedef struct thalweg_cnc thalweg_cnc_t;
typedef struct thalweg_uri thalweg_uri_t;
typedef struct thalweg_archive thalweg_archive_t;
typedef struct thalweg_persistent_subscription thalweg_persistent_subscription_t;

/* What an offer or a claim answers when it took nothing; a position above 0 when it did. */
enum {
  THALWEG_NOT_CONNECTED = -1,         /* nobody subscribes; try again later */
  THALWEG_BACK_PRESSURED = -2,        /* try again */
  THALWEG_ADMIN_ACTION = -3,          /* try again at once */
  THALWEG_CLOSED = -4,                /* final */
  THALWEG_MAX_POSITION_EXCEEDED = -5, /* final */
  THALWEG_MESSAGE_TOO_LONG = -6,      /* final for this message */
  THALWEG_INVALID_BLOCK = -7          /* final for this block */
};
/* "back pressured" and the like; "accepted" for a position. Never null. */
THALWEG_API const char *thalweg_offer_text(int64_t result) THALWEG_NOEXCEPT;

typedef enum thalweg_channel_status {
  THALWEG_CHANNEL_ERRORED = -1,
  THALWEG_CHANNEL_INITIALIZING = 0,
  THALWEG_CHANNEL_ACTIVE = 1,
  THALWEG_CHANNEL_CLOSING = 2,
  THALWEG_CHANNEL_NONE = 3 /* IPC and spies have none */
} thalweg_channel_status_t;

typedef enum thalweg_close_reason {
  THALWEG_CLOSE_OPEN = 0, /* it is not closed */
  THALWEG_CLOSE_APPLICATION = 1,
  THALWEG_CLOSE_DRIVER_SHUT_DOWN = 2,
  THALWEG_CLOSE_DRIVER_TIMEOUT = 3,
  THALWEG_CLOSE_CLIENT_TIMEOUT = 4,
  THALWEG_CLOSE_SERVICE_TIMEOUT = 5
} thalweg_close_reason_t;

/* What a controlled handler wants to happen next. */
typedef enum thalweg_action {
  THALWEG_CONTINUE = 0, /* go on; the position moves when the poll ends */
  THALWEG_COMMIT = 1,   /* go on, and publish the position behind this fragment now */
  THALWEG_BREAK = 2,    /* stop behind this fragment */
  THALWEG_ABORT = 3     /* stop before this fragment: it is delivered again */
} thalweg_action_t;

typedef struct thalweg_header_values {
  int64_t position; /* behind this fragment */
  int64_t reserved_value;
  int32_t session_id;
  int32_t stream_id;
  int32_t term_id;
  int32_t term_offset;
  uint8_t flags; /* 0x80 first fragment of a message, 0x40 last */
} thalweg_header_values_t;

typedef struct thalweg_buffer {
  const void *data;
  size_t length;
} thalweg_buffer_t;

/* What a subscriber told the publisher of a stream; valid inside the handler. */
typedef struct thalweg_publication_error {
  int64_t registration_id;             /* original id of the publication */
  int64_t destination_registration_id; /* -1: none */
  int64_t receiver_id;                 /* -1: a subscriber on this driver */
  int64_t group_tag;                   /* if has_group_tag */
  int32_t session_id;
  int32_t stream_id;
  bool has_group_tag;
  thalweg_error_t code;
  const char *source_address; /* "10.0.0.1:40123"; empty: not known */
  const char *text;
} thalweg_publication_error_t;

typedef void (*thalweg_error_handler_t)(void *clientd, thalweg_error_t code, const char *text);
typedef void (*thalweg_publication_error_handler_t)(void *clientd, const thalweg_publication_error_t *error);
/* `image` is valid inside the handler; thalweg_image_retain() keeps it. */
typedef void (*thalweg_image_handler_t)(void *clientd, thalweg_image_t *image);
typedef void (*thalweg_counter_handler_t)(void *clientd, int64_t registration_id, int32_t counter_id);
typedef void (*thalweg_close_handler_t)(void *clientd);
typedef void (*thalweg_idle_handler_t)(void *clientd);
/* `data` and `header` are valid inside the handler. */
typedef void (*thalweg_fragment_handler_t)(void *clientd, const uint8_t *data, size_t length, const thalweg_header_t *header);
typedef thalweg_action_t (*thalweg_controlled_handler_t)(void *clientd, const uint8_t *data, size_t length, const thalweg_header_t *header);
/* Whole frames with their headers. */
typedef void (*thalweg_block_handler_t)(void *clientd, const uint8_t *frames, size_t length, int32_t session_id, int32_t term_id);

THALWEG_API void thalweg_header_read(const thalweg_header_t *header, thalweg_header_values_t *values) THALWEG_NOEXCEPT;

/* ---- context: options of a client. One thread; give back with thalweg_context_destroy(), any time after thalweg_connect() --------------- */

/* Defaults of the field, with AERON_DIR, AERON_CLIENT_NAME, AERON_DRIVER_TIMEOUT (ms), AERON_CLIENT_RESOURCE_LINGER_DURATION,
 * AERON_CLIENT_IDLE_SLEEP_DURATION and AERON_CLIENT_PRE_TOUCH_MAPPED_MEMORY of the environment applied. */
THALWEG_API thalweg_context_t *thalweg_context_create(void) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_destroy(thalweg_context_t *context) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_directory(thalweg_context_t *context, const char *directory) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_client_name(thalweg_context_t *context, const char *name) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_connect_timeout(thalweg_context_t *context, int64_t ns) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_driver_timeout(thalweg_context_t *context, int64_t ns) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_keepalive_interval(thalweg_context_t *context, int64_t ns) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_idle_sleep(thalweg_context_t *context, int64_t ns) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_resource_linger(thalweg_context_t *context, int64_t ns) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_pre_touch(thalweg_context_t *context, bool pre_touch) THALWEG_NOEXCEPT;
/* True: the application turns the conductor with thalweg_client_do_work(), well inside the driver's client liveness timeout. */
THALWEG_API void thalweg_context_set_invoker(thalweg_context_t *context, bool is_invoker) THALWEG_NOEXCEPT;
/* Called in invoker mode while a function waits; without one it sleeps for a millisecond. */
THALWEG_API void thalweg_context_set_idle(thalweg_context_t *context, thalweg_idle_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_on_error(thalweg_context_t *context, thalweg_error_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_on_publication_error(thalweg_context_t *context, thalweg_publication_error_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_on_available_image(thalweg_context_t *context, thalweg_image_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_on_unavailable_image(thalweg_context_t *context, thalweg_image_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_on_available_counter(thalweg_context_t *context, thalweg_counter_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_on_unavailable_counter(thalweg_context_t *context, thalweg_counter_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_context_set_on_close(thalweg_context_t *context, thalweg_close_handler_t handler, void *clientd) THALWEG_NOEXCEPT;

/* ---- client ---------------------------------------------------------------------------------------------------------------------------- */

/* Waits for a live driver. A null context means the defaults. Errors: unreachable, version, permission, invalid argument. */
THALWEG_API thalweg_error_t thalweg_connect(const thalweg_context_t *context, thalweg_client_t **client) THALWEG_NOEXCEPT;
/* Tells the driver and closes every resource; handles stay valid and answer "closed" until they are given back. Idempotent. */
THALWEG_API void thalweg_client_close(thalweg_client_t *client) THALWEG_NOEXCEPT;
/* Closes and gives back. Not from a handler. */
THALWEG_API void thalweg_client_destroy(thalweg_client_t *client) THALWEG_NOEXCEPT;
/* Invoker mode: one turn; the work done, 0 for none. */
THALWEG_API int thalweg_client_do_work(thalweg_client_t *client) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_client_is_closed(const thalweg_client_t *client) THALWEG_NOEXCEPT;
THALWEG_API thalweg_close_reason_t thalweg_client_close_reason(const thalweg_client_t *client) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_client_id(const thalweg_client_t *client) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_client_driver_pid(const thalweg_client_t *client) THALWEG_NOEXCEPT;
THALWEG_API const char *thalweg_client_directory(const thalweg_client_t *client) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_client_next_correlation_id(thalweg_client_t *client) THALWEG_NOEXCEPT;
/* Valid as long as the client. */
THALWEG_API const thalweg_counters_t *thalweg_client_counters(const thalweg_client_t *client) THALWEG_NOEXCEPT;

/* Handlers beside those of the context. The answer names the handler; 0: the client is closed. Once removed, a handler is not running any more. */
THALWEG_API int64_t thalweg_client_add_available_counter_handler(thalweg_client_t *client, thalweg_counter_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_client_add_unavailable_counter_handler(thalweg_client_t *client, thalweg_counter_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_client_add_close_handler(thalweg_client_t *client, thalweg_close_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_client_remove_handler(thalweg_client_t *client, int64_t handler_id) THALWEG_NOEXCEPT;

/* The thalweg_add_... functions wait for the driver's answer. The thalweg_async_... functions do not: they answer an id, to be asked about with the
 * thalweg_find_... function of the kind, which answers THALWEG_OK and a null handle (or false) while the answer is out, and the outcome once. */
THALWEG_API thalweg_error_t thalweg_add_publication(thalweg_client_t *client, const char *channel, int32_t stream_id, thalweg_publication_t **publication) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_add_exclusive_publication(thalweg_client_t *client, const char *channel, int32_t stream_id,
                                                              thalweg_publication_t **publication) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_async_add_publication(thalweg_client_t *client, const char *channel, int32_t stream_id, int64_t *id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_async_add_exclusive_publication(thalweg_client_t *client, const char *channel, int32_t stream_id, int64_t *id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_find_publication(thalweg_client_t *client, int64_t id, thalweg_publication_t **publication) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_find_exclusive_publication(thalweg_client_t *client, int64_t id, thalweg_publication_t **publication) THALWEG_NOEXCEPT;
/* Handlers may be null: those of the context are called then. */
THALWEG_API thalweg_error_t thalweg_add_subscription(thalweg_client_t *client, const char *channel, int32_t stream_id, thalweg_image_handler_t on_available,
                                                     void *available_clientd, thalweg_image_handler_t on_unavailable, void *unavailable_clientd,
                                                     thalweg_subscription_t **subscription) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_async_add_subscription(thalweg_client_t *client, const char *channel, int32_t stream_id, thalweg_image_handler_t on_available,
                                                           void *available_clientd, thalweg_image_handler_t on_unavailable, void *unavailable_clientd,
                                                           int64_t *id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_find_subscription(thalweg_client_t *client, int64_t id, thalweg_subscription_t **subscription) THALWEG_NOEXCEPT;
/* Key at most 112 bytes, label at most 380. */
THALWEG_API thalweg_error_t thalweg_add_counter(thalweg_client_t *client, int32_t type_id, const void *key, size_t key_length, const char *label,
                                                thalweg_counter_t **counter) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_async_add_counter(thalweg_client_t *client, int32_t type_id, const void *key, size_t key_length, const char *label, int64_t *id) THALWEG_NOEXCEPT;
/* One that stays as long as the driver; who asks for one that is there gets that. */
THALWEG_API thalweg_error_t thalweg_add_static_counter(thalweg_client_t *client, int32_t type_id, int64_t registration_id, const void *key, size_t key_length,
                                                       const char *label, thalweg_counter_t **counter) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_async_add_static_counter(thalweg_client_t *client, int32_t type_id, int64_t registration_id, const void *key,
                                                             size_t key_length, const char *label, int64_t *id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_find_counter(thalweg_client_t *client, int64_t id, thalweg_counter_t **counter) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_next_available_session_id(thalweg_client_t *client, int32_t stream_id, int32_t *session_id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_async_next_available_session_id(thalweg_client_t *client, int32_t stream_id, int64_t *id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_find_next_available_session_id(thalweg_client_t *client, int64_t id, bool *is_there, int32_t *session_id) THALWEG_NOEXCEPT;

/* Destinations of control-mode=manual publications and subscriptions, known by the id they were added with and by their channel. `id` may be null where
 * a function waits. thalweg_is_done() asks about the asynchronous ones. */
THALWEG_API thalweg_error_t thalweg_publication_add_destination(thalweg_client_t *client, thalweg_publication_t *publication, const char *channel, int64_t *id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_publication_remove_destination(thalweg_client_t *client, thalweg_publication_t *publication, const char *channel) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_publication_remove_destination_by_id(thalweg_client_t *client, thalweg_publication_t *publication, int64_t destination) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_publication_async_add_destination(thalweg_client_t *client, thalweg_publication_t *publication, const char *channel, int64_t *id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_publication_async_remove_destination(thalweg_client_t *client, thalweg_publication_t *publication, const char *channel,
                                                                         int64_t *id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_publication_async_remove_destination_by_id(thalweg_client_t *client, thalweg_publication_t *publication, int64_t destination,
                                                                               int64_t *id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_subscription_add_destination(thalweg_client_t *client, thalweg_subscription_t *subscription, const char *channel, int64_t *id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_subscription_remove_destination(thalweg_client_t *client, thalweg_subscription_t *subscription, const char *channel) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_subscription_remove_destination_by_id(thalweg_client_t *client, thalweg_subscription_t *subscription, int64_t destination) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_subscription_async_add_destination(thalweg_client_t *client, thalweg_subscription_t *subscription, const char *channel,
                                                                       int64_t *id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_subscription_async_remove_destination(thalweg_client_t *client, thalweg_subscription_t *subscription, const char *channel,
                                                                          int64_t *id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_subscription_async_remove_destination_by_id(thalweg_client_t *client, thalweg_subscription_t *subscription,
                                                                                int64_t destination, int64_t *id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_is_done(thalweg_client_t *client, int64_t id, bool *is_done) THALWEG_NOEXCEPT;

/* ---- publications, shared and exclusive. Offers and claims: any thread for a shared one, one thread for an exclusive one ---------------- */

/* Closes and gives back; null is allowed. Not while another thread uses it. */
THALWEG_API void thalweg_publication_destroy(thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_publication_close(thalweg_publication_t *publication) THALWEG_NOEXCEPT;
/* Closes it, and subscribers drop the stream at once instead of draining it. */
THALWEG_API void thalweg_publication_revoke(thalweg_publication_t *publication) THALWEG_NOEXCEPT;
/* The position behind the message, or THALWEG_NOT_CONNECTED and so on. The second form sends several pieces as one message. */
THALWEG_API int64_t thalweg_publication_offer(thalweg_publication_t *publication, const void *data, size_t length, int64_t reserved_value) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_publication_offer_parts(thalweg_publication_t *publication, const thalweg_buffer_t *parts, size_t count, int64_t reserved_value) THALWEG_NOEXCEPT;
/* Appends whole frames with their headers, as a block handler gets them; session, stream, term id and offset become those of this publication. Of padding at the
 * end the header is enough. Exclusive publications only; THALWEG_INVALID_BLOCK for any other, and for what is no run of whole frames. */
THALWEG_API int64_t thalweg_publication_offer_block(thalweg_publication_t *publication, const void *frames, size_t length) THALWEG_NOEXCEPT;
/* Room for one message inside the log, to be written in place and then committed or aborted: a forgotten one holds the whole stream. */
typedef struct thalweg_claim {
  uint8_t *data;
  size_t length;
} thalweg_claim_t;
THALWEG_API int64_t thalweg_publication_try_claim(thalweg_publication_t *publication, size_t length, thalweg_claim_t *claim) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_claim_set_reserved_value(thalweg_claim_t *claim, int64_t value) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_claim_commit(thalweg_claim_t *claim) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_claim_abort(thalweg_claim_t *claim) THALWEG_NOEXCEPT;

THALWEG_API bool thalweg_publication_is_exclusive(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_publication_is_connected(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_publication_is_closed(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_publication_is_original(const thalweg_publication_t *publication) THALWEG_NOEXCEPT; /* false: it shares what was there */
THALWEG_API const char *thalweg_publication_channel(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_publication_stream_id(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_publication_session_id(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_publication_registration_id(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_publication_original_registration_id(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_publication_initial_term_id(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_publication_term_length(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_publication_max_payload_length(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_publication_max_message_length(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_publication_max_position(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_publication_position(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;       /* 0 when closed */
THALWEG_API int64_t thalweg_publication_position_limit(const thalweg_publication_t *publication) THALWEG_NOEXCEPT; /* 0 when closed */
THALWEG_API int32_t thalweg_publication_position_limit_id(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
/* Bytes that may be written before back pressure; 0 or less when there is some, or when closed. */
THALWEG_API int64_t thalweg_publication_available_window(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_publication_channel_status_id(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
THALWEG_API thalweg_channel_status_t thalweg_publication_channel_status(const thalweg_publication_t *publication) THALWEG_NOEXCEPT;
/* The i-th address it sends from, cut to `capacity` with its NUL; the length of the whole, 0: there is no such. */
THALWEG_API size_t thalweg_publication_local_address(const thalweg_publication_t *publication, size_t index, char *buffer, size_t capacity) THALWEG_NOEXCEPT;

/* ---- subscriptions. Polls: one thread -------------------------------------------------------------------------------------------------- */

THALWEG_API void thalweg_subscription_destroy(thalweg_subscription_t *subscription) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_subscription_close(thalweg_subscription_t *subscription) THALWEG_NOEXCEPT;
/* Fragments from all images, at most `limit`; how many there were. */
THALWEG_API int thalweg_subscription_poll(thalweg_subscription_t *subscription, thalweg_fragment_handler_t handler, void *clientd, int limit) THALWEG_NOEXCEPT;
THALWEG_API int thalweg_subscription_controlled_poll(thalweg_subscription_t *subscription, thalweg_controlled_handler_t handler, void *clientd, int limit) THALWEG_NOEXCEPT;
/* One block of whole frames per image; bytes consumed. */
THALWEG_API int64_t thalweg_subscription_block_poll(thalweg_subscription_t *subscription, thalweg_block_handler_t handler, void *clientd, int32_t length_limit) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_subscription_is_connected(thalweg_subscription_t *subscription) THALWEG_NOEXCEPT; /* polling thread */
THALWEG_API bool thalweg_subscription_is_closed(const thalweg_subscription_t *subscription) THALWEG_NOEXCEPT;
THALWEG_API const char *thalweg_subscription_channel(const thalweg_subscription_t *subscription) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_subscription_stream_id(const thalweg_subscription_t *subscription) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_subscription_registration_id(const thalweg_subscription_t *subscription) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_subscription_channel_status_id(const thalweg_subscription_t *subscription) THALWEG_NOEXCEPT;
THALWEG_API thalweg_channel_status_t thalweg_subscription_channel_status(const thalweg_subscription_t *subscription) THALWEG_NOEXCEPT;
THALWEG_API size_t thalweg_subscription_local_address(const thalweg_subscription_t *subscription, size_t index, char *buffer, size_t capacity) THALWEG_NOEXCEPT;
/* The channel with the port that `endpoint=host:0` has become, cut to `capacity` with its NUL; the length of the whole, 0: not known yet. */
THALWEG_API size_t thalweg_subscription_try_resolve_channel_endpoint_port(const thalweg_subscription_t *subscription, char *buffer, size_t capacity) THALWEG_NOEXCEPT;
/* Handles for up to `capacity` images, each to be released; how many images there are. */
THALWEG_API size_t thalweg_subscription_images(const thalweg_subscription_t *subscription, thalweg_image_t **images, size_t capacity) THALWEG_NOEXCEPT;
/* To be released; null: there is none. */
THALWEG_API thalweg_image_t *thalweg_subscription_image_by_session(const thalweg_subscription_t *subscription, int32_t session_id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_image_t *thalweg_subscription_image_by_correlation_id(const thalweg_subscription_t *subscription, int64_t correlation_id) THALWEG_NOEXCEPT;

/* ---- images. Polls, peeks and set_position: the thread that polls the subscription ------------------------------------------------------ */

THALWEG_API thalweg_image_t *thalweg_image_retain(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_image_release(thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API int thalweg_image_poll(thalweg_image_t *image, thalweg_fragment_handler_t handler, void *clientd, int limit) THALWEG_NOEXCEPT;
THALWEG_API int thalweg_image_bounded_poll(thalweg_image_t *image, thalweg_fragment_handler_t handler, void *clientd, int64_t limit_position, int limit) THALWEG_NOEXCEPT;
THALWEG_API int thalweg_image_controlled_poll(thalweg_image_t *image, thalweg_controlled_handler_t handler, void *clientd, int limit) THALWEG_NOEXCEPT;
THALWEG_API int thalweg_image_bounded_controlled_poll(thalweg_image_t *image, thalweg_controlled_handler_t handler, void *clientd, int64_t limit_position, int limit) THALWEG_NOEXCEPT;
/* Looks ahead from `from` without consuming; where the next peek may begin. */
THALWEG_API int64_t thalweg_image_controlled_peek(thalweg_image_t *image, int64_t from, thalweg_controlled_handler_t handler, void *clientd, int64_t limit_position) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_image_block_poll(thalweg_image_t *image, thalweg_block_handler_t handler, void *clientd, int32_t length_limit) THALWEG_NOEXCEPT;
/* Consumes up to `position` unread, within the term. */
THALWEG_API thalweg_error_t thalweg_image_set_position(thalweg_image_t *image, int64_t position) THALWEG_NOEXCEPT;
/* Stops receiving; the publisher hears the reason, of at most 1023 bytes. What the driver has against it goes to on_error. */
THALWEG_API thalweg_error_t thalweg_image_reject(thalweg_image_t *image, const char *reason) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_image_correlation_id(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_image_subscription_registration_id(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_image_session_id(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_image_stream_id(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API const char *thalweg_image_source_identity(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_image_initial_term_id(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_image_term_length(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_image_max_message_length(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_image_subscriber_position_id(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_image_join_position(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_image_position(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_image_end_of_stream_position(const thalweg_image_t *image) THALWEG_NOEXCEPT; /* INT64_MAX until the publisher closed it */
THALWEG_API int32_t thalweg_image_active_transport_count(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_image_is_closed(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_image_is_end_of_stream(const thalweg_image_t *image) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_image_is_revoked(const thalweg_image_t *image) THALWEG_NOEXCEPT;

/* Assemblers hand whole messages to `handler`. Give thalweg_assembler_on_fragment as handler and the assembler as clientd to any poll. One thread. */
THALWEG_API thalweg_assembler_t *thalweg_assembler_create(thalweg_fragment_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_assembler_destroy(thalweg_assembler_t *assembler) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_assembler_on_fragment(void *assembler, const uint8_t *data, size_t length, const thalweg_header_t *header) THALWEG_NOEXCEPT;
THALWEG_API thalweg_controlled_assembler_t *thalweg_controlled_assembler_create(thalweg_controlled_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_controlled_assembler_destroy(thalweg_controlled_assembler_t *assembler) THALWEG_NOEXCEPT;
THALWEG_API thalweg_action_t thalweg_controlled_assembler_on_fragment(void *assembler, const uint8_t *data, size_t length, const thalweg_header_t *header) THALWEG_NOEXCEPT;

/* ---- counters -------------------------------------------------------------------------------------------------------------------------- */

/* Gives the counter back to the driver, unless it is static. */
THALWEG_API void thalweg_counter_destroy(thalweg_counter_t *counter) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_counter_close(thalweg_counter_t *counter) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_counter_get(const thalweg_counter_t *counter) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_counter_set(thalweg_counter_t *counter, int64_t value) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_counter_add(thalweg_counter_t *counter, int64_t delta) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_counter_id(const thalweg_counter_t *counter) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_counter_registration_id(const thalweg_counter_t *counter) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_counter_is_closed(const thalweg_counter_t *counter) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_counter_is_static(const thalweg_counter_t *counter) THALWEG_NOEXCEPT;

typedef enum thalweg_counter_state { THALWEG_COUNTER_RECLAIMED = -1, THALWEG_COUNTER_UNUSED = 0, THALWEG_COUNTER_ALLOCATED = 1 } thalweg_counter_state_t;

/* `key` and `label` lie in shared memory and change when the counter is given to somebody else. */
typedef struct thalweg_counter_view {
  int64_t value;
  int64_t registration_id;
  int64_t owner_id;
  int64_t reference_id;
  const uint8_t *key;
  size_t key_length;
  const char *label; /* does not end with a NUL */
  size_t label_length;
  int32_t id;
  int32_t type_id;
} thalweg_counter_view_t;
typedef void (*thalweg_counter_visitor_t)(void *clientd, const thalweg_counter_view_t *view);

THALWEG_API void thalweg_counters_for_each(const thalweg_counters_t *counters, thalweg_counter_visitor_t visitor, void *clientd) THALWEG_NOEXCEPT;
/* False: no such allocated counter. */
THALWEG_API bool thalweg_counters_get(const thalweg_counters_t *counters, int32_t id, thalweg_counter_view_t *view) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_counters_find(const thalweg_counters_t *counters, int32_t type_id, int64_t registration_id, thalweg_counter_view_t *view) THALWEG_NOEXCEPT;
THALWEG_API thalweg_counter_state_t thalweg_counters_state(const thalweg_counters_t *counters, int32_t id) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_counters_value(const thalweg_counters_t *counters, int32_t id) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_counters_capacity(const thalweg_counters_t *counters) THALWEG_NOEXCEPT;

/* ---- a driver from outside ------------------------------------------------------------------------------------------------------------- */

/* Maps cnc.dat and loss-report.dat read-only. `directory` may be null: the default one. */
THALWEG_API thalweg_error_t thalweg_cnc_open(const char *directory, thalweg_cnc_t **cnc) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_cnc_close(thalweg_cnc_t *cnc) THALWEG_NOEXCEPT;
THALWEG_API int32_t thalweg_cnc_version(const thalweg_cnc_t *cnc) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_cnc_pid(const thalweg_cnc_t *cnc) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_cnc_start_ms(const thalweg_cnc_t *cnc) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_cnc_heartbeat_ms(const thalweg_cnc_t *cnc) THALWEG_NOEXCEPT; /* -1 after a clean end */
THALWEG_API bool thalweg_cnc_is_driver_alive(const thalweg_cnc_t *cnc, int64_t timeout_ms) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_cnc_client_liveness_timeout(const thalweg_cnc_t *cnc) THALWEG_NOEXCEPT;
THALWEG_API int64_t thalweg_cnc_command_backlog(const thalweg_cnc_t *cnc) THALWEG_NOEXCEPT; /* bytes */
THALWEG_API const thalweg_counters_t *thalweg_cnc_counters(const thalweg_cnc_t *cnc) THALWEG_NOEXCEPT;
typedef void (*thalweg_error_visitor_t)(void *clientd, int32_t observations, int64_t first_ms, int64_t last_ms, const char *text, size_t text_length);
THALWEG_API void thalweg_cnc_for_each_error(const thalweg_cnc_t *cnc, thalweg_error_visitor_t visitor, void *clientd) THALWEG_NOEXCEPT;
typedef struct thalweg_loss {
  int64_t observations;
  int64_t bytes_lost;
  int64_t first_ms;
  int64_t last_ms;
  const char *channel; /* does not end with a NUL */
  size_t channel_length;
  const char *source; /* does not end with a NUL */
  size_t source_length;
  int32_t session_id;
  int32_t stream_id;
} thalweg_loss_t;
typedef void (*thalweg_loss_visitor_t)(void *clientd, const thalweg_loss_t *loss);
THALWEG_API void thalweg_cnc_for_each_loss(const thalweg_cnc_t *cnc, thalweg_loss_visitor_t visitor, void *clientd) THALWEG_NOEXCEPT;
/* Waits for a driver that is just starting, up to the timeout. */
THALWEG_API thalweg_error_t thalweg_is_driver_active(const char *directory, int64_t timeout_ms, bool *is_active) THALWEG_NOEXCEPT;
/* There is no answer: whether the driver ends is up to its validator. */
THALWEG_API thalweg_error_t thalweg_request_driver_termination(const char *directory, const void *token, size_t token_length) THALWEG_NOEXCEPT;

/* ---- channels -------------------------------------------------------------------------------------------------------------------------- */

THALWEG_API thalweg_uri_t *thalweg_uri_create_udp(void) THALWEG_NOEXCEPT;
THALWEG_API thalweg_uri_t *thalweg_uri_create_ipc(void) THALWEG_NOEXCEPT;
THALWEG_API thalweg_uri_t *thalweg_uri_create_spy(void) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_uri_parse(const char *channel, thalweg_uri_t **uri) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_uri_destroy(thalweg_uri_t *uri) THALWEG_NOEXCEPT;
/* Keys are those of channels: "endpoint", "mtu", "reliable", "linger". Values of known keys are checked; the first mistake is told by thalweg_uri_build(). */
THALWEG_API void thalweg_uri_set(thalweg_uri_t *uri, const char *key, const char *value) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_uri_set_int(thalweg_uri_t *uri, const char *key, int64_t value) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_uri_set_bool(thalweg_uri_t *uri, const char *key, bool value) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_uri_set_duration(thalweg_uri_t *uri, const char *key, int64_t ns) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_uri_clear(thalweg_uri_t *uri, const char *key) THALWEG_NOEXCEPT;
/* Where a stream goes on: init-term-id, term-id, term-offset and term-length at once. */
THALWEG_API void thalweg_uri_set_initial_position(thalweg_uri_t *uri, int64_t position, int32_t initial_term_id, int32_t term_length) THALWEG_NOEXCEPT;
/* The value of a key, cut to `capacity` with its NUL; the length of the whole, 0: it is not there. */
THALWEG_API size_t thalweg_uri_get(const thalweg_uri_t *uri, const char *key, char *buffer, size_t capacity) THALWEG_NOEXCEPT;
/* The channel with its NUL; error invalid argument when `capacity` is too small (4096 never is). */
THALWEG_API thalweg_error_t thalweg_uri_build(const thalweg_uri_t *uri, char *buffer, size_t capacity) THALWEG_NOEXCEPT;

/* ---- the archive of a Thalweg appliance, here or elsewhere. One thread; a handle must not outlive its client ----------------------------- */

#define THALWEG_ABSENT INT64_MIN /* a value that is left out */

typedef struct thalweg_archive_options {
  const char *control_channel; /* where the archive listens */
  int32_t control_stream;
  const char *response_channel; /* where we do; port 0 takes a free one */
  int32_t response_stream;
  int64_t timeout_ns; /* of each function */
} thalweg_archive_options_t;
/* aeron:ipc, stream 10; aeron:ipc, stream 20; 5 s. */
THALWEG_API void thalweg_archive_options_init(thalweg_archive_options_t *options) THALWEG_NOEXCEPT;
/* Null options are those defaults. Errors: unreachable (no archive listens there), timeout, those of the driver. */
THALWEG_API thalweg_error_t thalweg_archive_connect(thalweg_client_t *client, const thalweg_archive_options_t *options, thalweg_archive_t **archive) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_archive_destroy(thalweg_archive_t *archive) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_archive_is_closed(const thalweg_archive_t *archive) THALWEG_NOEXCEPT; /* connect again */

/* Texts are valid inside the handler. */
typedef struct thalweg_recording {
  int64_t id;
  int64_t start_ns;       /* epoch */
  int64_t stop_ns;        /* epoch; 0 while it is active */
  int64_t start_position; /* the lowest one that is there */
  int64_t position;       /* behind the last frame */
  int64_t segment_length; /* bytes */
  int32_t session_id;
  int32_t stream_id;
  int32_t initial_term_id;
  int32_t term_length;
  int32_t mtu_length;
  bool is_active; /* it is being written */
  const char *name;
  const char *channel;
  const char *original_channel;
  const char *source_identity;
} thalweg_recording_t;
typedef void (*thalweg_recording_handler_t)(void *clientd, const thalweg_recording_t *recording);
/* Null pointers take any. */
typedef struct thalweg_recording_filter {
  int64_t min_id;
  const int32_t *stream_id;
  const int32_t *session_id;
  const char *channel_fragment;
  bool is_active; /* only those that are being written */
} thalweg_recording_filter_t;
/* Null: all. At most `count_max`, by id. */
THALWEG_API thalweg_error_t thalweg_archive_list(thalweg_archive_t *archive, const thalweg_recording_filter_t *filter, int64_t count_max, thalweg_recording_handler_t handler,
                                                 void *clientd) THALWEG_NOEXCEPT;
/* The one with the highest id. Error: not found. */
THALWEG_API thalweg_error_t thalweg_archive_find_last(thalweg_archive_t *archive, const thalweg_recording_filter_t *filter, thalweg_recording_handler_t handler,
                                                      void *clientd) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_archive_recording(thalweg_archive_t *archive, int64_t id, thalweg_recording_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
/* Whenever the stream is there, until it is stopped by the number that is answered. */
THALWEG_API thalweg_error_t thalweg_archive_start_recording(thalweg_archive_t *archive, const char *channel, int32_t stream_id, bool is_local, bool drops_when_slow,
                                                            int64_t *number) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_archive_stop_stream(thalweg_archive_t *archive, int64_t number) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_archive_stop_recording(thalweg_archive_t *archive, int64_t id) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_archive_truncate(thalweg_archive_t *archive, int64_t id, int64_t position) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_archive_purge(thalweg_archive_t *archive, int64_t id) THALWEG_NOEXCEPT;

typedef struct thalweg_replay_params {
  int64_t position; /* of the first frame; absent: by time, or the lowest */
  int64_t time_ns;  /* epoch: the first frame recorded then or later */
  int64_t length;   /* bytes; absent: to where the recording ends now */
  int64_t limit_counter; /* id of a counter of the archive's driver: nothing behind its value is sent */
  bool follow;      /* go on as long as the recording is written */
} thalweg_replay_params_t;
THALWEG_API void thalweg_replay_params_init(thalweg_replay_params_t *params) THALWEG_NOEXCEPT; /* all absent */
typedef struct thalweg_replay {
  int64_t id;
  int64_t start_position;
  int64_t stop_position; /* or absent */
  int32_t session_id;    /* what its subscribers see */
} thalweg_replay_t;
/* Into a publication of the archive's driver, which waits for subscribers. */
THALWEG_API thalweg_error_t thalweg_archive_start_replay(thalweg_archive_t *archive, int64_t recording, const thalweg_replay_params_t *params, const char *channel,
                                                         int32_t stream_id, thalweg_replay_t *replay) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_archive_stop_replay(thalweg_archive_t *archive, int64_t replay) THALWEG_NOEXCEPT;

/* Copies a recording of another archive into this one's, frame by frame at the same positions, and compares checksums of both. What breaks is tried again, also after
   the archive was restarted, until it is done or stopped. */
typedef struct thalweg_replication_params {
  int64_t recording;            /* of the source */
  const char *source_channel;   /* where the source's archive listens */
  const char *response_channel; /* where its answers and frames come in at the archive that replicates; port 0 takes a free one */
  int64_t into;                 /* a recording of the same stream that goes on; absent: a new one */
  int64_t stop_position;        /* absent: where the source's recording is when it is first looked at */
  int32_t source_stream;
  bool follow;                  /* go on as long as the source is written */
} thalweg_replication_params_t;
THALWEG_API void thalweg_replication_params_init(thalweg_replication_params_t *params) THALWEG_NOEXCEPT; /* source stream 10, the rest absent */
typedef enum thalweg_replication_state {
  THALWEG_REPLICATION_CONNECTING = 0,
  THALWEG_REPLICATION_REPLICATING = 1,
  THALWEG_REPLICATION_WAITING = 2, /* something broke: it is tried again, `error` says what it was */
  THALWEG_REPLICATION_DONE = 3,
  THALWEG_REPLICATION_STOPPED = 4,
  THALWEG_REPLICATION_FAILED = 5
} thalweg_replication_state_t;
/* Texts are valid inside the handler. */
typedef struct thalweg_replication {
  int64_t id;
  int64_t source_recording;
  int64_t recording;         /* absent: none has begun */
  int64_t position;          /* behind the last frame */
  int64_t verified_position; /* everything below it was compared with the source */
  int64_t source_position;   /* where the source's recording was when it was last looked at */
  int64_t stop_position;     /* or absent */
  const char *source_channel;
  const char *error;
  thalweg_replication_state_t state;
} thalweg_replication_t;
typedef void (*thalweg_replication_handler_t)(void *clientd, const thalweg_replication_t *replication);
THALWEG_API thalweg_error_t thalweg_archive_start_replication(thalweg_archive_t *archive, const thalweg_replication_params_t *params, int64_t *replication) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_archive_stop_replication(thalweg_archive_t *archive, int64_t replication) THALWEG_NOEXCEPT; /* what is there stays */
/* Those that run, and the last ones that ended. */
THALWEG_API thalweg_error_t thalweg_archive_list_replications(thalweg_archive_t *archive, thalweg_replication_handler_t handler, void *clientd) THALWEG_NOEXCEPT;
/* CRC-32C of the whole frames from `from`, at which one begins, up to `to` or 1 MiB further, whichever is less; `end` is where they end. */
THALWEG_API thalweg_error_t thalweg_archive_checksum(thalweg_archive_t *archive, int64_t recording, int64_t from, int64_t to, int64_t *end, uint32_t *crc) THALWEG_NOEXCEPT;

/* A stream out of its recording and then live, without a gap and without a message twice; back to the recording when the live image is lost. */
typedef void (*thalweg_position_handler_t)(void *clientd, int64_t position);
typedef struct thalweg_persistent_options {
  int64_t recording;
  int64_t position; /* where it begins, the end of a message; absent: the lowest */
  const char *live_channel;
  int32_t live_stream;
  const char *replay_channel; /* where replays come in; port 0 takes a free one */
  int32_t replay_stream;
  bool falls_back;
  int64_t join_window; /* bytes; how near live must be before it is subscribed to */
  thalweg_position_handler_t on_live_joined;
  thalweg_position_handler_t on_live_left;
  thalweg_error_handler_t on_error; /* what is tried again */
  void *clientd;
} thalweg_persistent_options_t;
THALWEG_API void thalweg_persistent_options_init(thalweg_persistent_options_t *options) THALWEG_NOEXCEPT;
THALWEG_API thalweg_error_t thalweg_persistent_subscription_create(thalweg_archive_t *archive, const thalweg_persistent_options_t *options,
                                                                   thalweg_persistent_subscription_t **subscription) THALWEG_NOEXCEPT;
THALWEG_API void thalweg_persistent_subscription_destroy(thalweg_persistent_subscription_t *subscription) THALWEG_NOEXCEPT;
/* Whole messages out of at most `fragment_limit` fragments; how many messages. */
THALWEG_API int thalweg_persistent_subscription_poll(thalweg_persistent_subscription_t *subscription, thalweg_fragment_handler_t handler, void *clientd,
                                                     int fragment_limit) THALWEG_NOEXCEPT;
/* Behind the last message that was handed over. */
THALWEG_API int64_t thalweg_persistent_subscription_position(const thalweg_persistent_subscription_t *subscription) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_persistent_subscription_is_live(const thalweg_persistent_subscription_t *subscription) THALWEG_NOEXCEPT;
THALWEG_API bool thalweg_persistent_subscription_is_over(const thalweg_persistent_subscription_t *subscription) THALWEG_NOEXCEPT;
/* Why it is over; THALWEG_OK: because its live stream ended and it does not fall back. */
THALWEG_API thalweg_error_t thalweg_persistent_subscription_failure(const thalweg_persistent_subscription_t *subscription) THALWEG_NOEXCEPT;

#ifdef __cplusplus
}
#endif
#endif
