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
};

// The configuration both processes will have. Errors: those of config::load(), kInvalidConfig with every mistake, one a line.
[[nodiscard]] Result<config::Loaded> load_configuration(const InstanceStart& start);

// Starts both processes, says when clients may come, and keeps them running until a signal or their own end. `config` is what
// load_configuration() answered for `start`. Single-threaded processes only.
[[nodiscard]] Exit run_instance(Context& context, const InstanceStart& start, const config::Config& config);

}  // namespace thalweg::cli
