#pragma once
#include <concepts>
#include <functional>
#include <optional>
#include <string_view>
#include <type_traits>
#include <vector>

#include "config/schema/config.hpp"
#include "config/schema/rule.hpp"

// How the sections say which keys they have: `decode(Map&, Section&)` names each key once with its rule, its paragraph of the manual and
// whether a running instance takes a change up. Decoder, printer, reference page and JSON Schema are the Map's that walk it.
namespace thalweg::config {

enum class Change : std::uint8_t { kRestart, kLive };  // when a changed value counts

class Map {
 public:
  struct Key {
    std::string_view name;
    std::string_view help;  // sentences for the manual
    bool is_required{};
    Change change{Change::kRestart};
  };
  struct Scalar {
    const Rule& rule;
    std::function<Value()> get;
    std::function<void(const Value&)> set;
  };
  struct List {
    std::string_view empty_word;  // "auto": the word that stands for the empty list; "" = none
    std::function<std::size_t()> size;
    std::function<void()> clear;
    std::function<void()> append;                              // an item of defaults
    std::function<void(std::size_t, Map&)> decode_item;        // of maps
    std::function<std::string&(std::size_t)> text_item;        // of plain texts; empty for a list of maps
  };

  virtual ~Map() = default;
  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;

  // A key with one value; the target's present value is the default.
  template <typename T>
  void optional(std::string_view name, T& target, const Rule& rule, std::string_view help, Change change = Change::kRestart) {
    scalar({name, help, false, change}, {rule, [&target, &rule] { return get(target, rule); },
                                         [&target, &rule](const Value& v) { set(target, rule, v); }});
  }
  template <typename T>
  void required(std::string_view name, T& target, const Rule& rule, std::string_view help) {
    scalar({name, help, true}, {rule, [&target, &rule] { return get(target, rule); },
                                [&target, &rule](const Value& v) { set(target, rule, v); }});
  }
  // A map inside this one; decode(Map&, T&) is found by its type.
  template <typename T>
  void section(std::string_view name, T& target, std::string_view help) {
    nested({name, help}, [&target](Map& inner) { decode(inner, target); });
  }
  // A list of maps. `empty_word` stands for the empty list in the file ("auto").
  template <typename T>
  void list(std::string_view name, std::vector<T>& target, std::string_view help, std::string_view empty_word = {}) {
    sequence({name, help}, {empty_word, [&target] { return target.size(); }, [&target] { target.clear(); }, [&target] { target.emplace_back(); },
                            [&target](std::size_t i, Map& inner) { decode(inner, target[i]); }, nullptr});
  }
  // A list of plain texts.
  void texts(std::string_view name, std::vector<std::string>& target, std::string_view help) {
    sequence({name, help}, {{}, [&target] { return target.size(); }, [&target] { target.clear(); }, [&target] { target.emplace_back(); },
                            nullptr, [&target](std::size_t i) -> std::string& { return target[i]; }});
  }

 protected:
  Map() = default;
  virtual void scalar(const Key& key, const Scalar& value) = 0;
  virtual void nested(const Key& key, const std::function<void(Map&)>& decode_inner) = 0;
  virtual void sequence(const Key& key, const List& list) = 0;

 private:
  template <typename T>
  static constexpr bool kIsOptional = std::is_same_v<T, std::optional<std::uint32_t>> || std::is_same_v<T, std::optional<std::int32_t>> ||
                                      std::is_same_v<T, std::optional<std::int64_t>>;
  template <typename T>
  static Value get(const T& target, const Rule& rule) {
    if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, double>) return Value{target};
    else if constexpr (std::is_enum_v<T> || std::is_integral_v<T>) return Value{static_cast<std::int64_t>(target)};
    else if constexpr (kIsOptional<T>) return target ? Value{std::int64_t{*target}} : Value{};
    else return text_value(target, rule);
  }
  template <typename T>
  static void set(T& target, const Rule& rule, const Value& value) {
    if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, double>) target = std::get<T>(value);
    else if constexpr (kIsOptional<T>) target = optional_number<typename T::value_type>(value);
    else if constexpr (std::is_same_v<T, std::string>) target = format_value(rule, value);
    else target = static_cast<T>(std::get<std::int64_t>(value));
  }
  template <typename T>
  static std::optional<T> optional_number(const Value& value) {
    const auto* const number = std::get_if<std::int64_t>(&value);
    return number != nullptr ? std::optional{static_cast<T>(*number)} : std::nullopt;
  }
  // A text whose rule is a choice travels as the index of its word, like an enumerator.
  static Value text_value(const std::string& text, const Rule& rule) {
    if (rule.form != Rule::Form::kChoice) return Value{text};
    const auto parsed = parse_value(rule, text);
    return parsed ? *parsed : Value{};
  }
};

// One per section, in sections.cpp.
void decode(Map& map, Config& c);
void decode(Map& map, Instance& c);
void decode(Map& map, Lane& c);
void decode(Map& map, Dataplane& c);
void decode(Map& map, FrameLoss& c);
void decode(Map& map, Impairment& c);
void decode(Map& map, Route& c);
void decode(Map& map, Port& c);
void decode(Map& map, Streams& c);
void decode(Map& map, Relay& c);
void decode(Map& map, Feed& c);
void decode(Map& map, ControlPlane& c);
void decode(Map& map, LogPool& c);
void decode(Map& map, Memory& c);
void decode(Map& map, Names& c);
void decode(Map& map, RecordingRetention& c);
void decode(Map& map, RecordedStream& c);
void decode(Map& map, Archive& c);
void decode(Map& map, Logging& c);

}  // namespace thalweg::config
