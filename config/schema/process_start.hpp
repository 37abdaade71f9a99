#pragma once
#include <optional>
#include <string>

#include "config/schema/config.hpp"

// How thalweg-dataplane and thalweg-controlplane begin: the same arguments, the same configuration, the same words for what is wrong.
namespace thalweg::config {

enum ProcessExit : int { kProcessOk = 0, kProcessFailed = 1, kProcessUsage = 2 };

struct ProcessStart {
  Loaded loaded;                // without errors
  std::string directory;        // of the instance; "" = the stock default
};

// Parses --config, --directory, --set, --help and --version, then loads the configuration. nullopt: answered already on stdout or stderr
// (help, version, usage, every mistake of the configuration) and `exit_code` says how. `purpose` is the help page's first line.
[[nodiscard]] std::optional<ProcessStart> start_process(int argc, char** argv, const std::string& name, const std::string& purpose, int& exit_code);

// "NAME: error: ..." and "NAME: hint: ..." on stderr. Answers kProcessFailed.
int report_failure(const std::string& name, const Error& error);

}  // namespace thalweg::config
