#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "controlplane/names/address.hpp"

// Driver name resolution (wire-protocol 6): which drivers there are, what they are called and where they are, spread by RES frames. Pure:
// datagrams and the time go in, datagrams and decisions come out; no socket, no clock, no thread.
namespace thalweg::names {

// What forged frames can make us keep, and send: every known driver gets every known name each interval.
inline constexpr std::size_t kNamesMax = 1024;
inline constexpr std::size_t kNeighborsMax = 256;
inline constexpr std::size_t kBootstrapsMax = 20;       // wire-protocol 6.2
inline constexpr std::size_t kNameBytesMax = 512;       // a longer name is refused by stock drivers (6.1)

struct GossipOptions {
  std::string name;                                     // ours; 1 to kNameBytesMax bytes that fit into a frame of `mtu`
  Address bound;                                        // our socket's; the wildcard is replaced by whoever receives it
  std::vector<std::string> bootstraps;                  // host:port, at most kBootstrapsMax
  std::int64_t neighbor_timeout_ns{10'000'000'000};
  std::int64_t self_interval_ns{1'000'000'000};
  std::int64_t neighbor_interval_ns{2'000'000'000};
  std::int64_t bootstrap_interval_ns{10'000'000'000};
  std::size_t mtu{1408};                                // longest frame
};

struct GossipStatistics {
  std::uint64_t frames_received{};     // valid ones
  std::uint64_t frames_sent{};
  std::uint64_t frames_invalid{};      // broken header or entry; the entries before it count
  std::uint64_t entries_unusable{};    // address or name that can be nobody's
  std::uint64_t names_refused{};       // kNamesMax reached
  std::uint64_t neighbors_refused{};   // kNeighborsMax reached
  std::uint64_t names_expired{};
  std::uint64_t neighbors_expired{};
  std::uint64_t names_moved{};         // a known name came with another address
  std::uint64_t rounds_skipped{};      // an interval was over before its frames were out
};

class Gossip {
 public:
  struct Name {
    Address address;
    std::int64_t last_activity_ns{};   // when its driver was last heard, by whomever
  };
  struct Bootstrap {
    std::string text;                  // host:port as configured
    std::optional<Address> address;    // as last resolved
    std::int64_t next_lookup_ns{};
  };
  struct Outgoing {
    Address to;
    std::span<const std::byte> frame;  // valid until the next call of anything
  };
  using NameKey = std::pair<std::string, std::uint8_t>;  // name and address type

  explicit Gossip(GossipOptions options, std::int64_t now_ns);

  // Takes one datagram as it came from `source`. Anything may be in it.
  void receive(std::span<const std::byte> datagram, const Address& source, std::int64_t now_ns);
  // The work step, due every 10 ms: forgets who is silent and decides what is to be said.
  void turn(std::int64_t now_ns);
  // What turn() decided to send, one datagram a call; nullopt: no more. Callers may stop and go on in a later step.
  [[nodiscard]] std::optional<Outgoing> next_outgoing();
  // Index of a bootstrap neighbour whose host is to be looked up now; it is due again after the bootstrap interval. nullopt: none.
  [[nodiscard]] std::optional<std::size_t> next_lookup(std::int64_t now_ns);
  void set_bootstrap(std::size_t index, const Address& address) noexcept;

  // Where the driver called `name` is: those heard of first, then ourselves.
  [[nodiscard]] std::optional<Address> find(std::string_view name, std::uint8_t type) const;

  [[nodiscard]] const std::map<NameKey, Name>& names() const noexcept { return names_; }
  [[nodiscard]] const std::map<Address, std::int64_t>& neighbors() const noexcept { return neighbors_; }  // with their last activity
  [[nodiscard]] const std::vector<Bootstrap>& bootstraps() const noexcept { return bootstraps_; }
  [[nodiscard]] const GossipOptions& options() const noexcept { return options_; }
  [[nodiscard]] const GossipStatistics& statistics() const noexcept { return statistics_; }

 private:
  using Frame = std::vector<std::byte>;
  // Frames on their way to everybody who gets them.
  struct Round {
    bool is_self{};
    std::vector<Frame> frames;
    std::vector<Address> targets;
    std::size_t frame{};
    std::size_t target{};
  };
  void take(std::string_view name, const Address& address, bool is_self, std::int64_t last_activity_ns);
  void keep_name(std::string_view name, const Address& address, bool is_self, std::int64_t last_activity_ns);
  void keep_neighbor(const Address& address, bool is_self, std::int64_t last_activity_ns);
  void expire(std::int64_t now_ns);
  void start_self_round(std::int64_t now_ns);
  void start_neighbor_round(std::int64_t now_ns);
  [[nodiscard]] bool is_under_way(bool is_self) const noexcept;
  [[nodiscard]] std::vector<Address> self_targets() const;
  [[nodiscard]] std::vector<Address> neighbor_targets() const;
  [[nodiscard]] std::vector<Frame> cache_frames(std::int64_t now_ns) const;

  GossipOptions options_;
  std::map<NameKey, Name> names_;
  std::map<Address, std::int64_t> neighbors_;
  std::vector<Bootstrap> bootstraps_;
  std::deque<Round> rounds_;
  std::int64_t self_due_ns_;           // rounds start when the time is beyond these
  std::int64_t neighbor_due_ns_;
  std::int64_t earliest_activity_ns_;  // of all that is kept, or before it: spares looking at everything each step
  GossipStatistics statistics_;
};

}  // namespace thalweg::names
