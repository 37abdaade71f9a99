#include "dataplane/options_from_config.hpp"

#include <algorithm>
#include <thread>

#include "config/schema/convert.hpp"
#include "pmd/packet_pool.hpp"

namespace thalweg {
namespace {

core::IdleStrategy idle_strategy(config::IdleStrategy idle) {
  switch (idle) {
    case config::IdleStrategy::kNoop: return core::IdleStrategy::kNoop;
    case config::IdleStrategy::kBusySpin: return core::IdleStrategy::kBusySpin;
    case config::IdleStrategy::kYield: return core::IdleStrategy::kYield;
    case config::IdleStrategy::kSleep: return core::IdleStrategy::kSleep;
    case config::IdleStrategy::kBackoff: break;
  }
  return core::IdleStrategy::kBackoff;
}

pmd::EalMemory eal_memory(config::Hugepages hugepages) {
  switch (hugepages) {
    case config::Hugepages::kOn: return pmd::EalMemory::kHugepages;
    case config::Hugepages::kOff: return pmd::EalMemory::kOrdinaryPages;
    case config::Hugepages::kAuto: break;
  }
  return pmd::EalMemory::kAuto;
}

}  // namespace

core::DataplaneOptions dataplane_options(const config::Config& config, const std::string& directory) {
  const config::Dataplane& from = config.dataplane;
  core::DataplaneOptions options;
  options.directory = directory;
  for (const config::Lane& lane : from.lanes) options.lanes.push_back({lane.cpu, lane.ports});
  options.ports = config::port_options(config);
  options.cpu_mode = from.cpu_mode == config::CpuMode::kExclusive ? core::CpuMode::kExclusive : core::CpuMode::kShared;
  options.idle = idle_strategy(from.idle);
  options.idle_sleep_ns = from.idle_sleep_ns;
  options.timer_interval_ns = config.control_plane.timer_interval_ns;
  options.session_limit = config.streams.session_limit;
  options.sender_ports = {config.streams.sender_wildcard_port_low, config.streams.sender_wildcard_port_high};
  options.receiver_ports = {config.streams.receiver_wildcard_port_low, config.streams.receiver_wildcard_port_high};
  options.packet_buffers = from.packet_buffers;
  return options;
}

pmd::EalOptions eal_options(const config::Config& config, const core::DataplaneOptions& options) {
  pmd::EalOptions eal;
  eal.instance = config.instance.name;
  eal.memory = eal_memory(config.dataplane.hugepages);
  for (const pmd::PortOptions& port : options.ports) {
    if (port.kind == shm::PortKind::kPci) eal.pci_addresses.push_back(port.device);
  }
  // `lanes: auto` is settled later; one lane for each port is the most it makes.
  const std::size_t lanes = options.lanes.empty() ? std::min<std::size_t>(options.ports.size(), std::thread::hardware_concurrency() / 4 + 1) : options.lanes.size();
  eal.memory_bytes = pmd::packet_memory_bytes(options.ports, pmd::plan_pools(options.ports, static_cast<std::uint32_t>(lanes), options.packet_buffers));
  return eal;
}

}  // namespace thalweg
