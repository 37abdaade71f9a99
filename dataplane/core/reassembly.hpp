#pragma once
#include <array>
#include <cstdint>
#include <span>

#include "dataplane/wire/ip.hpp"

struct rte_mbuf;

// Puts UDP datagrams together that came in IPv4 fragments (RFC 791 3.2), for one port. Fragments are hostile: the memory is bounded by the
// datagrams under way at once, nothing that was received is overwritten, and a datagram whose pieces contradict one another is given up.
// Pieces are copied as they come, so none of them holds a packet buffer of the port. Why not librte_ip_frag: docs/adr/0005.
// Bytes in, bytes out: whole datagrams lie in buffers that are opaque handles here, so no EAL is needed to test it.
// Thread: the lane that speaks for the port.
namespace thalweg::core {

class Reassembly {
 public:
  static constexpr std::size_t kDatagramsMax = 32;                  // at once; one more and the oldest makes room
  static constexpr std::int64_t kPatience_ns = 200'000'000;         // pieces follow each other closely; later ones would meet a reused identification
  static constexpr std::size_t kPieceMin = 256;                     // of all pieces but the last: no link is so small, and the work would be ours
  static constexpr std::size_t kPacketMax = 65'312;                 // IP bytes that a buffer has room for (pmd::kMtuMax)
  static constexpr std::size_t kPayloadMax = kPacketMax - wire::kIpv4HeaderLength;
  static constexpr std::size_t kFrameMax = kPacketMax + wire::kEthernetHeaderLength + wire::kVlanTagLength;

  struct Buffer {
    rte_mbuf* frame{};    // null: none could be had
    std::byte* bytes{};   // kFrameMax of them
  };
  class Buffers {
   public:
    [[nodiscard]] virtual Buffer take() noexcept = 0;
    virtual void give_back(rte_mbuf* frame) noexcept = 0;
   protected:
    ~Buffers() = default;
  };

  enum class Fate : std::uint8_t {
    kKept,       // more to come
    kComplete,   // the answer has the whole frame, which is the caller's
    kRepeated,   // was there already, as a whole
    kBad,        // impossible length or place, or a contradiction: its datagram is given up
    kNoBuffer,
  };
  struct Answer {
    Fate fate{};
    rte_mbuf* frame{};
    std::span<const std::byte> bytes{};   // Ethernet header as received, IPv4 header of 20 bytes, IP payload
    std::size_t header_length{};          // of the Ethernet header
  };

  explicit Reassembly(Buffers& buffers) noexcept : buffers_{buffers} {}
  ~Reassembly() { discard_all(); }
  Reassembly(const Reassembly&) = delete;
  Reassembly& operator=(const Reassembly&) = delete;

  // One fragment. `frame` is what was received; `ethernet` and `ip` are views of it, both good.
  [[nodiscard]] Answer add(std::span<const std::byte> frame, const wire::EthernetView& ethernet, const wire::Ipv4View& ip, std::int64_t now_ns) noexcept;
  // Gives up what has waited too long.
  void tick(std::int64_t now_ns) noexcept;
  // Gives all buffers back.
  void discard_all() noexcept;
  // Datagrams that were never completed.
  [[nodiscard]] std::uint64_t given_up() const noexcept { return given_up_; }

 private:
  static constexpr std::size_t kWordBits = 64;
  static constexpr std::size_t kUnits = (kPayloadMax + wire::kFragmentUnit - 1) / wire::kFragmentUnit;
  struct Datagram {
    Buffer buffer{};               // frame null: not in use
    std::uint32_t source{};
    std::uint32_t destination{};
    std::uint16_t identification{};
    std::size_t header_length{};
    std::size_t end{};             // bytes of IP payload; 0: the last piece is missing
    std::size_t reach{};           // where the furthest piece ends
    std::size_t received{};
    std::int64_t since_ns{};
    std::array<std::uint64_t, (kUnits + kWordBits - 1) / kWordBits> units{};   // bit: this unit is there
    [[nodiscard]] std::size_t count(std::size_t first, std::size_t units_wanted) const noexcept;
    void mark(std::size_t first, std::size_t units_got) noexcept;
  };

  [[nodiscard]] Datagram* find(const wire::Ipv4View& ip) noexcept;
  [[nodiscard]] Datagram* start(std::span<const std::byte> frame, const wire::EthernetView& ethernet, const wire::Ipv4View& ip, std::int64_t now_ns) noexcept;
  [[nodiscard]] static Fate put(Datagram& datagram, const wire::Ipv4View& ip) noexcept;
  [[nodiscard]] static Answer finish(Datagram& datagram, const wire::Ipv4View& ip) noexcept;
  void give_up(Datagram& datagram) noexcept;

  Buffers& buffers_;
  std::uint64_t given_up_{};
  std::array<Datagram, kDatagramsMax> datagrams_{};
};

}  // namespace thalweg::core
