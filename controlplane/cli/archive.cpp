// thalweg archive: what is recorded, and what the files of recordings say. list, describe and verify read the archive's directory; the other verbs ask the
// running instance.
#include <fmt/format.h>

#include <algorithm>

#include "controlplane/archive/checksum.hpp"
#include "controlplane/cli/archive_access.hpp"
#include "controlplane/cli/progress_bar.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::cli {
namespace {

using api::Json;

Style style_of(std::string_view state) { return state == "active" ? Style::kGood : state == "interrupted" ? Style::kWarn : Style::kPlain; }

void note_findings(Context& context, const std::vector<std::string>& findings) {
  for (const std::string& finding : findings) context.out.note("thalweg archive: " + finding);
}

struct ListFilter {
  std::optional<std::int32_t> stream;
  std::optional<std::int32_t> session;
  std::string channel;
  std::string name;
  bool is_active{};
  [[nodiscard]] bool takes(const archive::RecordingView& view) const {
    const archive::Recording& recording = view.recording;
    if (stream && *stream != recording.stream.stream_id) return false;
    if (session && *session != recording.stream.session_id) return false;
    if (recording.original_channel.find(channel) == std::string::npos) return false;
    if (!name.empty() && name != recording.name) return false;
    return !is_active || recording.is_active();
  }
};

Exit list(Context& context, const ArchiveOptions& options, const ListFilter& filter) {
  const auto directory = archive_directory(context, options);
  if (!directory) return context.out.fail("archive list", directory.error());
  const auto files = log::make_plain_file_system();
  const auto view = archive::view_archive(*files, *directory);
  if (!view) return context.out.fail("archive list", view.error());
  note_findings(context, view->findings);
  Table table{"recordings",
              {{"recording", "ID", Unit::kCount},
               {"name", "NAME"},
               {"state", "STATE"},
               {"session_id", "SESSION", Unit::kCount},
               {"stream_id", "STREAM", Unit::kCount},
               {"start_position", "START", Unit::kCount},
               {"position", "POSITION", Unit::kCount},
               {"recorded_bytes", "BYTES", Unit::kBytes},
               {"start_ms", "SINCE", Unit::kTimeMs},
               {"source", "SOURCE"},
               {"channel", "CHANNEL"}}};
  for (const archive::RecordingView& one : view->recordings) {
    if (!filter.takes(one)) continue;
    const archive::Recording& recording = one.recording;
    table.add({recording.id, recording.name.empty() ? Cell{} : Cell{recording.name}, Cell{one.state}.styled(style_of(one.state)), recording.stream.session_id, recording.stream.stream_id,
               one.start_position, one.position, one.position - one.start_position, recording.start_ns / kMillisecond_ns, recording.source_identity, recording.channel});
  }
  context.out.print(table, "no recordings");
  return Exit::kOk;
}

Exit describe(Context& context, const ArchiveOptions& options, std::int64_t id) {
  const auto directory = archive_directory(context, options);
  if (!directory) return context.out.fail("archive describe", directory.error());
  const auto files = log::make_plain_file_system();
  const auto view = archive::view_recording(*files, *directory, id);
  if (!view) return context.out.fail("archive describe", view.error());
  const archive::Recording& recording = view->recording;
  Output& out = context.out;
  out.value("recording", "recording", recording.id, Unit::kCount);
  out.value("name", "declared as", recording.name.empty() ? Cell{} : Cell{recording.name});
  out.value("state", "state", Cell{view->state}.styled(style_of(view->state)));
  out.value("channel", "channel", recording.channel);
  out.value("original_channel", "subscribed to", recording.original_channel);
  out.value("stream_id", "stream", Cell{recording.stream.stream_id}, Unit::kCount);
  out.value("session_id", "session", Cell{recording.stream.session_id}, Unit::kCount);
  out.value("source", "source", recording.source_identity);
  out.value("start_ms", "begun", recording.start_ns / kMillisecond_ns, Unit::kTimeMs);
  out.value("stop_ms", "ended", recording.stop_ns ? Cell{*recording.stop_ns / kMillisecond_ns} : Cell{}, Unit::kTimeMs);
  out.value("start_position", "start position", Cell{view->start_position}, Unit::kCount);
  out.value("position", "position", Cell{view->position}, Unit::kCount);
  out.value("durable_position", "durable position", Cell{view->durable_position}, Unit::kCount);
  out.value("initial_term_id", "initial term id", Cell{recording.stream.initial_term_id}, Unit::kCount);
  out.value("term_length", "term length", recording.stream.term_bytes, Unit::kBytes);
  out.value("mtu", "MTU", recording.stream.mtu_bytes, Unit::kBytes);
  out.value("segment_length", "segment length", recording.segment_bytes, Unit::kBytes);
  out.value("segments", "segments", view->segments, Unit::kCount);
  out.value("file_bytes", "files", view->file_bytes, Unit::kBytes);
  out.value("directory", "directory", archive::frames_path(*directory, recording.id));
  return Exit::kOk;
}

Exit verify(Context& context, const ArchiveOptions& options, const std::vector<std::int64_t>& wanted) {
  const auto directory = archive_directory(context, options);
  if (!directory) return context.out.fail("archive verify", directory.error());
  const auto files = log::make_plain_file_system();
  const auto view = archive::view_archive(*files, *directory);
  if (!view) return context.out.fail("archive verify", view.error());
  Table table{"recordings",
              {{"recording", "ID", Unit::kCount}, {"state", "STATE"}, {"verdict", "VERDICT"}, {"faults", "FAULTS", Unit::kCount}, {"segments", "SEGMENTS", Unit::kCount},
               {"frames", "FRAMES", Unit::kCount}, {"payload_bytes", "PAYLOAD", Unit::kBytes}, {"start_position", "START", Unit::kCount}, {"stop_position", "STOP", Unit::kCount}}};
  Table faults{"faults", {{"recording", "ID", Unit::kCount}, {"path", "FILE"}, {"offset", "OFFSET", Unit::kCount}, {"what", "FAULT"}}};
  for (const std::string& finding : view->findings) faults.add({Cell{}, *directory + "/" + archive::kCatalogDirectory, Cell{}, finding});
  for (const std::int64_t id : wanted) {
    const bool is_there = std::any_of(view->recordings.begin(), view->recordings.end(), [id](const auto& one) { return one.recording.id == id; });
    if (!is_there) return context.out.fail("archive verify", {ErrorCode::kNotFound, fmt::format("there is no recording {}", id), "thalweg archive list shows them"});
  }
  for (const archive::RecordingView& one : view->recordings) {
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), one.recording.id) == wanted.end()) continue;
    ProgressBar bar{context.out, text_of(one)};
    const auto verified = archive::verify_recording(*files, *directory, one, [&bar](std::uint64_t done, std::uint64_t total) { bar.update(done, total); });
    if (!verified) {
      faults.add({one.recording.id, archive::frames_path(*directory, one.recording.id), Cell{}, verified.error().message});
      table.add({one.recording.id, one.state, Cell{"damaged"}.styled(Style::kBad), 1, 0, 0, 0, Cell{}, Cell{}});
      continue;
    }
    for (const log::FrameFinding& finding : verified->findings) faults.add({one.recording.id, finding.path, finding.offset, finding.what});
    const bool is_good = verified->findings.empty();
    table.add({one.recording.id, one.state, Cell{is_good ? "good" : "damaged"}.styled(is_good ? Style::kGood : Style::kBad), verified->findings.size(), verified->segments,
               verified->data_frames, verified->payload_bytes, verified->start_position, verified->stop_position});
  }
  context.out.print(table, "no recordings");
  if (!faults.is_empty() || context.out.is_json()) context.out.print(faults, "no faults");
  return faults.is_empty() ? Exit::kOk : Exit::kProblems;
}

struct ChecksumOptions {
  std::int64_t recording{};
  std::optional<std::uint64_t> from;
  std::optional<std::uint64_t> to;
};

struct DumpOptions {
  std::int64_t recording{};
  std::optional<std::uint64_t> from;
  std::optional<std::uint64_t> to;
  std::uint64_t count{100};
};

std::string hex_of(std::span<const std::byte> bytes) {
  std::string text;
  text.reserve(2 * bytes.size());
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

// Rows of one block; false: there are enough.
bool add_frames(Table& table, const Output& out, const log::FrameBlock& block, const DumpOptions& options) {
  constexpr std::size_t kShownBytes = 24;  // of a payload, to people
  for (std::uint64_t at = 0; at < block.frames.size();) {
    const std::uint64_t position = block.position + at;
    if (table.size() >= options.count || (options.to && position >= *options.to)) return false;
    const std::byte* const frame = block.frames.data() + at;
    const auto length = load_le<std::uint32_t>(frame);
    const auto flags = static_cast<unsigned>(frame[5]);
    const std::string marks = std::string{(flags & 0x80U) != 0 ? "B" : "-"} + ((flags & 0x40U) != 0 ? "E" : "-");
    const auto payload = block.is_padding ? std::span<const std::byte>{} : block.frames.subspan(at + log::kFrameHeaderBytes, length - log::kFrameHeaderBytes);
    const bool is_cut = !out.is_json() && payload.size() > kShownBytes;
    table.add({position, block.is_padding ? "padding" : "data", marks, length, load_le<std::int32_t>(frame + 20), load_le<std::int64_t>(frame + 24),
               hex_of(is_cut ? payload.first(kShownBytes) : payload) + (is_cut ? "..." : "")});
    at += align_up<std::uint64_t>(length, log::kFrameAlignment);
  }
  return true;
}

Exit dump(Context& context, const ArchiveOptions& options, const DumpOptions& wanted) {
  const auto directory = archive_directory(context, options);
  if (!directory) return context.out.fail("archive dump", directory.error());
  const auto files = log::make_plain_file_system();
  const auto view = archive::view_recording(*files, *directory, wanted.recording);
  if (!view) return context.out.fail("archive dump", view.error());
  auto reader = archive::read_recording(*files, *directory, view->recording);
  if (!reader) return context.out.fail("archive dump", reader.error());
  if (wanted.from)
    if (const auto found = reader->seek(*wanted.from); !found) return context.out.fail("archive dump", found.error());
  Table table{"frames",
              {{"position", "POSITION", Unit::kCount}, {"type", "TYPE"}, {"flags", "FLAGS"}, {"length", "LENGTH", Unit::kCount}, {"term_id", "TERM", Unit::kCount},
               {"reserved_value", "RESERVED", Unit::kCount}, {"payload", "PAYLOAD"}}};
  constexpr std::uint64_t kBlockBytes = 64U << 10;
  for (;;) {
    const auto block = reader->next(kBlockBytes);
    if (!block) {
      context.out.print(table, "no frames");
      return context.out.fail("archive dump", block.error());
    }
    if (!*block || !add_frames(table, context.out, **block, wanted)) break;
  }
  context.out.print(table, "no frames");
  return Exit::kOk;
}

Exit checksum(Context& context, const ArchiveOptions& options, const ChecksumOptions& wanted) {
  const auto directory = archive_directory(context, options);
  if (!directory) return context.out.fail("archive checksum", directory.error());
  const auto files = log::make_plain_file_system();
  const auto view = archive::view_recording(*files, *directory, wanted.recording);
  if (!view) return context.out.fail("archive checksum", view.error());
  auto reader = archive::read_recording(*files, *directory, view->recording);
  if (!reader) return context.out.fail("archive checksum", reader.error());
  const std::uint64_t from = wanted.from.value_or(reader->first_position());
  const std::uint64_t to = wanted.to.value_or(view->position);
  if (to > view->position || from > to)
    return context.out.fail("archive checksum", {ErrorCode::kInvalidArgument, fmt::format("positions {} to {} are not in the recording, which has {} to {}", from, to, reader->first_position(), view->position), {}});
  constexpr std::uint64_t kStepBytes = 16U << 20;
  ProgressBar bar{context.out, text_of(*view)};
  archive::RangeChecksum sum{from, 0};
  while (sum.end < to) {
    const auto more = archive::checksum_frames(*reader, sum.end, to, kStepBytes, sum.crc);
    if (!more) return context.out.fail("archive checksum", more.error());
    if (more->end == sum.end) return context.out.fail("archive checksum", {ErrorCode::kInvalidArgument, fmt::format("no frame ends at position {}; the last one before it ends at {}", to, sum.end), {}});
    sum = *more;
    bar.update(sum.end - from, to - from);
  }
  context.out.value("recording", "recording", wanted.recording, Unit::kCount);
  context.out.value("from", "from", Cell{from}, Unit::kCount);
  context.out.value("to", "to", Cell{sum.end}, Unit::kCount);
  context.out.value("crc32c", "CRC-32C", context.out.is_json() ? Cell{sum.crc} : Cell{fmt::format("{:08x}", sum.crc)});
  return Exit::kOk;
}

Exit status(Context& context, const ArchiveOptions& options) {
  const auto status = ask_archive(context, options, "archive-status");
  if (!status) return context.out.fail("archive status", status.error());
  Output& out = context.out;
  out.value("directory", "directory", status->value("directory", std::string{}));
  const bool is_connected = status->value("is_connected", false);
  out.value("is_connected", "driver", Cell{is_connected}.styled(is_connected ? Style::kGood : Style::kWarn));
  out.value("recordings", "recordings", status->value("recordings", std::uint64_t{0}), Unit::kCount);
  out.value("active", "active", status->value("active", std::uint64_t{0}), Unit::kCount);
  out.value("replays", "replays", status->value("replays", std::uint64_t{0}), Unit::kCount);
  out.value("replayed_bytes", "replayed", status->value("replayed_bytes", std::uint64_t{0}), Unit::kBytes);
  out.value("replications", "replications", status->value("replications", std::uint64_t{0}), Unit::kCount);
  out.value("free_bytes", "free", status->value("free_bytes", std::uint64_t{0}), Unit::kBytes);
  Table streams{"streams",
                {{"number", "NUMBER", Unit::kCount}, {"name", "NAME"}, {"state", "STATE"}, {"recordings", "RECORDINGS", Unit::kCount}, {"stream_id", "STREAM", Unit::kCount},
                 {"on_slow", "ON SLOW"}, {"channel", "CHANNEL"}, {"error", "ERROR"}}};
  for (const Json& one : status->value("streams", Json::array())) {
    const auto name = one.value("name", std::string{});
    const auto state = one.value("state", std::string{});
    const auto error = one.value("error", std::string{});
    streams.add({one.value("number", 0U), name.empty() ? Cell{} : Cell{name}, Cell{state}.styled(state == "subscribed" ? Style::kGood : Style::kWarn), one.value("recordings", std::uint64_t{0}),
                 one.value("stream_id", 0), one.value("on_slow", std::string{}), one.value("channel", std::string{}), error.empty() ? Cell{} : Cell{error}});
  }
  out.print(streams, "no streams are to be recorded");
  return Exit::kOk;
}

struct RecordOptions {
  std::string channel;
  std::int32_t stream_id{};
  bool is_local{};
  std::string on_slow{"block"};
};

Exit record(Context& context, const ArchiveOptions& options, const RecordOptions& wish) {
  const auto answer = ask_archive(context, options, "archive-record",
                          {{"channel", wish.channel}, {"stream_id", wish.stream_id}, {"source", wish.is_local ? "local" : "remote"}, {"on_slow", wish.on_slow}});
  if (!answer) return context.out.fail("archive record", answer.error());
  context.out.value("number", "number", answer->value("number", 0U), Unit::kCount);
  context.out.note(fmt::format("thalweg archive: recorded whenever it is there, until the instance ends or: thalweg archive stop --number {}", answer->value("number", 0U)));
  return Exit::kOk;
}

Exit simple(Context& context, const ArchiveOptions& options, const std::string& verb, Json args) {
  const auto answer = ask_archive(context, options, "archive-" + verb, std::move(args));
  return answer ? Exit::kOk : context.out.fail("archive " + verb, answer.error());
}

void register_reading(CLI::App& noun, Context& context) {
  CLI::App* verb = noun.add_subcommand("list", "List recordings");
  const auto options = std::make_shared<ArchiveOptions>();
  const auto filter = std::make_shared<ListFilter>();
  add_archive_place(*verb, *options);
  verb->add_option("--stream", filter->stream, "Only this stream id")->type_name("ID");
  verb->add_option("--session", filter->session, "Only this session id")->type_name("ID");
  verb->add_option("--channel", filter->channel, "Only channels with this in them")->type_name("TEXT");
  verb->add_option("--name", filter->name, "Only recordings of this declaration")->type_name("NAME");
  verb->add_flag("--active", filter->is_active, "Only those that are written to");
  set_example(*verb, "archive list --active --watch");
  on_run_watched(*verb, context, [&context, options, filter] { return list(context, *options, *filter); });

  verb = noun.add_subcommand("describe", "Show everything about one recording");
  const auto id = std::make_shared<std::int64_t>(0);
  verb->add_option("recording", *id, "Its number")->required()->type_name("ID");
  add_archive_place(*verb, *options);
  set_example(*verb, "archive describe 3");
  on_run_watched(*verb, context, [&context, options, id] { return describe(context, *options, *id); });

  verb = noun.add_subcommand("dump", "Show the frames of a recording");
  const auto wanted = std::make_shared<DumpOptions>();
  verb->add_option("recording", wanted->recording, "Its number")->required()->type_name("ID");
  verb->add_option("--from", wanted->from, "Begin with the frame at this position")->type_name("POSITION");
  verb->add_option("--to", wanted->to, "End before this position")->type_name("POSITION");
  verb->add_option("--count", wanted->count, "No more frames than this")->check(positive_count())->capture_default_str();
  add_archive_place(*verb, *options);
  set_example(*verb, "archive dump 3 --from 65536 --count 10");
  on_run(*verb, context, [&context, options, wanted] { return dump(context, *options, *wanted); });

  verb = noun.add_subcommand("verify", "Read recordings whole and name every fault; exit 4 when there is one");
  const auto ids = std::make_shared<std::vector<std::int64_t>>();
  verb->add_option("recordings", *ids, "Their numbers; default: all")->type_name("ID");
  add_archive_place(*verb, *options);
  set_example(*verb, "archive verify --archive /var/lib/thalweg/archive");
  on_run(*verb, context, [&context, options, ids] { return verify(context, *options, *ids); });

  verb = noun.add_subcommand("checksum", "One checksum of the frames of a recording, equal to that of its copies in other archives");
  const auto range = std::make_shared<ChecksumOptions>();
  verb->add_option("recording", range->recording, "Its number")->required()->type_name("ID");
  verb->add_option("--from", range->from, "Begin with the frame at this position; default: the lowest")->type_name("POSITION");
  verb->add_option("--to", range->to, "End here, where a frame ends; default: where the recording ends now")->type_name("POSITION");
  add_archive_place(*verb, *options);
  set_example(*verb, "archive checksum 3 --to 1048576");
  on_run(*verb, context, [&context, options, range] { return checksum(context, *options, *range); });
}

void register_changing(CLI::App& noun, Context& context) {
  const auto options = std::make_shared<ArchiveOptions>();
  const auto add_socket = [&](CLI::App& verb) { add_archive_socket(verb, *options); };
  CLI::App* verb = noun.add_subcommand("status", "Show the running archive and the streams it is to record");
  add_socket(*verb);
  set_example(*verb, "archive status");
  on_run_watched(*verb, context, [&context, options] { return status(context, *options); });

  verb = noun.add_subcommand("record", "Record a stream whenever it is there");
  const auto wish = std::make_shared<RecordOptions>();
  verb->add_option("channel,--channel", wish->channel, "Channel URI")->required()->type_name("URI");
  verb->add_option("stream,--stream", wish->stream_id, "Stream id")->required()->type_name("ID");
  verb->add_flag("--local", wish->is_local, "What this machine's own publications send, without a network in between");
  verb->add_option("--on-slow", wish->on_slow, "When the disk cannot keep up: block holds the publisher back, drop leaves a gap")->check(CLI::IsMember({"block", "drop"}))->capture_default_str();
  add_socket(*verb);
  set_example(*verb, "archive record 'aeron:udp?endpoint=10.0.0.2:40123' 1001");
  on_run(*verb, context, [&context, options, wish] { return record(context, *options, *wish); });

  verb = noun.add_subcommand("stop", "End a recording, or stop recording a stream");
  const auto id = std::make_shared<std::int64_t>(-1);
  const auto number = std::make_shared<std::int64_t>(-1);
  CLI::Option* one = verb->add_option("recording", *id, "End this recording; its image is not recorded again")->type_name("ID");
  verb->add_option("--number", *number, "Forget the stream of this number, as `archive status` shows it")->type_name("NUMBER")->excludes(one);
  add_socket(*verb);
  set_example(*verb, "archive stop 3");
  on_run(*verb, context, [&context, options, id, number] {
    if (*id < 0 && *number < 0) return context.out.fail("archive stop", {ErrorCode::kInvalidArgument, "which recording?", "thalweg archive list --active shows them"});
    return simple(context, *options, "stop", *number >= 0 ? Json{{"number", *number}} : Json{{"recording", *id}});
  });

  verb = noun.add_subcommand("truncate", "Cut the end of a recording that is not active");
  const auto cut = std::make_shared<std::int64_t>(0);
  const auto position = std::make_shared<std::int64_t>(0);
  const auto is_cut_sure = std::make_shared<bool>(false);
  verb->add_option("recording", *cut, "Its number")->required()->type_name("ID");
  verb->add_option("position", *position, "Where it is to end; a frame begins there")->required()->check(non_negative_number())->type_name("POSITION");
  verb->add_flag("--yes", *is_cut_sure, "Really; without it nothing is done");
  add_socket(*verb);
  set_example(*verb, "archive truncate 3 65536 --yes");
  on_run(*verb, context, [&context, options, cut, position, is_cut_sure] {
    if (!*is_cut_sure) return context.out.fail("archive truncate", {ErrorCode::kInvalidArgument, "what is cut is gone for good", "say --yes if that is wanted"});
    return simple(context, *options, "truncate", {{"recording", *cut}, {"position", *position}});
  });

  verb = noun.add_subcommand("purge", "Delete a recording that is not active, with its files");
  const auto purged = std::make_shared<std::int64_t>(0);
  const auto is_purge_sure = std::make_shared<bool>(false);
  verb->add_option("recording", *purged, "Its number")->required()->type_name("ID");
  verb->add_flag("--yes", *is_purge_sure, "Really; without it nothing is done");
  add_socket(*verb);
  set_example(*verb, "archive purge 3 --yes");
  on_run(*verb, context, [&context, options, purged, is_purge_sure] {
    if (!*is_purge_sure) return context.out.fail("archive purge", {ErrorCode::kInvalidArgument, "a purged recording is gone for good", "say --yes if that is wanted"});
    return simple(context, *options, "purge", {{"recording", *purged}});
  });
}

}  // namespace

void register_archive(CLI::App& root, Context& context) {
  CLI::App* noun = root.add_subcommand("archive", "Recordings of streams")->require_subcommand(1);
  register_changing(*noun, context);
  register_reading(*noun, context);
  register_archive_replay(*noun, context);
  register_archive_replication(*noun, context);
}

}  // namespace thalweg::cli
