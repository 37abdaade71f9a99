#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "controlplane/log/clock.hpp"
#include "controlplane/log/retained.hpp"

namespace thalweg::log {

struct RetainerOptions {
  RetentionRules rules;
  std::int64_t interval_ns{60 * kSecond_ns};  // from run to run; 0 = off
};
// Errors: kInvalidArgument; those of validate(RetentionRules).
[[nodiscard]] Result<void> validate(const RetainerOptions& options);

// Carries retention out over all shards of a file system, whether one writes them or several: gathers what they have, asks plan_retention(), deletes. Any thread. Spec: archive-log 7.
class Retainer {
 public:
  // The lowest entry that a consumer of the shard has yet to get; nullopt: there is no consumer. Called during run().
  using Consumers = std::function<std::optional<std::uint64_t>()>;
  // Entries that stay as long as somebody holds this: a replay, a copy, a snapshot that refers to them.
  using Pin = std::shared_ptr<const EntryRange>;

  // What one run did.
  struct Run {
    std::uint64_t segments{};
    std::uint64_t bytes{};
    std::uint64_t forced{};
    std::uint64_t held{};             // shards whose oldest segment stayed although a rule asked for its space
    std::uint64_t errors{};           // files that could not be removed, and are tried again with the next run
    std::optional<Error> first_error;
  };

  // Errors: those of validate(). `files` and `clock` outlive it. `directory`: of the file system whose free space counts.
  [[nodiscard]] static Result<std::unique_ptr<Retainer>> make(FileSystem& files, const Clock& clock, std::string directory, const RetainerOptions& options);

  // `shard` outlives its entry here.
  void add(Retained& shard, Consumers consumers = {});
  void remove(const Retained& shard);
  // Precondition: the shard was added.
  [[nodiscard]] Pin pin(const Retained& shard, EntryRange range);

  // Runs when it is due: first min(interval, 10 s) after it was made, then each interval. Call it as Shard::maintain(). nullopt: was not due.
  [[nodiscard]] std::optional<Run> maintain();
  // Runs now; nullopt when the interval is 0.
  [[nodiscard]] std::optional<Run> force();

 private:
  struct Source {
    Retained* shard{};
    Consumers consumers;
    std::vector<std::weak_ptr<const EntryRange>> pinned;
  };
  Retainer(FileSystem& files, const Clock& clock, std::string directory, const RetainerOptions& options);
  [[nodiscard]] Run run_locked();

  FileSystem& files_;
  const Clock& clock_;
  const std::string directory_;
  const RetainerOptions options_;
  std::mutex mutex_;
  std::vector<Source> sources_;
  std::int64_t next_ns_{};  // monotonic
};

}  // namespace thalweg::log
