#pragma once
#include <string>
#include <vector>

#include "config/schema/config.hpp"

// Configuration as text: YAML for people, settings for programs, and the generated reference.
namespace thalweg::config {

// One key of a loaded configuration, in the order of the manual.
struct SettingView {
  std::string path;    // "streams.mtu", "ports[0].impair.loss"
  std::string value;   // as the file would say it
  std::string origin;  // "default", "file.yaml:12", "environment THALWEG_...", "--set ..."
  bool is_given{};     // not a default
  bool is_live{};      // a running instance takes a change up
};
[[nodiscard]] std::vector<SettingView> settings_of(const Loaded& loaded);

// YAML that loads to the same configuration. `is_effective`: every key, with its origin in a comment; else only what is not a default.
[[nodiscard]] std::string to_yaml(const Loaded& loaded, bool is_effective);

struct Difference {
  std::string path;
  std::string before;  // "-": the key is not there
  std::string after;
  bool is_live{};
};
[[nodiscard]] std::vector<Difference> differences(const Loaded& before, const Loaded& after);

}  // namespace thalweg::config
