#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/core/flat_map.hpp"
#include "dataplane/core/igmp_host.hpp"
#include "dataplane/shm/address_book.hpp"
#include "dataplane/wire/ipv6.hpp"

struct rte_mbuf;

// The small IP host of one port of ours: ARP (RFC 826, RFC 5227 announcements), ICMP echo and "port unreachable" (RFC 792), IGMP
// (igmp_host.hpp), VLAN tags. Where the port has an IPv6 address: neighbour discovery (RFC 4861; hosts only, no duplicate address detection: the
// address is configured), ICMPv6 echo, listener discovery. Addresses are IPv4 in host order, or handles.
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
    std::uint32_t address6{};               // handle; 0: no IPv6
    std::uint32_t prefix_length6{};
    shm::AddressBook* book{};               // what handles stand for; needed for IPv6
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
    std::uint64_t solicitations{}, advertisements{};   // sent
    std::uint64_t replies_limited{};                   // to who asked for our MAC: not sent, there were too many
    IgmpHost::Statistics mld;
  };

  static constexpr std::uint32_t kNeighboursMax = 1024;       // 4 times the hosts of a /24
  static constexpr std::size_t kQueueMax = 4;                 // frames that wait for one neighbour
  static constexpr std::int64_t kRequestInterval_ns = 200'000'000;
  static constexpr std::int64_t kReachable_ns = 60'000'000'000;   // then refreshed by unicast requests
  static constexpr std::int64_t kUnused_ns = 600'000'000'000;     // not asked for: forgotten
  static constexpr unsigned kRequestsMax = 5;                 // unanswered: forgotten
  static constexpr std::uint32_t kIcmpPerSecond = 100;        // bound on what a scan can make us send
  // Answers to who asks for our MAC: to hosts that we send to, and as many again to all others, so that a storm of these keeps none of those out.
  // Enough for all hosts of a /22 that start in the same second.
  static constexpr std::uint32_t kRepliesPerSecond = 1024;

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
  [[nodiscard]] bool has_group(std::uint32_t group) noexcept { return membership_of(group).has(group); }

  // Start-up and link-up: tells the neighbours where we are, and which groups we want.
  void announce(std::int64_t now_ns) noexcept;
  // `payload`: behind the Ethernet header. False: malformed or not worth an answer (nothing is done).
  bool on_arp(std::span<const std::byte> payload, std::int64_t now_ns) noexcept;
  // An ICMP message to our address. True: answered.
  bool on_icmp(const wire::EthernetView& ethernet, const wire::Ipv4View& ip, std::int64_t now_ns) noexcept;
  // An IGMP message; from outside the link (TTL other than 1) it is not believed (RFC 3376 4). True: acted on.
  bool on_igmp(const wire::Ipv4View& ip, std::int64_t now_ns) noexcept;
  // An ICMPv6 message that came in: neighbours, listeners, echo. True: acted on.
  bool on_icmpv6(const wire::EthernetView& ethernet, const wire::Ipv6View& ip, std::int64_t now_ns) noexcept;
  // Where nodes of the link reach us without configuration: fe80:: and the MAC (RFC 4291, appendix A).
  [[nodiscard]] const wire::Ipv6Address& link_local() const noexcept { return link_local_; }
  // Answers a datagram of either family that nobody listens for. `packet`: from its IP header on. True: answered, false: limited or not allowed
  // (RFC 1122 3.2.2, RFC 4443 2.4).
  bool send_port_unreachable(const wire::EthernetView& ethernet, std::span<const std::byte> packet, std::int64_t now_ns) noexcept;
  // Retries, refreshes, ageing. Bounded: looks at kTickMax neighbours a call.
  void tick(std::int64_t now_ns) noexcept;
  // Gives all waiting frames back through discard().
  void discard_all() noexcept;

  [[nodiscard]] Statistics statistics() const noexcept {
    Statistics all = statistics_;
    all.igmp = igmp_.statistics();
    all.mld = mld_.statistics();
    return all;
  }
  [[nodiscard]] const Options& options() const noexcept { return options_; }

 private:
  static constexpr std::size_t kFrameMin = 60;   // Ethernet pads shorter frames
  static constexpr std::uint32_t kTickMax = 64;
  static constexpr std::int64_t kKeepInterval_ns = 10'000'000'000;
  static_assert(kKeepInterval_ns < shm::AddressBook::kLearnedAge_s * kSecond_ns);
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
    std::int64_t kept_ns{};             // IPv6: when its handle was last looked up
    std::array<rte_mbuf*, kQueueMax> waiting{};
  };

  void send_igmp(std::uint32_t destination, std::span<const std::byte> message) noexcept override;
  // ip_host_v6.cpp
  void send_listener_report(wire::IgmpRecord record, std::span<const std::uint32_t> groups) noexcept override;
  void send_listener_v1(bool is_done, std::uint32_t group) noexcept override;
  void announce6(std::int64_t now_ns) noexcept;
  void solicit(const Neighbour& neighbour) noexcept;
  bool on_solicitation(const wire::EthernetView& ethernet, const wire::Ipv6View& ip, const wire::NeighbourMessage& message, std::int64_t now_ns) noexcept;
  bool on_advertisement(const wire::NeighbourMessage& message, std::int64_t now_ns) noexcept;
  bool on_listener_query(const wire::Ipv6View& ip, const wire::Icmpv6View& icmp, std::int64_t now_ns) noexcept;
  void on_listener_report(const wire::Ipv6View& ip, const wire::Icmpv6View& icmp, std::int64_t now_ns) noexcept;
  bool on_echo6(const wire::EthernetView& ethernet, const wire::Ipv6View& ip, std::int64_t now_ns) noexcept;
  void advertise(const wire::MacAddress& to, const wire::Ipv6Address& destination, const wire::Ipv6Address& target, bool is_solicited) noexcept;
  void send_icmpv6(const wire::MacAddress& to, const wire::Ipv6Address& source, const wire::Ipv6Address& destination, std::uint8_t hop_limit,
                   bool router_alert, std::span<const std::byte> message) noexcept;
  [[nodiscard]] wire::Ipv6Address address6() const noexcept { return options_.book->address(options_.address6).address; }
  [[nodiscard]] bool is_ours6(const wire::Ipv6Address& address) const noexcept { return address == address6() || address == link_local_; }
  [[nodiscard]] bool is_on_link6(const wire::Ipv6Address& address) const noexcept;
  [[nodiscard]] wire::Ipv6Address group_address(std::uint32_t group) const noexcept;
  [[nodiscard]] IgmpHost& membership_of(std::uint32_t group) noexcept { return wire::is_handle(group) ? mld_ : igmp_; }
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
  void begin_epoch() noexcept { epoch_ += epoch_ == ~std::uint32_t{0} ? 2 : 1; }   // never 0: nobody has looked up anything in it
  // So many of something in a second.
  class Allowance {
   public:
    explicit Allowance(std::uint32_t per_second) noexcept : per_second_{per_second}, left_{per_second} {}
    [[nodiscard]] bool take(std::int64_t now_ns) noexcept;
   private:
    std::uint32_t per_second_;
    std::uint32_t left_;
    std::int64_t second_ns_{};
  };
  // `neighbour`: who asks for our MAC; null: nobody we know. False: too many do.
  [[nodiscard]] bool may_answer(const Neighbour* neighbour, std::int64_t now_ns) noexcept;
  bool send_port_unreachable6(const wire::EthernetView& ethernet, std::span<const std::byte> packet, std::int64_t now_ns) noexcept;

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
  Allowance icmp_{kIcmpPerSecond};
  Allowance replies_to_known_{kRepliesPerSecond};
  Allowance replies_to_others_{kRepliesPerSecond};
  Statistics statistics_;
  IgmpHost igmp_;
  // IPv6.
  IgmpHost mld_;
  wire::Ipv6Address link_local_;
  shm::LearnBudget strangers_;
  bool has_joined_own_{};               // the groups in which neighbours ask for our addresses
};

}  // namespace thalweg::core
