#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/core/wildcard_ports.hpp"
#include "dataplane/proto/dispatcher.hpp"
#include "pmd/port.hpp"

// What a data plane is started with. Plain structs: only main.cpp knows where they come from.
namespace thalweg::core {

enum class IdleStrategy : std::uint8_t { kNoop, kBusySpin, kYield, kSleep, kBackoff };
enum class CpuMode : std::uint8_t { kShared, kExclusive };

struct LaneOptions {
  std::optional<std::uint32_t> cpu;   // none: chosen by the plan, or floating
  std::vector<std::string> ports;     // names of the ports it polls; empty: those that no lane names
};

struct DataplaneOptions {
  std::string directory;              // of the instance: registry.dat, cnc.dat, log files
  std::vector<LaneOptions> lanes;     // empty: as the CPU plan says
  std::vector<pmd::PortOptions> ports;
  CpuMode cpu_mode{CpuMode::kShared};
  IdleStrategy idle{IdleStrategy::kBackoff};
  std::int64_t idle_sleep_ns{20'000};           // sleep, and the longest park of backoff
  std::int64_t timer_interval_ns{1'000'000'000};  // ticks of the stream state machines (wire-protocol 2.9, 3.11)
  std::uint32_t session_limit{proto::kNoSessionLimit};  // images of one stream on one endpoint (wire-protocol 3.2)
  WildcardPorts sender_ports, receiver_ports;   // that a channel with port 0 gets
  std::uint32_t packet_buffers{};               // mbufs of each pool (pmd::plan_pools); 0: computed
  // Puts something around a port that was made: tests drop chosen frames. Steward, at start.
  std::function<std::unique_ptr<pmd::Port>(std::unique_ptr<pmd::Port>, const pmd::PortOptions&)> wrap_port{};
};

}  // namespace thalweg::core
