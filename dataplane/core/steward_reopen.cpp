#include "dataplane/core/slot_answer.hpp"
#include "dataplane/core/steward.hpp"

// Endpoints that come to be open, and those that were open before a restart of the data plane and could not be opened by the new one: somebody else
// has the port meanwhile, an interface is down, an address is gone. That passes, and those who subscribed are still there.
namespace thalweg::core {

void Steward::enter_endpoint(std::uint32_t index, std::unique_ptr<Endpoint> endpoint) {
  shm::EndpointSlot& slot = registry_.endpoints[index];
  const Endpoint& mine = *(endpoints_[index] = std::move(endpoint));
  ++open_endpoints_;
  slot.observed.bound_address = mine.bound.address;
  slot.observed.bound_port = mine.bound.port;
  slot.observed.port_index = mine.ports.empty() ? std::uint16_t{0} : static_cast<std::uint16_t>(mine.ports.front());
  slot.observed.lane = mine.lane;
  slot.observed.receiver_id = mine.receiver_id;
  slot.observed.opened = slot.desired.generation;
  slot.observed.error = {};
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) post(lane, {{shm::SlotKind::kEndpoint, index}, endpoints_[index].get(), false});
  answer(slot, shm::Observed::kActive);
  ring(shm::SlotKind::kEndpoint, index);
}

// Same address, same port, same receiver id. Interests are added again; images come with the next SETUPs. Publications are over: their clients were
// told.
void Steward::reopen_endpoints(std::int64_t now_ns) {
  constexpr std::int64_t kInterval_ns = kSecond_ns;
  constexpr unsigned kTriesMax = 16;   // at a time: each is a few system calls
  unsigned tries = 0;
  for (auto it = lost_.begin(); it != lost_.end() && tries < kTriesMax;) {
    const std::uint32_t index = it->first;
    const shm::EndpointSlot& slot = registry_.endpoints[index];
    const bool is_lost = slot.desired.state.load(std::memory_order_acquire) == shm::Desired::kActive && is_answered(slot, shm::Observed::kFailed) && was_open(slot);
    if (!is_lost) {
      it = lost_.erase(it);
      continue;
    }
    if (now_ns < it->second) {
      ++it;
      continue;
    }
    ++tries;
    it->second = now_ns + kInterval_ns;
    auto opened = open_endpoint(index);
    if (!opened) {
      ++it;
      continue;
    }
    it = lost_.erase(it);
    enter_endpoint(index, std::move(*opened));
    for (std::uint32_t i = 0; i < shm::kInterestsMax; ++i) {
      const auto& interest = registry_.interests[i].desired;
      if (interest.endpoint == index && interest.state.load(std::memory_order_acquire) == shm::Desired::kActive) on_interest(i);
    }
  }
}

}  // namespace thalweg::core
