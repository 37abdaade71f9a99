#include "dataplane/shm/counters.hpp"

#include <algorithm>
#include <limits>

namespace thalweg::shm {
namespace {

constexpr std::int64_t kNeverReused = std::numeric_limits<std::int64_t>::max();

// Offsets inside a metadata record (5.1) and a values record (5.2).
constexpr std::size_t kTypeId = 4;
constexpr std::size_t kReuseDeadline = 8;
constexpr std::size_t kKey = 16;
constexpr std::size_t kLabelLength = 128;
constexpr std::size_t kLabel = 132;
constexpr std::size_t kRegistrationId = 8;
constexpr std::size_t kOwnerId = 16;
constexpr std::size_t kReferenceId = 24;

template <typename T>
std::atomic_ref<T> atomic_at(std::byte* p) noexcept {
  return std::atomic_ref<T>{*reinterpret_cast<T*>(p)};
}

std::byte* metadata_of(std::span<std::byte> metadata, std::int32_t id) noexcept {
  return metadata.data() + static_cast<std::size_t>(id) * kCounterMetadataLength;
}
std::byte* value_of(std::span<std::byte> values, std::int32_t id) noexcept {
  return values.data() + static_cast<std::size_t>(id) * kCounterValueLength;
}

void put_key(std::byte* record, std::span<const std::byte> key) noexcept {
  const std::size_t length = std::min(key.size(), kCounterKeyMax);
  if (length != 0) std::memcpy(record + kKey, key.data(), length);
  std::memset(record + kKey + length, 0, kCounterKeyMax - length);
}

void put_label(std::byte* record, std::string_view label) noexcept {
  const std::size_t length = std::min(label.size(), kCounterLabelMax);
  if (length != 0) std::memcpy(record + kLabel, label.data(), length);
  atomic_at<std::int32_t>(record + kLabelLength).store(static_cast<std::int32_t>(length), std::memory_order_release);
}

// A length-prefixed text at `offset` of a key, cut to what the layout has room for.
void put_key_text(CounterKey& key, std::size_t offset, std::size_t room, std::string_view text) noexcept {
  const std::size_t length = std::min(text.size(), room);
  store_le(key.bytes + offset, static_cast<std::int32_t>(length));
  if (length != 0) std::memcpy(key.bytes + offset + 4, text.data(), length);
}

}  // namespace

CounterState CountersReader::state(std::int32_t id) const noexcept {
  return static_cast<CounterState>(atomic_at<std::int32_t>(metadata_of(metadata_, id)).load(std::memory_order_acquire));
}

std::optional<CountersReader::View> CountersReader::find(std::int32_t id) const noexcept {
  if (id < 0 || id >= capacity() || state(id) != CounterState::kAllocated) return std::nullopt;
  std::byte* const record = metadata_of(metadata_, id);
  std::byte* const value = value_of(values_, id);
  const std::int32_t label_length = atomic_at<std::int32_t>(record + kLabelLength).load(std::memory_order_acquire);
  View view;
  view.id = id;
  view.type_id = load_le<std::int32_t>(record + kTypeId);
  view.value = atomic_at<std::int64_t>(value).load(std::memory_order_acquire);
  view.registration_id = atomic_at<std::int64_t>(value + kRegistrationId).load(std::memory_order_acquire);
  // Atomic although nothing follows from their order: they are stored behind the state, so a reader may meet the writer (5.3).
  view.owner_id = atomic_at<std::int64_t>(value + kOwnerId).load(std::memory_order_relaxed);
  view.reference_id = atomic_at<std::int64_t>(value + kReferenceId).load(std::memory_order_relaxed);
  view.key = {record + kKey, kCounterKeyMax};
  view.label = {reinterpret_cast<const char*>(record + kLabel),
                static_cast<std::size_t>(std::clamp<std::int32_t>(label_length, 0, kCounterLabelMax))};
  return view;
}

Counter CountersReader::counter(std::int32_t id) const noexcept {
  return Counter{reinterpret_cast<std::int64_t*>(value_of(values_, id))};
}

CountersManager::CountersManager(std::span<std::byte> metadata, std::span<std::byte> values, std::int64_t free_to_reuse_ms)
    : CountersReader{metadata, values.first(std::min(values.size(), metadata.size() / kCounterMetadataLength * kCounterValueLength))},
      free_to_reuse_ms_{free_to_reuse_ms},
      is_allocated_(static_cast<std::size_t>(capacity())) {}

void CountersManager::recover(std::int64_t now_ms) {
  free_.clear();
  high_water_ = -1;
  is_allocated_.assign(is_allocated_.size(), false);
  for (std::int32_t id = 0; id < capacity(); ++id) {
    const CounterState s = state(id);
    if (s != CounterState::kUnused) high_water_ = id;
    is_allocated_[static_cast<std::size_t>(id)] = s == CounterState::kAllocated;
  }
  for (std::int32_t id = 0; id <= high_water_; ++id) {
    if (is_allocated_[static_cast<std::size_t>(id)]) continue;
    // Readers stop at an unused record: a hole below the high-water mark (a predecessor that died, a client that scribbled) is closed.
    std::byte* const record = metadata_of(metadata_, id);
    atomic_at<std::int32_t>(record).store(static_cast<std::int32_t>(CounterState::kReclaimed), std::memory_order_release);
    free_.push_back({id, std::min(load_le<std::int64_t>(record + kReuseDeadline), now_ms + free_to_reuse_ms_)});
  }
  std::stable_sort(free_.begin(), free_.end(), [](const Freed& a, const Freed& b) { return a.deadline_ms < b.deadline_ms; });
}

Result<std::int32_t> CountersManager::allocate(const Spec& spec, std::int64_t now_ms) {
  std::int32_t id = kNullCounterId;
  const auto ready = std::find_if(free_.begin(), free_.end(), [now_ms](const Freed& freed) { return freed.deadline_ms <= now_ms; });
  if (ready != free_.end()) {
    id = ready->id;
    free_.erase(ready);
    std::byte* const value = value_of(values_, id);
    atomic_at<std::int64_t>(value + kRegistrationId).store(0, std::memory_order_release);
    atomic_at<std::int64_t>(value + kOwnerId).store(0, std::memory_order_relaxed);
    atomic_at<std::int64_t>(value + kReferenceId).store(0, std::memory_order_relaxed);
    atomic_at<std::int64_t>(value).store(0, std::memory_order_release);
  } else if (high_water_ + 1 < capacity()) {
    id = ++high_water_;
  } else {
    return fail(ErrorCode::kNoSpace, "max counter id exceeded: all " + std::to_string(capacity()) + " counters are taken",
                "raise the number of counters in the configuration and restart");
  }
  is_allocated_[static_cast<std::size_t>(id)] = true;
  publish(id, spec);
  return id;
}

void CountersManager::publish(std::int32_t id, const Spec& spec) noexcept {
  std::byte* const record = metadata_of(metadata_, id);
  std::byte* const value = value_of(values_, id);
  store_le(record + kTypeId, spec.type_id);
  store_le(record + kReuseDeadline, kNeverReused);
  put_key(record, spec.key);
  put_label(record, spec.label);
  // Pairs with the acquire in state(). The order of the stores, ids behind the state, is contractual (5.3).
  atomic_at<std::int32_t>(record).store(static_cast<std::int32_t>(CounterState::kAllocated), std::memory_order_release);
  atomic_at<std::int64_t>(value + kRegistrationId).store(spec.registration_id, std::memory_order_release);
  atomic_at<std::int64_t>(value + kOwnerId).store(spec.owner_id, std::memory_order_relaxed);
  atomic_at<std::int64_t>(value + kReferenceId).store(spec.reference_id, std::memory_order_relaxed);
  atomic_at<std::int64_t>(value).store(spec.initial_value, std::memory_order_release);
}

void CountersManager::free(std::int32_t id, std::int64_t now_ms) noexcept {
  if (id < 0 || id > high_water_ || !is_allocated_[static_cast<std::size_t>(id)]) return;
  is_allocated_[static_cast<std::size_t>(id)] = false;
  std::byte* const record = metadata_of(metadata_, id);
  atomic_at<std::int32_t>(record).store(static_cast<std::int32_t>(CounterState::kReclaimed), std::memory_order_release);
  put_key(record, {});
  store_le(record + kReuseDeadline, now_ms + free_to_reuse_ms_);
  free_.push_back({id, now_ms + free_to_reuse_ms_});
}

void CountersManager::update_label(std::int32_t id, std::string_view label) noexcept {
  if (id >= 0 && id <= high_water_) put_label(metadata_of(metadata_, id), label);
}

void CountersManager::update_key(std::int32_t id, std::span<const std::byte> key) noexcept {
  if (id >= 0 && id <= high_water_) put_key(metadata_of(metadata_, id), key);
}

CounterKey stream_key(std::int64_t registration_id, std::int32_t session_id, std::int32_t stream_id, std::string_view channel) noexcept {
  CounterKey key;
  store_le(key.bytes, registration_id);
  store_le(key.bytes + 8, session_id);
  store_le(key.bytes + 12, stream_id);
  put_key_text(key, 16, 92, channel);
  return key;
}

CounterKey channel_key(std::string_view channel) noexcept {
  CounterKey key;
  put_key_text(key, 0, 108, channel);
  return key;
}

CounterKey sockaddr_key(std::int32_t status_counter_id, std::string_view address) noexcept {
  CounterKey key;
  store_le(key.bytes, status_counter_id);
  put_key_text(key, 4, 103, address);
  return key;
}

CounterKey heartbeat_key(std::int64_t client_id) noexcept {
  CounterKey key;
  store_le(key.bytes, client_id);
  return key;
}

std::string stream_label(std::string_view name, std::int64_t registration_id, std::int32_t session_id, std::int32_t stream_id,
                         std::string_view channel) {
  return std::string{name} + ": " + std::to_string(registration_id) + " " + std::to_string(session_id) + " " + std::to_string(stream_id) +
         " " + std::string{channel};
}

}  // namespace thalweg::shm
