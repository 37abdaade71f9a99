#include "tests/sim/scenario.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "dataplane/base/time.hpp"
#include "dataplane/wire/frames.hpp"
#include "dataplane/wire/positions.hpp"
#include "tests/sim/draw.hpp"

namespace thalweg::sim {
namespace {

// Longest silence of a node, a link or a lane in a run that must lose nothing: well below the 5 s after which a group receiver is dropped.
constexpr std::int64_t kHarmlessSilence_ns = 1'500 * kMillisecond_ns;
constexpr std::int64_t kBytesPerStreamMax = 1536 << 10;
constexpr std::int64_t kDatagramsPerStreamMax = 2000;

Impairment draw_impairment(Draw& draw) {
  Impairment i;
  i.delay_ns = draw.chance(0.5) ? draw.between(std::int64_t{0}, 200 * kMicrosecond_ns) : draw.between(std::int64_t{0}, 10 * kMillisecond_ns);
  if (draw.chance(0.15)) return i;  // a perfect wire
  if (draw.chance(0.6)) i.loss_ppm = draw.ppm(draw.chance(0.3) ? 0.30 : 0.05);
  if (draw.chance(0.4)) i.duplicate_ppm = draw.ppm(0.10);
  if (draw.chance(0.4)) i.reorder_ppm = draw.ppm(0.20);
  if (draw.chance(0.3)) i.corrupt_ppm = draw.ppm(0.05);
  if (draw.chance(0.4)) i.header_fuzz_ppm = draw.ppm(0.05);
  if (draw.chance(0.4)) i.jitter_ns = draw.between(std::int64_t{0}, 2 * kMillisecond_ns);
  i.reorder_ns = draw.between(std::int64_t{0}, 5 * kMillisecond_ns);
  return i;
}

void draw_identity(Draw& draw, StreamPlan& s, std::size_t index) {
  s.session_id = draw.any_int32();
  s.stream_id = 1000 + static_cast<std::int32_t>(draw.between(0, 2));
  if (draw.chance(0.2)) s.stream_id = draw.any_int32();
  s.session_id = static_cast<std::int32_t>((static_cast<std::uint32_t>(s.session_id) & ~0xFFU) | static_cast<std::uint32_t>(index));
  s.term_length = draw.pick(std::array{64 << 10, 64 << 10, 64 << 10, 128 << 10, 256 << 10});
  switch (draw.between(0, 3)) {
    case 0: s.initial_term_id = 0; break;
    case 1: s.initial_term_id = INT32_MAX - static_cast<std::int32_t>(draw.between(0, 3)); break;  // wraps after a few terms
    case 2: s.initial_term_id = INT32_MIN + static_cast<std::int32_t>(draw.between(0, 3)); break;
    default: s.initial_term_id = draw.any_int32(); break;
  }
  if (draw.chance(0.3)) s.start_term_count = static_cast<std::int32_t>(draw.between(0, 1000));
  if (draw.chance(0.05)) {  // runs into the last position, which no heartbeat can name: what is lost at the very end stays lost
    s.start_term_count = INT32_MAX - static_cast<std::int32_t>(draw.between(1, 6));
    s.is_lossless = false;
  }
  if (draw.chance(0.3)) s.start_term_offset = 32 * static_cast<std::int32_t>(draw.between(0, s.term_length / 32 - 1));
  s.mtu = draw.pick(std::array{1408, 1408, 1408, 1408, 64, 96, 256, 512, 4096, 8192, 1472 / 32 * 32, 16384});
  if (draw.chance(0.1)) s.publication_window = draw.between(s.mtu * 2, s.term_length / 2) & ~31;
  if (s.publication_window < s.mtu * 2 || s.publication_window > s.term_length / 2) s.publication_window = s.term_length / 2;
}

void draw_traffic(Draw& draw, StreamPlan& s) {
  const std::int64_t bytes = std::min<std::int64_t>(draw.between(std::int64_t{1}, kBytesPerStreamMax), kDatagramsPerStreamMax * s.mtu);
  s.large_ppm = draw.chance(0.5) ? draw.ppm(0.3) : draw.ppm(0.02);
  const std::int64_t mean_small = std::min(s.mtu, 512) / 2 + 32;
  const std::int64_t mean = (mean_small * (1'000'000 - s.large_ppm) + std::int64_t{s.large_ppm} * wire::max_message_length(s.term_length) / 2) / 1'000'000;
  s.messages = std::clamp<std::int64_t>(bytes / mean, 1, 6000);
  const std::int64_t duration_ns = draw.between(10 * kMillisecond_ns, 1'500 * kMillisecond_ns);
  s.burst = static_cast<std::uint32_t>(draw.chance(0.5) ? 1 : draw.between(2, 200));
  s.message_interval_ns = std::max<std::int64_t>(duration_ns * s.burst / s.messages, 1000);
  if (draw.chance(0.3)) s.held_claim_ppm = draw.ppm(0.05);
  if (draw.chance(0.15)) s.aborted_claim_ppm = draw.ppm(0.05);
  if (draw.chance(0.12)) {
    s.dying_claim_ppm = draw.ppm(4.0 / static_cast<double>(s.messages + 4));
    // A dead claim that fills a small window by itself is never unblocked, as with the reference driver: nobody can write behind it.
    s.publication_window = s.term_length / 2;
  }
  if (draw.chance(0.2)) {
    s.producer_pause_at_ns = draw.between(std::int64_t{0}, duration_ns);
    s.producer_pause_ns = draw.between(kMillisecond_ns, 3 * kSecond_ns);
  }
  s.ending = draw.chance(0.5) ? Ending::kCloseWhenConsumed : Ending::kCloseAtOnce;
  if (draw.chance(0.05)) s.ending = Ending::kRevoke;
}

void draw_repair(Draw& draw, StreamPlan& s) {
  s.is_nak_all_gaps = draw.chance(0.4);
  s.is_retransmit_linger_auto = draw.chance(0.4);
  s.is_rtt_measured = draw.chance(0.3);
  s.retransmit_linger_ns = draw.chance(0.7) ? 10 * kMillisecond_ns : draw.between(100 * kMicrosecond_ns, 30 * kMillisecond_ns);
  s.retransmit_delay_ns = draw.chance(0.8) ? 0 : draw.between(std::int64_t{1}, 2 * kMillisecond_ns);
  s.nak_delay_ns = draw.chance(0.7) ? kMicrosecond_ns : draw.between(kMicrosecond_ns, 2 * kMillisecond_ns);
  s.linger_ns = s.ending == Ending::kCloseWhenConsumed && draw.chance(0.5) ? 5 * kSecond_ns : 60 * kSecond_ns;
  s.unblock_timeout_ns = draw.between(8 * kSecond_ns, 15 * kSecond_ns);
}

ReaderPlan draw_reader(Draw& draw, bool is_first) {
  ReaderPlan r;
  r.poll_interval_ns = draw.chance(0.6) ? 50 * kMicrosecond_ns : draw.between(50 * kMicrosecond_ns, 5 * kMillisecond_ns);
  r.bytes_per_poll = draw.chance(0.6) ? 1 << 20 : static_cast<std::int32_t>(draw.between(1, 16 << 10));
  if (draw.chance(0.15)) {
    r.pause_at_ns = draw.between(std::int64_t{0}, kSecond_ns);
    r.pause_ns = draw.between(kMillisecond_ns, 3 * kSecond_ns);
  }
  if (!is_first && draw.chance(0.5)) r.join_ns = draw.between(std::int64_t{1}, kSecond_ns);
  if (!is_first && draw.chance(0.4)) r.die_at_ns = r.join_ns + draw.between(std::int64_t{1}, kSecond_ns);
  return r;
}

void draw_subscribers(Draw& draw, StreamPlan& s, std::uint32_t nodes) {
  const std::size_t count = s.is_group ? std::min<std::size_t>(nodes, static_cast<std::size_t>(draw.between(2, 3))) : 1;
  for (std::size_t i = 0; i < count; ++i) {
    SubscriberPlan sub;
    sub.node = s.is_ipc ? s.node : static_cast<std::uint32_t>((s.node + 1 + i) % nodes);
    if (!s.is_ipc && !s.is_group && draw.chance(0.1)) sub.node = s.node;  // to itself, over the wire
    sub.is_reliable = s.is_ipc || !draw.chance(0.12);
    // Below 4/3 MTU a stream may stop for good: what is left of the window holds no frame, and a quarter has to be consumed for a new one.
    // The members of a group share a window: one with less than half of another's would never be admitted (wire-protocol 4.3 step 4).
    sub.window_length = draw.chance(0.7) ? 128 << 10 : draw.between(2 * s.mtu, 64 << 10);
    if (s.is_group) sub.window_length = 128 << 10;
    sub.readers.push_back(draw_reader(draw, true));
    if (draw.chance(0.25)) sub.readers.push_back(draw_reader(draw, false));
    if (!s.is_ipc && !s.is_group && draw.chance(0.03)) {
      sub.reject_at_ns = draw.between(std::int64_t{0}, kSecond_ns);
      s.is_lossless = false;
    }
    if (!s.is_ipc && !s.is_group && draw.chance(0.04)) {  // the only reader dies: the stream ends for this receiver
      sub.readers[0].die_at_ns = draw.between(std::int64_t{0}, kSecond_ns);
      s.is_lossless = false;
    }
    if (!sub.is_reliable) s.is_lossless = false;
    s.subscribers.push_back(sub);
  }
}

// Whom a group's sender waits for, who comes late, and who leaves and comes back.
void draw_group(Draw& draw, StreamPlan& s) {
  const double kind = draw.chance(0.6) ? 0 : draw.chance(0.6) ? 1 : 2;
  s.flow_control = kind == 0 ? shm::FlowControl::kMin : kind == 1 ? shm::FlowControl::kTagged : shm::FlowControl::kMax;
  s.receiver_timeout_ns = draw.between(4 * kSecond_ns, 6 * kSecond_ns);
  s.group_min_size = 0;
  for (std::size_t i = 0; i < s.subscribers.size(); ++i) {
    SubscriberPlan& sub = s.subscribers[i];
    sub.has_tag = s.flow_control == shm::FlowControl::kTagged ? i == 0 || draw.chance(0.5) : draw.chance(0.2);
    const bool is_waited_for = s.flow_control == shm::FlowControl::kMin || (s.flow_control == shm::FlowControl::kTagged && sub.has_tag);
    for (ReaderPlan& reader : sub.readers) reader.may_lose = !is_waited_for;
    s.group_min_size += is_waited_for ? 1 : 0;
  }
  SubscriberPlan& last = s.subscribers.back();
  const double fate = s.is_lossless ? static_cast<double>(draw.between(0, 99)) : 99;
  if (fate >= 50 || last.readers.size() > 1) return;
  // A newcomer far behind in window is not admitted (4.3), so all have the same. The stream lasts long enough to be joined.
  for (SubscriberPlan& sub : s.subscribers) sub.window_length = s.subscribers.front().window_length;
  const bool is_waited_for = !last.readers[0].may_lose;
  if (is_waited_for) --s.group_min_size;
  const std::int64_t bursts = std::max<std::int64_t>(1, s.messages / s.burst);
  s.message_interval_ns = std::max(s.message_interval_ns, 6 * kSecond_ns / bursts);
  if (fate < 25) {
    last.readers[0].join_ns = draw.between(50 * kMillisecond_ns, 2 * kSecond_ns);
    return;
  }
  // Its old image goes on telling of its end for a second (2.7): nobody may come back before that.
  ReaderPlan again = last.readers[0];
  last.readers[0].die_at_ns = draw.between(50 * kMillisecond_ns, 1'500 * kMillisecond_ns);
  again.join_ns = last.readers[0].die_at_ns + draw.between(3'500 * kMillisecond_ns, 4 * kSecond_ns);
  last.readers.push_back(again);
}

// The same stream from two senders: one of them loses, is late, falls silent for a while.
void draw_twin(Draw& draw, Scenario& scenario, StreamPlan& s) {
  SubscriberPlan& subscriber = s.subscribers.front();
  s.has_twin = subscriber.has_two_ways = true;
  s.twin_node = (s.node + 1) % scenario.nodes;
  subscriber.node = (s.node + 2) % scenario.nodes;
  s.held_claim_ppm = s.dying_claim_ppm = s.aborted_claim_ppm = 0;  // both applications say the same
  s.side_lag_ns[draw.between(0, 1)] = draw.chance(0.3) ? 0 : draw.chance(0.8) ? draw.between(std::int64_t{1}, 20 * kMillisecond_ns) : draw.between(std::int64_t{1}, kSecond_ns);
  if (draw.chance(0.7)) s.nak_hold_ns = draw.between(100 * kMicrosecond_ns, 5 * kMillisecond_ns);
  if (draw.chance(0.8)) s.side_timeout_ns = draw.between(50 * kMillisecond_ns, 2 * kSecond_ns);
  if (draw.chance(0.4)) return;
  FaultPlan f;
  f.kind = NodeFault::kSideDead;
  f.is_second_way = draw.chance(0.5);
  f.node = f.is_second_way ? s.twin_node : s.node;
  f.peer = subscriber.node;
  f.at_ns = draw.between(std::int64_t{0}, kSecond_ns);
  f.duration_ns = draw.chance(0.6) ? draw.between(10 * kMillisecond_ns, 3 * kSecond_ns) : draw.between(5 * kSecond_ns, 25 * kSecond_ns);
  scenario.faults.push_back(f);
}

void draw_ways(Draw& draw, Scenario& scenario, StreamPlan& s) {
  if (!s.is_group) {
    const bool has_one = std::any_of(scenario.streams.begin(), scenario.streams.end(), [](const StreamPlan& other) { return other.has_twin; });
    if (!has_one && scenario.nodes > 2 && s.ending != Ending::kRevoke && draw.chance(0.5)) draw_twin(draw, scenario, s);
    return;
  }
  if (draw.chance(0.35)) return;  // multicast
  s.destinations = draw.chance(0.5) ? Destinations::kDynamic : Destinations::kManual;
  SubscriberPlan& last = s.subscribers.back();
  const bool stays = last.readers.size() == 1 && last.readers[0].join_ns == 0 && last.readers[0].die_at_ns == INT64_MAX;
  if (s.destinations == Destinations::kDynamic && stays && draw.chance(0.3)) {  // leaves for good: its address is to be forgotten
    last.readers[0].die_at_ns = draw.between(50 * kMillisecond_ns, kSecond_ns);
    if (!last.readers[0].may_lose) --s.group_min_size;
    s.message_interval_ns = std::max(s.message_interval_ns, 9 * kSecond_ns / std::max<std::int64_t>(1, s.messages / s.burst));
  }
  if (s.destinations != Destinations::kManual) return;
  for (SubscriberPlan& subscriber : s.subscribers) {
    subscriber.has_two_ways = draw.chance(0.4);
    if (subscriber.has_two_ways && draw.chance(0.4)) subscriber.way_removed_ns = draw.between(50 * kMillisecond_ns, 1'500 * kMillisecond_ns);
  }
}

void draw_control(Draw& draw, StreamPlan& s) {
  if (draw.chance(0.2)) s.nak_backoff_ns = draw.between(kMillisecond_ns, 50 * kMillisecond_ns);
  if (draw.chance(0.1)) {
    s.nak_max = static_cast<std::int32_t>(draw.between(1, 200));
    s.is_lossless = false;
  }
  if (draw.chance(0.25)) s.congestion_control = draw.chance(0.5) ? shm::CongestionControl::kCubic : shm::CongestionControl::kAimd;
  if (draw.chance(0.3)) {
    s.retransmit_limit_interval_ns = draw.between(10 * kMillisecond_ns, 200 * kMillisecond_ns);
    s.retransmit_limit_bytes = draw.between(4 * s.mtu, 64 * s.mtu);
  }
  if (draw.chance(0.15)) s.nak_storm_interval_ns = draw.between(100 * kMicrosecond_ns, 2 * kMillisecond_ns);
}

void draw_faults(Draw& draw, Scenario& s) {
  const auto count = draw.chance(0.5) ? 0 : draw.between(1, 4);
  for (int i = 0; i < count; ++i) {
    FaultPlan f;
    f.at_ns = draw.between(std::int64_t{0}, 2 * kSecond_ns);
    f.node = static_cast<std::uint32_t>(draw.between(0, static_cast<int>(s.nodes) - 1));
    f.peer = static_cast<std::uint32_t>(draw.between(0, static_cast<int>(s.nodes) - 1));
    f.kind = draw.pick(std::array{NodeFault::kPause, NodeFault::kCrash, NodeFault::kCrashInInsert, NodeFault::kCrashInInsert,
                                  NodeFault::kCrashInClean, NodeFault::kControlPlaneStall, NodeFault::kPartition});
    f.duration_ns = draw.between(kMillisecond_ns, kHarmlessSilence_ns / 4);  // four of them may follow each other
    s.faults.push_back(f);
  }
  if (draw.chance(0.06)) {  // one long silence: images and connections time out, and everything must still end well
    FaultPlan f;
    f.at_ns = draw.between(std::int64_t{0}, kSecond_ns);
    f.node = static_cast<std::uint32_t>(draw.between(0, static_cast<int>(s.nodes) - 1));
    f.peer = (f.node + 1) % s.nodes;
    f.kind = draw.pick(std::array{NodeFault::kPause, NodeFault::kCrash, NodeFault::kPartition});
    f.duration_ns = draw.between(4 * kSecond_ns, 25 * kSecond_ns);
    s.faults.push_back(f);
    for (auto& stream : s.streams) stream.is_lossless = stream.is_lossless && stream.is_ipc;
  }
  std::sort(s.faults.begin(), s.faults.end(), [](const FaultPlan& a, const FaultPlan& b) { return a.at_ns < b.at_ns; });
}

}  // namespace

Scenario Scenario::from_seed(std::uint64_t seed) {
  Draw draw{seed};
  Scenario s;
  s.seed = seed;
  s.nodes = static_cast<std::uint32_t>(draw.between(2, 4));
  s.turn_ns = draw.between(20 * kMicrosecond_ns, 400 * kMicrosecond_ns);
  s.tick_ns = draw.chance(0.5) ? kSecond_ns : draw.between(10 * kMillisecond_ns, kSecond_ns);
  s.transmit_refused_ppm = draw.chance(0.3) ? draw.ppm(0.1) : 0;
  s.image_liveness_ns = 10 * kSecond_ns;
  s.connection_timeout_ns = 5 * kSecond_ns;
  s.links.assign(s.nodes, std::vector<Impairment>(s.nodes));
  for (auto& row : s.links) {
    for (auto& link : row) link = draw_impairment(draw);
  }
  const auto streams = static_cast<std::size_t>(draw.chance(0.5) ? 1 : draw.between(2, 4));
  for (std::size_t i = 0; i < streams; ++i) {
    StreamPlan stream;
    stream.is_ipc = draw.chance(0.1);
    stream.is_group = !stream.is_ipc && draw.chance(0.15);
    stream.is_exclusive = draw.chance(0.4);
    stream.node = static_cast<std::uint32_t>(draw.between(0, static_cast<int>(s.nodes) - 1));
    draw_identity(draw, stream, i);
    draw_traffic(draw, stream);
    draw_repair(draw, stream);
    draw_subscribers(draw, stream, s.nodes);
    s.streams.push_back(stream);
  }
  // From a seed of its own: what was drawn above stays what it was before this came to be.
  for (StreamPlan& stream : s.streams) {
    Draw more{(seed + 1) * 0x9E3779B97F4A7C15U + static_cast<std::uint32_t>(stream.session_id)};
    if (stream.is_group) draw_group(more, stream);
    if (!stream.is_ipc) draw_control(more, stream);
  }
  draw_faults(draw, s);
  Draw ways{(seed + 1) * 0xD6E8FEB86659FD93U};
  s.second_links.assign(s.nodes, std::vector<Impairment>(s.nodes));
  for (auto& row : s.second_links) {
    for (auto& link : row) link = draw_impairment(ways);
  }
  for (StreamPlan& stream : s.streams) {
    if (!stream.is_ipc) draw_ways(ways, s, stream);
  }
  std::stable_sort(s.faults.begin(), s.faults.end(), [](const FaultPlan& a, const FaultPlan& b) { return a.at_ns < b.at_ns; });
  s.heal_ns = draw.between(500 * kMillisecond_ns, 3 * kSecond_ns);
  for (const auto& f : s.faults) s.heal_ns = std::max(s.heal_ns, f.at_ns + f.duration_ns);
  draw_hazards(s);
  // After healing: what is left to send, a blocked claim's time-out several times over, linger, two liveness time-outs.
  s.deadline_ns = s.heal_ns + 200 * kSecond_ns;
  return s;
}

std::string Scenario::describe() const {
  std::string out = fmt::format("seed {} nodes {} turn {} us tick {} ms heal {} ms refuse {} ppm strangers {} us\n", seed, nodes, turn_ns / 1000,
                                tick_ns / kMillisecond_ns, heal_ns / kMillisecond_ns, transmit_refused_ppm, stranger_interval_ns / 1000);
  for (std::size_t i = 0; i < streams.size(); ++i) {
    const StreamPlan& s = streams[i];
    out += fmt::format(
        "  stream {}: {}{}{} node {} session {} stream {} initial term {} start {}+{} term {} mtu {} window {} messages {} every {} us x {} "
        "large {} ppm destinations {} twin {} lag {} and {} us hold {} us side timeout {} ms flow control {} of {} congestion control {} nak-max {} storm {} us resend {} ending {} lossless {} all-gaps {} auto-linger {} linger {} ms unblock {} ms held {} dying {} aborted {} ppm\n",
        i, s.is_ipc ? "ipc " : "network ", s.is_group ? "group " : "", s.is_exclusive ? "exclusive" : "concurrent", s.node, s.session_id,
        s.stream_id, s.initial_term_id, s.start_term_count, s.start_term_offset, s.term_length, s.mtu, s.publication_window, s.messages,
        s.message_interval_ns / 1000, s.burst, s.large_ppm, static_cast<int>(s.destinations),
        s.has_twin ? static_cast<int>(s.twin_node) : -1, s.side_lag_ns[0] / 1000, s.side_lag_ns[1] / 1000, s.nak_hold_ns / 1000,
        s.side_timeout_ns / kMillisecond_ns, static_cast<int>(s.flow_control), s.group_min_size, static_cast<int>(s.congestion_control),
        s.nak_max, s.nak_storm_interval_ns / 1000, s.retransmit_limit_bytes, static_cast<int>(s.ending), s.is_lossless, s.is_nak_all_gaps,
        s.is_retransmit_linger_auto, s.linger_ns / kMillisecond_ns, s.unblock_timeout_ns / kMillisecond_ns, s.held_claim_ppm,
        s.dying_claim_ppm, s.aborted_claim_ppm);
    for (const SubscriberPlan& sub : s.subscribers) {
      out += fmt::format("    subscriber node {} reliable {} window {} readers {} ways {}{}{}", sub.node, sub.is_reliable, sub.window_length, sub.readers.size(),
                         sub.has_two_ways ? 2 : 1, sub.way_removed_ns != INT64_MAX ? fmt::format(" until {} ms", sub.way_removed_ns / kMillisecond_ns) : "",
                         sub.tag_lost_ns != INT64_MAX ? fmt::format(" tag until {} ms", sub.tag_lost_ns / kMillisecond_ns) : "");
      const Impairment& there = links[s.node][sub.node];
      const Impairment& back = links[sub.node][s.node];
      out += fmt::format(" | there: loss {} dup {} reorder {} fuzz {} ppm delay {} us | back: loss {} dup {} reorder {} fuzz {} ppm delay {} us\n",
                         there.loss_ppm, there.duplicate_ppm, there.reorder_ppm, there.header_fuzz_ppm, there.delay_ns / 1000, back.loss_ppm,
                         back.duplicate_ppm, back.reorder_ppm, back.header_fuzz_ppm, back.delay_ns / 1000);
    }
    if (s.is_relayed) out += fmt::format("    relayed to node {}, {}\n", s.relayed.node, s.relay_drops ? "drops when slow" : "waits");
  }
  for (const FaultPlan& f : staged_faults) {
    out += fmt::format("  node {} dies at stage {} of stream {}, not before {} ms, for {} ms\n", f.node, static_cast<int>(f.stage), f.stream,
                       f.at_ns / kMillisecond_ns, f.duration_ns / kMillisecond_ns);
  }
  for (const FaultPlan& f : faults) {
    out += fmt::format("  fault at {} ms kind {} node {} peer {} for {} ms\n", f.at_ns / kMillisecond_ns, static_cast<int>(f.kind), f.node,
                       f.peer, f.duration_ns / kMillisecond_ns);
  }
  return out;
}

}  // namespace thalweg::sim
