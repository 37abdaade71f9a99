// What many clients and many streams that come and go cost those that stay. Against a running instance, as an ordinary client of it:
//   clients_bench DIRECTORY churn COUNT AT_ONCE CHANNEL   publications and subscriptions made and closed beside one busy stream on CHANNEL
//   clients_bench DIRECTORY attach COUNT                  clients attached at once, each with a counter
//   clients_bench DIRECTORY ready CHANNEL SAMPLES         from ADD_PUBLICATION to READY
// Prints one JSON document for each figure.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <deque>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <thread>

#include "dataplane/base/time.hpp"
#include "dataplane/client/thalweg.hpp"
#include "dataplane/shm/broadcast.hpp"
#include "dataplane/shm/cnc.hpp"
#include "dataplane/shm/commands.hpp"
#include "dataplane/shm/counters.hpp"
#include "dataplane/shm/registry.hpp"
#include "dataplane/shm/ring_buffer.hpp"

namespace thalweg {
namespace {

constexpr std::int64_t kPatience_ns = 60 * kSecond_ns;
constexpr std::int32_t kBusyStream = 1;
constexpr std::int32_t kFirstStream = 1000;
constexpr std::size_t kMessageBytes = 64;

[[noreturn]] void give_up(std::string_view text) {
  fmt::print(stderr, "clients_bench: {}\n", text);
  std::exit(1);
}
template <typename T>
T must(Result<T>&& result) {
  if (result) return std::move(*result);
  give_up(result.error().message);
}
int number(std::string_view text) {
  int value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value > 0 ? value : (give_up(fmt::format("'{}' is no number", text)), 0);
}

void print(std::string_view figure, double value) { fmt::print("{{\"figure\": \"{}\", \"value\": {:.3f}}}\n", figure, value); }
std::int64_t median(std::vector<std::int64_t> samples) {
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

// Errors that clients are told are counted: here nobody may be told one.
std::atomic<int> errors{0};

client::Context context_of(const std::string& directory) {
  client::Context context;
  context.directory = directory;
  context.mode = client::ConductorMode::kInvoker;
  context.idle = [] { std::this_thread::yield(); };
  context.on_error = [](const Error& error) {
    if (errors.fetch_add(1) == 0) fmt::print(stderr, "clients_bench: a client was told: {}\n", error.message);
  };
  return context;
}

// Turns `client` until `predicate` holds.
template <typename Predicate>
void until(client::Client& client, Predicate&& predicate) {
  const std::int64_t deadline_ns = monotonic_ns() + kPatience_ns;
  while (!predicate()) {
    if (client.do_work() == 0) std::this_thread::yield();
    if (monotonic_ns() > deadline_ns) give_up("no answer in a minute");
  }
}

// ---- what the instance's threads did ----

// CPU time of a thread of the data plane or the control plane. Its name, or "" for the main thread.
class ThreadTime {
 public:
  ThreadTime(std::uint32_t pid, std::string_view name) {
    const std::string tasks = fmt::format("/proc/{}/task", pid);
    for (const auto& task : std::filesystem::directory_iterator{tasks}) {
      std::string found;
      std::getline(std::ifstream{task.path() / "comm"}, found);
      if (name.empty() ? task.path().filename() == std::to_string(pid) : found == name) path_ = (task.path() / "schedstat").string();
    }
    if (path_.empty()) give_up(fmt::format("process {} has no thread '{}'", pid, name));
  }
  [[nodiscard]] std::int64_t ns() const {
    std::int64_t on_cpu_ns = 0;
    std::ifstream{path_} >> on_cpu_ns;
    return on_cpu_ns;
  }

 private:
  std::string path_;
};

struct Sample {
  std::int64_t cpu_ns{};
  std::uint64_t ticks{};     // but idle ones
  std::uint64_t messages{};
  Sample& operator+=(const Sample& other) noexcept {
    cpu_ns += other.cpu_ns, ticks += other.ticks, messages += other.messages;
    return *this;
  }
  friend Sample operator-(Sample a, const Sample& b) noexcept { return {a.cpu_ns - b.cpu_ns, a.ticks - b.ticks, a.messages - b.messages}; }
};

// ---- a busy stream ----

// One thread publishes as fast as it may, another one polls.
class BusyStream {
 public:
  BusyStream(const std::string& directory, const std::string& channel)
      : sending_{[this, directory, channel] { send(directory, channel); }}, receiving_{[this, directory, channel] { receive(directory, channel); }} {
    const std::int64_t deadline_ns = monotonic_ns() + kPatience_ns;
    while (received() < 1000) {
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
      if (monotonic_ns() > deadline_ns) give_up("the busy stream did not start");
    }
  }
  ~BusyStream() {
    stop_.store(true);
    sending_.join();
    receiving_.join();
  }
  BusyStream(const BusyStream&) = delete;
  BusyStream& operator=(const BusyStream&) = delete;
  [[nodiscard]] std::uint64_t received() const noexcept { return received_.load(std::memory_order_relaxed); }

 private:
  void send(const std::string& directory, const std::string& channel) {
    auto client = must(client::Client::connect(context_of(directory)));
    auto publication = must(client.add_exclusive_publication(channel, kBusyStream));
    std::array<std::byte, kMessageBytes> message{};
    for (std::uint32_t turn = 0; !stop_.load(std::memory_order_relaxed); ++turn) {
      if (turn % 1024 == 0) client.do_work();
      if (!publication.offer(message)) std::this_thread::yield();
    }
  }
  void receive(const std::string& directory, const std::string& channel) {
    auto client = must(client::Client::connect(context_of(directory)));
    auto subscription = must(client.add_subscription(channel, kBusyStream));
    std::uint64_t count = 0;
    const auto take = [&count](std::span<const std::byte>, const client::Header&) { ++count; };
    for (std::uint32_t turn = 0; !stop_.load(std::memory_order_relaxed); ++turn) {
      if (turn % 1024 == 0) client.do_work();
      if (subscription.poll(take, 256) == 0) std::this_thread::yield();
      received_.store(count, std::memory_order_relaxed);
    }
  }
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> received_{0};
  std::thread sending_, receiving_;
};

// ---- publications and subscriptions that come and go ----

class Churn {
 public:
  Churn(const std::string& directory, std::size_t at_once) : client_{must(client::Client::connect(context_of(directory)))}, at_once_{at_once} {}

  // Makes a publication and a subscription, and closes the oldest pair when there are too many. Those that were closed lately have their places for a
  // while still (linger): a refusal closes one more, and is tried again.
  void turn() {
    const std::int32_t stream = kFirstStream + made_++;
    const auto subscription_id = must(client_.async_add_subscription(kChannel, stream));
    Pair pair;
    until(client_, [&] { return (pair.subscription = must(client_.find_subscription(subscription_id))).has_value(); });
    const std::int64_t deadline_ns = monotonic_ns() + kPatience_ns;
    while (!add_publication(pair, stream)) {
      ++refused_;
      if (!pairs_.empty()) pairs_.pop_front();
      if (monotonic_ns() > deadline_ns) give_up("no room for a publication in a minute");
      client_.do_work();
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    pairs_.push_back(std::move(pair));
    if (pairs_.size() > at_once_) pairs_.pop_front();
  }
  void keep_alive() { client_.do_work(); }
  [[nodiscard]] int made() const noexcept { return made_; }
  [[nodiscard]] int refused() const noexcept { return refused_; }

 private:
  static constexpr const char* kChannel = "aeron:ipc?term-length=64k";
  struct Pair {
    std::optional<client::Publication> publication;
    std::optional<client::Subscription> subscription;
  };
  // False: there was no place for it.
  bool add_publication(Pair& pair, std::int32_t stream) {
    const auto id = must(client_.async_add_publication(kChannel, stream));
    bool is_refused = false;
    until(client_, [&] {
      auto found = client_.find_publication(id);
      is_refused = !found && found.error().message.find("in use") != std::string::npos;
      if (!is_refused) pair.publication = must(std::move(found));
      return is_refused || pair.publication.has_value();
    });
    return !is_refused;
  }

  client::Client client_;
  std::size_t at_once_;
  std::deque<Pair> pairs_;
  int made_{}, refused_{};
};

int churn(const std::string& directory, int count, int at_once, const std::string& channel) {
  constexpr int kRounds = 20;
  const auto registry = must(shm::RegistryFile::open(directory, shm::MappedFile::Access::kReadOnly));
  const ThreadTime lane_time{registry->header.data_plane.pid.load(), "lane 0"};
  shm::LaneSlot& lane = registry->lanes[0];
  const BusyStream busy{directory, channel};
  Churn churn{directory, static_cast<std::size_t>(at_once)};
  const auto now = [&]() -> Sample {
    return {lane_time.ns(), lane.ticks_busy.load() + lane.ticks_blocked.load() + lane.ticks_housekeeping.load(), busy.received()};
  };
  Sample quiet, busy_with;
  std::int64_t churned_ns = 0;
  for (int round = 0; round < kRounds; ++round) {  // in turns: what the machine does meanwhile hits both alike
    const Sample before = now();
    const std::int64_t begin_ns = monotonic_ns();
    const int upto = count * (round + 1) / kRounds;
    while (churn.made() < upto) churn.turn();
    const std::int64_t took_ns = monotonic_ns() - begin_ns;
    const Sample between = now();
    for (const std::int64_t end_ns = monotonic_ns() + took_ns; monotonic_ns() < end_ns;) {
      churn.keep_alive();
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    busy_with += between - before;
    quiet += now() - between;
    churned_ns += took_ns;
  }
  const auto per_message = [](double value, const Sample& sample) { return value / static_cast<double>(std::max<std::uint64_t>(sample.messages, 1)); };
  print("churn_cpu_ns_per_message", per_message(static_cast<double>(busy_with.cpu_ns), busy_with));
  print("quiet_cpu_ns_per_message", per_message(static_cast<double>(quiet.cpu_ns), quiet));
  print("churn_ticks_per_message", per_message(static_cast<double>(busy_with.ticks), busy_with));
  print("quiet_ticks_per_message", per_message(static_cast<double>(quiet.ticks), quiet));
  print("turn_ns_max", static_cast<double>(lane.turn_ns_max.load()));
  print("pair_ns", static_cast<double>(churned_ns) / count);
  print("refused", churn.refused());
  return 0;
}

// ---- many clients ----

int attach(const std::string& directory, int count) {
  const auto registry = must(shm::RegistryFile::open(directory, shm::MappedFile::Access::kReadOnly));
  const auto cnc = must(shm::CncFile::open(directory, shm::MappedFile::Access::kReadOnly));
  const ThreadTime conductor_time{registry->header.control_plane.pid.load(), ""};
  struct One {
    client::Client client;
    client::RegistrationId id{};
    std::optional<client::ClientCounter> counter;
  };
  std::vector<One> all;
  all.reserve(static_cast<std::size_t>(count));
  const std::int64_t start_ns = monotonic_ns();
  for (int i = 0; i < count; ++i) all.push_back({must(client::Client::connect(context_of(directory))), {}, {}});
  for (One& one : all) one.id = must(one.client.async_add_counter(1101, {}, "attached"));
  const auto turn = [&all] {
    std::size_t ready = 0;
    for (One& one : all) {
      one.client.do_work();
      if (!one.counter) one.counter = must(one.client.find_counter(one.id));
      ready += one.counter ? 1 : 0;
    }
    return ready;
  };
  while (turn() < all.size()) {
    if (monotonic_ns() - start_ns > kPatience_ns) give_up("not all clients attached in a minute");
  }
  print("attach_ns", static_cast<double>(monotonic_ns() - start_ns));
  const std::int64_t before_ns = conductor_time.ns();
  const std::int64_t begin_ns = monotonic_ns();
  while (monotonic_ns() - begin_ns < 3 * kSecond_ns) {
    turn();
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
  }
  print("conductor_share", 100.0 * static_cast<double>(conductor_time.ns() - before_ns) / static_cast<double>(monotonic_ns() - begin_ns));
  shm::CountersReader counters{cnc.counter_metadata(), cnc.counter_values()};
  print("conductor_cycle_ns_max", static_cast<double>(counters.counter(static_cast<std::int32_t>(shm::SystemCounter::kConductorMaxCycleTime)).get()));
  print("errors", errors.load() + static_cast<double>(counters.counter(static_cast<std::int32_t>(shm::SystemCounter::kErrors)).get()));
  return 0;
}

// ---- READY ----

// Without a client library, which maps the log before it hands the publication out.
int ready(const std::string& directory, const std::string& channel, int samples) {
  const auto cnc = must(shm::CncFile::open(directory, shm::MappedFile::Access::kReadWrite));
  shm::ManyToOneRing ring{cnc.to_driver()};
  shm::BroadcastReceiver answers{cnc.to_clients()};
  const std::int64_t client_id = ring.next_correlation_id();
  shm::Buffer scratch;
  const auto ask = [&](shm::Command type, const auto& message, shm::Response wanted) {
    shm::encode(scratch, message);
    const std::int64_t start_ns = monotonic_ns();
    while (!ring.write(static_cast<std::int32_t>(type), scratch)) std::this_thread::yield();
    for (;;) {
      std::int32_t found{};
      std::span<const std::byte> body;
      if (!answers.receive(found, body)) std::this_thread::yield();
      else if (found == static_cast<std::int32_t>(wanted) && load_le<std::int64_t>(body.data()) == message.correlation_id) return monotonic_ns() - start_ns;
      if (monotonic_ns() - start_ns > kPatience_ns) give_up("no READY in a minute");
    }
  };
  std::vector<std::int64_t> taken_ns;
  for (int i = 0; i < samples; ++i) {
    shm::AddPublication add;
    add.client_id = client_id;
    add.correlation_id = ring.next_correlation_id();
    add.stream_id = kFirstStream;
    add.channel = channel;
    taken_ns.push_back(ask(shm::Command::kAddExclusivePublication, add, shm::Response::kExclusivePublicationReady));
    shm::RemovePublication remove;
    remove.client_id = client_id;
    remove.correlation_id = ring.next_correlation_id();
    remove.registration_id = add.correlation_id;
    ask(shm::Command::kRemovePublication, remove, shm::Response::kOperationSuccess);
    std::this_thread::sleep_for(std::chrono::milliseconds{100});  // the pool is filled again behind a stream's back, as in life
  }
  print("ready_ns", static_cast<double>(median(std::move(taken_ns))));
  return 0;
}

}  // namespace
}  // namespace thalweg

int main(int argc, char** argv) {
  const std::vector<std::string> arguments{argv + 1, argv + argc};
  const std::string what = arguments.size() > 1 ? arguments[1] : "";
  if (what == "churn" && arguments.size() == 5) return thalweg::churn(arguments[0], thalweg::number(arguments[2]), thalweg::number(arguments[3]), arguments[4]);
  if (what == "attach" && arguments.size() == 3) return thalweg::attach(arguments[0], thalweg::number(arguments[2]));
  if (what == "ready" && arguments.size() == 4) return thalweg::ready(arguments[0], arguments[2], thalweg::number(arguments[3]));
  thalweg::give_up("DIRECTORY churn COUNT AT_ONCE CHANNEL | attach COUNT | ready CHANNEL SAMPLES");
}
