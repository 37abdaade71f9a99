#pragma once
#include <cstdint>
#include <optional>
#include <span>

#include "controlplane/log/retention.hpp"

namespace thalweg::log {

// Entries [from, to) of a shard.
struct EntryRange {
  std::uint64_t from{};
  std::uint64_t to{};
};

[[nodiscard]] inline bool is_pinned(std::span<const EntryRange> pinned, std::uint64_t base_entry, std::uint64_t end_entry) noexcept {
  for (const EntryRange& range : pinned)
    if (range.from < end_entry && base_entry < range.to) return true;
  return false;
}

// What retention needs of a shard, whoever writes it. Any thread.
class Retained {
 public:
  // What plan_retention() asks for. `lowest_committed`: see there. Closed segments with an entry in one of the `pinned` ranges are marked.
  // Errors: kIo, kClosed.
  [[nodiscard]] virtual Result<RetentionShard> retention_state(std::optional<std::uint64_t> lowest_committed, std::span<const EntryRange> pinned) = 0;
  // Deletes the first `count` closed segments of what retention_state() said last, as far as they are there; the active one stays, whatever is asked
  // for. Readers inside them keep what they have mapped, others are told of the gap. Returns the bytes that were given back. Errors: kIo,
  // kPermission when a file could not be removed: it is tried again with the next call. kClosed.
  [[nodiscard]] virtual Result<std::uint64_t> delete_oldest(std::size_t count) = 0;
  // Adds what a run of retention did to the statistics.
  virtual void count_retention(const RetentionRun& run) = 0;

 protected:
  ~Retained() = default;
};

}  // namespace thalweg::log
