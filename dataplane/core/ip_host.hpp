#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/core/flat_map.hpp"
#include "dataplane/core/igmp_host.hpp"
#include "dataplane/wire/ip.hpp"

struct rte_mbuf;

// The small IP host of one port of ours: ARP (RFC 826, RFC 5227 announcements), ICMP echo and "port unreachable" (RFC 792), IGMP
// (igmp_host.hpp), VLAN tags.
// Bytes in, bytes out: frames wait here as opaque handles and are never looked into, so no EAL is needed to test it.
// Thread: the lane that polls the port.
namespace thalweg::core {

class IpHost final : private IgmpHost::Output {
 public:
  struct Options {
    wire::MacAddress mac;
    std::uint32_t address{};                // host order
    std::uint32_t prefix_length{24};
    std::optional<std::uint16_t> vlan;
    IgmpHost::Options igmp{};
  };
  // What the host wants done. Called for ARP and ICMP and for frames that waited, never per data frame.
  class Output {
   public:
    virtual void send_frame(std::span<const std::byte> frame) noexcept = 0;             // whole Ethernet frame, to be copied
    virtual void release(rte_mbuf* frame, const wire::MacAddress& mac) noexcept = 0;    // waited in hold(): may go now
    virtual void discard(rte_mbuf* frame) noexcept = 0;                                 // waited in vain
   protected:
    ~Output() = default;
  };
  struct Statistics {
    std::uint64_t arp_requests{}, arp_replies{}, icmp_replies{};
    IgmpHost::Statistics igmp;
  };

  static constexpr std::uint32_t kNeighboursMax = 1024;       // 4 times the hosts of a /24
  static constexpr std::size_t kQueueMax = 4;                 // frames that wait for one neighbour
  static constexpr std::int64_t kRequestInterval_ns = 200'000'000;
  static constexpr std::int64_t kReachable_ns = 60'000'000'000;   // then refreshed by unicast requests
  static constexpr std::int64_t kUnused_ns = 600'000'000'000;     // not asked for: forgotten
  static constexpr unsigned kRequestsMax = 5;                 // unanswered: forgotten
  static constexpr std::uint32_t kIcmpPerSecond = 100;        // bound on what a scan can make us send

  IpHost(const Options& options, Output& output);

  // The neighbour's MAC, if known. Unknown: starts resolving and answers nullopt; the caller may hold() frames.
  [[nodiscard]] std::optional<wire::MacAddress> resolve(std::uint32_t next_hop, std::int64_t now_ns) noexcept;
  // Keeps `frame` until `next_hop` is known. False: its queue is full, the caller keeps the frame.
  [[nodiscard]] bool hold(std::uint32_t next_hop, rte_mbuf* frame) noexcept;
  // Bumped when any neighbour's MAC changes, is refreshed or forgotten, or a group is joined or left: whoever remembered asks again.
  [[nodiscard]] std::uint32_t epoch() const noexcept { return epoch_; }

  // One member more or less of a multicast group. False: too many groups are joined.
  bool join(std::uint32_t group, std::int64_t now_ns) noexcept;
  void leave(std::uint32_t group, std::int64_t now_ns) noexcept;
  [[nodiscard]] bool has_group(std::uint32_t group) noexcept { return igmp_.has(group); }

  // Start-up and link-up: tells the neighbours where we are, and which groups we want.
  void announce(std::int64_t now_ns) noexcept;
  // `payload`: behind the Ethernet header. False: malformed or not worth an answer (nothing is done).
  bool on_arp(std::span<const std::byte> payload, std::int64_t now_ns) noexcept;
  // An ICMP message to our address. True: answered.
  bool on_icmp(const wire::EthernetView& ethernet, const wire::Ipv4View& ip, std::int64_t now_ns) noexcept;
  // An IGMP message; from outside the link (TTL other than 1) it is not believed (RFC 3376 4). True: acted on.
  bool on_igmp(const wire::Ipv4View& ip, std::int64_t now_ns) noexcept;
  // Answers a datagram that nobody listens for. `packet`: from its IP header on. True: answered, false: limited or not allowed (RFC 1122 3.2.2).
  bool send_port_unreachable(const wire::EthernetView& ethernet, std::span<const std::byte> packet, std::int64_t now_ns) noexcept;
  // Retries, refreshes, ageing. Bounded: looks at kTickMax neighbours a call.
  void tick(std::int64_t now_ns) noexcept;
  // Gives all waiting frames back through discard().
  void discard_all() noexcept;

  [[nodiscard]] Statistics statistics() const noexcept {
    Statistics all = statistics_;
    all.igmp = igmp_.statistics();
    return all;
  }
  [[nodiscard]] const Options& options() const noexcept { return options_; }

 private:
  static constexpr std::uint32_t kTickMax = 64;
  struct Neighbour {
    std::uint32_t address{};
    wire::MacAddress mac;
    bool is_used{};
    bool is_known{};
    std::uint8_t requests{};            // sent since the last answer
    std::uint8_t waiting_count{};
    bool is_stranger{};                 // it asked for us, and we never for it
    std::int64_t confirmed_ns{};
    std::int64_t asked_ns{};            // last resolve()
    std::int64_t next_request_ns{};
    std::array<rte_mbuf*, kQueueMax> waiting{};
  };

  void send_igmp(std::uint32_t destination, std::span<const std::byte> message) noexcept override;
  Neighbour* find(std::uint32_t address) noexcept;
  Neighbour* add(std::uint32_t address, bool is_stranger) noexcept;
  bool forget_a_stranger() noexcept;
  void forget(Neighbour& neighbour) noexcept;
  void learn(Neighbour& neighbour, const wire::MacAddress& mac, std::int64_t now_ns) noexcept;
  void request(const Neighbour& neighbour) noexcept;
  void tick_one(Neighbour& neighbour, std::int64_t now_ns) noexcept;
  void send_arp(const wire::MacAddress& to, const wire::ArpPacket& arp) noexcept;
  std::size_t put_ethernet(std::byte* p, const wire::MacAddress& to, std::uint16_t type) const noexcept;
  [[nodiscard]] bool is_on_link(std::uint32_t address) const noexcept;
  bool take_icmp_allowance(std::int64_t now_ns) noexcept;

  Options options_;
  Output& output_;
  std::array<Neighbour, kNeighboursMax> neighbours_{};
  FlatMap<std::uint32_t> index_{kNeighboursMax};
  std::uint32_t used_{};                // entries [0, used_) were ever used
  std::array<std::uint16_t, kNeighboursMax> free_{};   // of these, those that are free again
  std::uint32_t free_count_{};
  std::uint32_t tick_at_{};
  std::uint32_t stranger_at_{};
  std::uint32_t epoch_{1};
  std::uint32_t icmp_allowance_{kIcmpPerSecond};
  std::int64_t icmp_second_ns_{};
  Statistics statistics_;
  IgmpHost igmp_;
};

}  // namespace thalweg::core
