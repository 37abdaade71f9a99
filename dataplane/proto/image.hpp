#pragma once
#include "dataplane/proto/arrivals.hpp"
#include "dataplane/proto/congestion.hpp"
#include "dataplane/proto/publication.hpp"

// The receiving half of a stream: insertion, rebuild, loss detection, NAKs, status messages and the life cycle of an image
// (wire-protocol section 3, 4.6, 4.7). Pure: bytes and `now` in, bytes and decisions out.
namespace thalweg::proto {

enum class Insert : std::uint8_t {
  kInserted,     // data copied in, or a duplicate of data still in the window
  kHeartbeat,
  kUnderrun,
  kOverrun,
  kTooFar,       // within the window, but behind a gap larger than one step of learn_of(): comes again by NAK
  kInvalid,      // breaks the frame rules of 3.5
  kStaleTerm,
  kRejected,     // image rejected by the application
};

inline constexpr std::int64_t kConnectionTimeout_ns = 5 * kSecond_ns;  // 1.12, a constant of the protocol
inline constexpr std::int64_t kEosStatusMessages = 5;                  // 1.12: DRAINING lasts this many SM timeouts
// Ours; an image measures until it knows its round trip, then only while a gap is open. Answered by every stock sender.
inline constexpr std::int64_t kRttInterval_ns = 100 * kMillisecond_ns;
inline constexpr std::int64_t kRttGapInterval_ns = kMillisecond_ns;
inline constexpr std::int64_t kNakRetryFloor_ns = 50'000;              // with a measured RTT the retry is max(this, 2 RTT)
inline constexpr std::int32_t kErrorImageRejected = 13;                // 1.8

// An image as its lane sees it. Thread: owning lane.
class Image {
 public:
  struct Context {
    shm::ImageSlot::Wanted* desired{};
    shm::ImageState* state{};
    shm::LogBuffer log;
    shm::Counter rcv_hwm, rcv_pos, rcv_naks;   // null ones are not published
    LaneCounters counters;
    std::int64_t receiver_id{};
    bool has_group_tag{};
    std::int64_t group_tag{};
    shm::LogGrowth* growth{};                  // null: the log is all there
  };
  Image() noexcept = default;
  explicit Image(const Context& context) noexcept;

  // 3.4: everything at the join position; first SM due at once. The first connection's control address is the SETUP's source unless the
  // second form gives one (multicast, explicit `control`).
  void start(std::int64_t now_ns) noexcept;
  void start(std::int64_t now_ns, const wire::UdpEndpoint& control) noexcept;
  // The lane was restarted: zeroes a half-copied range, learns the gaps from the log, timers start anew.
  void resume(std::int64_t now_ns) noexcept;

  // 3.5 for one datagram (DATA or PAD frames, or a heartbeat). `connection`: which receive destination it came by (0 for a normal one).
  // Counts by lane counter itself (under run, over run, heartbeat, invalid, stale, rejected).
  // Precondition: FrameHeader::parse() accepted it as DATA or PAD, and the dispatcher found this image for its stream and session.
  // Inline where it is called: a lane has one place that matters.
  [[gnu::always_inline]] Insert insert(std::span<const std::byte> datagram, unsigned connection, std::int64_t now_ns) noexcept;
  // The same where the stream comes by several destinations (5.6): what is here already is a copy and no under run, and each side's share is
  // counted in its connection. `stream` names it in `arrivals`.
  Insert insert_side(std::span<const std::byte> datagram, unsigned connection, std::int64_t now_ns, Arrivals& arrivals, std::uint32_t stream) noexcept;
  // 3.4: SETUP for a live image refreshes or adds the connection. `control` is where SMs and NAKs go; kept as first seen.
  void on_setup(unsigned connection, const wire::UdpEndpoint& control, std::int64_t now_ns) noexcept;
  // Connections of multi-destination subscriptions (3.4, 5.6): one for each destination that brings the stream. `endpoint` is the
  // destination's registry slot. find: kConnectionsMax when there is none; add: when all are taken, and its frames count for no connection.
  [[nodiscard]] unsigned find_connection(std::uint32_t endpoint) const noexcept;
  [[nodiscard]] unsigned add_connection(std::uint32_t endpoint, const wire::UdpEndpoint& control, std::int64_t now_ns) noexcept;
  // Its destination is gone. The stream may end by that, because the others have ended.
  void remove_connection(unsigned connection, std::int64_t now_ns) noexcept;
  // True: it comes by several destinations, insert_side() is for it.
  [[nodiscard]] bool has_sides() const noexcept { return has_sides_; }
  // 3.2: RTT sample (flag clear). Replies to anything but our latest request are ignored.
  void on_rtt_reply(const wire::RttMeasurement& rtt, std::int64_t now_ns) noexcept;
  // 3.2: RTT request (flag set) of a sender.
  template <DatagramSink Sink>
  void on_rtt_request(const wire::RttMeasurement& rtt, Sink& sink) noexcept;
  // 3.13. `reason` must outlive the image (it lies in the registry); cut to 1023 bytes. Call it again after resume().
  void reject(std::span<const std::byte> reason) noexcept;
  // 5.9: the sender is told with each timer-driven SM, the next of which is due now, which session answers its requests: until the publication
  // has a receiver, or is this image's no longer. `publication` is a slot of the registry; null: nothing more is told.
  void answer_with(const shm::PublicationSlot* publication, std::int64_t now_ns) noexcept;
  // 3.4: a newer image took over the same stream and session: silences one that is no longer ACTIVE.
  void supersede() noexcept;

  // One duty cycle: consumption (3.6), loss (3.8), status message (3.7), RTT requests. `sink_for(connection index)` gives the
  // sink of a connection's control address. Work is bounded. Returns frames sent.
  template <typename SinkFor>
  unsigned duty(const SubscriberPositions& subscribers, std::int64_t now_ns, SinkFor&& sink_for) noexcept;
  // SM timer, NAK timers, RTT timer; 0 when something is due now. Changes by insert(): ask again after it.
  [[nodiscard]] std::int64_t next_deadline_ns() const noexcept;
  [[nodiscard]] bool has_gap() const noexcept {
    return c_.state->rebuild_position != c_.state->high_water || c_.state->announced > c_.state->high_water;
  }

  // Timer step of 3.11. Returns true when `state->lifecycle` changed; at most one transition per call. `is_end` when kDone.
  bool tick(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept;

  // Where a subscription that joins now starts (3.4): min of rcv-pos and the active subscribers.
  [[nodiscard]] std::int64_t join_position(const SubscriberPositions& subscribers) const noexcept;
  // An untethered subscriber at or below it holds the image up (3.14).
  [[nodiscard]] std::int64_t tether_limit(const SubscriberPositions& subscribers) const noexcept;
  [[nodiscard]] const shm::ImageState& state() const noexcept { return *c_.state; }
  [[nodiscard]] const Context& context() const noexcept { return c_; }

 private:
  // What the walk over a datagram's frames found.
  struct Extent {
    std::int64_t length{};        // in the log, a trailing PAD in full
    std::size_t copied{};         // bytes of the datagram that go into the log
    bool is_valid{};
  };
  [[gnu::always_inline]] [[nodiscard]] Extent walk(std::span<const std::byte> datagram, std::int32_t term_offset) const noexcept;
  Insert insert_heartbeat(std::int64_t position, unsigned connection, std::uint8_t frame_flags, std::int64_t now_ns) noexcept;
  Insert refuse(Insert why, shm::LaneCounter counter) noexcept;
  [[gnu::always_inline]] void copy_in(std::span<const std::byte> datagram, std::int64_t position, std::int64_t end) noexcept;
  // What is sent up to `position`, and not here, is a gap. False: only part of the way was gone, duty() goes on.
  bool learn_of(std::int64_t position) noexcept;
  [[nodiscard]] std::byte* at(std::int64_t position) noexcept;
  void refresh(unsigned connection, std::int64_t now_ns) noexcept;
  void end_of_stream(unsigned connection, std::int64_t position, bool is_revoked, std::int64_t now_ns) noexcept;
  // Ends the stream when all connections have ended. False: one has not.
  bool end_if_all_have(std::int64_t now_ns) noexcept;
  [[nodiscard]] bool is_here(std::int64_t position) const noexcept;
  [[nodiscard]] std::size_t missing_tail(std::span<const std::byte> datagram, std::int64_t position) const noexcept;
  Insert count_copy(unsigned connection, const Arrivals::Arrival* first, std::int64_t now_ns) noexcept;
  [[nodiscard]] bool was_asked_for(std::int64_t position) const noexcept;
  [[nodiscard]] bool is_side_alive(const shm::ConnectionState& connection, std::int64_t now_ns) const noexcept;
  void count_transports(std::int64_t now_ns) noexcept;

  [[nodiscard]] bool is_on_wire() const noexcept {  // between creation and removal from the receiver
    return c_.state->lifecycle == shm::Lifecycle::kActive || c_.state->lifecycle == shm::Lifecycle::kDraining;
  }
  void restart_rtt(std::int64_t now_ns) noexcept;
  [[nodiscard]] std::int64_t rtt_deadline_ns() const noexcept;  // kNever_ns: none is wanted
  [[nodiscard]] bool is_connection_alive(std::size_t index, std::int64_t now_ns) const noexcept;
  void publish_positions() noexcept;
  void follow_subscribers(const SubscriberPositions& subscribers) noexcept;
  void follow_congestion(const SubscriberPositions& subscribers, std::int64_t now_ns) noexcept;
  [[nodiscard]] bool is_sm_due(std::int64_t now_ns) const noexcept;
  [[nodiscard]] std::size_t build_sm(std::byte* frame) const noexcept;
  [[nodiscard]] std::size_t build_error(std::byte* frame) const noexcept;
  void sm_sent(std::int64_t now_ns, bool was_sent) noexcept;
  // Half a term beyond `position`, as far as the log has memory; asks for more of it in time.
  void set_overrun_threshold(std::int64_t position) noexcept;
  [[gnu::cold]] [[nodiscard]] bool is_overrun(std::int64_t written_end, std::int64_t end) noexcept;
  template <typename SinkFor>
  unsigned send_sm(std::int64_t now_ns, SinkFor&& sink_for) noexcept;
  [[nodiscard]] bool has_answer_to_tell() const noexcept;
  template <typename SinkFor>
  unsigned send_response_setup(std::int64_t now_ns, SinkFor&& sink_for) noexcept;
  template <typename SinkFor>
  unsigned repair(std::int64_t now_ns, SinkFor&& sink_for) noexcept;
  template <typename SinkFor>
  unsigned request_rtt(std::int64_t now_ns, SinkFor&& sink_for) noexcept;
  // Sends one frame on every alive connection (every used one for ERR). Returns how many took it.
  template <typename SinkFor>
  unsigned send_all(std::span<const std::byte> frame, bool also_dead, std::int64_t now_ns, SinkFor&& sink_for) noexcept;
  // Of a gap, what would be taken if it came now: a heartbeat may tell of bytes beyond the window (insert_heartbeat()). Sent in vain, they would
  // use up what the sender may send again, and others of a group would wait for theirs.
  [[nodiscard]] std::int64_t wanted_of(const shm::GapState& gap) noexcept {
    const std::int64_t first = gap.position + wire::kFrameAlignment;
    if (first > c_.state->overrun_threshold && is_overrun(first, first) && !planted(Bug::kNakBeyondWindow)) [[unlikely]] return 0;
    return planted(Bug::kNakBeyondWindow) ? gap.length : std::min(gap.length, c_.state->overrun_threshold - gap.position);
  }
  template <typename SinkFor>
  unsigned send_nak(std::int64_t position, std::int64_t length, std::int64_t now_ns, SinkFor&& sink_for) noexcept;
  // Arms a new gap. True: a NAK (or fill) is due.
  [[nodiscard]] bool is_gap_due(shm::GapState& gap, std::int64_t now_ns) noexcept;
  void report_gap(shm::GapState& gap) noexcept;
  void fill_gap(const shm::GapState& gap) noexcept;
  [[nodiscard]] std::int64_t first_nak_delay_ns() noexcept;
  [[nodiscard]] std::int64_t nak_hold_ns(std::int64_t now_ns) const noexcept;
  [[nodiscard]] std::int64_t retry_nak_delay_ns(const shm::GapState& gap) noexcept;
  void give_up(const shm::GapState& gap) noexcept;
  [[nodiscard]] std::int64_t group_nak_delay_ns() noexcept;
  [[nodiscard]] bool has_flag(std::uint32_t flag) const noexcept { return (flags_ & flag) != 0; }
  void enter(shm::Lifecycle lifecycle, std::int64_t now_ns) noexcept;

  Context c_;
  std::int32_t session_id_{}, stream_id_{}, initial_term_id_{}, term_length_{};
  std::uint32_t flags_{};
  int bits_{};
  std::int32_t window_{};                       // effective receiver window (3.4)
  std::int64_t growth_threshold_{};             // as a publication's
  std::int32_t longest_claim_{};                // bytes in the sender's log
  std::int64_t term_begin_{-1};                 // position of the term that term_ points to
  std::byte* term_{};
  bool is_fast_{};                              // our repair, of a unicast stream
  bool is_controlled_{};                        // its window is congestion control's, not window_ alone
  bool is_rtt_measured_{};
  std::int64_t loss_position_{-1};              // of a gap that congestion control has not heard of yet
  bool is_heartbeat_open_{};                    // a heartbeat came that no status message has answered yet
  bool has_sides_{};                            // more than one connection
  unsigned leader_{};                           // connection that brought the high-water mark here
  std::int32_t transports_{-1};                 // active ones, as the log's metadata says
  std::span<const std::byte> reject_reason_{};
  const shm::PublicationSlot* answers_{};       // the response publication, while the sender does not know it
};

}  // namespace thalweg::proto

#include "dataplane/proto/image_inl.hpp"
