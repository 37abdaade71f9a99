#include "controlplane/names/gossip.hpp"

#include <algorithm>
#include <limits>

#include "dataplane/base/time.hpp"
#include "dataplane/wire/resolution_frame.hpp"

namespace thalweg::names {
namespace {

using wire::ResolutionEntry;

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

// Graphic ASCII, as hosts in channels are: anything else would reach terminals, labels and JSON through every peer.
bool is_usable_name(std::string_view name) noexcept {
  return std::all_of(name.begin(), name.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

ResolutionEntry make_entry(std::string_view name, const Address& address, bool is_self, std::int64_t age_ns) noexcept {
  ResolutionEntry entry;
  entry.address_type = address.type;
  entry.is_self = is_self;
  entry.port = address.port;
  entry.age_ms = static_cast<std::int32_t>(std::clamp<std::int64_t>(age_ns / kMillisecond_ns, 0, std::numeric_limits<std::int32_t>::max()));
  std::copy(address.bytes.begin(), address.bytes.end(), entry.address);
  entry.name = std::as_bytes(std::span{name.data(), name.size()});
  return entry;
}

// Packs entries into frames of at most `mtu` bytes.
class FramePacker {
 public:
  explicit FramePacker(std::size_t mtu) : mtu_{mtu} {}
  void add(const ResolutionEntry& entry) {
    if (wire::FrameHeader::kLength + entry.length() > mtu_) return;  // a name that no frame of ours can carry
    if (frames_.empty() || frames_.back().size() + entry.length() > mtu_) frames_.emplace_back(wire::FrameHeader::kLength);
    auto& frame = frames_.back();
    const std::size_t at = frame.size();
    frame.resize(at + entry.length());
    wire::build(frame.data() + at, entry);
  }
  [[nodiscard]] std::vector<std::vector<std::byte>> take() {
    for (auto& frame : frames_) wire::put_header(frame.data(), static_cast<std::int32_t>(frame.size()), 0, wire::FrameType::kResolution);
    return std::move(frames_);
  }

 private:
  std::size_t mtu_;
  std::vector<std::vector<std::byte>> frames_;
};

}  // namespace

Gossip::Gossip(GossipOptions options, std::int64_t now_ns)
    : options_{std::move(options)}, self_due_ns_{now_ns - 1}, neighbor_due_ns_{now_ns + options_.neighbor_interval_ns}, earliest_activity_ns_{kNever} {
  for (std::string& text : options_.bootstraps) {
    if (bootstraps_.size() < kBootstrapsMax) bootstraps_.push_back({text, std::nullopt, now_ns});
  }
}

void Gossip::receive(std::span<const std::byte> datagram, const Address& source, std::int64_t now_ns) {
  const auto visit = [&](const ResolutionEntry& entry) {
    Address address{.type = entry.address_type, .port = entry.port};
    std::copy_n(entry.address, entry.address_length(), address.bytes.begin());
    if (entry.is_self && address.is_wildcard()) address = source;
    const std::string_view name{reinterpret_cast<const char*>(entry.name.data()), entry.name.size()};
    // An age from the future would keep an entry for ever.
    const std::int64_t age_ns = std::max<std::int64_t>(entry.age_ms, 0) * kMillisecond_ns;
    if (age_ns < options_.neighbor_timeout_ns) take(name, address, entry.is_self, now_ns - age_ns);  // else it would go with the next step
  };
  if (wire::FrameHeader::is_valid(datagram) && wire::for_each_resolution(datagram, visit)) {
    ++statistics_.frames_received;
  } else {
    ++statistics_.frames_invalid;
  }
}

void Gossip::take(std::string_view name, const Address& address, bool is_self, std::int64_t last_activity_ns) {
  if (address.port == options_.bound.port && name == options_.name) return;  // ourselves, by way of others
  if (address.is_wildcard() || address.is_nobodys() || address.port == 0 || !is_usable_name(name)) {
    ++statistics_.entries_unusable;
    return;
  }
  keep_name(name, address, is_self, last_activity_ns);
  keep_neighbor(address, is_self, last_activity_ns);
  earliest_activity_ns_ = std::min(earliest_activity_ns_, last_activity_ns);
}

// The latest sign of life decides about the address too: what others still tell of a driver that has moved is older than its own word. An age
// does not count the way of its datagram, so what goes from driver to driver grows younger by that each time, and would keep a dead one known:
// what others tell has to be clearly newer.
void Gossip::keep_name(std::string_view name, const Address& address, bool is_self, std::int64_t last_activity_ns) {
  NameKey key{std::string{name}, address.type};
  const auto known = names_.find(key);
  if (known == names_.end()) {
    if (names_.size() >= kNamesMax) {
      ++statistics_.names_refused;
    } else {
      names_.emplace(std::move(key), Name{address, last_activity_ns});
    }
    return;
  }
  const std::int64_t margin_ns = is_self ? 0 : std::min(options_.self_interval_ns, options_.neighbor_interval_ns) / 2;
  if (last_activity_ns <= known->second.last_activity_ns + margin_ns) return;
  if (known->second.address != address) ++statistics_.names_moved;
  known->second = {address, last_activity_ns};
}

void Gossip::keep_neighbor(const Address& address, bool is_self, std::int64_t last_activity_ns) {
  const auto known = neighbors_.find(address);
  if (known != neighbors_.end()) {
    if (is_self) known->second = std::max(known->second, last_activity_ns);
  } else if (neighbors_.size() >= kNeighborsMax) {
    ++statistics_.neighbors_refused;
  } else {
    neighbors_.emplace(address, last_activity_ns);
  }
}

void Gossip::expire(std::int64_t now_ns) {
  const std::int64_t oldest_ns = now_ns - options_.neighbor_timeout_ns;
  if (earliest_activity_ns_ > oldest_ns) return;
  earliest_activity_ns_ = kNever;
  statistics_.names_expired += std::erase_if(names_, [&](const auto& item) { return item.second.last_activity_ns <= oldest_ns; });
  statistics_.neighbors_expired += std::erase_if(neighbors_, [&](const auto& item) { return item.second <= oldest_ns; });
  for (const auto& [key, name] : names_) earliest_activity_ns_ = std::min(earliest_activity_ns_, name.last_activity_ns);
  for (const auto& [address, last_activity_ns] : neighbors_) earliest_activity_ns_ = std::min(earliest_activity_ns_, last_activity_ns);
}

void Gossip::turn(std::int64_t now_ns) {
  expire(now_ns);
  if (now_ns > self_due_ns_) start_self_round(now_ns);
  if (now_ns > neighbor_due_ns_) start_neighbor_round(now_ns);
}

bool Gossip::is_under_way(bool is_self) const noexcept {
  return std::any_of(rounds_.begin(), rounds_.end(), [is_self](const Round& round) { return round.is_self == is_self; });
}

std::vector<Address> Gossip::self_targets() const {
  std::vector<Address> targets = neighbor_targets();
  for (const Bootstrap& bootstrap : bootstraps_) {
    if (!bootstrap.address || *bootstrap.address == options_.bound) continue;  // one list for all drivers names this one, too
    if (std::find(targets.begin(), targets.end(), *bootstrap.address) == targets.end()) targets.push_back(*bootstrap.address);
  }
  return targets;
}

// Our socket reaches its own address family only; drivers of the other one are known and passed on.
std::vector<Address> Gossip::neighbor_targets() const {
  std::vector<Address> targets;
  for (const auto& [address, last_activity_ns] : neighbors_) {
    if (address.type == options_.bound.type) targets.push_back(address);
  }
  return targets;
}

void Gossip::start_self_round(std::int64_t now_ns) {
  std::vector<Address> targets = self_targets();
  if (targets.empty()) return;  // due as soon as there is somebody to tell
  self_due_ns_ = now_ns + options_.self_interval_ns;
  if (is_under_way(true)) {
    ++statistics_.rounds_skipped;
    return;
  }
  FramePacker packer{options_.mtu};
  packer.add(make_entry(options_.name, options_.bound, true, 0));
  rounds_.push_back({true, packer.take(), std::move(targets)});
}

std::vector<Gossip::Frame> Gossip::cache_frames(std::int64_t now_ns) const {
  FramePacker packer{options_.mtu};
  for (const auto& [key, name] : names_) packer.add(make_entry(key.first, name.address, false, now_ns - name.last_activity_ns));
  return packer.take();
}

void Gossip::start_neighbor_round(std::int64_t now_ns) {
  neighbor_due_ns_ = now_ns + options_.neighbor_interval_ns;
  std::vector<Address> targets = neighbor_targets();
  if (targets.empty() || names_.empty()) return;
  if (is_under_way(false)) {
    ++statistics_.rounds_skipped;
    return;
  }
  rounds_.push_back({false, cache_frames(now_ns), std::move(targets)});
}

std::optional<Gossip::Outgoing> Gossip::next_outgoing() {
  while (!rounds_.empty()) {
    Round& round = rounds_.front();
    if (round.target < round.targets.size() && round.frame < round.frames.size()) {
      const Outgoing outgoing{round.targets[round.target], round.frames[round.frame]};
      if (++round.frame == round.frames.size()) round.frame = 0, ++round.target;
      ++statistics_.frames_sent;
      return outgoing;
    }
    rounds_.pop_front();
  }
  return std::nullopt;
}

std::optional<std::size_t> Gossip::next_lookup(std::int64_t now_ns) {
  for (std::size_t i = 0; i < bootstraps_.size(); ++i) {
    Bootstrap& bootstrap = bootstraps_[i];
    if (now_ns < bootstrap.next_lookup_ns) continue;
    bootstrap.next_lookup_ns = now_ns + options_.bootstrap_interval_ns;
    if (!bootstrap.address || !neighbors_.contains(*bootstrap.address)) return i;
  }
  return std::nullopt;
}

void Gossip::set_bootstrap(std::size_t index, const Address& address) noexcept {
  if (index < bootstraps_.size()) bootstraps_[index].address = address;
}

std::optional<Address> Gossip::find(std::string_view name, std::uint8_t type) const {
  const auto known = names_.find(NameKey{std::string{name}, type});
  if (known != names_.end()) return known->second.address;
  if (name == options_.name && type == options_.bound.type) return options_.bound;
  return std::nullopt;
}

}  // namespace thalweg::names
