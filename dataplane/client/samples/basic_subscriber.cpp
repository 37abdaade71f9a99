// Prints every message until interrupted: basic_subscriber [channel] [stream id]
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "dataplane/client/thalweg.hpp"

namespace {
volatile std::sig_atomic_t interrupted = 0;
}

int main(int argc, char** argv) {
  std::signal(SIGINT, [](int) { interrupted = 1; });
  const char* channel = argc > 1 ? argv[1] : "aeron:ipc";
  const int stream_id = argc > 2 ? std::atoi(argv[2]) : 1001;

  auto context = thalweg::client::Context::from_environment();
  context.on_available_image = [](const auto& image) {
    std::printf("session %d from %s is here\n", image->session_id(), image->source_identity().c_str());
  };
  context.on_unavailable_image = [](const auto& image) {
    std::printf("session %d is gone at position %lld\n", image->session_id(), static_cast<long long>(image->position()));
  };
  auto client = thalweg::client::Client::connect(std::move(context));
  if (!client) return std::fprintf(stderr, "%s\n", client.error().message.c_str()), 1;
  auto subscription = client->add_subscription(channel, stream_id);
  if (!subscription) return std::fprintf(stderr, "%s\n", subscription.error().message.c_str()), 1;

  thalweg::client::FragmentAssembler print{[](std::span<const std::byte> message, const thalweg::client::Header& header) {
    std::printf("session %d: %.*s\n", header.session_id(), static_cast<int>(message.size()), reinterpret_cast<const char*>(message.data()));
  }};
  while (interrupted == 0 && !subscription->is_closed()) {
    if (subscription->poll(print, 10) == 0) std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return 0;
}
