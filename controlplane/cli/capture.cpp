// thalweg capture: what a port sends and receives, into a pcapng file. The data plane writes the file; this verb starts, watches and ends it.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "controlplane/api/control_client.hpp"
#include "controlplane/cli/verbs.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::cli {
namespace {

using api::Json;

constexpr std::int64_t kAnswer_ns = 5 * kSecond_ns;  // for the data plane to open or to finish the file
constexpr std::int64_t kLook_ns = 50 * kMillisecond_ns;

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

// One capture as capture-status describes it.
struct CaptureState {
  std::string state;
  std::string error;
  std::uint64_t frames{};
  std::uint64_t dropped{};
};

class Captures {
 public:
  static Result<Captures> connect(const std::string& socket) {
    auto client = api::ControlClient::connect(socket);
    if (!client) return tl::unexpected{std::move(client.error())};
    return Captures{std::move(*client)};
  }
  Result<std::uint32_t> start(const CaptureOptions& options, const std::string& path) {
    Json args{{"port", options.port}, {"path", path}};
    if (options.snap_length > 0) args["snap_length"] = static_cast<std::uint32_t>(options.snap_length);
    if (options.count > 0) args["frame_limit"] = options.count;
    if (options.byte_limit > 0) args["byte_limit"] = static_cast<std::uint64_t>(options.byte_limit);
    const auto answer = client_.call("capture-start", std::move(args));
    if (!answer) return tl::unexpected{answer.error()};
    return answer->value("capture", std::uint32_t{0});
  }
  Result<void> stop(std::uint32_t number) {
    const auto answer = client_.call("capture-stop", {{"capture", number}});
    if (!answer) return tl::unexpected{answer.error()};
    return {};
  }
  Result<Json> list() {
    const auto answer = client_.call("capture-status");
    if (!answer) return tl::unexpected{answer.error()};
    return answer->value("captures", Json::array());
  }
  // nullopt inside: the capture is over and forgotten.
  Result<std::optional<CaptureState>> look(std::uint32_t number) {
    const auto all = list();
    if (!all) return tl::unexpected{all.error()};
    for (const Json& one : *all) {
      if (one.value("capture", ~std::uint32_t{0}) != number) continue;
      return CaptureState{one.value("state", std::string{}), one.value("error", std::string{}), one.value("frames", std::uint64_t{0}),
                          one.value("dropped", std::uint64_t{0})};
    }
    return std::optional<CaptureState>{};
  }

 private:
  explicit Captures(api::ControlClient client) : client_{std::move(client)} {}
  api::ControlClient client_;
};

// The capture number `number` from its start to its end; `last` is what it had when it was seen last.
class Recording {
 public:
  Recording(Captures& captures, std::uint32_t number) noexcept : captures_{captures}, number_{number} {}
  [[nodiscard]] const CaptureState& last() const noexcept { return last_; }

  // Waits for the file to be open. An error of the data plane is ours.
  Result<void> wait_open() {
    auto answered = look_until([this] { return last_.state != "none"; }, kAnswer_ns);
    if (!answered) return answered;
    if (last_.state == "failed") return fail(ErrorCode::kGeneric, last_.error.empty() ? "the data plane could not start the capture" : last_.error);
    if (last_.state == "none") return fail(ErrorCode::kTimeout, "the data plane did not start the capture", "thalweg top shows whether it runs");
    return {};
  }
  // Until it has its frames, the time is over (0: for ever) or the user interrupts.
  Result<void> follow(std::int64_t duration_ns) {
    auto followed = look_until([this] { return last_.state != "active" || is_interrupted(); }, duration_ns);
    if (followed && last_.state == "failed") return fail(ErrorCode::kIo, "the capture ended early: " + last_.error, "what the file has is whole");
    return followed;
  }
  Result<void> end() {
    // Somebody else may have ended it: thalweg capture --stop.
    if (auto stopped = captures_.stop(number_); !stopped) return stopped.error().code == ErrorCode::kNotFound ? Result<void>{} : stopped;
    return look_until([this] { return last_.state == "done" || last_.state == "failed"; }, kAnswer_ns);
  }

 private:
  template <typename Done>
  Result<void> look_until(Done&& is_done, std::int64_t patience_ns) {
    const std::int64_t deadline = monotonic_ns() + patience_ns;
    while (true) {
      const auto seen = captures_.look(number_);
      if (!seen) return tl::unexpected{seen.error()};
      if (*seen) last_ = **seen;
      else last_.state = "done";
      if (is_done()) return {};
      const std::int64_t left = patience_ns == 0 ? kLook_ns : deadline - monotonic_ns();
      if (left <= 0) return {};
      // Not cut short by Ctrl-C: whoever waits for the end of a capture would ask without a pause.
      std::this_thread::sleep_for(std::chrono::nanoseconds{std::min(left, kLook_ns)});
    }
  }

  Captures& captures_;
  std::uint32_t number_;
  CaptureState last_;
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
  const auto number = captures.start(options, path);
  if (!number) return context.out.fail("capture", number.error());
  Recording recording{captures, *number};
  auto result = recording.wait_open();
  if (result) {
    context.out.note("capturing port " + options.port + " into " + path + (options.is_bounded() ? "" : "; Ctrl-C ends it"));
    result = recording.follow(options.duration_ns);
  }
  const auto ended = recording.end();  // a failed one is let go as well
  if (!result) return context.out.fail("capture", result.error());
  if (!ended) return context.out.fail("capture", ended.error());
  const CaptureState& state = recording.last();
  context.out.value("port", "port", options.port);
  context.out.value("path", "file", path);
  context.out.value("frames", "frames", Cell{state.frames}, Unit::kCount);
  context.out.value("dropped", "not captured", Cell{state.dropped}.styled(state.dropped == 0 ? Style::kPlain : Style::kWarn), Unit::kCount);
  return Exit::kOk;
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
