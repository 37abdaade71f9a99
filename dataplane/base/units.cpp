#include "dataplane/base/units.hpp"

#include <charconv>
#include <cmath>
#include <limits>

namespace thalweg {
namespace {

struct Suffix {
  std::string_view text;
  std::int64_t factor;
};

std::optional<std::int64_t> multiply(std::int64_t value, std::int64_t factor, bool saturate) noexcept {
  std::int64_t product = 0;
  if (!__builtin_mul_overflow(value, factor, &product)) return product;
  if (saturate) return std::numeric_limits<std::int64_t>::max();
  return std::nullopt;
}

// Leading digits and the rest of the text; nullopt when there is no digit.
struct Split {
  std::int64_t value;
  bool overflow;
  std::string_view rest;
};
std::optional<Split> split_integer(std::string_view text) noexcept {
  if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;
  std::int64_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view rest{end, static_cast<std::size_t>(text.data() + text.size() - end)};
  return Split{value, status == std::errc::result_out_of_range, rest};
}

}  // namespace

std::optional<std::int64_t> parse_uri_size(std::string_view text) noexcept {
  const auto split = split_integer(text);
  if (!split || split->overflow || split->rest.size() > 1) return std::nullopt;
  if (split->rest.empty()) return split->value;
  switch (split->rest.front()) {
    case 'k': case 'K': return multiply(split->value, 1LL << 10, false);
    case 'm': case 'M': return multiply(split->value, 1LL << 20, false);
    case 'g': case 'G': return multiply(split->value, 1LL << 30, false);
    default: return std::nullopt;
  }
}

std::optional<std::int64_t> parse_uri_duration_ns(std::string_view text) noexcept {
  const auto split = split_integer(text);
  if (!split) return std::nullopt;
  for (const Suffix& suffix : {Suffix{"", 1}, {"ns", 1}, {"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}}) {
    if (split->rest != suffix.text) continue;
    if (split->overflow) return std::numeric_limits<std::int64_t>::max();
    return multiply(split->value, suffix.factor, true);
  }
  return std::nullopt;
}

std::optional<std::int64_t> parse_size(std::string_view text) noexcept {
  const auto split = split_integer(text);
  if (!split || split->overflow) return std::nullopt;
  for (const Suffix& suffix : {Suffix{"", 1}, {"B", 1}, {"KiB", 1LL << 10}, {"MiB", 1LL << 20}, {"GiB", 1LL << 30},
                               {"k", 1LL << 10}, {"m", 1LL << 20}, {"g", 1LL << 30}}) {
    if (split->rest == suffix.text) return multiply(split->value, suffix.factor, false);
  }
  return std::nullopt;
}

std::optional<std::int64_t> parse_duration_ns(std::string_view text) noexcept {
  double value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (status != std::errc{} || value < 0) return std::nullopt;
  const std::string_view rest{end, static_cast<std::size_t>(text.data() + text.size() - end)};
  for (const Suffix& suffix : {Suffix{"ns", 1}, {"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}, {"m", 60'000'000'000},
                               {"h", 3'600'000'000'000}}) {
    if (rest != suffix.text) continue;
    const double ns = value * static_cast<double>(suffix.factor);
    if (ns >= 9.2e18) return std::nullopt;
    return std::llround(ns);
  }
  if (rest.empty() && value == 0) return 0;
  return std::nullopt;
}

std::string format_size(std::int64_t bytes) {
  for (const Suffix& suffix : {Suffix{"GiB", 1LL << 30}, {"MiB", 1LL << 20}, {"KiB", 1LL << 10}}) {
    if (bytes >= suffix.factor && bytes % suffix.factor == 0) return std::to_string(bytes / suffix.factor) + std::string{suffix.text};
  }
  return std::to_string(bytes) + "B";
}

std::string format_duration_ns(std::int64_t duration_ns) {
  for (const Suffix& suffix : {Suffix{"s", 1'000'000'000}, {"ms", 1'000'000}, {"us", 1'000}}) {
    if (duration_ns >= suffix.factor && duration_ns % suffix.factor == 0) {
      return std::to_string(duration_ns / suffix.factor) + std::string{suffix.text};
    }
  }
  return std::to_string(duration_ns) + "ns";
}

std::optional<std::uint32_t> parse_ipv4(std::string_view text) noexcept {
  std::uint32_t address = 0;
  const char* p = text.data();
  const char* const end = p + text.size();
  for (int part = 0; part < 4; ++part) {
    if (part != 0) {
      if (p == end || *p != '.') return std::nullopt;
      ++p;
    }
    unsigned value = 0;
    const auto [next, status] = std::from_chars(p, end, value);
    if (status != std::errc{} || value > 255 || next - p > 3) return std::nullopt;
    address = address << 8 | value;
    p = next;
  }
  if (p != end) return std::nullopt;
  return address;
}

std::string format_ipv4(std::uint32_t address) {
  return std::to_string(address >> 24) + "." + std::to_string(address >> 16 & 255) + "." + std::to_string(address >> 8 & 255) + "." +
         std::to_string(address & 255);
}

std::string format_endpoint(std::uint32_t address, std::uint16_t port) { return format_ipv4(address) + ":" + std::to_string(port); }

}  // namespace thalweg
