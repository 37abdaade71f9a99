#pragma once
#include <unordered_map>

#include "controlplane/conductor/endpoint_table.hpp"
#include "controlplane/conductor/link_table.hpp"
#include "controlplane/conductor/world.hpp"

namespace thalweg::conductor {

// Publications and the references that clients hold on them. Thread: the conductor.
// Spec: client-protocol 6.5 to 6.7, 8.2, 8.3; life of a publication slot: docs/develop/registry.md.
class PublicationTable {
 public:
  PublicationTable(World& world, EndpointTable& endpoints, LinkTable& links) noexcept;

  struct Request {
    std::int64_t client_id{};
    std::int64_t registration_id{};
    std::int32_t stream_id{};
    bool is_exclusive{};
    bool is_ipc{};
    std::string uri;
    UdpChannel channel;                   // network only
    PublicationParams params;
    std::uint32_t endpoint{shm::kNoSlot}; // network only; the caller's reference passes to a publication that is made
    std::uint32_t source_image{shm::kNoSlot};  // relays only: it is running
    bool drops_when_slow{};
  };
  // Shares or makes the publication asked for and records the client's reference. Returns its slot; status() tells when its lane runs it.
  // `used_endpoint` says whether the endpoint reference was taken over. Errors: kInvalidChannel, kGeneric.
  [[nodiscard]] Outcome<std::uint32_t> add(Request& request, bool& used_endpoint);
  [[nodiscard]] Status status(std::uint32_t publication) const noexcept { return world_->publications.record(publication).status; }
  [[nodiscard]] const CommandError& error(std::uint32_t publication) const noexcept { return world_->publications.record(publication).error; }
  // READY for one reference. Precondition: kActive.
  void announce_ready(std::uint32_t publication, std::int64_t registration_id, bool is_exclusive);

  // Slot of the publication that a client's registration id stands for; kNoSlot: none. `client_id` nullopt: any client's.
  [[nodiscard]] std::uint32_t find(std::optional<std::int64_t> client_id, std::int64_t registration_id) const;
  // Takes a reference back; revokes first when asked. Error: kUnknownPublication.
  [[nodiscard]] Outcome<void> remove(std::int64_t client_id, std::int64_t registration_id, bool is_revoke);
  void remove_all_of(std::int64_t client_id);
  // Settles session-id=tag:<n> of a request: session id, MTU and term length of the publication with that entity tag. Error: kInvalidChannel.
  [[nodiscard]] Outcome<void> settle_session_tag(Request& request) const;
  // Next free session id for a stream (6.7).
  [[nodiscard]] std::int32_t take_session_id(std::uint32_t endpoint, bool is_ipc, std::int32_t stream_id);
  // For GET_NEXT_AVAILABLE_SESSION_ID: free on every publication of the stream.
  [[nodiscard]] std::int32_t take_session_id_for_stream(std::int32_t stream_id);

  // The lane answered, or its log or state changed.
  void service(std::uint32_t publication);
  // May new subscriptions be linked to it?
  [[nodiscard]] bool accepts_subscriptions(std::uint32_t publication) const noexcept;
  [[nodiscard]] bool matches(std::uint32_t publication, std::uint32_t subscription) const;
  // The same by way of an IPC or spy destination of a subscription (wire-protocol 5.6).
  [[nodiscard]] bool matches_destination(std::uint32_t publication, std::uint32_t destination) const;
  void link_subscriptions(std::uint32_t publication);
  void link_to_publications(std::uint32_t subscription);
  void link_destination(std::uint32_t destination);
  // REJECT_IMAGE on an IPC publication: the image goes, and comes back after the cool-down (6.5).
  void reject(std::uint32_t publication, std::string_view reason);
  // Ends cool-downs. Each timer tick.
  void tick();
  // After a restart, when endpoints, logs and references are there again.
  void recover();

 private:
  void link_through(std::uint32_t destination, std::uint32_t publication);
  [[nodiscard]] Outcome<std::uint32_t> find_shared(const Request& request) const;  // kNoSlot: none
  [[nodiscard]] Outcome<std::uint32_t> create(Request& request);
  [[nodiscard]] Outcome<void> check_clash(const Request& request) const;
  struct Wish {
    SubscriptionKind kind{};
    std::int32_t stream_id{};
    std::optional<std::int32_t> session_id;
    const UdpChannel* channel{};
  };
  [[nodiscard]] bool matches(std::uint32_t publication, const Wish& wish) const;
  [[nodiscard]] bool is_session_used(std::uint32_t endpoint, bool is_ipc, std::int32_t stream_id, std::int32_t session_id) const;
  [[nodiscard]] Outcome<void> add_reference(std::uint32_t publication, std::int64_t client_id, std::int64_t registration_id);
  void drop_reference(std::uint32_t ref);
  void fill_slot(std::uint32_t publication, const Request& request);
  void fill_source(std::uint32_t publication, std::uint32_t image);
  [[nodiscard]] bool allocate_counters(std::uint32_t publication, std::string_view uri);
  [[nodiscard]] Outcome<void> acquire_log(std::uint32_t publication);
  [[nodiscard]] std::uint32_t pick_lane() const noexcept;
  void start_when_log_is_ready(std::uint32_t publication);
  [[nodiscard]] bool is_sure_to_run(std::uint32_t publication) const noexcept;
  void fail(std::uint32_t publication, CommandError error);
  void announce_end(std::uint32_t publication);
  void announce_errors(std::uint32_t publication);
  void announce_failure(std::uint32_t publication);
  void destroy(std::uint32_t publication);

  World* world_;
  EndpointTable* endpoints_;
  LinkTable* links_;
  std::int32_t next_session_id_;
  std::unordered_multimap<std::int64_t, std::uint32_t> refs_by_registration_;
};

}  // namespace thalweg::conductor
