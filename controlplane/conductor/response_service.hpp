#pragma once
#include "controlplane/conductor/image_service.hpp"
#include "controlplane/conductor/publication_table.hpp"
#include "controlplane/conductor/subscription_table.hpp"

namespace thalweg::conductor {

// Response channels: what ties a request, its image at the other end, the publication that answers and the subscription that waits for answers
// together (wire-protocol 5.9). Thread: the conductor.
class ResponseService {
 public:
  ResponseService(World& world, SubscriptionTable& subscriptions, ImageService& images) noexcept
      : world_{&world}, subscriptions_{&subscriptions}, images_{&images} {}

  // Is what the publication's response-correlation-id names there? For a request the subscription that waits for answers, for one in response mode
  // the image that it answers; an image of an IPC publication has that one's registration id. Errors: kInvalidChannel (response mode without a
  // correlation id), kGeneric (nothing of that id, or nothing that could be answered).
  [[nodiscard]] Outcome<void> check(const PublicationTable::Request& request) const;
  // A publication runs: if it answers an image, that one's sender is told of it from now on; over IPC the subscription that waits is, at once.
  void publication_ready(std::uint32_t publication);
  // A lane rang for a publication: the peer of a request may have said which session answers.
  void service(std::uint32_t publication);

 private:
  [[nodiscard]] Outcome<void> check_answer(const PublicationTable::Request& request) const;
  // The IPC publication with that registration id, if it asks for answers; else kNoSlot.
  [[nodiscard]] std::uint32_t find_ipc_request(std::int64_t id) const;

  World* world_;
  SubscriptionTable* subscriptions_;
  ImageService* images_;
};

}  // namespace thalweg::conductor
