// What a good frame costs while 100 k bad ones a second come with it: beside the 10 M good ones of a stream of 1 GB/s each hundredth is followed by
// a bad one, beside 1 M each tenth. A turn then finds one frame as a rule. A lane that is behind finds full bursts, where a good frame costs
// least and a bad one counts most.
#include "dataplane/base/random.hpp"
#include "dataplane/core/igmp_host.hpp"
#include "tests/bench/lane_bench.hpp"

namespace thalweg::bench {
namespace {

constexpr std::uint16_t kPublishPort = 40'500;     // of a publication of node b that sends to whoever registers
constexpr std::uint16_t kOtherLanePort = 40'600;   // of a subscription of node b on the second cable, which the other lane polls
constexpr std::size_t kFrameMin = 60;

// The order is that of the benchmark's argument and of scripts/lib/bench.py.
enum class Bad : std::uint8_t { kNone, kNotIp, kInvalidFrame, kNobodyListens, kUnknownSession, kSetup, kStatusMessage, kNak, kArp, kIgmp, kWrongLane };

// Makes frames of one kind, each of them another stranger's as far as that is possible.
class BadFrames {
 public:
  BadFrames(Stream& stream, Bad kind, const shm::PublicationSlot::Wanted& publication) : stream_{stream}, kind_{kind}, publication_{publication} {}

  void write(rte_mbuf* m) {
    auto* const p = rte_pktmbuf_mtod(m, std::byte*);
    std::memset(p, 0, 2 * kFrameMin);
    const std::size_t length = std::max(build(p), kFrameMin);
    m->data_len = static_cast<std::uint16_t>(length);
    m->pkt_len = static_cast<std::uint32_t>(length);
  }

 private:
  std::size_t build(std::byte* p) {
    switch (kind_) {
      case Bad::kNone: return 0;
      case Bad::kNotIp: return build_not_ip(p);
      case Bad::kInvalidFrame: return build_data(p, {TwoNodes::kAddressB, kPort}, 9);
      case Bad::kNobodyListens: return build_data(p, {TwoNodes::kAddressB, 4'711}, 0);
      case Bad::kUnknownSession: return build_data(p, {TwoNodes::kAddressB, kPort}, 0);
      case Bad::kWrongLane: return build_data(p, {TwoNodes::kAddressB + TwoNodes::kSecondCable, kOtherLanePort}, 0);
      case Bad::kSetup: return build_setup(p);
      case Bad::kStatusMessage: return build_status_message(p);
      case Bad::kNak: return build_nak(p);
      case Bad::kArp: return build_arp(p);
      case Bad::kIgmp: return build_igmp(p);
    }
    return 0;
  }
  // Headers of a datagram from a host of the cable's network that is not there.
  std::size_t build_headers(std::byte* p, const wire::UdpEndpoint& to, std::size_t payload) {
    wire::UdpFrameTemplate::Options o;
    o.source_mac = stream_.port_a().mac();
    o.destination_mac = stream_.port_b().mac();
    o.source = {TwoNodes::kAddressA + 9 + static_cast<std::uint32_t>(random_.below(200)), static_cast<std::uint16_t>(1'024 + random_.below(60'000))};
    o.destination = to;
    const wire::UdpFrameTemplate header{o};
    header.write(p, payload);
    return header.length();
  }
  std::int32_t any_session() { return static_cast<std::int32_t>(random_.next()); }

  std::size_t build_not_ip(std::byte* p) {
    wire::build_ethernet(p, stream_.port_b().mac(), stream_.port_a().mac(), 0x88B5);
    return kFrameMin;
  }
  std::size_t build_data(std::byte* p, const wire::UdpEndpoint& to, std::uint8_t version) {
    const std::size_t header = build_headers(p, to, kFrame);
    wire::build(p + header, wire::DataHeader{kFrame, wire::flag::kUnfragmented, wire::FrameType::kData, 0, any_session(), 1001, 100, 0});
    p[header + 4] |= std::byte{version};
    return header + kFrame;
  }
  std::size_t build_setup(std::byte* p) {
    wire::Setup setup;
    setup.session_id = any_session();
    setup.stream_id = 1001;
    setup.initial_term_id = setup.active_term_id = 100;
    setup.term_length = kTermLength;
    setup.mtu = 1408;
    const std::size_t header = build_headers(p, {TwoNodes::kAddressB, kPort}, wire::Setup::kLength);
    wire::build(p + header, setup);
    return header + wire::Setup::kLength;
  }
  std::size_t build_status_message(std::byte* p) {
    wire::StatusMessage sm;
    sm.session_id = publication_.session_id;
    sm.stream_id = publication_.stream_id;
    sm.consumption_term_id = publication_.initial_term_id;
    sm.window_length = 128 << 10;
    sm.receiver_id = static_cast<std::int64_t>(random_.next());
    const std::size_t header = build_headers(p, {TwoNodes::kAddressB, kPublishPort}, sm.length());
    wire::build(p + header, sm);
    return header + sm.length();
  }
  std::size_t build_nak(std::byte* p) {
    const std::size_t header = build_headers(p, {TwoNodes::kAddressB, kPublishPort}, wire::Nak::kLength);
    wire::build(p + header, wire::Nak{publication_.session_id, publication_.stream_id, publication_.initial_term_id, 32 << 10, 1'024});
    return header + wire::Nak::kLength;
  }
  std::size_t build_arp(std::byte* p) {
    const wire::MacAddress mac{{2, 9, 9, 9, 9, 9}};
    wire::build_ethernet(p, wire::kBroadcastMac, mac, wire::kEtherTypeArp);
    const auto host = TwoNodes::kAddressA + 9 + static_cast<std::uint32_t>(random_.below(200));
    wire::build(p + wire::kEthernetHeaderLength, wire::ArpPacket{wire::ArpPacket::kRequest, mac, host, {}, TwoNodes::kAddressB});
    return kFrameMin;
  }
  // A general query that wants its answer at once.
  std::size_t build_igmp(std::byte* p) {
    constexpr std::size_t kQueryLength = 12;
    wire::build_ethernet(p, wire::multicast_mac(core::IgmpHost::kAllHosts), stream_.port_a().mac(), wire::kEtherTypeIpv4);
    std::byte* const ip = p + wire::kEthernetHeaderLength;
    std::byte* const igmp = ip + wire::build_ipv4(ip, wire::kIpProtocolIgmp, 1, TwoNodes::kAddressA + 200, core::IgmpHost::kAllHosts, kQueryLength, true);
    igmp[0] = std::byte{wire::IgmpView::kQuery};
    store_be16(igmp + 2, wire::checksum_fold(wire::checksum_add({igmp, kQueryLength}, 0)));
    return kFrameMin;
  }

  Stream& stream_;
  Bad kind_;
  const shm::PublicationSlot::Wanted& publication_;
  Random random_{7};
};

class GoodFrames {
 public:
  explicit GoodFrames(Stream& stream) : initial_term_{stream.wanted().initial_term_id}, position_{stream.receiver().high_water} {
    const wire::UdpFrameTemplate header = stream.header(true);
    header.write(bytes_, kFrame);
    wire::build(bytes_ + header.length(), wire::DataHeader{kFrame, wire::flag::kUnfragmented, wire::FrameType::kData, 0, stream.wanted().session_id, 1001, 0, 0});
  }
  void write(rte_mbuf* m) {
    auto* const p = rte_pktmbuf_mtod(m, std::byte*);
    std::memcpy(p, bytes_, sizeof bytes_);
    std::byte* const frame = p + wire::kUdpFrameHeaderLength;
    store_le(frame + 8, wire::term_offset_of(position_, 20));
    store_le(frame + 20, wire::term_id_of(position_, initial_term_, 20));
    m->data_len = m->pkt_len = sizeof bytes_;
    const std::int64_t left = kTermLength - wire::term_offset_of(position_, 20);
    if (left >= 2 * kFrame) {
      position_ += kFrame;
      return;
    }
    store_le(frame, static_cast<std::int32_t>(left));   // the last of a term is longer than the others: padding behind the header
    store_le(frame + 6, static_cast<std::uint16_t>(wire::FrameType::kPad));
    position_ += left;
  }
  [[nodiscard]] std::int64_t position() const noexcept { return position_; }

 private:
  std::int32_t initial_term_;
  std::int64_t position_;
  std::byte bytes_[wire::kUdpFrameHeaderLength + kFrame]{};
};

void drain_port(pmd::Port& port) {
  rte_mbuf* frames[kBurst];
  while (const std::uint16_t count = port.rx_burst(0, frames, kBurst)) rte_pktmbuf_free_bulk(frames, count);
}

// Item = a good frame: the time of the bad ones is spread over them. Arguments: the kind, how many frames a turn finds, good frames for each bad one.
void lane_bad_input(benchmark::State& state) {
  const auto kind = static_cast<Bad>(state.range(0));
  const auto burst = static_cast<unsigned>(state.range(1));
  const auto good_per_bad = static_cast<unsigned>(state.range(2));
  Stream stream{{.has_other_lane = true}};
  Bare bare;
  FakeControl& control = stream.nodes.b.control;
  const std::uint32_t publication = control.add_publication({.session_id = 77, .mode = shm::EndpointMode::kDynamic, .local = {TwoNodes::kAddressB, kPublishPort}});
  control.add_subscription({.local = {TwoNodes::kAddressB + TwoNodes::kSecondCable, kOtherLanePort}});
  stream.nodes.run_for(200 * kMillisecond_ns);
  GoodFrames good{stream};
  BadFrames bad{stream, kind, control.registry().publications[publication].desired};
  core::Lane& lane = stream.lane_b();
  Runs runs{kRun};
  for (auto _ : state) {
    std::vector<rte_mbuf*> frames(kRun + (kind == Bad::kNone ? 0 : kRun / good_per_bad));
    const auto count = static_cast<unsigned>(frames.size());
    rte_pktmbuf_alloc_bulk(bare.pool->get(), frames.data(), count);
    for (unsigned i = 0; i < count; ++i) kind != Bad::kNone && i % (good_per_bad + 1) == good_per_bad ? bad.write(frames[i]) : good.write(frames[i]);
    runs.time(state, [&] {
      for (unsigned sent = 0; sent < count; sent += burst) {
        benchmark::DoNotOptimize(stream.port_a().tx_burst(0, frames.data() + sent, static_cast<std::uint16_t>(std::min(burst, count - sent))));
        lane.turn(stream.now());
      }
    });
    if (stream.receiver().rebuild_position != good.position()) {
      state.SkipWithError("the lane did not take every good frame");
      break;
    }
    stream.subscriber.set(good.position());
    stream.nodes.b.plane->lane(1).turn(stream.now());
    drain_port(stream.port_a());
  }
  runs.report(state);
}
BENCHMARK(lane_bad_input)->ArgsProduct({benchmark::CreateDenseRange(0, 10, 1), {1, kBurst}, {10, 100}})->UseManualTime();

}  // namespace
}  // namespace thalweg::bench
