#pragma once
#include <atomic>
#include <cstring>
#include <span>

#include "dataplane/client/header.hpp"

// How frames get into a term (client-protocol 7.5, step 6). Internal to libthalweg.
namespace thalweg::client::detail {

using Bytes = std::span<const std::byte>;

// What every frame of one publication carries, taken from the driver's answer and never from the log, which others can write.
struct FrameIdentity {
  std::int32_t session_id{};
  std::int32_t stream_id{};
};

template <typename T>
inline void store_release(std::byte* p, T value) noexcept {
  std::atomic_ref<T>{*reinterpret_cast<T*>(p)}.store(value, std::memory_order_release);
}

// Opens a frame: its length is negative until commit. The header words are release stores, which keeps them behind the negative length
// without a fence: whoever unblocks a dead publisher must never see a header under a zero length (7.8).
inline void open_frame(std::byte* at, std::int32_t length, std::uint8_t flags, std::uint16_t type, std::int32_t term_offset,
                       const FrameIdentity& id, std::int32_t term_id, std::int64_t reserved_value) noexcept {
  const auto pack = [](std::int32_t low, std::int32_t high) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(high)) << 32 | static_cast<std::uint32_t>(low);
  };
  shm::frame_length_release(at, -length);
  store_release<std::uint32_t>(at + 4, static_cast<std::uint32_t>(flags) << 8 | static_cast<std::uint32_t>(type) << 16);
  store_release<std::uint64_t>(at + frame::kTermOffsetOffset, pack(term_offset, id.session_id));
  store_release<std::uint64_t>(at + frame::kStreamIdOffset, pack(id.stream_id, term_id));
  store_release<std::int64_t>(at + frame::kReservedValueOffset, reserved_value);
}

// Fills [offset, term_length) with one padding frame. Precondition: offset < term_length, both multiples of 32.
inline void write_padding(std::byte* term, std::int32_t offset, std::int32_t term_length, const FrameIdentity& id, std::int32_t term_id) noexcept {
  const std::int32_t length = term_length - offset;
  open_frame(term + offset, length, frame::kUnfragmented, frame::kTypePad, offset, id, term_id, 0);
  shm::frame_length_release(term + offset, length);  // pairs with Image::poll and the sender's scan
}

// Bytes in a term of a message of `length` bytes, cut into fragments of `max_payload`. Precondition: 0 <= length, 0 < max_payload.
// The division is paid by messages longer than a fragment only; against copying a fragment it does not show.
[[nodiscard]] inline std::int32_t framed_length(std::int32_t length, std::int32_t max_payload) noexcept {
  if (length <= max_payload) return frame::aligned(length + frame::kHeaderLength);
  const std::int32_t full = length / max_payload;
  const std::int32_t rest = length - full * max_payload;
  return full * frame::aligned(max_payload + frame::kHeaderLength) + (rest > 0 ? frame::aligned(rest + frame::kHeaderLength) : 0);
}

// Where a message's bytes come from: one piece, or several gathered in order.
class SpanSource {
 public:
  explicit SpanSource(Bytes message) noexcept : p_{message.data()} {}
  void take(std::byte* to, std::size_t n) noexcept {
    if (n != 0) std::memcpy(to, p_, n);  // memcpy from null is undefined even for nothing
    p_ += n;
  }

 private:
  const std::byte* p_;
};

class GatherSource {
 public:
  explicit GatherSource(std::span<const Bytes> parts) noexcept : parts_{parts} {}
  void take(std::byte* to, std::size_t n) noexcept {
    while (n != 0) {
      const Bytes part = parts_.front().subspan(used_);
      const std::size_t step = part.size() < n ? part.size() : n;
      if (step != 0) std::memcpy(to, part.data(), step);
      to += step;
      n -= step;
      used_ += step;
      if (used_ == parts_.front().size()) {
        parts_ = parts_.subspan(1);
        used_ = 0;
      }
    }
  }

 private:
  std::span<const Bytes> parts_;
  std::size_t used_{};
};

// Total of a gather list, stopping above `limit` so that the sum cannot overflow.
[[nodiscard]] inline std::size_t total_length(std::span<const Bytes> parts, std::size_t limit) noexcept {
  std::size_t total = 0;
  for (const Bytes part : parts) {
    if (part.size() > limit - total) return limit + 1;
    total += part.size();
  }
  return total;
}

// The frame at `at` of a block: how much of a term it takes, 0 when it is none. `room`: from there to the end of its block or term.
struct BlockFrame {
  std::int32_t span{};
  std::int32_t length{};   // with its header
  std::uint32_t kind{};    // version, flags and type, as they lie there
  bool is_padding{};
};
[[nodiscard]] inline BlockFrame block_frame(const std::byte* at, std::int32_t max_payload, std::int32_t room) noexcept {
  BlockFrame found;
  found.length = load_le<std::int32_t>(at);
  found.kind = load_le<std::uint32_t>(at + 4);
  const auto type = static_cast<std::uint16_t>(found.kind >> 16);
  found.is_padding = type == frame::kTypePad;
  if ((found.kind & 0xFFU) != 0 || (type != frame::kTypeData && !found.is_padding)) return {};
  if (found.length < frame::kHeaderLength || found.length > room) return {};
  if (!found.is_padding && found.length > max_payload + frame::kHeaderLength) return {};
  found.span = frame::aligned(found.length);
  return found.span > room ? BlockFrame{} : found;
}

// Bytes of a term that a block of whole frames takes; 0: it is none. Of padding at its end the header is enough.
[[nodiscard]] inline std::int32_t block_span(Bytes block, std::int32_t max_payload, std::int32_t term_length) noexcept {
  if (block.size() > static_cast<std::size_t>(term_length) || block.size() % frame::kAlignment != 0) return 0;
  const auto size = static_cast<std::int32_t>(block.size());
  std::int32_t at = 0;
  while (at < size) {
    const BlockFrame found = block_frame(block.data() + at, max_payload, term_length - at);
    const bool is_header_alone = found.is_padding && size - at == frame::kHeaderLength;
    if (found.span == 0 || (found.span > size - at && !is_header_alone)) return 0;
    at += found.span;
  }
  return at;
}

// Writes a block of block_span() `span` into claimed, zeroed term space. Until all of it is there its first frame has minus `span` as its length: should we
// die, the whole of it becomes padding. The block may lie where others can write: what is no frame any more becomes padding, too.
inline void write_block(std::byte* term, std::int32_t offset, std::int32_t span, std::int32_t max_payload, const FrameIdentity& id, std::int32_t term_id,
                        Bytes block) noexcept {
  std::byte* const first = term + offset;
  shm::frame_length_release(first, -span);
  std::int32_t first_length = span;
  for (std::int32_t at = 0; at < span;) {
    const std::byte* const from = block.data() + at;
    const auto size = static_cast<std::int32_t>(block.size()) - at;
    BlockFrame frame = block_frame(from, max_payload, span - at);
    if (frame.span == 0 || (frame.span > size && !(frame.is_padding && size == frame::kHeaderLength && frame.span == span - at)))
      frame = {.span = span - at, .length = span - at, .kind = std::uint32_t{frame::kUnfragmented} << 8, .is_padding = true};
    std::byte* const to = first + at;
    if (at == 0) first_length = frame.length;
    else store_le(to, frame.length);
    store_le(to + 4, frame.kind);
    store_le(to + frame::kTermOffsetOffset, offset + at);
    store_le(to + frame::kSessionIdOffset, id.session_id);
    store_le(to + frame::kStreamIdOffset, id.stream_id);
    store_le(to + frame::kTermIdOffset, term_id);
    std::memcpy(to + frame::kReservedValueOffset, from + frame::kReservedValueOffset, sizeof(std::int64_t));
    if (!frame.is_padding) std::memcpy(to + frame::kHeaderLength, from + frame::kHeaderLength, static_cast<std::size_t>(frame.length - frame::kHeaderLength));
    at += frame.span;
  }
  shm::frame_length_release(first, first_length);  // pairs with Image::poll and the sender's scan
}

// Writes one message into claimed, zeroed term space, committing fragment after fragment.
template <typename Source>
inline void write_message(std::byte* term, std::int32_t offset, std::int32_t length, std::int32_t max_payload, const FrameIdentity& id,
                          std::int32_t term_id, std::int64_t reserved_value, Source source) noexcept {
  std::uint8_t flags = frame::kBegin;
  std::int32_t remaining = length;
  do {
    const std::int32_t payload = remaining < max_payload ? remaining : max_payload;
    remaining -= payload;
    if (remaining == 0) flags |= frame::kEnd;
    const std::int32_t frame_length = payload + frame::kHeaderLength;
    std::byte* at = term + offset;
    open_frame(at, frame_length, flags, frame::kTypeData, offset, id, term_id, reserved_value);
    source.take(at + frame::kHeaderLength, static_cast<std::size_t>(payload));
    shm::frame_length_release(at, frame_length);  // pairs with Image::poll and the sender's scan
    offset += frame::aligned(frame_length);
    flags = 0;
  } while (remaining > 0);
}

}  // namespace thalweg::client::detail
