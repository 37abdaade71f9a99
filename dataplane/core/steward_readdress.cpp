#include "dataplane/core/steward.hpp"

#include <cstring>

#include "dataplane/shm/commands.hpp"

// Endpoints whose far side moved, because a name in their channel came to mean another address (wire-protocol 5.12), and addresses that are no
// longer anybody's.
namespace thalweg::core {

// Local address, port, lane and streams stay. A slot's error says what kept us from following, 0: nothing.
void Steward::readdress(std::uint32_t index) {
  shm::EndpointSlot& slot = registry_.endpoints[index];
  Endpoint& endpoint = *endpoints_[index];
  const std::uint32_t address = std::atomic_ref{slot.desired.remote_address}.load(std::memory_order_relaxed);  // released by the bell
  if (address == endpoint.wanted_remote.load(std::memory_order_relaxed)) return;
  if (endpoint.kind == shm::EndpointKind::kSend) {
    if (auto moved = reconnect(endpoint, {address, slot.desired.remote_port}, slot.desired); !moved) {
      slot.observed.error = {};
      slot.observed.error.code = static_cast<std::int32_t>(shm::ClientError::kGeneric);
      std::strncpy(slot.observed.error.text, moved.error().message.c_str(), sizeof slot.observed.error.text - 1);
      ring(shm::SlotKind::kEndpoint, index);
      return;
    }
  }
  slot.observed.error = {};
  endpoint.wanted_remote.store(address, std::memory_order_relaxed);
  post(endpoint.lane, {{shm::SlotKind::kEndpoint, index}, &endpoint, false});
}

// The socket of a port that has one is connected, so it is bound anew; what the lane sends in between is lost as on any wire.
Result<void> Steward::reconnect(const Endpoint& endpoint, const wire::UdpEndpoint& remote, const shm::EndpointSlot::Wanted& wanted) {
  const std::uint32_t interface = wanted.interface_address != 0 ? wanted.interface_address : wanted.local_address;
  const auto route = shared_.routes->send(remote.address, interface, wanted.prefix_length);
  if (!route) return tl::unexpected{route.error()};
  if (route->port != endpoint.ports.front()) {
    return fail(ErrorCode::kUnsupported, "its new address is reached through port " + ports_[route->port].options.name + ", not through " +
                                             ports_[endpoint.ports.front()].options.name);
  }
  pmd::Port& port = *ports_[route->port].port;
  pmd::Port::BindOptions bind;
  bind.local = endpoint.bound;
  bind.remote = remote;
  bind.socket_rcvbuf = wanted.socket_rcvbuf;
  bind.socket_sndbuf = wanted.socket_sndbuf;
  bind.ttl = wanted.ttl;
  port.unbind(endpoint.bound);
  auto bound = port.bind(bind);
  if (bound) return {};
  bind.remote = {endpoint.wanted_remote.load(std::memory_order_relaxed), wanted.remote_port};
  if (auto restored = port.bind(bind); !restored) return tl::unexpected{std::move(restored.error()).with_context("its socket is lost")};
  return tl::unexpected{std::move(bound).error()};
}

// Of IPv6, those that nothing refers to. Where groups are joined is our own knowledge, so it is looked up to be kept.
void Steward::forget_addresses(std::int64_t now_ns) {
  last_recycle_ns_ = now_ns;
  shm::AddressBook& book = registry_.addresses;
  for (const std::unique_ptr<Endpoint>& endpoint : endpoints_) {
    if (endpoint != nullptr && wire::is_handle(endpoint->interface_address)) static_cast<void>(book.find(book.address(endpoint->interface_address), now_ns));
  }
  shm::recycle_addresses(registry_, now_ns);
}

}  // namespace thalweg::core
