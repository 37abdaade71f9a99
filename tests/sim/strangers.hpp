#pragma once
#include <array>
#include <deque>

#include "tests/sim/node.hpp"

// Hosts that are no part of any stream and send well-formed frames to everybody: status messages, errors and round-trip measurements to
// senders; data, SETUPs and measurements to receivers. They know sessions and streams, and senders do not know them.
namespace thalweg::sim {

class Strangers {
 public:
  Strangers(const Scenario& scenario, Network& network, Verdict& verdict) : scenario_{scenario}, network_{network}, verdict_{verdict}, random_{scenario.seed ^ 0x57A9U} {}

  // Sends what is due.
  void act(std::deque<Node>& nodes, std::int64_t now_ns);
  [[nodiscard]] std::int64_t next_due_ns() const noexcept { return next_ns_ >= scenario_.strangers_until_ns ? INT64_MAX : next_ns_; }
  [[nodiscard]] static bool is_at(const wire::UdpEndpoint& address) noexcept { return (address.address & 0xFFFFU) >= kFirstHost; }
  // What came back: no more than they sent, but for streams that a dynamic publication sends to whoever asks.
  void take(const Datagram& datagram);

 private:
  static constexpr std::uint32_t kFirstHost = 0xF000;
  static constexpr std::uint32_t kHosts = 3;

  void tell_sender(const PublicationEntry& publication, std::int64_t now_ns);
  void tell_status(const PublicationEntry& publication);
  void tell_receiver(const Node& node, const ReceiveEndpoint& endpoint, std::int64_t now_ns);
  void send(const wire::UdpEndpoint& to, std::span<const std::byte> bytes, std::int64_t now_ns);
  template <typename Frame>
  void send_frame(const wire::UdpEndpoint& to, const Frame& frame, std::size_t length, std::int64_t now_ns);
  [[nodiscard]] std::int32_t any_int32() noexcept { return static_cast<std::int32_t>(random_.next()); }

  const Scenario& scenario_;
  Network& network_;
  Verdict& verdict_;
  Random random_;
  std::int64_t now_ns_{};
  std::int64_t next_ns_{};
  std::uint64_t bytes_sent_{}, bytes_returned_{};
};

}  // namespace thalweg::sim
