#include "pmd/backends/patch.hpp"

#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include <algorithm>

#include "pmd/port_mac.hpp"

namespace thalweg::pmd {
namespace {

void drain(rte_ring* ring) noexcept {
  void* frame = nullptr;
  while (rte_ring_sc_dequeue(ring, &frame) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(frame));
}

std::uint64_t bytes_of(rte_mbuf* const* frames, unsigned count) noexcept {
  std::uint64_t bytes = 0;
  for (unsigned i = 0; i < count; ++i) bytes += frames[i]->pkt_len;
  return bytes;
}

}  // namespace

Result<std::shared_ptr<PatchCable>> PatchCable::create(const std::string& name, std::uint16_t queues, std::uint16_t ring_size) {
  std::shared_ptr<PatchCable> cable{new PatchCable};
  for (unsigned end = 0; end < 2; ++end) {
    for (unsigned queue = 0; queue < queues; ++queue) {
      const std::string ring_name = name + "_" + std::to_string(end) + "_" + std::to_string(queue);
      rte_ring* const ring =
          rte_ring_create(ring_name.c_str(), ring_size, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ);
      if (ring == nullptr)
        return fail(ErrorCode::kNoSpace, "patch ring " + ring_name + " of " + std::to_string(ring_size) + ": " + rte_strerror(rte_errno),
                    "lower the port's ring-size, or give the data plane more memory");
      cable->rings_[end].push_back(ring);
    }
  }
  return cable;
}

PatchCable::~PatchCable() {
  for (const std::vector<rte_ring*>& direction : rings_) {
    for (rte_ring* const ring : direction) {
      drain(ring);
      rte_ring_free(ring);
    }
  }
}

Result<PatchPanel::End> PatchPanel::attach(const std::string& name, const std::string& peer, std::uint16_t queues,
                                           std::uint16_t ring_size) {
  if (peer.empty() || peer == name)
    return fail(ErrorCode::kInvalidConfig, "patch port " + name + " names no other port as its peer", "set peer: to the cable's other end");
  const unsigned index = name < peer ? 0 : 1;
  std::weak_ptr<PatchCable>& known = cables_[index == 0 ? name + '\n' + peer : peer + '\n' + name];
  std::shared_ptr<PatchCable> cable = known.lock();
  if (cable == nullptr) {
    static std::atomic<unsigned> next_id{};  // ring names are unique in the process, panels need not be
    auto made = PatchCable::create("patch" + std::to_string(next_id.fetch_add(1)), queues, ring_size);
    if (!made) return tl::unexpected<Error>{std::move(made.error())};
    cable = std::move(*made);
    known = cable;
  }
  if (cable->queue_count() != queues)
    return fail(ErrorCode::kInvalidConfig,
                "patch port " + name + " has " + std::to_string(queues) + " queues, its peer " + peer + " has " +
                    std::to_string(cable->queue_count()),
                "give both ends the same number of queues");
  if (cable->is_attached[index].exchange(true))
    return fail(ErrorCode::kInUse, "patch port " + name + " exists already", "port names are unique");
  return End{std::move(cable), index};
}

Result<std::unique_ptr<Port>> PatchPort::create(const PortOptions& options, PatchPanel& panel) {
  auto end = panel.attach(options.name, options.peer, std::max<std::uint16_t>(options.queues, 1), options.ring_size);
  if (!end) return tl::unexpected<Error>{std::move(end.error())};
  return std::unique_ptr<Port>{new PatchPort{options, std::move(*end)}};
}

PatchPort::PatchPort(const PortOptions& options, PatchPanel::End end)
    : end_{std::move(end)}, counters_(end_.cable->queue_count()), mac_{port_mac(options)}, addresses_{options.name, options.address} {
  for (std::uint16_t queue = 0; queue < end_.cable->queue_count(); ++queue) {
    tx_rings_.push_back(end_.cable->ring_from(end_.index, queue));
    rx_rings_.push_back(end_.cable->ring_from(1 - end_.index, queue));
  }
  // Receivers want contiguous frames, and the mbuf arrives as it was sent: so no chains, though the rings would carry them.
  capabilities_ = {.has_multi_segment_tx = false,
                   .is_real_wire = false,
                   .rx_queue_count = end_.cable->queue_count(),
                   .tx_queue_count = end_.cable->queue_count()};
}

PatchPort::~PatchPort() {
  end_.cable->is_attached[end_.index].store(false, std::memory_order_release);
  // What was under way is lost with the link: neither delivered to a successor, nor left behind by whoever owned its memory.
  for (rte_ring* const ring : rx_rings_) drain(ring);
  for (rte_ring* const ring : tx_rings_) drain(ring);
}

std::uint16_t PatchPort::rx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept {
  const unsigned taken = rte_ring_sc_dequeue_burst(rx_rings_[queue], reinterpret_cast<void**>(frames), count, nullptr);
  if (taken != 0) {
    counters_[queue].rx_frames.add(taken);
    counters_[queue].rx_bytes.add(bytes_of(frames, taken));
  }
  return static_cast<std::uint16_t>(taken);
}

std::uint16_t PatchPort::tx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept {
  // Nobody at the other end: a link that is down takes nothing. pairs with attach() and the destructor.
  if (!end_.cable->is_attached[1 - end_.index].load(std::memory_order_acquire)) return 0;
  rte_ring* const ring = tx_rings_[queue];
  // Sizes are read before the frames belong to the other end.
  const unsigned room = std::min<unsigned>(count, rte_ring_free_count(ring));
  if (room == 0) return 0;
  const std::uint64_t bytes = bytes_of(frames, room);
  rte_ring_sp_enqueue_bulk(ring, reinterpret_cast<void**>(frames), room, nullptr);  // the only producer: the room cannot shrink
  counters_[queue].tx_frames.add(room);
  counters_[queue].tx_bytes.add(bytes);
  return static_cast<std::uint16_t>(room);
}

bool PatchPort::is_link_up() noexcept { return end_.cable->is_attached[1 - end_.index].load(std::memory_order_acquire); }

PortStatistics PatchPort::statistics() noexcept {
  PortStatistics sum;
  for (const QueueCounters& counters : counters_) counters.add_to(sum);
  return sum;
}

}  // namespace thalweg::pmd
