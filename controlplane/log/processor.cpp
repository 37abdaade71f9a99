#include "controlplane/log/processor.hpp"

#include <algorithm>

#include "controlplane/log/shard.hpp"

namespace thalweg::log {

Result<void> validate(const ProcessOptions& options) {
  const auto bad = [](const char* what) { return fail(ErrorCode::kInvalidArgument, std::string{"processing: "} + what); };
  if (options.batch == 0) return bad("a batch of no messages");
  if (options.retry_delay_ns < 0 || options.discovery_interval_ns < 0) return bad("a time below 0");
  if (options.poll_interval_ns <= 0) return bad("the poll interval must be above 0");
  if (options.on_exhausted == OnExhausted::kDeadLetter && !options.dead_letters) return bad("nobody takes the dead letters");
  return {};
}

DeadLetters dead_letters_to(Shard& shard) {
  return [&shard](const Message& message, const Error&) -> Result<void> {
    const std::string key = to_string(message.id);
    const auto appended = shard.append(Entry{.payload = message.payload, .key = std::as_bytes(std::span{key}), .stream = message.header.stream, .type = message.header.type, .timestamp_ns = std::nullopt});
    if (!appended) return tl::unexpected{appended.error()};
    return appended->is_durable ? Result<void>{} : shard.sync();
  };
}

Processor::Processor(Consumer& consumer, const Clock& clock, ProcessOptions options, Handler handler, std::shared_ptr<WakeUp> wake_up)
    : consumer_{consumer}, clock_{clock}, options_{std::move(options)}, handler_{std::move(handler)}, wake_up_{std::move(wake_up)}, discovered_ns_{clock.monotonic_ns()} {}

Result<std::unique_ptr<Processor>> Processor::make(Consumer& consumer, const Clock& clock, ProcessOptions options, Handler handler) {
  if (auto valid = validate(options); !valid) return tl::unexpected{std::move(valid.error())};
  if (!handler) return fail(ErrorCode::kInvalidArgument, "processing: no handler");
  auto wake_up = WakeUp::make();
  if (!wake_up) return tl::unexpected{std::move(wake_up.error())};
  std::unique_ptr<Processor> processor{new Processor{consumer, clock, std::move(options), std::move(handler), std::move(*wake_up)}};
  processor->watch_shards();
  return processor;
}

// Where the system has no more watches, polling remains.
void Processor::watch_shards() {
  for (const std::string& directory : consumer_.directories()) static_cast<void>(wake_up_->watch(directory));
}

Result<Processor::Step> Processor::step() {
  if (is_stopped_ || is_stop_asked_) return Step{.is_stopped = true, .wait_ns = 0};  // a batch that failed so far comes again after a restart
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (options_.discovery_interval_ns != 0 && now_ns - discovered_ns_ >= options_.discovery_interval_ns) {
    discovered_ns_ = now_ns;
    const auto found = consumer_.discover();
    if (!found) return tl::unexpected{found.error()};
    if (*found) watch_shards();
  }
  if (auto maintained = consumer_.maintain(); !maintained) return tl::unexpected{std::move(maintained.error())};
  if (now_ns < retry_ns_) return Step{.is_stopped = false, .wait_ns = retry_ns_ - now_ns};
  if (batch_ == nullptr) {
    auto read = consumer_.read(options_.batch);
    if (!read) return tl::unexpected{std::move(read.error())};
    if ((*read)->is_empty()) return Step{.is_stopped = false, .wait_ns = options_.poll_interval_ns};
    batch_ = *read;
    attempts_ = 0;
  }
  return attempt();
}

Result<Processor::Step> Processor::attempt() {
  const std::int64_t begin_ns = clock_.monotonic_ns();
  auto handled = handler_(*batch_);
  if (!handled) return failed(std::move(handled.error()));
  const std::size_t messages = batch_->messages.size();
  if (options_.is_auto_acked)
    if (auto acknowledged = acknowledge(); !acknowledged) return tl::unexpected{std::move(acknowledged.error())};
  batch_ = nullptr;
  last_error_.reset();
  ++counters_.batches;
  counters_.messages += messages;
  if (options_.on_batch) options_.on_batch(messages, clock_.monotonic_ns() - begin_ns);
  is_stopped_ = *handled == Handled::kStop;
  return Step{.is_stopped = is_stopped_, .wait_ns = 0};
}

Result<Processor::Step> Processor::failed(Error error) {
  ++counters_.failures;
  ++attempts_;
  if (options_.on_error) options_.on_error(error, attempts_);
  last_error_ = std::move(error);
  if (attempts_ <= options_.retries_max) return retry_later(attempts_);
  return exhausted();
}

Processor::Step Processor::retry_later(std::uint32_t attempts) noexcept {
  const std::int64_t delay_ns = options_.retry_delay_ns * attempts;
  retry_ns_ = clock_.monotonic_ns() + delay_ns;
  return {.is_stopped = false, .wait_ns = delay_ns};
}

Result<Processor::Step> Processor::exhausted() {
  ++counters_.exhausted;
  const Error error = *last_error_;
  switch (options_.on_exhausted) {
    case OnExhausted::kHalt:
      is_stopped_ = true;
      batch_ = nullptr;
      return tl::unexpected{error};
    case OnExhausted::kDeadLetter:
      if (auto buried = bury(error); !buried) {
        if (options_.on_error) options_.on_error(buried.error(), attempts_);
        last_error_ = std::move(buried.error());
        break;
      }
      [[fallthrough]];
    case OnExhausted::kSkip: {
      counters_.skipped += batch_->messages.size();
      if (auto acknowledged = acknowledge(); !acknowledged) return tl::unexpected{std::move(acknowledged.error())};
      batch_ = nullptr;
      last_error_.reset();
      return Step{};
    }
    case OnExhausted::kReadAgain: break;
  }
  batch_ = nullptr;  // read anew: it may have grown, or somebody else moved the offset over it
  return retry_later(attempts_);
}

Result<void> Processor::bury(const Error& error) {
  for (const Message& message : batch_->messages) {
    if (auto kept = options_.dead_letters(message, error); !kept) return kept;
    ++counters_.dead_letters;
  }
  return {};
}

Result<void> Processor::acknowledge() {
  std::vector<EntryId> ids;
  ids.reserve(batch_->messages.size());
  for (const Message& message : batch_->messages) ids.push_back(message.id);
  return consumer_.ack(ids);
}

Result<void> Processor::run() {
  for (;;) {
    const auto stepped = step();
    if (!stepped) return tl::unexpected{stepped.error()};
    if (stepped->is_stopped) return {};
    if (stepped->wait_ns > 0) wake_up_->wait(stepped->wait_ns);
  }
}

void Processor::stop() noexcept {
  is_stop_asked_ = true;
  wake_up_->notify();
}

Health Processor::health() const {
  Health health = consumer_.health();
  if (!last_error_) return health;
  health.add(HealthStatus::kDegraded, "processing: a batch fails for the " + std::to_string(attempts_) + ". time: " + last_error_->message,
             options_.on_exhausted == OnExhausted::kReadAgain ? "nothing behind it gets done: mend the handler, or let such batches go to dead letters" : "look at the handler");
  return health;
}

}  // namespace thalweg::log
