#include "pmd/backends/kernel.hpp"

#include <rte_mbuf.h>

#include <algorithm>

#include "pmd/frame.hpp"

namespace thalweg::pmd {

Result<std::unique_ptr<Port>> KernelPort::create(const PortOptions& options, SocketTable& table, rte_mempool* pool,
                                                 const SocketInterval& interval, shm::AddressBook* addresses) {
  table.use(addresses);
  const auto count = std::max<std::uint16_t>(options.queues, 1);
  if (auto opened = table.open_queues(count); !opened) return tl::unexpected<Error>{std::move(opened.error())};
  return std::unique_ptr<Port>{new KernelPort{count, table, pool, interval}};
}

KernelPort::KernelPort(std::uint16_t queue_count, SocketTable& table, rte_mempool* pool, const SocketInterval& interval) : table_{table} {
  for (std::uint16_t queue = 0; queue < queue_count; ++queue) queues_.emplace_back(table, queue, pool, interval);
  capabilities_ = {.has_multi_segment_tx = true,
                   .needs_arp = false,
                   .is_real_wire = false,
                   .rx_queue_count = queue_count,
                   .tx_queue_count = queue_count};
}

std::uint16_t KernelPort::rx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept {
  return queues_[queue].receive(now_ns_.load(std::memory_order_relaxed), frames, count);
}

std::uint16_t KernelPort::tx_burst(std::uint16_t queue, rte_mbuf** frames, std::uint16_t count) noexcept {
  SocketQueue& sockets = queues_[queue];
  const auto socket_of = [this](const rte_mbuf* frame) noexcept {
    UdpFrame view;
    return UdpFrame::parse(frame, view) ? table_.find_sender(view.source, view.destination) : SocketTable::kNone;
  };
  std::uint16_t done = 0;
  while (done < count) {
    const std::uint32_t slot = socket_of(frames[done]);
    if (slot == SocketTable::kNone || table_.fd(slot) < 0) {
      sockets.counters.tx_errors.add(1);
      rte_pktmbuf_free(frames[done++]);
      continue;
    }
    auto end = static_cast<std::uint16_t>(done + 1);
    while (end < count && socket_of(frames[end]) == slot) ++end;
    const std::uint16_t sent = sockets.send(table_.fd(slot), table_.remote(slot), frames + done, static_cast<std::uint16_t>(end - done));
    done = static_cast<std::uint16_t>(done + sent);
    if (done < end) break;
  }
  return done;
}

PortStatistics KernelPort::statistics() noexcept {
  PortStatistics sum;
  sum.rx_missed = table_.overflows();
  for (const SocketQueue& queue : queues_) queue.counters.add_to(sum);
  return sum;
}

Result<wire::UdpEndpoint> KernelPort::bind(const BindOptions& options) {
  if (wire::is_group(options.local.address)) return fail(ErrorCode::kInvalidArgument, "a group is joined, not bound");
  return table_.bind(options);
}

}  // namespace thalweg::pmd
