#pragma once
#include <array>
#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/base/bytes.hpp"
#include "dataplane/base/result.hpp"
#include "dataplane/shm/address_book.hpp"
#include "dataplane/shm/lane_counters.hpp"
#include "dataplane/shm/mapped_file.hpp"
#include "dataplane/shm/stream_state.hpp"

// registry.dat: the truth about an instance, shared by the control plane and the data plane and never mapped by clients (design, section 1).
//
// Each slot has a *desired* half, written by the control plane only, and an *observed* half, written by its lane (or the steward) only.
//   control plane: fills a free slot, bumps `generation`, release-stores `state`, rings the door bell.
//   lane/steward:  sees state and generation, acts, release-stores its own `generation` and `state`, rings back.
// A slot is free again when desired.state is kFree; the control plane frees only what the lane has answered with kDone (or never saw).
// Door bells carry slot references and nothing else: losing them costs one rescan of the tables.
// Addresses are IPv4 in host order, or handles of IPv6 addresses (address_book.hpp).
namespace thalweg::shm {

inline constexpr std::uint64_t kRegistryMagic = 0x47455247'4C414854ULL;  // "THALGREG"
// Programs of one number take each other's instances over, whatever their release: every change of what a byte means, of a size or of an offset is
// a new number. A new field in bytes that were zero, for which zero means what was so before, is none (docs/operate/upgrade.md).
inline constexpr std::uint32_t kRegistryVersion = 10;

inline constexpr std::uint32_t kPortsMax = 64;
inline constexpr std::uint32_t kLanesMax = 64;
inline constexpr std::uint32_t kEndpointsMax = 8192;
inline constexpr std::uint32_t kPublicationsMax = 4096;   // network and IPC
inline constexpr std::uint32_t kImagesMax = 16384;
inline constexpr std::uint32_t kInterestsMax = 8192;
inline constexpr std::uint32_t kLinksMax = 32768;         // subscriber positions
inline constexpr std::uint32_t kLogsMax = kPublicationsMax + kImagesMax + 64;
inline constexpr std::uint32_t kClientsMax = 1024;
inline constexpr std::uint32_t kSubscriptionsMax = 8192;
inline constexpr std::uint32_t kPublicationRefsMax = 16384;  // a client's hold on a publication
inline constexpr std::uint32_t kDestinationsMax = 4096;
inline constexpr std::uint32_t kCommandsMax = 256;
inline constexpr std::uint32_t kSetupsPerLane = 256;      // bound on what a flood of SETUPs can ask for
inline constexpr std::uint32_t kTextsMax = 24576;         // channel URIs, one 4096-byte page each, allocated when used
inline constexpr std::uint32_t kBellCapacity = 4096;      // power of two
inline constexpr std::uint32_t kNoSlot = 0xFFFFFFFF;
inline constexpr std::uint32_t kCrashesMax = 3;           // of a process at work on one stream or command: from then on it is quarantined
inline constexpr std::uint32_t kCrashedCommandsMax = 32;  // more than a control plane reads before it moves the ring's head: each is remembered

enum class SlotKind : std::uint8_t { kNone, kEndpoint, kPublication, kImage, kInterest, kLink, kLog, kSetup, kPort, kLane, kCapture, kDestination, kRescan };
// What rides in a door-bell ring: kind in the top byte, slot index below.
struct SlotRef {
  SlotKind kind{SlotKind::kNone};
  std::uint32_t index{};
  [[nodiscard]] constexpr std::uint32_t pack() const noexcept { return static_cast<std::uint32_t>(kind) << 24 | index; }
  [[nodiscard]] static constexpr SlotRef unpack(std::uint32_t word) noexcept { return {static_cast<SlotKind>(word >> 24), word & 0xFFFFFF}; }
};

// Single-producer single-consumer ring of slot references in shared memory. ring(): false when full, and then `rescan` is set: the
// consumer rescans its tables once. The reader clears it with take_rescan().
struct BellRing {
  alignas(kCacheLine) std::atomic<std::uint32_t> tail{};      // producer
  alignas(kCacheLine) std::atomic<std::uint32_t> head{};      // consumer
  alignas(kCacheLine) std::atomic<std::uint32_t> rescan{1};   // set at start: whoever attaches rescans first
  alignas(kCacheLine) std::array<std::uint32_t, kBellCapacity> words{};

  bool ring(SlotRef ref) noexcept {
    const std::uint32_t t = tail.load(std::memory_order_relaxed);
    if (t - head.load(std::memory_order_acquire) == kBellCapacity) {  // pairs with the release in take()
      rescan.store(1, std::memory_order_release);
      return false;
    }
    words[t % kBellCapacity] = ref.pack();
    tail.store(t + 1, std::memory_order_release);  // pairs with the acquire in take()
    return true;
  }
  bool take(SlotRef& ref) noexcept {
    const std::uint32_t h = head.load(std::memory_order_relaxed);
    if (h == tail.load(std::memory_order_acquire)) return false;
    ref = SlotRef::unpack(words[h % kBellCapacity]);
    head.store(h + 1, std::memory_order_release);
    return true;
  }
  [[nodiscard]] bool is_empty() const noexcept { return head.load(std::memory_order_relaxed) == tail.load(std::memory_order_acquire); }
  bool take_rescan() noexcept { return rescan.load(std::memory_order_relaxed) != 0 && rescan.exchange(0, std::memory_order_acq_rel) != 0; }
};

// Desired states, common to all slot kinds.
enum class Desired : std::uint32_t {
  kFree = 0,
  kActive,
  kClosing,   // publication: last reference gone, drain and linger; image: no subscribers; endpoint, log, link, interest: let go
};
// Observed states, common to all slot kinds.
enum class Observed : std::uint32_t {
  kNone = 0,  // not seen yet
  kActive,
  kDone,      // let go; the control plane may free the slot
  kFailed,    // see the slot's error
};

// First words of every desired half. `state` is stored last, with release.
struct DesiredHead {
  std::atomic<Desired> state{Desired::kFree};
  std::uint32_t generation{};  // bumped each time the slot is filled
};
struct ObservedHead {
  std::atomic<Observed> state{Observed::kNone};
  std::uint32_t generation{};  // the desired generation this half answers to; compare before believing `state`
};

struct SlotError {
  std::int32_t code{};     // ClientError
  char text[188]{};        // terminated
};

// How often the data plane crashed at work on the stream that a slot holds. Each stream starts at zero: the count carries the generation of
// the slot it is about. Written by a crashing thread and nobody else.
class CrashCount {
 public:
  [[nodiscard]] std::uint32_t get(std::uint32_t generation) const noexcept {
    const std::uint32_t word = word_.load(std::memory_order_acquire);
    return word >> kCountBits == (generation & kGenerationMask) ? word & kCountMax : 0;
  }
  void add(std::uint32_t generation) noexcept {
    const std::uint32_t count = get(generation);
    word_.store((generation & kGenerationMask) << kCountBits | (count < kCountMax ? count + 1 : count), std::memory_order_release);
  }

 private:
  static constexpr std::uint32_t kCountBits = 8;
  static constexpr std::uint32_t kCountMax = (1U << kCountBits) - 1;
  static constexpr std::uint32_t kGenerationMask = 0xFFFFFFFF >> kCountBits;
  std::atomic<std::uint32_t> word_{};
};

// ---- endpoints: one UDP socket address in use (wire-protocol 5.10) ----
enum class EndpointKind : std::uint32_t { kSend = 1, kReceive = 2 };
// Who is at the other end (wire-protocol 5.2): the channel's own addresses; whoever sends status messages; what commands name (a publication's
// destinations, or a subscription's, which are endpoints of their own); the peer of a request.
enum class EndpointMode : std::uint8_t { kPlain = 0, kDynamic, kManual, kResponse };
inline constexpr std::int32_t kNoTimestamp = -1;
inline constexpr std::int32_t kReservedValueTimestamp = -2;  // in the frame header's reserved value
struct alignas(kCacheLine) EndpointSlot {
  struct Wanted : DesiredHead {
    EndpointKind kind{};
    std::uint32_t local_address{};     // host order, 0 = any
    std::uint16_t local_port{};        // 0 = ephemeral
    std::uint16_t remote_port{};
    std::uint32_t remote_address{};    // send: destination; receive: explicit control address, 0 = none
    std::uint8_t ttl{};                // of what is sent to groups; 0 = 1
    std::uint8_t has_group_tag{};
    std::uint8_t is_multicast{};
    std::uint8_t prefix_length{};      // of `interface`, 0 = none given
    std::uint32_t interface_address{}; // host order, 0 = any
    std::int32_t socket_sndbuf{};
    std::int32_t socket_rcvbuf{};
    std::int64_t group_tag{};
    std::uint32_t text{kNoSlot};       // channel URI, text slot
    // Control plane's own book-keeping.
    std::int64_t registration_id{};    // publication or subscription that created it
    std::int32_t channel_status_id{-1}, local_sockaddr_id{-1};  // counter ids
    std::int32_t destination_count_id{-1};  // of a multi-destination sender
    // Offsets into the payload at which arrival or departure is written (wire-protocol 5.11), or one of the constants above.
    std::int32_t media_receive_timestamp{kNoTimestamp}, channel_receive_timestamp{kNoTimestamp}, channel_send_timestamp{kNoTimestamp};
    EndpointMode mode{};
    std::uint32_t parent{kNoSlot};     // receive destinations: the endpoint of their subscription, whose interests and images they feed (5.6)
  } desired;
  struct alignas(kCacheLine) Seen : ObservedHead {
    std::uint32_t bound_address{};     // host order
    std::uint16_t bound_port{};
    std::uint16_t port_index{};        // port table
    std::uint32_t lane{};
    std::uint32_t opened{};            // desired generation that was open: a data plane that cannot open it again goes on trying
    std::int64_t receiver_id{};        // receive endpoints (wire-protocol 3.1)
    SlotError error;
  } observed;
};

// ---- destinations: what a multi-destination publication sends to (wire-protocol 5.5), or a multi-destination subscription hears (5.6) ----
enum class DestinationKind : std::uint32_t { kSend = 1, kReceive, kIpc, kSpy };
struct alignas(kCacheLine) DestinationSlot {
  struct Wanted : DesiredHead {
    DestinationKind kind{};
    std::uint32_t endpoint{kNoSlot};   // send: of its publications; receive: its own
    std::uint32_t remote_address{};    // send; host order, 0 = a name that is not resolved yet
    std::uint16_t remote_port{};
    std::uint16_t padding{};
    // Control plane's own book-keeping.
    std::uint32_t subscription{kNoSlot};  // all kinds but send
    std::uint32_t text{kNoSlot};       // the destination's channel
    std::int64_t registration_id{};    // correlation id of the command that added it
    std::int64_t client_id{};
  } desired;
  struct alignas(kCacheLine) Seen : ObservedHead {
    std::int64_t receiver_id{};        // send: of whom its status messages come from; 0 = nobody yet
    std::int64_t last_heard_ns{};
    SlotError error;                   // send: why its lane refused it
  } observed;
};

// ---- log buffers ----
enum class LogUse : std::uint32_t { kPool = 0, kPublication, kImage };
struct alignas(kCacheLine) LogSlot {
  struct Wanted : DesiredHead {
    LogUse use{};
    std::int32_t term_length{};
    std::uint64_t file_length{};
    std::int64_t id{};                 // file name: pool/<id>, publications/<id> or images/<id> (.logbuffer)
    std::uint32_t page_size{};
    std::uint32_t on_hugepages{};
    std::uint32_t is_sparse{};         // its pages are not to be touched before they are used
  } desired;
  struct alignas(kCacheLine) Seen : ObservedHead {  // written by the steward: kActive = mapped, kDone = unmapped
    SlotError error;
  } observed;
};

// ---- publications ----
struct PublicationFlags {
  static constexpr std::uint32_t kIpc = 1, kExclusive = 2, kSignalEos = 4, kSpiesSimulateConnection = 8, kGroup = 16, kMulticast = 32,
                                 kHasResponse = 64, kIsResponse = 128, kRelay = 256, kDropsWhenSlow = 512;
};
enum class FlowControl : std::uint32_t { kMax = 0, kMin, kTagged };
struct alignas(kCacheLine) PublicationSlot {
  struct Wanted : DesiredHead {
    std::int64_t registration_id{};
    std::int32_t session_id{};
    std::int32_t stream_id{};
    std::int32_t initial_term_id{};
    std::int32_t term_length{};
    std::int32_t mtu{};
    std::int32_t window_length{};
    std::int64_t start_position{};
    std::uint32_t flags{};             // PublicationFlags
    std::uint32_t endpoint{kNoSlot};   // none for IPC
    std::uint32_t log{kNoSlot};
    std::uint32_t lane{};
    std::int32_t pub_pos_id{-1}, pub_lmt_id{-1}, snd_pos_id{-1}, snd_lmt_id{-1}, snd_bpe_id{-1}, snd_naks_id{-1};  // counter ids
    std::int32_t max_resend{};
    std::int32_t ttl{};                // as advertised in SETUP
    std::int64_t linger_ns{};
    std::int64_t connection_timeout_ns{};
    std::int64_t unblock_timeout_ns{};
    std::int64_t retransmit_delay_ns{};
    std::int64_t retransmit_linger_ns{};   // ours: max(50 us, 2 RTT) when `is_retransmit_linger_auto`
    std::int64_t untethered_window_limit_timeout_ns{}, untethered_linger_timeout_ns{}, untethered_resting_timeout_ns{};
    std::uint32_t is_retransmit_linger_auto{};
    FlowControl flow_control{};
    std::int64_t flow_control_group_tag{-1};
    std::int32_t flow_control_group_min_size{};
    std::int32_t retransmit_window_multiple{16};
    std::int64_t flow_control_receiver_timeout_ns{};
    std::int64_t retransmit_limit_bytes{};         // per interval, amplification defence; 0 = no limit
    std::int64_t retransmit_limit_interval_ns{};
    // Relays only: the image whose log is sent (`log` is the image's), and whose streams its frames carry there.
    std::uint32_t source_image{kNoSlot};
    std::uint32_t source_generation{};
    std::int32_t source_session_id{};
    std::int32_t source_stream_id{};
    std::atomic<std::uint32_t> is_revoked{};       // set while active
    std::int64_t response_correlation_id{-1};      // request: the subscription that waits for answers; response: the image it answers (5.9)
    std::uint32_t text{kNoSlot};
    // Control plane's own book-keeping.
    std::int64_t owner_client_id{};
    std::uint32_t reference_count{};
    std::uint32_t fc_receivers_id_plus_1{};
    std::int64_t reject_until_ms{};    // IPC image rejected: links no subscription before this epoch time
  } desired;
  struct alignas(kCacheLine) Seen : ObservedHead {
    std::uint32_t error_frames{};      // bumped (and rung) after the fields below and `error` describe the latest ERR frame (2.13)
    std::uint32_t error_source_address{};  // host order
    std::int64_t error_receiver_id{};
    std::int64_t error_group_tag{-1};
    std::uint16_t error_source_port{};
    std::uint16_t padding{};
    std::uint32_t response_setups{};   // bumped (and rung) with each RSP_SETUP, after the session it named (5.9)
    std::int32_t response_session_id{};
    CrashCount crashes;
    SlotError error;
    PublicationState state;
  } observed;
};

// ---- images ----
struct ImageFlags {
  static constexpr std::uint32_t kReliable = 1, kGroup = 2, kNakAllGaps = 4, kMeasureRtt = 8, kRejoin = 16, kHasResponse = 32;
};
enum class CongestionControl : std::uint32_t { kStatic = 0, kCubic, kAimd };
struct alignas(kCacheLine) ImageSlot {
  struct Wanted : DesiredHead {
    std::int64_t correlation_id{};
    std::int32_t session_id{};
    std::int32_t stream_id{};
    std::int32_t initial_term_id{};
    std::int32_t term_length{};
    std::int32_t mtu{};
    std::int32_t window_length{};      // configured receiver window; the effective one is min(this, term / 2)
    std::int64_t join_position{};
    std::uint32_t flags{};             // ImageFlags
    std::uint32_t endpoint{kNoSlot};
    std::uint32_t destination{kNoSlot};   // multi-destination: the endpoint that its SETUP came by, its first connection
    std::uint32_t log{kNoSlot};
    std::uint32_t lane{};
    std::int32_t rcv_hwm_id{-1}, rcv_pos_id{-1}, rcv_naks_id{-1};
    std::uint32_t source_address{};    // host order, of the SETUP
    std::uint16_t source_port{};
    std::uint16_t padding{};
    std::int64_t liveness_timeout_ns{};
    std::int64_t sm_timeout_ns{};
    std::int64_t nak_delay_ns{};
    std::int64_t nak_retry_ns{};
    std::int64_t nak_max_backoff_ns{};        // group semantics
    std::int64_t nak_backoff_ns{};            // ours: repeats of a NAK wait twice as long each time, up to this; 0 = they do not
    std::int64_t nak_hold_ns{};               // A/B: a first NAK waits this much longer, because a copy may still come by the other side
    std::int64_t side_timeout_ns{};           // A/B: a side that is silent for longer is not waited for; 0 = no A/B stream
    std::int32_t nak_group_size{};
    std::int32_t nak_max{};                   // ours: NAKs for one gap before the image is given up; 0 = no end
    CongestionControl congestion_control{};
    std::uint32_t is_rtt_measured{};          // cubic; aimd always measures
    std::int64_t initial_rtt_ns{};            // cubic
    std::uint32_t is_tcp_mode{};              // cubic
    std::atomic<std::uint32_t> response_publication{kNoSlot};  // set while active: whose session RSP_SETUPs name until it is connected (5.9)
    std::atomic<std::uint32_t> is_rejected{}; // set while active; the reason lies in `reject_text`
    std::uint32_t reject_text{kNoSlot};
    std::uint32_t text{kNoSlot};              // channel URI of the endpoint
    std::int64_t loss_report_entry{-1};
  } desired;
  struct alignas(kCacheLine) Seen : ObservedHead {
    std::atomic<std::uint32_t> is_unavailable{};  // left DRAINING: clients are to be told (3.11)
    CrashCount crashes;
    SlotError error;
    ImageState state;
  } observed;
};

// ---- interests: what subscriptions want from a receive endpoint (wire-protocol 3.2) ----
struct alignas(kCacheLine) InterestSlot {
  struct Wanted : DesiredHead {
    std::uint32_t endpoint{kNoSlot};
    std::int32_t stream_id{};
    std::int32_t session_id{};
    std::uint32_t has_session{};       // 0: all sessions
    std::uint32_t is_reliable{1};
    std::uint32_t is_rejoin{1};
    std::uint32_t elicits{};           // bumped while active: ask the control address for a SETUP of this session once more (5.9)
    std::uint32_t reference_count{};   // control plane's own
  } desired;
  struct alignas(kCacheLine) Seen : ObservedHead {
    std::uint32_t elicited{};
  } observed;
};

// ---- SETUPs waiting for an image: filled by a lane, answered by the control plane ----
enum class SetupState : std::uint32_t { kFree = 0, kRequested, kAccepted, kRefused };  // lane: Free->Requested, Accepted/Refused->Free
struct alignas(kCacheLine) SetupSlot {
  std::atomic<SetupState> state{SetupState::kFree};
  std::uint32_t endpoint{kNoSlot};
  std::uint32_t endpoint_generation{};
  std::uint32_t destination{kNoSlot};  // multi-destination: the endpoint that it came by
  std::uint32_t source_address{};
  std::uint16_t source_port{};
  std::uint16_t padding{};
  std::uint32_t flags{};               // of the SETUP frame
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int32_t initial_term_id{};
  std::int32_t active_term_id{};
  std::int32_t term_offset{};
  std::int32_t term_length{};
  std::int32_t mtu{};
  std::int32_t ttl{};
};

// ---- links: one subscriber position on an image, an IPC publication or (spy) a network publication ----
enum class LinkTarget : std::uint32_t { kImage = 1, kPublication = 2 };
enum class Tether : std::uint32_t { kActive = 0, kLinger, kResting, kClosed };  // wire-protocol 3.14
struct alignas(kCacheLine) LinkSlot {
  struct Wanted : DesiredHead {
    LinkTarget target{};
    std::uint32_t target_slot{kNoSlot};
    std::uint32_t subscription{kNoSlot};
    std::int32_t counter_id{-1};       // sub-pos
    std::uint32_t is_tethered{1};
    std::uint32_t is_rejoin{1};
    std::int64_t window_limit_timeout_ns{}, linger_timeout_ns{}, resting_timeout_ns{};
    // Control plane's own book-keeping.
    std::uint32_t is_announced{};      // ON_AVAILABLE_IMAGE was sent
    std::uint32_t tether_changes{};    // of the lane's, those its client was told of
  } desired;
  struct alignas(kCacheLine) Seen : ObservedHead {   // kActive: join position chosen and stored in the sub-pos counter
    std::int64_t join_position{};
    std::atomic<Tether> tether{Tether::kActive};
    std::uint32_t tether_changes{};    // bumped with each change, so that the control plane sees them all
    std::int64_t tether_since_ns{};
  } observed;
};

// ---- ports: filled by the steward from the configuration ----
enum class PortKind : std::uint32_t { kNone = 0, kPatch, kLoopback, kMemif, kAfPacket, kAfXdp, kTap, kPcap, kPci, kKernel };
// Where a port sends what lies beyond its own network.
struct PortRoute {
  std::uint32_t network{};             // no bits behind the prefix
  std::uint32_t prefix_length{};
  std::uint32_t gateway{};             // of the same family
  friend bool operator==(const PortRoute&, const PortRoute&) = default;
};
inline constexpr std::uint32_t kRoutesMax = 32;   // of one port
struct alignas(kCacheLine) PortSlot {
  std::atomic<Observed> state{Observed::kNone};
  PortKind kind{PortKind::kNone};
  char name[32]{};
  std::uint32_t address{};             // host order, 0: none of its own
  std::uint32_t prefix_length{};
  std::uint32_t gateway{};
  std::uint32_t address6{};            // handles; 0: no IPv6
  std::uint32_t prefix_length6{};
  std::uint32_t gateway6{};
  std::uint32_t mtu{};                 // IP bytes
  std::uint32_t has_ip_fragments{};    // larger datagrams are cut and put together again
  std::uint32_t route_count{};
  std::array<PortRoute, kRoutesMax> routes{};
  std::uint8_t mac[6]{};
  std::uint16_t vlan{};                // 0: none
  std::uint32_t lane{};
  std::atomic<std::uint32_t> is_link_up{};
  std::atomic<std::uint64_t> rx_frames{}, rx_bytes{}, tx_frames{}, tx_bytes{}, rx_missed{}, rx_errors{}, tx_errors{}, rx_no_buffer{};
  // The impaired decorator's own counts; zero where there is none.
  std::atomic<std::uint64_t> impaired_lost{}, impaired_duplicated{}, impaired_reordered{}, impaired_corrupted{}, impaired_delayed{};
};

// ---- lanes ----
struct alignas(kCacheLine) LaneSlot {
  std::atomic<Observed> state{Observed::kNone};
  std::uint32_t cpu{};
  std::atomic<std::int64_t> heartbeat_ns{};   // monotonic, each housekeeping
  std::atomic<std::uint64_t> ticks_idle{}, ticks_busy{}, ticks_blocked{}, ticks_housekeeping{};
  std::atomic<std::uint64_t> turns{};
  std::atomic<std::uint64_t> turn_ns_max{};
  alignas(kCacheLine) std::atomic<std::int64_t> watched_ns{};  // monotonic: when it last looked whether the conductor is wanted
  std::atomic<std::uint32_t> in_work{};       // packed SlotRef of the stream it works on, 0 = none: whom to blame for a crash
  alignas(kCacheLine) std::array<std::uint64_t, kLaneCounterCount> counters{};  // single writer; read with relaxed atomic_ref
  BellRing to_control;                        // written by this lane
  std::array<SetupSlot, kSetupsPerLane> setups;
};

// ---- control plane's own tables: what it needs to be itself again after a restart ----
struct alignas(kCacheLine) ClientSlot {
  DesiredHead head;
  std::int64_t client_id{};
  std::int32_t heartbeat_counter_id{-1};
  std::uint32_t is_closed_by_command{};
};
struct alignas(kCacheLine) SubscriptionSlot {
  DesiredHead head;
  std::int64_t registration_id{};
  std::int64_t client_id{};
  std::int32_t stream_id{};
  std::int32_t session_id{};
  std::uint32_t has_session{};
  std::uint32_t kind{};                // conductor's SubscriptionKind
  std::uint32_t endpoint{kNoSlot};
  std::uint32_t interest{kNoSlot};
  std::uint32_t text{kNoSlot};
  std::int32_t channel_status_counter_id{-1};
};
struct PublicationRefSlot {
  DesiredHead head;
  std::int64_t registration_id{};      // correlation id of this client's add
  std::int64_t client_id{};
  std::uint32_t publication{kNoSlot};
  std::uint32_t padding{};
};
struct CommandSlot {                   // a command that waits for the data plane or a worker
  DesiredHead head;
  std::int64_t client_id{};
  std::int64_t correlation_id{};
  std::int32_t type_id{};
  std::uint32_t target{kNoSlot};
  std::uint32_t text{kNoSlot};         // the command as it stood in the ring: a restarted control plane runs it again
};

// Commands that the control plane died at: they are in the ring or in a command slot still, and its successor runs them again. Control plane's own.
struct CommandCrashes {
  struct Id {
    std::int64_t client_id{};
    std::int64_t correlation_id{};
    std::int32_t type_id{};
    bool operator==(const Id&) const = default;
  };
  struct Suspect {
    Id id;
    std::uint32_t crashes{};           // 0: the entry is free
  };
  Id at_work;                          // what it turned to last
  std::atomic<std::uint32_t> is_at_work{};  // 0: it is through with that
  std::uint32_t next{};                // of `suspects`, to be given up when all are taken
  std::array<Suspect, kCrashedCommandsMax> suspects;
};

// A capture asked for at run time (`thalweg capture`): the control plane fills it, the steward starts and stops the port's capture decorator.
inline constexpr std::uint32_t kCapturesMax = 8;
struct alignas(kCacheLine) CaptureSlot {
  struct Wanted : DesiredHead {
    std::uint32_t port{kNoSlot};
    std::uint32_t snap_length{};       // bytes kept of each frame, 0 = all
    std::uint64_t frame_limit{};       // stop by itself after this many, 0 = none
    std::uint64_t byte_limit{};        // stop by itself before the file grows beyond, 0 = never
    char path[256]{};                  // file the data plane writes, nanosecond pcapng
  } desired;
  struct alignas(kCacheLine) Seen : ObservedHead {
    std::atomic<std::uint64_t> frames{};
    std::atomic<std::uint64_t> dropped{};  // capture ring full
    SlotError error;
  } observed;
};

struct ProcessInfo {
  std::atomic<std::uint32_t> pid{};
  std::atomic<std::uint32_t> starts{};         // how often this process attached
  std::atomic<Observed> state{Observed::kNone};
  std::uint32_t padding{};
  std::atomic<std::int64_t> heartbeat_ns{};    // monotonic
  std::array<std::atomic<std::uint64_t>, 3> release{};  // text of the program's version, zero-filled; set_release(), release_of()
};
// The version of the program that attaches, cut after 23 bytes; before it stores its pid.
void set_release(ProcessInfo& process, std::string_view release) noexcept;
[[nodiscard]] std::string release_of(const ProcessInfo& process);  // "" = a program that did not say

struct alignas(4096) RegistryHeader {
  std::uint64_t magic{};
  std::uint32_t version{};
  std::uint32_t header_length{};
  std::uint64_t length{};
  std::uint32_t lane_count{};                  // written by the data plane once its lanes run
  std::uint32_t port_count{};
  std::atomic<std::uint64_t> next_receiver_id{};
  alignas(kCacheLine) ProcessInfo control_plane;
  // Not 0: the instance is to end, as a client or an operator asked; of the run (host::run_of_this_process()) that accepted it and carries it out.
  std::atomic<std::uint32_t> is_termination_accepted{};
  alignas(kCacheLine) ProcessInfo data_plane;
  alignas(kCacheLine) std::atomic<std::uint32_t> control_wake{};   // futex words: bumped by whoever may make a system call
  alignas(kCacheLine) std::atomic<std::uint32_t> control_asleep{};  // the conductor waits on control_wake, or is about to
  alignas(kCacheLine) std::atomic<std::uint32_t> steward_wake{};
  std::atomic<std::uint32_t> steward_in_work{};  // as LaneSlot::in_work
  BellRing control_to_steward;
  BellRing steward_to_control;
};

static_assert(sizeof(ProcessInfo) <= kCacheLine - sizeof(std::uint32_t), "what follows it keeps its place");

struct alignas(4096) TextPage {
  std::uint32_t length{};
  char text[4092];
};

struct Registry {
  RegistryHeader header;
  std::array<PortSlot, kPortsMax> ports;
  std::array<LaneSlot, kLanesMax> lanes;
  std::array<EndpointSlot, kEndpointsMax> endpoints;
  std::array<LogSlot, kLogsMax> logs;
  std::array<PublicationSlot, kPublicationsMax> publications;
  std::array<ImageSlot, kImagesMax> images;
  std::array<InterestSlot, kInterestsMax> interests;
  std::array<LinkSlot, kLinksMax> links;
  std::array<ClientSlot, kClientsMax> clients;
  std::array<SubscriptionSlot, kSubscriptionsMax> subscriptions;
  std::array<PublicationRefSlot, kPublicationRefsMax> publication_refs;
  std::array<DestinationSlot, kDestinationsMax> destinations;
  std::array<CommandSlot, kCommandsMax> commands;
  alignas(kCacheLine) CommandCrashes command_crashes;
  alignas(kCacheLine) AddressBook addresses;
  std::array<CaptureSlot, kCapturesMax> captures;
  std::array<TextPage, kTextsMax> texts;  // sparse: a page is allocated when its slot is taken
};

// A mapped registry.dat (mode 0600).
class RegistryFile {
 public:
  RegistryFile() noexcept = default;
  RegistryFile(RegistryFile&& other) noexcept;
  RegistryFile& operator=(RegistryFile&& other) noexcept;
  ~RegistryFile();
  // Creates `<dir>/registry.dat`: everything but `texts` really allocated. The file appears complete (made under another name, renamed).
  [[nodiscard]] static Result<RegistryFile> create(const std::string& directory);
  // Maps an existing one; kVersion when magic, version or sizes differ (names both).
  [[nodiscard]] static Result<RegistryFile> open(const std::string& directory, MappedFile::Access access = MappedFile::Access::kReadWrite);
  [[nodiscard]] Registry& operator*() const noexcept { return *registry_; }
  [[nodiscard]] Registry* operator->() const noexcept { return registry_; }
  [[nodiscard]] explicit operator bool() const noexcept { return registry_ != nullptr; }
  // Stores `text` (at most 4092 bytes) in a free text page; kNoSpace when no page can be had. An empty text is kNoSlot. Control plane only.
  [[nodiscard]] Result<std::uint32_t> put_text(std::string_view text);
  void free_text(std::uint32_t slot) noexcept;
  [[nodiscard]] std::string_view text(std::uint32_t slot) const noexcept;  // "" for kNoSlot

 private:
  void find_used_texts();

  MappedFile file_;
  Registry* registry_{};
  int fd_{-1};  // for the text pages, read-write only
  std::uint32_t next_text_{};
  std::vector<bool> is_text_used_;  // kept here: looking at a page in the file would allocate it
  std::vector<std::uint32_t> spare_texts_;  // free, their pages kept: most texts live for one command
};

// Whether a program of this release can take over the instance in `directory`: its registry has our version, its cnc.dat one that we can read. Errors: those
// of RegistryFile::open() and CncFile::open(). Changes nothing.
[[nodiscard]] Result<void> check_takeover(const std::string& directory);

// Whether a publication or an image is not to be touched any more, because the data plane crashed on it too often.
template <typename Slot>
[[nodiscard]] bool is_quarantined(const Slot& slot) noexcept {
  return slot.observed.crashes.get(slot.desired.generation) >= kCrashesMax;
}

// Wakes a process waiting on a futex word of the registry (shared futex), and waits on one for at most timeout_ns.
void wake(std::atomic<std::uint32_t>& word) noexcept;
void wait(std::atomic<std::uint32_t>& word, std::uint32_t seen, std::int64_t timeout_ns) noexcept;

// Path of a log file of this instance: <dir>/pool|publications|images/<id>.logbuffer.
[[nodiscard]] std::string log_path(const std::string& directory, LogUse use, std::int64_t id);

}  // namespace thalweg::shm
