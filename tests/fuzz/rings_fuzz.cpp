// The to-driver ring and the to-clients broadcast buffer while somebody scribbles over them.
#include "dataplane/shm/broadcast.hpp"
#include "dataplane/shm/ring_buffer.hpp"
#include "tests/fuzz/input.hpp"

namespace thalweg::fuzz {
namespace {
constexpr std::size_t kData = 1024;

void drive_ring(Input& in) {
  const GuardedMemory memory{kData + shm::kRingTrailerLength};
  shm::ManyToOneRing ring{memory.bytes()};
  while (!in.is_empty()) {
    switch (in.choice(5)) {
      case 0: ring.write(in.take<std::int16_t>(), in.short_slice()); break;
      case 1: {
        const int limit = in.byte();
        const bool takes_all = in.flag();
        int left = 3;
        const int read = ring.read(
            [&](std::int32_t, Bytes body) {
              require(body.size() <= kData, "a message lies in the ring");
              require(body.empty() || (body.data() >= memory.data() && body.data() + body.size() <= memory.data() + kData), "a message lies in the data");
              return takes_all || --left > 0;
            },
            limit);
        require(read >= 0 && read <= limit, "no more messages than asked for");
        break;
      }
      case 2: static_cast<void>(ring.unblock()); break;
      case 3: scribble(in, memory.bytes()); break;
      default:
        static_cast<void>(ring.next_correlation_id());
        static_cast<void>(ring.producer_position());
        static_cast<void>(ring.consumer_heartbeat());
        break;
    }
  }
}

void drive_broadcast(Input& in) {
  const GuardedMemory memory{kData + shm::kBroadcastTrailerLength};
  shm::BroadcastTransmitter transmitter{memory.bytes()};
  shm::BroadcastReceiver receiver{memory.bytes()};
  while (!in.is_empty()) {
    switch (in.choice(3)) {
      case 0: transmitter.transmit(in.take<std::int16_t>(), in.short_slice()); break;
      case 1: {
        std::int32_t type_id = 0;
        Bytes body;
        if (receiver.receive(type_id, body)) require(body.size() <= transmitter.max_message_length() && (body.empty() || body.data() != nullptr), "a message is no longer than allowed");
        break;
      }
      default: scribble(in, memory.bytes()); break;
    }
  }
}
}  // namespace

void run(Bytes input) {
  Input in{input};
  if (in.flag()) {
    drive_ring(in);
  } else {
    drive_broadcast(in);
  }
  // Lengths come from cnc.dat.
  const auto length = static_cast<std::size_t>(in.take<std::uint32_t>());
  static_cast<void>(shm::ManyToOneRing::is_valid_length(length));
  static_cast<void>(shm::BroadcastTransmitter::is_valid_length(length));
}

}  // namespace thalweg::fuzz
