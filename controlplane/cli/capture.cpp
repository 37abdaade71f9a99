// thalweg capture: what a port sends and receives, into a pcapng file. The data plane writes the file; this verb starts, watches and ends it.
#include <filesystem>

#include "controlplane/cli/captures.hpp"
#include "controlplane/cli/verbs.hpp"

namespace thalweg::cli {
namespace {

using api::Json;

struct CaptureOptions {
  std::string port;
  std::string file;
  std::string socket;
  std::uint64_t count{};
  std::int64_t duration_ns{};
  std::int64_t snap_length{};
  std::int64_t byte_limit{};
  bool is_list{};
  std::optional<std::uint32_t> stop;
  [[nodiscard]] bool is_bounded() const noexcept { return count > 0 || duration_ns > 0 || byte_limit > 0; }
};

Exit list(Context& context, Captures& captures) {
  const auto all = captures.list();
  if (!all) return context.out.fail("capture", all.error());
  Table table{"captures",
              {{"capture", "NUMBER", Unit::kCount}, {"port", "PORT"}, {"state", "STATE"}, {"frames", "FRAMES", Unit::kCount},
               {"dropped", "DROPPED", Unit::kCount}, {"path", "FILE"}, {"error", "ERROR"}}};
  for (const Json& one : *all) {
    table.add({one.value("capture", 0U), one.value("port", std::string{}), one.value("state", std::string{}), one.value("frames", std::uint64_t{0}),
               one.value("dropped", std::uint64_t{0}), one.value("path", std::string{}), one.value("error", std::string{})});
  }
  context.out.print(table, "no captures");
  return Exit::kOk;
}

Exit record(Context& context, Captures& captures, const CaptureOptions& options) {
  if (options.port.empty() || options.file.empty()) {
    return context.out.fail("capture", Error{ErrorCode::kInvalidArgument, "which port, and into which file?", "thalweg capture PORT FILE; thalweg top shows the ports"});
  }
  static_cast<void>(is_interrupted());  // from here on Ctrl-C ends the capture in order
  const std::string path = std::filesystem::absolute(options.file).lexically_normal().string();
  const auto number = captures.start({options.port, path, static_cast<std::uint32_t>(options.snap_length), options.count, static_cast<std::uint64_t>(options.byte_limit)});
  if (!number) return context.out.fail("capture", number.error());
  Recording recording{captures, *number};
  auto result = recording.wait_open();
  if (result) {
    context.out.note("capturing port " + options.port + " into " + path + (options.is_bounded() ? "" : "; Ctrl-C ends it"));
    result = recording.follow(options.duration_ns);
  }
  const auto ended = recording.end();  // a failed one is let go as well
  const CaptureState& state = recording.last();
  if (!state.state.empty() && state.state != "none") {  // what was captured until it ended, however that came
    context.out.value("port", "port", options.port);
    context.out.value("path", "file", path);
    context.out.value("frames", "frames", Cell{state.frames}, Unit::kCount);
    context.out.value("dropped", "not captured", Cell{state.dropped}.styled(state.dropped == 0 ? Style::kPlain : Style::kWarn), Unit::kCount);
  }
  if (!result) return context.out.fail("capture", result.error());
  return ended ? Exit::kOk : context.out.fail("capture", ended.error());
}

Exit capture(Context& context, const CaptureOptions& options) {
  auto captures = Captures::connect(options.socket.empty() ? api::default_socket_path(context.instance_directory()) : options.socket);
  if (!captures) return context.out.fail("capture", captures.error());
  if (options.is_list) return list(context, *captures);
  if (!options.stop) return record(context, *captures, options);
  const auto stopped = captures->stop(*options.stop);
  return stopped ? Exit::kOk : context.out.fail("capture", stopped.error());
}

}  // namespace

void register_capture(CLI::App& root, Context& context) {
  CLI::App* verb = root.add_subcommand("capture", "Write what a port sends and receives into a pcapng file");
  const auto options = std::make_shared<CaptureOptions>();
  verb->add_option("port,--port", options->port, "Name of the port")->type_name("PORT");
  verb->add_option("file,--file", options->file, "File to write; the data plane's user must be allowed to")->type_name("FILE");
  verb->add_option("--count", options->count, "Stop after this many frames")->type_name("N")->check(positive_count());
  add_duration(*verb, "--duration", options->duration_ns, "Stop after this time");
  add_size(*verb, "--file-size", options->byte_limit, "Stop before the file grows beyond this");
  add_size(*verb, "--snap-length", options->snap_length, "Keep only this many bytes of each frame");
  verb->add_flag("--list", options->is_list, "Show the captures that run, and start none");
  verb->add_option("--stop", options->stop, "End the capture of this number")->type_name("NUMBER");
  verb->add_option("--socket", options->socket, "Control socket; default <directory>/control.sock")->type_name("PATH");
  set_example(*verb, "capture a /tmp/a.pcapng --count 1000");
  on_run(*verb, context, [&context, options] { return capture(context, *options); });
}

}  // namespace thalweg::cli
