#pragma once
#include "dataplane/proto/publication.hpp"

// The receiving half of a stream: insertion, rebuild, loss detection, NAKs, status messages and the life cycle of an image
// (wire-protocol section 3, 4.6). Pure: bytes and `now` in, bytes and decisions out.
namespace thalweg::proto {

enum class Insert : std::uint8_t {
  kInserted,     // data copied in, or a duplicate of data still in the window
  kHeartbeat,
  kUnderrun,
  kOverrun,
  kInvalid,      // breaks the frame rules of 3.5
  kStaleTerm,
  kRejected,     // image rejected by the application
};

class Image {
 public:
  struct Context {
    shm::ImageSlot::Wanted* desired{};
    shm::ImageState* state{};
    shm::LogBuffer log;
    shm::Counter rcv_hwm, rcv_pos, rcv_naks;
    LaneCounters counters;
    std::int64_t receiver_id{};
    bool has_group_tag{};
    std::int64_t group_tag{};
  };
  Image() noexcept = default;
  explicit Image(const Context& context) noexcept : c_{context} {}

  void start(std::int64_t now_ns) noexcept;   // 3.4: everything at the join position; first SM due at once
  void resume(std::int64_t now_ns) noexcept;  // zeroes a half-copied range, timers start anew

  // 3.5 for one datagram (DATA or PAD frames, or a heartbeat). `connection`: which receive destination it came by (0 for a normal one).
  // Counts by lane counter itself (under run, over run, heartbeat, invalid, stale, rejected).
  Insert insert(std::span<const std::byte> datagram, unsigned connection, std::int64_t now_ns) noexcept;
  // 3.4: SETUP for a live image refreshes or adds the connection. `control` is where SMs and NAKs go.
  void on_setup(unsigned connection, const wire::UdpEndpoint& control, std::int64_t now_ns) noexcept;
  // 3.2: RTT sample (flag clear).
  void on_rtt_reply(const wire::RttMeasurement& rtt, std::int64_t now_ns) noexcept;

  // One duty cycle: rebuild tracking (3.6), loss (3.8), status message (3.7), RTT requests. `sink_for(connection index)` gives the sink of a
  // connection's control address. Work is bounded. Returns frames sent.
  template <typename SinkFor>
  unsigned duty(const SubscriberPositions& subscribers, std::int64_t now_ns, SinkFor&& sink_for) noexcept;
  [[nodiscard]] std::int64_t next_deadline_ns() const noexcept;   // SM timer, NAK timers
  [[nodiscard]] bool has_gap() const noexcept;

  // Timer step of 3.11. Returns true when `state->lifecycle` changed. `is_end` when kDone.
  bool tick(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept;

  // Where a subscription that joins now starts (3.4): min of rcv-pos and the active subscribers.
  [[nodiscard]] std::int64_t join_position(const SubscriberPositions& subscribers) const noexcept;
  [[nodiscard]] const shm::ImageState& state() const noexcept { return *c_.state; }
  [[nodiscard]] const Context& context() const noexcept { return c_; }

 private:
  Context c_;
};

}  // namespace thalweg::proto
