#include "controlplane/conductor/resolution.hpp"

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

Outcome<bool> Resolution::poll(World& world, UdpChannel& channel) {
  if (answer_) {
    if (!answer_->is_there) return false;
    count_duration(world, answer_->duration_ns);
    if (!answer_->address) return tl::unexpected{to_command_error(answer_->address.error())};
    set_resolved(channel, answer_->host, *answer_->address);
    answer_.reset();
  }
  const std::vector<std::string> hosts = unresolved_hosts(channel);
  if (hosts.empty()) {
    if (auto finished = finish_channel(channel); !finished) return tl::unexpected{finished.error()};
    return true;
  }
  answer_ = std::make_shared<Answer>();
  answer_->host = hosts.front();
  world.worker.submit(
      [answer = answer_] {
        const std::int64_t start_ns = monotonic_ns();
        answer->address = host::resolve_host(answer->host);
        answer->duration_ns = monotonic_ns() - start_ns;
      },
      [answer = answer_] { answer->is_there = true; });
  return false;
}

}  // namespace thalweg::conductor
