#include "tests/sim/strangers.hpp"

#include "dataplane/base/time.hpp"
#include "dataplane/wire/frames.hpp"
#include "dataplane/wire/positions.hpp"

namespace thalweg::sim {

void Strangers::act(std::deque<Node>& nodes, std::int64_t now_ns) {
  if (now_ns < next_due_ns()) return;
  next_ns_ = now_ns + scenario_.stranger_interval_ns;
  now_ns_ = now_ns;
  Node& node = nodes[random_.below(nodes.size())];
  const std::size_t senders = node.publications().size();
  const std::size_t all = senders + node.endpoints().size();
  if (all == 0) return;
  const std::size_t victim = random_.below(all);
  if (victim >= senders) return tell_receiver(node, node.endpoints()[victim - senders], now_ns);
  const PublicationEntry& publication = node.publications()[victim];
  if (!publication.stream->plan.is_ipc && !publication.is_done) tell_sender(publication, now_ns);
}

void Strangers::send(const wire::UdpEndpoint& to, std::span<const std::byte> bytes, std::int64_t now_ns) {
  verdict_.faults.add(Fault::kStrangerFrame);
  bytes_sent_ += bytes.size();
  const wire::UdpEndpoint from{Node::address_of(0) - 1 + kFirstHost + 0x100 * static_cast<std::uint32_t>(random_.below(kHosts)) + 0x80,
                               static_cast<std::uint16_t>(30'000 + random_.below(1'000))};
  network_.send(from, to, bytes, now_ns);
}

template <typename Frame>
void Strangers::send_frame(const wire::UdpEndpoint& to, const Frame& frame, std::size_t length, std::int64_t now_ns) {
  std::byte bytes[256]{};
  wire::build(bytes, frame);
  send(to, {bytes, length}, now_ns);
}

void Strangers::take(const Datagram& datagram) {
  verdict_.faults.add(Fault::kStrangerAnswered);
  const auto header = wire::FrameHeader::parse(datagram.bytes);
  if (!header) return verdict_.fail("a stranger was sent an invalid datagram");
  const bool is_stream = header->type() == wire::FrameType::kPad || header->type() == wire::FrameType::kData || header->type() == wire::FrameType::kSetup;
  if (is_stream) return;   // to all destinations of a dynamic publication
  bytes_returned_ += datagram.bytes.size();
  if (bytes_returned_ > 2 * bytes_sent_) verdict_.fail("strangers got {} bytes for the {} that they sent", bytes_returned_, bytes_sent_);
}

// ---- to senders ----

void Strangers::tell_sender(const PublicationEntry& p, std::int64_t now_ns) {
  const StreamPlan& plan = p.stream->plan;
  const auto receiver_id = static_cast<std::int64_t>(random_.next());
  switch (random_.below(6)) {
    case 0: {
      wire::ErrorFrame error;
      error.session_id = plan.session_id;
      error.stream_id = plan.stream_id;
      error.receiver_id = receiver_id;
      error.code = 11;
      return send_frame(p.local, error, error.length(), now_ns);
    }
    case 1:
    case 2: {
      const bool is_request = random_.below(2) == 0;
      const std::int64_t echo_ns = now_ns - static_cast<std::int64_t>(random_.below(8 * kSecond_ns));
      const wire::RttMeasurement rtt{is_request, plan.session_id, plan.stream_id, echo_ns, 0, random_.below(2) == 0 ? 0 : receiver_id};
      return send_frame(p.local, rtt, wire::RttMeasurement::kLength, now_ns);
    }
    default: return tell_status(p);
  }
}

void Strangers::tell_status(const PublicationEntry& p) {
  const StreamPlan& plan = p.stream->plan;
  const int bits = wire::position_bits(plan.term_length);
  const std::int64_t position = p.slot->observed.state.sender_position;
  wire::StatusMessage sm;
  sm.session_id = plan.session_id;
  sm.stream_id = plan.stream_id;
  sm.window_length = 64 << 10;
  sm.receiver_id = static_cast<std::int64_t>(random_.next());
  sm.consumption_term_id = wire::term_id_of(position, plan.initial_term_id, bits);
  sm.consumption_term_offset = wire::term_offset_of(position, bits) & ~31;
  // Who asks for a SETUP holds a group of min flow control up for its time-out, by the rules (4.4); so does a status message that is one of its group's.
  const bool is_min = plan.is_group && plan.flow_control == shm::FlowControl::kMin;
  // Without receivers a tagged group moves with anybody (4.5), and with dynamic destinations who tells a position is a member.
  const bool may_lie = plan.is_group && plan.flow_control == shm::FlowControl::kTagged && plan.group_min_size > 0 && plan.destinations != Destinations::kDynamic;
  switch (random_.below(4)) {
    case 0:  // of no stream, as receivers say that register (3.3)
      sm.session_id = any_int32();
      sm.stream_id = any_int32();
      break;
    case 1:
      sm.flags = wire::flag::kSmSendSetup;
      if (is_min) sm.session_id = any_int32();
      break;
    case 2:
      sm.consumption_term_id = wire::wrapping_add(sm.consumption_term_id, random_.below(2) == 0 ? 3 : -3);
      break;
    default:
      if (!may_lie) sm.stream_id = any_int32();
      sm.window_length = 0;
      break;
  }
  send_frame(p.local, sm, sm.length(), now_ns_);
}

// ---- to receivers ----

void Strangers::tell_receiver(const Node& node, const ReceiveEndpoint& e, std::int64_t now_ns) {
  if (e.subscriptions.empty() || e.local.port == 0) return;
  const Stream& stream = *e.subscriptions[random_.below(e.subscriptions.size())].stream;
  const StreamPlan& plan = stream.plan;
  const std::int32_t session_id = any_int32();
  switch (random_.below(5)) {
    case 0:
    case 1: {
      wire::DataHeader data;
      data.frame_length = 64;
      data.flags = wire::flag::kUnfragmented;
      data.type = wire::FrameType::kData;
      data.session_id = session_id;
      data.stream_id = plan.stream_id;
      return send_frame(e.local, data, 64, now_ns);
    }
    case 2: {
      wire::Setup setup;
      setup.session_id = session_id;
      setup.stream_id = plan.stream_id;
      setup.term_length = 64 << 10;
      setup.mtu = 1408;
      // Of a stream that is here it says nothing new, but where its sender is.
      if (node.is_receiving(stream, e.local) && random_.below(2) == 0) {
        setup.session_id = plan.session_id;
        setup.initial_term_id = any_int32();
        setup.active_term_id = setup.initial_term_id;
      }
      return send_frame(e.local, setup, wire::Setup::kLength, now_ns);
    }
    default: {
      const std::int64_t echo_ns = now_ns - static_cast<std::int64_t>(random_.below(8 * kSecond_ns));
      const wire::RttMeasurement rtt{random_.below(2) == 0, plan.session_id, plan.stream_id, echo_ns, 0, random_.below(2) == 0 ? 0 : e.receiver_id};
      return send_frame(e.local, rtt, wire::RttMeasurement::kLength, now_ns);
    }
  }
}

}  // namespace thalweg::sim
