#pragma once
#include <functional>
#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/schema/document.hpp"
#include "config/schema/map.hpp"

namespace thalweg::config {

// What decoding found: where each key stood, and every mistake.
struct Findings {
  std::vector<Diagnostic> errors;
  std::map<std::string, Place> places;  // dotted path of each key present; lists as "ports[0].name"
  Place root;
  std::set<std::string, std::less<>> failed;  // paths of keys that did not decode, and of maps with keys that nobody knows

  // The key at `path` did not decode, or the map there has a key too many.
  void error(std::string_view path, const Place& place, std::string text);
  // A broken rule between keys, at the one of `path` or at the nearest enclosing one that is present in the file. Left out when that key or
  // one of `others`, which the rule reads too, did not decode: the default in its place would only add noise.
  void error_at(std::string_view path, std::string text, std::initializer_list<std::string_view> others = {});
  [[nodiscard]] bool has(const std::string& path) const { return places.count(path) != 0; }
  [[nodiscard]] bool is_sound(std::string_view path) const { return failed.count(path) == 0; }
};

// Decodes a tree into `config`, which holds the defaults. Keys that are wrong keep their default and are reported.
void decode_tree(const Node& root, Config& config, Findings& findings);

// Rules between keys (rules.cpp): names that exist, windows that fit, timeouts in order. Those that read a key that
// did not decode are left out.
void check_rules(const Config& config, Findings& findings);

}  // namespace thalweg::config
