#pragma once
#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "dataplane/core/fan_out.hpp"
#include "dataplane/core/transmit.hpp"
#include "dataplane/proto/dispatcher.hpp"
#include "dataplane/proto/image.hpp"

// What a lane keeps beside the registry: pointers into it, indexed by slot. One set of tables for the whole data plane; an entry is touched
// by its owning lane only, so nothing here is shared between lanes but the arrays themselves.
namespace thalweg::core {

struct PublicationEntry;
struct ImageEntry;

inline constexpr std::uint32_t kNoLink = ~std::uint32_t{0};

// A subscriber position on a stream (registry link).
struct LinkEntry {
  shm::Counter position;
  std::uint32_t slot{};
  std::uint32_t next{kNoLink};       // of the same stream
  std::uint32_t generation{};
  bool is_linked{};
  bool counts{true};                 // for flow control: not resting or closed (wire-protocol 3.14)
};

// One side of a UDP socket address. Made by the steward, which may allocate; used by its lane; deleted by the steward once every lane that
// knew the address has let go of it.
struct Endpoint {
  shm::EndpointKind kind{};
  std::uint32_t slot{};
  std::uint32_t generation{};
  std::uint32_t lane{};
  wire::UdpEndpoint bound;
  wire::UdpEndpoint remote;           // send: destination; receive: explicit control address, port 0 = none
  std::atomic<std::uint32_t> wanted_remote{};  // steward: address of `remote` as last asked for; the lane follows when it is told
  bool is_connected{};                // send: only the destination may talk to us (wire-protocol 5.2)
  std::uint8_t ttl{};                 // of what is sent to groups, 0: 1
  std::vector<std::uint32_t> ports;   // port table; send: exactly one
  // Multicast: the group it is a member of, a receiver of the data group, a sender of the control group (wire-protocol 5.3). Port 0: none.
  wire::UdpEndpoint group;
  std::uint32_t interface_address{};  // ours on the group's network
  Endpoint* next_member{};            // of the same group on the same port; its lane's
  std::atomic<std::uint32_t> lanes_left{};  // that still know it while it closes
  std::uint32_t group_lane{};         // polls the port of its group; `lane` works on what it brings

  // Multi-destination subscriptions (wire-protocol 5.6): the parent has interests and images and no socket, frames come by its children,
  // which are on its lane whatever lane polls their ports.
  Endpoint* parent{};
  Endpoint* first_child{};            // these two: their lane's
  Endpoint* next_child{};
  std::unique_ptr<proto::Arrivals> arrivals;  // of a parent
  [[nodiscard]] bool has_destinations() const noexcept { return arrivals != nullptr; }
  [[nodiscard]] Endpoint& home() noexcept { return parent != nullptr ? *parent : *this; }

  // Send side.
  Destination destination;            // made by the lane
  std::unique_ptr<FanOut> fan_out;    // no remote address, but many destinations
  // Receive side.
  std::int64_t receiver_id{};
  bool has_group_tag{};
  std::int64_t group_tag{};
  [[nodiscard]] bool has_control() const noexcept { return remote.port != 0 && group.port == 0; }   // an explicit one (wire-protocol 3.3)
  bool is_stamped{};                  // what arrives is: its times are written into a copy (wire-protocol 5.11)
  std::int64_t next_register_ns{};    // explicit control address: when it is next asked for a SETUP (wire-protocol 3.3)
  std::unique_ptr<proto::Dispatcher> dispatcher;
  // Stream of the last datagram: most datagrams belong to the stream of the one before.
  std::uint64_t cached_stream{};
  ImageEntry* cached_image{};
  unsigned cached_connection{};       // of that image
  std::uint32_t cached_publication{shm::kNoSlot};
};

enum class Activity : std::uint8_t { kNone, kActive, kIdle };

// Polled every turn (active) or in rotating slices (idle); `at` is its place on that list.
struct Polled {
  Activity activity{Activity::kNone};
  std::uint8_t quiet_turns{};
  std::uint32_t at{};
};

struct alignas(kCacheLine) PublicationEntry {
  proto::Publication stream;
  Endpoint* endpoint{};               // none for IPC
  Destination* destination{};         // its endpoint's, or `peer`; none for IPC
  shm::PublicationSlot* slot{};
  std::uint32_t index{};
  std::uint32_t first_link{kNoLink};
  Polled polled;
  std::int64_t seen_min{};            // IPC: subscriber positions when last updated
  ImageEntry* source{};               // relays: whose log it sends, while that image lives
  PublicationEntry* next_relay{};     // of the same image
  StreamIds ids;                      // what frames on the wire carry
  bool rewrites{};                    // frames in the log carry something else
  shm::Lifecycle told{shm::Lifecycle::kNone};   // what the control plane was rung for
  std::uint8_t told_connected{};
  bool is_used{};
  std::uint32_t generation{};
  std::uint32_t owned_at{};           // place in the lane's list of all its publications
  Destination peer;                   // response publications: who asked for their SETUP last (wire-protocol 5.9)
  std::int64_t response_rung_ns{};    // requests: when the control plane was last told of a RSP_SETUP
};

struct alignas(kCacheLine) ImageEntry {
  proto::Image stream;
  Endpoint* endpoint{};
  shm::ImageSlot* slot{};
  std::uint32_t index{};
  std::uint32_t first_link{kNoLink};
  Polled polled;
  std::int64_t seen_min{};            // subscriber positions at the last duty
  std::int64_t seen_rebuilt{};
  PublicationEntry* first_relay{};
  shm::Lifecycle told{shm::Lifecycle::kNone};
  bool is_used{};
  bool is_dispatched{};               // the endpoint's dispatcher knows it
  bool is_rejected{};                 // the stream was told
  std::uint32_t generation{};
  std::uint32_t owned_at{};
  std::uint32_t response{shm::kNoSlot};  // publication that answers it, and its generation (wire-protocol 5.9)
  std::uint32_t response_generation{};
  std::array<Destination, shm::kConnectionsMax> destinations;
  std::array<Endpoint*, shm::kConnectionsMax> transports{};   // whose sockets its connections have; the endpoint's own, but for destinations
};

struct StreamTables {
  std::unique_ptr<PublicationEntry[]> publications{new PublicationEntry[shm::kPublicationsMax]};
  std::unique_ptr<ImageEntry[]> images{new ImageEntry[shm::kImagesMax]};
  std::unique_ptr<LinkEntry[]> links{new LinkEntry[shm::kLinksMax]};
  std::unique_ptr<shm::LogGrowth[]> growths{new shm::LogGrowth[shm::kLogsMax]};
  std::unique_ptr<shm::LogBuffer[]> logs{new shm::LogBuffer[shm::kLogsMax]};   // written by the steward before it tells a lane

  // The same for an image, whose relays are subscribers, too. Nobody waits for one without receivers, or that drops when it is slow.
  [[nodiscard]] proto::SubscriberPositions positions(const ImageEntry& image) const noexcept {
    proto::SubscriberPositions all = positions(image.first_link);
    for (const PublicationEntry* relay = image.first_relay; relay != nullptr; relay = relay->next_relay) {
      const shm::PublicationState& sender = relay->stream.state();
      const bool drops = (relay->slot->desired.flags & shm::PublicationFlags::kDropsWhenSlow) != 0;
      const bool is_waited_for = !drops && sender.is_connected != 0 && sender.lifecycle == shm::Lifecycle::kActive;
      const std::int64_t rebuilt = image.stream.state().rebuild_position;
      add_position(all, is_waited_for ? std::min(sender.sender_position, rebuilt) : rebuilt);
    }
    return all;
  }

  // Positions of the subscribers linked to a stream. Acquire pairs with the clients' release stores; proto/ clamps what they say.
  [[nodiscard]] proto::SubscriberPositions positions(std::uint32_t first_link) const noexcept {
    proto::SubscriberPositions all;
    for (std::uint32_t i = first_link; i != kNoLink; i = links[i].next) {
      if (!links[i].counts) continue;
      add_position(all, links[i].position.get());
    }
    return all;
  }

 private:
  static void add_position(proto::SubscriberPositions& all, std::int64_t position) noexcept {
    all.min = all.count == 0 ? position : std::min(all.min, position);
    all.max = all.count == 0 ? position : std::max(all.max, position);
    ++all.count;
  }
};

}  // namespace thalweg::core
