#pragma once
#include <rte_mbuf.h>

#include <array>
#include <cstring>

#include "dataplane/core/frame_check.hpp"

namespace thalweg::core {

struct Endpoint;

// The headers of the last good frame and the endpoint they led to. The frames of a stream carry the same 40 bytes in front of the UDP
// checksum again and again, as long as their datagrams are equally long; what was found right in these bytes once need not be checked,
// summed and looked up again. Thread: the lane's.
class FlowCache {
 public:
  // The datagram of a frame that is like the last one, for endpoint(); nullptr: look at it properly. It holds until the next call.
  [[nodiscard]] const Datagram* find(const FrameRules& rules, const rte_mbuf& frame) noexcept {
    if (rules_ != &rules || frame.data_len < length_ || frame.nb_segs != 1) return nullptr;
    const auto* const p = rte_pktmbuf_mtod(&frame, const std::byte*);
    std::uint64_t difference = 0;
    for (std::size_t i = 0; i < kWords; ++i) difference |= header_[i] ^ load_le<std::uint64_t>(p + 8 * i);
    if (difference != 0) return nullptr;
    if (rules.verifies_udp_checksum && load_le<std::uint16_t>(p + 8 * kWords) != 0) return nullptr;
    datagram_.payload = {p + wire::kUdpFrameHeaderLength, length_ - wire::kUdpFrameHeaderLength};
    datagram_.packet = {p + wire::kEthernetHeaderLength, length_ - wire::kEthernetHeaderLength};
    return &datagram_;
  }
  [[nodiscard]] Endpoint& endpoint() const noexcept { return *endpoint_; }
  // `frame`, seen by `rules`, is good and holds `datagram` for `endpoint`. Frames with a VLAN tag are not kept, and a single stranger among the
  // frames of a stream does not take its place: two in a row do.
  void keep(const FrameRules& rules, const rte_mbuf& frame, const Datagram& datagram, Endpoint& endpoint) noexcept {
    const auto* const p = rte_pktmbuf_mtod(&frame, const std::byte*);
    if (datagram.payload.data() != p + wire::kUdpFrameHeaderLength) return;
    const bool was_last = rules_ != nullptr && datagram_.payload.data() != nullptr;
    if (was_last) {
      datagram_.payload = {};  // find() fills it in
      return;
    }
    std::memcpy(header_.data(), p, sizeof header_);
    length_ = wire::kUdpFrameHeaderLength + datagram.payload.size();
    datagram_ = datagram;
    endpoint_ = &endpoint;
    rules_ = &rules;
  }
  // An endpoint came or went.
  void forget() noexcept { rules_ = nullptr; }

 private:
  static constexpr std::size_t kWords = 5;   // up to the UDP checksum
  std::array<std::uint64_t, kWords> header_{};
  std::size_t length_{};                     // of the frame without its padding
  const FrameRules* rules_{};
  Endpoint* endpoint_{};
  Datagram datagram_;
};

}  // namespace thalweg::core
