#include "config/schema/print.hpp"

#include <algorithm>

#include "config/schema/map.hpp"

namespace thalweg::config {
namespace {

// A scalar as YAML: quoted when a plain one would be read as something else.
std::string quoted(const std::string& text) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' || c == '/' || c == '%';
  };
  const bool is_word = !text.empty() && std::all_of(text.begin(), text.end(), is_plain) && text.front() != '-' && text.front() != '%' && text != "null";
  const bool is_negative = text.size() > 1 && text.front() == '-' && std::all_of(text.begin() + 1, text.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (is_word || is_negative) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

// Walks a configuration and notes every key as the file would say it.
class SettingsMap final : public Map {
 public:
  SettingsMap(const Loaded& loaded, std::string path, std::vector<SettingView>& out) : loaded_{loaded}, path_{std::move(path)}, out_{out} {}

 protected:
  void scalar(const Key& key, const Scalar& value) override {
    const Value current = value.get();
    if (!std::holds_alternative<std::monostate>(current)) add(key, quoted(format_value(value.rule, current)));
  }
  void nested(const Key& key, const std::function<void(Map&)>& decode_inner) override {
    SettingsMap inner{loaded_, path(key), out_};
    decode_inner(inner);
  }
  void sequence(const Key& key, const List& list) override {
    const std::size_t size = list.size();
    if (size == 0) return add(key, list.empty_word.empty() ? "[]" : std::string{list.empty_word});
    if (list.text_item) {
      std::string text;
      for (std::size_t i = 0; i < size; ++i) text += (i == 0 ? "[" : ", ") + quoted(list.text_item(i));
      return add(key, text + "]");
    }
    for (std::size_t i = 0; i < size; ++i) {
      SettingsMap inner{loaded_, path(key) + "[" + std::to_string(i) + "]", out_};
      list.decode_item(i, inner);
    }
  }

 private:
  [[nodiscard]] std::string path(const Key& key) const { return path_.empty() ? std::string{key.name} : path_ + "." + std::string{key.name}; }
  void add(const Key& key, std::string value) {
    const std::string at = path(key);
    const auto origin = loaded_.origins.find(at);
    const bool is_given = origin != loaded_.origins.end();
    out_.push_back({at, std::move(value), is_given ? origin->second : "default", is_given, key.change == Change::kLive});
  }

  const Loaded& loaded_;
  std::string path_;
  std::vector<SettingView>& out_;
};

// "ports[0].impair.loss" -> depth-aware YAML lines. Settings come in the order of the tree, so a path's parents are opened once.
class YamlLines {
 public:
  void add(const SettingView& setting, bool has_origin) {
    std::size_t common = 0;
    const auto parts = split(setting.path);
    while (common < open_.size() && common + 1 < parts.size() && open_[common] == parts[common]) ++common;
    open_.resize(common);
    for (std::size_t i = common; i + 1 < parts.size(); ++i) {
      if (!parts[i].starts_with("[")) line(open_.size(), parts[i] + ":");
      open_.push_back(parts[i]);
      if (parts[i].starts_with("[")) is_first_of_item_ = true;
    }
    std::string text = parts.back() + ": " + setting.value;
    if (has_origin) text += std::string(text.size() < 40 ? 40 - text.size() : 1, ' ') + "# " + setting.origin;
    line(open_.size(), text);
  }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  static std::vector<std::string> split(const std::string& path) {
    std::vector<std::string> parts{""};
    for (const char c : path) {
      if (c == '.' || c == '[') parts.emplace_back();
      if (c != '.') parts.back() += c;
    }
    return parts;
  }
  void line(std::size_t depth, const std::string& text) {
    std::string indent(depth * 2, ' ');
    if (is_first_of_item_) indent.replace(indent.size() - 2, 1, "-");
    is_first_of_item_ = false;
    text_ += indent + text + "\n";
  }

  std::string text_;
  std::vector<std::string> open_;
  bool is_first_of_item_{};
};

}  // namespace

std::vector<SettingView> settings_of(const Loaded& loaded) {
  std::vector<SettingView> out;
  Config config = loaded.config;  // decode() takes a mutable section; nothing is written here
  SettingsMap map{loaded, "", out};
  decode(map, config);
  return out;
}

std::string to_yaml(const Loaded& loaded, bool is_effective) {
  YamlLines lines;
  for (const SettingView& setting : settings_of(loaded)) {
    if (is_effective || setting.is_given) lines.add(setting, is_effective);
  }
  return lines.take();
}

std::vector<Difference> differences(const Loaded& before, const Loaded& after) {
  const auto old_settings = settings_of(before);
  const auto new_settings = settings_of(after);
  const auto find = [](const std::vector<SettingView>& settings, const std::string& path) {
    return std::find_if(settings.begin(), settings.end(), [&](const SettingView& s) { return s.path == path; });
  };
  std::vector<Difference> out;
  for (const SettingView& setting : old_settings) {
    const auto other = find(new_settings, setting.path);
    if (other == new_settings.end()) out.push_back({setting.path, setting.value, "-", setting.is_live});
    else if (other->value != setting.value) out.push_back({setting.path, setting.value, other->value, setting.is_live});
  }
  for (const SettingView& setting : new_settings) {
    if (find(old_settings, setting.path) == old_settings.end()) out.push_back({setting.path, "-", setting.value, setting.is_live});
  }
  return out;
}

}  // namespace thalweg::config
