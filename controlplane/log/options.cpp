#include "controlplane/log/options.hpp"

#include <algorithm>
#include <bit>
#include <string>

#include "controlplane/log/segment_format.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::log {

ShardOptions high_compression_options() {
  constexpr int kLevel = 9;  // a third of the speed of the default level, for some percent more
  ShardOptions options;
  options.compression = {.codec = Codec::kZstd, .level = kLevel, .min_bytes = 256};
  return options;
}

ShardOptions high_throughput_options() {
  ShardOptions options;
  options.index_interval = 1000;
  options.sync_interval_ns = 5 * kSecond_ns;
  options.prepare_bytes = 64U << 20;
  return options;
}

ShardOptions shared_options() {
  ShardOptions options;
  options.sync_interval_ns = 100 * kMillisecond_ns;
  return options;
}

ShardOptions sized_options(std::uint32_t shards, std::uint64_t memory_bytes) {
  constexpr std::uint64_t kSmallest = 8U << 20;
  constexpr std::uint32_t kShardsDefault = 16;
  ShardOptions options;
  options.segment_bytes = std::bit_floor(std::clamp<std::uint64_t>(memory_bytes / (shards == 0 ? kShardsDefault : shards), kSmallest, kSegmentBytesMax));
  return options;
}

Result<void> validate(const ShardOptions& options) {
  const auto bad = [](const std::string& what) { return fail(ErrorCode::kInvalidArgument, what); };
  const auto size = [](std::uint64_t bytes) { return format_size(static_cast<std::int64_t>(bytes)); };
  if (!std::has_single_bit(options.segment_bytes) || options.segment_bytes < kSegmentBytesMin || options.segment_bytes > kSegmentBytesMax)
    return bad("segment size " + size(options.segment_bytes) + ": a power of two from " + size(kSegmentBytesMin) + " to " + size(kSegmentBytesMax) + " is needed");
  if (options.payload_max_bytes == 0 || options.payload_max_bytes > kPayloadMaxHard)
    return bad("largest payload " + size(options.payload_max_bytes) + ": 1 byte to " + size(kPayloadMaxHard) + " are possible");
  if (options.index_interval == 0) return bad("records per index node must be above 0");
  if (options.segment_age_max_ns < 0) return bad("segment age below 0");
  if (options.sync == SyncPolicy::kPeriodic && options.sync_interval_ns <= 0) return bad("sync interval must be above 0");
  if (options.sync == SyncPolicy::kEveryEntries && options.sync_every_entries == 0) return bad("entries per sync must be above 0");
  if (options.sync == SyncPolicy::kEveryBytes && options.sync_every_bytes == 0) return bad("bytes per sync must be above 0");
  return validate(options.compression);
}

}  // namespace thalweg::log
