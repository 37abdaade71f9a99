#pragma once
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "pmd/backends/lane_gate.hpp"
#include "pmd/decorators/capture_ring.hpp"

namespace thalweg::pmd {

// Writes what a port receives and sends to a pcapng file, at the lane's side of every other decorator. A lane copies frames into rings and
// never touches the file; a thread per running capture does. Without a capture a burst costs one more call and three plain accesses.
class CapturePort final : public Port {
 public:
  explicit CapturePort(std::unique_ptr<Port> inner, std::string name);
  ~CapturePort() override { stop_capture(); }

  std::uint16_t rx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override;
  std::uint16_t tx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override;
  void turn(std::int64_t now_ns) noexcept override { inner_->turn(now_ns); }
  const PortCapabilities& capabilities() const noexcept override { return inner_->capabilities(); }
  wire::MacAddress mac() const noexcept override { return inner_->mac(); }
  bool is_link_up() noexcept override { return inner_->is_link_up(); }
  PortStatistics statistics() noexcept override { return inner_->statistics(); }
  ImpairmentStatistics impairments() const noexcept override { return inner_->impairments(); }
  Result<wire::UdpEndpoint> bind(const BindOptions& options) override { return inner_->bind(options); }
  void unbind(const wire::UdpEndpoint& local) override { inner_->unbind(local); }
  Result<void> join(const GroupOptions& options) override { return inner_->join(options); }
  void leave(const wire::UdpEndpoint& group, std::uint32_t interface_address) override { inner_->leave(group, interface_address); }
  Result<void> start_capture(const CaptureOptions& options) override;
  void stop_capture() override;
  CaptureStatus capture_status() const override;

 private:
  // What the lane of one queue and direction uses while its gate is open.
  struct Tap {
    LaneGate gate;
    std::unique_ptr<CaptureRing> ring;
  };
  void close_gates() noexcept;
  void write_until(const std::stop_token& stop, PcapngFile file, CaptureOptions options);
  [[nodiscard]] bool drain(PcapngFile& file, const CaptureOptions& options, std::vector<std::byte>& scratch);
  [[nodiscard]] std::uint64_t dropped() const noexcept;

  std::unique_ptr<Port> inner_;
  std::string name_;
  std::deque<Tap> rx_taps_, tx_taps_;  // by queue
  std::vector<CaptureRing*> rings_;    // all of them
  std::atomic<std::uint64_t> frames_{};  // written; by the writer
  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  bool is_running_{};
  std::string error_;
  std::jthread writer_;
};

}  // namespace thalweg::pmd
