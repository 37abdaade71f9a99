#include "controlplane/log/retainer.hpp"

#include <algorithm>

namespace thalweg::log {
namespace {
constexpr std::int64_t kFirstRunMax_ns = 10 * kSecond_ns;  // a program that is restarted often must not keep its log from being cleaned
}

Result<void> validate(const RetainerOptions& options) {
  if (options.interval_ns < 0) return fail(ErrorCode::kInvalidArgument, "retention: an interval below 0");
  return validate(options.rules);
}

Retainer::Retainer(FileSystem& files, const Clock& clock, std::string directory, const RetainerOptions& options)
    : files_{files}, clock_{clock}, directory_{std::move(directory)}, options_{options}, next_ns_{clock.monotonic_ns() + std::min(options.interval_ns, kFirstRunMax_ns)} {}

Result<std::unique_ptr<Retainer>> Retainer::make(FileSystem& files, const Clock& clock, std::string directory, const RetainerOptions& options) {
  if (auto valid = validate(options); !valid) return tl::unexpected{std::move(valid.error())};
  return std::unique_ptr<Retainer>{new Retainer{files, clock, std::move(directory), options}};
}

void Retainer::add(Retained& shard, Consumers consumers) {
  const std::lock_guard guard{mutex_};
  sources_.push_back({&shard, std::move(consumers), {}});
}

void Retainer::remove(const Retained& shard) {
  const std::lock_guard guard{mutex_};
  std::erase_if(sources_, [&](const Source& source) { return source.shard == &shard; });
}

Retainer::Pin Retainer::pin(const Retained& shard, EntryRange range) {
  const std::lock_guard guard{mutex_};
  auto pin = std::make_shared<const EntryRange>(range);
  for (Source& source : sources_)
    if (source.shard == &shard) source.pinned.push_back(pin);
  return pin;
}

std::optional<Retainer::Run> Retainer::maintain() {
  const std::lock_guard guard{mutex_};
  if (options_.interval_ns == 0 || clock_.monotonic_ns() < next_ns_) return std::nullopt;
  return run_locked();
}

std::optional<Retainer::Run> Retainer::force() {
  const std::lock_guard guard{mutex_};
  if (options_.interval_ns == 0) return std::nullopt;
  return run_locked();
}

Retainer::Run Retainer::run_locked() {
  const std::int64_t begin_ns = clock_.monotonic_ns();
  next_ns_ = begin_ns + options_.interval_ns;
  Run run;
  const auto failed = [&](Error error) {
    ++run.errors;
    if (!run.first_error) run.first_error = std::move(error);
  };
  std::vector<RetentionShard> shards;
  for (Source& source : sources_) {
    std::vector<EntryRange> pinned;
    std::erase_if(source.pinned, [](const auto& pin) { return pin.expired(); });
    for (const auto& weak : source.pinned)
      if (const Pin pin = weak.lock()) pinned.push_back(*pin);
    auto state = source.shard->retention_state(source.consumers ? source.consumers() : std::nullopt, pinned);
    if (!state) failed(std::move(state.error()));
    shards.push_back(state ? std::move(*state) : RetentionShard{});  // nothing of it may go then
  }
  FileSystem::Space space{1, 1};  // unknown: the rule of free space is left out, the others count
  if (const auto asked = files_.space(directory_)) space = *asked;
  else failed(asked.error());
  const auto plans = plan_retention(shards, options_.rules, space, clock_.epoch_ns());
  for (std::size_t i = 0; i < plans.size(); ++i) {
    RetentionRun of_shard{.segments = plans[i].delete_count, .bytes = plans[i].bytes, .forced = plans[i].forced_count, .is_held = plans[i].hold != RetentionHold::kNone};
    // Also when there is nothing to delete: what could not be removed last time is tried again.
    if (auto deleted = sources_[i].shard->delete_oldest(plans[i].delete_count); !deleted) {
      of_shard.is_failed = true;
      failed(std::move(deleted.error()));
    }
    of_shard.duration_ns = clock_.monotonic_ns() - begin_ns;
    sources_[i].shard->count_retention(of_shard);
    run.segments += of_shard.segments;
    run.bytes += of_shard.bytes;
    run.forced += of_shard.forced;
    run.held += of_shard.is_held ? 1 : 0;
  }
  return run;
}

}  // namespace thalweg::log
