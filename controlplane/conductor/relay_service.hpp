#pragma once
#include "controlplane/conductor/endpoint_table.hpp"
#include "controlplane/conductor/publication_table.hpp"
#include "controlplane/conductor/resolution.hpp"
#include "controlplane/conductor/subscription_table.hpp"

namespace thalweg::conductor {

// Relays of the configuration: a subscription without a client, and a publication for each image it has, which the image's lane sends from
// the image's log. Here they are made and ended; the rest is the lane's. Thread: the conductor. Life of the slots: docs/develop/registry.md.
class RelayService {
 public:
  RelayService(World& world, EndpointTable& endpoints, PublicationTable& publications, SubscriptionTable& subscriptions);

  // After a restart, when all tables are there again: goes on with what the predecessor had; what is configured no more ends.
  void recover();
  // Each duty cycle in which something moved, and each timer tick.
  void poll();

 private:
  enum class Phase : std::uint8_t { kParse, kResolve, kEndpoints, kInterest, kRunning };
  struct Stream {
    std::uint32_t image{};
    std::uint32_t generation{};       // of the image's slot
    std::int64_t registration_id{};   // of its publication; 0: it could not be made
  };
  struct Relay {
    const RelaySettings* settings{};
    Phase phase{Phase::kParse};
    std::int64_t retry_ns{};          // after a mistake that may pass
    SubscriptionTable::Request source;
    PublicationParams params;
    UdpChannel channel;               // where to
    Resolution source_resolution, channel_resolution;
    std::uint32_t source_endpoint{shm::kNoSlot};  // held until the interest is there
    std::uint32_t endpoint{shm::kNoSlot};         // held for good
    std::uint32_t interest{shm::kNoSlot};         // held until the subscription is there
    std::uint32_t subscription{shm::kNoSlot};
    std::vector<Stream> streams;
  };

  // True: it runs. Errors are reported by the caller, who tries again later.
  [[nodiscard]] Outcome<bool> advance(Relay& relay);
  [[nodiscard]] Outcome<void> parse(Relay& relay);
  [[nodiscard]] Outcome<void> take_endpoints(Relay& relay);
  [[nodiscard]] Outcome<bool> await_endpoints(Relay& relay);
  [[nodiscard]] Outcome<bool> await_interest(Relay& relay);
  void give_back(Relay& relay);
  void end_streams(Relay& relay);
  void add_streams(Relay& relay);
  void add_stream(Relay& relay, std::uint32_t image);
  [[nodiscard]] bool is_running(std::uint32_t image) const;
  void adopt(std::uint32_t publication);
  void report(const Relay& relay, const CommandError& error);

  World* world_;
  EndpointTable* endpoints_;
  PublicationTable* publications_;
  SubscriptionTable* subscriptions_;
  std::vector<Relay> relays_;
};

}  // namespace thalweg::conductor
