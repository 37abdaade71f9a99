#include "controlplane/conductor/command_queue.hpp"

#include <algorithm>
#include <string_view>

namespace thalweg::conductor {

bool CommandQueue::submit(std::int32_t type_id, shm::Bytes message) {
  const auto header = shm::decode<shm::CommandHeader>(message);
  const bool is_keepalive = static_cast<shm::Command>(type_id) == shm::Command::kClientKeepalive;
  if (!header || is_keepalive) {  // nobody waits for these, and nothing orders them
    static_cast<void>(run_command(*services_, type_id, message));
    return true;
  }
  if (slots_.free_count() == 0) return false;
  const auto waiting = queues_.find(header->client_id);
  Pending pending{type_id, shm::Buffer(message.begin(), message.end()), shm::kNoSlot, nullptr};
  if (waiting == queues_.end()) {
    pending.operation = run_command(*services_, type_id, pending.message);
    if (!pending.operation) return true;
    services_->world.bells.flush();  // the steward may begin while we take notes
  }
  remember(pending, *header);
  queues_[header->client_id].push_back(std::move(pending));
  return true;
}

void CommandQueue::remember(Pending& pending, const shm::CommandHeader& header) {
  pending.slot = slots_.allocate().value_or(shm::kNoSlot);
  if (pending.slot == shm::kNoSlot) return;
  auto& slot = slots_.slot(pending.slot);
  slot.client_id = header.client_id;
  slot.correlation_id = header.correlation_id;
  slot.type_id = pending.type_id;
  // A command too long for a text page is not taken up again after a crash; its client times out and asks again.
  const auto text = services_->world.registry.put_text({reinterpret_cast<const char*>(pending.message.data()), pending.message.size()});
  slot.text = text.value_or(shm::kNoSlot);
  slots_.publish(pending.slot);
}

void CommandQueue::forget(const Pending& pending) {
  if (pending.slot == shm::kNoSlot) return;
  services_->world.registry.free_text(slots_.slot(pending.slot).text);
  slots_.release(pending.slot);
}

int CommandQueue::advance(Queue& queue) {
  int finished = 0;
  while (!queue.empty()) {
    Pending& first = queue.front();
    if (first.operation) {
      if (!first.operation->step()) break;
    } else {
      first.operation = run_command(*services_, first.type_id, first.message);
      if (first.operation) break;
    }
    forget(first);
    queue.pop_front();
    ++finished;
  }
  return finished;
}

int CommandQueue::poll() {
  int finished = 0;
  for (auto it = queues_.begin(); it != queues_.end();) {
    finished += advance(it->second);
    it = it->second.empty() ? queues_.erase(it) : std::next(it);
  }
  return finished;
}

void CommandQueue::recover() {
  slots_.recover();
  std::vector<std::uint32_t> found = slots_.used();
  std::sort(found.begin(), found.end(), [this](std::uint32_t a, std::uint32_t b) {
    // CLIENT_CLOSE carries -1 and comes last this way.
    return static_cast<std::uint64_t>(slots_.slot(a).correlation_id) < static_cast<std::uint64_t>(slots_.slot(b).correlation_id);
  });
  for (const std::uint32_t index : found) {
    const auto& slot = slots_.slot(index);
    const std::string_view text = services_->world.registry.text(slot.text);
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    const Pending old{slot.type_id, shm::Buffer(bytes, bytes + text.size()), index, nullptr};
    forget(old);
    if (!old.message.empty()) static_cast<void>(submit(old.type_id, old.message));  // a slot was freed just now
  }
}

}  // namespace thalweg::conductor
