#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "dataplane/client/context.hpp"
#include "dataplane/client/counter.hpp"
#include "dataplane/client/counters_reader.hpp"
#include "dataplane/client/publication.hpp"
#include "dataplane/client/subscription.hpp"
#include "dataplane/shm/error_log.hpp"

namespace thalweg::client {

// Per-subscription handlers; an empty one falls back to the context's.
struct SubscriptionHandlers {
  ImageHandler on_available_image;
  ImageHandler on_unavailable_image;
};

// A connection to a media driver: ours or a stock one. Any thread may call any function but the destructor; none is for the hot path.
//
// Functions that wait do so until the driver answers or Context::driver_timeout passes (error kTimeout). Their async_ forms return at once
// with an id to ask find_...() about: an empty optional while the answer is out, the resource once, or the driver's error once.
// Errors of the driver carry its text, and its code as error_code.hpp has it. After the client closed: kClosed.
class Client {
 public:
  // Waits for a live driver (1.5). Errors: kUnreachable (no driver, no heartbeat), kVersion, kPermission.
  [[nodiscard]] static Result<Client> connect(Context context = {});

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();  // close()

  [[nodiscard]] Result<Publication> add_publication(std::string_view channel, std::int32_t stream_id);
  [[nodiscard]] Result<ExclusivePublication> add_exclusive_publication(std::string_view channel, std::int32_t stream_id);
  [[nodiscard]] Result<Subscription> add_subscription(std::string_view channel, std::int32_t stream_id, SubscriptionHandlers handlers = {});

  [[nodiscard]] Result<RegistrationId> async_add_publication(std::string_view channel, std::int32_t stream_id);
  [[nodiscard]] Result<RegistrationId> async_add_exclusive_publication(std::string_view channel, std::int32_t stream_id);
  [[nodiscard]] Result<RegistrationId> async_add_subscription(std::string_view channel, std::int32_t stream_id,
                                                              SubscriptionHandlers handlers = {});
  // Error kNotFound: no such registration, or already handed out.
  [[nodiscard]] Result<std::optional<Publication>> find_publication(RegistrationId id);
  [[nodiscard]] Result<std::optional<ExclusivePublication>> find_exclusive_publication(RegistrationId id);
  [[nodiscard]] Result<std::optional<Subscription>> find_subscription(RegistrationId id);

  // Destinations of a `control-mode=manual` publication or subscription (wire-protocol 5.5, 5.6). Each is known by the id it is added with,
  // and by its channel; to remove one that the driver does not have is no error. kNotFound: this subscription was not given such an id.
  [[nodiscard]] Result<RegistrationId> add_destination(const PublicationHandle& publication, std::string_view channel);
  [[nodiscard]] Result<> remove_destination(const PublicationHandle& publication, RegistrationId destination);
  [[nodiscard]] Result<> remove_destination(const PublicationHandle& publication, std::string_view channel);
  [[nodiscard]] Result<RegistrationId> add_destination(const Subscription& subscription, std::string_view channel);
  [[nodiscard]] Result<> remove_destination(const Subscription& subscription, RegistrationId destination);
  [[nodiscard]] Result<> remove_destination(const Subscription& subscription, std::string_view channel);
  // The same without waiting; is_done() tells how each ended. The id of an addition names the destination.
  [[nodiscard]] Result<RegistrationId> async_add_destination(const PublicationHandle& publication, std::string_view channel);
  [[nodiscard]] Result<RegistrationId> async_remove_destination(const PublicationHandle& publication, RegistrationId destination);
  [[nodiscard]] Result<RegistrationId> async_remove_destination(const PublicationHandle& publication, std::string_view channel);
  [[nodiscard]] Result<RegistrationId> async_add_destination(const Subscription& subscription, std::string_view channel);
  [[nodiscard]] Result<RegistrationId> async_remove_destination(const Subscription& subscription, RegistrationId destination);
  [[nodiscard]] Result<RegistrationId> async_remove_destination(const Subscription& subscription, std::string_view channel);
  // Whether the driver did what such a command asked for: false while the answer is out, then true or the driver's error, once.
  [[nodiscard]] Result<bool> is_done(RegistrationId command);

  // A counter of the application's own in the driver's counters file; gone with its handle. `type_id` >= 1000 by convention, key <= 112
  // bytes, label <= 380 bytes (else kInvalidArgument). Waits.
  [[nodiscard]] Result<ClientCounter> add_counter(std::int32_t type_id, std::span<const std::byte> key, std::string_view label);
  [[nodiscard]] Result<RegistrationId> async_add_counter(std::int32_t type_id, std::span<const std::byte> key, std::string_view label);
  // A counter that stays as long as the driver and belongs to nobody. Who asks for one that is there gets that, its key and label as they are.
  // Error kGeneric: the two ids are those of somebody's own counter. Waits.
  [[nodiscard]] Result<ClientCounter> add_static_counter(std::int32_t type_id, std::int64_t registration_id, std::span<const std::byte> key,
                                                         std::string_view label);
  [[nodiscard]] Result<RegistrationId> async_add_static_counter(std::int32_t type_id, std::int64_t registration_id, std::span<const std::byte> key,
                                                                std::string_view label);
  [[nodiscard]] Result<std::optional<ClientCounter>> find_counter(RegistrationId id);  // both kinds

  // A session id that no publication of this stream has, for `session-id` of a channel; the driver hands out each once. Waits.
  // Drivers before 1.49 cannot be asked: then it is one drawn by lot.
  [[nodiscard]] Result<std::int32_t> next_available_session_id(std::int32_t stream_id);
  [[nodiscard]] Result<RegistrationId> async_next_available_session_id(std::int32_t stream_id);
  [[nodiscard]] Result<std::optional<std::int32_t>> find_next_available_session_id(RegistrationId id);

  // Handlers beside those of the Context, called after them in the order they were added, on the thread that turns the conductor (close
  // handlers: the one that closes). Once remove_handler() has returned, its handler is not running and will not be called again; a handler may
  // remove itself. False: no such handler. None is added to a client that is closed: the id is 0 then.
  [[nodiscard]] HandlerId add_available_counter_handler(CounterHandler handler);
  [[nodiscard]] HandlerId add_unavailable_counter_handler(CounterHandler handler);
  [[nodiscard]] HandlerId add_close_handler(CloseHandler handler);
  bool remove_handler(HandlerId id);

  // Every counter of the driver and its clients. Valid as long as this client.
  [[nodiscard]] CountersReader counters() const noexcept;
  // Calls visit(const shm::ErrorLogEntry&) for each distinct error the driver recorded.
  template <typename Visit>
  void read_errors(Visit&& visit) const {
    shm::read_error_log(error_log(), std::forward<Visit>(visit));
  }

  // Invoker mode: one turn of the conductor; returns the work done, 0 for none. Own-thread mode: does nothing and returns 0.
  int do_work();
  // Closes every resource and tells the driver. Idempotent. Handles that outlive it answer kClosed.
  void close();
  [[nodiscard]] bool is_closed() const noexcept;
  [[nodiscard]] CloseReason close_reason() const noexcept;

  // An id that nothing else of this driver has.
  [[nodiscard]] std::int64_t next_correlation_id() noexcept;
  [[nodiscard]] std::int64_t client_id() const noexcept;
  [[nodiscard]] const std::string& directory() const noexcept;
  [[nodiscard]] std::int64_t driver_pid() const noexcept;

 private:
  explicit Client(std::shared_ptr<detail::Conductor> conductor) noexcept;
  [[nodiscard]] std::span<const std::byte> error_log() const noexcept;

  std::shared_ptr<detail::Conductor> conductor_;
};

}  // namespace thalweg::client
