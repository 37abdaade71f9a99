#include "controlplane/conductor/name_service.hpp"

#include <fmt/format.h>

#include <array>
#include <cstring>

#include "controlplane/conductor/lookup.hpp"
#include "controlplane/host/resolver.hpp"
#include "dataplane/shm/channel_uri.hpp"
#include "dataplane/wire/frames.hpp"

namespace thalweg::conductor {
namespace {

constexpr std::int64_t kStep_ns = 10 * kMillisecond_ns;  // wire-protocol 6.2
constexpr int kReceivesPerStep = 64;                     // a flood costs so much and waits in the socket, where it is lost
constexpr int kSendsPerStep = 64;                        // a full table takes many datagrams; the rest follows in the next steps
// Counter types of client-protocol 5.7.
constexpr std::int32_t kNeighborsType = 15, kCacheEntriesType = 16, kBootstrapType = 21;
constexpr std::size_t kDatagramMax = 65'536;

names::GossipOptions options_of(const Settings& settings, const host::UdpSocket::Peer& bound) {
  const NameSettings& names = settings.names;
  return {.name = names.name,
          .bound = names::Address::ipv4(bound.address, bound.port),
          .bootstraps = names.bootstrap_neighbors,
          .neighbor_timeout_ns = names.neighbor_timeout_ns,
          .self_interval_ns = names.self_interval_ns,
          .neighbor_interval_ns = names.neighbor_interval_ns,
          .bootstrap_interval_ns = names.bootstrap_interval_ns,
          .mtu = static_cast<std::size_t>(settings.streams.mtu)};
}

std::string bootstrap_label(const names::Gossip::Bootstrap& bootstrap) {
  return fmt::format("Bootstrap neighbor: name={} resolved={}", bootstrap.text, bootstrap.address ? bootstrap.address->to_string() : "unresolved");
}

}  // namespace

Result<std::unique_ptr<NameService>> NameService::create(World& world) {
  const NameSettings& names = world.settings.names;
  auto socket = host::UdpSocket::open({names.interface_address, names.interface_port});
  if (!socket) return tl::unexpected{std::move(socket.error()).with_context("names.interface")};
  names::GossipOptions options = options_of(world.settings, socket->bound());
  std::unique_ptr<NameService> service{new NameService{world, std::move(*socket), std::move(options)}};
  if (auto allocated = service->allocate_counters(); !allocated) return tl::unexpected{std::move(allocated).error()};
  return service;
}

NameService::NameService(World& world, host::UdpSocket socket, names::GossipOptions options)
    : world_{&world}, socket_{std::move(socket)}, gossip_{std::move(options), world.now.now_ns}, next_step_ns_{world.now.now_ns} {}

NameService::~NameService() = default;

Result<void> NameService::allocate_counters() {
  const auto allocate = [this](std::int32_t type, std::span<const std::byte> key, const std::string& label) {
    return world_->allocate_counter({.type_id = type, .key = key, .label = label});
  };
  neighbors_id_ = allocate(kNeighborsType, {}, "Resolver neighbors: bound " + gossip_.options().bound.to_string());
  entries_id_ = allocate(kCacheEntriesType, {}, "Resolver cache entries: name=" + gossip_.options().name);
  for (std::size_t i = 0; i < gossip_.bootstraps().size(); ++i) {
    const auto index = static_cast<std::int32_t>(i);
    bootstrap_ids_.push_back(allocate(kBootstrapType, std::as_bytes(std::span{&index, 1}), bootstrap_label(gossip_.bootstraps()[i])));
  }
  const bool has_all = neighbors_id_ >= 0 && entries_id_ >= 0 && std::count(bootstrap_ids_.begin(), bootstrap_ids_.end(), -1) == 0;
  return has_all ? Result<void>{} : fail(ErrorCode::kNoSpace, "no counters are left for driver names", "raise control-plane.counters");
}

int NameService::poll() {
  finish_lookups();
  if (world_->now.now_ns < next_step_ns_) return 0;
  next_step_ns_ = world_->now.now_ns + kStep_ns;
  const int received = receive();
  gossip_.turn(world_->now.now_ns);
  start_lookups();
  const int moved = received + send();
  update_counters();
  return moved;
}

int NameService::receive() {
  std::array<std::byte, kDatagramMax> buffer;
  int received = 0;
  while (received < kReceivesPerStep) {
    const auto datagram = socket_.receive(buffer);
    if (!datagram) break;
    ++received;
    const auto source = names::Address::ipv4(datagram->from.address, datagram->from.port);
    gossip_.receive(std::span{buffer}.first(std::min(datagram->length, buffer.size())), source, world_->now.now_ns);
  }
  return received;
}

int NameService::send() {
  int sent = 0;
  while (sent < kSendsPerStep) {
    const auto outgoing = gossip_.next_outgoing();
    if (!outgoing) break;
    ++sent;
    if (!socket_.send({outgoing->to.to_ipv4(), outgoing->to.port}, outgoing->frame)) ++send_failures_;
  }
  return sent;
}

// ---- bootstrap neighbours ----

void NameService::start_lookups() {
  while (const auto index = gossip_.next_lookup(world_->now.now_ns)) {
    const auto parts = shm::parse_host_port(gossip_.bootstraps()[*index].text);
    if (!parts || parts->is_ipv6) continue;  // the configuration's rules let none pass
    if (const auto literal = host::literal_host(parts->host)) {
      set_bootstrap(*index, *literal, parts->port);
      continue;
    }
    const bool is_asked = std::any_of(lookups_.begin(), lookups_.end(), [&](const BootstrapLookup& b) { return b.index == *index; });
    if (!is_asked) lookups_.push_back({*index, parts->port, std::make_unique<Lookup>(*world_, parts->host, Lookup::Scope::kSystem)});
  }
}

void NameService::finish_lookups() {
  std::erase_if(lookups_, [this](BootstrapLookup& pending) {
    const auto& address = pending.lookup->poll(*world_);
    if (!address) return false;
    if (*address && wire::is_handle(**address)) {
      world_->report({shm::ClientError::kUnknownHost, "bootstrap neighbour: " + pending.lookup->host() + " has an IPv6 address only, and drivers' names are told over IPv4"});
    } else if (*address) {
      set_bootstrap(pending.index, **address, pending.port);
    } else {
      world_->report({address->error().code, "bootstrap neighbour: " + address->error().text});
    }
    return true;
  });
}

void NameService::set_bootstrap(std::size_t index, std::uint32_t address, std::uint16_t port) {
  const auto resolved = names::Address::ipv4(address, port);
  if (gossip_.bootstraps()[index].address == resolved) return;
  gossip_.set_bootstrap(index, resolved);
  world_->counters.update_label(bootstrap_ids_[index], bootstrap_label(gossip_.bootstraps()[index]));
}

// ---- what others see ----

void NameService::update_counters() {
  const auto set = [this](std::int32_t id, std::size_t value) {
    shm::Counter counter = world_->counters.counter(id);
    if (counter.get_plain() != static_cast<std::int64_t>(value)) counter.set(static_cast<std::int64_t>(value));
  };
  set(neighbors_id_, gossip_.neighbors().size());
  set(entries_id_, gossip_.names().size());
  for (std::size_t i = 0; i < bootstrap_ids_.size(); ++i) {
    const auto& address = gossip_.bootstraps()[i].address;
    set(bootstrap_ids_[i], address && gossip_.neighbors().contains(*address) ? 1 : 0);
  }
  const names::GossipStatistics& statistics = gossip_.statistics();
  world_->system(shm::SystemCounter::kInvalidPackets).add(static_cast<std::int64_t>(statistics.frames_invalid - invalid_counted_));
  invalid_counted_ = statistics.frames_invalid;
  const bool is_full = statistics.names_refused + statistics.neighbors_refused > 0;
  if (is_full && !is_full_reported_) {
    world_->report({shm::ClientError::kGeneric, fmt::format("driver names: more than {} names or {} neighbours are told of; what comes beyond is ignored",
                                                            names::kNamesMax, names::kNeighborsMax)});
  }
  is_full_reported_ = is_full;
}

std::optional<std::uint32_t> NameService::find(const std::string& name) const {
  if (const auto address = gossip_.find(name, wire::ResolutionEntry::kIpv4)) return address->to_ipv4();
  const auto address = gossip_.find(name, wire::ResolutionEntry::kIpv6);
  if (!address) return std::nullopt;
  shm::ScopedIpv6 ipv6;
  std::memcpy(ipv6.address.bytes.data(), address->bytes.data(), ipv6.address.bytes.size());
  const std::uint32_t handle = world_->registry->addresses.enter(ipv6, shm::AddressBook::By::kNamed, world_->now.now_ns);
  return handle == 0 ? std::nullopt : std::optional{handle};
}

}  // namespace thalweg::conductor
