#include "controlplane/log/options.hpp"

#include <bit>
#include <string>

#include "controlplane/log/segment_format.hpp"
#include "dataplane/base/units.hpp"

namespace thalweg::log {

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
  return {};
}

}  // namespace thalweg::log
