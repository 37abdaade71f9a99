// The generated reference is current, and every file we ship loads.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "config/schema/print.hpp"
#include "config/schema/reference.hpp"

namespace thalweg::config {
namespace {

const std::string kRoot = THALWEG_SOURCE_ROOT;

std::string read(const std::string& path) {
  std::ifstream file{path};
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

constexpr const char* kStale = "stale: run `ninja config-reference` in the build directory";

TEST(Reference, the_shipped_files_are_what_the_keys_generate) {
  EXPECT_EQ(read(kRoot + "/config/default.yaml"), default_yaml()) << kStale;
  EXPECT_EQ(read(kRoot + "/docs/reference/configuration.md"), reference_page()) << kStale;
  EXPECT_EQ(read(kRoot + "/config/schema/thalweg.schema.json"), json_schema()) << kStale;
}

TEST(Reference, the_manual_loads_unedited_and_equals_the_built_in_defaults) {
  const Loaded manual = load_text(read(kRoot + "/config/default.yaml"), "default.yaml");
  ASSERT_TRUE(manual.errors.empty()) << manual.errors.front().to_string();
  const auto changes = differences(Loaded{}, manual);
  EXPECT_TRUE(changes.empty()) << changes.front().path;
  for (const SettingView& setting : settings_of(manual)) EXPECT_TRUE(setting.is_given) << setting.path << " is missing from the manual";
}

TEST(Reference, every_key_has_a_paragraph_and_no_line_is_too_long) {
  std::istringstream lines{default_yaml()};
  std::string previous;
  for (std::string line; std::getline(lines, line); previous = line) {
    EXPECT_LE(line.size(), 140U);
    EXPECT_FALSE(line.ends_with(' ')) << line;
    if (line.empty() || line.front() == '#' || line.find_first_not_of(' ') == std::string::npos) continue;
    if (line[line.find_first_not_of(' ')] == '#') continue;
    EXPECT_NE(previous.find('#'), std::string::npos) << line << " has no paragraph above it";
  }
}

TEST(Reference, the_schema_is_json_with_every_section) {
  const auto schema = nlohmann::json::parse(json_schema());
  for (const char* section : {"instance", "dataplane", "ports", "streams", "control-plane", "memory", "logging"}) {
    EXPECT_TRUE(schema["properties"].contains(section)) << section;
  }
  EXPECT_EQ(schema["properties"]["ports"]["items"]["required"], (nlohmann::json{"name", "type"}));
}

TEST(Examples, all_load_without_a_mistake) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator{kRoot + "/config/examples"}) {
    const Loaded loaded = load_text(read(entry.path()), entry.path().filename());
    for (const Diagnostic& error : loaded.errors) ADD_FAILURE() << error.to_string();
    ++count;
  }
  EXPECT_GE(count, 6);
}

TEST(Examples, the_memif_pair_meets) {
  const Loaded a = load_text(read(kRoot + "/config/examples/memif-a.yaml"), "a");
  const Loaded b = load_text(read(kRoot + "/config/examples/memif-b.yaml"), "b");
  EXPECT_EQ(a.config.ports[0].socket, b.config.ports[0].socket);
  EXPECT_EQ(a.config.ports[0].id, b.config.ports[0].id);
  EXPECT_NE(a.config.ports[0].role, b.config.ports[0].role);
  EXPECT_NE(a.config.instance.directory, b.config.instance.directory);
}

TEST(Print, yaml_loads_to_the_same_configuration) {
  for (const char* name : {"nic-pair", "memif-b", "loopback"}) {
    const Loaded loaded = load_text(read(kRoot + "/config/examples/" + name + ".yaml"), name);
    for (const bool is_effective : {false, true}) {
      const Loaded again = load_text(to_yaml(loaded, is_effective), "again");
      EXPECT_TRUE(again.errors.empty()) << again.errors.front().to_string();
      EXPECT_TRUE(differences(loaded, again).empty());
    }
  }
}

TEST(Print, settings_carry_value_and_origin) {
  const Loaded loaded = load_text("streams:\n  mtu: 1376\ninstance: {group: \"a b: c\"}\n", "f.yaml", make_overrides({}, {"logging.level=warn"}));
  std::map<std::string, SettingView> settings;
  for (const SettingView& s : settings_of(loaded)) settings[s.path] = s;
  EXPECT_EQ(settings["streams.mtu"].value, "1376");
  EXPECT_EQ(settings["streams.mtu"].origin, "f.yaml:2");
  EXPECT_EQ(settings["instance.group"].value, "\"a b: c\"");
  EXPECT_EQ(settings["instance.group"].origin, "f.yaml:3");
  EXPECT_EQ(settings["logging.level"].origin, "--set logging.level");
  EXPECT_EQ(settings["streams.linger"].value, "5s");
  EXPECT_EQ(settings["streams.linger"].origin, "default");
  EXPECT_EQ(to_yaml(loaded, false), "instance:\n  group: \"a b: c\"\nstreams:\n  mtu: 1376\nlogging:\n  level: warn\n");
}

TEST(Print, differences_are_named_by_path) {
  const Loaded before = load_text("ports: [{name: k, type: kernel}]\n", "a");
  const Loaded after = load_text("streams: {mtu: 1376}\nports: []\n", "b");
  const auto changes = differences(before, after);
  const auto find = [&](const std::string& path) {
    return std::find_if(changes.begin(), changes.end(), [&](const Difference& d) { return d.path == path; });
  };
  ASSERT_NE(find("streams.mtu"), changes.end());
  EXPECT_EQ(find("streams.mtu")->before, "1408");
  EXPECT_EQ(find("streams.mtu")->after, "1376");
  ASSERT_NE(find("ports[0].name"), changes.end());
  EXPECT_EQ(find("ports[0].name")->after, "-");
}

}  // namespace
}  // namespace thalweg::config
