// thalweg stream list | why: every publication and image, how far it is, who holds it back, and what one waits for.
#include <fmt/format.h>

#include "controlplane/cli/instance.hpp"
#include "controlplane/cli/stream_why.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/base/time.hpp"

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
               {"id", "ID", Unit::kCount},
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
    table.add({s.kind, s.id, s.session_id, s.stream_id, Cell{s.state}.styled(style), s.is_connected, s.position, s.backlog_bytes, s.window_left_bytes,
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

// By what `stream list` calls it; else by a session id, which several may have: a publication, and its image on the same machine.
std::vector<StreamView> find_streams(const Instance& instance, std::int64_t id) {
  std::vector<StreamView> by_id;
  std::vector<StreamView> by_session;
  for (StreamView& stream : streams_of(instance)) {
    if (stream.id == id) by_id.push_back(std::move(stream));
    else if (stream.session_id == id) by_session.push_back(std::move(stream));
  }
  return by_id.empty() ? by_session : by_id;
}

nlohmann::ordered_json json_of(const Cause& cause) {
  nlohmann::ordered_json json{{"cause", cause.kind}, {"whom", nullptr}, {"client_id", nullptr}, {"pids", cause.pids}, {"text", cause.text}};
  if (!cause.whom.empty()) json["whom"] = cause.whom;
  if (cause.client_id) json["client_id"] = *cause.client_id;
  return json;
}

void print_causes(Context& context, const StreamView& stream, const std::vector<Cause>& causes) {
  if (context.out.is_json()) {
    nlohmann::ordered_json json{{"kind", stream.kind},   {"id", stream.id},           {"session_id", stream.session_id}, {"stream_id", stream.stream_id},
                                {"state", stream.state}, {"channel", stream.channel}, {"causes", nlohmann::ordered_json::array()}};
    for (const Cause& cause : causes) json["causes"].push_back(json_of(cause));
    context.out.document()["streams"].push_back(std::move(json));
    return;
  }
  context.out.line(fmt::format("{} {}, session {}, stream {}, {}: {}", stream.kind, stream.id, stream.session_id, stream.stream_id, stream.state, stream.channel), Style::kBold);
  for (const Cause& cause : causes) context.out.line("  " + cause.text, cause.kind == "none" ? Style::kGood : Style::kWarn);
}

Exit why(Context& context, std::int64_t id) {
  const auto instance = Instance::open_with_registry(context);
  if (!instance) return context.out.fail("stream why", instance.error());
  const std::vector<StreamView> streams = find_streams(*instance, id);
  if (streams.empty()) return context.out.fail("stream why", Error{ErrorCode::kNotFound, fmt::format("no stream has the id {}, nor the session id", id), "thalweg stream list shows them"});
  for (const StreamView& stream : streams) print_causes(context, stream, causes_of(*instance, stream, monotonic_ns()));
  return Exit::kOk;
}

void register_why(CLI::App& noun, Context& context) {
  CLI::App* verb = noun.add_subcommand("why", "Say in words what a stream waits for, and whom");
  const auto id = std::make_shared<std::int64_t>(0);
  verb->add_option("id", *id, "The stream's id as `stream list` shows it, or its session id")->required()->type_name("ID");
  set_example(*verb, "stream why 42 --watch");
  on_run_watched(*verb, context, [&context, id] { return why(context, *id); });
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
  register_why(*noun, context);
}

}  // namespace thalweg::cli
