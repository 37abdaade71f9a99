#pragma once
#include <algorithm>
#include <limits>

#include "dataplane/base/planted.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/proto/frame_scan.hpp"
#include "dataplane/proto/sink.hpp"
#include "dataplane/shm/counters.hpp"
#include "dataplane/shm/log_buffer.hpp"
#include "dataplane/shm/log_growth.hpp"
#include "dataplane/shm/registry.hpp"
#include "dataplane/wire/frames.hpp"
#include "dataplane/wire/ip.hpp"

// The sending half of a stream: SETUP, data, heartbeats, status messages, NAKs, limits, cleaning and the life cycle of a publication
// (wire-protocol sections 1.15, 2 and 4; client-protocol 7.6, 7.8, 8.2, 8.3). Pure: bytes and `now` in, bytes and decisions out.
namespace thalweg::proto {

// Subscriber positions on a log, gathered by the caller from its links: spies on network publications, subscribers on IPC ones and images.
// They come from counters that clients write; everything here clamps them before use.
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
  [[gnu::always_inline]] void add(shm::LaneCounter counter, std::uint64_t n = 1) noexcept {
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
inline constexpr int kDatagramsPerSend = 32;                        // of a full MTU: one burst (2.5; in the reference driver each is a system call: 4 to 16)
inline constexpr std::int32_t kCleanBytesPerTurn = 64 << 10;        // design, section 2: bounded turns
inline constexpr std::int32_t kCleanQuantum = 4 << 10;              // do not clean in smaller steps: a release store and a call each
inline constexpr int kRetransmitDatagramsPerTurn = 64;              // the rest of a long retransmit follows in later turns
inline constexpr std::int64_t kRetransmitLingerFloor_ns = 50'000;   // ours; below it duplicates of one NAK would each be served
inline constexpr std::int64_t kIdleHeartbeat_ns = kMillisecond_ns;  // ours; with less, heartbeats would keep lanes of sparse streams from resting
inline constexpr std::int64_t kRttRequestInterval_ns = kMillisecond_ns;  // ours; with a retransmit, at most so often
inline constexpr std::int64_t kRttMax_ns = 10 * kSecond_ns;            // a longer "round trip" is a broken clock or a forged reply
inline constexpr std::int64_t kLingerMin_ns = kSecond_ns;           // 2.9: a unicast EOS SM cuts linger to "a following tick" (1 s)
inline constexpr std::int64_t kRelayPromise_ns = kSecond_ns;  // ours: from SETUP to status message; with more, padding for all that passed meanwhile takes long
inline constexpr std::int64_t kNever_ns = std::numeric_limits<std::int64_t>::max();
inline constexpr std::int32_t kInitialWindowDefault = 128 << 10;    // 2.10: the fixed base of the retransmit clamp

// What requests for RTT measurements make a sender send to others than whoever asked: anybody may ask, and a group is many (ours). One answer may use
// more than is left, which is made up for first.
class AnswerBudget {
 public:
  static constexpr std::int64_t kPerFrame_ns = 100 * kMicrosecond_ns;
  static constexpr std::int64_t kBurst_ns = 64 * kPerFrame_ns;

  [[nodiscard]] bool take(std::uint32_t frames, std::int64_t now_ns) noexcept {
    if (full_ns_ - now_ns >= kBurst_ns) return false;
    full_ns_ = std::max(full_ns_, now_ns) + frames * kPerFrame_ns;
    return true;
  }

 private:
  std::int64_t full_ns_{};   // when all of it is there again
};

// What one call did, so that the caller can count, wake and reschedule.
struct SendOutcome {
  std::uint32_t bytes{};            // of UDP payload, control frames included
  bool has_data{};                  // among them are bytes of the log, or padding for some
  bool is_blocked{};                // data waits for window or transport
};

// A publication as its lane sees it. Holds references and what the registry fixed for its life; the state lives in the registry.
// Thread: owning lane.
class Publication {
 public:
  struct Context {
    shm::PublicationSlot::Wanted* desired{};
    shm::PublicationState* state{};
    shm::LogBuffer log;
    shm::Counter pub_pos, pub_lmt, snd_pos, snd_lmt, snd_bpe, snd_naks;  // null ones are not published (IPC has no snd_*)
    shm::Counter fc_receivers;                                           // min and tagged flow control only
    LaneCounters counters;
    shm::LogGrowth* growth{};            // null: the log is all there
  };
  Publication() noexcept = default;
  explicit Publication(const Context& context) noexcept;

  void start(std::int64_t now_ns) noexcept { start_at(c_.desired->start_position, now_ns); }   // a new publication: 2.2
  void start_at(std::int64_t position, std::int64_t now_ns) noexcept;   // a relay: where its image's log begins
  void resume(std::int64_t now_ns) noexcept;  // the lane was restarted: positions stand, timers start anew

  // One duty cycle of 2.3: SETUP, data (at most kDatagramsPerSend MTUs of data), heartbeat, receiver time-outs, retransmit timers.
  // Nothing for IPC. Calls sink.send_control() with SETUP and heartbeat frames, sink.send_log() with data.
  template <DatagramSink Sink>
  SendOutcome send(std::int64_t now_ns, Sink& sink) noexcept;
  // True while send() would send data: a committed frame at the sender position and window for it. Everything else that send() may owe
  // the wire is covered by next_deadline_ns(). Both change by on_status_message(), on_nak() and tick(): ask again after those.
  [[nodiscard]] bool has_data() const noexcept;
  [[nodiscard]] std::int64_t next_deadline_ns() const noexcept;   // setup, heartbeat, receiver, retransmit timers; kNever_ns: none

  // 2.11 steps 1 and 2: neither invalid nor further from the stream than its receivers can be.
  [[nodiscard]] bool is_acceptable(const wire::StatusMessage& sm) const noexcept;
  // 2.11 steps 1, 2 and 4. Source address is recorded with the receiver. Counts by itself.
  void on_status_message(const wire::StatusMessage& sm, const wire::UdpEndpoint& source, std::int64_t now_ns) noexcept;
  // 2.10. Serves at once what fits one turn. Counts by itself.
  template <DatagramSink Sink>
  void on_nak(const wire::Nak& nak, std::int64_t now_ns, Sink& sink) noexcept;
  // 2.13. True: the receiver was known, clients are to be told. Counts by itself.
  bool on_error(const wire::ErrorFrame& error, std::int64_t now_ns) noexcept;
  // 2.12: requests are answered; a reply to our latest request is a sample (`retransmit-linger=auto`). `others`: how many get the answer besides
  // whoever asked, as far as is known; then there is a limit. Counts by itself.
  template <DatagramSink Sink>
  void on_rtt_measurement(const wire::RttMeasurement& rtt, std::int64_t now_ns, Sink& sink, std::uint32_t others = 0) noexcept;

  // 2.8 and client-protocol 7.6: publisher position, connection status, cleaning (bounded), publisher limit. Network and IPC. Call it once
  // per turn while the stream moves. Returns true while there is more to clean or a counter moved.
  bool update_limit(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept;
  // Timer step of 2.9 / client-protocol 8.2: life cycle, revoke, unblocking. Reads desired.state and desired.is_revoked. Call it at the
  // driver's timer interval (1 s) and at once when the slot's door bell rings; at most one transition per call.
  // Returns true when `state->lifecycle` changed.
  bool tick(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept;

  // Relays: their image's log is complete up to `rebuilt`. One that is to drop when it is slow and fell more than a term behind goes on
  // from there, sending padding for what lies between. So does one without receivers; whoever begins where a SETUP said it was gets the
  // same padding. Once per turn.
  void follow(std::int64_t rebuilt) noexcept;
  // A response publication has no destination before somebody asks for a SETUP, and says nothing till then (2.4, 5.9).
  [[nodiscard]] bool is_response() const noexcept { return has_flag(shm::PublicationFlags::kIsResponse); }
  void speak() noexcept { is_mute_ = false; }
  [[nodiscard]] bool is_relay() const noexcept { return has_flag(shm::PublicationFlags::kRelay); }

  // An untethered spy or IPC subscriber at or below it holds the stream up (3.14).
  [[nodiscard]] std::int64_t tether_limit() const noexcept;
  [[nodiscard]] const shm::PublicationState& state() const noexcept { return *c_.state; }
  [[nodiscard]] const Context& context() const noexcept { return c_; }
  [[nodiscard]] bool is_ipc() const noexcept { return has_flag(shm::PublicationFlags::kIpc); }

 private:
  [[nodiscard]] bool has_flag(std::uint32_t flag) const noexcept { return (flags_ & flag) != 0; }
  [[nodiscard]] bool is_on_wire() const noexcept {  // between creation and removal from the sender
    return !is_ipc() && c_.state->lifecycle >= shm::Lifecycle::kActive && c_.state->lifecycle <= shm::Lifecycle::kLinger;
  }
  [[nodiscard]] bool is_setup_wanted() const noexcept;
  [[nodiscard]] bool is_revoked() const noexcept;
  // What frames in the log carry: of a relay, what its image received.
  [[nodiscard]] FrameRules rules() const noexcept {
    if (is_relay()) return {c_.desired->source_session_id, c_.desired->source_stream_id, mtu_, term_length_};
    return {session_id_, stream_id_, mtu_, term_length_};
  }

  template <DatagramSink Sink>
  void send_setup(std::int64_t now_ns, Sink& sink, SendOutcome& outcome) noexcept;
  template <DatagramSink Sink>
  bool send_data(std::int64_t now_ns, Sink& sink, SendOutcome& outcome) noexcept;
  template <DatagramSink Sink>
  void send_heartbeat(std::int64_t now_ns, Sink& sink, SendOutcome& outcome) noexcept;
  template <DatagramSink Sink>
  void send_retransmits(std::int64_t now_ns, Sink& sink, SendOutcome& outcome) noexcept;
  // Sends on from where the action stands; true when it is finished.
  template <DatagramSink Sink>
  bool resend(shm::RetransmitAction& action, std::int64_t now_ns, Sink& sink, SendOutcome& outcome) noexcept;

  void build_setup(std::byte* frame) const noexcept;
  void build_heartbeat(std::byte* frame) noexcept;
  void setup_sent(std::int64_t now_ns) noexcept;
  void note_limited(bool is_data_waiting, SendOutcome& outcome) noexcept;
  void end_corrupt() noexcept;

  void expire_receivers(std::int64_t now_ns) noexcept;
  [[nodiscard]] shm::ReceiverState* find_receiver(std::int64_t receiver_id) noexcept;
  [[nodiscard]] shm::ReceiverState* add_receiver(std::int64_t receiver_id, bool is_wanted) noexcept;
  void drop_receiver(shm::ReceiverState& receiver) noexcept;
  void set_sender_limit(std::int64_t limit) noexcept;

  // How far back NAKs and status messages are taken: half a term of window, and the PAD that may have carried the sender past it. For that
  // PAD the reference driver takes the payload of the longest message (2.10). Headers and a large MTU make it longer, and what the receiver
  // then misses just before the PAD would be out of reach for good.
  [[nodiscard]] std::int64_t oldest_retransmit() const noexcept { return c_.state->sender_position - term_length_ / 2 - longest_claim_; }
  // Relays without receivers: where the SETUPs of the last kRelayPromise_ns, or of twice that, said that the stream was; kNoPromise: nowhere.
  static constexpr std::int64_t kNoPromise = std::numeric_limits<std::int64_t>::max();
  [[nodiscard]] std::int64_t oldest_promise() const noexcept { return c_.state->is_connected || planted(Bug::kRelayPromiseBroken) ? kNoPromise : promised_before_; }
  void promise(std::int64_t now_ns) noexcept;
  void keep_promise(std::int64_t position) noexcept;
  // The action that is to serve the NAK, its range clamped; nullptr: nothing to do (2.10 steps 1 to 3, and our own limit).
  [[nodiscard]] shm::RetransmitAction* plan_retransmit(const wire::Nak& nak, std::int64_t now_ns) noexcept;
  // A sender without window may have lost the status message that opens it: it asks sooner than one that has nothing to send.
  [[nodiscard]] std::int64_t heartbeat_interval_ns() const noexcept {
    return c_.state->is_limited ? heartbeat_interval_ns_ : std::max(heartbeat_interval_ns_, least_interval_ns_);
  }
  [[nodiscard]] std::int32_t retransmit_allowance(std::int64_t now_ns) noexcept;
  template <DatagramSink Sink>
  void request_rtt(std::int64_t now_ns, Sink& sink) noexcept;
  void on_rtt_reply(const wire::RttMeasurement& rtt, std::int64_t now_ns) noexcept;
  void retransmit_finished(shm::RetransmitAction& action, std::int64_t now_ns) noexcept;
  void schedule_retransmits() noexcept;

  // The end of the range being skipped that holds `position`; 0: it is not skipped.
  [[nodiscard]] std::int64_t end_of_skip(std::int64_t position) const noexcept;
  // Sends padding for [from, to), which lies within a term. False: the transport took nothing.
  template <DatagramSink Sink>
  bool send_padding(std::int64_t from, std::int64_t to, Sink& sink, SendOutcome& outcome) noexcept;
  template <DatagramSink Sink>
  bool send_skipped(std::int64_t end, std::int64_t now_ns, Sink& sink, SendOutcome& outcome) noexcept;

  void publish_flow_receivers() noexcept;

  std::int64_t sample_producer_position() noexcept;
  void refresh_connection(std::uint32_t spy_count) noexcept;
  void set_connected(bool is_connected) noexcept;
  void set_publisher_limit(std::int64_t limit) noexcept;
  // The limit as far as the log has memory; asks for more of it in time.
  [[nodiscard]] std::int64_t limit_to_memory(std::int64_t limit) noexcept {
    return limit <= growth_threshold_ ? limit : limit_near_end(limit);
  }
  [[gnu::cold]] [[nodiscard]] std::int64_t limit_near_end(std::int64_t limit) noexcept;
  bool clean_towards(std::int64_t target) noexcept;
  [[nodiscard]] std::int64_t oldest_needed(std::int64_t consumer, std::uint32_t spies) const noexcept;
  bool update_limit_network(const SubscriberPositions& subscribers) noexcept;
  bool update_limit_ipc(const SubscriberPositions& subscribers) noexcept;
  void close_log_at(std::int64_t position) noexcept;
  void enter(shm::Lifecycle lifecycle, std::int64_t now_ns) noexcept;
  void tick_network(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept;
  void tick_ipc(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept;
  void tick_draining(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept;
  void revoke(std::int64_t now_ns) noexcept;
  void begin_draining(std::int64_t now_ns) noexcept;
  void check_blocked(std::int64_t consumer_position, std::int64_t now_ns) noexcept;
  void unblock(std::int64_t position, bool has_producers) noexcept;

  Context c_;
  std::int32_t session_id_{}, stream_id_{}, initial_term_id_{}, term_length_{}, mtu_{};
  std::uint32_t flags_{};
  int bits_{};
  std::int32_t window_{};                           // publication window, effective (7.6)
  std::int64_t growth_threshold_{};                 // limits beyond it concern the log's growth
  std::int32_t longest_claim_{};                    // bytes in the log
  std::int64_t heartbeat_interval_ns_{kHeartbeatInterval_ns};  // until the next one
  std::int64_t first_heartbeat_ns_{kHeartbeatInterval_ns};     // after data; with our repair sooner than the rest
  std::int64_t least_interval_ns_{kHeartbeatInterval_ns};      // of a sender that has window left
  bool is_rtt_measured_{};
  std::int64_t last_rtt_request_ns_{};                         // 0: none yet
  AnswerBudget rtt_answers_;
  std::int64_t retransmit_deadline_ns_{kNever_ns};  // earliest of the actions
  std::int64_t receiver_deadline_ns_{kNever_ns};    // no receiver or setup hold can expire before
  std::int64_t acknowledged_{-1};                   // by the only receiver of a unicast stream, which asks for nothing before it; -1: unknown
  std::int64_t promised_{kNoPromise};               // by the first SETUP of this kRelayPromise_ns, and of the one before
  std::int64_t promised_before_{kNoPromise};
  std::int64_t promised_since_ns_{};
  std::uint32_t spy_count_{};                       // at the last update
  bool is_mute_{};                                  // a response publication without a destination
  bool is_flow_check_due_{};                        // min and tagged: the limit may have to fall at the next idle cycle (4.3)
};

}  // namespace thalweg::proto

#include "dataplane/proto/publication_inl.hpp"
