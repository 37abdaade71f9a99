#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "dataplane/client/context.hpp"
#include "dataplane/client/counter.hpp"
#include "dataplane/client/detail/handler_list.hpp"
#include "dataplane/client/detail/publication_core.hpp"
#include "dataplane/client/detail/subscription_core.hpp"
#include "dataplane/shm/broadcast.hpp"
#include "dataplane/shm/commands.hpp"
#include "dataplane/shm/ring_buffer.hpp"

namespace thalweg::client::detail {

// What an ADD leads to.
enum class ResourceKind : std::uint8_t { kPublication, kExclusivePublication, kSubscription, kCounter, kSessionId, kCommand };

// One command whose answer is out, or not yet picked up.
struct Registration {
  enum class State : std::uint8_t { kPending, kReady, kFailed };
  ResourceKind kind{};
  State state{State::kPending};
  bool is_unattended{};  // nobody asks for the outcome: a failure is reported
  bool is_static{};      // counters
  std::int64_t deadline_ns{};
  std::int32_t stream_id{};
  std::int32_t session_id{};              // the answer to GET_NEXT_AVAILABLE_SESSION_ID
  std::int64_t chosen_registration_id{};  // of a static counter
  std::string channel;
  ImageHandler on_available_image;
  ImageHandler on_unavailable_image;
  Error error;
  std::shared_ptr<PublicationCore> publication;
  std::shared_ptr<SubscriptionCore> subscription;
  std::shared_ptr<CounterCore> counter;
};

// The slow half of a client: commands out, answers in, keep-alive, liveness, images coming and going. Spec: client-protocol 1.5, 1.6, 6.
// Threads: one at a time turns it (do_work); everything else may be called by any thread and takes `mutex_`. No handler is called with
// the lock held.
class Conductor : public std::enable_shared_from_this<Conductor> {
 public:
  // Finds a live driver and, in own-thread mode, starts the thread. Errors: those of Client::connect.
  [[nodiscard]] static Result<std::shared_ptr<Conductor>> connect(Context context);
  Conductor(Context context, shm::CncFile cnc);
  Conductor(const Conductor&) = delete;
  Conductor& operator=(const Conductor&) = delete;

  int do_work();
  void close();
  void stop_thread();

  // What an ADD carries; which members matter depends on `kind`.
  struct AddRequest {
    ResourceKind kind{};
    std::string_view channel;
    std::int32_t stream_id{};  // counters: type id
    ImageHandler on_available_image;
    ImageHandler on_unavailable_image;
    std::span<const std::byte> key{};
    std::string_view label;
    std::optional<std::int64_t> static_registration_id{};  // counters: a static one
  };
  [[nodiscard]] Result<RegistrationId> add(AddRequest request);
  // A command answered by ON_OPERATION_SUCCESS.
  [[nodiscard]] Result<RegistrationId> command(shm::Command type, std::int64_t registration_id, std::string_view channel);
  [[nodiscard]] Result<RegistrationId> remove_destination(std::int64_t publication_registration_id, RegistrationId destination);
  // Receive destinations have ids with us only; the driver knows them by their channels.
  [[nodiscard]] Result<RegistrationId> add_receive_destination(const SubscriptionCore& core, std::string_view channel);
  [[nodiscard]] Result<RegistrationId> remove_receive_destination(const SubscriptionCore& core, RegistrationId destination);
  [[nodiscard]] Result<RegistrationId> ask_for_session_id(std::int32_t stream_id);
  // The registration once it is no longer pending; it is forgotten then. Errors: kNotFound, or what the driver answered.
  [[nodiscard]] Result<std::optional<Registration>> take(RegistrationId id, ResourceKind kind);
  // Waits for that.
  [[nodiscard]] Result<Registration> await(RegistrationId id, ResourceKind kind);

  void release(PublicationCore& core, bool revoke);
  void release(SubscriptionCore& core);
  void release(CounterCore& core);
  [[nodiscard]] std::vector<std::shared_ptr<Image>> images(const SubscriptionCore& core);
  [[nodiscard]] Result<> reject_image(std::int64_t image_correlation_id, std::int64_t position, std::string_view reason);

  [[nodiscard]] HandlerId add_available_counter_handler(CounterHandler handler);
  [[nodiscard]] HandlerId add_unavailable_counter_handler(CounterHandler handler);
  [[nodiscard]] HandlerId add_close_handler(CloseHandler handler);
  bool remove_handler(HandlerId id);

  [[nodiscard]] CloseReason close_reason() const noexcept { return close_reason_.load(std::memory_order_acquire); }
  [[nodiscard]] std::int64_t next_correlation_id() noexcept { return to_driver_.next_correlation_id(); }
  [[nodiscard]] bool is_closed() const noexcept { return is_closed_.load(std::memory_order_acquire); }
  [[nodiscard]] std::int64_t client_id() const noexcept { return client_id_; }
  [[nodiscard]] const Context& context() const noexcept { return context_; }
  [[nodiscard]] const shm::CncFile& cnc() const noexcept { return *cnc_; }
  [[nodiscard]] const shm::CountersReader& counters() const noexcept { return counters_; }

 private:
  struct Lingering {
    std::int64_t deadline_ns;
    std::shared_ptr<const MappedLog> mapping;
  };
  struct Unsent {
    shm::Command type;
    shm::Buffer message;
  };
  struct ReceiveDestination {
    std::int64_t subscription_id{};
    std::string channel;
  };
  // What a close leaves to be told, without the lock.
  struct Closed {
    std::vector<std::shared_ptr<Image>> images;
    std::unordered_map<std::int64_t, std::shared_ptr<SubscriptionCore>> subscriptions;
    std::vector<std::pair<std::int64_t, std::int32_t>> counters;  // registration id, counter id
  };

  // conductor.cpp, commands.cpp
  void run();
  int turn();
  void idle_in_invoker_mode();
  int housekeep(std::int64_t now_ns);
  void expire_registrations(std::int64_t now_ns);
  void reclaim(std::int64_t now_ns);
  void report_malformed_images();
  void check_liveness();
  [[nodiscard]] bool keep_heartbeat(std::int64_t now_ms);
  void announce_name(std::int32_t counter_id) noexcept;
  void force_close(CloseReason reason, Error error);
  void close_resources(Closed& closed);
  void report(const Error& error);
  [[nodiscard]] std::int64_t monotonic() const;
  [[nodiscard]] std::int64_t epoch() const;
  [[nodiscard]] bool send_add(const AddRequest& request, std::int64_t correlation_id);
  void send_close();
  [[nodiscard]] std::optional<Error> refusal() const;
  // `make(header)` makes the message.
  template <typename Make>
  [[nodiscard]] Result<RegistrationId> send_command(shm::Command type, Make&& make, ResourceKind kind = ResourceKind::kCommand,
                                                    bool is_unattended = false);
  // The same with the lock held.
  template <typename Make>
  [[nodiscard]] Result<RegistrationId> send_locked(shm::Command type, Make&& make, ResourceKind kind, bool is_unattended);
  // Puts it into the ring, or where it waits for room. False: it is longer than a command may be.
  template <typename M>
  [[nodiscard]] bool send_or_keep(shm::Command type, const M& message);
  template <typename M>
  void send_removal(shm::Command type, const M& message);
  void wake();
  void linger(std::shared_ptr<const MappedLog> mapping);

  // responses.cpp
  int receive();
  void dispatch(std::int32_t type_id, shm::Bytes body);
  void on_error(const shm::OnError& m);
  void on_publication_ready(const shm::OnPublicationReady& m, ResourceKind kind);
  void on_subscription_ready(const shm::OnSubscriptionReady& m);
  void on_available_image(const shm::OnAvailableImage& m);
  void on_unavailable_image(const shm::OnUnavailableImage& m);
  void on_operation_success(const shm::OnOperationSuccess& m);
  void on_counter_ready(const shm::OnCounter& m);
  void on_unavailable_counter(const shm::OnCounter& m);
  void on_static_counter(const shm::OnCounter& m);
  void on_next_session_id(const shm::OnNextAvailableSessionId& m);
  void on_client_timeout(const shm::OnClientTimeout& m);
  void on_publication_error(const shm::OnPublicationError& m);
  void on_lapped();
  void malformed(std::int32_t type_id);
  void remove_abandoned(std::int64_t correlation_id, shm::Command type);
  [[nodiscard]] Result<std::shared_ptr<const MappedLog>> map_log(std::int64_t id, std::string_view path);
  [[nodiscard]] Result<std::shared_ptr<Image>> make_image(const shm::OnAvailableImage& m);
  [[nodiscard]] Result<std::shared_ptr<PublicationCore>> make_publication(const shm::OnPublicationReady& m, const Registration& registration);
  void replace_images(SubscriptionCore& core, std::vector<std::shared_ptr<Image>> images);
  [[nodiscard]] bool is_counter_id(std::int32_t id) const noexcept { return id >= 0 && id < counters_.capacity(); }
  void make_counter(Registration& registration, const shm::OnCounter& m);
  Registration* pending(std::int64_t correlation_id, ResourceKind kind);
  void settle(Registration& registration, Result<> outcome);

  Context context_;
  std::shared_ptr<const shm::CncFile> cnc_;
  shm::ManyToOneRing to_driver_;
  shm::BroadcastReceiver from_driver_;
  shm::CountersReader counters_;
  std::int64_t client_id_{};
  std::int64_t inter_service_timeout_ns_{};

  // The thread that turns the conductor.
  std::atomic<bool> is_turning_{false};
  std::atomic<std::thread::id> turner_{};
  std::int64_t last_turn_ns_{};
  std::int64_t next_keepalive_ns_{};
  std::int64_t laps_seen_{};
  std::int32_t heartbeat_id_{shm::kNullCounterId};

  std::mutex mutex_;
  std::condition_variable answered_;  // a registration left the pending state
  std::condition_variable wanted_;    // the own thread has something to do
  std::atomic<bool> is_closed_{false};
  std::atomic<CloseReason> close_reason_{CloseReason::kOpen};
  std::atomic<std::int64_t> next_handler_id_{1};
  HandlerList<std::int64_t, std::int32_t> available_counter_;
  HandlerList<std::int64_t, std::int32_t> unavailable_counter_;
  HandlerList<> closing_;
  bool stop_{false};
  bool is_kicked_{false};
  std::size_t pending_count_{0};
  shm::Buffer scratch_;
  std::deque<Unsent> unsent_;  // commands that found the ring full, oldest first
  std::unordered_map<std::int64_t, Registration> registrations_;
  std::unordered_set<std::int64_t> abandoned_;  // timed out; a late answer is given back to the driver
  std::unordered_map<std::int64_t, std::weak_ptr<PublicationCore>> publications_;
  std::unordered_map<std::int64_t, std::shared_ptr<SubscriptionCore>> subscriptions_;
  std::unordered_map<std::int64_t, std::weak_ptr<CounterCore>> counter_handles_;  // by the command that made them
  std::unordered_map<std::int64_t, ReceiveDestination> receive_destinations_;
  bool has_unattended_{false};            // some of them are settled
  std::vector<Error> unattended_errors_;  // to be reported without the lock
  std::unordered_map<std::int64_t, std::weak_ptr<const MappedLog>> logs_;
  std::vector<Lingering> lingering_;
  std::thread thread_;
};

}  // namespace thalweg::client::detail
