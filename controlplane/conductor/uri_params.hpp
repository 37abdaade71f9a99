#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "controlplane/conductor/command_error.hpp"
#include "controlplane/conductor/settings.hpp"
#include "dataplane/shm/channel_uri.hpp"
#include "dataplane/shm/registry.hpp"

// Stream parameters of channel URIs with their defaults and validation rules (client-protocol 6.6, 7.9; wire-protocol 4.1, 5.13).
// Addresses are channel.hpp's business. Pure; any thread.
namespace thalweg::conductor {

struct UntetheredTimeouts {
  std::int64_t window_limit_ns{};
  std::int64_t linger_ns{};
  std::int64_t resting_ns{};
};

// Where a publication starts: all three of init-term-id, term-id, term-offset.
struct StartPosition {
  std::int32_t initial_term_id{};
  std::int32_t term_id{};
  std::int32_t term_offset{};
  friend bool operator==(const StartPosition&, const StartPosition&) = default;
};

struct FlowControlParams {
  shm::FlowControl strategy{shm::FlowControl::kMax};
  std::int64_t group_tag{-1};
  std::int32_t group_min_size{0};
  std::int32_t retransmit_window_multiple{16};
  std::int64_t receiver_timeout_ns{};
};

inline constexpr std::int64_t kNoCorrelation = -1;
inline constexpr std::int64_t kPrototypeCorrelation = -2;  // response-correlation-id=prototype: keeps the endpoint, answers nobody

struct PublicationParams {
  // What the URI asked for; a shared publication must agree with these.
  std::optional<std::int32_t> session_id;
  std::optional<std::int64_t> session_tag;     // session-id=tag:<entity tag>
  std::optional<std::int32_t> requested_mtu;
  std::optional<std::int32_t> requested_term_length;
  std::optional<StartPosition> start;
  std::optional<bool> requested_ssc;
  // Effective values.
  std::int32_t mtu{};
  std::int32_t term_length{};
  std::int32_t window{};                       // pub-wnd, bytes
  std::int64_t linger_ns{};
  bool is_sparse{};
  bool signal_eos{};
  bool spies_simulate_connection{};
  std::int64_t entity_tag{-1};
  std::optional<std::int32_t> max_resend;
  std::int32_t socket_sndbuf{};                // of the channel; 0 unset
  std::int32_t socket_rcvbuf{};
  UntetheredTimeouts untethered;
  FlowControlParams flow_control;
  std::int64_t retransmit_linger_ns{};
  bool is_retransmit_linger_auto{};
  std::int64_t response_correlation_id{kNoCorrelation};  // of a subscription that waits for answers, or of the image answered (5.9)
};

struct SubscriptionParams {
  std::optional<std::int32_t> session_id;
  bool is_reliable{};
  bool is_rejoin{};
  bool is_tethered{};
  bool is_sparse{};
  std::optional<bool> group;                   // none: infer from the address
  std::int32_t receiver_window{};
  std::int32_t socket_sndbuf{};
  std::int32_t socket_rcvbuf{};                // of the channel; 0 unset
  std::int64_t nak_delay_ns{};
  std::int64_t nak_retry_ns{};
  std::int64_t nak_backoff_ns{};               // ours: 0 off
  std::int32_t nak_max{};                      // ours: 0 no end
  bool nak_all_gaps{};
  shm::CongestionControl congestion_control{};
  bool has_receiver_window{};                  // the URI gave it
  UntetheredTimeouts untethered;
};

// `is_group`: multicast, where the flow control of the URI counts. Errors: kInvalidChannel with a sentence naming the parameter,
// kNotSupported for secure transport.
[[nodiscard]] Outcome<PublicationParams> parse_publication_params(const shm::ChannelUri& uri, const StreamDefaults& defaults, bool is_group);
[[nodiscard]] Outcome<SubscriptionParams> parse_subscription_params(const shm::ChannelUri& uri, const StreamDefaults& defaults);
// Completes what depends on the term length once session-id=tag:<n> has settled it.
[[nodiscard]] Outcome<void> check_sizes(PublicationParams& params, const shm::ChannelUri& uri, const StreamDefaults& defaults);

}  // namespace thalweg::conductor
