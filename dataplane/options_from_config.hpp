#pragma once
#include <cstdint>
#include <string>

#include "config/schema/config.hpp"
#include "dataplane/core/options.hpp"
#include "pmd/eal.hpp"

// From the decoded file to the plain structs that core and pmd work with. Pure; any thread.
namespace thalweg {

// Precondition: `config` came without errors from config::load().
[[nodiscard]] core::DataplaneOptions dataplane_options(const config::Config& config, const std::string& directory);

// Memory, devices and hugepages for these options.
[[nodiscard]] pmd::EalOptions eal_options(const config::Config& config, const core::DataplaneOptions& options);

}  // namespace thalweg
