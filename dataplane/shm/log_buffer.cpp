#include "dataplane/shm/log_buffer.hpp"

#include <algorithm>
#include <limits>

#include "dataplane/base/planted.hpp"
#include "dataplane/wire/frames.hpp"

namespace thalweg::shm {
namespace {

using wire::kFrameAlignment;
using wire::kPartitionCount;

template <typename T>
void put(const LogBuffer& log, std::size_t offset, T value) noexcept {
  store_le(log.metadata() + offset, value);
}

void put(const LogBuffer& log, std::size_t offset, bool value) noexcept { store_le(log.metadata() + offset, static_cast<std::uint8_t>(value)); }

// The count is a client's to write: only its residue is used, so that any value names a partition.
int partition_of_count(std::int32_t count) noexcept {
  return static_cast<int>(static_cast<std::uint32_t>(count) % static_cast<std::uint32_t>(kPartitionCount));
}

std::atomic_ref<std::int64_t> tail_ref(const LogBuffer& log, int partition) noexcept {
  return std::atomic_ref<std::int64_t>{*reinterpret_cast<std::int64_t*>(log.metadata() + meta::kTails + 8 * static_cast<std::size_t>(partition))};
}

void put_tails(const LogBuffer& log, const LogMetadata& m) noexcept {
  const std::int32_t count = wire::wrapping_sub(m.start_term_id, m.initial_term_id);
  for (std::int32_t ahead = 0; ahead < kPartitionCount; ++ahead) {
    const std::int32_t term_id = wire::wrapping_add(m.start_term_id, ahead == 0 ? 0 : ahead - kPartitionCount);
    const auto partition = static_cast<std::size_t>(partition_of_count(wire::wrapping_add(count, ahead)));
    put(log, meta::kTails + 8 * partition, pack_tail(term_id, ahead == 0 ? m.start_term_offset : 0));
  }
  put(log, meta::kActiveTermCount, count);
}

void put_default_header(const LogBuffer& log, const LogMetadata& m) noexcept {
  wire::build(log.metadata() + meta::kDefaultHeader,
              wire::DataHeader{.session_id = m.session_id, .stream_id = m.stream_id, .term_id = m.initial_term_id});
}

// Turns the claim of a dead publisher into padding; the length is published last, as by any publisher.
void pad_frame(const LogBuffer& log, std::int32_t term_id, std::byte* frame, std::int32_t offset, std::int32_t length) noexcept {
  wire::DataHeader header{.type = wire::FrameType::kPad, .term_offset = offset, .term_id = term_id};
  header.session_id = load_le<std::int32_t>(log.metadata() + meta::kDefaultHeader + 12);
  header.stream_id = load_le<std::int32_t>(log.metadata() + meta::kDefaultHeader + 16);
  std::byte bytes[wire::kDataHeaderLength];
  wire::build(bytes, header);
  std::memcpy(frame + 4, bytes + 4, sizeof bytes - 4);
  frame_length_release(frame, length);
}

// First 32-byte step in (from, end) whose length word is set, `end` if none is.
std::int32_t next_written(std::byte* term, std::int32_t from, std::int32_t end) noexcept {
  std::int32_t offset = from + kFrameAlignment;
  while (offset < end && frame_length_acquire(term + offset) == 0) offset += kFrameAlignment;
  return std::min(offset, end);
}

// True when all length words of [from, to) are zero, looking backwards: publishers write a frame's length before anything else of it,
// so a claim that came to life during the forward scan is seen here.
bool is_still_empty(std::byte* term, std::int32_t from, std::int32_t to) noexcept {
  for (std::int32_t offset = to - kFrameAlignment; offset >= from; offset -= kFrameAlignment) {
    if (frame_length_acquire(term + offset) != 0) return false;
  }
  return true;
}

}  // namespace

void init_log_metadata(const LogBuffer& log, const LogMetadata& m) noexcept {
  const bool is_image = m.type == LogType::kImage;
  if (!is_image) put_tails(log, m);
  put(log, meta::kEndOfStreamPosition, std::numeric_limits<std::int64_t>::max());
  put(log, meta::kCorrelationId, m.correlation_id);
  put(log, meta::kInitialTermId, m.initial_term_id);
  put(log, meta::kDefaultFrameHeaderLength, wire::kDataHeaderLength);
  put(log, meta::kMtuLength, m.mtu);
  put(log, meta::kTermLength, m.term_length);
  put(log, meta::kPageSize, m.page_size);
  put(log, meta::kPublicationWindowLength, is_image ? 0 : m.publication_window);
  put(log, meta::kReceiverWindowLength, is_image ? m.receiver_window : 0);
  put(log, meta::kSocketSndbuf, m.socket_sndbuf);
  put(log, meta::kOsDefaultSndbuf, m.os_default_sndbuf);
  put(log, meta::kOsMaxSndbuf, m.os_max_sndbuf);
  put(log, meta::kSocketRcvbuf, m.socket_rcvbuf);
  put(log, meta::kOsDefaultRcvbuf, m.os_default_rcvbuf);
  put(log, meta::kOsMaxRcvbuf, m.os_max_rcvbuf);
  put(log, meta::kMaxResend, is_image ? 0 : m.max_resend);
  put_default_header(log, m);
  put(log, meta::kEntityTag, is_image ? std::int64_t{0} : m.entity_tag);
  put(log, meta::kResponseCorrelationId, is_image ? std::int64_t{0} : m.response_correlation_id);
  put(log, meta::kLinger_ns, is_image ? std::int64_t{0} : m.linger_ns);
  put(log, meta::kUntetheredWindowLimitTimeout_ns, m.untethered_window_limit_timeout_ns);
  put(log, meta::kUntetheredRestingTimeout_ns, m.untethered_resting_timeout_ns);
  put(log, meta::kUntetheredLingerTimeout_ns, m.untethered_linger_timeout_ns);
  put(log, meta::kGroup, m.group);
  put(log, meta::kIsResponse, m.is_response);
  put(log, meta::kRejoin, is_image && m.rejoin);
  put(log, meta::kReliable, is_image && m.reliable);
  put(log, meta::kSparse, m.sparse);
  put(log, meta::kSignalEos, !is_image && m.signal_eos);
  put(log, meta::kSpiesSimulateConnection, !is_image && m.spies_simulate_connection);
  put(log, meta::kTether, is_image && m.tether);
  put(log, meta::kType, static_cast<std::uint8_t>(m.type));
}

std::int64_t producer_position(const LogBuffer& log, std::int32_t initial_term_id) noexcept {
  const std::int64_t raw = log.raw_tail(partition_of_count(log.active_term_count()));
  const std::int32_t term_count = wire::wrapping_sub(tail_term_id(raw), initial_term_id);
  if (term_count < 0) return 0;
  return (static_cast<std::int64_t>(term_count) << log.position_bits()) + tail_offset(raw, log.term_length());
}

bool rotate_log(const LogBuffer& log, std::int32_t term_count, std::int32_t term_id) noexcept {
  const std::int32_t next_count = wire::wrapping_add(term_count, 1);
  const std::int32_t next_id = wire::wrapping_add(term_id, planted(Bug::kWrongRotation) ? 2 : 1);
  const std::int32_t stale_id = wire::wrapping_sub(next_id, kPartitionCount);
  auto tail = tail_ref(log, partition_of_count(next_count));
  std::int64_t raw = tail.load(std::memory_order_acquire);
  while (tail_term_id(raw) == stale_id && !tail.compare_exchange_weak(raw, pack_tail(next_id, 0), std::memory_order_acq_rel)) {
  }
  std::int32_t expected = term_count;
  return std::atomic_ref<std::int32_t>{*reinterpret_cast<std::int32_t*>(log.metadata() + meta::kActiveTermCount)}.compare_exchange_strong(
      expected, next_count, std::memory_order_acq_rel);
}

bool unblock_log(const LogBuffer& log, std::int64_t blocked_position, std::int32_t initial_term_id, bool has_producers) noexcept {
  const int bits = log.position_bits();
  const std::int32_t count = wire::term_count_of(blocked_position, bits);
  const std::int32_t offset = wire::term_offset_of(blocked_position, bits);
  const std::int32_t term_id = wire::wrapping_add(initial_term_id, count);
  const std::int32_t active_count = log.active_term_count();
  if (count > 0 && active_count == count - 1 && offset == 0) {  // died between padding the term and rotating
    return rotate_log(log, active_count, wire::wrapping_sub(term_id, 1));
  }

  const int partition = partition_of_count(count);
  const std::int64_t raw = log.raw_tail(partition);
  if (tail_term_id(raw) != term_id) return false;
  std::byte* const term = log.term(partition);
  std::byte* const frame = term + offset;
  const std::int32_t room = log.term_length() - offset;
  const std::int32_t length = frame_length_acquire(frame);
  if (length > 0) return false;
  if (length < 0) {  // claimed and never committed; what a client left there as the length is not to be trusted
    const std::int64_t claimed = -static_cast<std::int64_t>(length);
    pad_frame(log, term_id, frame, offset, static_cast<std::int32_t>(std::clamp<std::int64_t>(claimed, wire::kDataHeaderLength, room)));
    return true;
  }

  const std::int32_t end = tail_offset(raw, log.term_length()) & -kFrameAlignment;
  if (end <= offset) return false;
  const std::int32_t next = next_written(term, offset, end);
  const bool is_to_end = next == log.term_length();
  if (next == end && !is_to_end && has_producers) return false;
  if (!is_still_empty(term, offset, next)) return false;
  pad_frame(log, term_id, frame, offset, next - offset);
  if (is_to_end) rotate_log(log, count, term_id);
  return true;
}

void clean_log(const LogBuffer& log, std::int64_t from, std::int64_t to) noexcept {
  if (from >= to) return;
  std::byte* const begin = log.at(from);
  std::memset(begin + 8, 0, static_cast<std::size_t>(to - from) - 8);
  std::atomic_ref<std::int64_t>{*reinterpret_cast<std::int64_t*>(begin)}.store(0, std::memory_order_release);
}

}  // namespace thalweg::shm
