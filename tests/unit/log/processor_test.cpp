#include "controlplane/log/processor.hpp"

#include <sys/eventfd.h>

#include <thread>

#include "tests/support/temporary_directory.hpp"
#include "tests/unit/log/consumer_fixture.hpp"

namespace thalweg::log {
namespace {

using Lines = std::vector<std::string>;

class ProcessorTest : public ConsumerTest {
 protected:
  void SetUp() override {
    make_shard(0);
    consumer = join();
  }
  std::unique_ptr<Processor> make(const ProcessOptions& options = {}) {
    auto made = Processor::make(*consumer, clock, options, [this](const Delivery& delivery) -> Result<Handled> {
      for (const std::string& line : lines_of(delivery)) seen.push_back(line);
      if (failures_left > 0) {
        --failures_left;
        return fail(ErrorCode::kGeneric, "cannot");
      }
      return is_over ? Handled::kStop : Handled::kGoOn;
    });
    EXPECT_TRUE(made) << made.error().message;
    return std::move(*made);
  }
  std::unique_ptr<Consumer> consumer;
  Lines seen;
  int failures_left{0};
  bool is_over{false};
};

TEST_F(ProcessorTest, acknowledges_what_was_handled) {
  std::size_t done = 0;
  const auto processor = make({.batch = 2, .on_batch = [&](std::size_t messages, std::int64_t) { done += messages; }});
  append(0, {"a", "b", "c"});
  EXPECT_EQ(processor->step()->wait_ns, 0);
  EXPECT_EQ(consumer->lag(0), 1U);
  ASSERT_TRUE(processor->step());
  EXPECT_EQ(processor->step()->wait_ns, 100 * kMillisecond_ns) << "nothing: the poll interval";
  EXPECT_EQ(seen, (Lines{"0-0:a", "0-1:b", "0-2:c"}));
  EXPECT_EQ(done, 3U);
  EXPECT_EQ(processor->counters().messages, 3U);
}

// Defect of a predecessor: the stop sentinel was declared and never honoured.
TEST_F(ProcessorTest, stops_when_the_handler_says_so_and_acknowledges_first) {
  const auto processor = make({.batch = 2});
  append(0, {"a", "b", "c"});
  is_over = true;
  EXPECT_TRUE(processor->run());
  EXPECT_EQ(consumer->lag(0), 1U);
  EXPECT_TRUE(processor->step()->is_stopped);
}

TEST_F(ProcessorTest, tries_again_after_growing_delays) {
  std::vector<std::uint32_t> attempts;
  const auto processor = make({.on_error = [&](const Error& error, std::uint32_t attempt) {
    EXPECT_EQ(error.message, "cannot");
    attempts.push_back(attempt);
  }});
  append(0, {"a"});
  failures_left = 3;
  EXPECT_EQ(processor->step()->wait_ns, kSecond_ns);
  EXPECT_EQ(processor->step()->wait_ns, kSecond_ns) << "not yet";
  EXPECT_EQ(seen.size(), 1U);
  EXPECT_EQ(processor->health().status, HealthStatus::kDegraded);
  clock.advance(kSecond_ns);
  EXPECT_EQ(processor->step()->wait_ns, 2 * kSecond_ns);
  clock.advance(2 * kSecond_ns);
  EXPECT_EQ(processor->step()->wait_ns, 3 * kSecond_ns);
  clock.advance(3 * kSecond_ns);
  EXPECT_EQ(processor->step()->wait_ns, 0);
  EXPECT_EQ(attempts, (std::vector<std::uint32_t>{1, 2, 3}));
  EXPECT_EQ(consumer->lag(0), 0U);
  EXPECT_EQ(processor->health().status, HealthStatus::kGood);
}

class Exhausted : public ProcessorTest {
 protected:
  // Four failures of the first batch, with the delays between them.
  Result<Processor::Step> exhaust(Processor& processor) {
    failures_left = 4;
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(processor.step());
      clock.advance(10 * kSecond_ns);
    }
    return processor.step();
  }
};

TEST_F(Exhausted, batch_is_read_again_and_holds_up_its_shard) {
  const auto processor = make({.batch = 1});
  append(0, {"a", "b"});
  ASSERT_TRUE(exhaust(*processor));
  EXPECT_EQ(consumer->lag(0), 2U);
  clock.advance(10 * kSecond_ns);
  ASSERT_TRUE(processor->step());
  EXPECT_EQ(seen, Lines(5, "0-0:a"));
  EXPECT_EQ(processor->counters().exhausted, 1U);
}

TEST_F(Exhausted, batch_is_skipped) {
  const auto processor = make({.batch = 1, .on_exhausted = OnExhausted::kSkip});
  append(0, {"a", "b"});
  ASSERT_TRUE(exhaust(*processor));
  clock.advance(10 * kSecond_ns);
  ASSERT_TRUE(processor->step());
  EXPECT_EQ(seen.back(), "0-1:b");
  EXPECT_EQ(consumer->lag(0), 0U);
  EXPECT_EQ(processor->counters().skipped, 1U);
}

TEST_F(Exhausted, batch_ends_processing) {
  const auto processor = make({.on_exhausted = OnExhausted::kHalt});
  append(0, {"a"});
  EXPECT_EQ(exhaust(*processor).error().message, "cannot");
  EXPECT_EQ(consumer->lag(0), 1U);
  EXPECT_TRUE(processor->step()->is_stopped);
}

TEST_F(Exhausted, batch_goes_to_the_dead_letters) {
  auto opened = Shard::open(files, clock, "dead/shard-0000", small_options(SyncPolicy::kExplicit));
  ASSERT_TRUE(opened);
  const auto processor = make({.batch = 2, .on_exhausted = OnExhausted::kDeadLetter, .dead_letters = dead_letters_to(**opened)});
  append(0, {"a", "b", "c"});
  ASSERT_TRUE(exhaust(*processor));
  EXPECT_EQ(consumer->lag(0), 1U);
  auto reader = Reader::open(files, "dead/shard-0000");
  const auto first = reader->next();
  ASSERT_EQ(first->status, ReadStatus::kRecord) << "durable";
  EXPECT_EQ(text_of(first->record.key), "0-0");
  EXPECT_EQ(text_of(first->record.payload), "a");
  EXPECT_EQ(first->record.header.stream, 3U);
  EXPECT_EQ(text_of(reader->next()->record.key), "0-1");
  EXPECT_EQ(reader->next()->status, ReadStatus::kEnd);
  EXPECT_EQ(processor->counters().dead_letters, 2U);
}

TEST_F(Exhausted, batch_is_not_acknowledged_when_the_dead_letters_take_it_not) {
  const auto processor = make({.on_exhausted = OnExhausted::kDeadLetter, .dead_letters = [](const Message&, const Error&) -> Result<void> { return fail(ErrorCode::kNoSpace, "full"); }});
  append(0, {"a"});
  ASSERT_TRUE(exhaust(*processor));
  EXPECT_EQ(consumer->lag(0), 1U);
  clock.advance(10 * kSecond_ns);
  ASSERT_TRUE(processor->step());
  EXPECT_EQ(consumer->lag(0), 0U);
}

TEST_F(ProcessorTest, leaves_acknowledging_to_the_handler_that_wants_it) {
  const auto processor = make({.is_auto_acked = false});
  append(0, {"a"});
  ASSERT_TRUE(processor->step());
  ASSERT_TRUE(processor->step());
  EXPECT_EQ(seen.size(), 2U);
  ASSERT_TRUE(consumer->ack(EntryId{0, 0}));
  ASSERT_TRUE(processor->step());
  EXPECT_EQ(seen.size(), 2U);
}

TEST_F(ProcessorTest, finds_new_shards_every_now_and_then) {
  const auto processor = make();
  make_shard(1);
  append(1, {"new"});
  ASSERT_TRUE(processor->step());
  EXPECT_EQ(seen, Lines{});
  clock.advance(5 * kSecond_ns);
  ASSERT_TRUE(processor->step());
  EXPECT_EQ(seen, Lines{"1-0:new"});
}

TEST_F(ProcessorTest, refuses_options_that_make_no_sense) {
  for (const auto& change : std::vector<void (*)(ProcessOptions&)>{[](ProcessOptions& o) { o.batch = 0; }, [](ProcessOptions& o) { o.poll_interval_ns = 0; }, [](ProcessOptions& o) { o.retry_delay_ns = -1; },
                                                                   [](ProcessOptions& o) { o.discovery_interval_ns = -1; }, [](ProcessOptions& o) { o.on_exhausted = OnExhausted::kDeadLetter; }}) {
    ProcessOptions options;
    change(options);
    EXPECT_EQ(Processor::make(*consumer, clock, options, [](const Delivery&) -> Result<Handled> { return Handled::kGoOn; }).error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_FALSE(Processor::make(*consumer, clock, {}, {}));
}

// With an hour from poll to poll nothing would be seen without the wake-up.
TEST(Process, is_woken_when_entries_get_durable) {
  const auto files = make_plain_file_system();
  const SystemClock clock;
  const test::TemporaryDirectory directory;
  auto shard = Shard::open(*files, clock, directory.file("shard-0000"), small_options(SyncPolicy::kEveryBatch));
  ASSERT_TRUE(shard);
  auto consumer = Consumer::open(*files, clock, directory.path(), {});
  ASSERT_TRUE(consumer);
  std::atomic<std::uint64_t> handled{0};
  auto processor = Processor::make(**consumer, clock, {.poll_interval_ns = 3600 * kSecond_ns}, [&](const Delivery& delivery) -> Result<Handled> {
    handled += delivery.messages.size();
    return Handled::kGoOn;
  });
  ASSERT_TRUE(processor);
  (*shard)->wake_up((*processor)->wake_up());
  std::thread thread{[&] { EXPECT_TRUE((*processor)->run()); }};
  for (std::uint64_t i = 0; i < 20; ++i) {
    ASSERT_TRUE((*shard)->append(Entry{.payload = bytes_of("x")}));
    while (handled <= i) std::this_thread::yield();
  }
  (*processor)->stop();
  thread.join();
  EXPECT_EQ((*consumer)->lag(0), 0U);
}

}  // namespace
}  // namespace thalweg::log
