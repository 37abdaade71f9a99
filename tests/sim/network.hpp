#pragma once
#include <cstdint>
#include <map>
#include <queue>
#include <span>
#include <utility>
#include <vector>

#include "dataplane/base/random.hpp"
#include "dataplane/wire/ip.hpp"
#include "tests/sim/verdict.hpp"

// The wire between nodes: an event queue of datagrams in virtual time, with impairments per direction. One random stream decides
// everything, so a run repeats exactly.
namespace thalweg::sim {

struct Impairment {
  std::uint32_t loss_ppm{};
  std::uint32_t duplicate_ppm{};
  std::uint32_t reorder_ppm{};      // held back by up to reorder_ns
  std::uint32_t corrupt_ppm{};      // flipped bits: the UDP checksum fails, the datagram is dropped on receipt
  std::uint32_t header_fuzz_ppm{};  // a copy with broken fields is delivered as well; receivers must not be harmed
  std::int64_t delay_ns{};
  std::int64_t jitter_ns{};
  std::int64_t reorder_ns{};
};

struct Datagram {
  std::int64_t due_ns{};
  std::uint64_t order{};  // ties go by order of sending
  wire::UdpEndpoint from;
  wire::UdpEndpoint to;
  std::vector<std::byte> bytes;
};

class Network {
 public:
  Network(std::uint64_t seed, Verdict& verdict) : random_{seed}, verdict_{verdict} {}

  void set_impairment(std::uint32_t from, std::uint32_t to, const Impairment& impairment) { links_[{from, to}].impairment = impairment; }
  // Nothing passes from `from` to `to` before `until_ns`.
  void partition(std::uint32_t from, std::uint32_t to, std::int64_t until_ns) { links_[{from, to}].blocked_until_ns = until_ns; }
  // From now on every link is perfect, apart from its delay.
  void heal();

  void send(const wire::UdpEndpoint& from, const wire::UdpEndpoint& to, std::span<const std::byte> bytes, std::int64_t now_ns);
  // The next datagram due by `now_ns`; false when there is none.
  bool receive(Datagram& out, std::int64_t now_ns);
  // A digest of every datagram handed in so far, with its time and ends: two runs with the same one did the same.
  [[nodiscard]] std::uint64_t trace() const noexcept { return trace_; }
  [[nodiscard]] std::int64_t next_due_ns() const noexcept { return queue_.empty() ? INT64_MAX : queue_.top().due_ns; }

 private:
  struct Link {
    Impairment impairment;
    std::int64_t blocked_until_ns{};
  };
  struct Later {
    bool operator()(const Datagram& a, const Datagram& b) const noexcept {
      return a.due_ns != b.due_ns ? a.due_ns > b.due_ns : a.order > b.order;
    }
  };
  void enqueue(const wire::UdpEndpoint& from, const wire::UdpEndpoint& to, std::vector<std::byte> bytes, std::int64_t due_ns);
  [[nodiscard]] std::vector<std::byte> buffer_with(std::span<const std::byte> bytes);
  void trace(std::uint64_t word) noexcept {
    trace_ = (trace_ ^ word) * 0x9E3779B97F4A7C15U;
    trace_ ^= trace_ >> 29;
  }
  void trace(const wire::UdpEndpoint& from, const wire::UdpEndpoint& to, std::span<const std::byte> bytes, std::int64_t now_ns) noexcept;
  [[nodiscard]] std::int64_t transit_ns(const Impairment& impairment);

  Random random_;
  Verdict& verdict_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, Link> links_;
  std::priority_queue<Datagram, std::vector<Datagram>, Later> queue_;
  std::vector<std::vector<std::byte>> spare_;  // buffers of datagrams gone by
  std::uint64_t next_order_{};
  std::uint64_t trace_{};
};

// Breaks one datagram in a way that its receiver can and must recognise, or that must not matter: length, version, type, alignment,
// fields out of range, unknown session, positions far away. Never moves valid data to another valid place: that is what checksums are for.
void fuzz_header(std::vector<std::byte>& bytes, Random& random);

}  // namespace thalweg::sim
