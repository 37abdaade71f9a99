#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "controlplane/conductor/channel.hpp"
#include "controlplane/conductor/command_error.hpp"
#include "controlplane/conductor/responder.hpp"
#include "controlplane/conductor/settings.hpp"
#include "controlplane/conductor/uri_params.hpp"
#include "controlplane/host/instance_directory.hpp"
#include "controlplane/host/log_store.hpp"
#include "controlplane/host/slot_table.hpp"
#include "controlplane/host/worker.hpp"
#include "dataplane/base/random.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/shm/counters.hpp"
#include "dataplane/shm/error_log.hpp"
#include "dataplane/shm/loss_report.hpp"
#include "dataplane/shm/ring_buffer.hpp"

// What all parts of the conductor share: the files of the instance, the tables of the registry with the control plane's own memory beside
// each slot, and the present time. Thread: the conductor.
namespace thalweg::conductor {

// How far the control plane is with something that it asked the data plane for.
enum class Status : std::uint8_t { kStarting, kActive, kFailed, kClosing };

struct EndpointRecord {
  Status status{Status::kStarting};
  CommandError error;
  UdpChannel channel;
  std::uint32_t references{};
  bool is_move_refused{};              // and reported
};

struct PublicationRecord {
  Status status{Status::kStarting};
  CommandError error;
  bool is_ipc{};
  bool is_exclusive{};
  bool is_running{};                   // its lane has said so
  bool is_end_told{};                  // clients know that its images are gone
  UdpChannel channel;                  // network only
  PublicationParams params;
  std::vector<std::uint32_t> links;
  std::uint32_t error_frames{};        // ERR frames passed on to clients so far
  std::int64_t errors_since_ns{};      // second in which these were
  std::uint32_t errors_told{};
  std::uint32_t response_setups{};     // RSP_SETUPs acted on so far
};

enum class SubscriptionKind : std::uint32_t { kNetwork = 1, kIpc, kSpy, kRelay };
// Those that images are made for.
[[nodiscard]] constexpr bool is_on_wire(SubscriptionKind kind) noexcept { return kind == SubscriptionKind::kNetwork || kind == SubscriptionKind::kRelay; }

// Who owns what relays need: no client has this id.
inline constexpr std::int64_t kRelayClientId = -2;

struct SubscriptionRecord {
  SubscriptionKind kind{SubscriptionKind::kNetwork};
  std::string uri;                     // as the client wrote it, spy prefix included
  UdpChannel channel;                  // network and spy
  SubscriptionParams params;
  std::vector<std::uint32_t> links;
};

struct InterestRecord {
  Status status{Status::kStarting};
};

struct LinkRecord {
  Status status{Status::kStarting};
  std::string channel;                 // by which the stream comes, where that is a destination's and not the subscription's
};

struct ImageRecord {
  Status status{Status::kStarting};
  bool is_end_told{};
  bool is_given_up_told{};             // the error log names it
  std::uint32_t setup_lane{shm::kNoSlot};   // request it answers, until the lane has it
  std::uint32_t setup_index{};
  std::string source;                  // source identity for clients
  std::vector<std::uint32_t> links;
  std::int64_t gaps_reported{};
  std::int64_t bytes_reported{};
};

struct OwnedCounter {
  std::int64_t registration_id{};
  std::int32_t counter_id{};
};

struct ClientRecord {
  std::vector<OwnedCounter> counters;
};

struct RefRecord {};

struct DestinationRecord {
  Status status{Status::kStarting};
  CommandError error;
  std::string uri;                     // as the client wrote it
  UdpChannel channel;                  // of all that are not IPC
  std::optional<std::int32_t> session_id;  // IPC and spies: none but this
};

struct Time {
  std::int64_t now_ns{};               // monotonic
  std::int64_t now_ms{};               // epoch
};

class NameService;

struct World {
  World(Settings settings_in, host::InstanceFiles& files, host::LogStore::Options log_options, host::Worker& worker_in, host::Worker& lookups_in, Time start);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // The data plane runs and its lanes can be given work.
  [[nodiscard]] bool is_data_plane_active() const noexcept {
    return registry->header.data_plane.state.load(std::memory_order_acquire) == shm::Observed::kActive && registry->header.lane_count > 0;
  }
  // Puts an error into the distinct error log and counts it; temporary refusals are no errors (client-protocol 5.9).
  void report(const CommandError& error);
  // The same of an error that peers cause. Each distinct text has a place in the error log, which is never freed, so that the numbers in it are kept of
  // the first kPeerErrorsMax of them and left out ("session=...") of the others: whoever forges frames does not fill the log.
  void report_of_peer(CommandError error);
  [[nodiscard]] shm::Counter system(shm::SystemCounter id) const noexcept { return counters.counter(static_cast<std::int32_t>(id)); }
  // Allocates a counter of a stream (5.7); -1 when all are taken.
  [[nodiscard]] std::int32_t allocate_counter(const shm::CountersManager::Spec& spec);
  void free_counter(std::int32_t id) noexcept {
    if (id >= 0) counters.free(id, now.now_ms);
  }
  [[nodiscard]] Outcome<std::uint32_t> keep_text(std::string_view text);

  Settings settings;
  host::InstanceFiles& files;
  shm::RegistryFile& registry;
  shm::CountersManager counters;
  shm::ManyToOneRing ring;
  Responder clients_out;
  shm::DistinctErrorLog error_log;
  shm::LossReport loss_report;
  host::Bells bells;
  host::Worker& worker;
  host::Worker& lookups;               // asks the system's resolver, which may take seconds: streams must not wait for their logs meanwhile
  std::function<Result<std::uint32_t>(const std::string& host)> resolve_host;  // what it asks; tests have a network of their own
  host::LogStore logs;
  Random random;
  Time now;
  static constexpr std::size_t kPeerErrorsMax = 64;
  std::set<std::string> peer_errors;   // reported with their numbers

  host::SlotTable<shm::EndpointSlot, shm::kEndpointsMax, EndpointRecord> endpoints;
  host::SlotTable<shm::PublicationSlot, shm::kPublicationsMax, PublicationRecord> publications;
  host::SlotTable<shm::ImageSlot, shm::kImagesMax, ImageRecord> images;
  host::SlotTable<shm::InterestSlot, shm::kInterestsMax, InterestRecord> interests;
  host::SlotTable<shm::LinkSlot, shm::kLinksMax, LinkRecord> links;
  host::SlotTable<shm::ClientSlot, shm::kClientsMax, ClientRecord> clients;
  host::SlotTable<shm::SubscriptionSlot, shm::kSubscriptionsMax, SubscriptionRecord> subscriptions;
  host::SlotTable<shm::PublicationRefSlot, shm::kPublicationRefsMax, RefRecord> refs;
  host::SlotTable<shm::DestinationSlot, shm::kDestinationsMax, DestinationRecord> destinations;
  std::unique_ptr<NameService> names;  // none: no driver names
};

// Counters of streams, endpoints and clients (5.7): they end with what they belong to, all others with the client that asked for them.
[[nodiscard]] constexpr bool is_driver_counter(std::int32_t type_id) noexcept { return type_id >= 0 && type_id <= 21; }

// The text of a slot's error as ON_ERROR carries it.
[[nodiscard]] CommandError slot_error(const shm::SlotError& error);

}  // namespace thalweg::conductor
