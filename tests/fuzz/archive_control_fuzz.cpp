// What a client may send to an archive: any bytes are a message, several in a row are a session. None may do more than be refused, and the archive's catalog stays one
// that can be opened. The archive has no driver here; requests that need one wait for it.
#include <algorithm>

#include "controlplane/archive/archive_verbs.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/unit/log/frame_fixture.hpp"

namespace thalweg::fuzz {
namespace {

using archive::ControlService;
namespace protocol = client::archive_protocol;

constexpr const char* kArchive = "archive";

archive::Settings settings() {
  archive::Settings made;
  made.directory = kArchive;
  made.instance_directory = "/nowhere";
  made.segment_bytes = log::kSegmentBytesMin;
  made.low_space_bytes = 1;
  return made;
}

// All of an archive but its threads for recording and the disk.
struct Parts {
  test::CrashFileSystem files{2U << 20};
  log::ManualClock clock;
  archive::Settings wanted{settings()};
  std::optional<archive::RecordingCatalog> catalog;
  std::optional<archive::ActiveRecordings> active;
  std::optional<archive::Replayer> replayer;
  std::optional<archive::Recorder> recorder;
  std::optional<archive::Replicator> replicator;
  std::optional<archive::Checksums> checksums;

  Parts() {
    auto opened = archive::RecordingCatalog::open(files, clock, kArchive);
    require(opened.has_value(), "a new catalog can be opened");
    catalog = std::move(*opened);
    active.emplace(files, clock, *catalog, wanted, archive::EventSink{});
    replayer.emplace(files, clock, wanted, archive::EventSink{});
    recorder.emplace(files, clock, *catalog, *active, wanted, archive::EventSink{}, &*replayer);
    replicator.emplace(files, clock, *catalog, *active, wanted, archive::EventSink{});
    checksums.emplace(files, kArchive);
    // One that ended and has frames.
    auto made = active->create({.stream = log::kStream, .segment_bytes = log::kSegmentBytesMin, .name = {}, .channel = "aeron:ipc", .original_channel = "aeron:ipc", .source_identity = "aeron:ipc"});
    require(made.has_value(), "a recording can be made");
    log::FrameSource source;
    for (int i = 0; i < 100; ++i) require((*made)->log->append(source.next(1000)).has_value(), "frames of the stream are taken");
    active->end(**made, nullptr);
  }
  [[nodiscard]] archive::Archive::World world() { return {*recorder, *catalog, *active, *replayer, *replicator, *checksums, files, wanted, false}; }
};

void handle(Parts& parts, const ControlService::Message& request) {
  using protocol::Kind;
  archive::Archive::World world = parts.world();
  for (const auto& answer : archive::list(world, request)) require(protocol::decode(protocol::encode(answer)).has_value(), "an answer can be read");
  if (request.kind == Kind::kStartReplay) return;  // it waits for a driver, on another thread
  api::Json args;
  const std::string verb = archive::verb_of(request, args);
  if (verb.empty()) return;
  int answers = 0;
  archive::run_verb(world, {verb, args}, [&answers](const Result<api::Json>& result) {
    ++answers;
    require(result.has_value() || !result.error().message.empty(), "a refusal says why");
  });
  require(answers == 1, "one answer for each request");
}

}  // namespace

void run(Bytes input) {
  Input in{input};
  Parts parts;
  while (!in.is_empty()) {
    const auto message = in.long_slice();
    auto request = protocol::decode(message);
    if (request) {
      const auto again = protocol::encode(*request);
      require(again.size() <= message.size() && std::equal(again.begin(), again.end(), message.begin()), "what was read is what was sent");
    } else {  // the same as a request that arrived whole
      request.emplace();
      request->kind = static_cast<protocol::Kind>(in.choice(24));
      for (unsigned n = in.choice(8); n > 0; --n) request->numbers.push_back(in.flag() ? in.choice(4) : in.take<std::int64_t>());
      for (unsigned n = in.choice(3); n > 0; --n) request->texts.push_back(in.flag() ? "aeron:ipc" : std::string{text_of(in.short_slice())});
    }
    handle(parts, *request);
  }
  parts.replicator.reset();
  parts.recorder.reset();
  parts.replayer.reset();
  parts.active.reset();
  parts.catalog.reset();
  require(archive::RecordingCatalog::open(parts.files, parts.clock, kArchive).has_value(), "the catalog can be opened again");
}

}  // namespace thalweg::fuzz
