#include "dataplane/shm/loss_report.hpp"

#include <algorithm>
#include <atomic>

namespace thalweg::shm {
namespace {

// Offsets inside an entry (5.10).
constexpr std::size_t kCount = 0;
constexpr std::size_t kBytesLost = 8;
constexpr std::size_t kFirst = 16;
constexpr std::size_t kLast = 24;
constexpr std::size_t kSessionId = 32;
constexpr std::size_t kStreamId = 36;
constexpr std::size_t kChannelLength = 40;
constexpr std::size_t kChannel = 44;
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kTextLengthMax = 4095;

std::atomic_ref<std::int64_t> atomic_at(const std::byte* p) noexcept {
  return std::atomic_ref<std::int64_t>{*reinterpret_cast<std::int64_t*>(const_cast<std::byte*>(p))};
}

std::size_t source_offset(std::size_t channel_length) noexcept { return kChannel + align_up<std::size_t>(channel_length, 4); }

std::size_t stride(std::size_t channel_length, std::size_t source_length) noexcept {
  return align_up(source_offset(channel_length) + 4 + source_length, kAlignment);
}

// The stock C reader forgets to align the channel length; its stride is the same unless the entry ends just behind a 64-byte boundary.
bool is_read_alike(std::size_t channel_length, std::size_t source_length) noexcept {
  return stride(channel_length, source_length) == align_up(kChannel + channel_length + 4 + source_length, kAlignment);
}

// Lengths of the entry at `offset`, cut to the section; false when the report ends there.
struct Lengths {
  std::size_t channel;
  std::size_t source;
};
bool entry_at(std::span<const std::byte> section, std::size_t offset, Lengths& lengths) noexcept {
  if (offset + kAlignment > section.size()) return false;
  const std::byte* const p = section.data() + offset;
  if (atomic_at(p + kCount).load(std::memory_order_acquire) <= 0) return false;
  const std::size_t room = section.size() - offset;
  const auto channel = load_le<std::int32_t>(p + kChannelLength);
  lengths.channel = std::min(static_cast<std::size_t>(std::max(channel, 0)), (room - kChannel - 4) & ~std::size_t{3});
  const std::size_t at = source_offset(lengths.channel);
  const auto source = load_le<std::int32_t>(p + at);
  lengths.source = std::min(static_cast<std::size_t>(std::max(source, 0)), room - at - 4);
  return true;
}

}  // namespace

std::int64_t LossReport::create_entry(std::int64_t bytes_lost, std::int64_t now_ms, std::int32_t session_id, std::int32_t stream_id,
                                      std::string_view channel, std::string_view source) noexcept {
  channel = channel.substr(0, kTextLengthMax);
  source = source.substr(0, kTextLengthMax);
  std::size_t source_length = source.size();
  while (!is_read_alike(channel.size(), source_length)) ++source_length;  // filled with spaces: at most three
  const std::size_t source_at = source_offset(channel.size());
  if (next_ + source_at + 4 + source_length > section_.size()) return -1;
  const std::size_t offset = next_;
  std::byte* const p = section_.data() + offset;
  store_le(p + kBytesLost, bytes_lost);
  store_le(p + kFirst, now_ms);
  store_le(p + kLast, now_ms);
  store_le(p + kSessionId, session_id);
  store_le(p + kStreamId, stream_id);
  store_le(p + kChannelLength, static_cast<std::int32_t>(channel.size()));
  if (!channel.empty()) std::memcpy(p + kChannel, channel.data(), channel.size());
  store_le(p + source_at, static_cast<std::int32_t>(source_length));
  std::memset(p + source_at + 4, ' ', source_length);
  if (!source.empty()) std::memcpy(p + source_at + 4, source.data(), source.size());
  next_ += stride(channel.size(), source_length);
  atomic_at(p + kCount).store(1, std::memory_order_release);
  return static_cast<std::int64_t>(offset);
}

void LossReport::record(std::int64_t entry, std::int64_t bytes_lost, std::int64_t now_ms) noexcept {
  if (entry < 0 || static_cast<std::size_t>(entry) + kAlignment > next_) return;
  std::byte* const p = section_.data() + entry;
  atomic_at(p + kLast).store(now_ms, std::memory_order_release);
  atomic_at(p + kBytesLost).fetch_add(bytes_lost, std::memory_order_acq_rel);
  atomic_at(p + kCount).fetch_add(1, std::memory_order_acq_rel);
}

void LossReport::recover() noexcept {
  next_ = 0;
  Lengths lengths{};
  while (entry_at(section_, next_, lengths)) next_ += stride(lengths.channel, lengths.source);
}

void read_loss_report(std::span<const std::byte> section, void (*visit)(void*, const LossReportEntry&), void* context) {
  std::size_t offset = 0;
  Lengths lengths{};
  while (entry_at(section, offset, lengths)) {
    const std::byte* const p = section.data() + offset;
    LossReportEntry entry;
    entry.observation_count = atomic_at(p + kCount).load(std::memory_order_acquire);
    entry.bytes_lost = atomic_at(p + kBytesLost).load(std::memory_order_acquire);
    entry.first_ms = load_le<std::int64_t>(p + kFirst);
    entry.last_ms = atomic_at(p + kLast).load(std::memory_order_acquire);
    entry.session_id = load_le<std::int32_t>(p + kSessionId);
    entry.stream_id = load_le<std::int32_t>(p + kStreamId);
    entry.channel = {reinterpret_cast<const char*>(p + kChannel), lengths.channel};
    entry.source = {reinterpret_cast<const char*>(p + source_offset(lengths.channel) + 4), lengths.source};
    visit(context, entry);
    offset += stride(lengths.channel, lengths.source);
  }
}

}  // namespace thalweg::shm
