#pragma once
#include <span>

#include "dataplane/wire/frames.hpp"

namespace thalweg::wire {

// Visits the entries of a RES frame in their order. Precondition: FrameHeader::is_valid(datagram). False: it is no RES frame, has no entry,
// or one of them is broken; those before it were visited (6.2: count it as invalid, stop parsing).
template <typename Visit>
[[nodiscard]] bool for_each_resolution(std::span<const std::byte> datagram, Visit&& visit) noexcept(noexcept(visit(ResolutionEntry{}))) {
  const FrameHeader header = FrameHeader::of_valid(datagram);
  const auto length = static_cast<std::size_t>(header.frame_length());
  if (header.type() != FrameType::kResolution || length <= FrameHeader::kLength) return false;
  std::span<const std::byte> rest = datagram.subspan(FrameHeader::kLength, length - FrameHeader::kLength);
  while (!rest.empty()) {
    const auto entry = ResolutionEntry::parse(rest);
    if (!entry) return false;
    visit(*entry);
    rest = rest.subspan(entry->length());
  }
  return true;
}

}  // namespace thalweg::wire
