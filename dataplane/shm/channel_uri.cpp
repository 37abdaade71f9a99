#include "dataplane/shm/channel_uri.hpp"

#include <charconv>
#include <limits>

#include "dataplane/base/units.hpp"

namespace thalweg::shm {
namespace {

constexpr std::string_view kSpyPrefix = "aeron-spy:";
constexpr std::string_view kUdpPrefix = "aeron:udp?";  // the question mark is part of it
constexpr std::string_view kIpcPrefix = "aeron:ipc";

tl::unexpected<Error> invalid(const std::string& what, std::string_view channel) {
  return fail(ErrorCode::kInvalidChannel, "invalid channel: " + what + " in '" + std::string{channel} + "'",
              "a channel looks like aeron:udp?endpoint=host:port|key=value or aeron:ipc");
}

// C's strtoll with base 0: decimal, 0x hexadecimal, leading-0 octal; out of range and trailing characters are refused.
std::optional<std::int64_t> parse_integer(std::string_view text) noexcept {
  const bool is_negative = text.starts_with('-');
  if (is_negative || text.starts_with('+')) text.remove_prefix(1);
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    base = 16;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text.front() == '0') {
    base = 8;
    text.remove_prefix(1);
  }
  std::uint64_t magnitude = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), magnitude, base);
  if (status != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  const auto limit = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) + (is_negative ? 1 : 0);
  if (magnitude > limit) return std::nullopt;
  return static_cast<std::int64_t>(is_negative ? ~magnitude + 1 : magnitude);
}

std::optional<bool> parse_bool(std::string_view text) noexcept {
  if (text.starts_with("true")) return true;
  if (text.starts_with("false")) return false;
  return std::nullopt;
}

std::optional<std::uint16_t> parse_port(std::string_view text) noexcept {
  std::uint16_t port = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (status != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return port;
}

// Absent, present and right, present and wrong.
template <typename T, typename Parse>
Result<std::optional<T>> typed(const ChannelUri& uri, std::string_view key, const char* what, Parse&& parse) {
  const auto text = uri.get(key);
  if (!text) return std::optional<T>{};
  const std::optional<T> value = parse(*text);
  if (!value) return invalid("'" + std::string{key} + "=" + std::string{*text} + "' is not " + what, uri.to_string());
  return value;
}

}  // namespace

Result<ChannelUri> ChannelUri::parse(std::string_view text) {
  if (text.size() > kChannelUriLengthMax) {
    return fail(ErrorCode::kInvalidChannel, "invalid channel: " + std::to_string(text.size()) + " characters, at most " +
                                                std::to_string(kChannelUriLengthMax) + " are allowed");
  }
  ChannelUri uri;
  std::string_view rest = text;
  if (rest.starts_with(kSpyPrefix)) {
    uri.is_spy_ = true;
    rest.remove_prefix(kSpyPrefix.size());
  }
  if (rest.starts_with(kUdpPrefix)) {
    rest.remove_prefix(kUdpPrefix.size());
  } else if (!uri.is_spy_ && rest.starts_with(kIpcPrefix)) {
    uri.media_ = Media::kIpc;
    rest.remove_prefix(kIpcPrefix.size());
    if (!rest.empty() && rest.front() != '?') return invalid("unknown scheme", text);
    if (!rest.empty()) rest.remove_prefix(1);
  } else {
    return invalid(uri.is_spy_ ? "only aeron:udp?... can be spied on" : "must start with 'aeron:udp?' or 'aeron:ipc'", text);
  }
  bool is_more = !rest.empty();
  while (is_more) {
    const std::size_t end = rest.find('|');
    const std::string_view parameter = rest.substr(0, end);
    const std::size_t equals = parameter.find('=');
    const std::string_view key = parameter.substr(0, equals);
    if (key.empty()) return invalid("empty key", text);
    if (equals == std::string_view::npos) return invalid("key '" + std::string{key} + "' without a value", text);
    if (equals + 1 == parameter.size()) return invalid("key '" + std::string{key} + "' has an empty value", text);
    uri.parameters_.emplace_back(key, parameter.substr(equals + 1));
    is_more = end != std::string_view::npos;
    if (is_more) rest.remove_prefix(end + 1);
  }
  return uri;
}

std::optional<std::string_view> ChannelUri::get(std::string_view key) const noexcept {
  for (auto parameter = parameters_.rbegin(); parameter != parameters_.rend(); ++parameter) {
    if (parameter->first == key) return parameter->second;
  }
  return std::nullopt;
}

Result<std::optional<std::int64_t>> ChannelUri::get_size(std::string_view key) const {
  return typed<std::int64_t>(*this, key, "a size (digits and k, m or g)", parse_uri_size);
}

Result<std::optional<std::int64_t>> ChannelUri::get_duration_ns(std::string_view key) const {
  return typed<std::int64_t>(*this, key, "a duration (digits and s, ms, us or ns)", parse_uri_duration_ns);
}

Result<std::optional<std::int64_t>> ChannelUri::get_int64(std::string_view key) const {
  return typed<std::int64_t>(*this, key, "a 64-bit number", parse_integer);
}

Result<std::optional<std::int32_t>> ChannelUri::get_int32(std::string_view key) const {
  return typed<std::int32_t>(*this, key, "a 32-bit number", [](std::string_view text) -> std::optional<std::int32_t> {
    const auto value = parse_integer(text);
    if (!value || *value < std::numeric_limits<std::int32_t>::min() || *value > std::numeric_limits<std::int32_t>::max()) return std::nullopt;
    return static_cast<std::int32_t>(*value);
  });
}

Result<std::optional<bool>> ChannelUri::get_bool(std::string_view key) const {
  return typed<bool>(*this, key, "true or false", parse_bool);
}

void ChannelUri::set(std::string_view key, std::string_view value) {
  bool is_set = false;
  for (auto& [name, current] : parameters_) {
    if (name != key) continue;
    current = value;
    is_set = true;
  }
  if (!is_set) parameters_.emplace_back(key, value);
}

void ChannelUri::remove(std::string_view key) {
  std::erase_if(parameters_, [key](const auto& parameter) { return parameter.first == key; });
}

std::string ChannelUri::to_string() const {
  std::string text{is_spy_ ? kSpyPrefix : std::string_view{}};
  text += media_ == Media::kIpc ? "aeron:ipc" : "aeron:udp";
  char separator = '?';
  if (media_ == Media::kUdp && parameters_.empty()) text += '?';
  for (const auto& [key, value] : parameters_) {
    text += separator;
    text.append(key).append("=").append(value);
    separator = '|';
  }
  return text;
}

std::optional<HostPort> parse_host_port(std::string_view text) {
  HostPort result;
  std::string_view rest;
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    result.is_ipv6 = true;
    result.host = text.substr(1, close - 1);
    rest = text.substr(close + 1);
  } else {
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    result.host = text.substr(0, colon);
    rest = text.substr(colon);
  }
  if (result.host.empty() || !rest.starts_with(':')) return std::nullopt;
  const auto port = parse_port(rest.substr(1));
  if (!port) return std::nullopt;
  result.port = *port;
  return result;
}

}  // namespace thalweg::shm
