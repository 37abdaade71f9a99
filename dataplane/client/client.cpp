#include "dataplane/client/client.hpp"

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "dataplane/base/units.hpp"
#include "dataplane/client/detail/conductor.hpp"

namespace thalweg::client {

using detail::Conductor;
using detail::Registration;
using detail::ResourceKind;

namespace {
// The resource inside a taken registration, made into its handle.
template <typename Handle>
Handle handle_of(Registration registration) {
  if constexpr (std::is_same_v<Handle, Subscription>) {
    return Handle{std::move(registration.subscription)};
  } else if constexpr (std::is_same_v<Handle, ClientCounter>) {
    return Handle{std::move(registration.counter)};
  } else {
    return Handle{std::move(registration.publication)};
  }
}

template <typename Handle>
Result<Handle> wait_for(Conductor& conductor, Result<RegistrationId> id, ResourceKind kind) {
  if (!id) return tl::unexpected<Error>{std::move(id.error())};
  auto registration = conductor.await(*id, kind);
  if (!registration) return tl::unexpected<Error>{std::move(registration.error())};
  return handle_of<Handle>(std::move(*registration));
}

template <typename Handle>
Result<std::optional<Handle>> find(Conductor& conductor, RegistrationId id, ResourceKind kind) {
  auto taken = conductor.take(id, kind);
  if (!taken) return tl::unexpected<Error>{std::move(taken.error())};
  if (!taken->has_value()) return std::optional<Handle>{};
  return std::optional<Handle>{handle_of<Handle>(std::move(**taken))};
}

// The id of a command that was answered with success.
Result<RegistrationId> wait_for_success(Conductor& conductor, Result<RegistrationId> id) {
  if (!id) return id;
  auto registration = conductor.await(*id, ResourceKind::kCommand);
  if (!registration) return tl::unexpected<Error>{std::move(registration.error())};
  return id;
}

Result<> wait_for_done(Conductor& conductor, Result<RegistrationId> id) {
  id = wait_for_success(conductor, std::move(id));
  if (!id) return tl::unexpected<Error>{std::move(id.error())};
  return {};
}

Result<> check_counter(std::span<const std::byte> key, std::string_view label) {
  if (key.size() <= shm::kCounterKeyMax && label.size() <= shm::kCounterLabelMax) return {};
  return fail(ErrorCode::kInvalidArgument, "a counter's key has at most 112 bytes and its label at most 380");
}
}  // namespace

Context Context::from_environment() {
  Context context;
  // A number of nanoseconds, or one with a unit.
  const auto duration = [](const char* name, std::chrono::nanoseconds& to) {
    const char* const text = std::getenv(name);
    const auto value = text != nullptr ? parse_uri_duration_ns(text) : std::nullopt;
    if (value && *value > 0) to = std::chrono::nanoseconds{*value};
  };
  if (const char* directory = std::getenv("AERON_DIR")) context.directory = directory;
  if (const char* name = std::getenv("AERON_CLIENT_NAME")) context.client_name = name;
  if (const char* timeout = std::getenv("AERON_DRIVER_TIMEOUT")) {
    std::int64_t timeout_ms = 0;
    const char* end = timeout + std::strlen(timeout);
    const auto [parsed, status] = std::from_chars(timeout, end, timeout_ms);
    if (status == std::errc{} && parsed == end && timeout_ms > 0) {
      context.driver_timeout = context.connect_timeout = std::chrono::milliseconds{timeout_ms};
    }
  }
  duration("AERON_CLIENT_RESOURCE_LINGER_DURATION", context.resource_linger);
  duration("AERON_CLIENT_IDLE_SLEEP_DURATION", context.idle_sleep);
  if (const char* touch = std::getenv("AERON_CLIENT_PRE_TOUCH_MAPPED_MEMORY")) context.pre_touch_mapped_memory = std::string_view{touch} == "true";
  return context;
}

Result<> Context::validate() const {
  const auto refuse = [](const char* what) { return fail(ErrorCode::kInvalidArgument, std::string{what} + " of a client must be above zero"); };
  if (connect_timeout.count() < 0) return fail(ErrorCode::kInvalidArgument, "connect_timeout of a client cannot be negative");
  if (driver_timeout < std::chrono::milliseconds{1}) return fail(ErrorCode::kInvalidArgument, "driver_timeout of a client must be at least 1 ms");
  if (keepalive_interval.count() <= 0) return refuse("keepalive_interval");
  if (idle_sleep.count() <= 0) return refuse("idle_sleep");
  if (resource_linger.count() < 0) return fail(ErrorCode::kInvalidArgument, "resource_linger of a client cannot be negative");
  if (client_name.find('\n') != std::string::npos) return fail(ErrorCode::kInvalidArgument, "client_name has more than one line");
  return {};
}

Result<Client> Client::connect(Context context) {
  auto conductor = Conductor::connect(std::move(context));
  if (!conductor) return tl::unexpected<Error>{std::move(conductor.error())};
  return Client{std::move(*conductor)};
}

Client::Client(std::shared_ptr<Conductor> conductor) noexcept : conductor_{std::move(conductor)} {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&& other) noexcept {
  if (this != &other) {
    close();
    conductor_ = std::move(other.conductor_);
  }
  return *this;
}
Client::~Client() { close(); }

void Client::close() {
  if (conductor_ == nullptr) return;
  conductor_->close();
  conductor_->stop_thread();
}

Result<RegistrationId> Client::async_add_publication(std::string_view channel, std::int32_t stream_id) {
  return conductor_->add({.kind = ResourceKind::kPublication, .channel = channel, .stream_id = stream_id});
}
Result<RegistrationId> Client::async_add_exclusive_publication(std::string_view channel, std::int32_t stream_id) {
  return conductor_->add({.kind = ResourceKind::kExclusivePublication, .channel = channel, .stream_id = stream_id});
}
Result<RegistrationId> Client::async_add_subscription(std::string_view channel, std::int32_t stream_id, SubscriptionHandlers handlers) {
  return conductor_->add({.kind = ResourceKind::kSubscription,
                          .channel = channel,
                          .stream_id = stream_id,
                          .on_available_image = std::move(handlers.on_available_image),
                          .on_unavailable_image = std::move(handlers.on_unavailable_image)});
}
Result<RegistrationId> Client::async_add_counter(std::int32_t type_id, std::span<const std::byte> key, std::string_view label) {
  if (auto fits = check_counter(key, label); !fits) return tl::unexpected<Error>{std::move(fits.error())};
  return conductor_->add({.kind = ResourceKind::kCounter, .stream_id = type_id, .key = key, .label = label});
}
Result<RegistrationId> Client::async_add_static_counter(std::int32_t type_id, std::int64_t registration_id, std::span<const std::byte> key,
                                                        std::string_view label) {
  if (auto fits = check_counter(key, label); !fits) return tl::unexpected<Error>{std::move(fits.error())};
  return conductor_->add({.kind = ResourceKind::kCounter, .stream_id = type_id, .key = key, .label = label, .static_registration_id = registration_id});
}

Result<Publication> Client::add_publication(std::string_view channel, std::int32_t stream_id) {
  return wait_for<Publication>(*conductor_, async_add_publication(channel, stream_id), ResourceKind::kPublication);
}
Result<ExclusivePublication> Client::add_exclusive_publication(std::string_view channel, std::int32_t stream_id) {
  return wait_for<ExclusivePublication>(*conductor_, async_add_exclusive_publication(channel, stream_id), ResourceKind::kExclusivePublication);
}
Result<Subscription> Client::add_subscription(std::string_view channel, std::int32_t stream_id, SubscriptionHandlers handlers) {
  return wait_for<Subscription>(*conductor_, async_add_subscription(channel, stream_id, std::move(handlers)), ResourceKind::kSubscription);
}
Result<ClientCounter> Client::add_counter(std::int32_t type_id, std::span<const std::byte> key, std::string_view label) {
  return wait_for<ClientCounter>(*conductor_, async_add_counter(type_id, key, label), ResourceKind::kCounter);
}
Result<ClientCounter> Client::add_static_counter(std::int32_t type_id, std::int64_t registration_id, std::span<const std::byte> key,
                                                 std::string_view label) {
  return wait_for<ClientCounter>(*conductor_, async_add_static_counter(type_id, registration_id, key, label), ResourceKind::kCounter);
}

Result<std::optional<Publication>> Client::find_publication(RegistrationId id) {
  return find<Publication>(*conductor_, id, ResourceKind::kPublication);
}
Result<std::optional<ExclusivePublication>> Client::find_exclusive_publication(RegistrationId id) {
  return find<ExclusivePublication>(*conductor_, id, ResourceKind::kExclusivePublication);
}
Result<std::optional<Subscription>> Client::find_subscription(RegistrationId id) {
  return find<Subscription>(*conductor_, id, ResourceKind::kSubscription);
}
Result<std::optional<ClientCounter>> Client::find_counter(RegistrationId id) {
  return find<ClientCounter>(*conductor_, id, ResourceKind::kCounter);
}

// Publications are named by their original id: stock drivers look no other up (client-protocol 6.5, Destinations).
Result<RegistrationId> Client::async_add_destination(const PublicationHandle& publication, std::string_view channel) {
  return conductor_->command(shm::Command::kAddDestination, publication.original_registration_id(), channel);
}
Result<RegistrationId> Client::async_remove_destination(const PublicationHandle& publication, RegistrationId destination) {
  return conductor_->remove_destination(publication.original_registration_id(), destination);
}
Result<RegistrationId> Client::async_remove_destination(const PublicationHandle& publication, std::string_view channel) {
  return conductor_->command(shm::Command::kRemoveDestination, publication.original_registration_id(), channel);
}
Result<RegistrationId> Client::async_add_destination(const Subscription& subscription, std::string_view channel) {
  return conductor_->add_receive_destination(*subscription.core_, channel);
}
Result<RegistrationId> Client::async_remove_destination(const Subscription& subscription, RegistrationId destination) {
  return conductor_->remove_receive_destination(*subscription.core_, destination);
}
Result<RegistrationId> Client::async_remove_destination(const Subscription& subscription, std::string_view channel) {
  return conductor_->command(shm::Command::kRemoveReceiveDestination, subscription.registration_id(), channel);
}
Result<bool> Client::is_done(RegistrationId command) {
  const auto taken = conductor_->take(command, ResourceKind::kCommand);
  if (!taken) return tl::unexpected<Error>{taken.error()};
  return taken->has_value();
}

Result<RegistrationId> Client::add_destination(const PublicationHandle& publication, std::string_view channel) {
  return wait_for_success(*conductor_, async_add_destination(publication, channel));
}
Result<> Client::remove_destination(const PublicationHandle& publication, RegistrationId destination) {
  return wait_for_done(*conductor_, async_remove_destination(publication, destination));
}
Result<> Client::remove_destination(const PublicationHandle& publication, std::string_view channel) {
  return wait_for_done(*conductor_, async_remove_destination(publication, channel));
}
Result<RegistrationId> Client::add_destination(const Subscription& subscription, std::string_view channel) {
  return wait_for_success(*conductor_, async_add_destination(subscription, channel));
}
Result<> Client::remove_destination(const Subscription& subscription, RegistrationId destination) {
  return wait_for_done(*conductor_, async_remove_destination(subscription, destination));
}
Result<> Client::remove_destination(const Subscription& subscription, std::string_view channel) {
  return wait_for_done(*conductor_, async_remove_destination(subscription, channel));
}

Result<RegistrationId> Client::async_next_available_session_id(std::int32_t stream_id) { return conductor_->ask_for_session_id(stream_id); }
Result<std::optional<std::int32_t>> Client::find_next_available_session_id(RegistrationId id) {
  const auto taken = conductor_->take(id, ResourceKind::kSessionId);
  if (!taken) return tl::unexpected<Error>{taken.error()};
  if (!taken->has_value()) return std::optional<std::int32_t>{};
  return std::optional<std::int32_t>{(*taken)->session_id};
}
Result<std::int32_t> Client::next_available_session_id(std::int32_t stream_id) {
  const auto id = async_next_available_session_id(stream_id);
  if (!id) return tl::unexpected<Error>{id.error()};
  const auto answer = conductor_->await(*id, ResourceKind::kSessionId);
  if (!answer) return tl::unexpected<Error>{answer.error()};
  return answer->session_id;
}

HandlerId Client::add_available_counter_handler(CounterHandler handler) { return conductor_->add_available_counter_handler(std::move(handler)); }
HandlerId Client::add_unavailable_counter_handler(CounterHandler handler) { return conductor_->add_unavailable_counter_handler(std::move(handler)); }
HandlerId Client::add_close_handler(CloseHandler handler) { return conductor_->add_close_handler(std::move(handler)); }
bool Client::remove_handler(HandlerId id) { return conductor_->remove_handler(id); }

CountersReader Client::counters() const noexcept { return CountersReader{conductor_->counters()}; }
std::span<const std::byte> Client::error_log() const noexcept { return conductor_->cnc().error_log(); }
int Client::do_work() { return conductor_->context().mode == ConductorMode::kInvoker ? conductor_->do_work() : 0; }
bool Client::is_closed() const noexcept { return conductor_ == nullptr || conductor_->is_closed(); }
CloseReason Client::close_reason() const noexcept { return conductor_ == nullptr ? CloseReason::kApplication : conductor_->close_reason(); }
std::int64_t Client::next_correlation_id() noexcept { return conductor_->next_correlation_id(); }
std::int64_t Client::client_id() const noexcept { return conductor_->client_id(); }
const std::string& Client::directory() const noexcept { return conductor_->context().directory; }
std::int64_t Client::driver_pid() const noexcept { return conductor_->cnc().pid(); }

}  // namespace thalweg::client
