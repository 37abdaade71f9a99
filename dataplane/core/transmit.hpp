#pragma once
#include <rte_mbuf.h>

#include <array>
#include <cstring>
#include <memory>
#include <span>

#include "dataplane/core/ip_host.hpp"
#include "dataplane/core/reassembly.hpp"
#include "dataplane/core/route.hpp"
#include "dataplane/proto/publication.hpp"
#include "dataplane/proto/timestamp.hpp"
#include "pmd/port.hpp"

// The way of a datagram from a state machine to a port: header template, packet buffer, staged burst. Thread: the lane that polls the port.
namespace thalweg::core {

// Packet buffers for sending, taken from the shared pool by the burst.
class FramePool {
 public:
  explicit FramePool(rte_mempool* pool) noexcept : pool_{pool} {}
  ~FramePool() { give_back(); }
  FramePool(const FramePool&) = delete;
  FramePool& operator=(const FramePool&) = delete;

  // An empty buffer; nullptr when the pool is exhausted. The caller owns it.
  [[nodiscard]] rte_mbuf* take() noexcept {
    if (count_ == 0 && !refill()) [[unlikely]] return nullptr;
    rte_mbuf* const frame = cache_[--count_];
    if (count_ >= kAhead) warm(*cache_[count_ - kAhead]);
    return frame;
  }
  // Returns the cached ones to the pool.
  void give_back() noexcept {
    rte_pktmbuf_free_bulk(cache_.data(), count_);
    count_ = 0;
  }
  [[nodiscard]] rte_mempool* pool() const noexcept { return pool_; }
  // Largest frame one buffer holds.
  [[nodiscard]] std::size_t frame_bytes() const noexcept { return rte_pktmbuf_data_room_size(pool_) - std::size_t{RTE_PKTMBUF_HEADROOM}; }

 private:
  static constexpr std::uint32_t kBulk = 32;
  static constexpr std::uint32_t kAhead = 4;
  // Headers and the first lines of the payload: buffers come back cold, and stores that miss fill the store buffer.
  static void warm(const rte_mbuf& frame) noexcept {
    const auto* const room = rte_pktmbuf_mtod(&frame, const std::byte*);
    for (std::size_t line = 0; line < 3; ++line) __builtin_prefetch(room + line * kCacheLine, 1);
  }
  [[gnu::noinline, gnu::cold]] bool refill() noexcept;

  rte_mempool* pool_;
  std::uint32_t count_{};
  std::array<rte_mbuf*, kBulk> cache_{};
};

// Frames of one turn for one transmit queue. What the port does not take stays for the next turn; when the stage is full push() refuses.
class TxStage {
 public:
  static constexpr std::uint16_t kCapacity = 4 * pmd::kBurstMax;

  TxStage(pmd::Port& port, std::uint16_t queue, proto::LaneCounters counters) noexcept : port_{&port}, queue_{queue}, counters_{counters} {}
  ~TxStage() { discard(); }
  TxStage(const TxStage&) = delete;
  TxStage& operator=(const TxStage&) = delete;

  [[nodiscard]] bool is_full() const noexcept { return count_ == kCapacity; }
  [[nodiscard]] std::uint16_t count() const noexcept { return count_; }
  // Takes the frame. Precondition: has_room().
  void push(rte_mbuf* frame) noexcept { frames_[count_++] = frame; }
  // True when push() may be called; offers the staged frames to the port first when the stage is full. A port that took nothing is not
  // asked again before the next flush(): with hundreds of streams behind it their attempts would take the time its receiver needs.
  [[nodiscard]] bool has_room() noexcept {
    if (count_ < kCapacity) return true;
    if (has_refused_) return false;
    flush();
    has_refused_ = count_ == kCapacity;
    return !has_refused_;
  }
  // As has_room() for `count` frames, at most kCapacity.
  [[nodiscard]] bool has_room_for(std::size_t count) noexcept {
    if (count_ + count <= kCapacity) return true;
    if (!has_refused_) flush();
    return count_ + count <= kCapacity;
  }
  // Offers everything once. Returns frames taken. Each turn ends with it.
  [[gnu::noinline]] unsigned flush() noexcept;
  void discard() noexcept {
    rte_pktmbuf_free_bulk(frames_.data(), count_);
    count_ = 0;
  }

 private:
  pmd::Port* port_;
  std::uint16_t queue_;
  std::uint16_t count_{};
  bool has_refused_{};   // in this turn
  proto::LaneCounters counters_;
  std::array<rte_mbuf*, kCapacity> frames_{};
};

class LanePort;
class FanOut;

inline constexpr std::uint8_t kTtlMulticast = 1;   // wire-protocol 5.3: groups stay on the segment unless channel or configuration say otherwise

// What frames of a stream are to carry on the wire instead of what they carry in the log.
struct StreamIds {
  std::int32_t session_id{};
  std::int32_t stream_id{};
  bool has_ids{};                                        // those of the log do otherwise
  std::int32_t timestamp_offset{shm::kNoTimestamp};      // of the time they leave (wire-protocol 5.11)
  std::int64_t epoch_ns{};                               // which is now
};
// Does so in a copy of a datagram of DATA and PAD frames. The lengths were checked when the datagram was formed.
inline void rewrite(std::byte* datagram, std::size_t length, const StreamIds& ids) noexcept {
  if (ids.timestamp_offset != shm::kNoTimestamp) proto::stamp_sent({datagram, length}, ids.timestamp_offset, ids.epoch_ns);
  if (!ids.has_ids) return;
  for (std::size_t at = 0; at + wire::kDataHeaderLength <= length;) {
    const auto frame_length = load_le<std::int32_t>(datagram + at);
    store_le(datagram + at + 12, ids.session_id);
    store_le(datagram + at + 16, ids.stream_id);
    at += static_cast<std::size_t>(std::max(wire::align_frame(frame_length), wire::kFrameAlignment));
  }
}

// Copies of multicast frames for members of the group on the port they leave by, until the lane's next turn takes them. One for all ports of
// a lane; a frame's `port` says which one it belongs to.
class LoopQueue {
 public:
  static constexpr std::uint16_t kCapacity = 256;
  LoopQueue() = default;
  ~LoopQueue() { discard(); }
  LoopQueue(const LoopQueue&) = delete;
  LoopQueue& operator=(const LoopQueue&) = delete;
  [[nodiscard]] bool is_empty() const noexcept { return count_ == 0; }
  [[nodiscard]] bool has_room() const noexcept { return count_ < kCapacity; }
  // Precondition: has_room().
  void push(rte_mbuf* frame) noexcept { frames_[count_++] = frame; }
  // Hands what is there to `take`, which owns it then; what comes meanwhile waits for the next call.
  template <typename Take>
  unsigned drain(Take&& take) noexcept {
    const std::uint16_t count = count_;
    for (std::uint16_t i = 0; i < count; ++i) take(frames_[i]);
    std::memmove(frames_.data(), frames_.data() + count, (count_ - count) * sizeof(rte_mbuf*));
    count_ = static_cast<std::uint16_t>(count_ - count);
    return count;
  }
  void discard() noexcept {
    rte_pktmbuf_free_bulk(frames_.data(), count_);
    count_ = 0;
  }

 private:
  std::uint16_t count_{};
  std::array<rte_mbuf*, kCapacity> frames_{};
};

// One datagram on its way to several destinations: the first that can share its payload copies it into a buffer, which hangs behind the headers
// of all of them then. The last of those frames to be sent frees it.
class SharedPayload {
 public:
  // `ids`: what its frames are to carry instead of what they carry; may be null.
  SharedPayload(std::span<const std::byte> payload, const StreamIds* ids) noexcept : payload_{payload}, ids_{ids} {}
  ~SharedPayload() { rte_pktmbuf_free(body_); }
  SharedPayload(const SharedPayload&) = delete;
  SharedPayload& operator=(const SharedPayload&) = delete;
  [[nodiscard]] std::size_t size() const noexcept { return payload_.size(); }
  [[nodiscard]] std::span<const std::byte> payload() const noexcept { return payload_; }
  [[nodiscard]] const StreamIds* ids() const noexcept { return ids_; }
  // The buffer with the payload, its reference still ours; nullptr: none could be had.
  [[nodiscard]] rte_mbuf* body(FramePool& frames) noexcept { return body_ != nullptr ? body_ : fill(frames); }

 private:
  [[nodiscard]] rte_mbuf* fill(FramePool& frames) noexcept;

  std::span<const std::byte> payload_;
  const StreamIds* ids_;
  rte_mbuf* body_{};
};

// Where datagrams of one endpoint or image go: everything in front of the payload, and how to get there.
struct Destination {
  wire::UdpFrameTemplate header;
  LanePort* port{};                // none: `fan_out`, or nowhere
  FanOut* fan_out{};               // stands for all of its destinations
  wire::UdpEndpoint source;
  wire::UdpEndpoint remote;
  std::uint32_t next_hop{};        // whose MAC the frame carries
  std::uint32_t epoch{};           // of the IP host when the MAC was looked up; 0: ask for each frame, as all IPv6 does
  std::uint8_t ttl{};
  bool is_looped{true};            // members of the group on the same port get a copy, where the port does not see to that

  [[nodiscard]] bool is_same(const Destination& other) const noexcept { return port == other.port && remote == other.remote; }
};

// One port as its lane sees it: rules for received frames, IP host, stage.
class LanePort final : public IpHost::Output, private Reassembly::Buffers {
 public:
  struct Options {
    pmd::Port* port{};
    rte_mempool* pool{};           // for sent frames
    std::uint32_t index{};         // port table
    pmd::Port* received_from{};    // where its frames come from: the port itself, also where sending crosses to another lane
    std::uint16_t first_queue{};   // of the receive queues this lane polls; the others follow at a distance of `queue_step`
    std::uint16_t queue_step{1};
    std::uint16_t queue_count{1};  // of the port
    std::uint32_t address{};
    std::uint32_t prefix_length{};
    std::uint32_t address6{};      // handle; 0: no IPv6
    std::uint32_t prefix_length6{};
    shm::AddressBook* book{};      // what handles stand for
    const RoutePort* route{};      // next hops
    std::uint32_t mtu{1500};
    bool has_ip_fragments{};       // datagrams beyond the mtu are cut, and such ones put together
    rte_mempool* datagram_pool{};  // for whole datagrams of received fragments; null: those are not for this lane
    std::uint16_t vlan{};
    bool writes_udp_checksum{};
    bool answers_unreachable{};    // ICMP: not for ports the kernel answers for
    LoopQueue* loop{};             // takes copies for members of groups; null: the port's kernel or lane sees to them
  };
  LanePort(const Options& options, FramePool& frames, proto::LaneCounters counters);

  // One UDP datagram out. False: stage or pool full, nothing sent.
  [[nodiscard]] bool send(Destination& destination, std::span<const std::byte> payload, std::int64_t now_ns) noexcept;
  // The same with other ids in its frames.
  [[nodiscard]] bool send_as(Destination& destination, std::span<const std::byte> payload, const StreamIds& ids, std::int64_t now_ns) noexcept;
  // The same without a copy of the payload: its header in front of the buffer that all destinations share. Precondition: can_share_payload().
  [[nodiscard]] bool send_shared(Destination& destination, SharedPayload& shared, std::int64_t now_ns) noexcept;
  // A checksum over the payload is cheaper where the payload is copied, too.
  [[nodiscard]] bool can_share_payload() const noexcept { return options_.port->capabilities().has_multi_segment_tx && !options_.writes_udp_checksum; }
  // Makes a destination whose frames leave by this port. `ttl`: of a group, 0: 1; all others
  // have 64 (wire-protocol 5.3, 9.3).
  [[nodiscard]] Destination make_destination(const wire::UdpEndpoint& source, const wire::UdpEndpoint& remote, std::uint8_t ttl) noexcept;

  // IpHost::Output
  void send_frame(std::span<const std::byte> frame) noexcept override;
  void release(rte_mbuf* frame, const wire::MacAddress& mac) noexcept override;
  void discard(rte_mbuf* frame) noexcept override;

  void tick(std::int64_t now_ns) noexcept;      // IP host timers, counters
  // Whose MAC a frame to `destination` carries: its own, or that of a way to it.
  [[nodiscard]] std::uint32_t next_hop(std::uint32_t destination) const noexcept {
    return wire::is_group(destination) ? destination : options_.route->next_hop(destination);
  }
  [[nodiscard]] pmd::Port& received_from() const noexcept { return *options_.received_from; }
  // The receive queue whose turn it is: of several another one each time.
  [[nodiscard]] std::uint16_t next_queue() noexcept {
    const std::uint16_t queue = queue_;
    queue_ = static_cast<std::uint16_t>(queue_ + options_.queue_step);
    if (queue_ >= options_.queue_count) queue_ = options_.first_queue;
    return queue;
  }
  [[nodiscard]] const Options& options() const noexcept { return options_; }
  [[nodiscard]] TxStage& stage() noexcept { return stage_; }
  [[nodiscard]] IpHost& host() noexcept { return host_; }
  [[nodiscard]] bool needs_arp() const noexcept { return needs_arp_; }
  // The most payload of a datagram that can leave, in fragments where the port makes them.
  [[nodiscard]] std::size_t payload_max() const noexcept { return payload_max_; }
  [[nodiscard]] bool fits(std::size_t payload) const noexcept { return payload <= payload_max_; }
  // The same for what goes to `remote`: IPv6 has the larger header, and no fragments.
  [[nodiscard]] std::size_t payload_max(std::uint32_t remote) const noexcept {
    constexpr std::size_t kLonger = wire::kIpv6HeaderLength - wire::kIpv4HeaderLength;
    return is_ipv6_frame(remote) ? piece_max_ - wire::kUdpHeaderLength - kLonger : payload_max_;
  }
  [[nodiscard]] bool fits(std::size_t payload, std::uint32_t remote) const noexcept { return payload <= payload_max(remote); }
  // Frames to `remote` have an IPv6 header; those of socket ports carry handles in IPv4 ones.
  [[nodiscard]] bool is_ipv6_frame(std::uint32_t remote) const noexcept {
    return wire::is_handle(remote) && options_.received_from->capabilities().needs_arp;
  }
  // Frames that a datagram with so much payload leaves in.
  [[nodiscard]] std::size_t frames_for(std::size_t payload) const noexcept {
    const std::size_t bytes = wire::kUdpHeaderLength + payload;
    return bytes <= piece_max_ ? 1 : (bytes + piece_bytes() - 1) / piece_bytes();
  }
  // As TxStage::has_room(), for all frames of a datagram.
  [[nodiscard]] bool has_room_for(std::size_t payload) noexcept {
    return options_.has_ip_fragments ? stage_.has_room_for(frames_for(payload)) : stage_.has_room();
  }
  // Puts datagrams together; null: fragments are not for this lane.
  [[nodiscard]] Reassembly* reassembly() noexcept { return reassembly_.get(); }
  // A frame to `group` that is about to leave by this port: copies it for the members here.
  void loop_to_members(std::uint32_t group, rte_mbuf* frame) noexcept;
  // An owned frame from outside the templates (another lane): staged, or counted and freed.
  void push_or_drop(rte_mbuf* frame) noexcept;

 private:
  [[gnu::noinline, gnu::cold]] [[nodiscard]] bool send_unresolved(Destination& destination, std::span<const std::byte> payload, std::int64_t now_ns) noexcept;
  // `finish(datagram)` may change the copy.
  template <typename Finish>
  [[nodiscard]] rte_mbuf* build(const Destination& destination, std::span<const std::byte> payload, Finish&& finish) noexcept;
  [[nodiscard]] bool send_ipv6(const Destination& destination, std::span<const std::byte> payload, std::int64_t now_ns) noexcept;
  [[nodiscard]] bool send_remembering_nothing(Destination& destination, std::span<const std::byte> payload, bool has_members) noexcept;
  [[nodiscard]] bool send_fragments(const Destination& destination, std::span<const std::byte> payload, bool has_members) noexcept;
  // Of all fragments but the last.
  [[nodiscard]] std::size_t piece_bytes() const noexcept { return piece_max_ - piece_max_ % wire::kFragmentUnit; }
  // Reassembly::Buffers
  [[nodiscard]] Reassembly::Buffer take() noexcept override;
  void give_back(rte_mbuf* frame) noexcept override;

  Options options_;
  std::uint16_t queue_;
  FramePool& frames_;
  proto::LaneCounters counters_;
  TxStage stage_;
  bool needs_arp_;
  std::size_t piece_max_;          // bytes behind the IP header of what leaves in one frame
  std::size_t payload_max_;
  std::uint16_t next_identification_{};
  std::unique_ptr<Reassembly> reassembly_;
  IpHost host_;
  IpHost::Statistics counted_;     // what of the host's statistics the counters already show
  std::uint64_t counted_given_up_{};
};

// Datagrams of a log are multiples of 32 bytes; the short ones are not worth a call.
inline constexpr std::size_t kInlineCopyMax = 512;
inline void copy_payload(std::byte* to, std::span<const std::byte> payload) noexcept {
  constexpr std::size_t kPiece = 32;
  if (payload.size() > kInlineCopyMax || payload.size() % kPiece != 0) {
    std::memcpy(to, payload.data(), payload.size());
    return;
  }
  for (std::size_t i = 0; i < payload.size(); i += kPiece) std::memcpy(to + i, payload.data() + i, kPiece);
}

template <typename Finish>
rte_mbuf* LanePort::build(const Destination& destination, std::span<const std::byte> payload, Finish&& finish) noexcept {
  rte_mbuf* const frame = frames_.take();
  if (frame == nullptr) [[unlikely]] {
    counters_.add(shm::LaneCounter::kDropNoBuffer);
    return nullptr;
  }
  const std::size_t header = destination.header.length();
  // A long payload begins with a cache line, as it does in the log, and is copied by whole lines; for a short one that would be a line more.
  if (payload.size() > kInlineCopyMax) frame->data_off = static_cast<std::uint16_t>(RTE_PKTMBUF_HEADROOM - header);
  auto* const out = rte_pktmbuf_mtod(frame, std::byte*);
  destination.header.write(out, payload.size());
  copy_payload(out + header, payload);
  finish(out + header);
  frame->data_len = static_cast<std::uint16_t>(header + payload.size());
  frame->pkt_len = static_cast<std::uint32_t>(header + payload.size());
  if (options_.writes_udp_checksum) destination.header.write_udp_checksum(out, payload.size());
  return frame;
}

inline bool LanePort::send(Destination& destination, std::span<const std::byte> payload, std::int64_t now_ns) noexcept {
  if (destination.epoch != host_.epoch()) [[unlikely]] return send_unresolved(destination, payload, now_ns);
  THALWEG_DCHECK(payload.size() <= payload_max_);
  if (!stage_.has_room()) [[unlikely]] return false;
  rte_mbuf* const frame = build(destination, payload, [](std::byte*) {});
  if (frame == nullptr) [[unlikely]] return false;
  stage_.push(frame);
  return true;
}

// proto::DatagramSink of one destination.
class DestinationSink {
 public:
  // `ids`: what frames of the log are to carry instead of what they carry there; null: nothing else.
  DestinationSink(Destination& destination, std::int64_t now_ns, const StreamIds* ids = nullptr) noexcept
      : destination_{&destination}, now_ns_{now_ns}, ids_{ids} {}
  [[nodiscard]] bool send_log(std::span<const std::byte> bytes) noexcept {
    if (ids_ == nullptr) [[likely]] return send(bytes);
    if (destination_->port != nullptr && destination_->port->send_as(*destination_, bytes, *ids_, now_ns_)) return true;
    return send_to_all(bytes, ids_);
  }
  [[nodiscard]] bool send_control(std::span<const std::byte> bytes) noexcept { return send(bytes); }
  [[nodiscard]] bool has_refused() const noexcept { return has_refused_; }

 private:
  [[nodiscard]] bool send(std::span<const std::byte> bytes) noexcept {
    if (destination_->port != nullptr && destination_->port->send(*destination_, bytes, now_ns_)) [[likely]] return true;
    return send_to_all(bytes, nullptr);
  }
  // What one port did not take: refused, or meant for the destinations of a fan-out.
  [[gnu::noinline]] bool send_to_all(std::span<const std::byte> bytes, const StreamIds* ids) noexcept;

  Destination* destination_;
  std::int64_t now_ns_;
  const StreamIds* ids_;
  bool has_refused_{};
};

}  // namespace thalweg::core
