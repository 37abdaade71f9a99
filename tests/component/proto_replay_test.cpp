// Recorded traffic of the reference driver against our two halves of a stream: what the recorded peer sent is fed in at its recorded
// time, and what we send must be what the recorded driver sent, byte for byte. Heartbeats and status messages, whose number depends on
// the phase of timers, are compared by rule.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/support/recorded.hpp"
#include "tests/unit/proto/proto_fixture.hpp"

namespace thalweg::proto::test {
namespace {

using shm::PublicationFlags;
using wire::FrameType;

struct Datagram {
  std::int64_t time_ns{};
  std::uint32_t source{};
  std::uint16_t destination_port{};
  Bytes payload;
  [[nodiscard]] FrameType type() const { return type_of(payload); }
  [[nodiscard]] bool is_stream_data() const { return type() <= FrameType::kData && !is_heartbeat(payload); }
};

constexpr std::uint32_t kPublisherNet = 0x0A4D0001, kPublisherBridge = 0x0A4E0001;  // 10.77.0.1, 10.78.0.1
bool is_from_publisher(const Datagram& d) { return d.source == kPublisherNet || d.source == kPublisherBridge; }

std::vector<Datagram> read_datagrams(const std::string& name) {
  std::vector<Datagram> all;
  for (const auto& frame : thalweg::test::read_pcap(thalweg::test::data_path(name))) {
    const std::byte* p = frame.bytes.data();
    const bool is_udp = frame.bytes.size() > 42 && load_be16(p + 12) == wire::kEtherTypeIpv4 && load_le<std::uint8_t>(p + 23) == wire::kIpProtocolUdp;
    if (!is_udp) continue;
    const std::size_t length = load_be16(p + 38) - wire::kUdpHeaderLength;
    if (type_of(Bytes(p + 42, p + 42 + length)) == FrameType::kResolution) continue;  // the drivers', not a stream's
    all.push_back({frame.time_ns, load_be32(p + 26), load_be16(p + 36), Bytes(p + 42, p + 42 + length)});
  }
  return all;
}

// A multi-destination publication as one of its destinations sees it (0: all of it), and no SMs but the stream's own: those that only
// announce a destination (session and stream 0) are the endpoint's business.
std::vector<Datagram> read_stream(const std::string& name, std::uint16_t destination_port) {
  std::vector<Datagram> all = read_datagrams(name);
  std::erase_if(all, [&](const Datagram& d) {
    if (is_from_publisher(d)) return destination_port != 0 && d.destination_port != destination_port;
    return d.type() == FrameType::kStatusMessage && wire::StatusMessage::parse(d.payload)->session_id == 0;
  });
  return all;
}

// Requests and their answers, in file 20: two streams in opposite directions.
enum class Exchange : std::uint8_t { kNone, kRequest, kAnswer };
constexpr std::uint32_t kServerNet = 0x0A4D0002;  // 10.77.0.2
[[nodiscard]] std::int32_t session_of(const Datagram& d) {
  const std::size_t at = d.type() <= FrameType::kData || d.type() == FrameType::kSetup ? 12 : 8;
  return load_le<std::int32_t>(d.payload.data() + at);
}
// One of them as if there were no other; the answers' sender passes for the publisher of the other files.
std::vector<Datagram> read_exchange(const std::string& name, std::uint16_t destination_port, Exchange part) {
  std::vector<Datagram> all = read_stream(name, destination_port);
  if (part == Exchange::kNone) return all;
  const auto told = std::find_if(all.begin(), all.end(), [](const Datagram& d) { return d.type() == FrameType::kResponseSetup; });
  if (told == all.end()) throw std::runtime_error{"no RSP_SETUP recorded"};
  const auto setup = *wire::ResponseSetup::parse(told->payload);
  const std::int32_t session_id = part == Exchange::kRequest ? setup.session_id : setup.response_session_id;
  std::erase_if(all, [&](const Datagram& d) { return session_of(d) != session_id; });
  if (part == Exchange::kRequest) return all;
  for (Datagram& d : all) d.source = d.source == kServerNet ? kPublisherNet : kServerNet;
  return all;
}

// The position arithmetic of one recorded stream, from its first SETUP.
struct Stream {
  explicit Stream(const std::vector<Datagram>& all) {
    const auto first = std::find_if(all.begin(), all.end(), [](const Datagram& d) { return d.type() == FrameType::kSetup; });
    if (first == all.end()) throw std::runtime_error{"no SETUP recorded"};
    setup = *wire::Setup::parse(first->payload);
    start_ns = first->time_ns;
  }
  [[nodiscard]] int bits() const { return wire::position_bits(setup.term_length); }
  [[nodiscard]] std::int64_t position(const Bytes& d) const {
    const wire::DataView v{d.data()};
    return wire::position_of(v.term_id(), v.term_offset(), setup.initial_term_id, bits());
  }
  // Behind the last frame of a datagram.
  [[nodiscard]] std::int64_t end(const Bytes& d) const {
    std::int64_t at = 0;
    while (at < static_cast<std::int64_t>(d.size())) at += wire::align_frame(load_le<std::int32_t>(d.data() + at));
    return position(d) + at;
  }
  [[nodiscard]] std::int64_t join_position(const wire::Setup& s) const {
    return wire::position_of(s.active_term_id, s.term_offset, s.initial_term_id, bits());
  }
  wire::Setup setup;
  std::int64_t start_ns{};
};

// ---- the sending half ----

struct SenderCase {
  const char* file;
  std::uint32_t flags{PublicationFlags::kSignalEos};
  shm::FlowControl flow_control{shm::FlowControl::kMax};
  std::int32_t group_min_size{};
  std::int64_t group_tag{-1};
  std::uint16_t destination_port{};
  Exchange exchange{};
};

class SenderReplay : public ::testing::TestWithParam<SenderCase> {
 protected:
  struct Sent { std::int64_t time_ns; Bytes bytes; };

  void SetUp() override {
    recorded = read_exchange(GetParam().file, GetParam().destination_port, GetParam().exchange);
    stream = std::make_unique<Stream>(recorded);
    if (GetParam().exchange == Exchange::kAnswer) stream->start_ns = recorded.front().time_ns;  // it is mute before it is asked
    auto& d = slot->desired;
    d.session_id = stream->setup.session_id;
    d.stream_id = stream->setup.stream_id;
    d.initial_term_id = stream->setup.initial_term_id;
    d.term_length = stream->setup.term_length;
    d.mtu = stream->setup.mtu;
    d.start_position = stream->join_position(stream->setup);
    d.flags = GetParam().flags;
    d.linger_ns = kSecond_ns;
    d.connection_timeout_ns = 5 * kSecond_ns;
    d.unblock_timeout_ns = 15 * kSecond_ns;
    d.retransmit_linger_ns = 10 * kMs;
    d.max_resend = 16;
    d.flow_control = GetParam().flow_control;
    d.flow_control_group_min_size = GetParam().group_min_size;
    d.flow_control_group_tag = GetParam().group_tag;
    d.flow_control_receiver_timeout_ns = kSecond_ns;
    d.state = shm::Desired::kActive;
    log = std::make_unique<HeapLog>(d.term_length);
    shm::init_log_metadata(log->view(), {.initial_term_id = d.initial_term_id, .start_term_id = stream->setup.active_term_id,
                                         .start_term_offset = stream->setup.term_offset, .session_id = d.session_id, .stream_id = d.stream_id,
                                         .mtu = d.mtu, .term_length = d.term_length});
    Publication::Context c;
    c.desired = &d;
    c.state = &slot->observed.state;
    c.log = log->view();
    c.counters = LaneCounters{lane.data()};
    publication = Publication{c};
    publication.start(stream->start_ns);
    for (const Datagram& each : recorded) {
      if (is_from_publisher(each) && is_heartbeat(each.payload) && (flags_of(each.payload) & wire::flag::kEndOfStream) != 0) {
        close_ns = each.time_ns - kMs;
        is_revoked = (flags_of(each.payload) & wire::flag::kRevoked) != 0;
        break;
      }
    }
  }

  // What the recorded application published: the frames of a datagram that is no retransmit.
  void commit(const Bytes& d) {
    for (std::size_t at = 0; at < d.size();) {
      const std::int32_t length = load_le<std::int32_t>(d.data() + at);
      std::byte* to = log->view().at(stream->position(d) + static_cast<std::int64_t>(at));
      const std::size_t present = std::min(d.size() - at, static_cast<std::size_t>(wire::align_frame(length)));
      std::memcpy(to + 4, d.data() + at + 4, present - 4);
      shm::frame_length_release(to, length);
      at += static_cast<std::size_t>(wire::align_frame(length));
    }
    // The producer position stands behind it.
    const std::int64_t end = stream->end(d);
    const std::int32_t count = wire::term_count_of(end, stream->bits());
    log->view().store<std::int64_t>(8 * static_cast<std::size_t>(count % 3), shm::pack_tail(wire::wrapping_add(stream->setup.initial_term_id, count),
                                                                                           wire::term_offset_of(end, stream->bits())));
    log->view().store<std::int32_t>(shm::meta::kActiveTermCount, count);
  }

  void turn(std::int64_t now) {
    if (close_ns != 0 && now >= close_ns) {
      if (is_revoked) {
        slot->desired.is_revoked = 1;
      } else {
        slot->desired.state = shm::Desired::kClosing;
      }
      publication.tick({}, now);
      close_ns = 0;
    }
    publication.send(now, sink);
    publication.update_limit({}, now);
    for (Bytes& d : sink.drain()) sent.push_back({now, std::move(d)});
  }

  void receive(const Datagram& d) {
    switch (d.type()) {
      case FrameType::kResponseSetup: return;  // the conductor's
      case FrameType::kStatusMessage:
        if (publication.is_response() && (flags_of(d.payload) & wire::flag::kSmSendSetup) != 0) publication.speak();
        return publication.on_status_message(*wire::StatusMessage::parse(d.payload), {d.source, 1}, d.time_ns);
      case FrameType::kNak: return publication.on_nak(*wire::Nak::parse(d.payload), d.time_ns, sink);
      case FrameType::kError: return static_cast<void>(publication.on_error(*wire::ErrorFrame::parse(d.payload), d.time_ns));
      case FrameType::kRttMeasurement: return publication.on_rtt_measurement(*wire::RttMeasurement::parse(d.payload), d.time_ns, sink);
      default: ADD_FAILURE() << "a receiver sent " << static_cast<int>(d.type());
    }
  }

  void replay() {
    std::int64_t now = stream->start_ns;
    std::int64_t high = slot->desired.start_position;
    if (publication.is_response()) turn(now);
    const auto last = std::find_if(recorded.rbegin(), recorded.rend(), is_from_publisher);  // removed, or the end of the capture
    for (const Datagram& d : recorded) {
      if (d.time_ns < stream->start_ns || d.time_ns > last->time_ns) continue;
      while (publication.next_deadline_ns() < d.time_ns) turn(now = std::max(now, publication.next_deadline_ns()));
      now = d.time_ns;
      if (!is_from_publisher(d)) {
        receive(d);
        turn(now);
      } else if (d.is_stream_data() && stream->position(d.payload) >= high) {
        high = stream->end(d.payload);
        commit(d.payload);
        turn(now);
      }
    }
  }

  std::vector<Datagram> recorded;
  std::unique_ptr<Stream> stream;
  std::unique_ptr<HeapLog> log;
  std::unique_ptr<shm::PublicationSlot> slot{std::make_unique<shm::PublicationSlot>()};
  std::array<std::uint64_t, shm::kLaneCounterCount> lane{};
  Publication publication;
  RecordingSink sink;
  std::vector<Sent> sent;
  std::int64_t close_ns{};
  bool is_revoked{};
};

// Lists of what one side sent, in comparable form.
struct Summary {
  std::vector<Bytes> fresh, repeated, setups, rtt;
  std::vector<std::uint8_t> heartbeat_flags;
};
template <typename Items, typename Get>
Summary summarize(const Items& items, const Stream& stream, Get&& get) {
  Summary s;
  std::int64_t high = stream.join_position(stream.setup);
  for (const auto& item : items) {
    const Bytes* d = get(item);
    if (d == nullptr) continue;
    if (is_heartbeat(*d)) {
      s.heartbeat_flags.push_back(flags_of(*d));
    } else if (type_of(*d) <= FrameType::kData) {
      const bool is_fresh = stream.position(*d) >= high;
      (is_fresh ? s.fresh : s.repeated).push_back(*d);
      high = std::max(high, stream.end(*d));
    } else if (type_of(*d) == FrameType::kSetup) {
      s.setups.push_back(*d);
    } else if (type_of(*d) == FrameType::kRttMeasurement) {
      s.rtt.push_back(*d);
    }
  }
  return s;
}

// proves 1.3/3, 2.4/1, 2.4/2, 2.6/1, 2.10/8, 2.10/14, 2.12/1, 9.1/1, 9.1/2
TEST_P(SenderReplay, sends_what_the_reference_driver_sent) {
  replay();
  const Summary theirs = summarize(recorded, *stream, [](const Datagram& d) { return is_from_publisher(d) ? &d.payload : nullptr; });
  const Summary ours = summarize(sent, *stream, [](const Sent& s) { return &s.bytes; });
  EXPECT_EQ(describe(ours.fresh), describe(theirs.fresh));
  EXPECT_EQ(ours.fresh, theirs.fresh);
  EXPECT_EQ(describe(ours.repeated), describe(theirs.repeated));
  EXPECT_EQ(ours.repeated, theirs.repeated);
  EXPECT_EQ(describe(ours.setups), describe(theirs.setups));
  EXPECT_EQ(ours.setups, theirs.setups);
  EXPECT_EQ(ours.rtt, theirs.rtt);
  // A heartbeat more or less: the recorded timers were polled, and the moment of closing is known to a heartbeat's interval only.
  EXPECT_NEAR(static_cast<double>(ours.heartbeat_flags.size()), static_cast<double>(theirs.heartbeat_flags.size()), 2.0);
  if (!ours.heartbeat_flags.empty() && !theirs.heartbeat_flags.empty()) {
    EXPECT_EQ(ours.heartbeat_flags.front(), theirs.heartbeat_flags.front());
    EXPECT_EQ(ours.heartbeat_flags.back(), theirs.heartbeat_flags.back());
  }
}

std::string file_name(const std::string& file) {
  std::string name = file.substr(0, file.find('.'));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
std::string exchange_name(Exchange exchange) {
  return exchange == Exchange::kNone ? "" : exchange == Exchange::kRequest ? "_request" : "_answer";
}
constexpr std::uint32_t kGroupEos = PublicationFlags::kSignalEos | PublicationFlags::kGroup;
INSTANTIATE_TEST_SUITE_P(
    Captures, SenderReplay,
    ::testing::Values(SenderCase{"01-unicast-setup-data-eos.pcap"}, SenderCase{"02-fragmented-100KB.pcap"}, SenderCase{"03-term-rollover-padding.pcap"},
                      SenderCase{"04-revoked-publication.pcap"}, SenderCase{"05-second-subscriber-elicits-setup.pcap"},
                      SenderCase{"06-loss-nak-retransmit.pcap"}, SenderCase{"07-loss-10pct-incl-lost-retransmits.pcap"},
                      SenderCase{"08-loss-unreliable-no-nak.pcap"},
                      SenderCase{"09-multicast-min-flow-control.pcap", kGroupEos, shm::FlowControl::kMin, 2},  // proves 4.3/4
                      SenderCase{"10-multicast-tagged-flow-control.pcap", kGroupEos, shm::FlowControl::kTagged, 1, 101},  // proves 4.5/1
                      SenderCase{.file = "11-mdc-dynamic.pcap", .flags = kGroupEos, .destination_port = 24113},
                      SenderCase{.file = "12-mdc-manual.pcap", .flags = kGroupEos, .destination_port = 24123}, SenderCase{"13-cubic-rttm.pcap"},
                      SenderCase{"14-err-image-rejected.pcap"}, SenderCase{"15-setup-refused-mtu-over-window.pcap"},
                      SenderCase{"16-batched-frames-in-one-datagram.pcap"}, SenderCase{"17-setup-without-receiver.pcap"},
                      SenderCase{.file = "18-mds-manual-subscription.pcap", .flags = kGroupEos, .destination_port = 24183},
                      SenderCase{"19-multicast-loss-nak-one-receiver.pcap", kGroupEos},
                      SenderCase{.file = "20-response-channels.pcap", .flags = PublicationFlags::kSignalEos | PublicationFlags::kHasResponse,
                                 .exchange = Exchange::kRequest},  // proves 5.9/2
                      SenderCase{.file = "20-response-channels.pcap", .flags = PublicationFlags::kSignalEos | PublicationFlags::kIsResponse,
                                 .exchange = Exchange::kAnswer},  // proves 2.4/8
                      SenderCase{"21-name-resolution-res-frames.pcap"}),
    [](const auto& param) { return file_name(param.param.file) + exchange_name(param.param.exchange); });

// ---- the receiving half ----

struct ReceiverCase {
  const char* file;
  bool keeps_up{};             // the recorded subscriber consumed at once; else its progress is what the recorded SMs say
  bool is_reliable{true};
  std::uint32_t receiver{};    // of several; 0: the only one
  bool is_group{};
  int image{};                 // which of several that this receiver had of the stream, by its SETUP
  shm::CongestionControl congestion_control{};
  std::uint16_t destination_port{};
  std::uint16_t second_port{};  // of a multi-destination subscription: what comes there is connection 1
  Exchange exchange{};
};
constexpr std::uint32_t kFirstReceiver = 0x0A4E0002, kSecondReceiver = 0x0A4E0003;  // 10.78.0.2, 10.78.0.3

class ReceiverReplay : public ::testing::TestWithParam<ReceiverCase> {
 protected:
  void SetUp() override {
    recorded = read_exchange(GetParam().file, GetParam().destination_port, GetParam().exchange);
    stream = std::make_unique<Stream>(recorded);
    find_setup();
    for (const Datagram& d : recorded) {
      if (!is_from_receiver(d)) continue;
      if (d.type() == FrameType::kNak) naks.push_back({d.time_ns, *wire::Nak::parse(d.payload)});
      if (receiver_ns == 0 && d.type() == FrameType::kStatusMessage) {
        receiver_ns = d.time_ns;
        receiver_id = wire::StatusMessage::parse(d.payload)->receiver_id;
        group_tag = wire::StatusMessage::parse(d.payload)->group_tag;
      }
      if (reject_ns == 0 && d.type() == FrameType::kError) {
        reject_ns = d.time_ns - kMs;
        const auto text = wire::ErrorFrame::parse(d.payload)->text;
        reason.assign(text.begin(), text.end());
      }
    }
    auto& d = slot->desired;
    d.session_id = stream->setup.session_id;
    d.stream_id = stream->setup.stream_id;
    d.initial_term_id = stream->setup.initial_term_id;
    d.term_length = stream->setup.term_length;
    d.mtu = stream->setup.mtu;
    d.window_length = 128 << 10;
    d.join_position = stream->join_position(stream->setup);
    d.flags = (GetParam().is_reliable ? shm::ImageFlags::kReliable : 0) | (GetParam().is_group ? shm::ImageFlags::kGroup : 0);
    d.nak_max_backoff_ns = 10 * kMs;
    d.nak_group_size = 10;
    d.congestion_control = GetParam().congestion_control;
    d.initial_rtt_ns = 10 * kMs;
    d.is_rtt_measured = 1;
    d.liveness_timeout_ns = 2 * kSecond_ns;
    d.sm_timeout_ns = 200 * kMs;
    d.nak_delay_ns = 1 * kUs;
    d.nak_retry_ns = 100 * kUs;
    d.state = shm::Desired::kActive;
    log = std::make_unique<HeapLog>(d.term_length);
    Image::Context c;
    c.desired = &d;
    c.state = &slot->observed.state;
    c.log = log->view();
    c.counters = LaneCounters{lane.data()};
    c.receiver_id = receiver_id;
    c.has_group_tag = group_tag.has_value();
    c.group_tag = group_tag.value_or(0);
    image = Image{c};
    image.start(receiver_ns, {kPublisherNet, 1});
    if (GetParam().second_port != 0) image.on_setup(1, {kPublisherNet, 1}, receiver_ns);
  }

  // An image that joined later has a SETUP of its own.
  void find_setup() {
    int left = GetParam().image;
    for (const Datagram& d : recorded) {
      if (d.type() != FrameType::kSetup || left-- > 0) continue;
      stream->setup = *wire::Setup::parse(d.payload);
      stream->start_ns = d.time_ns;
      return;
    }
  }
  // Of the receiver and the image that are being replayed. Where there were two images, the status messages of the first stayed where
  // it joined, before the second's join position.
  [[nodiscard]] bool is_from_receiver(const Datagram& d) const {
    if (is_from_publisher(d) || (GetParam().receiver != 0 && d.source != GetParam().receiver)) return false;
    if (d.type() != FrameType::kStatusMessage) return true;
    const auto sm = wire::StatusMessage::parse(d.payload);
    if ((sm->flags & wire::flag::kSmSendSetup) != 0) return false;  // the dispatcher's
    const std::int64_t position = wire::position_of(sm->consumption_term_id, sm->consumption_term_offset, stream->setup.initial_term_id, stream->bits());
    return !has_two_images() || (position >= second_join()) == (GetParam().image == 1);
  }
  [[nodiscard]] bool has_two_images() const { return std::string_view{GetParam().file}.starts_with("05"); }
  [[nodiscard]] std::int64_t second_join() const {
    const auto last = std::find_if(recorded.rbegin(), recorded.rend(), [](const Datagram& d) { return d.type() == FrameType::kSetup; });
    return stream->join_position(*wire::Setup::parse(last->payload));
  }
  // A group's NAK delay is drawn at random: ours takes the moment of the recorded one, which must lie within the back-off.
  void borrow_nak_delay(std::int64_t now) {
    auto& state = slot->observed.state;
    if (!GetParam().is_group || state.gap_count == 0 || state.gaps[0].deadline_ns == 0 || state.gaps[0].naks > 0) return;
    const auto next = std::find_if(naks.begin(), naks.end(), [&](const auto& nak) { return nak.first >= now; });
    ASSERT_NE(next, naks.end()) << "a gap that was never asked for";
    if (state.gaps[0].deadline_ns == next->first) return;
    EXPECT_LT(next->first - now, slot->desired.nak_max_backoff_ns + kMs);
    state.gaps[0].deadline_ns = next->first;
  }

  // The capture is the sender's: what the receiver lost is in it, and shows by the NAKs that follow. A repeat that crossed its
  // retransmit on the way comes within a millisecond; a lost retransmit is asked for again for 10 ms.
  [[nodiscard]] bool was_lost(const Datagram& d, bool is_repeat) const {
    const std::int64_t after = d.time_ns + (is_repeat ? kMs : 0);
    const wire::DataView v{d.payload.data()};
    return std::any_of(naks.begin(), naks.end(), [&](const auto& nak) {
      return nak.first > after && nak.second.term_id == v.term_id() && v.term_offset() >= nak.second.term_offset &&
             v.term_offset() < nak.second.term_offset + nak.second.length;
    });
  }

  void turn(std::int64_t now) {
    if (reject_ns != 0 && now >= reject_ns) {
      image.reject(reason);
      reject_ns = 0;
    }
    if (now >= next_tick_ns) {
      image.tick(subscribers(), now);
      next_tick_ns = now + kSecond_ns;
    }
    image.duty(subscribers(), now, [this](std::size_t) -> RecordingSink& { return sink; });
    borrow_nak_delay(now);
    for (Bytes& d : sink.drain()) sent.push_back(std::move(d));
  }
  // The recorded answer, to the request that we sent in place of the recorded one.
  void answer_rtt(const Datagram& d, std::int64_t now) {
    wire::RttMeasurement rtt = *wire::RttMeasurement::parse(d.payload);
    rtt.echo_timestamp_ns = slot->observed.state.last_rtt_request_ns;
    image.on_rtt_reply(rtt, now);
  }
  // The application published the answers now; in the recording they were heard before the next status message was due.
  void answer(const Datagram& d, std::int64_t now) {
    auto& wanted = answers->desired;
    wanted.flags = PublicationFlags::kIsResponse;
    wanted.session_id = wire::ResponseSetup::parse(d.payload)->response_session_id;
    wanted.response_correlation_id = slot->desired.correlation_id;
    wanted.state = shm::Desired::kActive;
    image.answer_with(answers.get(), now);
    turn(now);
    answers->observed.state.has_initial_connection = 1;
  }
  [[nodiscard]] SubscriberPositions subscribers() const {
    const std::int64_t p = GetParam().keeps_up ? slot->observed.state.rebuild_position : consumed;
    return {p, p, 1};
  }

  void replay() {
    std::int64_t now = receiver_ns;
    std::int64_t high = slot->desired.join_position;
    next_tick_ns = now + kSecond_ns;
    consumed = high;
    turn(now);
    for (const Datagram& d : recorded) {
      if (d.time_ns < receiver_ns) continue;
      if (is_from_receiver(d) && d.type() == FrameType::kResponseSetup) answer(d, now = std::max(now, d.time_ns));
      if (const auto sm = wire::StatusMessage::parse(d.payload); is_from_receiver(d) && d.type() == FrameType::kStatusMessage && sm->flags == 0) {
        consumed = std::max(consumed, wire::position_of(sm->consumption_term_id, sm->consumption_term_offset, stream->setup.initial_term_id, stream->bits()));
        turn(now = std::max(now, d.time_ns));
      }
      if (!is_from_publisher(d)) continue;
      while (std::min(image.next_deadline_ns(), next_tick_ns) < d.time_ns) turn(now = std::max(now + 1, std::min(image.next_deadline_ns(), next_tick_ns)));
      now = std::max(now, d.time_ns);
      if (d.type() == FrameType::kRttMeasurement) answer_rtt(d, now);
      if (d.type() > FrameType::kData) continue;
      const bool is_repeat = !is_heartbeat(d.payload) && stream->position(d.payload) < high;
      if (!is_heartbeat(d.payload)) high = std::max(high, stream->end(d.payload));
      const unsigned connection = GetParam().second_port != 0 && d.destination_port == GetParam().second_port ? 1 : 0;
      if (is_heartbeat(d.payload) || !was_lost(d, is_repeat)) image.insert(d.payload, connection, now);
      turn(now);
    }
    if (reject_was_asked()) return;
    EXPECT_EQ(slot->observed.state.rebuild_position, high) << "everything sent has arrived";
  }
  [[nodiscard]] bool reject_was_asked() const { return !reason.empty(); }

  std::vector<Datagram> recorded;
  std::unique_ptr<Stream> stream;
  std::vector<std::pair<std::int64_t, wire::Nak>> naks;
  std::int64_t receiver_ns{}, receiver_id{}, reject_ns{}, next_tick_ns{}, consumed{};
  std::optional<std::int64_t> group_tag;
  Bytes reason;
  std::unique_ptr<HeapLog> log;
  std::unique_ptr<shm::ImageSlot> slot{std::make_unique<shm::ImageSlot>()};
  std::unique_ptr<shm::PublicationSlot> answers{std::make_unique<shm::PublicationSlot>()};
  std::array<std::uint64_t, shm::kLaneCounterCount> lane{};
  Image image;
  RecordingSink sink;
  std::vector<Bytes> sent;
};

// One entry for any number of repeats in a row.
std::vector<Bytes> distinct(const std::vector<Bytes>& all, FrameType type) {
  std::vector<Bytes> out;
  for (const Bytes& d : all) {
    if (type_of(d) == type && (out.empty() || out.back() != d)) out.push_back(d);
  }
  return out;
}

std::vector<Bytes> without_flags(const std::vector<Bytes>& all) {
  std::vector<Bytes> out;
  std::copy_if(all.begin(), all.end(), std::back_inserter(out), [](const Bytes& d) { return flags_of(d) == 0; });
  return out;
}

// proves 3.6/4, 3.7/1, 3.7/3, 3.8/2, 3.8/12, 3.13/3, 9.1/1
TEST_P(ReceiverReplay, answers_as_the_reference_driver_did) {
  replay();
  std::vector<Bytes> theirs;
  for (const Datagram& d : recorded) {
    if (is_from_receiver(d)) theirs.push_back(d.payload);
  }
  EXPECT_EQ(describe(distinct(sent, FrameType::kNak)), describe(distinct(theirs, FrameType::kNak)));
  EXPECT_EQ(distinct(sent, FrameType::kNak), distinct(theirs, FrameType::kNak));
  EXPECT_EQ(distinct(sent, FrameType::kError), distinct(theirs, FrameType::kError));
  EXPECT_EQ(distinct(sent, FrameType::kResponseSetup), distinct(theirs, FrameType::kResponseSetup));
  EXPECT_EQ(count_of(sent, FrameType::kResponseSetup), count_of(theirs, FrameType::kResponseSetup));
  // The EOS ones depend on the phase of the recorded driver's ticks.
  const auto our_sms = distinct(without_flags(sent), FrameType::kStatusMessage);
  const auto their_sms = distinct(without_flags(theirs), FrameType::kStatusMessage);
  ASSERT_FALSE(our_sms.empty());
  EXPECT_EQ(our_sms.front(), their_sms.front());
  if (GetParam().second_port != 0) {  // each goes out on both transports
    EXPECT_EQ(count_of(sent, FrameType::kStatusMessage) % 2, 0U);
    EXPECT_NEAR(static_cast<double>(count_of(without_flags(sent), FrameType::kStatusMessage)),
                static_cast<double>(count_of(without_flags(theirs), FrameType::kStatusMessage)), 2.0);
  }
  if (!reject_was_asked()) {
    EXPECT_EQ(describe(our_sms), describe(their_sms));
    EXPECT_EQ(our_sms, their_sms);
  }
  // Their number depends on the phase of the recorded driver's timers. Our time ends with the publisher.
  const auto last = std::find_if(recorded.rbegin(), recorded.rend(), is_from_publisher);
  const auto their_requests = std::count_if(recorded.begin(), recorded.end(), [&](const Datagram& d) {
    return is_from_receiver(d) && d.type() == FrameType::kRttMeasurement && d.time_ns <= last->time_ns;
  });
  EXPECT_NEAR(static_cast<double>(count_of(sent, FrameType::kRttMeasurement)), static_cast<double>(their_requests), 2.0);
  if (GetParam().is_reliable && !reject_was_asked()) {
    const std::int64_t kept = slot->observed.state.rebuild_position - 2 * std::int64_t{slot->desired.term_length};
    for (const Datagram& d : recorded) {
      if (!is_from_publisher(d) || !d.is_stream_data() || stream->end(d.payload) <= kept || d.time_ns < receiver_ns) continue;
      EXPECT_EQ(std::memcmp(log->view().at(stream->position(d.payload)), d.payload.data(), d.payload.size()), 0) << describe(d.payload);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Captures, ReceiverReplay,
                         ::testing::Values(ReceiverCase{"01-unicast-setup-data-eos.pcap", true}, ReceiverCase{"02-fragmented-100KB.pcap"},
                                           ReceiverCase{"03-term-rollover-padding.pcap", true}, ReceiverCase{"04-revoked-publication.pcap", true},
                                           ReceiverCase{.file = "05-second-subscriber-elicits-setup.pcap", .keeps_up = true},
                                           ReceiverCase{.file = "05-second-subscriber-elicits-setup.pcap", .keeps_up = true, .image = 1},
                                           ReceiverCase{"06-loss-nak-retransmit.pcap"}, ReceiverCase{"07-loss-10pct-incl-lost-retransmits.pcap"},
                                           ReceiverCase{"08-loss-unreliable-no-nak.pcap", true, false},
                                           ReceiverCase{.file = "09-multicast-min-flow-control.pcap", .keeps_up = true, .receiver = kFirstReceiver, .is_group = true},
                                           ReceiverCase{.file = "09-multicast-min-flow-control.pcap", .keeps_up = true, .receiver = kSecondReceiver, .is_group = true},
                                           ReceiverCase{.file = "10-multicast-tagged-flow-control.pcap", .keeps_up = true, .receiver = kFirstReceiver, .is_group = true},
                                           ReceiverCase{.file = "10-multicast-tagged-flow-control.pcap", .keeps_up = true, .receiver = kSecondReceiver, .is_group = true},
                                           ReceiverCase{.file = "11-mdc-dynamic.pcap", .keeps_up = true, .receiver = kFirstReceiver, .is_group = true, .destination_port = 24112},
                                           ReceiverCase{.file = "11-mdc-dynamic.pcap", .keeps_up = true, .receiver = kSecondReceiver, .is_group = true, .destination_port = 24113},
                                           ReceiverCase{.file = "12-mdc-manual.pcap", .keeps_up = true, .receiver = kFirstReceiver, .is_group = true, .destination_port = 24122},
                                           ReceiverCase{.file = "12-mdc-manual.pcap", .keeps_up = true, .receiver = kSecondReceiver, .is_group = true, .destination_port = 24123},
                                           ReceiverCase{.file = "13-cubic-rttm.pcap", .keeps_up = true, .congestion_control = shm::CongestionControl::kCubic},
                                           ReceiverCase{"14-err-image-rejected.pcap"}, ReceiverCase{"16-batched-frames-in-one-datagram.pcap"},
                                           ReceiverCase{.file = "18-mds-manual-subscription.pcap", .keeps_up = true, .is_group = true, .second_port = 24182},
                                           ReceiverCase{.file = "19-multicast-loss-nak-one-receiver.pcap", .keeps_up = true, .receiver = kFirstReceiver, .is_group = true},
                                           ReceiverCase{.file = "19-multicast-loss-nak-one-receiver.pcap", .keeps_up = true, .receiver = kSecondReceiver, .is_group = true},
                                           ReceiverCase{.file = "20-response-channels.pcap", .keeps_up = true, .exchange = Exchange::kRequest},  // proves 5.9/5
                                           ReceiverCase{.file = "20-response-channels.pcap", .keeps_up = true, .exchange = Exchange::kAnswer},
                                           ReceiverCase{"21-name-resolution-res-frames.pcap", true}),
                         [](const auto& param) {
                           const std::uint32_t nth = (param.param.receiver & 0xFF) + static_cast<std::uint32_t>(param.param.image);
                           return file_name(param.param.file) + exchange_name(param.param.exchange) + (nth != 0 ? "_" + std::to_string(nth) : "");
                         });

}  // namespace
}  // namespace thalweg::proto::test
