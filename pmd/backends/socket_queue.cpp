#include "pmd/backends/socket_queue.hpp"

#include <rte_mbuf.h>

#include <algorithm>
#include <cerrno>

#include "dataplane/base/time.hpp"
#include "pmd/arrival.hpp"
#include "pmd/frame.hpp"

namespace thalweg::pmd {
namespace {

static_assert(CMSG_SPACE(sizeof(in_pktinfo)) + CMSG_SPACE(sizeof(timespec)) <= 64, "of SocketQueue::kControlLength");

constexpr std::int64_t kSourceKept_ns = kSecond_ns;  // far less than what a handle lives
constexpr std::uint32_t kSegmentsMax = 4;  // of one frame: header, and a payload that wraps nowhere

// The payload of a frame as the kernel wants it. 0: more segments than we ever build.
std::uint32_t gather(const rte_mbuf* frame, std::uint32_t payload_length, iovec* vectors) noexcept {
  std::size_t skip = wire::kUdpFrameHeaderLength;
  std::uint32_t count = 0;
  for (const rte_mbuf* segment = frame; segment != nullptr && payload_length != 0; segment = segment->next, skip = 0) {
    const std::uint32_t length = std::min<std::uint32_t>(payload_length, segment->data_len - static_cast<std::uint32_t>(skip));
    if (length == 0) continue;
    if (count == kSegmentsMax) return 0;
    vectors[count++] = {.iov_base = rte_pktmbuf_mtod_offset(segment, std::byte*, skip), .iov_len = length};
    payload_length -= length;
  }
  if (count == 0) vectors[count++] = {.iov_base = nullptr, .iov_len = 0};  // an empty datagram is a datagram
  return count;
}

bool is_full(int code) noexcept { return code == EAGAIN || code == ENOBUFS || code == ENOMEM; }

}  // namespace

SocketQueue::SocketQueue(SocketTable& table, std::uint16_t queue, rte_mempool* pool, const SocketInterval& interval) noexcept
    : table_{table}, pool_{pool}, queue_{queue}, interval_{interval} {
  room_ = rte_pktmbuf_data_room_size(pool) - RTE_PKTMBUF_HEADROOM - static_cast<std::uint32_t>(wire::kUdpFrameHeaderLength);
}

SocketQueue::~SocketQueue() {
  if (reserve_count_ != 0) rte_pktmbuf_free_bulk(reserve_.data(), reserve_count_);
}

bool SocketQueue::is_time_to_look(std::int64_t now_ns) noexcept {
  if (!was_ready_ && ++polls_ < interval_.polls && now_ns - looked_ns_ < interval_.time_ns) return false;
  polls_ = 0;
  looked_ns_ = now_ns;
  return true;
}

bool SocketQueue::refill_reserve() noexcept {
  const std::uint32_t missing = kBurstMax - reserve_count_;
  if (missing == 0) return true;
  if (rte_pktmbuf_alloc_bulk(pool_, reserve_.data() + reserve_count_, missing) != 0) {
    counters.rx_no_buffer.add(1);
    return reserve_count_ != 0;
  }
  reserve_count_ = kBurstMax;
  return true;
}

std::uint16_t SocketQueue::receive(std::int64_t now_ns, rte_mbuf** frames, std::uint16_t count) noexcept {
  if (ready_next_ == ready_count_) {
    if (!is_time_to_look(now_ns)) return 0;
    const int ready = ::epoll_wait(table_.epoll_fd(queue_), ready_.data(), kBurstMax, 0);
    ready_count_ = ready > 0 ? static_cast<std::uint32_t>(ready) : 0;
    ready_next_ = 0;
    was_ready_ = ready_count_ != 0;
  }
  std::uint16_t received = 0;
  while (received < count && ready_next_ != ready_count_) {
    bool is_drained = true;
    received = static_cast<std::uint16_t>(
        received + read_socket(ready_[ready_next_].data.u32, frames + received, static_cast<std::uint16_t>(count - received), is_drained));
    ready_next_ += is_drained ? 1 : 0;
    if (!is_drained) break;  // a burst is full, or there are no buffers: go on in the next turn
  }
  return received;
}

std::uint16_t SocketQueue::read_socket(std::uint32_t slot, rte_mbuf** frames, std::uint16_t count, bool& is_drained) noexcept {
  const int fd = table_.fd(slot);
  if (fd < 0) return 0;  // unbound since the look
  if (!refill_reserve()) {
    is_drained = false;
    return 0;
  }
  const wire::UdpEndpoint local = table_.local(slot);
  const std::uint32_t interface = table_.interface_address(slot);
  const std::uint32_t wanted = std::min<std::uint32_t>(count, reserve_count_);
  const bool has_control = local.address == 0 || table_.has_arrivals(slot);
  for (std::uint32_t i = 0; i < wanted; ++i) {
    rte_mbuf* const frame = reserve_[reserve_count_ - 1 - i];
    vectors_[i] = {.iov_base = rte_pktmbuf_mtod_offset(frame, std::byte*, wire::kUdpFrameHeaderLength), .iov_len = room_};
    msghdr& header = messages_[i].msg_hdr;
    header = {};
    header.msg_name = &addresses_[i];
    header.msg_namelen = sizeof addresses_[i];
    header.msg_iov = &vectors_[i];
    header.msg_iovlen = 1;
    if (!has_control) continue;
    header.msg_control = controls_[i].data();
    header.msg_controllen = kControlLength;
  }
  const int got = ::recvmmsg(fd, messages_.data(), wanted, MSG_DONTWAIT, nullptr);
  if (got <= 0) return 0;  // nothing after all, or a pending ICMP error, which the call has cleared
  is_drained = static_cast<std::uint32_t>(got) < wanted;

  std::uint16_t kept = 0;
  for (int i = 0; i < got; ++i) {
    rte_mbuf* const frame = reserve_[--reserve_count_];
    if (dress(static_cast<std::size_t>(i), *frame, local, interface)) {
      const std::uint32_t length = messages_[static_cast<std::size_t>(i)].msg_len + static_cast<std::uint32_t>(wire::kUdpFrameHeaderLength);
      frame->data_len = static_cast<std::uint16_t>(length);
      frame->pkt_len = length;
      counters.rx_bytes.add(length);
      frames[kept++] = frame;
    } else {
      counters.rx_errors.add(1);
      rte_pktmbuf_free(frame);
    }
  }
  counters.rx_frames.add(kept);
  return kept;
}

// Port 0: of nobody we could answer.
wire::UdpEndpoint SocketQueue::source_of(const SocketAddress& from, socklen_t length) noexcept {
  if (length >= sizeof from.v4 && from.any.sa_family == AF_INET) [[likely]] {
    const wire::UdpEndpoint source{ntohl(from.v4.sin_addr.s_addr), ntohs(from.v4.sin_port)};
    return wire::is_reserved_ipv4(source.address) ? wire::UdpEndpoint{} : source;   // it would pass for a handle
  }
  if (length < sizeof from.v6 || from.any.sa_family != AF_INET6 || table_.book() == nullptr) return {};
  const shm::ScopedIpv6 address = ipv6_of(from.v6);
  if (source_handle_ == 0 || address != source_ || looked_ns_ - source_seen_ns_ > kSourceKept_ns) {
    std::uint32_t handle = table_.book()->find(address, looked_ns_);
    if (handle == 0 && budget_.take(looked_ns_)) handle = table_.book()->enter(address, shm::AddressBook::By::kLearned, looked_ns_);
    if (handle == 0) return {};
    source_ = address;
    source_handle_ = handle;
    source_seen_ns_ = looked_ns_;
  }
  return {source_handle_, ntohs(from.v6.sin6_port)};
}

// Puts headers in front of message `index`. False: the datagram was longer than a buffer, or its sender is none of those we know or learn.
bool SocketQueue::dress(std::size_t index, rte_mbuf& frame, const wire::UdpEndpoint& local, std::uint32_t interface) noexcept {
  msghdr& header = messages_[index].msg_hdr;
  if ((header.msg_flags & MSG_TRUNC) != 0) return false;
  const wire::UdpEndpoint source = source_of(addresses_[index], header.msg_namelen);
  if (source.port == 0) return false;
  wire::UdpEndpoint destination = local;
  for (cmsghdr* control = CMSG_FIRSTHDR(&header); control != nullptr; control = CMSG_NXTHDR(&header, control)) {
    if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) {
      in_pktinfo info;
      std::memcpy(&info, CMSG_DATA(control), sizeof info);
      destination.address = ntohl(info.ipi_addr.s_addr);
    } else if (control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_TIMESTAMPNS) {
      timespec time;
      std::memcpy(&time, CMSG_DATA(control), sizeof time);
      set_arrival(frame, time.tv_sec * kSecond_ns + time.tv_nsec);
    }
  }
  auto* const payload = static_cast<std::byte*>(vectors_[index].iov_base);
  std::byte* const headers = payload - wire::kUdpFrameHeaderLength;
  write_udp_headers(headers, source, destination, messages_[index].msg_len);
  if (interface != 0) write_interface(headers, interface);
  return true;
}

std::uint16_t SocketQueue::send(int fd, const wire::UdpEndpoint& remote, rte_mbuf** frames, std::uint16_t count) noexcept {
  std::array<iovec, kBurstMax * kSegmentsMax> vectors;
  std::uint16_t done = 0;
  bool is_retry = false;
  std::uint16_t prepared = 0;
  for (; prepared < count; ++prepared) {
    UdpFrame view;
    msghdr& header = messages_[prepared].msg_hdr;
    header = {};
    iovec* const own = &vectors[prepared * kSegmentsMax];
    if (!UdpFrame::parse(frames[prepared], view) || (header.msg_iovlen = gather(frames[prepared], view.payload_length, own)) == 0) break;
    header.msg_iov = own;
    if (view.destination == remote) continue;  // connected: the kernel has the route at hand
    header.msg_name = &addresses_[prepared];
    header.msg_namelen = to_sockaddr(table_.book(), view.destination, addresses_[prepared]);
  }
  while (done < prepared) {
    const int sent = ::sendmmsg(fd, messages_.data() + done, prepared - done, MSG_DONTWAIT);
    if (sent > 0) {
      for (int i = 0; i < sent; ++i) counters.tx_bytes.add(frames[done + i]->pkt_len);
      counters.tx_frames.add(static_cast<std::uint64_t>(sent));
      rte_pktmbuf_free_bulk(frames + done, static_cast<unsigned>(sent));
      done = static_cast<std::uint16_t>(done + sent);
      is_retry = false;
      continue;
    }
    const int code = errno;
    if (is_full(code)) return done;
    // A connected socket first reports that an earlier datagram was refused, and sends nothing: ask once more.
    if (code == ECONNREFUSED && !is_retry) {
      is_retry = true;
      continue;
    }
    is_retry = false;
    counters.tx_errors.add(1);
    rte_pktmbuf_free(frames[done++]);
  }
  if (prepared < count) {  // a frame that is no UDP datagram of ours: it ends here, the rest is offered again
    counters.tx_errors.add(1);
    rte_pktmbuf_free(frames[done++]);
  }
  return done;
}

}  // namespace thalweg::pmd
