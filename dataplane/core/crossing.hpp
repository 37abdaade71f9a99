#pragma once
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "pmd/port.hpp"

// Frames between lanes: one single-producer single-consumer ring for each ordered pair. A frame crosses when it arrived on a queue of one
// lane for an endpoint of another, or when a stream sends by a port that another lane polls.
namespace thalweg::core {

inline constexpr std::uint32_t kCrossingRingSize = 1024;   // holds a turn's frames of a lane that is held up for about 100 us

// kReceivedFor: of a group, for one of its members, whose endpoint slot rides along.
enum class CrossingKind : std::uint32_t { kReceived = 0, kToSend = 1, kReceivedFor = 2 };

inline void mark_crossing(rte_mbuf* frame, CrossingKind kind, std::uint32_t slot = 0) noexcept {
  frame->hash.usr = static_cast<std::uint32_t>(kind) | slot << 8;
}
[[nodiscard]] inline CrossingKind crossing_kind(const rte_mbuf* frame) noexcept { return static_cast<CrossingKind>(frame->hash.usr & 0xFF); }
[[nodiscard]] inline std::uint32_t crossing_slot(const rte_mbuf* frame) noexcept { return frame->hash.usr >> 8; }

// Stands for a port of another lane: what is sent here goes to that lane, which knows the neighbours and owns the queue.
class CrossingPort final : public pmd::Port {
 public:
  CrossingPort(pmd::Port& behind, std::uint16_t port_index, rte_ring& ring) noexcept : behind_{behind}, port_index_{port_index}, ring_{ring} {
    capabilities_ = behind.capabilities();
    capabilities_.needs_arp = false;   // the owner resolves
  }
  [[nodiscard]] std::uint16_t rx_burst(std::uint16_t, rte_mbuf**, std::uint16_t) noexcept override { return 0; }
  [[nodiscard]] std::uint16_t tx_burst(std::uint16_t, rte_mbuf** frames, std::uint16_t count) noexcept override {
    for (std::uint16_t i = 0; i < count; ++i) {
      frames[i]->port = port_index_;
      mark_crossing(frames[i], CrossingKind::kToSend);
    }
    return static_cast<std::uint16_t>(rte_ring_sp_enqueue_burst(&ring_, reinterpret_cast<void* const*>(frames), count, nullptr));
  }
  [[nodiscard]] const pmd::PortCapabilities& capabilities() const noexcept override { return capabilities_; }
  [[nodiscard]] wire::MacAddress mac() const noexcept override { return behind_.mac(); }
  [[nodiscard]] bool is_link_up() noexcept override { return true; }
  [[nodiscard]] pmd::PortStatistics statistics() noexcept override { return {}; }
  [[nodiscard]] Result<wire::UdpEndpoint> bind(const BindOptions&) override { return fail(ErrorCode::kUnsupported, "bind on the owning port"); }
  void unbind(const wire::UdpEndpoint&) override {}

 private:
  pmd::Port& behind_;
  std::uint16_t port_index_;
  rte_ring& ring_;
  pmd::PortCapabilities capabilities_;
};

}  // namespace thalweg::core
