/* Prints every message until interrupted: subscriber [channel] [stream id] */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dataplane/client/c/thalweg.h" /* installed: <thalweg/thalweg.h> */

static volatile sig_atomic_t interrupted = 0;
static void on_signal(int number) { interrupted = number; }

static void on_image(void *clientd, thalweg_image_t *image) {
  printf("session %" PRId32 " from %s is %s at position %" PRId64 "\n", thalweg_image_session_id(image), thalweg_image_source_identity(image), (const char *)clientd,
         thalweg_image_position(image));
}

static void on_message(void *clientd, const uint8_t *data, size_t length, const thalweg_header_t *header) {
  thalweg_header_values_t values;
  (void)clientd;
  thalweg_header_read(header, &values);
  printf("session %" PRId32 ": %.*s\n", values.session_id, (int)length, (const char *)data);
}

int main(int argc, char **argv) {
  static char here[] = "here", gone[] = "gone";
  const char *channel = argc > 1 ? argv[1] : "aeron:ipc";
  const int stream_id = argc > 2 ? atoi(argv[2]) : 1001;
  thalweg_client_t *client = NULL;
  thalweg_subscription_t *subscription = NULL;
  thalweg_assembler_t *assembler = thalweg_assembler_create(on_message, NULL);
  int status = 1;
  signal(SIGINT, on_signal);
  if (thalweg_connect(NULL, &client) != THALWEG_OK ||
      thalweg_add_subscription(client, channel, stream_id, on_image, here, on_image, gone, &subscription) != THALWEG_OK) {
    fprintf(stderr, "%s\n", thalweg_error_text());
    goto end;
  }
  while (!interrupted && !thalweg_subscription_is_closed(subscription)) {
    const struct timespec pause = {0, 1000000};
    if (thalweg_subscription_poll(subscription, thalweg_assembler_on_fragment, assembler, 10) == 0) nanosleep(&pause, NULL);
  }
  status = 0;
end:
  thalweg_subscription_destroy(subscription);
  thalweg_client_destroy(client);
  thalweg_assembler_destroy(assembler);
  return status;
}
