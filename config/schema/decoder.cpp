#include "config/schema/decoder.hpp"

#include <algorithm>

namespace thalweg::config {
namespace {

constexpr std::size_t kShownMax = 40;  // of a wrong value in a message

std::string shown(std::string_view text) {
  std::string out = "'";
  for (const char c : text.substr(0, kShownMax)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
  return out + (text.size() > kShownMax ? "...'" : "'");
}

std::string_view kind_name(Node::Kind kind) {
  switch (kind) {
    case Node::Kind::kNull: return "nothing";
    case Node::Kind::kScalar: return "a single value";
    case Node::Kind::kSequence: return "a list";
    case Node::Kind::kMap: break;
  }
  return "a map";
}

// Walks one YAML map against the keys a section names.
class NodeMap final : public Map {
 public:
  NodeMap(const Node& node, std::string path, Findings& findings) : node_{node}, path_{std::move(path)}, findings_{findings} {
    is_map_ = node.kind == Node::Kind::kMap;
    if (!is_map_ && node.kind != Node::Kind::kNull) {
      findings_.error(path_, node.place, "'" + title() + "' needs a map of keys; found " + std::string{kind_name(node.kind)});
    }
  }

  // Adds unknown and duplicate keys: what the file has and the section did not name.
  void finish() {
    std::set<std::string_view> seen;
    for (const Node::Entry& entry : node_.entries) {
      const bool is_duplicate = !seen.insert(entry.key).second;
      bool is_known = false;
      for (const std::string_view name : known_) is_known = is_known || name == entry.key;
      if (!is_known) {
        const std::string_view near = nearest_word(entry.key, known_);
        findings_.error(path_, entry.place, "unknown key " + shown(entry.key) + where() +
                                         (near.empty() ? std::string{} : "; did you mean '" + std::string{near} + "'?"));
      } else if (is_duplicate) {
        findings_.error(inner_path(entry.key), entry.place, "duplicate key '" + entry.key + "'" + where());
      }
    }
  }

 protected:
  void scalar(const Key& key, const Scalar& value) override {
    const Node::Entry* entry = take(key);
    if (entry == nullptr) return;
    const Node& node = entry->value;
    if (node.kind != Node::Kind::kScalar) {
      findings_.error(inner_path(key.name), node.kind == Node::Kind::kNull ? entry->place : node.place,
                      "'" + std::string{key.name} + "' needs " + describe_rule(value.rule) + "; found " + std::string{kind_name(node.kind)});
      return;
    }
    const auto parsed = parse_value(value.rule, node.text);
    if (parsed) {
      value.set(*parsed);
      return;
    }
    std::string text = "'" + std::string{key.name} + "' needs " + parsed.error().message + "; found " + shown(node.text);
    if (value.rule.form == Rule::Form::kChoice) {
      const std::string_view near = nearest_word(node.text, value.rule.words);
      if (!near.empty()) text += "; did you mean '" + std::string{near} + "'?";
    }
    findings_.error(inner_path(key.name), node.place, std::move(text));
  }

  void nested(const Key& key, const std::function<void(Map&)>& decode_inner) override {
    const Node::Entry* entry = take(key);
    static const Node kNothing;
    NodeMap inner{entry == nullptr ? kNothing : entry->value, inner_path(key.name), findings_};
    decode_inner(inner);
    inner.finish();
  }

  void sequence(const Key& key, const List& list) override {
    const Node::Entry* entry = take(key);
    if (entry == nullptr) return;
    const Node& node = entry->value;
    const bool is_word = node.kind == Node::Kind::kScalar && !list.empty_word.empty() && node.text == list.empty_word;
    if (node.kind != Node::Kind::kSequence && !is_word) {
      findings_.error(inner_path(key.name), node.kind == Node::Kind::kNull ? entry->place : node.place,
                      "'" + std::string{key.name} + "' needs a list" +
                          (list.empty_word.empty() ? std::string{} : " or '" + std::string{list.empty_word} + "'") + "; found " +
                          (node.kind == Node::Kind::kScalar ? shown(node.text) : std::string{kind_name(node.kind)}));
      return;
    }
    list.clear();
    for (std::size_t i = 0; i < node.items.size(); ++i) {
      list.append();
      const std::string item_path = inner_path(key.name) + "[" + std::to_string(i) + "]";
      findings_.places.emplace(item_path, node.items[i].place);
      if (list.decode_item) {
        NodeMap inner{node.items[i], item_path, findings_};
        list.decode_item(i, inner);
        inner.finish();
      } else if (node.items[i].kind == Node::Kind::kScalar) {
        list.text_item(i) = node.items[i].text;
      } else {
        findings_.error(item_path, node.items[i].place, "'" + std::string{key.name} + "' needs a list of texts; found " + std::string{kind_name(node.items[i].kind)});
      }
    }
  }

 private:
  [[nodiscard]] std::string title() const { return path_.empty() ? "the file" : path_; }
  [[nodiscard]] std::string where() const { return path_.empty() ? std::string{} : " in '" + path_ + "'"; }
  [[nodiscard]] std::string inner_path(std::string_view name) const { return path_.empty() ? std::string{name} : path_ + "." + std::string{name}; }

  // Notes that the section knows this key; its first entry in the file, nullptr when absent.
  const Node::Entry* take(const Key& key) {
    known_.push_back(key.name);
    for (const Node::Entry& entry : node_.entries) {
      if (entry.key != key.name) continue;
      findings_.places.emplace(inner_path(key.name), entry.value.place.source && entry.value.place.line != 0 ? entry.place : entry.value.place);
      return &entry;
    }
    if (key.is_required && is_map_) findings_.error(inner_path(key.name), node_.place, "'" + title() + "' needs the key '" + std::string{key.name} + "'");
    return nullptr;
  }

  const Node& node_;
  std::string path_;
  Findings& findings_;
  bool is_map_{};
  std::vector<std::string_view> known_;
};

}  // namespace

void Findings::error(std::string_view path, const Place& place, std::string text) {
  failed.emplace(path);
  errors.push_back({place.source ? *place.source : std::string{}, place.line, place.column, std::move(text)});
}

void Findings::error_at(std::string_view path, std::string text, std::initializer_list<std::string_view> others) {
  const bool reads_nothing_wrong = std::all_of(others.begin(), others.end(), [this](std::string_view other) { return is_sound(other); });
  if (!is_sound(path) || !reads_nothing_wrong) return;
  const Place* place = &root;
  for (std::string at{path}; !at.empty();) {
    if (const auto found = places.find(at); found != places.end()) {
      place = &found->second;
      break;
    }
    const std::size_t cut = at.find_last_of(".[");
    at.resize(cut == std::string::npos ? 0 : cut);
  }
  errors.push_back({place->source ? *place->source : std::string{}, place->line, place->column, std::move(text)});
}

void decode_tree(const Node& root, Config& config, Findings& findings) {
  findings.root = root.place;
  NodeMap map{root, "", findings};
  decode(map, config);
  map.finish();
}

}  // namespace thalweg::config
