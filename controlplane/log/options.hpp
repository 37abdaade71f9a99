#pragma once
#include <cstdint>

#include "controlplane/log/compression.hpp"
#include "controlplane/log/record.hpp"
#include "dataplane/base/result.hpp"
#include "dataplane/base/time.hpp"

namespace thalweg::log {

// When appended entries are made durable, and so visible to readers that want durable entries only. Spec: archive-log 4.
enum class SyncPolicy : std::uint8_t {
  kNone,          // never: whenever the machine writes them back; a closed segment when there are 16 newer ones
  kPeriodic,      // at most once per sync_interval_ns, driven by maintain() as well; on rotation and close
  kEverySegment,  // on rotation and close
  kEveryEntries,  // when sync_every_entries were appended since; on rotation and close
  kEveryBytes,    // when sync_every_bytes were appended since; on rotation and close
  kEveryBatch,    // before append() returns
  kExplicit,      // by sync() only
};

// One shard. Out-of-range values are errors, see validate(). Spec: archive-log 15.
struct ShardOptions {
  std::uint32_t shard{0};                         // its number, stored in every file
  std::uint64_t segment_bytes{256U << 20};        // data of a new segment: a power of two, 64 KiB to 1 GiB
  std::uint32_t payload_max_bytes{64U << 20};     // of an entry with its key; no more than an empty segment takes, in any case
  std::uint32_t segments_max{0};                  // 0 = no limit; more are refused and the log stays readable
  std::int64_t segment_age_max_ns{0};             // a segment older than this is closed by maintain(); 0 = never
  SyncPolicy sync{SyncPolicy::kPeriodic};
  std::int64_t sync_interval_ns{1 * kSecond_ns};
  std::uint64_t sync_every_entries{1000};
  std::uint64_t sync_every_bytes{1U << 20};
  std::uint32_t index_interval{100};              // records from one index node to the next
  CompressionOptions compression;
  std::uint64_t low_space_bytes{0};               // health() warns when the file system has less; 0 = one segment
  std::uint64_t prepare_bytes{8U << 20};          // pages ahead of the tail that maintain() has ready, so that append() takes no page fault
};

// Options for a purpose. Spec: archive-log 15.
[[nodiscard]] ShardOptions high_compression_options(); // zstd from 256 bytes on
[[nodiscard]] ShardOptions high_throughput_options();  // fewer index nodes, rarer syncs, more pages ahead
[[nodiscard]] ShardOptions shared_options();           // many processes: durable and visible within 100 ms
// Segments so that `shards` shards with one active segment each take `memory_bytes`: a power of two, 8 MiB to 1 GiB. 0 shards count as 16.
[[nodiscard]] ShardOptions sized_options(std::uint32_t shards, std::uint64_t memory_bytes);

// Errors: kInvalidArgument naming the value and its range.
[[nodiscard]] Result<void> validate(const ShardOptions& options);

}  // namespace thalweg::log
