// thalweg trace: the frames of a port in words, as they pass or out of a pcapng file.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "controlplane/cli/captures.hpp"
#include "controlplane/cli/frame_text.hpp"
#include "controlplane/cli/pcapng_reader.hpp"
#include "controlplane/cli/verbs.hpp"

namespace thalweg::cli {
namespace {

constexpr std::int64_t kPoll_ns = 20 * kMillisecond_ns;
constexpr std::int64_t kFileMax = 256LL << 20;  // of the live trace's file, which lies beside the instance's

struct TraceOptions {
  std::string port;
  std::string file;
  std::string socket;
  std::vector<std::string> types;
  std::optional<std::int32_t> session_id;
  std::optional<std::int32_t> stream_id;
  std::uint64_t count{};
  std::int64_t duration_ns{};
};

// Prints what the filter lets pass; true: it has printed as many as were wanted.
class Printer {
 public:
  Printer(Context& context, const TraceOptions& options) : context_{context}, options_{options} {}

  bool print(const PcapngFrame& frame) {
    const DatagramText datagram = text_of_frame(frame.bytes);
    for (const FrameText& one : datagram.frames) {
      if (!is_wanted(one)) continue;
      print(frame, datagram, one);
      if (options_.count != 0 && ++printed_ >= options_.count) return true;
    }
    return false;
  }

 private:
  [[nodiscard]] bool is_wanted(const FrameText& frame) const {
    if (options_.session_id && frame.session_id != options_.session_id) return false;
    if (options_.stream_id && frame.stream_id != options_.stream_id) return false;
    return options_.types.empty() || std::find(options_.types.begin(), options_.types.end(), frame.type) != options_.types.end();
  }
  void print(const PcapngFrame& frame, const DatagramText& datagram, const FrameText& one) {
    const std::string_view direction = frame.is_outbound ? "out" : "in";
    if (context_.out.is_json()) {
      nlohmann::ordered_json json{{"epoch_ns", frame.epoch_ns}, {"direction", direction}, {"source", datagram.source}, {"destination", datagram.destination},
                                  {"type", one.type}, {"session_id", nullptr}, {"stream_id", nullptr}, {"frame_bytes", frame.original_length}, {"text", one.text}};
      if (one.session_id) json["session_id"] = *one.session_id;
      if (one.stream_id) json["stream_id"] = *one.stream_id;
      context_.out.document() = std::move(json);
    } else {
      const std::string stream = one.session_id ? fmt::format(" session {} stream {}", *one.session_id, one.stream_id.value_or(0)) : std::string{};
      context_.out.line(fmt::format("{:%H:%M:%S}.{:09} {:>3} {} > {} {}{}{}{}", fmt::gmtime(frame.epoch_ns / kSecond_ns), frame.epoch_ns % kSecond_ns, direction, datagram.source,
                                    datagram.destination, one.type, stream, one.text.empty() ? "" : ": ", one.text));
    }
    context_.out.flush();
  }

  Context& context_;
  const TraceOptions& options_;
  std::uint64_t printed_{};
};

// Everything that is there now; true: enough was printed.
Result<bool> drain(PcapngReader& reader, Printer& printer) {
  while (!is_interrupted()) {
    auto frame = reader.next();
    if (!frame) return tl::unexpected{frame.error()};
    if (!*frame) return false;
    if (printer.print(**frame)) return true;
  }
  return true;
}

Exit trace_file(Context& context, const TraceOptions& options) {
  auto reader = PcapngReader::open(options.file);
  if (!reader) return context.out.fail("trace", reader.error());
  Printer printer{context, options};
  const auto done = drain(*reader, printer);
  return done ? Exit::kOk : context.out.fail("trace", done.error());
}

// Reads behind the data plane, which writes.
Result<void> follow(Recording& recording, PcapngReader& reader, Printer& printer, std::int64_t duration_ns) {
  const std::int64_t end = monotonic_ns() + duration_ns;
  while (!is_interrupted() && (duration_ns == 0 || monotonic_ns() < end)) {
    if (auto looked = recording.look(); !looked) return looked;
    const bool is_over = recording.is_over();  // before the last read: nothing comes after it
    const auto enough = drain(reader, printer);
    if (!enough) return tl::unexpected{enough.error()};
    if (*enough || is_over) return {};
    sleep_interruptible(kPoll_ns);
  }
  return {};
}

// The file is the data plane's user's: it lies where that one may write.
Exit trace_port(Context& context, const TraceOptions& options) {
  static_cast<void>(is_interrupted());  // from here on Ctrl-C ends the capture in order
  const std::string directory = context.instance_directory();
  auto captures = Captures::connect(options.socket.empty() ? api::default_socket_path(directory) : options.socket);
  if (!captures) return context.out.fail("trace", captures.error());
  const std::string path = fmt::format("{}/trace-{}.pcapng", std::filesystem::absolute(directory).lexically_normal().string(), ::getpid());
  const auto number = captures->start({.port = options.port, .path = path, .byte_limit = static_cast<std::uint64_t>(kFileMax)});
  if (!number) return context.out.fail("trace", number.error());
  Recording recording{*captures, *number};
  auto result = recording.wait_open();
  if (result) {
    auto reader = PcapngReader::open(path);
    Printer printer{context, options};
    result = reader ? follow(recording, *reader, printer, options.duration_ns) : Result<void>{tl::unexpected{reader.error()}};
  }
  const bool is_full = recording.is_over() && result.has_value();
  const auto ended = recording.end();
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
  if (!result) return context.out.fail("trace", result.error());
  if (!ended) return context.out.fail("trace", ended.error());
  if (recording.last().dropped != 0) context.out.note(fmt::format("note: {} frames were not traced, they came too fast", recording.last().dropped));
  if (is_full) context.out.note(fmt::format("note: the trace ends after {} of frames", human_bytes(static_cast<double>(kFileMax))));
  return Exit::kOk;
}

Exit trace(Context& context, TraceOptions options) {
  if (options.port.empty() == options.file.empty()) {
    return context.out.fail("trace", Error{ErrorCode::kInvalidArgument, "which port, or which file?", "thalweg trace PORT, or thalweg trace --file FILE; thalweg top shows the ports"});
  }
  for (std::string& type : options.types) {
    for (char& c : type) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c == '-' ? '_' : c;
  }
  return options.file.empty() ? trace_port(context, options) : trace_file(context, options);
}

}  // namespace

void register_trace(CLI::App& root, Context& context) {
  CLI::App* verb = root.add_subcommand("trace", "Show the frames of a port in words, one a line, as they pass or out of a pcapng file");
  const auto options = std::make_shared<TraceOptions>();
  verb->add_option("port,--port", options->port, "Name of the port")->type_name("PORT");
  verb->add_option("-f,--file", options->file, "Read this pcapng file instead, such as capture writes")->type_name("FILE");
  verb->add_option("--type", options->types, "Only frames of this type, such as setup, sm, nak, data; may be repeated")->type_name("TYPE")->expected(1)->take_all();
  verb->add_option("--session", options->session_id, "Only this session id")->type_name("ID");
  verb->add_option("--stream", options->stream_id, "Only this stream id")->type_name("ID");
  verb->add_option("--count", options->count, "Stop after this many lines")->type_name("N")->check(positive_count());
  add_duration(*verb, "--duration", options->duration_ns, "Stop after this time");
  verb->add_option("--socket", options->socket, "Control socket; default <directory>/control.sock")->type_name("PATH");
  set_example(*verb, "trace a --type nak --type sm --count 100");
  on_run(*verb, context, [&context, options] { return trace(context, *options); });
}

}  // namespace thalweg::cli
