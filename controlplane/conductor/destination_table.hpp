#pragma once
#include <string>
#include <string_view>

#include "controlplane/conductor/world.hpp"

namespace thalweg::conductor {

// The rules for the channel of a destination that has an address (wire-protocol 5.5, 5.6): udp, an endpoint, and none of the parameters that
// belong to the publication or subscription. Errors: kInvalidChannel, kNotSupported.
[[nodiscard]] Outcome<UdpChannel> check_destination_channel(const shm::ChannelUri& uri);

// Destinations of manual publications and subscriptions: who asked for them, until somebody takes them back or what they belong to ends.
// Those of publications (kSend) are served by the lane of their endpoint, which answers in the slot; of the others only the book is kept here,
// their endpoints and links are theirs who add them. Thread: the conductor. Spec: wire-protocol 5.5, 5.6; client-protocol 6.5.
class DestinationTable {
 public:
  explicit DestinationTable(World& world) noexcept : world_{&world} {}

  struct Request {
    shm::DestinationKind kind{};
    std::uint32_t endpoint{shm::kNoSlot};      // kSend: of the publication; kReceive: the destination's own
    std::uint32_t subscription{shm::kNoSlot};  // all kinds but kSend
    std::int64_t registration_id{};            // correlation id of the command
    std::int64_t client_id{};
    std::string_view uri;                      // as the client wrote it
    const UdpChannel* channel{};               // null: kIpc
  };
  // Enters one. status() of a publication's tells when its lane has it; all other kinds are kActive at once. Errors: kGeneric (table full).
  [[nodiscard]] Outcome<std::uint32_t> add(const Request& request);
  [[nodiscard]] Status status(std::uint32_t destination) const noexcept { return world_->destinations.record(destination).status; }
  [[nodiscard]] const CommandError& error(std::uint32_t destination) const noexcept { return world_->destinations.record(destination).error; }
  // By the correlation id of the command that added it, unless it was removed; kNoSlot: unknown.
  [[nodiscard]] std::uint32_t find(std::int64_t registration_id) const noexcept;
  // Of a publication's endpoint, by where it is: as it is written, or the same address. The oldest of several; kNoSlot: none.
  [[nodiscard]] std::uint32_t find_at(std::uint32_t endpoint, const ChannelAddress& address) const noexcept;
  // Takes it out: a publication's goes when its lane let go of it, all others at once.
  void remove(std::uint32_t destination);
  // The endpoint of a publication closes, and its destinations with it.
  void remove_all_of_endpoint(std::uint32_t endpoint);
  // A name of a publication's destination came to mean `address` (wire-protocol 5.12). False: it is that already, or it is on its way out.
  bool change_remote(std::uint32_t destination, std::uint32_t address);
  // The lane answered.
  void service(std::uint32_t destination);
  // After a restart: rebuilds the record of a slot from its text.
  void recover(std::uint32_t destination);

 private:
  void free(std::uint32_t destination);

  World* world_;
};

}  // namespace thalweg::conductor
