#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/shm/registry.hpp"

// What the conductor needs to know of the configuration, as plain values; controlplane/main.cpp fills it from the YAML file.
namespace thalweg::conductor {

// Defaults for whatever a channel URI leaves open (wire-protocol 7, client-protocol 7.9). Sizes in bytes.
struct StreamDefaults {
  std::int32_t mtu{1408};
  std::int32_t ipc_mtu{1408};
  std::int32_t term_length{16 << 20};
  std::int32_t ipc_term_length{64 << 20};
  bool is_sparse{true};
  std::int32_t publication_window{0};      // 0: half a term
  std::int32_t ipc_publication_window{0};
  std::int32_t receiver_window{128 << 10};
  std::int32_t socket_rcvbuf{128 << 10};   // 0: the operating system's
  std::int32_t socket_sndbuf{0};
  std::int64_t status_message_timeout_ns{200'000'000};
  std::int64_t linger_ns{5'000'000'000};
  std::int64_t connection_timeout_ns{5'000'000'000};
  std::int64_t unblock_timeout_ns{15'000'000'000};
  std::int64_t image_liveness_timeout_ns{10'000'000'000};
  std::int64_t untethered_window_limit_timeout_ns{5'000'000'000};
  std::int64_t untethered_linger_timeout_ns{0};  // 0: as the window limit
  std::int64_t untethered_resting_timeout_ns{10'000'000'000};
  std::int64_t untethered_timeout_above_ns{1'000'000'000};  // the timer interval: at its ticks they are looked at
  bool is_reliable{true};
  bool is_rejoin{true};
  bool is_tethered{true};
  bool spies_simulate_connection{false};
  std::int64_t nak_delay_ns{1'000};
  std::int32_t nak_retry_ratio{100};
  std::int64_t nak_multicast_max_backoff_ns{10'000'000};
  std::int32_t nak_multicast_group_size{10};
  bool nak_all_gaps{false};
  std::int64_t nak_backoff_ns{0};
  std::int32_t nak_max{0};
  shm::CongestionControl congestion_control{shm::CongestionControl::kStatic};
  std::int64_t cubic_initial_rtt_ns{100'000};
  bool cubic_measure_rtt{false};
  bool cubic_tcp_mode{false};
  std::int64_t retransmit_delay_ns{0};
  std::int64_t retransmit_linger_ns{10'000'000};
  bool is_retransmit_linger_auto{false};
  std::int32_t max_resend{16};
  std::int64_t retransmit_limit_bytes{256 << 20};
  std::int64_t retransmit_limit_interval_ns{1'000'000'000};
  std::int32_t unicast_retransmit_window_multiple{16};
  std::int32_t multicast_retransmit_window_multiple{4};
  shm::FlowControl multicast_flow_control{shm::FlowControl::kMax};
  std::int64_t flow_control_group_tag{-1};
  std::int32_t flow_control_group_min_size{0};
  std::int64_t flow_control_receiver_timeout_ns{5'000'000'000};
  std::optional<std::int64_t> receiver_group_tag;
  std::uint8_t multicast_ttl{0};           // 0: 1
  std::optional<bool> receiver_group;      // none: infer from the address and the SETUP
};

// An image of `from` becomes a publication on `to`, without an application.
struct RelaySettings {
  std::string name;
  std::string from;
  std::string to;
  std::int32_t stream_id{};
  std::optional<std::int32_t> to_stream_id;        // none: the same
  bool keeps_session{true};
  bool drops_when_slow{};                          // false: it holds its image up
};

// One stream by two ways (5.6): who subscribes to `channel` hears `a` and `b`.
struct FeedSettings {
  std::string name;
  std::string channel;
  std::string a, b;
  std::int64_t nak_hold_ns{1'000'000};
  std::int64_t side_timeout_ns{1'000'000'000};
};

// Driver names (wire-protocol 6) and what is done about names that come to mean another address (5.12).
struct NameSettings {
  std::string name;                                // ours; "": no driver names
  std::uint32_t interface_address{};               // host order, 0: any
  std::uint16_t interface_port{8050};
  std::vector<std::string> bootstrap_neighbors;    // host:port
  std::int64_t neighbor_timeout_ns{10'000'000'000};
  std::int64_t self_interval_ns{1'000'000'000};
  std::int64_t neighbor_interval_ns{2'000'000'000};
  std::int64_t bootstrap_interval_ns{10'000'000'000};
  std::int64_t re_resolution_interval_ns{1'000'000'000};  // 0: never
};

struct Settings {
  std::string directory;
  StreamDefaults streams;
  NameSettings names;
  std::int64_t timer_interval_ns{1'000'000'000};
  std::int64_t client_liveness_timeout_ns{10'000'000'000};
  std::int64_t counters_free_to_reuse_ms{1'000};
  std::int64_t poll_interval_ns{100'000};          // longest sleep of an idle conductor
  std::int32_t reserved_session_id_low{-1};
  std::int32_t reserved_session_id_high{1000};
  bool is_termination_allowed{false};              // TERMINATE_DRIVER
  std::vector<RelaySettings> relays;
  std::vector<FeedSettings> feeds;
  std::uint64_t random_seed{1};                    // session ids and initial term ids
};

}  // namespace thalweg::conductor
