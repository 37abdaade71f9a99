#include "controlplane/conductor/resolution.hpp"

#include "controlplane/host/resolver.hpp"

namespace thalweg::conductor {

Outcome<bool> Resolution::poll(World& world, UdpChannel& channel) {
  for (;;) {
    if (lookup_) {
      const auto& address = lookup_->poll(world);
      if (!address) return false;
      const Outcome<std::uint32_t> outcome = *address;
      if (outcome) set_resolved(channel, lookup_->host(), *outcome);
      lookup_.reset();  // whoever comes again after an error asks again
      if (!outcome) return tl::unexpected{outcome.error()};
    }
    const std::vector<std::string> hosts = unresolved_hosts(channel);
    if (hosts.empty()) break;
    lookup_.emplace(world, hosts.front());
  }
  if (auto finished = finish_channel(channel); !finished) return tl::unexpected{finished.error()};
  return true;
}

void resolve_literals(World& world, UdpChannel& channel) {
  for (const std::string& host : unresolved_hosts(channel)) {
    if (!shm::parse_scoped_ipv6(host)) continue;
    Lookup lookup{world, host};
    if (const auto& address = lookup.poll(world); address && *address) set_resolved(channel, host, **address);
  }
}

}  // namespace thalweg::conductor
