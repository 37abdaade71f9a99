// Recordings whose files a failing disk, or somebody, changed in places that the input says: what reads them ends with an error at worst, opening them
// for writing twice gives the same log, and what is appended then is there.
#include "controlplane/log/frame_verify.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/unit/log/frame_fixture.hpp"

namespace thalweg::fuzz {
namespace {
using namespace log;

struct Recording {
  test::CrashFileSystem files{256U << 10};
  ManualClock clock;

  [[nodiscard]] Result<std::unique_ptr<FrameLog>> open() { return FrameLog::open(files, clock, kDirectory, frame_options()); }
  [[nodiscard]] Result<FrameVerification> verify() {
    return verify_frame_log(files, kDirectory, {.log_id = 5, .stream = kStream, .segment_bytes = kSegmentBytesMin, .start_position = {}, .stop_position = {}});
  }
};

// Frames of sizes that the input says; a frame of 0 to 1376 bytes of payload each, at most four segments.
void append_some(Input& in, FrameLog& log) {
  FrameSource source{log.position()};
  for (unsigned count = in.choice(128); count > 0 && source.position() < 4 * kSegmentBytesMin; --count) {
    require(log.append(source.next(in.take<std::uint16_t>() % 1377)).has_value(), "frames of the stream are taken");
    if (in.choice(8) == 0) require(log.sync().has_value(), "a sync succeeds");
    if (in.choice(8) == 0) require(log.maintain().has_value(), "maintenance succeeds");
  }
  require(log.position() == source.position(), "frames stand where they stood in the stream");
}

// Reads on to the end or the first damage. Returns where.
std::uint64_t read_all(Recording& recording) {
  auto reader = FrameReader::open(recording.files, kDirectory, {.stream = kStream, .is_uncommitted = true});
  if (!reader) return 0;
  for (;;) {
    const std::uint64_t position = reader->position();
    const auto block = reader->next(8000);
    if (!block || !*block) return position;
    require((*block)->position == position && (*block)->span > 0, "blocks follow each other");
    for (std::uint64_t at = 0; at < (*block)->frames.size();) {
      const ParsedFrame frame = parse_frame((*block)->frames.subspan(at), position + at, kStream);
      require(frame.is_valid() && (frame.is_padding || at + frame.span <= (*block)->frames.size()), "a block holds whole frames of the stream");
      at += frame.span;
    }
  }
}

void damage(Input& in, Recording& recording) {
  const std::vector<std::string> paths = recording.files.paths();
  const std::string& path = paths[in.choice(static_cast<unsigned>(paths.size()))];
  std::vector<std::byte> bytes = recording.files.content(path);
  if (bytes.empty()) return;
  if (in.choice(8) == 0) bytes.resize(in.take<std::uint32_t>() % bytes.size());
  if (!bytes.empty()) scribble(in, bytes, 1);
  recording.files.set_content(path, bytes);
}

void go_on(Input& in, Recording& recording) {
  auto log = recording.open();
  if (!log) return;
  const std::uint64_t position = (*log)->position();
  require((*log)->close().has_value(), "a recovered log closes");
  log = recording.open();
  require(log.has_value() && (*log)->position() == position, "recovery comes to the same end twice");
  if (!(*log)->make_room()) return;   // its last page is damaged: nothing may follow
  append_some(in, **log);
  auto reader = FrameReader::open(recording.files, kDirectory, {.stream = kStream, .is_uncommitted = true});
  require(reader && reader->seek(position).has_value(), "the place where it went on can be found");
  while (reader->position() < (*log)->position()) {
    const auto block = reader->next(8000);
    require(block && *block, "what was appended after recovery is there");
  }
}

}  // namespace

void run(Bytes input) {
  Input in{input};
  Recording recording;
  auto log = recording.open();
  require(log.has_value(), "a new recording opens");
  append_some(in, **log);
  const std::uint64_t position = (*log)->position();
  if (in.flag()) require((*log)->close().has_value(), "a log closes");
  recording.files.kill_all();
  log->reset();
  require(read_all(recording) == position, "a killed process loses nothing");
  const auto verified = recording.verify();
  require(verified && verified->findings.empty() && verified->stop_position == position, "nothing is wrong with it");
  for (unsigned count = in.choice(4); count > 0; --count) damage(in, recording);
  static_cast<void>(recording.verify());
  static_cast<void>(read_all(recording));
  go_on(in, recording);
}

}  // namespace thalweg::fuzz
