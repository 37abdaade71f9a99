#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "dataplane/proto/dispatcher.hpp"
#include "dataplane/proto/image.hpp"
#include "dataplane/proto/publication.hpp"

// What the tests of proto/ share: a log in plain memory, a publisher that follows client-protocol 7.5, a sink that remembers, and one
// publication and one image with everything around them.
namespace thalweg::proto::test {

using namespace std::chrono_literals;
using Bytes = std::vector<std::byte>;
using shm::Lifecycle;

inline constexpr std::int64_t kMs = kMillisecond_ns;
inline constexpr std::int64_t kUs = kMicrosecond_ns;
inline constexpr std::int64_t kStart_ns = 1'000 * kSecond_ns;  // an arbitrary "now"
inline constexpr std::int32_t kSession = 77;
inline constexpr std::int32_t kStream = 1001;
inline constexpr std::int32_t kTerm = 64 << 10;

// A log buffer in heap memory, zero-filled.
class HeapLog {
 public:
  explicit HeapLog(std::int32_t term_length)
      : length_{shm::log_file_length(term_length, shm::kDefaultPageSize)},
        memory_{static_cast<std::byte*>(std::aligned_alloc(4096, length_)), &std::free},
        log_{memory_.get(), length_, term_length} {
    std::memset(memory_.get(), 0, length_);
  }
  [[nodiscard]] shm::LogBuffer& view() { return log_; }
  [[nodiscard]] bool is_zero(std::int64_t from, std::int64_t to) const {
    for (std::int64_t p = from; p < to; p += 8) {
      if (load_le<std::uint64_t>(log_.at(p)) != 0) return false;
    }
    return true;
  }

 private:
  std::size_t length_;
  std::unique_ptr<std::byte, decltype(&std::free)> memory_;
  shm::LogBuffer log_;
};

// Remembers every datagram. `accept` datagrams are taken, then it refuses.
struct RecordingSink {
  std::vector<Bytes> datagrams;
  std::size_t accept{static_cast<std::size_t>(-1)};

  bool send_log(std::span<const std::byte> bytes) { return take(bytes); }
  bool send_control(std::span<const std::byte> bytes) { return take(bytes); }
  bool take(std::span<const std::byte> bytes) {
    if (accept == 0) return false;
    --accept;
    datagrams.emplace_back(bytes.begin(), bytes.end());
    return true;
  }
  std::vector<Bytes> drain() { return std::exchange(datagrams, {}); }
};

[[nodiscard]] inline wire::FrameType type_of(const Bytes& d) { return wire::DataView{d.data()}.type(); }
[[nodiscard]] inline std::uint8_t flags_of(const Bytes& d) { return wire::DataView{d.data()}.flags(); }
[[nodiscard]] inline bool is_heartbeat(const Bytes& d) {
  return d.size() == 32 && type_of(d) == wire::FrameType::kData && wire::DataView{d.data()}.frame_length() == 0;
}
[[nodiscard]] inline bool is_data(const Bytes& d) { return type_of(d) <= wire::FrameType::kData && !is_heartbeat(d); }
[[nodiscard]] inline std::size_t count_of(const std::vector<Bytes>& all, wire::FrameType type) {
  return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [&](const Bytes& d) { return type_of(d) == type; }));
}
// "setup", "data@offset+length", "heartbeat@offset" ...: what a test compares.
[[nodiscard]] inline std::string describe(const Bytes& d) {
  const wire::DataView v{d.data()};
  switch (type_of(d)) {
    case wire::FrameType::kSetup: return "setup@" + std::to_string(wire::Setup::parse(d)->term_offset);
    case wire::FrameType::kNak: return "nak@" + std::to_string(wire::Nak::parse(d)->term_offset) + "+" + std::to_string(wire::Nak::parse(d)->length);
    case wire::FrameType::kStatusMessage: return "sm@" + std::to_string(wire::StatusMessage::parse(d)->consumption_term_offset);
    case wire::FrameType::kError: return "error";
    case wire::FrameType::kRttMeasurement: return "rtt";
    case wire::FrameType::kPad: return "pad@" + std::to_string(v.term_offset()) + "+" + std::to_string(v.frame_length());
    default: break;
  }
  if (is_heartbeat(d)) return "heartbeat@" + std::to_string(v.term_offset());
  return "data@" + std::to_string(v.term_offset()) + "+" + std::to_string(d.size());
}
[[nodiscard]] inline std::vector<std::string> describe(const std::vector<Bytes>& all) {
  std::vector<std::string> out;
  for (const Bytes& d : all) out.push_back(describe(d));
  return out;
}
using Lines = std::vector<std::string>;

// A client's publisher (client-protocol 7.5), single threaded.
class TestPublisher {
 public:
  TestPublisher(shm::LogBuffer log, std::int32_t initial_term_id, std::int32_t mtu) : log_{log}, initial_term_id_{initial_term_id}, mtu_{mtu} {}

  // Publishes one message, fragmented where needed; false when the rest of the term had to be padded first (call again).
  bool offer(std::size_t payload_length, std::uint8_t fill = 0xAB) {
    const std::int32_t max_payload = mtu_ - wire::kDataHeaderLength;
    const auto full = static_cast<std::int32_t>(payload_length) / max_payload;
    const auto rest = static_cast<std::int32_t>(payload_length) % max_payload;
    const std::int32_t required = full * mtu_ + (rest > 0 || full == 0 ? wire::align_frame(rest + 32) : 0);
    std::int32_t term_id{};
    std::int32_t offset = claim(required, term_id);
    if (offset < 0) return false;
    std::int32_t left = static_cast<std::int32_t>(payload_length);
    bool is_first = true;
    do {
      const std::int32_t n = std::min(left, max_payload);
      std::uint8_t flags = is_first ? wire::flag::kBegin : std::uint8_t{0};
      if (n == left) flags |= wire::flag::kEnd;
      write_frame(term_id, offset, n, flags, fill);
      offset += wire::align_frame(n + 32);
      left -= n;
      is_first = false;
    } while (left > 0);
    return true;
  }
  void publish(std::size_t payload_length, std::uint8_t fill = 0xAB) {
    const bool is_done = offer(payload_length, fill) || offer(payload_length, fill);
    ASSERT_TRUE(is_done);
  }
  // Claims space and dies.
  void claim_only(std::int32_t payload_length) {
    std::int32_t term_id{};
    const std::int32_t offset = claim(wire::align_frame(payload_length + 32), term_id);
    ASSERT_GE(offset, 0);
    shm::frame_length_release(frame_at(term_id, offset), -(payload_length + 32));
  }
  [[nodiscard]] std::int64_t position() const { return shm::producer_position(log_, initial_term_id_); }

 private:
  [[nodiscard]] std::byte* frame_at(std::int32_t term_id, std::int32_t offset) const {
    return log_.at(wire::position_of(term_id, offset, initial_term_id_, log_.position_bits()));
  }
  std::int32_t claim(std::int32_t required, std::int32_t& term_id) {
    const std::int32_t count = log_.active_term_count();
    const std::size_t at = shm::meta::kTails + 8 * static_cast<std::size_t>(static_cast<std::uint32_t>(count) % 3);
    const auto raw = log_.load<std::int64_t>(at);
    log_.store<std::int64_t>(at, raw + required);
    term_id = shm::tail_term_id(raw);
    const std::int32_t offset = shm::tail_offset(raw, log_.term_length());
    if (offset + required <= log_.term_length()) return offset;
    if (offset < log_.term_length()) write_pad(term_id, offset, log_.term_length() - offset);
    shm::rotate_log(log_, count, term_id);
    return -1;
  }
  void write_header(std::byte* frame, wire::DataHeader header) {
    const std::int32_t length = std::exchange(header.frame_length, -header.frame_length);
    std::byte bytes[32];
    wire::build(bytes, header);
    std::memcpy(frame + 4, bytes + 4, 28);
    shm::frame_length_release(frame, length);
  }
  void write_frame(std::int32_t term_id, std::int32_t offset, std::int32_t n, std::uint8_t flags, std::uint8_t fill) {
    std::byte* frame = frame_at(term_id, offset);
    std::memset(frame + 32, fill, static_cast<std::size_t>(n));
    write_header(frame, {.frame_length = n + 32, .flags = flags, .term_offset = offset, .session_id = kSession, .stream_id = kStream, .term_id = term_id});
  }
  void write_pad(std::int32_t term_id, std::int32_t offset, std::int32_t length) {
    write_header(frame_at(term_id, offset), {.frame_length = length, .type = wire::FrameType::kPad, .term_offset = offset,
                                             .session_id = kSession, .stream_id = kStream, .term_id = term_id});
  }
  shm::LogBuffer log_;
  std::int32_t initial_term_id_;
  std::int32_t mtu_;
};

// Frames as another sender or receiver would put them on the wire.
struct Position {
  std::int32_t term_id{};
  std::int32_t term_offset{};
};
[[nodiscard]] inline Bytes data_frame(Position at, std::int32_t payload_length, std::uint8_t fill = 0xAB,
                                      std::uint8_t flags = wire::flag::kUnfragmented) {
  Bytes d(static_cast<std::size_t>(wire::align_frame(payload_length + 32)));
  wire::build(d.data(), wire::DataHeader{.frame_length = payload_length + 32, .flags = flags, .term_offset = at.term_offset,
                                         .session_id = kSession, .stream_id = kStream, .term_id = at.term_id});
  std::memset(d.data() + 32, fill, static_cast<std::size_t>(payload_length));
  return d;
}
[[nodiscard]] inline Bytes pad_frame(Position at, std::int32_t length) {
  Bytes d(32);
  wire::build(d.data(), wire::DataHeader{.frame_length = length, .type = wire::FrameType::kPad, .term_offset = at.term_offset,
                                         .session_id = kSession, .stream_id = kStream, .term_id = at.term_id});
  return d;
}
[[nodiscard]] inline Bytes heartbeat(Position at, std::uint8_t flags = wire::flag::kUnfragmented) {
  Bytes d(32);
  wire::build(d.data(), wire::DataHeader{.flags = flags, .term_offset = at.term_offset, .session_id = kSession, .stream_id = kStream,
                                         .term_id = at.term_id});
  return d;
}
[[nodiscard]] inline Bytes join(std::initializer_list<Bytes> frames) {
  Bytes all;
  for (const Bytes& f : frames) all.insert(all.end(), f.begin(), f.end());
  return all;
}

// One publication with its log, state, counters and publisher.
struct PublicationBench {
  struct Options {
    std::int32_t term_length{kTerm};
    std::int32_t mtu{1408};
    std::int32_t initial_term_id{7};
    std::int64_t start_position{0};
    std::uint32_t flags{shm::PublicationFlags::kSignalEos};
    shm::LogType type{shm::LogType::kConcurrentPublication};
    std::function<void(shm::PublicationSlot::Wanted&)> adjust{};
  };
  PublicationBench() : PublicationBench(Options{}) {}
  explicit PublicationBench(const Options& o) : log{o.term_length}, options{o} {
    auto& d = slot->desired;
    d.session_id = kSession;
    d.stream_id = kStream;
    d.initial_term_id = o.initial_term_id;
    d.term_length = o.term_length;
    d.mtu = o.mtu;
    d.start_position = o.start_position;
    d.flags = o.flags;
    d.linger_ns = 5 * kSecond_ns;
    d.connection_timeout_ns = 5 * kSecond_ns;
    d.unblock_timeout_ns = 15 * kSecond_ns;
    d.retransmit_linger_ns = 10 * kMs;
    d.max_resend = 16;
    d.flow_control_receiver_timeout_ns = 5 * kSecond_ns;
    d.state = shm::Desired::kActive;
    if (o.adjust) o.adjust(d);
    const int bits = wire::position_bits(o.term_length);
    shm::init_log_metadata(log.view(), {.type = o.type, .initial_term_id = o.initial_term_id,
                                        .start_term_id = wire::term_id_of(o.start_position, o.initial_term_id, bits),
                                        .start_term_offset = wire::term_offset_of(o.start_position, bits), .session_id = kSession,
                                        .stream_id = kStream, .mtu = o.mtu, .term_length = o.term_length});
    publication = Publication{context()};
    publication.start(kStart_ns);
  }
  [[nodiscard]] Publication::Context context() {
    Publication::Context c;
    c.desired = &slot->desired;
    c.state = &slot->observed.state;
    c.log = log.view();
    c.pub_pos = shm::Counter{&counters[0]};
    c.pub_lmt = shm::Counter{&counters[1]};
    c.snd_pos = shm::Counter{&counters[2]};
    c.snd_lmt = shm::Counter{&counters[3]};
    c.snd_bpe = shm::Counter{&counters[4]};
    c.snd_naks = shm::Counter{&counters[5]};
    c.fc_receivers = shm::Counter{&counters[6]};
    c.counters = LaneCounters{lane.data()};
    return c;
  }
  [[nodiscard]] std::uint64_t count(shm::LaneCounter id) const { return lane[static_cast<std::size_t>(id)]; }
  [[nodiscard]] const shm::PublicationState& state() const { return slot->observed.state; }
  [[nodiscard]] Position at(std::int64_t position) const {
    const int bits = wire::position_bits(options.term_length);
    return {wire::term_id_of(position, options.initial_term_id, bits), wire::term_offset_of(position, bits)};
  }
  [[nodiscard]] bool is_log_connected() { return log.view().load<std::int32_t>(shm::meta::kIsConnected) == 1; }

  // One turn at kStart_ns + `t`: what went out.
  std::vector<Bytes> send(std::int64_t t) {
    now = kStart_ns + t;
    publication.send(now, sink);
    return sink.drain();
  }
  Lines turn(std::int64_t t) { return describe(send(t)); }
  void status(std::int64_t t, std::int64_t position, std::int32_t window = kTerm / 2, std::uint8_t sm_flags = 0, std::int64_t receiver = 1,
              std::optional<std::int64_t> tag = {}) {
    const Position p = at(position);
    publication.on_status_message({sm_flags, kSession, kStream, p.term_id, p.term_offset, window, receiver, tag}, {0x7F000001, 4000}, kStart_ns + t);
  }
  void elicit(std::int64_t t, std::int64_t receiver = 1) {
    publication.on_status_message({wire::flag::kSmSendSetup, kSession, kStream, 0, 0, 0, receiver, {}}, {0x7F000001, 4000}, kStart_ns + t);
  }
  std::vector<Bytes> nak_sends(std::int64_t t, std::int64_t position, std::int32_t length) {
    const Position p = at(position);
    publication.on_nak({kSession, kStream, p.term_id, p.term_offset, length}, kStart_ns + t, sink);
    return sink.drain();
  }
  Lines nak(std::int64_t t, std::int64_t position, std::int32_t length) { return describe(nak_sends(t, position, length)); }
  bool error(std::int64_t t, std::int64_t receiver = 1) {
    return publication.on_error({.session_id = kSession, .stream_id = kStream, .receiver_id = receiver, .code = 13}, kStart_ns + t);
  }
  bool limit(std::int64_t t = 0, SubscriberPositions subscribers = {}) { return publication.update_limit(subscribers, kStart_ns + t); }
  bool tick(std::int64_t t, SubscriberPositions subscribers = {}) { return publication.tick(subscribers, kStart_ns + t); }
  // Brings it to the state after the first SM and its heartbeat.
  void connect(std::int32_t window = kTerm / 2) {
    send(0);
    status(0, options.start_position, window);
    send(0);
    limit();
  }

  HeapLog log;
  Options options;
  std::unique_ptr<shm::PublicationSlot> slot{std::make_unique<shm::PublicationSlot>()};
  std::array<std::int64_t, 8> counters{};
  std::array<std::uint64_t, shm::kLaneCounterCount> lane{};
  Publication publication;
  TestPublisher publisher{log.view(), options.initial_term_id, options.mtu};
  RecordingSink sink;
  std::int64_t now{};
};

// One image with its log, state, counters and one connection.
struct ImageBench {
  struct Options {
    std::int32_t term_length{kTerm};
    std::int32_t initial_term_id{7};
    std::int64_t join_position{0};
    std::int32_t window{128 << 10};
    std::uint32_t flags{shm::ImageFlags::kReliable};
    bool has_group_tag{};
    std::int64_t group_tag{};
    bool is_dirty{};   // memory as after three terms: an image relies on one zero word at its join position and on nothing else
    std::function<void(shm::ImageSlot::Wanted&)> adjust{};
  };
  ImageBench() : ImageBench(Options{}) {}
  explicit ImageBench(const Options& o) : log{o.term_length}, options{o} {
    auto& d = slot->desired;
    d.session_id = kSession;
    d.stream_id = kStream;
    d.initial_term_id = o.initial_term_id;
    d.term_length = o.term_length;
    d.mtu = 1408;
    d.window_length = o.window;
    d.join_position = o.join_position;
    d.flags = o.flags;
    d.source_address = 0x0A4D0001;
    d.source_port = 40123;
    d.liveness_timeout_ns = 10 * kSecond_ns;
    d.sm_timeout_ns = 200 * kMs;
    d.nak_delay_ns = 1 * kUs;
    d.nak_retry_ns = 100 * kUs;
    d.nak_max_backoff_ns = 10 * kMs;
    d.nak_group_size = 10;
    d.state = shm::Desired::kActive;
    if (o.adjust) o.adjust(d);
    shm::init_log_metadata(log.view(), {.type = shm::LogType::kImage, .initial_term_id = o.initial_term_id, .session_id = kSession,
                                        .stream_id = kStream, .mtu = 1408, .term_length = o.term_length});
    if (o.is_dirty) {
      std::memset(log.view().base(), 0x2A, 3 * static_cast<std::size_t>(o.term_length));
      std::memset(log.view().at(o.join_position), 0, 8);
    }
    image = Image{context()};
    image.start(kStart_ns);
    subscribers = {o.join_position, o.join_position, 1};
  }
  [[nodiscard]] Image::Context context() {
    Image::Context c;
    c.desired = &slot->desired;
    c.state = &slot->observed.state;
    c.log = log.view();
    c.rcv_hwm = shm::Counter{&counters[0]};
    c.rcv_pos = shm::Counter{&counters[1]};
    c.rcv_naks = shm::Counter{&counters[2]};
    c.counters = LaneCounters{lane.data()};
    c.receiver_id = 4711;
    c.has_group_tag = options.has_group_tag;
    c.group_tag = options.group_tag;
    return c;
  }
  [[nodiscard]] std::uint64_t count(shm::LaneCounter id) const { return lane[static_cast<std::size_t>(id)]; }
  [[nodiscard]] const shm::ImageState& state() const { return slot->observed.state; }
  [[nodiscard]] Position at(std::int64_t position) const {
    const int bits = wire::position_bits(options.term_length);
    return {wire::term_id_of(position, options.initial_term_id, bits), wire::term_offset_of(position, bits)};
  }
  Insert insert(const Bytes& d, std::int64_t t = 0, unsigned connection = 0) {
    EXPECT_TRUE(wire::FrameHeader::parse(d)) << "the lane would have dropped this one";
    return image.insert(d, connection, kStart_ns + t);
  }
  // A data frame of `length` bytes in the log, header included.
  Insert data(std::int64_t position, std::int32_t length = 96, std::int64_t t = 0, std::uint8_t fill = 0xAB) {
    return insert(data_frame(at(position), length - 32, fill), t);
  }
  Insert beat(std::int64_t position, std::int64_t t = 0, std::uint8_t beat_flags = wire::flag::kUnfragmented) {
    return insert(heartbeat(at(position), beat_flags), t);
  }
  // What a client finds behind the last frame of what is there, and every slot of a gap.
  [[nodiscard]] bool ends_and_gaps_are_zero() {
    const auto is_zero_at = [this](std::int64_t position) { return shm::frame_length_acquire(log.view().at(position)) == 0; };
    bool all = is_zero_at(state().rebuild_position) && is_zero_at(state().high_water);
    for (unsigned g = 0; g < state().gap_count; ++g) {
      const shm::GapState& gap = state().gaps[g];
      for (std::int64_t at = gap.position; at < gap.position + gap.length; at += wire::kFrameAlignment) all = all && is_zero_at(at);
    }
    return all;
  }
  void consume_all() { subscribers.min = subscribers.max = state().rebuild_position; }
  std::vector<Bytes> send(std::int64_t t) {
    image.duty(subscribers, kStart_ns + t, [this](std::size_t) -> RecordingSink& { return sink; });
    return sink.drain();
  }
  Lines turn(std::int64_t t) { return describe(send(t)); }
  bool tick(std::int64_t t) { return image.tick(subscribers, kStart_ns + t); }
  void start() { send(0); }  // first SM out

  HeapLog log;
  Options options;
  std::unique_ptr<shm::ImageSlot> slot{std::make_unique<shm::ImageSlot>()};
  std::array<std::int64_t, 4> counters{};
  std::array<std::uint64_t, shm::kLaneCounterCount> lane{};
  Image image;
  SubscriberPositions subscribers;
  RecordingSink sink;
};

}  // namespace thalweg::proto::test
