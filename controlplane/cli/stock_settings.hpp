#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/schema/config.hpp"

// The settings of the stock driver's executable (wire-protocol 7, client-protocol 1.7, 2.3) in the words of our configuration. Pure but
// for read_properties(). A setting is known by its environment variable; the property of the same meaning is the name in lower case with dots.
namespace thalweg::cli {

struct StockSetting {
  std::string name;    // AERON_MTU_LENGTH
  std::string value;
  std::string origin;  // "environment AERON_MTU_LENGTH", "driver.properties:3", "-D aeron.mtu.length"; for messages
};

// AERON_* of name=value strings; variables of other families are left out, and so are those that applications read and not the driver.
[[nodiscard]] std::vector<StockSetting> stock_settings_of(const std::vector<std::string>& environment);
// The same of this process's environment.
[[nodiscard]] std::vector<StockSetting> stock_settings_of_environment();
// "aeron.mtu.length=1408" as the command line has it. kInvalidArgument: no '='.
[[nodiscard]] Result<StockSetting> stock_setting_of(std::string_view definition);
// The lines of a properties file: name=value, name:value or name value; '#' and '!' begin comments; a '\' at a line's end joins the next.
// `file` is for origins.
[[nodiscard]] std::vector<StockSetting> parse_properties(std::string_view text, const std::string& file);
// Errors: kNotFound, kPermission, kIo; kTooLarge beyond 1 MiB.
[[nodiscard]] Result<std::vector<StockSetting>> read_properties(const std::string& path);

struct StockTranslation {
  std::vector<config::Overrides::Setting> settings;
  std::vector<std::string> notes;         // settings that are unknown, or known and without effect here; each is told once
  std::vector<config::Diagnostic> errors; // values that cannot be read, and wishes that cannot be granted
  std::vector<config::FrameLoss> frame_losses;    // of every port: which there are, only the configuration knows
  bool prints_configuration{};
  bool warns_if_directory_exists{};
};

struct StockMachine {
  std::uint32_t cpu_count{1};             // that this process may use
  bool has_configuration{};               // a YAML file is given: its lanes count unless a setting asks for some
};

// Of several settings of one name the last counts.
[[nodiscard]] StockTranslation translate(const std::vector<StockSetting>& settings, const StockMachine& machine);

// One row of what is understood, for the reference page and the tests.
struct StockKey {
  std::string_view name;
  std::string_view path;    // of our configuration; "" = none of its own
  std::string_view remark;  // what is done instead, or why nothing is
  bool has_effect{};
};
[[nodiscard]] std::vector<StockKey> stock_keys();

}  // namespace thalweg::cli
