#pragma once
#include <atomic>
#include <deque>
#include <memory>
#include <vector>

#include "dataplane/base/random.hpp"
#include "pmd/decorators/frame_loss.hpp"
#include "pmd/queue_counters.hpp"

namespace thalweg::pmd {

// Impairs what a port receives: loss, duplication, corruption, reordering, rate limit, delay and jitter, in this order. Each kind draws from
// its own random stream, one draw per frame, so that the same seed and the same frames give the same outcome, and changing one rate does not
// move the others. Works in front of every backend. Sending is untouched but for frames that `frame_losses` takes: the caller is told they went.
class ImpairedPort final : public Port {
 public:
  static constexpr std::uint32_t kDelayedMax = 4096;              // frames waiting per queue; more are lost, as in a switch's buffer
  static constexpr std::int64_t kReorderHold_ns = 100'000;        // a frame held back waits no longer for one to overtake it

  ImpairedPort(std::unique_ptr<Port> inner, const ImpairmentOptions& options);
  ~ImpairedPort() override;

  std::uint16_t rx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override;
  std::uint16_t tx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept override;
  void turn(std::int64_t now_ns) noexcept override {
    now_ns_.store(now_ns, std::memory_order_relaxed);
    inner_->turn(now_ns);
  }
  // is_real_wire where corruption is injected: such frames are given the UDP checksum that shows the damage.
  const PortCapabilities& capabilities() const noexcept override { return capabilities_; }
  wire::MacAddress mac() const noexcept override { return inner_->mac(); }
  bool is_link_up() noexcept override { return inner_->is_link_up(); }
  PortStatistics statistics() noexcept override { return inner_->statistics(); }
  ImpairmentStatistics impairments() const noexcept override;
  Result<wire::UdpEndpoint> bind(const BindOptions& options) override { return inner_->bind(options); }
  void unbind(const wire::UdpEndpoint& local) override { inner_->unbind(local); }
  Result<void> join(const GroupOptions& options) override { return inner_->join(options); }
  void leave(const wire::UdpEndpoint& group, std::uint32_t interface_address) override { inner_->leave(group, interface_address); }

 private:
  struct Waiting {
    rte_mbuf* frame{};
    std::int64_t release_ns{};
  };
  // What one queue's lane keeps.
  struct alignas(kCacheLine) Queue {
    Queue(const ImpairmentOptions& options, std::uint64_t index);
    Random loss, duplicate, reorder, corrupt, jitter;
    std::vector<Waiting> waiting;           // ring of kDelayedMax, releases never go back in time
    std::uint32_t head{}, tail{};
    rte_mbuf* held{};                       // waits to be overtaken
    std::int64_t held_until_ns{};
    std::int64_t wire_free_ns{};            // when the rate-limited link has sent what it took
    std::int64_t last_release_ns{};
    Count lost, duplicated, reordered, corrupted, delayed;
    FrameLossRules received_losses;
  };
  // What one queue's lane keeps of what it sends.
  struct alignas(kCacheLine) SendQueue {
    SendQueue(const ImpairmentOptions& options, std::uint64_t index) : losses{options.frame_losses, true, index} {}
    FrameLossRules losses;
    std::uint16_t spared{};                 // frames that are not to be drawn for: they were, and the port had no room for them
    Count lost;
  };
  [[nodiscard]] static std::uint16_t release_due(Queue& queue, std::int64_t now_ns, rte_mbuf** frames, std::uint16_t count) noexcept;
  void admit(Queue& queue, rte_mbuf* frame, std::int64_t now_ns) noexcept;
  void enqueue(Queue& queue, rte_mbuf* frame, std::int64_t now_ns) noexcept;
  [[nodiscard]] static rte_mbuf* corrupted(Queue& queue, rte_mbuf* frame) noexcept;

  std::unique_ptr<Port> inner_;
  ImpairmentOptions options_;
  std::uint64_t ns_per_byte_q16_{};         // 16 fractional bits
  std::deque<Queue> queues_;                // a deque: queues do not move
  std::deque<SendQueue> send_queues_;       // empty: nothing that is sent is lost
  std::atomic<std::int64_t> now_ns_{};
  PortCapabilities capabilities_;
};

}  // namespace thalweg::pmd
