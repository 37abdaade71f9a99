// The durable log beside what memory and disk give in the same run: copies of the same bytes, and pwrite with fdatasync in the same sizes.
// Files lie in the directory $THALWEG_BENCH_DIRECTORY, or in the current one; they are removed.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "controlplane/log/consumer.hpp"
#include "controlplane/log/crc32c.hpp"
#include "controlplane/log/plain_file_system.hpp"
#include "controlplane/log/reader.hpp"
#include "controlplane/log/shard.hpp"
#include "controlplane/log/shared_shard.hpp"

namespace thalweg::log {
namespace {

constexpr std::size_t kPayload = 64;
constexpr std::size_t kSpan = record_span(kPayload);

[[noreturn]] void stop(const std::string& what) {
  std::fprintf(stderr, "log_bench: %s\n", what.c_str());
  std::exit(1);
}

struct Directory {
  Directory() {
    const char* const where = std::getenv("THALWEG_BENCH_DIRECTORY");
    path = std::filesystem::path{where != nullptr ? where : "."} / ("log-bench-" + std::to_string(::getpid()));
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

struct World {
  explicit World(const ShardOptions& with) : options{with} { open(); }
  void open() {
    auto opened = Shard::open(*files, clock, directory.path / "shard-0000", options);
    if (!opened) stop(opened.error().message);
    shard = std::move(*opened);
  }
  Directory directory;
  std::unique_ptr<FileSystem> files{make_file_system()};
  SystemClock clock;
  ShardOptions options;
  std::unique_ptr<Shard> shard;
};

ShardOptions options_with(SyncPolicy policy, std::uint64_t prepare_bytes) {
  ShardOptions options;
  options.sync = policy;
  options.prepare_bytes = prepare_bytes;
  return options;
}

std::vector<Entry> entries(std::size_t count) {
  static const std::vector<std::byte> payload(kPayload, std::byte{'x'});
  return std::vector<Entry>(count, Entry{.payload = payload, .stream = 1});
}

// Arguments: entries in a batch; whether maintain() made the pages ready before (its thread does in a program), or the append takes the faults.
void append(benchmark::State& state) {
  World world{options_with(SyncPolicy::kNone, state.range(1) != 0 ? kSegmentBytesMax : 0)};
  if (!world.shard->maintain()) stop("maintain");
  const auto batch = entries(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state)
    if (!world.shard->append(batch)) stop("append");
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(append)->ArgNames({"batch", "ready"})->Args({1, 1})->Iterations(1'000'000);
BENCHMARK(append)->ArgNames({"batch", "ready"})->Args({100, 1})->Iterations(10'000);
BENCHMARK(append)->ArgNames({"batch", "ready"})->Args({10'000, 1})->Iterations(100);
BENCHMARK(append)->ArgNames({"batch", "ready"})->Args({1, 0})->Iterations(1'000'000);
BENCHMARK(append)->ArgNames({"batch", "ready"})->Args({100, 0})->Iterations(10'000);
BENCHMARK(append)->ArgNames({"batch", "ready"})->Args({10'000, 0})->Iterations(100);

// Threads stand for processes: each has its own writer on the shard that all share. One entry a call.
void append_shared(benchmark::State& state) {
  static const Directory directory;
  static const auto files = make_file_system();
  static const SystemClock clock;
  auto shard = SharedShard::open(*files, clock, directory.path / "shard", options_with(SyncPolicy::kNone, 64U << 20));
  if (!shard || !(*shard)->maintain()) stop("open");
  const auto batch = entries(1);
  for (auto _ : state)
    if (const auto appended = (*shard)->append(batch); !appended) stop(appended.error().message);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(append_shared)->Iterations(200'000)->Threads(1)->Threads(2)->Threads(4)->UseRealTime();

// The ceiling: the same bytes copied into memory that is there, without a header or a checksum.
void copy(benchmark::State& state) {
  static std::vector<std::byte> memory(128U << 20, std::byte{1});
  const std::vector<std::byte> payload(kPayload, std::byte{'x'});
  std::size_t at = 0;
  for (auto _ : state)
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      std::memcpy(memory.data() + at, payload.data(), kPayload);
      at = at + 2 * kSpan <= memory.size() ? at + kSpan : 0;
      benchmark::ClobberMemory();
    }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(copy)->ArgName("batch")->Arg(1)->Arg(100)->Arg(10'000);

// A batch of 1,000 entries, durable before append() returns.
void append_durable(benchmark::State& state) {
  World world{options_with(SyncPolicy::kEveryBatch, 64U << 20)};
  if (!world.shard->maintain()) stop("maintain");
  const auto batch = entries(1000);
  for (auto _ : state)
    if (!world.shard->append(batch)) stop("append");
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(1000 * kSpan));
}
BENCHMARK(append_durable)->Iterations(200)->UseRealTime();

// Its ceiling: the same bytes with pwrite and fdatasync into an allocated file.
void write_durable(benchmark::State& state) {
  const Directory directory;
  const int fd = ::open((directory.path / "file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ::posix_fallocate(fd, 0, 256 << 20) != 0) stop("allocate");
  const std::vector<std::byte> bytes(1000 * kSpan, std::byte{'x'});
  off_t at = 0;
  for (auto _ : state) {
    if (::pwrite(fd, bytes.data(), bytes.size(), at) != static_cast<ssize_t>(bytes.size()) || ::fdatasync(fd) != 0) stop("write");
    at += static_cast<off_t>(bytes.size());
  }
  ::close(fd);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes.size()));
}
BENCHMARK(write_durable)->Iterations(200)->UseRealTime();

// One member of a consumer group. Argument: entries in a call.
void acknowledge(benchmark::State& state) {
  World world{options_with(SyncPolicy::kNone, 0)};
  constexpr std::uint64_t kEntries = 1'000'000;
  const std::vector<Entry> batch(1000);
  while (world.shard->next_entry() < kEntries)
    if (!world.shard->append(batch)) stop("append");
  if (!world.shard->sync()) stop("sync");
  auto consumer = Consumer::open(*world.files, world.clock, world.directory.path, {});
  if (!consumer) stop(consumer.error().message);
  std::vector<EntryId> ids(kEntries);
  for (std::uint64_t i = 0; i < kEntries; ++i) ids[i].entry = i;
  const auto count = static_cast<std::size_t>(state.range(0));
  std::size_t at = 0;
  for (auto _ : state) {
    if (!(*consumer)->ack(std::span{ids}.subspan(at, count))) stop("ack");
    at += count;
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(acknowledge)->ArgName("batch")->Arg(1)->Iterations(1'000'000);
BENCHMARK(acknowledge)->ArgName("batch")->Arg(100)->Iterations(10'000);

// Files that take no space until something is written: a log of many GB on a small disk.
class SparseFile final : public PlainFile {
 public:
  using PlainFile::PlainFile;
  Result<void> allocate(std::uint64_t bytes) override {
    if (::ftruncate(fd(), static_cast<off_t>(bytes)) != 0) stop("ftruncate");
    return {};
  }
};
class SparseFileSystem final : public PlainFileSystem {
  std::unique_ptr<File> make_file(int fd, const std::string& path, bool is_writable) override { return std::make_unique<SparseFile>(fd, path, is_writable); }
};

// Opening a log whose process was killed while it appended. Argument: GB of segments of the default size, each with a record in it; what comes behind the last
// checkpoint is the same for all.
void reopen_killed(benchmark::State& state) {
  const Directory directory;
  SparseFileSystem files;
  const SystemClock clock;
  const auto options = options_with(SyncPolicy::kPeriodic, 0);
  const auto segments = static_cast<std::uint64_t>(state.range(0)) * 4;
  const std::string path = directory.path / "shard-0000";
  for (auto _ : state) {
    const pid_t child = ::fork();
    if (child < 0) stop("fork");
    if (child == 0) {
      auto shard = Shard::open(files, clock, path, options);
      if (!shard) ::_exit(1);
      while ((*shard)->segment_count() < segments)
        if (!(*shard)->append(entries(1)) || !(*shard)->rotate()) ::_exit(1);
      for (int i = 0; i < 20; ++i)
        if (!(*shard)->append(entries(10'000))) ::_exit(1);
      ::raise(SIGKILL);
    }
    int status = 0;
    if (::waitpid(child, &status, 0) != child || !WIFSIGNALED(status)) stop("the writer did not get on");
    const std::int64_t begin_ns = monotonic_ns();
    auto shard = Shard::open(files, clock, path, options);
    if (!shard) stop(shard.error().message);
    state.SetIterationTime(static_cast<double>(monotonic_ns() - begin_ns) / 1e9);
  }
}
BENCHMARK(reopen_killed)->ArgName("GB")->Arg(1)->Arg(20)->Iterations(3)->UseManualTime()->Unit(benchmark::kMillisecond);

// Opening after the writer was lost: 64 segments, and a tail of 1,000 entries that no checkpoint knows.
void reopen(benchmark::State& state) {
  auto options = options_with(SyncPolicy::kEverySegment, 0);
  options.segment_bytes = 1U << 20;
  World world{options};
  const auto batch = entries(1000);
  while (world.shard->segment_count() < 64)
    if (!world.shard->append(batch)) stop("append");
  for (auto _ : state) {
    state.PauseTiming();
    world.shard.reset();
    auto none = world.options;
    none.sync = SyncPolicy::kNone;
    auto shard = Shard::open(*world.files, world.clock, world.directory.path / "shard-0000", none);
    if (!shard || !(*shard)->append(batch)) stop("append");
    shard->reset();
    state.ResumeTiming();
    world.open();
  }
}
BENCHMARK(reopen)->Iterations(20)->UseRealTime();

// Argument: payload bytes. Reading checks every checksum.
void read(benchmark::State& state) {
  World world{options_with(SyncPolicy::kNone, 0)};
  const std::vector<std::byte> payload(static_cast<std::size_t>(state.range(0)), std::byte{'x'});
  constexpr std::int64_t kBytes = 128 << 20;
  for (std::int64_t done = 0; done < kBytes; done += state.range(0))
    if (!world.shard->append(Entry{.payload = payload})) stop("append");
  for (auto _ : state) {
    auto reader = Reader::open(*world.files, world.shard->directory(), {.is_uncommitted = true});
    if (!reader) stop("open");
    for (auto next = reader->next(); next && next->status == ReadStatus::kRecord; next = reader->next()) benchmark::DoNotOptimize(next->record.payload.data());
  }
  state.SetBytesProcessed(state.iterations() * kBytes);
}
BENCHMARK(read)->ArgName("payload")->Arg(1024)->Arg(65536);

void checksum(benchmark::State& state) {
  const std::vector<std::byte> bytes(static_cast<std::size_t>(state.range(0)), std::byte{'x'});
  for (auto _ : state) benchmark::DoNotOptimize(crc32c(bytes));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(checksum)->ArgName("bytes")->Arg(96)->Arg(4096)->Arg(1 << 20);

}  // namespace
}  // namespace thalweg::log

BENCHMARK_MAIN();
