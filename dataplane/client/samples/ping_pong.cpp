// Round trips over one stream pair: `ping_pong pong` answers, `ping_pong ping [count]` asks and prints the mean.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "dataplane/client/thalweg.hpp"

int main(int argc, char** argv) {
  using namespace thalweg::client;
  using Clock = std::chrono::steady_clock;
  const bool is_ping = argc > 1 && std::string_view{argv[1]} == "ping";
  const int count = argc > 2 ? std::atoi(argv[2]) : 10'000;
  auto client = Client::connect(Context::from_environment());
  if (!client) return std::fprintf(stderr, "%s\n", client.error().message.c_str()), 1;
  auto out = client->add_exclusive_publication("aeron:ipc", is_ping ? 1003 : 1004);
  auto in = client->add_subscription("aeron:ipc", is_ping ? 1004 : 1003);
  if (!out || !in) return std::fputs("the driver refused\n", stderr), 1;

  const auto send = [&](std::span<const std::byte> message) {
    OfferResult result = out->offer(message);
    while (result.is_retryable() && !in->is_closed()) result = out->offer(message);
  };
  if (!is_ping) {
    while (!in->is_closed()) in->poll([&](std::span<const std::byte> message, const Header&) { send(message); }, 10);
    return 0;
  }
  int answered = 0;
  const auto start = Clock::now();
  for (int i = 0; i < count && !in->is_closed(); ++i) {
    send(std::as_bytes(std::span{&i, 1}));
    while (answered == i && !in->is_closed()) answered += in->poll([](std::span<const std::byte>, const Header&) {}, 1);
  }
  const std::chrono::duration<double, std::micro> elapsed = Clock::now() - start;
  std::printf("%d round trips, %.2f us each\n", answered, answered > 0 ? elapsed.count() / answered : 0.0);
  return 0;
}
