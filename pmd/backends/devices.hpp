#pragma once
#include <string>
#include <vector>

#include "pmd/backends/ethdev.hpp"

namespace thalweg::pmd {

// Turns a port's options into the device that serves them, after looking whether this machine has what it takes: interface, file, privileges,
// socket, driver. `notes` receives what is not an error but should be known (one line each, for the start-up log).
// Errors: kInvalidConfig, kNotFound, kPermission, kUnsupported, kInUse; each says what was needed, what was found, and the fix. Steward.
[[nodiscard]] Result<DeviceSpec> device_spec(const PortOptions& options, std::vector<std::string>& notes);

// The pieces, for tests.
// Smallest power of two >= 2048 that holds a frame of `mtu` IP bytes and af_packet's own header.
[[nodiscard]] std::uint32_t af_packet_frame_size(std::uint32_t mtu) noexcept;
// "driver 'ixgbe'" and what to do about it, for a PCI device that did not come up. `sysfs` is "/sys" outside tests.
[[nodiscard]] Error explain_pci(const std::string& address, const std::string& sysfs);
// Names of the capabilities of `wanted` (bit numbers of linux/capability.h) that this thread lacks, comma separated; "" = none.
[[nodiscard]] std::string missing_capabilities(const std::vector<int>& wanted);

}  // namespace thalweg::pmd
