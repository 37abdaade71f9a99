// thalweg.h: subscriptions, images and assemblers.
#include "dataplane/client/c/handles.hpp"

using namespace thalweg;
using namespace thalweg::client;
using namespace thalweg::client::c;

struct thalweg_assembler {
  FragmentAssembler<OnFragment> assembler;
};
struct thalweg_controlled_assembler {
  FragmentAssembler<OnControlled> assembler;
};

namespace {
thalweg_image_t* image_handle(std::shared_ptr<Image> image) { return image != nullptr ? new thalweg_image{std::move(image)} : nullptr; }
}  // namespace

extern "C" {

void thalweg_header_read(const thalweg_header_t* header, thalweg_header_values_t* values) noexcept {
  const Header& from = header_of(header);
  *values = {from.position(), from.reserved_value(), from.session_id(), from.stream_id(), from.term_id(), from.term_offset(), from.flags()};
}

// ---- subscriptions ---------------------------------------------------------------------------------------------------------------------

void thalweg_subscription_destroy(thalweg_subscription_t* subscription) noexcept { delete subscription; }
void thalweg_subscription_close(thalweg_subscription_t* subscription) noexcept { subscription->subscription.close(); }
int thalweg_subscription_poll(thalweg_subscription_t* subscription, thalweg_fragment_handler_t handler, void* clientd, int limit) noexcept {
  return subscription->subscription.poll(OnFragment{handler, clientd}, limit);
}
int thalweg_subscription_controlled_poll(thalweg_subscription_t* subscription, thalweg_controlled_handler_t handler, void* clientd, int limit) noexcept {
  return subscription->subscription.controlled_poll(OnControlled{handler, clientd}, limit);
}
int64_t thalweg_subscription_block_poll(thalweg_subscription_t* subscription, thalweg_block_handler_t handler, void* clientd, int32_t length_limit) noexcept {
  return subscription->subscription.block_poll(OnBlock{handler, clientd}, length_limit);
}
bool thalweg_subscription_is_connected(thalweg_subscription_t* subscription) noexcept { return subscription->subscription.is_connected(); }
bool thalweg_subscription_is_closed(const thalweg_subscription_t* subscription) noexcept { return subscription->subscription.is_closed(); }
const char* thalweg_subscription_channel(const thalweg_subscription_t* subscription) noexcept { return subscription->subscription.channel().c_str(); }
int32_t thalweg_subscription_stream_id(const thalweg_subscription_t* subscription) noexcept { return subscription->subscription.stream_id(); }
int64_t thalweg_subscription_registration_id(const thalweg_subscription_t* subscription) noexcept { return subscription->subscription.registration_id(); }
int32_t thalweg_subscription_channel_status_id(const thalweg_subscription_t* subscription) noexcept { return subscription->subscription.channel_status_id(); }
thalweg_channel_status_t thalweg_subscription_channel_status(const thalweg_subscription_t* subscription) noexcept {
  return static_cast<thalweg_channel_status_t>(subscription->subscription.channel_status());
}
size_t thalweg_subscription_local_address(const thalweg_subscription_t* subscription, size_t index, char* buffer, size_t capacity) noexcept {
  const auto addresses = subscription->subscription.local_addresses();
  return copy_text(index < addresses.size() ? std::string_view{addresses[index]} : std::string_view{}, buffer, capacity);
}
size_t thalweg_subscription_try_resolve_channel_endpoint_port(const thalweg_subscription_t* subscription, char* buffer, size_t capacity) noexcept {
  const auto channel = subscription->subscription.try_resolve_channel_endpoint_port();
  return copy_text(channel ? std::string_view{*channel} : std::string_view{}, buffer, capacity);
}
size_t thalweg_subscription_images(const thalweg_subscription_t* subscription, thalweg_image_t** images, size_t capacity) noexcept {
  const auto all = subscription->subscription.images();
  for (std::size_t i = 0; i < all.size() && i < capacity; ++i) images[i] = image_handle(all[i]);
  return all.size();
}
thalweg_image_t* thalweg_subscription_image_by_session(const thalweg_subscription_t* subscription, int32_t session_id) noexcept {
  return image_handle(subscription->subscription.image_by_session(session_id));
}
thalweg_image_t* thalweg_subscription_image_by_correlation_id(const thalweg_subscription_t* subscription, int64_t correlation_id) noexcept {
  return image_handle(subscription->subscription.image_by_correlation_id(correlation_id));
}

// ---- images ----------------------------------------------------------------------------------------------------------------------------

thalweg_image_t* thalweg_image_retain(const thalweg_image_t* image) noexcept { return image_handle(image->image); }
void thalweg_image_release(thalweg_image_t* image) noexcept { delete image; }
int thalweg_image_poll(thalweg_image_t* image, thalweg_fragment_handler_t handler, void* clientd, int limit) noexcept {
  return image->image->poll(OnFragment{handler, clientd}, limit);
}
int thalweg_image_bounded_poll(thalweg_image_t* image, thalweg_fragment_handler_t handler, void* clientd, int64_t limit_position, int limit) noexcept {
  return image->image->bounded_poll(OnFragment{handler, clientd}, limit_position, limit);
}
int thalweg_image_controlled_poll(thalweg_image_t* image, thalweg_controlled_handler_t handler, void* clientd, int limit) noexcept {
  return image->image->controlled_poll(OnControlled{handler, clientd}, limit);
}
int thalweg_image_bounded_controlled_poll(thalweg_image_t* image, thalweg_controlled_handler_t handler, void* clientd, int64_t limit_position, int limit) noexcept {
  return image->image->bounded_controlled_poll(OnControlled{handler, clientd}, limit_position, limit);
}
int64_t thalweg_image_controlled_peek(thalweg_image_t* image, int64_t from, thalweg_controlled_handler_t handler, void* clientd, int64_t limit_position) noexcept {
  return image->image->controlled_peek(from, OnControlled{handler, clientd}, limit_position);
}
int64_t thalweg_image_block_poll(thalweg_image_t* image, thalweg_block_handler_t handler, void* clientd, int32_t length_limit) noexcept {
  return image->image->block_poll(OnBlock{handler, clientd}, length_limit);
}
thalweg_error_t thalweg_image_set_position(thalweg_image_t* image, int64_t position) noexcept { return status(image->image->set_position(position)); }
thalweg_error_t thalweg_image_reject(thalweg_image_t* image, const char* reason) noexcept { return status(image->image->reject(text_or_empty(reason))); }
int64_t thalweg_image_correlation_id(const thalweg_image_t* image) noexcept { return image->image->correlation_id(); }
int64_t thalweg_image_subscription_registration_id(const thalweg_image_t* image) noexcept { return image->image->subscription_registration_id(); }
int32_t thalweg_image_session_id(const thalweg_image_t* image) noexcept { return image->image->session_id(); }
int32_t thalweg_image_stream_id(const thalweg_image_t* image) noexcept { return image->image->stream_id(); }
const char* thalweg_image_source_identity(const thalweg_image_t* image) noexcept { return image->image->source_identity().c_str(); }
int32_t thalweg_image_initial_term_id(const thalweg_image_t* image) noexcept { return image->image->initial_term_id(); }
int32_t thalweg_image_term_length(const thalweg_image_t* image) noexcept { return image->image->term_length(); }
int32_t thalweg_image_max_message_length(const thalweg_image_t* image) noexcept { return image->image->max_message_length(); }
int32_t thalweg_image_subscriber_position_id(const thalweg_image_t* image) noexcept { return image->image->subscriber_position_id(); }
int64_t thalweg_image_join_position(const thalweg_image_t* image) noexcept { return image->image->join_position(); }
int64_t thalweg_image_position(const thalweg_image_t* image) noexcept { return image->image->position(); }
int64_t thalweg_image_end_of_stream_position(const thalweg_image_t* image) noexcept { return image->image->end_of_stream_position(); }
int32_t thalweg_image_active_transport_count(const thalweg_image_t* image) noexcept { return image->image->active_transport_count(); }
bool thalweg_image_is_closed(const thalweg_image_t* image) noexcept { return image->image->is_closed(); }
bool thalweg_image_is_end_of_stream(const thalweg_image_t* image) noexcept { return image->image->is_end_of_stream(); }
bool thalweg_image_is_revoked(const thalweg_image_t* image) noexcept { return image->image->is_revoked(); }

// ---- assemblers ------------------------------------------------------------------------------------------------------------------------

thalweg_assembler_t* thalweg_assembler_create(thalweg_fragment_handler_t handler, void* clientd) noexcept {
  return new thalweg_assembler{FragmentAssembler<OnFragment>{OnFragment{handler, clientd}}};
}
void thalweg_assembler_destroy(thalweg_assembler_t* assembler) noexcept { delete assembler; }
void thalweg_assembler_on_fragment(void* assembler, const uint8_t* data, size_t length, const thalweg_header_t* header) noexcept {
  static_cast<thalweg_assembler*>(assembler)->assembler(bytes_of(data, length), header_of(header));
}
thalweg_controlled_assembler_t* thalweg_controlled_assembler_create(thalweg_controlled_handler_t handler, void* clientd) noexcept {
  return new thalweg_controlled_assembler{FragmentAssembler<OnControlled>{OnControlled{handler, clientd}}};
}
void thalweg_controlled_assembler_destroy(thalweg_controlled_assembler_t* assembler) noexcept { delete assembler; }
thalweg_action_t thalweg_controlled_assembler_on_fragment(void* assembler, const uint8_t* data, size_t length, const thalweg_header_t* header) noexcept {
  return static_cast<thalweg_action_t>(static_cast<thalweg_controlled_assembler*>(assembler)->assembler(bytes_of(data, length), header_of(header)));
}

}  // extern "C"
