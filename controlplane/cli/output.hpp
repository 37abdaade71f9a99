#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "dataplane/base/result.hpp"

// What verbs print. The same calls make a table for people and JSON for programs: JSON carries raw units (bytes, ns) and stable
// snake_case fields, people get aligned columns, KiB and ms, and colour on a terminal only.
namespace thalweg::cli {

// Exit codes of the command; scripts rely on them.
enum class Exit : int { kOk = 0, kFailed = 1, kUsage = 2, kUnreachable = 3, kProblems = 4, kTimeout = 5 };

[[nodiscard]] Exit exit_of(ErrorCode code) noexcept;
[[nodiscard]] std::string_view name_of(ErrorCode code) noexcept;  // "unreachable", "invalid_config": the `code` field of JSON errors

enum class Unit : std::uint8_t { kText, kCount, kBytes, kDuration, kPercent, kPerSecond, kBytesPerSecond, kTimeMs };  // kTimeMs: ms since 1970
enum class Style : std::uint8_t { kPlain, kGood, kWarn, kBad, kFaint, kBold };

// One value: raw for JSON, formatted by its column's unit for people. An absent one is `null` and "-".
class Cell {
 public:
  Cell() = default;
  Cell(bool value) : value_{value} {}                              // NOLINT(google-explicit-constructor): rows are lists of plain values
  Cell(double value) : value_{value} {}                            // NOLINT(google-explicit-constructor)
  Cell(std::string value) : value_{std::move(value)} {}            // NOLINT(google-explicit-constructor)
  Cell(std::string_view value) : value_{std::string{value}} {}     // NOLINT(google-explicit-constructor)
  Cell(const char* value) : value_{std::string{value}} {}          // NOLINT(google-explicit-constructor)
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  Cell(T value) : value_{static_cast<std::int64_t>(value)} {}      // NOLINT(google-explicit-constructor)
  [[nodiscard]] Cell styled(Style style) && {
    style_ = style;
    return std::move(*this);
  }
  [[nodiscard]] std::string text(Unit unit) const;
  [[nodiscard]] nlohmann::ordered_json json() const;
  [[nodiscard]] Style style() const noexcept { return style_; }

 private:
  std::variant<std::monostate, bool, std::int64_t, double, std::string> value_;
  Style style_{Style::kPlain};
};

struct Column {
  std::string_view key;    // JSON field
  std::string_view title;  // table heading
  Unit unit{Unit::kText};  // texts are left-aligned, everything else right-aligned
};

// Rows of one kind. JSON: an array of objects under `name`.
class Table {
 public:
  Table(std::string_view name, std::vector<Column> columns) : name_{name}, columns_{std::move(columns)} {}
  void add(std::vector<Cell> row);  // precondition: one cell per column
  [[nodiscard]] bool is_empty() const noexcept { return rows_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return rows_.size(); }

 private:
  friend class Output;
  std::string name_;
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

// Where results (`out`) and everything else (`err`) go. Not thread safe.
class Output {
 public:
  struct Options {
    bool is_json{};
    bool has_colour{};
    bool is_terminal{};
  };
  Output(std::ostream& out, std::ostream& err, Options options) : out_{out}, err_{err}, options_{options} {}
  // Standard output and error; colour when standard output is a terminal and NO_COLOR is not set.
  [[nodiscard]] static Output standard();

  void set_json(bool is_json) noexcept { options_.is_json = is_json; }
  [[nodiscard]] bool is_json() const noexcept { return options_.is_json; }
  [[nodiscard]] bool is_terminal() const noexcept { return options_.is_terminal; }

  // Prints a table, or puts it into the JSON document. `when_empty` is what people read instead of an empty table.
  void print(const Table& table, std::string_view when_empty = {});
  // One named value: "label  value", or a field of the JSON document.
  void value(std::string_view key, std::string_view label, const Cell& cell, Unit unit = Unit::kText);
  // A line for people only, on standard output.
  void line(std::string_view text, Style style = Style::kPlain);
  // Text that is the result itself (YAML, completion scripts), printed as it is in both modes.
  void raw(std::string_view text);
  // A remark on standard error; JSON mode keeps quiet.
  void note(std::string_view text);
  // Reports an error in the chosen form on standard error; returns the exit code that belongs to it.
  [[nodiscard]] Exit fail(std::string_view verb, const Error& error);

  // Ends one answer: JSON is written here, one document a line. A watched verb calls it once per round.
  void flush();
  // Something that was printed could not be written: a full disk, a closed descriptor.
  [[nodiscard]] bool has_failed() const { return out_.fail(); }
  // Starts a round of a watched verb: on a terminal the screen is drawn anew.
  void begin_round();

  [[nodiscard]] nlohmann::ordered_json& document() noexcept { return document_; }

 private:
  [[nodiscard]] std::string styled(std::string_view text, Style style) const;

  std::ostream& out_;
  std::ostream& err_;
  Options options_;
  nlohmann::ordered_json document_;
  bool is_cutting_{};  // the terminal cuts lines that are too long, until the next flush()
};

// Rounded for people: 1536 -> "1.5KiB", 1'500'000 ns -> "1.5ms", 12'345'678 -> "12.3M".
[[nodiscard]] std::string human_bytes(double bytes);
[[nodiscard]] std::string human_duration(double ns);
[[nodiscard]] std::string human_count(double count);
[[nodiscard]] std::string human_time(std::int64_t epoch_ms);  // 2026-11-21T14:03:05.123Z

}  // namespace thalweg::cli
