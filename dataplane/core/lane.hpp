#pragma once
#include <memory>
#include <vector>

#include "dataplane/core/clock.hpp"
#include "dataplane/core/crossing.hpp"
#include "dataplane/core/doorman.hpp"
#include "dataplane/core/flat_map.hpp"
#include "dataplane/core/options.hpp"
#include "dataplane/core/flow_cache.hpp"
#include "dataplane/core/poll_list.hpp"
#include "dataplane/core/route.hpp"
#include "dataplane/core/spsc_ring.hpp"
#include "dataplane/core/streams.hpp"
#include "dataplane/core/transmit.hpp"
#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/counters.hpp"

struct rte_ring;

namespace thalweg::core {

// What the steward tells a lane. `endpoint` rides along where the slot alone does not say what to do.
struct LaneMessage {
  shm::SlotRef ref;
  Endpoint* endpoint{};
  bool is_closing{};     // kEndpoint: let go of it; kPort: the link went down
};

// How a lane finds endpoints: by address and port, and members of a group by the interface of ours that it came in by as well.
[[nodiscard]] inline Key address_key(const wire::UdpEndpoint& address) noexcept { return {0, std::uint64_t{address.address} << 16 | address.port}; }
[[nodiscard]] inline Key group_key(std::uint32_t interface_address, const wire::UdpEndpoint& group) noexcept {
  return {std::uint64_t{1} << 32 | interface_address, std::uint64_t{group.address} << 16 | group.port};
}

// What all lanes of a data plane share. Everything but the registry and the entries of a lane's own streams is constant once lanes run.
struct LaneShared {
  shm::Registry* registry{};
  shm::CountersReader counters;
  shm::ManyToOneRing commands;                    // of clients; resting lanes wake the conductor for it. May be empty
  StreamTables* tables{};
  const RouteTable* routes{};
  std::vector<FrameRules> frame_rules;            // by port index
  std::vector<FrameRules> loop_rules;             // the same for copies of our own multicast
  std::vector<std::uint32_t> lane_of_port;        // by port index: its home
  std::vector<std::vector<rte_ring*>> crossings;  // [from][to]; null on the diagonal
};

// One poll loop: owns its ports' queues, its endpoints and every stream on them. Runs to completion, never blocks, never allocates.
// Thread: run() and turn() on one thread, the lane's; post() on the steward's.
class Lane {
 public:
  struct Options {
    std::uint32_t index{};
    std::int64_t timer_interval_ns{1'000'000'000};
  };
  static constexpr std::uint32_t kInboxCapacity = 8192;
  static constexpr unsigned kMessagesPerTurn = 64;
  static constexpr std::int64_t kHousekeepInterval_ns = 20'000;   // ARP retries, ticks and counters may be this late
  static constexpr std::int64_t kPublicationSweep_ns = 46'000;    // 50 us are promised (design, section 2); the rest is a turn's length
  static constexpr std::int64_t kImageSweep_ns = 100'000;         // consumption without arrivals only moves the window
  static constexpr std::uint8_t kQuietTurnsMax = 16;              // turns without work before a stream counts as idle

  Lane(const Options& options, LaneShared& shared);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // Before the first turn. `is_home`: this lane speaks for the port; else what it sends crosses to the lane that does. `is_polled`: some of
  // the port's receive queues are this lane's, as `options` says; always so at home.
  void add_port(const LanePort::Options& options, bool is_home, bool is_polled);

  // Steward. False: inbox full, try again later.
  [[nodiscard]] bool post(const LaneMessage& message) noexcept {
    if (!inbox_.push(message)) return false;
    bell_.ring();
    return true;
  }
  [[nodiscard]] bool has_messages() const noexcept { return !inbox_.is_empty(); }

  // One turn at time `now_ns` (monotonic, never going back). Returns the work done; 0 = idle. Spec: wire-protocol 2.1, 3.1.
  unsigned turn(std::int64_t now_ns) noexcept;
  // Turns until `stop`, with the clock's time, then leaves everything as a later lane can resume it.
  void run(const TscClock& clock, IdleStrategy idle, std::int64_t idle_sleep_ns, const std::atomic<bool>& stop) noexcept;
  // Frees every packet buffer it holds. Lane's thread, or after it ended.
  void drop_frames() noexcept;

  [[nodiscard]] std::uint32_t index() const noexcept { return options_.index; }
  [[nodiscard]] std::uint32_t publication_count() const noexcept { return static_cast<std::uint32_t>(owned_publications_.size()); }
  [[nodiscard]] std::uint32_t image_count() const noexcept { return static_cast<std::uint32_t>(owned_images_.size()); }
  [[nodiscard]] std::uint32_t active_count() const noexcept { return active_publications_.count() + active_images_.count(); }

 private:
  // lane_receive.cpp: frames in.
  unsigned receive(LanePort& context, std::int64_t now_ns) noexcept;
  unsigned receive_crossed(std::int64_t now_ns) noexcept;
  // False: the frame went to another lane.
  bool take_frame(const FrameRules& rules, LanePort* context, rte_mbuf* frame, std::int64_t now_ns) noexcept;
  bool take_ipv6(const FrameRules& rules, LanePort* context, const Unusual& unusual, rte_mbuf* frame, std::int64_t now_ns) noexcept;
  [[nodiscard]] Checked check_ipv6(const FrameRules& rules, const wire::Ipv6View& ip, Datagram& datagram, std::int64_t now_ns) noexcept;
  [[nodiscard]] std::uint32_t handle_of_peer(const wire::Ipv6Address& address, std::int64_t now_ns) noexcept;
  [[nodiscard]] std::uint32_t destination_of(const LanePort& context, const rte_mbuf& frame, std::int64_t now_ns) noexcept;
  void take_unusual(LanePort* context, const Unusual& unusual, std::int64_t now_ns) noexcept;
  void take_fragment(const FrameRules& rules, const Unusual& unusual, std::span<const std::byte> frame, std::int64_t now_ns) noexcept;
  bool deliver(const FrameRules& rules, LanePort* context, const Datagram& datagram, rte_mbuf* frame, std::int64_t now_ns) noexcept;
  bool deliver_to_group(const FrameRules& rules, const Datagram& datagram, rte_mbuf* frame, std::int64_t now_ns) noexcept;
  unsigned receive_looped(std::int64_t now_ns) noexcept;
  void keep_flow(const FrameRules& rules, const rte_mbuf& frame, const Datagram& datagram, Endpoint& endpoint) noexcept;
  void hand_over(Endpoint& endpoint, const Datagram& datagram, const rte_mbuf& frame, std::int64_t now_ns) noexcept;
  void hand_over(Endpoint& endpoint, const Datagram& datagram, std::int64_t now_ns) noexcept;   // of a kept flow
  Endpoint* look_up(const FrameRules& rules, const wire::UdpEndpoint& destination) noexcept;
  void refuse(const FrameRules& rules, LanePort* context, const Datagram& datagram, rte_mbuf* frame, std::int64_t now_ns) noexcept;
  bool cross(std::uint32_t lane, std::uint8_t port, rte_mbuf* frame, CrossingKind kind = CrossingKind::kReceived, std::uint32_t slot = 0) noexcept;
  void send_crossed(rte_mbuf* frame, std::int64_t now_ns) noexcept;
  void to_receiver(Endpoint& endpoint, const Datagram& datagram, std::int64_t now_ns) noexcept;
  void to_sender(Endpoint& endpoint, const Datagram& datagram, std::int64_t now_ns) noexcept;
  void on_data(Endpoint& endpoint, const Datagram& datagram, std::uint8_t flags, std::int64_t now_ns) noexcept;
  void on_stamped_data(Endpoint& endpoint, ImageEntry& image, const Datagram& datagram, std::int64_t now_ns) noexcept;
  void on_setup(Endpoint& endpoint, const Datagram& datagram, std::int64_t now_ns) noexcept;
  void on_receiver_rtt(Endpoint& endpoint, const Datagram& datagram, std::int64_t now_ns) noexcept;
  void elicit_setup(Endpoint& endpoint, const wire::UdpEndpoint& sender, std::int32_t stream_id, std::int32_t session_id, std::int64_t now_ns) noexcept;
  void register_at_control(Endpoint& endpoint, std::int64_t now_ns) noexcept;
  void register_at_control(Endpoint& endpoint, const shm::InterestSlot& slot, std::int64_t now_ns) noexcept;
  void hear_destination(Endpoint& endpoint, const wire::StatusMessage& sm, bool is_of_stream, const wire::UdpEndpoint& source, std::int64_t now_ns) noexcept;
  void on_status_message(Endpoint& endpoint, PublicationEntry* entry, const Datagram& datagram, std::int64_t now_ns) noexcept;
  void request_image(Endpoint& endpoint, const Datagram& datagram, const wire::Setup& setup) noexcept;
  void on_sender_rtt(PublicationEntry& entry, const wire::RttMeasurement& rtt, const wire::UdpEndpoint& source, std::int64_t now_ns) noexcept;
  void on_feedback(PublicationEntry& entry, wire::FrameType type, const Datagram& datagram, std::int64_t now_ns) noexcept;
  bool on_response_setup(PublicationEntry& entry, const Datagram& datagram, std::int64_t now_ns) noexcept;
  void recall_peer(PublicationEntry& entry) noexcept;
  void answer_to(PublicationEntry& entry, const wire::UdpEndpoint& peer) noexcept;
  void tell_error(PublicationEntry& entry, const wire::ErrorFrame& error, const wire::UdpEndpoint& source) noexcept;
  PublicationEntry* find_publication(Endpoint& endpoint, std::uint64_t stream) noexcept;

  // lane_streams.cpp: what the registry wants.
  unsigned take_messages(std::int64_t now_ns) noexcept;
  void take_message(const LaneMessage& message, std::int64_t now_ns) noexcept;
  void on_endpoint(Endpoint& endpoint, bool is_closing) noexcept;
  void open_endpoint(Endpoint& endpoint) noexcept;
  void join_group(Endpoint& endpoint) noexcept;
  void leave_group(Endpoint& endpoint) noexcept;
  void readdress(Endpoint& endpoint) noexcept;
  void on_link_change(std::uint32_t port, bool is_up) noexcept;
  [[nodiscard]] FramePool& frames_of(rte_mempool* pool);
  [[nodiscard]] Endpoint* endpoint_at(std::uint32_t slot) const noexcept {
    return slot < endpoint_of_slot_.size() ? endpoint_of_slot_[slot] : nullptr;
  }
  void on_destination(std::uint32_t index) noexcept;
  void on_interest(std::uint32_t index, std::int64_t now_ns) noexcept;
  void on_publication(std::uint32_t index, std::int64_t now_ns) noexcept;
  void on_image(std::uint32_t index, std::int64_t now_ns) noexcept;
  void on_link(std::uint32_t index, std::int64_t now_ns) noexcept;
  void on_setup_answer(std::uint32_t index) noexcept;
  // Null: all of the log has memory.
  [[nodiscard]] shm::LogGrowth* growth_of(std::uint32_t log) const noexcept {
    shm::LogGrowth& growth = tables_.growths[log];
    return growth.end.load(std::memory_order_acquire) == shm::LogGrowth::kAll ? nullptr : &growth;
  }
  void start_publication(PublicationEntry& entry, shm::PublicationSlot& slot, std::int64_t now_ns) noexcept;
  void refuse_mtu(shm::PublicationSlot& slot, std::uint32_t port, std::uint32_t remote) noexcept;
  void start_image(ImageEntry& entry, shm::ImageSlot& slot, std::int64_t now_ns) noexcept;
  void attach_link(std::uint32_t index, std::int64_t now_ns) noexcept;
  void detach_link(std::uint32_t index) noexcept;
  [[nodiscard]] std::int64_t join_position(const shm::LinkSlot& slot) const noexcept;
  void tick_target(const shm::LinkSlot& slot, std::int64_t now_ns) noexcept;
  void detach_all_links(std::uint32_t first) noexcept;
  [[nodiscard]] std::uint32_t* first_link_of(const shm::LinkSlot& slot) noexcept;
  [[nodiscard]] ImageEntry* source_of(const shm::PublicationSlot& slot) const noexcept;
  void join_source(PublicationEntry& entry, bool is_resumed) noexcept;
  void leave_source(PublicationEntry& entry) noexcept;
  [[nodiscard]] static std::int64_t relay_start(const ImageEntry& image) noexcept;
  void finish(PublicationEntry& entry) noexcept;
  void finish(ImageEntry& entry) noexcept;
  void leave_dispatcher(ImageEntry& entry) noexcept;
  void reject_if_wanted(ImageEntry& entry) noexcept;
  void bind_response(ImageEntry& entry, std::int64_t now_ns) noexcept;
  void tick_tethers(std::uint32_t first_link, std::int64_t limit, std::int64_t now_ns) noexcept;
  void move_tether(shm::LinkSlot& slot, LinkEntry& link, shm::Tether to) noexcept;
  void tell(PublicationEntry& entry) noexcept;
  void tell(ImageEntry& entry) noexcept;
  void tick(PublicationEntry& entry, std::int64_t now_ns) noexcept;
  void tick(ImageEntry& entry, std::int64_t now_ns) noexcept;
  void ring(shm::SlotKind kind, std::uint32_t index) noexcept;
  [[nodiscard]] shm::Counter counter(std::int32_t id) const noexcept;
  [[nodiscard]] bool is_home(std::uint32_t port) const noexcept { return shared_.lane_of_port[port] == options_.index; }
  [[nodiscard]] LanePort* context_of(std::uint32_t port) noexcept { return port < contexts_.size() ? contexts_[port].get() : nullptr; }
  [[nodiscard]] Destination make_destination(const Endpoint& endpoint, const wire::UdpEndpoint& remote) noexcept;

  // lane_destinations.cpp: multi-destination subscriptions (wire-protocol 5.6).
  void join_parent(Endpoint& child) noexcept;
  void leave_parent(Endpoint& child) noexcept;
  static void forget_images(Endpoint& home) noexcept;
  [[nodiscard]] unsigned connection_of(ImageEntry& entry, Endpoint& endpoint, const wire::UdpEndpoint& source, std::int64_t now_ns) noexcept;
  void insert_from_destination(ImageEntry& entry, Endpoint& child, std::span<const std::byte> datagram, std::int64_t now_ns) noexcept;
  void start_connections(ImageEntry& entry, bool is_resumed, std::int64_t now_ns) noexcept;
  bool cross_to_member(const Endpoint& member, const FrameRules& rules, rte_mbuf* frame, bool is_only) noexcept;
  void take_for_member(rte_mbuf* frame, std::int64_t now_ns) noexcept;

  // lane_duty.cpp: what streams owe.
  unsigned serve_images(std::int64_t now_ns) noexcept;
  unsigned serve(ImageEntry& entry, std::int64_t now_ns) noexcept;
  [[nodiscard]] Destination& destination_of(ImageEntry& entry, std::size_t connection) noexcept;
  unsigned serve_publications(std::int64_t now_ns) noexcept;
  unsigned serve(PublicationEntry& entry, std::int64_t now_ns) noexcept;
  [[nodiscard]] DestinationSink sink_of(PublicationEntry& entry, std::int64_t now_ns) const noexcept;
  void sweep_images(std::int64_t now_ns) noexcept;
  void sweep_publications(std::int64_t now_ns) noexcept;
  [[nodiscard]] std::uint32_t* word_of(const PublicationEntry& entry) const noexcept;
  [[nodiscard]] bool has_news(const PublicationEntry& entry) const noexcept;
  void wake(ImageEntry& entry) noexcept;
  void wake(PublicationEntry& entry) noexcept;
  // Wakes one that has a timer or a peer's word to see to, which seldom sets it going: unless it does, it rests again behind one turn.
  void remind(ImageEntry& entry) noexcept;
  void remind(PublicationEntry& entry) noexcept;
  void rest(ImageEntry& entry) noexcept;
  void rest(PublicationEntry& entry, bool is_refused) noexcept;
  void nudge(ImageEntry& entry) noexcept;
  void unlist(ImageEntry& entry) noexcept;
  void unlist(PublicationEntry& entry) noexcept;
  // Says in the registry what this lane turns to: whom to blame if it crashes there (see crash_guard.hpp).
  void turn_to(const ImageEntry& entry) noexcept { turn_to({shm::SlotKind::kImage, entry.index}); }
  void turn_to(const PublicationEntry& entry) noexcept { turn_to({shm::SlotKind::kPublication, entry.index}); }
  [[nodiscard]] std::int64_t epoch_of(std::int64_t now_ns) const noexcept { return now_ns + epoch_offset_ns_; }
  void turn_to(shm::SlotRef ref) noexcept { slot_.in_work.store(ref.pack(), std::memory_order_relaxed); }
  void turn_away() noexcept { slot_.in_work.store(0, std::memory_order_relaxed); }
  unsigned flush() noexcept;
  void housekeep(std::int64_t now_ns) noexcept;
  void tick_streams(std::int64_t now_ns) noexcept;
  void publish_duty(std::int64_t now_ns) noexcept;
  void give_way(std::int64_t park_ns, std::int64_t now_ns) noexcept;

  Options options_;
  LaneShared& shared_;
  shm::Registry& registry_;
  shm::LaneSlot& slot_;
  StreamTables& tables_;
  proto::LaneCounters counters_;
  std::vector<std::unique_ptr<FramePool>> frames_;    // one per packet pool
  std::vector<std::unique_ptr<LanePort>> contexts_;   // by port index; those of other lanes cross
  std::vector<std::unique_ptr<pmd::Port>> crossing_ports_;
  std::vector<LanePort*> polled_;                     // own ports
  std::vector<LanePort*> staged_;                     // own ports and those that cross
  LoopQueue looped_;

  // Demultiplexing: (address, port) -> endpoint; groups: (interface, group, port) -> first member.
  FlatMap<Endpoint*> endpoints_{shm::kEndpointsMax};
  static constexpr std::uint64_t kNoAddress = ~std::uint64_t{0};
  std::uint64_t cached_address_{kNoAddress};
  Endpoint* cached_endpoint_{};
  FlowCache flow_;
  shm::LearnBudget strangers_;                           // IPv6 addresses that peers make this lane enter
  FlatMap<std::uint32_t> publications_by_stream_{shm::kPublicationsMax};
  std::vector<Endpoint*> endpoint_of_slot_;              // own ones, by registry slot
  std::vector<Endpoint*> receive_endpoints_;             // own ones, for the dispatchers' timers

  PollList<PublicationEntry> active_publications_{shm::kPublicationsMax, Activity::kActive};
  IdleList<PublicationEntry> idle_publications_{shm::kPublicationsMax, kPublicationSweep_ns};
  PollList<ImageEntry> active_images_{shm::kImagesMax, Activity::kActive};
  IdleList<ImageEntry> idle_images_{shm::kImagesMax, kImageSweep_ns};
  std::vector<PublicationEntry*> owned_publications_;    // capacity reserved at start
  std::vector<ImageEntry*> owned_images_;
  std::vector<std::uint32_t> interest_generations_;      // by slot: the generation added to a dispatcher, 0 = none
  std::uint32_t rotation_{};
  std::uint32_t setup_cursor_{};
  std::uint32_t setups_open_{};                          // SETUP slots that are not free

  std::int64_t last_turn_ns_{};
  std::int64_t elapsed_ns_{};
  std::int64_t last_housekeep_ns_{};
  std::int64_t last_tick_ns_{};
  std::int64_t last_dispatcher_tick_ns_{};
  std::uint64_t tick_credit_{};
  std::uint32_t tick_cursor_{};
  std::uint32_t never_changes_{};                        // watched by streams that are to be woken by the next sweep
  std::int64_t epoch_offset_ns_{};                       // the realtime clock less ours; simulated time is that of an epoch of its own
  std::array<std::byte, wire::kMtuMax> stamped_{};       // a datagram that its arrival is written into
  std::int64_t arrived_ns_{};                            // of the datagram at hand, where its endpoint is stamped; 0: its port does not know
  bool is_blocked_{};                                    // a sink refused in this turn
  struct Duty {
    std::uint64_t idle{}, busy{}, blocked{}, housekeeping{}, turns{};
    std::uint64_t turn_ns_max{};
  } duty_;

  Doorman doorman_;
  alignas(kCacheLine) SpscRing<LaneMessage, kInboxCapacity> inbox_;
  alignas(kCacheLine) ParkBell bell_;
};

}  // namespace thalweg::core
