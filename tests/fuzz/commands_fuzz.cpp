// Commands of clients and answers of drivers: first byte the kind, the rest the message. What decodes must survive being encoded again.
#include "dataplane/shm/commands.hpp"

#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
using namespace shm;

template <typename Message>
void try_one(Bytes body) {
  const std::optional<Message> message = decode<Message>(body);
  if (!message) return;
  Buffer first;
  encode(first, *message);
  const GuardedMemory guarded{first};
  const std::optional<Message> again = decode<Message>(guarded.bytes());
  require(again.has_value(), "what we encode decodes");
  Buffer second;
  encode(second, *again);
  require(first == second, "encoding is stable");
}
using Try = void (*)(Bytes);
constexpr Try kTries[] = {
    try_one<AddPublication>, try_one<RemovePublication>, try_one<AddSubscription>, try_one<RemoveRegistration>, try_one<DestinationCommand>,
    try_one<RemoveDestinationById>, try_one<AddCounter>, try_one<AddStaticCounter>, try_one<ClientCommand>, try_one<TerminateDriver>,
    try_one<RejectImage>, try_one<GetNextAvailableSessionId>, try_one<OnError>, try_one<OnPublicationReady>, try_one<OnSubscriptionReady>,
    try_one<OnAvailableImage>, try_one<OnUnavailableImage>, try_one<OnOperationSuccess>, try_one<OnCounter>, try_one<OnClientTimeout>,
    try_one<OnNextAvailableSessionId>, try_one<OnPublicationError>};
}  // namespace

void run(Bytes input) {
  Input in{input};
  const unsigned kind = in.choice(std::size(kTries));
  const GuardedMemory body{in.rest()};
  static_cast<void>(decode<CommandHeader>(body.bytes()));
  kTries[kind](body.bytes());
}

}  // namespace thalweg::fuzz
