#include "controlplane/cli/output.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <utility>

#include "dataplane/base/assert.hpp"
#include "dataplane/client/error_code.hpp"

namespace thalweg::cli {
namespace {

struct Scale {
  double factor;
  std::string_view suffix;
};

// `value` in the largest unit it fills, with at most one decimal.
template <std::size_t N>
std::string scaled(double value, const std::array<Scale, N>& scales) {
  for (const Scale& scale : scales) {
    if (std::abs(value) < scale.factor && &scale != &scales.back()) continue;
    const double quotient = value / scale.factor;
    const bool is_whole = quotient == std::floor(quotient) || std::abs(quotient) >= 100;
    return is_whole ? fmt::format("{:.0f}{}", quotient, scale.suffix) : fmt::format("{:.1f}{}", quotient, scale.suffix);
  }
  return {};
}

std::string_view escape_of(Style style) {
  switch (style) {
    case Style::kPlain: return "";
    case Style::kGood: return "\x1b[32m";
    case Style::kWarn: return "\x1b[33m";
    case Style::kBad: return "\x1b[31m";
    case Style::kFaint: return "\x1b[2m";
    case Style::kBold: return "\x1b[1m";
  }
  return "";
}

bool is_right_aligned(Unit unit) { return unit != Unit::kText; }

// Channels and error texts come from other processes: a control character must not reach the terminal.
std::string printable(std::string_view text) {
  std::string out{text};
  std::replace_if(out.begin(), out.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, '?');
  return out;
}

}  // namespace

Exit exit_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kInvalidChannel: return Exit::kUsage;
    case ErrorCode::kUnreachable:
    case ErrorCode::kVersion:  // an instance's files that are damaged, or of another driver
    case ErrorCode::kClosed: return Exit::kUnreachable;
    case ErrorCode::kTimeout: return Exit::kTimeout;
    default: return Exit::kFailed;
  }
}

namespace {
namespace client_error = client::client_error;
constexpr std::pair<ErrorCode, std::string_view> kClientCodes[] = {{client_error::kUnknownSubscription, "unknown_subscription"},
                                                                   {client_error::kUnknownPublication, "unknown_publication"},
                                                                   {client_error::kChannelEndpoint, "channel_endpoint"},
                                                                   {client_error::kUnknownCounter, "unknown_counter"},
                                                                   {client_error::kMalformedCommand, "malformed_command"},
                                                                   {client_error::kImageRejected, "image_rejected"},
                                                                   {client_error::kPublicationRevoked, "publication_revoked"},
                                                                   {client_error::kClientTimeout, "client_timeout"},
                                                                   {client_error::kServiceTimeout, "service_timeout"}};
}  // namespace

std::string_view name_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kGeneric: return "generic";
    case ErrorCode::kInvalidArgument: return "invalid_argument";
    case ErrorCode::kNotFound: return "not_found";
    case ErrorCode::kUnreachable: return "unreachable";
    case ErrorCode::kTimeout: return "timeout";
    case ErrorCode::kInUse: return "in_use";
    case ErrorCode::kNoSpace: return "no_space";
    case ErrorCode::kPermission: return "permission";
    case ErrorCode::kUnsupported: return "unsupported";
    case ErrorCode::kInvalidConfig: return "invalid_config";
    case ErrorCode::kInvalidChannel: return "invalid_channel";
    case ErrorCode::kUnknownHost: return "unknown_host";
    case ErrorCode::kIo: return "io";
    case ErrorCode::kVersion: return "version";
    case ErrorCode::kClosed: return "closed";
  }
  for (const auto& [client_code, name] : kClientCodes) {
    if (client_code == code) return name;
  }
  return "generic";
}

std::string human_bytes(double bytes) {
  static constexpr std::array<Scale, 5> kScales{{{0x1p40, "TiB"}, {0x1p30, "GiB"}, {0x1p20, "MiB"}, {0x1p10, "KiB"}, {1, "B"}}};
  return scaled(bytes, kScales);
}

std::string human_duration(double ns) {
  static constexpr std::array<Scale, 6> kScales{{{3'600e9, "h"}, {60e9, "min"}, {1e9, "s"}, {1e6, "ms"}, {1e3, "us"}, {1, "ns"}}};
  return ns == 0 ? "0" : scaled(ns, kScales);
}

std::string human_count(double count) {
  static constexpr std::array<Scale, 4> kScales{{{1e9, "G"}, {1e6, "M"}, {1e4, "k"}, {1, ""}}};
  // "k" starts at ten thousand, so that small counts stay exact.
  if (std::abs(count) >= 1e4 && std::abs(count) < 1e6) return fmt::format("{:.1f}k", count / 1e3);
  return scaled(count, kScales);
}

std::string human_time(std::int64_t epoch_ms) {
  const std::time_t seconds = epoch_ms / 1000;
  std::tm utc{};
  std::array<char, 32> text{};
  if (::gmtime_r(&seconds, &utc) == nullptr || std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &utc) == 0) return "-";
  return fmt::format("{}.{:03}Z", text.data(), epoch_ms % 1000);
}

std::string Cell::text(Unit unit) const {
  if (std::holds_alternative<std::monostate>(value_)) return "-";
  if (const auto* text = std::get_if<std::string>(&value_)) return printable(*text);
  if (const auto* flag = std::get_if<bool>(&value_)) return *flag ? "yes" : "no";
  const auto* whole = std::get_if<std::int64_t>(&value_);
  const double number = whole != nullptr ? static_cast<double>(*whole) : std::get<double>(value_);
  switch (unit) {
    case Unit::kBytes: return human_bytes(number);
    case Unit::kDuration: return human_duration(number);
    case Unit::kPercent: return fmt::format("{:.1f}%", number);
    case Unit::kPerSecond: return human_count(number) + "/s";
    case Unit::kBytesPerSecond: return human_bytes(number) + "/s";
    case Unit::kTimeMs: return human_time(static_cast<std::int64_t>(number));
    case Unit::kText:
    case Unit::kCount: break;
  }
  return whole != nullptr ? std::to_string(*whole) : fmt::format("{:.1f}", number);
}

nlohmann::ordered_json Cell::json() const {
  return std::visit(
      [](const auto& value) -> nlohmann::ordered_json {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::monostate>) return nullptr;
        else return value;
      },
      value_);
}

void Table::add(std::vector<Cell> row) {
  THALWEG_ASSERT(row.size() == columns_.size());
  rows_.push_back(std::move(row));
}

Output Output::standard() {
  const bool is_terminal = ::isatty(STDOUT_FILENO) == 1;
  const char* no_colour = std::getenv("NO_COLOR");
  return Output{std::cout, std::cerr, {.is_json = false, .has_colour = is_terminal && (no_colour == nullptr || *no_colour == '\0'), .is_terminal = is_terminal}};
}

std::string Output::styled(std::string_view text, Style style) const {
  if (!options_.has_colour || style == Style::kPlain) return std::string{text};
  return fmt::format("{}{}\x1b[0m", escape_of(style), text);
}

void Output::print(const Table& table, std::string_view when_empty) {
  if (options_.is_json) {
    auto rows = nlohmann::ordered_json::array();
    for (const auto& row : table.rows_) {
      auto object = nlohmann::ordered_json::object();
      for (std::size_t i = 0; i < row.size(); ++i) object[std::string{table.columns_[i].key}] = row[i].json();
      rows.push_back(std::move(object));
    }
    document_[table.name_] = std::move(rows);
    return;
  }
  if (table.is_empty() && !when_empty.empty()) {
    line(when_empty);
    return;
  }
  std::vector<std::size_t> widths;
  for (const Column& column : table.columns_) widths.push_back(column.title.size());
  std::vector<std::vector<std::string>> texts;
  for (const auto& row : table.rows_) {
    std::vector<std::string>& line_texts = texts.emplace_back();
    for (std::size_t i = 0; i < row.size(); ++i) {
      line_texts.push_back(row[i].text(table.columns_[i].unit));
      widths[i] = std::max(widths[i], line_texts.back().size());
    }
  }
  const auto put_line = [&](auto&& text_of, auto&& style_of) {
    for (std::size_t i = 0; i < widths.size(); ++i) {
      const std::string_view text = text_of(i);
      const std::string padding(widths[i] - text.size(), ' ');
      const bool is_last = i + 1 == widths.size();
      const bool is_right = is_right_aligned(table.columns_[i].unit);
      out_ << (i == 0 ? "" : "  ") << (is_right ? padding : "") << styled(text, style_of(i)) << (is_right || is_last ? "" : padding);
    }
    out_ << '\n';
  };
  put_line([&](std::size_t i) { return table.columns_[i].title; }, [](std::size_t) { return Style::kBold; });
  for (std::size_t r = 0; r < texts.size(); ++r) {
    put_line([&](std::size_t i) { return std::string_view{texts[r][i]}; }, [&](std::size_t i) { return table.rows_[r][i].style(); });
  }
}

void Output::value(std::string_view key, std::string_view label, const Cell& cell, Unit unit) {
  if (options_.is_json) {
    document_[std::string{key}] = cell.json();
  } else {
    out_ << fmt::format("{:<18} {}\n", label, styled(cell.text(unit), cell.style()));
  }
}

void Output::line(std::string_view text, Style style) {
  if (!options_.is_json) out_ << styled(text, style) << '\n';
}

void Output::raw(std::string_view text) { out_ << text; }

void Output::note(std::string_view text) {
  if (!options_.is_json) err_ << text << '\n';
}

Exit Output::fail(std::string_view verb, const Error& error) {
  if (options_.is_json) {
    nlohmann::ordered_json body{{"verb", verb}, {"code", name_of(error.code)}, {"message", error.message}};
    if (!error.hint.empty()) body["hint"] = error.hint;
    err_ << nlohmann::ordered_json{{"error", std::move(body)}}.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
  } else {
    err_ << "thalweg " << verb << ": " << error.message << '\n';
    if (!error.hint.empty()) err_ << "  hint: " << error.hint << '\n';
  }
  return exit_of(error.code);
}

void Output::flush() {
  if (is_cutting_) out_ << "\x1b[?7h";
  is_cutting_ = false;
  if (options_.is_json && !document_.is_null()) {
    out_ << document_.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
    document_ = nullptr;
  }
  out_.flush();
}

void Output::begin_round() {
  if (options_.is_json || !options_.is_terminal) return;
  out_ << "\x1b[H\x1b[2J\x1b[?7l";  // home, erase; a line that is too long is cut: wrapped lines would push the round off the screen
  is_cutting_ = true;
}

}  // namespace thalweg::cli
