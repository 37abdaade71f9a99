// thalweg archive replay, replays, stop-replay, tail: recordings into publications, which the running instance does, or onto standard output and into
// files, which only reads the archive's directory.
#include <fmt/format.h>

#include <ctime>
#include <fstream>
#include <iostream>
#include <thread>

#include "controlplane/cli/archive_access.hpp"
#include "controlplane/cli/pcapng_writer.hpp"
#include "controlplane/cli/progress_bar.hpp"
#include "dataplane/base/bytes.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/base/units.hpp"
#include "dataplane/shm/channel_uri.hpp"
#include "dataplane/wire/ip.hpp"

namespace thalweg::cli {
namespace {

using api::Json;

constexpr std::int64_t kLookInterval_ns = 100 * kMillisecond_ns;
constexpr std::int64_t kFollowPause_ns = 10 * kMillisecond_ns;
constexpr std::uint64_t kBlockBytes = 64U << 10;

struct ReplayOptions {
  std::int64_t recording{};
  std::optional<std::uint64_t> from;
  std::string from_time;
  std::int64_t length_bytes{};
  bool is_followed{};
  std::vector<std::string> to;      // channel, stream
  std::optional<std::int32_t> limit_counter;
  bool is_detached{};
  bool is_raw{};                    // --stdout
  bool is_text{};
  std::string pcapng;
  bool is_from_end{};               // tail
};

// "2026-11-22T14:03:05.25Z", nanoseconds since 1970, or a duration: so long ago.
Result<std::int64_t> parse_time(const std::string& text) {
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string::npos && text.size() > 15 && text.size() < 20) return std::stoll(text);
  if (const auto ago = parse_duration_ns(text)) return epoch_ms() * kMillisecond_ns - *ago;
  std::tm fields{};
  const char* const rest = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &fields);
  const auto invalid = [&] { return fail(ErrorCode::kInvalidArgument, "'" + text + "' is no time", "2026-11-22T14:03:05.25Z (UTC), nanoseconds since 1970, or how long ago: 10m"); };
  if (rest == nullptr) return invalid();
  std::string tail{rest};
  if (!tail.empty() && tail.back() == 'Z') tail.pop_back();
  std::int64_t fraction_ns = 0;
  if (!tail.empty()) {
    if (tail.front() != '.' || tail.size() < 2 || tail.size() > 10 || tail.find_first_not_of("0123456789", 1) != std::string::npos) return invalid();
    tail.resize(10, '0');
    fraction_ns = std::stoll(tail.substr(1));
  }
  return ::timegm(&fields) * kSecond_ns + fraction_ns;
}

// ---- onto standard output and into files ----

// What becomes of the frames of a recording.
class FrameSink {
 public:
  FrameSink() = default;
  FrameSink(const FrameSink&) = delete;
  FrameSink& operator=(const FrameSink&) = delete;
  virtual ~FrameSink() = default;
  // One data frame with its header.
  virtual void take(std::span<const std::byte> frame, std::uint64_t position, std::int64_t time_ns) = 0;
  // Hands on what was taken. False: that cannot be.
  virtual bool flush() = 0;
};

// Whole messages: their bytes, or a line for each.
class MessageSink : public FrameSink {
 public:
  MessageSink(Context& context, bool is_text) : context_{context}, is_text_{is_text} {}
  void take(std::span<const std::byte> frame, std::uint64_t position, std::int64_t time_ns) override {
    const auto flags = static_cast<unsigned>(frame[5]);
    if ((flags & 0x80U) != 0) {
      message_.clear();
      begin_ = position;
      is_begun_ = true;
    }
    if (!is_begun_) return;  // the recording, or what is wanted of it, begins inside a message
    message_.append(reinterpret_cast<const char*>(frame.data()) + log::kFrameHeaderBytes, frame.size() - log::kFrameHeaderBytes);
    if ((flags & 0x40U) == 0) return;
    is_begun_ = false;
    if (!is_text_) std::cout.write(message_.data(), static_cast<std::streamsize>(message_.size()));
    else line(load_le<std::int64_t>(frame.data() + 24), time_ns);
  }
  bool flush() override {
    std::cout.flush();
    return std::cout.good();
  }

 private:
  void line(std::int64_t reserved_value, std::int64_t time_ns) {
    if (context_.out.is_json()) {
      nlohmann::ordered_json row{{"position", begin_}, {"time_ns", time_ns}, {"reserved_value", reserved_value}, {"length", message_.size()}, {"payload", printable()}};
      std::cout << row.dump() << '\n';
      return;
    }
    std::cout << fmt::format("{} {:>12} {}\n", human_time(time_ns / kMillisecond_ns), begin_, printable());
  }
  [[nodiscard]] std::string printable() const {
    std::string text;
    for (const char c : message_) {
      if (c >= ' ' && c <= '~' && c != '\\') text += c;
      else text += fmt::format("\\x{:02x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    }
    return text;
  }
  Context& context_;
  bool is_text_;
  bool is_begun_{};
  std::uint64_t begin_{};
  std::string message_;
};

// An address and port of a channel or source for the headers of a capture, which a recording does not have.
wire::UdpEndpoint endpoint_of(const std::string& text, std::uint16_t otherwise) {
  constexpr std::uint32_t kLocalhost = 0x7F000001;
  const auto parsed = shm::parse_host_port(text);
  if (!parsed || parsed->is_ipv6) return {kLocalhost, otherwise};
  return {parse_ipv4(parsed->host).value_or(kLocalhost), parsed->port};
}

class PcapngSink : public FrameSink {
 public:
  PcapngSink(const std::string& path, const archive::Recording& recording) : file_{path, std::ios::binary | std::ios::trunc}, writer_{file_} {
    constexpr std::uint16_t kSourcePort = 40'000, kDestinationPort = 40'001;
    const auto uri = shm::ChannelUri::parse(recording.channel);
    wire::UdpFrameTemplate::Options options;
    options.source_mac = {{0x02, 0, 0, 0, 0, 1}};
    options.destination_mac = {{0x02, 0, 0, 0, 0, 2}};
    options.source = endpoint_of(recording.source_identity, kSourcePort);
    options.destination = endpoint_of(uri ? std::string{uri->get("endpoint").value_or("")} : std::string{}, kDestinationPort);
    headers_ = wire::UdpFrameTemplate{options};
  }
  [[nodiscard]] bool is_open() const { return file_.good(); }
  void take(std::span<const std::byte> frame, std::uint64_t, std::int64_t time_ns) override {
    packet_.resize(headers_.length() + frame.size());
    headers_.write(packet_.data(), frame.size());
    std::copy(frame.begin(), frame.end(), packet_.begin() + static_cast<std::ptrdiff_t>(headers_.length()));
    writer_.add(time_ns, packet_);
  }
  bool flush() override {
    file_.flush();
    return file_.good();
  }

 private:
  std::ofstream file_;
  PcapngWriter writer_;
  wire::UdpFrameTemplate headers_;
  std::vector<std::byte> packet_;
};

// Walks a recording in its files.
class LocalReplay {
 public:
  LocalReplay(Context& context, log::FileSystem& files, std::string directory, const archive::RecordingView& view, const ReplayOptions& options)
      : context_{context}, files_{files}, directory_{std::move(directory)}, view_{view}, options_{options} {}

  Result<void> run(FrameSink& sink) {
    auto reader = archive::read_recording(files_, directory_, view_.recording);
    if (!reader) return tl::unexpected{std::move(reader.error())};
    if (auto found = find_place(*reader); !found) return found;
    const std::uint64_t begin = reader->position();
    std::uint64_t stop = options_.is_followed ? UINT64_MAX : reader->limit();
    if (options_.length_bytes > 0) stop = std::min(stop, begin + static_cast<std::uint64_t>(options_.length_bytes));
    const bool is_to_terminal = options_.pcapng.empty() && context_.out.is_terminal();
    std::optional<ProgressBar> bar;
    if (!is_to_terminal && stop != UINT64_MAX) bar.emplace(context_.out, text_of(view_));
    while (!is_interrupted() && reader->position() < stop) {
      const bool is_live = options_.is_followed && is_written();  // asked first: what is read afterwards is all there will be
      auto block = reader->next(std::min(kBlockBytes, stop - reader->position()));
      if (!block) return tl::unexpected{std::move(block.error())};
      if (!*block) {
        if (!sink.flush()) break;
        if (!is_live) return {};
        sleep_interruptible(kFollowPause_ns);
        continue;
      }
      take(sink, **block);
      if (bar) bar->update(reader->position() - begin, stop - begin);
      if (!std::cout.good()) break;
    }
    return sink.flush() ? Result<void>{} : fail(ErrorCode::kIo, "what was read cannot be written");
  }

 private:
  Result<void> find_place(log::FrameReader& reader) {
    if (options_.is_from_end) return reader.seek(reader.limit());
    if (options_.from) return reader.seek(*options_.from);
    if (options_.from_time.empty()) return {};
    const auto time = parse_time(options_.from_time);
    if (!time) return tl::unexpected{time.error()};
    return reader.seek_time(*time);
  }
  // Whether the archive still writes it; looked at now and then.
  bool is_written() {
    const std::int64_t now_ns = monotonic_ns();
    if (now_ns < next_look_ns_) return is_written_;
    next_look_ns_ = now_ns + kLookInterval_ns;
    const auto view = archive::view_recording(files_, directory_, view_.recording.id);
    return is_written_ = view && view->recording.is_active();
  }
  static void take(FrameSink& sink, const log::FrameBlock& block) {
    if (block.is_padding) return;
    for (std::uint64_t at = 0; at + log::kFrameHeaderBytes <= block.frames.size();) {
      const auto length = load_le<std::uint32_t>(block.frames.data() + at);
      if (load_le<std::uint16_t>(block.frames.data() + at + 6) == 1) sink.take(block.frames.subspan(at, length), block.position + at, block.time_ns);
      at += align_up<std::uint64_t>(length, log::kFrameAlignment);
    }
  }

  Context& context_;
  log::FileSystem& files_;
  std::string directory_;
  const archive::RecordingView& view_;
  const ReplayOptions& options_;
  bool is_written_{true};
  std::int64_t next_look_ns_{};
};

Exit replay_here(Context& context, const ArchiveOptions& place, const ReplayOptions& options, const char* verb) {
  static_cast<void>(is_interrupted());  // from here on Ctrl-C ends it in order
  const auto directory = archive_directory(context, place);
  if (!directory) return context.out.fail(verb, directory.error());
  const auto files = log::make_plain_file_system();
  const auto view = archive::view_recording(*files, *directory, options.recording);
  if (!view) return context.out.fail(verb, view.error());
  LocalReplay replay{context, *files, *directory, *view, options};
  Result<void> done;
  if (options.pcapng.empty()) {
    MessageSink sink{context, options.is_text};
    done = replay.run(sink);
  } else {
    PcapngSink sink{options.pcapng, view->recording};
    if (!sink.is_open()) return context.out.fail(verb, {ErrorCode::kPermission, options.pcapng + ": cannot be written", "give an existing directory that you may write to"});
    done = replay.run(sink);
  }
  return done ? Exit::kOk : context.out.fail(verb, done.error());
}

// ---- into a publication ----

Result<Json> request_of(const ReplayOptions& options) {
  Json args{{"recording", options.recording}, {"channel", options.to.at(0)}, {"follow", options.is_followed}};
  std::size_t used = 0;
  try {
    args["stream_id"] = std::stoi(options.to.at(1), &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used != options.to.at(1).size()) return fail(ErrorCode::kInvalidArgument, "'" + options.to.at(1) + "' is no stream id", "--to CHANNEL STREAM");
  if (options.from) args["position"] = *options.from;
  if (options.length_bytes > 0) args["length"] = options.length_bytes;
  if (options.limit_counter) args["limit_counter"] = *options.limit_counter;
  if (options.from_time.empty()) return args;
  const auto time = parse_time(options.from_time);
  if (!time) return tl::unexpected{time.error()};
  args["time_ns"] = *time;
  return args;
}

void print(Output& out, const Json& replay) {
  const auto number = [&](const char* key) { return replay.contains(key) && replay[key].is_number() ? Cell{replay[key].get<std::int64_t>()} : Cell{}; };
  out.value("replay", "replay", number("replay"), Unit::kCount);
  out.value("recording", "recording", number("recording"), Unit::kCount);
  out.value("state", "state", replay.value("state", std::string{}));
  out.value("channel", "channel", replay.value("channel", std::string{}));
  out.value("stream_id", "stream", number("stream_id"), Unit::kCount);
  out.value("session_id", "session", number("session_id"), Unit::kCount);
  out.value("start_position", "start position", number("start_position"), Unit::kCount);
  out.value("position", "position", number("position"), Unit::kCount);
  out.value("stop_position", "stop position", number("stop_position"), Unit::kCount);
}

Result<Json> look_for(const Context& context, const ArchiveOptions& place, std::int64_t id) {
  auto answer = ask_archive(context, place, "archive-replays");
  if (!answer) return answer;
  const Json replays = answer->value("replays", Json::array());
  for (const Json& one : replays)
    if (one.value("replay", std::int64_t{-1}) == id) return one;
  return fail(ErrorCode::kNotFound, fmt::format("replay {} is forgotten: many others ended since", id));
}

Exit replay_there(Context& context, const ArchiveOptions& place, const ReplayOptions& options) {
  const auto args = request_of(options);
  if (!args) return context.out.fail("archive replay", args.error());
  static_cast<void>(is_interrupted());
  auto replay = ask_archive(context, place, "archive-replay", *args);
  if (!replay) return context.out.fail("archive replay", replay.error());
  const auto id = replay->value("replay", std::int64_t{-1});
  const auto begin = replay->value("start_position", std::uint64_t{0});
  if (options.is_detached) {
    print(context.out, *replay);
    return Exit::kOk;
  }
  ProgressBar bar{context.out, fmt::format("replay {} of recording {}", id, options.recording)};
  bool is_told_to_stop = false;
  for (;;) {
    if (is_interrupted() && !std::exchange(is_told_to_stop, true)) static_cast<void>(ask_archive(context, place, "archive-stop-replay", {{"replay", id}}));  // it may have ended by itself
    replay = look_for(context, place, id);
    if (!replay) return context.out.fail("archive replay", replay.error());
    const auto state = replay->value("state", std::string{});
    if (state != "connecting" && state != "replaying") break;
    if ((*replay)["stop_position"].is_number()) bar.update(replay->value("position", std::uint64_t{0}) - begin, (*replay)["stop_position"].get<std::uint64_t>() - begin);
    if (is_told_to_stop) std::this_thread::sleep_for(std::chrono::nanoseconds{kFollowPause_ns});  // the other kind does not sleep any more
    else sleep_interruptible(kLookInterval_ns);
  }
  print(context.out, *replay);
  const auto error = replay->value("error", std::string{});
  return error.empty() ? Exit::kOk : context.out.fail("archive replay", {ErrorCode::kGeneric, error, {}});
}

Exit replay(Context& context, const ArchiveOptions& place, const ReplayOptions& options) {
  const int ways = static_cast<int>(!options.to.empty()) + static_cast<int>(options.is_raw) + static_cast<int>(options.is_text) + static_cast<int>(!options.pcapng.empty());
  if (ways != 1)
    return context.out.fail("archive replay", {ErrorCode::kInvalidArgument, "where to? One of --to, --stdout, --text and --pcapng is needed", "thalweg archive replay 3 --to aeron:ipc 1001"});
  return options.to.empty() ? replay_here(context, place, options, "archive replay") : replay_there(context, place, options);
}

Exit replays(Context& context, const ArchiveOptions& place) {
  const auto answer = ask_archive(context, place, "archive-replays");
  if (!answer) return context.out.fail("archive replays", answer.error());
  Table table{"replays",
              {{"replay", "ID", Unit::kCount}, {"recording", "RECORDING", Unit::kCount}, {"state", "STATE"}, {"session_id", "SESSION", Unit::kCount}, {"stream_id", "STREAM", Unit::kCount},
               {"start_position", "START", Unit::kCount}, {"position", "POSITION", Unit::kCount}, {"stop_position", "STOP", Unit::kCount}, {"start_ms", "SINCE", Unit::kTimeMs},
               {"channel", "CHANNEL"}, {"error", "ERROR"}}};
  const Json all = answer->value("replays", Json::array());
  for (const Json& one : all) {
    const auto state = one.value("state", std::string{});
    const auto error = one.value("error", std::string{});
    const Style style = state == "replaying" ? Style::kGood : state == "failed" ? Style::kBad : Style::kPlain;
    table.add({one.value("replay", 0), one.value("recording", std::int64_t{0}), Cell{state}.styled(style), one.value("session_id", 0), one.value("stream_id", 0),
               one.value("start_position", std::uint64_t{0}), one.value("position", std::uint64_t{0}), one["stop_position"].is_number() ? Cell{one["stop_position"].get<std::uint64_t>()} : Cell{},
               one.value("start_ns", std::int64_t{0}) / kMillisecond_ns, one.value("channel", std::string{}), error.empty() ? Cell{} : Cell{error}});
  }
  context.out.print(table, "no replays");
  return Exit::kOk;
}

void add_place_in_recording(CLI::App& verb, ReplayOptions& options) {
  verb.add_option("recording", options.recording, "Its number")->required()->type_name("ID");
  CLI::Option* const from = verb.add_option("--from", options.from, "Begin with the frame at this position; default: the lowest")->type_name("POSITION");
  verb.add_option("--from-time", options.from_time, "Begin with the first frame recorded then: 2026-11-22T14:03:05.25Z, nanoseconds since 1970, or how long ago, as 10m")
      ->type_name("TIME")
      ->excludes(from);
}

void register_replay(CLI::App& noun, Context& context) {
  CLI::App* const verb = noun.add_subcommand("replay", "Replay a recording into a publication, onto standard output or into a file");
  const auto options = std::make_shared<ReplayOptions>();
  const auto place = std::make_shared<ArchiveOptions>();
  add_place_in_recording(*verb, *options);
  add_size(*verb, "--length", options->length_bytes, "No more than this, to the end of a frame; default: to where the recording ends now");
  verb->add_flag("--follow", options->is_followed, "Go on as long as the recording is written");
  CLI::Option* const to = verb->add_option("--to", options->to, "Into a publication of this channel and stream, at the recording's positions; the running instance does it")->expected(2)->type_name("CHANNEL STREAM");
  verb->add_option("--limit-counter", options->limit_counter, "Send nothing behind the value of this counter of the instance")->type_name("ID")->needs(to);
  verb->add_flag("--detach", options->is_detached, "Do not wait for its end")->needs(to);
  verb->add_flag("--stdout", options->is_raw, "The bytes of the messages, one behind the other");
  verb->add_flag("--text", options->is_text, "A line for each message: when it was recorded, its position, what it says");
  verb->add_option("--pcapng", options->pcapng, "Into a capture file, each frame a datagram")->type_name("FILE");
  add_archive_place(*verb, *place);
  set_example(*verb, "archive replay 3 --from-time 10m --to 'aeron:udp?endpoint=10.0.0.9:40200' 1001");
  on_run(*verb, context, [&context, options, place] { return replay(context, *place, *options); });
}

}  // namespace

void register_archive_replay(CLI::App& noun, Context& context) {
  register_replay(noun, context);
  const auto place = std::make_shared<ArchiveOptions>();

  CLI::App* verb = noun.add_subcommand("replays", "List the replays that run and those that ended last");
  add_archive_socket(*verb, *place);
  set_example(*verb, "archive replays --watch");
  on_run_watched(*verb, context, [&context, place] { return replays(context, *place); });

  verb = noun.add_subcommand("stop-replay", "End a replay, or several");
  const auto id = std::make_shared<std::optional<std::int64_t>>();
  const auto recording = std::make_shared<std::optional<std::int64_t>>();
  const auto is_all = std::make_shared<bool>(false);
  CLI::Option* const one = verb->add_option("replay", *id, "Its number")->type_name("ID");
  CLI::Option* const of = verb->add_option("--recording", *recording, "All of this recording")->type_name("ID")->excludes(one);
  verb->add_flag("--all", *is_all, "All that run")->excludes(one)->excludes(of);
  add_archive_socket(*verb, *place);
  set_example(*verb, "archive stop-replay 5");
  on_run(*verb, context, [&context, place, id, recording, is_all] {
    if (!*id && !*recording && !*is_all) return context.out.fail("archive stop-replay", {ErrorCode::kInvalidArgument, "which replay?", "thalweg archive replays shows them; --all ends all"});
    Json args = Json::object();
    if (*id) args["replay"] = **id;
    if (*recording) args["recording"] = **recording;
    const auto answer = ask_archive(context, *place, "archive-stop-replay", args);
    if (!answer) return context.out.fail("archive stop-replay", answer.error());
    context.out.value("stopped", "stopped", answer->value("stopped", std::int64_t{0}), Unit::kCount);
    return Exit::kOk;
  });

  verb = noun.add_subcommand("tail", "Show the messages of a recording as they are recorded");
  const auto options = std::make_shared<ReplayOptions>();
  add_place_in_recording(*verb, *options);
  add_archive_place(*verb, *place);
  set_example(*verb, "archive tail 3 --from-time 1m");
  on_run(*verb, context, [&context, place, options] {
    options->is_text = options->is_followed = true;
    options->is_from_end = !options->from && options->from_time.empty();
    return replay_here(context, *place, *options, "archive tail");
  });
}

}  // namespace thalweg::cli
