#include "tests/sim/node.hpp"

#include <algorithm>
#include <bit>

#include "dataplane/base/time.hpp"
#include "dataplane/proto/flow_control.hpp"
#include "dataplane/wire/frames.hpp"

namespace thalweg::sim {
namespace {

constexpr std::uint32_t kSessionsPerEndpoint = 64;
constexpr std::size_t kReceiveRing = 512;                          // of a paused lane; more is lost
constexpr std::int64_t kImageCreation_ns = 300 * kMicrosecond_ns;  // SETUP to image: allocation by the control plane
constexpr std::int64_t kGiveUp_ns = 20 * kSecond_ns;               // a client that nobody listens to closes
constexpr std::int64_t kGroupTag = 101;
constexpr std::size_t kPendingMax = 16;                            // images that a data plane asks for at a time
constexpr shm::LaneCounter kInvalid = shm::LaneCounter::kDropInvalidFrame;

const auto kRejectReason = std::as_bytes(std::span{"not wanted", 10});

// What a receiver sends that has lost its tag.
std::span<const std::byte> without_tag(std::span<const std::byte> frame, std::span<std::byte, wire::StatusMessage::kLength> out) {
  auto sm = wire::StatusMessage::parse(frame);
  if (!sm || !sm->group_tag || wire::FrameHeader::of_valid(frame).type() != wire::FrameType::kStatusMessage) return frame;
  sm->group_tag.reset();
  wire::build(out.data(), *sm);
  return out;
}

template <typename Readers>
proto::SubscriberPositions positions_of(const Readers& readers) {
  proto::SubscriberPositions p;
  for (const Reader* reader : readers) {
    if (!reader->has_joined() || reader->is_closed()) continue;
    p.min = p.count == 0 ? reader->position() : std::min(p.min, reader->position());
    p.max = p.count == 0 ? reader->position() : std::max(p.max, reader->position());
    ++p.count;
  }
  return p;
}

}  // namespace

proto::SubscriberPositions PublicationEntry::positions() const noexcept { return positions_of(readers); }
proto::SubscriberPositions ImageEntry::positions() const noexcept { return with_relays(positions_of(readers), false); }
proto::SubscriberPositions ImageEntry::settled_positions() const noexcept { return with_relays(positions_of(readers), true); }

// Where a publication's datagrams go: to every destination, or refused as a full transmit queue would.
class PublicationSink {
 public:
  PublicationSink(Node& node, PublicationEntry& publication, std::optional<wire::UdpEndpoint> only = {}) : node_{node}, publication_{publication}, only_{only} {}
  bool send_log(std::span<const std::byte> bytes) { return send(bytes); }
  bool send_control(std::span<const std::byte> bytes) { return send(bytes); }

 private:
  bool send(std::span<const std::byte> bytes) {
    publication_.check.on_sent(publication_.stream->plan, publication_.slot->observed.state, bytes, node_.verdict_);
    if (!node_.transmit(publication_.local, only_ ? std::vector{*only_} : node_.destinations_of(publication_), bytes)) return false;
    publication_.check.on_taken(publication_.stream->plan, publication_.slot->observed.state, bytes, node_.verdict_);
    return true;
  }
  Node& node_;
  PublicationEntry& publication_;
  std::optional<wire::UdpEndpoint> only_;   // of many destinations
};

class ImageSink {
 public:
  ImageSink(Node& node, ImageEntry& image, std::size_t way, wire::UdpEndpoint to) : node_{node}, image_{image}, way_{way}, to_{to} {}
  bool send_log(std::span<const std::byte> bytes) { return send_control(bytes); }
  bool send_control(std::span<const std::byte> frame) {
    std::byte without[wire::StatusMessage::kLength];
    const auto bytes = node_.now_ns_ >= image_.plan->tag_lost_ns ? without_tag(frame, without) : frame;
    const proto::SubscriberPositions readers = image_.settled_positions();
    const std::int64_t slowest = readers.count > 0 ? readers.min : INT64_MAX;
    image_.check.on_sent(image_.stream->plan, image_.slot->observed.state, image_.log, slowest, bytes, node_.verdict_);
    return node_.transmit(node_.endpoints_[way_].local, {to_}, bytes);
  }

 private:
  Node& node_;
  ImageEntry& image_;
  std::size_t way_;
  wire::UdpEndpoint to_;
};

Node::Node(std::uint32_t index, const Scenario& scenario, Network& network, Verdict& verdict)
    : index_{index}, scenario_{scenario}, network_{network}, verdict_{verdict}, random_{scenario.seed ^ (0xABCDULL << 32) ^ index} {
  next_tick_ns_ = static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(scenario.tick_ns)));
}

// ---- set-up ----

PublicationEntry& Node::add_publication(Stream& stream, std::size_t side) {
  const StreamPlan& plan = stream.plan;
  PublicationEntry& p = publications_.emplace_back();
  p.stream = &stream;
  p.local = {address(), static_cast<std::uint16_t>(20000 + publications_.size())};
  p.log = LogMemory{plan.term_length};
  p.slot = std::make_unique<shm::PublicationSlot>();
  auto& d = p.slot->desired;
  d.registration_id = 1 + static_cast<std::int64_t>(publications_.size());
  d.session_id = plan.session_id;
  d.stream_id = plan.stream_id;
  d.initial_term_id = plan.initial_term_id;
  d.term_length = plan.term_length;
  d.mtu = plan.mtu;
  d.window_length = plan.publication_window;
  d.start_position = (std::int64_t{plan.start_term_count} << wire::position_bits(plan.term_length)) + plan.start_term_offset;
  using F = shm::PublicationFlags;
  d.flags = F::kSignalEos | (plan.is_ipc ? F::kIpc : 0) | (plan.is_exclusive ? F::kExclusive : 0) | (plan.is_group ? F::kGroup : 0);
  d.max_resend = 16;
  d.linger_ns = plan.linger_ns;
  d.connection_timeout_ns = scenario_.connection_timeout_ns;
  d.unblock_timeout_ns = plan.unblock_timeout_ns;
  d.retransmit_delay_ns = plan.retransmit_delay_ns;
  d.retransmit_linger_ns = plan.retransmit_linger_ns;
  d.is_retransmit_linger_auto = plan.is_retransmit_linger_auto;
  d.untethered_window_limit_timeout_ns = d.untethered_linger_timeout_ns = 5 * kSecond_ns;
  d.untethered_resting_timeout_ns = 10 * kSecond_ns;
  d.flow_control = plan.flow_control;
  d.flow_control_group_tag = kGroupTag;
  d.flow_control_group_min_size = plan.group_min_size;
  d.flow_control_receiver_timeout_ns = plan.receiver_timeout_ns;
  d.retransmit_limit_bytes = plan.retransmit_limit_bytes;
  d.retransmit_limit_interval_ns = plan.retransmit_limit_interval_ns;
  d.retransmit_window_multiple = plan.is_group ? 4 : 16;
  d.state.store(shm::Desired::kActive);
  shm::LogMetadata metadata;
  metadata.type = plan.is_exclusive ? shm::LogType::kExclusivePublication : shm::LogType::kConcurrentPublication;
  metadata.correlation_id = d.registration_id;
  metadata.initial_term_id = plan.initial_term_id;
  metadata.start_term_id = wire::wrapping_add(plan.initial_term_id, plan.start_term_count);
  metadata.start_term_offset = plan.start_term_offset;
  metadata.session_id = plan.session_id;
  metadata.stream_id = plan.stream_id;
  metadata.mtu = plan.mtu;
  metadata.term_length = plan.term_length;
  metadata.page_size = shm::kDefaultPageSize;
  metadata.publication_window = plan.publication_window;
  metadata.signal_eos = true;
  shm::init_log_metadata(p.log.view(), metadata);
  p.counters.fill(d.start_position);
  const std::uint64_t seed = plan.has_twin ? scenario_.seed ^ static_cast<std::uint32_t>(plan.session_id) : random_.next();
  stream.producers.push_back(std::make_unique<Producer>(plan, p.log, p.counter(1), stream.ledger, seed, plan.side_lag_ns[side], verdict_));
  p.producer = stream.producers.back().get();
  if (plan.is_ipc) {
    for (const ReaderPlan& reader : plan.subscribers[0].readers) {
      auto& r = stream.readers.emplace_back(std::make_unique<Reader>(plan, reader, Skips::kNone, p.log.view(), stream.ledger, verdict_));
      r->join(d.start_position);
      p.readers.push_back(r.get());
    }
  }
  return p;
}

std::size_t Node::add_endpoint(const SubscriberPlan& plan) {
  ReceiveEndpoint& e = endpoints_.emplace_back();
  e.local = {address(), static_cast<std::uint16_t>(40000 + endpoints_.size())};
  e.receiver_id = static_cast<std::int64_t>(random_.next() | 1);
  if (plan.has_tag) e.group_tag = kGroupTag;
  return endpoints_.size() - 1;
}

std::vector<wire::UdpEndpoint> Node::add_subscription(Stream& stream, const SubscriberPlan& plan, const wire::UdpEndpoint& control) {
  // Streams of the same id share an endpoint where they may, as applications do.
  const auto shares = [&](const ReceiveEndpoint& e) {
    return e.control.port == 0 && e.arrivals == nullptr &&
           std::any_of(e.subscriptions.begin(), e.subscriptions.end(), [&](const Subscription& s) { return s.stream->plan.stream_id == stream.plan.stream_id; });
  };
  const bool is_learned = stream.plan.destinations == Destinations::kDynamic;
  const bool may_share = random_.below(2) == 0 && !plan.has_tag && !plan.has_two_ways && !is_learned;
  const auto shared = may_share ? std::find_if(endpoints_.begin(), endpoints_.end(), shares) : endpoints_.end();
  const std::size_t index = shared != endpoints_.end() ? static_cast<std::size_t>(shared - endpoints_.begin()) : add_endpoint(plan);
  ReceiveEndpoint& e = endpoints_[index];
  if (is_learned) e.control = control;
  e.subscriptions.push_back({&stream, &plan, !std::any_of(plan.readers.begin(), plan.readers.end(), [](const ReaderPlan& r) { return r.join_ns == 0; })});
  if (!plan.has_two_ways) return {e.local};
  e.local = {};
  e.arrivals = std::make_unique<proto::Arrivals>();
  std::vector<wire::UdpEndpoint> ways;
  for (std::size_t i = 0; i < 2; ++i) {
    ReceiveEndpoint& way = endpoints_[add_endpoint(plan)];
    way.parent = index;
    way.receiver_id = endpoints_[index].receiver_id;
    way.local.address += i == 1 ? kSecondAddress : stream.plan.has_twin ? kSideAddress : 0;
    if (i == 1) way.removed_ns = plan.way_removed_ns;
    ways.push_back(way.local);
  }
  return ways;
}

void Node::start(std::int64_t now_ns) { attach_machines(now_ns); }

void Node::attach_dispatcher(ReceiveEndpoint& endpoint) {
  if (endpoint.parent != ReceiveEndpoint::kNoParent) return;
  endpoint.next_register_ns = 0;
  endpoint.dispatcher.emplace(kSessionsPerEndpoint);
  for (const Subscription& s : endpoint.subscriptions) {
    if (!s.is_closed) endpoint.dispatcher->add_interest(s.stream->plan.stream_id, true, s.stream->plan.session_id);
    // Whoever wants all sessions hears of those that strangers make up.
    if (scenario_.stranger_interval_ns != 0 && endpoint.control.port == 0) endpoint.dispatcher->add_interest(s.stream->plan.stream_id, false, 0);
  }
}

void Node::attach(PublicationEntry& p, std::int64_t now_ns) {
  proto::Publication::Context c;
  c.desired = &p.slot->desired;
  c.state = &p.slot->observed.state;
  c.log = log_of(p).view();
  c.pub_pos = p.counter(0);
  c.pub_lmt = p.counter(1);
  if (!p.stream->plan.is_ipc) {
    c.snd_pos = p.counter(2);
    c.snd_lmt = p.counter(3);
    c.snd_bpe = p.counter(4);
    c.snd_naks = p.counter(5);
  }
  c.counters = lane();
  p.machine.emplace(c);
  attach_destinations(p);
  if (p.slot->observed.state.lifecycle == shm::Lifecycle::kNone) p.machine->start(now_ns);
  else p.machine->resume(now_ns);
}

// The data plane starts, or starts again: everything private is built from the slots.
void Node::attach_machines(std::int64_t now_ns) {
  attached_ns_ = now_ns;
  for (PublicationEntry& p : publications_) {
    if (!p.is_done) attach(p, now_ns);
  }
  for (ReceiveEndpoint& e : endpoints_) attach_dispatcher(e);
  for (std::size_t i = 0; i < images_.size(); ++i) {
    if (!images_[i].is_done) start_image(i, now_ns);
  }
}

void Node::start_image(std::size_t index, std::int64_t now_ns) {
  ImageEntry& image = images_[index];
  proto::Image::Context c;
  c.desired = &image.slot->desired;
  c.state = &image.slot->observed.state;
  c.log = image.log.view();
  c.rcv_hwm = shm::Counter{&image.counters[0]};
  c.rcv_pos = shm::Counter{&image.counters[1]};
  c.rcv_naks = shm::Counter{&image.counters[2]};
  c.counters = lane();
  c.receiver_id = endpoints_[image.endpoint].receiver_id;
  c.has_group_tag = endpoints_[image.endpoint].group_tag.has_value();
  c.group_tag = endpoints_[image.endpoint].group_tag.value_or(0);
  image.machine.emplace(c);
  const bool is_resumed = image.is_started;
  if (is_resumed) {
    image.machine->resume(now_ns);
    if (image.slot->desired.is_rejected.load() != 0) image.machine->reject(kRejectReason);
  } else {
    image.machine->start(now_ns);
    image.is_started = true;
  }
  start_connections(image, is_resumed, now_ns);
  for (Reader* reader : image.readers) {
    if (!reader->has_joined()) reader->join(image.machine->join_position(image.positions()));
  }
  const StreamPlan& plan = image.stream->plan;
  if (!image.is_unavailable) {
    endpoints_[image.endpoint].dispatcher->image_live(plan.stream_id, plan.session_id, static_cast<std::uint32_t>(index));
  }
}

// ---- the wire ----

bool Node::transmit(const wire::UdpEndpoint& from, const std::vector<wire::UdpEndpoint>& to, std::span<const std::byte> bytes) {
  if (!is_healed_ && random_.chance_ppm(scenario_.transmit_refused_ppm)) {
    verdict_.faults.add(Fault::kTransmitRefused);
    return false;
  }
  for (const wire::UdpEndpoint& destination : to) network_.send(from, destination, bytes, now_ns_);
  return true;
}

void Node::receive(Datagram& datagram, std::int64_t now_ns) {
  if (!is_up(now_ns)) return verdict_.faults.add(Fault::kReceiveOverflow);
  if (now_ns < paused_until_ns_ || is_crashed_) {
    if (receive_queue_.size() >= kReceiveRing) return verdict_.faults.add(Fault::kReceiveOverflow);
    receive_queue_.push_back(datagram);
    return;
  }
  handle(datagram, now_ns);
}

void Node::handle(Datagram& datagram, std::int64_t now_ns) {
  now_ns_ = now_ns;
  const auto header = wire::FrameHeader::parse(datagram.bytes);
  if (!header) return count(kInvalid);
  for (PublicationEntry& p : publications_) {
    if (p.local == datagram.to && p.machine) return on_control(p, *header, datagram, now_ns);
  }
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {
    if (endpoints_[i].local != datagram.to || endpoints_[i].is_removed) continue;
    switch (header->type()) {
      case wire::FrameType::kPad:
      case wire::FrameType::kData: return on_data(i, datagram, now_ns);
      case wire::FrameType::kSetup: return on_setup(i, datagram, now_ns);
      case wire::FrameType::kRttMeasurement: return on_rtt(i, datagram, now_ns);
      default: return count(shm::LaneCounter::kDropIgnoredType);
    }
  }
  count(shm::LaneCounter::kDropNoEndpoint);
}

void Node::on_control(PublicationEntry& p, const wire::FrameHeader& header, Datagram& datagram, std::int64_t now_ns) {
  const auto is_ours = [&](std::int32_t session_id, std::int32_t stream_id) {
    const bool is = session_id == p.stream->plan.session_id && stream_id == p.stream->plan.stream_id;
    if (!is) count(shm::LaneCounter::kDropUnknownStream);
    return is;
  };
  PublicationSink sink{*this, p};
  switch (header.type()) {
    case wire::FrameType::kStatusMessage:
      if (const auto sm = wire::StatusMessage::parse(datagram.bytes)) {
        if (p.list) hear_destination(p, *sm, datagram.from, now_ns);
        if (!is_ours(sm->session_id, sm->stream_id)) return;
        if ((sm->flags & wire::flag::kSmSendSetup) == 0 && proto::flow::is_wanted(p.slot->desired, *sm)) p.wanted_ns[sm->receiver_id] = now_ns;
        const std::int64_t began = p.slot->observed.state.start_position;
        p.machine->on_status_message(*sm, datagram.from, now_ns);
        if (p.slot->observed.state.start_position < began) verdict_.faults.add(Fault::kRelayWentBack);
      }
      return;
    case wire::FrameType::kNak:
      if (const auto nak = wire::Nak::parse(datagram.bytes); nak && is_ours(nak->session_id, nak->stream_id)) p.machine->on_nak(*nak, now_ns, sink);
      return;
    case wire::FrameType::kError:
      if (const auto error = wire::ErrorFrame::parse(datagram.bytes); error && is_ours(error->session_id, error->stream_id)) {
        p.machine->on_error(*error, now_ns);
      }
      return;
    case wire::FrameType::kRttMeasurement:
      if (const auto rtt = wire::RttMeasurement::parse(datagram.bytes); rtt && is_ours(rtt->session_id, rtt->stream_id)) {
        on_sender_rtt(p, *rtt, datagram.from, now_ns);
      }
      return;
    default: return count(shm::LaneCounter::kDropIgnoredType);
  }
}

// Of many destinations the one that asked is answered, as Lane::on_sender_rtt() does.
void Node::on_sender_rtt(PublicationEntry& p, const wire::RttMeasurement& rtt, const wire::UdpEndpoint& source, std::int64_t now_ns) {
  if (!p.list || !rtt.is_request) {
    PublicationSink sink{*this, p};
    return p.machine->on_rtt_measurement(rtt, now_ns, sink, p.stream->plan.is_group ? 1 : 0);
  }
  const auto* const asker = p.list->find_speaker(rtt.receiver_id, source);
  if (asker == nullptr && p.stream->plan.destinations == Destinations::kDynamic) return count(shm::LaneCounter::kDropUnexpectedSource);
  PublicationSink sink{*this, p, asker == nullptr ? std::nullopt : std::optional{asker->target.remote}};
  p.machine->on_rtt_measurement(rtt, now_ns, sink, asker == nullptr ? static_cast<std::uint32_t>(p.list->entries().size() + 1) : 0);
}

void Node::on_data(std::size_t endpoint, Datagram& datagram, std::int64_t now_ns) {
  ReceiveEndpoint& e = endpoints_[home_of(endpoint)];
  const wire::DataView view{datagram.bytes.data()};
  const bool is_end = (view.flags() & wire::flag::kEndOfStream) != 0;
  const auto decision = e.dispatcher->on_data(view.stream_id(), view.session_id(), is_end, now_ns);
  switch (decision.what) {
    case proto::Dispatch::kImage: return insert(images_[decision.image], endpoint, datagram, now_ns);
    case proto::Dispatch::kElicitSetup: return elicit_setup(endpoints_[endpoint], view.session_id(), view.stream_id(), datagram.from, now_ns);
    default: return count(shm::LaneCounter::kDropNoInterest);
  }
}

// A crash inside an insert is a store into a write-protected page: the copy stops where it stands, the lane is gone.
void Node::insert(ImageEntry& image, std::size_t way, const Datagram& datagram, std::int64_t now_ns) {
  const wire::DataView view{datagram.bytes.data()};
  const StreamPlan& plan = image.stream->plan;
  const bool may_crash = crash_in_insert_ns_ > 0 && view.frame_length() > 0 && view.term_offset() >= 0 && view.term_offset() < plan.term_length &&
                         wire::wrapping_sub(view.term_id(), plan.initial_term_id) >= 0;
  if (!may_crash) return put_in(image, way, datagram, now_ns);
  std::int64_t position = wire::position_of(view.term_id(), view.term_offset(), plan.initial_term_id, wire::position_bits(plan.term_length));
  const std::int64_t last = position + static_cast<std::int64_t>(datagram.bytes.size()) - 1;
  if (random_.below(2) == 0 && wire::term_offset_of(last, wire::position_bits(plan.term_length)) > view.term_offset()) position = last;
  image.log.protect(position, true);
  const bool is_torn = CrashGuard::is_cut_short([&] { put_in(image, way, datagram, now_ns); });
  image.log.protect(position, false);
  if (!is_torn) return;
  verdict_.faults.add(Fault::kTornInsert);
  crash(now_ns, now_ns + crash_in_insert_ns_);
  crash_in_insert_ns_ = 0;
}

void Node::on_setup(std::size_t endpoint, Datagram& datagram, std::int64_t now_ns) {
  const std::size_t home = home_of(endpoint);
  ReceiveEndpoint& e = endpoints_[home];
  const auto setup = wire::Setup::parse(datagram.bytes);
  if (!setup) return count(kInvalid);
  const auto decision = e.dispatcher->on_setup(setup->stream_id, setup->session_id, setup->initial_term_id, now_ns);
  switch (decision.what) {
    case proto::Dispatch::kImage: {
      ImageEntry& image = images_[decision.image];
      return image.machine->on_setup(connection_of(image, endpoint, datagram.from, now_ns), datagram.from, now_ns);
    }
    case proto::Dispatch::kCreateImage:
      if (pending_.size() < kPendingMax) {
        pending_.push_back({now_ns + kImageCreation_ns, home, endpoint, *setup, datagram.from});
      } else {
        e.dispatcher->image_refused(setup->stream_id, setup->session_id);
        count(shm::LaneCounter::kDropImageLimit);
      }
      return;
    case proto::Dispatch::kElicitSetup: return elicit_setup(endpoints_[endpoint], setup->session_id, setup->stream_id, datagram.from, now_ns);
    default: return count(shm::LaneCounter::kDropNoInterest);
  }
}

void Node::on_rtt(std::size_t endpoint, Datagram& datagram, std::int64_t now_ns) {
  ReceiveEndpoint& e = endpoints_[home_of(endpoint)];
  const auto rtt = wire::RttMeasurement::parse(datagram.bytes);
  if (!rtt || (rtt->receiver_id != e.receiver_id && rtt->receiver_id != 0)) return;
  const auto decision = e.dispatcher->find(rtt->stream_id, rtt->session_id);
  if (decision.what != proto::Dispatch::kImage) return;
  ImageEntry& image = images_[decision.image];
  if (!rtt->is_request) return image.machine->on_rtt_reply(*rtt, now_ns);
  const unsigned connection = connection_of(image, endpoint, datagram.from, now_ns);
  if (connection == shm::kConnectionsMax) return;
  const shm::ConnectionState& c = image.slot->observed.state.connections[connection];
  ImageSink sink{*this, image, endpoint, {c.control_address, c.control_port}};
  image.machine->on_rtt_request(*rtt, sink);
}

void Node::elicit_setup(const ReceiveEndpoint& endpoint, std::int32_t session_id, std::int32_t stream_id, const wire::UdpEndpoint& to,
                        std::int64_t now_ns) {
  now_ns_ = now_ns;
  std::byte frame[wire::StatusMessage::kLengthWithTag];
  wire::build(frame, wire::StatusMessage{.flags = wire::flag::kSmSendSetup, .session_id = session_id, .stream_id = stream_id,
                                         .receiver_id = endpoint.receiver_id, .group_tag = endpoint.group_tag});
  count(shm::LaneCounter::kStatusMessagesSent);
  transmit(endpoint.local, {endpoint.control.port != 0 ? endpoint.control : to}, {frame, endpoint.group_tag ? sizeof frame : std::size_t{wire::StatusMessage::kLength}});
}

// ---- turns and ticks ----

bool Node::turn(std::int64_t now_ns) {
  if (!is_up(now_ns) || now_ns < paused_until_ns_) return false;
  now_ns_ = now_ns;
  if (is_crashed_) {
    is_crashed_ = false;
    attach_machines(now_ns);
  }
  bool has_worked = !receive_queue_.empty();
  while (!receive_queue_.empty() && !is_crashed_) {
    Datagram datagram = std::move(receive_queue_.front());
    receive_queue_.pop_front();
    handle(datagram, now_ns);
  }
  if (is_crashed_) return true;
  has_worked |= register_at_control(now_ns);
  for (std::size_t i = 0; i < images_.size() && !is_crashed_; ++i) {
    ImageEntry& image = images_[i];
    if (!image.machine) continue;
    const auto sink_for = [&](unsigned connection) {
      const shm::ConnectionState& c = image.slot->observed.state.connections[connection];
      const bool is_by_way = endpoints_[image.endpoint].arrivals != nullptr;
      return ImageSink{*this, image, is_by_way ? c.endpoint : image.endpoint, {c.control_address, c.control_port}};
    };
    has_worked |= image.machine->duty(image.positions(), now_ns, sink_for) > 0;
    image.check.after_turn(image.stream->plan, image.slot->observed.state, image.log, verdict_);
  }
  for (PublicationEntry& p : publications_) {
    if (!p.machine || is_crashed_) continue;
    if (p.source != PublicationEntry::kNoSource) follow_source(p);
    PublicationSink sink{*this, p};
    const proto::SendOutcome outcome = p.machine->send(now_ns, sink);
    has_worked |= outcome.bytes > 0;
    update_limit(p, now_ns);
    const bool has_own_log = p.source == PublicationEntry::kNoSource;
    if (!is_crashed_) p.check.after_turn(p.stream->plan, p.slot->observed.state, log_of(p), has_own_log ? p.counters[1] : INT64_MIN, verdict_);
    p.was_waited_for = p.is_waited_for();
    if (!is_crashed_) p.check.expect_wanted(p.stream->plan, p.slot->observed.state, p.wanted_ns, attached_ns_, verdict_);
  }
  if (!is_crashed_ && now_ns >= next_tick_ns_) {
    tick(now_ns);
    next_tick_ns_ = now_ns + scenario_.tick_ns;
    has_worked = true;
  }
  return has_worked;
}

void Node::update_limit(PublicationEntry& p, std::int64_t now_ns) {
  if (crash_in_clean_ns_ == 0 || p.source != PublicationEntry::kNoSource) {
    p.machine->update_limit(p.positions(), now_ns);
    return;
  }
  const std::int64_t clean_position = p.slot->observed.state.clean_position;
  p.log.protect(clean_position, true);
  const bool is_torn = CrashGuard::is_cut_short([&] { p.machine->update_limit(p.positions(), now_ns); });
  p.log.protect(clean_position, false);
  if (!is_torn) return;
  verdict_.faults.add(Fault::kTornClean);
  crash(now_ns, now_ns + crash_in_clean_ns_);
  crash_in_clean_ns_ = 0;
}

void Node::tick(std::int64_t now_ns) {
  for (ReceiveEndpoint& e : endpoints_) {
    if (e.dispatcher) e.dispatcher->tick(now_ns);
  }
  for (PublicationEntry& p : publications_) {
    if (!p.machine) continue;
    p.machine->tick(p.positions(), now_ns);
    if (p.slot->observed.state.lifecycle != shm::Lifecycle::kDone) continue;
    p.slot->observed.ObservedHead::state.store(shm::Observed::kDone);
    p.machine.reset();
    p.is_done = true;
    for (Reader* reader : p.readers) {
      if (!reader->is_closed() && !p.producer->is_exclusive_dead() && p.stream->plan.ending != Ending::kRevoke && !reader->is_complete()) {
        verdict_.fail("stream {}: IPC log gone before its reader at {} was served", p.stream->plan.session_id, reader->position());
      }
      reader->close();
    }
  }
  for (std::size_t i = 0; i < images_.size(); ++i) {
    if (images_[i].machine) tick_image(i, now_ns);
  }
}

void Node::tick_image(std::size_t index, std::int64_t now_ns) {
  ImageEntry& image = images_[index];
  shm::ImageState& state = image.slot->observed.state;
  if (image.machine->tick(image.positions(), now_ns) && state.is_given_up != 0 && state.lifecycle == shm::Lifecycle::kDraining) {
    verdict_.faults.add(Fault::kGapGivenUp);
  }
  const StreamPlan& plan = image.stream->plan;
  if (!image.is_unavailable && state.lifecycle >= shm::Lifecycle::kLinger) {
    image.is_unavailable = true;
    proto::Dispatcher& dispatcher = *endpoints_[image.endpoint].dispatcher;
    const auto number = static_cast<std::uint32_t>(index);
    if (plan.has_twin && state.is_end_of_stream != 0) {
      image.echo_until_ns = now_ns + scenario_.image_liveness_ns;
      dispatcher.stream_ended(plan.stream_id, plan.session_id, number, plan.initial_term_id, image.echo_until_ns);
    } else {
      dispatcher.image_removed(plan.stream_id, plan.session_id, number, state.is_end_of_stream != 0, image.plan->is_rejoin);
    }
    if (state.is_end_of_stream != 0 && state.is_revoked == 0 && state.is_given_up == 0) {
      for (const Reader* reader : image.readers) {
        if (reader->has_joined() && !reader->is_closed() && !reader->is_at_end()) {
          verdict_.fail("stream {}: image closed at end of stream with its reader at {} of {}", plan.session_id, reader->position(),
                        state.end_of_stream_position);
        }
      }
    }
  }
  if (state.lifecycle == shm::Lifecycle::kDone) {
    image.slot->observed.ObservedHead::state.store(shm::Observed::kDone);
    image.machine.reset();
    image.is_done = true;
  }
}

// ---- the control plane's part ----

bool Node::control_plane(std::int64_t now_ns) {
  if (now_ns < stalled_until_ns_) return false;
  bool has_worked = false;
  for (std::size_t i = 0; i < pending_.size();) {
    if (pending_[i].due_ns > now_ns) {
      ++i;
      continue;
    }
    const PendingImage pending = pending_[i];
    pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(i));
    create_image(pending, now_ns);
    has_worked = true;
  }
  for (ImageEntry& image : images_) {
    if (image.is_done) continue;
    if (image.machine && now_ns >= image.plan->reject_at_ns && image.slot->desired.is_rejected.exchange(1) == 0) {
      verdict_.faults.add(Fault::kImageRejected);
      image.machine->reject(kRejectReason);
    }
    if (!image.is_unavailable) has_worked |= attach_late_readers(image, now_ns);
    if (!image.is_unavailable) continue;
    for (Reader* reader : image.readers) {
      has_worked |= !reader->is_closed();
      const bool is_cut = image.stream->plan.ending == Ending::kRevoke;
      if (!reader->is_closed() && reader->has_joined() && image.stream->is_lossless() && !image.stream->may_lose(reader->plan()) && !is_cut && !reader->is_complete()) {
        verdict_.fail("stream {}: image ended at {} before everything was delivered ({} of {} claims)", image.stream->plan.session_id,
                      reader->position(), reader->messages(), image.stream->ledger.size());
      }
      reader->close();
    }
  }
  has_worked |= reap_readers(now_ns);
  has_worked |= begin_relays(now_ns);
  has_worked |= end_relays(now_ns);
  return close_publications(now_ns) || has_worked;
}

void Node::create_image(const PendingImage& pending, std::int64_t now_ns) {
  ReceiveEndpoint& e = endpoints_[pending.endpoint];
  const wire::Setup& setup = pending.setup;
  const auto refuse = [&] {
    if (e.dispatcher && !is_crashed_) e.dispatcher->image_refused(setup.stream_id, setup.session_id);
  };
  const auto subscription = std::find_if(e.subscriptions.begin(), e.subscriptions.end(), [&](const Subscription& s) {
    return s.stream->plan.session_id == setup.session_id && s.stream->plan.stream_id == setup.stream_id && !s.is_closed;
  });
  const bool is_known = std::any_of(images_.begin(), images_.end(), [&](const ImageEntry& i) {
    return !i.is_done && !i.is_unavailable && i.endpoint == pending.endpoint && i.slot->desired.session_id == setup.session_id &&
           i.slot->desired.stream_id == setup.stream_id;
  });
  if (is_known || subscription == e.subscriptions.end() || setup.mtu > subscription->plan->window_length) return refuse();
  Stream& stream = *subscription->stream;
  const SubscriberPlan& plan = *subscription->plan;
  // After a stream has ended by one side the other may still be there, far behind or back from the dead: what it says was heard before.
  expect_no_echo(plan, now_ns);
  const bool is_echo = stream.plan.has_twin && std::any_of(images_.begin(), images_.end(), [&](const ImageEntry& i) { return i.plan == &plan; });
  // A revoked publication still answers those who ask for its SETUP.
  const bool was_revoked = std::any_of(images_.begin(), images_.end(), [&](const ImageEntry& i) { return i.plan == &plan && i.slot->observed.state.is_revoked != 0; });
  if (++subscription->images > 1) {
    verdict_.faults.add(Fault::kRejoined);
    if (stream.is_lossless() && plan.is_reliable && !stream.may_lose(plan.readers[0]) && !is_echo && !was_revoked) verdict_.fail("stream {}: image lost and joined anew", stream.plan.session_id);
  }
  ImageEntry& image = images_.emplace_back();
  image.stream = &stream;
  image.plan = &plan;
  image.endpoint = pending.endpoint;
  image.source = pending.source;
  image.log = LogMemory{setup.term_length};
  image.slot = std::make_unique<shm::ImageSlot>();
  auto& d = image.slot->desired;
  d.correlation_id = 1000 + static_cast<std::int64_t>(images_.size());
  d.session_id = setup.session_id;
  d.stream_id = setup.stream_id;
  d.initial_term_id = setup.initial_term_id;
  d.term_length = setup.term_length;
  d.mtu = setup.mtu;
  d.window_length = plan.window_length;
  d.join_position = wire::position_of(setup.active_term_id, setup.term_offset, setup.initial_term_id, wire::position_bits(setup.term_length));
  using F = shm::ImageFlags;
  const bool is_group = (setup.flags & wire::flag::kSetupGroup) != 0;
  d.flags = (plan.is_reliable ? F::kReliable : 0) | (is_group ? F::kGroup : 0) | (stream.plan.is_nak_all_gaps ? F::kNakAllGaps : 0) |
            (stream.plan.is_rtt_measured ? F::kMeasureRtt : 0) | (plan.is_rejoin ? F::kRejoin : 0);
  d.destination = static_cast<std::uint32_t>(pending.way);
  d.nak_hold_ns = stream.plan.nak_hold_ns;
  d.side_timeout_ns = stream.plan.side_timeout_ns;
  d.source_address = pending.source.address;
  d.source_port = pending.source.port;
  d.liveness_timeout_ns = scenario_.image_liveness_ns;
  d.sm_timeout_ns = 200 * kMillisecond_ns;
  d.nak_delay_ns = stream.plan.nak_delay_ns;
  d.nak_retry_ns = stream.plan.nak_delay_ns * 100;
  d.nak_max_backoff_ns = 10 * kMillisecond_ns;
  d.nak_group_size = 10;
  d.nak_backoff_ns = stream.plan.nak_backoff_ns;
  d.nak_max = stream.plan.nak_max;
  d.congestion_control = stream.plan.congestion_control;
  d.initial_rtt_ns = kMillisecond_ns;
  d.is_rtt_measured = stream.plan.is_rtt_measured;
  d.state.store(shm::Desired::kActive);
  shm::LogMetadata metadata;
  metadata.type = shm::LogType::kImage;
  metadata.initial_term_id = setup.initial_term_id;
  metadata.start_term_id = setup.initial_term_id;
  metadata.session_id = setup.session_id;
  metadata.stream_id = setup.stream_id;
  metadata.mtu = setup.mtu;
  metadata.term_length = setup.term_length;
  metadata.page_size = shm::kDefaultPageSize;
  shm::init_log_metadata(image.log.view(), metadata);
  // As after three terms: an image may rely on one zero word at its join position and on nothing else.
  std::memset(image.log.view().base(), 0x2A, 3 * static_cast<std::size_t>(d.term_length));
  store_le<std::uint64_t>(image.log.view().at(d.join_position), 0);
  image.late_readers_added = 0;
  image.is_echo = is_echo;
  attach_late_readers(image, now_ns);
  if (is_up(now_ns) && !is_crashed_) start_image(images_.size() - 1, now_ns);
}

bool Node::attach_late_readers(ImageEntry& image, std::int64_t now_ns) {
  bool has_worked = false;
  while (image.late_readers_added < image.plan->readers.size()) {
    ReaderPlan& plan = image.reader_plans.emplace_back(image.plan->readers[image.late_readers_added]);
    if (plan.join_ns > now_ns) {
      image.reader_plans.pop_back();
      break;
    }
    plan.may_lose |= image.is_echo;
    ++image.late_readers_added;
    if (plan.die_at_ns <= now_ns) continue;
    const bool is_relayed = image.plan == &image.stream->plan.relayed;
    const Skips skips = !image.plan->is_reliable || (is_relayed && image.stream->plan.relay_drops) ? Skips::kAny : is_relayed ? Skips::kBeforeFirst : Skips::kNone;
    auto& reader = image.stream->readers.emplace_back(
        std::make_unique<Reader>(image.stream->plan, plan, skips, image.log.view(), image.stream->ledger, verdict_));
    image.readers.push_back(reader.get());
    if (is_healed_) reader->heal();
    if (image.machine && !is_crashed_) {
      verdict_.faults.add(Fault::kReaderJoinedLate);
      reader->join(image.machine->join_position(image.positions()));
    }
    has_worked = true;
  }
  return has_worked;
}

bool Node::reap_readers(std::int64_t now_ns) {
  bool has_worked = false;
  const auto reap = [&](std::vector<Reader*>& readers) {
    for (Reader* reader : readers) {
      if (reader->is_closed() || !reader->has_died(now_ns)) continue;
      verdict_.faults.add(Fault::kReaderDied);
      reader->close();
      has_worked = true;
    }
  };
  for (PublicationEntry& p : publications_) reap(p.readers);
  for (ImageEntry& i : images_) {
    if (!i.is_done) reap(i.readers);
  }
  has_worked |= remove_ways(now_ns);
  return open_and_close_subscriptions(now_ns) || has_worked;
}

// Interests come and go with the clients that have them. A data plane that is down learns of it when it is back.
bool Node::open_and_close_subscriptions(std::int64_t now_ns) {
  bool has_worked = false;
  for (ReceiveEndpoint& e : endpoints_) {
    for (Subscription& s : e.subscriptions) {
      const bool is_wanted = s.is_wanted(now_ns);
      if (s.is_closed == !is_wanted) continue;
      s.is_closed = !is_wanted;
      s.images = 0;
      has_worked = true;
      verdict_.faults.add(is_wanted ? Fault::kReceiverJoined : Fault::kReceiverLeft);
      if (!e.dispatcher || is_crashed_ || !is_up(now_ns)) continue;
      const StreamPlan& plan = s.stream->plan;
      if (is_wanted) {
        e.dispatcher->add_interest(plan.stream_id, true, plan.session_id);
      } else {
        e.dispatcher->remove_interest(plan.stream_id, true, plan.session_id);
      }
    }
  }
  return has_worked;
}

// The publishing client closes when it is done, as its plan says; it gives up when it was not heard for long after healing.
bool Node::close_publications(std::int64_t now_ns) {
  bool has_worked = false;
  for (PublicationEntry& p : publications_) {
    Stream& stream = *p.stream;
    if (p.closed_ns >= 0 || p.is_done || p.producer == nullptr) continue;
    // A side that fell behind by more than half a term has no receiver any more (2.11): the other one goes on.
    const bool may_give_up = !stream.is_lossless() || stream.plan.has_twin;
    if (is_healed_ && may_give_up && now_ns > scenario_.heal_ns + kGiveUp_ns) p.producer->stop();
    if (!p.producer->is_finished()) continue;
    if (stream.plan.ending == Ending::kCloseWhenConsumed && !(is_healed_ && now_ns > scenario_.heal_ns + kGiveUp_ns) && !p.producer->is_exclusive_dead()) {
      const auto is_behind = [&](const auto& r) {
        return r->has_joined() && !r->is_closed() && !stream.may_lose(r->plan()) && r->position() < p.producer->position();
      };
      if (std::any_of(stream.readers.begin(), stream.readers.end(), is_behind)) continue;
    }
    p.closed_ns = now_ns;
    if (stream.plan.ending == Ending::kRevoke) {
      verdict_.faults.add(Fault::kRevoked);
      p.slot->desired.is_revoked.store(1);
    }
    p.slot->desired.state.store(shm::Desired::kClosing);
    has_worked = true;
  }
  return has_worked;
}

}  // namespace thalweg::sim
