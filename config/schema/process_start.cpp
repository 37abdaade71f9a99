#include "config/schema/process_start.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>

namespace thalweg::config {

int report_failure(const std::string& name, const Error& error) {
  std::fprintf(stderr, "%s: error: %s\n", name.c_str(), error.message.c_str());
  if (!error.hint.empty()) std::fprintf(stderr, "%s: hint: %s\n", name.c_str(), error.hint.c_str());
  return kProcessFailed;
}

std::optional<ProcessStart> start_process(int argc, char** argv, const std::string& name, const std::string& purpose, int& exit_code) {
  std::string file;
  std::string directory;
  std::vector<std::string> set_flags;
  bool is_check = false;
  CLI::App app{purpose + "\n\nExample: " + name + " --config /etc/thalweg/thalweg.yaml"};
  app.add_option("--config", file, "YAML file; none = built-in defaults");
  app.add_option("--directory", directory, "Instance directory, over instance.directory of the file");
  app.add_option("--set", set_flags, "section.key=value, over the file and the environment");
  app.add_flag("--check", is_check, "Say whether this program could take over the instance that runs there, with this configuration; do nothing else");
  app.set_version_flag("--version", name + " " + THALWEG_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    exit_code = app.exit(error) == 0 ? kProcessOk : kProcessUsage;
    return std::nullopt;
  }
  auto loaded = load(file, make_overrides(set_flags));
  if (!loaded) {
    exit_code = report_failure(name, loaded.error());
    return std::nullopt;
  }
  for (const Diagnostic& diagnostic : loaded->errors) std::fprintf(stderr, "%s\n", diagnostic.to_string().c_str());
  if (!loaded->errors.empty()) {
    exit_code = kProcessFailed;
    return std::nullopt;
  }
  if (directory.empty()) directory = loaded->config.instance.directory;
  return ProcessStart{std::move(*loaded), std::move(directory), is_check};
}

int report_check(const std::string& name, const Result<void>& can_take_over) {
  if (!can_take_over) return report_failure(name, can_take_over.error());
  std::printf("%s %s can take over\n", name.c_str(), THALWEG_VERSION);
  return kProcessOk;
}

}  // namespace thalweg::config
