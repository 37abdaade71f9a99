#pragma once
#include <array>
#include <bitset>

#include "controlplane/conductor/endpoint_table.hpp"
#include "controlplane/conductor/link_table.hpp"
#include "controlplane/conductor/subscription_table.hpp"
#include "controlplane/conductor/world.hpp"

namespace thalweg::conductor {

// Images of network streams: from the SETUP that a lane hands over to the freeing of the last counter. Thread: the conductor.
// Spec: wire-protocol 3.4, 3.11; client-protocol 5.10, 8.5; life of an image slot: docs/develop/registry.md.
class ImageService {
 public:
  ImageService(World& world, EndpointTable& endpoints, SubscriptionTable& subscriptions, LinkTable& links) noexcept
      : world_{&world}, endpoints_{&endpoints}, subscriptions_{&subscriptions}, links_{&links} {}

  // A lane put a request into a setup slot.
  void service_setup(std::uint32_t lane, std::uint32_t index);
  // The request is one that the control plane crashed at too often.
  void refuse_setup(std::uint32_t lane, std::uint32_t index) noexcept { answer_setup(lane, index, shm::SetupState::kRefused); }
  // The lane answered, or the log of a starting image changed.
  void service(std::uint32_t image);
  // Links a new subscription to the images that are there.
  void link_to_images(std::uint32_t subscription);
  // Slot of an image that is running; kNoSlot: none.
  [[nodiscard]] std::uint32_t find(std::int64_t correlation_id) const;
  // REJECT_IMAGE of a network image (wire-protocol 3.13). Error: kGeneric.
  [[nodiscard]] Outcome<void> reject(std::uint32_t image, std::string_view reason);
  // Writes what lanes lost into the loss report.
  void report_losses();
  // Lets go of quarantined images that no subscription would want any more. At intervals.
  void release_quarantined();
  // After a restart, when endpoints and logs are there again.
  void recover();
  // Then, when links are, too: ends what a predecessor had begun for SETUPs and made images for.
  void finish_setups();

 private:
  [[nodiscard]] bool has_quarantined(const shm::SetupSlot& setup) const;
  void finish_request(ImageRecord& record, shm::SetupState state) noexcept;
  [[nodiscard]] Outcome<void> check_setup(const shm::SetupSlot& setup) const;
  [[nodiscard]] std::vector<std::uint32_t> matching_subscriptions(std::uint32_t endpoint, std::int32_t stream_id, std::int32_t session_id) const;
  void create(std::uint32_t lane, std::uint32_t index, const std::vector<std::uint32_t>& subscriptions);
  [[nodiscard]] std::uint32_t destination_of(const shm::SetupSlot& setup) const noexcept;
  void fill_slot(std::uint32_t image, const shm::SetupSlot& setup, std::uint32_t first_subscription);
  [[nodiscard]] bool allocate_counters(std::uint32_t image, std::int64_t owner_id);
  [[nodiscard]] bool acquire_log(std::uint32_t image, std::uint32_t first_subscription);
  void start_when_log_is_ready(std::uint32_t image);
  void finish_setups_of(std::uint32_t image);
  void link_subscriptions(std::uint32_t image);
  void answer_setup(std::uint32_t lane, std::uint32_t index, shm::SetupState state) noexcept;
  void refuse_starting(std::uint32_t image, const CommandError& error);
  [[nodiscard]] bool is_relayed(std::uint32_t image) const;
  void announce_end(std::uint32_t image);
  void report_given_up(std::uint32_t image);
  void report_loss(std::uint32_t image);
  void destroy(std::uint32_t image);

  World* world_;
  EndpointTable* endpoints_;
  SubscriptionTable* subscriptions_;
  LinkTable* links_;
  // Of a flood of SETUPs each looks here, and through no table of thousands.
  std::array<std::bitset<shm::kSetupsPerLane>, shm::kLanesMax> being_served_;
  std::vector<std::uint32_t> quarantined_;   // images
};

}  // namespace thalweg::conductor
