// What clients wait for: READY after ADD_PUBLICATION, and the first status message after a SETUP; and what an idle conductor costs.
// A whole instance with its threads in this process: conductor, worker, steward, one lane. Prints one JSON document for each figure:
// medians in ns, and per cent of a core.
// Usage: conductor_bench [samples]
#include <fmt/format.h>
#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <thread>

#include "controlplane/conductor/conductor.hpp"
#include "dataplane/client/thalweg.hpp"
#include "dataplane/core/dataplane.hpp"
#include "pmd/eal.hpp"
#include "tests/support/free_udp_port.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg {
namespace {

using test::TemporaryDirectory;

constexpr std::int32_t kTermLength = 64 << 10;
constexpr std::int64_t kPatience_ns = 5 * kSecond_ns;

template <typename T>
T must(Result<T>&& result) {
  if (result) return std::move(*result);
  fmt::print(stderr, "conductor_bench: {}\n", result.error().message);
  std::exit(1);
}

conductor::Time read_clocks() { return {monotonic_ns(), epoch_ms()}; }

std::int64_t cpu_time_ns(std::thread& thread) {
  clockid_t clock{};
  struct timespec spent {};
  ::pthread_getcpuclockid(thread.native_handle(), &clock);
  ::clock_gettime(clock, &spent);
  return spent.tv_sec * kSecond_ns + spent.tv_nsec;
}

// The threads of both processes as their main.cpp files run them.
class Instance {
 public:
  Instance() : files_{open_files()}, worker_{[this] { shm::wake(files_.registry->header.control_wake); }} {
    conductor::Settings settings;
    settings.directory = path_;
    host::LogStore::Options logs;
    logs.directory = path_;
    logs.pool = {{kTermLength, 8}};
    settings.streams.term_length = kTermLength;
    conductor_ = must(conductor::Conductor::create(settings, files_, logs, worker_, read_clocks()));
    worker_.start();
    core::DataplaneOptions options;
    options.directory = path_;
    options.lanes.resize(1);
    pmd::PortOptions loopback;
    loopback.name = "loopback";
    loopback.kind = shm::PortKind::kLoopback;
    loopback.address = 0x7F000001;
    loopback.prefix_length = 8;
    options.ports = {loopback};
    plane_ = must(core::Dataplane::create(options, *files_.registry, {files_.cnc.counter_metadata(), files_.cnc.counter_values()}));
    plane_->watch_commands(shm::ManyToOneRing{files_.cnc.to_driver()});
    if (auto started = plane_->start(); !started) {
      fmt::print(stderr, "conductor_bench: {}\n", started.error().message);
      std::exit(1);
    }
    steward_ = std::thread{[this] { plane_->run_steward(stop_); }};
    conducting_ = std::thread{[this] { conduct(); }};
  }
  ~Instance() {
    stop_.store(true);
    conducting_.join();
    steward_.join();
    plane_.reset();
    worker_.stop();
  }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] double idle_cpu_share(std::int64_t duration_ns) {
    const std::int64_t before_ns = cpu_time_ns(conducting_);
    std::this_thread::sleep_for(std::chrono::nanoseconds{duration_ns});
    return static_cast<double>(cpu_time_ns(conducting_) - before_ns) / static_cast<double>(duration_ns);
  }

 private:
  host::InstanceFiles open_files() {
    host::InstanceOptions options;
    options.directory = path_;
    return must(host::InstanceFiles::open(options, epoch_ms(), monotonic_ns()));
  }
  void conduct() {
    ::prctl(PR_SET_TIMERSLACK, 1UL);
    auto& bell = files_.registry->header.control_wake;
    while (!stop_.load(std::memory_order_relaxed)) {
      const std::uint32_t seen = bell.load(std::memory_order_acquire);
      if (conductor_->poll(read_clocks()) == 0) conductor_->rest(seen);
    }
  }

  TemporaryDirectory directory_{"bench"};
  std::string path_{directory_.path() + "/instance"};
  host::InstanceFiles files_;
  host::Worker worker_;
  std::unique_ptr<conductor::Conductor> conductor_;
  std::unique_ptr<core::Dataplane> plane_;
  std::atomic<bool> stop_{false};
  std::thread steward_, conducting_;
};

struct Client {
  explicit Client(const Instance& instance) : client{must(client::Client::connect(context(instance.path())))} {}
  static client::Context context(const std::string& directory) {
    client::Context context;
    context.directory = directory;
    context.mode = client::ConductorMode::kInvoker;
    context.idle = [] { std::this_thread::yield(); };
    return context;
  }
  // Turns the client until `predicate` holds.
  template <typename Predicate>
  void until(Predicate&& predicate) {
    const std::int64_t deadline_ns = monotonic_ns() + kPatience_ns;
    while (!predicate()) {
      if (client.do_work() == 0) std::this_thread::yield();
      if (monotonic_ns() < deadline_ns) continue;
      fmt::print(stderr, "conductor_bench: no answer in {} s\n", kPatience_ns / kSecond_ns);
      std::exit(1);
    }
  }
  client::ExclusivePublication publish(const std::string& channel, std::int32_t stream_id) {
    const auto id = must(client.async_add_exclusive_publication(channel, stream_id));
    std::optional<client::ExclusivePublication> publication;
    until([&] {
      publication = must(client.find_exclusive_publication(id));
      return publication.has_value();
    });
    return std::move(*publication);
  }
  client::Client client;
};

void print(const char* figure, double value) { fmt::print("{{\"figure\": \"{}\", \"value\": {:.3f}}}\n", figure, value); }

// The median, in ns.
void print(const char* figure, std::vector<std::int64_t> samples_ns) {
  const auto middle = samples_ns.begin() + static_cast<std::ptrdiff_t>(samples_ns.size() / 2);
  std::nth_element(samples_ns.begin(), middle, samples_ns.end());
  print(figure, static_cast<double>(*middle));
}

// The pool is filled again behind a stream's back: between samples there is time for it, as in life.
void rest() { std::this_thread::sleep_for(std::chrono::milliseconds{15}); }

// The least that an answer of a sleeping conductor takes: a thread is woken and stores a word that the asker polls for.
void measure_wake_up(int samples) {
  std::atomic<std::uint32_t> bell{0}, answered{0};
  std::thread other{[&] {
    ::prctl(PR_SET_TIMERSLACK, 1UL);
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(samples); ++i) {
      while (bell.load(std::memory_order_acquire) == i) shm::wait(bell, i, kPatience_ns);
      answered.store(i + 1, std::memory_order_release);
    }
  }};
  std::vector<std::int64_t> taken_ns;
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(samples); ++i) {
    rest();
    const std::int64_t start_ns = monotonic_ns();
    shm::wake(bell);
    while (answered.load(std::memory_order_acquire) == i) std::this_thread::yield();
    taken_ns.push_back(monotonic_ns() - start_ns);
  }
  other.join();
  print("wake_and_answer", taken_ns);
}

void measure_ready(Client& client, const char* what, const std::string& channel, int samples) {
  const auto holder = client.publish(channel, 1);  // the endpoint stays open
  std::vector<std::int64_t> taken_ns;
  for (int i = 0; i < samples; ++i) {
    const std::int64_t start_ns = monotonic_ns();
    auto publication = client.publish(channel, 2);
    taken_ns.push_back(monotonic_ns() - start_ns);
    publication.close();
    rest();
  }
  print(what, taken_ns);
}

// The publisher's lane sends SETUP before READY is on its way; connected means that the status message came back. So this bounds the time
// from SETUP to status message from above: it holds the whole ADD_PUBLICATION too.
void measure_setup(Client& client, int samples) {
  const std::string channel = fmt::format("aeron:udp?linger=1ms|endpoint=127.0.0.1:{}", test::free_udp_port());
  std::vector<std::int64_t> taken_ns;
  const auto subscription = must(client.client.async_add_subscription(channel, 3));
  std::optional<client::Subscription> subscribed;
  client.until([&] {
    subscribed = must(client.client.find_subscription(subscription));
    return subscribed.has_value();
  });
  for (int i = 0; i < samples; ++i) {
    const std::int64_t start_ns = monotonic_ns();
    auto publication = client.publish(channel, 3);
    client.until([&] { return publication.is_connected(); });
    taken_ns.push_back(monotonic_ns() - start_ns);
    publication.close();
    rest();
  }
  print("add_to_first_status_message", taken_ns);
}

int run(int samples) {
  pmd::EalOptions options;
  options.instance = "thalweg-bench";
  options.memory = pmd::EalMemory::kOrdinaryPages;
  options.memory_bytes = 96U << 20;
  options.log_level = pmd::LogLevel::kError;
  const auto eal = must(pmd::Eal::start(options));
  measure_wake_up(samples);
  Instance instance;
  {
    Client client{instance};
    measure_ready(client, "ready_ipc_pooled", "aeron:ipc?term-length=64k", samples);
    const std::uint16_t port = test::free_udp_port();
    measure_ready(client, "ready_udp_pooled", fmt::format("aeron:udp?term-length=64k|linger=1ms|endpoint=127.0.0.1:{}", port), samples);
    measure_ready(client, "ready_ipc_made_on_demand", "aeron:ipc?term-length=128k", samples);
    measure_setup(client, samples);
  }
  print("idle_conductor", 100.0 * instance.idle_cpu_share(3 * kSecond_ns));
  return 0;
}

}  // namespace
}  // namespace thalweg

int main(int argc, char** argv) {
  int samples = 300;
  if (argc > 1) {
    const std::string_view text{argv[1]};
    std::from_chars(text.data(), text.data() + text.size(), samples);
  }
  return thalweg::run(std::max(samples, 1));
}
