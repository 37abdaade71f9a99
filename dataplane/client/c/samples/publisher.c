/* Publishes one line per second until interrupted: publisher [channel] [stream id] */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dataplane/client/c/thalweg.h" /* installed: <thalweg/thalweg.h> */

static volatile sig_atomic_t interrupted = 0;
static void on_signal(int number) { interrupted = number; }

int main(int argc, char **argv) {
  const char *channel = argc > 1 ? argv[1] : "aeron:ipc";
  const int stream_id = argc > 2 ? atoi(argv[2]) : 1001;
  thalweg_client_t *client = NULL;
  thalweg_publication_t *publication = NULL;
  int status = 1;
  signal(SIGINT, on_signal);
  if (thalweg_connect(NULL, &client) != THALWEG_OK || thalweg_add_publication(client, channel, stream_id, &publication) != THALWEG_OK) {
    fprintf(stderr, "%s\n", thalweg_error_text());
    goto end;
  }
  for (int i = 0; !interrupted; ++i) {
    char text[64];
    snprintf(text, sizeof text, "message %d", i);
    const int64_t result = thalweg_publication_offer(publication, text, strlen(text), 0);
    printf("%s: %s\n", text, thalweg_offer_text(result));
    if (result <= THALWEG_CLOSED) goto end;
    sleep(1);
  }
  status = 0;
end:
  thalweg_publication_destroy(publication);
  thalweg_client_destroy(client);
  return status;
}
