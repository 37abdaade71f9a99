// thalweg top: what lanes, ports and streams do now, refreshed in place.
#include <algorithm>
#include <map>

#include "controlplane/cli/instance.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::cli {
namespace {

struct TopOptions {
  std::int64_t interval_ns{kSecond_ns};
  std::optional<std::uint32_t> rounds;  // 0: until interrupted
  std::uint32_t streams{20};
};

struct LaneSample {
  std::uint64_t idle{}, busy{}, blocked{}, housekeeping{}, turns{}, received{}, sent{};
};
struct PortSample {
  std::uint64_t rx_frames{}, rx_bytes{}, tx_frames{}, tx_bytes{}, missed{};
};
// Figures of one moment.
struct Sample {
  std::int64_t now_ns{};
  std::vector<LaneSample> lanes;
  std::vector<PortSample> ports;
  std::vector<StreamView> streams;
};

std::uint64_t get(const std::atomic<std::uint64_t>& value) { return value.load(std::memory_order_relaxed); }

Sample take_sample(const Instance& instance) {
  Sample sample;
  sample.now_ns = monotonic_ns();
  const auto& registry = instance.registry();
  for (std::uint32_t i = 0; i < lane_count(registry); ++i) {
    const shm::LaneSlot& lane = registry.lanes[i];
    sample.lanes.push_back({get(lane.ticks_idle), get(lane.ticks_busy), get(lane.ticks_blocked), get(lane.ticks_housekeeping), get(lane.turns),
                            lane_value(lane, static_cast<std::size_t>(shm::LaneCounter::kFramesReceived)),
                            lane_value(lane, static_cast<std::size_t>(shm::LaneCounter::kFramesSent))});
  }
  for (std::uint32_t i = 0; i < port_count(registry); ++i) {
    const shm::PortSlot& port = registry.ports[i];
    sample.ports.push_back({get(port.rx_frames), get(port.rx_bytes), get(port.tx_frames), get(port.tx_bytes), get(port.rx_missed) + get(port.rx_no_buffer)});
  }
  sample.streams = streams_of(instance);
  return sample;
}

// Increase per second; a restarted data plane counts from 0 again.
double rate(std::uint64_t before, std::uint64_t after, double seconds) {
  return after >= before && seconds > 0 ? static_cast<double>(after - before) / seconds : 0;
}

Table lane_table(const shm::Registry& registry, const Sample& before, const Sample& after, double seconds) {
  Table table{"lanes",
              {{"lane", "LANE", Unit::kCount},
               {"cpu", "CPU", Unit::kCount},
               {"busy_percent", "BUSY", Unit::kPercent},
               {"idle_percent", "IDLE", Unit::kPercent},
               {"blocked_percent", "BLOCKED", Unit::kPercent},
               {"housekeeping_percent", "HOUSEKEEPING", Unit::kPercent},
               {"turns_per_second", "TURNS", Unit::kPerSecond},
               {"turn_ns_max", "MAX TURN", Unit::kDuration},
               {"rx_frames_per_second", "RX", Unit::kPerSecond},
               {"tx_frames_per_second", "TX", Unit::kPerSecond}}};
  for (std::size_t i = 0; i < std::min(before.lanes.size(), after.lanes.size()); ++i) {
    const LaneSample& a = before.lanes[i];
    const LaneSample& b = after.lanes[i];
    const double idle = rate(a.idle, b.idle, 1);
    const double busy = rate(a.busy, b.busy, 1);
    const double blocked = rate(a.blocked, b.blocked, 1);
    const double housekeeping = rate(a.housekeeping, b.housekeeping, 1);
    const double all = std::max(idle + busy + blocked + housekeeping, 1.0);
    table.add({i, registry.lanes[i].cpu, 100 * busy / all, 100 * idle / all, 100 * blocked / all, 100 * housekeeping / all,
               rate(a.turns, b.turns, seconds), get(registry.lanes[i].turn_ns_max), rate(a.received, b.received, seconds), rate(a.sent, b.sent, seconds)});
  }
  return table;
}

Table port_table(const shm::Registry& registry, const Sample& before, const Sample& after, double seconds) {
  Table table{"ports",
              {{"port", "PORT"},
               {"type", "TYPE"},
               {"is_link_up", "LINK UP"},
               {"rx_frames_per_second", "RX", Unit::kPerSecond},
               {"rx_bytes_per_second", "RX BYTES", Unit::kBytesPerSecond},
               {"tx_frames_per_second", "TX", Unit::kPerSecond},
               {"tx_bytes_per_second", "TX BYTES", Unit::kBytesPerSecond},
               {"rx_missed_per_second", "MISSED", Unit::kPerSecond}}};
  for (std::size_t i = 0; i < std::min(before.ports.size(), after.ports.size()); ++i) {
    const PortSample& a = before.ports[i];
    const PortSample& b = after.ports[i];
    const bool is_up = registry.ports[i].is_link_up.load(std::memory_order_relaxed) != 0;
    table.add({text_of(registry.ports[i].name), name_of(registry.ports[i].kind), Cell{is_up}.styled(is_up ? Style::kGood : Style::kBad),
               rate(a.rx_frames, b.rx_frames, seconds), rate(a.rx_bytes, b.rx_bytes, seconds), rate(a.tx_frames, b.tx_frames, seconds),
               rate(a.tx_bytes, b.tx_bytes, seconds), rate(a.missed, b.missed, seconds)});
  }
  return table;
}

Table stream_table(const Sample& before, const Sample& after, double seconds, std::uint32_t count) {
  struct Row {
    const StreamView* stream;
    double bytes_per_second;
  };
  std::map<std::pair<std::string_view, std::int64_t>, std::int64_t> positions;
  for (const StreamView& s : before.streams) positions[{s.kind, s.id}] = s.position;
  std::vector<Row> rows;
  for (const StreamView& s : after.streams) {
    const auto known = positions.find({s.kind, s.id});
    const std::int64_t moved = known == positions.end() ? 0 : std::max<std::int64_t>(s.position - known->second, 0);
    rows.push_back({&s, seconds > 0 ? static_cast<double>(moved) / seconds : 0});
  }
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.bytes_per_second > b.bytes_per_second; });
  if (rows.size() > count) rows.resize(count);
  Table table{"streams",
              {{"kind", "KIND"},
               {"session_id", "SESSION", Unit::kCount},
               {"stream_id", "STREAM", Unit::kCount},
               {"bytes_per_second", "RATE", Unit::kBytesPerSecond},
               {"backlog_bytes", "BACKLOG", Unit::kBytes},
               {"held_by", "HELD BY"},
               {"channel", "CHANNEL"}}};
  for (const Row& row : rows) {
    const StreamView& s = *row.stream;
    table.add({s.kind, s.session_id, s.stream_id, row.bytes_per_second, s.backlog_bytes, s.held_by.empty() ? Cell{} : Cell{s.held_by}.styled(Style::kWarn),
               s.channel});
  }
  return table;
}

std::string describe(const shm::ProcessInfo& process) {
  const std::uint32_t starts = process.starts.load(std::memory_order_relaxed);
  std::string text = process.state.load(std::memory_order_acquire) == shm::Observed::kActive ? "runs as process " : "does not run; was process ";
  text += std::to_string(process.pid.load(std::memory_order_relaxed));
  return starts > 1 ? text + ", start " + std::to_string(starts) : text;
}

void print_processes(Output& out, const Instance& instance) {
  const shm::RegistryHeader& header = instance.registry().header;
  out.value("directory", "instance", instance.directory());
  if (out.is_json()) {
    for (const auto& [name, process] : {std::pair{"control_plane", &header.control_plane}, std::pair{"data_plane", &header.data_plane}}) {
      out.document()[name] = {{"pid", process->pid.load(std::memory_order_relaxed)},
                              {"starts", process->starts.load(std::memory_order_relaxed)},
                              {"is_active", process->state.load(std::memory_order_acquire) == shm::Observed::kActive}};
    }
    return;
  }
  out.value("", "control plane", describe(header.control_plane));
  out.value("", "data plane", describe(header.data_plane));
  out.line("");
}

Exit top(Context& context, const TopOptions& options) {
  // One look is what a script wants; a terminal is refreshed in place.
  const std::uint32_t rounds = options.rounds.value_or(context.out.is_terminal() ? 0 : 1);
  auto instance = Instance::open_with_registry(context);
  if (!instance) return context.out.fail("top", instance.error());
  Sample before = take_sample(*instance);
  for (std::uint32_t round = 0; (rounds == 0 || round < rounds) && !is_interrupted(); ++round) {
    sleep_interruptible(options.interval_ns);
    if (is_interrupted()) break;
    instance = Instance::open_with_registry(context);  // a new start makes new files
    if (!instance) return context.out.fail("top", instance.error());
    Sample after = take_sample(*instance);
    const double seconds = static_cast<double>(after.now_ns - before.now_ns) / 1e9;
    context.out.begin_round();
    const auto& registry = instance->registry();
    print_processes(context.out, *instance);
    context.out.print(lane_table(registry, before, after, seconds), "no lanes: the data plane does not run");
    context.out.line("");
    context.out.print(port_table(registry, before, after, seconds), "no ports");
    context.out.line("");
    context.out.print(stream_table(before, after, seconds, options.streams), "no streams");
    context.out.flush();
    before = std::move(after);
  }
  return Exit::kOk;
}

}  // namespace

void register_top(CLI::App& root, Context& context) {
  CLI::App* verb = root.add_subcommand("top", "Lanes, ports and busiest streams, refreshed in place");
  const auto options = std::make_shared<TopOptions>();
  add_duration(*verb, "--interval", options->interval_ns, "Time between rounds (default 1s)");
  verb->add_option("--count", options->rounds, "Stop after this many rounds; 0: when interrupted. Default: 0 on a terminal, else 1")->type_name("N");
  verb->add_option("--streams", options->streams, "Show at most this many streams")->type_name("N");
  set_example(*verb, "top --interval 500ms");
  on_run(*verb, context, [&context, options] { return top(context, *options); });
}

}  // namespace thalweg::cli
