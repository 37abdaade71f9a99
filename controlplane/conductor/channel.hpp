#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/conductor/command_error.hpp"
#include "dataplane/shm/channel_uri.hpp"
#include "dataplane/shm/registry.hpp"

// The addresses of a UDP channel: which endpoint it stands for (wire-protocol 5.2, 5.3, 5.4, 5.10). Pure; any thread.
namespace thalweg::conductor {

enum class ControlMode : std::uint8_t { kNone, kDynamic, kManual, kResponse };

// One host:port of a channel. `address` is valid once `is_resolved`; IPv6 literals are resolved as names are (Lookup): they need a handle.
struct ChannelAddress {
  std::string text;             // as written
  std::string host;             // without brackets
  std::uint16_t port{};
  std::uint32_t address{};      // host order, or a handle
  bool is_resolved{};
};

// Where frames carry times (wire-protocol 5.11): an offset of the payload, or one of the constants of the registry.
struct TimestampOffsets {
  std::int32_t media_receive{shm::kNoTimestamp};
  std::int32_t channel_receive{shm::kNoTimestamp};
  std::int32_t channel_send{shm::kNoTimestamp};
  friend bool operator==(const TimestampOffsets&, const TimestampOffsets&) = default;
};

struct UdpChannel {
  std::string uri;              // without a spy prefix
  std::optional<ChannelAddress> endpoint;
  std::optional<ChannelAddress> control;
  ControlMode control_mode{ControlMode::kNone};
  std::uint32_t interface_address{};  // host order or a handle, 0 = any
  std::string interface_host;         // a name, or an IPv6 literal, that is not resolved yet
  std::uint16_t interface_port{};
  std::uint8_t prefix_length{};
  bool has_interface{};
  std::uint8_t ttl{};           // 0 = default
  bool is_multicast{};
  std::optional<std::int64_t> tag;        // channel tag
  std::optional<std::int64_t> group_tag;  // gtag
  TimestampOffsets timestamps;
  std::string canonical;        // "" = shared with nobody (no address, or a port 0)
  bool is_feed{};               // of the configuration: its two sides are its destinations, `uri` is what applications subscribe to
};

// A publication that may have many receivers: a group, or many destinations (wire-protocol 5.3, 5.5).
[[nodiscard]] inline bool has_group_semantics(const UdpChannel& channel) noexcept {
  return channel.is_multicast || channel.control_mode == ControlMode::kDynamic || channel.control_mode == ControlMode::kManual;
}
// Of a subscription: it takes part in nothing before it is told the session that answers it; of a publication: it answers (5.9).
[[nodiscard]] inline bool is_response(const UdpChannel& channel) noexcept { return channel.control_mode == ControlMode::kResponse; }

// Of an IPC channel only the response mode counts: it has no addresses.
[[nodiscard]] UdpChannel parse_ipc_channel(const shm::ChannelUri& uri);
// Parses the addresses and answers IPv4 literals at once; the others wait in unresolved_hosts(). Errors: kInvalidChannel, kNotSupported (named
// interfaces).
[[nodiscard]] Outcome<UdpChannel> parse_udp_channel(const shm::ChannelUri& uri);
// Hosts that still need a resolver, without duplicates.
[[nodiscard]] std::vector<std::string> unresolved_hosts(const UdpChannel& channel);
void set_resolved(UdpChannel& channel, const std::string& host, std::uint32_t address);
// Makes it the channel of a feed's endpoint, which has no address of its own; `uri` is what applications subscribe to.
void enter_feed(UdpChannel& channel, const std::string& uri);
// Everything is resolved: multicast rules and the canonical form. Errors: kInvalidChannel.
[[nodiscard]] Outcome<void> finish_channel(UdpChannel& channel);

}  // namespace thalweg::conductor
