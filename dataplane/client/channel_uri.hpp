#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "dataplane/base/result.hpp"
#include "dataplane/shm/channel_uri.hpp"

namespace thalweg::client {

// Parsed channels: the driver's own parser, so that what it takes here it takes there.
using shm::ChannelUri;

enum class ControlMode : std::uint8_t { kDynamic, kManual, kResponse };
// Receiver semantics of a subscription (`group`).
enum class GroupReceiver : std::uint8_t { kInfer, kGroup, kSingle };

// "tag:7", as `session-id` takes it instead of a number.
[[nodiscard]] std::string session_tag(std::int64_t tag);
// The channel with its `session-id` set, what was there before replaced. Errors: those of ChannelUri::parse.
[[nodiscard]] Result<std::string> with_session_id(std::string_view channel, std::int32_t session_id);

// Builds channels (wire-protocol 5.1, 5.13) from values: each setter checks its own, build() what they have to do with each other. The
// first mistake is kept and told by build(); setters after it change nothing. Lengths are bytes. Not thread safe.
//   ChannelUriBuilder::udp().endpoint("10.0.0.2:40123").term_length(1 << 20).build()
class ChannelUriBuilder {
 public:
  [[nodiscard]] static ChannelUriBuilder udp();
  [[nodiscard]] static ChannelUriBuilder ipc();
  [[nodiscard]] static ChannelUriBuilder spy();  // of a UDP publication on this driver
  // Begins with what a channel says. Errors: those of ChannelUri::parse.
  [[nodiscard]] static Result<ChannelUriBuilder> from(std::string_view channel);

  // Where: host:port, [2001:db8::1]:port; `local_interface` is an address with an optional port and prefix, "10.0.0.0/24".
  ChannelUriBuilder& endpoint(std::string_view host_port);
  ChannelUriBuilder& local_interface(std::string_view address);
  ChannelUriBuilder& control(std::string_view host_port);
  ChannelUriBuilder& control_mode(ControlMode mode);
  ChannelUriBuilder& ttl(std::int32_t hops);  // 0..255
  ChannelUriBuilder& tags(std::int64_t channel_tag, std::optional<std::int64_t> entity_tag = {});
  ChannelUriBuilder& alias(std::string_view name);
  ChannelUriBuilder& stream_id(std::int32_t id);

  // Publications.
  ChannelUriBuilder& session_id(std::int32_t id);           // subscriptions: hear this session only
  ChannelUriBuilder& session_id_of_tag(std::int64_t tag);   // that of the publication with this entity tag
  ChannelUriBuilder& term_length(std::int32_t length);      // power of two, 64 KiB..1 GiB
  ChannelUriBuilder& mtu(std::int32_t length);              // 64..65504, multiple of 32
  ChannelUriBuilder& initial_term_id(std::int32_t id);
  ChannelUriBuilder& term_id(std::int32_t id);
  ChannelUriBuilder& term_offset(std::int32_t offset);      // multiple of 32
  // Where a stream goes on: sets initial term id, term id, term offset and term length. `position` is a multiple of 32.
  ChannelUriBuilder& initial_position(std::int64_t position, std::int32_t initial_term_id, std::int32_t term_length);
  ChannelUriBuilder& linger(std::chrono::nanoseconds duration);
  ChannelUriBuilder& sparse(bool is_sparse);
  ChannelUriBuilder& end_of_stream(bool is_signalled);
  ChannelUriBuilder& spies_simulate_connection(bool do_they);
  ChannelUriBuilder& publication_window(std::int64_t length);
  ChannelUriBuilder& max_resend(std::int32_t count);        // 1..256
  // "max"; "min" or "tagged" with a group: its tag, how many receivers it takes, when a silent one is forgotten. As text: `fc`.
  ChannelUriBuilder& flow_control(std::string_view text);
  ChannelUriBuilder& min_flow_control(std::optional<std::int32_t> group_size, std::optional<std::chrono::nanoseconds> receiver_timeout = {});
  ChannelUriBuilder& tagged_flow_control(std::int64_t group_tag, std::optional<std::int32_t> group_size = {},
                                         std::optional<std::chrono::nanoseconds> receiver_timeout = {});
  ChannelUriBuilder& channel_send_timestamp_offset(std::int32_t offset);  // of the payload; -1: the reserved value
  // The image that this publication answers, or the subscription that waits for the answers (wire-protocol 5.9).
  ChannelUriBuilder& response_correlation_id(std::int64_t id);
  ChannelUriBuilder& response_prototype();
  ChannelUriBuilder& response_endpoint(std::string_view host_port);

  // Subscriptions.
  ChannelUriBuilder& receiver_window(std::int64_t length);
  ChannelUriBuilder& reliable(bool is_reliable);
  ChannelUriBuilder& rejoin(bool does_rejoin);
  ChannelUriBuilder& tether(bool is_tethered);
  ChannelUriBuilder& group(GroupReceiver semantics);
  ChannelUriBuilder& group_tag(std::int64_t tag);
  ChannelUriBuilder& congestion_control(std::string_view strategy);
  ChannelUriBuilder& nak_delay(std::chrono::nanoseconds duration);
  ChannelUriBuilder& media_receive_timestamp_offset(std::int32_t offset);    // as channel_send_timestamp_offset()
  ChannelUriBuilder& channel_receive_timestamp_offset(std::int32_t offset);

  // Both.
  ChannelUriBuilder& socket_send_buffer(std::int64_t length);
  ChannelUriBuilder& socket_receive_buffer(std::int64_t length);
  ChannelUriBuilder& untethered_window_limit_timeout(std::chrono::nanoseconds duration);
  ChannelUriBuilder& untethered_linger_timeout(std::chrono::nanoseconds duration);
  ChannelUriBuilder& untethered_resting_timeout(std::chrono::nanoseconds duration);
  // Any other key, Thalweg's own included ("nak-max"). Neither may be empty or hold '|', nor the key '='.
  ChannelUriBuilder& set(std::string_view key, std::string_view value);
  ChannelUriBuilder& set_duration(std::string_view key, std::chrono::nanoseconds duration);
  ChannelUriBuilder& clear(std::string_view key);
  // For whoever reads values from elsewhere: build() will say that this one "is not <rule>".
  ChannelUriBuilder& refuse(std::string_view key, std::string_view value, std::string_view rule);
  // The value of a key as it is so far; nullopt: it is not there. Valid until the next change.
  [[nodiscard]] std::optional<std::string_view> get(std::string_view key) const noexcept { return uri_.get(key); }

  // The channel. Error kInvalidChannel: the first value that was refused; no address where UDP needs one (client-protocol 6.6); dynamic
  // control without control address; only some of the three position parameters; longer than 4095 characters.
  [[nodiscard]] Result<std::string> build() const;

 private:
  explicit ChannelUriBuilder(ChannelUri uri) noexcept : uri_{std::move(uri)} {}
  [[nodiscard]] static ChannelUriBuilder begin(std::string_view empty_channel);
  ChannelUriBuilder& put(std::string_view key, std::string_view value);
  ChannelUriBuilder& put_address(std::string_view key, std::string_view value);
  ChannelUriBuilder& put_bool(std::string_view key, bool value) { return put(key, value ? "true" : "false"); }
  ChannelUriBuilder& put_number(std::string_view key, std::int64_t value);
  ChannelUriBuilder& put_length(std::string_view key, std::int64_t value);
  ChannelUriBuilder& put_duration(std::string_view key, std::chrono::nanoseconds value);
  ChannelUriBuilder& put_timestamp(std::string_view key, std::int32_t offset);

  ChannelUri uri_;
  std::optional<Error> error_;
};

}  // namespace thalweg::client
