// Reads a recorded stream from its first message on, out of the archive and then live, and prints each message as a line.
//   sample_persistent_subscriber RECORDING LIVE_CHANNEL LIVE_STREAM REPLAY_CHANNEL REPLAY_STREAM [COUNT]
// RECORDING: its number, as `thalweg archive list` shows it. Ends after COUNT messages.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "dataplane/client/thalweg.hpp"

using namespace thalweg::client;

namespace {
int fail_with(const char* what, const thalweg::Error& error) {
  std::fprintf(stderr, "%s: %s\n", what, error.message.c_str());
  return 1;
}
}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fprintf(stderr, "usage: %s RECORDING LIVE_CHANNEL LIVE_STREAM REPLAY_CHANNEL REPLAY_STREAM [COUNT]\n", argv[0]);
    return 2;
  }
  auto client = Client::connect(Context::from_environment());
  if (!client) return fail_with("connect", client.error());
  auto archive = ArchiveClient::connect(*client, {});
  if (!archive) return fail_with("archive", archive.error());

  PersistentSubscription::Options options;
  options.recording = std::atoll(argv[1]);
  options.live_channel = argv[2];
  options.live_stream = std::atoi(argv[3]);
  options.replay_channel = argv[4];
  options.replay_stream = std::atoi(argv[5]);
  options.on_live_joined = [](std::int64_t position) { std::fprintf(stderr, "live from %lld on\n", static_cast<long long>(position)); };
  options.on_live_left = [](std::int64_t position) { std::fprintf(stderr, "live until %lld\n", static_cast<long long>(position)); };
  options.on_error = [](const thalweg::Error& error) { std::fprintf(stderr, "%s\n", error.message.c_str()); };
  auto stream = PersistentSubscription::create(*archive, options);
  if (!stream) return fail_with("subscribe", stream.error());

  const long long count_max = argc > 6 ? std::atoll(argv[6]) : -1;
  long long count = 0;
  while (!stream->is_over() && count != count_max) {
    const int messages = stream->poll(
        [&](std::span<const std::byte> message, const Header&) {
          if (count == count_max) return;
          ++count;
          std::fwrite(message.data(), 1, message.size(), stdout);
          std::fputc('\n', stdout);
        },
        100);
    if (messages == 0) std::this_thread::sleep_for(std::chrono::microseconds{100});
  }
  if (stream->failure()) return fail_with("stream", *stream->failure());
  return 0;
}
