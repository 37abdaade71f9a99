#pragma once
#include <array>
#include <atomic>
#include <string>

#include "dataplane/base/time.hpp"
#include "dataplane/wire/ipv6.hpp"

// The IPv6 addresses of an instance, part of its registry: which handle stands for which 16 bytes (wire/ip.hpp says what a handle is). So
// addresses are 32 bits everywhere but at the edges: ports, configuration, channels, labels and logs.
//
// An open-addressed hash table without locks. Any thread of both processes looks up and enters; an entry never moves, so its place is the handle.
// The steward forgets what nothing refers to (recycle_addresses()). Peers make us enter addresses, too: those are *learned*, and bounded
// thrice. They take a quarter of the places at most; each receive queue enters so many a second (LearnBudget); and what neither the registry
// refers to nor was looked up lately is forgotten. Whoever sends from made-up addresses keeps strangers out that long, and nobody known.
namespace thalweg::shm {

struct Registry;

// An IPv6 address; `scope` is the kernel's index of the interface that a link-local one belongs to, else 0.
struct ScopedIpv6 {
  wire::Ipv6Address address;
  std::uint32_t scope{};
  friend bool operator==(const ScopedIpv6&, const ScopedIpv6&) = default;
};

// An IPv6 literal without brackets: "2001:db8::1", "fe80::1%eth0" (the name or number of an interface of this host). nullopt: none, or no such
// interface. Any thread.
[[nodiscard]] std::optional<ScopedIpv6> parse_scoped_ipv6(const std::string& text) noexcept;

class AddressBook {
 public:
  enum class By : std::uint8_t { kNamed, kLearned };   // by command or configuration; by a datagram
  static constexpr std::uint32_t kPlaces = 32768;      // power of two
  static constexpr std::uint32_t kGroupPlaces = 4096;
  static constexpr std::uint32_t kAddressesMax = kPlaces / 4 * 3;
  static constexpr std::uint32_t kLearnedMax = kPlaces / 4;
  static constexpr std::uint32_t kGroupsMax = kGroupPlaces / 4 * 3;
  static constexpr std::int64_t kLearnedAge_s = 30;    // how long ago an address was looked up when it is forgotten
  static constexpr std::int64_t kNamedAge_s = 600;     // so long a command may wait for a name after it named an address

  // Makes it hard to choose addresses that collide. Before the book is shared.
  void seed(std::uint64_t random) noexcept { seed_ = random; }
  // The handle of an address, entered if it is new; 0: no place is left for it. A control group (its last byte is even) is entered as its data
  // group; groups cannot be learned. `now_ns` is monotonic. Any thread; no system call.
  [[nodiscard]] std::uint32_t enter(const ScopedIpv6& address, By by, std::int64_t now_ns) noexcept;
  // The same for one that is known already, else 0.
  [[nodiscard]] std::uint32_t find(const ScopedIpv6& address, std::int64_t now_ns) noexcept;
  // What a handle stands for. Precondition: is_handle(), and enter() or find() gave it.
  [[nodiscard]] ScopedIpv6 address(std::uint32_t handle) const noexcept;

  // For people: "10.0.0.1", "2001:db8::1", "fe80::1%2" of addresses and handles; "10.0.0.1:40123", "[2001:db8::1]:40123".
  [[nodiscard]] std::string format(std::uint32_t address) const;
  [[nodiscard]] std::string format_endpoint(std::uint32_t address, std::uint16_t port) const;

  [[nodiscard]] std::uint32_t size() const noexcept { return addresses_.count.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint32_t learned() const noexcept { return learned_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint32_t group_count() const noexcept { return groups_.count.load(std::memory_order_relaxed); }
  // More than half of what it may hold is taken: time to forget.
  [[nodiscard]] bool is_half_full() const noexcept {
    return size() > kAddressesMax / 2 || learned() > kLearnedMax / 2 || group_count() > kGroupsMax / 2;
  }

 private:
  friend class AddressSweep;
  enum class State : std::uint8_t { kFree = 0, kClaimed, kNamed, kLearned, kVacant };   // vacant: free, but lookups go on behind it
  // When it was last looked up, how often the place was taken, what it holds: one word, so that nobody forgets what another just found.
  struct Word {
    std::uint32_t seen_s{};
    std::uint32_t generation{};        // 24 bits
    State state{State::kFree};
    [[nodiscard]] static constexpr Word of(std::uint64_t word) noexcept {
      return {static_cast<std::uint32_t>(word >> 32), static_cast<std::uint32_t>(word >> 8 & 0xFFFFFF), static_cast<State>(word & 0xFF)};
    }
    [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
      return std::uint64_t{seen_s} << 32 | std::uint64_t{generation & 0xFFFFFF} << 8 | static_cast<std::uint64_t>(state);
    }
    [[nodiscard]] constexpr bool is_used() const noexcept { return state == State::kNamed || state == State::kLearned; }
  };
  struct Place {
    std::atomic<std::uint64_t> word{};
    std::atomic<std::uint64_t> high{}, low{};   // the address, written while claimed
    std::atomic<std::uint32_t> scope{};
    std::uint32_t padding{};
  };
  template <std::uint32_t kSize>
  struct Table {
    static constexpr std::uint32_t kMask = kSize - 1;
    std::atomic<std::uint32_t> count{};
    std::array<Place, kSize> places{};
  };
  struct Key {
    std::uint64_t high{}, low{};
    std::uint32_t scope{};
  };
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  static constexpr std::uint32_t kProbesMax = 128;     // of a search
  static constexpr std::int64_t kRefresh_s = 5;        // how exact `seen_s` is

  [[nodiscard]] std::uint32_t handle_of(const ScopedIpv6& address, bool enters, By by, std::int64_t now_ns) noexcept;
  [[nodiscard]] static Key key_of(const ScopedIpv6& address) noexcept;
  template <std::uint32_t kSize>
  [[nodiscard]] std::uint32_t search(Table<kSize>& table, const Key& key, bool enters, By by, std::uint32_t now_s) noexcept;
  template <std::uint32_t kSize>
  [[nodiscard]] bool take(Table<kSize>& table, std::uint32_t at, const Key& key, By by, std::uint32_t now_s) noexcept;
  [[nodiscard]] bool is_held(Place& place, const Key& key, std::uint64_t word, By by, std::uint32_t now_s) noexcept;
  [[nodiscard]] bool has_room(const Table<kPlaces>& table, By by) const noexcept;
  [[nodiscard]] bool has_room(const Table<kGroupPlaces>& table, By by) const noexcept;
  void forget(Place& place, std::uint64_t word, std::atomic<std::uint32_t>& count) noexcept;

  std::uint64_t seed_{};
  std::atomic<std::uint32_t> learned_{};
  Table<kPlaces> addresses_;
  Table<kGroupPlaces> groups_;
};

// How many addresses peers may make one receive queue enter. Thread: the queue's.
class LearnBudget {
 public:
  static constexpr std::int64_t kPerSecond = 128;
  static constexpr std::int64_t kBurst = 1024;   // receivers of a group that all start at once
  [[nodiscard]] bool take(std::int64_t now_ns) noexcept {
    const std::int64_t earned = (now_ns - since_ns_) / (kSecond_ns / kPerSecond);
    if (earned > 0) {
      left_ = left_ + earned < kBurst ? left_ + earned : kBurst;
      since_ns_ = now_ns;
    }
    if (left_ == 0) return false;
    --left_;
    return true;
  }

 private:
  std::int64_t left_{kBurst};
  std::int64_t since_ns_{};
};

// Forgets addresses that neither the registry refers to nor anybody looked up for a while (kLearnedAge_s, kNamedAge_s). Returns how many. It
// looks at every stream, so only a book that is half full is worth it. Thread: the steward.
unsigned recycle_addresses(Registry& registry, std::int64_t now_ns);

}  // namespace thalweg::shm
