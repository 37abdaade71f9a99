#pragma once
#include <optional>
#include <string>

#include "config/schema/config.hpp"

// How thalweg-dataplane and thalweg-controlplane begin: the same arguments, the same configuration, the same words for what is wrong.
namespace thalweg::config {

enum ProcessExit : int {
  kProcessOk = 0,
  kProcessFailed = 1,
  kProcessUsage = 2,
  kProcessRestart = 75,         // asked to end so that another takes over: to be started again at once (EX_TEMPFAIL)
};

struct ProcessStart {
  Loaded loaded;                // without errors
  std::string directory;        // of the instance; "" = the stock default
  bool is_check{};              // only to say whether this program can take the instance over: report_check()
};

// Parses --config, --directory, --set, --check, --help and --version, then loads the configuration. nullopt: answered already on stdout or stderr
// (help, version, usage, every mistake of the configuration) and `exit_code` says how. `purpose` is the help page's first line.
[[nodiscard]] std::optional<ProcessStart> start_process(int argc, char** argv, const std::string& name, const std::string& purpose, int& exit_code);

// What --check found out: that program `name` can take the instance over on stdout, or why not on stderr. Answers the exit code.
int report_check(const std::string& name, const Result<void>& can_take_over);

// "NAME: error: ..." and "NAME: hint: ..." on stderr. Answers kProcessFailed.
int report_failure(const std::string& name, const Error& error);

}  // namespace thalweg::config
