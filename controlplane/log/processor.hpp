#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "controlplane/log/consumer.hpp"
#include "controlplane/log/wake_up.hpp"

namespace thalweg::log {

class Shard;

// What a handler of messages says when it has dealt with them.
enum class Handled : std::uint8_t { kGoOn, kStop };
// Deals with a batch. An error: none of it counts as done, and all of it comes again.
using Handler = std::function<Result<Handled>(const Delivery&)>;

// What becomes of a batch that failed as often as it may.
enum class OnExhausted : std::uint8_t {
  kReadAgain,   // it is not acknowledged and comes again: nothing behind it in its shards gets done before it
  kDeadLetter,  // its messages go to the dead letters, then it is acknowledged
  kSkip,        // it is acknowledged
  kHalt,        // processing ends with the handler's error
};
// Keeps a message that nobody could deal with. When it fails the batch counts as failed once more.
using DeadLetters = std::function<Result<void>(const Message&, const Error&)>;
// Appends them to a shard of another log: payload, stream and type as they were, the key "shard-entry"; durable when it returns. `shard` outlives it.
[[nodiscard]] DeadLetters dead_letters_to(Shard& shard);

// Spec: archive-log 10.1. Times in ns.
struct ProcessOptions {
  std::size_t batch{100};                                   // messages
  std::uint32_t retries_max{3};                             // of a batch, after the first attempt
  std::int64_t retry_delay_ns{1 * kSecond_ns};              // times the number of the attempt
  std::int64_t poll_interval_ns{100 * kMillisecond_ns};     // when there is nothing, and nobody wakes it
  std::int64_t discovery_interval_ns{5 * kSecond_ns};       // for new shards; 0 = never
  bool is_auto_acked{true};                                 // otherwise the handler acknowledges; what it does not comes again
  OnExhausted on_exhausted{OnExhausted::kReadAgain};
  DeadLetters dead_letters;                                 // needed by kDeadLetter
  std::function<void(const Error&, std::uint32_t attempt)> on_error;               // attempts count from 1
  std::function<void(std::size_t messages, std::int64_t duration_ns)> on_batch;    // done
};
// Errors: kInvalidArgument.
[[nodiscard]] Result<void> validate(const ProcessOptions& options);

struct ProcessCounters {
  std::uint64_t batches{};       // done
  std::uint64_t messages{};      // in them
  std::uint64_t failures{};      // attempts
  std::uint64_t exhausted{};     // batches
  std::uint64_t dead_letters{};  // messages
  std::uint64_t skipped{};       // messages of batches that were given up
};

// Reads batches, has them handled, acknowledges, and so on. One thread, but for stop() and wake_up().
class Processor {
 public:
  // Errors: those of validate(); kNoSpace. `consumer` and `clock` outlive it.
  [[nodiscard]] static Result<std::unique_ptr<Processor>> make(Consumer& consumer, const Clock& clock, ProcessOptions options, Handler handler);

  // What one step found: the caller may leave the next one until `wait_ns` have passed, or wake_up() was notified.
  struct Step {
    bool is_stopped{};
    std::int64_t wait_ns{};  // 0: there may be more at once
  };
  // Does at most one attempt at one batch; never waits. Errors: those of Consumer; the handler's by kHalt.
  [[nodiscard]] Result<Step> step();
  // Steps until the handler says stop, stop() is called, or an error. The batch at work is done and acknowledged first. Errors: as step().
  [[nodiscard]] Result<void> run();
  // Any thread, signal handlers included.
  void stop() noexcept;
  // Notified when a process makes entries of a shard of the consumer durable, and, given to Shard::wake_up(), by that object: new entries are seen at once then,
  // not only with the next poll.
  [[nodiscard]] const std::shared_ptr<WakeUp>& wake_up() const noexcept { return wake_up_; }
  [[nodiscard]] const ProcessCounters& counters() const noexcept { return counters_; }
  // That of the consumer, and what fails now.
  [[nodiscard]] Health health() const;

 private:
  Processor(Consumer& consumer, const Clock& clock, ProcessOptions options, Handler handler, std::shared_ptr<WakeUp> wake_up);
  void watch_shards();
  [[nodiscard]] Result<Step> attempt();
  [[nodiscard]] Result<Step> failed(Error error);
  [[nodiscard]] Result<Step> exhausted();
  [[nodiscard]] Result<void> acknowledge();
  [[nodiscard]] Result<void> bury(const Error& error);
  [[nodiscard]] Step retry_later(std::uint32_t attempts) noexcept;

  Consumer& consumer_;
  const Clock& clock_;
  const ProcessOptions options_;
  const Handler handler_;
  const std::shared_ptr<WakeUp> wake_up_;
  const Delivery* batch_{};          // at work, or waiting to be tried again
  std::uint32_t attempts_{};         // at it, that failed
  std::int64_t retry_ns_{};          // monotonic: not before
  std::int64_t discovered_ns_{};
  std::optional<Error> last_error_;  // of the batch at work
  ProcessCounters counters_;
  bool is_stopped_{};                // by the handler
  std::atomic<bool> is_stop_asked_{};
};

}  // namespace thalweg::log
