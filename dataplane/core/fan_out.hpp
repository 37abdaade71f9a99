#pragma once
#include <vector>

#include "dataplane/core/transmit.hpp"
#include "dataplane/proto/destination_list.hpp"

namespace thalweg::core {

// The destinations of a send endpoint that has no remote address of its own (wire-protocol 5.5). Dynamic ones are learned from status
// messages and forgotten when a receiver is silent; manual ones come and go by command and stand in the registry. Each datagram is handed to
// all of them in one pass over the log, beginning with another one each time.
// Thread: the endpoint's lane; no allocation after construction.
class FanOut {
 public:
  static constexpr std::size_t kDestinationsMax = TxStage::kCapacity;   // one datagram to all of them fits a port's stage
  static constexpr std::int64_t kPatience_ns = 5 * kMillisecond_ns;     // ours: so long all destinations wait for a port that takes nothing
  static constexpr std::size_t kShareBytes = 512;                       // ours: from here on one copy of the payload serves all destinations

  explicit FanOut(bool is_dynamic);
  // Where what is not sent is counted; before anything else.
  void count_in(proto::LaneCounters counters) noexcept { counters_ = counters; }
  // Where the number of destinations is published (client-protocol 5.7, type 18).
  void publish_count_in(shm::Counter counter) noexcept {
    count_ = counter;
    publish_count();
  }

  // A status message of `receiver_id` came from `source` and was not rejected. Matched are receiver id and port, and before anything is known
  // of a manual destination its address and port. `tells_position`: of a stream of ours, which is more than to ask for a SETUP. Dynamic:
  // `make(source)` makes the destination of a receiver not known yet, if there is room for it.
  template <typename Make>
  void hear(std::int64_t receiver_id, const wire::UdpEndpoint& source, bool tells_position, std::int64_t now_ns, Make&& make) noexcept;

  // A manual destination: new, or with another address (5.12). `destination` without a port is one whose name means nothing yet. False: full.
  [[nodiscard]] bool put(shm::DestinationSlot& slot, const Destination& destination) noexcept;
  void remove(const shm::DestinationSlot& slot) noexcept;

  // One datagram to every destination. False: a port has no room for all of its copies, and nobody got one. A port that takes nothing for
  // long loses its copies, so that the others go on. Without destinations it succeeds (5.5).
  // `ids`: what its frames are to carry instead of what they carry; may be null.
  [[nodiscard]] bool send(std::span<const std::byte> payload, const StreamIds* ids, std::int64_t now_ns) noexcept;

  // Whoever sends from `source`, or as `receiver_id` from its port. nullptr: none of the destinations.
  [[nodiscard]] Destination* find(std::int64_t receiver_id, const wire::UdpEndpoint& source) noexcept;
  [[nodiscard]] bool is_dynamic() const noexcept { return is_dynamic_; }
  [[nodiscard]] std::size_t size() const noexcept { return list_.entries().size(); }

 private:
  using List = proto::DestinationList<Destination>;
  struct PortUse {
    LanePort* port{};
    std::size_t copies{};              // of each datagram
  };
  void learn(const Destination& destination, std::int64_t receiver_id, bool tells_position, std::int64_t now_ns) noexcept;
  void expire(std::int64_t now_ns) noexcept;
  void settle() noexcept;
  void publish_count() noexcept;
  [[nodiscard]] bool has_room(std::size_t payload, std::int64_t now_ns) noexcept;
  void send_to(Destination& destination, std::span<const std::byte> payload, const StreamIds* ids, SharedPayload* shared, std::int64_t now_ns) noexcept;

  List list_{kDestinationsMax};
  std::vector<PortUse> ports_;
  std::size_t first_{};
  std::int64_t next_expiry_ns_{};
  std::int64_t blocked_since_ns_{};    // 0: it is not
  proto::LaneCounters counters_;
  shm::Counter count_;
  bool is_dynamic_;
  bool shares_payload_{};              // a port sends chained buffers, and more than one copy leaves by it
};

template <typename Make>
void FanOut::hear(std::int64_t receiver_id, const wire::UdpEndpoint& source, bool tells_position, std::int64_t now_ns, Make&& make) noexcept {
  if (list_.hear(receiver_id, source, tells_position, now_ns) || !is_dynamic_) return;
  if (!list_.has_room_for(source.address, tells_position, now_ns)) return counters_.add(shm::LaneCounter::kDestinationsRefused);
  learn(make(source), receiver_id, tells_position, now_ns);
}

}  // namespace thalweg::core
