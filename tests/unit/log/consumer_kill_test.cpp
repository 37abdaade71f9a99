// Members of a consumer group in processes of their own that are killed at any instruction: what the log has is handled at least once, and the group
// comes to its end. Spec: archive-log 10, 19.
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

#include "controlplane/log/consumer.hpp"
#include "controlplane/log/shard.hpp"
#include "dataplane/base/random.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

constexpr std::uint32_t kShards = 4;
constexpr std::uint32_t kMembers = 2;
constexpr std::uint64_t kEntriesMax = 20'000;  // a shard
constexpr int kKills = 100;

// What the members tell the test, in memory that outlives them.
struct Board {
  std::atomic<std::uint32_t> handled[kShards][kEntriesMax];
  std::atomic<std::uint64_t> batches;
  char error[256];
};

[[noreturn]] void consume(const std::string& root, std::uint32_t member, Board& board) {
  const auto fail = [&](const Error& error) {
    std::snprintf(board.error, sizeof board.error, "%s", error.message.c_str());
    ::_exit(1);
  };
  const auto files = make_plain_file_system();
  const SystemClock clock;
  auto consumer = Consumer::open(*files, clock, root, {.assignment = {member, kMembers}});
  if (!consumer) fail(consumer.error());
  Random random{static_cast<std::uint64_t>(::getpid())};
  for (;;) {
    const auto delivery = (*consumer)->read(1 + random.below(50));
    if (!delivery) fail(delivery.error());
    if (!(*delivery)->skipped.empty()) fail({ErrorCode::kIo, "something is lost", {}});
    std::vector<EntryId> ids;
    for (const Message& message : (*delivery)->messages) {
      ++board.handled[message.id.shard][message.id.entry];
      ids.push_back(message.id);
    }
    if (ids.empty()) ::sched_yield();
    else ++board.batches;
    if (auto acknowledged = (*consumer)->ack(ids); !acknowledged) fail(acknowledged.error());
    if (auto maintained = (*consumer)->maintain(); !maintained) fail(maintained.error());
  }
}

class ConsumerKill : public testing::Test {
 protected:
  ConsumerKill() : board{static_cast<Board*>(::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))} {}
  ~ConsumerKill() override {
    for (pid_t& child : children) kill(child);
    ::munmap(board, sizeof(Board));
  }
  void start(std::uint32_t member) {
    const pid_t test = ::getpid();
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child != 0) {
      children[member] = child;
      return;
    }
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::getppid() != test) ::_exit(1);
    consume(directory.path(), member, *board);
  }
  void kill(pid_t& child) {
    if (child <= 0) return;
    ::kill(child, SIGKILL);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status)) << board->error;
    child = 0;
  }
  template <typename IsDone>
  void wait_until(IsDone is_done) {
    for (const std::int64_t deadline = monotonic_ns() + 60 * kSecond_ns; !is_done(); ::sched_yield()) {
      ASSERT_STREQ(board->error, "");
      ASSERT_LT(monotonic_ns(), deadline) << "nobody gets on";
    }
  }
  const test::TemporaryDirectory directory;
  Board* board;
  pid_t children[kMembers]{};
};

TEST_F(ConsumerKill, of_members_leaves_no_message_unhandled) {
  const auto files = make_plain_file_system();
  const SystemClock clock;
  std::unique_ptr<Shard> shards[kShards];
  for (std::uint32_t i = 0; i < kShards; ++i) {
    auto options = small_options(SyncPolicy::kEveryBatch);
    options.shard = i;
    auto opened = Shard::open(*files, clock, directory.file(shard_directory_name(i)), options);
    ASSERT_TRUE(opened) << opened.error().message;
    shards[i] = std::move(*opened);
  }
  Random random{20260817};
  for (std::uint32_t member = 0; member < kMembers; ++member) ASSERT_NO_FATAL_FAILURE(start(member));
  for (int kills = 0; kills < kKills; ++kills) {
    for (auto& shard : shards)
      for (std::uint64_t i = random.below(100); i > 0; --i) ASSERT_TRUE(shard->append(Entry{.payload = bytes_of(std::string(random.below(300), 'x'))}));
    const std::uint64_t some = board->batches + random.below(4);
    ASSERT_NO_FATAL_FAILURE(wait_until([&] {
      if (board->batches >= some) return true;
      for (std::uint32_t i = 0; i < kShards; ++i)
        if (const auto groups = read_groups(*files, directory.file(shard_directory_name(i))); !groups || groups->empty() || groups->front().committed < shards[i]->next_entry()) return false;
      return true;  // there is nothing more
    }));
    const auto chosen = static_cast<std::uint32_t>(random.below(kMembers));
    kill(children[chosen]);
    ASSERT_NO_FATAL_FAILURE(start(chosen));
  }
  for (std::uint32_t i = 0; i < kShards; ++i) {
    ASSERT_NO_FATAL_FAILURE(wait_until([&] { return read_groups(*files, directory.file(shard_directory_name(i)))->front().committed == shards[i]->next_entry(); }));
    for (std::uint64_t entry = 0; entry < shards[i]->next_entry(); ++entry) EXPECT_GE(board->handled[i][entry], 1U) << i << "-" << entry;
  }
}

}  // namespace
}  // namespace thalweg::log
