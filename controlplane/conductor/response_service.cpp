#include "controlplane/conductor/response_service.hpp"

#include <fmt/format.h>

namespace thalweg::conductor {

Outcome<void> ResponseService::check(const PublicationTable::Request& request) const {
  const std::int64_t id = request.params.response_correlation_id;
  const auto refuse_id = [&](std::string_view reason) {
    return refuse(shm::ClientError::kGeneric, fmt::format("response-correlation-id={} {}: channel={}", id, reason, request.uri));
  };
  const bool answers = is_response(request.channel);
  if (id == kNoCorrelation) {
    if (answers) return refuse_channel("control-mode=response needs a response-correlation-id: channel=" + request.uri);
    return {};
  }
  if (request.is_ipc) return refuse(shm::ClientError::kNotSupported, "response channels over IPC are not supported: channel=" + request.uri);
  if (answers) {
    if (id == kPrototypeCorrelation) return {};
    const std::uint32_t image = images_->find(id);
    if (image == shm::kNoSlot) return refuse_id("is no image");
    if ((world_->images.slot(image).desired.flags & shm::ImageFlags::kHasResponse) == 0) return refuse_id("is an image whose sender asked for no response");
    return {};
  }
  if (id == kPrototypeCorrelation) return refuse_channel("response-correlation-id=prototype needs control-mode=response: channel=" + request.uri);
  const std::uint32_t subscription = subscriptions_->find(id);
  if (subscription == shm::kNoSlot) return refuse_id("is no subscription");
  if (!is_response(world_->subscriptions.record(subscription).channel)) return refuse_id("is a subscription without control-mode=response");
  return {};
}

void ResponseService::publication_ready(std::uint32_t publication) {
  const auto& wanted = world_->publications.slot(publication).desired;
  if ((wanted.flags & shm::PublicationFlags::kIsResponse) == 0) return;
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
