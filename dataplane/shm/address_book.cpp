#include "dataplane/shm/address_book.hpp"

#include <net/if.h>

#include <charconv>
#include <vector>

#include "dataplane/base/units.hpp"
#include "dataplane/shm/registry.hpp"

namespace thalweg::shm {
namespace {

constexpr std::uint32_t kFirstPlaceHandle = wire::kLoopbackIpv6 + 1;   // those before it stand for :: and ::1
constexpr std::uint32_t kGroupShift = 8;                              // the last byte tells the data group from its control group
constexpr std::uint32_t kDataGroup = 1, kControlGroup = 2;
constexpr unsigned kPatience = 4096;   // looks at a place that another thread fills in: a few stores. One that died at it loses the place.
constexpr unsigned kTries = 8;         // of a search that others got in the way of

constexpr wire::Ipv6Address kLoopback{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};

std::uint32_t seconds(std::int64_t now_ns) noexcept { return static_cast<std::uint32_t>(now_ns / kSecond_ns); }

std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide product = Wide{a} * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

}  // namespace

std::optional<ScopedIpv6> parse_scoped_ipv6(const std::string& text) noexcept {
  const std::size_t percent = text.find('%');
  const auto address = wire::parse_ipv6(std::string_view{text}.substr(0, percent));
  if (!address) return std::nullopt;
  ScopedIpv6 scoped{*address, 0};
  if (percent == std::string::npos) return scoped;
  const char* const name = text.c_str() + percent + 1;
  scoped.scope = ::if_nametoindex(name);
  if (scoped.scope != 0) return scoped;
  const auto [end, error] = std::from_chars(name, text.c_str() + text.size(), scoped.scope);
  if (error != std::errc{} || end != text.c_str() + text.size() || scoped.scope == 0) return std::nullopt;
  return scoped;
}

AddressBook::Key AddressBook::key_of(const ScopedIpv6& address) noexcept {
  Key key;
  const auto bytes = std::as_bytes(std::span{address.address.bytes});
  key.high = load_le<std::uint64_t>(bytes.data());
  key.low = load_le<std::uint64_t>(bytes.data() + 8);
  key.scope = address.scope;
  return key;
}

bool AddressBook::has_room(const Table<kPlaces>& table, By by) const noexcept {
  if (by == By::kLearned && learned() >= kLearnedMax) return false;
  return table.count.load(std::memory_order_relaxed) < kAddressesMax;
}

bool AddressBook::has_room(const Table<kGroupPlaces>& table, By by) const noexcept {
  return by == By::kNamed && table.count.load(std::memory_order_relaxed) < kGroupsMax;
}

// Whether the place holds the address, and still does once that is written down. `word` was loaded from it with acquire.
bool AddressBook::is_held(Place& place, const Key& key, std::uint64_t word, By by, std::uint32_t now_s) noexcept {
  const bool is_same = place.high.load(std::memory_order_relaxed) == key.high && place.low.load(std::memory_order_relaxed) == key.low &&
                       place.scope.load(std::memory_order_relaxed) == key.scope;
  if (!is_same) return false;
  Word known = Word::of(word);
  const bool is_promoted = by == By::kNamed && known.state == State::kLearned;
  if (!is_promoted && now_s - known.seen_s < kRefresh_s) return place.word.load(std::memory_order_acquire) == word;
  if (is_promoted) known.state = State::kNamed;
  known.seen_s = now_s;
  // Pairs with forget(): of the two, one fails.
  if (!place.word.compare_exchange_strong(word, known.pack(), std::memory_order_acq_rel, std::memory_order_relaxed)) return false;
  if (is_promoted) learned_.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

template <std::uint32_t kSize>
bool AddressBook::take(Table<kSize>& table, std::uint32_t at, const Key& key, By by, std::uint32_t now_s) noexcept {
  Place& place = table.places[at];
  std::uint64_t word = place.word.load(std::memory_order_relaxed);
  Word mine = Word::of(word);
  if (mine.state != State::kFree && mine.state != State::kVacant) return false;
  mine.state = State::kClaimed;
  ++mine.generation;
  if (!place.word.compare_exchange_strong(word, mine.pack(), std::memory_order_acquire, std::memory_order_relaxed)) return false;
  place.high.store(key.high, std::memory_order_relaxed);
  place.low.store(key.low, std::memory_order_relaxed);
  place.scope.store(key.scope, std::memory_order_relaxed);
  mine.state = by == By::kNamed ? State::kNamed : State::kLearned;
  mine.seen_s = now_s;
  place.word.store(mine.pack(), std::memory_order_release);  // pairs with the acquire in search()
  table.count.fetch_add(1, std::memory_order_relaxed);
  if (by == By::kLearned) learned_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

// The place of an address, or kNone. Two threads that enter the same address meet at the same first free place: one of them finds the other's.
template <std::uint32_t kSize>
std::uint32_t AddressBook::search(Table<kSize>& table, const Key& key, bool enters, By by, std::uint32_t now_s) noexcept {
  const auto start = static_cast<std::uint32_t>(mix(key.high ^ seed_, mix(key.low ^ 0x9E3779B97F4A7C15U, key.scope ^ seed_ ^ 0xD1B54A32D192ED03U)));
  for (unsigned tries = 0; tries < kTries; ++tries) {
    std::uint32_t open = kNone;
    bool is_disturbed = false;
    for (std::uint32_t i = 0; i < kProbesMax && !is_disturbed; ++i) {
      const std::uint32_t at = (start + i) & Table<kSize>::kMask;
      Place& place = table.places[at];
      std::uint64_t word = place.word.load(std::memory_order_acquire);
      for (unsigned n = 0; Word::of(word).state == State::kClaimed && n < kPatience; ++n) word = place.word.load(std::memory_order_acquire);
      const Word known = Word::of(word);
      if (known.is_used()) {
        if (is_held(place, key, word, by, now_s)) return at;
        is_disturbed = place.word.load(std::memory_order_relaxed) != word;   // forgotten, promoted or refreshed meanwhile: look again
      } else if (known.state != State::kClaimed) {
        if (open == kNone) open = at;
        if (known.state == State::kFree) break;
      }
    }
    if (is_disturbed) continue;
    if (!enters || open == kNone || !has_room(table, by)) return kNone;
    if (take(table, open, key, by, now_s)) return open;
  }
  return kNone;
}

std::uint32_t AddressBook::enter(const ScopedIpv6& address, By by, std::int64_t now_ns) noexcept { return handle_of(address, true, by, now_ns); }

std::uint32_t AddressBook::find(const ScopedIpv6& address, std::int64_t now_ns) noexcept { return handle_of(address, false, By::kLearned, now_ns); }

std::uint32_t AddressBook::handle_of(const ScopedIpv6& address, bool enters, By by, std::int64_t now_ns) noexcept {
  if (address.address.is_unspecified()) return wire::kAnyIpv6;
  if (address.address == kLoopback) return wire::kLoopbackIpv6;
  if (!address.address.is_multicast()) {
    const std::uint32_t place = search(addresses_, key_of(address), enters, by, seconds(now_ns));
    return place == kNone ? 0 : kFirstPlaceHandle + place;
  }
  ScopedIpv6 data = address;
  const bool is_control = data.address.bytes[15] % 2 == 0;
  if (is_control) --data.address.bytes[15];
  const std::uint32_t place = search(groups_, key_of(data), enters, by, seconds(now_ns));
  return place == kNone ? 0 : wire::kFirstGroupHandle + (place << kGroupShift) + (is_control ? kControlGroup : kDataGroup);
}

ScopedIpv6 AddressBook::address(std::uint32_t handle) const noexcept {
  ScopedIpv6 found;
  if (handle == wire::kAnyIpv6) return found;
  if (handle == wire::kLoopbackIpv6) return {kLoopback, 0};
  const bool is_group = wire::is_group_handle(handle);
  const std::uint32_t at = is_group ? (handle - wire::kFirstGroupHandle) >> kGroupShift : handle - kFirstPlaceHandle;
  if (at >= (is_group ? kGroupPlaces : kPlaces)) return found;   // no handle of ours
  const Place& place = is_group ? groups_.places[at] : addresses_.places[at];
  const auto bytes = std::as_writable_bytes(std::span{found.address.bytes});
  store_le(bytes.data(), place.high.load(std::memory_order_relaxed));
  store_le(bytes.data() + 8, place.low.load(std::memory_order_relaxed));
  found.scope = place.scope.load(std::memory_order_relaxed);
  if (is_group && (handle & 0xFF) == kControlGroup) found.address = wire::control_group(found.address);
  return found;
}

std::string AddressBook::format(std::uint32_t address) const {
  if (!wire::is_handle(address)) return format_ipv4(address);
  const ScopedIpv6 scoped = this->address(address);
  return wire::format_ipv6(scoped.address) + (scoped.scope == 0 ? "" : "%" + std::to_string(scoped.scope));
}

std::string AddressBook::format_endpoint(std::uint32_t address, std::uint16_t port) const {
  if (!wire::is_handle(address)) return thalweg::format_endpoint(address, port);
  return "[" + format(address) + "]:" + std::to_string(port);
}

// ---- forgetting ----

// A place in the middle of probe chains stays vacant; chains end at the same places as before.
void AddressBook::forget(Place& place, std::uint64_t word, std::atomic<std::uint32_t>& count) noexcept {
  Word known = Word::of(word);
  const bool was_learned = known.state == State::kLearned;
  known.state = State::kVacant;
  if (!place.word.compare_exchange_strong(word, known.pack(), std::memory_order_acq_rel, std::memory_order_relaxed)) return;  // found meanwhile
  count.fetch_sub(1, std::memory_order_relaxed);
  if (was_learned) learned_.fetch_sub(1, std::memory_order_relaxed);
}

class AddressSweep {
 public:
  explicit AddressSweep(Registry& registry) : registry_{registry}, addresses_(AddressBook::kPlaces), groups_(AddressBook::kGroupPlaces) {}

  unsigned run(std::int64_t now_ns) {
    const std::uint32_t before = registry_.addresses.size() + registry_.addresses.group_count();
    mark_all();
    sweep(registry_.addresses.addresses_, addresses_, seconds(now_ns));
    sweep(registry_.addresses.groups_, groups_, seconds(now_ns));
    const std::uint32_t after = registry_.addresses.size() + registry_.addresses.group_count();
    return before > after ? before - after : 0;
  }

 private:
  void mark(std::uint32_t address) {
    if (wire::is_group_handle(address)) {
      const std::uint32_t at = (address - wire::kFirstGroupHandle) >> kGroupShift;
      if (at < groups_.size()) groups_[at] = true;
    } else if (wire::is_handle(address) && address >= kFirstPlaceHandle && address - kFirstPlaceHandle < addresses_.size()) {
      addresses_[address - kFirstPlaceHandle] = true;
    }
  }

  // What its owner changes meanwhile was looked up a moment ago, and so is not forgotten.
  void mark_all() {
    for (const PortSlot& port : registry_.ports) mark_port(port);
    for (const EndpointSlot& slot : registry_.endpoints) {
      if (!is_taken(slot)) continue;
      for (const std::uint32_t a : {slot.desired.local_address, slot.desired.remote_address, slot.desired.interface_address, slot.observed.bound_address}) mark(a);
    }
    for (const DestinationSlot& slot : registry_.destinations) {
      if (is_taken(slot)) mark(slot.desired.remote_address);
    }
    for (const PublicationSlot& slot : registry_.publications) {
      if (!is_taken(slot)) continue;
      mark(slot.observed.error_source_address);
      for (const ReceiverState& receiver : slot.observed.state.receivers) mark(receiver.address);
    }
    for (const ImageSlot& slot : registry_.images) {
      if (!is_taken(slot)) continue;
      mark(slot.desired.source_address);
      for (const ConnectionState& connection : slot.observed.state.connections) mark(connection.control_address);
    }
    for (const LaneSlot& lane : registry_.lanes) {
      for (const SetupSlot& setup : lane.setups) mark(setup.source_address);
    }
  }
  void mark_port(const PortSlot& port) {
    mark(port.address6);
    mark(port.gateway6);
    for (const PortRoute& route : port.routes) {
      mark(route.network);
      mark(route.gateway);
    }
  }
  template <typename Slot>
  [[nodiscard]] static bool is_taken(const Slot& slot) noexcept {
    return slot.desired.state.load(std::memory_order_acquire) != Desired::kFree;
  }

  template <typename Table>
  void sweep(Table& table, const std::vector<bool>& is_referred_to, std::uint32_t now_s) {
    for (std::size_t at = 0; at < table.places.size(); ++at) {
      if (is_referred_to[at]) continue;
      AddressBook::Place& place = table.places[at];
      const std::uint64_t word = place.word.load(std::memory_order_relaxed);
      const AddressBook::Word known = AddressBook::Word::of(word);
      const std::int64_t age_s = known.state == AddressBook::State::kLearned ? AddressBook::kLearnedAge_s : AddressBook::kNamedAge_s;
      if (known.is_used() && std::int64_t{now_s} - known.seen_s > age_s) registry_.addresses.forget(place, word, table.count);
    }
  }

  Registry& registry_;
  std::vector<bool> addresses_;
  std::vector<bool> groups_;
};

unsigned recycle_addresses(Registry& registry, std::int64_t now_ns) { return AddressSweep{registry}.run(now_ns); }

}  // namespace thalweg::shm
