#pragma once
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "dataplane/base/random.hpp"
#include "dataplane/core/flat_map.hpp"
#include "dataplane/wire/ip.hpp"

// The host side of IGMP on one port of ours (RFC 3376, with the RFC 2236 rules while an older querier is there): which groups are joined,
// and what routers and snooping switches are told of them. We accept every source, so a group is either EXCLUDE {} or left. Multicast listener
// discovery is the same for IPv6 (RFC 3810, RFC 2710: versions 2 and 1 are IGMP's 3 and 2) with other messages, which `Output` makes of handles.
// Pure: bytes out, time in, random delays from a seed. Thread: the lane that polls the port.
namespace thalweg::core {

class IgmpHost {
 public:
  struct Options {
    std::uint64_t seed{1};
    bool is_silent{};      // keeps the list of groups and tells nobody: ports whose kernel speaks for them
    bool is_ipv6{};        // listener discovery
  };
  // Sends an IGMP message in an IPv4 packet with TTL 1 and the router alert option.
  class Output {
   public:
    virtual void send_igmp(std::uint32_t destination, std::span<const std::byte> message) noexcept = 0;
    // IPv6: one record without sources for each group; and what version 1 has for one group.
    virtual void send_listener_report(wire::IgmpRecord /*record*/, std::span<const std::uint32_t> /*groups*/) noexcept {}
    virtual void send_listener_v1(bool /*is_done*/, std::uint32_t /*group*/) noexcept {}
   protected:
    ~Output() = default;
  };
  struct Statistics {
    std::uint64_t reports{}, leaves{}, queries{};   // messages sent, groups left, messages heard
  };

  static constexpr std::uint32_t kGroupsMax = 512;    // of one port
  static constexpr unsigned kRobustness = 2;          // RFC 3376 8.1; a querier may ask for another
  static constexpr std::int64_t kQueryInterval_ns = 125'000'000'000;        // 8.2
  static constexpr std::int64_t kUnsolicitedV3_ns = 1'000'000'000;          // 8.11
  static constexpr std::int64_t kUnsolicitedV2_ns = 10'000'000'000;         // RFC 2236 8.10
  static constexpr std::int64_t kQuiet_ns = 50'000'000;                     // ours: between answers, whatever is asked
  static constexpr std::uint32_t kAllHosts = 0xE0000001;                    // 224.0.0.1: never reported
  static constexpr std::uint32_t kAllRouters = 0xE0000002;                  // leaves of IGMPv2
  static constexpr std::uint32_t kReportTo = 0xE0000016;                    // 224.0.0.22: IGMPv3 reports

  IgmpHost(const Options& options, Output& output);

  // One more member of `group`; the first one is reported at once. False: kGroupsMax groups are joined.
  bool join(std::uint32_t group, std::int64_t now_ns) noexcept;
  // One member less; the last one is told.
  void leave(std::uint32_t group, std::int64_t now_ns) noexcept;
  [[nodiscard]] bool has(std::uint32_t group) noexcept;
  // The link came up: whoever is behind it has heard nothing of us yet.
  void report_all(std::int64_t now_ns) noexcept;
  // A router asks.
  struct Query {
    std::uint32_t group{};             // 0: for all
    std::int64_t max_response_ns{};    // how long hosts may wait with their answers
    unsigned robustness{};             // 0: not told
    bool is_older{};                   // of the older version, which is spoken from then on
  };
  void on_query(const Query& query, std::int64_t now_ns) noexcept;
  // Another host reported a group in the older version.
  void on_older_report(std::uint32_t group, std::int64_t now_ns) noexcept;
  // An IGMP message that came in, sent to `destination`. False: nothing a host acts on.
  bool on_message(const wire::IgmpView& message, std::uint32_t destination, std::int64_t now_ns) noexcept;
  // Sends what is due. Cheap while nothing is.
  void tick(std::int64_t now_ns) noexcept {
    if (now_ns >= next_ns_) [[unlikely]] serve(now_ns);
  }

  [[nodiscard]] bool speaks_v2(std::int64_t now_ns) const noexcept { return now_ns < v2_until_ns_; }
  [[nodiscard]] std::int64_t next_ns() const noexcept { return next_ns_; }
  [[nodiscard]] const Statistics& statistics() const noexcept { return statistics_; }

 private:
  static constexpr std::int64_t kNever_ns = std::numeric_limits<std::int64_t>::max();
  static constexpr std::size_t kRecordsMax = 64;      // of one report: fits every MTU
  struct Group {
    std::uint32_t address{};
    std::uint32_t members{};              // 0: left, and still telling so
    std::uint32_t changes_left{};         // reports of the last join or leave that are to come
    bool is_last_reporter{};              // IGMPv2: nobody else answered for the group since we did
    std::int64_t change_ns{kNever_ns};    // when the next of them is due
    std::int64_t answer_ns{kNever_ns};    // when a query for the group is answered
  };

  [[nodiscard]] Group* find(std::uint32_t group) noexcept;
  void begin_change(Group& group, std::int64_t now_ns) noexcept;
  void send_change(Group& group, std::int64_t now_ns) noexcept;
  void serve(std::int64_t now_ns) noexcept;
  void answer(Group& group, std::int64_t now_ns) noexcept;
  void answer_all() noexcept;
  void remove_left() noexcept;
  void schedule() noexcept;
  void send_v2(std::uint8_t type, std::uint32_t group) noexcept;
  void send_v3(wire::IgmpRecord record, std::span<const std::uint32_t> groups) noexcept;
  [[nodiscard]] std::int64_t random_delay(std::int64_t limit_ns) noexcept {
    return limit_ns <= 0 ? 0 : static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(limit_ns)));
  }

  Options options_;
  Output& output_;
  Random random_;
  std::vector<Group> groups_;             // capacity reserved at start
  FlatMap<std::uint32_t> index_{kGroupsMax};
  unsigned robustness_{kRobustness};
  std::int64_t v2_until_ns_{};            // an older querier was heard: its version is spoken until then (RFC 3376 7.2.1)
  std::int64_t general_ns_{kNever_ns};    // when a general IGMPv3 query is answered
  std::int64_t quiet_until_ns_{};         // no query is answered before
  std::int64_t asked_until_ns_{};         // a general query of the older version was heard: until then another one changes nothing,
  std::int64_t asked_limit_ns_{};         // unless it wants answers sooner
  std::int64_t next_ns_{kNever_ns};       // what is due first, or sooner
  Statistics statistics_;
};

}  // namespace thalweg::core
