#pragma once
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/core/capture_desk.hpp"
#include "dataplane/core/lane.hpp"
#include "dataplane/shm/mapped_file.hpp"

namespace thalweg::core {

// The data plane's blocking half: maps logs, opens endpoints, tells lanes, watches links (docs/develop/registry.md). It reads what the
// control plane wants from the registry and answers there. Thread: one, the main thread; it may block, lanes never wait for it.
class Steward {
 public:
  struct Options {
    std::string directory;         // of the instance: where log files lie
    std::int64_t watch_interval_ns{100'000'000};
    std::uint32_t session_limit{proto::kNoSessionLimit};  // images of one stream on one endpoint
    WildcardPorts sender_ports{}, receiver_ports{};
  };
  Steward(const Options& options, LaneShared& shared, std::vector<StewardPort>& ports, std::vector<std::unique_ptr<Lane>>& lanes);
  ~Steward();

  // Takes up everything the registry holds: the first thing a started data plane does.
  void attach();
  // One pass: door bells, messages that did not fit a lane's inbox, endpoints that lanes let go of, and at intervals links, statistics and
  // heartbeat. Returns the work done.
  unsigned step(std::int64_t now_ns);
  // True while a lane still has to take a message.
  [[nodiscard]] bool has_pending() const noexcept;
  // True while a sparse log may need its next partition any time.
  [[nodiscard]] bool is_watching_logs() const noexcept;
  // Releases every socket address, so that ports can be closed. After the lanes ended.
  void close_endpoints();

  [[nodiscard]] std::uint32_t open_endpoint_count() const noexcept { return open_endpoints_; }
  [[nodiscard]] std::uint32_t mapped_log_count() const noexcept { return mapped_logs_; }

 private:
  class InWork;
  void scan(bool everything);
  void take(shm::SlotRef ref);
  void on_log(std::uint32_t index);
  void on_endpoint(std::uint32_t index);
  void readdress(std::uint32_t index);
  // steward_reopen.cpp
  void enter_endpoint(std::uint32_t index, std::unique_ptr<Endpoint> endpoint);
  void reopen_endpoints(std::int64_t now_ns);
  [[nodiscard]] static bool was_open(const shm::EndpointSlot& slot) noexcept { return slot.observed.opened == slot.desired.generation; }
  [[nodiscard]] Result<void> reconnect(const Endpoint& endpoint, const wire::UdpEndpoint& remote, const shm::EndpointSlot::Wanted& wanted);
  void on_destination(std::uint32_t index);
  void on_interest(std::uint32_t index);
  void on_publication(std::uint32_t index);
  [[nodiscard]] Result<std::uint32_t> lane_of_relay(const shm::PublicationSlot& slot, std::uint32_t lane_of_endpoint);
  void on_image(std::uint32_t index);
  void on_link(std::uint32_t index);
  void on_capture(std::uint32_t index);
  [[nodiscard]] Result<void> map_log(std::uint32_t index);
  [[nodiscard]] bool is_filling(std::uint32_t index) const noexcept;
  void unmap_log(std::uint32_t index);
  void unmapped(std::uint32_t index);
  // One step at the large logs: faults pages in, unmaps. Only when nobody waits for anything else. Returns the work done.
  unsigned work_at_logs();
  [[nodiscard]] Result<std::unique_ptr<Endpoint>> open_endpoint(std::uint32_t index);
  [[nodiscard]] Result<std::vector<std::uint32_t>> ports_for(const shm::EndpointSlot::Wanted& wanted) const;
  // Multicast: port, interface and group of `endpoint`, and its membership. The error leaves nothing joined.
  [[nodiscard]] Result<std::unique_ptr<Endpoint>> open_parent(std::unique_ptr<Endpoint> endpoint, const shm::EndpointSlot& slot, bool is_resumed);
  [[nodiscard]] bool has_child(const Endpoint* parent) const;
  void make_receiver(Endpoint& endpoint, const shm::EndpointSlot& slot, bool is_resumed);
  [[nodiscard]] bool wants_arrivals(const Endpoint& endpoint, const shm::EndpointSlot::Wanted& wanted) const noexcept;
  [[nodiscard]] Result<GroupRoute> route_of_group(const shm::EndpointSlot::Wanted& wanted);
  [[nodiscard]] Result<void> join_group(Endpoint& endpoint, const shm::EndpointSlot::Wanted& wanted);
  [[nodiscard]] Result<void> check_room_for_group(const Endpoint& endpoint) const;
  [[nodiscard]] Result<void> bind_endpoint(Endpoint& endpoint, const shm::EndpointSlot& slot);
  void release_addresses(const Endpoint& endpoint);
  [[nodiscard]] Result<wire::UdpEndpoint> bind_all(const Endpoint& endpoint, pmd::Port::BindOptions options);
  // What a stream needs first; an error is the stream's failure.
  [[nodiscard]] Result<void> ready_log(std::uint32_t index, std::int32_t term_length, std::int64_t position);
  // A sparse log whose stream started at `position`: what it has, and whether it will need more.
  void watch_growth(std::uint32_t index, std::int32_t term_length, std::int64_t position);
  unsigned grow_logs(std::int64_t now_ns);
  void grow(std::uint32_t index, std::int64_t now_ns);
  [[nodiscard]] Result<std::uint32_t> ready_endpoint(std::uint32_t index, shm::EndpointKind kind);   // its lane
  void close_endpoint(std::uint32_t index);
  unsigned reap_endpoints();
  void post(std::uint32_t lane, const LaneMessage& message);
  unsigned drain_outboxes();
  // False: the data plane crashed on the stream too often and does not touch it any more; the control plane is told.
  template <typename Slot>
  [[nodiscard]] bool may_touch(Slot& slot, shm::SlotRef ref);
  void ring(shm::SlotKind kind, std::uint32_t index);
  void watch(std::int64_t now_ns);
  void watch_port(std::uint32_t index);
  void forget_addresses(std::int64_t now_ns);

  static constexpr std::uint8_t kNoLane = 0xFF;
  Options options_;
  LaneShared& shared_;
  shm::Registry& registry_;
  std::vector<StewardPort>& ports_;
  std::vector<std::unique_ptr<Lane>>& lanes_;
  std::vector<std::deque<LaneMessage>> outboxes_;       // by lane: what its inbox had no room for, in order
  std::vector<shm::MappedFile> maps_;                   // by log slot
  struct Filling {
    std::uint32_t index;
    std::uint64_t next;                                 // first byte not faulted in yet
    std::uint64_t end;
  };
  std::deque<Filling> fillings_;                        // large logs that are populated in steps
  struct Growing {
    std::int64_t first_term;                            // that the stream started in
    std::uint32_t partitions;                           // that have memory
    std::uint64_t done;                                 // bytes of the next one that have
    bool is_wanted;
    std::int64_t not_before_ns;                         // after a failure
  };
  std::map<std::uint32_t, Growing> growing_;            // sparse logs, by log slot; complete ones are not asked about again
  std::deque<std::uint32_t> unmappings_;                // large logs that are unmapped in steps
  std::vector<std::unique_ptr<Endpoint>> endpoints_;    // by endpoint slot
  std::vector<std::uint32_t> closing_;                  // endpoint slots whose lanes were told
  std::map<std::uint32_t, std::int64_t> lost_;          // endpoint slots that were open before us and are not now, and when each is tried again
  std::vector<std::uint8_t> lane_of_publication_, lane_of_image_;
  CaptureDesk captures_;
  std::uint32_t open_endpoints_{};
  std::uint32_t mapped_logs_{};
  std::int64_t last_watch_ns_{};
  std::int64_t last_recycle_ns_{};
  bool has_rung_{};
};

}  // namespace thalweg::core
