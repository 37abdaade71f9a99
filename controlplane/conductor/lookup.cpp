#include "controlplane/conductor/lookup.hpp"

#include "controlplane/conductor/name_service.hpp"
#include "controlplane/host/resolver.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::conductor {
namespace {

constexpr std::int64_t kResolverThreshold_ns = 5 * kSecond_ns;  // aeron.name.resolver.threshold

void count_duration(World& world, std::int64_t duration_ns) {
  shm::Counter longest = world.system(shm::SystemCounter::kNameResolverMaxTime);
  if (duration_ns > longest.get_plain()) longest.set(duration_ns);
  if (duration_ns > kResolverThreshold_ns) world.system(shm::SystemCounter::kNameResolverTimeThresholdExceeded).add(1);
}

}  // namespace

Lookup::Lookup(World& world, std::string host, Scope scope) : host_{std::move(host)} {
  if (const auto literal = shm::parse_scoped_ipv6(host_)) {
    const std::uint32_t handle = world.registry->addresses.enter(*literal, shm::AddressBook::By::kNamed, world.now.now_ns);
    if (handle != 0) {
      result_ = handle;
    } else {
      result_ = refuse(shm::ClientError::kGeneric, "the instance knows too many IPv6 addresses");
    }
    return;
  }
  if (scope == Scope::kAll && world.names) {
    if (const auto driver = world.names->find(host_)) {
      result_ = *driver;
      return;
    }
  }
  answer_ = std::make_shared<Answer>();
  world.lookups.submit(
      [answer = answer_, host = host_, resolve = world.resolve_host] {
        const std::int64_t start_ns = monotonic_ns();
        answer->address = resolve(host);
        answer->duration_ns = monotonic_ns() - start_ns;
      },
      [answer = answer_] { answer->is_there = true; });
}

const std::optional<Outcome<std::uint32_t>>& Lookup::poll(World& world) {
  if (result_ || !answer_->is_there) return result_;
  count_duration(world, answer_->duration_ns);
  result_ = answer_->address ? Outcome<std::uint32_t>{*answer_->address} : tl::unexpected{to_command_error(answer_->address.error())};
  return result_;
}

}  // namespace thalweg::conductor
