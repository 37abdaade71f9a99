#include "controlplane/conductor/uri_params.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <limits>

#include "dataplane/base/units.hpp"
#include "dataplane/wire/positions.hpp"

namespace thalweg::conductor {
namespace {

using shm::ChannelUri;

constexpr std::int32_t kTermLengthMin = 64 << 10;
constexpr std::int32_t kTermLengthMax = 1 << 30;
constexpr std::int32_t kMtuMin = 32;
constexpr std::int32_t kMtuMax = 65'504;
constexpr std::int32_t kFrameAlignment = 32;
constexpr std::int32_t kMaxResendMax = 256;
constexpr std::int32_t kNakMaxMax = 1'000'000;
constexpr std::int32_t kAimdReceiverWindow = 16 << 20;
// Longer durations count as this one, 73 years: lanes add them to their clock, and twice that must not wrap.
constexpr std::int64_t kDurationMax_ns = std::numeric_limits<std::int64_t>::max() / 4;

// Reads typed parameters and remembers the first mistake, so that a parser reads top to bottom and checks once.
class Reader {
 public:
  explicit Reader(const ChannelUri& uri) : uri_{&uri} {}

  [[nodiscard]] std::optional<std::int64_t> int64(std::string_view key) { return keep(uri_->get_int64(key)); }
  [[nodiscard]] std::optional<std::int32_t> int32(std::string_view key) { return keep(uri_->get_int32(key)); }
  [[nodiscard]] std::optional<std::int64_t> duration(std::string_view key) {
    const auto value = keep(uri_->get_duration_ns(key));
    return value ? std::optional{std::min(*value, kDurationMax_ns)} : std::nullopt;
  }
  [[nodiscard]] std::optional<bool> boolean(std::string_view key) { return keep(uri_->get_bool(key)); }
  // A size that fits an i32.
  [[nodiscard]] std::optional<std::int32_t> size(std::string_view key) {
    const auto value = keep(uri_->get_size(key));
    if (!value) return std::nullopt;
    if (*value > std::numeric_limits<std::int32_t>::max()) {
      reject(fmt::format("{}={} is too large", key, *value));
      return std::nullopt;
    }
    return static_cast<std::int32_t>(*value);
  }
  void reject(std::string text) {
    if (!error_) error_ = CommandError{shm::ClientError::kInvalidChannel, std::move(text) + ": channel=" + uri_->to_string()};
  }
  void reject_unsupported(std::string text) {
    if (!error_) error_ = CommandError{shm::ClientError::kNotSupported, std::move(text) + ": channel=" + uri_->to_string()};
  }
  [[nodiscard]] Outcome<void> outcome() const {
    if (error_) return tl::unexpected{*error_};
    return {};
  }

 private:
  template <typename T>
  std::optional<T> keep(Result<std::optional<T>> result) {
    if (result) return *result;
    if (!error_) error_ = to_command_error(result.error());
    return std::nullopt;
  }
  const ChannelUri* uri_;
  std::optional<CommandError> error_;
};

template <typename T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

UntetheredTimeouts read_untethered(Reader& reader, const StreamDefaults& defaults) {
  UntetheredTimeouts result;
  result.window_limit_ns = reader.duration("untethered-window-limit-timeout").value_or(defaults.untethered_window_limit_timeout_ns);
  result.linger_ns = reader.duration("untethered-linger-timeout").value_or(defaults.untethered_linger_timeout_ns);
  if (result.linger_ns == 0) result.linger_ns = result.window_limit_ns;
  result.resting_ns = reader.duration("untethered-resting-timeout").value_or(defaults.untethered_resting_timeout_ns);
  const auto check = [&](std::string_view key, std::int64_t timeout_ns) {
    if (timeout_ns > defaults.untethered_timeout_above_ns) return;
    reader.reject(fmt::format("{}={}ns is not longer than the driver's timer interval of {}ns", key, timeout_ns, defaults.untethered_timeout_above_ns));
  };
  check("untethered-window-limit-timeout", result.window_limit_ns);
  check("untethered-linger-timeout", result.linger_ns);
  check("untethered-resting-timeout", result.resting_ns);
  return result;
}

// Parameters whose features this release does not have are refused plainly instead of being ignored.
void refuse_unsupported(Reader& reader) {
  if (reader.boolean("ats").value_or(false)) reader.reject_unsupported("ats=true: secure transport is not available");
}

std::int64_t read_response_correlation(Reader& reader, const ChannelUri& uri) {
  constexpr std::string_view kKey = "response-correlation-id";
  if (uri.get(kKey) == "prototype") return kPrototypeCorrelation;
  const std::int64_t id = reader.int64(kKey).value_or(kNoCorrelation);
  if (id < kNoCorrelation) reader.reject(fmt::format("{}={} is neither a correlation id, -1 for none, nor prototype", kKey, id));
  return id;
}

// fc=<max|min|tagged>[,g:[<tag>][/<size>]][,t:<duration>][,rrwm:<n>] (wire-protocol 4.1). A mistake is said with the whole value, the part
// that is wrong, and what may stand there.
class FlowControlReader {
 public:
  FlowControlReader(Reader& reader, std::string_view text, FlowControlParams& params) : reader_{reader}, text_{text}, params_{params} {}

  void read() {
    std::string_view rest = text_;
    read_strategy(take_item(rest));
    while (rest.data() != nullptr) read_option(take_item(rest));
  }

 private:
  // The text up to the next comma; `rest` is what follows it, without data when there was none.
  static std::string_view take_item(std::string_view& rest) {
    const auto comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    return item;
  }
  void reject(std::string_view part, std::string_view allowed) { reader_.reject(fmt::format("fc={}: '{}' is not {}", text_, part, allowed)); }

  void read_strategy(std::string_view name) {
    static constexpr std::array kNames{std::string_view{"max"}, std::string_view{"min"}, std::string_view{"tagged"}};
    const auto at = std::find(kNames.begin(), kNames.end(), name);
    if (at == kNames.end()) return reject(name, "one of the flow control strategies max, min, tagged");
    params_.strategy = static_cast<shm::FlowControl>(at - kNames.begin());
  }
  void read_option(std::string_view option) {
    if (option.starts_with("g:")) return read_group(option.substr(2));
    if (option.starts_with("t:")) {
      const auto timeout = parse_uri_duration_ns(option.substr(2));
      if (!timeout || *timeout <= 0) return reject(option, "a receiver timeout t:<duration> above 0, as in t:5s");
      params_.receiver_timeout_ns = std::min(*timeout, kDurationMax_ns);
    } else if (option.starts_with("rrwm:")) {
      const auto multiple = number<std::int32_t>(option.substr(5));
      if (!multiple || *multiple <= 0) return reject(option, "a retransmit window multiple rrwm:<number> from 1 to 2147483647");
      params_.retransmit_window_multiple = *multiple;
    } else {
      reject(option, "one of the options g:[<tag>][/<size>], t:<duration>, rrwm:<number>");
    }
  }
  void read_group(std::string_view value) {
    const auto slash = value.find('/');
    const std::string_view tag = value.substr(0, slash);
    if (!tag.empty() || slash == std::string_view::npos) {
      const auto parsed = number<std::int64_t>(tag);
      if (!parsed) return reject(tag, "a group tag, a 64-bit decimal number");
      params_.group_tag = *parsed;
    }
    if (slash == std::string_view::npos) return;
    const auto size = number<std::int32_t>(value.substr(slash + 1));
    if (!size || *size < 0) return reject(value.substr(slash + 1), "a group size from 0 to 2147483647");
    params_.group_min_size = *size;
  }

  Reader& reader_;
  std::string_view text_;
  FlowControlParams& params_;
};

FlowControlParams read_flow_control(Reader& reader, const ChannelUri& uri, const StreamDefaults& defaults, bool is_group) {
  FlowControlParams params;
  params.receiver_timeout_ns = defaults.flow_control_receiver_timeout_ns;
  params.retransmit_window_multiple = defaults.unicast_retransmit_window_multiple;
  if (!is_group) return params;
  params.strategy = defaults.multicast_flow_control;
  params.group_tag = defaults.flow_control_group_tag;
  params.group_min_size = defaults.flow_control_group_min_size;
  params.retransmit_window_multiple = defaults.multicast_retransmit_window_multiple;
  if (const auto fc = uri.get("fc")) FlowControlReader{reader, *fc, params}.read();
  return params;
}

shm::CongestionControl read_congestion_control(Reader& reader, const ChannelUri& uri, const StreamDefaults& defaults) {
  const auto cc = uri.get("cc");
  if (!cc) return defaults.congestion_control;
  if (*cc == "cubic") return shm::CongestionControl::kCubic;
  if (*cc == "aimd") return shm::CongestionControl::kAimd;
  if (*cc != "static") reader.reject(fmt::format("cc={} is not one of static, cubic, aimd", *cc));
  return shm::CongestionControl::kStatic;
}

std::optional<StartPosition> read_start_position(Reader& reader, const ChannelUri& uri) {
  const int present = static_cast<int>(uri.has("init-term-id")) + static_cast<int>(uri.has("term-id")) + static_cast<int>(uri.has("term-offset"));
  if (present == 0) return std::nullopt;
  if (present != 3) {
    reader.reject("init-term-id, term-id and term-offset must be given together");
    return std::nullopt;
  }
  StartPosition start;
  start.initial_term_id = reader.int32("init-term-id").value_or(0);
  start.term_id = reader.int32("term-id").value_or(0);
  start.term_offset = reader.size("term-offset").value_or(0);
  if (wire::wrapping_sub(start.term_id, start.initial_term_id) < 0) {
    reader.reject(fmt::format("term-id={} is behind init-term-id={}", start.term_id, start.initial_term_id));
  }
  if (start.term_offset % kFrameAlignment != 0) reader.reject(fmt::format("term-offset={} is not a multiple of {}", start.term_offset, kFrameAlignment));
  return start;
}

void read_session(Reader& reader, const ChannelUri& uri, PublicationParams& params) {
  const auto text = uri.get("session-id");
  if (!text) return;
  if (!text->starts_with("tag:")) {
    params.session_id = reader.int32("session-id");
    return;
  }
  params.session_tag = number<std::int64_t>(text->substr(4));
  if (!params.session_tag) reader.reject(fmt::format("session-id={}: the tag is not a number", *text));
}

void read_retransmit_linger(Reader& reader, const ChannelUri& uri, const StreamDefaults& defaults, PublicationParams& params) {
  params.retransmit_linger_ns = defaults.retransmit_linger_ns;
  params.is_retransmit_linger_auto = defaults.is_retransmit_linger_auto;
  const auto text = uri.get("retransmit-linger");
  if (!text) return;
  params.is_retransmit_linger_auto = *text == "auto";
  if (!params.is_retransmit_linger_auto) params.retransmit_linger_ns = reader.duration("retransmit-linger").value_or(0);
}

// Entity tag: second number of tags=<channel>[,<entity>]. Malformed tags are reported by channel.hpp.
std::int64_t read_entity_tag(const ChannelUri& uri) {
  const auto tags = uri.get("tags");
  if (!tags) return -1;
  const auto comma = tags->find(',');
  if (comma == std::string_view::npos) return -1;
  return number<std::int64_t>(tags->substr(comma + 1)).value_or(-1);
}

void check_term_length(Reader& reader, std::int32_t length) {
  if (length < kTermLengthMin || length > kTermLengthMax) {
    reader.reject(fmt::format("term-length={} is outside {}..{}", length, kTermLengthMin, kTermLengthMax));
  } else if (!std::has_single_bit(static_cast<std::uint32_t>(length))) {
    reader.reject(fmt::format("term-length={} is not a power of two", length));
  }
}

void check_mtu(Reader& reader, const PublicationParams& params, const StreamDefaults& defaults) {
  if (params.mtu <= kMtuMin || params.mtu > kMtuMax) {
    reader.reject(fmt::format("mtu={} is outside {}..{}, multiples of {}", params.mtu, kMtuMin + kFrameAlignment, kMtuMax, kFrameAlignment));
  } else if (params.mtu % kFrameAlignment != 0) {
    reader.reject(fmt::format("mtu={} is not a multiple of {}", params.mtu, kFrameAlignment));
  }
  const std::int32_t sndbuf = params.socket_sndbuf != 0 ? params.socket_sndbuf : defaults.socket_sndbuf;
  if (sndbuf != 0 && params.mtu > sndbuf) reader.reject(fmt::format("mtu={} is larger than so-sndbuf={}", params.mtu, sndbuf));
}

void settle_window(Reader& reader, const ChannelUri& uri, const StreamDefaults& defaults, PublicationParams& params) {
  const std::int32_t half = params.term_length / 2;
  const bool is_ipc = uri.media() == ChannelUri::Media::kIpc;
  const std::int32_t configured = is_ipc ? defaults.ipc_publication_window : defaults.publication_window;
  params.window = configured > 0 && configured < half ? configured : half;
  if (const auto window = reader.size("pub-wnd")) {
    if (*window < params.mtu) reader.reject(fmt::format("pub-wnd={} is smaller than mtu={}", *window, params.mtu));
    if (*window > half) reader.reject(fmt::format("pub-wnd={} is larger than half the term length of {}", *window, params.term_length));
    params.window = *window;
  }
}

}  // namespace

Outcome<void> check_sizes(PublicationParams& params, const ChannelUri& uri, const StreamDefaults& defaults) {
  Reader reader{uri};
  check_term_length(reader, params.term_length);
  check_mtu(reader, params, defaults);
  if (params.start && params.start->term_offset > params.term_length) {
    reader.reject(fmt::format("term-offset={} is larger than term-length={}", params.start->term_offset, params.term_length));
  }
  settle_window(reader, uri, defaults, params);
  return reader.outcome();
}

Outcome<PublicationParams> parse_publication_params(const ChannelUri& uri, const StreamDefaults& defaults, bool is_group) {
  Reader reader{uri};
  const bool is_ipc = uri.media() == ChannelUri::Media::kIpc;
  PublicationParams params;
  read_session(reader, uri, params);
  params.requested_mtu = reader.size("mtu");
  params.mtu = params.requested_mtu.value_or(is_ipc ? defaults.ipc_mtu : defaults.mtu);
  params.requested_term_length = reader.size("term-length");
  params.term_length = params.requested_term_length.value_or(is_ipc ? defaults.ipc_term_length : defaults.term_length);
  params.start = read_start_position(reader, uri);
  params.requested_ssc = reader.boolean("ssc");
  params.spies_simulate_connection = params.requested_ssc.value_or(defaults.spies_simulate_connection);
  params.linger_ns = reader.duration("linger").value_or(defaults.linger_ns);
  params.is_sparse = reader.boolean("sparse").value_or(defaults.is_sparse);
  params.signal_eos = reader.boolean("eos").value_or(true);
  params.entity_tag = read_entity_tag(uri);
  params.max_resend = reader.int32("max-resend");
  if (params.max_resend && (*params.max_resend < 1 || *params.max_resend > kMaxResendMax)) {
    reader.reject(fmt::format("max-resend={} is outside 1..{}", *params.max_resend, kMaxResendMax));
  }
  params.socket_sndbuf = reader.size("so-sndbuf").value_or(0);
  params.socket_rcvbuf = reader.size("so-rcvbuf").value_or(0);
  params.untethered = read_untethered(reader, defaults);
  params.flow_control = read_flow_control(reader, uri, defaults, is_group);
  read_retransmit_linger(reader, uri, defaults, params);
  params.response_correlation_id = read_response_correlation(reader, uri);
  if (params.response_correlation_id == kPrototypeCorrelation) params.term_length = kTermLengthMin;
  refuse_unsupported(reader);
  if (auto outcome = reader.outcome(); !outcome) return tl::unexpected{outcome.error()};
  if (auto outcome = check_sizes(params, uri, defaults); !outcome) return tl::unexpected{outcome.error()};
  return params;
}

Outcome<SubscriptionParams> parse_subscription_params(const ChannelUri& uri, const StreamDefaults& defaults) {
  Reader reader{uri};
  SubscriptionParams params;
  params.session_id = reader.int32("session-id");
  params.is_reliable = reader.boolean("reliable").value_or(defaults.is_reliable);
  params.is_rejoin = reader.boolean("rejoin").value_or(defaults.is_rejoin);
  params.is_tethered = reader.boolean("tether").value_or(defaults.is_tethered);
  params.is_sparse = reader.boolean("sparse").value_or(defaults.is_sparse);
  params.group = defaults.receiver_group;
  if (const auto group = uri.get("group")) params.group = *group == "infer" ? std::nullopt : std::optional{*group == "true"};  // others: 5.13
  params.congestion_control = read_congestion_control(reader, uri, defaults);
  const auto window = reader.size("rcv-wnd");
  const bool is_open = params.congestion_control == shm::CongestionControl::kAimd;  // the network bounds it, unless the channel does
  params.receiver_window = window.value_or(is_open ? kAimdReceiverWindow : defaults.receiver_window);
  params.has_receiver_window = window.has_value();
  params.socket_sndbuf = reader.size("so-sndbuf").value_or(0);
  params.socket_rcvbuf = reader.size("so-rcvbuf").value_or(0);
  const std::int32_t rcvbuf = params.socket_rcvbuf != 0 ? params.socket_rcvbuf : defaults.socket_rcvbuf;
  if (rcvbuf != 0 && params.receiver_window > rcvbuf && !(is_open && !window)) {
    reader.reject(fmt::format("rcv-wnd={} is larger than so-rcvbuf={}", params.receiver_window, rcvbuf));
  }
  params.nak_delay_ns = reader.duration("nak-delay").value_or(defaults.nak_delay_ns);
  const std::int64_t ratio = std::max(1, defaults.nak_retry_ratio);
  params.nak_retry_ns = params.nak_delay_ns > kDurationMax_ns / ratio ? kDurationMax_ns : params.nak_delay_ns * ratio;
  params.nak_backoff_ns = reader.duration("nak-backoff").value_or(defaults.nak_backoff_ns);
  params.nak_max = reader.int32("nak-max").value_or(defaults.nak_max);
  if (params.nak_max < 0 || params.nak_max > kNakMaxMax) {
    reader.reject(fmt::format("nak-max={} is not a number of NAKs from 1 to {}, or 0 for no end", params.nak_max, kNakMaxMax));
  }
  params.nak_all_gaps = reader.boolean("nak-all-gaps").value_or(defaults.nak_all_gaps);
  params.untethered = read_untethered(reader, defaults);
  refuse_unsupported(reader);
  if (auto outcome = reader.outcome(); !outcome) return tl::unexpected{outcome.error()};
  return params;
}

}  // namespace thalweg::conductor
