#include "dataplane/client/channel_uri.hpp"

#include <bit>

#include "dataplane/base/assert.hpp"
#include "dataplane/wire/positions.hpp"

namespace thalweg::client {
namespace {
// Legal ranges of wire-protocol 1.12 and 5.13.
constexpr std::int32_t kTermLengthMin = 64 << 10;
constexpr std::int32_t kTermLengthMax = 1 << 30;
constexpr std::int32_t kFrameAlignment = 32;
constexpr std::int32_t kMtuMin = 64;
constexpr std::int32_t kMtuMax = 65504;
constexpr std::int32_t kTtlMax = 255;
constexpr std::int32_t kMaxResendMax = 256;
constexpr std::int32_t kReservedValue = -1;

bool is_term_length(std::int32_t length) noexcept {
  return length >= kTermLengthMin && length <= kTermLengthMax && std::has_single_bit(static_cast<std::uint32_t>(length));
}

// The largest unit of channels that tells it exactly.
std::string text_of(std::chrono::nanoseconds duration) {
  constexpr struct {
    std::int64_t ns;
    const char* suffix;
  } kUnits[] = {{1'000'000'000, "s"}, {1'000'000, "ms"}, {1'000, "us"}};
  const std::int64_t ns = duration.count();
  for (const auto& unit : kUnits) {
    if (ns != 0 && ns % unit.ns == 0) return std::to_string(ns / unit.ns) + unit.suffix;
  }
  return std::to_string(ns) + "ns";
}

tl::unexpected<Error> invalid(std::string what) { return fail(ErrorCode::kInvalidChannel, "invalid channel: " + std::move(what)); }
}  // namespace

std::string session_tag(std::int64_t tag) { return "tag:" + std::to_string(tag); }

Result<std::string> with_session_id(std::string_view channel, std::int32_t session_id) {
  auto uri = ChannelUri::parse(channel);
  if (!uri) return tl::unexpected<Error>{std::move(uri.error())};
  uri->set("session-id", std::to_string(session_id));
  return uri->to_string();
}

ChannelUriBuilder ChannelUriBuilder::begin(std::string_view empty_channel) {
  auto uri = ChannelUri::parse(empty_channel);
  THALWEG_ASSERT(uri.has_value());
  return ChannelUriBuilder{std::move(*uri)};
}
ChannelUriBuilder ChannelUriBuilder::udp() { return begin("aeron:udp?"); }
ChannelUriBuilder ChannelUriBuilder::ipc() { return begin("aeron:ipc"); }
ChannelUriBuilder ChannelUriBuilder::spy() { return begin("aeron-spy:aeron:udp?"); }
Result<ChannelUriBuilder> ChannelUriBuilder::from(std::string_view channel) {
  auto uri = ChannelUri::parse(channel);
  if (!uri) return tl::unexpected<Error>{std::move(uri.error())};
  return ChannelUriBuilder{std::move(*uri)};
}

// ---- how values get in -----------------------------------------------------------------------------------------------------------------

ChannelUriBuilder& ChannelUriBuilder::refuse(std::string_view key, std::string_view value, std::string_view rule) {
  if (!error_) {
    error_ = Error{ErrorCode::kInvalidChannel, "invalid channel: " + std::string{key} + "=" + std::string{value} + " is not " + std::string{rule}, {}};
  }
  return *this;
}
ChannelUriBuilder& ChannelUriBuilder::put(std::string_view key, std::string_view value) {
  if (!error_) uri_.set(key, value);
  return *this;
}
ChannelUriBuilder& ChannelUriBuilder::put_address(std::string_view key, std::string_view value) {
  if (!shm::parse_host_port(value) || value.find('|') != std::string_view::npos) return refuse(key, value, "host:port, or [address]:port for IPv6");
  return put(key, value);
}
ChannelUriBuilder& ChannelUriBuilder::put_number(std::string_view key, std::int64_t value) { return put(key, std::to_string(value)); }
ChannelUriBuilder& ChannelUriBuilder::put_length(std::string_view key, std::int64_t value) {
  return value < 0 ? refuse(key, std::to_string(value), "a number of bytes") : put_number(key, value);
}
ChannelUriBuilder& ChannelUriBuilder::put_duration(std::string_view key, std::chrono::nanoseconds value) {
  return value.count() < 0 ? refuse(key, text_of(value), "a duration") : put(key, text_of(value));
}
ChannelUriBuilder& ChannelUriBuilder::put_timestamp(std::string_view key, std::int32_t offset) {
  if (offset == kReservedValue) return put(key, "reserved");
  return offset < 0 ? refuse(key, std::to_string(offset), "an offset of the payload, nor -1 for the reserved value") : put_number(key, offset);
}

// ---- where -----------------------------------------------------------------------------------------------------------------------------

ChannelUriBuilder& ChannelUriBuilder::endpoint(std::string_view host_port) { return put_address("endpoint", host_port); }
ChannelUriBuilder& ChannelUriBuilder::local_interface(std::string_view address) { return set("interface", address); }
ChannelUriBuilder& ChannelUriBuilder::control(std::string_view host_port) { return put_address("control", host_port); }
ChannelUriBuilder& ChannelUriBuilder::control_mode(ControlMode mode) {
  constexpr const char* kNames[] = {"dynamic", "manual", "response"};
  return put("control-mode", kNames[static_cast<std::size_t>(mode)]);
}
ChannelUriBuilder& ChannelUriBuilder::ttl(std::int32_t hops) {
  return hops < 0 || hops > kTtlMax ? refuse("ttl", std::to_string(hops), "from 0 to 255") : put_number("ttl", hops);
}
ChannelUriBuilder& ChannelUriBuilder::tags(std::int64_t channel_tag, std::optional<std::int64_t> entity_tag) {
  std::string text = std::to_string(channel_tag);
  if (entity_tag) text += "," + std::to_string(*entity_tag);
  return put("tags", text);
}
ChannelUriBuilder& ChannelUriBuilder::alias(std::string_view name) { return set("alias", name); }
ChannelUriBuilder& ChannelUriBuilder::stream_id(std::int32_t id) { return put_number("stream-id", id); }

// ---- publications ----------------------------------------------------------------------------------------------------------------------

ChannelUriBuilder& ChannelUriBuilder::session_id(std::int32_t id) { return put_number("session-id", id); }
ChannelUriBuilder& ChannelUriBuilder::session_id_of_tag(std::int64_t tag) { return put("session-id", session_tag(tag)); }
ChannelUriBuilder& ChannelUriBuilder::term_length(std::int32_t length) {
  return is_term_length(length) ? put_number("term-length", length)
                                : refuse("term-length", std::to_string(length), "a power of two from 65536 to 1073741824");
}
ChannelUriBuilder& ChannelUriBuilder::mtu(std::int32_t length) {
  const bool is_legal = length >= kMtuMin && length <= kMtuMax && length % kFrameAlignment == 0;
  return is_legal ? put_number("mtu", length) : refuse("mtu", std::to_string(length), "a multiple of 32 from 64 to 65504");
}
ChannelUriBuilder& ChannelUriBuilder::initial_term_id(std::int32_t id) { return put_number("init-term-id", id); }
ChannelUriBuilder& ChannelUriBuilder::term_id(std::int32_t id) { return put_number("term-id", id); }
ChannelUriBuilder& ChannelUriBuilder::term_offset(std::int32_t offset) {
  const bool is_legal = offset >= 0 && offset <= kTermLengthMax && offset % kFrameAlignment == 0;
  return is_legal ? put_number("term-offset", offset) : refuse("term-offset", std::to_string(offset), "a multiple of 32 inside a term");
}
ChannelUriBuilder& ChannelUriBuilder::initial_position(std::int64_t position, std::int32_t first_term_id, std::int32_t length) {
  if (!is_term_length(length)) return term_length(length);
  if (position < 0 || position % kFrameAlignment != 0 || position >= wire::max_position(length)) {
    return refuse("position", std::to_string(position), "a multiple of 32 inside the stream");
  }
  const int bits = wire::position_bits(length);
  return initial_term_id(first_term_id)
      .term_id(wire::term_id_of(position, first_term_id, bits))
      .term_offset(wire::term_offset_of(position, bits))
      .term_length(length);
}
ChannelUriBuilder& ChannelUriBuilder::linger(std::chrono::nanoseconds duration) { return put_duration("linger", duration); }
ChannelUriBuilder& ChannelUriBuilder::sparse(bool is_sparse) { return put_bool("sparse", is_sparse); }
ChannelUriBuilder& ChannelUriBuilder::end_of_stream(bool is_signalled) { return put_bool("eos", is_signalled); }
ChannelUriBuilder& ChannelUriBuilder::spies_simulate_connection(bool do_they) { return put_bool("ssc", do_they); }
ChannelUriBuilder& ChannelUriBuilder::publication_window(std::int64_t length) { return put_length("pub-wnd", length); }
ChannelUriBuilder& ChannelUriBuilder::max_resend(std::int32_t count) {
  return count < 1 || count > kMaxResendMax ? refuse("max-resend", std::to_string(count), "from 1 to 256") : put_number("max-resend", count);
}
ChannelUriBuilder& ChannelUriBuilder::flow_control(std::string_view text) { return set("fc", text); }
ChannelUriBuilder& ChannelUriBuilder::min_flow_control(std::optional<std::int32_t> group_size, std::optional<std::chrono::nanoseconds> receiver_timeout) {
  std::string text = "min";
  if (group_size) text += ",g:/" + std::to_string(*group_size);
  if (receiver_timeout) text += ",t:" + text_of(*receiver_timeout);
  if (group_size.value_or(0) < 0) return refuse("fc", text, "a group of zero or more receivers");
  if (receiver_timeout && receiver_timeout->count() <= 0) return refuse("fc", text, "a time-out above zero");
  return put("fc", text);
}
ChannelUriBuilder& ChannelUriBuilder::tagged_flow_control(std::int64_t group_tag, std::optional<std::int32_t> group_size,
                                                          std::optional<std::chrono::nanoseconds> receiver_timeout) {
  std::string text = "tagged,g:" + std::to_string(group_tag);
  if (group_size) text += "/" + std::to_string(*group_size);
  if (receiver_timeout) text += ",t:" + text_of(*receiver_timeout);
  if (group_size.value_or(0) < 0) return refuse("fc", text, "a group of zero or more receivers");
  if (receiver_timeout && receiver_timeout->count() <= 0) return refuse("fc", text, "a time-out above zero");
  return put("fc", text);
}
ChannelUriBuilder& ChannelUriBuilder::channel_send_timestamp_offset(std::int32_t offset) { return put_timestamp("channel-snd-ts-offset", offset); }
ChannelUriBuilder& ChannelUriBuilder::response_correlation_id(std::int64_t id) {
  return id < -1 ? refuse("response-correlation-id", std::to_string(id), "a correlation id, nor -1 for none") : put_number("response-correlation-id", id);
}
ChannelUriBuilder& ChannelUriBuilder::response_prototype() { return put("response-correlation-id", "prototype"); }
ChannelUriBuilder& ChannelUriBuilder::response_endpoint(std::string_view host_port) { return put_address("response-endpoint", host_port); }

// ---- subscriptions ---------------------------------------------------------------------------------------------------------------------

ChannelUriBuilder& ChannelUriBuilder::receiver_window(std::int64_t length) { return put_length("rcv-wnd", length); }
ChannelUriBuilder& ChannelUriBuilder::reliable(bool is_reliable) { return put_bool("reliable", is_reliable); }
ChannelUriBuilder& ChannelUriBuilder::rejoin(bool does_rejoin) { return put_bool("rejoin", does_rejoin); }
ChannelUriBuilder& ChannelUriBuilder::tether(bool is_tethered) { return put_bool("tether", is_tethered); }
ChannelUriBuilder& ChannelUriBuilder::group(GroupReceiver semantics) {
  constexpr const char* kNames[] = {"infer", "true", "false"};
  return put("group", kNames[static_cast<std::size_t>(semantics)]);
}
ChannelUriBuilder& ChannelUriBuilder::group_tag(std::int64_t tag) { return put_number("gtag", tag); }
ChannelUriBuilder& ChannelUriBuilder::congestion_control(std::string_view strategy) { return set("cc", strategy); }
ChannelUriBuilder& ChannelUriBuilder::nak_delay(std::chrono::nanoseconds duration) { return put_duration("nak-delay", duration); }
ChannelUriBuilder& ChannelUriBuilder::media_receive_timestamp_offset(std::int32_t offset) { return put_timestamp("media-rcv-ts-offset", offset); }
ChannelUriBuilder& ChannelUriBuilder::channel_receive_timestamp_offset(std::int32_t offset) {
  return put_timestamp("channel-rcv-ts-offset", offset);
}

// ---- both ------------------------------------------------------------------------------------------------------------------------------

ChannelUriBuilder& ChannelUriBuilder::socket_send_buffer(std::int64_t length) { return put_length("so-sndbuf", length); }
ChannelUriBuilder& ChannelUriBuilder::socket_receive_buffer(std::int64_t length) { return put_length("so-rcvbuf", length); }
ChannelUriBuilder& ChannelUriBuilder::untethered_window_limit_timeout(std::chrono::nanoseconds duration) {
  return put_duration("untethered-window-limit-timeout", duration);
}
ChannelUriBuilder& ChannelUriBuilder::untethered_linger_timeout(std::chrono::nanoseconds duration) {
  return put_duration("untethered-linger-timeout", duration);
}
ChannelUriBuilder& ChannelUriBuilder::untethered_resting_timeout(std::chrono::nanoseconds duration) {
  return put_duration("untethered-resting-timeout", duration);
}
ChannelUriBuilder& ChannelUriBuilder::set(std::string_view key, std::string_view value) {
  if (key.empty() || key.find_first_of("|=") != std::string_view::npos) return refuse(key, value, "a parameter: the key is empty or holds '|' or '='");
  if (value.empty() || value.find('|') != std::string_view::npos) return refuse(key, value, "a parameter: the value is empty or holds '|'");
  return put(key, value);
}
ChannelUriBuilder& ChannelUriBuilder::set_duration(std::string_view key, std::chrono::nanoseconds duration) {
  return duration.count() < 0 ? put_duration(key, duration) : set(key, text_of(duration));
}
ChannelUriBuilder& ChannelUriBuilder::clear(std::string_view key) {
  if (!error_) uri_.remove(key);
  return *this;
}

Result<std::string> ChannelUriBuilder::build() const {
  if (error_) return tl::unexpected<Error>{*error_};
  const auto mode = uri_.get("control-mode");
  if (uri_.media() == ChannelUri::Media::kUdp) {
    const bool has_address = uri_.has("endpoint") || uri_.has("control") || uri_.has("tags") || mode == "manual" || mode == "response";
    if (!has_address) return invalid("UDP needs an endpoint, a control address, a tag, or control-mode manual or response");
    if (mode == "dynamic" && !uri_.has("control")) return invalid("control-mode=dynamic needs a control address");
  }
  const int positions = static_cast<int>(uri_.has("init-term-id")) + static_cast<int>(uri_.has("term-id")) + static_cast<int>(uri_.has("term-offset"));
  if (positions != 0 && positions != 3) return invalid("init-term-id, term-id and term-offset go together");
  std::string text = uri_.to_string();
  if (text.size() > shm::kChannelUriLengthMax) return invalid("it has " + std::to_string(text.size()) + " characters, at most 4095 are allowed");
  return text;
}

}  // namespace thalweg::client
