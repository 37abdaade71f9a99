// The driver's answers and notices (client-protocol 4.4, 6.3). Every client hears everything; what matches none of our ids is ignored.
#include <arpa/inet.h>

#include <algorithm>

#include "dataplane/client/detail/conductor.hpp"

namespace thalweg::client::detail {
namespace {
constexpr int kMessagesPerTurn = 64;

ErrorCode error_code(std::int32_t code) noexcept {
  switch (static_cast<shm::ClientError>(code)) {
    case shm::ClientError::kInvalidChannel: return ErrorCode::kInvalidChannel;
    case shm::ClientError::kUnknownSubscription: return client_error::kUnknownSubscription;
    case shm::ClientError::kUnknownPublication: return client_error::kUnknownPublication;
    case shm::ClientError::kChannelEndpointError: return client_error::kChannelEndpoint;
    case shm::ClientError::kUnknownCounter: return client_error::kUnknownCounter;
    case shm::ClientError::kMalformedCommand: return client_error::kMalformedCommand;
    case shm::ClientError::kImageRejected: return client_error::kImageRejected;
    case shm::ClientError::kPublicationRevoked: return client_error::kPublicationRevoked;
    case shm::ClientError::kNotSupported:
    case shm::ClientError::kUnknownCommandType: return ErrorCode::kUnsupported;
    case shm::ClientError::kUnknownHost: return ErrorCode::kUnknownHost;
    case shm::ClientError::kResourceTemporarilyUnavailable: return ErrorCode::kInUse;
    case shm::ClientError::kStorageSpace: return ErrorCode::kNoSpace;
    default: return ErrorCode::kGeneric;
  }
}

Error driver_error(std::int32_t code, std::string_view text) {
  Error error{error_code(code), std::string{text}, {}};
  if (error.code == ErrorCode::kInUse) error.hint = "the endpoint is just being closed; try again";
  return error;
}

// "10.0.0.1:40123"; empty for an address of no kind that we know.
std::string source_of(const shm::OnPublicationError& m) {
  constexpr std::int16_t kIpv4 = 1, kIpv6 = 2;
  char text[INET6_ADDRSTRLEN];
  if (m.address_type == kIpv4 && ::inet_ntop(AF_INET, m.address, text, sizeof text) != nullptr) return std::string{text} + ":" + std::to_string(m.source_port);
  if (m.address_type == kIpv6 && ::inet_ntop(AF_INET6, m.address, text, sizeof text) != nullptr) {
    return "[" + std::string{text} + "]:" + std::to_string(m.source_port);
  }
  return {};
}
}  // namespace

int Conductor::receive() {
  int count = 0;
  std::int32_t type_id = 0;
  shm::Bytes body;
  while (count < kMessagesPerTurn && !is_closed() && from_driver_.receive(type_id, body)) {
    dispatch(type_id, body);
    ++count;
  }
  if (from_driver_.lapped_count() != laps_seen_) {
    laps_seen_ = from_driver_.lapped_count();
    on_lapped();
  }
  return count;
}

void Conductor::dispatch(std::int32_t type_id, shm::Bytes body) {
  const auto handle = [&]<typename M>(std::optional<M> message, auto&& with) {
    if (message) {
      with(*message);
    } else {
      malformed(type_id);
    }
  };
  switch (static_cast<shm::Response>(type_id)) {
    case shm::Response::kError: return handle(shm::decode<shm::OnError>(body), [&](const auto& m) { on_error(m); });
    case shm::Response::kAvailableImage:
      return handle(shm::decode<shm::OnAvailableImage>(body), [&](const auto& m) { on_available_image(m); });
    case shm::Response::kPublicationReady:
      return handle(shm::decode<shm::OnPublicationReady>(body), [&](const auto& m) { on_publication_ready(m, ResourceKind::kPublication); });
    case shm::Response::kExclusivePublicationReady:
      return handle(shm::decode<shm::OnPublicationReady>(body),
                    [&](const auto& m) { on_publication_ready(m, ResourceKind::kExclusivePublication); });
    case shm::Response::kOperationSuccess:
      return handle(shm::decode<shm::OnOperationSuccess>(body), [&](const auto& m) { on_operation_success(m); });
    case shm::Response::kUnavailableImage:
      return handle(shm::decode<shm::OnUnavailableImage>(body), [&](const auto& m) { on_unavailable_image(m); });
    case shm::Response::kSubscriptionReady:
      return handle(shm::decode<shm::OnSubscriptionReady>(body), [&](const auto& m) { on_subscription_ready(m); });
    case shm::Response::kCounterReady: return handle(shm::decode<shm::OnCounter>(body), [&](const auto& m) { on_counter_ready(m); });
    case shm::Response::kUnavailableCounter: return handle(shm::decode<shm::OnCounter>(body), [&](const auto& m) { on_unavailable_counter(m); });
    case shm::Response::kStaticCounter: return handle(shm::decode<shm::OnCounter>(body), [&](const auto& m) { on_static_counter(m); });
    case shm::Response::kNextAvailableSessionId:
      return handle(shm::decode<shm::OnNextAvailableSessionId>(body), [&](const auto& m) { on_next_session_id(m); });
    case shm::Response::kClientTimeout:
      return handle(shm::decode<shm::OnClientTimeout>(body), [&](const auto& m) { on_client_timeout(m); });
    case shm::Response::kPublicationError:
      return handle(shm::decode<shm::OnPublicationError>(body), [&](const auto& m) { on_publication_error(m); });
  }
  // A later driver may know more kinds; they are none of our business.
}

void Conductor::malformed(std::int32_t type_id) {
  report({ErrorCode::kIo, "malformed message of type " + std::to_string(type_id) + " from the media driver", {}});
}

// Messages were lost. Whatever they said about our images can still be seen in the counters: an image whose position counter is gone is gone.
void Conductor::on_lapped() {
  report({ErrorCode::kIo, "unable to keep up with the driver's notices: some were lost", "turn the client's conductor more often"});
  std::vector<shm::OnUnavailableImage> gone;
  {
    const std::lock_guard lock{mutex_};
    for (const auto& [id, subscription] : subscriptions_) {
      for (const auto& image : subscription->owned->images) {
        const auto view = counters_.find(image->subscriber_position_id());
        if (!view || view->registration_id != id || view->reference_id != image->correlation_id()) {
          gone.push_back({image->correlation_id(), id, image->stream_id(), {}});
        }
      }
    }
  }
  for (const auto& m : gone) on_unavailable_image(m);
}

// ---- answers ---------------------------------------------------------------------------------------------------------------------------

Registration* Conductor::pending(std::int64_t correlation_id, ResourceKind kind) {
  const auto it = registrations_.find(correlation_id);
  if (it == registrations_.end() || it->second.kind != kind || it->second.state != Registration::State::kPending) return nullptr;
  return &it->second;
}

void Conductor::settle(Registration& registration, Result<> outcome) {
  --pending_count_;
  if (registration.is_unattended) {
    has_unattended_ = true;
    if (!outcome) unattended_errors_.push_back(outcome.error());
  }
  if (outcome) {
    registration.state = Registration::State::kReady;
  } else {
    registration.state = Registration::State::kFailed;
    registration.error = std::move(outcome.error());
  }
  answered_.notify_all();
}

void Conductor::on_error(const shm::OnError& m) {
  bool is_endpoint_error = false;
  {
    const std::lock_guard lock{mutex_};
    const auto it = registrations_.find(m.offending_correlation_id);
    if (m.code == static_cast<std::int32_t>(shm::ClientError::kChannelEndpointError)) {
      // Older drivers: the id is that of a channel-status counter (6.4).
      for (const auto& [id, weak] : publications_) {
        const auto core = weak.lock();
        is_endpoint_error |= core != nullptr && core->channel_status_id == m.offending_correlation_id;
      }
      for (const auto& [id, core] : subscriptions_) is_endpoint_error |= core->channel_status_id == m.offending_correlation_id;
    } else if (it != registrations_.end() && it->second.state == Registration::State::kPending) {
      settle(it->second, tl::unexpected<Error>{driver_error(m.code, m.text)});
    } else {
      abandoned_.erase(m.offending_correlation_id);
    }
  }
  if (is_endpoint_error) report(driver_error(m.code, m.text));
}

Result<std::shared_ptr<const MappedLog>> Conductor::map_log(std::int64_t id, std::string_view path) {
  if (const auto it = logs_.find(id); it != logs_.end()) {
    if (auto mapping = it->second.lock()) return mapping;
  }
  auto mapping = MappedLog::open(path, context_.pre_touch_mapped_memory);
  if (mapping) logs_[id] = *mapping;
  return mapping;
}

Result<std::shared_ptr<PublicationCore>> Conductor::make_publication(const shm::OnPublicationReady& m, const Registration& registration) {
  const bool has_status = m.channel_status_counter_id != shm::kNullCounterId;
  if (!is_counter_id(m.publisher_limit_counter_id) || (has_status && !is_counter_id(m.channel_status_counter_id))) {
    return fail(ErrorCode::kIo, "the media driver named a counter that does not exist");
  }
  auto mapping = map_log(m.original_registration_id, m.log_path);
  if (!mapping) return tl::unexpected<Error>{std::move(mapping.error())};

  auto core = std::make_shared<PublicationCore>();
  core->log = (*mapping)->log;
  core->limit = counters_.counter(m.publisher_limit_counter_id);
  core->position_max = wire::max_position((*mapping)->term_length);
  core->identity = {m.session_id, m.stream_id};
  core->initial_term_id = (*mapping)->initial_term_id;
  core->max_payload_length = (*mapping)->max_payload_length;
  core->max_message_length = (*mapping)->max_message_length;
  core->is_exclusive = registration.kind == ResourceKind::kExclusivePublication;
  if (has_status) core->channel_status = counters_.counter(m.channel_status_counter_id);
  core->channel_status_id = m.channel_status_counter_id;
  core->limit_counter_id = m.publisher_limit_counter_id;
  core->registration_id = m.correlation_id;
  core->original_registration_id = m.original_registration_id;
  core->channel = registration.channel;
  core->mapping = std::move(*mapping);
  core->cnc = cnc_;
  core->conductor = shared_from_this();
  return core;
}

void Conductor::on_publication_ready(const shm::OnPublicationReady& m, ResourceKind kind) {
  const std::lock_guard lock{mutex_};
  Registration* registration = pending(m.correlation_id, kind);
  if (registration == nullptr) return remove_abandoned(m.correlation_id, shm::Command::kRemovePublication);
  auto core = make_publication(m, *registration);
  if (core) {
    registration->publication = *core;
    publications_[m.correlation_id] = *core;
    settle(*registration, {});
  } else {
    abandoned_.insert(m.correlation_id);
    settle(*registration, tl::unexpected<Error>{std::move(core.error())});
    remove_abandoned(m.correlation_id, shm::Command::kRemovePublication);
  }
}

void Conductor::on_subscription_ready(const shm::OnSubscriptionReady& m) {
  const std::lock_guard lock{mutex_};
  Registration* registration = pending(m.correlation_id, ResourceKind::kSubscription);
  if (registration == nullptr) return remove_abandoned(m.correlation_id, shm::Command::kRemoveSubscription);
  auto core = std::make_shared<SubscriptionCore>();
  core->registration_id = m.correlation_id;
  core->stream_id = registration->stream_id;
  core->channel = registration->channel;
  core->channel_status_id = m.channel_status_counter_id;
  if (is_counter_id(m.channel_status_counter_id)) core->channel_status = counters_.counter(m.channel_status_counter_id);
  core->on_available_image = registration->on_available_image;
  core->on_unavailable_image = registration->on_unavailable_image;
  core->cnc = cnc_;
  core->conductor = shared_from_this();
  core->owned = std::make_unique<const ImageList>();
  core->current.store(core->owned.get(), std::memory_order_release);
  subscriptions_[m.correlation_id] = core;
  registration->subscription = std::move(core);
  settle(*registration, {});
}

void Conductor::on_operation_success(const shm::OnOperationSuccess& m) {
  const std::lock_guard lock{mutex_};
  if (Registration* registration = pending(m.correlation_id, ResourceKind::kCommand)) settle(*registration, {});
  abandoned_.erase(m.correlation_id);
}

void Conductor::make_counter(Registration& registration, const shm::OnCounter& m) {
  if (!is_counter_id(m.counter_id)) return settle(registration, fail(ErrorCode::kIo, "the media driver named a counter that does not exist"));
  auto core = std::make_shared<CounterCore>();
  core->value = counters_.counter(m.counter_id);
  core->counter_id = m.counter_id;
  core->registration_id = registration.is_static ? registration.chosen_registration_id : m.correlation_id;
  core->correlation_id = m.correlation_id;
  core->is_static = registration.is_static;
  core->cnc = cnc_;
  core->conductor = shared_from_this();
  counter_handles_[m.correlation_id] = core;
  registration.counter = std::move(core);
  settle(registration, {});
}

void Conductor::on_counter_ready(const shm::OnCounter& m) {
  {
    const std::lock_guard lock{mutex_};
    Registration* const registration = pending(m.correlation_id, ResourceKind::kCounter);
    if (registration == nullptr) {
      remove_abandoned(m.correlation_id, shm::Command::kRemoveCounter);
    } else if (!registration->is_static) {
      make_counter(*registration, m);
    }
  }
  available_counter_.call(m.correlation_id, m.counter_id);
}

void Conductor::on_unavailable_counter(const shm::OnCounter& m) {
  {
    const std::lock_guard lock{mutex_};
    if (const auto it = counter_handles_.find(m.correlation_id); it != counter_handles_.end()) {
      const auto core = it->second.lock();
      if (core == nullptr || !core->is_static) {
        if (core != nullptr) core->is_closed.store(true, std::memory_order_release);
        counter_handles_.erase(it);
      }
    }
  }
  unavailable_counter_.call(m.correlation_id, m.counter_id);
}

void Conductor::on_static_counter(const shm::OnCounter& m) {
  const std::lock_guard lock{mutex_};
  Registration* const registration = pending(m.correlation_id, ResourceKind::kCounter);
  if (registration != nullptr && registration->is_static) return make_counter(*registration, m);
  abandoned_.erase(m.correlation_id);  // it stays: nobody owns it
}

void Conductor::on_next_session_id(const shm::OnNextAvailableSessionId& m) {
  const std::lock_guard lock{mutex_};
  abandoned_.erase(m.correlation_id);
  Registration* const registration = pending(m.correlation_id, ResourceKind::kSessionId);
  if (registration == nullptr) return;
  registration->session_id = m.session_id;
  settle(*registration, {});
}

// ---- images ----------------------------------------------------------------------------------------------------------------------------

Result<std::shared_ptr<Image>> Conductor::make_image(const shm::OnAvailableImage& m) {
  if (!is_counter_id(m.subscriber_position_counter_id)) {
    return fail(ErrorCode::kIo, "the media driver named a counter that does not exist");
  }
  auto mapping = map_log(m.correlation_id, m.log_path);
  if (!mapping) return tl::unexpected<Error>{std::move(mapping.error())};
  ImageSpec spec;
  spec.position_counter = counters_.counter(m.subscriber_position_counter_id);
  spec.join_position = spec.position_counter.get();
  if (spec.join_position < 0 || spec.join_position % frame::kAlignment != 0 || spec.join_position > wire::max_position((*mapping)->term_length)) {
    return fail(ErrorCode::kIo, "the subscriber position " + std::to_string(spec.join_position) + " of a new image is impossible");
  }
  spec.correlation_id = m.correlation_id;
  spec.subscription_registration_id = m.subscription_registration_id;
  spec.session_id = m.session_id;
  spec.stream_id = m.stream_id;
  spec.position_counter_id = m.subscriber_position_counter_id;
  spec.source_identity = m.source_identity;
  spec.mapping = std::move(*mapping);
  spec.cnc = cnc_;
  spec.conductor = weak_from_this();
  return std::make_shared<Image>(std::move(spec));
}

// Publishes a new list; the old one waits until the polling thread has seen the new one.
void Conductor::replace_images(SubscriptionCore& core, std::vector<std::shared_ptr<Image>> images) {
  auto list = std::make_unique<const ImageList>(ImageList{core.owned->version + 1, std::move(images)});
  core.current.store(list.get(), std::memory_order_release);  // pairs with SubscriptionCore::acquire
  core.retired.push_back(std::move(core.owned));
  core.owned = std::move(list);
}

void Conductor::on_available_image(const shm::OnAvailableImage& m) {
  std::shared_ptr<SubscriptionCore> subscription;
  std::shared_ptr<Image> image;
  std::optional<Error> error;
  {
    const std::lock_guard lock{mutex_};
    const auto it = subscriptions_.find(m.subscription_registration_id);
    if (it == subscriptions_.end()) return;
    subscription = it->second;
    // A driver that restarted its control plane may announce an image again.
    for (const auto& known : subscription->owned->images) {
      if (known->correlation_id() == m.correlation_id) return;
    }
    auto made = make_image(m);
    if (made) {
      image = std::move(*made);
    } else {
      error = std::move(made.error()).with_context("image of " + subscription->channel);
    }
  }
  if (error) return report(*error);
  if (subscription->on_available_image) subscription->on_available_image(image);
  const std::lock_guard lock{mutex_};
  if (subscription->is_closed.load(std::memory_order_relaxed)) return image->close();
  std::vector<std::shared_ptr<Image>> images = subscription->owned->images;
  images.push_back(std::move(image));
  replace_images(*subscription, std::move(images));
}

void Conductor::on_unavailable_image(const shm::OnUnavailableImage& m) {
  std::shared_ptr<SubscriptionCore> subscription;
  std::shared_ptr<Image> image;
  {
    const std::lock_guard lock{mutex_};
    const auto it = subscriptions_.find(m.subscription_registration_id);
    if (it == subscriptions_.end()) return;
    subscription = it->second;
    std::vector<std::shared_ptr<Image>> images = subscription->owned->images;
    const auto gone = std::find_if(images.begin(), images.end(), [&](const auto& i) { return i->correlation_id() == m.correlation_id; });
    if (gone == images.end()) return;
    image = *gone;
    images.erase(gone);
    image->close();
    linger(image->mapping_);
    replace_images(*subscription, std::move(images));
  }
  if (subscription->on_unavailable_image) subscription->on_unavailable_image(image);
}

// ---- notices ---------------------------------------------------------------------------------------------------------------------------

void Conductor::on_client_timeout(const shm::OnClientTimeout& m) {
  if (m.client_id != client_id_) return;
  force_close(CloseReason::kClientTimeout, {client_error::kClientTimeout, "the media driver timed this client out: no heartbeat for too long", {}});
}

void Conductor::on_publication_error(const shm::OnPublicationError& m) {
  std::string channel;
  {
    const std::lock_guard lock{mutex_};
    for (const auto& [id, weak] : publications_) {
      const auto core = weak.lock();
      if (core != nullptr && core->original_registration_id == m.registration_id) channel = core->channel;
    }
  }
  if (channel.empty()) return;
  Error error = driver_error(m.code, m.text);
  if (!context_.on_publication_error) return report(std::move(error).with_context("publication " + channel + " session " + std::to_string(m.session_id)));
  PublicationError told;
  told.registration_id = m.registration_id;
  told.destination_registration_id = m.destination_registration_id;
  told.session_id = m.session_id;
  told.stream_id = m.stream_id;
  told.receiver_id = m.receiver_id;
  if (m.group_tag != -1) told.group_tag = m.group_tag;
  told.source_address = source_of(m);
  told.code = error.code;
  told.text = std::move(error.message);
  context_.on_publication_error(told);
}

}  // namespace thalweg::client::detail
