// thalweg.h: errors, contexts, clients and what they add.
#include "dataplane/client/c/handles.hpp"

using namespace thalweg;
using namespace thalweg::client;
using namespace thalweg::client::c;

namespace {

struct LastError {
  thalweg_error_t code{THALWEG_OK};
  std::string text;
  std::string hint;
};
thread_local LastError last_error;

template <typename Code>
constexpr bool is_same(thalweg_error_t ours, Code theirs) {
  return static_cast<std::int32_t>(ours) == static_cast<std::int32_t>(theirs);
}
static_assert(is_same(THALWEG_ERROR_GENERIC, ErrorCode::kGeneric) && is_same(THALWEG_ERROR_INVALID_ARGUMENT, ErrorCode::kInvalidArgument) &&
              is_same(THALWEG_ERROR_NOT_FOUND, ErrorCode::kNotFound) && is_same(THALWEG_ERROR_UNREACHABLE, ErrorCode::kUnreachable) &&
              is_same(THALWEG_ERROR_TIMEOUT, ErrorCode::kTimeout) && is_same(THALWEG_ERROR_IN_USE, ErrorCode::kInUse) &&
              is_same(THALWEG_ERROR_NO_SPACE, ErrorCode::kNoSpace) && is_same(THALWEG_ERROR_PERMISSION, ErrorCode::kPermission) &&
              is_same(THALWEG_ERROR_UNSUPPORTED, ErrorCode::kUnsupported) && is_same(THALWEG_ERROR_INVALID_CHANNEL, ErrorCode::kInvalidChannel) &&
              is_same(THALWEG_ERROR_UNKNOWN_HOST, ErrorCode::kUnknownHost) && is_same(THALWEG_ERROR_IO, ErrorCode::kIo) &&
              is_same(THALWEG_ERROR_VERSION, ErrorCode::kVersion) && is_same(THALWEG_ERROR_CLOSED, ErrorCode::kClosed));
static_assert(is_same(THALWEG_ERROR_UNKNOWN_SUBSCRIPTION, client_error::kUnknownSubscription) &&
              is_same(THALWEG_ERROR_UNKNOWN_PUBLICATION, client_error::kUnknownPublication) &&
              is_same(THALWEG_ERROR_CHANNEL_ENDPOINT, client_error::kChannelEndpoint) && is_same(THALWEG_ERROR_UNKNOWN_COUNTER, client_error::kUnknownCounter) &&
              is_same(THALWEG_ERROR_MALFORMED_COMMAND, client_error::kMalformedCommand) && is_same(THALWEG_ERROR_IMAGE_REJECTED, client_error::kImageRejected) &&
              is_same(THALWEG_ERROR_PUBLICATION_REVOKED, client_error::kPublicationRevoked) &&
              is_same(THALWEG_ERROR_CLIENT_TIMEOUT, client_error::kClientTimeout) && is_same(THALWEG_ERROR_SERVICE_TIMEOUT, client_error::kServiceTimeout));
static_assert(THALWEG_NOT_CONNECTED == static_cast<int>(OfferStatus::kNotConnected) && THALWEG_MESSAGE_TOO_LONG == static_cast<int>(OfferStatus::kMessageTooLong) &&
              THALWEG_INVALID_BLOCK == static_cast<int>(OfferStatus::kInvalidBlock));
static_assert(THALWEG_CLOSE_SERVICE_TIMEOUT == static_cast<int>(CloseReason::kServiceTimeout) && THALWEG_ABORT == static_cast<int>(PollAction::kAbort) &&
              THALWEG_CHANNEL_NONE == static_cast<int>(ChannelStatus::kNone));

// A handle for what a Result holds; `out` is null when there is an error, or nothing yet.
template <typename Handle, typename T, typename Make>
thalweg_error_t give(Result<T> result, Handle** out, Make&& make) noexcept {
  if (out == nullptr) return invalid("there is no place for the handle");
  *out = nullptr;
  if (!result) return failed(result.error());
  *out = make(std::move(*result));
  return THALWEG_OK;
}
template <typename Handle, typename T, typename Make>
thalweg_error_t give_found(Result<std::optional<T>> result, Handle** out, Make&& make) noexcept {
  if (out == nullptr) return invalid("there is no place for the handle");
  *out = nullptr;
  if (!result) return failed(result.error());
  if (result->has_value()) *out = make(std::move(**result));
  return THALWEG_OK;
}
thalweg_publication* shared_handle(Publication publication) { return new thalweg_publication{false, std::move(publication), {}}; }
thalweg_publication* exclusive_handle(ExclusivePublication publication) { return new thalweg_publication{true, {}, std::move(publication)}; }
thalweg_subscription* subscription_handle(Subscription subscription) { return new thalweg_subscription{std::move(subscription)}; }
thalweg_counter* counter_handle(ClientCounter counter) { return new thalweg_counter{std::move(counter)}; }

SubscriptionHandlers handlers(thalweg_image_handler_t on_available, void* available_clientd, thalweg_image_handler_t on_unavailable, void* unavailable_clientd) {
  return {image_handler(on_available, available_clientd), image_handler(on_unavailable, unavailable_clientd)};
}
}  // namespace

thalweg_error_t thalweg::client::c::failed(const Error& error) noexcept {
  last_error.code = static_cast<thalweg_error_t>(error.code);
  last_error.text = error.message;
  last_error.hint = error.hint;
  return last_error.code;
}

extern "C" {

thalweg_error_t thalweg_error_code(void) noexcept { return last_error.code; }
const char* thalweg_error_text(void) noexcept { return last_error.text.c_str(); }
const char* thalweg_error_hint(void) noexcept { return last_error.hint.c_str(); }
const char* thalweg_offer_text(int64_t result) noexcept { return to_string(result >= 0 ? OfferStatus::kAccepted : static_cast<OfferStatus>(result < -7 ? -128 : result)); }

// ---- context ---------------------------------------------------------------------------------------------------------------------------

thalweg_context_t* thalweg_context_create(void) noexcept { return new thalweg_context{Context::from_environment()}; }
void thalweg_context_destroy(thalweg_context_t* context) noexcept { delete context; }
void thalweg_context_set_directory(thalweg_context_t* context, const char* directory) noexcept { context->context.directory = text_or_empty(directory); }
void thalweg_context_set_client_name(thalweg_context_t* context, const char* name) noexcept { context->context.client_name = text_or_empty(name); }
void thalweg_context_set_connect_timeout(thalweg_context_t* context, int64_t ns) noexcept { context->context.connect_timeout = std::chrono::nanoseconds{ns}; }
void thalweg_context_set_driver_timeout(thalweg_context_t* context, int64_t ns) noexcept { context->context.driver_timeout = std::chrono::nanoseconds{ns}; }
void thalweg_context_set_keepalive_interval(thalweg_context_t* context, int64_t ns) noexcept { context->context.keepalive_interval = std::chrono::nanoseconds{ns}; }
void thalweg_context_set_idle_sleep(thalweg_context_t* context, int64_t ns) noexcept { context->context.idle_sleep = std::chrono::nanoseconds{ns}; }
void thalweg_context_set_resource_linger(thalweg_context_t* context, int64_t ns) noexcept { context->context.resource_linger = std::chrono::nanoseconds{ns}; }
void thalweg_context_set_pre_touch(thalweg_context_t* context, bool pre_touch) noexcept { context->context.pre_touch_mapped_memory = pre_touch; }
void thalweg_context_set_invoker(thalweg_context_t* context, bool is_invoker) noexcept {
  context->context.mode = is_invoker ? ConductorMode::kInvoker : ConductorMode::kOwnThread;
}
void thalweg_context_set_idle(thalweg_context_t* context, thalweg_idle_handler_t handler, void* clientd) noexcept { context->context.idle = close_handler(handler, clientd); }
void thalweg_context_set_on_error(thalweg_context_t* context, thalweg_error_handler_t handler, void* clientd) noexcept {
  context->context.on_error = {};
  if (handler == nullptr) return;
  context->context.on_error = [handler, clientd](const Error& error) { handler(clientd, static_cast<thalweg_error_t>(error.code), error.message.c_str()); };
}
void thalweg_context_set_on_publication_error(thalweg_context_t* context, thalweg_publication_error_handler_t handler, void* clientd) noexcept {
  context->context.on_publication_error = {};
  if (handler == nullptr) return;
  context->context.on_publication_error = [handler, clientd](const PublicationError& error) {
    thalweg_publication_error_t told{};
    told.registration_id = error.registration_id;
    told.destination_registration_id = error.destination_registration_id;
    told.receiver_id = error.receiver_id;
    told.has_group_tag = error.group_tag.has_value();
    told.group_tag = error.group_tag.value_or(-1);
    told.session_id = error.session_id;
    told.stream_id = error.stream_id;
    told.code = static_cast<thalweg_error_t>(error.code);
    told.source_address = error.source_address.c_str();
    told.text = error.text.c_str();
    handler(clientd, &told);
  };
}
void thalweg_context_set_on_available_image(thalweg_context_t* context, thalweg_image_handler_t handler, void* clientd) noexcept {
  context->context.on_available_image = image_handler(handler, clientd);
}
void thalweg_context_set_on_unavailable_image(thalweg_context_t* context, thalweg_image_handler_t handler, void* clientd) noexcept {
  context->context.on_unavailable_image = image_handler(handler, clientd);
}
void thalweg_context_set_on_available_counter(thalweg_context_t* context, thalweg_counter_handler_t handler, void* clientd) noexcept {
  context->context.on_available_counter = counter_handler(handler, clientd);
}
void thalweg_context_set_on_unavailable_counter(thalweg_context_t* context, thalweg_counter_handler_t handler, void* clientd) noexcept {
  context->context.on_unavailable_counter = counter_handler(handler, clientd);
}
void thalweg_context_set_on_close(thalweg_context_t* context, thalweg_close_handler_t handler, void* clientd) noexcept {
  context->context.on_close = close_handler(handler, clientd);
}

// ---- client ----------------------------------------------------------------------------------------------------------------------------

thalweg_error_t thalweg_connect(const thalweg_context_t* context, thalweg_client_t** client) noexcept {
  return give(Client::connect(context != nullptr ? context->context : Context::from_environment()), client, [](Client connected) {
    const thalweg_counters counters{connected.counters()};
    return new thalweg_client{std::move(connected), counters};
  });
}
void thalweg_client_close(thalweg_client_t* client) noexcept { client->client.close(); }
void thalweg_client_destroy(thalweg_client_t* client) noexcept { delete client; }
int thalweg_client_do_work(thalweg_client_t* client) noexcept { return client->client.do_work(); }
bool thalweg_client_is_closed(const thalweg_client_t* client) noexcept { return client->client.is_closed(); }
thalweg_close_reason_t thalweg_client_close_reason(const thalweg_client_t* client) noexcept { return static_cast<thalweg_close_reason_t>(client->client.close_reason()); }
int64_t thalweg_client_id(const thalweg_client_t* client) noexcept { return client->client.client_id(); }
int64_t thalweg_client_driver_pid(const thalweg_client_t* client) noexcept { return client->client.driver_pid(); }
const char* thalweg_client_directory(const thalweg_client_t* client) noexcept { return client->client.directory().c_str(); }
int64_t thalweg_client_next_correlation_id(thalweg_client_t* client) noexcept { return client->client.next_correlation_id(); }
const thalweg_counters_t* thalweg_client_counters(const thalweg_client_t* client) noexcept { return &client->counters; }

int64_t thalweg_client_add_available_counter_handler(thalweg_client_t* client, thalweg_counter_handler_t handler, void* clientd) noexcept {
  return handler == nullptr ? 0 : static_cast<std::int64_t>(client->client.add_available_counter_handler(counter_handler(handler, clientd)));
}
int64_t thalweg_client_add_unavailable_counter_handler(thalweg_client_t* client, thalweg_counter_handler_t handler, void* clientd) noexcept {
  return handler == nullptr ? 0 : static_cast<std::int64_t>(client->client.add_unavailable_counter_handler(counter_handler(handler, clientd)));
}
int64_t thalweg_client_add_close_handler(thalweg_client_t* client, thalweg_close_handler_t handler, void* clientd) noexcept {
  return handler == nullptr ? 0 : static_cast<std::int64_t>(client->client.add_close_handler(close_handler(handler, clientd)));
}
bool thalweg_client_remove_handler(thalweg_client_t* client, int64_t handler_id) noexcept {
  return handler_id != 0 && client->client.remove_handler(static_cast<HandlerId>(handler_id));  // 0: those of the context
}

// ---- what it adds ----------------------------------------------------------------------------------------------------------------------

thalweg_error_t thalweg_add_publication(thalweg_client_t* client, const char* channel, int32_t stream_id, thalweg_publication_t** publication) noexcept {
  return give(client->client.add_publication(text_or_empty(channel), stream_id), publication, shared_handle);
}
thalweg_error_t thalweg_add_exclusive_publication(thalweg_client_t* client, const char* channel, int32_t stream_id, thalweg_publication_t** publication) noexcept {
  return give(client->client.add_exclusive_publication(text_or_empty(channel), stream_id), publication, exclusive_handle);
}
thalweg_error_t thalweg_async_add_publication(thalweg_client_t* client, const char* channel, int32_t stream_id, int64_t* id) noexcept {
  return give_id(client->client.async_add_publication(text_or_empty(channel), stream_id), id);
}
thalweg_error_t thalweg_async_add_exclusive_publication(thalweg_client_t* client, const char* channel, int32_t stream_id, int64_t* id) noexcept {
  return give_id(client->client.async_add_exclusive_publication(text_or_empty(channel), stream_id), id);
}
thalweg_error_t thalweg_find_publication(thalweg_client_t* client, int64_t id, thalweg_publication_t** publication) noexcept {
  return give_found(client->client.find_publication(static_cast<RegistrationId>(id)), publication, shared_handle);
}
thalweg_error_t thalweg_find_exclusive_publication(thalweg_client_t* client, int64_t id, thalweg_publication_t** publication) noexcept {
  return give_found(client->client.find_exclusive_publication(static_cast<RegistrationId>(id)), publication, exclusive_handle);
}
thalweg_error_t thalweg_add_subscription(thalweg_client_t* client, const char* channel, int32_t stream_id, thalweg_image_handler_t on_available,
                                         void* available_clientd, thalweg_image_handler_t on_unavailable, void* unavailable_clientd,
                                         thalweg_subscription_t** subscription) noexcept {
  return give(client->client.add_subscription(text_or_empty(channel), stream_id, handlers(on_available, available_clientd, on_unavailable, unavailable_clientd)),
              subscription, subscription_handle);
}
thalweg_error_t thalweg_async_add_subscription(thalweg_client_t* client, const char* channel, int32_t stream_id, thalweg_image_handler_t on_available,
                                               void* available_clientd, thalweg_image_handler_t on_unavailable, void* unavailable_clientd, int64_t* id) noexcept {
  return give_id(
      client->client.async_add_subscription(text_or_empty(channel), stream_id, handlers(on_available, available_clientd, on_unavailable, unavailable_clientd)), id);
}
thalweg_error_t thalweg_find_subscription(thalweg_client_t* client, int64_t id, thalweg_subscription_t** subscription) noexcept {
  return give_found(client->client.find_subscription(static_cast<RegistrationId>(id)), subscription, subscription_handle);
}
thalweg_error_t thalweg_add_counter(thalweg_client_t* client, int32_t type_id, const void* key, size_t key_length, const char* label, thalweg_counter_t** counter) noexcept {
  return give(client->client.add_counter(type_id, bytes_of(key, key_length), text_or_empty(label)), counter, counter_handle);
}
thalweg_error_t thalweg_async_add_counter(thalweg_client_t* client, int32_t type_id, const void* key, size_t key_length, const char* label, int64_t* id) noexcept {
  return give_id(client->client.async_add_counter(type_id, bytes_of(key, key_length), text_or_empty(label)), id);
}
thalweg_error_t thalweg_add_static_counter(thalweg_client_t* client, int32_t type_id, int64_t registration_id, const void* key, size_t key_length, const char* label,
                                           thalweg_counter_t** counter) noexcept {
  return give(client->client.add_static_counter(type_id, registration_id, bytes_of(key, key_length), text_or_empty(label)), counter, counter_handle);
}
thalweg_error_t thalweg_async_add_static_counter(thalweg_client_t* client, int32_t type_id, int64_t registration_id, const void* key, size_t key_length,
                                                 const char* label, int64_t* id) noexcept {
  return give_id(client->client.async_add_static_counter(type_id, registration_id, bytes_of(key, key_length), text_or_empty(label)), id);
}
thalweg_error_t thalweg_find_counter(thalweg_client_t* client, int64_t id, thalweg_counter_t** counter) noexcept {
  return give_found(client->client.find_counter(static_cast<RegistrationId>(id)), counter, counter_handle);
}
thalweg_error_t thalweg_next_available_session_id(thalweg_client_t* client, int32_t stream_id, int32_t* session_id) noexcept {
  const auto answer = client->client.next_available_session_id(stream_id);
  if (answer) *session_id = *answer;
  return status(answer);
}
thalweg_error_t thalweg_async_next_available_session_id(thalweg_client_t* client, int32_t stream_id, int64_t* id) noexcept {
  return give_id(client->client.async_next_available_session_id(stream_id), id);
}
thalweg_error_t thalweg_find_next_available_session_id(thalweg_client_t* client, int64_t id, bool* is_there, int32_t* session_id) noexcept {
  const auto answer = client->client.find_next_available_session_id(static_cast<RegistrationId>(id));
  *is_there = answer && answer->has_value();
  if (*is_there) *session_id = **answer;
  return status(answer);
}

// ---- destinations ----------------------------------------------------------------------------------------------------------------------

thalweg_error_t thalweg_publication_add_destination(thalweg_client_t* client, thalweg_publication_t* publication, const char* channel, int64_t* id) noexcept {
  return give_id(client->client.add_destination(publication->handle(), text_or_empty(channel)), id);
}
thalweg_error_t thalweg_publication_remove_destination(thalweg_client_t* client, thalweg_publication_t* publication, const char* channel) noexcept {
  return status(client->client.remove_destination(publication->handle(), text_or_empty(channel)));
}
thalweg_error_t thalweg_publication_remove_destination_by_id(thalweg_client_t* client, thalweg_publication_t* publication, int64_t destination) noexcept {
  return status(client->client.remove_destination(publication->handle(), static_cast<RegistrationId>(destination)));
}
thalweg_error_t thalweg_publication_async_add_destination(thalweg_client_t* client, thalweg_publication_t* publication, const char* channel, int64_t* id) noexcept {
  return give_id(client->client.async_add_destination(publication->handle(), text_or_empty(channel)), id);
}
thalweg_error_t thalweg_publication_async_remove_destination(thalweg_client_t* client, thalweg_publication_t* publication, const char* channel, int64_t* id) noexcept {
  return give_id(client->client.async_remove_destination(publication->handle(), text_or_empty(channel)), id);
}
thalweg_error_t thalweg_publication_async_remove_destination_by_id(thalweg_client_t* client, thalweg_publication_t* publication, int64_t destination, int64_t* id) noexcept {
  return give_id(client->client.async_remove_destination(publication->handle(), static_cast<RegistrationId>(destination)), id);
}
thalweg_error_t thalweg_subscription_add_destination(thalweg_client_t* client, thalweg_subscription_t* subscription, const char* channel, int64_t* id) noexcept {
  return give_id(client->client.add_destination(subscription->subscription, text_or_empty(channel)), id);
}
thalweg_error_t thalweg_subscription_remove_destination(thalweg_client_t* client, thalweg_subscription_t* subscription, const char* channel) noexcept {
  return status(client->client.remove_destination(subscription->subscription, text_or_empty(channel)));
}
thalweg_error_t thalweg_subscription_remove_destination_by_id(thalweg_client_t* client, thalweg_subscription_t* subscription, int64_t destination) noexcept {
  return status(client->client.remove_destination(subscription->subscription, static_cast<RegistrationId>(destination)));
}
thalweg_error_t thalweg_subscription_async_add_destination(thalweg_client_t* client, thalweg_subscription_t* subscription, const char* channel, int64_t* id) noexcept {
  return give_id(client->client.async_add_destination(subscription->subscription, text_or_empty(channel)), id);
}
thalweg_error_t thalweg_subscription_async_remove_destination(thalweg_client_t* client, thalweg_subscription_t* subscription, const char* channel, int64_t* id) noexcept {
  return give_id(client->client.async_remove_destination(subscription->subscription, text_or_empty(channel)), id);
}
thalweg_error_t thalweg_subscription_async_remove_destination_by_id(thalweg_client_t* client, thalweg_subscription_t* subscription, int64_t destination, int64_t* id) noexcept {
  return give_id(client->client.async_remove_destination(subscription->subscription, static_cast<RegistrationId>(destination)), id);
}
thalweg_error_t thalweg_is_done(thalweg_client_t* client, int64_t id, bool* is_done) noexcept {
  const auto done = client->client.is_done(static_cast<RegistrationId>(id));
  *is_done = done.value_or(false);
  return status(done);
}

}  // extern "C"
