// A replay beside its ceilings in the same run: frames read and checked out of a recording in the page cache, the same into an IPC publication, and what that
// publication takes from an application that offers messages of the same size. One thread plays replayer, subscriber and driver in turn, so that the machine's other
// load is shared by all figures. And a recording: whole blocks of a stream onto the disk, synced by time and at the end. Files lie in $THALWEG_BENCH_DIRECTORY, or in the current directory; they are removed.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "controlplane/archive/replay.hpp"
#include "controlplane/log/frame_log.hpp"
#include "controlplane/log/frame_reader.hpp"
#include "controlplane/log/plain_file_system.hpp"
#include "dataplane/client/thalweg.hpp"
#include "tests/support/ipc_driver.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg::archive {
namespace {

constexpr std::uint64_t kRecordedBytes = 256U << 20;
constexpr std::uint64_t kBlockBytes = 128U << 10;
constexpr std::int32_t kStreamId = 1001;
constexpr log::FrameStream kStream{.session_id = 7, .stream_id = kStreamId, .initial_term_id = 3, .term_bytes = 16U << 20, .mtu_bytes = 1408};

[[noreturn]] void stop(const std::string& what) {
  std::fprintf(stderr, "replay_bench: %s\n", what.c_str());
  std::exit(1);
}

std::filesystem::path fresh_directory() {
  const char* const where = std::getenv("THALWEG_BENCH_DIRECTORY");
  const std::filesystem::path path = std::filesystem::path{where != nullptr ? where : "."} / ("replay-bench-" + std::to_string(::getpid()));
  std::filesystem::remove_all(path);
  return path;
}

// The stream's frames from `position` on, whole ones, as many as fit a block and their term. Of padding, which is always alone, the header.
std::span<const std::byte> frames_at(std::uint64_t position, std::uint32_t payload, std::vector<std::byte>& block) {
  const std::uint32_t length = payload + log::kFrameHeaderBytes;
  const auto span = align_up<std::uint32_t>(length, log::kFrameAlignment);
  std::size_t bytes = 0;
  for (;;) {
    const auto offset = static_cast<std::uint32_t>((position + bytes) % kStream.term_bytes);
    const std::uint32_t left = kStream.term_bytes - offset;
    const bool is_padding = span > left;
    if (bytes != 0 && (offset == 0 || is_padding || bytes + span > block.size())) return std::span{block}.first(bytes);
    std::byte* const at = block.data() + bytes;
    store_le(at, is_padding ? left : length);
    store_le(at + 4, is_padding ? 0x0000'C000U : 0x0001'C000U);
    store_le(at + 8, offset);
    store_le(at + 12, kStream.session_id);
    store_le(at + 16, kStream.stream_id);
    store_le(at + 20, kStream.initial_term_id + static_cast<std::int32_t>(position / kStream.term_bytes));
    if (is_padding) return std::span{block}.first(log::kFrameHeaderBytes);
    bytes += span;
  }
}

void fill(log::FrameLog& log, std::uint64_t bytes, std::uint32_t payload) {
  std::vector<std::byte> block(kBlockBytes, std::byte{'x'});
  while (log.position() < bytes)
    if (const auto end = log.append(frames_at(log.position(), payload, block)); !end) stop(end.error().message);
}

struct Recorded {
  explicit Recorded(std::uint32_t payload) {
    auto log = log::FrameLog::open(*files, clock, path, {.log_id = 1, .stream = kStream, .sync = log::SyncPolicy::kNone});
    if (!log) stop(log.error().message);
    fill(**log, kRecordedBytes, payload);
  }
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;
  ~Recorded() { std::filesystem::remove_all(path); }
  [[nodiscard]] log::FrameReader reader() const {
    auto opened = log::FrameReader::open(*files, path, {.stream = kStream, .is_uncommitted = true});
    if (!opened) stop(opened.error().message);
    return std::move(*opened);
  }
  std::filesystem::path path{fresh_directory()};
  std::unique_ptr<log::FileSystem> files{log::make_file_system()};
  log::SystemClock clock;
};

// As the archive does it: one thread appends, another one calls maintain().
void record(benchmark::State& state) {
  constexpr std::uint64_t kBytes = 1U << 30;
  const auto files = log::make_file_system();
  const log::SystemClock clock;
  for (auto _ : state) {
    const std::filesystem::path path = fresh_directory();
    auto log = log::FrameLog::open(*files, clock, path, {.log_id = 1, .stream = kStream});
    if (!log || !(*log)->maintain()) stop("open");
    const std::int64_t begin_ns = monotonic_ns();
    std::atomic<bool> is_over{false};
    std::thread keeper{[&] {
      while (!is_over) {
        if (!(*log)->maintain()) stop("maintain");
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
      }
    }};
    fill(**log, kBytes, static_cast<std::uint32_t>(state.range(0)));
    if (!(*log)->sync()) stop("sync");
    state.SetIterationTime(static_cast<double>(monotonic_ns() - begin_ns) / 1e9);
    is_over = true;
    keeper.join();
    log->reset();
    std::filesystem::remove_all(path);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kBytes));
}
BENCHMARK(record)->ArgName("payload")->Arg(1024)->Iterations(1)->UseManualTime()->Unit(benchmark::kMillisecond);

// A publication of the recording's shape and a subscriber that takes whole blocks.
struct Stream {
  Stream() {
    test::IpcDriver::Options options;
    options.directory = directory.path();
    options.term_length = static_cast<std::int32_t>(kStream.term_bytes);
    options.mtu = static_cast<std::int32_t>(kStream.mtu_bytes);
    driver.emplace(std::move(options));
    client::Context context;
    context.directory = directory.path();
    context.mode = client::ConductorMode::kInvoker;
    context.idle = [this] { driver->do_work(); };
    auto connected = client::Client::connect(std::move(context));
    if (!connected) stop(connected.error().message);
    client.emplace(std::move(*connected));
    auto added = client->add_exclusive_publication("aeron:ipc", kStreamId);
    auto subscribed = client->add_subscription("aeron:ipc", kStreamId);
    if (!added || !subscribed) stop("no stream");
    publication = std::move(*added);
    subscription = std::move(*subscribed);
    for (int i = 0; i < 8; ++i) turn();
  }
  void turn() {
    driver->do_work();
    client->do_work();
  }
  void drain() {
    while (subscription.block_poll([](std::span<const std::byte> frames, std::int32_t, std::int32_t) { benchmark::DoNotOptimize(frames.data()); }, 1 << 20) > 0) {
    }
    driver->update_publications();
  }
  test::TemporaryDirectory directory{"replay-bench"};
  std::optional<test::IpcDriver> driver;
  std::optional<client::Client> client;
  client::ExclusivePublication publication;
  client::Subscription subscription;
};

void replay_read(benchmark::State& state) {
  const Recorded recorded{static_cast<std::uint32_t>(state.range(0))};
  std::int64_t bytes = 0;
  for (auto _ : state) {
    auto reader = recorded.reader();
    for (;;) {
      const auto block = reader.next(kBlockBytes);
      if (!block) stop(block.error().message);
      if (!*block) break;
      bytes += static_cast<std::int64_t>((*block)->span);
    }
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(replay_read)->ArgName("payload")->Arg(96)->Arg(1024)->Unit(benchmark::kMillisecond);

void replay_into_ipc(benchmark::State& state) {
  const Recorded recorded{static_cast<std::uint32_t>(state.range(0))};
  Stream stream;
  std::int64_t bytes = 0;
  for (auto _ : state) {
    auto reader = recorded.reader();
    for (;;) {
      const auto block = reader.next(kBlockBytes);
      if (!block) stop(block.error().message);
      if (!*block) break;
      client::OfferResult result = stream.publication.offer_block((*block)->frames);
      for (; result.is_retryable(); result = stream.publication.offer_block((*block)->frames)) stream.drain();
      if (!result) stop(client::to_string(result.status()));
      bytes += static_cast<std::int64_t>((*block)->span);
    }
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(replay_into_ipc)->ArgName("payload")->Arg(96)->Arg(1024)->Unit(benchmark::kMillisecond);

void offer_into_ipc(benchmark::State& state) {
  const std::vector<std::byte> message(static_cast<std::size_t>(state.range(0)), std::byte{'x'});
  Stream stream;
  const std::int64_t begin = stream.publication.position();
  for (auto _ : state) {
    const std::int64_t end = stream.publication.position() + static_cast<std::int64_t>(kRecordedBytes);
    while (stream.publication.position() < end) {
      const client::OfferResult result = stream.publication.offer(message);
      if (!result) stream.drain();
    }
  }
  state.SetBytesProcessed(stream.publication.position() - begin);
}
BENCHMARK(offer_into_ipc)->ArgName("payload")->Arg(96)->Arg(1024)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace thalweg::archive

BENCHMARK_MAIN();
