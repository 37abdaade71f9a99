#include "pmd/backends/loopback.hpp"

#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include <algorithm>

#include "dataplane/base/units.hpp"
#include "pmd/frame.hpp"

namespace thalweg::pmd {
namespace {

constexpr std::uint32_t kLocalhost = 0x7F000001;

std::uint32_t localhost_of(std::uint32_t address) noexcept { return wire::is_handle(address) ? wire::kLoopbackIpv6 : kLocalhost; }

// Room of one ring. What waits in the rings may take half of the packet buffers and no more: with all of them in there, none would be left
// to receive with, on any port, and a sender would find the pool empty before it finds the ring full.
std::uint32_t ring_room(const PortOptions& options, const rte_mempool* pool, std::size_t rings) noexcept {
  const auto share = static_cast<std::uint32_t>(pool->size / 2 / rings);
  return std::clamp<std::uint32_t>(share, kBurstMax, std::max<std::uint32_t>(options.ring_size, kBurstMax));
}

}  // namespace

Result<std::unique_ptr<Port>> LoopbackPort::create(const PortOptions& options, const SocketTable& kernel_sockets, rte_mempool* pool,
                                                   const SocketInterval& interval, shm::AddressBook* addresses) {
  std::unique_ptr<LoopbackPort> port{new LoopbackPort{options, kernel_sockets, pool, interval}};
  port->table_.use(addresses);
  if (auto opened = port->table_.open_queues(port->capabilities_.rx_queue_count); !opened)
    return tl::unexpected<Error>{std::move(opened.error())};
  static std::atomic<unsigned> next_id{};  // ring names are unique in the process
  const std::string prefix = "loop" + std::to_string(next_id.fetch_add(1)) + "_";
  for (std::size_t i = 0; i < port->queues_.size() * port->queues_.size(); ++i) {
    const std::string name = prefix + std::to_string(i);
    rte_ring* const ring =
        rte_ring_create(name.c_str(), ring_room(options, pool, port->queues_.size() * port->queues_.size()), SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ);
    if (ring == nullptr)
      return fail(ErrorCode::kNoSpace, "loopback ring of " + std::to_string(options.ring_size) + ": " + rte_strerror(rte_errno),
                  "lower the port's ring-size, or give the data plane more memory");
    port->rings_.push_back(ring);
  }
  return port;
}

LoopbackPort::LoopbackPort(const PortOptions& options, const SocketTable& kernel_sockets, rte_mempool* pool, const SocketInterval& interval)
    : kernel_sockets_{kernel_sockets} {
  const auto count = std::max<std::uint16_t>(options.queues, 1);
  for (std::uint16_t queue = 0; queue < count; ++queue) queues_.emplace_back(table_, queue, pool, interval);
  // The mbuf arrives as it was sent, and receivers want it contiguous: so no chains.
  capabilities_ = {.has_multi_segment_tx = false,
                   .needs_arp = false,
                   .is_real_wire = false,
                   .rx_queue_count = count,
                   .tx_queue_count = count};
}

LoopbackPort::~LoopbackPort() {
  for (rte_ring* const ring : rings_) {
    void* frame = nullptr;
    while (rte_ring_sc_dequeue(ring, &frame) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(frame));
    rte_ring_free(ring);
  }
}

std::uint16_t LoopbackPort::rx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept {
  SocketQueue& sockets = queues_[queue];
  unsigned taken = 0;
  for (std::uint16_t from = 0; from < queues_.size() && taken < count; ++from)
    taken += rte_ring_sc_dequeue_burst(ring(from, queue), reinterpret_cast<void**>(frames + taken), count - taken, nullptr);
  if (taken != 0) {
    std::uint64_t bytes = 0;
    for (unsigned i = 0; i < taken; ++i) bytes += frames[i]->pkt_len;
    sockets.counters.rx_frames.add(taken);
    sockets.counters.rx_bytes.add(bytes);
  }
  if (taken < count)
    taken += sockets.receive(now_ns_.load(std::memory_order_relaxed), frames + taken, static_cast<std::uint16_t>(count - taken));
  return static_cast<std::uint16_t>(taken);
}

LoopbackPort::Target LoopbackPort::classify(rte_mbuf* frame) const noexcept {
  UdpFrame view;
  if (!UdpFrame::parse(frame, view)) return {};
  if (wire::is_group(view.destination.address)) {
    const std::uint32_t slot = table_.find_sender(view.source, view.destination);
    if (slot == SocketTable::kNone || table_.fd(slot) < 0) return {};
    return {.kind = Target::Kind::kSocket, .fd = table_.fd(slot), .remote = table_.remote(slot)};
  }
  if (const std::uint32_t slot = table_.find_or_wildcard(view.destination); slot != SocketTable::kNone) {
    if (wire::is_any(view.source.address)) {  // sent from a wildcard endpoint: the kernel would have put this in
      const std::uint32_t localhost = localhost_of(view.source.address);
      rewrite_source(frame, view.source.address, localhost);
      view.source.address = localhost;
    }
    // A connected socket hears its peer only (wire-protocol 5.2); in memory we have to see to that.
    const wire::UdpEndpoint peer = table_.remote(slot);
    if (peer.port != 0 && peer != view.source) return {};
    return {.kind = Target::Kind::kRing, .queue = table_.queue(slot)};
  }
  if (const std::uint32_t slot = table_.find(view.source); slot != SocketTable::kNone && table_.fd(slot) >= 0)
    return {.kind = Target::Kind::kSocket, .fd = table_.fd(slot), .remote = table_.remote(slot)};
  if (const std::uint32_t slot = kernel_sockets_.find(SocketTable::wildcard_of(view.source)); slot != SocketTable::kNone)
    return {.kind = Target::Kind::kSocket, .fd = kernel_sockets_.fd(slot), .remote = kernel_sockets_.remote(slot)};
  return {};
}

std::uint16_t LoopbackPort::dispatch(const Target& target, std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept {
  SocketQueue& sockets = queues_[queue];
  switch (target.kind) {
    case Target::Kind::kSocket: return sockets.send(target.fd, target.remote, frames, count);
    case Target::Kind::kRing: {
      rte_ring* const to = ring(queue, target.queue);
      const unsigned room = std::min<unsigned>(count, rte_ring_free_count(to));
      if (room == 0) return 0;
      std::uint64_t bytes = 0;
      for (unsigned i = 0; i < room; ++i) bytes += frames[i]->pkt_len;  // read before the frames belong to the receiver
      rte_ring_sp_enqueue_bulk(to, reinterpret_cast<void**>(frames), room, nullptr);
      sockets.counters.tx_frames.add(room);
      sockets.counters.tx_bytes.add(bytes);
      return static_cast<std::uint16_t>(room);
    }
    case Target::Kind::kDrop: break;
  }
  sockets.counters.tx_errors.add(count);
  rte_pktmbuf_free_bulk(frames, count);
  return count;
}

std::uint16_t LoopbackPort::tx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept {
  std::uint16_t done = 0;
  Target next = count != 0 ? classify(frames[0]) : Target{};
  while (done < count) {
    const Target target = next;
    auto end = static_cast<std::uint16_t>(done + 1);
    for (; end < count; ++end) {
      next = classify(frames[end]);
      if (next != target) break;
    }
    const std::uint16_t gone = dispatch(target, queue, frames + done, static_cast<std::uint16_t>(end - done));
    done = static_cast<std::uint16_t>(done + gone);
    if (done < end) break;
  }
  return done;
}

PortStatistics LoopbackPort::statistics() noexcept {
  PortStatistics sum;
  sum.rx_missed = table_.overflows();
  for (const SocketQueue& queue : queues_) queue.counters.add_to(sum);
  return sum;
}

Result<wire::UdpEndpoint> LoopbackPort::bind(const BindOptions& options) {
  const std::uint32_t address = options.local.address;
  if (!wire::is_any(address) && !wire::is_loopback(address))
    return fail(ErrorCode::kInvalidArgument, "the loopback port does not own " + table_.format(address),
                "it owns 127.0.0.0/8 and ::1; see `thalweg route get`");
  BindOptions wanted = options;
  if (wire::is_any(address) && !options.is_receive && options.remote.port != 0) wanted.local.address = localhost_of(address);
  if (!wire::is_any(wanted.local.address)) return table_.bind(wanted);
  if (wanted.local.port == 0)
    return fail(ErrorCode::kInvalidArgument, table_.format(address) + " without a port number on the loopback port",
                "bind the kernel port first and use the number it gives");
  return table_.reserve(wanted);
}

}  // namespace thalweg::pmd
