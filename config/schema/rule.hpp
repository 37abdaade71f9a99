#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "dataplane/base/result.hpp"

// What a scalar of the configuration may be: one description that decodes, prints, documents and checks it.
namespace thalweg::config {

// A decoded scalar. monostate: an optional value that is absent. Choices are their index into Rule::words.
using Value = std::variant<std::monostate, bool, std::int64_t, double, std::string>;

struct Rule {
  enum class Form : std::uint8_t { kText, kName, kPath, kBool, kCount, kSize, kDuration, kRatio, kBitRate, kChoice, kAddress, kSubnet, kAddress6, kSubnet6, kMac };
  Form form{Form::kText};
  std::int64_t min{0};
  std::int64_t max{std::numeric_limits<std::int64_t>::max()};
  std::int64_t multiple{1};
  bool is_power_of_two{};
  bool allows_empty{};                  // "" stands for an optional value that is absent
  bool allows_zero{};                   // 0 is outside [min, max] and still right: "off", "none" or "computed"
  std::vector<std::string_view> words;  // kChoice, in the order of the enumerators or of the texts
};

namespace rule {
[[nodiscard]] Rule text();
[[nodiscard]] Rule name();      // letters, digits, '-', '_', '.'; at most 31 characters
[[nodiscard]] Rule path();      // "" or absolute
[[nodiscard]] Rule flag();      // true false
[[nodiscard]] Rule count(std::int64_t min, std::int64_t max);
[[nodiscard]] Rule size(std::int64_t min, std::int64_t max, std::int64_t multiple = 1);
[[nodiscard]] Rule power_of_two(std::int64_t min, std::int64_t max);
[[nodiscard]] Rule duration(std::int64_t min_ns, std::int64_t max_ns);
[[nodiscard]] Rule ratio();     // 0..1 or 0%..100%
[[nodiscard]] Rule bit_rate();  // 100Mbit, 2.5Gbit, 0 = unlimited
[[nodiscard]] Rule choice(std::vector<std::string_view> words);
[[nodiscard]] Rule address();   // a.b.c.d or ""
[[nodiscard]] Rule subnet();    // a.b.c.d/prefix or ""
[[nodiscard]] Rule address6();  // an IPv6 address or ""
[[nodiscard]] Rule subnet6();   // the same with /prefix
[[nodiscard]] Rule mac();       // aa:bb:cc:dd:ee:ff or ""
[[nodiscard]] Rule zero_or(Rule rule);
[[nodiscard]] Rule empty_or(Rule rule);
}  // namespace rule

// Decodes `text`; the error message says what is needed ("a size from 64KiB to 1GiB, a power of two"), not what was found.
[[nodiscard]] Result<Value> parse_value(const Rule& rule, std::string_view text);
// The shortest text that parse_value() reads back as `value`; "" for an absent one.
[[nodiscard]] std::string format_value(const Rule& rule, const Value& value);
// "size, 64KiB to 1GiB, a power of two": what the operator may write, for messages and the reference page.
[[nodiscard]] std::string describe_rule(const Rule& rule);

// The candidate nearest to a mistyped word, "" when none is near (at most a third of its letters differ).
[[nodiscard]] std::string_view nearest_word(std::string_view word, const std::vector<std::string_view>& candidates);
// The same for owned strings.
[[nodiscard]] std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace thalweg::config
