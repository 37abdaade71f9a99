#pragma once
#include "dataplane/proto/sink.hpp"
#include "dataplane/shm/counters.hpp"
#include "dataplane/shm/log_buffer.hpp"
#include "dataplane/shm/registry.hpp"
#include "dataplane/wire/frames.hpp"
#include "dataplane/wire/ip.hpp"

// The sending half of a stream: SETUP, data, heartbeats, status messages, NAKs, limits, cleaning and the life cycle of a publication
// (wire-protocol sections 1.15, 2 and 4; client-protocol 7.6, 7.8, 8.2, 8.3). Pure: bytes and `now` in, bytes and decisions out.
namespace thalweg::proto {

// Subscriber positions on a log, gathered by the caller from its links: spies on network publications, subscribers on IPC ones and images.
struct SubscriberPositions {
  std::int64_t min{};         // of all that count for flow control (active or lingering tether); valid if count > 0
  std::int64_t max{};
  std::uint32_t count{};
};

// Lane counters of the owning lane: a single writer, readers elsewhere, so relaxed load and store suffice.
class LaneCounters {
 public:
  LaneCounters() noexcept = default;
  explicit LaneCounters(std::uint64_t* block) noexcept : block_{block} {}
  void add(shm::LaneCounter counter, std::uint64_t n = 1) noexcept {
    std::atomic_ref<std::uint64_t> ref{block_[static_cast<std::size_t>(counter)]};
    ref.store(ref.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t get(shm::LaneCounter counter) const noexcept {
    return std::atomic_ref<std::uint64_t>{block_[static_cast<std::size_t>(counter)]}.load(std::memory_order_relaxed);
  }

 private:
  std::uint64_t* block_{};
};

inline constexpr std::int64_t kSetupInterval_ns = 100'000'000;      // 2.4, a constant of the protocol
inline constexpr std::int64_t kHeartbeatInterval_ns = 100'000'000;  // 2.6, a constant of the protocol
inline constexpr int kDatagramsPerSend = 16;                        // ceiling of the reference driver (2.5: 4 by default, 16 at most)
inline constexpr std::int32_t kCleanBytesPerTurn = 64 << 10;        // design, section 2: bounded turns

// What one call did, so that the caller can count, wake and reschedule.
struct SendOutcome {
  std::uint32_t bytes{};            // of UDP payload, control frames included
  bool is_blocked{};                // data waits for window or transport
};

// A publication as its lane sees it. Holds references only; the state lives in the registry. Thread: owning lane.
class Publication {
 public:
  struct Context {
    shm::PublicationSlot::Wanted* desired{};
    shm::PublicationState* state{};
    shm::LogBuffer log;
    shm::Counter pub_pos, pub_lmt, snd_pos, snd_lmt, snd_bpe, snd_naks;
    LaneCounters counters;
  };
  Publication() noexcept = default;
  explicit Publication(const Context& context) noexcept : c_{context} {}

  void start(std::int64_t now_ns) noexcept;   // a new publication: 2.2
  void resume(std::int64_t now_ns) noexcept;  // the lane was restarted: positions stand, timers start anew

  // One duty cycle of 2.3: SETUP, data (at most kDatagramsPerSend datagrams), heartbeat, receiver time-outs, retransmit timers.
  template <DatagramSink Sink>
  SendOutcome send(std::int64_t now_ns, Sink& sink) noexcept;
  // True while there may be something to do for send() before next_deadline_ns(): committed frames at the sender position.
  [[nodiscard]] bool has_data() const noexcept;
  [[nodiscard]] std::int64_t next_deadline_ns() const noexcept;   // setup, heartbeat, retransmit timers

  // 2.11 steps 1, 2 and 4. Source address is recorded with the receiver.
  void on_status_message(const wire::StatusMessage& sm, const wire::UdpEndpoint& source, std::int64_t now_ns) noexcept;
  template <DatagramSink Sink>
  void on_nak(const wire::Nak& nak, std::int64_t now_ns, Sink& sink) noexcept;  // 2.10
  // 2.13. True: the receiver was known, clients are to be told.
  bool on_error(const wire::ErrorFrame& error, std::int64_t now_ns) noexcept;
  template <DatagramSink Sink>
  void on_rtt_measurement(const wire::RttMeasurement& rtt, Sink& sink) noexcept;  // 2.12

  // 2.8 and client-protocol 7.6: publisher position, connection status, cleaning (bounded), publisher limit. Network and IPC. Returns work done.
  bool update_limit(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept;
  // Timer step of 2.9 / client-protocol 8.2: life cycle, revoke, unblocking. Reads desired.state and desired.is_revoked.
  // Returns true when `state->lifecycle` changed.
  bool tick(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept;

  [[nodiscard]] const shm::PublicationState& state() const noexcept { return *c_.state; }
  [[nodiscard]] const Context& context() const noexcept { return c_; }

 private:
  Context c_;
};

}  // namespace thalweg::proto
