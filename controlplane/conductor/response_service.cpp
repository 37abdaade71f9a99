#include "controlplane/conductor/response_service.hpp"

#include <fmt/format.h>

namespace thalweg::conductor {

namespace {

tl::unexpected<CommandError> refuse_id(const PublicationTable::Request& request, std::string_view reason) {
  return refuse(shm::ClientError::kGeneric, fmt::format("response-correlation-id={} {}: channel={}", request.params.response_correlation_id, reason, request.uri));
}

}  // namespace

Outcome<void> ResponseService::check(const PublicationTable::Request& request) const {
  const std::int64_t id = request.params.response_correlation_id;
  if (is_response(request.channel)) return check_answer(request);
  if (id == kNoCorrelation) return {};
  if (id == kPrototypeCorrelation) return refuse_channel("response-correlation-id=prototype needs control-mode=response: channel=" + request.uri);
  const std::uint32_t subscription = subscriptions_->find(id);
  if (subscription == shm::kNoSlot) return refuse_id(request, "is no subscription");
  const SubscriptionRecord& record = world_->subscriptions.record(subscription);
  if (!is_response(record.channel)) return refuse_id(request, "is a subscription without control-mode=response");
  if ((record.kind == SubscriptionKind::kIpc) != request.is_ipc) return refuse_id(request, "is a subscription on another medium");
  return {};
}

Outcome<void> ResponseService::check_answer(const PublicationTable::Request& request) const {
  const std::int64_t id = request.params.response_correlation_id;
  if (id == kNoCorrelation) return refuse_channel("control-mode=response needs a response-correlation-id: channel=" + request.uri);
  if (id == kPrototypeCorrelation) return {};
  if (request.is_ipc) {
    if (find_ipc_request(id) == shm::kNoSlot) return refuse_id(request, "is no IPC image whose sender asked for a response");
    return {};
  }
  const std::uint32_t image = images_->find(id);
  if (image == shm::kNoSlot) return refuse_id(request, "is no image");
  if ((world_->images.slot(image).desired.flags & shm::ImageFlags::kHasResponse) == 0) return refuse_id(request, "is an image whose sender asked for no response");
  return {};
}

// By the slots: the client that added it may have left it to others.
std::uint32_t ResponseService::find_ipc_request(std::int64_t id) const {
  constexpr std::uint32_t kBoth = shm::PublicationFlags::kIpc | shm::PublicationFlags::kHasResponse;
  for (const std::uint32_t index : world_->publications.used()) {
    const auto& wanted = world_->publications.slot(index).desired;
    if (wanted.registration_id == id && (wanted.flags & kBoth) == kBoth) return index;
  }
  return shm::kNoSlot;
}

void ResponseService::publication_ready(std::uint32_t publication) {
  const auto& wanted = world_->publications.slot(publication).desired;
  if ((wanted.flags & shm::PublicationFlags::kIsResponse) == 0) return;
  if ((wanted.flags & shm::PublicationFlags::kIpc) != 0) {
    const std::uint32_t request = find_ipc_request(wanted.response_correlation_id);
    if (request == shm::kNoSlot) return;  // as below
    const std::uint32_t waiting = subscriptions_->find(world_->publications.slot(request).desired.response_correlation_id);
    if (waiting != shm::kNoSlot) subscriptions_->bind_session(waiting, wanted.session_id);
    return;
  }
  const std::uint32_t image = images_->find(wanted.response_correlation_id);
  if (image == shm::kNoSlot) return;  // a prototype, or the request ended meanwhile
  world_->images.slot(image).desired.response_publication.store(publication, std::memory_order_release);  // pairs with the lane's acquire
  world_->bells.ring(shm::SlotKind::kImage, image);
}

void ResponseService::service(std::uint32_t publication) {
  if (!world_->publications.is_used(publication)) return;
  auto& slot = world_->publications.slot(publication);
  if ((slot.desired.flags & shm::PublicationFlags::kHasResponse) == 0 || host::observed_state(slot) != shm::Observed::kActive) return;
  PublicationRecord& record = world_->publications.record(publication);
  const std::uint32_t setups = std::atomic_ref{slot.observed.response_setups}.load(std::memory_order_acquire);  // pairs with Lane::on_response_setup()
  if (setups == record.response_setups) return;
  record.response_setups = setups;
  const std::uint32_t subscription = subscriptions_->find(slot.desired.response_correlation_id);
  if (subscription == shm::kNoSlot) return;  // nobody waits any more
  subscriptions_->bind_session(subscription, slot.observed.response_session_id);
}

}  // namespace thalweg::conductor
