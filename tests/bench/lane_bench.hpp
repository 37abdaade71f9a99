#pragma once
#include <benchmark/benchmark.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "pmd/packet_pool.hpp"
#include "tests/support/two_nodes.hpp"

// What the benchmarks of lanes share: a connected stream, the least that applications do, and the bare loops.
namespace thalweg::bench {

using namespace thalweg::test;

inline constexpr std::uint16_t kPort = 40123;
inline constexpr std::uint16_t kRelayPort = 40124;
inline constexpr std::int32_t kTermLength = 1 << 20;
inline constexpr unsigned kBurst = 32;
inline constexpr unsigned kRun = 14 * kBurst;              // datagrams of one timed run: long against reading the clock
inline constexpr std::int32_t kFrame = 96;                 // 64 bytes of payload

// Times runs one by one and reports the median: a run that was interrupted says nothing about the code. `items` of each run.
class Runs {
 public:
  explicit Runs(std::int64_t items) : items_{items} { times_ns_.reserve(1 << 20); }
  template <typename Run>
  void time(benchmark::State& state, Run&& run) {
    const auto from = std::chrono::steady_clock::now();
    run();
    const auto taken = std::chrono::steady_clock::now() - from;
    times_ns_.push_back(std::chrono::duration<double, std::nano>(taken).count());
    state.SetIterationTime(times_ns_.back() * 1e-9);
  }
  void report(benchmark::State& state) {
    if (times_ns_.empty()) return;
    const auto middle = times_ns_.begin() + static_cast<std::ptrdiff_t>(times_ns_.size() / 2);
    std::nth_element(times_ns_.begin(), middle, times_ns_.end());
    state.counters["ns_per_item"] = *middle / static_cast<double>(items_);
    state.SetItemsProcessed(state.iterations() * items_);
  }

 private:
  std::int64_t items_;
  std::vector<double> times_ns_;
};

// One connected stream, node a to node b, and what the applications at its ends do: the least that an offer and a poll can be.
class Stream {
 public:
  struct Options {
    std::uint32_t idle_connected{};
    std::uint32_t idle_unconnected{};
    bool is_idle_untouched{};    // the idle ones never carried a message: the words to look at all lie at the same place of a page
    bool is_relayed{};           // node b sends it back to node a, to kRelayPort
    bool has_other_ids{};        // under another session
    std::int32_t mtu{1408};
    bool has_other_lane{};       // node b has a second lane, which polls a second cable
  };
  Stream() : Stream(Options{}) {}
  explicit Stream(const Options& options)
      : nodes{TwoNodes::Options{.packet_buffers = 8191, .lanes = options.has_other_lane ? 2U : 1U, .has_filters = false, .has_second_cable = options.has_other_lane}} {
    nodes.a.control.is_lean = nodes.b.control.is_lean = true;
    nodes.b.control.add_subscription({.local = {TwoNodes::kAddressB, kPort}});
    FakeControl::PublicationOptions p{.remote = {TwoNodes::kAddressB, kPort}, .term_length = kTermLength, .mtu = options.mtu};
    publication_ = nodes.a.control.add_publication(p);
    p.endpoint = 0;   // all share the first's
    p.term_length = 64 << 10;
    for (std::uint32_t i = 1; i <= options.idle_connected; ++i) {
      p.start_position = options.is_idle_untouched ? 0 : i % 512 * kFrame;
      add_idle(p, i);
    }
    p.start_position = 0;
    nodes.run_until([&] { return nodes.b.control.images().size() == 1 + options.idle_connected && sender().is_connected != 0; }, 5 * kSecond_ns);
    for (std::uint32_t i = 1; i <= options.idle_unconnected; ++i) {
      p.stream_id = 2'000;   // nobody's
      add_idle(p, 100'000 + i);
    }
    nodes.run_for(500 * kMillisecond_ns);
    std::uint32_t mine = 0;
    for (const std::uint32_t image : nodes.b.control.images()) {
      if (nodes.b.control.registry().images[image].desired.session_id == nodes.a.control.registry().publications[publication_].desired.session_id) mine = image;
    }
    image_ = mine;
    if (options.is_relayed) add_relay(options.has_other_ids);
    sent = nodes.a.control.publisher(publication_).log();
    received = nodes.b.control.subscriber(nodes.b.control.image_links()[mine]).log();
    limit = nodes.a.control.counters().counter(nodes.a.control.registry().publications[publication_].desired.pub_lmt_id);
    subscriber = nodes.b.control.counters().counter(nodes.b.control.registry().links[nodes.b.control.image_links()[mine]].desired.counter_id);
    clock_.start();
    calibration_ = clock_.calibration();
    offset_ns_ = nodes.now_ns - calibration_.to_ns(core::TscClock::read_tsc());
  }
  // As a lane's loop reads it; never goes back behind what was simulated.
  [[nodiscard]] std::int64_t now() const noexcept { return calibration_.to_ns(core::TscClock::read_tsc()) + offset_ns_; }
  [[nodiscard]] core::Lane& lane_a() { return nodes.a.plane->lane(0); }
  [[nodiscard]] core::Lane& lane_b() { return nodes.b.plane->lane(0); }
  [[nodiscard]] shm::PublicationState& sender() { return nodes.a.control.publication_state(publication_); }
  [[nodiscard]] shm::ImageState& receiver() { return nodes.b.control.image_state(image_); }
  [[nodiscard]] shm::PublicationSlot::Wanted& wanted() { return nodes.a.control.registry().publications[publication_].desired; }
  [[nodiscard]] shm::PublicationState& relay() { return nodes.b.control.publication_state(relay_); }
  [[nodiscard]] std::uint16_t source_port() { return nodes.a.control.registry().endpoints[0].observed.bound_port; }
  [[nodiscard]] pmd::Port& port_a() { return nodes.a.plane->port(0); }
  [[nodiscard]] pmd::Port& port_b() { return nodes.b.plane->port(0); }

  [[nodiscard]] wire::UdpFrameTemplate header(bool is_to_b) {
    wire::UdpFrameTemplate::Options o;
    o.source_mac = (is_to_b ? port_a() : port_b()).mac();
    o.destination_mac = (is_to_b ? port_b() : port_a()).mac();
    o.source = {TwoNodes::kAddressA, source_port()};
    o.destination = {TwoNodes::kAddressB, kPort};
    if (!is_to_b) std::swap(o.source, o.destination);
    return wire::UdpFrameTemplate{o};
  }

  TwoNodes nodes;
  shm::LogBuffer sent, received;
  shm::Counter limit, subscriber;

 private:
  void add_relay(bool has_other_ids) {
    nodes.a.control.add_subscription({.local = {TwoNodes::kAddressA, kRelayPort}});
    relay_ = nodes.b.control.add_relay({.image = image_, .remote = {TwoNodes::kAddressA, kRelayPort}, .session_id = has_other_ids ? 77 : 0});
    nodes.run_until([&] { return relay().is_connected != 0; }, 5 * kSecond_ns);
  }
  void add_idle(FakeControl::PublicationOptions& p, std::uint32_t i) {
    p.session_id = static_cast<std::int32_t>(0x100000 + i);
    nodes.a.control.add_publication(p);
    if (i % 64 == 0) nodes.run_for(2 * kMillisecond_ns);   // door bells and pending SETUPs are bounded
  }
  std::uint32_t publication_{}, image_{}, relay_{};
  core::TscClock clock_;
  core::TscClock::Calibration calibration_;
  std::int64_t offset_ns_{};
};

// ---- what an application does ----

// Appends one message of `payload` bytes: header, copy, commit. Rotates the term when it is full. Returns the next position.
inline std::int64_t offer(const shm::LogBuffer& log, std::int64_t position, std::int32_t session, std::int32_t initial_term, const std::byte* payload,
                   std::int32_t length) noexcept {
  const int bits = log.position_bits();
  const std::int32_t offset = wire::term_offset_of(position, bits);
  const std::int32_t frame_length = length + wire::kDataHeaderLength;
  const std::int32_t aligned = wire::align_frame(frame_length);
  const std::int32_t count = wire::term_count_of(position, bits);
  const std::int32_t term_id = wire::wrapping_add(initial_term, count);
  std::byte* const frame = log.at(position);
  if (offset + aligned > log.term_length()) {
    const std::int32_t rest = log.term_length() - offset;
    wire::build(frame, wire::DataHeader{-rest, wire::flag::kUnfragmented, wire::FrameType::kPad, offset, session, 1001, term_id, 0});
    log.store<std::int64_t>(shm::meta::kTails + 8 * static_cast<std::size_t>(count % 3), shm::pack_tail(term_id, log.term_length()));
    shm::frame_length_release(frame, rest);
    shm::rotate_log(log, count, term_id);
    return offer(log, position + rest, session, initial_term, payload, length);
  }
  log.store<std::int64_t>(shm::meta::kTails + 8 * static_cast<std::size_t>(count % 3), shm::pack_tail(term_id, offset + aligned));
  wire::build(frame, wire::DataHeader{-frame_length, wire::flag::kUnfragmented, wire::FrameType::kData, offset, session, 1001, term_id, 0});
  std::memcpy(frame + wire::kDataHeaderLength, payload, static_cast<std::size_t>(length));
  shm::frame_length_release(frame, frame_length);
  if (offset + aligned == log.term_length()) shm::rotate_log(log, count, term_id);
  return position + aligned;
}

// Reads every byte of every frame from `position` on, up to the first that is not there or `limit`; returns the new position.
inline std::int64_t poll(const shm::LogBuffer& log, std::int64_t position, std::int64_t limit, std::uint64_t& sum) noexcept {
  for (;;) {
    std::byte* const frame = log.at(position);
    const std::int32_t length = shm::frame_length_acquire(frame);
    if (length <= 0 || position >= limit) return position;
    for (std::int32_t i = wire::kDataHeaderLength; i < length; i += 8) sum += load_le<std::uint64_t>(frame + i);
    position += wire::align_frame(length);
  }
}

// A ring of its own and buffers of a pool of its own: the bare loops.
struct Bare {
  Bare() {
    pmd::PacketPoolOptions o;
    o.name = "bare" + std::to_string(next++);
    o.count = 4095;
    pool = std::make_unique<pmd::PacketPool>(*pmd::PacketPool::create(o));
    ring = rte_ring_create(o.name.c_str(), 1024, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    log_bytes = shm::log_file_length(kTermLength, 4096);
    memory.reset(static_cast<std::byte*>(std::aligned_alloc(4096, log_bytes)));
    std::memset(memory.get(), 0, log_bytes);
    log = shm::LogBuffer{memory.get(), log_bytes, kTermLength};
  }
  ~Bare() { rte_ring_free(ring); }
  Bare(const Bare&) = delete;
  Bare& operator=(const Bare&) = delete;
  inline static unsigned next = 0;
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<pmd::PacketPool> pool;
  rte_ring* ring{};
  std::uint64_t log_bytes{};
  std::unique_ptr<std::byte, Free> memory;
  shm::LogBuffer log;
};

// Receive a burst, read addresses and stream of each frame, copy its payload into the log, free the burst.
inline unsigned bare_receive_burst(Bare& bare, std::uint64_t stream, std::int64_t& position) noexcept {
  rte_mbuf* frames[kBurst];
  const unsigned count = rte_ring_sc_dequeue_burst(bare.ring, reinterpret_cast<void**>(frames), kBurst, nullptr);
  for (unsigned i = 0; i < count; ++i) rte_prefetch0(rte_pktmbuf_mtod(frames[i], const void*));
  for (unsigned i = 0; i < count; ++i) {
    const auto* const p = rte_pktmbuf_mtod(frames[i], const std::byte*);
    const bool is_mine = load_be16(p + 12) == wire::kEtherTypeIpv4 && p[23] == std::byte{wire::kIpProtocolUdp} && load_be16(p + 36) == kPort &&
                         load_le<std::uint64_t>(p + 42 + 12) == stream;
    const auto length = static_cast<std::size_t>(load_be16(p + 38) - 8);
    if (!is_mine) continue;
    const std::int32_t offset = load_le<std::int32_t>(p + 42 + 8);
    if (offset + static_cast<std::int32_t>(length) > kTermLength) continue;
    std::memcpy(bare.log.at(position & ~std::int64_t{kTermLength - 1}) + offset, p + 42, length);
    position += static_cast<std::int64_t>(length);
  }
  rte_pktmbuf_free_bulk(frames, count);
  return count;
}

inline std::uint64_t stream_word(Stream& s) {
  return static_cast<std::uint32_t>(s.wanted().session_id) | std::uint64_t{1001} << 32;
}

// Buffers by the burst, header, copy, burst out.
inline void bare_send_run(Bare& bare, const wire::UdpFrameTemplate& header, const shm::LogBuffer& log, std::int64_t& position, std::size_t length,
                   unsigned count) noexcept {
  for (unsigned n = 0; n < count; n += kBurst) {
    rte_mbuf* frames[kBurst];
    const unsigned burst = std::min(kBurst, count - n);
    rte_pktmbuf_alloc_bulk(bare.pool->get(), frames, burst);
    for (unsigned i = 0; i < burst; ++i) {
      auto* const p = rte_pktmbuf_mtod(frames[i], std::byte*);
      if (wire::term_offset_of(position, 20) + static_cast<std::int32_t>(length) > kTermLength) position = (position | (kTermLength - 1)) + 1;
      header.write(p, length);
      std::memcpy(p + 42, log.at(position), length);
      frames[i]->data_len = static_cast<std::uint16_t>(42 + length);
      frames[i]->pkt_len = static_cast<std::uint32_t>(42 + length);
      position += static_cast<std::int64_t>(length);
    }
    rte_ring_sp_enqueue_bulk(bare.ring, reinterpret_cast<void**>(frames), burst, nullptr);
  }
}

}  // namespace thalweg::bench
