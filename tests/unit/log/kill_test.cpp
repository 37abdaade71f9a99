// Real processes that append to one shard and are killed, 200 times, at any instruction; others die in the middle of filling a reservation. Afterwards nothing that append() had acknowledged is
// missing, nothing is there twice, no batch is there in part; and a reader that follows all the time never sees anything else. Spec: archive-log 8.2, 19.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <map>

#include "controlplane/log/shared_shard.hpp"
#include "dataplane/base/random.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

constexpr int kWriters = 4;
constexpr int kKills = 200;
constexpr std::uint32_t kLivesMax = 1000;
constexpr std::uint32_t kBatchMax = 4;
constexpr std::uint64_t kFatalEvery = 100;  // batches
constexpr std::uint64_t kAhead = 60;  // messages

// What the processes tell the test, in memory that outlives them.
struct Board {
  struct Life {
    std::atomic<std::uint64_t> acknowledged;  // messages of which append() has said that they are there
    std::atomic<std::uint64_t> permitted;     // messages it may append: it must not run away from those who check
    char error[256];
  };
  Life lives[kLivesMax];
  [[nodiscard]] std::uint64_t sum() const {
    std::uint64_t all = 0;
    for (const Life& life : lives) all += life.acknowledged.load();
    return all;
  }
};

// A message says whose it is, its number, and its batch's.
struct Message {
  std::uint32_t life{};
  std::uint32_t index_in_batch{};
  std::uint32_t batch_count{};
  std::uint32_t filler{};   // bytes behind, all of the lowest byte of `number`
  std::uint64_t number{};
};

std::vector<std::byte> encode(const Message& message) {
  std::vector<std::byte> bytes(sizeof message + message.filler, static_cast<std::byte>(message.number));
  std::memcpy(bytes.data(), &message, sizeof message);
  return bytes;
}

// Some rotations between two kills, most of the time for appending.
ShardOptions options() {
  auto options = small_options(SyncPolicy::kEverySegment);
  options.segment_bytes = 1U << 20;
  return options;
}

// Whoever copies them dies of SIGSEGV in between: as killed as by SIGKILL.
std::span<const std::byte> fatal_bytes() {
  constexpr std::size_t kPage = 4096;
  auto* const pages = static_cast<std::byte*>(::mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ::mprotect(pages + kPage, kPage, PROT_NONE);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  ::signal(SIGSEGV, SIG_DFL);
  return {pages + kPage / 2, kPage};
}

[[noreturn]] void live(const std::string& directory, Board::Life& mine, std::uint32_t number_of_life) {
  const auto fail = [&](const Error& error) {
    std::snprintf(mine.error, sizeof mine.error, "%s", error.message.c_str());
    ::_exit(1);
  };
  const auto files = make_plain_file_system();
  const SystemClock clock;
  auto shard = SharedShard::open(*files, clock, directory, options());
  if (!shard) fail(shard.error());
  Random random{number_of_life};
  for (std::uint64_t number = 0;;) {
    while (number >= mine.permitted) ::sched_yield();
    const auto count = static_cast<std::uint32_t>(1 + random.below(kBatchMax));
    std::vector<std::vector<std::byte>> payloads;
    std::vector<Entry> batch;
    for (std::uint32_t i = 0; i < count; ++i) payloads.push_back(encode({number_of_life, i, count, static_cast<std::uint32_t>(random.below(random.below(2) == 0 ? 8000 : 300)), number + i}));
    for (const auto& payload : payloads) batch.push_back({.payload = payload});
    if (random.below(kFatalEvery) == 0) batch[random.below(count)].payload = fatal_bytes();
    if (const auto appended = (*shard)->append(batch); !appended) fail(appended.error());
    number += count;
    mine.acknowledged = number;
    if (random.below(100) != 0) continue;
    if (const auto synced = random.below(2) == 0 ? (*shard)->sync() : (*shard)->maintain(); !synced) fail(synced.error());
  }
}

class KillTest : public testing::Test {
 protected:
  KillTest() : board{static_cast<Board*>(::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))} {}
  ~KillTest() override {
    for (Child& child : children) kill(child);
    ::munmap(board, sizeof(Board));
  }
  struct Child {
    pid_t pid{};
    std::uint32_t life{};
  };
  void start(Child& child) {
    child.life = next_life++;
    ASSERT_LT(child.life, kLivesMax);
    const pid_t test = ::getpid();
    child.pid = ::fork();
    ASSERT_GE(child.pid, 0);
    if (child.pid != 0) return;
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::getppid() != test) ::_exit(1);  // none outlives the test, however that ends
    live(directory.file("shard"), board->lives[child.life], child.life);
  }
  void kill(Child& child) {
    if (child.pid <= 0) return;
    ::kill(child.pid, SIGKILL);
    reap(child, 0);
  }
  // Notes that it is dead, if it is or is waited for.
  void reap(Child& child, int flags) {
    int status = 0;
    if (::waitpid(child.pid, &status, flags) != child.pid) return;
    EXPECT_TRUE(WIFSIGNALED(status)) << "life " << child.life << ": " << board->lives[child.life].error;
    ++deaths;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) ++deaths_in_reservation;
    child.pid = 0;
  }
  // Until so many more messages are acknowledged; reads meanwhile.
  void wait_for(std::uint64_t more) {
    const std::uint64_t until = board->sum() + more;
    for (const Child& child : children) board->lives[child.life].permitted = board->lives[child.life].acknowledged + kAhead;
    for (const std::int64_t deadline = monotonic_ns() + 60 * kSecond_ns; board->sum() < until;) {
      ASSERT_LT(monotonic_ns(), deadline) << "nobody gets on";
      for (Child& child : children) {
        ASSERT_STREQ(board->lives[child.life].error, "");
        if (child.pid != 0) reap(child, WNOHANG);
        if (child.pid != 0) continue;
        ASSERT_NO_FATAL_FAILURE(start(child));
        board->lives[child.life].permitted = kAhead;
      }
      ASSERT_NO_FATAL_FAILURE(read());
    }
  }
  void read() {
    if (!reader) {
      auto opened = Reader::open(*files, directory.file("shard"), {.is_uncommitted = true});
      if (!opened) return;  // nobody has made the directory yet
      reader = std::move(*opened);
    }
    for (;;) {
      const auto next = reader->next();
      ASSERT_TRUE(next) << next.error().message;
      if (next->status == ReadStatus::kEnd) return;
      ASSERT_EQ(next->status, ReadStatus::kRecord) << "entries " << next->lost.from_entry << " to " << next->lost.to_entry << " " << next->lost.path << " at " << next->lost.offset << " "
                                                   << to_string(next->lost.fault);
      ASSERT_NO_FATAL_FAILURE(note(next->record.payload));
    }
  }
  void note(std::span<const std::byte> payload) {
    Message message;
    ASSERT_GE(payload.size(), sizeof message);
    std::memcpy(&message, payload.data(), sizeof message);
    ASSERT_EQ(payload.size(), sizeof message + message.filler);
    for (const std::byte b : payload.subspan(sizeof message)) ASSERT_EQ(b, static_cast<std::byte>(message.number));
    ASSERT_EQ(message.number, found[message.life]++) << "life " << message.life << ": missing or twice";
    ASSERT_TRUE(batch_left == 0 || (message.life == batch_life && message.index_in_batch == message.batch_count - batch_left)) << "a batch in part";
    if (batch_left == 0) {
      ASSERT_EQ(message.index_in_batch, 0U) << "a batch in part";
      batch_left = message.batch_count;
      batch_life = message.life;
    }
    --batch_left;
  }

  const test::TemporaryDirectory directory;
  const std::unique_ptr<FileSystem> files{make_plain_file_system()};
  Board* board;
  Child children[kWriters];
  std::uint32_t next_life{0};
  std::optional<Reader> reader;
  std::map<std::uint32_t, std::uint64_t> found;  // by life
  int deaths{0};
  int deaths_in_reservation{0};
  std::uint32_t batch_left{0};
  std::uint32_t batch_life{0};
};

TEST_F(KillTest, of_several_writers_loses_nothing_doubles_nothing_tears_nothing) {
  Random random{20260817};
  for (Child& child : children) ASSERT_NO_FATAL_FAILURE(start(child));
  while (deaths - deaths_in_reservation < kKills) {
    ASSERT_NO_FATAL_FAILURE(wait_for(20 + random.below(100)));
    const bool is_all = random.below(15) == 0;  // then the next one to open is alone, and recovers
    const std::size_t chosen = random.below(kWriters);
    for (std::size_t i = 0; i < kWriters; ++i) {
      if (is_all || i == chosen) kill(children[i]);
    }
  }
  for (Child& child : children) kill(child);
  ASSERT_NO_FATAL_FAILURE(read());
  const SystemClock clock;
  auto shard = SharedShard::open(*files, clock, directory.file("shard"), options());
  ASSERT_TRUE(shard) << shard.error().message;
  EXPECT_EQ((*shard)->recovery().corrupt_ranges, 0U);
  ASSERT_NO_FATAL_FAILURE(read());
  EXPECT_EQ(batch_left, 0U);
  EXPECT_EQ(reader->next_entry(), (*shard)->next_entry());
  for (std::uint32_t life = 0; life < next_life; ++life) {
    EXPECT_GE(found[life], board->lives[life].acknowledged) << "life " << life << " lost what it was told is there";
    EXPECT_LE(found[life], board->lives[life].acknowledged + kBatchMax) << "life " << life;
  }
  auto statistics = read_statistics(*files, directory.file("shard"));
  ASSERT_TRUE(statistics);
  EXPECT_GT(deaths_in_reservation, 20);
  std::printf("%d deaths, %d of them in a reservation, %lu messages, %lu holes filled, %lu rotations\n", deaths, deaths_in_reservation, static_cast<unsigned long>(board->sum()),
              static_cast<unsigned long>((*statistics)[Statistic::kHolesFilled]), static_cast<unsigned long>((*statistics)[Statistic::kRotations]));
}

}  // namespace
}  // namespace thalweg::log
