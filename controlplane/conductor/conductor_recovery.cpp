#include <unordered_set>

#include "controlplane/conductor/conductor.hpp"
#include "controlplane/conductor/receive_destinations.hpp"

// A control plane that starts on the registry of a predecessor: everything is taken up, and what the predecessor had begun and not yet
// entered anywhere is undone.
namespace thalweg::conductor {

void Conductor::recover() {
  world_.ring.finish_release();
  commands_.settle();
  report_quarantined();
  // Every table before anything refers to it: endpoints, then what stands on them.
  world_.counters.recover(world_.now.now_ms);
  world_.loss_report.recover();
  services_.clients.recover();
  world_.endpoints.recover();
  world_.publications.recover();
  world_.images.recover();
  world_.interests.recover();
  world_.links.recover();
  world_.subscriptions.recover();
  world_.refs.recover();
  world_.destinations.recover();
  for (const std::uint32_t index : world_.endpoints.used()) services_.endpoints.recover(index);
  for (const std::uint32_t index : world_.destinations.used()) services_.destinations.recover(index);
  std::vector<std::uint32_t> logs;
  for (const std::uint32_t index : world_.publications.used()) logs.push_back(world_.publications.slot(index).desired.log);
  for (const std::uint32_t index : world_.images.used()) logs.push_back(world_.images.slot(index).desired.log);
  world_.logs.recover(logs);
  services_.subscriptions.recover();
  ReceiveDestinations{world_, services_.endpoints}.recover();
  services_.publications.recover();
  services_.images.recover();
  const std::vector<std::uint32_t> links = world_.links.used();
  for (const std::uint32_t index : links) services_.links.recover(index);
  recover_destination_links();
  services_.images.finish_setups();
  services_.relays.recover();
  services_.feeds.recover();
  free_stray_counters();
  recover_sums();
  is_ready_ = world_.files.cnc.version() != 0;
  service_everything();
  commands_.recover();
  has_unused_endpoints_ = true;
  // It may have died between a slot and the bell for it, and nobody would ever look.
  world_.registry->header.control_to_steward.rescan.store(1, std::memory_order_release);
  shm::wake(world_.registry->header.steward_wake);
}

// After the first commands: an endpoint that nobody has may be what the predecessor made for one of them.
void Conductor::release_unused_endpoints() {
  has_unused_endpoints_ = false;
  const std::vector<std::uint32_t> endpoints = world_.endpoints.used();
  for (const std::uint32_t index : endpoints) services_.endpoints.release_if_unused(index);
}

// Which destination a link to a publication goes through follows from what the destinations name.
void Conductor::recover_destination_links() {
  for (const std::uint32_t destination : world_.destinations.used()) {
    const std::uint32_t subscription = world_.destinations.slot(destination).desired.subscription;
    if (!world_.subscriptions.is_used(subscription)) continue;
    for (const std::uint32_t link : world_.subscriptions.record(subscription).links) {
      const auto& wanted = world_.links.slot(link).desired;
      const bool is_its = wanted.target == shm::LinkTarget::kPublication && services_.publications.matches_destination(wanted.target_slot, destination);
      if (is_its) world_.links.record(link).channel = world_.destinations.record(destination).uri;
    }
  }
}

// What the predecessor summed is in the stock counters already.
void Conductor::recover_sums() {
  for (std::uint32_t lane = 0; lane < lane_count(); ++lane) {
    auto& slot = world_.registry->lanes[lane];
    for (std::size_t i = 0; i < shm::kLaneCounterCount; ++i) {
      const std::int32_t stock = shm::kLaneCounters[i].stock;
      if (stock >= 0) summed_[static_cast<std::size_t>(stock)] += static_cast<std::int64_t>(std::atomic_ref{slot.counters[i]}.load(std::memory_order_relaxed));
    }
  }
}

// Counters are allocated before the slot that names them is published: a predecessor that died in between left some that nobody knows.
void Conductor::free_stray_counters() {
  std::unordered_set<std::int32_t> known;
  for (const std::uint32_t index : world_.endpoints.used()) {
    const auto& wanted = world_.endpoints.slot(index).desired;
    known.insert({wanted.channel_status_id, wanted.local_sockaddr_id, wanted.destination_count_id});
  }
  for (const std::uint32_t index : world_.publications.used()) {
    const auto& wanted = world_.publications.slot(index).desired;
    known.insert({wanted.pub_pos_id, wanted.pub_lmt_id, wanted.snd_pos_id, wanted.snd_lmt_id, wanted.snd_bpe_id, wanted.snd_naks_id,
                  static_cast<std::int32_t>(wanted.fc_receivers_id_plus_1) - 1});
  }
  for (const std::uint32_t index : world_.images.used()) {
    const auto& wanted = world_.images.slot(index).desired;
    known.insert({wanted.rcv_hwm_id, wanted.rcv_pos_id, wanted.rcv_naks_id});
  }
  for (const std::uint32_t index : world_.links.used()) known.insert(world_.links.slot(index).desired.counter_id);
  for (const std::uint32_t index : world_.clients.used()) {
    known.insert(world_.clients.slot(index).heartbeat_counter_id);
    for (const OwnedCounter& counter : world_.clients.record(index).counters) known.insert(counter.counter_id);
  }
  std::vector<std::int32_t> strays;
  world_.counters.for_each([&](const shm::CountersReader::View& view) {
    const bool is_static = view.owner_id == -1 && !is_driver_counter(view.type_id);
    if (view.id >= shm::kSystemCounterCount && !is_static && !known.contains(view.id)) strays.push_back(view.id);
  });
  for (const std::int32_t id : strays) world_.free_counter(id);
}

}  // namespace thalweg::conductor
