#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "config/schema/config.hpp"
#include "controlplane/cli/cli.hpp"
#include "dataplane/base/time.hpp"

// An instance in the foreground: what `up` and `media-driver` do once they know what is wanted.
namespace thalweg::cli {

struct InstanceStart {
  std::string_view verb;                             // for messages
  std::string config;                                // configuration file; "" = none
  std::vector<config::Overrides::Setting> settings;  // over the file and THALWEG_* variables; a later one counts
  std::int64_t ready_timeout_ns{60 * kSecond_ns};
  bool is_check{};                                   // only to say whether this program could supervise such an instance
};

// From one program of a supervisor to the next, in the environment: a time, and what it has to know of its children. No THALWEG_* variable: those are
// configuration.
inline constexpr const char* kChildrenVariable = "_THALWEG_CHILDREN";

// This process ran an older program a moment ago, and its children are ours: what a start says was said.
[[nodiscard]] bool is_successor();

// The configuration both processes will have. Errors: those of config::load(), kInvalidConfig with every mistake, one a line.
[[nodiscard]] Result<config::Loaded> load_configuration(const InstanceStart& start);

// Starts both processes, says when clients may come, and keeps them running until a signal or their own end. `config` is what
// load_configuration() answered for `start`. SIGUSR2 replaces this program by the one that is installed under its name then, with the same arguments,
// and leaves both processes alone. Single-threaded processes only.
[[nodiscard]] Exit run_instance(Context& context, const InstanceStart& start, const config::Config& config);

}  // namespace thalweg::cli
