#include "pmd/port_factory.hpp"

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
    case shm::PortKind::kLoopback: return LoopbackPort::create(options, context.kernel_sockets, context.pool, context.socket_interval);
    case shm::PortKind::kKernel: return KernelPort::create(options, context.kernel_sockets, context.pool, context.socket_interval);
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

}  // namespace thalweg::pmd
