#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/shm/registry.hpp"
#include "tests/sim/network.hpp"

// Everything a run will be, drawn from one seed before it starts.
namespace thalweg::sim {

// Whom a publication sends to: one address or group, or several destinations that it learns of, or is told (wire-protocol 5.5).
enum class Destinations : std::uint8_t { kOne, kDynamic, kManual };

enum class Ending : std::uint8_t { kCloseWhenConsumed, kCloseAtOnce, kRevoke };

struct ReaderPlan {
  std::int64_t poll_interval_ns{};
  std::int32_t bytes_per_poll{};      // a slow reader takes little at a time
  std::int64_t join_ns{};             // 0: with the image; later: joins what is live then
  std::int64_t pause_at_ns{INT64_MAX};
  std::int64_t pause_ns{};
  std::int64_t die_at_ns{INT64_MAX};  // its client dies: the subscription goes without a word
  bool may_lose{};                    // the sender does not wait for it
  bool is_relayed{};                  // it is behind a relay
};

struct SubscriberPlan {               // one receiving node's interest in a stream
  std::uint32_t node{};
  bool is_reliable{true};
  bool is_rejoin{true};
  bool has_tag{};                     // of the group that tagged flow control waits for
  std::int64_t tag_lost_ns{INT64_MAX};  // from then on it speaks without
  std::int32_t window_length{};
  std::int64_t reject_at_ns{INT64_MAX};
  bool has_two_ways{};                // a multi-destination subscription: the stream comes by two addresses of the node (5.6)
  std::int64_t way_removed_ns{INT64_MAX};  // the second one
  std::vector<ReaderPlan> readers;
};

struct StreamPlan {
  bool is_ipc{};
  bool is_group{};                    // one publication, several receivers
  shm::FlowControl flow_control{};    // of a group
  std::int32_t group_min_size{};
  std::int64_t receiver_timeout_ns{};
  Destinations destinations{};
  bool is_exclusive{};
  std::uint32_t node{};               // of the publication
  // A/B: a second publication of the same stream, to the receiver's second way.
  bool has_twin{};
  std::uint32_t twin_node{};
  std::int64_t side_lag_ns[2]{};      // when each of the two applications begins
  std::int64_t nak_hold_ns{};
  std::int64_t side_timeout_ns{};
  std::int32_t session_id{};
  std::int32_t stream_id{};
  std::int32_t initial_term_id{};
  std::int32_t start_term_count{};
  std::int32_t start_term_offset{};
  std::int32_t term_length{};
  std::int32_t mtu{};
  std::int32_t publication_window{};
  std::vector<SubscriberPlan> subscribers;
  // A relay at the first subscriber's node sends on what comes to another one.
  bool is_relayed{};
  bool relay_drops{};                 // on-slow: nobody waits for who is behind it
  SubscriberPlan relayed;
  // What is sent.
  std::int64_t messages{};
  std::int64_t message_interval_ns{};
  std::uint32_t burst{};              // messages offered at once
  std::uint32_t large_ppm{};          // share of fragmented messages
  std::uint32_t held_claim_ppm{};
  std::uint32_t dying_claim_ppm{};
  std::uint32_t aborted_claim_ppm{};
  std::int64_t producer_pause_at_ns{INT64_MAX};
  std::int64_t producer_pause_ns{};
  Ending ending{};
  // Repair rules.
  bool is_nak_all_gaps{};
  bool is_retransmit_linger_auto{};
  bool is_rtt_measured{};
  std::int64_t retransmit_delay_ns{};
  std::int64_t retransmit_linger_ns{};
  std::int64_t nak_delay_ns{};
  std::int64_t nak_backoff_ns{};
  std::int32_t nak_max{};
  shm::CongestionControl congestion_control{};
  std::int64_t retransmit_limit_bytes{};
  std::int64_t retransmit_limit_interval_ns{};
  std::int64_t nak_storm_interval_ns{};  // somebody makes up NAKs, until things heal; 0: nobody does
  std::int64_t linger_ns{};
  std::int64_t unblock_timeout_ns{};
  // Nothing planned here may cost a receiver an image: every reader must get every message.
  bool is_lossless{true};
};

enum class NodeFault : std::uint8_t { kPause, kCrash, kCrashInInsert, kCrashInClean, kControlPlaneStall, kPartition, kSideDead };
// How far a receiver is when its data plane dies: a crash may wait for that.
enum class Stage : std::uint8_t { kAny, kBeforeStatusMessage, kInRepair, kAtEnd, kDraining, kInLinger };
struct FaultPlan {
  std::int64_t at_ns{};
  NodeFault kind{};
  std::uint32_t node{};
  std::uint32_t peer{};               // of a partition, of a dead side
  bool is_second_way{};               // of a dead side
  std::int64_t duration_ns{};
  Stage stage{};                      // not kAny: of the stream below, once, no earlier than at_ns
  std::size_t stream{};
};

struct Scenario {
  std::uint64_t seed{};
  std::uint32_t nodes{};
  std::int64_t turn_ns{};             // a lane's turn while there is work
  std::int64_t tick_ns{};             // its stream timers
  std::int64_t heal_ns{};             // from here on no more faults
  std::int64_t deadline_ns{};         // everything must be over by then
  std::uint32_t transmit_refused_ppm{};
  std::int64_t image_liveness_ns{};
  std::int64_t connection_timeout_ns{};
  std::vector<std::vector<Impairment>> links;  // [from][to]
  std::vector<std::vector<Impairment>> second_links;  // to and from the second address of a node
  std::vector<StreamPlan> streams;
  std::vector<FaultPlan> faults;
  std::vector<FaultPlan> staged_faults;   // these may come after everything else has healed
  std::int64_t stranger_interval_ns{};    // hosts that nobody knows send made-up frames so often; 0: nobody does
  std::int64_t strangers_until_ns{};

  // The last part of from_seed(), from a seed of its own: relays, receivers that die at a stage, members that lose their tag, strangers.
  static void draw_hazards(Scenario& scenario);
  [[nodiscard]] static Scenario from_seed(std::uint64_t seed);
  [[nodiscard]] std::string describe() const;
};

}  // namespace thalweg::sim
