#include "controlplane/conductor/channel.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "controlplane/host/resolver.hpp"
#include "dataplane/base/units.hpp"
#include "dataplane/wire/ip.hpp"

namespace thalweg::conductor {
namespace {

template <typename T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Puts an IPv6 literal in its place: the IPv4 address that it may stand for is answered at once.
bool read_ipv6(const std::string& literal, std::string& host, std::uint32_t& address, bool& is_resolved) {
  const auto ipv6 = shm::parse_scoped_ipv6(literal);
  if (!ipv6) return false;
  if (const auto ipv4 = wire::mapped_ipv4(ipv6->address)) {
    host = format_ipv4(*ipv4);
    address = *ipv4;
    is_resolved = true;
  } else {
    host = literal;
  }
  return true;
}

Outcome<std::optional<ChannelAddress>> read_address(const shm::ChannelUri& uri, std::string_view key) {
  const auto text = uri.get(key);
  if (!text) return std::optional<ChannelAddress>{};
  const auto split = shm::parse_host_port(*text);
  if (!split) return refuse_channel(fmt::format("{}={} is not host:port: channel={}", key, *text, uri.to_string()));
  ChannelAddress address{std::string{*text}, split->host, split->port, 0, false};
  if (split->is_ipv6) {
    if (!read_ipv6(split->host, address.host, address.address, address.is_resolved)) {
      return refuse_channel(fmt::format("{}={} holds no IPv6 address (as [2001:db8::1]:40123, or [fe80::1%eth0]:40123 with an interface of this host): channel={}", key,
                                        *text, uri.to_string()));
    }
  } else if (const auto literal = host::literal_host(split->host)) {
    address.address = *literal;
    address.is_resolved = true;
  }
  const auto ipv4 = address.is_resolved ? std::optional{address.address} : parse_ipv4(split->host);
  if (ipv4 && wire::is_reserved_ipv4(*ipv4)) {
    return refuse_channel(fmt::format("{}={}: no host has an address of 240.0.0.0/4: channel={}", key, *text, uri.to_string()));
  }
  return std::optional{std::move(address)};
}

struct InterfaceText {
  std::string host;
  bool is_ipv6{};
  std::optional<std::uint16_t> port;
  std::optional<std::uint8_t> prefix;
};

// addr[:port][/prefix], [v6][:port][/prefix]; nullopt: neither.
std::optional<InterfaceText> split_interface(std::string_view text) {
  InterfaceText out;
  if (text.starts_with('[')) {
    const auto close = text.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    out.host = text.substr(1, close - 1);
    out.is_ipv6 = true;
    text.remove_prefix(close + 1);
  } else {
    const auto end = std::min(text.find_first_of(":/"), text.size());
    out.host = text.substr(0, end);
    text.remove_prefix(end);
  }
  if (const auto slash = text.find('/'); slash != std::string_view::npos) {
    out.prefix = number<std::uint8_t>(text.substr(slash + 1));
    if (!out.prefix || *out.prefix > (out.is_ipv6 ? 128 : 32)) return std::nullopt;
    text = text.substr(0, slash);
  }
  if (text.empty()) return out;
  out.port = text.front() == ':' ? number<std::uint16_t>(text.substr(1)) : std::nullopt;
  return out.port ? std::optional{std::move(out)} : std::nullopt;
}

Outcome<void> read_interface(const shm::ChannelUri& uri, UdpChannel& channel) {
  const auto text = uri.get("interface");
  if (!text) return {};
  const auto bad = [&] {
    return refuse_channel(fmt::format("interface={} is not addr[:port][/prefix], as 10.0.0.0/24 or [2001:db8::]/64: channel={}", *text, uri.to_string()));
  };
  if (text->starts_with('{')) return refuse(shm::ClientError::kNotSupported, fmt::format("interface={}: named interfaces are not supported yet", *text));
  const auto split = split_interface(*text);
  if (!split) return bad();
  channel.prefix_length = split->prefix.value_or(split->is_ipv6 ? 128 : 32);
  channel.interface_port = split->port.value_or(0);
  if (split->is_ipv6) {
    if (!shm::parse_scoped_ipv6(split->host)) return bad();
    channel.interface_host = split->host;
    return {};
  }
  const auto address = host::literal_host(split->host);
  if (!address) {
    if (split->host.find_first_not_of("0123456789.") == std::string_view::npos) return bad();  // a number that is no address
    channel.interface_host = split->host;
    return {};
  }
  channel.interface_address = *address;
  channel.has_interface = *address != 0;
  return {};
}

Outcome<void> read_tags(const shm::ChannelUri& uri, UdpChannel& channel) {
  const auto text = uri.get("tags");
  if (!text) return {};
  const auto comma = text->find(',');
  const std::string_view first = text->substr(0, comma);
  const auto bad = [&] { return refuse_channel(fmt::format("tags={} are not numbers: channel={}", *text, uri.to_string())); };
  if (!first.empty()) {
    channel.tag = number<std::int64_t>(first);
    if (!channel.tag) return bad();
  }
  if (comma != std::string_view::npos && !number<std::int64_t>(text->substr(comma + 1))) return bad();
  return {};
}

Outcome<std::int32_t> read_timestamp(const shm::ChannelUri& uri, std::string_view key) {
  if (uri.get(key) == "reserved") return shm::kReservedValueTimestamp;
  const auto offset = uri.get_int32(key);
  if (!offset) return tl::unexpected{to_command_error(offset.error())};
  if (offset->value_or(0) < 0) return refuse_channel(fmt::format("{}={} is neither an offset of the payload nor reserved: channel={}", key, **offset, uri.to_string()));
  return offset->value_or(shm::kNoTimestamp);
}

// Two that would write over each other.
bool overlap(std::int32_t a, std::int32_t b) noexcept {
  constexpr std::int64_t kTimestampLength = 8;
  if (a == shm::kNoTimestamp || b == shm::kNoTimestamp) return false;
  if (a == shm::kReservedValueTimestamp || b == shm::kReservedValueTimestamp) return a == b;
  return std::abs(std::int64_t{a} - b) < kTimestampLength;
}

Outcome<void> read_timestamps(const shm::ChannelUri& uri, TimestampOffsets& offsets) {
  const std::pair<std::string_view, std::int32_t*> keys[] = {
      {"media-rcv-ts-offset", &offsets.media_receive}, {"channel-rcv-ts-offset", &offsets.channel_receive}, {"channel-snd-ts-offset", &offsets.channel_send}};
  for (const auto& [key, offset] : keys) {
    const auto read = read_timestamp(uri, key);
    if (!read) return tl::unexpected{read.error()};
    *offset = *read;
  }
  const bool do_overlap = overlap(offsets.media_receive, offsets.channel_receive) || overlap(offsets.media_receive, offsets.channel_send) ||
                          overlap(offsets.channel_receive, offsets.channel_send);
  if (!do_overlap) return {};
  return refuse_channel("media-rcv-ts-offset, channel-rcv-ts-offset and channel-snd-ts-offset must be 8 bytes apart: channel=" + uri.to_string());
}

ControlMode read_mode(const shm::ChannelUri& uri) {
  const auto mode = uri.get("control-mode");
  if (mode == "dynamic") return ControlMode::kDynamic;
  if (mode == "manual") return ControlMode::kManual;
  if (mode == "response") return ControlMode::kResponse;
  return ControlMode::kNone;  // unknown values count as none (5.13)
}

Outcome<void> check_presence(const shm::ChannelUri& uri, const UdpChannel& channel) {
  const bool stands_alone = channel.control_mode == ControlMode::kManual || channel.control_mode == ControlMode::kResponse;
  if (!channel.endpoint && !channel.control && !channel.tag && !stands_alone) {
    return refuse_channel("a UDP channel needs an endpoint, a control address, a tag, or control-mode manual or response: channel=" + uri.to_string());
  }
  if (channel.control_mode == ControlMode::kDynamic && !channel.control) {
    return refuse_channel("control-mode=dynamic needs a control address: channel=" + uri.to_string());
  }
  return {};
}

// One socket speaks one of them. What has no address yet counts for neither.
Outcome<void> check_families(const UdpChannel& channel) {
  bool has_ipv4 = channel.interface_address != 0 && !wire::is_handle(channel.interface_address);
  bool has_ipv6 = wire::is_handle(channel.interface_address);
  for (const auto* address : {&channel.endpoint, &channel.control}) {
    if (!*address || !(*address)->is_resolved) continue;
    (wire::is_handle((*address)->address) ? has_ipv6 : has_ipv4) = true;
  }
  if (!has_ipv4 || !has_ipv6) return {};
  return refuse_channel("endpoint, control and interface must be all IPv4 or all IPv6: channel=" + channel.uri);
}

}  // namespace

UdpChannel parse_ipc_channel(const shm::ChannelUri& uri) {
  UdpChannel channel;
  if (read_mode(uri) == ControlMode::kResponse) channel.control_mode = ControlMode::kResponse;
  return channel;
}

Outcome<UdpChannel> parse_udp_channel(const shm::ChannelUri& uri) {
  UdpChannel channel;
  channel.uri = uri.to_string();
  if (channel.uri.starts_with("aeron-spy:")) channel.uri.erase(0, std::string_view{"aeron-spy:"}.size());
  auto endpoint = read_address(uri, "endpoint");
  if (!endpoint) return tl::unexpected{endpoint.error()};
  channel.endpoint = std::move(*endpoint);
  auto control = read_address(uri, "control");
  if (!control) return tl::unexpected{control.error()};
  channel.control = std::move(*control);
  channel.control_mode = read_mode(uri);
  if (auto read = read_interface(uri, channel); !read) return tl::unexpected{read.error()};
  if (auto read = read_tags(uri, channel); !read) return tl::unexpected{read.error()};
  if (auto read = read_timestamps(uri, channel.timestamps); !read) return tl::unexpected{read.error()};
  if (auto check = check_presence(uri, channel); !check) return tl::unexpected{check.error()};
  const auto ttl = uri.get_int64("ttl");
  if (!ttl) return tl::unexpected{to_command_error(ttl.error())};
  channel.ttl = static_cast<std::uint8_t>(std::clamp<std::int64_t>(ttl->value_or(0), 0, 255));
  const auto group_tag = uri.get_int64("gtag");
  if (!group_tag) return tl::unexpected{to_command_error(group_tag.error())};
  channel.group_tag = *group_tag;
  return channel;
}

std::vector<std::string> unresolved_hosts(const UdpChannel& channel) {
  std::vector<std::string> hosts;
  for (const auto* address : {&channel.endpoint, &channel.control}) {
    if (!*address || (*address)->is_resolved) continue;
    if (std::find(hosts.begin(), hosts.end(), (*address)->host) == hosts.end()) hosts.push_back((*address)->host);
  }
  const std::string& interface = channel.interface_host;
  if (!interface.empty() && std::find(hosts.begin(), hosts.end(), interface) == hosts.end()) hosts.push_back(interface);
  return hosts;
}

void set_resolved(UdpChannel& channel, const std::string& host, std::uint32_t address) {
  for (auto* entry : {&channel.endpoint, &channel.control}) {
    if (!*entry || (*entry)->host != host) continue;
    (*entry)->address = address;
    (*entry)->is_resolved = true;
  }
  if (channel.interface_host == host) {
    channel.interface_address = address;
    channel.has_interface = !wire::is_any(address);
    channel.interface_host.clear();
  }
}

void enter_feed(UdpChannel& channel, const std::string& uri) {
  UdpChannel home;
  home.uri = uri;
  home.group_tag = channel.group_tag;
  home.timestamps = channel.timestamps;
  home.control_mode = ControlMode::kManual;
  home.is_feed = true;
  home.canonical = "feed-" + uri;
  channel = std::move(home);
}

Outcome<void> finish_channel(UdpChannel& channel) {
  if (channel.is_feed) return {};
  if (auto checked = check_families(channel); !checked) return checked;
  channel.is_multicast = channel.endpoint && wire::is_group(channel.endpoint->address);
  if (channel.is_multicast && (channel.endpoint->address & 1U) == 0) {
    return refuse_channel(fmt::format("multicast endpoint={}: the last byte of the data address must be odd (the next address carries control frames): channel={}", channel.endpoint->text, channel.uri));
  }
  if (channel.is_multicast && channel.endpoint->port == 0) {
    return refuse_channel(fmt::format("multicast endpoint={}: the port must be 1 to 65535: channel={}", channel.endpoint->text, channel.uri));
  }
  const bool has_port_0 = (channel.endpoint && channel.endpoint->port == 0) || (channel.control && channel.control->port == 0);
  if ((!channel.endpoint && !channel.control) || has_port_0) {
    channel.canonical.clear();
    return {};
  }
  const std::string interface = fmt::format("{}:{}/{}", format_ipv4(channel.interface_address), channel.interface_port, channel.prefix_length);
  if (channel.is_multicast) {
    channel.canonical = fmt::format("mcast-{}-{}", interface, format_endpoint(channel.endpoint->address, channel.endpoint->port));
  } else if (channel.control) {
    channel.canonical = fmt::format("udp-{}-{}", channel.control->text, channel.endpoint ? channel.endpoint->text : "");
  } else {
    channel.canonical = fmt::format("udp-{}-{}", interface, channel.endpoint->text);
  }
  return {};
}

}  // namespace thalweg::conductor
