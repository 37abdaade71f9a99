// Whoever waits for new entries is woken by the process that makes them durable, whichever that is. Spec: archive-log 10.1.
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "controlplane/log/plain_file_system.hpp"
#include "controlplane/log/processor.hpp"
#include "controlplane/log/shared_shard.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/unit/log/fixture.hpp"

namespace thalweg::log {
namespace {

constexpr std::int64_t kLong_ns = 60 * kSecond_ns;

class WakeUpTest : public testing::Test {
 protected:
  static bool is_readable(const WakeUp& waiting) {
    pollfd set{waiting.fd(), POLLIN, 0};
    return ::poll(&set, 1, 0) == 1;
  }
  std::string path() const { return directory.file("shard-0000"); }

  test::TemporaryDirectory directory;
  PlainFileSystem files;
  SystemClock clock;
};

TEST_F(WakeUpTest, of_another_writer_that_was_not_told_of_it) {
  const auto one = SharedShard::open(files, clock, path(), small_options()).value();
  const auto two = SharedShard::open(files, clock, path(), small_options()).value();
  const auto waiting = WakeUp::make().value();
  ASSERT_TRUE(waiting->watch(path()));
  ASSERT_TRUE(waiting->watch(path()));
  EXPECT_FALSE(waiting->wait(0));
  ASSERT_TRUE(two->append(Entry{.payload = bytes_of("a")}));
  EXPECT_FALSE(is_readable(*waiting)) << "nothing durable yet";
  ASSERT_TRUE(two->sync());
  EXPECT_TRUE(is_readable(*waiting));
  EXPECT_TRUE(waiting->wait(kLong_ns));
  EXPECT_FALSE(waiting->wait(0)) << "once";
  ASSERT_TRUE(one->append(Entry{.payload = bytes_of("b")}));
  ASSERT_TRUE(one->sync());
  EXPECT_TRUE(waiting->wait(kLong_ns));
}

TEST_F(WakeUpTest, of_another_process) {
  ASSERT_TRUE(Shard::open(files, clock, path(), small_options()));
  const auto waiting = WakeUp::make().value();
  ASSERT_TRUE(waiting->watch(path()));
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto shard = Shard::open(files, clock, path(), small_options(SyncPolicy::kEveryBatch));
    ::_exit(shard && (*shard)->append(Entry{.payload = bytes_of("a")}) ? 0 : 1);
  }
  EXPECT_TRUE(waiting->wait(kLong_ns));
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(WakeUpTest, of_a_processor_that_nobody_was_told_of) {
  const auto shard = Shard::open(files, clock, path(), small_options(SyncPolicy::kEveryBatch)).value();
  const auto consumer = Consumer::open(files, clock, directory.path(), {}).value();
  std::vector<std::string> seen;
  const auto handle = [&](const Delivery& delivery) -> Result<Handled> {
    for (const Message& message : delivery.messages) seen.push_back(text_of(message.payload));
    return Handled::kStop;
  };
  ProcessOptions options;
  options.poll_interval_ns = kLong_ns;
  const auto processor = Processor::make(*consumer, clock, options, handle).value();
  EXPECT_EQ(processor->step()->wait_ns, kLong_ns);
  ASSERT_TRUE(shard->append(Entry{.payload = bytes_of("a")}));
  EXPECT_TRUE(processor->wake_up()->wait(kLong_ns));
  ASSERT_TRUE(processor->run());
  EXPECT_EQ(seen, std::vector<std::string>{"a"});
}

TEST_F(WakeUpTest, of_a_shard_that_is_not_there_is_an_error) {
  EXPECT_EQ(WakeUp::make().value()->watch(directory.file("none")).error().code, ErrorCode::kNotFound);
}

// The page that is written to stays what it is.
TEST_F(WakeUpTest, changes_nothing) {
  const auto shard = Shard::open(files, clock, path(), small_options(SyncPolicy::kEveryBatch)).value();
  ASSERT_TRUE(shard->append(Entry{.payload = bytes_of("a")}));
  EXPECT_EQ(shard->durable_entry(), 1U);
  ASSERT_TRUE(shard->close());
  EXPECT_EQ(Shard::open(files, clock, path(), small_options()).value()->next_entry(), 1U);
}

}  // namespace
}  // namespace thalweg::log
