#include "dataplane/client/counters_reader.hpp"

#include <algorithm>

namespace thalweg::client {
namespace {
// Offsets inside a metadata record (5.1) and a values record (5.2).
constexpr std::size_t kTypeId = 4;
constexpr std::size_t kReuseDeadline = 8;
constexpr std::size_t kLabelLength = 128;
constexpr std::size_t kLabel = 132;
constexpr std::size_t kValue = 0;
constexpr std::size_t kRegistrationId = 8;
constexpr std::size_t kOwnerId = 16;
constexpr std::size_t kReferenceId = 24;
}  // namespace

std::optional<shm::CountersReader::View> CountersReader::find(std::int32_t type_id, std::int64_t registration_id) const noexcept {
  for (std::int32_t id = 0; id < capacity(); ++id) {
    const shm::CounterState now = state(id);
    if (now == shm::CounterState::kUnused) return std::nullopt;
    const auto view = now == shm::CounterState::kAllocated ? find(id) : std::nullopt;
    if (view && view->type_id == type_id && view->registration_id == registration_id) return view;
  }
  return std::nullopt;
}

bool CountersReader::is_same(const View& view) const noexcept {
  const auto now = find(view.id);
  return now && now->type_id == view.type_id && now->registration_id == view.registration_id && now->owner_id == view.owner_id;
}

std::int64_t CountersReader::word(std::int32_t id, std::size_t offset) const noexcept {
  if (!is_id(id)) return 0;
  std::byte* const at = values_.data() + static_cast<std::size_t>(id) * shm::kCounterValueLength + offset;
  return std::atomic_ref<std::int64_t>{*reinterpret_cast<std::int64_t*>(at)}.load(std::memory_order_acquire);
}

std::int32_t CountersReader::type_id(std::int32_t id) const noexcept { return is_id(id) ? load_le<std::int32_t>(record(id) + kTypeId) : -1; }
std::int64_t CountersReader::value(std::int32_t id) const noexcept { return word(id, kValue); }
std::int64_t CountersReader::registration_id(std::int32_t id) const noexcept { return word(id, kRegistrationId); }
std::int64_t CountersReader::owner_id(std::int32_t id) const noexcept { return word(id, kOwnerId); }
std::int64_t CountersReader::reference_id(std::int32_t id) const noexcept { return word(id, kReferenceId); }
std::int64_t CountersReader::reuse_deadline_ms(std::int32_t id) const noexcept {
  return is_id(id) ? load_le<std::int64_t>(record(id) + kReuseDeadline) : 0;
}
shm::CounterState CountersReader::state(std::int32_t id) const noexcept {
  return is_id(id) ? shm::CountersReader::state(id) : shm::CounterState::kUnused;
}

std::string CountersReader::label(std::int32_t id) const {
  if (!is_id(id)) return {};
  const auto length = std::atomic_ref<std::int32_t>{*reinterpret_cast<std::int32_t*>(record(id) + kLabelLength)}.load(std::memory_order_acquire);
  return {reinterpret_cast<const char*>(record(id) + kLabel), static_cast<std::size_t>(std::clamp<std::int32_t>(length, 0, shm::kCounterLabelMax))};
}

}  // namespace thalweg::client
