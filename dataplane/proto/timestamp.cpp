#include "dataplane/proto/timestamp.hpp"

namespace thalweg::proto {
namespace {

constexpr std::size_t kReservedValueAt = 24;  // wire-protocol 1.4

bool is_data(const wire::DataView& frame) noexcept { return frame.type() == wire::FrameType::kData && frame.frame_length() >= wire::kDataHeaderLength; }

}  // namespace

void stamp_frame(std::byte* frame, std::size_t present, std::int32_t offset, std::int64_t epoch_ns) noexcept {
  if (offset == shm::kReservedValueTimestamp) return store_le(frame + kReservedValueAt, epoch_ns);
  const auto length = static_cast<std::size_t>(wire::DataView{frame}.frame_length());
  const std::size_t at = wire::kDataHeaderLength + static_cast<std::size_t>(offset);
  if (at + sizeof epoch_ns <= std::min(length, present)) store_le(frame + at, epoch_ns);
}

void stamp_sent(std::span<std::byte> datagram, std::int32_t offset, std::int64_t epoch_ns) noexcept {
  if (datagram.size() < wire::kDataHeaderLength || !is_data(wire::DataView{datagram.data()})) return;
  stamp_frame(datagram.data(), datagram.size(), offset, epoch_ns);
}

void stamp_received(std::span<std::byte> datagram, std::int32_t offset, std::int64_t epoch_ns) noexcept {
  for (std::size_t at = 0; at + wire::kDataHeaderLength <= datagram.size();) {
    std::byte* const frame = datagram.data() + at;
    const wire::DataView view{frame};
    const std::size_t present = datagram.size() - at;
    if (!is_data(view) || static_cast<std::size_t>(view.frame_length()) > present) return;
    if ((view.flags() & wire::flag::kBegin) != 0) stamp_frame(frame, present, offset, epoch_ns);
    at += static_cast<std::size_t>(wire::align_frame(view.frame_length()));
  }
}

}  // namespace thalweg::proto
