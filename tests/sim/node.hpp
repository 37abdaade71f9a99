#pragma once
#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "dataplane/proto/destination_list.hpp"
#include "dataplane/proto/dispatcher.hpp"
#include "dataplane/proto/image.hpp"
#include "dataplane/proto/publication.hpp"
#include "tests/sim/checks.hpp"
#include "tests/sim/network.hpp"
#include "tests/sim/producer.hpp"
#include "tests/sim/reader.hpp"
#include "tests/sim/scenario.hpp"

// One appliance: a data plane with a single lane (this class's glue mirrors dataplane/core: dispatch, routing of control frames, limits,
// ticks) and as much of a control plane as streams need (it creates images, attaches readers, lets go of what is done).
//
// What outlives a crash of the data plane is kept in the *slots* (registry, logs, counters); what dies with it is std::optional.
namespace thalweg::sim {

// A stream as the whole world knows it.
struct Stream {
  explicit Stream(const StreamPlan& p, std::uint64_t key) : plan{p}, ledger{key} {}
  const StreamPlan& plan;
  Ledger ledger;
  std::vector<std::unique_ptr<Producer>> producers;  // two of an A/B stream
  bool is_excused{};                             // one side died for long when the other had no receiver yet, or none any more
  // Nothing that happened may cost a receiver an image: every reader must get every message.
  [[nodiscard]] bool is_lossless() const noexcept { return plan.is_lossless && !is_excused; }
  // Without receivers a relay goes on with its image: who is just joining may find its place gone.
  bool has_relay_moved{};
  [[nodiscard]] bool may_lose(const ReaderPlan& reader) const noexcept { return reader.may_lose || (reader.is_relayed && has_relay_moved); }
  std::vector<std::unique_ptr<Reader>> readers;  // all there ever were, of every image
  wire::UdpEndpoint relay_to;                    // where the far end of a relay listens
};

// Every node has a second address, as one with two network cards has; and one for the first side of an A/B stream, which may be cut off alone.
inline constexpr std::uint32_t kSecondAddress = 0x100;
inline constexpr std::uint32_t kSideAddress = 0x200;

// How a destination is reached (proto::DestinationList).
struct Way {
  wire::UdpEndpoint remote;
  [[nodiscard]] bool is_same(const Way& other) const noexcept { return remote == other.remote; }
};

struct PublicationEntry {
  static constexpr std::size_t kDestinationsMax = 8;
  static constexpr std::size_t kNoSource = static_cast<std::size_t>(-1);

  Stream* stream{};
  Producer* producer{};                          // none: a relay
  std::size_t source{kNoSource};                 // of a relay: the image whose log it sends
  std::int64_t relayed_from{};                   // and where it began
  bool was_waited_for{};                         // by its image, in the last turn
  [[nodiscard]] bool is_waited_for() const noexcept;
  std::int64_t closed_ns{-1};                    // the client let go of it
  std::unique_ptr<shm::PublicationSlot> slot;
  LogMemory log;
  std::array<std::int64_t, 6> counters{};
  wire::UdpEndpoint local;
  std::vector<wire::UdpEndpoint> destinations;            // one address, or a group's members
  std::deque<shm::DestinationSlot> slots;                 // manual destinations
  std::map<std::pair<std::uint32_t, std::uint16_t>, std::int64_t> heard_ns;  // dynamic ones, and when: what the list must agree with
  std::map<std::pair<std::uint32_t, std::uint16_t>, std::int64_t> told_ns;   // those of them that told how far they are: nobody takes their places
  std::map<std::int64_t, std::int64_t> wanted_ns;         // receivers that flow control waits for, and when each last said that it is one of them
  std::vector<Reader*> readers;  // IPC
  PublicationCheck check;
  bool is_done{};
  std::optional<proto::Publication> machine;
  std::optional<proto::DestinationList<Way>> list;        // of many destinations

  void send_to(const wire::UdpEndpoint& destination);
  [[nodiscard]] shm::Counter counter(std::size_t i) noexcept { return shm::Counter{&counters[i]}; }
  [[nodiscard]] proto::SubscriberPositions positions() const noexcept;
};

struct ImageEntry {
  Stream* stream{};
  const SubscriberPlan* plan{};
  std::size_t endpoint{};
  wire::UdpEndpoint source;
  std::unique_ptr<shm::ImageSlot> slot;
  LogMemory log;
  std::array<std::int64_t, 3> counters{};
  std::vector<Reader*> readers;
  std::vector<PublicationEntry*> relays;
  bool has_relay{};                   // or had one
  std::deque<ReaderPlan> reader_plans;
  std::size_t late_readers_added{1};  // plan readers attached so far
  bool is_echo{};                     // of a stream whose first image has ended
  std::int64_t echo_until_ns{};       // of one that has ended by one side: until then its stream begins no new image
  ImageCheck check;
  bool is_started{}, is_unavailable{}, is_done{};
  std::optional<proto::Image> machine;

  [[nodiscard]] proto::SubscriberPositions positions() const noexcept;
  // Of the readers, and of those relays that were waited for before this turn.
  [[nodiscard]] proto::SubscriberPositions settled_positions() const noexcept;
  [[nodiscard]] proto::SubscriberPositions with_relays(proto::SubscriberPositions all, bool only_settled) const noexcept;
};

struct Subscription {
  Stream* stream{};
  const SubscriberPlan* plan{};
  bool is_closed{};
  std::uint32_t images{};  // created since it was opened

  // Some reader of it lives at this time.
  [[nodiscard]] bool is_wanted(std::int64_t now_ns) const noexcept {
    return std::any_of(plan->readers.begin(), plan->readers.end(), [=](const ReaderPlan& r) { return r.join_ns <= now_ns && now_ns < r.die_at_ns; });
  }
};

// A multi-destination subscription is an endpoint without an address, and one for each of its ways, which come right behind it.
struct ReceiveEndpoint {
  static constexpr std::size_t kNoParent = static_cast<std::size_t>(-1);

  wire::UdpEndpoint local;
  wire::UdpEndpoint control;                 // explicit: told every second that we are here
  std::int64_t next_register_ns{};
  std::size_t parent{kNoParent};
  std::int64_t removed_ns{INT64_MAX};
  bool is_removed{};
  std::unique_ptr<proto::Arrivals> arrivals; // of a parent
  std::int64_t receiver_id{};
  std::optional<std::int64_t> group_tag;
  std::vector<Subscription> subscriptions;
  std::optional<proto::Dispatcher> dispatcher;
};

class Node {
 public:
  Node(std::uint32_t index, const Scenario& scenario, Network& network, Verdict& verdict);

  [[nodiscard]] std::uint32_t address() const noexcept { return address_of(index_); }
  [[nodiscard]] static std::uint32_t address_of(std::uint32_t index) noexcept { return 0x0A000001U + index; }
  // Set-up, before the first turn.
  PublicationEntry& add_publication(Stream& stream, std::size_t side);
  [[nodiscard]] std::deque<ReceiveEndpoint>& endpoints() noexcept { return endpoints_; }
  // A receiver of the stream is at this stage.
  [[nodiscard]] bool is_at(Stage stage, const Stream& stream) const noexcept;
  // Somebody receives the stream at this address, which is the only one it comes by.
  [[nodiscard]] bool is_receiving(const Stream& stream, const wire::UdpEndpoint& at) const noexcept;
  // The addresses to send to. `control`: of a publication that learns its destinations.
  std::vector<wire::UdpEndpoint> add_subscription(Stream& stream, const SubscriberPlan& plan, const wire::UdpEndpoint& control);
  void start(std::int64_t now_ns);

  void receive(Datagram& datagram, std::int64_t now_ns);
  // One turn of the lane. Returns true if anything happened.
  bool turn(std::int64_t now_ns);
  void tick(std::int64_t now_ns);
  // What the control plane does; lags behind while it is stalled.
  bool control_plane(std::int64_t now_ns);
  [[nodiscard]] std::int64_t next_due_ns(std::int64_t now_ns) const noexcept;

  // Faults.
  void pause(std::int64_t now_ns, std::int64_t until_ns);
  void crash(std::int64_t now_ns, std::int64_t until_ns);
  void stall_control_plane(std::int64_t until_ns);
  void crash_in_next_insert(std::int64_t duration_ns) noexcept { crash_in_insert_ns_ = duration_ns; }
  void crash_in_next_clean(std::int64_t duration_ns) noexcept { crash_in_clean_ns_ = duration_ns; }
  void heal() noexcept;

  [[nodiscard]] bool is_idle_forever() const noexcept;  // every slot was let go
  [[nodiscard]] std::string what_is_left() const;
  [[nodiscard]] std::deque<PublicationEntry>& publications() noexcept { return publications_; }
  [[nodiscard]] std::uint64_t lane_counter(shm::LaneCounter counter) const noexcept { return lane_counters_[static_cast<std::size_t>(counter)]; }

 private:
  friend class PublicationSink;
  friend class ImageSink;
  struct PendingImage {  // what the control plane has on its table
    std::int64_t due_ns{};
    std::size_t endpoint{};        // its home
    std::size_t way{};
    wire::Setup setup;
    wire::UdpEndpoint source;
  };

  void attach_machines(std::int64_t now_ns);
  void attach(PublicationEntry& publication, std::int64_t now_ns);
  [[nodiscard]] const LogMemory& log_of(const PublicationEntry& publication) const noexcept;
  bool begin_relays(std::int64_t now_ns);
  bool end_relays(std::int64_t now_ns);
  void begin_relay(std::size_t image, std::int64_t now_ns);
  void follow_source(PublicationEntry& publication);
  void expect_members(PublicationEntry& publication);
  void attach_dispatcher(ReceiveEndpoint& endpoint);
  void start_image(std::size_t index, std::int64_t now_ns);
  void handle(Datagram& datagram, std::int64_t now_ns);
  void on_control(PublicationEntry& publication, const wire::FrameHeader& header, Datagram& datagram, std::int64_t now_ns);
  void on_sender_rtt(PublicationEntry& publication, const wire::RttMeasurement& rtt, const wire::UdpEndpoint& source, std::int64_t now_ns);
  void on_data(std::size_t endpoint, Datagram& datagram, std::int64_t now_ns);
  void on_setup(std::size_t endpoint, Datagram& datagram, std::int64_t now_ns);
  void on_rtt(std::size_t endpoint, Datagram& datagram, std::int64_t now_ns);
  void insert(ImageEntry& image, std::size_t way, const Datagram& datagram, std::int64_t now_ns);
  // Where the interests and images of an endpoint are.
  [[nodiscard]] std::size_t home_of(std::size_t endpoint) const noexcept;
  [[nodiscard]] unsigned connection_of(ImageEntry& image, std::size_t way, const wire::UdpEndpoint& source, std::int64_t now_ns);
  void start_connections(ImageEntry& image, bool is_resumed, std::int64_t now_ns);
  void put_in(ImageEntry& image, std::size_t way, const Datagram& datagram, std::int64_t now_ns);
  void attach_destinations(PublicationEntry& publication);
  void hear_destination(PublicationEntry& publication, const wire::StatusMessage& sm, const wire::UdpEndpoint& source, std::int64_t now_ns);
  [[nodiscard]] std::vector<wire::UdpEndpoint> destinations_of(PublicationEntry& publication);
  bool register_at_control(std::int64_t now_ns);
  bool remove_ways(std::int64_t now_ns);
  void expect_no_echo(const SubscriberPlan& plan, std::int64_t now_ns);
  std::size_t add_endpoint(const SubscriberPlan& plan);
  void update_limit(PublicationEntry& publication, std::int64_t now_ns);
  void elicit_setup(const ReceiveEndpoint& endpoint, std::int32_t session_id, std::int32_t stream_id, const wire::UdpEndpoint& to, std::int64_t now_ns);
  void create_image(const PendingImage& pending, std::int64_t now_ns);
  bool attach_late_readers(ImageEntry& image, std::int64_t now_ns);
  void tick_image(std::size_t index, std::int64_t now_ns);
  bool reap_readers(std::int64_t now_ns);
  bool open_and_close_subscriptions(std::int64_t now_ns);
  bool close_publications(std::int64_t now_ns);
  [[nodiscard]] bool is_up(std::int64_t now_ns) const noexcept { return now_ns >= down_until_ns_; }
  [[nodiscard]] proto::LaneCounters lane() noexcept { return proto::LaneCounters{lane_counters_.data()}; }
  void count(shm::LaneCounter counter) noexcept { lane().add(counter); }
  bool transmit(const wire::UdpEndpoint& from, const std::vector<wire::UdpEndpoint>& to, std::span<const std::byte> bytes);

  std::uint32_t index_;
  const Scenario& scenario_;
  Network& network_;
  Verdict& verdict_;
  Random random_;
  std::array<std::uint64_t, shm::kLaneCounterCount> lane_counters_{};
  std::deque<PublicationEntry> publications_;
  std::deque<ImageEntry> images_;  // an image's number is its index; entries stay, their slot goes
  std::deque<ReceiveEndpoint> endpoints_;
  std::vector<PendingImage> pending_;
  std::deque<Datagram> receive_queue_;  // of a paused lane
  std::int64_t now_ns_{};               // of the turn, for the sinks
  std::int64_t next_tick_ns_{};
  std::int64_t attached_ns_{};          // when the data plane started last
  std::int64_t paused_until_ns_{}, down_until_ns_{}, stalled_until_ns_{};
  std::int64_t crash_in_insert_ns_{}, crash_in_clean_ns_{};
  bool is_crashed_{};
  bool is_healed_{};
};

}  // namespace thalweg::sim
