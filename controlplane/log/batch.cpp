#include "controlplane/log/batch.hpp"

#include "dataplane/base/time.hpp"

namespace thalweg::log {

StoredBatch compress_batch(std::span<const Entry> entries, const CompressionOptions& options, Statistics& statistics) {
  thread_local std::vector<StoredPayload> payloads;
  thread_local std::vector<std::byte> memory;
  std::size_t bytes = 0;
  const auto is_worth_it = [&](const Entry& entry) { return !entry.payload.empty() && entry.payload.size() >= options.min_bytes; };
  for (const Entry& entry : entries)
    if (is_worth_it(entry)) bytes += entry.payload.size();
  if (bytes == 0) return StoredBatch{entries};
  if (memory.size() < bytes) memory.resize(bytes);
  payloads.clear();
  std::span<std::byte> free{memory};
  const std::int64_t begin_ns = monotonic_ns();
  for (const Entry& entry : entries) {
    payloads.push_back({entry.payload, Codec::kNone});
    if (!is_worth_it(entry)) continue;
    const std::size_t length = compress(options.codec, options.level, entry.payload, free);
    if (length == 0) {
      statistics.add(Statistic::kCompressionSkipped);
      continue;
    }
    payloads.back() = {free.first(length), options.codec};
    free = free.subspan(length);
    statistics.add(Statistic::kCompressedEntries);
    statistics.add(Statistic::kCompressedFromBytes, entry.payload.size());
    statistics.add(Statistic::kCompressedToBytes, length);
  }
  statistics.add(Statistic::kCompressionNs, static_cast<std::uint64_t>(monotonic_ns() - begin_ns));
  return StoredBatch{entries, payloads};
}

}  // namespace thalweg::log
