// Publishes one line per second until interrupted: basic_publisher [channel] [stream id]
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "dataplane/client/thalweg.hpp"

namespace {
volatile std::sig_atomic_t interrupted = 0;
}

int main(int argc, char** argv) {
  std::signal(SIGINT, [](int) { interrupted = 1; });
  const char* channel = argc > 1 ? argv[1] : "aeron:ipc";
  const int stream_id = argc > 2 ? std::atoi(argv[2]) : 1001;

  auto client = thalweg::client::Client::connect(thalweg::client::Context::from_environment());
  if (!client) return std::fprintf(stderr, "%s\n", client.error().message.c_str()), 1;
  auto publication = client->add_publication(channel, stream_id);
  if (!publication) return std::fprintf(stderr, "%s\n", publication.error().message.c_str()), 1;

  for (int i = 0; interrupted == 0; ++i) {
    const std::string text = "message " + std::to_string(i);
    const auto result = publication->offer(std::as_bytes(std::span{text}));
    std::printf("%s: %s\n", text.c_str(), to_string(result.status()));
    if (!result && !result.is_retryable()) return 1;
    std::this_thread::sleep_for(std::chrono::seconds{1});
  }
  return 0;
}
