#include "pmd/decorators/impaired.hpp"

#include <rte_mbuf.h>

#include <algorithm>

namespace thalweg::pmd {
namespace {

// Fills in a UDP checksum that was left out, so that the damage done next is seen by whoever verifies it.
void complete_udp_checksum(std::byte* frame, std::size_t length) noexcept {
  std::size_t ip = wire::kEthernetHeaderLength;
  if (length < ip + wire::kIpv4HeaderLength + wire::kUdpHeaderLength) return;
  std::uint16_t type = load_be16(frame + 12);
  if (type == wire::kEtherTypeVlan) {
    type = load_be16(frame + 16);
    ip += wire::kVlanTagLength;
  }
  if (type != wire::kEtherTypeIpv4 || length < ip + wire::kIpv4HeaderLength) return;
  const std::size_t ip_header_length = (static_cast<std::size_t>(frame[ip]) & 0xF) * 4;
  const std::size_t udp = ip + ip_header_length;
  const std::size_t total = load_be16(frame + ip + 2);
  if (frame[ip + 9] != std::byte{wire::kIpProtocolUdp} || total < ip_header_length + wire::kUdpHeaderLength || ip + total > length) return;
  if (load_be16(frame + udp + 6) != 0) return;
  const std::span<const std::byte> datagram{frame + udp, total - ip_header_length};
  store_be16(frame + udp + 6, wire::udp_checksum(load_be32(frame + ip + 12), load_be32(frame + ip + 16), datagram));
}

}  // namespace

constexpr std::uint64_t kSeedsPerQueue = 8;

ImpairedPort::Queue::Queue(const ImpairmentOptions& options, std::uint64_t index)
    : loss{options.seed + kSeedsPerQueue * index},
      duplicate{options.seed + kSeedsPerQueue * index + 1},
      reorder{options.seed + kSeedsPerQueue * index + 2},
      corrupt{options.seed + kSeedsPerQueue * index + 3},
      jitter{options.seed + kSeedsPerQueue * index + 4},
      waiting(kDelayedMax),
      received_losses{options.frame_losses, false, index} {}

ImpairedPort::ImpairedPort(std::unique_ptr<Port> inner, const ImpairmentOptions& options)
    : inner_{std::move(inner)}, options_{options}, capabilities_{inner_->capabilities()} {
  if (options.corrupt_ppm != 0) capabilities_.is_real_wire = true;
  constexpr std::uint64_t kBitsPerByteTimesNs = 8'000'000'000U;
  if (options.rate_bits_per_second != 0) ns_per_byte_q16_ = (kBitsPerByteTimesNs << 16) / options.rate_bits_per_second;
  for (std::uint64_t queue = 0; queue < capabilities_.rx_queue_count; ++queue) queues_.emplace_back(options, queue);
  const bool loses_sent = std::any_of(options.frame_losses.begin(), options.frame_losses.end(), [](const FrameLossOptions& one) { return one.is_sent; });
  for (std::uint64_t queue = 0; loses_sent && queue < capabilities_.tx_queue_count; ++queue) send_queues_.emplace_back(options, queue);
}

ImpairedPort::~ImpairedPort() {
  for (Queue& queue : queues_) {
    if (queue.held != nullptr) rte_pktmbuf_free(queue.held);
    for (; queue.head != queue.tail; ++queue.head) rte_pktmbuf_free(queue.waiting[queue.head % kDelayedMax].frame);
  }
}

std::uint16_t ImpairedPort::rx_burst(std::uint16_t queue_index, rte_mbuf** frames, std::uint16_t count) noexcept {
  Queue& queue = queues_[queue_index];
  const std::int64_t now_ns = now_ns_.load(std::memory_order_relaxed);
  if (queue.held != nullptr && now_ns >= queue.held_until_ns) enqueue(queue, std::exchange(queue.held, nullptr), now_ns);
  // What waits goes first, and only the room it leaves is asked for: a slow lane pushes back on the port, not on our memory.
  std::uint16_t released = release_due(queue, now_ns, frames, count);
  if (released == count) return released;
  rte_mbuf* arrived[kBurstMax];
  const std::uint16_t arrived_count =
      inner_->rx_burst(queue_index, arrived, std::min<std::uint16_t>(kBurstMax, static_cast<std::uint16_t>(count - released)));
  for (std::uint16_t i = 0; i < arrived_count; ++i) admit(queue, arrived[i], now_ns);
  released = static_cast<std::uint16_t>(released + release_due(queue, now_ns, frames + released, static_cast<std::uint16_t>(count - released)));
  return released;
}

std::uint16_t ImpairedPort::tx_burst(std::uint16_t queue_index, rte_mbuf** frames, std::uint16_t count) noexcept {
  if (send_queues_.empty()) return inner_->tx_burst(queue_index, frames, count);
  SendQueue& queue = send_queues_[queue_index];
  for (std::uint16_t begin = 0; begin < count;) {  // runs of frames that stay, each ended by one that is lost
    std::uint16_t end = begin;
    for (; end < count; ++end) {
      if (queue.spared > 0) --queue.spared;
      else if (queue.losses.takes(frames[end])) break;
    }
    const std::uint16_t sent = begin == end ? std::uint16_t{0} : inner_->tx_burst(queue_index, frames + begin, static_cast<std::uint16_t>(end - begin));
    begin = static_cast<std::uint16_t>(begin + sent);
    if (begin < end) {
      queue.spared = static_cast<std::uint16_t>(queue.spared + end - begin);
      return begin;
    }
    if (end == count) break;
    queue.lost.add(1);
    rte_pktmbuf_free(frames[end]);
    begin = static_cast<std::uint16_t>(end + 1);
  }
  return count;
}

std::uint16_t ImpairedPort::release_due(Queue& queue, std::int64_t now_ns, rte_mbuf** frames, std::uint16_t count) noexcept {
  std::uint16_t released = 0;
  while (released < count && queue.head != queue.tail) {
    const Waiting& first = queue.waiting[queue.head % kDelayedMax];
    if (first.release_ns > now_ns) break;
    frames[released++] = first.frame;
    ++queue.head;
  }
  return released;
}

void ImpairedPort::admit(Queue& queue, rte_mbuf* frame, std::int64_t now_ns) noexcept {
  const bool is_taken = queue.received_losses.takes(frame);
  const bool is_lost = queue.loss.chance_ppm(options_.loss_ppm) || is_taken;
  const bool is_duplicated = queue.duplicate.chance_ppm(options_.duplicate_ppm);
  const bool is_corrupted = queue.corrupt.chance_ppm(options_.corrupt_ppm);
  const bool is_reordered = queue.reorder.chance_ppm(options_.reorder_ppm);
  if (is_lost) {
    queue.lost.add(1);
    rte_pktmbuf_free(frame);
    return;
  }
  rte_mbuf* const copy = is_duplicated ? rte_pktmbuf_copy(frame, frame->pool, 0, UINT32_MAX) : nullptr;
  if (is_corrupted) frame = corrupted(queue, frame);
  if (frame != nullptr && is_reordered && queue.held == nullptr) {
    queue.held = frame;
    queue.held_until_ns = now_ns + kReorderHold_ns;
  } else if (frame != nullptr) {
    enqueue(queue, frame, now_ns);
    if (queue.held != nullptr) {
      queue.reordered.add(1);
      enqueue(queue, std::exchange(queue.held, nullptr), now_ns);
    }
  }
  if (copy == nullptr) return;  // not chosen, or no buffer is left to copy into
  queue.duplicated.add(1);
  enqueue(queue, copy, now_ns);
}

void ImpairedPort::enqueue(Queue& queue, rte_mbuf* frame, std::int64_t now_ns) noexcept {
  if (queue.tail - queue.head == kDelayedMax) {
    queue.lost.add(1);
    rte_pktmbuf_free(frame);
    return;
  }
  std::int64_t release_ns = now_ns;
  if (ns_per_byte_q16_ != 0) {
    queue.wire_free_ns = std::max(now_ns, queue.wire_free_ns) + static_cast<std::int64_t>(frame->pkt_len * ns_per_byte_q16_ >> 16);
    release_ns = queue.wire_free_ns;
  }
  release_ns += options_.delay_ns;
  if (options_.jitter_ns > 0) release_ns += static_cast<std::int64_t>(queue.jitter.below(static_cast<std::uint64_t>(options_.jitter_ns) + 1));
  release_ns = std::max(release_ns, queue.last_release_ns);  // jitter alone does not reorder
  queue.last_release_ns = release_ns;
  if (release_ns > now_ns) queue.delayed.add(1);
  queue.waiting[queue.tail % kDelayedMax] = {.frame = frame, .release_ns = release_ns};
  ++queue.tail;
}

// A damaged copy instead of the frame, whose bytes may be shared. One byte is changed: whatever it was, the checksums notice. Without a
// buffer for the copy the frame is lost.
rte_mbuf* ImpairedPort::corrupted(Queue& queue, rte_mbuf* frame) noexcept {
  rte_mbuf* const copy = rte_pktmbuf_copy(frame, frame->pool, 0, UINT32_MAX);
  rte_pktmbuf_free(frame);
  if (copy == nullptr) {
    queue.lost.add(1);
    return nullptr;
  }
  if (copy->data_len <= wire::kEthernetHeaderLength) return copy;
  auto* const bytes = rte_pktmbuf_mtod(copy, std::byte*);
  if (copy->nb_segs == 1) complete_udp_checksum(bytes, copy->data_len);
  const std::uint64_t offset = wire::kEthernetHeaderLength + queue.corrupt.below(copy->data_len - wire::kEthernetHeaderLength);
  bytes[offset] ^= static_cast<std::byte>(1 + queue.corrupt.below(255));
  queue.corrupted.add(1);
  return copy;
}

ImpairmentStatistics ImpairedPort::impairments() const noexcept {
  ImpairmentStatistics sum;
  for (const Queue& queue : queues_) {
    sum.lost += queue.lost.get();
    sum.duplicated += queue.duplicated.get();
    sum.reordered += queue.reordered.get();
    sum.corrupted += queue.corrupted.get();
    sum.delayed += queue.delayed.get();
  }
  for (const SendQueue& queue : send_queues_) sum.lost += queue.lost.get();
  return sum;
}

}  // namespace thalweg::pmd
