// thalweg archive replicate | replications | stop-replication: recordings of other archives copied into the one of the running instance.
#include <fmt/format.h>

#include <optional>
#include <thread>

#include "controlplane/cli/archive_access.hpp"
#include "controlplane/cli/progress_bar.hpp"
#include "controlplane/cli/traffic.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::cli {
namespace {

using api::Json;

constexpr std::int64_t kLookInterval_ns = 100 * kMillisecond_ns;
constexpr std::int64_t kStopPause_ns = 10 * kMillisecond_ns;

struct ReplicateOptions {
  std::int64_t recording{};
  std::string source_channel;
  std::int32_t source_stream{10};
  std::string response_channel;
  std::optional<std::int64_t> into;
  std::optional<std::uint64_t> stop_position;
  bool is_followed{};
  bool is_detached{};
};

Cell number_of(const Json& replication, const char* key) {
  const auto found = replication.find(key);
  return found != replication.end() && found->is_number() ? Cell{found->get<std::int64_t>()} : Cell{};
}

Style style_of(std::string_view state) {
  return state == "replicating" || state == "done" ? Style::kGood : state == "failed" ? Style::kBad : state == "waiting" ? Style::kWarn : Style::kPlain;
}

void print(Output& out, const Json& replication) {
  const auto state = replication.value("state", std::string{});
  const auto error = replication.value("error", std::string{});
  out.value("replication", "replication", number_of(replication, "replication"), Unit::kCount);
  out.value("state", "state", Cell{state}.styled(style_of(state)));
  out.value("error", "error", error.empty() ? Cell{} : Cell{error});
  out.value("source_recording", "recording there", number_of(replication, "source_recording"), Unit::kCount);
  out.value("source_channel", "source", replication.value("source_channel", std::string{}));
  out.value("recording", "recording here", number_of(replication, "recording"), Unit::kCount);
  out.value("position", "position", number_of(replication, "position"), Unit::kCount);
  out.value("verified_position", "compared up to", number_of(replication, "verified_position"), Unit::kCount);
  out.value("source_position", "source's position", number_of(replication, "source_position"), Unit::kCount);
  out.value("stop_position", "stop position", number_of(replication, "stop_position"), Unit::kCount);
  out.value("breaks", "breaks", number_of(replication, "breaks"), Unit::kCount);
}

Result<Json> look_for(const Context& context, const ArchiveOptions& place, std::int64_t id) {
  auto answer = ask_archive(context, place, "archive-replications");
  if (!answer) return answer;
  const Json replications = answer->value("replications", Json::array());
  for (const Json& one : replications)
    if (one.value("replication", std::int64_t{-1}) == id) return one;
  return fail(ErrorCode::kNotFound, fmt::format("replication {} is forgotten: many others ended since", id));
}

// How far it is of how far it goes.
void show(ProgressBar& bar, const Json& replication, std::optional<std::uint64_t>& begin) {
  if (!replication.at("stop_position").is_number() || replication.value("state", std::string{}) != "replicating") return;
  const auto position = replication.value("position", std::uint64_t{0});
  const auto stop = replication.at("stop_position").get<std::uint64_t>();
  if (!begin) begin = position;
  bar.update(position - std::min(*begin, position), stop - std::min(*begin, stop));
}

Exit replicate(Context& context, const ArchiveOptions& place, const ReplicateOptions& options) {
  Json args{{"recording", options.recording}, {"source_channel", options.source_channel}, {"source_stream", options.source_stream}, {"response_channel", options.response_channel}, {"follow", options.is_followed}};
  if (options.into) args["into"] = *options.into;
  if (options.stop_position) args["stop_position"] = *options.stop_position;
  static_cast<void>(is_interrupted());  // from here on Ctrl-C ends it in order
  auto replication = ask_archive(context, place, "archive-replicate", args);
  if (!replication) return context.out.fail("archive replicate", replication.error());
  const auto id = replication->value("replication", std::int64_t{-1});
  if (options.is_detached) {
    print(context.out, *replication);
    return Exit::kOk;
  }
  ProgressBar bar{context.out, fmt::format("replication {} of recording {}", id, options.recording)};
  std::optional<std::uint64_t> begin;
  std::string told;
  bool is_told_to_stop = false;
  for (;;) {
    if (is_interrupted() && !std::exchange(is_told_to_stop, true)) static_cast<void>(ask_archive(context, place, "archive-stop-replication", {{"replication", id}}));  // it may have ended by itself
    replication = look_for(context, place, id);
    if (!replication) return context.out.fail("archive replicate", replication.error());
    const auto state = replication->value("state", std::string{});
    if (state != "connecting" && state != "replicating" && state != "waiting") break;
    if (const auto error = replication->value("error", std::string{}); !error.empty() && error != std::exchange(told, error)) context.out.note("thalweg archive: waiting: " + error);
    show(bar, *replication, begin);
    if (is_told_to_stop) std::this_thread::sleep_for(std::chrono::nanoseconds{kStopPause_ns});  // the other kind does not sleep any more
    else sleep_interruptible(kLookInterval_ns);
  }
  print(context.out, *replication);
  const auto error = replication->value("error", std::string{});
  return error.empty() ? Exit::kOk : context.out.fail("archive replicate", {ErrorCode::kGeneric, error, {}});
}

Exit replications(Context& context, const ArchiveOptions& place) {
  const auto answer = ask_archive(context, place, "archive-replications");
  if (!answer) return context.out.fail("archive replications", answer.error());
  Table table{"replications",
              {{"replication", "ID", Unit::kCount}, {"state", "STATE"}, {"source_recording", "THERE", Unit::kCount}, {"recording", "HERE", Unit::kCount}, {"position", "POSITION", Unit::kCount},
               {"verified_position", "COMPARED", Unit::kCount}, {"source_position", "SOURCE AT", Unit::kCount}, {"stop_position", "STOP", Unit::kCount}, {"breaks", "BREAKS", Unit::kCount},
               {"start_ms", "SINCE", Unit::kTimeMs}, {"source_channel", "SOURCE"}, {"error", "ERROR"}}};
  const Json all = answer->value("replications", Json::array());
  for (const Json& one : all) {
    const auto state = one.value("state", std::string{});
    const auto error = one.value("error", std::string{});
    table.add({number_of(one, "replication"), Cell{state}.styled(style_of(state)), number_of(one, "source_recording"), number_of(one, "recording"), number_of(one, "position"),
               number_of(one, "verified_position"), number_of(one, "source_position"), number_of(one, "stop_position"), number_of(one, "breaks"),
               one.value("start_ns", std::int64_t{0}) / kMillisecond_ns, one.value("source_channel", std::string{}), error.empty() ? Cell{} : Cell{error}});
  }
  context.out.print(table, "no replications");
  return Exit::kOk;
}

}  // namespace

void register_archive_replication(CLI::App& noun, Context& context) {
  const auto place = std::make_shared<ArchiveOptions>();
  CLI::App* verb = noun.add_subcommand("replicate", "Copy a recording of another archive into this one's, and compare checksums of both");
  const auto options = std::make_shared<ReplicateOptions>();
  verb->add_option("recording", options->recording, "Its number there")->required()->type_name("ID");
  verb->add_option("--from", options->source_channel, "Where the other archive listens: its archive.remote-control-channel")->required()->type_name("URI");
  verb->add_option("--from-stream", options->source_stream, "The stream id there: its archive.control-stream")->type_name("ID")->capture_default_str();
  verb->add_option("--response", options->response_channel, "Where its answers and frames come in here, as aeron:udp?endpoint=10.0.0.2:0; port 0 takes a free one")->required()->type_name("URI");
  verb->add_option("--into", options->into, "Go on with this recording of the same stream; default: a new one")->type_name("ID");
  verb->add_option("--stop-position", options->stop_position, "End there; default: where the other recording is now")->type_name("POSITION");
  verb->add_flag("--follow", options->is_followed, "Go on as long as the other recording is written");
  verb->add_flag("--detach", options->is_detached, "Do not wait for its end");
  add_archive_socket(*verb, *place);
  set_example(*verb, "archive replicate 3 --from 'aeron:udp?endpoint=10.0.0.1:8010' --response 'aeron:udp?endpoint=10.0.0.2:0' --follow --detach");
  on_run(*verb, context, [&context, place, options] { return replicate(context, *place, *options); });

  verb = noun.add_subcommand("replications", "List the replications that run and those that ended last");
  add_archive_socket(*verb, *place);
  set_example(*verb, "archive replications --watch");
  on_run_watched(*verb, context, [&context, place] { return replications(context, *place); });

  verb = noun.add_subcommand("stop-replication", "End a replication; what is there stays");
  const auto id = std::make_shared<std::int64_t>(-1);
  verb->add_option("replication", *id, "Its number")->required()->type_name("ID");
  add_archive_socket(*verb, *place);
  set_example(*verb, "archive stop-replication 2");
  on_run(*verb, context, [&context, place, id] {
    const auto answer = ask_archive(context, *place, "archive-stop-replication", {{"replication", *id}});
    return answer ? Exit::kOk : context.out.fail("archive stop-replication", answer.error());
  });
}

}  // namespace thalweg::cli
