#include <algorithm>

#include "dataplane/base/time.hpp"
#include "tests/sim/draw.hpp"
#include "tests/sim/scenario.hpp"

// What was added to scenarios later, each from a seed of its own: what the others draw stays what it was.
namespace thalweg::sim {
namespace {

// What one stream's first receiver gets goes on to another node; that of a stream with a place in its group, two ways or a twin would say nothing new.
void draw_relay(Draw& draw, const Scenario& scenario, StreamPlan& s) {
  SubscriberPlan& source = s.subscribers.front();
  if (s.is_ipc || s.is_group || s.has_twin || !source.is_reliable || source.readers.front().die_at_ns != INT64_MAX || !draw.chance(0.2)) return;
  s.is_relayed = true;
  s.relay_drops = draw.chance(0.5);
  SubscriberPlan& far = s.relayed;
  far.node = (source.node + 1) % scenario.nodes;
  far.window_length = 128 << 10;
  ReaderPlan reader;
  reader.poll_interval_ns = draw.chance(0.5) ? 50 * kMicrosecond_ns : draw.between(kMillisecond_ns, 20 * kMillisecond_ns);
  reader.bytes_per_poll = draw.chance(0.5) ? 1 << 20 : static_cast<std::int32_t>(draw.between(1'000, 16 << 10));
  if (draw.chance(0.3)) reader.join_ns = draw.between(std::int64_t{1}, kSecond_ns);
  if (draw.chance(0.4)) {
    reader.pause_at_ns = draw.between(std::int64_t{0}, kSecond_ns);
    reader.pause_ns = draw.between(kMillisecond_ns, 3 * kSecond_ns);
  }
  if (draw.chance(0.25)) reader.die_at_ns = reader.join_ns + draw.between(std::int64_t{1}, kSecond_ns);
  if (s.relay_drops && draw.chance(0.7)) {  // too slow for it
    reader.poll_interval_ns = draw.between(5 * kMillisecond_ns, 20 * kMillisecond_ns);
    reader.bytes_per_poll = static_cast<std::int32_t>(draw.between(1, 4 << 10));
  }
  // One that drops skips what its reader is too slow for. One that waits loses nothing, but it waits for nobody that is not there: the stream may be over.
  reader.may_lose = s.relay_drops || reader.join_ns != 0 || reader.die_at_ns != INT64_MAX;
  reader.is_relayed = true;
  far.readers.push_back(reader);
  if (reader.die_at_ns != INT64_MAX && draw.chance(0.5)) {
    ReaderPlan again = reader;
    again.join_ns = reader.die_at_ns + draw.between(3'500 * kMillisecond_ns, 4 * kSecond_ns);
    again.die_at_ns = INT64_MAX;
    far.readers.push_back(again);
  }
}

// A group whose members go or lose their tags waits for no more than those that stay: for one, if there is one. The others may be a little late then, and lose
// the beginning.
void expect_smaller_group(StreamPlan& s) {
  const auto stays = [](const SubscriberPlan& subscriber) {
    const ReaderPlan& reader = subscriber.readers.front();
    return !reader.may_lose && reader.join_ns == 0 && reader.die_at_ns == INT64_MAX;
  };
  const bool has_one = std::any_of(s.subscribers.begin(), s.subscribers.end(), stays);
  s.group_min_size = std::min(s.group_min_size, has_one ? 1 : 0);
  s.is_lossless = false;
}

// All of a node's streams hear of its long silence.
void expect_losses(Draw& draw, Scenario& scenario, std::uint32_t node) {
  for (StreamPlan& s : scenario.streams) {
    if (s.is_ipc) continue;
    if (s.node == node || (s.has_twin && s.twin_node == node)) s.is_lossless = false;
    if (s.is_relayed && s.relayed.node == node) {
      for (ReaderPlan& reader : s.relayed.readers) reader.may_lose = true;
    }
    for (SubscriberPlan& subscriber : s.subscribers) {
      if (subscriber.node != node) continue;
      if (!s.is_group) {
        s.is_lossless = false;
        continue;
      }
      // The others of its group lose nothing: it holds them up for its time-out and no longer, or until it is back where the group needs it.
      for (ReaderPlan& reader : subscriber.readers) reader.may_lose = true;
      if (draw.chance(0.5)) expect_smaller_group(s);
    }
  }
}

void draw_stage(Draw& draw, Scenario& scenario, std::size_t stream) {
  const StreamPlan& s = scenario.streams[stream];
  FaultPlan f;
  f.kind = NodeFault::kCrash;
  f.stage = draw.pick(std::array{Stage::kBeforeStatusMessage, Stage::kInRepair, Stage::kInRepair, Stage::kAtEnd, Stage::kDraining, Stage::kInLinger});
  f.stream = stream;
  f.node = s.is_relayed && draw.chance(0.3) ? s.relayed.node : s.subscribers[static_cast<std::size_t>(draw.between(0, static_cast<int>(s.subscribers.size()) - 1))].node;
  f.at_ns = draw.chance(0.5) ? 0 : draw.between(std::int64_t{0}, kSecond_ns);
  const bool is_long = draw.chance(0.3);
  f.duration_ns = is_long ? draw.between(4 * kSecond_ns, 9 * kSecond_ns) : draw.between(kMillisecond_ns, 200 * kMillisecond_ns);
  if (is_long) expect_losses(draw, scenario, f.node);
  scenario.staged_faults.push_back(f);
}

// The last member of a tagged group goes on without its tag: it is not waited for any more.
void draw_tag_loss(Draw& draw, StreamPlan& s) {
  SubscriberPlan& last = s.subscribers.back();
  if (!s.is_group || s.flow_control != shm::FlowControl::kTagged || !last.has_tag || s.subscribers.size() < 2 || last.has_two_ways || !draw.chance(0.5)) return;
  last.tag_lost_ns = draw.between(std::int64_t{0}, kSecond_ns);
  for (ReaderPlan& reader : last.readers) reader.may_lose = true;
  expect_smaller_group(s);
  // Long enough for its time-out.
  s.message_interval_ns = std::max(s.message_interval_ns, 9 * kSecond_ns / std::max<std::int64_t>(1, s.messages / s.burst));
}

}  // namespace

void Scenario::draw_hazards(Scenario& scenario) {
  Draw draw{(scenario.seed + 1) * 0xA0761D6478BD642FU};
  for (StreamPlan& s : scenario.streams) draw_relay(draw, scenario, s);
  for (StreamPlan& s : scenario.streams) draw_tag_loss(draw, s);
  constexpr std::size_t kStagedMax = 2;
  for (std::size_t i = 0; i < scenario.streams.size() && scenario.staged_faults.size() < kStagedMax; ++i) {
    if (!scenario.streams[i].is_ipc && draw.chance(0.25)) draw_stage(draw, scenario, i);
  }
  const auto is_learning = [](const StreamPlan& s) { return s.destinations == Destinations::kDynamic; };
  const bool has_places = std::any_of(scenario.streams.begin(), scenario.streams.end(), is_learning);   // that strangers may take
  if (!draw.chance(has_places ? 0.7 : 0.25)) return;
  scenario.stranger_interval_ns = draw.between(200 * kMicrosecond_ns, 5 * kMillisecond_ns);
  scenario.strangers_until_ns = scenario.stranger_interval_ns * draw.between(500, 4'000);
}

}  // namespace thalweg::sim
