#pragma once
#include <type_traits>

#include "dataplane/base/bytes.hpp"

// The working state of streams. It lives in the registry and proto/ works on it in place, so that a restarted data plane resumes where
// it stood and readers (stream why, the simulator) see everything (design, section 1). Pointer-free, trivially copyable, times in
// monotonic ns, written by the owning lane only.
namespace thalweg::shm {

// Life of a publication or image (wire-protocol 2.9, 3.11; client-protocol 8.2).
enum class Lifecycle : std::uint32_t { kNone = 0, kActive, kDraining, kLinger, kDone };

inline constexpr std::size_t kReceiversMax = 64;      // receivers one publication tracks; more are counted (receivers_untracked)
inline constexpr std::size_t kRetransmitsMax = 16;    // concurrent retransmit actions (2.10); unicast uses the first only
inline constexpr std::size_t kSkippedMax = 2;         // one is longer than a term, NAKs reach half a term back
inline constexpr std::size_t kConnectionsMax = 4;     // receive destinations of one image (3.4)
inline constexpr std::size_t kGapsMax = 32;           // gaps watched at once with nak-all-gaps

// One receiver of a publication: liveness (2.7) and flow control (4.3).
struct ReceiverState {
  std::int64_t receiver_id{};
  std::int64_t last_sm_ns{};
  std::int64_t last_position{};
  std::int64_t last_limit{};       // position + window
  std::uint32_t address{};         // host order, where its last SM came from
  std::uint16_t port{};
  std::uint8_t is_live{};          // counts for "has receivers"
  std::uint8_t is_flow_controlling{};
  std::uint8_t is_end_of_stream{};
  std::uint8_t padding[7]{};
};

struct RetransmitAction {
  enum class State : std::uint32_t { kInactive = 0, kDelayed, kSending, kLingering };  // kSending: more than one turn's budget
  State state{State::kInactive};
  std::int32_t term_id{};
  std::int32_t term_offset{};
  std::int32_t length{};
  std::int64_t expiry_ns{};
  std::int32_t sent_bytes{};       // of the log, while kSending
  std::int32_t padding{};
};

// What a relay that fell behind sent as padding instead of data; it sends the same again when asked. Empty: begin == end.
struct SkippedRange {
  std::int64_t begin{};
  std::int64_t end{};
};

struct PublicationState {
  // Touched by every send.
  alignas(kCacheLine) std::int64_t sender_position{};
  std::int64_t sender_limit{};
  std::int64_t last_send_ns{};        // last data or heartbeat
  std::int64_t last_setup_ns{};
  std::int64_t clean_position{};
  std::int64_t publisher_limit{};
  Lifecycle lifecycle{Lifecycle::kNone};
  std::uint8_t has_initial_connection{};  // an SM was ever accepted
  std::uint8_t is_setup_elicited{};
  std::uint8_t is_end_of_stream{};
  std::uint8_t is_connected{};
  std::uint8_t has_seen_unicast_eos{};    // latch of 2.9
  std::uint8_t is_limited{};              // back-pressure event counted for this stall
  std::uint8_t is_revoked{};
  std::uint8_t is_corrupt{};              // its log held a foreign frame: ended
  // Touched by timers, SMs and NAKs.
  alignas(kCacheLine) std::int64_t lifecycle_since_ns{};
  std::int64_t last_tick_ns{};
  std::int64_t blocked_position{};        // unblock detection (client-protocol 7.8)
  std::int64_t blocked_since_ns{};
  std::int64_t producer_position{};       // last sampled
  std::int64_t consumer_position{};       // IPC: highest position ever consumed
  std::int64_t trip_limit{};              // IPC limit step
  std::int64_t setup_hold_position{};     // 4.4
  std::int64_t setup_hold_since_ns{};
  std::int64_t retransmit_interval_start_ns{};
  std::int64_t retransmit_interval_bytes{};
  std::int64_t srtt_ns{};                 // smoothed RTT where measured; 0 unknown
  std::uint32_t receiver_count{};         // live ones
  std::uint32_t flow_receiver_count{};    // of these, those that min or tagged flow control waits for
  std::uint32_t receivers_untracked{};    // SMs of receivers the table had no room for
  std::uint32_t is_setup_hold_wanted{};   // 4.4: a matching receiver elicited, its SETUP not yet sent
  std::int64_t start_position{};          // nothing before it was ever sent
  SkippedRange skipped[kSkippedMax];      // relays: the latest first
  RetransmitAction retransmits[kRetransmitsMax];
  ReceiverState receivers[kReceiversMax];
};

// One receive destination of an image (3.4).
struct ConnectionState {
  std::uint32_t control_address{};  // host order
  std::uint16_t control_port{};
  std::uint8_t is_used{};
  std::uint8_t is_end_of_stream{};
  std::int64_t last_activity_ns{};
  std::int64_t last_frame_ns{};
  std::int64_t end_of_stream_position{};
  std::uint32_t endpoint{};         // multi-destination: registry slot of the destination
  std::uint32_t padding{};
  // What it brought while there were others (A/B); each datagram is counted once.
  std::int64_t frames_won{};        // datagrams that were here first
  std::int64_t bytes_won{};         // of the log
  std::int64_t fills{};             // of these: what another connection had passed over
  std::int64_t copies{};            // datagrams that were here already
  std::int64_t copies_timed{};      // of these: how late they came is known
  std::int64_t late_ns_sum{};
  std::int64_t late_ns_max{};
};

struct GapState {
  std::int64_t position{};    // start of the gap
  std::int64_t length{};      // bytes; never crosses a term
  std::int64_t deadline_ns{}; // of the next NAK or fill; 0: gap is new or changed its size, not yet armed
  std::uint32_t is_reported{};  // counted in gaps_seen and bytes_lost
  std::uint32_t naks{};         // sent for it since it last became smaller
};

// Receiver-side congestion control (wire-protocol 4.6, 4.7; aimd is ours). The static window needs none of it.
struct CongestionState {
  std::int64_t window{};            // bytes: what the next status message offers
  std::int64_t last_update_ns{};    // cubic: of the window; aimd: of the last progress or time-out
  std::int64_t last_loss_ns{};      // cubic
  double cubic_k{};                 // seconds from a loss until the window is back at w_max
  std::int32_t cubic_cwnd{};        // these three in segments of one MTU
  std::int32_t cubic_w_max{};
  std::int32_t cubic_cwnd_max{};
  std::uint32_t timeouts{};         // aimd: in a row; each doubles the RTO
  std::int64_t threshold{};         // aimd: slow start below it
  std::int64_t credit{};            // aimd: bytes that arrived since the window last grew by an MTU
  std::int64_t counted{};           // aimd: everything below this position has been credited
  std::int64_t recovery_position{}; // aimd: what was under way at the last cut; until it is here, no further cut
};

struct ImageState {
  // Touched by every insert.
  alignas(kCacheLine) std::int64_t high_water{};     // hwm
  std::int64_t last_sm_position{};
  std::int64_t overrun_threshold{};
  std::int64_t last_packet_ns{};
  std::int64_t insert_begin{};          // range being copied in right now; begin == end: none. Zeroed by a restart.
  std::int64_t insert_end{};
  Lifecycle lifecycle{Lifecycle::kNone};
  std::uint8_t is_end_of_stream{};
  std::uint8_t is_revoked{};
  std::uint8_t is_rejected{};
  std::uint8_t is_superseded{};         // a newer image of the same session: no timer-driven SMs
  std::uint8_t is_sending_eos_sm{};
  std::uint8_t is_given_up{};           // a gap took nak_max NAKs in vain: the image ends before it
  std::uint8_t padding0[6]{};
  // Touched by every rebuild step.
  alignas(kCacheLine) std::int64_t rebuild_position{};  // rcv-pos: everything below is there
  std::int64_t next_sm_position{};
  std::int64_t sm_deadline_ns{};
  std::int64_t announced{};             // the sender has sent up to here; high_water follows in bounded steps when that is far
  std::int64_t tracked_until{};         // gaps[] is exact up to here; below high_water only while more than kGapsMax gaps are open
  std::int32_t next_sm_window{};
  std::uint16_t is_sm_scheduled{};
  std::uint16_t gap_count{};
  std::int64_t lifecycle_since_ns{};
  std::int64_t end_of_stream_position{};
  // Cold.
  alignas(kCacheLine) std::int64_t join_position{};
  std::int64_t drain_sm_since_ns{};
  std::int64_t last_rtt_request_ns{};
  std::int64_t rtt_timer_ns{};          // of the last request or reply, whichever was later
  std::int64_t rtt_ns{};                // latest sample
  std::int64_t srtt_ns{};
  std::int64_t rttvar_ns{};
  std::int64_t given_up_position{};     // of the gap
  std::int64_t given_up_length{};
  std::int64_t gaps_seen{};             // distinct gaps, for the loss report
  std::int64_t bytes_lost{};
  std::uint64_t random_state{};         // group NAK back-off
  CongestionState congestion;
  GapState gaps[kGapsMax];              // in order of position; stock rules NAK the first only
  ConnectionState connections[kConnectionsMax];
};

static_assert(std::is_trivially_copyable_v<PublicationState> && std::is_trivially_copyable_v<ImageState>);

}  // namespace thalweg::shm
