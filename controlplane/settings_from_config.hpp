#pragma once
#include "config/schema/config.hpp"
#include "controlplane/archive/settings.hpp"
#include "controlplane/conductor/settings.hpp"
#include "controlplane/host/instance_directory.hpp"
#include "controlplane/host/log_store.hpp"

// From the YAML file's structs to the plain values of the control plane's parts. Main thread, start-up.
namespace thalweg {

[[nodiscard]] conductor::Settings conductor_settings(const config::Config& config, const std::string& directory);
[[nodiscard]] host::InstanceOptions instance_options(const config::Config& config, const std::string& directory);
// Precondition: config.archive.directory is not empty.
[[nodiscard]] archive::Settings archive_settings(const config::Config& config, const std::string& directory);
// `hugetlbfs`: the mount to use, "" = none.
[[nodiscard]] host::LogStore::Options log_options(const config::Config& config, const std::string& directory, const std::string& hugetlbfs);

}  // namespace thalweg
