#pragma once
#include <vector>

#include "config/schema/config.hpp"
#include "pmd/port.hpp"

// From the decoded file to the plain structs that the data plane works with.
namespace thalweg::config {

// The ports of a valid configuration as pmd/ makes them, with a loopback port "loopback" (127.0.0.1/8) and a kernel port "kernel" behind
// them where the file lists none. Precondition: `config` came without errors from load_text() or load_file(). Any thread.
[[nodiscard]] std::vector<pmd::PortOptions> port_options(const Config& config);

}  // namespace thalweg::config
