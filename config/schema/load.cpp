#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <memory>

#include "config/schema/config.hpp"
#include "config/schema/decoder.hpp"

namespace thalweg::config {
namespace {

constexpr std::string_view kVariablePrefix = "THALWEG_";

// "control-plane" -> "CONTROL_PLANE".
std::string as_variable(std::string_view key) {
  std::string out;
  for (const char c : key) out += c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return out;
}
std::string as_key(std::string_view variable) {
  std::string out;
  for (const char c : variable) out += c == '_' ? '-' : static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

// Names of the top level's sections and lists.
class SectionNames final : public Map {
 public:
  std::vector<std::string_view> names;

 protected:
  void scalar(const Key&, const Scalar&) override {}
  void nested(const Key& key, const std::function<void(Map&)>&) override { names.push_back(key.name); }
  void sequence(const Key& key, const List&) override { names.push_back(key.name); }
};
const std::vector<std::string_view>& section_names() {
  static const std::vector<std::string_view> kNames = [] {
    SectionNames map;
    Config config;
    decode(map, config);
    return map.names;
  }();
  return kNames;
}

// THALWEG_STREAMS_MTU=1408 -> streams.mtu. Nothing for variables that start with no section's name (other tools may have their own).
bool read_variable(std::string_view variable, Overrides::Setting& setting) {
  const std::size_t equals = variable.find('=');
  if (!variable.starts_with(kVariablePrefix) || equals == std::string_view::npos) return false;
  const std::string_view name = variable.substr(kVariablePrefix.size(), equals - kVariablePrefix.size());
  for (const std::string_view section : section_names()) {
    const std::string upper = as_variable(section);
    if (!name.starts_with(upper) || (name.size() > upper.size() && name[upper.size()] != '_')) continue;
    setting.path = std::string{section} + (name.size() > upper.size() + 1 ? "." + as_key(name.substr(upper.size() + 1)) : "");
    setting.value = variable.substr(equals + 1);
    setting.origin = "environment " + std::string{variable.substr(0, equals)};
    return true;
  }
  return false;
}

std::vector<std::string_view> split_path(std::string_view path) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    parts.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// The list item called `name`, or the one of that number; nullptr if there is none.
Node* find_item(Node& list, std::string_view name) {
  for (Node& item : list.items) {
    const Node* item_name = item.find("name");
    if (item_name != nullptr && item_name->text == name) return &item;
  }
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    if (std::to_string(i) == name) return &list.items[i];
  }
  return nullptr;
}

// Puts the setting's value into the tree, making the maps on its way. What the path names is checked by decoding afterwards.
void apply(Node& root, const Overrides::Setting& setting, std::vector<Diagnostic>& errors) {
  const auto refuse = [&](std::string text) { errors.push_back({setting.origin, 0, 0, std::move(text)}); };
  if (setting.path.empty()) return refuse("needs section.key=value");
  const auto parts = split_path(setting.path);
  if (parts.size() > static_cast<std::size_t>(kDepthMax)) return refuse("nested too deep");
  const std::size_t errors_before = errors.size();
  Node value = parse_document(setting.value, setting.origin, errors, true);
  if (errors.size() != errors_before) return;
  const Place place{std::make_shared<const std::string>(setting.origin), 0, 0};
  value.place = place;
  if (value.kind == Node::Kind::kNull) value.kind = Node::Kind::kScalar;  // an empty text is a value here: `instance.group=`
  Node* at = &root;
  for (const std::string_view part : parts) {
    if (part.empty()) return refuse("'" + setting.path + "' is not a path such as streams.mtu");
    if (at->kind == Node::Kind::kSequence) {
      at = find_item(*at, part);
      if (at == nullptr) return refuse("'" + setting.path + "': the list has no item '" + std::string{part} + "'");
      continue;
    }
    if (at->kind == Node::Kind::kNull) at->kind = Node::Kind::kMap;
    if (at->kind != Node::Kind::kMap) return refuse("'" + setting.path + "': '" + std::string{part} + "' is not a key of a map");
    if (at->find(part) == nullptr) at->entries.push_back({std::string{part}, place, Node{Node::Kind::kNull, place, {}, {}, {}}});
    at = at->find(part);
  }
  *at = std::move(value);
}

Loaded decode_with_overrides(Node root, std::vector<Diagnostic> errors, const Overrides& overrides) {
  for (const auto* settings : {&overrides.environment, &overrides.flags}) {
    for (const Overrides::Setting& setting : *settings) apply(root, setting, errors);
  }
  Loaded loaded;
  Findings findings;
  findings.errors = std::move(errors);
  decode_tree(root, loaded.config, findings);
  check_rules(loaded.config, findings);
  const auto place = [](const Diagnostic& d) { return std::pair{d.line == 0, std::pair{d.line, d.column}}; };  // the file's, then overrides
  std::stable_sort(findings.errors.begin(), findings.errors.end(), [&](const auto& a, const auto& b) { return place(a) < place(b); });
  loaded.errors = std::move(findings.errors);
  for (const auto& [path, at] : findings.places) {
    loaded.origins.emplace(path, at.line == 0 ? *at.source : *at.source + ":" + std::to_string(at.line));
  }
  return loaded;
}

Result<std::string> read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file{std::fopen(path.c_str(), "rbe"), &std::fclose};
  if (!file) {
    const int saved = errno;
    const ErrorCode code = saved == ENOENT ? ErrorCode::kNotFound : saved == EACCES ? ErrorCode::kPermission : ErrorCode::kIo;
    return fail_errno(code, "read " + path, saved, "name the configuration with --config <file>");
  }
  std::string text;
  char buffer[16'384];
  while (text.size() <= kTextBytesMax) {
    const std::size_t read = std::fread(buffer, 1, sizeof buffer, file.get());
    text.append(buffer, read);
    if (read == sizeof buffer) continue;
    if (std::ferror(file.get()) != 0) return fail_errno(ErrorCode::kIo, "read " + path, errno);
    break;
  }
  return text;
}

std::string all_of(const std::vector<Diagnostic>& errors) {
  std::string text;
  for (const Diagnostic& error : errors) text += (text.empty() ? "" : "\n") + error.to_string();
  return text;
}

}  // namespace

Overrides make_overrides(const std::vector<std::string>& environment, const std::vector<std::string>& set_flags) {
  Overrides overrides;
  for (const std::string& variable : environment) {
    if (Overrides::Setting setting; read_variable(variable, setting)) overrides.environment.push_back(std::move(setting));
  }
  std::sort(overrides.environment.begin(), overrides.environment.end(), [](const auto& a, const auto& b) { return a.origin < b.origin; });
  for (const std::string& flag : set_flags) {
    const std::size_t equals = flag.find('=');
    if (equals == std::string::npos) overrides.flags.push_back({"", "", "--set " + flag});
    else overrides.flags.push_back({flag.substr(0, equals), flag.substr(equals + 1), "--set " + flag.substr(0, equals)});
  }
  return overrides;
}

Overrides make_overrides(const std::vector<std::string>& set_flags) {
  std::vector<std::string> environment;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) environment.emplace_back(*variable);
  return make_overrides(environment, set_flags);
}

Loaded load_text(const std::string& text, const std::string& file, const Overrides& overrides) {
  try {
    std::vector<Diagnostic> errors;
    Node root = parse_document(text, file, errors);
    if (errors.empty()) return decode_with_overrides(std::move(root), std::move(errors), overrides);
    Loaded loaded;  // a file that is not YAML: its keys would only add noise
    loaded.errors = std::move(errors);
    return loaded;
  } catch (const std::exception& e) {  // out of memory; nothing else here throws
    Loaded loaded;
    loaded.errors.push_back({file, 1, 1, std::string{"cannot be decoded: "} + e.what()});
    return loaded;
  }
}

Result<Loaded> load(const std::string& path, const Overrides& overrides) {
  if (path.empty()) return load_text("", "built-in defaults", overrides);
  auto text = read_file(path);
  if (!text) return tl::unexpected{std::move(text.error())};
  return load_text(*text, path, overrides);
}

Result<Config> load_file(const std::string& path, const std::vector<std::string>& set_flags) {
  auto loaded = load(path, make_overrides(set_flags));
  if (!loaded) return tl::unexpected{std::move(loaded.error())};
  if (!loaded->errors.empty()) return fail(ErrorCode::kInvalidConfig, all_of(loaded->errors), "thalweg config check prints the same for a file");
  return std::move(loaded->config);
}

}  // namespace thalweg::config
