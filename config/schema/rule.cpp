#include "config/schema/rule.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "dataplane/base/units.hpp"
#include "dataplane/wire/ipv6.hpp"

namespace thalweg::config {
namespace rule {

Rule text() { return {}; }
Rule name() { return {.form = Rule::Form::kName}; }
Rule path() { return {.form = Rule::Form::kPath}; }
Rule flag() { return {.form = Rule::Form::kBool}; }
Rule count(std::int64_t min, std::int64_t max) { return {.form = Rule::Form::kCount, .min = min, .max = max}; }
Rule size(std::int64_t min, std::int64_t max, std::int64_t multiple) {
  return {.form = Rule::Form::kSize, .min = min, .max = max, .multiple = multiple};
}
Rule power_of_two(std::int64_t min, std::int64_t max) {
  return {.form = Rule::Form::kSize, .min = min, .max = max, .is_power_of_two = true};
}
Rule duration(std::int64_t min_ns, std::int64_t max_ns) { return {.form = Rule::Form::kDuration, .min = min_ns, .max = max_ns}; }
Rule ratio() { return {.form = Rule::Form::kRatio}; }
Rule bit_rate() { return {.form = Rule::Form::kBitRate}; }
Rule choice(std::vector<std::string_view> words) { return {.form = Rule::Form::kChoice, .words = std::move(words)}; }
Rule address() { return {.form = Rule::Form::kAddress}; }
Rule subnet() { return {.form = Rule::Form::kSubnet}; }
Rule address6() { return {.form = Rule::Form::kAddress6}; }
Rule subnet6() { return {.form = Rule::Form::kSubnet6}; }
Rule mac() { return {.form = Rule::Form::kMac}; }
Rule empty_or(Rule rule) {
  rule.allows_empty = true;
  return rule;
}
Rule zero_or(Rule rule) {
  rule.allows_zero = true;
  return rule;
}

}  // namespace rule

namespace {

constexpr std::size_t kNameLengthMax = 31;  // PortSlot::name of the registry, terminated

struct BitUnit {
  std::string_view suffix;
  double factor;
};
constexpr std::array<BitUnit, 4> kBitUnits{{{"Gbit", 1e9}, {"Mbit", 1e6}, {"kbit", 1e3}, {"", 1}}};

tl::unexpected<Error> needs(const Rule& rule) { return fail(ErrorCode::kInvalidConfig, describe_rule(rule)); }

bool is_name(std::string_view text) {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  };
  return !text.empty() && text.size() <= kNameLengthMax && std::all_of(text.begin(), text.end(), is_letter);
}

bool is_subnet(std::string_view text, bool is_ipv6) {
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return false;
  const std::string_view address = text.substr(0, slash);
  if (is_ipv6 ? !wire::parse_ipv6(address) : !parse_ipv4(address)) return false;
  const std::string_view prefix = text.substr(slash + 1);
  unsigned length = 0;
  const auto [end, status] = std::from_chars(prefix.data(), prefix.data() + prefix.size(), length);
  return status == std::errc{} && end == prefix.data() + prefix.size() && length >= 1 && length <= (is_ipv6 ? 128U : 32U);
}

bool is_mac(std::string_view text) {
  if (text.size() != 17) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i % 3 == 2 ? text[i] != ':' : std::isxdigit(static_cast<unsigned char>(text[i])) == 0) return false;
  }
  return true;
}

// A decimal number with an optional fraction and the text behind it.
struct Number {
  double value;
  std::string_view rest;
};
std::optional<Number> split_number(std::string_view text) {
  double value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (status != std::errc{} || !std::isfinite(value) || value < 0) return std::nullopt;
  return Number{value, {end, static_cast<std::size_t>(text.data() + text.size() - end)}};
}

std::optional<std::int64_t> parse_count(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::int64_t> parse_bit_rate(std::string_view text) {
  const auto number = split_number(text);
  if (!number) return std::nullopt;
  for (const BitUnit& unit : kBitUnits) {
    const double rate = number->value * unit.factor;
    if (number->rest == unit.suffix && rate < 9e18) return std::llround(rate);
  }
  return std::nullopt;
}

std::optional<double> parse_ratio(std::string_view text) {
  const auto number = split_number(text);
  if (!number || (!number->rest.empty() && number->rest != "%")) return std::nullopt;
  const double value = number->rest.empty() ? number->value : number->value / 100;
  return value <= 1 ? std::optional{value} : std::nullopt;
}

Result<Value> check_integer(const Rule& rule, std::optional<std::int64_t> value) {
  if (!value) return needs(rule);
  if (*value == 0 && rule.allows_zero) return Value{*value};
  if (*value < rule.min || *value > rule.max || *value % rule.multiple != 0) return needs(rule);
  if (rule.is_power_of_two && (*value & (*value - 1)) != 0) return needs(rule);
  return Value{*value};
}

std::string format_integer(const Rule& rule, std::int64_t value) {
  if (value == 0) return "0";
  if (rule.form == Rule::Form::kSize) {
    const std::string text = format_size(value);
    return text.ends_with("iB") ? text : std::to_string(value);  // plain bytes need no suffix
  }
  if (rule.form == Rule::Form::kDuration) return format_duration_ns(value);
  if (rule.form == Rule::Form::kBitRate) {
    for (const BitUnit& unit : kBitUnits) {
      const auto factor = static_cast<std::int64_t>(unit.factor);
      if (value % factor == 0) return std::to_string(value / factor) + std::string{unit.suffix};
    }
  }
  return std::to_string(value);
}

// Shortest decimal form of a ratio in percent: 0.001 -> "0.1%".
std::string format_ratio(double value) {
  if (value == 0) return "0%";
  std::array<char, 400> buffer{};
  const auto [end, status] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value * 100, std::chars_format::fixed, 6);
  std::string text = status == std::errc{} ? std::string{buffer.data(), end} : std::string{"0"};
  while (text.ends_with('0')) text.pop_back();
  if (text.ends_with('.')) text.pop_back();
  return text + "%";
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> previous(b.size() + 1);
  std::vector<std::size_t> current(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) current[j] = std::min(current[j], before[j - 2] + 1);
    }
    before.swap(previous);
    previous.swap(current);
  }
  return previous[b.size()];
}

}  // namespace

Result<Value> parse_value(const Rule& rule, std::string_view text) {
  if (rule.allows_empty && text.empty()) return Value{};
  const auto text_if = [&](bool is_right) -> Result<Value> {
    if (!is_right) return needs(rule);
    return Value{std::string{text}};
  };
  switch (rule.form) {
    case Rule::Form::kText: return text_if(text.find('\0') == std::string_view::npos);
    case Rule::Form::kName: return text_if(is_name(text));
    case Rule::Form::kPath: return text_if(text.empty() || (text.front() == '/' && text.find('\0') == std::string_view::npos));
    case Rule::Form::kAddress: return text_if(text.empty() || parse_ipv4(text).has_value());
    case Rule::Form::kSubnet: return text_if(text.empty() || is_subnet(text, false));
    case Rule::Form::kAddress6: return text_if(text.empty() || wire::parse_ipv6(text).has_value());
    case Rule::Form::kSubnet6: return text_if(text.empty() || is_subnet(text, true));
    case Rule::Form::kMac: return text_if(text.empty() || is_mac(text));
    case Rule::Form::kBool:
      if (text == "true" || text == "false") return Value{text == "true"};
      return needs(rule);
    case Rule::Form::kCount: return check_integer(rule, parse_count(text));
    case Rule::Form::kSize: return check_integer(rule, parse_size(text));
    case Rule::Form::kDuration: return check_integer(rule, parse_duration_ns(text));
    case Rule::Form::kBitRate: return check_integer(rule, parse_bit_rate(text));
    case Rule::Form::kRatio:
      if (const auto ratio = parse_ratio(text)) return Value{*ratio};
      return needs(rule);
    case Rule::Form::kChoice:
      for (std::size_t i = 0; i < rule.words.size(); ++i) {
        if (rule.words[i] == text) return Value{static_cast<std::int64_t>(i)};
      }
      return needs(rule);
  }
  return needs(rule);
}

std::string format_value(const Rule& rule, const Value& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* ratio = std::get_if<double>(&value)) return format_ratio(*ratio);
  if (const auto* number = std::get_if<std::int64_t>(&value)) {
    if (rule.form != Rule::Form::kChoice) return format_integer(rule, *number);
    return *number >= 0 && static_cast<std::size_t>(*number) < rule.words.size() ? std::string{rule.words[static_cast<std::size_t>(*number)]}
                                                                               : std::string{};
  }
  return {};
}

std::string describe_rule(const Rule& rule) {
  const auto bounded = [&](std::string text) {
    if (rule.max == std::numeric_limits<std::int64_t>::max()) {
      text += rule.min > 0 ? " of at least " + format_integer(rule, rule.min) : std::string{};
    } else {
      text += " from " + format_integer(rule, rule.min) + " to " + format_integer(rule, rule.max);
    }
    if (rule.is_power_of_two) text += ", a power of two";
    if (rule.multiple > 1) text += ", a multiple of " + std::to_string(rule.multiple);
    if (rule.allows_zero) text += ", or 0";
    if (rule.allows_empty) text += ", or empty";
    return text;
  };
  switch (rule.form) {
    case Rule::Form::kText: return "a text";
    case Rule::Form::kName: return "a name of at most 31 letters, digits, '-', '_' and '.'";
    case Rule::Form::kPath: return "an absolute path";
    case Rule::Form::kAddress: return "an IPv4 address (a.b.c.d)";
    case Rule::Form::kSubnet: return "an IPv4 address with prefix length (a.b.c.d/n)";
    case Rule::Form::kAddress6: return "an IPv6 address (2001:db8::1)";
    case Rule::Form::kSubnet6: return "an IPv6 address with prefix length (2001:db8::1/64)";
    case Rule::Form::kMac: return "a MAC address (aa:bb:cc:dd:ee:ff)";
    case Rule::Form::kBool: return "true or false";
    case Rule::Form::kCount: return bounded("a number");
    case Rule::Form::kSize: return bounded("a size");
    case Rule::Form::kDuration: return bounded("a duration");
    case Rule::Form::kBitRate: return "a bit rate (100Mbit, 2.5Gbit)";
    case Rule::Form::kRatio: return "a share from 0% to 100%";
    case Rule::Form::kChoice: break;
  }
  std::string text = "one of";
  for (std::size_t i = 0; i < rule.words.size(); ++i) text += (i == 0 ? " " : ", ") + std::string{rule.words[i]};
  return text;
}

std::string_view nearest_word(std::string_view word, const std::vector<std::string_view>& candidates) {
  constexpr std::size_t kWordMax = 64;  // bounds the work a hostile key can cause
  if (word.empty() || word.size() > kWordMax) return {};
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
  return std::string{nearest_word(word, std::vector<std::string_view>{candidates.begin(), candidates.end()})};
}

}  // namespace thalweg::config
