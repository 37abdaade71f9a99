// thalweg stat, drops, errors, loss: counters and reports as they stand in shared memory.
#include <algorithm>
#include <array>
#include <cctype>

#include "controlplane/cli/instance.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/shm/error_log.hpp"
#include "dataplane/shm/loss_report.hpp"

namespace thalweg::cli {
namespace {

bool contains(std::string_view text, std::string_view word) {
  const auto same = [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b)); };
  return std::search(text.begin(), text.end(), word.begin(), word.end(), same) != text.end();
}

// ---- stat ----
struct StatOptions {
  std::string word;
  std::optional<std::int32_t> type;
  bool is_nonzero{};
};

Exit stat(Context& context, const StatOptions& options) {
  auto instance = Instance::open_with_registry(context);
  if (!instance) instance = Instance::open(context);  // another user, or a stock driver: the stock counters are still there
  if (!instance) return context.out.fail("stat", instance.error());
  Table counters{"counters", {{"id", "ID", Unit::kCount}, {"type_id", "TYPE", Unit::kCount}, {"value", "VALUE", Unit::kCount}, {"label", "LABEL"}}};
  instance->counters().for_each([&](const shm::CountersReader::View& c) {
    if (options.type && *options.type != c.type_id) return;
    if ((options.is_nonzero && c.value == 0) || !contains(c.label, options.word)) return;
    counters.add({c.id, c.type_id, c.value, c.label});
  });
  context.out.print(counters, "no counter matches");
  if (!instance->has_registry() || options.type) return Exit::kOk;
  Table lanes{"lane_counters", {{"name", "COUNTER"}, {"value", "VALUE", Unit::kCount}, {"unit", "UNIT"}, {"help", "MEANING"}}};
  for (std::size_t i = 0; i < shm::kLaneCounterCount; ++i) {
    const auto& info = shm::kLaneCounters[i];
    const std::uint64_t value = lane_total(instance->registry(), i);
    if ((options.is_nonzero && value == 0) || !(contains(info.name, options.word) || contains(info.help, options.word))) continue;
    lanes.add({info.name, value, info.unit, info.help});
  }
  if (!lanes.is_empty()) context.out.line("");
  context.out.print(lanes, "no lane counter matches");
  return Exit::kOk;
}

// ---- drops ----
struct DropOptions {
  bool is_all{};
  bool is_by_lane{};
};

Table lane_drops(const shm::Registry& registry, const DropOptions& options) {
  std::vector<Column> columns{{"name", "REASON"}, {"count", "COUNT", Unit::kCount}, {"unit", "UNIT"}, {"help", "MEANING"}};
  if (options.is_by_lane) columns.insert(columns.begin(), {"lane", "LANE", Unit::kCount});
  Table table{"drops", std::move(columns)};
  const auto add = [&](std::optional<std::uint32_t> lane, const auto& info, std::uint64_t count) {
    if (count == 0 && !options.is_all) return;
    std::vector<Cell> row{info.name, Cell{count}.styled(count == 0 ? Style::kFaint : Style::kWarn), info.unit, info.help};
    if (lane) row.insert(row.begin(), Cell{*lane});
    table.add(std::move(row));
  };
  for (std::size_t i = 0; i < shm::kLaneCounterCount; ++i) {
    const auto& info = shm::kLaneCounters[i];
    if (!info.name.starts_with("drop_")) continue;
    if (!options.is_by_lane) add(std::nullopt, info, lane_total(registry, i));
    for (std::uint32_t lane = 0; options.is_by_lane && lane < lane_count(registry); ++lane) add(lane, info, lane_value(registry.lanes[lane], i));
  }
  return table;
}

// What a port lost before a lane saw it, or after a lane gave it away.
struct PortReason {
  std::string_view name;
  std::atomic<std::uint64_t> shm::PortSlot::*counter;
  std::string_view help;
};
constexpr std::array<PortReason, 6> kPortReasons{{
    {"rx_missed", &shm::PortSlot::rx_missed, "no room where frames wait for the lane: raise ring-size (devices), or socket-rcvbuf and net.core.rmem_max (kernel and loopback ports)"},
    {"rx_no_buffer", &shm::PortSlot::rx_no_buffer, "no packet buffer for a received frame: dataplane.packet-buffers is too small"},
    {"rx_errors", &shm::PortSlot::rx_errors, "the device received broken frames: cable, switch or peer"},
    {"tx_errors", &shm::PortSlot::tx_errors, "the device or the kernel did not take a frame"},
    {"impaired_lost", &shm::PortSlot::impaired_lost, "lost on purpose: the port's impair.loss"},
    {"impaired_corrupted", &shm::PortSlot::impaired_corrupted, "changed on purpose: the port's impair.corrupt"},
}};

Table port_drops(const shm::Registry& registry, bool is_all) {
  Table table{"port_drops", {{"port", "PORT"}, {"name", "REASON"}, {"count", "COUNT", Unit::kCount}, {"unit", "UNIT"}, {"help", "MEANING"}}};
  for (std::uint32_t i = 0; i < port_count(registry); ++i) {
    const shm::PortSlot& port = registry.ports[i];
    for (const PortReason& reason : kPortReasons) {
      const std::uint64_t count = (port.*reason.counter).load(std::memory_order_relaxed);
      if (count == 0 && !is_all) continue;
      table.add({text_of(port.name), reason.name, Cell{count}.styled(count == 0 ? Style::kFaint : Style::kWarn), "frames", reason.help});
    }
  }
  return table;
}

Exit drops(Context& context, const DropOptions& options) {
  const auto instance = Instance::open_with_registry(context);
  if (!instance) return context.out.fail("drops", instance.error());
  context.out.print(lane_drops(instance->registry(), options), "no lane dropped anything");
  context.out.line("");
  context.out.print(port_drops(instance->registry(), options.is_all), "no port dropped anything");
  return Exit::kOk;
}

// ---- errors ----
Exit errors(Context& context) {
  const auto instance = Instance::open(context);
  if (!instance) return context.out.fail("errors", instance.error());
  Table table{"errors", {{"count", "COUNT", Unit::kCount}, {"first_ms", "FIRST", Unit::kTimeMs}, {"last_ms", "LAST", Unit::kTimeMs}, {"text", "ERROR"}}};
  shm::read_error_log(instance->cnc().error_log(),
                      [&](const shm::ErrorLogEntry& e) { table.add({e.observation_count, e.first_ms, e.last_ms, e.text}); });
  context.out.print(table, "no errors");
  return Exit::kOk;
}

// ---- loss ----
Exit loss(Context& context) {
  const auto instance = Instance::open(context);
  if (!instance) return context.out.fail("loss", instance.error());
  const auto file = shm::MappedFile::open(instance->directory() + "/loss-report.dat", shm::MappedFile::Access::kReadOnly);
  if (!file) return context.out.fail("loss", file.error());
  Table table{"losses",
              {{"session_id", "SESSION", Unit::kCount},
               {"stream_id", "STREAM", Unit::kCount},
               {"observations", "GAPS", Unit::kCount},
               {"bytes_lost", "BYTES", Unit::kBytes},
               {"first_ms", "FIRST", Unit::kTimeMs},
               {"last_ms", "LAST", Unit::kTimeMs},
               {"source", "SOURCE"},
               {"channel", "CHANNEL"}}};
  const auto visit = [](void* to, const shm::LossReportEntry& e) {
    static_cast<Table*>(to)->add({e.session_id, e.stream_id, e.observation_count, e.bytes_lost, e.first_ms, e.last_ms, e.source, e.channel});
  };
  shm::read_loss_report({file->data(), file->length()}, visit, &table);
  context.out.print(table, "no loss");
  return Exit::kOk;
}

}  // namespace

void register_counters(CLI::App& root, Context& context) {
  {
    CLI::App* verb = root.add_subcommand("stat", "Counters: the stock ones and the appliance's own");
    const auto options = std::make_shared<StatOptions>();
    verb->add_option("word", options->word, "Only counters whose name, label or meaning contains this");
    verb->add_option("--type", options->type, "Only stock counters of this type id")->type_name("ID");
    verb->add_flag("--nonzero", options->is_nonzero, "Leave out counters that are 0");
    set_example(*verb, "stat nak --nonzero");
    on_run_watched(*verb, context, [&context, options] { return stat(context, *options); });
  }
  {
    CLI::App* verb = root.add_subcommand("drops", "Where frames were dropped and why, in words");
    const auto options = std::make_shared<DropOptions>();
    verb->add_flag("--all", options->is_all, "Also the reasons that did not occur");
    verb->add_flag("--by-lane", options->is_by_lane, "One row for each lane instead of their sum");
    set_example(*verb, "drops --by-lane --watch 5s");
    on_run_watched(*verb, context, [&context, options] { return drops(context, *options); });
  }
  {
    CLI::App* verb = root.add_subcommand("errors", "Distinct errors with count, first and last time");
    set_example(*verb, "errors --json");
    on_run_watched(*verb, context, [&context] { return errors(context); });
  }
  {
    CLI::App* verb = root.add_subcommand("loss", "What each image lost and had repaired");
    set_example(*verb, "loss --watch 5s");
    on_run_watched(*verb, context, [&context] { return loss(context); });
  }
}

}  // namespace thalweg::cli
