#pragma once
#include <cstring>

#include "controlplane/log/frame_log.hpp"
#include "controlplane/log/frame_reader.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {

inline constexpr FrameStream kStream{.session_id = 7001, .stream_id = 1001, .initial_term_id = -3, .term_bytes = 64U << 10, .mtu_bytes = 1408};

// One segment a term, nothing synced that the test does not ask for.
[[nodiscard]] inline FrameLogOptions frame_options(SyncPolicy sync = SyncPolicy::kExplicit, std::uint64_t start = 0) {
  return {.log_id = 5, .stream = kStream, .segment_bytes = kSegmentBytesMin, .start_position = start, .sync = sync, .prepare_bytes = 8192};
}

// A publisher's term, frame after frame, at the positions of the stream.
class FrameSource {
 public:
  explicit FrameSource(std::uint64_t position = 0, FrameStream stream = kStream) : stream_{stream}, position_{position} {}
  [[nodiscard]] std::uint64_t position() const noexcept { return position_; }
  // A data frame with this many bytes of payload, or the padding to the end of the term where it does not fit (its header alone).
  std::vector<std::byte> next(std::uint32_t payload_bytes) {
    const std::uint32_t offset = static_cast<std::uint32_t>(position_ & (stream_.term_bytes - 1));
    const std::uint32_t left = stream_.term_bytes - offset;
    const bool is_padding = align_up(payload_bytes + kFrameHeaderBytes, kFrameAlignment) > left;
    const std::uint32_t length = is_padding ? left : payload_bytes + kFrameHeaderBytes;
    std::vector<std::byte> frame(is_padding ? kFrameHeaderBytes : align_up(length, kFrameAlignment));
    store_le(frame.data(), length);
    frame[5] = std::byte{0xC0};
    store_le<std::uint16_t>(frame.data() + 6, is_padding ? 0 : 1);
    store_le(frame.data() + 8, offset);
    store_le(frame.data() + 12, stream_.session_id);
    store_le(frame.data() + 16, stream_.stream_id);
    store_le(frame.data() + 20, static_cast<std::uint32_t>(stream_.initial_term_id) + static_cast<std::uint32_t>(position_ / stream_.term_bytes));
    if (!is_padding)
      for (std::uint32_t i = 0; i < payload_bytes; ++i) frame[kFrameHeaderBytes + i] = static_cast<std::byte>(position_ / 32 + i * 7);
    position_ += align_up(length, kFrameAlignment);
    return frame;
  }
  // What lies at [from, to), both borders of frames, when all frames have this payload.
  static std::vector<std::byte> expected(std::uint64_t from, std::uint64_t to, std::uint32_t payload_bytes, FrameStream stream = kStream) {
    FrameSource source{from, stream};
    std::vector<std::byte> bytes;
    while (source.position() < to) {
      auto frame = source.next(payload_bytes);
      frame.resize(source.position() - from - bytes.size());
      bytes.insert(bytes.end(), frame.begin(), frame.end());
    }
    return bytes;
  }

 private:
  FrameStream stream_;
  std::uint64_t position_;
};

}  // namespace thalweg::log
