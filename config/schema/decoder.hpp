#pragma once
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
  std::set<std::string> failed;         // top-level sections with a mistake: rules between keys would only add noise there

  // A mistake found while decoding the map at `path`.
  void error(std::string_view path, const Place& place, std::string text);
  // An error at a key, or at the nearest enclosing one that is present in the file.
  void error_at(std::string_view path, std::string text);
  [[nodiscard]] bool has(const std::string& path) const { return places.count(path) != 0; }
  [[nodiscard]] bool is_clean(const std::string& section) const { return failed.count(section) == 0; }
};

// Decodes a tree into `config`, which holds the defaults. Keys that are wrong keep their default and are reported.
void decode_tree(const Node& root, Config& config, Findings& findings);

// Rules between keys (rules.cpp): names that exist, windows that fit, timeouts in order. Those of sections that
// did not decode are left out.
void check_rules(const Config& config, Findings& findings);

}  // namespace thalweg::config
