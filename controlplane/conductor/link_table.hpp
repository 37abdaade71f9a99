#pragma once
#include "controlplane/conductor/world.hpp"

namespace thalweg::conductor {

// Subscriber positions: one link for each pair of a subscription and an image, an IPC publication or, for spies, a network publication.
// Clients learn of an image only when its lane has chosen the join position. Thread: the conductor.
// Spec: client-protocol 5.7 (type 4), 8.5 to 8.7; wire-protocol 3.14.
class LinkTable {
 public:
  explicit LinkTable(World& world) noexcept : world_{&world} {}

  // Links a subscription to a target unless it is linked already. Errors (table or counters full) go to the error log.
  // `channel`: of the destination that leads there, where there is one (wire-protocol 5.6).
  void link(shm::LinkTarget target, std::uint32_t target_slot, std::uint32_t subscription, std::string_view channel = {});
  // Lets go of one link; nobody is told. Its counter is freed when the lane has forgotten it.
  void close(std::uint32_t link);
  // Frees a link whose target is gone with its lane's knowledge.
  void destroy(std::uint32_t link);
  // The lane answered, or changed the tether.
  void service(std::uint32_t link);
  // Tells the client of one link that its image is gone; `channel` as 6.3 wants it. Once per announcement.
  void announce_unavailable(std::uint32_t link, std::string_view channel);
  // After a restart.
  void recover(std::uint32_t link);

 private:
  void set_timeouts(shm::LinkSlot::Wanted& wanted, const SubscriptionParams& params) const noexcept;
  void announce_available(std::uint32_t link);
  void on_tether(std::uint32_t link);
  [[nodiscard]] const std::string& channel_of(std::uint32_t link) const noexcept;
  [[nodiscard]] std::vector<std::uint32_t>& links_of_target(const shm::LinkSlot::Wanted& wanted) noexcept;
  [[nodiscard]] std::int64_t image_id(const shm::LinkSlot::Wanted& wanted) const noexcept;

  World* world_;
};

}  // namespace thalweg::conductor
