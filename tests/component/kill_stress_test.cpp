// Processes killed at random while they write what others read: to-driver ring, broadcast buffer, and logs with claims, commits, aborts, fragments
// and rotations. What was committed arrives, once, whole and in order; what was not is skipped. THALWEG_KILLS sets the kills of each test (200).
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/base/random.hpp"
#include "dataplane/base/time.hpp"
#include "dataplane/client/thalweg.hpp"
#include "dataplane/shm/broadcast.hpp"
#include "dataplane/shm/log_buffer.hpp"
#include "dataplane/shm/ring_buffer.hpp"
#include "tests/support/ipc_driver.hpp"
#include "tests/support/shared_memory.hpp"
#include "tests/support/temporary_directory.hpp"

namespace thalweg::test {
namespace {

constexpr std::uint32_t kProducers = 3;
constexpr std::int64_t kDeadline_ns = 300 * kSecond_ns;  // without a message: something is stuck for good

std::uint32_t kill_count() {
  const char* const wish = std::getenv("THALWEG_KILLS");
  return wish != nullptr ? static_cast<std::uint32_t>(std::strtoul(wish, nullptr, 10)) : 200;
}

// ---- messages: who sent it, its number, and bytes that both determine ----

constexpr std::size_t kHeader = 8;
std::byte byte_of(std::uint32_t producer, std::uint32_t number, std::size_t at) { return static_cast<std::byte>(producer * 131 + number * 31 + at * 7 + (at >> 8)); }

void write_message(std::span<std::byte> bytes, std::uint32_t producer, std::uint32_t number) {
  store_le(bytes.data(), producer);
  store_le(bytes.data() + 4, number);
  for (std::size_t i = kHeader; i < bytes.size(); ++i) bytes[i] = byte_of(producer, number, i);
}

// What one producer after the other sent, and whether that is what came.
class Judge {
 public:
  void on(std::span<const std::byte> bytes) {
    last_ns_ = monotonic_ns();
    ++count_;
    if (bytes.size() < kHeader) return wrong("a message of " + std::to_string(bytes.size()) + " bytes");
    const auto producer = load_le<std::uint32_t>(bytes.data());
    const auto number = load_le<std::uint32_t>(bytes.data() + 4);
    for (std::size_t i = kHeader; i < bytes.size(); ++i) {
      if (bytes[i] != byte_of(producer, number, i)) return wrong(name(producer, number) + " is torn at byte " + std::to_string(i) + " of " + std::to_string(bytes.size()));
    }
    std::uint32_t& next = next_[producer];
    if (number != next && !may_miss_) return wrong(name(producer, number) + " came where number " + std::to_string(next) + " was due");
    if (number < next) return wrong(name(producer, number) + " came again");
    next = number + 1;
  }
  // How many of `producer` came.
  [[nodiscard]] std::uint32_t received(std::uint32_t producer) const {
    const auto found = next_.find(producer);
    return found == next_.end() ? 0 : found->second;
  }
  void allow_misses(bool may_miss) { may_miss_ = may_miss; }
  void wrong(const std::string& text) {
    if (errors_.size() < 10) errors_.push_back(text);
  }
  [[nodiscard]] const std::vector<std::string>& errors() const { return errors_; }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] bool is_late() const { return monotonic_ns() - last_ns_ > kDeadline_ns; }

 private:
  static std::string name(std::uint32_t producer, std::uint32_t number) { return "message " + std::to_string(number) + " of producer " + std::to_string(producer); }
  std::map<std::uint32_t, std::uint32_t> next_;
  std::vector<std::string> errors_;
  std::uint64_t count_{};
  std::int64_t last_ns_{monotonic_ns()};
  bool may_miss_{};
};

// ---- producers ----

// What a producer says of itself, in memory that outlives it.
struct Producer {
  std::atomic<std::uint32_t> is_busy{};    // may be inside a claim
  std::atomic<std::uint32_t> committed{};  // messages, of which the last may be one more
};

// Processes that write until they are killed. Nobody may skip a claim whose owner lives: a test that cannot wait for time-outs lets them rest first.
class Fleet {
 public:
  using Work = std::function<void(Fleet&, std::uint32_t)>;
  Fleet(std::uint32_t size, Work work) : memory_{sizeof(std::atomic<std::uint32_t>) * 16 + size * sizeof(Producer)}, work_{std::move(work)} {}
  ~Fleet() {
    while (!living_.empty()) kill(living_.begin()->first);
  }
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  void start() {
    const std::uint32_t number = started_++;
    const pid_t child = ::fork();
    if (child == 0) {
      work_(*this, number);
      ::_exit(1);
    }
    living_[child] = number;
  }
  void kill_one(Random& random) {
    auto victim = living_.begin();
    std::advance(victim, static_cast<std::ptrdiff_t>(random.below(living_.size())));
    kill(victim->first);
  }
  void kill(pid_t child) {
    ::kill(child, SIGKILL);
    int status = 0;
    if (::waitpid(child, &status, 0) != child || !WIFSIGNALED(status)) lost_ += 1;
    living_.erase(child);
  }
  // Nobody is inside a claim but the dead. `meanwhile` does what the living wait for.
  template <typename Meanwhile>
  void rest(Meanwhile&& meanwhile) {
    resting().store(1);
    const auto is_any_busy = [this] {
      return std::any_of(living_.begin(), living_.end(), [this](const auto& one) { return producer(one.second).is_busy.load() != 0; });
    };
    while (is_any_busy()) meanwhile();
  }
  void resume() { resting().store(0); }

  // In a producer: around each message.
  void enter(std::uint32_t number) {
    for (;;) {
      while (resting().load() != 0) std::this_thread::yield();
      producer(number).is_busy.store(1);
      if (resting().load() == 0) return;
      producer(number).is_busy.store(0);
    }
  }
  void leave(std::uint32_t number, bool has_committed) {
    if (has_committed) producer(number).committed.fetch_add(1);
    producer(number).is_busy.store(0);
  }

  [[nodiscard]] Producer& producer(std::uint32_t number) { return reinterpret_cast<Producer*>(memory_.data() + 64)[number]; }
  [[nodiscard]] std::uint32_t started() const { return started_; }
  [[nodiscard]] std::uint32_t lost() const { return lost_; }  // that did not die of us

 private:
  [[nodiscard]] std::atomic<std::uint32_t>& resting() { return *reinterpret_cast<std::atomic<std::uint32_t>*>(memory_.data()); }
  SharedMemory memory_;
  Work work_;
  std::map<pid_t, std::uint32_t> living_;
  std::uint32_t started_{};
  std::uint32_t lost_{};
};

// Everything that was committed came; the last message of a producer may have been committed and not counted any more.
void expect_everything(Fleet& fleet, const Judge& judge) {
  EXPECT_EQ(judge.errors(), std::vector<std::string>{});
  for (std::uint32_t number = 0; number < fleet.started(); ++number) {
    const std::uint32_t committed = fleet.producer(number).committed.load();
    EXPECT_GE(judge.received(number), committed) << "of producer " << number;
    EXPECT_LE(judge.received(number), committed + 1) << "of producer " << number;
  }
  EXPECT_EQ(fleet.lost(), 0U);
  EXPECT_GT(judge.count(), fleet.started());
}

// Kills one after the other while `turn` keeps the streams going; each lives for a random number of turns.
template <typename Turn>
void kill_at_random(Fleet& fleet, Judge& judge, Turn&& turn) {
  Random random{4711};
  for (std::uint32_t i = 0; i < kProducers; ++i) fleet.start();
  for (std::uint32_t kills = 0; kills < kill_count() && judge.errors().empty() && !judge.is_late(); ++kills) {
    const std::uint64_t wanted = judge.count() + random.below(400);
    while (judge.count() < wanted && judge.errors().empty() && !judge.is_late()) turn();
    fleet.kill_one(random);
    fleet.start();
  }
  ASSERT_FALSE(judge.is_late()) << "nothing comes any more";
}

// ---- the to-driver ring ----

TEST(KillStress, producers_of_the_ring) {
  SharedMemory memory{(64 << 10) + shm::kRingTrailerLength};
  shm::ManyToOneRing ring{memory.bytes()};
  Fleet fleet{kill_count() + kProducers, [&ring](Fleet& self, std::uint32_t number) {
                Random random{number + 1};
                std::vector<std::byte> message;
                for (std::uint32_t next = 0;;) {
                  message.resize(kHeader + random.below(500));
                  write_message(message, number, next);
                  self.enter(number);
                  const bool is_written = ring.write(1, message);
                  if (is_written) ++next;
                  self.leave(number, is_written);
                  if (!is_written) std::this_thread::yield();
                }
              }};
  Judge judge;
  std::uint64_t unblocked = 0;
  const auto read = [&] {
    return ring.read([&judge](std::int32_t, std::span<const std::byte> body) {
      judge.on(body);
      return true;
    }, 64);
  };
  const auto turn = [&] {
    if (read() > 0 || ring.producer_position() == ring.consumer_position()) return;
    fleet.rest([] { std::this_thread::yield(); });
    if (read() == 0 && ring.unblock()) ++unblocked;
    fleet.resume();
  };
  kill_at_random(fleet, judge, turn);
  fleet.rest([] { std::this_thread::yield(); });
  for (int i = 0; i < 100 && ring.producer_position() != ring.consumer_position(); ++i) {
    while (read() > 0) {
    }
    if (ring.unblock()) ++unblocked;
  }
  expect_everything(fleet, judge);
  RecordProperty("unblocked", std::to_string(unblocked));
}

// ---- the broadcast buffer ----

TEST(KillStress, transmitters_of_the_broadcast_buffer) {
  SharedMemory memory{(64 << 10) + shm::kBroadcastTrailerLength};
  Judge judge;
  judge.allow_misses(true);  // a receiver that is lapped misses some, and knows it
  Random random{4711};
  Fleet fleet{kill_count() + 1, [&memory](Fleet& self, std::uint32_t number) {
                shm::BroadcastTransmitter transmitter{memory.bytes()};
                Random own{number + 1};
                std::vector<std::byte> message;
                for (std::uint32_t next = 0;; ++next) {
                  message.resize(kHeader + own.below(500));
                  write_message(message, number, next);
                  if (!transmitter.transmit(1, message)) return;
                  self.leave(number, true);
                  if (next % 64 == 0) std::this_thread::yield();
                }
              }};
  shm::BroadcastReceiver receiver{memory.bytes()};
  const auto receive = [&] {
    std::int32_t type = 0;
    std::span<const std::byte> body;
    bool has_any = false;
    for (int i = 0; i < 64 && receiver.receive(type, body); ++i, has_any = true) judge.on(body);
    return has_any;
  };
  for (std::uint32_t kills = 0; kills < kill_count() && judge.errors().empty() && !judge.is_late(); ++kills) {
    fleet.start();
    const std::uint64_t wanted = judge.count() + 1 + random.below(400);
    while (judge.count() < wanted && judge.errors().empty() && !judge.is_late()) receive();
    fleet.kill_one(random);
    while (receive()) {
    }
  }
  EXPECT_FALSE(judge.is_late());
  EXPECT_EQ(judge.errors(), std::vector<std::string>{});
  EXPECT_EQ(fleet.lost(), 0U);
  for (std::uint32_t number = 0; number < fleet.started(); ++number) {
    EXPECT_GE(judge.received(number), fleet.producer(number).committed.load()) << "the last message of transmitter " << number << " was seen";
  }
  RecordProperty("lapped", std::to_string(receiver.lapped_count()));
}

// ---- logs ----

class LogStress {
 public:
  static constexpr const char* kChannel = "aeron:ipc";
  static constexpr std::int32_t kStream = 1001;
  static constexpr std::int32_t kInitialTermId = 7;  // IpcDriver's

  LogStress() {
    client::Context context;
    context.directory = directory_.path();
    context.mode = client::ConductorMode::kInvoker;
    context.idle = [this] { driver_.do_work(); };
    client_.emplace(must(client::Client::connect(context)));
    subscription_.emplace(must(client_->add_subscription(kChannel, kStream)));
  }

  // A client of its own, with the same session as all others.
  void produce(Fleet& fleet, std::uint32_t number) const {
    client::Context context;
    context.directory = directory_.path();
    context.mode = client::ConductorMode::kInvoker;
    auto client = client::Client::connect(context);
    if (!client) return;
    auto publication = client->add_publication(kChannel, kStream);
    if (!publication) return;
    Random random{number + 1};
    std::vector<std::byte> message;
    for (std::uint32_t next = 0;;) {
      const bool is_large = random.below(8) == 0;  // fragmented
      message.resize(kHeader + random.below(is_large ? 6'000 : 1'000));
      write_message(message, number, next);
      fleet.enter(number);
      const bool is_committed = random.below(2) == 0 && !is_large ? claim(*publication, message, random.below(10) == 0) : bool{publication->offer(message)};
      if (is_committed) ++next;
      fleet.leave(number, is_committed);
      if (!is_committed) std::this_thread::yield();
    }
  }

  // True: something came.
  bool turn(Judge& judge) {
    pump();
    const std::uint64_t before = judge.count();
    if (!assembler_) assembler_.emplace(Take{&judge});
    subscription_->poll(*assembler_, 64);
    return judge.count() != before;
  }
  void pump() {
    driver_.beat();
    driver_.do_work();
    client_->do_work();
    unblock_commands();
  }
  // Precondition: nobody lives inside a claim. True: something was in the way.
  bool unblock() {
    driver_.do_work();
    if (driver_.stream_count() == 0) return false;
    auto& stream = driver_.stream(0);
    const auto images = subscription_->images();
    if (images.empty()) return false;
    return shm::unblock_log(stream.log, images.front()->position(), kInitialTermId, true);
  }
  [[nodiscard]] bool is_behind() {
    const auto images = subscription_->images();
    return driver_.stream_count() > 0 && !images.empty() && images.front()->position() < shm::producer_position(driver_.stream(0).log, kInitialTermId);
  }

 private:
  struct Take {
    Judge* judge;
    void operator()(std::span<const std::byte> message, const client::Header&) const { judge->on(message); }
  };
  template <typename T>
  static T must(Result<T> result) {
    if (!result) std::fprintf(stderr, "%s\n", result.error().message.c_str()), std::abort();
    return std::move(*result);
  }
  static bool claim(client::Publication& publication, std::span<const std::byte> message, bool aborts) {
    client::BufferClaim claim;
    if (!publication.try_claim(message.size(), claim)) return false;
    std::copy(message.begin(), message.end(), claim.data().begin());
    if (aborts) return claim.abort(), false;
    claim.commit();
    return true;
  }
  // A client that died inside its ADD. The ring's own test waits for the living; here a second without progress is long enough.
  void unblock_commands() {
    shm::ManyToOneRing& ring = driver_.ring();
    const std::int64_t position = ring.consumer_position();
    if (position != ring_position_ || ring.producer_position() == position) {
      ring_position_ = position;
      ring_since_ns_ = monotonic_ns();
    } else if (monotonic_ns() - ring_since_ns_ > kSecond_ns) {
      static_cast<void>(ring.unblock());
    }
  }
  TemporaryDirectory directory_{"kill-stress"};
  IpcDriver driver_{{.directory = directory_.path(), .initial_term_id = kInitialTermId, .counter_count = 65'536}};
  std::optional<client::Client> client_;
  std::optional<client::Subscription> subscription_;
  std::optional<client::FragmentAssembler<Take>> assembler_;
  std::int64_t ring_position_{-1};
  std::int64_t ring_since_ns_{};
};

TEST(KillStress, producers_of_a_log) {
  LogStress log;
  Fleet fleet{kill_count() + kProducers, [&log](Fleet& self, std::uint32_t number) { log.produce(self, number); }};
  Judge judge;
  std::uint64_t unblocked = 0;
  int idle_turns = 0;
  const auto skip_the_dead = [&] {
    fleet.rest([&] { log.pump(); });
    while (log.turn(judge) || log.unblock()) unblocked += log.turn(judge) ? 0 : 1;
    fleet.resume();
  };
  const auto turn = [&] {
    idle_turns = log.turn(judge) ? 0 : idle_turns + 1;
    constexpr int kStuck = 200;
    if (idle_turns > kStuck && log.is_behind()) skip_the_dead(), idle_turns = 0;
  };
  kill_at_random(fleet, judge, turn);
  skip_the_dead();
  fleet.rest([&] { log.pump(); });
  while (log.turn(judge)) {
  }
  expect_everything(fleet, judge);
  RecordProperty("unblocked", std::to_string(unblocked));
}

}  // namespace
}  // namespace thalweg::test
