#include "dataplane/shm/error_log.hpp"

#include <algorithm>
#include <atomic>

namespace thalweg::shm {
namespace {

// Offsets inside a record (5.9).
constexpr std::size_t kLength = 0;
constexpr std::size_t kCount = 4;
constexpr std::size_t kLast = 8;
constexpr std::size_t kFirst = 16;
constexpr std::size_t kText = 24;
constexpr std::size_t kTextLengthMax = 8191;  // what clients are shown at most

template <typename T>
std::atomic_ref<T> atomic_at(const std::byte* p) noexcept {
  return std::atomic_ref<T>{*reinterpret_cast<T*>(const_cast<std::byte*>(p))};
}

// Text length of the record at `offset`, cut to the section; 0 and false when the log ends there.
bool record_at(std::span<const std::byte> section, std::size_t offset, std::size_t& text_length) noexcept {
  if (offset + kText > section.size()) return false;
  const auto length = atomic_at<std::int32_t>(section.data() + offset + kLength).load(std::memory_order_acquire);
  if (length <= 0) return false;
  text_length = std::min(std::max(static_cast<std::size_t>(length), kText), section.size() - offset) - kText;
  return true;
}

std::size_t stride(std::size_t text_length) noexcept { return align_up<std::size_t>(kText + text_length, 8); }

}  // namespace

void DistinctErrorLog::recover() {
  is_recovered_ = true;
  std::size_t length = 0;
  while (record_at(section_, next_, length)) {
    known_.push_back({kAnyCode, next_, length});
    next_ += stride(length);
  }
}

bool DistinctErrorLog::record(std::int32_t code, std::string_view text, std::int64_t now_ms) {
  if (!is_recovered_) recover();
  text = text.substr(0, kTextLengthMax);
  const auto known = std::find_if(known_.begin(), known_.end(), [&](const Known& k) {
    return (k.code == code || k.code == kAnyCode) && k.length == text.size() &&
           std::memcmp(section_.data() + k.offset + kText, text.data(), text.size()) == 0;
  });
  std::size_t offset = next_;
  if (known != known_.end()) {
    offset = known->offset;
  } else {
    if (offset + kText + text.size() > section_.size()) return false;
    std::byte* const p = section_.data() + offset;
    if (!text.empty()) std::memcpy(p + kText, text.data(), text.size());
    store_le(p + kFirst, now_ms);
    atomic_at<std::int32_t>(p + kCount).store(0, std::memory_order_relaxed);
    atomic_at<std::int32_t>(p + kLength).store(static_cast<std::int32_t>(kText + text.size()), std::memory_order_release);
    known_.push_back({code, offset, text.size()});
    next_ += stride(text.size());
  }
  std::byte* const p = section_.data() + offset;
  atomic_at<std::int32_t>(p + kCount).fetch_add(1, std::memory_order_acq_rel);
  atomic_at<std::int64_t>(p + kLast).store(now_ms, std::memory_order_release);
  return true;
}

void read_error_log(std::span<const std::byte> section, void (*visit)(void*, const ErrorLogEntry&), void* context) {
  std::size_t offset = 0;
  std::size_t length = 0;
  while (record_at(section, offset, length)) {
    const std::byte* const p = section.data() + offset;
    ErrorLogEntry entry;
    entry.observation_count = atomic_at<std::int32_t>(p + kCount).load(std::memory_order_acquire);
    entry.last_ms = atomic_at<std::int64_t>(p + kLast).load(std::memory_order_acquire);
    entry.first_ms = load_le<std::int64_t>(p + kFirst);
    entry.text = {reinterpret_cast<const char*>(p + kText), length};
    visit(context, entry);
    offset += stride(length);
  }
}

}  // namespace thalweg::shm
