// thalweg stream list: every publication and image, how far it is, and who holds it back.
#include "controlplane/cli/instance.hpp"
#include "controlplane/cli/verbs.hpp"

namespace thalweg::cli {
namespace {

struct Filter {
  std::optional<std::int32_t> session;
  std::optional<std::int32_t> stream;
  bool is_backlogged{};
};

Exit list(Context& context, const Filter& filter) {
  const auto instance = Instance::open_with_registry(context);
  if (!instance) return context.out.fail("stream list", instance.error());
  Table table{"streams",
              {{"kind", "KIND"},
               {"session_id", "SESSION", Unit::kCount},
               {"stream_id", "STREAM", Unit::kCount},
               {"state", "STATE"},
               {"is_connected", "CONNECTED"},
               {"position", "POSITION", Unit::kCount},
               {"backlog_bytes", "BACKLOG", Unit::kBytes},
               {"window_left_bytes", "WINDOW", Unit::kBytes},
               {"consumers", "CONSUMERS", Unit::kCount},
               {"held_by", "HELD BY"},
               {"source", "SOURCE"},
               {"channel", "CHANNEL"}}};
  Table sides{"sides",
              {{"session_id", "SESSION", Unit::kCount},
               {"stream_id", "STREAM", Unit::kCount},
               {"channel", "BY"},
               {"silent_ns", "SILENT", Unit::kDuration},
               {"frames_won", "WON", Unit::kCount},
               {"bytes_won", "BYTES WON", Unit::kBytes},
               {"fills", "FILLS", Unit::kCount},
               {"copies", "COPIES", Unit::kCount},
               {"late_ns_mean", "LATE", Unit::kDuration},
               {"late_ns_max", "LATE MAX", Unit::kDuration}}};
  bool has_sides = false;
  for (const StreamView& s : streams_of(*instance)) {
    if (filter.session && *filter.session != s.session_id) continue;
    if (filter.stream && *filter.stream != s.stream_id) continue;
    if (filter.is_backlogged && s.backlog_bytes == 0) continue;
    const Style style = s.state == "failed" || s.state == "quarantined" ? Style::kBad : s.state == "active" ? Style::kGood : Style::kFaint;
    table.add({s.kind, s.session_id, s.stream_id, Cell{s.state}.styled(style), s.is_connected, s.position, s.backlog_bytes, s.window_left_bytes,
               s.consumers, s.held_by.empty() ? Cell{} : Cell{s.held_by}.styled(Style::kWarn),
               s.source.empty() ? Cell{} : Cell{s.source}, s.channel});
    for (const StreamView::Side& side : s.sides) {
      has_sides = true;
      sides.add({s.session_id, s.stream_id, side.channel, side.silent_ns, side.frames_won, side.bytes_won, side.fills, side.copies, side.late_ns_mean, side.late_ns_max});
    }
  }
  context.out.print(table, "no streams");
  if (has_sides || context.out.is_json()) context.out.print(sides, "no sides");
  return Exit::kOk;
}

}  // namespace

void register_stream(CLI::App& root, Context& context) {
  CLI::App* noun = root.add_subcommand("stream", "Publications and images")->require_subcommand(1);
  CLI::App* verb = noun->add_subcommand("list", "List streams, their positions, and who holds each back");
  const auto filter = std::make_shared<Filter>();
  verb->add_option("--session", filter->session, "Only this session id")->type_name("ID");
  verb->add_option("--stream", filter->stream, "Only this stream id")->type_name("ID");
  verb->add_flag("--backlogged", filter->is_backlogged, "Only streams with bytes waiting");
  set_example(*verb, "stream list --backlogged --watch");
  on_run_watched(*verb, context, [&context, filter] { return list(context, *filter); });
}

}  // namespace thalweg::cli
