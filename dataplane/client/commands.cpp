// What goes to the driver (client-protocol 6.2), and what is given back to it.
#include <random>

#include "dataplane/client/detail/conductor.hpp"

namespace thalweg::client::detail {
namespace {
constexpr std::size_t kUnsentMax = 4096;                             // commands that wait for room in the ring; bounds memory
constexpr auto kInvokerPause = std::chrono::milliseconds{1};         // while a function waits and the application has nothing better to do

tl::unexpected<Error> closed_error() { return fail(ErrorCode::kClosed, "the client is closed"); }
Error too_long_error() {
  return {ErrorCode::kInvalidArgument, "the command does not fit into the driver's command ring", "it is longer than an eighth of the ring"};
}
}  // namespace

// Why no command can be taken now.
std::optional<Error> Conductor::refusal() const {
  if (is_closed()) return Error{ErrorCode::kClosed, "the client is closed", {}};
  if (unsent_.size() < kUnsentMax) return std::nullopt;
  return Error{ErrorCode::kUnreachable,
               "the driver reads no commands, and " + std::to_string(kUnsentMax) + " of this client wait for it already", {}};
}

// ---- sending --------------------------------------------------------------------------------------------------------------------------

void Conductor::send_close() {
  shm::encode(scratch_, shm::ClientCommand{{client_id_, -1}});
  static_cast<void>(to_driver_.write(static_cast<std::int32_t>(shm::Command::kClientClose), scratch_));
}

// The ring is full while the driver is away, or while somebody died in the middle of a command: what comes then waits here, in its order.
template <typename M>
bool Conductor::send_or_keep(shm::Command type, const M& message) {
  shm::encode(scratch_, message);
  if (scratch_.size() > to_driver_.max_message_length()) return false;
  if (unsent_.empty() && to_driver_.write(static_cast<std::int32_t>(type), scratch_)) return true;
  unsent_.push_back({type, scratch_});
  return true;
}

template <typename M>
void Conductor::send_removal(shm::Command type, const M& message) {
  static_cast<void>(send_or_keep(type, message));  // their length is fixed, and fits
}

bool Conductor::send_add(const AddRequest& request, std::int64_t correlation_id) {
  const shm::CommandHeader header{client_id_, correlation_id};
  switch (request.kind) {
    case ResourceKind::kPublication:
      return send_or_keep(shm::Command::kAddPublication, shm::AddPublication{header, request.stream_id, request.channel});
    case ResourceKind::kExclusivePublication:
      return send_or_keep(shm::Command::kAddExclusivePublication, shm::AddPublication{header, request.stream_id, request.channel});
    case ResourceKind::kSubscription:
      return send_or_keep(shm::Command::kAddSubscription, shm::AddSubscription{header, -1, request.stream_id, request.channel});
    case ResourceKind::kCounter:
      if (request.static_registration_id) {
        return send_or_keep(shm::Command::kAddStaticCounter,
                            shm::AddStaticCounter{header, *request.static_registration_id, request.stream_id, request.key, request.label});
      }
      return send_or_keep(shm::Command::kAddCounter, shm::AddCounter{header, request.stream_id, request.key, request.label});
    case ResourceKind::kSessionId:
    case ResourceKind::kCommand: break;
  }
  return false;
}

Result<RegistrationId> Conductor::add(AddRequest request) {
  const std::lock_guard lock{mutex_};
  if (auto refused = refusal()) return tl::unexpected<Error>{std::move(*refused)};
  const std::int64_t correlation_id = to_driver_.next_correlation_id();
  if (!send_add(request, correlation_id)) return tl::unexpected<Error>{too_long_error()};
  Registration registration;
  registration.kind = request.kind;
  registration.deadline_ns = monotonic() + context_.driver_timeout.count();
  registration.stream_id = request.stream_id;
  registration.channel = request.channel;
  registration.is_static = request.static_registration_id.has_value();
  registration.chosen_registration_id = request.static_registration_id.value_or(0);
  registration.on_available_image = request.on_available_image ? std::move(request.on_available_image) : context_.on_available_image;
  registration.on_unavailable_image = request.on_unavailable_image ? std::move(request.on_unavailable_image) : context_.on_unavailable_image;
  registrations_.emplace(correlation_id, std::move(registration));
  ++pending_count_;
  wake();
  return static_cast<RegistrationId>(correlation_id);
}

template <typename Make>
Result<RegistrationId> Conductor::send_command(shm::Command type, Make&& make, ResourceKind kind, bool is_unattended) {
  const std::lock_guard lock{mutex_};
  return send_locked(type, std::forward<Make>(make), kind, is_unattended);
}

template <typename Make>
Result<RegistrationId> Conductor::send_locked(shm::Command type, Make&& make, ResourceKind kind, bool is_unattended) {
  if (auto refused = refusal()) return tl::unexpected<Error>{std::move(*refused)};
  const std::int64_t correlation_id = to_driver_.next_correlation_id();
  if (!send_or_keep(type, make(shm::CommandHeader{client_id_, correlation_id}))) return tl::unexpected<Error>{too_long_error()};
  Registration registration;
  registration.kind = kind;
  registration.is_unattended = is_unattended;
  registration.deadline_ns = monotonic() + context_.driver_timeout.count();
  registrations_.emplace(correlation_id, std::move(registration));
  ++pending_count_;
  wake();
  return static_cast<RegistrationId>(correlation_id);
}

Result<RegistrationId> Conductor::command(shm::Command type, std::int64_t registration_id, std::string_view channel) {
  return send_command(type, [&](shm::CommandHeader header) { return shm::DestinationCommand{header, registration_id, channel}; });
}

Result<RegistrationId> Conductor::remove_destination(std::int64_t publication_registration_id, RegistrationId destination) {
  return send_command(shm::Command::kRemoveDestinationById, [&](shm::CommandHeader header) {
    return shm::RemoveDestinationById{header, publication_registration_id, static_cast<std::int64_t>(destination)};
  });
}

Result<RegistrationId> Conductor::add_receive_destination(const SubscriptionCore& core, std::string_view channel) {
  const std::lock_guard lock{mutex_};
  const auto make = [&](shm::CommandHeader header) { return shm::DestinationCommand{header, core.registration_id, channel}; };
  auto id = send_locked(shm::Command::kAddReceiveDestination, make, ResourceKind::kCommand, false);
  if (id) receive_destinations_[static_cast<std::int64_t>(*id)] = {core.registration_id, std::string{channel}};
  return id;
}

Result<RegistrationId> Conductor::remove_receive_destination(const SubscriptionCore& core, RegistrationId destination) {
  const std::lock_guard lock{mutex_};
  const auto it = receive_destinations_.find(static_cast<std::int64_t>(destination));
  if (it == receive_destinations_.end() || it->second.subscription_id != core.registration_id) {
    return fail(ErrorCode::kNotFound, "subscription " + core.channel + " has no destination " + std::to_string(static_cast<std::int64_t>(destination)));
  }
  const auto make = [&](shm::CommandHeader header) { return shm::DestinationCommand{header, core.registration_id, it->second.channel}; };
  auto id = send_locked(shm::Command::kRemoveReceiveDestination, make, ResourceKind::kCommand, false);
  if (id) receive_destinations_.erase(it);
  return id;
}

Result<RegistrationId> Conductor::ask_for_session_id(std::int32_t stream_id) {
  constexpr std::int64_t kSince = 1 << 16;  // 1.0.0 (5.6); earlier drivers take the command for a mistake and answer nothing
  constexpr auto kCounter = static_cast<std::int32_t>(shm::SystemCounter::kControlProtocolVersion);
  const auto version = counters_.find(kCounter);
  if (version && version->type_id == shm::counter_type::kSystem && version->registration_id == kCounter && version->value >= kSince) {
    return send_command(
        shm::Command::kGetNextAvailableSessionId,
        [&](shm::CommandHeader header) { return shm::GetNextAvailableSessionId{header, stream_id}; }, ResourceKind::kSessionId);
  }
  const std::lock_guard lock{mutex_};
  if (is_closed()) return closed_error();
  Registration registration;
  registration.kind = ResourceKind::kSessionId;
  registration.state = Registration::State::kReady;
  registration.session_id = static_cast<std::int32_t>(std::random_device{}());
  const std::int64_t id = to_driver_.next_correlation_id();
  registrations_.emplace(id, std::move(registration));
  return static_cast<RegistrationId>(id);
}

Result<std::optional<Registration>> Conductor::take(RegistrationId id, ResourceKind kind) {
  const std::lock_guard lock{mutex_};
  const auto it = registrations_.find(static_cast<std::int64_t>(id));
  if (it == registrations_.end() || it->second.kind != kind) {
    return fail(ErrorCode::kNotFound, "no such registration " + std::to_string(static_cast<std::int64_t>(id)));
  }
  if (it->second.state == Registration::State::kPending) return std::optional<Registration>{};
  Registration registration = std::move(it->second);
  registrations_.erase(it);
  if (registration.state == Registration::State::kFailed) return tl::unexpected<Error>{std::move(registration.error)};
  if (is_closed()) return closed_error();
  return std::optional<Registration>{std::move(registration)};
}

Result<Registration> Conductor::await(RegistrationId id, ResourceKind kind) {
  if (turner_.load(std::memory_order_relaxed) == std::this_thread::get_id()) {
    return fail(ErrorCode::kInvalidArgument, "a handler of the client must not wait for the driver", "use the async_ function");
  }
  for (;;) {
    auto taken = take(id, kind);
    if (!taken) return tl::unexpected<Error>{std::move(taken.error())};
    if (taken->has_value()) return std::move(**taken);
    if (context_.mode == ConductorMode::kInvoker) {
      if (do_work() == 0) idle_in_invoker_mode();
      continue;
    }
    std::unique_lock lock{mutex_};
    answered_.wait(lock, [&] {
      const auto it = registrations_.find(static_cast<std::int64_t>(id));
      return it == registrations_.end() || it->second.state != Registration::State::kPending;
    });
  }
}

void Conductor::idle_in_invoker_mode() {
  if (context_.idle) {
    context_.idle();
  } else {
    std::this_thread::sleep_for(kInvokerPause);
  }
}

Result<> Conductor::reject_image(std::int64_t image_correlation_id, std::int64_t position, std::string_view reason) {
  constexpr std::size_t kReasonMax = 1023;  // 6.5
  if (reason.size() > kReasonMax) return fail(ErrorCode::kInvalidArgument, "the reason for a rejection has at most 1023 bytes");
  const auto id = send_command(
      shm::Command::kRejectImage,
      [&](shm::CommandHeader header) { return shm::RejectImage{header, image_correlation_id, position, reason}; }, ResourceKind::kCommand, true);
  if (!id) return tl::unexpected<Error>{id.error()};
  return {};
}

// ---- giving back -----------------------------------------------------------------------------------------------------------------------

void Conductor::release(PublicationCore& core, bool revoke) {
  const std::lock_guard lock{mutex_};
  if (core.is_closed.exchange(true, std::memory_order_acq_rel) || is_closed()) return;
  send_removal(shm::Command::kRemovePublication,
               shm::RemovePublication{{client_id_, to_driver_.next_correlation_id()}, core.registration_id, revoke});
  publications_.erase(core.registration_id);
  linger(core.mapping);
}

void Conductor::release(SubscriptionCore& core) {
  std::shared_ptr<SubscriptionCore> keep;  // freed without the lock
  const std::lock_guard lock{mutex_};
  if (core.is_closed.exchange(true, std::memory_order_acq_rel) || is_closed()) return;
  send_removal(shm::Command::kRemoveSubscription,
               shm::RemoveRegistration{{client_id_, to_driver_.next_correlation_id()}, core.registration_id});
  for (const auto& image : core.owned->images) {
    image->close();
    linger(image->mapping_);
  }
  std::erase_if(receive_destinations_, [&](const auto& entry) { return entry.second.subscription_id == core.registration_id; });
  if (const auto it = subscriptions_.find(core.registration_id); it != subscriptions_.end()) {
    keep = std::move(it->second);
    subscriptions_.erase(it);
  }
}

void Conductor::release(CounterCore& core) {
  const std::lock_guard lock{mutex_};
  if (core.is_closed.exchange(true, std::memory_order_acq_rel) || is_closed()) return;
  if (!core.is_static) {
    send_removal(shm::Command::kRemoveCounter, shm::RemoveRegistration{{client_id_, to_driver_.next_correlation_id()}, core.registration_id});
  }
  counter_handles_.erase(core.correlation_id);
}

std::vector<std::shared_ptr<Image>> Conductor::images(const SubscriptionCore& core) {
  const std::lock_guard lock{mutex_};
  return core.is_closed.load(std::memory_order_relaxed) ? std::vector<std::shared_ptr<Image>>{} : core.owned->images;
}

void Conductor::remove_abandoned(std::int64_t correlation_id, shm::Command type) {
  if (abandoned_.erase(correlation_id) == 0) return;
  const shm::CommandHeader header{client_id_, to_driver_.next_correlation_id()};
  if (type == shm::Command::kRemovePublication) {
    send_removal(type, shm::RemovePublication{header, correlation_id, false});
  } else {
    send_removal(type, shm::RemoveRegistration{header, correlation_id});
  }
}

}  // namespace thalweg::client::detail
