#include "controlplane/conductor/command_queue.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace thalweg::conductor {

OperationPtr CommandQueue::run(std::int32_t type_id, shm::Bytes message) {
  const CommandGuard::Id id = CommandGuard::identify(type_id, message);
  if (guard_.is_quarantined(id)) {
    refuse_quarantined(id);
    return nullptr;
  }
  services_->is_replayed = guard_.is_begun(id);
  guard_.begin(id);
  OperationPtr operation = run_command(*services_, type_id, message);
  guard_.end(operation == nullptr);
  services_->is_replayed = false;
  return operation;
}

bool CommandQueue::step(Pending& pending) {
  guard_.begin(CommandGuard::identify(pending.type_id, pending.message));
  const bool is_finished = pending.operation->step();
  guard_.end(is_finished);
  return is_finished;
}

void CommandQueue::refuse_quarantined(const CommandGuard::Id& id) {
  const CommandError error{shm::ClientError::kGeneric,
                           fmt::format("quarantined: the control plane crashed {} times at work on {}", shm::kCrashesMax, text_of(id))};
  answer_error(services_->world, id.correlation_id, error);
}

bool CommandQueue::submit(std::int32_t type_id, shm::Bytes message) {
  const bool was_resumed = std::find(resumed_.begin(), resumed_.end(), CommandGuard::identify(type_id, message)) != resumed_.end();
  resumed_.clear();  // only the first one can be
  if (was_resumed) return true;
  const auto header = shm::decode<shm::CommandHeader>(message);
  const bool is_keepalive = static_cast<shm::Command>(type_id) == shm::Command::kClientKeepalive;
  if (!header || is_keepalive) {  // nobody waits for these, and nothing orders them
    static_cast<void>(run(type_id, message));
    return true;
  }
  if (slots_.free_count() == 0) return false;
  const auto waiting = queues_.find(header->client_id);
  Pending pending{type_id, shm::Buffer(message.begin(), message.end()), shm::kNoSlot, nullptr};
  if (waiting == queues_.end()) {
    pending.operation = run(type_id, pending.message);
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
      if (!step(first)) break;
    } else {
      first.operation = run(first.type_id, first.message);
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

void CommandQueue::settle() {
  slots_.recover();
  const auto finished = guard_.recover();
  if (!finished) return;
  const std::vector<std::uint32_t> found = slots_.used();
  for (const std::uint32_t index : found) {
    const auto& slot = slots_.slot(index);
    if (CommandGuard::Id{slot.client_id, slot.correlation_id, slot.type_id} == *finished) forget({slot.type_id, {}, index, nullptr});
  }
  const auto is_it = [&finished](std::int32_t type_id, shm::Bytes message) { return CommandGuard::identify(type_id, message) == *finished; };
  static_cast<void>(services_->world.ring.read(is_it, 1));  // anything else stays there
}

void CommandQueue::recover() {
  std::vector<std::uint32_t> found = slots_.used();
  std::sort(found.begin(), found.end(), [this](std::uint32_t a, std::uint32_t b) {
    // CLIENT_CLOSE carries -1 and comes last this way.
    return static_cast<std::uint64_t>(slots_.slot(a).correlation_id) < static_cast<std::uint64_t>(slots_.slot(b).correlation_id);
  });
  for (const std::uint32_t index : found) {
    const auto& slot = slots_.slot(index);
    const std::string_view text = services_->world.registry.text(slot.text);
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    Pending old{slot.type_id, shm::Buffer(bytes, bytes + text.size()), index, nullptr};
    if (!old.message.empty()) resumed_.push_back({slot.client_id, slot.correlation_id, slot.type_id});
    resume(std::move(old), slot.client_id);
  }
}

// It keeps its slot until it is answered: we may die of it, too.
void CommandQueue::resume(Pending old, std::int64_t client_id) {
  if (old.message.empty()) return forget(old);  // was too long for a text page
  if (!queues_.contains(client_id)) {
    old.operation = run(old.type_id, old.message);
    if (!old.operation) return forget(old);
  }
  queues_[client_id].push_back(std::move(old));
}

}  // namespace thalweg::conductor
