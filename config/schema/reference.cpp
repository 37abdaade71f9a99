#include "config/schema/reference.hpp"

#include <nlohmann/json.hpp>

#include "config/schema/map.hpp"

namespace thalweg::config {
namespace {

constexpr std::size_t kLineMax = 118;

std::string wrapped(std::string_view text, const std::string& prefix) {
  std::string out;
  std::string line = prefix;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    if (line.size() + (end - begin) + 1 > kLineMax && line.size() > prefix.size()) {
      out += line + "\n";
      line = prefix;
    }
    line += " " + std::string{text.substr(begin, end - begin)};
    begin = end + 1;
  }
  return out + line + "\n";
}

std::string placeholder(const Map::Key& key) { return "<" + std::string{key.name} + ">"; }

std::string default_text(const Map::Scalar& value) {
  const std::string text = format_value(value.rule, value.get());
  return text.empty() ? "\"\"" : text;
}

std::string_view change_word(Change change) { return change == Change::kLive ? "live" : "restart"; }

// The manual. Sections are separated by a blank line; an item of a list that is empty by default is shown commented out.
class ManualMap final : public Map {
 public:
  ManualMap(std::size_t depth, bool is_commented, std::string& out) : depth_{depth}, is_commented_{is_commented}, out_{out} {}
  void start_item() { is_first_of_item_ = true; }

 protected:
  void scalar(const Key& key, const Scalar& value) override {
    explain(key.help);
    out_ += wrapped("(" + std::string{key.is_required ? "required: " : ""} + describe_rule(value.rule) + "; " + std::string{change_word(key.change)} + ")",
                    comment());
    const bool is_absent = std::holds_alternative<std::monostate>(value.get());
    const std::string text = is_commented_ && (is_absent || key.is_required) ? placeholder(key) : default_text(value);
    put(std::string{key.name} + ": " + text);
  }
  void nested(const Key& key, const std::function<void(Map&)>& decode_inner) override {
    explain(key.help);
    put(std::string{key.name} + ":");
    ManualMap inner{depth_ + 1, is_commented_, out_};
    decode_inner(inner);
  }
  void sequence(const Key& key, const List& list) override {
    explain(key.help);
    if (list.text_item) return put(std::string{key.name} + ": []");
    const bool is_empty = list.size() == 0;
    const bool has_items = !is_empty || (is_commented_ && list.empty_word.empty());  // of a text to be uncommented as a whole
    put(std::string{key.name} + ":" + (has_items ? "" : list.empty_word.empty() ? " []" : " " + std::string{list.empty_word}));
    if (is_empty) list.append();  // of a configuration made for this walk
    for (std::size_t i = 0; i < (is_empty ? 1 : list.size()); ++i) {
      ManualMap inner{depth_ + 2, is_commented_ || is_empty, out_};
      inner.start_item();
      list.decode_item(i, inner);
    }
  }

 private:
  [[nodiscard]] std::string indent() const { return (is_commented_ ? "# " : "") + std::string(depth_ * 2, ' '); }
  void explain(std::string_view help) {
    if (depth_ <= 1) out_ += "\n";
    out_ += wrapped(help, comment());
  }
  [[nodiscard]] std::string comment() const { return indent() + "#"; }
  void put(const std::string& text) {
    std::string before = indent();
    if (is_first_of_item_) before[before.size() - 2] = '-';
    is_first_of_item_ = false;
    out_ += before + text + "\n";
  }

  std::size_t depth_;
  bool is_commented_;
  bool is_first_of_item_{};
  std::string& out_;
};

// One table a section; sections inside follow theirs.
class PageMap final : public Map {
 public:
  explicit PageMap(std::string path) : path_{std::move(path)} {}
  [[nodiscard]] std::string page(std::string_view help) const {
    std::string out = path_.empty() ? std::string{} : "## " + path_ + "\n\n" + std::string{help} + "\n\n";
    if (!rows_.empty()) out += "| key | what it may be | default | change | meaning |\n|---|---|---|---|---|\n" + rows_ + "\n";
    return out + inner_;
  }

 protected:
  void scalar(const Key& key, const Scalar& value) override {
    const std::string text = default_text(value);
    add(key, describe_rule(value.rule), key.is_required ? "required" : text == "\"\"" ? "empty" : "`" + text + "`");
  }
  void nested(const Key& key, const std::function<void(Map&)>& decode_inner) override {
    PageMap map{path(key)};
    decode_inner(map);
    inner_ += map.page(key.help);
  }
  void sequence(const Key& key, const List& list) override {
    if (list.text_item) return add(key, "a list of texts", "`[]`");
    const std::string empty = list.empty_word.empty() ? "`[]`" : "`" + std::string{list.empty_word} + "`";
    if (!path_.empty()) add(key, "a list, see `" + path(key) + "[]`", list.size() == 0 ? empty : "see there");
    if (list.size() == 0) list.append();
    PageMap map{path(key) + "[]"};
    list.decode_item(0, map);
    inner_ += map.page(key.help);
  }

 private:
  [[nodiscard]] std::string path(const Key& key) const { return path_.empty() ? std::string{key.name} : path_ + "." + std::string{key.name}; }
  void add(const Key& key, const std::string& needs, const std::string& by_default) {
    rows_ += "| `" + std::string{key.name} + "` | " + needs + " | " + by_default + " | " + std::string{change_word(key.change)} + " | " +
             std::string{key.help} + " |\n";
  }

  std::string path_;
  std::string rows_;
  std::string inner_;
};

using Json = nlohmann::ordered_json;

Json schema_of(const Rule& rule) {
  const auto quantity = [](std::string_view pattern) { return Json{{"type", {"string", "integer"}}, {"pattern", pattern}}; };
  switch (rule.form) {
    case Rule::Form::kBool: return {{"type", "boolean"}};
    case Rule::Form::kCount:
      if (rule.allows_empty) return {{"type", {"integer", "string"}}, {"pattern", "^(-?[0-9]+)?$"}, {"minimum", rule.min}, {"maximum", rule.max}};
      return {{"type", "integer"}, {"minimum", rule.allows_zero ? 0 : rule.min}, {"maximum", rule.max}};
    case Rule::Form::kSize: return quantity("^[0-9]+(B|KiB|MiB|GiB|k|m|g)?$");
    case Rule::Form::kDuration: return quantity("^([0-9.]+(ns|us|ms|s|m|h)|0)$");
    case Rule::Form::kBitRate: return quantity("^[0-9.]+(Gbit|Mbit|kbit)?$");
    case Rule::Form::kRatio: return {{"type", {"string", "number"}}, {"pattern", "^[0-9.]+%?$"}, {"minimum", 0}, {"maximum", 1}};
    case Rule::Form::kChoice: {
      Json words = Json::array();
      for (const std::string_view word : rule.words) words.push_back(word);
      return {{"enum", std::move(words)}};
    }
    case Rule::Form::kPath: return {{"type", "string"}, {"pattern", "^(/.*)?$"}};
    case Rule::Form::kName: return {{"type", "string"}, {"pattern", "^[A-Za-z0-9._-]{1,31}$"}};
    case Rule::Form::kSubnet: return {{"type", "string"}, {"pattern", "^([0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+/[0-9]+)?$"}};
    case Rule::Form::kAddress: return {{"type", "string"}, {"pattern", "^([0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+)?$"}};
    case Rule::Form::kSubnet6: return {{"type", "string"}, {"pattern", "^([0-9a-fA-F:.]+/[0-9]+)?$"}};
    case Rule::Form::kAddress6: return {{"type", "string"}, {"pattern", "^[0-9a-fA-F:.]*$"}};
    case Rule::Form::kMac: return {{"type", "string"}, {"pattern", "^(([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2})?$"}};
    case Rule::Form::kText: break;
  }
  return {{"type", "string"}};
}

Json default_json(const Map::Scalar& value) {
  const Value current = value.get();
  if (const auto* flag = std::get_if<bool>(&current)) return *flag;
  if (const auto* number = std::get_if<std::int64_t>(&current); number != nullptr && value.rule.form == Rule::Form::kCount) return *number;
  return format_value(value.rule, current);
}

class SchemaMap final : public Map {
 public:
  [[nodiscard]] Json take() {
    Json out{{"type", "object"}, {"additionalProperties", false}, {"properties", std::move(properties_)}};
    if (!required_.empty()) out["required"] = std::move(required_);
    return out;
  }

 protected:
  void scalar(const Key& key, const Scalar& value) override {
    Json schema = schema_of(value.rule);
    schema["description"] = key.help;
    if (key.is_required) required_.push_back(key.name);
    else if (!std::holds_alternative<std::monostate>(value.get())) schema["default"] = default_json(value);
    add(key, std::move(schema));
  }
  void nested(const Key& key, const std::function<void(Map&)>& decode_inner) override {
    SchemaMap map;
    decode_inner(map);
    Json schema = map.take();
    schema["description"] = key.help;
    add(key, std::move(schema));
  }
  void sequence(const Key& key, const List& list) override {
    Json schema{{"type", "array"}};
    if (list.text_item) {
      schema["items"] = {{"type", "string"}};
    } else {
      if (list.size() == 0) list.append();
      SchemaMap map;
      list.decode_item(0, map);
      schema["items"] = map.take();
    }
    if (!list.empty_word.empty()) schema = {{"anyOf", {Json{{"const", list.empty_word}}, std::move(schema)}}};
    schema["description"] = key.help;
    add(key, std::move(schema));
  }

 private:
  void add(const Key& key, Json schema) { properties_[std::string{key.name}] = std::move(schema); }

  Json properties_ = Json::object();
  Json required_ = Json::array();
};

}  // namespace

std::string default_yaml() {
  std::string out =
      "# Thalweg: every key of the configuration with its default. This file is valid as it is, on any machine; a file of yours needs only\n"
      "# the keys that differ. Sizes: 64KiB 1MiB 2GiB. Durations: 20us 100ms 5s 1m. Shares: 1% or 0.01. Bit rates: 100Mbit 2.5Gbit.\n"
      "# Environment and flags override a file: THALWEG_STREAMS_MTU=1376, --set streams.mtu=1376. `thalweg config check` finds mistakes,\n"
      "# `thalweg config show --effective` prints what counts and where it comes from. Generated from config/schema/sections.cpp.\n";
  Config config;
  ManualMap map{0, false, out};
  decode(map, config);
  return out;
}

std::string reference_page() {
  Config config;
  PageMap map{""};
  decode(map, config);
  return "# Configuration\n\nGenerated from `config/schema/sections.cpp`; `config/default.yaml` says the same as a file. *change*: whether a running "
         "instance takes a new value up (live) or needs a restart.\n\n" +
         map.page({});
}

std::string json_schema() {
  Config config;
  SchemaMap map;
  decode(map, config);
  Json schema{{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", "Thalweg configuration"}};
  schema.update(map.take());
  return schema.dump(1) + "\n";
}

}  // namespace thalweg::config
