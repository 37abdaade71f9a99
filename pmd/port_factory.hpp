#pragma once
#include <memory>
#include <string>
#include <vector>

#include "pmd/backends/patch.hpp"
#include "pmd/backends/socket_queue.hpp"
#include "pmd/backends/socket_table.hpp"
#include "pmd/port.hpp"

namespace thalweg::pmd {

// What the ports of one data plane share. Outlives them.
struct PortContext {
  rte_mempool* pool{};              // received frames; its buffers hold the port's MTU. May be changed between two make_port() calls
  PatchPanel patches;
  shm::AddressBook* addresses{};    // of the instance; null: no IPv6. May be changed like `pool`
  SocketTable kernel_sockets;       // the kernel port's; the loopback port sends from its wildcard sockets
  SocketInterval socket_interval;
  std::vector<std::string> notes;   // what make_port() found worth a line in the start-up log
};

// Makes a port and puts the decorators around it: impaired (when anything is), then capture. A link that is down is not an error.
// Errors say what was needed, what was found and what to do about it: kInvalidConfig, kNotFound (device), kPermission, kInUse,
// kNoSpace (memory), kUnsupported. Steward.
[[nodiscard]] Result<std::unique_ptr<Port>> make_port(const PortOptions& options, PortContext& context);

// What ports of a kind still need of the process's capabilities (<linux/capability.h>) once they are made, until they are gone.
[[nodiscard]] std::vector<int> capabilities_after_start(shm::PortKind kind);

}  // namespace thalweg::pmd
