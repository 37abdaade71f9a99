// What clients wait for: READY after ADD_PUBLICATION, the publication as the client library hands it out, and the first status message after a
// SETUP; and what an idle conductor costs.
// A whole instance with its threads in this process: conductor, worker, steward, one lane. Prints one JSON document for each figure:
// medians in ns, and per cent of a core.
// Usage: conductor_bench [samples]
#include <arpa/inet.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <thread>

#include "controlplane/conductor/conductor.hpp"
#include "dataplane/client/thalweg.hpp"
#include "dataplane/core/dataplane.hpp"
#include "dataplane/wire/frames.hpp"
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

// Asks without a client library: what it does for READY on its own side (to open and map the log) takes as long as the answer itself.
class Asker {
 public:
  explicit Asker(const Instance& instance)
      : cnc_{must(shm::CncFile::open(instance.path(), shm::MappedFile::Access::kReadWrite))}, ring_{cnc_.to_driver()}, answers_{cnc_.to_clients()} {}

  // From the command to its READY, in ns; the publication is gone again when it returns.
  std::int64_t time_ready(const std::string& channel, std::int32_t stream_id) {
    shm::AddPublication add;
    add.client_id = client_id_;
    add.correlation_id = ring_.next_correlation_id();
    add.stream_id = stream_id;
    add.channel = channel;
    const std::int64_t start_ns = monotonic_ns();
    send(shm::Command::kAddExclusivePublication, add);
    await(shm::Response::kExclusivePublicationReady, add.correlation_id);
    const std::int64_t taken_ns = monotonic_ns() - start_ns;
    shm::RemovePublication remove;
    remove.client_id = client_id_;
    remove.correlation_id = ring_.next_correlation_id();
    remove.registration_id = add.correlation_id;
    send(shm::Command::kRemovePublication, remove);
    await(shm::Response::kOperationSuccess, remove.correlation_id);
    return taken_ns;
  }

 private:
  template <typename Message>
  void send(shm::Command type, const Message& message) {
    shm::encode(scratch_, message);
    while (!ring_.write(static_cast<std::int32_t>(type), scratch_)) std::this_thread::yield();
  }
  // Both answers begin with the correlation id of their command.
  void await(shm::Response type, std::int64_t correlation_id) {
    const std::int64_t deadline_ns = monotonic_ns() + kPatience_ns;
    std::int32_t found{};
    std::span<const std::byte> body;
    while (monotonic_ns() < deadline_ns) {
      if (!answers_.receive(found, body)) {
        std::this_thread::yield();
      } else if (found == static_cast<std::int32_t>(type) && load_le<std::int64_t>(body.data()) == correlation_id) {
        return;
      }
    }
    fmt::print(stderr, "conductor_bench: no answer in {} s\n", kPatience_ns / kSecond_ns);
    std::exit(1);
  }

  shm::CncFile cnc_;
  shm::ManyToOneRing ring_;
  shm::BroadcastReceiver answers_;
  std::int64_t client_id_{ring_.next_correlation_id()};
  shm::Buffer scratch_;
};

// A publisher as the wire knows it: a socket that sends a SETUP and waits for the status message. The system calls at this end and the
// kernel's loopback device are in its figure.
class WirePublisher {
 public:
  explicit WirePublisher(std::uint16_t port) : socket_{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)} {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(port);
    if (socket_ < 0 || ::connect(socket_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
      fmt::print(stderr, "conductor_bench: no socket: {}\n", std::strerror(errno));
      std::exit(1);
    }
  }
  WirePublisher(const WirePublisher&) = delete;
  WirePublisher& operator=(const WirePublisher&) = delete;
  ~WirePublisher() { ::close(socket_); }

  // From the SETUP of a new session to the first status message for it, in ns. `turn` runs while it waits.
  template <typename Turn>
  std::int64_t time_status_message(std::int32_t session_id, std::int32_t stream_id, Turn&& turn) {
    wire::Setup setup;
    setup.session_id = session_id;
    setup.stream_id = stream_id;
    setup.term_length = kTermLength;
    setup.mtu = 1408;
    std::array<std::byte, 2048> frame{};
    wire::build(frame.data(), setup);
    const std::int64_t start_ns = monotonic_ns();
    if (::send(socket_, frame.data(), wire::Setup::kLength, 0) < 0) return 0;
    for (;;) {
      const auto length = ::recv(socket_, frame.data(), frame.size(), 0);
      if (length > 0) {
        const auto answer = wire::StatusMessage::parse(std::span{frame}.first(static_cast<std::size_t>(length)));
        if (answer && answer->session_id == session_id) return monotonic_ns() - start_ns;
      }
      turn();
      if (monotonic_ns() - start_ns < kPatience_ns) continue;
      fmt::print(stderr, "conductor_bench: no status message in {} s\n", kPatience_ns / kSecond_ns);
      std::exit(1);
    }
  }

 private:
  int socket_;
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

void measure_ready(Client& client, Asker& asker, const char* what, const std::string& channel, int samples) {
  const auto holder = client.publish(channel, 1);  // the endpoint stays open
  std::vector<std::int64_t> taken_ns;
  for (int i = 0; i < samples; ++i) {
    taken_ns.push_back(asker.time_ready(channel, 2));
    rest();
    client.client.do_work();  // keeps it alive
  }
  print(what, taken_ns);
}

// Until the library hands the publication out: its log is mapped on the client's side too.
void measure_usable(Client& client, const char* what, const std::string& channel, int samples) {
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

// The lane asks for an image, the control plane takes a log out of the pool, the lane answers. And the same with the publisher's
// ADD_PUBLICATION before it: connected means that the status message came back.
void measure_setup(Client& client, int samples) {
  const std::uint16_t port = test::free_udp_port();
  const std::string channel = fmt::format("aeron:udp?linger=1ms|endpoint=127.0.0.1:{}", port);
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
  taken_ns.clear();
  WirePublisher publisher{port};
  for (int i = 0; i < samples; ++i) {
    taken_ns.push_back(publisher.time_status_message(i, 3, [&] {
      if (client.client.do_work() == 0) std::this_thread::yield();
    }));
    rest();
  }
  print("setup_to_status_message", taken_ns);
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
    Asker asker{instance};
    const std::string ipc = "aeron:ipc?term-length=64k";
    const std::string udp = fmt::format("aeron:udp?term-length=64k|linger=1ms|endpoint=127.0.0.1:{}", test::free_udp_port());
    measure_ready(client, asker, "ready_ipc_pooled", ipc, samples);
    measure_ready(client, asker, "ready_udp_pooled", udp, samples);
    measure_ready(client, asker, "ready_ipc_made_on_demand", "aeron:ipc?term-length=128k", samples);
    measure_usable(client, "usable_ipc_pooled", ipc, samples);
    measure_usable(client, "usable_udp_pooled", udp, samples);
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
