#include "pmd/port_factory.hpp"

#include <linux/capability.h>

#include "pmd/backends/devices.hpp"
#include "pmd/backends/ethdev.hpp"
#include "pmd/backends/kernel.hpp"
#include "pmd/backends/loopback.hpp"
#include "pmd/decorators/capture.hpp"
#include "pmd/decorators/impaired.hpp"

namespace thalweg::pmd {
namespace {

Result<std::unique_ptr<Port>> make_backend(const PortOptions& options, PortContext& context) {
  switch (options.kind) {
    case shm::PortKind::kPatch: return PatchPort::create(options, context.patches);
    case shm::PortKind::kLoopback: return LoopbackPort::create(options, context.kernel_sockets, context.pool, context.socket_interval, context.addresses);
    case shm::PortKind::kKernel: return KernelPort::create(options, context.kernel_sockets, context.pool, context.socket_interval, context.addresses);
    case shm::PortKind::kMemif:
    case shm::PortKind::kAfPacket:
    case shm::PortKind::kAfXdp:
    case shm::PortKind::kTap:
    case shm::PortKind::kPcap:
    case shm::PortKind::kPci: break;
    case shm::PortKind::kNone: return fail(ErrorCode::kUnsupported, "this type of port is not supported");
  }
  const auto spec = device_spec(options, context.notes);
  if (!spec) return tl::unexpected<Error>{spec.error()};
  auto port = EthdevPort::create(options, *spec, context.pool);
  if (port || options.kind != shm::PortKind::kPci) return port;
  return tl::unexpected<Error>{explain_pci(options.device, "/sys")};
}

}  // namespace

Result<std::unique_ptr<Port>> make_port(const PortOptions& options, PortContext& context) {
  auto made = make_backend(options, context);
  if (!made) return tl::unexpected<Error>{std::move(made.error()).with_context("port " + options.name)};
  std::unique_ptr<Port> port = std::move(*made);
  if (options.impairment.is_active()) port = std::make_unique<ImpairedPort>(std::move(port), options.impairment);
  port = std::make_unique<CapturePort>(std::move(port), options.name);
  if (!options.capture_file.empty())
    if (auto started = port->start_capture({.path = options.capture_file, .byte_limit = kStartCaptureBytes}); !started)
      return tl::unexpected<Error>{std::move(started.error()).with_context("port " + options.name)};
  return port;
}

std::vector<int> capabilities_after_start(shm::PortKind kind) {
  switch (kind) {
    case shm::PortKind::kLoopback:
    case shm::PortKind::kKernel: return {CAP_NET_BIND_SERVICE};  // endpoints with port numbers below 1024
    case shm::PortKind::kAfXdp: return {CAP_NET_ADMIN, CAP_BPF, CAP_SYS_ADMIN};  // to take its program off the interface; SYS_ADMIN to find it
    case shm::PortKind::kAfPacket:
    case shm::PortKind::kTap: return {CAP_NET_ADMIN};  // flags and filters of the interface
    case shm::PortKind::kPci: return {CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK};  // filters and flows (mlx5), memory mapped for DMA later
    default: return {};
  }
}

}  // namespace thalweg::pmd
