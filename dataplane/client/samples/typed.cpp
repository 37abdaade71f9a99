// Messages as structs, publisher and subscriber in one program and one thread (invoker mode): typed
#include <cstdio>

#include "dataplane/client/thalweg.hpp"

namespace {
struct Quote {
  std::int64_t instrument;
  std::int64_t bid;
  std::int64_t ask;
};
}  // namespace

int main() {
  using namespace thalweg::client;
  auto context = Context::from_environment();
  context.mode = ConductorMode::kInvoker;
  auto client = Client::connect(std::move(context));
  if (!client) return std::fprintf(stderr, "%s\n", client.error().message.c_str()), 1;
  auto publication = client->add_exclusive_publication("aeron:ipc", 1002);
  auto subscription = client->add_subscription("aeron:ipc", 1002);
  if (!publication || !subscription) return std::fputs("the driver refused\n", stderr), 1;

  TypedPublisher<Quote, ExclusivePublication> quotes{std::move(*publication)};
  TypedSubscriber<Quote> market{std::move(*subscription)};
  int received = 0;
  for (std::int64_t next = 0; received < 10 && !client->is_closed();) {
    client->do_work();
    if (next < 10 && quotes.publish({next, 100 + next, 101 + next})) ++next;
    market.poll(
        [&](const Quote& quote, const Header&) {
          ++received;
          std::printf("instrument %lld: %lld/%lld\n", static_cast<long long>(quote.instrument), static_cast<long long>(quote.bid),
                      static_cast<long long>(quote.ask));
        },
        10);
  }
  return received == 10 ? 0 : 1;
}
